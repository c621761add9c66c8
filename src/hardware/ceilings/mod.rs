//! What this machine attains at the most, by short micro-benchmarks: FLOP/s per arithmetic format and memory bandwidth.
//!
//! A ceiling is the best of several passes, because everything that disturbs a pass makes it slower and nothing makes it faster
//! than the machine. It says nothing about any engine; it is what an engine is held against.

mod bandwidth;
mod compute;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::estimate::format::Format;

/// A measured ceiling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The best pass, in FLOP/s or B/s.
    pub value: f64,
    /// Passes.
    pub n: u32,
    /// (best − median) / best: how far the machine was from steady.
    pub spread: f64,
    /// How it was measured, in words.
    pub method: String,
}

impl Measured {
    /// The sentence that goes beside the value.
    pub fn describe(&self) -> String {
        format!("measured: {}, best of {}, median {:.0} % below the best", self.method, self.n, self.spread * 100.0)
    }

    /// The best of `rates`; `None` without a finite positive one.
    fn best_of(rates: &[f64], method: String) -> Option<Self> {
        let mut rates: Vec<f64> = rates.iter().copied().filter(|rate| rate.is_finite() && *rate > 0.0).collect();
        rates.sort_by(f64::total_cmp);
        let best = *rates.last()?;
        let middle = rates.len() / 2;
        let median = if rates.len() % 2 == 1 { rates[middle] } else { f64::midpoint(rates[middle - 1], rates[middle]) };
        Some(Self { value: best, n: rates.len() as u32, spread: (best - median) / best, method })
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

/// Measures. Fewer passes than two in the budget are still two: one alone says nothing about its spread.
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
        if cfg!(debug_assertions) {
            ceilings
                .notes
                .push("debug build: the measured memory bandwidth is far below what a release build gets".to_owned());
        }
    }
    ceilings
}

/// Repeats `pass` (which gives a rate) until `budget` is over, at least twice and at most 64 times.
fn repeat(budget: Duration, mut pass: impl FnMut() -> f64) -> Vec<f64> {
    let began = Instant::now();
    let mut rates = Vec::new();
    while rates.len() < 2 || (began.elapsed() < budget && rates.len() < 64) {
        rates.push(pass());
    }
    rates
}

/// Runs `work` on each chunk in its own thread and gives the time from the common start to the last end.
fn timed<C: Send>(chunks: Vec<C>, work: impl Fn(C) + Sync) -> f64 {
    let barrier = Barrier::new(chunks.len() + 1);
    let (barrier, work) = (&barrier, &work);
    std::thread::scope(|scope| {
        let threads: Vec<_> = chunks
            .into_iter()
            .map(|chunk| {
                scope.spawn(move || {
                    barrier.wait();
                    // The clock starts in the thread: with fewer cores than threads the spawner may be late to read it.
                    let began = Instant::now();
                    work(chunk);
                    (began, Instant::now())
                })
            })
            .collect();
        barrier.wait();
        let spans: Vec<(Instant, Instant)> = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
        let first = spans.iter().map(|(began, _)| *began).min();
        let last = spans.iter().map(|(_, ended)| *ended).max();
        first.zip(last).map_or(f64::NAN, |(first, last)| (last - first).as_secs_f64())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_pass_counts_and_the_spread_is_told() {
        let measured = Measured::best_of(&[8.0, 10.0, 5.0], "reading".to_owned()).unwrap();
        assert_eq!((measured.value, measured.n), (10.0, 3));
        assert!((measured.spread - 0.2).abs() < 1e-12);
        assert_eq!(measured.describe(), "measured: reading, best of 3, median 20 % below the best");
        assert_eq!(Measured::best_of(&[], String::new()), None);
        assert_eq!(Measured::best_of(&[f64::INFINITY, f64::NAN, 0.0], String::new()), None);
    }

    #[test]
    fn passes_end_with_the_budget_and_are_never_one() {
        assert_eq!(repeat(Duration::ZERO, || 1.0).len(), 2);
        assert_eq!(repeat(Duration::from_secs(3600), || 1.0).len(), 64);
    }
}
