//! What every written report says in the same words: the verdict, the files, the names of the phases.

use super::model::Stage1Report;
use super::operators;
use super::table::Table;

/// Rows of `per_run.jsonl` a report shows one by one.
pub(super) const REPEATS_SHOWN: usize = 200;

/// `VALID` or `INVALID`.
pub(super) fn verdict(report: &Stage1Report<'_>) -> &'static str {
    if report.metrics.validity.is_valid() { "VALID" } else { "INVALID" }
}

/// Rows that are not shown.
pub(super) fn repeats_left_out(report: &Stage1Report<'_>) -> usize {
    report.rows.len().saturating_sub(REPEATS_SHOWN)
}

/// The files of every stage1 run and what each is for.
const FILES: [(&str, &str); 12] = [
    ("report.html", "everything here with charts, in one file that can be passed on"),
    ("stakeholder_summary.md", "what limits the run and what to try, in plain words"),
    ("operators.md", "every operator by class, module and layer; `operators.csv` for spreadsheets"),
    ("assumptions.md", "definitions, formulas with their values, peaks and their sources"),
    ("metrics.json", "the summary for programs; its schema is published in docs/schema"),
    ("per_run.jsonl", "one row for each repeat, failures included; `per_run.csv` for spreadsheets"),
    ("config.yaml", "the resolved settings and where each came from"),
    ("inputs.yaml", "prompts and data with their hashes and seeds"),
    ("env.json", "machine, software and versions"),
    ("run.json", "status, times, command line"),
    ("report.md", "this report without charts"),
    ("MANIFEST.json", "sha256 of every file"),
];

/// The files of this run.
pub(super) fn files(report: &Stage1Report<'_>) -> Vec<(&'static str, String)> {
    let looks = report.gpu.map(|_| ("gpu_telemetry.json", "every look at the GPU"));
    FILES.into_iter().chain(looks).map(|(name, text)| (name, text.replace('`', ""))).collect()
}

/// Phases with operators.
pub(super) fn operator_phases(report: &Stage1Report<'_>) -> Vec<String> {
    operators::phase_names(report.metrics)
        .into_iter()
        .filter(|phase| report.metrics.operators.iter().any(|row| row.phase == *phase))
        .collect()
}

/// Whether any percentile of the table carries the mark of too few values.
pub(super) fn marked(table: &Table) -> bool {
    table.rows.iter().flatten().any(|cell| cell.weak)
}
