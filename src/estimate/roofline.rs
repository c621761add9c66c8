//! The roofline: the least time a device needs for given FLOPs and bytes.
//!
//! Williams, Waterman & Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009: performance is bounded by
//! min(peak FLOP/s, bandwidth × arithmetic intensity), so time by the larger of compute and transfer time.

use serde::{Deserialize, Serialize};

/// The ceiling that is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Arithmetic takes at least as long as the transfers.
    Compute,
    /// Transfers take longer.
    Memory,
}

impl Bound {
    /// `compute` or `memory`, as in every artifact.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Memory => "memory",
        }
    }
}

/// Least times of some work. A missing or non-positive peak leaves null what depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Roofline {
    /// flops / peak FLOP/s, in seconds.
    pub compute_time_s: Option<f64>,
    /// bytes / bandwidth, in seconds.
    pub memory_time_s: Option<f64>,
    /// The larger of both; null unless both are known, as either may decide.
    pub time_s: Option<f64>,
    /// Which one decides.
    pub bound: Option<Bound>,
    /// FLOPs per byte of the work; null for no bytes.
    pub intensity_flops_per_byte: Option<f64>,
    /// FLOPs per byte at which the device's two ceilings meet.
    pub ridge_flops_per_byte: Option<f64>,
}

/// The roofline of `flops` and `bytes` on a device of these peaks.
pub fn roofline(flops: u64, bytes: u64, flops_per_s: Option<f64>, bytes_per_s: Option<f64>) -> Roofline {
    let usable = |peak: Option<f64>| peak.filter(|peak| peak.is_finite() && *peak > 0.0);
    let (flops_per_s, bytes_per_s) = (usable(flops_per_s), usable(bytes_per_s));
    let compute_time_s = flops_per_s.map(|peak| flops as f64 / peak);
    let memory_time_s = bytes_per_s.map(|peak| bytes as f64 / peak);
    let both = compute_time_s.zip(memory_time_s);
    Roofline {
        compute_time_s,
        memory_time_s,
        time_s: both.map(|(compute, memory)| compute.max(memory)),
        bound: both.map(|(compute, memory)| if compute >= memory { Bound::Compute } else { Bound::Memory }),
        intensity_flops_per_byte: (bytes > 0).then(|| flops as f64 / bytes as f64),
        ridge_flops_per_byte: flops_per_s.zip(bytes_per_s).map(|(flops, bytes)| flops / bytes),
    }
}

/// Model FLOPs utilisation: model FLOPs / (peak × time) (PaLM, arXiv 2204.02311 appendix B). Null where time or peak is not positive.
pub fn mfu(model_flops: u64, flops_per_s: Option<f64>, seconds: f64) -> Option<f64> {
    utilisation(model_flops, flops_per_s, seconds)
}

/// Model bandwidth utilisation: (weight + KV-cache bytes) / (bandwidth × time) (Databricks, "LLM Inference Performance Engineering:
/// Best Practices", 2023). Null where time or bandwidth is not positive.
pub fn mbu(model_bytes: u64, bytes_per_s: Option<f64>, seconds: f64) -> Option<f64> {
    utilisation(model_bytes, bytes_per_s, seconds)
}

fn utilisation(amount: u64, peak: Option<f64>, seconds: f64) -> Option<f64> {
    let peak = peak.filter(|peak| peak.is_finite() && *peak > 0.0)?;
    (seconds.is_finite() && seconds > 0.0).then(|| amount as f64 / (peak * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_ceiling_decides() {
        let memory = roofline(100, 100, Some(1000.0), Some(10.0));
        assert_eq!((memory.time_s, memory.bound), (Some(10.0), Some(Bound::Memory)));
        assert_eq!((memory.intensity_flops_per_byte, memory.ridge_flops_per_byte), (Some(1.0), Some(100.0)));
        let compute = roofline(100_000, 100, Some(1000.0), Some(10.0));
        assert_eq!((compute.time_s, compute.bound), (Some(100.0), Some(Bound::Compute)));
        // On the ridge both take the same time, and arithmetic is at its peak.
        assert_eq!(roofline(10_000, 100, Some(1000.0), Some(10.0)).bound, Some(Bound::Compute));
    }

    #[test]
    fn an_unknown_peak_is_null_and_not_zero() {
        let half = roofline(100, 100, None, Some(10.0));
        assert_eq!((half.compute_time_s, half.memory_time_s, half.time_s, half.bound), (None, Some(10.0), None, None));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(roofline(1, 1, Some(bad), Some(bad)).time_s, None);
            assert_eq!(mfu(1, Some(bad), 1.0), None);
            assert_eq!(mbu(1, Some(1.0), bad), None);
        }
    }

    #[test]
    fn utilisation_is_the_share_of_the_ceiling() {
        assert_eq!(mfu(500, Some(1000.0), 1.0), Some(0.5));
        assert_eq!(mbu(500, Some(1000.0), 2.0), Some(0.25));
    }
}
