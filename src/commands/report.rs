//! `perfprof report`: rebuilds the reports of runs from the rows on disk.

use super::Context;
use super::render::{print_summary, render_run};
use super::{ab, compare, load, stage2, sweep};
use crate::diagnostics::{ExitStatus, Failure};
use crate::record::find::resolve_run;
use crate::record::run_dir::RunStatus;
use crate::record::{RecordError, manifest, reader};
use crate::runner::summary::Ending;

/// Options of `perfprof report`.
#[derive(Debug, Clone)]
pub struct ReportOptions {
    /// Runs by id, beginning of an id, path, tag, `latest` or `latest:COMMAND`.
    pub runs: Vec<String>,
    /// Leave damaged rows out instead of refusing.
    pub salvage: bool,
}

/// Runs `perfprof report`.
pub fn run(options: &ReportOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let mut status = ExitStatus::Success;
    for spec in &options.runs {
        let directory = resolve_run(&context.output_root, spec).map_err(RecordError::into_failure)?;
        let record = reader::read_run(&directory).map_err(RecordError::into_failure)?;
        if !matches!(record.command.as_str(), "stage1" | "stage2" | "ab" | "compare" | "sweep" | "load") {
            return Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "`{spec}` is a run of `{}`; this version rebuilds reports of `stage1`, `stage2`, `ab`, `compare`, `sweep` and `load` runs",
                    record.command
                ),
            )
            .hint("the reports of `analyze` are made again by analysing the trace again; `inputs.yaml` of the run names it")
            .into());
        }
        let ending = match record.effective_status() {
            RunStatus::Running => {
                return Err(Failure::new(
                    ExitStatus::CouldNotStart,
                    format!("`{spec}` is still running (pid {})", record.pid),
                )
                .hint("wait for it, or stop it: its finished rows stay")
                .into());
            }
            RunStatus::Interrupted => Ending::Interrupted,
            RunStatus::Failed => Ending::Failed,
            RunStatus::Complete | RunStatus::Invalid => Ending::Complete,
        };
        match record.command.as_str() {
            "ab" => {
                let rendered = ab::render_study(&directory, options.salvage)?;
                manifest::write(&directory).map_err(RecordError::into_failure)?;
                ab::print_summary(&rendered, &directory, context)?;
                if rendered.exit_status() != ExitStatus::Success {
                    status = rendered.exit_status();
                }
                continue;
            }
            "sweep" => {
                let rendered = sweep::render_sweep(&directory, ending, options.salvage)?;
                manifest::write(&directory).map_err(RecordError::into_failure)?;
                sweep::print_summary(&rendered, &directory, context)?;
                if rendered.exit_status() != ExitStatus::Success {
                    status = rendered.exit_status();
                }
                continue;
            }
            "load" => {
                let rendered = load::render_load(&directory, ending, options.salvage, &[])?;
                manifest::write(&directory).map_err(RecordError::into_failure)?;
                load::print_summary(&rendered, &directory, context)?;
                if rendered.exit_status() != ExitStatus::Success {
                    status = rendered.exit_status();
                }
                continue;
            }
            "stage2" => {
                let rendered = stage2::render_stage2(&directory, ending, None, None)?;
                manifest::write(&directory).map_err(RecordError::into_failure)?;
                stage2::print_summary(&rendered, &directory, context)?;
                if rendered.exit_status() != ExitStatus::Success {
                    status = rendered.exit_status();
                }
                continue;
            }
            "compare" => {
                let rendered = compare::render_comparison(&directory)?;
                manifest::write(&directory).map_err(RecordError::into_failure)?;
                compare::print_summary(&rendered, &directory, context)?;
                if rendered.exit_status() != ExitStatus::Success {
                    status = rendered.exit_status();
                }
                continue;
            }
            _ => {}
        }
        let rendered = render_run(&directory, ending, options.salvage)?;
        manifest::write(&directory).map_err(RecordError::into_failure)?;
        print_summary(&rendered, &directory, context)?;
        if !rendered.metrics.validity.is_valid() {
            status = ExitStatus::Invalid;
        }
    }
    Ok(status)
}
