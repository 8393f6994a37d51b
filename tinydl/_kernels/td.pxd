# The C contract (csrc/td.h), for cimport.
from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef extern from "td.h" nogil:
    ctypedef int64_t i64
    ctypedef uint64_t u64
    enum:
        TD_OK, TD_CANCELLED, TD_PYTHON, TD_BAD_VALUE, TD_BAD_INDEX, TD_BAD_NUMBER, TD_BAD_GRADIENT, TD_TOO_FEW, TD_NO_PATH
        TD_NONE, TD_PARAM, TD_GRAD, TD_WORK, TD_STATE, TD_IN, TD_OUT, TD_ADDRESS, TD_SPACES
        TD_MAX_SOURCES, TD_MAX_REFS, TD_MAX_SIZES, TD_MAX_REALS, TD_MAX_NUMBERS, TD_MAX_STATE, TD_MIX
    i64 td_partials(i64 n)

    ctypedef struct td_ahead:
        const char *data
        i64 row_bytes, rows
        const i64 *index
        i64 n, row, byte
    ctypedef struct td_own:
        char *at
        i64 bytes
    ctypedef struct td_piece:
        void *panel
        int packed
        char *at[4]
        i64 bytes, stride, rows, byte
    ctypedef struct td_matmul:
        i64 m, n, k
        const void *a
        i64 a_row, a_col
        const void *b
        i64 b_row, b_col
        void *c
        i64 c_row
        const void *bias
        const void *grad
        i64 grad_row
        int accumulate, activation
        double alpha, beta
        void *scratch
        td_ahead *ahead
        const td_own *own
        td_piece *piece
        int *suspect
        int (*stop)(void *) noexcept nogil
        void *owner
        const void *const *rows
        void *partial

    ctypedef struct td_ref:
        i64 space, offset
    ctypedef struct td_dim:
        i64 fixed, per_sample
    ctypedef struct td_change:
        i64 kind
        double number[8]        # TD_MAX_CHANGE
    ctypedef struct td_pictures:
        i64 C, H, W
        const double *scale
        const double *shift
        const td_change *change
        i64 n
        const double *mix
        const i64 *rows
        i64 n_rows
    ctypedef struct td_source:
        const void *data
        i64 rows, row_items, dtype
        const td_pictures *pictures
        u64 key
        const i64 *offsets
        double padding
    i64 td_row(const td_source *s, i64 r, i64 n, i64 *there)
    i64 td_marked(uint8_t **marks, i64 k, i64 i, i64 n)
    i64 td_unmarked(uint8_t **marks, i64 k, i64 i, i64 n)
    ctypedef struct td_op
    ctypedef struct td_ctx:
        char *base[8]           # TD_SPACES; in this file lengths of arrays are C's to know
        i64 n
        const i64 *index
        i64 first_id
        td_source source[16]
        u64 seed, step
        double number, weight
        i64 detail
        void *scratch
        void *owner
        int (*stop)(void *) noexcept nogil
        int (*hook)(i64 hook, td_ctx *) noexcept nogil
        const void *const *rows
        td_ahead ahead
        td_own own
        int suspect
        uint8_t *marks
    ctypedef int (*td_op_fn)(const td_op *op, td_ctx *ctx) noexcept nogil
    ctypedef struct td_op:
        td_op_fn fn
        td_ref ref[8]
        td_dim dim[10]
        double real[2]
    ctypedef struct td_opdef:
        const char *name
        td_op_fn fn
    ctypedef struct td_gradient:
        const void *a
        const void *b
        double wa
        double wb
        void *mean
        i64 rows
        i64 stride
    ctypedef void (*td_update_fn)(void *p, const td_gradient *g, void *const *state, i64 n, const double *h, i64 t) noexcept nogil
    ctypedef struct td_updatedef:
        const char *name
        td_update_fn fn

    ctypedef struct td_kernels:
        const char *isa
        i64 itemsize
        i64 matmul_scratch
        void (*matmul)(const td_matmul *) noexcept nogil
        void (*weighted_mean)(const void *, const void *, void *, i64, double, double) noexcept nogil
        double (*squared_norm)(const void *, i64) noexcept nogil
        void (*clamp)(void *, i64, double) noexcept nogil
        const td_opdef *ops
        const td_updatedef *updates

cdef extern from "cpu.h" nogil:
    const td_kernels *td_isa(int i, int *usable)
    int td_cpu()
