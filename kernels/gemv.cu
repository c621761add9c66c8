#include "common.cuh"
// A matrix times one to eight vectors, as a decode step does it: bound by the time it takes to read the matrix once.
//
// A warp makes PP_ROWS rows at a time; lanes share the inner dimension, sixteen bytes each. The loads of a step are issued one step ahead,
// across rows too and before the vectors are staged, so that memory never waits for arithmetic. The vectors lie in shared memory as T.
//
// PP_BATCH: vectors, 1..8. PP_WEIGHT: 0 T, 1 q8_0, 2 q4_0, 3 q4_1. PP_INPUT: 0 x is T, 1 x is f32 and normed here. PP_OUTPUT: 0 y is T,
// 1 y is f32 and is added to, 2 y is T and silu(gate) * up, 3 y is f32.
#ifndef PP_BATCH
#define PP_BATCH 1
#endif
#ifndef PP_WEIGHT
#define PP_WEIGHT 0
#endif
#ifndef PP_INPUT
#define PP_INPUT 0
#endif
#ifndef PP_OUTPUT
#define PP_OUTPUT 0
#endif

// Bytes in flight bound the speed of one or two vectors; of more, arithmetic does: four rows share each read of a vector where registers allow.
#if PP_BATCH <= 2
#define PP_BOUNDS 256, 3
#define PP_ROWS 2
#else
#define PP_BOUNDS 256, 2
#if PP_WEIGHT == 0
#define PP_ROWS 4
#else
#define PP_ROWS 2
#endif
#endif
// Sixteen bytes of each row that a lane reads in one step.
#if PP_BATCH <= 2 && PP_WEIGHT <= 1
#define PP_UNROLL 2
#else
#define PP_UNROLL 1
#endif
// Values in sixteen bytes.
#if PP_WEIGHT == 0
#define PP_VALUES 8
#elif PP_WEIGHT == 1
#define PP_VALUES 16
#else
#define PP_VALUES 32
#endif
#define PP_UNITS (PP_VALUES / 8)
#define PP_GROUP_VALUES (32 * PP_VALUES)
#define PP_STEP_VALUES (PP_UNROLL * PP_GROUP_VALUES)
// Steps whose vectors fit 64 KiB of shared memory; the host allots by the same rule.
#define PP_TILE_STEPS (32768 / PP_BATCH / PP_STEP_VALUES)
// Whether scales are applied to the sums over a block, which saves arithmetic for few vectors and costs registers for many.
#define PP_FACTORED (PP_BATCH <= 2)
// Whether the sums of each 32 values of the vectors are needed as well.
#define PP_SUMS (PP_FACTORED && PP_WEIGHT >= 2)
#define PP_BLOCK_WARPS 8
// Units (of eight values) a thread stages at a time: what hides the latency of L2.
#define PP_STAGED (PP_INPUT == 0 ? 4 : 2)
#if PP_OUTPUT == 2
#define PP_OUTPUTS (PP_ROWS / 2)
#else
#define PP_OUTPUTS PP_ROWS
#endif

// What a lane reads in one step.
struct Loads {
    uint4 quants[PP_ROWS][PP_UNROLL];
#if PP_WEIGHT > 0
    unsigned short scales[PP_ROWS][PP_UNROLL];
#endif
#if PP_WEIGHT == 3
    unsigned short mins[PP_ROWS][PP_UNROLL];
#endif
};

// Row `r` of the rows a warp makes for the outputs from `first` on; past the end the last, whose sum is then not used.
PP_FUNCTION unsigned pp_row(unsigned first, int r, unsigned outer) {
    const unsigned output = pp_min(first + static_cast<unsigned>(r % PP_OUTPUTS), outer - 1u);
    return r < PP_OUTPUTS ? output : outer + output;
}

PP_FUNCTION void pp_load(Loads& loads, const void* w, const void* scales, const void* mins, unsigned first, unsigned step, unsigned inner,
                         unsigned limit, unsigned outer) {
    const unsigned lane = threadIdx.x % PP_WARP;
#pragma unroll
    for (int r = 0; r < PP_ROWS; r++) {
        const unsigned long long row = pp_row(first, r, outer);
#pragma unroll
        for (int u = 0; u < PP_UNROLL; u++) {
            const unsigned k = step * PP_STEP_VALUES + u * PP_GROUP_VALUES + lane * PP_VALUES;
            const bool inside = k < limit;
#if PP_WEIGHT == 0
            loads.quants[r][u] = inside ? pp_load_streaming(static_cast<const T*>(w) + row * inner + k) : pp_zero16();
#elif PP_WEIGHT == 1
            loads.quants[r][u] = inside ? pp_load_streaming(static_cast<const char*>(w) + row * inner + k) : pp_zero16();
#else
            loads.quants[r][u] = inside ? pp_load_streaming(static_cast<const char*>(w) + (row * inner + k) / 2u) : pp_zero16();
#endif
#if PP_WEIGHT > 0
            const unsigned long long block = row * (inner / 32u) + k / 32u;
            loads.scales[r][u] = static_cast<unsigned short>(0);
            if (inside) {
                loads.scales[r][u] = pp_load_constant_u16(static_cast<const unsigned short*>(scales) + block);
            }
#endif
#if PP_WEIGHT == 3
            loads.mins[r][u] = static_cast<unsigned short>(0);
            if (inside) {
                loads.mins[r][u] = pp_load_constant_u16(static_cast<const unsigned short*>(mins) + block);
            }
#endif
        }
    }
    (void)scales;
    (void)mins;
}

// Eight of the values in sixteen bytes, without their scale where PP_FACTORED (4 bits: plus 16 then).
PP_FUNCTION void pp_weights(float (&values)[8], const uint4& word, int unit, float scale, float offset) {
#if PP_WEIGHT == 0
    pp_unpack8(values, word);
    (void)unit;
#elif PP_WEIGHT == 1
    const unsigned low = (unit == 0 ? word.x : word.z) ^ 0x80808080u;
    const unsigned high = (unit == 0 ? word.y : word.w) ^ 0x80808080u;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float value = pp_signed_byte(i < 4 ? low : high, i % 4);
        values[i] = PP_FACTORED ? value : value * scale;
    }
#else
    // Units 0 and 1 are the low nibbles of bytes 0..7 and 8..15, units 2 and 3 the high ones.
    const unsigned first = unit % 2 == 0 ? word.x : word.z;
    const unsigned second = unit % 2 == 0 ? word.y : word.w;
    const unsigned low = ((unit < 2 ? first << 3 : first >> 1) & 0x78787878u) | 0x80808080u;
    const unsigned high = ((unit < 2 ? second << 3 : second >> 1) & 0x78787878u) | 0x80808080u;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float value = pp_16_plus_nibble(i < 4 ? low : high, i % 4);
        values[i] = PP_FACTORED ? value : value * scale + offset;
    }
#endif
    (void)scale;
    (void)offset;
}

// Adds the products of one step. `x`: unit `lane` of the step's first group in the first vector; vectors are `stride` units apart.
PP_FUNCTION void pp_multiply(float (&sums)[PP_ROWS][PP_BATCH], const Loads& loads, const uint4* x, const float* block_sums, unsigned stride) {
#pragma unroll
    for (int u = 0; u < PP_UNROLL; u++) {
        float scale[PP_ROWS];
        float offset[PP_ROWS];
#pragma unroll
        for (int r = 0; r < PP_ROWS; r++) {
            scale[r] = 1.0f;
            offset[r] = 0.0f;
#if PP_WEIGHT > 0
            scale[r] = pp_f16_to_f32(loads.scales[r][u]);
#endif
#if PP_WEIGHT == 2
            offset[r] = -24.0f * scale[r];
#elif PP_WEIGHT == 3
            offset[r] = pp_f16_to_f32(loads.mins[r][u]) - 16.0f * scale[r];
#endif
        }
#if PP_FACTORED && PP_WEIGHT > 0
        float dots[PP_ROWS][PP_BATCH] = {};
#else
        float(&dots)[PP_ROWS][PP_BATCH] = sums;
#endif
#pragma unroll
        for (int unit = 0; unit < PP_UNITS; unit++) {
            float weights[PP_ROWS][8];
#pragma unroll
            for (int r = 0; r < PP_ROWS; r++) {
                pp_weights(weights[r], loads.quants[r][u], unit, scale[r], offset[r]);
            }
#pragma unroll
            for (int b = 0; b < PP_BATCH; b++) {
                float values[8];
                pp_unpack8(values, x[b * stride + (u * PP_UNITS + unit) * 32]);
#pragma unroll
                for (int r = 0; r < PP_ROWS; r++) {
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        dots[r][b] += weights[r][i] * values[i];
                    }
                }
            }
        }
#if PP_FACTORED && PP_WEIGHT > 0
#pragma unroll
        for (int b = 0; b < PP_BATCH; b++) {
#if PP_SUMS
            const float block_sum = block_sums[b * (stride / 4u) + u * 32];
#endif
#pragma unroll
            for (int r = 0; r < PP_ROWS; r++) {
                sums[r][b] += scale[r] * dots[r][b];
#if PP_SUMS
                sums[r][b] += offset[r] * block_sum;
#endif
            }
        }
#endif
    }
    (void)block_sums;
}

#if PP_INPUT == 1
// The factors of the norm of each vector, in shared memory; read them after the next __syncthreads().
PP_FUNCTION void pp_norm_scales(float* scales, const float* x, float eps, unsigned inner, float (*scratch)[PP_BLOCK_WARPS]) {
#pragma unroll
    for (int b = 0; b < PP_BATCH; b++) {
        float square = 0.0f;
        for (unsigned k = threadIdx.x * 4u; k < inner; k += 256u * 4u) {
            const float4 value = *reinterpret_cast<const float4*>(x + static_cast<unsigned long long>(b) * inner + k);
            square += value.x * value.x + value.y * value.y + value.z * value.z + value.w * value.w;
        }
        square = pp_warp_sum(square);
        if (threadIdx.x % PP_WARP == 0u) {
            scratch[b][threadIdx.x / PP_WARP] = square;
        }
    }
    __syncthreads();
    if (threadIdx.x < PP_BATCH) {
        float square = 0.0f;
#pragma unroll
        for (int warp = 0; warp < PP_BLOCK_WARPS; warp++) {
            square += scratch[threadIdx.x][warp];
        }
        scales[threadIdx.x] = pp_rsqrt(square / static_cast<float>(inner) + eps);
    }
}
#endif

// Eight values of a vector as they are multiplied.
PP_FUNCTION uint4 pp_vector_unit(const void* x, const float* norm_weight, float norm_scale, unsigned long long at, unsigned k) {
#if PP_INPUT == 0
    (void)norm_weight;
    (void)norm_scale;
    (void)k;
    return pp_load16(static_cast<const T*>(x) + at);
#else
    float values[8];
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
        const float4 value = *reinterpret_cast<const float4*>(static_cast<const float*>(x) + at + i);
        const float4 gain = *reinterpret_cast<const float4*>(norm_weight + k + i);
        values[i] = value.x * norm_scale * gain.x;
        values[i + 1] = value.y * norm_scale * gain.y;
        values[i + 2] = value.z * norm_scale * gain.z;
        values[i + 3] = value.w * norm_scale * gain.w;
    }
    return pp_pack8(values);
#endif
}

// Puts the values from `begin` on of every vector into shared memory, `stride` units (of eight values) each, zeros past the end. The units
// that a lane reads for one load are 32 apart, so that neighbouring lanes read neighbouring units.
PP_FUNCTION void pp_stage(uint4* staged, float* block_sums, const void* x, const float* norm_weight, const float* norm_scales,
                          unsigned begin, unsigned stride, unsigned inner) {
#pragma unroll 1
    for (int b = 0; b < PP_BATCH; b++) {
        const unsigned long long vector = static_cast<unsigned long long>(b) * inner;
        const float norm_scale = norm_scales[b];
#pragma unroll 1
        for (unsigned first = threadIdx.x; first < stride; first += 256u * PP_STAGED) {
            uint4 words[PP_STAGED];
#pragma unroll
            for (int i = 0; i < PP_STAGED; i++) {
                const unsigned unit = first + 256u * i;
                const unsigned k = begin + unit * 8u;
                words[i] = pp_zero16();
                if (unit < stride && k < inner) {
                    words[i] = pp_vector_unit(x, norm_weight, norm_scale, vector + k, k);
                }
            }
#pragma unroll
            for (int i = 0; i < PP_STAGED; i++) {
                const unsigned unit = first + 256u * i;
                // The same for a whole warp.
                if (unit >= stride) {
                    break;
                }
                const unsigned group = unit / (32u * PP_UNITS);
                const unsigned within = unit % (32u * PP_UNITS);
                staged[b * stride + group * 32u * PP_UNITS + within % PP_UNITS * 32u + within / PP_UNITS] = words[i];
#if PP_SUMS
                // Of the rounded values, as those are multiplied. Four neighbouring lanes hold one block.
                float v[8];
                pp_unpack8(v, words[i]);
                float sum = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
                sum += __shfl_xor_sync(PP_ALL_LANES, sum, 1);
                sum += __shfl_xor_sync(PP_ALL_LANES, sum, 2);
                if (unit % 4u == 0u) {
                    block_sums[b * (stride / 4u) + unit / 4u] = sum;
                }
#endif
            }
        }
    }
    (void)block_sums;
}

// y [PP_BATCH, outer] of x [PP_BATCH, inner] and w [outer, inner] ([2 * outer, inner] for PP_OUTPUT 2); bias may be null. Block 256; any grid,
// of which each warp makes PP_OUTPUTS outputs at a time. Shared bytes: PP_BATCH * 2 * s with s = inner rounded up to PP_STEP_VALUES, at most
// PP_TILE_STEPS * PP_STEP_VALUES; with PP_SUMS PP_BATCH * s / 8 more.
PP_KERNEL gemv(void* y, const void* x, const float* norm_weight, float eps, const void* w, const void* scales, const void* mins,
               const float* bias, unsigned inner, unsigned outer) {
    PP_DYNAMIC_SHARED(uint4, staged);
    const unsigned lane = threadIdx.x % PP_WARP;
    const unsigned steps = pp_ceil_div(inner, PP_STEP_VALUES);
    const unsigned tile_steps = pp_min(steps, PP_TILE_STEPS);
    const unsigned stride = tile_steps * (PP_STEP_VALUES / 8u);
    float* block_sums = reinterpret_cast<float*>(staged + PP_BATCH * stride);
    const unsigned per_pass = gridDim.x * PP_BLOCK_WARPS * PP_OUTPUTS;
    unsigned first = (blockIdx.x * PP_BLOCK_WARPS + threadIdx.x / PP_WARP) * PP_OUTPUTS;

    Loads next;
    pp_load(next, w, scales, mins, first, 0u, inner, inner, outer);
    PP_SHARED float norm_scales[PP_BATCH];
#if PP_INPUT == 1
    PP_SHARED float scratch[PP_BATCH][PP_BLOCK_WARPS];
    pp_norm_scales(norm_scales, static_cast<const float*>(x), eps, inner, scratch);
#else
    (void)eps;
#endif

    // All warps of a block make the same number of passes, as they stage the vectors together.
    for (unsigned pass = 0u; pass < outer; pass += per_pass) {
        float sums[PP_ROWS][PP_BATCH] = {};
        for (unsigned tile = 0u; tile < steps; tile += tile_steps) {
            if (pass == 0u || steps > tile_steps) {
                __syncthreads();
                pp_stage(staged, block_sums, x, norm_weight, norm_scales, tile * PP_STEP_VALUES, stride, inner);
                __syncthreads();
            }
            const unsigned end = pp_min(tile_steps, steps - tile);
            for (unsigned step = 0u; step < end; step++) {
                const Loads loads = next;
                const bool last = tile + step + 1u == steps;
                // Without a branch, so that the loads are issued before the arithmetic; after the last step they read nothing.
                const unsigned limit = !last || pass + per_pass < outer ? inner : 0u;
                pp_load(next, w, scales, mins, last ? first + per_pass : first, last ? 0u : tile + step + 1u, inner, limit, outer);
                pp_multiply(sums, loads, staged + step * (PP_STEP_VALUES / 8u) + lane, block_sums + step * (PP_STEP_VALUES / 32u) + lane,
                            stride);
            }
        }
        // Lane b * PP_OUTPUTS + o keeps output o of vector b.
        float mine = 0.0f;
#if PP_OUTPUT == 2
        float gate = 0.0f;
#endif
#pragma unroll
        for (int b = 0; b < PP_BATCH; b++) {
#pragma unroll
            for (int r = 0; r < PP_ROWS; r++) {
                const float sum = pp_warp_sum(sums[r][b]);
#if PP_OUTPUT == 2
                if (r < PP_OUTPUTS) {
                    gate = lane == static_cast<unsigned>(b * PP_OUTPUTS + r % PP_OUTPUTS) ? sum : gate;
                    continue;
                }
#endif
                mine = lane == static_cast<unsigned>(b * PP_OUTPUTS + r % PP_OUTPUTS) ? sum : mine;
            }
        }
        const unsigned output = first + lane % PP_OUTPUTS;
        if (lane < PP_BATCH * PP_OUTPUTS && output < outer) {
            const unsigned long long at = static_cast<unsigned long long>(lane / PP_OUTPUTS) * outer + output;
#if PP_OUTPUT == 2
            if (bias != nullptr) {
                gate += bias[output];
                mine += bias[outer + output];
            }
            static_cast<T*>(y)[at] = pp_to_t(pp_silu(gate) * mine);
#else
            if (bias != nullptr) {
                mine += bias[output];
            }
#if PP_OUTPUT == 0
            static_cast<T*>(y)[at] = pp_to_t(mine);
#elif PP_OUTPUT == 1
            static_cast<float*>(y)[at] += mine;
#else
            static_cast<float*>(y)[at] = mine;
#endif
#endif
        }
        first += per_pass;
    }
}
