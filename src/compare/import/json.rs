//! Reads JSON as other tools write it: one document or one a line, with Python's `NaN` and `Infinity`, perhaps cut off in the last line.

use std::borrow::Cow;

use serde_json::{Deserializer, Value};

use super::error::ImportError;
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};

/// The documents of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Documents {
    /// In the order of the file; never empty.
    pub(super) values: Vec<Value>,
    /// True if the file is a list of documents, as JSONL is, and not one document.
    pub(super) by_line: bool,
    /// What had to be left out.
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Parses `bytes`, the content of `file`.
pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Documents, ImportError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let bad = |error: &serde_json::Error| ImportError::NotJson {
        file: file.to_owned(),
        line: error.line().max(1) as u64,
        column: error.column().max(1) as u64,
        reason: without_place(error),
    };
    if bytes.trim_ascii().is_empty() {
        let reason = "the file is empty".to_owned();
        return Err(ImportError::NotJson { file: file.to_owned(), line: 1, column: 1, reason });
    }
    let mut diagnostics = Diagnostics::default();
    let mut text = Cow::Borrowed(bytes);
    let mut error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(Documents { values: vec![value], by_line: false, diagnostics: Vec::new() }),
        Err(error) => error,
    };
    let (replaced, count) = without_python_numbers(bytes);
    if count > 0 {
        diagnostics.push(Diagnostic {
            code: "not_a_number".to_owned(),
            // Where it stood for a value, the value is missed and counted there.
            severity: Severity::Info,
            count,
            first: format!("`{file}` holds NaN or Infinity {count} times; each was read as null"),
        });
        text = Cow::Owned(replaced);
        match serde_json::from_slice(&text) {
            Ok(value) => {
                return Ok(Documents { values: vec![value], by_line: false, diagnostics: diagnostics.into_vec() });
            }
            Err(next) => error = next,
        }
    }
    let mut values = Vec::new();
    for value in Deserializer::from_slice(&text).into_iter::<Value>() {
        match value {
            Ok(value) => values.push(value),
            Err(torn) if torn.is_eof() && !values.is_empty() => {
                diagnostics.note(
                    "torn_last_line",
                    Severity::DataLoss,
                    format!("`{file}`: the last document is not whole and was dropped ({})", without_place(&torn)),
                );
                break;
            }
            // After a scalar the text is no list of documents, and the first error says more.
            Err(damaged) => {
                return Err(bad(if values.iter().any(|value| !value.is_object()) { &error } else { &damaged }));
            }
        }
    }
    // Scalars in a row are text that happens to begin with a number, not documents.
    if values.is_empty() || !values.iter().all(|value| value.is_object() || value.is_array()) {
        return Err(bad(&error));
    }
    Ok(Documents { values, by_line: true, diagnostics: diagnostics.into_vec() })
}

/// serde_json's message without the place, which stands beside it.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or(&message).to_owned()
}

/// The text with `NaN`, `Infinity` and `-Infinity` outside of strings as `null`, and how many there were.
fn without_python_numbers(bytes: &[u8]) -> (Vec<u8>, u64) {
    let mut text = Vec::with_capacity(bytes.len());
    let (mut at, mut count, mut in_string) = (0, 0, false);
    while let Some(&byte) = bytes.get(at) {
        let word = match byte {
            b'N' | b'I' | b'-' if !in_string => {
                [b"-Infinity".as_slice(), b"Infinity", b"NaN"].into_iter().find(|word| bytes[at..].starts_with(word))
            }
            _ => None,
        };
        if let Some(word) = word {
            text.extend_from_slice(b"null");
            count += 1;
            at += word.len();
            continue;
        }
        let length = if byte == b'\\' && in_string { 2 } else { 1 };
        if byte == b'"' {
            in_string = !in_string;
        }
        let end = bytes.len().min(at + length);
        text.extend_from_slice(&bytes[at..end]);
        at = end;
    }
    (text, count)
}

/// The number at `key`.
pub(super) fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key)?.as_f64()
}

/// The whole number at `key`, also where it is written as `24.0`.
pub(super) fn count(value: &Value, key: &str) -> Option<u64> {
    let value = value.get(key)?;
    value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0 && *n < 1e15).map(|n| n as u64))
}

/// The text at `key`, if it is not empty.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.trim().is_empty())
}

/// The list at `key`.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> Option<&'a [Value]> {
    value.get(key)?.as_array().map(Vec::as_slice)
}

/// The number a list element holds; NaN stands for anything else, and is refused and counted later.
pub(super) fn element(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// A scalar as the text of a fact: numbers without a useless `.0`; `None` for null, empty text, lists and maps.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(
            number
                .as_f64()
                .filter(|n| n.fract() == 0.0 && n.abs() < 1e15)
                .map_or_else(|| number.to_string(), |whole| format!("{whole:.0}")),
        ),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// The first value called one of `keys` at any depth up to `depth`, nearer ones and earlier keys first.
pub(super) fn find<'a>(value: &'a Value, keys: &[&str], depth: usize) -> Option<&'a Value> {
    let mut level = vec![value];
    for _ in 0..=depth {
        for key in keys {
            if let Some(found) = level.iter().find_map(|value| value.get(*key).filter(|found| !found.is_null())) {
                return Some(found);
            }
        }
        level = level
            .into_iter()
            .flat_map(|value| match value {
                Value::Object(map) => map.values().collect::<Vec<_>>(),
                Value::Array(items) => items.iter().take(64).collect(),
                _ => Vec::new(),
            })
            .collect();
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn python_writes_nan_and_infinity_and_they_become_null_but_not_inside_text() {
        let text = br#"{"a": NaN, "b": [Infinity, -Infinity, 1], "c": "NaN \" Infinity", "d": -3}"#;
        let parsed = parse("f.json", text).unwrap();
        assert_eq!(parsed.values, [json!({"a": null, "b": [null, null, 1], "c": "NaN \" Infinity", "d": -3})]);
        assert_eq!((parsed.diagnostics[0].code.as_str(), parsed.diagnostics[0].count), ("not_a_number", 3));
    }

    #[test]
    fn lines_are_documents_and_a_torn_last_one_is_dropped_and_said() {
        let parsed = parse("f.jsonl", b"{\"a\":1}\n\n{\"a\":2}\n{\"a\":").unwrap();
        assert_eq!((parsed.values.len(), parsed.by_line), (2, true));
        assert_eq!(parsed.diagnostics[0].severity, Severity::DataLoss);
    }

    #[test]
    fn bad_text_is_refused_with_line_and_column() {
        for (text, place) in [
            (&b"{\n  \"a\": 1,\n  b\n}"[..], "`f`:3:3: key must be a string"),
            (b"", "`f`:1:1: the file is empty"),
            (b" \n", "`f`:1:1: the file is empty"),
            (b"{\"a\":1}\n{]\n{\"a\":2}", "`f`:2:2: key must be a string"),
            (b"{\"a\": [1, 2", "`f`:1:11: EOF while parsing a list"),
            (b"17 monkeys", "`f`:1:4: trailing characters"),
        ] {
            let error = parse("f", text).unwrap_err();
            assert_eq!(error.to_string(), place);
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_stack_overflow() {
        let text = "[".repeat(100_000);
        assert!(matches!(parse("f", text.as_bytes()), Err(ImportError::NotJson { .. })));
    }

    #[test]
    fn what_is_nearer_is_found_first() {
        let value = json!({"x": {"y": {"concurrency": 1}}, "z": {"concurrency": 2}, "n": {"concurrency": null}});
        assert_eq!(find(&value, &["concurrency"], 3), Some(&json!(2)));
        assert_eq!(find(&value, &["concurrency"], 0), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse("f", &bytes);
        }

        /// With the words a hostile file would use.
        #[test]
        fn any_arrangement_of_json_tokens_is_parsed_or_refused(
            words in proptest::collection::vec(
                prop::sample::select(vec!["{", "}", "[", "]", "\"", "\\", ":", ",", "NaN", "-Infinity", "Infinity", "-", "1", "\n", "a"]),
                0..60,
            )
        ) {
            let _ = parse("f", words.concat().as_bytes());
        }
    }
}
