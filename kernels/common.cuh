// What every kernel includes: the 16-bit type, conversions, reductions, asynchronous copies and tensor-core products.
//
// No header of CUDA is needed, so that NVRTC compiles the kernels on a machine with a driver alone. Every instruction that C++ has no word
// for is one small function here; with PP_EMULATE it calls a function of emulation/emulation.hpp instead, which the tests compile for the
// host. A source that includes this says with `#define PP_BOUNDS threads` (or `threads, blocks`) what its kernels are launched with at most.
#ifndef PP_COMMON_CUH
#define PP_COMMON_CUH

#ifdef PP_EMULATE
#define PP_KERNEL extern "C" __global__ void
#define PP_FUNCTION __device__ inline
#else
#define PP_KERNEL extern "C" __global__ void __launch_bounds__(PP_BOUNDS)
#define PP_FUNCTION __device__ __forceinline__
#define PP_SHARED __shared__
// `name`: the dynamic shared memory of the launch, aligned to 16 bytes.
#define PP_DYNAMIC_SHARED(type, name)                               \
    extern __shared__ __align__(16) unsigned char pp_dynamic_shared[]; \
    type* name = reinterpret_cast<type*>(pp_dynamic_shared)
#endif
#ifndef PP_SHARED
#define PP_SHARED __shared__
#endif

// 0: f16, 1: bf16. Sources without 16-bit values do not care.
#ifndef PP_T
#define PP_T 1
#endif

#define PP_WARP 32u
#define PP_ALL_LANES 0xffffffffu
#define PP_LOG2_E 1.4426950408889634f

// A 16-bit value; only its bits are ever moved, arithmetic is in f32.
struct T {
    unsigned short bits;
};

// ---- Bits ----

PP_FUNCTION float pp_as_float(unsigned bits) {
#ifdef PP_EMULATE
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
#else
    return __uint_as_float(bits);
#endif
}

PP_FUNCTION unsigned pp_as_unsigned(float value) {
#ifdef PP_EMULATE
    unsigned bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
#else
    return __float_as_uint(value);
#endif
}

// ---- Conversions ----

// f16 bits to f32: scales of quantized blocks are f16 whatever T is.
PP_FUNCTION float pp_f16_to_f32(unsigned short bits) {
#ifdef PP_EMULATE
    return pp_emu_f16_to_f32(bits);
#else
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#endif
}

PP_FUNCTION float pp_to_f32(T value) {
#if PP_T == 0
    return pp_f16_to_f32(value.bits);
#else
    return pp_as_float(static_cast<unsigned>(value.bits) << 16);
#endif
}

// Rounds to nearest even.
PP_FUNCTION T pp_to_t(float value) {
    T result;
#ifdef PP_EMULATE
#if PP_T == 0
    result.bits = pp_emu_f32_to_f16(value);
#else
    result.bits = pp_emu_f32_to_bf16(value);
#endif
#else
#if PP_T == 0
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#else
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#endif
#endif
    return result;
}

// The two values of a 32-bit word; x is the one at the lower address.
PP_FUNCTION float2 pp_unpack2(unsigned word) {
    float2 values;
#if PP_T == 0
    values.x = pp_f16_to_f32(static_cast<unsigned short>(word & 0xffffu));
    values.y = pp_f16_to_f32(static_cast<unsigned short>(word >> 16));
#else
    values.x = pp_as_float(word << 16);
    values.y = pp_as_float(word & 0xffff0000u);
#endif
    return values;
}

// Two values in one 32-bit word, `low` at the lower address.
PP_FUNCTION unsigned pp_pack2(float low, float high) {
#ifdef PP_EMULATE
    return static_cast<unsigned>(pp_to_t(low).bits) | (static_cast<unsigned>(pp_to_t(high).bits) << 16);
#else
    unsigned word;
#if PP_T == 0
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#endif
    return word;
#endif
}

// The eight values of sixteen bytes.
PP_FUNCTION void pp_unpack8(float (&values)[8], uint4 word) {
    float2 pair = pp_unpack2(word.x);
    values[0] = pair.x;
    values[1] = pair.y;
    pair = pp_unpack2(word.y);
    values[2] = pair.x;
    values[3] = pair.y;
    pair = pp_unpack2(word.z);
    values[4] = pair.x;
    values[5] = pair.y;
    pair = pp_unpack2(word.w);
    values[6] = pair.x;
    values[7] = pair.y;
}

PP_FUNCTION uint4 pp_pack8(const float (&values)[8]) {
    uint4 word;
    word.x = pp_pack2(values[0], values[1]);
    word.y = pp_pack2(values[2], values[3]);
    word.z = pp_pack2(values[4], values[5]);
    word.w = pp_pack2(values[6], values[7]);
    return word;
}

// ---- Memory ----

// Sixteen bytes that nothing writes while the kernel runs and that are read once: not kept in L1.
PP_FUNCTION uint4 pp_load_streaming(const void* from) {
    uint4 word;
#ifdef PP_EMULATE
    word = *static_cast<const uint4*>(from);
#else
    // Volatile keeps several loads in a row ahead of the arithmetic that uses them.
    asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
                 : "l"(from));
#endif
    return word;
}

// Two bytes that nothing writes while the kernel runs; kept in L1, as the neighbours are read soon.
PP_FUNCTION unsigned short pp_load_constant_u16(const void* from) {
    unsigned short word;
#ifdef PP_EMULATE
    word = *static_cast<const unsigned short*>(from);
#else
    asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(word) : "l"(from));
#endif
    return word;
}

PP_FUNCTION uint4 pp_load16(const void* from) {
    return *static_cast<const uint4*>(from);
}

PP_FUNCTION void pp_store16(void* to, uint4 word) {
    *static_cast<uint4*>(to) = word;
}

PP_FUNCTION uint4 pp_zero16() {
    uint4 word;
    word.x = 0u;
    word.y = 0u;
    word.z = 0u;
    word.w = 0u;
    return word;
}

// A float that another block of this launch may have written.
PP_FUNCTION float pp_load_fresh(const float* from) {
    return *static_cast<const volatile float*>(from);
}

PP_FUNCTION unsigned pp_load_fresh(const unsigned* from) {
    return *static_cast<const volatile unsigned*>(from);
}

#ifndef PP_EMULATE
PP_FUNCTION unsigned pp_shared_address(const void* at) {
    return static_cast<unsigned>(__cvta_generic_to_shared(at));
}
#endif

// Copies sixteen bytes to shared memory behind the back of the thread.
PP_FUNCTION void pp_cp_async16(void* shared, const void* global) {
#ifdef PP_EMULATE
    pp_emu_cp_async16(shared, global);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(pp_shared_address(shared)), "l"(global) : "memory");
#endif
}

// Closes a group of copies.
PP_FUNCTION void pp_cp_async_commit() {
#ifdef PP_EMULATE
    pp_emu_cp_async_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most N groups of this thread are under way.
template <int N>
PP_FUNCTION void pp_cp_async_wait() {
#ifdef PP_EMULATE
    pp_emu_cp_async_wait(N);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// ---- Arithmetic ----

// 16 + q for the byte `index` of four bytes 128 + 8 * q, q below 16, by putting it into the exponent's last bit and the mantissa.
PP_FUNCTION float pp_16_plus_nibble(unsigned four, int index) {
#ifdef PP_EMULATE
    return pp_as_float(0x41000000u | ((four >> (8 * index)) & 0xffu) << 16);
#else
    return __uint_as_float(__byte_perm(four, 0x41000000u, 0x7054u | static_cast<unsigned>(index) << 8));
#endif
}

// The signed byte `index` of four whose sign bits have been flipped. Exact.
PP_FUNCTION float pp_signed_byte(unsigned four, int index) {
#ifdef PP_EMULATE
    return pp_as_float(0x4b000000u | ((four >> (8 * index)) & 0xffu)) - 8388736.0f;
#else
    return __uint_as_float(__byte_perm(four, 0x4b000000u, 0x7540u | static_cast<unsigned>(index))) - 8388736.0f;
#endif
}

// 2^x; -inf gives 0. Relative error below 2^-22.
PP_FUNCTION float pp_exp2(float x) {
#ifdef PP_EMULATE
    return __builtin_exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

PP_FUNCTION float pp_rsqrt(float x) {
#ifdef PP_EMULATE
    return 1.0f / __builtin_sqrtf(x);
#else
    return rsqrtf(x);
#endif
}

PP_FUNCTION float pp_log(float x) {
#ifdef PP_EMULATE
    return __builtin_logf(x);
#else
    return logf(x);
#endif
}

// log(1 + x), precise near 0.
PP_FUNCTION float pp_log1p(float x) {
#ifdef PP_EMULATE
    return __builtin_log1pf(x);
#else
    return log1pf(x);
#endif
}

PP_FUNCTION float pp_max(float a, float b) {
    return a > b ? a : b;
}

PP_FUNCTION unsigned pp_min(unsigned a, unsigned b) {
    return a < b ? a : b;
}

PP_FUNCTION unsigned pp_ceil_div(unsigned a, unsigned b) {
    return (a + b - 1u) / b;
}

// x * sigmoid(x). The division is exact to rounding and gives 0 where the exponential overflows.
PP_FUNCTION float pp_silu(float x) {
    return x / (1.0f + pp_exp2(-PP_LOG2_E * x));
}

// Bitwise, so that no compiler flag can make NaN compare as a number.
PP_FUNCTION bool pp_is_finite(float x) {
    return (pp_as_unsigned(x) & 0x7f800000u) != 0x7f800000u;
}

PP_FUNCTION bool pp_is_nan(float x) {
    return (pp_as_unsigned(x) & 0x7fffffffu) > 0x7f800000u;
}

// ---- Reductions. Every lane, and every thread of the block, must call them and gets the result. ----

PP_FUNCTION float pp_warp_sum(float value) {
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) {
        value += __shfl_xor_sync(PP_ALL_LANES, value, mask);
    }
    return value;
}

PP_FUNCTION float pp_warp_max(float value) {
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) {
        value = pp_max(value, __shfl_xor_sync(PP_ALL_LANES, value, mask));
    }
    return value;
}

// `scratch`: 32 floats of shared memory, free again when all threads have passed their next __syncthreads().
PP_FUNCTION float pp_block_sum(float value, float* scratch) {
    const unsigned lane = threadIdx.x % PP_WARP;
    const unsigned warp = threadIdx.x / PP_WARP;
    const unsigned warps = (blockDim.x + PP_WARP - 1u) / PP_WARP;
    value = pp_warp_sum(value);
    if (lane == 0u) {
        scratch[warp] = value;
    }
    __syncthreads();
    return pp_warp_sum(lane < warps ? scratch[lane] : 0.0f);
}

// ---- Tensor cores ----

// d += a · b for a 16 × 16 (row-major), b 16 × 8 (column-major), d 16 × 8 in f32, spread over a warp as PTX lays down for mma.m16n8k16.
PP_FUNCTION void pp_mma(float (&d)[4], const unsigned (&a)[4], const unsigned b0, const unsigned b1) {
#ifdef PP_EMULATE
    const unsigned b[2] = {b0, b1};
#if PP_T == 0
    pp_emu_mma_m16n8k16_f16(d, a, b);
#else
    pp_emu_mma_m16n8k16_bf16(d, a, b);
#endif
#else
#if PP_T == 0
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
#endif
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Four 8 × 8 matrices of 16-bit values from shared memory; lane l names the row l % 8 of matrix l / 8 (16 bytes, aligned).
PP_FUNCTION void pp_ldmatrix_x4(unsigned (&r)[4], const void* row) {
#ifdef PP_EMULATE
    pp_emu_ldmatrix_x4(r, row);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(pp_shared_address(row))
                 : "memory");
#endif
}

// The same, each matrix transposed.
PP_FUNCTION void pp_ldmatrix_x4_trans(unsigned (&r)[4], const void* row) {
#ifdef PP_EMULATE
    pp_emu_ldmatrix_x4_trans(r, row);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(pp_shared_address(row))
                 : "memory");
#endif
}

#endif
