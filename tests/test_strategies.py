"""Every strategy: its mathematics against serial training, its bits, its failures, its books. A new one is a row here."""
import ctypes
import faulthandler
import hashlib
import logging
import queue
import signal
import threading
import time
import warnings
from collections import Counter
from contextlib import nullcontext
from typing import ClassVar

import numpy as np
import pytest
from small import Batched, busy, classification, mlp

from tinydl import Model, Monitor, Trainer, data, losses, nn, optim, parallel
from tinydl._kernels.engine import NonFiniteError
from tinydl.callbacks import Callback
from tinydl.data import LazyBatch
from tinydl.data.batch import cut_rows
from tinydl.parallel import BatchTimeoutError, ParallelFallbackWarning, TrainingError, WorkerDiedError, crew, pool, python_driver
from tinydl.parallel.pool import Task, WorkerPool, wait_all
from tinydl.parallel.strategies import Auto, Group, Hogwild, Local, Serial, Shard, Strategy
from tinydl.parallel.strategies.base import STRATEGIES, group_starts

pytestmark = pytest.mark.usefixtures("eager_auto")


DRIVERS = {"native": data.ArrayDataset, "python": Batched}
#: name: (a maker with its k fixed, whether its bits are the same for any number of threads)
TABLE = {
    "serial": (Serial, True),
    "group": (lambda: Group(3), True),
    "shard": (lambda: Shard(3), True),
    "local": (lambda: Local(sync_every=2, n_models=3), True),
    "hogwild": (Hogwild, False),
    "auto": (lambda: Auto(batches_per_update=3), True),
    "auto shards": (lambda: Auto(shards_per_batch=2), True),
}
STEADY = [name for name, (_, steady) in TABLE.items() if steady]


@pytest.fixture(params=DRIVERS)
def driver(request):
    return DRIVERS[request.param]


def digest(model):
    return hashlib.sha256(model.params.tobytes() + model.statistics.tobytes()).hexdigest()


def run(dataset, model, strategy, threads=2, *, epochs=2, optimizer=None, shuffle=True, loss=None, **options):
    with Trainer(epochs, strategy=strategy, enable_parallel=True, thread_count=threads, seed=7, **options) as t:
        t.init(dataset, model, loss or losses.SoftmaxCrossEntropy(), optimizer or optim.Adam(lr=0.01))
        t.train(shuffle)
    check_books(t)
    return t


def check_books(t):
    s = t.stats()
    assert s.dispatched == s.done + s.retried + s.skipped + s.failed, s


def deep(seed=3):
    return Model(nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)), seed=seed)


def test_every_strategy_has_a_row():
    assert {name.split()[0] for name in TABLE} == set(STRATEGIES)


# ------------------------------------------------------------------ bits and mathematics
@pytest.mark.parametrize("name", STEADY)
def test_same_bits_for_any_number_of_threads(driver, name):
    x, y = classification(203)
    make = TABLE[name][0]
    bits = {digest(run(driver(x, y, 8), deep(), make(), n).model) for n in (1, 2, 3, 5, 8)}
    assert len(bits) == 1


@pytest.mark.parametrize("name", STEADY)
def test_both_drivers_give_the_same_bits(name):
    x, y = classification(101)
    assert len({digest(run(kind(x, y, 8), deep(), TABLE[name][0]()).model) for kind in DRIVERS.values()}) == 1


@pytest.mark.parametrize("make", [Group, Shard, lambda: Local(2)], ids=["group", "shard", "local"])
def test_simplified_training_has_the_groups_of_as_many_threads(driver, make):
    x, y = classification(101)
    parallel_run = run(driver(x, y, 8), deep(), make(), 3)
    with Trainer(2, strategy=make(), enable_parallel=True, thread_count=3, seed=7) as t:
        t.init(driver(x, y, 8), deep(), losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01))
        t.simplified_parallel_train()
    assert t.stats().mode == "simplified" and digest(t.model) == digest(parallel_run.model)


@pytest.mark.parametrize("name", STEADY)
def test_same_bits_again_under_load(name):
    x, y = classification(101)
    with busy():
        assert len({digest(run(data.ArrayDataset(x, y, 8), deep(), TABLE[name][0](), 3, epochs=1).model) for _ in range(20)}) == 1


def dropped(dtype="float64"):
    return Model(nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 3)), seed=1, dtype=dtype)


@pytest.mark.parametrize("strategy", [Shard(2), Shard(3), Shard(50), Auto(), Auto(shards_per_batch=3)])
def test_shards_make_the_updates_of_serial_training(driver, strategy):
    """Up to rounding of float64, random masks included; 50 parts of batches of 16 are parts of one sample each."""
    x, y = classification(75)
    x = x.astype(np.float64)
    serial = run(driver(x, y, 16), dropped(), Serial(), optimizer=optim.SGD(0.1))
    t = run(driver(x, y, 16), dropped(), strategy, optimizer=optim.SGD(0.1))
    np.testing.assert_allclose(t.model.params, serial.model.params, rtol=0, atol=1e-13)
    assert t.optimizer.t == serial.optimizer.t == 10


def test_averaging_after_every_update_is_a_group(driver):
    """With SGD the mean of k copies after a step each is the parameters after a step by the mean gradient."""
    x, y = classification(45)       # the last round has batches of 4, 4 and 1
    x = x.astype(np.float64)
    local = run(driver(x, y, 4), dropped(), Local(sync_every=1, n_models=3), optimizer=optim.SGD(0.1))
    group = run(driver(x, y, 4), dropped(), Group(3), optimizer=optim.SGD(0.1))
    # masks are drawn per batch in one and per group in the other, so without dropout
    models = [mlp(6, 9, 3, dtype="float64") for _ in range(2)]
    run(driver(x, y, 4), models[0], Local(sync_every=1, n_models=3), optimizer=optim.SGD(0.1))
    run(driver(x, y, 4), models[1], Group(3), optimizer=optim.SGD(0.1))
    np.testing.assert_allclose(models[0].params, models[1].params, rtol=0, atol=1e-13)
    assert local.optimizer.t == group.optimizer.t == 8


@pytest.mark.parametrize("strategy, threads", [(Local(4, n_models=1), 2), (Hogwild(), 1), (Group(1), 2), (Shard(1), 2)])
def test_one_of_them_is_serial_to_the_bit(driver, strategy, threads):
    x, y = classification(61)
    assert digest(run(driver(x, y, 8), deep(), strategy, threads).model) == digest(run(driver(x, y, 8), deep(), Serial()).model)


def test_local_optimizer_state_begins_anew_on_request():
    x, y = classification(64)
    kept, fresh = (run(data.ArrayDataset(x, y, 4), deep(), Local(2, 2, average_state=a)).model for a in (True, False))
    assert digest(kept) != digest(fresh)


def test_hogwild_learns_and_counts(driver):
    x, y = classification(300)
    t = run(driver(x, y, 8), mlp(6, 16, 3), Hogwild(), 3, epochs=8)
    assert t.optimizer.t == t.history["updates"][0] * 8 == 38 * 8 and t.stats().done == 38 * 8
    assert t.history["loss"][-1] < 0.5 * t.history["loss"][0]


def test_cut_rows():
    pieces, owner = cut_rows(np.array([0, 8, 16, 18]), 4)
    assert pieces.tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 16, 17, 18]
    assert owner.tolist() == [0] * 4 + [1] * 4 + [2] * 2 and group_starts(owner, 2).tolist() == [0, 8, 10]
    pieces, owner = cut_rows(np.array([5]), 2)
    assert pieces.tolist() == [5] and owner.tolist() == [] and group_starts(owner, 2).tolist() == [0]
    assert group_starts(np.arange(5), 2).tolist() == [0, 2, 4, 5] and group_starts(np.arange(2), 1).tolist() == [0, 1, 2]


def _fetched(batch):
    return data.Batch(np.arange(20.0)[batch.indices, None], np.arange(20)[batch.indices], None, batch.first_id, batch.index)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 9, 50])
@pytest.mark.parametrize("make", [
    lambda rows: data.Batch(np.arange(20.0)[:, None], np.arange(20), rows, 3, 5),
    lambda rows: data.Batch(np.arange(20.0)[rows, None], rows, None, 3, 5),
    lambda rows: LazyBatch(_fetched, rows, 3, 5), lambda rows: LazyBatch(_fetched, rows, 3, 5, divisible=True)])
def test_all_kinds_of_batches_are_cut_as_rows_are(make, parts):
    rows = np.arange(2, 11)
    pieces = cut_rows(np.array([0, 9]), parts)[0]
    cut = make(rows).cut(parts)
    assert [len(c.load().arrays()[1]) for c in cut] == np.diff(pieces).tolist() == [c.n for c in cut]
    assert [c.load().first_id - 3 for c in cut] == pieces[:-1].tolist() == [c.first_id - 3 for c in cut]
    assert np.concatenate([c.load().arrays()[1] for c in cut]).tolist() == rows.tolist() and {c.index for c in cut} == {5}


class Unreplicable(nn.PythonLayer):
    def __deepcopy__(self, memo):
        raise TypeError("there is only one")

    def forward(self, x):
        return x, None

    def backward(self, dy, saved):
        return dy


@pytest.mark.parametrize("how", ["single_thread_train", "simplified_parallel_train", "disabled", "train"])
@pytest.mark.parametrize("name", [*STRATEGIES])
def test_training_in_the_calling_thread_without_the_strategys_say(name, how):
    """As a model's fallback does, and single_thread_train, before any parallel training and after some."""
    x, y = classification(40)
    model = mlp(6, 3)
    if how == "train":
        model = Model(nn.Sequential(Unreplicable(), nn.Linear(6, 3)), seed=0)
    with Trainer(1, strategy=name, enable_parallel=how != "disabled", thread_count=2, seed=0) as t:
        says = "training is serial" if name in ("serial", "local") else "the same updates run on one replica"
        with pytest.warns(ParallelFallbackWarning, match=says) if how == "train" else nullcontext():
            t.init(data.ArrayDataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        run = t.train if how in ("train", "disabled") else getattr(t, how)
        run()
        if how == "disabled":
            t.configure_parallel_training(True, 2)
        t.train()
        if how == "disabled":
            t.configure_parallel_training(False)
        run()
        assert t.epoch == 3 and t.optimizer.t >= 3 and t.history["samples"] == [40] * 3


def test_auto_measures_and_says_so_once(caplog):
    x, y = classification(4000)
    strategy = Auto()
    with caplog.at_level(logging.INFO, "tinydl"):
        t = run(data.ArrayDataset(x, y, 8), mlp(6, 16, 3), strategy, 2, epochs=3)
    assert [(c.strategy.name, c.n_threads) for c in t.tuning] == [("serial", 1), ("shard", 2)]
    assert all(c.samples_per_second > 0 for c in t.tuning)
    said = [r.message for r in caplog.records if "strategy auto" in r.message]
    assert len(said) == 1 and said[0].count("samples/s") == 3 and said[0].startswith("strategy auto: s")
    assert t.history["samples"] == [4000] * 3 and t.optimizer.t == 1500


# ------------------------------------------------------------------ failures
class Fails(nn.PythonLayer):
    """Raises `error` where a sample's first feature is one of `marks`, `times` times each (None: always)."""

    def __init__(self, *marks, error=RuntimeError, times=None):
        self.marks, self.error, self.times, self.seen = marks, error, times, {}

    def __deepcopy__(self, memo):
        return self                 # replicas share what was seen

    def forward(self, x):
        for m in self.marks:
            if (x[:, 0] == np.float32(m)).any():
                self.seen[m] = self.seen.get(m, 0) + 1
                if self.times is None or self.seen[m] <= self.times:
                    raise self.error(f"mark {m}")
        return x, None

    def backward(self, dy, saved):
        return dy


def marked(n):
    x, y = classification(n)
    x[:, 0] = np.arange(n) / 64     # sample i carries mark i / 64
    return x, y


def with_layer(layer):
    return Model(nn.Sequential(layer, nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)), seed=0)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, SystemExit])
def test_a_failed_batch_is_left_out_and_accounted_to_the_sample(driver, name, error):
    x, y = marked(64)
    t = run(driver(x, y, 8), with_layer(Fails(13 / 64, error=error)), TABLE[name][0](), epochs=1, shuffle=False)
    (failure,) = t.history.failures
    assert failure.batch_index == 1 and type(failure.exception) is error and failure.exception.__traceback__ is not None
    assert 13 in failure.indices and failure.n_samples == len(failure.indices) and set(failure.indices) <= set(range(8, 16))
    s = t.stats()
    assert s.skipped == 1 and s.failed == 0 and t.history["samples"] == [64 - failure.n_samples]
    assert t.history.skipped_indices().tolist() == failure.indices.tolist()


def too_deep(n=0):
    return too_deep(n + 1)


class At13(nn.PythonLayer):
    """Passes x on; at sample 13, in its forward or backward pass, does what `what` says."""

    def __init__(self, what, backward=False):
        self.what, self.in_backward = what, backward

    def _at_13(self, x, value):
        return self.what(value) if (x[:, 0] == np.float32(13 / 64)).any() else value

    def forward(self, x):
        return (x if self.in_backward else self._at_13(x, x)), x.copy()

    def backward(self, dy, saved):
        return self._at_13(saved, dy) if self.in_backward else dy


def raising(error):
    def call(value):
        raise error("at 13")
    return call


class PickyLoss(losses.PythonLoss):
    def forward(self, outputs, targets):
        if (targets == 13).any():
            raise ArithmeticError("at 13")
        return float(np.mean((outputs - targets) ** 2)), 2 * (outputs - targets) / outputs.size


class Items(data.ItemDataset):
    def __init__(self, error):
        super().__init__(8)
        self.error = error

    def __len__(self):
        return 64

    def __getitem__(self, i):
        if i == 13:
            raise self.error("at 13")
        return np.full(6, i / 64, np.float32), i % 3


#: source: (what fails at sample 13, the exception that the history has)
LAYERS = {
    "forward": (At13(raising(RuntimeError)), RuntimeError), "backward": (At13(raising(RuntimeError), True), RuntimeError),
    "BaseException": (At13(raising(BaseException)), BaseException),
    "GeneratorExit": (At13(raising(GeneratorExit)), GeneratorExit),
    "MemoryError, backward": (At13(raising(MemoryError), True), MemoryError),
    "recursion": (At13(lambda x: too_deep()), RecursionError),
    "recursion, backward": (At13(lambda x: too_deep(), True), RecursionError),
    "loss not finite": (At13(lambda x: x * np.inf), NonFiniteError),
    "gradient not finite": (At13(lambda dy: dy * np.inf, True), NonFiniteError),
}


def left_out(t, error, losing=8):
    """The history, the books and the parameters of a run that lost the batch (or the part) of sample 13 to `error`."""
    (failure,) = t.history.failures
    assert type(failure.exception) is error and failure.batch_index == 1 and failure.n_samples <= losing
    s = t.stats()
    assert (s.skipped, s.failed, s.samples) == (1, 0, 64 - failure.n_samples) and np.isfinite(t.model.params).all()
    assert t.history["failed_batches"] == [1]


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("source", LAYERS)
def test_every_failure_of_a_layer_in_every_strategy(driver, name, source):
    layer, error = LAYERS[source]
    x, y = marked(64)
    net = nn.Sequential(nn.Linear(6, 6), layer, nn.Linear(6, 3))    # a layer before, whose gradient may be infinite
    model = Model(net, seed=0)
    model.load_state_dict({"0.weight": np.eye(6), "0.bias": np.zeros(6)}, strict=False)
    t = run(driver(x, y, 8), model, TABLE[name][0](), epochs=1, shuffle=False, optimizer=optim.SGD(0.0))
    left_out(t, error)


@pytest.mark.parametrize("name", TABLE)
def test_a_loss_that_raises_in_every_strategy(driver, name):
    x, _ = classification(64)
    t = run(driver(x, np.arange(64, dtype=np.float32)[:, None], 8), mlp(6, 1), TABLE[name][0](), epochs=1, shuffle=False,
            loss=PickyLoss(), optimizer=optim.SGD(1e-5))
    left_out(t, ArithmeticError)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("error", [OSError, MemoryError, SystemExit])
def test_an_item_that_raises_in_every_strategy(name, error):
    left_out(run(Items(error), mlp(6, 3), TABLE[name][0](), epochs=1, shuffle=False), error)


@pytest.mark.parametrize("name", TABLE)
def test_a_layer_that_raises_keyboard_interrupt_ends_training(driver, name):
    """It is never the batch's fault, in whatever thread; what was done before is booked, and training can go on."""
    x, y = marked(64)
    layer = Fails(13 / 64, error=KeyboardInterrupt, times=1)
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), with_layer(layer), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(KeyboardInterrupt):
            t.train(shuffle=False)
        check_books(t)
        assert t.optimizer.t == t.stats().updates if name != "local" else t.optimizer.t == 0
        t.train(shuffle=False)
        lost = sum(f.n_samples for f in t.history.failures)
        assert t.history["samples"] == [64 - lost] and (lost == 0 or name == "hogwild")
    check_books(t)
    if name in STEADY:
        assert digest(t.model) == digest(run(driver(x, y, 8), with_layer(Fails()), TABLE[name][0](), epochs=1, shuffle=False,
                                             optimizer=optim.SGD(0.1)).model)


@pytest.mark.parametrize("name", TABLE)
def test_a_callback_that_raises_in_every_strategy(driver, name):
    class Raises(Callback):
        every = 1

        def on_update(self, trainer, updates):
            self.every = None
            raise RuntimeError("callback")
    x, y = classification(203)
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7, callbacks=[Raises()]) as t:
        t.init(driver(x, y, 8), deep(), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        with pytest.raises(RuntimeError, match="callback"):
            t.train()
        assert 0 < t.stats().updates < 26 and t.epoch == 0
        t.train()
    check_books(t)
    assert t.history["samples"] == [203] and not t.history.failures
    if name in STEADY:
        assert digest(t.model) == digest(run(driver(x, y, 8), deep(), TABLE[name][0](), epochs=1).model)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("policy", ["skip", "retry"])
def test_the_books_add_up_after_every_update(driver, name, policy):
    seen = []

    class Look(Callback):
        every = 1

        def on_update(self, trainer, updates):
            check_books(trainer)
            s = trainer.stats()
            assert s.updates == updates and s.under_way == s.failed == 0
            seen.append(s.dispatched)
    x, y = marked(128)
    t = run(driver(x, y, 8), with_layer(Fails(13 / 64, 77 / 64, times=2)), TABLE[name][0](), epochs=1, shuffle=False,
            callbacks=[Look()], on_batch_failure=policy, max_failed_fraction=1)
    s = t.stats()
    assert len(seen) > 1 and sorted(seen) == seen and seen[-1] == s.dispatched and len(set(seen)) == len(seen)
    assert (s.skipped, s.retried) == ((0, 2) if policy == "retry" else (2, 0))


def test_a_training_error_lists_ten_failures_and_the_count():
    x, y = marked(104)
    with pytest.raises(TrainingError, match="none of 13 batches") as e:
        run(data.ArrayDataset(x, y, 8), with_layer(Fails(*(np.arange(104) / 64))), Group(2), epochs=1, max_failed_fraction=1)
    lines = str(e.value).splitlines()
    assert len(lines) == 12 and lines[-1].strip() == "and 3 more" and len(e.value.failures) == 13


@pytest.mark.parametrize("name", STEADY)
def test_retry_gives_the_bits_of_a_run_without_failures(driver, name):
    x, y = marked(64)
    make = TABLE[name][0]
    t = run(driver(x, y, 8), with_layer(Fails(13 / 64, 40 / 64, times=2)), make(), epochs=1, shuffle=False,
            on_batch_failure="retry")
    whole = run(driver(x, y, 8), with_layer(Fails()), make(), epochs=1, shuffle=False)
    assert digest(t.model) == digest(whole.model) and not t.history.failures
    assert t.stats().retried == 2 and t.stats().dispatched == whole.stats().dispatched
    tried = Fails(13 / 64)
    t = run(driver(x, y, 8), with_layer(tried), make(), epochs=1, shuffle=False, on_batch_failure="retry", max_retries=1)
    assert t.stats().skipped == 1 and t.stats().retried == 0 and tried.seen == {13 / 64: 2}


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize("policy", [{"on_batch_failure": "raise"}, {"max_failed_fraction": 0.0}])
def test_raise_leaves_the_parameters_of_the_last_good_update(driver, name, policy):
    x, y = marked(96)
    make = TABLE[name][0]
    with Trainer(1, strategy=make(), enable_parallel=True, thread_count=2, seed=7, **policy) as t:
        t.init(driver(x, y, 8), with_layer(Fails(77 / 64)), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(TrainingError, match=r"mark 1\.2") as e:
            t.train(shuffle=False)
        assert type(e.value.__cause__) is RuntimeError and e.value.failures[0].batch_index == 9
        check_books(t)
        assert t.stats().failed == 1
        # batch 9 fails: of groups of 3 the first three are good, of rounds of 6 the first one
        good = {"group": 9, "auto": 9, "local": 6}.get(name, 9)
        part = run(driver(x[:8 * good], y[:8 * good], 8), with_layer(Fails()), make(), epochs=1, optimizer=optim.SGD(0.1),
                   shuffle=False)
        assert digest(t.model) == digest(part.model)


def test_hogwild_books_what_it_did_before_it_raises(driver):
    """Its updates cannot be taken back: what was made counts, and is not made again."""
    x, y = marked(96)
    with Trainer(1, strategy="hogwild", thread_count=2, seed=7, on_batch_failure="raise") as t:
        t.init(driver(x, y, 8), with_layer(Fails(77 / 64)), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(TrainingError, match=r"1 of its batches failed (?s:.*)mark 1\.2") as e:
            t.train(shuffle=False)
        assert e.value.failures[0].batch_index == 9 and len(e.value.failures) == 1
        check_books(t)
        s = t.stats()
        assert (s.skipped, s.failed, s.updates, s.done) == (0, 1, t.optimizer.t, t.optimizer.t)
        assert sum(s.batches_by_worker.values()) == s.dispatched >= 10
        t.train(shuffle=False)
        assert t.history["samples"] == [88] and t.optimizer.t == 11 and len(t.history.failures) == 1
    check_books(t)


def test_hogwild_books_what_it_did_before_ctrl_c(driver):
    x, y = marked(64)

    class Presses(nn.PythonLayer):
        """Presses Ctrl-C in the batch of sample 3 when another batch has made its update, then waits."""

        pressed, release = threading.Event(), threading.Event()

        def __deepcopy__(self, memo):
            return self

        def forward(self, x):
            if (x[:, 0] == np.float32(3 / 64)).any() and not self.pressed.is_set():
                while not t.optimizer.t and not t.stats().under_way:
                    threading.Event().wait(0.001)
                self.pressed.set()
                signal.raise_signal(signal.SIGINT)
                assert self.release.wait(60)
            return x, None

        def backward(self, dy, saved):
            return dy
    with Trainer(1, strategy="hogwild", thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), with_layer(Presses()), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        workers = list(t._pool.threads)
        with pytest.raises(KeyboardInterrupt):
            t.train(shuffle=False)
        check_books(t)
        s, before = t.stats(), digest(t.model)
        assert s.updates == s.done == t.optimizer.t >= 1 and s.skipped == 1
        Presses.release.set()
        for worker in workers:
            worker.join(10)
        assert digest(t.model) == before        # what comes late changes nothing
        t.max_epochs = 1 - t.epoch
        t.train(shuffle=False)
        assert t.history["samples"] == [56] and t.optimizer.t == t.stats().updates == 7
    (failure,) = t.history.failures
    assert failure.batch_index == 0
    check_books(t)


def test_more_failures_than_the_fraction_end_training(driver):
    x, y = marked(320)
    marks = [m / 64 for m in (3, 83, 163, 243, 303)]        # 5 of 40 batches; 4 may fail
    with Trainer(1, strategy="group", batches_per_update=2, thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), with_layer(Fails(*marks)), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(TrainingError, match=r"5 of its batches failed .more than max_failed_fraction=0\.1") as e:
            t.train(shuffle=False)
    assert len(e.value.failures) == 5 and t.optimizer.t == 18        # batch 37 is of the 19th group
    check_books(t)
    assert (t.stats().skipped, t.stats().failed) == (4, 1)


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


def test_after_too_many_hung_workers_training_goes_on_serially(driver):
    x, y = marked(160)
    layer = Hangs(0)
    layer.forward = lambda x, layer=layer: (_wait_where_odd(x, layer), None)
    with Trainer(1, strategy="group", batches_per_update=2, thread_count=2, seed=7, batch_timeout=0.2, max_hung_workers=1,
                 max_failed_fraction=1) as t:
        t.init(driver(x, y, 8), with_layer(layer), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        threading.Timer(2.0, layer.release.set).start()
        with pytest.warns(ParallelFallbackWarning, match="2 workers were put aside"):
            t.train(shuffle=False)
        assert not t.is_parallel_training_enabled() and t.get_parallel_thread_count() == 1
    check_books(t)
    assert t.stats().skipped == 2 and t.stats().mode == "simplified" and t.history["samples"] == [144]


def _wait_where_odd(x, layer):
    if np.float32(13 / 64) in x[:, 0] or np.float32(77 / 64) in x[:, 0] or np.float32(120 / 64) in x[:, 0]:
        assert layer.release.wait(60)
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
        workers = t._pool.threads
        t._pool._lock = ShutDownBetween(t)
        assert t.train().interrupted and layer.entered.wait(10)
        assert t._crew.replicas == []           # those that a worker may still be in
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
        threads = list(t._pool.threads) if name != "serial" else []
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
def test_a_thread_that_dies_is_replaced_and_its_batch_is_counted(driver, name, begun, monkeypatch, ends_in_time):
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
        assert not died[0].is_alive() and t.is_parallel_training_enabled() and died[0] not in t._pool.threads
        assert all(type(f.exception) is WorkerDiedError for f in t.history.failures)
        lost = sum(f.n_samples for f in t.history.failures)
        # only where a task is a batch, or a part of one, it is lost with the thread that had begun it
        assert (lost > 0) == (begun and driver is Batched and name != "local")
        assert t.history["samples"] == [64 - lost] and t.stats().skipped == (lost > 0) and t.stats().failed == 0
    check_books(t)
    if not lost and name in STEADY:
        assert digest(t.model) == digest(run(driver(x, y, 8), deep(), TABLE[name][0](), epochs=1).model)


@pytest.mark.parametrize("strategy", [Group(2), Local(2, 2), Hogwild()], ids=lambda s: s.name)
def test_workers_that_die_again_and_again_end_training(driver, strategy, monkeypatch, ends_in_time):
    def fail(*args):
        raise ZeroDivisionError("whatever")
    monkeypatch.setattr(crew, "spread", fail)
    monkeypatch.setattr(crew.Crew, "enter_batch", fail)
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
            tasks.let_back(layer, t._pool.threads[task.worker])
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
    assert t._crew.hung_workers == (when == "after")


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
    threading.Timer(5, second.release.set).start()
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
    heal, start, hung_batch = WorkerPool.heal, WorkerPool._start, crew.Crew.hung_batch

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
    monkeypatch.setattr(crew.Crew, "hung_batch", lambda *args: hung_batch(*args) if look[0] else None)
    for module in (crew, python_driver):        # they wait for the other workers when the batches are given up
        monkeypatch.setattr(module, "wait_all", come_back(module.wait_all))

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
    assert len(started) == 3 and t._crew.hung_workers == 1      # two, and a successor
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


# ------------------------------------------------------------------ seeing
def test_stats_are_live_from_any_thread():
    x, y = marked(64)
    layer = Hangs(13 / 64)
    t = Trainer(1, strategy="group", thread_count=2, seed=7)
    t.init(data.ArrayDataset(x, y, 8), with_layer(layer), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    seen = []

    class Look(Monitor):
        def progress(self, epoch, samples, loss):
            states = t.stats().workers
            if any(w.state == "in a batch" and w.seconds > 0.02 for w in states):
                seen.append(t.stats())
                layer.release.set()
    t.monitor = Look(quiet=True)
    t.train(shuffle=False)
    t.shutdown()
    busy = next(w for w in seen[0].workers if w.state == "in a batch")
    assert (busy.batch, busy.layer) == (1, "0") and seen[0].under_way >= 1
    text = parallel.format_parallel_stats(seen[0])
    assert "in a batch 1, layer 0" in text and "efficiency" in parallel.format_parallel_stats(t.stats())
    s = t.stats()
    assert s.under_way == 0 and s.done == 8 and 0 < s.efficiency <= 1 and s.waited > 0.02


# ------------------------------------------------------------------ the door
def test_door():
    for make, message in [(lambda: Trainer(1, strategy="swarm"), "one of .*group.*hogwild"),
                          (lambda: Trainer(1, strategy="shard", batches_per_update=2), "batches_per_update: strategy 'shard'"),
                          (lambda: Trainer(1, strategy=Shard(2), shards_per_batch=2), "give it to Shard"),
                          (lambda: Shard(0), "shards_per_batch=0"), (lambda: Local(0), "sync_every=0"),
                          (lambda: Auto(2, 2), "one of them"), (lambda: Trainer(1, on_batch_failure="ignore"), "'skip', 'retry'"),
                          (lambda: Trainer(1, max_retries=-1), "max_retries=-1"),
                          (lambda: Trainer(1, batch_timeout=0), "batch_timeout=0"),
                          (lambda: Trainer(1, max_failed_fraction=1.5), "1.5"), (lambda: Trainer(1, max_hung_workers=-1), "-1")]:
        with pytest.raises(ValueError, match=message):
            make()
    assert repr(Local(3, 2)) == "Local(sync_every=3, n_models=2, average_state=True)" and isinstance(Shard(), Strategy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Trainer(1, strategy="auto")._enabled and not Trainer(1, strategy="serial")._enabled
