//! `perfprof stage1`: profiles a model in process and writes a run directory.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use super::interrupt::Interrupt;
use super::render;
use super::trace_files::{TraceFiles, TraceKeeper, open_tracer, plan_nvtx};
use crate::config::compose::{ComposeRequest, Composed, compose};
use crate::config::dataset;
use crate::config::overrides::expand_multirun;
use crate::config::schema::choice::MeasureCeilings;
use crate::config::schema::stage1::Stage1Config;
use crate::diagnostics::{Diagnostic, Diagnostics, ExitStatus, Failure, Severity, escape_control};
use crate::engine::device as engine_device;
use crate::engine::gpu;
use crate::engine::gpu::backend::HalfType;
use crate::estimate::format::Format;
use crate::hardware::ceilings::Ceilings;
use crate::hardware::contention::{ContentionThresholds, machine_state};
use crate::hardware::identify::{self, Machine};
use crate::hardware::resolve::{DeviceRef, MeasurePolicy, PeakOverrides, ResolveRequest, ResolvedHardware, resolve};
use crate::instrument::cupti::ActivitySource;
use crate::instrument::nvtx::NvtxRanges;
use crate::record::context::{CONTEXT_FILE, CONTEXT_SCHEMA_VERSION, Stage1Context};
use crate::record::gpu::GPU_FILE;
use crate::record::inputs::{FileInput, INPUTS_FILE, INPUTS_SCHEMA_VERSION, Inputs, PromptInput, to_yaml};
use crate::record::metrics::{HardwareBlock, Peak};
use crate::record::quality::QUALITY_FILE;
use crate::record::reader::ROWS_FILE;
use crate::record::redact::Redactor;
use crate::record::rows::RepeatRow;
use crate::record::rows_writer::RowsWriter;
use crate::record::run_dir::{RunDir, RunOptions, RunStatus};
use crate::record::spans::{SPANS_FILE, SpanLine};
use crate::record::{RecordError, environment};
use crate::runner::assemble::{self, AssembleError};
use crate::runner::cases::{self, PreparedCase};
use crate::runner::quality;
use crate::runner::stage1::{Events, RunEnd, Stage1Runner, mode_name, span_repeats, trace_repeats};
use crate::runner::summary::Ending;
use crate::runner::telemetry::FirstLook;
use crate::runner::traced::TracedRepeat;
use crate::trace::timeline::Timeline;

/// How long measuring the ceilings may take.
const CEILING_BUDGET: Duration = Duration::from_millis(1500);
/// How long the machine is looked at before a run.
const LOOK: Duration = Duration::from_millis(200);
/// Weight files above this size are not hashed: it would take longer than many a run.
pub(super) const HASH_LIMIT_BYTES: u64 = 1 << 30;

/// Options of `perfprof stage1`.
#[derive(Debug, Clone, Default)]
pub struct Stage1Options {
    /// `key=value` overrides in order.
    pub overrides: Vec<String>,
    /// A run file (`--run-config`).
    pub run_config: Option<std::path::PathBuf>,
    /// Run every combination of the values given with commas.
    pub multirun: bool,
    /// Print the composed settings and their origins, run nothing.
    pub print_config: bool,
}

/// Runs `perfprof stage1`.
pub fn run(options: &Stage1Options, context: &Context) -> anyhow::Result<ExitStatus> {
    let sets = if options.multirun {
        expand_multirun(&options.overrides).map_err(Failure::from)?
    } else {
        vec![options.overrides.clone()]
    };
    // All settings are checked before the first run starts: a typo in the last combination must not cost an hour.
    let mut composed = Vec::new();
    for overrides in &sets {
        let request = ComposeRequest {
            command: "stage1".to_owned(),
            overrides: overrides.clone(),
            run_config: options.run_config.clone(),
            config_dir: context.config_dir.clone(),
        };
        let tree = compose(&request).map_err(Failure::from)?;
        let config = tree.stage1().map_err(Failure::from)?;
        composed.push((tree, config));
    }
    let redactor = Redactor::from_env();
    if options.print_config {
        for (tree, _) in &composed {
            super::print_answer(&redactor.text(&tree.to_yaml_with_provenance()))?;
        }
        return Ok(ExitStatus::Success);
    }
    let interrupt = Interrupt::install()?;
    let mut status = ExitStatus::Success;
    let many = composed.len() > 1;
    for (index, ((tree, config), overrides)) in composed.iter().zip(&sets).enumerate() {
        if many && !context.json {
            let line = format!("run {} of {}: {}", index + 1, composed.len(), redactor.argv(overrides).join(" "));
            // A stderr that is full or gone must not end a sweep.
            let _ = writeln!(anstream::stderr(), "{}", escape_control(&line));
        }
        let ended = run_one(tree, config, context, &interrupt)?;
        if ended != ExitStatus::Success {
            status = ended;
        }
        if interrupt.asked() {
            break;
        }
    }
    Ok(status)
}

/// Turns an [`AssembleError`] into a failure with its hint.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn assemble_failure(error: AssembleError) -> Failure {
    let status = match &error {
        AssembleError::Unavailable { .. } => ExitStatus::Usage,
        _ => ExitStatus::CouldNotStart,
    };
    let mut failure = Failure::new(status, error.to_string());
    if let Some(hint) = error.hint() {
        failure = failure.hint(hint);
    }
    match std::error::Error::source(&error).map(chain) {
        Some(source) => failure.because(source),
        None => failure,
    }
}

/// A chain of causes as one text, since the causes are not all `'static`.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let mut text = first_line(error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let more = first_line(cause.to_string());
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

/// A run that nothing speaks against, before a directory is made or a weight is read.
pub(super) struct Prepared {
    chosen: assemble::Chosen,
    device_id: String,
    pub(super) tokenizer: crate::engine::tokenizer::Tokenizer,
    prompts: Vec<dataset::Prompt>,
    pub(super) cases: Vec<PreparedCase>,
}

/// Refuses everything that can be refused without a directory or a weight.
pub(super) fn prepare(config: &Stage1Config) -> anyhow::Result<Prepared> {
    let mut chosen = assemble::choose(config).map_err(assemble_failure)?;
    let device_id = assemble::open_device(config).map_err(assemble_failure)?.device_id;
    let fits = |room| assemble::check_memory(config, &chosen, room, &device_id).map_err(assemble_failure);
    let tokenizer = assemble::tokenizer(&chosen).map_err(assemble_failure)?;
    let prompts = match config.dataset.root {
        Some(_) => {
            dataset::load(&config.dataset).map_err(|error| Failure::new(ExitStatus::Usage, error.to_string()))?
        }
        None => Vec::new(),
    };
    // The ids of a batch that can never fit would themselves not fit.
    fits(cases::least_room(config))?;
    let mut cases = cases::prepare(config, &prompts, &chosen.architecture, &tokenizer).map_err(|error| {
        let failure = Failure::new(ExitStatus::Usage, error.to_string()).hint(error.hint());
        match std::error::Error::source(&error).map(chain) {
            Some(source) => failure.because(source),
            None => failure,
        }
    })?;

    fits(cases::room(&cases, config.engine.max_context))?;

    // Names stand in every artifact.
    let redactor = Redactor::from_env();
    chosen.name = redactor.text(&chosen.name);
    for case in &mut cases {
        case.plan.name = redactor.text(&case.plan.name);
    }
    Ok(Prepared { chosen, device_id, tokenizer, prompts, cases })
}

fn run_one(
    tree: &Composed,
    config: &Stage1Config,
    context: &Context,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitStatus> {
    let first_look = FirstLook::new(config);
    let prepared = prepare(config)?;
    let tracer = open_tracer(config, &prepared.device_id)?;

    let run_options = RunOptions {
        id: config.run.id.clone(),
        argv: None,
        tag: config.run.tag.clone(),
        config_sha256: Some(tree.sha256()),
    };
    let mut directory =
        RunDir::create_with(&context.output_root, "stage1", run_options).map_err(RecordError::into_failure)?;
    let outcome =
        run_in(&mut directory, tree, config, context, interrupt, prepared, Instruments { tracer, first_look });
    match outcome {
        Ok(status) => Ok(status),
        Err(error) => {
            // The directory may be gone or full; the error that brought us here matters more than a second one.
            let _ = directory.finish(RunStatus::Failed, Some(&format!("{error:#}")));
            Err(error)
        }
    }
}

/// What of a [`Prepared`] run stays when its model is built.
struct Rest<'a> {
    /// What was found of the graphics processor.
    findings: Vec<Diagnostic>,
    device_id: &'a str,
    tokenizer: &'a crate::engine::tokenizer::Tokenizer,
    prompts: &'a [dataset::Prompt],
    cases: &'a [PreparedCase],
}

/// [`begin`] for a run that takes its turns among others; gives the tokenizer and the cases back.
pub(super) fn begin_turns(
    directory: &RunDir,
    tree: &Composed,
    config: &Stage1Config,
    prepared: Prepared,
) -> anyhow::Result<(Begun, crate::engine::tokenizer::Tokenizer, Vec<PreparedCase>)> {
    let Prepared { chosen, device_id, tokenizer, prompts, cases } = prepared;
    let rest =
        Rest { findings: Vec::new(), device_id: &device_id, tokenizer: &tokenizer, prompts: &prompts, cases: &cases };
    let begun = begin(directory, tree, config, chosen, &rest, &Progress::new(false))?;
    Ok((begun, tokenizer, cases))
}

/// An engine that is ready, and what the repeats need beside it; the directory holds everything but rows.
pub(super) struct Begun {
    pub(super) engine: assemble::Engine,
    pub(super) thresholds: ContentionThresholds,
    pub(super) threads: usize,
    /// Whether operators are recorded.
    pub(super) spans: u32,
    /// NVTX ranges, where they are emitted.
    pub(super) nvtx: Option<NvtxRanges>,
}

/// Writes what is known of the run into `directory` and builds its engine.
fn begin(
    directory: &RunDir,
    tree: &Composed,
    config: &Stage1Config,
    chosen: assemble::Chosen,
    prepared: &Rest<'_>,
    progress: &Progress,
) -> anyhow::Result<Begun> {
    let record = |error: RecordError| error.into_failure();
    let config_text = directory.redactor().text(&tree.to_yaml_with_provenance());
    directory.write("config.yaml", config_text.as_bytes()).map_err(record)?;
    let machine = identify::machine();
    let gpu = serde_json::to_value(&machine.gpu)?;
    directory.write_json("env.json", &environment::capture(gpu)).map_err(record)?;
    let inputs = inputs(config, &chosen, prepared.cases, prepared.prompts);
    directory.write(INPUTS_FILE, to_yaml(&inputs)?.as_bytes()).map_err(record)?;

    let mut diagnostics = Diagnostics::default();
    diagnostics.extend(prepared.findings.iter().cloned());
    let thresholds = ContentionThresholds::default();
    for warning in machine_state(LOOK).warnings(&thresholds) {
        diagnostics.note("busy_machine", Severity::Warn, warning);
    }
    let threads = assemble::threads(config, machine.cpu.physical_available, machine.cpu.usable_cpus);
    let room = cases::room(prepared.cases, config.engine.max_context);
    // Before the weights are there: what measures the bandwidth fills far more memory than any cache holds.
    progress.message("measuring the ceilings of this machine");
    let resolved = hardware(config, &machine, prepared.device_id, threads);
    progress.loading(&chosen.name);
    let mut engine = assemble::build(config, chosen, room, threads, &mut |done, total| progress.loaded(done, total))
        .map_err(assemble_failure)?;
    progress.clear();
    diagnostics.extend(std::mem::take(&mut engine.diagnostics));
    tracing::info!(load_ms = engine.load_ms, threads = engine.threads, "engine ready");

    let instrumented = engine.model.is_instrumented();
    let spans = if instrumented { span_repeats(config, prepared.device_id == "cpu") } else { 0 };
    let mut notes = std::mem::take(&mut engine.notes);
    notes.extend(prepared.tokenizer.notes().iter().cloned());
    notes.extend(resolved.notes.iter().cloned());
    let nvtx = plan_nvtx(config, engine.block.architecture.num_layers as u32);
    notes.extend(nvtx.notes);
    diagnostics.extend(nvtx.diagnostics.into_vec());
    let plan = Stage1Context {
        schema_version: CONTEXT_SCHEMA_VERSION,
        run_id: directory.run_id().to_owned(),
        model: engine.block.clone(),
        weight_formats: engine.weight_formats.clone(),
        instrumented,
        hardware: hardware_block(config, &resolved),
        load_ms: engine.load_ms,
        cases: prepared.cases.iter().map(|case| case.plan.clone()).collect(),
        repeats: config.repeats,
        span_repeats: spans,
        trace_repeats: trace_repeats(config),
        warmup: config.warmup,
        mode: mode_name(config.infer.mode).to_owned(),
        ignore_eos: config.infer.ignore_eos,
        temperature: config.infer.temperature,
        seeds: seeds(config),
        max_disturbed_share: config.profiling.max_disturbed_share,
        notes,
        diagnostics: diagnostics.into_vec(),
    };
    directory.write_json(CONTEXT_FILE, &plan).map_err(record)?;
    Ok(Begun { engine, thresholds, threads, spans, nvtx: nvtx.ranges })
}

/// What looks at the device beside the engine.
struct Instruments {
    tracer: Option<Box<dyn ActivitySource>>,
    first_look: FirstLook,
}

fn run_in(
    directory: &mut RunDir,
    tree: &Composed,
    config: &Stage1Config,
    context: &Context,
    interrupt: &Interrupt,
    prepared: Prepared,
    instruments: Instruments,
) -> anyhow::Result<ExitStatus> {
    let Instruments { mut tracer, first_look } = instruments;
    let record = |error: RecordError| error.into_failure();
    let quality_text =
        quality::text(&config.quality).map_err(|error| Failure::new(ExitStatus::Usage, error.to_string()))?;
    let progress = Progress::new(context.progress);
    let Prepared { chosen, device_id, tokenizer, prompts, cases } = prepared;
    let (telemetry_plan, findings) = first_look.plan(config, &device_id);
    let rest = Rest { findings, device_id: &device_id, tokenizer: &tokenizer, prompts: &prompts, cases: &cases };
    let Begun { mut engine, thresholds, threads, spans, mut nvtx } =
        begin(directory, tree, config, chosen, &rest, &progress)?;
    let (tokenizer, cases) = (&tokenizer, &cases[..]);

    let mut sink = Sink {
        rows: RowsWriter::create(&directory.file(ROWS_FILE)).map_err(record)?,
        spans: if spans > 0 { Some(RowsWriter::create(&directory.file(SPANS_FILE)).map_err(record)?) } else { None },
        progress,
        interrupt,
        error: None,
        traces: TraceKeeper::default(),
    };
    let run_id = directory.run_id().to_owned();
    let mut telemetry =
        telemetry_plan.and_then(|plan| plan.start(&run_id).inspect_err(|reason| tracing::warn!("{reason}")).ok());
    if let Some(telemetry) = &telemetry {
        directory.write_json(GPU_FILE, telemetry.file()).map_err(record)?;
    }
    let mut runner = Stage1Runner {
        config,
        run_id: &run_id,
        engine: &mut engine,
        tokenizer,
        thresholds,
        redactor: directory.redactor(),
        nvtx: nvtx.as_mut(),
        tracer: match &mut tracer {
            Some(tracer) => Some(&mut **tracer),
            None => None,
        },
        mark_region: true,
        telemetry: telemetry.as_mut(),
    };
    let end = runner.run(cases, &mut sink).map_err(record)?;
    if let Some(telemetry) = telemetry {
        directory.write_json(GPU_FILE, &telemetry.finish()).map_err(record)?;
    }
    sink.progress.clear();
    let failed_row = sink.error.take();
    sink.rows.close().map_err(record)?;
    if let Some(spans) = sink.spans {
        spans.close().map_err(record)?;
    }
    // The library lets go of the device before anything else is done with the records.
    drop(tracer);

    if let (Some(text), RunEnd::Complete) = (&quality_text, end) {
        drop(engine);
        let progress = Progress::new(context.progress);
        progress.message("measuring the quality of the predictions");
        let record = quality::measure(config, text, threads, tokenizer, &|| !interrupt.asked());
        progress.clear();
        directory.write_json(QUALITY_FILE, &record).map_err(RecordError::into_failure)?;
    }

    let ending = match end {
        RunEnd::Complete => Ending::Complete,
        RunEnd::Interrupted => Ending::Interrupted,
        RunEnd::Failed => Ending::Failed,
    };
    let rendered = render::render_run(directory.path(), ending, false)?;
    // After the reports: what cannot be written of a trace costs none of them.
    let traces = sink.traces.write(directory, config)?;
    let status = match end {
        RunEnd::Interrupted => RunStatus::Interrupted,
        RunEnd::Failed => RunStatus::Failed,
        RunEnd::Complete if rendered.metrics.validity.is_valid() => RunStatus::Complete,
        RunEnd::Complete => RunStatus::Invalid,
    };
    directory.finish(status, failed_row.as_deref()).map_err(record)?;
    render::print_summary(&rendered, directory.path(), context)?;
    traces.iter().for_each(TraceFiles::announce);
    Ok(match status {
        RunStatus::Interrupted => interrupt.status(),
        RunStatus::Failed => {
            let message = failed_row.unwrap_or_else(|| "a repeat failed".to_owned());
            return Err(Failure::new(ExitStatus::CouldNotStart, message)
                .hint(format!("what was finished is in `{}`", directory.path().display()))
                .into());
        }
        RunStatus::Invalid if !config.run.allow_invalid => ExitStatus::Invalid,
        _ => ExitStatus::Success,
    })
}

fn seeds(config: &Stage1Config) -> BTreeMap<String, u64> {
    [
        ("weights", config.model.seed),
        ("sampling and synthetic prompts", config.infer.seed),
        ("dataset", config.dataset.seed),
    ]
    .into_iter()
    .map(|(name, seed)| (name.to_owned(), seed))
    .collect()
}

/// The ceilings for the arithmetic this engine does.
fn hardware(config: &Stage1Config, machine: &Machine, device_id: &str, threads: usize) -> ResolvedHardware {
    let settings = &config.hardware;
    let overrides = PeakOverrides {
        name: Some(settings.name.clone()).filter(|name| name != "auto"),
        peak_flops_per_s: settings.peak_tflops.map(|tera| tera * 1e12),
        peak_bytes_per_s: settings.peak_bandwidth_gbs.map(|giga| giga * 1e9),
        memory_bytes: settings.memory_gib.map(|gib| (gib * (1u64 << 30) as f64) as u64),
    };
    let device = match device_id.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
        Some(index) => DeviceRef::Cuda(index),
        None => DeviceRef::Cpu,
    };
    // What the operators of each device compute in, whatever the weights are stored in.
    let compute_dtype = match (device, config.model.dtype.or(config.model.dtype_default)) {
        (DeviceRef::Cpu, _) | (_, Some(Format::F32)) => Format::F32,
        (_, Some(Format::F16)) => Format::F16,
        _ => Format::BF16,
    };
    let mut resolved = resolve(&ResolveRequest {
        machine,
        device,
        overrides: &overrides,
        compute_dtype,
        threads: threads as u32,
        measure: match settings.measure {
            MeasureCeilings::Never => MeasurePolicy::Never,
            MeasureCeilings::Auto | MeasureCeilings::Always => MeasurePolicy::Within(CEILING_BUDGET),
        },
    });
    let unknown = resolved.peak_flops_per_s.value.is_none() || resolved.peak_bytes_per_s.value.is_none();
    let wanted = match settings.measure {
        MeasureCeilings::Never => false,
        MeasureCeilings::Auto => unknown,
        MeasureCeilings::Always => true,
    };
    if let (DeviceRef::Cuda(index), true) = (device, wanted) {
        match gpu_ceilings(index, compute_dtype) {
            Ok(ceilings) => resolved.take_measured(ceilings),
            Err(reason) => resolved.notes.push(format!("the ceilings of the device could not be measured: {reason}")),
        }
    }
    resolved
}

/// Bandwidth and product of a GPU, before the model takes its memory.
fn gpu_ceilings(index: u32, compute_dtype: Format) -> Result<Ceilings, String> {
    let half = if compute_dtype == Format::F16 { HalfType::F16 } else { HalfType::BF16 };
    let backend = engine_device::backend(index as usize).map_err(|error| error.to_string())?;
    gpu::ceilings::measure(&*backend, half, gpu::ceilings::Sizes::default()).map_err(|error| error.to_string())
}

fn hardware_block(config: &Stage1Config, resolved: &ResolvedHardware) -> HardwareBlock {
    let peak = |value: &crate::hardware::resolve::PeakValue| Peak {
        value: value.value,
        kind: value.kind.name().to_owned(),
        source: value.source.clone(),
    };
    HardwareBlock {
        device: resolved.device.clone(),
        device_id: resolved.device_id.clone(),
        threads: resolved.threads,
        compute_dtype: resolved.compute_dtype.name().to_owned(),
        peak_flops_per_s: peak(&resolved.peak_flops_per_s),
        peak_bytes_per_s: peak(&resolved.peak_bytes_per_s),
        memory_bytes: resolved.memory_bytes,
        price_usd_per_hour: config.hardware.price_usd_per_hour,
        power_w: config.hardware.power_w,
        // A processor's are the peaks themselves.
        measured: resolved.measured.clone().filter(|_| resolved.device_id != "cpu"),
    }
}

fn inputs(
    config: &Stage1Config,
    chosen: &assemble::Chosen,
    cases: &[PreparedCase],
    prompts: &[dataset::Prompt],
) -> Inputs {
    let mut files: Vec<FileInput> = Vec::new();
    let mut add = |role: &str, path: &std::path::Path| {
        let bytes = std::fs::metadata(path).map_or(0, |data| data.len());
        if files.iter().any(|file| file.path == path.display().to_string()) {
            return;
        }
        let sha256 = if bytes <= HASH_LIMIT_BYTES {
            crate::record::manifest::entry(path).ok().map(|entry| entry.sha256)
        } else {
            None
        };
        files.push(FileInput { role: role.to_owned(), path: path.display().to_string(), bytes, sha256 });
    };
    for path in &chosen.files {
        add("weights", path);
    }
    for prompt in prompts {
        add("prompts", &prompt.file);
    }
    Inputs {
        schema_version: INPUTS_SCHEMA_VERSION,
        count: cases.iter().map(|case| case.prompts.len() as u64).sum(),
        dataset_root: config.dataset.root.as_ref().map(|path| path.display().to_string()),
        subset_filelist: config.dataset.subset.as_ref().map(|path| path.display().to_string()),
        seeds: seeds(config),
        files,
        prompts: cases
            .iter()
            .flat_map(|case| {
                case.prompts.iter().map(|ids| {
                    PromptInput::new(&case.plan.name, &case.plan.source, ids, case.text.as_deref(), case.seed)
                })
            })
            .collect(),
    }
}

/// Progress on stderr; silent where stderr is not a terminal.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new(show: bool) -> Self {
        Self(show.then(|| {
            let bar = ProgressBar::new(0);
            bar.set_style(Self::style("{spinner} {msg}"));
            bar
        }))
    }
    fn style(template: &str) -> ProgressStyle {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
    }
    fn loading(&self, name: &str) {
        if let Some(bar) = &self.0 {
            bar.set_style(Self::style("{msg} {bar:30} {bytes}/{total_bytes}"));
            bar.set_message(format!("loading {name}"));
        }
    }
    fn loaded(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
    fn message(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_style(Self::style("{spinner} {msg}"));
            bar.set_message(text.to_owned());
            bar.tick();
        }
    }
    fn count(&self, text: String, done: u32, of: u32) {
        if let Some(bar) = &self.0 {
            bar.set_style(Self::style("{msg} {bar:30} {pos}/{len} {elapsed}"));
            bar.set_length(u64::from(of));
            bar.set_position(u64::from(done));
            bar.set_message(text);
        }
    }
    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Writes rows and spans as they come.
struct Sink<'a> {
    rows: RowsWriter,
    spans: Option<RowsWriter>,
    progress: Progress,
    interrupt: &'a Interrupt,
    /// What the first failed row says.
    error: Option<String>,
    /// What the built-in tracer recorded.
    traces: TraceKeeper,
}

impl Events for Sink<'_> {
    type Error = RecordError;
    fn warmup(&mut self, case: &str, index: u32, of: u32) {
        self.progress.count(format!("warm-up {case}"), index, of);
    }
    fn repeat(&mut self, case: &str, index: u32, of: u32, spans: bool) {
        self.progress.count(format!("{case}{}", if spans { " (operator spans)" } else { "" }), index, of);
    }
    fn row(&mut self, row: &RepeatRow, spans: Option<&Timeline>) -> Result<(), RecordError> {
        if let Some(error) = &row.error {
            tracing::warn!(row = row.index, "{error}");
            self.error.get_or_insert_with(|| error.clone());
        }
        self.rows.append(row)?;
        if let (Some(writer), Some(timeline)) = (&mut self.spans, spans) {
            writer.append(&SpanLine::from_timeline(timeline, row.index))?;
        }
        Ok(())
    }
    fn traced(&mut self, row: &RepeatRow, traced: TracedRepeat) {
        self.traces.add(row, traced);
    }
    fn interrupted(&self) -> bool {
        self.interrupt.asked()
    }
}
