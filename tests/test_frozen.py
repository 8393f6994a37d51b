"""Frozen parameters: nothing is computed or kept for them, and training leaves them as they are."""
import copy
import pickle

import numpy as np
import pytest
from every_strategy import STEADY, TABLE, digest, run
from small import DRIVERS, classification, mlp

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.callbacks import Callback
from tinydl.parallel.execution.replica import Replica


class Scale(nn.PythonLayer):
    """y = x a + c"""

    def __init__(self):
        self.add_parameter("a", (8,), "ones")
        self.add_parameter("c", (8,))

    def forward(self, x):
        return x * self.parameter("a") + self.parameter("c"), x

    def backward(self, dy, saved):
        return dy * self.parameter("a"), {"a": (dy * saved).sum(0), "c": dy.sum(0)}


def deep(seed=0):
    layers = [nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Residual(nn.Linear(8, 8)), nn.BatchNorm1d(8), Scale(),
              nn.Linear(8, 3)]
    return Model(nn.Sequential(*layers), dtype="float64", seed=seed)


EVERY = ["0.*", "*.bias", "*.weight", "3.*", "1.weight", "5.a", "6.*", "4.[wb]*", "[0-4].[wb]*", "4.weight"]


@pytest.mark.parametrize("pattern", EVERY)
def test_the_gradients_of_the_others_are_what_they_were(pattern):
    x, y = classification(10)
    model = deep()
    loss = losses.SoftmaxCrossEntropy()

    def gradients():
        replica = Replica(model, loss, 10)
        vector = replica.gradient_vector()
        replica.run(next(iter(data.ArrayDataset(x, y, 10).epoch(0, 1))), vector)
        ends = np.cumsum(list(model.sizes().values()))
        return {name: vector[end - n:end] for (name, n), end in zip(model.sizes().items(), ends, strict=True)}, replica
    want, whole = gradients()
    scores = model.predict(x)
    model.freeze(pattern)
    got, replica = gradients()
    assert got.keys() == want.keys() - set(model.frozen) and model.frozen
    assert all(got[name].tobytes() == want[name].tobytes() for name in got)
    assert len(replica.plan.ops) < len(whole.plan.ops) or pattern in ("1.weight", "5.a", "4.[wb]*", "4.weight")
    assert model.predict(x).tobytes() == scores.tobytes()


def test_nothing_is_computed_below_what_is_frozen():
    model = mlp(6, 9, 5, 3)
    model.freeze("0.*", "2.*")
    plan = model.plan((6,), 8, loss=losses.SoftmaxCrossEntropy())
    # three products forward, and the gradient of the last layer's weight
    assert [op.name for op in plan.ops].count("matmul") == 4 and plan.program.n_grads == 5 * 3 + 3 == model.num_parameters


@pytest.mark.parametrize("strategy", STEADY)
def test_training_leaves_them_and_its_bits_are_those_of_any_threads_and_driver(strategy):
    x, y = classification(70)
    got = set()
    for kind in DRIVERS.values():
        for threads in (1, 2, 3):
            model = deep()
            model.freeze("0.*", "5.a")
            before = model.state_dict()
            run(kind(x, y, 8), model, TABLE[strategy][0](), threads, epochs=1, optimizer=optim.Adam(0.01, clip_norm=0.1, ema=0.9))
            after = model.state_dict()
            assert {name for name in after if np.array_equal(before[name], after[name])} == {"0.weight", "0.bias", "5.a"}
            got.add(digest(model))
    assert len(got) == 1


def test_saved_copied_and_unfrozen(tmp_path):
    x, _ = classification(40)
    model = mlp(6, 9, 3)
    model.freeze("0.*")
    model.save(tmp_path / "m")
    for again in (Model.load(tmp_path / "m"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.frozen == ["0.weight", "0.bias"] and again.num_parameters == 30
        assert again.predict(x).tobytes() == model.predict(x).tobytes()
        again.unfreeze()
        assert again.frozen == [] and again.num_parameters == 93 and again.predict(x).tobytes() == model.predict(x).tobytes()
    with pytest.raises(ValueError, match=r"matches 'embed.\*'; there are 0.weight, 0.bias"):
        model.freeze("embed.*")


def test_a_trainer_must_be_given_the_model_again():
    x, y = classification(40)
    model = mlp(6, 9, 3)
    with Trainer(1, seed=0) as t:
        t.init(data.ArrayDataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        t.train()
        model.freeze("0.weight")
        with pytest.raises(RuntimeError, match="frozen or unfrozen since"):
            t.train()
        t.init(data.ArrayDataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        before = model.state_dict()["0.weight"]
        t.train()
        assert np.array_equal(model.state_dict()["0.weight"], before)


@pytest.mark.parametrize("occasion", ["on_epoch_start", "on_epoch_end"])
def test_a_callback_that_unfreezes_ends_training(occasion):
    """The updates of the epochs behind it would be lost, since they would be of memory that the model has left."""
    x, y = classification(40)
    model = mlp(6, 9, 3)
    model.freeze("0.*")
    unfreezes = type("Unfreezes", (Callback,), {occasion: lambda self, trainer, *given: trainer.model.unfreeze()})
    with Trainer(3, seed=0, callbacks=[unfreezes()]) as t:
        t.init(data.ArrayDataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        with pytest.raises(RuntimeError, match="frozen or unfrozen since"):
            t.train()
        assert len(t.history) == (occasion == "on_epoch_end")


# running statistics --------------------------------------------------------------------------------------------------

def normed(last=nn.Sigmoid, dtype="float64", seed=1):
    """Batch norms of images and of columns, whose running statistics are not those of any batch."""
    model = Model(nn.Sequential(nn.Conv2d(2, 21, 3, padding=1), nn.BatchNorm2d(21), nn.ReLU(), nn.Conv2d(21, 5, 1),
                                nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 5, 3),
                                nn.BatchNorm2d(5, affine=False),
                                last(), nn.GlobalAvgPool(), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)), dtype, seed=seed)
    rng = np.random.default_rng(7)
    state = model.state_dict()
    model.load_state_dict({name: values if name.endswith("weight") and values.ndim > 1 else rng.uniform(0.5, 1.5, values.shape)
                           for name, values in state.items()})
    model.predict(np.zeros((1, 2, 8, 8)))       # which says the shape of an image
    return model


def pictures(n, dtype="float64"):
    rng = np.random.default_rng(5)
    return rng.standard_normal((n, 2, 8, 8)).astype(dtype), rng.integers(0, 3, n)


def gradient_of(model, x, y):
    """The loss of a batch, and its gradient by each parameter that is trained."""
    replica = Replica(model, losses.SoftmaxCrossEntropy(), len(x))
    vector = replica.gradient_vector()
    loss = replica.run(next(iter(data.ArrayDataset(x, y, len(x)).epoch(0, 0, shuffle=False))), vector)
    ends = np.cumsum(list(model.sizes().values()))
    return loss, {name: vector[end - n:end] for (name, n), end in zip(model.sizes().items(), ends, strict=True)}, replica


FUSED = {nn.Sigmoid: (" + sigmoid", ""), nn.ReLU: (" + relu + mean", " * relu' of spread"),
         nn.Identity: (" + mean", " of spread")}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("last", FUSED)
def test_a_batch_norm_with_frozen_statistics_trains_as_it_predicts(last, fused, monkeypatch):
    """The loss is that of what `predict` gives, and gradients are its differences, whatever moves into a batch norm."""
    if not fused:
        monkeypatch.setattr("tinydl.plan.compiler.fuse", lambda ops, training: ops)
    x, y = pictures(6)
    model = normed(last)
    model.freeze("*.running_*")
    assert len(model.frozen) == 8 and model.statistics.size == 0

    def loss_now():
        scores = model.predict(x)
        scores = scores - scores.max(1, keepdims=True)
        return float(np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(y)), y]))
    loss, got, replica = gradient_of(model, x, y)
    np.testing.assert_allclose(loss, loss_now(), rtol=1e-12)
    arrays, rng = model.named_arrays(), np.random.default_rng(0)
    for name, gradient in got.items():
        flat = arrays[name].reshape(-1)
        for i in rng.choice(flat.size, min(3, flat.size), replace=False):
            kept = flat[i]
            flat[i] = kept + 1e-6
            above = loss_now()
            flat[i] = kept - 1e-6
            below = loss_now()
            flat[i] = kept
            np.testing.assert_allclose(gradient[i], (above - below) / 2e-6, rtol=1e-5, atol=1e-8)
    ops = [" ".join([op.name, *op.notes]) for op in replica.plan.ops if op.name.startswith("batch_norm")]
    assert not fused or (ops[2] == "batch_norm_inference" + FUSED[last][0] and ops[5] == "batch_norm_backward" + FUSED[last][1]
                         and ops[0] == "batch_norm_inference + relu" and ops[-1] == "batch_norm_backward * relu'")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("last", FUSED)
def test_what_is_fused_into_a_frozen_batch_norm_changes_no_bit(last, dtype, monkeypatch):
    def trained():
        x, y = pictures(32, dtype)
        model = normed(last, dtype)
        model.freeze("*.running_*")
        return run(data.ArrayDataset(x, y, 8), model, TABLE["serial"][0](), 1).model.params.tobytes()
    bits = trained()
    monkeypatch.setattr("tinydl.plan.compiler.fuse", lambda ops, training: ops)
    assert trained() == bits


def test_the_gradients_are_those_of_pytorch_in_eval():
    torch = pytest.importorskip("torch")
    from tinydl import torch_weights
    x, y = pictures(6)
    model = normed(nn.ReLU)
    model.freeze("*.running_*")
    t = torch.nn
    theirs = t.Sequential(t.Conv2d(2, 21, 3, padding=1), t.BatchNorm2d(21), t.ReLU(), t.Conv2d(21, 5, 1), t.BatchNorm2d(5),
                          t.ReLU(),
                          t.MaxPool2d(2), t.Conv2d(5, 5, 3), t.BatchNorm2d(5, affine=False), t.ReLU(), t.AdaptiveAvgPool2d(1),
                          t.Flatten(), t.BatchNorm1d(5), t.Tanh(), t.Linear(5, 3)).double().eval()
    theirs.load_state_dict({name: torch.as_tensor(values) for name, values in zip(
        theirs.state_dict(), torch_weights.state_dict(model).values(), strict=True)})
    t.functional.cross_entropy(theirs(torch.as_tensor(x)), torch.as_tensor(y)).backward()
    want = [p.grad.T if p.ndim == 2 else p.grad for p in theirs.parameters()]
    for got, gradient in zip(gradient_of(model, x, y)[1].values(), want, strict=True):
        np.testing.assert_allclose(got, gradient.numpy().ravel(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("strategy", [*STEADY, "hogwild"])
def test_frozen_statistics_stay_in_every_strategy(strategy):
    """And parts of a batch give what the batch gives: no sample depends on those beside it."""
    x, y = classification(70)
    got = set()
    for kind in DRIVERS.values():
        for threads in (1, 2, 3):
            model = deep()
            model.load_state_dict({**model.state_dict(), "4.running_mean": np.linspace(-1, 1, 8),
                                   "4.running_var": np.full(8, 0.7)})
            model.freeze("4.running_*")
            before = model.state_dict()
            t = run(kind(x, y, 8), model, TABLE[strategy][0](), threads, epochs=1)
            after = model.state_dict()
            assert {n for n in after if np.array_equal(before[n], after[n])} == {"4.running_mean", "4.running_var"}
            assert np.isfinite(t.history["loss"]).all()
            got.add(digest(model))
    assert len(got) == 1 or strategy == "hogwild"


def test_a_shard_of_a_frozen_batch_norm_is_serial_training():
    x, y = classification(64)
    weights = []
    for strategy in ("serial", "shard"):
        model = deep()
        model.freeze("*.running_*")
        run(data.ArrayDataset(x, y, 16), model, TABLE[strategy][0]())
        weights.append(model.params)
    np.testing.assert_allclose(*weights, rtol=1e-9, atol=1e-12)
    assert not any(layer.mixes_samples for _, layer in model.layer.walk())
    model.unfreeze()
    assert [path for path, layer in model.layer.walk() if layer.mixes_samples] == ["4"]


def test_one_sample_is_enough_for_a_frozen_batch_norm():
    x, y = classification(9)
    model = Model(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), seed=0)
    with Trainer(1, seed=0) as t:
        with pytest.raises(ValueError, match="BatchNorm trains on batches of 2 samples or more"):
            t.init(data.ArrayDataset(x, y, 1), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        model.freeze("1.running_*")
        t.init(data.ArrayDataset(x, y, 1), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        t.train()
        assert not t.history.failures


def test_frozen_statistics_are_saved_loaded_and_unfrozen(tmp_path):
    x, y = pictures(8, "float32")
    model = normed(nn.ReLU, "float32")
    model.freeze("*.running_*")
    model.save(tmp_path / "m")
    for again in (Model.load(tmp_path / "m"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.frozen == model.frozen and again.statistics.size == 0
        assert again.predict(x).tobytes() == model.predict(x).tobytes()
        before = again.state_dict()
        again.unfreeze("*.running_*")
        assert again.frozen == [] and all(np.array_equal(before[n], values) for n, values in again.state_dict().items())
        run(data.ArrayDataset(x, y, 4), again, TABLE["serial"][0](), epochs=1)
        assert not np.array_equal(again.state_dict()["1.running_mean"], before["1.running_mean"])


def test_a_pattern_of_a_layer_freezes_its_statistics_too_and_one_of_parameters_does_not():
    model = normed()
    model.freeze("[0-2].*")
    assert model.frozen == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    model.unfreeze()
    model.freeze("*.weight", "*.bias")
    assert "running" not in " ".join(model.frozen) and model.statistics.size == 2 * (21 + 5 + 5 + 5)
    model = normed()
    before, params = model.state_dict(), model.params
    with pytest.raises(ValueError, match=r"1.running_mean, 1.running_var go together: freeze, or unfreeze, '1.running_\*'"):
        model.freeze("0.weight", "1.running_mean")
    assert model.frozen == [] and model.params is params
    assert all(np.array_equal(before[n], values) for n, values in model.state_dict().items())


def test_the_statistics_of_an_average_leave_out_what_is_frozen():
    """Those that are not frozen are made anew by a pass over the data; the others stay."""
    from tinydl import callbacks
    x, y = pictures(16)
    model = normed()
    model.freeze("1.*")
    before = model.state_dict()
    with Trainer(2, seed=0, callbacks=[callbacks.WeightAveraging()]) as t:
        t.init(data.ArrayDataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        t.train()
        averaged = t.averaged_model().state_dict()
    changed = {n for n, values in averaged.items() if not np.array_equal(values, before[n])}
    assert {n for n in averaged if "running" in n} - changed == {"1.running_mean", "1.running_var"}


def test_a_checkpoint_goes_on_with_frozen_statistics(tmp_path):
    x, y = pictures(24)
    bits = set()
    for stop in (False, True):
        model = normed()
        model.freeze("*.running_*", "0.*")
        with Trainer(1 if stop else 2, seed=0) as t:
            t.init(data.ArrayDataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
            t.train()
            if stop:
                t.save_checkpoint(tmp_path / "c")
        if stop:
            model = normed(seed=2)
            model.freeze("*.running_*", "0.*")
            with Trainer(1, seed=0) as t:
                t.init(data.ArrayDataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
                t.load_checkpoint(tmp_path / "c")
                t.train()
        bits.add(digest(model))
    assert len(bits) == 1


def test_onnx_is_what_it_was(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = normed(nn.ReLU, "float32")
    graphs = []
    for patterns in ((), ("*.running_*",)):
        model.freeze(*patterns)
        model.to_onnx(tmp_path / "m.onnx", input_shape=(2, 8, 8))
        graphs.append(onnx.load(tmp_path / "m.onnx").graph)
    assert graphs[0] == graphs[1]
