//! Opens what is to be compared: runs by id, tag or path, traces, and result files of other tools.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::analysis::coverage::{Coverage, coverage};
use crate::analysis::projection::{Projection, project};
use crate::analysis::steps::{PhasePatterns, Steps, steps};
use crate::compare::import::foreign::{self, Format};
use crate::compare::import::labels::LabelSource;
use crate::compare::import::load::{self, LoadFiles};
use crate::compare::import::stage1::{self, Stage1Files};
use crate::compare::import::trace::{TraceParts, trace_operators, trace_subject};
use crate::compare::import::{ImportError, analyzed};
use crate::compare::stored::read_baseline;
use crate::compare::subject::Subject;
use crate::config::yaml;
use crate::diagnostics::{Diagnostic, ExitStatus, Failure, Severity};
use crate::record::RecordError;
use crate::record::environment::ENVIRONMENT_FILE;
use crate::record::find::{LATEST, RunEntry, list_runs, resolve_run};
use crate::record::inputs::{INPUTS_FILE, INPUTS_SCHEMA_VERSION};
use crate::record::load::{LOAD_CONTEXT_FILE, LOAD_SCHEMA_VERSION, REQUESTS_FILE, reader as load_reader};
use crate::record::manifest;
use crate::record::metrics::METRICS_SCHEMA_VERSION;
use crate::record::reader::{self, METRICS_FILE, ROWS_FILE};
use crate::record::run_dir::RUN_FILE;
use crate::runner::load::summary::{Extras, summarize};
use crate::trace::detect::{TraceFormat, detect};
use crate::trace::import::{Import, ReadError, ReadErrorKind, ReadOptions};
use crate::trace::timeline::Timeline;
use crate::trace::{chrome, merge, nsys};

/// Larger files are no results of a benchmark.
const RESULT_LIMIT_BYTES: u64 = 256 << 20;
/// Bytes in which a trace shows that it is one.
const HEAD_BYTES: u64 = 64 << 10;

/// What loading is told beside the name.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Where runs are looked for (`--output-root`).
    pub root: &'a Path,
    /// Read past damaged rows and count them as lost.
    pub salvage: bool,
    /// Also read the traces that an analysed run was made of, where they are still there: they tell more about where a difference comes from.
    pub traces_of_runs: bool,
    /// Asked now and then while a trace is read.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl std::fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadOptions").field("root", &self.root).field("salvage", &self.salvage).finish_non_exhaustive()
    }
}

/// A trace in memory with what was worked out about it, for the attribution of a difference.
#[derive(Debug)]
pub struct LoadedTrace {
    /// The files, in order.
    pub paths: Vec<PathBuf>,
    /// All of them as one.
    pub timeline: Timeline,
    /// Ranges and the work launched inside them.
    pub projection: Projection,
    /// Phases and steps.
    pub steps: Steps,
    /// What the trace can say.
    pub coverage: Coverage,
}

/// One side of a comparison as it was found.
#[derive(Debug)]
pub struct Loaded {
    /// The values. Its label is provisional until `labels::assign` has seen all subjects.
    pub subject: Subject,
    /// What may name it.
    pub label: LabelSource,
    /// The trace, where one was given or an analysed run names files that are still there.
    pub trace: Option<LoadedTrace>,
    /// Operator spans of a stage1 run that recorded some.
    pub spans: Option<Timeline>,
    /// The run directory, if it is one.
    pub run_dir: Option<PathBuf>,
}

/// Loads what `spec` names: a run (id, tag, `latest`, path), a trace, or a result file; `label` is what the user wants it called.
///
/// # Errors
/// If nothing of that name can be read, or what is there cannot be compared.
pub fn load_subject(spec: &str, label: Option<&str>, options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    let path = Path::new(spec);
    let mut loaded = if path.is_file() && path.file_name().is_none_or(|name| name != RUN_FILE) {
        load_file(path, options)?
    } else if path.is_dir() && !path.join(RUN_FILE).is_file() && path.join(ROWS_FILE).is_file() {
        load_stage1(path, options)?
    } else {
        load_run(&resolve(spec, options.root)?, options)?
    };
    loaded.label.given = label.map(str::to_owned);
    if let Some(label) = label {
        label.clone_into(&mut loaded.subject.label);
    }
    Ok(loaded)
}

/// Commands whose runs can be a side.
const SIDES: [&str; 3] = ["stage1", "load", "analyze"];
/// What can be a side, for hints.
const WHAT_CAN: &str = "runs of `stage1`, `load` and `analyze`, traces and result files of other tools can be compared";

fn resolve(spec: &str, root: &Path) -> Result<PathBuf, Failure> {
    // The newest run is most often the last comparison, which is never meant.
    if spec == LATEST {
        let runs = list_runs(root).map_err(RecordError::into_failure)?;
        let fits = |run: &RunEntry| run.record.as_ref().is_ok_and(|record| SIDES.contains(&record.command.as_str()));
        if let Some(run) = runs.into_iter().find(fits) {
            return Ok(run.path);
        }
    }
    resolve_run(root, spec).map_err(|error| match error {
        RecordError::NoSuchRun { .. } if spec.contains('/') || Path::new(spec).extension().is_some() => {
            let message = format!("`{spec}` is neither a file nor a run under `{}`", root.display());
            let failure = Failure::new(ExitStatus::Usage, message);
            error.hint().into_iter().fold(failure, Failure::hint)
        }
        other => other.into_failure(),
    })
}

/// An import error as a failure of the program.
fn import_failure(error: ImportError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(ExitStatus::CouldNotStart, error.to_string()).because(error);
    hint.into_iter().fold(failure, Failure::hint)
}

/// A trace reader's error as a failure of the program.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn read_failure(error: ReadError) -> Failure {
    let status = match error.kind {
        ReadErrorKind::Interrupted => ExitStatus::Interrupted,
        _ => ExitStatus::CouldNotStart,
    };
    error.hints.iter().fold(Failure::new(status, error.to_string()), |failure, hint| failure.hint(hint.clone()))
}

fn io_failure(path: &Path, error: io::Error) -> Failure {
    Failure::new(ExitStatus::CouldNotStart, format!("cannot read `{}`", path.display())).because(error)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// A run by what its `run.json` says it is.
fn load_run(directory: &Path, options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    let run = reader::read_run(directory).map_err(RecordError::into_failure)?;
    match run.command.as_str() {
        "stage1" => load_stage1(directory, options),
        "load" => load_test(directory, options),
        "analyze" => load_analyzed(directory, options),
        "stage2" => Err(Failure::new(
            ExitStatus::Usage,
            format!(
                "`{}` is a run of `stage2`, of which the timeline can be a side of a comparison",
                directory.display()
            ),
        )
        .hint(format!("give `{}`", directory.join(crate::record::stage2::TRACE_FILE).display()))
        .into()),
        other => Err(Failure::new(
            ExitStatus::Usage,
            format!("`{}` is a run of `{other}`, which cannot be a side of a comparison", directory.display()),
        )
        .hint(WHAT_CAN)
        .into()),
    }
}

/// The content of a file that may be missing.
fn optional<T>(read: Result<T, RecordError>) -> Result<Option<T>, RecordError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(RecordError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(RecordError::NotARun { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// [`optional`], where the rows tell enough without it: what is damaged is left out with a word. Of a later version it is refused all the same.
fn dispensable<T>(read: Result<T, RecordError>, found: &mut Vec<Diagnostic>) -> Result<Option<T>, RecordError> {
    match optional(read) {
        Err(error @ RecordError::Malformed { .. }) => {
            found.push(Diagnostic::new(
                "unreadable_file",
                Severity::Warn,
                format!("{error}; the rows are used without it"),
            ));
            Ok(None)
        }
        other => other,
    }
}

fn load_stage1(directory: &Path, options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    let record = |error: RecordError| error.into_failure();
    let mut found = Vec::new();
    let run = dispensable(reader::read_run(directory), &mut found).map_err(record)?;
    let context = dispensable(reader::read_context(directory), &mut found).map_err(record)?;
    let metrics = dispensable(reader::read_metrics(directory), &mut found).map_err(record)?;
    let (rows, of_rows) = optional(reader::read_rows(directory, options.salvage)).map_err(record)?.unwrap_or_default();
    found.extend(of_rows);
    let spans = dispensable(reader::read_spans(directory), &mut found).map_err(record)?;
    let spans = spans.map(|(timeline, of_spans)| {
        found.extend(of_spans);
        timeline
    });
    let inputs = read_inputs(directory, &mut found)?;
    let environment = fs::read(directory.join(ENVIRONMENT_FILE)).ok();
    let files = Stage1Files {
        name: file_name(&fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned())),
        status: run.as_ref().map(crate::record::RunRecord::effective_status),
        run,
        context,
        metrics,
        rows,
        inputs,
        environment: environment.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        spans: spans.filter(|timeline| !timeline.spans.is_empty()),
        diagnostics: found,
    };
    stage1_loaded(files, Some(directory.to_owned()))
}

fn stage1_loaded(files: Stage1Files, run_dir: Option<PathBuf>) -> anyhow::Result<Loaded> {
    let subject = stage1::subject(&files).map_err(import_failure)?;
    let tag = files.run.and_then(|run| run.tag);
    let fallback = subject.run_ids.first().cloned().unwrap_or_default();
    Ok(Loaded { subject, label: LabelSource { given: None, tag, fallback }, trace: None, spans: files.spans, run_dir })
}

/// A run of `perfprof load`.
fn load_test(directory: &Path, options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    let record = |error: RecordError| error.into_failure();
    let mut found = Vec::new();
    let run = dispensable(reader::read_run(directory), &mut found).map_err(record)?;
    let context = dispensable(load_reader::read_context(directory), &mut found).map_err(record)?;
    let (rows, of_rows) = load_reader::read_rows(directory, options.salvage).map_err(record)?;
    found.extend(of_rows);
    let kept = dispensable(load_reader::read_metrics(directory), &mut found).map_err(record)?;
    let metrics = if let Some(metrics) = kept {
        metrics
    } else {
        // A run that was killed left no summary, but the plan and the rows to make it from.
        let Some(context) = &context else {
            let message = format!("`{}` has neither `{METRICS_FILE}` nor `{LOAD_CONTEXT_FILE}`", directory.display());
            return Err(Failure::new(ExitStatus::CouldNotStart, message)
                .hint("it was stopped before its first request: run it again")
                .into());
        };
        summarize(context, &rows, &Extras { status: "interrupted", ..Extras::default() })
    };
    let files = LoadFiles {
        name: file_name(&fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned())),
        status: run.as_ref().map(crate::record::RunRecord::effective_status),
        run,
        context,
        metrics,
        rows,
        diagnostics: found,
    };
    load_test_loaded(files, Some(directory.to_owned()))
}

fn load_test_loaded(files: LoadFiles, run_dir: Option<PathBuf>) -> anyhow::Result<Loaded> {
    let subject = load::subject(&files).map_err(import_failure)?;
    let tag = files.run.and_then(|run| run.tag);
    let label = LabelSource { given: None, tag, fallback: files.metrics.run_id };
    Ok(Loaded { subject, label, trace: None, spans: None, run_dir })
}

/// `inputs.yaml`, typed; null where it is missing or damaged.
fn read_inputs<T: DeserializeOwned>(directory: &Path, found: &mut Vec<Diagnostic>) -> Result<Option<T>, Failure> {
    let path = directory.join(INPUTS_FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let mut unreadable = |why: String| {
        let first = format!("`{}`: {why}; hashes of prompts and weights are not known", path.display());
        found.push(Diagnostic::new("unreadable_file", Severity::Warn, first));
    };
    let document = match yaml::read(&path) {
        Ok(document) => document,
        Err(error) => {
            unreadable(error.to_string());
            return Ok(None);
        }
    };
    let version = document.value.get("schema_version").and_then(Value::as_u64).unwrap_or(0);
    if version > u64::from(INPUTS_SCHEMA_VERSION) {
        let newer = RecordError::NewerSchema { path, line: None, found: version, known: INPUTS_SCHEMA_VERSION };
        return Err(newer.into_failure());
    }
    match serde_path_to_error::deserialize(document.value) {
        Ok(inputs) => Ok(Some(inputs)),
        Err(error) => {
            unreadable(format!("{}: {}", error.path(), error.inner()));
            Ok(None)
        }
    }
}

/// The part of the `inputs.yaml` of an analysis that is read.
#[derive(Debug, serde::Deserialize)]
struct TraceInputs {
    files: Vec<crate::record::inputs::FileInput>,
}

fn load_analyzed(directory: &Path, options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    let run = reader::read_run(directory).map_err(RecordError::into_failure)?;
    let path = directory.join(METRICS_FILE);
    let bytes = fs::read(&path).map_err(|error| {
        io_failure(&path, error).hint("an analysis that did not end has no summary: analyse the trace again")
    })?;
    let parsed = foreign::read(METRICS_FILE, &bytes).map_err(import_failure)?;
    let metrics = parsed.documents().first().unwrap_or(&Value::Null);
    let mut subject = analyzed::analyzed_subject(METRICS_FILE, metrics, run.tag.as_deref()).map_err(import_failure)?;
    let mut found = Vec::new();
    let mut trace = None;
    if options.traces_of_runs {
        let inputs: Option<TraceInputs> = read_inputs(directory, &mut found)?;
        match inputs.map(|inputs| unchanged(&inputs)) {
            Some(Ok(paths)) if !paths.is_empty() => trace = Some(load_trace(&paths, options)?.0),
            Some(Err(why)) => found.push(Diagnostic::new(
                "trace_not_used",
                Severity::Info,
                format!("{why}; differences are attributed by the operator table of the analysis"),
            )),
            _ => {}
        }
    }
    subject.diagnostics.extend(found);
    let label = LabelSource { given: None, tag: run.tag, fallback: run.run_id };
    Ok(Loaded { subject, label, trace, spans: None, run_dir: Some(directory.to_owned()) })
}

/// The traces of an analysis, if all are still what they were.
fn unchanged(inputs: &TraceInputs) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for file in inputs.files.iter().filter(|file| file.role == "trace") {
        let path = PathBuf::from(&file.path);
        let bytes = fs::metadata(&path).map_err(|_| format!("the trace `{}` is not there any more", file.path))?.len();
        let same_hash = || match &file.sha256 {
            Some(sha256) => manifest::entry(&path).is_ok_and(|entry| entry.sha256 == *sha256),
            None => true,
        };
        if bytes != file.bytes || !same_hash() {
            return Err(format!("the trace `{}` is another than the one that was analysed", file.path));
        }
        // Counters of Nsight Compute stand beside a trace and have no timeline.
        if detect(&path).is_ok_and(|format| format != TraceFormat::Ncu) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// A file by what is in it.
fn load_file(path: &Path, options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    // Requests say nothing without the plan beside them.
    if path.file_name().is_some_and(|name| name == REQUESTS_FILE)
        && let Some(directory) = run_around(path)
    {
        return load_run(directory, options);
    }
    let mut head = Vec::new();
    let file = fs::File::open(path).map_err(|error| io_failure(path, error))?;
    file.take(HEAD_BYTES).read_to_end(&mut head).map_err(|error| io_failure(path, error))?;
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).trim_ascii_start();
    let is_json = matches!(text.first(), Some(b'{' | b'['));
    if !is_json {
        return match detect(path) {
            Ok(TraceFormat::Ncu) => Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "`{}` holds counters of Nsight Compute, which cannot be a side of a comparison",
                    path.display()
                ),
            )
            .hint("`perfprof analyze` explains them; compare traces of Nsight Systems or the PyTorch profiler")
            .into()),
            Ok(TraceFormat::Nsys) => load_trace_file(path, options),
            // Compressed, or of a name that promises JSON.
            Ok(TraceFormat::Chrome)
                if head.starts_with(&[0x1f, 0x8b]) || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) =>
            {
                load_trace_file(path, options)
            }
            _ => {
                let found = if head.is_empty() { "is empty" } else { "is neither JSON nor a trace" };
                let message = format!("`{}` {found}", path.display());
                Err(Failure::new(ExitStatus::CouldNotStart, message)
                    .hint(format!("formats that are read: {}", foreign::SUPPORTED))
                    .into())
            }
        };
    }
    if looks_like_a_trace(text) {
        return load_trace_file(path, options);
    }
    load_json(path, options)
}

/// Whether the begin of a JSON file is that of a Chrome trace. One that is not seen here is after it was parsed.
fn looks_like_a_trace(text: &[u8]) -> bool {
    let has = |word: &[u8]| memchr::memmem::find(text, word).is_some();
    has(b"\"traceEvents\"") || (text.starts_with(b"[") && has(b"\"ph\"") && has(b"\"ts\""))
}

fn load_json(path: &Path, options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    let name = file_name(path);
    let bytes = fs::metadata(path).map_err(|error| io_failure(path, error))?.len();
    if bytes > RESULT_LIMIT_BYTES {
        let message = format!(
            "`{}` has {} MiB; results of up to {} MiB are read",
            path.display(),
            bytes >> 20,
            RESULT_LIMIT_BYTES >> 20
        );
        return Err(Failure::new(ExitStatus::CouldNotStart, message)
            .hint("leave the texts and token times of single requests out of the file")
            .into());
    }
    let bytes = fs::read(path).map_err(|error| io_failure(path, error))?;
    if let Some(stored) = read_baseline(&name, &bytes) {
        let subject = stored.map_err(|error| Failure::new(ExitStatus::CouldNotStart, error.to_string()))?;
        let label = LabelSource { given: None, tag: Some(subject.label.clone()), fallback: name };
        return Ok(Loaded { subject, label, trace: None, spans: None, run_dir: None });
    }
    // Rows have a reader of their own, which takes old versions and salvages.
    let parsed = match foreign::read(&name, &bytes) {
        Err(_) if first_line_is_rows(&name, &bytes) => return load_rows(path, &bytes, options),
        parsed => parsed.map_err(import_failure)?,
    };
    match parsed.format {
        Format::ChromeTrace => {
            drop((parsed, bytes));
            load_trace_file(path, options)
        }
        Format::PerfprofRows => {
            drop(parsed);
            load_rows(path, &bytes, options)
        }
        Format::PerfprofMetrics => {
            load_metrics(path, &bytes, parsed.documents().first().unwrap_or(&Value::Null), options)
        }
        _ => {
            let subject = foreign::subject_of(&parsed).map_err(import_failure)?;
            let fallback = subject.label.clone();
            let label = LabelSource { given: None, tag: None, fallback };
            Ok(Loaded { subject, label, trace: None, spans: None, run_dir: None })
        }
    }
}

fn first_line_is_rows(name: &str, bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    foreign::read(name, line).is_ok_and(|parsed| parsed.format == Format::PerfprofRows)
}

/// The directory of a file of a run, if it stands in one.
fn run_around(path: &Path) -> Option<&Path> {
    path.parent().filter(|directory| directory.join(RUN_FILE).is_file())
}

fn load_rows(path: &Path, bytes: &[u8], options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    if path.file_name().is_some_and(|name| name == ROWS_FILE)
        && let Some(directory) = run_around(path)
    {
        return load_run(directory, options);
    }
    let (rows, diagnostics) = reader::parse_rows(path, bytes, options.salvage).map_err(RecordError::into_failure)?;
    stage1_loaded(Stage1Files { name: file_name(path), rows, diagnostics, ..Stage1Files::default() }, None)
}

/// A `metrics.json`: with its run where it stands in one, else by itself.
fn load_metrics(path: &Path, bytes: &[u8], metrics: &Value, options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    if path.file_name().is_some_and(|name| name == METRICS_FILE)
        && let Some(directory) = run_around(path)
    {
        return load_run(directory, options);
    }
    match metrics.get("command").and_then(Value::as_str) {
        Some("stage1") => {
            let metrics = reader::parse_versioned(path, None, bytes, METRICS_SCHEMA_VERSION)
                .map_err(RecordError::into_failure)?;
            stage1_loaded(Stage1Files { name: file_name(path), metrics: Some(metrics), ..Stage1Files::default() }, None)
        }
        Some("load") => {
            let metrics =
                reader::parse_versioned(path, None, bytes, LOAD_SCHEMA_VERSION).map_err(RecordError::into_failure)?;
            let files = LoadFiles {
                name: file_name(path),
                run: None,
                status: None,
                context: None,
                metrics,
                rows: Vec::new(),
                diagnostics: Vec::new(),
            };
            load_test_loaded(files, None)
        }
        Some("analyze") => {
            let subject = analyzed::analyzed_subject(&file_name(path), metrics, None).map_err(import_failure)?;
            let label = LabelSource { given: None, tag: None, fallback: subject.label.clone() };
            Ok(Loaded { subject, label, trace: None, spans: None, run_dir: None })
        }
        other => Err(Failure::new(
            ExitStatus::Usage,
            format!(
                "`{}` is the summary of `{}`, which cannot be a side of a comparison",
                path.display(),
                other.unwrap_or("an unknown command")
            ),
        )
        .hint(WHAT_CAN)
        .into()),
    }
}

fn load_trace_file(path: &Path, options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    let (trace, diagnostics) = load_trace(&[path.to_owned()], options)?;
    let files = [file_name(path)];
    let mut subject = trace_subject(&TraceParts {
        timeline: &trace.timeline,
        coverage: &trace.coverage,
        steps: &trace.steps,
        files: &files,
        diagnostics: &diagnostics,
    });
    // What tells whether two traces are of like work, and what is attributed where the other side has no timeline.
    subject.operators = trace_operators(&trace.timeline, &trace.steps);
    let label = LabelSource { given: None, tag: None, fallback: subject.label.clone() };
    Ok(Loaded { subject, label, trace: Some(trace), spans: None, run_dir: None })
}

/// Reads traces as one and finds their steps.
fn load_trace(paths: &[PathBuf], options: &LoadOptions<'_>) -> anyhow::Result<(LoadedTrace, Vec<Diagnostic>)> {
    let mut imports: Vec<Import> = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let read = ReadOptions {
            file: u16::try_from(index).map_err(|_| Failure::new(ExitStatus::Usage, "more than 65535 files"))?,
            cancelled: options.cancelled,
            ..ReadOptions::default()
        };
        imports.push(
            match detect(path).map_err(read_failure)? {
                TraceFormat::Nsys => nsys::read(path, &read),
                _ => chrome::read(path, &read),
            }
            .map_err(read_failure)?,
        );
    }
    let import = if imports.len() == 1 { imports.remove(0) } else { merge::merge(imports) };
    let Import { timeline, diagnostics } = import;
    let coverage = coverage(&timeline);
    let projection = project(&timeline);
    let steps = steps(&timeline, &projection, &PhasePatterns::default())?;
    Ok((LoadedTrace { paths: paths.to_vec(), timeline, projection, steps, coverage }, diagnostics))
}
