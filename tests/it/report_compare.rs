//! The reports of a comparison, from values to text and in a real browser.

#![expect(clippy::unwrap_used, reason = "test support: a panic is how a test says no")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use perfprof::compare::result::{CompareMetrics, DifferenceKind, RuleOutcome, Verdict};
use perfprof::diagnostics::Validity;
use perfprof::report::compare::{
    attribution_csv, ci_summary_md, compare_console, compare_html, compare_md, compare_stakeholder_summary_md,
    comparisons_csv, files, junit_xml,
};
use proptest::prelude::*;
use regex::Regex;
use serde_json::json;

use crate::chromium::{Browser, HOSTILE, assert_quiet, chromium};
use crate::compare_sample::{CompareSample, Odd, empty, formats, poisoned, study, unequal};

/// The cells of a CSV file by column.
fn column(text: &str, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let at = reader.headers().unwrap().iter().position(|header| header == name).unwrap();
    reader.records().map(|record| record.unwrap()[at].to_owned()).collect()
}

/// Every format of the report, by name; HTML without its style, data and script.
fn everything(sample: &CompareSample) -> Vec<(&'static str, String)> {
    let report = sample.report();
    let mut all = files(&report).unwrap();
    all.push(("console", compare_console(&report, false, 120)));
    for (name, text) in &mut all {
        if *name == "compare.html" {
            *text = without_blocks(text);
        }
    }
    all
}

/// Whether the file is of that kind.
fn is(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

fn without_blocks(html: &str) -> String {
    static BLOCKS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("(?s)<(style|script)[^>]*>.*?</(style|script)>").unwrap());
    BLOCKS.replace_all(html, "").into_owned()
}

/// Checks that every tag is closed in order and every attribute quoted; says what is wrong.
fn well_formed(markup: &str, void: &[&str]) -> Result<(), String> {
    static ATTRIBUTES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("^(?:\\s+[A-Za-z_:][-A-Za-z0-9_:.]*(?:=\"[^\"<]*\")?)*\\s*/?$").unwrap());
    const ENTITIES: [&str; 5] = ["amp;", "lt;", "gt;", "quot;", "#39;"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = markup;
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        if text.split('&').skip(1).any(|rest| !ENTITIES.iter().any(|entity| rest.starts_with(entity))) {
            return Err(format!("a bare ampersand in {text:?}"));
        }
        if text.contains('>') {
            return Err(format!("a bare > in {text:?}"));
        }
        let end = rest[at..].find('>').ok_or("a tag is not closed")? + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if tag.starts_with(['!', '?']) {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes nothing; open are {open:?}"));
            }
            continue;
        }
        let length = tag.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(tag.len());
        let (name, attributes) = tag.split_at(length);
        if name.is_empty() || !ATTRIBUTES.is_match(attributes) {
            return Err(format!("<{tag}> is no tag"));
        }
        if !attributes.ends_with('/') && !void.contains(&name) {
            open.push(name);
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("left open: {open:?}")) }
}

/// Elements of HTML that have no end tag.
const VOID: [&str; 5] = ["meta", "input", "br", "hr", "link"];

/// Bare pipes of a line of Markdown.
fn pipes(line: &str) -> usize {
    let mut count = 0;
    let mut escaped = false;
    for c in line.chars() {
        count += usize::from(c == '|' && !escaped);
        escaped = c == '\\' && !escaped;
    }
    count
}

fn assert_tables_hold(text: &str) {
    let mut expected = None;
    for line in text.lines() {
        if !line.starts_with('|') {
            expected = None;
            continue;
        }
        assert_eq!(*expected.get_or_insert(pipes(line)), pipes(line), "{line}");
    }
}

#[test]
fn the_reports_of_a_study_with_every_verdict() {
    let sample = study();
    let report = sample.report();
    insta::assert_snapshot!("compare_report", compare_md(&report));
    insta::assert_snapshot!("compare_summary", compare_stakeholder_summary_md(&report));
    insta::assert_snapshot!("compare_console", compare_console(&report, false, 110));
    insta::assert_snapshot!("compare_ci", ci_summary_md(&report));
    insta::assert_snapshot!("compare_junit", junit_xml(&report));
    insta::assert_snapshot!("compare_csv", comparisons_csv(&report).unwrap());
}

#[test]
fn where_the_work_was_not_the_same_no_format_names_a_winner() {
    let sample = unequal();
    assert!(sample.metrics.sentences[0].contains("faster"), "the file itself does");
    for (name, text) in everything(&sample) {
        if name == "assumptions.md" {
            continue;
        }
        // The definitions explain what the words mean.
        let text = text.split("Definitions and method").next().unwrap().to_owned();
        for word in ["faster", "slower", "✓", "✗", "better:", "worse:"] {
            let found = text.lines().find(|line| {
                line.contains(word) && !line.contains("✓ better · ✗ worse") && !line.contains("slower or faster calls")
            });
            assert_eq!(found.map(|line| line.chars().take(300).collect::<String>()), None, "`{word}` in {name}");
        }
        if !is(name, "csv") && name != "junit.xml" {
            assert!(text.to_lowercase().contains("not the same work") || text.contains("no winner is named"), "{name}");
        }
    }
    let html = compare_html(&sample.report()).unwrap();
    let banner = html.find("id=\"unequal\"").unwrap();
    assert!(banner < html.find("data-chart=\"effects\"").unwrap(), "it stands before the first number");
    assert!(
        column(&comparisons_csv(&sample.report()).unwrap(), "verdict")[..6].iter().all(|word| word == "not_comparable")
    );
    assert!(!junit_xml(&sample.report()).contains("<failure"));
}

#[test]
fn a_case_that_was_not_the_same_leaves_the_others_judged() {
    let mut sample = unequal();
    sample.metrics.differences.last_mut().unwrap().fact = "case:long-1024.prompt_tokens".to_owned();
    let verdicts = column(&comparisons_csv(&sample.report()).unwrap(), "verdict");
    assert_eq!(verdicts[..6], ["faster", "same", "faster", "not_comparable", "higher", "higher"]);
    let console = compare_console(&sample.report(), false, 200);
    assert!(
        console.contains("fused against stock: 6 measures compared, 2 better, 1 worse, 1 the same, 1 different where neither way is better, 1 not judged, as the work was not the same."),
        "{console}"
    );
}

#[test]
fn an_invalid_comparison_concludes_nothing_on_top() {
    let mut sample = study();
    sample.metrics.validity = Validity::from_reasons(vec!["the clock ran backwards".to_owned()]);
    let html = compare_html(&sample.report()).unwrap();
    let top = html.split("<nav").next().unwrap().split("</header>").nth(1).unwrap();
    assert!(top.contains("INVALID") && top.contains("the clock ran backwards."), "{top}");
    assert!(!top.contains("faster") && !top.contains("class=\"card\""), "{top}");
    let summary = compare_stakeholder_summary_md(&sample.report());
    assert!(summary.contains("nothing is concluded") && !summary.contains("better"), "{summary}");
}

#[test]
fn one_measure_gets_the_words_of_its_verdict() {
    let said = |verdict: Verdict, measure: &str| {
        let mut sample = study();
        sample.metrics.sentences.clear();
        sample.metrics.gate = None;
        let mut row = sample.metrics.comparisons[0].clone();
        measure.clone_into(&mut row.measure);
        row.direction = perfprof::compare::measure::kind(measure).direction;
        row.verdict = verdict;
        sample.metrics.comparisons = vec![row];
        compare_console(&sample.report(), false, 200)
    };
    assert!(said(Verdict::Faster, "tpot_ms").contains("✓ faster  tpot_ms (median)"));
    assert!(said(Verdict::Slower, "tpot_ms").contains("✗ slower"));
    assert!(said(Verdict::Lower, "peak_rss_bytes").contains("✓ lower"));
    assert!(said(Verdict::Lower, "mfu_decode").contains("✗ lower"));
    assert!(said(Verdict::Lower, "tokens").contains("≠ lower"));
    assert!(said(Verdict::Same, "tpot_ms").contains("= the same"));
    let open = said(Verdict::CannotTell, "tpot_ms");
    assert!(open.contains("? cannot tell") && open.contains("1 measure compared, 1 not decided"), "{open}");
}

#[test]
fn what_is_undecided_says_how_many_values_would_decide() {
    let console = compare_console(&study().report(), false, 200);
    assert!(
        console.contains("hint: To decide tpot_ms of long-1024 of fused: about 34 independent units (processes or blocks) of each side; now there are 10 and 10."),
        "{console}"
    );
}

#[test]
fn five_formats_stand_in_one_table_with_speed_memory_and_quality() {
    let sample = formats();
    let text = compare_md(&sample.report());
    let part = text.split("## Speed, memory and quality together").nth(1).unwrap().split("\n## ").next().unwrap();
    let line = part.lines().find(|line| line.starts_with("| q8_0")).unwrap();
    let rows: Vec<&str> = part
        .lines()
        .filter(|line| line.starts_with("| f") || line.starts_with("| bf") || line.starts_with("| q"))
        .collect();
    assert_eq!(rows.len(), 5, "{part}");
    let subject = &sample.metrics.subjects[3];
    let decode = subject.measures[1].summary.p50.unwrap();
    for figure in
        [format!("{decode:.2}"), "138 MiB".to_owned(), "18.27".to_owned(), "0.001300".to_owned(), "99.7 %".to_owned()]
    {
        assert!(line.contains(&figure), "{figure}: {line}");
    }
    // The reference has no distance to itself, and nearly all is not all.
    assert_eq!(rows[0].matches(" – |").count(), rows[3].matches(" – |").count() + 3, "{}", rows[0]);
    assert!(rows[1].contains("99.9980 %"), "{}", rows[1]);
}

#[test]
fn several_candidates_stand_side_by_side() {
    let sample = formats();
    let text = compare_md(&sample.report());
    let part = text.split("### All candidates side by side").nth(1).unwrap().split("\n#").next().unwrap();
    let head = part.lines().find(|line| line.starts_with('|')).unwrap();
    for label in ["f32", "f16", "bf16", "q8_0", "q4_k"] {
        assert!(head.contains(label), "{head}");
    }
    assert!(part.contains("4.") && part.contains("✓ faster") && part.contains("✓ lower"), "{part}");
    assert!(!compare_md(&study().report()).contains("All candidates side by side"));
}

#[test]
fn a_comparison_of_nothing_still_renders() {
    for (name, text) in everything(&empty()) {
        assert!(!text.is_empty(), "{name}");
        if is(name, "md") && name != "assumptions.md" || name == "console" || name == "compare.html" {
            assert!(text.contains("Cannot tell: no measure was compared."), "{name}: {text}");
        }
    }
    assert_eq!(column(&comparisons_csv(&empty().report()).unwrap(), "ratio").len(), 0);
    assert!(junit_xml(&empty().report()).contains("tests=\"0\" failures=\"0\""));
}

#[test]
fn csv_holds_every_number_and_survives_a_spreadsheet() {
    let mut sample = study();
    sample.metrics.comparisons[1].ratio = None;
    sample.metrics.comparisons[1].ci95 = Some([f64::NAN, 1.0]);
    sample.metrics.comparisons[2].reason = "=HYPERLINK(1)".to_owned();
    sample.metrics.attribution[0].rows[0].kernel = Some("@x,\"y\"\nz".to_owned());
    let text = comparisons_csv(&sample.report()).unwrap();
    let rows = &sample.metrics.comparisons;
    assert_eq!(column(&text, "ratio")[0].parse::<f64>().unwrap(), rows[0].ratio.unwrap(), "no digit is lost");
    assert_eq!((column(&text, "ratio")[1].as_str(), column(&text, "ratio_ci95_high")[1].as_str()), ("", ""));
    assert_eq!(column(&text, "reason")[2], "'=HYPERLINK(1)");
    assert_eq!(column(&text, "control"), [vec!["false"; 6], vec!["true"; 3]].concat());
    let parts = attribution_csv(&sample.report()).unwrap();
    assert_eq!(column(&parts, "kernel")[0], "'@x,\"y\"\nz");
    // The parts of decode add up to its change.
    let deltas = column(&parts, "delta_ns");
    let phases = column(&parts, "phase");
    let sum: f64 =
        deltas.iter().zip(&phases).filter(|row| row.1 == "decode").map(|row| row.0.parse::<f64>().unwrap()).sum();
    assert!((sum - -3.1e6).abs() < 1.0, "{sum}");
}

#[test]
fn junit_fails_for_failed_rules_and_for_nothing_else() {
    let mut sample = study();
    let text = junit_xml(&sample.report());
    assert!(
        text.contains("<testsuites name=\"perfprof ab\" tests=\"10\" failures=\"1\" errors=\"0\" skipped=\"3\">"),
        "{text}"
    );
    assert_eq!(text.matches("<failure ").count(), 1);
    let failed = text.lines().find(|line| line.contains("<failure ")).unwrap();
    assert!(failed.contains("peak_rss_bytes&gt;+3% · fused") && failed.contains("lies above +3 %"), "{failed}");
    well_formed(&text, &[]).unwrap();
    for rule in &mut sample.metrics.gate.as_mut().unwrap().rules {
        rule.outcome = RuleOutcome::Undecided;
    }
    sample.metrics.comparisons[0].verdict = Verdict::Slower;
    assert!(!junit_xml(&sample.report()).contains("<failure"), "a slower measure without a rule is no failure");
}

#[test]
fn a_waterfall_shows_its_sums() {
    let html = compare_html(&study().report()).unwrap();
    let chart = html.split("data-chart=\"waterfall-0-0\"").nth(1).unwrap().split("</svg>").next().unwrap();
    for text in ["12.00 ms", "8.900 ms", "−1.500 ms", "+3.000 ms", "−2.200 ms", "−300.0 µs", "+100.0 µs"] {
        assert!(chart.contains(text), "{text}: {chart}");
    }
    assert!(!chart.contains("not in any part"), "the parts of decode add up");
    // A phase whose parts leave something open says how much.
    let mut sample = study();
    sample.metrics.attribution[0].rows.remove(0);
    let html = compare_html(&sample.report()).unwrap();
    let chart = html.split("data-chart=\"waterfall-0-0\"").nth(1).unwrap().split("</svg>").next().unwrap();
    assert!(chart.contains("not in any part: −1.500 ms"), "{chart}");
}

#[test]
fn the_html_report_of_a_comparison_is_one_file_with_a_policy() {
    let html = compare_html(&study().report()).unwrap();
    for needle in ["src=", "href=\"http", "href=\"//", "url(", "@import", "<link", "<base", "<iframe", " style=\""] {
        assert!(!html.contains(needle), "{needle}");
    }
    let policy = html.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    // All data is inside.
    let data = html.split("id=\"report-data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let metrics: CompareMetrics = serde_json::from_value(data["metrics"].clone()).unwrap();
    assert_eq!(metrics, study().metrics);
    assert_eq!(data["distributions"].as_array().unwrap().len(), 12);
}

#[test]
fn hostile_text_breaks_no_format_of_a_comparison() {
    let sample = poisoned(&|text| format!("{text}{HOSTILE}"));
    for (name, text) in everything(&sample) {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\0', '\u{202e}']) || is(name, "csv"), "{name}");
        if !is(name, "csv") && name != "console" {
            assert!(!text.contains("<img") && !text.contains("<svg onload"), "{name}");
            assert!(text.contains("&lt;script&gt;"), "{name}: the text itself is there");
        }
        if is(name, "md") {
            assert_tables_hold(&text);
            assert!(!text.contains("<script"), "{name}");
        }
        match name {
            "compare.html" => well_formed(&text, &VOID).unwrap(),
            "junit.xml" => well_formed(&text, &[]).unwrap(),
            "comparisons.csv" => assert!(column(&text, "measure")[0].contains("</script>")),
            _ => {}
        }
    }
    for width in [40, 80, 200] {
        let console = compare_console(&sample.report(), false, width);
        assert!(console.lines().all(|line| line.chars().count() <= width), "{console}");
    }
}

#[test]
fn a_name_of_a_hundred_kilobytes_stays_bounded_in_a_comparison() {
    let long = "x".repeat(100_000);
    let mut sample = study();
    sample.metrics.comparisons[0].measure = long.clone();
    sample.metrics.subjects[1].label = long.clone();
    sample.metrics.sentences = vec![long.clone()];
    sample.metrics.attribution[0].rows[0].kernel = Some(long);
    assert!(compare_md(&sample.report()).len() < 60_000);
    assert!(ci_summary_md(&sample.report()).len() < 60_000);
    assert!(without_blocks(&compare_html(&sample.report()).unwrap()).len() < 900_000);
}

/// What must never stand where a number should.
static NO_NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:^|[^A-Za-z_-])(NaN|null|-?inf|[iI]nfinity|undefined)(?:$|[^A-Za-z_-])").unwrap());

#[test]
fn thousands_of_comparisons_stay_bounded() {
    let mut sample = study();
    let row = sample.metrics.comparisons[0].clone();
    sample.metrics.comparisons = (0..4_000)
        .map(|at| {
            let mut row = row.clone();
            row.case = Some(format!("case {}", at / 10));
            row.measure = format!("measure_{}_ms", at % 10);
            row
        })
        .collect();
    let html = without_blocks(&compare_html(&sample.report()).unwrap());
    assert!(html.len() < 4_000_000, "{} bytes", html.len());
    assert!(html.contains("3\u{202f}600 more comparisons are in comparisons.csv."));
    assert!(html.contains("3920 more effects are not drawn"));
    assert!(ci_summary_md(&sample.report()).len() < 200_000);
    assert_eq!(column(&comparisons_csv(&sample.report()).unwrap(), "ratio").len(), 4_003);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a comparison holds: no format panics, shows a number that is none, or breaks its own grammar.
    #[test]
    fn any_comparison_renders_in_every_format(seed in any::<u64>()) {
        let sample = Odd::new(seed).sample();
        let unequal = sample.metrics.differences.iter().any(|row| row.kind == DifferenceKind::NotTheSameWork);
        for (name, text) in everything(&sample) {
            let found = NO_NUMBER.find(&text);
            let around = found.map(|found| &text[text.floor_char_boundary(found.start().saturating_sub(120))..found.end()]);
            prop_assert_eq!(around, None, "{}", name);
            match name {
                "compare.html" => prop_assert_eq!(well_formed(&text, &VOID), Ok(())),
                "junit.xml" => prop_assert_eq!(well_formed(&text, &[]), Ok(())),
                "console" => prop_assert!(text.lines().all(|line| line.chars().count() <= 120)),
                _ => {}
            }
            if is(name, "md") {
                assert_tables_hold(&text);
            }
            if is(name, "csv") {
                let mut reader = csv::Reader::from_reader(text.as_bytes());
                prop_assert!(reader.records().all(|record| record.is_ok()));
            }
            prop_assert!(!unequal || name != "compare.html" || text.contains("id=\"unequal\""));
        }
    }
}

fn page(folder: &Path, name: &str, sample: &CompareSample) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, compare_html(&sample.report()).unwrap()).unwrap();
    path
}

/// Labels of charts that stick out of them.
const OUTSIDE: &str = "[...document.querySelectorAll('svg[data-chart] text')].filter((text) => {
    const frame = text.closest('svg[data-chart]').getBoundingClientRect(), area = text.getBoundingClientRect();
    return frame.width > 0 && (area.left < frame.left - 1 || area.right > frame.right + 1);
}).map((text) => text.textContent)";

#[test]
fn a_comparison_opens_quietly_and_draws_its_charts_in_every_theme() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut browser = Browser::start(&binary);
    for (name, sample) in [("study", study()), ("formats", formats()), ("unequal", unequal()), ("empty", empty())] {
        let path = page(folder.path(), &format!("{name}.html"), &sample);
        browser.open(&path);
        assert_quiet(&mut browser, &path);
        assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true, "{name}");
        assert_eq!(browser.evaluate(OUTSIDE), json!([]), "{name}");
        assert!(browser.screenshot(&format!("compare-{name}-light.png")) > 20_000);
        browser.media("screen", "dark");
        assert!(browser.screenshot(&format!("compare-{name}-dark.png")) > 20_000);
        browser.media("print", "light");
        assert!(browser.screenshot(&format!("compare-{name}-print.png")) > 20_000);
        browser.media("screen", "light");
    }
    let path = page(folder.path(), "study.html", &study());
    browser.open(&path);
    let charts = browser.evaluate("[...document.querySelectorAll('svg[data-chart]')].map((svg) => svg.dataset.chart)");
    let charts: Vec<&str> = charts.as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    let expected = [
        vec!["effects".to_owned()],
        (0..6).flat_map(|at| ["box", "ecdf", "order"].map(|kind| format!("{kind}-{at}"))).collect(),
        vec!["waterfall-0-0".to_owned(), "waterfall-0-1".to_owned(), "control".to_owned()],
    ]
    .concat();
    assert_eq!(charts, expected);
    // The diamond of tpot_ms lies left of no change, inside its whisker.
    let places = browser.evaluate(
        "(() => { const svg = document.querySelector('svg[data-chart=effects]');
            const mark = svg.querySelector('.mark-edge').getBBox(), line = svg.querySelector('.whisker').getBBox();
            return [mark.x + mark.width / 2, line.x, line.x + line.width, Number(svg.querySelector('.one').getAttribute('x1'))]; })()",
    );
    let at = |index: usize| places[index].as_f64().unwrap();
    assert!(at(1) < at(0) && at(0) < at(2) && at(2) < at(3), "{places}");
}

#[test]
fn measures_are_chosen_one_at_a_time_and_parts_are_filtered() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = page(folder.path(), "study.html", &study());
    let mut browser = Browser::start(&binary);
    browser.open(&path);
    let visible = "[...document.querySelectorAll('[data-choices] svg[data-chart]')].filter((svg) => svg.getBoundingClientRect().height > 0).map((svg) => svg.dataset.chart)";
    assert_eq!(browser.evaluate(visible), json!(["box-0", "ecdf-0", "order-0"]));
    browser.evaluate("(() => { const box = document.querySelector('[data-choices] select'); box.value = '2'; box.dispatchEvent(new Event('change')); })()");
    assert_eq!(browser.evaluate(visible), json!(["box-2", "ecdf-2", "order-2"]));
    assert_eq!(browser.evaluate(OUTSIDE), json!([]));

    let shown =
        "[...document.querySelectorAll('#why [data-filter] tbody tr')].filter((row) => row.offsetHeight > 0).length";
    assert_eq!(browser.evaluate(shown), 8);
    browser.evaluate("(() => { const box = document.querySelector('#why [data-filter] input'); box.value = 'DECODE gone'; box.dispatchEvent(new Event('input')); })()");
    assert_eq!(browser.evaluate(shown), 2);
    let said = browser.evaluate("document.querySelector('#why [data-filter] output').textContent");
    assert_eq!(said, "2 of 8 rows");
    // Sorting by the change keeps working.
    browser.evaluate("[...document.querySelectorAll('#why [data-filter] th button')].find((button) => button.textContent === 'Change').click()");
    let sorted = browser.evaluate(
        "[...document.querySelectorAll('#why [data-filter] tbody tr')].map((row) => Number(row.cells[7].dataset.sort))",
    );
    let sorted: Vec<f64> = sorted.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert!(sorted.is_sorted_by(|a, b| a >= b), "{sorted:?}");
    assert_quiet(&mut browser, &path);
}

#[test]
fn a_comparison_is_complete_without_script() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = page(folder.path(), "study.html", &study());
    let mut browser = Browser::start(&binary);
    browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.open(&path);
    assert_eq!(
        browser.evaluate("[...document.querySelectorAll('.tools')].every((tools) => tools.offsetHeight === 0)"),
        true
    );
    assert_eq!(browser.evaluate("document.querySelectorAll('svg[data-chart]').length"), 22);
    let closed = browser.evaluate("[...document.querySelectorAll('[data-choices] > details > summary')].filter((head) => head.offsetHeight > 0).length");
    assert_eq!(closed, 6, "every measure can be opened by its heading");
}

#[test]
fn hostile_text_in_every_field_of_a_comparison_stays_text() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let sample = poisoned(&|text| format!("{text}{HOSTILE}"));
    let path = page(folder.path(), "hostile.html", &sample);
    let mut browser = Browser::start(&binary);
    browser.open(&path);
    assert_quiet(&mut browser, &path);
    assert_eq!(browser.evaluate("typeof window.__pwned"), "undefined");
    assert_eq!(browser.evaluate("document.scripts.length"), 2);
    assert_eq!(browser.evaluate("document.querySelectorAll('img, iframe, object, embed, link, base, form').length"), 0);
    let handlers = "[...document.querySelectorAll('*')].flatMap((element) => [...element.attributes])
        .filter((attribute) => attribute.name.startsWith('on')).length";
    assert_eq!(browser.evaluate(handlers), 0);
    assert_eq!(browser.evaluate("document.body.innerText.includes('<script>window.__pwned=1</script>')"), true);
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
    assert!(browser.screenshot("compare-hostile.png") > 20_000);
    // The browser's XML parser takes the JUnit file.
    let xml = serde_json::to_string(&junit_xml(&sample.report())).unwrap();
    let parsed = browser.evaluate(&format!(
        "(() => {{ const file = new DOMParser().parseFromString({xml}, 'application/xml');
            return [file.querySelectorAll('parsererror').length, file.querySelectorAll('testcase').length, file.querySelectorAll('failure').length]; }})()"
    ));
    assert_eq!(parsed, json!([0, 10, 1]));
}
