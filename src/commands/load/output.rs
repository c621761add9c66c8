//! Writes the reports of a load test and prints its answer.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::commands::{Context, print_answer, print_run};
use crate::config::schema::load::LayoutChoice;
use crate::diagnostics::{ExitStatus, Failure};
use crate::record::gpu::{GpuTelemetry, read_gpus};
use crate::record::load::context::LoadContext;
use crate::record::load::metrics::LoadMetrics;
use crate::record::load::reader::{read_context, read_rows, read_server_metrics};
use crate::record::load::row::RequestRow;
use crate::record::load::server::ServerSeries;
use crate::record::load::server_metrics::ServerMetrics;
use crate::record::reader::METRICS_FILE;
use crate::record::run_dir::rfc3339;
use crate::record::{RecordError, atomic, reader};
use crate::report::load::compat::{Tool, compat};
use crate::report::load::{
    LoadReport, OtherRun, files, layout_files, load_console, summary_csv_header, summary_csv_line,
};
use crate::runner::load::summary::{Extras, summarize};
use crate::runner::summary::Ending;

/// A load test with everything its reports are made of.
#[derive(Debug)]
pub struct RenderedLoad {
    /// `metrics.json`.
    pub metrics: LoadMetrics,
    context: LoadContext,
    rows: Vec<RequestRow>,
    gpus: Vec<GpuTelemetry>,
    server: Option<ServerSeries>,
    others: Vec<(String, LoadMetrics)>,
    command: String,
    generated_at: String,
}

impl RenderedLoad {
    fn report(&self) -> LoadReport<'_> {
        LoadReport {
            metrics: &self.metrics,
            context: &self.context,
            rows: &self.rows,
            gpus: &self.gpus,
            server: self.server.as_ref(),
            command: &self.command,
            generated_at: &self.generated_at,
            others: self.others.iter().map(|(label, metrics)| OtherRun { label, metrics }).collect(),
        }
    }

    /// How a test that was not interrupted exits.
    pub fn exit_status(&self) -> ExitStatus {
        if self.metrics.validity.is_valid() { ExitStatus::Success } else { ExitStatus::Invalid }
    }
}

/// The tool called `name`.
pub(super) fn tool(name: &str) -> anyhow::Result<Tool> {
    Ok(Tool::named(name).ok_or_else(|| {
        Failure::new(ExitStatus::Usage, format!("`{name}` is no tool whose definitions are known"))
            .hint("one of `vllm`, `sglang`, `aiperf`, `guidellm`, `genai-perf`")
    })?)
}

/// The server's gauges as columns.
fn series(metrics: &ServerMetrics) -> ServerSeries {
    let mut series = ServerSeries { dialect: metrics.dialect.clone(), ..ServerSeries::default() };
    series.t_s = metrics.samples.iter().map(|sample| sample.t_ns as f64 / 1e9).collect();
    let names: std::collections::BTreeSet<&String> =
        metrics.samples.iter().flat_map(|sample| sample.gauges.keys()).collect();
    for name in names {
        let column = metrics.samples.iter().map(|sample| sample.gauges.get(name).copied()).collect();
        series.gauges.insert(name.clone(), column);
    }
    series
}

/// Reads the test in `directory` and writes `metrics.json` and all reports into it. The manifest is the caller's to write, after everything else.
///
/// # Errors
/// If the test cannot be read, or a file not be written.
pub fn render_load(
    directory: &Path,
    ending: Ending,
    salvage: bool,
    others: &[PathBuf],
) -> anyhow::Result<RenderedLoad> {
    let record = |error: RecordError| error.into_failure();
    let context = read_context(directory).map_err(record)?;
    let (rows, salvaged) = read_rows(directory, salvage).map_err(record)?;
    let run = reader::read_run(directory).map_err(record)?;
    let gpus = read_gpus(directory).map_err(record)?;
    let server = read_server_metrics(directory).map_err(record)?;
    let status = match ending {
        Ending::Complete => "complete",
        Ending::Interrupted => "interrupted",
        Ending::Failed => "failed",
    };
    let extras = Extras { status, gpus: &gpus, server: server.as_ref(), salvaged };
    let metrics = summarize(&context, &rows, &extras);
    let mut beside = Vec::new();
    for other in others {
        let other_run = reader::read_run(other).map_err(record)?;
        let (rows, salvaged) = read_rows(other, salvage).map_err(record)?;
        let context = read_context(other).map_err(record)?;
        let label = other_run.tag.clone().unwrap_or_else(|| format!("{} {}", context.backend, other_run.run_id));
        beside.push((label, summarize(&context, &rows, &Extras { status: "complete", salvaged, ..Extras::default() })));
    }
    let rendered = RenderedLoad {
        metrics,
        context,
        rows,
        gpus,
        server: server.as_ref().map(series),
        others: beside,
        command: run.argv.join(" "),
        generated_at: rfc3339(jiff::Timestamp::now()),
    };
    let files = files(&rendered.report())?;
    atomic::write_json_atomic(&directory.join(METRICS_FILE), &rendered.metrics).map_err(record)?;
    for (name, text) in files {
        atomic::write_atomic(&directory.join(name), text.as_bytes()).map_err(record)?;
    }
    Ok(rendered)
}

/// Writes the files of another tool's layout into `directory`.
///
/// # Errors
/// If a file cannot be written.
pub(super) fn write_layout(rendered: &RenderedLoad, layout: LayoutChoice, directory: &Path) -> anyhow::Result<()> {
    for (name, text) in layout_files(&rendered.report(), layout)? {
        atomic::write_atomic(&directory.join(name), text.as_bytes()).map_err(RecordError::into_failure)?;
    }
    Ok(())
}

/// Refuses a file for the summary that could not be written when the test is over.
///
/// # Errors
/// If its directory is not there, or it cannot be opened.
pub(super) fn check_summary(path: &Path) -> anyhow::Result<()> {
    let there = path.exists();
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|source| {
        Failure::new(ExitStatus::Usage, format!("`output.summary_csv`: cannot write `{}`", path.display()))
            .because(source)
    })?;
    if !there {
        // It begins when there is something to write.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Appends a line for each stage to the CSV file `path`. A file with another header is left as it is, and a new one is begun beside it.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn append_summary(rendered: &RenderedLoad, path: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let header = summary_csv_header();
    let failed = |path: &Path, source: std::io::Error| {
        Failure::new(ExitStatus::ArtifactIo, format!("cannot write `{}`", path.display())).because(source)
    };
    let asked = path;
    let stem = asked.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut path = asked.to_owned();
    for number in 2.. {
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            Err(error) => return Err(failed(&path, error).into()),
            Ok(text) if text.is_empty() || text.lines().next() == header.trim_end().lines().next() => break,
            Ok(_) => {
                let next = asked.with_file_name(format!("{stem}-{number}.csv"));
                tracing::warn!("`{}` has another header; `{}` is written instead", path.display(), next.display());
                path = next;
            }
        }
    }
    let report = rendered.report();
    let mut text = String::new();
    if std::fs::metadata(&path).map_or(0, |data| data.len()) == 0 {
        text.push_str(header.trim_end());
        text.push('\n');
    }
    for stage in 0..rendered.metrics.stages.len() {
        if let Some(line) = summary_csv_line(&report, stage)? {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(|error| failed(&path, error))?;
    file.write_all(text.as_bytes()).map_err(|error| failed(&path, error))?;
    Ok(())
}

/// Prints the answer: JSON for machines, a short text for people.
///
/// # Errors
/// If stdout cannot be written for another reason than that its reader has gone.
pub fn print_summary(rendered: &RenderedLoad, directory: &Path, context: &Context) -> anyhow::Result<()> {
    print_run(&rendered.metrics, directory, "report.html", context, |color, width| {
        load_console(&rendered.report(), color, width)
    })
}

/// Prints the run in another tool's definitions.
pub(super) fn print_compat(rendered: &RenderedLoad, tool: Tool, context: &Context) -> anyhow::Result<()> {
    if context.json {
        return Ok(());
    }
    let mut text = String::new();
    for stage in 0..rendered.context.stages.len() {
        text.push('\n');
        text.push_str(&compat(tool, &rendered.rows, &rendered.context, stage as u32).text());
    }
    print_answer(&text)
}
