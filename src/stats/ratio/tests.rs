use super::*;

const A: [f64; 7] = [10.1, 10.25, 10.0, 10.2, 10.15, 10.05, 10.5];
const B: [f64; 8] = [10.0, 10.22, 9.9, 10.12, 10.06, 9.95, 10.3, 9.97];
const X: [f64; 12] = [12.1, 11.9, 12.4, 12.0, 13.7, 12.2, 11.8, 12.05, 12.3, 12.15, 14.0, 12.22];
const Y: [f64; 11] = [11.5, 11.7, 11.9, 11.6, 12.9, 11.8, 11.4, 11.65, 11.95, 11.75, 11.55];

fn near(actual: [f64; 2], expected: [f64; 2], tolerance: f64) {
    for (actual, expected) in actual.into_iter().zip(expected) {
        assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected} ± {tolerance}");
    }
}

fn one(rows: &[f64]) -> Groups {
    Groups::single(rows.to_vec())
}

fn units(rows: &[f64]) -> Groups {
    Groups(rows.iter().map(|row| vec![*row]).collect())
}

#[test]
fn means_agree_with_a_bootstrap_t_by_numpy() {
    // numpy 2.4.6, default_rng(5), 400,000 resamples X[ia], Y[ib]: z = |ln(mean/mean)* − ln(mean/mean)| / se*, q = np.quantile(z, .95),
    // np.exp(e ± q·se) with se² = var(ddof=1)/(n·mean²) of both sides, and np.mean(z >= e/se).
    let found = ratio_interval(&one(&X), &one(&Y), Statistic::Mean, Design::Independent, 0.95, 200_000, 3).unwrap();
    near(found.interval, [1.002_720_8, 1.103_279_4], 7e-4);
    assert!((found.p_value - 0.040_35).abs() < 0.002, "{}", found.p_value);
    assert_eq!(found.method, IntervalMethod::BootstrapT);
    assert_eq!((found.n_candidate, found.n_baseline, found.units_candidate, found.units_baseline), (12, 11, 12, 11));
    let [low, high] = found.equivalence_interval;
    assert!(found.interval[0] < low && low < found.ratio && found.ratio < high && high < found.interval[1]);
}

#[test]
fn medians_and_bca_agree_with_scipy() {
    // scipy 1.17.1: stats.bootstrap((X, Y), lambda a, b, axis: np.median(a, axis)/np.median(b, axis), n_resamples=400_000,
    //   method='percentile', rng=default_rng(5)), and 'BCa', and with np.mean
    let found = ratio_interval(&one(&X), &one(&Y), Statistic::Median, Design::Independent, 0.95, 200_000, 3).unwrap();
    near(found.interval, [1.020_920_5, 1.060_344_8], 3e-4);
    assert_eq!(found.method, IntervalMethod::PercentileBootstrap);
    let mut bootstrap = Bootstrap::new(200_000, 4);
    let mut bca = |statistic| bca_interval(&mut bootstrap, &X, &Y, statistic, 0.95).unwrap();
    near(bca(Statistic::Mean).interval, [1.019_001_8, 1.096_153_8], 5e-4);
    near(bca(Statistic::Median).interval, [1.021_008_4, 1.061_471_9], 3e-4);
    assert_eq!(bca(Statistic::Mean).method, IntervalMethod::BcaBootstrap);
}

#[test]
fn few_units_agree_with_scipys_t_tests() {
    // scipy 1.17.1: w = stats.ttest_ind(np.log(A), np.log(B), equal_var=False); w.pvalue, np.exp(w.confidence_interval(.95))
    for design in [Design::Independent, Design::Hierarchical] {
        let found = ratio_interval(&units(&A), &units(&B), Statistic::Median, design, 0.95, 100, 1).unwrap();
        assert_eq!(found.method, IntervalMethod::WelchLog);
        near(found.interval, [0.994_180_783_884_627_5, 1.028_622_112_366_186_7], 1e-9);
        near([found.ratio, found.p_value], [1.011_254_833_359_661_6, 0.177_567_086_501_740_83], 1e-9);
    }
    // stats.ttest_1samp(np.log([1.03, 1.01, 1.05, .99, 1.02]), 0), whatever level each block had
    let (ratios, levels) = ([1.03, 1.01, 1.05, 0.99, 1.02], [3.0, 30.0, 7.0, 1.0, 12.0]);
    let candidate: Vec<f64> = ratios.iter().zip(levels).map(|(ratio, level)| ratio * level).collect();
    let blocked =
        |a: &[f64], b: &[f64]| ratio_interval(&units(a), &units(b), Statistic::Mean, Design::Blocked, 0.95, 100, 1);
    let found = blocked(&candidate, &levels).unwrap();
    assert_eq!((found.method, found.units_candidate), (IntervalMethod::StudentLog, 5));
    near(found.interval, [0.992_410_683_674_314_5, 1.047_953_167_303_801_4], 1e-9);
    near([found.ratio, found.p_value], [1.019_803_863_114_191_7, 0.116_166_144_113_963_81], 1e-9);
}

#[test]
fn blocks_are_judged_by_signed_ranks() {
    // The logarithms of the ratios are those of `hodges_lehmann::tests`, whose brute force gives 0.45 [0.05, 0.9] and p = 0.0390625.
    let logs = [0.3f64, -0.1, 0.5, 0.7, -0.2, 0.9, 0.4, 1.1];
    let candidate: Vec<f64> = logs.iter().map(|log| 10.0 * log.exp()).collect();
    let baseline = units(&[10.0; 8]);
    let blocked =
        |rows: &[f64]| ratio_interval(&units(rows), &baseline, Statistic::Mean, Design::Blocked, 0.95, 100, 1);
    let found = blocked(&candidate).unwrap();
    assert_eq!(found.method, IntervalMethod::SignedRank);
    near(found.interval, [0.05f64.exp(), 0.9f64.exp()], 1e-9);
    near([found.ratio, found.p_value], [0.45f64.exp(), 0.039_062_5], 1e-9);
    // One block of eight a hundred times slower moves the end of the interval no further than the next one would.
    let mut spoilt = candidate.clone();
    spoilt[7] *= 100.0;
    let robust = blocked(&spoilt).unwrap();
    assert!(robust.interval[1] < 30.0 && robust.interval[0] > 1.0, "{:?}", robust.interval);
    assert_eq!(ratio_interval(&units(&A), &baseline, Statistic::Mean, Design::Blocked, 0.95, 100, 1), None);
}

#[test]
fn the_fieller_interval_is_where_the_t_test_turns() {
    // scipy 1.17.1: brentq of (mean(A) − r·mean(B))² − t²·(var(A)/7 + r²·var(B)/8), t of Welch's degrees of freedom
    near(fieller_interval(&A, &B, 0.95).unwrap(), [0.994_073_209_485_169_1, 1.028_724_937_756_227_8], 1e-9);
    assert_eq!(fieller_interval(&[1.0, 2.0, 3.0], &[-1.0, 0.0, 1.5], 0.95), None);
    assert_eq!(fieller_interval(&[2.0, 2.0], &[4.0, 4.0], 0.95), Some([0.5, 0.5]));
    assert_eq!(fieller_interval(&[2.0], &[4.0, 5.0], 0.95), None);
    // A cross-check of the resampled interval, of another method altogether.
    let found = ratio_interval(&one(&X), &one(&Y), Statistic::Mean, Design::Independent, 0.95, 20_000, 3).unwrap();
    near(found.interval, fieller_interval(&X, &Y, 0.95).unwrap(), 0.01);
}

#[test]
fn p_is_below_a_level_exactly_where_the_interval_excludes_one() {
    let mut random = crate::stats::bootstrap::Generator::new(9);
    let mut bootstrap = Bootstrap::new(2000, 10);
    let designs = [
        (Design::Independent, Statistic::Mean),
        (Design::Independent, Statistic::Median),
        (Design::Hierarchical, Statistic::Mean),
        (Design::Blocked, Statistic::Mean),
        (Design::MovingBlocks { length: 3 }, Statistic::Mean),
        (Design::MovingBlocks { length: 3 }, Statistic::Median),
    ];
    for (design, statistic) in designs {
        let (mut excluded, mut apart) = (0, 0);
        for _ in 0..200 {
            let mut rows =
                |scale: f64| units(&(0..24).map(|_| scale * (1.0 + 0.1 * random.uniform())).collect::<Vec<_>>());
            let (a, b) = (rows(1.015), rows(1.0));
            // Some series hold too few effective rows.
            let found = ratio_interval_with(&mut bootstrap, &a, &b, statistic, design, 0.95);
            let Some(found) = found else { continue };
            let excludes = found.interval[0] > 1.0 || found.interval[1] < 1.0;
            excluded += usize::from(excludes);
            // Interpolated quantiles of 2000 resamples may differ from counting by one of them.
            apart += usize::from(excludes != (found.p_value < 0.05) && (found.p_value - 0.05).abs() > 0.001);
        }
        assert!((5..195).contains(&excluded), "{design:?} {statistic:?} must be tested on both sides: {excluded}");
        assert_eq!(apart, 0, "{design:?} {statistic:?}");
    }
}

#[test]
fn metrics_that_share_resamples_get_what_they_get_alone() {
    let mut shared = Bootstrap::new(500, 7);
    for scale in [1.0, 2.0, 3.0] {
        let x: Vec<f64> = X.iter().map(|row| row * scale).collect();
        for statistic in [Statistic::Mean, Statistic::Median] {
            let with = ratio_interval_with(&mut shared, &one(&x), &one(&Y), statistic, Design::Independent, 0.95);
            assert_eq!(with, ratio_interval(&one(&x), &one(&Y), statistic, Design::Independent, 0.95, 500, 7));
        }
    }
}

#[test]
fn the_sides_do_not_share_their_draws() {
    // With the same draws the ratio of a sample to itself would not vary.
    for statistic in [Statistic::Mean, Statistic::Median] {
        let found = ratio_interval(&one(&X), &one(&X), statistic, Design::Independent, 0.95, 1000, 7).unwrap();
        assert!(found.interval[0] < 0.99 && found.interval[1] > 1.01 && found.p_value > 0.5, "{found:?}");
    }
}

#[test]
fn equal_rows_have_an_interval_of_no_width() {
    let (ten, eleven) = (vec![10.0; 30], vec![11.0; 30]);
    let designs = [Design::Independent, Design::Blocked, Design::Hierarchical, Design::MovingBlocks { length: 0 }];
    for design in designs {
        for statistic in [Statistic::Mean, Statistic::Median] {
            let ratio = |a: &[f64]| ratio_interval(&units(a), &units(&ten), statistic, design, 0.95, 100, 1).unwrap();
            let found = ratio(&eleven);
            near(found.interval, [1.1, 1.1], 1e-12);
            assert!(found.p_value < 0.05, "{design:?} {statistic:?}: {}", found.p_value);
            assert_eq!((ratio(&ten).interval, ratio(&ten).p_value), ([1.0, 1.0], 1.0), "{design:?} {statistic:?}");
        }
    }
}

#[test]
fn a_coarse_clock_still_has_an_interval() {
    let mut rows = vec![10.0; 19];
    rows.push(11.0);
    let found = ratio_interval(&one(&rows), &one(&rows), Statistic::Mean, Design::Independent, 0.95, 1000, 1).unwrap();
    assert_eq!(found.method, IntervalMethod::WelchDelta);
    assert!(found.interval[0] < 1.0 && found.interval[1] > 1.0, "{found:?}");
}

#[test]
fn what_cannot_be_judged_has_no_estimate() {
    let good = one(&X);
    let of = |a: &Groups, b: &Groups, design| ratio_interval(a, b, Statistic::Mean, design, 0.95, 100, 1);
    for bad in [Groups::default(), one(&[]), one(&[1.0]), one(&[0.0; 20]), one(&[-1.0; 20]), one(&[f64::NAN; 20])] {
        let designs = [Design::Independent, Design::Hierarchical, Design::Blocked, Design::MovingBlocks { length: 0 }];
        for design in designs {
            assert_eq!(of(&good, &bad, design), None, "{bad:?} {design:?}");
            assert_eq!(of(&bad, &good, design), None, "{bad:?} {design:?}");
        }
    }
    // One process a side says nothing about how processes differ; twelve rows are too few for a 99th percentile.
    assert_eq!(of(&good, &good, Design::Hierarchical), None);
    let p99 = Statistic::Quantile { per_mille: 990 };
    assert_eq!(ratio_interval(&good, &good, p99, Design::Independent, 0.95, 100, 1), None);
    assert_eq!(ratio_interval(&good, &good, Statistic::Mean, Design::Independent, 1.0, 100, 1), None);
    assert_eq!(ratio_interval(&good, &good, Statistic::Mean, Design::Independent, 0.95, 0, 1), None);
}
