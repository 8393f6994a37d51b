"""What has to be the same on all ranks, as text: settings as they are, arrays as checksums."""
from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl._version import __version__
from tinydl.data import ArrayDataset, Dataset, Split

if TYPE_CHECKING:
    from tinydl.losses import Loss
    from tinydl.model import Model
    from tinydl.optim import Optimizer

Array = np.ndarray[Any, Any]

#: rows of an array that are compared, evenly spread: to read all of a set that a rank needs a part of would take long
ROWS = 256


def checksum(*arrays: Array) -> str:
    """Of all their bytes."""
    found = 0
    for a in arrays:
        found = zlib.crc32(np.ascontiguousarray(a).reshape(-1).view(np.uint8).data, found)
    return f"{found:08x}"


def describe_data(part: Dataset | None) -> str:
    """Kind, sizes and shapes; of arrays also the checksum of some rows, and which of them the part has."""
    if not isinstance(part, ArrayDataset):
        return repr(part) if part is None else (f"{type(part).__name__} of {part.n_samples} samples {part.input_shape}, "
                                                f"batch_size={part.batch_size}")
    some = [a[np.linspace(0, len(a) - 1, min(ROWS, len(a))).astype(int)] for a in part.sources]
    return f"{part!r} {checksum(*some, *([] if part.rows is None else [part.rows]))}"


def describe(parts: Split[Any], model: Model, loss: Loss, optimizer: Optimizer, seed: int,
             settings: Sequence[Any]) -> dict[str, str]:
    """By what it is called. settings: others, as their repr."""
    train, order = parts.train, ""
    if isinstance(train, ArrayDataset):
        order = checksum(*train.order(seed, 0))
    return {"version": f"tinydl {__version__}", "seed": str(seed), "setting": ", ".join(map(_plain, settings)),
            "training data": describe_data(train), "validation data": describe_data(parts.validation),
            "order of samples": order, "model": f"{model.layer!r}, {model.dtype}",
            "set of initial parameters": checksum(model.params, model.statistics),
            "loss": _plain(loss), "optimizer": f"{type(optimizer).__name__}({optimizer.config()}, {optimizer.options_config()})"}


def _plain(value: Any) -> str:
    """Without the address that the repr of an object may have."""
    text = repr(value)
    if " at 0x" not in text:
        return text
    own = ", ".join(f"{k}={v!r}" for k, v in getattr(value, "__dict__", {}).items() if isinstance(v, (int, float, str, tuple)))
    return f"{type(value).__name__}({own})"
