"""The optimizers' rules (csrc/updates.h). engine/update.pyx binds the same ones to a model's parameters."""
from libc.string cimport strcmp

from tinydl._kernels.ops.door cimport OPTIONAL, READ, WRITE, Door
from tinydl._kernels.td cimport i64, td_gradient, td_update_fn


cdef _update(str kernel, const char *rule, p, g, tuple names, tuple state, int needed, const double *h, i64 t):
    """The first `needed` vectors of the state may not be None."""
    cdef Door d = Door(kernel, names)
    cdef void *pp = d.take(p, WRITE)
    cdef td_gradient gradient
    cdef void *ps[3]
    cdef td_update_fn fn = NULL
    cdef int i, k
    gradient.a, gradient.b, gradient.rows, gradient.stride = d.take(g, READ), NULL, 1, 0
    for k in range(len(state)):
        ps[k] = d.take(state[k], WRITE if k < needed else WRITE | OPTIONAL)
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
        fn(pp, &gradient, ps, d.size(0), h, t)
    return p


def sgd(p, g, momentum_buffer=None, *, double lr, double momentum=0.0, bint nesterov=False, double weight_decay=0.0):
    """g += weight_decay p; b := momentum b + g; p -= lr b, or lr (g + momentum b) with `nesterov`

    b is momentum_buffer, zeros before the first step; with momentum = 0 it is not used. The array g stays as it is.
    """
    cdef double[4] h = [lr, momentum, nesterov, weight_decay]
    if momentum != 0 and momentum_buffer is None:
        raise ValueError(f"sgd: momentum = {momentum} needs a momentum_buffer")
    return _update("sgd", b"sgd", p, g, ("p", "g", "momentum_buffer"), (momentum_buffer, ), 0, h, 1)


def adam(p, g, m, v, *, double lr=0.001, double beta1=0.9, double beta2=0.999, double eps=1e-8,
         double weight_decay=0.0, i64 step):
    """g += weight_decay p; m := beta1 m + (1 - beta1) g; v := beta2 v + (1 - beta2) g^2;
    p -= lr m' / (sqrt(v') + eps), m' = m / (1 - beta1^step), v' = v / (1 - beta2^step) (Kingma and Ba, 2015)"""
    cdef double[5] h = [lr, beta1, beta2, eps, weight_decay]
    return _update("adam", b"adam", p, g, ("p", "g", "m", "v"), (m, v), 2, h, step)


def adamw(p, g, m, v, *, double lr=0.001, double beta1=0.9, double beta2=0.999, double eps=1e-8,
          double weight_decay=0.01, i64 step):
    """p *= 1 - lr weight_decay; then as adam without decay (Loshchilov and Hutter, 2019)"""
    cdef double[5] h = [lr, beta1, beta2, eps, weight_decay]
    return _update("adamw", b"adamw", p, g, ("p", "g", "m", "v"), (m, v), 2, h, step)


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
                   (square_avg, momentum_buffer, grad_avg), 1, h, 1)
