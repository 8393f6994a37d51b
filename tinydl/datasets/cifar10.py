"""CIFAR-10 in its binary version, from a folder that a person already has."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinydl.data import ArrayDataset
from tinydl.datasets.mnist import check_dtype, pixels

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = 3, 32, 32
#: bytes of a record: the label, then all red values row by row, all green, all blue
RECORD = 1 + 3 * 32 * 32


def cifar10(folder: str | Path, train: bool = True, batch_size: int = 64, *, dtype: str = "float32") -> ArrayDataset:
    """x (50000 or 10000, 3, 32, 32) float32 in 0..1: red, green, blue; y labels: airplane, automobile, bird, cat, deer, dog,
    frog, horse, ship, truck (Krizhevsky 2009).

    folder: that with data_batch_1.bin to data_batch_5.bin (test_batch.bin for train=False), or the one around it. dtype: "uint8"
    keeps the files' bytes, 0..255, in a quarter of the memory; batches get them as such numbers, or scaled and changed while they
    are gathered, as usual for CIFAR-10 with

        train, test = (cifar10(folder, part, dtype="uint8") for part in (True, False))
        normalize = Normalize.of(train)
        train = train.with_transforms(normalize, [augment.RandomCrop(padding=4), augment.RandomHorizontalFlip()])
        test = test.with_transforms(normalize)

    (all of tinydl.data). FileNotFoundError names the files that are missing; ValueError
    says which one is truncated, or has labels beyond 9.
    """
    from pathlib import Path
    check_dtype(dtype)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]
    inner = Path(folder) / "cifar-10-batches-bin"
    place = inner if inner.is_dir() else Path(folder)
    missing = [name for name in names if not (place / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{place} has no {', '.join(missing)} (the binary version of CIFAR-10)")
    records = []
    for name in names:
        raw = np.fromfile(place / name, np.uint8)
        if not len(raw) or len(raw) % RECORD:
            raise ValueError(f"{place / name} has {len(raw):,} bytes; records of {RECORD:,} (a label and 3x32x32 values) make no "
                             "such number: it is truncated, or not of the binary version")
        some = raw.reshape(-1, RECORD)
        if some[:, 0].max() > 9:
            row = int(some[:, 0].argmax())
            raise ValueError(f"{place / name}: the label of record {row} is {some[row, 0]}; there are 0 to 9")
        records.append(some)
    # the pixels alone are copied together: the labels lie between them
    x = np.concatenate([some[:, 1:] for some in records]).reshape(-1, *SHAPE)
    return ArrayDataset(pixels(x, dtype), np.concatenate([some[:, 0] for some in records]), batch_size)
