"""Every kernel against its NumPy reference in float64, its bits, and its door. The tables: kernel_cases.py, sequence_cases.py."""
import hashlib
import inspect
import os
import platform
import re
import subprocess
import sys

import numpy as np
import pytest
from kernel_cases import CASES as EVERY_OTHER
from kernel_cases import copied, update
from sequence_cases import SEQUENCES
from threadpoolctl import threadpool_limits

from tinydl import _kernels as kernels
from tinydl import nn
from tinydl._kernels import call, engine, reference, schema
from tinydl._kernels.schema import FROM_OUTPUT, KINDS


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread():
    """The reference's products are too small for several threads of NumPy's."""
    with threadpool_limits(1):
        yield


CASES = EVERY_OTHER + SEQUENCES
DTYPES = (np.float32, np.float64)
cases = pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)


def test_every_operation_and_rule_has_a_row_and_a_reference_with_its_arguments():
    elsewhere = {"gather", "python", "join_loss"}       # they run in plans: test_model, test_python_layer, test_joint
    assert {c.kernel for c in CASES} == (schema.OPERATIONS.keys() | schema.RULES.keys()) - elsewhere
    for name, declared in schema.OPERATIONS.items():
        if name in ("python", "join_loss"):
            continue
        wanted = {**dict.fromkeys(declared.operands), **dict.fromkeys(declared.sizes), **dict.fromkeys(declared.real_numbers)}
        named = {s for o in declared.operands.values() for s in o.shape or ()} | {
            f"{o.name}_{axis}" for o in declared.operands.values() if o.strided for axis in ("row", "col")}
        planned = {"partial", "room", *{"gather": {"addresses", "columns"}, "matmul": {"watched"}}.get(name, set())}
        theirs = inspect.signature(getattr(reference, name)).parameters
        about_batches = {"sources", "index", "seed", "step", "first_id"}
        assert set(theirs) - about_batches == set(wanted) - named - planned, name
        for o in declared.operands.values():
            if o.name in theirs:
                assert (theirs[o.name].default is None) == o.optional, (name, o.name)
    for name, rule in schema.RULES.items():
        assert list(inspect.signature(getattr(reference, name)).parameters) == ["p", "g", "t", *rule.vectors, *rule.reals], name


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
            case.run(kernels, args)
        except (AttributeError, TypeError, ValueError):
            continue
        case.run(reference, {**case.arguments(shape, np.float64), name: None})


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
    other = {1: ((),), 2: ((1,), (3,), (10,), (64,), (100,), (1500,)), 4: ((1, 1, 1), (3, 16, 3), (5, 40, 2))}
    for columns in other[len(case.shapes[0])]:
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
    b, bias = b.copy("F" if trans_b else "C"), rng.standard_normal(n).astype(dtype)

    def product(rows):
        return call("matmul", a=a[rows].copy("F" if trans_a else "C"), b=b, out=np.empty((len(a[rows]), n), dtype), bias=bias)
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
            x, y = store[:k, :m].T if trans_a else a, store[:n, :k].T if trans_b else b
            got, want = (call("matmul", a=a, b=b, out=np.empty((m, n), dtype)) for a, b in ((x, y), (x.copy(), y.copy())))
            assert np.array_equal(got, want)


@dtypes
@pytest.mark.parametrize("m, n, k", ((1024, 40, 803), (1024, 257, 530), (512, 33, 2100), (512, 16, 2100), (1030, 64, 1111)))
def test_bits_of_a_gradient_by_weights_do_not_depend_on_how_its_rows_are_read(dtype, m, n, k):
    """Rows of a power of two of bytes are copied into panels, and long sums of many rows go in short passes: the same chains."""
    rng = np.random.default_rng(m)
    dy, x = rng.standard_normal((k, m)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    got = call("matmul", a=dy.T, b=x, out=np.empty((m, n), dtype))
    assert np.array_equal(got, call("matmul", a=dy.T.copy(), b=x.T.copy().T, out=np.empty((m, n), dtype)))
    some = slice(m // 3, m // 3 + 5)        # of the same rows
    assert np.array_equal(got[some], call("matmul", a=dy[:, some].copy().T, b=x, out=np.empty((5, n), dtype)))
    np.testing.assert_allclose(got, dy.T.astype(float) @ x, atol=k * np.finfo(dtype).eps * 4)


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
    sgd = {"lr": 0.5, "momentum": 0.0, "nesterov": 0.0, "weight_decay": 0.0}
    assert np.all(update("sgd", p, np.full(40, 8 * least), 1, **sgd) == -4 * least)     # in what is read, too
    assert least / 8 > 0        # numbers are what they were


@pytest.mark.parametrize("kernel", ["adam", "rmsprop"])
@pytest.mark.parametrize("eps", [1e-45, 1e-38, 1e-30])
def test_an_eps_that_is_no_normal_number_keeps_a_division_by_zero_away(kernel, eps):
    p, rule = np.ones(40, np.float32), schema.RULES[kernel]
    numbers = {**dict.fromkeys(rule.reals, 0.0), "lr": 0.01, "beta1": 0.9, "beta2": 0.999, "alpha": 0.99, "eps": eps}
    update(kernel, p, np.zeros(40, np.float32), 1, **{name: np.zeros(40, np.float32) for name in rule.vectors},
           **{name: numbers[name] for name in rule.reals})
    assert np.all(p == 1)


def written(checked):
    """A digest of everything that each case writes; if `checked`, held to the bounds on the way."""
    digests = {}
    for case in CASES:
        digest = hashlib.sha256()
        for dtype in DTYPES:
            for shape in case.shapes:
                got = case.check(shape, dtype) if checked else case.call(kernels, case.arguments(shape, dtype))
                for v in got.values():
                    digest.update(np.asarray(v).tobytes())
        digests[case.id] = digest.hexdigest()
    return digests


def elsewhere(isa, checked):
    code = f"import test_kernels; print(*(f'{{k}} {{v}}' for k, v in test_kernels.written({checked}).items()), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(__file__), capture_output=True, text=True,
                          env=os.environ | {"TINYDL_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path),
                                            "OPENBLAS_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


def test_avx2_and_avx512_give_the_same_bits():
    """So what is within the bounds in one of them, as tested above, is so in the other."""
    isas = [i for i in ("avx512", "avx2") if i in kernels.isa_available]
    if len(isas) < 2:
        pytest.skip(f"this machine runs {', '.join(kernels.isa_available)}")
    wide, narrow = (written(False) if isa == kernels.isa else elsewhere(isa, False) for isa in isas)
    assert [k for k in wide if wide[k] != narrow[k]] == []


def test_the_generic_build_keeps_the_bounds():
    assert set(elsewhere("generic", True)) == {c.id for c in CASES}


def test_an_unknown_instruction_set_is_an_error():
    done = subprocess.run([sys.executable, "-c", "import tinydl._kernels"], capture_output=True, text=True,
                          env=os.environ | {"TINYDL_ISA": "mmx", "PYTHONPATH": os.pathsep.join(sys.path)})
    assert "ImportError: TINYDL_ISA='mmx'" in done.stderr


@pytest.mark.parametrize("columns, k", [(128, 64), (64, 128), (40, 31), (17, 256), (300, 20)])
def test_products_of_more_rows_than_caches_hold_have_the_bits_of_few(columns, k):
    """They are made in other blocks, which are asked for ahead (TD_FAR in simd.h)."""
    rng = np.random.default_rng(0)
    rows = (8 << 20) // (4 * k) + 37
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, k), (k, columns)))
    whole, *parts = (call("matmul", a=some, b=b, out=np.empty((len(some), columns), np.float32))
                     for some in (a, *np.split(a, range(777, rows, 777))))
    assert np.array_equal(whole, np.concatenate(parts))
    np.testing.assert_allclose(whole[-40:], a[-40:].astype(float) @ b.astype(float), rtol=0, atol=k * 1e-6)


@dtypes
def test_special_values(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e4, -1e4, 1e-40] * 5, dtype)
    out = np.empty_like(x)
    with np.errstate(invalid="ignore", over="ignore"):
        for name in ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "hardtanh", "hardsigmoid"):
            want = reference.activation(x.astype(np.float64), np.empty(x.size), KINDS[name], 0.5, 2)
            got = call("activation", x=x, out=out, kind=KINDS[name], alpha=0.5, beta=2)
            np.testing.assert_allclose(got, want.astype(dtype), rtol=1e-6, err_msg=name)
    for name in ("gelu", "silu"):
        assert np.isnan(call("activation", x=x, out=out, kind=KINDS[name])[0])
        np.testing.assert_allclose(out[3:8], [0, 0, 1e4, 0, x[7] / 2], rtol=1e-6, atol=2000 * np.finfo(dtype).tiny, err_msg=name)
        assert np.array_equal(out[3:6], x[3:6])


@dtypes
def test_softmax_far_from_zero(dtype):
    nan, inf, third = np.nan, np.inf, 1 / 3
    x = [[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [inf, 0, 0], [-inf, -inf, -inf], [0, nan, 0], [-inf, 0, 0]]
    want = [[1, 0, 0], [third, third, third], [nan, nan, nan], [nan, nan, nan], [nan, nan, nan], [0, 0.5, 0.5]]
    x = np.array(x, dtype)
    np.testing.assert_allclose(call("softmax", x=x, out=np.empty_like(x)), want, rtol=1e-6)
    wide = np.full((2, 3000), -np.inf, dtype)
    wide[0, 1234], wide[1, 0] = 5, np.nan
    p = call("softmax", x=wide, out=np.empty_like(wide))
    assert p[0, 1234] == 1 and p[0].sum() == 1 and np.isnan(p[1]).all()


@dtypes
def test_losses_far_from_zero_and_without_a_gradient(dtype):
    x, t = np.array([1e4, -1e4, 0, 90], dtype), np.array([1, 0, 0.5, 0], dtype)
    grad = np.empty_like(x)
    assert call("sigmoid_cross_entropy", x=x, targets=t, grad=grad) == pytest.approx((np.log(2) + 90) / 4)
    np.testing.assert_allclose(grad, [0, 0, 0, 0.25], atol=1e-7)
    rng = np.random.default_rng(1)
    for C in (3, 10, 1500):
        logits, labels = rng.standard_normal((300, C)).astype(dtype), rng.integers(0, C, 300)
        with_gradient = call("softmax_cross_entropy", logits=logits, labels=labels, grad=np.empty_like(logits))
        assert with_gradient == call("softmax_cross_entropy", logits=logits, labels=labels)
    for name in ("sigmoid_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber"):
        assert call(name, x=x, targets=t) == call(name, x=x, targets=t, grad=grad)


@dtypes
@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
def test_check_finite_finds_one_bad_number_anywhere(dtype, value):
    for n in (1, 8, 65, 1000, 3000):
        for i in {0, n // 2, n - 1}:
            x = np.full(n, np.finfo(dtype).max, dtype)
            call("check_finite", x=x)
            x[i] = value
            with pytest.raises(FloatingPointError, match="not finite"):
                call("check_finite", x=x)


@dtypes
@pytest.mark.parametrize("source", schema.DTYPES)
def test_gather_from_any_dtype(dtype, source, tmp_path):
    def gather(values):
        return call("gather_rows", sources=[values], index=index, out=np.empty((33, columns), dtype), source=0)
    rng = np.random.default_rng(2)
    for columns in (0, 1, 7, 65, 800):
        values = rng.integers(0, 2 if source == "bool" else 120, (40, columns)).astype(source)
        index = rng.integers(0, 40, 33)
        out = gather(values)
        assert np.array_equal(out, values[index].astype(dtype))
        if not source.startswith("float"):
            integers = call("gather_integers", sources=[values], index=index, out=np.empty((33, columns), np.int64), source=0,
                            low=0, high=120)
            assert np.array_equal(integers, values[index])
    stored = np.memmap(tmp_path / "x", source, "w+", shape=values.shape)
    stored[:] = values
    stored.flush()
    stored = np.memmap(tmp_path / "x", source, "r", shape=values.shape)
    assert np.array_equal(gather(stored), out)


@dtypes
def test_dropout_keeps_the_share_and_the_mean(dtype):
    x = np.ones((2000, 50), dtype)
    out = np.empty_like(x)

    def dropout(rate, seed, step, layer=0, out=out):
        return call("dropout", x=x, out=out, rate=rate, seed=seed, step=step, layer=layer)
    for rate in (0.0, 0.1, 0.5, 0.9):
        dropout(rate, 1, 2)
        kept = out != 0
        sigma = np.sqrt(rate * (1 - rate) / x.size)
        assert abs(kept.mean() - (1 - rate)) <= 4.5 * sigma
        np.testing.assert_allclose(out[kept], 1 / (1 - rate), rtol=1e-6)
        if rate:        # no column, row or pair of neighbours is special
            assert np.abs(kept.mean(0) - (1 - rate)).max() < 5 * np.sqrt(rate * (1 - rate) / 2000)
            both = (kept[:, 1:] & kept[:, :-1]).mean(), (kept[1:] & kept[:-1]).mean()
            assert np.abs(np.array(both) - (1 - rate) ** 2).max() < 10 * sigma
    assert not dropout(1.0, 1, 2).any()
    masks = [dropout(0.5, *key, out=np.empty_like(x)).tobytes() for key in ((1, 2), (2, 1), (1, 3), (1, 2, 1))]
    assert len(set(masks)) == 4


# the door -----------------------------------------------------------------------------------------------------------

def f4(*shape):
    return np.zeros(shape, np.float32)


def read_only(a):
    a.flags.writeable = False
    return a


def i8(*values):
    return np.array(values, np.int64)


line = f4(20)
DOOR = [
    ("relu", {"x": f4(1)}, ValueError, "no operation is called 'relu'; there are gather, "),
    ("softmax", {"x": [1.0], "out": f4(1, 1)}, TypeError, "softmax: x is a list; needs an array of float32 or float64"),
    ("softmax", {"x": np.zeros((1, 3), np.float16), "out": f4(1, 3)}, TypeError, "x is float16; needs an array of float32"),
    ("softmax", {"x": np.zeros((1, 3), ">f4"), "out": f4(1, 3)}, TypeError, "softmax: x is >f4"),
    ("softmax", {"out": f4(1, 3)}, TypeError, "softmax: x is missing"),
    ("softmax", {"x": f4(1, 3), "out": f4(1, 3), "axis": 1}, TypeError, "axis is none of its arguments"),
    ("softmax", {"x": f4(1, 3), "out": np.zeros((1, 3))}, TypeError, "softmax: x is float32 but out is float64"),
    ("softmax", {"x": f4(3), "out": f4(3)}, ValueError, "softmax: x must have 2 dimensions, [R, C]; got x (3,), out (3,)"),
    ("softmax", {"x": f4(3, 4), "out": f4(3, 5)}, ValueError, "C of out is 5, and 4 before"),
    ("add", {"a": f4(3, 4), "b": f4(4, 3), "out": f4(4, 3)}, ValueError,
     "add: b must have the shape (3, 4); got a (3, 4), b (4, 3)"),
    ("add", {"a": f4(12), "b": f4(12), "out": f4(3, 4)}, ValueError, "out must have the shape (12,)"),
    ("copy", {"x": f4(4, 4)[:, ::2], "out": f4(4, 2)}, ValueError, "x is not C-contiguous: shape (4, 2), strides (16, 8)"),
    ("copy", {"x": f4(3), "out": read_only(f4(3))}, ValueError, "copy: out is read-only"),
    ("copy", {"x": np.frombuffer(bytes(13), np.float32, 3, 1), "out": f4(3)}, ValueError, "x is not aligned"),
    ("copy", {"x": line[:10], "out": line[5:15]}, ValueError, "copy: out overlaps x in memory: bytes 0x"),
    ("copy", {"x": line[:10], "out": line[:10]}, ValueError, "copy: out overlaps x"),
    ("matmul", {"a": f4(256, 256), "b": f4(10, 256), "out": f4(256, 256)}, ValueError, "k of b is 10, and 256 before"),
    ("matmul", {"a": f4(2, 3), "b": f4(3, 4), "out": f4(2, 4), "bias": f4(5)}, ValueError, "n of bias is 5, and 4 before"),
    ("matmul", {"a": f4(2, 6)[:, ::2], "b": f4(3, 4), "out": f4(2, 4)}, ValueError, "strides (24, 8) bytes"),
    ("matmul", {"a": f4(2, 3)[::-1], "b": f4(3, 4), "out": f4(2, 4)}, ValueError, "strides (-12, 4) bytes"),
    ("matmul", {"a": np.broadcast_to(f4(3), (2, 3)), "b": f4(3, 4), "out": f4(2, 4)}, ValueError, "strides (0, 4) bytes"),
    ("matmul", {"a": line[:4].reshape(2, 2), "b": f4(2, 2), "out": line[:4].reshape(2, 2)}, ValueError, "out overlaps a"),
    ("activation", {"x": f4(2), "out": f4(2)}, TypeError, "kind is missing"),
    ("softmax_cross_entropy", {"logits": f4(3, 4), "labels": i8(0, 3, 4)}, ValueError, "the value 4 is outside its range"),
    ("softmax_cross_entropy", {"logits": f4(3, 4), "labels": i8(0, -1, 4)}, ValueError, "the value -1 is outside its range"),
    ("softmax_cross_entropy", {"logits": f4(3, 4), "labels": np.zeros(3, np.int32)}, TypeError,
     "labels is int32; needs an array of int64"),
    ("softmax_cross_entropy", {"logits": f4(3, 4), "labels": i8(0, 0)}, ValueError, "R of labels is 2, and 3 before"),
    ("softmax_cross_entropy", {"logits": f4(0, 4), "labels": i8()}, ValueError, "the mean of no rows is undefined"),
    ("mean_squared_error", {"x": f4(3, 0), "targets": f4(3, 0)}, ValueError,
     "the mean of no elements is undefined; got x (3, 0)"),
    ("mean_squared_error", {"x": f4(3, 1), "targets": f4(3)}, ValueError, "got x (3, 1), targets (3,)"),
    ("weighted_mean", {"a": f4(3), "b": f4(3), "out": f4(3), "wa": 1}, TypeError, "wb is missing"),
    ("gather_rows", {"sources": [f4(3, 2)], "index": i8(0, 2, 3), "out": f4(3, 2), "source": 0}, IndexError,
     "gather_rows: row 3 is outside the source"),
    ("gather_rows", {"sources": [f4(3, 2)], "index": i8(-1), "out": f4(1, 2), "source": 0}, IndexError, "row -1"),
    ("gather_rows", {"sources": [f4(3, 2)], "index": i8(1), "out": f4(1, 3), "source": 0}, ValueError, "rows of 3 from a source"),
    ("gather_rows", {"sources": [f4(3, 2)], "index": i8(1), "out": f4(1, 2), "source": 1}, ValueError, "source 1 of 1"),
    ("gather_rows", {"sources": [f4(3, 2)], "index": i8(1), "out": f4(2, 2), "source": 0}, ValueError,
     "an index of 1 for 2 rows"),
    ("gather_rows", {"sources": [np.zeros((3, 2), np.complex64)], "index": i8(1), "out": f4(1, 2), "source": 0}, ValueError,
     "a source is a C-contiguous array of float32"),
    ("gather_integers",
     {"sources": [f4(3, 2)], "index": i8(1), "out": np.zeros((1, 2), np.int64), "source": 0, "low": 0, "high": 9}, TypeError,
     "source 0 is float32; needs integers"),
    ("gather_integers", {"sources": [i8(3, 9)], "out": np.zeros((2, 1), np.int64), "source": 0, "low": 0, "high": 9},
     ValueError, "the value 9 is outside its range"),
    ("batch_norm", {"x": f4(1, 3), "out": f4(1, 3), "mean": f4(3), "rstd": f4(3)}, ValueError, "takes 2 values of each column"),
    ("batch_norm_backward", {"dy": f4(0, 3), "x": f4(0, 3), "out": f4(0, 3), "mean": f4(3), "rstd": f4(3)}, ValueError,
     "the mean of no rows"),
    ("layer_norm", {"x": f4(2, 3), "gamma": f4(2), "out": f4(2, 3), "mean": f4(2), "rstd": f4(2)}, ValueError,
     "C of gamma is 2, and 3 before"),
    ("layer_norm", {"x": f4(2, 3), "out": f4(2, 3), "mean": line[:2], "rstd": line[1:3]}, ValueError, "mean overlaps rstd"),
]


@pytest.mark.parametrize("name, arguments, error, message", DOOR, ids=[f"{name}: {message[:50]}" for name, _, _, message in DOOR])
def test_the_door_says_what_is_wrong(name, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(name, **arguments)


@pytest.mark.parametrize("state, numbers, message", [
    ({}, {}, "adam has the state 'exp_avg exp_avg_sq'; got []"),
    ({"exp_avg": f4(3), "exp_avg_sq": f4(4)}, {}, "state exp_avg_sq must be 3 float32 side by side, writeable; got 4 float32"),
    ({"exp_avg": f4(3), "exp_avg_sq": np.zeros(3)}, {},
     "state exp_avg_sq must be 3 float32 side by side, writeable; got 3 float64"),
    ({"exp_avg": f4(3), "exp_avg_sq": f4(3)}, {"lr": 1.0}, "adam has the numbers lr, beta1, beta2, eps, weight_decay; got lr"),
])
def test_a_rule_says_what_it_needs(state, numbers, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        update("adam", f4(3), f4(3), 1, **state, **numbers)
    with pytest.raises(ValueError, match="no update rule is called 'adagrad9'"):
        engine.Update("adagrad9", f4(3), {}, f4(0), np.zeros(0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_short_way_to_a_weighted_mean_has_its_bits_and_a_door(dtype):
    a, b = np.random.default_rng(0).standard_normal((2, 37)).astype(dtype)
    want = call("weighted_mean", a=a, b=b, out=np.empty_like(a), wa=0.3, wb=0.7)
    for out in (np.empty_like(a), a.copy(), b.copy()):
        kernels.weighted_mean(a, b, out, 0.3, 0.7)
        assert out.tobytes() == want.tobytes()
    for other in (a[:-1], a.astype(np.float16), np.empty((37, 2), dtype)[:, 0], a[:, None]):
        for arguments in ((other, b, b), (a, other, b), (a, b, other)):
            with pytest.raises(ValueError, match="all must be vectors alike"):
                kernels.weighted_mean(*arguments, 0.3, 0.7)
    with pytest.raises(TypeError, match="int64; must be float32 or float64"):
        kernels.weighted_mean(*np.ones((3, 4), np.int64), 0.3, 0.7)


@pytest.mark.parametrize("layer, x, y, slope", [
    (nn.ReLU6(), [-1, 0, 6, 7], [0, 0, 6, 6], [0, 0, 0, 0]),
    (nn.Hardtanh(), [-1, 1, 0.5], [-1, 1, 0.5], [0, 0, 1]),
    (nn.Hardtanh(-np.inf, 2), [-9, 2, 3], [-9, 2, 2], [1, 0, 0]),
    (nn.Hardsigmoid(), [-3, 3, 0], [0, 1, 0.5], [0, 0, 1 / 6]),
    (nn.Hardsigmoid(0.2), [-2.5, 2.5, 0], [0, 1, 0.5], [0, 0, 0.2]),
    (nn.Hardswish(), [-3, 3, 0], [0, 3, 0], [0, 1, 0.5]),
], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_corners_of_activations(layer, x, y, slope, dtype):
    """As PyTorch 2.13 has them, but for the slope of its Hardsigmoid in float64, which is that of float32."""
    x = np.tile(np.array(x, dtype)[:, None], 9).ravel()         # more than a vector has lanes
    numbers = {"kind": KINDS[layer.kind], "alpha": layer.alpha, "beta": layer.beta}
    out, dx = np.empty_like(x), np.empty_like(x)
    call("activation", x=x, out=out, **numbers)
    np.testing.assert_array_equal(out.reshape(-1, 9), np.tile(np.array(y, dtype)[:, None], 9))
    call("activation_backward", dy=np.ones_like(x), saved=out if layer.kind in FROM_OUTPUT else x, out=dx, **numbers)
    np.testing.assert_array_equal(dx.reshape(-1, 9), np.tile(np.array(slope, dtype)[:, None], 9))
