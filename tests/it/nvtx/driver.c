/* The two functions of the CUDA driver that mark a region, writing to the file that NVTX_CALLS names. */
#include <stdio.h>
#include <stdlib.h>

static int note(const char *text) {
    const char *path = getenv("NVTX_CALLS");
    FILE *out = path ? fopen(path, "a") : NULL;
    if (!out) return 999;
    fprintf(out, "%s\n", text);
    fclose(out);
    return 0;
}
int cuProfilerStart(void) { return note("profiler_start"); }
int cuProfilerStop(void) { return note("profiler_stop"); }
