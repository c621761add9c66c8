//! The definitions and assumptions behind a sweep.

use super::model::SweepReport;
use crate::report::model::AssumptionSection;

fn section(title: &str, lines: &[(&str, String)]) -> AssumptionSection {
    let lines = lines.iter().map(|(name, text)| ((*name).to_owned(), text.clone()));
    AssumptionSection { title: title.to_owned(), lines: lines.collect() }
}

/// All sections.
pub(super) fn sections(report: &SweepReport<'_>) -> Vec<AssumptionSection> {
    let metrics = report.metrics;
    let objective = metrics.best.as_ref().map_or_else(
        || "none was given, so no point is called best".to_owned(),
        |best| format!("{}, of the measure's better side", best.objective),
    );
    let value = if metrics.runs == "load" {
        "of latencies the median over the requests of the best stage of its run, unless another statistic is named; rates and the share of errors \
         are one number of that stage. The best stage is the one the report of the run calls so, else the one with the most output tokens per second"
    } else {
        "the median over the repeats of the case unless another statistic is named, with n and a 95 % interval where n allows"
    };
    let constraints = metrics.best.as_ref().map(|best| best.constraints.join(" and ")).filter(|text| !text.is_empty());
    vec![
        section(
            "How points are run",
            &[
                ("point", format!("one set of settings, run by `perfprof {}` in a process of its own, one after the other", metrics.runs)),
                ("result", "one case of one point; a point with several cases has several results".to_owned()),
                ("value", value.to_owned()),
                (
                    "without a result",
                    "a point that fails is recorded with its reason and tried again when the sweep is gone on with; one that does not fit into \
                     the memory (refused beforehand, or killed by the system) is recorded as such and not tried again unless asked for"
                        .to_owned(),
                ),
                (
                    "drift",
                    "points are measured once and one after the other: what changes in the machine between them looks like an effect of the \
                     settings. `order=random` spreads it over the axes; `perfprof ab` interleaves two candidates and tests them"
                        .to_owned(),
                ),
            ],
        ),
        section(
            "What is looked for",
            &[
                ("objective", objective),
                ("conditions", constraints.unwrap_or_else(|| "none".to_owned())),
                (
                    "best",
                    "the result with the best value of the objective among those that meet every condition; a result that lacks a measure of a \
                     condition does not meet it, and one whose run calls itself INVALID is left out unless `run.allow_invalid=true`"
                        .to_owned(),
                ),
                (
                    "not told apart",
                    "results whose 95 % interval of the objective overlaps that of the best. The best of many is chosen because it looked best, so \
                     its value is a little too good: measure it again before relying on it"
                        .to_owned(),
                ),
                (
                    "Pareto front",
                    "results that no other result equals or beats in all measures while beating it in one; medians are compared, not intervals"
                        .to_owned(),
                ),
            ],
        ),
    ]
}
