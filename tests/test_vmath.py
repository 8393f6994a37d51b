"""exp, expm1, log, log1p, tanh, sigmoid and the normal distribution of csrc/vmath.h within their bounds, through the kernels that
use them."""

import mpmath
import numpy as np
import pytest
from mpmath import mp

from tinydl._kernels import call
from tinydl._kernels.schema import KINDS

#: units in the last place, on every instruction set: of exp and logarithms; of the others, which keep less of what rounding takes
BOUND, WIDER = 2.0, 3.0
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def of(kind):
    return lambda x: call("activation", x=x, out=np.empty_like(x), kind=KINDS[kind], alpha=1)


def exp(x):
    """From dx = dy - exp(y) sum(dy) over the columns: y = (x, 0) and dy = (0, -1) give exp(x) in the first."""
    y, dy = np.zeros((2, len(x), 2), x.dtype)
    y[:, 0], dy[:, 1] = x, -1
    return call("log_softmax_backward", dy=dy, y=y, out=np.empty_like(y))[:, 0]


SIGMOID = of("sigmoid")


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def ulps(got, want, dtype):
    """|got - want| in units of want's last place (of the least normal number's, below it)."""
    info = np.finfo(dtype)
    exponent = np.maximum(np.frexp(np.abs(want))[1] - 1, info.minexp)
    return np.abs(got.astype(np.float64) - want) / np.ldexp(1.0, exponent - info.nmant)


@dtypes
def test_gates_of_recurrent_layers(dtype):
    """Sigmoid and tanh in an LSTM's step, from x alone: 3 units in the last place, and numbers that are not normal count as 0."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-100, 100, 200_000), rng.standard_normal(200_000), -np.geomspace(1e-30, 87, 5000),
                        [0.0, np.inf, -np.inf, 1e30, -1e30]]).astype(dtype)
    gates, h = np.empty((len(x), 1, 4), dtype), np.empty((len(x), 1), dtype)
    call("lstm", x=np.repeat(x[:, None, None], 4, 2), w_hh=np.zeros((4, 1), dtype), gates=gates, last=h)
    wide = x.astype(np.longdouble)
    for column, want in ((0, sigmoid(wide)), (2, np.tanh(wide)), (3, sigmoid(wide))):
        got, normal = gates[:, 0, column], np.abs(want) >= 2 * info.tiny
        assert ulps(got[normal].astype(np.longdouble), want[normal], dtype).max() <= 3
        assert (np.abs(got[~normal]) <= 4 * info.tiny).all() and (np.abs(got) <= 1).all()
    assert np.array_equal(np.sign(gates[:, 0, 2]), np.sign(x))
    call("lstm", x=np.full((1, 1, 4), np.nan, dtype), w_hh=np.zeros((4, 1), dtype), gates=gates[:1], last=h[:1])
    assert np.isnan(gates[:1]).all()


@pytest.mark.parametrize("ours, reference, odd, bound", [
    (of("tanh"), np.tanh, True, WIDER),
    (of("sigmoid"), sigmoid, False, WIDER),
    (exp, np.exp, False, BOUND),
    (of("elu"), lambda x: np.where(x < 0, np.expm1(x), x), True, WIDER),
], ids=["tanh", "sigmoid", "exp", "expm1"])
def test_float32_everywhere(ours, reference, odd, bound):
    """A sigmoid that is hardly a normal number, or is none, may be the least one."""
    x = np.arange(0, 2**32, 4001, dtype=np.uint64).astype(np.uint32).view(np.float32)
    ends = [0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, 1e-40, -1e-40, 88.72283, 88.72284, -87.4, -103.97, -103.98]
    x = np.append(x[np.isfinite(x)], np.array(ends, np.float32))
    y = ours(x)
    with np.errstate(over="ignore"):
        want = reference(x.astype(np.float64))
        rounded = want.astype(np.float32)
    finite = np.isfinite(rounded)
    assert np.array_equal(y[~finite], rounded[~finite])
    if reference is sigmoid:
        tiny = np.finfo(np.float32).tiny
        assert (y[want < 2 * tiny] <= 4 * tiny).all()
        finite &= want >= 2 * tiny
    assert ulps(y[finite], want[finite], np.float32).max() <= bound
    assert np.array_equal(np.signbit(y), np.signbit(x) & odd)
    assert np.isnan(ours(np.full(40, np.nan, np.float32))).all()


@pytest.mark.parametrize("ours, reference, top, bound", [
    (of("tanh"), mpmath.tanh, 25, WIDER),
    (SIGMOID, lambda x: 1 / (1 + mpmath.exp(-x)), 708, WIDER),
    (exp, mpmath.exp, 745, BOUND),
    (of("elu"), lambda x: mpmath.expm1(x) if x < 0 else x, 60, WIDER),
], ids=["tanh", "sigmoid", "exp", "expm1"])
def test_float64(ours, reference, top, bound):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-4, 4, 1000), rng.uniform(-top, min(top, 709), 300), [0.0, -0.0, 5e-324, -5e-324],
                        rng.choice([-1, 1], 300) * 10 ** rng.uniform(-15, 0, 300), [-1e300, -np.inf, -708.5]])
    with mp.workdps(40):
        for got, v in zip(ours(x), x, strict=True):
            want = reference(mp.mpf(float(v)))
            if ours is SIGMOID and want < 3e-308:
                assert got <= 9e-308
                continue
            exponent = max(mp.frexp(want)[1] - 1, -1022)
            assert abs(mp.mpf(float(got)) - want) <= bound * mp.ldexp(1, exponent - 52), v
    assert np.isnan(ours(np.full(40, np.nan))).all()


@dtypes
def test_normal_distribution_through_gelu(dtype):
    """gelu(x) / x is the normal distribution's value at x, also far below 0, where it is small: but for the rounding of x^2."""
    x = np.linspace(-9, 9, 4000).astype(dtype)
    y = of("gelu")(x)
    with mp.workdps(40):
        for got, v in zip(y, x, strict=True):
            want = mp.mpf(float(v)) * mpmath.ncdf(mp.mpf(float(v)))
            bound = 8 + (float(v) ** 2 if v < 0 else 0)
            assert abs(mp.mpf(float(got)) - want) <= bound * np.finfo(dtype).eps / 2 * abs(want), v
    far = np.array([-1e30, -40, 40, 1e30, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(of("gelu")(far), np.array([0, 0, 40, 1e30, np.inf, np.nan], dtype))


@dtypes
def test_mish_and_silu_far_from_zero(dtype):
    """Relative to what is large, and nothing of what is far below 0."""
    x = np.concatenate([np.linspace(-20, 20, 2001), [-1e30, -300.0, 300.0, 1e30, np.inf]]).astype(dtype)
    wide = x.astype(np.longdouble)
    with np.errstate(over="ignore", invalid="ignore"):
        softplus = np.log1p(np.exp(-np.abs(wide))) + np.maximum(wide, 0)
        slopes = {"mish": np.tanh(softplus), "silu": sigmoid(wide)}
        wants = {name: np.where(wide < -1e4, 0, wide * slope) for name, slope in slopes.items()}
    for kind, want in wants.items():
        y = of(kind)(x)
        info = np.finfo(dtype)
        np.testing.assert_allclose(y[:-1], want[:-1].astype(dtype), rtol=8 * info.eps, atol=2000 * info.tiny)
        assert y[-1] == np.inf and np.isnan(of(kind)(np.full(3, np.nan, dtype))).all()


@dtypes
def test_exp_below_through_softmax(dtype):
    """The softmax of (x, 0), x <= 0, is exp(x) / (exp(x) + 1) in the first: rounded three times, and 0 for what is not normal."""
    info = np.finfo(dtype)
    x = np.zeros((3000, 2), dtype)
    x[:, 0] = -np.append(np.geomspace(1e-30, 1.2 * -np.log(float(info.tiny)), 2999), np.inf)
    y = call("softmax", x=x, out=np.empty_like(x))[:, 0]
    e = np.exp(x[:, 0].astype(np.longdouble))
    normal = e >= 2 * info.tiny
    assert normal.sum() > 2000 and ulps(y[normal].astype(np.longdouble), (e / (1 + e))[normal], dtype).max() <= BOUND + 1.5
    assert (y[~normal] <= 2 * info.tiny).all() and (y[e < info.tiny / 2] == 0).all()
    x[0, 0] = np.nan
    assert np.isnan(call("softmax", x=x, out=np.empty_like(x))[0]).all()


@dtypes
def test_log_through_log_softmax(dtype):
    """The log_softmax of C equal numbers is -log(C)."""
    for C in [*range(1, 40), 64, 100, 1000, 4097]:
        y = call("log_softmax", x=np.zeros((1, C), dtype), out=np.empty((1, C), dtype))
        assert (y == y[0, 0]).all()
        assert C == 1 or ulps(y[0, 0], -np.log(C), dtype) <= BOUND
        assert C > 1 or y == 0


@dtypes
def test_log1p_through_cross_entropy(dtype):
    """For x < 0 and the target 0 the loss is log1p(exp(x)), whose exp is rounded as well."""
    zero = np.zeros(1, dtype)
    for v in -np.geomspace(1e-3, 85, 500).astype(dtype):
        got = call("sigmoid_cross_entropy", x=np.full(1, v), targets=zero)
        want = np.log1p(np.exp(np.float64(v)))
        assert abs(got - want) <= 1.5 * BOUND * np.finfo(dtype).eps * want, v
