//! Sets of prompts: read from JSON, JSONL and text files, narrowed, shuffled with a seed, cut to a number.
//!
//! Order and choice depend on the files and the settings alone, so that two runs see the same prompts.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::near_matches;
use super::schema::stage1::DatasetConfig;

/// Larger files are not read: a set of prompts has to fit in memory beside a model.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// A longer prompt is a mistake: no model here takes a million tokens.
const MAX_PROMPT_BYTES: usize = 4 << 20;

/// One prompt of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Its id, unique in the set.
    pub id: String,
    /// What kind of task it is.
    pub category: Option<String>,
    /// The text.
    pub text: String,
    /// At most so many tokens are to be generated.
    pub max_output_tokens: Option<u32>,
    /// The file it came from.
    pub file: PathBuf,
    /// Its 1-based line in that file.
    pub line: u64,
}

/// A set of prompts that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// No `dataset.root`.
    #[error("no set of prompts is given: set `dataset.root`")]
    NoRoot,
    /// A file or directory that cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line, or a whole file, of another form.
    #[error("{path}:{line}: {message}", path = file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// 1-based line.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// Two prompts with one id.
    #[error("{path}:{line}: the id `{id}` is used already at {first_path}:{first_line}", path = file.display(), first_path = first_file.display())]
    DuplicateId {
        /// The id.
        id: String,
        /// The file of the second.
        file: PathBuf,
        /// Its line.
        line: u64,
        /// The file of the first.
        first_file: PathBuf,
        /// Its line.
        first_line: u64,
    },
    /// A line of the subset file that names no prompt.
    #[error("{path}:{line}: no prompt or file is called `{name}`{suggestion}", path = file.display())]
    NotInSet {
        /// The subset file.
        file: PathBuf,
        /// Its line.
        line: u64,
        /// What it names.
        name: String,
        /// `; did you mean …?`, or nothing.
        suggestion: String,
    },
    /// No prompt at all.
    #[error("`{path}` has no prompts: {message}", path = path.display())]
    Empty {
        /// The root or the subset file.
        path: PathBuf,
        /// What was looked for.
        message: String,
    },
}

/// Reads the set: `root`, narrowed by `subset`, shuffled if asked for, cut to `limit`.
pub fn load(config: &DatasetConfig) -> Result<Vec<Prompt>, DatasetError> {
    let root = config.root.as_deref().ok_or(DatasetError::NoRoot)?;
    let metadata = std::fs::metadata(root).map_err(|source| DatasetError::Io { path: root.to_owned(), source })?;
    let files = if metadata.is_dir() { files_of(root)? } else { vec![root.to_owned()] };
    let mut prompts = Vec::new();
    for file in &files {
        read_file(file, &mut prompts)?;
    }
    let mut seen: HashMap<&str, &Prompt> = HashMap::new();
    for prompt in &prompts {
        if let Some(first) = seen.insert(&prompt.id, prompt) {
            return Err(DatasetError::DuplicateId {
                id: prompt.id.clone(),
                file: prompt.file.clone(),
                line: prompt.line,
                first_file: first.file.clone(),
                first_line: first.line,
            });
        }
    }
    if prompts.is_empty() {
        let message = "expected JSON objects with a `prompt`".to_owned();
        return Err(DatasetError::Empty { path: root.to_owned(), message });
    }
    if let Some(subset) = &config.subset {
        prompts = narrow(prompts, subset)?;
    }
    if config.randomize {
        shuffle(&mut prompts, config.seed);
    }
    if let Some(limit) = config.limit {
        prompts.truncate(limit as usize);
    }
    Ok(prompts)
}

/// The files of a directory that may hold prompts, sorted by name, hidden ones left out.
fn files_of(directory: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let io = |source| DatasetError::Io { path: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.is_file() && form_of(&path).is_some() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        let message = "expected `.json`, `.jsonl`, `.ndjson` or `.txt` files in the directory".to_owned();
        return Err(DatasetError::Empty { path: directory.to_owned(), message });
    }
    Ok(files)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    JsonLines,
    Text,
}

fn form_of(path: &Path) -> Option<Form> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "json" => Some(Form::Json),
        "jsonl" | "ndjson" => Some(Form::JsonLines),
        "txt" => Some(Form::Text),
        _ => None,
    }
}

fn read_text(path: &Path) -> Result<String, DatasetError> {
    let io = |source| DatasetError::Io { path: path.to_owned(), source };
    let refuse = |line, message: String| DatasetError::Line { file: path.to_owned(), line, message };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE_BYTES {
        return Err(refuse(1, format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        refuse(
            1 + String::from_utf8_lossy(before).matches('\n').count() as u64,
            "the file is not UTF-8 text".to_owned(),
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn read_file(path: &Path, prompts: &mut Vec<Prompt>) -> Result<(), DatasetError> {
    let refuse = |line, message: String| DatasetError::Line { file: path.to_owned(), line, message };
    let form =
        form_of(path).ok_or_else(|| refuse(1, "expected a `.json`, `.jsonl`, `.ndjson` or `.txt` file".to_owned()))?;
    let text = read_text(path)?;
    let stem = path.file_stem().map_or_else(|| "prompt".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let items = match form {
        Form::Text => {
            let content = text.trim_end_matches(['\n', '\r']);
            let item = serde_json::json!({"id": stem, "prompt": content});
            prompts.push(prompt_of(path, 1, &item, String::new)?);
            return Ok(());
        }
        Form::Json if text.trim_start().starts_with('[') => {
            array_items(&text).map_err(|(line, message)| refuse(line, message))?
        }
        Form::Json | Form::JsonLines => {
            let mut items = Vec::new();
            for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let number = index as u64 + 1;
                let value = serde_json::from_str(line)
                    .map_err(|error| refuse(number, format!("not a JSON value on one line: {}", plain(&error))))?;
                items.push((number, value));
            }
            items
        }
    };
    for (index, (line, item)) in items.iter().enumerate() {
        prompts.push(prompt_of(path, *line, item, || format!("{stem}-{}", index + 1))?);
    }
    Ok(())
}

/// What `serde_json` says, without the position it counts within one item.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| format!("{message} at column {}", error.column()))
}

/// The elements of a JSON array, each with the line it begins on.
fn array_items(text: &str) -> Result<Vec<(u64, Value)>, (u64, String)> {
    let line_at = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count() as u64;
    let skip = |offset: usize| offset + (text[offset..].len() - text[offset..].trim_start().len());
    let mut offset = skip(0) + 1;
    let mut items = Vec::new();
    loop {
        offset = skip(offset);
        if text[offset..].starts_with(']') && items.is_empty() {
            break;
        }
        let line = line_at(offset);
        let mut stream = serde_json::Deserializer::from_str(&text[offset..]).into_iter::<Value>();
        match stream.next() {
            Some(Ok(value)) => items.push((line, value)),
            Some(Err(error)) => return Err((line + error.line().max(1) as u64 - 1, plain(&error))),
            None => return Err((line, "the list is not closed: `]` is missing".to_owned())),
        }
        offset = skip(offset + stream.byte_offset());
        match text[offset..].chars().next() {
            Some(',') => offset += 1,
            Some(']') => break,
            Some(other) => return Err((line_at(offset), format!("expected `,` or `]`, found `{other}`"))),
            None => return Err((line_at(offset), "the list is not closed: `]` is missing".to_owned())),
        }
    }
    let rest = skip(offset + 1);
    if rest < text.len() {
        return Err((line_at(rest), "text follows the list".to_owned()));
    }
    Ok(items)
}

fn prompt_of(file: &Path, line: u64, item: &Value, id: impl FnOnce() -> String) -> Result<Prompt, DatasetError> {
    let refuse = |message: String| DatasetError::Line { file: file.to_owned(), line, message };
    let Value::Object(fields) = item else {
        let text =
            item.as_str().ok_or_else(|| refuse(format!("expected an object with a `prompt`, found {item:.40}")))?;
        return checked(
            file,
            line,
            Prompt {
                id: id(),
                category: None,
                text: text.to_owned(),
                max_output_tokens: None,
                file: file.to_owned(),
                line,
            },
        );
    };
    let text = match fields.get("prompt") {
        Some(Value::String(text)) => text.clone(),
        Some(_) => return Err(refuse("`prompt` is not text".to_owned())),
        None => {
            let near = near_matches("prompt", fields.keys().map(String::as_str));
            let hint = near.first().map_or_else(String::new, |name| format!("; it has `{name}`"));
            return Err(refuse(format!("`prompt` is missing{hint}")));
        }
    };
    let id = match fields.get("id") {
        None | Some(Value::Null) => id(),
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(refuse("`id` must be text or a number".to_owned())),
    };
    let category = match fields.get("category") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return Err(refuse("`category` must be text".to_owned())),
    };
    let max_output_tokens =
        match fields.get("max_output_tokens") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let tokens = value.as_u64().and_then(|tokens| u32::try_from(tokens).ok()).filter(|tokens| *tokens > 0);
                Some(tokens.ok_or_else(|| {
                    refuse(format!("`max_output_tokens` is {value}: expected a whole number, 1 or more"))
                })?)
            }
        };
    checked(file, line, Prompt { id, category, text, max_output_tokens, file: file.to_owned(), line })
}

fn checked(file: &Path, line: u64, prompt: Prompt) -> Result<Prompt, DatasetError> {
    let refuse = |message: String| DatasetError::Line { file: file.to_owned(), line, message };
    if prompt.text.trim().is_empty() {
        return Err(refuse("the prompt is empty".to_owned()));
    }
    if prompt.text.len() > MAX_PROMPT_BYTES {
        return Err(refuse(format!("the prompt is longer than {} MiB", MAX_PROMPT_BYTES >> 20)));
    }
    Ok(prompt)
}

/// Keeps the prompts that `subset` lists, by id or by file name, in the order of the set.
fn narrow(prompts: Vec<Prompt>, subset: &Path) -> Result<Vec<Prompt>, DatasetError> {
    let text = read_text(subset)?;
    let file_name = |prompt: &Prompt| prompt.file.file_name().map(|name| name.to_string_lossy().into_owned());
    let ids: HashSet<String> =
        prompts.iter().flat_map(|prompt| [Some(prompt.id.clone()), file_name(prompt)]).flatten().collect();
    let mut wanted: HashSet<String> = HashSet::new();
    for (index, line) in text.lines().enumerate() {
        let name = line.trim();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        if !ids.contains(name) {
            let near = near_matches(name, ids.iter().map(String::as_str));
            let suggestion = near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(DatasetError::NotInSet {
                file: subset.to_owned(),
                line: index as u64 + 1,
                name: name.to_owned(),
                suggestion,
            });
        }
        wanted.insert(name.to_owned());
    }
    let kept: Vec<Prompt> = prompts
        .into_iter()
        .filter(|prompt| wanted.contains(&prompt.id) || file_name(prompt).is_some_and(|name| wanted.contains(&name)))
        .collect();
    if kept.is_empty() {
        let message = "the subset file lists no ids".to_owned();
        return Err(DatasetError::Empty { path: subset.to_owned(), message });
    }
    Ok(kept)
}

/// Fisher–Yates over SplitMix64 (Steele, Lea, Flood 2014). Written out because an order that is recorded as "seed 7" must stay the
/// same when a random-number library changes.
fn shuffle(prompts: &mut [Prompt], seed: u64) {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    for last in (1..prompts.len()).rev() {
        // The high half of a 128-bit product maps to 0..=last with a bias below 2⁻⁴⁰ for any set that fits in memory.
        let pick = ((u128::from(next()) * (last as u128 + 1)) >> 64) as usize;
        prompts.swap(last, pick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(root: &Path) -> DatasetConfig {
        DatasetConfig { root: Some(root.to_owned()), subset: None, limit: None, seed: 7, randomize: false }
    }

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    fn refused(name: &str, text: &str) -> String {
        let directory = written(&[(name, text)]);
        let error = load(&config(&directory.path().join(name))).expect_err(text);
        error.to_string().replace(&format!("{}/", directory.path().display()), "")
    }

    #[test]
    fn a_list_lines_and_text_files_are_read_in_order_of_their_names() {
        let directory = written(&[
            (
                "b.json",
                "[\n  {\"prompt\": \"one\", \"id\": 5, \"ignore_eos\": false},\n\n  {\"prompt\": \"two\\nlines\", \"category\": \"math\", \"max_output_tokens\": 9}\n]\n",
            ),
            ("a.jsonl", "\u{feff}{\"id\": \"x\", \"prompt\": \"first\"}\r\n\r\n\"bare\"\r\n"),
            ("c.txt", "all of it\nis a prompt\n"),
            ("notes.md", "not a prompt"),
            (".hidden.json", "broken"),
        ]);
        let prompts = load(&config(directory.path())).unwrap();
        let seen: Vec<_> =
            prompts.iter().map(|prompt| (prompt.id.as_str(), prompt.text.as_str(), prompt.line)).collect();
        assert_eq!(
            seen,
            [
                ("x", "first", 1),
                ("a-2", "bare", 3),
                ("5", "one", 2),
                ("b-2", "two\nlines", 4),
                ("c", "all of it\nis a prompt", 1)
            ]
        );
        assert_eq!((prompts[3].category.as_deref(), prompts[3].max_output_tokens), (Some("math"), Some(9)));
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line() {
        for (name, text, expected) in [
            ("a.jsonl", "{\"prompt\":\"x\"}\n{\"prompt\":\n", "a.jsonl:2: not a JSON value"),
            ("a.jsonl", "{\"prompt\":\"x\"}\n\n{\"promt\":\"y\"}\n", "a.jsonl:3: `prompt` is missing; it has `promt`"),
            ("a.jsonl", "{\"prompt\":3}\n", "a.jsonl:1: `prompt` is not text"),
            ("a.jsonl", "{\"prompt\":\" \"}\n", "a.jsonl:1: the prompt is empty"),
            ("a.jsonl", "3\n", "a.jsonl:1: expected an object"),
            ("a.jsonl", "{\"prompt\":\"x\",\"max_output_tokens\":0}", "a.jsonl:1: `max_output_tokens` is 0"),
            (
                "a.jsonl",
                "{\"prompt\":\"x\",\"id\":\"i\"}\n{\"prompt\":\"y\",\"id\":\"i\"}",
                "a.jsonl:2: the id `i` is used already at a.jsonl:1",
            ),
            ("a.jsonl", "\n\n", "a.jsonl` has no prompts"),
            ("a.json", "[]", "a.json` has no prompts"),
            ("a.json", "[\n{\"prompt\":\"x\"}\n{\"prompt\":\"y\"}]", "a.json:3: expected `,` or `]`, found `{`"),
            ("a.json", "[\n{\"prompt\":\"x\"},\n", "a.json:3: the list is not closed"),
            ("a.json", "[\n{\"prompt\":\"x\"},\n]", "a.json:3: "),
            ("a.json", "[{\"prompt\":\"x\"}]\nmore", "a.json:2: text follows"),
            ("a.json", "[\n{\"prompt\":\n\"x\",,}]", "a.json:3: "),
            ("a.csv", "prompt\nx\n", "a.csv:1: expected a `.json`"),
        ] {
            let message = refused(name, text);
            assert!(message.contains(expected), "{text:?}: {message}");
        }
        assert!(matches!(load(&DatasetConfig { root: None, ..config(Path::new("")) }), Err(DatasetError::NoRoot)));
        assert!(matches!(load(&config(Path::new("/nonexistent/x.json"))), Err(DatasetError::Io { .. })));
        let large = format!("{{\"prompt\":\"{}\"}}", "x".repeat(MAX_PROMPT_BYTES + 1));
        assert!(refused("a.jsonl", &large).contains("longer than 4 MiB"));
    }

    #[test]
    fn a_subset_keeps_what_it_names_and_refuses_what_is_not_there() {
        let directory = written(&[
            (
                "a.jsonl",
                "{\"id\":\"one\",\"prompt\":\"1\"}\n{\"id\":\"two\",\"prompt\":\"2\"}\n{\"id\":\"three\",\"prompt\":\"3\"}\n",
            ),
            ("b.txt", "4"),
            ("keep.list", "# these\nthree\n\nb.txt\none\n"),
            ("wrong.list", "one\nthre\n"),
        ]);
        let with =
            |subset: &str| DatasetConfig { subset: Some(directory.path().join(subset)), ..config(directory.path()) };
        let ids: Vec<String> = load(&with("keep.list")).unwrap().into_iter().map(|prompt| prompt.id).collect();
        assert_eq!(ids, ["one", "three", "b"]);
        let message = load(&with("wrong.list")).unwrap_err().to_string();
        assert!(
            message.ends_with("wrong.list:2: no prompt or file is called `thre`; did you mean `three`?"),
            "{message}"
        );
    }

    #[test]
    fn a_shuffle_is_a_permutation_that_the_seed_decides() {
        let lines: Vec<String> = (0..50).map(|index| format!("{{\"id\":{index},\"prompt\":\"p\"}}")).collect();
        let directory = written(&[("a.jsonl", &lines.join("\n"))]);
        let ids = |seed, limit| -> Vec<String> {
            let config = DatasetConfig { seed, limit, randomize: true, ..config(directory.path()) };
            load(&config).unwrap().into_iter().map(|prompt| prompt.id).collect()
        };
        assert_eq!(ids(7, None), ids(7, None));
        assert_ne!(ids(7, None), ids(8, None));
        assert_eq!(ids(7, Some(5)), ids(7, None)[..5], "the limit must cut after the shuffle");
        let mut sorted: Vec<u32> = ids(7, None).iter().map(|id| id.parse().unwrap()).collect();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}\",: \nprompt0-9é-]{0,60}") {
            let _ = array_items(&format!("[{text}"));
            let directory = written(&[("a.json", &text)]);
            let _ = load(&config(&directory.path().join("a.json")));
        }
    }
}
