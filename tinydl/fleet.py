"""Many models side by side: each trained by one thread from its beginning to its end, on several threads at once.

A batch of a small model is too little work to be cut over threads: two of them train 64-128-10 on batches of 32 samples 1.35
times as fast as one. Two such models side by side are trained twice as fast as one after another, since their threads need not
wait for each other. So this is the way to train the members of an ensemble, the folds of a cross-validation, or a search over
rates.

    results = fleet.train([member(seed) for seed in range(10)])         # trainers, each after its `init`
    scores = sum(result.trainer.model.predict(x) for result in results)

Guarantees (tests/test_fleet.py):
 - Each model gets the bits that its trainer's `train` gives it alone, whatever the number of threads, and whoever ends first.
 - The next trainer begins as soon as a thread is free. What one raises is in its result, and in the log; the others go on.
 - Ctrl-C, `stop` and `time_limit` end all within a second or so: each after the update under way, or, after 0.3 seconds,
   without it, at its next operation. What is then still in Python (a callback, a layer) is left to its thread, which is daemonic.
 - There are n_threads threads, and none that is left behind but those. (A trainer with a batch_timeout has one more.)

What a thread does in Python around an epoch takes about 0.1 milliseconds, and around a validation 0.05 or more. No two threads
are in Python at once (_kernels/engine/gil.pyx says how they take turns), so the shorter the epochs, the fewer threads are of use.
Layers, losses, evaluators, callbacks and datasets in Python give the same bits here as elsewhere, but have the GIL all the while,
but for NumPy's long calls. Models with a PythonLayer of a few microseconds take 1.6 times as long on two threads as on one: train
them with n_threads=1. Those with a layer that multiplies by a matrix of 512 x 512 are trained 1.9 times as fast.
"""
from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tinydl.log import log
from tinydl.parallel.host.threads import usable_cpus
from tinydl.parallel.workers.pool import GRACE, TICK, WorkerPool
from tinydl.parallel.workers.signals import uninterrupted
from tinydl.trainer import Trainer

__all__ = ["Result", "train"]

Status = Literal["finished", "stopped", "failed", "not begun"]


@dataclass(frozen=True)
class Result:
    """What became of one of the trainers of `train`; its model and history are `trainer.model` and `trainer.history`.

    index: its place among them. status: "finished"; "stopped" before its end, with the parameters of its last update, so that
    `trainer.train()` goes on from there; "failed", for `error`; "not begun". seconds: that it took.
    """

    index: int
    trainer: Trainer
    status: Status
    seconds: float = 0.0
    error: BaseException | None = None


def train(trainers: Iterable[Trainer], n_threads: int = -1, *, time_limit: float | None = None,
          stop: threading.Event | None = None, on_finish: Callable[[Result], object] | None = None) -> list[Result]:
    """Call `train()` of each trainer, n_threads of them at a time, and return what became of each, in the order of `trainers`.

    trainers: serial ones that were told what to train (`Trainer.init`). They may share datasets, and the losses that tinydl has:
    a model, optimizer, callback, evaluator, monitor, or a layer or loss in Python, that two of them have is a ValueError, since
    one training would depend on the other. A dataset of your own must bear being read by several threads at once.
    n_threads: -1 for as many as there are usable CPUs (parallel.usable_cpus()).

    time_limit: seconds after which those that run are stopped, as by Trainer.stop, and no other begins. stop: an event; setting
    it, from any thread, does the same at once. on_finish: called with each Result when there is one, in the thread that called
    `train`; what it raises stops all, and comes out. So does KeyboardInterrupt; the trainers then are as of their last updates.

        >>> from tinydl import Model, Trainer, datasets, fleet, losses, nn, optim
        >>> data = datasets.digits(batch_size=32).split(0.8, 0.2, seed=0)
        >>> def member(seed):
        ...     trainer = Trainer(2, seed=seed)
        ...     trainer.init(data, Model(nn.Linear(64, 10), seed=seed), losses.SoftmaxCrossEntropy(), optim.Adam(1e-2))
        ...     return trainer
        >>> results = fleet.train([member(seed) for seed in range(3)], n_threads=2)
        >>> [result.status for result in results]
        ['finished', 'finished', 'finished']
    """
    if not hasattr(trainers, "__iter__"):
        raise TypeError(f"trainers must be a list of them; got {trainers!r:.60}")
    trainers = list(trainers)
    _check(trainers)
    if isinstance(n_threads, bool) or not isinstance(n_threads, (int, np.integer)) or (n_threads < 1 and n_threads != -1):
        raise ValueError(f"n_threads={n_threads!r}: a whole number, at least 1, or -1 for as many as there are usable CPUs")
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit={time_limit!r}: seconds, more than 0, or None")
    results = [Result(i, trainer, "not begun") for i, trainer in enumerate(trainers)]
    n = min(usable_cpus() if n_threads == -1 else int(n_threads), len(trainers))
    if n:
        until = float("inf") if time_limit is None else time.monotonic() + time_limit
        with uninterrupted() as held:
            fleet = _Fleet(trainers, n)
            try:
                _follow(fleet, until, stop, on_finish, results, held)
            finally:
                fleet.end()
            for result in fleet.ended():
                _tell(result, on_finish, results, held)
    return results


def _check(trainers: list[Trainer]) -> None:
    """TypeError or ValueError where they cannot be trained side by side."""
    owners: dict[int, int] = {}
    for i, trainer in enumerate(trainers):
        if not isinstance(trainer, Trainer):
            raise TypeError(f"trainers[{i}] must be a Trainer; got {type(trainer).__name__}")
        if trainer.runtime.resources is None:
            raise ValueError(f"trainers[{i}] has nothing to train: Trainer.init(dataset, model, loss, optimizer) comes first")
        if trainer.runtime.enabled:
            raise ValueError(f"trainers[{i}] is to train on several threads by itself: make it with enable_parallel=False")
        if trainer.ranks is not None:
            raise ValueError(f"trainers[{i}] makes its updates together with other processes (ranks=...)")
        for what, part in _own(trainer):
            first = owners.setdefault(id(part), i)
            if first != i:
                raise ValueError(f"trainers[{first}] and trainers[{i}] have the same {what} ({type(part).__name__}): each needs "
                                 "its own")


def _own(trainer: Trainer) -> Iterator[tuple[str, object]]:
    """What training changes, and may not be another trainer's."""
    yield from (("trainer", trainer), ("model", trainer.model), ("optimizer", trainer.optimizer), ("monitor", trainer.monitor))
    yield from (("callback", callback) for callback in trainer.callbacks)
    if trainer.evaluator is not None:
        yield "evaluator", trainer.evaluator
    for hook in trainer.resources.plan.program.hooks:
        yield "Python layer or loss", hook.layer


def _follow(fleet: _Fleet, until: float, stop: threading.Event | None, on_finish: Callable[[Result], object] | None,
            results: list[Result], held: uninterrupted) -> None:
    """Take results as they come, until there are no more, or all are to stop."""
    while fleet.busy and time.monotonic() < until and not (stop is not None and stop.is_set()):
        for result in fleet.ended(min(TICK, max(0.0, until - time.monotonic()))):
            _tell(result, on_finish, results, held)
        held.let_in()


def _tell(result: Result, on_finish: Callable[[Result], object] | None, results: list[Result], held: uninterrupted) -> None:
    results[result.index] = result
    if on_finish is not None:
        with held.open():
            on_finish(result)


class _Fleet:
    """Threads that take one trainer after the other. All but what is named `_serve`, `_next`, `_run` and `_put` is for the thread
    that called `train`."""

    def __init__(self, trainers: list[Trainer], n_threads: int) -> None:
        self._left = deque(enumerate(trainers))
        self._running: dict[int, tuple[int, Trainer]] = {}      # by the thread's number
        self._lock = threading.Lock()           # of these two: a trainer is left, or it runs, or its result is in `_ended`
        # SimpleQueue: it is written in C, so that no signal's handler can interrupt it while it has a lock
        self._ended: queue.SimpleQueue[Result] = queue.SimpleQueue()
        # Open where there may be results. They are not waited for by `_ended.get(timeout=...)`, since up to CPython 3.12 that
        # waits without an end where a signal arrives just before its time is over.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._n_awaited = len(trainers)
        self._pool = WorkerPool(n_threads)
        self._pool.places.begin_run(n_threads)
        self._pool.submit_all([self._serve] * n_threads)

    @property
    def busy(self) -> bool:
        """Whether there are results to come."""
        return self._n_awaited > 0

    def ended(self, timeout: float = 0.0) -> Iterator[Result]:
        """The results that are there; where there are none yet, the first that comes in time."""
        self._bell.acquire(timeout=timeout)
        while not self._ended.empty():
            self._n_awaited -= 1
            yield self._ended.get()

    def end(self) -> None:
        """Begin no other trainer, and stop those that run: after their update, or at their next operation. Those that are not
        back then have failed."""
        with self._lock:
            self._n_awaited -= len(self._left)
            self._left.clear()
        self._ask_all(time.monotonic() + GRACE)
        for _, trainer in self._now():
            trainer.shutdown(0)
        self._pool.places.end_run()
        with self._lock:
            gone, self._running = self._running, {}
        self._pool.shutdown(GRACE)
        for index, trainer in gone.values():
            error = TimeoutError("it did not stop: a layer, a loss, a callback or a dataset is still at work in its thread")
            log.warning("trainers[%d]: %s", index, error)
            self._put(Result(index, trainer, "failed", error=error))

    def _put(self, result: Result) -> None:
        self._ended.put(result)
        with suppress(RuntimeError):        # it is open already
            self._bell.release()

    def _now(self) -> list[tuple[int, Trainer]]:
        with self._lock:
            return list(self._running.values())

    def _ask_all(self, deadline: float) -> None:
        """Ask those that run to stop, again and again, since as its `train` begins a trainer forgets what was asked of it."""
        while (running := self._now()) and time.monotonic() < deadline:
            for _, trainer in running:
                trainer.stop()
            time.sleep(0.002)

    # ------------------------------------------------------------------ in the threads
    def _serve(self, thread: int) -> None:
        self._pool.places.begin(thread)
        while (job := self._next(thread)) is not None:
            result = self._run(*job)
            with self._lock:
                if self._running.pop(thread, None) is None:     # it was given up
                    return
                self._put(result)

    def _next(self, thread: int) -> tuple[int, Trainer] | None:
        with self._lock:
            if not self._left:
                return None
            job = self._running[thread] = self._left.popleft()
            return job

    def _run(self, index: int, trainer: Trainer) -> Result:
        started = time.perf_counter()
        try:
            trainer.train()
        except BaseException as e:      # also KeyboardInterrupt, which in this thread is nobody's Ctrl-C
            log.warning("trainers[%d] failed: %s: %s", index, type(e).__name__, e, exc_info=(type(e), e, e.__traceback__))
            return Result(index, trainer, "failed", time.perf_counter() - started, e)
        finally:
            with trainer.runtime.lock:
                if trainer.runtime.call is None:        # else it is trained elsewhere, and has failed here for that
                    trainer.resources.drop()            # its workspace: the next `train` makes another
        return Result(index, trainer, "stopped" if trainer.history.interrupted else "finished", time.perf_counter() - started)
