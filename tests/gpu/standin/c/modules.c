/* PTX to something that runs: "linked" into itself, translated and compiled by the command of the environment. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

struct CUlinkState_st {
    char *text;
    size_t size;
};

static uint64_t hash_of(const char *text) {
    uint64_t hash = 14695981039346656037ull;
    for (; *text; text++) hash = (hash ^ (uint8_t)*text) * 1099511628211ull;
    return hash;
}

/* The shared object of a PTX text, compiled unless an earlier process has done so; its name goes with all of the text. */
static int compiled(const char *text, char *path, size_t length) {
    const char *folder = getenv("VAEFAST_STANDIN_FOLDER"), *translate = getenv("VAEFAST_STANDIN_TRANSLATE");
    char source[4096], command[16384];
    if (!folder || !translate) {
        fprintf(stderr, "stand-in: VAEFAST_STANDIN_FOLDER and VAEFAST_STANDIN_TRANSLATE are not set\n");
        return 0;
    }
    snprintf(path, length, "%s/%016lx.so", folder, hash_of(text));
    if (!access(path, R_OK)) return 1;
    snprintf(source, sizeof source, "%s/%016lx.%d.ptx", folder, hash_of(text), (int)getpid());
    FILE *file = fopen(source, "w");
    if (!file) return 0;
    fputs(text, file);
    fclose(file);
    snprintf(command, sizeof command, "%s '%s' '%s' >&2", translate, source, path);
    return system(command) == 0;
}

CUresult library_load(Library **library, const void *code) {
    char path[4096];
    Library *found = calloc(1, sizeof *found);
    found->text = strdup(code);
    if (!compiled(found->text, path, sizeof path)) return CUDA_ERROR_INVALID_PTX;
    found->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!found->handle) {
        fprintf(stderr, "stand-in: %s\n", dlerror());
        return CUDA_ERROR_INVALID_PTX;
    }
    found->module = dlsym(found->handle, "standin_module");
    found->functions = calloc(found->module->kernel_count + 1, sizeof *found->functions);
    for (uint32_t i = 0; i < found->module->kernel_count; i++) found->functions[i] = (Function){&found->module->kernels[i], found, 0};
    for (uint32_t i = 0; i < found->module->global_count; i++) {
        const Global *global = &found->module->globals[i];
        if (!*global->address) *global->address = memory_take(global->size);
        if (!*global->address) return CUDA_ERROR_OUT_OF_MEMORY;
        memcpy((void *)*global->address, global->initial, global->size);
    }
    *library = found;
    return CUDA_SUCCESS;
}

CUresult library_function(Library *library, const char *name, Function **function) {
    for (uint32_t i = 0; i < library->module->kernel_count; i++)
        if (!strcmp(library->module->kernels[i].name, name)) {
            *function = &library->functions[i];
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_NOT_FOUND;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *a, void **b, unsigned c, CUlibraryOption *d, void **e, unsigned f) {
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    IN_CONTEXT;
    CHECK(not_while_recording());
    return library_load((Library **)library, code);
}

CUresult cuLibraryUnload(CUlibrary library) {
    (void)library; /* its text and code stay for kernels that are still queued */
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
    IN_CONTEXT;
    return library_function((Library *)library, name, (Function **)kernel);
}

CUresult cuLibraryGetKernelCount(unsigned *count, CUlibrary library) {
    *count = ((Library *)library)->module->kernel_count;
    return CUDA_SUCCESS;
}

CUresult cuLibraryEnumerateKernels(CUkernel *kernels, unsigned count, CUlibrary library) {
    Library *found = (Library *)library;
    for (unsigned i = 0; i < count && i < found->module->kernel_count; i++) kernels[i] = (CUkernel)&found->functions[i];
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetModule(CUmodule *module, CUlibrary library) {
    *module = (CUmodule)library;
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *address, size_t *size, CUlibrary library, const char *name) {
    const StandinModule *module = ((Library *)library)->module;
    for (uint32_t i = 0; i < module->global_count; i++)
        if (!strcmp(module->globals[i].name, name)) {
            if (address) *address = *module->globals[i].address;
            if (size) *size = module->globals[i].size;
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_NOT_FOUND;
}

CUresult cuModuleLoadData(CUmodule *module, const void *code) {
    IN_CONTEXT;
    CHECK(not_while_recording());
    return library_load((Library **)module, code);
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *code, unsigned a, CUjit_option *b, void **c) {
    (void)a, (void)b, (void)c;
    return cuModuleLoadData(module, code);
}

CUresult cuModuleUnload(CUmodule module) { return cuLibraryUnload((CUlibrary)module); }

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    IN_CONTEXT;
    return library_function((Library *)module, name, (Function **)function);
}

CUresult cuModuleGetGlobal(CUdeviceptr *address, size_t *size, CUmodule module, const char *name) {
    return cuLibraryGetGlobal(address, size, (CUlibrary)module, name);
}

CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
    *function = (CUfunction)kernel;
    return CUDA_SUCCESS;
}

CUresult cuKernelGetLibrary(CUlibrary *library, CUkernel kernel) {
    *library = (CUlibrary)((Function *)kernel)->library;
    return CUDA_SUCCESS;
}

CUresult cuKernelGetName(const char **name, CUkernel kernel) {
    *name = ((Function *)kernel)->kernel->name;
    return CUDA_SUCCESS;
}

CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *size) {
    const Kernel *kernel = ((Function *)function)->kernel;
    if (index >= kernel->parameter_count) return CUDA_ERROR_INVALID_VALUE;
    *offset = kernel->parameters[index].offset;
    if (size) *size = kernel->parameters[index].size;
    return CUDA_SUCCESS;
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t *offset, size_t *size) {
    return cuFuncGetParamInfo((CUfunction)kernel, index, offset, size);
}

#define REGISTERS 128u /* of a thread: what the launch bounds of the engine's kernels leave */

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
    const Function *found = (Function *)function;
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = (int)found->kernel->max_threads; break;
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = (int)found->kernel->static_shared; break;
        case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: *value = 0; break;
        case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = (int)found->kernel->local_bytes; break;
        case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = (int)REGISTERS; break;
        case CU_FUNC_ATTRIBUTE_PTX_VERSION:
        case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = 90; break;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = (int)found->most_dynamic_shared; break;
        default: fprintf(stderr, "stand-in: function attribute %d is not implemented\n", attribute); return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
    (void)device;
    return cuFuncGetAttribute(value, attribute, (CUfunction)kernel);
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 || value > 232448) return CUDA_ERROR_INVALID_VALUE;
    ((Function *)function)->most_dynamic_shared = (uint32_t)value;
    return CUDA_SUCCESS;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
    (void)device;
    return cuFuncSetAttribute((CUfunction)kernel, attribute, value);
}

uint32_t blocks_per_multiprocessor(const Function *function, uint32_t threads, uint32_t dynamic_shared) {
    uint32_t by_registers = 65536 / (REGISTERS * threads), by_threads = 2048 / threads;
    uint32_t by_shared = 233472 / (function->kernel->static_shared + dynamic_shared + 1024);
    uint32_t least = by_registers < by_threads ? by_registers : by_threads;
    return least < by_shared ? least : by_shared;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction function, int threads, size_t dynamic, unsigned flags) {
    (void)flags;
    if (threads <= 0) return CUDA_ERROR_INVALID_VALUE;
    *blocks = (int)blocks_per_multiprocessor((Function *)function, (uint32_t)threads, (uint32_t)dynamic);
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t dynamic) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, dynamic, 0);
}

/* ---- linking: the PTX is its own cubin ---- */

CUresult cuLinkCreate(unsigned count, CUjit_option *options, void **values, CUlinkState *state) {
    (void)count, (void)options, (void)values;
    *state = calloc(1, sizeof **state);
    return CUDA_SUCCESS;
}

CUresult cuLinkAddData(CUlinkState state, CUjitInputType type, void *data, size_t size, const char *name, unsigned a, CUjit_option *b, void **c) {
    (void)a, (void)b, (void)c;
    if (type == CU_JIT_INPUT_LIBRARY) return CUDA_SUCCESS; /* the device's library is the stand-in's own */
    if (type != CU_JIT_INPUT_PTX) {
        fprintf(stderr, "stand-in: %s: only PTX can be linked\n", name ? name : "a part");
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    size = strnlen(data, size);
    state->text = realloc(state->text, state->size + size + 2);
    memcpy(state->text + state->size, data, size);
    state->size += size;
    state->text[state->size] = '\0';
    return CUDA_SUCCESS;
}

CUresult cuLinkComplete(CUlinkState state, void **cubin, size_t *size) {
    *cubin = state->text, *size = state->size + 1;
    return state->text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuLinkDestroy(CUlinkState state) {
    free(state->text), free(state);
    return CUDA_SUCCESS;
}
