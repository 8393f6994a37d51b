"""Schedules against PyTorch's numbers (2.13, at updates 0, 1, 8, 12, 23 and 24), and what a training does with them."""
import copy
import json
import pickle

import numpy as np
import pytest
from every_strategy import STEADY, TABLE, digest, run
from small import DRIVERS, classification, mlp

from tinydl import Trainer, callbacks, data, losses, optim
from tinydl._kernels import engine
from tinydl.optim import schedules as S

AT = np.array([0, 1, 8, 12, 23, 24])
PYTORCH = [
    (S.Linear(0.1, 19, 0.01), [0.1, 0.095263157895, 0.062105263158, 0.043157894737, 0.01, 0.01]),
    (S.Step(0.1, 7, 0.5), [0.1, 0.1, 0.05, 0.05, 0.0125, 0.0125]),
    (S.MultiStep(0.1, [3, 8, 24], 0.5), [0.1, 0.1, 0.025, 0.025, 0.025, 0.0125]),
    (S.Exponential(0.1, 0.9), [0.1, 0.09, 0.043046721, 0.028242953648, 0.00886293812, 0.007976644308]),
    (S.Polynomial(0.1, 20, 2.0), [0.1, 0.09025, 0.036, 0.016, 0.0, 0.0]),
    (S.Cosine(0.1, 24, 0.01), [0.1, 0.099615018762, 0.0775, 0.055, 0.010384981238, 0.01]),
    (S.CosineRestarts(0.1, 4, 2, 0.01), [0.1, 0.086819805153, 0.055, 0.1, 0.029999339514, 0.023180194847]),
    (S.CosineRestarts(0.1, 6, 1, 0.01), [0.1, 0.09397114317, 0.0775, 0.1, 0.01602885683, 0.1]),
    (S.OneCycle(0.1, 26), [0.004, 0.009032162015, 0.09893118054, 0.081174565395, 0.002950505431, 0.000743447577]),
    (S.Warmup(8, S.Cosine(0.1, 17), 0.25), [0.025, 0.034375, 0.1, 0.086950445861, 0.00337638853, 0.000851345016]),
]
#: no other library's: what their docstrings say; at 0 and at 24
OTHERS = [(S.Constant(0.1), 0.1, 0.1), (S.CosLog(0.1, 24), 0.0, 0.0),
          (S.Chained([S.Constant(0.1), S.Linear(0.2, 8)], [20]), 0.1, 0.1)]
EVERY = [s for s, *_ in PYTORCH + OTHERS]
ids = {"ids": lambda s: type(s).__name__ if isinstance(s, S.Schedule) else ""}


def test_every_schedule_is_in_a_table():
    assert {type(s).__name__ for s in EVERY} == set(S.__all__) - {"Schedule", "from_config"}


@pytest.mark.parametrize("schedule, want", PYTORCH, **ids)
def test_pytorch(schedule, want):
    np.testing.assert_allclose(schedule(AT), want, rtol=0, atol=1e-12)      # that is where they were rounded


@pytest.mark.parametrize("schedule, first, last", OTHERS, **ids)
def test_first_and_last(schedule, first, last):
    assert schedule(0) == first and schedule(24) == pytest.approx(last, abs=1e-17)


def test_formulas_of_their_own():
    t = np.arange(24) / 24
    np.testing.assert_allclose(S.CosLog(0.1, 24)(np.arange(24)), 0.05 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * t))), atol=1e-15)
    one = S.OneCycle(0.1, 26)
    assert one(25) == one(1000) == pytest.approx(0.1 / 25 / 1e4, rel=1e-12)         # behind which PyTorch's raises
    assert S.Cosine(0.1, 24)(1000) == 0 and S.Linear(0.1, 24)(24) == 0


@pytest.mark.parametrize("schedule", EVERY, **ids)
def test_a_rate_has_the_same_bits_however_it_is_asked_for(schedule):
    every = schedule.rates(0, 300)
    assert every.dtype == np.float64 and len(every) == 300
    for first, count in ((0, 1), (1, 1), (63, 3), (64, 64), (17, 200), (299, 1), (5, 0)):
        assert schedule.rates(first, count).tobytes() == every[first:first + count].tobytes()
    assert [schedule(i) for i in (0, 70, 299)] == every[[0, 70, 299]].tolist()
    assert schedule(np.array([[7, 3]])).tolist() == [[every[7], every[3]]]


@pytest.mark.parametrize("schedule", EVERY, **ids)
def test_config_makes_it_again(schedule):
    again = S.from_config(json.loads(json.dumps(schedule.config())))
    assert again == schedule and repr(again) == repr(schedule) and again.rates(0, 99).tobytes() == schedule.rates(0, 99).tobytes()
    assert copy.deepcopy(schedule) == schedule == pickle.loads(pickle.dumps(schedule))


@pytest.mark.parametrize("make, message", [
    (lambda: S.Constant(-1), "lr=-1"), (lambda: S.Cosine(0.1, 0), "total_updates=0"), (lambda: S.OneCycle(0.1, 2), "pct_start"),
    (lambda: S.Chained([S.Constant(1)], [3]), "need 0 updates"), (lambda: S.Warmup(0, S.Constant(1)), "updates=0"),
    (lambda: S.Constant(1)(-1), "from 0"), (lambda: S.Constant(1)(0.5), "whole"),
    (lambda: S.from_config({"schedule": "Nothing"}), "'Nothing'"),
])
def test_door(make, message):
    with pytest.raises(ValueError) as e:
        make()
    assert message in str(e.value)


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    assert S.Warmup(5, S.Cosine(0.1, 20)).plot(tmp_path / "rate.png").read_bytes()[:4] == b"\x89PNG"


# ---------------------------------------------------------------------- in training
def falling():
    return S.Warmup(3, S.Cosine(0.05, 20), 0.1)


def test_momentum_is_kept_without_the_rate_as_pytorchs():
    p = np.array([0.5, -1.0, 2.0])
    o = optim.SGD(S.Step(0.1, 3, 0.1), momentum=0.9)
    o.bind(p)
    for t in range(7):
        o.step(np.array([np.sin(t + 1), np.cos(t + 1), 0.1 * (t + 1)]))
    np.testing.assert_allclose(p, [0.08642620657075567, -0.9437889105326793, 1.8625725379], rtol=1e-14)


class EachUpdate(callbacks.Callback):
    """Sets the rate before each update: what a schedule is to do."""

    every = 1

    def __init__(self, schedule):
        self.schedule = schedule

    def on_epoch_start(self, trainer, epoch):
        trainer.optimizer.lr = self.schedule(trainer.optimizer.t)

    def on_update(self, trainer, updates):
        trainer.optimizer.lr = self.schedule(trainer.optimizer.t)


@pytest.mark.parametrize("strategy", ["serial", "group", "shard"])
def test_each_update_has_its_rate(driver, strategy):
    x, y = classification(70)
    models = [mlp(6, 9, 3), mlp(6, 9, 3)]
    t = run(driver(x, y, 8), models[0], TABLE[strategy][0](), optimizer=optim.Adam(falling()))
    run(driver(x, y, 8), models[1], TABLE[strategy][0](), optimizer=optim.Adam(1.0), callbacks=[EachUpdate(falling())])
    assert models[0].params.tobytes() == models[1].params.tobytes()
    assert t.history["learning_rate"][-1] == falling()(t.optimizer.t - 1)


class EachDecay(callbacks.Callback):
    """Sets the weight decay before each update."""

    every = 1

    def __init__(self, schedule):
        self.schedule = schedule

    def on_epoch_start(self, trainer, epoch):
        trainer.optimizer.weight_decay = self.schedule(trainer.optimizer.t)

    def on_update(self, trainer, updates):
        trainer.optimizer.weight_decay = self.schedule(trainer.optimizer.t)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.RMSprop, optim.Adagrad,
                                  optim.Lion])
def test_weight_decay_by_a_schedule(kind):
    x, y = classification(70)
    models = [mlp(6, 9, 3) for _ in range(3)]
    decay = S.Linear(0.5, 20, 0.0)
    run(data.ArrayDataset(x, y, 8), models[0], "serial", optimizer=kind(1e-2, weight_decay=decay))
    run(data.ArrayDataset(x, y, 8), models[1], "serial", optimizer=kind(1e-2, weight_decay=0.5), callbacks=[EachDecay(decay)])
    run(data.ArrayDataset(x, y, 8), models[2], "serial", optimizer=kind(1e-2, weight_decay=0.5))
    assert models[0].params.tobytes() == models[1].params.tobytes() != models[2].params.tobytes()
    again = kind(1e-2, weight_decay=decay, groups=[{"params": "*.bias", "weight_decay": S.Constant(0.0)}])
    assert again.config()["weight_decay"] == decay


@pytest.mark.parametrize("strategy", STEADY)
def test_the_bits_are_those_of_any_threads_and_driver(strategy):
    x, y = classification(70)
    got = set()
    for kind in DRIVERS.values():
        for threads in (1, 2, 3):
            model = mlp(6, 9, 3)
            run(kind(x, y, 8), model, TABLE[strategy][0](), threads, optimizer=optim.AdamW(falling()))
            got.add(digest(model))
    assert len(got) == 1


def test_hogwilds_rate_is_by_the_ticket(driver):
    x, y = classification(70)
    models = [mlp(6, 9, 3), mlp(6, 9, 3)]
    for model, strategy in zip(models, ("hogwild", "serial"), strict=True):
        run(driver(x, y, 8), model, TABLE[strategy][0](), 1, optimizer=optim.SGD(falling()))
    assert models[0].params.tobytes() == models[1].params.tobytes()


def test_a_checkpoint_goes_on_with_its_schedule(driver, tmp_path):
    x, y = classification(70)

    def trainer(schedule, **options):
        t = Trainer(1, seed=0, **options)
        t.init(driver(x, y, 8), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.SGD(schedule, 0.9))
        return t

    class Stop(callbacks.Callback):
        every = 4

        def on_update(self, trainer, updates):
            trainer.stop()
    whole = trainer(falling())
    whole.train()
    whole.train()
    part = trainer(falling(), callbacks=[Stop()])
    part.train()
    part.save_checkpoint(tmp_path / "c")
    again = trainer(S.Constant(1.0))
    again.load_checkpoint(tmp_path / "c")
    assert again.optimizer.lr == falling() and again.optimizer.t == 4
    again.train()
    again.train()
    assert again.model.params.tobytes() == whole.model.params.tobytes()


def test_a_stretch_refuses_rates_of_other_updates():
    x, y = classification(16)
    model = mlp(6, 3)
    o = optim.SGD(falling())
    o.bind(model.params)
    replica = engine.Replica(model.plan(max_rows=8, loss=losses.SoftmaxCrossEntropy()).program, model.params, model.statistics)
    with pytest.raises(ValueError, match="updates 0 to 1; these are 0 to 2"):
        engine.NativeRun([replica], [engine.aligned(model.params.size, np.float32)], [engine.Source(x), engine.Source(y)], None,
                         np.array([0, 8, 16]), o.native())


def test_reduce_on_plateau(tmp_path):
    x, y = classification(40)

    class Flat(data.ArrayDataset):
        pass
    plateau = callbacks.ReduceOnPlateau("loss", factor=0.5, patience=2, min_delta=100.0)
    with Trainer(6, seed=0, callbacks=[plateau]) as t:
        t.init(data.ArrayDataset(x, y, 8), mlp(6, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        h = t.train()
    # the first epoch is the best; two that are not better, then the rate falls, and patience begins anew
    assert h["learning_rate"] == [0.1, 0.1, 0.1, 0.05, 0.05, 0.025]
    assert plateau.state_dict()["waited"] == 1
    with Trainer(1, callbacks=[plateau]) as t, pytest.raises(ValueError, match="a schedule"):
        t.init(data.ArrayDataset(x, y, 8), mlp(6, 3), losses.SoftmaxCrossEntropy(), optim.SGD(falling()))
        t.train()
