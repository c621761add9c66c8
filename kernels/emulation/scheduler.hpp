// The threads of a block as fibers, and the order they run in. Included by emulation.hpp only.
//
// A thread runs undisturbed until it waits: at the barrier of the block, or at an operation of its warp. What it may rely on is therefore
// less than on a device only in one way, which PP_EMU_SEED (or pp_order) takes care of: it makes the order of warps, lanes and blocks random,
// so that a thread that reads what another has not written yet reads the poison.
#ifndef PP_EMULATION_SCHEDULER_HPP
#define PP_EMULATION_SCHEDULER_HPP

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
// Fibers change stacks by a few instructions where we know them, else by the C library (also on demand: PP_EMU_UCONTEXT).
#if defined(__x86_64__) && !defined(PP_EMU_UCONTEXT)
#define PP_EMU_SWITCH
#else
#include <ucontext.h>
#endif

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

namespace pp_emu {

const unsigned MAX_THREADS = 1024;
const unsigned WARP = 32;
const size_t STACK_BYTES = 128 << 10;
const size_t RED_ZONE = 1024;
// NaN in every floating-point type.
const unsigned char POISON = 0xff;

// An asynchronous copy that has not arrived.
struct Copy {
    void* to;
    const void* from;
    unsigned group;
};

struct Fiber {
#ifdef PP_EMU_SWITCH
    void* stack_pointer;
#else
    ucontext_t context;
#endif
    unsigned char* stack;
    // What it brought to the operation its warp waits for.
    int kind;
    unsigned mask;
    void* argument;
    void (*operation)(void** lanes, unsigned mask);
    // Line of the barrier it waits at.
    int line;
    // Copies under way, oldest first, and the number of closed groups.
    Copy* copies;
    unsigned copy_count, copy_room, groups;
};

struct Warp {
    // Lanes that exist, that can run, that wait at the barrier, at an operation of the warp, and that are done.
    unsigned all, ready, barrier, collective, done;
};

struct State {
    Fiber fibers[MAX_THREADS];
    Warp warps[MAX_THREADS / WARP];
#ifdef PP_EMU_SWITCH
    void* scheduler;
#else
    ucontext_t scheduler;
#endif
    void (*call)(void**);
    void** arguments;
    unsigned threads, warp_count, current;
    // 0: in order of their numbers.
    uint64_t seed, random;
    unsigned char* shared_room;
    unsigned char* shared;
    size_t shared_bytes;
    char message[1024];
    bool failed;
    sigjmp_buf escape;
    pthread_t owner;
    bool running;
    struct sigaction before[3];
};

static State* state = nullptr;
static const int SIGNALS[3] = {SIGSEGV, SIGBUS, SIGFPE};

// xorshift64*; not a good generator, but any two orders differ.
static uint64_t random_bits() {
    uint64_t x = state->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    state->random = x;
    return (x * 0x2545f4914f6cdd1dULL) >> 32;
}

#ifdef PP_EMU_SWITCH
extern "C" void pp_emu_switch(void** from, void* to) __attribute__((visibility("hidden")));
// Saves what the callee must save, changes stacks, restores.
asm(R"(
.text
.hidden pp_emu_switch
.globl pp_emu_switch
.type pp_emu_switch, @function
pp_emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size pp_emu_switch, .-pp_emu_switch
)");
#endif

static void to_scheduler() {
#ifdef PP_EMU_SWITCH
    pp_emu_switch(&state->fibers[state->current].stack_pointer, state->scheduler);
#else
    swapcontext(&state->fibers[state->current].context, &state->scheduler);
#endif
}

static void set_thread(unsigned index) {
    state->current = index;
    threadIdx.x = index % blockDim.x;
    threadIdx.y = index / blockDim.x % blockDim.y;
    threadIdx.z = index / (blockDim.x * blockDim.y);
}

static void to_fiber(unsigned index) {
    set_thread(index);
#ifdef PP_EMU_SWITCH
    pp_emu_switch(&state->scheduler, state->fibers[index].stack_pointer);
#else
    swapcontext(&state->scheduler, &state->fibers[index].context);
#endif
}

// Notes a misuse; the first one is kept.
static void note(const char* format, ...) __attribute__((format(printf, 1, 2)));
static void note(const char* format, ...) {
    if (state->failed) {
        return;
    }
    state->failed = true;
    va_list values;
    va_start(values, format);
    vsnprintf(state->message, sizeof state->message, format, values);
    va_end(values);
}

// Ends the launch from within a thread.
[[noreturn]] static void misuse(const char* what) {
    note("block (%u, %u, %u), thread (%u, %u, %u): %s", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, what);
    to_scheduler();
    abort();
}

// Runs the operation that thread `index` waits for, if all lanes it names have come or returned.
static bool complete(unsigned index) {
    const Fiber& fiber = state->fibers[index];
    const unsigned first = index / WARP * WARP;
    Warp& warp = state->warps[index / WARP];
    const unsigned expected = fiber.mask & warp.all & ~warp.done;
    if ((warp.collective & expected) != expected) {
        return false;
    }
    void* lanes[WARP] = {};
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (expected & (1u << lane)) {
            const Fiber& other = state->fibers[first + lane];
            if (other.kind != fiber.kind || other.mask != fiber.mask) {
                return false;
            }
            lanes[lane] = other.argument;
        }
    }
    fiber.operation(lanes, expected);
    warp.collective &= ~expected;
    warp.ready |= expected;
    return true;
}

static void entry() {
    state->call(state->arguments);
    const unsigned first = state->current / WARP * WARP;
    Warp& warp = state->warps[state->current / WARP];
    warp.done |= 1u << (state->current - first);
    // Lanes that wait for this one wait no longer.
    for (unsigned left = warp.collective; left; left &= left - 1) {
        if (complete(first + (unsigned)__builtin_ctz(left))) {
            break;
        }
    }
    to_scheduler();
    abort();
}

static void prepare_fiber(unsigned index) {
    Fiber& fiber = state->fibers[index];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!fiber.stack) {
        void* room = mmap(nullptr, STACK_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED || mprotect(room, page, PROT_NONE) != 0) {
            perror("emulation: no memory for the stack of a thread");
            abort();
        }
        fiber.stack = (unsigned char*)room + page;
    }
    fiber.copy_count = fiber.groups = 0;
#ifdef PP_EMU_SWITCH
    // As if `entry` had been called: what is saved, its address, and a return address that is never used.
    void** top = (void**)(fiber.stack + STACK_BYTES) - 8;
    memset(top, 0, 8 * sizeof(void*));
    top[6] = (void*)entry;
    fiber.stack_pointer = top;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
#endif
}

// What a thread waits for that will never come.
static void report_deadlock() {
    for (unsigned index = 0; index < state->threads; index++) {
        const Warp& warp = state->warps[index / WARP];
        const Fiber& fiber = state->fibers[index];
        const unsigned bit = 1u << (index % WARP);
        if (warp.collective & bit) {
            for (unsigned lane = 0; lane < WARP; lane++) {
                const unsigned other = index / WARP * WARP + lane;
                if (!(fiber.mask & warp.all & (1u << lane)) || other == index) {
                    continue;
                }
                const char* where = warp.barrier & (1u << lane) ? "waits at a barrier" : nullptr;
                if (warp.collective & (1u << lane)) {
                    const Fiber& there = state->fibers[other];
                    where = there.kind != fiber.kind || there.mask != fiber.mask ? "is at another operation or names other lanes" : nullptr;
                }
                if (where) {
                    note("block (%u, %u, %u), thread %u waits for lane %u at an operation of its warp (lanes %08x), but that lane %s",
                         blockIdx.x, blockIdx.y, blockIdx.z, index, lane, fiber.mask, where);
                    return;
                }
            }
        }
    }
    unsigned waiting = MAX_THREADS, absent = MAX_THREADS;
    for (unsigned index = 0; index < state->threads; index++) {
        const bool waits = state->warps[index / WARP].barrier & (1u << (index % WARP));
        unsigned& first = waits ? waiting : absent;
        first = first == MAX_THREADS ? index : first;
    }
    note("block (%u, %u, %u), thread %u: a barrier that is not reached by thread %u, which %s", blockIdx.x, blockIdx.y, blockIdx.z,
         waiting % MAX_THREADS, absent % MAX_THREADS,
         absent < MAX_THREADS && state->warps[absent / WARP].done & (1u << (absent % WARP)) ? "has returned" : "waits elsewhere");
}

// Whether all are at one barrier: none has returned, and the lanes of a warp are at one line.
static bool at_one_barrier() {
    for (unsigned w = 0; w < state->warp_count; w++) {
        if (state->warps[w].barrier != state->warps[w].all) {
            return false;
        }
        for (unsigned index = w * WARP; index < state->threads && index < (w + 1) * WARP; index++) {
            if (state->fibers[index].line != state->fibers[w * WARP].line) {
                note("block (%u, %u, %u), thread %u: its warp is split over two barriers, at line %d and at line %d", blockIdx.x,
                     blockIdx.y, blockIdx.z, index, state->fibers[index].line, state->fibers[w * WARP].line);
                return false;
            }
        }
    }
    return true;
}

// Lets every lane of a warp that can run do so once.
static bool pass(unsigned w) {
    Warp& warp = state->warps[w];
    bool ran = false;
    unsigned left = warp.ready;
    while (left && !state->failed) {
        unsigned lane = (unsigned)__builtin_ctz(left);
        if (state->seed) {
            unsigned others = left;
            for (unsigned skip = (unsigned)random_bits() % (unsigned)__builtin_popcount(left); skip; skip--) {
                others &= others - 1;
            }
            lane = (unsigned)__builtin_ctz(others);
        }
        left &= ~(1u << lane);
        warp.ready &= ~(1u << lane);
        to_fiber(w * WARP + lane);
        ran = true;
    }
    return ran;
}

static void run_block() {
    for (unsigned w = 0; w < state->warp_count; w++) {
        const unsigned lanes = state->threads - w * WARP;
        const unsigned all = lanes >= WARP ? ~0u : (1u << lanes) - 1u;
        state->warps[w] = Warp{all, all, 0, 0, 0};
    }
    for (unsigned index = 0; index < state->threads; index++) {
        prepare_fiber(index);
    }
    while (!state->failed) {
        bool ran = false;
        if (state->seed) {
            // One pass over one warp, so that warps overtake each other.
            const unsigned start = (unsigned)random_bits() % state->warp_count;
            for (unsigned i = 0; i < state->warp_count && !ran; i++) {
                ran = pass((start + i) % state->warp_count);
            }
        } else {
            for (unsigned w = 0; w < state->warp_count; w++) {
                while (!state->failed && pass(w)) {
                    ran = true;
                }
            }
        }
        if (ran || state->failed) {
            continue;
        }
        bool all_done = true;
        for (unsigned w = 0; w < state->warp_count; w++) {
            all_done &= state->warps[w].done == state->warps[w].all;
        }
        if (all_done) {
            return;
        }
        if (at_one_barrier()) {
            for (unsigned w = 0; w < state->warp_count; w++) {
                state->warps[w].barrier = 0;
                state->warps[w].ready = state->warps[w].all;
            }
        } else {
            report_deadlock();
        }
    }
}

// Waits until the lanes of `mask` that have not returned are at the same operation; the last to come runs it for all.
static void collective(int kind, unsigned mask, void* argument, void (*operation)(void** lanes, unsigned mask)) {
    const unsigned index = state->current, bit = 1u << (index % WARP);
    if (!(mask & bit)) {
        misuse("an operation of the warp whose lanes do not include the one that calls");
    }
    Fiber& fiber = state->fibers[index];
    fiber.kind = kind;
    fiber.mask = mask;
    fiber.argument = argument;
    fiber.operation = operation;
    Warp& warp = state->warps[index / WARP];
    warp.collective |= bit;
    if (complete(index)) {
        warp.ready &= ~bit;
    } else {
        to_scheduler();
    }
}

static void barrier(int line) {
    state->fibers[state->current].line = line;
    state->warps[state->current / WARP].barrier |= 1u << (state->current % WARP);
    to_scheduler();
}

static bool in_shared(const void* at, size_t bytes);

static void on_signal(int number, siginfo_t* info, void*) {
    if (state && state->running && pthread_equal(pthread_self(), state->owner)) {
        note("block (%u, %u, %u), thread (%u, %u, %u): %s at %p", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z,
             number == SIGFPE ? "a division by zero" : "an access to memory that is not the kernel's", info->si_addr);
        siglongjmp(state->escape, 1);
    }
    // Not ours: the fault comes again and goes to whoever had the signal before.
    for (int i = 0; i < 3; i++) {
        if (SIGNALS[i] == number) {
            sigaction(number, &state->before[i], nullptr);
        }
    }
}

}  // namespace pp_emu

#endif
