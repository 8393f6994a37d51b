"""--resume: what of a training must be the same, and going on from its checkpoint."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from tinydl import Trainer
from tinydl.checkpoint import load_checkpoint, read_settings
from tinydl.cli.errors import CommandError
from tinydl.cli.reading import Array


def unsaved(path: Path, save: Callable[[], None]) -> str:
    """save(), and why `path` could not be saved, or "": this is no time to raise."""
    try:
        save()
    except (OSError, MemoryError) as e:
        return f"{path} could not be saved: {getattr(e, 'strerror', None) or str(e) or 'not enough memory'}"
    return ""


def digest(facts: dict[str, Any], *arrays: Array) -> str:
    """What data are known by."""
    digest = hashlib.sha256(json.dumps(facts).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def saved_settings(checkpoint: Path, settings: dict[str, Any], keep: Collection[str]) -> dict[str, Any]:
    """The settings of `checkpoint`; CommandError where one of `settings` differs that is not to be kept as it was saved."""
    try:
        saved = read_settings(checkpoint)
    except ValueError as e:
        raise CommandError(f"--resume: {e}") from None
    if not saved:
        raise CommandError(f"--resume: `tinydl train` did not save {checkpoint}")
    for name, value in settings.items():
        was = saved.get(name)
        if was != value and name not in keep:
            remedy = ("resuming needs the same data" if name == "data" else
                      f"leave {name} out" if was is None or name == "--threads" else f"say {name} {was}")
            raise CommandError(f"--resume: {checkpoint} was saved with {name} {was}; here it is {value}: {remedy}")
    return saved


def resume(trainer: Trainer, checkpoint: Path) -> None:
    """Be where `checkpoint` was saved, with the epochs that are left; CommandError where it is of another training."""
    try:
        load_checkpoint(trainer, checkpoint)
    except ValueError as e:
        raise CommandError(f"--resume: {e}") from None
    asked, begun = trainer.max_epochs, trainer.epoch + (trainer.progress.under_way is not None)
    if asked < begun:
        raise CommandError(f"--resume: {checkpoint} is in epoch {begun}; --epochs is {asked}")
    trainer.max_epochs -= trainer.epoch
