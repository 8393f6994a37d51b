"""Trainer: configuration, state, Ctrl-C, and what a person sees."""
import copy
import errno
import io
import json
import logging
import os
import pickle
import signal
import threading

import pytest
from every_strategy import At13, Fails, left_out, marked, raising, with_layer
from small import classification, mlp, trainer, workers

from tinydl import AccuracyEvaluator, Model, Monitor, Trainer, data, losses, nn, optim, parallel
from tinydl.callbacks import Callback, EarlyStopping
from tinydl.parallel import runtime, strategies
from tinydl.parallel.execution import native_driver, python_driver
from tinydl.parallel.execution.epoch import Setting
from tinydl.parallel.workers.pool import Task
from tinydl.parallel.workers.signals import uninterrupted


def test_state_follows_configuration():
    t = trainer()
    assert not t.is_parallel_training_enabled() and t.get_parallel_thread_count() == 1
    t.configure_parallel_training(True, 3)
    assert t.is_parallel_training_enabled() and t.get_parallel_thread_count() == 3
    assert sum(th.name.startswith("tinydl-worker") for th in threading.enumerate()) == 3
    t.configure_parallel_training(True)
    assert t.get_parallel_thread_count() == parallel.recommended_thread_count(8, 64)
    t.configure_parallel_training(False)
    assert not t.is_parallel_training_enabled() and t.get_parallel_thread_count() == 1
    t.configure_parallel_training(True, 2)
    assert t.shutdown() is True and t.shutdown() is True
    assert not t.is_parallel_training_enabled()
    assert len(t.train()) == 2          # after shutdown: a new pool
    assert t.is_parallel_training_enabled()
    assert t.shutdown(timeout=5)


@pytest.mark.parametrize("options, threads", [
    ({"thread_count": 2}, 2), ({"thread_count": 1}, 1), ({}, 1), ({"thread_count": 2, "enable_parallel": False}, 1),
    ({"thread_count": 2, "strategy": "serial"}, 1), ({"thread_count": 3, "strategy": "shard"}, 3),
    ({"batches_per_update": 4}, None), ({"batches_per_update": 4, "enable_parallel": False}, 1)])
def test_a_thread_count_alone_trains_in_parallel(options, threads, monkeypatch):
    monkeypatch.setattr(runtime, "recommended_thread_count", lambda *sizes: 2)
    with trainer(**options) as t:
        t.train()
        if threads is None:         # as many as are recommended; updates are of as many batches as asked for
            assert t.optimizer.t == 4
            threads = 2
        assert (t.is_parallel_training_enabled(), t.get_parallel_thread_count()) == (threads > 1, threads)
        assert t.stats().mode == ("parallel" if threads > 1 else "serial")


def test_training_goes_on_from_there():
    whole = trainer(epochs=4)
    whole.train()
    parts = trainer(epochs=2)
    parts.train()
    history = parts.train()
    assert history["epoch"] == [1, 2, 3, 4] and parts.optimizer.t == 32
    assert whole.model.params.tobytes() == parts.model.params.tobytes()


def test_learns():
    t = trainer(600, epochs=30, evaluator=AccuracyEvaluator())
    h = t.train()
    assert h["loss"][-1] < 0.6 * h["loss"][0]
    assert t.evaluate()["accuracy"] > 0.85


def test_validation_each_epoch_and_best():
    x, y = classification(300)
    t = Trainer(5, evaluator=AccuracyEvaluator(), seed=0)
    t.init(data.ArrayDataset(x, y, 16).split(0.6, 0.2, 0.2, seed=1), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
    h = t.train()
    assert all(r.validation_loss is not None and r.accuracy is not None for r in h)
    assert t.monitor.best_accuracy == max(h["accuracy"])
    assert t.monitor.best_validation_loss == min(h["validation_loss"])
    assert set(t.evaluate()) == {"loss", "accuracy"}


def test_monitor_prints_logs_and_plots(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    t = trainer(monitor=Monitor(log))
    t.train()
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and out[0].startswith("epoch 1  loss ") and "samples/s" in out[0]
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]
    assert t.monitor.plot(tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_terminal_or_file_that_takes_no_lines_does_not_stop_training(error, monkeypatch, caplog):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(error, os.strerror(error))
    monkeypatch.setattr("sys.stdout", Full())
    t = trainer(monitor=Monitor())
    with caplog.at_level(logging.WARNING, "tinydl"):
        assert t.train()["epoch"] == [1, 2]
    assert [r.message for r in caplog.records if os.strerror(error) in r.message] == [caplog.records[0].message]


class Broken(io.StringIO):
    """A stream that cannot be written."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


CLOSED = io.StringIO()
CLOSED.close()


@pytest.mark.parametrize("stream", [Broken(BrokenPipeError()), Broken(UnicodeEncodeError("ascii", "é", 0, 1, "")), CLOSED, None])
@pytest.mark.parametrize("both", [False, True])
def test_output_that_nobody_can_read_does_not_stop_training(stream, both, monkeypatch, caplog):
    monkeypatch.setattr("sys.stdout", stream)
    if both:
        monkeypatch.setattr("sys.stderr", stream)
    t = trainer(monitor=Monitor())
    with caplog.at_level(logging.WARNING, "tinydl"):
        assert t.train()["epoch"] == [1, 2]
    assert [r.message[:12] for r in caplog.records] == ([] if stream is None else ["cannot print"])
    assert all(r.filename == "monitor.py" for r in caplog.records)


def test_a_figure_that_cannot_be_printed_or_logged_does_not_stop_training(tmp_path, caplog):
    class Odd(AccuracyEvaluator):
        def result(self):
            return {"odd": object()}
    t = Trainer(2, Monitor(tmp_path / "log"), Odd(), seed=0)
    set_ = data.ArrayDataset(*classification(32), 8)
    t.init(data.Split(set_, set_, None), mlp(6, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    with caplog.at_level(logging.WARNING, "tinydl"):
        assert len(t.train()) == 2
    assert [r.message.split(" (")[0] for r in caplog.records] == ["cannot print", f"cannot write {tmp_path / 'log'}"]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_log_whose_handler_fails_does_not_stop_training(threads, driver):
    """The books are kept, though the log of a failed batch goes nowhere."""
    class Fails13(logging.Handler):
        def emit(self, record):
            tried.append(record)
            raise BrokenPipeError
    tried, handler = [], Fails13()
    x, y = marked(64)
    logging.getLogger("tinydl").addHandler(handler)
    try:
        with Trainer(1, enable_parallel=threads > 0, thread_count=threads, seed=7) as t:
            t.init(driver(x, y, 8), with_layer(At13(raising(RuntimeError))), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
            t.train(shuffle=False)
            left_out(t, RuntimeError)
    finally:
        logging.getLogger("tinydl").removeHandler(handler)
    assert tried


@pytest.mark.parametrize("path", ["no/log", ".", "/dev/full"])
def test_a_log_that_cannot_be_written_does_not_stop_training(path, tmp_path, caplog):
    t = trainer(monitor=Monitor(tmp_path / path, quiet=True))       # no folder, a folder, a full disk
    with caplog.at_level(logging.WARNING, "tinydl"):
        assert len(t.train()) == 2
    assert sum("cannot write" in r.message for r in caplog.records) == 1


def test_second_train_at_once_gets_an_error():
    inside, go = threading.Event(), threading.Event()

    class Wait(Monitor):
        def start_epoch(self, epoch):
            inside.set()
            assert go.wait(10)
    t = trainer(monitor=Wait(quiet=True), epochs=1)
    first = threading.Thread(target=t.train)
    first.start()
    assert inside.wait(10)
    with pytest.raises(RuntimeError, match="while this trainer is training"):
        t.train()
    with pytest.raises(RuntimeError, match="init while"):
        t.init(t.data, t.model, t.loss, t.optimizer)
    go.set()
    first.join(10)
    assert len(t.history) == 1


def test_shutdown_while_training_ends_after_the_update_and_can_go_on():
    class Stop(Monitor):
        def progress(self, epoch, samples, loss):
            if epoch == 2:
                t.shutdown()
    x, y = classification(2000)
    kind = type("Batched", (data.ArrayDataset,), {})

    def make(monitor):
        t = Trainer(3, monitor, enable_parallel=True, thread_count=2, batches_per_update=2, seed=0)
        t.init(kind(x, y, 8), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        return t
    t = make(Stop(quiet=True))
    h = t.train()
    assert len(h) == 1 and h.interrupted and t.optimizer.t == 125 + 1
    t.monitor.progress = lambda *a: None
    t.max_epochs = 2
    t.train()
    t.shutdown()
    with make(None) as whole:
        whole.train()
    assert t.history["samples"] == [2000] * 3
    assert whole.model.params.tobytes() == t.model.params.tobytes()


class RaisesInterrupt(nn.PythonLayer):
    """Ctrl-C in the middle of a forward pass: at the sample whose first feature is -1."""

    def forward(self, x):
        if (x[:, 0] == -1).any() and not RaisesInterrupt.done:
            RaisesInterrupt.done = True
            signal.raise_signal(signal.SIGINT)
            for _ in range(10_000):     # let the interpreter notice
                pass
        return x, None

    def backward(self, dy, saved):
        return dy


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_validation_that_ends_early_is_done_again(error, tmp_path):
    class Fails(AccuracyEvaluator):
        times = 2

        def update(self, outputs, targets):
            super().update(outputs, targets)
            if t.epoch == 2 and self.times:
                self.times -= 1
                if error is KeyboardInterrupt:
                    signal.raise_signal(signal.SIGINT)
                else:
                    raise error
    x, y = classification(300)

    def make(evaluator):
        t = Trainer(3, Monitor(tmp_path / "log", quiet=True), evaluator, seed=0)
        t.init(data.ArrayDataset(x, y, 16).split(0.6, 0.4, 0, seed=1), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(),
               optim.Adam(0.01))
        return t
    t = make(Fails())
    whole = make(AccuracyEvaluator())
    whole.train()
    for _ in range(2):          # it may fail again
        with pytest.raises(error):
            t.train()
        assert t.epoch == 2 and t.history["epoch"] == [1, 2] and t.history["loss"] == whole.history["loss"][:2]
        assert t.history["accuracy"] == [whole.history["accuracy"][0], None] and t.history["validation_loss"][1] is None
    t.max_epochs = 1
    t.train()
    for name in ("epoch", "loss", "accuracy", "validation_loss"):
        assert t.history[name] == whole.history[name]
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    want = [*enumerate(whole.history["accuracy"], 1)]
    assert sorted((r["epoch"], r["figures"]["accuracy"]) for r in logged) == sorted(want * 2)
    assert t.model.params.tobytes() == whole.model.params.tobytes()


@pytest.mark.parametrize("mode", ["simplified_parallel_train", "single_thread_train"])
def test_training_in_the_calling_thread_starts_no_pool(mode):
    """Also where parallel training is configured in the middle of it: the pool begins when it is over."""
    seen = []

    class Change(Callback):
        every = 1

        def on_update(self, trainer, updates):
            trainer.configure_parallel_training(True, 3)
            seen.append(workers())
    with trainer(callbacks=[Change()]) as t:
        getattr(t, mode)()
        assert seen == [0] * t.optimizer.t and t.stats().thread_count == 1
        assert t.is_parallel_training_enabled() and t.get_parallel_thread_count() == workers() == 3


def test_a_configuration_from_the_last_callback_holds():
    class Change(Callback):
        def on_train_end(self, trainer):
            trainer.configure_parallel_training(True, 3)
    with trainer(callbacks=[Change()]) as t:
        t.train()
        assert t.is_parallel_training_enabled() and t.get_parallel_thread_count() == workers() == 3


def test_a_shutdown_while_training_leaves_no_pool_of_an_earlier_request():
    class Change(Callback):
        every = 1

        def on_update(self, trainer, updates):
            trainer.configure_parallel_training(True, 3)
            trainer.shutdown()
    t = trainer(callbacks=[Change()], enable_parallel=True, thread_count=2)
    assert t.train().interrupted and workers() == 0


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("native", [True, False])
def test_ctrl_c_leaves_the_last_finished_update_and_training_can_go_on(threads, native):
    x, y = classification(64)
    x[:, 0] = 0
    x[21, 0] = -1
    kind = data.ArrayDataset if native else type("Batched", (data.ArrayDataset,), {})

    def make():
        t = Trainer(2, enable_parallel=threads > 0, thread_count=threads, batches_per_update=2, seed=0)
        t.init(kind(x, y, 4), Model(nn.Sequential(RaisesInterrupt(), nn.Linear(6, 3)), seed=0),
               losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        return t
    RaisesInterrupt.done = True
    with make() as whole:
        whole.train()
    RaisesInterrupt.done = False
    with make() as t:
        with pytest.raises(KeyboardInterrupt):
            t.train(shuffle=True)
        assert t.optimizer.t == t.parallel_stats().updates < 16 if threads else 32
        t.train()
        t.max_epochs = 1
        while t.epoch < 2:
            t.train()
    assert t.history["samples"][:2] == [64, 64]
    if t.epoch == 2:
        assert whole.model.params.tobytes() == t.model.params.tobytes()


def test_the_history_says_that_ctrl_c_ended_training():
    class Presses(Callback):
        every = 3

        def on_update(self, trainer, updates):
            if trainer.optimizer.t == 3:
                signal.raise_signal(signal.SIGINT)
    t = trainer(callbacks=[Presses()])
    with pytest.raises(KeyboardInterrupt):
        t.train()
    assert t.history.interrupted
    assert not t.train().interrupted


def test_the_history_has_epochs_by_their_places():
    t = trainer()
    history = t.train()
    assert history[-1] is history.records[-1] and history[-1].epoch == len(history) and history[:2] == history.records[:2]
    with pytest.raises(IndexError):
        history[len(history)]


def test_all_callbacks_hear_that_training_ends():
    told = []

    class Ends(Monitor):
        def end_training(self):
            told.append("monitor")
            raise ZeroDivisionError

    class End(Callback):
        def on_train_end(self, trainer):
            told.append(self)
            raise LookupError
    ends = [End(), End()]
    t = trainer(monitor=Ends(quiet=True), callbacks=ends)
    with pytest.raises(ZeroDivisionError):
        t.train()
    assert told == ["monitor", *ends] and t.epoch == 2
    told.clear()
    with pytest.raises(KeyboardInterrupt), uninterrupted() as held:
        signal.raise_signal(signal.SIGINT)
        t._tell_that_it_ends(held)
    assert told == ["monitor", *ends]


def test_ctrl_c_as_training_begins_or_ends_leaves_the_trainer_free():
    class Presses:
        """The trainer's lock; Ctrl-C comes where the turn has just been taken, or is just about to be given back."""

        def __init__(self, t, taking):
            self.t, self.lock, self.taking = t, t.runtime.lock, taking

        def __enter__(self):
            self.lock.acquire()
            self.press(self.taking is False and self.t.epoch == 1)

        def __exit__(self, *exception):
            self.lock.release()
            self.press(self.taking is True and self.t.runtime.call is not None)

        def press(self, now):
            if now:
                self.taking = None
                signal.raise_signal(signal.SIGINT)
    for taking, epochs in ((True, 0), (False, 1)):
        t = trainer(epochs=1)
        t.runtime.lock = Presses(t, taking)
        with pytest.raises(KeyboardInterrupt) as held:      # its traceback holds all frames
            t.train()
        assert t.epoch == epochs
        t.train()
        assert t.epoch == epochs + 1 and held is not None


@pytest.mark.parametrize("kind", [data.ArrayDataset, type("Batched", (data.ArrayDataset,), {})])
@pytest.mark.parametrize("strategy", ["group", "local"])
def test_ctrl_c_does_not_come_inside_a_wait(kind, strategy, monkeypatch):
    """An exception there may leave the lock of what is waited for locked for ever."""
    real, begun, ended = Task.wait, [], []

    def wait(task, timeout=None):
        begun.append(task)
        if len(begun) == 1:
            signal.raise_signal(signal.SIGINT)
        done = real(task, timeout)
        ended.append(task)
        return done
    monkeypatch.setattr(Task, "wait", wait)
    x, y = classification(64)
    with Trainer(1, strategy=strategy, enable_parallel=True, thread_count=2, seed=0) as t:
        t.init(kind(x, y, 4), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        with pytest.raises(KeyboardInterrupt):
            t.train()
    assert ended == begun


def test_a_copy_starts_threads_when_it_trains():
    with trainer(enable_parallel=True, thread_count=2) as t:
        copies = copy.deepcopy(t), pickle.loads(pickle.dumps(t))
        assert workers() == 2 and not any(k.is_parallel_training_enabled() for k in copies)
        with copies[0] as k:
            k.train()
            assert workers() == 4 and k.is_parallel_training_enabled()


def test_copy_and_pickle_drop_the_pool():
    t = trainer(enable_parallel=True, thread_count=2)
    t.train()
    for k in (copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
        assert k.model.params.tobytes() == t.model.params.tobytes() and k.epoch == 2
        k.train()
        assert k.history["epoch"] == [1, 2, 3, 4]
        k.shutdown()
    t.train()
    assert k.model.params.tobytes() == t.model.params.tobytes()
    t.shutdown()


def test_a_shallow_copy_shares_the_model_and_leaves_the_trainer_alone():
    with trainer(enable_parallel=True, thread_count=2) as t:
        t.train()
        updates = t.stats().updates
        k = copy.copy(t)
        k.configure_parallel_training(False)
        assert k.model is t.model and k.epoch == 2 and updates and t.stats().updates == updates
        assert t.is_parallel_training_enabled() and not k.is_parallel_training_enabled()


@pytest.mark.parametrize("make, error, message", [
    (lambda: Trainer(-1), ValueError, "max_epochs=-1"), (lambda: Trainer(1, thread_count=-1), ValueError, "thread_count=-1"),
    (lambda: Trainer(1, thread_count=10**6), ValueError, "1000000"), (lambda: Trainer(1, thread_count=1.5), TypeError, "1.5"),
    (lambda: Trainer(1, batches_per_update=0), ValueError, "batches_per_update=0"),
    (lambda: Trainer(1).train(), RuntimeError, "init"),
    (lambda: Trainer(1, shutdown_timeout=-1), ValueError, "-1"), (lambda: Trainer(1).evaluate(), RuntimeError, "init"),
    (lambda: Trainer(1).init(1, 2, 3, 4), TypeError, "dataset must be a Dataset"),
])
def test_door(make, error, message):
    with pytest.raises(error) as e:
        make()
    assert message in str(e.value)


def test_init_that_fails_changes_nothing():
    t = trainer()
    old = t.data, t.model
    with pytest.raises(ValueError, match="last axis must be 5"):
        t.init(t.data, mlp(5, 3), t.loss, t.optimizer)
    with pytest.raises(ValueError, match="2 outputs"):
        t.init(t.data, mlp(6, 2), t.loss, t.optimizer)
    assert (t.data, t.model) == old
    t.train()


def test_each_init_begins_anew():
    """As for the next fold of a cross-validation: nothing of the one before is left, and its history stays as it was."""
    x, y = classification(120)
    good, bad = data.ArrayDataset(x[:60], y[:60], 8), data.ArrayDataset(x[60:], y[60:], 8)
    bad.x[3, 0] = 99
    parts = [data.Split(good, data.ArrayDataset(x[60:], y[60:], 8).subset(range(10, 60)), None)]
    parts.insert(0, parts[0]._replace(train=bad))

    def made():
        return Trainer(4, Monitor(quiet=True), AccuracyEvaluator(), seed=0, max_failed_fraction=1,
                       callbacks=[EarlyStopping(patience=9, restore_best=True)])

    def begin(t, fold):
        t.init(parts[fold], with_layer(Fails(99)), losses.SoftmaxCrossEntropy(), optim.Adam(0.1 if fold else 0.001))

    def seen(t):
        early = t.callbacks[0]
        return ([(r.epoch, r.loss, r.validation_loss, r.figures, r.failed_batches) for r in t.history], len(t.history.failures),
                t.history.interrupted, t.monitor.best_loss, t.monitor.best_validation_loss, t.monitor.best_accuracy,
                t.history.skipped_indices().tolist(), early.best, early.best_epoch)
    t, fresh = made(), made()
    begin(t, 0)
    fresh_seen = seen(t)
    first = t.train()
    assert len(first.failures) == 4
    t.callbacks[0].stopped = True       # as if it had ended that training
    begin(t, 1)
    assert seen(t) == fresh_seen and len(first) == len(first.failures) == 4
    begin(fresh, 1)
    assert t.train() is t.history is not first and fresh.train()
    assert seen(t) == seen(fresh) and t.model.params.tobytes() == fresh.model.params.tobytes()


def test_init_that_ends_early_is_whole(monkeypatch):
    """The strategy is the last to hear of what is trained, and is somebody's Python."""
    def interrupted(self, resources):
        raise KeyboardInterrupt
    t = trainer(enable_parallel=True, thread_count=2)
    small = data.ArrayDataset(*classification(16), 8)
    with monkeypatch.context() as m:
        m.setattr(type(t.strategy), "forget", interrupted)
        with pytest.raises(KeyboardInterrupt):
            t.init(small, mlp(6, 3), t.loss, optim.SGD(0.1))
    with t:
        assert t.train()["samples"] == [16, 16] and t.data.train is small and t.optimizer.t == 2


def test_stats_text():
    t = trainer(enable_parallel=True, thread_count=2)
    t.train()
    t.shutdown()
    text = parallel.format_parallel_stats(t.parallel_stats())
    assert "16 dispatched = 16 done + 0 retried + 0 skipped + 0 failed" in text and "parallel, strategy group, 2 threads" in text


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("kind", [data.ArrayDataset, type("Batched", (data.ArrayDataset,), {})])
def test_profile_names_operations_and_changes_nothing(threads, kind, tmp_path):
    x, y = classification(64)
    with Trainer(1, seed=0, enable_parallel=threads > 0, thread_count=threads) as t:
        t.init(kind(x, y, 4), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01))
        before = t.model.params.tobytes()
        p = t.profile(5)
        assert t.model.params.tobytes() == before and t.optimizer.t == 0 and not t.history.records
    k = max(1, threads)
    assert (p.updates, p.batches, p.samples, len(p.events)) == (5, 5 * k, 20 * k, k)
    assert sum(map(len, p.events)) == 5 * k * len(p.plan.ops)
    assert all((e[:, 2] >= e[:, 1]).all() for e in p.events)
    assert "matmul + relu" in p.table() and "average, update, waiting" in p.table()
    p.save_trace(tmp_path / "t.json")
    rows = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert sum(r["ph"] == "X" for r in rows) == 5 * k * len(p.plan.ops)
    assert {r["args"]["name"] for r in rows if r["ph"] == "M"} == {f"worker {i}" for i in range(k)}


@pytest.mark.parametrize("kind", [data.ArrayDataset, type("Batched", (data.ArrayDataset,), {})])
@pytest.mark.parametrize("strategy, replicas, batches, updates", [
    (strategies.Group(3), 2, 12, 4), (strategies.Shard(2), 2, 4, 4), (strategies.Hogwild(), 2, 4, 4),
    (strategies.Local(3, n_models=3), 3, 12, 12), (strategies.Auto(batches_per_update=2), 1, 8, 4)])
def test_profile_runs_as_the_strategy_does(kind, strategy, replicas, batches, updates, monkeypatch):
    seen = []
    for driver in (native_driver, python_driver):
        monkeypatch.setattr(driver, "train", lambda *args, train=driver.train: (
            seen.extend(a.strategy for a in args if isinstance(a, Setting)), train(*args))[1])
    x, y = classification(64)
    with Trainer(1, seed=0, strategy=strategy, thread_count=2) as t:
        t.init(kind(x, y, 4), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01))
        before = t.model.params.tobytes()
        p = t.profile(4)
        assert t.model.params.tobytes() == before and t.optimizer.t == 0
    assert len(seen) == 2 and (seen == [strategy, strategy] or strategy.name == "auto")       # that one has another run for it
    assert (p.batches, p.updates, len(p.events), p.n_threads) == (batches, updates, replicas, min(2, replicas))
    pieces = batches * (2 if strategy.name == "shard" else 1)
    assert sum(map(len, p.events)) == pieces * len(p.plan.ops)
    assert 0 < sum((e[:, 2] - e[:, 1]).sum() for e in p.events) <= p.seconds * p.n_threads * 1e9
    assert "average, update, waiting" in p.table() and f"on {p.n_threads} thread" in p.table()


def test_profile_of_auto_has_the_threads_of_its_choice():
    x, y = classification(64)
    with Trainer(1, seed=0, strategy="auto", thread_count=4) as t:
        t.init(type("Batched", (data.ArrayDataset,), {})(x, y, 4), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        t.train()
        t.strategy._best, t.strategy._look_at = t.tuning[1], 1e9
        assert (t.tuning[1].n_threads, t.profile(2).n_threads) == (2, 2)
