//! Quality of the predictions as a user measures it: closed forms for models that know nothing, and the order of formats.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use serde_json::Value;

use crate::sandbox::{Sandbox, finish, json_of, text_of};

/// `quality` of a run of a small model of random weights over a text of random words.
fn quality(settings: &[&str]) -> Value {
    let sandbox = Sandbox::new();
    let model = format!("model.path={}", sandbox.model(|_, _| {}).display());
    let mut state = 7u32;
    let words: Vec<String> = (0..96)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("t{}", (state >> 16) % 258)
        })
        .collect();
    let text = format!("quality.text={}", sandbox.write("words.txt", words.join(" ")).display());
    let mut arguments = vec![
        model.as_str(),
        &text,
        "quality.window=48",
        "repeats=1",
        "warmup=0",
        "prompt_tokens=4",
        "infer.max_new_tokens=2",
    ];
    arguments.extend(settings);
    finish(sandbox.stage1(&arguments)).exits(0);
    json_of(&sandbox.the_run(), "metrics.json")["quality"].clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_same_weights_diverge_by_nothing_and_fewer_bits_by_more() {
    let same = quality(&["model.dtype=f32"]);
    assert_eq!(number(&same["kl_mean_nats"]), 0.0, "{same}");
    assert_eq!(number(&same["top1_agreement"]), 1.0);
    assert_eq!((same["tokens"].as_u64(), same["predicted"].as_u64()), (Some(96), Some(94)));
    let [q8, q4] = ["q8_0", "q4_0"].map(|format| quality(&[&format!("model.dtype={format}")]));
    let (fine, coarse) = (number(&q8["kl_mean_nats"]), number(&q4["kl_mean_nats"]));
    assert!(0.0 < fine && fine < coarse, "q8_0 {fine}, q4_0 {coarse}");
    assert_eq!(same["token_ids_sha256"], q4["token_ids_sha256"]);
    // Pinsker: the divergence bounds how far any loss can move on average, so perplexities of near models are near.
    let near = (number(&q8["perplexity"]) / number(&same["perplexity"])).ln().abs();
    assert!(near < 0.1, "{near}");
}

#[test]
fn seeded_weights_of_another_format_are_not_called_the_same() {
    let sandbox = Sandbox::new();
    let settings = ["quality=embedded", "quality.tokens=8", "model.dtype=q8_0", "repeats=1", "warmup=0"];
    finish(sandbox.stage1(&settings)).exits(0);
    let run = sandbox.the_run();
    let found = json_of(&run, "metrics.json")["quality"].clone();
    assert!(found["kl_mean_nats"].is_null() && found["error"].as_str().unwrap().contains("other weights"), "{found}");
    assert!(text_of(&run, "report.md").contains("Quality of the predictions"));
}

#[test]
fn a_missing_text_is_refused_before_anything_runs_and_none_is_null() {
    let sandbox = Sandbox::new();
    let refused = finish(sandbox.stage1(&["quality.text=nowhere.txt", "repeats=1"])).exits(1);
    assert!(refused.stderr.contains("nowhere.txt"), "{}", refused.stderr);
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&["repeats=1", "warmup=0"])).exits(0);
    let run = sandbox.the_run();
    assert!(json_of(&run, "metrics.json")["quality"].is_null());
    assert!(!run.join("quality.json").exists());
    assert!(!text_of(&run, "report.md").contains("Quality of the predictions"));
}

#[test]
fn a_reference_that_does_not_fit_leaves_the_perplexity() {
    let found = quality(&["quality.reference_dtype=null", "model.dtype=q8_0"]);
    assert!(
        number(&found["perplexity"]) > 1.0 && found["kl_mean_nats"].is_null() && found["reference_dtype"].is_null(),
        "{found}"
    );
    let ends = found["perplexity_ci95"].as_array().unwrap();
    assert!(number(&ends[0]) <= number(&found["perplexity"]) && number(&found["perplexity"]) <= number(&ends[1]));
}
