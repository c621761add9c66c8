//! How fast each kernel is on the device at hand, beside what the device attains at the most.

use serde::Serialize;

use super::backend::{Address, Buffer, GpuBackend, GpuResult, HalfType};
use super::launch::{self, DecodeAttention, Gemv, GemvInput, GemvOutput, PrefillAttention};
use super::pack::WeightFormat;
use super::weights::bytes_of_u32;

/// Weights of one benchmark together: far more than any cache holds, so that every pass reads from memory as a decode step does.
const ROTATED_BYTES: u64 = 512 << 20;
/// Passes before those that count.
const WARM_UP: u32 = 10;
/// Passes that count.
const PASSES: u32 = 60;

/// One kernel in one shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchResult {
    /// The kernel.
    pub kernel: &'static str,
    /// The shape in words.
    pub case: String,
    /// Passes that count.
    pub n: u32,
    /// Median time of a pass by events, µs. Of events around single launches: it holds the launch of the kernel as the device sees it.
    pub median_us: f64,
    /// Shortest pass, µs.
    pub best_us: f64,
    /// Bytes that must move.
    pub bytes: u64,
    /// FLOPs that must be done.
    pub flops: u64,
    /// `bytes` / median.
    pub bytes_per_s: f64,
    /// `flops` / median.
    pub flops_per_s: f64,
}

/// A model's dimensions, as far as kernels care.
struct Shape {
    name: &'static str,
    hidden: u32,
    intermediate: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    vocabulary: u32,
}

/// Shapes of models people run: meta-llama/Meta-Llama-3-8B and Qwen/Qwen2.5-0.5B, from their `config.json`.
const SHAPES: [Shape; 2] = [
    Shape {
        name: "llama-3-8b",
        hidden: 4096,
        intermediate: 14336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocabulary: 128_256,
    },
    Shape {
        name: "qwen2.5-0.5b",
        hidden: 896,
        intermediate: 4864,
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
        vocabulary: 151_936,
    },
];

/// Times every kernel of a decode step and of a prompt. `progress` gets each result as it is there.
///
/// # Errors
/// What the device said.
pub fn run(
    backend: &dyn GpuBackend,
    half: HalfType,
    filter: Option<&str>,
    progress: &mut dyn FnMut(&BenchResult),
) -> GpuResult<Vec<BenchResult>> {
    let mut bench = Bench { backend, half, filter, progress, results: Vec::new() };
    for shape in &SHAPES {
        bench.products(shape)?;
        bench.attention(shape)?;
    }
    Ok(bench.results)
}

struct Bench<'a> {
    backend: &'a dyn GpuBackend,
    half: HalfType,
    filter: Option<&'a str>,
    progress: &'a mut dyn FnMut(&BenchResult),
    results: Vec<BenchResult>,
}

impl Bench<'_> {
    fn wanted(&self, kernel: &str, case: &str) -> bool {
        self.filter.is_none_or(|filter| kernel.contains(filter) || case.contains(filter))
    }

    /// The projections of a decode step of one and of eight sequences.
    fn products(&mut self, shape: &Shape) -> GpuResult<()> {
        let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let projections: [(&str, u32, u32, Output, bool); 5] = [
            ("qkv_proj", shape.hidden, q + 2 * kv, Output::Half, true),
            ("o_proj", q, shape.hidden, Output::Add, false),
            ("gate_up_proj", shape.hidden, shape.intermediate, Output::SwiGlu, true),
            ("down_proj", shape.intermediate, shape.hidden, Output::Add, false),
            ("lm_head", shape.hidden, shape.vocabulary, Output::F32, true),
        ];
        for format in [WeightFormat::Half, WeightFormat::Q8_0, WeightFormat::Q4_1] {
            for batch in [1, 8] {
                for (name, inner, outer, output, normed) in projections {
                    self.projection(shape, name, format, batch, inner, outer, output, normed)?;
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a row of a table")]
    fn projection(
        &mut self,
        shape: &Shape,
        name: &str,
        format: WeightFormat,
        batch: u32,
        inner: u32,
        outer: u32,
        output: Output,
        normed: bool,
    ) -> GpuResult<()> {
        let format_name = match format {
            WeightFormat::Half => self.half.name(),
            WeightFormat::Q8_0 => "q8_0",
            WeightFormat::Q4_0 => "q4_0",
            WeightFormat::Q4_1 => "q4_1",
        };
        let case = format!("{} {name} {format_name} batch {batch}", shape.name);
        if !self.wanted("gemv", &case) {
            return Ok(());
        }
        let rows = if output == Output::SwiGlu { 2 * outer } else { outer };
        let values = u64::from(rows) * u64::from(inner);
        let (quants, scales, mins) = match format {
            WeightFormat::Half => (values * 2, 0, 0),
            WeightFormat::Q8_0 => (values, values / 16, 0),
            WeightFormat::Q4_0 => (values / 2, values / 16, 0),
            WeightFormat::Q4_1 => (values / 2, values / 16, values / 16),
        };
        let bytes = quants + scales + mins;
        let copies = (ROTATED_BYTES.div_ceil(bytes)).clamp(1, 64) as usize;
        let place = |size: u64| self.zeroed(size.max(16));
        let weights: Vec<[Buffer; 3]> =
            (0..copies).map(|_| Ok([place(quants)?, place(scales)?, place(mins)?])).collect::<GpuResult<_>>()?;
        let x = self.zeroed(u64::from(batch * inner) * 4)?;
        let norm = self.zeroed(u64::from(inner) * 4)?;
        let y = self.zeroed(u64::from(batch) * u64::from(outer) * 4)?;
        let input = if normed {
            GemvInput::Normed { x: x.address(), weight: norm.address(), eps: 1e-5 }
        } else {
            GemvInput::Half(x.address())
        };
        let output = match output {
            Output::Half => GemvOutput::Half(y.address()),
            Output::Add => GemvOutput::Add(y.address()),
            Output::SwiGlu => GemvOutput::SwiGlu(y.address()),
            Output::F32 => GemvOutput::F32(y.address()),
        };
        let (backend, half) = (self.backend, self.half);
        let call = |pass: usize| {
            let [w, scales, mins] = &weights[pass % copies];
            launch::gemv(
                backend,
                half,
                &Gemv {
                    batch,
                    input,
                    output,
                    format,
                    w: w.address(),
                    scales: scales.address(),
                    mins: mins.address(),
                    bias: Address::NULL,
                    inner,
                    outer,
                },
            )
        };
        self.time("gemv", case, bytes, 2 * values * u64::from(batch), call)
    }

    /// Attention of a decode step at several lengths, and of a prompt.
    fn attention(&mut self, shape: &Shape) -> GpuResult<()> {
        let group = shape.heads / shape.kv_heads;
        let stride = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
        let scale = (shape.head_dim as f32).sqrt().recip();
        for (batch, length) in [(1, 512), (1, 4096), (1, 32768), (8, 4096)] {
            let case = format!("{} batch {batch}, {length} positions", shape.name);
            if !self.wanted("attention_decode", &case) {
                continue;
            }
            let capacity = length;
            let plane = u64::from(batch * shape.kv_heads) * u64::from(capacity) * u64::from(shape.head_dim) * 2;
            let copies = (ROTATED_BYTES.div_ceil(2 * plane)).clamp(1, 64) as usize;
            let caches: Vec<[Buffer; 2]> =
                (0..copies).map(|_| Ok([self.zeroed(plane)?, self.zeroed(plane)?])).collect::<GpuResult<_>>()?;
            let table = self.zeroed(u64::from(capacity) * u64::from(shape.head_dim) * 2)?;
            let qkv = self.zeroed(u64::from(batch * stride) * 2)?;
            let out = self.zeroed(u64::from(batch * shape.heads * shape.head_dim) * 2)?;
            let position = self.zeroed(16)?;
            self.backend.upload(position.address(), bytes_of_u32(&[length - 1]))?;
            let splits = launch::splits(self.backend.facts(), batch, shape.kv_heads, capacity);
            let bytes = launch::attention_partial_bytes(batch, shape.kv_heads, splits, group, shape.head_dim);
            let partials = self.zeroed(bytes)?;
            let counters = self.zeroed(u64::from(batch * shape.kv_heads) * 4)?;
            let (backend, half) = (self.backend, self.half);
            let call = |pass: usize| {
                let [k, v] = &caches[pass % copies];
                launch::attention_decode(
                    backend,
                    half,
                    &DecodeAttention {
                        out: out.address(),
                        qkv: qkv.address(),
                        stride,
                        cos: table.address(),
                        sin: table.address(),
                        k_cache: k.address(),
                        v_cache: v.address(),
                        position: position.address(),
                        partials: partials.address(),
                        counters: counters.address(),
                        splits,
                        batch,
                        heads: shape.heads,
                        kv_heads: shape.kv_heads,
                        head_dim: shape.head_dim,
                        capacity,
                        window: 0,
                        scale,
                        rotate: true,
                    },
                )
            };
            let flops = 4 * u64::from(batch * shape.heads * shape.head_dim) * u64::from(length);
            self.time("attention_decode", case, 2 * plane, flops, call)?;
        }
        for queries in [512_u32, 2048, 8192] {
            let case = format!("{} prompt of {queries}", shape.name);
            if !self.wanted("attention_prefill", &case) {
                continue;
            }
            let plane = u64::from(shape.kv_heads) * u64::from(queries) * u64::from(shape.head_dim) * 2;
            let (k, v) = (self.zeroed(plane)?, self.zeroed(plane)?);
            let qkv = self.zeroed(u64::from(queries) * u64::from(stride) * 2)?;
            let out_bytes = u64::from(queries) * u64::from(shape.heads * shape.head_dim) * 2;
            let out = self.zeroed(out_bytes)?;
            let position = self.zeroed(16)?;
            let (backend, half) = (self.backend, self.half);
            let call = |_: usize| {
                launch::attention_prefill(
                    backend,
                    half,
                    &PrefillAttention {
                        out: out.address(),
                        qkv: qkv.address(),
                        stride,
                        k_cache: k.address(),
                        v_cache: v.address(),
                        position: position.address(),
                        batch: 1,
                        queries,
                        heads: shape.heads,
                        kv_heads: shape.kv_heads,
                        head_dim: shape.head_dim,
                        capacity: queries,
                        window: 0,
                        scale,
                    },
                )
            };
            // Query i sees i + 1 positions; two products of head_dim multiply-adds each.
            let pairs = u64::from(queries) * u64::from(queries + 1) / 2;
            let flops = 4 * u64::from(shape.heads * shape.head_dim) * pairs;
            self.time("attention_prefill", case, 2 * plane + 2 * out_bytes, flops, call)?;
        }
        Ok(())
    }

    fn zeroed(&self, bytes: u64) -> GpuResult<Buffer> {
        let buffer = self.backend.alloc(bytes)?;
        self.backend.fill(buffer.address(), bytes, 0)?;
        Ok(buffer)
    }

    /// Times `call` (given the number of the pass) by events around each.
    fn time(
        &mut self,
        kernel: &'static str,
        case: String,
        bytes: u64,
        flops: u64,
        call: impl Fn(usize) -> GpuResult<()>,
    ) -> GpuResult<()> {
        for pass in 0..WARM_UP {
            call(pass as usize)?;
        }
        let events = (0..2 * PASSES).map(|_| self.backend.event()).collect::<GpuResult<Vec<_>>>()?;
        for (pass, pair) in events.as_chunks::<2>().0.iter().enumerate() {
            pair[0].record()?;
            call(pass)?;
            pair[1].record()?;
        }
        self.backend.synchronize()?;
        let mut times = Vec::with_capacity(PASSES as usize);
        for pair in events.as_chunks::<2>().0 {
            times.push(pair[0].elapsed_ns(&*pair[1])?.max(1) as f64 * 1e-9);
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let result = BenchResult {
            kernel,
            case,
            n: PASSES,
            median_us: median * 1e6,
            best_us: times[0] * 1e6,
            bytes,
            flops,
            bytes_per_s: bytes as f64 / median,
            flops_per_s: flops as f64 / median,
        };
        (self.progress)(&result);
        self.results.push(result);
        Ok(())
    }
}

/// What becomes of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Half,
    Add,
    SwiGlu,
    F32,
}
