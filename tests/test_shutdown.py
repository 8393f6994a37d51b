"""The end: shutdown within its time whatever a worker does, and no thread left; the pool by itself."""
import gc
import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import still_alive
from small import classification, in_thread, mlp, trainer, wait_until, workers

from tinydl import Model, Trainer, data, losses, nn, optim, parallel
from tinydl.callbacks import Callback
from tinydl.parallel import runtime, strategies
from tinydl.parallel.runtime import Runtime
from tinydl.parallel.workers import pool as pool_module
from tinydl.parallel.workers.pool import WorkerPool


class Stuck(nn.PythonLayer):
    """Waits in its second batch until the test lets it go."""

    entered, release = threading.Event(), threading.Event()

    def forward(self, x):
        if (x[:, 0] == -1).any():
            Stuck.entered.set()
            assert Stuck.release.wait(60)
        return x, None

    def backward(self, dy, saved):
        return dy


@pytest.mark.parametrize("kind", [data.ArrayDataset, type("Batched", (data.ArrayDataset,), {})])
@pytest.mark.parametrize("strategy", ["group", "shard", "local", "hogwild"])
def test_shutdown_says_which_thread_was_in_which_batch_and_layer(kind, strategy, caplog):
    Stuck.entered.clear()
    Stuck.release.clear()
    x, y = classification(64)
    x[:, 0] = 0
    x[9, 0] = -1        # in the third batch, the fifth half of one
    t = Trainer(1, strategy=strategy, enable_parallel=True, thread_count=2, seed=0)
    t.init(kind(x, y, 4), Model(nn.Sequential(nn.Linear(6, 6), Stuck(), nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(),
           optim.SGD(0.0))
    t.model.load_state_dict({"0.weight": np.eye(6), "0.bias": np.zeros(6)}, strict=False)
    threads = list(t.runtime.pool.threads)

    def act():
        assert Stuck.entered.wait(10)
        seen.extend(w for w in t.stats().workers if w.layer == "1")
        assert not t.shutdown(timeout=0.1)
        assert not t.shutdown(timeout=0)        # there is no pool any more, but that thread
    seen = []
    helper = threading.Thread(target=act)
    helper.start()
    with caplog.at_level(logging.WARNING, "tinydl"):
        assert t.train(shuffle=False).interrupted
    helper.join()
    Stuck.release.set()
    (message,) = [r.message for r in caplog.records if "put aside" in r.message]
    batch = 4 if strategy == "shard" and kind is data.ArrayDataset else 2       # the native driver counts parts
    assert any(f"thread {th.name} in a batch {batch}, layer 1" in message for th in threads), message
    assert batch in [w.batch for w in seen]
    assert t.shutdown(10) and not still_alive(threads, 0)


@pytest.mark.parametrize("kind", [data.ArrayDataset, type("Batched", (data.ArrayDataset,), {})])
@pytest.mark.parametrize("how", ["interrupt", "shutdown"])
def test_a_stuck_worker_does_not_hold_up_the_end(kind, how, caplog):
    Stuck.entered.clear()
    Stuck.release.clear()
    x, y = classification(64)
    x[:, 0] = 0
    x[41, 0] = -1
    t = Trainer(1, enable_parallel=True, thread_count=2, batches_per_update=2, seed=0)
    t.init(kind(x, y, 4), Model(nn.Sequential(Stuck(), nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(),
           optim.Adam(0.01))
    start = []

    def act():
        assert Stuck.entered.wait(10)
        start.append(time.monotonic())
        if how == "interrupt":
            signal.raise_signal(signal.SIGINT)
        else:
            assert t.shutdown(timeout=0.3) is False
    helper = threading.Thread(target=act)
    helper.start()
    with caplog.at_level(logging.WARNING, "tinydl"):
        if how == "interrupt":
            with pytest.raises(KeyboardInterrupt):
                t.train(shuffle=False)
        else:
            assert t.train(shuffle=False).interrupted
    took = time.monotonic() - start[0]
    helper.join()
    assert took < 10, took      # 0.3 s, and what a busy machine adds; the worker is stuck for 60
    assert any("put aside" in r.message and "worker" in r.message for r in caplog.records)
    # batch 10, of update 5, is stuck: five updates are made, and nothing of the sixth
    assert t.optimizer.t == 5
    before = t.model.params.copy()
    Stuck.release.set()
    x[41, 0] = 0                # the next call finds the batch mended, and a fresh worker
    t.train(shuffle=False)
    assert t.history["samples"] == [64] and t.optimizer.t == 8
    t.shutdown()
    whole = Trainer(1, enable_parallel=True, thread_count=2, batches_per_update=2, seed=0)
    whole.init(kind(x, y, 4), Model(nn.Sequential(Stuck(), nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(),
               optim.Adam(0.01))
    whole.train(shuffle=False)
    whole.shutdown()
    assert whole.model.params.tobytes() == t.model.params.tobytes() != before.tobytes()


@contextmanager
def training(t, train=None, **options):
    """In a thread of its own, which is given; what it raises comes out at the end."""
    errors = []

    def run():
        try:
            (train or t.train)(**options)
        except BaseException as e:
            errors.append(e)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
    assert not thread.is_alive() and not errors, errors


class Held(nn.PythonLayer):
    """Calls `wait` in its forward pass."""

    def __init__(self, wait):
        self.wait, self.entered = wait, threading.Event()

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.entered.set()
        self.wait()
        return x, None

    def backward(self, dy, saved):
        return dy


@pytest.mark.parametrize("strategy", ["serial", "group", "local", "hogwild"])
def test_after_a_shutdown_by_another_thread_nothing_changes_the_parameters(driver, strategy):
    """The update under way is made first: it waits until the shutdown is over, and gives that up after a while."""
    class Slow(optim.SGD):
        def step(self, gradients):      # called by the Python driver
            wait()
            super().step(gradients)
    over = threading.Event()

    def wait():
        wait_until(lambda: t.runtime.stopping)
        over.wait(0.2)
    layer = Held(wait)
    t = Trainer(1, strategy=strategies.Local(1, 2) if strategy == "local" else strategy, thread_count=2, seed=0)
    t.init(driver(*classification(64), 8), Model(nn.Sequential(layer, nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(),
           optim.SGD(0.1) if strategy == "local" else Slow(0.1))
    before = t.model.params.tobytes()
    with training(t):
        assert layer.entered.wait(10)
        assert t.shutdown(30)
        after = t.model.params.tobytes()
        over.set()
    assert t.history.interrupted and t.model.params.tobytes() == after != before


@pytest.mark.parametrize("strategy, threads", [(s, n) for s in ("serial", "group", "local", "hogwild") for n in (0, 2) if
                                               s != "serial" or not n])
def test_shutdown_by_another_thread_cancels_what_runs(driver, strategy, threads, monkeypatch):
    """In the calling thread, or in workers that the calling thread does not look after. A batch takes 20 s at least; of two
    that shut down, the one with less time decides."""
    monkeypatch.setattr(runtime, "MARGIN", 15)
    monkeypatch.setattr(pool_module, "TICK", 60)
    go_on = threading.Event()
    layers = [Held(lambda: go_on.wait(0.1)) for _ in range(200)]
    t = Trainer(1, strategy=strategy, enable_parallel=threads > 0, thread_count=threads, seed=0)
    t.init(driver(*classification(64), 8), Model(nn.Sequential(*layers, nn.Linear(6, 3)), seed=0),
           losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    before = t.model.params.tobytes()
    train = t.train if threads else t.simplified_parallel_train
    with training(t, train), ThreadPoolExecutor(1) as other:
        assert layers[3].entered.wait(10)
        first = other.submit(t.shutdown, 0.1)
        wait_until(lambda: t.runtime.stopping)
        start = time.monotonic()
        assert t.shutdown(60) and first.result()
        took = time.monotonic() - start
        assert t.runtime.call is None
    assert took < 15 and t.history.interrupted and t.optimizer.t == 0 and t.model.params.tobytes() == before
    assert not t.history.failures or strategy == "hogwild"      # there a batch under way counts as failed
    go_on.set()
    assert not train().interrupted and t.optimizer.t > 0
    t.shutdown()


@pytest.mark.parametrize("strategy", ["serial", "group", "local", "hogwild"])
def test_a_run_does_not_begin_when_a_shutdowns_time_is_over(driver, strategy, monkeypatch):
    """The shutdown came when training was about to take its replicas, and found nothing to cancel."""
    monkeypatch.setattr(runtime, "MARGIN", 0)
    ran = []
    t = Trainer(1, strategy=strategy, enable_parallel=False, seed=0)
    t.init(driver(*classification(64), 8), Model(nn.Sequential(Held(lambda: ran.append(1)), nn.Linear(6, 3)), seed=0),
           losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    prepare = type(t.strategy).prepare

    def shut_down_first(self, resources, setting):
        if not t.runtime.stopping:
            assert in_thread(lambda: t.shutdown(0)) is False
        prepare(self, resources, setting)
    monkeypatch.setattr(type(t.strategy), "prepare", shut_down_first)
    assert t.simplified_parallel_train().interrupted and not ran and not t.history.failures


def test_shutdown_does_not_wait_for_a_callback_longer_than_it_may():
    inside, go_on = threading.Event(), threading.Event()

    class Waits(Callback):
        def on_epoch_start(self, trainer, epoch):
            inside.set()
            assert go_on.wait(60)
    t = trainer(callbacks=[Waits()], enable_parallel=True, thread_count=2)
    with training(t):
        try:
            assert inside.wait(10)
            start = time.monotonic()
            assert t.shutdown(0.1) is False
            took = time.monotonic() - start
        finally:
            go_on.set()
        assert t.shutdown(30) and t.runtime.call is None
    assert took < 5 and t.history.interrupted and t.optimizer.t == 0


@pytest.mark.parametrize("strategy", ["serial", "group", "local"])
def test_shutdown_ends_training_while_the_source_is_stuck(strategy):
    """In its third batch, and then in one that the next training passes over."""
    x, y = classification(40)
    stuck, release, at = threading.Event(), threading.Event(), []

    def source():
        for i in range(40):
            if at and i == at[0]:
                stuck.set()
                assert release.wait(60)
            yield x[i], y[i]
    t = Trainer(1, strategy=strategies.Local(1, 2) if strategy == "local" else strategy, thread_count=2, seed=0)
    t.init(data.StreamDataset(source, 8, input_shape=(6,)), mlp(6, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    updates = []
    try:
        for sample in (20, 4):
            at[:] = [sample]
            stuck.clear()
            with training(t) as thread:
                assert stuck.wait(10)
                wait_until(lambda: t.batches_done >= 2)
                t.shutdown(0.1)
                thread.join(30)
                assert not thread.is_alive() and t.history.interrupted and not t.history.failures
            updates.append(t.optimizer.t)
    finally:
        release.set()
    assert updates == [2 if strategy == "serial" else 1] * 2
    assert not t.train().interrupted and t.history["samples"] == [40]
    t.shutdown()


@pytest.mark.parametrize("strategy", ["group", "shard", "local", "hogwild"])
def test_a_worker_may_shut_down_its_trainer(driver, strategy):
    """Each in every layer: it does not wait for the training that waits for it."""
    said = []
    layer = Held(lambda: said.append(t.shutdown(60)))
    t = Trainer(1, strategy=strategies.Local(1, 2) if strategy == "local" else strategy, thread_count=2, seed=0)
    t.init(driver(*classification(64), 8), Model(nn.Sequential(layer, nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(),
           optim.SGD(0.1))
    start = time.monotonic()
    t.train()
    assert time.monotonic() - start < 30 and set(said) == {False} and t.optimizer.t > 0 and not t.history.failures


def test_a_shutdown_just_before_batches_are_given_out_leaves_no_new_pool(monkeypatch):
    real = Runtime.go_on_serially_if_many_hung
    monkeypatch.setattr(Runtime, "go_on_serially_if_many_hung", lambda runtime: (t.shutdown(), real(runtime)))
    t = trainer(enable_parallel=True, thread_count=2)
    assert t.train().interrupted and workers() == 0 and t.optimizer.t == 0


def test_leaked_threads_are_waited_for_together():
    clock, waited = [100.0], []

    class Leaked:
        def join(self, timeout):
            waited.append(timeout)
            clock[0] += timeout

        def is_alive(self):
            return True
    leaked = [Leaked() for _ in range(3)]
    with pytest.MonkeyPatch.context() as m:
        m.setattr(time, "monotonic", lambda: clock[0])
        assert still_alive(leaked, 5) == leaked
    assert waited == [5, 0, 0]


def test_many_rounds_leak_no_threads():
    before = threading.active_count()
    for _ in range(50):
        t = trainer(16, epochs=1, enable_parallel=True, thread_count=2)
        t.train()
        t.init(t.data, t.model, t.loss, t.optimizer)
        assert t.shutdown(10)
    assert threading.active_count() == before


@pytest.mark.parametrize("strategy", ["group", "local"])
def test_a_trainer_that_is_forgotten_leaves_no_threads(driver, strategy):
    t = Trainer(1, strategy=strategy, thread_count=2, seed=0)
    t.init(driver(*classification(64), 8), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    t.train()
    threads = list(t.runtime.pool.threads)
    del t
    gc.collect()
    assert not still_alive(threads, 10)


def test_a_pool_that_cannot_start_all_its_threads_leaves_none(monkeypatch):
    real, started = WorkerPool._start, []

    def start(pool, worker):
        if worker == 2:
            raise RuntimeError("can't start new thread")
        started.append(real(pool, worker))
        return started[-1]
    monkeypatch.setattr(WorkerPool, "_start", start)
    try:
        WorkerPool(3)
    except RuntimeError as e:
        assert "can't start" in str(e)
    gc.collect()
    assert len(started) == 2 and not still_alive(started, 10)


def test_pool_shutdown_is_bounded_with_a_stuck_task():
    release = threading.Event()
    pool = parallel.WorkerPool(2)
    entered = threading.Event()

    def stuck(worker):
        entered.set()
        release.wait(60)
    task = pool.submit(stuck)
    assert entered.wait(10)
    start = time.monotonic()
    assert pool.shutdown(0.2) is False
    assert time.monotonic() - start < 10        # the task is stuck for 60
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(stuck)
    release.set()
    assert task.wait(10) and pool.shutdown(10) is True


def test_pool_survives_every_exception():
    pool = parallel.WorkerPool(1)
    for error in (ValueError, SystemExit, KeyboardInterrupt):
        def bad(worker, error=error):
            raise error("x")
        task = pool.submit(bad)
        assert task.wait(10) and isinstance(task.exception, error)
    assert pool.alive
    assert pool.shutdown(10)
