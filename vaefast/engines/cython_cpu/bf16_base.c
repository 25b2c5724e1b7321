/* What every CPU of its kind has, without instructions for bfloat16. */
#define UNIT_KERNELS bf16_kernels_base
#include "bfloat16.h"
