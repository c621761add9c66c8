//! Memory bandwidth: every thread reads (or copies) its own part of a buffer that no cache holds.

use std::hint::black_box;
use std::time::Duration;

use super::{Ceilings, MeasureRequest, Measured, repeat, timed};

/// Least buffer: past the last-level cache of most machines.
const LEAST: u64 = 256 << 20;
/// Largest buffer: more would only make the pass longer.
const MOST: u64 = 1 << 30;

/// Bytes of the buffer, and what is wrong with them if they are too few.
fn buffer_bytes(last_level_cache: Option<u64>, available: Option<u64>) -> (u64, Option<String>) {
    let wanted = last_level_cache.map_or(LEAST, |cache| cache.saturating_mul(4)).max(LEAST);
    let bytes = wanted.min(MOST).min(available.map_or(MOST, |available| available / 4)).max(1 << 20);
    let note = last_level_cache.filter(|cache| bytes < cache.saturating_mul(4)).map(|cache| {
        format!(
            "the buffer of the bandwidth measurement ({} MiB) is less than four times the last-level cache ({} MiB): part of it may \
             have been read from the cache",
            bytes >> 20,
            cache >> 20
        )
    });
    (bytes, note)
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

/// Measures reading and copying into `ceilings`.
pub(super) fn measure(request: &MeasureRequest, threads: u32, budget: Duration, ceilings: &mut Ceilings) {
    let (bytes, note) = buffer_bytes(request.last_level_cache_bytes, request.available_bytes);
    ceilings.notes.extend(note);
    let words = (bytes / 8) as usize;
    let chunk = words.div_ceil(threads as usize).max(1);
    let mut buffer: Vec<u64> = vec![0; words];
    // Touch every page from the thread that will read it, so that it lies in memory near that thread and is no shared zero page.
    timed(buffer.chunks_mut(chunk).collect(), |part: &mut [u64]| part.fill(black_box(1)));
    let mebibytes = bytes >> 20;
    let read = repeat(budget / 2, || {
        let seconds = timed(buffer.chunks(chunk).collect(), |part: &[u64]| {
            black_box(sum(black_box(part)));
        });
        (words * 8) as f64 / seconds
    });
    ceilings.read_bytes_per_s =
        Measured::best_of(&read, format!("{threads} thread(s) summing a buffer of {mebibytes} MiB"));
    let half = words / 2;
    let chunk = half.div_ceil(threads as usize).max(1);
    let copy = repeat(budget / 2, || {
        let (from, to) = buffer.split_at_mut(half);
        let parts: Vec<(&[u64], &mut [u64])> = from.chunks(chunk).zip(to.chunks_mut(chunk)).collect();
        let seconds = timed(parts, |(from, to): (&[u64], &mut [u64])| {
            let length = from.len().min(to.len());
            to[..length].copy_from_slice(&black_box(from)[..length]);
            black_box(to);
        });
        (half * 8 * 2) as f64 / seconds
    });
    ceilings.copy_bytes_per_s = Measured::best_of(
        &copy,
        format!("{threads} thread(s) copying {} MiB, bytes read plus bytes written", mebibytes / 2),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_outgrows_the_cache_within_the_memory_there_is() {
        assert_eq!(buffer_bytes(Some(32 << 20), Some(64 << 30)), (256 << 20, None));
        assert_eq!(buffer_bytes(Some(100 << 20), Some(64 << 30)), (400 << 20, None));
        let (bytes, note) = buffer_bytes(Some(260 << 20), Some(64 << 30));
        assert_eq!(bytes, 1 << 30);
        assert!(note.unwrap().contains("260 MiB"));
        assert_eq!(buffer_bytes(None, Some(400 << 20)).0, 100 << 20);
    }

    #[test]
    fn the_sum_is_the_sum() {
        let values: Vec<u64> = (0..1000).collect();
        assert_eq!(sum(&values), 499_500);
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
