//! report.html in a real browser: no console error, no request, every chart drawn, hostile text shown as text.
//!
//! Speaks the DevTools protocol over a pipe to a headless Chromium. Without a Chromium the tests say that they are skipped;
//! `PERFPROF_REQUIRE_CHROMIUM=1` turns that into a failure, `PERFPROF_CHROMIUM` names another binary.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test support: a panic and a note to the reader are what it is for"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use perfprof::diagnostics::{Diagnostic, Severity, Validity};
use perfprof::report::{AssumptionSection, StepSpan, report_html};
use serde_json::{Value, json};

use crate::report_sample::{self, Sample};

/// The browser, or none after saying so.
pub(crate) fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("PERFPROF_CHROMIUM").map(PathBuf::from);
    let known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    let found = named.into_iter().chain(known).find(|path| path.exists());
    if found.is_none() {
        assert!(
            std::env::var_os("PERFPROF_REQUIRE_CHROMIUM").is_none(),
            "PERFPROF_REQUIRE_CHROMIUM is set and no Chromium was found"
        );
        eprintln!("SKIPPED: no Chromium on this machine (Debian: `apt-get install chromium`)");
    }
    found
}

/// A headless browser with one page.
pub(crate) struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    next_id: u64,
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) fn start(binary: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol runs over descriptors 3 and 4; the shell makes them from the standard ones.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"])
            .arg(binary)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
            ])
            .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe", "--window-size=1280,2400"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { break };
                if sender.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let mut browser =
            Self { child, commands, messages, session: None, next_id: 0, events: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attached = browser.call("Target.attachToTarget", &json!({"targetId": target["targetId"], "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    fn receive(&mut self) -> Value {
        self.messages.recv_timeout(Duration::from_mins(2)).expect("the browser answers")
    }

    /// Calls a method and returns its result; events that arrive meanwhile are kept.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next_id += 1;
        let mut message = json!({"id": self.next_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.receive();
            if answer["id"] == self.next_id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// Opens a file and waits until it is loaded.
    pub(crate) fn open(&mut self, path: &Path) {
        self.events.clear();
        self.call("Page.navigate", &json!({"url": format!("file://{}", path.display())}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.receive();
            self.events.push(event);
        }
    }

    /// The value of a JavaScript expression in the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self
            .call("Runtime.evaluate", &json!({"expression": expression, "returnByValue": true, "awaitPromise": true}));
        assert!(answer["exceptionDetails"].is_null(), "{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Console output, exceptions and browser log entries since the page was opened.
    fn complaints(&self) -> Vec<&Value> {
        let loud = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
        self.events
            .iter()
            .filter(|event| event["method"].as_str().is_some_and(|method| loud.contains(&method)))
            .collect()
    }

    /// Addresses the page asked for.
    fn requests(&self) -> Vec<String> {
        self.events
            .iter()
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned))
            .collect()
    }

    pub(crate) fn media(&mut self, media: &str, scheme: &str) {
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
    }

    pub(crate) fn screenshot(&mut self, name: &str) -> usize {
        let picture = self.call("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": true}));
        Self::save(name, picture["data"].as_str().unwrap())
    }

    fn save(name: &str, base64: &str) -> usize {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report");
        std::fs::create_dir_all(&folder).unwrap();
        let bytes = decode_base64(base64);
        std::fs::write(folder.join(name), &bytes).unwrap();
        bytes.len()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn decode_base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.trim_end_matches('=').as_bytes().chunks(4) {
        let word = chunk.iter().enumerate().fold(0_u32, |word, (at, c)| word | u32::from(value(*c)) << (18 - 6 * at));
        out.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    out
}

fn page(folder: &Path, name: &str, sample: &Sample) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, report_html(&sample.report()).unwrap()).unwrap();
    path
}

/// What holds for every report in a browser.
pub(crate) fn assert_quiet(browser: &mut Browser, path: &Path) {
    assert_eq!(browser.evaluate("document.documentElement.dataset.ready"), "true", "the script ran to its end");
    assert_eq!(browser.evaluate("document.documentElement.dataset.error || ''"), "");
    assert_eq!(browser.evaluate("document.documentElement.dataset.violation || ''"), "");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    assert_eq!(browser.requests(), [format!("file://{}", path.display())], "only the file itself is loaded");
    assert_eq!(browser.evaluate("performance.getEntriesByType('resource').length"), 0);
}

/// Id and size of every chart, and the number of marks in it.
const CHARTS: &str = "[...document.querySelectorAll('svg[data-chart]')].map((svg) => {
    const box = svg.getBoundingClientRect();
    const marks = [...svg.querySelectorAll('rect, circle, path, line')].filter((mark) => {
        const area = mark.getBBox();
        return area.width > 0 || area.height > 0;
    }).length;
    return { id: svg.dataset.chart, width: box.width, height: box.height, marks };
})";

#[test]
fn a_report_opens_quietly_and_draws_every_chart() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = page(folder.path(), "report.html", &report_sample::memory_bound());
    let mut browser = Browser::start(&binary);
    browser.open(&path);
    assert_quiet(&mut browser, &path);

    let charts = browser.evaluate(CHARTS);
    let ids: Vec<&str> = charts.as_array().unwrap().iter().map(|chart| chart["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["repeats", "timeline", "itl-0", "breakdown-prefill", "breakdown-decode", "roofline", "memory"]);
    for chart in charts.as_array().unwrap() {
        let size = |name: &str| chart[name].as_f64().unwrap();
        assert!(size("width") > 300.0 && size("height") > 40.0 && size("marks") >= 4.0, "{chart}");
    }
    // Nothing sticks out to the side of the page.
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
    // Labels stay inside their charts.
    let outside = browser.evaluate(
        "[...document.querySelectorAll('svg[data-chart] text')].filter((text) => {
            const frame = text.closest('svg[data-chart]').getBoundingClientRect(), area = text.getBoundingClientRect();
            return area.left < frame.left - 1 || area.right > frame.right + 1;
        }).map((text) => text.textContent)",
    );
    assert_eq!(outside, json!([]));

    assert!(browser.screenshot("light.png") > 50_000);
    browser.media("screen", "dark");
    let dark = browser.evaluate("getComputedStyle(document.body).backgroundColor");
    assert!(browser.screenshot("dark.png") > 50_000);
    browser.media("screen", "light");
    assert_ne!(dark, browser.evaluate("getComputedStyle(document.body).backgroundColor"));
    browser.media("print", "dark");
    assert_eq!(
        browser.evaluate("getComputedStyle(document.body).backgroundColor"),
        "rgb(255, 255, 255)",
        "print is light"
    );
    assert!(browser.screenshot("print.png") > 50_000);
    browser.media("screen", "light");
    let pdf = browser.call("Page.printToPDF", &json!({"printBackground": true}));
    assert!(Browser::save("print.pdf", pdf["data"].as_str().unwrap()) > 20_000);
}

#[test]
fn sorting_zooming_and_tooltips_work() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = page(folder.path(), "report.html", &report_sample::memory_bound());
    let mut browser = Browser::start(&binary);
    browser.open(&path);

    // Column "total (ms)" of the first sortable table: descending at the first click, ascending at the second.
    let column =
        "[...document.querySelector('table.sortable').tBodies[0].rows].map((row) => Number(row.cells[4].dataset.sort))";
    let click = "document.querySelector('table.sortable').tHead.rows[0].cells[4].querySelector('button').click()";
    let numbers = |value: Value| value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<f64>>();
    browser.evaluate(click);
    let down = numbers(browser.evaluate(column));
    assert!(down.len() > 10 && down.is_sorted_by(|a, b| a >= b), "{down:?}");
    browser.evaluate(click);
    let up = numbers(browser.evaluate(column));
    assert!(up.is_sorted() && up.len() == down.len(), "{up:?}");

    let view = "document.querySelector('#itl-0 [data-zoom]').getAttribute('viewBox')";
    let before = browser.evaluate(view);
    browser.evaluate("document.querySelector('#itl-0').scrollIntoView({behavior: 'instant', block: 'center'})");
    let plot = browser.evaluate(
        "(() => { const box = document.querySelector('#itl-0 [data-zoom]').getBoundingClientRect();
            return [box.left, box.top, box.width, box.height]; })()",
    );
    let at =
        |share: f64| (plot[0].as_f64().unwrap() + plot[2].as_f64().unwrap() * share, plot[1].as_f64().unwrap() + 30.0);
    for (kind, share) in [("mousePressed", 0.25), ("mouseMoved", 0.4), ("mouseReleased", 0.5)] {
        let (x, y) = at(share);
        browser.call(
            "Input.dispatchMouseEvent",
            &json!({"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}),
        );
    }
    let after = browser.evaluate(view);
    assert_ne!(before, after, "a drag zooms in");
    let width: f64 = after.as_str().unwrap().split(' ').nth(2).unwrap().parse().unwrap();
    assert!((200.0..300.0).contains(&width), "a quarter of the width is shown: {after}");
    let readout = browser.evaluate("document.querySelector('#itl-0 output').textContent");
    assert!(readout.as_str().unwrap().contains("repeat 0:"), "{readout}");
    browser.evaluate("document.querySelector('#itl-0 [data-reset]').click()");
    assert_eq!(browser.evaluate(view), "0 0 1000 1000");

    browser.evaluate("document.querySelector('#memory').scrollIntoView({behavior: 'instant', block: 'center'})");
    let bar = browser.evaluate(
        "(() => { const box = document.querySelector('#memory rect[data-tip]').getBoundingClientRect();
            return [box.left + 4, box.top + 4]; })()",
    );
    // The scroll event that hides tips comes with the next frame.
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
    browser.call("Input.dispatchMouseEvent", &json!({"type": "mouseMoved", "x": bar[0], "y": bar[1]}));
    let tip =
        browser.evaluate("document.querySelector('.tip').hidden ? '' : document.querySelector('.tip').textContent");
    assert_eq!(tip, "weights: 257 MiB");
    assert_quiet(&mut browser, &path);
}

#[test]
fn a_report_is_complete_without_script() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = page(folder.path(), "report.html", &report_sample::memory_bound());
    let mut browser = Browser::start(&binary);
    browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.open(&path);
    assert!(browser.screenshot("no-script.png") > 50_000);
    // The inspector may still evaluate in a page whose own scripts are off.
    assert_eq!(browser.evaluate("document.documentElement.dataset.ready || ''"), "");
    assert_eq!(browser.evaluate(CHARTS).as_array().unwrap().len(), 7);
    assert_eq!(
        browser.evaluate("[...document.querySelectorAll('.tools')].every((tools) => tools.offsetHeight === 0)"),
        true
    );
    assert_eq!(browser.evaluate("document.querySelectorAll('svg[data-chart] title').length > 100"), true);
    assert!(browser.complaints().iter().all(|entry| entry["method"] != "Runtime.exceptionThrown"));
}

#[test]
fn an_invalid_run_says_so_and_explains_what_it_cannot_draw() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = page(folder.path(), "invalid.html", &report_sample::invalid());
    let mut browser = Browser::start(&binary);
    browser.open(&path);
    assert_quiet(&mut browser, &path);
    let banner = browser.evaluate("document.querySelector('#validity').innerText");
    assert!(
        banner.as_str().unwrap().contains("INVALID") && banner.as_str().unwrap().contains("2 of 3 repeats failed"),
        "{banner}"
    );
    let empty =
        browser.evaluate("[...document.querySelectorAll('[data-empty-chart]')].map((p) => p.dataset.emptyChart)");
    assert_eq!(empty, json!(["timeline"]));
    assert!(browser.screenshot("invalid.png") > 50_000);
}

/// Text that would do harm wherever it is not escaped.
pub(crate) const HOSTILE: &str = "</script><script>window.__pwned=1</script><img src=x onerror=\"window.__pwned=1\">\"><svg onload=window.__pwned=1>\
    ' onclick='x' </title></style></svg>{{ 7*7 }}{% raw %}\u{2028}\u{2029}\u{202e}\u{1b}]0;x\u{7}\0&lt;b&gt;";

/// The sample with hostile text in every text field there is.
pub(crate) fn poisoned() -> Sample {
    let bad = |name: &str| format!("{name}{HOSTILE}");
    let mut sample = report_sample::memory_bound();
    let metrics = &mut sample.metrics;
    for text in [
        &mut metrics.command,
        &mut metrics.run_id,
        &mut metrics.status,
        &mut metrics.model.name,
        &mut metrics.model.source,
        &mut metrics.model.dtype,
        &mut metrics.model.compute_dtype,
        &mut metrics.model.kv_dtype,
        &mut metrics.model.ops,
        &mut metrics.hardware.device,
        &mut metrics.hardware.device_id,
        &mut metrics.hardware.compute_dtype,
        &mut metrics.hardware.peak_flops_per_s.kind,
        &mut metrics.hardware.peak_flops_per_s.source,
        &mut metrics.hardware.peak_bytes_per_s.kind,
        &mut metrics.hardware.peak_bytes_per_s.source,
    ] {
        *text = bad(text);
    }
    metrics.model.architecture.family = perfprof::estimate::architecture::Family::Other(bad("llama"));
    metrics.model.weights_bytes_by_format = [(bad("bf16"), 1)].into();
    metrics.validity = Validity::from_reasons(vec![bad("reason")]);
    metrics.reconciliation.unattributed_by_phase = [(bad("decode"), 0.5)].into();
    let mut gpu = crate::metrics_schema::gpu();
    for text in [&mut gpu.name, &mut gpu.uuid, &mut gpu.driver_version, &mut gpu.energy_source] {
        *text = text.as_deref().map(bad);
    }
    gpu.throttle[0].reason = bad("sw_power_cap");
    gpu.unsupported = vec![bad("processes")];
    gpu.failure_messages = [(bad("timeout"), 2)].into();
    metrics.gpu = Some(gpu);
    metrics.diagnostics = vec![Diagnostic::new(&bad("code"), Severity::Error, bad("first"))];
    for summary in
        metrics.measures.values_mut().chain(metrics.cases.iter_mut().flat_map(|case| case.measures.values_mut()))
    {
        summary.unit = bad(&summary.unit);
    }
    for phase in &mut metrics.phases {
        phase.case = bad("chat-128");
        phase.bound = phase.bound.as_deref().map(bad);
    }
    // One phase keeps its name so that the rules for it run too.
    metrics.phases[0].phase = bad("prefill");
    for case in &mut metrics.cases {
        case.name = bad("chat-128");
    }
    for (number, row) in metrics.operators.iter_mut().enumerate() {
        for text in [&mut row.class, &mut row.name, &mut row.device, &mut row.shape] {
            *text = bad(text);
        }
        if number % 2 == 0 {
            row.phase = bad(&row.phase);
        }
        row.bound = row.bound.as_deref().map(bad);
    }
    for row in &mut sample.rows {
        for text in [&mut row.run_id, &mut row.case, &mut row.model, &mut row.backend, &mut row.dtype, &mut row.device]
        {
            *text = bad(text);
        }
        (row.mode, row.started_at) = (bad("mode"), bad("time"));
        row.text = Some(bad("text"));
        row.error = Some(bad("error"));
        row.finish_reason = Some(bad("eos"));
        row.energy_source = Some(bad("rapl"));
        row.diagnostics = vec![Diagnostic::new(&bad("code"), Severity::Warn, bad("first"))];
    }
    sample.assumptions = vec![AssumptionSection { title: bad("title"), lines: vec![(bad("name"), bad("text"))] }];
    sample.steps.push(StepSpan { phase: bad("decode"), step: 1, start_ns: 1, end_ns: 2_000_000 });
    sample.environment =
        json!({ bad("key"): bad("value"), "list": [bad("item")], "deep": {bad("key"): [{bad("key"): bad("value")}]} });
    sample
}

#[test]
fn hostile_text_in_every_field_stays_text() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let clean = page(folder.path(), "clean.html", &report_sample::memory_bound());
    let path = page(folder.path(), "hostile.html", &poisoned());
    let mut browser = Browser::start(&binary);
    browser.open(&clean);
    let scripts = browser.evaluate("document.scripts.length");
    assert_eq!(scripts, 2);
    browser.open(&path);
    assert_quiet(&mut browser, &path);
    assert_eq!(browser.evaluate("typeof window.__pwned"), "undefined");
    assert_eq!(browser.evaluate("document.scripts.length"), 2);
    assert_eq!(browser.evaluate("document.querySelectorAll('img, iframe, object, embed, link, base, form').length"), 0);
    let handlers = "[...document.querySelectorAll('*')].flatMap((element) => [...element.attributes])
        .filter((attribute) => attribute.name.startsWith('on') || attribute.name === 'style' && attribute.value.includes('url')).length";
    assert_eq!(browser.evaluate(handlers), 0);
    // The text is there, whole, as text; and the data block still is JSON with the same content.
    let shown = browser.evaluate("document.body.innerText.includes('<script>window.__pwned=1</script>')");
    assert_eq!(shown, true);
    let name = browser.evaluate("JSON.parse(document.getElementById('report-data').textContent).metrics.model.name");
    assert_eq!(name.as_str().unwrap(), poisoned().metrics.model.name);
    // Template syntax in a value is not evaluated.
    assert_eq!(browser.evaluate("document.body.innerText.includes('{{ 7*7 }}')"), true);
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
    assert!(browser.screenshot("hostile.png") > 50_000);
}

#[test]
fn long_and_mixed_scripts_do_not_break_the_layout() {
    let Some(binary) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut sample = report_sample::memory_bound();
    let long = "x".repeat(10_000);
    sample.metrics.model.name = "نموذج 模型 🦀 модель ".to_owned() + &long;
    sample.metrics.operators[0].name = long.clone();
    sample.rows[0].text = Some("שלום ".repeat(2_000));
    sample.metrics.diagnostics.push(Diagnostic::new("long", Severity::Warn, long.clone()));
    sample.environment = json!({"PATH": long});
    let path = page(folder.path(), "long.html", &sample);
    let mut browser = Browser::start(&binary);
    browser.open(&path);
    assert_quiet(&mut browser, &path);
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
    // Cut in the table, whole on demand.
    let whole = browser
        .evaluate("[...document.querySelectorAll('td details bdi')].some((text) => text.textContent.length === 10000)");
    assert_eq!(whole, true);
    assert!(browser.screenshot("long.png") > 50_000);
}
