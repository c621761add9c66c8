//! The plan of a sweep: as asked for, as recorded, and what lies between the two when a sweep is gone on with.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::fingerprint::{Fingerprints, PointConfig};
use crate::commands::Context;
use crate::config::sweep::{Goals, Sweep, SweepPoint, SweepRequest, goals, names_points, recorded_point, sweep};
use crate::diagnostics::{Diagnostic, Diagnostics, ExitStatus, Failure, Severity};
use crate::record::environment::{ENVIRONMENT_FILE, Environment};
use crate::record::find::resolve_run;
use crate::record::redact::Redactor;
use crate::record::run_dir::RunStatus;
use crate::record::sweep::{PlannedPoint, SWEEP_ROWS_FILE, SWEEP_SCHEMA_VERSION, SweepPlanFile, read_plan};
use crate::record::{RecordError, reader};

/// Points named one by one in a message.
const NAMED: usize = 5;

/// A sweep that was begun before.
pub(super) struct Earlier {
    pub(super) directory: PathBuf,
    pub(super) plan: SweepPlanFile,
    perfprof_version: String,
}

/// A sweep as asked for.
pub(super) struct Asked {
    /// The whole sweep; none where only a recorded one is gone on with.
    pub(super) sweep: Option<Sweep>,
    name: String,
    /// What runs a point.
    pub(super) command: String,
    /// The points.
    pub(super) points: Vec<SweepPoint>,
    configs: Vec<PointConfig>,
    order: Vec<u32>,
    /// What is looked for among them.
    pub(super) goals: Goals,
}

/// Composes what is asked for: the named sweep, or the points of the earlier one.
pub(super) fn ask(request: &SweepRequest, earlier: Option<&Earlier>) -> Result<Asked, Failure> {
    let asked = match earlier {
        Some(earlier) if !names_points(request) => {
            let plan = &earlier.plan;
            let had = Goals {
                objective: plan.objective.clone(),
                constraints: plan.constraints.clone(),
                pareto: plan.pareto.clone(),
            };
            let goals = goals(request, had)?;
            let compose = |point: &PlannedPoint| {
                recorded_point(&plan.runs, &point.settings, &point.overrides, request.config_dir.as_deref())
            };
            let points = plan.points.iter().map(compose).collect::<Result<Vec<_>, _>>().map_err(|error| {
                Failure::from(error)
                    .hint("give the name or file of the sweep again, with its settings, beside `--resume`")
            })?;
            Asked {
                sweep: None,
                name: plan.name.clone(),
                command: plan.runs.clone(),
                points,
                configs: Vec::new(),
                order: plan.order.clone(),
                goals,
            }
        }
        _ => {
            let sweep = sweep(request)?;
            Asked {
                name: sweep.name.clone(),
                command: sweep.command.clone(),
                points: sweep.points.clone(),
                configs: Vec::new(),
                order: sweep.order.clone(),
                goals: Goals {
                    objective: sweep.objective.clone(),
                    constraints: sweep.constraints.clone(),
                    pareto: sweep.pareto.clone(),
                },
                sweep: Some(sweep),
            }
        }
    };
    let of = |point: &SweepPoint| PointConfig::of(&asked.command, point);
    let configs = asked.points.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    Ok(Asked { configs, ..asked })
}

impl Asked {
    /// Refuses points that cannot run at all, before the first of them is begun.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.configs.iter().any(PointConfig::lacks_a_server) {
            return Err(Failure::new(ExitStatus::Usage, "no server is given")
                .hint("give `base_url=http://HOST:PORT`, or several to sweep over"));
        }
        Ok(())
    }

    /// The points as they are recorded.
    pub(super) fn planned(&self, redactor: &Redactor) -> Vec<PlannedPoint> {
        let mut fingerprints = Fingerprints::default();
        let planned = |(point, config): (&SweepPoint, &PointConfig)| {
            let variables = point.environment.iter().map(|(name, value)| format!("env.{name}={value}"));
            let overrides: Vec<String> = variables.chain(point.overrides.iter().cloned()).collect();
            let settings = point.settings.iter().map(|(key, value)| (key.clone(), redactor.value(key, value)));
            PlannedPoint {
                settings: settings.collect(),
                overrides: redactor.argv(&overrides),
                fingerprint: fingerprints.of(point, config),
            }
        };
        self.points.iter().zip(&self.configs).map(planned).collect()
    }

    pub(super) fn plan_file(
        &self,
        run_id: &str,
        points: Vec<PlannedPoint>,
        diagnostics: Vec<Diagnostic>,
    ) -> SweepPlanFile {
        SweepPlanFile {
            schema_version: SWEEP_SCHEMA_VERSION,
            run_id: run_id.to_owned(),
            runs: self.command.clone(),
            name: self.name.clone(),
            points,
            order: self.order.clone(),
            objective: self.goals.objective.clone(),
            constraints: self.goals.constraints.clone(),
            pareto: self.goals.pareto.clone(),
            allow_invalid: self.configs.iter().any(PointConfig::allows_invalid),
            diagnostics,
        }
    }

    /// The sweep as YAML, its points in the order in which they are tried as comments.
    pub(super) fn listing(&self) -> String {
        let mut text = self.sweep.as_ref().map_or_else(String::new, Sweep::to_yaml_with_provenance);
        text.push_str(&format!("# {} points of `{}`, in this order:\n", self.points.len(), self.command));
        for index in &self.order {
            let Some(point) = self.points.get(*index as usize) else { continue };
            // A comment stays on one line.
            let line = words(&point.settings).replace(['\n', '\r'], " ");
            text.push_str(&format!("# {index}: {line}\n"));
        }
        text
    }
}

fn words(settings: &[(String, String)]) -> String {
    settings.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

impl Earlier {
    /// Finds the sweep that `spec` means, and its plan.
    pub(super) fn open(spec: &str, context: &Context) -> Result<Self, Failure> {
        // The newest run of anything is seldom a sweep.
        let wanted = if spec == "latest" { "latest:sweep" } else { spec };
        let directory = resolve_run(&context.output_root, wanted).map_err(RecordError::into_failure)?;
        let record = reader::read_run(&directory).map_err(RecordError::into_failure)?;
        if record.command != "sweep" {
            return Err(Failure::new(
                ExitStatus::Usage,
                format!("`{spec}` is a run of `{}`, and only a sweep can be gone on with", record.command),
            )
            .hint("`perfprof runs list --command sweep` shows the sweeps there are"));
        }
        if record.effective_status() == RunStatus::Running {
            return Err(still_running(&record.run_id, Some(record.pid)));
        }
        let plan = read_plan(&directory).map_err(|error| {
            let gone =
                matches!(&error, RecordError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
            let failure = error.into_failure();
            if gone { failure.hint("it was stopped before its first point: begin it anew") } else { failure }
        })?;
        Ok(Self { directory, plan, perfprof_version: record.perfprof_version })
    }

    /// Refuses points that are not those of the earlier sweep, unless `allowed`.
    pub(super) fn compare(&self, points: &[PlannedPoint], allowed: bool) -> Result<(), Failure> {
        let asked = SweepPlanFile { points: points.to_vec(), ..self.plan.clone() };
        let differing = self.plan.differing(&asked);
        if differing.is_empty() || allowed {
            return Ok(());
        }
        let told: Vec<String> = differing.iter().take(NAMED).map(|index| self.difference(*index, points)).collect();
        let more = differing.len().saturating_sub(NAMED);
        let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
        let message = format!(
            "the sweep {} has other points: {} of {} differ: {}{rest}",
            self.plan.run_id,
            differing.len(),
            points.len().max(self.plan.points.len()),
            told.join("; ")
        );
        Err(Failure::new(ExitStatus::Usage, message)
            .hint("`--allow-changed` goes on with the new points; finished points that are in both are kept")
            .hint("leave out `--resume` to begin a sweep of its own"))
    }

    fn difference(&self, index: u32, points: &[PlannedPoint]) -> String {
        let of = |points: &[PlannedPoint]| points.get(index as usize).map(|point| words(&point.settings));
        match (of(&self.plan.points), of(points)) {
            (Some(before), Some(now)) if before == now => {
                format!("point {index} ({now}): other settings, or other content of a file they name")
            }
            (Some(before), Some(now)) => format!("point {index} was ({before}) and is ({now})"),
            (Some(before), None) => format!("point {index} ({before}) is gone"),
            (None, Some(now)) => format!("point {index} ({now}) is new"),
            (None, None) => format!("point {index}"),
        }
    }

    /// Notes what has changed since the sweep began and touches what its points mean together.
    pub(super) fn note_changes(&self, now: &Environment, found: &mut Diagnostics) {
        let version = env!("CARGO_PKG_VERSION");
        if self.perfprof_version != version {
            let text = format!("begun with perfprof {}, gone on with {version}", self.perfprof_version);
            found.note("other_version", Severity::Warn, text);
        }
        let before = std::fs::read(self.directory.join(ENVIRONMENT_FILE)).ok();
        let before = before.and_then(|bytes| serde_json::from_slice::<Environment>(&bytes).ok());
        if let Some(before) = before {
            let told = |model: &Option<String>| model.clone().unwrap_or_else(|| "an unknown processor".to_owned());
            let same_host = before.os.host_hash == now.os.host_hash;
            if before.cpu.model != now.cpu.model || before.gpu != now.gpu {
                let text = format!(
                    "begun on {}, gone on with on {} or with another GPU",
                    told(&before.cpu.model),
                    told(&now.cpu.model)
                );
                found.note("other_machine", Severity::Warn, text);
            } else if !same_host {
                found.note("other_machine", Severity::Warn, "gone on with on another machine of the same processor");
            }
        }
    }

    /// Notes that something else is looked for than when the sweep began.
    pub(super) fn note_goals(&self, goals: &Goals, found: &mut Diagnostics) {
        let had = (&self.plan.objective, &self.plan.constraints, &self.plan.pareto);
        if had != (&goals.objective, &goals.constraints, &goals.pareto) {
            found.note("goals_changed", Severity::Info, "what is looked for was changed after the sweep had begun");
        }
    }
}

fn still_running(run_id: &str, pid: Option<u32>) -> Failure {
    let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    Failure::new(ExitStatus::CouldNotStart, format!("the sweep {run_id} is still running{who}"))
        .hint("wait for it, or stop it: its finished points stay")
}

/// Takes the rows of the sweep in `directory` for this process alone.
pub(super) fn lock(directory: &Path) -> Result<File, Failure> {
    let path = directory.join(SWEEP_ROWS_FILE);
    let failed = |source| RecordError::from_write(&path, 0, source).into_failure();
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Err(still_running(&name, None))
        }
        // A file system without locks is no reason to run nothing.
        Err(TryLockError::Error(error)) => {
            tracing::debug!(%error, "the rows cannot be locked");
            Ok(file)
        }
    }
}
