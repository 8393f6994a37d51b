"""What a model gives for a SequenceDataset: its samples in batches of one length or nearly so, each gathered and padded in native
code and run with as few steps as it needs; the outputs in the dataset's own order."""
# n samples, T steps at most
from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from math import prod
from typing import Any, Protocol

import numpy as np

from tinydl._kernels.engine import Replica, Source
from tinydl.data import SequenceDataset
from tinydl.data.frames import check_columns
from tinydl.nn.graph import named_outputs
from tinydl.nn.layer import Layer

Array = np.ndarray[Any, Any]


class Network(Protocol):
    """What is needed of a Model."""

    layer: Layer
    inputs: list[tuple[str, tuple[int, ...] | None, bool]]
    feature_names: list[str] | None
    dtype: np.dtype[Any]

    def sources(self, x: Any) -> list[Any]: ...
    def borrowed(self, shapes: tuple[tuple[int, ...], ...], rows: int,
                 padded: tuple[int, ...] = ()) -> AbstractContextManager[Replica]: ...


def check_lengths(model: Network, data: SequenceDataset) -> None:
    """ValueError where the dataset gives lengths, and the model has no input for them."""
    if data.with_lengths and len(model.inputs) == 1:
        raise ValueError("the model takes the sequences alone, and the dataset gives their lengths, too: say "
                         "SequenceDataset(..., lengths=False), or let the model take nn.Input((), 'int64', name='lengths')")


def sequence_outputs(model: Network, data: SequenceDataset, batch_size: int) -> Any:
    """For `Model.predict`: outputs (n, ...); those for each step, where the data has per_step, as a list of n arrays."""
    shapes, several = _shapes(model, data)
    by_step, lengths = _by_step(data, shapes), data.lengths.tolist()
    outs: list[Any] = [[None] * len(data) if steps else np.empty((len(data), *shape), model.dtype)
                       for shape, steps in zip(shapes, by_step, strict=True)]
    for numbers, parts in _batches(model, data, shapes, batch_size):
        for out, part, steps in zip(outs, parts, by_step, strict=True):
            if steps:
                for i, row in zip(numbers.tolist(), part, strict=True):
                    out[i] = row[:lengths[i]].copy()
            else:
                out[numbers] = part
    return named_outputs(model.layer, tuple(outs) if several else outs[0])


def padded_outputs(model: Network, data: SequenceDataset, batch_size: int = 256) -> Any:
    """The same with outputs for each step as arrays (n, T, ...), 0 behind a sequence's own: as y of batches."""
    shapes, several = _shapes(model, data)
    outs = [np.zeros((len(data), *shape), model.dtype) for shape in shapes]
    for numbers, parts in _batches(model, data, shapes, batch_size):
        for out, part, steps in zip(outs, parts, _by_step(data, shapes), strict=True):
            if steps:
                out[numbers, :part.shape[1]] = part
            else:
                out[numbers] = part
    return named_outputs(model.layer, tuple(outs) if several else outs[0])


def _shapes(model: Network, data: SequenceDataset) -> tuple[list[tuple[int, ...]], bool]:
    """Of one sample, of each output; whether there are several."""
    check_lengths(model, data)
    check_columns(data.feature_names, model.feature_names, "the dataset")
    given, wanted = _input_shapes(data)[0], model.inputs[0][1] or ()        # where layers say it, of its last axes, or of all
    if len(wanted) == len(given) and wanted[0] != given[0]:
        raise ValueError(f"the model takes sequences of {wanted[0]} steps, and the dataset pads to {given[0]}: "
                         f"SequenceDataset(..., max_length={wanted[0]})")
    model.sources(data.inputs)
    found: Any = model.layer.output_shape(*_input_shapes(data))
    several = bool(found) and isinstance(found[0], tuple)
    return (list(found) if several else [found]), several


def _input_shapes(data: SequenceDataset) -> tuple[tuple[int, ...], ...]:
    return data.input_shape if data.with_lengths else (data.input_shape,)


def _by_step(data: SequenceDataset, shapes: list[tuple[int, ...]]) -> list[bool]:
    """Which outputs have a row for each step."""
    return [data.per_step and shape[:1] == (data.max_length,) for shape in shapes]


def _batches(model: Network, data: SequenceDataset, shapes: list[tuple[int, ...]],
             batch_size: int) -> Iterator[tuple[Array, list[Array]]]:
    """Numbers of samples, and each output of theirs (numbers, *shape), of fewer steps where it has a row for each."""
    lengths, T = data.lengths, data.max_length
    order = np.argsort(lengths, kind="stable")
    # a row for each step, and nobody says that those beyond a length are not wanted
    whole = not data.per_step and any(shape[:1] == (T,) for shape in shapes)
    sources = [Source(x) for x in model.sources(data.inputs)]
    rows = min(batch_size, 1 << (len(data) - 1).bit_length())
    padded = () if whole or len(data) <= rows else data.padded[:1]      # shorter forms of a plan are not made for one batch
    with model.borrowed(_input_shapes(data), rows, padded) as replica:
        forms = replica.program.shorter or []
        for at in range(0, len(order), rows):
            numbers = order[at:at + rows]
            most = int(lengths[numbers[-1]])
            steps = next((steps for steps, _ in forms if most <= steps), T)
            own = [(steps, *shape[1:]) if each else shape for shape, each in zip(shapes, _by_step(data, shapes), strict=True)]
            sizes = [prod(shape) for shape in own]
            out = np.empty((len(numbers), sum(sizes)), model.dtype)
            replica.run(sources, numbers if data.rows is None else data.rows[numbers], len(numbers), out=out)
            yield numbers, [part.reshape(len(numbers), *shape) for part, shape in
                            zip(np.split(out, np.cumsum(sizes)[:-1], 1), own, strict=True)]
