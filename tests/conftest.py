"""What several test files use."""
import gc
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from small import DRIVERS, stall

import tinydl
from tinydl.parallel.execution.resources import Resources
from tinydl.parallel.strategies import auto

# programs that tests start import the tinydl under test, not the source folder that they may be started in
os.environ["PYTHONSAFEPATH"] = "1"
os.environ["PYTHONPATH"] = str(Path(tinydl.__file__).parents[1])

# a shell's background jobs begin with Ctrl-C ignored, and so would the programs that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session):
    """What was collected and imported lives to the end: the many tests that call gc.collect() need not look through it."""
    gc.collect()
    gc.freeze()


def still_alive(threads, seconds):
    """Those that have not ended `seconds` from now; it waits so long for all of them together."""
    deadline = time.monotonic() + seconds
    for t in threads:
        t.join(max(0.0, deadline - time.monotonic()))
    return [t for t in threads if t.is_alive()]


@pytest.fixture(autouse=True)
def no_threads_left():
    """Every test ends with the threads that it began with (or fewer)."""
    before = {t for t in threading.enumerate() if t.name.startswith("tinydl-")}
    yield
    left = still_alive([t for t in threading.enumerate() if t.name.startswith("tinydl-") and t not in before], 5)
    assert not left, f"threads left: {left}"


@pytest.fixture(params=DRIVERS)
def driver(request):
    """The dataset class whose batches go through the native driver, and the one through the Python driver."""
    return DRIVERS[request.param]


@pytest.fixture
def one_alone(monkeypatch):
    """As if something else had the CPUs all the while: one worker of a native run goes on alone."""
    begin = Resources.__init__

    def begin_alone(self, *args, **options):
        begin(self, *args, **options)
        stall(self.alone, 2**61)
    monkeypatch.setattr(Resources, "__init__", begin_alone)


@pytest.fixture
def eager_auto(monkeypatch):
    """Strategy auto tries one way after the other all the time, in epochs of any length: else it would train serially in
    short tests."""
    for name in ("LONG", "EVERY", "PER_LOST"):
        monkeypatch.setattr(auto, name, 0.0)
    begin = auto.Auto._begin

    def knowing(self, n_threads):
        begin(self, n_threads)
        self._update = 1e-3     # else it would look at the clock first, for longer than a test takes
    monkeypatch.setattr(auto.Auto, "_begin", knowing)
