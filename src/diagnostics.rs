//! What the tool says when something is wrong: exit codes, errors with hints, and diagnostics that travel with the data.
//!
//! This module does not print by itself except [`render_error`], which `main` calls once.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Exit codes, the same for every command. 1 is "no": the request was refused before anything started, or the gate says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Complete and valid.
    Success,
    /// The command line or a configuration is wrong; nothing was started.
    Usage,
    /// The work ended, and a rule of the gate is broken by the evidence.
    Regression,
    /// The work could not start or go on: a model, a file, a server or a device.
    CouldNotStart,
    /// The work ended, and its numbers must not be relied on: the run is INVALID.
    Invalid,
    /// The artifacts could not be written.
    ArtifactIo,
    /// Interrupted by SIGINT; what was finished is on disk.
    Interrupted,
    /// Ended by SIGTERM; what was finished is on disk.
    Terminated,
}

impl ExitStatus {
    /// The process exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Usage | Self::Regression => 1,
            Self::CouldNotStart => 2,
            Self::Invalid => 3,
            Self::ArtifactIo => 4,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

/// An error at the edge of the program: what happened, how the process must exit, and what the user can do.
///
/// Library code returns its own typed errors; `commands` turns them into this one. It is an [`std::error::Error`], so it travels
/// inside `anyhow::Error` and keeps its exit code and hints on the way up.
#[derive(Debug)]
pub struct Failure {
    status: ExitStatus,
    message: String,
    hints: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure with exit code `status` and a one-line message (back-ticks round values, no full stop).
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), hints: Vec::new(), source: None }
    }
    /// Adds one `hint:` line.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
    /// Adds the cause, printed as `caused by:`.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
    /// The exit status this failure asks for.
    pub fn status(&self) -> ExitStatus {
        self.status
    }
    /// The hints, in order.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// The exit status of an error chain: that of the outermost [`Failure`] in it, else [`ExitStatus::CouldNotStart`].
pub fn status_of(error: &anyhow::Error) -> ExitStatus {
    error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map_or(ExitStatus::CouldNotStart, Failure::status)
}

/// The text printed for an error: `error:`, each cause once, an empty line, each hint once.
pub fn render_error(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut previous = String::new();
    let mut hints: Vec<&str> = Vec::new();
    for (depth, cause) in error.chain().enumerate() {
        let message = escape_control(&cause.to_string());
        // Wrappers often repeat the text of their source; saying it twice helps nobody.
        if depth == 0 {
            text.push_str(&format!("error: {message}\n"));
        } else if !previous.contains(&message) {
            text.push_str(&format!("  caused by: {message}\n"));
        }
        previous = message;
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            for hint in failure.hints() {
                if !hints.contains(&hint.as_str()) {
                    hints.push(hint);
                }
            }
        }
    }
    if !hints.is_empty() {
        text.push('\n');
        for hint in hints {
            text.push_str(&format!("hint: {}\n", escape_control(hint)));
        }
    }
    text
}

/// Makes foreign text safe for a terminal: control characters other than newline and tab become `\u{1b}` and the like.
pub fn escape_control(text: &str) -> String {
    if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return text.to_owned();
    }
    text.chars()
        .map(
            |c| {
                if c.is_control() && c != '\n' && c != '\t' { format!("\\u{{{:x}}}", c as u32) } else { c.to_string() }
            },
        )
        .collect()
}

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; no number is affected.
    Info,
    /// A number may be affected.
    Warn,
    /// Something asked for could not be done.
    Error,
    /// Input or rows were lost; totals are not whole.
    DataLoss,
}

/// A finding about the data, counted: it stands on the console, in `metrics.json` and in the HTML report alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Stable snake_case code, e.g. `slow_first_run`.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// How often it was met.
    pub count: u64,
    /// The first example in words, with its numbers; proposes what the user can do where there is something.
    pub first: String,
}

impl Diagnostic {
    /// One occurrence of `code`.
    pub fn new(code: &str, severity: Severity, first: impl Into<String>) -> Self {
        Self { code: code.to_owned(), severity, count: 1, first: first.into() }
    }
}

/// Collects diagnostics, counting repeats of a code and keeping the first example.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Adds one diagnostic or raises the count of the one with the same code.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        match self.0.iter_mut().find(|known| known.code == diagnostic.code) {
            Some(known) => {
                known.count += diagnostic.count;
                known.severity = known.severity.max(diagnostic.severity);
            }
            None => self.0.push(diagnostic),
        }
    }
    /// Adds one occurrence of `code`.
    pub fn note(&mut self, code: &str, severity: Severity, first: impl Into<String>) {
        self.push(Diagnostic::new(code, severity, first));
    }
    /// All of them, in order of first appearance.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.0
    }
    /// Looks at them without taking them.
    pub fn as_slice(&self) -> &[Diagnostic] {
        &self.0
    }
    /// Takes over all of `others`.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Diagnostic>) {
        for diagnostic in others {
            self.push(diagnostic);
        }
    }
}

/// Whether the numbers of a run may be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ValidityStatus {
    /// All conditions were met.
    Valid,
    /// At least one condition was not; the reasons say which.
    Invalid,
}

/// The validity block of `metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// VALID or INVALID.
    pub status: ValidityStatus,
    /// Why it is INVALID; empty when VALID.
    pub reasons: Vec<String>,
}

impl Validity {
    /// VALID if `reasons` is empty.
    pub fn from_reasons(reasons: Vec<String>) -> Self {
        let status = if reasons.is_empty() { ValidityStatus::Valid } else { ValidityStatus::Invalid };
        Self { status, reasons }
    }
    /// True for VALID.
    pub fn is_valid(&self) -> bool {
        self.status == ValidityStatus::Valid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_with_causes_and_hints_once() {
        let io = std::io::Error::other("disk on fire");
        let error = anyhow::Error::new(
            Failure::new(ExitStatus::ArtifactIo, "cannot write `rows.jsonl`").because(io).hint("free some space"),
        )
        .context("stage1 failed");
        assert_eq!(
            render_error(&error),
            "error: stage1 failed\n  caused by: cannot write `rows.jsonl`\n  caused by: disk on fire\n\nhint: free some space\n"
        );
        assert_eq!(status_of(&error).code(), 4);
    }

    #[test]
    fn terminal_escapes_are_shown_and_not_obeyed() {
        assert_eq!(escape_control("a\u{1b}]0;x\u{7}b"), "a\\u{1b}]0;x\\u{7}b");
    }

    #[test]
    fn repeats_are_counted_and_the_first_example_stays() {
        let mut diagnostics = Diagnostics::default();
        diagnostics.note("late", Severity::Info, "first");
        diagnostics.note("late", Severity::Warn, "second");
        let all = diagnostics.into_vec();
        assert_eq!((all[0].count, all[0].severity, all[0].first.as_str()), (2, Severity::Warn, "first"));
    }
}
