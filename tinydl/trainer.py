"""Trainer: configuration and the loop over epochs."""
from __future__ import annotations

import copy
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl.callbacks import Callback
from tinydl.checkpoint import load_checkpoint, save_checkpoint
from tinydl.data import ArrayDataset, Dataset, Split
from tinydl.losses import Loss
from tinydl.metrics import Evaluator, evaluate
from tinydl.model import Model
from tinydl.monitor import EpochRecord, History, Monitor
from tinydl.optim import Optimizer
from tinydl.parallel import python_driver, strategies
from tinydl.parallel.blas import BlasLimit
from tinydl.parallel.crew import Crew, GaveUpError
from tinydl.parallel.errors import BatchFailure, ParallelFallbackWarning, TrainingError
from tinydl.parallel.fork import renew_in_children
from tinydl.parallel.job import FailurePolicy, Job, Setting
from tinydl.parallel.memory import MemoryReport, fitting_threads, memory_report
from tinydl.parallel.pool import PoolClosedError, WorkerPool
from tinydl.parallel.profile import Profile, profile
from tinydl.parallel.replica import replication_error
from tinydl.parallel.signals import uninterrupted
from tinydl.parallel.stats import ParallelStats
from tinydl.parallel.threads import recommended_thread_count

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

Array = np.ndarray[Any, Any]

__all__ = ["Trainer"]

log = logging.getLogger("tinydl")

MAX_THREADS = 1024

#: seconds that a shutdown waits beyond its timeout for what it has cancelled
MARGIN = 0.15


class Turn:
    """One call that has a trainer for itself (train, init, ...), its thread, and the pool that a shutdown took from it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.pool: WorkerPool | None = None


class Trainer:
    """Trains a model, serially or over a fixed pool of threads.

    max_epochs: epochs of each `train` call. monitor: keeps and prints the history (None: kept, not printed).
    evaluator: figures on the validation data of each epoch. enable_parallel, thread_count: see
    `configure_parallel_training`; left out, it is parallel where a parallel strategy is named. seed: of the order
    of batches and of random masks (None: a fresh one). shutdown_timeout: seconds.

    strategy: how batches become updates, by name ("group", "shard", "local", "hogwild", "serial", "auto") or as an
    object of `tinydl.parallel.strategies`. batches_per_update (group, auto): batches whose gradients make one update;
    shards_per_batch (shard, auto): parts of a batch; both default to the thread count, and with them fixed the
    result has the same bits for any thread count.

    on_batch_failure: "skip" a batch that fails, "retry" it (max_retries times, then skip), or "raise". More failures
    than max_failed_fraction of an epoch's batches (one may always fail, unless it is 0) end training with
    TrainingError and the parameters of the last good update. batch_timeout: seconds after which a batch in a worker is
    given up, never to be run again: its worker, unless it comes back at once, is put aside and another takes over; after
    max_hung_workers of them training goes on in the calling thread, where no batch can be given up. callbacks: see
    `tinydl.callbacks`. pin_threads: keep each worker on a CPU of its own (Linux; for machines that run nothing else).

        >>> from tinydl import Model, datasets, losses, nn, optim
        >>> data = datasets.digits().split(0.8, 0.0, 0.2, seed=0)
        >>> model = Model(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), seed=0)
        >>> with Trainer(2, enable_parallel=True, thread_count=2, seed=0) as trainer:
        ...     trainer.init(data, model, losses.SoftmaxCrossEntropy(), optim.Adam(lr=1e-2))
        ...     history = trainer.train()
        >>> history["loss"][1] < history["loss"][0]
        True
    """

    def __init__(self, max_epochs: int, monitor: Monitor | None = None, evaluator: Evaluator | None = None,
                 enable_parallel: bool | None = None, thread_count: int = 0, *, seed: int | None = None,
                 strategy: str | strategies.Strategy | None = None, batches_per_update: int | None = None,
                 shards_per_batch: int | None = None, on_batch_failure: str = "skip", max_retries: int = 2,
                 max_failed_fraction: float = 0.1, batch_timeout: float | None = None, max_hung_workers: int = 2,
                 pin_threads: bool = False, shutdown_timeout: float = 30.0, callbacks: Sequence[Callback] = ()) -> None:
        if max_epochs < 0:
            raise ValueError(f"max_epochs={max_epochs}: at least 0")
        if not 0 <= shutdown_timeout < float("inf"):
            raise ValueError(f"shutdown_timeout={shutdown_timeout}: seconds, at least 0")
        _check_threads(thread_count)
        self.strategy = _strategy(strategy, batches_per_update=batches_per_update, shards_per_batch=shards_per_batch)
        self.failure_policy = FailurePolicy(on_batch_failure, max_retries, max_failed_fraction, batch_timeout, max_hung_workers)
        if enable_parallel is None:
            enable_parallel = strategy is not None and self.strategy.parallel
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be Callback objects; got {type(callback).__name__}")
            if callback.every is not None and callback.every < 1:
                raise ValueError(f"{type(callback).__name__}.every={callback.every}: at least 1, or None")
        self.callbacks, self.pin_threads = list(callbacks), pin_threads
        self._fitting: tuple[int, int] | None = None    # (threads asked for, of these: those that there is memory for)
        self._fits: set[str] = set()                    # modes in the calling thread that there is memory for
        self.max_epochs, self.evaluator = max_epochs, evaluator
        self.monitor = monitor if monitor is not None else Monitor(quiet=True)
        self.seed = int(np.random.default_rng().integers(2**63)) if seed is None else seed
        self.shutdown_timeout = shutdown_timeout
        self.epoch = 0                          # epochs finished
        self._turn: Turn | None = None          # whose it is: one train at a time
        self._crew: Crew | None = None
        self._renew_locks()
        renew_in_children(self)
        self._enabled, self._asked_threads = bool(enable_parallel), int(thread_count)
        self._changed = self._stopping = False
        self._pool: WorkerPool | None = None
        self._closed: list[WorkerPool] = []     # by a shutdown, and some of their threads may still be in a task
        self._fallback: str | None = None       # why parallel training cannot run
        self._copyable = True                   # whether the model is
        self._job: Job | None = None            # an epoch that was interrupted
        self._recipe: list[int] | None = None   # Strategy.recipe of the updates made last
        self._resumed = False                   # they were a checkpoint's
        self._untold: list[tuple[Callback, EpochRecord]] = []       # epochs that have ended, and who is to hear of it
        if os.environ.get("TINYDL_PARALLEL_DEBUG") == "1":
            if not log.handlers:
                log.addHandler(logging.StreamHandler())
            log.setLevel(logging.DEBUG)

    def _renew_locks(self) -> None:
        """For `parallel.fork`. In a child that another thread than the training one has forked, nothing trains."""
        self._lock = threading.RLock()          # configuration, pool, and turn
        if self._crew is not None:
            self._crew.renew_locks()
        if self._turn is not None and not self._is_ours():
            self._turn = None
            if self._crew is not None:
                self._crew.forget_workers()

    def _is_ours(self) -> bool:
        """Whether the calling thread is the one that has the trainer now."""
        turn = self._turn       # it may end meanwhile
        return turn is not None and turn.thread == threading.get_ident()

    # ------------------------------------------------------------------ what to train
    def init(self, dataset: Dataset | Split[Any], model: Model, loss: Loss, optimizer: Optimizer) -> None:
        """Set what to train. A Split trains on its train part, validates each epoch, and evaluates on its test part.

        Everything is checked before anything changes. Epoch numbers begin anew.
        """
        with uninterrupted() as held, self._exclusive("init"), held.open():
            self._init(dataset, model, loss, optimizer)
            with self._lock:
                self._ensure_pool()
        if self._enabled:
            self._warn_fallback()

    def _init(self, dataset: Dataset | Split[Any], model: Model, loss: Loss, optimizer: Optimizer) -> None:
        parts = dataset if isinstance(dataset, Split) else Split(dataset, None, None)
        for value, kind, name in ((parts.train, Dataset, "dataset"), (model, Model, "model"), (loss, Loss, "loss"),
                                  (optimizer, Optimizer, "optimizer")):
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be a {kind.__name__}; got {type(value).__name__}")
        train = parts.train
        output = model.output_shape(train.input_shape)
        arrays = None
        if type(train) is ArrayDataset:
            arrays = train.x, loss.check_targets(train.y, output)
            for part in (parts.validation, parts.test):
                if isinstance(part, ArrayDataset):
                    loss.check_targets(part.y, output)
        model._shape = train.input_shape
        crew = Crew(model, loss, optimizer, train.batch_size, self.seed, self.failure_policy,
                    self.pin_threads)
        if arrays is not None:
            crew.set_arrays(*arrays)
        error = replication_error(model, loss)
        with self._lock:
            self.data, self.model, self.loss, self.optimizer = parts, model, loss, optimizer
            self._crew, self._job, self.epoch, self._fitting, self._fits = crew, None, 0, None, set()
            self._recipe, self._resumed, self._untold = None, False, []
            self.strategy.forget()
            self._copyable = error is None
            self._fallback = None if error is None else f"the model cannot be replicated ({type(error).__name__}: {error})"

    def _warn_fallback(self) -> None:
        if self._fallback is not None:
            instead = "training is serial" if self._mode(None) == "serial" else "the same updates run on one replica"
            warnings.warn(f"parallel training cannot run: {self._fallback}; {instead} in the calling thread instead",
                          ParallelFallbackWarning, stacklevel=3)

    def _warn_other_updates(self, recipe: list[int] | None) -> None:
        """Say so where training goes on from a checkpoint in other updates than before: its bits will be others."""
        before = self._recipe
        if self._resumed and recipe is not None and before is not None and recipe != before:
            def text(batches: int, parts: int, copies: int = 0, sync_every: int = 0, *_: int) -> str:
                return (f"{batches} batch{'es' * (batches > 1)} an update" + f", each in {parts} parts" * (parts > 1)
                        + f", on {copies} copies of the model averaged every {sync_every}" * (copies > 1))
            warnings.warn(f"the checkpoint was trained with {text(*before)}; training goes on with {text(*recipe)}, so not with "
                          "the bits that it would have had. Give the same numbers where that matters: batches_per_update, "
                          "shards_per_batch, or Local(n_models=...)", UserWarning, stacklevel=7)
        self._resumed = False

    def _need_init(self) -> Crew:
        if self._crew is None:
            raise RuntimeError("Trainer.init(dataset, model, loss, optimizer) comes first")
        return self._crew

    # ------------------------------------------------------------------ configuration, from any thread
    def configure_parallel_training(self, enable: bool, thread_count: int = 0) -> None:
        """Switch parallel training on or off, with this many threads (0: the number recommended now).

        While training runs, it takes effect at the next update (strategy local: round); no batch is lost or repeated.
        """
        _check_threads(thread_count)
        with self._lock:
            self._enabled, self._asked_threads = bool(enable), int(thread_count)
            self._changed, self._fitting, self._fits = True, None, set()
            if self._turn is not None:
                if self._crew is not None:
                    self._crew.ask()
                return          # the training thread changes its own pool, between two updates
            self._ensure_pool()
        if enable:
            self._warn_fallback()

    def is_parallel_training_enabled(self) -> bool:
        """Whether parallel training is configured, and its pool exists and is alive."""
        with self._lock:
            return self._enabled and self._fallback is None and self._pool is not None and self._pool.alive

    def get_parallel_thread_count(self) -> int:
        """Threads that would really train now: the pool's, or 1. Strategy "auto" may let fewer of them train (see `stats`)."""
        with self._lock:
            return self._pool.n_threads if self._pool is not None and self.is_parallel_training_enabled() else 1

    def shutdown(self, timeout: float | None = None) -> bool:
        """End training and the pool within `timeout` seconds (default: shutdown_timeout) and 0.2. True if training and all
        threads of the pool ended.

        Training ends cleanly after the update under way, or without it at the first operation after the timeout. What
        cannot be stopped (a Python layer, a dataset, a callback, a validation) is not waited for: False, and training ends
        when that comes back. In the training thread (from a callback, a signal's handler) the result is of the threads,
        and training ends afterwards; in a worker (from a layer) it is False at once. May be called any number of times, also
        to wait for what was left, and `train` may be called afterwards: it starts a new pool.
        """
        timeout = self.shutdown_timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        with self._lock, uninterrupted():
            turn, crew = self._turn, self._crew
            self._stopping, self._changed = turn is not None, False
            if crew is not None and turn is not None:
                crew.ask()
                crew.give_up_at = deadline if crew.give_up_at is None else min(crew.give_up_at, deadline)
            pool, self._pool = self._pool, None
            if pool is not None:
                pool.close()
                self._closed.append(pool)
                if turn is not None:
                    turn.pool = pool
        if turn is None or self._is_ours():
            return self._threads_end(deadline)
        if turn.pool is not None and threading.current_thread() in turn.pool.threads:
            return False
        if not self._wait_for(turn, deadline):
            with self._lock:
                if crew is not None and self._turn is turn:
                    crew.cancel()
        ended = self._wait_for(turn, deadline + MARGIN)
        return self._threads_end(deadline + MARGIN) and ended

    def _threads_end(self, deadline: float) -> bool:
        """Whether all threads end in time, also those that an earlier shutdown has left."""
        for pool in list(self._closed):
            if pool.shutdown(deadline - time.monotonic()):
                with self._lock:
                    self._closed = [p for p in self._closed if p is not pool]
        return not self._closed

    def _wait_for(self, turn: Turn, deadline: float) -> bool:
        """Until that turn is over, or the deadline. It sleeps: a Ctrl-C inside the wait for an Event may leave that locked."""
        while self._turn is turn and time.monotonic() < deadline:
            time.sleep(0.005)
        return self._turn is not turn

    def stop(self) -> None:
        """End training after the update (strategy local: round) under way; from a callback or any thread. `train` goes on from
        there."""
        self._stopping = True
        if self._crew is not None:
            self._crew.ask()

    def save_checkpoint(self, path: str | Path) -> None:
        """All that is needed to go on with the same bits, into one file (see `tinydl.checkpoint`): from a callback, or
        while nothing trains. OSError where it cannot be written; a file that was there before is then still whole."""
        if self._is_ours():
            save_checkpoint(self, path)
            return
        with uninterrupted() as held, self._exclusive("save_checkpoint"), held.open():
            save_checkpoint(self, path)

    def load_checkpoint(self, path: str | Path) -> None:
        """After `init` with the same kind of model, optimizer and data: be where `path` was saved. ValueError says
        what does not fit, and then nothing has changed. The next training warns where its updates are cut otherwise
        (other numbers of batches or parts) than the checkpoint's."""
        with uninterrupted() as held, self._exclusive("load_checkpoint"), held.open():
            load_checkpoint(self, path)

    def _threads_asked(self) -> int:
        if self._asked_threads:
            return self._asked_threads
        train = self.data.train if self._crew is not None else None
        return recommended_thread_count(train.n_batches if train else None, train.n_samples if train else None)

    def _threads_wanted(self) -> int:
        """The threads asked for, or those of them that there is memory for, as far as that is known."""
        asked = self._threads_asked()
        return self._fitting[1] if self._fitting is not None and self._fitting[0] == asked else asked

    def _ensure_pool(self) -> None:
        """The pool that the configuration asks for, or none. Callers hold the lock."""
        wanted = self._threads_wanted() if self._enabled and self._fallback is None and self.strategy.parallel else 0
        if self._pool is None or not self._pool.alive or self._pool.n_threads != wanted:
            self._new_pool(wanted)
        self._changed = False

    # ------------------------------------------------------------------ training
    def train(self, shuffle: bool = True) -> History:
        """Run max_epochs epochs as configured and return the history; called again, it goes on from there.

        TrainingError where no batch of an epoch arrived. After KeyboardInterrupt, or a shutdown in mid-epoch, the
        parameters are as of the last finished update, and the next call goes on with the batch after it, in the order in
        which that epoch began. shuffle: the batches' order is drawn anew for each epoch.
        """
        return self._train(None, shuffle)

    def single_thread_train(self, shuffle: bool = True) -> History:
        """As `train`, serially: one batch, one update, on the calling thread."""
        return self._train("serial", shuffle)

    def parallel_train(self, shuffle: bool = True) -> History:
        """As `train`, in parallel, whether or not it was enabled (it is from now on)."""
        self._need_init()
        if not self.is_parallel_training_enabled():
            self.configure_parallel_training(True, self._asked_threads)
        return self._train(None, shuffle)

    def simplified_parallel_train(self, shuffle: bool = True) -> History:
        """As `parallel_train`, with the same groups, arithmetic and bits, on the calling thread with one replica.

        For models that cannot be replicated, for little memory, for debugging.
        """
        return self._train("simplified", shuffle)

    def _mode(self, asked: str | None) -> str:
        """The mode that training as `asked` (None: as configured) has now."""
        if asked == "serial" or (asked is None and not self._enabled) or not self.strategy.parallel:
            return "serial"
        if not self._copyable and self.strategy.copies(1):
            return "serial"
        return "simplified" if asked == "simplified" or self._fallback is not None else "parallel"

    def _largest_setting(self, mode: str, n_threads: int) -> Setting:
        """What training in `mode` with so many threads may need most of."""
        if mode == "serial":
            return Setting("serial", 1, 1, 1, strategies.Serial())
        return Setting(mode, n_threads if mode == "parallel" else 1, *self.strategy.cut(n_threads), self.strategy,
                       self.strategy.copies(n_threads))

    def _setting(self, asked: str | None) -> tuple[Setting, int | None]:
        """What to run now, and for how many updates at most. Callers hold the lock."""
        mode = self._mode(asked)
        if mode == "parallel":
            return self.strategy.setting(self._threads_that_fit(), self.data.train.n_batches)
        setting = self._largest_setting(mode, self._threads_wanted())
        if mode not in self._fits:
            fitting_threads(self._memory_for(setting))
            self._fits.add(mode)
        return setting, None

    def memory_report(self) -> MemoryReport:
        """Bytes of parameters, optimizer state, and of each thread's and slot's memory, as configured now; and what is
        available. `print(trainer.memory_report())` is a table. Nothing is allocated."""
        self._need_init()
        with self._lock:
            return self._memory_for(self._largest_setting(self._mode(None), self._threads_wanted()))

    def _memory_for(self, setting: Setting) -> MemoryReport:
        crew = self._need_init()
        held = {"held_copies": len(crew.team)} if setting.copies else {
            "held_threads": len(crew.replicas), "held_slots": len(crew.slots)}
        return memory_report(self.model, crew.plan, self.optimizer, setting.n_threads, setting.n_slots, setting.copies, **held)

    def _threads_that_fit(self) -> int:
        """The threads wanted, or fewer where there is no memory for them, with one warning; MemoryError with the
        figures where there is none for one. It looks once for a number asked for. Callers hold the lock."""
        asked = self._threads_asked()
        if self._fitting is None or self._fitting[0] != asked:
            def counts(n_threads: int) -> tuple[int, int]:
                setting = self._largest_setting("parallel", n_threads)
                return setting.n_slots, setting.copies
            n = fitting_threads(self._memory_for(self._largest_setting("parallel", asked)), counts)
            if n < asked:
                self._lower(n)
            self._fitting = asked, n
        return self._fitting[1]

    def _lower(self, n: int) -> None:
        """Go on with n of the threads wanted, and say so."""
        wanted, asked = self._threads_wanted(), self._threads_asked()
        self._fitting = asked, n
        before, after = (self._largest_setting("parallel", m) for m in (wanted, n))
        changed = (f", and with updates of {after.k} instead of {before.k} batches or parts" if before.k != after.k else
                   f", and with {after.copies} instead of {before.copies} copies" if before.copies != after.copies else "")
        warnings.warn(f"there is no memory for {wanted} threads: training goes on with {n}{changed} "
                      "(see Trainer.memory_report())", ParallelFallbackWarning, stacklevel=4)

    def _pool_for(self, setting: Setting) -> WorkerPool | None:
        """The pool; for serial training a thread of its own where a batch may be given up. Callers hold the lock."""
        # the native driver has as many tasks as threads; the other one has a task a batch, for whichever threads there are
        n = max(setting.n_threads, setting.keep) if self._need_init().takes_arrays(self.data.train) else setting.n_threads
        if setting.mode != "parallel":
            if self.failure_policy.timeout is None or self._fallback is not None:
                return None
            n = 1
        if self._pool is None or not self._pool.alive or self._pool.n_threads != n:
            self._new_pool(n)
        return self._pool

    def _new_pool(self, n_threads: int) -> None:
        if self._pool is not None:
            self._pool.shutdown(self.shutdown_timeout if self._pool.alive else 0)
        with uninterrupted():
            self._pool = WorkerPool(n_threads) if n_threads else None
        log.debug("pool of %d threads", n_threads)

    @contextmanager
    def _exclusive(self, what: str) -> Iterator[None]:
        """Have the trainer for itself. To be used held against signals: one beside it would leave it taken for ever."""
        with self._lock:
            if self._turn is not None:
                raise RuntimeError(f"{what} while this trainer is training (in another thread, or from a callback)")
            self._turn, self._stopping = Turn(), False
            if self._crew is not None:
                self._crew.take_up()
        try:
            yield
        finally:
            with self._lock:
                self._turn = None
                if self._changed:       # it came too late, or was not for this training
                    self._ensure_pool()

    def _train(self, mode: str | None, shuffle: bool) -> History:
        crew = self._need_init()
        limit = BlasLimit() if crew.plan.program.hooks and self._enabled and mode != "serial" else nullcontext()
        with uninterrupted() as held, self._exclusive("train"), limit:
            self.monitor.history.interrupted = False
            with held.open():
                self.monitor.start_training(self.max_epochs, self.data.train.n_samples)
            try:
                with held.open():
                    for callback in self.callbacks:
                        callback.on_train_start(self)
                    self._tell_of_epoch()
                    self.monitor.history.interrupted = not self._run_epochs(crew, mode, shuffle)
            except KeyboardInterrupt:
                self.monitor.history.interrupted = True
                raise
            finally:
                self._tell_that_it_ends(held)
        return self.monitor.history

    def _tell_that_it_ends(self, held: uninterrupted) -> None:
        """All of them; the first error comes out when that is done."""
        errors: list[BaseException] = []
        left: list[Callable[[], None]] = [self.monitor.end_training]
        left += [partial(callback.on_train_end, self) for callback in self.callbacks]
        while left:
            try:
                with held.open():       # where a signal comes before anyone is told, this one is still left
                    left.pop(0)()
            except BaseException as e:
                errors.append(e)
        if errors:
            raise errors[0]

    def _run_epochs(self, crew: Crew, mode: str | None, shuffle: bool) -> bool:
        """max_epochs epochs; False where they were stopped before."""
        for _ in range(self.max_epochs):
            if self._stopping or not self._run_epoch(crew, mode, shuffle):
                return False
        return True

    def _tick(self, mode: str | None, setting: Setting, job: Job, samples: int) -> bool:
        """Called a few times a second while workers run: progress, and whether they should come back."""
        self.monitor.progress(job.epoch, samples, job.loss)
        return self._stopping or (self._changed and mode is None) or self._too_many_hung or setting.brief

    @property
    def _too_many_hung(self) -> bool:
        """Whether it is time to go on in the calling thread."""
        return self._fallback is None and self._need_init().hung_workers > self.failure_policy.max_hung

    def _run_epoch(self, crew: Crew, mode: str | None, shuffle: bool) -> bool:
        """One epoch, or what was left of an interrupted one; False where it was stopped before its end."""
        train = self.data.train
        job = self._job = self._job or Job(self.epoch + 1, shuffle)
        self.monitor.start_epoch(job.epoch)
        for callback in self.callbacks:
            callback.on_epoch_start(self, job.epoch)
        arrays = crew.takes_arrays(train)
        order, bounds = None, None
        if arrays and isinstance(train, ArrayDataset):
            order, bounds = train.order(self.seed, self.epoch, job.shuffle)
        batches = None if arrays else iter(() if job.broken else train.epoch(self.seed, self.epoch, job.shuffle))
        job.n_batches = train.n_batches
        finished, fatal = False, list[BatchFailure]()
        try:
            rest = None
            if batches is not None:
                crew.reading = batches
                rest = python_driver.behind(batches, job.batches_done)
            finished = self._run_updates(crew, job, mode, rest, order, bounds)
        except (GaveUpError, PoolClosedError):
            if not self._stopping:
                raise
        except TrainingError as e:
            fatal = [replace(f, fatal=True) for f in e.failures[len(job.failures):]]
            raise
        finally:
            crew.reading = None
            if batches is not None and hasattr(batches, "close"):
                batches.close()
            self.monitor.history.failures.extend([*job.failures[job.reported:], *fatal])
            job.reported = len(job.failures)
        if not finished:
            return False
        self._end_epoch(crew, job)
        return True

    def _run_updates(self, crew: Crew, job: Job, mode: str | None, batches: Iterator[Any] | None, order: Array | None,
                     bounds: Array | None) -> bool:
        """The rest of the epoch, by one setting after another where the configuration changes; False where it is stopped."""
        finished = False
        self._tell_of_updates(job)
        while not finished and not self._stopping:
            self._go_on_serially_if_many_hung(crew)
            before = job.lap(time.perf_counter())
            with self._lock:
                crew.take_back()
                if self._stopping:      # a shutdown has ended the pool
                    break
                if self._changed and mode is None:
                    self._ensure_pool()
                setting, most = self._setting(mode)
                pool = self._pool_for(setting)
                now = self._mode(mode)
                recipe = (setting.strategy if now == "serial" else self.strategy).recipe(setting)
            most, tick = self._until_callback(job, most), partial(self._tick, mode, setting)
            try:
                setting.strategy.prepare(crew, setting)
            except MemoryError:
                if setting.n_threads == 1:
                    raise
                with self._lock:
                    self._lower(setting.n_threads - 1)
                continue
            self._warn_other_updates(recipe)
            try:
                if batches is None:
                    assert order is not None and bounds is not None
                    setting.strategy.run_arrays(crew, job, order, bounds, setting, pool, tick, most)
                    finished = job.batches_done >= len(bounds) - 1
                else:
                    finished = setting.strategy.run_batches(crew, job, batches, setting, pool, tick, most)
            finally:
                if job.updates > before.updates:
                    self._recipe = recipe
            if now == "parallel":       # else the strategy was not asked
                self.strategy.ran(setting, job.lap(time.perf_counter(), before))
            self._tell_of_updates(job)
        return finished

    def _tell_of_updates(self, job: Job) -> None:
        """Call on_update where `every` more updates were made, also those that an interrupt kept from hearing of them."""
        job.told.extend([0] * (len(self.callbacks) - len(job.told)))
        for i, callback in enumerate(self.callbacks):
            if callback.every and job.updates // callback.every > job.told[i] // callback.every:
                job.told[i] = job.updates
                callback.on_update(self, job.updates)

    def _tell_of_epoch(self) -> None:
        """Call on_epoch_end for the epoch that ended last, where it was not called yet."""
        while self._untold:
            callback, record = self._untold.pop(0)
            callback.on_epoch_end(self, record)

    def _until_callback(self, job: Job, most: int | None) -> int | None:
        """Updates until a callback wants to be called, or `most`."""
        left = [c.every - job.updates % c.every for c in self.callbacks if c.every]
        return min([*left, *([] if most is None else [most])], default=None)

    def _go_on_serially_if_many_hung(self, crew: Crew) -> None:
        if self._too_many_hung:
            self._fallback = (f"{crew.hung_workers} workers were put aside for batches that took longer than "
                              f"batch_timeout={self.failure_policy.timeout:g} s")
            self._warn_fallback()

    def _end_epoch(self, crew: Crew, job: Job) -> None:
        """Count the epoch, validate, tell. Whatever ends the validation, the epoch has its line in the history."""
        record = EpochRecord(job.epoch, job.loss, job.seconds, job.samples, job.updates, len(job.failures),
                             learning_rate=self.optimizer.lr)
        with uninterrupted() as held:
            self._job = None
            crew.stats.seconds += job.seconds
            if not job.samples:
                cause = job.failures[0].exception if job.failures else None
                raise TrainingError(f"epoch {job.epoch}: none of {job.batches_done} batches arrived", job.failures) from cause
            self.epoch += 1
            try:
                if self.data.validation is not None:
                    with held.open():
                        figures = evaluate(self.model, self.data.validation, loss=self.loss, evaluator=self.evaluator)
                        record.validation_loss = figures.pop("loss")
                        record.figures = figures
            finally:
                self.monitor.history.records.append(record)
                self._untold = [(callback, record) for callback in self.callbacks]
                with held.open():
                    self.monitor.end_epoch(record)
        self._tell_of_epoch()

    def evaluate(self, dataset: Dataset | None = None) -> dict[str, float]:
        """`loss` and the evaluator's figures on `dataset` (default: the test part, else validation, else training)."""
        self._need_init()
        chosen = dataset or self.data.test or self.data.validation or self.data.train
        return evaluate(self.model, chosen, loss=self.loss, evaluator=self.evaluator)

    @property
    def history(self) -> History:
        """All epochs so far."""
        return self.monitor.history

    def stats(self) -> ParallelStats:
        """What was counted since `init`, and what each worker does now; from any thread, stopping nothing.

        `parallel.format_parallel_stats` makes a text of it.
        """
        out = self._need_init().snapshot()
        job = self._job
        if job is not None:
            out.seconds += job.seconds
        return out

    def parallel_stats(self) -> ParallelStats:
        """As `stats`."""
        return self.stats()

    @property
    def tuning(self) -> list[strategies.Candidate]:
        """What strategy "auto" has measured; empty for the others."""
        return list(getattr(self.strategy, "tuning", []))

    def profile(self, steps: int = 20) -> Profile:
        """Time per operation over `steps` updates as configured (strategy local: of each copy), by the strategy's own run
        on a copy of all: the model and its training stay as they are.

        TypeError where they cannot be copied.

        `profile(20).table()` is a table, `.save_trace("trace.json")` a file for chrome://tracing or ui.perfetto.dev.
        """
        self._need_init()
        if steps < 1:
            raise ValueError(f"steps={steps}: at least 1")
        with uninterrupted() as held, self._exclusive("profile"), held.open():
            with self._lock:
                setting, _ = self._setting(None)
                pool = self._pool_for(setting) if setting.mode == "parallel" else None
            train = self.data.train
            try:
                model, optimizer = copy.deepcopy(self.model), copy.deepcopy(self.optimizer)
            except Exception as e:
                raise TypeError(f"profile runs on a copy, and this model or optimizer cannot be copied: {e}") from e
            crew = Crew(model, self.loss, optimizer, train.batch_size, self.seed)
            return profile(crew, train, setting, pool, steps)

    # ------------------------------------------------------------------ life
    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no pool and no locks of this one; it makes its own when it trains."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_turn", "_pool", "_closed", "_crew")}
        return {**state, "_step": self._crew.step if self._crew is not None else 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        step = state.pop("_step")
        self.__dict__.update(state, _turn=None, _pool=None, _closed=[], _crew=None)
        self._renew_locks()
        renew_in_children(self)
        if "data" in state:
            epoch, t, job, recipe, resumed = self.epoch, self.optimizer.t, self._job, self._recipe, self._resumed
            self._init(self.data, self.model, self.loss, self.optimizer)
            self.epoch, self.optimizer.t, self._job, self._recipe, self._resumed = epoch, t, job, recipe, resumed
            self._need_init().step = step
            if self._enabled:
                self._warn_fallback()


def _strategy(strategy: str | strategies.Strategy | None, **counts: int | None) -> strategies.Strategy:
    """The strategy asked for; ValueError where a count is given that it does not use."""
    given = {name: count for name, count in counts.items() if count is not None}
    if isinstance(strategy, strategies.Strategy):
        if given:
            raise ValueError(f"{', '.join(given)}: give it to {type(strategy).__name__}(...) instead")
        return strategy
    name = "group" if strategy is None else strategy
    kind = type(strategies.get(name))
    taken = {"group": {"batches_per_update"}, "shard": {"shards_per_batch"}, "auto": set(counts)}.get(name, set())
    unused = set(given) - taken
    if unused:
        raise ValueError(f"{', '.join(sorted(unused))}: strategy {name!r} does not use it")
    return kind(**given)


def _check_threads(thread_count: int) -> None:
    if isinstance(thread_count, bool) or not isinstance(thread_count, (int, np.integer)):
        raise TypeError(f"thread_count={thread_count!r}: a whole number, 0 for the recommended one")
    if not 0 <= thread_count <= MAX_THREADS:
        raise ValueError(f"thread_count={thread_count}: 0 (recommended) to {MAX_THREADS}")
