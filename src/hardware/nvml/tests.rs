//! Looks go in with their times; what they add up to is known in closed form.

use std::time::Duration;

use super::*;

const INTERVAL: Duration = Duration::from_millis(100);

#[expect(clippy::unnecessary_wraps, reason = "it stands beside looks that failed")]
fn power(power_w: f64) -> Result<GpuReading, GpuFailure> {
    Ok(GpuReading { power_w: Some(power_w), ..GpuReading::default() })
}

fn failed(message: &str) -> Result<GpuReading, GpuFailure> {
    Err(GpuFailure::Failed(message.to_owned()))
}

fn series(looks: impl IntoIterator<Item = (f64, Result<GpuReading, GpuFailure>)>) -> GpuSeries {
    let mut series = GpuSeries::default();
    for (t_s, result) in looks {
        series.push(t_s, false, result);
    }
    series
}

fn summary(looks: impl IntoIterator<Item = (f64, Result<GpuReading, GpuFailure>)>) -> GpuSummary {
    series(looks).summary(INTERVAL, 0.0, 1e9)
}

/// The same, of the stretch that ends with the last look.
fn over(series: &GpuSeries, from_s: f64) -> GpuSummary {
    series.summary(INTERVAL, from_s, series.samples.last().unwrap().t_s)
}

#[test]
fn a_late_look_weighs_what_it_stands_for() {
    // 100 W for a second in eleven looks, then a sampler held up for 9 s during which the power stays at 200 W.
    let mut looks: Vec<_> = (0..=10).map(|i| (f64::from(i) * 0.1, power(100.0))).collect();
    looks.extend([(1.0001, power(200.0)), (10.0001, power(200.0))]);
    let summary = over(&series(looks), 0.0);
    let metric = summary.metrics["power_w"];
    assert!((metric.mean - 190.0).abs() < 0.1, "{metric:?}; a mean over looks would be 115");
    assert!((summary.energy_j.unwrap() - 1900.0).abs() < 1.0);
    assert_eq!(summary.energy_source.as_deref(), Some("nvml:power"));
    let intervals = summary.intervals.unwrap();
    assert_eq!(intervals.late, 1);
    assert!((intervals.max_s - 9.0).abs() < 1e-9 && (intervals.p50_s - 0.1).abs() < 1e-9);
}

#[test]
fn an_unsupported_metric_is_absent_and_not_zero() {
    let summary = summary([(0.0, power(50.0)), (0.1, power(50.0))]);
    assert!(!summary.metrics.contains_key("utilisation"));
    for name in ["utilisation", "throttle_reasons", "energy_j", "ecc_uncorrected", "pcie_rx_bytes_per_s", "processes"] {
        assert!(summary.unsupported.contains(&name.to_owned()), "{name}");
    }
    assert!(!summary.unsupported.contains(&"power_w".to_owned()));
    assert_eq!((summary.ecc_uncorrected, summary.processes_max, summary.slowdown_share), (None, None, None));
}

#[test]
fn a_lost_device_keeps_its_last_good_time_and_the_counts() {
    let mut looks = vec![(0.0, power(10.0)), (0.1, power(10.0))];
    for i in 2..5 {
        looks.push((f64::from(i) * 0.1, Err(GpuFailure::Lost("the GPU fell off the bus".into()))));
    }
    let series = series(looks);
    assert_eq!(series.gaps.len(), 1, "equal failures in a row are kept once: {:?}", series.gaps);
    let summary = series.summary(INTERVAL, 0.0, 1.0);
    assert_eq!((summary.attempts, summary.failures), (5, 3));
    assert_eq!((summary.last_good_s, summary.lost_at_s), (Some(0.1), Some(0.2)));
    assert_eq!(summary.failure_messages["the GPU fell off the bus"], 3);
}

#[test]
fn time_without_looks_after_a_failure_is_not_made_up() {
    let looks =
        [(0.0, power(100.0)), (1.0, power(100.0)), (2.0, failed("timeout")), (9.0, power(500.0)), (10.0, power(500.0))];
    let summary = over(&series(looks), 0.0);
    let metric = summary.metrics["power_w"];
    assert_eq!((metric.covered_s, metric.mean), (2.0, 300.0));
    assert_eq!(summary.energy_j, None, "two of ten seconds do not tell the energy of ten");
}

fn counted(t_s: f64, energy_j: f64) -> (f64, Result<GpuReading, GpuFailure>) {
    (t_s, Ok(GpuReading { power_w: Some(1.0), energy_j: Some(energy_j), ..GpuReading::default() }))
}

#[test]
fn the_energy_counter_beats_the_integral_of_power() {
    let of = |looks: Vec<_>| {
        let summary = over(&series(looks), 0.0);
        (summary.energy_j, summary.energy_source)
    };
    let steady: Vec<_> = (0..=10).map(|i| counted(f64::from(i) * 0.1, 1000.0 + 50.0 * f64::from(i))).collect();
    assert_eq!(of(steady), (Some(500.0), Some("nvml:counter".to_owned())));
    // A driver reset sets the counter back; a counter that stands still for a second counts nothing.
    let reset: Vec<_> = (0..=10).map(|i| counted(f64::from(i) * 0.1, if i < 5 { 1000.0 } else { 3.0 })).collect();
    let (energy, source) = of(reset);
    assert!((energy.unwrap() - 1.0).abs() < 1e-9 && source.as_deref() == Some("nvml:power"));
    let (energy, source) = of((0..=10).map(|i| counted(f64::from(i) * 0.1, 7.0)).collect());
    assert!((energy.unwrap() - 1.0).abs() < 1e-9 && source.as_deref() == Some("nvml:power"));
}

#[test]
fn a_repeat_shorter_than_four_updates_of_the_counter_has_no_energy() {
    // 100 W; looks every 10 ms, the counter moves every 50 ms.
    let mut series = GpuSeries::default();
    for i in 0..200 {
        let t_s = f64::from(i) * 0.01;
        let (_, reading) = counted(t_s, (t_s / 0.05 + 1e-9).floor() * 5.0);
        series.push(t_s, i == 100 || i == 119 || i == 130, reading);
    }
    let short = series.during(Duration::from_millis(10), 1.0, 1.19);
    assert_eq!((short.energy_j, short.power_w, short.energy_source), (None, None, None), "190 of the 200 ms it needs");
    let long = series.during(Duration::from_millis(10), 1.0, 1.3);
    assert!((long.energy_j.unwrap() - 30.0).abs() < 1e-9 && (long.power_w.unwrap() - 100.0).abs() < 1e-6, "{long:?}");
    assert_eq!(long.energy_source.as_deref(), Some("nvml:counter"));
    assert_eq!(long.looks, 31);
}

#[test]
fn power_is_integrated_over_the_window_of_a_repeat_and_nothing_else() {
    // A ramp of 100 W/s: from 1 s to 2 s the mean is 250 W, whatever lies around it.
    let series = series((0..40).map(|i| (f64::from(i) * 0.1, power(100.0 + 10.0 * f64::from(i)))));
    let during = series.during(INTERVAL, series.samples[10].t_s, series.samples[20].t_s);
    assert!((during.energy_j.unwrap() - 250.0).abs() < 1e-6, "{during:?}");
    assert_eq!(during.energy_source.as_deref(), Some("nvml:power"));
    let short = series.during(INTERVAL, series.samples[10].t_s, series.samples[13].t_s);
    assert_eq!(short.energy_j, None, "three intervals are too few");
}

#[test]
fn clocks_and_memory_of_a_repeat_are_those_after_its_begin() {
    let look = |sm_mhz: f64, used: f64, bits: u64| {
        Ok(GpuReading {
            sm_mhz: Some(sm_mhz),
            memory_used_bytes: Some(used),
            process_memory_bytes: Some(used / 2.0),
            temperature_c: Some(sm_mhz / 30.0),
            throttle_reasons: Some(bits),
            ..GpuReading::default()
        })
    };
    // Idle at the begin; then 1 s at 1800 MHz, 3 s at 1500 MHz for heat.
    let series = series([(0.0, look(210.0, 9e9, 1)), (1.0, look(1800.0, 2e9, 0)), (4.0, look(1500.0, 3e9, 0x20))]);
    let during = series.during(INTERVAL, 0.0, 4.0);
    assert_eq!((during.sm_mhz, during.sm_mhz_min), (Some(1575.0), Some(1500.0)));
    assert_eq!((during.memory_used_bytes, during.process_memory_bytes), (Some(3_000_000_000), Some(1_500_000_000)));
    assert_eq!((during.throttled_share, during.temperature_c), (Some(0.75), Some(60.0)));
    assert_eq!(during.throttle_reasons, ["sw_thermal_slowdown"]);
}

#[test]
fn throttling_for_heat_is_told_from_the_power_limit_and_from_idling() {
    let bits = |bits: u64| Ok(GpuReading { throttle_reasons: Some(bits), ..GpuReading::default() });
    // nvml.h: GpuIdle 0x1, SwPowerCap 0x4, SwThermalSlowdown 0x20.
    let summary = summary([(0.0, bits(0x1)), (0.1, bits(0x20)), (0.2, bits(0x24)), (0.3, bits(0))]);
    assert_eq!((summary.slowdown_share, summary.power_limit_share), (Some(0.5), Some(0.25)));
    let shares: Vec<(&str, f64)> = summary.throttle.iter().map(|share| (share.reason.as_str(), share.share)).collect();
    assert_eq!(shares, [("gpu_idle", 0.25), ("sw_power_cap", 0.25), ("sw_thermal_slowdown", 0.5)]);
    assert_eq!(harmful_reasons(0x25), ["sw_power_cap", "sw_thermal_slowdown"]);
}

#[test]
fn looks_at_the_edges_of_repeats_change_neither_shares_nor_the_statistics_of_intervals() {
    let bits = |bits: u64| Ok(GpuReading { throttle_reasons: Some(bits), ..GpuReading::default() });
    let mut series = GpuSeries::default();
    for i in 0..10 {
        let t_s = f64::from(i) * 0.1;
        series.push(t_s, false, bits(if i < 5 { 0x20 } else { 0 }));
        for k in 1..5 {
            series.push(t_s + 0.001 * f64::from(k), true, bits(0x20));
        }
    }
    let summary = series.summary(INTERVAL, 0.0, 10.0);
    assert_eq!((summary.slowdown_share, summary.attempts), (Some(0.5), 50));
    let intervals = summary.intervals.unwrap();
    assert!((intervals.min_s - 0.1).abs() < 1e-9 && intervals.n == 9, "{intervals:?}");
}

#[test]
fn errors_of_memory_are_counted_from_the_start_and_traffic_is_averaged() {
    let slow = |t_s: f64, errors: u64, rx: f64| SlowSample {
        t_s,
        reading: SlowReading {
            pcie_rx_bytes_per_s: Some(rx),
            pcie_tx_bytes_per_s: None,
            ecc_uncorrected: Some(errors),
        },
    };
    let mut series = series([(0.0, power(1.0)), (3.0, power(1.0))]);
    series.slow = vec![slow(0.0, 3, 100.0), slow(1.0, 3, 300.0), slow(2.0, 5, 300.0)];
    let summary = series.summary(INTERVAL, 0.5, 3.0);
    assert_eq!(summary.ecc_uncorrected, Some(2));
    assert_eq!(summary.metrics["pcie_rx_bytes_per_s"].mean, 300.0);
    assert!(summary.unsupported.contains(&"pcie_tx_bytes_per_s".to_owned()));
}

#[test]
fn nothing_seen_is_nothing_said() {
    let summary = GpuSeries::default().summary(INTERVAL, 0.0, 1.0);
    assert!(summary.metrics.is_empty() && summary.energy_j.is_none() && summary.intervals.is_none());
    assert_eq!(summary.last_good_s, None);
    let during = GpuSeries::default().during(INTERVAL, 0.0, 1.0);
    assert!(during.looks == 0 && during.sm_mhz.is_none() && during.memory_used_bytes.is_none());
}

/// Blocks in its third look, fails in its fifth.
struct Slow(u32);

impl GpuSource for Slow {
    fn read(&mut self) -> Result<GpuReading, GpuFailure> {
        self.0 += 1;
        if self.0 == 3 {
            std::thread::sleep(Duration::from_millis(150));
        }
        if self.0 == 5 {
            return Err(GpuFailure::Failed("once".to_owned()));
        }
        Ok(GpuReading { utilisation: Some(0.5), ..GpuReading::default() })
    }
}

#[test]
fn the_thread_survives_a_blocked_look_and_an_error() {
    let sampler = GpuSampler::start(Box::new(Slow(0)), None, Duration::from_millis(1)).unwrap();
    assert_eq!(sampler.interval(), Duration::from_millis(10), "held within the limits");
    std::thread::sleep(Duration::from_millis(400));
    let summary = sampler.finish().summary(Duration::from_millis(10), 0.0, 10.0);
    assert!(summary.attempts >= 6 && summary.failures == 1, "{} {}", summary.attempts, summary.failures);
    assert!(summary.intervals.unwrap().max_s >= 0.15);
    assert_eq!(summary.metrics["utilisation"].mean, 0.5);
}

#[test]
fn a_look_asked_for_is_made_at_once_and_marked() {
    let sampler = GpuSampler::start(Box::new(Slow(100)), None, Duration::from_secs(1)).unwrap();
    let before = sampler.now_s();
    let start = sampler.look().unwrap();
    let end = sampler.look().unwrap();
    assert!(before <= start && start <= end && end < 0.9, "{before} {start} {end}: long before the next regular look");
    assert_eq!(sampler.during(start, end).looks, 2);
    let series = sampler.finish();
    let edges: Vec<bool> = series.samples.iter().map(|sample| sample.edge).collect();
    assert_eq!(edges, [false, true, true]);
}

/// Never comes back from its second look.
struct Hangs(u32);

impl GpuSource for Hangs {
    fn read(&mut self) -> Result<GpuReading, GpuFailure> {
        self.0 += 1;
        if self.0 == 2 {
            std::thread::sleep(Duration::from_hours(1));
        }
        power(7.0)
    }
}

#[test]
fn a_driver_that_hangs_holds_up_neither_the_run_nor_its_end() {
    let sampler = GpuSampler::start(Box::new(Hangs(0)), None, Duration::from_millis(10)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let began = std::time::Instant::now();
    assert_eq!(sampler.look(), None);
    let series = sampler.finish();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(series.samples.len(), 1, "what was seen before is kept");
}
