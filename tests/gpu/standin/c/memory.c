/* Memory of the device: each allocation begins on granules of its own, with at least one between it and the next. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "machine.h"

#define GRANULE ((uint64_t)1 << GRANULE_SHIFT)
#define MOST (1u << 20)

PUBLIC uint64_t standin_heap;
PUBLIC uint32_t *standin_granules;
PUBLIC Allocation *standin_allocations;
static uint64_t total, taken, next;
static uint32_t highest = 1;

static void *reserved(uint64_t size) {
    void *place = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return place == MAP_FAILED ? NULL : place;
}

int memory_start(uint64_t size) {
    standin_granules = reserved(GRANULES * sizeof *standin_granules);
    standin_allocations = reserved(MOST * sizeof *standin_allocations);
    standin_heap = (uint64_t)reserved(GRANULES * GRANULE);
    total = size;
    return standin_granules && standin_allocations && standin_heap;
}

static uint64_t granules_of(uint64_t size) { return (size + GRANULE - 1) >> GRANULE_SHIFT; }

/* Addresses are used again only when all have been used, so what was freed is not soon somebody else's. */
static uint64_t gap_of(uint64_t granules) {
    for (int round = 0; round < 2; round++) {
        uint64_t run = 0;
        for (uint64_t at = next; at < GRANULES; at++) {
            run = standin_granules[at] ? 0 : run + 1;
            if (run == granules + 2) return at - granules;
        }
        next = 0;
    }
    return 0;
}

uint64_t memory_take(uint64_t size) {
    uint64_t granules = granules_of(size), at = taken + size > total ? 0 : gap_of(granules);
    uint32_t number = 1;
    if (!at) return 0;
    while (number < highest && standin_allocations[number].size) number++;
    if (number == MOST) return 0;
    if (number == highest) highest++;
    for (uint64_t i = 0; i < granules; i++) standin_granules[at + i] = number;
    standin_allocations[number] = (Allocation){standin_heap + (at << GRANULE_SHIFT), size};
    memset((void *)standin_allocations[number].base, POISON, size);
    next = at + granules, taken += size;
    return standin_allocations[number].base;
}

const Allocation *memory_of(uint64_t address) {
    uint64_t granule = (address - standin_heap) >> GRANULE_SHIFT;
    if (granule >= GRANULES) return NULL;
    const Allocation *found = &standin_allocations[standin_granules[granule]];
    return address - found->base < found->size ? found : NULL;
}

int memory_give(uint64_t address) {
    const Allocation *found = memory_of(address);
    if (!found || found->base != address) return 0;
    uint64_t at = (address - standin_heap) >> GRANULE_SHIFT, granules = granules_of(found->size);
    taken -= found->size;
    madvise((void *)address, granules << GRANULE_SHIFT, MADV_DONTNEED);
    standin_allocations[standin_granules[at]] = (Allocation){0, 0};
    for (uint64_t i = 0; i < granules; i++) standin_granules[at + i] = 0;
    return 1;
}

uint64_t memory_free_bytes(void) { return total - taken; }
