// Operations of a warp: shuffles, votes, matrix loads, tensor-core products, and asynchronous copies. Included by emulation.hpp only.
#ifndef PP_EMULATION_WARP_HPP
#define PP_EMULATION_WARP_HPP

namespace pp_emu {

enum Kind { SYNC, XOR, INDEX, UP, DOWN, VOTE, MMA, LOAD_MATRIX };

struct Shuffle {
    unsigned long long value, result;
    unsigned operand, width;
};

template <Kind KIND>
static void shuffle(void** lanes, unsigned mask) {
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(mask & (1u << lane))) {
            continue;
        }
        Shuffle& own = *(Shuffle*)lanes[lane];
        const unsigned width = own.width, first = lane & ~(width - 1), last = first + width - 1;
        unsigned from = lane;
        if (KIND == XOR) {
            from = (lane ^ own.operand) > last ? lane : lane ^ own.operand;
        } else if (KIND == INDEX) {
            from = first | (own.operand & (width - 1));
        } else if (KIND == UP) {
            from = lane < first + own.operand ? lane : lane - own.operand;
        } else {
            from = lane + own.operand > last ? lane : lane + own.operand;
        }
        if (from >= WARP || !lanes[from]) {
            // Reading what a lane that takes no part holds is undefined, but allowed where nobody uses it.
            memset(&own.result, POISON, sizeof own.result);
        } else {
            own.result = ((Shuffle*)lanes[from])->value;
        }
    }
}

template <Kind KIND, class V>
static V shuffled(unsigned mask, V value, unsigned operand, int width) {
    static_assert(sizeof(V) == 4 || sizeof(V) == 8, "shuffles move 32 or 64 bits");
    if (width < 1 || width > 32 || (width & (width - 1))) {
        misuse("a shuffle whose width is not a power of two up to 32");
    }
    Shuffle own = {0, 0, operand, (unsigned)width};
    memcpy(&own.value, &value, sizeof value);
    collective(KIND, mask, &own, shuffle<KIND>);
    memcpy(&value, &own.result, sizeof value);
    return value;
}

struct Vote {
    unsigned value;
};

static void vote(void** lanes, unsigned mask) {
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < WARP; lane++) {
        ballot |= mask & (1u << lane) && ((Vote*)lanes[lane])->value ? 1u << lane : 0;
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (mask & (1u << lane)) {
            ((Vote*)lanes[lane])->value = ballot;
        }
    }
}

static void nothing(void**, unsigned) {}

static void demand_whole_warp(unsigned mask, const char* what) {
    if (mask != ~0u) {
        misuse(what);
    }
}

// Fragments as the PTX ISA lays them out for mma.m16n8k16 with 16-bit a and b, with group = lane / 4 and t = lane % 4:
//   a (16 × 16): register r holds row group + 8 · (r odd), columns 2t + 8 · (r ≥ 2) and the one after it;
//   b (16 × 8): register r holds rows 2t + 8r and the one after it, column group;
//   d (16 × 8): value v is at row group + 8 · (v ≥ 2), column 2t + (v odd).
struct Product {
    float* d;
    const unsigned *a, *b;
};

template <float (*CONVERT)(unsigned short)>
static void multiply(void** lanes, unsigned mask) {
    demand_whole_warp(mask, "mma needs all lanes of the warp");
    float a[16][16], b[16][8];
    for (unsigned lane = 0; lane < WARP; lane++) {
        const Product& own = *(const Product*)lanes[lane];
        const unsigned group = lane / 4, t = lane % 4;
        for (unsigned half = 0; half < 2; half++) {
            for (unsigned r = 0; r < 4; r++) {
                a[group + 8 * (r % 2)][2 * t + 8 * (r / 2) + half] = CONVERT((unsigned short)(own.a[r] >> (16 * half)));
            }
            for (unsigned r = 0; r < 2; r++) {
                b[2 * t + 8 * r + half][group] = CONVERT((unsigned short)(own.b[r] >> (16 * half)));
            }
        }
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        const Product& own = *(const Product*)lanes[lane];
        for (unsigned v = 0; v < 4; v++) {
            const unsigned row = lane / 4 + 8 * (v / 2), column = 2 * (lane % 4) + v % 2;
            double sum = own.d[v];
            for (unsigned k = 0; k < 16; k++) {
                sum += (double)a[row][k] * (double)b[k][column];
            }
            own.d[v] = (float)sum;
        }
    }
}

struct MatrixLoad {
    unsigned* r;
    const void* row;
    unsigned count;
    bool transposed;
};

// Lane 8i + j names row j of matrix i; register i of lane l is row l / 4 of matrix i, columns 2 (l % 4) and the one after it; transposed,
// rows and columns change places.
static void load_matrices(void** lanes, unsigned mask) {
    demand_whole_warp(mask, "ldmatrix needs all lanes of the warp");
    const unsigned count = ((MatrixLoad*)lanes[0])->count;
    unsigned short rows[4][8][8];
    for (unsigned lane = 0; lane < 8 * count; lane++) {
        const void* row = ((MatrixLoad*)lanes[lane])->row;
        if ((uintptr_t)row % 16 || !in_shared(row, 16)) {
            misuse("ldmatrix of a row that is not sixteen aligned bytes of shared memory");
        }
        memcpy(rows[lane / 8][lane % 8], row, 16);
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        const MatrixLoad& own = *(MatrixLoad*)lanes[lane];
        const unsigned group = lane / 4, t = 2 * (lane % 4);
        for (unsigned i = 0; i < count; i++) {
            const unsigned low = own.transposed ? rows[i][t][group] : rows[i][group][t];
            const unsigned high = own.transposed ? rows[i][t + 1][group] : rows[i][group][t + 1];
            own.r[i] = low | high << 16;
        }
    }
}

static void load_matrix(unsigned* r, const void* row, unsigned count, bool transposed) {
    MatrixLoad own = {r, row, count, transposed};
    collective(LOAD_MATRIX + (int)count * 2 + transposed, ~0u, &own, load_matrices);
}

static void arrive(const Copy& copy) { memcpy(copy.to, copy.from, 16); }

}  // namespace pp_emu

template <class V>
static inline V __shfl_xor_sync(unsigned mask, V value, int lanes, int width = 32) {
    return pp_emu::shuffled<pp_emu::XOR>(mask, value, (unsigned)lanes, width);
}
template <class V>
static inline V __shfl_sync(unsigned mask, V value, int lane, int width = 32) {
    return pp_emu::shuffled<pp_emu::INDEX>(mask, value, (unsigned)lane, width);
}
template <class V>
static inline V __shfl_up_sync(unsigned mask, V value, unsigned lanes, int width = 32) {
    return pp_emu::shuffled<pp_emu::UP>(mask, value, lanes, width);
}
template <class V>
static inline V __shfl_down_sync(unsigned mask, V value, unsigned lanes, int width = 32) {
    return pp_emu::shuffled<pp_emu::DOWN>(mask, value, lanes, width);
}
static inline void __syncwarp(unsigned mask = ~0u) { pp_emu::collective(pp_emu::SYNC, mask, nullptr, pp_emu::nothing); }
static inline unsigned __ballot_sync(unsigned mask, int value) {
    pp_emu::Vote own = {value != 0};
    pp_emu::collective(pp_emu::VOTE, mask, &own, pp_emu::vote);
    return own.value;
}
static inline int __any_sync(unsigned mask, int value) { return __ballot_sync(mask, value) != 0; }
static inline int __all_sync(unsigned mask, int value) { return __ballot_sync(mask, !value) == 0; }

// d += a · b
static inline void pp_emu_mma_m16n8k16_f16(float d[4], const unsigned a[4], const unsigned b[2]) {
    pp_emu::Product own = {d, a, b};
    pp_emu::collective(pp_emu::MMA, ~0u, &own, pp_emu::multiply<pp_emu_f16_to_f32>);
}
static inline void pp_emu_mma_m16n8k16_bf16(float d[4], const unsigned a[4], const unsigned b[2]) {
    pp_emu::Product own = {d, a, b};
    pp_emu::collective(pp_emu::MMA, ~0u, &own, pp_emu::multiply<pp_emu_bf16_to_f32>);
}

static inline void pp_emu_ldmatrix_x4(unsigned r[4], const void* row) { pp_emu::load_matrix(r, row, 4, false); }
static inline void pp_emu_ldmatrix_x4_trans(unsigned r[4], const void* row) { pp_emu::load_matrix(r, row, 4, true); }
static inline void pp_emu_ldmatrix_x2(unsigned r[2], const void* row) { pp_emu::load_matrix(r, row, 2, false); }
static inline void pp_emu_ldmatrix_x2_trans(unsigned r[2], const void* row) { pp_emu::load_matrix(r, row, 2, true); }

// A copy may arrive at once or at the wait. In order of the threads it is always the wait, which shows a missing wait; in a random order it
// is now and then at once, which shows a buffer that is filled while it is read.
static inline void pp_emu_cp_async16(void* shared, const void* global) {
    using namespace pp_emu;
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16 || !in_shared(shared, 16)) {
        misuse("cp.async of other than sixteen aligned bytes to shared memory");
    }
    Fiber& fiber = state->fibers[state->current];
    const Copy copy = {shared, global, fiber.groups};
    if (state->seed && random_bits() % 2) {
        arrive(copy);
        return;
    }
    if (fiber.copy_count == fiber.copy_room) {
        fiber.copy_room = fiber.copy_room ? 2 * fiber.copy_room : 16;
        fiber.copies = (Copy*)realloc(fiber.copies, fiber.copy_room * sizeof(Copy));
        if (!fiber.copies) {
            abort();
        }
    }
    fiber.copies[fiber.copy_count++] = copy;
}
static inline void pp_emu_cp_async_commit() { pp_emu::state->fibers[pp_emu::state->current].groups++; }
// Waits until at most `groups` closed groups of this thread are under way.
static inline void pp_emu_cp_async_wait(int groups) {
    using namespace pp_emu;
    Fiber& fiber = state->fibers[state->current];
    unsigned kept = 0;
    for (unsigned i = 0; i < fiber.copy_count; i++) {
        const Copy copy = fiber.copies[i];
        if (copy.group < fiber.groups && fiber.groups - copy.group > (unsigned)groups) {
            arrive(copy);
        } else {
            fiber.copies[kept++] = copy;
        }
    }
    fiber.copy_count = kept;
}

#endif
