//! `perfprof ab`: variants of stage1, interleaved in one study, then compared.

mod host;
mod in_process;
mod output;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::Context;
use super::child;
use super::interrupt::Interrupt;
use super::stage1;
use crate::compare::gate_rule::Rule;
use crate::config::schema::choice::TraceMode;
use crate::config::schema::stage1::Stage1Config;
use crate::config::schema::study::IsolationChoice;
use crate::config::study::{Study, StudyRequest, StudyVariant, study};
use crate::diagnostics::{Diagnostics, ExitStatus, Failure, Severity};
use crate::hardware::contention::{ContentionThresholds, machine_state};
use crate::hardware::identify;
use crate::record::ab::{
    AB_CONTEXT_FILE, AB_END_FILE, AB_RUNS_DIRECTORY, AB_SCHEMA_VERSION, AbContext, AbEnd, AbVariant, Isolation,
};
use crate::record::redact::Redactor;
use crate::record::run_dir::{RunDir, RunOptions, RunStatus};
use crate::record::{RecordError, environment};
use crate::runner::ab::drive::{self, StudyEnd};
use crate::runner::ab::stop::StopReason;

pub use output::{print_summary, render_study};

/// How long the machine is looked at before a study.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// Blocks of a control below which Student's t makes its noise floor several times too wide.
const FEW_CONTROL_BLOCKS: u32 = 6;

/// Options of `perfprof ab`.
#[derive(Debug, Clone, Default)]
pub struct AbOptions {
    /// Variants, settings of the study and of stage1, in order.
    pub arguments: Vec<String>,
    /// A study file.
    pub study: Option<PathBuf>,
    /// All variants in this process.
    pub in_process: bool,
    /// Rules of the gate.
    pub fail_on: Vec<String>,
    /// A name for the run.
    pub tag: Option<String>,
    /// Print the study with its origins, run nothing.
    pub print_config: bool,
}

/// Runs `perfprof ab`.
pub fn run(options: &AbOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let mut arguments = options.arguments.clone();
    if options.in_process {
        arguments.push("isolation=in_process".to_owned());
    }
    let request = StudyRequest { arguments, file: options.study.clone(), config_dir: context.config_dir.clone() };
    let mut study = study(&request).map_err(Failure::from)?;
    study.config.fail_on.extend(options.fail_on.iter().cloned());
    if options.print_config {
        super::print_answer(&Redactor::from_env().text(&study.to_yaml_with_provenance()))?;
        return Ok(ExitStatus::Success);
    }
    for rule in &study.config.fail_on {
        Rule::parse(rule).map_err(|error| Failure::new(ExitStatus::Usage, error.to_string()))?;
    }
    let configs = configs(&study)?;
    let interrupt = Interrupt::install()?;
    let run_options =
        RunOptions { id: None, argv: None, tag: options.tag.clone(), config_sha256: Some(study.sha256()) };
    let mut directory =
        RunDir::create_with(&context.output_root, "ab", run_options).map_err(RecordError::into_failure)?;
    let outcome = run_in(&mut directory, &study, &configs, context, &interrupt);
    if let Err(error) = &outcome
        && directory.record().status == RunStatus::Running
    {
        // The directory may be gone or full; the error that brought us here matters more than a second one.
        let _ = directory.finish(RunStatus::Failed, Some(&format!("{error:#}")));
    }
    outcome
}

/// The settings of every variant, after everything was refused that can be refused before the first process.
fn configs(study: &Study) -> anyhow::Result<Vec<Stage1Config>> {
    let mut configs = Vec::new();
    for variant in &study.variants {
        let config = variant.composed.stage1().map_err(Failure::from)?;
        stage1::prepare(&config).with_context(|| format!("variant `{}`", variant.label))?;
        if study.config.isolation == IsolationChoice::InProcess && !variant.environment.is_empty() {
            return Err(Failure::new(
                ExitStatus::Usage,
                format!("variant `{}` sets its environment, which variants in one process share", variant.label),
            )
            .hint("leave out `--in-process`")
            .into());
        }
        if config.trace == TraceMode::Cupti {
            return Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "variant `{}` asks for `trace=cupti`, whose cost would be measured with the change",
                    variant.label
                ),
            )
            .hint("leave it out, and trace each variant with `perfprof stage1 … trace=cupti`")
            .into());
        }
        configs.push(config);
    }
    Ok(configs)
}

fn run_in(
    directory: &mut RunDir,
    study: &Study,
    configs: &[Stage1Config],
    context: &Context,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitStatus> {
    let record = |error: RecordError| error.into_failure();
    let text = directory.redactor().text(&study.to_yaml_with_provenance());
    directory.write("config.yaml", text.as_bytes()).map_err(record)?;
    let machine = identify::machine();
    let gpu = serde_json::to_value(&machine.gpu)?;
    directory.write_json("env.json", &environment::capture(gpu)).map_err(record)?;
    let mut diagnostics = Diagnostics::default();
    for warning in machine_state(LOOK).warnings(&ContentionThresholds::default()) {
        diagnostics.note("busy_machine", Severity::Warn, warning);
    }
    let control = study.config.control_blocks();
    if (1..FEW_CONTROL_BLOCKS).contains(&control) {
        diagnostics.note(
            "few_control_blocks",
            Severity::Warn,
            format!(
                "the A/A control has {control} blocks, too few to tell the noise of the machine narrowly: most differences will lie within it; give \
                 `control={FEW_CONTROL_BLOCKS}` or more, or `control=off`"
            ),
        );
    }
    let plan = plan(directory, study, configs, diagnostics);
    directory.write_json(AB_CONTEXT_FILE, &plan).map_err(record)?;
    let runs = directory.file(AB_RUNS_DIRECTORY);
    std::fs::create_dir_all(&runs).map_err(|source| {
        Failure::new(ExitStatus::ArtifactIo, format!("cannot make `{}`", runs.display())).because(source)
    })?;

    let end = match plan.isolation {
        Isolation::OwnProcess => {
            let mut host = host::ProcessHost::new(directory, study, configs, context, interrupt)?;
            let end = drive::run(&plan, &mut host)?;
            host.close()?;
            end
        }
        Isolation::InProcess => {
            let mut host = in_process::SharedHost::new(directory, study, configs, context, interrupt)?;
            host.warm_up(&plan)?;
            let end = drive::run(&plan, &mut host)?;
            host.close()?;
            end
        }
    };
    finish(directory, &end, context, interrupt, &runs)
}

/// The plan as it is recorded.
fn plan(directory: &RunDir, study: &Study, configs: &[Stage1Config], diagnostics: Diagnostics) -> AbContext {
    let config = &study.config;
    let texts = |settings: &[crate::config::study::Setting]| {
        let texts: Vec<String> = settings.iter().map(|setting| setting.text.clone()).collect();
        directory.redactor().argv(&texts)
    };
    AbContext {
        schema_version: AB_SCHEMA_VERSION,
        run_id: directory.run_id().to_owned(),
        variants: study
            .variants
            .iter()
            .map(|variant| AbVariant { label: variant.label.clone(), overrides: texts(&variant.settings) })
            .collect(),
        shared: texts(&study.shared),
        isolation: match config.isolation {
            IsolationChoice::OwnProcess => Isolation::OwnProcess,
            IsolationChoice::InProcess => Isolation::InProcess,
        },
        seed: config.seed,
        min_blocks: config.min_blocks,
        blocks: config.blocks,
        control_blocks: config.control_blocks(),
        budget_s: config.budget_s,
        precision: config.precision,
        margin: config.margin,
        fail_on: config.fail_on.clone(),
        studied: studied(&study.variants),
        allow_invalid: configs.iter().any(|config| config.run.allow_invalid),
        diagnostics: diagnostics.into_vec(),
    }
}

/// Settings that say what work is done. Variants that differ in them do not do the same work, however much that was meant.
const WORK: [&str; 11] = [
    "prompt",
    "prompt_tokens",
    "cases",
    "dataset",
    "infer.max_new_tokens",
    "infer.ignore_eos",
    "infer.temperature",
    "infer.top_k",
    "infer.top_p",
    "infer.seed",
    "infer.chat_template",
];

/// The dotted keys in which a variant differs from the baseline, without those of [`WORK`].
fn studied(variants: &[StudyVariant]) -> Vec<String> {
    let Some((baseline, candidates)) = variants.split_first() else { return Vec::new() };
    let mut keys = BTreeSet::new();
    for candidate in candidates {
        differing("", &baseline.composed.value, &candidate.composed.value, &mut keys);
        let names = baseline.environment.keys().chain(candidate.environment.keys());
        keys.extend(
            names
                .filter(|name| baseline.environment.get(*name) != candidate.environment.get(*name))
                .map(|name| format!("env.{name}")),
        );
    }
    let is_work = |key: &String| {
        WORK.iter().any(|work| key == work || key.strip_prefix(work).is_some_and(|rest| rest.starts_with('.')))
    };
    keys.into_iter().filter(|key| !is_work(key)).collect()
}

fn differing(path: &str, a: &Value, b: &Value, keys: &mut BTreeSet<String>) {
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
                differing(&path, &of(left), &of(right), keys);
            }
        }
        _ if a != b => {
            keys.insert(path.to_owned());
        }
        _ => {}
    }
}

/// Writes how the study ended, its summary and its reports, and says how the process must exit.
fn finish(
    directory: &mut RunDir,
    end: &StudyEnd,
    context: &Context,
    interrupt: &Interrupt,
    runs: &Path,
) -> anyhow::Result<ExitStatus> {
    let record = |error: RecordError| error.into_failure();
    let error = end.failure.as_ref().map(|failure| {
        let often = if failure.never_worked { "never worked" } else { "failed too often" };
        format!("variant `{}` {often}: {}", failure.label, failure.error)
    });
    let last = AbEnd {
        schema_version: AB_SCHEMA_VERSION,
        stopped_because: end.reason.words().to_owned(),
        took_s: end.took_s,
        error: error.as_ref().map(|error| directory.redactor().text(error)),
        diagnostics: end.diagnostics.as_slice().to_vec(),
    };
    directory.write_json(AB_END_FILE, &last).map_err(record)?;
    let rendered = render_study(directory.path(), false)?;
    let valid = rendered.rebuilt.metrics.validity.is_valid();
    let status = match end.reason {
        StopReason::Interrupted => RunStatus::Interrupted,
        StopReason::Failed => RunStatus::Failed,
        _ if valid => RunStatus::Complete,
        _ => RunStatus::Invalid,
    };
    directory.finish(status, error.as_deref()).map_err(record)?;
    if let (Some(error), Some(failure)) = (error, &end.failure) {
        // A study of nothing has no answer to print.
        if !failure.never_worked {
            print_summary(&rendered, directory.path(), context)?;
        }
        let log = child::log_of(runs, &failure.child);
        let mut answer = Failure::new(ExitStatus::CouldNotStart, error);
        if log.exists() {
            answer = answer.hint(format!("what it said is in `{}`", log.display()));
        }
        return Err(answer.hint(format!("the study is in `{}`", directory.path().display())).into());
    }
    print_summary(&rendered, directory.path(), context)?;
    Ok(if status == RunStatus::Interrupted { interrupt.status() } else { rendered.exit_status() })
}
