//! A histogram of times that costs nothing to fill: buckets that grow with the value, so that every quantile is right to 1.6 %.

/// Buckets of each octave.
const PER_OCTAVE: usize = 64;
const SHIFT: u32 = PER_OCTAVE.trailing_zeros();
/// Octaves above the first: values up to 2^40 ns, some 18 minutes.
const OCTAVES: usize = 35;

/// Counts of times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LagHistogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

impl Default for LagHistogram {
    fn default() -> Self {
        Self { counts: vec![0; PER_OCTAVE * (OCTAVES + 1)], total: 0, largest: 0 }
    }
}

fn bucket(value: u64) -> usize {
    if value < PER_OCTAVE as u64 {
        return value as usize;
    }
    let octave = value.ilog2() - SHIFT;
    let within = (value >> octave) as usize & (PER_OCTAVE - 1);
    ((octave as usize + 1) * PER_OCTAVE + within).min(PER_OCTAVE * (OCTAVES + 1) - 1)
}

/// The middle of a bucket.
fn middle(bucket: usize) -> u64 {
    if bucket < PER_OCTAVE {
        return bucket as u64;
    }
    let octave = (bucket / PER_OCTAVE - 1) as u32;
    let low = ((bucket % PER_OCTAVE + PER_OCTAVE) as u64) << octave;
    low + (1u64 << octave) / 2
}

impl LagHistogram {
    /// Counts a time.
    pub fn add(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.total += 1;
        self.largest = self.largest.max(ns);
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.largest = self.largest.max(other.largest);
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The time that a share `p` of all do not exceed, in ms; `None` without any.
    pub fn quantile_ms(&self, p: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        let rank = ((p * self.total as f64).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(middle(bucket).min(self.largest) as f64 / 1e6);
            }
        }
        Some(self.largest as f64 / 1e6)
    }

    /// p50, p90, p99, p99.9 and the largest, in ms.
    pub fn summary_ms(&self) -> Option<[f64; 5]> {
        let quantile = |p| self.quantile_ms(p);
        Some([quantile(0.5)?, quantile(0.9)?, quantile(0.99)?, quantile(0.999)?, self.largest as f64 / 1e6])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_two_percent_at_every_size() {
        for scale in [1u64, 100, 10_000, 1_000_000, 100_000_000] {
            let mut histogram = LagHistogram::default();
            (1..=1000).for_each(|value| histogram.add(value * scale));
            for (p, exact) in [(0.5, 500), (0.9, 900), (0.99, 990), (1.0, 1000)] {
                let got = histogram.quantile_ms(p).unwrap() * 1e6;
                let exact = (exact * scale) as f64;
                assert!((got - exact).abs() <= exact * 0.02 + 1.0, "{scale} {p}: {got} {exact}");
            }
        }
    }

    #[test]
    fn parts_add_up() {
        let (mut one, mut other) = (LagHistogram::default(), LagHistogram::default());
        assert_eq!(one.summary_ms(), None);
        one.add(5);
        other.add(u64::MAX);
        one.merge(&other);
        assert_eq!(one.total(), 2);
        assert_eq!(one.quantile_ms(0.5), Some(5e-6));
        assert!(one.quantile_ms(1.0).unwrap() > 1e6);
    }
}
