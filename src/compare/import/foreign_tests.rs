//! Result files of other tools: what becomes of each field, worked out by hand, and what hostile files do.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::foreign::{Format, read, subject};
use super::{ImportError, definition};
use crate::compare::subject::{MeasureValues, Subject, SubjectKind, fact};
use crate::diagnostics::ValidityStatus;

fn import(document: &Value) -> Subject {
    subject("results/of.json", document.to_string().as_bytes()).unwrap()
}

fn lines(documents: &[Value]) -> Subject {
    let text: Vec<String> = documents.iter().map(Value::to_string).collect();
    subject("of.jsonl", text.join("\n").as_bytes()).unwrap()
}

#[track_caller]
fn measure<'a>(subject: &'a Subject, case: Option<&str>, name: &str) -> &'a MeasureValues {
    let found = subject.measures.iter().find(|values| values.case.as_deref() == case && values.name == name);
    found.unwrap_or_else(|| {
        let names: Vec<_> = subject.measures.iter().map(|values| (values.case.as_deref(), &values.name)).collect();
        panic!("no `{name}` of {case:?} in {names:?}")
    })
}

fn has(subject: &Subject, name: &str) -> bool {
    subject.measures.iter().any(|values| values.name == name)
}

fn told<'a>(subject: &'a Subject, name: &str) -> Option<&'a str> {
    subject.facts.get(name).and_then(Option::as_deref)
}

#[track_caller]
fn close(found: &[f64], expected: &[f64]) {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(near), "{found:?} is not {expected:?}");
}

fn counted(subject: &Subject, code: &str) -> u64 {
    subject.diagnostics.iter().filter(|found| found.code == code).map(|found| found.count).sum()
}

fn llama_bench(prompt: u64, generated: u64, threads: u64, rates: &[f64]) -> Value {
    json!({
        "build_commit": "8cf427ff", "build_number": 5163, "cpu_info": "A CPU", "gpu_info": "", "backends": "CPU",
        "model_filename": "models/a.Q4_1.gguf", "model_type": "llama 135M Q4_1", "model_size": 97_000_000, "n_threads": threads,
        "type_k": "f16", "type_v": "f16", "flash_attn": -1, "use_mmap": true, "tensor_split": "0.00",
        "n_prompt": prompt, "n_gen": generated, "n_depth": 0, "test_time": "2025-04-24T11:58:50Z",
        "avg_ns": 72_135_640, "stddev_ns": 1_453_752, "avg_ts": rates.iter().sum::<f64>() / rates.len() as f64, "stddev_ts": 1.0,
        "samples_ns": rates.iter().map(|rate| (prompt + generated) as f64 * 1e9 / rate).collect::<Vec<_>>(), "samples_ts": rates
    })
}

#[test]
fn each_test_of_llama_bench_is_a_case_with_its_repetitions() {
    let document = json!([llama_bench(128, 0, 2, &[300.0, 320.0]), llama_bench(0, 64, 2, &[100.0, 104.0, 102.0])]);
    let found = import(&document);
    assert_eq!((found.kind, found.tool.as_str()), (SubjectKind::Imported, "llama-bench 8cf427ff (5163)"));
    let (prefill, decode) =
        (measure(&found, Some("pp128"), "prefill_tok_per_s"), measure(&found, Some("tg64"), "decode_tok_per_s"));
    assert_eq!(
        (prefill.values.as_slice(), decode.values.as_slice()),
        (&[300.0, 320.0][..], &[100.0, 104.0, 102.0][..])
    );
    assert_eq!((decode.runs.as_slice(), decode.reported.is_some()), (&[0, 0, 0][..], false));
    assert_eq!((found.measures.len(), found.outcomes.ok, found.diagnostics.as_slice()), (2, 5, &[][..]));
    assert_eq!((told(&found, fact::MODEL), told(&found, fact::THREADS)), (Some("a.Q4_1.gguf"), Some("2")));
    assert_eq!((told(&found, fact::KV_DTYPE), told(&found, fact::GPU)), (Some("f16"), None));
    assert_eq!((told(&found, "flash_attn"), told(&found, "use_mmap")), (Some("-1"), Some("true")));
    assert_eq!(
        (told(&found, "case:pp128.prompt_tokens"), told(&found, "case:pp128.new_tokens")),
        (Some("128"), Some("0"))
    );
    // llama-bench names the format after a field of the file that need not be true: it is not taken for the format of the weights.
    assert_eq!((told(&found, fact::DTYPE), told(&found, "model_type")), (None, Some("llama 135M Q4_1")));
    let by_line = lines(document.as_array().unwrap());
    assert_eq!((by_line.measures, by_line.facts), (found.measures, found.facts));
}

#[test]
fn a_sweep_of_llama_bench_names_its_cases_by_what_was_swept() {
    let sweep =
        json!([llama_bench(0, 64, 1, &[57.0]), llama_bench(0, 64, 2, &[101.0]), llama_bench(0, 64, 2, &[103.0])]);
    let found = import(&sweep);
    assert_eq!(measure(&found, Some("tg64 threads=1"), "decode_tok_per_s").values, [57.0]);
    let twice = measure(&found, Some("tg64 threads=2"), "decode_tok_per_s");
    assert_eq!((twice.values.as_slice(), twice.runs.as_slice()), (&[101.0, 103.0][..], &[0, 1][..]));
    assert_eq!(told(&found, "case:tg64 threads=1.engine.threads"), Some("1"));
    assert_eq!(told(&found, fact::THREADS), None);
    assert_eq!(told(&found, fact::MODEL), Some("a.Q4_1.gguf"));
}

#[test]
fn llama_bench_without_rates_is_read_from_times_and_without_either_as_stated() {
    let mut times = llama_bench(128, 0, 2, &[300.0]);
    times.as_object_mut().unwrap().remove("samples_ts");
    times["samples_ns"] = json!([64e6, 0, null]);
    let found = import(&json!([times]));
    // 128 tokens in 64 ms; no rate comes from no time.
    assert_eq!(measure(&found, Some("pp128"), "prefill_tok_per_s").values, [2000.0]);
    assert_eq!(counted(&found, "value_not_taken"), 2);

    let mut old = llama_bench(512, 128, 2, &[300.0]);
    for key in ["samples_ts", "samples_ns"] {
        old.as_object_mut().unwrap().remove(key);
    }
    old["n_depth"] = json!(256);
    let found = import(&json!([old]));
    let stated = measure(&found, Some("pp512+tg128 @ d256"), "input_output_tok_per_s");
    assert_eq!((stated.values.len(), stated.reported.as_ref().unwrap().mean), (0, Some(300.0)));
}

fn vllm() -> Value {
    json!({
        "date": "20261122-120500", "endpoint_type": "vllm", "backend": "vllm", "label": null, "model_id": "org/m", "tokenizer_id": "t/m",
        "num_prompts": 3, "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 4, "duration": 2.0, "completed": 2, "failed": 1,
        "total_input_tokens": 16, "total_output_tokens": 6, "request_throughput": 1.0, "request_goodput": null,
        "output_throughput": 3.0, "total_token_throughput": 11.0,
        "input_lens": [8, 8, 8], "output_lens": [3, 3, 0], "ttfts": [0.1, 0.2, 0.0],
        "itls": [[0.01, 0.03], [0.02, 0.02], []], "errors": ["", "", "HTTP 500"],
        "mean_ttft_ms": 150.0, "median_ttft_ms": 150.0, "std_ttft_ms": 50.0, "p99_ttft_ms": 199.0,
        "mean_tpot_ms": 20.0, "median_tpot_ms": 20.0, "std_tpot_ms": 0.0, "p99_tpot_ms": 20.0,
        "mean_itl_ms": 20.0, "median_itl_ms": 20.0, "std_itl_ms": 7.0, "p99_itl_ms": 30.0,
        "mean_e2el_ms": 190.0, "median_e2el_ms": 190.0, "std_e2el_ms": 50.0, "p99_e2el_ms": 239.0
    })
}

#[test]
fn requests_of_vllm_become_values_and_failed_ones_do_not() {
    let found = import(&vllm());
    assert_eq!(found.kind, SubjectKind::Load);
    close(&measure(&found, None, "ttft_ms").values, &[100.0, 200.0]);
    close(&measure(&found, None, "tpot_ms").values, &[20.0, 20.0]);
    close(&measure(&found, None, "e2e_ms").values, &[140.0, 240.0]);
    // Two gaps for three tokens: one token a chunk, so these are gaps between tokens.
    close(&measure(&found, None, "itl_ms").values, &[10.0, 30.0, 20.0, 20.0]);
    assert_eq!(measure(&found, None, "output_tok_per_s").values, [3.0]);
    // Prompt and generated tokens: not the rate that stage1 calls total.
    assert_eq!(measure(&found, None, "input_output_tok_per_s").values, [11.0]);
    assert!(!has(&found, "goodput_per_s") && !has(&found, "total_tok_per_s") && !has(&found, "inter_chunk_ms"));
    assert_eq!((found.outcomes.ok, found.outcomes.failed, found.diagnostics.len()), (2, 1, 0));
    assert_eq!((told(&found, fact::MODEL), told(&found, fact::CONCURRENCY)), (Some("m"), Some("4")));
    assert_eq!((told(&found, "request_rate"), told(&found, fact::PROMPT_TOKENS)), (Some("inf"), Some("8")));
    assert_eq!((told(&found, "input_tokens_total"), told(&found, "output_tokens_total")), (Some("16"), Some("6")));
}

#[test]
fn gaps_between_chunks_of_several_tokens_are_no_gaps_between_tokens() {
    let mut document = vllm();
    document["output_lens"] = json!([5, 3, 0]);
    document["mean_tpot_ms"] = json!(15.0);
    let found = import(&document);
    assert!(!has(&found, "itl_ms"));
    close(&measure(&found, None, "inter_chunk_ms").values, &[10.0, 30.0, 20.0, 20.0]);
    // 40 ms after the first token for the four that follow it.
    close(&measure(&found, None, "tpot_ms").values, &[10.0, 20.0]);
    assert_eq!(told(&found, fact::NEW_TOKENS), Some("3 to 5, mean 4.00"));
}

#[test]
fn a_summary_without_details_is_what_the_file_states_with_the_deviation_of_a_sample() {
    let mut document = vllm();
    for key in ["input_lens", "output_lens", "ttfts", "itls", "errors"] {
        document.as_object_mut().unwrap().remove(key);
    }
    document["completed"] = json!(5);
    let found = import(&document);
    let ttft = measure(&found, None, "ttft_ms");
    let stated = ttft.reported.as_ref().unwrap();
    assert_eq!((ttft.values.len(), stated.n, stated.mean, stated.p99), (0, 5, Some(150.0), Some(199.0)));
    // numpy.std divides by n: 50 · √(5/4).
    close(&[stated.std.unwrap()], &[55.901_699_437_494_74]);
    // How many gaps there were, and whether they are between tokens, the file does not say.
    let gaps = measure(&found, None, "inter_chunk_ms").reported.as_ref().unwrap();
    assert_eq!((gaps.mean, gaps.n, gaps.std), (Some(20.0), 0, None));
    assert!(!has(&found, "itl_ms"));
}

#[test]
fn a_file_that_contradicts_itself_is_said_to() {
    let mut document = vllm();
    document["mean_ttft_ms"] = json!(170.0);
    let found = import(&document);
    assert_eq!(counted(&found, "summary_differs"), 1);
    close(&measure(&found, None, "ttft_ms").values, &[100.0, 200.0]);
}

#[test]
fn what_is_no_value_is_counted_and_left_out() {
    let text = vllm().to_string().replace("[0.1,0.2,0.0]", "[NaN,0.2,0.0]").replace("[0.02,0.02]", "[-0.02,null]");
    let found = subject("f.json", text.as_bytes()).unwrap();
    close(&measure(&found, None, "ttft_ms").values, &[200.0]);
    assert_eq!(counted(&found, "not_a_number"), 1);
    // One TTFT, two gaps, and what needs them: the E2E of both requests and the TPOT of the second.
    assert_eq!(counted(&found, "value_not_taken"), 6);
}

#[test]
fn appended_results_become_cases_by_what_differs() {
    let with = |concurrency: u64, ttft: f64| {
        let mut document = vllm();
        document["max_concurrency"] = json!(concurrency);
        document["ttfts"] = json!([ttft, ttft, 0.0]);
        document["mean_ttft_ms"] = json!(ttft * 1e3);
        document
    };
    let found = lines(&[with(1, 0.1), with(8, 0.4), with(8, 0.5)]);
    close(&measure(&found, Some("concurrency=1"), "ttft_ms").values, &[100.0, 100.0]);
    let twice = measure(&found, Some("concurrency=8"), "ttft_ms");
    close(&twice.values, &[400.0, 400.0, 500.0, 500.0]);
    assert_eq!(twice.runs, [0, 0, 1, 1]);
    assert_eq!(told(&found, "case:concurrency=8.concurrency"), Some("8"));
    assert_eq!(told(&found, "request_rate"), Some("inf"));
}

#[test]
fn a_load_test_in_which_everything_failed_is_invalid_and_no_error() {
    let mut document = vllm();
    for (key, value) in
        [("completed", json!(0)), ("failed", json!(3)), ("output_lens", json!([0, 0, 0])), ("ttfts", json!([0, 0, 0]))]
    {
        document[key] = value;
    }
    document["errors"] = json!(["a", "b", "c"]);
    document["itls"] = json!([[], [], []]);
    for key in ["request_throughput", "output_throughput", "total_token_throughput"] {
        document.as_object_mut().unwrap().remove(key);
    }
    for statistic in ["mean", "median", "std", "p99"] {
        for name in ["ttft", "tpot", "itl", "e2el"] {
            document[format!("{statistic}_{name}_ms")] = json!(0.0);
        }
    }
    let found = import(&document);
    assert_eq!((found.measures.len(), found.outcomes.failed), (0, 3));
    assert_eq!(found.validity.status, ValidityStatus::Invalid);
}

#[test]
fn latency_and_throughput_of_vllm_keep_their_own_meaning() {
    let found = import(&json!({"avg_latency": 0.25, "latencies": [0.2, 0.3], "percentiles": {"50": 0.25}}));
    close(&measure(&found, None, "total_ms").values, &[200.0, 300.0]);
    assert!(told(&found, definition::TOTAL).unwrap().contains("batch"));
    let found = import(&json!({
        "elapsed_time": 10.0, "num_requests": 100, "total_num_tokens": 38_400, "requests_per_second": 10.0, "tokens_per_second": 3840.0
    }));
    assert_eq!(measure(&found, None, "input_output_tok_per_s").values, [3840.0]);
    assert_eq!((told(&found, "requests"), told(&found, "tokens_total")), (Some("100"), Some("38400")));
}

fn sglang() -> Value {
    json!({
        "backend": "sglang", "dataset_name": "random", "request_rate": 1.5, "max_concurrency": null, "random_input_len": 4,
        "random_output_len": 3, "random_range_ratio": 0.0, "duration": 2.0, "completed": 2, "total_input_tokens": 8,
        "total_output_tokens": 5, "total_output_tokens_retokenized": 5, "request_throughput": 1.0, "input_throughput": 4.0,
        "output_throughput": 2.5, "total_throughput": 6.5, "mean_e2e_latency_ms": 12.0, "median_e2e_latency_ms": 12.0,
        "std_e2e_latency_ms": 1.0, "mean_ttft_ms": 16.0, "median_ttft_ms": 16.0, "std_ttft_ms": 4.0, "p99_ttft_ms": 20.0,
        "mean_tpot_ms": 2.0, "median_tpot_ms": 2.0, "std_tpot_ms": 0.5, "mean_itl_ms": 2.0, "median_itl_ms": 2.0, "p99_itl_ms": 3.0,
        "accept_length": null, "server_info": {"internal": {"x": 1}, "model_path": "/models/Qwen3-8B", "dtype": "bfloat16", "tp_size": 2}
    })
}

#[test]
fn sglang_ends_its_latency_with_the_stream_and_says_so() {
    let found = import(&sglang());
    assert_eq!(measure(&found, None, "stream_end_ms").reported.as_ref().unwrap().mean, Some(12.0));
    assert!(!has(&found, "e2e_ms"));
    assert_eq!(measure(&found, None, "tpot_ms").reported.as_ref().unwrap().mean, Some(2.0));
    assert!(told(&found, definition::TPOT).unwrap().starts_with("(end of the stream"));
    assert_ne!(told(&found, definition::TPOT), told(&import(&vllm()), definition::TPOT));
    assert_eq!((told(&found, fact::MODEL), told(&found, fact::DTYPE)), (Some("Qwen3-8B"), Some("bfloat16")));
    assert_eq!((told(&found, "request_rate"), told(&found, "dataset")), (Some("1.5"), Some("random")));
    let at_once = sglang().to_string().replace("\"request_rate\":1.5", "\"request_rate\":Infinity");
    assert_eq!(told(&subject("s.jsonl", at_once.as_bytes()).unwrap(), "request_rate"), Some("inf"));
}

#[test]
fn details_of_sglang_give_tpot_by_the_common_definition() {
    let mut document = sglang();
    for (key, value) in [
        ("input_lens", json!([4, 4, 4])),
        ("output_lens", json!([3, 2, 0])),
        ("ttfts", json!([0.012, 0.020, 0.0])),
        ("itls", json!([[0.003, 0.005], [0.006], []])),
        ("errors", json!(["", "", "boom"])),
        ("mean_itl_ms", json!(14.0 / 3.0)),
    ] {
        document[key] = value;
    }
    let found = import(&document);
    close(&measure(&found, None, "ttft_ms").values, &[12.0, 20.0]);
    close(&measure(&found, None, "tpot_ms").values, &[4.0, 6.0]);
    close(&measure(&found, None, "itl_ms").values, &[3.0, 5.0, 6.0]);
    // The mean the file states for TPOT is of another definition; it is no contradiction.
    assert_eq!(counted(&found, "summary_differs"), 0, "{:?}", found.diagnostics);
    assert_eq!(told(&found, definition::TPOT), told(&import(&vllm()), definition::TPOT));
}

fn aiperf() -> Value {
    json!({
        "schema_version": "1.4", "aiperf_version": "0.13.0", "was_cancelled": false,
        "request_count": {"unit": "requests", "avg": 97.0}, "error_request_count": {"unit": "requests", "avg": 3.0},
        "request_throughput": {"unit": "requests/sec", "avg": 9.7}, "output_token_throughput": {"unit": "tokens/sec", "avg": 2483.2},
        "time_to_first_token": {"unit": "ms", "avg": 120.5, "p50": 110.0, "p90": 180.0, "p95": 200.0, "p99": 250.0, "min": 75.0, "max": 260.0, "std": 30.0},
        "request_latency": {"unit": "s", "avg": 2.0, "p50": 1.9, "p99": 2.5},
        "inter_token_latency": {"unit": "ms", "avg": 12.0, "p50": 11.0}, "inter_chunk_latency": {"unit": "ms", "avg": 6.0},
        "output_token_throughput_per_user": {"unit": "tokens/sec/user", "avg": 83.0},
        "input_sequence_length": {"unit": "tokens", "avg": 550.0, "min": 550.0, "max": 550.0},
        "output_sequence_length": {"unit": "tokens", "avg": 25.6, "min": 10.0, "max": 40.0},
        "input_config": {"endpoint": {"model_names": ["Qwen/Qwen3-0.6B"], "api_key": "sk-secret"}, "loadgen": {"concurrency": 8, "request_rate": null}}
    })
}

#[test]
fn aiperf_calls_tpot_inter_token_latency_and_its_units_are_brought_to_ms() {
    let found = import(&aiperf());
    let mean = |name: &str| measure(&found, None, name).reported.as_ref().unwrap().mean;
    assert_eq!(
        (mean("ttft_ms"), mean("e2e_ms"), mean("tpot_ms"), mean("inter_chunk_ms")),
        (Some(120.5), Some(2000.0), Some(12.0), Some(6.0))
    );
    assert_eq!(measure(&found, None, "output_tok_per_s").values, [2483.2]);
    assert!(!has(&found, "itl_ms"));
    assert_eq!((found.tool.as_str(), found.outcomes.ok, found.outcomes.failed), ("aiperf 0.13.0", 97, 3));
    assert_eq!((told(&found, fact::MODEL), told(&found, fact::CONCURRENCY)), (Some("Qwen3-0.6B"), Some("8")));
    assert_eq!(
        (told(&found, fact::PROMPT_TOKENS), told(&found, fact::NEW_TOKENS)),
        (Some("550"), Some("10 to 40, mean 25.60"))
    );
    assert!(!format!("{found:?}").contains("sk-secret"));
}

#[test]
fn a_unit_nobody_knows_is_no_value() {
    let mut document = aiperf();
    document["time_to_first_token"]["unit"] = json!("fortnights");
    assert!(!has(&import(&document), "ttft_ms"));
}

#[test]
fn genai_perf_has_an_inter_token_latency_of_its_own() {
    let mut document = aiperf();
    document.as_object_mut().unwrap().remove("aiperf_version");
    document["input_config"] = json!({"model": ["m"], "perf_analyzer": {"stimulus": {"concurrency": 4}}});
    let found = import(&document);
    assert_eq!(found.tool, "genai-perf");
    assert!(has(&found, "itl_per_response_ms") && !has(&found, "tpot_ms"));
    assert_eq!((told(&found, fact::MODEL), told(&found, fact::CONCURRENCY)), (Some("m"), Some("4")));
}

#[test]
fn records_of_aiperf_count_measured_requests_only() {
    let record = |phase: &str, ttft: f64, error: Value, cancelled: bool| {
        json!({
            "metadata": {"session_num": 1, "request_start_ns": 1, "request_end_ns": 2, "benchmark_phase": phase, "was_cancelled": cancelled},
            "metrics": {
                "time_to_first_token": {"value": ttft, "unit": "ms"}, "request_latency": {"value": 0.3, "unit": "s"},
                "inter_chunk_latency": {"value": [4.5, 5.5], "unit": "ms"}, "inter_token_latency": {"value": 5.0, "unit": "ms"},
                "input_sequence_length": {"value": 550, "unit": "tokens"}, "output_sequence_length": {"value": 3, "unit": "tokens"}
            },
            "error": error
        })
    };
    let found = lines(&[
        record("warmup", 900.0, Value::Null, false),
        record("profiling", 250.0, Value::Null, false),
        record("profiling", 260.0, Value::Null, false),
        record("profiling", 1.0, json!({"code": 503}), false),
        record("profiling", 1.0, json!({"code": 499}), true),
    ]);
    assert_eq!(measure(&found, None, "ttft_ms").values, [250.0, 260.0]);
    assert_eq!(measure(&found, None, "e2e_ms").values, [300.0, 300.0]);
    assert_eq!(measure(&found, None, "tpot_ms").values, [5.0, 5.0]);
    assert_eq!(measure(&found, None, "inter_chunk_ms").values, [4.5, 5.5, 4.5, 5.5]);
    assert_eq!((found.outcomes.ok, found.outcomes.failed, found.outcomes.interrupted), (2, 1, 1));
    assert_eq!((told(&found, fact::PROMPT_TOKENS), told(&found, "requests")), (Some("550"), Some("4")));
}

fn guidellm() -> Value {
    let summary = |mean: f64| json!({"successful": {"mean": mean, "median": mean, "std_dev": 1.0, "min": 1.0, "max": 9.0, "count": 2, "percentiles": {"p99": 9.0}}});
    let benchmark = |streams: u64| {
        json!({
            "config": {"strategy": {"type_": "concurrent", "streams": streams}, "backend": {"model": "org/m"}},
            "metrics": {
                "request_totals": {"successful": 2, "errored": 1, "incomplete": 0, "total": 3},
                "requests_per_second": summary(2.5), "output_tokens_per_second": summary(50.0), "tokens_per_second": summary(600.0),
                "time_to_first_token_ms": summary(12.0), "inter_token_latency_ms": summary(6.8),
                "time_per_output_token_ms": summary(7.0), "request_latency": summary(0.2)
            },
            "requests": {"successful": [
                {"time_to_first_token_ms": 11.0, "inter_token_latency_ms": 6.0, "time_per_output_token_ms": 6.5, "request_latency": 0.1, "prompt_tokens": 64, "output_tokens": 16},
                {"time_to_first_token_ms": 13.0, "inter_token_latency_ms": null, "time_per_output_token_ms": 7.5, "request_latency": 0.3, "prompt_tokens": 64, "output_tokens": 1}
            ]}
        })
    };
    json!({"metadata": {"guidellm_version": "0.8.1"}, "benchmarks": [benchmark(1), benchmark(4)]})
}

#[test]
fn guidellm_calls_tpot_inter_token_latency_and_something_else_tpot() {
    let found = import(&guidellm());
    let case = Some("concurrency=4");
    assert_eq!(measure(&found, case, "ttft_ms").values, [11.0, 13.0]);
    assert_eq!(measure(&found, case, "tpot_ms").values, [6.0]);
    assert_eq!(measure(&found, case, "tpot_incl_first_ms").values, [6.5, 7.5]);
    close(&measure(&found, case, "stream_end_ms").values, &[100.0, 300.0]);
    assert_eq!(measure(&found, case, "request_per_s").values, [2.5]);
    assert_eq!((found.outcomes.ok, found.outcomes.failed), (4, 2));
    assert_eq!((told(&found, fact::MODEL), told(&found, fact::PROMPT_TOKENS)), (Some("m"), Some("64")));
    // A request of one token has no gap: that is no missing value.
    assert_eq!(counted(&found, "value_not_taken"), 0);
}

#[test]
fn a_sample_of_requests_does_not_stand_for_all() {
    let mut document = guidellm();
    document["benchmarks"][0]["metrics"]["request_totals"]["successful"] = json!(500);
    let found = import(&document);
    let ttft = measure(&found, Some("concurrency=1"), "ttft_ms");
    assert_eq!((ttft.values.len(), ttft.reported.as_ref().unwrap().mean), (0, Some(12.0)));
}

#[test]
fn every_run_of_hyperfine_is_a_process_and_failed_ones_do_not_count() {
    let result = |command: &str, codes: Value| {
        json!({"command": command, "mean": 0.2, "stddev": 0.1, "median": 0.2, "user": 0.15, "system": 0.01, "min": 0.1, "max": 0.3,
               "times": [0.1, 0.2, 0.3], "exit_codes": codes, "parameters": {"threads": "2"}})
    };
    let found = import(&json!({"results": [result("a", json!([0, 0, 0]))]}));
    let wall = measure(&found, None, "wall_s");
    assert_eq!((wall.values.as_slice(), wall.runs.as_slice()), (&[0.1, 0.2, 0.3][..], &[0, 1, 2][..]));
    assert_eq!(measure(&found, None, "cpu_user_s").reported.as_ref().unwrap().mean, Some(0.15));
    assert_eq!((told(&found, "command"), told(&found, "parameter.threads")), (Some("a"), Some("2")));

    let found = import(&json!({"results": [result("a", json!([0, 0, 0])), result("b", json!([0, 1, null]))]}));
    assert_eq!(measure(&found, Some("command=b"), "wall_s").values, [0.1]);
    assert_eq!((found.outcomes.ok, found.outcomes.failed), (4, 2));
}

#[test]
fn repetitions_of_google_benchmark_are_values_and_its_aggregates_are_not() {
    let row = |kind: &str, time: f64| {
        json!({"name": "BM_x/8_mean", "run_name": "BM_x/8", "run_type": kind, "threads": 1, "iterations": 10, "real_time": time,
               "cpu_time": time / 2.0, "time_unit": "us", "items_per_second": 5.0})
    };
    let mut failed = row("iteration", 0.0);
    failed["error_occurred"] = json!(true);
    let found = import(&json!({
        "context": {"host_name": "my-secret-host", "num_cpus": 2, "mhz_per_cpu": 2600, "cpu_scaling_enabled": false, "library_build_type": "release"},
        "benchmarks": [row("iteration", 1.5), row("iteration", 1.75), failed, row("aggregate", 9.0)]
    }));
    let time = measure(&found, Some("BM_x/8"), "real_time_ns");
    assert_eq!((time.values.as_slice(), time.runs.as_slice()), (&[1500.0, 1750.0][..], &[0, 0][..]));
    assert_eq!((found.outcomes.ok, found.outcomes.failed), (2, 1));
    assert!(!format!("{found:?}").contains("my-secret-host"));
}

#[test]
fn what_is_not_recognised_is_described_and_the_formats_are_named() {
    for (text, found) in [
        ("{}", "an empty JSON object"),
        (
            "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7}",
            "a JSON object with `a`, `b`, `c`, `d`, `e`, `f` and 1 more keys",
        ),
        ("[1,2]", "a JSON list of 2 elements"),
        ("17", "a JSON scalar"),
    ] {
        let error = subject("x.json", text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), format!("`x.json`: {found} of no format perfprof compares"));
        assert!(error.hint().unwrap().contains("llama-bench"));
    }
    let mixed = format!("{}\n{}", vllm(), sglang());
    let error = subject("x.json", mixed.as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "`x.json`: document 1 is vllm bench serve, but document 2 is sglang bench_serving");
}

#[test]
fn a_known_format_without_a_value_is_an_error_that_names_it() {
    for document in [json!({"results": [{"command": "a", "times": []}]}), json!({"avg_latency": 1.0, "latencies": []})]
    {
        let error = subject("x.json", document.to_string().as_bytes()).unwrap_err();
        assert!(matches!(error, ImportError::Unusable { .. }), "{error}");
    }
}

#[test]
fn traces_and_files_of_perfprof_are_recognised_as_such() {
    for (document, format) in [
        (json!({"traceEvents": []}), Format::ChromeTrace),
        (json!([{"ph": "X", "ts": 1}]), Format::ChromeTrace),
        (json!({"schema_version": 1, "command": "stage1", "run_id": "r"}), Format::PerfprofMetrics),
        (json!({"schema_version": 9, "case": "c", "repeat": 0, "status": "ok"}), Format::PerfprofRows),
        (json!({"ttft_s": 0.1, "tpot_s": 0.1, "dt_full_s": 1.0}), Format::PerfprofRows),
    ] {
        assert_eq!(read("x", document.to_string().as_bytes()).unwrap().format, format);
        assert!(subject("x", document.to_string().as_bytes()).is_err());
    }
}

/// Work that grew with the square of the results would make this test take minutes.
#[test]
fn a_file_of_thousands_of_results_is_read() {
    let entries: Vec<Value> = (0..4000).map(|prompt| llama_bench(prompt, 1, 2, &[300.0])).collect();
    let found = import(&Value::Array(entries));
    assert_eq!((found.measures.len(), told(&found, fact::THREADS)), (4000, Some("2")));
    let row = |name: usize| json!({"name": format!("b{name}"), "real_time": 1.0, "cpu_time": 1.0, "time_unit": "ns"});
    let found = import(&json!({"context": {}, "benchmarks": (0..4000).map(row).collect::<Vec<_>>()}));
    assert_eq!(found.measures.len(), 8000);
}

fn samples() -> Vec<Value> {
    vec![
        json!([llama_bench(128, 0, 2, &[300.0, 320.0]), llama_bench(0, 64, 1, &[100.0])]),
        vllm(),
        sglang(),
        aiperf(),
        guidellm(),
        json!({"results": [{"command": "a", "times": [0.1, 0.2], "exit_codes": [0, null], "parameters": {"n": "1"}}]}),
        json!({"context": {"host_name": "h"}, "benchmarks": [{"name": "b", "real_time": 1.0, "cpu_time": 1.0, "time_unit": "ms"}]}),
        json!({"metadata": {"request_start_ns": 1}, "metrics": {"ttft": {"value": 1.0, "unit": "ms"}, "inter_chunk_latency": {"value": [1], "unit": "ns"}}}),
        json!({"avg_latency": 0.25, "latencies": [0.2, 0.3]}),
        json!({"elapsed_time": 1, "num_requests": 2, "requests_per_second": 2, "tokens_per_second": 3}),
    ]
}

/// Every value of the tree, to be replaced.
fn nodes(value: &mut Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter_mut().map(nodes).sum(),
        Value::Object(map) => map.values_mut().map(nodes).sum(),
        _ => 0,
    }
}

fn replace(value: &mut Value, place: &mut usize, with: &Value) {
    if *place == 0 {
        *value = with.clone();
    }
    *place = place.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, place, with)),
        Value::Object(map) => map.values_mut().for_each(|item| replace(item, place, with)),
        _ => {}
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[a-z\\u{0}-\\u{1f}é]{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        "[a-z_]{0,6}",
        Just("results".to_owned()),
        Just("benchmarks".to_owned()),
        Just("metrics".to_owned()),
        Just("ttfts".to_owned())
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// What the rest of a comparison relies on.
fn holds(subject: &Subject) {
    for values in &subject.measures {
        assert!(values.values.iter().all(|value| value.is_finite() && *value >= 0.0), "{values:?}");
        assert_eq!(values.values.len(), values.runs.len());
        assert!(!values.values.is_empty() || values.reported.is_some());
    }
    let mut keys: Vec<_> = subject.measures.iter().map(|values| (&values.case, &values.name)).collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count, "a measure of a case stands twice");
}

proptest! {
    #[test]
    fn any_json_is_imported_or_refused(value in any_json()) {
        if let Ok(found) = subject("x.json", value.to_string().as_bytes()) {
            holds(&found);
        }
    }

    /// Any value of a good document replaced by any other.
    #[test]
    fn any_change_of_a_good_document_is_survived(which in 0..10_usize, place: prop::sample::Index, with in any_json()) {
        let mut document = samples().swap_remove(which);
        let mut at = place.index(nodes(&mut document));
        replace(&mut document, &mut at, &with);
        if let Ok(found) = subject("x.json", document.to_string().as_bytes()) {
            holds(&found);
        }
    }

    #[test]
    fn any_damage_to_the_text_of_a_good_document_is_survived(which in 0..10_usize, cut: prop::sample::Index, at: prop::sample::Index, byte: u8) {
        let mut bytes = samples().swap_remove(which).to_string().into_bytes();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(found) = subject("x.json", &bytes) {
            holds(&found);
        }
    }
}
