//! The cheapest counter that can be turned into nanoseconds afterwards.
//!
//! On x86-64 with an invariant time-stamp counter (it ticks at one rate in every power state, Intel SDM vol. 3B §19.17.1) a read costs about
//! 10 ns where the system's monotonic clock costs 30; two reads of both clocks, before and after, give the rate. Elsewhere the monotonic
//! clock itself is read.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Shortest stretch over which the rate is determined: the error of two clock reads (some 50 ns) is then below 10 ppm.
const CALIBRATION: Duration = Duration::from_millis(5);

/// An origin on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Ticks {
    instant: Instant,
    ticks: u64,
}

/// Turns ticks into nanoseconds since the origin.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    origin: u64,
    ns_per_tick: f64,
}

impl Scale {
    /// Nanoseconds from the origin to `ticks`.
    pub fn ns(&self, ticks: u64) -> u64 {
        (ticks.saturating_sub(self.origin) as f64 * self.ns_per_tick) as u64
    }
}

/// Whether the time-stamp counter can be used.
#[cfg(target_arch = "x86_64")]
static INVARIANT: LazyLock<bool> = LazyLock::new(|| {
    use std::arch::x86_64::__cpuid;
    // CPUID.80000007H:EDX[8] is the invariant TSC.
    __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0
});

/// The origin of the monotonic clock where no counter is used.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Ticks {
    /// Reads both clocks.
    pub fn start() -> Self {
        Self { ticks: Self::now(), instant: Instant::now() }
    }

    /// The counter now; ticks of the same process compare.
    #[inline]
    pub fn now() -> u64 {
        #[cfg(target_arch = "x86_64")]
        if *INVARIANT {
            // SAFETY: the instruction exists on every x86-64 processor; the kernels of Linux and macOS leave it to user space.
            return unsafe { std::arch::x86_64::_rdtsc() };
        }
        ORIGIN.elapsed().as_nanos() as u64
    }

    /// The conversion, from this origin to now; waits where less than a few milliseconds have passed.
    pub fn scale(&self) -> Scale {
        let missing = CALIBRATION.saturating_sub(self.instant.elapsed());
        if !missing.is_zero() {
            std::thread::sleep(missing);
        }
        let (ticks, elapsed) = (Self::now(), self.instant.elapsed());
        let ticks = ticks.saturating_sub(self.ticks).max(1);
        Scale { origin: self.ticks, ns_per_tick: elapsed.as_nanos() as f64 / ticks as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_agree_with_the_monotonic_clock() {
        let origin = Ticks::start();
        let before = Instant::now();
        let first = Ticks::now();
        std::thread::sleep(Duration::from_millis(20));
        let second = Ticks::now();
        let truth = before.elapsed().as_nanos() as f64;
        let scale = origin.scale();
        let measured = (scale.ns(second) - scale.ns(first)) as f64;
        // The two clocks are read one after the other; a busy machine may pause the test between the reads.
        assert!((measured / truth - 1.0).abs() < 0.05, "{measured} ns against {truth} ns");
        assert!(scale.ns(first) <= scale.ns(second));
    }
}
