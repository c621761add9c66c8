//! `inputs.yaml`: what the run was fed, by hash, length and seed.
//!
//! Writes YAML without a YAML library: block style, plain keys, and scalars as JSON writes them, which YAML 1.2 reads alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of [`Inputs`].
pub const INPUTS_SCHEMA_VERSION: u32 = 1;
/// Name of the file.
pub const INPUTS_FILE: &str = "inputs.yaml";

/// `inputs.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// [`INPUTS_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Number of prompts.
    pub count: u64,
    /// Directory the prompt files were taken from.
    pub dataset_root: Option<String>,
    /// File that listed which of them to take.
    pub subset_filelist: Option<String>,
    /// Seeds by what they seed, e.g. `prompt`, `sampling`, `weights`.
    pub seeds: BTreeMap<String, u64>,
    /// Files read: prompt sets, model and tokenizer files.
    pub files: Vec<FileInput>,
    /// Prompts in the order of their cases.
    pub prompts: Vec<PromptInput>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileInput {
    /// What it was read as, e.g. `prompts`, `weights`, `tokenizer`.
    pub role: String,
    /// As given.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256; null where hashing was left out, as for large weights.
    pub sha256: Option<String>,
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptInput {
    /// The case it belongs to.
    pub case: String,
    /// `synthetic` (ids drawn from `seed`), `text` (given in the configuration) or `file`.
    pub source: String,
    /// Tokens.
    pub tokens: u32,
    /// SHA-256 of the token ids as little-endian u32, so that equal hashes mean equal work whatever the text.
    pub token_ids_sha256: String,
    /// UTF-8 length of the text; null for synthetic ids.
    pub text_bytes: Option<u64>,
    /// SHA-256 of the text; null for synthetic ids.
    pub text_sha256: Option<String>,
    /// Seed of synthetic ids.
    pub seed: Option<u64>,
}

impl PromptInput {
    /// Describes token ids and the text they came from, if any.
    pub fn new(case: &str, source: &str, token_ids: &[u32], text: Option<&str>, seed: Option<u64>) -> Self {
        let bytes: Vec<u8> = token_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Self {
            case: case.to_owned(),
            source: source.to_owned(),
            tokens: token_ids.len() as u32,
            token_ids_sha256: super::manifest::sha256_hex(&bytes),
            text_bytes: text.map(|text| text.len() as u64),
            text_sha256: text.map(|text| super::manifest::sha256_hex(text.as_bytes())),
            seed,
        }
    }
}

/// The value as a YAML document; maps keep their order.
pub fn to_yaml<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let value = serde_json::to_value(value)?;
    let mut text = String::new();
    match &value {
        Value::Object(map) if !map.is_empty() => write_map(&mut text, map, 0, true),
        Value::Array(items) if !items.is_empty() => write_list(&mut text, items, 0, true),
        scalar => text.push_str(&format!("{}\n", inline(scalar))),
    }
    Ok(text)
}

/// Writes the entries of `map`; the first without indentation where it stands behind a `- `.
fn write_map(text: &mut String, map: &serde_json::Map<String, Value>, depth: usize, mut fresh_line: bool) {
    for (key, value) in map {
        if fresh_line {
            text.push_str(&"  ".repeat(depth));
        }
        fresh_line = true;
        text.push_str(&key_text(key));
        text.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                write_map(text, inner, depth + 1, true);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                write_list(text, items, depth + 1, true);
            }
            scalar => text.push_str(&format!(" {}\n", inline(scalar))),
        }
    }
}

/// Writes the items of a list, each behind `- `.
fn write_list(text: &mut String, items: &[Value], depth: usize, mut fresh_line: bool) {
    for item in items {
        if fresh_line {
            text.push_str(&"  ".repeat(depth));
        }
        fresh_line = true;
        text.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => write_map(text, inner, depth + 1, false),
            Value::Array(inner) if !inner.is_empty() => write_list(text, inner, depth + 1, false),
            scalar => text.push_str(&format!("{}\n", inline(scalar))),
        }
    }
}

/// A scalar or an empty collection on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::String(string) => quoted(string),
        Value::Number(number) => number_text(&number.to_string()),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// A number that YAML 1.1 readers take for one too: they want a point and a signed exponent (`1e5` is text to them).
fn number_text(number: &str) -> String {
    let Some((mantissa, exponent)) = number.split_once('e') else { return number.to_owned() };
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['-', '+']) { "" } else { "+" };
    format!("{mantissa}{point}e{sign}{exponent}")
}

/// A key, plain where no YAML version reads it as anything but this text.
fn key_text(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let word = matches!(
        key.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if plain && !word { key.to_owned() } else { quoted(key) }
}

/// A JSON string, with the characters YAML does not allow raw, or takes for line breaks, escaped too.
fn quoted(string: &str) -> String {
    let mut text = String::with_capacity(string.len() + 2);
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                text.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nests_by_indentation_and_quotes_every_string() {
        let value = json!({
            "a": 1, "yes": "no", "two words": [1, [2, 3], {"x": null, "y": []}], "empty": {}, "text": "a: b # c\n\u{1f}\u{7f}\u{85}é"
        });
        let expected = concat!(
            "a: 1\n",
            "\"yes\": \"no\"\n",
            "\"two words\":\n",
            "  - 1\n",
            "  - - 2\n",
            "    - 3\n",
            "  - x: null\n",
            "    \"y\": []\n",
            "empty: {}\n",
            "text: \"a: b # c\\n\\u001f\\u007f\\u0085é\"\n",
        );
        assert_eq!(to_yaml(&value).unwrap(), expected);
    }

    #[test]
    fn numbers_are_numbers_for_old_readers_too() {
        assert_eq!(
            to_yaml(&json!([1e-7, 1e300, -2.5, u64::MAX])).unwrap(),
            "- 1.0e-7\n- 1.0e+300\n- -2.5\n- 18446744073709551615\n"
        );
    }

    #[test]
    fn a_prompt_is_described_by_published_hashes() {
        let prompt = PromptInput::new("short", "text", &[0x6362_6100], Some("abc"), None);
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((prompt.tokens, prompt.text_bytes, prompt.text_sha256.as_deref()), (1, Some(3), Some(abc)));
        assert_ne!(prompt.token_ids_sha256, PromptInput::new("", "", &[0x0061_6263], None, None).token_ids_sha256);
    }
}
