//! Device memory in the memory of the host, with red zones.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;

/// Bytes ahead of and behind each allocation.
const RED_ZONE: usize = 256;
/// As cudaMalloc aligns.
const ALIGNMENT: usize = 256;
/// NaN in f16, bf16 and f32, and not the NaN that an operation makes.
const POISON: [u8; 2] = [0xfe, 0xff];

struct Allocation {
    bytes: usize,
    /// Order of allocation, for messages.
    number: usize,
}

/// All live allocations by address.
#[derive(Default)]
pub(crate) struct Memory {
    live: BTreeMap<u64, Allocation>,
    made: usize,
    used: u64,
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + 2 * RED_ZONE, ALIGNMENT).expect("a size below half the address space")
}

impl Memory {
    /// Bytes allocated.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// New memory, full of NaN.
    pub(crate) fn alloc(&mut self, bytes: u64) -> Option<u64> {
        let bytes = usize::try_from(bytes).ok()?;
        // SAFETY: the layout has a size above 0.
        let room = unsafe { alloc(layout(bytes)) };
        if room.is_null() {
            return None;
        }
        // SAFETY: the room is new, of this size, and nobody else's.
        let all =
            unsafe { std::slice::from_raw_parts_mut(room.cast::<std::mem::MaybeUninit<u8>>(), bytes + 2 * RED_ZONE) };
        for (index, byte) in all.iter_mut().enumerate() {
            byte.write(POISON[index % 2]);
        }
        let address = room as u64 + RED_ZONE as u64;
        self.live.insert(address, Allocation { bytes, number: self.made });
        self.made += 1;
        self.used += bytes as u64;
        Some(address)
    }

    /// Gives memory back.
    pub(crate) fn free(&mut self, address: u64) {
        if let Some(allocation) = self.live.remove(&address) {
            self.used -= allocation.bytes as u64;
            // SAFETY: it came from `alloc` with this layout and is not live any more.
            unsafe { dealloc((address as usize - RED_ZONE) as *mut u8, layout(allocation.bytes)) };
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
            let zone = |from: u64| {
                // SAFETY: the red zones of a live allocation.
                let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, RED_ZONE) };
                // Rooms are aligned, so the parity of the address is that of the pattern.
                bytes.iter().enumerate().position(|(index, byte)| *byte != POISON[(from as usize + index) % 2])
            };
            let end = start + allocation.bytes as u64;
            let behind = zone(end).map(|at| format!("{at} bytes past its end"));
            let what =
                zone(start - RED_ZONE as u64).map(|at| format!("{} bytes ahead of it", RED_ZONE - at)).or(behind)?;
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
