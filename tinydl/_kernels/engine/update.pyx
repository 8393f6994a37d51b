"""The optimizer's step: a rule bound to its parameters, with numbers that may differ between them and from update to update.

Between the average of a group's gradients and the rule there may be stages, which see the whole gradient g, block by block of
BLOCK elements (a norm's squares are summed in each, then over the blocks in order, so that the number of threads changes no
bit): g := clamp(g, -clip_value, clip_value), then g := g min(1, clip_norm / (|g| + 1e-6)). Before them, g may have been exchanged
for the mean over several trainers (`exchange` in native_run.pyx). Behind the rule, where averaged weights are wanted,
a := keep a + (1 - keep) p.
"""
import numpy as np

from libc.math cimport isfinite, sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strcmp

from tinydl._kernels._dispatch cimport table
from tinydl._kernels.engine.program cimport pointer
from tinydl._kernels import schema
from tinydl._kernels.td cimport TD_MAX_STATE, td_gradient, td_kernels, td_update_fn


cdef int check_vector(str name, vector, int64_t n, dtype) except -1:
    """ValueError where `vector` is not n elements of dtype, side by side, that may be written."""
    if vector.size != n or vector.dtype != dtype or not vector.flags.c_contiguous or not vector.flags.writeable:
        raise ValueError(f"{name} must be {n} {dtype} side by side, writeable; got {vector.size} {vector.dtype}, strides "
                         f"{vector.strides}{'' if vector.flags.writeable else ', read-only'}")
    return 0


cdef class Update:
    """An optimizer's rule bound to its parameters: p := rule(p, g, state, numbers, t).

    Behind the gradients, a slot's vector holds the batch statistics of layers that keep running ones:
    running := running + momentum * (batch - running), one momentum for each.

    params, and the vectors of `state` ("ema", if it is there: averaged weights), are flat arrays of one length and dtype, float32 or float64;
    ValueError says which is not. They stay alive and where they are as long as this does.
    """

    def __cinit__(self, str rule, params, dict state, statistics, momenta):
        cdef int j = 0
        if rule not in schema.RULES:
            raise ValueError(f"no update rule is called {rule!r}; there are {', '.join(schema.RULES)}")
        self.rule = schema.RULES[rule]
        state = dict(state)
        average = state.pop("ema", None)
        unknown = set(state) - set(self.rule.vectors)
        missing = {name for name, unless in self.rule.vectors.items() if not unless} - set(state)
        if unknown or missing:
            raise ValueError(f"{rule} has the state {self.rule.state!r}; got {sorted(state)}")
        dtype = params.dtype if params.dtype in (np.float32, np.float64) else np.dtype(np.float32)
        check_vector("params", params, params.size, dtype)
        check_vector("statistics", statistics, statistics.size, dtype)
        for name, vector in [*state.items(), *([] if average is None else [("ema", average)])]:
            check_vector(f"state {name}", vector, params.size, dtype)
        if momenta.size != statistics.size:
            raise ValueError(f"{momenta.size} momenta for {statistics.size} running statistics")
        self.k = table(dtype == np.float32)
        self.params, self.statistics = params, statistics
        self.state = state if average is None else {**state, "ema": average}
        self.momenta = np.ascontiguousarray(momenta, np.float64)
        self.n, self.n_statistics = params.size, statistics.size
        self.params_at, self.statistics_at = <char *>pointer(params), <char *>pointer(statistics)
        self.momentum = <const double *>pointer(self.momenta)
        key = rule.encode()
        j = 0
        while self.k.updates[j].name != NULL and strcmp(self.k.updates[j].name, key) != 0:
            j += 1
        self.fn = self.k.updates[j].fn
        self.average = <char *>pointer(average) if average is not None else NULL
        self.clip_norm, self.clip_value, self.keep = -1, float("inf"), 0
        for j, name in enumerate(self.rule.vectors):
            self.vectors[j] = <char *>pointer(state[name]) if name in state else NULL

    def __dealloc__(self):
        free(self.segment)

    def set(self, numbers, *, varying=(), values=None, int64_t first=0, clip_norm=None, clip_value=None, ema=None):
        """The rule's numbers (learning rate and so on) by name; or, where they differ between parameters, a list of
        (end, numbers): those of the parameters up to `end`, behind the segment before.

        varying: (segment, name) of numbers that differ from update to update; values: a row for each (float64), an update each,
        from update number `first` (from 0) on. clip_norm, clip_value, ema: see the module; None: not wanted.
        ValueError where the rule, with these, has a state vector that is not there.
        """
        cdef int i, j
        asked = (dict(numbers), clip_norm, clip_value, ema) if isinstance(numbers, dict) and not varying else None
        if asked is not None and asked == self.asked:
            return                  # they are set already: most runs go on with the numbers of the run before
        self.asked = None
        segments = [(self.n, numbers)] if isinstance(numbers, dict) else list(numbers)
        if not segments or segments[len(segments) - 1][0] != self.n or any(
                a[0] >= b[0] for a, b in zip(segments, segments[1:])):
            raise ValueError(f"segments end at {[end for end, _ in segments]}; there are {self.n} parameters")
        for _, own in segments:
            if own.keys() != self.rule.reals.keys():
                raise ValueError(f"{self.rule.name} has the numbers {', '.join(self.rule.reals)}; got {', '.join(own)}")
            for name, unless in self.rule.vectors.items():
                if unless and own[unless] and name not in self.state:
                    raise ValueError(f"{self.rule.name}: {unless} = {own[unless]} needs state {name}")
        if ema is not None and self.average == NULL:
            raise ValueError(f"{self.rule.name}: ema = {ema} needs state ema")
        values = np.zeros((0, 0)) if values is None else np.ascontiguousarray(values, np.float64)
        if values.ndim != 2 or len(values) != len(varying) or varying and not values.size:
            raise ValueError(f"values of shape {values.shape} for {len(varying)} numbers")
        new = <Segment *>calloc(len(segments), sizeof(Segment))
        if new == NULL:
            raise MemoryError
        free(self.segment)
        self.segment, self.n_segments, self.values, self.first, self.n_values = new, len(segments), values, first, values.shape[1]
        places = {name: j for j, name in enumerate(self.rule.reals)}
        for i, (end, own) in enumerate(segments):
            self.segment[i].end = end
            for name, j in places.items():
                self.segment[i].numbers[j] = own[name]
        for i, (at, name) in enumerate(varying):
            self.segment[<int>at].varying[<int>places[name]] = <const double *>pointer(values) + i * self.n_values
        for i, (_, own) in enumerate(segments):
            self.segment[i].still = ema is None and self.rule.still is not None and not any([
                own[name] or self.segment[i].varying[<int>places[name]] != NULL for name in self.rule.still])
        self.clip_norm = -1 if clip_norm is None else clip_norm
        self.clip_value = float("inf") if clip_value is None else clip_value
        self.keep = 0 if ema is None else ema
        self.staged = clip_norm is not None or clip_value is not None
        self.asked = asked

    def check(self, int64_t t, int64_t updates):
        """ValueError where the values are not those of so many updates behind update number t (from 1)."""
        if self.n_segments == 0:
            raise ValueError("the rule has no numbers yet")
        if self.n_values and not self.first <= t <= t + updates <= self.first + self.n_values:
            raise ValueError(f"numbers of updates {self.first} to {self.first + self.n_values}; these are {t} to {t + updates}")

    cdef bint still(self, int64_t at, int64_t count) noexcept nogil:
        """Whether a gradient of 0 changes none of parameters at..at+count-1, if an update by such a one came before. (The first
        one does where a parameter is too small to be normal, which becomes 0, or not finite.)"""
        cdef int i
        for i in range(self.n_segments):
            if self.segment[i].end > at and not self.segment[i].still:
                return False
            if self.segment[i].end >= at + count:
                return True
        return False

    cdef void piece(self, const Segment *s, const td_gradient *g, int64_t at, int64_t count, int64_t t) noexcept nogil:
        """Update parameters at..at+count-1 (and rows behind), which are all of segment s, by g."""
        cdef void *state[TD_MAX_STATE]
        cdef double numbers[TD_MAX_NUMBERS]
        cdef int j
        cdef int64_t row, size = self.k.itemsize, offset = at * size, now = min(max(t - 1 - self.first, 0), self.n_values - 1)
        for j in range(TD_MAX_STATE):
            state[j] = self.vectors[j] + offset if self.vectors[j] != NULL else NULL
        for j in range(TD_MAX_NUMBERS):
            numbers[j] = s.varying[j][now] if s.varying[j] != NULL else s.numbers[j]
        self.fn(self.params_at + offset, g, state, count, numbers, t)
        if self.keep:
            for row in range(g.rows):
                self.k.weighted_mean(self.average + offset, self.params_at + offset, self.average + offset, count,
                                     self.keep if t > 1 else 0, 1 - self.keep if t > 1 else 1)
                offset += g.stride * size

    cdef void part(self, const td_gradient *g, int64_t at, int64_t count, int64_t t) noexcept nogil:
        """Update parameters at..at+count-1 by g, their gradient. Of several rows (a product's) all are in one segment."""
        cdef int low = 0, high = self.n_segments - 1, middle
        cdef int64_t n, size = self.k.itemsize, end = at + count
        cdef td_gradient own = g[0]
        while low < high:
            middle = (low + high) // 2
            if self.segment[middle].end > at:
                high = middle
            else:
                low = middle + 1
        if g.rows > 1:
            self.piece(&self.segment[low], g, at, count, t)
            return
        while at < end:
            n = min(end, self.segment[low].end) - at
            self.piece(&self.segment[low], &own, at, n, t)
            own.a = <const char *>own.a + n * size
            if own.b != NULL:
                own.b, own.mean = <const char *>own.b + n * size, <char *>own.mean + n * size
            at += n
            low += 1

    cdef double clipped(self, void *g, int64_t count) noexcept nogil:
        """A block of the gradient, element by element; returns its squares' sum, where the norm is wanted."""
        if isfinite(self.clip_value):
            self.k.clamp(g, count, self.clip_value)
        return self.k.squared_norm(g, count) if self.clip_norm >= 0 else 0

    cdef double scale(self, double squares) noexcept nogil:
        """What the gradient is to be multiplied by; -1: its norm is not finite, no update is made."""
        if self.clip_norm < 0:
            return 1
        return min(1.0, self.clip_norm / (sqrt(squares) + 1e-6)) if isfinite(squares) else -1

    cdef void by(self, const char *g, int64_t at, int64_t count, double scale, int64_t t) noexcept nogil:
        """Update parameters at..at+count-1 by scale times g (which is of all, and is overwritten)."""
        cdef td_gradient own
        own.a, own.b, own.rows, own.stride, own.wa, own.wb = g + at * self.k.itemsize, NULL, 1, 0, scale, 0
        own.mean = <void *>own.a
        if scale != 1:
            own.b = own.a
        self.part(&own, at, count, t)

    cdef double stages(self, char *g) noexcept nogil:
        """The stages on a whole gradient, by one thread; the sum of its squares."""
        cdef int64_t at = 0
        cdef double squares = 0
        while at < self.n:
            squares += self.clipped(g + at * self.k.itemsize, min(BLOCK, self.n - at))
            at += BLOCK
        return squares

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
        """Make update number t (from 1) from one vector: the gradients of all parameters, then the batch statistics; stages
        overwrite it. The Python driver calls this. Returns the norm of the gradient (NaN if it is not wanted); no update is
        made if that is not finite."""
        cdef char *g
        cdef double squares = 0, scale = 1
        if vector.size != self.n + self.n_statistics or vector.dtype != self.params.dtype:
            raise ValueError(f"a vector of {vector.size} {vector.dtype} for {self.n} gradients and "
                             f"{self.n_statistics} statistics of {self.params.dtype}")
        self.check(t - 1, 1)
        g = <char *>pointer(vector)
        with nogil:
            if self.staged:
                squares = self.stages(g)
                scale = self.scale(squares)
            if scale >= 0:
                self.by(g, 0, self.n, scale, t)
                self.running(g + self.n * self.k.itemsize, 0, self.n_statistics)
        return sqrt(squares) if self.clip_norm >= 0 else float("nan")
