//! Result files of other tools, told apart by what is in them.

use super::error::ImportError;
use crate::compare::subject::Subject;

/// The formats, for messages.
pub const SUPPORTED: &str = "llama-bench JSON and JSONL, `vllm bench serve`, `vllm bench latency` and `vllm bench throughput` JSON, SGLang \
    `bench_serving` JSONL, AIPerf and genai-perf `profile_export` JSON, guidellm JSON, hyperfine JSON, google-benchmark JSON";

/// The subject in `bytes`, the content of a file called `file` (without directories).
///
/// # Errors
/// If it is no JSON, of no format that is read, or holds nothing to compare.
pub fn subject(file: &str, bytes: &[u8]) -> Result<Subject, ImportError> {
    let _ = bytes;
    Err(ImportError::Unrecognised { file: file.to_owned(), found: "not read yet".to_owned() })
}
