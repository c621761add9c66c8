//! How many bytes are live on the heap, for the split of peak memory: a counting global allocator.
//!
//! Only allocations of a kilobyte and more are counted: those are the tensors, and the small ones would cost an atomic operation each.
//! The binary installs it; a library user who does not sees null.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Allocations below this size are not counted.
const SMALLEST: usize = 1024;

static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// The system allocator, counting.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

fn grow(bytes: usize) {
    let live = LIVE.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
    if live > PEAK.load(Ordering::Relaxed) {
        PEAK.fetch_max(live, Ordering::Relaxed);
    }
}

// SAFETY: every call goes on to `System` unchanged; counting touches atomics only.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.alloc(layout) };
        if layout.size() >= SMALLEST && !pointer.is_null() {
            grow(layout.size());
        }
        pointer
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) };
        if layout.size() >= SMALLEST {
            LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if layout.size() >= SMALLEST && !pointer.is_null() {
            grow(layout.size());
        }
        pointer
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let moved = unsafe { System.realloc(pointer, layout, new_size) };
        if !moved.is_null() {
            if layout.size() >= SMALLEST {
                LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
            }
            if new_size >= SMALLEST {
                grow(new_size);
            }
        }
        moved
    }
}

/// Says that the binary uses [`CountingAllocator`]; without it the counts are null.
pub fn mark_installed() {
    INSTALLED.store(true, Ordering::Relaxed);
}

/// Live bytes now, and the peak starts again from here. `None` if the allocator is not installed.
pub fn restart_peak() -> Option<u64> {
    let live = LIVE.load(Ordering::Relaxed);
    PEAK.store(live, Ordering::Relaxed);
    INSTALLED.load(Ordering::Relaxed).then_some(live)
}

/// The largest number of live bytes since [`restart_peak`].
pub fn peak() -> Option<u64> {
    INSTALLED.load(Ordering::Relaxed).then(|| PEAK.load(Ordering::Relaxed))
}
