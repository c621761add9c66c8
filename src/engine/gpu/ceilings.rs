//! What a device attains at the most, measured with events on its stream: memory bandwidth and 16-bit matrix products.

use std::collections::BTreeMap;

use super::backend::{Arg, Gemm, GpuBackend, GpuResult, HalfType, Launch};
use super::kernel::{Kernel, MEMORY, Module};
use crate::hardware::ceilings::{Ceilings, Measured};

/// Bytes of each buffer of a copy: far more than any cache holds.
const STREAM_BYTES: u64 = 1 << 30;
/// Rows, columns and depth of the product: 2 × 8192³ FLOP, long enough that a launch does not count.
const PRODUCT: u32 = 8192;
/// Passes before those that count.
const WARM_UP: usize = 2;
/// Passes that count.
const PASSES: usize = 9;
/// Threads of a block that streams.
const BLOCK: u32 = 512;

/// How much is moved and multiplied; smaller in tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of each buffer.
    pub stream_bytes: u64,
    /// Rows, columns and depth of the product.
    pub product: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { stream_bytes: STREAM_BYTES, product: PRODUCT }
    }
}

/// Measures copying, reading and multiplying, a few milliseconds each. Takes the memory of two streams and of the product, and gives it back.
///
/// # Errors
/// What the device said; memory that cannot be had, above all.
pub fn measure(backend: &dyn GpuBackend, half: HalfType, sizes: Sizes) -> GpuResult<Ceilings> {
    let mut ceilings = Ceilings::default();
    let kernel = |function| Kernel { module: Module::new(MEMORY, &[]), function };
    let (copy, read) = (kernel("copy_vectors"), kernel("read_vectors"));
    // A grid of one wave and a few more: each block takes the next stretch when it is done.
    let grid = backend.facts().multiprocessors.max(1) * 8;
    let launch = Launch { grid: [grid, 1, 1], block: [BLOCK, 1, 1], shared_bytes: 0 };
    {
        let (from, to) = (backend.alloc(sizes.stream_bytes)?, backend.alloc(sizes.stream_bytes)?);
        backend.fill(from.address(), sizes.stream_bytes, 1)?;
        let vectors = Arg::U64(sizes.stream_bytes / 16);
        let seconds = passes(backend, || backend.launch(&copy, launch, &[Arg::from(&to), Arg::from(&from), vectors]))?;
        let method =
            format!("copy of {} MiB by a kernel, bytes read and written, median of events", sizes.stream_bytes >> 20);
        ceilings.copy_bytes_per_s = Some(rate(2.0 * sizes.stream_bytes as f64, &seconds, method));
        let seconds = passes(backend, || backend.launch(&read, launch, &[Arg::from(&from), vectors, Arg::from(&to)]))?;
        let method = format!("reading {} MiB by a kernel, median of events", sizes.stream_bytes >> 20);
        ceilings.read_bytes_per_s = Some(rate(sizes.stream_bytes as f64, &seconds, method));
    }
    let side = u64::from(sizes.product);
    let matrix = || backend.alloc(side * side * 2);
    let (a, w, c) = (matrix()?, matrix()?, matrix()?);
    // Zeros and the like are multiplied with less power, and faster, than numbers are.
    let values = noise(half, (side * side) as usize);
    backend.upload(a.address(), &values)?;
    backend.upload(w.address(), &values)?;
    let gemm = Gemm {
        half,
        m: sizes.product,
        n: sizes.product,
        k: sizes.product,
        a: a.address(),
        w: w.address(),
        c: c.address(),
        accumulate_f32: false,
        c_stride: sizes.product,
    };
    let seconds = passes(backend, || backend.gemm(&gemm))?;
    let flops = 2.0 * (side as f64).powi(3);
    let method = format!(
        "{0} x {0} x {0} product of {1} by cuBLAS, random values, median of events",
        sizes.product,
        half.name()
    );
    ceilings.flops_per_s = BTreeMap::from([(half.name().to_owned(), rate(flops, &seconds, method))]);
    Ok(ceilings)
}

/// Seconds of each pass, by events around it.
fn passes(backend: &dyn GpuBackend, mut pass: impl FnMut() -> GpuResult<()>) -> GpuResult<Vec<f64>> {
    for _ in 0..WARM_UP {
        pass()?;
    }
    let events = (0..=PASSES).map(|_| backend.event()).collect::<GpuResult<Vec<_>>>()?;
    events[0].record()?;
    for event in &events[1..] {
        pass()?;
        event.record()?;
    }
    backend.synchronize()?;
    events.windows(2).map(|pair| Ok(pair[0].elapsed_ns(&*pair[1])?.max(1) as f64 * 1e-9)).collect()
}

fn rate(amount: f64, seconds: &[f64], method: String) -> Measured {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    // The rate of the median pass; the spread says how far the best was above it.
    Measured { value: amount / median, n: sorted.len() as u32, spread: (1.0 - sorted[0] / median).max(0.0), method }
}

/// Values between −1 and 1 from a fixed seed.
fn noise(half: HalfType, count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count * 2);
    for _ in 0..count {
        // xorshift64*, Vigna 2016: anything without structure will do.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let value = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
        bytes.extend(match half {
            HalfType::F16 => half::f16::from_f32(value).to_le_bytes(),
            HalfType::BF16 => half::bf16::from_f32(value).to_le_bytes(),
        });
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_median_pass() {
        let measured = rate(100.0, &[2.0, 1.0, 4.0], String::new());
        assert_eq!((measured.value, measured.n, measured.spread), (50.0, 3, 0.5));
    }

    #[test]
    fn noise_fills_the_range_and_has_no_mean() {
        let values: Vec<f32> = noise(HalfType::BF16, 20_000)
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| half::bf16::from_le_bytes(*bytes).to_f32())
            .collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        // Five standard errors of a uniform mean: 5 / √(3 × 20,000).
        assert!(mean.abs() < 0.0205, "{mean}");
        assert!(values.iter().all(|value| value.abs() <= 1.0) && values.iter().any(|value| *value > 0.99));
    }
}
