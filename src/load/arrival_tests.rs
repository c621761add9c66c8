//! Schedules against what is known of their processes in closed form.

use super::arrival::{Arrival, ArrivalError, Schedule, parse_series, read_series};
use super::workload::item::{Dataset, Item, Prompt, Turn};
use crate::config::compose::{ComposeRequest, compose};
use crate::config::schema::load::LoadConfig;

fn times(arrival: Arrival, requests: Option<u64>, duration_s: Option<f64>, seed: u64) -> Vec<f64> {
    let schedule = Schedule::new(arrival, requests, duration_s, seed).unwrap_or_else(|error| panic!("{error}"));
    schedule.map(|ns| ns as f64 / 1e9).collect()
}
/// Gaps, that before the first included.
fn gaps(times: &[f64]) -> Vec<f64> {
    let before = std::iter::once(0.0).chain(times.iter().copied());
    times.iter().zip(before).map(|(at, before)| at - before).collect()
}
fn mean_and_cv(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt() / mean)
}
/// The largest distance between the empirical distribution of `values` and `cdf`, times √n: Kolmogorov's statistic, above 1.95 with chance 0.001.
fn kolmogorov(mut values: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let distance = values.iter().enumerate().map(|(index, value)| {
        let at = cdf(*value);
        (at - index as f64 / n).abs().max(((index + 1) as f64 / n - at).abs())
    });
    distance.fold(0.0, f64::max) * n.sqrt()
}

#[test]
fn a_constant_rate_does_not_drift_and_counts_exactly() {
    let at = times(Arrival::Constant { rate: 3.0 }, Some(3_000_001), None, 0);
    assert_eq!(at[0], 0.0);
    assert_eq!(at[3_000_000], 1_000_000.0);
    assert_eq!(at[1], 0.333_333_333);
    for (rate, duration, count) in [(10.0, 3.0, 30), (0.1, 30.0, 3), (3.0, 1.0, 3), (2.5, 1.0, 3), (1000.0, 0.0005, 1)]
    {
        assert_eq!(
            times(Arrival::Constant { rate }, None, Some(duration), 0).len(),
            count,
            "{rate}/s for {duration} s"
        );
    }
    assert_eq!(times(Arrival::Constant { rate: 10.0 }, Some(7), Some(3.0), 0).len(), 7);
}

#[test]
fn poisson_gaps_are_exponential() {
    let at = times(Arrival::Poisson { rate: 50.0 }, Some(20_000), None, 11);
    let gaps = gaps(&at);
    let (mean, cv) = mean_and_cv(&gaps);
    // Standard errors: 1/√n of the mean and about 1/√n of the coefficient of variation.
    assert!((mean * 50.0 - 1.0).abs() < 5.0 / 20_000f64.sqrt(), "{mean}");
    assert!((cv - 1.0).abs() < 0.05, "{cv}");
    let statistic = kolmogorov(gaps, |gap| 1.0 - (-50.0 * gap).exp());
    assert!(statistic < 1.95, "{statistic}");
    // The count of a duration is Poisson distributed: mean 1000, variance 1000.
    let counts: Vec<f64> =
        (0..200).map(|seed| times(Arrival::Poisson { rate: 100.0 }, None, Some(10.0), seed).len() as f64).collect();
    let (mean, cv) = mean_and_cv(&counts);
    assert!((mean - 1000.0).abs() < 5.0 * (1000f64 / 200.0).sqrt(), "{mean}");
    let variance = (mean * cv).powi(2);
    assert!((variance / 1000.0 - 1.0).abs() < 5.0 * (2f64 / 200.0).sqrt(), "{variance}");
}

#[test]
fn gamma_gaps_vary_by_one_over_the_root_of_the_shape() {
    for (shape, seed) in [(0.25f64, 1), (1.0, 2), (4.0, 3), (100.0, 4)] {
        let gaps = gaps(&times(Arrival::Gamma { rate: 20.0, shape }, Some(40_000), None, seed));
        let (mean, cv) = mean_and_cv(&gaps);
        let expected = 1.0 / shape.sqrt();
        assert!((mean * 20.0 - 1.0).abs() < 5.0 * expected / 200.0, "shape {shape}: mean {mean}");
        assert!((cv / expected - 1.0).abs() < 0.05, "shape {shape}: {cv}");
    }
    // Shape 1 is the exponential distribution.
    let gaps = gaps(&times(Arrival::Gamma { rate: 20.0, shape: 1.0 }, Some(20_000), None, 2));
    assert!(kolmogorov(gaps, |gap| 1.0 - (-20.0 * gap).exp()) < 1.95);
}

#[test]
fn an_even_ramp_has_its_requests_where_the_integral_is_whole() {
    // 2/s to 10/s over 10 s: the integral is 2t + 0.4t², 60 at the end.
    let ramp = Arrival::Ramp { from: 2.0, to: 10.0, over_s: 10.0, even: true };
    assert_eq!(ramp.expected(10.0), 60.0);
    let at = times(ramp.clone(), None, Some(10.0), 0);
    assert_eq!(at.len(), 60);
    for (index, at) in at.iter().enumerate() {
        assert!((2.0 * at + 0.4 * at * at - index as f64).abs() < 1e-6, "request {index} at {at}");
    }
    // It stays at its last rate.
    assert_eq!(times(ramp.clone(), None, Some(12.0), 0).len(), 80);
    assert_eq!(ramp.expected(12.0), 80.0);
    // Falling to nothing, and rising from nothing.
    let falling = Arrival::Ramp { from: 10.0, to: 0.0, over_s: 4.0, even: true };
    assert_eq!(times(falling, Some(100), None, 0).len(), 20);
    let rising = Arrival::Ramp { from: 0.0, to: 10.0, over_s: 4.0, even: true };
    let at = times(rising, None, Some(4.0), 0);
    assert_eq!((at.len(), at[0]), (20, 0.0));
    assert!((at[5] - 2.0).abs() < 1e-9, "1.25 t² is 5 at 2 s");
    // Level, it is a constant rate.
    let level = Arrival::Ramp { from: 4.0, to: 4.0, over_s: 5.0, even: true };
    assert_eq!(times(level, None, Some(5.0), 0), times(Arrival::Constant { rate: 4.0 }, None, Some(5.0), 0));
}

#[test]
fn a_random_ramp_is_uniform_in_the_integral_of_its_rate() {
    let ramp = Arrival::Ramp { from: 100.0, to: 900.0, over_s: 20.0, even: false };
    let at = times(ramp, None, Some(20.0), 5);
    // Poisson with mean 10,000.
    assert!((at.len() as f64 - 10_000.0).abs() < 500.0, "{}", at.len());
    let statistic = kolmogorov(at, |t| (100.0 * t + 20.0 * t * t) / 10_000.0);
    assert!(statistic < 1.95, "{statistic}");
}

#[test]
fn a_series_has_each_rate_in_its_own_stretch() {
    let steps =
        parse_series("\u{feff}seconds,rate\r\n# a pause before\r\n5,200\r\n10,0\r\n12.5, 1000\r\n15,100\n").unwrap();
    assert_eq!(steps, [(5.0, 200.0), (10.0, 0.0), (12.5, 1000.0), (15.0, 100.0)]);
    let series = Arrival::Series(steps);
    assert_eq!(series.expected(20.0), 1000.0 + 0.0 + 2500.0 + 500.0);
    assert_eq!(series.expected(4.0), 0.0);
    let at = times(series, None, Some(20.0), 8);
    let count = |from: f64, to: f64| at.iter().filter(|t| (from..to).contains(*t)).count() as f64;
    assert_eq!((count(0.0, 5.0), count(10.0, 12.5)), (0.0, 0.0));
    for (from, to, expected) in [(5.0, 10.0, 1000.0f64), (12.5, 15.0, 2500.0), (15.0, 20.0, 500.0)] {
        assert!((count(from, to) - expected).abs() < 5.0 * expected.sqrt(), "{from}..{to}: {}", count(from, to));
    }
    // A series that falls to 0 ends.
    let ending = Arrival::Series(vec![(0.0, 100.0), (1.0, 0.0)]);
    let at = times(ending, Some(1_000_000), None, 1);
    assert!((50..150).contains(&at.len()) && at.iter().all(|t| *t < 1.0));
}

#[test]
fn a_trace_is_replayed_from_its_first_request_and_faster_if_asked() {
    let at_ns = vec![7_000_000_000, 5_000_000_000, 5_500_000_000];
    let trace = |speed| Arrival::Trace { at_ns: at_ns.clone(), speed };
    assert_eq!(times(trace(1.0), None, None, 0), [0.0, 0.5, 2.0]);
    assert_eq!(times(trace(4.0), None, None, 0), [0.0, 0.125, 0.5]);
    assert_eq!(times(trace(1.0), Some(2), None, 0), [0.0, 0.5]);
    assert_eq!(times(trace(1.0), None, Some(2.0), 0), [0.0, 0.5]);
    assert_eq!(trace(1.0).expected(1.0), 2.0);
    assert!(times(Arrival::Trace { at_ns: Vec::new(), speed: 1.0 }, None, None, 0).is_empty());
}

#[test]
fn the_same_seed_gives_the_same_times_and_another_gives_others() {
    let kinds = [
        Arrival::Poisson { rate: 9.0 },
        Arrival::Gamma { rate: 9.0, shape: 0.5 },
        Arrival::Ramp { from: 1.0, to: 9.0, over_s: 5.0, even: false },
        Arrival::Series(vec![(0.0, 9.0)]),
    ];
    for kind in kinds {
        let of = |seed| times(kind.clone(), Some(200), None, seed);
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
        assert!(of(3).is_sorted());
        assert!(of(3)[0] > 0.0, "a random process does not begin with a request");
    }
}

#[test]
fn what_is_no_schedule_is_refused() {
    let refused =
        |arrival, requests, duration| Schedule::new(arrival, requests, duration, 0).expect_err("refused").to_string();
    assert!(refused(Arrival::Poisson { rate: 1.0 }, None, None).contains("says when a stage ends"));
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(refused(Arrival::Constant { rate }, Some(1), None).contains("`rate`"));
    }
    assert!(refused(Arrival::Gamma { rate: 1.0, shape: 0.0 }, Some(1), None).contains("`burstiness`"));
    assert!(refused(Arrival::Trace { at_ns: vec![1], speed: 0.0 }, None, None).contains("`trace_speed`"));
    let nothing = Arrival::Ramp { from: 0.0, to: 0.0, over_s: 1.0, even: true };
    assert!(refused(nothing, Some(1), None).contains("above 0"));
    for (text, line, words) in [
        ("0,1\n0,2\n", 2, "not after"),
        ("0,1\n5\n", 2, "no rate"),
        ("0,1\nx,2\n", 2, "`x` is no time"),
        ("0,-1\n", 1, "`-1` is no rate"),
        ("0,0\n", 1, "no line with a rate above 0"),
        ("seconds,rate\n", 1, "no line with a rate above 0"),
        ("", 1, "no line"),
    ] {
        let (at, message) = parse_series(text).expect_err(text);
        assert!(at == line && message.contains(words), "{text:?}: {at}: {message}");
    }
    assert!(matches!(read_series(std::path::Path::new("/nonexistent/rates.csv")), Err(ArrivalError::Io { .. })));
}

#[test]
fn the_settings_choose_the_arrivals() {
    let config = |settings: &[&str]| -> LoadConfig {
        let overrides = settings.iter().map(|text| (*text).to_owned()).collect();
        let request = ComposeRequest { command: "load".to_owned(), overrides, ..ComposeRequest::default() };
        compose(&request).unwrap().load().unwrap()
    };
    let item = |at_ns| Item { turns: vec![Turn::new(Prompt::Text("x".to_owned()))], at_ns, id: None };
    let mut dataset = Dataset {
        name: "set".to_owned(),
        format: "prompts".to_owned(),
        items: vec![item(Some(3)), item(Some(8))],
        notes: Vec::new(),
    };
    let of = |settings: &[&str], dataset: &Dataset| Arrival::of(&config(settings), 5.0, dataset);
    assert_eq!(of(&["arrival=poisson", "rate=5"], &dataset).unwrap(), Arrival::Poisson { rate: 5.0 });
    let gamma = of(&["arrival=gamma", "rate=5", "burstiness=0.5"], &dataset).unwrap();
    assert_eq!(gamma, Arrival::Gamma { rate: 5.0, shape: 0.5 });
    let ramp = of(&["arrival=ramp", "rate=5", "rate_end=9", "duration_s=60"], &dataset).unwrap();
    assert_eq!(ramp, Arrival::Ramp { from: 5.0, to: 9.0, over_s: 60.0, even: false });
    let trace = of(&["arrival=trace", "trace_speed=2"], &dataset).unwrap();
    assert_eq!(trace, Arrival::Trace { at_ns: vec![3, 8], speed: 2.0 });
    dataset.items[1].at_ns = None;
    assert!(of(&["arrival=trace"], &dataset).unwrap_err().to_string().contains("`set` has none"));
    assert!(of(&[], &dataset).is_err());
}
