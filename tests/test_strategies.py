"""Every strategy: its mathematics against serial training, and its bits. The table is every_strategy.py."""
import logging
import threading
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
from every_strategy import STEADY, TABLE, deep, digest, run
from small import DRIVERS, busy, classification, mlp, spoilt

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.data import LazyBatch
from tinydl.data.batch import cut_rows
from tinydl.parallel import ParallelFallbackWarning
from tinydl.parallel.execution import ledger
from tinydl.parallel.execution.updates import group_starts
from tinydl.parallel.strategies import Auto, Group, Hogwild, Local, Serial, Shard, Strategy
from tinydl.parallel.strategies.base import STRATEGIES

pytestmark = pytest.mark.usefixtures("eager_auto")


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


@pytest.mark.parametrize("parts, least", [(1, 1), (2, 1), (3, 1), (7, 1), (9, 1), (50, 1), (4, 2), (5, 2), (50, 4), (2, 20)])
@pytest.mark.parametrize("make", [
    lambda rows: data.Batch(np.arange(20.0)[:, None], np.arange(20), rows, 3, 5),
    lambda rows: data.Batch(np.arange(20.0)[rows, None], rows, None, 3, 5),
    lambda rows: LazyBatch(_fetched, rows, 3, 5), lambda rows: LazyBatch(_fetched, rows, 3, 5, divisible=True)])
def test_all_kinds_of_batches_are_cut_as_rows_are(make, parts, least):
    rows = np.arange(2, 11)
    pieces = cut_rows(np.array([0, 9]), parts, least)[0]
    cut = make(rows).cut(parts, least)
    assert len(cut) == max(1, min(parts, 9 // least)) and min(c.n for c in cut) >= min(least, 9)
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
        if how == "train":
            with pytest.raises(TypeError, match="cannot be copied: there is only one"):
                t.profile(1)


def test_auto_measures_and_says_so_once(caplog):
    x, y = classification(4000)
    strategy = Auto()
    with caplog.at_level(logging.INFO, "tinydl"):
        t = run(data.ArrayDataset(x, y, 8), mlp(6, 16, 3), strategy, 2, epochs=3)
    assert [(c.strategy.name, c.n_threads) for c in t.tuning] == [("serial", 1), ("shard", 2)]
    assert all(c.samples_per_second > 0 for c in t.tuning)
    assert t.history["samples"] == [4000] * 3 and t.optimizer.t == 1500
    t.init(t.data, t.model, t.loss, t.optimizer)
    assert not t.tuning and t.shutdown()
    said = [r.message for r in caplog.records if "strategy auto" in r.message]
    assert len(said) == 1 and said[0].count("samples/s") == 3 and said[0].startswith("strategy auto: s")


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
        assert Trainer(1, strategy="auto").runtime.enabled and not Trainer(1, strategy="serial").runtime.enabled


@pytest.mark.parametrize("name", TABLE)
def test_whoever_asks_while_a_run_is_booked_misses_nothing(name, monkeypatch):
    """What ran is in the statistics as running, or as done: it is booked in one step."""
    monkeypatch.setattr(ledger, "TICK", 30.0)
    count, asked = ledger.Ledger.count, []        # threads, what they saw, and what was booked when they asked

    def slowly(self, *args):
        def ask():
            s = t.stats()
            seen.extend([s.samples, s.done + s.under_way])
        seen = []
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(0.02)       # as long as it takes, where nothing keeps it
        count(self, *args)
        asked.append((thread, seen, [self.stats.samples, self.stats.done]))
    monkeypatch.setattr(ledger.Ledger, "count", slowly)
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7) as t:
        t.init(data.ArrayDataset(*classification(32), 8), deep(), losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01))
        t.train()
    for thread, seen, booked in asked:
        thread.join(20)
        assert np.all(np.array(seen) >= booked)
    assert booked == [32, t.stats().done]


def test_statistics_do_not_wait_for_a_log_that_hangs(caplog):
    """Failures are logged while they are booked, and the disk that takes them may be stuck."""
    inside, go_on, seen = threading.Event(), threading.Event(), []

    class Hangs(logging.Handler):
        def emit(self, record):
            inside.set()
            assert go_on.wait(60)

    def ask():
        assert inside.wait(60)
        seen.append(t.stats())
        go_on.set()
    log, handler = logging.getLogger("tinydl"), Hangs(logging.WARNING)
    log.addHandler(handler)
    try:
        x, y = classification(32)
        with Trainer(1, strategy="group", thread_count=2, seed=7) as t:
            t.init(spoilt(data.ArrayDataset, x, y, 8, [9]), deep(), losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01))
            thread = threading.Thread(target=ask)
            thread.start()
            training = threading.Thread(target=t.train)
            training.start()
            thread.join(20)
            answered = bool(seen)
            go_on.set()
            training.join(20)
            assert answered and not training.is_alive() and t.stats().skipped == 1
    finally:
        log.removeHandler(handler)


# ---------------------------------------------------------------------- batch norm
def normed():
    return Model(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), seed=0)


def normed_trainer(kind, n, batch_size, **options):
    t = Trainer(2, seed=0, **options)
    t.init(kind(*classification(n), batch_size), normed(), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    return t


@pytest.mark.parametrize("n, batch_size", [(8, 1), (1, 8)])
def test_batch_norm_of_single_samples_is_refused(driver, n, batch_size):
    with pytest.raises(ValueError, match=f"2 samples or more; the dataset's have 1 .batch_size={batch_size}, n_samples={n}"):
        normed_trainer(driver, n, batch_size)


@pytest.mark.parametrize("rows, pieces", [(3, [3]), (5, [2, 3]), (9, [2, 2, 2, 3]), (2, [2])])
def test_no_part_of_a_batch_is_too_small_for_batch_norm(driver, rows, pieces):
    with normed_trainer(driver, 3 * rows, rows, strategy="shard", shards_per_batch=4, thread_count=2) as t:
        t.train()
    assert not t.history.failures and (t.model.state_dict()["1.running_var"] > 0.1).all()
    assert t.stats().dispatched == 2 * 3 * len(pieces)
    assert np.diff(cut_rows(np.array([0, rows]), 4, 2)[0]).tolist() == pieces


def test_batch_norm_of_two_values_a_sample_takes_one_sample(driver):
    x, y = np.random.default_rng(0).standard_normal((8, 2, 6)), np.arange(8) % 3
    m = Model(nn.Sequential(nn.BatchNorm1d(6, axis=-1), nn.Flatten(), nn.Linear(12, 3)), seed=0)
    with Trainer(1, seed=0, strategy="shard", thread_count=2) as t:
        t.init(driver(x, y, 2), m, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        t.train()
    assert not t.history.failures and (m.state_dict()["0.running_var"] > 0.5).all()


@pytest.mark.parametrize("options", [{}, {"strategy": "group", "thread_count": 2}, {"strategy": "local", "thread_count": 2},
                                     {"strategy": "hogwild", "thread_count": 1}], ids=str)
def test_a_last_batch_of_one_value_fails_and_leaves_no_trace(driver, options):
    """Data that cannot be trained on are a failed batch: it is told, counted and left out. The sample is another each epoch."""
    with normed_trainer(driver, 33, 8, **options) as t:
        t.train()
    assert [(f.batch_index, f.n_samples) for f in t.history.failures] == [(4, 1)] * 2 and t.history["samples"] == [32, 32]
    assert all("BatchNorm trains on at least 2 values of each feature; this batch has 1" in str(f.exception)
               for f in t.history.failures)
    x, y = classification(33)
    whole = normed()
    with Trainer(2, seed=0, **options) as dropped:
        dropped.init(driver(x, y, 8, drop_last=True), whole, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        dropped.train()
    assert digest(t.model) == digest(whole)


def test_auto_does_not_cut_where_samples_are_mixed(eager_auto, driver):
    class Centred(nn.PythonLayer):
        mixes_samples = True

        def forward(self, x):
            return x - x.mean(0), None

        def backward(self, dy, saved):
            return dy - dy.mean(0)
    x, y = classification(64)
    for make in (normed, lambda: Model(nn.Sequential(Centred(), nn.Linear(6, 3)), seed=0)):
        trained = {}
        for strategy in ("serial", "auto"):
            with Trainer(3, seed=0, strategy=strategy, thread_count=3) as t:
                t.init(driver(x, y, 8), make(), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
                t.train()
            trained[strategy] = digest(t.model)
        assert trained["auto"] == trained["serial"] and [str(c.strategy) for c in t.tuning] == ["Serial()"]
