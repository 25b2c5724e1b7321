/* What the driver asks of the machine. */
#ifndef STANDIN_MACHINE_H
#define STANDIN_MACHINE_H

#include "device.h"

typedef struct {
    const Kernel *kernel;
    uint32_t grid[3], block[3], dynamic_shared;
    int cooperative;
    const uint8_t *params;
    const char *text; /* of the PTX, for messages */
} Grid;

/* Runs all of a grid, so many of its blocks at a time; -1, or the kind of its fault, which has been written to stderr. */
int machine_run(const Grid *grid, uint32_t resident);

/* How blocks, and the threads of a block, follow each other: 0 forwards, 1 backwards, 2 by a seed. */
void standin_order(int order, uint64_t seed);

int memory_start(uint64_t total);
uint64_t memory_take(uint64_t size); /* 0 where there is none left */
int memory_give(uint64_t address);
uint64_t memory_free_bytes(void);
const Allocation *memory_of(uint64_t address); /* the allocation that holds it, or null */

#endif
