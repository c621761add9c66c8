//! Derives every summary of a stage1 run from its rows, spans and context on disk, and writes them.

use std::path::Path;

use serde_json::Value;

use super::{Context, print_run};
use crate::diagnostics::{Diagnostic, Severity};
use crate::record::gpu::{GpuTelemetry, read_gpu};
use crate::record::metrics::Stage1Metrics;
use crate::record::quality::read_quality;
use crate::record::reader::{self, METRICS_FILE};
use crate::record::rows::{RepeatRow, RowStatus};
use crate::record::run_dir::rfc3339;
use crate::record::{RecordError, atomic};
use crate::report::model::{AssumptionSection, Stage1Report, StepSpan};
use crate::runner::assumptions;
use crate::runner::summary::{Ending, summarize};

/// A summary with what it was made from.
#[derive(Debug)]
pub struct Rendered {
    /// `metrics.json`.
    pub metrics: Stage1Metrics,
    /// The rows.
    pub rows: Vec<RepeatRow>,
    gpu: Option<GpuTelemetry>,
    assumptions: Vec<AssumptionSection>,
    steps: Vec<StepSpan>,
    generated_at: String,
    environment: Value,
}

impl Rendered {
    fn report(&self) -> Stage1Report<'_> {
        Stage1Report {
            metrics: &self.metrics,
            rows: &self.rows,
            gpu: self.gpu.as_ref(),
            assumptions: &self.assumptions,
            steps: &self.steps,
            generated_at: &self.generated_at,
            environment: &self.environment,
        }
    }
}

/// The phase timeline of one repeat: the first without spans that ended well, else any that did.
fn steps(rows: &[RepeatRow]) -> Vec<StepSpan> {
    let ended_well = || rows.iter().filter(|row| row.status == RowStatus::Ok);
    let Some(row) = ended_well().find(|row| !row.spans).or_else(|| ended_well().next()) else { return Vec::new() };
    let ns = |ms: f64| (ms * 1e6) as u64;
    let mut end_ns = ns(row.prefill_ms.unwrap_or(0.0));
    let mut all = vec![StepSpan { phase: "prefill".to_owned(), step: 0, start_ns: 0, end_ns }];
    for (index, gap) in row.itl_ms.iter().enumerate() {
        let start_ns = end_ns;
        end_ns += ns(*gap);
        all.push(StepSpan { phase: "decode".to_owned(), step: index as u32 + 1, start_ns, end_ns });
    }
    all
}

/// Reads the run at `directory` and writes all derived files into it. The manifest is the caller's to write, after everything else.
pub fn render_run(directory: &Path, ending: Ending, salvage: bool) -> anyhow::Result<Rendered> {
    let record = |error: RecordError| error.into_failure();
    let context = reader::read_context(directory).map_err(record)?;
    let (rows, mut found) = reader::read_rows(directory, salvage).map_err(record)?;
    let (timeline, span_findings) = reader::read_spans(directory).map_err(record)?;
    found.extend(span_findings);
    let gpu = read_gpu(directory).map_err(record)?;
    let mut metrics = summarize(&context, &rows, &timeline, ending, &found, gpu.as_ref());
    metrics.quality = read_quality(directory).map_err(record)?.map(|record| record.quality);
    if let Some(error) = metrics.quality.as_ref().and_then(|quality| quality.error.clone()) {
        metrics.diagnostics.push(Diagnostic::new("quality_incomplete", Severity::Warn, error));
    }
    let sections = assumptions::sections(&context, &metrics);
    let environment = std::fs::read(directory.join("env.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or(Value::Null);
    let rendered = Rendered {
        steps: steps(&rows),
        metrics,
        rows,
        gpu,
        assumptions: sections.into_iter().map(|(title, lines)| AssumptionSection { title, lines }).collect(),
        generated_at: rfc3339(jiff::Timestamp::now()),
        environment,
    };
    let report = rendered.report();
    let files = [
        ("report.md", crate::report::report_md(&report)?),
        ("operators.md", crate::report::operators_md(&report)?),
        ("stakeholder_summary.md", crate::report::stakeholder_summary_md(&report)?),
        ("assumptions.md", crate::report::assumptions_md(&report)?),
        ("report.html", crate::report::report_html(&report)?),
        ("operators.csv", crate::report::operators_csv(&report)?),
        ("per_run.csv", crate::report::rows_csv(&report)?),
    ];
    atomic::write_json_atomic(&directory.join(METRICS_FILE), &rendered.metrics).map_err(record)?;
    for (name, text) in files {
        atomic::write_atomic(&directory.join(name), text.as_bytes()).map_err(record)?;
    }
    Ok(rendered)
}

/// Prints the summary: JSON for machines, a short table for people.
pub fn print_summary(rendered: &Rendered, directory: &Path, context: &Context) -> anyhow::Result<()> {
    print_run(&rendered.metrics, directory, "report.html", context, |color, width| {
        crate::report::console_summary(&rendered.report(), color, width)
    })
}
