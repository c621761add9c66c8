//! Writes settings out: YAML with origins, the hash, and values in messages. Secrets never leave this module unmasked.

use std::fmt::Write;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::provenance::{Provenance, join};
use super::yaml::scalar_text;

/// What stands in place of a secret.
const MASK: &str = "***";
/// Longer values are cut in messages.
const MESSAGE_CHARS: usize = 80;

/// True for keys whose value must not be written anywhere; `api_key_env` names a variable and is none.
fn is_secret(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase().replace('-', "_");
    let named = ["api_key", "apikey", "password", "passwd", "secret", "authorization", "credential"];
    !last.ends_with("_env")
        && (named.iter().any(|word| last.contains(word)) || last == "token" || last.ends_with("_token"))
}

/// Masks `user:password@` in a URL.
fn mask_userinfo(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        let end = after.find(|c: char| matches!(c, '/' | '?' | '#' | ',') || c.is_whitespace()).unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(sign) => {
                masked.push_str(MASK);
                rest = &after[sign..];
            }
            None => rest = after,
        }
    }
    masked.push_str(rest);
    masked
}

/// An override as it may be shown: with a secret key, or a map that has one, the value is masked.
pub(super) fn masked_override(argument: &str) -> String {
    let Some((key, value)) = argument.split_once('=') else { return argument.to_owned() };
    let words = value.split(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c)));
    let has_secret = value.contains('{') && words.into_iter().any(is_secret);
    if is_secret(key) || has_secret { format!("{key}={MASK}") } else { mask_userinfo(argument) }
}

/// The value with secrets masked.
fn masked(path: &str, value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        _ if is_secret(path) => Value::String(MASK.to_owned()),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, inner)| (key.clone(), masked(&join(path, key), inner))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(|inner| masked("", inner)).collect()),
        Value::String(text) => Value::String(mask_userinfo(text)),
        other => other.clone(),
    }
}

/// The value as a message shows it: text without quotes, everything else as JSON, cut if long.
pub(super) fn value_text(path: &str, value: &Value) -> String {
    let text = match masked(path, value) {
        Value::String(text) => text,
        other => other.to_string(),
    };
    if text.chars().count() <= MESSAGE_CHARS {
        return text;
    }
    text.chars().take(MESSAGE_CHARS).chain(['…']).collect()
}

/// The tree as block YAML, each leaf followed by who set it.
pub(super) fn yaml_with_provenance(value: &Value, provenance: &Provenance) -> String {
    let mut text = String::new();
    write_node(&mut text, &masked("", value), provenance, "", 0, false);
    text
}

fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => true,
    }
}

/// Writes the entries of a map or list; `inline` is true for the first entry after `- `, which stands on that line.
fn write_node(text: &mut String, value: &Value, provenance: &Provenance, path: &str, depth: usize, inline: bool) {
    let mut first = inline;
    let mut begin = |text: &mut String| {
        if !std::mem::take(&mut first) {
            text.push_str(&"  ".repeat(depth));
        }
    };
    let leaf = |text: &mut String, value: &Value, path: &str| {
        text.push_str(&scalar_text(value));
        if let Some(origin) = provenance.origin(path) {
            write!(text, "  # {origin}").expect("writing to a string cannot fail");
        }
        text.push('\n');
    };
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let path = join(path, key);
                begin(text);
                text.push_str(&scalar_text(&Value::String(key.clone())));
                text.push(':');
                if is_leaf(inner) {
                    text.push(' ');
                    leaf(text, inner, &path);
                } else {
                    text.push('\n');
                    write_node(text, inner, provenance, &path, depth + 1, false);
                }
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                let path = join(path, &index.to_string());
                begin(text);
                text.push_str("- ");
                if is_leaf(inner) {
                    leaf(text, inner, &path);
                } else {
                    write_node(text, inner, provenance, &path, depth + 1, true);
                }
            }
        }
        scalar => leaf(text, scalar, path),
    }
}

/// SHA-256 of the masked tree as JSON with sorted keys and no spaces.
pub(super) fn sha256(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(&mut text, &masked("", value));
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    })
}

fn write_canonical(text: &mut String, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            text.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::String(key.clone()).to_string());
                text.push(':');
                write_canonical(text, &map[key]);
            }
            text.push('}');
        }
        Value::Array(list) => {
            text.push('[');
            for (index, inner) in list.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(text, inner);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::provenance::Origin;
    use crate::config::yaml;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn secrets_are_masked_and_words_like_them_are_not() {
        let value = json!({
            "api_key": "k1", "api_key_env": "NAME", "max_tokens": 5, "tokenizer": "t.json",
            "backend": {"hf_token": "k2", "password": "k3", "empty_secret": null},
            "list": [{"Authorization": "Bearer k4"}],
            "base_url": "http://user:k5@host:1/v1?x=a@b",
        });
        let text = yaml_with_provenance(&value, &Provenance::default());
        for secret in ["k1", "k2", "k3", "k4", "k5"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        for kept in
            ["api_key_env: NAME", "max_tokens: 5", "tokenizer: t.json", "empty_secret: null", "***@host:1/v1?x=a@b"]
        {
            assert!(text.contains(kept), "{kept} not in {text}");
        }
        assert_eq!(masked_override("load.api_key=k"), "load.api_key=***");
        assert_eq!(masked_override("+b={name: x, api_key: k}"), "+b=***");
        assert_eq!(masked_override("repeats=3"), "repeats=3");
        assert_eq!(masked_override("base_url=http://a:b@c/"), "base_url=http://***@c/");
    }

    #[test]
    fn the_hash_is_that_of_canonical_json() {
        // `printf '{"a":[1,2],"b":{"c":null}}' | sha256sum`
        let expected = "c86ec83bbcf2cd79e5cc99ee36d5726e7f66bcc6f7b8b83d0b5e6e53ce6302d6";
        let hash = sha256(&json!({"b": {"c": null}, "a": [1, 2]}));
        assert_eq!(hash, expected);
        assert_eq!(hash, sha256(&json!({"a": [1, 2], "b": {"c": null}})));
        assert_ne!(hash, sha256(&json!({"a": [2, 1], "b": {"c": null}})));
    }

    #[test]
    fn each_leaf_says_who_set_it() {
        let mut provenance = Provenance::default();
        provenance.set("a.b", Origin::File { file: "configs/x.yaml".into(), line: 3, embedded: false });
        provenance.set("c", Origin::Override { index: 2, text: "c=[{d:1}]".into() });
        let text = yaml_with_provenance(&json!({"a": {"b": "on"}, "c": [{"d": 1, "e": []}, 5]}), &provenance);
        assert_eq!(
            text,
            "a:\n  b: \"on\"  # configs/x.yaml:3\nc:\n  - d: 1  # override 2: c=[{d:1}]\n    e: []  # override 2: c=[{d:1}]\n  - 5  # override 2: c=[{d:1}]\n"
        );
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
            any::<String>().prop_filter("no URL with a password", |text| !text.contains("://")).prop_map(Value::from),
        ];
        let inner = leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z0-9 :#-]{1,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[a-z]{1,6}", inner, 1..4).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(tree in tree(), text in any::<String>()) {
            let mut provenance = Provenance::default();
            for key in tree.as_object().unwrap().keys() {
                provenance.set(key, Origin::Override { index: 1, text: text.as_str().into() });
            }
            let written = yaml_with_provenance(&tree, &provenance);
            let read = yaml::parse("t.yaml", &written).map_err(|error| TestCaseError::fail(format!("{error}\n{written}")))?;
            prop_assert_eq!(read.value, masked("", &tree), "{}", written);
        }
    }
}
