//! What stands round the comparisons as tables: subjects, study, cost, quality, attribution, diagnostics.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::model::CompareReport;
use super::tables::{dash, maybe_text, value};
use super::verdict::candidates;
use super::words::{self, signed_duration};
use crate::compare::result::{
    Attribution, AttributionRow, ChangeKind, CompareMetrics, CostRow, QualityRow, SubjectBlock,
};
use crate::diagnostics::Severity;
use crate::report::analyze::format::duration;
use crate::report::escape::{cut, one_line};
use crate::report::number::{UNKNOWN, count, digits};
use crate::report::table::{Cell, Table};

/// Blocks of the order listed.
const BLOCKS: usize = 200;

/// A sum of nothing may be minus zero, which plus zero is zero.
fn time(ns: f64) -> Cell {
    Cell { sort: ns.is_finite().then_some(ns), ..Cell::text(&duration(ns + 0.0)) }
}

fn signed(ns: f64) -> Cell {
    Cell { sort: ns.is_finite().then_some(ns), ..Cell::text(&signed_duration(ns)) }
}

/// An interval of a change, from how steps vary within each side.
fn between(ends: Option<[f64; 2]>) -> Cell {
    words::duration_interval(ends).map_or_else(dash, |text| Cell::text(&text))
}

fn calls(value: f64) -> String {
    if value.is_finite() && value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { digits(value) }
}

/// The subjects and how their pieces ended.
pub(super) fn subjects(metrics: &CompareMetrics) -> Table {
    let mut table = Table::new(&[
        "Subject",
        "Role",
        "From",
        "Tool",
        "#Ended well",
        "#Failed",
        "#Out of memory",
        "#Interrupted",
        "#Disturbed",
        "Valid",
        "Runs and files",
    ]);
    for (at, subject) in metrics.subjects.iter().enumerate() {
        let outcomes = subject.outcomes;
        let mut row = vec![
            Cell::text_up_to(&subject.label, 40),
            Cell::text(if at == 0 { "baseline" } else { "candidate" }),
            Cell::text(words::subject(subject.kind)),
            Cell::text_up_to(&subject.tool, 60),
        ];
        row.extend(
            [outcomes.ok, outcomes.failed, outcomes.oom, outcomes.interrupted, outcomes.disturbed].map(Cell::count),
        );
        let behind: Vec<&str> = subject.run_ids.iter().chain(&subject.files).map(String::as_str).collect();
        row.push(if subject.validity.is_valid() {
            Cell::text("VALID")
        } else {
            Cell::text(&format!("INVALID: {}", subject.validity.reasons.join("; ")))
        });
        row.push(if behind.is_empty() { dash() } else { Cell::text(&behind.join(", ")) });
        table.push(row);
    }
    table
}

/// What was run: a row a fact, a column a subject.
pub(super) fn facts(metrics: &CompareMetrics) -> Table {
    let names: BTreeSet<&str> =
        metrics.subjects.iter().flat_map(|subject| subject.facts.keys().map(String::as_str)).collect();
    let labels = metrics.subjects.iter().map(|subject| Cow::Owned(cut(&one_line(&subject.label), 40)));
    // A label that begins with `#` is no mark of a number.
    let labels = labels
        .map(|label: Cow<'static, str>| if label.starts_with('#') { Cow::Owned(format!(" {label}")) } else { label });
    let mut table = Table::with_headings(std::iter::once(Cow::Borrowed("Fact")).chain(labels));
    for name in names {
        let mut row = vec![Cell::text(name)];
        row.extend(metrics.subjects.iter().map(|subject| match subject.facts.get(name) {
            Some(Some(text)) => Cell::text(text),
            Some(None) | None => Cell::text("not known"),
        }));
        table.push(row);
    }
    table
}

/// How a part is called: what a reader looks for first.
pub(super) fn part_name(row: &AttributionRow) -> String {
    match row.change {
        ChangeKind::Idle => return format!("idle: {}", row.class),
        ChangeKind::Overlap => return format!("overlap: {}", row.class),
        ChangeKind::Unattributed => return "time no operator explains".to_owned(),
        ChangeKind::Changed | ChangeKind::New | ChangeKind::Gone => {}
    }
    let mut parts: Vec<String> = row.layer.map(|layer| format!("layer {layer}")).into_iter().collect();
    let both =
        row.baseline_kernel.as_ref().zip(row.kernel.as_ref()).map(|(before, after)| format!("{before} → {after}"));
    parts.extend(row.module.clone());
    match (&row.kernel, &row.baseline_kernel) {
        _ if both.is_some() && row.module == both => {}
        (Some(kernel), Some(before)) if kernel != before => parts.push(format!("{kernel} (was {before})")),
        (Some(kernel), _) if row.module.as_ref() != Some(kernel) => parts.push(kernel.clone()),
        (None, Some(before)) => parts.push(format!("was {before}")),
        _ => {}
    }
    if parts.is_empty() {
        // The name that the attribution gives to what it sums up.
        parts.push(if row.class == "(other)" { "all other parts".to_owned() } else { row.class.clone() });
    }
    match row.change {
        ChangeKind::New => parts.push("(new)".to_owned()),
        ChangeKind::Gone => parts.push("(gone)".to_owned()),
        _ => {}
    }
    parts.join(" ")
}

/// Where the change of `part` comes from.
pub(super) fn attribution(part: &Attribution, limit: usize) -> Table {
    let mut table = Table::new(&[
        "Phase",
        "Class",
        "Where",
        "Kernel or operator",
        "Kind",
        "#Baseline",
        "#Candidate",
        "#Change",
        "95 % interval",
        "#of it: calls",
        "#of it: time per call",
        "#Calls",
        "#Share",
    ]);
    for row in part.rows.iter().take(limit) {
        let kernel = match (&row.kernel, &row.baseline_kernel) {
            (Some(kernel), Some(before)) if kernel != before => Some(format!("{kernel} (was {before})")),
            (Some(kernel), _) => Some(kernel.clone()),
            (None, Some(before)) => Some(format!("was {before}")),
            (None, None) => None,
        };
        // Without a mean on both sides there is nothing to split.
        let split = |ns: f64| if row.per_call_delta_ns.is_some() { signed(ns) } else { dash() };
        let mut place: Vec<String> = row.layer.map(|layer| format!("layer {layer}")).into_iter().collect();
        place.extend(row.module.clone());
        table.push(vec![
            Cell::text_up_to(&row.phase, 40),
            Cell::text_up_to(&row.class, 40),
            if place.is_empty() { dash() } else { Cell::text(&place.join(" · ")) },
            maybe_text(kernel.as_deref()),
            Cell {
                note: Some(format!("matched by: {}", cut(&one_line(&row.matched_by), 200))),
                ..Cell::text(words::change_code(row.change))
            },
            time(row.baseline_ns),
            time(row.candidate_ns),
            signed(row.delta_ns),
            between(row.delta_ci95_ns),
            split(row.count_ns),
            split(row.per_call_ns),
            Cell::number(
                format!("{} → {}", calls(row.baseline_calls), calls(row.candidate_calls)),
                row.candidate_calls - row.baseline_calls,
            ),
            Cell { sort: row.share.is_finite().then_some(row.share), ..Cell::text(&words::signed_share(row.share)) },
        ]);
    }
    table
}

/// The phases of both sides.
pub(super) fn phases(part: &Attribution) -> Table {
    let mut table = Table::new(&[
        "Phase",
        "#Baseline",
        "#Candidate",
        "#Change",
        "95 % interval",
        "#Change in %",
        "#Units",
        "#Sum of its parts",
    ]);
    for phase in &part.phases {
        let sum: f64 = part.rows.iter().filter(|row| row.phase == phase.phase).map(|row| row.delta_ns).sum();
        let ratio = (phase.baseline_ns > 0.0).then(|| phase.candidate_ns / phase.baseline_ns);
        table.push(vec![
            Cell::text_up_to(&phase.phase, 60),
            time(phase.baseline_ns),
            time(phase.candidate_ns),
            signed(phase.delta_ns),
            between(phase.delta_ci95_ns),
            Cell { sort: ratio.filter(|ratio| ratio.is_finite()), ..Cell::text(&words::maybe_change(ratio)) },
            Cell::text(&format!("{} / {}", count(phase.units[0]), count(phase.units[1]))),
            signed(sum),
        ]);
    }
    table
}

fn money(value: Option<f64>) -> Cell {
    let value = value.filter(|value| value.is_finite());
    value.map_or_else(dash, |value| Cell::number(words::money(value), value))
}

/// What a million tokens cost.
pub(super) fn cost(rows: &[CostRow]) -> Table {
    let mut table = Table::new(&[
        "Subject",
        "Case",
        "#Output (tok/s)",
        "#Price (USD/h)",
        "#USD per million output tokens",
        "#J per output token",
        "Energy from",
    ]);
    for row in rows {
        table.push(vec![
            Cell::text_up_to(&row.label, 40),
            row.case.as_deref().map_or_else(dash, |case| Cell::text_up_to(case, 40)),
            Cell::maybe(row.output_tok_per_s),
            money(row.usd_per_hour),
            money(row.usd_per_million_output_tokens),
            Cell::maybe(row.joule_per_output_token),
            maybe_text(row.energy_source.as_deref()),
        ]);
    }
    table
}

/// Measures that stand beside the quality, in this order, where a subject has them: speed first, then memory.
const BESIDE: [&str; 9] = [
    "prefill_tok_per_s",
    "decode_tok_per_s",
    "ttft_ms",
    "tpot_ms",
    "weights_bytes",
    "kv_cache_bytes",
    "peak_rss_bytes",
    "peak_vram_bytes",
    "energy_j",
];

/// Speed, memory and quality of every subject in one table; empty where no quality was measured.
pub(super) fn quality(metrics: &CompareMetrics) -> Table {
    if metrics.quality.is_empty() {
        return Table::default();
    }
    let has = |name: &str| metrics.subjects.iter().any(|subject| subject.measures.iter().any(|one| one.name == name));
    let beside: Vec<&str> = BESIDE.into_iter().filter(|name| has(name)).collect();
    let cases = |subject: &SubjectBlock| -> Vec<Option<String>> {
        let mut cases: Vec<Option<String>> = Vec::new();
        for one in subject.measures.iter().filter(|one| beside.contains(&one.name.as_str())) {
            if !cases.contains(&one.case) {
                cases.push(one.case.clone());
            }
        }
        if cases.is_empty() { vec![None] } else { cases }
    };
    let headings = ["Subject", "Case"].into_iter().map(Cow::Borrowed);
    let speed = beside.iter().map(|name| Cow::Owned(format!("#{name}")));
    let rest = [
        "#Perplexity",
        "95 % interval",
        "#KL mean (nats)",
        "#KL p99 (nats)",
        "#Same first choice",
        "#Tokens",
        "Against",
        "Text",
    ];
    let mut table = Table::with_headings(headings.chain(speed).chain(rest.into_iter().map(Cow::Borrowed)));
    let mut push = |label: &str, case: Option<&str>, subject: Option<&SubjectBlock>, row: Option<&QualityRow>| {
        let mut cells = vec![Cell::text_up_to(label, 40), case.map_or_else(dash, |case| Cell::text_up_to(case, 40))];
        for name in &beside {
            let found = subject.and_then(|subject| {
                subject.measures.iter().find(|one| one.name == *name && one.case.as_deref() == case)
            });
            cells.push(found.map_or_else(dash, |one| {
                let (middle, what) = match (one.summary.p50, one.summary.mean) {
                    (Some(median), _) => (Some(median), "median"),
                    (None, mean) => (mean, "mean"),
                };
                let note = middle.map(|_| format!("{what} of {}", count(one.summary.n)));
                Cell { note, ..value(middle, &one.summary.unit) }
            }));
        }
        let interval = row.and_then(|row| row.perplexity_ci95).filter(|ends| ends.iter().all(|end| end.is_finite()));
        cells.extend([
            Cell::maybe(row.and_then(|row| row.perplexity)),
            interval.map_or_else(dash, |[low, high]| Cell::text(&format!("{} to {}", digits(low), digits(high)))),
            Cell::maybe(row.and_then(|row| row.kl_mean_nats)),
            Cell::maybe(row.and_then(|row| row.kl_p99_nats)),
            Cell::text(&words::share(row.and_then(|row| row.top1_agreement))),
            row.map_or_else(dash, |row| Cell::count(row.tokens)),
            maybe_text(row.and_then(|row| row.reference.as_deref())),
            row.map_or_else(dash, |row| Cell::text_up_to(&row.text, 40)),
        ]);
        table.push(cells);
    };
    for subject in &metrics.subjects {
        let mut rows: Vec<Option<&QualityRow>> =
            metrics.quality.iter().filter(|row| row.label == subject.label).map(Some).collect();
        if rows.is_empty() {
            rows.push(None);
        }
        for case in cases(subject) {
            for row in &rows {
                push(&subject.label, case.as_deref(), Some(subject), *row);
            }
        }
    }
    for row in &metrics.quality {
        if !metrics.subjects.iter().any(|subject| subject.label == row.label) {
            push(&row.label, None, None, Some(row));
        }
    }
    table
}

/// How the study was run, as names and texts.
pub(super) fn study(metrics: &CompareMetrics) -> Vec<(String, String)> {
    let Some(study) = &metrics.study else { return Vec::new() };
    let mut lines = vec![
        ("isolation".to_owned(), study.isolation.clone()),
        ("blocks finished".to_owned(), count(study.blocks)),
        ("ended because".to_owned(), study.stopped_because.clone()),
        ("took".to_owned(), if study.took_s.is_finite() { duration(study.took_s * 1e9) } else { UNKNOWN.to_owned() }),
        ("seed of the order".to_owned(), study.seed.to_string()),
        (
            "A/A control".to_owned(),
            if study.control.is_empty() {
                "not run".to_owned()
            } else {
                format!(
                    "{} measures of the baseline against itself; {} came out different",
                    count(study.control.len() as u64),
                    count(study.false_alarms)
                )
            },
        ),
    ];
    for (label, dropped) in &study.warmup_dropped {
        let list: Vec<String> = dropped.iter().take(40).map(u32::to_string).collect();
        let more =
            if dropped.len() > 40 { format!(" and {} more processes", dropped.len() - 40) } else { String::new() };
        let text = if list.is_empty() {
            "none recorded".to_owned()
        } else {
            format!("{}{more} (repeats left out, one number a process)", list.join(", "))
        };
        lines.push((format!("warm-up of {label}"), text));
    }
    lines
}

/// The settings of the variants.
pub(super) fn variants(metrics: &CompareMetrics) -> Table {
    let Some(study) = &metrics.study else { return Table::default() };
    let mut table = Table::new(&["Variant", "Settings"]);
    for (at, settings) in study.variants.iter().enumerate() {
        let label = study.labels.get(at).cloned().unwrap_or_else(|| format!("variant {at}"));
        let texts: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.push(vec![
            Cell::text_up_to(&label, 60),
            if texts.is_empty() {
                Cell::text("as the study sets it")
            } else {
                Cell::text_up_to(&texts.join(", "), 300)
            },
        ]);
    }
    table
}

/// The order of the variants in each block.
pub(super) fn order(metrics: &CompareMetrics) -> Table {
    let Some(study) = &metrics.study else { return Table::default() };
    let mut table = Table::new(&["#Block", "Order"]);
    for (at, block) in study.order.iter().take(BLOCKS).enumerate() {
        let names: Vec<String> = block
            .iter()
            .map(|index| study.labels.get(*index as usize).cloned().unwrap_or_else(|| format!("variant {index}")))
            .collect();
        table.push(vec![Cell::count(at as u64), Cell::text_up_to(&names.join(" → "), 300)]);
    }
    table
}

/// The findings, the gravest first.
pub(super) fn diagnostics(report: &CompareReport<'_>) -> Table {
    let mut all: Vec<_> = report.metrics.diagnostics.iter().map(|row| (String::new(), row)).collect();
    for part in &report.metrics.attribution {
        all.extend(part.diagnostics.iter().map(|row| (format!("where {} differs: ", part.candidate_label), row)));
    }
    all.sort_by_key(|(_, row)| std::cmp::Reverse(row.severity));
    let mut table = Table::new(&["Severity", "Code", "#Times", "First"]);
    for (about, row) in all {
        table.push(vec![
            Cell::text(match row.severity {
                Severity::Info => "note",
                Severity::Warn => "warning",
                Severity::Error => "error",
                Severity::DataLoss => "data lost",
            }),
            Cell::text(&row.code),
            Cell::count(row.count),
            Cell::text_up_to(&format!("{about}{}", row.first), 600),
        ]);
    }
    table
}

/// Whether there is more than one candidate.
pub(super) fn many(metrics: &CompareMetrics) -> bool {
    candidates(metrics).len() > 1
}
