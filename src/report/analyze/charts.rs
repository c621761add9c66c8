//! The analyses as charts.

use super::format::duration;
use super::model::TraceReport;
use super::tables::{class_phases, class_totals};
use super::waits::device;
use super::words;
use crate::analysis::kernel_summary::KernelSummary;
use crate::analysis::steps::Steps;
use crate::report::chart::stack::{Part, Row, stacked};
use crate::report::chart::{self, Bin, Chart, StepPoint, cause_color, histogram, kernel_color, step_times};
use crate::report::number::{count, percent};

/// Phases drawn.
const PHASES: usize = 12;

/// Operator classes: all, then each phase.
pub(super) fn classes(kernels: &KernelSummary) -> Chart {
    let chart = Chart::new(
        "classes",
        "Kernel time by operator class",
        "Each bar is the kernel time of a phase (sum of durations), made of its operator classes; hover a block for its figures.",
    );
    let phases = class_phases(kernels);
    let mut rows = vec![class_row(kernels, None)];
    // One phase that is everything would be the same bar again.
    if phases.len() > 1 || phases.len() == 1 && kernels.classes.iter().any(|total| total.phase.is_none()) {
        rows.extend(phases.iter().take(PHASES).map(|(phase, _)| class_row(kernels, Some(phase))));
    }
    shade(&mut rows);
    stacked(chart, &rows, "of the kernel time of the phase", "There is no kernel time: the trace has no kernels.")
}

fn class_row(kernels: &KernelSummary, phase: Option<&str>) -> Row {
    let totals: Vec<_> =
        class_totals(kernels, phase).into_iter().filter(|total| total.4.is_some() && total.3 > 0).collect();
    let whole: i64 = totals.iter().map(|total| total.3).fold(0, i64::saturating_add);
    let parts = totals
        .iter()
        .map(|(class, _, calls, ns, _)| Part {
            name: class.name().replace('_', " "),
            value: *ns as f64,
            color: kernel_color(class.name()).to_owned(),
            title: format!(
                "{}: {} in {} calls ({}). {}",
                class.name(),
                duration(*ns as f64),
                count(*calls),
                percent(*ns as f64 / whole.max(1) as f64),
                class.description()
            ),
        })
        .collect();
    Row { label: phase.unwrap_or("all").to_owned(), whole: whole as f64, whole_text: duration(whole as f64), parts }
}

/// Classes that share a hue get shades of it, the same in every bar.
fn shade(rows: &mut [Row]) {
    let mut seen: Vec<(String, Vec<String>)> = Vec::new();
    for part in rows.iter_mut().flat_map(|row| &mut row.parts) {
        let at = match seen.iter().position(|(color, _)| *color == part.color) {
            Some(at) => at,
            None => {
                seen.push((part.color.clone(), Vec::new()));
                seen.len() - 1
            }
        };
        let names = &mut seen[at].1;
        let place = names.iter().position(|name| *name == part.name).unwrap_or_else(|| {
            names.push(part.name.clone());
            names.len() - 1
        });
        match place {
            0 => {}
            1 => part.color.push_str(" alternate"),
            _ => part.color.push_str(" pale"),
        }
    }
}

/// Busy time and causes of idle time of each device; the parts fill the window.
pub(super) fn idle(report: &TraceReport<'_>) -> Chart {
    let chart = Chart::new(
        "idle-causes",
        "Busy and idle by cause",
        "Each bar is the window of one device, from its first work to its last: what it was busy, and why it was not.",
    );
    let rows: Vec<Row> = report
        .idle
        .iter()
        .filter(|idle| idle.window_ns > 0)
        .map(|idle| {
            let whole = idle.window_ns as f64;
            let part = |name: &str, ns: u64, meaning: &str| Part {
                name: name.replace('_', " "),
                value: ns as f64,
                color: cause_color(name).unwrap_or("i14").to_owned(),
                title: format!("{name}: {} ({}): {meaning}", duration(ns as f64), percent(ns as f64 / whole)),
            };
            let mut parts = vec![part("busy", idle.busy_ns, "at least one operation ran")];
            parts.extend(words::causes(idle).into_iter().map(|(name, cause, ns)| {
                part(name, ns, cause.map_or("pauses from one kernel to the next", words::cause))
            }));
            Row { label: device(report, idle.device), whole, whole_text: duration(whole), parts }
        })
        .collect();
    stacked(chart, &rows, "of the window", "No device had work, so there is no window to divide.")
}

/// Gaps of all devices by length.
pub(super) fn gaps(report: &TraceReport<'_>) -> Chart {
    let chart = Chart::new(
        "gap-lengths",
        "Gaps by length",
        "How many gaps there are of each length, and how much of the idle time they make: many short ones call for another cure than few \
         long ones.",
    );
    let mut bins: Vec<Bin> = Vec::new();
    for bin in report.idle.iter().flat_map(|idle| &idle.gap_lengths) {
        // A first bin from 0 on has no place on a logarithmic axis but one factor of ten below its end.
        let high_ns = bin.below_ns.map_or((bin.from_ns.max(1) as f64) * 10.0, |below| below as f64);
        let low_ns = if bin.from_ns == 0 { high_ns / 10.0 } else { bin.from_ns as f64 };
        match bins.iter_mut().find(|known| known.low_ns == low_ns) {
            Some(known) => {
                known.count += bin.gaps;
                known.total_ns += bin.total_ns as f64;
            }
            None => bins.push(Bin { low_ns, high_ns, count: bin.gaps, total_ns: bin.total_ns as f64 }),
        }
    }
    bins.sort_by(|a, b| a.low_ns.total_cmp(&b.low_ns));
    histogram(chart, &bins, "gaps", "No gaps between operations were found.")
}

/// Step durations over time.
pub(super) fn steps(steps: &Steps, origin_ns: i64) -> Chart {
    let mut marked = vec![false; steps.table.len()];
    for straggler in &steps.stragglers {
        if let Some(mark) = marked.get_mut(straggler.step as usize) {
            *mark = true;
        }
    }
    let points: Vec<StepPoint<'_>> = steps
        .table
        .iter()
        .zip(&marked)
        .enumerate()
        .map(|(at, (step, straggler))| StepPoint {
            number: at as u64,
            phase: steps.phases.get(usize::from(step.phase)).map_or("not known", |phase| phase.name.as_str()),
            start_ns: step.start_ns.saturating_sub(origin_ns) as f64,
            duration_ns: step.end_ns.saturating_sub(step.start_ns) as f64,
            straggler: *straggler,
        })
        .collect();
    let mut drawn: chart::Chart = step_times(&points);
    if steps.steps_omitted > 0 {
        let more =
            format!("{} steps beyond the first {} are not drawn.", count(steps.steps_omitted), steps.table.len());
        drawn.note = Some(drawn.note.map_or_else(|| more.clone(), |note| format!("{note} {more}")));
    }
    drawn
}
