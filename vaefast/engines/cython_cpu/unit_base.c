/* What every CPU of its kind has: SSE2 on x86-64, NEON on ARM. */
#define UNIT_KERNELS kernels_base
#include "unit.h"
