#include "common.cuh"
// The choice of the next token of each sequence, on the device, so that a step need not wait for the host.
#define PP_BOUNDS 256

#define PP_NO_ID 0xffffffffu

// A candidate.
struct Best {
    float value;
    unsigned id;
};

// The larger of two, of equals the first.
PP_FUNCTION Best pp_better(Best a, Best b) {
    return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}

// The best of a block, valid in thread 0. `scratch`: 8 candidates.
PP_FUNCTION Best pp_block_best(Best best, Best* scratch) {
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) {
        Best other;
        other.value = __shfl_xor_sync(PP_ALL_LANES, best.value, mask);
        other.id = __shfl_xor_sync(PP_ALL_LANES, best.id, mask);
        best = pp_better(best, other);
    }
    if (threadIdx.x % PP_WARP == 0u) {
        scratch[threadIdx.x / PP_WARP] = best;
    }
    __syncthreads();
    for (unsigned warp = 0u; warp < blockDim.x / PP_WARP; warp++) {
        best = pp_better(best, scratch[warp]);
    }
    return best;
}

// Word 0 of Philox4x32-10 for the counter (c0, c1, c2, 0).
PP_FUNCTION unsigned pp_philox(unsigned c0, unsigned c1, unsigned c2, unsigned long long seed) {
    unsigned c3 = 0u;
    unsigned key0 = static_cast<unsigned>(seed);
    unsigned key1 = static_cast<unsigned>(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned long long a = 0xd2511f53ull * c0;
        const unsigned long long b = 0xcd9e8d57ull * c2;
        const unsigned next0 = static_cast<unsigned>(b >> 32) ^ c1 ^ key0;
        const unsigned next2 = static_cast<unsigned>(a >> 32) ^ c3 ^ key1;
        c1 = static_cast<unsigned>(b);
        c3 = static_cast<unsigned>(a);
        c0 = next0;
        c2 = next2;
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
    return c0;
}

// A sample of the Gumbel distribution. Large samples come from small words, whose floats are the finest.
PP_FUNCTION float pp_gumbel(unsigned word) {
    float v = (static_cast<float>(word) + 0.5f) * 2.3283064365386963e-10f;
    v = v < 0.99999994f ? v : 0.99999994f;
    return -pp_log(-pp_log1p(-v));
}

// ids [batch]: for an inverse temperature of 0 the index of the largest of logits [batch, width], the first of equals, never a NaN (0 where
// all are); else a sample of softmax(logits * inverse_temperature), by the largest of logits plus Gumbel noise. The noise of index i of
// sequence b is a function of seed, i, b and the step. state: [0] position, [1] step, [2] non-finite logits seen; at the end `advance` is
// added to [0] and 1 to [1]. history [batch, history_stride] gets the id at the step. partial_values and partial_ids [batch, chunks];
// counters [batch + 1] are zero before and after. Grid (chunks, batch), block 256.
PP_KERNEL choose(unsigned* ids, const float* logits, unsigned width, float inverse_temperature, unsigned long long seed, unsigned* state,
                 unsigned advance, unsigned* history, unsigned history_stride, float* partial_values, unsigned* partial_ids,
                 unsigned* counters) {
    PP_SHARED Best scratch[8];
    PP_SHARED unsigned is_last;
    const unsigned sequence = blockIdx.y;
    const unsigned chunks = gridDim.x;
    const unsigned step = pp_load_fresh(state + 1);
    const float* row = logits + static_cast<unsigned long long>(sequence) * width;
    const unsigned length = pp_ceil_div(width, chunks);
    const unsigned begin = pp_min(blockIdx.x * length, width);
    const unsigned end = pp_min(begin + length, width);

    Best best;
    best.value = pp_as_float(0xff800000u);
    best.id = PP_NO_ID;
    unsigned non_finite = 0u;
#pragma unroll 4
    for (unsigned i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const float logit = row[i];
        non_finite += pp_is_finite(logit) ? 0u : 1u;
        if (!pp_is_nan(logit)) {
            Best one;
            one.value = inverse_temperature == 0.0f ? logit : logit * inverse_temperature + pp_gumbel(pp_philox(i, sequence, step, seed));
            one.id = i;
            best = pp_better(best, one);
        }
    }
    if (non_finite != 0u) {
        atomicAdd(state + 2, non_finite);
    }
    best = pp_block_best(best, scratch);
    if (threadIdx.x == 0u) {
        partial_values[sequence * chunks + blockIdx.x] = best.value;
        partial_ids[sequence * chunks + blockIdx.x] = best.id;
        __threadfence();
        is_last = atomicAdd(counters + sequence, 1u) == chunks - 1u ? 1u : 0u;
    }
    __syncthreads();
    if (is_last == 0u) {
        return;
    }

    // The last block of a sequence sees what all of them found.
    __threadfence();
    best.value = pp_as_float(0xff800000u);
    best.id = PP_NO_ID;
    for (unsigned chunk = threadIdx.x; chunk < chunks; chunk += blockDim.x) {
        Best one;
        one.value = pp_load_fresh(partial_values + sequence * chunks + chunk);
        one.id = pp_load_fresh(partial_ids + sequence * chunks + chunk);
        best = pp_better(best, one);
    }
    best = pp_block_best(best, scratch);
    if (threadIdx.x == 0u) {
        const unsigned id = best.id == PP_NO_ID ? 0u : best.id;
        ids[sequence] = id;
        if (step < history_stride) {
            history[static_cast<unsigned long long>(sequence) * history_stride + step] = id;
        }
        counters[sequence] = 0u;
        __threadfence();
        // The last sequence moves the state on; all blocks have read the step by then.
        if (atomicAdd(counters + gridDim.y, 1u) == gridDim.y - 1u) {
            counters[gridDim.y] = 0u;
            state[0] += advance;
            state[1] = step + 1u;
        }
    }
}
