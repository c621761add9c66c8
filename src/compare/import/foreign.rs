//! Result files of other tools, told apart by what is in them and never by their name.

use serde_json::Value;

use super::builder::{Builder, Entry, clipped};
use super::error::ImportError;
use super::json::{self, Documents};
use super::trace::stem;
use super::{aiperf, google_benchmark, guidellm, hyperfine, llama_bench, sglang, vllm};
use crate::compare::subject::{Subject, SubjectKind};
use crate::diagnostics::Validity;

/// The formats, for messages.
pub const SUPPORTED: &str = "perfprof runs, `metrics.json` and rows; llama-bench JSON and JSONL; `vllm bench serve`, `latency` and `throughput` JSON; \
    SGLang `bench_serving` JSONL; AIPerf and genai-perf `profile_export` JSON and JSONL; guidellm JSON; hyperfine JSON; google-benchmark JSON; and traces of \
    Nsight Systems and the PyTorch profiler";

/// What a JSON file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `llama-bench -o json` or `jsonl`.
    LlamaBench,
    /// `vllm bench serve --save-result`.
    VllmServe,
    /// `vllm bench latency --output-json`.
    VllmLatency,
    /// `vllm bench throughput --output-json`.
    VllmThroughput,
    /// `sglang.bench_serving --output-file`.
    SglangServing,
    /// `profile_export_aiperf.json`.
    AiperfSummary,
    /// `profile_export_genai_perf.json`.
    GenaiPerf,
    /// `profile_export.jsonl` of AIPerf: one line a request.
    AiperfRecords,
    /// `guidellm benchmark` JSON.
    Guidellm,
    /// `hyperfine --export-json`.
    Hyperfine,
    /// `--benchmark_format=json` of google-benchmark.
    GoogleBenchmark,
    /// `per_run.jsonl` of a stage1 run, of any version.
    PerfprofRows,
    /// `metrics.json` of a perfprof command.
    PerfprofMetrics,
    /// A trace of the PyTorch profiler or Chrome.
    ChromeTrace,
}

impl Format {
    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::LlamaBench => "llama-bench",
            Self::VllmServe => "vllm bench serve",
            Self::VllmLatency => "vllm bench latency",
            Self::VllmThroughput => "vllm bench throughput",
            Self::SglangServing => "sglang bench_serving",
            Self::AiperfSummary => "AIPerf summary",
            Self::GenaiPerf => "genai-perf summary",
            Self::AiperfRecords => "AIPerf records",
            Self::Guidellm => "guidellm",
            Self::Hyperfine => "hyperfine",
            Self::GoogleBenchmark => "google-benchmark",
            Self::PerfprofRows => "rows of a stage1 run",
            Self::PerfprofMetrics => "metrics.json of perfprof",
            Self::ChromeTrace => "Chrome-trace JSON",
        }
    }
}

/// A parsed result file of a known format.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignFile {
    /// Name of the file, without directories.
    pub file: String,
    /// What it is.
    pub format: Format,
    documents: Documents,
}

impl ForeignFile {
    /// The documents in the file: one, or one a line.
    pub fn documents(&self) -> &[Value] {
        &self.documents.values
    }
}

/// Parses `bytes`, the content of a file called `file`, and says what it is.
///
/// # Errors
/// If it is no JSON, or of no format that is read.
pub fn read(file: &str, bytes: &[u8]) -> Result<ForeignFile, ImportError> {
    let documents = json::parse(file, bytes)?;
    let unrecognised = |found: String| ImportError::Unrecognised { file: file.to_owned(), found };
    let mut formats = documents.values.iter().map(recognise);
    let first = documents.values.first();
    let Some(format) = formats.next().flatten() else {
        return Err(unrecognised(format!("{} of no format perfprof compares", first.map_or_else(String::new, look))));
    };
    if let Some((index, other)) = formats.enumerate().find(|(_, other)| *other != Some(format)) {
        let other = other.map_or("something unknown", Format::name);
        let number = index + 2;
        return Err(unrecognised(format!("document 1 is {}, but document {number} is {other}", format.name())));
    }
    Ok(ForeignFile { file: file.to_owned(), format, documents })
}

/// The subject in `bytes`, the content of a file called `file` (without directories).
///
/// # Errors
/// If it is no JSON, of no format that is read, or holds nothing to compare.
pub fn subject(file: &str, bytes: &[u8]) -> Result<Subject, ImportError> {
    subject_of(&read(file, bytes)?)
}

/// The subject in a file of another tool.
///
/// # Errors
/// If it holds nothing to compare, or is a file of perfprof itself or a trace, which have readers of their own.
pub fn subject_of(parsed: &ForeignFile) -> Result<Subject, ImportError> {
    let unusable = |reason: String| ImportError::Unusable {
        file: parsed.file.clone(),
        format: parsed.format.name().to_owned(),
        reason,
    };
    let documents = &parsed.documents.values;
    let (kind, tool, entries): (SubjectKind, String, Vec<Entry>) = match parsed.format {
        Format::LlamaBench => (SubjectKind::Imported, llama_bench::tool(documents), llama_bench::entries(documents)),
        Format::VllmServe => (SubjectKind::Load, "vllm bench serve".to_owned(), vllm::serve(documents)),
        Format::VllmLatency => (SubjectKind::Imported, "vllm bench latency".to_owned(), vllm::latency(documents)),
        Format::VllmThroughput => {
            (SubjectKind::Imported, "vllm bench throughput".to_owned(), vllm::throughput(documents))
        }
        Format::SglangServing => (SubjectKind::Load, "sglang bench_serving".to_owned(), sglang::entries(documents)),
        Format::AiperfSummary => (SubjectKind::Load, aiperf::tool(documents), aiperf::summary(documents, false)),
        Format::GenaiPerf => (SubjectKind::Load, "genai-perf".to_owned(), aiperf::summary(documents, true)),
        Format::AiperfRecords => (SubjectKind::Load, "aiperf".to_owned(), aiperf::records(documents)),
        Format::Guidellm => (SubjectKind::Load, guidellm::tool(documents), guidellm::entries(documents)),
        Format::Hyperfine => (SubjectKind::Imported, "hyperfine".to_owned(), hyperfine::entries(documents)),
        Format::GoogleBenchmark => {
            (SubjectKind::Imported, "google-benchmark".to_owned(), google_benchmark::entries(documents))
        }
        Format::PerfprofRows | Format::PerfprofMetrics | Format::ChromeTrace => {
            return Err(unusable("it is not a result of another tool".to_owned()));
        }
    };
    if entries.is_empty() {
        return Err(unusable("it holds no result".to_owned()));
    }
    let mut builder = Builder::new(kind, &stem(&parsed.file), &tool);
    builder.extend(parsed.documents.diagnostics.iter().cloned());
    builder.fact(crate::compare::subject::fact::TOOL, Some(tool));
    builder.entries(entries);
    let subject = builder.subject();
    subject.files = vec![clipped(&parsed.file)];
    let outcomes = subject.outcomes;
    if subject.measures.is_empty() {
        // All requests failed: that is a result, and it names no winner.
        if outcomes.failed == 0 && outcomes.interrupted == 0 {
            return Err(unusable("it holds no value to compare".to_owned()));
        }
        let reason = format!("nothing ended well ({} failed, {} cancelled)", outcomes.failed, outcomes.interrupted);
        subject.validity = Validity::from_reasons(vec![reason]);
    }
    Ok(builder.finish())
}

/// The format of one document by its keys.
fn recognise(document: &Value) -> Option<Format> {
    let has = |key: &str| document.get(key).is_some();
    let is_list = |key: &str| document.get(key).is_some_and(Value::is_array);
    match document {
        Value::Array(items) => {
            let first = items.first()?;
            if llama_bench::is_entry(first) {
                Some(Format::LlamaBench)
            } else if first.get("ph").is_some() {
                Some(Format::ChromeTrace)
            } else {
                None
            }
        }
        Value::Object(_) => {
            if is_list("traceEvents") {
                Some(Format::ChromeTrace)
            } else if llama_bench::is_entry(document) {
                Some(Format::LlamaBench)
            } else if has("command") && has("run_id") {
                Some(Format::PerfprofMetrics)
            } else if (has("case") && has("repeat") && has("status")) || (has("dt_full_s") && has("ttft_s")) {
                Some(Format::PerfprofRows)
            } else if is_list("results")
                && document["results"].get(0).is_some_and(|result| result.get("command").is_some())
            {
                Some(Format::Hyperfine)
            } else if is_list("benchmarks") && document.get("context").is_some_and(Value::is_object) {
                Some(Format::GoogleBenchmark)
            } else if is_list("benchmarks")
                && document["benchmarks"].get(0).is_some_and(|benchmark| benchmark.get("metrics").is_some())
            {
                Some(Format::Guidellm)
            } else if has("metrics")
                && document.get("metadata").is_some_and(|metadata| metadata.get("request_start_ns").is_some())
            {
                Some(Format::AiperfRecords)
            } else if aiperf::is_summary(document) {
                Some(if aiperf::is_genai_perf(document) { Format::GenaiPerf } else { Format::AiperfSummary })
            } else if sglang::is_result(document) {
                Some(Format::SglangServing)
            } else if vllm::is_serve(document) {
                Some(Format::VllmServe)
            } else if has("avg_latency") && is_list("latencies") {
                Some(Format::VllmLatency)
            } else if has("elapsed_time") && has("requests_per_second") && has("tokens_per_second") {
                Some(Format::VllmThroughput)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// What a document looks like, in a few words.
fn look(document: &Value) -> String {
    const KEYS: usize = 6;
    match document {
        Value::Object(map) if map.is_empty() => "an empty JSON object".to_owned(),
        Value::Object(map) => {
            let short = |key: &String| {
                let text: String = key.chars().take(40).collect();
                format!("`{}`", clipped(&text))
            };
            let keys: Vec<String> = map.keys().take(KEYS).map(short).collect();
            let more = if map.len() > KEYS { format!(" and {} more keys", map.len() - KEYS) } else { String::new() };
            format!("a JSON object with {}{more}", keys.join(", "))
        }
        Value::Array(items) => format!("a JSON list of {} elements", items.len()),
        _ => "a JSON scalar".to_owned(),
    }
}
