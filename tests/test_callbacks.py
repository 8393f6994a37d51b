"""What callbacks hear of, whatever interrupts training: every update and every epoch, once."""
import os
import signal
import threading
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
from every_strategy import STEADY, TABLE, At13, digest, marked, with_layer

from tinydl import Monitor, Trainer, data, losses, optim
from tinydl.callbacks import Callback, LearningRate

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
