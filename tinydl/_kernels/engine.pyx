"""Runs plans: programs, replicas, and stretches of training without the GIL.

Program   a compiled plan: operations with their arguments; immutable, shared by all replicas.
Replica   a program with its own workspace and a gradient vector lent for each run; parameters are shared.
Stretch   many groups of batches in native code, by one thread or by several that meet at a barrier.

How a group travels in a Stretch (any number of workers >= 1):
 1. Each worker claims slots of the group from a counter and runs the slot's batch on its replica; the
    gradient lands in the slot's vector, loss and status in the batch's row of the results.
 2. They meet. The last to come decides: which slots arrived, whether there is an update.
 3. Each worker folds its slice of the slots' vectors in a fixed tree of weighted means and updates its
    slice of the parameters.
 4. They meet. The last to come opens the next group, or ends the stretch.
In a free stretch nobody meets: each worker claims a batch, runs it and updates the parameters at once.
Which worker runs which slot, and who comes last, changes no bit: slots, tree and slices' elements do not
depend on it. A cancelled group makes no update and is run again by the next stretch.
"""
import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset, strcmp

from tinydl._kernels._dispatch cimport table
from tinydl._kernels.td cimport (
    TD_BAD_GRADIENT, TD_BAD_INDEX, TD_BAD_LOSS, TD_BAD_TARGET, TD_CANCELLED, TD_F32, TD_F64,
    TD_GRAD, TD_I16, TD_I32, TD_I64, TD_IN, TD_MAX_DIMS, TD_MAX_REALS,
    TD_MAX_REFS, TD_OK, TD_OUT, TD_PARAM, TD_PYTHON, TD_STATE, TD_U16, TD_U32, TD_WORK, td_ctx, td_kernels, td_op, td_source,
    td_update_fn,
)

cdef extern from "Python.h" nogil:
    int Py_IsInitialized()

cdef extern from "sync.h" nogil:
    void td_rest()
    int td_cpu()
    int64_t td_add(int64_t *x, int64_t d)
    int td_cas(int64_t *x, int64_t from_, int64_t to)
    int64_t td_get(const int64_t *x)
    void td_set(int64_t *x, int64_t v)
    int64_t td_clock()
    ctypedef struct td_barrier:
        pass
    void td_barrier_init(td_barrier *b, int n, int spins)
    int td_barrier_arrive(td_barrier *b)
    int32_t td_barrier_turn(const td_barrier *b)
    void td_barrier_open(td_barrier *b)
    void td_barrier_abort(td_barrier *b)
    int td_barrier_wait(td_barrier *b, int32_t turn)

SPACES = {"none": 0, "param": TD_PARAM, "grad": TD_GRAD, "work": TD_WORK, "state": TD_STATE, "in": TD_IN, "out": TD_OUT}
OK = TD_OK
CANCELLED = TD_CANCELLED
PYTHON = TD_PYTHON
DTYPES = {"float32": 0, "float64": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
          "uint32": 8, "bool": 9}

cdef int64_t POLL = 50_000_000      # nanoseconds between two looks at signals, within a batch that takes so long

# elements folded and updated at a time: three such pieces of float64 stay in a 32 KiB L1 while they are used
cdef enum:
    FOLD = 1024
    MAX_SLOTS = 1024
    STATE = 0           # columns of Stretch.live
    BATCH = 1
    SINCE = 2
    BUSY = 3
    WAITED = 4
    UPDATED = 5
    N_LIVE = 8          # a cache line for each worker
    IDLE = 0
    LIVE_IN_BATCH = 1
    WAITING = 2
    IN_UPDATE = 3
    GIVEN_UP = 100      # status of a batch that failed before this stretch began
    COLLECTING = 0
    UPDATING = 1
    ABANDONED = 2


IN_BATCH = LIVE_IN_BATCH


class NonFiniteError(ArithmeticError):
    """A loss or a gradient is infinite or not a number."""


class CancelledError(Exception):
    """The plan was stopped between two operations."""


cdef inline void *pointer(array) except? NULL:
    return <void *><size_t>array.__array_interface__["data"][0]


def aligned(n_items, dtype):
    """Zeros at a 64-byte boundary: vector loads never straddle two cache lines."""
    dtype = np.dtype(dtype)
    raw = np.zeros(n_items * dtype.itemsize + 64, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64
    return raw[start:start + n_items * dtype.itemsize].view(dtype)


cdef inline void outlive() noexcept nogil:
    """Before a worker takes the GIL: where the interpreter has ended meanwhile, asking for it would crash, so the thread
    rests until the process is gone. (CPython 3.14 does the same by itself.)"""
    if not Py_IsInitialized():
        td_rest()


cdef inline int64_t itemsize_of(int64_t dtype) noexcept nogil:
    return 4 if dtype in (TD_F32, TD_I32, TD_U32) else 8 if dtype in (TD_F64, TD_I64) else \
        2 if dtype in (TD_I16, TD_U16) else 1


cdef class Source:
    """Rows of samples that batches are gathered from: `array` (rows, ...), C-contiguous."""
    cdef readonly object array
    cdef td_source s

    def __init__(self, array):
        if not array.flags.c_contiguous or array.dtype.name not in DTYPES or not array.dtype.isnative:
            raise ValueError(f"a source is a C-contiguous array of {', '.join(DTYPES)}; got {array.dtype}, "
                             f"strides {array.strides} for shape {array.shape}")
        self.array = array
        self.s.data = pointer(array)
        self.s.rows = array.shape[0]
        self.s.row_items = array.size // max(1, array.shape[0])
        self.s.dtype = DTYPES[array.dtype.name]


cdef td_source NO_SOURCE
memset(&NO_SOURCE, 0, sizeof(NO_SOURCE))


cdef class Program:
    """A plan ready to run.

    ops: (kernel name, refs [(space, offset in bytes)], dims [(fixed, per sample)], reals, label) each.
    in_items, target_items: elements of one row of x, and of y (0: none). hooks: Python objects with
    run(local, arrays); an op named "python" calls hook dims[0].
    """
    cdef td_op *ops
    cdef readonly int n_ops
    cdef readonly bint single
    cdef readonly list labels
    cdef readonly list hooks
    cdef readonly list hook_shapes
    cdef readonly int64_t work_bytes, max_rows, n_grads, in_items, target_items
    cdef int n_hooks
    cdef const td_kernels *k

    def __cinit__(self, bint single, list ops, int64_t work_bytes, int64_t max_rows, int64_t n_grads,
                  int64_t in_items, int64_t target_items, hooks=(), hook_shapes=()):
        cdef int i, j
        self.single = single
        self.k = table(single)
        self.work_bytes = work_bytes
        self.max_rows = max_rows
        self.n_grads = n_grads
        self.in_items = in_items
        self.target_items = target_items
        self.hooks = list(hooks)
        self.hook_shapes = list(hook_shapes)
        self.n_hooks = len(self.hooks)
        self.n_ops = len(ops)
        self.labels = [op[4] for op in ops]
        self.ops = <td_op *>calloc(max(1, self.n_ops), sizeof(td_op))
        if self.ops == NULL:
            raise MemoryError
        for i, (name, refs, dims, reals, _) in enumerate(ops):
            if len(refs) > TD_MAX_REFS or len(dims) > TD_MAX_DIMS or len(reals) > TD_MAX_REALS:
                raise ValueError(f"operation {name}: {len(refs)} refs, {len(dims)} dims, {len(reals)} reals is too many")
            if name == "python":
                self.ops[i].fn = <int (*)(const td_op *, td_ctx *) noexcept nogil>run_hook
            else:
                j = 0
                key = name.encode()
                while self.k.ops[j].name != NULL and strcmp(self.k.ops[j].name, key) != 0:
                    j += 1
                if self.k.ops[j].name == NULL:
                    raise ValueError(f"no operation is called {name!r}")
                self.ops[i].fn = self.k.ops[j].fn
            for j, (space, offset) in enumerate(refs):
                self.ops[i].ref[j].space = SPACES[space]
                self.ops[i].ref[j].offset = offset
            for j, (fixed, per_sample) in enumerate(dims):
                self.ops[i].dim[j].fixed = fixed
                self.ops[i].dim[j].per_sample = per_sample
            for j, real in enumerate(reals):
                self.ops[i].real[j] = real

    def __dealloc__(self):
        free(self.ops)

    cdef int check(self, Source x, Source y) except -1:
        """ValueError where rows of x or y are not as long as the plan's buffers."""
        if x.s.row_items != self.in_items:
            raise ValueError(f"a sample of x has {x.s.row_items} values; the plan is for {self.in_items}")
        if self.target_items and (y is None or y.s.row_items != self.target_items):
            raise ValueError(f"a sample of y has {0 if y is None else y.s.row_items} values; the plan is for {self.target_items}")
        return 0


cdef int run_hook(const td_op *op, td_ctx *ctx) noexcept nogil:
    outlive()
    with gil:
        return (<Replica>ctx.owner).call_hook(op)


cdef int should_stop(void *owner) noexcept nogil:
    """Whether a run is to end now: it was cancelled, or a signal's handler raised."""
    if (<Replica>owner).cancel_flag or ((<Replica>owner).poll and td_clock() - (<Replica>owner).polled > POLL
                                        and not (<Replica>owner).look_at_signals()):
        (<Replica>owner).stopped = True
    return (<Replica>owner).stopped


cdef class Replica:
    """A program with its own workspace. One thread at a time runs it; any number of replicas run at once."""
    cdef readonly Program program
    cdef readonly object params, state, hooks
    cdef readonly object error          # the exception of the last run that ended with PYTHON
    cdef object work, scratch, saved
    cdef td_ctx ctx
    cdef int cancel_flag
    cdef bint poll                      # look at signals between operations: no Python runs until the batch is over
    cdef int64_t polled                 # when it did
    cdef bint stopped                   # the run under way was told to end
    cdef object signal                  # what a signal's handler raised then
    cdef int64_t position               # operation under way
    cdef int64_t *events                # (operation, start, end) in nanoseconds, one after another, or NULL
    cdef int64_t n_events, max_events
    cdef object events_array

    def __cinit__(self, Program program, params, state, hooks=None):
        self.program = program
        self.params = params
        self.state = state
        self.hooks = program.hooks if hooks is None else hooks
        self.saved = {}
        self.work = aligned(program.work_bytes, np.uint8)
        self.scratch = aligned(program.k.matmul_scratch + 32 * FOLD * program.k.itemsize, np.uint8)
        memset(&self.ctx, 0, sizeof(self.ctx))
        self.ctx.base[TD_PARAM] = <char *>pointer(params)
        self.ctx.base[TD_STATE] = <char *>pointer(state)
        self.ctx.base[TD_WORK] = <char *>pointer(self.work)
        self.ctx.scratch = pointer(self.scratch)
        self.ctx.owner = <void *>self
        self.ctx.cancel = &self.cancel_flag
        self.ctx.stop = should_stop
        self.cancel_flag = 0
        self.events = NULL

    cdef int run_ops(self) noexcept nogil:
        """The plan, once, for the batch in ctx: TD_OK or the status of the operation that failed."""
        cdef int i, status
        cdef int64_t start
        self.stopped = False
        for i in range(self.program.n_ops):
            if should_stop(<void *>self):
                return TD_CANCELLED
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
        self.cancel_flag = on

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


cdef class Update:
    """An optimizer's rule bound to its parameters: p := rule(p, g, state, numbers, t).

    Behind the gradients, a slot's vector holds the batch statistics of layers that keep running ones:
    running := running + momentum * (batch - running), one momentum for each.
    """
    cdef readonly object params, statistics, state, momenta
    cdef readonly int64_t n, n_statistics
    cdef const td_kernels *k
    cdef td_update_fn fn
    cdef char *params_at
    cdef char *statistics_at
    cdef const double *momentum
    cdef double numbers[16]
    cdef char *vectors[4]

    def __cinit__(self, str rule, params, list state, statistics, momenta):
        cdef int j = 0
        self.k = table(params.dtype == np.float32)
        self.params, self.state, self.statistics = params, state, statistics
        self.momenta = np.ascontiguousarray(momenta, np.float64)
        self.n, self.n_statistics = params.size, statistics.size
        self.params_at, self.statistics_at = <char *>pointer(params), <char *>pointer(statistics)
        self.momentum = <const double *>pointer(self.momenta)
        key = rule.encode()
        while self.k.updates[j].name != NULL and strcmp(self.k.updates[j].name, key) != 0:
            j += 1
        if self.k.updates[j].name == NULL:
            raise ValueError(f"no update rule is called {rule!r}")
        self.fn = self.k.updates[j].fn
        for j in range(4):
            self.vectors[j] = <char *>pointer(state[j]) if j < len(state) and state[j] is not None else NULL

    def set(self, numbers):
        """The rule's numbers (learning rate and so on), in its order."""
        cdef int j
        for j, value in enumerate(numbers):
            self.numbers[j] = value

    cdef void part(self, const char *g, int64_t at, int64_t count, int64_t t) noexcept nogil:
        """Update parameters at..at+count-1 by g, their gradient."""
        cdef void *state[4]
        cdef int j
        cdef int64_t offset = at * self.k.itemsize
        for j in range(4):
            state[j] = self.vectors[j] + offset if self.vectors[j] != NULL else NULL
        self.fn(self.params_at + offset, g, state, count, self.numbers, t)

    cdef void running(self, const char *batch, int64_t at, int64_t count) noexcept nogil:
        """Update running statistics at..at+count-1 by those of the batch."""
        cdef int64_t i
        cdef float *s = <float *>self.statistics_at
        cdef double *d = <double *>self.statistics_at
        for i in range(count):
            if self.k.itemsize == 4:
                s[at + i] += <float>(self.momentum[at + i] * ((<const float *>batch)[i] - s[at + i]))
            else:
                d[at + i] += self.momentum[at + i] * ((<const double *>batch)[i] - d[at + i])

    def apply(self, vector, int64_t t):
        """Update number t (from 1) by a slot-shaped vector: the Python driver's way."""
        cdef const char *g = <const char *>pointer(vector)
        if vector.size != self.n + self.n_statistics or vector.dtype != self.params.dtype:
            raise ValueError(f"a vector of {vector.size} {vector.dtype} for {self.n} gradients and "
                             f"{self.n_statistics} statistics of {self.params.dtype}")
        with nogil:
            self.part(g, 0, self.n, t)
            self.running(g + self.n * self.k.itemsize, 0, self.n_statistics)


cdef struct Folded:
    const char *vector
    int64_t samples


cdef inline int64_t tree_half(int64_t n) noexcept nogil:
    """The left half of n slots in the tree: the greatest power of two below n."""
    cdef int64_t half = 1
    while 2 * half < n:
        half *= 2
    return half


def current_cpu():
    """Number of the CPU that the calling thread runs on, or -1 where the system does not say."""
    return td_cpu()


cdef (int64_t, int64_t) steps(const int64_t *x, int64_t n) noexcept nogil:
    """The least and the greatest difference between neighbours of x[0..n]."""
    cdef int64_t i, least = 2**62, most = -2**62
    for i in range(n):
        least, most = min(least, x[i + 1] - x[i]), max(most, x[i + 1] - x[i])
    return least, most


cdef class Stretch:
    """Groups of batches in native code. Create, let every worker call `work(i)`, read the results.

    replicas: one per worker; slots: one gradient vector for each batch of a group; order, bounds: batch b is
    samples order[bounds[b]:bounds[b + 1]] (order None: bounds count rows of x); groups: group g is batches
    groups[g]..groups[g + 1] - 1 (None: as many as there are slots). free: no groups; a slot a worker.
    losses, statuses, workers, attempts: a row per batch, filled as batches end. first_step: random key of group 0;
    t: updates made so far. max_retries: times that a failed batch is run again; max_failed: the group in which more
    than so many have failed makes no update and ends the stretch (`fatal`). given_up: {batch: exception} of batches
    not to be run. live: a row per worker: state (0 idle, 1 in a batch, 2 waiting, 3 in an update), batch,
    since when (ns of the monotonic clock), ns in batches, waiting, and in updates; it may be read at any time.
    """
    cdef readonly list replicas, slots
    cdef readonly object losses, statuses, workers, attempts, live, order, bounds, groups
    cdef readonly dict errors           # batch -> exception
    cdef readonly int n_workers
    cdef readonly int64_t n_batches, n_groups, k
    cdef Source x, y
    cdef Update update
    cdef int64_t group, ticket, stop, pause_wanted, t, first_step, deadline, decision, samples
    cdef int64_t phase                  # of the group: COLLECTING, UPDATING, or ABANDONED for good
    cdef int64_t begin, end             # batches of the group under way
    cdef int64_t first_end, last_end    # when groups ended: the first, and the last so far (ns)
    cdef int64_t failed, max_failed
    cdef int max_retries
    cdef readonly bint free, fatal
    cdef readonly bint interrupted      # Ctrl-C arrived inside a Python layer
    cdef uint64_t seed
    cdef double *loss
    cdef int32_t *status
    cdef int32_t *worker
    cdef int32_t *attempt
    cdef int64_t *live_at
    cdef const int64_t *index
    cdef const int64_t *bound
    cdef const int64_t *start           # of each group
    cdef void **replica
    cdef char **slot
    cdef td_barrier meet, part_done

    def __cinit__(self, list replicas, list slots, Source x, Source y, order, bounds, Update update, *,
                  groups=None, int64_t t=0, int64_t first_step=0, uint64_t seed=0, int spins=0, bint free=False,
                  int max_retries=0, int64_t max_failed=2**62, given_up=None):
        cdef int i
        if not replicas or not slots or len(slots) > MAX_SLOTS:
            raise ValueError(f"{len(replicas)} replicas and {len(slots)} slots; both must be 1 to {MAX_SLOTS}")
        self.replicas, self.slots, self.x, self.y = replicas, slots, x, y
        self.order = None if order is None else np.ascontiguousarray(order, np.int64)
        self.bounds = np.ascontiguousarray(bounds, np.int64)
        self.update = update
        self.n_workers, self.k = len(replicas), len(slots)
        self.n_batches = len(bounds) - 1
        if free:
            groups = np.arange(self.n_batches + 1)
        elif groups is None:
            groups = np.minimum(np.arange((self.n_batches + self.k - 1) // self.k + 1) * self.k, self.n_batches)
        self.groups = np.ascontiguousarray(groups, np.int64)
        self.n_groups = len(self.groups) - 1
        self.start = <const int64_t *>pointer(self.groups)
        least, most = steps(self.start, self.n_groups)
        if self.start[0] != 0 or self.start[self.n_groups] != self.n_batches or (
                self.n_groups and not 1 <= least <= most <= self.k):
            raise ValueError(f"groups must be 1 to {self.k} batches each, {self.n_batches} in all; got {self.groups}")
        if free and self.k < self.n_workers:
            raise ValueError(f"a free stretch of {self.n_workers} workers needs a slot for each; got {self.k}")
        self.losses = np.zeros(self.n_batches)
        self.statuses = np.full(self.n_batches, -1, np.int32)
        self.workers = np.full(self.n_batches, -1, np.int32)
        self.attempts = np.zeros(self.n_batches, np.int32)
        self.live = aligned(self.n_workers * N_LIVE, np.int64).reshape(self.n_workers, N_LIVE)
        self.errors = dict(given_up or {})
        for b in self.errors:
            self.statuses[b] = GIVEN_UP
        self.loss = <double *>pointer(self.losses)
        self.status = <int32_t *>pointer(self.statuses)
        self.worker = <int32_t *>pointer(self.workers)
        self.attempt = <int32_t *>pointer(self.attempts)
        self.live_at = <int64_t *>pointer(self.live)
        self.index = <const int64_t *>pointer(self.order) if order is not None else NULL
        self.bound = <const int64_t *>pointer(self.bounds)
        self.t, self.first_step, self.seed, self.free = t, first_step, seed, free
        self.max_retries, self.max_failed = max_retries, max_failed
        self.replica = <void **>calloc(self.n_workers, sizeof(void *))
        self.slot = <char **>calloc(self.k, sizeof(char *))
        if self.replica == NULL or self.slot == NULL:
            raise MemoryError
        for i in range(self.n_workers):
            self.replica[i] = <void *><Replica?>replicas[i]
        for i in range(self.k):
            if slots[i].size != update.n + update.n_statistics:
                raise ValueError(f"slot {i} holds {slots[i].size} values; the model has {update.n + update.n_statistics}")
            self.slot[i] = <char *>pointer(slots[i])
        least, most = steps(self.bound, self.n_batches)
        if self.n_batches and (most > replicas[0].program.max_rows or least < 1):
            raise ValueError(f"batches of {least} to {most} rows on a plan "
                             f"for 1 to {replicas[0].program.max_rows}")
        (<Replica>replicas[0]).program.check(x, y)
        for replica in replicas:
            replica.cancel(False)
        td_barrier_init(&self.meet, self.n_workers, spins)
        td_barrier_init(&self.part_done, self.n_workers, spins)
        self.open_group(0)

    def __dealloc__(self):
        free(self.replica)
        free(self.slot)

    # ------------------------------------------------------------------ from any thread
    @property
    def next_group(self):
        """Groups finished so far: the number of the next one."""
        return min(td_get(&self.ticket), self.n_batches) if self.free else td_get(&self.group)

    @property
    def updates(self):
        """Updates made so far, those before this stretch included."""
        return td_get(&self.t)

    @property
    def samples_done(self):
        return td_get(&self.samples)

    @property
    def steady_seconds(self):
        """From the end of the first group to that of the last: what the others took with the workers at it."""
        return (self.last_end - self.first_end) * 1e-9

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
        """Give up on workers that do not come: nobody waits for them any more, and none of them can update.

        False where all had come after all: the update is under way and the group will end by itself.
        """
        if not td_cas(&self.phase, COLLECTING, ABANDONED):
            return False
        self.cancel()
        td_set(&self.stop, 1)
        td_barrier_abort(&self.meet)
        td_barrier_abort(&self.part_done)
        return True

    def give_up(self, int64_t b, error):
        """Batch b of an abandoned free stretch did not come back."""
        self.errors[b], self.statuses[b] = error, GIVEN_UP

    # ------------------------------------------------------------------ the workers
    cdef void open_group(self, int64_t group) noexcept nogil:
        if group >= self.n_groups:
            td_set(&self.stop, 1)
        else:
            self.begin, self.end = self.start[group], self.start[group + 1]
        if not self.free:
            td_set(&self.ticket, 0)
        td_set(&self.group, group)

    def work(self, int worker, double seconds=0.0):
        """Worker number `worker` of n_workers: returns when the stretch ends, or about `seconds` later (0: no limit).
        With a limit it raises what the handler of a signal raises meanwhile, the batch under way being cancelled."""
        cdef Replica replica = <Replica>self.replica[worker]
        if self.n_workers == 1 and not self.finished:
            td_set(&self.stop, 0)
        if seconds:
            self.deadline = td_clock() + <int64_t>(seconds * 1e9)
        replica.poll, replica.polled = seconds > 0, td_clock()
        with nogil:
            if self.free:
                self.free_loop(worker, replica)
            else:
                self.loop(worker, replica)
            self.live_at[worker * N_LIVE + STATE] = IDLE
            outlive()
        replica.raise_signal()

    cdef void loop(self, int w, Replica replica) noexcept nogil:
        cdef int32_t turn
        cdef int64_t *live = self.live_at + w * N_LIVE
        cdef int64_t now = td_clock()
        while not td_get(&self.stop):
            turn = td_barrier_turn(&self.meet)
            now = self.run_slots(w, replica, now)
            live[STATE] = WAITING
            if td_barrier_arrive(&self.meet):
                if not td_cas(&self.phase, COLLECTING, UPDATING):
                    return
                self.decide()
                td_barrier_open(&self.meet)
            elif not td_barrier_wait(&self.meet, turn):
                return
            now = self.spent(live, WAITED, now)
            turn = td_barrier_turn(&self.part_done)
            live[STATE] = IN_UPDATE
            if self.decision > 0:
                self.fold_and_update(w, <char *>replica.ctx.scratch)
            now = self.spent(live, UPDATED, now)
            live[STATE] = WAITING
            if td_barrier_arrive(&self.part_done):
                self.advance()
                td_set(&self.phase, COLLECTING)
                td_barrier_open(&self.part_done)
            elif not td_barrier_wait(&self.part_done, turn):
                return
            if self.n_workers > 1:
                now = self.spent(live, WAITED, now)

    cdef void free_loop(self, int w, Replica replica) noexcept nogil:
        """Batch after batch, each an update of all parameters, beside the other workers' (Recht et al. 2011)."""
        cdef int64_t *live = self.live_at + w * N_LIVE
        cdef int64_t b, now = td_clock()
        cdef char *g = self.slot[w]
        while not td_get(&self.stop):
            b = td_add(&self.ticket, 1)
            if b >= self.n_batches:
                return
            now = self.run_batch(w, replica, b, g, now)
            if td_get(&self.phase) == ABANDONED:
                return
            live[STATE] = IN_UPDATE
            if self.status[b] == TD_OK:
                self.update.part(g, 0, self.update.n, td_add(&self.t, 1) + 1)
                self.update.running(g + self.update.n * self.update.k.itemsize, 0, self.update.n_statistics)
            elif self.status[b] != TD_CANCELLED and td_add(&self.failed, 1) >= self.max_failed:
                self.fatal = True
                td_set(&self.stop, 1)
            now = self.spent(live, UPDATED, now)
            td_add(&self.group, 1)
            if td_get(&self.pause_wanted) or self.status[b] == TD_CANCELLED or (self.deadline and now > self.deadline):
                td_set(&self.stop, 1)

    cdef int64_t spent(self, int64_t *live, int what, int64_t since) noexcept nogil:
        """Count the time since then; returns now."""
        cdef int64_t now = td_clock()
        live[what] += now - since
        live[SINCE] = now
        return now

    cdef int64_t run_slots(self, int w, Replica r, int64_t now) noexcept nogil:
        """The slots that this worker gets of the group under way; returns the time."""
        cdef int64_t s
        while True:
            s = td_add(&self.ticket, 1)
            if self.begin + s >= self.end:
                return now
            now = self.run_batch(w, r, self.begin + s, self.slot[s], now)

    cdef int64_t run_batch(self, int w, Replica r, int64_t b, char *gradients, int64_t now) noexcept nogil:
        """Batch b, again where it fails and may be tried again; returns the time."""
        cdef int status
        cdef int64_t *live = self.live_at + w * N_LIVE
        if self.status[b] == GIVEN_UP:
            return now
        live[BATCH], live[SINCE] = b, now
        live[STATE] = LIVE_IN_BATCH
        while True:
            r.ctx.x = self.x.s
            r.ctx.y = self.y.s
            r.ctx.index = self.index + self.bound[b] if self.index != NULL else NULL
            if self.index == NULL:
                r.ctx.x.data = <const char *>r.ctx.x.data + self.bound[b] * r.ctx.x.row_items * itemsize_of(r.ctx.x.dtype)
                r.ctx.y.data = <const char *>r.ctx.y.data + self.bound[b] * r.ctx.y.row_items * itemsize_of(r.ctx.y.dtype)
            r.ctx.n = self.bound[b + 1] - self.bound[b]
            r.ctx.first_id = self.bound[b]
            r.ctx.seed = self.seed
            r.ctx.step = <uint64_t>(self.first_step + (b if self.free else self.group))
            r.ctx.base[TD_GRAD] = gradients
            r.ctx.suspect = 0
            self.look_ahead(r, b + self.k)
            status = r.run_ops()
            self.loss[b] = r.ctx.loss
            self.worker[b] = w
            self.attempt[b] += 1
            self.status[b] = status
            if status == TD_OK:
                td_add(&self.samples, r.ctx.n)
            elif status != TD_CANCELLED:
                outlive()
                with gil:
                    self.note(b, r.failure(status))
            if r.program.n_hooks:
                outlive()
                with gil:
                    r.saved.clear()
            if status == TD_OK or self.status[b] == TD_CANCELLED or self.attempt[b] > self.max_retries:
                if r.poll:
                    r.poll = td_clock() - now > POLL // 2       # shorter ones end soon enough by themselves
                return self.spent(live, BUSY, now)

    cdef void look_ahead(self, Replica r, int64_t b) noexcept nogil:
        """Let the products of this batch fetch the rows of batch b."""
        memset(&r.ctx.ahead, 0, sizeof(r.ctx.ahead))
        if self.index == NULL or b >= self.n_batches:
            return
        r.ctx.ahead.data = <const char *>self.x.s.data
        r.ctx.ahead.row_bytes = self.x.s.row_items * itemsize_of(self.x.s.dtype)
        r.ctx.ahead.rows = self.x.s.rows
        r.ctx.ahead.index = self.index + self.bound[b]
        r.ctx.ahead.n = self.bound[b + 1] - self.bound[b]

    cdef void note(self, int64_t b, error) noexcept:
        """Keep the exception of batch b; Ctrl-C is not the batch's fault, so its group is cancelled instead."""
        if isinstance(error, KeyboardInterrupt):
            self.interrupted = True
            self.status[b] = TD_CANCELLED
        else:
            self.errors[b] = error

    cdef void decide(self) noexcept nogil:
        """decision: how many slots arrived; 0 none, -1 the group makes no update and ends the stretch."""
        cdef int64_t b, failed = 0
        self.decision = 0
        for b in range(self.begin, self.end):
            if self.status[b] == TD_CANCELLED:
                self.decision = -1
                return
            if self.status[b] == TD_OK:
                self.decision += 1
            else:
                failed += 1
        if failed and self.failed + failed > self.max_failed:
            self.fatal = True
            self.decision = -1
        else:
            self.failed += failed

    cdef void advance(self) noexcept nogil:
        if self.decision < 0:
            td_set(&self.stop, 1)
            return
        if self.decision > 0:
            td_add(&self.t, 1)
        self.last_end = td_clock()
        if self.group == 0:
            self.first_end = self.last_end
        self.open_group(self.group + 1)
        if td_get(&self.pause_wanted) or (self.deadline and self.last_end > self.deadline):
            td_set(&self.stop, 1)

    cdef void fold_and_update(self, int w, char *scratch) noexcept nogil:
        """This worker's slice of the parameters: fold the slots, update."""
        cdef int64_t n = self.update.n, lo, hi, at, piece, count, t = self.t + 1
        cdef int64_t share = ((n + self.n_workers - 1) // self.n_workers + 15) // 16 * 16
        cdef const char *g
        lo, hi = min(n, w * share), min(n, (w + 1) * share)
        piece = FOLD if self.end - self.begin > 1 else hi - lo      # one slot: nothing to fold, one long pass
        at = lo
        while at < hi:
            count = min(piece, hi - at)
            g = self.fold(0, self.end - self.begin, at, count, scratch).vector
            self.update.part(g, at, count, t)
            at += count
        if w == 0:
            at = 0
            while at < self.update.n_statistics:    # a statistic is folded like a gradient
                count = min(FOLD, self.update.n_statistics - at)
                g = self.fold(0, self.end - self.begin, n + at, count, scratch).vector
                self.update.running(g, at, count)
                at += count

    cdef Folded fold(self, int64_t lo, int64_t hi, int64_t at, int64_t count, char *scratch) noexcept nogil:
        """Elements at..at+count-1 of the weighted mean of slots lo..hi-1: a fixed binary tree over the slots."""
        cdef Folded left, right, out
        cdef int64_t mid, size = self.update.k.itemsize
        if hi - lo == 1:
            out.samples = self.bound[self.begin + lo + 1] - self.bound[self.begin + lo]
            if self.status[self.begin + lo] != TD_OK:
                out.samples = 0
            out.vector = self.slot[lo] + at * size
            return out
        mid = lo + tree_half(hi - lo)
        left = self.fold(lo, mid, at, count, scratch)
        right = self.fold(mid, hi, at, count, scratch + FOLD * size)
        if right.samples == 0:
            return left
        if left.samples == 0:
            return right
        out.samples = left.samples + right.samples
        out.vector = scratch
        self.update.k.weighted_mean(left.vector, right.vector, scratch, count,
                                    <double>left.samples / <double>out.samples,
                                    <double>right.samples / <double>out.samples)
        return out
