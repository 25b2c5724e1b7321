/* The driver's front door: how entry points are found, one device, one context. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

pthread_mutex_t driver_lock;
__thread CUcontext driver_context;
CUresult driver_broken;
static struct CUctx_st {
    int retained;
} primary;
static bool started;

#define VERSION 13000
#define STACKED 64
static __thread CUcontext stacked[STACKED];
static __thread int depth;

long driver_setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

CUcontext driver_primary(void) { return (CUcontext)&primary; }

__attribute__((constructor)) static void start(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&driver_lock, &attributes);
}

/* For tests: a context is broken for good by a fault, as on a device, until this. */
PUBLIC void standin_forgive(void) { driver_broken = CUDA_SUCCESS; }

CUresult cuInit(unsigned flags) {
    LOCKED;
    if (flags) return CUDA_ERROR_INVALID_VALUE;
    if (!started && !memory_start((uint64_t)driver_setting("VAEFAST_STANDIN_MEGABYTES", 2048) << 20)) return CUDA_ERROR_OUT_OF_MEMORY;
    if (!started) standin_order((int)driver_setting("VAEFAST_STANDIN_ORDER", 0), (uint64_t)driver_setting("VAEFAST_STANDIN_SEED", 0));
    started = true;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
    *version = VERSION;
    return CUDA_SUCCESS;
}

/* ---- entry points by name; those that are missing say so when they are called ---- */

#define NAMES 1024
static const char *missing_names[NAMES];
static int missing_count;

static CUresult missing(int number) {
    fprintf(stderr, "stand-in: %s is not implemented\n", missing_names[number]);
    return CUDA_ERROR_NOT_SUPPORTED;
}
#define STUB(n) \
    static CUresult stub_##n(void) { return missing(n - 10000); }
#define TEN(f, n) f(n##0) f(n##1) f(n##2) f(n##3) f(n##4) f(n##5) f(n##6) f(n##7) f(n##8) f(n##9)
#define HUNDRED(f, n) TEN(f, n##0) TEN(f, n##1) TEN(f, n##2) TEN(f, n##3) TEN(f, n##4) TEN(f, n##5) TEN(f, n##6) TEN(f, n##7) TEN(f, n##8) TEN(f, n##9)
#define ALL(f) HUNDRED(f, 100) HUNDRED(f, 101) HUNDRED(f, 102) HUNDRED(f, 103) HUNDRED(f, 104) HUNDRED(f, 105) HUNDRED(f, 106)
ALL(STUB)
#define POINTER(n) stub_##n,
static CUresult (*const stubs[])(void) = {ALL(POINTER)};

static void *found(const char *name) {
    static void *self;
    static const char *const endings[] = {"_v4", "_v3", "_v2", "", "WithFlags"};
    char full[256];
    Dl_info where;
    if (!self && dladdr((void *)found, &where)) self = dlopen(where.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    for (size_t i = 0; self && i < sizeof endings / sizeof *endings; i++) {
        snprintf(full, sizeof full, "%s%s", name, endings[i]);
        void *function = dlsym(self, full);
        if (function && dladdr(function, &where) && dlsym(self, "standin_forgive")) return function;
    }
    return NULL;
}

CUresult cuGetProcAddress(const char *name, void **function, int version, cuuint64_t flags, CUdriverProcAddressQueryResult *status) {
    (void)version, (void)flags;
    LOCKED;
    *function = found(name);
    for (int i = 0; !*function && i < missing_count; i++)
        if (!strcmp(missing_names[i], name)) *function = (void *)stubs[i];
    if (!*function && missing_count < (int)(sizeof stubs / sizeof *stubs)) {
        missing_names[missing_count] = strdup(name);
        *function = (void *)stubs[missing_count++];
    }
    if (status) *status = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

#define ERRORS(f)                                                                                                              \
    f(CUDA_SUCCESS) f(CUDA_ERROR_INVALID_VALUE) f(CUDA_ERROR_OUT_OF_MEMORY) f(CUDA_ERROR_NOT_INITIALIZED)                      \
    f(CUDA_ERROR_INVALID_CONTEXT) f(CUDA_ERROR_INVALID_PTX) f(CUDA_ERROR_NOT_FOUND) f(CUDA_ERROR_ILLEGAL_ADDRESS)              \
    f(CUDA_ERROR_MISALIGNED_ADDRESS) f(CUDA_ERROR_LAUNCH_FAILED) f(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE)                    \
    f(CUDA_ERROR_NOT_SUPPORTED) f(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) f(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)              \
    f(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) f(CUDA_ERROR_INVALID_HANDLE) f(CUDA_ERROR_NOT_READY) f(CUDA_ERROR_INVALID_DEVICE)    \
    f(CUDA_ERROR_ILLEGAL_STATE)
#define NAME(error) \
    case error: return #error;

static const char *error_name(CUresult error) {
    switch (error) {
        ERRORS(NAME)
        default: return NULL;
    }
}

CUresult cuGetErrorName(CUresult error, const char **text) {
    *text = error_name(error);
    return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text) { return cuGetErrorName(error, text); }

/* ---- the device ---- */

CUresult cuDeviceGetCount(int *count) {
    if (!started) return CUDA_ERROR_NOT_INITIALIZED;
    *count = 1;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int number) {
    if (!started) return CUDA_ERROR_NOT_INITIALIZED;
    *device = 0;
    return number ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    (void)device;
    snprintf(name, (size_t)length, "stand-in");
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
    (void)device;
    memset(uuid, 7, sizeof *uuid);
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
    (void)device;
    *bytes = (size_t)driver_setting("VAEFAST_STANDIN_MEGABYTES", 2048) << 20;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    if (device) return CUDA_ERROR_INVALID_DEVICE;
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 0; break;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = (int)driver_setting("VAEFAST_STANDIN_MULTIPROCESSORS", 3); break;
        case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH: *value = 1; break;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
        case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
        case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: *value = 1000000; break;
        case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: *value = 512; break;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: *value = 1024; break;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: *value = 64; break;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: *value = 2147483647; break;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: *value = 65535; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = 49152; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = 232448; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *value = 233472; break;
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: *value = 65536; break;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: *value = 2048; break;
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *value = 1; break;
        case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
        case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
        case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
        case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE:
        case CU_DEVICE_ATTRIBUTE_INTEGRATED:
        case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
        case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
        case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 0; break;
        default: fprintf(stderr, "stand-in: device attribute %d is not implemented\n", attribute); return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

/* ---- the context ---- */

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    LOCKED;
    if (device) return CUDA_ERROR_INVALID_DEVICE;
    primary.retained++;
    *context = driver_primary();
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    LOCKED;
    if (device || !primary.retained) return CUDA_ERROR_INVALID_CONTEXT;
    primary.retained--;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    (void)device;
    *flags = 0, *active = primary.retained > 0;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = driver_context;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    driver_context = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext context) {
    if (depth == STACKED) return CUDA_ERROR_INVALID_CONTEXT;
    stacked[depth++] = driver_context;
    driver_context = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *context) {
    if (!driver_context) return CUDA_ERROR_INVALID_CONTEXT;
    if (context) *context = driver_context;
    driver_context = depth ? stacked[--depth] : NULL;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
    *device = 0;
    return driver_context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxSynchronize(void) {
    IN_CONTEXT;
    CHECK(not_while_recording());
    return all_flush();
}
