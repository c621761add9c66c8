//! `perfprof sweep`: many settings of stage1 or of a load test, each in a process of its own, then the best of them.

mod fingerprint;
mod host;
mod output;
mod plan;

use crate::config::sweep::{Goals, SweepRequest};
use crate::diagnostics::{Diagnostics, ExitStatus, Failure, Severity};
use crate::hardware::contention::{ContentionThresholds, machine_state};
use crate::hardware::identify;
use crate::record::RecordError;
use crate::record::environment::{self, ENVIRONMENT_FILE};
use crate::record::redact::Redactor;
use crate::record::run_dir::{RunDir, RunOptions, RunStatus};
use crate::record::sweep::{PlannedPoint, SWEEP_PLAN_FILE, SweepPlanFile, read_rows};
use crate::runner::summary::Ending;
use crate::runner::sweep::{self, SweepLimits, SweepStop, check_goals};

use self::host::Points;
use self::plan::{Asked, Earlier};
use super::Context;
use super::interrupt::Interrupt;

pub use output::{print_summary, render_sweep};

/// How long the machine is looked at before a sweep.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// Options of `perfprof sweep`.
#[derive(Debug, Clone, Default)]
pub struct SweepOptions {
    /// The sweep, settings of it and of its points, in order.
    pub arguments: Vec<String>,
    /// Conditions on the best point.
    pub constraints: Vec<String>,
    /// The sweep to go on with.
    pub resume: Option<String>,
    /// Go on although points differ.
    pub allow_changed: bool,
    /// Also try points again that ran out of memory.
    pub retry_oom: bool,
    /// Points tried at most.
    pub max_points: Option<u32>,
    /// Seconds after which no further point is begun.
    pub budget_s: Option<f64>,
    /// Seconds after which a point is ended by force.
    pub point_limit_s: Option<f64>,
    /// A name for the run.
    pub tag: Option<String>,
    /// List the points, run nothing.
    pub print_config: bool,
}

/// Runs `perfprof sweep`.
pub fn run(options: &SweepOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    for (name, seconds) in [("--budget-s", options.budget_s), ("--point-limit-s", options.point_limit_s)] {
        if seconds.is_some_and(|seconds| !(seconds.is_finite() && seconds > 0.0)) {
            return Err(Failure::new(ExitStatus::Usage, format!("`{name}` takes a number of seconds above 0")).into());
        }
    }
    let request = SweepRequest {
        arguments: options.arguments.clone(),
        constraints: options.constraints.clone(),
        config_dir: context.config_dir.clone(),
    };
    let earlier = options.resume.as_deref().map(|spec| Earlier::open(spec, context)).transpose()?;
    let asked = plan::ask(&request, earlier.as_ref())?;
    refuse_goals(&asked.command, &asked.goals)?;
    if options.print_config {
        super::print_answer(&Redactor::from_env().text(&asked.listing()))?;
        return Ok(ExitStatus::Success);
    }
    asked.check()?;
    let points = asked.planned(&Redactor::from_env());
    if let Some(earlier) = &earlier {
        earlier.compare(&points, options.allow_changed)?;
    }
    let interrupt = Interrupt::install()?;
    // Two processes that go on with one sweep would mix their rows; the lock goes with the process, however it ends.
    let _lock = earlier.as_ref().map(|earlier| plan::lock(&earlier.directory)).transpose()?;
    let mut directory = if let Some(earlier) = &earlier {
        RunDir::reopen(&earlier.directory)
    } else {
        let run_options = RunOptions {
            id: None,
            argv: None,
            tag: options.tag.clone(),
            config_sha256: asked.sweep.as_ref().map(crate::config::sweep::Sweep::sha256),
        };
        RunDir::create_with(&context.output_root, "sweep", run_options)
    }
    .map_err(RecordError::into_failure)?;
    let outcome = run_in(&mut directory, &asked, points, earlier.as_ref(), options, context, &interrupt);
    if let Err(error) = &outcome
        && directory.record().status == RunStatus::Running
    {
        // The directory may be gone or full; the error that brought us here matters more than a second one.
        let _ = directory.finish(RunStatus::Failed, Some(&format!("{error:#}")));
    }
    outcome
}

/// Refuses what the sweep is to find where no run of `command` will have it.
pub(super) fn refuse_goals(command: &str, goals: &Goals) -> Result<(), Failure> {
    check_goals(command, goals.objective.as_deref(), &goals.constraints, &goals.pareto)
        .map_err(|error| Failure::new(ExitStatus::Usage, error.to_string()).hint(error.hint(command)))
}

fn run_in(
    directory: &mut RunDir,
    asked: &Asked,
    points: Vec<PlannedPoint>,
    earlier: Option<&Earlier>,
    options: &SweepOptions,
    context: &Context,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitStatus> {
    let record = |error: RecordError| error.into_failure();
    // That of a sweep that is gone on with is held already, before anything of it was touched.
    let _lock = if earlier.is_none() { Some(plan::lock(directory.path())?) } else { None };
    if let Some(sweep) = &asked.sweep {
        let text = directory.redactor().text(&sweep.to_yaml_with_provenance());
        directory.write("config.yaml", text.as_bytes()).map_err(record)?;
    }
    let machine = identify::machine();
    let environment = environment::capture(serde_json::to_value(&machine.gpu)?);
    let mut found = Diagnostics::default();
    found.extend(earlier.iter().flat_map(|earlier| earlier.plan.diagnostics.iter().cloned()));
    // Where nothing is measured any more, it does not matter on which machine.
    let (so_far, _) = read_rows(directory.path(), false).map_err(record)?;
    let trial = asked.plan_file(directory.run_id(), points.clone(), Vec::new());
    if !sweep::to_do(&trial, &so_far, options.retry_oom).is_empty() {
        for warning in machine_state(LOOK).warnings(&ContentionThresholds::default()) {
            found.note("busy_machine", Severity::Warn, warning);
        }
        if let Some(earlier) = earlier {
            earlier.note_changes(&environment, &mut found);
        }
    }
    if let Some(earlier) = earlier {
        earlier.note_goals(&asked.goals, &mut found);
    }
    if !directory.file(ENVIRONMENT_FILE).exists() {
        directory.write_json(ENVIRONMENT_FILE, &environment).map_err(record)?;
    }
    let plan: SweepPlanFile = asked.plan_file(directory.run_id(), points, found.into_vec());
    directory.write_json(SWEEP_PLAN_FILE, &plan).map_err(record)?;

    let mut runner = Points::new(directory, &asked.command, &asked.points, options.point_limit_s, context, interrupt)?;
    // Read after the writer has mended a torn end: what it cut off must be tried again.
    let (before, _) = read_rows(directory.path(), false).map_err(record)?;
    if earlier.is_some() {
        let left = sweep::to_do(&plan, &before, options.retry_oom).len();
        tracing::info!("going on with {}: {left} of {} points are left", plan.run_id, plan.points.len());
    }
    let limits = SweepLimits { points: options.max_points, budget_s: options.budget_s, retry_oom: options.retry_oom };
    let end = sweep::run(&plan, &before, limits, &mut runner)?;
    runner.close()?;

    let ending = if end.stop == SweepStop::Interrupted { Ending::Interrupted } else { Ending::Complete };
    let rendered = render_sweep(directory.path(), ending, false)?;
    let status = match ending {
        Ending::Interrupted => RunStatus::Interrupted,
        _ if rendered.metrics.validity.is_valid() => RunStatus::Complete,
        _ => RunStatus::Invalid,
    };
    directory.finish(status, None).map_err(record)?;
    print_summary(&rendered, directory.path(), context)?;
    Ok(if status == RunStatus::Interrupted { interrupt.status() } else { rendered.exit_status() })
}
