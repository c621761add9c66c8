//! Memory for packed weights: cache-line aligned, and in huge pages where the system gives them.
//!
//! A decode step streams through all weights once. With pages of 4 KiB every 4 KiB need an address translation and end the reach of the
//! hardware prefetcher; pages of 2 MiB were measured half as fast again. Matrices of a small model are smaller than a huge page, so they
//! share slabs.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A cache line.
pub(super) const LINE: usize = 64;
/// A huge page.
const HUGE: usize = 2 << 20;
/// Small matrices share slabs of this size. What is never written takes no memory.
const SLAB: usize = 64 << 20;

/// A stretch of memory that several regions may share.
struct Slab {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the slab is only memory; regions of it are disjoint.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

impl Slab {
    fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.checked_next_multiple_of(HUGE)?, HUGE).ok()?;
        // SAFETY: the size is not zero: callers ask for at least a line.
        let start = unsafe { alloc(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        #[cfg(target_os = "linux")]
        // SAFETY: the range is the allocation, and the advice changes nothing but the size of its pages. A refusal does not matter.
        unsafe {
            libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE);
        }
        Some(Self { start, layout })
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody else refers to it any more.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Bytes of its own, zeroed, aligned to a cache line.
pub(in crate::engine::ops) struct Region {
    slab: Arc<Slab>,
    offset: usize,
    len: usize,
}

/// The slab that small regions are taken from, and how much of it is taken. It lives as long as any region in it.
static SHARED: Mutex<(Weak<Slab>, usize)> = Mutex::new((Weak::new(), 0));

impl Region {
    /// `len` zeroed bytes; `None` if no address space could hold them.
    pub(in crate::engine::ops) fn new(len: usize) -> Option<Self> {
        let size = len.max(1).checked_next_multiple_of(LINE)?;
        let (slab, offset) = if size >= SLAB / 4 {
            (Arc::new(Slab::new(size)?), 0)
        } else {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(slab) = shared.0.upgrade().filter(|_| shared.1 + size <= SLAB) {
                let offset = shared.1;
                shared.1 += size;
                (slab, offset)
            } else {
                let slab = Arc::new(Slab::new(SLAB)?);
                *shared = (Arc::downgrade(&slab), size);
                (slab, 0)
            }
        };
        // SAFETY: offset + size lies inside the slab, and no other region has been given these bytes.
        unsafe { slab.start.as_ptr().add(offset).write_bytes(0, size) };
        Some(Self { slab, offset, len })
    }
    fn start(&self) -> *mut u8 {
        // SAFETY: the offset lies inside the slab.
        unsafe { self.slab.start.as_ptr().add(self.offset) }
    }
    pub(in crate::engine::ops) fn bytes(&self) -> &[u8] {
        // SAFETY: initialised by `new`, alive as long as the slab, and written only through `bytes_mut`.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
    pub(in crate::engine::ops) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the bytes belong to this region alone.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zero_aligned_and_do_not_overlap_even_when_others_are_dropped() {
        let mut kept: Vec<(u8, Region)> = Vec::new();
        for round in 1..=60u8 {
            let len = usize::from(round) * 1000 + 1;
            let mut region = Region::new(len).unwrap();
            assert!(region.bytes().iter().all(|byte| *byte == 0));
            assert!(region.bytes().as_ptr().addr().is_multiple_of(LINE));
            region.bytes_mut().fill(round);
            kept.push((round, region));
            if round % 3 == 0 {
                kept.remove(0);
            }
        }
        for (round, region) in &kept {
            assert_eq!(region.bytes().len(), usize::from(*round) * 1000 + 1);
            assert!(region.bytes().iter().all(|byte| byte == round));
        }
        assert!(Region::new(usize::MAX - 3).is_none());
    }
}
