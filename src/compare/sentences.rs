//! The answer in words. Each sentence is true by itself: it names both sides, the measure and its numbers.

use super::gate::Standing;
use super::measure::Direction;
use super::result::{Attribution, Comparison, CostRow, Difference, DifferenceKind, GateResult, RuleOutcome, Verdict};
use super::{equal_work, verdict, words};

/// What a study is about, the first measure of each line that there is.
const SPOKEN: [&[&str]; 13] = [
    &["tpot_ms", "decode_step_ms", "itl_ms", "decode_tok_per_s", "inter_chunk_ms"],
    &["ttft_ms", "prefill_ms", "prefill_step_ms", "prefill_tok_per_s"],
    &["total_ms", "e2e_ms", "total_tok_per_s"],
    &["output_tok_per_s"],
    &["request_per_s"],
    &["goodput", "goodput_per_s"],
    &["step_ms", "mixed_step_ms", "training_step_ms"],
    &["peak_vram_bytes"],
    &["peak_rss_bytes"],
    &["energy_per_token_j", "energy_j"],
    &["perplexity"],
    &["kl_mean_nats"],
    &["items_per_s", "wall_s"],
];

/// Sentences of one kind at most.
const MOST: usize = 6;

/// What the sentences are made of.
pub(super) struct Judged<'a> {
    pub baseline: &'a str,
    pub candidates: &'a [&'a str],
    pub differences: &'a [Difference],
    pub comparisons: &'a [Comparison],
    pub controls: &'a [Comparison],
    pub attribution: &'a [Attribution],
    pub gate: Option<&'a GateResult>,
    pub cost: &'a [CostRow],
    pub invalid: &'a [String],
}

/// All sentences, the most important first.
pub(super) fn sentences(judged: &Judged<'_>) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(reason) = judged.invalid.first() {
        let more = match judged.invalid.len() - 1 {
            0 => String::new(),
            more => format!(" (and {})", words::count(more as u64, "more reason", "more reasons")),
        };
        said.push(format!("The comparison is INVALID: {reason}{more}."));
    }
    said.extend(judged.gate.map(gate));
    for candidate in judged.candidates {
        said.extend(unequal(judged, candidate));
        said.extend(verdicts(judged, candidate));
        let of = |row: &&Attribution| row.candidate_label == *candidate && row.baseline_label == judged.baseline;
        said.extend(judged.attribution.iter().filter(of).flat_map(|row| row.sentences.iter().take(4).cloned()));
        said.extend(flags(judged, candidate));
    }
    said.extend(control(judged.controls));
    said.extend(cost(judged.cost));
    said
}

fn gate(gate: &GateResult) -> String {
    let of = |outcome| gate.rules.iter().filter(|rule| rule.outcome == outcome).collect::<Vec<_>>();
    let (failed, missing, undecided) = (of(RuleOutcome::Failed), of(RuleOutcome::Missing), of(RuleOutcome::Undecided));
    let all = words::count(gate.rules.len() as u64, "check", "checks");
    match gate.standing() {
        Standing::Failed => {
            format!("The gate failed: {} of {all}; `{}`: {}.", failed.len(), failed[0].rule, failed[0].reason)
        }
        Standing::CouldNotJudge => {
            format!(
                "The gate could not be judged in {} of {all}; `{}`: {}.",
                missing.len(),
                missing[0].rule,
                missing[0].reason
            )
        }
        Standing::Passed if undecided.is_empty() => format!("The gate passed: {all}, none broken."),
        Standing::Passed => format!(
            "The gate did not fail, but {} of {all} could not be decided; `{}`: {}.",
            undecided.len(),
            undecided[0].rule,
            undecided[0].reason
        ),
    }
}

fn of_kind<'a>(
    judged: &'a Judged<'_>,
    candidate: &'a str,
    kind: DifferenceKind,
) -> impl Iterator<Item = &'a Difference> {
    judged.differences.iter().filter(move |row| row.kind == kind && row.candidate_label == candidate)
}

/// `prompt_tokens 128 → 256`.
fn change(row: &Difference) -> String {
    let (case, fact) = equal_work::split_case(&row.fact);
    let of_case = case.map(|case| format!(" of case `{case}`")).unwrap_or_default();
    match (&row.baseline, &row.candidate) {
        (Some(_), Some(_)) if fact.ends_with("sha256") => format!("{fact}{of_case} differs"),
        (Some(left), Some(right)) => format!("{fact}{of_case} {left} → {right}"),
        (None, Some(right)) => format!("{fact}{of_case} not known → {right}"),
        (Some(left), None) => format!("{fact}{of_case} {left} → not known"),
        (None, None) => format!("{fact}{of_case} not known"),
    }
}

fn unequal(judged: &Judged<'_>, candidate: &str) -> Option<String> {
    let rows: Vec<&Difference> = of_kind(judged, candidate, DifferenceKind::NotTheSameWork).collect();
    let changes: Vec<String> = rows.iter().take(MOST).map(|row| change(row)).collect();
    let of_cases = rows.iter().all(|row| equal_work::split_case(&row.fact).0.is_some());
    let cases: std::collections::BTreeSet<_> = rows.iter().map(|row| equal_work::split_case(&row.fact).0).collect();
    let what = match (of_cases, cases.len()) {
        (true, 1) => "no winner is named for this case",
        (true, _) => "no winner is named for these cases",
        (false, _) => "no winner is named",
    };
    (!rows.is_empty()).then(|| {
        format!(
            "`{candidate}` did not do the same work as `{}`, so {what}: {}.",
            judged.baseline,
            words::list(&changes)
        )
    })
}

fn flags(judged: &Judged<'_>, candidate: &str) -> Option<String> {
    let changes: Vec<String> = of_kind(judged, candidate, DifferenceKind::Flag).map(change).collect();
    let more = changes.len().saturating_sub(MOST);
    let shown = words::list(&changes[..changes.len().min(MOST)]);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    (!changes.is_empty()).then(|| format!("`{}` and `{candidate}` also differ in {shown}{more}.", judged.baseline))
}

/// The comparisons worth a sentence: of each case the first of each line of [`SPOKEN`], or the first few of all.
fn spoken<'a>(judged: &'a Judged<'_>, candidate: &str) -> Vec<&'a Comparison> {
    let rows: Vec<&Comparison> = judged.comparisons.iter().filter(|row| row.candidate_label == candidate).collect();
    let mut cases: Vec<&Option<String>> = Vec::new();
    for row in &rows {
        if !cases.contains(&&row.case) {
            cases.push(&row.case);
        }
    }
    let mut spoken = Vec::new();
    for case in cases {
        for line in SPOKEN {
            let first = line.iter().find(|name| rows.iter().any(|row| row.case == *case && row.measure == **name));
            spoken.extend(rows.iter().filter(|row| row.case == *case && Some(&row.measure.as_str()) == first));
        }
    }
    if spoken.is_empty() { rows.into_iter().take(MOST).collect() } else { spoken }
}

fn verdicts(judged: &Judged<'_>, candidate: &str) -> Vec<String> {
    let rows = spoken(judged, candidate);
    let mut said = Vec::new();
    let of = |wanted: &[Verdict]| rows.iter().copied().filter(|row| wanted.contains(&row.verdict)).collect::<Vec<_>>();
    let decided = of(&[Verdict::Faster, Verdict::Slower]);
    said.extend(decided.into_iter().map(decision));
    said.extend(of(&[Verdict::Lower, Verdict::Higher]).into_iter().map(decision));
    let same: Vec<String> = of(&[Verdict::Same])
        .into_iter()
        .map(|row| format!("{} (within {})", subject_of(row), words::percent(row.margin)))
        .collect();
    if !same.is_empty() {
        said.push(format!("`{candidate}` and `{}` are the same by {}.", judged.baseline, words::list(&same)));
    }
    let open: Vec<&Comparison> = of(&[Verdict::CannotTell])
        .into_iter()
        .filter(|row| {
            // Said once for all measures.
            let work = equal_work::of_case(judged.differences, DifferenceKind::NotTheSameWork, row.case.as_deref());
            work.filter(|difference| difference.candidate_label == candidate).count() == 0
        })
        .collect();
    let more = open.len().saturating_sub(MOST);
    said.extend(open.iter().take(MOST).map(|row| {
        format!(
            "No difference between `{candidate}` and `{}` can be stated by {}: {}.",
            judged.baseline,
            subject_of(row),
            row.reason
        )
    }));
    if more > 0 {
        let measures = words::count(more as u64, "more measure", "more measures");
        said.push(format!(
            "Of {measures} no difference between `{candidate}` and `{}` can be stated.",
            judged.baseline
        ));
    }
    said
}

/// `the time per output token (`tpot_ms`) of case `p128``, or the name alone.
fn subject_of(row: &Comparison) -> String {
    let case = row.case.as_ref().map(|case| format!(" of case `{case}`")).unwrap_or_default();
    let statistic = if row.statistic == "median" { String::new() } else { format!(".{}", row.statistic) };
    match phrase(&row.measure) {
        Some(phrase) => format!("the {phrase} (`{}{statistic}`){case}", row.measure),
        None => format!("`{}{statistic}`{case}", row.measure),
    }
}

fn phrase(measure: &str) -> Option<&'static str> {
    let phrase = match measure {
        "tpot_ms" => "time per output token",
        "itl_ms" | "inter_token_latency_ms" => "time between tokens",
        "ttft_ms" => "time to the first token",
        "prefill_ms" => "time of the prompt",
        "total_ms" => "time of a whole generation",
        "e2e_ms" => "time of a whole request",
        "decode_tok_per_s" => "decode rate",
        "prefill_tok_per_s" => "prompt rate",
        "total_tok_per_s" => "output rate of whole generations",
        "output_tok_per_s" => "output rate",
        "request_per_s" => "request rate",
        "peak_rss_bytes" => "peak memory of the process",
        "peak_vram_bytes" => "peak GPU memory",
        "energy_per_token_j" => "energy per output token",
        "energy_j" => "energy",
        "decode_step_ms" => "time of a decode step",
        "prefill_step_ms" => "time of a prefill step",
        "step_ms" => "time of a step",
        _ => return None,
    };
    Some(phrase)
}

/// The sentence of a measure that differs.
fn decision(row: &Comparison) -> String {
    let (baseline, candidate) = (&row.baseline_label, &row.candidate_label);
    let value = |value: Option<f64>| value.map_or("not known".to_owned(), |value| words::quantity(value, &row.unit));
    let both = format!("{} → {}", value(row.baseline), value(row.candidate));
    let values = match beside_the_interval(row) {
        None => format!("{} {both}", row.statistic),
        Some(within) => {
            format!(
                "the {} of all values, {both}, gives another ratio, since this one is taken {within}",
                row.statistic
            )
        }
    };
    let subject = subject_of(row);
    let Some((ratio, interval)) = row.ratio.zip(row.ci95) else {
        let shift = row.shift.map(|shift| format!(", shift {}", words::signed(shift, &row.unit))).unwrap_or_default();
        let interval = row.shift_ci95.map(|ends| format!(" (95 % {})", words::signed_interval(ends, &row.unit)));
        let interval = interval.unwrap_or_default();
        return format!(
            "`{candidate}` is {} than `{baseline}` by {subject}: {values}{shift}{interval}.",
            verdict::word(row.verdict)
        );
    };
    let of = |ratio: f64, interval: [f64; 2]| {
        (format!("{}x", words::ratio(ratio, Some(interval))), words::ratio_interval(interval))
    };
    let lower_is_better = row.direction == Direction::LowerIsBetter;
    match row.verdict {
        Verdict::Faster if lower_is_better => {
            let (times, interval) = of(1.0 / ratio, [1.0 / interval[1], 1.0 / interval[0]]);
            format!("`{candidate}` is {times} as fast as `{baseline}` by {subject} (95 % {interval}): {values}.")
        }
        Verdict::Faster => {
            let (times, interval) = of(ratio, interval);
            format!("`{candidate}` is {times} as fast as `{baseline}` by {subject} (95 % {interval}): {values}.")
        }
        Verdict::Slower if lower_is_better => {
            let (times, interval) = of(ratio, interval);
            format!(
                "`{candidate}` is slower than `{baseline}` by {subject}: it takes {times} as long (95 % {interval}), {values}."
            )
        }
        Verdict::Slower => {
            let (times, interval) = of(ratio, interval);
            format!(
                "`{candidate}` is slower than `{baseline}` by {subject}: {times} the rate (95 % {interval}), {values}."
            )
        }
        _ => {
            let (times, interval) = of(ratio, interval);
            let word = verdict::word(row.verdict);
            format!("`{candidate}` is {word} than `{baseline}` in {subject}: {times} (95 % {interval}), {values}.")
        }
    }
}

/// Where the quotient of the two statistics over all values lies outside the interval of the ratio: what the ratio is taken within. On a machine whose
/// speed changes between blocks the two can point in different directions, and only one of them compares like with like.
fn beside_the_interval(row: &Comparison) -> Option<&'static str> {
    let ([low, high], quotient) = (row.ci95?, row.candidate? / row.baseline?);
    let method = row.interval_method.as_deref()?;
    let within = if method.contains("blocks' ratios") {
        "within blocks, and blocks differ from each other"
    } else if method.contains("one per process") || method.contains("bootstrap of the processes") {
        "between processes, and these differ from each other"
    } else {
        return None;
    };
    // Less than a hundredth beside it misleads nobody.
    (quotient < low * 0.99 || quotient > high * 1.01).then_some(within)
}

fn control(controls: &[Comparison]) -> Option<String> {
    let judged: Vec<&Comparison> = controls.iter().filter(|row| row.ci95.is_some()).collect();
    if judged.is_empty() {
        return None;
    }
    let wrong: Vec<String> = judged
        .iter()
        .filter(|row| !matches!(row.verdict, Verdict::Same | Verdict::CannotTell))
        .map(|row| format!("`{}`", row.measure))
        .collect();
    let all = words::count(judged.len() as u64, "measure", "measures");
    Some(if wrong.is_empty() {
        format!("The A/A control, which compares the baseline with itself, found no difference in {all}.")
    } else {
        format!(
            "The A/A control, which compares the baseline with itself, found a difference in {} of {all} ({}): differences of that size are \
             not told from chance here.",
            wrong.len(),
            words::list(&wrong)
        )
    })
}

fn cost(rows: &[CostRow]) -> Vec<String> {
    let mut cases: Vec<&Option<String>> = Vec::new();
    for row in rows {
        if !cases.contains(&&row.case) {
            cases.push(&row.case);
        }
    }
    let of_case = |case: &Option<String>| {
        let priced: Vec<String> = rows
            .iter()
            .filter(|row| row.case == *case)
            .filter_map(|row| {
                Some(format!("{} USD on `{}`", words::digits(row.usd_per_million_output_tokens?), row.label))
            })
            .collect();
        let case = case.as_ref().map(|case| format!(" of case `{case}`")).unwrap_or_default();
        (!priced.is_empty()).then(|| {
            format!(
                "A million output tokens{case}, prompts included, cost {} at the given price per hour.",
                words::list(&priced)
            )
        })
    };
    cases.into_iter().take(MOST).filter_map(of_case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::effect::compare_subjects;
    use super::super::settings::CompareSettings;
    use super::super::testing::{measure_of, subject};
    use super::*;

    /// Blocks of a machine with two speeds; `candidate` takes 6.6 % longer than `baseline` at either. In the block `changed` the machine became
    /// faster between the two.
    fn two_speeds(changed: Option<usize>) -> Comparison {
        let level = |block: usize, later: bool| match changed {
            Some(changed) if changed == block && later => 77.0,
            _ if block < 6 => 77.0,
            _ => 91.0,
        };
        let side = |label: &str, factor: f64, later: bool, step: usize| {
            let values: Vec<f64> =
                (0..12).map(|block| level(block, later) * factor * (1.0 + 1e-4 * (block * step % 12) as f64)).collect();
            let mut measure = measure_of(None, "ttft_ms", "ms", &values);
            measure.blocks = (0..12).collect();
            let mut side = subject(label);
            side.measures = vec![measure];
            side
        };
        let settings = CompareSettings { resamples: 1000, ..CompareSettings::default() };
        let (baseline, candidate) = (side("base", 1.0, false, 5), side("slow", 1.066, true, 7));
        compare_subjects(&baseline, &candidate, &[], &[], &settings).comparisons.remove(0)
    }

    #[test]
    fn medians_that_the_ratio_contradicts_are_explained() {
        let row = two_speeds(Some(6));
        assert_eq!(row.verdict, Verdict::Slower, "{}", row.reason);
        assert!(row.candidate < row.baseline, "the machine hides the slowdown from the medians");
        let said = decision(&row);
        assert!(said.contains("it takes 1.06") && said.contains("gives another ratio"), "{said}");
        assert!(said.contains("within blocks, and blocks differ"), "{said}");
        let said = decision(&two_speeds(None));
        assert!(!said.contains("gives another ratio") && said.contains("median "), "{said}");
    }
}
