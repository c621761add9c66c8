//! Products with many tokens on the tile unit (AMX), by inline assembly: the intrinsics are not stable yet.
//!
//! 8-bit: one tile product makes the exact integer sums of a block of 32 columns for up to 12 tokens and 16 rows; they are stored, read
//! back as vectors and scaled, with the same operations in the same order as in [`blocks`](super::blocks), so that the bits are the same.
//! While one block is scaled the tile unit works on the next. 12 tokens times 2 panels of results are what fits in registers.
//!
//! bf16: up to 32 tokens times 32 rows are summed in the tiles over the whole width.
//!
//! Within one block of assembly nothing is left in a tile; only the tile configuration spans several, and it is released at the end.

use std::arch::asm;
#[allow(clippy::wildcard_imports, reason = "intrinsics of one prefix")]
use std::arch::x86_64::*;
use std::sync::LazyLock;

use super::BLOCK;
use super::activations::Header;
use super::blocks::Job;
use super::dense::DenseJob;
use super::layout::{Encoding, Layout};

const ROWS: usize = 16;
/// Most tokens of an 8-bit tile.
const TOKENS: usize = 12;
/// Fewer tokens are not worth a tile.
pub(super) const FEWEST_TOKENS: usize = 4;

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

/// Values of a quantized panel to signed bytes without zero point, in the order of `q8_0` panels.
///
/// # Safety
/// The CPU must have AVX-512; `from` holds the values of a panel of `layout`, `to` has room for 16 × cols bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
pub(super) unsafe fn expand(layout: &Layout, from: *const u8, to: *mut u8) {
    const VECTOR: usize = ROWS * 4;
    let zero_point = _mm512_set1_epi8(layout.zero_point() as u8 as i8);
    let low = _mm512_set1_epi8(15);
    for block in 0..layout.blocks {
        // SAFETY: the caller's promise.
        unsafe {
            if layout.encoding == Encoding::Nibbles {
                for group in 0..4 {
                    let bytes = _mm512_loadu_si512(from.add((block * 4 + group) * VECTOR).cast());
                    let first = _mm512_sub_epi8(_mm512_and_si512(bytes, low), zero_point);
                    let second = _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low), zero_point);
                    _mm512_storeu_si512(to.add((block * 8 + group) * VECTOR).cast(), first);
                    _mm512_storeu_si512(to.add((block * 8 + 4 + group) * VECTOR).cast(), second);
                }
            } else {
                for group in 0..8 {
                    let at = (block * 8 + group) * VECTOR;
                    let bytes = _mm512_loadu_si512(from.add(at).cast());
                    _mm512_storeu_si512(to.add(at).cast(), _mm512_sub_epi8(bytes, zero_point));
                }
            }
        }
    }
}

/// Integer sums of two panels, one block, `N` tokens.
#[repr(C, align(64))]
struct Sums<const N: usize>([[[i32; ROWS]; N]; 2]);

/// Sums of block `block` into `to`.
#[inline(always)]
unsafe fn multiply<const N: usize>(job: &Job<2>, quants: *const i8, block: usize, to: &mut Sums<N>) {
    // SAFETY: the tiles are configured for `N` tokens; the caller promises panels and activations of more than `block` blocks.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tileloadd tmm2, [{x} + {x_stride}*1]",
            "tileloadd tmm3, [{w0} + {line}*1]",
            "tileloadd tmm4, [{w1} + {line}*1]",
            "tdpbssd tmm0, tmm2, tmm3",
            "tdpbssd tmm1, tmm2, tmm4",
            "tilestored [{to0} + {line}*1], tmm0",
            "tilestored [{to1} + {line}*1], tmm1",
            x = in(reg) quants.add(block * BLOCK),
            x_stride = in(reg) job.blocks * BLOCK,
            w0 = in(reg) job.values[0].add(block * ROWS * BLOCK),
            w1 = in(reg) job.values[1].add(block * ROWS * BLOCK),
            line = in(reg) ROWS * 4,
            to0 = in(reg) to.0[0].as_mut_ptr(),
            to1 = in(reg) to.0[1].as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
            options(nostack, preserves_flags)
        );
    }
}

#[inline(always)]
unsafe fn tile<const N: usize, const MINIMA: bool>(job: &Job<2>, token: usize) {
    // SAFETY: the caller promises panels and activations of `blocks` blocks and room for the results.
    unsafe {
        let quants = job.quants.add(token * job.blocks * BLOCK);
        let headers: *const Header = job.headers.add(token * job.blocks);
        let mut sums = [const { Sums([[[0; ROWS]; N]; 2]) }; 2];
        let mut totals = [[_mm512_setzero_ps(); N]; 2];
        multiply(job, quants, 0, &mut sums[0]);
        for block in 0..job.blocks {
            if block + 1 < job.blocks {
                multiply(job, quants, block + 1, &mut sums[(block + 1) % 2]);
            }
            let sums = &sums[block % 2].0;
            let half = |from: [*const u8; 2]| {
                from.map(|from| _mm512_cvtph_ps(_mm256_loadu_si256(from.add(block * ROWS * 2).cast())))
            };
            let scales = half(job.scales);
            for n in 0..N {
                let scale = _mm512_set1_ps((*headers.add(n * job.blocks + block)).scale);
                for m in 0..2 {
                    let sum = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums[m][n].as_ptr().cast()));
                    totals[m][n] = _mm512_fmadd_ps(_mm512_mul_ps(sum, scale), scales[m], totals[m][n]);
                }
            }
            if MINIMA {
                let minima = half(job.minima);
                for n in 0..N {
                    let sum = _mm512_set1_ps((*headers.add(n * job.blocks + block)).sum);
                    for m in 0..2 {
                        totals[m][n] = _mm512_fmadd_ps(sum, minima[m], totals[m][n]);
                    }
                }
            }
        }
        for (totals, out) in totals.iter().zip(job.out) {
            for (n, total) in totals.iter().enumerate() {
                _mm512_storeu_ps(out.add((token + n) * job.stride), *total);
            }
        }
    }
}

/// Products of two panels of signed bytes made by [`expand`] with as many tokens as fill tiles; returns how many that were.
///
/// # Safety
/// Tiles must be available; the job's pointers must be good for its sizes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
pub(super) unsafe fn blocks<const MINIMA: bool>(job: &Job<2>) -> usize {
    let configure = |tokens: usize| {
        let (sums, x, w) = ((tokens, ROWS * 4), (tokens, BLOCK), (BLOCK / 4, ROWS * 4));
        // SAFETY: the caller's promise.
        unsafe { Config::new([sums, sums, x, w, w, (0, 0), (0, 0), (0, 0)]).load() };
    };
    let mut token = 0;
    // SAFETY: the caller's promise; tiles stay inside `tokens`.
    unsafe {
        if token + TOKENS <= job.tokens {
            configure(TOKENS);
            while token + TOKENS <= job.tokens {
                tile::<TOKENS, MINIMA>(job, token);
                token += TOKENS;
            }
        }
        if token + 8 <= job.tokens {
            configure(8);
            tile::<8, MINIMA>(job, token);
            token += 8;
        }
        if token + 4 <= job.tokens {
            configure(4);
            tile::<4, MINIMA>(job, token);
            token += 4;
        }
        release();
    }
    token
}

/// Products of bf16 pairs, for any number of tokens.
///
/// # Safety
/// Tiles must be available; the job's pointers must be good for its sizes, with widths padded to whole tiles (see
/// [`padded_pairs`](super::layout::padded_pairs)).
pub(super) unsafe fn pairs<const M: usize>(job: &DenseJob<M>) {
    let pairs = super::layout::padded_pairs(job.cols);
    let configure = |tokens: usize| {
        let (sums, x, w) = ((tokens, ROWS * 4), (tokens, 64), (16, ROWS * 4));
        // SAFETY: the caller's promise.
        unsafe { Config::new([sums, sums, sums, sums, x, x, w, w]).load() };
    };
    let mut token = 0;
    // SAFETY: the caller's promise; tiles stay inside `tokens`, and `steps` tiles cover the padded width.
    unsafe {
        let x = |token: usize| job.x.add(token * pairs * 4);
        let out = |m: usize, token: usize| job.out[m].add(token * job.stride);
        let steps = pairs / 16;
        if M == 2 && token + 32 <= job.tokens {
            configure(16);
            while token + 32 <= job.tokens {
                let to = [out(0, token), out(1, token), out(0, token + 16), out(1, token + 16)];
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
                    "tilestored [{x0} + {out_stride}*1], tmm0",
                    "mov {x0}, [{to} + 8]",
                    "tilestored [{x0} + {out_stride}*1], tmm1",
                    "mov {x0}, [{to} + 16]",
                    "tilestored [{x0} + {out_stride}*1], tmm2",
                    "mov {x0}, [{to} + 24]",
                    "tilestored [{x0} + {out_stride}*1], tmm3",
                    x0 = inout(reg) x(token) => _,
                    x1 = inout(reg) x(token + 16) => _,
                    w0 = inout(reg) job.values[0] => _,
                    w1 = inout(reg) job.values[1] => _,
                    x_stride = in(reg) pairs * 4,
                    line = in(reg) ROWS * 4,
                    steps = inout(reg) steps => _,
                    to = in(reg) to.as_ptr(),
                    out_stride = in(reg) job.stride * 4,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
                token += 32;
            }
        }
        while token < job.tokens {
            let count = (job.tokens - token).min(16);
            configure(count);
            for m in 0..M {
                asm!(
                    "tilezero tmm0",
                    "2:",
                    "prefetcht0 [{w} + 8192]",
                    "tileloadd tmm4, [{x} + {x_stride}*1]",
                    "tileloadd tmm6, [{w} + {line}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "add {x}, 64",
                    "add {w}, 1024",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{to} + {out_stride}*1], tmm0",
                    x = inout(reg) x(token) => _,
                    w = inout(reg) job.values[m] => _,
                    x_stride = in(reg) pairs * 4,
                    line = in(reg) ROWS * 4,
                    steps = inout(reg) steps => _,
                    to = in(reg) out(m, token),
                    out_stride = in(reg) job.stride * 4,
                    out("tmm0") _, out("tmm4") _, out("tmm6") _,
                    options(nostack)
                );
            }
            token += count;
        }
        release();
    }
}
