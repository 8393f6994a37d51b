"""Memory, CPUs, BLAS threads and processes: what training takes, and that it gives all of it back."""
import ctypes
import dataclasses
import gc
import hashlib
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from small import Batched, classification, mlp

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl._kernels import _dispatch
from tinydl.parallel import Replica, affinity, blas, threads
from tinydl.parallel.crew import Crew
from tinydl.parallel.memory import MemoryReport, available_memory, fitting_threads, memory_report
from tinydl.parallel.strategies import Local

LINUX = sys.platform == "linux"
needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
NUMPY_DATA = np.lib.tracemalloc_domain


class Halve(nn.PythonLayer):
    def forward(self, x):
        return 0.5 * x, None

    def backward(self, dy, saved):
        return 0.5 * dy


# ------------------------------------------------------------------ memory that is available
def v2(folder, limit, usage, inactive=0):
    at = f"sys/fs/cgroup/{folder}".rstrip("/")
    return {f"{at}/memory.max": f"{limit}\n", f"{at}/memory.current": f"{usage}\n",
            f"{at}/memory.stat": f"anon 5\ninactive_file {inactive}\nactive_file 7\n"}


def v1(folder, limit, usage, inactive=0):
    at = f"sys/fs/cgroup/memory/{folder}".rstrip("/")
    return {f"{at}/memory.limit_in_bytes": f"{limit}\n", f"{at}/memory.usage_in_bytes": f"{usage}\n",
            f"{at}/memory.stat": f"inactive_file 3\ntotal_inactive_file {inactive}\n"}


MEMINFO = {"proc/meminfo": "MemTotal:  99 kB\nMemFree:  1 kB\nMemAvailable:   9 kB\n"}
V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "4:cpu,cpuacct:/x\n3:memory:/x/y\n"}


@pytest.mark.parametrize("files, want", [
    ({}, None),
    (MEMINFO, 9 * 1024),
    ({"proc/meminfo": "MemTotal: 99 kB\n"}, None),
    ({"proc/meminfo": "MemAvailable: lots\n"}, None),
    ({**MEMINFO, **V2}, 9 * 1024),
    ({**V2, **v2("a/b", "max", 100)}, None),
    ({**V2, **v2("a/b", 1000, 100)}, 900),
    ({**V2, **v2("a/b", 1000, 100, 30)}, 930),
    ({**V2, **v2("a/b", 1000, 1200)}, 0),
    ({**V2, **v2("a/b", "max", 100), **v2("a", 700, 300)}, 400),
    ({**V2, **v2("a/b", 1000, 100), **v2("a", 700, 300), **v2("", 650, 350)}, 300),
    ({**MEMINFO, **V2, **v2("a/b", 1000, 100)}, 900),
    ({**MEMINFO, **V2, **v2("a/b", 10**6, 100)}, 9 * 1024),
    ({**V2, "sys/fs/cgroup/a/b/memory.max": "1000"}, None),
    ({**V1, **v1("x/y", 1000, 100, 50)}, 950),
    ({**V1, **v1("x/y", 9223372036854771712, 100)}, None),
    ({**V1, **v1("x/y", 1000, 100), **v1("", 500, 100)}, 400),
    ({"proc/self/cgroup": "3:memory:/host/path\n0::/\n", **v1("", 500, 100)}, 400),
    ({"proc/self/cgroup": "nonsense\n", **MEMINFO}, 9 * 1024),
])
def test_available_memory_of_made_containers(tmp_path, files, want):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == want
    assert available_memory(str(tmp_path)) == want


@pytest.mark.skipif(not LINUX, reason="only Linux tells")
def test_available_memory_here():
    here = available_memory()
    assert here is not None and 0 < here < 2**50


# ------------------------------------------------------------------ memory that training takes
def normed(dtype):
    return Model(nn.Sequential(nn.Linear(20, 70), nn.BatchNorm1d(70), nn.ReLU(), Halve(), nn.Linear(70, 3)), dtype=dtype)


def numpy_bytes():
    """Bytes that NumPy arrays hold now."""
    taken = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, NUMPY_DATA)])
    return sum(t.size for t in taken.traces)


@pytest.fixture
def traced():
    mlp(3, 2).predict(np.zeros((1, 3)))     # what NumPy and this module make once
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


def made(model, optimizer, n_threads, n_slots):
    """(plan, replicas, slots) of a model for batches of 33 samples of 20 features."""
    optimizer.bind(model.params, model.statistics, model.momenta)
    loss = losses.SoftmaxCrossEntropy()
    plan = model.plan((20,), 33, loss=loss)
    replicas = [Replica(model, loss, 33, plan=plan) for _ in range(n_threads)]
    return plan, replicas, [replicas[0].gradient_vector() for _ in range(n_slots)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [lambda dtype: mlp(20, 300, 3, dtype=dtype), normed], ids=["plain", "normed"])
@pytest.mark.parametrize("optimizer", [optim.SGD(0.1), optim.SGD(0.1, momentum=0.9), optim.Adam()],
                         ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("n_threads, n_slots", [(1, 1), (2, 2), (3, 7), (4, 1)])
def test_the_report_is_what_allocation_takes(traced, dtype, make, optimizer, n_threads, n_slots):
    before = numpy_bytes()
    model = make(dtype)
    held = made(model, optimizer, n_threads, n_slots)
    taken = numpy_bytes() - before
    report = memory_report(model, held[0], optimizer, n_threads, n_slots)
    # an empty array takes one item: momenta without statistics
    assert 0 <= taken - report.total <= 8
    assert report.fits and report.n_threads == n_threads
    assert report.total - report.n_threads * report.workspace - n_slots * report.gradients == report.shared
    assert report.per_thread == report.gradients + report.workspace


@pytest.mark.parametrize("optimizer", [optim.SGD(0.1), optim.Adam()], ids=["sgd", "adam"])
@pytest.mark.parametrize("kind", [data.ArrayDataset, Batched])
def test_the_report_of_a_local_training_is_what_its_copies_take(traced, kind, optimizer):
    x, y = classification(128, 20)
    with Trainer(1, strategy=Local(2), thread_count=3, seed=0) as t:
        before = numpy_bytes()
        t.init(kind(x, y, 33), normed("float32"), losses.SoftmaxCrossEntropy(), optimizer)
        report = t.memory_report()
        assert (report.n_copies, report.n_slots, report.n_workspaces) == (3, 3, 3)
        assert report.total == report.shared + 3 * report.per_thread and report.copy > report.parameters
        t.train()
        # an epoch's small change: order, results, and what the statistics are counted in
        assert 0 <= numpy_bytes() - before - report.total < min(report.copy, report.gradients) // 4
        again = t.memory_report()
        assert again.total == report.total and again.needed == 0
    text = str(report)
    assert "a copy of the model" in text and "workspace of a copy" in text


def test_the_report_allocates_nothing(traced):
    model, optimizer = mlp(20, 3000, 300), optim.Adam()
    plan = model.plan((20,), 64, loss=losses.SoftmaxCrossEntropy())
    memory_report(model, plan, optimizer, 64, 64)
    before = numpy_bytes()
    tracemalloc.reset_peak()
    now = tracemalloc.get_traced_memory()[0]
    report = memory_report(model, plan, optimizer, 64, 64)
    # lines of a few small files
    assert tracemalloc.get_traced_memory()[1] - now < 200_000
    assert numpy_bytes() == before
    assert report.total > 50_000_000


def test_what_is_held_is_not_needed_again():
    model, optimizer = mlp(20, 300, 3), optim.Adam()
    plan, _, slots = made(model, optimizer, 3, 5)
    new = memory_report(model, plan, optimizer, 3, 5)
    assert new.needed == new.total - new.parameters - new.statistics
    optimizer.step(slots[0])
    again = memory_report(model, plan, optimizer, 3, 5, held_threads=3, held_slots=5)
    assert again.total == new.total and again.needed == 0
    more = memory_report(model, plan, optimizer, 4, 5, held_threads=3, held_slots=5)
    assert more.needed - again.needed == more.workspace


def test_fitting_threads():
    report = MemoryReport(100, 200, 10, gradients=100, workspace=50, n_threads=8, n_slots=4)
    assert report.total == 310 + 400 + 400 and report.fits and fitting_threads(report) == 8
    for held in (0, 110):
        for available in range(report.total + 2):
            r = dataclasses.replace(report, available=available, held=held)
            fit = [n for n in range(1, 9) if dataclasses.replace(r, n_threads=n).fits]
            if fit:
                assert fitting_threads(r) == max(fit)
                assert r.fits == (max(fit) == 8)
            else:
                with pytest.raises(MemoryError):
                    fitting_threads(r)
    # where each thread brings a slot of its own
    own = MemoryReport(100, 200, 0, gradients=100, workspace=50, n_threads=8, n_slots=8)
    for available in range(450, own.total + 2):
        r = dataclasses.replace(own, available=available)
        assert fitting_threads(r, lambda n: (n, 0)) == min(8, (available - 300) // 150)
    copies = MemoryReport(100, 200, 0, gradients=60, workspace=50, n_threads=8, n_slots=8, n_copies=8, copy=40)
    assert fitting_threads(dataclasses.replace(copies, available=700), lambda n: (n, n)) == 2
    with pytest.raises(MemoryError, match=r"one thread and 8 copies of the model.*fewer n_models the copies .8 times 150 B"):
        fitting_threads(dataclasses.replace(copies, available=700))      # n_models fixed: fewer threads save nothing
    with pytest.raises(MemoryError, match="needs 450 B more with one thread and 1 gradient slot, and 449 B"):
        fitting_threads(dataclasses.replace(own, available=449), lambda n: (n, 0))
    with pytest.raises(MemoryError, match=r"needs 760 B more with one thread and 4 gradient slots, and 759 B are available.*"
                                          r"batch_size.*batches_per_update.*SGD.*float32"):
        fitting_threads(dataclasses.replace(report, available=759))


def test_the_table_of_a_report():
    text = str(MemoryReport(1023, 1024, 5 * 2**20, 2**40, 3 * 2**30, n_threads=1024, n_slots=1024, available=2**43, held=12))
    assert max(map(len, text.splitlines())) <= 80
    for part in ("1023 B", "1.0 KiB", "5.0 MiB", "1,024.0 GiB", "3.0 GiB", "1,024", "8,192.0 GiB", "does not fit"):
        assert part in text
    unknown = str(MemoryReport(1, 1, 1, 1, 1, 1, 1))
    assert "unknown" in unknown and "it fits" in unknown


# ------------------------------------------------------------------ CPUs
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


@needs_affinity
def test_pin_and_unpin():
    everywhere = os.sched_getaffinity(0)
    n = len(everywhere)

    def look(worker):
        seen = [affinity.pin(worker, n), os.sched_getaffinity(0)]
        affinity.spread(0, n)
        seen.append(os.sched_getaffinity(0))
        affinity.pin((worker + 1) % n, n)           # from where it was allowed, not from where it is
        seen.append(os.sched_getaffinity(0))
        affinity.unpin()
        affinity.unpin()
        return [*seen, os.sched_getaffinity(0)]
    for worker, cpu in enumerate(sorted(everywhere)):
        then = sorted(everywhere)[(worker + 1) % n]
        assert in_thread(lambda worker=worker: look(worker)) == [True, {cpu}, {cpu}, {then}, everywhere]
    assert os.sched_getaffinity(0) == everywhere


@needs_affinity
def test_more_workers_than_cpus_are_not_pinned(caplog, monkeypatch):
    monkeypatch.setattr(affinity, "_said", set())
    everywhere = os.sched_getaffinity(0)
    with caplog.at_level("INFO", "tinydl"):
        for worker in range(2):
            assert in_thread(lambda worker=worker: (affinity.pin(worker, len(everywhere) + 1), os.sched_getaffinity(0))) == (
                False, everywhere)
    assert len(caplog.records) == 1 and "not pinned" in caplog.text
    with pytest.raises(ValueError, match="worker 2 of 2"):
        affinity.pin(2, 2)


def test_where_nothing_can_be_pinned(caplog, monkeypatch):
    monkeypatch.setattr(affinity, "_said", set())
    for name in ("sched_setaffinity", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    with caplog.at_level("INFO", "tinydl"):
        assert not affinity.pin(0, 2) and not affinity.pin(1, 2)
        affinity.unpin()
        affinity.spread(0, 2)
    assert len(caplog.records) == 1 and "not pinned" in caplog.text


@needs_affinity
def test_a_refused_cpu_leaves_the_thread_where_it_is(monkeypatch):
    def refuse(pid, cpus):
        raise OSError("no such CPU")
    everywhere = os.sched_getaffinity(0)
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert not affinity.pin(0, 1)
    affinity.unpin()
    affinity.spread(0, len(everywhere))
    assert os.sched_getaffinity(0) == everywhere


@needs_affinity
def test_spread_moves_the_thread_and_allows_it_everywhere_again(monkeypatch):
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("needs 2 CPUs")
    asked, real = [], os.sched_setaffinity
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: (asked.append(set(cpus)), real(pid, cpus)))
    for here, moves in ((sorted(cpus)[0], [{sorted(cpus)[1]}, cpus]), (-1, [{sorted(cpus)[1]}, cpus]), (sorted(cpus)[1], [])):
        asked.clear()
        monkeypatch.setattr(affinity, "current_cpu", lambda here=here: here)
        in_thread(lambda: affinity.spread(1, 2))
        assert asked == moves


@needs_affinity
def test_the_cpu_of_a_pinned_thread_is_known():
    def where(worker):
        affinity.pin(worker, len(os.sched_getaffinity(0)))
        return _dispatch.current_cpu()
    for worker, cpu in enumerate(sorted(os.sched_getaffinity(0))):
        assert in_thread(lambda worker=worker: where(worker)) == cpu


# ------------------------------------------------------------------ BLAS
@pytest.fixture
def blas_threads():
    """A function: threads that NumPy's BLAS would use now. Outside of a limit it is 2, even on one CPU."""
    import threadpoolctl
    libraries = [lib for lib in threadpoolctl.ThreadpoolController().lib_controllers
                 if lib.user_api == "blas" and blas._is_of_process(lib)]
    before = [(lib, lib.num_threads) for lib in libraries]
    for lib in libraries:
        blas._set(lib, 2)
    try:
        if {lib.num_threads for lib in libraries} != {2}:
            pytest.skip("no BLAS with threads of the process")
        yield lambda: max(lib.num_threads for lib in libraries)
    finally:
        blas._restore(before)


def test_blas_is_limited_inside_and_restored_after(blas_threads):
    assert blas_threads() == 2
    with blas.BlasLimit():
        assert blas_threads() == 1
        with blas.BlasLimit() as limit:
            assert blas_threads() == 1
            with limit:                     # the same one again
                assert blas_threads() == 1
        assert blas_threads() == 1
    assert blas_threads() == 2
    with pytest.raises(ZeroDivisionError), blas.BlasLimit(), blas.BlasLimit():
        assert blas_threads() == 1
        raise ZeroDivisionError
    assert blas_threads() == 2 and blas._entered == 0 and not blas._libraries


def test_the_last_thread_to_leave_restores_blas(blas_threads):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with blas.BlasLimit():
            inside.set()
            assert leave.wait(20)
    with blas.BlasLimit():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(20)
    assert blas_threads() == 1
    leave.set()
    thread.join(20)
    assert blas_threads() == 2


def test_a_limit_of_the_user_in_another_thread_is_kept_and_does_not_hinder(blas_threads):
    import threadpoolctl

    def worker():
        with blas.BlasLimit():
            return blas_threads()
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        assert blas_threads() == 3
        assert in_thread(worker) == 1
        assert blas_threads() == 3
    assert blas_threads() == 2


def test_many_threads_enter_and_leave(blas_threads):
    wrong, start = [], threading.Barrier(4)

    def work():
        start.wait(20)
        for _ in range(100):
            with blas.BlasLimit(), blas.BlasLimit():
                if blas_threads() != 1:
                    wrong.append(blas_threads())
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not wrong and blas_threads() == 2 and blas._entered == 0


def test_entering_again_looks_at_no_library(monkeypatch):
    looks = []
    for name, real in (("_find", blas._find), ("_limit", blas._limit), ("_restore", blas._restore)):
        monkeypatch.setattr(blas, name, lambda *args, name=name, real=real, **kw: (looks.append(name), real(*args, **kw))[1])
    with blas.BlasLimit():
        for _ in range(100):
            with blas.BlasLimit():
                pass
        assert looks == ["_find", "_limit", "_limit"]
        in_thread(lambda: blas.BlasLimit().__enter__().__exit__(None, None, None))
        assert looks == ["_find", "_limit", "_limit", "_limit", "_restore"]
    assert looks[-1] == "_restore" and len(looks) == 6


class Library:
    """A made BLAS: openblas has threads of the process, openmp a number for each thread."""

    def __init__(self, api, refuses=()):
        self.internal_api, self.num_threads, self.refuses = api, 4, refuses

    def set_num_threads(self, n):
        if n in self.refuses:
            raise OSError(f"{self.internal_api} refuses {n}")
        self.num_threads = n


@pytest.mark.parametrize("bad", ["openblas", "openmp"])
def test_a_library_that_raises_leaves_none_limited(bad, monkeypatch):
    libraries = [Library("openblas"), Library("openmp"), Library(bad, {1}), Library("openmp")]
    monkeypatch.setattr(blas, "_find", lambda: libraries)
    with pytest.raises(OSError, match=f"{bad} refuses 1"):
        blas.BlasLimit().__enter__()
    assert [lib.num_threads for lib in libraries] == [4] * 4 and blas._entered == 0
    libraries[2].refuses = ()
    with blas.BlasLimit():          # and all begins anew
        assert [lib.num_threads for lib in libraries] == [1] * 4
        libraries[0].num_threads = 3
    assert [lib.num_threads for lib in libraries] == [4] * 4


def test_a_library_that_raises_in_another_thread_leaves_that_one_unlimited(monkeypatch):
    libraries = [Library("openblas"), Library("openmp")]
    monkeypatch.setattr(blas, "_find", lambda: libraries)
    with blas.BlasLimit():
        libraries[1].num_threads, libraries[1].refuses = 4, {1}     # as that thread has it
        with pytest.raises(OSError):
            in_thread(lambda: blas.BlasLimit().__enter__())
        assert libraries[0].num_threads == 1 and blas._entered == 1
        libraries[1].refuses = ()
    assert [lib.num_threads for lib in libraries] == [4, 4] and blas._entered == 0


def test_a_library_that_is_not_restored_does_not_keep_the_others(monkeypatch):
    libraries = [Library("openmp", {4}), Library("openmp"), Library("openblas")]
    monkeypatch.setattr(blas, "_find", lambda: libraries)
    with pytest.raises(OSError, match="refuses 4"), blas.BlasLimit():
        pass
    assert [lib.num_threads for lib in libraries] == [1, 4, 4] and blas._entered == 0


def test_openmp_is_limited_in_each_thread_that_enters():
    try:
        openmp = ctypes.CDLL("libgomp.so.1")
    except OSError:
        pytest.skip("no libgomp")
    before = openmp.omp_get_max_threads()
    openmp.omp_set_num_threads(3)

    def worker():
        openmp.omp_set_num_threads(4)
        before = openmp.omp_get_max_threads()
        with blas.BlasLimit():
            inside = openmp.omp_get_max_threads()
        return before, inside, openmp.omp_get_max_threads()
    try:
        with blas.BlasLimit():
            assert openmp.omp_get_max_threads() == 1
            assert in_thread(worker) == (4, 1, 4)
            assert openmp.omp_get_max_threads() == 1
        assert openmp.omp_get_max_threads() == 3
    finally:
        openmp.omp_set_num_threads(before)


def test_without_threadpoolctl_nothing_is_limited(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with blas.BlasLimit(), blas.BlasLimit():
        assert blas._entered == 1 and not blas._libraries
    assert blas._entered == 0


# ------------------------------------------------------------------ memory comes back
def train(dataset, *, threads=2, k=None):
    """Digest of a small model after an epoch; the pool is shut down."""
    model = mlp(6, 5, 3)
    with Trainer(1, enable_parallel=threads > 0, thread_count=threads, batches_per_update=k, seed=0) as t:
        t.init(dataset, model, losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        t.train()
    return hashlib.sha256(model.params.tobytes()).hexdigest()


class MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                                                     "uordblks", "fordblks", "keepcost")]


try:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
except (AttributeError, OSError, TypeError):        # not glibc
    mallinfo2 = None


def c_bytes():
    """Bytes that the C library has given out (and mapped for large pieces); 0 where it does not tell."""
    if mallinfo2 is None:
        return 0
    info = mallinfo2()
    return info.uordblks + info.hblkhd


B, K = 4, 2         # samples of a batch, batches of an update
#: bytes of each batch while an epoch runs. Native: B rows of order and a bound; cut into pieces and groups: sizes, edges
#: and ends, which are full, owners, pieces of each and starts, 1/K groups, and the pieces twice more on their way.
#: Results (loss, status, worker, attempts) come later and are less. Python driver: the dataset's order and bounds, and
#: those from a range.
KNOWN = {data.ArrayDataset: 8 * B + 8 + 3 * 8 + 1 + 3 * 8 + 8 // K + 3 * 8, Batched: 8 * B + 2 * 8}


@pytest.mark.parametrize("kind", KNOWN)
def test_memory_of_an_update_is_its_batches_results(kind, monkeypatch):
    few = 150 if kind is Batched else 1500
    end = [0]
    real = Crew.book

    def book(self, *args):
        end[0] = c_bytes()              # the last time everything of the epoch is alive
        real(self, *args)

    def cost(updates):
        """Of an epoch: the traced peak over what was before; C bytes at its end, and left after it; the least of three."""
        dataset = kind(*classification(updates * K * B), B)
        with Trainer(1, enable_parallel=True, thread_count=2, batches_per_update=K, seed=0) as t:
            t.init(dataset, mlp(6, 5, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
            t.train()       # replicas, slots and caches are there
            gc.collect()
            peaks = []
            tracemalloc.start()
            for _ in range(3):      # the least: Python's table of interned names may grow once, by megabytes
                tracemalloc.reset_peak()
                now = tracemalloc.get_traced_memory()[0]
                t.train()
                peaks.append(tracemalloc.get_traced_memory()[1] - now)
            tracemalloc.stop()
            gc.collect()
            at_ends, lefts = [], []
            with monkeypatch.context() as patch:
                patch.setattr(Crew, "book", book)
                for _ in range(3):      # the least: interpreters without a GIL free some things later
                    before = c_bytes()
                    t.train()
                    gc.collect()
                    at_ends.append(end[0] - before)
                    lefts.append(c_bytes() - before)
            assert t.history["updates"][-1] == updates
        return min(peaks), min(at_ends), min(lefts)
    some, many = cost(few), cost(10 * few)
    peak, at_end, left = ((m - s) / (9 * few * K) for s, m in zip(some, many, strict=True))
    # one object more for each batch, of whatever kind, is at least 16 bytes
    assert peak < KNOWN[kind] + 16
    assert at_end < KNOWN[kind] + 16
    assert left < 4


def blocks():
    """Sizes of all traced pieces, but for Python's table of interned names and what tracemalloc itself keeps."""
    gc.collect()
    if hasattr(sys, "_clear_type_cache"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            sys._clear_type_cache()         # it keeps names that it was asked for
    ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, tracemalloc.__file__)])
    return [t.size for t in ours.traces if t.domain == NUMPY_DATA or t.size < 2**18]


def test_200_rounds_give_everything_back():
    dataset = small_set()
    for _ in range(3):
        train(dataset)
    threads, seen, in_c = threading.active_count(), [], []
    tracemalloc.start()
    try:
        blocks()            # fills the caches of what it calls
        for i in range(1, 201):
            train(dataset)
            if i in (50, 200):
                seen.append(blocks())
                in_c.append(c_bytes())
    finally:
        tracemalloc.stop()
    assert threading.active_count() == threads
    first, last = seen
    # an object left in every second of 150 rounds; or a word in each, in an object that is there already
    assert len(last) - len(first) < 75
    assert sum(last) - sum(first) < 150 * 8
    # one replica's scratch is a megabyte, so none is left over
    assert in_c[1] - in_c[0] < 2**18


# ------------------------------------------------------------------ other processes
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


def small_set():
    return data.ArrayDataset(*classification(64), 8)


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
    want = train(dataset, threads=threads, k=k)
    with Trainer(1, enable_parallel=True, thread_count=2, seed=0) as t:
        t.init(dataset, Model(nn.Sequential(nn.Linear(6, 3), Waits())), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        parent = threading.Thread(target=t.train)
        parent.start()
        assert busy.wait(20)

        def child():
            assert train(dataset, threads=threads, k=k) == want
            assert t.shutdown(1)
        try:
            assert forked(child) == 0
        finally:
            go_on.set()
            parent.join(20)
    assert t.epoch == 1


@needs_fork
@pytest.mark.parametrize("lock", ["the pool's", "the trainer's"])
def test_a_child_forked_while_a_lock_is_taken_shuts_down(lock):
    """As while another thread gives out batches, or is configuring."""
    taken, go_on = threading.Event(), threading.Event()
    with Trainer(1, enable_parallel=True, thread_count=2, seed=0) as t:
        t.init(small_set(), Model(nn.Linear(6, 3)), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))

        def hold():
            with t._pool._lock if lock == "the pool's" else t._lock:
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
    return train(small_set(), threads=threads, k=2)


def train_and_leave():
    """Parallel training without a shutdown, and a circle that keeps the trainer to the end."""
    t = Trainer(1, enable_parallel=True, thread_count=2, seed=0)
    t.init(small_set(), mlp(6, 5, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
    t.train()
    assert t.is_parallel_training_enabled()
    t.keep = t


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_parallel_training_in_a_process_pool(method):
    want = train(small_set(), threads=1, k=2)
    with Trainer(1, enable_parallel=True, thread_count=2, seed=0) as t:       # a pool that the processes must not need
        t.init(small_set(), mlp(6, 5, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        t.train()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with multiprocessing.get_context(method).Pool(2) as pool:         # leaving it ends its processes
                assert pool.map_async(train_small, [2, 2, 3, 1]).get(60) == [want] * 4


def recommended(most):
    """Runs in a process of a pool: what is recommended for a large set, and the threads that a trainer starts."""
    os.environ["TINYDL_NUM_THREADS"] = most
    dataset = data.ArrayDataset(*classification(5000), 8)
    with Trainer(1, enable_parallel=True, seed=0) as t:
        t.init(dataset, mlp(6, 5, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        return threads.recommended_thread_count(625, 5000), t.get_parallel_thread_count()


@pytest.mark.parametrize("method", [*multiprocessing.get_all_start_methods(), "loky"])
def test_a_process_pool_does_not_oversubscribe(method):
    def in_pool(most):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if method == "loky":
                executor = pytest.importorskip("joblib.externals.loky").ProcessPoolExecutor(2)
                try:
                    return list(executor.map(recommended, [most] * 2, timeout=60))
                finally:
                    executor.shutdown(kill_workers=True)
            with multiprocessing.get_context(method).Pool(2) as pool:
                return pool.map_async(recommended, [most] * 2).get(60)
    assert not threads.in_process_pool()
    assert in_pool("") == [(1, 1)] * 2
    n = min(2, threads.usable_cpus())
    assert in_pool("2") == [(n, n)] * 2         # the user knows better


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
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
    for vector in (t.model.params, *(m.all for m in t._crew.team)):
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
print(time.monotonic(), flush=True)
"""


@pytest.mark.parametrize("strategy", ["group", "local", "hogwild"])
@pytest.mark.parametrize("kind", ["data.ArrayDataset", "type('Batched', (data.ArrayDataset,), {})"], ids=["native", "python"])
@pytest.mark.parametrize("python_layer", [True, False])
def test_a_worker_that_comes_back_after_the_interpreter_has_ended_stays_quiet(kind, strategy, python_layer, tmp_path):
    """The process, its interpreter gone, reads on until its input is closed. Its workers wait in a kernel, for a page of the
    samples that lies in a file without a byte, until that is filled."""
    late = tmp_path / "page"
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
    time.sleep(0.2)
    return True
rows, width""", 1)
    code += """
import ctypes
assert ctypes.pythonapi.Py_AtExit(ctypes.cast(ctypes.CDLL(None).getchar, ctypes.c_void_p)) == 0
"""
    with subprocess.Popen([sys.executable, "-W", "ignore::UserWarning", "-c", code], stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as p:
        while p.stderr.readline() != "the end\n":      # a line before says that the worker was put aside
            assert p.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):      # meanwhile the interpreter ends
            p.wait(0.5)
        late.write_bytes(bytes(mmap.PAGESIZE))
        with pytest.raises(subprocess.TimeoutExpired):      # else it crashed
            p.wait(1)
        p.stdin.close()
        assert p.stderr.read() == "" and p.wait(30) == 0


@pytest.mark.parametrize("strategy", ["group", "local", "hogwild"])
@pytest.mark.parametrize("kind", ["data.ArrayDataset", "type('Batched', (data.ArrayDataset,), {})"], ids=["native", "python"])
@pytest.mark.parametrize("wait", ["threading.Event().wait()", "time.sleep(60)", "lock_parameters()"],
                         ids=["lock", "sleep", "kernel"])
def test_a_process_ends_at_once_with_a_stuck_worker(wait, kind, strategy):
    """The kernel is the product behind that layer: it may not read the parameters, and what is called then pauses for good."""
    code = STUCK.format(wait=wait, shape=(4, 1024), batch=4, kind=kind, strategy=strategy)
    with subprocess.Popen([sys.executable, "-W", "ignore::UserWarning", "-c", code], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as p:
        late = threading.Timer(60, p.kill)
        late.start()
        p.wait()                # without a time limit: that would look only now and then
        ended = time.monotonic()
        late.cancel()
        out, err = p.stdout.read(), p.stderr.read()
    assert p.returncode == 0, err
    stuck, at = out.split()
    assert stuck == "True"
    assert ended - float(at) < 1        # from the main thread's last statement (the clock is the machine's) to no process
    assert err.endswith("the end\n")    # the interpreter says nothing as it ends


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux")
def test_no_library_thread_spins_beside_the_workers():
    """From 10,000 numbers on OpenBLAS shares a dot product, and its threads then spin for 0.1 s on the workers' CPUs."""
    code = """
import os, threading
import numpy as np
from tinydl import Model, Trainer, data, losses, nn, optim

def used_by_others():
    ours = {t.native_id for t in threading.enumerate()}
    def ticks(task):
        with open(f"/proc/self/task/{task}/stat") as f:
            return sum(map(int, f.read().rpartition(")")[2].split()[11:13]))
    return sum(ticks(task) for task in os.listdir("/proc/self/task") if int(task) not in ours)

x, y = np.zeros((24_000, 2), np.float32), np.zeros(24_000, np.int64)
with Trainer(1, strategy="shard", thread_count=2, enable_parallel=True, seed=0) as t:
    t.init(data.ArrayDataset(x, y, 2), Model(nn.Linear(2, 2), seed=0), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    before = used_by_others()
    for _ in range(15):
        t.train()
    print(used_by_others() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env=os.environ | {"OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0 and int(done.stdout) <= 5, done.stdout + done.stderr      # ticks of 10 ms
