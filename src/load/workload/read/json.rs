//! JSON lists, JSON documents with a list in them, and JSON lines, one record at a time with its line.

use serde_json::Value;

use super::super::error::WorkloadError;
use super::{Sink, record};

/// Lists that a document may hold its records in.
const LISTS: [&str; 2] = ["prompts", "data"];

/// Reads `text`, which begins with `[`, `{` or `"`.
pub(super) fn read(text: &str, sink: &mut Sink) -> Result<(), WorkloadError> {
    let mut walk = Walk { text, offset: 0, line: 1 };
    walk.skip_space();
    match walk.peek() {
        Some('[') => {
            array(&mut walk, sink)?;
            if sink.is_full() { Ok(()) } else { at_end(&mut walk, sink) }
        }
        Some('{') if is_document(text) => document(&mut walk, sink),
        _ => lines(text, sink),
    }
}

/// Whether an object spans lines, or is one line with a list of records in it. Anything else that begins with `{` is JSON lines.
fn is_document(text: &str) -> bool {
    let first = text.trim_start().lines().next().unwrap_or("").trim();
    if let Ok(value) = serde_json::from_str::<Value>(first) {
        return LISTS.iter().any(|name| value.get(name).is_some_and(Value::is_array));
    }
    // A line that is more than an opened object and is followed by whole objects is a broken line of JSON lines, unless all is one document.
    let is_whole = |line: &str| line.starts_with('{') && serde_json::from_str::<Value>(line).is_ok();
    let followed = || text.trim_start().lines().skip(1).any(|line| is_whole(line.trim()));
    first == "{" || serde_json::from_str::<Value>(text).is_ok() || !followed()
}

fn lines(text: &str, sink: &mut Sink) -> Result<(), WorkloadError> {
    for (index, line) in text.lines().enumerate() {
        if sink.is_full() {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let number = index as u64 + 1;
        match serde_json::from_str::<Value>(line) {
            Ok(value) => record::take(number, value, sink)?,
            Err(error) => sink.bad(number, format!("not a JSON value on one line: {}", plain(&error)))?,
        }
    }
    Ok(())
}

/// An object: with a list of records, or one record alone.
fn document(walk: &mut Walk<'_>, sink: &mut Sink) -> Result<(), WorkloadError> {
    let (begin, first_line) = (walk.offset, walk.line);
    walk.advance(1);
    walk.skip_space();
    let mut found = false;
    while walk.peek() != Some('}') {
        let key = match walk.value() {
            Ok(Value::String(key)) => key,
            Ok(_) => return Err(sink.error(walk.line, "expected the name of a field")),
            Err((line, message)) => return Err(sink.error(line, message)),
        };
        walk.skip_space();
        if walk.peek() != Some(':') {
            return Err(sink.error(walk.line, format!("expected `:` after `{key:.40}`")));
        }
        walk.advance(1);
        walk.skip_space();
        if LISTS.contains(&key.as_str()) && walk.peek() == Some('[') && !found {
            found = true;
            array(walk, sink)?;
            if sink.is_full() {
                return Ok(());
            }
        } else if let Err((line, message)) = walk.value() {
            return Err(sink.error(line, message));
        }
        walk.skip_space();
        match walk.peek() {
            Some(',') => {
                walk.advance(1);
                walk.skip_space();
            }
            Some('}') => {}
            Some(other) => return Err(sink.error(walk.line, format!("expected `,` or `}}`, found `{other}`"))),
            None => return Err(sink.error(walk.line, "the object is not closed: `}` is missing")),
        }
    }
    walk.advance(1);
    if !found {
        match serde_json::from_str::<Value>(&walk.text[begin..walk.offset]) {
            Ok(value) => record::take(first_line, value, sink)?,
            Err(error) => return Err(sink.error(first_line + error.line() as u64 - 1, plain(&error))),
        }
    }
    at_end(walk, sink)
}

/// The elements of a list. Walks past its end, unless the sink is full before.
fn array(walk: &mut Walk<'_>, sink: &mut Sink) -> Result<(), WorkloadError> {
    walk.advance(1);
    walk.skip_space();
    if walk.peek() == Some(']') {
        walk.advance(1);
        return Ok(());
    }
    while !sink.is_full() {
        let line = walk.line;
        if walk.peek().is_none() {
            return Err(sink.error(line, "the list is not closed: `]` is missing"));
        }
        match walk.value() {
            Ok(value) => record::take(line, value, sink)?,
            Err((line, message)) => return Err(sink.error(line, message)),
        }
        walk.skip_space();
        match walk.peek() {
            Some(',') => {
                walk.advance(1);
                // The end is told where the last thing stands, not after the line breaks behind it.
                let before = walk.line;
                walk.skip_space();
                if walk.peek().is_none() {
                    return Err(sink.error(before, "the list is not closed: `]` is missing"));
                }
            }
            Some(']') => {
                walk.advance(1);
                return Ok(());
            }
            Some(other) => return Err(sink.error(walk.line, format!("expected `,` or `]`, found `{other}`"))),
            None => return Err(sink.error(walk.line, "the list is not closed: `]` is missing")),
        }
    }
    Ok(())
}

fn at_end(walk: &mut Walk<'_>, sink: &Sink) -> Result<(), WorkloadError> {
    walk.skip_space();
    match walk.peek() {
        None => Ok(()),
        Some(_) => Err(sink.error(walk.line, "text follows the end")),
    }
}

/// A place in a text whose line is known.
struct Walk<'a> {
    text: &'a str,
    offset: usize,
    line: u64,
}

impl Walk<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.offset..].chars().next()
    }
    fn advance(&mut self, bytes: usize) {
        let passed = &self.text.as_bytes()[self.offset..self.offset + bytes];
        self.line += memchr::memchr_iter(b'\n', passed).count() as u64;
        self.offset += bytes;
    }
    fn skip_space(&mut self) {
        let rest = &self.text[self.offset..];
        self.advance(rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len());
    }
    /// The value that begins here; else a line and what is wrong on it.
    fn value(&mut self) -> Result<Value, (u64, String)> {
        let mut stream = serde_json::Deserializer::from_str(&self.text[self.offset..]).into_iter::<Value>();
        match stream.next() {
            Some(Ok(value)) => {
                let length = stream.byte_offset();
                self.advance(length);
                Ok(value)
            }
            Some(Err(error)) => Err((self.line + error.line().max(1) as u64 - 1, plain(&error))),
            None => Err((self.line, "a value is missing".to_owned())),
        }
    }
}

/// What `serde_json` says, without the line it counts within one record.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| format!("{message} at column {}", error.column()))
}
