//! The reports of a sweep and the published schema of its `metrics.json`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;

use perfprof::diagnostics::{Diagnostic, Severity};
use perfprof::record::rows::RowStatus;
use perfprof::record::sweep::{CaseResult, PlannedPoint, SWEEP_SCHEMA_VERSION, SweepMetrics, SweepPlanFile, SweepRow};
use perfprof::report::sweep::{
    SweepReport, files, points_csv, sweep_console, sweep_html, sweep_md, sweep_stakeholder_summary_md,
};
use perfprof::runner::summary::Ending;
use perfprof::runner::sweep::summarize;
use perfprof::stats::summary::Summary;
use serde_json::{Value, json};

use crate::chromium::{Browser, HOSTILE, assert_quiet, chromium};

fn point(settings: &[(&str, &str)], index: usize) -> PlannedPoint {
    let pairs = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let overrides = std::iter::once("repeats=5".to_owned());
    PlannedPoint {
        settings: pairs.clone().collect(),
        overrides: overrides.chain(pairs.map(|(key, value)| format!("{key}={value}"))).collect(),
        fingerprint: format!("f{index}"),
    }
}

fn plan(points: Vec<PlannedPoint>) -> SweepPlanFile {
    SweepPlanFile {
        schema_version: SWEEP_SCHEMA_VERSION,
        run_id: "20260101-000000-abcd".to_owned(),
        runs: "stage1".to_owned(),
        name: "latency_grid".to_owned(),
        order: (0..points.len() as u32).collect(),
        points,
        objective: Some("decode_tok_per_s".to_owned()),
        constraints: vec!["ttft_ms<200".to_owned()],
        pareto: vec!["decode_tok_per_s".to_owned(), "ttft_ms".to_owned()],
        allow_invalid: false,
        diagnostics: Vec::new(),
    }
}

/// An attempt at a point that ended well: so many tokens a second, and so many ms to the first.
fn row(point: u32, speed: f64, ttft: f64) -> SweepRow {
    let around = |value: f64| [0.99, 1.0, 1.01, 1.0, 1.0].map(|factor| value * factor);
    let measures = BTreeMap::from([
        ("decode_tok_per_s".to_owned(), Summary::from_values("tok/s", &around(speed))),
        ("ttft_ms".to_owned(), Summary::from_values("ms", &around(ttft))),
        ("peak_rss_bytes".to_owned(), Summary::from_values("bytes", &around(3e8))),
        ("peak_vram_bytes".to_owned(), Summary::from_values("bytes", &[])),
    ]);
    SweepRow {
        schema_version: SWEEP_SCHEMA_VERSION,
        run_id: "20260101-000000-abcd".to_owned(),
        point,
        attempt: 0,
        fingerprint: format!("f{point}"),
        child: format!("p{point:04}-0"),
        status: RowStatus::Ok,
        error: None,
        valid: Some(true),
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        took_s: 1.0,
        cases: vec![CaseResult { case: format!("case{point}"), measures }],
    }
}

fn without(point: u32, status: RowStatus, error: &str) -> SweepRow {
    SweepRow { status, error: Some(error.to_owned()), valid: None, cases: Vec::new(), ..row(point, 1.0, 1.0) }
}

/// Three prompt lengths by two batches: one does not fit, one failed, one is not tried yet, one is beyond the condition.
fn sample() -> SweepMetrics {
    let grid = [("32", "1"), ("32", "8"), ("512", "1"), ("512", "8"), ("2048", "1"), ("2048", "8")];
    let points =
        grid.iter().enumerate().map(|(at, (prompt, batch))| point(&[("prompt_tokens", prompt), ("batch", batch)], at));
    let rows = [
        row(0, 40.0, 20.0),
        row(1, 210.0, 90.0),
        row(2, 39.8, 150.0),
        row(3, 220.0, 700.0),
        without(4, RowStatus::Failed, "the device was lost"),
        without(5, RowStatus::Oom, "the model `x` needs 90 GiB, but this process may use 23 GiB"),
    ];
    summarize(&plan(points.collect()), &rows, Ending::Complete, &[])
}

fn report(metrics: &SweepMetrics) -> SweepReport<'_> {
    SweepReport { metrics, provenance: &[], generated_at: "2026-01-01T00:00:10.000Z" }
}

#[test]
fn the_reports_of_a_sweep() {
    let metrics = sample();
    let report = report(&metrics);
    insta::assert_snapshot!("sweep_report", sweep_md(&report));
    insta::assert_snapshot!("sweep_summary", sweep_stakeholder_summary_md(&report));
    insta::assert_snapshot!("sweep_console", sweep_console(&report, false, 110));
    insta::assert_snapshot!("sweep_csv", points_csv(&report).unwrap());
}

#[test]
fn the_page_draws_the_maps_and_the_front_and_says_every_value_in_words() {
    let metrics = sample();
    let html = sweep_html(&report(&metrics)).unwrap();
    let drawn = |id: &str| {
        let rest = html.split(&format!("data-chart=\"{id}\"")).nth(1).unwrap_or_else(|| panic!("no {id}"));
        rest.split("</svg>").next().unwrap().to_owned()
    };
    let map = drawn("map-0");
    for text in ["★ 210.0", "220.0", "40.00", ">oom<", ">failed<", "prompt_tokens", "batch"] {
        assert!(map.contains(text), "{text}: {map}");
    }
    let front = drawn("pareto");
    // 220 tok/s, 210 tok/s and 40 tok/s at 20 ms: each is best at something; 39.8 at 150 ms is not.
    assert_eq!(
        (front.matches("class=\"solid\"").count(), front.matches("class=\"hollow\"").count()),
        (3, 1),
        "{front}"
    );
    assert!(html.contains("perfprof stage1 repeats=5 prompt_tokens=32 batch=8"));
    for needle in ["src=", "href=\"http", "url(", "@import", "<link", "<iframe", " style=\""] {
        assert!(!html.contains(needle), "{needle}");
    }
    let data = html.split("id=\"report-data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(serde_json::from_value::<SweepMetrics>(data["metrics"].clone()).unwrap(), metrics);
}

#[test]
fn the_page_of_a_sweep_loads_without_a_complaint() {
    let Some(chromium) = chromium() else { return };
    let directory = tempfile::tempdir().unwrap();
    let metrics = sample();
    let path = directory.path().join("report.html");
    std::fs::write(&path, sweep_html(&report(&metrics)).unwrap()).unwrap();
    let mut browser = Browser::start(&chromium);
    browser.open(&path);
    assert_quiet(&mut browser, &path);
}

/// The sample with hostile text in every text field that comes from outside.
fn poisoned() -> SweepMetrics {
    let bad = |text: &str| format!("{text}{HOSTILE}");
    let (one, two) = (bad("a"), bad("b"));
    let (key, other) = (bad("key"), bad("other"));
    let grid = [[one.as_str(), "x"], [two.as_str(), "x"], [one.as_str(), "y"], [two.as_str(), "y"]];
    let points = grid.iter().enumerate().map(|(at, [a, b])| point(&[(&key, a), (&other, b)], at));
    let mut plan = plan(points.collect());
    plan.name = bad("name");
    plan.constraints = Vec::new();
    plan.diagnostics = vec![Diagnostic::new("code", Severity::Warn, bad("first"))];
    let mut rows =
        [row(0, 40.0, 20.0), row(1, 50.0, 10.0), row(2, 30.0, 30.0), without(3, RowStatus::Failed, &bad("error"))];
    for row in &mut rows {
        row.child = bad("child");
        for case in &mut row.cases {
            case.case = bad("case");
        }
    }
    summarize(&plan, &rows, Ending::Complete, &[])
}

#[test]
fn hostile_names_break_no_format_of_a_sweep() {
    let metrics = poisoned();
    let report = report(&metrics);
    for (name, text) in files(&report).unwrap() {
        let body = match text.split_once("</header>") {
            Some((_, body)) if name == "report.html" => body.split("<script").next().unwrap().to_owned(),
            _ => text.clone(),
        };
        if name != "points.csv" {
            assert!(!body.contains(['\u{1b}', '\u{7}', '\0', '\u{202e}']), "{name}");
            assert!(!body.contains("<img") && !body.contains("<svg onload") && !body.contains("<script"), "{name}");
        }
        if name == "report.md" {
            assert!(!text.contains("```"), "no block of code that hostile text could end");
            assert!(text.contains("perfprof stage1") && text.contains("### Run it alone"));
            let lines: Vec<&str> = text.lines().collect();
            let tables: Vec<&&str> = lines.iter().filter(|line| line.starts_with("| ")).collect();
            assert!(tables.iter().all(|line| line.ends_with('|')));
        }
    }
    let csv = points_csv(&report).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert!(reader.records().all(|record| record.is_ok()));
    for width in [40, 80, 200] {
        let console = sweep_console(&report, false, width);
        assert!(console.lines().all(|line| line.chars().count() <= width), "{console}");
        assert!(!console.contains('\u{1b}'));
    }
    let Some(chromium) = chromium() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.html");
    std::fs::write(&path, sweep_html(&report).unwrap()).unwrap();
    let mut browser = Browser::start(&chromium);
    browser.open(&path);
    assert_quiet(&mut browser, &path);
}

#[test]
fn sweeps_of_nothing_and_of_thousands_of_points_stay_readable() {
    let nothing = summarize(&plan(vec![point(&[("batch", "1")], 0)]), &[], Ending::Interrupted, &[]);
    for (name, text) in files(&report(&nothing)).unwrap() {
        assert!(!text.is_empty(), "{name}");
    }
    assert!(sweep_console(&report(&nothing), false, 100).contains("1 not tried yet"));
    let points: Vec<PlannedPoint> =
        (0..4000).map(|at| point(&[("batch", &at.to_string()), ("seed", &(at % 7).to_string())], at)).collect();
    let rows: Vec<SweepRow> = (0..4000).map(|at| row(at, f64::from(at) + 1.0, 1.0)).collect();
    let many = summarize(&plan(points), &rows, Ending::Complete, &[]);
    let html = sweep_html(&report(&many)).unwrap();
    let page = html.split("<script type=\"application/json\"").next().unwrap();
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(sweep_md(&report(&many)).len() < 200_000);
    assert!(page.contains("more are in points.csv"));
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/schema/metrics.sweep.schema.json")).unwrap()
}

fn errors(document: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Pointers of all values in `value`, the outermost first.
fn pointers(value: &Value) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut inner = |key: &str, value: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        all.extend(pointers(value).into_iter().map(|rest| format!("/{key}{rest}")));
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| inner(key, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| inner(&index.to_string(), value)),
        _ => {}
    }
    all
}

/// A document in which every optional value is set and no list is empty.
fn example() -> SweepMetrics {
    let mut metrics = sample();
    let best = metrics.best.as_mut().unwrap();
    best.not_told_apart = vec![0];
    metrics.results.truncate(2);
    metrics.results[1].error = Some("none".to_owned());
    metrics.results.remove(0);
    metrics.results[0].measures.retain(|name, _| name == "ttft_ms");
    metrics.heat_maps.truncate(1);
    metrics.heat_maps[0].fixed = BTreeMap::from([("case".to_owned(), "a".to_owned())]);
    metrics.measures = BTreeMap::from([("ttft_ms".to_owned(), crate::metrics_schema::summary())]);
    metrics.axes.truncate(1);
    metrics
}

#[test]
fn the_schema_of_sweeps_is_a_schema_and_accepts_what_is_written() {
    assert!(jsonschema::meta::is_valid(&schema()));
    let nothing = summarize(&plan(vec![point(&[("batch", "1")], 0)]), &[], Ending::Interrupted, &[]);
    for metrics in [sample(), poisoned(), example(), nothing] {
        assert_eq!(errors(&serde_json::to_value(metrics).unwrap()), Vec::<String>::new());
    }
}

/// Both directions: a field the schema lacks is refused by `additionalProperties`, a field it demands must exist.
#[test]
fn the_schema_of_sweeps_knows_each_field_and_whether_it_may_be_null() {
    const MAPS: [&str; 4] = ["/measures", "/settings", "/fixed", "/outcomes"];
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let document = serde_json::to_value(example()).unwrap();
    assert!(validator.is_valid(&document), "{:?}", errors(&document));
    let mut nullable = 0;
    for pointer in pointers(&document) {
        let Some((parent, key)) = pointer.rsplit_once('/') else { continue };
        // What the two axes do not have, a map of values may lack.
        let in_map = MAPS.iter().any(|map| parent.ends_with(map));
        if document.pointer(parent).unwrap().is_object() && !in_map {
            let mut without = document.clone();
            without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
            assert!(!validator.is_valid(&without), "{pointer} may be left out");
            let mut more = document.clone();
            more.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(format!("{key}_x"), Value::Null);
            assert!(!validator.is_valid(&more), "{pointer}_x is accepted");
        }
        let mut null = document.clone();
        *null.pointer_mut(&pointer).unwrap() = Value::Null;
        let by_type = serde_json::from_value::<SweepMetrics>(null.clone()).is_ok();
        assert_eq!(validator.is_valid(&null), by_type, "{pointer}: the type and the schema disagree about null");
        nullable += u32::from(by_type);
    }
    assert!(nullable > 25, "{nullable}");
}

#[test]
fn broken_sweeps_are_rejected_and_every_field_is_described() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let document = serde_json::to_value(example()).unwrap();
    for (pointer, wrong) in [
        ("/schema_version", json!(2)),
        ("/command", json!("ab")),
        ("/status", json!("running")),
        ("/run_id", json!("../x")),
        ("/validity/reasons", json!(["but VALID"])),
        ("/points", json!(-1)),
        ("/outcomes", json!({"lost": 1})),
        ("/results/0/status", json!("killed")),
        ("/results/0/point", json!(0.5)),
        ("/results/0/measures/ttft_ms/p50", json!("NaN")),
        ("/best/result", json!(-1)),
        ("/pareto/results", json!(["0"])),
        ("/heat_maps/0/values", json!([["1"]])),
        ("/diagnostics/0/severity", json!("fatal")),
    ] {
        let mut broken = document.clone();
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = wrong.clone();
        assert!(!validator.is_valid(&broken), "{pointer} = {wrong} is accepted");
    }
    fn check(schema: &Value, place: &str) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                let branch = ["if", "then", "else"].iter().any(|word| place.ends_with(word));
                let described = property.get("description").is_some() || property.get("const").is_some();
                assert!(branch || described, "{place}/{name} has no description");
            }
        }
        match schema {
            Value::Object(map) => map.iter().for_each(|(key, value)| check(value, &format!("{place}/{key}"))),
            Value::Array(items) => items.iter().for_each(|value| check(value, place)),
            _ => {}
        }
    }
    check(&schema(), "");
}
