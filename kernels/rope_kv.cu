#include "common.cuh"
// Rotary position embedding of q and k, and the write of k and v to the cache.
#define PP_BOUNDS 256

// qkv [rows, stride] holds q heads, k heads and v heads of each row; q is rotated in place, rotated k and v go to the caches
// [batch, kv_heads, capacity, head_dim]. Row r is position *position + r % queries of sequence r / queries. The halves of a head rotate
// against each other (Hugging Face): (x[i], x[i + head_dim / 2]) by the angle i of cos and sin [capacity, head_dim / 2].
// head_dim and stride are multiples of 4. Grid (rows), block 256.
PP_KERNEL rope_kv_write(T* qkv, unsigned stride, const float* cos, const float* sin, T* k_cache, T* v_cache, const unsigned* position,
                        unsigned queries, unsigned heads, unsigned kv_heads, unsigned head_dim, unsigned capacity) {
    const unsigned row = blockIdx.x;
    const unsigned at = *position + row % queries;
    const unsigned long long first_head = static_cast<unsigned long long>(row / queries) * kv_heads;
    T* values = qkv + static_cast<unsigned long long>(row) * stride;
    const unsigned half = head_dim / 2u;
    const unsigned pairs = half / 2u;
    const float* cosines = cos + static_cast<unsigned long long>(at) * half;
    const float* sines = sin + static_cast<unsigned long long>(at) * half;
    // Two neighbouring rotations a thread.
    for (unsigned work = threadIdx.x; work < (heads + kv_heads) * pairs; work += blockDim.x) {
        const unsigned head = work / pairs;
        const unsigned i = work % pairs * 2u;
        T* from = values + head * head_dim + i;
        const float2 low = pp_unpack2(*reinterpret_cast<const unsigned*>(from));
        const float2 high = pp_unpack2(*reinterpret_cast<const unsigned*>(from + half));
        const float c0 = cosines[i];
        const float c1 = cosines[i + 1u];
        const float s0 = sines[i];
        const float s1 = sines[i + 1u];
        T* to = head < heads ? from : k_cache + ((first_head + (head - heads)) * capacity + at) * head_dim + i;
        *reinterpret_cast<unsigned*>(to) = pp_pack2(low.x * c0 - high.x * s0, low.y * c1 - high.y * s1);
        *reinterpret_cast<unsigned*>(to + half) = pp_pack2(high.x * c0 + low.x * s0, high.y * c1 + low.y * s1);
    }
    const T* v = values + (heads + kv_heads) * head_dim;
    for (unsigned work = threadIdx.x; work < kv_heads * half; work += blockDim.x) {
        const unsigned head = work / half;
        const unsigned i = work % half * 2u;
        T* to = v_cache + ((first_head + head) * capacity + at) * head_dim + i;
        *reinterpret_cast<unsigned*>(to) = *reinterpret_cast<const unsigned*>(v + head * head_dim + i);
    }
}
