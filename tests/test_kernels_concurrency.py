"""Two Python threads are inside one kernel at the same time, for every kernel: proved by events, not by timing.

Why this proves it. The switch interval is set to an hour, so the interpreter takes the GIL from nobody: a thread
that runs `enter; kernel; leave; enter; kernel; ...` can lose it in the kernel call alone. The main thread makes
calls too and, around each, reads how often the other thread has entered and left. If the other one entered during
a call of ours, then our thread had let go of the GIL inside that call; if it has not left when our call returns,
then it let go of the GIL inside its own call, or we would not be running. So there was a moment with both inside.
A kernel that keeps the GIL never shows this, however long one tries; one that releases it shows it after a few
calls, and how many does not matter.
"""
import os
import subprocess
import sys
import sysconfig
import threading
import time

import numpy as np
import pytest
from kernel_cases import CASES

from tinydl import _kernels as kernels

DEADLINE = 20.0     # seconds of trying; only a kernel that keeps the GIL needs them
LARGE = {1: (1 << 18,), 2: (1000, 300), 3: (200, 200, 200), 4: (2000, 10, 16, 3), 6: (8, 16, 32, 32, 64, 64),
         8: (8, 32, 32, 16, 3, 1, 1, 1), 10: (8, 16, 32, 32, 48, 3, 1, 1, 1, 1)}
ONE_PER_KERNEL = list({c.kernel: c for c in reversed(CASES)}.values())


@pytest.fixture
def nobody_takes_the_gil():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    yield
    sys.setswitchinterval(interval)


def both_inside(ours, theirs):
    """Whether a call of ours and a call of theirs, on another thread, were seen to overlap."""
    entered, left = [0], [0]
    end = time.monotonic() + DEADLINE
    stop = []

    def other():
        while not stop and time.monotonic() < end:
            entered[0] += 1
            theirs()
            left[0] += 1

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    seen = False
    while not seen and time.monotonic() < end:
        before = entered[0]
        ours()
        seen = entered[0] > before and entered[0] > left[0]
    stop.append(True)
    thread.join(60)
    assert not thread.is_alive()
    return seen


@pytest.mark.usefixtures("nobody_takes_the_gil")
@pytest.mark.parametrize("case", ONE_PER_KERNEL, ids=lambda c: c.kernel)
def test_two_threads_are_inside_at_once(case):
    mine, other = (case.arguments(LARGE[len(case.shapes[-1])], np.float32, seed) for seed in (1, 2))
    assert both_inside(lambda: case.run(kernels, mine), lambda: case.run(kernels, other))


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="this interpreter has no GIL")
@pytest.mark.usefixtures("nobody_takes_the_gil")
def test_a_function_that_keeps_the_gil_is_told_apart(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "DEADLINE", 0.3)
    numbers = list(range(3000))
    assert not both_inside(lambda: sum(numbers), lambda: sum(numbers))


def test_threads_on_one_input_give_the_bits_of_one_thread():
    case = next(c for c in CASES if c.kernel == "matmul")
    args = case.arguments((200, 300, 100), np.float32)
    want = case.call(kernels, args)["out"].copy()
    outs = [np.empty_like(want) for _ in range(4)]

    def work(out):
        for _ in range(20):
            kernels.call("matmul", **{**args, "out": out})

    threads = [threading.Thread(target=work, args=(out,)) for out in outs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert all(np.array_equal(out, want) for out in outs)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter always has its GIL")
def test_importing_every_module_leaves_the_gil_off():
    """A module that did not declare that it needs no GIL would bring it back, with a warning."""
    program = ("import sys, tinydl\n"
               "import tinydl._kernels.calls, tinydl._kernels.engine, tinydl._kernels._dispatch, tinydl.cli\n"
               "print(sys._is_gil_enabled())")
    env = {k: v for k, v in os.environ.items() if k != "PYTHON_GIL"}
    out = subprocess.run([sys.executable, "-W", "error", "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert (out.stdout, out.stderr, out.returncode) == ("False\n", "", 0)
