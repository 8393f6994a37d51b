"""Pooling: gradients, values, PyTorch's, ties and NaN, bits, the door."""
import numpy as np
import pytest
from test_conv import away_from_kinks, compare, gradients

from tinydl import Model, nn, testing

# layer, shape of x
ROWS = {
    "MaxPool2d": (nn.MaxPool2d(2), (2, 3, 4, 6)),
    "MaxPool2d, odd": (nn.MaxPool2d((2, 3)), (2, 17, 5, 7)),
    "MaxPool2d, overlapping": (nn.MaxPool2d(3, 2, 1), (2, 5, 6, 7)),
    "MaxPool2d, dilation": (nn.MaxPool2d(2, 1, dilation=2), (2, 3, 5, 4)),
    "MaxPool2d, apart": (nn.MaxPool2d(2, 3), (2, 3, 6, 5)),
    "MaxPool1d": (nn.MaxPool1d(3, 1, 1), (2, 3, 7)),
    "MaxPool2d, cut off": (nn.MaxPool2d(3, 2, (1, 0), ceil_mode=True), (2, 17, 8, 6)),
    "MaxPool2d, one window": (nn.MaxPool2d(4, 3, ceil_mode=True), (2, 3, 2, 3)),
    "MaxPool2d, cut off and dilation": (nn.MaxPool2d(2, 3, dilation=3, ceil_mode=True), (2, 3, 5, 7)),
    "AvgPool2d, cut off": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 3, 6, 8)),
    "AvgPool2d, cut off without padding": (nn.AvgPool2d((3, 4), (2, 3), (1, 2), ceil_mode=True, count_include_pad=False),
                                           (2, 3, 6, 9)),
    "AvgPool2d, divisor": (nn.AvgPool2d(2, 3, ceil_mode=True, divisor_override=3), (2, 3, 7, 8)),
    "AvgPool1d, cut off": (nn.AvgPool1d(4, 3, 2, ceil_mode=True), (2, 3, 9)),
    "AvgPool2d": (nn.AvgPool2d((3, 2), 2, 1), (2, 3, 7, 6)),
    "AvgPool2d without padding": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 7, 6)),
    "AvgPool1d": (nn.AvgPool1d(3, 2), (2, 3, 8)),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d((3, 2)), (2, 3, 7, 5)),
    "AdaptiveAvgPool2d, larger": (nn.AdaptiveAvgPool2d((None, 4)), (2, 3, 2, 3)),
    "AdaptiveAvgPool1d": (nn.AdaptiveAvgPool1d(3), (2, 3, 7)),
    "GlobalAvgPool": (nn.GlobalAvgPool(), (2, 3, 4, 5)),
    "GlobalAvgPool, channels last": (nn.Sequential(nn.Conv2d(3, 2, 2), nn.GlobalAvgPool()), (2, 3, 4, 5)),
    "GlobalAvgPool of a sequence": (nn.GlobalAvgPool(), (2, 3, 4)),
    "GlobalMaxPool": (nn.GlobalMaxPool(), (2, 3, 3, 5)),
    "GlobalMaxPool, channels last": (nn.Sequential(nn.Conv2d(3, 2, 2), nn.GlobalMaxPool()), (2, 3, 4, 5)),
    "activations before it": (nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ELU(), nn.MaxPool2d(2), nn.Conv2d(3, 3, 1),
                                            nn.GELU(), nn.MaxPool2d(2), nn.ReLU(), nn.MaxPool2d(1)), (2, 2, 4, 4)),
}


@pytest.mark.parametrize("row", ROWS)
def test_gradients(row):
    layer, shape = ROWS[row]
    assert testing.check_gradients(layer, away_from_kinks(shape)) < 1e-6


def pooled(layer, x):
    """By definition, window by window, in float64; x (B, C, H, W)"""
    (kh, kw), (sh, sw), (ph, pw), most = layer.kernel_size, layer.stride, layer.padding, isinstance(layer, nn.MaxPool2d)
    dh, dw = layer.dilation
    around = ((0, 0), (0, 0), (ph, ph), (pw, pw))
    padded = np.pad(x.astype(np.float64), around, constant_values=-np.inf if most else 0)
    counted = np.pad(np.ones_like(x), around, constant_values=0 if most else int(layer.count_include_pad))
    beyond = ((0, 0), (0, 0), (0, 30), (0, 30))
    padded, counted = np.pad(padded, beyond, constant_values=-np.inf if most else 0), np.pad(counted, beyond)
    _, Ho, Wo = layer.output_shape(x.shape[1:])
    y = np.empty((*x.shape[:2], Ho, Wo))
    for h in range(Ho):
        for w in range(Wo):
            at = (..., slice(h * sh, h * sh + dh * (kh - 1) + 1, dh), slice(w * sw, w * sw + dw * (kw - 1) + 1, dw))
            n = counted[at].sum((2, 3)) if most or not layer.divisor_override else layer.divisor_override
            y[:, :, h, w] = padded[at].max((2, 3)) if most else padded[at].sum((2, 3)) / n
    return y


@pytest.mark.parametrize("row", [r for r in ROWS if isinstance(ROWS[r][0], (nn.MaxPool2d, nn.AvgPool2d))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(row, dtype):
    layer, shape = ROWS[row]
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    y = Model(type(layer)(**layer.config()), dtype).predict(x)
    np.testing.assert_allclose(y, pooled(layer, x), rtol=0, atol=0 if "Max" in row else 12 * np.finfo(dtype).eps)


@pytest.mark.parametrize("channels", [1, 16, 35])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_first_of_equals_takes_the_gradient_and_nan_is_greater_than_anything(channels, dtype):
    x = np.zeros((1, channels, 2, 6), dtype)
    x[..., 0, 2:4], x[..., 1, 3] = -1, np.inf
    x[..., 1, 4], x[..., 0, 5] = np.nan, np.inf
    model = Model(nn.MaxPool2d(2), dtype)
    y = model.predict(x)
    assert (y[..., 0] == 0).all() and np.isposinf(y[..., 1]).all() and np.isnan(y[..., 2]).all()
    dx, _ = gradients(model, x, np.arange(1, 4, dtype=dtype) * np.ones((1, channels, 1, 3), dtype))
    want = np.zeros((2, 6))
    want[0, 0], want[1, 3], want[1, 4] = 1, 2, 3
    assert (dx == want).all()


def test_random_poolings_are_pytorchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    for i in range(144):
        k, s = ([int(v) for v in rng.integers(1, 4, 2)] for _ in range(2))
        p = tuple(int(rng.integers(0, n // 2 + 1)) for n in k)
        size = [int(n + rng.integers(0, 6)) for n in k]
        kind, made = [("MaxPool2d", {"kernel_size": tuple(k), "stride": tuple(s), "padding": p}),
                      ("AvgPool2d", {"kernel_size": tuple(k), "stride": tuple(s), "padding": p,
                                     "count_include_pad": bool(rng.random() < 0.5)}),
                      ("AdaptiveAvgPool2d", {"output_size": tuple(s)}),
                      ("MaxPool1d", {"kernel_size": k[0], "stride": s[0], "padding": p[0]}),
                      ("AvgPool1d", {"kernel_size": (k[0],), "stride": (s[0],), "padding": (p[0],)}),
                      ("AdaptiveAvgPool1d", {"output_size": s[0]})][i % 6]
        if not kind.startswith("Adaptive") and rng.random() < 0.5:
            made["ceil_mode"] = True
        if kind == "AvgPool2d" and rng.random() < 0.5:
            made["divisor_override"] = int(rng.integers(1, 9))
        if kind == "MaxPool2d" and all(n > 2 * (m - 1) for n, m in zip(size, k, strict=True)):
            made["dilation"] = 2
        shape = (2, int(rng.integers(1, 20)), *size[:1 if kind.endswith("1d") else 2])
        compare(torch, kind, made, shape, ("float32", "float64")[i % 2], i)


def test_equals_and_nan_are_pytorchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.choice([0.0, 1.0, np.nan], (2, 17, 8, 8), p=[0.6, 0.3, 0.1])
    given = torch.from_numpy(x.copy()).requires_grad_()
    y = torch.nn.MaxPool2d(3, 2, 1)(given)
    dy = rng.integers(1, 9, y.shape).astype(float)      # sums of which are exact in any order
    y.backward(torch.from_numpy(dy))
    model = Model(nn.MaxPool2d(3, 2, 1), "float64")
    assert np.array_equal(model.predict(x), y.detach().numpy(), equal_nan=True)
    assert np.array_equal(gradients(model, x, dy)[0], given.grad.numpy())


@pytest.mark.parametrize("row", ["MaxPool2d, overlapping", "AvgPool2d", "AdaptiveAvgPool2d"])
def test_bits_of_a_sample_do_not_depend_on_the_others(row):
    layer, shape = ROWS[row]
    x = np.random.default_rng(0).standard_normal((9, *shape[1:])).astype(np.float32)
    model = Model(type(layer)(**layer.config()))
    whole = model.predict(x)
    for n in (1, 4):
        assert np.array_equal(model.predict(x[3:3 + n]), whole[3:3 + n])


@pytest.mark.parametrize("make, message", [
    (lambda: nn.MaxPool2d(0), "kernel_size=0"), (lambda: nn.MaxPool2d(3, padding=2), "half of the kernel"),
    (lambda: nn.AvgPool2d(2, divisor_override=0), "divisor_override=0"),
    (lambda: nn.MaxPool2d(2, 1, 1, dilation=3).output_shape((1, 2, 2)), "a window has no pixel of the image in it"),
    (lambda: nn.MaxPool2d(17), "GlobalMaxPool"), (lambda: nn.AvgPool1d((2, 2)), "kernel_size=(2, 2)"),
    (lambda: nn.MaxPool2d(4).output_shape((2, 3, 8)), "larger"), (lambda: nn.MaxPool2d(2).output_shape((8, 8)), "(C, H, W)"),
    (lambda: nn.MaxPool1d(2).output_shape((1, 8, 8)), "(C, L)"), (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), "2 of them"),
    (lambda: nn.AdaptiveAvgPool1d((1, 2)), "AdaptiveAvgPool1d(output_size=(1, 2)): a whole number"),
    (lambda: nn.AdaptiveAvgPool1d(2).output_shape((1, 8, 8)), "(C, L)"),
    (lambda: nn.AdaptiveAvgPool2d(0), "output_size=0"), (lambda: nn.GlobalAvgPool().output_shape((3,)), "(C, ...)"),
])
def test_door(make, message):
    with pytest.raises(ValueError) as e:
        make()
    assert message in str(e.value)


@pytest.mark.parametrize("n, k, s, p, windows", [
    (3, 2, 2, 1, 2), (3, 2, 3, 0, 1), (5, 2, 2, 0, 3), (4, 2, 2, 0, 2), (2, 4, 3, 0, 1)])
def test_ceil_mode_has_as_many_windows_as_pytorchs(n, k, s, p, windows):
    """None that would begin behind the image."""
    assert nn.MaxPool2d(k, s, p, ceil_mode=True).output_shape((1, n, n)) == (1, windows, windows)
    assert nn.AvgPool1d(k, s, p, ceil_mode=True).output_shape((1, n)) == (1, windows)
