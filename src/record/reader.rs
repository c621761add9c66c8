//! Reads a run directory back, whoever wrote it and however it ended.
//!
//! A torn last line is normal after a crash: it is dropped and counted. Any other damage is an error that names file and line,
//! unless the caller asks to salvage what can be read.

use std::fs;
use std::io;
use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::context::{CONTEXT_FILE, CONTEXT_SCHEMA_VERSION, Stage1Context};
use super::error::RecordError;
use super::metrics::{METRICS_SCHEMA_VERSION, Stage1Metrics};
use super::rows::{ROW_SCHEMA_VERSION, RepeatRow};
use super::run_dir::{RUN_FILE, RUN_SCHEMA_VERSION, RunRecord};
use super::spans::{SPANS_FILE, SPANS_SCHEMA_VERSION, SpanLine};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::trace::timeline::Timeline;

/// The rows of in-process runs.
pub const ROWS_FILE: &str = "per_run.jsonl";
/// The summary.
pub const METRICS_FILE: &str = "metrics.json";

/// Reads `run.json` as written; [`RunRecord::effective_status`] says what it means now.
pub fn read_run(dir: &Path) -> Result<RunRecord, RecordError> {
    let path = dir.join(RUN_FILE);
    let bytes = fs::read(&path).map_err(|source| {
        if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            let reason = if dir.is_dir() { "it has no run.json" } else { "there is no such directory" };
            RecordError::NotARun { path: dir.to_owned(), reason: reason.to_owned() }
        } else {
            RecordError::Read { path: path.clone(), source }
        }
    })?;
    parse_versioned(&path, None, &bytes, RUN_SCHEMA_VERSION)
}

/// Reads `metrics.json` of a stage1 run.
pub fn read_metrics(dir: &Path) -> Result<Stage1Metrics, RecordError> {
    let path = dir.join(METRICS_FILE);
    let bytes = fs::read(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
    parse_versioned(&path, None, &bytes, METRICS_SCHEMA_VERSION)
}

/// Reads `per_run.jsonl`; with `salvage`, bad lines in the middle are counted as lost instead of refused.
pub fn read_rows(dir: &Path, salvage: bool) -> Result<(Vec<RepeatRow>, Vec<Diagnostic>), RecordError> {
    let path = dir.join(ROWS_FILE);
    let bytes = fs::read(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
    parse_rows(&path, &bytes, salvage)
}

/// The rows in `bytes`, the content of `path`.
pub fn parse_rows(path: &Path, bytes: &[u8], salvage: bool) -> Result<(Vec<RepeatRow>, Vec<Diagnostic>), RecordError> {
    let mut diagnostics = Diagnostics::default();
    let mut rows: Vec<RepeatRow> = Vec::new();
    for (line, text, last) in lines(bytes) {
        let place = format!("{}:{line}", path.display());
        match parse_row(path, line, text, &rows) {
            Ok((row, version)) => {
                if version < ROW_SCHEMA_VERSION {
                    let first =
                        format!("{place}: row of schema_version {version}, read as version {ROW_SCHEMA_VERSION}");
                    diagnostics.note("old_row_schema", Severity::Info, first);
                }
                rows.push(row);
            }
            // A line of a later version is whole: it was not torn, and salvaging it would lose what we cannot understand.
            Err(newer @ RecordError::NewerSchema { .. }) => return Err(newer),
            // Only a line that is no JSON was torn: a whole object with a wrong field was written so.
            Err(error) if last && serde_json::from_slice::<IgnoredAny>(text).is_err() => diagnostics.note(
                "torn_last_row",
                Severity::DataLoss,
                format!("{place}: the last line is not whole and was dropped, as after a crash ({})", detail(&error)),
            ),
            Err(error) if salvage => diagnostics.note(
                "bad_row",
                Severity::DataLoss,
                format!("{place}: the line is damaged and was dropped ({})", detail(&error)),
            ),
            Err(error) => return Err(error),
        }
    }
    Ok((rows, diagnostics.into_vec()))
}

/// Lines with their number from 1 and whether they are the last; the empty rest behind a final newline is none.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8], bool)> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let count = if bytes.is_empty() { 0 } else { body.split(|&byte| byte == b'\n').count() };
    body.split(|&byte| byte == b'\n')
        .take(count)
        .enumerate()
        .map(move |(index, line)| (index as u64 + 1, line, index + 1 == count))
}

/// What is wrong, without the place.
fn detail(error: &RecordError) -> String {
    match error {
        RecordError::Malformed { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

/// One row of any version up to ours, with the version it was written in.
fn parse_row(path: &Path, line: u64, text: &[u8], before: &[RepeatRow]) -> Result<(RepeatRow, u32), RecordError> {
    let (value, version) = versioned_value(path, Some(line), text, ROW_SCHEMA_VERSION)?;
    let value = if version == 0 { upgrade_v0(value, before) } else { value };
    typed(path, Some(line), value).map(|row| (row, version))
}

/// Brings a row of version 0 to version 1.
///
/// Version 0 is the flat row of the transformers-based harness perfprof follows: no `schema_version`, one row per case, times in
/// seconds (`ttft_s`, `tpot_s`, `dt_full_s`), measured in two passes. What it does not tell becomes null, or the word `unknown`
/// where a name is needed.
fn upgrade_v0(value: Value, before: &[RepeatRow]) -> Value {
    let Value::Object(old) = value else { return value };
    let failed = old.get("error").is_some_and(|error| !error.is_null());
    let millis = |key: &str| old.get(key).and_then(Value::as_f64).map(|seconds| seconds * 1e3);
    let case = old.get("case").and_then(Value::as_str).map_or_else(
        || {
            let number = |key: &str| old.get(key).map_or_else(|| "?".to_owned(), Value::to_string);
            format!("prompt{}_new{}", number("prompt_len"), number("new_tokens"))
        },
        str::to_owned,
    );
    let repeat = before.iter().filter(|row| row.case == case).count();
    let mut new = serde_json::json!({
        "schema_version": ROW_SCHEMA_VERSION,
        "index": before.len(),
        "case": case,
        "repeat": repeat,
        "spans": false,
        "status": if failed { "failed" } else { "ok" },
        "error": null,
        "dtype": "unknown",
        "device": "unknown",
        "batch": 1,
        "mode": "two_pass",
        "started_at": "unknown",
        "ttft_ms": millis("ttft_s"),
        "prefill_ms": null,
        "decode_ms": null,
        "total_ms": millis("dt_full_s"),
        "remainder_ms": null,
        "tpot_ms": millis("tpot_s"),
        "itl_ms": [],
        "prefill_tok_per_s": null,
        "decode_tok_per_s": null,
        "total_tok_per_s": old.get("tok_s").cloned(),
        "ttft_s": null,
        "tpot_s": null,
        "dt_full_s": null,
        "tok_s": null,
        "peak_memory_allocated_gb": null,
        "memory": { "weights_bytes": 0, "kv_cache_bytes": 0, "kv_used_bytes": 0 },
        "contention": { "disturbed": false },
        "cpu_utilisation": null,
        "energy_j": null,
        "energy_source": null,
        "tokens": [],
        "text": null,
        "finish_reason": null,
        "diagnostics": [],
    });
    if let Value::Object(new) = &mut new {
        for (key, value) in old {
            new.insert(key, value);
        }
        new.insert("schema_version".to_owned(), ROW_SCHEMA_VERSION.into());
    }
    new
}

/// `context.json` of a stage1 run.
pub fn read_context(dir: &Path) -> Result<Stage1Context, RecordError> {
    let path = dir.join(CONTEXT_FILE);
    let bytes = fs::read(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
    parse_versioned(&path, None, &bytes, CONTEXT_SCHEMA_VERSION)
}

/// The spans of every repeat that recorded them, and findings. A torn last line is dropped; a run without spans gives an empty timeline.
pub fn read_spans(dir: &Path) -> Result<(Timeline, Vec<Diagnostic>), RecordError> {
    let path = dir.join(SPANS_FILE);
    let mut timeline = Timeline::default();
    let mut diagnostics = Diagnostics::default();
    if !path.exists() {
        return Ok((timeline, Vec::new()));
    }
    let bytes = fs::read(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
    for (number, text, last) in lines(&bytes) {
        let parsed: Result<SpanLine, RecordError> = parse_versioned(&path, Some(number), text, SPANS_SCHEMA_VERSION);
        match parsed {
            Ok(line) => line.append_to(&mut timeline).map_err(|column| RecordError::Malformed {
                path: path.clone(),
                line: Some(number),
                reason: format!("the column `{column}` does not fit the others"),
            })?,
            Err(newer @ RecordError::NewerSchema { .. }) => return Err(newer),
            Err(error) if last => diagnostics.note(
                "torn_last_spans",
                Severity::DataLoss,
                format!("{}:{number}: the last line is not whole and was dropped ({})", path.display(), detail(&error)),
            ),
            Err(error) => return Err(error),
        }
    }
    Ok((timeline, diagnostics.into_vec()))
}

/// Parses a JSON document whose `schema_version` must not be newer than `known`.
pub fn parse_versioned<T: DeserializeOwned>(
    path: &Path,
    line: Option<u64>,
    text: &[u8],
    known: u32,
) -> Result<T, RecordError> {
    let (value, _) = versioned_value(path, line, text, known)?;
    typed(path, line, value)
}

/// The document and its version; a missing version is 0.
fn versioned_value(path: &Path, line: Option<u64>, text: &[u8], known: u32) -> Result<(Value, u32), RecordError> {
    let malformed = |line, reason| RecordError::Malformed { path: path.to_owned(), line, reason };
    let value: Value = serde_json::from_slice(text).map_err(|error| {
        // In a file of rows the line is known better than the parser, which sees one line only, can know it.
        malformed(line.or(Some(error.line() as u64)), without_line(&error))
    })?;
    let Value::Object(fields) = &value else {
        return Err(malformed(line, "a JSON object was expected".to_owned()));
    };
    let version = match fields.get("schema_version") {
        None => 0,
        Some(version) => version
            .as_u64()
            .ok_or_else(|| malformed(line, format!("schema_version: a whole number was expected, found {version}")))?,
    };
    match u32::try_from(version) {
        Ok(version) if version <= known => Ok((value, version)),
        _ => Err(RecordError::NewerSchema { path: path.to_owned(), line, found: version, known }),
    }
}

/// The typed form of a document; an error names the key.
fn typed<T: DeserializeOwned>(path: &Path, line: Option<u64>, value: Value) -> Result<T, RecordError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let key = error.path().to_string();
        let reason = if key == "." { error.inner().to_string() } else { format!("{key}: {}", error.inner()) };
        RecordError::Malformed { path: path.to_owned(), line, reason }
    })
}

/// serde_json's message, with the column but not the line.
fn without_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let text = message.split(" at line ").next().unwrap_or(&message);
    format!("{text} at column {}", error.column())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::rows::RowStatus;

    fn gpu() -> Value {
        serde_json::json!({
            "window_ms": 200.0, "looks": 5, "energy_j": 40.0, "energy_source": "nvml:counter", "power_w": 200.0, "sm_mhz": 1500.0,
            "sm_mhz_min": 1400.0, "memory_mhz": 2619.0, "temperature_c": 61.0, "memory_used_bytes": 7, "process_memory_bytes": null,
            "throttled_share": 0.5, "throttle_reasons": ["sw_power_cap"]
        })
    }

    /// A row as version 1 writes it, with every optional value set.
    fn row(index: u32) -> Value {
        let mut row = serde_json::json!({
            "schema_version": 1, "run_id": "r", "index": index, "case": "c", "repeat": index, "spans": false,
            "status": "ok", "error": null, "model": "m", "backend": "candle", "dtype": "f32", "device": "cpu", "batch": 1,
            "prompt_len": 8, "new_tokens": 4, "mode": "single_pass", "started_at": "2026-01-01T00:00:00.000Z",
            "ttft_ms": 1.5, "prefill_ms": 1.25, "decode_ms": 3.0, "total_ms": 4.5, "remainder_ms": 0.25, "tpot_ms": 1.0,
            "itl_ms": [1.0, 1.0, 1.0], "prefill_tok_per_s": 6400.0, "decode_tok_per_s": 1000.0, "total_tok_per_s": 888.5,
            "ttft_s": 0.0015, "tpot_s": 0.001, "dt_full_s": 0.0045, "tok_s": 888.5, "peak_memory_allocated_gb": 0.5,
            "memory": {
                "peak_rss_bytes": 1, "peak_vram_bytes": 5, "peak_vram_source": "process", "weights_bytes": 2, "kv_cache_bytes": 3,
                "kv_used_bytes": 4, "activations_bytes": null
            },
            "contention": {
                "cpu_wall_ratio": 1.0, "involuntary_switches": 1, "voluntary_switches": 2, "pressure_cpu_some": 0.5,
                "other_cpu_share": 0.25, "disturbed": false
            },
            "cpu_utilisation": 0.5, "energy_j": null, "energy_source": null,
            "tokens": [1, 2, 3, 4], "text": "é\n", "finish_reason": "length", "diagnostics": []
        });
        // Fields past what the macro can expand.
        row["traced"] = Value::Bool(false);
        row["host"] =
            serde_json::json!({ "prefill_ms": 1.5, "decode_ms": 3.25, "total_ms": 5.0, "remainder_ms": 0.25 });
        row["cpu_energy_j"] = 2.5.into();
        row["gpu"] = gpu();
        row
    }

    fn text(count: u32) -> Vec<u8> {
        (0..count).flat_map(|index| format!("{}\n", row(index)).into_bytes()).collect()
    }

    fn parse(bytes: &[u8], salvage: bool) -> Result<(Vec<RepeatRow>, Vec<Diagnostic>), RecordError> {
        parse_rows(Path::new("per_run.jsonl"), bytes, salvage)
    }

    #[test]
    fn a_row_is_written_as_it_was_read() {
        let (rows, diagnostics) = parse(&text(1), false).unwrap();
        assert_eq!(diagnostics, []);
        assert_eq!(serde_json::to_value(&rows[0]).unwrap(), row(0));
    }

    #[test]
    fn any_cut_loses_at_most_the_line_it_falls_into_and_says_so() {
        let whole = text(3);
        let ends: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] == b'\n').collect();
        for cut in 0..=whole.len() {
            let (rows, diagnostics) = parse(&whole[..cut], false).unwrap();
            // A line is whole once its last brace is there, newline or not.
            let complete = ends.iter().filter(|&&end| cut >= end).count();
            let begun = cut > 0 && !ends.contains(&cut) && !ends.iter().any(|&end| cut == end + 1);
            assert_eq!(rows.len(), complete, "cut at {cut}");
            let lost: u64 = diagnostics.iter().filter(|d| d.severity == Severity::DataLoss).map(|d| d.count).sum();
            assert_eq!(lost, u64::from(begun), "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_middle_line_is_refused_by_number_and_salvaged_on_request() {
        let lines = [row(0).to_string(), "{\"schema_version\":1,".to_owned(), row(2).to_string()];
        let bytes = lines.join("\n").into_bytes();
        let error = parse(&bytes, false).unwrap_err();
        assert!(error.to_string().starts_with("per_run.jsonl:2: "), "{error}");
        assert!(error.hint().unwrap().contains("--salvage"));
        let (rows, diagnostics) = parse(&bytes, true).unwrap();
        assert_eq!(rows.iter().map(|row| row.index).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((diagnostics[0].code.as_str(), diagnostics[0].count), ("bad_row", 1));
    }

    #[test]
    fn a_whole_last_line_with_a_wrong_field_is_no_torn_line() {
        let mut wrong = row(1);
        wrong["batch"] = "two".into();
        let bytes = format!("{}\n{wrong}\n", row(0)).into_bytes();
        let error = parse(&bytes, false).unwrap_err().to_string();
        assert!(error.starts_with("per_run.jsonl:2: batch: "), "{error}");
    }

    #[test]
    fn a_newer_row_is_refused_with_its_version_even_when_salvaging() {
        let mut newer = row(0);
        newer["schema_version"] = 7.into();
        for salvage in [false, true] {
            let error = parse(format!("{newer}\n").as_bytes(), salvage).unwrap_err();
            assert!(matches!(
                error,
                RecordError::NewerSchema { found: 7, known: ROW_SCHEMA_VERSION, line: Some(1), .. }
            ));
            assert!(error.to_string().contains("schema_version 7 is newer than 1"), "{error}");
        }
    }

    #[test]
    fn a_row_of_version_0_keeps_its_numbers() {
        let old = serde_json::json!({
            "run_id": "20240101-000000", "model": "m", "backend": "hf", "dtype": "fp16", "prompt_len": 128, "new_tokens": 64,
            "ttft_s": 0.25, "tpot_s": 0.015625, "dt_full_s": 1.25, "tok_s": 51.2, "peak_memory_allocated_gb": 2.5,
            "env": { "gpu": "x" }
        });
        let (rows, diagnostics) = parse(format!("{old}\n{old}\n").as_bytes(), false).unwrap();
        let row = &rows[0];
        assert_eq!((row.ttft_ms, row.tpot_ms, row.total_ms), (Some(250.0), Some(15.625), Some(1250.0)));
        assert_eq!((row.tok_s, row.total_tok_per_s, row.peak_memory_allocated_gb), (Some(51.2), Some(51.2), Some(2.5)));
        assert_eq!((row.status, row.mode.as_str(), row.case.as_str()), (RowStatus::Ok, "two_pass", "prompt128_new64"));
        assert_eq!((row.prefill_ms, row.energy_j, row.memory.peak_rss_bytes), (None, None, None));
        assert_eq!((rows[1].index, rows[1].repeat), (1, 1));
        assert_eq!((diagnostics[0].code.as_str(), diagnostics[0].count), ("old_row_schema", 2));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), salvage: bool) {
            let _ = parse(&bytes, salvage);
        }

        /// Damage anywhere in good rows is met by an error or a count, and every other row is still read.
        #[test]
        fn a_changed_byte_costs_at_most_two_rows(at in 0..3_000_usize, byte: u8) {
            let mut bytes = text(4);
            let at = at % bytes.len();
            bytes[at] = byte;
            let salvaged = parse(&bytes, true);
            if let Ok((rows, _)) = salvaged {
                // Two: a newline that is lost joins its neighbours.
                prop_assert!(rows.len() >= 2);
            } else {
                let newer = matches!(salvaged, Err(RecordError::NewerSchema { .. }));
                prop_assert!(newer);
            }
        }
    }
}
