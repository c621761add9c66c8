//! What can be wrong with the settings.

use std::path::PathBuf;

use super::provenance::Origin;
use crate::diagnostics::{ExitStatus, Failure};

/// A mistake in a configuration file or an override; it says where, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory that cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not the YAML that is accepted here.
    #[error("{file}:{line}:{column}: {message}")]
    Syntax {
        /// The file as named by the user, or its embedded name.
        file: String,
        /// 1-based line.
        line: u64,
        /// 1-based column.
        column: u64,
        /// What is wrong.
        message: String,
    },
    /// A file of good YAML whose content has another form than its place asks for.
    #[error("{origin}: {message}")]
    File {
        /// Where.
        origin: Origin,
        /// What is wrong.
        message: String,
    },
    /// An override that is not in the grammar.
    #[error("override `{argument}`: {message} at character {position}")]
    Override {
        /// The argument as typed.
        argument: String,
        /// 1-based position in it, in characters.
        position: usize,
        /// What is wrong.
        message: String,
    },
    /// A key that no setting has.
    #[error("unknown key `{key}` ({origin})")]
    UnknownKey {
        /// The dotted key.
        key: String,
        /// Who set it.
        origin: Origin,
        /// Known keys like it.
        near: Vec<String>,
        /// The keys that are allowed in its place.
        allowed: Vec<String>,
    },
    /// A value of the wrong type, or a word that is not one of those allowed.
    #[error("`{key}` is {value}: {expected} ({origin})")]
    WrongType {
        /// The dotted key.
        key: String,
        /// The value in back-ticks, or `missing`.
        value: String,
        /// What is expected, in words.
        expected: String,
        /// Who set it.
        origin: Origin,
    },
    /// A number outside its range.
    #[error("`{key}` is `{value}`: expected {expected} ({origin})")]
    OutOfRange {
        /// The dotted key.
        key: String,
        /// The value as JSON.
        value: String,
        /// The range, in words.
        expected: String,
        /// Who set it.
        origin: Origin,
    },
    /// Settings that exclude each other.
    #[error("{message} ({origin})")]
    Conflict {
        /// Which and why.
        message: String,
        /// Who set the later one.
        origin: Origin,
    },
    /// A group choice, or a model alias, that does not exist.
    #[error("no {group} is called `{choice}` ({origin})")]
    UnknownChoice {
        /// The group.
        group: Box<str>,
        /// The name asked for.
        choice: Box<str>,
        /// Names like it.
        near: Vec<String>,
        /// All names.
        available: Vec<String>,
        /// Who asked for it.
        origin: Origin,
    },
    /// `~key` where nothing has that key or value.
    #[error("override `{argument}`: {message}")]
    CannotDelete {
        /// The argument as typed.
        argument: String,
        /// What was looked for.
        message: String,
        /// Keys like it.
        near: Vec<String>,
    },
    /// `+key=value` where the key is there already.
    #[error("override `{argument}`: `{key}` is there already ({existing})")]
    CannotAdd {
        /// The argument as typed.
        argument: String,
        /// The dotted key.
        key: String,
        /// Who set it.
        existing: Origin,
    },
    /// Several values in an override outside a multirun.
    #[error("override `{argument}` gives {count} values for one run")]
    SeveralValues {
        /// The argument as typed.
        argument: String,
        /// How many values.
        count: usize,
    },
    /// A multirun of more runs than can have been meant.
    #[error("the overrides make {count} runs: at most {limit} are accepted")]
    TooManyRuns {
        /// How many runs.
        count: u128,
        /// The limit.
        limit: usize,
    },
    /// A run file that asks for another backend than the one `stage1` has.
    #[error("backend `{backend}` is not supported by `stage1`, which runs models in process with `candle` ({origin})")]
    UnsupportedBackend {
        /// The backend asked for.
        backend: String,
        /// Who asked for it.
        origin: Origin,
    },
    /// A command that has no root file.
    #[error("no settings are known for the command `{command}`")]
    UnknownCommand {
        /// The command.
        command: String,
    },
}

impl ConfigError {
    /// The file and line (0 for the file as a whole) that the mistake stands in, if it stands in a file.
    pub fn place(&self) -> Option<(&str, u64)> {
        match self {
            Self::Syntax { file, line, .. } => Some((file, *line)),
            Self::File { origin, .. }
            | Self::UnknownKey { origin, .. }
            | Self::WrongType { origin, .. }
            | Self::OutOfRange { origin, .. }
            | Self::Conflict { origin, .. }
            | Self::UnknownChoice { origin, .. }
            | Self::UnsupportedBackend { origin, .. } => match origin {
                Origin::File { file, line, .. } => Some((file, *line)),
                Origin::Override { .. } | Origin::Derived(_) => None,
            },
            _ => None,
        }
    }
    /// What the user can do, one line each.
    pub fn hints(&self) -> Vec<String> {
        let did_you_mean =
            |near: &[String]| (!near.is_empty()).then(|| format!("did you mean {}?", words(near, " or ")));
        let mut hints = Vec::new();
        match self {
            Self::UnknownKey { near, allowed, .. } => {
                hints.extend(did_you_mean(near));
                if !allowed.is_empty() {
                    hints.push(format!("allowed here: {}", words(allowed, ", ")));
                }
            }
            Self::UnknownChoice { group, near, available, .. } => {
                hints.extend(did_you_mean(near));
                if available.is_empty() {
                    hints.push(format!("there is no file in `configs/{group}/`"));
                } else {
                    hints.push(format!("available: {}", words(available, ", ")));
                }
                match &**group {
                    "model" => {
                        hints.push("a model that has no alias is given by `model.path=FILE_OR_DIRECTORY`".into());
                    }
                    "hardware" => hints.push("an entry of the peaks table is chosen by `hardware.name=ID`".into()),
                    "run" => hints.push("a run file elsewhere is given by `--run-config FILE`".into()),
                    _ => {}
                }
            }
            Self::CannotDelete { near, .. } => hints.extend(did_you_mean(near)),
            Self::CannotAdd { key, .. } => {
                hints.push(format!("`{key}=…` changes it; `++{key}=…` adds or changes"));
            }
            Self::SeveralValues { .. } => {
                hints.push("`-m` makes one run of each value".into());
                hints.push("a list is written `key=[a,b]`, a text with a comma `'key=\"a, b\"'`".into());
            }
            Self::Override { .. } => {
                hints.push("overrides are `key=value`, `group=name`, `+key=value`, `~key`".into());
                hints.push(
                    "text with `,` or brackets is quoted twice, once for the shell: `'prompt=\"a (b), c\"'`".into(),
                );
            }
            Self::UnsupportedBackend { .. } => {
                hints.push("write `backend: candle` or leave the line out".into());
            }
            Self::TooManyRuns { .. } => hints.push("give fewer values, or split the sweep".into()),
            _ => {}
        }
        hints
    }
}

impl From<ConfigError> for Failure {
    /// A configuration mistake ends the program as a usage error, before anything was started.
    fn from(error: ConfigError) -> Self {
        let mut failure = Self::new(ExitStatus::Usage, error.to_string());
        for hint in error.hints() {
            failure = failure.hint(hint);
        }
        if let ConfigError::Io { source, .. } = error {
            failure = failure.because(source);
        }
        failure
    }
}

/// The names in back-ticks, joined.
fn words(names: &[String], separator: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(separator)
}

/// Up to three of `candidates` that `name` may be a misspelling of, the likeliest first.
pub(super) fn near_matches<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    // Below this likeness suggestions are noise: `jaro_winkler` is generous to a shared beginning.
    const LIKE_ENOUGH: f64 = 0.82;
    // Likeness takes time and memory in the product of both lengths, and nobody misspells a word of this length.
    const LONGEST: usize = 200;
    if name.len() > LONGEST {
        return Vec::new();
    }
    let lower = name.to_lowercase();
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| {
            let other = candidate.to_lowercase();
            let contained = lower.len() >= 4 && (other.contains(&lower) || lower.contains(&other)) && other.len() >= 4;
            let edits = strsim::damerau_levenshtein(&lower, &other);
            let close = edits <= 2 && edits < lower.chars().count().min(other.chars().count());
            let likeness = strsim::jaro_winkler(&lower, &other);
            (if contained || close { likeness.max(LIKE_ENOUGH) } else { likeness }, candidate)
        })
        .filter(|(likeness, _)| *likeness >= LIKE_ENOUGH)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, candidate)| candidate.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_find_their_key_and_other_words_find_none() {
        let keys = ["repeats", "warmup", "max_new_tokens", "batch", "device"];
        assert_eq!(near_matches("repeat", keys), ["repeats"]);
        assert_eq!(near_matches("wramup", keys), ["warmup"]);
        assert_eq!(near_matches("new_tokens", keys), ["max_new_tokens"]);
        assert_eq!(near_matches("BATCH", keys), ["batch"]);
        assert!(near_matches("zebra", keys).is_empty());
        assert!(near_matches("", keys).is_empty());
        assert!(near_matches(&"repeats".repeat(1_000_000), keys).is_empty());
    }
}
