"""What `Trainer.init` is given: checked before anything changes, so that nothing ends training after hours."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl.data import ArrayDataset, Dataset, ItemDataset, Split, StreamDataset
from tinydl.data.checks import as_targets, check_shape, stack
from tinydl.metrics import Evaluator
from tinydl.monitor import EpochRecord

if TYPE_CHECKING:
    from tinydl.callbacks import Callback
    from tinydl.losses import Loss
    from tinydl.model import Model

Array = np.ndarray[Any, Any]

#: figures that every epoch has; the others are of a validation
ALWAYS = [*(f.name for f in fields(EpochRecord) if f.name not in ("validation_loss", "figures")), "samples_per_second"]


def check_parts(parts: Split[Any], model: Model, loss: Loss, evaluator: Evaluator | None) -> tuple[int, ...]:
    """The model's output shape. TypeError or ValueError where a part is no dataset, is empty, or does not fit the model, the
    loss or the evaluator. Where samples are made one by one, that is seen by the first of a part."""
    if not isinstance(evaluator, Evaluator | None):
        raise TypeError(f"evaluator must be an Evaluator; got {type(evaluator).__name__}")
    _check_not_empty(parts.train, "training set")
    output = model.output_shape(parts.train.input_shape)
    for name, part in (("validation part", parts.validation), ("test part", parts.test)):
        if part is None:
            continue
        if not isinstance(part, Dataset):
            raise TypeError(f"the {name} must be a Dataset or None; got {type(part).__name__}")
        _check_not_empty(part, name)
        try:
            _check_part(part, model, loss, evaluator, output)
        except ValueError as e:
            raise ValueError(f"the {name}: {e}") from e
    if evaluator is not None and parts.validation is parts.test is None and isinstance(parts.train, ArrayDataset):
        evaluator.check_targets(parts.train.y, output)
    return output


def _check_not_empty(part: Dataset, name: str) -> None:
    if 0 in (part.n_samples, part.n_batches):
        raise ValueError(f"the {name} is empty: {type(part).__name__} gives no batch")


def _check_part(part: Dataset, model: Model, loss: Loss, evaluator: Evaluator | None, output: tuple[int, ...]) -> None:
    found = model.output_shape(part.input_shape)
    if found != output:
        raise ValueError(f"samples of shape {part.input_shape} give outputs {found}; those of the training set give {output}")
    targets = _targets(part)
    if targets is not None:
        targets = loss.check_targets(targets, output)
        if evaluator is not None:
            evaluator.check_targets(targets, output)


def _targets(part: Dataset) -> Array | None:
    """All, or those at hand; None where that would need an epoch of it."""
    if isinstance(part, ArrayDataset):
        return part.y
    if isinstance(part, ItemDataset):
        x, y = part[0]
        return stack([x], [y], [0], part.input_shape)[1]
    if isinstance(part, StreamDataset):
        first = next(iter(part.source()), None)
        if first is None:
            raise ValueError("the stream is empty: its source gave nothing")
        x, y = first
        if not part.chunks:
            return stack([x], [y], [0], part.input_shape)[1]
        check_shape(np.asarray(x), part.input_shape)
        return as_targets(y)
    return None


def check_needs(callbacks: Iterable[Callback], evaluator: Evaluator | None, validates: bool) -> None:
    """ValueError where an epoch's record will not have a figure that a callback needs."""
    names = [*ALWAYS, "validation_loss"] if validates else ALWAYS
    if validates and evaluator is not None:
        if evaluator.figure_names is None:
            return
        names = [*names, *evaluator.figure_names]
    for callback in callbacks:
        for name in callback.needs:
            if name not in names:
                hint = "" if validates else "; others are of a validation part, as of split(0.8, validation=0.2)"
                raise ValueError(f"{type(callback).__name__} needs {name!r}; an epoch will have {', '.join(names)}{hint}")
