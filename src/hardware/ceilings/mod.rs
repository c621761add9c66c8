//! What this machine attains at the most, by short micro-benchmarks: FLOP/s per arithmetic format and memory bandwidth.
//!
//! All threads work all the time, in passes of about a millisecond that each thread times for itself. On a busy machine most
//! passes still fall between two interruptions, so the figure is the machine's and not that of the share it gave us; passes timed
//! together from the first start to the last end would need all threads to be left alone at once. The figure says nothing about
//! any engine; it is what an engine is held against.

mod bandwidth;
mod compute;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::memory;
use crate::estimate::format::Format;

/// A measured ceiling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// FLOP/s or B/s of all threads together.
    pub value: f64,
    /// Passes of the thread that had the fewest.
    pub n: u32,
    /// (best − median) / best, over the threads' passes: how far the machine was from steady.
    pub spread: f64,
    /// How it was measured, in words.
    pub method: String,
}

/// Which of a thread's passes counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statistic {
    /// The best: for what each core has for itself. Whatever disturbs a pass makes it slower.
    Best,
    /// The median: for what threads share. Their bests come when the others pause, and would add up to more than there is.
    Median,
}

impl Measured {
    /// The sentence that goes beside the value.
    pub fn describe(&self) -> String {
        format!("measured: {}, n = {}, median {:.0} % below the best", self.method, self.n, self.spread * 100.0)
    }

    /// Adds up the threads, each with the rates of its passes; `None` if one has no finite positive rate.
    fn of(threads: &[Vec<f64>], statistic: Statistic, method: String) -> Option<Self> {
        let (mut bests, mut medians, mut n) = (0.0, 0.0, usize::MAX);
        for rates in threads {
            let mut rates: Vec<f64> = rates.iter().copied().filter(|rate| rate.is_finite() && *rate > 0.0).collect();
            rates.sort_by(f64::total_cmp);
            bests += *rates.last()?;
            let middle = rates.len() / 2;
            medians +=
                if rates.len() % 2 == 1 { rates[middle] } else { f64::midpoint(rates[middle - 1], rates[middle]) };
            n = n.min(rates.len());
        }
        let value = match statistic {
            Statistic::Best => bests,
            Statistic::Median => medians,
        };
        (!threads.is_empty()).then(|| Self { value, n: n as u32, spread: (bests - medians) / bests, method })
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ceilings {
    /// FLOP/s by the name of the arithmetic format ([`Format::name`]).
    pub flops_per_s: BTreeMap<String, Measured>,
    /// Memory read bandwidth.
    pub read_bytes_per_s: Option<Measured>,
    /// Memory copy bandwidth, bytes read plus bytes written.
    pub copy_bytes_per_s: Option<Measured>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasureRequest {
    /// Arithmetic formats.
    pub formats: Vec<Format>,
    /// Whether to measure memory bandwidth.
    pub bandwidth: bool,
    /// Threads, as many as the engine uses.
    pub threads: u32,
    /// Time for everything together; passes end at the first end of a pass past it.
    pub budget: Duration,
    /// Last-level cache, from [`super::identify::CpuIdentity::last_level_cache_bytes`].
    pub last_level_cache_bytes: Option<u64>,
    /// Memory that can be had.
    pub available_bytes: Option<u64>,
}

/// Measures. Fewer passes than two in the budget are still two: one alone says nothing about its spread. Measuring bandwidth sets
/// back the peak memory of the process where that is possible ([`memory::reset_peak`]): measure before a model is loaded.
pub fn measure(request: &MeasureRequest) -> Ceilings {
    let mut ceilings = Ceilings::default();
    let threads = request.threads.max(1);
    let parts = request.formats.len() as u32 + 2 * u32::from(request.bandwidth);
    let share = request.budget / parts.max(1);
    for format in &request.formats {
        let (measured, note) = compute::measure(*format, threads, share);
        ceilings.notes.extend(note);
        if let Some(measured) = measured {
            ceilings.flops_per_s.insert(format.name().to_owned(), measured);
        }
    }
    if request.bandwidth {
        bandwidth::measure(request, threads, share * 2, &mut ceilings);
        // The buffer must not count as memory of the run that follows.
        if memory::reset_peak().is_err() {
            ceilings
                .notes
                .push("the buffer of the bandwidth measurement counts in the peak memory of this process".to_owned());
        }
    }
    if cfg!(all(debug_assertions, not(target_arch = "x86_64"))) {
        ceilings.notes.push("debug build: the measured ceilings are far below those of a release build".to_owned());
    }
    ceilings
}

/// Most passes of a thread.
const MOST_PASSES: usize = 4096;

/// Gives each of `states` to a thread of its own, which runs `pass` (giving an amount of work) on it until `budget` is over, at
/// least twice. The rates of the passes come back by thread.
fn sustain<S: Send>(states: Vec<S>, budget: Duration, pass: impl Fn(&mut S, usize) -> f64 + Sync) -> Vec<Vec<f64>> {
    let barrier = Barrier::new(states.len());
    let (barrier, pass) = (&barrier, &pass);
    std::thread::scope(|scope| {
        let threads: Vec<_> = states
            .into_iter()
            .map(|mut state| {
                scope.spawn(move || {
                    let mut rates = Vec::new();
                    barrier.wait();
                    let began = Instant::now();
                    while rates.len() < 2 || (began.elapsed() < budget && rates.len() < MOST_PASSES) {
                        let before = Instant::now();
                        let amount = pass(&mut state, rates.len());
                        rates.push(amount / before.elapsed().as_secs_f64());
                    }
                    rates
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_by_the_statistic_that_fits() {
        let threads = [vec![8.0, 10.0, 5.0], vec![20.0, 10.0]];
        let best = Measured::of(&threads, Statistic::Best, "reading".to_owned()).unwrap();
        assert_eq!((best.value, best.n), (30.0, 2));
        // Medians 8 and 15.
        assert!((best.spread - 7.0 / 30.0).abs() < 1e-12);
        assert_eq!(best.describe(), "measured: reading, n = 2, median 23 % below the best");
        assert_eq!(Measured::of(&threads, Statistic::Median, String::new()).unwrap().value, 23.0);
        assert_eq!(Measured::of(&[], Statistic::Best, String::new()), None);
        assert_eq!(
            Measured::of(&[vec![1.0], vec![f64::INFINITY, f64::NAN, 0.0]], Statistic::Best, String::new()),
            None
        );
    }

    #[test]
    fn passes_end_with_the_budget_and_are_never_one() {
        let counts = |budget| sustain(vec![(), ()], budget, |(), _| 1.0).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(counts(Duration::ZERO), [2, 2]);
        assert_eq!(counts(Duration::from_hours(1)), [MOST_PASSES, MOST_PASSES]);
    }
}
