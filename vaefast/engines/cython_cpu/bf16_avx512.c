#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,fma")
#endif
#define UNIT_AVX512
#define UNIT_KERNELS bf16_kernels_avx512
#include "bfloat16.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
