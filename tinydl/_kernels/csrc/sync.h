/* sync.h: how the workers of one native run meet: a barrier that spins, then sleeps.
 *
 * Waking a sleeping thread costs 50-180 microseconds, spinning under 1; a training step takes 20 to
 * 400. So a waiter spins, longer than a waking takes, and then sleeps (system.h). A spin in vain means that something
 * else has the awaited one's CPU; where that comes often, spinning only costs the workers their turn at the scheduler's,
 * so after three such within about two hundred waits they sleep at once for 4 ms, then 8, up to 128, until spins pay again.
 * most: nanoseconds; 0 where there are more workers than CPUs: a spinning waiter would keep the awaited one out.
 */
#ifndef TD_SYNC_H
#define TD_SYNC_H
#include <stdint.h>
#include "system.h"

static inline int64_t td_add(int64_t *x, int64_t d) { return __atomic_fetch_add(x, d, __ATOMIC_ACQ_REL); }
static inline int64_t td_get(const int64_t *x) { return __atomic_load_n(x, __ATOMIC_ACQUIRE); }
static inline void td_set(int64_t *x, int64_t v) { __atomic_store_n(x, v, __ATOMIC_RELEASE); }

/* *x := to where it was `from`; whether it was */
static inline int td_cas(int64_t *x, int64_t from, int64_t to) {
    return __atomic_compare_exchange_n(x, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline void td_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

typedef struct { int32_t turn; int32_t arrived; int32_t sleepers; int32_t n; int32_t aborted; int32_t most; int32_t vain; int64_t pause, until; } td_barrier;
enum { TD_VAIN = 64, TD_PAUSE = 4000000 };

static inline void td_barrier_init(td_barrier *b, int n, int most) {
    b->turn = b->arrived = b->sleepers = b->aborted = b->vain = 0;
    b->n = n;
    b->most = most;
    b->pause = b->until = 0;
}
static inline void td_barrier_wake(td_barrier *b) {
    if (__atomic_load_n(&b->sleepers, __ATOMIC_SEQ_CST)) td_wake(&b->turn);
}
/* 1 to the last one, who then owns the moment and must call td_barrier_open; else 0 */
static inline int td_barrier_arrive(td_barrier *b) {
    return __atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == b->n;
}
static inline int32_t td_barrier_turn(const td_barrier *b) { return __atomic_load_n(&b->turn, __ATOMIC_ACQUIRE); }
static inline void td_barrier_open(td_barrier *b) {
    __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
    __atomic_add_fetch(&b->turn, 1, __ATOMIC_SEQ_CST);
    td_barrier_wake(b);
}
/* nobody waits here any more, now or later */
static inline void td_barrier_abort(td_barrier *b) {
    __atomic_store_n(&b->aborted, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&b->turn, 1, __ATOMIC_SEQ_CST);
    td_barrier_wake(b);
}
static inline void td_barrier_spin(td_barrier *b, int32_t turn) {
    const int64_t until = td_get(&b->until);
    if (!b->most || (until && td_clock() < until)) return;
    int came = 0, late = 0;
    int64_t start = 0;
    for (int i = 1; !came && !late; i++) {
        for (int j = 0; j < 64 && !came; j++) { td_relax(); came = td_barrier_turn(b) != turn; }
        if (came || i % 16) continue;
        if (!start) start = td_clock();
        td_yield();                     /* the awaited one may be on this very CPU */
        late = td_clock() - start > b->most;
    }
    int32_t vain = __atomic_load_n(&b->vain, __ATOMIC_RELAXED);
    if (!late) {
        if (vain) {
            __atomic_store_n(&b->vain, --vain, __ATOMIC_RELAXED);
            if (!vain) { td_set(&b->pause, 0); td_set(&b->until, 0); }
        }
        return;
    }
    vain += TD_VAIN;
    if (vain >= 3 * TD_VAIN) {
        const int64_t pause = 2 * td_get(&b->pause);
        td_set(&b->pause, pause < TD_PAUSE ? TD_PAUSE : pause > 32 * TD_PAUSE ? 32 * TD_PAUSE : pause);
        td_set(&b->until, td_clock() + td_get(&b->pause));
        vain = 2 * TD_VAIN;
    }
    __atomic_store_n(&b->vain, vain, __ATOMIC_RELAXED);
}
/* waits until the turn is no longer `turn`; 0 where the barrier was aborted */
static inline int td_barrier_wait(td_barrier *b, int32_t turn) {
    td_barrier_spin(b, turn);
    while (td_barrier_turn(b) == turn && !__atomic_load_n(&b->aborted, __ATOMIC_ACQUIRE)) {
        __atomic_add_fetch(&b->sleepers, 1, __ATOMIC_SEQ_CST);
        td_sleep(&b->turn, turn);
        __atomic_sub_fetch(&b->sleepers, 1, __ATOMIC_SEQ_CST);
    }
    return !__atomic_load_n(&b->aborted, __ATOMIC_ACQUIRE);
}

/* Whether it pays to meet. Where something else has the CPU of one worker, the others wait for the scheduler, for
 * milliseconds; in which one that goes on alone makes many groups, where those are short. Two processes of two threads on
 * two CPUs train 64-128-10 on batches of 32 (7 microseconds of work) 1.5 to 2.5 times as fast by this; what two processes of
 * one thread do is another 1.3 times that. */
typedef struct { int64_t usual, calm, length, until; } td_alone;      /* all 0 at first */
enum { TD_STALL = 300000, TD_CALM = 20000000, TD_ALONE = 16000000, TD_LONGEST = 128000000 };

/* For the last to come, at time `now`, after a group for which all have met and which took so many nanoseconds. After two
 * stalls within 20 ms of such groups one goes on alone for 16 ms, till a->until; after each further one that comes as soon
 * for twice as long, up to 128 ms. */
static inline void td_look(td_alone *a, int64_t now, int64_t took) {
    const int stalled = took > TD_STALL && took > 4 * a->usual;
    if (!a->usual) {
        a->usual = took;
        a->calm = TD_CALM;
    }
    a->usual += ((took < 4 * a->usual ? took : 4 * a->usual) - a->usual) / 16;
    if (!stalled) {
        a->calm += took;
        if (a->calm > TD_CALM) a->length = 0;
        return;
    }
    if (a->calm < TD_CALM) {
        a->length = !a->length ? TD_ALONE : 2 * a->length < TD_LONGEST ? 2 * a->length : TD_LONGEST;
        a->until = now + a->length;
    }
    a->calm = 0;
}
#endif
