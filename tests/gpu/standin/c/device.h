/* What translated kernels see of the machine: a thread, its checks of memory, and where it must wait for others. */
#ifndef STANDIN_DEVICE_H
#define STANDIN_DEVICE_H

#include <stdint.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))
#define SHARED_WINDOW 0x7E00000000000000ull /* generic addresses of shared memory begin here, */
#define LOCAL_WINDOW 0x7D00000000000000ull  /* and those of a thread's own memory here */
#define WINDOW_OF(address) ((address) & 0xFF00000000000000ull)
#define GRANULE_SHIFT 12
#define GRANULES (1u << 24)
#define POISON 0xFF /* of memory nobody wrote: floats of it are NaN */
#define OPERANDS 16

typedef struct {
    uint64_t base, size;
} Allocation;

/* Of each granule of device memory the number of its allocation; allocation 0 is empty. */
extern uint64_t standin_heap;
extern uint32_t *standin_granules;
extern Allocation *standin_allocations;

typedef struct Thread {
    uint32_t tid[3], ntid[3], ctaid[3], nctaid[3], lane, warp, number;
    uint8_t *shared;
    uint32_t shared_size, static_shared;
    const uint8_t *shared_map; /* of each four bytes of static shared memory whether they belong to a variable */
    const uint8_t *params;
    uint32_t params_size;
    uint8_t *local;
    uint32_t local_size;
    uint32_t carry;
    uint32_t exchange[OPERANDS]; /* operands of an instruction of the whole warp, and what it leaves */
} Thread;

typedef struct {
    const char *name;
    uint32_t offset, size;
} Parameter;

typedef struct {
    const char *name;
    void (*run)(Thread *);
    const Parameter *parameters;
    uint32_t parameter_count, parameter_bytes, static_shared, local_bytes, max_threads;
    const uint8_t *shared_map;
} Kernel;

typedef struct {
    const char *name;
    uint64_t *address; /* filled in when the module is loaded */
    uint64_t size, align;
    const uint8_t *initial; /* or null: poison, or zero where PTX says so */
} Global;

typedef struct {
    const Kernel *kernels;
    uint32_t kernel_count;
    const Global *globals;
    uint32_t global_count;
} StandinModule;

enum { FAULT_ADDRESS, FAULT_MISALIGNED, FAULT_LAUNCH };
enum { WARP_SYNC, WARP_SHUFFLE, WARP_VOTE, WARP_MMA_TF32, WARP_REDUCE };
enum { SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_BUTTERFLY, SHUFFLE_INDEX };
enum { VOTE_ALL, VOTE_ANY, VOTE_UNI, VOTE_BALLOT };
enum { REDUCE_NONE, REDUCE_POPC, REDUCE_AND, REDUCE_OR, REDUCE_ADD };

_Noreturn void standin_fault(Thread *t, int line, int kind, const char *format, ...) __attribute__((format(printf, 4, 5)));
uint32_t standin_barrier(Thread *t, int line, uint32_t number, uint32_t count, int reduction, uint32_t value);
void standin_arrive(Thread *t, int line, uint32_t number, uint32_t count);
void standin_warp(Thread *t, int line, int kind, uint32_t mask);
void standin_grid(Thread *t, int line);
int standin_is_cooperative(Thread *t);
void standin_yield(Thread *t, int line);
void standin_copy(Thread *t, int line, uint64_t shared, uint64_t global, uint32_t size, uint32_t source_size);
void standin_commit(Thread *t);
void standin_wait(Thread *t, int line, uint32_t left, int all);
uint64_t standin_clock(void);
uint32_t standin_active(Thread *t);

static inline uint8_t *global_at(Thread *t, uint64_t address, uint32_t size, int line) {
    uint64_t granule = (address - standin_heap) >> GRANULE_SHIFT;
    if (__builtin_expect(granule < GRANULES, 1)) {
        const Allocation *a = &standin_allocations[standin_granules[granule]];
        if (__builtin_expect(address - a->base < a->size && address - a->base + size <= a->size, 1)) {
            if (__builtin_expect(address & (size - 1), 0))
                standin_fault(t, line, FAULT_MISALIGNED, "global address 0x%lx is no multiple of %u", address, size);
            return (uint8_t *)address;
        }
    }
    standin_fault(t, line, FAULT_ADDRESS, "%u bytes at global address 0x%lx lie in no allocation", size, address);
}

static inline uint8_t *shared_at(Thread *t, uint64_t address, uint32_t size, int line) {
    if (__builtin_expect(address >= t->shared_size || address + size > t->shared_size, 0))
        standin_fault(t, line, FAULT_ADDRESS, "%u bytes at shared address 0x%lx: the block has %u", size, address, t->shared_size);
    if (address < t->static_shared && !(t->shared_map[address >> 2] && t->shared_map[(address + size - 1) >> 2]))
        standin_fault(t, line, FAULT_ADDRESS, "%u bytes at shared address 0x%lx lie between variables", size, address);
    if (__builtin_expect(address & (size - 1), 0))
        standin_fault(t, line, FAULT_MISALIGNED, "shared address 0x%lx is no multiple of %u", address, size);
    return t->shared + address;
}

static inline uint8_t *local_at(Thread *t, uint64_t address, uint32_t size, int line) {
    if (address >= t->local_size || address + size > t->local_size)
        standin_fault(t, line, FAULT_ADDRESS, "%u bytes at local address 0x%lx: the thread has %u", size, address, t->local_size);
    if (address & (size - 1))
        standin_fault(t, line, FAULT_MISALIGNED, "local address 0x%lx is no multiple of %u", address, size);
    return t->local + address;
}

static inline uint8_t *generic_at(Thread *t, uint64_t address, uint32_t size, int line) {
    if (WINDOW_OF(address) == SHARED_WINDOW) return shared_at(t, address - SHARED_WINDOW, size, line);
    if (WINDOW_OF(address) == LOCAL_WINDOW) return local_at(t, address - LOCAL_WINDOW, size, line);
    return global_at(t, address, size, line);
}

static inline const uint8_t *param_at(Thread *t, uint64_t address, uint32_t size, int line) {
    if (address >= t->params_size || address + size > t->params_size || (address & (size - 1)))
        standin_fault(t, line, FAULT_ADDRESS, "%u bytes at 0x%lx of %u bytes of parameters", size, address, t->params_size);
    return t->params + address;
}

#endif
