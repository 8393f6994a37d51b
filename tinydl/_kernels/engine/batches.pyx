"""The batches of a native run: where their rows are, how one of them runs on a replica, and what came of each.

Nothing here knows of groups, slots or updates, and no worker waits for another: that is native_run.pyx, whose NativeRun is a
Batches too. Any number of workers may run batches at the same time, each batch by one of them.
"""
import numpy as np

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memset

from tinydl._kernels.engine.program import aligned
from tinydl._kernels.frames import forget_frames

from tinydl._kernels.engine.program cimport Program, Source, outlive, pointer
from tinydl._kernels.engine.replica cimport POLL, Replica
from tinydl._kernels.engine.sync cimport td_add, td_clock, td_get
from tinydl._kernels.td cimport TD_CANCELLED, TD_GRAD, TD_OK

IN_BATCH = LIVE_IN_BATCH


cdef (int64_t, int64_t) steps(const int64_t *x, int64_t n) noexcept nogil:
    """The least and the greatest difference between neighbours of x[0..n]."""
    cdef int64_t i, least = 2**62, most = -2**62
    for i in range(n):
        least, most = min(least, x[i + 1] - x[i]), max(most, x[i + 1] - x[i])
    return least, most


cdef class Batches:
    """Batches of rows of the same sources, and a row of results for each. NativeRun says what the fields are."""

    cdef int hold(self, list sources, order, bounds, Program program, int n_workers, given_up) except -1:
        """Check what the batches are, and make room for their results: ValueError where batches are empty or longer than the
        program's. given_up: {batch: exception} of batches that are not to be run."""
        cdef int i
        self.sources, self.n_sources, self.n_workers = sources, len(sources), n_workers
        self.order = None if order is None else np.ascontiguousarray(order, np.int64)
        self.bounds = np.ascontiguousarray(bounds, np.int64)
        self.n_batches = len(bounds) - 1
        self.index = <const int64_t *>pointer(self.order) if order is not None else NULL
        self.bound = <const int64_t *>pointer(self.bounds)
        least, most = steps(self.bound, self.n_batches)
        if self.n_batches and (most > program.max_rows or least < 1):
            raise ValueError(f"batches of {least} to {most} rows on a plan for 1 to {program.max_rows}")
        program.check(sources)
        if order is None and any([(<Source>s).s.offsets != NULL for s in sources]):
            raise ValueError("batches of sequences of unequal lengths need an order")
        for i in range(self.n_sources):
            self.source[i], self.item_size[i] = (<Source>sources[i]).s, (<Source>sources[i]).itemsize
        self.losses, self.weights = np.zeros(self.n_batches), np.zeros(self.n_batches)
        self.statuses = np.full(self.n_batches, -1, np.int32)
        self.workers = np.full(self.n_batches, -1, np.int32)
        self.attempts = np.zeros(self.n_batches, np.int32)
        self.live = aligned(n_workers * N_LIVE, np.int64).reshape(n_workers, N_LIVE)
        self.errors = dict(given_up or {})
        for b in self.errors:
            self.statuses[b] = GIVEN_UP
        self.loss, self.weight = <double *>pointer(self.losses), <double *>pointer(self.weights)
        self.status = <int32_t *>pointer(self.statuses)
        self.worker = <int32_t *>pointer(self.workers)
        self.attempt = <int32_t *>pointer(self.attempts)
        self.live_at = <int64_t *>pointer(self.live)
        return 0

    @property
    def samples_done(self):
        return td_get(&self.samples)

    def give_up(self, int64_t b, error):
        """Batch b of an abandoned free run did not come back."""
        self.errors[b], self.statuses[b] = error, GIVEN_UP

    cdef int64_t run_batch(self, int w, Replica r, int64_t b, char *gradients, int64_t step, bint may_defer,
                           int64_t now) noexcept nogil:
        """Worker w runs batch b on replica r, and again while it fails and has retries left; returns the time. step: the key of
        its random masks; may_defer: see Replica.run_ops."""
        cdef int status, i
        cdef int64_t *live = self.live_at + w * N_LIVE
        live[BATCH], live[SINCE] = b, now
        live[STATE] = LIVE_IN_BATCH
        while True:
            for i in range(self.n_sources):
                r.ctx.source[i] = self.source[i]
                if self.index == NULL:
                    r.ctx.source[i].data = (<const char *>self.source[i].data
                                            + self.bound[b] * self.source[i].row_items * self.item_size[i])
            r.ctx.index = self.index + self.bound[b] if self.index != NULL else NULL
            r.ctx.n = self.bound[b + 1] - self.bound[b]
            r.ctx.first_id = self.bound[b]
            r.ctx.seed = self.seed
            r.ctx.step = <uint64_t>step
            r.ctx.base[TD_GRAD] = gradients
            r.ctx.suspect = 0
            self.look_ahead(r, b + self.lead)
            status = r.run_ops(may_defer)
            self.loss[b], self.weight[b] = r.ctx.number, r.ctx.weight
            self.worker[b] = w
            self.attempt[b] += 1
            self.status[b] = status
            if status == TD_OK:
                td_add(&self.samples, r.ctx.n)
            elif status != TD_CANCELLED:
                outlive()
                with gil:
                    self.note(b, r.failure(status, self.sources))
            if r.has_hooks:
                outlive()
                with gil:
                    r.saved.clear()
            if status == TD_OK or self.status[b] == TD_CANCELLED or self.attempt[b] > self.max_retries:
                if r.poll:
                    r.poll = td_clock() - now > POLL // 2       # shorter ones end soon enough by themselves
                return self.spent(live, BUSY, now)

    cdef void look_ahead(self, Replica r, int64_t b) noexcept nogil:
        """Tell the matrix products of the batch that is about to run which rows to prefetch: those of batch b."""
        memset(&r.ctx.ahead, 0, sizeof(r.ctx.ahead))
        if self.index == NULL or b >= self.n_batches or self.source[0].offsets != NULL:
            return
        r.ctx.ahead.data = <const char *>self.source[0].data
        r.ctx.ahead.row_bytes = self.source[0].row_items * self.item_size[0]
        r.ctx.ahead.rows = self.source[0].rows
        r.ctx.ahead.index = self.index + self.bound[b]
        r.ctx.ahead.n = self.bound[b + 1] - self.bound[b]

    cdef int64_t spent(self, int64_t *live, int what, int64_t since) noexcept nogil:
        """Add the time since `since` to column `what` of the worker's row; returns the time now."""
        cdef int64_t now = td_clock()
        live[what] += now - since
        live[SINCE] = now
        return now

    cdef void note(self, int64_t b, error) noexcept:
        """Keep the exception of batch b, without the frames that hold its data. A KeyboardInterrupt is no failure of the
        batch: the group is cancelled, and run again later."""
        if isinstance(error, KeyboardInterrupt):
            self.interrupted = True
            self.status[b] = TD_CANCELLED
        else:
            self.errors[b] = error
            forget_frames(error)
