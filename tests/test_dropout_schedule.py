"""Dropout by a schedule: each update has its own probability, which a plan that is compiled once reads by the update's number."""
import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest

from tinydl import Model, Trainer, losses, nn, optim
from tinydl._kernels import reference
from tinydl.data import ArrayDataset
from tinydl.optim import schedules
from tinydl.plan.by_step import AHEAD, ByStep

FALLING = schedules.Linear(0.8, 12)
X = np.random.default_rng(0).normal(size=(96, 8))
Y = X[:, :1] - X[:, 1:2]


class Ours(optim.SGD):
    """One with a step of its own: it is trained by the Python driver."""

    def step(self, gradients):
        super().step(gradients)


def network(p=FALLING, layer=nn.Dropout):
    return nn.Sequential(layer(p), nn.Linear(8, 4), nn.Tanh(), layer(p), nn.Linear(4, 1))


def trained(p=FALLING, epochs=3, optimizer=optim.SGD, batch_size=16, **options):
    model = Model(network(p), "float64", seed=0)
    with Trainer(epochs, seed=3, **options) as trainer:
        trainer.init(ArrayDataset(X, Y, batch_size), model, losses.MeanSquaredError(), optimizer(0.05))
        trainer.train()
    return model.params


@pytest.mark.parametrize("optimizer", [optim.SGD, Ours], ids=["native", "python"])
@pytest.mark.parametrize("p", [FALLING, schedules.MultiStep(0.5, [3, 7]), schedules.Warmup(5, schedules.Constant(0.6))], ids=str)
def test_each_update_has_the_probability_of_its_number(p, optimizer):
    """Two linear layers, each behind Dropout, whose updates NumPy makes by the masks that the kernel's reference says."""
    first, second = nn.Linear(8, 4, bias=False), nn.Linear(4, 1, bias=False)
    model = Model(nn.Sequential(nn.Dropout(p), first, nn.Dropout(p), second), "float64", seed=0)
    A, B = (model.state_dict()[name] for name in ("1.weight", "3.weight"))
    data = ArrayDataset(X, Y, 16)
    with Trainer(3, seed=3) as trainer:
        trainer.init(data, model, losses.MeanSquaredError(), optimizer(0.05))
        trainer.train()
    n = 0
    for epoch in range(3):
        order, bounds = data.order(3, epoch)
        for start, end in pairwise(bounds):
            rows = order[start:end]

            def drop(layer, x, n=n, rows=rows):
                return reference.dropout(x, np.empty_like(x), p(n), layer=layer, seed=3, step=n, index=rows)
            x = drop(0, X[rows])
            h = drop(1, x @ A)
            dy = 2 * (h @ B - Y[rows]) / len(rows)
            A, B = A - 0.05 * x.T @ drop(1, dy @ B.T), B - 0.05 * h.T @ dy
            n += 1
    assert n == 18
    for name, values in (("1.weight", A), ("3.weight", B)):
        assert np.allclose(model.state_dict()[name], values, rtol=1e-9, atol=1e-12)


def test_a_constant_schedule_is_its_number():
    assert np.array_equal(trained(schedules.Constant(0.3)), trained(0.3))
    assert not np.array_equal(trained(schedules.Constant(0.3)), trained(FALLING))


@pytest.mark.parametrize("options", [{"batches_per_update": 2}, {"strategy": "shard", "shards_per_batch": 3}], ids=str)
def test_the_same_bits_for_any_number_of_threads_and_driver(options):
    parallel = [trained(enable_parallel=True, thread_count=n, **options) for n in (1, 2, 3)]
    parallel.append(trained(enable_parallel=True, thread_count=2, optimizer=Ours, **options))
    assert all(np.array_equal(found, parallel[0]) for found in parallel[1:])
    assert not np.array_equal(parallel[0], trained(0.8, enable_parallel=True, thread_count=2, **options))


def test_more_updates_than_the_table_has_numbers_for():
    p = schedules.CosineRestarts(0.9, 700)
    epochs = -(-3 * AHEAD // len(X)) + 1
    native = trained(p, epochs, batch_size=1)
    assert np.array_equal(native, trained(p, epochs, batch_size=1, enable_parallel=True, thread_count=2, batches_per_update=1))
    assert np.array_equal(native, trained(p, epochs, batch_size=1, optimizer=Ours))


def test_one_epoch_of_more_updates_than_the_table_has_numbers_for(monkeypatch):
    from tinydl import epochs
    from tinydl.plan import by_step
    expected = trained(epochs=5, batch_size=4)
    monkeypatch.setattr(by_step, "AHEAD", 4)
    monkeypatch.setattr(epochs, "AHEAD", 4)
    assert np.array_equal(trained(epochs=5, batch_size=4), expected)


def test_a_table_has_the_numbers_ahead_whatever_is_asked_for():
    table = ByStep(schedules.Linear(1.0, 5 * AHEAD).rates)
    for step in (0, 1, AHEAD, AHEAD + 1, 4 * AHEAD, 3 * AHEAD, 17):
        table.reach(step)
        first = int(table.table[0])
        assert first <= step and step + AHEAD <= first + len(table.table) - 1
        assert np.array_equal(table.table[1:], schedules.Linear(1.0, 5 * AHEAD).rates(first, 2 * AHEAD))


def test_a_training_that_goes_on_from_a_checkpoint_goes_on_with_the_schedule(tmp_path):
    def make(epochs):
        model = Model(network(), "float64", seed=0)
        trainer = Trainer(epochs, seed=3)
        trainer.init(ArrayDataset(X, Y, 16), model, losses.MeanSquaredError(), optim.Adam(0.01))
        return trainer, model
    whole, expected = make(4)
    with whole:
        whole.train()
    first, _ = make(1)
    with first:
        first.train()
        first.save_checkpoint(tmp_path / "c")
    second, model = make(3)
    with second:
        second.load_checkpoint(tmp_path / "c")
        second.train()
    assert np.array_equal(model.params, expected.params)


def test_whole_channels_by_a_schedule():
    X4 = np.ones((6, 3, 2, 2))
    p = schedules.MultiStep(0.5, [1], 0.0)          # 0.5, then 0
    model = Model(nn.Sequential(nn.Dropout2d(p), nn.Flatten(), nn.Linear(12, 1)), "float64", seed=0)
    with Trainer(2, seed=0) as trainer:
        trainer.init(ArrayDataset(X4, np.zeros((6, 1)), 6), model, losses.MeanSquaredError(), optim.SGD(0.0))
        history = trainer.train()
    assert history["loss"][0] != history["loss"][1] == pytest.approx(float(model.predict(X4)[0, 0]) ** 2)


def test_files_copies_and_inference(tmp_path):
    model = Model(network(), "float64", seed=0)
    model.save(tmp_path / "m.tinydl")
    for other in (Model.load(tmp_path / "m.tinydl"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert [layer.p for _, layer in other.layer.walk() if isinstance(layer, nn.Dropout)] == [FALLING, FALLING]
        assert np.array_equal(other.predict(X), model.predict(X))
    assert repr(nn.Dropout(FALLING)) == f"Dropout(p={FALLING!r})"


def test_what_cannot_go_by_a_schedule_is_said():
    with pytest.raises(ValueError, match=r"p\(0\) is 1.5; it must be at least 0 and below 1"):
        nn.Dropout(schedules.Constant(1.5))
    with pytest.raises(ValueError, match=r"p\(9\) is 1;"):
        trained(schedules.Linear(0.1, 10, 1.1))
    with pytest.raises(ValueError, match="strategy local"):
        trained(strategy="local", enable_parallel=True, thread_count=2)
    for make in (lambda p: nn.LSTM(4, 4, 2, dropout=p), lambda p: nn.MultiheadAttention(4, 2, p),
                 lambda p: nn.TransformerEncoderLayer(4, 2, dropout=p)):
        with pytest.raises(TypeError, match=r"dropout=Linear\(.*: a number; .*nn\.Dropout"):
            make(FALLING)
