/* Where worker threads meet: atomic counters, how to wait, and the floating-point mode.
 *
 * Flush-to-zero: Adam's moments of dead units and rare pixels decay into denormal numbers and stay there, and an epoch takes a
 * quarter longer. The mode belongs to a thread and is put back.
 */
#ifndef VAEFAST_THREADS_H
#define VAEFAST_THREADS_H

#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#endif

static inline int64_t fetch_add(int64_t *counter, int64_t amount) { return __atomic_fetch_add(counter, amount, __ATOMIC_SEQ_CST); }

static inline int64_t load_acquire(const int64_t *counter) { return __atomic_load_n(counter, __ATOMIC_ACQUIRE); }

static inline void store_release(int64_t *counter, int64_t value) { __atomic_store_n(counter, value, __ATOMIC_RELEASE); }

/* Tell the core that it spins. */
static inline void pause_core(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Let another thread run on this core. */
static inline void yield_core(void) {
#if defined(_WIN32)
    SwitchToThread();
#else
    sched_yield();
#endif
}

/* x86 MXCSR: bit 15 flushes results, bit 6 reads denormal inputs as zero. ARM FPCR: bit 24 does both. */
static inline uint64_t flush_denormals(void) {
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (1u << 24)));
    return before;
#else
    return 0;
#endif
}

static inline void restore_mode(uint64_t mode) {
#if defined(__x86_64__)
    _mm_setcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#else
    (void)mode;
#endif
}

/* Ask for so many bytes before they are needed, into the second-level cache. */
static inline void prefetch(const void *start, int64_t size) {
    for (int64_t i = 0; i <= size; i += 64) __builtin_prefetch((const char *)start + i, 0, 2);
}

/* The same, into the first-level cache. */
static inline void prefetch_near(const void *start, int64_t size) {
    for (int64_t i = 0; i <= size; i += 64) __builtin_prefetch((const char *)start + i, 0, 3);
}

#endif
