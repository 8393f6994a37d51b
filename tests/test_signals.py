"""Signals whose handlers raise, at the wrong moment: no bit is lost, none is lost itself, and each comes out as what it is."""
import dis
import signal
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from small import Batched, classification, wait_until

from tinydl import Model, Trainer, callbacks, data, epochs, losses, nn, optim
from tinydl._kernels import engine
from tinydl.data import StreamDataset
from tinydl.parallel import GradientAggregator
from tinydl.parallel.execution.ledger import Ledger
from tinydl.parallel.host.blas import BlasLimit
from tinydl.parallel.strategies import Group, Hogwild, Local, Serial, Shard
from tinydl.parallel.workers.signals import HELD, Opened, uninterrupted


class Stop(BaseException):
    """What the handlers here raise."""


@contextmanager
def handler(call, *numbers):
    before = [(n, signal.signal(n, call)) for n in numbers]
    try:
        yield
    finally:
        for n, old in before:
            signal.signal(n, old)


def stop(number, frame):
    raise Stop(number)


@pytest.fixture(autouse=True)
def handlers_are_as_before():
    before = [signal.getsignal(n) for n in HELD]
    yield
    assert [signal.getsignal(n) for n in HELD] == before


@pytest.mark.parametrize("number", HELD)
def test_held_until_the_end_or_a_hole(number):
    done = []
    with handler(stop, number), pytest.raises(Stop) as e:
        with uninterrupted() as held:
            signal.raise_signal(number)
            done.append("held")
            with pytest.raises(KeyboardInterrupt), held.open():
                done.append("never")
            signal.raise_signal(number)
            done.append("held again")
        done.append("never")
    assert done == ["held", "held again"] and e.value.args == (number,)


def test_a_handler_that_returns_is_called_in_a_hole_at_once_and_changes_nothing():
    seen = []
    with handler(lambda number, frame: seen.append(number), signal.SIGTERM):
        with uninterrupted() as held:
            signal.raise_signal(signal.SIGTERM)
            assert not seen
            held.let_in()
            assert len(seen) == 1
            with held.open():
                signal.raise_signal(signal.SIGTERM)
                assert len(seen) == 2
            signal.raise_signal(signal.SIGTERM)
        assert len(seen) == 3


def test_none_of_several_is_lost():
    seen = []

    def note(number, frame):
        seen.append(number)
        raise Stop(number)
    with handler(note, signal.SIGINT, signal.SIGTERM), pytest.raises(Stop):
        with uninterrupted() as held:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)
            with pytest.raises(KeyboardInterrupt):
                held.let_in()
            assert seen == [signal.SIGTERM]         # the first ends the hole
    assert seen == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]


def test_a_handler_may_set_another():
    """As one does that hears its signal once."""
    def once(number, frame):
        signal.signal(number, signal.SIG_IGN)
        raise Stop
    for where in ("hole", "end"):
        with handler(once, signal.SIGTERM):
            with pytest.raises(Stop), uninterrupted() as held, uninterrupted():
                signal.raise_signal(signal.SIGTERM)
                if where == "hole":
                    held.let_in()
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)


def test_an_interrupt_at_the_end_of_a_hole_finds_the_rest_held():
    """Between the last line of a hole and the first behind it; what is behind it may be books."""
    done = []

    def at_the_end(frame, event, arg):
        if frame.f_code is Opened.__exit__.__code__:
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), uninterrupted() as held:
        try:
            with held.open():
                sys.settrace(at_the_end)
        finally:
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)
            done.append("booked")
    assert done == ["booked"]


@pytest.mark.parametrize("lost", ["in __del__", "caught"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_hole_is_open_again_where_an_interrupt_was_lost(number, lost, monkeypatch):
    """Python loses what is raised in a `__del__`, and a callback may catch what it likes: the next one must come."""
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: ignored.append(args.exc_type))

    class Interrupted:
        def __del__(self):
            signal.raise_signal(number)
    done = []
    with handler(stop, number), pytest.raises(Stop), uninterrupted() as held:
        with pytest.raises(KeyboardInterrupt), held.open():
            if lost == "caught":
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(number)
            else:
                Interrupted()
                assert ignored == [KeyboardInterrupt]
            done.append("goes on")
            try:
                signal.raise_signal(number)
                done.append("never")
            finally:
                signal.raise_signal(number)         # one is on its way
                done.append("cleaned up")
        signal.raise_signal(number)
        done.append("held again")
    assert done == ["goes on", "cleaned up", "held again"]


def test_training_is_interrupted_by_the_second_signal_where_the_first_was_lost(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda args: None)

    class Interrupted:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    class Twice(callbacks.Callback):
        every = 1

        def on_update(self, trainer, update):
            if update == 3:
                Interrupted()
            if update == 6:
                signal.raise_signal(signal.SIGINT)
    x, y = classification(64)
    with Trainer(5, seed=0, callbacks=[Twice()]) as trainer:
        trainer.init(data.ArrayDataset(x, y, batch_size=4), Model(nn.Linear(6, 3), seed=0), losses.SoftmaxCrossEntropy(),
                     optim.SGD(lr=0.1))
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        assert trainer.stats().updates == 6


@pytest.mark.parametrize("function", [
    Trainer.init, Trainer._train, epochs._run_epoch, epochs._end_epoch, Trainer.load_checkpoint, Trainer.profile,
    BlasLimit.__enter__, BlasLimit.__exit__, GradientAggregator.submit_gradients, GradientAggregator.get_average_gradients,
    StreamDataset._epoch, uninterrupted.__exit__, Opened.__exit__,
], ids=lambda f: f.__qualname__)
def test_an_interrupt_between_two_turns_of_a_loop_passes_the_withs_around_it(function):
    """CPython 3.12 and later leave the jump back of a loop with a condition out of the `with` and `try` that it is in, and an
    interrupt may come at that jump: then no __exit__ is called, and a lock stays taken (python/cpython#130279). So such a
    loop is a function of its own, wherever an interrupt may come."""
    code = function.__code__
    handled = dis._parse_exception_table(code)

    def handlers(offset):
        return [h.target for h in handled if h.start <= offset < h.end]
    jumps = [i for i in dis.get_instructions(code) if i.opname == "JUMP_BACKWARD"]
    assert not [i for i in jumps if handlers(i.offset) != handlers(i.argval)]


class Signals(nn.PythonLayer):
    """Raises the signal `number` in the forward pass of sample 21, once."""

    def __init__(self, number):
        self.left = [number]

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        if self.left and (x[:, 0] == -1).any():
            signal.raise_signal(self.left.pop())
        return x, None

    def backward(self, dy, saved):
        return dy


def trainer(kind, strategy, layer):
    x, y = classification(64)
    x[:, 0] = 0
    x[21, 0] = -1
    t = Trainer(1, strategy=strategy, enable_parallel=True, thread_count=2, seed=0)
    t.init(kind(x, y, 4), Model(nn.Sequential(layer, nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
    return t


@pytest.mark.parametrize("kind", [data.ArrayDataset, Batched])
@pytest.mark.parametrize("strategy", [Serial(), Group(2), Shard(2), Local(2, 2)], ids=lambda s: s.name)
def test_what_a_handler_raises_inside_a_layer_is_not_the_batchs_fault(kind, strategy):
    """In the thread that called train, where handlers run."""
    with trainer(kind, strategy, nn.Sequential()) as whole, trainer(kind, strategy, Signals(signal.SIGTERM)) as t:
        whole.simplified_parallel_train()
        with handler(stop, signal.SIGTERM), pytest.raises(Stop):
            t.simplified_parallel_train()
        assert t.stats().skipped == 0 and t.epoch == 0
        t.simplified_parallel_train()
        assert not t.history.failures and t.history["samples"] == [64]
        assert t.model.params.tobytes() == whole.model.params.tobytes() and t.optimizer.t == whole.optimizer.t


@pytest.mark.parametrize("kind", [data.ArrayDataset, Batched])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("strategy", [Serial(), Group(2), Shard(2), Local(2, 2), Hogwild()], ids=lambda s: s.name)
def test_what_comes_between_an_update_and_its_books_waits_for_them(kind, number, strategy, monkeypatch):
    real, left = Ledger.count, [number]

    def count(*args):
        if left:
            signal.raise_signal(left.pop())
        real(*args)
    monkeypatch.setattr(Ledger, "count", count)
    with trainer(kind, strategy, nn.Sequential()) as t:
        with handler(stop, number), pytest.raises(Stop):
            t.train()
        s = t.stats()
        assert s.updates > 0 and s.dispatched == s.done + s.skipped
        assert t.optimizer.t == (s.updates // 2 if strategy.name == "local" else s.updates)
        if t.epoch == 0:
            t.train()
        if strategy.name != "hogwild":      # there a batch under way counts as failed
            with trainer(kind, strategy, nn.Sequential()) as whole:
                whole.train()
            assert t.model.params.tobytes() == whole.model.params.tobytes() and t.history["samples"] == [64]


@pytest.mark.parametrize("kind", [data.ArrayDataset, Batched])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("strategy", [Serial(), Group(1), Hogwild()], ids=lambda s: s.name)
def test_a_long_batch_in_the_calling_thread_ends_at_its_next_operation(kind, number, strategy):
    """30 operations of 10 ms or more: a signal that waited for their end would find an update made."""
    rows, width = 512, 1024
    x = np.ones((rows, width), np.float32)
    model = Model(nn.Sequential(*(nn.Linear(width, width) for _ in range(10))), seed=0)
    t = Trainer(1, strategy=strategy, enable_parallel=False, seed=0)
    t.init(kind(x, x, rows), model, losses.MeanSquaredError(), optim.SGD(0.1))
    before = model.params.tobytes()

    def send():
        wait_until(lambda: any(w.state == "in a batch" for w in t.stats().workers))
        signal.raise_signal(number)
    sender = threading.Thread(target=send)
    with handler(stop, number):
        sender.start()
        with pytest.raises(Stop) as e:
            t.train()
    sender.join(10)
    assert e.value.args == (number,) and t.optimizer.t == 0 and model.params.tobytes() == before
    assert not t.history.failures or strategy.name == "hogwild"
    assert not t.train().interrupted and t.optimizer.t >= (strategy.name != "hogwild")
    t.shutdown()


@pytest.mark.parametrize("rows, inputs, outputs, by_signal", [(4096, 4096, 4096, True), (4096, 4096, 4096, False),
                                                                  (1_000_000, 64, 8, False)])
def test_a_long_product_ends_on_its_way(rows, inputs, outputs, by_signal):
    """It is the last operation: one that ran to its end would give a result."""
    model = Model(nn.Sequential(nn.Linear(inputs, outputs)), seed=0)
    plan = model.plan((inputs,), max_rows=rows)
    replica = engine.Replica(plan.program, model.params, model.statistics)
    x, out = np.ones((rows, inputs), np.float32), np.full((rows, outputs), np.nan, np.float32)

    def send():
        wait_until(lambda: np.isfinite(out[0, 0]))
        if by_signal:
            signal.raise_signal(signal.SIGINT)
        else:
            replica.cancel()
    sender = threading.Thread(target=send)
    sender.start()
    with handler(stop, signal.SIGINT), pytest.raises(Stop if by_signal else engine.CancelledError):
        replica.run([engine.Source(x)], None, rows, out=out)
    sender.join(10)
    assert np.isnan(out[-1, -1])
