//! The stages as tables: what each reached, every measure, how requests ended, and who counted the tokens.

use super::words;
use crate::record::load::metrics::{Distribution, LoadMetrics, Measures, StageBlock};
use crate::report::compare::tables::{dash, maybe_text};
use crate::report::number::{self, count, digits};
use crate::report::table::{Cell, Table};

/// Longest sentence shown whole in a cell.
pub(super) const SENTENCE: usize = 300;

/// Columns of the stage table that are a percentile of a measure.
const PERCENTILES: [(&str, &str); 8] = [
    ("ttft_ms", "p50"),
    ("ttft_ms", "p99"),
    ("tpot_ms", "p50"),
    ("tpot_ms", "p99"),
    ("itl_ms", "p50"),
    ("itl_ms", "p99"),
    ("e2e_ms", "p50"),
    ("e2e_ms", "p99"),
];

/// A statistic in a narrow column: `†` where there are too few values, and why on hover.
pub(super) fn narrow(distribution: Option<&Distribution>, which: &str) -> Cell {
    let Some(distribution) = distribution.filter(|distribution| distribution.summary.n > 0) else { return dash() };
    let Some(value) = words::statistic(distribution, which) else { return dash() };
    let n = distribution.summary.n;
    let mut cell = Cell::number(digits(value), value);
    match words::weak(which, n) {
        Some(why) => {
            cell.text.push('†');
            cell.weak = true;
            cell.note = Some(why);
        }
        None => cell.note = Some(format!("n = {}", count(n))),
    }
    cell
}

/// A statistic with the reason written out where it is weak.
fn wide(distribution: &Distribution, which: &str) -> Cell {
    let Some(value) = words::statistic(distribution, which) else { return dash() };
    let unit = distribution.summary.unit.as_str();
    let text = number::in_unit(value, unit);
    match words::weak(which, distribution.summary.n) {
        Some(why) => Cell {
            text: format!("{text} ({why})"),
            weak: true,
            note: Some(format!("{which} of too few values: {why}, at 99 % confidence")),
            sort: Some(value),
            full: None,
        },
        None => Cell::number(text, value),
    }
}

/// One line a stage; with `runs` the runs stand below each other under their names.
pub(super) fn stages(runs: &[(&str, &LoadMetrics)]) -> Table {
    let several = runs.len() > 1;
    let goodput = runs.iter().any(|(_, metrics)| metrics.stages.iter().any(|stage| !stage.goodput.is_empty()));
    let mut headings: Vec<&'static str> = if several { vec!["Run", "Stage"] } else { vec!["Stage"] };
    headings.extend(["#ok / issued", "#Errors", "#In flight", "#req/s", "#Output tok/s"]);
    headings.extend([
        "#TTFT p50 ms",
        "#TTFT p99",
        "#TPOT p50 ms",
        "#TPOT p99",
        "#ITL p50 ms",
        "#ITL p99",
        "#E2E p50 ms",
        "#E2E p99",
    ]);
    if goodput {
        headings.push("#Goodput req/s");
    }
    headings.extend(["#Client lag p99 ms", "Valid"]);
    let mut table = Table::new(&headings);
    for (label, metrics) in runs {
        for stage in &metrics.stages {
            let mut row = if several { vec![Cell::text_up_to(label, 40)] } else { Vec::new() };
            row.push(Cell {
                sort: words::load(stage, words::axis(metrics)),
                ..Cell::text_up_to(&stage.plan.label, 40)
            });
            let ok = words::ok(stage);
            row.push(Cell::number(format!("{} / {}", count(ok), count(stage.issued)), ok as f64));
            row.push(Cell { note: Some(words::outcomes(stage)), ..Cell::percent(stage.error_rate) });
            row.push(Cell::count(stage.peak_in_flight.into()));
            row.push(Cell::maybe(stage.rates.request_per_s));
            row.push(Cell::maybe(stage.rates.output_tok_per_s));
            row.extend(PERCENTILES.iter().map(|(name, which)| narrow(words::of(stage, name), which)));
            if goodput {
                row.push(Cell::maybe(stage.goodput.first().and_then(|good| good.request_per_s)));
            }
            row.push(Cell::maybe(stage.client.lag_ms));
            row.push(valid(stage));
            table.push(row);
        }
    }
    table
}

fn valid(stage: &StageBlock) -> Cell {
    if stage.validity.is_valid() {
        return Cell::text("yes");
    }
    Cell { note: Some(stage.validity.reasons.join("; ")), ..Cell::text("INVALID") }
}

/// Why percentiles of the stage table are marked: a line for each number of values that is too small.
pub(super) fn marks(runs: &[(&str, &LoadMetrics)]) -> Vec<String> {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for (label, metrics) in runs {
        for stage in &metrics.stages {
            for (name, which) in PERCENTILES {
                let Some(distribution) = words::of(stage, name) else { continue };
                let Some(why) = words::weak(which, distribution.summary.n) else { continue };
                let place =
                    if runs.len() > 1 { format!("{label} {}", stage.plan.label) } else { stage.plan.label.clone() };
                let place = format!("{place} {}", words::label(name));
                match reasons.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, places)) => places.push(place),
                    None => reasons.push((why, vec![place])),
                }
            }
        }
    }
    let line = |(why, places): &(String, Vec<String>)| {
        let shown = places.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
        let more = places.len().saturating_sub(6);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("† p99 of too few values, {why}: {shown}{rest}.")
    };
    let by_chunks: Vec<String> = runs
        .iter()
        .flat_map(|(_, metrics)| &metrics.stages)
        .filter(|stage| words::by_chunks(stage))
        .map(|stage| stage.plan.label.clone())
        .collect();
    let counted = (!by_chunks.is_empty()).then(|| {
        format!(
            "Output tokens of {} are chunks: the server counted no tokens, and a chunk may hold several. tok/s is then chunks per second, and TPOT \
             is per chunk.",
            by_chunks.join(", ")
        )
    });
    counted.into_iter().chain(reasons.iter().map(line)).collect()
}

/// Every measure of a stage: the whole stage, and the steady window below it.
pub(super) fn measures(stage: &StageBlock) -> Table {
    let mut table =
        Table::new(&["Measure", "Window", "Unit", "#n", "#mean", "#p50", "#p90", "#p95", "#p99", "#p99.9", "#max"]);
    let mut names: Vec<&String> = stage.measures.keys().collect();
    if let Some(steady) = &stage.steady {
        names.extend(steady.measures.keys().filter(|name| !stage.measures.contains_key(*name)));
    }
    names.sort_by_key(|name| (words::place(name), *name));
    let steady = stage.steady.as_ref().map(|steady| &steady.measures);
    for name in names {
        let mut push = |window: &'static str, measures: Option<&Measures>| {
            let Some(distribution) = measures.and_then(|measures| measures.get(name)) else { return };
            let summary = &distribution.summary;
            let label = words::label(name);
            let what = if label == name { label.to_owned() } else { format!("{label} ({name})") };
            let mut row = vec![
                Cell::text(&what),
                Cell::text(window),
                Cell::text_up_to(number::unit_label(&summary.unit), 20),
                Cell::count(summary.n),
            ];
            row.extend(["mean", "p50", "p90", "p95", "p99", "p99.9", "max"].map(|which| wide(distribution, which)));
            table.push(row);
        };
        push("whole", Some(&stage.measures));
        push("steady", steady);
    }
    table
}

/// Rates of a stage: the whole of it, and the steady window.
pub(super) fn rates(stage: &StageBlock) -> Table {
    let mut table = Table::new(&[
        "Window",
        "#Seconds",
        "#req/s",
        "#Output tok/s",
        "#All tok/s",
        "#Prefill tok/s (median)",
        "#Per user tok/s (median)",
        "#Fairness (Jain)",
    ]);
    let mut push = |window: String, rates: &crate::record::load::metrics::Rates| {
        let values = [
            rates.window_s,
            rates.request_per_s,
            rates.output_tok_per_s,
            rates.total_tok_per_s,
            rates.prefill_tok_per_s,
            rates.per_user_tok_per_s,
            rates.fairness,
        ];
        table.push(std::iter::once(Cell::text(&window)).chain(values.map(Cell::maybe)).collect());
    };
    push("whole stage, ramp and drain included".to_owned(), &stage.rates);
    if let Some(steady) = &stage.steady {
        push(format!("steady, {} to {} s", digits(steady.from_s), digits(steady.to_s)), &steady.rates);
    }
    table
}

/// How the requests of each stage ended: a line a stage, a column an outcome that happened.
pub(super) fn outcomes(metrics: &LoadMetrics) -> Table {
    let mut names: Vec<&str> = Vec::new();
    for stage in &metrics.stages {
        for (name, _) in words::ordered(stage) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let fixed = ["Stage", "#Issued", "#Sum of outcomes", "#Errors"].map(std::borrow::Cow::Borrowed);
    let columns = names.iter().map(|name| std::borrow::Cow::Owned(format!("#{name}")));
    let mut table = Table::with_headings(fixed.into_iter().chain(columns));
    for stage in &metrics.stages {
        let sum = stage.outcomes.values().copied().fold(0, u64::saturating_add);
        let mut row = vec![
            Cell::text_up_to(&stage.plan.label, 40),
            Cell::count(stage.issued),
            Cell::count(sum),
            Cell::percent(stage.error_rate),
        ];
        row.extend(names.iter().map(|name| Cell::count(stage.outcomes.get(*name).copied().unwrap_or(0))));
        table.push(row);
    }
    table
}

/// Errors by kind.
pub(super) fn errors(metrics: &LoadMetrics) -> Table {
    let mut table = Table::new(&["Stage", "Outcome", "Kind", "#HTTP status", "#Times", "The first of them"]);
    for stage in &metrics.stages {
        for error in &stage.errors {
            table.push(vec![
                Cell::text_up_to(&stage.plan.label, 40),
                Cell::text(&error.outcome),
                Cell::text(&error.kind),
                error.status.map_or_else(dash, |status| Cell::number(status.to_string(), f64::from(status))),
                Cell::count(error.count),
                Cell::text_up_to(&error.first, SENTENCE),
            ]);
        }
    }
    table
}

/// Service levels: who kept them, and what broke them.
pub(super) fn goodput(metrics: &LoadMetrics) -> Table {
    let mut table = Table::new(&[
        "Stage",
        "Level",
        "#Good",
        "#Of",
        "#Share",
        "Kept",
        "#Good req/s",
        "#Good output tok/s",
        "Broken limits",
    ]);
    for stage in &metrics.stages {
        for good in &stage.goodput {
            let broken: Vec<String> = good
                .broken
                .iter()
                .filter(|(_, times)| **times > 0)
                .map(|(name, times)| format!("{name} {}", count(*times)))
                .collect();
            table.push(vec![
                Cell::text_up_to(&stage.plan.label, 40),
                Cell::text(&good.slo),
                Cell::count(good.good),
                Cell::count(good.of),
                Cell::percent(good.share),
                Cell::text(if good.kept { "yes" } else { "no" }),
                Cell::maybe(good.request_per_s),
                Cell::maybe(good.output_tok_per_s),
                if broken.is_empty() { Cell::text("none") } else { Cell::text_up_to(&broken.join(", "), SENTENCE) },
            ]);
        }
    }
    table
}

/// Tokens of each stage and who counted them.
pub(super) fn tokens(metrics: &LoadMetrics) -> Table {
    let mut table = Table::new(&[
        "Stage",
        "#Input tokens",
        "#From the server's cache",
        "#Output tokens",
        "Output tokens counted by",
    ]);
    for stage in &metrics.stages {
        let number = |value: Option<u64>| value.map_or_else(dash, Cell::count);
        let sources: Vec<String> = stage
            .token_sources
            .iter()
            .filter(|(_, tokens)| **tokens > 0)
            .map(|(source, tokens)| format!("{source} {}", count(*tokens)))
            .collect();
        table.push(vec![
            Cell::text_up_to(&stage.plan.label, 40),
            number(stage.input_tokens),
            number(stage.cached_tokens),
            number(stage.output_tokens),
            if sources.is_empty() { dash() } else { Cell::text(&sources.join(", ")) },
        ]);
    }
    table
}

/// This client in each stage: how late it was, and what it cost.
pub(super) fn client(metrics: &LoadMetrics) -> Table {
    let mut table = Table::new(&[
        "Stage",
        "Stamps by",
        "#Lag p50 ms",
        "#p90",
        "#p99",
        "#p99.9",
        "#max",
        "#CPU µs/chunk",
        "#Busiest thread",
        "#Longest turn ms",
        "#Longest pause ms",
        "#Sent late",
        "#Connections",
        "Client-limited",
    ]);
    for stage in &metrics.stages {
        let client = &stage.client;
        let lag = |at: usize| Cell::maybe(client.stage.lag_ms.map(|lag| lag[at]));
        let mut row = vec![Cell::text_up_to(&stage.plan.label, 40), Cell::text(&client.stage.stamps)];
        row.extend((0..5).map(lag));
        row.extend([
            Cell::maybe(client.cpu_us_per_chunk),
            Cell::percent(Some(client.stage.busiest_worker)),
            Cell::maybe(Some(client.stage.longest_turn_ms)),
            Cell::maybe(Some(client.stage.longest_pause_ms)),
            Cell::count(stage.late),
            Cell::count(client.stage.connects),
            Cell::text(if client.limited { "yes: the figures may be those of this client" } else { "no" }),
        ]);
        table.push(row);
    }
    table
}

/// Energy and cost of each stage; no row where neither is known.
pub(super) fn cost(metrics: &LoadMetrics) -> Table {
    let mut table = Table::new(&["Stage", "#Energy J", "#J per output token", "#USD per million output tokens"]);
    for stage in &metrics.stages {
        let cost = &stage.cost;
        let values = [cost.energy_j, cost.j_per_output_token, cost.usd_per_million_output_tokens];
        if values.iter().any(Option::is_some) {
            table.push(
                std::iter::once(Cell::text_up_to(&stage.plan.label, 40)).chain(values.map(Cell::maybe)).collect(),
            );
        }
    }
    table
}

/// Where the answers came from.
pub(super) fn targets(metrics: &LoadMetrics) -> Table {
    let mut table = Table::new(&["Server", "What it calls itself", "HTTP"]);
    for target in &metrics.targets {
        table.push(vec![Cell::text(&target.url), maybe_text(target.server.as_deref()), Cell::text(&target.http)]);
    }
    table
}
