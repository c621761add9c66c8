//! Tests of the reader that look at its window.

use std::path::Path;

use super::{Input, ReadErrorKind, ReadOptions, import};

/// Reads through a window that begins with `capacity` bytes.
fn through(bytes: &[u8], capacity: usize) -> Result<String, String> {
    let input = Input { path: Path::new("t.json"), bytes: Some(bytes), capacity };
    import(&input, &ReadOptions::default()).map(|import| format!("{import:?}")).map_err(|error| error.to_string())
}

const TRACE: &str = r#" {"deviceProperties": [{"id": 0, "name": "X \u00e4", "numSms": 3}], "skipped": [["]}", {"a": [1, 2]}], 3], "n": null,
  "traceEvents": [
  {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 5, "tid": "6", "ts": 1.5, "dur": 9, "args": {"External id": 3, "Input Dims": [[1,2],[]]}},
  {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 5, "tid": 6, "ts": 2, "dur": 3, "args": {"correlation": 9}} ,
  {"args": {"correlation": 9, "device": 0, "stream": 7, "grid": [4, 1, 1], "External id": 3, "x": "}]\\"}, "dur": 2.25, "ts": 7.001, "cat": "kernel",
   "tid": 7, "pid": 0, "name": "k\"1\"", "ph": "X"},
  {"ph": "M", "name": "process_name", "pid": 5, "args": {"name": "python"}}
  ], "last": "x" }
"#;

#[test]
fn the_size_of_the_window_changes_nothing() {
    let whole = through(TRACE.as_bytes(), 1 << 20).unwrap();
    assert!(whole.contains("aten::mm") && whole.contains("k\\\"1\\\""));
    for capacity in 1..300 {
        assert_eq!(through(TRACE.as_bytes(), capacity).as_ref(), Ok(&whole), "capacity {capacity}");
    }
}

#[test]
fn a_trace_cut_anywhere_is_an_error_that_names_the_byte_whatever_the_window() {
    let end = TRACE.trim_end().len();
    for cut in 1..end {
        let whole = through(&TRACE.as_bytes()[..cut], 1 << 20).unwrap_err();
        assert!(whole.contains("byte") || cut < 3, "cut at {cut}: {whole}");
        for capacity in [1, 7, 64] {
            assert_eq!(through(&TRACE.as_bytes()[..cut], capacity), Err(whole.clone()), "cut at {cut}");
        }
    }
}

#[test]
fn a_string_too_long_for_any_window_is_refused_with_its_place() {
    let mut text = br#"{"traceEvents":[{"name":""#.to_vec();
    text.resize(super::window::MAX_CAPACITY + 100, b'x');
    text.extend_from_slice(br#""}]}"#);
    let input = Input { path: Path::new("t.json"), bytes: Some(&text), capacity: 1 << 20 };
    let error = import(&input, &ReadOptions::default()).unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::Malformed);
    assert!(error.detail.contains("at byte 16") && error.detail.contains("64 MiB"), "{}", error.detail);
}
