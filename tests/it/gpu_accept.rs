//! The acceptance script of a GPU, its judgements above all, against a stand-in for the binary: what it calls a PASS must be one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// Answers each command with a file, and the exit code beside it.
const FAKE_PERFPROF: &str = r#"#!/bin/sh
set -u
here=$(dirname "$0")
echo "$*" >>"$here/calls"
case "$*" in
    *doctor*) name=doctor ;;
    *"kernels check"*) name=kernels ;;
    *"kernels bench"*) name=bench ;;
    *stage2*) name=stage2 ;;
    *trace=cupti*) name=trace ;;
    *analyze*) name=analyze ;;
    *engine.cuda_graph=on*) name=graph ;;
    *stage1*) name=stage1 ;;
    *) exit 9 ;;
esac
cat "$here/$name.json"
if [ -f "$here/$name.code" ]; then exit "$(cat "$here/$name.code")"; fi
"#;

struct Fake {
    folder: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let fake = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let binary = fake.path("perfprof");
        fs::write(&binary, FAKE_PERFPROF).expect("the folder is writable");
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        fake
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn answer(&self, name: &str, value: &Value) {
        fs::write(self.path(&format!("{name}.json")), value.to_string()).expect("the folder is writable");
    }
    fn code(&self, name: &str, code: u8) {
        fs::write(self.path(&format!("{name}.code")), code.to_string()).expect("the folder is writable");
    }
    /// Runs the steps and gives the lines of `accept.json`.
    fn run(&self, steps: &str) -> (Output, Vec<Value>) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gpu/accept.py");
        let output = Command::new("python3")
            .arg(script)
            .args(["--only", steps, "--seconds", "60"])
            .arg("--perfprof")
            .arg(self.path("perfprof"))
            .arg("--out")
            .arg(self.path("out"))
            // No nvidia-smi and no sanitizer of the machine that runs the tests.
            .env("PATH", format!("{}:/usr/bin:/bin", self.folder.path().display()))
            .output()
            .expect("python3 was there a moment ago");
        let text =
            fs::read_to_string(self.path("out/accept.json")).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let value: Value = serde_json::from_str(&text).expect("the script writes JSON");
        (output, value["lines"].as_array().expect("a list of lines").clone())
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn python() -> bool {
    let there = Command::new("/usr/bin/python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: no /usr/bin/python3");
    }
    there
}

fn verdict<'a>(lines: &'a [Value], what: &str) -> &'a str {
    let found: Vec<&Value> =
        lines.iter().filter(|line| line["what"].as_str().is_some_and(|text| text.contains(what))).collect();
    assert_eq!(found.len(), 1, "one line says `{what}`: {lines:#?}");
    found[0]["verdict"].as_str().expect("every line has a verdict")
}

fn measure(value: f64) -> Value {
    json!({ "unit": "ms", "n": 5, "p50": value })
}

/// A run of Llama-3-8B at 90 % of a copy bandwidth of 4 TB/s: 16 GB a step in 16 / (0.9 × 4000) s.
fn run_of(share: f64, host_vs_device: f64) -> Value {
    let bytes = 16e9;
    let step_ms = bytes / (share * 4e12) * 1e3;
    json!({
        "run_dir": "/nowhere",
        "measures": {
            "tpot_ms": measure(step_ms * 1.01), "decode_ms": measure(step_ms * 127.0), "prefill_ms": measure(50.0),
            "total_ms": measure(step_ms * 127.0 + 51.0), "remainder_ms": measure(1.0), "mfu_prefill": measure(0.65),
            "mbu_decode": measure(0.8), "ttft_ms": measure(51.0), "energy_j": measure((step_ms * 127.0 + 51.0) * 0.5),
            "tracer_overhead_ratio": measure(0.03),
        },
        "hardware": { "measured": { "copy_bytes_per_s": { "value": 4e12 } } },
        "phases": [
            { "phase": "prefill", "time_ms": 50.0, "weight_bytes": 1, "kv_bytes": 1, "activation_bytes": 1 },
            { "phase": "decode", "time_ms": step_ms * 127.0, "weight_bytes": bytes * 127.0 - 2e9, "kv_bytes": 1e9, "activation_bytes": 1e9 },
        ],
        "reconciliation": { "phases_vs_total": 0.0, "host_vs_device": host_vs_device },
        "quality": { "kl_mean_nats": 1e-4, "top1_agreement": 0.99, "error": null },
        "diagnostics": [],
    })
}

#[test]
fn kernels_pass_only_if_every_case_did() {
    if !python() {
        return;
    }
    let fake = Fake::new();
    let case = |ok: bool| json!({ "kernel": "gemv", "case": "batch 1", "max_error": 0.5, "tolerance": 0.1, "ok": ok });
    fake.answer("kernels", &json!({ "dtype": "bf16", "seed": 7, "results": [case(true), case(true)] }));
    let (output, lines) = fake.run("kernels");
    assert!(output.status.success(), "{output:?}");
    assert!(lines.iter().all(|line| line["verdict"] == "PASS") && lines.len() == 2, "{lines:?}");
    fake.answer("kernels", &json!({ "dtype": "bf16", "seed": 7, "results": [case(true), case(false)] }));
    fake.code("kernels", 3);
    let (output, lines) = fake.run("kernels");
    assert_eq!(output.status.code(), Some(1));
    assert!(lines.iter().all(|line| line["verdict"] == "FAIL"), "{lines:?}");
    assert!(
        lines[0]["detail"]
            .as_str()
            .is_some_and(|text| text.contains("1 of 2 cases, seed 7; first: gemv batch 1: error 0.5"))
    );
    // No case at all is no proof.
    fake.answer("kernels", &json!({ "results": [] }));
    assert!(fake.run("kernels").1.iter().all(|line| line["verdict"] == "FAIL"));
    // A binary that dies is a FAIL with its last words, not a crash of the script.
    fs::write(fake.path("kernels.json"), "").expect("the folder is writable");
    fake.code("kernels", 2);
    assert!(fake.run("kernels").1.iter().all(|line| line["verdict"] == "FAIL"));
}

#[test]
fn the_goals_of_the_study_are_judged_by_bytes_and_device_time() {
    if !python() {
        return;
    }
    let fake = Fake::new();
    fake.answer("stage1", &run_of(0.3, 0.002));
    fake.answer("graph", &run_of(0.9, 0.002));
    let (_, lines) = fake.run("study");
    assert_eq!(verdict(&lines, "85 % of the copy bandwidth"), "PASS");
    let share = lines.iter().find_map(|line| line["share"].as_f64()).expect("the line has its value");
    // 127 steps of 16 GB at 90 % of 4 TB/s, from the parts of the phase: the closed form.
    assert!((share - 0.9).abs() < 1e-9, "{share}");
    assert_eq!(verdict(&lines, "60 % MFU"), "PASS");
    assert_eq!(verdict(&lines, "remainder = total"), "PASS");
    assert_eq!(verdict(&lines, "synchronised host"), "PASS");
    assert_eq!(verdict(&lines, "energy of each repeat"), "PASS");
    // There is no PyTorch beside the tests, and what did not run must not look as if it had passed.
    assert_eq!(verdict(&lines, "against transformers"), "NOT RUN");

    fake.answer("graph", &run_of(0.8, 0.02));
    let (_, lines) = fake.run("study");
    assert_eq!(verdict(&lines, "85 % of the copy bandwidth"), "FAIL");
    assert_eq!(verdict(&lines, "synchronised host"), "FAIL");
}

#[test]
fn unknown_figures_are_failures_and_not_passes() {
    if !python() {
        return;
    }
    let fake = Fake::new();
    fake.answer(
        "stage1",
        &json!({ "run_dir": "/nowhere", "measures": {}, "reconciliation": {}, "quality": null, "diagnostics": [] }),
    );
    fake.answer(
        "graph",
        &json!({ "run_dir": "/nowhere", "measures": {}, "reconciliation": {}, "quality": null, "diagnostics": [] }),
    );
    let (_, lines) = fake.run("study,logits");
    for what in
        ["85 % of the copy bandwidth", "60 % MFU", "remainder = total", "synchronised host", "energy of each repeat"]
    {
        assert_eq!(verdict(&lines, what), "FAIL", "{what}");
    }
    let logits: Vec<&Value> = lines.iter().filter(|line| line["step"] == "logits").collect();
    assert!(logits.len() == 3 && logits.iter().all(|line| line["verdict"] == "FAIL"), "{logits:?}");
}

#[test]
fn a_trace_must_link_every_kernel_and_drop_nothing() {
    if !python() {
        return;
    }
    let fake = Fake::new();
    let coverage = |linked: u64| json!({ "coverage": { "launches": 100, "kernels": 100, "linked_kernels": linked } });
    fake.answer("trace", &run_of(0.9, 0.0));
    fake.answer("analyze", &coverage(100));
    let (_, lines) = fake.run("trace");
    assert_eq!((verdict(&lines, "linked to its launch"), verdict(&lines, "dropped nothing")), ("PASS", "PASS"));
    assert_eq!(verdict(&lines, "what the tracer costs"), "INFO");
    fake.answer("analyze", &coverage(99));
    let mut lossy = run_of(0.9, 0.0);
    lossy["diagnostics"] =
        json!([{ "code": "trace_records_dropped", "severity": "warn", "count": 3, "first": "3 records" }]);
    fake.answer("trace", &lossy);
    let (_, lines) = fake.run("trace");
    assert_eq!((verdict(&lines, "linked to its launch"), verdict(&lines, "dropped nothing")), ("FAIL", "FAIL"));
}

#[test]
fn kernels_under_ncu_need_counters_and_a_missing_permission_is_no_failure_of_ours() {
    if !python() {
        return;
    }
    let fake = Fake::new();
    let ncu = fake.path("ncu");
    fs::write(&ncu, "#!/bin/sh\n").expect("the folder is writable");
    fs::set_permissions(&ncu, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let kernel = |outcome: &str, counters: Value| json!({ "outcome": outcome, "counters": counters });
    let judged = |kernels: Value| {
        fake.answer("stage2", &json!({ "kernels": kernels }));
        let (_, lines) = fake.run("ncu");
        verdict(&lines, "under ncu").to_owned()
    };
    assert_eq!(judged(json!([kernel("ok", json!({ "duration_ns": 5 })), kernel("ok", json!({}))])), "FAIL");
    assert_eq!(judged(json!([kernel("ok", json!({ "duration_ns": 5 }))])), "PASS");
    assert_eq!(judged(json!([kernel("failed", Value::Null)])), "FAIL");
    assert_eq!(judged(json!([kernel("no_permission", Value::Null)])), "NOT RUN");
    assert_eq!(judged(json!([])), "FAIL");
}

#[test]
fn steps_without_their_tools_are_not_run() {
    if !python() {
        return;
    }
    let fake = Fake::new();
    let (output, lines) = fake.run("sanitizer");
    assert_eq!(lines[0]["verdict"], "NOT RUN");
    assert_eq!(output.status.code(), Some(1), "an acceptance with gaps is none");
    let table = fs::read_to_string(fake.path("out/accept.md")).expect("the table is written");
    assert!(table.contains("0 passed, 0 failed, 1 not run"), "{table}");
}
