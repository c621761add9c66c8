//! Device memory in the memory of the host: each allocation between red zones, and those between pages that nothing can touch.

use std::collections::BTreeMap;

/// Bytes ahead of and behind each allocation, checked for writes.
const RED_ZONE: usize = 256;
/// As cudaMalloc aligns.
const ALIGNMENT: usize = 256;
/// Inaccessible bytes ahead of and behind those: addresses, not memory.
const GUARD: usize = 1 << 20;
const PAGE: usize = 1 << 16;
/// NaN in f16, bf16 and f32, and not the NaN that an operation makes.
const POISON: [u8; 2] = [0xfe, 0xff];

struct Allocation {
    bytes: usize,
    /// Order of allocation, for messages.
    number: usize,
    /// Of the mapping, guards included.
    start: usize,
    length: usize,
}

/// All live allocations by address.
#[derive(Default)]
pub(crate) struct Memory {
    live: BTreeMap<u64, Allocation>,
    made: usize,
    used: u64,
}

impl Memory {
    /// Bytes allocated.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// New memory, full of NaN.
    pub(crate) fn alloc(&mut self, bytes: u64) -> Option<u64> {
        let bytes = usize::try_from(bytes).ok()?;
        let padded = bytes.next_multiple_of(ALIGNMENT);
        let open = (padded + 2 * RED_ZONE).next_multiple_of(PAGE);
        let length = open + 2 * GUARD;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping; its middle is made accessible before it is used.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = start as usize;
        // SAFETY: within the mapping.
        let opened = unsafe { libc::mprotect((start + GUARD) as *mut _, open, libc::PROT_READ | libc::PROT_WRITE) };
        if opened != 0 {
            // SAFETY: the mapping made above.
            unsafe { libc::munmap(start as *mut _, length) };
            return None;
        }
        // Zeros from the kernel, and nobody else's.
        // SAFETY: the accessible part of the mapping.
        let all = unsafe { std::slice::from_raw_parts_mut((start + GUARD) as *mut u8, open) };
        for pair in all.chunks_exact_mut(2) {
            pair.copy_from_slice(&POISON);
        }
        // The end lies as close to the guard as alignment allows.
        let address = (start + GUARD + open - RED_ZONE - padded) as u64;
        self.live.insert(address, Allocation { bytes, number: self.made, start, length });
        self.made += 1;
        self.used += bytes as u64;
        Some(address)
    }

    /// Gives memory back.
    pub(crate) fn free(&mut self, address: u64) {
        if let Some(allocation) = self.live.remove(&address) {
            self.used -= allocation.bytes as u64;
            // SAFETY: the mapping of this allocation, which is not live any more.
            unsafe { libc::munmap(allocation.start as *mut _, allocation.length) };
        }
    }

    /// Whether `bytes` bytes at `address` lie within one allocation.
    pub(crate) fn holds(&self, address: u64, bytes: u64) -> bool {
        self.live
            .range(..=address)
            .next_back()
            .is_some_and(|(start, allocation)| address + bytes <= start + allocation.bytes as u64)
    }

    /// The first write outside of an allocation, in words.
    pub(crate) fn damage(&self) -> Option<String> {
        self.live.iter().find_map(|(&start, allocation)| {
            let zone = |from: u64, bytes: usize| {
                // SAFETY: the red zones of a live allocation.
                let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, bytes) };
                // Mappings are aligned, so the parity of the address is that of the pattern.
                bytes.iter().enumerate().position(|(index, byte)| *byte != POISON[(from as usize + index) % 2])
            };
            let end = start + allocation.bytes as u64;
            let padding = allocation.bytes.next_multiple_of(ALIGNMENT) - allocation.bytes;
            let behind = zone(end, padding + RED_ZONE).map(|at| format!("{at} bytes past its end"));
            let ahead =
                zone(start - RED_ZONE as u64, RED_ZONE).map(|at| format!("{} bytes ahead of it", RED_ZONE - at));
            let what = ahead.or(behind)?;
            Some(format!("a write outside of allocation {} of {} bytes: {what}", allocation.number, allocation.bytes))
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        while let Some((&address, _)) = self.live.first_key_value() {
            self.free(address);
        }
    }
}
