//! The monotonic clock of the load generator, and how stamps of the kernel are put on it.

use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`: never steps, the same for all threads of the machine.
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of `CLOCK_REALTIME` since the epoch, which may step.
pub fn wall_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// CPU time of the calling thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of the process in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec`, which outlives it; these clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// `duration` in nanoseconds; what does not fit is the longest there is.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Puts a stamp the kernel took on the wall clock on the monotonic one.
///
/// `now` and `wall` were read together just after the stamp was fetched. The result lies in `[not_before, now]`: a stamp outside it was taken on a
/// wall clock that has stepped since, and is `None`.
pub fn from_wall(stamp: u64, now: u64, wall: u64, not_before: u64) -> Option<u64> {
    // The two clocks are read some tens of nanoseconds apart, so a stamp may seem to lie a little ahead.
    const SLACK_NS: u64 = 50_000;
    let age = match wall.checked_sub(stamp) {
        Some(age) => age,
        None if stamp - wall <= SLACK_NS => 0,
        None => return None,
    };
    let at = now.checked_sub(age)?;
    (at >= not_before.saturating_sub(SLACK_NS)).then_some(at.max(not_before.min(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_the_wall_clock_is_put_where_it_belongs() {
        // 3 ms ago on the wall is 3 ms ago on the other clock.
        assert_eq!(from_wall(1_000_000_000, 50_000_000, 1_003_000_000, 0), Some(47_000_000));
        // A wall clock set back by a second makes the stamp lie ahead; set ahead, it makes it lie before the request.
        assert_eq!(from_wall(1_000_000_000, 50_000_000, 3_000_000, 0), None);
        assert_eq!(from_wall(1_000_000_000, 50_000_000, 2_003_000_000, 40_000_000), None);
        // The clocks are not read at one instant.
        assert_eq!(from_wall(1_000_000_030, 50_000_000, 1_000_000_000, 0), Some(50_000_000));
        // Never before the request, even by the slack.
        assert_eq!(from_wall(1_000_000_000, 50_000_000, 1_000_020_000, 49_990_000), Some(49_990_000));
    }

    #[test]
    fn the_clocks_go_on() {
        let (mono, wall) = (now_ns(), wall_ns());
        std::thread::sleep(Duration::from_millis(2));
        assert!(now_ns() >= mono + 2_000_000);
        assert!(wall_ns() > 1_700_000_000_000_000_000 && wall > 0);
        assert!(process_cpu_ns() > 0 && thread_cpu_ns() > 0);
    }
}
