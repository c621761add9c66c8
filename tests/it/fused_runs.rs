//! `engine.ops=fused` and the planted slowdown, through the binary.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::sandbox::{Sandbox, finish, json_of, rows_of, text_of};

/// Modules of the operators of a run.
fn modules(run: &std::path::Path) -> BTreeSet<String> {
    let line: Value = serde_json::from_str(text_of(run, "spans.jsonl").lines().next().unwrap()).unwrap();
    let kinds = line["kinds"].as_array().unwrap().iter().filter(|kind| kind["kind"] == "operator");
    kinds.map(|kind| kind["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_fused_run_says_so_and_generates_what_the_reference_does() {
    let sandbox = Sandbox::new();
    // f32, so that no rounding stands between the two.
    let settings = ["model.dtype=f32", "device=cpu", "infer.max_new_tokens=12"];
    finish(sandbox.stage1(&settings)).exits(0);
    let reference = sandbox.the_run();
    let (tokens, formulas) =
        (rows_of(&reference)[0]["tokens"].clone(), json_of(&reference, "metrics.json")["phases"].clone());
    assert_eq!(json_of(&reference, "metrics.json")["model"]["ops"], "reference");
    finish(sandbox.stage1(&[&settings[..], &["engine.ops=fused"]].concat())).exits(0);
    let run = sandbox.runs().into_iter().find(|run| *run != reference).unwrap();
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(metrics["model"]["ops"], "fused");
    assert_eq!(rows_of(&run)[0]["tokens"], tokens);
    for (fused, reference) in metrics["phases"].as_array().unwrap().iter().zip(formulas.as_array().unwrap()) {
        for field in ["model_flops", "weight_bytes", "kv_bytes"] {
            assert_eq!(fused[field], reference[field], "the work is the same");
        }
    }
    let (found, before) = (modules(&run), modules(&reference));
    for name in ["qkv_proj", "gate_up_proj"] {
        assert!(found.contains(name) && !before.contains(name), "{found:?}");
    }
    for name in ["q_proj", "up_proj", "act_fn"] {
        assert!(!found.contains(name) && before.contains(name), "{found:?}");
    }
    assert!(text_of(&run, "assumptions.md").contains("operators: fused (cpu, "));
}

#[test]
fn formats_that_the_reference_multiplies_stand_in_the_record_of_a_fused_run() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&[
        "model.architecture.intermediate_size=128",
        "model.dtype=q5_0",
        "engine.ops=fused",
        "device=cpu",
    ]))
    .exits(0);
    let metrics = json_of(&sandbox.the_run(), "metrics.json");
    assert_eq!(metrics["model"]["ops"], "fused (reference products for q5_0)");
}

#[test]
fn fused_operators_are_refused_where_there_are_none() {
    let sandbox = Sandbox::new();
    // A GPU that is not there is no reason to run on the CPU, with whatever operators.
    finish(sandbox.stage1(&["engine.ops=fused", "device=cuda:99"])).exits(2).says(&["device=cuda:99"]);
    let graph = ["engine.ops=fused", "engine.cuda_graph=on", "device=cpu"];
    finish(sandbox.stage1(&graph)).exits(1).says(&["engine.cuda_graph=on", "CPU"]);
    finish(sandbox.stage1(&["engine.cuda_graph=on", "device=cuda:0"])).exits(1).says(&["engine.ops=fused"]);
    sandbox.made_no_run();
}

#[test]
fn a_run_slowed_on_purpose_says_so_and_a_malformed_slowdown_starts_nothing() {
    let sandbox = Sandbox::new();
    for ops in ["engine.ops=reference", "engine.ops=fused"] {
        let mut command = sandbox.stage1(&[ops, "device=cpu"]);
        command.env("PERFPROF_SLOW_OPERATOR", "down_proj:0.30");
        finish(command).exits(0);
    }
    for run in sandbox.runs() {
        let metrics = json_of(&run, "metrics.json");
        let codes: Vec<&Value> =
            metrics["diagnostics"].as_array().unwrap().iter().map(|found| &found["code"]).collect();
        assert!(codes.contains(&&json!("slowed_on_purpose")), "{codes:?}");
    }
    let other = Sandbox::new();
    let mut command = other.stage1(&[]);
    command.env("PERFPROF_SLOW_OPERATOR", "down_proj=1.3");
    finish(command).exits(1).says(&["PERFPROF_SLOW_OPERATOR=down_proj=1.3", "down_proj:0.30"]);
    other.made_no_run();
}
