"""The kernels' doors: arrays in, checked; the C body runs without the GIL; the array given as output comes back.

Every door checks dtype (float32 or float64, one for all), shape, C order, writability and overlap, and says
what it saw. "in place": the output may be exactly that input; otherwise outputs overlap nothing.
Letters in docstrings: R rows, C columns; `:=` overwrites, `+=` adds.
"""
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport isfinite
from libc.stdlib cimport free
from libc.string cimport strcmp

from tinydl._kernels._dispatch cimport table
from tinydl._kernels.td cimport (
    TD_BOOL, TD_ELU, TD_F32, TD_F64, TD_GELU, TD_GELU_TANH, TD_I8, TD_I16, TD_I32, TD_I64, TD_IDENTITY,
    TD_LEAKY_RELU, TD_RELU, TD_SIGMOID, TD_SILU, TD_TANH, TD_U8, TD_U16, TD_U32,
    i64, td_kernels, td_matmul, td_source, td_update_fn, u64,
)

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

# ---------------------------------------------------------------------------------------------- the door

cdef enum:          # what an array is to a call
    READ = 0
    WRITE = 1       # an output
    SHARED = 2      # an input that may be the first output
    OPTIONAL = 4    # may be None
    STRIDED = 8     # its rows may lie apart
    ANY = 16        # of any real dtype
    INT64 = 32

cdef dict _DTYPES = {
    TD_F32: "float32", TD_F64: "float64", TD_U8: "uint8", TD_I8: "int8", TD_U16: "uint16", TD_I16: "int16",
    TD_I32: "int32", TD_I64: "int64", TD_U32: "uint32", TD_BOOL: "bool",
}


cdef int _dtype(const Py_buffer *v) noexcept:
    """enum td_dtype, or -1"""
    cdef const char *f = v.format
    cdef char c
    if f == NULL:
        return TD_U8
    c = f[f[0] == b"="]         # "=f": native, but not aligned
    if f[1 + (f[0] == b"=")]:
        return -1
    if c == b"f":
        return TD_F32
    if c == b"d":
        return TD_F64
    if c == b"?":
        return TD_BOOL
    if c == b"b" or c == b"h" or c == b"i" or c == b"l" or c == b"q":
        return TD_I8 if v.itemsize == 1 else TD_I16 if v.itemsize == 2 else TD_I32 if v.itemsize == 4 else TD_I64
    if c == b"B" or c == b"H" or c == b"I" or c == b"L" or c == b"Q":
        return TD_U8 if v.itemsize == 1 else TD_U16 if v.itemsize == 2 else TD_U32 if v.itemsize == 4 else -1
    return -1


cdef class Door:
    """The arrays of one call: checked as they are taken, released when the call is over."""
    cdef Py_buffer view[10]
    cdef int role[10]
    cdef bint given[10]         # not None
    cdef int count, floats      # how many are taken; which of them set the dtype, or -1
    cdef str kernel
    cdef tuple names
    cdef const td_kernels *run

    def __cinit__(self, str kernel not None, tuple names not None):
        self.kernel = kernel
        self.names = names
        self.floats = -1

    def __dealloc__(self):
        for i in range(self.count):
            if self.given[i]:
                PyBuffer_Release(&self.view[i])

    cdef void *take(self, object array, int role) except? NULL:
        cdef int i = self.count, dtype
        cdef Py_buffer *v = &self.view[i]
        v.buf = NULL
        v.len = 0
        self.role[i] = role
        self.given[i] = False
        self.count += 1
        if array is None and role & OPTIONAL:
            return NULL
        try:
            PyObject_GetBuffer(array, v, PyBUF_FORMAT | PyBUF_STRIDES)
        except (BufferError, TypeError, ValueError):
            raise self.wrong_dtype(array) from None
        self.given[i] = True
        dtype = _dtype(v)
        if role & ANY:
            if dtype < 0:
                raise self.wrong_dtype(array)
        elif role & INT64:
            if dtype != TD_I64:
                raise self.wrong_dtype(array)
        elif dtype != TD_F32 and dtype != TD_F64:
            raise self.wrong_dtype(array)
        elif self.floats < 0:
            self.floats = i
            self.run = table(dtype == TD_F32)
        elif dtype != _dtype(&self.view[self.floats]):
            raise TypeError(f"{self.kernel}: {self.names[self.floats]} is {_DTYPES[_dtype(&self.view[self.floats])]} "
                            f"but {self.names[i]} is {_DTYPES[dtype]}")
        if <size_t>v.buf % <size_t>v.itemsize and v.len:
            raise ValueError(f"{self.kernel}: {self.names[i]} is not aligned to its items of {v.itemsize} bytes")
        if role & WRITE and v.readonly:
            raise ValueError(f"{self.kernel}: {self.names[i]} is read-only")
        if not role & STRIDED and not PyBuffer_IsContiguous(v, b"C"):
            raise ValueError(f"{self.kernel}: {self.names[i]} is not C-contiguous: "
                             f"shape {self.shape(i)}, strides {self.strides(i)}")
        return v.buf

    cdef wrong_dtype(self, array):
        role = self.role[self.count - 1]
        wanted = "any real dtype" if role & ANY else "int64" if role & INT64 else "float32 or float64"
        kind = str(array.dtype) if hasattr(array, "dtype") else f"a {type(array).__name__}"
        return TypeError(f"{self.kernel}: {self.names[self.count - 1]} is {kind}; needs an array of {wanted}")

    cdef shape(self, int i):
        return tuple([self.view[i].shape[k] for k in range(self.view[i].ndim)])

    cdef strides(self, int i):
        return tuple([self.view[i].strides[k] for k in range(self.view[i].ndim)])

    cdef wrong(self, str rule):
        """An error with the rule and every shape taken so far."""
        shapes = [f"{self.names[i]} {self.shape(i)}" for i in range(self.count) if self.given[i]]
        return ValueError(f"{self.kernel}: {rule}; got {', '.join(shapes)}")

    cdef i64 size(self, int i) noexcept nogil:
        return self.view[i].len // self.view[i].itemsize

    cdef int same(self, int i, int j) except -1:
        """Arrays i and j have one shape (or j is None)."""
        cdef Py_buffer *a = &self.view[i]
        cdef Py_buffer *b = &self.view[j]
        cdef int k, equal = not self.given[j] or a.ndim == b.ndim
        if self.given[j] and equal:
            for k in range(a.ndim):
                equal &= a.shape[k] == b.shape[k]
        if not equal:
            raise self.wrong(f"{self.names[i]} and {self.names[j]} must have the same shape")
        return 0

    cdef int rows(self, int i) except -1:
        """Array i is a matrix."""
        if self.view[i].ndim != 2:
            raise self.wrong(f"{self.names[i]} must have 2 dimensions")
        return 0

    cdef int vector(self, int i, i64 n, str of) except -1:
        """Array i has shape (n,) (or is None)."""
        if self.given[i] and (self.view[i].ndim != 1 or self.view[i].shape[0] != n):
            raise self.wrong(f"{self.names[i]} must have shape ({n},), {of}")
        return 0

    cdef int apart(self) except -1:
        """No output overlaps another array, but for a SHARED input that is exactly the first output."""
        cdef int w, i, first = -1
        cdef size_t a, b, a_end, b_end
        for w in range(self.count):
            if not self.role[w] & WRITE or self.view[w].len == 0:
                continue
            if first < 0:
                first = w
            a, a_end = self.extent(w)
            for i in range(self.count):
                if i == w or self.view[i].len == 0:
                    continue
                b, b_end = self.extent(i)
                if a < b_end and b < a_end and not (self.role[i] & SHARED and w == first and a == b and a_end == b_end):
                    raise ValueError(f"{self.kernel}: {self.names[w]} overlaps {self.names[i]} in memory: bytes "
                                     f"{a:#x}-{a_end:#x} and {b:#x}-{b_end:#x}")
        return 0

    cdef (size_t, size_t) extent(self, int i) noexcept:
        cdef Py_buffer *v = &self.view[i]
        cdef size_t start = <size_t>v.buf
        if self.role[i] & STRIDED:
            return start, start + <size_t>((v.shape[0] - 1) * v.strides[0] + v.shape[1] * v.itemsize)
        return start, start + <size_t>v.len


# ---------------------------------------------------------------------------------------------- matrix product

cdef dict _ACTIVATIONS = {
    None: TD_IDENTITY, "relu": TD_RELU, "leaky_relu": TD_LEAKY_RELU, "elu": TD_ELU, "sigmoid": TD_SIGMOID,
    "tanh": TD_TANH, "gelu": TD_GELU, "gelu_tanh": TD_GELU_TANH, "silu": TD_SILU,
}


cdef i64 _row_stride(Door d, int i) except -1:
    """Elements from one row of a matrix to the next; columns must be side by side."""
    cdef Py_buffer *v = &d.view[i]
    d.rows(i)
    if v.shape[0] <= 1 or v.shape[1] == 0:
        if v.shape[1] <= 1 or v.strides[1] == v.itemsize:
            return v.shape[1]
    elif (v.shape[1] == 1 or v.strides[1] == v.itemsize) and v.strides[0] % v.itemsize == 0 \
            and v.strides[0] >= v.shape[1] * v.itemsize:
        return v.strides[0] // v.itemsize
    raise d.wrong(f"{d.names[i]} must have its columns side by side and its rows apart (strides {d.strides(i)} bytes)")


def matmul(a, b, out, *, bint trans_a=False, bint trans_b=False, bint accumulate=False, bias=None, activation=None,
           double alpha=0.01):
    """out := act(op(a) op(b) + bias), or act(op(a) op(b) + bias + out) with `accumulate`; op transposes or not.

    a and b are matrices whose rows may lie apart; out is C-contiguous; bias has one number for each column.
    """
    cdef Door d = Door("matmul", ("a", "b", "out", "bias"))
    cdef td_matmul t
    cdef i64 a_stride, b_stride, inner
    cdef int failed
    t.a = d.take(a, READ | STRIDED)
    a_stride = _row_stride(d, 0)
    t.b = d.take(b, READ | STRIDED)
    b_stride = _row_stride(d, 1)
    t.c = d.take(out, WRITE)
    d.rows(2)
    t.bias = d.take(bias, READ | OPTIONAL)
    t.m, t.k = d.view[0].shape[0], d.view[0].shape[1]
    t.a_row, t.a_col = a_stride, 1
    if trans_a:
        t.m, t.k, t.a_row, t.a_col = t.k, t.m, 1, a_stride
    inner, t.n = d.view[1].shape[0], d.view[1].shape[1]
    t.b_row, t.b_col = b_stride, 1
    if trans_b:
        inner, t.n, t.b_row, t.b_col = t.n, inner, 1, b_stride
    if inner != t.k or d.view[2].shape[0] != t.m or d.view[2].shape[1] != t.n:
        raise ValueError(f"matmul: a {d.shape(0)}{'.T' if trans_a else ''} @ b {d.shape(1)}{'.T' if trans_b else ''} "
                         f"-> out {d.shape(2)} do not fit")
    d.vector(3, t.n, "one for each column of out")
    d.apart()
    if activation not in _ACTIVATIONS:
        raise ValueError(f"matmul: activation {activation!r} is none of {', '.join(map(repr, _ACTIVATIONS))}")
    t.activation = _ACTIVATIONS[activation]
    t.c_row, t.accumulate, t.alpha, t.grad, t.grad_row, t.ahead, t.suspect = t.n, accumulate, alpha, NULL, 0, NULL, NULL
    t.stop, t.owner = NULL, NULL
    with nogil:
        failed = posix_memalign(&t.scratch, 64, <size_t>d.run.matmul_scratch)
        if not failed:
            d.run.matmul(&t)
            free(t.scratch)
    if failed:
        raise MemoryError(f"matmul: no {d.run.matmul_scratch} bytes of scratch memory")
    return out


# ---------------------------------------------------------------------------------------------- activations

cdef tuple _X_OUT = ("x", "out")
cdef tuple _DY_Y_OUT = ("dy", "y", "out")
cdef tuple _DY_X_OUT = ("dy", "x", "out")


cdef _forward(str kernel, int kind, double alpha, x, out):
    cdef Door d = Door(kernel, _X_OUT)
    cdef const void *px = d.take(x, READ | SHARED)
    cdef void *py = d.take(out, WRITE)
    d.same(0, 1)
    d.apart()
    with nogil:
        d.run.activation(kind, alpha, px, py, d.size(0))
    return out


cdef _backward(str kernel, int kind, double alpha, dy, saved, out):
    cdef Door d = Door(kernel, _DY_X_OUT if kind >= TD_GELU else _DY_Y_OUT)
    cdef const void *pdy = d.take(dy, READ | SHARED)
    cdef const void *ps = d.take(saved, READ | SHARED)
    cdef void *pdx = d.take(out, WRITE)
    d.same(0, 1)
    d.same(0, 2)
    d.apart()
    with nogil:
        d.run.activation_backward(kind, alpha, pdy, ps, pdx, d.size(0))
    return out


cdef int _not_negative(str kernel, str name, double value) except -1:
    if not (value >= 0 and isfinite(value)):        # the gradient tells the sides apart by the output's sign
        raise ValueError(f"{kernel}: {name} = {value} must be a finite number >= 0")
    return 0


cdef int _gelu_kind(str kernel, approximate) except -1:
    if approximate == "none":
        return TD_GELU
    if approximate == "tanh":
        return TD_GELU_TANH
    raise ValueError(f"{kernel}: approximate = {approximate!r} must be 'none' or 'tanh'")


def relu(x, out):
    """out := max(x, 0), NaN stays; in place"""
    return _forward("relu", TD_RELU, 0, x, out)


def relu_backward(dy, y, out):
    """out := dy where y > 0, else 0; in place"""
    return _backward("relu_backward", TD_RELU, 0, dy, y, out)


def leaky_relu(x, out, double negative_slope=0.01):
    """out := x where x > 0, else negative_slope x; in place"""
    _not_negative("leaky_relu", "negative_slope", negative_slope)
    return _forward("leaky_relu", TD_LEAKY_RELU, negative_slope, x, out)


def leaky_relu_backward(dy, y, out, double negative_slope=0.01):
    """out := dy where y > 0, else negative_slope dy; in place"""
    _not_negative("leaky_relu_backward", "negative_slope", negative_slope)
    return _backward("leaky_relu_backward", TD_LEAKY_RELU, negative_slope, dy, y, out)


def elu(x, out, double alpha=1.0):
    """out := x where x > 0, else alpha (exp(x) - 1); in place"""
    _not_negative("elu", "alpha", alpha)
    return _forward("elu", TD_ELU, alpha, x, out)


def elu_backward(dy, y, out, double alpha=1.0):
    """out := dy where y > 0, else dy (y + alpha); in place"""
    _not_negative("elu_backward", "alpha", alpha)
    return _backward("elu_backward", TD_ELU, alpha, dy, y, out)


def sigmoid(x, out):
    """out := 1 / (1 + exp(-x)); in place"""
    return _forward("sigmoid", TD_SIGMOID, 0, x, out)


def sigmoid_backward(dy, y, out):
    """out := dy y (1 - y); in place"""
    return _backward("sigmoid_backward", TD_SIGMOID, 0, dy, y, out)


def tanh(x, out):
    """out := tanh(x); in place"""
    return _forward("tanh", TD_TANH, 0, x, out)


def tanh_backward(dy, y, out):
    """out := dy (1 - y^2); in place"""
    return _backward("tanh_backward", TD_TANH, 0, dy, y, out)


def gelu(x, out, approximate="none"):
    """out := x Phi(x), Phi = (1 + erf(x / sqrt 2)) / 2; with approximate="tanh"
    Phi = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (Hendrycks and Gimpel, 2016); in place"""
    return _forward("gelu", _gelu_kind("gelu", approximate), 0, x, out)


def gelu_backward(dy, x, out, approximate="none"):
    """out := dy (Phi(x) + x Phi'(x)); in place"""
    return _backward("gelu_backward", _gelu_kind("gelu_backward", approximate), 0, dy, x, out)


def silu(x, out):
    """out := x sigmoid(x); in place"""
    return _forward("silu", TD_SILU, 0, x, out)


def silu_backward(dy, x, out):
    """out := dy s (1 + x (1 - s)), s = sigmoid(x); in place"""
    return _backward("silu_backward", TD_SILU, 0, dy, x, out)


# ---------------------------------------------------------------------------------------------- softmax

def softmax(x, out):
    """out := exp(x) / sum(exp(x)) over each row of (R, C); in place"""
    cdef Door d = Door("softmax", _X_OUT)
    cdef const void *px = d.take(x, READ | SHARED)
    cdef void *py = d.take(out, WRITE)
    d.rows(0)
    d.same(0, 1)
    d.apart()
    with nogil:
        d.run.softmax(px, py, d.view[0].shape[0], d.view[0].shape[1])
    return out


def softmax_backward(dy, y, out):
    """out := y (dy - sum(dy y)) over each row; dy in place"""
    cdef Door d = Door("softmax_backward", _DY_Y_OUT)
    cdef const void *pdy = d.take(dy, READ | SHARED)
    cdef const void *py = d.take(y, READ)
    cdef void *pdx = d.take(out, WRITE)
    d.rows(0)
    d.same(0, 1)
    d.same(0, 2)
    d.apart()
    with nogil:
        d.run.softmax_backward(pdy, py, pdx, d.view[0].shape[0], d.view[0].shape[1])
    return out


def log_softmax(x, out):
    """out := x - log(sum(exp(x))) over each row of (R, C); in place"""
    cdef Door d = Door("log_softmax", _X_OUT)
    cdef const void *px = d.take(x, READ | SHARED)
    cdef void *py = d.take(out, WRITE)
    d.rows(0)
    d.same(0, 1)
    d.apart()
    with nogil:
        d.run.log_softmax(px, py, d.view[0].shape[0], d.view[0].shape[1])
    return out


def log_softmax_backward(dy, y, out):
    """out := dy - exp(y) sum(dy) over each row; dy in place"""
    cdef Door d = Door("log_softmax_backward", _DY_Y_OUT)
    cdef const void *pdy = d.take(dy, READ | SHARED)
    cdef const void *py = d.take(y, READ)
    cdef void *pdx = d.take(out, WRITE)
    d.rows(0)
    d.same(0, 1)
    d.same(0, 2)
    d.apart()
    with nogil:
        d.run.log_softmax_backward(pdy, py, pdx, d.view[0].shape[0], d.view[0].shape[1])
    return out


# ---------------------------------------------------------------------------------------------- losses

cdef tuple _LOSS = ("x", "targets", "grad")


def softmax_cross_entropy(logits, labels, grad=None):
    """mean over R of log(sum(exp(logits))) - logits[label]; grad := its gradient by logits; logits in place

    logits (R, C), labels (R,) int64 in 0..C-1.
    """
    cdef Door d = Door("softmax_cross_entropy", ("logits", "labels", "grad"))
    cdef const void *px = d.take(logits, READ | SHARED)
    cdef const i64 *label = <const i64 *>d.take(labels, READ | INT64)
    cdef void *pdx = d.take(grad, WRITE | OPTIONAL)
    cdef i64 R, C, r, bad = -1
    cdef double loss = 0
    d.rows(0)
    R, C = d.view[0].shape[0], d.view[0].shape[1]
    d.vector(1, R, "one for each row of logits")
    d.same(0, 2)
    d.apart()
    if R == 0:
        raise d.wrong("the mean of no rows is undefined")
    with nogil:
        for r in range(R):
            if label[r] < 0 or label[r] >= C:
                bad = r
                break
        if bad < 0:
            loss = d.run.softmax_cross_entropy(px, label, pdx, R, C)
    if bad >= 0:
        raise ValueError(f"softmax_cross_entropy: labels[{bad}] = {label[bad]} is outside 0..{C - 1}")
    return loss


cdef class _Loss(Door):
    """A loss of x and targets, element by element."""
    cdef const void *x
    cdef const void *t
    cdef void *dx
    cdef i64 n

    cdef int prepare(self, x, targets, grad) except -1:
        self.x = self.take(x, READ | SHARED)
        self.t = self.take(targets, READ)
        self.dx = self.take(grad, WRITE | OPTIONAL)
        self.same(0, 1)
        self.same(0, 2)
        self.apart()
        self.n = self.size(0)
        if self.n == 0:
            raise self.wrong("the mean of nothing is undefined")
        return 0


def sigmoid_cross_entropy(x, targets, grad=None):
    """mean of max(x, 0) - x t + log(1 + exp(-|x|)), x the logit of t in 0..1; grad := (sigmoid(x) - t) / n; in place"""
    cdef _Loss d = _Loss("sigmoid_cross_entropy", _LOSS)
    cdef double loss
    d.prepare(x, targets, grad)
    with nogil:
        loss = d.run.sigmoid_cross_entropy(d.x, d.t, d.dx, d.n)
    return loss


def mean_squared_error(x, targets, grad=None):
    """mean of (x - t)^2; grad := 2 (x - t) / n; in place"""
    cdef _Loss d = _Loss("mean_squared_error", _LOSS)
    cdef double loss
    d.prepare(x, targets, grad)
    with nogil:
        loss = d.run.mean_squared_error(d.x, d.t, d.dx, d.n)
    return loss


def mean_absolute_error(x, targets, grad=None):
    """mean of |x - t|; grad := sign(x - t) / n; in place"""
    cdef _Loss d = _Loss("mean_absolute_error", _LOSS)
    cdef double loss
    d.prepare(x, targets, grad)
    with nogil:
        loss = d.run.mean_absolute_error(d.x, d.t, d.dx, d.n)
    return loss


def huber(x, targets, grad=None, double delta=1.0):
    """mean of z^2 / 2 where z < delta, else delta (z - delta / 2), z = |x - t|;
    grad := min(max(x - t, -delta), delta) / n; in place"""
    cdef _Loss d = _Loss("huber", _LOSS)
    cdef double loss
    if not (delta > 0 and isfinite(delta)):
        raise ValueError(f"huber: delta = {delta} must be a finite number > 0")
    d.prepare(x, targets, grad)
    with nogil:
        loss = d.run.huber(d.x, d.t, d.dx, d.n, delta)
    return loss


# ---------------------------------------------------------------------------------------------- flat vectors

def add(a, b, out):
    """out := a + b; in place"""
    cdef Door d = Door("add", ("a", "b", "out"))
    cdef const void *pa = d.take(a, READ | SHARED)
    cdef const void *pb = d.take(b, READ | SHARED)
    cdef void *po = d.take(out, WRITE)
    d.same(0, 1)
    d.same(0, 2)
    d.apart()
    with nogil:
        d.run.add(pa, pb, po, d.size(0))
    return out


def accumulate(out, x):
    """out += x"""
    cdef Door d = Door("accumulate", ("out", "x"))
    cdef void *po = d.take(out, WRITE)
    cdef const void *px = d.take(x, READ | SHARED)
    d.same(0, 1)
    d.apart()
    with nogil:
        d.run.accumulate(po, px, d.size(0))
    return out


def divide(x, double d):
    """x := x / d"""
    cdef Door door = Door("divide", ("x",))
    cdef void *px = door.take(x, WRITE)
    if d == 0:
        raise ZeroDivisionError("divide: d = 0")
    with nogil:
        door.run.divide(px, d, door.size(0))
    return x


def scale(x, double a):
    """x := a x"""
    cdef Door d = Door("scale", ("x",))
    cdef void *px = d.take(x, WRITE)
    with nogil:
        d.run.scale(px, a, d.size(0))
    return x


def weighted_mean(a, b, out, double wa, double wb):
    """out := wa a + wb b; in place"""
    cdef Door d = Door("weighted_mean", ("a", "b", "out"))
    cdef const void *pa = d.take(a, READ | SHARED)
    cdef const void *pb = d.take(b, READ | SHARED)
    cdef void *po = d.take(out, WRITE)
    d.same(0, 1)
    d.same(0, 2)
    d.apart()
    with nogil:
        d.run.weighted_mean(pa, pb, po, d.size(0), wa, wb)
    return out


def squared_norm(x):
    """sum of x^2, added in double"""
    cdef Door d = Door("squared_norm", ("x",))
    cdef const void *px = d.take(x, READ)
    cdef double norm
    with nogil:
        norm = d.run.squared_norm(px, d.size(0))
    return norm


def all_finite(x):
    """True where no number of x is infinite or NaN"""
    cdef Door d = Door("all_finite", ("x",))
    cdef const void *px = d.take(x, READ)
    cdef int finite
    with nogil:
        finite = d.run.all_finite(px, d.size(0))
    return finite != 0


def column_sum(x, out, bint accumulate=False):
    """out := sum over the rows of x (R, C), or out += with `accumulate`"""
    cdef Door d = Door("column_sum", _X_OUT)
    cdef const void *px = d.take(x, READ)
    cdef void *py = d.take(out, WRITE)
    d.rows(0)
    d.vector(1, d.view[0].shape[1], "one for each column of x")
    d.apart()
    with nogil:
        d.run.column_sum(px, py, d.view[0].shape[0], d.view[0].shape[1], accumulate)
    return out


def gather_rows(source, index, out):
    """out[r] := source[index[r]], converted to out's dtype

    source (N, C) of any real dtype, index (R,) int64 in 0..N-1, out (R, C). IndexError names the first bad index;
    rows before it are written.
    """
    cdef Door d = Door("gather_rows", ("source", "index", "out"))
    cdef td_source s
    cdef i64 bad
    cdef const i64 *rows
    cdef void *py
    s.data = d.take(source, READ | ANY)
    rows = <const i64 *>d.take(index, READ | INT64)
    py = d.take(out, WRITE)
    d.rows(0)
    d.rows(2)
    d.vector(1, d.view[2].shape[0], "one for each row of out")
    if d.view[0].shape[1] != d.view[2].shape[1]:
        raise d.wrong("source and out must have the same number of columns")
    d.apart()
    s.rows, s.row_items, s.dtype = d.view[0].shape[0], d.view[0].shape[1], _dtype(&d.view[0])
    with nogil:
        bad = d.run.gather_rows(&s, rows, py, d.view[2].shape[0])
    if bad >= 0:
        raise IndexError(f"gather_rows: index[{bad}] = {rows[bad]} is outside the {s.rows} rows of source")
    return out


# ---------------------------------------------------------------------------------------------- norms

def layer_norm(x, gamma, beta, out, mean, rstd, double eps=1e-5):
    """out := (x - mean) rstd gamma + beta, rstd = 1 / sqrt(var + eps), over each row of x (R, C); x in place

    gamma, beta (C,) or None; mean, rstd (R,) are written, for layer_norm_backward.
    """
    cdef Door d = Door("layer_norm", ("x", "gamma", "beta", "out", "mean", "rstd"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef const void *pg = d.take(gamma, READ | OPTIONAL)
    cdef const void *pb = d.take(beta, READ | OPTIONAL)
    cdef void *py = d.take(out, WRITE)
    cdef void *pm = d.take(mean, WRITE)
    cdef void *ps = d.take(rstd, WRITE)
    cdef i64 R, C
    d.rows(0)
    R, C = d.view[0].shape[0], d.view[0].shape[1]
    d.vector(1, C, "one for each column of x")
    d.vector(2, C, "one for each column of x")
    d.same(0, 3)
    d.vector(4, R, "one for each row of x")
    d.vector(5, R, "one for each row of x")
    d.apart()
    with nogil:
        d.run.layer_norm(px, pg, pb, py, pm, ps, R, C, eps)
    return out


cdef _norm_backward(str kernel, bint by_row, dy, x, gamma, mean, rstd, out, dgamma, dbeta, bint accumulate):
    cdef Door d = Door(kernel, ("dy", "x", "gamma", "mean", "rstd", "out", "dgamma", "dbeta"))
    cdef const void *pdy = d.take(dy, READ | SHARED)
    cdef const void *px = d.take(x, READ)
    cdef const void *pg = d.take(gamma, READ | OPTIONAL)
    cdef const void *pm = d.take(mean, READ)
    cdef const void *ps = d.take(rstd, READ)
    cdef void *pdx = d.take(out, WRITE)
    cdef void *pdg = d.take(dgamma, WRITE | OPTIONAL)
    cdef void *pdb = d.take(dbeta, WRITE | OPTIONAL)
    cdef i64 R, C
    cdef int i
    d.rows(0)
    R, C = d.view[0].shape[0], d.view[0].shape[1]
    d.same(0, 1)
    d.same(0, 5)
    for i in (2, 6, 7):
        d.vector(i, C, "one for each column of x")
    for i in (3, 4):
        d.vector(i, R if by_row else C, f"one for each {'row' if by_row else 'column'} of x")
    d.apart()
    with nogil:
        if by_row:
            d.run.layer_norm_backward(pdy, px, pg, pm, ps, pdx, pdg, pdb, R, C, accumulate)
        else:
            d.run.batch_norm_backward(pdy, px, pg, pm, ps, pdx, pdg, pdb, R, C, accumulate)
    return out


def layer_norm_backward(dy, x, gamma, mean, rstd, out, dgamma=None, dbeta=None, bint accumulate=False):
    """out := gradient of layer_norm by x; dgamma := sum(dy h), dbeta := sum(dy) over rows, h = (x - mean) rstd,
    or += with `accumulate`; dy in place"""
    return _norm_backward("layer_norm_backward", True, dy, x, gamma, mean, rstd, out, dgamma, dbeta, accumulate)


def batch_norm(x, gamma, beta, out, mean, rstd, batch_mean=None, batch_var=None, double eps=1e-5):
    """out := (x - mean) rstd gamma + beta, rstd = 1 / sqrt(var + eps), over each column of x (R, C), R > 0; x in place

    gamma, beta (C,) or None; mean, rstd (C,) are written, for batch_norm_backward; so are batch_mean and batch_var
    (C,), for running statistics: there the variance is the unbiased one (0 for a single row).
    """
    cdef Door d = Door("batch_norm", ("x", "gamma", "beta", "out", "mean", "rstd", "batch_mean", "batch_var"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef const void *pg = d.take(gamma, READ | OPTIONAL)
    cdef const void *pb = d.take(beta, READ | OPTIONAL)
    cdef void *py = d.take(out, WRITE)
    cdef void *pm = d.take(mean, WRITE)
    cdef void *ps = d.take(rstd, WRITE)
    cdef void *pbm = d.take(batch_mean, WRITE | OPTIONAL)
    cdef void *pbv = d.take(batch_var, WRITE | OPTIONAL)
    cdef i64 R, C
    cdef int i
    d.rows(0)
    R, C = d.view[0].shape[0], d.view[0].shape[1]
    d.same(0, 3)
    for i in (1, 2, 4, 5, 6, 7):
        d.vector(i, C, "one for each column of x")
    d.apart()
    if R == 0:
        raise d.wrong("the mean of no rows is undefined")
    with nogil:
        d.run.batch_norm(px, pg, pb, py, pm, ps, pbm, pbv, R, C, eps)
    return out


def batch_norm_inference(x, gamma, beta, running_mean, running_var, out, double eps=1e-5):
    """out := (x - running_mean) / sqrt(running_var + eps) gamma + beta over the columns of x (R, C); x in place"""
    cdef Door d = Door("batch_norm_inference", ("x", "gamma", "beta", "running_mean", "running_var", "out"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef const void *pg = d.take(gamma, READ | OPTIONAL)
    cdef const void *pb = d.take(beta, READ | OPTIONAL)
    cdef const void *pm = d.take(running_mean, READ)
    cdef const void *pv = d.take(running_var, READ)
    cdef void *py = d.take(out, WRITE)
    cdef i64 R, C
    cdef int i
    d.rows(0)
    R, C = d.view[0].shape[0], d.view[0].shape[1]
    d.same(0, 5)
    for i in range(1, 5):
        d.vector(i, C, "one for each column of x")
    d.apart()
    with nogil:
        d.run.batch_norm_inference(px, pg, pb, pm, pv, py, R, C, eps)
    return out


def batch_norm_backward(dy, x, gamma, mean, rstd, out, dgamma=None, dbeta=None, bint accumulate=False):
    """out := gradient of batch_norm by x; dgamma := sum(dy h), dbeta := sum(dy) over rows, h = (x - mean) rstd,
    or += with `accumulate`; dy in place"""
    return _norm_backward("batch_norm_backward", False, dy, x, gamma, mean, rstd, out, dgamma, dbeta, accumulate)


def dropout(x, out, double rate, u64 seed, u64 step, u64 layer=0, ids=None, i64 first_id=0):
    """out := x / (1 - rate) where hash(seed, step, layer, sample, column) >= rate 2^32, else 0; x (R, C); in place

    ids (R,) int64 numbers the samples; without it they are first_id, first_id + 1, ... The backward pass is the same.
    """
    cdef Door d = Door("dropout", ("x", "out", "ids"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef void *py = d.take(out, WRITE)
    cdef const i64 *pi = <const i64 *>d.take(ids, READ | INT64 | OPTIONAL)
    if not 0 <= rate <= 1:
        raise ValueError(f"dropout: rate = {rate} is outside 0..1")
    d.rows(0)
    d.same(0, 1)
    d.vector(2, d.view[0].shape[0], "one for each row of x")
    d.apart()
    with nogil:
        d.run.dropout(px, py, d.view[0].shape[0], d.view[0].shape[1], rate, seed, step, layer, pi, first_id)
    return out


# ---------------------------------------------------------------------------------------------- optimizers

cdef _update(str kernel, const char *rule, p, g, tuple names, tuple state, const double *h, i64 t):
    cdef Door d = Door(kernel, names)
    cdef void *pp = d.take(p, WRITE)
    cdef const void *pg = d.take(g, READ)
    cdef void *ps[3]
    cdef td_update_fn fn = NULL
    cdef int i, k
    for k in range(len(state)):
        ps[k] = d.take(state[k], WRITE | OPTIONAL)
    for i in range(1, d.count):
        d.same(0, i)
    d.apart()
    if t < 1:
        raise ValueError(f"{kernel}: step = {t} must be 1 or more")
    i = 0
    while d.run.updates[i].name != NULL:
        if strcmp(d.run.updates[i].name, rule) == 0:
            fn = d.run.updates[i].fn
        i += 1
    with nogil:
        fn(pp, pg, ps, d.size(0), h, t)
    return p


def sgd(p, g, momentum_buffer=None, *, double lr, double momentum=0.0, bint nesterov=False, double weight_decay=0.0):
    """g += weight_decay p; b := momentum b + g; p -= lr b, or lr (g + momentum b) with `nesterov`

    b is momentum_buffer, zeros before the first step; with momentum = 0 it is not used. The array g stays as it is.
    """
    cdef double[4] h = [lr, momentum, nesterov, weight_decay]
    if momentum != 0 and momentum_buffer is None:
        raise ValueError(f"sgd: momentum = {momentum} needs a momentum_buffer")
    return _update("sgd", b"sgd", p, g, ("p", "g", "momentum_buffer"), (momentum_buffer, ), h, 1)


def adam(p, g, m, v, *, double lr=0.001, double beta1=0.9, double beta2=0.999, double eps=1e-8,
         double weight_decay=0.0, i64 step):
    """g += weight_decay p; m := beta1 m + (1 - beta1) g; v := beta2 v + (1 - beta2) g^2;
    p -= lr m' / (sqrt(v') + eps), m' = m / (1 - beta1^step), v' = v / (1 - beta2^step) (Kingma and Ba, 2015)"""
    cdef double[5] h = [lr, beta1, beta2, eps, weight_decay]
    return _update("adam", b"adam", p, g, ("p", "g", "m", "v"), (m, v), h, step)


def adamw(p, g, m, v, *, double lr=0.001, double beta1=0.9, double beta2=0.999, double eps=1e-8,
          double weight_decay=0.01, i64 step):
    """p *= 1 - lr weight_decay; then as adam without decay (Loshchilov and Hutter, 2019)"""
    cdef double[5] h = [lr, beta1, beta2, eps, weight_decay]
    return _update("adamw", b"adamw", p, g, ("p", "g", "m", "v"), (m, v), h, step)


def rmsprop(p, g, square_avg, momentum_buffer=None, grad_avg=None, *, double lr=0.01, double alpha=0.99,
            double eps=1e-8, double weight_decay=0.0, double momentum=0.0, bint centered=False):
    """g += weight_decay p; v := alpha v + (1 - alpha) g^2; b := momentum b + g / (sqrt(v) + eps); p -= lr b

    v is square_avg, b momentum_buffer (needed where momentum is not 0), both zeros before the first step. `centered`:
    m := alpha m + (1 - alpha) g in grad_avg, and v - m^2 under the root.
    """
    cdef double[6] h = [lr, alpha, eps, weight_decay, momentum, centered]
    if momentum != 0 and momentum_buffer is None:
        raise ValueError(f"rmsprop: momentum = {momentum} needs a momentum_buffer")
    if centered and grad_avg is None:
        raise ValueError("rmsprop: centered = True needs a grad_avg")
    return _update("rmsprop", b"rmsprop", p, g, ("p", "g", "square_avg", "momentum_buffer", "grad_avg"),
                   (square_avg, momentum_buffer, grad_avg), h, 1)
