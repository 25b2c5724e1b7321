#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define UNIT_AVX2
#define UNIT_KERNELS bf16_kernels_avx2
#include "bfloat16.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
