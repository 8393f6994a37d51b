# The C contract (csrc/td.h), for cimport.
from libc.stdint cimport int64_t, uint64_t

cdef extern from "td.h" nogil:
    ctypedef int64_t i64
    ctypedef uint64_t u64
    enum:
        TD_OK, TD_CANCELLED, TD_PYTHON, TD_BAD_TARGET, TD_BAD_INDEX, TD_BAD_LOSS, TD_BAD_GRADIENT
        TD_IDENTITY, TD_RELU, TD_LEAKY_RELU, TD_ELU, TD_SIGMOID, TD_TANH, TD_GELU, TD_GELU_TANH, TD_SILU
        TD_F32, TD_F64, TD_U8, TD_I8, TD_U16, TD_I16, TD_I32, TD_I64, TD_U32, TD_BOOL
        TD_NONE, TD_PARAM, TD_GRAD, TD_WORK, TD_STATE, TD_IN, TD_OUT, TD_SPACES
        TD_MAX_REFS, TD_MAX_DIMS, TD_MAX_REALS
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
        double alpha
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
    ctypedef struct td_source:
        const void *data
        i64 rows, row_items, dtype
    ctypedef struct td_op
    ctypedef struct td_ctx:
        char *base[7]
        i64 n
        const i64 *index
        i64 first_id
        td_source x, y
        u64 seed, step
        double loss
        i64 detail
        void *scratch
        void *owner
        int (*stop)(void *) noexcept nogil
        int (*hook)(const td_op *, td_ctx *) noexcept nogil
        const void *const *rows
        td_ahead ahead
        td_own own
        int suspect
    ctypedef int (*td_op_fn)(const td_op *op, td_ctx *ctx) noexcept nogil
    ctypedef struct td_op:
        td_op_fn fn
        td_ref ref[10]
        td_dim dim[10]
        double real[4]
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
        void (*activation)(int, double, const void *, void *, i64) noexcept nogil
        void (*activation_backward)(int, double, const void *, const void *, void *, i64) noexcept nogil
        void (*softmax)(const void *, void *, i64, i64) noexcept nogil
        void (*softmax_backward)(const void *, const void *, void *, i64, i64) noexcept nogil
        void (*log_softmax)(const void *, void *, i64, i64) noexcept nogil
        void (*log_softmax_backward)(const void *, const void *, void *, i64, i64) noexcept nogil
        double (*softmax_cross_entropy)(const void *, const i64 *, void *, i64, i64) noexcept nogil
        double (*sigmoid_cross_entropy)(const void *, const void *, void *, i64) noexcept nogil
        double (*mean_squared_error)(const void *, const void *, void *, i64) noexcept nogil
        double (*mean_absolute_error)(const void *, const void *, void *, i64) noexcept nogil
        double (*huber)(const void *, const void *, void *, i64, double) noexcept nogil
        void (*add)(const void *, const void *, void *, i64) noexcept nogil
        void (*accumulate)(void *, const void *, i64) noexcept nogil
        void (*divide)(void *, double, i64) noexcept nogil
        void (*scale)(void *, double, i64) noexcept nogil
        void (*weighted_mean)(const void *, const void *, void *, i64, double, double) noexcept nogil
        double (*squared_norm)(const void *, i64) noexcept nogil
        int (*all_finite)(const void *, i64) noexcept nogil
        void (*column_sum)(const void *, void *, i64, i64, int) noexcept nogil
        i64 (*gather_rows)(const td_source *, const i64 *, void *, i64) noexcept nogil
        void (*layer_norm)(const void *, const void *, const void *, void *, void *, void *, i64, i64, double) noexcept nogil
        void (*layer_norm_backward)(const void *, const void *, const void *, const void *, const void *,
                                    void *, void *, void *, i64, i64, int, void *) noexcept nogil
        void (*batch_norm)(const void *, const void *, const void *, void *, void *, void *, void *, void *,
                           i64, i64, double) noexcept nogil
        void (*batch_norm_inference)(const void *, const void *, const void *, const void *, const void *, void *,
                                     i64, i64, double) noexcept nogil
        void (*batch_norm_backward)(const void *, const void *, const void *, const void *, const void *,
                                    void *, void *, void *, i64, i64, int) noexcept nogil
        void (*dropout)(const void *, void *, i64, i64, double, u64, u64, u64, const i64 *, i64) noexcept nogil
        const td_opdef *ops
        const td_updatedef *updates

cdef extern from "cpu.h" nogil:
    const td_kernels *td_isa(int i, int *usable)
    int td_cpu()
