//! Splits the output of the tool into records. Not a plain CSV file: messages of the tool and output of the profiled program stand between the
//! rows, and a stray quotation mark in them must not swallow what follows.

use std::io::{self, BufRead};

/// A quoted field may run over this many lines.
const LINES_OF_A_RECORD: usize = 200;

/// Joins lines to records.
pub(super) struct Lines<R> {
    input: R,
    /// A line read ahead that belongs to the next record.
    ahead: Option<String>,
    /// Bytes read so far.
    pub(super) bytes: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, ahead: None, bytes: 0 }
    }
    fn line(&mut self) -> io::Result<Option<String>> {
        if let Some(line) = self.ahead.take() {
            return Ok(Some(line));
        }
        let mut bytes = Vec::new();
        self.bytes += self.input.read_until(b'\n', &mut bytes)? as u64;
        if bytes.is_empty() {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
    /// The next record, without its line end.
    pub(super) fn record(&mut self) -> io::Result<Option<String>> {
        let Some(mut record) = self.line()? else { return Ok(None) };
        // Only a row of the table begins with a quotation mark; text of a program that happens to hold one is a line of its own.
        if record.starts_with('"') && open_quote(&record) {
            let mut joined = record.clone();
            for _ in 0..LINES_OF_A_RECORD {
                let Some(next) = self.line()? else { break };
                if next.starts_with("==") || begins_row(&next) {
                    self.ahead = Some(next);
                    break;
                }
                joined.push_str(&next);
                if !open_quote(&joined) {
                    record = joined;
                    break;
                }
            }
        }
        record.truncate(record.trim_end_matches(['\r', '\n']).len());
        Ok(Some(record))
    }
}

/// Whether a quotation mark is left open at the end. A doubled one within a field counts twice and changes nothing.
fn open_quote(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1
}

/// Whether a line begins with a quoted launch index, as every row does, or as a header does.
fn begins_row(line: &str) -> bool {
    let Some(rest) = line.strip_prefix('"') else { return false };
    if rest.starts_with("ID\",\"") || rest.starts_with("Kernel Name\",\"") {
        return true;
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && rest[digits..].starts_with("\",\"")
}

/// The fields of a record.
pub(super) fn fields(record: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut chars = record.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::{Lines, fields};

    fn records(text: &str) -> Vec<String> {
        let mut lines = Lines::new(text.as_bytes());
        std::iter::from_fn(|| lines.record().unwrap()).collect()
    }

    #[test]
    fn fields_keep_commas_and_quotation_marks_within_them() {
        assert_eq!(fields(r#""0","k<1, 2>(int)","a ""b""",plain,"#), ["0", "k<1, 2>(int)", "a \"b\"", "plain", ""]);
        assert_eq!(fields(""), [""]);
    }

    #[test]
    fn a_field_may_run_over_lines() {
        assert_eq!(records("\"0\",\"first\nsecond\"\r\n\"1\",\"x\"\n"), ["\"0\",\"first\nsecond\"", "\"1\",\"x\""]);
    }

    #[test]
    fn a_stray_quotation_mark_does_not_swallow_rows() {
        let text = "\"broken\n\"0\",\"a\"\nhe said \"hi\n\"1\",\"b\"\n\"half\n==PROF== Disconnected\n";
        assert_eq!(
            records(text),
            ["\"broken", "\"0\",\"a\"", "he said \"hi", "\"1\",\"b\"", "\"half", "==PROF== Disconnected"]
        );
    }
}
