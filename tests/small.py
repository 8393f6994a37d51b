"""Small models and data for tests, and a busy machine."""
import hashlib
import io
import json
import os
import sysconfig
import threading
import time
import zipfile
from contextlib import contextmanager
from itertools import pairwise

import numpy as np

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl._kernels import engine


class Batched(data.ArrayDataset):
    """The same batches, one by one: only an ArrayDataset itself trains through the native driver, this by the Python one."""


DRIVERS = {"native": data.ArrayDataset, "python": Batched}


def mlp(*widths, dtype="float32", seed=0, activation=nn.ReLU):
    layers = []
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o), activation()]
    return Model(nn.Sequential(*layers[:-1]), dtype=dtype, seed=seed)


def classification(n, features=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.standard_normal((n, features)) + 2 * np.eye(classes, features)[y]
    return x.astype(np.float32), y


def spoilt(kind, x, y, batch_size, rows):
    """A dataset whose samples `rows` became NaN when it had been made, and looked through."""
    dataset = kind(x.copy(), y, batch_size)
    dataset.x[rows] = np.nan
    return dataset


def small_set():
    return data.ArrayDataset(*classification(64), 8)


def train_to_digest(dataset, *, threads=2, k=None):
    """Digest of a small model after an epoch; the pool is shut down."""
    model = mlp(6, 5, 3)
    with Trainer(1, enable_parallel=threads > 0, thread_count=threads, batches_per_update=k, seed=0) as t:
        t.init(dataset, model, losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        t.train()
    return hashlib.sha256(model.params.tobytes()).hexdigest()


def in_thread(call):
    """What call() returns (or raises) in a thread of its own."""
    out = []

    def run():
        try:
            out.append((call(), None))
        except BaseException as e:
            out.append((None, e))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    result, error = out[0]
    if error is not None:
        raise error
    return result


def wait_until(condition, seconds=60):
    """Returns once condition() holds. For what sets no event, as what native code writes for others to read; it fails, rather
    than wait for ever, where the condition never holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for never came"
        time.sleep(0.001)


@contextmanager
def busy(threads=2):
    """Other threads that compute all the while."""
    stop = threading.Event()
    # Without a GIL (seen in CPython 3.13) whoever waits for a lock yields 40 times first: on busy CPUs each wait then took 40
    # turns of the scheduler, a tenth of a second. So these threads yield, too.
    let_others = os.sched_yield if sysconfig.get_config_var("Py_GIL_DISABLED") and hasattr(os, "sched_yield") else lambda: None

    def burn():
        while not stop.is_set():
            np.linalg.svd(np.ones((60, 60)))
            let_others()
    load = [threading.Thread(target=burn) for _ in range(threads)]
    for t in load:
        t.start()
    try:
        yield
    finally:
        stop.set()
        for t in load:
            t.join()


def stall(alone, now):
    """Groups of 10 us, and two between them that take 1 ms: one worker goes on alone from `now` (ns) on."""
    for took in (10_000, 1_000_000, 10_000, 1_000_000):
        engine.look(alone, now, took)


def trainer(n=64, batch_size=8, epochs=2, **options):
    """A Trainer with something to train."""
    t = Trainer(epochs, seed=0, **options)
    x, y = classification(n)
    t.init(data.ArrayDataset(x, y, batch_size), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01))
    return t


def write_zip(path, header, about, arrays):
    """A file as models (header: architecture.json) and checkpoints (checkpoint.json) were before."""
    with zipfile.ZipFile(path, "w") as z:
        z.writestr(header, json.dumps(about))
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.save(entry, array)
            z.writestr(f"arrays/{name}.npy", entry.getvalue())


def workers():
    """Threads of all pools."""
    return sum(th.name.startswith("tinydl-worker") for th in threading.enumerate())
