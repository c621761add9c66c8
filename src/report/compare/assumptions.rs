//! What the words and numbers of a comparison mean.

use super::model::CompareReport;
use super::words::size;
use crate::compare::result::{CompareMetrics, Comparison};
use crate::report::model::AssumptionSection;

fn section(title: &str, lines: &[(&str, String)]) -> AssumptionSection {
    AssumptionSection {
        title: title.to_owned(),
        lines: lines.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect(),
    }
}

/// Texts in their order of first appearance, each once.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<&str> = Vec::new();
    for text in texts {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

fn listed(texts: &[&str], nothing: &str) -> String {
    if texts.is_empty() { nothing.to_owned() } else { texts.join("; ") }
}

/// The definitions behind every comparison, with what this one used put in.
pub fn assumption_sections(metrics: &CompareMetrics) -> Vec<AssumptionSection> {
    let control = metrics.study.iter().flat_map(|study| &study.control);
    let rows: Vec<&Comparison> = metrics.comparisons.iter().chain(control).collect();
    let methods = distinct(rows.iter().filter_map(|row| row.interval_method.as_deref()));
    let tests = distinct(rows.iter().filter_map(|row| row.test.as_deref()));
    let statistics = distinct(rows.iter().map(|row| row.statistic.as_str()));
    let mut margins: Vec<f64> = rows.iter().map(|row| row.margin).filter(|margin| margin.is_finite()).collect();
    margins.sort_by(f64::total_cmp);
    margins.dedup();
    let margins: Vec<String> = margins.iter().take(8).map(|margin| size(Some(*margin))).collect();
    let mut sections = vec![
        section(
            "What is compared",
            &[
                ("baseline and candidate", "the first subject is the baseline; every other subject is a candidate".to_owned()),
                (
                    "statistic",
                    format!("what the values of a side are summed up by; here: {}", listed(&statistics, "nothing was compared")),
                ),
                ("ratio", "statistic of the candidate / statistic of the baseline; a change of −5 % is a ratio of 0.95".to_owned()),
                (
                    "shift",
                    "Hodges–Lehmann estimate: the median of all differences candidate − baseline, in the unit of the measure".to_owned(),
                ),
                (
                    "unit of evidence",
                    "values of one process share its memory layout, clocks and temperature, so the independent units are the processes or blocks \
                     and not the single values"
                        .to_owned(),
                ),
                (
                    "direction",
                    "which way is better follows from the name of the measure; where the name does not say it, no side is better".to_owned(),
                ),
            ],
        ),
        section(
            "How sure",
            &[
                (
                    "95 % interval",
                    format!(
                        "made so that, over many studies, 95 of 100 such intervals hold the true ratio; methods used here: {}",
                        listed(&methods, "none, no measure has an interval")
                    ),
                ),
                (
                    "p value",
                    format!(
                        "how often sides that do not differ would look at least this different; tests used here: {}",
                        listed(&tests, "none was made")
                    ),
                ),
                (
                    "p (Holm)",
                    "the p value adjusted for the number of measures judged together (Holm 1979), so that many measures do not make one of them \
                     look different by chance"
                        .to_owned(),
                ),
                (
                    "margin δ",
                    format!(
                        "the relative change that does not matter: ratios from 1/(1+δ) to 1+δ count as the same; an absolute difference too small to \
                         matter can widen it; here: {}",
                        if margins.is_empty() { "none was used".to_owned() } else { margins.join(", ") }
                    ),
                ),
                (
                    "noise floor",
                    "how far the interval of an A/A control (the baseline against itself, run like a candidate) reaches from 1; not \
                     known where no control was run"
                        .to_owned(),
                ),
                (
                    "finds from (minimal detectable effect)",
                    "the smallest relative change that this many values would find in four of five studies".to_owned(),
                ),
                ("units needed", "how many independent units of each side would decide, where that can be estimated".to_owned()),
            ],
        ),
        section(
            "Verdicts",
            &[
                (
                    "faster, slower, lower, higher",
                    "all of these: p (Holm) is below 0.05, the 95 % interval does not hold 1, the estimate lies beyond the margin, and beyond the \
                     noise floor where a control was run; where a side is one process and no control was run, the whole interval must lie \
                     beyond what two processes of the very same thing may differ by (5 % unless set otherwise). Faster and slower are said of \
                     speed, lower and higher of everything else"
                        .to_owned(),
                ),
                (
                    "the same",
                    "the 90 % interval (two one-sided tests at 5 % each) lies wholly within the margin, a side is not one process without a \
                     control, and the control does not show more noise than the margin and the difference assumed between processes. A \
                     difference that was merely not found is not called the same"
                        .to_owned(),
                ),
                (
                    "measures without a ratio",
                    "zeros and negative values have none; they are judged by the shift and its interval in the same way".to_owned(),
                ),
                (
                    "amount of work varied on purpose",
                    "then only measures of one token, and shares and rates, get a verdict of speed".to_owned(),
                ),
                ("cannot tell", "neither of the above: the values do not decide".to_owned()),
                (
                    "not the same work",
                    "the sides differ in what they had to do, so that no measure is judged and no winner is named".to_owned(),
                ),
                (
                    "gate",
                    "a rule fails only where the interval at its confidence says that it is broken; what is undecided does not fail; a rule about a measure that is missing cannot be judged".to_owned(),
                ),
            ],
        ),
    ];
    if !metrics.attribution.is_empty() {
        sections.push(section(
            "Where a difference comes from",
            &[
                (
                    "parts",
                    "each phase is split into operators or kernels matched between the sides; its change is the sum of the changes of its parts"
                        .to_owned(),
                ),
                (
                    "calls and time per call",
                    "change of a part = (calls of the candidate − calls of the baseline) × mean time of a call of the baseline + calls of the \
                     candidate × (mean time of a call of the candidate − of the baseline)"
                        .to_owned(),
                ),
                (
                    "95 % interval of a part",
                    "from how the steps vary within each side (Welch); it knows nothing of how one run differs from the next".to_owned(),
                ),
                ("new and gone", "only one side has the part; its whole time is the change".to_owned()),
                ("idle", "time in which the device had no work, by cause".to_owned()),
                (
                    "overlap",
                    "work that ran at the same time as other work: sums of kernels count it more than once, so it is taken off".to_owned(),
                ),
                ("unattributed", "time that no operator explains".to_owned()),
                ("share", "change of the part / sum of the absolute changes of all parts of its phase".to_owned()),
            ],
        ));
    }
    if !metrics.quality.is_empty() {
        sections.push(section(
            "Quality",
            &[
                ("perplexity", "exp of the mean negative log likelihood of the tokens of the text".to_owned()),
                (
                    "KL",
                    "Kullback–Leibler divergence of the candidate's distribution of the next token from that of the reference, in nats".to_owned(),
                ),
                ("same first choice", "share of positions where both give the same token the highest probability".to_owned()),
            ],
        ));
    }
    if !metrics.cost.is_empty() {
        sections.push(section(
            "Cost",
            &[(
                "USD per million output tokens",
                "price of the machine per hour / output tokens per hour × one million; the output rate is over the whole time, prompt processing \
                 included"
                    .to_owned(),
            )],
        ));
    }
    sections
}

/// The definitions with those of the caller behind them.
pub(super) fn all(report: &CompareReport<'_>) -> Vec<AssumptionSection> {
    assumption_sections(report.metrics).into_iter().chain(report.assumptions.iter().cloned()).collect()
}
