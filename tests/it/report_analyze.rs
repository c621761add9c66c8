//! The reports of an analyzed trace, from values to text and in a real browser.

#![expect(clippy::unwrap_used, reason = "test support: a panic is how a test says no")]

use std::path::{Path, PathBuf};

use perfprof::analysis::coverage::Verdict;
use perfprof::report::analyze::{
    TraceReport, analyze_console, analyze_html, analyze_md, analyze_operators_csv, analyze_operators_md, gaps_csv,
    kernels_csv, steps_csv,
};
use serde_json::{Value, json};

use crate::analyze_sample::{TraceSample, host_bound, poisoned};
use crate::chromium::{Browser, HOSTILE, assert_quiet, chromium};

fn hostile() -> TraceSample {
    poisoned(&|text| format!("{text}{HOSTILE}"))
}

/// The cells of a CSV file by column.
fn column(text: &str, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let at = reader.headers().unwrap().iter().position(|header| header == name).unwrap();
    reader.records().map(|record| record.unwrap()[at].to_owned()).collect()
}

#[test]
fn the_reports_of_a_gpu_that_waits_for_its_host() {
    let sample = host_bound();
    insta::assert_snapshot!("host_bound_report", analyze_md(&sample.report()));
    insta::assert_snapshot!("host_bound_operators", analyze_operators_md(&sample.report()));
    insta::assert_snapshot!("host_bound_console", analyze_console(&sample.report(), false, 100));
    insta::assert_snapshot!("host_bound_gaps", gaps_csv(&sample.report()).unwrap());
}

/// The text between the tags of the first sentence.
fn sentence(html: &str) -> String {
    html.split("<p class=\"sentence\"><bdi>").nth(1).unwrap().split("</bdi>").next().unwrap().to_owned()
}

#[test]
fn the_first_sentence_says_what_limits_the_work() {
    let sample = host_bound();
    let idle = &sample.idle[0];
    let share = |ns: u64| format!("{:.1} %", ns as f64 / idle.window_ns as f64 * 100.0);
    let text = sentence(&analyze_html(&sample.report()).unwrap());
    assert!(text.contains(&format!("idle {} of the time", share(idle.idle_ns))), "{text}");
    assert!(text.contains("the host was busy elsewhere"), "{text}");
    assert!(text.contains(&share(idle.idle_by_cause[0].spread.total_ns)), "{text}");

    // A GPU that has no time to wait is limited by its own work.
    let mut busy = host_bound();
    busy.idle[0].busy_ns = busy.idle[0].window_ns;
    busy.idle[0].idle_ns = 0;
    busy.idle[0].idle_by_cause.clear();
    let text = sentence(&analyze_html(&busy.report()).unwrap());
    assert!(text.contains("busy 100 % of the time, so its own work limits it: gemv takes 53.3 %"), "{text}");
}

#[test]
fn what_the_trace_cannot_carry_is_refused_in_every_format() {
    let mut sample = host_bound();
    sample.coverage.verdict = Verdict::Partial;
    sample.coverage.trust.idle_shares = false;
    sample.coverage.trust.reasons = vec!["31 % of the GPU time is hidden inside CUDA graphs".to_owned()];
    let html = analyze_html(&sample.report()).unwrap();
    let markdown = analyze_md(&sample.report());
    let console = analyze_console(&sample.report(), false, 200);
    assert!(sentence(&html).contains("Cannot tell how busy the GPU was: 31 % of the GPU time is hidden"));
    for text in [&html, &markdown, &console] {
        assert!(text.contains("hidden inside CUDA graphs") && text.contains("not stated"), "{text}");
        assert!(!text.contains("62.3 % of the time") && !text.contains("58.9 % of the window:"), "{text}");
    }
    // The warning stands before the first share.
    let warning = html.find("Before you read any share").unwrap();
    assert!(warning < html.find("GPU busy").unwrap() && warning < html.find("id=\"findings\"").unwrap());
    assert!(!html.contains("data-chart=\"idle-causes\""));

    sample.coverage.verdict = Verdict::NoGpuWork;
    sample.coverage.reasons = vec!["no kernel was recorded".to_owned()];
    assert!(sentence(&analyze_html(&sample.report()).unwrap()).contains("the trace holds no GPU work"));
}

#[test]
fn a_report_of_nothing_still_renders() {
    let report = TraceReport::default();
    let html = analyze_html(&report).unwrap();
    assert!(sentence(&html).starts_with("Cannot tell"), "{html}");
    assert!(html.contains("data-empty-chart=\"flame\""));
    assert!(!html.contains("NaN"));
    assert!(analyze_md(&report).contains("Cannot tell"));
    assert!(analyze_operators_md(&report).contains("no kernels"));
    assert!(!analyze_console(&report, false, 80).is_empty());
    for text in [
        analyze_operators_csv(&report).unwrap(),
        kernels_csv(&report).unwrap(),
        gaps_csv(&report).unwrap(),
        steps_csv(&report).unwrap(),
    ] {
        assert_eq!(text.lines().count(), 1, "a header and nothing else");
    }
}

#[test]
fn values_that_are_not_numbers_never_reach_the_reader() {
    let mut sample = host_bound();
    for row in &mut sample.kernels.rows {
        (row.mean_ns, row.p50_ns, row.p95_ns) = (f64::NAN, f64::INFINITY, f64::NEG_INFINITY);
        row.share = Some(f64::NAN);
    }
    sample.kernels.classes[0].share = Some(f64::NAN);
    sample.launch.devices[0].speedup_bound = Some(f64::INFINITY);
    sample.launch.devices[0].launches_per_s = Some(f64::NAN);
    sample.steps.phases[0].step_ns.as_mut().unwrap().p50 = f64::NAN;
    sample.critical_path.what_if[0].speedup = Some(f64::NAN);
    let html = analyze_html(&sample.report()).unwrap();
    let texts = [
        html.split("<script>").next().unwrap().to_owned(),
        analyze_md(&sample.report()),
        analyze_console(&sample.report(), false, 120),
        kernels_csv(&sample.report()).unwrap(),
    ];
    for text in texts {
        for word in ["NaN", ">inf<", ",inf", " inf ", "inf×"] {
            let around = text.find(word).map(|at| &text[text.floor_char_boundary(at.saturating_sub(200))..at]);
            assert_eq!(around, None, "`{word}` reaches the reader");
        }
    }
}

#[test]
fn csv_survives_a_reader_and_a_spreadsheet() {
    let names = ["=HYPERLINK(\"http://x\")", "@SUM(1)", "+cmd", "-1+1", "a,b\"c\nd"];
    let mut sample = host_bound();
    for (row, name) in sample.kernels.rows.iter_mut().zip(names) {
        row.name = name.to_owned();
    }
    sample.idle[0].longest[0].previous = Some("=1+1".to_owned());
    sample.idle[0].longest[0].interval.start_ns = -5;
    let text = kernels_csv(&sample.report()).unwrap();
    let expected: Vec<String> =
        names.iter().map(|name| if name.starts_with('a') { (*name).to_owned() } else { format!("'{name}") }).collect();
    assert_eq!(column(&text, "name"), expected);
    let totals: i64 = column(&text, "total_sum_ns").iter().map(|cell| cell.parse::<i64>().unwrap()).sum();
    assert_eq!(totals, sample.kernels.rows.iter().map(|row| row.total_ns).sum::<i64>());
    assert_eq!(column(&text, "std_ns")[4], "", "unknown is empty, not 0");
    let gaps = gaps_csv(&sample.report()).unwrap();
    assert_eq!((column(&gaps, "previous")[0].as_str(), column(&gaps, "start_ns")[0].as_str()), ("'=1+1", "-5"));
    let steps = column(&steps_csv(&sample.report()).unwrap(), "duration_ns");
    assert_eq!((steps.len(), steps[7].as_str()), (12, "199000"));
}

/// Splits a Markdown table line at its bare pipes.
fn columns(line: &str) -> usize {
    let mut count = 0;
    let mut escaped = false;
    for c in line.chars() {
        count += usize::from(c == '|' && !escaped);
        escaped = c == '\\' && !escaped;
    }
    count
}

#[test]
fn hostile_text_breaks_no_markdown_and_no_terminal() {
    let sample = hostile();
    for text in [analyze_md(&sample.report()), analyze_operators_md(&sample.report())] {
        assert!(!text.contains("<script") && !text.contains("<img") && !text.contains("<svg"), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\0', '\u{2028}', '\u{2029}', '\u{202e}']));
        assert!(text.contains("&lt;script&gt;"), "the text itself is there");
        let mut expected = None;
        for line in text.lines() {
            if !line.starts_with('|') {
                expected = None;
                continue;
            }
            assert_eq!(*expected.get_or_insert(columns(line)), columns(line), "{line}");
        }
    }
    for width in [40, 80, 200] {
        let console = analyze_console(&sample.report(), false, width);
        assert!(!console.contains(['\u{1b}', '\u{7}', '\0', '\u{202e}']), "{console:?}");
        assert!(console.lines().all(|line| line.chars().count() <= width), "{console}");
    }
}

#[test]
fn a_name_of_a_hundred_kilobytes_and_ten_thousand_steps_stay_bounded() {
    let long = "x".repeat(100_000);
    let mut sample = poisoned(&|text| format!("{text}{long}"));
    let step = sample.steps.table[0];
    sample.steps.table = (0..10_000).map(|_| step).collect();
    let html = analyze_html(&sample.report()).unwrap();
    assert!(html.len() < 6_000_000, "{} bytes", html.len());
    assert!(html.contains("of 10000 steps are drawn"));
    let markdown = analyze_md(&sample.report());
    assert!(markdown.len() < 400_000, "{} bytes", markdown.len());
}

#[test]
fn the_html_report_is_one_file_with_a_policy() {
    let html = analyze_html(&host_bound().report()).unwrap();
    for needle in ["src=", "href=\"http", "href=\"//", "url(", "@import", "<link", "<base", "<iframe", " style=\""] {
        assert!(!html.contains(needle), "{needle}");
    }
    let policy = html.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.contains("script-src 'sha256-"));
    assert!(!policy.contains("unsafe"), "{policy}");
}

fn page(folder: &Path, name: &str, sample: &TraceSample) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, analyze_html(&sample.report()).unwrap()).unwrap();
    path
}

/// How many pixels of the timeline differ clearly from its background.
const DRAWN: &str = "(() => {
    const canvas = document.querySelector('[data-timeline] canvas');
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let drawn = 0;
    for (let at = 0; at < pixels.length; at += 4) {
        const away = [0, 1, 2].map((part) => Math.abs(pixels[at + part] - pixels[part]));
        if (Math.max(...away) > 60) drawn += 1;
    }
    return drawn;
})()";
const WINDOW: &str =
    "(() => { const f = document.querySelector('[data-timeline]').dataset; return [Number(f.from), Number(f.to)]; })()";
const FRAME: &str = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))";

fn window(browser: &mut Browser) -> [f64; 2] {
    browser.evaluate(FRAME);
    let value = browser.evaluate(WINDOW);
    [value[0].as_f64().unwrap(), value[1].as_f64().unwrap()]
}

fn key(browser: &mut Browser, key: &str) {
    for kind in ["keyDown", "keyUp"] {
        browser.call(
            "Input.dispatchKeyEvent",
            &json!({"type": kind, "key": key, "text": if key.len() == 1 { key } else { "" }}),
        );
    }
}

fn mouse(browser: &mut Browser, kind: &str, [x, y]: [f64; 2]) {
    let pressed = kind != "mouseMoved";
    browser.call(
        "Input.dispatchMouseEvent",
        &json!({"type": kind, "x": x, "y": y, "button": if pressed { "left" } else { "none" }, "buttons": 1, "clickCount": 1}),
    );
}

#[test]
fn the_report_opens_quietly_and_draws_its_charts_in_every_theme() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = page(folder.path(), "report.html", &host_bound());
    let mut browser = Browser::start(&binary);
    browser.open(&path);
    assert_quiet(&mut browser, &path);
    let charts = browser.evaluate("[...document.querySelectorAll('svg[data-chart]')].map((svg) => svg.dataset.chart)");
    assert_eq!(charts, json!(["classes", "idle-causes", "gap-lengths", "flame", "step-times"]));
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
    let outside = browser.evaluate(
        "[...document.querySelectorAll('svg[data-chart] text')].filter((text) => {
            const frame = text.closest('svg[data-chart]').getBoundingClientRect(), area = text.getBoundingClientRect();
            return area.left < frame.left - 1 || area.right > frame.right + 1;
        }).map((text) => text.textContent)",
    );
    assert_eq!(outside, json!([]));
    assert!(browser.screenshot("analyze-light.png") > 50_000);
    let light = browser.evaluate("document.querySelector('[data-timeline] canvas').toDataURL()");
    browser.media("screen", "dark");
    browser.evaluate(FRAME);
    assert_ne!(
        light,
        browser.evaluate("document.querySelector('[data-timeline] canvas').toDataURL()"),
        "the canvas follows the theme"
    );
    assert!(browser.screenshot("analyze-dark.png") > 50_000);
    browser.media("print", "light");
    assert!(browser.screenshot("analyze-print.png") > 50_000);
}

#[test]
fn the_timeline_draws_zooms_moves_selects_and_searches() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = page(folder.path(), "report.html", &host_bound());
    let mut browser = Browser::start(&binary);
    browser.open(&path);
    assert!(browser.evaluate(DRAWN).as_u64().unwrap() > 5_000, "bars are drawn");
    let whole = window(&mut browser);
    assert_eq!(whole, [0.0, 2_430_000.0]);

    browser
        .evaluate("document.querySelector('[data-timeline]').scrollIntoView({behavior: 'instant', block: 'center'})");
    browser.evaluate("new Promise((done) => setTimeout(done, 400))");
    let place = browser.evaluate(
        "(() => { const box = document.querySelector('[data-timeline] canvas').getBoundingClientRect(); return [box.left, box.top, box.width]; })()",
    );
    let number = |at: usize| place[at].as_f64().unwrap();
    // The stretch begins 168 units from the left edge.
    let x = |ns: f64, [from, to]: [f64; 2]| number(0) + 168.0 + (ns - from) / (to - from) * (number(2) - 168.0);

    // Wheel: what lies under the pointer stays there.
    // Events carry whole pixels.
    let pointer = [x(1_030_000.0, whole).round(), number(1) + 60.0];
    let at = (pointer[0] - number(0) - 168.0) / (number(2) - 168.0) * whole[1];
    for _ in 0..3 {
        browser.call(
            "Input.dispatchMouseEvent",
            &json!({"type": "mouseWheel", "x": pointer[0], "y": pointer[1], "deltaX": 0, "deltaY": -120}),
        );
    }
    let zoomed = window(&mut browser);
    assert!(zoomed[1] - zoomed[0] < 0.6 * whole[1], "{zoomed:?}");
    assert!((x(at, zoomed) - pointer[0]).abs() < 1.5, "the instant under the pointer moved: {zoomed:?}");

    // Drag: the window moves against the pointer.
    mouse(&mut browser, "mousePressed", pointer);
    mouse(&mut browser, "mouseMoved", [pointer[0] - 100.0, pointer[1]]);
    mouse(&mut browser, "mouseReleased", [pointer[0] - 100.0, pointer[1]]);
    let moved = window(&mut browser);
    let expected = zoomed[0] + 100.0 / (number(2) - 168.0) * (zoomed[1] - zoomed[0]);
    assert!((moved[0] - expected).abs() < 3_000.0, "{moved:?}, expected {expected}");

    // Keys.
    browser.evaluate("document.querySelector('[data-timeline] canvas').focus({preventScroll: true})");
    key(&mut browser, "+");
    let closer = window(&mut browser);
    assert!(closer[1] - closer[0] < moved[1] - moved[0]);
    key(&mut browser, "ArrowRight");
    assert!(window(&mut browser)[0] > closer[0]);
    key(&mut browser, "0");
    assert_eq!(window(&mut browser), whole);

    // A bar of the stream lane: its tooltip has name, duration, class and the call that launched it; a click selects it.
    let lanes = browser.evaluate("JSON.parse(document.getElementById('report-data').textContent).view.lanes.map((lane) => [lane.l, lane.z.length])");
    let labels: Vec<&str> = lanes.as_array().unwrap().iter().map(|lane| lane[0].as_str().unwrap()).collect();
    assert_eq!(labels, ["phases", "GPU 0 idle", "GPU 0 stream 7", "thread 4242"]);
    // Lanes of 22 units with 8 between them, below 34.
    let bar = [x(30_000.0 + 20_000.0, whole), number(1) + 34.0 + 2.0 * 30.0 + 11.0];
    mouse(&mut browser, "mouseMoved", bar);
    let tip = browser.evaluate(
        "document.querySelector('.tip.lines').hidden ? '' : document.querySelector('.tip.lines').textContent",
    );
    let tip = tip.as_str().unwrap();
    assert!(
        tip.contains("void gemvNSP_kernel<float, 128>(float const*)") && tip.contains("40 µs · gemv · GPU 0 stream 7"),
        "{tip}"
    );
    assert!(tip.contains("launched by cudaLaunchKernel_v7000, 12 µs before it began"), "{tip}");
    mouse(&mut browser, "mousePressed", bar);
    mouse(&mut browser, "mouseReleased", bar);
    let chosen = browser.evaluate("document.querySelector('[data-selected]').textContent");
    assert!(chosen.as_str().unwrap().starts_with("Selected: void gemvNSP_kernel"), "{chosen}");

    // Search: 12 kernels of 20 µs; Enter goes to the first.
    let seek = |text: &str| {
        format!(
            "(() => {{ const box = document.querySelector('[data-timeline] input'); box.value = '{text}'; box.dispatchEvent(new Event('input')); }})()"
        )
    };
    browser.evaluate(&seek("FLASH_fwd"));
    let found = browser.evaluate("document.querySelector('[data-timeline] output').textContent");
    assert!(
        found.as_str().unwrap().starts_with("12 of ") && found.as_str().unwrap().contains("240 µs summed"),
        "{found}"
    );
    browser.evaluate("document.querySelector('[data-timeline] input').focus({preventScroll: true})");
    key(&mut browser, "Enter");
    let chosen = browser.evaluate("document.querySelector('[data-selected]').textContent");
    assert!(chosen.as_str().unwrap().starts_with("Selected: flash_fwd_splitkv_kernel<128, 64>"), "{chosen}");
    assert_quiet(&mut browser, &path);
}

#[test]
fn a_click_on_a_frame_gives_it_the_whole_width() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = page(folder.path(), "report.html", &host_bound());
    let mut browser = Browser::start(&binary);
    browser.open(&path);
    let width = |browser: &mut Browser, name: &str| {
        let script = format!(
            "Number([...document.querySelectorAll('.frame')].find((frame) => frame.dataset.name.startsWith('{name}')).querySelector('rect').getAttribute('width'))"
        );
        browser.evaluate(&script).as_f64().unwrap()
    };
    let before = width(&mut browser, "flash_fwd");
    assert!((before - 1112.0 * 20.0 / 75.0).abs() < 0.1, "{before}");
    let click = "[...document.querySelectorAll('.frame')].find((frame) => frame.dataset.name.startsWith('flash_fwd')).dispatchEvent(new MouseEvent('click', {bubbles: true}))";
    browser.evaluate(click);
    assert_eq!(width(&mut browser, "flash_fwd"), 1112.0);
    assert_eq!(width(&mut browser, "GPU time"), 1112.0, "callers stay");
    let shown =
        "[...document.querySelectorAll('.frame')].filter((frame) => getComputedStyle(frame).display !== 'none').length";
    assert_eq!(browser.evaluate(shown), 4);
    browser.evaluate("document.querySelector('[data-flame] [data-reset]').click()");
    assert!((width(&mut browser, "flash_fwd") - before).abs() < 0.1);
    assert_eq!(browser.evaluate(shown), 7);
    assert_quiet(&mut browser, &path);
}

#[test]
fn hostile_text_in_every_field_of_a_trace_stays_text() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let clean = page(folder.path(), "clean.html", &host_bound());
    let path = page(folder.path(), "hostile.html", &hostile());
    let mut browser = Browser::start(&binary);
    browser.open(&clean);
    // What the page itself is made of; table cells grow a <details> where a name is cut.
    let made_of = "[...new Set([...document.querySelectorAll('*')].map((element) => element.localName))].filter((name) => !['details', 'summary'].includes(name)).sort()";
    let expected = browser.evaluate(made_of);
    browser.open(&path);
    assert_quiet(&mut browser, &path);
    assert_eq!(browser.evaluate(made_of), expected, "no element of another kind than in the clean report");
    assert_eq!(browser.evaluate("typeof window.__pwned"), "undefined");
    assert_eq!(browser.evaluate("document.scripts.length"), 2);
    assert_eq!(browser.evaluate("document.querySelectorAll('img, iframe, object, embed, link, base, form').length"), 0);
    let handlers = "[...document.querySelectorAll('*')].flatMap((element) => [...element.attributes])
        .filter((attribute) => attribute.name.startsWith('on')).length";
    assert_eq!(browser.evaluate(handlers), 0);
    assert_eq!(browser.evaluate("document.body.innerText.includes('<script>window.__pwned=1</script>')"), true);
    assert_eq!(browser.evaluate("document.body.innerText.includes('{{ 7*7 }}')"), true);
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
    assert!(browser.evaluate(DRAWN).as_u64().unwrap() > 5_000, "the timeline is drawn all the same");
    assert!(browser.screenshot("analyze-hostile.png") > 50_000);
}

#[test]
fn without_script_the_longest_bars_stand_in_a_table() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = page(folder.path(), "report.html", &host_bound());
    let mut browser = Browser::start(&binary);
    browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.open(&path);
    let hidden: Value = browser.evaluate("document.querySelector('.lanes').offsetHeight === 0 && [...document.querySelectorAll('.tools')].every((tools) => tools.offsetHeight === 0)");
    assert_eq!(hidden, true);
    assert_eq!(browser.evaluate("document.querySelectorAll('#timeline-view table tbody tr').length"), 20);
    assert_eq!(browser.evaluate("document.querySelectorAll('svg[data-chart]').length"), 5);
}
