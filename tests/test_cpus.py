"""CPUs: threads that are pinned or spread, and BLAS threads that are kept out of the workers' way."""
import ctypes
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from every_strategy import deep
from small import classification, in_thread

from tinydl import Trainer, losses, optim
from tinydl._kernels import _dispatch
from tinydl.parallel.host import affinity, blas

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")


def begin_alone(n_workers):
    """The calling thread as the first of so many workers."""
    places = affinity.Places([threading.current_thread()])
    places.begin_run(n_workers)
    places.begin(0)
    places.end_run()


# ------------------------------------------------------------------ CPUs
@needs_affinity
def test_pin_and_unpin():
    everywhere = os.sched_getaffinity(0)
    n = len(everywhere)

    def look(worker):
        seen = [affinity.pin(worker, n), os.sched_getaffinity(0)]
        begin_alone(n)
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
        begin_alone(2)
    assert len(caplog.records) == 1 and "not pinned" in caplog.text


@needs_affinity
def test_a_refused_cpu_leaves_the_thread_where_it_is(monkeypatch):
    def refuse(pid, cpus):
        raise OSError("no such CPU")
    everywhere = os.sched_getaffinity(0)
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert not affinity.pin(0, 1)
    affinity.unpin()
    begin_alone(len(everywhere))
    assert os.sched_getaffinity(0) == everywhere


class Scheduler:
    """Threads that are not: on which CPU each is, and where it may be."""

    def __init__(self, monkeypatch, n_cpus, on):
        self.on, self.may = list(on), [set(range(n_cpus)) for _ in on]
        self.threads = [SimpleNamespace(native_id=i + 1) for i in range(len(on))]
        self.asks = threading.local()           # .me: who does
        self.moves = []
        monkeypatch.setattr(os, "sched_getaffinity", lambda tid: set(self.may[self.of(tid)]), raising=False)
        monkeypatch.setattr(os, "sched_setaffinity", self.set, raising=False)
        monkeypatch.setattr(affinity, "current_cpu", lambda: self.on[self.of(0)])

    def of(self, tid):
        return tid - 1 if tid else self.asks.me

    def set(self, tid, cpus):
        self.may[self.of(tid)] = set(cpus)
        if self.on[self.of(tid)] not in cpus:
            self.on[self.of(tid)] = max(cpus)
            self.moves.append((self.asks.me, self.of(tid)))

    def begin(self, places, worker):
        self.asks.me = worker
        places.begin(worker)

    def run(self, places):
        places.begin_run(len(self.on))
        for worker in range(len(self.on)):
            self.begin(places, worker)
        places.end_run()


@pytest.mark.parametrize(("n_cpus", "on", "ends"), [
    (2, [0, 1], [0, 1]), (2, [1, 0], [1, 0]), (2, [0, 0], [0, 1]), (2, [1, 1], [1, 0]), (1, [0, 0], [0, 0]),
    (2, [1, 1, 1], [1, 1, 1]), (4, [3, 3, 3, 3], None), (8, [5] * 8, None), (8, [7, 7, 1], None)])
def test_workers_begin_on_cpus_of_their_own(n_cpus, on, ends, monkeypatch):
    s = Scheduler(monkeypatch, n_cpus, on)
    s.run(affinity.Places(s.threads))
    assert s.on == ends if ends is not None else len(set(s.on)) == len(on)
    assert s.may == [set(range(n_cpus))] * len(on)


def test_a_worker_is_moved_before_it_begins(monkeypatch):
    """While it waits that is cheap. One that the scheduler puts on a taken CPU in the last moment moves itself."""
    s = Scheduler(monkeypatch, 2, [1, 1])
    s.run(affinity.Places(s.threads))
    assert s.moves == [(0, 1)]
    monkeypatch.setattr(affinity, "KEPT_OFF", 0)
    s = Scheduler(monkeypatch, 2, [1, 1])
    s.run(affinity.Places(s.threads))
    assert s.moves == [(1, 1)] and s.on == [1, 0] and s.may == [{0, 1}] * 2


def test_those_that_do_not_begin_are_allowed_everywhere_again(monkeypatch):
    s = Scheduler(monkeypatch, 4, [2, 2, 2, 2])
    places = affinity.Places(s.threads)
    places.begin_run(4)
    s.begin(places, 0)
    assert s.may[1:] == [{0, 1, 3}] * 3 and 2 not in s.on[1:]
    places.end_run()
    assert s.may == [{0, 1, 2, 3}] * 4
    places.begin_run(2)         # of four threads
    s.begin(places, 0)
    s.begin(places, 1)
    assert s.may == [{0, 1, 2, 3}] * 4      # and at once where nobody else will begin


def test_a_worker_is_not_kept_off_after_it_has_begun(monkeypatch):
    """It begins while another one is about to keep it off."""
    s = Scheduler(monkeypatch, 4, [1, 1, 1])
    places, real, others = affinity.Places(s.threads), s.set, []

    def in_between(tid, cpus):
        if not others:
            others.append(threading.Thread(target=s.begin, args=(places, 1)))
            others[0].start()
            others[0].join(0.05)
        real(tid, cpus)
    monkeypatch.setattr(os, "sched_setaffinity", in_between)
    places.begin_run(3)
    s.begin(places, 0)
    others[0].join(20)
    assert s.may[:2] == [{0, 1, 2, 3}] * 2 and s.on[0] != s.on[1]


def test_where_somebody_else_allows_a_thread_it_stays_allowed(monkeypatch):
    s = Scheduler(monkeypatch, 4, [2, 2, 2])
    places = affinity.Places(s.threads)
    places.begin_run(3)
    s.begin(places, 0)
    s.may[1] = {0}              # as taskset does
    s.begin(places, 1)
    places.end_run()
    assert s.may == [{0, 1, 2, 3}, {0}, {0, 1, 2, 3}]


def test_a_worker_that_begins_twice_stays_where_it_is(monkeypatch):
    """It has two tasks of one run."""
    s = Scheduler(monkeypatch, 8, [3, 5])
    places = affinity.Places(s.threads)
    places.begin_run(4)
    for worker in (0, 1, 0, 1):
        s.begin(places, worker)
    assert s.on == [3, 5] and not s.moves


@needs_affinity
def test_the_pools_threads_are_allowed_everywhere_after_training(driver):
    everywhere = os.sched_getaffinity(0)
    with Trainer(2, strategy="shard", thread_count=2, seed=0) as t:
        t.init(driver(*classification(64), 8), deep(), losses.SoftmaxCrossEntropy(), optim.SGD())
        t.train()
        assert [os.sched_getaffinity(thread.native_id) for thread in t.runtime.pool.threads] == [everywhere] * 2


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
