"""Convolutions and the other layers of images that have weights: gradients, values, PyTorch's, bits, the door."""
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from tinydl import Model, Trainer, data, losses, nn, optim, testing

# layer, shape of x
ROWS = {
    "padding": (nn.Conv2d(3, 5, 3, padding=1), (2, 3, 5, 6)),
    "stride, groups": (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 6, 7)),
    "dilation": (nn.Conv2d(2, 3, (2, 3), dilation=(2, 1), padding=(1, 2), bias=False), (2, 2, 6, 5)),
    "one tap": (nn.Conv2d(4, 3, 1), (2, 4, 3, 3)),
    "one tap, stride": (nn.Conv2d(4, 3, 1, stride=2), (2, 4, 3, 3)),
    "more zeros than taps": (nn.Conv2d(1, 2, 2, padding=3), (2, 1, 2, 3)),
    "same, of an even kernel": (nn.Conv2d(2, 3, 4, padding="same"), (2, 2, 5, 6)),
    "reflect": (nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="reflect"), (2, 2, 4, 5)),
    "replicate": (nn.Conv2d(2, 3, 5, padding=2, padding_mode="replicate"), (2, 2, 3, 4)),
    "circular": (nn.Conv2d(2, 3, 4, padding="same", padding_mode="circular"), (2, 2, 4, 5)),
    "depthwise": (nn.Conv2d(5, 5, 3, padding=1, groups=5), (2, 5, 4, 5)),
    "depthwise, stride": (nn.Conv2d(18, 18, (3, 2), stride=2, padding=1, groups=18, dilation=(1, 2)), (2, 18, 5, 4)),
    "depthwise, more outputs": (nn.Conv2d(3, 6, 3, groups=3), (2, 3, 4, 4)),
    "Conv1d": (nn.Conv1d(3, 4, 5, stride=2, padding=2), (3, 3, 11)),
    "Conv1d, causal": (nn.Conv1d(2, 3, 3, padding="causal", dilation=2), (2, 2, 7)),
    "Conv1d, circular": (nn.Conv1d(2, 3, 3, padding="same", dilation=2, padding_mode="circular"), (2, 2, 7)),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 4, 4, 3)),
    "ConvTranspose2d, dilation": (nn.ConvTranspose2d(3, 2, (2, 3), dilation=2), (2, 3, 3, 4)),
    "ConvTranspose2d, depthwise": (nn.ConvTranspose2d(4, 4, 3, stride=2, groups=4, padding=1, bias=False), (2, 4, 3, 3)),
    "ConvTranspose2d, one tap": (nn.ConvTranspose2d(3, 2, 1), (2, 3, 3, 2)),
    "ConvTranspose1d": (nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1, output_padding=1, groups=2), (2, 4, 5)),
    "ConvTranspose1d, depthwise": (nn.ConvTranspose1d(4, 4, 3, stride=2, groups=4, bias=False), (2, 4, 5)),
    "BatchNorm2d": (nn.BatchNorm2d(3), (2, 3, 3, 2)),
    "BatchNorm2d, ReLU": (nn.Sequential(nn.Conv2d(2, 13, 2), nn.BatchNorm2d(13), nn.ReLU(), nn.Conv2d(13, 2, 2)), (2, 2, 4, 4)),
    "BatchNorm2d, ReLU, none affine": (nn.Sequential(nn.BatchNorm2d(5, affine=False), nn.ReLU(), nn.MaxPool2d(2)), (2, 5, 4, 2)),
    "BatchNorm2d, Tanh": (nn.Sequential(nn.BatchNorm2d(3), nn.Tanh()), (2, 3, 3, 2)),
    "GroupNorm": (nn.GroupNorm(2, 6), (2, 6, 3, 2)),
    "GroupNorm of rows": (nn.GroupNorm(3, 6, affine=False), (2, 6)),
    "InstanceNorm2d": (nn.InstanceNorm2d(3, affine=True), (2, 3, 3, 4)),
    "RMSNorm": (nn.RMSNorm((2, 3), eps=1e-3), (2, 2, 2, 3)),
    "InstanceNorm1d": (nn.Sequential(nn.Conv1d(3, 3, 1), nn.InstanceNorm1d(3, affine=True)), (2, 3, 5)),
    "Dropout2d": (nn.Dropout2d(0.4), (3, 5, 2, 2)),
    "Dropout1d": (nn.Dropout1d(0.4), (3, 5, 4)),
    "Upsample": (nn.Upsample(scale_factor=(2, 3)), (2, 3, 3, 2)),
    "Upsample, bilinear": (nn.Upsample((5, 7), mode="bilinear"), (2, 3, 3, 4)),
    "PixelShuffle": (nn.Sequential(nn.Conv2d(2, 18, 2), nn.PixelShuffle(3)), (2, 2, 3, 4)),
    "PixelShuffle of the input": (nn.PixelShuffle(2), (2, 8, 2, 3)),
    "ZeroPad2d": (nn.ZeroPad2d((1, 2, 0, 3)), (2, 3, 3, 2)),
    "a network": (nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, padding=1),
                                nn.Tanh(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(20, 3)), (3, 1, 8, 8)),
    "residual": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Residual(nn.Sequential(
        nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))), nn.ConvTranspose2d(3, 2, 2, stride=2), nn.GELU()), (2, 2, 5, 5)),
    "separable": (nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Sigmoid(), nn.Conv2d(3, 4, 1), nn.Dropout(0.3), nn.SiLU(),
                                nn.Dropout2d(0.2), nn.GlobalAvgPool()), (2, 3, 4, 5)),
}


def away_from_kinks(shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    return x + 0.1 * np.sign(x)


@pytest.mark.parametrize("row", ROWS)
def test_gradients(row):
    layer, shape = ROWS[row]
    assert testing.check_gradients(layer, away_from_kinks(shape)) < 1e-6


def test_gradients_of_a_layer_used_twice_are_added():
    for conv, shape in ((nn.Conv2d(3, 3, 3, padding=1), (2, 3, 4, 4)), (nn.Conv2d(3, 3, 3, padding=1, groups=3), (2, 3, 4, 4)),
                        (nn.ConvTranspose2d(3, 3, 3, padding=1), (2, 3, 4, 4)), (nn.RMSNorm(4), (2, 4)),
                        (nn.GroupNorm(1, 3), (2, 3, 4))):
        assert testing.check_gradients(nn.Sequential(conv, nn.Tanh(), conv), away_from_kinks(shape)) < 1e-6


# values -------------------------------------------------------------------------------------------------------------

def convolved(x, w, bias, stride, before, behind, dilation, groups, mode):
    """By definition, tap after tap, in float64; x (B, C, H, W)"""
    x, w = x.astype(np.float64), w.astype(np.float64)
    how = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    x = np.pad(x, ((0, 0), (0, 0), *zip(before, behind, strict=True)), how)
    Ho, Wo = ((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], w.shape[2:], stride, dilation, strict=True))
    O, I, kh, kw = w.shape      # noqa: E741
    y = np.zeros((len(x), O, Ho, Wo)) + bias[:, None, None]
    for g in range(groups):
        some, part = slice(g * O // groups, (g + 1) * O // groups), x[:, g * I:(g + 1) * I]
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dilation[0], i * dilation[0] + (Ho - 1) * stride[0] + 1, stride[0])
                columns = slice(j * dilation[1], j * dilation[1] + (Wo - 1) * stride[1] + 1, stride[1])
                y[:, some] += np.einsum("bchw,oc->bohw", part[:, :, rows, columns], w[some, :, i, j])
    return y


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", [r for r in ROWS if isinstance(ROWS[r][0], nn.Conv2d)])
def test_values(row, dtype):
    layer, shape = ROWS[row]
    layer = nn.Conv2d(**layer.config())
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    model = Model(layer, dtype, seed=0)
    state = {"bias": np.zeros(layer.out_channels), **model.state_dict()}
    before, behind = layer._padding()
    want = convolved(x, state["weight"], state["bias"], layer.stride, before, behind, layer.dilation, layer.groups,
                     layer.padding_mode)
    terms = layer.weight.size // layer.out_channels
    np.testing.assert_allclose(model.predict(x), want, rtol=0, atol=4 * (terms + 2) * np.finfo(dtype).eps)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_causal_convolution_sees_what_came_before(groups):
    layer = nn.Conv1d(4, 8, 3, padding="causal", dilation=2, groups=groups)
    model, x = Model(layer, "float64", seed=0), np.random.default_rng(2).standard_normal((2, 4, 9))
    w, bias, C = layer.weight.data, layer.bias.data, 4 // groups
    for b, o, t in np.ndindex(2, 8, 9):
        own = x[b, o // (8 // groups) * C:][:C]
        want = bias[o] + sum(w[o, :, i] @ own[:, t - 2 * (2 - i)] for i in range(3) if t >= 2 * (2 - i))
        assert model.predict(x)[b, o, t] == pytest.approx(want, rel=1e-13, abs=1e-14)
    assert layer.output_shape((4, 9)) == (8, 9) == Model(nn.Conv1d(**layer.config())).output_shape((4, 9))


def chosen(rng):
    """One of PyTorch's layers at random, its arguments, and a shape that fits."""
    kind = rng.choice(["Conv2d", "Conv2d", "ConvTranspose2d", "Conv1d", "ConvTranspose1d"])
    groups = int(rng.choice([1, 1, 2, 3]))
    depthwise = rng.random() < 0.2
    C, O = (groups * 4, groups * 4) if depthwise else groups * rng.integers(1, 7, 2)       # noqa: E741
    groups = int(C) if depthwise else groups
    n = 1 if kind.endswith("1d") else 2
    k, s, d = ([int(v) for v in rng.integers(1, most + 1, n)] for most in (4, 3, 2))
    made = {"in_channels": int(C), "out_channels": int(O), "kernel_size": tuple(k), "stride": tuple(s), "dilation": tuple(d),
            "groups": groups, "bias": bool(rng.random() < 0.8)}
    sizes = [int(d * (k - 1) + 1 + rng.integers(0, 6)) for k, d in zip(k, d, strict=True)]
    if kind.startswith("ConvTranspose"):
        made["padding"] = tuple(int(rng.integers(0, d * (k - 1) // 2 + 1)) for k, d in zip(k, d, strict=True))
        made["output_padding"] = tuple(int(rng.integers(0, max(s, d))) for s, d in zip(s, d, strict=True))
    else:
        made["padding"] = tuple(int(rng.integers(0, 3)) for _ in k)
        made["padding_mode"] = str(rng.choice(["zeros", "zeros", "reflect", "replicate", "circular"]))
        sizes = [max(n, 3) for n in sizes]
        if rng.random() < 0.2:
            made |= {"padding": str(rng.choice(["same", "valid"])), "stride": (1,) * n, "padding_mode": "zeros"}
    return kind, made, (int(rng.integers(1, 4)), int(C), *sizes)


def gradients(model, x, dy):
    """By x and by the parameters, where that of the output is dy."""
    class Given(losses.PythonLoss):
        def forward(self, outputs, targets):
            return 0.0, dy
    from tinydl._kernels import engine
    from tinydl.plan import Buffer, Builder, Value, compile_plan
    b = Builder(model.dtype, training=True, n_params=model.params.size, n_statistics=model.statistics.size)
    value = b.input(x.shape[1:])
    value.needs_grad = True
    y, backward = model.layer.emit(b, value)
    dx = backward(Given().emit(b, y))
    b.move(dx, Value(Buffer(dx.size, True, "out", 0, b.dtype, "dx"), dx.shape, False))
    vector, out = np.empty(model.params.size + model.statistics.size, model.dtype), np.empty((len(x), dx.size), model.dtype)
    replica = engine.Replica(compile_plan(b, len(x)).program, model.params, model.statistics)
    replica.run([engine.Source(x), engine.Source(np.zeros_like(dy))], None, len(x), vector, out=out)
    return out.reshape(x.shape), {name: vector[p.offset:p.offset + p.size].reshape(p.shape)
                                  for name, p in model._parameters.items()}


def compare(torch, kind, made, shape, dtype, seed):
    """Values and gradients, to roundings of the sums that they are."""
    rng = np.random.default_rng(seed)
    mine, theirs = Model(getattr(nn, kind)(**made), dtype, seed=0), getattr(torch.nn, kind)(**made).to(getattr(torch, dtype))
    mine.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items() if k != "num_batches_tracked"})
    x = rng.standard_normal(shape).astype(dtype)
    given = torch.from_numpy(x.copy()).requires_grad_()
    y = theirs(given)
    dy = rng.standard_normal(y.shape).astype(dtype)
    y.backward(torch.from_numpy(dy))
    dx, by = gradients(mine, x, dy)
    pairs = {"dx": (dx, given.grad), **{k: (by[k], p.grad) for k, p in theirs.named_parameters()}}
    if "Norm" not in kind and "Dropout" not in kind:
        pairs["y"] = mine.predict(x), y.detach()
    for name, (got, want) in pairs.items():
        assert got.shape == tuple(want.shape), (kind, made, shape, name)
        scale = max(1.0, float(want.abs().max())) if want.numel() else 1
        np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=200 * np.finfo(dtype).eps * scale,
                                   err_msg=f"{kind} {made} on {shape}: {name}")


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_200_random_convolutions_are_pytorchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    for i in range(200):
        kind, made, shape = chosen(rng)
        compare(torch, kind, made, shape, ("float32", "float64")[i % 2], i)


@pytest.mark.parametrize("kind, made, shape", [
    ("BatchNorm2d", {"num_features": 3}, (4, 3, 5, 6)), ("GroupNorm", {"num_groups": 2, "num_channels": 6}, (3, 6, 4, 5)),
    ("PReLU", {"num_parameters": 3}, (2, 3, 4, 5)), ("PReLU", {"num_parameters": 3}, (5, 3)), ("PReLU", {}, (2, 3, 4)),
    ("InstanceNorm1d", {"num_features": 3, "affine": True}, (2, 3, 9)),
    ("InstanceNorm2d", {"num_features": 3, "affine": True}, (2, 3, 4, 5)), ("RMSNorm", {"normalized_shape": (5,)}, (3, 4, 5)),
    ("Upsample", {"scale_factor": 3}, (2, 3, 4, 5)), ("Upsample", {"size": (7, 3), "mode": "nearest"}, (2, 3, 4, 5)),
    ("Upsample", {"scale_factor": 2, "mode": "bilinear"}, (2, 3, 4, 5)), ("PixelShuffle", {"upscale_factor": 2}, (2, 8, 3, 4)),
    ("Upsample", {"size": (9, 5), "mode": "bilinear", "align_corners": True}, (2, 3, 4, 5)),
    ("ZeroPad2d", {"padding": (1, 2, 3, 0)}, (2, 3, 4, 5)),
])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_layers_are_pytorchs(kind, made, shape, dtype):
    compare(pytest.importorskip("torch"), kind, made, shape, dtype, 0)


def test_weights_begin_as_pytorchs():
    for layer, bound in ((nn.Conv2d(8, 20, 3, groups=2), 1 / 6), (nn.ConvTranspose2d(8, 20, 3, groups=2), 1 / np.sqrt(90)),
                         (nn.ConvTranspose1d(8, 20, 3, groups=2), 1 / np.sqrt(30)), (nn.Conv1d(5, 40, 5), 0.2)):
        for values in Model(layer, seed=0).state_dict().values():
            assert 0.8 * bound < np.abs(values).max() <= bound


def test_dropout2d_keeps_or_drops_whole_channels():
    x = np.ones((8, 64, 3, 3))
    dx, _ = gradients(Model(nn.Dropout2d(0.5), "float64"), x, x)
    share = dx.reshape(8, 64, 9)
    assert set(np.unique(share)) == {0, 2} and (share == share[..., :1]).all() and 0.4 < (share > 0).mean() < 0.6
    assert len({row.tobytes() for row in share}) == 8
    assert np.array_equal(Model(nn.Dropout2d(0.5)).predict(x), x)
    x = np.ones((8, 64, 3))
    dx, _ = gradients(Model(nn.Dropout1d(0.5), "float64"), x, x)
    assert np.array_equal(dx, share[..., :3])       # by the same draws


# bits ---------------------------------------------------------------------------------------------------------------

def network(dtype="float32"):
    return Model(nn.Sequential(
        nn.Conv2d(2, 18, 3, padding=1), nn.BatchNorm2d(18), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(18, 18, 3, groups=18, padding=1), nn.Conv2d(18, 33, 1), nn.ReLU(),
        nn.Residual(nn.Conv2d(33, 33, 3, padding="same", padding_mode="reflect")),
        nn.GroupNorm(3, 33), nn.Dropout2d(0.2), nn.Conv2d(33, 5, 3, stride=2, padding=1), nn.ConvTranspose2d(5, 4, 3, stride=2),
        nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Flatten(), nn.Linear(64, 3)), dtype, seed=1)


def images(n, dtype="float32"):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 2, 8, 8)).astype(dtype), rng.integers(0, 3, n)


def trained(threads, dtype="float32"):
    """A digest of what training gives: 3 batches an update, on so many threads."""
    model, (x, y) = network(dtype), images(50, dtype)
    with Trainer(2, seed=2, enable_parallel=threads > 0, thread_count=threads, batches_per_update=3 if threads else None) as t:
        t.init(data.ArrayDataset(x, y, 8 if threads else 24), model, losses.SoftmaxCrossEntropy(), optim.Adam(lr=1e-3))
        t.train()
    return hashlib.sha256(model.params.tobytes() + model.statistics.tobytes() + model.predict(x).tobytes()).hexdigest()


def test_bits_do_not_depend_on_the_threads():
    assert trained(1) == trained(2) == trained(3)


def test_bits_of_a_sample_do_not_depend_on_the_others():
    for dtype in ("float32", "float64"):
        model, (x, _) = network(dtype), images(23, dtype)
        whole = model.predict(x)
        for n in (1, 2, 7, 22):
            for start in range(0, 23, 11):
                assert np.array_equal(model.predict(x[start:start + n]), whole[start:start + n])


def test_bits_do_not_depend_on_the_instruction_set():
    from tinydl import _kernels
    digests = {}
    for isa in [i for i in _kernels.isa_available if i != "generic"]:
        done = subprocess.run([sys.executable, "-c", "import test_conv as t; print(t.trained(2), t.trained(1, 'float64'))"],
                              cwd=os.path.dirname(__file__), capture_output=True, text=True, timeout=300,
                              env=os.environ | {"TINYDL_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)})
        assert done.returncode == 0, done.stderr
        digests[isa] = done.stdout
    assert len(set(digests.values())) <= 1, digests


# plans, files, the door ---------------------------------------------------------------------------------------------

def test_activations_are_fused_and_the_first_layer_makes_no_gradient_of_its_input():
    model = Model(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), nn.Tanh(), nn.Conv2d(4, 2, 2),
                                nn.GlobalAvgPool()), seed=0)
    ops = [" ".join([op.name, *op.notes]) for op in model.plan((1, 10, 10), 4, loss=losses.MeanSquaredError()).ops]
    assert [o for o in ops if o.startswith(("conv2d", "conv_tr", "max"))] == [
        "conv2d + relu", "max_pool2d", "conv2d + tanh", "conv2d", "conv2d_by_weight", "conv_transpose2d * tanh'",
        "conv2d_by_weight", "conv_transpose2d", "max_pool2d_backward * relu'", "conv2d_by_weight"]
    assert "activation" not in " ".join(ops) and "arrange" not in ops


def normed(dtype, last=nn.Sigmoid):
    """A digest of what training gives where an activation follows a batch norm, and the operations that are fused."""
    model = Model(nn.Sequential(nn.Conv2d(2, 21, 3, padding=1), nn.BatchNorm2d(21), nn.ReLU(), nn.Conv2d(21, 5, 1),
                                nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 5, 3), nn.BatchNorm2d(5),
                                last(), nn.GlobalAvgPool(), nn.Linear(5, 3)), dtype, seed=1)
    x, y = images(32, dtype)
    with Trainer(2, seed=2) as t:
        t.init(data.ArrayDataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.Adam(lr=1e-2))
        t.train()
    ops = [" ".join([op.name, *op.notes]) for op in model.plan((2, 8, 8), 4, loss=losses.MeanSquaredError()).ops]
    names = "batch", "act", "reduce", "spread"
    return model.params.tobytes() + model.predict(x).tobytes(), [o for o in ops if o.startswith(names)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_activation_moves_into_the_batch_norm_before_it_and_changes_no_bit(dtype, monkeypatch):
    bits, ops = normed(dtype)
    assert ops == ["batch_norm + relu", "batch_norm + relu", "batch_norm + sigmoid", "reduce_sum", "spread",
                   "activation_backward", "batch_norm_backward", "batch_norm_backward * relu'", "batch_norm_backward * relu'"]
    monkeypatch.setattr("tinydl.plan.compiler.fuse", lambda ops, training: ops)
    apart, ops = normed(dtype)
    assert apart == bits and len(ops) == 14


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("last, forward, backward", [(nn.ReLU, " + relu + mean", " * relu' of spread"),
                                                     (nn.Identity, " + mean", " of spread")], ids=["relu", "none"])
def test_a_mean_over_pixels_moves_into_the_batch_norm_before_it_and_changes_no_bit(last, forward, backward, dtype, monkeypatch):
    bits, ops = normed(dtype, last)
    assert ops == ["batch_norm + relu", "batch_norm + relu", "batch_norm" + forward, "batch_norm_backward" + backward,
                   "batch_norm_backward * relu'", "batch_norm_backward * relu'"]
    monkeypatch.setattr("tinydl.plan.compiler.fuse", lambda ops, training: ops)
    apart, ops = normed(dtype, last)
    assert apart == bits and len(ops) == (14 if last is nn.ReLU else 12)


def test_a_batch_norm_that_others_look_at_is_written_out_beside_its_mean():
    x = nn.Input((2, 8, 8))
    h = nn.BatchNorm2d(2)(x)
    model = Model(inputs=x, outputs=[h, nn.GlobalAvgPool()(h)], dtype="float64", seed=0)
    a = images(3, "float64")[0]
    normed, mean = model.predict(a)
    np.testing.assert_allclose(normed, a / np.sqrt(1 + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(mean, normed.mean((2, 3)), rtol=0, atol=1e-14)


def test_the_gradient_of_a_kernel_over_more_pixels_than_are_read_at_once():
    """Read in place, and, with zeros around it, a band at a time."""
    rng = np.random.default_rng(3)
    for padding, side in ((0, 34), (1, 32)):
        model = Model(nn.Conv2d(32, 40, 3, padding=padding), seed=0)
        x = rng.standard_normal((2, 32, side, side)).astype(np.float32)
        dy = rng.standard_normal((2, 40, 32, 32)).astype(np.float32)
        _, by = gradients(model, x, dy)
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        d = dy.transpose(1, 0, 2, 3).reshape(40, -1).astype(np.float64)
        for i in range(3):
            for j in range(3):
                taps = padded[:, :, i:i + 32, j:j + 32].transpose(0, 2, 3, 1).reshape(-1, 32)
                bound = 2048 * np.finfo(np.float32).eps / 2 * (np.abs(d) @ np.abs(taps))
                assert (np.abs(by["weight"][:, :, i, j] - d @ taps) <= bound).all()


def test_what_is_frozen_stays():
    x, y = images(16)
    for names, moved in ((["0.weight"], {"0.bias", "3.weight", "3.bias"}), (["0.bias", "3.weight"], {"0.weight", "3.bias"})):
        model = Model(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(4, 3)), seed=0)
        before = {k: v.copy() for k, v in model.state_dict().items()}
        model.freeze(*names)
        with Trainer(1, seed=0) as t:
            t.init(data.ArrayDataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.SGD(lr=0.1))
            t.train()
        assert {k for k, v in model.state_dict().items() if not np.array_equal(v, before[k])} == moved


def test_files_summary_and_flops(tmp_path):
    model, (x, _) = network(), images(3)
    model.save(tmp_path / "m.tdl")
    assert np.array_equal(Model.load(tmp_path / "m.tdl").predict(x), model.predict(x))
    assert "Conv2d" in model.summary((2, 8, 8)) and "20,736" in model.summary((2, 8, 8))        # 64 18 2 9
    for layer, _ in ROWS.values():
        for _, one in layer.walk():
            assert one.children or repr(type(one)(**one.config())) == repr(one)
    assert nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2).flops((4, 8, 8)) == 16 * 6 * 2 * 9
    assert nn.ConvTranspose2d(4, 6, 3, stride=2).flops((4, 8, 8)) == 64 * 4 * 6 * 9


@pytest.mark.parametrize("make, message", [
    (lambda: nn.Conv2d(0, 3, 3), "Conv2d(in_channels=0)"), (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups must divide"),
    (lambda: nn.Conv2d(3, 4, (3, 0)), "kernel_size=(3, 0)"), (lambda: nn.Conv2d(3, 4, 3.0), "kernel_size=3.0"),
    (lambda: nn.Conv2d(3, 4, 3, padding="some"), "padding='some'"), (lambda: nn.Conv2d(3, 4, 3, padding=-1), "padding=-1"),
    (lambda: nn.Conv2d(3, 4, 3, padding="causal"), "'causal' is for Conv1d"),
    (lambda: nn.Conv1d(3, 4, 3, 2, "causal"), "with a stride of 1 and zeros"),
    (lambda: nn.Conv2d(3, 4, 3, 2, "same"), "a stride of 1"), (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), "reflect"),
    (lambda: nn.Conv1d(3, 4, (3, 3)), "kernel_size=(3, 3)"), (lambda: nn.ConvTranspose2d(2, 2, 3, output_padding=1), "less than"),
    (lambda: nn.Conv2d(3, 4, 3).output_shape((2, 8, 8)), "(3, H, W)"),
    (lambda: nn.Conv2d(3, 4, 3).output_shape((3, 8)), "(3, H, W)"),
    (lambda: nn.Conv1d(3, 4, 3).output_shape((3, 8, 8)), "(3, L)"),
    (lambda: nn.Conv2d(3, 4, 9).output_shape((3, 8, 8)), "larger"),
    (lambda: nn.Conv2d(3, 4, 3, padding=4, padding_mode="reflect").output_shape((3, 4, 4)), "finds no 4 places in 4"),
    (lambda: nn.Conv2d(1, 1, 40).output_shape((1, 64, 64)), "1600 taps"),
    (lambda: nn.Conv2d(512, 8, 17).output_shape((512, 32, 32)), "at most 131,072"),
    (lambda: nn.ConvTranspose2d(2, 2, 1, padding=1).output_shape((2, 2, 2)), "nothing is left of 0 by 0 pixels"),
    (lambda: nn.ConvTranspose1d(2, 2, 1, padding=1).output_shape((2, 2)), "nothing is left of 0 places"),
    (lambda: nn.ConvTranspose1d(2, 2, 3).output_shape((2, 8, 8)), "(2, L)"),
    (lambda: nn.ConvTranspose1d(2, 2, (3, 3)), "ConvTranspose1d(kernel_size=(3, 3))"),
    (lambda: nn.InstanceNorm1d(3).output_shape((3, 4, 4)), "(3, L)"),
    (lambda: nn.InstanceNorm1d(3).output_shape((3, 1)), "one place"),
    (lambda: nn.InstanceNorm1d(0), "InstanceNorm1d(0)"),
    (lambda: nn.Dropout1d().output_shape((3, 4, 4)), "(C, L); nn.Dropout2d takes images"),
    (lambda: nn.GroupNorm(4, 6), "GroupNorm(4, 6)"),
    (lambda: nn.InstanceNorm2d(3).output_shape((3, 1, 1)), "one pixel"),
    (lambda: nn.BatchNorm2d(0), "BatchNorm2d(0"),
    (lambda: nn.Upsample(), "one of them"),
    (lambda: nn.Upsample(2, mode="cubic"), "cubic"),
    (lambda: nn.Upsample(scale_factor=1.5), "scale_factor=1.5"),
    (lambda: nn.PixelShuffle(2).output_shape((6, 2, 2)), "multiple of 4"),
    (lambda: nn.ZeroPad2d((1, 2)), "4 of them"),
    (lambda: nn.RMSNorm(0), "RMSNorm(0)"),
])
def test_door(make, message):
    with pytest.raises(ValueError) as e:
        make()
    assert message in str(e.value)
