//! The reports of a load test: what they say, that nothing from outside breaks them, and that odd runs stay readable.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;

use perfprof::config::schema::load::LayoutChoice;
use perfprof::diagnostics::{Diagnostic, Severity, Validity};
use perfprof::record::load::context::TargetRecord;
use perfprof::record::load::metrics::Peak;
use perfprof::record::load::row::RequestRow;
use perfprof::report::load::{
    OtherRun, files, layout_files, load_console, load_html, load_md, load_stakeholder_summary_md, requests_csv,
    stages_csv, summary_csv_header, summary_csv_line,
};
use serde_json::{Value, json};

use crate::chromium::{Browser, HOSTILE, assert_quiet, chromium};
use crate::load_sample::{SECOND, Sample, all_failed, distribution, plan, row, run, sample};

/// Whether the file `name` ends in `.extension`.
fn has_extension(name: &str, extension: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|found| found == extension)
}

#[test]
fn the_reports_of_a_load_test() {
    let sample = sample();
    let report = sample.report();
    insta::assert_snapshot!("load_report", load_md(&report));
    insta::assert_snapshot!("load_summary", load_stakeholder_summary_md(&report));
    insta::assert_snapshot!("load_console", load_console(&report, false, 80));
    insta::assert_snapshot!("load_invalid_console", load_console(&all_failed().report(), false, 80));
    insta::assert_snapshot!("load_stages", stages_csv(&report).unwrap());
    let assumptions = files(&report).unwrap().into_iter().find(|(name, _)| *name == "assumptions.md").unwrap().1;
    insta::assert_snapshot!("load_assumptions", assumptions);
}

/// The drawing of a chart in the page.
fn drawn(html: &str, id: &str) -> String {
    let rest = html.split(&format!("data-chart=\"{id}\"")).nth(1).unwrap_or_else(|| panic!("no {id}"));
    rest.split("</svg>").next().unwrap().to_owned()
}

#[test]
fn the_page_draws_the_load_the_requests_and_the_gaps_and_overlays_other_runs() {
    let (sample, other) = (sample(), sample());
    let mut report = sample.report();
    report.others = vec![OtherRun { label: "sglang", metrics: &other.metrics }];
    let html = load_html(&report).unwrap();
    for id in [
        "load-tokens",
        "load-requests",
        "load-ttft",
        "load-e2e",
        "load-goodput",
        "in-flight",
        "requests-0",
        "requests-2",
        "gaps-0",
        "gaps-2",
        "cdf-ttft",
        "cdf-e2e",
        "server-gauges",
        "gpu-series",
    ] {
        assert!(drawn(&html, id).contains("class=\""), "{id}");
    }
    // Three percentiles of two runs, each a line with three points; the knee between 4 and 12.
    let e2e = drawn(&html, "load-e2e");
    assert_eq!((e2e.matches("<path").count(), e2e.matches("<circle").count()), (6, 18), "{e2e}");
    assert!(e2e.contains("margin-band") && e2e.contains("knee at 8, 95 % interval 4 to 12"), "{e2e}");
    assert!(html.contains("sglang p99") && html.contains("vllm p99"));
    // All requests of the last stage, three of them failed and one cancelled.
    let lanes = drawn(&html, "requests-2");
    assert_eq!(lanes.matches("<g>").count(), 64);
    assert!(lanes.contains("http_5xx: engine overloaded") && lanes.contains("class=\"k9\""));
    for needle in ["src=", "href=\"http", "url(", "@import", "<link", "<iframe", " style=\""] {
        assert!(!html.contains(needle), "{needle}");
    }
    let data = html.split("id=\"report-data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["metrics"]["run_id"], "20260101-000000-abcd");
    assert_eq!(data["metrics"]["stages"][2]["outcomes"], json!({"cancelled_deadline": 1, "http_5xx": 3, "ok": 60}));
    assert_eq!(data["others"][0]["label"], "sglang");
}

#[test]
fn the_verdict_says_the_best_point_with_its_error_rate_and_the_sums_agree() {
    let sample = sample();
    let md = load_md(&sample.report());
    let first = md.lines().find(|line| line.starts_with("**")).unwrap();
    for words in ["VALID. Best at c=4", "output tok/s", "TTFT p50 52.00 ms", "(n=40 < 459)", "no errors"] {
        assert!(first.contains(words), "{words}: {first}");
    }
    assert!(md.contains("c=16: 64 issued = ok 60, http_5xx 3, cancelled_deadline 1"), "{md}");
    // 3 failed of 63 that were not cancelled.
    assert!(md.contains("4.76 %"));
    assert!(md.contains("\u{2020} p99 of too few values, n=40 < 459"), "{md}");
}

#[test]
fn a_run_without_successes_has_no_latency_of_zero_anywhere() {
    let sample = all_failed();
    let report = sample.report();
    let console = load_console(&report, false, 80);
    assert!(console.contains("INVALID") && console.contains("TTFT                  –"), "{console}");
    let header: Vec<String> = summary_csv_header().split(',').map(str::to_owned).collect();
    let line = summary_csv_line(&report, 0).unwrap().unwrap();
    let cells: Vec<&str> = line.split(',').collect();
    assert_eq!(cells.len(), header.len());
    for (name, cell) in header.iter().zip(&cells) {
        let counted =
            ["timestamp", "backend", "concurrency", "total_requests", "duration_sec"].contains(&name.as_str());
        assert_eq!(cell.is_empty(), !counted, "{name} = {cell}");
    }
    for (name, text) in files(&report).unwrap() {
        let text = text.split("<script type=\"application/json\"").next().unwrap();
        assert!(!text.contains("TTFT p50 0") && !text.contains("NaN"), "{name}");
    }
    let html = load_html(&report).unwrap();
    assert!(!html.contains("id=\"headline\""), "no big figures of an INVALID run");
    for (name, text) in layout_files(&report, LayoutChoice::InfraBench).unwrap() {
        if has_extension(&name, "json") {
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(value["summary"].as_object().unwrap().values().all(Value::is_null), "{text}");
            assert_eq!(value["metadata"]["total_requests"], 10);
        }
    }
}

#[test]
fn the_summary_line_has_the_columns_others_know() {
    let sample = sample();
    assert_eq!(
        summary_csv_header(),
        "timestamp,backend,concurrency,total_requests,duration_sec,ttft_mean_ms,ttft_p99_ms,e2e_mean_ms,e2e_p99_ms,itl_mean_ms,itl_p99_ms,\
         tpot_mean_ms,system_tps,system_rps,prefill_speed,gpu_name,gpu_util_mean,gpu_util_max,mem_used_mean_mb,mem_used_max_mb,mem_total_mb,\
         power_mean_w,power_max_w,temp_mean_c,temp_max_c"
    );
    let report = sample.report();
    let line = summary_csv_line(&report, 0).unwrap().unwrap();
    let cells: Vec<&str> = line.split(',').collect();
    // TTFT is 50 to 54 ms in turn; the device is looked at from 0 to 9 s.
    assert_eq!(&cells[..4], ["20260101_000000", "vllm", "1", "20"]);
    assert_eq!(cells[5], "52");
    assert_eq!(&cells[15..], ["Test GPU", "50", "50", "1024", "1024", "16384", "200", "200", "44.5", "49"]);
    // Stages without marks have the device of the whole run.
    let second = summary_csv_line(&report, 1).unwrap().unwrap();
    assert_eq!(second.split(',').nth(16), Some("75"));
    assert_eq!(summary_csv_line(&report, 3).unwrap(), None);
}

#[test]
fn the_layouts_of_other_tools_have_their_names_and_fields() {
    let sample = sample();
    let report = sample.report();
    assert!(layout_files(&report, LayoutChoice::Perfprof).unwrap().is_empty());
    let infra: BTreeMap<String, String> =
        layout_files(&report, LayoutChoice::InfraBench).unwrap().into_iter().collect();
    assert_eq!(infra.len(), 6);
    let value: Value = serde_json::from_str(&infra["vllm_20260101_000000.json"]).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&value), ["metadata", "summary", "gpu", "per_request", "gpu_samples"]);
    assert_eq!(
        keys(&value["gpu"]),
        [
            "gpu_name",
            "samples_count",
            "gpu_util_mean",
            "gpu_util_max",
            "gpu_util_min",
            "memory_used_mean_mb",
            "memory_used_max_mb",
            "memory_total_mb",
            "power_mean_watts",
            "power_max_watts",
            "temp_mean_c",
            "temp_max_c",
        ]
    );
    assert_eq!(value["gpu"]["samples_count"], 10);
    assert_eq!(
        value["gpu_samples"][1],
        json!({"timestamp": 1_767_225_601.0, "gpu_util": 50.0, "memory_mb": 1024.0, "power_w": 200.0, "temp_c": 41.0})
    );
    assert_eq!(value["per_request"].as_array().unwrap().len(), 20, "warm-up is left out");
    assert_eq!(
        value["per_request"][1],
        json!({"request_id": 1, "input_tokens": 32, "output_tokens": 16, "ttft_ms": 51.0, "e2e_ms": 366.0, "tpot_ms": 21.0})
    );
    let csv = &infra["vllm_20260101_000000_requests.csv"];
    assert!(
        csv.starts_with("request_id,input_tokens,output_tokens,ttft_ms,e2e_ms,tpot_ms\r\n0,32,16,50,350,20\r\n"),
        "{csv}"
    );

    let pack: BTreeMap<String, String> = layout_files(&report, LayoutChoice::BenchPack).unwrap().into_iter().collect();
    let names: Vec<&str> = pack.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "overall_summary.json",
            "requests_all.csv",
            "requests_c1.csv",
            "requests_c16.csv",
            "requests_c4.csv",
            "summary_all.csv",
            "summary_c1.json",
            "summary_c16.json",
            "summary_c4.json",
        ]
    );
    assert!(pack["requests_c1.csv"].starts_with(
        "completion_tokens,concurrency,error,latency,prompt_tokens,req_id,status,total_tokens,ttft\r\n16,1,,0.351,32,0,200,48,0.05\r\n"
    ));
    assert!(pack["requests_c16.csv"].contains("\r\n,16,http_5xx: engine overloaded,0.005,32,5,503,,\r\n"));
    assert_eq!(pack["requests_all.csv"].lines().count(), 1 + 20 + 40 + 64);
    let summary: Value = serde_json::from_str(&pack["summary_c16.json"]).unwrap();
    assert_eq!((&summary["requests"], &summary["success"]), (&json!(64), &json!(60)));
    // Each answer generates for 301, 316 or 331 ms after its first token; 16 tokens each.
    let speed = summary["tps_tokens_per_sec"].as_f64().unwrap();
    assert!(speed > 16.0 / 0.331 && speed < 16.0 / 0.301, "{speed}");
    assert!(pack["summary_all.csv"].starts_with(
        "concurrency,requests,success,error_rate,elapsed_sec,qps,latency_avg,latency_p50,latency_p95,latency_p99,ttft_avg,ttft_p99,\
         total_completion_tokens,total_gen_time_sec,tps_tokens_per_sec\r\n"
    ));
    let overall: Value = serde_json::from_str(&pack["overall_summary.json"]).unwrap();
    assert_eq!(overall["best_qps_at_concurrency"], 16);
    assert!(overall["saturation_hint"].as_str().unwrap().contains("stops to grow at concurrency 8 "));
}

/// The sample with hostile text in every text field that comes from outside.
fn poisoned() -> Sample {
    let bad = |text: &str| format!("{text}{HOSTILE}");
    let mut sample = sample();
    let (metrics, context) = (&mut sample.metrics, &mut sample.context);
    for text in [&mut metrics.backend, &mut metrics.model, &mut metrics.endpoint, &mut metrics.workload.dataset] {
        *text = bad(text);
    }
    metrics.workload.notes = vec![bad("note")];
    metrics.workload.tokenizer = Some(bad("tokenizer"));
    metrics.targets = vec![TargetRecord { url: bad("http://x"), server: Some(bad("server")), http: bad("1.1") }];
    metrics.diagnostics = vec![Diagnostic::new(&bad("code"), Severity::Warn, bad("first"))];
    metrics.gpus[0].name = Some(bad("gpu"));
    for (stage, record) in metrics.stages.iter_mut().zip(&mut context.stages) {
        stage.plan.label = bad(&stage.plan.label);
        record.plan.label.clone_from(&stage.plan.label);
        stage.backend = format!("=cmd{HOSTILE}");
        stage.stopped = Some(bad("stopped"));
        stage.validity = Validity::from_reasons(vec![bad("reason")]);
        stage.outcomes.insert(bad("outcome"), 1);
        stage.token_sources.insert(bad("source"), 1);
        stage.measures.insert(bad("measure"), distribution(&bad("unit"), &[1.0]));
        for error in &mut stage.errors {
            (error.outcome, error.kind, error.first) = (bad("outcome"), bad("kind"), bad("first"));
        }
        for good in &mut stage.goodput {
            good.slo = bad("slo");
            good.broken.insert(bad("limit"), 3);
        }
        stage.client.stage.stamps = bad("stamps");
        let server = stage.server.as_mut().unwrap();
        server.gauges.insert(bad("gauge"), [1.0, 2.0]);
    }
    let saturation = metrics.saturation.as_mut().unwrap();
    (saturation.axis, saturation.best_because) = (bad("axis"), bad("because"));
    saturation.evidence = vec![bad("evidence")];
    saturation.best = Some(Peak { stage: metrics.stages[1].plan.label.clone(), value: 1.0 });
    context.levels[0].name = bad("slo");
    context.started_at = bad("time");
    let server = sample.server.as_mut().unwrap();
    server.dialect = bad("vllm");
    server.gauges.insert(bad("gauge"), vec![Some(1.0); 20]);
    sample.gpus[0].device.name = Some(bad("gpu"));
    for row in &mut sample.rows {
        row.finish_reason = Some(format!("=1+1{HOSTILE}"));
        row.notes = vec![format!("@note{HOSTILE}")];
        if let Some(failed) = &mut row.failed {
            (failed.message, failed.kind) = (format!("-1+1{HOSTILE}"), bad("kind"));
        }
    }
    sample
}

#[test]
fn hostile_text_breaks_no_format_of_a_load_test() {
    let sample = poisoned();
    let bad = format!("run{HOSTILE}");
    let mut report = sample.report();
    report.others = vec![OtherRun { label: &bad, metrics: &sample.metrics }];
    report.command = &bad;
    for (name, text) in files(&report).unwrap() {
        let body = match text.split_once("</header>") {
            Some((_, body)) if name == "report.html" => body.split("<script").next().unwrap().to_owned(),
            _ => text.clone(),
        };
        if !has_extension(name, "csv") {
            assert!(!body.contains(['\u{1b}', '\u{7}', '\0', '\u{202e}']), "{name}");
            assert!(!body.contains("<img") && !body.contains("<svg onload") && !body.contains("<script"), "{name}");
        }
        if name == "report.md" {
            assert!(text.lines().filter(|line| line.starts_with("| ")).all(|line| line.ends_with('|')));
        }
    }
    for csv in [stages_csv(&report).unwrap(), requests_csv(&report).unwrap()] {
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        for record in reader.records() {
            for cell in &record.unwrap() {
                let number = cell.parse::<f64>().is_ok();
                assert!(number || !cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\0']), "{cell}");
            }
        }
    }
    let line = summary_csv_line(&report, 0).unwrap().unwrap();
    assert!(line.starts_with("20260101_000000,\"'=cmd"), "{line}");
    for layout in [LayoutChoice::InfraBench, LayoutChoice::BenchPack] {
        for (name, text) in layout_files(&report, layout).unwrap() {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{name}");
            if has_extension(&name, "json") {
                assert!(serde_json::from_str::<Value>(&text).is_ok());
            }
        }
    }
    for width in [40, 80, 200] {
        let console = load_console(&report, false, width);
        assert!(console.lines().all(|line| line.chars().count() <= width), "{console}");
        assert!(!console.contains(['\u{1b}', '\u{7}', '\u{202e}']));
    }
    let Some(chromium) = chromium() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.html");
    std::fs::write(&path, load_html(&report).unwrap()).unwrap();
    let mut browser = Browser::start(&chromium);
    browser.open(&path);
    assert_quiet(&mut browser, &path);
    assert_eq!(browser.evaluate("typeof window.__pwned"), "undefined");
    assert_eq!(browser.evaluate("document.scripts.length"), 2);
    assert_eq!(browser.evaluate("document.querySelectorAll('img, iframe, object, embed, link, base, form').length"), 0);
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
}

#[test]
fn the_page_of_a_load_test_opens_quietly_and_shows_one_stage_at_a_time() {
    let Some(chromium) = chromium() else { return };
    let directory = tempfile::tempdir().unwrap();
    let sample = sample();
    let path = directory.path().join("report.html");
    std::fs::write(&path, load_html(&sample.report()).unwrap()).unwrap();
    let mut browser = Browser::start(&chromium);
    browser.open(&path);
    assert_quiet(&mut browser, &path);
    assert_eq!(browser.evaluate("document.querySelectorAll('[data-empty-chart]').length"), 0);
    let options =
        browser.evaluate("[...document.querySelector('[data-choices] select').options].map((o) => o.textContent)");
    assert_eq!(options, json!(["c=1", "c=4", "c=16"]));
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
    for scheme in ["light", "dark"] {
        browser.media("screen", scheme);
        assert!(browser.screenshot(&format!("load-{scheme}.png")) > 50_000);
    }
}

#[test]
fn runs_of_nothing_of_one_request_and_of_ten_thousand_stay_readable() {
    let mut nothing = run(Vec::new(), &[]);
    nothing.metrics.status = "interrupted".to_owned();
    for (name, text) in files(&nothing.report()).unwrap() {
        assert!(!text.is_empty(), "{name}");
    }
    let console = load_console(&nothing.report(), false, 80);
    assert!(console.contains("The run is interrupted"), "{console}");
    assert!(layout_files(&nothing.report(), LayoutChoice::BenchPack).unwrap().len() == 2);

    let one = run(vec![(plan(1, 1), vec![row(0, 0, 0, 50, 0, 0)], SECOND)], &[]);
    let md = load_md(&one.report());
    assert!(md.contains("At c=1") && md.contains("n=1 < 459"), "{md}");
    // One token has no time per token after the first, and no gap.
    assert!(!md.contains("TPOT 0") && load_html(&one.report()).unwrap().contains("data-empty-chart=\"gaps-0\""));

    let rows: Vec<RequestRow> =
        (0..10_000).map(|id| row(0, id, id * 1_000_000, 50 + id % 97, 60, 5 + id % 31)).collect();
    let many = run(vec![(plan(64, 10_000), rows, 20 * SECOND)], &[]);
    let html = load_html(&many.report()).unwrap();
    assert!(html.len() < 2_000_000, "{} bytes", html.len());
    assert!(html.contains("300 of 10\u{202f}000 requests are drawn"));
    assert!(load_md(&many.report()).len() < 100_000);
    // 10 000 values support p99 and p99.9.
    assert!(!html.contains("&lt; 459)"));
}

#[test]
fn each_symptom_has_a_hint_with_the_numbers_that_show_it() {
    let mut sample = sample();
    sample.metrics.validity = Validity::from_reasons(Vec::new());
    for stage in &mut sample.metrics.stages {
        stage.measures.insert("e2e_ms".to_owned(), distribution("ms", &[1000.0; 30]));
        stage.measures.insert("ttft_ms".to_owned(), distribution("ms", &[600.0; 30]));
        stage.server = None;
    }
    let hints = |sample: &Sample| load_md(&sample.report());
    let said = hints(&sample);
    assert!(
        said.contains("TTFT p50 is 60.0 % of the end-to-end time; the server does not say whether requests waited"),
        "{said}"
    );
    assert!(said.contains("the server's own metrics were not read"), "{said}");
    let heaviest = sample.metrics.stages.last_mut().unwrap();
    let gauges = BTreeMap::from([("waiting".to_owned(), [7.0, 12.0]), ("kv_usage".to_owned(), [0.8, 0.97])]);
    heaviest.server = Some(perfprof::record::load::metrics::ServerBlock {
        dialect: "vllm".to_owned(),
        gauges,
        counters: BTreeMap::from([("preemptions".to_owned(), 3.0)]),
        latencies_ms: BTreeMap::new(),
    });
    let said = hints(&sample);
    assert!(said.contains("7.000 waited there on average") && said.contains("--max-num-seqs"), "{said}");
    assert!(said.contains("the KV cache was up to 97.0 % full; 3.000 requests were preempted"), "{said}");
    assert!(!said.contains("the server's own metrics were not read"), "{said}");
    sample.metrics.validity = Validity::from_reasons(vec!["it is not".to_owned()]);
    assert!(!hints(&sample).contains("What to try"), "nothing is advised of an INVALID run");
}
