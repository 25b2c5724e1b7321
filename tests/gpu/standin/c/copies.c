/* Memory as the host sees it: allocations, copies, pinned pages. */
#include <stdlib.h>

#include "driver.h"

typedef struct Pinned {
    struct Pinned *next;
    char *begin;
    size_t size;
} Pinned;
static Pinned *pinned;

bool is_pinned(const void *host) {
    for (Pinned *p = pinned; p; p = p->next)
        if ((const char *)host >= p->begin && (const char *)host < p->begin + p->size) return true;
    return false;
}

/* What a copy touches of the device must lie in one allocation. */
static CUresult inside(CUdeviceptr address, size_t size) {
    const Allocation *found = memory_of(address);
    return !size || (found && address - found->base + size <= found->size) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetInfo(size_t *left, size_t *total) {
    IN_CONTEXT;
    *left = memory_free_bytes();
    return cuDeviceTotalMem(total, 0);
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t size) {
    IN_CONTEXT;
    CHECK(not_while_recording());
    if (!size) return CUDA_ERROR_INVALID_VALUE;
    *address = memory_take(size);
    return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFree(CUdeviceptr address) {
    IN_CONTEXT;
    CHECK(not_while_recording());
    CHECK(all_flush());
    return !address || memory_give(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *size, CUdeviceptr address) {
    IN_CONTEXT;
    const Allocation *found = memory_of(address);
    if (!found) return CUDA_ERROR_NOT_FOUND;
    if (base) *base = found->base;
    if (size) *size = found->size;
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr address) {
    IN_CONTEXT;
    if (!memory_of(address)) return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT: *(CUcontext *)data = driver_primary(); break;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: *(unsigned *)data = CU_MEMORYTYPE_DEVICE; break;
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: *(CUdeviceptr *)data = address; break;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED: *(int *)data = 0; break;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: *(int *)data = 0; break;
        default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **host, size_t size, unsigned flags) {
    (void)flags;
    IN_CONTEXT;
    CHECK(not_while_recording());
    Pinned *entry = malloc(sizeof *entry);
    *entry = (Pinned){pinned, malloc(size), size};
    pinned = entry;
    *host = entry->begin;
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *host) {
    IN_CONTEXT;
    CHECK(all_flush());
    for (Pinned **p = &pinned; *p; p = &(*p)->next)
        if ((*p)->begin == host) {
            Pinned *entry = *p;
            *p = entry->next;
            free(entry->begin), free(entry);
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_INVALID_VALUE;
}

/* ---- copies; one without a stream waits for all that was asked before ---- */

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t size) {
    IN_CONTEXT;
    CHECK(legacy_call());
    CHECK(inside(to, size));
    memcpy((void *)to, from, size);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t size) {
    IN_CONTEXT;
    CHECK(legacy_call());
    CHECK(inside(from, size));
    memcpy(to, (void *)from, size);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t size) {
    IN_CONTEXT;
    CHECK(legacy_call());
    CHECK(inside(to, size));
    CHECK(inside(from, size));
    memmove((void *)to, (void *)from, size);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream stream) {
    IN_CONTEXT;
    CHECK(inside(to, size));
    Op op = {.kind = OP_TO_DEVICE, .to = to, .from = (uint64_t)from, .size = size};
    if (!is_pinned(from) && !stream_records(stream)) { /* pageable memory is read before the call returns */
        op.held = malloc(size + 1);
        memcpy(op.held, from, size);
    }
    return stream_add(stream, op);
}

CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t size, CUstream stream) {
    IN_CONTEXT;
    CHECK(inside(from, size));
    bool recorded = stream_records(stream);
    CHECK(stream_add(stream, (Op){.kind = OP_TO_HOST, .to = (uint64_t)to, .from = from, .size = size}));
    return is_pinned(to) || recorded ? CUDA_SUCCESS : stream_flush(stream); /* and written before it returns */
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
    IN_CONTEXT;
    CHECK(inside(to, size));
    CHECK(inside(from, size));
    return stream_add(stream, (Op){.kind = OP_ON_DEVICE, .to = to, .from = from, .size = size});
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
    IN_CONTEXT;
    CHECK(inside(to, count));
    return stream_add(stream, (Op){.kind = OP_SET, .to = to, .size = count, .value = value, .width = 1});
}

CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t count) {
    IN_CONTEXT;
    CHECK(legacy_call());
    CHECK(inside(to, count));
    memset((void *)to, value, count);
    return CUDA_SUCCESS;
}
