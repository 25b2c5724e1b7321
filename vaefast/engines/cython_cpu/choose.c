/* Which instruction set this CPU has. */
#include "kernels.h"

#include <stddef.h>
#include <string.h>

extern const Kernels kernels_base;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;

static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
}

static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

const Kernels *choose_kernels(const char *limit) {
#if defined(__x86_64__)
    if ((!*limit || !strcmp(limit, kernels_avx512.name)) && has_avx512()) return &kernels_avx512;
    if ((!*limit || !strcmp(limit, kernels_avx2.name)) && has_avx2()) return &kernels_avx2;
#endif
    return !*limit || !strcmp(limit, kernels_base.name) ? &kernels_base : NULL;
}
