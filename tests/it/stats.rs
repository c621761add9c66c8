//! What the intervals promise: an interval called 95 % must hold the truth in about 95 % of many seeded experiments.

use perfprof::stats::bootstrap::{Method, Statistic, interval};
use perfprof::stats::outliers::outliers;
use perfprof::stats::steady_state::trend;
use perfprof::stats::summary::Summary;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Exp, LogNormal, Normal};

/// Share of `trials` in which `holds` is true.
fn share(trials: u32, seed: u64, mut holds: impl FnMut(&mut StdRng) -> bool) -> f64 {
    let mut random = StdRng::seed_from_u64(seed);
    f64::from((0..trials).map(|_| u32::from(holds(&mut random))).sum::<u32>()) / f64::from(trials)
}

#[test]
fn students_interval_holds_the_mean_of_normal_data_in_95_of_100_runs() {
    let normal = Normal::new(100.0, 7.0).expect("a valid distribution");
    for n in [3usize, 8, 30] {
        let covered = share(4000, n as u64, |random| {
            let values: Vec<f64> = (0..n).map(|_| random.sample(normal)).collect();
            let [low, high] = Summary::from_values("ms", &values).ci95.expect("n ≥ 2");
            low <= 100.0 && 100.0 <= high
        });
        // Three standard errors of a share of 0.95 over 4000 trials are 0.0103.
        assert!((covered - 0.95).abs() < 0.0104, "n = {n}: {covered}");
    }
}

#[test]
fn bca_covers_the_mean_of_skewed_data_better_than_percentiles() {
    // Means of 20 exponential values: a 95 % bootstrap interval is known to fall short at this size (Efron & Tibshirani §14), the
    // percentile one further.
    let exponential = Exp::new(1.0).expect("a valid distribution");
    let covered = |method| {
        share(600, 11, |random| {
            let values: Vec<f64> = (0..20).map(|_| random.sample(exponential)).collect();
            let seed = random.random();
            let [low, high] = interval(&values, Statistic::Mean, method, 0.95, 800, seed).expect("20 finite values");
            low <= 1.0 && 1.0 <= high
        })
    };
    let (bca, percentile) = (covered(Method::Bca), covered(Method::Percentile));
    assert!((0.89..0.97).contains(&bca), "{bca}");
    assert!((0.86..0.95).contains(&percentile), "{percentile}");
    assert!(bca >= percentile, "{bca} < {percentile}");
}

#[test]
fn ordinary_timings_are_rarely_called_outliers() {
    // Log-normal with a coefficient of variation of 5 %, a usual spread of repeats.
    let timing = LogNormal::new(3.0, 0.05).expect("a valid distribution");
    let flagged = share(2000, 5, |random| {
        let values: Vec<f64> = (0..30).map(|_| random.sample(timing)).collect();
        !outliers(&values).is_empty()
    });
    assert!(flagged < 0.005, "{flagged}");
}

#[test]
fn a_series_without_trend_is_called_one_at_the_stated_rate() {
    let normal = Normal::new(100.0, 7.0).expect("a valid distribution");
    for (n, limit) in [(5usize, 0.05), (12, 0.05), (60, 0.05)] {
        let significant = share(1500, 100 + n as u64, |random| {
            let values: Vec<f64> = (0..n).map(|_| random.sample(normal)).collect();
            trend(&values).expect("enough values").p_value < limit
        });
        // The exact test is conservative where few orders exist; 0.017 is three standard errors.
        assert!(significant < limit + 0.017, "n = {n}: {significant}");
        assert!(significant > 0.01, "n = {n}: {significant}");
    }
}
