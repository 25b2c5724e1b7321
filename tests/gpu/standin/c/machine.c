/* The threads of a grid as fibers of one thread: each runs until it waits for others, in an order that can be chosen. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "arithmetic.h"
#include "machine.h"

#define STACK (256u << 10)
#define WARP 32
#define BARRIERS 16
#define COPIES 64
#define PATIENCE 100000 /* rounds in which threads only asked whether they may go on */

typedef enum { READY, YIELDED, AT_BARRIER, AT_WARP, AT_GRID, DONE } State;
static const char *const STATES[] = {"runs", "asks again and again", "waits at a barrier", "waits for its warp", "waits for the grid",
                                     "has left"};
typedef enum { FORWARDS, BACKWARDS, SHUFFLED } Order;

typedef struct {
    uint64_t shared, global;
    uint32_t size, source_size, group;
} Copy;

typedef struct Block Block;

typedef struct {
    Thread t; /* first: a Thread is its Fiber */
    jmp_buf context;
    ucontext_t start;
    int begun;
    State state;
    int line, kind;
    uint32_t barrier, mask, value;
    uint32_t copies, group;
    Copy copy[COPIES];
    Block *block;
    uint8_t *stack;
} Fiber;

typedef struct {
    uint32_t arrived, expected;
    uint32_t sum, all, any;
} Barrier;

struct Block {
    Fiber **fibers;
    uint32_t threads, left;
    int active;
    Barrier barriers[BARRIERS];
    uint8_t *shared, *local;
};

static struct {
    jmp_buf main, failed;
    Fiber *current;
    const Grid *grid;
    Block *blocks;
    uint32_t resident, started, finished, total, at_grid, events;
    int fault;
    Order order;
    uint64_t random, clock;
} m;

static Fiber **pool;
static uint32_t pool_size;

PUBLIC void standin_order(int order, uint64_t seed) {
    m.order = (Order)order;
    m.random = seed * 0x9E3779B97F4A7C15ull + 1;
}

static uint32_t draw(uint32_t below) {
    m.random ^= m.random << 13, m.random ^= m.random >> 7, m.random ^= m.random << 17;
    return (uint32_t)((m.random >> 16) % below);
}

static void arrange(uint32_t *places, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) places[i] = m.order == BACKWARDS ? count - 1 - i : i;
    if (m.order == SHUFFLED)
        for (uint32_t i = count; i > 1; i--) {
            uint32_t other = draw(i), place = places[i - 1];
            places[i - 1] = places[other], places[other] = place;
        }
}

/* ---- faults ---- */

#define LINE(site) ((site) & 0xFFFFF) /* above it stands which statement of the line */

static void say_line(int number) {
    const char *text = m.grid->text;
    for (int line = 1; text && line < number; line++) text = strchr(text, '\n') ? strchr(text, '\n') + 1 : NULL;
    while (text && (*text == ' ' || *text == '\t')) text++;
    fprintf(stderr, "PTX line %d: `%.*s`", number, text ? (int)(strcspn(text, "\n") < 160 ? strcspn(text, "\n") : 160) : 0, text ? text : "");
}

static void say(const Fiber *fiber) {
    const Thread *t = &fiber->t;
    fprintf(stderr, "block (%u, %u, %u), thread (%u, %u, %u), ", t->ctaid[0], t->ctaid[1], t->ctaid[2], t->tid[0], t->tid[1], t->tid[2]);
    say_line(LINE(fiber->line));
}

PUBLIC _Noreturn void standin_fault(Thread *t, int line, int kind, const char *format, ...) {
    Fiber *fiber = (Fiber *)t;
    va_list values;
    fiber->line = line;
    fprintf(stderr, "stand-in: kernel %.80s, ", m.grid->kernel->name);
    say(fiber);
    fprintf(stderr, ": ");
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fprintf(stderr, "\n");
    m.fault = kind;
    _longjmp(m.failed, 1);
}

/* ---- fibers ---- */

static void pause_fiber(Fiber *fiber, State state, int line) {
    fiber->state = state, fiber->line = line;
    if (!_setjmp(fiber->context)) _longjmp(m.main, 1);
}

static void fiber_main(void) {
    for (;;) {
        Fiber *fiber = m.current;
        m.grid->kernel->run(&fiber->t);
        Block *block = fiber->block;
        for (int i = 0; i < BARRIERS; i++)
            if (block->barriers[i].arrived && block->barriers[i].expected == block->threads)
                standin_fault(&fiber->t, fiber->line, FAULT_LAUNCH, "a thread leaves while others of its block wait at barrier %d", i);
        block->left++, m.events++;
        pause_fiber(fiber, DONE, fiber->line);
    }
}

static void resume(Fiber *fiber) {
    m.current = fiber;
    if (_setjmp(m.main)) return;
    if (fiber->begun) _longjmp(fiber->context, 1);
    fiber->begun = 1;
    getcontext(&fiber->start);
    fiber->start.uc_stack.ss_sp = fiber->stack, fiber->start.uc_stack.ss_size = STACK, fiber->start.uc_link = NULL;
    makecontext(&fiber->start, fiber_main, 0);
    setcontext(&fiber->start);
    abort();
}

static Fiber *new_fiber(void) {
    Fiber *fiber = calloc(1, sizeof *fiber);
    if (fiber) fiber->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!fiber || fiber->stack == MAP_FAILED) abort();
    return fiber;
}

static void begin_block(Block *block, uint32_t number) {
    const Grid *g = m.grid;
    uint32_t shared = g->kernel->static_shared + g->dynamic_shared, *b = (uint32_t *)g->block, *n = (uint32_t *)g->grid;
    memset(block->shared, POISON, shared);
    memset(block->local, POISON, (size_t)g->kernel->local_bytes * block->threads);
    memset(block->barriers, 0, sizeof block->barriers);
    block->left = 0, block->active = 1;
    for (uint32_t i = 0; i < block->threads; i++) {
        Fiber *fiber = block->fibers[i];
        fiber->t = (Thread){
            .tid = {i % b[0], i / b[0] % b[1], i / b[0] / b[1]}, .ntid = {b[0], b[1], b[2]},
            .ctaid = {number % n[0], number / n[0] % n[1], number / n[0] / n[1]}, .nctaid = {n[0], n[1], n[2]},
            .lane = i % WARP, .warp = i / WARP, .number = i, .shared = block->shared, .shared_size = shared,
            .static_shared = g->kernel->static_shared, .shared_map = g->kernel->shared_map, .params = g->params,
            .params_size = g->kernel->parameter_bytes, .local = block->local + (size_t)i * g->kernel->local_bytes,
            .local_size = g->kernel->local_bytes,
        };
        fiber->block = block, fiber->state = READY, fiber->copies = 0, fiber->group = 0, fiber->line = 0;
    }
}

/* ---- waiting for others ---- */

static Fiber *other_line(const Block *block, const Fiber *fiber) {
    uint32_t first = fiber->t.warp * WARP;
    for (uint32_t i = first; i < first + WARP && i < block->threads; i++)
        if (block->fibers[i]->state == AT_BARRIER && block->fibers[i]->barrier == fiber->barrier && block->fibers[i]->line != fiber->line)
            return block->fibers[i];
    return NULL;
}

static void reach(Fiber *fiber, int line, uint32_t number, uint32_t count) {
    Block *block = fiber->block;
    fiber->line = line;
    if (number >= BARRIERS || count > block->threads || count % WARP)
        standin_fault(&fiber->t, line, FAULT_LAUNCH, "barrier %u of %u threads in a block of %u", number, count, block->threads);
    if (!count && block->left)
        standin_fault(&fiber->t, line, FAULT_LAUNCH, "a barrier of the whole block, of which %u threads have left", block->left);
    Barrier *barrier = &block->barriers[number];
    uint32_t expected = count ? count : block->threads;
    if (barrier->arrived && barrier->expected != expected)
        standin_fault(&fiber->t, line, FAULT_LAUNCH, "barrier %u of %u threads, where others wait for %u", number, expected, barrier->expected);
    if (!barrier->arrived++) barrier->expected = expected, barrier->sum = 0, barrier->all = 1, barrier->any = 0;
}

static void release(Block *block, uint32_t number, int reduction) {
    Barrier *barrier = &block->barriers[number];
    uint32_t result = reduction == REDUCE_POPC ? barrier->sum : reduction == REDUCE_AND ? barrier->all : barrier->any;
    barrier->arrived = 0, m.events++;
    for (uint32_t i = 0; i < block->threads; i++) {
        Fiber *fiber = block->fibers[i];
        if (fiber->state == AT_BARRIER && fiber->barrier == number) fiber->state = READY, fiber->value = result;
    }
}

PUBLIC uint32_t standin_barrier(Thread *t, int line, uint32_t number, uint32_t count, int reduction, uint32_t value) {
    Fiber *fiber = (Fiber *)t;
    Block *block = fiber->block;
    reach(fiber, line, number, count);
    Barrier *barrier = &block->barriers[number];
    barrier->sum += value != 0, barrier->all &= value != 0, barrier->any |= value != 0;
    fiber->state = AT_BARRIER, fiber->barrier = number;
    Fiber *other = other_line(block, fiber);
    if (other) standin_fault(t, line, FAULT_LAUNCH, "its warp is divided: thread %u waits at the barrier of line %d", other->t.number, LINE(other->line));
    if (barrier->arrived == barrier->expected) release(block, number, reduction);
    pause_fiber(fiber, fiber->state, line);
    return fiber->value;
}

PUBLIC void standin_arrive(Thread *t, int line, uint32_t number, uint32_t count) {
    Fiber *fiber = (Fiber *)t;
    reach(fiber, line, number, count);
    if (fiber->block->barriers[number].arrived == fiber->block->barriers[number].expected) release(fiber->block, number, REDUCE_NONE);
}

PUBLIC int standin_is_cooperative(Thread *t) {
    (void)t;
    return m.grid->cooperative;
}

PUBLIC void standin_grid(Thread *t, int line) {
    Fiber *fiber = (Fiber *)t;
    if (!m.grid->cooperative) standin_fault(t, line, FAULT_LAUNCH, "the grid cannot meet: the launch is not cooperative");
    m.at_grid++;
    pause_fiber(fiber, AT_GRID, line);
}

PUBLIC void standin_yield(Thread *t, int line) { pause_fiber((Fiber *)t, YIELDED, line); }
PUBLIC uint64_t standin_clock(void) { return m.clock += 100; }

/* ---- asynchronous copies: nothing arrives before it is waited for ---- */

PUBLIC void standin_copy(Thread *t, int line, uint64_t shared, uint64_t global, uint32_t size, uint32_t source_size) {
    Fiber *fiber = (Fiber *)t;
    if ((size != 4 && size != 8 && size != 16) || source_size > size) standin_fault(t, line, FAULT_LAUNCH, "a copy of %u bytes", size);
    if (WINDOW_OF(shared) == SHARED_WINDOW) shared -= SHARED_WINDOW;
    shared_at(t, shared, size, line);
    if (source_size) global_at(t, global, source_size == size ? size : 1, line);
    if (fiber->copies == COPIES) standin_fault(t, line, FAULT_LAUNCH, "more than %d copies on their way: raise COPIES", COPIES);
    fiber->copy[fiber->copies++] = (Copy){shared, global, size, source_size, fiber->group};
}

PUBLIC void standin_commit(Thread *t) { ((Fiber *)t)->group++; }

PUBLIC void standin_wait(Thread *t, int line, uint32_t left, int all) {
    Fiber *fiber = (Fiber *)t;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < fiber->copies; i++) {
        Copy *copy = &fiber->copy[i];
        if (!all && copy->group + left >= fiber->group) {
            fiber->copy[kept++] = *copy;
            continue;
        }
        uint8_t *to = shared_at(t, copy->shared, copy->size, line);
        if (copy->source_size) memcpy(to, global_at(t, copy->global, 1, line), copy->source_size);
        memset(to + copy->source_size, 0, copy->size - copy->source_size);
    }
    fiber->copies = kept;
}

/* ---- a warp together ---- */

static void shuffle(Fiber **lanes, uint32_t mask) {
    uint32_t values[WARP], sources[WARP];
    for (uint32_t lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        uint32_t *e = lanes[lane]->t.exchange, b = e[1] & 31, c = e[2] & 31, segment = e[2] >> 8 & 31, j, good;
        uint32_t least = lane & segment, most = least | (c & ~segment);
        if (e[3] == SHUFFLE_UP) j = lane - b, good = (int32_t)j >= (int32_t)most;
        else if (e[3] == SHUFFLE_DOWN) j = lane + b, good = j <= most;
        else if (e[3] == SHUFFLE_BUTTERFLY) j = lane ^ b, good = j <= most;
        else j = least | (b & ~segment), good = j <= most;
        sources[lane] = good ? j : lane, values[lane] = good;
    }
    uint32_t taken[WARP];
    for (uint32_t lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        if (!(mask >> sources[lane] & 1))
            standin_fault(&lanes[lane]->t, lanes[lane]->line, FAULT_LAUNCH, "lane %u reads of lane %u, which takes no part", lane, sources[lane]);
        taken[lane] = lanes[sources[lane]]->t.exchange[0];
    }
    for (uint32_t lane = 0; lane < WARP; lane++)
        if (mask >> lane & 1) lanes[lane]->t.exchange[0] = taken[lane], lanes[lane]->t.exchange[1] = values[lane];
}

static void vote(Fiber **lanes, uint32_t mask) {
    uint32_t ballot = 0;
    for (uint32_t lane = 0; lane < WARP; lane++)
        if (mask >> lane & 1 && lanes[lane]->t.exchange[0]) ballot |= 1u << lane;
    for (uint32_t lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        uint32_t *e = lanes[lane]->t.exchange;
        e[0] = e[1] == VOTE_ALL ? ballot == mask : e[1] == VOTE_ANY ? ballot != 0 : e[1] == VOTE_UNI ? !ballot || ballot == mask : ballot;
    }
}

/* The tensor core takes the upper 19 bits of what it is given; sums are exact here, and rounded once. */
static void multiply_tf32(Fiber **lanes) {
    double a[16][8], b[8][8];
    for (int lane = 0; lane < WARP; lane++) {
        const uint32_t *e = lanes[lane]->t.exchange;
        int group = lane / 4, part = lane % 4;
        for (int i = 0; i < 4; i++) a[group + 8 * (i % 2)][part + 4 * (i / 2)] = float_of(e[i] & 0xFFFFE000u);
        for (int i = 0; i < 2; i++) b[part + 4 * i][group] = float_of(e[4 + i] & 0xFFFFE000u);
    }
    for (int lane = 0; lane < WARP; lane++)
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
            double sum = 0;
            for (int k = 0; k < 8; k++) sum += a[row][k] * b[k][column];
            uint32_t *c = &lanes[lane]->t.exchange[6 + i];
            *c = bits_of((float)(sum + float_of(*c)));
        }
}

PUBLIC uint32_t standin_active(Thread *t) {
    (void)t;
    return 1u << t->lane; /* threads run one by one, and PTX promises no more */
}

PUBLIC void standin_warp(Thread *t, int line, int kind, uint32_t mask) {
    Fiber *fiber = (Fiber *)t, **lanes = fiber->block->fibers + t->warp * WARP;
    uint32_t count = fiber->block->threads - t->warp * WARP, here = 0;
    fiber->state = AT_WARP, fiber->line = line, fiber->kind = kind, fiber->mask = mask;
    if (count < WARP && kind == WARP_MMA_TF32) standin_fault(t, line, FAULT_LAUNCH, "the warp has only %u threads", count);
    if (!(mask >> t->lane & 1)) standin_fault(t, line, FAULT_LAUNCH, "lane %u is not in its own mask 0x%08x", t->lane, mask);
    for (uint32_t lane = 0; lane < WARP && lane < count; lane++) {
        Fiber *other = lanes[lane];
        if (!(mask >> lane & 1)) continue;
        if (other->state == DONE) standin_fault(t, line, FAULT_LAUNCH, "lane %u of the warp has left", lane);
        if (other->state == AT_WARP && (other->line != line || other->mask != mask))
            standin_fault(t, line, FAULT_LAUNCH, "the warp is divided: lane %u waits at line %d", lane, LINE(other->line));
        here |= (uint32_t)(other->state == AT_WARP) << lane;
    }
    if (count < WARP) mask &= (1u << count) - 1;
    if (here == mask) {
        if (kind == WARP_SHUFFLE) shuffle(lanes, mask);
        if (kind == WARP_VOTE) vote(lanes, mask);
        if (kind == WARP_MMA_TF32) multiply_tf32(lanes);
        m.events++;
        for (uint32_t lane = 0; lane < WARP; lane++)
            if (mask >> lane & 1) lanes[lane]->state = READY;
    }
    pause_fiber(fiber, fiber->state, line);
}

/* ---- the grid ---- */

static int run_block(Block *block, uint32_t *places) {
    int ran = 0, again = 1;
    while (again) {
        again = 0;
        arrange(places, block->threads);
        for (uint32_t i = 0; i < block->threads; i++) {
            Fiber *fiber = block->fibers[places[i]];
            if (fiber->state != READY) continue;
            resume(fiber);
            ran = again = 1;
        }
        if (m.order == SHUFFLED && draw(2)) break;
    }
    for (uint32_t i = 0; i < block->threads; i++)
        if (block->fibers[i]->state == YIELDED) block->fibers[i]->state = READY, ran = 1;
    return ran;
}

static _Noreturn void stuck(const char *what) {
    Fiber *first = NULL, *other = NULL;
    for (uint32_t b = 0; b < m.resident; b++)
        for (uint32_t i = 0; m.blocks[b].active && i < m.blocks[b].threads; i++) {
            Fiber *fiber = m.blocks[b].fibers[i];
            if (!first && fiber->state != DONE) first = fiber;
            if (first && !other && (fiber->state != first->state || fiber->line != first->line)) other = fiber;
        }
    m.current = first;
    if (other) {
        fprintf(stderr, "stand-in: the other ");
        say(other);
        fprintf(stderr, " %s\n", STATES[other->state]);
    }
    standin_fault(&first->t, first->line, FAULT_LAUNCH, "%s: this thread %s, and nothing can go on", what, STATES[first->state]);
}

static uint32_t block_number(const uint32_t *order) { return order[m.started++]; }

static void run_all(void) {
    uint32_t threads = m.blocks[0].threads, idle = 0, before;
    uint32_t *numbers = malloc(m.total * sizeof *numbers), *slots = malloc(m.resident * sizeof *slots), *places = malloc(threads * sizeof *places);
    arrange(numbers, m.total);
    while (m.finished < m.total) {
        int ran = 0;
        before = m.events;
        arrange(slots, m.resident);
        for (uint32_t i = 0; i < m.resident; i++) {
            Block *block = &m.blocks[slots[i]];
            if (!block->active && m.started < m.total) begin_block(block, block_number(numbers));
            if (!block->active) continue;
            ran |= run_block(block, places);
            if (block->left == threads) block->active = 0, m.finished++, ran = 1;
        }
        if (m.at_grid == m.total * threads) {
            m.at_grid = 0, m.events++, ran = 1;
            for (uint32_t b = 0; b < m.resident; b++)
                for (uint32_t i = 0; i < threads; i++) m.blocks[b].fibers[i]->state = READY;
        }
        idle = m.events == before ? idle + 1 : 0;
        if (!ran) stuck("not all threads came");
        if (idle > PATIENCE) stuck("threads ask for what never comes");
    }
    free(numbers), free(slots), free(places);
}

PUBLIC int machine_run(const Grid *grid, uint32_t resident) {
    uint32_t threads = grid->block[0] * grid->block[1] * grid->block[2], needed;
    m.total = grid->grid[0] * grid->grid[1] * grid->grid[2];
    m.resident = resident < m.total ? resident : m.total;
    m.grid = grid, m.started = m.finished = m.at_grid = m.events = 0, m.fault = -1;
    if (!m.random) m.random = 1;
    needed = m.resident * threads;
    if (needed > pool_size) {
        pool = realloc(pool, needed * sizeof *pool);
        while (pool_size < needed) pool[pool_size++] = new_fiber();
    }
    m.blocks = calloc(m.resident, sizeof *m.blocks);
    for (uint32_t b = 0; b < m.resident; b++) {
        Block *block = &m.blocks[b];
        block->fibers = pool + b * threads, block->threads = threads;
        block->shared = aligned_alloc(128, (grid->kernel->static_shared + grid->dynamic_shared + 255u) / 128 * 128);
        block->local = aligned_alloc(128, ((size_t)grid->kernel->local_bytes * threads + 255) / 128 * 128);
    }
    if (_setjmp(m.failed))
        for (uint32_t i = 0; i < pool_size; i++) pool[i]->begun = 0;
    else
        run_all();
    for (uint32_t b = 0; b < m.resident; b++) free(m.blocks[b].shared), free(m.blocks[b].local);
    free(m.blocks);
    return m.fault;
}
