//! CUPTI's clock against our ticks.
//!
//! CUPTI stamps in ns of a clock of its own choice; our ranges are stamped with a counter. Each clock is read between two reads of the other:
//! the tightest of many such brackets says what the one shows when the other shows that, to within half the bracket. One at the begin and
//! one at the end of a recording give the line between them, rate included, so that a drift of the clocks does not add up.

use super::super::ticks::Ticks;

/// Brackets tried for one sample; the scheduler or an interrupt widens most of the wide ones.
const ATTEMPTS: usize = 64;

/// What both clocks showed at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockSample {
    /// Our counter.
    pub ticks: u64,
    /// CUPTI's clock, ns.
    pub cupti_ns: u64,
    /// The moment is known to this many ticks, either way.
    pub error_ticks: u64,
}

impl ClockSample {
    /// Reads `cupti_clock` between two reads of our counter, several times, and keeps the tightest.
    ///
    /// # Errors
    /// What `cupti_clock` returns.
    pub fn take<E>(mut cupti_clock: impl FnMut() -> Result<u64, E>) -> Result<Self, E> {
        Self::take_with(Ticks::now, &mut cupti_clock)
    }

    fn take_with<E>(
        mut ticks: impl FnMut() -> u64,
        cupti_clock: &mut impl FnMut() -> Result<u64, E>,
    ) -> Result<Self, E> {
        let mut best: Option<Self> = None;
        for _ in 0..ATTEMPTS {
            let before = ticks();
            let cupti_ns = cupti_clock()?;
            let width = ticks().saturating_sub(before);
            let sample = Self { ticks: before + width / 2, cupti_ns, error_ticks: width.div_ceil(2) };
            if best.is_none_or(|best| sample.error_ticks < best.error_ticks) {
                best = Some(sample);
            }
        }
        Ok(best.unwrap_or_default())
    }
}

/// Turns ticks into ns of CUPTI's clock since the begin of a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockMap {
    origin_ticks: u64,
    origin_ns: u64,
    ns_per_tick: f64,
    error_ns: f64,
}

impl ClockMap {
    /// The line through two samples; `None` if time did not go forward between them on both clocks.
    pub fn between(began: ClockSample, ended: ClockSample) -> Option<Self> {
        let ticks = ended.ticks.checked_sub(began.ticks).filter(|ticks| *ticks > 0)?;
        let ns = ended.cupti_ns.checked_sub(began.cupti_ns).filter(|ns| *ns > 0)?;
        let ns_per_tick = ns as f64 / ticks as f64;
        Some(Self {
            origin_ticks: began.ticks,
            origin_ns: began.cupti_ns,
            ns_per_tick,
            error_ns: began.error_ticks.max(ended.error_ticks) as f64 * ns_per_tick,
        })
    }

    /// Our `ticks` as ns since the begin of the recording; negative before it.
    pub fn ns_of_ticks(&self, ticks: u64) -> i64 {
        let since = ticks.wrapping_sub(self.origin_ticks).cast_signed();
        (since as f64 * self.ns_per_tick).round() as i64
    }

    /// A stamp of CUPTI as ns since the begin of the recording; negative before it.
    pub fn ns_of_stamp(&self, cupti_ns: u64) -> i64 {
        cupti_ns.wrapping_sub(self.origin_ns).cast_signed()
    }

    /// How far a range of ours may be off against a record, ns.
    pub fn error_ns(&self) -> f64 {
        self.error_ns
    }

    /// Length of a tick on CUPTI's clock, ns.
    pub fn ns_per_tick(&self) -> f64 {
        self.ns_per_tick
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn sample(ticks: u64, cupti_ns: u64, error_ticks: u64) -> ClockSample {
        ClockSample { ticks, cupti_ns, error_ticks }
    }

    #[test]
    fn the_tightest_bracket_is_kept_and_its_middle_is_the_moment() {
        // Our counter advances by 10, 4, 30, … around the reads of the other clock.
        let widths = [10_u64, 4, 30];
        let mut now = 1_000_u64;
        let mut read = 0_usize;
        let mut ticks = || {
            let step = if read.is_multiple_of(2) { 100 } else { *widths.get(read / 2).unwrap_or(&50) };
            read += 1;
            now += step;
            now
        };
        let mut stamp = 7_000_u64;
        let mut cupti = || -> Result<u64, Infallible> {
            stamp += 1;
            Ok(stamp)
        };
        let taken = ClockSample::take_with(&mut ticks, &mut cupti).unwrap();
        // The second bracket: it opens at 1000 + 100 + 10 + 100 = 1210 and is 4 wide.
        assert_eq!(taken, sample(1212, 7002, 2));
    }

    #[test]
    fn a_clock_that_cannot_be_read_gives_no_sample() {
        assert_eq!(ClockSample::take(|| Err("off")), Err("off"));
    }

    #[test]
    fn ticks_and_stamps_meet_at_both_ends_and_in_between() {
        // A counter of 2 GHz: two ticks are one ns. CUPTI's clock counts from the epoch.
        let epoch = 1_790_000_000_000_000_000;
        let map = ClockMap::between(sample(5_000, epoch, 40), sample(2_005_000, epoch + 1_000_000, 60)).unwrap();
        assert_eq!((map.ns_of_ticks(5_000), map.ns_of_stamp(epoch)), (0, 0));
        assert_eq!((map.ns_of_ticks(2_005_000), map.ns_of_stamp(epoch + 1_000_000)), (1_000_000, 1_000_000));
        assert_eq!(map.ns_of_ticks(1_005_000), 500_000);
        // Before the begin is negative, not enormous.
        assert_eq!((map.ns_of_ticks(3_000), map.ns_of_stamp(epoch - 7)), (-1_000, -7));
        assert!((map.error_ns() - 30.0).abs() < 1e-9 && (map.ns_per_tick() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_drift_between_the_clocks_does_not_add_up() {
        // 100 ppm apart over ten seconds are a millisecond: the line takes it in.
        let (began, ended) = (sample(0, 0, 1), sample(10_000_000_000, 10_001_000_000, 1));
        let map = ClockMap::between(began, ended).unwrap();
        assert_eq!(map.ns_of_ticks(10_000_000_000), 10_001_000_000);
        assert_eq!(map.ns_of_ticks(5_000_000_000), 5_000_500_000);
    }

    #[test]
    fn clocks_that_stood_still_or_went_back_give_no_map() {
        assert_eq!(ClockMap::between(sample(5, 5, 0), sample(5, 9, 0)), None);
        assert_eq!(ClockMap::between(sample(5, 5, 0), sample(9, 5, 0)), None);
        assert_eq!(ClockMap::between(sample(5, 5, 0), sample(9, 4, 0)), None);
    }
}
