"""Other processes: forks, process pools, and that a process ends at once whatever its workers do."""
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager

import pytest
from small import DRIVERS, Batched, classification, in_thread, mlp, small_set, train_to_digest

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.callbacks import Callback
from tinydl.parallel.host import blas, threads
from tinydl.parallel.workers.signals import HELD, uninterrupted

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
#: without those that joblib adds where it was imported before (from CPython 3.14 on they are among these, too)
METHODS = [method for method in multiprocessing.get_all_start_methods() if not method.startswith("loky")]


def forked(call, seconds=30):
    """The exit code of a forked child that calls call(): 0 where it returned. A child that hangs is killed: -9."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)     # from 3.12 on: a fork with threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            call()
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    ended = threading.Event()
    watch = threading.Thread(target=lambda: ended.wait(seconds) or os.kill(pid, signal.SIGKILL))
    watch.start()
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        ended.set()
        watch.join()


@needs_fork
@pytest.mark.parametrize("mode", ["train", "single_thread_train", "parallel_train", "simplified_parallel_train"])
def test_a_forked_child_trains_on_with_the_trainer_of_its_parent(mode):
    with Trainer(1, enable_parallel=True, thread_count=2, seed=0) as t:
        t.init(small_set(), mlp(6, 5, 3), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        t.train()

        def child():
            assert not t.is_parallel_training_enabled()         # the threads stayed behind
            getattr(t, mode)()
            assert t.epoch == 2
            assert t.shutdown(5)
        assert forked(child) == 0
        assert t.is_parallel_training_enabled() and t.epoch == 1
        t.train()
        assert t.epoch == 2


@needs_fork
@pytest.mark.parametrize("threads", [0, 2])
def test_a_child_forked_while_its_parent_trains_trains_by_itself(threads):
    busy, go_on = threading.Event(), threading.Event()

    class Waits(nn.PythonLayer):
        def forward(self, x):
            busy.set()
            assert go_on.wait(60)
            return x, None

        def backward(self, dy, saved):
            return dy

        def __deepcopy__(self, memo):
            return self
    dataset = small_set()
    k = 2 if threads else None
    want = train_to_digest(dataset, threads=threads, k=k)
    with Trainer(1, enable_parallel=True, thread_count=2, seed=0) as t:
        t.init(dataset, Model(nn.Sequential(nn.Linear(6, 3), Waits())), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        parent = threading.Thread(target=t.train)
        parent.start()
        assert busy.wait(20)

        def child():
            assert train_to_digest(dataset, threads=threads, k=k) == want
            assert t.shutdown(1)
        try:
            assert forked(child) == 0
        finally:
            go_on.set()
            parent.join(20)
    assert t.epoch == 1


class Interrupted(nn.PythonLayer):
    """Waits in the process that it was made in until the test lets it go."""

    def __init__(self):
        self.entered, self.go_on, self.home = threading.Event(), threading.Event(), os.getpid()

    def __deepcopy__(self, memo):
        return self

    def wait(self):
        if os.getpid() == self.home:
            self.entered.set()
            assert self.go_on.wait(60)

    def forward(self, x):
        self.wait()
        return x, None

    def backward(self, dy, saved):
        return dy


class WaitsInUpdates(optim.SGD):
    def __init__(self, layer):
        super().__init__(0.1)
        self.layer = layer

    def step(self, gradients):
        self.layer.wait()
        super().step(gradients)


@needs_fork
@pytest.mark.parametrize("strategy, kind, where", [
    *((s, d, "layer") for s in ("serial", "group", "local") for d in DRIVERS.values()), ("hogwild", Batched, "update")])
def test_a_child_forked_by_another_thread_trains_with_the_trainer_that_was_training(strategy, kind, where):
    """The training thread, which has the trainer for itself, and holds Ctrl-C back, stayed behind; so did the workers, one
    of them (in the update) with a lock."""
    layer = Interrupted()
    codes, first = [], nn.Sequential(layer) if where == "layer" else nn.Sequential()
    with Trainer(1, strategy=strategy, thread_count=2, seed=0) as t:
        t.init(kind(*classification(64), 8), Model(nn.Sequential(first, nn.Linear(6, 3)), seed=0), losses.SoftmaxCrossEntropy(),
               optim.SGD(0.1) if where == "layer" else WaitsInUpdates(layer))

        def child():
            assert not any(isinstance(getattr(signal.getsignal(n), "__self__", None), uninterrupted) for n in HELD)
            assert not t.train().interrupted and t.history["samples"] == [64]
            t.init(t.data, t.model, t.loss, t.optimizer)
            assert t.shutdown(5)

        def fork():
            try:
                assert layer.entered.wait(20)
                codes.append(forked(child, 20))
            finally:
                layer.go_on.set()
        other = threading.Thread(target=fork)
        other.start()
        t.train()
        other.join()
        assert codes == [0] and t.history["samples"] == [64]


@needs_fork
def test_a_child_forked_by_the_training_thread_is_in_the_middle_of_training():
    codes = []

    class Forks(Callback):
        def on_epoch_end(self, trainer, record):
            handlers = [signal.getsignal(n) for n in HELD]

            def child():
                assert [signal.getsignal(n) for n in HELD] == handlers
                with pytest.raises(RuntimeError, match="while this trainer is training"):
                    trainer.train()
            codes.append(forked(child, 20))
    t = Trainer(1, callbacks=[Forks()], seed=0)
    t.init(small_set(), mlp(6, 5, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
    t.train()
    assert codes == [0]


@needs_fork
@pytest.mark.parametrize("lock", ["the pool's", "the trainer's"])
def test_a_child_forked_while_a_lock_is_taken_shuts_down(lock):
    """As while another thread gives out batches, or is configuring."""
    taken, go_on = threading.Event(), threading.Event()
    with Trainer(1, enable_parallel=True, thread_count=2, seed=0) as t:
        t.init(small_set(), Model(nn.Linear(6, 3)), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))

        def hold():
            with t.runtime.pool._lock if lock == "the pool's" else t.runtime.lock:
                taken.set()
                assert go_on.wait(60)
        holder = threading.Thread(target=hold)
        holder.start()

        def child():
            assert t.shutdown(1)
            t.configure_parallel_training(True, 1)
            t.train()
            assert t.shutdown(5)
        try:
            assert taken.wait(20) and forked(child, 10) == 0
        finally:
            go_on.set()
            holder.join()


@needs_fork
def test_a_child_forked_in_a_limit_can_enter_and_leave():
    locked, unlock = threading.Event(), threading.Event()

    def hold():
        with blas._lock:
            locked.set()
            unlock.wait(60)
    holder = threading.Thread(target=hold)

    def child():
        assert blas._entered == 1
        with blas.BlasLimit():
            pass
        assert in_thread(lambda: blas.BlasLimit().__enter__() is not None)
    try:
        with blas.BlasLimit():
            holder.start()
            assert locked.wait(20)
            assert forked(child, 10) == 0
            unlock.set()
    finally:
        unlock.set()
        holder.join()
    assert blas._entered == 0


def train_small(threads):
    """Runs in a process of a pool."""
    return train_to_digest(small_set(), threads=threads, k=2)


def train_and_leave():
    """Parallel training without a shutdown, and a circle that keeps the trainer to the end."""
    t = Trainer(1, enable_parallel=True, thread_count=2, seed=0)
    t.init(small_set(), mlp(6, 5, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
    t.train()
    assert t.is_parallel_training_enabled()
    t.keep = t


@pytest.mark.parametrize("method", METHODS)
def test_parallel_training_in_a_process_pool(method):
    want = train_to_digest(small_set(), threads=1, k=2)
    with Trainer(1, enable_parallel=True, thread_count=2, seed=0) as t:       # a pool that the processes must not need
        t.init(small_set(), mlp(6, 5, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        t.train()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with multiprocessing.get_context(method).Pool(2) as pool:         # leaving it ends its processes
                assert pool.map_async(train_small, [2, 2, 3, 1]).get(60) == [want] * 4


def recommended(variable, most):
    """Runs in a process of a pool: what is recommended for a small set, and the threads that a trainer starts."""
    os.environ |= {"TINYDL_NUM_THREADS": "", "OMP_NUM_THREADS": "", variable: most}
    dataset = data.ArrayDataset(*classification(5000), 8)
    with Trainer(1, enable_parallel=True, seed=0) as t:
        t.init(dataset, mlp(6, 5, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        return threads.recommended_thread_count(625, 5000), t.get_parallel_thread_count()


@pytest.mark.parametrize("method", [*METHODS, "loky"])
def test_a_process_pool_does_not_oversubscribe(method):
    n = min(2, threads.machine_cpus())
    # the user, or who started them, knows better
    want = [("TINYDL_NUM_THREADS", "", 1), ("TINYDL_NUM_THREADS", "2", n), ("OMP_NUM_THREADS", "2", n)] * 2

    def in_pool():
        settings = [variable for variable, _, _ in want], [most for _, most, _ in want]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if method == "loky":
                executor = pytest.importorskip("joblib.externals.loky").ProcessPoolExecutor(2)
                try:
                    found = list(executor.map(recommended, *settings, timeout=60))
                except BaseException:
                    executor.shutdown(kill_workers=True)
                    raise
                executor.shutdown()     # kills nothing: joblib needs pgrep or psutil for that, and small images have neither
                return found
            with multiprocessing.get_context(method).Pool(2) as pool:
                return pool.starmap_async(recommended, zip(*settings, strict=True)).get(60)
    assert not threads.in_process_pool()
    assert in_pool() == [(number, number) for _, _, number in want]


@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_trained_in_parallel_ends_by_itself(method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context(method).Process(target=train_and_leave)
        child.start()
    child.join(60)
    try:
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()


AT_EXIT = """
import atexit
atexit.register(lambda: print(t.shutdown(5)))      # before all that tinydl registers, so it is called after that
from tinydl import Model, Trainer, data, losses, nn, optim
import numpy as np
for i in range(2):
    t = Trainer(1, enable_parallel=True, thread_count=2, seed=0)
    t.init(data.ArrayDataset(np.ones((8, 2)), np.ones((8, 1)), 4), Model(nn.Linear(2, 1)), losses.MeanSquaredError(),
           optim.SGD(0.1))
    t.train()
"""


def test_a_trainer_is_shut_down_as_its_process_ends():
    """The one before it was forgotten."""
    p = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60)
    assert (p.returncode, p.stdout, p.stderr) == (0, "True\n", "")


STUCK = """
import ctypes, mmap, signal, sys, threading, time
import numpy as np
from tinydl import Model, Trainer, data, losses, nn, optim
entered = threading.Event()

def lock_parameters():
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
    for number in (signal.SIGSEGV, signal.SIGBUS):
        libc.signal(number, ctypes.cast(libc.pause, ctypes.c_void_p))
    for vector in (t.model.params, *(m.all for m in t.runtime.resources.model_copies)):
        page = vector.ctypes.data // mmap.PAGESIZE + 1
        assert libc.mprotect(ctypes.c_void_p(page * mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0

class Stuck(nn.PythonLayer):
    def forward(self, x):
        entered.set()
        {wait}
        return x, None
    def backward(self, dy, saved):
        return dy
    def __deepcopy__(self, memo):
        return self

rows, width = {shape}
x = np.ones((rows, width), np.float32)
net = nn.Sequential(Stuck(), nn.Linear(width, width, bias=False))
t = Trainer(1, strategy={strategy!r}, enable_parallel=True, thread_count=2, seed=0)
t.init({kind}(x, x, {batch}), Model(net, seed=0), losses.MeanSquaredError(), optim.SGD(0.1))
threading.Thread(target=lambda: entered.wait() and t.shutdown(0.1), daemon=True).start()
assert t.train().interrupted
print(any(th.name.startswith("tinydl-worker") for th in threading.enumerate()))
print("the end", file=sys.stderr, flush=True)
"""


KINDS = "data.ArrayDataset", "type('Batched', (data.ArrayDataset,), {})"


@contextmanager
def all_at_once(programs, **options):
    """A dictionary of running processes, for a dictionary of programs; at the end none is left."""
    command = [sys.executable, "-W", "ignore::UserWarning", "-c"]
    with ExitStack() as stack:
        running = {case: stack.enter_context(subprocess.Popen([*command, program], stderr=subprocess.PIPE, text=True, **options))
                   for case, program in programs.items()}
        try:
            yield running
        finally:
            for p in running.values():
                p.kill()


def test_a_worker_that_comes_back_after_the_interpreter_has_ended_stays_quiet(tmp_path):
    """The process, its interpreter gone, reads on until its input is closed. Its workers wait in a kernel, for a page of the
    samples that lies in a file without a byte, until that is filled."""
    def program(kind, strategy, python_layer, late):
        code = STUCK.format(wait="pass", shape=(64, 1024), batch=8, kind=kind, strategy=strategy)
        if not python_layer:
            code = code.replace("Stuck(), ", "")
        code = code.replace("Trainer(1,", "Trainer(10**6,").replace("entered.wait()", "stuck()").replace("rows, width", f"""
def stuck():
    while not any(w.state == "in a batch" for w in t.stats().workers):
        time.sleep(0.001)
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
    libc.signal(signal.SIGBUS, ctypes.cast(libc.usleep, ctypes.c_void_p))       # then it reads again
    libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
    libc.mmap.restype = ctypes.c_void_p
    fixed = 0x10
    with open({str(late)!r}, "w+b") as f:
        at = (x.ctypes.data // mmap.PAGESIZE + 1) * mmap.PAGESIZE
        assert at == libc.mmap(at, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | fixed, f.fileno(), 0)
    while not any(w.state == "in a batch" and w.seconds > 0.2 for w in t.stats().workers):      # they take far less else
        time.sleep(0.001)
    return True
rows, width""", 1)
        return code + """
import ctypes
assert ctypes.pythonapi.Py_AtExit(ctypes.cast(ctypes.CDLL(None).getchar, ctypes.c_void_p)) == 0
"""
    cases = [(strategy, kind, layer) for strategy in ("group", "local", "hogwild") for kind in KINDS for layer in (True, False)]
    late = {case: tmp_path / str(i) for i, case in enumerate(cases)}
    programs = {case: program(case[1], case[0], case[2], late[case]) for case in cases}
    with all_at_once(programs, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as running:
        for case, p in running.items():
            while (line := p.stderr.readline()) != "the end\n":      # a line before says that the worker was put aside
                assert line, case
        time.sleep(0.5)         # meanwhile the interpreters end
        for case, p in running.items():
            assert p.poll() is None, case
            late[case].write_bytes(bytes(mmap.PAGESIZE))
        time.sleep(1)
        for case, p in running.items():
            assert p.poll() is None, case       # else it crashed
            p.stdin.close()
        for case, p in running.items():
            assert p.stderr.read() == "" and p.wait(30) == 0, case


@pytest.mark.parametrize("wait", ["threading.Event().wait()", "time.sleep(600)", "lock_parameters()"],
                         ids=["lock", "sleep", "kernel"])
def test_a_process_ends_with_a_stuck_worker(wait):
    """It is killed where it waits for that worker. The kernel is the product behind that layer: it may not read the parameters,
    and what is called then pauses for good."""
    programs = {(strategy, kind): STUCK.format(wait=wait, shape=(4, 1024), batch=4, kind=kind, strategy=strategy)
                for strategy in ("group", "local", "hogwild") for kind in KINDS}
    with all_at_once(programs, stdout=subprocess.PIPE) as running:
        for case, p in running.items():
            out, err = p.communicate(timeout=120)
            assert p.returncode == 0, (case, err)
            assert out == "True\n", case
            assert err.endswith("the end\n"), case    # the interpreter says nothing as it ends
