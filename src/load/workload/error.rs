//! Why there is nothing to send.

use std::path::PathBuf;

use crate::diagnostics::{ExitStatus, Failure};

/// A dataset that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// `dataset` is neither a built-in set nor a file.
    #[error("there is no dataset `{name}`: it is no file, and none of `builtin`, `random`, `synthetic`")]
    NotFound {
        /// As it was given.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal of the system.
        source: std::io::Error,
    },
    /// A line that cannot be used.
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
    #[error("{path}:{line}: the id `{id}` is used already on line {first_line}", path = file.display())]
    DuplicateId {
        /// The file.
        file: PathBuf,
        /// Line of the second.
        line: u64,
        /// The id.
        id: String,
        /// Line of the first.
        first_line: u64,
    },
    /// No prompt at all.
    #[error("`{path}` has no prompts{message}", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Why, or nothing.
        message: String,
    },
    /// A setting that asks for what cannot be made.
    #[error("`{setting}` {message}")]
    Setting {
        /// The key.
        setting: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The tokenizer failed on a text or on ids.
    #[error("the tokenizer cannot be used: {0}")]
    Tokenizer(String),
}

impl WorkloadError {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Line { .. } | Self::DuplicateId { .. } => {
                Some("`prompts.lenient=true` (`--lenient`) skips what cannot be used and says how much it was")
            }
            Self::NotFound { .. } => Some("docs/DATASETS.md lists the sets and the formats of files"),
            _ => None,
        }
    }
}

impl From<WorkloadError> for Failure {
    fn from(error: WorkloadError) -> Self {
        let status = match &error {
            WorkloadError::Io { .. } | WorkloadError::Tokenizer(_) => ExitStatus::CouldNotStart,
            _ => ExitStatus::Usage,
        };
        let hint = error.hint();
        let failure = match error {
            WorkloadError::Io { path, source } => {
                Self::new(status, format!("cannot read `{}`", path.display())).because(source)
            }
            other => Self::new(status, other.to_string()),
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
