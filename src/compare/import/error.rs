//! Why something cannot be made a side of a comparison.

/// What keeps a file or a run from being imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The text is no JSON.
    #[error("`{file}`:{line}:{column}: {reason}")]
    NotJson {
        /// The file.
        file: String,
        /// Line from 1.
        line: u64,
        /// Column from 1.
        column: u64,
        /// What is wrong.
        reason: String,
    },
    /// A JSON document of no format that is read.
    #[error("`{file}`: {found}")]
    Unrecognised {
        /// The file.
        file: String,
        /// What the document looks like.
        found: String,
    },
    /// The format is known, but this document of it cannot be used.
    #[error("`{file}`: {format}: {reason}")]
    Unusable {
        /// The file.
        file: String,
        /// Format that was recognised.
        format: String,
        /// What is wrong or missing.
        reason: String,
    },
    /// Written by a later perfprof.
    #[error("`{file}`: schema_version {found} is newer than {known}, the newest this perfprof reads")]
    NewerSchema {
        /// The file.
        file: String,
        /// The version found.
        found: u64,
        /// The newest known version.
        known: u32,
    },
    /// Nothing to merge, or subjects of different kinds.
    #[error("{reason}")]
    CannotMerge {
        /// Why.
        reason: String,
    },
}

impl ImportError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unrecognised { .. } => Some(format!("formats that are read: {}", super::foreign::SUPPORTED)),
            Self::NewerSchema { .. } => Some("read it with the perfprof that wrote it, or a later one".to_owned()),
            _ => None,
        }
    }
}
