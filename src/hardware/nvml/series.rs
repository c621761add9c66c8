//! What the looks at a device add up to. Pure: looks go in with their times, so that lateness and losses are tested without waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reading::{AVERAGED, GpuFailure, GpuReading, SlowReading, ThrottleEffect, has, reasons};

/// Updates of the energy counter that a stretch of time must span to have an energy: with fewer, the two ends alone could be off by
/// more than a quarter.
pub const ENERGY_UPDATES: f64 = 4.0;
/// How often the energy counter is taken to be updated while that is not known: the longest update period found for power readings
/// (arXiv 2312.02741).
const SLOWEST_COUNTER: Duration = Duration::from_millis(100);
/// A counter that stands still for so long is broken.
const STUCK: Duration = Duration::from_secs(1);
/// Share of a stretch of time that looks must cover to speak for all of it.
const COVERED: f64 = 0.95;
/// Looks behind the estimate of the period of the energy counter.
const RECENT: usize = 512;

/// Takes a metric out of a reading.
type Value<R> = fn(&R) -> Option<f64>;
/// Whether a reading has a metric.
type Told = fn(&GpuReading) -> bool;

/// A look that succeeded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpuSample {
    /// Seconds since the sampler started, at the end of the look.
    pub t_s: f64,
    /// Whether it was asked for at the begin or end of a repeat, beside the regular ones.
    pub edge: bool,
    /// What was read.
    pub reading: GpuReading,
}

/// What was read once a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowSample {
    /// Seconds since the sampler started, at the end of the look.
    pub t_s: f64,
    /// What was read.
    pub reading: SlowReading,
}

/// Failed looks in a row with the same words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuGap {
    /// The first of them.
    pub from_s: f64,
    /// The last of them.
    pub to_s: f64,
    /// How many.
    pub looks: u64,
    /// Whether the device was gone.
    pub lost: bool,
    /// What NVML said.
    pub message: String,
}

/// How regular the looks really were.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IntervalStatistics {
    /// Intervals between successful regular looks.
    pub n: u64,
    /// Their mean.
    pub mean_s: f64,
    /// The shortest.
    pub min_s: f64,
    /// Their median.
    pub p50_s: f64,
    /// The longest.
    pub max_s: f64,
    /// Those longer than twice the interval asked for.
    pub late: u64,
}

/// A metric over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TimeWeighted {
    /// Mean weighted with time (trapezoids between looks); the plain value if there was one look only.
    pub mean: f64,
    /// Smallest value read.
    pub min: f64,
    /// Largest value read.
    pub max: f64,
    /// Time the mean stands for.
    pub covered_s: f64,
}

/// How often a reason held the clocks down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThrottleShare {
    /// NVML's name of the reason, e.g. `sw_power_cap`.
    pub reason: String,
    /// Share of the looks.
    pub share: f64,
    /// What it means.
    pub effect: ThrottleEffect,
}

/// A device over a stretch of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuSummary {
    /// Begin of the stretch, in seconds since the sampler started.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
    /// Looks tried in it.
    pub attempts: u64,
    /// Looks that failed.
    pub failures: u64,
    /// How often each error came.
    pub failure_messages: BTreeMap<String, u64>,
    /// Metrics that failed, one by one, in looks that did not.
    pub failed_metrics: u64,
    /// When the device was first found lost, from the start of the sampler on; null if never.
    pub lost_at_s: Option<f64>,
    /// Time of the last successful look before the end; null without one.
    pub last_good_s: Option<f64>,
    /// How regular the looks were; null with fewer than two.
    pub intervals: Option<IntervalStatistics>,
    /// Metrics over time; one that is not supported is absent here and named in `unsupported`.
    pub metrics: BTreeMap<String, TimeWeighted>,
    /// Energy; null if neither counter nor power tell it.
    pub energy_j: Option<f64>,
    /// `nvml:counter`, or `nvml:power` (integral of the power readings); null with `energy_j`.
    pub energy_source: Option<String>,
    /// Reasons that held the clocks down.
    pub throttle: Vec<ThrottleShare>,
    /// Share of the looks with a reason that is a slowdown; null if reasons are not supported.
    pub slowdown_share: Option<f64>,
    /// Share of the looks at the power limit; null if reasons are not supported.
    pub power_limit_share: Option<f64>,
    /// New uncorrected ECC errors since the sampler started; null if not supported.
    pub ecc_uncorrected: Option<u64>,
    /// Most processes with a compute context at one time; null if not supported.
    pub processes_max: Option<u32>,
    /// Most that do not have the id of this process.
    pub other_processes_max: Option<u32>,
    /// Metrics no look could read.
    pub unsupported: Vec<String>,
}

/// A device during one repeat. Everything but the energy is of the looks after its begin: at the begin the device still rested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuUse {
    /// From the look before the generation to the look after it.
    pub window_ms: f64,
    /// Successful looks in it, both ends included.
    pub looks: u64,
    /// Energy of the device in it; null if it is too short for the counter, or nothing tells it.
    pub energy_j: Option<f64>,
    /// `nvml:counter`, or `nvml:power` (integral of the power readings); null with `energy_j`.
    pub energy_source: Option<String>,
    /// Energy / time; null with `energy_j`.
    pub power_w: Option<f64>,
    /// Mean SM clock, each look standing for the time since the one before.
    pub sm_mhz: Option<f64>,
    /// Lowest SM clock seen.
    pub sm_mhz_min: Option<f64>,
    /// Mean memory clock.
    pub memory_mhz: Option<f64>,
    /// Highest temperature.
    pub temperature_c: Option<f64>,
    /// Most memory in use by everybody.
    pub memory_used_bytes: Option<u64>,
    /// Most memory in use by this process, where the driver tells it apart.
    pub process_memory_bytes: Option<u64>,
    /// Share of the time in which a reason that is a slowdown or the power limit held the clocks down.
    pub throttled_share: Option<f64>,
    /// Their names.
    pub throttle_reasons: Vec<String>,
}

/// A device over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GpuSeries {
    /// Successful looks in the order of time.
    pub samples: Vec<GpuSample>,
    /// What was read once a second.
    pub slow: Vec<SlowSample>,
    /// Failed looks.
    pub gaps: Vec<GpuGap>,
}

impl GpuSeries {
    /// Adds a look, which is the latest so far.
    pub fn push(&mut self, t_s: f64, edge: bool, result: Result<GpuReading, GpuFailure>) {
        let (lost, message) = match result {
            Ok(reading) => {
                self.samples.push(GpuSample { t_s, edge, reading });
                return;
            }
            Err(GpuFailure::Lost(message)) => (true, message),
            Err(GpuFailure::Failed(message)) => (false, message),
        };
        let since = self.samples.last().map_or(f64::NEG_INFINITY, |sample| sample.t_s);
        match self.gaps.last_mut().filter(|gap| gap.from_s > since && gap.lost == lost && gap.message == message) {
            Some(gap) => {
                gap.to_s = t_s;
                gap.looks += 1;
            }
            None => self.gaps.push(GpuGap { from_s: t_s, to_s: t_s, looks: 1, lost, message }),
        }
    }

    fn within(&self, from_s: f64, to_s: f64) -> &[GpuSample] {
        let begin = self.samples.partition_point(|sample| sample.t_s < from_s);
        let end = self.samples.partition_point(|sample| sample.t_s <= to_s);
        &self.samples[begin..end.max(begin)]
    }

    /// Whether a look failed between these times.
    fn broken(&self, from_s: f64, to_s: f64) -> bool {
        let next = self.gaps.partition_point(|gap| gap.to_s <= from_s);
        self.gaps.get(next).is_some_and(|gap| gap.from_s < to_s)
    }

    /// The time-weighted mean of `points` (time, value). Trapezoids stand between neighbours only where no failed look lies between.
    fn time_weighted(&self, points: &[(f64, f64)]) -> Option<TimeWeighted> {
        let (_, first) = points.first()?;
        let (mut area, mut covered) = (0.0, 0.0);
        for pair in points.windows(2) {
            let ((t0, v0), (t1, v1)) = (pair[0], pair[1]);
            if t1 > t0 && !self.broken(t0, t1) {
                area += (t1 - t0) * f64::midpoint(v0, v1);
                covered += t1 - t0;
            }
        }
        Some(TimeWeighted {
            mean: if covered > 0.0 { area / covered } else { *first },
            min: points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min),
            max: points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max),
            covered_s: covered,
        })
    }

    /// How often the energy counter is updated, from when looks up to `to_s` found it changed.
    fn counter_period_s(&self, to_s: f64) -> f64 {
        let end = self.samples.partition_point(|sample| sample.t_s <= to_s);
        let recent = &self.samples[end.saturating_sub(RECENT)..end];
        let counted: Vec<(f64, f64)> =
            recent.iter().filter_map(|sample| Some((sample.t_s, sample.reading.energy_j?))).collect();
        let changes: Vec<f64> =
            counted.windows(2).filter(|pair| pair[1].1 != pair[0].1).map(|pair| pair[1].0).collect();
        let gaps: Vec<f64> = changes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        middle(&gaps).filter(|_| gaps.len() >= 2).unwrap_or(SLOWEST_COUNTER.as_secs_f64())
    }

    /// Energy from `from_s` to `to_s` and where it comes from.
    fn energy(&self, interval: Duration, from_s: f64, to_s: f64) -> Option<(f64, &'static str)> {
        let (looks, length) = (self.within(from_s, to_s), to_s - from_s);
        let mut counter = looks.iter().filter_map(|sample| Some((sample.t_s, sample.reading.energy_j?)));
        let ends = counter.next().map(|first| (first, counter.next_back().unwrap_or(first)));
        // A counter that fell was reset with the driver, one that stands still is broken; then only the integral is left.
        let works = |before: f64, after: f64| after > before || (after == before && length < STUCK.as_secs_f64());
        if let Some(((t0, before), (t1, after))) = ends.filter(|((_, before), (_, after))| works(*before, *after)) {
            let long = length >= ENERGY_UPDATES * self.counter_period_s(to_s);
            return (long && t1 - t0 >= COVERED * length).then_some((after - before, "nvml:counter"));
        }
        let points: Vec<(f64, f64)> =
            looks.iter().filter_map(|sample| Some((sample.t_s, sample.reading.power_w?))).collect();
        let power = self.time_weighted(&points)?;
        let long = length >= ENERGY_UPDATES * interval.as_secs_f64() && power.covered_s > 0.0;
        (long && power.covered_s >= COVERED * length).then_some((power.mean * length, "nvml:power"))
    }

    /// The device from `from_s` to `to_s`.
    pub fn summary(&self, interval: Duration, from_s: f64, to_s: f64) -> GpuSummary {
        let looks = self.within(from_s, to_s);
        let mut metrics = BTreeMap::new();
        let mut unsupported = Vec::new();
        for (position, name) in AVERAGED.iter().enumerate() {
            let points: Vec<(f64, f64)> =
                looks.iter().filter_map(|sample| Some((sample.t_s, sample.reading.averaged()[position]?))).collect();
            if let Some(metric) = self.time_weighted(&points) {
                metrics.insert((*name).to_owned(), metric);
            } else if self.expected(name)
                && self.samples.iter().all(|sample| sample.reading.averaged()[position].is_none())
            {
                unsupported.push((*name).to_owned());
            }
        }
        let slow: [(&str, Value<SlowReading>); 2] = [
            ("pcie_rx_bytes_per_s", |reading| reading.pcie_rx_bytes_per_s),
            ("pcie_tx_bytes_per_s", |reading| reading.pcie_tx_bytes_per_s),
        ];
        for (name, get) in slow {
            let known = || self.slow.iter().filter_map(|sample| Some((sample.t_s, get(&sample.reading)?)));
            let points: Vec<(f64, f64)> = known().filter(|(t_s, _)| (from_s..=to_s).contains(t_s)).collect();
            if let Some(metric) = self.time_weighted(&points) {
                metrics.insert(name.to_owned(), metric);
            } else if known().next().is_none() {
                unsupported.push(name.to_owned());
            }
        }
        let never = |get: Told| !self.samples.iter().any(|sample| get(&sample.reading));
        let rest: [(&str, Told); 3] = [
            ("energy_j", |reading| reading.energy_j.is_some()),
            ("throttle_reasons", |reading| reading.throttle_reasons.is_some()),
            ("processes", |reading| reading.processes.is_some()),
        ];
        unsupported.extend(rest.into_iter().filter(|(_, get)| never(*get)).map(|(name, _)| name.to_owned()));
        let ecc: Vec<u64> = self.slow.iter().filter_map(|sample| sample.reading.ecc_uncorrected).collect();
        if ecc.is_empty() {
            unsupported.push("ecc_uncorrected".to_owned());
        }
        let failed: Vec<&GpuGap> = self.gaps.iter().filter(|gap| gap.to_s >= from_s && gap.from_s <= to_s).collect();
        let mut failure_messages = BTreeMap::new();
        for gap in &failed {
            *failure_messages.entry(gap.message.clone()).or_insert(0) += gap.looks;
        }
        let failures = failed.iter().map(|gap| gap.looks).sum();
        let energy = self.energy(interval, from_s, to_s);
        let bits = regular(looks, |reading| reading.throttle_reasons);
        GpuSummary {
            from_s,
            to_s,
            attempts: looks.len() as u64 + failures,
            failures,
            failure_messages,
            failed_metrics: looks.iter().map(|sample| u64::from(sample.reading.failed_metrics)).sum(),
            lost_at_s: self.gaps.iter().find(|gap| gap.lost && gap.from_s <= to_s).map(|gap| gap.from_s),
            last_good_s: self.within(f64::NEG_INFINITY, to_s).last().map(|sample| sample.t_s),
            intervals: interval_statistics(looks, interval),
            metrics,
            energy_j: energy.map(|(joules, _)| joules),
            energy_source: energy.map(|(_, source)| source.to_owned()),
            throttle: throttle_shares(&bits),
            slowdown_share: share(&bits, |bits| has(bits, ThrottleEffect::Slowdown)),
            power_limit_share: share(&bits, |bits| has(bits, ThrottleEffect::PowerLimit)),
            ecc_uncorrected: ecc.first().zip(ecc.last()).map(|(first, last)| last.saturating_sub(*first)),
            processes_max: looks.iter().filter_map(|sample| sample.reading.processes).max(),
            other_processes_max: looks.iter().filter_map(|sample| sample.reading.other_processes).max(),
            unsupported,
        }
    }

    /// Whether a device that has the metric would have told it: of the memory of this process, only where it is among those listed.
    fn expected(&self, name: &str) -> bool {
        let listed = |sample: &GpuSample| sample.reading.processes > sample.reading.other_processes;
        name != "process_memory_bytes" || self.samples.iter().any(listed)
    }

    /// The device during a repeat with a look at `start_s` and one at `end_s`.
    pub fn during(&self, interval: Duration, start_s: f64, end_s: f64) -> GpuUse {
        let looks = self.within(start_s, end_s);
        let energy = self.energy(interval, start_s, end_s);
        let window_s = end_s - start_s;
        // Each look but the first with the time since the one before it.
        let weighted: Vec<(f64, GpuReading)> =
            looks.windows(2).map(|pair| (pair[1].t_s - pair[0].t_s, pair[1].reading)).collect();
        let mean = |get: fn(&GpuReading) -> Option<f64>| {
            let known = || weighted.iter().filter_map(|(weight, reading)| Some((*weight, get(reading)?)));
            let total: f64 = known().map(|(weight, _)| weight).sum();
            (total > 0.0).then(|| known().map(|(weight, value)| weight * value).sum::<f64>() / total)
        };
        let values = |get: fn(&GpuReading) -> Option<f64>| weighted.iter().filter_map(move |(_, reading)| get(reading));
        let largest = |get: fn(&GpuReading) -> Option<f64>| values(get).reduce(f64::max);
        let held = |reading: &GpuReading| {
            let bits = reading.throttle_reasons?;
            let held = has(bits, ThrottleEffect::Slowdown) || has(bits, ThrottleEffect::PowerLimit);
            Some(if held { 1.0 } else { 0.0 })
        };
        let all_bits =
            weighted.iter().filter_map(|(_, reading)| reading.throttle_reasons).fold(0, |all, bits| all | bits);
        GpuUse {
            window_ms: window_s * 1e3,
            looks: looks.len() as u64,
            energy_j: energy.map(|(joules, _)| joules),
            energy_source: energy.map(|(_, source)| source.to_owned()),
            power_w: energy.map(|(joules, _)| joules / window_s),
            sm_mhz: mean(|reading| reading.sm_mhz),
            sm_mhz_min: values(|reading| reading.sm_mhz).reduce(f64::min),
            memory_mhz: mean(|reading| reading.memory_mhz),
            temperature_c: largest(|reading| reading.temperature_c),
            memory_used_bytes: largest(|reading| reading.memory_used_bytes).map(|bytes| bytes as u64),
            process_memory_bytes: largest(|reading| reading.process_memory_bytes).map(|bytes| bytes as u64),
            throttled_share: mean(held),
            throttle_reasons: super::harmful_reasons(all_bits).into_iter().map(str::to_owned).collect(),
        }
    }
}

/// The values of the regular looks; of all where there was no regular one.
fn regular<T>(looks: &[GpuSample], get: fn(&GpuReading) -> Option<T>) -> Vec<T> {
    let of = |edges: bool| -> Vec<T> {
        looks.iter().filter(|sample| edges || !sample.edge).filter_map(|sample| get(&sample.reading)).collect()
    };
    let values = of(false);
    if values.is_empty() { of(true) } else { values }
}

fn share(bits: &[u64], holds: fn(u64) -> bool) -> Option<f64> {
    (!bits.is_empty()).then(|| bits.iter().filter(|bits| holds(**bits)).count() as f64 / bits.len() as f64)
}

fn throttle_shares(bits: &[u64]) -> Vec<ThrottleShare> {
    reasons(u64::MAX)
        .filter_map(|(name, effect)| {
            let held = bits.iter().filter(|bits| reasons(**bits).any(|(found, _)| found == name)).count();
            (held > 0).then(|| ThrottleShare {
                reason: name.to_owned(),
                share: held as f64 / bits.len() as f64,
                effect,
            })
        })
        .collect()
}

fn middle(values: &[f64]) -> Option<f64> {
    crate::stats::quantile::median(values)
}

fn interval_statistics(looks: &[GpuSample], interval: Duration) -> Option<IntervalStatistics> {
    let times: Vec<f64> = looks.iter().filter(|sample| !sample.edge).map(|sample| sample.t_s).collect();
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    Some(IntervalStatistics {
        n: gaps.len() as u64,
        mean_s: gaps.iter().sum::<f64>() / gaps.len() as f64,
        min_s: gaps.iter().copied().reduce(f64::min)?,
        p50_s: middle(&gaps)?,
        max_s: gaps.iter().copied().reduce(f64::max)?,
        late: gaps.iter().filter(|gap| **gap > 2.0 * interval.as_secs_f64()).count() as u64,
    })
}
