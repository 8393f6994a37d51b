"""Trainer: what to train, and the loop over epochs.

Which threads train and how that ends is the runtime's (parallel/runtime.py); how batches become updates,
the strategy's (parallel/strategies/).
"""
from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints, epochs, notify, together
from tinydl.callbacks import Callback, WeightAveraging
from tinydl.checkpoint import load_checkpoint, save_checkpoint
from tinydl.checks import check_averages, check_evaluator, check_needs, check_occasions, check_parts
from tinydl.data import Dataset, Split
from tinydl.data.frames import check_columns
from tinydl.history import History
from tinydl.losses import Loss
from tinydl.metrics import Evaluator, evaluate
from tinydl.model import Model
from tinydl.monitor import Monitor
from tinydl.optim import Optimizer
from tinydl.parallel import strategies
from tinydl.parallel.execution.epoch import FailurePolicy
from tinydl.parallel.execution.profile import Profile, profile
from tinydl.parallel.execution.replica import replication_error
from tinydl.parallel.execution.resources import Resources
from tinydl.parallel.execution.stats import ParallelStats
from tinydl.parallel.host.blas import BlasLimit
from tinydl.parallel.host.memory import MemoryReport
from tinydl.parallel.runtime import Runtime
from tinydl.parallel.workers.signals import uninterrupted
from tinydl.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tinydl.parallel.ranks import Ranks

Array = np.ndarray[Any, Any]

__all__ = ["Trainer"]

log = logging.getLogger("tinydl")


class Trainer:
    """Trains a model, serially or over a fixed pool of threads.

    max_epochs: epochs of each `train` call. monitor: keeps and prints the history (None: kept, not printed).
    evaluator: figures on the validation data of each epoch. enable_parallel, thread_count: see
    `configure_parallel_training`; where enable_parallel is left out, training is parallel if a parallel strategy is
    named, or batches_per_update, or thread_count is 2 or more. seed: of the order of batches and of random masks (None:
    a fresh one). shutdown_timeout: seconds.

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

    ranks: "mpi", or a communicator of mpi4py: the processes that `mpiexec` has started share the batches of each update, and
    all have the parameters that one process would have, to the bit. Strategy "group" with batches_per_update, or "shard" with
    shards_per_batch, says what an update is made of, whatever the number of ranks; `strategies.Local(sync_every, n_models)` has
    them share the copies of the model, with one exchange in each round of sync_every updates. All ranks make the same calls,
    with the same data and settings, and each reads the samples of its share (of streams, all). Validation and callbacks run on
    each; only rank 0 prints, logs and writes checkpoints (`trainer.rank` is for what else a program wants done once). Where a
    rank raises, dies or does not come within rank_timeout seconds after the others, RankError (`tinydl.parallel`) comes out of
    `train` on these, with the parameters of the last finished update, and their processes end with exit code 75. rank_timeout
    is to be longer than what one rank does alone: reading its data, writing a checkpoint. SIGTERM ends `train` as Ctrl-C does,
    by SystemExit(143).

        >>> from tinydl import Model, datasets, losses, nn, optim
        >>> data = datasets.digits().split(0.8, 0.0, 0.2, seed=0)
        >>> model = Model(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), seed=0)
        >>> with Trainer(2, enable_parallel=True, thread_count=2, seed=0) as trainer:
        ...     trainer.init(data, model, losses.SoftmaxCrossEntropy(), optim.Adam(lr=1e-2))
        ...     history = trainer.train()
        >>> history["loss"][1] < history["loss"][0]
        True
    """

    if not TYPE_CHECKING:       # a type checker would take every attribute for one that is there
        __getattr__ = _hints.attribute

    @_hints.arguments
    def __init__(self, max_epochs: int, monitor: Monitor | None = None, evaluator: Evaluator | None = None,
                 enable_parallel: bool | None = None, thread_count: int = 0, *, seed: int | None = None,
                 strategy: str | strategies.Strategy | None = None, batches_per_update: int | None = None,
                 shards_per_batch: int | None = None, on_batch_failure: str = "skip", max_retries: int = 2,
                 max_failed_fraction: float = 0.1, batch_timeout: float | None = None, max_hung_workers: int = 2,
                 pin_threads: bool = False, shutdown_timeout: float = 30.0, callbacks: Sequence[Callback] = (),
                 ranks: Any = None, rank_timeout: float = 30.0) -> None:
        if max_epochs < 0:
            raise ValueError(f"max_epochs={max_epochs}: at least 0")
        if seed is not None and not 0 <= seed < 2**64:
            raise ValueError(f"Trainer(seed={seed}): a whole number from 0 to 2^64 - 1, or None")
        if not rank_timeout > 0:
            raise ValueError(f"Trainer(rank_timeout={rank_timeout}): seconds, more than 0")
        for name, value, kind in (("monitor", monitor, Monitor), ("evaluator", evaluator, Evaluator)):
            if value is not None and not isinstance(value, kind):
                raise _hints.expected(name, kind, value)
        if evaluator is not None:
            check_evaluator(evaluator)
        if not isinstance(callbacks, Iterable):
            one = f"callbacks=[{type(callbacks).__name__}(...)]"
            raise TypeError(f"callbacks must be a list: {one if isinstance(callbacks, Callback) else f'got {callbacks!r:.60}'}")
        chosen = strategies.get("group" if strategy is None else strategy, batches_per_update=batches_per_update,
                                shards_per_batch=shards_per_batch)
        if ranks is not None:
            together.check_strategy(chosen, ranks)
        policy = FailurePolicy(on_batch_failure, max_retries, max_failed_fraction, batch_timeout, max_hung_workers)
        self.runtime: Runtime = Runtime(chosen, policy, bool(enable_parallel), thread_count, shutdown_timeout)
        if enable_parallel is None:
            asked = strategy is not None or batches_per_update is not None or thread_count >= 2
            self.runtime.enabled = asked and chosen.parallel
        for i, callback in enumerate(callbacks):
            if not isinstance(callback, Callback):
                raise _hints.expected(f"callbacks[{i}]", Callback, callback)
            if callback.every is not None and callback.every < 1:
                raise ValueError(f"{type(callback).__name__}.every={callback.every}: at least 1, or None")
            check_occasions(callback)
        self.callbacks, self.pin_threads = list(callbacks), pin_threads
        self.max_epochs, self.evaluator = max_epochs, evaluator
        self.seed = int(np.random.default_rng().integers(2**63)) if seed is None else seed
        self.ranks: Ranks | None = None
        if ranks is not None:
            self.ranks, self.seed = together.join(ranks, rank_timeout, self.seed, seed is None)
        self.monitor = monitor if monitor is not None and self.rank == 0 else Monitor(quiet=True)
        self.progress = Progress()
        self._finished = False                  # stop(finished=True)
        if os.environ.get("TINYDL_PARALLEL_DEBUG") == "1":
            if not log.handlers:
                log.addHandler(logging.StreamHandler())
            log.setLevel(logging.DEBUG)

    # ------------------------------------------------------------------ what to train
    def init(self, dataset: Dataset | Split[Any], model: Model, loss: Loss, optimizer: Optimizer) -> None:
        """Set what to train. A Split trains on its train part, validates each epoch, and evaluates on its test part.

        Everything is checked before anything changes: TypeError or ValueError where a part of the data is empty or does not
        fit the model, the loss or the evaluator, or where a callback needs a figure that there will not be. Epochs, history (a
        new object) and what callbacks remember begin anew. Trainers that are given the same optimizer share its numbers
        (`lr` and so on), and each trains its own model with a state of its own.
        """
        with uninterrupted() as held, self.runtime.exclusive("init"), held.open(), together.parting(self.ranks):
            self._init(dataset, model, loss, optimizer)
            self.runtime.ensure_pool()
        if self.runtime.enabled:
            self.runtime.warn_fallback()

    def _init(self, dataset: Dataset | Split[Any], model: Model, loss: Loss, optimizer: Optimizer, again: bool = False) -> None:
        """again: the same training, in a copy of its trainer."""
        parts = dataset if isinstance(dataset, Split) else Split(dataset, None, None)
        for value, kind, name in ((parts.train, Dataset, "dataset"), (model, Model, "model"), (loss, Loss, "loss"),
                                  (optimizer, Optimizer, "optimizer")):
            if not isinstance(value, kind):
                raise _hints.expected(name, kind, value)
        train = parts.train
        check_parts(parts, model, loss, self.evaluator)
        check_needs(self.callbacks, self.evaluator, parts.validation is not None)
        check_averages(self.callbacks, optimizer)
        names = model.feature_names or train.feature_names
        for part, name in zip(parts, ("the dataset", "the validation part", "the test part"), strict=True):
            check_columns(getattr(part, "feature_names", None), names, name)
        resources = Resources(model, loss, optimizer, train.largest_batch, self.seed, self.failure_policy, self.pin_threads,
                              input_shape=train.input_shape, weighted=train.weight_shape, padded=train.padded,
                              ranks=self.ranks)
        resources.set_data(train)
        rows = min(train.batch_size, train.n_samples or train.batch_size)
        if rows < resources.plan.least_rows:
            raise ValueError(f"BatchNorm trains on batches of {resources.plan.least_rows} samples or more; the dataset's have "
                             f"{rows} (batch_size={train.batch_size}, n_samples={train.n_samples})")
        error = replication_error(model, loss)
        if self.ranks is not None and not again:
            from tinydl.parallel.ranks.describe import describe
            self.ranks.check("Trainer.init", describe(parts, model, loss, optimizer, self.seed, [
                self.strategy, self.failure_policy, self.max_epochs, *map(type, self.callbacks), type(self.evaluator)]))
            together.say_shares(self.ranks, self.strategy)
            self.ranks.seconds = self.ranks.waited = 0.0
        with uninterrupted(), self.runtime.lock:       # nothing has changed until here
            if len(model.inputs) == 1:
                model._shape = model._need_shapes(train.input_shape)[0]
            model.feature_names = names and list(names)
            optimizer.hold(resources.state)
            self.data, self.model, self.loss, self.optimizer = parts, model, loss, optimizer
            try:
                if not again:
                    self.progress, self.monitor.history = Progress(), History()
                    for callback in self.callbacks:
                        callback.on_init(self)
            finally:
                self.runtime.take(resources, train, error)

    def feed(self, dataset: Dataset) -> None:
        """Train on `dataset` from now on, instead of what `init` was given: for data that arrive piece by piece. Model,
        optimizer, epochs and history go on, and nothing is made anew, so it takes less time than `init`.

        ValueError where its samples are of another shape, have weights where the others had none (or none where they had), or
        come in larger batches than there is room for; RuntimeError where an epoch of the others is under way. Then nothing
        changes.
        """
        with uninterrupted() as held, self.runtime.exclusive("feed"), held.open():
            resources, before = self.runtime.need_resources(), self.data.train
            parts = Split(dataset, self.data.validation, self.data.test)
            if not isinstance(dataset, Dataset):
                raise _hints.expected("dataset", Dataset, dataset)
            if self.progress.under_way is not None:
                raise RuntimeError("an epoch is under way: train to its end, or init")
            for name, new, old in (("samples of shape", dataset.input_shape, before.input_shape),
                                   ("sample weights:", dataset.weighted, before.weighted),
                                   ("sample weights of shape", dataset.weight_shape, before.weight_shape),
                                   ("sources padded behind lengths:", dataset.padded, before.padded)):
                if new != old:
                    raise ValueError(f"the dataset has {name} {new}; it was {old} before: Trainer.init takes such data")
            if dataset.largest_batch > resources.max_rows:
                raise ValueError(f"the dataset has batches of {dataset.largest_batch}; there is room for {resources.max_rows}: "
                                 "Trainer.init takes such data")
            check_parts(parts, self.model, self.loss, self.evaluator)
            check_columns(dataset.feature_names, self.model.feature_names, "the dataset")
            with uninterrupted(), self.runtime.lock:
                resources.set_data(dataset)
                self.data, self.runtime.dataset = parts, dataset

    # ------------------------------------------------------------------ configuration, from any thread
    def configure_parallel_training(self, enable: bool, thread_count: int = 0) -> None:
        """Switch parallel training on or off, with this many threads (0: the number recommended now).

        While training runs, it takes effect at the next update (strategy local: round); no batch is lost or repeated.
        """
        if not isinstance(enable, (int, np.bool_)):
            raise TypeError(f"configure_parallel_training(enable={enable!r:.60}): True or False")
        if self.runtime.configure(bool(enable), thread_count) and enable:
            self.runtime.warn_fallback()

    @property
    def strategy(self) -> strategies.Strategy:
        """How batches become updates, as given."""
        return self.runtime.strategy

    @property
    def failure_policy(self) -> FailurePolicy:
        """What is done about batches that fail, as given."""
        return self.runtime.policy

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that `shutdown` waits where it is not told."""
        return self.runtime.shutdown_timeout

    def is_parallel_training_enabled(self) -> bool:
        """Whether parallel training is configured, and its pool exists and is alive."""
        return self.runtime.is_parallel()

    def get_parallel_thread_count(self) -> int:
        """Threads that would really train now: the pool's, or 1. Strategy "auto" may let fewer of them train (see `stats`)."""
        return self.runtime.n_threads()

    def memory_report(self) -> MemoryReport:
        """Bytes of parameters, optimizer state, and of each thread's and slot's memory, as configured now; and what is
        available. `print(trainer.memory_report())` is a table. Nothing is allocated."""
        return self.runtime.memory_report()

    @_hints.arguments
    def shutdown(self, timeout: float | None = None) -> bool:
        """End training and the pool within `timeout` seconds (default: shutdown_timeout) and 0.2. True if training and all
        threads of the pool ended.

        Training ends cleanly after the update under way, or without it at the first operation after the timeout. What
        cannot be stopped (a Python layer, a dataset, a callback, a validation) is not waited for: False, and training ends
        when that comes back. In the training thread (from a callback, a signal's handler) the result is of the threads,
        and training ends afterwards; in a worker (from a layer) it is False at once. May be called any number of times, also
        to wait for what was left, and `train` may be called afterwards: it starts a new pool.
        """
        return self.runtime.shutdown(timeout)

    def stop(self, *, finished: bool = False) -> None:
        """End training after the update (strategy local: round) under way; from a callback or any thread. `train` goes on from
        there. finished: that is no interruption (`history.interrupted` is False), training is at its end: as by early
        stopping, which then puts the best parameters back."""
        self._finished = self._finished or finished
        self.runtime.stop()

    def save_checkpoint(self, path: str | Path) -> None:
        """All that is needed to go on with the same bits, into one file (see `tinydl.checkpoint`): from a callback, or
        while nothing trains. OSError where it cannot be written; a file that was there before is then still whole. Of several
        ranks only rank 0 writes it, or rank 1 where that one is gone; any number of ranks may go on from it."""
        if self.ranks is not None and not self.ranks.saves:
            return
        if self.runtime.is_ours():
            save_checkpoint(self, path)
            return
        with uninterrupted() as held, self.runtime.exclusive("save_checkpoint"), held.open():
            save_checkpoint(self, path)

    def load_checkpoint(self, path: str | Path) -> None:
        """After `init` with the same kind of model, optimizer and data: be where `path` was saved. ValueError says
        what does not fit, and then nothing has changed. The next training warns where its updates are cut otherwise
        (other numbers of batches or parts) than the checkpoint's. Of several ranks each must load the same."""
        with uninterrupted() as held, self.runtime.exclusive("load_checkpoint"), held.open():
            load_checkpoint(self, path)

    # ------------------------------------------------------------------ training
    @_hints.arguments
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
        self.runtime.need_resources()
        if not self.is_parallel_training_enabled():
            self.configure_parallel_training(True, self.runtime.thread_count)
        return self._train(None, shuffle)

    def simplified_parallel_train(self, shuffle: bool = True) -> History:
        """As `parallel_train`, with the same groups, arithmetic and bits, on the calling thread with one replica.

        For models that cannot be replicated, for little memory, for debugging.
        """
        return self._train("simplified", shuffle)

    def _train(self, asked: str | None, shuffle: bool) -> History:
        if not isinstance(shuffle, (bool, np.bool_)):
            raise TypeError(f"shuffle={shuffle!r}: True or False (init takes the data, Trainer(...) the number of epochs)")
        resources = self.runtime.need_resources()
        limit = BlasLimit() if resources.plan.program.hooks and self.runtime.enabled and asked != "serial" else nullcontext()
        with together.sigterm(self.ranks), uninterrupted() as held, self.runtime.exclusive("train"), limit:
            epochs.check_parameters(self)
            resources.optimizer.hold(resources.state)         # which another trainer may have been initialised with
            self._finished = False
            if self.ranks is not None:
                with held.open(), together.parting(self.ranks):
                    together.begin(self, self.ranks, asked, shuffle)
            with held.open():
                self.monitor.start_training(self.max_epochs, self.data.train.n_samples)
            try:
                with together.parting(self.ranks):
                    with held.open():
                        for callback in self.callbacks:
                            callback.on_train_start(self)
                    self.history.interrupted = True         # until it is known that it was not
                    notify.of_epoch(self, held)
                    with held.open():
                        all_done = epochs.run(self, asked, shuffle)
                        if self.ranks is not None:
                            self.ranks.end(all_done or self._finished)
                self.history.interrupted = not (all_done or self._finished)
            finally:
                self._tell_that_it_ends(held)
        return self.history

    # ------------------------------------------------------------------ with other ranks
    @property
    def rank(self) -> int:
        """The number of this process among those that train together (see Trainer's argument ranks); 0 where it is alone."""
        return 0 if self.ranks is None else self.ranks.rank

    @property
    def n_ranks(self) -> int:
        """How many processes train together; 1 where this one is alone."""
        return 1 if self.ranks is None else self.ranks.size

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
            self.history.interrupted = True
            raise errors[0]

    def evaluate(self, dataset: Dataset | None = None) -> dict[str, float]:
        """`loss` and the evaluator's figures on `dataset` (default: the test part, else validation, else training), of the
        averaged parameters where they are kept (see `averaged_model`). Where the samples have weights, `loss` is their mean by
        these; the evaluator counts all samples alike.
        ValueError where it is empty."""
        self.runtime.need_resources()
        held_out = self.data.validation if self.data.test is None else self.data.test
        chosen = dataset if dataset is not None else self.data.train if held_out is None else held_out
        return evaluate(self.evaluated_model(), chosen, loss=self.loss, evaluator=self.evaluator)

    def averaged_model(self) -> Model:
        """A copy of the model with the averaged parameters that the optimizer keeps (its argument `ema`; running statistics
        are the model's), or a callback (`callbacks.WeightAveraging`, which says how it makes the statistics). ValueError where
        nothing is averaged."""
        state = self.runtime.need_resources().state
        for callback in self.callbacks:
            if isinstance(callback, WeightAveraging):
                return callback.averaged_model(self)
        if "ema" not in state.vectors:
            raise ValueError(f"{type(self.optimizer).__name__} keeps no averaged parameters: give it ema=0.999, say, before "
                             "Trainer.init, or the Trainer callbacks=[callbacks.WeightAveraging(start=10)]")
        model = copy.deepcopy(self.model)
        if state.t:
            model.params[...] = state.vectors["ema"]
        return model

    def evaluated_model(self) -> Model:
        """What validation and `evaluate` look at: the averaged model where there is one, else the model."""
        averages = any(isinstance(callback, WeightAveraging) for callback in self.callbacks)
        return self.averaged_model() if averages or "ema" in self.runtime.need_resources().state.vectors else self.model

    def put_back(self, state: Mapping[str, Any]) -> None:
        """Put these values (as of `model.state_dict()`) into the model. Averages go on from them (`ema`), or begin anew
        (`callbacks.WeightAveraging`), so `evaluate` looks at just these."""
        vectors = self.runtime.need_resources().state.vectors
        self.model.load_state_dict(state)
        if "ema" in vectors:
            vectors["ema"][...] = self.model.params
        for callback in self.callbacks:
            if isinstance(callback, WeightAveraging):
                callback.begin_anew()

    @property
    def history(self) -> History:
        """All epochs since `init`."""
        return self.monitor.history

    @property
    def epoch(self) -> int:
        """Epochs finished since `init`."""
        return self.progress.epoch

    @property
    def resources(self) -> Resources:
        """What the updates are made with (parallel/execution/resources.py). RuntimeError before `init`."""
        return self.runtime.need_resources()

    @property
    def batches_done(self) -> int:
        """Batches of the epoch under way that are behind; 0 where none is under way, or it has just begun."""
        return 0 if self.progress.under_way is None else self.progress.under_way.batches_done

    @property
    def gradient_norms(self) -> Array:
        """The norm of each update's gradient in the epoch under way, else in the last one, before clipping, float64; empty where
        the optimizer has no clip_norm (float("inf") measures, and clips nothing). With a norm that is not finite there was no
        update. A callback's `on_update` and `on_epoch_end` find those of the updates that are behind.

            >>> from tinydl import Model, Trainer, datasets, losses, nn, optim
            >>> with Trainer(1, seed=0) as trainer:
            ...     trainer.init(datasets.digits(32), Model(nn.Linear(64, 10), seed=0), losses.SoftmaxCrossEntropy(),
            ...                  optim.SGD(0.1, clip_norm=float("inf")))
            ...     trainer.train()["updates"], len(trainer.gradient_norms)
            ([57], 57)
        """
        epoch = self.progress.under_way
        return np.array(self.progress.norms if epoch is None else epoch.norms, np.float64)

    @property
    def loss_so_far(self) -> tuple[float, float]:
        """Of the epoch under way: the sum of its samples' losses, each by its weight, and the sum of the weights (without weights
        the number of samples); (0.0, 0.0) between epochs. For callbacks: the mean over the updates since the last call is
        the difference of the sums by that of the weights."""
        epoch = self.progress.under_way
        return (0.0, 0.0) if epoch is None else (epoch.loss_sum, epoch.weight)

    def stats(self) -> ParallelStats:
        """What was counted since `init`, and what each worker does now; from any thread, stopping nothing.

        `parallel.format_parallel_stats` makes a text of it.
        """
        out = self.runtime.need_resources().ledger.snapshot()
        epoch = self.progress.under_way
        if epoch is not None:
            out.seconds += epoch.seconds
        if self.ranks is not None:
            out.ranks, out.exchanging, out.awaiting = self.ranks.size, self.ranks.seconds, self.ranks.waited
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

        TypeError where they cannot be copied. Of several ranks each measures itself, whenever it likes, with all batches of an
        update and without the others: how long exchanges with these take is in `stats`.

        `profile(20).table()` is a table, `.save_trace("trace.json")` a file for chrome://tracing or ui.perfetto.dev.
        """
        self.runtime.need_resources()
        if steps < 1:
            raise ValueError(f"steps={steps}: at least 1")
        with uninterrupted() as held, self.runtime.exclusive("profile"), held.open():
            with self.runtime.lock:
                setting, _ = self.runtime.setting(None)
                pool = self.runtime.pool_for(setting) if setting.mode == "parallel" else None
            train = self.data.train
            try:
                model, optimizer = copy.deepcopy(self.model), copy.deepcopy(self.optimizer)
            except Exception as e:
                raise TypeError(f"profile runs on a copy, and this model or optimizer cannot be copied: {e}") from e
            resources = Resources(model, self.loss, optimizer, train.largest_batch, self.seed, input_shape=train.input_shape,
                                  weighted=train.weight_shape, padded=train.padded)
            optimizer.hold(resources.state)
            return profile(resources, train, setting, pool, steps)

    # ------------------------------------------------------------------ life
    def __enter__(self) -> Trainer:
        """`with Trainer(...) as trainer` shuts it down at the end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Call `shutdown`."""
        self.shutdown()

    def __getstate__(self) -> dict[str, Any]:
        """A copy's runtime has no pool and no locks of this one."""
        resources = self.runtime.resources
        return {**self.__dict__, "runtime": self.runtime.again(),
                "_made": None if resources is None else (resources.step, resources.state)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        made = state.pop("_made")
        self.__dict__.update(state)
        if made is not None:
            step, held = made
            self.optimizer.hold(held)
            self._init(self.data, self.model, self.loss, self.optimizer, again=True)
            self.runtime.need_resources().step = step
            if self.runtime.enabled:
                self.runtime.warn_fallback()
