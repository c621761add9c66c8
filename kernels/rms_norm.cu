#include "common.cuh"
// RMS norms: x / sqrt(mean(x²) + eps) * weight, computed in f32.
#define PP_BOUNDS 256

// The norm of `width` values of `x`, written as T. width is a multiple of 4. `square`: this thread's share of the sum of squares.
PP_FUNCTION void pp_norm_row(T* out, const float* x, const float* weight, float eps, unsigned width, float square, float* scratch) {
    const float scale = pp_rsqrt(pp_block_sum(square, scratch) / static_cast<float>(width) + eps);
    for (unsigned at = threadIdx.x * 4u; at < width; at += blockDim.x * 4u) {
        const float4 value = *reinterpret_cast<const float4*>(x + at);
        const float4 gain = *reinterpret_cast<const float4*>(weight + at);
        uint2 word;
        word.x = pp_pack2(value.x * scale * gain.x, value.y * scale * gain.y);
        word.y = pp_pack2(value.z * scale * gain.z, value.w * scale * gain.w);
        *reinterpret_cast<uint2*>(out + at) = word;
    }
}

// out [rows, width] = norm of rows of x, `x_stride` values apart. Grid (rows), block 256.
PP_KERNEL rms_norm(T* out, const float* x, unsigned x_stride, const float* weight, float eps, unsigned width) {
    PP_SHARED float scratch[32];
    const float* row = x + static_cast<unsigned long long>(blockIdx.x) * x_stride;
    float square = 0.0f;
    for (unsigned at = threadIdx.x * 4u; at < width; at += blockDim.x * 4u) {
        const float4 value = *reinterpret_cast<const float4*>(row + at);
        square += value.x * value.x + value.y * value.y + value.z * value.z + value.w * value.w;
    }
    pp_norm_row(out + static_cast<unsigned long long>(blockIdx.x) * width, row, weight, eps, width, square, scratch);
}

// residual += delta, then out = norm of residual; all [rows, width]. Grid (rows), block 256.
PP_KERNEL add_rms_norm(float* residual, const T* delta, T* out, const float* weight, float eps, unsigned width) {
    PP_SHARED float scratch[32];
    const unsigned long long first = static_cast<unsigned long long>(blockIdx.x) * width;
    float* row = residual + first;
    float square = 0.0f;
    for (unsigned at = threadIdx.x * 4u; at < width; at += blockDim.x * 4u) {
        float4 value = *reinterpret_cast<const float4*>(row + at);
        const uint2 word = *reinterpret_cast<const uint2*>(delta + first + at);
        const float2 low = pp_unpack2(word.x);
        const float2 high = pp_unpack2(word.y);
        value.x += low.x;
        value.y += low.y;
        value.z += high.x;
        value.w += high.y;
        *reinterpret_cast<float4*>(row + at) = value;
        square += value.x * value.x + value.y * value.y + value.z * value.z + value.w * value.w;
    }
    // Each thread reads back the values it wrote.
    pp_norm_row(out + first, row, weight, eps, width, square, scratch);
}

// The norm of each head in place: head h of row r begins at x + r * stride + h * head_dim. head_dim is even. Grid (heads, rows), block 32..128.
PP_KERNEL rms_norm_heads(T* x, unsigned stride, unsigned head_dim, const float* weight, float eps) {
    PP_SHARED float scratch[32];
    T* head = x + static_cast<unsigned long long>(blockIdx.y) * stride + static_cast<unsigned long long>(blockIdx.x) * head_dim;
    float square = 0.0f;
    for (unsigned at = threadIdx.x * 2u; at < head_dim; at += blockDim.x * 2u) {
        const float2 value = pp_unpack2(*reinterpret_cast<const unsigned*>(head + at));
        square += value.x * value.x + value.y * value.y;
    }
    const float scale = pp_rsqrt(pp_block_sum(square, scratch) / static_cast<float>(head_dim) + eps);
    for (unsigned at = threadIdx.x * 2u; at < head_dim; at += blockDim.x * 2u) {
        const float2 value = pp_unpack2(*reinterpret_cast<const unsigned*>(head + at));
        *reinterpret_cast<unsigned*>(head + at) = pp_pack2(value.x * scale * weight[at], value.y * scale * weight[at + 1u]);
    }
}
