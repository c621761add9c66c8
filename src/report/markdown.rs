//! The Markdown reports. Templates escape by themselves; only tables, which escape their own cells, are passed as they are.

use tera::{Context, Tera};

use super::model::{ReportError, Stage1Report};
use super::{advice, escape, gpu, operators, tables, view};

/// Renders the embedded template `name` with Markdown escaping.
fn render(name: &'static str, text: &'static str, context: &Context) -> Result<String, ReportError> {
    let failed = |error: tera::Error| ReportError::Template { template: name, detail: describe(&error) };
    let mut tera = Tera::new();
    tera.autoescape_on(vec![".md"]);
    tera.set_escape_fn(escape::markdown_writer);
    tera.add_raw_template(name, text).map_err(failed)?;
    let rendered = tera.render(name, context).map_err(failed)?;
    Ok(tidy(&rendered))
}

/// An error of the template engine with its causes.
pub(super) fn describe(error: &tera::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// No trailing blanks, no two empty lines in a row, one newline at the end: templates cannot say that well.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = true;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() && empty {
            continue;
        }
        empty = line.is_empty();
        out.push_str(line);
        out.push('\n');
    }
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}

fn context(report: &Stage1Report<'_>) -> Context {
    let mut context = Context::new();
    context.insert("command", &report.metrics.command);
    context.insert("run_id", &report.metrics.run_id);
    context.insert("status", &report.metrics.status);
    context.insert("verdict", view::verdict(report));
    context.insert("reasons", &report.metrics.validity.reasons);
    context.insert("generated_at", report.generated_at);
    context
}

/// Operator tables of one phase as Markdown.
#[derive(serde::Serialize)]
struct PhaseOperators {
    phase: String,
    by_class: String,
    by_module: String,
    by_layer: String,
    layers: usize,
    modules: usize,
    shown: usize,
    marked: bool,
}

fn phase_operators(report: &Stage1Report<'_>, limit: usize) -> Vec<PhaseOperators> {
    view::operator_phases(report)
        .into_iter()
        .map(|phase| {
            let by_module = tables::by_module(report, &phase, limit);
            let by_layer = tables::by_layer(report, &phase);
            PhaseOperators {
                by_class: tables::by_class(report, &phase).markdown(),
                shown: by_module.rows.len(),
                modules: operators::modules(report.metrics, &phase).len(),
                marked: view::marked(&by_module),
                by_module: by_module.markdown(),
                layers: by_layer.rows.len(),
                by_layer: by_layer.markdown(),
                phase,
            }
        })
        .collect()
}

/// `report.md`.
pub fn report_md(report: &Stage1Report<'_>) -> Result<String, ReportError> {
    let mut context = context(report);
    context.insert("one_line", &advice::one_line(report));
    context.insert("setup", &tables::setup(report).markdown());
    context.insert("cases", &tables::cases(report).markdown());
    context.insert("headline", &tables::headline(report).markdown());
    context.insert("phases", &tables::phases(report).markdown());
    context.insert("findings", &advice::findings(report));
    context.insert("operators", &phase_operators(report, 10));
    context.insert("reconciliation", &tables::reconciliation(report).markdown());
    context.insert("measurement", &tables::measurement(report).markdown());
    context.insert("quality_measured", &report.metrics.quality.is_some());
    context.insert("prediction_quality", &tables::prediction_quality(report).markdown());
    context.insert("repeats", &tables::repeats(report, view::REPEATS_SHOWN).markdown());
    context.insert("repeats_left_out", &view::repeats_left_out(report));
    context.insert("memory", &tables::memory(report).markdown());
    context.insert("gpu_watched", &report.metrics.gpu.is_some());
    context.insert("gpu_facts", &gpu::facts(report).markdown());
    context.insert("gpu_metrics", &gpu::metrics(report).markdown());
    context.insert("gpu_repeats", &gpu::repeats(report, view::REPEATS_SHOWN).markdown());
    context.insert("diagnostics", &tables::diagnostics(report).markdown());
    context.insert("diagnostics_count", &report.metrics.diagnostics.len());
    context.insert("files", &view::files(report));
    render("report.md", include_str!("templates/report.md"), &context)
}

/// `operators.md`.
pub fn operators_md(report: &Stage1Report<'_>) -> Result<String, ReportError> {
    let mut context = context(report);
    context.insert("operators", &phase_operators(report, usize::MAX));
    render("operators.md", include_str!("templates/operators.md"), &context)
}

/// `stakeholder_summary.md`.
pub fn stakeholder_summary_md(report: &Stage1Report<'_>) -> Result<String, ReportError> {
    let mut context = context(report);
    context.insert("findings", &advice::findings(report));
    render("stakeholder_summary.md", include_str!("templates/stakeholder_summary.md"), &context)
}

/// `assumptions.md`.
pub fn assumptions_md(report: &Stage1Report<'_>) -> Result<String, ReportError> {
    let mut context = context(report);
    let sections: Vec<_> = report.assumptions.iter().map(Section::from).collect();
    context.insert("assumptions", &sections);
    render("assumptions.md", include_str!("templates/assumptions.md"), &context)
}

/// `assumptions.md` of any command.
pub(super) fn assumptions(
    command: &str,
    run_id: &str,
    sections: &[super::model::AssumptionSection],
) -> Result<String, ReportError> {
    let mut context = Context::new();
    context.insert("command", command);
    context.insert("run_id", run_id);
    context.insert("assumptions", &sections.iter().map(Section::from).collect::<Vec<_>>());
    render("assumptions.md", include_str!("templates/assumptions.md"), &context)
}

/// A block of assumptions as templates see it.
#[derive(serde::Serialize)]
pub(super) struct Section<'a> {
    title: &'a str,
    lines: &'a [(String, String)],
}

impl<'a> From<&'a super::model::AssumptionSection> for Section<'a> {
    fn from(section: &'a super::model::AssumptionSection) -> Self {
        Self { title: &section.title, lines: &section.lines }
    }
}
