#include "common.cuh"
// Rows of a table picked by ids.
#define PP_BOUNDS 256

// out [rows, width] f32 = table [ids[row], width]. width is a multiple of 8. Grid (rows), block 256.
PP_KERNEL embedding(float* out, const T* table, const unsigned* ids, unsigned width) {
    const unsigned row = blockIdx.x;
    const T* from = table + static_cast<unsigned long long>(ids[row]) * width;
    float* to = out + static_cast<unsigned long long>(row) * width;
    for (unsigned at = threadIdx.x * 8u; at < width; at += blockDim.x * 8u) {
        float values[8];
        pp_unpack8(values, pp_load16(from + at));
        float4 low;
        low.x = values[0];
        low.y = values[1];
        low.z = values[2];
        low.w = values[3];
        float4 high;
        high.x = values[4];
        high.y = values[5];
        high.z = values[6];
        high.w = values[7];
        *reinterpret_cast<float4*>(to + at) = low;
        *reinterpret_cast<float4*>(to + at + 4u) = high;
    }
}
