"""The optimizer's step: a rule bound to its parameters."""
import numpy as np

from libc.stdint cimport int64_t
from libc.string cimport strcmp

from tinydl._kernels._dispatch cimport table
from tinydl._kernels.engine.program cimport pointer
from tinydl._kernels import schema
from tinydl._kernels.td cimport TD_MAX_STATE, td_gradient, td_kernels, td_update_fn


cdef int check(str name, vector, int64_t n, dtype) except -1:
    """ValueError where `vector` is not n elements of dtype, side by side, that may be written."""
    if vector.size != n or vector.dtype != dtype or not vector.flags.c_contiguous or not vector.flags.writeable:
        raise ValueError(f"{name} must be {n} {dtype} side by side, writeable; got {vector.size} {vector.dtype}, strides "
                         f"{vector.strides}{'' if vector.flags.writeable else ', read-only'}")
    return 0


cdef class Update:
    """An optimizer's rule bound to its parameters: p := rule(p, g, state, numbers, t).

    Behind the gradients, a slot's vector holds the batch statistics of layers that keep running ones:
    running := running + momentum * (batch - running), one momentum for each.

    params, and the vectors of `state` (None: not there), are flat arrays of one length and dtype, float32 or float64;
    ValueError says which is not. They stay alive and where they are as long as this does.
    """

    def __cinit__(self, str rule, params, dict state, statistics, momenta):
        cdef int j = 0
        if rule not in schema.RULES:
            raise ValueError(f"no update rule is called {rule!r}; there are {', '.join(schema.RULES)}")
        self.rule = schema.RULES[rule]
        unknown = set(state) - set(self.rule.vectors)
        missing = {name for name, unless in self.rule.vectors.items() if not unless} - set(state)
        if unknown or missing:
            raise ValueError(f"{rule} has the state {self.rule.state!r}; got {sorted(state)}")
        dtype = params.dtype if params.dtype in (np.float32, np.float64) else np.dtype(np.float32)
        check("params", params, params.size, dtype)
        check("statistics", statistics, statistics.size, dtype)
        for name, vector in state.items():
            check(f"state {name}", vector, params.size, dtype)
        if momenta.size != statistics.size:
            raise ValueError(f"{momenta.size} momenta for {statistics.size} running statistics")
        self.k = table(dtype == np.float32)
        self.params, self.state, self.statistics = params, state, statistics
        self.momenta = np.ascontiguousarray(momenta, np.float64)
        self.n, self.n_statistics = params.size, statistics.size
        self.params_at, self.statistics_at = <char *>pointer(params), <char *>pointer(statistics)
        self.momentum = <const double *>pointer(self.momenta)
        key = rule.encode()
        j = 0
        while self.k.updates[j].name != NULL and strcmp(self.k.updates[j].name, key) != 0:
            j += 1
        self.fn = self.k.updates[j].fn
        for j, name in enumerate(self.rule.vectors):
            self.vectors[j] = <char *>pointer(state[name]) if name in state else NULL

    def set(self, dict numbers):
        """Set the rule's numbers (learning rate and so on), by name. ValueError if the rule needs, with these numbers, a state
        vector that it was not given."""
        cdef int j
        if numbers.keys() != self.rule.reals.keys():
            raise ValueError(f"{self.rule.name} has the numbers {', '.join(self.rule.reals)}; got {', '.join(numbers)}")
        for name, unless in self.rule.vectors.items():
            if unless and numbers[unless] and name not in self.state:
                raise ValueError(f"{self.rule.name}: {unless} = {numbers[unless]} needs state {name}")
        for j, name in enumerate(self.rule.reals):
            self.numbers[j] = numbers[name]

    cdef void part(self, const td_gradient *g, int64_t at, int64_t count, int64_t t) noexcept nogil:
        """Update parameters at..at+count-1 by g, their gradient."""
        cdef void *state[TD_MAX_STATE]
        cdef int j
        cdef int64_t offset = at * self.k.itemsize
        for j in range(TD_MAX_STATE):
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
        """Make update number t (from 1) from one vector: the gradients of all parameters, then the batch statistics. The
        Python driver calls this."""
        cdef td_gradient g
        if vector.size != self.n + self.n_statistics or vector.dtype != self.params.dtype:
            raise ValueError(f"a vector of {vector.size} {vector.dtype} for {self.n} gradients and "
                             f"{self.n_statistics} statistics of {self.params.dtype}")
        g.a, g.b, g.rows, g.stride = pointer(vector), NULL, 1, 0
        with nogil:
            self.part(&g, 0, self.n, t)
            self.running(<const char *>g.a + self.n * self.k.itemsize, 0, self.n_statistics)
