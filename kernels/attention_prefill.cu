#include "common.cuh"
// Causal attention of a prompt over the cache, without the matrix of scores in memory: blocks of 64 queries walk over tiles of keys, with the
// softmax kept as a running maximum and sum (flash attention). Both products are on tensor cores and sum in f32; K and V of the next tile
// are fetched while this one is worked on.
//
// PP_HEAD_DIM: a multiple of 16, at most 256.
#ifndef PP_HEAD_DIM
#define PP_HEAD_DIM 128
#endif

#define PP_THREADS 128u
#define PP_BOUNDS 128
#define PP_QUERIES 64u
// Keys of a tile, and whether the fragments of Q stay in registers: wide heads have room for neither.
#if PP_HEAD_DIM <= 128
#define PP_KEYS 64
#define PP_KEEPS_Q 1
#else
#define PP_KEYS 32
#define PP_KEEPS_Q 0
#endif
// Values from one row to the next in shared memory: an odd number of 16-byte units, so that eight rows lie in different banks.
#define PP_STRIDE (PP_HEAD_DIM + 8)
#define PP_TILE_VALUES (PP_KEYS * PP_STRIDE)
#define PP_UNITS (PP_HEAD_DIM / 8u)
// Below any score, and finite, so that the difference of two is a number.
#define PP_LOWEST (-1e30f)

// Starts fetching PP_KEYS rows of K and V from `first` on; rows at or past `end` become zero.
PP_FUNCTION void pp_fetch(T* k_tile, T* v_tile, const T* k, const T* v, unsigned first, unsigned end) {
    for (unsigned at = threadIdx.x; at < PP_KEYS * PP_UNITS; at += PP_THREADS) {
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

// out [batch * queries, heads * head_dim]; qkv [batch * queries, stride] holds the rotated q heads first. Query i is position *position + i and
// sees the keys up to its own, the last `window` of them unless that is 0. Caches [batch, kv_heads, capacity, head_dim], the new positions
// included. stride is a multiple of 8. Grid (ceil(queries / 64), heads, batch), block 128. Shared bytes: 2 * (head_dim + 8) * (64 + 4 * keys),
// keys = 64 for head_dim <= 128, else 32.
PP_KERNEL attention_prefill(T* out, const T* qkv, unsigned stride, const T* k_cache, const T* v_cache, const unsigned* position,
                            unsigned queries, unsigned heads, unsigned kv_heads, unsigned capacity, unsigned window, float scale) {
    PP_DYNAMIC_SHARED(T, q_rows);
    const unsigned lane = threadIdx.x % PP_WARP;
    const unsigned warp = threadIdx.x / PP_WARP;
    const unsigned head = blockIdx.y;
    const unsigned sequence = blockIdx.z;
    // The last queries see the most keys: they begin first, so that none of them is left to the end.
    const unsigned first_query = (gridDim.x - 1u - blockIdx.x) * PP_QUERIES;
    const unsigned base = *position + first_query;
    const unsigned end = base + pp_min(PP_QUERIES, queries - first_query);
    const unsigned begin = window != 0u && base + 1u > window ? base + 1u - window : 0u;
    const unsigned long long cache_head =
        (static_cast<unsigned long long>(sequence) * kv_heads + head / (heads / kv_heads)) * capacity * PP_HEAD_DIM;
    const T* k = k_cache + cache_head;
    const T* v = v_cache + cache_head;
    T* k_tiles = q_rows + PP_QUERIES * PP_STRIDE;
    T* v_tiles = k_tiles + 2u * PP_TILE_VALUES;

    const unsigned long long first_row = static_cast<unsigned long long>(sequence) * queries + first_query;
    for (unsigned unit = threadIdx.x; unit < PP_QUERIES * PP_UNITS; unit += PP_THREADS) {
        const unsigned row = unit / PP_UNITS;
        const unsigned column = unit % PP_UNITS * 8u;
        T* to = q_rows + row * PP_STRIDE + column;
        if (first_query + row < queries) {
            pp_cp_async16(to, qkv + (first_row + row) * stride + head * PP_HEAD_DIM + column);
        } else {
            pp_store16(to, pp_zero16());
        }
    }
    pp_cp_async_commit();
    pp_fetch(k_tiles, v_tiles, k, v, begin, end);
    pp_cp_async_commit();

    // A warp has 16 queries; a lane rows lane / 4 and that + 8 of them, and columns 2 * (lane % 4) and the next of every eight.
    T* warp_q = q_rows + warp * 16u * PP_STRIDE;
    const T* q_fragment = warp_q + (lane % 16u) * PP_STRIDE + lane / 16u * 8u;
#if PP_KEEPS_Q
    unsigned q[PP_HEAD_DIM / 16][4];
    pp_cp_async_wait<1>();
    __syncthreads();
#pragma unroll
    for (int d = 0; d < PP_HEAD_DIM / 16; d++) {
        pp_ldmatrix_x4(q[d], q_fragment + d * 16);
    }
#endif
    float accumulated[PP_HEAD_DIM / 8][4] = {};
    float highest[2] = {PP_LOWEST, PP_LOWEST};
    float total[2] = {0.0f, 0.0f};
    const float log2_scale = scale * PP_LOG2_E;
    const unsigned row_position = base + warp * 16u + lane / 4u;
    unsigned stage = 0u;
    for (unsigned first = begin; first < end; first += PP_KEYS) {
        const T* k_tile = k_tiles + stage * PP_TILE_VALUES;
        const T* v_tile = v_tiles + stage * PP_TILE_VALUES;
        stage ^= 1u;
        if (first + PP_KEYS < end) {
            pp_fetch(k_tiles + stage * PP_TILE_VALUES, v_tiles + stage * PP_TILE_VALUES, k, v, first + PP_KEYS, end);
        }
        pp_cp_async_commit();
        pp_cp_async_wait<1>();
        __syncthreads();

        float scores[PP_KEYS / 8][4] = {};
#pragma unroll
        for (int d = 0; d < PP_HEAD_DIM / 16; d++) {
#if PP_KEEPS_Q
            const unsigned(&a)[4] = q[d];
#else
            unsigned a[4];
            pp_ldmatrix_x4(a, q_fragment + d * 16);
#endif
#pragma unroll
            for (int n = 0; n < PP_KEYS / 16; n++) {
                unsigned b[4];
                pp_ldmatrix_x4(b, k_tile + (n * 16u + lane / 16u * 8u + lane % 8u) * PP_STRIDE + d * 16u + lane / 8u % 2u * 8u);
                pp_mma(scores[n * 2], a, b[0], b[1]);
                pp_mma(scores[n * 2 + 1], a, b[2], b[3]);
            }
        }

        // Only tiles at the edges hold keys that some query must not see.
        const bool whole = first + PP_KEYS <= base + 1u && (window == 0u || first + window >= base + PP_QUERIES);
#pragma unroll
        for (int n = 0; n < PP_KEYS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const unsigned key = first + n * 8u + lane % 4u * 2u + i % 2;
                const unsigned at = row_position + i / 2 * 8u;
                const bool visible = whole || (key <= at && (window == 0u || key + window > at));
                scores[n][i] = visible ? scores[n][i] * log2_scale : 2.0f * PP_LOWEST;
            }
        }
#pragma unroll
        for (int row = 0; row < 2; row++) {
            float top = highest[row];
#pragma unroll
            for (int n = 0; n < PP_KEYS / 8; n++) {
                top = pp_max(top, pp_max(scores[n][row * 2], scores[n][row * 2 + 1]));
            }
            top = pp_max(top, __shfl_xor_sync(PP_ALL_LANES, top, 1));
            top = pp_max(top, __shfl_xor_sync(PP_ALL_LANES, top, 2));
            const float correction = pp_exp2(highest[row] - top);
            highest[row] = top;
            float sum = 0.0f;
#pragma unroll
            for (int n = 0; n < PP_KEYS / 8; n++) {
                scores[n][row * 2] = pp_exp2(scores[n][row * 2] - top);
                scores[n][row * 2 + 1] = pp_exp2(scores[n][row * 2 + 1] - top);
                sum += scores[n][row * 2] + scores[n][row * 2 + 1];
            }
            // The share of this lane; the four lanes of a row are summed at the end.
            total[row] = total[row] * correction + sum;
#pragma unroll
            for (int n = 0; n < PP_HEAD_DIM / 8; n++) {
                accumulated[n][row * 2] *= correction;
                accumulated[n][row * 2 + 1] *= correction;
            }
        }
#pragma unroll
        for (int n = 0; n < PP_KEYS / 16; n++) {
            const unsigned p[4] = {pp_pack2(scores[n * 2][0], scores[n * 2][1]), pp_pack2(scores[n * 2][2], scores[n * 2][3]),
                                   pp_pack2(scores[n * 2 + 1][0], scores[n * 2 + 1][1]), pp_pack2(scores[n * 2 + 1][2], scores[n * 2 + 1][3])};
#pragma unroll
            for (int d = 0; d < PP_HEAD_DIM / 16; d++) {
                unsigned b[4];
                pp_ldmatrix_x4_trans(b, v_tile + (n * 16u + lane % 16u) * PP_STRIDE + d * 16u + lane / 16u * 8u);
                pp_mma(accumulated[d * 2], p, b[0], b[1]);
                pp_mma(accumulated[d * 2 + 1], p, b[2], b[3]);
            }
        }
        __syncthreads();
    }
    pp_cp_async_wait<0>();

    // Through the warp's rows of Q, so that rows are written sixteen bytes at a time.
#pragma unroll
    for (int row = 0; row < 2; row++) {
        total[row] += __shfl_xor_sync(PP_ALL_LANES, total[row], 1);
        total[row] += __shfl_xor_sync(PP_ALL_LANES, total[row], 2);
        const float inverse = 1.0f / total[row];
#pragma unroll
        for (int n = 0; n < PP_HEAD_DIM / 8; n++) {
            *reinterpret_cast<unsigned*>(warp_q + (lane / 4u + row * 8u) * PP_STRIDE + n * 8u + lane % 4u * 2u) =
                pp_pack2(accumulated[n][row * 2] * inverse, accumulated[n][row * 2 + 1] * inverse);
        }
    }
    __syncwarp();
    for (unsigned unit = lane; unit < 16u * PP_UNITS; unit += PP_WARP) {
        const unsigned row = warp * 16u + unit / PP_UNITS;
        const unsigned column = unit % PP_UNITS * 8u;
        if (first_query + row < queries) {
            pp_store16(out + ((first_row + row) * heads + head) * PP_HEAD_DIM + column, pp_load16(q_rows + row * PP_STRIDE + column));
        }
    }
}
