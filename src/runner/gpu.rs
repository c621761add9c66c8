//! What the looks at a graphics processor say of a run: a block of `metrics.json`, findings, and reasons that make the run INVALID.

use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::hardware::nvml::{ENERGY_UPDATES, GpuSeries, ThrottleEffect, harmful_reasons};
use crate::record::gpu::{GpuBlock, GpuTelemetry};
use crate::record::rows::{RepeatRow, RowStatus};
use crate::stats::quantile::median;
use crate::units::Bytes;

/// Utilisation from which a device was busy before the run touched it.
pub const BUSY_UTILISATION: f64 = 0.05;
/// Share of the memory that others may hold before the run without a word.
pub const OTHERS_MEMORY: f64 = 0.05;
/// Share of the looks with a slowdown (heat, hardware) above which a run on the device is INVALID.
pub const SLOWDOWN_LIMIT: f64 = 0.1;
/// Spread of the SM clocks of the repeats of one case, (largest − smallest) / median, from which they have moved.
pub const CLOCK_SPREAD: f64 = 0.05;
/// Share of the looks at the power limit above which a run whose clocks have moved is INVALID.
pub const POWER_LIMIT_SHARE: f64 = 0.5;
/// Share of the intervals between looks that may be late without a word.
const LATE_SHARE: f64 = 0.01;

/// What is said of the device.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuVerdict {
    /// For `metrics.json`.
    pub block: GpuBlock,
    /// Findings.
    pub diagnostics: Vec<Diagnostic>,
    /// Why the numbers may not be relied on; always empty for a device that did not run the model.
    pub reasons: Vec<String>,
}

/// Judges the looks over the repeats of `rows`; `ran_here` says whether the model ran on the device, or it was only watched.
pub fn judge(telemetry: &GpuTelemetry, rows: &[RepeatRow], ran_here: bool) -> GpuVerdict {
    let series = telemetry.series();
    let (from_s, to_s) = stretch(telemetry, &series, rows);
    let summary = series.summary(telemetry.interval(), from_s, to_s);
    let mut block = GpuBlock::new(telemetry, summary, ran_here);
    block.sm_clock_spread = clock_spread(rows);
    block.other_processes_max =
        block.other_processes_max.map(|others| others.saturating_sub(hidden(&series, ran_here)));
    let device = block.name.clone().unwrap_or_else(|| "the GPU".to_owned());
    let mut judge = Judge { device, ran_here, diagnostics: Diagnostics::default(), reasons: Vec::new() };
    judge.before(&block);
    judge.during(&block, rows, telemetry.complete);
    GpuVerdict { block, diagnostics: judge.diagnostics.into_vec(), reasons: judge.reasons }
}

/// Judges the looks from `from_s` to `to_s` at a device beside which a server was tested, and which did its work if `serving`.
///
/// A server has its context on the device before and during the test, so company and memory in use are no findings.
pub fn judge_served(telemetry: &GpuTelemetry, from_s: f64, to_s: f64, serving: bool) -> GpuVerdict {
    let summary = telemetry.series().summary(telemetry.interval(), from_s, to_s);
    let mut block = GpuBlock::new(telemetry, summary, serving);
    // No look was asked for at the ends of a stage, so none was missed.
    block.repeats_missed = 0;
    let device = block.name.clone().unwrap_or_else(|| "the GPU".to_owned());
    let mut judge = Judge { device, ran_here: serving, diagnostics: Diagnostics::default(), reasons: Vec::new() };
    judge.looks(&block, telemetry.complete);
    judge.unsupported(&block);
    GpuVerdict { block, diagnostics: judge.diagnostics.into_vec(), reasons: judge.reasons }
}

/// From the begin of the first of the repeats to the end of the last; all looks where there is no repeat.
fn stretch(telemetry: &GpuTelemetry, series: &GpuSeries, rows: &[RepeatRow]) -> (f64, f64) {
    let of_rows = || telemetry.repeats.iter().filter(|repeat| rows.iter().any(|row| row.index == repeat.row));
    let from_s = of_rows().map(|repeat| repeat.start_s).reduce(f64::min);
    let to_s = of_rows().map(|repeat| repeat.end_s).reduce(f64::max);
    let whole = (
        series.samples.first().map_or(0.0, |sample| sample.t_s),
        series.samples.last().map_or(0.0, |sample| sample.t_s),
    );
    from_s.zip(to_s).unwrap_or(whole)
}

/// Processes of the list that are this one under another id, as in a container with process ids of its own.
fn hidden(series: &GpuSeries, ran_here: bool) -> u32 {
    let listed = series.samples.iter().any(|sample| sample.reading.processes > sample.reading.other_processes);
    u32::from(ran_here && !listed)
}

/// The worst spread of the SM clocks among the repeats of one case.
fn clock_spread(rows: &[RepeatRow]) -> Option<f64> {
    let mut cases: Vec<&str> = Vec::new();
    for row in rows {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
    }
    let spread = |case: &&str| {
        let of_case = |row: &&RepeatRow| row.case == **case && row.status == RowStatus::Ok;
        let clocks: Vec<f64> = rows.iter().filter(of_case).filter_map(|row| row.gpu.as_ref()?.sm_mhz).collect();
        let low = clocks.iter().copied().reduce(f64::min)?;
        let high = clocks.iter().copied().reduce(f64::max)?;
        let middle = median(&clocks).filter(|middle| *middle > 0.0 && clocks.len() > 1)?;
        Some((high - low) / middle)
    };
    cases.iter().filter_map(spread).reduce(f64::max)
}

struct Judge {
    device: String,
    ran_here: bool,
    diagnostics: Diagnostics,
    reasons: Vec<String>,
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

impl Judge {
    /// A finding; about a device that was only watched it affects no number.
    fn note(&mut self, code: &str, severity: Severity, count: u64, first: String) {
        let severity = if self.ran_here { severity } else { Severity::Info };
        self.diagnostics.push(Diagnostic { count, ..Diagnostic::new(code, severity, first) });
    }

    /// A reason for INVALID, if the model ran on the device.
    fn invalid(&mut self, reason: String) {
        if self.ran_here {
            self.reasons.push(reason);
        }
    }

    /// The checks before the run.
    fn before(&mut self, block: &GpuBlock) {
        let device = self.device.clone();
        let Some(before) = &block.before else {
            let text = format!("{device} could not be looked at before the run: whether it was busy is not known");
            return self.note("gpu_before_unknown", Severity::Warn, 1, text);
        };
        if let Some(busy) = before.utilisation.filter(|busy| *busy >= BUSY_UTILISATION) {
            let text = format!("{device} was {} busy before the run touched it", percent(busy));
            self.note("gpu_busy_before", Severity::Warn, 1, text);
        }
        if let Some(processes) = before.processes.filter(|processes| *processes > 0) {
            let text = format!("{processes} other process(es) had a compute context on {device} before the run");
            self.note("gpu_other_processes", Severity::Warn, u64::from(processes), text);
        }
        if let Some((used, all)) = before.memory_used_bytes.zip(block.memory_bytes)
            && used as f64 > OTHERS_MEMORY * all as f64
        {
            let (used, all) = (Bytes(used as f64), Bytes(all as f64));
            let text = format!("{used} of the {all} of {device} were in use before the run");
            self.note("gpu_memory_in_use", Severity::Warn, 1, text);
        }
        let bits: Vec<&str> = before.throttle_reasons.iter().map(String::as_str).collect();
        let held: Vec<&str> = harmful_reasons(u64::MAX).into_iter().filter(|name| bits.contains(name)).collect();
        if !held.is_empty() {
            let text = format!("{device} held its clocks down before the run: {}", held.join(", "));
            self.note("gpu_throttled_before", Severity::Warn, 1, text);
        }
        if before.persistence_mode == Some(false) {
            let text = format!(
                "persistence mode of {device} is off: without a user the driver unloads, and the next start pays for it (`nvidia-smi -pm 1`)"
            );
            self.note("gpu_persistence_off", Severity::Info, 1, text);
        }
    }

    /// The looks themselves: whether they are there, and what they say of the device whoever used it. False without looks.
    fn looks(&mut self, block: &GpuBlock, complete: bool) -> bool {
        let device = self.device.clone();
        if !complete {
            let text = format!("the run ended before its looks at {device} were written");
            self.note("gpu_looks_lost", Severity::DataLoss, 1, text);
            return false;
        }
        self.failures(block);
        self.clocks(block);
        if let Some(errors) = block.ecc_uncorrected.filter(|errors| *errors > 0) {
            let text = format!("{device} had {errors} uncorrected memory errors during the run");
            self.note("gpu_ecc_uncorrected", Severity::Error, errors, text);
        }
        true
    }

    fn unsupported(&mut self, block: &GpuBlock) {
        if !block.unsupported.is_empty() {
            let text = format!("{} does not tell {}", self.device, block.unsupported.join(", "));
            self.note("gpu_metrics_unsupported", Severity::Info, block.unsupported.len() as u64, text);
        }
    }

    /// The checks over the repeats.
    fn during(&mut self, block: &GpuBlock, rows: &[RepeatRow], complete: bool) {
        if !self.looks(block, complete) {
            return;
        }
        let device = self.device.clone();
        self.company(block);
        let looked = || rows.iter().filter(|row| row.status == RowStatus::Ok).filter_map(|row| row.gpu.as_ref());
        let unknown = looked().filter(|gpu| gpu.energy_j.is_none()).count();
        if unknown > 0
            && block.unsupported.iter().filter(|name| ["energy_j", "power_w"].contains(&name.as_str())).count() < 2
        {
            let why = if block.failures > 0 {
                "looks at it failed".to_owned()
            } else {
                format!("they are shorter than {ENERGY_UPDATES:.0} updates of its meter; raise `infer.max_new_tokens=`")
            };
            let text = format!("{unknown} of {} repeats have no energy of {device}: {why}", looked().count());
            self.note("gpu_energy_unknown", Severity::Info, unknown as u64, text);
        }
        self.unsupported(block);
    }

    /// Looks that failed, and a device that was lost.
    fn failures(&mut self, block: &GpuBlock) {
        let device = self.device.clone();
        if let Some(lost) = block.lost_at_s {
            let last = block.last_good_s.map_or("never read".to_owned(), |at| format!("last read at {at:.2} s"));
            let text = format!("{device} was lost {lost:.2} s after the first look ({last})");
            self.note("gpu_lost", Severity::Error, block.failures.max(1), text.clone());
            self.invalid(text);
        } else if block.failures > 0 {
            let first = block.failure_messages.keys().next().map_or("", String::as_str);
            let text = format!("{} of {} looks at {device} failed: {first}", block.failures, block.attempts);
            self.note("gpu_samples_failed", Severity::Warn, block.failures, text);
        }
        if block.failed_metrics > 0 {
            let text = format!("{} readings of single metrics of {device} failed; each is null", block.failed_metrics);
            self.note("gpu_metrics_failed", Severity::Warn, block.failed_metrics, text);
        }
        if block.repeats_missed > 0 {
            let text = format!(
                "{} repeats have no figures of {device}: the look at their begin or end failed or took too long",
                block.repeats_missed
            );
            self.note("gpu_repeats_missed", Severity::Warn, block.repeats_missed, text);
        }
        if let Some(intervals) =
            block.intervals.filter(|intervals| intervals.late as f64 > LATE_SHARE * intervals.n as f64)
        {
            let text = format!(
                "{} of {} intervals between looks at {device} were more than twice the {:.0} ms asked for, the longest {:.0} ms; means are \
                 weighted with the real times",
                intervals.late,
                intervals.n,
                block.interval_s * 1e3,
                intervals.max_s * 1e3
            );
            self.note("gpu_sampler_late", Severity::Info, intervals.late, text);
        }
    }

    /// Other processes on the device during the repeats.
    fn company(&mut self, block: &GpuBlock) {
        let Some(others) = block.other_processes_max.filter(|others| *others > 0) else { return };
        let device = self.device.clone();
        let text = format!("{others} other process(es) had a compute context on {device} during the repeats");
        self.note("gpu_shared", Severity::Warn, u64::from(others), text);
        let Some(before) = &block.before else { return };
        if let Some(busy) = before.utilisation.filter(|busy| *busy >= BUSY_UTILISATION)
            && before.processes.is_some_and(|processes| processes > 0)
        {
            self.invalid(format!(
                "another process used {device}: it was {} busy before the run, and {others} other process(es) stayed on it during the repeats",
                percent(busy)
            ));
        }
    }

    /// Reasons that held the clocks down, and clocks that moved.
    fn clocks(&mut self, block: &GpuBlock) {
        let device = self.device.clone();
        let words = |effect: ThrottleEffect| {
            let of_effect = block.throttle.iter().filter(move |reason| reason.effect == effect);
            of_effect
                .map(|reason| format!("{} in {} of the looks", reason.reason, percent(reason.share)))
                .collect::<Vec<_>>()
        };
        let moved = block.sm_clock_spread.filter(|spread| *spread >= CLOCK_SPREAD);
        if let Some(share) = block.slowdown_share.filter(|share| *share > 0.0) {
            let words = words(ThrottleEffect::Slowdown).join(", ");
            let text = format!("{device} was slowed down: {words}; do not compare this run with others");
            self.note("gpu_throttled", Severity::Warn, 1, text);
            if share > SLOWDOWN_LIMIT {
                self.invalid(format!(
                    "{device} was slowed down in {} of the looks (limit {}): {words}",
                    percent(share),
                    percent(SLOWDOWN_LIMIT)
                ));
            }
        }
        if let Some(share) = block.power_limit_share.filter(|share| *share > 0.0) {
            let limit = block.power_limit_w.map_or_else(String::new, |watts| format!(" of {watts:.0} W"));
            let text = format!(
                "{device} ran at its power limit{limit} in {} of the looks: compare only with runs under the same limit",
                percent(share)
            );
            self.note("gpu_power_limited", Severity::Warn, 1, text);
            if let Some(spread) = moved.filter(|_| share > POWER_LIMIT_SHARE) {
                self.invalid(format!(
                    "the power limit{limit} of {device} moved its clocks by {} from repeat to repeat",
                    percent(spread)
                ));
            }
        }
        if let Some(spread) = moved {
            let text = format!(
                "SM clocks of the repeats of one case differ by {} (limit {}); `nvidia-smi -lgc` locks them",
                percent(spread),
                percent(CLOCK_SPREAD)
            );
            self.note("gpu_clocks_moved", Severity::Warn, 1, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::nvml::GpuReading;

    fn series(processes: u32, others: u32) -> GpuSeries {
        let mut series = GpuSeries::default();
        let reading = GpuReading { processes: Some(processes), other_processes: Some(others), ..GpuReading::default() };
        series.push(0.0, false, Ok(reading));
        series
    }

    #[test]
    fn one_unknown_process_of_a_run_on_the_device_is_the_run_itself() {
        assert_eq!(hidden(&series(1, 1), true), 1, "as in a container, whose ids are not the driver's");
        assert_eq!(hidden(&series(2, 1), true), 0, "the run is listed under its own id");
        assert_eq!(hidden(&series(1, 1), false), 0, "a run on the CPU is none of them");
    }
}
