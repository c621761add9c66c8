//! Reads and writes YAML; the only place that names the YAML crate.
//!
//! A file becomes a `serde_json::Value` and a map from dotted path to line. What the values mean is not decided here.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::ConfigError;
use super::provenance::join;

/// Larger files are not settings.
pub const MAX_FILE_BYTES: u64 = 8 << 20;

/// A YAML file: its tree, and where each node stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The tree.
    pub value: Value,
    /// The 1-based line of the key (or list element) at each dotted path.
    pub lines: BTreeMap<String, u64>,
    /// `name` of a `# @package name` comment before the first key.
    pub package: Option<String>,
}

/// Reads and parses `path`.
pub fn read(path: &Path) -> Result<Document, ConfigError> {
    let io = |source| ConfigError::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.is_dir() {
        return Err(io(std::io::Error::new(std::io::ErrorKind::IsADirectory, "it is a directory, not a YAML file")));
    }
    let name = path.display().to_string();
    // One byte more than allowed tells a file that is too large, even if it grows or has no known size.
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(syntax(
            &name,
            1,
            1,
            format!("the file is larger than {} MiB: it is not a settings file", MAX_FILE_BYTES >> 20),
        ));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&name, text),
        Err(error) => {
            let (line, column) = end_of(&String::from_utf8_lossy(&bytes[..error.valid_up_to()]));
            Err(syntax(&name, line, column, "the file is not UTF-8 text".into()))
        }
    }
}

/// Parses `text`; `name` is what errors call the file.
///
/// A byte-order mark and CRLF line ends are accepted, as YAML 1.2 does (§5.2, §5.4); a tab as indentation is not (§6.1).
pub fn parse(name: &str, text: &str) -> Result<Document, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((line, column)) = first_control(text) {
        return Err(syntax(name, line, column, "control characters are not text".into()));
    }
    let empty = text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
    });
    if empty {
        return Err(syntax(name, 1, 1, "the file is empty: expected `key: value` lines".into()));
    }
    if let Some((index, line)) = text.lines().enumerate().find(|(_, line)| indented_by_tab(line)) {
        // The parser's own words for this do not name the tab.
        if serde_saphyr::from_str_with_options::<Node>(text, options()).is_err() {
            let column = line.find('\t').unwrap_or(0) as u64 + 1;
            let message = "a tab is not allowed as indentation: use spaces".to_owned();
            return Err(syntax(name, index as u64 + 1, column, message));
        }
    }
    let root: Node = serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let plain = error.without_snippet();
        let location = error.location().or_else(|| plain.location());
        let (line, column) = location.map_or((1, 1), |location| (location.line().max(1), location.column().max(1)));
        syntax(name, line, column, in_plain_words(plain))
    })?;
    let mut lines = BTreeMap::new();
    let value = root.flatten("", &mut lines);
    if !value.is_object() {
        return Err(syntax(name, 1, 1, format!("expected `key: value` lines, found {}", kind_of(&value))));
    }
    Ok(Document { value, lines, package: package_comment(text) })
}

fn syntax(file: &str, line: u64, column: u64, message: String) -> ConfigError {
    ConfigError::Syntax { file: file.to_owned(), line, column, message }
}

/// What kind of value this is, in words.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // `yes`, `017` and `1_000` stay what they look like: text. Otherwise a name such as `on` would turn into a boolean.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        emit_comments: false,
        with_snippet: false,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: 1_000,
        },
        budget: serde_saphyr::budget! {
            max_depth: 64,
            max_documents: 1,
        },
    }
}

fn indented_by_tab(line: &str) -> bool {
    line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t') && !line.trim().is_empty()
}

/// The first control character that is no line end or tab, as line and column.
fn first_control(text: &str) -> Option<(u64, u64)> {
    let (offset, _) =
        text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}'))?;
    Some(end_of(&text[..offset]))
}

/// The 1-based line and column just behind `text`.
fn end_of(text: &str) -> (u64, u64) {
    let last = text.rsplit('\n').next().unwrap_or(text);
    (text.matches('\n').count() as u64 + 1, last.chars().count() as u64 + 1)
}

/// The parser's message, said for someone who writes settings and not for someone who calls the parser.
fn in_plain_words(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("duplicate key `{key}`"),
        Error::DuplicateMappingKey { key: None, .. } => "duplicate key".to_owned(),
        Error::NullIntoString { .. } => "a key must be text".to_owned(),
        Error::NonFiniteFloat { .. } => {
            "infinity and NaN are no settings: expected a finite number or `null`".to_owned()
        }
        Error::MultipleDocuments { .. } => "the file holds more than one document".to_owned(),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "the aliases of this file expand to too much".to_owned(),
        Error::AliasError { .. } | Error::Budget { .. } => {
            let message = message_without_location(&error.to_string());
            if message.contains("Documents") {
                "the file holds more than one document".to_owned()
            } else if message.contains("Depth") {
                "the file is nested too deeply".to_owned()
            } else {
                format!("the file is too complex for settings ({message})")
            }
        }
        _ => {
            let message = message_without_location(&error.to_string());
            if message == "expected string scalar" { "a key must be text".to_owned() } else { message }
        }
    }
}

/// Drops the location that the parser puts before or after its message: it stands in front of ours already.
fn message_without_location(message: &str) -> String {
    let first = message.lines().next().unwrap_or(message).trim();
    match first.rfind(" at line ") {
        Some(at)
            if first[at + 9..].chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || ",column:.".contains(c)) =>
        {
            first[..at].trim_end_matches([',', ':', ' ']).to_owned()
        }
        _ => first.to_owned(),
    }
}

fn package_comment(text: &str) -> Option<String> {
    text.lines().map(str::trim).take_while(|line| line.is_empty() || line.starts_with('#') || *line == "---").find_map(
        |line| line.strip_prefix('#')?.trim_start().strip_prefix("@package").map(|name| name.trim().to_owned()),
    )
}

/// A node with its place, as the parser meets it.
struct Node {
    line: u64,
    kind: Kind,
}

enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, u64, Node)>),
}

impl Node {
    fn flatten(self, path: &str, lines: &mut BTreeMap<String, u64>) -> Value {
        lines.entry(path.to_owned()).or_insert(self.line);
        match self.kind {
            Kind::Scalar(value) => value,
            Kind::List(nodes) => Value::Array(
                nodes
                    .into_iter()
                    .enumerate()
                    .map(|(index, node)| node.flatten(&join(path, &index.to_string()), lines))
                    .collect(),
            ),
            Kind::Map(entries) => {
                let mut map = Map::new();
                for (key, line, node) in entries {
                    let path = join(path, &key);
                    // The line of the key: a map's value only begins on the next one.
                    lines.insert(path.clone(), line);
                    let value = node.flatten(&path, lines);
                    map.insert(key, value);
                }
                Value::Object(map)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }
    fn visit_none<E: de::Error>(self) -> Result<Kind, E> {
        self.visit_unit()
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Bool(value)))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::from(value)))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::from(value)))
    }
    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Kind, E> {
        Err(E::custom(format!("the integer {value} does not fit 64 bits")))
    }
    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Kind, E> {
        Err(E::custom(format!("the integer {value} does not fit 64 bits")))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Kind, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom(format!("{value} is not a finite number")))?;
        Ok(Kind::Scalar(Value::Number(number)))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::String(value.to_owned())))
    }
    fn visit_string<E: de::Error>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::String(value)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element::<Node>()? {
            nodes.push(node);
        }
        Ok(Kind::List(nodes))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let node = access.next_value::<Node>()?;
            entries.push((key.value, key.referenced.line(), node));
        }
        Ok(Kind::Map(entries))
    }
}

/// Writes a scalar, or an empty list or map, so that [`parse`] reads the same value back.
pub fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        // A JSON string is a double-quoted YAML scalar (YAML 1.2 §1.3), as soon as what YAML does not print is escaped.
        Value::String(text) => {
            let mut quoted = String::new();
            for c in Value::String(text.clone()).to_string().chars() {
                let printable =
                    !c.is_control() && !matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}');
                if printable { quoted.push(c) } else { quoted.push_str(&format!("\\u{:04x}", c as u32)) }
            }
            quoted
        }
        other => other.to_string(),
    }
}

/// True for words that no YAML reader takes for anything but text.
fn is_plain(text: &str) -> bool {
    const RESERVED: [&str; 12] =
        ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn refused(text: &str) -> (u64, u64, String) {
        match parse("t.yaml", text) {
            Err(ConfigError::Syntax { line, column, message, .. }) => (line, column, message),
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn words_that_look_like_booleans_and_numbers_stay_text() {
        let document =
            parse("t.yaml", "a: yes\nb: on\nc: 017\nd: 1_000\ne: 1e-3\nf: True\ng: 0x10\nh: 12:30\ni: ~\n").unwrap();
        assert_eq!(
            document.value,
            json!({"a": "yes", "b": "on", "c": "017", "d": "1_000", "e": 0.001, "f": true, "g": 16, "h": "12:30", "i": null})
        );
    }

    #[test]
    fn every_key_knows_its_line() {
        let document =
            parse("t.yaml", "# c\na:\n  b: 1\n  list:\n    - x\n    -\n      y: 2\n\nqwen2.5: {z: 3}\n").unwrap();
        for (path, line) in
            [("a", 2), ("a.b", 3), ("a.list", 4), ("a.list.0", 5), ("a.list.1.y", 7), ("qwen2.5", 9), ("qwen2.5.z", 9)]
        {
            assert_eq!(document.lines.get(path), Some(&line), "{path}");
        }
    }

    #[test]
    fn crlf_and_a_byte_order_mark_change_nothing() {
        let plain = parse("t.yaml", "a: x\nb:\n  c: 1\n").unwrap();
        assert_eq!(parse("t.yaml", "\u{feff}a: x\r\nb:\r\n  c: 1\r\n").unwrap(), plain);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert_eq!(refused("a: 1\nb: 2\na: 3\n").0, 3);
        assert_eq!(refused("a: 1\na: 3\n").2, "duplicate key `a`");
        assert_eq!(refused("a: 1\n---\nb: 2\n").2, "the file holds more than one document");
        assert_eq!(refused("? [1, 2]\n: 3\n").2, "a key must be text");
        assert_eq!(refused("null: 3\n").2, "a key must be text");
        assert!(refused("a: .inf\n").2.starts_with("infinity"));
        let (line, column, message) = refused("a:\n\tb: 1\n");
        assert_eq!((line, column), (2, 1));
        assert!(message.contains("tab"), "{message}");
        assert_eq!(refused("a: 1\nb: [1, 2\nc: 3\n").0.clamp(2, 4), refused("a: 1\nb: [1, 2\nc: 3\n").0);
        assert!(refused("").2.contains("empty"));
        assert!(refused("# only a comment\n---\n").2.contains("empty"));
        assert!(refused("- a\n- b\n").2.contains("a list"));
        assert_eq!(refused("a: 1\nb: .inf\n").0, 2);
        assert_eq!(refused("a: 1\nb: \"\u{1}\"\n").0, 2);
        assert_eq!(refused("a: 1\n---\nb: 2\n").0, 2);
    }

    #[test]
    fn an_alias_bomb_is_refused_quickly() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let previous = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![previous; 10].join(", ")));
        }
        assert!(refused(&text).0 > 1);
        let deep = format!("a: {}1{}", "[".repeat(5000), "]".repeat(5000));
        let (line, _, message) = refused(&deep);
        assert!(line == 1 && message.len() < 200, "{message}");
    }

    #[test]
    fn a_file_of_settings_has_an_upper_size_and_is_text() {
        let directory = tempfile::tempdir().unwrap();
        let large = directory.path().join("large.yaml");
        std::fs::write(&large, "a: b\n".repeat(2 << 20)).unwrap();
        assert!(read(&large).unwrap_err().to_string().contains("8 MiB"));
        let latin = directory.path().join("latin.yaml");
        std::fs::write(&latin, b"a: 1\nb: caf\xe9\n").unwrap();
        assert!(read(&latin).unwrap_err().to_string().ends_with("latin.yaml:2:7: the file is not UTF-8 text"));
        assert!(matches!(read(directory.path()).unwrap_err(), ConfigError::Io { .. }));
        assert!(matches!(read(&directory.path().join("none.yaml")).unwrap_err(), ConfigError::Io { .. }));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = parse("t.yaml", &text);
        }

        #[test]
        fn yaml_like_text_is_read_or_refused(text in "[-a-c:#&*!|>'\"%@`{}\\[\\], \t\n0-9.~<?]{0,80}") {
            let _ = parse("t.yaml", &text);
        }

        #[test]
        fn text_is_read_back_as_written(text in any::<String>()) {
            let value = Value::String(text);
            let document = parse("t.yaml", &format!("a: {}\n", scalar_text(&value))).unwrap();
            prop_assert_eq!(&document.value["a"], &value);
        }

        #[test]
        fn numbers_are_read_back_as_written(value in any::<f64>().prop_filter("finite", |v| v.is_finite()), int in any::<i64>()) {
            let document = parse("t.yaml", &format!("a: {}\nb: {int}\n", scalar_text(&json!(value)))).unwrap();
            prop_assert_eq!(document.value["a"].as_f64(), Some(value));
            prop_assert_eq!(document.value["b"].as_i64(), Some(int));
        }
    }
}
