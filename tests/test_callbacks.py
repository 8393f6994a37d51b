"""What callbacks hear of, whatever interrupts training: every update and every epoch, once."""
import os
import signal
import threading
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
from every_strategy import STEADY, TABLE, At13, digest, marked, with_layer
from small import DRIVERS, classification

from tinydl import AccuracyEvaluator, Evaluator, Model, Monitor, Trainer, data, losses, nn, optim
from tinydl.callbacks import Callback, Checkpoint, EarlyStopping, LearningRate
from tinydl.serialization import read_arrays

pytestmark = pytest.mark.usefixtures("eager_auto")


class Decays(Callback):
    """A learning rate that falls with every update: one call too few, and the bits are others."""

    every = 1

    def __init__(self, fails_at=0):
        self.updates, self.epochs, self.fails_at = [], [], fails_at

    def on_update(self, trainer, updates):
        self.updates.append(updates)
        if len(self.updates) == self.fails_at:
            raise RuntimeError("callback")
        trainer.optimizer.lr *= 0.9

    def on_epoch_end(self, trainer, record):
        self.epochs.append(record.epoch)


class Interrupts:
    """The first `times` times that it sees sample 13, Ctrl-C is pressed."""

    def __init__(self, times):
        self.left = times

    def __deepcopy__(self, memo):
        return self

    def __call__(self, x):
        if self.left:
            self.left -= 1
            if threading.current_thread() is threading.main_thread():
                signal.raise_signal(signal.SIGINT)
            else:
                os.kill(os.getpid(), signal.SIGINT)
        return x


def train(dataset, strategy, callbacks, interrupts=0, monitor=None):
    """Two epochs, gone on with where an interrupt, or a callback, ended them."""
    t = Trainer(1, monitor, strategy=strategy, enable_parallel=True, thread_count=2, seed=7, callbacks=callbacks)
    with t:
        t.init(dataset, with_layer(At13(Interrupts(interrupts))), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        for _ in range(10):
            with suppress(KeyboardInterrupt, RuntimeError):
                t.train()
            if t.epoch == 2:
                return t
        pytest.fail("two epochs took more than ten calls")


@pytest.mark.parametrize("name", STEADY)
def test_ctrl_c_keeps_no_update_from_a_callback(driver, name):
    x, y = marked(64)
    want, got = Decays(), Decays()
    whole = train(driver(x, y, 8), TABLE[name][0](), [want])
    t = train(driver(x, y, 8), TABLE[name][0](), [got], interrupts=3)
    assert got.updates == want.updates and got.epochs == [1, 2] and digest(t.model) == digest(whole.model)


@pytest.mark.parametrize("where", ["progress", "end_epoch"])
def test_ctrl_c_between_an_update_or_an_epoch_and_its_call(driver, where):
    class Interrupting(Monitor):
        left = 1

    def interrupt(self, *args):
        if self.left:
            self.left -= 1
            signal.raise_signal(signal.SIGINT)
    setattr(Interrupting, where, interrupt)
    x, y = marked(64)
    got = Decays()
    train(driver(x, y, 8), "serial", [got], monitor=Interrupting(quiet=True))
    assert got.updates == [*range(1, 9)] * 2 and got.epochs == [1, 2]


def test_a_callback_that_raises_keeps_no_update_from_the_next_one(driver):
    x, y = marked(64)
    raises, other = Decays(fails_at=3), Decays()
    train(driver(x, y, 8), "serial", [raises, other])
    assert other.updates == raises.updates == [*range(1, 9)] * 2


def test_an_epoch_that_goes_on_keeps_its_order_and_its_learning_rate(driver, tmp_path):
    class StopAt(Callback):
        every = 3

        def on_update(self, trainer, updates):
            trainer.save_checkpoint(tmp_path / "c")
            trainer.stop()
            self.every = None
    x, y = marked(64)

    def made(*callbacks):
        t = Trainer(1, seed=7, callbacks=[LearningRate(lambda epoch: 0.1), *callbacks])
        t.init(driver(x, y, 8), with_layer(At13(lambda x: x)), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        return t
    whole, again, resumed = made(Decays()), made(Decays(), StopAt()), made(Decays())
    whole.train(shuffle=False)
    again.train(shuffle=False)
    again.train()
    resumed.load_checkpoint(tmp_path / "c")
    resumed.train()
    assert digest(again.model) == digest(resumed.model) == digest(whole.model)


class Places:
    """Where an interrupt may come: at the n-th place that is passed it does, once."""

    def __init__(self, n=0):
        self.n, self.passed = n, 0

    def __deepcopy__(self, memo):
        return self

    def __call__(self, *_):
        self.passed += 1
        if self.passed == self.n:
            raise KeyboardInterrupt


class Passes(nn.PythonLayer):
    def __init__(self, place):
        self.place = place

    def forward(self, x):
        self.place()
        return x, None

    def backward(self, dy, saved):
        self.place()
        return dy


def passing(kind, place, methods):
    """A subclass of `kind` that passes a place before and after each of its methods."""
    def around(name):
        def method(self, *arguments):
            place()
            result = getattr(kind, name)(self, *arguments)
            place()
            return result
        return method
    return type(f"Passing{kind.__name__}", (kind,), {name: around(name) for name in methods})


CALLS = ["on_train_start", "on_epoch_start", "on_epoch_end", "on_train_end"]


def interruptible(dataset, place, path, patience):
    """A trainer with every built-in callback, whose best epoch is its second."""
    passes = passing(Callback, place, [*CALLS, "on_update"])()
    passes.every = 2
    early = passing(EarlyStopping, place, CALLS)(patience=patience, restore_best=True)
    callbacks = [LearningRate(lambda epoch: 0.02 if epoch <= 2 else 3.0), passing(Checkpoint, place, CALLS)(path), early, passes]
    monitor = passing(Monitor, place, ["start_training", "start_epoch", "end_epoch", "end_training"])(quiet=True)
    t = Trainer(5, monitor, passing(AccuracyEvaluator, place, ["update"])(), seed=7, callbacks=callbacks)
    model = Model(nn.Sequential(Passes(place), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3)), seed=3)
    t.init(dataset, model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
    return t


def outcome(t, path):
    """All that must be the same, times apart."""
    state = [t.model.params, t.model.statistics, *t.optimizer.state.values()]
    saved = read_arrays(path, "checkpoint")[1]
    records = [(r.epoch, r.loss, r.samples, r.updates, r.validation_loss, r.figures, r.learning_rate) for r in t.history]
    early = t.callbacks[2]
    return (early.best_epoch, early.best, t.epoch, t.optimizer.t, records,
            [a.tobytes() for a in state], [(k, v.tobytes()) for k, v in saved.items()])


@pytest.mark.parametrize("kind, patience, epochs, resumes", [
    ("native", 2, 5, False), ("python", 2, 5, True), ("python", 9, 3, False), ("native", 9, 3, True)])
def test_an_interrupt_anywhere_changes_no_bit(kind, patience, epochs, resumes, tmp_path, monkeypatch):
    """Where early stopping ends training, in the fourth of five epochs, and where the last epoch does; in the same trainer,
    and in a new one that resumes."""
    monkeypatch.setattr(os, "fsync", lambda file: None)     # this is not about the disk, and makes hundreds of files
    x, y = classification(34)
    parts = data.Split(DRIVERS[kind](x[:16], y[:16], 8), DRIVERS[kind](x[16:], y[16:], 9), None)

    def run(n):
        place, path = Places(n), tmp_path / str(n)
        t = interruptible(parts, place, path, patience)
        while True:
            try:
                t.max_epochs = epochs - t.epoch
                t.train()
                return t, place, path
            except KeyboardInterrupt:
                if resumes:
                    t.save_checkpoint(tmp_path / "c")
                    t = interruptible(parts, place, path, patience)
                    t.load_checkpoint(tmp_path / "c")
    whole, place, path = run(0)
    want = outcome(whole, path)
    assert want[:3] == (2, min(whole.history["validation_loss"]), 4 if patience == 2 else 3)
    for n in range(1 if patience == 2 else place.passed - 30, place.passed + 1):       # of the other, the end is of interest
        t, _, path = run(n)
        assert outcome(t, path) == want, n


class Scripted(Evaluator):
    """Gives these figures, an epoch each."""

    def __init__(self, *figures):
        self.left = list(figures)

    def start(self):
        pass

    def update(self, outputs, targets):
        pass

    def result(self):
        return {"score": self.left.pop(0)}


class Parameters(Callback):
    """Those at the end of each epoch."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, trainer, record):
        self.seen.append(trainer.model.params.tobytes())


def watched(figures, *callbacks, epochs=9):
    """A trainer whose epochs have these figures."""
    x, y = classification(12)
    t = Trainer(epochs, None, Scripted(*figures), seed=7, callbacks=callbacks)
    t.init(data.ArrayDataset(x, y, 4).split(0.5, 0.5, 0.0), Model(nn.Linear(6, 3), seed=0), losses.SoftmaxCrossEntropy(),
           optim.Adam(0.1))
    return t


NAN = float("nan")


@pytest.mark.parametrize("figures, highest, best, epochs", [
    ([NAN, 3, 4, 2, NAN, NAN, NAN, 1], False, 4, 7), ([NAN, 3, 2, 4, NAN, NAN, 4, 5], True, 4, 7),
    ([NAN, NAN, NAN, 1], False, None, 3), ([NAN, NAN, float("-inf"), NAN, NAN, NAN, 1], True, 3, 6)])
def test_nan_is_worse_than_any_figure(figures, highest, best, epochs):
    seen, early = Parameters(), EarlyStopping("score", 3, highest=highest, restore_best=True)
    t = watched(figures, seen, early)
    history = t.train()         # NaN in its first epochs counts too
    assert (t.epoch, early.best) == (epochs, None if best is None else figures[best - 1])
    assert not history.interrupted and early.best_epoch == (best or 0)
    assert t.model.params.tobytes() == seen.seen[(best or epochs) - 1]


def test_early_stopping_counts_on_until_it_has_ended_a_training(tmp_path):
    figures, stops = [3, 2, 4, 4, 4, 6, 5, 7, 7, 7], []
    for how in ("at once", "twice", "resumed"):
        early = EarlyStopping("score", 3)
        t = watched(figures, early, epochs=9 if how == "at once" else 3)
        t.train()
        if how == "resumed":
            t.save_checkpoint(tmp_path / "c")
            early = EarlyStopping("score", 3)
            t = watched(figures[3:], early)
            t.load_checkpoint(tmp_path / "c")
        if how != "at once":
            assert (t.epoch, early.best_epoch) == (3, 2)
            t.train()
        stops.append((t.epoch, early.best_epoch, early.best))
        t.max_epochs = 9
        t.train()       # begins anew
        stops.append((t.epoch, early.best_epoch, early.best))
    assert stops == [(5, 2, 2), (10, 7, 5)] * 3


def test_patience_counts_from_where_it_began():
    t = watched([1, 2, 3, NAN, NAN, 7], epochs=3)
    t.train()
    t.callbacks.append(EarlyStopping("score", 2))
    t.train()
    assert t.epoch == 5


def test_a_training_that_is_stopped_keeps_its_parameters_and_the_best_ones():
    class Stops(Callback):
        def on_epoch_end(self, trainer, record):
            if record.epoch == 3:
                trainer.stop()
    seen, early = Parameters(), EarlyStopping("score", 9, restore_best=True)
    t = watched([1, 2, 3, 4], seen, early, Stops(), epochs=4)
    assert t.train().interrupted and t.model.params.tobytes() == seen.seen[2] != seen.seen[0]
    assert np.concatenate([v.ravel() for v in early.best_state.values()]).tobytes() == seen.seen[0]
    t.max_epochs = 1
    assert not t.train().interrupted and t.model.params.tobytes() == seen.seen[0]


class Clips(optim.SGD):
    def step(self, gradients):
        super().step(np.clip(gradients, -0.01, 0.01))


@pytest.mark.parametrize("strategy", ["serial", "group", "shard", "hogwild", "auto"])
def test_an_optimizers_own_step_is_taken(driver, strategy):
    x, y = marked(64)
    with Trainer(1, strategy=strategy, enable_parallel=True, thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), with_layer(At13(lambda x: x)), losses.SoftmaxCrossEntropy(), Clips(1.0))
        before = t.model.params.copy()
        t.train()
        assert 0 < np.abs(t.model.params - before).max() <= 1.0001 * 0.01 * t.optimizer.t
        assert t.profile(2).updates == 2


def test_strategy_local_refuses_an_optimizers_own_step(driver):
    x, y = marked(64)
    with Trainer(1, strategy="local", thread_count=2) as t:
        t.init(driver(x, y, 8), with_layer(At13(lambda x: x)), losses.SoftmaxCrossEntropy(), Clips(1.0))
        with pytest.raises(ValueError, match="Clips has a step of its own"):
            t.train()


def test_the_rate_of_a_run_is_known_while_it_runs():
    rates = []

    class Look(Monitor):
        def progress(self, epoch, samples, loss):
            rates.append(t.stats())
    x, y = np.zeros((100_000, 6), np.float32), np.zeros(100_000, np.int64)
    t = Trainer(1, Look(quiet=True), seed=0)
    t.init(data.ArrayDataset(x, y, 2), with_layer(At13(lambda x: x)), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    t.train()
    assert len(rates) >= 2 and all(s.samples_per_second > 0 for s in rates)
    assert all(a.seconds < b.seconds for a, b in pairwise(rates))
