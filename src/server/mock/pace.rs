//! When the chunks of an answer are due: an absolute schedule, so that what is late once does not make the rest late.

use super::settings::MockSettings;
use crate::stats::bootstrap::Generator;

/// The schedule of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    first: u64,
    itl: u64,
    jitter: u64,
    /// Seed of this answer's jitter.
    key: u64,
    pause_at: u32,
    pause: u64,
}

fn ns_of_ms(ms: f64) -> u64 {
    (ms * 1e6).round() as u64
}

impl Pace {
    /// The schedule of request `number`, whose work begins at `start` (in ns of `CLOCK_MONOTONIC`) and whose answer has `chunks` chunks.
    pub(super) fn new(settings: &MockSettings, number: u64, start: u64, prompt_tokens: u64, chunks: u32) -> Self {
        let prefill = (settings.prefill_us_per_token * 1e3 * prompt_tokens as f64).round() as u64;
        let paused = settings.stall_every > 0 && number.is_multiple_of(settings.stall_every);
        Self {
            first: start + ns_of_ms(settings.ttft_ms) + prefill,
            itl: ns_of_ms(settings.itl_ms),
            jitter: settings.jitter_us * 1000,
            key: Generator::stream(settings.seed, number).next(),
            pause_at: chunks / 2,
            pause: if paused { ns_of_ms(settings.stall_ms) } else { 0 },
        }
    }

    /// When chunk `index`, from 0, is due, in ns of `CLOCK_MONOTONIC`: never before `last`, when the chunk before it was due.
    pub(super) fn due(&self, index: u32, last: u64) -> u64 {
        let mut due = self.first + u64::from(index) * self.itl;
        if index >= self.pause_at {
            due += self.pause;
        }
        if self.jitter > 0 {
            due += (Generator::stream(self.key, u64::from(index)).uniform() * self.jitter as f64) as u64;
        }
        due.max(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(settings: &MockSettings, number: u64, count: u32) -> Vec<u64> {
        let pace = Pace::new(settings, number, 1_000_000_000, 10, count);
        let mut last = 0;
        (0..count)
            .map(|index| {
                last = pace.due(index, last);
                last
            })
            .collect()
    }

    #[test]
    fn chunks_are_due_at_ttft_and_then_every_itl() {
        let settings =
            MockSettings { ttft_ms: 12.5, itl_ms: 0.25, prefill_us_per_token: 100.0, ..MockSettings::default() };
        // 1 s + 12.5 ms + 10 tokens of 0.1 ms, then 0.25 ms each.
        assert_eq!(dues(&settings, 1, 4), [1_013_500_000, 1_013_750_000, 1_014_000_000, 1_014_250_000]);
    }

    #[test]
    fn a_pause_moves_the_second_half_of_every_kth_answer() {
        let settings =
            MockSettings { ttft_ms: 0.0, itl_ms: 1.0, stall_every: 3, stall_ms: 500.0, ..MockSettings::default() };
        assert_eq!(dues(&settings, 2, 4), [1_000_000_000, 1_001_000_000, 1_002_000_000, 1_003_000_000]);
        assert_eq!(dues(&settings, 3, 4), [1_000_000_000, 1_001_000_000, 1_502_000_000, 1_503_000_000]);
        assert_eq!(dues(&settings, 6, 1), [1_500_000_000]);
    }

    #[test]
    fn jitter_is_seeded_uniform_and_does_not_add_up() {
        let settings = MockSettings { ttft_ms: 0.0, itl_ms: 1.0, jitter_us: 400, seed: 5, ..MockSettings::default() };
        let late: Vec<u64> = dues(&settings, 1, 2000)
            .iter()
            .enumerate()
            .map(|(index, due)| due - 1_000_000_000 - index as u64 * 1_000_000)
            .collect();
        assert!(late.iter().all(|late| *late < 400_000));
        // The mean of 2000 uniform draws has a standard error of 400 µs / √12 / √2000 = 2.6 µs.
        let mean = late.iter().sum::<u64>() as f64 / 2000.0;
        assert!((mean - 200_000.0).abs() < 13_000.0, "{mean}");
        assert_eq!(dues(&settings, 1, 2000), dues(&settings, 1, 2000));
        assert_ne!(dues(&settings, 1, 50), dues(&settings, 2, 50));
        assert_ne!(dues(&settings, 1, 50), dues(&MockSettings { seed: 6, ..settings.clone() }, 1, 50));
        // More jitter than time between chunks keeps their order.
        let wild = dues(&MockSettings { jitter_us: 10_000, ..settings }, 1, 500);
        assert!(wild.is_sorted());
    }
}
