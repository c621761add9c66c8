//! RMS norms: x / √(mean(x²) + eps) · weight.

use super::super::backend::{Arg, GpuResult, HalfType, Launch};
use super::super::kernel::{Kernel, Module, RMS_NORM};
use super::super::launch;
use super::Checks;
use super::comparison::{Comparison, E, Expected};
use super::device::Device;

pub(super) fn run(checks: &mut Checks<'_>) {
    // Rows, width, values from row to row.
    let small = vec![(3, 4, 4), (2, 896, 900), (1, 4096, 4096), (5, 1028, 1028)];
    let full = vec![(1, 896, 896), (8, 4096, 4096), (37, 1024, 4096), (513, 5120, 5120), (3, 1028, 1032)];
    for (rows, width, stride) in checks.pick(full, small) {
        checks.case("rms_norm", format!("rows {rows}, width {width}, stride {stride}"), |device| {
            rms_norm(device, rows, width, stride)
        });
    }
    for (rows, width) in checks.pick(vec![(1, 4096), (19, 896)], vec![(2, 1028), (1, 64)]) {
        checks.case("add_rms_norm", format!("rows {rows}, width {width}"), |device| add_rms_norm(device, rows, width));
    }
    // Rows, first value, heads, width of a head, values from row to row. Qwen3 norms its q heads and its k heads.
    let small =
        vec![(2, 0, 4, 128, 1024), (3, 512, 2, 128, 1024), (1, 0, 3, 64, 200), (2, 8, 1, 256, 264), (2, 0, 2, 6, 12)];
    let full =
        vec![(1, 0, 16, 128, 4096), (8, 2048, 8, 128, 4096), (300, 0, 14, 64, 1152), (17, 0, 32, 256, 8192 + 64)];
    for (rows, first, heads, head_dim, stride) in checks.pick(full, small) {
        let name = format!("rows {rows}, heads {heads} of {head_dim} from {first}, stride {stride}");
        checks.case("rms_norm_heads", name, |device| heads_in_place(device, rows, first, heads, head_dim, stride));
    }
}

const EPS: f32 = 1e-5;

/// The norm of a row. The sum of squares is off by a few `e` per addition, of which no thread makes more than `width / 128` and the reduction
/// ten; its root by half of that. The root, two products and the division add eight.
fn normed(device: &Device<'_>, x: &[f64], weight: &[f64]) -> Vec<Expected> {
    let mean = x.iter().map(|value| value * value).sum::<f64>() / x.len() as f64;
    let factor = 1.0 / (mean + f64::from(EPS)).sqrt();
    let relative = (x.len() as f64 / 256.0 + 5.0 + 8.0) * E;
    x.iter()
        .zip(weight)
        .map(|(x, weight)| {
            let value = x * factor * weight;
            device.rounded(value, relative * value.abs())
        })
        .collect()
}

fn rms_norm(device: &mut Device<'_>, rows: usize, width: usize, stride: usize) -> GpuResult<Comparison> {
    // Rows of different sizes, so that one row's factor is not another's.
    let values: Vec<f64> = (0..rows * stride).map(|i| device.random.symmetric() * (1 + i / stride) as f64).collect();
    let x = device.f32s(values)?;
    let weight = device.random_f32s(width, 1.0, 0.5)?;
    let out = device.output(rows * width * 2)?;
    launch::rms_norm(
        device.backend,
        device.half,
        out.address(),
        x.address(),
        stride as u32,
        weight.address(),
        EPS,
        rows as u32,
        width as u32,
    )?;
    let mut comparison = Comparison::default();
    let got = device.read_halves(&out, &mut comparison)?;
    let rows = x.values.chunks_exact(stride).map(|row| &row[..width]);
    let expected: Vec<_> = rows.flat_map(|row| normed(device, row, &weight.values)).collect();
    comparison.values(&got, expected);
    Ok(comparison)
}

/// The sum is rounded to f32 once; the norm is that of the rounded sums.
fn add_rms_norm(device: &mut Device<'_>, rows: usize, width: usize) -> GpuResult<Comparison> {
    let residual = device.random_f32s(rows * width, 0.0, 5.0)?;
    let delta = device.random_halves(rows * width, 2.0)?;
    let weight = device.random_f32s(width, 1.0, 0.5)?;
    let out = device.output(rows * width * 2)?;
    // The engine adds in the product before the norm and does not launch it.
    let number = match device.half {
        HalfType::F16 => 0,
        HalfType::BF16 => 1,
    };
    let kernel = Kernel { module: Module::new(RMS_NORM, &[("PP_T", number)]), function: "add_rms_norm" };
    let launch = Launch { grid: [rows as u32, 1, 1], block: [256, 1, 1], shared_bytes: 0 };
    let args = [
        residual.address().into(),
        delta.address().into(),
        out.address().into(),
        weight.address().into(),
        Arg::F32(EPS),
        Arg::U32(width as u32),
    ];
    device.backend.launch(&kernel, launch, &args)?;
    let mut comparison = Comparison::default();
    let sums: Vec<f64> = residual.values.iter().zip(&delta.values).map(|(residual, delta)| residual + delta).collect();
    let got = device.download_f32s(&residual.buffer)?;
    comparison.values(&got, sums.iter().map(|sum| Expected { value: *sum, tolerance: E * sum.abs() }));
    let got = device.read_halves(&out, &mut comparison)?;
    let expected: Vec<_> = sums.chunks_exact(width).flat_map(|row| normed(device, row, &weight.values)).collect();
    comparison.values(&got, expected);
    Ok(comparison)
}

fn heads_in_place(
    device: &mut Device<'_>,
    rows: usize,
    first: usize,
    heads: usize,
    head_dim: usize,
    stride: usize,
) -> GpuResult<Comparison> {
    let x = device.random_halves(rows * stride, 3.0)?;
    let weight = device.random_f32s(head_dim, 1.0, 0.5)?;
    launch::rms_norm_heads(
        device.backend,
        device.half,
        x.address().offset(first as u64 * 2),
        stride as u32,
        heads as u32,
        rows as u32,
        head_dim as u32,
        weight.address(),
        EPS,
    )?;
    let mut comparison = Comparison::default();
    let got = device.download_halves(&x.buffer)?;
    for (got, before) in got.chunks_exact(stride).zip(x.values.chunks_exact(stride)) {
        let heads_end = first + heads * head_dim;
        let expected =
            before[first..heads_end].chunks_exact(head_dim).flat_map(|head| normed(device, head, &weight.values));
        comparison.values(&got[first..heads_end], expected);
        for at in (0..first).chain(heads_end..stride) {
            comparison.unchanged(got[at], before[at]);
        }
    }
    Ok(comparison)
}
