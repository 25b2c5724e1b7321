/* Streams, events, recordings and graphs. What is queued is done as late as a device may: when somebody waits for it. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "driver.h"

struct CUstream_st {
    struct CUstream_st *next;
    Op *first, *last;
    bool blocking; /* waits for the legacy stream, and that for it */
    struct CUgraph_st *recorded;
    CUstreamCaptureMode mode;
    pthread_t recorder;
    bool invalid;
    int priority;
};

struct CUevent_st {
    CUstream stream;
    double seconds;
};

struct CUgraphExec_st {
    struct CUgraph_st graph;
};

static struct CUstream_st legacy = {.blocking = false};
static CUstream streams = &legacy;

static CUstream real(CUstream stream) {
    return stream == NULL || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD ? &legacy : stream;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ---- what is queued ---- */

static CUresult perform_all(Op *op);

static CUresult launched(const Op *op) {
    static const CUresult errors[] = {CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_MISALIGNED_ADDRESS, CUDA_ERROR_LAUNCH_FAILED};
    uint32_t threads = op->grid.block[0] * op->grid.block[1] * op->grid.block[2];
    uint32_t each = blocks_per_multiprocessor(op->function, threads, op->grid.dynamic_shared);
    uint32_t resident = (each ? each : 1) * (uint32_t)driver_setting("VAEFAST_STANDIN_MULTIPROCESSORS", 3);
    int fault = machine_run(&op->grid, resident);
    return fault < 0 ? CUDA_SUCCESS : errors[fault];
}

static CUresult perform(Op *op) {
    switch (op->kind) {
        case OP_LAUNCH: return launched(op);
        case OP_TO_DEVICE: memcpy((void *)op->to, op->held ? op->held : (void *)op->from, op->size); break;
        case OP_TO_HOST: memcpy((void *)op->to, (void *)op->from, op->size); break;
        case OP_ON_DEVICE: memmove((void *)op->to, (void *)op->from, op->size); break;
        case OP_SET: memset((void *)op->to, (int)op->value, op->size); break;
        case OP_RECORD: op->event->seconds = now(); break;
        case OP_WAIT: return op->event->stream ? stream_flush(op->event->stream) : CUDA_SUCCESS;
        case OP_GRAPH: return perform_all(op->graph->graph.first);
        case OP_CALL: op->call(op->data); break;
    }
    return CUDA_SUCCESS;
}

static CUresult perform_all(Op *op) {
    for (; op && !driver_broken; op = op->next) driver_broken = perform(op);
    return driver_broken;
}

CUresult stream_flush(CUstream stream) {
    stream = real(stream);
    while (stream->first) {
        Op *op = stream->first;
        stream->first = op->next;
        if (!driver_broken) driver_broken = perform(op);
        free(op->held), free(op);
    }
    return driver_broken;
}

static CUresult blocking_flush(void) {
    for (CUstream stream = streams; stream; stream = stream->next)
        if (stream->blocking) CHECK(stream_flush(stream));
    return CUDA_SUCCESS;
}

CUresult all_flush(void) {
    for (CUstream stream = streams; stream; stream = stream->next) CHECK(stream_flush(stream));
    return CUDA_SUCCESS;
}

static void append(struct CUgraph_st *list, const Op *op) {
    Op *copy = malloc(sizeof *copy);
    *copy = *op, copy->next = NULL;
    if (list->first) list->last->next = copy;
    else list->first = copy;
    list->last = copy;
}

static CUresult implicit(void) {
    for (CUstream stream = streams; stream; stream = stream->next)
        if (stream->recorded && stream->blocking) {
            stream->invalid = true;
            return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
    return CUDA_SUCCESS;
}

CUresult legacy_call(void) {
    CHECK(implicit());
    CHECK(not_while_recording());
    CHECK(blocking_flush());
    return stream_flush(&legacy);
}

CUresult stream_add(CUstream stream, Op op) {
    stream = real(stream);
    if (stream->recorded && stream->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (stream->recorded) {
        append(stream->recorded, &op);
        return CUDA_SUCCESS;
    }
    if (stream == &legacy) {
        CHECK(implicit());
        CHECK(blocking_flush());
    } else if (stream->blocking) {
        CHECK(stream_flush(&legacy));
    }
    struct CUgraph_st list = {stream->first, stream->last};
    append(&list, &op);
    stream->first = list.first, stream->last = list.last;
    return driver_setting("VAEFAST_STANDIN_EARLY", 0) ? stream_flush(stream) : CUDA_SUCCESS;
}

/* ---- recording ---- */

bool stream_records(CUstream stream) { return real(stream)->recorded != NULL; }

CUresult not_while_recording(void) {
    for (CUstream stream = streams; stream; stream = stream->next) {
        bool here = stream->recorded && pthread_equal(stream->recorder, pthread_self());
        if (!stream->recorded || stream->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
        if (stream->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && !here) continue;
        stream->invalid = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
    IN_CONTEXT;
    stream = real(stream);
    if (stream == &legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->recorded) return CUDA_ERROR_ILLEGAL_STATE;
    stream->recorded = calloc(1, sizeof *stream->recorded);
    stream->mode = mode, stream->recorder = pthread_self(), stream->invalid = false;
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    IN_CONTEXT;
    stream = real(stream);
    *graph = NULL;
    if (!stream->recorded) return CUDA_ERROR_ILLEGAL_STATE;
    if (stream->mode != CU_STREAM_CAPTURE_MODE_RELAXED && !pthread_equal(stream->recorder, pthread_self()))
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    *graph = stream->invalid ? NULL : stream->recorded;
    stream->recorded = NULL;
    return stream->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
    IN_CONTEXT;
    stream = real(stream);
    *status = !stream->recorded ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
    IN_CONTEXT;
    if (flags) return CUDA_ERROR_NOT_SUPPORTED;
    *executable = calloc(1, sizeof **executable);
    for (Op *op = graph->first; op; op = op->next) append(&(*executable)->graph, op); /* what it holds is kept for good */
    for (Op *op = (*executable)->graph.first; op; op = op->next)
        if (op->kind == OP_LAUNCH) op->grid.params = op->held;
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
    IN_CONTEXT;
    return stream_add(stream, (Op){.kind = OP_GRAPH, .graph = executable});
}

CUresult cuGraphExecDestroy(CUgraphExec executable) {
    IN_CONTEXT;
    (void)executable; /* launches of it may still be queued */
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
    IN_CONTEXT;
    (void)graph;
    return CUDA_SUCCESS;
}

/* ---- streams and events ---- */

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
    IN_CONTEXT;
    *stream = calloc(1, sizeof **stream);
    **stream = (struct CUstream_st){.next = streams, .blocking = !(flags & CU_STREAM_NON_BLOCKING), .priority = priority};
    streams = *stream;
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }

CUresult cuStreamDestroy(CUstream stream) {
    IN_CONTEXT;
    CHECK(stream_flush(stream));
    for (CUstream *at = &streams; *at; at = &(*at)->next)
        if (*at == stream) {
            *at = stream->next; /* not freed: events remember it */
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuStreamSynchronize(CUstream stream) {
    IN_CONTEXT;
    if (stream_records(stream)) real(stream)->invalid = true;
    if (stream_records(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (real(stream) == &legacy) CHECK(blocking_flush());
    return stream_flush(stream);
}

CUresult cuStreamQuery(CUstream stream) { return cuStreamSynchronize(stream); }

CUresult cuStreamGetFlags(CUstream stream, unsigned *flags) {
    *flags = real(stream)->blocking ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream stream, int *priority) {
    *priority = real(stream)->priority;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext *context) {
    (void)stream;
    *context = driver_primary();
    return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
    IN_CONTEXT;
    (void)flags;
    return stream_add(stream, (Op){.kind = OP_WAIT, .event = event});
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn call, void *data) {
    IN_CONTEXT;
    return stream_add(stream, (Op){.kind = OP_CALL, .call = call, .data = data});
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
    IN_CONTEXT;
    (void)flags;
    *event = calloc(1, sizeof **event);
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
    (void)event; /* a queued record may still name it */
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
    IN_CONTEXT;
    if (!stream_records(stream)) event->stream = real(stream);
    return stream_add(stream, (Op){.kind = OP_RECORD, .event = event});
}

CUresult cuEventSynchronize(CUevent event) {
    IN_CONTEXT;
    return event->stream ? stream_flush(event->stream) : CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent event) {
    CHECK(not_while_recording());
    return cuEventSynchronize(event);
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent begin, CUevent end) {
    IN_CONTEXT;
    *milliseconds = (float)(1e3 * (end->seconds - begin->seconds));
    return CUDA_SUCCESS;
}

/* ---- launches ---- */

static CUresult launch(Function *function, const uint32_t *grid, const uint32_t *block, uint32_t dynamic, CUstream stream, void **values, bool together) {
    const Kernel *kernel = function->kernel;
    uint64_t threads = (uint64_t)block[0] * block[1] * block[2], blocks = (uint64_t)grid[0] * grid[1] * grid[2];
    uint32_t most = function->most_dynamic_shared > 49152 - kernel->static_shared ? function->most_dynamic_shared : 49152 - kernel->static_shared;
    if (!threads || !blocks || threads > kernel->max_threads || threads > 1024 || grid[1] > 65535 || grid[2] > 65535) return CUDA_ERROR_INVALID_VALUE;
    if (kernel->static_shared > 49152 || dynamic > most) return CUDA_ERROR_INVALID_VALUE;
    uint64_t room = blocks_per_multiprocessor(function, (uint32_t)threads, dynamic) * (uint64_t)driver_setting("VAEFAST_STANDIN_MULTIPROCESSORS", 3);
    if (together && blocks > room) {
        fprintf(stderr, "stand-in: a cooperative launch of %lu blocks, where %lu have room\n", blocks, room);
        return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    }
    uint8_t *params = aligned_alloc(64, (kernel->parameter_bytes + 127u) / 64 * 64);
    for (uint32_t i = 0; i < kernel->parameter_count; i++)
        memcpy(params + kernel->parameters[i].offset, values[i], kernel->parameters[i].size);
    Grid all = {kernel, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, dynamic, together, params, function->library->text};
    return stream_add(stream, (Op){.kind = OP_LAUNCH, .function = function, .grid = all, .held = params});
}

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned dynamic,
                        CUstream stream, void **values, void **extra) {
    IN_CONTEXT;
    if (extra) return CUDA_ERROR_NOT_SUPPORTED;
    return launch((Function *)function, (uint32_t[]){gx, gy, gz}, (uint32_t[]){bx, by, bz}, dynamic, stream, values, false);
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                                   unsigned dynamic, CUstream stream, void **values) {
    IN_CONTEXT;
    return launch((Function *)function, (uint32_t[]){gx, gy, gz}, (uint32_t[]){bx, by, bz}, dynamic, stream, values, true);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **values, void **extra) {
    IN_CONTEXT;
    bool together = false;
    if (extra && *extra) return CUDA_ERROR_NOT_SUPPORTED;
    for (unsigned i = 0; i < config->numAttrs; i++) {
        if (config->attrs[i].id != CU_LAUNCH_ATTRIBUTE_COOPERATIVE) {
            fprintf(stderr, "stand-in: launch attribute %d is not implemented\n", config->attrs[i].id);
            return CUDA_ERROR_NOT_SUPPORTED;
        }
        together = config->attrs[i].value.cooperative != 0;
    }
    return launch((Function *)function, (uint32_t[]){config->gridDimX, config->gridDimY, config->gridDimZ},
                  (uint32_t[]){config->blockDimX, config->blockDimY, config->blockDimZ}, config->sharedMemBytes, config->hStream, values, together);
}
