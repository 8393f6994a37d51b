"""One batch at a time: a program with its own workspace."""
import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from tinydl._kernels import schema
from tinydl._kernels.engine.program import aligned

from tinydl._kernels.engine.gil cimport enter_python, leave_python
from tinydl._kernels.engine.reduction cimport room
from tinydl._kernels.engine.program cimport LateProduct, Program, Source, at, outlive, pointer
from tinydl._kernels.engine.sync cimport td_clock, td_get, td_set
from tinydl._kernels.td cimport (
    TD_BAD_GRADIENT, TD_BAD_INDEX, TD_BAD_NUMBER, TD_BAD_VALUE, TD_CANCELLED, TD_GRAD, TD_IN, TD_NO_PATH, TD_OK, TD_OUT, TD_PARAM,
    TD_PYTHON, TD_STATE, TD_TOO_FEW, TD_WORK, td_ctx, td_kernels, td_op, td_row,
)

OK = TD_OK
CANCELLED = TD_CANCELLED
PYTHON = TD_PYTHON


class NonFiniteError(ArithmeticError):
    """A loss or a gradient is infinite or not a number."""


class CancelledError(Exception):
    """The plan was stopped between two operations."""


cdef int should_stop(void *owner) noexcept nogil:
    """Whether the run under way is to end before its next operation: it was cancelled, or the handler of a signal raised."""
    if td_get(&(<Replica>owner).cancel_flag) or ((<Replica>owner).poll and td_clock() - (<Replica>owner).polled > POLL
                                                 and not (<Replica>owner).look_at_signals()):
        (<Replica>owner).stopped = True
    return (<Replica>owner).stopped


cdef int run_hook(int64_t hook, td_ctx *ctx) noexcept nogil:
    outlive()
    with gil:
        return (<Replica>ctx.owner).call_hook(hook)


def scratch_bytes(Program program):
    """Bytes that every replica needs beside its workspace: for the matrix product, and for averaging slots (reduction.pyx)."""
    return program.k.matmul_scratch + room(program)


cdef class Replica:
    """A program with its own workspace. One thread at a time runs it; any number of replicas run at once."""

    def __cinit__(self, Program program, params, state, hooks=None):
        self.program = program
        self.params = params
        self.state = state
        self.hooks = program.hooks if hooks is None else hooks
        self.saved = {}
        self.has_hooks = len(program.hooks) > 0
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
        """Whether the results of the late products are certain to be finite, without computing them: no element of a' b, and
        no partial sum, is greater than the norm of a times the norm of b (Cauchy and Schwarz)."""
        cdef const td_kernels *k = self.program.k
        cdef double largest = 3e38 if k.itemsize == 4 else 1e308
        cdef double a, b
        cdef int64_t rows
        cdef int i
        cdef const LateProduct *p
        for i in range(self.program.n_late):
            p = &self.program.late_product[i]
            rows = p.k_per_sample * self.ctx.n
            if p.a.space == TD_IN and self.ctx.rows != NULL:
                return False        # the rows of a are not in one block, so its norm is not one call
            a = k.squared_norm(at(&self.ctx, &p.a), rows * p.m)
            b = k.squared_norm(at(&self.ctx, &p.b), rows * p.n)
            if not sqrt(a) * sqrt(b) < largest / 2:
                return False
        return True

    cdef void run_late(self) noexcept nogil:
        """Run the late products that the last run deferred. `stopped` is set if the run was told to end meanwhile."""
        cdef int i
        for i in range(self.program.late, self.program.late + self.program.n_late):
            if should_stop(<void *>self):
                return
            self.program.ops[i].fn(&self.program.ops[i], &self.ctx)

    cdef int run_ops(self, bint may_defer=False) noexcept nogil:
        """Run the plan once, for the batch in ctx; returns TD_OK or the status of the operation that failed. may_defer: the
        late products are skipped if their results are certain to be finite; `deferred` says so, and the update makes them."""
        cdef int i, status, late_end = self.program.late + self.program.n_late
        cdef int64_t start
        cdef td_op *ops = self.program.ops_for(&self.ctx)
        self.stopped = self.deferred = False
        self.ctx.weight = <double>self.ctx.n    # unless the loss knows better
        for i in range(self.program.n_ops):
            if should_stop(<void *>self):
                return TD_CANCELLED
            if may_defer and i == self.program.late < late_end:
                self.deferred = not self.ctx.suspect and self.bounded()
            if self.deferred and i < late_end:
                continue
            td_set(&self.position, i)
            if self.events == NULL:
                status = ops[i].fn(&ops[i], &self.ctx)
            else:
                start = td_clock()
                status = ops[i].fn(&ops[i], &self.ctx)
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
        """Run the handlers of signals that arrived (Python does that in the main thread only); False if one raised."""
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
        """Raise what the handler of a signal raised during the last run, if one did."""
        error, self.signal = self.signal, None
        if error is not None:
            raise error
        return 0

    cdef int call_hook(self, int64_t hook) noexcept:
        cdef int64_t n = self.ctx.n
        cdef int space
        try:
            arrays = []
            for place in self.program.hook_places[hook]:
                if place is None:
                    arrays.append(None)
                    continue
                space, offset, shape, dtype, writable = place
                shape = tuple([n * -s if s < 0 else s for s in shape])
                array = np.ndarray(shape, dtype, Span(<size_t>self.ctx.base[space] + <size_t>offset,
                                                      int(np.prod(shape)) * np.dtype(dtype).itemsize, self))
                array.flags.writeable = writable
                arrays.append(array)
            number = self.hooks[hook].run(self.saved, arrays)
            if number is not None:
                if isinstance(number, tuple):
                    number, self.ctx.weight = number
                self.ctx.number = number
                if not number - number == 0:
                    return TD_BAD_NUMBER
            return TD_OK
        except BaseException as e:
            self.error = e
            return TD_PYTHON

    def cancel(self, bint on=True):
        """Stop the run under way before its next operation (from any thread)."""
        td_set(&self.cancel_flag, on)

    @property
    def weight(self):
        """What the loss of the run before weighs in a mean over batches: its samples, or the sum of the weights that counted."""
        return self.ctx.weight

    def where(self):
        """The label of the operation under way, or last run."""
        return self.program.labels[td_get(&self.position)] if self.program.n_ops else ""

    def record(self, int64_t max_events):
        """From now on record when each operation runs, up to max_events of them; 0 ends recording. Returns what was recorded
        until now, (events, 3) int64: operation, start and end in nanoseconds of the monotonic clock; None if nothing was."""
        before = None if self.events == NULL else self.events_array[:self.n_events].copy()
        self.events_array = np.zeros((max_events, 3), np.int64) if max_events else None
        self.n_events, self.max_events = 0, max_events
        self.events = <int64_t *>pointer(self.events_array) if max_events else NULL
        return before

    cdef str not_finite(self, list sources):
        """A text like ": x[17, 3] is nan" that names the first value of the batch's inputs that is not finite in the plan's
        dtype; "" if all are finite.

        It is a loop in C, since Python code could run the handler of a signal here, and what that raises would be lost."""
        cdef int64_t i, j, row, items, first
        cdef int k
        cdef bint narrow
        cdef double value
        for k in range(self.program.n_inputs):
            narrow = sources[k].array.dtype == np.float32
            if not narrow and sources[k].array.dtype != np.float64:
                continue
            for i in range(self.ctx.n):
                row = self.ctx.index[i] if self.ctx.index != NULL else i
                first = td_row(&self.ctx.source[k], row, self.ctx.source[k].row_items, &items)
                for j in range(items):
                    value = ((<const float *>self.ctx.source[k].data)[first + j] if narrow
                             else (<const double *>self.ctx.source[k].data)[first + j])
                    if value - value == 0 and (not self.program.single or <float>value - <float>value == 0):
                        continue
                    at = []
                    for size in reversed(sources[k].shape[1:]):
                        at.append(str(j % size))
                        j //= size
                    at.append(str(row if self.ctx.index != NULL else self.ctx.first_id + i))
                    return (f": {self.program.names[k]}[{', '.join(reversed(at))}] is {value}"
                            f"{'' if value - value else ', too large for float32'}")
        return ""

    cdef str allowed(self):
        """Which integers the operation under way takes: indices of rows, or lengths."""
        cdef int64_t i = td_get(&self.position)
        cdef int j = 0
        cdef dict sizes = {}
        for name in schema.OPERATIONS[self.program.operations[i]].sizes:
            sizes[name] = self.program.ops[i].dim[j].fixed
            j += 1
        if "L" not in sizes:
            return f"an index of an Embedding is from 0 to num_embeddings - 1, which is {sizes['N'] - 1}"
        steps = "" if sizes.get("M", sizes["L"]) != sizes["L"] else f", {sizes['L']}"     # attention may have two numbers
        return f"a length is from 0 to the number of steps{steps}"

    def failure(self, int status, list sources not None):
        """The exception for a status that `run_ops` returned. sources: what the batch was gathered from."""
        where = self.where()
        if status == TD_PYTHON:
            error, self.error = self.error, None
            return error
        if status == TD_CANCELLED:
            return CancelledError(f"stopped before {where}")
        if status == TD_BAD_NUMBER:
            return NonFiniteError(f"the loss is {self.ctx.number} ({where}){self.not_finite(sources)}")
        if status == TD_BAD_GRADIENT:
            return NonFiniteError(f"a gradient is not finite{self.not_finite(sources)}")
        if status == TD_BAD_VALUE:
            if where.startswith("loss"):
                return ValueError(f"class label {self.ctx.detail} is outside the model's classes ({where})")
            return ValueError(f"the integer {self.ctx.detail} is out of range in {'layer ' + where if where else 'the layer'}: "
                              f"{self.allowed()}")
        if status == TD_BAD_INDEX:
            return IndexError(f"sample {self.ctx.detail} is outside the dataset ({where})")
        if status == TD_TOO_FEW:
            return ValueError(f"BatchNorm trains on at least 2 values of each feature; this batch has {self.ctx.detail} (layer "
                              f"{where}): drop_last=True leaves a smaller last batch out")
        if status == TD_NO_PATH:
            row = self.ctx.detail
            return NonFiniteError(f"the labels of sample {self.ctx.index[row] if self.ctx.index != NULL else self.ctx.first_id + row} "
                                  f"do not fit into its steps, and its loss is infinite ({where}): losses.CTC needs a step for each "
                                  "label and one between two that are equal; zero_infinity=True leaves such samples out")
        return RuntimeError(f"operation {where} ended with status {status}")

    cdef int set_batch(self, list sources, const int64_t *index, int64_t n, int64_t first_id) except -1:
        cdef int i
        for i in range(len(sources)):
            self.ctx.source[i] = (<Source>sources[i]).s
        self.ctx.index = index
        self.ctx.n = n
        self.ctx.first_id = first_id
        return 0

    def run(self, list sources not None, index, int64_t n, grads=None, out=None, *, int64_t first_id=0,
            uint64_t seed=0, uint64_t step=0):
        """One batch: rows `index` (int64, or None: the first n) of the sources; returns the loss, or raises."""
        cdef int status
        cdef bint in_turn
        self.program.check(sources)
        if n > self.program.max_rows:
            raise ValueError(f"a batch of {n} rows on a plan for {self.program.max_rows}")
        if grads is not None and grads.size < self.program.n_grads:
            raise ValueError(f"a gradient vector of {grads.size} for a plan of {self.program.n_grads}")
        if index is None and any([n > (<Source>s).s.rows for s in sources]):
            raise ValueError(f"{n} rows of a source of {min([(<Source>s).s.rows for s in sources])}")
        self.set_batch(sources, <const int64_t *>pointer(index) if index is not None else NULL, n, first_id)
        self.ctx.base[TD_GRAD] = <char *>pointer(grads) if grads is not None else NULL
        self.ctx.base[TD_OUT] = <char *>pointer(out) if out is not None else NULL
        self.ctx.seed = seed
        self.ctx.step = step
        self.ctx.suspect = 0
        self.ctx.marks = NULL
        memset(&self.ctx.ahead, 0, sizeof(self.ctx.ahead))
        memset(&self.ctx.own, 0, sizeof(self.ctx.own))
        self.poll, self.polled = True, td_clock()
        with nogil:
            in_turn = leave_python()
            status = self.run_ops()
            enter_python(in_turn)
        self.saved.clear()
        self.raise_signal()
        if status != TD_OK:
            raise self.failure(status, sources)
        return self.ctx.number


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
