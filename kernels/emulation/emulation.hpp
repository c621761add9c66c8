// CUDA C++ as ordinary C++17: what the kernels of kernels/*.cu need to be compiled for the host and run there, thread by thread.
//
// Force-included ahead of a source (`c++ -std=c++17 -DPP_EMULATE -include emulation.hpp`); the shared object exports pp_launch. Shared memory
// is poisoned before each block, copies by cp.async arrive at the wait and not before, a barrier that some threads do not reach ends the launch
// with a message, and so do accesses outside of what is mapped, and misaligned ones where the compiler was given -fsanitize=alignment,bounds.
//
// What it cannot show: the order of memory (blocks run one after another and all threads see one memory, so a missing __threadfence goes
// unnoticed, and a missing __syncwarp next to an operation that all lanes wait for anyway), and the last bits of what a device approximates. GCC
// puts the shared arrays of function templates in no section, so those are not poisoned: give templates their scratch as an argument.
#ifndef PP_EMULATION_HPP
#define PP_EMULATION_HPP

#include <math.h>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// All shared arrays of a module lie in one section, which is poisoned before each block.
#define __shared__ static __attribute__((section("pp_shared")))
#define PP_DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(pp_emu::state->shared)

#include "scheduler.hpp"

// Of a module without shared arrays the section has no bounds, hence weak.
extern "C" __attribute__((weak, visibility("hidden"))) unsigned char __start_pp_shared[], __stop_pp_shared[];

struct __align__(8) uint2 {
    unsigned x, y;
};
struct __align__(16) uint4 {
    unsigned x, y, z, w;
};
struct __align__(8) int2 {
    int x, y;
};
struct __align__(16) int4 {
    int x, y, z, w;
};
struct __align__(8) float2 {
    float x, y;
};
struct __align__(16) float4 {
    float x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return uint2{x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return uint4{x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return int2{x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return int4{x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return float2{x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }

// ---- Numbers ----

static inline int min(int a, int b) { return a < b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned long long min(unsigned long long a, unsigned long long b) { return a < b ? a : b; }
static inline float min(float a, float b) { return fminf(a, b); }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline unsigned long long max(unsigned long long a, unsigned long long b) { return a > b ? a : b; }
static inline float max(float a, float b) { return fmaxf(a, b); }

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline int __float_as_int(float value) { return (int)__float_as_uint(value); }
static inline float __int_as_float(int bits) { return __uint_as_float((unsigned)bits); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
// By macro where the C library has, or may get, a function of that name.
#define rsqrtf(x) (1.0f / sqrtf(x))
#define __expf(x) expf(x)
#define __logf(x) logf(x)
static inline float __fdividef(float a, float b) { return a / b; }
// The product is exact in double; the sum is rounded twice, which changes the last bit once in half a thousand million.
static inline float pp_emu_fmaf(float a, float b, float c) { return (float)((double)a * (double)b + (double)c); }
#define fmaf pp_emu_fmaf
#define __fmaf_rn pp_emu_fmaf
template <class V>
static inline V __ldg(const V* from) { return *from; }

static inline float pp_emu_f16_to_f32(unsigned short bits) {
    const unsigned magnitude = bits & 0x7fffu, sign = (unsigned)(bits & 0x8000u) << 16;
    if (magnitude >= 0x7c00u) {
        return __uint_as_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    }
    // The exponent is moved by a product, which is right for subnormal numbers too.
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude << 13) * 0x1p112f));
}

// Rounds to nearest even; NaN is 0x7fff, as cvt gives it.
static inline unsigned short pp_emu_f32_to_f16(float value) {
    const unsigned bits = __float_as_uint(value), magnitude = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    if (magnitude > 0x7f800000u) {
        return 0x7fff;
    }
    if (magnitude >= 0x477ff000u) {
        return (unsigned short)(sign | 0x7c00u);
    }
    if (magnitude < 0x38800000u) {
        // Subnormal: adding 0.5 leaves multiples of 2^-24 in the last places, rounded by the addition.
        return (unsigned short)(sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u));
    }
    return (unsigned short)(sign | ((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13));
}

static inline unsigned short pp_emu_f32_to_bf16(float value) {
    const unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return 0x7fff;
    }
    return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline float pp_emu_bf16_to_f32(unsigned short bits) { return __uint_as_float((unsigned)bits << 16); }

// ---- Atomics: threads are never interrupted. ----

static inline float atomicAdd(float* at, float value) { float old = *at; *at = old + value; return old; }
static inline unsigned atomicAdd(unsigned* at, unsigned value) { unsigned old = *at; *at = old + value; return old; }
static inline int atomicAdd(int* at, int value) { int old = *at; *at = old + value; return old; }
static inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long value) {
    unsigned long long old = *at;
    *at = old + value;
    return old;
}
static inline unsigned atomicInc(unsigned* at, unsigned limit) { unsigned old = *at; *at = old >= limit ? 0 : old + 1; return old; }
template <class V>
static inline V atomicMax(V* at, V value) { V old = *at; *at = old > value ? old : value; return old; }
template <class V>
static inline V atomicMin(V* at, V value) { V old = *at; *at = old < value ? old : value; return old; }
template <class V>
static inline V atomicExch(V* at, V value) { V old = *at; *at = value; return old; }
template <class V>
static inline V atomicCAS(V* at, V compare, V value) { V old = *at; *at = old == compare ? value : old; return old; }
static inline unsigned atomicOr(unsigned* at, unsigned value) { unsigned old = *at; *at = old | value; return old; }
static inline unsigned atomicAnd(unsigned* at, unsigned value) { unsigned old = *at; *at = old & value; return old; }
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// ---- Threads that wait for each other ----

static inline void __syncthreads(int line = __builtin_LINE()) { pp_emu::barrier(line); }

#include "warp.hpp"
#include "launch.hpp"

#endif
