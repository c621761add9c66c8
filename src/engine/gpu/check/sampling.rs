//! The choice of the next token: exact where it is the most likely one, a matter of statistics where it is drawn.

use super::super::backend::{Buffer, GpuResult};
use super::super::launch::{self, Choice};
use super::Checks;
use super::comparison::{Comparison, Expected};
use super::device::{Device, Output};

/// What the logits are like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Logits {
    Random,
    /// Few values, so that the largest occurs often.
    Ties,
    /// NaN among them, also where the largest would be.
    Nan,
    /// The first sequence is nothing but NaN.
    OnlyNan,
    /// -inf but for one; the second sequence has +inf.
    Infinite,
}

pub(super) fn run(checks: &mut Checks<'_>) {
    let kinds = [Logits::Random, Logits::Ties, Logits::Nan, Logits::OnlyNan, Logits::Infinite];
    let small = vec![(1, 1), (3, 300), (2, 5_000)];
    let full = vec![(1, 1), (3, 300), (8, 128_256), (1, 151_936), (300, 32_000)];
    for (batch, width) in checks.pick(full, small) {
        for kind in kinds {
            let name = format!("most likely, batch {batch}, vocabulary {width}, {kind:?}").to_lowercase();
            checks.case("choose", name, |device| most_likely(device, batch, width, kind));
        }
    }
    // Sequences, steps, logits, temperature. The wide one has its likely tokens in different blocks.
    let small = vec![(512, 4, 7, 1.0), (64, 4, 5_000, 0.7)];
    let full = vec![(512, 200, 7, 1.0), (512, 100, 50_000, 0.7), (64, 400, 40, 1.5)];
    for (batch, steps, width, temperature) in checks.pick(full, small) {
        let name = format!("drawn at {temperature}, batch {batch}, {steps} steps, vocabulary {width}");
        checks.case("choose", name, |device| drawn(device, batch, steps, width, temperature));
    }
}

/// All that a choice reads and writes.
struct Bench {
    logits: Buffer,
    ids: Output,
    state: Buffer,
    history: Output,
    history_stride: usize,
    partial_values: Output,
    partial_ids: Output,
    counters: Buffer,
    batch: usize,
    width: usize,
}

impl Bench {
    fn new(device: &Device<'_>, logits: &[f32], batch: usize, steps: usize, state: &[u32; 4]) -> GpuResult<Self> {
        let width = logits.len() / batch;
        let chunks = launch::choice_chunks(width as u32) as usize;
        let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        Ok(Self {
            logits: device.bytes(&bytes)?,
            ids: device.output(batch * 4)?,
            state: device.u32s(state)?,
            history: device.output(batch * steps * 4)?,
            history_stride: steps,
            partial_values: device.output(batch * chunks * 4)?,
            partial_ids: device.output(batch * chunks * 4)?,
            counters: device.u32s(&vec![0; batch + 1])?,
            batch,
            width,
        })
    }

    fn choose(&self, device: &Device<'_>, inverse_temperature: f32, seed: u64, advance: u32) -> GpuResult<()> {
        let call = Choice {
            ids: self.ids.address(),
            logits: self.logits.address(),
            width: self.width as u32,
            batch: self.batch as u32,
            inverse_temperature,
            seed,
            state: self.state.address(),
            advance,
            history: self.history.address(),
            history_stride: self.history_stride as u32,
            partial_values: self.partial_values.address(),
            partial_ids: self.partial_ids.address(),
            counters: self.counters.address(),
        };
        launch::choose(device.backend, &call)
    }

    /// Margins, counters and the state after `steps` choices.
    fn check(&self, device: &Device<'_>, comparison: &mut Comparison, state: [u32; 3]) -> GpuResult<()> {
        device.read(&self.partial_values, comparison)?;
        device.read(&self.partial_ids, comparison)?;
        let counters = device.download_u32s(&self.counters)?;
        comparison.demand(counters.iter().all(|count| *count == 0), "the counters are not left at zero");
        let got = device.download_u32s(&self.state)?;
        comparison.bits(&got[..3], &state);
        Ok(())
    }
}

fn most_likely(device: &mut Device<'_>, batch: usize, width: usize, kind: Logits) -> GpuResult<Comparison> {
    let mut logits: Vec<f32> = (0..batch * width)
        .map(|_| {
            let value = 10.0 * device.random.symmetric();
            if kind == Logits::Ties { (value / 4.0).round() as f32 } else { value as f32 }
        })
        .collect();
    let last = device.random.below(width as u32) as usize;
    match kind {
        Logits::Nan => {
            for (at, logit) in logits.iter_mut().enumerate() {
                if at % 5 == 2 || *logit > 9.5 {
                    *logit = if at % 2 == 0 { f32::NAN } else { -f32::NAN };
                }
            }
        }
        Logits::OnlyNan => logits[..width].fill(f32::NAN),
        Logits::Infinite => {
            logits[..width].fill(f32::NEG_INFINITY);
            logits[last] = -3e38;
            if batch > 1 {
                logits[width + last] = f32::INFINITY;
            }
        }
        Logits::Random | Logits::Ties => {}
    }
    // The definition: the first of the largest, NaN left out, 0 where nothing is left.
    let expected: Vec<u32> = logits
        .chunks_exact(width)
        .map(|row| {
            let top = row.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max);
            row.iter().position(|logit| *logit == top).unwrap_or(0) as u32
        })
        .collect();
    let odd = logits.iter().filter(|logit| !logit.is_finite()).count() as u32;

    let mut comparison = Comparison::default();
    // Two steps that begin in the middle, as in a captured step that is replayed.
    let bench = Bench::new(device, &logits, batch, 4, &[17, 1, 5, 0])?;
    for _ in 0..2 {
        bench.choose(device, 0.0, 1, 3)?;
        let ids = device.read_u32s(&bench.ids, &mut comparison)?;
        comparison.bits(&ids, &expected);
    }
    bench.check(device, &mut comparison, [17 + 6, 3, 5 + 2 * odd])?;
    let history = device.read_u32s(&bench.history, &mut comparison)?;
    for (row, id) in history.chunks_exact(4).zip(&expected) {
        comparison.bits(row, &[u32::MAX, *id, *id, u32::MAX]);
    }
    Ok(comparison)
}

/// Counts of what was drawn against softmax(logits / temperature), and of pairs of draws against independence, by Pearson's statistic.
fn drawn(device: &mut Device<'_>, batch: usize, steps: usize, width: usize, temperature: f64) -> GpuResult<Comparison> {
    // Up to seven likely tokens, spread out; all others are so unlikely that none may come.
    let likely: Vec<usize> = (0..7.min(width)).map(|i| i * (width - 1) / 6.min(width - 1).max(1)).collect();
    let mut row = vec![-100.0_f32; width];
    for at in &likely {
        row[*at] = (2.0 * device.random.symmetric()) as f32;
    }
    let logits: Vec<f32> = row.iter().copied().cycle().take(batch * width).collect();
    let inverse_temperature = (1.0 / temperature) as f32;
    let weights: Vec<f64> =
        likely.iter().map(|at| (f64::from(row[*at]) * f64::from(inverse_temperature)).exp()).collect();
    let total: f64 = weights.iter().sum();
    let shares: Vec<f64> = weights.iter().map(|weight| weight / total).collect();

    let mut comparison = Comparison::default();
    let bench = Bench::new(device, &logits, batch, steps, &[0, 0, 0, 0])?;
    let seed = device.random.bits();
    for _ in 0..steps {
        bench.choose(device, inverse_temperature, seed, 1)?;
    }
    bench.check(device, &mut comparison, [steps as u32, steps as u32, 0])?;
    let history = device.read_u32s(&bench.history, &mut comparison)?;
    let draws: Vec<Option<usize>> = history.iter().map(|id| likely.iter().position(|at| *at == *id as usize)).collect();
    comparison.demand(draws.iter().all(Option::is_some), "a token was drawn that has no weight");
    let draws: Vec<usize> = draws.into_iter().flatten().collect();
    if draws.len() < history.len() {
        return Ok(comparison);
    }

    let bins = likely.len();
    let mut counts = vec![0_u32; bins];
    for draw in &draws {
        counts[*draw] += 1;
    }
    pearson(&mut comparison, &counts, draws.len(), &shares);
    // One sequence, one step after the other; and one step, one sequence after the other.
    let next_step = |at: usize| (at % steps + 1 < steps).then_some(at + 1);
    let next_sequence = |at: usize| Some(at + steps).filter(|next| *next < draws.len());
    let steps_apart: Vec<_> = (0..draws.len()).filter_map(|at| Some((at, next_step(at)?))).collect();
    let sequences_apart: Vec<_> = (0..draws.len()).filter_map(|at| Some((at, next_sequence(at)?))).collect();
    let joint: Vec<f64> = (0..bins * bins).map(|pair| shares[pair / bins] * shares[pair % bins]).collect();
    for pairs in [steps_apart, sequences_apart] {
        let mut counts = vec![0_u32; bins * bins];
        for (first, second) in &pairs {
            counts[draws[*first] * bins + draws[*second]] += 1;
        }
        pearson(&mut comparison, &counts, pairs.len(), &joint);
    }
    Ok(comparison)
}

/// Bins that fewer than five are expected in are counted as one, as the statistic is no chi-squared otherwise.
fn pearson(comparison: &mut Comparison, counts: &[u32], total: usize, shares: &[f64]) {
    let bins = counts.iter().zip(shares).map(|(count, share)| (f64::from(*count), share * total as f64));
    let (mut bins, rare): (Vec<_>, Vec<_>) = bins.partition(|(_, expected)| *expected >= 5.0);
    let rest = rare.into_iter().fold((0.0, 0.0), |sum, bin| (sum.0 + bin.0, sum.1 + bin.1));
    match bins.last_mut() {
        Some(last) if rest.1 < 5.0 => *last = (last.0 + rest.0, last.1 + rest.1),
        _ => bins.push(rest),
    }
    let statistic: f64 = bins.iter().map(|(count, expected)| (count - expected).powi(2) / expected).sum();
    let freedom = bins.len() as f64 - 1.0;
    comparison.demand(freedom >= 1.0, "too few draws to judge");
    // Wilson and Hilferty: the cube root of a chi-squared over its degrees of freedom is nearly normal. Five deviations are exceeded once in
    // three million runs.
    let spread = 2.0 / (9.0 * freedom.max(1.0));
    let threshold = freedom * (1.0 - spread + 5.0 * spread.sqrt()).powi(3);
    comparison.value(statistic, Expected { value: 0.0, tolerance: threshold });
}
