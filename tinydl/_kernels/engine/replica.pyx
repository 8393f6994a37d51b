"""One batch at a time: a program with its own workspace."""
import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from tinydl._kernels.engine.program import aligned

from tinydl._kernels.engine.fold cimport room
from tinydl._kernels.engine.program cimport Program, Source, outlive, pointer
from tinydl._kernels.td cimport (
    TD_BAD_GRADIENT, TD_BAD_INDEX, TD_BAD_LOSS, TD_BAD_TARGET, TD_CANCELLED, TD_GRAD, TD_IN, TD_OK, TD_OUT, TD_PARAM, TD_PYTHON,
    TD_STATE, TD_TOO_FEW, TD_WORK, td_ctx, td_kernels, td_op, td_source,
)

cdef extern from "sync.h" nogil:
    int64_t td_clock()
    int64_t td_get(const int64_t *x)
    void td_set(int64_t *x, int64_t v)

OK = TD_OK
CANCELLED = TD_CANCELLED
PYTHON = TD_PYTHON

cdef td_source NO_SOURCE
memset(&NO_SOURCE, 0, sizeof(NO_SOURCE))


class NonFiniteError(ArithmeticError):
    """A loss or a gradient is infinite or not a number."""


class CancelledError(Exception):
    """The plan was stopped between two operations."""


cdef int should_stop(void *owner) noexcept nogil:
    """Whether a run is to end now: it was cancelled, or a signal's handler raised."""
    if td_get(&(<Replica>owner).cancel_flag) or ((<Replica>owner).poll and td_clock() - (<Replica>owner).polled > POLL
                                                 and not (<Replica>owner).look_at_signals()):
        (<Replica>owner).stopped = True
    return (<Replica>owner).stopped


cdef int run_hook(const td_op *op, td_ctx *ctx) noexcept nogil:
    outlive()
    with gil:
        return (<Replica>ctx.owner).call_hook(op)


def scratch_bytes(Program program):
    """What every replica needs beside its workspace: for the matrix product, and for folding slots."""
    return program.k.matmul_scratch + room(program)


cdef class Replica:
    """A program with its own workspace. One thread at a time runs it; any number of replicas run at once."""

    def __cinit__(self, Program program, params, state, hooks=None):
        self.program = program
        self.params = params
        self.state = state
        self.hooks = program.hooks if hooks is None else hooks
        self.saved = {}
        self.left = -1
        self.work = aligned(program.work_bytes, np.uint8)
        self.scratch = aligned(scratch_bytes(program), np.uint8)
        memset(&self.ctx, 0, sizeof(self.ctx))
        self.ctx.base[TD_PARAM] = <char *>pointer(params)
        self.ctx.base[TD_STATE] = <char *>pointer(state)
        self.ctx.base[TD_WORK] = <char *>pointer(self.work)
        self.ctx.scratch = pointer(self.scratch)
        self.ctx.owner = <void *>self
        self.ctx.stop = should_stop
        self.ctx.hook = run_hook

    cdef bint bounded(self) noexcept nogil:
        """Whether what the late products would write is certainly finite: no element of a' b, nor of its sums on the way, is
        greater than the norms of a and b, multiplied (Cauchy and Schwarz)."""
        cdef const td_kernels *k = self.program.k
        cdef double largest = 3e38 if k.itemsize == 4 else 1e308
        cdef double a, b
        cdef int64_t rows
        cdef int i
        cdef const td_op *op
        for i in range(self.program.late, self.program.late_end):
            op = &self.program.ops[i]
            rows = op.dim[2].per_sample * self.ctx.n
            if op.ref[0].space == TD_IN and self.ctx.rows != NULL:
                return False        # they lie apart
            a = k.squared_norm(self.ctx.base[op.ref[0].space] + op.ref[0].offset, rows * op.dim[0].fixed)
            b = k.squared_norm(self.ctx.base[op.ref[1].space] + op.ref[1].offset, rows * op.dim[1].fixed)
            if not sqrt(a) * sqrt(b) < largest / 2:
                return False
        return True

    cdef void run_late(self) noexcept nogil:
        """What the run before deferred; `stopped` where it was told to end."""
        cdef int i
        for i in range(self.program.late, self.program.late_end):
            if should_stop(<void *>self):
                return
            self.program.ops[i].fn(&self.program.ops[i], &self.ctx)

    cdef int run_ops(self, bint may_defer=False) noexcept nogil:
        """The plan, once, for the batch in ctx: TD_OK or the status of the operation that failed. may_defer: the late
        products, if their results can only be finite, are left to the update (`deferred`)."""
        cdef int i, status
        cdef int64_t start
        self.stopped = self.deferred = False
        for i in range(self.program.n_ops):
            if should_stop(<void *>self):
                return TD_CANCELLED
            if may_defer and i == self.program.late < self.program.late_end:
                self.deferred = not self.ctx.suspect and self.bounded()
            if self.deferred and i < self.program.late_end:
                continue
            self.position = i
            if self.events == NULL:
                status = self.program.ops[i].fn(&self.program.ops[i], &self.ctx)
            else:
                start = td_clock()
                status = self.program.ops[i].fn(&self.program.ops[i], &self.ctx)
                if self.n_events < self.max_events:
                    self.events[3 * self.n_events] = i
                    self.events[3 * self.n_events + 1] = start
                    self.events[3 * self.n_events + 2] = td_clock()
                    self.n_events += 1
            if self.stopped:
                return TD_CANCELLED
            if status != TD_OK:
                return status
        return TD_OK

    cdef bint look_at_signals(self) noexcept nogil:
        """Run the handlers of signals that came (in the main thread); False where one raised."""
        outlive()
        with gil:
            self.polled = td_clock()
            try:
                PyErr_CheckSignals()
            except BaseException as e:
                self.signal = e
                return False
        return True

    cdef int raise_signal(self) except -1:
        """Raise what a signal's handler raised in the run before."""
        error, self.signal = self.signal, None
        if error is not None:
            raise error
        return 0

    cdef int call_hook(self, const td_op *op) noexcept:
        cdef int j
        cdef int64_t n = self.ctx.n
        try:
            hook = op.dim[0].fixed
            arrays = []
            for j, (shape, dtype, writable) in enumerate(self.program.hook_shapes[hook]):
                if op.ref[j].space == 0:
                    arrays.append(None)
                    continue
                shape = tuple([n * -s if s < 0 else s for s in shape])
                array = np.ndarray(shape, dtype, Span(<size_t>self.ctx.base[op.ref[j].space] + op.ref[j].offset,
                                                      int(np.prod(shape)) * np.dtype(dtype).itemsize, self))
                array.flags.writeable = writable
                arrays.append(array)
            loss = self.hooks[hook].run(self.saved, arrays)
            if loss is not None:
                self.ctx.loss = loss
                if not loss - loss == 0:
                    return TD_BAD_LOSS
            return TD_OK
        except BaseException as e:
            self.error = e
            return TD_PYTHON

    def cancel(self, bint on=True):
        """Stop the run under way before its next operation (from any thread)."""
        td_set(&self.cancel_flag, on)

    def where(self):
        """The label of the operation under way, or last run."""
        return self.program.labels[self.position] if self.program.n_ops else ""

    def record(self, int64_t max_events):
        """Note when each operation runs, up to max_events of them; 0 stops. Returns what was noted before:
        (events, 3) int64: operation, start and end in nanoseconds of the monotonic clock."""
        before = None if self.events == NULL else self.events_array[:self.n_events].copy()
        self.events_array = np.zeros((max_events, 3), np.int64) if max_events else None
        self.n_events, self.max_events = 0, max_events
        self.events = <int64_t *>pointer(self.events_array) if max_events else NULL
        return before

    def failure(self, int status):
        """The exception that a status stands for."""
        where = self.where()
        if status == TD_PYTHON:
            error, self.error = self.error, None
            return error
        if status == TD_CANCELLED:
            return CancelledError(f"stopped before {where}")
        if status == TD_BAD_LOSS:
            return NonFiniteError(f"the loss is {self.ctx.loss} ({where})")
        if status == TD_BAD_GRADIENT:
            return NonFiniteError("a gradient is not finite")
        if status == TD_BAD_TARGET:
            return ValueError(f"class label {self.ctx.detail} is outside the model's classes ({where})")
        if status == TD_BAD_INDEX:
            return IndexError(f"sample {self.ctx.detail} is outside the dataset ({where})")
        if status == TD_TOO_FEW:
            return ValueError(f"BatchNorm trains on at least 2 values of each feature; this batch has {self.ctx.detail} (layer "
                              f"{where}): drop_last=True leaves a smaller last batch out")
        return RuntimeError(f"operation {where} ended with status {status}")

    cdef int set_batch(self, Source x, Source y, const int64_t *index, int64_t n, int64_t first_id) except -1:
        self.ctx.x = x.s
        self.ctx.y = y.s if y is not None else NO_SOURCE
        self.ctx.index = index
        self.ctx.n = n
        self.ctx.first_id = first_id
        return 0

    def run(self, Source x not None, Source y, index, int64_t n, grads=None, out=None, *, int64_t first_id=0,
            uint64_t seed=0, uint64_t step=0):
        """One batch: rows `index` (int64, or None: the first n) of x and y; returns the loss, or raises."""
        cdef int status
        self.program.check(x, y)
        if n > self.program.max_rows:
            raise ValueError(f"a batch of {n} rows on a plan for {self.program.max_rows}")
        if grads is not None and grads.size < self.program.n_grads:
            raise ValueError(f"a gradient vector of {grads.size} for a plan of {self.program.n_grads}")
        if index is None and n > x.s.rows:
            raise ValueError(f"{n} rows of a source of {x.s.rows}")
        self.set_batch(x, y, <const int64_t *>pointer(index) if index is not None else NULL, n, first_id)
        self.ctx.base[TD_GRAD] = <char *>pointer(grads) if grads is not None else NULL
        self.ctx.base[TD_OUT] = <char *>pointer(out) if out is not None else NULL
        self.ctx.seed = seed
        self.ctx.step = step
        self.ctx.suspect = 0
        memset(&self.ctx.ahead, 0, sizeof(self.ctx.ahead))
        memset(&self.ctx.own, 0, sizeof(self.ctx.own))
        self.poll, self.polled = True, td_clock()
        with nogil:
            status = self.run_ops()
            outlive()
        self.saved.clear()
        self.raise_signal()
        if status != TD_OK:
            raise self.failure(status)
        return self.ctx.loss


cdef class Span:
    """Memory at `address` as a buffer; `owner` keeps it alive."""
    cdef size_t address
    cdef Py_ssize_t size
    cdef object owner

    def __cinit__(self, size_t address, Py_ssize_t size, owner):
        self.address, self.size, self.owner = address, size, owner

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        buffer.buf = <void *>self.address
        buffer.obj = self
        buffer.len = self.size
        buffer.readonly = 0
        buffer.itemsize = 1
        buffer.format = NULL
        buffer.ndim = 1
        buffer.shape = &self.size
        buffer.strides = NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL
