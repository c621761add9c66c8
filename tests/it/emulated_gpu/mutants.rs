//! Mistakes in the kernels, one at a time: the checks must see each of them.
//!
//! What a mutation replaces must be in the source exactly once, so that a change of a kernel that makes one void is noticed.

use perfprof::engine::gpu::backend::{
    Address, Arg, Buffer, DeviceFacts, Event, Gemm, GpuBackend, GpuResult, Graph, HalfType, Launch,
};
use perfprof::engine::gpu::check::{self, Scale};
use perfprof::engine::gpu::kernel::{
    self, ATTENTION_DECODE, ATTENTION_PREFILL, GEMV, Kernel, Module, RMS_NORM, ROPE_KV, SAMPLING, Source,
};

use super::{EmulatedBackend, Order, with_order};

/// A device that compiles one source changed.
struct Mutant {
    device: std::sync::Arc<EmulatedBackend>,
    source: Source,
}

impl GpuBackend for Mutant {
    fn launch(&self, kernel: &Kernel, launch: Launch, args: &[Arg]) -> GpuResult<()> {
        let mut kernel = kernel.clone();
        if kernel.module.source.name == self.source.name {
            kernel.module = Module { source: self.source, defines: kernel.module.defines };
        }
        self.device.launch(&kernel, launch, args)
    }
    fn facts(&self) -> &DeviceFacts {
        self.device.facts()
    }
    fn free_bytes(&self) -> GpuResult<u64> {
        self.device.free_bytes()
    }
    fn alloc(&self, bytes: u64) -> GpuResult<Buffer> {
        self.device.alloc(bytes)
    }
    fn fill(&self, to: Address, bytes: u64, value: u8) -> GpuResult<()> {
        self.device.fill(to, bytes, value)
    }
    fn upload(&self, to: Address, from: &[u8]) -> GpuResult<()> {
        self.device.upload(to, from)
    }
    fn download(&self, from: Address, to: &mut [u8]) -> GpuResult<()> {
        self.device.download(from, to)
    }
    fn copy(&self, to: Address, from: Address, bytes: u64) -> GpuResult<()> {
        self.device.copy(to, from, bytes)
    }
    fn gemm(&self, gemm: &Gemm) -> GpuResult<()> {
        self.device.gemm(gemm)
    }
    fn synchronize(&self) -> GpuResult<()> {
        self.device.synchronize()
    }
    fn begin_capture(&self) -> GpuResult<()> {
        self.device.begin_capture()
    }
    fn end_capture(&self) -> GpuResult<Box<dyn Graph>> {
        self.device.end_capture()
    }
    fn event(&self) -> GpuResult<Box<dyn Event>> {
        self.device.event()
    }
}

/// Source, filter of the cases, what is replaced, by what.
const MISTAKES: &[(Source, &str, &str, &str)] = &[
    (
        kernel::MEMORY,
        "copy_vectors",
        "at + 3u * threads < count; at += 4u * threads) {\n        const uint4 a = pp_load_streaming(in + at);\n        const uint4 b = pp_load_streaming(in + at + threads);\n        const uint4 c = pp_load_streaming(in + at + 2u * threads);\n        const uint4 d = pp_load_streaming(in + at + 3u * threads);\n        out",
        "at + 2u * threads < count; at += 4u * threads) {\n        const uint4 a = pp_load_streaming(in + at);\n        const uint4 b = pp_load_streaming(in + at + threads);\n        const uint4 c = pp_load_streaming(in + at + 2u * threads);\n        const uint4 d = pp_load_streaming(in + at + 3u * threads);\n        out",
    ),
    (kernel::MEMORY, "read_vectors", "return word.x + word.y + word.z + word.w;", "return word.x + word.y + word.z;"),
    (
        kernel::EMBEDDING,
        "embedding",
        "*reinterpret_cast<float4*>(to + at + 4u) = high;",
        "*reinterpret_cast<float4*>(to + at + 4u) = low;",
    ),
    (kernel::SWIGLU, "swiglu", "pp_unpack8(up, pp_load16(gates + width));", "pp_unpack8(up, pp_load16(gates));"),
    (kernel::BIAS, "add_bias", "+ bias[at]);", "+ bias[0]);"),
    (kernel::DEQUANTIZE, "q8_0, 65", "static_cast<signed char>(four", "static_cast<unsigned char>(four"),
    (kernel::DEQUANTIZE, "q4_0, 65", "-8.0f * scale", "-7.0f * scale"),
    // Nibbles in the wrong order.
    (kernel::DEQUANTIZE, "q4_1, 65", "part / 2u * 4u;", "part % 2u * 4u;"),
    (RMS_NORM, "rms_norm", "/ static_cast<float>(head_dim) + eps", "/ static_cast<float>(head_dim + 2u) + eps"),
    (RMS_NORM, "rms_norm", "blockIdx.x) * x_stride;", "blockIdx.x) * width;"),
    (ROPE_KV, "rope_kv_write", "*position + row % queries;", "*position;"),
    // Interleaved pairs.
    (
        ROPE_KV,
        "rope_kv_write",
        "*reinterpret_cast<const unsigned*>(from + half)",
        "*reinterpret_cast<const unsigned*>(from + 2)",
    ),
    (ROPE_KV, "rope_kv_write", "high.x * c0 + low.x * s0", "high.x * c0 - low.x * s0"),
    (ROPE_KV, "rope_kv_write", "(head - heads)) * capacity + at", "(head - heads)) * capacity"),
    (GEMV, "q4_0, batch 1", "unit < 2 ? first << 3 : first >> 1", "unit < 2 ? first >> 1 : first << 3"),
    (GEMV, "q4_0, batch 1", "-24.0f * scale[r]", "-23.0f * scale[r]"),
    (GEMV, "q4_1, batch 4", "- 16.0f * scale[r]", "- 15.0f * scale[r]"),
    (GEMV, "q4_1, batch 2", "sums[r][b] += offset[r] * block_sum;", "sums[r][b] += offset[r];"),
    (GEMV, "q8_0, batch 4", "value : value * scale;", "value : value;"),
    (GEMV, "half, batch 3, normed", "norm_scale * gain.w", "norm_scale * gain.z"),
    (GEMV, "half, batch 1, normed", "static_cast<float>(inner) + eps", "static_cast<float>(inner + 8u) + eps"),
    (GEMV, "half, batch 1, normed", "mine += bias[output];", "mine += bias[0];"),
    (GEMV, "half, batch 2, half to add", "static_cast<float*>(y)[at] += mine;", "static_cast<float*>(y)[at] = mine;"),
    (GEMV, "half, batch 3, normed", "pp_silu(gate) * mine", "pp_silu(mine) * gate"),
    // Sums of the last group of rows reach into outputs of others.
    (GEMV, "half, batch 1, normed", "lane < PP_BATCH * PP_OUTPUTS && output < outer", "lane < PP_BATCH * PP_OUTPUTS"),
    (GEMV, "half, batch 8, normed", "if (unit < stride && k < inner)", "if (unit < stride)"),
    // Barriers: after, and ahead of, the vectors are staged.
    (GEMV, "batch 8", "stride, inner);\n                __syncthreads();", "stride, inner);"),
    (GEMV, "batch 8", "__syncthreads();\n                pp_stage", "pp_stage"),
    (
        GEMV,
        "half, batch 1, normed",
        "    __syncthreads();\n    if (threadIdx.x < PP_BATCH) {",
        "    if (threadIdx.x < PP_BATCH) {",
    ),
    (ATTENTION_DECODE, "heads 7/1", "const unsigned end = at + 1u;", "const unsigned end = at;"),
    (ATTENTION_DECODE, "heads 7/1", "const unsigned end = at + 1u;", "const unsigned end = at + 2u;"),
    (ATTENTION_DECODE, "heads 7/1", "end > window ? end - window", "end > window ? end - window - 1u"),
    (ATTENTION_DECODE, "heads 7/1", "scale * PP_LOG2_E", "scale * 1.4427f * 1.005f"),
    (ATTENTION_DECODE, "heads 7/1", "accumulated[n][row * 2] *= correction;", ""),
    (ATTENTION_DECODE, "heads 7/1", "total[row] = total[row] * correction + sum;", "total[row] += sum;"),
    (
        ATTENTION_DECODE,
        "heads 7/1",
        "const float share = pp_exp2(pp_load_fresh(facts + s * partial_values) - top);",
        "const float share = 1.0f;",
    ),
    (ATTENTION_DECODE, "heads 7/1", "counters[head_index] = 0u;", ""),
    // The last block goes on before the others have written.
    (ATTENTION_DECODE, "heads 8/2", "== active - 1u ? 1u : 0u;", "== active - 2u ? 1u : 0u;"),
    (ATTENTION_DECODE, "heads 7/1", "pp_cp_async_wait<1>();", ""),
    (ATTENTION_DECODE, "heads 7/1", "pp_cp_async_wait<1>();", "pp_cp_async_wait<2>();"),
    (
        ATTENTION_DECODE,
        "heads 7/1",
        "    pp_cp_async_wait<0>();\n\n    // The warps of the block, through the memory of the tiles: [warps][PP_GROUP][head_dim].\n    __syncthreads();",
        "    pp_cp_async_wait<0>();",
    ),
    (ATTENTION_PREFILL, "2/1 of 64", "key <= at &&", "key < at &&"),
    (ATTENTION_PREFILL, "2/1 of 64", "key <= at &&", "key <= at + 1u &&"),
    (ATTENTION_PREFILL, "1/1 of 64", "key + window > at", "key + window >= at"),
    (ATTENTION_PREFILL, "1/1 of 64", "first + window >= base + PP_QUERIES", "first + window >= base"),
    (ATTENTION_PREFILL, "6/2 of 64", "head / (heads / kv_heads)", "head % kv_heads"),
    (
        ATTENTION_PREFILL,
        "6/2 of 64",
        "first_row + row) * stride + head",
        "first_row + row) * stride / 2u * 2u + heads - 1u - head",
    ),
    (
        ATTENTION_PREFILL,
        "2/1 of 64",
        "pp_cp_async_commit();\n        pp_cp_async_wait<1>();\n        __syncthreads();",
        "pp_cp_async_commit();\n        pp_cp_async_wait<1>();",
    ),
    (
        ATTENTION_PREFILL,
        "2/1 of 64",
        "        __syncthreads();\n    }\n    pp_cp_async_wait<0>();",
        "    }\n    pp_cp_async_wait<0>();",
    ),
    (
        ATTENTION_PREFILL,
        "2/1 of 64",
        "if (first_query + row < queries) {\n            pp_store16(out",
        "{\n            pp_store16(out",
    ),
    (SAMPLING, "most likely", "b.value == a.value && b.id < a.id", "b.value == a.value && b.id > a.id"),
    (
        SAMPLING,
        "most likely",
        "is_last = atomicAdd(counters + sequence, 1u) == chunks - 1u",
        "is_last = atomicAdd(counters + sequence, 1u) == 0u",
    ),
    (SAMPLING, "most likely", "state[1] = step + 1u;", "state[1] += gridDim.y;"),
    (SAMPLING, "drawn", "pp_philox(i, sequence, step, seed)", "pp_philox(i, 0u, step, seed)"),
    (SAMPLING, "drawn", "pp_philox(i, sequence, step, seed)", "pp_philox(i, sequence, 0u, seed)"),
    (SAMPLING, "drawn", "logit * inverse_temperature + pp_gumbel", "logit + pp_gumbel"),
    (SAMPLING, "drawn", "return -pp_log(-pp_log1p(-v));", "return -pp_log(v);"),
    (SAMPLING, "drawn", "return -pp_log(-pp_log1p(-v));", "return -0.7f * pp_log(-pp_log1p(-v));"),
];

#[test]
fn every_mistake_in_a_kernel_is_seen() {
    let mut unseen = Vec::new();
    for (source, filter, from, to) in MISTAKES {
        assert_eq!(source.text.matches(from).count(), 1, "{}: `{from}`", source.name);
        let text: &'static str = Box::leak(source.text.replace(from, to).into_boxed_str());
        let seen = [Order::Forward, Order::Random(1), Order::Random(2)].into_iter().any(|order| {
            let Some(device) = with_order(order) else { return true };
            let mutant = Mutant { device, source: Source { name: source.name, text } };
            let results = check::run(&mutant, HalfType::F16, 3, Some(filter), Scale::Small, &mut |_| {});
            assert!(!results.is_empty(), "no case has {filter} in its name");
            results.iter().any(|result| !result.ok)
        });
        if !seen {
            unseen.push(format!("{}: `{from}` → `{to}`", source.name));
        }
    }
    assert!(unseen.is_empty(), "{} mistakes went unseen:\n{}", unseen.len(), unseen.join("\n"));
}
