// A libnvidia-ml.so.1 whose device does what environment variables say, so that what perfprof makes of a GPU can be
// held against numbers that are known. Only what nvml-wrapper calls for perfprof is here; signatures follow nvml.h.
//
//   NVML_INIT=9           nvmlInit fails with this error (9: driver not loaded)
//   NVML_WITHOUT=a,b      not supported: util memory power energy sm memclock temp reasons procs pcie ecc persistence
//   NVML_BROKEN=a,b       fails with NVML_ERROR_UNKNOWN, same names
//   NVML_LOST_IF=file     every call on the device fails with NVML_ERROR_GPU_IS_LOST as soon as there is such a file
//   NVML_STALL=n:ms       the n-th reading of the memory takes so long
//   NVML_UTIL NVML_POWER_MW NVML_SM_MHZ NVML_TEMP NVML_MEM_MIB NVML_REASONS NVML_PERSISTENCE   constant readings
//   NVML_POWER_MW_PER_S NVML_SM_MHZ_PER_S     added to them for each second since the library was loaded
//   NVML_ENERGY_MW        the energy counter runs at this power
//   NVML_ECC_PER_READ     added to the error counter at each reading
//   NVML_COUNT=2          so many devices, the same but for NVML_UTIL_1, NVML_ENERGY_MW_1 and so on
//   NVML_PROCS=pid:mib,…  processes with a compute context; pid 0 is the reader itself
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, LOST = 15, UNKNOWN = 999 };
typedef unsigned int u32;
typedef unsigned long long u64;

static double began;
static char devices[8];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

__attribute__((constructor)) static void load(void) { began = now(); }

static double number(const char *name, double otherwise) {
    const char *text = getenv(name);
    return text ? strtod(text, NULL) : otherwise;
}

// The number `name` of the device `d`: the second has `name` with `_1`, if it is set.
static double of(void *d, const char *name, double otherwise) {
    char own[64];
    snprintf(own, sizeof own, "%s_%d", name, (int)((char *)d - devices));
    return number(getenv(own) ? own : name, otherwise);
}

static int listed(const char *variable, const char *name) {
    const char *text = getenv(variable);
    size_t length = strlen(name);
    while (text && *text) {
        size_t word = strcspn(text, ",");
        if (word == length && !strncmp(text, name, length)) return 1;
        text += word + (text[word] == ',');
    }
    return 0;
}

// What a call for the metric `name` returns.
static int state(const char *name) {
    const char *lost = getenv("NVML_LOST_IF");
    if (lost && !access(lost, F_OK)) return LOST;
    if (listed("NVML_WITHOUT", name)) return NOT_SUPPORTED;
    return listed("NVML_BROKEN", name) ? UNKNOWN : OK;
}

int nvmlInit_v2(void) { return (int)number("NVML_INIT", OK); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "error"; }
int nvmlSystemGetDriverVersion(char *text, u32 length) { snprintf(text, length, "570.86.15"); return OK; }
int nvmlSystemGetNVMLVersion(char *text, u32 length) { snprintf(text, length, "12.570.86.15"); return OK; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12080; return OK; }
int nvmlDeviceGetCount_v2(u32 *count) { *count = (u32)number("NVML_COUNT", 1); return OK; }
int nvmlDeviceGetHandleByIndex_v2(u32 index, void **device) {
    *device = devices + index;
    return index < (u32)number("NVML_COUNT", 1) ? OK : NOT_FOUND;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (strncmp(uuid, "GPU-5ca1ab1e", 12)) return NOT_FOUND;
    return nvmlDeviceGetHandleByIndex_v2(uuid[12] ? (u32)atoi(uuid + 13) : 0, device);
}
int nvmlDeviceGetUUID(void *d, char *text, u32 length) {
    int index = (int)((char *)d - devices);
    if (index) snprintf(text, length, "GPU-5ca1ab1e-%d", index);
    else snprintf(text, length, "GPU-5ca1ab1e");
    return OK;
}
int nvmlDeviceGetName(void *d, char *text, u32 length) { (void)d; snprintf(text, length, "Scripted GPU"); return OK; }
int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) { (void)d; *major = 9; *minor = 0; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(void *d, u32 *mw) { (void)d; *mw = 700000; return OK; }
int nvmlDeviceGetMaxClockInfo(void *d, int clock, u32 *mhz) { (void)d; *mhz = clock == 1 ? 1980 : 2619; return OK; }
int nvmlDeviceGetMigMode(void *d, u32 *current, u32 *pending) { (void)d; *current = *pending = 0; return OK; }

struct memory { u32 version; u64 total, reserved, free, used; };
int nvmlDeviceGetMemoryInfo_v2(void *d, struct memory *m) {
    (void)d;
    static int reading;
    int n = 0, ms = 0;
    const char *stall = getenv("NVML_STALL");
    if (__sync_add_and_fetch(&reading, 1), stall && sscanf(stall, "%d:%d", &n, &ms) == 2 && reading == n)
        usleep(ms * 1000);
    m->total = 16ull << 30;
    m->reserved = 0;
    m->used = (u64)of(d, "NVML_MEM_MIB", 100) << 20;
    m->free = m->total - m->used;
    return state("memory");
}
struct rates { u32 gpu, memory; };
int nvmlDeviceGetUtilizationRates(void *d, struct rates *r) {
    (void)d;
    r->gpu = (u32)of(d, "NVML_UTIL", 0);
    r->memory = r->gpu / 2;
    return state("util");
}
int nvmlDeviceGetPowerUsage(void *d, u32 *mw) {
    (void)d;
    *mw = (u32)(of(d, "NVML_POWER_MW", 50000) + number("NVML_POWER_MW_PER_S", 0) * (now() - began));
    return state("power");
}
int nvmlDeviceGetTotalEnergyConsumption(void *d, u64 *mj) {
    (void)d;
    *mj = (u64)(1e6 + of(d, "NVML_ENERGY_MW", 50000) * (now() - began));
    return state("energy");
}
int nvmlDeviceGetClockInfo(void *d, int clock, u32 *mhz) {
    (void)d;
    double sm = of(d, "NVML_SM_MHZ", 1500) + number("NVML_SM_MHZ_PER_S", 0) * (now() - began);
    *mhz = clock == 1 ? (u32)sm : 2619;
    return state(clock == 1 ? "sm" : "memclock");
}
int nvmlDeviceGetTemperature(void *d, int sensor, u32 *celsius) {
    (void)d, (void)sensor;
    *celsius = (u32)of(d, "NVML_TEMP", 40);
    return state("temp");
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, u64 *bits) {
    (void)d;
    const char *text = getenv("NVML_REASONS");
    *bits = text ? strtoull(text, NULL, 0) : 0;
    return state("reasons");
}
struct process { u32 pid; u64 memory; u32 gpu_instance, compute_instance; };
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, u32 *count, struct process *list) {
    (void)d;
    const char *text = getenv("NVML_PROCS");
    u32 n = 0, pid, mib;
    int known = state("procs"), used;
    while (known == OK && text && sscanf(text, "%u:%u%n", &pid, &mib, &used) == 2) {
        if (list && n < *count)
            list[n] = (struct process){pid ? pid : (u32)getpid(), (u64)mib << 20, ~0u, ~0u};
        n++;
        text += used + (text[used] == ',');
    }
    int small = !list && n > 0;
    *count = n;
    return known != OK ? known : small ? INSUFFICIENT_SIZE : OK;
}
int nvmlDeviceGetPcieThroughput(void *d, int counter, u32 *kb) {
    (void)d;
    *kb = counter == 1 ? 3000 : 1000;
    return state("pcie");
}
int nvmlDeviceGetTotalEccErrors(void *d, int type, int counter, u64 *errors) {
    (void)d, (void)type, (void)counter;
    static int reading;
    *errors = (u64)(number("NVML_ECC_PER_READ", 0) * __sync_add_and_fetch(&reading, 1));
    return state("ecc");
}
int nvmlDeviceGetPersistenceMode(void *d, u32 *mode) {
    (void)d;
    *mode = (u32)number("NVML_PERSISTENCE", 1);
    return state("persistence");
}
