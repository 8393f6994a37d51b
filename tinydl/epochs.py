"""Epochs: the loop of a trainer's `train` call, from the order of an epoch's batches to its line in the history.

An epoch is trained by one setting after another where the configuration changes meanwhile. How a setting's batches become
updates is the strategy's (parallel/strategies); who hears of updates and epochs is in notify.py.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tinydl import notify
from tinydl.checkpoint import warn_other_updates
from tinydl.data import ArrayDataset
from tinydl.history import EpochRecord
from tinydl.parallel.errors import BatchFailure, GaveUpError, TrainingError
from tinydl.parallel.execution import native_driver, python_driver
from tinydl.parallel.execution.epoch import EpochProgress, Setting
from tinydl.parallel.workers.pool import PoolClosedError
from tinydl.parallel.workers.signals import uninterrupted
from tinydl.plan.by_step import AHEAD
from tinydl.progress import Resumable

Array = np.ndarray[Any, Any]


def run(trainer: Resumable, asked: str | None, shuffle: bool) -> bool:
    """max_epochs epochs; False where they were stopped before, or there is something left of one."""
    for _ in range(trainer.max_epochs):
        if trainer.runtime.stopping or not _run_epoch(trainer, asked, shuffle):
            return False
    return trainer.progress.under_way is None


def check_parameters(trainer: Resumable) -> None:
    """RuntimeError where some were frozen or unfrozen, by a callback say: updates would be of memory that the model left."""
    update = trainer.resources.state.update
    if update is not None and update.params is not trainer.model.params:
        raise RuntimeError("parameters were frozen or unfrozen since Trainer.init: call it again")


def _tick(trainer: Resumable, asked: str | None, setting: Setting, epoch: EpochProgress, samples: int) -> bool:
    """Called a few times a second while workers run: progress, and whether they should come back."""
    trainer.monitor.progress(epoch.number, samples, epoch.loss)
    return trainer.runtime.wants_back(asked, setting)


def _run_epoch(trainer: Resumable, asked: str | None, shuffle: bool) -> bool:
    """One epoch, or what was left of an interrupted one; False where it was stopped before its end."""
    resources, train = trainer.resources, trainer.data.train
    epoch = trainer.progress.under_way = trainer.progress.under_way or EpochProgress(trainer.epoch + 1, shuffle)
    trainer.monitor.start_epoch(epoch.number)
    for callback in trainer.callbacks:
        callback.on_epoch_start(trainer, epoch.number)
    check_parameters(trainer)
    arrays = resources.takes_arrays(train)
    order, bounds = None, None
    if arrays:
        order, bounds = train.order(trainer.seed, trainer.epoch, epoch.shuffle)
        if isinstance(train, ArrayDataset) and train.augment:       # by draws of this epoch
            resources.set_data(train, trainer.seed, trainer.epoch)
    batches = None if arrays else iter(() if epoch.broken else train.epoch(trainer.seed, trainer.epoch, epoch.shuffle))
    epoch.n_batches = train.n_batches
    finished, fatal = False, list[BatchFailure]()
    try:
        rest = None
        if batches is not None:
            resources.reading = batches
            rest = python_driver.behind(batches, epoch.batches_done)
        finished = _run_updates(trainer, epoch, asked, rest, order, bounds)
    except (GaveUpError, PoolClosedError):
        if not trainer.runtime.stopping:
            raise
    except TrainingError as e:
        fatal = [replace(f, fatal=True) for f in e.failures[len(epoch.failures):]]
        raise
    finally:
        resources.reading = None
        if batches is not None and hasattr(batches, "close"):
            batches.close()
        trainer.monitor.history.failures.extend([*epoch.failures[epoch.reported:], *fatal])
        epoch.reported = len(epoch.failures)
    if not finished:
        return False
    _end_epoch(trainer, epoch)
    return True


def _run_updates(trainer: Resumable, epoch: EpochProgress, asked: str | None, batches: Iterator[Any] | None,
                 order: Array | None, bounds: Array | None) -> bool:
    """The rest of the epoch, by one setting after another where the configuration changes; False where it is stopped."""
    resources, runtime, finished = trainer.resources, trainer.runtime, False
    notify.of_updates(trainer, epoch)
    while not finished and not runtime.stopping:
        runtime.go_on_serially_if_many_hung()
        before = epoch.timing(time.perf_counter())
        found = runtime.next_setting(asked)
        if found is None:
            break
        mode, setting, most, pool = found
        update_signature = (setting.strategy if mode == "serial" else trainer.strategy).update_signature(setting)
        if resources.plan.by_step:          # which have numbers for so many steps
            most = AHEAD if most is None else min(most, AHEAD)
        most, tick = notify.updates_until_next(trainer, epoch, most), partial(_tick, trainer, asked, setting)
        try:
            setting.strategy.prepare(resources, setting)
        except MemoryError:
            if setting.n_threads == 1:
                raise
            runtime.lower(setting.n_threads - 1)
            continue
        warn_other_updates(trainer, update_signature)
        try:
            if batches is None:
                assert order is not None and bounds is not None
                native_driver.train(resources, epoch, order, bounds, setting, pool, tick, most)
                finished = epoch.batches_done >= len(bounds) - 1
            else:
                finished = python_driver.train(resources, epoch, batches, setting, pool, tick, most)
        finally:
            if epoch.updates > before.updates:
                trainer.progress.update_signature = update_signature
        if mode == "parallel":      # else the strategy was not asked
            trainer.strategy.ran(setting, epoch.timing(time.perf_counter(), before))
        notify.of_updates(trainer, epoch)
    return finished


def _end_epoch(trainer: Resumable, epoch: EpochProgress) -> None:
    """Count the epoch, validate, tell. Whatever ends the validation, the epoch has its line in the history."""
    record = EpochRecord(epoch.number, epoch.loss, epoch.seconds, epoch.samples, epoch.updates, len(epoch.failures),
                         learning_rate=trainer.optimizer.rate(max(0, trainer.resources.state.t - 1)),
                         gradient_norm=epoch.norm_sum / epoch.n_norms if epoch.n_norms else None)
    with uninterrupted() as held:
        trainer.progress.under_way = None
        trainer.resources.ledger.stats.seconds += epoch.seconds
        if not epoch.samples:
            cause = epoch.failures[0].exception if epoch.failures else None
            raise TrainingError(f"epoch {epoch.number}: none of {epoch.batches_done} batches arrived",
                                epoch.failures) from cause
        trainer.progress.epoch += 1
        trainer.history.records.append(record)
        trainer.progress.norms = epoch.norms
        trainer.progress.last, trainer.progress.left = record, [*notify.ALWAYS, *range(len(trainer.callbacks))]
        notify.of_epoch(trainer, held)
