//! Arithmetic ceilings: chains of fused multiply-adds that stay in registers, on as many threads as the engine uses.
//!
//! On x86-64 the loops are assembly, so that no optimiser can shorten them and a debug build measures the same as a release build.
//! Sixteen independent chains (twelve with 256-bit registers) cover the latency of four cycles on two ports of current cores.

use std::time::{Duration, Instant};

use super::{Measured, Statistic, sustain};
use crate::estimate::format::Format;

/// A loop that can be timed.
#[derive(Clone, Copy)]
struct Kernel {
    /// Runs the loop body this many times.
    run: fn(u64),
    /// Operations of one body; a multiply-add counts as two.
    operations: u64,
    /// What it is, for the report.
    what: &'static str,
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    use super::Kernel;
    use crate::estimate::format::Format;

    /// Sixteen chains of `$instruction zmmN, zmm30, zmm31`; `$bits` fills every 32 bits of both operands. Real values and no
    /// zeroes: the power a unit draws, and with it the clock, depends on the bits that flip.
    macro_rules! chains_512 {
        ($name:ident, $instruction:literal, $bits:literal) => {
            /// # Safety
            /// The processor must have AVX-512F and the extension of the instruction.
            unsafe fn $name(count: u64) {
                // SAFETY: the block writes only registers named as outputs and the flags, touches neither memory nor stack, and
                // ends because `count` is at least 1 and falls by one each time. The caller vouches for the instructions.
                unsafe {
                    asm!(
                        "vpbroadcastd zmm30, {bits:e}",
                        "vmovdqa64 zmm31, zmm30",
                        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                        "vpxord zmm\\n, zmm\\n, zmm\\n",
                        ".endr",
                        "2:",
                        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                        concat!($instruction, " zmm\\n, zmm30, zmm31"),
                        ".endr",
                        "dec {count}",
                        "jnz 2b",
                        "vzeroupper",
                        bits = in(reg) $bits,
                        count = inout(reg) count.max(1) => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                        out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                        out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                        out("xmm30") _, out("xmm31") _,
                        options(nomem, nostack),
                    );
                }
            }
        };
    }

    /// Twelve chains of `$instruction ymmN, ymm14, ymm15`.
    macro_rules! chains_256 {
        ($name:ident, $instruction:literal, $bits:literal) => {
            /// # Safety
            /// The processor must have AVX2 and the extension of the instruction.
            unsafe fn $name(count: u64) {
                // SAFETY: as for the 512-bit loops.
                unsafe {
                    asm!(
                        "vmovd xmm14, {bits:e}",
                        "vpbroadcastd ymm14, xmm14",
                        "vmovdqa ymm15, ymm14",
                        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11",
                        "vpxor ymm\\n, ymm\\n, ymm\\n",
                        ".endr",
                        "2:",
                        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11",
                        concat!($instruction, " ymm\\n, ymm14, ymm15"),
                        ".endr",
                        "dec {count}",
                        "jnz 2b",
                        "vzeroupper",
                        bits = in(reg) $bits,
                        count = inout(reg) count.max(1) => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                        out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                        out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    );
                }
            }
        };
    }

    // 0x3c003c00 is 0.0078 as f32, 1.2e-19 as f64 and 0.0078 as bf16; 0x14001400 is 0.00098 as f16; 0x01010101 are four ones.
    chains_512!(f64_512, "vfmadd231pd", 0x3c00_3c00u32);
    chains_512!(f32_512, "vfmadd231ps", 0x3c00_3c00u32);
    chains_512!(f16_512, "vfmadd231ph", 0x1400_1400u32);
    chains_512!(bf16_512, "vdpbf16ps", 0x3c00_3c00u32);
    chains_512!(i8_512, "vpdpbusd", 0x0101_0101u32);
    chains_256!(f64_256, "vfmadd231pd", 0x3c00_3c00u32);
    chains_256!(f32_256, "vfmadd231ps", 0x3c00_3c00u32);
    chains_256!(i8_256, "{{vex}} vpdpbusd", 0x0101_0101u32);

    /// Six chains of the three instructions that stand for a dot product of bytes without VNNI.
    ///
    /// # Safety
    /// The processor must have AVX2.
    unsafe fn i8_avx2(count: u64) {
        // SAFETY: as for the 512-bit loops.
        unsafe {
            asm!(
                "vmovd xmm14, {bytes:e}",
                "vpbroadcastd ymm14, xmm14",
                "vmovdqa ymm15, ymm14",
                "vmovd xmm13, {words:e}",
                "vpbroadcastd ymm13, xmm13",
                ".irp n,0,1,2,3,4,5",
                "vpxor ymm\\n, ymm\\n, ymm\\n",
                ".endr",
                "2:",
                ".irp n,6,7,8,9,10,11",
                "vpmaddubsw ymm\\n, ymm14, ymm15",
                ".endr",
                ".irp n,6,7,8,9,10,11",
                "vpmaddwd ymm\\n, ymm\\n, ymm13",
                ".endr",
                "vpaddd ymm0, ymm0, ymm6",
                "vpaddd ymm1, ymm1, ymm7",
                "vpaddd ymm2, ymm2, ymm8",
                "vpaddd ymm3, ymm3, ymm9",
                "vpaddd ymm4, ymm4, ymm10",
                "vpaddd ymm5, ymm5, ymm11",
                "dec {count}",
                "jnz 2b",
                "vzeroupper",
                bytes = in(reg) 0x0101_0101u32,
                words = in(reg) 0x0001_0001u32,
                count = inout(reg) count.max(1) => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nomem, nostack),
            );
        }
    }

    /// The loops this processor has for `format`, the widest first.
    pub(super) fn kernels(format: Format) -> Vec<Kernel> {
        // Chains × lanes × two operations (× products that one lane adds up).
        let wide = is_x86_feature_detected!("avx512f");
        let narrow = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let mut kernels = Vec::new();
        macro_rules! offer {
            ($condition:expr, $kernel:ident, $operations:expr, $what:literal) => {
                if $condition {
                    kernels.push(Kernel {
                        // SAFETY: this branch has just detected the instructions.
                        run: |count| unsafe { $kernel(count) },
                        operations: $operations,
                        what: $what,
                    });
                }
            };
        }
        match format {
            Format::F64 => {
                offer!(wide, f64_512, 16 * 8 * 2, "AVX-512 f64 multiply-adds");
                offer!(narrow, f64_256, 12 * 4 * 2, "AVX2 f64 multiply-adds");
            }
            Format::F32 => {
                offer!(wide, f32_512, 16 * 16 * 2, "AVX-512 f32 multiply-adds");
                offer!(narrow, f32_256, 12 * 8 * 2, "AVX2 f32 multiply-adds");
            }
            Format::F16 => {
                let own = wide && is_x86_feature_detected!("avx512fp16");
                offer!(own, f16_512, 16 * 32 * 2, "AVX-512-FP16 multiply-adds");
            }
            Format::BF16 => {
                let own = wide && is_x86_feature_detected!("avx512bf16");
                offer!(own, bf16_512, 16 * 32 * 2, "AVX-512-BF16 dot products into f32");
            }
            Format::I8 => {
                let vnni = wide && is_x86_feature_detected!("avx512vnni");
                offer!(vnni, i8_512, 16 * 64 * 2, "AVX-512-VNNI dot products of bytes");
                let vnni = narrow && is_x86_feature_detected!("avxvnni");
                offer!(vnni, i8_256, 12 * 32 * 2, "AVX-VNNI dot products of bytes");
                offer!(narrow, i8_avx2, 6 * 32 * 2, "AVX2 dot products of bytes (multiply, widen, add)");
            }
            _ => {}
        }
        kernels
    }
}

/// Chains of multiply-adds in plain Rust, for processors without a loop of their own: the compiler makes vectors of them.
mod portable {
    use std::hint::black_box;

    use super::Kernel;
    use crate::estimate::format::Format;

    macro_rules! chains {
        ($name:ident, $float:ty) => {
            fn $name(count: u64) {
                let factor = [black_box(0.5 as $float); 64];
                let term = [black_box(0.25 as $float); 64];
                let mut sums = [black_box(1.0 as $float); 64];
                for _ in 0..count.max(1) {
                    for ((sum, factor), term) in sums.iter_mut().zip(&factor).zip(&term) {
                        // Where the target has no fused multiply-add, `mul_add` would be a call into the C library.
                        *sum = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                            sum.mul_add(*factor, *term)
                        } else {
                            *sum * *factor + *term
                        };
                    }
                }
                black_box(sums);
            }
        };
    }
    chains!(f32_chains, f32);
    chains!(f64_chains, f64);

    pub(super) fn kernel(format: Format) -> Option<Kernel> {
        match format {
            Format::F32 => {
                Some(Kernel { run: f32_chains, operations: 128, what: "f32 multiply-adds in portable code" })
            }
            Format::F64 => {
                Some(Kernel { run: f64_chains, operations: 128, what: "f64 multiply-adds in portable code" })
            }
            _ => None,
        }
    }
}

fn kernel(format: Format) -> Option<Kernel> {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = x86::kernels(format).into_iter().next() {
        return Some(kernel);
    }
    portable::kernel(format)
}

/// Operations per second of `threads` threads, and what the reader should know about them.
pub(super) fn measure(format: Format, threads: u32, budget: Duration) -> (Option<Measured>, Option<String>) {
    let native = kernel(format);
    if !matches!(format, Format::F16 | Format::BF16) {
        return match native {
            Some(kernel) => (measure_kernel(kernel, "", threads, budget), None),
            None => (None, Some(format!("no loop to measure {format} arithmetic with"))),
        };
    }
    // A 16-bit float can be widened and computed in f32, which is the only way without units of its own and the faster one where
    // those are slow (VDPBF16PS on some cores): the ceiling is whichever is higher.
    let ways = [native.map(|kernel| (kernel, "")), kernel(Format::F32).map(|kernel| (kernel, WIDENED))];
    let share = budget / ways.iter().flatten().count().max(1) as u32;
    let best = ways
        .into_iter()
        .flatten()
        .filter_map(|(kernel, how)| measure_kernel(kernel, how, threads, share))
        .max_by(|a, b| a.value.total_cmp(&b.value));
    (best, None)
}

/// How a 16-bit float is computed in f32.
const WIDENED: &str = ", to which the format is widened";

fn measure_kernel(kernel: Kernel, how: &str, threads: u32, budget: Duration) -> Option<Measured> {
    // One pass lasts about a millisecond: long against reading the clock, short against a slice of time of the scheduler.
    let mut count = 1u64 << 8;
    loop {
        let began = Instant::now();
        (kernel.run)(count);
        let elapsed = began.elapsed();
        if elapsed >= PASS / 4 || count >= 1 << 40 {
            count = ((count as f64 * PASS.as_secs_f64() / elapsed.as_secs_f64().max(1e-9)) as u64).max(1);
            break;
        }
        count *= 4;
    }
    let operations = (kernel.operations * count) as f64;
    let rates = sustain(vec![(); threads as usize], budget, |(), _| {
        (kernel.run)(count);
        operations
    });
    Measured::of(
        &rates,
        Statistic::Best,
        format!("{threads} thread(s) of {} in registers{how}, best pass of each", kernel.what),
    )
}

/// How long one pass should last.
const PASS: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn every_float_format_has_a_ceiling_machines_can_have() {
        for format in [Format::F64, Format::F32, Format::F16, Format::BF16] {
            let (measured, _) = measure(format, 1, SHORT);
            let measured = measured.unwrap();
            // One core: from an interpreter's rate to ten times the widest core sold.
            assert!((1e6..1e13).contains(&measured.value), "{format}: {measured:?}");
            assert!(measured.n >= 2);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_loop_does_all_of_its_work() {
        // A core finishes at most four vector instructions per cycle at 6 GHz or so; a loop that ended early, or an operation
        // count that is too high, would show as more.
        for format in [Format::F64, Format::F32, Format::F16, Format::BF16, Format::I8] {
            for kernel in x86::kernels(format) {
                let count = 1 << 16;
                let began = Instant::now();
                (kernel.run)(count);
                let seconds = began.elapsed().as_secs_f64();
                let lanes = match (format, kernel.what.contains("512")) {
                    (Format::F64, wide) => [4, 8][usize::from(wide)],
                    (Format::F32, wide) => [8, 16][usize::from(wide)],
                    (Format::I8, wide) => [32, 64][usize::from(wide)],
                    _ => 32,
                };
                let instructions = (kernel.operations / 2 / lanes * count) as f64;
                assert!(instructions / seconds < 4.0 * 6e9, "{}: {:e}/s", kernel.what, instructions / seconds);
                assert!(instructions / seconds > 1e5, "{}: {:e}/s", kernel.what, instructions / seconds);
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn wider_units_come_first() {
        for format in [Format::F64, Format::F32, Format::I8] {
            let kernels = x86::kernels(format);
            assert!(kernels.windows(2).all(|pair| pair[0].operations > pair[1].operations), "{format}");
            // A processor with AVX2 has a loop for each of these.
            let narrow = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            assert_eq!(kernels.is_empty(), !narrow, "{format}");
        }
    }

    #[test]
    fn a_storage_format_has_no_arithmetic_and_says_so() {
        let (measured, note) = measure(Format::Q4K, 1, SHORT);
        assert_eq!(measured, None);
        assert!(note.unwrap().contains("q4_k"));
    }

    #[test]
    fn portable_chains_settle_where_the_recurrence_does() {
        // x ← x/2 + 1/4 has the fixed point 1/2: the loop neither overflows nor decays into slow denormals.
        let mut value = 1.0f32;
        for _ in 0..100 {
            value = value * 0.5 + 0.25;
        }
        assert_eq!(value, 0.5);
        assert!(portable::kernel(Format::F32).is_some() && portable::kernel(Format::I8).is_none());
    }
}
