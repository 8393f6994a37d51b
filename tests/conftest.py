"""What several test files use."""
import threading

import numpy as np
import pytest

from tinydl import Model, nn


@pytest.fixture(autouse=True)
def no_threads_left():
    """Every test ends with the threads that it began with (or fewer)."""
    before = {t for t in threading.enumerate() if t.name.startswith("tinydl-")}
    yield
    left = [t for t in threading.enumerate() if t.name.startswith("tinydl-") and t not in before]
    for t in left:
        t.join(5)
    assert not [t for t in left if t.is_alive()], f"threads left: {left}"


def mlp(*widths, dtype="float32", seed=0, activation=nn.ReLU):
    layers = []
    for i, o in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(i, o), activation()]
    return Model(nn.Sequential(*layers[:-1]), dtype=dtype, seed=seed)


def classification(n, features=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.standard_normal((n, features)) + 2 * np.eye(classes, features)[y]
    return x.astype(np.float32), y
