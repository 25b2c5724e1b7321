/* Which instruction set this CPU has. */
#include "kernels.h"

#include <stddef.h>
#include <string.h>

extern const Kernels kernels_base;
extern const Bf16Kernels bf16_kernels_base;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
extern const Bf16Kernels bf16_kernels_avx2, bf16_kernels_avx512, bf16_kernels_avx512bf16;

/* AVX-512 with an instruction for products of bfloat16. */
static const char *const BF16_NAME = "AVX512-BF16";

static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
}

static int has_avx512bf16(void) { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

const Kernels *choose_kernels(const char *limit) {
#if defined(__x86_64__)
    if (!strcmp(limit, BF16_NAME)) return has_avx512bf16() ? &kernels_avx512 : NULL;
    if ((!*limit || !strcmp(limit, kernels_avx512.name)) && has_avx512()) return &kernels_avx512;
    if ((!*limit || !strcmp(limit, kernels_avx2.name)) && has_avx2()) return &kernels_avx2;
#endif
    return !*limit || !strcmp(limit, kernels_base.name) ? &kernels_base : NULL;
}

const Bf16Kernels *choose_bf16_kernels(const char *limit) {
    const Kernels *chosen = choose_kernels(limit);
#if defined(__x86_64__)
    if ((!*limit || !strcmp(limit, BF16_NAME)) && has_avx512bf16()) return &bf16_kernels_avx512bf16;
    if (chosen == &kernels_avx512) return &bf16_kernels_avx512;
    if (chosen == &kernels_avx2) return &bf16_kernels_avx2;
#endif
    return chosen ? &bf16_kernels_base : NULL;
}
