//! Kernels that make each value of a few others: embedding, gated activation, bias, rotation.

use super::super::backend::GpuResult;
use super::super::launch::{self, RopeWrite};
use super::Checks;
use super::comparison::{Comparison, E, Expected};
use super::device::Device;

pub(super) fn run(checks: &mut Checks<'_>) {
    // Rows, width, vocabulary.
    let small = vec![(1, 8, 3), (5, 896, 17), (2, 2056, 9)];
    let full = vec![(1, 4096, 16_000), (8, 896, 50_000), (300, 1024, 5_000), (3, 2056, 9)];
    for (rows, width, vocabulary) in checks.pick(full, small) {
        checks.case("embedding", format!("rows {rows}, width {width}, vocabulary {vocabulary}"), |device| {
            embedding(device, rows, width, vocabulary)
        });
    }
    let small = vec![(1, 8), (3, 2048), (2, 2056)];
    let full = vec![(1, 14_336), (33, 4_864), (1, 8), (512, 3_072), (2, 2_056)];
    for (rows, width) in checks.pick(full, small) {
        checks.case("swiglu", format!("rows {rows}, width {width}"), |device| swiglu(device, rows, width));
    }
    let small = vec![(3, 1), (2, 255), (3, 257)];
    let full = vec![(1, 1_152), (129, 6_144), (3, 257)];
    for (rows, width) in checks.pick(full, small) {
        for is_f32 in [false, true] {
            let kernel = if is_f32 { "add_bias_f32" } else { "add_bias" };
            checks.case(kernel, format!("rows {rows}, width {width}"), |device| add_bias(device, rows, width, is_f32));
        }
    }
    let shape = |(batch, queries, position), (heads, kv_heads, head_dim), room, gap| Rotation {
        batch,
        queries,
        position,
        heads,
        kv_heads,
        head_dim,
        capacity: position + queries + room,
        gap,
    };
    let small = vec![
        shape((1, 1, 0), (4, 1, 128), 0, 0),
        shape((2, 3, 5), (7, 1, 64), 3, 4),
        shape((3, 1, 9), (2, 2, 4), 1, 0),
        shape((1, 5, 0), (2, 1, 96), 0, 0),
    ];
    let full = vec![
        shape((1, 1, 0), (32, 8, 128), 0, 0),
        shape((8, 1, 1023), (14, 2, 64), 1, 0),
        shape((2, 257, 100), (16, 8, 128), 7, 8),
        shape((1, 33, 0), (32, 32, 96), 0, 0),
        shape((3, 2, 5), (8, 4, 256), 0, 0),
    ];
    for shape in checks.pick(full, small) {
        checks.case("rope_kv_write", shape.name(), |device| rotation(device, &shape));
    }
}

/// Exact.
fn embedding(device: &mut Device<'_>, rows: usize, width: usize, vocabulary: usize) -> GpuResult<Comparison> {
    let table = device.random_halves(vocabulary * width, 2.0)?;
    // The last row of the table, and repeats among many.
    let mut ids: Vec<u32> = (0..rows).map(|_| device.random.below(vocabulary as u32)).collect();
    ids[rows / 2] = vocabulary as u32 - 1;
    let device_ids = device.u32s(&ids)?;
    let out = device.output(rows * width * 4)?;
    launch::embedding(
        device.backend,
        device.half,
        out.address(),
        table.address(),
        device_ids.address(),
        rows as u32,
        width as u32,
    )?;
    let mut comparison = Comparison::default();
    let got = device.read_f32s(&out, &mut comparison)?;
    let rows = ids.iter().flat_map(|id| &table.values[*id as usize * width..][..width]);
    comparison.values(&got, rows.map(|value| Expected::exact(*value)));
    Ok(comparison)
}

/// The exponent x · log₂(e) is rounded, which changes the exponential by |x| · e, and its approximation by 4 e; division and products add 4.
pub(super) fn silu(x: f64) -> (f64, f64) {
    (x / (1.0 + (-x).exp()), (2.0 * x.abs() + 8.0) * E)
}

fn swiglu(device: &mut Device<'_>, rows: usize, width: usize) -> GpuResult<Comparison> {
    let mut values = device.uniform(rows * 2 * width, 8.0);
    // Where the exponential overflows, and where it vanishes.
    values[0] = -200.0;
    values[3] = 90.0;
    values[5] = 0.0;
    let gate_up = device.halves(values)?;
    let out = device.output(rows * width * 2)?;
    launch::swiglu(device.backend, device.half, out.address(), gate_up.address(), rows as u32, width as u32)?;
    let mut comparison = Comparison::default();
    let got = device.read_halves(&out, &mut comparison)?;
    let expected = gate_up.values.chunks_exact(2 * width).flat_map(|row| {
        let (gate, up) = row.split_at(width);
        gate.iter().zip(up).map(|(gate, up)| {
            let (value, relative) = silu(*gate);
            device.rounded(value * up, relative * (value * up).abs())
        })
    });
    comparison.values(&got, expected.collect::<Vec<_>>());
    Ok(comparison)
}

/// One addition in f32, and one rounding.
fn add_bias(device: &mut Device<'_>, rows: usize, width: usize, is_f32: bool) -> GpuResult<Comparison> {
    let x =
        if is_f32 { device.random_f32s(rows * width, 0.0, 4.0)? } else { device.random_halves(rows * width, 4.0)? };
    let bias = device.random_f32s(width, 0.0, 2.0)?;
    launch::add_bias(device.backend, device.half, x.address(), bias.address(), rows as u32, width as u32, is_f32)?;
    let got = if is_f32 { device.download_f32s(&x.buffer)? } else { device.download_halves(&x.buffer)? };
    let expected = x.values.iter().enumerate().map(|(at, x)| {
        let value = x + bias.values[at % width];
        if is_f32 { Expected { value, tolerance: E * value.abs() } } else { device.rounded(value, E * value.abs()) }
    });
    let mut comparison = Comparison::default();
    comparison.values(&got, expected);
    Ok(comparison)
}

/// Sizes of a rotation.
struct Rotation {
    batch: usize,
    queries: usize,
    position: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    /// Values between the rows of q, k and v.
    gap: usize,
}

impl Rotation {
    fn name(&self) -> String {
        format!(
            "batch {}, queries {}, position {}, heads {}/{} of {}, capacity {}, gap {}",
            self.batch, self.queries, self.position, self.heads, self.kv_heads, self.head_dim, self.capacity, self.gap
        )
    }
}

/// Cosines and sines `[capacity, head_dim / 2]` with a base of 10 000.
pub(super) fn angles(capacity: usize, head_dim: usize) -> (Vec<f64>, Vec<f64>) {
    let half = head_dim / 2;
    let angle = |at: usize| {
        let (position, i) = (at / half, at % half);
        position as f64 * 10_000_f64.powf(-2.0 * i as f64 / head_dim as f64)
    };
    (0..capacity * half).map(|at| (angle(at).cos(), angle(at).sin())).unzip()
}

/// A head rotated by cosines and sines: value and size (what roundings of products are relative to) of each.
pub(super) fn rotated(head: &[f64], cos: &[f64], sin: &[f64]) -> Vec<(f64, f64)> {
    let half = head.len() / 2;
    let low = (0..half).map(|i| (head[i] * cos[i], -head[i + half] * sin[i]));
    let high = (0..half).map(|i| (head[i + half] * cos[i], head[i] * sin[i]));
    low.chain(high).map(|(a, b)| (a + b, a.abs() + b.abs())).collect()
}

/// Two products and a sum, then a rounding.
fn rotation(device: &mut Device<'_>, shape: &Rotation) -> GpuResult<Comparison> {
    let &Rotation { batch, queries, position, heads, kv_heads, head_dim, capacity, gap } = shape;
    let stride = (heads + 2 * kv_heads) * head_dim + gap;
    let rows = batch * queries;
    let qkv = device.random_halves(rows * stride, 2.0)?;
    let (cos, sin) = angles(capacity, head_dim);
    let (cos, sin) = (device.f32s(cos)?, device.f32s(sin)?);
    let cache_values = batch * kv_heads * capacity * head_dim;
    let [k_cache, v_cache] = [device.random_halves(cache_values, 1.0)?, device.random_halves(cache_values, 1.0)?];
    let position_buffer = device.u32s(&[position as u32])?;
    let call = RopeWrite {
        qkv: qkv.address(),
        stride: stride as u32,
        cos: cos.address(),
        sin: sin.address(),
        k_cache: k_cache.address(),
        v_cache: v_cache.address(),
        position: position_buffer.address(),
        rows: rows as u32,
        queries: queries as u32,
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        head_dim: head_dim as u32,
        capacity: capacity as u32,
    };
    launch::rope_kv_write(device.backend, device.half, &call)?;

    let mut comparison = Comparison::default();
    let half = head_dim / 2;
    let turned = |row: usize, first: usize| {
        let at = (position + row % queries) * half;
        let head = &qkv.values[row * stride + first..][..head_dim];
        let values = rotated(head, &cos.values[at..at + half], &sin.values[at..at + half]);
        values.into_iter().map(|(value, size)| device.rounded(value, 3.0 * E * size)).collect::<Vec<_>>()
    };
    let got = device.download_halves(&qkv.buffer)?;
    for row in 0..rows {
        let values = &got[row * stride..][..stride];
        for head in 0..heads {
            comparison.values(&values[head * head_dim..][..head_dim], turned(row, head * head_dim));
        }
        // Whether k is left as it was or rotated here too is not promised; v and what follows must stay.
        let rest = (heads + kv_heads) * head_dim;
        for (got, before) in values[rest..].iter().zip(&qkv.values[row * stride + rest..]) {
            comparison.unchanged(*got, *before);
        }
    }
    let (k_got, v_got) = (device.download_halves(&k_cache.buffer)?, device.download_halves(&v_cache.buffer)?);
    for sequence in 0..batch {
        for head in 0..kv_heads {
            for at in 0..capacity {
                let first = ((sequence * kv_heads + head) * capacity + at) * head_dim;
                if at < position || at >= position + queries {
                    for i in first..first + head_dim {
                        comparison.unchanged(k_got[i], k_cache.values[i]);
                        comparison.unchanged(v_got[i], v_cache.values[i]);
                    }
                    continue;
                }
                let row = sequence * queries + at - position;
                comparison.values(&k_got[first..][..head_dim], turned(row, (heads + head) * head_dim));
                let v = &qkv.values[row * stride + (heads + kv_heads + head) * head_dim..][..head_dim];
                comparison.values(&v_got[first..][..head_dim], v.iter().map(|value| Expected::exact(*value)));
            }
        }
    }
    Ok(comparison)
}
