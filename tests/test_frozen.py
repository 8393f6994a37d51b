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


EVERY = ["0.*", "*.bias", "*.weight", "3.*", "1.weight", "5.a", "6.*", "4.*", "[0-4].*"]


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
    assert len(replica.plan.ops) < len(whole.plan.ops) or pattern in ("1.weight", "5.a", "4.*")
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
