/* turn.h: threads that come back from native code take the GIL in turns.
 *
 * A thread in its turn is in Python between two native calls, for 50 to 200 microseconds as a rule. `until` is when the turn
 * ends at the latest (td_clock), 0 where it is nobody's. Since it ends by itself nobody depends on a thread that sleeps, or is
 * gone; since nobody waits for long, nothing is lost where other threads have the GIL. */
#ifndef TD_TURN_H
#define TD_TURN_H
#include "sync.h"

/* nanoseconds. A waiter spins for a few times as long as a sleeper takes to be woken, and then naps. It goes on without a turn
 * when so many others have had theirs meanwhile that it has waited for a few of Python's switch intervals, of 5 ms; hardly ever,
 * since one that has no turn disturbs the others in theirs, which then take longer. */
enum { TD_TURN_SPIN = 300000, TD_TURN_WAIT = 20000000, TD_TURN_LASTS = 1000000 };

/* Waits until it is nobody's turn, for `wait` nanoseconds at most, and takes it for `lasts`. When the turn ends; 0: not taken. */
static inline int64_t td_turn_take(int64_t *until, int64_t wait, int64_t lasts) {
    const int64_t start = td_clock();
    int64_t now = start;
    for (int i = 1;; i++) {
        const int64_t taken = td_get(until);
        if (taken <= now && td_cas(until, taken, now + lasts)) return now + lasts;
        if (now - start > wait) return 0;
        if (now - start > TD_TURN_SPIN) td_nap();
        for (int j = 0; j < 16; j++) td_relax();
        if (i % 64 == 0) td_yield();            /* the one whose turn it is may be on this very CPU */
        now = td_clock();
    }
}

/* Gives the turn `mine` back. 1 where it had not ended by itself. */
static inline int td_turn_give(int64_t *until, int64_t mine) {
    return mine && td_cas(until, mine, 0) && td_clock() < mine;
}
#endif
