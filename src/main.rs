//! The perfprof binary: parse, log, dispatch, print the error, exit.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use perfprof::cli::{Cli, Verbosity};
use perfprof::diagnostics::{ExitStatus, render_error, status_of};
use perfprof::instrument::heap::{self, CountingAllocator};
use perfprof::record::redact::Redactor;
use perfprof::record::rows_writer;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    heap::mark_installed();
    // A full disk is an error to report, not a reason to be killed.
    rows_writer::ignore_file_size_signal();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors; everything else is exit code 1 like any wrong setting.
            let _ = error.print();
            let status = if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Success };
            return ExitCode::from(status.code());
        }
    };
    start_log(cli.verbosity());
    match cli.run(std::io::stderr().is_terminal()) {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) => {
            // Settings are quoted in messages, and someone's setting is the value of a secret variable.
            let text = Redactor::from_env().message(&render_error(&error));
            // A closed stderr must not turn an error into a panic.
            let _ = write!(anstream::stderr(), "{text}");
            ExitCode::from(status_of(&error).code())
        }
    }
}

/// Logs go to stderr; `PERFPROF_LOG` overrides the level in the syntax of `tracing-subscriber`.
fn start_log(verbosity: Verbosity) {
    let level = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("PERFPROF_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("warn,perfprof={level}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
