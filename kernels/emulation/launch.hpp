// What the shared object exports, and what the sanitizers of the compiler call. Included by emulation.hpp only.
#ifndef PP_EMULATION_LAUNCH_HPP
#define PP_EMULATION_LAUNCH_HPP

#include <utility>

#define PP_EMU_EXPORT extern "C" __attribute__((visibility("default")))

namespace pp_emu {

// One letter per parameter: how the host has to pass it.
template <class V>
struct Letter;
template <class V>
struct Letter<V*> {
    static const char value = 'p';
};
template <>
struct Letter<unsigned> {
    static const char value = 'u';
};
template <>
struct Letter<int> {
    static const char value = 'i';
};
template <>
struct Letter<unsigned long long> {
    static const char value = 'l';
};
template <>
struct Letter<float> {
    static const char value = 'f';
};

// Calls a kernel with arguments read from an array of pointers to them, as the driver does.
template <auto KERNEL>
struct Caller;
template <class... Arguments, void (*KERNEL)(Arguments...)>
struct Caller<KERNEL> {
    template <size_t... INDEX>
    static void unpack(void** values, std::index_sequence<INDEX...>) {
        (void)values;
        KERNEL(*(Arguments*)values[INDEX]...);
    }
    static void call(void** values) { unpack(values, std::index_sequence_for<Arguments...>()); }
    static constexpr char letters[] = {Letter<Arguments>::value..., 0};
};

struct Entry {
    const char* name;
    void (*call)(void**);
    const char* letters;
};

static bool in_shared(const void* at, size_t bytes) {
    const unsigned char* first = (const unsigned char*)at;
    return (first >= state->shared && first + bytes <= state->shared + state->shared_bytes) ||
           (first >= __start_pp_shared && first + bytes <= __stop_pp_shared);
}

static void make_state() {
    if (!state) {
        state = (State*)calloc(1, sizeof(State));
        if (!state) {
            abort();
        }
    }
}

// Room for the dynamic shared memory of a block, which ends where its red zone begins.
static bool make_shared(size_t bytes) {
    free(state->shared_room);
    void* room = nullptr;
    if (posix_memalign(&room, RED_ZONE, RED_ZONE + bytes + RED_ZONE) != 0) {
        return false;
    }
    state->shared_room = (unsigned char*)room;
    state->shared = state->shared_room + RED_ZONE;
    state->shared_bytes = bytes;
    return true;
}

static void poison_shared() {
    memset(state->shared_room, POISON, RED_ZONE + state->shared_bytes + RED_ZONE);
    if (__stop_pp_shared > __start_pp_shared) {
        memset(__start_pp_shared, POISON, (size_t)(__stop_pp_shared - __start_pp_shared));
    }
}

static void check_shared() {
    for (size_t i = 0; i < RED_ZONE; i++) {
        if (state->shared_room[RED_ZONE - 1 - i] != POISON) {
            note("block (%u, %u, %u): a write %zu bytes ahead of dynamic shared memory", blockIdx.x, blockIdx.y, blockIdx.z, i + 1);
        }
        if (state->shared[state->shared_bytes + i] != POISON) {
            note("block (%u, %u, %u): a write %zu bytes past the end of dynamic shared memory (%zu bytes)", blockIdx.x, blockIdx.y,
                 blockIdx.z, i, state->shared_bytes);
        }
    }
}

static void run_grid() {
    const uint64_t blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
    // Any odd step that shares no factor with the number of blocks visits each once.
    uint64_t first = 0, step = 1;
    if (state->seed) {
        first = random_bits() % blocks;
        step = 1 + random_bits() % blocks;
        for (uint64_t a = step, b = blocks;;) {
            while (b) {
                const uint64_t rest = a % b;
                a = b;
                b = rest;
            }
            if (a == 1) {
                break;
            }
            a = ++step;
            b = blocks;
        }
    }
    for (uint64_t i = 0; i < blocks && !state->failed; i++) {
        const uint64_t block = (first + i * step) % blocks;
        blockIdx.x = (unsigned)(block % gridDim.x);
        blockIdx.y = (unsigned)(block / gridDim.x % gridDim.y);
        blockIdx.z = (unsigned)(block / gridDim.x / gridDim.y);
        poison_shared();
        run_block();
        check_shared();
    }
}

static int launch(const Entry& entry, const unsigned grid[3], const unsigned block[3], unsigned shared_bytes, void** arguments) {
    state->failed = false;
    gridDim = dim3{grid[0], grid[1], grid[2]};
    blockDim = dim3{block[0], block[1], block[2]};
    blockIdx = uint3{0, 0, 0};
    const uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    if (!threads || threads > MAX_THREADS || !grid[0] || !grid[1] || !grid[2] || grid[1] > 65535 || grid[2] > 65535) {
        note("a launch of %u × %u × %u blocks of %u × %u × %u threads", grid[0], grid[1], grid[2], block[0], block[1], block[2]);
        return 2;
    }
    if (!make_shared(shared_bytes)) {
        note("no memory for %u bytes of shared memory", shared_bytes);
        return 2;
    }
    state->call = entry.call;
    state->arguments = arguments;
    state->threads = (unsigned)threads;
    state->warp_count = ((unsigned)threads + WARP - 1) / WARP;
    state->random = state->seed * 0x9e3779b97f4a7c15ULL | 1;
    state->owner = pthread_self();
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    for (int i = 0; i < 3; i++) {
        sigaction(SIGNALS[i], &action, &state->before[i]);
    }
    if (sigsetjmp(state->escape, 1) == 0) {
        state->running = true;
        run_grid();
    }
    state->running = false;
    for (int i = 0; i < 3; i++) {
        sigaction(SIGNALS[i], &state->before[i], nullptr);
    }
    return state->failed ? 2 : 0;
}

struct SourceLocation {
    const char* file;
    unsigned line, column;
};

}  // namespace pp_emu

// The kernels of this module, ending with a name that is null; generated after the source.
extern const pp_emu::Entry pp_emu_table[];

static const pp_emu::Entry* pp_emu_find(const char* function) {
    for (const pp_emu::Entry* entry = pp_emu_table; entry->name; entry++) {
        if (strcmp(entry->name, function) == 0) {
            return entry;
        }
    }
    return nullptr;
}

// Runs a kernel. 0: done; 1: no such function; 2: it did what it must not, see pp_message.
PP_EMU_EXPORT int pp_launch(const char* function, const unsigned grid[3], const unsigned block[3], unsigned shared_bytes, void** arguments) {
    pp_emu::make_state();
    const pp_emu::Entry* entry = pp_emu_find(function);
    return entry ? pp_emu::launch(*entry, grid, block, shared_bytes, arguments) : 1;
}

// What went wrong in the last launch.
PP_EMU_EXPORT const char* pp_message() {
    pp_emu::make_state();
    return pp_emu::state->message;
}

// The order of later launches: 0 by number, else random by this seed. Without a call PP_EMU_SEED decides.
PP_EMU_EXPORT void pp_order(unsigned long long seed) {
    pp_emu::make_state();
    pp_emu::state->seed = seed;
}

// A letter per parameter (p pointer, u unsigned, i int, l unsigned long long, f float), or null.
PP_EMU_EXPORT const char* pp_parameters(const char* function) {
    const pp_emu::Entry* entry = pp_emu_find(function);
    return entry ? entry->letters : nullptr;
}

// Bytes of the shared arrays of this module.
PP_EMU_EXPORT unsigned pp_static_shared() { return (unsigned)(__stop_pp_shared - __start_pp_shared); }

__attribute__((constructor)) static void pp_emu_read_environment() {
    const char* seed = getenv("PP_EMU_SEED");
    if (seed) {
        pp_order(strtoull(seed, nullptr, 10));
    }
}

// Called by code compiled with -fsanitize=alignment,bounds.
extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1(pp_emu::SourceLocation* at, uintptr_t pointer) {
    char what[200];
    snprintf(what, sizeof what, "line %u: a misaligned access at %#zx", at->line, (size_t)pointer);
    pp_emu::misuse(what);
}
extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_out_of_bounds(pp_emu::SourceLocation* at, uintptr_t index) {
    char what[200];
    snprintf(what, sizeof what, "line %u: index %lld is outside of the array", at->line, (long long)index);
    pp_emu::misuse(what);
}

#endif
