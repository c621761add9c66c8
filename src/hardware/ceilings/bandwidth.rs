//! Memory bandwidth: every thread reads (or copies) its own part of a buffer that no cache holds.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Ceilings, MeasureRequest, Measured, Statistic, sustain};

/// Least buffer: past the last-level cache of most machines.
const LEAST: u64 = 256 << 20;
/// Largest buffer: more would only make the pass longer.
const MOST: u64 = 1 << 30;
/// Words a thread reads in one pass: about a millisecond of work.
const WINDOW: usize = (8 << 20) / 8;

/// Bytes the buffer should have: four times the last-level cache, within bounds and a quarter of the memory that can be had.
fn buffer_bytes(last_level_cache: Option<u64>, available: Option<u64>) -> u64 {
    let wanted = last_level_cache.map_or(LEAST, |cache| cache.saturating_mul(4)).max(LEAST);
    wanted.min(MOST).min(available.map_or(MOST, |available| available / 4)).max(1 << 20)
}

/// What is wrong with a buffer of `bytes`, if anything. A few per cent less than four times the cache make no difference.
fn cache_note(bytes: u64, last_level_cache: Option<u64>) -> Option<String> {
    let cache = last_level_cache.filter(|cache| (bytes as f64) < *cache as f64 * 3.9)?;
    Some(format!(
        "the buffer of the bandwidth measurement ({} MiB) is less than four times the last-level cache ({} MiB): part of it may have \
         been read from the cache, and the figure be too high",
        bytes >> 20,
        cache >> 20
    ))
}

/// Reads every byte of `values` and leaves nothing for an optimiser to take away.
fn read(values: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    {
        let (blocks, rest) = values.as_chunks::<32>();
        if !blocks.is_empty() {
            // SAFETY: SSE is part of x86-64. The loop reads `blocks.len()` × 256 bytes from the start of `blocks`, which is their
            // size, writes only the registers named as outputs, and ends because the count is at least 1 and falls by one each time.
            unsafe {
                std::arch::asm!(
                    "2:",
                    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                    "movups xmm\\n, xmmword ptr [{at} + 16 * \\n]",
                    ".endr",
                    "add {at}, 256",
                    "dec {count}",
                    "jnz 2b",
                    at = inout(reg) blocks.as_ptr() => _,
                    count = inout(reg) blocks.len() => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                    out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                    options(readonly, nostack),
                );
            }
        }
        black_box(sum(rest));
    }
    #[cfg(not(target_arch = "x86_64"))]
    black_box(sum(black_box(values)));
}

/// Writes to every page of `part` from the thread that will read it, so that it lies in memory near that thread and is no shared
/// page of zeroes.
fn touch(part: &mut [u64]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 2 << 20;
        let begin = (part.as_ptr() as usize).next_multiple_of(PAGE);
        let end = part.as_ptr() as usize + size_of_val(part);
        if end > begin + PAGE {
            // Large pages, where the system has them, make the first touch shorter and keep address translation out of the figure.
            // SAFETY: the range lies within `part`, and the advice changes neither contents nor rights of its pages.
            unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_HUGEPAGE) };
        }
    }
    // SAFETY: the range is that of `part`, and any bytes make a valid u64. A plain `fill` would take seconds in a debug build.
    unsafe { part.as_mut_ptr().cast::<u8>().write_bytes(1, size_of_val(part)) };
}

/// Sums `values` with independent sums, so that no addition waits for the one before.
fn sum(values: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    let (blocks, rest) = values.as_chunks::<32>();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = lane.wrapping_add(*value);
        }
    }
    lanes.iter().chain(rest).fold(0, |total, value| total.wrapping_add(*value))
}

/// Touches `part` step by step until all is touched, or until `deadline` once `least` words are; gives the words touched.
fn touch_until(part: &mut [u64], least: usize, deadline: Instant) -> usize {
    const STEP: usize = (16 << 20) / 8;
    let mut touched = 0;
    while touched < part.len() && (touched < least || Instant::now() < deadline) {
        let end = (touched + STEP).min(part.len());
        touch(&mut part[touched..end]);
        touched = end;
    }
    touched
}

/// Measures reading and copying into `ceilings`.
pub(super) fn measure(request: &MeasureRequest, threads: u32, budget: Duration, ceilings: &mut Ceilings) {
    let began = Instant::now();
    let wanted = buffer_bytes(request.last_level_cache_bytes, request.available_bytes);
    let words = (wanted / 8) as usize;
    let chunk = words.div_ceil(threads as usize).max(1);
    let mut buffer: Vec<u64> = vec![0; words];
    // Getting memory from a busy machine takes seconds. Half of the time is for that; then the buffer is what there is by then.
    let least = (LEAST / 8) as usize / threads as usize;
    let usable = AtomicUsize::new(chunk);
    std::thread::scope(|scope| {
        for part in buffer.chunks_mut(chunk) {
            let usable = &usable;
            scope.spawn(move || {
                let touched = touch_until(part, least, began + budget / 2);
                // The last part may be shorter than the others; only one that was cut short limits them.
                if touched < part.len() {
                    usable.fetch_min(touched, Ordering::Relaxed);
                }
            });
        }
    });
    let usable = usable.into_inner();
    let mut parts: Vec<&mut [u64]> = buffer
        .chunks_mut(chunk)
        .map(|part| {
            let length = part.len().min(usable);
            &mut part[..length]
        })
        .collect();
    let bytes = parts.iter().map(|part| part.len() * 8).sum::<usize>() as u64;
    ceilings.notes.extend(cache_note(bytes, request.last_level_cache_bytes));
    // What is left, and a quarter at least: two passes would say little.
    let budget = budget.saturating_sub(began.elapsed()).max(budget / 4);
    let mebibytes = bytes >> 20;
    // The windows go round the whole part, so each has left the cache before its turn comes again.
    let rates = sustain(parts.iter().map(|part| &**part).collect(), budget / 2, |part: &mut &[u64], turn| {
        let words = &part[window(part.len(), turn)];
        read(words);
        (words.len() * 8) as f64
    });
    ceilings.read_bytes_per_s = Measured::of(
        &rates,
        Statistic::Median,
        format!("{threads} thread(s) reading a buffer of {mebibytes} MiB, median pass of each"),
    );
    #[expect(clippy::mut_mut, reason = "the state of a pass is itself a borrowed part")]
    let rates =
        sustain(parts.iter_mut().map(|part| &mut **part).collect(), budget / 2, |part: &mut &mut [u64], turn| {
            let range = window(part.len(), turn);
            let middle = range.len() / 2;
            let (from, to) = part[range].split_at_mut(middle);
            to[..middle].copy_from_slice(black_box(from));
            black_box(to);
            (middle * 8 * 2) as f64
        });
    ceilings.copy_bytes_per_s = Measured::of(
        &rates,
        Statistic::Median,
        format!(
            "{threads} thread(s) copying within a buffer of {mebibytes} MiB, bytes read plus bytes written, median pass of each"
        ),
    );
}

/// The part of `words` that is read in pass number `turn`.
fn window(words: usize, turn: usize) -> std::ops::Range<usize> {
    let length = words.min(WINDOW);
    let windows = words.checked_div(length).unwrap_or(1).max(1);
    let begin = turn % windows * length;
    begin..begin + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_outgrows_the_cache_within_the_memory_there_is() {
        assert_eq!(buffer_bytes(Some(32 << 20), Some(64 << 30)), 256 << 20);
        assert_eq!(buffer_bytes(Some(100 << 20), Some(64 << 30)), 400 << 20);
        assert_eq!(buffer_bytes(Some(300 << 20), Some(64 << 30)), 1 << 30);
        assert_eq!(buffer_bytes(None, Some(400 << 20)), 100 << 20);
        assert_eq!(cache_note(400 << 20, Some(100 << 20)), None);
        assert_eq!(cache_note(100 << 20, None), None);
        assert!(cache_note(1 << 30, Some(300 << 20)).unwrap().contains("300 MiB"));
    }

    #[test]
    fn windows_go_round_the_whole_part() {
        assert_eq!(window(10, 0), 0..10);
        assert_eq!(window(0, 3), 0..0);
        let turns: Vec<usize> = (0..4).map(|turn| window(3 * WINDOW + 5, turn).start / WINDOW).collect();
        assert_eq!(turns, [0, 1, 2, 0]);
    }

    #[test]
    fn a_deadline_cuts_the_buffer_but_not_below_the_least() {
        let mut part = vec![0u64; 8 << 20];
        let past = Instant::now();
        assert_eq!(touch_until(&mut part, 5 << 20, past), 6 << 20, "whole steps of 16 MiB");
        assert_eq!(touch_until(&mut part, 100 << 20, past), 8 << 20);
        assert_eq!(touch_until(&mut part, 0, past + Duration::from_hours(1)), 8 << 20);
        assert!(part.iter().all(|value| *value != 0));
    }

    #[test]
    fn the_sum_is_the_sum_and_any_length_can_be_read() {
        let mut values: Vec<u64> = (0..1000).collect();
        assert_eq!(sum(&values), 499_500);
        for length in [0, 1, 31, 32, 33, 1000] {
            read(&values[..length]);
        }
        touch(&mut values[10..20]);
        assert_eq!(values[9..21].iter().filter(|value| **value == 0x0101_0101_0101_0101).count(), 10);
    }

    #[test]
    fn bandwidth_is_within_what_machines_have() {
        let request = MeasureRequest {
            formats: Vec::new(),
            bandwidth: true,
            threads: 2,
            budget: Duration::from_millis(50),
            last_level_cache_bytes: None,
            available_bytes: Some(256 << 20),
        };
        let mut ceilings = Ceilings::default();
        measure(&request, 2, request.budget, &mut ceilings);
        let (read, copy) = (ceilings.read_bytes_per_s.unwrap(), ceilings.copy_bytes_per_s.unwrap());
        // Below 10 MB/s or above 10 TB/s something was not measured at all.
        assert!((1e7..1e13).contains(&read.value), "{read:?}");
        assert!((1e7..1e13).contains(&copy.value), "{copy:?}");
        assert!(read.n >= 2 && read.method.contains("64 MiB"), "{read:?}");
    }
}
