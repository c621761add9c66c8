//! The graphics processor during one stage, in the units of the layouts that other tools have.

use super::model::LoadReport;
use crate::record::gpu::GpuTelemetry;

/// Bytes of what those layouts call a megabyte.
const MIB: f64 = 1_048_576.0;

/// Mean, largest and smallest of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    /// Mean.
    pub mean: f64,
    /// Largest.
    pub max: f64,
    /// Smallest.
    pub min: f64,
}

/// One look, with its time in seconds on the sampler's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    /// When.
    pub at_s: f64,
    /// Per cent.
    pub utilisation: Option<f64>,
    /// MiB.
    pub memory: Option<f64>,
    /// Watts.
    pub power: Option<f64>,
    /// °C.
    pub temperature: Option<f64>,
}

/// The device during a stage. Unknown is none.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Device {
    /// Its name; of several that worked the first, which it then says.
    pub name: Option<String>,
    /// Whether the figures are of the stage alone, and not of the whole run.
    pub of_stage: bool,
    /// Looks within the stage.
    pub looks: Vec<Look>,
    /// Per cent.
    pub utilisation: Option<Span>,
    /// MiB in use.
    pub memory: Option<Span>,
    /// MiB there are.
    pub memory_total: Option<f64>,
    /// Watts.
    pub power: Option<Span>,
    /// °C.
    pub temperature: Option<Span>,
}

fn span(looks: &[Look], get: fn(&Look) -> Option<f64>) -> Option<Span> {
    let values: Vec<f64> = looks.iter().filter_map(get).filter(|value| value.is_finite()).collect();
    let max = values.iter().copied().reduce(f64::max)?;
    let min = values.iter().copied().reduce(f64::min)?;
    Some(Span { mean: crate::stats::summary::mean(&values)?, max, min })
}

fn looks(telemetry: &GpuTelemetry, [from, to]: [f64; 2]) -> Vec<Look> {
    let samples = &telemetry.samples;
    let at = |column: &Option<Vec<Option<f64>>>, place: usize| column.as_ref()?.get(place).copied().flatten();
    let inside = samples.t_s.iter().enumerate().filter(|(_, time)| (from..=to).contains(*time));
    inside
        .map(|(place, time)| Look {
            at_s: *time,
            utilisation: at(&samples.utilisation, place).map(|share| share * 100.0),
            memory: at(&samples.memory_used_bytes, place).map(|bytes| bytes / MIB),
            power: at(&samples.power_w, place),
            temperature: at(&samples.temperature_c, place),
        })
        .collect()
}

/// The device during the stage `stage`; none where none was looked at. The first of several: the layouts have room for one.
pub(super) fn device(report: &LoadReport<'_>, stage: usize) -> Option<Device> {
    let mut all = devices(report, stage);
    let several = all.len();
    let mut first = all.drain(..).next()?;
    if several > 1 {
        first.name = Some(format!("{} (first of {several})", first.name.as_deref().unwrap_or("unnamed")));
    }
    Some(first)
}

/// The devices that worked during the run, or, if none did, all that were looked at.
pub(super) fn devices(report: &LoadReport<'_>, stage: usize) -> Vec<Device> {
    let blocks = &report.metrics.gpus;
    let worked = |place: &usize| blocks.get(*place).is_none_or(|block| block.ran_here);
    let all = 0..blocks.len().max(report.gpus.len());
    let some = all.clone().any(|place| worked(&place));
    all.filter(|place| !some || worked(place)).filter_map(|place| of(report, place, stage)).collect()
}

/// The `place`-th device.
///
/// The looks of the stage are those between its marks in the telemetry; without marks, and without telemetry, the figures are those of the
/// whole run.
fn of(report: &LoadReport<'_>, place: usize, stage: usize) -> Option<Device> {
    let block = report.metrics.gpus.get(place);
    let telemetry = report.gpus.get(place);
    let marks = telemetry.and_then(|telemetry| {
        let mark = telemetry.repeats.iter().find(|repeat| repeat.row as usize == stage)?;
        Some(looks(telemetry, [mark.start_s, mark.end_s]))
    });
    let whole = || telemetry.map(|telemetry| looks(telemetry, [f64::NEG_INFINITY, f64::INFINITY]));
    let of_stage = marks.is_some();
    let found = marks.or_else(whole).unwrap_or_default();
    let of_run = |name: &str, factor: f64| {
        let metric = block?.metrics.get(name)?;
        Some(Span { mean: metric.mean * factor, max: metric.max * factor, min: metric.min * factor })
    };
    let identity = telemetry.map(|telemetry| &telemetry.device);
    if identity.is_none() && block.is_none() {
        return None;
    }
    let memory_total = identity.and_then(|device| device.memory_bytes).or_else(|| block?.memory_bytes);
    Some(Device {
        name: identity.and_then(|device| device.name.clone()).or_else(|| block?.name.clone()),
        utilisation: span(&found, |look| look.utilisation).or_else(|| of_run("utilisation", 100.0)),
        memory: span(&found, |look| look.memory).or_else(|| of_run("memory_used_bytes", 1.0 / MIB)),
        memory_total: memory_total.map(|bytes| bytes as f64 / MIB),
        power: span(&found, |look| look.power).or_else(|| of_run("power_w", 1.0)),
        temperature: span(&found, |look| look.temperature).or_else(|| of_run("temperature_c", 1.0)),
        of_stage,
        looks: found,
    })
}
