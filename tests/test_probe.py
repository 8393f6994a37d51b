"""The probe of a pool, and when strategy auto asks for one."""
import copy
import ctypes
import signal
import threading
import time

import pytest
from every_strategy import digest, with_layer
from small import Batched, classification, in_thread, mlp

from tinydl import Trainer, data, losses, nn, optim
from tinydl.callbacks import Callback
from tinydl.parallel import native_driver
from tinydl.parallel import probe as probing
from tinydl.parallel.crew import Crew
from tinydl.parallel.pool import WorkerPool
from tinydl.parallel.probe import probe
from tinydl.parallel.strategies import Auto, Shard, auto


@pytest.fixture
def pool():
    pool = WorkerPool(4)
    yield pool
    assert pool.shutdown(20)


class Twice(nn.PythonLayer):
    def forward(self, x):
        return 2 * x, None

    def backward(self, dy, saved):
        return 2 * dy


@pytest.fixture
def asked(monkeypatch):
    """The numbers of threads that were probed, probe by probe; quick ones."""
    asked = []

    def quick(pool, counts, *args, **options):
        asked.append(list(counts))
        return probe(pool, asked[-1], *args, **options)
    monkeypatch.setattr(probing, "SIZES", ((1e-6, 8, 8, 4),))
    monkeypatch.setattr(probing, "probe", quick)
    return asked


def train(strategy, dataset=data.ArrayDataset, model=None, threads=2, epochs=1, n=64):
    t = Trainer(epochs, strategy=strategy, thread_count=threads, seed=0)
    t.init(dataset(*classification(n), 8), model or mlp(6, 8, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1, momentum=0.9))
    t.train()
    return t


def test_a_probe_says_what_an_update_and_starting_take(pool, monkeypatch):
    ran, measure = [], probing._best_of_two
    monkeypatch.setattr(probing, "_best_of_two", lambda crew, n, setting, pool: (
        ran.append((crew.max_rows, setting.n_threads)), measure(crew, n, setting, pool))[1])
    tiny, large = (rows for _, rows, _, _ in probing.SIZES)
    for little, n_sizes, runs in ((1e9, {2: 1, 4: 1}, [(tiny, 1), (tiny, 2), (tiny, 4)]),       # much more is found,
                                  (0.0, {2: 2, 4: 0}, [(tiny, 1), (tiny, 2), (large, 1), (large, 2)])):     # or little
        monkeypatch.setattr(probing, "LITTLE", little)
        ran.clear()
        found = probe(pool, [4, 2])
        assert {n: len(probed) for n, probed in found.items()} == n_sizes and ran == runs
        assert all(p.update_seconds > 0 and p.pace > 0 and p.start >= 0 for probed in found.values() for p in probed)
    for seconds, rows in ((1e-7, tiny), (1e-5, tiny), (1.0, large)):
        ran.clear()
        assert len(probe(pool, [2], seconds)[2]) == 1 and ran == [(rows, 1), (rows, 2)]


def test_a_probe_that_cannot_be_made_says_nothing(pool, monkeypatch, caplog):
    with monkeypatch.context() as m:
        m.setattr(Crew, "new_replica", lambda *_, **__: (_ for _ in ()).throw(MemoryError("no more")))
        assert probe(pool, [2]) == {}
    monkeypatch.setattr(probing, "PATIENCE", 0.2)
    come = threading.Event()
    tasks = [pool.submit(lambda _: come.wait(20)) for _ in range(4)]
    began = time.monotonic()
    assert probe(pool, [2, 4]) == {} and time.monotonic() - began < 10
    assert "put aside" in caplog.text and not pool.alive        # a trainer makes another one
    come.set()
    assert all(task.wait(20) for task in tasks)
    assert probe(pool, [2, 4]) == {}


def test_a_run_that_does_not_end_counts_as_far_as_it_came(pool, monkeypatch):
    """Something else has the CPUs: the driver's first look at the clock ends it."""
    monkeypatch.setattr(probing, "SIZES", ((1e-5, 64, 64, 100_000),))
    monkeypatch.setattr(probing, "LITTLE", 1e9)
    began = time.monotonic()
    (two,) = probe(pool, [2])[2]
    assert 0 < two.update_seconds <= two.start and two.pace > 0 and two.start >= 0.04
    assert time.monotonic() - began < 20


def test_auto_asks_for_a_probe_in_init_and_for_another_number_of_threads(asked):
    with train("auto", threads=4) as t:
        assert asked == [[2, 4]]
        t.train()
        assert len(asked) == 1
        t.configure_parallel_training(True, 2)
        t.train()
        assert len(asked) == 1      # known
        t.configure_parallel_training(True, 3)
        t.train()
        assert asked == [[2, 4], [2, 3]]
        t.configure_parallel_training(False)
        t.train()
        t.single_thread_train()
        assert len(asked) == 2


@pytest.mark.parametrize("strategy, dataset, layer, threads", [
    ("shard", data.ArrayDataset, None, 2), ("serial", data.ArrayDataset, None, 2), ("auto", Batched, None, 2),
    ("auto", data.ArrayDataset, Twice, 2)])
def test_where_a_probe_says_nothing_there_is_none(asked, strategy, dataset, layer, threads):
    with train(strategy, dataset, layer and with_layer(layer()), threads):
        assert not asked


@pytest.fixture
def careful(monkeypatch):
    """Strategy auto tries no threads, and knows that after some short epochs."""
    monkeypatch.setattr(auto, "PROMISE", 1e-9)
    monkeypatch.setattr(auto, "NOTED", 1e-9)
    monkeypatch.setattr(auto, "OFTEN", 0.0)


def test_probes_between_epochs_change_no_bit(asked, careful, monkeypatch):
    with train(Shard(2), epochs=6) as t:
        expected = digest(t.model)
    monkeypatch.setattr(auto, "AGAIN", 0.0)
    with train(Auto(shards_per_batch=2), epochs=6) as t:
        assert digest(t.model) == expected
        assert len(asked) >= 2 and "not tried" in str(t.tuning[1])


def test_a_choice_without_trials_is_said_too(asked, careful, caplog):
    caplog.set_level("INFO", "tinydl")
    with train("auto", epochs=20):
        said = [r.message for r in caplog.records if "strategy auto" in r.message]
        assert len(said) == 1 and "serial, 1 thread:" in said[0] and "shard, 2 threads: not tried" in said[0]


@pytest.mark.parametrize("training", [False, True], ids=["init", "train"])
def test_ctrl_c_in_a_probe(asked, monkeypatch, training):
    measure = probing._best_of_two

    def interrupted(*args):
        monkeypatch.setattr(probing, "_best_of_two", measure)
        signal.raise_signal(signal.SIGINT)
        return measure(*args)
    with train("auto") as t:
        if training:
            t.configure_parallel_training(True, 4)
        monkeypatch.setattr(probing, "_best_of_two", interrupted)
        with pytest.raises(KeyboardInterrupt):
            if training:
                t.train()
            else:
                t.init(t.data.train, t.model, t.loss, t.optimizer)
        assert t.train()["samples"][-1] == 64 and t.is_parallel_training_enabled()


def test_a_shutdown_in_a_probe(asked, monkeypatch):
    measure, ended = probing._best_of_two, []

    def shut(*args):
        if not ended:
            ended.append(None)
            thread = threading.Thread(target=lambda: ended.append(t.shutdown(20)))
            thread.start()
            while t.is_parallel_training_enabled():     # until it has the pool
                time.sleep(0.001)
            threads.append(thread)
        return measure(*args)
    threads = []
    with train("auto") as t:
        t.configure_parallel_training(True, 4)
        monkeypatch.setattr(probing, "_best_of_two", shut)
        history = in_thread(t.train)
        threads[0].join(20)
        assert ended == [None, True] and history.interrupted and len(asked) == 2
        assert t.train()["samples"][-1] == 64 and asked[2:] == [[2, 4]]       # that one said nothing


def test_threads_that_a_callback_asks_for_are_probed_before_the_next_epoch(asked):
    class AskForFour(Callback):
        def on_epoch_end(self, trainer, record):
            trainer.configure_parallel_training(True, 4)
    with Trainer(2, strategy="auto", thread_count=2, seed=0, callbacks=[AskForFour()]) as t:
        t.init(data.ArrayDataset(*classification(64), 8), mlp(6, 8, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        t.train()
        assert asked == [[2], [2, 4]]


def test_a_copy_is_probed_before_its_first_epoch(asked):
    with train("auto") as t, copy.deepcopy(t) as other:
        assert len(asked) == 1
        other.train()
        assert len(asked) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_threads_that_died_are_replaced_before_they_are_probed(asked, pool):
    dead = pool.threads[0]
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(dead.ident), ctypes.py_object(SystemExit)) == 1
    while dead.is_alive():
        pool.submit(lambda _: None)
    with train("serial") as t:
        strategy = Auto()
        strategy.before_epoch(t._runtime.crew, pool)
    assert pool.alive and asked == [[2, 4]]         # of a pool with a dead thread nothing is asked


@pytest.mark.parametrize("pinned", [False, True])
def test_probed_threads_are_pinned_where_training_ones_will_be(asked, pinned, monkeypatch):
    pins = []
    monkeypatch.setattr(native_driver, "pin", lambda number, n: pins.append(number) or True)
    t = Trainer(1, strategy="auto", thread_count=2, seed=0, pin_threads=pinned)
    with t:
        t.init(data.ArrayDataset(*classification(64), 8), mlp(6, 8, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    assert len(asked) == 1 and set(pins) == ({0, 1} if pinned else set())
