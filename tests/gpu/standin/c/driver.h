/* What the parts of the driver share. */
#ifndef STANDIN_DRIVER_H
#define STANDIN_DRIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <cuda.h>

#include "machine.h"

/* Entry points run one at a time, whatever thread they come from. */
extern pthread_mutex_t driver_lock;
static inline void driver_unlock(int *unused) {
    (void)unused;
    pthread_mutex_unlock(&driver_lock);
}
#define LOCKED                                                                  \
    __attribute__((cleanup(driver_unlock))) int driver_locked = 0;              \
    (void)driver_locked;                                                        \
    pthread_mutex_lock(&driver_lock)
/* What needs a context: it fails for good once a kernel has gone wrong. */
#define IN_CONTEXT                                       \
    LOCKED;                                              \
    if (!driver_context) return CUDA_ERROR_INVALID_CONTEXT; \
    if (driver_broken) return driver_broken
#define CHECK(call)                        \
    do {                                   \
        CUresult checked_ = (call);        \
        if (checked_) return checked_;     \
    } while (0)

extern __thread CUcontext driver_context;
extern CUresult driver_broken;
CUcontext driver_primary(void);
long driver_setting(const char *name, long otherwise);

typedef struct Library Library;

typedef struct {
    const Kernel *kernel;
    Library *library;
    uint32_t most_dynamic_shared;
} Function;

struct Library {
    void *handle;
    char *text;
    const StandinModule *module;
    Function *functions;
};

CUresult library_load(Library **library, const void *code);
CUresult library_function(Library *library, const char *name, Function **function);
uint32_t blocks_per_multiprocessor(const Function *function, uint32_t threads, uint32_t dynamic_shared);

typedef enum { OP_LAUNCH, OP_TO_DEVICE, OP_TO_HOST, OP_ON_DEVICE, OP_SET, OP_RECORD, OP_WAIT, OP_GRAPH, OP_CALL } OpKind;

typedef struct Op {
    OpKind kind;
    struct Op *next;
    Function *function;
    Grid grid;
    uint64_t to, from, size;
    uint32_t value, width;
    uint8_t *held; /* parameters of a launch, or bytes on their way to the device */
    struct CUevent_st *event;
    struct CUgraphExec_st *graph;
    CUhostFn call;
    void *data;
} Op;

struct CUgraph_st {
    Op *first, *last;
};

CUresult stream_add(CUstream stream, Op op);   /* queued, or recorded */
CUresult stream_flush(CUstream stream);        /* all that was queued is done */
CUresult all_flush(void);
CUresult not_while_recording(void);            /* what a recording thread may not do */
CUresult legacy_call(void);                    /* a call that waits for all ordinary streams */
bool stream_records(CUstream stream);
bool is_pinned(const void *host);

#endif
