//! The summary `perfprof load` prints when it ends: readable without colour, never wider than the terminal.

use owo_colors::Style;

use super::device::{Device, Span, devices};
use super::model::LoadReport;
use super::spreadsheets::Figures;
use super::tables::narrow;
use super::{verdict, words};
use crate::record::load::metrics::StageBlock;
use crate::report::console::Page;
use crate::report::escape::{cut, one_line};
use crate::report::number::{self, UNKNOWN, count, digits};
use crate::report::table::Cell;

/// Stages printed.
const STAGES: usize = 24;
/// Warnings and further sentences printed.
const LINES: usize = 6;
/// Columns of the name of a figure.
const NAME: usize = 22;

/// The summary printed on the console, at most `width` columns wide (40 at least), with ANSI colours if `color`.
pub fn load_console(report: &LoadReport<'_>, color: bool, width: usize) -> String {
    let metrics = report.metrics;
    let mut page = Page::new(color, width);
    let (bold, plain, dim) = (Style::new().bold(), Style::new(), Style::new().dimmed());
    let shown = words::shown(metrics);
    let place = shown.and_then(|stage| metrics.stages.iter().position(|other| std::ptr::eq(other, stage)));
    if let (Some(stage), Some(place)) = (shown, place) {
        results(report, stage, place, &mut page);
        for device in devices(report, place) {
            page.line("", plain);
            gpu(&device, &mut page);
        }
        page.line("", plain);
        stages(report, place, &mut page, width);
        page.line("", plain);
    }
    let headline = verdict::headline(report);
    let tone = match headline.tone {
        "ok" => bold.green(),
        "warn" => bold.yellow(),
        _ => bold.red(),
    };
    page.paragraph(&headline.sentence, 2, tone);
    // The line on saturation has the knee.
    let knee = verdict::knee(metrics);
    for line in headline.more.iter().filter(|line| Some(*line) != knee.as_ref()).take(LINES) {
        page.paragraph(&format!("  {line}"), 4, plain);
    }
    if let Some(line) = saturation(report) {
        page.paragraph(&format!("  {line}"), 4, plain);
    }
    let warnings = verdict::warnings(metrics);
    for line in warnings.iter().take(LINES) {
        page.paragraph(&format!("  ! {line}"), 4, Style::new().yellow());
    }
    if warnings.len() > LINES {
        page.line(&format!("  ! more in report.md: {}", warnings.len() - LINES), dim);
    }
    page.finish()
}

fn figure(page: &mut Page, name: &str, value: &str) {
    page.line(&format!("  {name:<NAME$}{value}"), Style::new());
}

/// The figures of one stage as a block.
fn results(report: &LoadReport<'_>, stage: &StageBlock, place: usize, page: &mut Page) {
    let metrics = report.metrics;
    let figures = Figures::of(report, place, stage);
    let name = cut(&one_line(&metrics.backend), 40);
    page.line(&format!("=== RESULTS FOR {name} ==="), Style::new().bold());
    figure(page, "Model", &cut(&one_line(&metrics.model), 60));
    let of = match metrics.stages.len() {
        1 => String::new(),
        several if words::best(metrics).is_some() => format!(" (the best of {several} stages)"),
        several if place + 1 == several => format!(" (the last of {several} stages)"),
        several => format!(" (the last of {several} stages in which requests succeeded)"),
    };
    figure(page, "Stage", &format!("{}{of}", cut(&one_line(&stage.plan.label), 40)));
    let failed = stage.errors.iter().map(|error| error.count).fold(0, u64::saturating_add);
    figure(
        page,
        "Total Requests",
        &format!(
            "{} ({} ok, {} failed: {})",
            count(stage.issued),
            count(words::ok(stage)),
            count(failed),
            words::errors(stage)
        ),
    );
    figure(page, "Duration", &format!("{} s", digits(stage.elapsed_s)));
    let pair = |[mean, p99]: [Option<f64>; 2], name: &str| {
        let weak = words::of(stage, name).and_then(|one| words::weak("p99", one.summary.n));
        let mark = weak.map_or_else(String::new, |why| format!(" ({why})"));
        if mean.is_none() {
            return UNKNOWN.to_owned();
        }
        format!("mean {}, p99 {}{mark}", words::ms(mean), words::ms(p99))
    };
    let gaps = if words::of(stage, "inter_chunk_ms").is_some() { "inter_chunk_ms" } else { "itl_ms" };
    figure(page, "TTFT", &pair(figures.ttft, "ttft_ms"));
    let measured = |name: &str| {
        let one = words::of(stage, name)?;
        Some(pair([words::statistic(one, "mean"), words::statistic(one, "p99")], name))
    };
    if words::reasons(stage) {
        figure(page, "TTFO", &measured("ttfo_ms").unwrap_or_else(|| UNKNOWN.to_owned()));
    }
    if words::open(stage) {
        figure(page, "TTFT from due", &measured("ttft_from_due_ms").unwrap_or_else(|| UNKNOWN.to_owned()));
    }
    figure(page, "E2E Latency", &pair(figures.e2e, "e2e_ms"));
    figure(page, "ITL (between chunks)", &pair(figures.itl, gaps));
    let tpot = figures.tpot_mean.map_or_else(|| UNKNOWN.to_owned(), |mean| format!("mean {}", words::ms(Some(mean))));
    figure(page, "TPOT", &if words::by_chunks(stage) { format!("{tpot} per chunk") } else { tpot });
    let unit = format!("output {}", words::tok_per_s(stage));
    let uncounted = if words::by_chunks(stage) { ": the server counts no tokens, so TPS is unavailable" } else { "" };
    figure(page, "System TPS", &format!("{}{uncounted}", words::per_s(figures.system_tps, &unit)));
    figure(page, "System RPS", &words::per_s(figures.system_rps, "req/s"));
    figure(page, "Prefill Speed (mean)", &words::per_s(figures.prefill_mean, "tok/s"));
    if let Some(goodput) = stage.goodput.first() {
        let share = number::maybe_percent(goodput.share);
        let rate = words::per_s(goodput.request_per_s, "req/s");
        figure(page, "Goodput", &format!("{rate}, {share} kept {}", cut(&one_line(&goodput.slo), 30)));
    }
    let lag = stage.client.lag_ms.map_or_else(|| UNKNOWN.to_owned(), |lag| format!("p99 {} ms", digits(lag)));
    let limited = if stage.client.limited { "; CLIENT-LIMITED" } else { "" };
    figure(
        page,
        "Client Lag",
        &format!("{lag}, stamps by {}{limited}", cut(&one_line(&stage.client.stage.stamps), 20)),
    );
}

/// The device as a block.
fn gpu(device: &Device, page: &mut Page) {
    let name = cut(&one_line(device.name.as_deref().unwrap_or("without a name")), 50);
    page.line(&format!("=== GPU METRICS ({name}) ==="), Style::new().bold());
    let pair = |span: Option<Span>, unit: &str| {
        span.map_or_else(
            || UNKNOWN.to_owned(),
            |span| format!("mean {} {unit}, max {} {unit}", digits(span.mean), digits(span.max)),
        )
    };
    figure(page, "Over", if device.of_stage { "this stage" } else { "the whole run" });
    figure(page, "GPU Utilization", &pair(device.utilisation, "%"));
    let total = device.memory_total.map_or_else(String::new, |total| format!(" of {} MiB", digits(total)));
    figure(page, "Memory Used", &format!("{}{total}", pair(device.memory, "MiB")));
    figure(page, "Power", &pair(device.power, "W"));
    figure(page, "Temperature", &pair(device.temperature, "°C"));
}

/// The stages as a table; columns that do not fit are left out from the right.
fn stages(report: &LoadReport<'_>, best: usize, page: &mut Page, width: usize) {
    const HEADINGS: [&str; 9] =
        ["  stage", "ok/issued", "errors", "req/s", "tok/s", "TTFT p50", "p99 ms", "TPOT p50", "E2E p99"];
    let metrics = report.metrics;
    let (plain, dim) = (Style::new(), Style::new().dimmed());
    let mut lines: Vec<([String; 9], Style)> = vec![(HEADINGS.map(str::to_owned), dim)];
    let mut marked = false;
    for (at, stage) in metrics.stages.iter().enumerate().take(STAGES) {
        let star = if at == best && metrics.stages.len() > 1 && words::best(metrics).is_some() { "★" } else { " " };
        let mut cell = |cell: Cell| {
            marked |= cell.weak;
            cell.text
        };
        let of = |name: &str, which: &str| narrow(words::of(stage, name), which);
        let cells = [
            format!("{star} {}", cut(&one_line(&stage.plan.label), 20)),
            format!("{}/{}", words::ok(stage), stage.issued),
            number::maybe_percent(stage.error_rate),
            number::maybe(stage.rates.request_per_s),
            number::maybe(stage.rates.output_tok_per_s),
            cell(of("ttft_ms", "p50")),
            cell(of("ttft_ms", "p99")),
            cell(of("tpot_ms", "p50")),
            cell(of("e2e_ms", "p99")),
        ];
        let style = if !stage.validity.is_valid() {
            Style::new().red()
        } else if star == "★" {
            Style::new().green()
        } else {
            plain
        };
        lines.push((cells, style));
    }
    let widths: Vec<usize> =
        (0..9).map(|at| lines.iter().map(|(cells, _)| cells[at].chars().count()).max().unwrap_or(0)).collect();
    let mut room = width.max(40);
    let fits = widths.iter().enumerate().take_while(|(at, wide)| {
        let needed = **wide + if *at > 0 { 2 } else { 0 };
        let fits = needed <= room;
        room = room.saturating_sub(needed);
        fits
    });
    let columns = fits.count().max(1);
    for (cells, style) in &lines {
        let mut text = String::new();
        for (at, cell) in cells.iter().enumerate().take(columns) {
            let padding = " ".repeat(widths[at].saturating_sub(cell.chars().count()));
            text.push_str(&if at == 0 { format!("{cell}{padding}") } else { format!("  {padding}{cell}") });
        }
        page.line(&text, *style);
    }
    if metrics.stages.len() > STAGES {
        page.line(&format!("  more stages in report.md and stages.csv: {}", metrics.stages.len() - STAGES), dim);
    }
    if marked {
        page.paragraph("  † fewer values than the percentile needs (p99: 459)", 4, dim);
    }
}

/// Where the server saturates, in one line.
fn saturation(report: &LoadReport<'_>) -> Option<String> {
    let saturation = report.metrics.saturation.as_ref()?;
    let mut parts = Vec::new();
    match &saturation.knee {
        Some(knee) => parts.push(format!(
            "knee at {} {} ({} to {})",
            saturation.axis,
            number::load(knee.at),
            number::load(knee.ci95[0]),
            number::load(knee.ci95[1])
        )),
        None => parts.push("no knee was found".to_owned()),
    }
    let peak = |what: &str, peak: &Option<crate::record::load::metrics::Peak>, unit: &str| {
        let peak = peak.as_ref()?;
        Some(format!("{what} {} {unit} at {}", digits(peak.value), peak.stage))
    };
    parts.extend(peak("most", &saturation.peak_output_tok_per_s, "output tok/s"));
    parts.extend(saturation.p99_rises_at.as_ref().map(|peak| format!("p99 doubles at {}", peak.stage)));
    parts.extend(saturation.errors_rise_at.as_ref().map(|peak| format!("errors from {}", peak.stage)));
    Some(format!("Saturation: {}.", parts.join("; ")))
}
