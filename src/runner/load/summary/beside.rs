//! What was watched beside the requests of a stage: energy and its cost, and what the server said of itself.

use std::collections::BTreeMap;

use super::series::{growth, mean_and_largest, mean_of_histogram};
use crate::record::gpu::GpuTelemetry;
use crate::record::load::context::StageRecord;
use crate::record::load::metrics::{CostBlock, ServerBlock};
use crate::record::load::server_metrics::{COUNTERS, GAUGES, HISTOGRAMS, ServerMetrics};
use crate::runner::gpu::{GpuVerdict, judge_served};

/// From the begin of the first stage to the end of the last, in seconds of the run's clock; all time without stages.
fn stretch(stages: &[StageRecord]) -> (f64, f64) {
    let begin = stages.iter().map(|stage| stage.begin_ns).min();
    let end = stages.iter().map(|stage| stage.end_ns).max();
    match begin.zip(end).filter(|(begin, end)| end > begin) {
        Some((begin, end)) => (begin as f64 / 1e9, end as f64 / 1e9),
        None => (0.0, f64::MAX),
    }
}

/// Whether the device worked during the stages: a look found a kernel running, or none could tell.
///
/// A machine may have more devices than the server uses; the energy of those that idle is not that of its tokens.
fn served(telemetry: &GpuTelemetry, (from_s, to_s): (f64, f64)) -> bool {
    let Some(shares) = &telemetry.samples.utilisation else { return true };
    let inside = telemetry.samples.t_s.iter().zip(shares).filter(|(at, _)| (from_s..=to_s).contains(*at));
    let mut known = inside.filter_map(|(_, share)| *share).peekable();
    known.peek().is_none() || known.any(|share| share > 0.0)
}

/// What the looks at each device say of the run.
pub(super) fn devices(gpus: &[GpuTelemetry], stages: &[StageRecord]) -> Vec<GpuVerdict> {
    let time = stretch(stages);
    let judge = |telemetry: &GpuTelemetry| {
        let looks = &telemetry.samples.t_s;
        // The means are of the looks there are, so the stretch is not longer than they are.
        let from_s = looks.first().map_or(time.0, |first| time.0.max(*first));
        let to_s = looks.last().map_or(time.1, |last| time.1.min(*last)).max(from_s);
        judge_served(telemetry, from_s, to_s, served(telemetry, time))
    };
    gpus.iter().map(judge).collect()
}

/// Energy from `from_s` to `to_s` of all devices that worked during the run; `None` if none did, or one of them does not tell.
pub(super) fn energy_of_all(gpus: &[GpuTelemetry], stages: &[StageRecord], from_s: f64, to_s: f64) -> Option<f64> {
    let time = stretch(stages);
    let mut of_each = gpus.iter().filter(|gpu| served(gpu, time)).map(|gpu| energy_j(gpu, from_s, to_s)).peekable();
    of_each.peek()?;
    of_each.sum()
}

/// Energy of the device from `from_s` to `to_s` of the run in J; `None` if its looks do not tell.
///
/// Whether the counter works, and whether looks cover the time, is for [`crate::hardware::nvml::GpuSeries`] to say. Its energy is that between
/// the first and the last look inside; where looks stand on both sides of the ends, the counter is read at the ends, between them.
pub(super) fn energy_j(telemetry: &GpuTelemetry, from_s: f64, to_s: f64) -> Option<f64> {
    let series = telemetry.series();
    let summary = series.summary(telemetry.interval(), from_s, to_s);
    let inside = summary.energy_j?;
    if summary.energy_source.as_deref() != Some("nvml:counter") {
        return Some(inside);
    }
    let counter: Vec<(f64, f64)> =
        series.samples.iter().filter_map(|sample| Some((sample.t_s, sample.reading.energy_j?))).collect();
    let around =
        counter.first().is_some_and(|look| look.0 <= from_s) && counter.last().is_some_and(|look| look.0 >= to_s);
    Some(growth(&counter, from_s, to_s).filter(|_| around).unwrap_or(inside))
}

/// Energy and price of `tokens` output tokens that took `elapsed_s`; 0 tokens have no price.
pub(super) fn cost(energy_j: Option<f64>, usd_per_hour: Option<f64>, elapsed_s: f64, tokens: Option<u64>) -> CostBlock {
    let tokens = tokens.filter(|tokens| *tokens > 0).map(|tokens| tokens as f64);
    CostBlock {
        energy_j,
        j_per_output_token: energy_j.zip(tokens).map(|(joules, tokens)| joules / tokens),
        usd_per_million_output_tokens: usd_per_hour
            .zip(tokens)
            .map(|(usd, tokens)| usd / 3600.0 * elapsed_s / tokens * 1e6),
    }
}

/// What the server said of itself from `from_ns` to `to_ns` of the run's clock; `None` if nothing it said is of that time.
pub(super) fn server(metrics: &ServerMetrics, from_ns: u64, to_ns: u64) -> Option<ServerBlock> {
    let seconds = |t_ns: u64| t_ns as f64 / 1e9;
    let (from, to) = (seconds(from_ns), seconds(to_ns));
    let points = |points: Vec<(u64, f64)>| points.into_iter().map(|(t, value)| (seconds(t), value)).collect::<Vec<_>>();
    let named = |names: &[&str], get: &dyn Fn(&str) -> Option<f64>| {
        names.iter().filter_map(|name| Some(((*name).to_owned(), get(name)?))).collect::<BTreeMap<String, f64>>()
    };
    let gauges: BTreeMap<String, [f64; 2]> = GAUGES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), mean_and_largest(&points(metrics.gauge(name)), from, to)?)))
        .collect();
    let counters = named(&COUNTERS, &|name| growth(&points(metrics.counter(name)), from, to));
    let latencies_ms = named(&HISTOGRAMS, &|name| {
        let totals: Vec<(f64, f64, f64)> =
            metrics.histogram(name).into_iter().map(|(t, total)| (seconds(t), total.sum, total.count)).collect();
        mean_of_histogram(&totals, from, to).map(|mean| mean * 1e3)
    });
    let said = !(gauges.is_empty() && counters.is_empty() && latencies_ms.is_empty());
    said.then(|| ServerBlock { dialect: metrics.dialect.clone(), gauges, counters, latencies_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::identify::GpuIdentity;
    use crate::hardware::nvml::{GpuReading, GpuSample};
    use crate::record::gpu::{GPU_SCHEMA_VERSION, GpuColumns, SlowColumns};
    use crate::record::load::server_metrics::{HistogramTotal, ServerSample};

    /// A look each 100 ms for 10 s.
    fn telemetry(reading: impl Fn(f64) -> GpuReading) -> GpuTelemetry {
        let samples: Vec<GpuSample> = (0..=100)
            .map(|look| f64::from(look) / 10.0)
            .map(|t_s| GpuSample { t_s, edge: false, reading: reading(t_s) })
            .collect();
        GpuTelemetry {
            schema_version: GPU_SCHEMA_VERSION,
            run_id: "r".to_owned(),
            complete: true,
            driver_version: None,
            device: GpuIdentity {
                nvml_index: 0,
                cuda_ordinal: None,
                uuid: None,
                name: None,
                pci_bus_id: None,
                memory_bytes: None,
                compute_capability: None,
                power_limit_w: None,
                max_sm_mhz: None,
                max_memory_mhz: None,
                mig: None,
                ecc: None,
                compute_processes: None,
            },
            interval_s: 0.1,
            before: None,
            repeats: Vec::new(),
            gaps: Vec::new(),
            samples: GpuColumns::of(&samples),
            slow_samples: SlowColumns::of(&[]),
        }
    }

    #[test]
    fn energy_is_that_of_the_counter_between_the_ends_of_the_stage() {
        let counted = telemetry(|t_s| GpuReading { energy_j: Some(1000.0 + 300.0 * t_s), ..GpuReading::default() });
        // 300 W from 2.05 to 7.07 s, both between two looks.
        let joules = energy_j(&counted, 2.05, 7.07).unwrap();
        assert!((joules - 300.0 * 5.02).abs() < 1e-6, "{joules}");
        assert_eq!(energy_j(&counted, 20.0, 25.0), None, "nobody looked");
    }

    #[test]
    fn without_a_counter_energy_is_the_integral_of_the_power() {
        let power = telemetry(|t_s| GpuReading {
            power_w: Some(if t_s < 5.0 { 100.0 } else { 500.0 }),
            ..GpuReading::default()
        });
        let joules = energy_j(&power, 1.0, 9.0).unwrap();
        // 4 s of 100 W and 4 s of 500 W, the step spread over one interval.
        assert!((joules - 2400.0).abs() < 25.0, "{joules}");
        assert_eq!(energy_j(&telemetry(|_| GpuReading::default()), 1.0, 9.0), None);
    }

    #[test]
    fn a_token_costs_its_share_of_energy_and_price() {
        let block = cost(Some(500.0), Some(3.6), 20.0, Some(1000));
        assert_eq!(block.j_per_output_token, Some(0.5));
        // 3.6 USD per hour are 0.001 per second: 0.02 USD for 1000 tokens.
        assert!((block.usd_per_million_output_tokens.unwrap() - 20.0).abs() < 1e-9);
        assert_eq!(cost(None, None, 20.0, Some(1000)), CostBlock::default());
        let nothing = cost(Some(1.0), Some(1.0), 1.0, Some(0));
        assert_eq!((nothing.j_per_output_token, nothing.usd_per_million_output_tokens), (None, None));
    }

    #[test]
    fn what_the_server_said_is_cut_to_the_stage() {
        let sample = |second: u64| {
            let t = second as f64;
            ServerSample {
                t_ns: second * 1_000_000_000,
                gauges: BTreeMap::from([("running".to_owned(), if second < 5 { 2.0 } else { 8.0 })]),
                counters: BTreeMap::from([("generated_tokens".to_owned(), 50.0 * t)]),
                histograms: BTreeMap::from([("ttft".to_owned(), HistogramTotal { sum: 0.3 * t, count: 2.0 * t })]),
            }
        };
        let metrics = ServerMetrics {
            schema_version: 1,
            run_id: "r".to_owned(),
            url: "http://127.0.0.1/metrics".to_owned(),
            dialect: "vllm".to_owned(),
            interval_s: 1.0,
            samples: (0..=10).map(sample).collect(),
            failures: 0,
            first_failure: None,
        };
        let block = server(&metrics, 5_500_000_000, 9_500_000_000).unwrap();
        assert_eq!((block.dialect.as_str(), block.gauges["running"]), ("vllm", [8.0, 8.0]));
        assert_eq!(block.gauges.len(), 1, "what the server does not say is absent");
        assert!((block.counters["generated_tokens"] - 200.0).abs() < 1e-9);
        assert!((block.latencies_ms["ttft"] - 150.0).abs() < 1e-9);
        assert_eq!(server(&metrics, 20_000_000_000, 21_000_000_000), None);
    }
}
