"""Checkpoints and callbacks: the same bits as without a stop; order of calls; errors leave everything usable."""
import copy
import errno
import hashlib
import logging
import os
import signal
import threading

import numpy as np
import pytest
from small import classification, in_thread, write_zip

from tinydl import AccuracyEvaluator, Model, Trainer, data, losses, nn, optim
from tinydl.callbacks import Callback, Checkpoint, EarlyStopping, LearningRate
from tinydl.parallel.strategies import Auto, Group, Local, Serial, Shard
from tinydl.serialization import read_arrays

pytestmark = pytest.mark.usefixtures("eager_auto")


def digest(t):
    state = b"".join(t.optimizer.state[k].tobytes() for k in sorted(t.optimizer.state))
    return hashlib.sha256(t.model.params.tobytes() + t.model.statistics.tobytes() + state).hexdigest(), t.optimizer.t, t.epoch


def trainer(kind=data.ArrayDataset, strategy=None, threads=2, epochs=3, n=101, seed=7, optimizer=None, **options):
    x, y = classification(n)
    t = Trainer(epochs, strategy=strategy or Group(3), enable_parallel=True, thread_count=threads, seed=seed, **options)
    model = Model(nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)), seed=3)
    t.init(kind(x, y, 8), model, losses.SoftmaxCrossEntropy(), optimizer or optim.Adam(0.01))
    return t


class StopAt(Callback):
    """Ends training at the first update from number `at` on of epoch `epoch`, by stop, Ctrl-C or an exception."""

    every = 1

    def __init__(self, epoch, at, how):
        self.place, self.how = (epoch, at), how

    def on_update(self, trainer, updates):
        if self.place and trainer.epoch + 1 == self.place[0] and updates >= self.place[1]:
            self.place = None
            if self.how == "stop":
                trainer.stop()
            elif self.how == "interrupt":
                signal.raise_signal(signal.SIGINT)
            else:
                raise RuntimeError("callback")


@pytest.mark.parametrize("strategy", [Serial(), Group(3), Shard(3), Local(2, 3), Auto(3), Auto(shards_per_batch=3)])
@pytest.mark.parametrize("how", ["stop", "interrupt", "raise"])
def test_the_same_bits_after_a_resume_at_another_thread_count(driver, strategy, how, tmp_path):
    whole = trainer(driver, strategy)
    whole.train()
    first = trainer(driver, strategy, 3, callbacks=[StopAt(2, 2, how)])
    errors = {"stop": (), "interrupt": (KeyboardInterrupt,), "raise": (RuntimeError,)}[how]
    if errors:
        with pytest.raises(errors):
            first.train()
    else:
        assert first.train().interrupted
    first.save_checkpoint(tmp_path / "c")
    assert first.epoch == 1 and 0 < first.optimizer.t < whole.optimizer.t
    for threads in (1, 2, 5):
        second = trainer(driver, strategy, threads, epochs=2, seed=99, optimizer=optim.Adam(0.5))
        second.load_checkpoint(tmp_path / "c")
        second.train()
        assert digest(second) == digest(whole)
        assert second.history["loss"] == whole.history["loss"] and second.history["samples"] == [101] * 3
        second.shutdown()
    first.max_epochs = 2        # and without the file
    first.train()
    assert digest(first) == digest(whole)
    first.shutdown()
    whole.shutdown()


def resumed(path, strategy, threads, **options):
    t = trainer(data.ArrayDataset, strategy, threads, epochs=1, **options)
    t.load_checkpoint(path)
    return t


@pytest.mark.parametrize("before, after, says", [
    (("shard", 2), ("shard", 3), "1 batch an update, each in 2 parts; training goes on with 1 batch an update, each in 3 parts"),
    (("group", 2), ("shard", 2), "2 batches an update; training goes on with 1 batch an update, each in 2 parts"),
    (("local", 2), ("local", 3), "on 2 copies of the model averaged every 16; training goes on with 1 batch an update, on 3"),
    ((Local(2, 2), 2), (Local(4, 2), 2), "averaged every 2; training goes on with .* averaged every 4"),
    (("group", 1), ("shard", 1), None), (("shard", 2), ("shard", 2), None), (("shard", 2), ("auto", 3), None),
    (("auto", 2), ("shard", 2), None), (("group", 3), (Group(3), 2), None), (("local", 1), ("serial", 1), None),
    (("hogwild", 2), ("shard", 2), None), (("shard", np.int64(2)), ("shard", 2), None)])
def test_training_on_in_other_updates_than_the_checkpoint_warns_once(before, after, says, tmp_path):
    first = trainer(data.ArrayDataset, *before, epochs=1)
    first.simplified_parallel_train() if type(before[1]) is np.int64 else first.train()
    first.save_checkpoint(tmp_path / "c")
    second = resumed(tmp_path / "c", *after)
    second.save_checkpoint(tmp_path / "d")      # passes it on
    second.load_checkpoint(tmp_path / "d")
    if says:
        with pytest.warns(UserWarning, match=says):
            second.train()
    second.train()
    for t in (first, second):
        t.shutdown()


@pytest.mark.filterwarnings("error")        # also where pyproject.toml is not beside these tests
def test_a_checkpoint_says_how_the_last_updates_were_made(tmp_path):
    def saved(t):
        t.save_checkpoint(tmp_path / "saved")
        return t.progress.update_signature
    two, three = trainer(strategy="shard", epochs=1), trainer(strategy="shard", threads=3, epochs=1)
    assert saved(two) is None
    two.train()
    three.train()
    assert (saved(three), saved(two)) == ([1, 3], [1, 2])
    three.load_checkpoint(tmp_path / "saved")               # of two
    copied = copy.deepcopy(three)
    assert saved(three) == saved(copied) == [1, 2]
    three.callbacks = [StopAt(2, 0, "stop")]
    three.callbacks[0].on_epoch_start = lambda t, epoch: t.stop()
    assert three.train().interrupted and saved(three) == [1, 2]         # no update was made
    three.callbacks = []
    with pytest.raises(UserWarning, match="3 parts"):       # an error here: so none was made now
        three.train()
    assert saved(three) == [1, 2]
    with pytest.warns(UserWarning, match="3 parts"):
        three.train()
    assert saved(three) == [1, 3]
    three.single_thread_train()
    assert saved(three) == [1, 1]
    local = trainer(strategy=Local(2, 2), callbacks=[StopAt(1, 2, "interrupt")])
    with pytest.raises(KeyboardInterrupt):
        local.train()
    assert saved(local) == [1, 1, 2, 2, 1]
    for t in (two, three, local, copied):
        t.shutdown()


def test_from_the_end_of_an_epoch_and_with_failures(tmp_path):
    class Fails(nn.PythonLayer):
        def forward(self, x):
            if (x[:, 0] > 4).any():
                raise RuntimeError("large")
            return x, None

        def backward(self, dy, saved):
            return dy

    def make(epochs):
        x, y = classification(101)
        t = Trainer(epochs, strategy="group", batches_per_update=2, thread_count=2, seed=1, max_failed_fraction=1)
        t.init(data.ArrayDataset(x, y, 8), Model(nn.Sequential(Fails(), nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(),
               optim.Adam(0.01))
        return t
    whole, half, rest = make(4), make(2), make(2)
    whole.train()
    half.train()
    half.save_checkpoint(tmp_path / "c")
    rest.load_checkpoint(tmp_path / "c")
    rest.train()
    assert digest(rest) == digest(whole) and whole.history.failures
    assert rest.history.skipped_indices().tolist() == whole.history.skipped_indices().tolist()
    for t in (whole, half, rest):
        t.shutdown()


def test_what_does_not_fit_changes_nothing(tmp_path):
    t = trainer(epochs=1)
    t.train()
    t.save_checkpoint(tmp_path / "c")
    x, y = classification(101)
    others = {
        "optimizer": (data.ArrayDataset(x, y, 8), t.model, optim.SGD(0.1)),
        "batch_size": (data.ArrayDataset(x, y, 4), t.model, optim.Adam()),
        "weight": (data.ArrayDataset(x, y, 8), Model(nn.Sequential(nn.Linear(6, 3)), seed=0), optim.Adam()),
        "float32": (data.ArrayDataset(x, y, 8), Model(nn.Linear(6, 3), dtype="float64", seed=0), optim.Adam()),
    }
    for word, (d, model, optimizer) in others.items():
        other = Trainer(1, seed=5)
        other.init(d, model, losses.SoftmaxCrossEntropy(), optimizer)
        before = digest(other)
        with pytest.raises(ValueError, match=word):
            other.load_checkpoint(tmp_path / "c")
        assert digest(other) == before and other.seed == 5
    whole = (tmp_path / "c").read_bytes()
    (tmp_path / "half").write_bytes(whole[:len(whole) // 2])
    t.model.save(tmp_path / "model")
    for name in ("half", "model"):
        with pytest.raises(ValueError, match="not a checkpoint of tinydl"):
            t.load_checkpoint(tmp_path / name)
    with pytest.raises(RuntimeError, match="init"):
        Trainer(1).save_checkpoint(tmp_path / "d")
    t.shutdown()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, caplog):
    t = trainer(epochs=1, callbacks=[Checkpoint(tmp_path / "c")])
    t.train()
    before = (tmp_path / "c").read_bytes()

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as m, caplog.at_level(logging.WARNING, "tinydl"):
        m.setattr(os, "fsync", full)
        t.train()
    assert any("No space left" in r.message for r in caplog.records)
    assert (tmp_path / "c").read_bytes() == before and os.listdir(tmp_path) == ["c"] and t.epoch == 2
    t.shutdown()


def test_ctrl_c_while_a_file_is_written_leaves_nothing(tmp_path, monkeypatch):
    t = trainer(epochs=1, callbacks=[Checkpoint(tmp_path / "c")])

    def interrupted(fd):
        raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(os, "fsync", interrupted)
        for save in (t.train, lambda: t.model.save(tmp_path / "m")):
            with pytest.raises(KeyboardInterrupt):
                save()
    assert t.epoch == 1 and not os.listdir(tmp_path)
    t.max_epochs = 0
    t.train()           # the callback is called again
    assert os.listdir(tmp_path) == ["c"]
    t.shutdown()


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_does_not_stop_training(error, tmp_path, monkeypatch, caplog):
    t = trainer(epochs=2, callbacks=[Checkpoint(tmp_path / "c")])

    def refuse(*args, **options):
        raise OSError(error, os.strerror(error))
    monkeypatch.setattr(os, "open", refuse)
    with caplog.at_level(logging.WARNING, "tinydl"):
        assert t.train()["epoch"] == [1, 2]
    assert sum(os.strerror(error) in r.message for r in caplog.records) == 2 and not os.listdir(tmp_path)
    t.shutdown()


# ------------------------------------------------------------------ callbacks
class Notes(Callback):
    def __init__(self, every=None, fail=None):
        self.every, self.fail, self.calls = every, fail, []

    def _note(self, *call):
        self.calls.append(call)
        if self.fail == call[0]:
            self.fail = None
            raise RuntimeError(f"callback {call[0]}")

    def on_train_start(self, trainer):
        self._note("train start")

    def on_epoch_start(self, trainer, epoch):
        self._note("epoch start", epoch)

    def on_update(self, trainer, updates):
        self._note("update", updates)

    def on_epoch_end(self, trainer, record):
        self._note("epoch end", record.epoch)

    def on_train_end(self, trainer):
        self._note("train end")


def test_order_of_calls_and_no_change_of_bits(driver):
    whole = trainer(driver, epochs=2)
    whole.train()
    notes, often = Notes(2), Notes(3)
    t = trainer(driver, epochs=2, callbacks=[notes, often])
    t.train()
    assert digest(t) == digest(whole)
    assert notes.calls == [("train start",), *[c for e in (1, 2) for c in (
        ("epoch start", e), ("update", 2), ("update", 4), ("epoch end", e))], ("train end",)]     # 13 batches, 5 updates
    assert [c for c in often.calls if c[0] == "update"] == [("update", 3)] * 2
    t.shutdown()
    whole.shutdown()


@pytest.mark.parametrize("where", ["train start", "epoch start", "update", "epoch end", "train end"])
def test_a_callback_that_raises_leaves_training_usable(driver, where):
    whole = trainer(driver, epochs=2)
    whole.train()
    t = trainer(driver, epochs=2, callbacks=[Notes(2, where)])
    with pytest.raises(RuntimeError, match=f"callback {where}"):
        t.train()
    t.max_epochs = 2 - t.epoch
    t.train()
    assert digest(t) == digest(whole)
    t.shutdown()
    whole.shutdown()


def test_a_callback_may_configure_and_ask(driver):
    class Change(Callback):
        every = 1

        def on_update(self, trainer, updates):
            trainer.configure_parallel_training(True, 1 + updates % 3)
            assert trainer.stats().updates and trainer.is_parallel_training_enabled()
            with pytest.raises(RuntimeError, match="train while"):
                trainer.train()
    whole = trainer(driver)
    whole.train()
    t = trainer(driver, callbacks=[Change()])
    t.train()
    assert digest(t) == digest(whole) and t.history["samples"] == [101] * 3
    t.shutdown()
    whole.shutdown()


def test_a_checkpoint_while_training_is_saved_by_the_training_thread_only(driver, tmp_path):
    class Saves(Callback):
        def on_epoch_end(self, trainer, record):
            with pytest.raises(RuntimeError, match="save_checkpoint while this trainer is training"):
                in_thread(lambda: trainer.save_checkpoint(tmp_path / "other"))
            trainer.save_checkpoint(tmp_path / "own")
    with trainer(driver, callbacks=[Saves()]) as t:
        t.train()
        in_thread(lambda: t.save_checkpoint(tmp_path / "after"))
    assert {p.name for p in tmp_path.iterdir()} == {"own", "after"}


def test_shutdown_from_a_callback_ends_training_and_it_can_go_on(driver):
    class End(Callback):
        every = 2

        def on_update(self, trainer, updates):
            self.every = None
            assert trainer.shutdown(5)
    whole = trainer(driver, epochs=2)
    whole.train()
    t = trainer(driver, epochs=2, callbacks=[End()])
    assert t.train().interrupted and t.epoch == 0 and t.optimizer.t == 2
    t.train()
    assert digest(t) == digest(whole)
    t.shutdown()
    whole.shutdown()


def test_early_stopping_and_learning_rate():
    x, y = classification(120)
    parts = data.ArrayDataset(x, y, 8).split(0.5, 0.5, 0.0, seed=0)

    class Seen(Callback):
        def __init__(self):
            self.states, self.values = [], []

        def on_epoch_end(self, trainer, record):
            self.states.append(trainer.model.params.tobytes())
            self.values.append(record.validation_loss)
    seen = Seen()
    early = EarlyStopping(patience=2, restore_best=True)
    t = Trainer(60, evaluator=AccuracyEvaluator(), seed=0, callbacks=[seen, early, LearningRate(lambda e: 0.3 / e)])
    t.init(parts, Model(nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3)), seed=0), losses.SoftmaxCrossEntropy(),
           optim.Adam(1))
    t.train()
    best = int(np.argmin(seen.values))
    assert len(seen.values) == best + 3 < 60 and early.best_epoch == best + 1
    assert t.model.params.tobytes() == seen.states[best]
    assert t.history["learning_rate"] == [0.3 / e for e in range(1, len(seen.values) + 1)]
    t.evaluator = None
    t.callbacks = [EarlyStopping("accuracy")]       # behind the back of init
    with pytest.raises(ValueError, match="no 'accuracy'"):
        t.train()


class Counts(Callback):
    """Remembers numbers and arrays."""

    def __init__(self):
        self.epochs, self.sums = [], np.zeros(2)

    def on_epoch_end(self, trainer, record):
        self.epochs.append(record.epoch)
        self.sums += [record.loss, record.samples]

    def state_dict(self):
        return {"epochs": self.epochs, "sums": self.sums}

    def load_state_dict(self, state):
        self.epochs, self.sums = list(state["epochs"]), state["sums"]


class Others(Counts):
    pass


def test_a_checkpoint_keeps_what_callbacks_remember(tmp_path):
    first, second, other = Counts(), Counts(), Others()
    t = trainer(callbacks=[first, Checkpoint(tmp_path / "c"), other, second])
    t.train()
    assert first.epochs == [1, 2, 3]
    again = [Others(), LearningRate(lambda epoch: 0.1), Counts(), Counts()]
    resumed = trainer(epochs=0, callbacks=again)
    resumed.load_checkpoint(tmp_path / "c")
    assert [c.epochs for c in again if isinstance(c, Counts)] == [[1, 2], [1, 2, 3], [1, 2]]     # saved before two of them heard
    resumed.train()                                                                             # who do so now
    assert [c.epochs for c in again if isinstance(c, Counts)] == [[1, 2, 3]] * 3
    assert again[0].sums.tobytes() == first.sums.tobytes()
    t.shutdown()
    resumed.shutdown()


def test_callbacks_that_are_not_the_checkpoints(tmp_path):
    t = trainer(epochs=1, callbacks=[Counts(), Others(), Checkpoint(tmp_path / "d")])
    t.train()
    t.save_checkpoint(tmp_path / "c")
    fewer, none = [Others()], []
    for callbacks, lost in ((fewer, "Counts"), (none, "Counts, Others")):
        resumed = trainer(callbacks=callbacks)
        with pytest.warns(UserWarning, match=f"the checkpoint's {lost} is not among the trainer's callbacks"):
            resumed.load_checkpoint(tmp_path / "c")
        resumed.shutdown()
    assert fewer[0].epochs == [1]
    t.shutdown()


def test_early_stopping_of_another_figure_begins_anew(tmp_path):
    x, y = classification(101)
    parts = data.ArrayDataset(x, y, 8).split(0.5, 0.5, 0.0)

    def made(*arguments, **options):
        t = Trainer(2, evaluator=AccuracyEvaluator(), seed=0, callbacks=[EarlyStopping(*arguments, **options)])
        t.init(parts, Model(nn.Linear(6, 3), seed=0), losses.SoftmaxCrossEntropy(), optim.Adam())
        return t, t.callbacks[0]
    t, early = made()
    t.train()
    t.save_checkpoint(tmp_path / "c")
    other, its = made("accuracy", highest=True)
    with pytest.warns(UserWarning, match=r"EarlyStopping\('accuracy', highest=True\) begins anew"):
        other.load_checkpoint(tmp_path / "c")
    assert its.best is None
    other, its = made(restore_best=True)
    with pytest.warns(UserWarning, match=f"lacks the parameters of the best epoch so far, {early.best_epoch};"):
        other.load_checkpoint(tmp_path / "c")
    assert (its.best, its.best_epoch, its.best_state) == (early.best, early.best_epoch, None)


def test_a_checkpoint_of_the_first_version(tmp_path):
    """It has nothing of callbacks."""
    whole = trainer(epochs=2)
    whole.train()
    first = trainer(epochs=1, callbacks=[Checkpoint(tmp_path / "new")])
    first.train()
    meta, arrays = read_arrays(tmp_path / "new", "checkpoint")
    for name in ("callbacks", "left", "interrupted"):
        del meta[name]
    write_zip(tmp_path / "old", "checkpoint.json", {**meta, "version": 1}, arrays)
    resumed = trainer(epochs=1, callbacks=[LearningRate(lambda epoch: 0.01)])
    resumed.load_checkpoint(tmp_path / "old")
    resumed.train()
    assert digest(resumed) == digest(whole)
    other = trainer(callbacks=[Counts()])
    with pytest.warns(UserWarning, match="earlier version, which kept nothing of callbacks: Counts begin"):
        other.load_checkpoint(tmp_path / "old")
    for t in (whole, first, resumed, other):
        t.shutdown()


def test_door():
    class Never(Callback):
        every = 0
    for make, error, message in [(lambda: Trainer(1, callbacks=[print]), TypeError, "must be a Callback"),
                                 (lambda: Trainer(1, callbacks=[Never()]), ValueError, r"Never\.every=0"),
                                 (lambda: EarlyStopping(patience=0), ValueError, "patience=0"),
                                 (lambda: Checkpoint("c", 0), ValueError, "epochs=0")]:
        with pytest.raises(error, match=message):
            make()


def stop(number, frame):
    raise SystemExit(128 + number)


# a signal between open() and `with` leaves a file of the system, which limits are read from, to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_at_any_moment_loses_no_bit(driver, number, error):
    """Signals spread over several epochs: wherever one lands, training on gives the bits of a training without."""
    before = signal.signal(signal.SIGTERM, stop)
    try:
        signals_at_any_moment(driver, number, error)
    finally:
        signal.signal(signal.SIGTERM, before)


def signals_at_any_moment(driver, number, error):
    for i in range(12):
        t = trainer(driver, epochs=10**6)
        ended = threading.Event()

        def send(ended=ended):
            signal.raise_signal(number)
            if not ended.wait(2):       # Python may lose one: where it lands in a weak reference's callback
                signal.raise_signal(number)
        timer = threading.Timer(0.005 + i * 0.0017, send)
        with pytest.raises(error):
            timer.start()           # on a busy machine it may be over before this returns
            t.train()
        ended.set()
        timer.join()
        t.max_epochs = 1
        assert not t.train().interrupted
        whole = trainer(driver, epochs=t.epoch)
        whole.train()
        assert digest(t) == digest(whole) and t.history["samples"] == [101] * len(t.history)
        t.shutdown()
        whole.shutdown()


def test_a_copy_goes_on_with_the_same_bits():
    t = trainer(epochs=1)
    t.train()
    other = copy.deepcopy(t)
    t.train()
    other.train()
    assert digest(other) == digest(t)       # random masks too
    t.shutdown()
    other.shutdown()


def test_what_callbacks_remember_keeps_no_file_in_memory(tmp_path):
    parts = data.ArrayDataset(*classification(101), 8).split(0.8, 0.2, 0.0, seed=0)

    def made():
        early = EarlyStopping(patience=9, restore_best=True)
        t = Trainer(2, seed=0, callbacks=[early, StopAt(2, 1, "stop")])
        t.init(parts, Model(nn.Linear(6, 3), seed=0), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        return t, early
    t, _ = made()
    t.train()
    t.save_checkpoint(tmp_path / "c")
    t, early = made()
    t.load_checkpoint(tmp_path / "c")
    assert early.best_state and all(a.base is None for a in early.best_state.values())
