"""Every kernel against its NumPy reference in float64, its bits, and its door. The table is kernel_cases.py."""
import hashlib
import inspect
import os
import platform
import re
import subprocess
import sys

import numpy as np
import pytest
from kernel_cases import CASES, EXPORTED, copied

from tinydl import _kernels as kernels
from tinydl._kernels import reference

DTYPES = (np.float32, np.float64)
cases = pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)


def test_every_kernel_has_a_row_and_a_reference_with_its_signature():
    assert {c.kernel for c in CASES} == EXPORTED
    for name in EXPORTED:
        ours, theirs = (inspect.signature(getattr(m, name)).parameters.values() for m in (kernels, reference))
        assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs], name


@cases
@dtypes
def test_against_the_reference(case, dtype):
    for shape in case.shapes:
        case.check(shape, dtype)


@cases
def test_none_for_an_array_is_what_the_reference_takes_or_an_error(case):
    shape = case.shapes[3]
    for name in [k for k, v in case.arguments(shape, np.float64).items() if isinstance(v, np.ndarray)]:
        args = {**case.arguments(shape, np.float64), name: None}
        try:
            getattr(kernels, case.kernel)(**args)
        except (TypeError, ValueError):
            continue
        getattr(reference, case.kernel)(**{**case.arguments(shape, np.float64), name: None})


@pytest.mark.parametrize("case", [c for c in CASES if c.in_place], ids=lambda c: c.id)
@dtypes
def test_in_place_gives_the_same_bits(case, dtype):
    for shape in case.shapes:
        for name in case.in_place:
            apart = case.call(kernels, case.arguments(shape, dtype))
            args = case.arguments(shape, dtype)
            args[name].flags.writeable = True
            args[case.writes[0]] = args[name]
            together = case.call(kernels, args)
            for k in apart:
                assert np.array_equal(apart[k], together[k]), (shape, name, k)


@pytest.mark.parametrize("case", [c for c in CASES if c.by_row], ids=lambda c: c.id)
@dtypes
def test_bits_of_a_row_do_not_depend_on_the_others(case, dtype):
    R = 211
    for columns in ((),) if len(case.shapes[0]) == 1 else ((1,), (3,), (10,), (64,), (100,), (1500,)):
        args = case.arguments((R, *columns), dtype)
        whole = copied(case.call(kernels, args))
        for rows in (slice(0, 1), slice(1, 2), slice(3, 20), slice(20, 85), slice(100, R), slice(R - 1, R)):
            part = {k: v[rows].copy() if isinstance(v, np.ndarray) and v.shape[0] == R else v for k, v in args.items()}
            for k, v in case.call(kernels, part).items():
                assert np.array_equal(v, whole[k][rows]), (columns, rows, k)


@dtypes
@pytest.mark.parametrize("trans_a", (False, True))
@pytest.mark.parametrize("trans_b", (False, True))
@pytest.mark.parametrize("k, n", ((5, 3), (64, 10), (200, 33), (500, 130)))
def test_bits_of_a_row_of_a_product_do_not_depend_on_the_others(dtype, trans_a, trans_b, k, n):
    rng = np.random.default_rng(k)
    a, b = rng.standard_normal((361, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    b, bias = (b.T if trans_b else b).copy(), rng.standard_normal(n).astype(dtype)

    def product(rows):
        part = (a[rows].T if trans_a else a[rows]).copy()
        return kernels.matmul(part, b, np.empty((len(a[rows]), n), dtype), trans_a=trans_a, trans_b=trans_b, bias=bias)
    whole = product(slice(None))
    for rows in (slice(0, 1), slice(1, 8), slice(5, 33), slice(100, 361), slice(360, 361)):
        assert np.array_equal(product(rows), whole[rows]), rows


@dtypes
def test_matmul_takes_rows_that_lie_apart(dtype):
    rng = np.random.default_rng(0)
    store = rng.standard_normal((70, 90)).astype(dtype)
    for a, b in ((store[:20, 5:30], store[:25, 30:47]), (store[::2, 40:41], store[3:4, 1:60]),
                 (store[:35, :35], store[35:, 55:])):
        m, k, n = *a.shape, b.shape[1]
        for trans_a, trans_b in ((False, False), (True, False), (False, True), (True, True)):
            x, y = store[:k, :m] if trans_a else a, store[:n, :k] if trans_b else b
            got, want = (kernels.matmul(*pair, np.empty((m, n), dtype), trans_a=trans_a, trans_b=trans_b)
                         for pair in ((x, y), (x.copy(), y.copy())))
            assert np.array_equal(got, want)


@pytest.mark.parametrize("case", [c for c in CASES if c.family == "updates"], ids=lambda c: c.id)
@dtypes
def test_numbers_too_small_to_be_normal_are_zeros_in_updates(case, dtype):
    """Of a unit that is dead, gradients are zeros and momenta would stay the least number: 0.9 of it, rounded, is it."""
    if platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"):
        pytest.skip("no way known to this processor")
    least = np.finfo(dtype).tiny

    def call(small):
        args = copied(case.arguments((100,), dtype))
        for k, v in args.items():
            if isinstance(v, np.ndarray):
                v[::3], v[1::3] = small, 0 if k == "g" else least
        before = copied(args)
        got = case.call(kernels, args)
        return {k: v for k, v in got.items() if not np.array_equal(v, before[k])}     # others had no part in it
    got = call(least / 8)
    for k, v in call(dtype(0)).items():
        assert np.array_equal(got[k], v), k
        assert not np.any((got[k] != 0) & (np.abs(got[k]) < least)), k
    p = np.full(40, least / 8)
    assert np.all(kernels.sgd(p, np.full(40, 8 * least), lr=0.5) == -4 * least)     # in what is read, too
    assert least / 8 > 0        # numbers are what they were


@pytest.mark.parametrize("kernel", ["adam", "rmsprop"])
@pytest.mark.parametrize("eps", [1e-45, 1e-38, 1e-30])
def test_an_eps_that_is_no_normal_number_keeps_a_division_by_zero_away(kernel, eps):
    p, zeros = np.ones(40, np.float32), [np.zeros(40, np.float32) for _ in range(3)]
    getattr(kernels, kernel)(p, *zeros[:3 if kernel == "adam" else 2], eps=eps, **({"step": 1} if kernel == "adam" else {}))
    assert np.all(p == 1)


def written(dtypes=DTYPES):
    """A digest of everything that each case writes; held to the bounds on the way."""
    digests = {}
    for case in CASES:
        digest = hashlib.sha256()
        for dtype in dtypes:
            for shape in case.shapes:
                for v in case.check(shape, dtype).values():
                    digest.update(np.asarray(v).tobytes())
        digests[case.id] = digest.hexdigest()
    return digests


def elsewhere(isa):
    code = "import test_kernels; print(*(f'{k} {v}' for k, v in test_kernels.written().items()), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(__file__), capture_output=True, text=True,
                          env=os.environ | {"TINYDL_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)}, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


def test_avx2_and_avx512_give_the_same_bits():
    isas = [i for i in ("avx512", "avx2") if i in kernels.isa_available]
    if len(isas) < 2:
        pytest.skip(f"this machine runs {', '.join(kernels.isa_available)}")
    wide, narrow = map(elsewhere, isas)
    assert [k for k in wide if wide[k] != narrow[k]] == []


def test_the_generic_build_keeps_the_bounds():
    assert set(elsewhere("generic")) == {c.id for c in CASES}


def test_an_unknown_instruction_set_is_an_error():
    done = subprocess.run([sys.executable, "-c", "import tinydl._kernels"], capture_output=True, text=True,
                          env=os.environ | {"TINYDL_ISA": "mmx", "PYTHONPATH": os.pathsep.join(sys.path)})
    assert "ImportError: TINYDL_ISA='mmx'" in done.stderr


@dtypes
def test_special_values(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e4, -1e4, 1e-40] * 5, dtype)
    out = np.empty_like(x)
    with np.errstate(invalid="ignore", over="ignore"):
        for name in ("relu", "leaky_relu", "elu", "sigmoid", "tanh"):
            want = getattr(reference, name)(x.astype(np.float64), np.empty(x.size))
            np.testing.assert_allclose(getattr(kernels, name)(x, out), want.astype(dtype), rtol=1e-6, err_msg=name)
    for name in ("gelu", "silu"):
        assert np.isnan(getattr(kernels, name)(x, out)[0])
        np.testing.assert_allclose(out[3:8], [0, 0, 1e4, 0, x[7] / 2], rtol=1e-6, err_msg=name)


@dtypes
def test_softmax_far_from_zero(dtype):
    nan, inf, third = np.nan, np.inf, 1 / 3
    x = [[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [inf, 0, 0], [-inf, -inf, -inf], [0, nan, 0], [-inf, 0, 0]]
    want = [[1, 0, 0], [third, third, third], [nan, nan, nan], [nan, nan, nan], [nan, nan, nan], [0, 0.5, 0.5]]
    x = np.array(x, dtype)
    np.testing.assert_allclose(kernels.softmax(x, np.empty_like(x)), want, rtol=1e-6)
    wide = np.full((2, 3000), -np.inf, dtype)
    wide[0, 1234], wide[1, 0] = 5, np.nan
    p = kernels.softmax(wide, np.empty_like(wide))
    assert p[0, 1234] == 1 and p[0].sum() == 1 and np.isnan(p[1]).all()


@dtypes
def test_losses_far_from_zero_and_without_a_gradient(dtype):
    x, t = np.array([1e4, -1e4, 0, 90], dtype), np.array([1, 0, 0.5, 0], dtype)
    grad = np.empty_like(x)
    assert kernels.sigmoid_cross_entropy(x, t, grad) == pytest.approx((np.log(2) + 90) / 4)
    np.testing.assert_allclose(grad, [0, 0, 0, 0.25], atol=1e-7)
    rng = np.random.default_rng(1)
    for C in (3, 10, 1500):
        logits, labels = rng.standard_normal((300, C)).astype(dtype), rng.integers(0, C, 300)
        with_gradient = kernels.softmax_cross_entropy(logits, labels, np.empty_like(logits))
        assert with_gradient == kernels.softmax_cross_entropy(logits, labels)
    for name in ("sigmoid_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber"):
        f = getattr(kernels, name)
        assert f(x, t) == f(x, t, grad)


@dtypes
@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
def test_all_finite_finds_one_bad_number_anywhere(dtype, value):
    for n in (1, 8, 65, 1000, 3000):
        for i in {0, n // 2, n - 1}:
            x = np.full(n, np.finfo(dtype).max, dtype)
            assert kernels.all_finite(x) is True
            x[i] = value
            assert kernels.all_finite(x) is False


@dtypes
@pytest.mark.parametrize("source", ("f4", "f8", "u1", "i1", "u2", "i2", "i4", "i8", "u4", "?"))
def test_gather_from_any_dtype(dtype, source, tmp_path):
    rng = np.random.default_rng(2)
    for columns in (0, 1, 7, 65, 800):
        values = rng.integers(0, 2 if source == "?" else 120, (40, columns)).astype(source)
        index = rng.integers(0, 40, 33)
        out = kernels.gather_rows(values, index, np.empty((33, columns), dtype))
        assert np.array_equal(out, values[index].astype(dtype))
    stored = np.memmap(tmp_path / "x", source, "w+", shape=values.shape)
    stored[:] = values
    stored.flush()
    stored = np.memmap(tmp_path / "x", source, "r", shape=values.shape)
    assert np.array_equal(kernels.gather_rows(stored, index, np.empty((33, columns), dtype)), out)


@dtypes
def test_dropout_keeps_the_share_and_the_mean(dtype):
    x = np.ones((2000, 50), dtype)
    out = np.empty_like(x)
    for rate in (0.0, 0.1, 0.5, 0.9):
        kernels.dropout(x, out, rate, 1, 2)
        kept = out != 0
        sigma = np.sqrt(rate * (1 - rate) / x.size)
        assert abs(kept.mean() - (1 - rate)) <= 4.5 * sigma
        np.testing.assert_allclose(out[kept], 1 / (1 - rate), rtol=1e-6)
        if rate:        # no column, row or pair of neighbours is special
            assert np.abs(kept.mean(0) - (1 - rate)).max() < 5 * np.sqrt(rate * (1 - rate) / 2000)
            both = (kept[:, 1:] & kept[:, :-1]).mean(), (kept[1:] & kept[:-1]).mean()
            assert np.abs(np.array(both) - (1 - rate) ** 2).max() < 10 * sigma
    assert not kernels.dropout(x, out, 1.0, 1, 2).any()
    masks = [kernels.dropout(x, np.empty_like(x), 0.5, *key).tobytes() for key in ((1, 2), (2, 1), (1, 3), (1, 2, 1))]
    assert len(set(masks)) == 4


def test_an_unbiased_variance_of_one_row_is_zero():
    x = np.array([[3.0, 4.0]])
    var = np.full(2, np.nan)
    kernels.batch_norm(x, None, None, np.empty_like(x), np.empty(2), np.empty(2), None, var)
    assert var.tolist() == [0, 0]


# the doors ----------------------------------------------------------------------------------------------------------

def f4(*shape):
    return np.zeros(shape, np.float32)


def read_only(a):
    a.flags.writeable = False
    return a


line = f4(20)
DOORS = [
    (lambda: kernels.relu([1.0], f4(1)), TypeError, "relu: x is a list; needs an array of float32 or float64"),
    (lambda: kernels.relu(np.zeros(3, np.float16), f4(3)), TypeError, "relu: x is float16; needs an array of float32"),
    (lambda: kernels.relu(np.zeros(3, ">f4"), f4(3)), TypeError, "relu: x is >f4"),
    (lambda: kernels.relu(None, f4(1)), TypeError, "relu: x is a NoneType"),
    (lambda: kernels.tanh(f4(3), np.zeros(3)), TypeError, "tanh: x is float32 but out is float64"),
    (lambda: kernels.tanh(f4(3, 4), f4(4, 3)), ValueError,
     "x and out must have the same shape; got x (3, 4), out (4, 3)"),
    (lambda: kernels.tanh(f4(12), f4(3, 4)), ValueError, "got x (12,), out (3, 4)"),
    (lambda: kernels.tanh(f4(4, 4)[:, ::2], f4(4, 2)), ValueError,
     "x is not C-contiguous: shape (4, 2), strides (16, 8)"),
    (lambda: kernels.tanh(f4(3, 4).T, f4(4, 3)), ValueError, "x is not C-contiguous: shape (4, 3), strides (4, 16)"),
    (lambda: kernels.tanh(f4(3), read_only(f4(3))), ValueError, "tanh: out is read-only"),
    (lambda: kernels.tanh(np.frombuffer(bytes(13), np.float32, 3, 1), f4(3)), ValueError, "x is not aligned"),
    (lambda: kernels.tanh(line[:10], line[5:15]), ValueError, "tanh: out overlaps x in memory: bytes 0x"),
    (lambda: kernels.softmax(f4(3), f4(3)), ValueError, "softmax: x must have 2 dimensions; got x (3,)"),
    (lambda: kernels.matmul(f4(256, 256), f4(10, 256), f4(256, 256)), ValueError,
     "matmul: a (256, 256) @ b (10, 256) -> out (256, 256) do not fit"),
    (lambda: kernels.matmul(f4(2, 3), f4(2, 4), f4(3, 5), trans_a=True), ValueError,
     "matmul: a (2, 3).T @ b (2, 4) -> out (3, 5) do not fit"),
    (lambda: kernels.matmul(f4(2, 3), f4(3, 4), f4(2, 4), bias=f4(5)), ValueError,
     "bias must have shape (4,), one for each column of out"),
    (lambda: kernels.matmul(f4(2, 6)[:, ::2], f4(3, 4), f4(2, 4)), ValueError, "strides (24, 8) bytes"),
    (lambda: kernels.matmul(f4(2, 3)[::-1], f4(3, 4), f4(2, 4)), ValueError, "strides (-12, 4) bytes"),
    (lambda: kernels.matmul(np.broadcast_to(f4(3), (2, 3)), f4(3, 4), f4(2, 4)),
     ValueError, "strides (0, 4) bytes"),
    (lambda: kernels.matmul(line[:4].reshape(2, 2), f4(2, 2), line[:4].reshape(2, 2)), ValueError, "out overlaps a"),
    (lambda: kernels.matmul(f4(2, 2), f4(2, 2), f4(2, 2), activation="swish"), ValueError,
     "activation 'swish' is none of None, 'relu'"),
    (lambda: kernels.gelu(f4(2), f4(2), "erf"), ValueError, "approximate = 'erf' must be 'none' or 'tanh'"),
    (lambda: kernels.leaky_relu(f4(2), f4(2), -0.5), ValueError, "negative_slope = -0.5 must be a finite number >= 0"),
    (lambda: kernels.elu(f4(2), f4(2), np.nan), ValueError, "alpha = nan"),
    (lambda: kernels.softmax_cross_entropy(f4(3, 4), np.array([0, 3, 4])), ValueError, "labels[2] = 4 is outside 0..3"),
    (lambda: kernels.softmax_cross_entropy(f4(3, 4), np.array([0, -1, 4])), ValueError,
     "labels[1] = -1 is outside 0..3"),
    (lambda: kernels.softmax_cross_entropy(f4(3, 4), np.zeros(3, np.int32)), TypeError,
     "labels is int32; needs an array of int64"),
    (lambda: kernels.softmax_cross_entropy(f4(3, 4), np.zeros(2, np.int64)), ValueError, "labels must have shape (3,)"),
    (lambda: kernels.softmax_cross_entropy(f4(0, 4), np.zeros(0, np.int64)), ValueError,
     "the mean of no rows is undefined"),
    (lambda: kernels.mean_squared_error(f4(3, 0), f4(3, 0)), ValueError,
     "the mean of nothing is undefined; got x (3, 0)"),
    (lambda: kernels.mean_squared_error(f4(3, 1), f4(3)), ValueError, "got x (3, 1), targets (3,)"),
    (lambda: kernels.huber(f4(3), f4(3), delta=0.0), ValueError, "huber: delta = 0.0 must be"),
    (lambda: kernels.divide(f4(3), 0), ZeroDivisionError, "divide: d = 0"),
    (lambda: kernels.gather_rows(f4(3, 2), np.array([0, 2, 3]), f4(3, 2)), IndexError,
     "gather_rows: index[2] = 3 is outside the 3 rows of source"),
    (lambda: kernels.gather_rows(f4(3, 2), np.array([-1]), f4(1, 2)), IndexError, "index[0] = -1"),
    (lambda: kernels.gather_rows(f4(3, 2), np.array([1]), f4(1, 3)), ValueError, "same number of columns"),
    (lambda: kernels.gather_rows(np.zeros((3, 2), np.complex64), np.array([1]), f4(1, 2)), TypeError,
     "source is complex64; needs an array of any real dtype"),
    (lambda: kernels.batch_norm(f4(0, 3), None, None, f4(0, 3), f4(3), f4(3)), ValueError, "the mean of no rows"),
    (lambda: kernels.layer_norm(f4(2, 3), f4(2), None, f4(2, 3), f4(2), f4(2)), ValueError,
     "gamma must have shape (3,)"),
    (lambda: kernels.layer_norm(f4(2, 3), None, None, f4(2, 3), line[:2], line[1:3]), ValueError, "mean overlaps rstd"),
    (lambda: kernels.dropout(f4(2, 3), f4(2, 3), 1.5, 0, 0), ValueError, "dropout: rate = 1.5 is outside 0..1"),
    (lambda: kernels.dropout(f4(2, 3), f4(2, 3), np.nan, 0, 0), ValueError, "rate = nan"),
    (lambda: kernels.sgd(f4(3), f4(3), lr=0.1, momentum=0.9), ValueError, "momentum = 0.9 needs a momentum_buffer"),
    (lambda: kernels.sgd(line[:3], line[:3], lr=0.1), ValueError, "p overlaps g"),
    (lambda: kernels.adam(f4(3), f4(3), f4(3), f4(4), step=1), ValueError, "p and v must have the same shape"),
    (lambda: kernels.adam(f4(3), f4(3), f4(3), f4(3), step=0), ValueError, "adam: step = 0 must be 1 or more"),
    (lambda: kernels.rmsprop(f4(3), f4(3), f4(3), centered=True), ValueError, "centered = True needs a grad_avg"),
]


@pytest.mark.parametrize("call, error, message", DOORS, ids=[message[:50] for _, _, message in DOORS])
def test_a_door_says_what_is_wrong(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
