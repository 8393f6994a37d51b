"""What `Trainer.init` is given: checked before anything changes, so that nothing ends training after hours."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl.callbacks import Callback, WeightAveraging
from tinydl.data import ArrayDataset, Dataset, ItemDataset, SequenceDataset, Split, StreamDataset, WindowDataset
from tinydl.data.checks import as_targets, check_shape, parts_of, stack
from tinydl.data.frames import as_array
from tinydl.history import EpochRecord
from tinydl.metrics import Evaluator
from tinydl.sequence_outputs import check_lengths

if TYPE_CHECKING:
    from tinydl.losses import Loss
    from tinydl.model import Model
    from tinydl.optim import Optimizer

Array = np.ndarray[Any, Any]

#: figures that every epoch has; the others are of a validation
ALWAYS = [*(f.name for f in fields(EpochRecord) if f.name not in ("validation_loss", "figures")), "samples_per_second"]


def check_parts(parts: Split[Any], model: Model, loss: Loss, evaluator: Evaluator | None) -> None:
    """TypeError or ValueError where a part is no dataset, is empty, or does not fit the model, the loss or the evaluator. Where
    samples are made one by one, that is seen by the first of a part that is not trained on."""
    _check_not_empty(parts.train, "training set")
    if isinstance(parts.train, SequenceDataset):
        check_lengths(model, parts.train)
    output = model.output_shape(parts.train.input_shape)
    loss.check_outputs(output)
    # one that is derived from these may give other batches
    if type(parts.train) in (ArrayDataset, SequenceDataset, WindowDataset):
        held_out = parts.validation is not None or parts.test is not None
        _check_part(parts.train, model, loss, None if held_out else evaluator, output)
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


def _check_not_empty(part: Dataset, name: str) -> None:
    if 0 in (part.n_samples, part.n_batches):
        raise ValueError(f"the {name} is empty: {type(part).__name__} gives no batch")


def _check_part(part: Dataset, model: Model, loss: Loss, evaluator: Evaluator | None, output: Any) -> None:
    if isinstance(part, (ArrayDataset, SequenceDataset)):
        model.sources(part.inputs)
        if isinstance(part, ArrayDataset) and (part.normalize or part.augment) and model.inputs[0][2]:
            raise ValueError(f"normalize and augment make floats, and input {model.input_names[0]} takes integers")
    found = model.output_shape(part.input_shape)
    if found != output:
        raise ValueError(f"samples of shape {part.input_shape} give outputs {found}; those of the training set give {output}")
    for targets in _targets(part):
        loss.check_targets(targets, output)
        if evaluator is not None:
            evaluator.check_targets(targets, output)


def _targets(part: Dataset) -> Iterator[Array]:
    """All, or those at hand: none where that would need an epoch of it."""
    if isinstance(part, (ArrayDataset, SequenceDataset)):
        yield from part.targets()
    if isinstance(part, WindowDataset):                 # numbers of that shape, whatever they are
        yield np.zeros((1, *part.output_shape))
    if isinstance(part, ItemDataset):
        x, y, *_ = parts_of(part[0], part.weighted, "a sample")
        yield stack([x], [y], [0], part.input_shape)[1]
    if isinstance(part, StreamDataset):
        first = next(iter(part.source()), None)
        if first is None:
            raise ValueError("the stream is empty: its source gave nothing")
        x, y, *_ = parts_of(first, part.weighted, "what the stream gives")
        if part.chunks:
            check_shape(as_array(x, "x", part.feature_names), part.input_shape)
            yield as_targets(y)
        else:
            yield stack([x], [y], [0], part.input_shape)[1]


def check_occasions(callback: Callback) -> None:
    """TypeError where a method would never be called: one that is named as an occasion and is none, or `on_update` where nobody
    says `every`."""
    kind, occasions = type(callback), [name for name in vars(Callback) if name.startswith("on_")]
    for name in dir(kind):
        if name.startswith("on_") and name not in occasions and callable(getattr(kind, name)):
            meant = _hints.OCCASIONS.get(name)
            raise TypeError(f"{kind.__name__}.{name} would never be called; " + (
                f"it is called {meant}" if meant else f"occasions are {', '.join(occasions)}"))
    says = "every" in vars(callback) or any("every" in vars(cls) for cls in kind.__mro__ if cls is not Callback)
    if kind.on_update is not Callback.on_update and not says:
        raise TypeError(f"{kind.__name__}.on_update would never be called: say every = 1 in the class, or how many updates there "
                        "are to be between two calls")


def check_evaluator(evaluator: Evaluator) -> None:
    """TypeError where it lacks a method that is called after an epoch."""
    missing = [f"{name}({arguments})" for name, arguments in (("start", ""), ("update", "outputs, targets"), ("result", ""))
               if getattr(type(evaluator), name) is getattr(Evaluator, name)]
    if missing:
        raise TypeError(f"{type(evaluator).__name__} must have {', '.join(missing)}: update is called with each batch, and "
                        "result() returns a dict of figures by their names")


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
                meant = _hints.FIGURES.get(name)
                there = f"it is called {meant!r}" if meant in names else f"an epoch will have {', '.join(names)}{hint}"
                raise ValueError(f"{type(callback).__name__} needs {name!r}; {there}")


def check_averages(callbacks: Iterable[Callback], optimizer: Optimizer) -> None:
    """ValueError where there are several averages of the parameters: validation can look at one."""
    kept = [f"WeightAveraging(start={c.start})" for c in callbacks if isinstance(c, WeightAveraging)]
    kept += [] if optimizer.ema is None else [f"{type(optimizer).__name__}(ema={optimizer.ema})"]
    if len(kept) > 1:
        raise ValueError(f"{' and '.join(kept)}: validation looks at one average of the parameters; leave out the other"
                         f"{'s' * (len(kept) > 2)}")
