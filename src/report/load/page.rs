//! The sections of the report as data: every format lays out the same ones.

use super::compat::{Tool, compat};
use super::model::LoadReport;
use super::{assumptions, charts, facts, hints, tables, verdict, words};
use crate::record::load::metrics::LoadMetrics;
use crate::report::compare::page::{Block, Choice, Section, section};
use crate::report::gpu;

/// All sections in order.
pub(super) fn sections(report: &LoadReport<'_>) -> Vec<Section> {
    let mut all = vec![stages(report)];
    if !report.others.is_empty() {
        all.push(runs(report));
    }
    all.extend(over_load(report));
    all.push(over_time(report));
    all.push(measures(report));
    all.push(outcomes(report));
    all.extend(goodput(report));
    all.push(client(report));
    all.extend(device(report));
    all.extend(server(report));
    all.extend(advice(report));
    all.extend(elsewhere(report));
    all.extend([how(report), trust(report), method(report)]);
    all
}

fn stages(report: &LoadReport<'_>) -> Section {
    let mut part = section("stages", "The stages", "Stages");
    let runs: [(&str, &LoadMetrics); 1] = [("", report.metrics)];
    let table = tables::stages(&runs);
    if table.rows.is_empty() {
        part.missing("No stage was begun.");
        return part;
    }
    part.reading(
        "Latencies are of successful requests, in ms, over the whole stage; rates likewise. Client lag is what this program itself added.",
    );
    part.push("", table, [true, false, false]);
    part.lines(tables::marks(&runs));
    part
}

fn runs(report: &LoadReport<'_>) -> Section {
    let own = charts::own_label(report);
    let mut part = section("runs", "Beside other runs", "Runs");
    part.reading(
        "Each run by the stage that stands for it. `perfprof compare` says which differences are more than noise, and whether the work was the same.",
    );
    part.table("", facts::runs(report, &own));
    let mut all: Vec<(&str, &LoadMetrics)> = vec![(&own, report.metrics)];
    all.extend(report.others.iter().map(|other| (other.label, other.metrics)));
    part.push("All stages of all runs", tables::stages(&all), [true, true, false]);
    part
}

fn over_load(report: &LoadReport<'_>) -> Option<Section> {
    let metrics = report.metrics;
    let several = metrics.stages.len() > 1 || report.others.iter().any(|other| other.metrics.stages.len() > 1);
    let table = facts::saturation(metrics);
    if !several && report.others.is_empty() && table.rows.is_empty() {
        return None;
    }
    let mut part = section("load", "Over the load", "Load");
    part.lines(verdict::saturation(metrics));
    part.table("Where it is best used", table);
    if let Some(saturation) = &metrics.saturation {
        part.lines(saturation.evidence.clone());
    }
    for chart in charts::over_load(report) {
        part.chart(chart);
    }
    Some(part)
}

/// Pictures of the stages, of which one is shown at a time where there are several.
fn choose(part: &mut Section, what: &str, choices: Vec<Choice>) {
    if choices.len() > 1 {
        part.blocks.push(Block::Choices { what: what.to_owned(), choices });
    } else {
        for chart in choices.into_iter().flat_map(|choice| choice.charts) {
            part.chart(chart);
        }
    }
}

fn over_time(report: &LoadReport<'_>) -> Section {
    let mut part = section("time", "Over time", "Time");
    part.chart(charts::in_flight(report));
    choose(&mut part, "Requests of", charts::lanes(report));
    if report.metrics.stream {
        choose(&mut part, "Gaps of", charts::gaps(report));
    }
    part
}

fn measures(report: &LoadReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("measures", "Every measure", "Measures");
    for chart in charts::distributions(report) {
        part.chart(chart);
    }
    let folded = metrics.stages.len() > 1;
    for stage in &metrics.stages {
        let label = &stage.plan.label;
        part.push(&format!("Rates of {label}"), tables::rates(stage), [false, folded, false]);
        part.push(&format!("Measures of {label}"), tables::measures(stage), [true, folded, false]);
        if stage.steady.is_none() {
            part.missing(&format!("{label}: no steady window, the load was as asked for too short a time."));
        }
    }
    if metrics.stages.is_empty() {
        part.missing("No stage was begun.");
    }
    part
}

fn outcomes(report: &LoadReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("outcomes", "How the requests ended", "Outcomes");
    part.reading("Each request that was issued has exactly one outcome, so that the sums agree.");
    part.table("", tables::outcomes(metrics));
    part.lines(metrics.stages.iter().map(words::law).collect());
    let left: Vec<String> = report
        .context
        .stages
        .iter()
        .filter(|stage| stage.not_issued > 0)
        .map(|stage| {
            format!("{}: {} more were due and never issued", stage.plan.label, words::requests(stage.not_issued))
        })
        .collect();
    part.lines(left);
    let errors = tables::errors(metrics);
    if errors.rows.is_empty() {
        part.missing("No request failed.");
    }
    part.push("Errors", errors, [true, false, false]);
    part
}

fn goodput(report: &LoadReport<'_>) -> Option<Section> {
    let table = tables::goodput(report.metrics);
    if table.rows.is_empty() {
        return None;
    }
    let mut part = section("goodput", "Goodput", "Goodput");
    part.reading("Requests that kept every limit of a service level. A request may break several limits.");
    part.table("", table);
    Some(part)
}

fn client(report: &LoadReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("client", "Tokens and this client", "Client");
    part.push("Who counted the tokens", tables::tokens(metrics), [false, false, false]);
    part.push("This client", tables::client(metrics), [true, false, false]);
    let limited: Vec<String> = metrics
        .stages
        .iter()
        .filter(|stage| stage.client.limited)
        .map(|stage| {
            format!(
                "{}: client-limited. The figures may be those of this client and not of the server.",
                stage.plan.label
            )
        })
        .collect();
    part.lines(limited);
    if metrics.stages.is_empty() {
        part.missing("No stage was begun.");
    }
    part
}

fn device(report: &LoadReport<'_>) -> Option<Section> {
    let metrics = report.metrics;
    let cost = tables::cost(metrics);
    if metrics.gpus.is_empty() && report.gpus.is_empty() && cost.rows.is_empty() {
        return None;
    }
    let mut part = section("device", "The GPU, energy and cost", "GPU");
    for gpu in &metrics.gpus {
        let name = gpu.name.as_deref().unwrap_or("without a name");
        let role = if gpu.ran_here { "" } else { ", idle during the stages: not in the energy" };
        part.push(&format!("GPU {name}{role}"), gpu::metrics_of(gpu), [false, false, false]);
    }
    part.table("Energy and cost", cost);
    part.blocks.extend(
        (0..report.gpus.len()).filter_map(|place| Some(Block::Chart { chart: charts::device(report, place)? })),
    );
    Some(part)
}

fn server(report: &LoadReport<'_>) -> Option<Section> {
    let table = facts::server(report.metrics);
    let chart = charts::server(report);
    if table.rows.is_empty() && chart.is_none() {
        return None;
    }
    let mut part = section("server", "What the server said of itself", "Server");
    part.reading("From the server's own metrics; latencies are its own and begin when it saw the request.");
    part.blocks.extend(chart.map(|chart| Block::Chart { chart }));
    part.push("By stage", table, [true, true, false]);
    Some(part)
}

/// What to try, by symptom.
fn advice(report: &LoadReport<'_>) -> Option<Section> {
    let table = hints::table(report.metrics);
    if table.rows.is_empty() {
        return None;
    }
    let mut part = section("hints", "What to try", "What to try");
    part.reading("Rules of thumb, by what this run shows at its heaviest load. Change one thing at a time, and `perfprof compare` the runs.");
    part.table("", table);
    Some(part)
}

/// The same requests in the definitions of other tools.
fn elsewhere(report: &LoadReport<'_>) -> Option<Section> {
    let metrics = report.metrics;
    let stage = words::best(metrics).or_else(|| metrics.stages.last()).filter(|stage| words::ok(stage) > 0)?;
    let place = metrics.stages.iter().position(|other| std::ptr::eq(other, stage))?;
    let mut part = section("elsewhere", "As other tools count", "Other tools");
    part.reading(&format!(
        "The requests of {} in the definitions and under the labels of other tools, to be put beside their figures. What differs is said below each.",
        stage.plan.label
    ));
    for tool in Tool::ALL {
        let table = compat(tool, report.rows, report.context, place as u32);
        part.push(&format!("As {} counts", tool.title()), table.table(), [false, true, false]);
        part.lines(table.differs.iter().map(|line| format!("{}: {line}", tool.title())).collect());
    }
    Some(part)
}

fn how(report: &LoadReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("how", "What was asked of whom", "Set-up");
    part.table("Plan", facts::plan(metrics));
    part.table("Servers", tables::targets(metrics));
    part.table("Each server apart, all stages together", facts::by_target(report));
    part.blocks.push(Block::Terms { heading: "Workload".to_owned(), terms: facts::workload(report) });
    let mut origin = vec![
        ("Command".to_owned(), report.command.to_owned()),
        ("Run".to_owned(), metrics.run_id.clone()),
        ("Began".to_owned(), report.context.started_at.clone()),
    ];
    if let Some(price) = report.context.price_usd_per_hour {
        origin.push(("Price".to_owned(), format!("{} USD per hour", crate::report::number::digits(price))));
    }
    part.blocks.push(Block::Terms { heading: "Where it comes from".to_owned(), terms: origin });
    part
}

fn trust(report: &LoadReport<'_>) -> Section {
    let mut part = section("trust", "How far to trust it", "Trust");
    part.lines(facts::invalid(report.metrics));
    let table = facts::diagnostics(report.metrics);
    if table.rows.is_empty() {
        part.missing("No diagnostics.");
    }
    part.table("Diagnostics", table);
    part
}

fn method(report: &LoadReport<'_>) -> Section {
    let mut part = section("method", "Definitions and method", "Method");
    for block in assumptions::sections(report) {
        part.blocks.push(Block::Terms { heading: block.title, terms: block.lines });
    }
    part
}

/// The files of a load test and what each is for.
pub(super) const FILES: [(&str, &str); 13] = [
    ("report.html", "everything here with charts, in one file that can be passed on"),
    ("report.md", "this report without charts"),
    ("stakeholder_summary.md", "what was tested and what it can do, in plain words"),
    ("assumptions.md", "definitions and method"),
    ("stages.csv", "one line a stage with its measures"),
    ("requests.csv", "one line a request"),
    ("requests.jsonl", "one row a request with a stamp for each chunk, failures and warm-up included"),
    ("load.json", "what was planned and how each stage went"),
    ("server_metrics.json", "what the server said of itself, where it says anything"),
    ("metrics.json", "the summary for programs; its schema is published in docs/schema"),
    ("config.yaml", "the settings and where each came from"),
    ("run.json", "status, times, command line"),
    ("MANIFEST.json", "sha256 of every file"),
];
