//! `perfprof stage1` as a user runs it: what it writes, and that the numbers agree with each other and with closed forms.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, finish, json_of, rows_of, text_of};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9)
}

pub(crate) fn schema_errors(metrics: &Value) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/metrics.stage1.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(metrics).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Every file of a run and nothing else.
const FILES: [&str; 16] = [
    "MANIFEST.json",
    "assumptions.md",
    "config.yaml",
    "context.json",
    "env.json",
    "inputs.yaml",
    "metrics.json",
    "operators.csv",
    "operators.md",
    "per_run.csv",
    "per_run.jsonl",
    "report.html",
    "report.md",
    "run.json",
    "spans.jsonl",
    "stakeholder_summary.md",
];

#[test]
fn a_run_writes_its_whole_directory_and_says_where() {
    let sandbox = Sandbox::new();
    let outcome = finish(sandbox.stage1(&["repeats=2"])).exits(0);
    let run = sandbox.the_run();
    let id = run.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(outcome.stdout.contains(&id) && outcome.stdout.contains("VALID"), "{}", outcome.stdout);
    assert!(outcome.stdout.trim_end().ends_with(&format!("tmp/stage1/{id}/report.html")), "{}", outcome.stdout);

    let mut files: Vec<String> =
        std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, FILES);
    for file in &files {
        assert!(std::fs::metadata(run.join(file)).unwrap().len() > 20, "{file} is empty");
    }

    let record = json_of(&run, "run.json");
    assert_eq!(
        (&record["status"], &record["error"], &record["command"]),
        (&json!("complete"), &Value::Null, &json!("stage1"))
    );
    assert_eq!(record["run_id"], *id);
    assert!(record["started_at"].as_str() < record["ended_at"].as_str());
    // Settings are shown as they were given, also those that merely have `key` in their name.
    let argv = record["argv"].as_array().unwrap();
    assert!(argv.contains(&json!("model.architecture.num_key_value_heads=2")), "{argv:?}");

    let metrics = json_of(&run, "metrics.json");
    assert_eq!(schema_errors(&metrics), [""; 0]);
    assert_eq!((&metrics["status"], &metrics["validity"]["status"]), (&json!("complete"), &json!("VALID")));
    assert_eq!(metrics["run_id"], *id);
    sandbox.run(&["runs", "verify", &id]).exits(0);
}

#[test]
fn json_on_stdout_is_the_summary_and_nothing_else() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.stage1(&["repeats=2"]);
    command.args(["--json", "-v"]);
    let outcome = finish(command).exits(0);
    let mut printed = outcome.json();
    let directory = printed.as_object_mut().unwrap().remove("run_dir").unwrap();
    assert_eq!(sandbox.path().join(directory.as_str().unwrap()), sandbox.the_run());
    assert_eq!(printed, json_of(&sandbox.the_run(), "metrics.json"));
    assert!(!outcome.stdout.contains("NaN"));
    assert!(outcome.stderr.contains("engine ready"), "the log goes to stderr: {}", outcome.stderr);
}

#[test]
fn the_parts_of_a_repeat_make_up_the_whole() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&["repeats=3", "batch=2", "infer.max_new_tokens=7", "warmup=2"])).exits(0);
    let run = sandbox.the_run();
    let rows = rows_of(&run);
    // Warm-ups leave no row; repeats with spans and without come in turn, and each pair is mirrored by the next.
    let spans: Vec<bool> = rows.iter().map(|row| row["spans"].as_bool().unwrap()).collect();
    assert_eq!(spans, [false, true, true, false, false, true]);
    for (index, row) in rows.iter().enumerate() {
        assert_eq!((&row["index"], &row["status"]), (&json!(index), &json!("ok")));
        assert_eq!((&row["batch"], &row["prompt_len"], &row["new_tokens"]), (&json!(2), &json!(8), &json!(7)));
        assert_eq!((&row["finish_reason"], &row["mode"]), (&json!("length"), &json!("single_pass")));
        let ms = |name: &str| number(&row[name]);
        let parts = ms("prefill_ms") + ms("decode_ms") + ms("remainder_ms");
        assert!((parts - ms("total_ms")).abs() <= 0.01 * ms("total_ms"), "{row}");
        assert!(ms("remainder_ms") >= 0.0 && ms("ttft_ms") >= ms("prefill_ms"));
        let gaps: Vec<f64> = row["itl_ms"].as_array().unwrap().iter().map(number).collect();
        assert_eq!(gaps.len(), 6);
        assert!(near(ms("tpot_ms"), gaps.iter().sum::<f64>() / 6.0));
        // Rates count the tokens of all sequences: 2 × 8 in prefill, 2 × 6 in decode, 2 × 7 in all.
        assert!(near(ms("prefill_tok_per_s"), 16.0 / ms("prefill_ms") * 1e3));
        assert!(near(ms("decode_tok_per_s"), 12.0 / ms("decode_ms") * 1e3));
        assert!(near(ms("total_tok_per_s"), 14.0 / ms("total_ms") * 1e3));
        assert_eq!(row["tokens"].as_array().unwrap().len(), 7);
        assert_eq!(row["tokens"], rows[0]["tokens"], "greedy decoding repeats itself");
    }
    // Headline measures are those of the repeats without spans.
    let metrics = json_of(&run, "metrics.json");
    let plain: Vec<f64> = rows.iter().filter(|row| row["spans"] == false).map(|row| number(&row["total_ms"])).collect();
    let total = &metrics["measures"]["total_ms"];
    assert_eq!((&total["n"], &total["unit"]), (&json!(3), &json!("ms")));
    assert!(near(number(&total["mean"]), plain.iter().sum::<f64>() / 3.0));
    assert_eq!(metrics["measures"]["itl_ms"]["n"], 18);
    assert_eq!(metrics["measures"]["span_overhead_ratio"]["n"], 3, "one ratio for each four steps of a repeat");
}

#[test]
fn operator_spans_add_up_to_the_closed_forms_and_to_their_phases() {
    let sandbox = Sandbox::new();
    // One decode step, since not every later one records spans.
    finish(sandbox.stage1(&["infer.max_new_tokens=2", "batch=2"])).exits(0);
    let run = sandbox.the_run();
    let metrics = json_of(&run, "metrics.json");
    let line: Value = serde_json::from_str(text_of(&run, "spans.jsonl").lines().next().unwrap()).unwrap();
    let list = |name: &str| line[name].as_array().unwrap().clone();
    let (kinds, kind, duration, parent) = (list("kinds"), list("kind"), list("duration_ns"), list("parent"));
    for (phase, steps) in [("prefill", 1), ("decode", 1)] {
        let of = |wanted: &str| -> Vec<usize> {
            (0..kind.len())
                .filter(|span| {
                    let kind = &kinds[kind[*span].as_u64().unwrap() as usize];
                    kind["kind"] == *wanted && kind["phase"] == *phase
                })
                .collect()
        };
        let sum = |spans: &[usize], field: &str, only_model: bool| -> u64 {
            spans
                .iter()
                .map(|span| &kinds[kind[*span].as_u64().unwrap() as usize])
                .filter(|kind| !only_model || kind["model_compute"] == true)
                .map(|kind| kind[field].as_u64().unwrap())
                .sum()
        };
        let (phases, operators) = (of("phase"), of("operator"));
        assert_eq!(phases.len(), steps, "{phase}");
        let block = metrics["phases"].as_array().unwrap().iter().find(|block| block["phase"] == *phase).unwrap();
        assert_eq!(block["steps"], steps);
        assert_eq!(block["model_flops"], sum(&operators, "flops", true), "{phase}");
        for field in ["weight_bytes", "kv_bytes", "activation_bytes"] {
            assert_eq!(block[field], sum(&operators, field, false), "{phase} {field}");
        }
        // Time: operators lie inside their phase, and what they leave is what the summary calls unattributed.
        let time = |spans: &[usize]| spans.iter().map(|span| duration[*span].as_u64().unwrap()).sum::<u64>() as f64;
        let rest = 1.0 - time(&operators) / time(&phases);
        let told = number(&metrics["reconciliation"]["unattributed_by_phase"][phase]);
        assert!((rest - told).abs() < 1e-6 && (0.0..1.0).contains(&told), "{phase}: {rest} {told}");
        let table: u64 = metrics["operators"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["phase"] == *phase && row["layer"].is_null())
            .map(|row| row["total_ns"].as_u64().unwrap())
            .sum();
        assert!((table as f64 - time(&operators)).abs() < 1.0, "{phase}: {table}");
    }
    assert!(parent.iter().all(|parent| parent.as_i64().unwrap() >= -1));
    // MFU and MBU of the only repeat without spans, by their definitions.
    let row = rows_of(&run).into_iter().find(|row| row["spans"] == false).unwrap();
    let decode = &metrics["phases"][1];
    let seconds = number(&row["decode_ms"]) * 1e-3;
    let mfu = number(&decode["model_flops"]) / (1e12 * seconds);
    let mbu = (number(&decode["weight_bytes"]) + number(&decode["kv_bytes"])) / (10e9 * seconds);
    assert!(near(number(&metrics["measures"]["mfu_decode"]["mean"]), mfu));
    assert!(near(number(&metrics["measures"]["mbu_decode"]["mean"]), mbu));
}

#[test]
fn two_passes_are_named_and_give_ttft_and_tpot_by_their_formula() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&["infer.mode=two_pass", "repeats=2", "infer.max_new_tokens=6"])).exits(0);
    let run = sandbox.the_run();
    for row in rows_of(&run) {
        assert_eq!(row["mode"], "two_pass");
        let tpot = (number(&row["total_ms"]) - number(&row["ttft_ms"])) / 5.0;
        assert!(near(number(&row["tpot_ms"]), tpot), "{row}");
    }
    let assumptions = text_of(&run, "assumptions.md");
    assert!(assumptions.contains("two-pass: (total of the full generation − TTFT) / (n − 1)"), "{assumptions}");
    assert!(assumptions.contains("each repeat generates twice"), "{assumptions}");
}

#[test]
fn the_same_seed_gives_the_same_prompts_and_the_same_sampled_tokens() {
    let sandbox = Sandbox::new();
    let sampled = ["infer.temperature=0.9", "infer.top_k=40", "infer.top_p=0.95", "infer.max_new_tokens=12"];
    let with_seed = |seed: &str| {
        let mut settings = sampled.to_vec();
        settings.push(seed);
        finish(sandbox.stage1(&settings)).exits(0);
        let run = sandbox.runs().pop().unwrap();
        let inputs = text_of(&run, "inputs.yaml");
        let hashes: Vec<String> =
            inputs.lines().filter(|line| line.contains("token_ids_sha256")).map(str::to_owned).collect();
        assert_eq!(hashes.len(), 1, "{inputs}");
        (hashes, rows_of(&run)[0]["tokens"].clone())
    };
    let first = with_seed("infer.seed=7");
    assert_eq!(with_seed("infer.seed=7"), first);
    let other = with_seed("infer.seed=8");
    assert!(other.0 != first.0 && other.1 != first.1);
}

#[test]
fn a_run_file_brings_its_cases_and_each_is_reported_for_itself() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "exp.yaml",
        "model: synthetic\nwarmup: 0\nrepeats: 2\ncases:\n  - {name: text, prompt: \"one two three\", new_tokens: 3}\n  - {prompt_tokens: 16, new_tokens: 1}\n",
    );
    let mut command = sandbox.command(&["stage1", "-c", "exp.yaml"]);
    command.args(crate::sandbox::TINY);
    let outcome = finish(command).exits(0);
    let run = sandbox.the_run();
    let metrics = json_of(&run, "metrics.json");
    let cases = metrics["cases"].as_array().unwrap();
    let names: Vec<&str> = cases.iter().map(|case| case["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["text", "p16_n1_b1"]);
    assert_eq!(
        (&cases[0]["prompt_len"], &cases[1]["prompt_len"]),
        (&json!(14), &json!(16)),
        "a token per byte and one at the beginning"
    );
    assert_eq!((&cases[0]["repeats"], &cases[1]["repeats"]), (&json!(2), &json!(2)));
    // One token has a first and no later one: its rate is unknown, not zero.
    assert_eq!(
        cases[1]["measures"]["tpot_ms"],
        json!({
            "unit": "ms", "n": 0, "mean": null, "std": null, "min": null, "p50": null, "p90": null, "p95": null,
            "p99": null, "max": null, "ci95": null
        })
    );
    assert_eq!(rows_of(&run).len(), 8);
    assert!(outcome.stdout.contains("text") && outcome.stdout.contains("p16_n1_b1"), "{}", outcome.stdout);
    assert!(metrics["diagnostics"].as_array().unwrap().iter().any(|found| found["code"] == "mixed_cases"));
}

#[test]
fn a_set_of_prompts_becomes_cases_and_its_file_is_recorded() {
    let sandbox = Sandbox::new();
    let file =
        "{\"id\":\"a\",\"prompt\":\"first prompt\",\"max_output_tokens\":2}\n{\"id\":\"b\",\"prompt\":\"second\"}\n";
    sandbox.write("prompts.jsonl", file);
    let mut command = sandbox.command(&["stage1"]);
    command.args(crate::sandbox::TINY).args(["dataset.root=prompts.jsonl", "infer.max_new_tokens=4", "repeats=1"]);
    finish(command).exits(0);
    let run = sandbox.the_run();
    let rows = rows_of(&run);
    let of = |case: &str| rows.iter().find(|row| row["case"] == *case).unwrap();
    assert_eq!((&of("a")["prompt_len"], &of("a")["new_tokens"]), (&json!(13), &json!(2)));
    assert_eq!((&of("b")["prompt_len"], &of("b")["new_tokens"]), (&json!(7), &json!(4)));
    let inputs = text_of(&run, "inputs.yaml");
    let hash = perfprof::record::manifest::sha256_hex(file.as_bytes());
    assert!(inputs.contains("prompts.jsonl") && inputs.contains(&hash), "{inputs}");
}

#[test]
fn every_combination_of_a_multirun_gets_a_run_of_its_own() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.stage1(&["batch=1,2", "infer.max_new_tokens=2,3"]);
    command.arg("-m");
    let outcome = finish(command).exits(0).says(&["run 1 of 4", "run 4 of 4"]);
    assert_eq!(outcome.stdout.matches("report.html").count(), 4);
    let mut met: Vec<(u64, u64)> = sandbox
        .runs()
        .iter()
        .map(|run| {
            let row = &rows_of(run)[0];
            (row["batch"].as_u64().unwrap(), row["new_tokens"].as_u64().unwrap())
        })
        .collect();
    met.sort_unstable();
    assert_eq!(met, [(1, 2), (1, 3), (2, 2), (2, 3)]);

    // A mistake in the last combination stops the first.
    let before = sandbox.runs().len();
    let mut command = sandbox.stage1(&["batch=1,0"]);
    command.arg("--multirun");
    finish(command).exits(1).says(&["`batch` is `0`"]);
    assert_eq!(sandbox.runs().len(), before);
}

#[test]
fn report_rebuilds_the_same_summary_from_the_rows_alone() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&["repeats=3", "batch=2"])).exits(0);
    let run = sandbox.the_run();
    let derived = [
        "metrics.json",
        "report.md",
        "operators.md",
        "stakeholder_summary.md",
        "assumptions.md",
        "operators.csv",
        "per_run.csv",
    ];
    let before = derived.map(|name| text_of(&run, name));
    for name in derived.iter().chain(&["report.html", "MANIFEST.json"]) {
        std::fs::remove_file(run.join(name)).unwrap();
    }
    sandbox.run(&["report", "latest"]).exits(0);
    for (name, text) in derived.iter().zip(before) {
        let rebuilt = text_of(&run, name);
        // The report says when it was made; the numbers must not depend on it.
        if ["metrics.json", "operators.csv", "per_run.csv", "operators.md"].contains(name) {
            assert_eq!(rebuilt, text, "{name}");
        } else {
            assert!(rebuilt.len().abs_diff(text.len()) < 40, "{name}");
        }
    }
    assert!(text_of(&run, "report.html").contains("<svg"));
    sandbox.run(&["runs", "verify", "latest"]).exits(0);
}

#[test]
fn activities_decide_whether_there_are_spans() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&["torch_profiler.activities=[]", "repeats=2"])).exits(0);
    let run = sandbox.the_run();
    assert_eq!(rows_of(&run).len(), 2);
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(metrics["operators"], json!([]));
    assert!(!run.join("spans.jsonl").exists());
    assert_eq!(schema_errors(&metrics), [""; 0]);

    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&["torch_profiler.activities=[]", "trace=spans", "repeats=2"])).exits(0);
    let run = sandbox.the_run();
    assert_eq!(rows_of(&run).len(), 4);
    assert_ne!(json_of(&run, "metrics.json")["operators"], json!([]));
}

#[test]
fn few_repeats_mark_the_percentiles_they_cannot_support() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&["repeats=2"])).exits(0);
    let run = sandbox.the_run();
    let report = text_of(&run, "report.md");
    assert!(report.contains("44 for p90, 90 for p95, 459 for p99"), "{report}");
    let html = text_of(&run, "report.html");
    assert!(html.contains("p99 needs 459 values at 99 % confidence; there are"), "p99 is greyed with its reason");
    let codes = json_of(&run, "metrics.json")["diagnostics"].to_string();
    assert!(codes.contains("few_repeats"), "{codes}");
}
