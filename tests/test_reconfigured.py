"""Another configuration, or a stop, asked for while training runs: at the next update, without losing a batch."""
import threading

import pytest
from every_strategy import TABLE
from small import Batched, classification, mlp

from tinydl import Model, Monitor, Trainer, data, epochs, losses, nn, optim
from tinydl.parallel import strategies
from tinydl.parallel.execution import native_driver
from tinydl.parallel.workers import pool


def test_reconfigured_in_mid_epoch_without_losing_a_batch(driver):
    """Every epoch another number of threads, asked for from another thread; with k fixed the bits stay."""
    x, y = classification(203)

    def train(counts):
        wanted = iter(counts)

        class Change(Monitor):
            def progress(self, epoch, samples, loss):
                count = next(wanted, None)
                if count is not None:
                    worker = threading.Thread(target=t.configure_parallel_training, args=(count > 0, count))
                    worker.start()
                    worker.join()
        t = Trainer(3, Change(quiet=True), enable_parallel=True, thread_count=2, batches_per_update=3, seed=0)
        with t:
            t.init(driver(x, y, 4), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
            t.train()
            assert t.history["samples"] == [203] * 3
            assert t.parallel_stats().dispatched == 3 * 51
        return t.model.params.tobytes()
    assert train([]) == train([3, 1, 5])


@pytest.mark.parametrize("strategy", ["group", "shard"])
def test_reconfigured_inside_a_native_run(strategy):
    """A batch waits until the driver has looked at the clock, where another thread count is asked for."""
    x, y = classification(203)
    asked, layers = threading.Event(), []

    class Waits(nn.PythonLayer):
        def forward(self, x):
            layers.append(self)
            if len(layers) == 10:
                assert asked.wait(60)
            return x, None

        def backward(self, dy, saved):
            return dy

    class Change(Monitor):
        def progress(self, epoch, samples, loss):
            if not asked.is_set():
                t.configure_parallel_training(True, 3)
                asked.set()

    def train(monitor, threads):
        t = Trainer(1, monitor, strategy=strategies.Group(2) if strategy == "group" else strategies.Shard(2),
                    enable_parallel=True, thread_count=threads, seed=0)
        t.init(data.ArrayDataset(x, y, 4), Model(nn.Sequential(Waits(), nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(),
               optim.Adam(0.01))
        return t
    with train(Change(quiet=True), 2) as t:
        t.train()
        s = t.stats()
        assert asked.is_set() and s.thread_count == 3 and t.history["samples"] == [203]
        assert s.dispatched == s.done == sum(s.batches_by_worker.values()) == len(layers)
    with train(None, 1) as whole:
        whole.train()
    assert whole.model.params.tobytes() == t.model.params.tobytes()


class Meets(nn.PythonLayer):
    """From its tenth batch on it waits for the test; it knows how many threads there were in each."""

    def __init__(self):
        self.reached, self.go, self.threads, self.ask, self.lock = threading.Event(), threading.Event(), [], int, threading.Lock()

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        with self.lock:
            self.threads.append(self.ask())
            wait = len(self.threads) >= 10
        if wait:
            self.reached.set()
            assert self.go.wait(60)
        return x, None

    def backward(self, dy, saved):
        return dy


@pytest.fixture
def met(driver, monkeypatch, eager_auto):
    """A function: train with a strategy in another thread, do something while a batch is under way, let training end. Nobody
    looks at the clock meanwhile. The layer, the trainer, and whether training ended."""
    for module in (native_driver, pool):
        monkeypatch.setattr(module, "TICK", 60.0)

    def run(strategy, act):
        layer = Meets()
        x, y = classification(400)
        with Trainer(1, strategy=strategy, enable_parallel=True, thread_count=2, seed=0) as t:
            t.init(driver(x, y, 4), Model(nn.Sequential(layer, nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(),
                   optim.Adam(0.01))
            layer.ask = t.get_parallel_thread_count
            thread = threading.Thread(target=t.train)
            thread.start()
            assert layer.reached.wait(30)
            act(t)
            layer.go.set()
            thread.join(30)
            return layer, t, not thread.is_alive()
    return run


#: batches that may begin after something was asked for: of the update (strategy local: round) under way
AT_MOST = 10


@pytest.mark.parametrize("name", TABLE)
def test_stop_from_another_thread_ends_training_after_the_update_under_way(name, met):
    layer, t, ended = met(TABLE[name][0](), Trainer.stop)
    assert ended and 10 <= len(layer.threads) <= 10 + AT_MOST and t.history.interrupted
    assert t.stats().dispatched == t.stats().done
    t.train()
    assert t.history["samples"] == [400] and t.shutdown()


@pytest.mark.parametrize("name", sorted(set(TABLE) - {"serial"}))
def test_another_number_of_threads_takes_effect_after_the_update_under_way(name, driver, met, monkeypatch):
    if driver is Batched:       # there auto has as many threads as it tries now: let it try none
        monkeypatch.setattr(strategies.auto.Auto, "_next", lambda self, n_batches: (self.tuning[-1], None, False))
    layer, t, ended = met(TABLE[name][0](), lambda t: t.configure_parallel_training(True, 3))
    assert ended and t.history["samples"] == [400]
    assert set(layer.threads[:10]) == {2} and set(layer.threads[10 + AT_MOST:]) == {3}


def test_what_is_asked_for_before_a_run_begins_is_not_forgotten(monkeypatch):
    """Between the trainer's look and the workers' beginning."""
    for module in (native_driver, pool):
        monkeypatch.setattr(module, "TICK", 60.0)
    prepare = strategies.Group.prepare

    def late(self, of, setting):
        if not t.stats().updates:
            t.stop()
        prepare(self, of, setting)
    monkeypatch.setattr(strategies.Group, "prepare", late)
    with Trainer(1, strategy="group", thread_count=2, seed=0) as t:
        t.init(data.ArrayDataset(*classification(640), 8), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        t.train()
        assert t.stats().updates == 1 and t.history.interrupted


def test_what_was_asked_of_one_run_does_not_pause_the_next():
    """The thread that asks is held up between saying so and pausing what runs."""
    with Trainer(1, strategy="serial", seed=0) as t:
        t.init(data.ArrayDataset(*classification(16), 8), mlp(6, 3), losses.SoftmaxCrossEntropy(), optim.SGD())
        of, taken, paused = t.runtime.resources, threading.Event(), []
        back = threading.Thread(target=lambda: (of.take_back(), taken.set()))

        class Run:
            def pause(self):
                back.start()
                paused.append(taken.wait(0.05))
        of.ledger.running = [Run()]
        of.ask()
        back.join(20)
        of.ledger.running = []
        assert paused == [False] and taken.is_set() and not of.asked


@pytest.mark.parametrize("driver", [data.ArrayDataset])
def test_what_is_not_for_this_training_does_not_hold_it_up(met, monkeypatch):
    """A serial run that was paused is not gone on with update by update."""
    tick, looks = epochs._tick, []
    monkeypatch.setattr(Trainer, "train", Trainer.single_thread_train)
    monkeypatch.setattr(epochs, "_tick", lambda *a: (looks.append(a), tick(*a))[1])
    _, t, ended = met(TABLE["shard"][0](), lambda t: t.configure_parallel_training(True, 3))
    assert ended and t.history["samples"] == [400] and len(looks) <= 3


def test_auto_tries_numbers_of_threads_with_the_threads_that_there_are(eager_auto):
    counts = []

    class Notes(strategies.Auto):
        def ran(self, setting, timing):
            super().ran(setting, timing)
            counts.append(setting.n_threads)
    with Trainer(10, strategy=Notes(), thread_count=5, seed=0) as t:
        t.init(data.ArrayDataset(*classification(640), 8), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        threads = list(t.runtime.pool.threads)
        t.train()
        assert set(counts) == {1, 2, 4, 5} and t.runtime.pool.threads == threads and t.get_parallel_thread_count() == 5
