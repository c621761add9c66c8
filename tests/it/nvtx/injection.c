/* A tool that listens to NVTX: writes every call of interest to the file that NVTX_CALLS names, one line each.
 * The types are those of the NVTX 3 interface, written out so that no header is needed. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef void (*Function)(void);
typedef Function **FunctionTable;
typedef struct {
    size_t struct_size;
    int (*GetModuleFunctionTable)(int module, FunctionTable *table, unsigned int *size);
} Callbacks;
typedef const void *(*GetExportTable)(uint32_t id);

typedef struct {
    uint16_t version, size;
    uint32_t category;
    int32_t color_type;
    uint32_t color;
    int32_t payload_type, reserved;
    uint64_t payload;
    int32_t message_type;
    const void *message;
} Attributes;

enum { CORE = 1, CORE2 = 5, NAME_OS_THREAD_A = 14 };
enum { RANGE_PUSH_EX = 4, RANGE_POP = 5, NAME_CATEGORY_A = 8, REGISTER_STRING_A = 10, DOMAIN_CREATE_A = 12 };

static FILE *out;
static intptr_t handles;

static int push(void *domain, const Attributes *a) {
    fprintf(out, "push %ld %u %d %llu %d %ld\n", (long)(intptr_t)domain, a->category, a->payload_type,
            (unsigned long long)a->payload, a->message_type, (long)(intptr_t)a->message);
    return 0;
}
static int pop(void *domain) {
    fprintf(out, "pop %ld\n", (long)(intptr_t)domain);
    return 0;
}
static void category(void *domain, uint32_t id, const char *name) {
    fprintf(out, "category %ld %u %s\n", (long)(intptr_t)domain, id, name);
}
static void *string(void *domain, const char *text) {
    handles++;
    fprintf(out, "string %ld %ld %s\n", (long)(intptr_t)domain, (long)handles, text);
    return (void *)handles;
}
static void *create(const char *name) {
    handles++;
    fprintf(out, "domain %ld %s\n", (long)handles, name);
    return (void *)handles;
}
static void thread(uint32_t id, const char *name) {
    fprintf(out, "thread %u %s\n", id, name);
}

int InitializeInjectionNvtx2(GetExportTable get) {
    const char *path = getenv("NVTX_CALLS");
    const Callbacks *callbacks = get ? get(1) : NULL;
    FunctionTable table;
    unsigned int size;
    if (!path || !callbacks || !(out = fopen(path, "a"))) return 0;
    setvbuf(out, NULL, _IOLBF, 0);
    if (!callbacks->GetModuleFunctionTable(CORE2, &table, &size) || size <= DOMAIN_CREATE_A) return 0;
    *table[RANGE_PUSH_EX] = (Function)push;
    *table[RANGE_POP] = (Function)pop;
    *table[NAME_CATEGORY_A] = (Function)category;
    *table[REGISTER_STRING_A] = (Function)string;
    *table[DOMAIN_CREATE_A] = (Function)create;
    if (!callbacks->GetModuleFunctionTable(CORE, &table, &size) || size <= NAME_OS_THREAD_A) return 0;
    *table[NAME_OS_THREAD_A] = (Function)thread;
    return 1;
}
