//! Products of quantized panels with 8-bit activations, written once over [`Integers`] and compiled for each instruction set.
//!
//! Every set does the same additions in the same order, so that all of them (and every way to cut the work) give the same bits.

use super::BLOCK;
use super::activations::Header;
use crate::engine::ops::kernels::prefetch;

/// A vector of 32-bit integers, one for each row of a panel.
///
/// # Safety
/// All methods need the instruction set of the implementing type; pointers must be good for a whole vector.
pub(super) trait Integers: Copy {
    /// The f32 vector of as many lanes.
    type Floats: Copy;
    /// Lanes, that is rows of a panel.
    const ROWS: usize;
    /// Most tokens in one register tile of two panels.
    const TOKENS: usize;
    unsafe fn splat(value: i32) -> Self;
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut u8);
    /// The low nibble of every byte.
    unsafe fn low_nibbles(self) -> Self;
    /// The high nibble of every byte.
    unsafe fn high_nibbles(self) -> Self;
    /// `self` + the sums of four products of stored weights and signed activations. `SIGNED`: the weights are signed bytes, else unsigned.
    unsafe fn dot<const SIGNED: bool>(self, weights: Self, activations: Self) -> Self;
    /// The bits as f32, × scale + offset (see [`Header`]).
    unsafe fn scaled(self, scale: Self::Floats, offset: Self::Floats) -> Self::Floats;
    unsafe fn floats(value: f32) -> Self::Floats;
    unsafe fn load_f16(from: *const u8) -> Self::Floats;
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    unsafe fn store_floats(value: Self::Floats, to: *mut f32);
}

/// How far ahead weights are asked for when memory is the limit.
const PREFETCH_BYTES: usize = 8192;

/// The stored weights are unsigned bytes.
pub(super) const UNSIGNED: u8 = 0;
/// The stored weights are signed bytes.
pub(super) const SIGNED: u8 = 1;
/// The stored weights are nibbles.
pub(super) const NIBBLES: u8 = 2;

/// `M` panels, the tokens they are multiplied with, and where the results go.
#[derive(Clone, Copy)]
pub(super) struct Job<const M: usize> {
    /// Values of each panel, as stored or expanded to bytes.
    pub(super) values: [*const u8; M],
    /// f16 scales of each panel.
    pub(super) scales: [*const u8; M],
    /// f16 minima of each panel.
    pub(super) minima: [*const u8; M],
    pub(super) blocks: usize,
    /// 8-bit activations of the first token, `blocks` × 32 each.
    pub(super) quants: *const i8,
    /// Headers of the first token, `blocks` each.
    pub(super) headers: *const Header,
    pub(super) tokens: usize,
    /// First result of each panel.
    pub(super) out: [*mut f32; M],
    /// Values between the results of two tokens.
    pub(super) stride: usize,
}

/// The register tile: `M` panels times `N` tokens from `token` on.
#[inline(always)]
unsafe fn tile<V: Integers, const M: usize, const N: usize, const STORED: u8, const MINIMA: bool>(
    job: &Job<M>,
    token: usize,
) {
    let cols = job.blocks * BLOCK;
    let block_bytes = if STORED == NIBBLES { V::ROWS * BLOCK / 2 } else { V::ROWS * BLOCK };
    // SAFETY: the caller promises panels and activations of `blocks` blocks and room for the results.
    unsafe {
        let quants = job.quants.add(token * cols);
        let headers = job.headers.add(token * job.blocks);
        let mut totals = [[V::floats(0.0); N]; M];
        for block in 0..job.blocks {
            let values: [*const u8; M] = std::array::from_fn(|m| job.values[m].add(block * block_bytes));
            let q = quants.add(block * BLOCK);
            let h = headers.add(block);
            if N <= 2 {
                // Few tokens: memory is the limit.
                for values in values {
                    let mut ahead = 0;
                    while ahead < block_bytes {
                        prefetch(values.wrapping_add(PREFETCH_BYTES + ahead));
                        ahead += 64;
                    }
                }
            }
            let mut sums = [[V::splat(0); N]; M];
            for n in 0..N {
                let start = V::splat((*h.add(n * job.blocks)).start);
                for sums in &mut sums {
                    sums[n] = start;
                }
            }
            let four = |n: usize, at: usize| V::splat(q.add(n * cols + at).cast::<i32>().read_unaligned());
            if STORED == NIBBLES {
                for group in 0..4 {
                    let bytes: [V; M] = std::array::from_fn(|m| V::load(values[m].add(group * V::ROWS * 4)));
                    let low: [V; M] = std::array::from_fn(|m| bytes[m].low_nibbles());
                    let high: [V; M] = std::array::from_fn(|m| bytes[m].high_nibbles());
                    for n in 0..N {
                        let activations = four(n, group * 4);
                        for m in 0..M {
                            sums[m][n] = sums[m][n].dot::<false>(low[m], activations);
                        }
                        let activations = four(n, BLOCK / 2 + group * 4);
                        for m in 0..M {
                            sums[m][n] = sums[m][n].dot::<false>(high[m], activations);
                        }
                    }
                }
            } else {
                for group in 0..8 {
                    let bytes: [V; M] = std::array::from_fn(|m| V::load(values[m].add(group * V::ROWS * 4)));
                    for n in 0..N {
                        let activations = four(n, group * 4);
                        for m in 0..M {
                            sums[m][n] = if STORED == SIGNED {
                                sums[m][n].dot::<true>(bytes[m], activations)
                            } else {
                                sums[m][n].dot::<false>(bytes[m], activations)
                            };
                        }
                    }
                }
            }
            let scales: [V::Floats; M] = std::array::from_fn(|m| V::load_f16(job.scales[m].add(block * V::ROWS * 2)));
            for n in 0..N {
                let header = &*h.add(n * job.blocks);
                let (scale, offset) = (V::floats(header.scale), V::floats(header.offset));
                for m in 0..M {
                    totals[m][n] = V::fma(sums[m][n].scaled(scale, offset), scales[m], totals[m][n]);
                }
            }
            if MINIMA {
                let minima: [V::Floats; M] =
                    std::array::from_fn(|m| V::load_f16(job.minima[m].add(block * V::ROWS * 2)));
                for n in 0..N {
                    let sum = V::floats((*h.add(n * job.blocks)).sum);
                    for m in 0..M {
                        totals[m][n] = V::fma(sum, minima[m], totals[m][n]);
                    }
                }
            }
        }
        for (totals, out) in totals.iter().zip(job.out) {
            for (n, total) in totals.iter().enumerate() {
                V::store_floats(*total, out.add((token + n) * job.stride));
            }
        }
    }
}

/// All tokens of a job, in register tiles.
///
/// # Safety
/// The instruction set of `V` must be there; the job's pointers must be good for its sizes.
#[inline(always)]
pub(super) unsafe fn panels<V: Integers, const M: usize, const STORED: u8, const MINIMA: bool>(job: &Job<M>) {
    let mut token = 0;
    // SAFETY: the caller's promise; tiles stay inside `tokens`.
    unsafe {
        if V::TOKENS >= 6 {
            while token + 6 <= job.tokens {
                tile::<V, M, 6, STORED, MINIMA>(job, token);
                token += 6;
            }
        }
        if V::TOKENS >= 4 {
            while token + 4 <= job.tokens {
                tile::<V, M, 4, STORED, MINIMA>(job, token);
                token += 4;
            }
        }
        while token + 3 <= job.tokens {
            tile::<V, M, 3, STORED, MINIMA>(job, token);
            token += 3;
        }
        match job.tokens - token {
            2 => tile::<V, M, 2, STORED, MINIMA>(job, token),
            1 => tile::<V, M, 1, STORED, MINIMA>(job, token),
            _ => {}
        }
    }
}

/// Nibbles of a whole panel to bytes, in the order of `q8_0` panels.
///
/// # Safety
/// The instruction set of `V` must be there; `from` holds `blocks` blocks of nibbles, `to` has room for twice as much.
#[inline(always)]
pub(super) unsafe fn expand<V: Integers>(from: *const u8, blocks: usize, to: *mut u8) {
    let vector = V::ROWS * 4;
    for block in 0..blocks {
        for group in 0..4 {
            // SAFETY: the caller's promise.
            unsafe {
                let bytes = V::load(from.add((block * 4 + group) * vector));
                bytes.low_nibbles().store(to.add((block * 8 + group) * vector));
                bytes.high_nibbles().store(to.add((block * 8 + 4 + group) * vector));
            }
        }
    }
}
