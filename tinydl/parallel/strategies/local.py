"""local: workers train parameters of their own and average them now and then."""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from tinydl._kernels import engine
from tinydl.optim import Optimizer
from tinydl.parallel.errors import BatchFailure
from tinydl.parallel.execution import native_driver, python_driver
from tinydl.parallel.execution.aggregator import GradientAggregator
from tinydl.parallel.execution.processor import BatchProcessResult, ParallelBatchProcessor
from tinydl.parallel.execution.replica import Replica
from tinydl.parallel.host.memory import starts_of
from tinydl.parallel.strategies.base import Array, Strategy, Tick, check_count
from tinydl.parallel.workers.pool import Task
from tinydl.parallel.workers.signals import uninterrupted

if TYPE_CHECKING:
    import numpy.typing as npt

    from tinydl.data import Batch, LazyBatch
    from tinydl.parallel.execution.epoch import EpochProgress, Setting
    from tinydl.parallel.execution.resources import Resources
    from tinydl.parallel.workers.pool import WorkerPool


class Local(Strategy):
    """`n_models` copies of the parameters (default: the thread count) each take `sync_every` serial updates on batches
    of their own; then the copies are averaged by their samples (or the weights of these), and all go on from there (Stich 2019).

    average_state: the optimizer's state is averaged too; else it begins anew each round. The optimizer counts the
    updates of one copy. With n_models fixed, the result has the same bits for any thread count. The parameters that
    a callback sees, or Ctrl-C leaves, are those of the last averaging. A copy costs parameters, state and workspace.
    """

    name = "local"

    def __init__(self, sync_every: int = 16, n_models: int | None = None, average_state: bool = True) -> None:
        self.sync_every = check_count("sync_every", sync_every, 2**31) or 16
        self.n_models, self.average_state = check_count("n_models", n_models), average_state

    def cut(self, n_threads: int) -> tuple[int, int]:
        return 1, 1

    def copies(self, n_threads: int) -> int:
        return self.n_models or n_threads

    def update_signature(self, setting: Setting) -> list[int] | None:
        several = [int(setting.copies), self.sync_every, int(self.average_state)] if setting.copies > 1 else []
        return [1, 1, *several]

    def prepare(self, resources: Resources, setting: Setting) -> None:
        if type(resources.optimizer).step is not Optimizer.step:
            raise ValueError(f"strategy local moves each copy by the rule {resources.optimizer.rule!r}, and "
                             f"{type(resources.optimizer).__name__} has a step of its own: use another strategy")
        resources.rule(1)      # ValueError where its numbers need other state vectors than there are
        resources.note(setting)
        self._gather(resources, setting.copies)

    def run_arrays(self, resources: Resources, epoch: EpochProgress, order: Array, bounds: Array, setting: Setting,
                   pool: WorkerPool | None,
                   tick: Tick, max_updates: int | None = None) -> None:
        resources.note(setting)
        asked = False

        def note(epoch: EpochProgress, samples: int) -> bool:
            nonlocal asked
            asked = tick(epoch, samples) or asked
            return asked
        while epoch.batches_done < len(bounds) - 1 and not asked and (max_updates is None or max_updates > 0):
            n = min(len(bounds) - 1 - epoch.batches_done, setting.copies * self.sync_every)
            with uninterrupted() as held:
                self._round(resources, epoch, order, bounds[epoch.batches_done:epoch.batches_done + n + 1], setting, pool, note,
                            held)
            note(epoch, epoch.samples)
            max_updates = None if max_updates is None else max_updates - self.sync_every

    def _round(self, resources: Resources, epoch: EpochProgress, order: Array, bounds: Array, setting: Setting,
               pool: WorkerPool | None,
               tick: Tick, held: uninterrupted) -> None:
        k, n, most = setting.copies, len(bounds) - 1, resources.most_failures(epoch, 1)
        cuts = [n * j // k for j in range(k + 1)]
        copies, runs = self._gather(resources, k), []
        for model_copy, lo, hi in zip(copies, cuts[:-1], cuts[1:], strict=True):
            given_up = {b - lo: epoch.hung[int(bounds[b]), int(bounds[b + 1])] for b in range(lo, hi)
                        if (int(bounds[b]), int(bounds[b + 1])) in epoch.hung} if epoch.hung else None
            model_copy.begin(resources, self.average_state, hi - lo)
            runs.append(engine.NativeRun([model_copy.replica.native], [model_copy.slot], resources.sources, order,
                                         bounds[lo:hi + 1],
                                         model_copy.update, t=resources.state.t, first_step=resources.step + lo,
                                         seed=resources.seed,
                                         max_retries=resources.policy.retries, max_failed=most, given_up=given_up))
        try:
            came = native_driver.drive(resources, epoch, [s for s in runs if s.n_batches], pool, tick, held, must_finish=True)
        except BaseException:
            with resources.booking():
                resources.model_copies = []      # a worker may still hold one
            raise
        with resources.booking():
            if came:
                self._book(resources, epoch, order, bounds, copies, runs, cuts, most)
            else:                   # the round is run again without the batch that hung
                resources.model_copies = []

    def _book(self, resources: Resources, epoch: EpochProgress, order: Array, bounds: Array, copies: list[ModelCopy],
              runs: list[engine.NativeRun],
              cuts: list[int], most: int) -> None:
        """Count what the runs of a round did, and average the copies. Copy j ran batches cuts[j] to cuts[j + 1] - 1."""
        sizes = np.diff(bounds)
        results, failures = [], []
        for j, (run, lo) in enumerate(zip(runs, cuts, strict=False)):
            done = run.next_group + bool(run.fatal)
            arrived = run.statuses[:done] == engine.OK
            own = sizes[lo:lo + done]
            failures += [BatchFailure(epoch.number, epoch.batches_done + lo + int(b), int(own[b]), j, run.errors[int(b)],
                                      order[bounds[lo + b]:bounds[lo + b + 1]]) for b in np.flatnonzero(~arrived)]
            weights = run.weights[:done][arrived]
            results.append((int(own[arrived].sum()), (run.losses[:done][arrived] * weights).tolist(), weights.tolist(),
                            int(arrived.sum()), int((run.attempts[:done][arrived] > 1).sum()),
                            run.updates - resources.state.t, done))
        norms = [s.norms[:r[5]] for s, r in zip(runs, results, strict=True)]
        self._end_round(resources, epoch, copies, len(sizes), most, results, failures, norms)

    def run_batches(self, resources: Resources, epoch: EpochProgress, batches: Iterator[Batch | LazyBatch], setting: Setting,
                    pool: WorkerPool | None, tick: Tick, max_updates: int | None = None) -> bool:
        resources.note(setting)
        k = setting.copies
        while max_updates is None or max_updates > 0:
            group, end = python_driver.next_batches(batches, k * self.sync_every)
            if group:
                started = time.perf_counter()
                with uninterrupted() as held:
                    while not self._round_of_batches(resources, epoch, group, k, pool, held):
                        pass
                epoch.seconds += time.perf_counter() - started
            max_updates = None if max_updates is None else max_updates - self.sync_every
            if end is not None:
                resources.book_end(epoch, end, 1)
                return True
            if tick(epoch, epoch.samples):
                return False
        return False

    def _round_of_batches(self, resources: Resources, epoch: EpochProgress, group: list[Batch | LazyBatch], k: int,
                          pool: WorkerPool | None, held: uninterrupted) -> bool:
        """Run one round. False if it is to be run again, because a worker died or a batch hung; that batch is left out then."""
        n, t, first = len(group), resources.state.t, epoch.batches_done
        cuts = [n * j // k for j in range(k + 1)]
        most = resources.most_failures(epoch, 1)
        copies = self._gather(resources, k)
        outcomes: list[list[BatchProcessResult]] = [[] for _ in copies]
        norms: list[list[float]] = [[] for _ in copies]

        def run(j: int, worker: int) -> None:
            model_copy, updates = copies[j], 0
            for b in range(cuts[j], cuts[j + 1]):
                batch = group[b]
                key = (first + b, 0, 1)
                if key in epoch.hung:
                    outcomes[j].append(BatchProcessResult(j, batch.index, float("nan"), batch.n, False, epoch.hung[key]))
                    continue
                aggregator = GradientAggregator(1)
                since = resources.enter_batch(worker, b, model_copy.replica)
                result = ParallelBatchProcessor(batch, resources.model, resources.loss, aggregator, j, slot=0,
                                                replica=model_copy.replica,
                                                gradients=model_copy.slot, seed=resources.seed, step=resources.step + b,
                                                max_retries=resources.policy.retries)()
                resources.leave_batch(worker, since)
                outcomes[j].append(result)
                if isinstance(result.exception, (KeyboardInterrupt, engine.CancelledError)):
                    return
                if result.success and result.weight > 0:
                    norm = model_copy.update.apply(model_copy.slot, t + updates + 1)
                    norms[j].append(norm)
                    updates += resources.optimizer.clip_norm is None or isfinite(norm)
        for model_copy in copies:
            model_copy.begin(resources, self.average_state, max(1, n))
        resources.make_room(1 if pool is None else pool.n_threads)
        try:
            resources.check_deadline()
            if pool is None:
                with held.open():
                    for j in range(k):
                        run(j, 0)
            else:
                tasks = pool.submit_all(partial(run, j) for j in range(k))

                def give_up(task: Task, at: int) -> None:
                    number = first + at
                    epoch.hung[number, 0, 1] = resources.timeout_error(pool, task, f"batch {number}",
                                                                       copies[tasks.index(task)].replica.native.where())
                if not python_driver.wait_for(resources, tasks, pool, [m.replica for m in copies], give_up, held):
                    resources.model_copies = []
                    return False
            resources.check_deadline()
        except BaseException:
            resources.model_copies = []
            raise
        for outcome in outcomes:
            for r in outcome:
                if isinstance(r.exception, KeyboardInterrupt):
                    raise r.exception
        failures = [BatchFailure(epoch.number, first + lo + i, r.n_samples, j, r.exception, group[lo + i].indices)
                    for j, (outcome, lo) in enumerate(zip(outcomes, cuts, strict=False)) for i, r in enumerate(outcome)
                    if r.exception is not None]
        results = []
        for outcome, some in zip(outcomes, norms, strict=True):
            good = [r for r in outcome if r.success]
            made = sum(resources.optimizer.clip_norm is None or isfinite(n) for n in some)
            results.append((sum(r.n_samples for r in good), [r.loss * r.weight for r in good], [r.weight for r in good],
                            len(good), sum(r.attempts > 1 for r in good), made, len(outcome)))
        self._end_round(resources, epoch, copies, n, most, results, failures, norms)
        return True

    def _end_round(self, resources: Resources, epoch: EpochProgress, copies: list[ModelCopy], n: int, most: int,
                   results: list[tuple[int, list[float], list[float], int, int, int, int]], failures: list[BatchFailure],
                   norms: Sequence[npt.ArrayLike]) -> None:
        """Average the copies and count the round. results: for each model_copy, the samples that arrived, the losses of its
        batches (each times its weight), their weights, and how many batches arrived, were retried, made updates, and were
        tried."""
        if len(failures) > most:
            resources.stop_for(epoch, failures)
        samples = sum(r[0] for r in results)
        if any(any(r[2]) for r in results):
            mean = GradientAggregator(len(copies))
            for j, (model_copy, result) in enumerate(zip(copies, results, strict=True)):
                if result[0]:
                    mean.submit_gradients(model_copy.all, result[0], j, copy=False, weight=sum(result[2]))
                else:
                    mean.submit_failure(j)
            vector = np.asarray(mean.get_average_gradients(0, in_place=True))
            for shared, part in zip(shared_vectors(resources), copies[0].spans, strict=True):
                shared[...] = vector[part]
            resources.state.t += max(r[5] for r in results)
        for some in norms:
            epoch.add_norms(some)
        epoch.samples += samples
        epoch.add_losses([loss for r in results for loss in r[1]], [weight for r in results for weight in r[2]])
        for j, result in enumerate(results):
            resources.stats.count_worker(j, result[6])
        resources.step += n
        resources.book(epoch, n, n, sum(r[3] for r in results), sum(r[4] for r in results), samples, sum(r[5] for r in results),
                       failures)

    def _gather(self, resources: Resources, k: int) -> list[ModelCopy]:
        """The k copies; those that are missing are made."""
        del resources.model_copies[k:]
        while len(resources.model_copies) < k:
            resources.model_copies.append(ModelCopy(resources))
        return resources.model_copies


class ModelCopy:
    """A copy of parameters, statistics and optimizer state, one after another in `all`, and a replica that trains it."""

    def __init__(self, resources: Resources) -> None:
        shared = shared_vectors(resources)
        starts = starts_of(v.size for v in shared)
        self.all = engine.aligned(starts[-1], resources.model.dtype)
        self.spans = [slice(at, at + v.size) for at, v in zip(starts[:-1], shared, strict=True)]
        params, statistics, *state = (self.all[s] for s in self.spans)
        self.state = [v for name, v in zip(resources.state.vectors, state, strict=True) if name != "ema"]     # averaged ones stay
        self.update = engine.Update(resources.optimizer.rule, params, dict(zip(resources.state.vectors, state, strict=True)),
                                    statistics, resources.model.momenta)
        self.replica = Replica(resources.model, resources.loss, resources.max_rows, plan=resources.plan, params=params,
                               statistics=statistics)
        self.slot = self.replica.gradient_vector()

    def begin(self, resources: Resources, keep_state: bool, updates: int) -> None:
        """Copy the shared values into this copy, for so many updates. keep_state: the optimizer's state too; else it begins
        at zero."""
        for span, shared in zip(self.spans, shared_vectors(resources), strict=True):
            self.all[span] = shared
        if not keep_state:
            for vector in self.state:
                vector[...] = 0
        resources.optimizer.set_numbers(self.update, resources.state, max(1, updates))


def shared_vectors(resources: Resources) -> list[Array]:
    """Parameters, statistics, and the optimizer's state."""
    return [resources.model.params, resources.model.statistics, *resources.state.vectors.values()]
