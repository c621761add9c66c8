//! `perfprof estimate` on published models: the numbers a reader can check against model cards and data sheets.

use perfprof::commands::estimate::{Estimate, EstimateOptions, estimate};
use perfprof::diagnostics::ExitStatus;
use perfprof::estimate::architecture::Architecture;
use perfprof::estimate::format::Format;
use perfprof::estimate::roofline::Bound;

fn llama_3_8b() -> EstimateOptions {
    let config = include_str!("../data/hf_configs/llama-3-8b.json");
    let config = serde_json::from_str(config).expect("test data is JSON");
    EstimateOptions {
        architecture: Architecture::from_hf_config(&config).expect("test data is a model"),
        name: "llama-3-8b".to_owned(),
        dtype: Format::BF16,
        kv_dtype: Format::BF16,
        batch: 1,
        prompt_tokens: 1024,
        new_tokens: 129,
        // NVIDIA A100 SXM 80 GB data sheet: 312 TFLOP/s dense bf16, 2039 GB/s, 400 W.
        peak_flops_per_s: Some(312e12),
        peak_bytes_per_s: Some(2.039e12),
        memory_bytes: Some(80 << 30),
        power_w: Some(400.0),
        price_usd_per_hour: Some(1.8),
    }
}

fn of(options: &EstimateOptions) -> Estimate {
    estimate(options).expect("the options are valid")
}

fn close(actual: Option<f64>, expected: f64) {
    let actual = actual.expect("known");
    assert!((actual - expected).abs() <= 1e-9 * expected, "{actual} is not {expected}");
}

#[test]
fn prefill_is_bound_by_compute_and_decode_by_memory() {
    let estimate = of(&llama_3_8b());
    let [prefill, decode] = &estimate.phases[..] else { panic!("two phases") };
    // 1024 tokens · 13,958,643,712 + LM head 1,050,673,152 + 524,800 pairs · 32 · 4 · 4096 FLOPs.
    let flops = 1024u64 * 13_958_643_712 + 1_050_673_152 + 524_800 * 524_288;
    assert_eq!((prefill.phase, prefill.cost.model_flops, prefill.cost.steps), ("prefill", flops, 1));
    assert_eq!(prefill.roofline.bound, Some(Bound::Compute));
    close(prefill.roofline.time_s, flops as f64 / 312e12);
    close(prefill.tok_per_s, 1024.0 * 312e12 / flops as f64);
    // 128 steps read 15,010,390,016 bytes of weights each; caches of 1025 … 1152 positions read (139,328 in all) and 128 written.
    let bytes = 128 * 15_010_390_016u64 + (139_328 + 128) * 131_072;
    assert_eq!((decode.phase, decode.cost.model_bytes(), decode.cost.steps), ("decode", bytes, 128));
    assert_eq!(decode.roofline.bound, Some(Bound::Memory));
    close(decode.roofline.time_s, bytes as f64 / 2.039e12);
    // One 16 GB model on 2 TB/s decodes at some 135 tokens per second, as everybody measures at best.
    assert!((130.0..140.0).contains(&decode.tok_per_s.expect("both peaks are known")));
}

#[test]
fn energy_and_price_follow_from_the_time() {
    let estimate = of(&llama_3_8b());
    let seconds = estimate.total_ms.expect("both peaks are known") / 1e3;
    close(estimate.energy_j, 400.0 * seconds);
    close(estimate.joules_per_million_tokens, 400.0 * seconds / 129.0 * 1e6);
    close(estimate.usd_per_million_tokens, 1.8 / 3600.0 * seconds / 129.0 * 1e6);
}

#[test]
fn what_fits_is_what_is_left_beside_the_weights() {
    let estimate = of(&llama_3_8b());
    assert_eq!(estimate.parameters, 8_030_261_248);
    assert_eq!(estimate.memory.kv_cache_bytes, 1152 * 131_072);
    assert_eq!(estimate.fits, Some(true));
    let small = EstimateOptions { memory_bytes: Some(8 << 30), ..llama_3_8b() };
    let small = of(&small);
    assert_eq!((small.fits, small.max_batch, small.max_context), (Some(false), Some(0), Some(0)));
    let quantized = EstimateOptions { memory_bytes: Some(8 << 30), dtype: Format::Q4_1, ..llama_3_8b() };
    assert_eq!(of(&quantized).fits, Some(true));
}

#[test]
fn unknown_hardware_gives_null_and_says_so() {
    let options = EstimateOptions { peak_flops_per_s: None, memory_bytes: None, power_w: None, ..llama_3_8b() };
    let estimate = of(&options);
    assert_eq!((estimate.total_ms, estimate.energy_j, estimate.fits, estimate.max_batch), (None, None, None, None));
    assert_eq!(estimate.usd_per_million_tokens, None);
    assert!(estimate.notes.iter().any(|note| note.contains("without both peaks")));
    let json = serde_json::to_value(&estimate).expect("an estimate is JSON");
    assert!(json["phases"][1]["time_s"].is_null() && json["phases"][1]["memory_time_s"].is_number());
}

#[test]
fn one_token_has_no_decode_phase() {
    let estimate = of(&EstimateOptions { new_tokens: 1, ..llama_3_8b() });
    assert_eq!(estimate.phases.len(), 1);
    assert_eq!(estimate.memory.kv_cache_bytes, 1024 * 131_072);
    assert!(estimate.total_ms.is_some());
}

#[test]
fn a_context_beyond_the_model_is_noted() {
    let estimate = of(&EstimateOptions { prompt_tokens: 9000, ..llama_3_8b() });
    assert!(estimate.notes.iter().any(|note| note.contains("9128 tokens exceeds the 8192")), "{:?}", estimate.notes);
}

#[test]
fn nonsense_is_refused_with_the_key() {
    let refused = |options: EstimateOptions| {
        let failure = estimate(&options).expect_err("refused");
        assert_eq!(failure.status(), ExitStatus::Usage);
        failure.to_string()
    };
    assert_eq!(refused(EstimateOptions { batch: 0, ..llama_3_8b() }), "`batch` must be at least 1");
    assert_eq!(refused(EstimateOptions { new_tokens: 0, ..llama_3_8b() }), "`new_tokens` must be at least 1");
    let negative = EstimateOptions { power_w: Some(-1.0), ..llama_3_8b() };
    assert_eq!(refused(negative), "`power_w` = -1 must be a positive number");
    let huge = EstimateOptions { batch: u32::MAX, prompt_tokens: u32::MAX, new_tokens: u32::MAX, ..llama_3_8b() };
    assert!(refused(huge).contains("more work than can be counted"));
    let mut broken = llama_3_8b();
    broken.architecture.num_kv_heads = 5;
    assert_eq!(refused(broken), "the shape of `llama-3-8b` is not valid");
}

#[test]
fn the_largest_countable_request_does_not_overflow() {
    // Debug builds panic on overflow: take the first batch that is accepted, and count it.
    let long = EstimateOptions { prompt_tokens: 1 << 18, new_tokens: 1 << 18, ..llama_3_8b() };
    let accepted = (0..32)
        .rev()
        .map(|power| EstimateOptions { batch: 1 << power, ..long.clone() })
        .find(|options| estimate(options).is_ok())
        .expect("one sequence of half a million tokens can be counted");
    assert!(accepted.batch > 1 && accepted.batch < 1 << 31);
    for (prompt_tokens, new_tokens) in [(1, 1), (u32::MAX, 1), (1, u32::MAX)] {
        let _ = estimate(&EstimateOptions { prompt_tokens, new_tokens, ..accepted.clone() });
    }
}
