"""Many groups of batches in native code, by one thread or by several that meet at a barrier.

What is said here is who runs which batch, when the workers wait for each other, and what they do between batches. How one
batch runs, and what is kept of it, is in batches.pyx; how gradients become an update, in reduction.pyx.

How a group travels (any number of workers >= 1):
 1. Each worker claims slots of the group, first those that it had in the group before, then any that are left, and runs each
    slot's batch on its replica. The gradient is written to the slot's vector, loss and status to the batch's row of the
    results. Large matrix products whose results are gradients may be left to step 3 (see reduction.pyx).
 2. The workers wait for each other. The one that arrives last decides which slots count, and whether there is an update.
 3. Each worker averages its slice of the slots' vectors, in a fixed binary tree of weighted means, and updates its slice of
    the parameters. If the optimizer must see the whole gradient first (its norm), the mean is written, the workers wait for
    each other once more, and only then update (see update.pyx). So they do if the mean is to be exchanged with other trainers'
    (`exchange`): the last one that arrives takes the GIL and calls that meanwhile.
 4. The workers wait for each other again. The one that arrives last opens the next group, or ends the run.

When other processes use the CPUs and groups are short, waiting for each other takes longer than the work that is shared. Then
the worker that arrives last in step 4 runs the next groups alone, for some milliseconds, while the others go on waiting
(td_look in sync.h decides that). The first worker to enter a run also begins alone if the last run ended that way.
Plans with Python layers never do this: how long they take says nothing of the CPUs.

In a free run workers never wait: each one claims a batch, runs it, and updates the parameters at once.

Of each group this process may have a share of the batches, and others the rest (`shares`; parallel/ranks.py): then it runs those
alone, `exchange` writes what came of the others' into the results, and only then it is decided whether too many have failed.

Neither which worker runs which slot nor which one arrives last changes any bit: the slots, the tree and the arithmetic of
each element are the same. A cancelled group makes no update; its batches are run again by the next run.
"""
import numpy as np

from libc.math cimport NAN, sqrt
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free

from tinydl._kernels.engine.batches cimport (
    BUSY, GIVEN_UP, IDLE, IN_UPDATE, N_LIVE, SINCE, STATE, UPDATED, WAITED, WAITING, Batches, steps,
)
from tinydl._kernels.engine.gil cimport enter_python, leave_python
from tinydl._kernels.engine.program cimport Program, outlive, pointer
from tinydl._kernels.engine.reduction cimport DEFERRED_SLOTS, NEAR, Reduction
from tinydl._kernels.engine.replica cimport Replica
from tinydl._kernels.engine.sync cimport (
    td_add, td_alone, td_barrier, td_barrier_abort, td_barrier_arrive, td_barrier_init, td_barrier_open, td_barrier_turn,
    td_barrier_wait, td_cas, td_clock, td_get, td_look, td_set,
)
from tinydl._kernels.engine.update cimport Update
from tinydl._kernels.td cimport TD_CANCELLED, TD_OK

cdef enum:
    MAX_SLOTS = 1024
    LINE = 8            # a cache line of int64
    COLLECTING = 0      # values of NativeRun.phase
    UPDATING = 1
    ABANDONED = 2

ALONE = sizeof(td_alone) // sizeof(int64_t)     # numbers in NativeRun's `alone`


def clock():
    """Nanoseconds of the clock that the times of `live` are of. (time.monotonic_ns is another one on some systems.)"""
    return td_clock()


def look(alone, int64_t now, int64_t took):
    """Call td_look (sync.h) as the last worker of a run does after a group that took `took` nanoseconds. It may write
    into `alone` that one worker is to go on alone from the time `now` on. For tests."""
    td_look(<td_alone *>pointer(alone), now, took)


cdef class NativeRun(Batches):
    """Groups of batches in native code. Create, let every worker call `work(i)`, read the results.

    replicas: one per worker; slots: one gradient vector for each batch of a group, overwritten by the update; or fewer, a power
    of two, and in `kept` for k times as many batches as slots log2(k) more, rounded up (see reduction.pyx); order,
    bounds: batch b is samples order[bounds[b]:bounds[b + 1]] (order None: bounds count rows of x); groups: group g is
    batches groups[g]..groups[g + 1] - 1 (None: as many as there are slots). free: no groups; a slot a worker.
    losses, weights (what each loss weighs in a mean: samples, or the sum of the weights that counted), statuses, workers,
    attempts: a row per batch, filled as batches end. first_step: random key of group 0;
    t: updates made so far. alone: an array of ALONE int64, zeros at first, that the caller passes to one run after the
    other: with it, one worker may go on alone while other processes use the CPUs; None: workers always wait for each other.
    shares: of group g only batches shares[g, 0]..shares[g, 1] - 1 are run here, which may be none (None: all); the others are run
    by other processes. exchange(vector, weight): is called with the mean of a share and its weight before the update; it
    overwrites it with the group's, returns that one's weight, and writes the results of the others' batches
    (parallel/execution/shared_groups.py). What it raises is `error`, and the run ends without the update.
    max_retries: times that a failed batch is run again. max_failed: when more batches than this have failed, the group under
    way makes no update and the run ends (`fatal`). given_up: {batch: exception} of batches that are not to be run. live: a
    row per worker: state (0 idle, 1 in a batch, 2 waiting, 3 in an update), batch, since when (nanoseconds of the
    clock), and nanoseconds spent so far in batches, waiting, and in updates; any thread may read it at any time.
    """
    cdef readonly list replicas, slots
    cdef readonly object groups, shares
    cdef readonly object norms          # of the averaged gradient, for each group; NaN if it was not asked for
    cdef readonly int64_t n_groups, k
    cdef readonly bint free, fatal
    cdef Update update
    cdef Reduction reduction
    cdef void **replica
    cdef const int64_t *start           # of each group
    cdef const int64_t *share           # of each group, where they begin and end; NULL: all of it
    cdef double *norm
    cdef int64_t *claimed               # by slot, a cache line each: `opened` when a worker last took it
    cdef int64_t group, ticket, stop, pause_wanted, t, first_step, deadline, decision
    cdef int64_t phase                  # of the group: COLLECTING, UPDATING, or ABANDONED for good
    cdef int64_t begin, end             # batches of the group under way, or of its block
    cdef int64_t opened                 # groups and blocks so far
    cdef int64_t failed, max_failed
    cdef object exchange
    cdef readonly object error          # what `exchange` raised
    cdef double exchanged_squares, exchanged_scale      # of the gradient that it left
    cdef td_barrier meet, gathered, part_done
    cdef int64_t met                    # when the last group ended, if all workers took part in it; else 0
    cdef int64_t came                   # workers that have begun
    cdef object alone                   # None, or what `meeting` points into
    cdef td_alone *meeting              # until when one worker goes on alone; NULL where the workers always meet
    cdef bint may_defer                 # late products may be made in the update: each slot has a replica of its own, whose
                                        # workspace still holds the operands then

    def __cinit__(self, list replicas, list slots, list sources, order, bounds, Update update, *,
                  groups=None, int64_t t=0, int64_t first_step=0, uint64_t seed=0, int spins=0, bint free=False,
                  int max_retries=0, int64_t max_failed=2**62, given_up=None, alone=None, exchange=None, list kept=[],
                  shares=None):
        cdef int i
        cdef Program program
        cdef int64_t room
        if alone is not None and (alone.dtype != np.int64 or alone.shape != (ALONE,)):
            raise ValueError(f"alone: {alone.dtype} {alone.shape}; must be int64 ({ALONE},)")
        if not replicas or not slots or len(slots) > MAX_SLOTS:
            raise ValueError(f"{len(replicas)} replicas and {len(slots)} slots; both must be 1 to {MAX_SLOTS}")
        self.replicas, self.slots, self.update, self.k = replicas, slots, update, len(slots)
        program = (<Replica?>replicas[0]).program
        self.hold(sources, order, bounds, program, len(replicas), given_up)
        self.seed, self.max_retries, self.lead = seed, max_retries, self.k
        if free:
            groups = np.arange(self.n_batches + 1)
        elif groups is None:
            groups = np.minimum(np.arange((self.n_batches + self.k - 1) // self.k + 1) * self.k, self.n_batches)
        self.groups = np.ascontiguousarray(groups, np.int64)
        self.n_groups = len(self.groups) - 1
        self.start = <const int64_t *>pointer(self.groups)
        least, most = steps(self.start, self.n_groups)
        room = self.k << len(kept) if self.k & (self.k - 1) == 0 else self.k
        if self.start[0] != 0 or self.start[self.n_groups] != self.n_batches or (
                self.n_groups and not 1 <= least <= most <= room):
            raise ValueError(f"groups must be 1 to {room} batches each, {self.n_batches} in all; got {self.groups}")
        self.shares = None if shares is None else np.ascontiguousarray(shares, np.int64)
        if (shares is None) != (exchange is None) or shares is not None and (free or self.shares.shape != (self.n_groups, 2) or not (
                (self.groups[:self.n_groups] <= self.shares[:, 0]) & (self.shares[:, 0] <= self.shares[:, 1])
                & (self.shares[:, 1] <= self.groups[1:])).all()):
            raise ValueError("shares: of each group some batches, and what `exchange` makes of these and the others")
        self.share = <const int64_t *>pointer(self.shares) if shares is not None and self.n_groups else NULL
        if free and self.k < self.n_workers:
            raise ValueError(f"a free run of {self.n_workers} workers needs a slot for each; got {self.k}")
        self.norms = np.full(self.n_groups, np.nan)
        self.norm = <double *>pointer(self.norms)
        self.t, self.first_step, self.free, self.max_failed = t, first_step, free, max_failed
        self.replica = <void **>calloc(self.n_workers, sizeof(void *))
        self.claimed = <int64_t *>calloc(self.k * LINE, sizeof(int64_t))
        if self.replica == NULL or self.claimed == NULL:
            raise MemoryError
        for i in range(self.k):
            self.claimed[i * LINE] = -1
        for i in range(self.n_workers):
            self.replica[i] = <void *><Replica?>replicas[i]
        self.exchange = exchange
        self.reduction = Reduction(update, slots, self.n_workers, program, kept, exchange is not None, not free, t + 1)
        update.check(t, self.n_groups)
        self.may_defer = (program.n_late > 0 and not free and not update.staged and exchange is None and self.n_workers > 1
                          and most <= min(self.n_workers, DEFERRED_SLOTS) and all(r.program is program for r in replicas))
        for replica in replicas:
            replica.cancel(False)
        td_barrier_init(&self.meet, self.n_workers, spins)
        td_barrier_init(&self.gathered, self.n_workers, spins)
        td_barrier_init(&self.part_done, self.n_workers, spins)
        self.alone = alone
        self.meeting = <td_alone *>pointer(alone) if (
            alone is not None and self.n_workers > 1 and not program.hooks and exchange is None and not kept) else NULL
        self.open_group(0)

    def __dealloc__(self):
        free(self.replica)
        free(self.claimed)

    # ------------------------------------------------------------------ from any thread
    @property
    def next_group(self):
        """Groups finished so far: the number of the next one."""
        return min(td_get(&self.ticket), self.n_batches) if self.free else td_get(&self.group)

    @property
    def updates(self):
        """Updates made so far, those before this run included."""
        return td_get(&self.t)

    @property
    def finished(self):
        return self.next_group >= self.n_groups

    def pause(self):
        """End after the group under way."""
        td_set(&self.pause_wanted, 1)

    def cancel(self):
        """End now, at the next operation of each worker; the group under way makes no update."""
        td_set(&self.pause_wanted, 1)
        for replica in self.replicas:
            replica.cancel()

    def abandon(self):
        """Give up on workers that do not arrive: the others stop waiting for them, and none can make an update any more.

        False if all of them have arrived meanwhile: then the update is under way and the group ends by itself.
        """
        if not td_cas(&self.phase, COLLECTING, ABANDONED):
            return False
        self.cancel()
        td_set(&self.stop, 1)
        td_barrier_abort(&self.meet)
        td_barrier_abort(&self.part_done)
        return True

    # ------------------------------------------------------------------ the workers
    cdef void open_group(self, int64_t group) noexcept nogil:
        if group >= self.n_groups:
            td_set(&self.stop, 1)
        else:
            self.open_block(self.first_of(group), group)
        td_set(&self.group, group)

    cdef void open_block(self, int64_t begin, int64_t group) noexcept nogil:
        """The batches from `begin` on: all that are left of the group, or as many as there are slots."""
        self.begin, self.end = begin, min(begin + self.k, self.end_of(group))
        self.opened += 1

    cdef int64_t first_of(self, int64_t group) noexcept nogil:
        """The first of this process's batches of a group."""
        return self.start[group] if self.share == NULL else self.share[2 * group]

    cdef int64_t end_of(self, int64_t group) noexcept nogil:
        """The one behind its last."""
        return self.start[group + 1] if self.share == NULL else self.share[2 * group + 1]

    def work(self, int worker, double seconds=0.0):
        """Do the work of worker number `worker` of n_workers; return when the run ends, or after about `seconds` (0: no
        limit). With a limit, signals are handled meanwhile: if a handler raises, the batch under way is cancelled and the
        exception comes out of this call."""
        cdef Replica replica = <Replica>self.replica[worker]
        if self.n_workers == 1 and not self.finished:
            td_set(&self.stop, 0)
        if seconds:
            self.deadline = td_clock() + <int64_t>(seconds * 1e9)
        replica.poll, replica.polled = seconds > 0, td_clock()
        with nogil:
            leave_python()
            if self.free:
                self.free_loop(worker, replica)
            else:
                self.loop(worker, replica)
            self.live_at[worker * N_LIVE + STATE] = IDLE
            enter_python(self.n_workers == 1)
        replica.raise_signal()

    cdef void loop(self, int w, Replica replica) noexcept nogil:
        cdef int32_t turn
        cdef double scale
        cdef int64_t *live = self.live_at + w * N_LIVE
        cdef int64_t now = td_clock()
        live[SINCE] = now
        if self.meeting != NULL:
            if td_add(&self.came, 1):
                td_barrier_wait(&self.part_done, 0)
            else:
                self.go_on_alone(w, replica, now)
                td_barrier_open(&self.part_done)
            now = td_clock()
        while not td_get(&self.stop):
            turn = td_barrier_turn(&self.meet)
            replica.left = -1
            now = self.run_slots(w, replica, now)
            live[STATE] = WAITING
            if td_barrier_arrive(&self.meet):
                if not td_cas(&self.phase, COLLECTING, UPDATING):
                    return
                self.decide()
                td_barrier_open(&self.meet)
            elif not td_barrier_wait(&self.meet, turn):
                return
            if self.n_workers > 1:
                now = self.spent(live, WAITED, now)
            turn = td_barrier_turn(&self.part_done)
            live[STATE] = IN_UPDATE
            scale = 1
            if self.in_blocks() and self.decision >= 0 and not self.keep(w, replica):
                return
            if self.ends_group() and (self.decision > 0 or (self.reduction.exchanges and self.decision == 0)):
                if self.update.staged or self.reduction.exchanges:
                    if not self.gather(w, replica):
                        return
                    if self.reduction.exchanges:
                        now = self.spent(live, WAITED, now)
                    scale = self.exchanged_scale if self.reduction.exchanges else self.update.scale(self.reduction.total())
                if scale >= 0:
                    self.reduction.run(w, self.t + 1, scale, <char *>replica.ctx.scratch)
            now = self.spent(live, UPDATED, now)
            live[STATE] = WAITING
            if td_barrier_arrive(&self.part_done):
                self.advance(now, scale)
                td_set(&self.phase, COLLECTING)
                if self.meeting != NULL and self.met:
                    td_look(self.meeting, now, now - self.met)
                self.met = now
                self.go_on_alone(w, replica, now)
                td_barrier_open(&self.part_done)
            elif not td_barrier_wait(&self.part_done, turn):
                return
            if self.n_workers > 1:
                now = self.spent(live, WAITED, now)

    cdef bint in_blocks(self) noexcept nogil:
        """Whether the group under way is run in several blocks."""
        return self.end_of(self.group) - self.first_of(self.group) > self.k

    cdef bint ends_group(self) noexcept nogil:
        """Whether the batches under way are the last of their group."""
        return self.end == self.end_of(self.group)

    cdef bint keep(self, int w, Replica r) noexcept nogil:
        """This worker's part of the mean of a block, then wait for the others'. False where the run is over."""
        cdef int32_t turn = td_barrier_turn(&self.gathered)
        self.reduction.keep(w, self.ends_group(), <char *>r.ctx.scratch)
        if td_barrier_arrive(&self.gathered):
            self.reduction.note_kept(self.ends_group())
            if self.ends_group():
                self.decision = self.reduction.arrived[0] > 0
            td_barrier_open(&self.gathered)
            return True
        return td_barrier_wait(&self.gathered, turn)

    cdef bint gather(self, int w, Replica r) noexcept nogil:
        """This worker's part of the averaged gradient, then wait for the others'. False where the run is over."""
        cdef int32_t turn = td_barrier_turn(&self.gathered)
        if self.decision > 0:
            self.reduction.gather(w, <char *>r.ctx.scratch)
        if td_barrier_arrive(&self.gathered):
            if self.reduction.exchanges:
                self.call_exchange(<char *>r.ctx.scratch)
            td_barrier_open(&self.gathered)
            return True
        return td_barrier_wait(&self.gathered, turn)

    cdef void call_exchange(self, char *scratch) noexcept nogil:
        """Exchange the averaged gradient, which all workers have gathered, and do to the result what stages do."""
        cdef double weight = self.reduction.gather_statistics(scratch)
        outlive()
        with gil:
            weight = self.weight_of_all(self.slots[self.reduction.home], weight)
        self.exchanged_squares, self.exchanged_scale = NAN, -1
        if weight >= 0 and not self.all_count():
            weight = -1
        if weight < 0:
            self.decision = -1
        elif weight > 0:
            self.exchanged_squares = self.update.stages(self.reduction.slot[self.reduction.home]) if self.update.staged else 0
            self.exchanged_scale = self.update.scale(self.exchanged_squares)

    cdef bint all_count(self) noexcept nogil:
        """Count the batches of the group that others have run, and those that have failed; False if they are too many."""
        cdef int64_t b, failed = 0
        for b in range(self.start[self.group], self.start[self.group + 1]):
            if self.status[b] != TD_OK:
                failed += 1
            elif not self.first_of(self.group) <= b < self.end_of(self.group):
                td_add(&self.samples, self.bound[b + 1] - self.bound[b])
        self.fatal = failed > 0 and self.failed + failed > self.max_failed
        self.failed += 0 if self.fatal else failed
        return not self.fatal

    cdef double weight_of_all(self, vector, double weight) noexcept:
        """What `exchange` returns; -1 where it raises."""
        try:
            return self.exchange(vector, weight)
        except BaseException as e:
            self.error, self.interrupted = e, self.interrupted or isinstance(e, KeyboardInterrupt)
            return -1

    cdef void go_on_alone(self, int w, Replica r, int64_t now) noexcept nogil:
        """Worker w runs groups alone, also the other workers' slices of their updates, as long as that is expected to be
        faster. The other workers wait meanwhile."""
        cdef int i
        cdef double scale
        while self.meeting != NULL and now < self.meeting.until and not td_get(&self.stop):
            r.left, self.met = -1, 0
            now = self.run_slots(w, r, now)
            if not td_cas(&self.phase, COLLECTING, UPDATING):
                return
            self.decide()
            self.live_at[w * N_LIVE + STATE] = IN_UPDATE
            scale = 1
            if self.decision > 0:
                if self.update.staged:
                    for i in range(self.n_workers):
                        self.reduction.gather(i, <char *>r.ctx.scratch)
                    scale = self.update.scale(self.reduction.total())
                if scale >= 0:
                    for i in range(self.n_workers):
                        self.reduction.run(i, self.t + 1, scale, <char *>r.ctx.scratch)
            now = self.spent(self.live_at + w * N_LIVE, UPDATED, now)
            self.advance(now, scale)
            td_set(&self.phase, COLLECTING)

    cdef void free_loop(self, int w, Replica replica) noexcept nogil:
        """Run one batch after the other and update all parameters after each, without regard to the other workers, which do
        the same (Recht et al. 2011)."""
        cdef int64_t *live = self.live_at + w * N_LIVE
        cdef int64_t b, now = td_clock()
        cdef char *g = self.reduction.slot[w]
        cdef double squares, scale
        replica.ctx.own.bytes, replica.ctx.marks = 0, NULL
        while not td_get(&self.stop):
            b = td_add(&self.ticket, 1)
            if b >= self.n_batches:
                return
            if self.status[b] != GIVEN_UP:
                now = self.run_batch(w, replica, b, g, self.first_step + b, False, now)
            if td_get(&self.phase) == ABANDONED:
                return
            live[STATE] = IN_UPDATE
            if self.status[b] == TD_OK and self.weight[b] == 0:
                pass                    # nothing in it counts
            elif self.status[b] == TD_OK:
                squares = self.update.stages(g) if self.update.staged else 0
                scale = self.update.scale(squares)
                if self.update.clip_norm >= 0:
                    self.norm[b] = sqrt(squares)
                if scale >= 0:
                    self.update.by(g, 0, self.update.n, scale, td_add(&self.t, 1) + 1)
                    self.update.running(g + self.update.n * self.update.k.itemsize, 0, self.update.n_statistics)
            elif self.status[b] != TD_CANCELLED and td_add(&self.failed, 1) >= self.max_failed:
                self.fatal = True
                td_set(&self.stop, 1)
            now = self.spent(live, UPDATED, now)
            td_add(&self.group, 1)
            if td_get(&self.pause_wanted) or self.status[b] == TD_CANCELLED or (self.deadline and now > self.deadline):
                td_set(&self.stop, 1)

    cdef int64_t run_slots(self, int w, Replica r, int64_t now) noexcept nogil:
        """Run the slots of the group under way that this worker can claim; returns the time. It tries every n_workers-th
        slot first, whose vectors it has in its caches from the groups before, then all that others have not claimed yet."""
        cdef int64_t s = w, k = self.end - self.begin
        while s < k:
            if self.claim(s):
                now = self.run_slot(w, r, s, now)
            s += self.n_workers
        for s in range(k):
            if self.claim(s):
                now = self.run_slot(w, r, s, now)
        return now

    cdef bint claim(self, int64_t s) noexcept nogil:
        """Try to take slot s of the group under way; whether that worked, and the caller is to run it."""
        cdef int64_t *taken = self.claimed + s * LINE
        cdef int64_t before = td_get(taken)
        return before < self.opened and td_cas(taken, before, self.opened)

    cdef int64_t run_slot(self, int w, Replica r, int64_t s, int64_t now) noexcept nogil:
        """Run the batch of slot s of the group under way; returns the time."""
        cdef int64_t b = self.begin + s
        if self.may_defer:
            self.reduction.by[s] = NULL
        if self.status[b] == GIVEN_UP:
            return now
        if r.left >= 0:
            now = self.settle(r, self.live_at + w * N_LIVE, now)
        self.own_slice(w, r, b)
        r.ctx.marks = self.reduction.marks_of(s)
        now = self.run_batch(w, r, b, self.reduction.slot[s], self.first_step + self.group,
                             self.may_defer and r.events == NULL, now)
        if self.status[b] == TD_OK and r.deferred:
            r.left = s
            self.reduction.by[s] = &r.ctx
        return now

    cdef int64_t settle(self, Replica r, int64_t *live, int64_t now) noexcept nogil:
        """Make the late products that replica r has deferred for a slot of this group, since its workspace, which holds their
        operands, is about to be used for another slot. Returns the time."""
        live[STATE] = IN_UPDATE
        r.run_late()
        if r.stopped:
            self.status[self.begin + r.left] = TD_CANCELLED
        self.reduction.by[r.left] = NULL
        r.left = -1
        return self.spent(live, BUSY, now)

    cdef void own_slice(self, int w, Replica r, int64_t b) noexcept nogil:
        """If b is this worker's last batch before the update, let its last product prefetch the parameters that the worker
        will update."""
        cdef int64_t lo, hi, size = self.update.k.itemsize
        self.reduction.slice(w, self.update.n, &lo, &hi)
        r.ctx.own.at, r.ctx.own.bytes = self.update.params_at + lo * size, (hi - lo) * size
        if self.n_workers == 1 or b + self.n_workers < self.end or r.ctx.own.bytes > NEAR:
            r.ctx.own.bytes = 0

    cdef void decide(self) noexcept nogil:
        """Set `decision`: the number of slots that arrived and count (with 0 there is no update), or -1: the group makes no
        update and the run ends."""
        cdef int64_t b, failed = 0
        self.decision = 0
        for b in range(self.begin, self.end):
            self.reduction.arrive(b - self.begin, self.weight[b] if self.status[b] == TD_OK else 0)
            if self.status[b] == TD_CANCELLED:
                self.decision = -1
                return
            if self.status[b] == TD_OK:
                self.decision += self.weight[b] > 0
            else:
                failed += self.share == NULL    # else `all_count` counts it
        if failed and self.failed + failed > self.max_failed:
            self.fatal = True
            self.decision = -1
        else:
            self.failed += failed
        self.reduction.open(self.end - self.begin)

    cdef void advance(self, int64_t now, double scale) noexcept nogil:
        """The group is over, at the time `now`, and its update made, if there was one: open the next group. scale -1: its
        gradient was not finite, and no update was made."""
        if self.decision < 0:
            td_set(&self.stop, 1)
            return
        if not self.ends_group():
            self.open_block(self.end, self.group)
            return
        if self.decision > 0 or self.reduction.exchanges:
            if scale >= 0:
                td_add(&self.t, 1)
            if self.update.clip_norm >= 0:
                self.norm[self.group] = sqrt(self.exchanged_squares if self.reduction.exchanges else self.reduction.total())
        self.open_group(self.group + 1)
        if td_get(&self.pause_wanted) or (self.deadline and now > self.deadline):
            td_set(&self.stop, 1)
