"""exp, tanh, sigmoid, erf of csrc/vmath.h within their bounds, through the kernels that use them."""
import mpmath
import numpy as np
import pytest

from tinydl import _kernels as K

#: units in the last place; without fused multiply-adds tanh and sigmoid come to 2.3
BOUND = 2.0 if K.isa != "generic" else 2.5


def ulps(got, want, dtype):
    """|got - want| in units of want's last place (of the least normal number's, below it)."""
    info = np.finfo(dtype)
    exponent = np.maximum(np.frexp(np.abs(want))[1] - 1, info.minexp)
    return np.abs(got.astype(want.dtype) - want) / np.ldexp(np.ones_like(want), exponent - info.nmant)


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@pytest.mark.parametrize("name, reference", [("tanh", np.tanh), ("sigmoid", sigmoid)])
def test_float32_everywhere(name, reference):
    x = np.arange(0, 2**32, 4001, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.append(x[~np.isnan(x)], np.array([0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40, 88.8, -103.9], np.float32))
    y = getattr(K, name)(x, np.empty_like(x))
    assert ulps(y, reference(x.astype(np.float64)), np.float32).max() <= BOUND
    assert np.array_equal(np.signbit(y), np.signbit(reference(x)))
    assert np.isnan(getattr(K, name)(np.array([np.nan], np.float32), np.empty(1, np.float32)))[0]


@pytest.mark.parametrize("name, reference", [("tanh", mpmath.tanh), ("sigmoid", lambda x: 1 / (1 + mpmath.exp(-x)))])
def test_float64(name, reference):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-4, 4, 700), rng.uniform(-40, 40, 300),
                        rng.standard_normal(500) * 10.0 ** rng.integers(-12, 1, 500)])
    y = getattr(K, name)(x, np.empty_like(x))
    with mpmath.workdps(40):
        error = [abs(mpmath.mpf(float(a)) - reference(mpmath.mpf(float(v)))) / float(np.spacing(abs(a)))
                 for a, v in zip(y, x, strict=True)]
    # spacing(y) may be half or twice the true value's unit at a power of two
    assert max(error) <= 2 * BOUND and np.quantile(np.array(error, float), 0.99) <= BOUND


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_through_gelu(dtype):
    """gelu(x) / x - 1/2 = erf(x / sqrt 2) / 2: rounded a few times more on the way."""
    x = np.linspace(-6, 6, 4001).astype(dtype)
    x = x[x != 0]
    y = K.gelu(x, np.empty_like(x)).astype(np.float64) / x
    want = np.array([float(mpmath.ncdf(float(v))) for v in x])
    np.testing.assert_allclose(y, want, rtol=0, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_through_softmax(dtype):
    """softmax([0, -x]) = (1, exp(-x)) / (1 + exp(-x))."""
    x = np.linspace(0, 80, 5001).astype(dtype)
    y = K.softmax(np.ascontiguousarray(np.stack([0 * x, -x], 1)), np.empty((len(x), 2), dtype))
    e = np.exp(-x.astype(np.longdouble))
    # exp, the sum, and the division round once each
    np.testing.assert_allclose(y[:, 1], (e / (1 + e)).astype(np.float64), rtol=2.5 * np.finfo(dtype).eps)
