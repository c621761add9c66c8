#include "common.cuh"
// Quantized weights to 16-bit values, for products with many rows.
#define PP_BOUNDS 256

// 1: q8_0, 2: q4_0, 3: q4_1; see the README for the planes.
#ifndef PP_WEIGHT
#define PP_WEIGHT 1
#endif

// out [32 * blocks] in the order of the quants. A thread makes eight values. Grid (ceil(blocks * 32 / 2048)), block 256.
PP_KERNEL dequantize(T* out, const void* quants, const void* scales, const void* mins, unsigned long long blocks) {
    const unsigned long long at = static_cast<unsigned long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const unsigned long long block = at / 4u;
    if (block >= blocks) {
        return;
    }
    const unsigned part = static_cast<unsigned>(at % 4u);
    const float scale = pp_f16_to_f32(static_cast<const unsigned short*>(scales)[block]);
    float values[8];
#if PP_WEIGHT == 1
    const uint2 word = *reinterpret_cast<const uint2*>(static_cast<const signed char*>(quants) + block * 32u + part * 8u);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const unsigned four = i < 4 ? word.x : word.y;
        values[i] = scale * static_cast<float>(static_cast<signed char>(four >> (8 * (i % 4)) & 0xffu));
    }
    (void)mins;
#else
    // Parts 0 and 1 are the low nibbles of bytes 0..7 and 8..15, parts 2 and 3 the high ones.
    const uint2 word = *reinterpret_cast<const uint2*>(static_cast<const unsigned char*>(quants) + block * 16u + part % 2u * 8u);
    const unsigned shift = part / 2u * 4u;
#if PP_WEIGHT == 2
    const float min = -8.0f * scale;
    (void)mins;
#else
    const float min = pp_f16_to_f32(static_cast<const unsigned short*>(mins)[block]);
#endif
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const unsigned four = i < 4 ? word.x : word.y;
        values[i] = scale * static_cast<float>(four >> (8 * (i % 4) + shift) & 0xfu) + min;
    }
#endif
    pp_store16(out + block * 32u + part * 8u, pp_pack8(values));
}
