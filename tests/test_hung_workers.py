"""Batches that hang and workers that die, in every strategy: who is put aside, who takes over, that nobody waits for ever."""
import ctypes
import faulthandler
import queue
import signal
import threading
import time
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
from every_strategy import STEADY, TABLE, At13, Fails, check_books, deep, digest, left_out, marked, run, with_layer
from small import Batched, classification

from tinydl import Model, Monitor, Trainer, data, losses, nn, optim, parallel
from tinydl.parallel import BatchTimeoutError, ParallelFallbackWarning, TrainingError
from tinydl.parallel.execution import hung, ledger, native_driver
from tinydl.parallel.strategies import Group, Hogwild, Local, Shard
from tinydl.parallel.workers import pool
from tinydl.parallel.workers.pool import Task, WorkerPool, wait_all

pytestmark = pytest.mark.usefixtures("eager_auto")


class Hangs(nn.PythonLayer):
    """Waits where a sample's first feature is `mark`, until the test lets it go. A second time it raises: what hung is not
    to run again."""

    made: ClassVar = []

    def __init__(self, mark):
        self.mark, self.entered, self.release = mark, threading.Event(), threading.Event()
        self.made.append(self)

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        if (x[:, 0] == np.float32(self.mark)).any():
            assert not self.entered.is_set(), "the batch that hung is run again"
            self.entered.set()
            assert self.release.wait(60)
        return x, None

    def backward(self, dy, saved):
        return dy


@pytest.fixture(autouse=True)
def let_go():
    """A test that fails leaves no worker that hangs."""
    yield
    while Hangs.made:
        Hangs.made.pop().release.set()


class HangsAtTheEnd(Hangs):
    """As the first layer: in the last Python operation of the batch, for the gradient of a parameter of its own."""

    def __init__(self, mark):
        super().__init__(mark)
        self.add_parameter("idle", (1,))

    def forward(self, x):
        return x, x.copy()

    def backward(self, dy, saved):
        super().forward(saved)
        return dy, {"idle": np.zeros(1)}


@pytest.mark.parametrize("name", TABLE)
def test_a_batch_that_hangs_is_named_and_left_out(driver, name):
    x, y = marked(64)
    layer = Hangs(13 / 64)
    before = threading.active_count()
    t = run(driver(x, y, 8), with_layer(layer), TABLE[name][0](), epochs=1, shuffle=False, batch_timeout=0.3)
    (failure,) = t.history.failures
    assert isinstance(failure.exception, BatchTimeoutError) and 13 in failure.indices
    for part in ("batch_timeout=0.3", "layer 0", "tinydl-worker-", "in forward", "self.release.wait(60)"):
        assert part in str(failure.exception), part
    assert t.stats().skipped == 1 and t.history["samples"] == [64 - failure.n_samples]
    if name in STEADY:      # the same bits as where that batch raises
        failed = run(driver(x, y, 8), with_layer(Fails(13 / 64)), TABLE[name][0](), epochs=1, shuffle=False)
        assert digest(failed.model) == digest(t.model)
    after = digest(t.model)
    layer.release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("tinydl-worker"):
            thread.join(10)
    assert threading.active_count() <= before and digest(t.model) == after     # what comes late changes nothing


@pytest.mark.parametrize("name", TABLE)
def test_a_batch_that_hangs_in_its_last_layer_makes_no_update_when_it_comes_back(driver, name):
    """Only the look at its gradients is still to come, and the barrier."""
    x, y = marked(64)
    layer = HangsAtTheEnd(13 / 64)
    before = set(threading.enumerate())
    t = run(driver(x, y, 8), with_layer(layer), TABLE[name][0](), epochs=1, shuffle=False, batch_timeout=0.3)
    (failure,) = t.history.failures
    assert isinstance(failure.exception, BatchTimeoutError) and "in backward" in str(failure.exception)
    after = digest(t.model), t.optimizer.t
    layer.release.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before and (digest(t.model), t.optimizer.t) == after
    check_books(t)


@pytest.mark.parametrize("name", TABLE)
def test_what_was_given_up_stays_so_where_its_group_is_interrupted(driver, name, monkeypatch, tmp_path):
    """Ctrl-C comes as the worker is replaced, before anything is booked. A checkpoint knows it too."""
    x, y = marked(64)
    layer, replace = Hangs(13 / 64), WorkerPool.replace

    def then_press(workers, worker):
        replace(workers, worker)
        signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(WorkerPool, "replace", then_press)
    before = set(threading.enumerate())
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7, batch_timeout=0.3) as t:
        t.init(driver(x, y, 8), with_layer(layer), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        with pytest.raises(KeyboardInterrupt):
            t.train(shuffle=False)
        check_books(t)
        if name in STEADY:
            t.save_checkpoint(tmp_path / "there")
            t.load_checkpoint(tmp_path / "there")
        t.train(shuffle=False)
    check_books(t)
    given_up = [f for f in t.history.failures if isinstance(f.exception, BatchTimeoutError)]
    assert [f.batch_index for f in given_up] == [1] and 13 in given_up[0].indices
    if name in STEADY:
        assert given_up == t.history.failures and t.history["samples"] == [64 - given_up[0].n_samples]
        failed = run(driver(x, y, 8), with_layer(Fails(13 / 64)), TABLE[name][0](), epochs=1, shuffle=False)
        assert digest(failed.model) == digest(t.model)
    layer.release.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


class Counts(nn.PythonLayer):
    """How often each batch of 8 was run."""

    def __init__(self):
        self.ran = Counter()

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.ran[int(x[0, 0] * 8)] += 1
        return x, None

    def backward(self, dy, saved):
        return dy


@pytest.mark.parametrize("strategy", [Group(2), Hogwild()], ids=lambda s: s.name)
def test_who_shares_a_group_with_a_batch_that_hangs_is_run_again_but_for_updates_that_were_made(strategy):
    """Batches 0 and 1 are given out together, and 1 hangs."""
    counts, layer = Counts(), Hangs(13 / 64)
    model = Model(nn.Sequential(counts, layer, nn.Linear(6, 3)), seed=0)
    t = run(Batched(*marked(64), 8), model, strategy, epochs=1, shuffle=False, batch_timeout=0.3)
    layer.release.set()
    free = strategy.name == "hogwild"
    assert counts.ran == {0: 1 if free else 2, **dict.fromkeys(range(1, 8), 1)}
    assert t.optimizer.t == (7 if free else 4) and t.history["samples"] == [56] and t.stats().skipped == 1


class Unnumbered(data.Dataset):
    """marked(64) in batches that do not say which they are."""

    batch_size, input_shape, n_samples, n_batches = 8, (6,), 64, 8

    def epoch(self, seed, epoch, shuffle=True):
        x, y = marked(64)
        for b in range(8):
            yield data.Batch(x, y, np.arange(8 * b, 8 * b + 8))


@pytest.mark.parametrize("name", TABLE)
def test_a_batch_without_a_number_that_hangs_is_the_one_left_out(name):
    layer = Hangs(13 / 64)
    t = run(Unnumbered(), with_layer(layer), TABLE[name][0](), epochs=1, batch_timeout=0.3)
    layer.release.set()
    left_out(t, BatchTimeoutError)
    assert str(t.history.failures[0].exception).startswith("batch 1 took longer")


def test_after_too_many_hung_workers_training_goes_on_serially(driver):
    x, y = marked(160)
    layer = Hangs(0)
    layer.forward = lambda x, layer=layer: (_wait_where_odd(x, layer), None)
    with Trainer(1, strategy="group", batches_per_update=2, thread_count=2, seed=7, batch_timeout=0.2, max_hung_workers=1,
                 max_failed_fraction=1) as t:
        t.init(driver(x, y, 8), with_layer(layer), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.warns(ParallelFallbackWarning, match="2 workers were put aside"):
            t.train(shuffle=False)
        assert not t.is_parallel_training_enabled() and t.get_parallel_thread_count() == 1
    check_books(t)
    assert t.stats().skipped == 2 and t.stats().mode == "simplified" and t.history["samples"] == [144]


def _wait_where_odd(x, layer):
    if np.float32(13 / 64) in x[:, 0] or np.float32(77 / 64) in x[:, 0]:
        assert layer.release.wait(60)
    if np.float32(120 / 64) in x[:, 0]:     # by then training is serial, and no batch takes too long
        assert not layer.release.wait(0.5)
        layer.release.set()
    return x


class ShutDownBetween:
    """A pool's lock. As it is let go for the first time, the trainer is shut down, as another thread may do it then."""

    def __init__(self, trainer):
        self.trainer, self.lock = trainer, threading.Lock()

    def __enter__(self):
        self.lock.acquire()

    def __exit__(self, *exception):
        self.lock.release()
        trainer, self.trainer = self.trainer, None
        if trainer is not None:
            trainer.shutdown(0)


class Waits(nn.PythonLayer):
    def __init__(self):
        self.entered, self.release = threading.Event(), threading.Event()

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.entered.set()
        assert self.release.wait(60)
        return x, None

    def backward(self, dy, saved):
        return dy


@pytest.mark.parametrize("strategy", [Group(2), Shard(2)], ids=lambda s: s.name)
def test_a_pool_that_is_closed_while_batches_are_given_out_leaves_nobody_at_work(driver, strategy):
    """Story: one batch of a group is with a worker, and the pool is closed before the second is. Training ends; were the first
    worker not waited for, or put aside with its replica, the next training would write where it still writes."""
    layer = Waits()
    x, y = classification(64)
    with Trainer(1, strategy=strategy, enable_parallel=True, thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), Model(nn.Sequential(layer, nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(),
               optim.SGD(0.1))
        workers = t.runtime.pool.threads
        t.runtime.pool._lock = ShutDownBetween(t)
        assert t.train().interrupted and layer.entered.wait(10)
        assert t.runtime.resources.replicas == []           # those that a worker may still be in
        layer.release.set()
        for worker in workers:
            worker.join(10)
        assert not any(worker.is_alive() for worker in workers)
        assert not t.train().interrupted and t.history["samples"] == [64]


def test_a_dead_worker_is_replaced():
    workers = WorkerPool(2)
    workers._tasks.put(None)           # as if one had died
    while all(t.is_alive() for t in workers.threads):
        workers.threads[0].join(0.01)
    assert not workers.alive
    meet = threading.Barrier(2, timeout=10)
    tasks = [workers.submit(lambda worker: meet.wait()) for _ in range(2)]
    workers.heal()
    assert wait_all(tasks, 10) and all(t.exception is None for t in tasks) and workers.alive
    assert workers.shutdown(10)


def test_a_task_that_is_submitted_twice_runs_once():
    """As heal() does where it cannot know whether a task was lost."""
    workers, ran = WorkerPool(1), []
    task = workers.submit(ran.append)
    workers._tasks.put(task)
    assert workers.submit(lambda worker: None).wait(10) and ran == [0] and task.exception is None and workers.alive
    assert workers.shutdown(10)


def kill(thread):
    """Send it an exception, which it meets as soon as it runs Python again."""
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)) == 1


@pytest.fixture
def ends_in_time():
    """A test that hangs would hang all."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", TABLE)
def test_workers_that_die_between_two_trainings_lose_no_batch(driver, name, ends_in_time):
    """Each takes a task with it: the exception meets it when it has one, which auto may give it later."""
    x, y = classification(101)
    epochs = 1
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), deep(), losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01))
        t.train()
        threads = list(t.runtime.pool.threads) if name != "serial" else []
        for thread in threads:
            kill(thread)
        while epochs == 1 or (any(thread.is_alive() for thread in threads) and name.startswith("auto") and epochs < 30):
            t.train()
            epochs += 1
            for thread in threads:
                thread.join(0.1 if name.startswith("auto") else 10)
        assert not any(thread.is_alive() for thread in threads) and t.is_parallel_training_enabled() == (name != "serial")
        assert t.history["samples"] == [101] * epochs and not t.history.failures
    check_books(t)
    if name in STEADY:
        assert digest(t.model) == digest(run(driver(x, y, 8), deep(), TABLE[name][0](), epochs=epochs).model)


@pytest.mark.parametrize("name", TABLE)
def test_an_exception_sent_to_a_worker_in_a_layer_is_its_batchs_failure(driver, name):
    def waits(x):
        kill(threading.current_thread())
        while True:
            pass
    x, y = marked(64)
    layer = nn.Sequential(At13(waits))
    left_out(run(driver(x, y, 8), with_layer(layer), TABLE[name][0](), epochs=1, shuffle=False, optimizer=optim.SGD(0.1)),
             SystemExit)


@pytest.mark.parametrize("name", [n for n in TABLE if n != "serial"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("begun", [False, True])
def test_a_thread_that_dies_is_replaced_and_its_batch_is_run_again(driver, name, begun, monkeypatch, ends_in_time):
    real, died, first = Task.run, [], threading.Lock()

    def task_run(task, worker):
        if first.acquire(blocking=False):
            died.append(threading.current_thread())
            if begun:
                task.takers.append(threading.current_thread())
            raise SystemExit
        return real(task, worker)
    monkeypatch.setattr(Task, "run", task_run)
    x, y = classification(64)
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), deep(), losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01))
        t.train()
        assert not died[0].is_alive() and t.is_parallel_training_enabled() and died[0] not in t.runtime.pool.threads
        assert t.history["samples"] == [64] and not t.history.failures and t.stats().skipped == t.stats().failed == 0
    check_books(t)
    if name in STEADY:
        assert digest(t.model) == digest(run(driver(x, y, 8), deep(), TABLE[name][0](), epochs=1).model)


@pytest.mark.parametrize("strategy", [Group(2), Local(2, 2), Hogwild()], ids=lambda s: s.name)
def test_workers_that_die_again_and_again_end_training(driver, strategy, monkeypatch, ends_in_time):
    def fail(*args):
        raise ZeroDivisionError("whatever")
    monkeypatch.setattr(native_driver.Places, "begin", fail)
    monkeypatch.setattr(ledger.Ledger, "enter_batch", fail)
    x, y = classification(64)
    with Trainer(1, strategy=strategy, thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), deep(), losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01))
        with pytest.raises((ZeroDivisionError, TrainingError), match="whatever"):
            t.train()
        check_books(t)
        assert t.optimizer.t == 0
        monkeypatch.undo()
        t.train()
    check_books(t)


class Asks:
    """A pool's queue that knows which thread has asked for a task how often."""

    def __init__(self):
        self.tasks, self.asked = queue.SimpleQueue(), Counter()
        self.put = self.tasks.put

    def get(self):
        self.asked[threading.current_thread()] += 1
        return self.tasks.get()

    def let_back(self, layer, worker):
        """Let the layer go, and wait until its worker has ended or asks for its next task."""
        asked = self.asked[worker]
        layer.release.set()
        while worker.is_alive() and self.asked[worker] == asked:
            worker.join(0.01)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_comes_back_as_it_is_put_aside_leaves_no_thread_behind(driver, name, when, monkeypatch):
    """Story: its batch comes back just before, or just after, it was put aside. If it then took a task, or the None of its
    successor, there would be two threads of one number, and one that nobody ends."""
    x, y = marked(64)
    layer, tasks, ended, put_aside, replace = Hangs(13 / 64), Asks(), [], Task.put_aside, WorkerPool.replace
    monkeypatch.setattr(pool.queue, "SimpleQueue", lambda: tasks)

    def first(task):
        if when == "before" and task.worker is not None and not layer.release.is_set():
            tasks.let_back(layer, t.runtime.pool.threads[task.worker])
        return put_aside(task)

    def then(workers, worker):
        tasks.let_back(layer, workers.threads[worker])
        ended.append(not workers.threads[worker].is_alive())
        replace(workers, worker)
    monkeypatch.setattr(Task, "put_aside", first)
    monkeypatch.setattr(WorkerPool, "replace", then)
    before = set(threading.enumerate())
    t = Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7, batch_timeout=0.3)
    t.init(driver(x, y, 8), with_layer(layer), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
    t.train(shuffle=False)
    assert ended == ([True] if when == "after" else []) and t.stats().skipped == 1
    assert t.shutdown(10)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before
    check_books(t)
    (failure,) = t.history.failures
    assert isinstance(failure.exception, BatchTimeoutError) and failure.batch_index == 1
    assert "in forward" in str(failure.exception)
    assert t.runtime.resources.hung_workers == (when == "after")


def test_tasks_that_wait_behind_a_batch_that_hangs_do_not_begin_when_it_is_given_up(driver):
    """One worker for three copies of the model: two tasks are in the queue when the first is put aside. Their round is over;
    and who put aside worker 0 for each of them had three successors for one None."""
    x, y = marked(64)
    layer = Hangs(13 / 64)
    before = set(threading.enumerate())
    with Trainer(1, strategy=Local(sync_every=2, n_models=3), thread_count=1, seed=7, batch_timeout=0.3) as t:
        t.init(driver(x, y, 8), with_layer(layer), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        started, start = [], WorkerPool._start
        with pytest.MonkeyPatch.context() as m:
            m.setattr(WorkerPool, "_start", lambda workers, worker: (started.append(worker), start(workers, worker))[1])
            t.train(shuffle=False)
    assert started == [0] and t.stats().skipped == 1
    layer.release.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("name", ["group", "local"])
def test_a_batch_that_comes_back_late_does_not_hide_another_that_hangs(name):
    """The second one ends the first one's wait, and waits for its thread to end, before it hangs itself."""
    first, second = Hangs(13 / 64), Hangs(45 / 64)
    workers = []

    class Both(nn.PythonLayer):
        def __deepcopy__(self, memo):
            return self

        def forward(self, x):
            if (x[:, 0] == np.float32(first.mark)).any():
                workers.append(threading.current_thread())
            if (x[:, 0] == np.float32(second.mark)).any():
                first.release.set()
                workers[0].join(10)
            second.forward(first.forward(x)[0])
            return x, None

        def backward(self, dy, saved):
            return dy
    t = run(Batched(*marked(64), 8), with_layer(Both()), TABLE[name][0](), 1, epochs=1, shuffle=False, batch_timeout=0.3,
            max_failed_fraction=1)
    assert [type(f.exception) for f in t.history.failures] == [BatchTimeoutError] * 2 and not second.release.is_set()
    second.release.set()


@pytest.mark.parametrize("late", [0, 1])
def test_of_two_members_that_hang_one_comes_back_and_one_is_put_aside(driver, late, monkeypatch):
    """Story: two copies of the model are each in a batch that takes too long. Both batches are given up in one look at the
    clock; then one of them comes back. Neither is run again, and one worker is put aside, which is no more than there may."""
    layers, asks, started, entered, look = [Hangs(13 / 64), Hangs(21 / 64)], Asks(), [], [], [False]
    by_layer, before = {}, set(threading.enumerate())
    monkeypatch.setattr(pool.queue, "SimpleQueue", lambda: asks)
    enter = Hangs.forward

    def forward(layer, x):
        if (x[:, 0] == np.float32(layer.mark)).any():
            by_layer[layer] = threading.current_thread()
            entered.append(time.monotonic())
        return enter(layer, x)
    monkeypatch.setattr(Hangs, "forward", forward)
    heal, start, hung_batch = WorkerPool.heal, WorkerPool._start, hung.hung_batch

    def before_the_look(workers, tasks):
        look[0] = len(entered) >= 2 and time.monotonic() > entered[1] + 0.3       # the batch_timeout of both is over
        heal(workers, tasks)

    def come_back(wait_all):
        def then_wait(tasks, timeout):
            if look[0] and not layers[late].release.is_set():
                asks.let_back(layers[late], by_layer[layers[late]])
            return wait_all(tasks, timeout)
        return then_wait
    monkeypatch.setattr(WorkerPool, "heal", before_the_look)
    monkeypatch.setattr(hung, "hung_batch", lambda *args: hung_batch(*args) if look[0] else None)
    monkeypatch.setattr(hung, "wait_all", come_back(wait_all))     # for the other workers, when the batches are given up

    def local(*layers, **options):
        model = Model(nn.Sequential(*layers, nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)), seed=0)
        return run(driver(*marked(64), 8), model, Local(sync_every=2, n_models=2), epochs=1, shuffle=False,
                   max_failed_fraction=1, **options)
    with monkeypatch.context() as m:
        m.setattr(WorkerPool, "_start", lambda workers, worker: (started.append(worker), start(workers, worker))[1])
        t = local(*layers, batch_timeout=0.3, max_hung_workers=1)
    assert [(f.batch_index, type(f.exception)) for f in t.history.failures] == [(1, BatchTimeoutError), (2, BatchTimeoutError)]
    for layer, failure in zip(layers, t.history.failures, strict=True):
        for part in ("layer ", "in forward", by_layer[layer].name):
            assert part in str(failure.exception), part
    assert len(started) == 3 and t.runtime.resources.hung_workers == 1      # two, and a successor
    assert t.stats().mode == "parallel" and t.stats().skipped == 2 and t.history["samples"] == [48]
    monkeypatch.undo()
    assert digest(t.model) == digest(local(Fails(13 / 64), Fails(21 / 64)).model)
    after = digest(t.model)
    layers[1 - late].release.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before and digest(t.model) == after


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_task_is_put_aside_or_has_come_back(comes_back):
    workers, meet = WorkerPool(1), threading.Barrier(2, timeout=10)
    task = workers.submit(lambda worker: (meet.wait(), meet.wait()))
    never = workers.submit(lambda worker: pytest.fail("it was put aside"))
    thread = workers.threads[0]
    meet.wait()
    assert never.put_aside() is None and never.done     # it had not begun
    if comes_back:
        meet.wait()
        assert task.wait(10) and task.put_aside() is None
        last = workers.submit(lambda worker: threading.current_thread())
        assert last.wait(10) and last.result is thread
    else:
        assert task.put_aside() == 0 and task.put_aside() is None
        meet.wait()
        thread.join(10)
        assert task.done and not workers.alive
        workers.replace(0)
    assert workers.alive and workers.shutdown(10) and never.exception is None


def test_stats_are_live_from_any_thread(monkeypatch):
    """Worker 0 hangs in the second batch; worker 1 comes then, and finds none left to run."""
    x, y = marked(64)
    layer = Hangs(13 / 64)
    t = Trainer(1, strategy="group", thread_count=2, seed=7)
    t.init(data.ArrayDataset(x, y, 8), with_layer(layer), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    seen, work = [], native_driver._work

    def second_comes_late(run, worker, thread, **options):
        assert worker == 0 or layer.entered.wait(60)
        work(run, worker, thread, **options)
    monkeypatch.setattr(native_driver, "_work", second_comes_late)

    class Look(Monitor):
        def progress(self, epoch, samples, loss):
            stats = t.stats()
            if any(w.state == "waiting" and w.seconds > 0.02 for w in stats.workers):
                seen.append(stats)
                layer.release.set()
    t.monitor = Look(quiet=True)
    t.train(shuffle=False)
    t.shutdown()
    busy, waits = seen[0].workers
    assert (busy.state, busy.batch, busy.layer) == ("in a batch", 1, "0") and waits.state == "waiting" and seen[0].under_way == 1
    text = parallel.format_parallel_stats(seen[0])
    assert "in a batch 1, layer 0" in text and "efficiency" in parallel.format_parallel_stats(t.stats())
    s = t.stats()
    assert s.under_way == 0 and s.done == 8 and 0 < s.efficiency <= 1 and s.waited > 0.02
