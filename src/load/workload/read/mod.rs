//! Reads a file of prompts, of conversations or of a trace. The format is seen from the content.

mod csv;
mod json;
mod record;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::builtin::CATEGORIES;
use super::error::WorkloadError;
pub use record::{Asked, Record, SourceTurn};

/// Larger files are not read: a set has to fit into the memory of the client.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prompts as text, messages or token ids.
    Prompts,
    /// Conversations of `from` and `value`.
    ShareGpt,
    /// A trace in JSON lines with lengths and hashes of blocks.
    Mooncake,
    /// A trace in CSV with seconds and `Request tokens`.
    BurstGpt,
    /// A trace in CSV with date-times and `ContextTokens`.
    Azure,
}

impl Format {
    /// The name in every artifact.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prompts => "prompts",
            Self::ShareGpt => "sharegpt",
            Self::Mooncake => "mooncake",
            Self::BurstGpt => "burstgpt",
            Self::Azure => "azure",
        }
    }
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// Skip what cannot be used instead of refusing the file.
    pub lenient: bool,
    /// Read at most so many records.
    pub most: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { lenient: false, most: usize::MAX }
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The format of its first record.
    pub format: Format,
    /// Records in the order of the file; never empty.
    pub records: Vec<Record>,
    /// Lines that could not be used and were skipped, as asked for.
    pub skipped: u64,
    /// What was left out or is odd, in words.
    pub notes: Vec<String>,
}

/// Reads the file at `path`.
///
/// # Errors
/// What cannot be used, with its line; that the file is missing, too large or empty.
pub fn read(path: &Path, options: ReadOptions) -> Result<Loaded, WorkloadError> {
    let io = |source| WorkloadError::Io { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20);
        return Err(WorkloadError::Line { file: path.to_owned(), line: 1, message });
    }
    parse(path, &std::fs::read(path).map_err(io)?, options)
}

/// Reads `bytes` as the content of the file `path`, which errors name.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, bytes: &[u8], options: ReadOptions) -> Result<Loaded, WorkloadError> {
    let refuse = |line, message: &str| WorkloadError::Line { file: path.to_owned(), line, message: message.to_owned() };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(refuse(1, "the file is UTF-16: save it as UTF-8"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = memchr::memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count() as u64;
        refuse(1 + before, "the file is not UTF-8 text")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut sink = Sink::new(path, options);
    match text.trim_start().chars().next() {
        None => {}
        Some('[' | '{' | '"') => json::read(text, &mut sink)?,
        Some(_) => csv::read(text, &mut sink)?,
    }
    sink.finish()
}

/// Takes records, or the reasons why there are none, and keeps count.
struct Sink {
    file: PathBuf,
    options: ReadOptions,
    format: Option<Format>,
    records: Vec<Record>,
    ids: HashMap<String, u64>,
    skipped: u64,
    first_skipped: Option<String>,
    left_out: HashMap<&'static str, u64>,
    categories: BTreeSet<String>,
}

impl Sink {
    fn new(path: &Path, options: ReadOptions) -> Self {
        Self {
            file: path.to_owned(),
            options,
            format: None,
            records: Vec::new(),
            ids: HashMap::new(),
            skipped: 0,
            first_skipped: None,
            left_out: HashMap::new(),
            categories: BTreeSet::new(),
        }
    }

    /// Whether as much was read as is wanted.
    fn is_full(&self) -> bool {
        self.records.len() >= self.options.most
    }

    fn error(&self, line: u64, message: impl Into<String>) -> WorkloadError {
        WorkloadError::Line { file: self.file.clone(), line, message: message.into() }
    }

    /// Takes a record.
    fn push(&mut self, format: Format, record: Record) -> Result<(), WorkloadError> {
        // Conversations are cut into parts that share the id; only ids that somebody gave to a prompt must tell it from others.
        if let Some(id) = record.id.as_ref().filter(|_| format == Format::Prompts) {
            if let Some(first_line) = self.ids.get(id).copied() {
                let error = WorkloadError::DuplicateId {
                    file: self.file.clone(),
                    line: record.line,
                    id: id.clone(),
                    first_line,
                };
                return self.skip(error);
            }
            self.ids.insert(id.clone(), record.line);
        }
        if let Some(category) = record.category.as_ref().filter(|name| !CATEGORIES.contains(&name.as_str())) {
            self.categories.insert(category.clone());
        }
        self.format.get_or_insert(format);
        self.records.push(record);
        Ok(())
    }

    /// Takes the reason why a line is no record.
    fn bad(&mut self, line: u64, message: impl Into<String>) -> Result<(), WorkloadError> {
        let error = self.error(line, message);
        self.skip(error)
    }

    fn skip(&mut self, error: WorkloadError) -> Result<(), WorkloadError> {
        if !self.options.lenient {
            return Err(error);
        }
        self.skipped += 1;
        self.first_skipped.get_or_insert_with(|| error.to_string());
        Ok(())
    }

    /// Counts a record that is sound and of no use.
    fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_default() += 1;
    }

    fn finish(self) -> Result<Loaded, WorkloadError> {
        let mut notes: Vec<String> =
            self.left_out.iter().map(|(why, count)| format!("{count} {why} were left out")).collect();
        notes.sort();
        if let Some(first) = &self.first_skipped {
            notes.push(format!("{} lines could not be used and were skipped; the first: {first}", self.skipped));
        }
        if !self.categories.is_empty() {
            let names: Vec<&str> = self.categories.iter().map(String::as_str).take(5).collect();
            let more = if self.categories.len() > names.len() { ", …" } else { "" };
            notes.push(format!("categories of its own: {}{more}", names.join(", ")));
        }
        let Some(format) = self.format else {
            let message = if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) };
            return Err(WorkloadError::Empty { path: self.file, message });
        };
        Ok(Loaded { format, records: self.records, skipped: self.skipped, notes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strict(text: &str) -> Result<Loaded, WorkloadError> {
        parse(Path::new("set.dat"), text.as_bytes(), ReadOptions::default())
    }
    fn lenient(text: &str) -> Loaded {
        parse(Path::new("set.dat"), text.as_bytes(), ReadOptions { lenient: true, ..ReadOptions::default() }).unwrap()
    }
    fn refused(text: &str) -> String {
        strict(text).expect_err(text).to_string()
    }

    #[test]
    fn formats_are_told_by_content_with_byte_order_mark_and_windows_line_ends() {
        for (text, format, count) in [
            ("\u{feff}[\"one\",\r\n {\"prompt\": \"two\"}\r\n]\r\n", Format::Prompts, 2),
            ("{\"prompt\": \"one\"}\r\n\r\n{\"prompt\": \"two\"}\r\n", Format::Prompts, 2),
            ("\"one\"\n\"two\"\n\"three\"", Format::Prompts, 3),
            (
                "{\n  \"name\": \"mine\",\n  \"prompts\": [\n    {\"prompt\": \"one\"},\n    \"two\"\n  ]\n}",
                Format::Prompts,
                2,
            ),
            (
                "{\"version\": 2, \"data\": [{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}]}",
                Format::Prompts,
                1,
            ),
            ("{\n \"prompt\": \"alone\"\n}", Format::Prompts, 1),
            ("[{\"id\": \"a\", \"conversations\": [{\"from\": \"human\", \"value\": \"hi\"}]}]", Format::ShareGpt, 1),
            ("{\"timestamp\": 0, \"input_length\": 9, \"output_length\": 2, \"hash_ids\": [0]}\n", Format::Mooncake, 1),
            (
                "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\r\n5,ChatGPT,9,3,12,API log\r\n",
                Format::BurstGpt,
                1,
            ),
            (
                "\u{feff}TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n",
                Format::Azure,
                1,
            ),
        ] {
            let loaded = strict(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((loaded.format, loaded.records.len()), (format, count), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line() {
        for (text, expected) in [
            ("{\"prompt\":\"x\"}\n{\"prompt\":\n", "set.dat:2: not a JSON value"),
            ("{\"prompt\":\"x\"}\n\n{\"promt\":\"y\"}\n", "set.dat:3: `prompt` is missing; it has `promt`"),
            ("{\"category\":\"math\"}\n", "set.dat:1: `prompt` is missing"),
            ("[\n\"x\",\n{\"prompt\":3}]", "set.dat:3: `prompt` is neither text nor a list of token ids"),
            ("[\n{\"prompt\":\"x\"}\n{\"prompt\":\"y\"}]", "set.dat:3: expected `,` or `]`, found `{`"),
            ("[\n{\"prompt\":\"x\"},\n", "set.dat:2: the list is not closed"),
            ("[\"x\"]\nmore", "set.dat:2: text follows"),
            ("{\"prompt\":\" \\n\"}\n", "set.dat:1: the prompt is empty"),
            ("{\"prompt\":\"x\",\"max_output_tokens\":0}", "set.dat:1: `max_output_tokens` is 0"),
            (
                "{\"prompt\":\"x\",\"max_tokens\":4,\"min_output_tokens\":5}",
                "set.dat:1: at least 5 tokens are asked for, and at most 4",
            ),
            (
                "{\"prompt\":\"x\",\"id\":\"i\"}\n{\"prompt\":\"y\",\"id\":\"i\"}",
                "set.dat:2: the id `i` is used already on line 1",
            ),
            ("{\"messages\":[{\"role\":\"pirate\",\"content\":\"x\"}]}", "set.dat:1: a message has the role `pirate`"),
            ("{\"messages\":[]}", "set.dat:1: `messages` has no message to answer"),
            ("3\n", "set.dat:1: "),
            ("just some text\n", "set.dat:1: this is none of the known formats"),
            (
                "Timestamp,Model,Request tokens,Response tokens\n1,a,2,3\n2,a,many,3\n",
                "set.dat:3: `Request tokens` is `many`",
            ),
            ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n", "set.dat:2: `TIMESTAMP` is `yesterday`"),
            ("{\"timestamp\":1,\"input_length\":0,\"output_length\":1}", "set.dat:1: `input_length` is 0"),
            ("", "`set.dat` has no prompts"),
            ("[]", "`set.dat` has no prompts"),
            (" \n\n", "`set.dat` has no prompts"),
            ("{\"prompts\": []}", "`set.dat` has no prompts"),
        ] {
            let message = refused(text);
            assert!(message.contains(expected), "{text:?}: {message}");
        }
        let bytes = b"{\"prompt\":\"x\"}\n{\"prompt\":\"\xff\"}\n";
        let error = parse(Path::new("set.dat"), bytes, ReadOptions::default()).unwrap_err().to_string();
        assert_eq!(error, "set.dat:2: the file is not UTF-8 text");
        assert!(
            parse(Path::new("x"), b"\xff\xfea\0", ReadOptions::default()).unwrap_err().to_string().contains("UTF-16")
        );
    }

    #[test]
    fn lenient_skips_what_cannot_be_used_and_says_how_much() {
        let loaded =
            lenient("{\"prompt\":\"x\",\"id\":1}\n{\"prompt\"\n{}\n{\"prompt\":\"y\",\"id\":1}\n{\"prompt\":\"z\"}\n");
        assert_eq!((loaded.records.len(), loaded.skipped), (2, 3));
        assert!(loaded.notes[0].starts_with("3 lines could not be used"), "{:?}", loaded.notes);
        assert!(loaded.notes[0].contains("set.dat:2: "), "{:?}", loaded.notes);
        // A broken first line does not make the rest something else.
        assert_eq!(lenient("{\"prompt\": \"torn\n{\"prompt\":\"y\"}\n{\"prompt\":\"z\"}\n").records.len(), 2);
        let options = ReadOptions { lenient: true, ..ReadOptions::default() };
        let error = parse(Path::new("set.dat"), b"{}\n{}\n", options).unwrap_err().to_string();
        assert!(error.contains("has no prompts") && error.contains("2 lines"), "{error}");
    }

    #[test]
    fn a_megabyte_is_a_prompt_and_more_are_read_only_if_wanted() {
        let long = "word ".repeat(210_000);
        let text = format!("{{\"prompt\":\"{long}\"}}\n\"second\"\n{{\"broken\n");
        let loaded = parse(Path::new("x"), text.as_bytes(), ReadOptions { lenient: false, most: 2 }).unwrap();
        assert_eq!(loaded.records.len(), 2);
        let Asked::Prompt(super::super::item::Prompt::Text(text)) = &loaded.records[0].turns[0].asked else { panic!() };
        assert_eq!(text.len(), 1_050_000);
    }

    #[test]
    fn categories_beside_the_known_ones_are_named_and_no_mistake() {
        let loaded =
            strict("{\"prompt\":\"x\",\"category\":\"poetry\"}\n{\"prompt\":\"y\",\"category\":\"math\"}\n").unwrap();
        assert_eq!(loaded.notes, ["categories of its own: poetry"]);
        assert_eq!(loaded.records[1].category.as_deref(), Some("math"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), lenient: bool) {
            let _ = parse(Path::new("x"), &bytes, ReadOptions { lenient, ..ReadOptions::default() });
        }
        #[test]
        fn text_that_is_nearly_a_dataset_is_read_or_refused(
            head in "(\\{|\\[|\"|Timestamp,Request tokens,Response tokens\\r?\\n|TIMESTAMP,ContextTokens,GeneratedTokens\\n|\u{feff})?",
            parts in proptest::collection::vec(
                "(\"prompt\"|\"messages\"|\"turns\"|\"conversations\"|\"hash_ids\"|\"input_length\"|\"timestamp\"|\"at_ns\"|\"prompts\"|:|,|\\{|\\}|\\[|\\]|\"x\"|1e400|-1|99999999999999999999|0.5|\r?\n|2023-11-16 18:17:03|é)",
                0..40,
            ),
            lenient: bool,
        ) {
            let _ = parse(Path::new("x"), (head + &parts.concat()).as_bytes(), ReadOptions { lenient, ..ReadOptions::default() });
        }
    }
}
