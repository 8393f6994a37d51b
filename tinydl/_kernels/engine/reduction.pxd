cimport cython
from libc.stdint cimport int64_t, uint8_t

from tinydl._kernels.engine.program cimport LateProduct, Program
from tinydl._kernels.engine.update cimport Update
from tinydl._kernels.td cimport td_ctx, td_gradient

cdef enum:
    NEAR = 2 << 20          # bytes: what is written next is asked for, and folded in place, where a cache may hold it
    MOST_KEPT = 16
    DEFERRED_SLOTS = 4      # of groups of more, each worker would read more than the gradients are


cdef struct Area:           # of parameters: `rows` rows of `row` of them, `stride` apart, the first from `at` on
    int64_t at, rows, row, stride
    const LateProduct *made_by    # the late product that writes their gradients, or NULL
    int64_t r, c            # the row and column of it where they begin
    int64_t first           # the first row that this worker makes
    int64_t panel           # elements between its rows of a' of one slot and of the next
    char *scratch           # this worker's, for making them

cdef struct Reduced:
    td_gradient g           # of some slots: one vector, or the mean of two that is still to be taken
    double weight           # 0: none of them counts
    bint theirs             # g.a is in a slot that another worker filled


cdef int64_t room(Program program) noexcept


@cython.final
cdef class Reduction:
    cdef Update update
    cdef Program program
    cdef object slots
    cdef int n_workers
    cdef char **slot
    # of the group under way
    cdef int64_t k          # its slots
    cdef double *arrived    # of each, the sum of the weights that counted (without any, its samples); 0: failed, or none counts
    cdef const td_ctx **by  # of the replica that left the slot's late products to the update, or NULL
    cdef int64_t home       # the first slot that arrived: stages see the averaged gradient there
    cdef double *squares    # of its blocks
    # of a group that is run in several blocks of as many batches as there are slots
    cdef object kept_arrays
    cdef char *kept[MOST_KEPT]          # means of the blocks so far, each of a power of two of them, fewer than the one before
    cdef double kept_weight[MOST_KEPT]
    cdef int n_kept
    cdef int64_t block      # blocks so far
    cdef bint exchanges     # that gradient, with the statistics behind it, is exchanged with others' before the update
    cdef object marks_array
    cdef uint8_t *marks     # of each slot, which rows of the program's tables hold other than 0; NULL: nobody knows
    cdef int64_t n_slots
    cdef bint *passes       # of each table, whether updates by t > first pass over other rows
    cdef uint8_t **marked   # of the slots of the group that count: where the marks of the table under way are
    cdef int64_t first      # the run's first update
    cdef int64_t most       # the most samples of those slots; 0: there are none

    cdef void arrive(self, int64_t s, double weight) noexcept nogil
    cdef void open(self, int64_t k) noexcept nogil
    cdef void slice(self, int w, int64_t n, int64_t *lo, int64_t *hi) noexcept nogil
    cdef void blocks(self, int w, int64_t *lo, int64_t *hi) noexcept nogil
    cdef void gather(self, int w, char *scratch) noexcept nogil
    cdef double total(self) noexcept nogil
    cdef int joined(self, bint last) noexcept nogil
    cdef void keep(self, int w, bint last, char *scratch) noexcept nogil
    cdef void note_kept(self, bint last) noexcept nogil
    cdef double weight(self, int64_t lo, int64_t hi) noexcept nogil
    cdef double gather_statistics(self, char *scratch) noexcept nogil
    cdef void run(self, int w, int64_t t, double scale, char *scratch) noexcept nogil
    cdef int mark(self, Program program, int64_t first) except -1
    cdef uint8_t *marks_of(self, int64_t s) noexcept nogil
    cdef int64_t run_of(self, int w, int64_t *at, int64_t end, int64_t t) noexcept nogil
    cdef void plain(self, int w, int64_t first, int64_t end, int64_t t, char *scratch) noexcept nogil
    cdef void product(self, int w, const LateProduct *p, int64_t t, char *scratch) noexcept nogil
    cdef void make(self, int64_t s, const Area *area, char *to) noexcept nogil
    cdef bint uncached(self) noexcept nogil
    cdef Reduced halves(self, int w, int64_t lo, int64_t hi, const Area *area, char *scratch) noexcept nogil
    cdef Reduced mean_of(self, int w, int64_t lo, int64_t hi, const Area *area, char *scratch) noexcept nogil
