"""Who hears of updates and epochs, whatever interrupts training: the validation, the monitor and the callbacks."""
from __future__ import annotations

from typing import TYPE_CHECKING

from tinydl.metrics import evaluate
from tinydl.parallel.execution.epoch import EpochProgress
from tinydl.parallel.workers.signals import uninterrupted

if TYPE_CHECKING:
    from tinydl.progress import Resumable

#: what an epoch ends with, before the callbacks hear of it
ALWAYS = TRAINED, VALIDATION, MONITOR = ("trained", "validation", "monitor")


def of_updates(trainer: Resumable, epoch: EpochProgress) -> None:
    """Call on_update where `every` more updates were made, also those that an interrupt kept from hearing of them."""
    epoch.told.extend([0] * (len(trainer.callbacks) - len(epoch.told)))
    for i, callback in enumerate(trainer.callbacks):
        if callback.every and epoch.updates // callback.every > epoch.told[i] // callback.every:
            epoch.told[i] = epoch.updates
            callback.on_update(trainer, epoch.updates)


def updates_until_next(trainer: Resumable, epoch: EpochProgress, most: int | None) -> int | None:
    """Updates until a callback wants to be called, or `most`."""
    left = [c.every - epoch.updates % c.every for c in trainer.callbacks if c.every]
    return min([*left, *([] if most is None else [most])], default=None)


def of_epoch(trainer: Resumable, held: uninterrupted) -> None:
    """What is left of the last epoch's end: `trainer.progress.left`. What Ctrl-C interrupts, and what fails up to the validation,
    is done again when training goes on."""
    while trainer.progress.left:
        step = trainer.progress.left.pop(0)         # before it is done: a checkpoint that a callback makes is of after it
        try:
            with held.open():
                _do(trainer, step)
        except BaseException as e:
            if step in (TRAINED, VALIDATION) or isinstance(e, KeyboardInterrupt):
                trainer.progress.left.insert(0, step)
            raise


def _do(trainer: Resumable, step: str | int) -> None:
    """TRAINED, VALIDATION, MONITOR, or the number of a callback."""
    record = trainer.progress.last
    assert record is not None
    if step == TRAINED:
        for callback in trainer.callbacks:
            callback.on_epoch_trained(trainer, record)
    if step == VALIDATION and trainer.data.validation is not None:
        figures = evaluate(trainer.evaluated_model(), trainer.data.validation, loss=trainer.loss, evaluator=trainer.evaluator)
        record.validation_loss = figures.pop("loss")
        record.figures = figures
    elif step == MONITOR:
        trainer.monitor.end_epoch(record)
    elif isinstance(step, int) and step < len(trainer.callbacks):
        trainer.callbacks[step].on_epoch_end(trainer, record)
