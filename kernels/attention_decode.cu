#include "common.cuh"
// Attention of one new position per sequence over the cache: split along the positions, so that a long context fills the device.
//
// All heads of a group share their K and V: they are the rows of the tensor cores' left operand, and K and V are read once. Each warp works
// on tiles of 16 positions of its own, which it fetches one tile ahead. The last block to arrive combines the splits.
//
// PP_HEAD_DIM: a multiple of 8, at most 256. PP_GROUP: heads per kv head, 1..16.
#ifndef PP_HEAD_DIM
#define PP_HEAD_DIM 128
#endif
#ifndef PP_GROUP
#define PP_GROUP 4
#endif

// The tensor cores work on multiples of 16; what is past the head is zero.
#define PP_DIM ((PP_HEAD_DIM + 15) / 16 * 16)
// Values from one row to the next in shared memory: an odd number of 16-byte units, so that eight rows lie in different banks.
#define PP_STRIDE (PP_DIM + 8)
#define PP_TILE 16u
// Shared memory bounds the warps of wide heads.
#if PP_HEAD_DIM <= 128
#define PP_WARPS 4u
#else
#define PP_WARPS 2u
#endif
#define PP_THREADS (PP_WARPS * PP_WARP)
#define PP_BOUNDS PP_THREADS
#define PP_STAGES 2u
#define PP_UNITS (PP_HEAD_DIM / 8u)
#define PP_TILE_VALUES (PP_TILE * PP_STRIDE)
// Below any score, and finite, so that the difference of two is a number.
#define PP_LOWEST (-1e30f)
#define PP_ROWS (PP_GROUP > 8 ? 2 : 1)

// The rotated pair of words at i and i + head_dim / 2 of a head, two values each.
PP_FUNCTION void pp_rotate(unsigned& low_word, unsigned& high_word, const T* head, unsigned i, const float* cosines, const float* sines) {
    const float2 low = pp_unpack2(*reinterpret_cast<const unsigned*>(head + i));
    const float2 high = pp_unpack2(*reinterpret_cast<const unsigned*>(head + i + PP_HEAD_DIM / 2));
    const float c0 = cosines[i];
    const float c1 = cosines[i + 1u];
    const float s0 = sines[i];
    const float s1 = sines[i + 1u];
    low_word = pp_pack2(low.x * c0 - high.x * s0, low.y * c1 - high.y * s1);
    high_word = pp_pack2(high.x * c0 + low.x * s0, high.y * c1 + low.y * s1);
}

// Starts fetching 16 rows of K and V from `first` on; rows at or past `end` become zero.
PP_FUNCTION void pp_fetch(T* k_tile, T* v_tile, const T* k, const T* v, unsigned first, unsigned end) {
    for (unsigned at = threadIdx.x % PP_WARP; at < PP_TILE * PP_UNITS; at += PP_WARP) {
        const unsigned row = at / PP_UNITS;
        const unsigned column = at % PP_UNITS * 8u;
        T* k_to = k_tile + row * PP_STRIDE + column;
        T* v_to = v_tile + row * PP_STRIDE + column;
        if (first + row < end) {
            const unsigned long long from = static_cast<unsigned long long>(first + row) * PP_HEAD_DIM + column;
            pp_cp_async16(k_to, k + from);
            pp_cp_async16(v_to, v + from);
        } else {
            pp_store16(k_to, pp_zero16());
            pp_store16(v_to, pp_zero16());
        }
    }
}

// out [batch, heads * head_dim]; qkv [batch, stride] holds q, k and v heads of the new position, whose number is *position. With `rotate` q
// and k are not rotated yet, and k and v are written to the caches [batch, kv_heads, capacity, head_dim] here; without, they are there.
// window: 0, or how many of the last positions are seen. partials [batch, kv_heads, splits, PP_GROUP, head_dim + 2]; counters [batch,
// kv_heads] are zero before and after. Grid (splits, kv_heads, batch), splits at most 64; block 128, or 64 for heads wider than 128. Shared
// bytes: 2 * (16 * s + 2 * d + warps * 64 * s), d = head_dim rounded up to 16, s = d + 8.
PP_KERNEL attention_decode(T* out, const T* qkv, unsigned stride, const float* cos, const float* sin, T* k_cache, T* v_cache,
                           const unsigned* position, float* partials, unsigned* counters, unsigned heads, unsigned kv_heads,
                           unsigned capacity, unsigned window, float scale, unsigned rotate) {
    PP_DYNAMIC_SHARED(T, q_rows);
    PP_SHARED float warp_max[PP_WARPS][16];
    PP_SHARED float warp_sum[PP_WARPS][16];
    PP_SHARED unsigned is_last;
    T* new_k = q_rows + 16u * PP_STRIDE;
    T* new_v = new_k + PP_DIM;
    T* tiles = new_v + PP_DIM;
    const unsigned thread = threadIdx.x;
    const unsigned lane = thread % PP_WARP;
    const unsigned warp = thread / PP_WARP;
    const unsigned kv_head = blockIdx.y;
    const unsigned sequence = blockIdx.z;
    const unsigned at = *position;
    const unsigned end = at + 1u;
    const unsigned begin = window != 0u && end > window ? end - window : 0u;

    // Every split has at least a tile for each warp, so that a short context is not spread over blocks that only wait for each other.
    const unsigned tile_count = pp_ceil_div(end - begin, PP_TILE);
    const unsigned even = pp_ceil_div(tile_count, gridDim.x);
    const unsigned per_split = even > PP_WARPS ? even : PP_WARPS;
    const unsigned active = pp_ceil_div(tile_count, per_split);
    if (blockIdx.x >= active) {
        return;
    }
    const unsigned tiles_end = pp_min((blockIdx.x + 1u) * per_split, tile_count);
    const bool holds_new = rotate != 0u && blockIdx.x + 1u == active;

    const unsigned long long cache_head = (static_cast<unsigned long long>(sequence) * kv_heads + kv_head) * capacity * PP_HEAD_DIM;
    T* k = k_cache + cache_head;
    T* v = v_cache + cache_head;
    T* k_tiles = tiles + warp * (PP_STAGES * 2u * PP_TILE_VALUES);
    T* v_tiles = k_tiles + PP_STAGES * PP_TILE_VALUES;

#if PP_DIM != PP_HEAD_DIM
    for (unsigned row = lane; row < PP_STAGES * 2u * PP_TILE; row += PP_WARP) {
        pp_store16(k_tiles + row * PP_STRIDE + PP_HEAD_DIM, pp_zero16());
    }
#endif
    unsigned tile = blockIdx.x * per_split + warp;
    if (tile < tiles_end) {
        pp_fetch(k_tiles, v_tiles, k, v, begin + tile * PP_TILE, end);
    }
    pp_cp_async_commit();

    // The rows of q, rotated; rows past the group and columns past the head are zero.
    const T* values = qkv + static_cast<unsigned long long>(sequence) * stride;
    const T* q = values + kv_head * PP_GROUP * PP_HEAD_DIM;
    const float* cosines = cos + static_cast<unsigned long long>(at) * (PP_HEAD_DIM / 2);
    const float* sines = sin + static_cast<unsigned long long>(at) * (PP_HEAD_DIM / 2);
    for (unsigned unit = thread; unit < 16u * (PP_DIM / 8u); unit += PP_THREADS) {
        const unsigned row = unit / (PP_DIM / 8u);
        const unsigned column = unit % (PP_DIM / 8u) * 8u;
        if (row >= PP_GROUP || column >= PP_HEAD_DIM) {
            pp_store16(q_rows + row * PP_STRIDE + column, pp_zero16());
        } else if (rotate == 0u) {
            pp_store16(q_rows + row * PP_STRIDE + column, pp_load16(q + row * PP_HEAD_DIM + column));
        }
    }
    if (rotate != 0u) {
        for (unsigned work = thread; work < PP_GROUP * (PP_HEAD_DIM / 4u); work += PP_THREADS) {
            const unsigned row = work / (PP_HEAD_DIM / 4u);
            const unsigned i = work % (PP_HEAD_DIM / 4u) * 2u;
            unsigned low;
            unsigned high;
            pp_rotate(low, high, q + row * PP_HEAD_DIM, i, cosines, sines);
            *reinterpret_cast<unsigned*>(q_rows + row * PP_STRIDE + i) = low;
            *reinterpret_cast<unsigned*>(q_rows + row * PP_STRIDE + i + PP_HEAD_DIM / 2u) = high;
        }
    }
    if (holds_new) {
        const unsigned long long to = static_cast<unsigned long long>(at) * PP_HEAD_DIM;
        const T* k_from = values + (heads + kv_head) * PP_HEAD_DIM;
        const T* v_from = values + (heads + kv_heads + kv_head) * PP_HEAD_DIM;
        for (unsigned i = thread * 2u; i < PP_HEAD_DIM / 2u; i += PP_THREADS * 2u) {
            unsigned low;
            unsigned high;
            pp_rotate(low, high, k_from, i, cosines, sines);
            *reinterpret_cast<unsigned*>(new_k + i) = low;
            *reinterpret_cast<unsigned*>(new_k + i + PP_HEAD_DIM / 2u) = high;
            *reinterpret_cast<unsigned*>(k + to + i) = low;
            *reinterpret_cast<unsigned*>(k + to + i + PP_HEAD_DIM / 2u) = high;
        }
        for (unsigned i = thread * 8u; i < PP_HEAD_DIM; i += PP_THREADS * 8u) {
            const uint4 word = pp_load16(v_from + i);
            pp_store16(new_v + i, word);
            pp_store16(v + to + i, word);
        }
    }
    __syncthreads();

    // Row g = lane / 4 of the 16, and g + 8; columns 2 * (lane % 4) and the next of every eight.
    float accumulated[PP_DIM / 8][4] = {};
    float highest[2] = {PP_LOWEST, PP_LOWEST};
    float total[2] = {0.0f, 0.0f};
    const float log2_scale = scale * PP_LOG2_E;
    unsigned stage = 0u;
    for (; tile < tiles_end; tile += PP_WARPS) {
        const unsigned first = begin + tile * PP_TILE;
        T* k_tile = k_tiles + stage * PP_TILE_VALUES;
        T* v_tile = v_tiles + stage * PP_TILE_VALUES;
        stage ^= 1u;
        if (tile + PP_WARPS < tiles_end) {
            pp_fetch(k_tiles + stage * PP_TILE_VALUES, v_tiles + stage * PP_TILE_VALUES, k, v, first + PP_WARPS * PP_TILE, end);
        }
        pp_cp_async_commit();
        pp_cp_async_wait<1>();
        __syncwarp();
        if (holds_new && at - first < PP_TILE) {
            // What was fetched for the new position is older than this step.
            for (unsigned i = lane * 8u; i < PP_HEAD_DIM; i += PP_WARP * 8u) {
                pp_store16(k_tile + (at - first) * PP_STRIDE + i, pp_load16(new_k + i));
                pp_store16(v_tile + (at - first) * PP_STRIDE + i, pp_load16(new_v + i));
            }
            __syncwarp();
        }

        float scores[2][4] = {};
#pragma unroll
        for (unsigned d = 0u; d < PP_DIM; d += 16u) {
            unsigned a[4];
            unsigned b[4];
            pp_ldmatrix_x4(a, q_rows + (lane % 16u) * PP_STRIDE + d + lane / 16u * 8u);
            pp_ldmatrix_x4(b, k_tile + (lane / 16u * 8u + lane % 8u) * PP_STRIDE + d + lane / 8u % 2u * 8u);
            pp_mma(scores[0], a, b[0], b[1]);
            pp_mma(scores[1], a, b[2], b[3]);
        }
#pragma unroll
        for (int n = 0; n < 2; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const unsigned p = first + n * 8u + lane % 4u * 2u + i % 2;
                scores[n][i] = p < end ? scores[n][i] * log2_scale : 2.0f * PP_LOWEST;
            }
        }
#pragma unroll
        for (int row = 0; row < PP_ROWS; row++) {
            float top = pp_max(pp_max(scores[0][row * 2], scores[0][row * 2 + 1]), pp_max(scores[1][row * 2], scores[1][row * 2 + 1]));
            top = pp_max(top, __shfl_xor_sync(PP_ALL_LANES, top, 1));
            top = pp_max(top, __shfl_xor_sync(PP_ALL_LANES, top, 2));
            top = pp_max(top, highest[row]);
            const float correction = pp_exp2(highest[row] - top);
            highest[row] = top;
            float sum = 0.0f;
#pragma unroll
            for (int n = 0; n < 2; n++) {
                scores[n][row * 2] = pp_exp2(scores[n][row * 2] - top);
                scores[n][row * 2 + 1] = pp_exp2(scores[n][row * 2 + 1] - top);
                sum += scores[n][row * 2] + scores[n][row * 2 + 1];
            }
            // The share of this lane; the four lanes of a row are summed at the end.
            total[row] = total[row] * correction + sum;
#pragma unroll
            for (int n = 0; n < PP_DIM / 8; n++) {
                accumulated[n][row * 2] *= correction;
                accumulated[n][row * 2 + 1] *= correction;
            }
        }
        unsigned p[4] = {pp_pack2(scores[0][0], scores[0][1]), 0u, pp_pack2(scores[1][0], scores[1][1]), 0u};
#if PP_GROUP > 8
        p[1] = pp_pack2(scores[0][2], scores[0][3]);
        p[3] = pp_pack2(scores[1][2], scores[1][3]);
#endif
#pragma unroll
        for (unsigned d = 0u; d < PP_DIM; d += 16u) {
            unsigned b[4];
            pp_ldmatrix_x4_trans(b, v_tile + (lane % 16u) * PP_STRIDE + d + lane / 16u * 8u);
            pp_mma(accumulated[d / 8u], p, b[0], b[1]);
            pp_mma(accumulated[d / 8u + 1u], p, b[2], b[3]);
        }
        __syncwarp();
    }
    pp_cp_async_wait<0>();

    // The warps of the block, through the memory of the tiles: [warps][PP_GROUP][head_dim].
    __syncthreads();
    float* sums = reinterpret_cast<float*>(tiles);
#pragma unroll
    for (int row = 0; row < PP_ROWS; row++) {
        total[row] += __shfl_xor_sync(PP_ALL_LANES, total[row], 1);
        total[row] += __shfl_xor_sync(PP_ALL_LANES, total[row], 2);
        const unsigned g = lane / 4u + row * 8u;
        if (g < PP_GROUP) {
            if (lane % 4u == 0u) {
                warp_max[warp][g] = highest[row];
                warp_sum[warp][g] = total[row];
            }
#pragma unroll
            for (int n = 0; n < PP_DIM / 8; n++) {
                const unsigned d = n * 8u + lane % 4u * 2u;
                if (PP_DIM == PP_HEAD_DIM || d < PP_HEAD_DIM) {
                    float* to = sums + (warp * PP_GROUP + g) * PP_HEAD_DIM + d;
                    to[0] = accumulated[n][row * 2];
                    to[1] = accumulated[n][row * 2 + 1];
                }
            }
        }
    }
    __syncthreads();
    T* out_heads = out + (static_cast<unsigned long long>(sequence) * heads + kv_head * PP_GROUP) * PP_HEAD_DIM;
    const unsigned head_index = sequence * kv_heads + kv_head;
    const unsigned long long partial_values = PP_GROUP * (PP_HEAD_DIM + 2u);
    float* head_partials = partials + head_index * gridDim.x * partial_values;
    float* partial = head_partials + blockIdx.x * partial_values;
    for (unsigned i = thread; i < PP_GROUP * PP_HEAD_DIM; i += PP_THREADS) {
        const unsigned g = i / PP_HEAD_DIM;
        const unsigned d = i % PP_HEAD_DIM;
        float top = PP_LOWEST;
#pragma unroll
        for (unsigned w = 0u; w < PP_WARPS; w++) {
            top = pp_max(top, warp_max[w][g]);
        }
        float value = 0.0f;
        float weight = 0.0f;
#pragma unroll
        for (unsigned w = 0u; w < PP_WARPS; w++) {
            const float share = pp_exp2(warp_max[w][g] - top);
            value += share * sums[w * PP_GROUP * PP_HEAD_DIM + i];
            weight += share * warp_sum[w][g];
        }
        if (active == 1u) {
            out_heads[i] = pp_to_t(value / weight);
        } else {
            partial[g * (PP_HEAD_DIM + 2u) + d] = value;
            if (d == 0u) {
                partial[g * (PP_HEAD_DIM + 2u) + PP_HEAD_DIM] = top;
                partial[g * (PP_HEAD_DIM + 2u) + PP_HEAD_DIM + 1u] = weight;
            }
        }
    }
    if (active == 1u) {
        return;
    }

    // The partial of each block is in memory before the block is counted.
    __threadfence();
    __syncthreads();
    if (thread == 0u) {
        is_last = atomicAdd(counters + head_index, 1u) == active - 1u ? 1u : 0u;
    }
    __syncthreads();
    if (is_last == 0u) {
        return;
    }
    __threadfence();
    // What each split counts for: [active][PP_GROUP].
    float* shares = sums;
    for (unsigned g = thread; g < PP_GROUP; g += PP_THREADS) {
        const float* facts = head_partials + g * (PP_HEAD_DIM + 2u) + PP_HEAD_DIM;
        float top = PP_LOWEST;
        for (unsigned s = 0u; s < active; s++) {
            top = pp_max(top, pp_load_fresh(facts + s * partial_values));
        }
        float weight = 0.0f;
        for (unsigned s = 0u; s < active; s++) {
            const float share = pp_exp2(pp_load_fresh(facts + s * partial_values) - top);
            weight += share * pp_load_fresh(facts + s * partial_values + 1u);
            shares[s * PP_GROUP + g] = share;
        }
        const float inverse = 1.0f / weight;
        for (unsigned s = 0u; s < active; s++) {
            shares[s * PP_GROUP + g] *= inverse;
        }
    }
    __syncthreads();
    for (unsigned i = thread; i < PP_GROUP * PP_HEAD_DIM; i += PP_THREADS) {
        const unsigned g = i / PP_HEAD_DIM;
        const float* from = head_partials + g * (PP_HEAD_DIM + 2u) + i % PP_HEAD_DIM;
        float value = 0.0f;
#pragma unroll 4
        for (unsigned s = 0u; s < active; s++) {
            value += shares[s * PP_GROUP + g] * pp_load_fresh(from + s * partial_values);
        }
        out_heads[i] = pp_to_t(value);
    }
    if (thread == 0u) {
        counters[head_index] = 0u;
    }
}
