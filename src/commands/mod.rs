//! One file per command: glue between settings, work and reports. No logic of the field lives here.

pub mod ab;
pub mod analyze;
mod ask_model;
mod child;
pub mod compare;
pub mod dataset;
pub mod doctor;
pub mod estimate;
pub mod interrupt;
pub mod kernels;
pub mod load;
pub mod mock;
pub mod render;
pub mod report;
pub mod runs;
pub mod stage1;
pub mod stage2;
pub mod sweep;
mod trace_files;
pub mod validate;
pub mod wiring;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::diagnostics::{ExitStatus, Failure};

/// What every command gets beside its own options.
#[derive(Debug, Clone)]
pub struct Context {
    /// Print machine-readable JSON on stdout.
    pub json: bool,
    /// Show progress bars on stderr.
    pub progress: bool,
    /// A `configs/` directory that overrides the embedded one (`--config-dir`, else `./configs` if it exists).
    pub config_dir: Option<PathBuf>,
    /// Where run directories are made (`--output-root`, else `./tmp`).
    pub output_root: PathBuf,
    /// When to colour what goes to stdout.
    pub color: ColorChoice,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Writes the answer of a command to stdout. A reader that has gone away, as `head` does, has seen enough.
pub(crate) fn print_answer(text: &str) -> anyhow::Result<()> {
    write_answer(anstream::stdout().lock(), text)
}

fn write_answer(mut stdout: impl std::io::Write, text: &str) -> anyhow::Result<()> {
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(ExitStatus::ArtifactIo, "cannot write to standard output").because(error).into())
        }
        _ => Ok(()),
    }
}

/// Writes the answer of a command that made a run: its `metrics.json` with `run_dir` for machines, else what `console` says (given whether to colour
/// and the width in columns) and where `report` lies.
pub(crate) fn print_run(
    metrics: &impl Serialize,
    directory: &Path,
    report: &str,
    context: &Context,
    console: impl FnOnce(bool, usize) -> String,
) -> anyhow::Result<()> {
    let text = if context.json {
        let mut value = serde_json::to_value(metrics)?;
        if let Value::Object(fields) = &mut value {
            fields.insert("run_dir".to_owned(), Value::String(directory.display().to_string()));
        }
        serde_json::to_string_pretty(&value)? + "\n"
    } else {
        let text = console(context.color(std::io::stdout().is_terminal()), context.width());
        format!("{text}\n{}\n", directory.join(report).display())
    };
    // Coloured or not as was asked; anstream would take colours out of a pipe, `--color always` or not.
    write_answer(std::io::stdout().lock(), &text)
}

impl Context {
    /// Whether to colour a stream that is a terminal or not.
    pub fn color(&self, terminal: bool) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
    /// Columns of the terminal; 100 where there is none.
    pub fn width(&self) -> usize {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        columns.filter(|columns| *columns >= 40).unwrap_or(100)
    }
}
