"""The table of strategies, and what tests of all of them share. A new one is a row here."""
import hashlib

import numpy as np
from small import classification

from tinydl import Model, Trainer, losses, nn, optim
from tinydl.parallel.strategies import Auto, Group, Hogwild, Local, Serial, Shard

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


def marked(n):
    x, y = classification(n)
    x[:, 0] = np.arange(n) / 64     # sample i carries mark i / 64
    return x, y


def with_layer(layer):
    return Model(nn.Sequential(layer, nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)), seed=0)


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


def left_out(t, error, losing=8):
    """The history, the books and the parameters of a run that lost the batch (or the part) of sample 13 to `error`."""
    (failure,) = t.history.failures
    assert type(failure.exception) is error and failure.batch_index == 1 and failure.n_samples <= losing
    s = t.stats()
    assert (s.skipped, s.failed, s.samples) == (1, 0, 64 - failure.n_samples) and np.isfinite(t.model.params).all()
    assert t.history["failed_batches"] == [1]


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
