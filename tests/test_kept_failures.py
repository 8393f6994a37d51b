"""What is kept of a batch that failed: the cause and the text of its traceback, and none of its data."""
import gc
import weakref

import numpy as np
import pytest
from every_strategy import TABLE, At13, marked, run, with_layer
from small import Batched, mlp

from tinydl import Trainer, data, losses, optim
from tinydl.parallel import TrainingError

pytestmark = pytest.mark.usefixtures("eager_auto")


class Refuses:
    """Called with an array, it raises an error whose frames, cause, context, arguments and attributes hold arrays of the
    batch; `held` has weak references to them, and `before` is how many were alive when it was called."""

    def __init__(self):
        self.held, self.before = [], []

    def __deepcopy__(self, memo):
        return self                 # replicas share what was held

    def array(self):
        a = np.zeros(1000)
        self.held.append(weakref.ref(a))
        return a

    def __call__(self, value):
        self.before.append(sum(ref() is not None for ref in self.held))
        own = self.array()
        try:
            try:
                raise KeyError("first", self.array())
            except KeyError:
                own.flattened()
        except AttributeError as e:
            error = ValueError("unreadable", self.array())
            error.picture = self.array()
            raise error from e

    def all_dead(self):
        return len(self.held) >= 4 and all(ref() is None for ref in self.held)


class Unreadable(data.ItemDataset):
    def __init__(self, refuses):
        super().__init__(8)
        self.refuses = refuses

    def __len__(self):
        return 64

    def __getitem__(self, i):
        return (np.zeros(6), 0) if i != 13 else self.refuses(i)


def broken_stream(refuses):
    yield from zip(*marked(40), strict=True)
    refuses(40)


class RefusingLoss(losses.PythonLoss):
    def __init__(self, refuses):
        self.refuses = refuses

    def forward(self, outputs, targets):
        if (targets == 13).any():
            self.refuses(outputs)
        return 0.0, np.zeros_like(outputs)


#: what fails: (dataset, model, loss)
FAILING = {
    "layer": lambda f: (data.ArrayDataset(*marked(64), 8), with_layer(At13(f)), losses.SoftmaxCrossEntropy()),
    "layer, Python driver": lambda f: (Batched(*marked(64), 8), with_layer(At13(f)), losses.SoftmaxCrossEntropy()),
    "loss": lambda f: (data.ArrayDataset(marked(64)[0], np.arange(64.)[:, None], 8), mlp(6, 1), RefusingLoss(f)),
    "item": lambda f: (Unreadable(f), mlp(6, 3), losses.SoftmaxCrossEntropy()),
    "stream": lambda f: (data.StreamDataset(lambda: broken_stream(f), 8), mlp(6, 3), losses.SoftmaxCrossEntropy()),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("source", FAILING)
def test_a_failure_keeps_its_text_and_no_data(name, source):
    refuses = Refuses()
    dataset, model, loss = FAILING[source](refuses)
    t = run(dataset, model, TABLE[name][0](), epochs=1, loss=loss, shuffle=False)
    gc.collect()            # the callers' frames are in cycles with what they got
    (failure,) = t.history.failures
    assert refuses.all_dead()
    error = failure.exception
    assert type(error) is ValueError and error.__traceback__ is None and "unreadable" in str(failure)
    assert type(error.__cause__) is AttributeError and type(error.__cause__.__context__) is KeyError
    for part in ("own.flattened()", "has no attribute 'flattened'", "raise error from e", "During handling", "direct cause",
                 'raise KeyError("first", self.array())'):
        assert failure.traceback.count(part) == 1
    assert failure.indices is None or failure.indices.base is None      # it would be the epoch's order


@pytest.mark.parametrize("policy", ["raise", "retry"])
def test_neither_do_batches_that_are_tried_again_or_end_training(driver, policy):
    x, y = marked(64)
    refuses = Refuses()
    with Trainer(1, strategy="group", batches_per_update=2, thread_count=2, on_batch_failure=policy, seed=0) as t:
        t.init(driver(x, y, 8), with_layer(At13(refuses)), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        try:
            t.train()
        except TrainingError as e:
            assert policy == "raise" and type(e.__cause__) is ValueError
            assert any("in __call__" in note for note in e.__cause__.__notes__)
        for _ in range(3):      # without a GIL each lets go of what a worker's thread had of one attempt alone
            gc.collect()
        assert refuses.all_dead() and len(refuses.before) == (3 if policy == "retry" else 1)
        if driver is data.ArrayDataset:     # whose batches are booked when an epoch is over
            assert sum(refuses.before) == 0


def test_an_exception_that_is_handled_around_the_training_stays_as_it_is(driver):
    x, y = marked(64)
    try:
        raise LookupError("the caller's own")
    except LookupError as e:
        t = run(driver(x, y, 8), with_layer(At13(Refuses())), "serial", 1, epochs=1)
        assert e.__traceback__ is not None and not hasattr(e, "__notes__")
    (failure,) = t.history.failures
    assert "the caller's own" not in failure.traceback


def test_an_error_that_is_raised_again_and_again_has_its_last_traceback_only(driver):
    x, y = marked(64)
    error = RuntimeError("always the same")

    def same(value):
        raise error
    t = run(driver(x, y, 8), with_layer(At13(same)), "serial", 1, epochs=5)
    assert len(t.history.failures) == 5 and len(error.__notes__) == 1


def test_an_error_whose_message_needs_its_array_keeps_both(driver):
    class Picky(Exception):
        def __str__(self):
            return f"of shape {self.args[0].shape}"

    def picky(value):
        raise Picky(value)
    x, y = marked(64)
    (failure,) = run(driver(x, y, 8), with_layer(At13(picky)), "serial", 1, epochs=1).history.failures
    assert str(failure).endswith("Picky: of shape (8, 6)") and "raise Picky(value)" in failure.traceback
