#include "common.cuh"
// Adds one vector to every row: the bias after a product of cuBLAS.
#define PP_BOUNDS 256

// x [rows, width] += bias [width]. Grid (ceil(width / 256), rows), block 256.
PP_KERNEL add_bias(T* x, const float* bias, unsigned width) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < width) {
        T* value = x + static_cast<unsigned long long>(blockIdx.y) * width + at;
        *value = pp_to_t(pp_to_f32(*value) + bias[at]);
    }
}

// The same for f32 rows.
PP_KERNEL add_bias_f32(float* x, const float* bias, unsigned width) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < width) {
        x[static_cast<unsigned long long>(blockIdx.y) * width + at] += bias[at];
    }
}
