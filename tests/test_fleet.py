"""fleet.train: many models side by side, each with the bits that it has alone, and an end in time whatever one of them does."""
import importlib
import logging
import os
import signal
import sysconfig
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from small import Batched, classification, in_thread, mlp, spoilt, trainer, wait_until, workers
from threads_as_ranks import communicators

from tinydl import AccuracyEvaluator, Model, Monitor, Trainer, callbacks, data, fleet, losses, nn, optim
from tinydl._kernels import engine
from tinydl._kernels.engine import gil
from tinydl.callbacks import Callback
from tinydl.parallel.ranks import Ranks
from tinydl.parallel.workers.pool import TICK

X, Y = classification(120)
SHARED = data.ArrayDataset(X, Y, 16).split(0.7, 0.3, seed=0)
LOSS = losses.SoftmaxCrossEntropy()
FOREVER = 10**9


class Twice(nn.PythonLayer):
    def forward(self, x):
        return 2 * x, None

    def backward(self, dy, saved):
        return 2 * dy


class OwnLoss(losses.PythonLoss):
    labels = True

    def forward(self, outputs, targets):
        return float((outputs ** 2).mean()), 2 * outputs / outputs.size


class Does(Callback):
    """Calls `what` with the trainer after each epoch."""

    def __init__(self, what):
        self.what = what

    def on_epoch_end(self, trainer, record):
        self.what(trainer)


def made(model, optimizer, dataset=SHARED, loss=LOSS, epochs=3, seed=0, **options):
    t = Trainer(epochs, seed=seed, **options)
    t.init(dataset, model, loss, optimizer)
    return t


def members():
    """Trainers of unequal length that share data and loss, each with something else that has a state."""
    dropout = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 3))
    python = nn.Sequential(nn.Linear(6, 9), Twice(), nn.Linear(9, 3))
    stop = callbacks.EarlyStopping("accuracy", patience=2, highest=True, restore_best=True)
    return [
        made(mlp(6, 9, 3, seed=1), optim.Adam(0.05), epochs=12, callbacks=[stop], evaluator=AccuracyEvaluator()),
        made(Model(dropout, seed=2), optim.SGD(0.1, 0.9), epochs=1, seed=5),
        made(Model(python, seed=3), optim.RMSprop(0.01), epochs=2),
        made(mlp(6, 9, 3, seed=4), optim.Adam(optim.schedules.Cosine(0.1, 30)), epochs=4, dataset=Batched(X, Y, 16)),
        made(mlp(6, 9, 3, seed=1), optim.Adam(0.05), epochs=5, callbacks=[callbacks.ReduceOnPlateau(patience=1)]),
        made(mlp(6, 5, 3, dtype="float64"), optim.AdamW(0.05, ema=0.9, clip_norm=1.0), epochs=3, strategy="serial"),
    ]


def state(t):
    """Everything that training is to have arrived at."""
    records = [(r.loss, r.validation_loss, r.figures, r.learning_rate, r.samples, r.updates) for r in t.history.records]
    vectors = {name: v.tobytes() for name, v in t.resources.state.vectors.items()}
    return t.model.params.tobytes(), t.model.statistics.tobytes(), vectors, t.resources.state.t, records, t.history.interrupted


@pytest.fixture(scope="module")
def alone():
    trainers = members()
    for t in trainers:
        t.train()
    return [state(t) for t in trainers]


@pytest.mark.parametrize("n_threads", [1, 2, 3, -1])
def test_each_has_the_bits_that_it_has_alone(alone, n_threads):
    trainers = members()
    results = fleet.train(iter(trainers), n_threads)
    assert [(r.index, r.trainer, r.status, r.error) for r in results] == [
        (i, t, "finished", None) for i, t in enumerate(trainers)]
    assert [state(t) for t in trainers] == alone
    assert all(r.seconds > 0 for r in results)


def test_each_has_its_bits_whoever_ends_first(alone):
    """And the next one begins as soon as a thread is free: the first one does not end before all others have."""
    trainers, others = members(), threading.Event()
    trainers[0].callbacks.append(Does(lambda t: others.wait(60) or pytest.fail("no thread took the others")))
    ended = []

    def tell(result):
        ended.append(result.index)
        if len(ended) == len(trainers) - 1:
            others.set()
    results = fleet.train(trainers, 2, on_finish=tell)
    assert ended[-1] == 0 and sorted(ended) == [0, 1, 2, 3, 4, 5]
    assert [r.index for r in results] == [0, 1, 2, 3, 4, 5]
    assert [state(t) for t in trainers] == alone


def test_training_goes_on_from_there(alone):
    trainers = members()[1:4]
    fleet.train(trainers, 2)
    fleet.train(trainers, 2)
    twice = members()[1:4]
    for t in twice:
        t.train()
        t.train()
    assert [state(t) for t in trainers] == [state(t) for t in twice]


def test_as_many_threads_as_asked_for_and_no_others():
    seen = []
    trainers = [trainer(epochs=2, callbacks=[Does(lambda t: seen.append(workers()))]) for _ in range(5)]
    fleet.train(trainers, 3)
    assert set(seen) == {3}
    assert not any(t.resources.replicas for t in trainers)      # nor is memory kept that only training needs


def test_more_threads_than_trainers_and_none():
    seen = []
    fleet.train([trainer(epochs=1, callbacks=[Does(lambda t: seen.append(workers()))])], 4)
    assert seen == [1]
    assert fleet.train([]) == []


def test_in_a_thread_of_its_own(alone):
    trainers = members()
    in_thread(lambda: fleet.train(trainers, 2))
    assert [state(t) for t in trainers] == alone


# ------------------------------------------------------------------ failures
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_callback_raises_is_in_its_result_and_the_others_go_on(alone, error, caplog):
    def fail(t):
        raise error
    trainers = members()
    trainers.insert(1, trainer(epochs=3, callbacks=[Does(fail)]))
    with caplog.at_level(logging.WARNING, "tinydl"):
        results = fleet.train(trainers, 2)
    assert results[1].status == "failed" and results[1].error is error
    assert results.pop(1).trainer.epoch == 1
    assert [state(r.trainer) for r in results] == alone
    assert [r.getMessage() for r in caplog.records] == [f"trainers[1] failed: {type(error).__name__}: {error}"]


def test_one_that_is_trained_elsewhere_fails_here_and_goes_on_there():
    results = []

    class Again(Twice):
        def forward(self, x):
            if not results:
                results.extend(fleet.train([t], 1))
                kept.extend(t.resources.replicas)
            return super().forward(x)
    kept = []
    t = made(Model(nn.Sequential(nn.Linear(6, 3), Again()), seed=0), optim.SGD(0.1))
    t.train()
    assert results[0].status == "failed" and "while this trainer is training" in str(results[0].error)
    assert len(kept) == 1 and t.epoch == 3


def test_a_loss_that_becomes_nan_ends_its_own_training():
    bad = made(mlp(6, 9, 3), optim.SGD(0.1), dataset=spoilt(data.ArrayDataset, X, Y, 16, slice(0, None)))
    skips = made(mlp(6, 9, 3), optim.SGD(0.1), dataset=spoilt(data.ArrayDataset, X, Y, 16, 5))
    good = made(mlp(6, 9, 3), optim.SGD(0.1))
    results = fleet.train([bad, skips, good], 2)
    assert [r.status for r in results] == ["failed", "finished", "finished"]
    assert "the loss is nan" in str(results[0].error)
    assert len(skips.history.failures) == 3 and not good.history.failures


# ------------------------------------------------------------------ the end
def endless(what=lambda t: None):
    return trainer(epochs=FOREVER, callbacks=[Does(what)])


def test_ctrl_c_ends_all_and_they_go_on_with_the_same_bits():
    """It comes in the middle of a training; what is trained then is what is trained without it."""
    def interrupt(t):
        if t.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
    trainers = [endless(interrupt), endless(), trainer()]
    with pytest.raises(KeyboardInterrupt):
        fleet.train(trainers, 2)
    assert workers() == 0
    assert [t.history.interrupted for t in trainers] == [True, True, False]
    assert trainers[0].epoch >= 2 and trainers[2].epoch == 0
    for t in trainers[:2]:
        same = trainer(epochs=t.epoch + 1)
        same.train()
        t.callbacks, t.max_epochs = [], 1
        t.train()
        if t.epoch == same.epoch - 1:       # it was stopped between two epochs, or in one, whose rest was this
            t.train()
        assert t.model.params.tobytes() == same.model.params.tobytes()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal")
def test_a_signal_that_is_handled_for_long_keeps_no_stop_out():
    """Up to CPython 3.12 SimpleQueue.get(timeout) goes on without a limit when a handler ends after the time was over."""
    stop, handled, late = threading.Event(), threading.Event(), time.monotonic() + 10

    def handle(number, frame):
        time.sleep(2 * TICK)
        handled.set()

    def signalled(t):
        if t.epoch == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        if handled.is_set():
            stop.set()
        if time.monotonic() > late:
            t.stop(finished=True)
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        assert fleet.train([endless(signalled)], 1, stop=stop)[0].status == "stopped"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_stop_ends_what_runs_and_begins_no_other():
    stop = threading.Event()
    trainers = [endless(), trainer(epochs=1), endless(), trainer()]
    seen = []

    def tell(result):
        seen.append((result.index, result.status))
        stop.set()
    results = fleet.train(trainers, 2, stop=stop, on_finish=tell)
    assert [r.status for r in results][:2] == ["stopped", "finished"]
    assert results[2].status in ("stopped", "not begun")        # whether it had begun when the one before it was told of
    assert results[3].status == "not begun" and trainers[3].epoch == 0
    assert seen[0] == (1, "finished") and sorted(seen) == [(r.index, r.status) for r in results if r.status != "not begun"]


def test_a_stop_that_comes_first_begins_none():
    stop = threading.Event()
    stop.set()
    gate = threading.Event()
    with pytest.MonkeyPatch.context() as patch:     # no thread takes one before `train` looks
        patch.setattr(fleet._Fleet, "_serve", lambda self, thread: gate.wait(60))
        patch.setattr(fleet, "GRACE", 0)
        results = fleet.train([trainer(), trainer()], 2, stop=stop)
        gate.set()
    assert [r.status for r in results] == ["not begun"] * 2


def test_time_limit(monkeypatch):
    """The clock stands still until the first trainer is in its third epoch."""
    first, late = endless(), trainer()
    clock = SimpleNamespace(**vars(fleet.time))
    clock.monotonic = lambda: 11.0 if first.epoch >= 2 else 0.0
    monkeypatch.setattr(fleet, "time", clock)
    results = fleet.train([first, late], 1, time_limit=10)
    assert [r.status for r in results] == ["stopped", "not begun"]
    assert first.epoch >= 2


@pytest.fixture
def patient(monkeypatch):
    """Nothing is cut short, since there is a minute for what ends by itself."""
    monkeypatch.setattr(fleet, "GRACE", 60)
    monkeypatch.setattr(Trainer, "shutdown", lambda self, timeout=None: pytest.fail("it was not waited for"))


def test_a_stop_is_not_lost_on_one_that_is_about_to_begin(patient):
    stop, asked = threading.Event(), threading.Event()

    class Slow(Trainer):
        def train(self, shuffle=True):
            stop.set()
            assert asked.wait(60)
            return super().train(shuffle)       # which forgets what it was asked before

        def stop(self, *, finished=False):
            super().stop(finished=finished)
            asked.set()
    t = Slow(FOREVER)
    t.init(SHARED, mlp(6, 9, 3), LOSS, optim.SGD(0.01))
    result, = fleet.train([t], 1, stop=stop)
    assert result.status == "stopped"


def test_the_update_under_way_is_waited_for(patient):
    stop = threading.Event()

    class Waits(Twice):
        def forward(self, x):
            stop.set()
            wait_until(lambda: t.runtime.stopping)
            return super().forward(x)
    t = made(Model(nn.Sequential(nn.Linear(6, 3), Waits()), seed=0), optim.SGD(0.1))
    result, = fleet.train([t], 1, stop=stop)
    assert result.status == "stopped" and t.batches_done == 1 and t.resources.state.t == 1


def test_a_batch_that_takes_longer_is_left_at_its_next_operation():
    stop = threading.Event()

    class Waits(Twice):
        def forward(self, x):
            stop.set()
            wait_until(lambda: t.resources.give_up_at is not None)
            return super().forward(x)
    t = made(Model(nn.Sequential(nn.Linear(6, 3), Waits()), seed=0), optim.SGD(0.1))
    before = t.model.params.copy()
    result, = fleet.train([t], 1, stop=stop)
    assert result.status == "stopped" and result.error is None
    np.testing.assert_array_equal(t.model.params, before)


def test_one_that_never_comes_back_is_left_to_its_thread(caplog):
    stop, release = threading.Event(), threading.Event()

    def hang(t):
        stop.set()
        assert release.wait(60)
    stuck, other = endless(hang), endless()
    with caplog.at_level(logging.WARNING, "tinydl"):
        results = fleet.train([stuck, other], 2, stop=stop)
    assert results[0].status == "failed" and isinstance(results[0].error, TimeoutError)
    assert results[1].status in ("stopped", "not begun")
    assert "trainers[0]: it did not stop" in caplog.text
    assert workers() == 1
    release.set()       # and that thread ends, as the fixture sees


def test_one_that_comes_back_too_late_changes_no_result(monkeypatch):
    both, stop, release = threading.Barrier(2), threading.Event(), threading.Event()

    def hang(t):
        both.wait(60)
        stop.set()
        assert release.wait(60)

    def warn(*args):            # of the first one that is given up: now both come back
        release.set()
        wait_until(lambda: workers() == 0)
    monkeypatch.setattr(fleet.log, "warning", warn)
    results = fleet.train([endless(hang), endless(hang)], 2, stop=stop)
    assert [(r.status, type(r.error)) for r in results] == [("failed", TimeoutError)] * 2


def test_what_on_finish_raises_ends_all_and_comes_out():
    def tell(result):
        raise RuntimeError("enough")
    long = endless()
    with pytest.raises(RuntimeError, match="enough"):
        fleet.train([long, trainer(epochs=1)], 2, on_finish=tell)
    assert workers() == 0 and long.runtime.call is None


# ------------------------------------------------------------------ turns at the GIL
HOUR = 3600 * 10**9


def test_a_turn_is_one_threads_until_it_is_given_back_or_ends():
    turn = np.zeros(1, np.int64)
    mine = gil.take(turn, 0, HOUR)
    assert mine > 0 and turn[0] == mine
    assert gil.take(turn, 0, HOUR) == 0 and turn[0] == mine     # somebody else's: nothing is waited for here
    assert not gil.give(turn, mine + 1) and turn[0] == mine
    assert not gil.give(turn, 0) and turn[0] == mine            # a thread that has none
    assert gil.give(turn, mine) and turn[0] == 0
    short = gil.take(turn, 0, 1)                                # a nanosecond
    later = gil.take(turn, HOUR, HOUR)
    assert later > short > 0
    assert not gil.give(turn, short) and turn[0] == later
    ended = np.array([1], np.int64)
    assert not gil.give(ended, 1) and ended[0] == 0             # given back too late


def test_who_waits_for_a_turn_gets_it_when_it_is_given_back():
    turn, got = np.zeros(1, np.int64), []
    mine = gil.take(turn, 0, HOUR)
    waiter = threading.Thread(target=lambda: got.append(gil.take(turn, HOUR, HOUR)))
    waiter.start()
    assert not got and gil.give(turn, mine)
    waiter.join(60)
    assert got == [turn[0]] and got[0] > 0


def test_a_serial_training_is_in_its_turn_when_it_is_in_python_and_only_then():
    seen = {"native": [], "python": []}

    class Looks(Twice):
        def forward(self, x):
            seen["native"].append(gil.turn_ends())
            return super().forward(x)
    look = Does(lambda t: seen["python"].append(gil.turn_ends()))
    t = made(Model(nn.Sequential(nn.Linear(6, 3), Looks()), seed=0), optim.SGD(0.1), callbacks=[look], epochs=20,
             dataset=data.ArrayDataset(X, Y, 16).split(96, 24, 0))
    in_thread(t.train)
    # Six batches and a validation an epoch. Before its first native call a thread has no turn: what is seen there is another's.
    assert len(seen["native"]) == 140 and seen["native"][6:] == [0] * 134
    # A turn may end by itself where the machine has other things to do, but hardly each time.
    assert len(seen["python"]) == 20 and any(seen["python"]) == (not sysconfig.get_config_var("Py_GIL_DISABLED"))
    before = gil.turn_ends()
    wait_until(lambda: engine.clock() > before)
    in_thread(lambda: t.model.predict(X))       # a thread that trains nothing leaves it as it is
    assert gil.turn_ends() == before and len(seen["native"]) > 140


# ------------------------------------------------------------------ the door
def twins(**options):
    return [made(mlp(6, 3), optim.SGD(0.1), **{name: one for name, one in options.items()}) for _ in range(2)]


def sharing_a_model():
    model = mlp(6, 3)
    return [made(model, optim.SGD(0.1)) for _ in range(2)]


def sharing_an_optimizer():
    optimizer = optim.SGD(0.1)
    return [made(mlp(6, 3), optimizer) for _ in range(2)]


def sharing_a_layer():
    layer = Twice()
    return [made(Model(nn.Sequential(nn.Linear(6, 3), layer)), optim.SGD(0.1)) for _ in range(2)]


BAD = {
    "no trainer": (lambda: [mlp(6, 3)], TypeError, r"trainers\[0\] must be a Trainer; got Model"),
    "no init": (lambda: [trainer(), Trainer(1)], ValueError, r"trainers\[1\] has nothing to train"),
    "parallel": (lambda: [trainer(thread_count=2, enable_parallel=True)], ValueError, "enable_parallel=False"),
    "ranks": (lambda: [trainer(ranks=Ranks(communicators(1)[0]), batches_per_update=2, enable_parallel=False)], ValueError,
              "together with other processes"),
    "one twice": (lambda: [trainer()] * 2, ValueError, r"trainers\[0\] and trainers\[1\] have the same trainer"),
    "a model": (sharing_a_model, ValueError, r"have the same model \(Model\)"),
    "an optimizer": (sharing_an_optimizer, ValueError, r"the same optimizer \(SGD\)"),
    "a callback": (lambda: twins(callbacks=[callbacks.EarlyStopping()]), ValueError, r"the same callback \(EarlyStopping\)"),
    "a monitor": (lambda: twins(monitor=Monitor(quiet=True)), ValueError, "the same monitor"),
    "an evaluator": (lambda: twins(evaluator=AccuracyEvaluator()), ValueError, "the same evaluator"),
    "a layer": (sharing_a_layer, ValueError, r"the same Python layer or loss \(Twice\)"),
    "a loss": (lambda: twins(loss=OwnLoss()), ValueError, r"the same Python layer or loss \(OwnLoss\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trained_side_by_side_is_refused_before_anything_begins(case):
    make, error, message = BAD[case]
    trainers = make()
    with pytest.raises(error, match=message):
        fleet.train(trainers, 2)
    assert all(t.epoch == 0 for t in trainers if isinstance(t, Trainer))
    for t in trainers:
        if isinstance(t, Trainer):
            t.shutdown()


@pytest.mark.parametrize(("options", "message"), [
    (dict(n_threads=0), "n_threads=0"), (dict(n_threads=-2), "n_threads=-2"), (dict(n_threads=1.5), r"n_threads=1\.5"),
    (dict(n_threads=True), "n_threads=True"), (dict(time_limit=0), "time_limit=0"), (dict(time_limit=float("nan")), "=nan")])
def test_bad_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        fleet.train([trainer()], **options)


def test_it_is_imported_when_it_is_asked_for():
    tinydl = importlib.import_module("tinydl")
    assert tinydl.fleet is fleet and "fleet" in tinydl.__all__
