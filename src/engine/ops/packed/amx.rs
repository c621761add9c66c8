//! Products on the tile unit (AMX), by inline assembly: the intrinsics are not stable yet.
//!
//! Up to 32 tokens times 32 rows are summed in tiles over the whole width, from bf16 with f32 sums. bf16 weights are packed so; quantized
//! weights are turned into bf16 in the scratch of a thread when enough tokens share the work. That is both faster and closer to the true
//! product than 8-bit tiles: those have to leave the tile unit after every block of 32 columns to be scaled, and rounding to bf16 errs
//! by 2⁻⁸ of each value at most, where 8 bits err by 2⁻⁸ of the largest in a block.
//!
//! Within one block of assembly nothing is left in a tile; only the tile configuration spans several, and it is released at the end.

use std::arch::asm;
#[allow(clippy::wildcard_imports, reason = "intrinsics of one prefix")]
use std::arch::x86_64::*;
use std::sync::LazyLock;

use super::dense::DenseJob;
use super::layout::{Encoding, Layout, bf16_pitch, padded_pairs};
use crate::estimate::format::Format;

const ROWS: usize = 16;

/// Whether the CPU has tiles with 8-bit and bf16 products and the kernel lets this process use them.
pub(super) fn is_available() -> bool {
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        const INT8: u32 = 1 << 25;
        let cpu = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (BF16 | TILES | INT8) == (BF16 | TILES | INT8);
        cpu && permitted()
    });
    *AVAILABLE
}

/// Asks Linux for the tile registers, which it gives on request only (`Documentation/arch/x86/xstate.rst`).
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes nothing but this process's permission.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// (rows, bytes of a row) of each tile.
    fn new(tiles: [(usize, usize); 8]) -> Self {
        let mut config = Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        for (tile, (rows, bytes)) in tiles.into_iter().enumerate() {
            config.rows[tile] = rows as u8;
            config.row_bytes[tile] = bytes as u16;
        }
        config
    }
    unsafe fn load(&self) {
        // SAFETY: the caller promises that the process may use tiles; `self` is a valid configuration.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                config = in(reg) self,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags, readonly)
            );
        }
    }
}

/// Gives the tiles back, so that the kernel need not save them.
unsafe fn release() {
    // SAFETY: as for `load`.
    unsafe {
        asm!(
            "tilerelease",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags, nomem)
        );
    }
}

/// Widens one value of every lane: the bits `MASK` hold a stored integer (after the shift), which together with `magic` reads as the f32
/// 2ᵏ + integer; × scale + offset gives the weight. Both steps are exact but for the one rounding at the end.
#[inline(always)]
unsafe fn weight<const LEFT: u32, const RIGHT: u32>(
    bits: __m512i,
    mask: __m512i,
    magic: __m512i,
    scale: __m512,
    offset: __m512,
) -> __m512 {
    // (a & b) | c
    const AND_OR: i32 = 0xea;
    // SAFETY: the caller's promise of AVX-512.
    unsafe {
        let shifted = if LEFT > 0 { _mm512_slli_epi32::<LEFT>(bits) } else { _mm512_srli_epi32::<RIGHT>(bits) };
        let value = _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<AND_OR>(shifted, mask, magic));
        _mm512_fmadd_ps(value, scale, offset)
    }
}

/// Values of a quantized panel to pairs of bf16, zeros up to whole tiles.
///
/// # Safety
/// The CPU must have AVX-512 with BF16; `panel` is a panel of `layout`, `to` has room for 16 rows of padded pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn expand(layout: &Layout, panel: &[u8], to: *mut u8) {
    const VECTOR: usize = ROWS * 4;
    let nibbles = layout.encoding == Encoding::Nibbles;
    // Nibbles in bits 16..20 of an f32 of exponent 7 count ones, so do bytes in bits 8..16 with exponent 15.
    let (mask, power) = if nibbles { (0x000f_0000, 128.0f32) } else { (0x0000_ff00, 32_768.0f32) };
    let (mask, magic) = (_mm512_set1_epi32(mask), _mm512_set1_epi32(power.to_bits() as i32));
    let bias = _mm512_set1_ps(-(power + layout.zero_point() as f32));
    // Even places from the first vector, odd ones from the second.
    let order: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: the caller's promise.
    unsafe {
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        let half = |at: usize| _mm512_cvtph_ps(_mm256_loadu_si256(panel.as_ptr().add(at).cast()));
        let store = |pair: usize, first: __m512, second: __m512| {
            let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
            _mm512_storeu_si512(to.add(pair * VECTOR).cast(), _mm512_permutexvar_epi16(order, both));
        };
        let mut values = panel.as_ptr().add(layout.values);
        for block in 0..layout.blocks {
            let scale = half(layout.scales(block));
            let offset = if layout.format == Format::Q4_1 {
                _mm512_fmadd_ps(bias, scale, half(layout.minima(block)))
            } else {
                _mm512_mul_ps(bias, scale)
            };
            if nibbles {
                for group in 0..4 {
                    let bits = _mm512_loadu_si512(values.cast());
                    values = values.add(VECTOR);
                    let pair = block * 16 + group * 2;
                    let a = weight::<16, 0>(bits, mask, magic, scale, offset);
                    let b = weight::<8, 0>(bits, mask, magic, scale, offset);
                    store(pair, a, b);
                    let a = weight::<0, 0>(bits, mask, magic, scale, offset);
                    let b = weight::<0, 8>(bits, mask, magic, scale, offset);
                    store(pair + 1, a, b);
                    let a = weight::<12, 0>(bits, mask, magic, scale, offset);
                    let b = weight::<4, 0>(bits, mask, magic, scale, offset);
                    store(pair + 8, a, b);
                    let a = weight::<0, 4>(bits, mask, magic, scale, offset);
                    let b = weight::<0, 12>(bits, mask, magic, scale, offset);
                    store(pair + 9, a, b);
                }
            } else {
                for group in 0..8 {
                    let bits = _mm512_loadu_si512(values.cast());
                    values = values.add(VECTOR);
                    let pair = block * 16 + group * 2;
                    let a = weight::<8, 0>(bits, mask, magic, scale, offset);
                    let b = weight::<0, 0>(bits, mask, magic, scale, offset);
                    store(pair, a, b);
                    let a = weight::<0, 8>(bits, mask, magic, scale, offset);
                    let b = weight::<0, 16>(bits, mask, magic, scale, offset);
                    store(pair + 1, a, b);
                }
            }
        }
    }
}

/// Products of bf16, for any number of tokens.
///
/// # Safety
/// Tiles must be available; the job's pointers must be good for its sizes, with widths padded to whole tiles (see [`padded_pairs`] and
/// [`bf16_pitch`]).
pub(super) unsafe fn pairs<const M: usize>(job: &DenseJob<M>) {
    // Tiles 0 and 1 are the sums of the first tokens, 2 and 3 of the second, 4 and 5 their activations, 6 and 7 the weights.
    let mut configured = (0, 0);
    let mut configure = |first: usize, second: usize| {
        if configured != (first, second) {
            configured = (first, second);
            let (sums, x, w) = (|tokens| (tokens, ROWS * 4), |tokens| (tokens, 64), (16, ROWS * 4));
            let tiles = [sums(first), sums(first), sums(second), sums(second), x(first), x(second), w, w];
            // SAFETY: the caller's promise.
            unsafe { Config::new(tiles).load() };
        }
    };
    let mut token = 0;
    // SAFETY: the caller's promise; tiles stay inside `tokens`.
    unsafe {
        while M == 2 && token + 16 < job.tokens {
            let second = (job.tokens - token - 16).min(16);
            configure(16, second);
            four_tiles(job, token);
            token += 16 + second;
        }
        while token < job.tokens {
            let first = (job.tokens - token).min(16);
            configure(first, 1);
            for panel in 0..M {
                one_tile(job, panel, token);
            }
            token += first;
        }
        release();
    }
}

/// The results of two panels and two tiles of tokens.
#[inline(always)]
unsafe fn four_tiles<const M: usize>(job: &DenseJob<M>, token: usize) {
    let row_bytes = bf16_pitch(job.cols) * 2;
    // SAFETY: the caller's promise.
    unsafe {
        let x = job.x.add(token * row_bytes);
        let out = |m: usize, token: usize| job.out[m].add(token * job.stride);
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{x0} + {x_stride}*1]",
            "tileloadd tmm6, [{w0} + {line}*1]",
            "tileloadd tmm7, [{w1} + {line}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{x1} + {x_stride}*1]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {x0}, 64",
            "add {x1}, 64",
            "add {w0}, 1024",
            "add {w1}, 1024",
            "dec {steps}",
            "jnz 2b",
            "mov {x0}, [{to}]",
            "mov {x1}, [{to} + 8]",
            "mov {w0}, [{to} + 16]",
            "mov {w1}, [{to} + 24]",
            "tilestored [{x0} + {out_stride}*1], tmm0",
            "tilestored [{x1} + {out_stride}*1], tmm1",
            "tilestored [{w0} + {out_stride}*1], tmm2",
            "tilestored [{w1} + {out_stride}*1], tmm3",
            x0 = inout(reg) x => _,
            x1 = inout(reg) x.add(16 * row_bytes) => _,
            w0 = inout(reg) job.values[0] => _,
            w1 = inout(reg) job.values[1] => _,
            steps = inout(reg) padded_pairs(job.cols) / 16 => _,
            x_stride = in(reg) row_bytes,
            line = in(reg) ROWS * 4,
            to = in(reg) [out(0, token), out(1, token), out(0, token + 16), out(1, token + 16)].as_ptr(),
            out_stride = in(reg) job.stride * 4,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}

/// The results of one panel and one tile of tokens: for what is left over, and for single tokens, whose limit is the memory.
#[inline(always)]
unsafe fn one_tile<const M: usize>(job: &DenseJob<M>, panel: usize, token: usize) {
    let row_bytes = bf16_pitch(job.cols) * 2;
    // SAFETY: the caller's promise; a prefetch never faults.
    unsafe {
        asm!(
            "tilezero tmm0",
            "2:",
            "prefetcht0 [{w} + 8192]",
            "prefetcht0 [{w} + 8192 + 256]",
            "prefetcht0 [{w} + 8192 + 512]",
            "prefetcht0 [{w} + 8192 + 768]",
            "tileloadd tmm4, [{x} + {x_stride}*1]",
            "tileloadd tmm6, [{w} + {line}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "add {x}, 64",
            "add {w}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{to} + {out_stride}*1], tmm0",
            x = inout(reg) job.x.add(token * row_bytes) => _,
            w = inout(reg) job.values[panel] => _,
            steps = inout(reg) padded_pairs(job.cols) / 16 => _,
            x_stride = in(reg) row_bytes,
            line = in(reg) ROWS * 4,
            to = in(reg) job.out[panel].add(token * job.stride),
            out_stride = in(reg) job.stride * 4,
            out("tmm0") _, out("tmm4") _, out("tmm6") _,
            options(nostack)
        );
    }
}
