//! What can go wrong with a run directory, and which exit code each case asks for.

use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostics::{ExitStatus, Failure};
use crate::units::Bytes;

/// Anything that keeps a run directory from being made, written, read or found.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A run id, tag or command that cannot be a directory name everywhere.
    #[error("{what} `{}` cannot be used: {reason}", shortened(.name))]
    InvalidName {
        /// `run id`, `tag` or `command`.
        what: &'static str,
        /// As given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A symbolic link below the output root points out of it.
    #[error("`{}` leads out of the output root: it is a link to `{}`", .path.display(), .target.display())]
    OutsideRoot {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A run directory of that name exists; runs are never overwritten.
    #[error("the run directory `{}` exists already", .path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// The run directory cannot be made; nothing has been started.
    #[error("cannot write a run directory at `{}`", .path.display())]
    NotWritable {
        /// The directory, or the part of its path that is in the way.
        path: PathBuf,
        /// The refusal of the system.
        source: io::Error,
    },
    /// No space, quota or file-size allowance left. What was written before is intact.
    #[error(
        "no space left to write `{}`: {} more bytes are needed{}",
        .path.display(),
        .needed_bytes,
        .available_bytes.map_or_else(String::new, |free| format!(" and {} are free", Bytes(free as f64)))
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Size of the write that failed.
        needed_bytes: u64,
        /// Free bytes of the file system; null if unreadable.
        available_bytes: Option<u64>,
        /// The refusal of the system.
        source: io::Error,
    },
    /// The file or its directory was removed while the run was going on.
    #[error(
        "`{}` was removed during the run; {}",
        .path.display(),
        .fallback.as_ref().map_or_else(
            || "its data could not be saved elsewhere either".to_owned(),
            |kept| format!("its data was saved to `{}`", kept.display())
        )
    )]
    Vanished {
        /// The file that is gone.
        path: PathBuf,
        /// Where its data is now.
        fallback: Option<PathBuf>,
    },
    /// Any other failure to write.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A value that has no JSON form.
    #[error("cannot write `{}`: the value has no JSON form", .path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A failure to read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The text of a file is not what its name promises.
    #[error("{}: {reason}", place(.path, *.line))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line from 1, where one is known.
        line: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// Written by a later perfprof.
    #[error("{}: schema_version {found} is newer than {known}, the newest this perfprof reads", place(.path, *.line))]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Line from 1 in a file of rows.
        line: Option<u64>,
        /// The version found.
        found: u64,
        /// The newest known version.
        known: u32,
    },
    /// Not a run directory.
    #[error("`{}` is not a run directory: {reason}", .path.display())]
    NotARun {
        /// The path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No run fits the name.
    #[error("no run `{spec}` under `{}`", .root.display())]
    NoSuchRun {
        /// As given.
        spec: String,
        /// Where it was looked for.
        root: PathBuf,
        /// Similar names, best first.
        near: Vec<String>,
    },
    /// More than one run fits the name.
    #[error("`{spec}` may mean {} runs: {}", .matches.len(), .matches.join(", "))]
    AmbiguousRun {
        /// As given.
        spec: String,
        /// `command/run_id` of those that fit.
        matches: Vec<String>,
    },
    /// The tag is on another run.
    #[error("the tag `{tag}` is already on the run {holder}")]
    TagTaken {
        /// The tag.
        tag: String,
        /// `command/run_id` of the run that has it.
        holder: String,
    },
}

/// `file`, or `file:line`.
fn place(path: &Path, line: Option<u64>) -> String {
    line.map_or_else(|| path.display().to_string(), |line| format!("{}:{line}", path.display()))
}

/// A name short enough for one line: what a user mistyped, not a page of it.
fn shortened(name: &str) -> String {
    const LIMIT: usize = 60;
    if name.chars().count() <= LIMIT {
        return name.to_owned();
    }
    name.chars().take(LIMIT).chain(['…']).collect()
}

impl RecordError {
    /// A failed write, told apart by its cause: a full disk, a directory that is gone, or anything else.
    pub fn from_write(path: &Path, needed_bytes: u64, source: io::Error) -> Self {
        if is_out_of_space(&source) {
            let available_bytes = super::atomic::available_bytes(path);
            return Self::DiskFull { path: path.to_owned(), needed_bytes, available_bytes, source };
        }
        Self::Write { path: path.to_owned(), source }
    }

    /// The exit status this error asks for.
    pub fn status(&self) -> ExitStatus {
        match self {
            // Before anything ran, an output directory that cannot be used is a wrong argument.
            Self::InvalidName { .. }
            | Self::OutsideRoot { .. }
            | Self::Exists { .. }
            | Self::NotWritable { .. }
            | Self::NotARun { .. }
            | Self::NoSuchRun { .. }
            | Self::AmbiguousRun { .. }
            | Self::TagTaken { .. } => ExitStatus::Usage,
            Self::DiskFull { .. } | Self::Vanished { .. } | Self::Write { .. } | Self::NotJson { .. } => {
                ExitStatus::ArtifactIo
            }
            Self::Read { .. } | Self::Malformed { .. } | Self::NewerSchema { .. } => ExitStatus::CouldNotStart,
        }
    }

    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InvalidName { .. } => Some(
                "use up to 100 letters, digits and `._+=@,-`, beginning with a letter or digit, e.g. `baseline-1`"
                    .to_owned(),
            ),
            Self::OutsideRoot { .. } => Some("remove the link, or give its target as `--output-root`".to_owned()),
            Self::Exists { .. } => Some("choose another run id, or leave it out to get a fresh one".to_owned()),
            Self::NotWritable { .. } => Some("give a writable directory with `--output-root`".to_owned()),
            Self::DiskFull { path, .. } => {
                Some(format!("free some space and rebuild the reports from the rows kept beside `{}`", path.display()))
            }
            Self::NewerSchema { .. } => Some("read it with the perfprof that wrote it, or a later one".to_owned()),
            Self::Malformed { path, line: Some(_), .. } if path.extension().is_some_and(|kind| kind == "jsonl") => {
                Some("`--salvage` reads the other rows and counts the bad ones as lost".to_owned())
            }
            Self::NoSuchRun { near, .. } if !near.is_empty() => Some(format!(
                "did you mean {}?",
                near.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
            )),
            Self::NoSuchRun { .. } => Some("`perfprof runs list` shows the runs there are".to_owned()),
            Self::AmbiguousRun { .. } => Some("give more of the id, or `COMMAND/RUN_ID`".to_owned()),
            Self::TagTaken { holder, .. } => Some(format!("`perfprof runs tag {holder} \"\"` takes it away there")),
            Self::NotARun { .. } => {
                Some("a run directory holds `run.json`; `perfprof runs list` shows the runs there are".to_owned())
            }
            Self::Vanished { .. }
            | Self::Write { .. }
            | Self::NotJson { .. }
            | Self::Read { .. }
            | Self::Malformed { .. } => None,
        }
    }

    /// The error at the edge of the program, with its exit status, hint and cause.
    pub fn into_failure(self) -> Failure {
        let mut failure = Failure::new(self.status(), self.to_string());
        if let Some(hint) = self.hint() {
            failure = failure.hint(hint);
        }
        match self {
            Self::NotWritable { source, .. }
            | Self::DiskFull { source, .. }
            | Self::Write { source, .. }
            | Self::Read { source, .. } => failure.because(source),
            Self::NotJson { source, .. } => failure.because(source),
            _ => failure,
        }
    }
}

/// Whether the system refused for want of space: the disk, a quota or `RLIMIT_FSIZE`.
pub fn is_out_of_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
