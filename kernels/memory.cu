#include "common.cuh"
// Memory traffic alone: what the bandwidth of a device is measured with.
#define PP_BOUNDS 1024

// out [count] = in [count], sixteen bytes each. Any grid, block 256..1024.
PP_KERNEL copy_vectors(uint4* out, const uint4* in, unsigned long long count) {
    const unsigned long long threads = static_cast<unsigned long long>(gridDim.x) * blockDim.x;
    unsigned long long at = static_cast<unsigned long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    // Four loads before the first store.
    for (; at + 3u * threads < count; at += 4u * threads) {
        const uint4 a = pp_load_streaming(in + at);
        const uint4 b = pp_load_streaming(in + at + threads);
        const uint4 c = pp_load_streaming(in + at + 2u * threads);
        const uint4 d = pp_load_streaming(in + at + 3u * threads);
        out[at] = a;
        out[at + threads] = b;
        out[at + 2u * threads] = c;
        out[at + 3u * threads] = d;
    }
    for (; at < count; at += threads) {
        out[at] = pp_load_streaming(in + at);
    }
}

PP_FUNCTION unsigned pp_sum4(uint4 word) {
    return word.x + word.y + word.z + word.w;
}

// *sink += the sum of all 32-bit words of in [count], modulo 2^32: the sum depends on all that was read and on no order.
// Any grid, block a multiple of 32 in 256..1024.
PP_KERNEL read_vectors(const uint4* in, unsigned long long count, unsigned* sink) {
    const unsigned long long threads = static_cast<unsigned long long>(gridDim.x) * blockDim.x;
    unsigned long long at = static_cast<unsigned long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    unsigned sum = 0u;
    for (; at + 3u * threads < count; at += 4u * threads) {
        const uint4 a = pp_load_streaming(in + at);
        const uint4 b = pp_load_streaming(in + at + threads);
        const uint4 c = pp_load_streaming(in + at + 2u * threads);
        const uint4 d = pp_load_streaming(in + at + 3u * threads);
        sum += pp_sum4(a) + pp_sum4(b) + pp_sum4(c) + pp_sum4(d);
    }
    for (; at < count; at += threads) {
        sum += pp_sum4(pp_load_streaming(in + at));
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) {
        sum += __shfl_xor_sync(PP_ALL_LANES, sum, mask);
    }
    if (threadIdx.x % PP_WARP == 0u) {
        atomicAdd(sink, sum);
    }
}
