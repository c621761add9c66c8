//! Studies whose truth is known, simulated by the thousand: how often the intervals hold it, how often nothing is taken for a difference.
//!
//! What runs by default is bounded and seeded. The table of `docs/results/statistics.md`:
//! `cargo test --release --lib stats::simulation -- --ignored --nocapture`.

use rand_distr::{Distribution, LogNormal, Normal};

use super::bootstrap::{Bootstrap, Generator, Statistic};
use super::ratio::{Design, Groups, IntervalMethod, RatioEstimate, ratio_interval_with};

/// candidate / baseline in every simulated study.
const TRUTH: f64 = 1.05;

/// How one row varies around 1.
#[derive(Debug, Clone, Copy)]
enum Law {
    Normal {
        cv: f64,
    },
    LogNormal {
        sigma: f64,
    },
    /// Two modes as of a machine with two clock states: `share` of the rows lie 13 % higher.
    Bimodal {
        share: f64,
    },
    /// Most rows near 1, `share` of them far slower.
    Spikes {
        share: f64,
    },
}

impl Law {
    fn draw(self, random: &mut Generator) -> f64 {
        let normal = |random: &mut Generator, spread: f64| Normal::new(0.0, spread).unwrap().sample(random);
        match self {
            Self::Normal { cv } => 1.0 + normal(random, cv),
            Self::LogNormal { sigma } => LogNormal::new(0.0, sigma).unwrap().sample(random),
            Self::Bimodal { share } => {
                let mode = if random.uniform() < share { 25.5 / 22.5 } else { 1.0 };
                mode + normal(random, 0.01)
            }
            Self::Spikes { share } => {
                let slow = if random.uniform() < share { -(1.0 - random.uniform()).ln() } else { 0.0 };
                (1.0 + normal(random, 0.02)).abs() + slow
            }
        }
    }
    fn rows(self, n: usize, scale: f64, random: &mut Generator) -> Vec<f64> {
        (0..n).map(|_| scale * self.draw(random)).collect()
    }
}

/// AR(1) with unit variance.
fn autocorrelated(n: usize, phi: f64, random: &mut Generator) -> Vec<f64> {
    let normal = Normal::new(0.0, 1.0).unwrap();
    let mut state: f64 = normal.sample(random);
    let innovation = (1.0 - phi * phi).sqrt();
    (0..n)
        .map(|_| {
            let now = state;
            state = phi * state + innovation * normal.sample(random);
            now
        })
        .collect()
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Independent { n: usize, m: usize },
    Hierarchical { units: usize, rows: usize, between: f64 },
    Blocked { blocks: usize, rows: usize },
    Autocorrelated { n: usize, phi: f64 },
}

fn study(kind: Kind, law: Law, truth: f64, random: &mut Generator) -> [Groups; 2] {
    match kind {
        Kind::Independent { n, m } => [n, m]
            .map(|_| ())
            .into_iter()
            .zip([(n, truth), (m, 1.0)])
            .map(|((), (n, scale))| Groups::single(law.rows(n, scale, random)))
            .collect::<Vec<_>>()
            .try_into()
            .unwrap(),
        Kind::Hierarchical { units, rows, between } => [truth, 1.0].map(|scale| {
            let level = LogNormal::new(0.0, between).unwrap();
            Groups((0..units).map(|_| law.rows(rows, scale * level.sample(random), random)).collect())
        }),
        Kind::Blocked { blocks, rows } => {
            let drift = LogNormal::new(0.0, 0.1).unwrap();
            let levels: Vec<f64> = (0..blocks).map(|_| drift.sample(random)).collect();
            [truth, 1.0].map(|scale| Groups(levels.iter().map(|level| law.rows(rows, scale * level, random)).collect()))
        }
        Kind::Autocorrelated { n, phi } => [truth, 1.0].map(|scale| {
            let series = autocorrelated(n, phi, random);
            let row = |z: &f64| match law {
                Law::LogNormal { sigma } => scale * (sigma * z).exp(),
                _ => scale * (1.0 + 0.05 * z),
            };
            Groups::single(series.iter().map(row).collect())
        }),
    }
}

struct Outcome {
    covered: f64,
    low_miss: f64,
    high_miss: f64,
    width: f64,
    missing: usize,
    method: Option<IntervalMethod>,
}

fn simulate(
    kind: Kind,
    law: Law,
    statistic: Statistic,
    design: Design,
    studies: usize,
    resamples: u32,
    seed: u64,
) -> Outcome {
    let mut random = Generator::new(seed);
    let mut bootstrap = Bootstrap::new(resamples, seed ^ 1);
    let mut outcome = Outcome { covered: 0.0, low_miss: 0.0, high_miss: 0.0, width: 0.0, missing: 0, method: None };
    for _ in 0..studies {
        let [candidate, baseline] = study(kind, law, TRUTH, &mut random);
        let Some(RatioEstimate { interval: [low, high], method, .. }) =
            ratio_interval_with(&mut bootstrap, &candidate, &baseline, statistic, design, 0.95)
        else {
            outcome.missing += 1;
            continue;
        };
        outcome.method = Some(method);
        outcome.low_miss += f64::from(high < TRUTH);
        outcome.high_miss += f64::from(low > TRUTH);
        outcome.width += (high / low).ln();
    }
    let told = (studies - outcome.missing).max(1) as f64;
    outcome.low_miss /= told;
    outcome.high_miss /= told;
    outcome.width /= told;
    outcome.covered = 1.0 - outcome.low_miss - outcome.high_miss;
    outcome
}

fn print(kind: Kind, law: Law, statistic: Statistic, design: Design, studies: usize, resamples: u32) {
    let o = simulate(kind, law, statistic, design, studies, resamples, 11);
    let se = (o.covered * (1.0 - o.covered) / studies as f64).sqrt();
    println!(
        "{kind:?} {law:?} {statistic:?}: {:.1} ± {:.1} % (misses {:.1} below, {:.1} above) width {:.2} % {:?} missing {}",
        100.0 * o.covered,
        100.0 * se,
        100.0 * o.low_miss,
        100.0 * o.high_miss,
        100.0 * o.width,
        o.method,
        o.missing
    );
}

#[test]
#[ignore = "minutes"]
fn explore_independent() {
    for statistic in [Statistic::Mean, Statistic::Median] {
        for law in [
            Law::Normal { cv: 0.05 },
            Law::LogNormal { sigma: 0.3 },
            Law::LogNormal { sigma: 1.0 },
            Law::Bimodal { share: 0.3 },
            Law::Bimodal { share: 0.5 },
            Law::Spikes { share: 0.1 },
        ] {
            for n in [3, 5, 8, 10, 15, 20, 30, 50, 200] {
                print(Kind::Independent { n, m: n }, law, statistic, Design::Independent, 4000, 4000);
            }
        }
    }
}
#[test]
#[ignore = "minutes"]
fn explore_blocks() {
    for law in [
        Law::Normal { cv: 0.05 },
        Law::LogNormal { sigma: 0.3 },
        Law::LogNormal { sigma: 1.0 },
        Law::Bimodal { share: 0.3 },
        Law::Bimodal { share: 0.5 },
        Law::Spikes { share: 0.1 },
    ] {
        for rows in [1, 5] {
            for blocks in [2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 50] {
                print(Kind::Blocked { blocks, rows }, law, Statistic::Median, Design::Blocked, 4000, 4000);
            }
        }
    }
}
#[test]
#[ignore = "minutes"]
fn explore_units() {
    for law in [
        Law::Normal { cv: 0.05 },
        Law::LogNormal { sigma: 0.3 },
        Law::Bimodal { share: 0.5 },
        Law::Spikes { share: 0.1 },
    ] {
        for between in [0.0, 0.03] {
            for units in [2, 3, 5, 10, 19, 20, 30, 50] {
                print(
                    Kind::Hierarchical { units, rows: 20, between },
                    law,
                    Statistic::Median,
                    Design::Hierarchical,
                    4000,
                    4000,
                );
            }
        }
    }
}
#[test]
#[ignore = "minutes"]
fn explore_autocorrelated() {
    for statistic in [Statistic::Mean, Statistic::Median] {
        for law in [Law::Normal { cv: 0.05 }, Law::LogNormal { sigma: 0.5 }] {
            for phi in [0.0, 0.3, 0.6, 0.8] {
                for n in [50, 100, 200, 500, 1000] {
                    print(
                        Kind::Autocorrelated { n, phi },
                        law,
                        statistic,
                        Design::MovingBlocks { length: 0 },
                        1000,
                        1000,
                    );
                }
            }
        }
    }
}
