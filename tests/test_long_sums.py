"""Sums of millions of terms: within the bounds that csrc/td.h, matmul.h and vector.h state, in a fixed tree of blocks of 4096.

With one chain of additions instead, float32 sums of 2^20 equal numbers are off by 1 percent, of 2^22 by 4.
"""
import copy

import numpy as np
import pytest
from kernel_cases import CHAIN, chain, tree

from tinydl import Model, data, losses, nn
from tinydl._kernels import call, reference
from tinydl._kernels.engine import NonFiniteError, partial_sums
from tinydl.parallel import Replica

U = float(np.finfo(np.float32).eps) / 2
LONGEST = 1 << 22


def constant(n, columns):
    return np.full((n, columns), 0.1, np.float32)


def skewed(n, columns):
    return np.exp(np.random.default_rng(n).standard_normal((n, columns), np.float32))


def alternating(n, columns):
    return skewed(n, columns) * np.where(np.arange(n) % 2, -1, 1)[:, None].astype(np.float32)


def exact(*arrays):
    return [a.astype(np.float64) for a in arrays]


def lanes(n):
    """Roundings of a sum of n float32: of blocks of 1024 on 16 lanes."""
    return min(n, 1024) / 16 + 24 + tree(n)


def vectors(n, count):
    return [np.full(n, np.nan, np.float32) for _ in range(count)]


@pytest.fixture(scope="module", params=[(kind, n) for kind in (constant, skewed, alternating)
                                        for n in (2 * CHAIN + 5, LONGEST)], ids=lambda p: f"{p[0].__name__}-{p[1]}")
def x(request):
    kind, n = request.param
    return kind(n, 1 if n == LONGEST else 3)


def within(error, steps, size):
    """|error| <= steps u size; 2 percent of it are for what is of second order in u, and for the float64 reference."""
    assert np.all(np.abs(error) <= 1.02 * steps * U * size), np.max(np.abs(error) / size) / U


def test_gradients_of_weights_and_biases(x):
    (n, C), (e,) = x.shape, exact(x)
    dw = call("matmul", a=x.T, b=x, out=np.empty((C, C), np.float32))
    within(dw - e.T @ e, chain(n) + 2, np.abs(e).T @ np.abs(e))
    within(call("column_sum", x=x, out=vectors(C, 1)[0]) - e.sum(0), chain(n) + 1, np.abs(e).sum(0))


def test_batch_norm(x):
    (n, C), (e,) = x.shape, exact(x)
    mean, rstd, batch_mean, batch_var, dgamma, dbeta = vectors(C, 6)
    call("batch_norm", x=x, out=np.empty_like(x), mean=mean, rstd=rstd, batch_mean=batch_mean, batch_var=batch_var)
    within(batch_mean - e.mean(0), chain(n) + 2, np.abs(e).mean(0))
    d = e - batch_mean.astype(np.float64)       # what the mean is off by, the variance is not asked for
    within(batch_var - (d * d).sum(0) / (n - 1), chain(n) + 4, (d * d).sum(0) / (n - 1))
    mean[:], rstd[:] = 0.5, 0.7
    call("batch_norm_backward", dy=x, x=x, mean=mean, rstd=rstd, out=np.empty_like(x), dgamma=dgamma, dbeta=dbeta)
    h = (e - mean.astype(np.float64)) * rstd.astype(np.float64)
    within(dgamma - (e * h).sum(0), chain(n) + 4, np.abs(e * h).sum(0))
    within(dbeta - e.sum(0), chain(n) + 1, np.abs(e).sum(0))


def test_layer_norm(x):
    """Of rows that are x's columns; and its gradients over the rows of x."""
    (n, C), (e,) = x.shape, exact(x)
    columns = x.T.copy()
    mean, rstd, dgamma, dbeta = vectors(C, 4)
    call("layer_norm", x=columns, out=np.empty_like(columns), mean=mean, rstd=rstd)
    within(mean - e.mean(0), lanes(n) + 2, np.abs(e).mean(0))
    means, rstds = np.full(n, 0.5, np.float32), np.full(n, 0.7, np.float32)
    call("layer_norm_backward", dy=x, x=x, mean=means, rstd=rstds, out=np.empty_like(x), dgamma=dgamma, dbeta=dbeta)
    h = (e - 0.5) * np.float64(np.float32(0.7))
    within(dgamma - (e * h).sum(0), chain(n) + 4, np.abs(e * h).sum(0))
    within(dbeta - e.sum(0), chain(n) + 1, np.abs(e).sum(0))
    means, rstds = means[:C], rstds[:C]
    for gamma in (None, np.full(n, 1, np.float32)):     # dx = rstd (dy - mean(dy) - h mean(dy h))
        dx = call("layer_norm_backward", dy=columns, x=columns, gamma=gamma, mean=means, rstd=rstds, out=np.empty_like(columns))
        g, gh = e.mean(0), (e * h).mean(0)
        size = np.abs(e) + np.abs(e).mean(0) + np.abs(h) * np.abs(e * h).mean(0)
        within(dx.T - (e - g - h * gh) * np.float64(np.float32(0.7)), lanes(n) + 8, size)


def test_softmax(x):
    rows, (e,) = x.T.copy(), exact(x.T)
    want = reference.log_softmax(e, np.empty_like(e))
    got = call("log_softmax", x=rows, out=np.empty_like(rows))
    within(got - want, lanes(len(x)) + 16, 1 + np.abs(want) + np.abs(e) + np.abs(e).max(1, keepdims=True))
    labels = np.zeros(len(rows), np.int64)
    loss, with_gradient = (call("softmax_cross_entropy", logits=rows, labels=labels, grad=grad)
                           for grad in (None, np.empty_like(rows)))
    assert loss == with_gradient


def test_a_sum_is_that_of_its_left_part_and_the_rest():
    """One tree, whatever the kernel: left parts are the largest 4096 2^i."""
    C = 3
    x = skewed(5 * CHAIN, C)
    whole = call("column_sum", x=x, out=vectors(C, 1)[0])
    left, rest = (call("column_sum", x=part, out=vectors(C, 1)[0]) for part in (x[:4 * CHAIN], x[4 * CHAIN:]))
    assert np.array_equal(whole, left + rest)
    ones = np.ones((len(x), 1), np.float32)
    assert np.array_equal(call("matmul", a=ones.T, b=x, out=np.empty((1, C), np.float32))[0], whole)
    rows = np.ones((2, len(x)), np.float32)
    dbeta = vectors(C, 1)[0]
    call("layer_norm_backward", dy=x, x=x, mean=rows[0], rstd=rows[1], out=np.empty_like(x), dbeta=dbeta)
    assert np.array_equal(dbeta, whole)
    assert [partial_sums(n) for n in (0, CHAIN, CHAIN + 1, 2 * CHAIN, 2 * CHAIN + 1, LONGEST)] == [0, 0, 1, 1, 2, 10]


@pytest.mark.parametrize("inputs", [20, 70])        # rows of 70, where shuffled, are read where they lie
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_plan_gives_its_sums_room(shuffled, inputs):
    """Gradients of batches as large as it takes, and of smaller ones, have the bits of the kernels alone."""
    rows, outputs = 2 * CHAIN + 9, 33
    rng = np.random.default_rng(0)
    x, y = rng.random((rows, inputs), np.float32), rng.random((rows, outputs), np.float32)
    model = Model(nn.Linear(inputs, outputs), seed=0)
    replica = Replica(model, losses.MeanSquaredError(), rows)
    for n in (rows, CHAIN + 1, 100):
        order = rng.permutation(rows)[:n] if shuffled else np.arange(n)
        gradients, dy = replica.gradient_vector(), np.empty((n, outputs), np.float32)
        replica.run(data.Batch(x, y, order) if shuffled else data.Batch(x[:n], y[:n], None), gradients)
        call("mean_squared_error", x=model.predict(x[order]), targets=y[order], grad=dy)
        dw = call("matmul", a=x[order].T, b=dy, out=np.empty((inputs, outputs), np.float32))
        db = call("column_sum", x=dy, out=np.empty(outputs, np.float32))
        assert np.array_equal(gradients, np.concatenate([dw.ravel(), db]))


@pytest.mark.parametrize("width, rows", [(2 * CHAIN + 9, 5), (3, 2 * CHAIN + 9)])
def test_all_that_a_long_sum_may_begin_and_end_with(width, rows):
    """A bias and ReLU, ReLU's derivative, gradients added up (of layers used twice): as in float64."""
    twice, norm = nn.Linear(3, 3), nn.LayerNorm(3)
    net = nn.Sequential(nn.Linear(width, 3), nn.ReLU(), twice, norm, twice, norm, nn.Linear(3, width), nn.LayerNorm(width))
    rng = np.random.default_rng(0)
    x, y = rng.random((rows, width)), rng.random((rows, width))
    gradients = []
    for dtype in ("float32", "float64"):
        model = Model(copy.deepcopy(net), dtype, seed=0)
        replica = Replica(model, losses.MeanSquaredError(), rows)
        gradients.append(replica.gradient_vector())
        replica.run(data.Batch(x.astype(dtype), y.astype(dtype), None), gradients[-1])
    np.testing.assert_allclose(*gradients, rtol=0, atol=1e-5 * np.abs(gradients[1]).max())


def test_a_gradient_that_is_not_finite_is_found():
    n = 2 * CHAIN
    x = np.full((n, 3), 5e35, np.float32)       # each block's sum is finite, all of them overflow
    model = Model(nn.Linear(3, 2, init="zeros"), seed=0)
    replica = Replica(model, losses.MeanSquaredError(), n)
    with pytest.raises(NonFiniteError):
        replica.run(data.Batch(x, np.full((n, 2), -1e3, np.float32), None), replica.gradient_vector())
