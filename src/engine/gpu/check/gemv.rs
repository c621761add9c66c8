//! A matrix times one to eight vectors.

use super::super::backend::{Address, GpuResult};
use super::super::launch::{self, Gemv, GemvInput, GemvOutput};
use super::super::pack::WeightFormat;
use super::Checks;
use super::comparison::{Comparison, E, Expected, INDEPENDENT};
use super::device::Device;
use super::quantized::{self, weights};
use super::rows::silu;

const EPS: f32 = 1e-6;

/// What the vectors are, and what becomes of the products.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Input {
    Half,
    Normed,
}
#[derive(Debug, Clone, Copy, PartialEq)]
enum Output {
    Half,
    Add,
    SwiGlu,
    F32,
}

/// A case.
#[derive(Debug, Clone, Copy)]
struct Shape {
    format: WeightFormat,
    batch: usize,
    input: Input,
    output: Output,
    bias: bool,
    inner: usize,
    outer: usize,
}

impl Shape {
    fn name(&self) -> String {
        let input = if self.input == Input::Normed { "normed" } else { "half" };
        let output = match self.output {
            Output::Half => "half",
            Output::Add => "add",
            Output::SwiGlu => "swiglu",
            Output::F32 => "f32",
        };
        format!(
            "{}, batch {}, {input} to {output}{}, {} x {}",
            quantized::name(self.format),
            self.batch,
            if self.bias { " with bias" } else { "" },
            self.outer,
            self.inner
        )
    }
}

const FORMATS: [WeightFormat; 4] = [WeightFormat::Half, WeightFormat::Q8_0, WeightFormat::Q4_0, WeightFormat::Q4_1];
const MODES: [(Input, Output); 8] = [
    (Input::Normed, Output::Half),
    (Input::Half, Output::Add),
    (Input::Normed, Output::SwiGlu),
    (Input::Half, Output::F32),
    (Input::Normed, Output::F32),
    (Input::Half, Output::Half),
    (Input::Normed, Output::Add),
    (Input::Half, Output::SwiGlu),
];

pub(super) fn run(checks: &mut Checks<'_>) {
    let shapes = checks.pick(full(), small());
    for shape in shapes {
        checks.case("gemv", shape.name(), |device| gemv(device, &shape));
    }
}

/// Shapes of Llama-3-8B, Qwen2.5-0.5B (bias) and Qwen3-0.6B. Each format with each way in and out, and each format with each number of vectors.
fn full() -> Vec<Shape> {
    let mut shapes = Vec::new();
    // Rows and columns of: qkv, o, gate and up, down, head.
    let llama = [(6_144, 4_096), (4_096, 4_096), (14_336, 4_096), (4_096, 14_336), (16_032, 4_096)];
    let qwen = [(1_152, 896), (896, 896), (4_864, 896), (896, 4_864), (32_000, 896)];
    let modes = [MODES[0], MODES[1], MODES[2], MODES[1], MODES[4]];
    for (model, matrices) in [llama, qwen].into_iter().enumerate() {
        for ((outer, inner), (input, output)) in matrices.into_iter().zip(modes) {
            let bias = model == 1 && outer == 1_152;
            let format = WeightFormat::Half;
            shapes.push(Shape { format, batch: 1, input, output, bias, inner, outer });
        }
    }
    for (number, format) in FORMATS.into_iter().enumerate() {
        for (mode, (input, output)) in MODES.into_iter().enumerate() {
            let bias = (mode + number).is_multiple_of(2);
            shapes.push(Shape { format, batch: 1 + mode % 2, input, output, bias, inner: 3_072, outer: 1_023 });
        }
        for batch in 1..=8 {
            // Vectors of more columns than are staged at a time, and outputs that no group of rows divides.
            let (input, output) = MODES[(batch + 3 * number) % 8];
            shapes.push(Shape { format, batch, input, output, bias: batch % 3 == 0, inner: 14_336, outer: 517 });
        }
    }
    // Columns that fill no step: multiples of 8 for 16-bit weights, of 32 for the others.
    for (format, inner) in
        [(WeightFormat::Half, 8), (WeightFormat::Half, 1_000), (WeightFormat::Q8_0, 32), (WeightFormat::Q4_0, 1_056)]
    {
        shapes.push(Shape { format, batch: 1, input: Input::Half, output: Output::F32, bias: false, inner, outer: 3 });
    }
    shapes
}

/// Each format at the numbers of vectors that change how it is laid out, every way in and out once or more, several tiles, several passes.
fn small() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (number, format) in FORMATS.into_iter().enumerate() {
        for (row, (batch, inner, outer)) in
            [(1, 1_056, 201), (2, 96, 65), (3, 1_120, 37), (4, 96, 9), (8, 4_864, 67)].into_iter().enumerate()
        {
            let (input, output) = MODES[(row + 3 * number) % 8];
            shapes.push(Shape { format, batch, input, output, bias: (row + number) % 2 == 0, inner, outer });
        }
    }
    shapes.push(Shape { inner: 8, outer: 1, ..shapes[0] });
    shapes.push(Shape { inner: 1_000, outer: 5, ..shapes[0] });
    shapes
}

/// A sum of products.
///
/// Each lane adds `inner / 32` of them and rounds each time, relative to sums that are a small part of all their sizes: three times `e` of those
/// covers the roundings of products, of scales and of sums. A normed vector is rounded to 16 bits before (independent).
struct Dot {
    value: f64,
    error: f64,
}

fn dot(device: &Device<'_>, weights: &[f64], x: &[f64], input: Input) -> Dot {
    let (mut value, mut size, mut square) = (0.0, 0.0, 0.0);
    for (w, x) in weights.iter().zip(x) {
        let product = w * x;
        value += product;
        size += product.abs();
        square += product * product;
    }
    let rounded = if input == Input::Normed { INDEPENDENT * device.u() * f64::sqrt(square) } else { 0.0 };
    // The factor of the norm is the same for all: relative to the sum.
    let scaled = if input == Input::Normed { 32.0 * E * value.abs() } else { 0.0 };
    Dot { value, error: 3.0 * E * size + rounded + scaled }
}

fn gemv(device: &mut Device<'_>, shape: &Shape) -> GpuResult<Comparison> {
    let &Shape { format, batch, input, output, bias, inner, outer } = shape;
    let rows = if output == Output::SwiGlu { 2 * outer } else { outer };
    let matrix = weights(device, format, rows * inner)?;
    // Products of a few units, where the activation bends, and within the range of f16.
    let size = 3.0 / (inner as f64).sqrt();
    let (x, vectors, norm_weight) = match input {
        Input::Half => {
            let x = device.random_halves(batch * inner, 2.0 * size)?;
            let vectors = x.values.clone();
            (x, vectors, None)
        }
        Input::Normed => {
            let values: Vec<f64> =
                (0..batch * inner).map(|i| device.random.symmetric() * (1 + i / inner) as f64).collect();
            let x = device.f32s(values)?;
            let weight = device.random_f32s(inner, size, 0.5 * size)?;
            let normed = x.values.chunks_exact(inner).flat_map(|row| {
                let mean = row.iter().map(|value| value * value).sum::<f64>() / inner as f64;
                let factor = 1.0 / (mean + f64::from(EPS)).sqrt();
                row.iter().zip(&weight.values).map(move |(x, weight)| x * factor * weight).collect::<Vec<_>>()
            });
            let normed = normed.collect();
            (x, normed, Some(weight))
        }
    };
    let biases = if bias { Some(device.random_f32s(rows, 0.0, 4.0)?) } else { None };
    let is_half = matches!(output, Output::Half | Output::SwiGlu);
    let before = if output == Output::Add { Some(device.random_f32s(batch * outer, 0.0, 8.0)?) } else { None };
    let room = device.output(batch * outer * if is_half { 2 } else { 4 })?;
    if let Some(before) = &before {
        device.backend.copy(room.address(), before.address(), (batch * outer * 4) as u64)?;
    }
    let y = room.address();
    let call = Gemv {
        batch: batch as u32,
        input: match &norm_weight {
            None => GemvInput::Half(x.address()),
            Some(weight) => GemvInput::Normed { x: x.address(), weight: weight.address(), eps: EPS },
        },
        output: match output {
            Output::Half => GemvOutput::Half(y),
            Output::Add => GemvOutput::Add(y),
            Output::SwiGlu => GemvOutput::SwiGlu(y),
            Output::F32 => GemvOutput::F32(y),
        },
        format,
        w: matrix.quants(),
        scales: matrix.scales(),
        mins: matrix.mins(),
        bias: biases.as_ref().map_or(Address::NULL, super::device::Operand::address),
        inner: inner as u32,
        outer: outer as u32,
    };
    launch::gemv(device.backend, device.half, &call)?;

    let mut comparison = Comparison::default();
    let got =
        if is_half { device.read_halves(&room, &mut comparison)? } else { device.read_f32s(&room, &mut comparison)? };
    let product = |vector: usize, row: usize| {
        let mut product =
            dot(device, &matrix.values[row * inner..][..inner], &vectors[vector * inner..][..inner], input);
        if let Some(bias) = &biases {
            product.value += bias.values[row];
            product.error += E * product.value.abs();
        }
        product
    };
    for vector in 0..batch {
        for row in 0..outer {
            let at = vector * outer + row;
            let expected = match output {
                Output::Half => {
                    let product = product(vector, row);
                    device.rounded(product.value, product.error)
                }
                Output::F32 | Output::Add => {
                    let product = product(vector, row);
                    let value = product.value + before.as_ref().map_or(0.0, |before| before.values[at]);
                    Expected { value, tolerance: product.error + E * value.abs() }
                }
                Output::SwiGlu => {
                    let (gate, up) = (product(vector, row), product(vector, outer + row));
                    let (activated, relative) = silu(gate.value);
                    let value = activated * up.value;
                    // The slope of the activation is at most 1.1.
                    let error = 1.1 * gate.error * (up.value.abs() + up.error) + activated.abs() * up.error;
                    device.rounded(value, error + relative * value.abs())
                }
            };
            comparison.value(got[at], expected);
        }
    }
    Ok(comparison)
}
