"""Activations of each number by itself (csrc/activations.h)."""
from libc.math cimport isfinite

from tinydl._kernels.ops.door cimport READ, SHARED, WRITE, Door
from tinydl._kernels.td cimport TD_ELU, TD_GELU, TD_GELU_TANH, TD_LEAKY_RELU, TD_RELU, TD_SIGMOID, TD_SILU, TD_TANH


cdef _forward(str kernel, int kind, double alpha, x, out):
    cdef Door d = Door(kernel, ("x", "out"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef void *py = d.take(out, WRITE)
    d.same(0, 1)
    d.apart()
    with nogil:
        d.run.activation(kind, alpha, px, py, d.size(0))
    return out


cdef _backward(str kernel, int kind, double alpha, dy, saved, out):
    cdef Door d = Door(kernel, ("dy", "x", "out") if kind >= TD_GELU else ("dy", "y", "out"))
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
