"""Runtime: which threads a trainer trains with, which call is using the trainer, and how training ends.

It has the number of threads asked for, how many of them there is memory for, their pool, and what they train with.
`configure`, `stop`, `shutdown` and the questions may be called from any thread at any moment: from a callback, a layer, the
handler of a signal. All other methods are for the thread of the call that is using the trainer.
 1. One call at a time (train, init, ...) uses the trainer, by `exclusive`; a second one gets an error at once.
 2. During a call only its thread changes the pool, and only between two updates (`next_setting`). What other threads ask for
    meanwhile is noted under the lock, and the run is asked to end after the update under way.
 3. `shutdown` takes the pool away at once, so that nothing new begins in it. Then it waits, without the lock, for the call to
    end and for the threads. Threads that do not end in time are remembered, and the next shutdown waits for them again.
 4. A forked child has only the thread that forked: locks and pool are made anew, and another thread's call is over.
"""
from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tinydl.data import Dataset
from tinydl.parallel.errors import ParallelFallbackWarning
from tinydl.parallel.execution.epoch import FailurePolicy, Setting
from tinydl.parallel.execution.resources import Resources
from tinydl.parallel.host.memory import MemoryReport, fitting_threads, memory_report
from tinydl.parallel.host.threads import cpu_limit, recommended_thread_count
from tinydl.parallel.strategies import Serial, Strategy
from tinydl.parallel.workers.fork import renew_in_children
from tinydl.parallel.workers.pool import WorkerPool
from tinydl.parallel.workers.signals import uninterrupted

__all__ = ["Runtime"]

log = logging.getLogger("tinydl")

MAX_THREADS = 1024

#: one batch, one update, in the calling thread
SERIAL = Setting("serial", 1, 1, 1, Serial())

#: seconds that a shutdown waits, beyond its timeout, for a run that it has cancelled
MARGIN = 0.15


class ExclusiveCall:
    """One call that is using a trainer (train, init, ...): its thread, and the pool that a shutdown has taken from it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.pool: WorkerPool | None = None


class Runtime:
    """The threads of one trainer. enabled, thread_count: see `configure`; shutdown_timeout: seconds."""

    def __init__(self, strategy: Strategy, policy: FailurePolicy, enabled: bool, thread_count: int,
                 shutdown_timeout: float) -> None:
        _check_threads(thread_count)
        if not 0 <= shutdown_timeout < float("inf"):
            raise ValueError(f"shutdown_timeout={shutdown_timeout}: seconds, at least 0")
        self.strategy, self.policy, self.shutdown_timeout = strategy, policy, float(shutdown_timeout)
        self.enabled, self.thread_count = bool(enabled), int(thread_count)
        self.changed = self.stopping = False
        self.call: ExclusiveCall | None = None           # the call that is using the trainer
        self.resources: Resources | None = None
        self.dataset: Dataset | None = None
        self.pool: WorkerPool | None = None
        self.fallback: str | None = None        # why parallel training cannot run
        self._copyable = True                   # whether the model can be copied
        self._closed: list[WorkerPool] = []     # pools that were shut down, with threads that may still be in a task
        self._fitting: tuple[int, int] | None = None    # threads asked for, and how many of them there is memory for
        self._fits: set[str] = set()                    # modes without a pool for which there is known to be memory
        self._renew_locks()
        renew_in_children(self)

    def __reduce__(self) -> tuple[type[Runtime], tuple[Strategy, FailurePolicy, bool, int, float]]:
        return Runtime, (self.strategy, self.policy, self.enabled, self.thread_count, self.shutdown_timeout)

    def again(self) -> Runtime:
        """A runtime with the same configuration, and with a pool and locks of its own."""
        kind, arguments = self.__reduce__()
        return kind(*arguments)

    def _renew_locks(self) -> None:
        """For `workers.fork`. If another thread than the training one has forked, nothing trains in the child."""
        self.lock = threading.RLock()           # configuration, pool, and call
        self.pool = None                        # its threads are not here
        if self.resources is not None:
            self.resources.renew_locks()
        if self.call is not None and not self.is_ours():
            self.call = None
            if self.resources is not None:
                self.resources.forget_workers()

    def take(self, resources: Resources, dataset: Dataset, error: BaseException | None) -> None:
        """Train this from now on; error: why the model cannot be replicated. Callers hold the lock."""
        self.resources, self.dataset, self._fitting, self._fits = resources, dataset, None, set()
        self._copyable = error is None
        self.fallback = None if error is None else f"the model cannot be replicated ({type(error).__name__}: {error})"
        self.strategy.forget(resources)

    def need_resources(self) -> Resources:
        if self.resources is None:
            raise RuntimeError("Trainer.init(dataset, model, loss, optimizer) comes first")
        return self.resources

    # ------------------------------------------------------------------ one call at a time
    @contextmanager
    def exclusive(self, what: str) -> Iterator[None]:
        """Within this context the calling thread uses the trainer: RuntimeError if another call does. To be used within
        `uninterrupted`, since a signal between its beginning and the body would leave the trainer in use for ever."""
        with self.lock:
            if self.call is not None:
                raise RuntimeError(f"{what} while this trainer is training (in another thread, or from a callback)")
            self.call, self.stopping = ExclusiveCall(), False
            if self.resources is not None:
                self.resources.take_up()
        try:
            yield
        finally:
            with self.lock:
                self.call = None
                if self.changed:        # a `configure` that this call did not act on
                    self.ensure_pool()

    def is_ours(self) -> bool:
        """Whether the calling thread is the one that is using the trainer now."""
        call = self.call        # read once: it may end meanwhile
        return call is not None and call.thread == threading.get_ident()

    # ------------------------------------------------------------------ configuration
    def configure(self, enable: bool, thread_count: int = 0) -> bool:
        """See Trainer.configure_parallel_training. False if the training thread has yet to act on it."""
        _check_threads(thread_count)
        with self.lock:
            self.enabled, self.thread_count = bool(enable), int(thread_count)
            self.changed, self._fitting, self._fits = True, None, set()
            if self.call is not None:
                if self.resources is not None:
                    self.resources.ask()
                return False
            self.ensure_pool()
        return True

    def is_parallel(self) -> bool:
        """Whether parallel training is configured, and its pool exists and is alive."""
        with self.lock:
            return self.enabled and self.fallback is None and self.pool is not None and self.pool.alive

    def n_threads(self) -> int:
        """Threads that would train now."""
        with self.lock:
            return self.pool.n_threads if self.pool is not None and self.is_parallel() else 1

    def warn_fallback(self) -> None:
        """Warn if parallel training is not possible; see `fallback`."""
        if self.fallback is not None:
            instead = "training is serial" if self.mode(None) == "serial" else "the same updates run on one replica"
            warnings.warn(f"parallel training cannot run: {self.fallback}; {instead} in the calling thread instead",
                          ParallelFallbackWarning, stacklevel=3)

    def ensure_pool(self) -> None:
        """Make the pool that the configuration asks for, unless it is there; end the pool if none is wanted."""
        with self.lock:
            wanted = self._threads_wanted() if self.enabled and self.fallback is None and self.strategy.parallel else 0
            if self.pool is None or not self.pool.alive or self.pool.n_threads != wanted:
                self._new_pool(wanted)
            self.changed = False

    def _new_pool(self, n_threads: int) -> None:
        if self.pool is not None:
            self.pool.shutdown(self.shutdown_timeout if self.pool.alive else 0)
        with uninterrupted():
            self.pool = WorkerPool(n_threads) if n_threads else None
        if log.isEnabledFor(logging.DEBUG):
            log.debug("pool of %d threads; usable CPUs: %d (decided by %s)", n_threads, *cpu_limit())

    # ------------------------------------------------------------------ the end
    def stop(self) -> None:
        """As Trainer.stop says."""
        self.stopping = True
        if self.resources is not None:
            self.resources.ask()

    def shutdown(self, timeout: float | None = None) -> bool:
        """As Trainer.shutdown says."""
        timeout = self.shutdown_timeout if timeout is None else float(timeout)      # NumPy's float32 has too few digits
        deadline = time.monotonic() + timeout
        with self.lock, uninterrupted():
            call, resources = self.call, self.resources
            self.stopping, self.changed = call is not None, False
            if resources is not None and call is not None:
                resources.ask()
                resources.give_up_at = deadline if resources.give_up_at is None else min(resources.give_up_at, deadline)
            pool, self.pool = self.pool, None
            if pool is not None:
                pool.close()
                self._closed.append(pool)
                if call is not None:
                    call.pool = pool
        if call is None or self.is_ours():
            return self._threads_end(deadline)
        if call.pool is not None and threading.current_thread() in call.pool.threads:
            return False
        if not self._wait_for(call, deadline):
            with self.lock:
                if resources is not None and self.call is call:
                    resources.cancel()
        ended = self._wait_for(call, deadline + MARGIN)
        return self._threads_end(deadline + MARGIN) and ended

    def _threads_end(self, deadline: float) -> bool:
        """Wait for the threads of all closed pools, also those that an earlier shutdown has left; whether all ended in
        time."""
        for pool in list(self._closed):
            if pool.shutdown(deadline - time.monotonic()):
                with self.lock:
                    self._closed = [p for p in self._closed if p is not pool]
        return not self._closed

    def _wait_for(self, call: ExclusiveCall, deadline: float) -> bool:
        """Wait until `call` is over, or until the deadline; whether it is over. It sleeps and looks, since a Ctrl-C during
        the wait for an Event may leave the event's lock held."""
        while self.call is call and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.call is not call

    # ------------------------------------------------------------------ what to run
    def mode(self, asked: str | None) -> str:
        """"serial", "parallel" or "simplified" (see Setting): what training runs as now. asked: a mode, or None for what is
        configured."""
        if asked == "serial" or (asked is None and not self.enabled) or not self.strategy.parallel:
            return "serial"
        if not self._copyable and self.strategy.copies(1):
            return "serial"
        return "simplified" if asked == "simplified" or self.fallback is not None else "parallel"

    def next_setting(self, asked: str | None) -> tuple[str, Setting, int | None, WorkerPool | None] | None:
        """How to go on, for the training thread between two updates: the mode, the setting, the number of updates at most
        (None: no limit), and the pool. None if training is to stop."""
        with self.lock:
            self.need_resources().take_back()
            if self.stopping:           # a shutdown may have ended the pool
                return None
            if self.changed and asked is None:
                self.ensure_pool()
            setting, most = self.setting(asked)
            return self.mode(asked), setting, most, self.pool_for(setting)

    def wants_back(self, asked: str | None, setting: Setting) -> bool:
        """Whether a run with that setting should end after the update under way."""
        return self.stopping or (self.changed and asked is None) or self.too_many_hung or setting.brief

    def setting(self, asked: str | None) -> tuple[Setting, int | None]:
        """The setting to run with now, and the number of updates at most. Callers hold the lock."""
        mode = self.mode(asked)
        if mode == "parallel":
            assert self.dataset is not None
            return self.strategy.setting(self._threads_that_fit(), self.dataset.n_batches)
        setting = self._largest_setting(mode, 1 if mode == "serial" else self._threads_wanted())
        if mode not in self._fits:
            fitting_threads(self._memory_for(setting))
            self._fits.add(mode)
        return setting, None

    def pool_for(self, setting: Setting) -> WorkerPool | None:
        """The pool for a run with that setting, or None to run in the calling thread. Serial training has a pool of one
        thread if batch_timeout is set, so that a batch can be given up. Callers hold the lock."""
        assert self.dataset is not None
        # the native driver submits as many tasks as the setting has threads, so the pool may be larger; the Python driver
        # submits a task for each batch, and every thread of the pool would take some
        n = max(setting.n_threads, setting.keep) if self.need_resources().takes_arrays(self.dataset) else setting.n_threads
        if setting.mode != "parallel":
            if self.policy.timeout is None or self.fallback is not None:
                return None
            n = 1
        if self.pool is None or not self.pool.alive or self.pool.n_threads != n:
            self._new_pool(n)
        return self.pool

    @property
    def too_many_hung(self) -> bool:
        """Whether so many workers were put aside that training is to go on in the calling thread."""
        return self.fallback is None and self.need_resources().hung_workers > self.policy.max_hung

    def go_on_serially_if_many_hung(self) -> None:
        if self.too_many_hung:
            self.fallback = (f"{self.need_resources().hung_workers} workers were put aside for batches that took longer than "
                             f"batch_timeout={self.policy.timeout:g} s")
            self.warn_fallback()

    # ------------------------------------------------------------------ threads that there is memory for
    def memory_report(self) -> MemoryReport:
        """As Trainer.memory_report says."""
        with self.lock:
            return self._memory_for(self._largest_setting(self.mode(None), self._threads_wanted()))

    def lower(self, n: int) -> None:
        """Go on with n threads, fewer than wanted, and warn about it."""
        with self.lock:
            wanted, asked = self._threads_wanted(), self._threads_asked()
            self._fitting = asked, n
        before, after = (self._largest_setting("parallel", m) for m in (wanted, n))
        changed = (f", and with updates of {after.k} instead of {before.k} batches or parts" if before.k != after.k else
                   f", and with {after.copies} instead of {before.copies} copies" if before.copies != after.copies else "")
        warnings.warn(f"there is no memory for {wanted} threads: training goes on with {n}{changed} "
                      "(see Trainer.memory_report())", ParallelFallbackWarning, stacklevel=4)

    def _threads_asked(self) -> int:
        if self.thread_count:
            return self.thread_count
        if self.dataset is None:
            return recommended_thread_count()
        return recommended_thread_count(self.dataset.n_batches, self.dataset.n_samples)

    def _threads_wanted(self) -> int:
        """The number of threads asked for, or as many as there is memory for, if that is known to be fewer."""
        asked = self._threads_asked()
        return self._fitting[1] if self._fitting is not None and self._fitting[0] == asked else asked

    def _threads_that_fit(self) -> int:
        """The number of threads asked for, or fewer, with one warning, if there is not enough memory; MemoryError with the
        figures if there is not enough for one. Memory is looked at once for each number asked for. Callers hold the lock."""
        asked = self._threads_asked()
        if self._fitting is None or self._fitting[0] != asked:
            def counts(n_threads: int) -> tuple[int, int]:
                return self._slots_and_copies(self._largest_setting("parallel", n_threads))
            n = fitting_threads(self._memory_for(self._largest_setting("parallel", asked)), counts)
            if n < asked:
                self.lower(n)
            self._fitting = asked, n
        return self._fitting[1]

    def _largest_setting(self, mode: str, n_threads: int) -> Setting:
        """The setting that needs the most memory of those that training in `mode` with n_threads may use."""
        if mode == "serial":
            return SERIAL
        return Setting(mode, n_threads if mode == "parallel" else 1, *self.strategy.cut(n_threads), self.strategy,
                       self.strategy.copies(n_threads))

    def _slots_and_copies(self, setting: Setting) -> tuple[int, int]:
        """How many gradient slots and copies of the model this process makes. A rank without a copy to train has one, too, for
        the mean of the others'."""
        copies = setting.copies and max(1, len(self.need_resources().own_copies(setting.copies)))
        return copies or setting.n_slots, copies

    def _memory_for(self, setting: Setting) -> MemoryReport:
        resources = self.need_resources()
        held = {"held_copies": len(resources.model_copies)} if setting.copies else {
            "held_threads": len(resources.replicas), "held_slots": len(resources.slots)}
        return memory_report(resources.model, resources.plan, resources.optimizer, setting.n_threads,
                             *self._slots_and_copies(setting), state=resources.state, **held)


def _check_threads(thread_count: int) -> None:
    if isinstance(thread_count, bool) or not isinstance(thread_count, (int, np.integer)):
        raise TypeError(f"thread_count={thread_count!r}: a whole number, 0 for the recommended one")
    if not 0 <= thread_count <= MAX_THREADS:
        raise ValueError(f"thread_count={thread_count}: 0 (recommended) to {MAX_THREADS}")
