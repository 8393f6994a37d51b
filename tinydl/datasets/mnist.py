"""MNIST, or anything else in its files (Fashion-MNIST, KMNIST), from a folder that a person already has."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl.data import ArrayDataset
from tinydl.datasets.idx import idx

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]


def mnist(folder: str | Path, train: bool = True, batch_size: int = 64, *, flatten: bool = True,
          dtype: str = "float32") -> ArrayDataset:
    """x (60000 or 10000, 784) float32 in 0..1 (flatten=False: (.., 1, 28, 28)), y labels.

    dtype: "uint8" keeps the file's bytes, 0..255, in a quarter of the memory: batches get them as such numbers, or
    as `.with_transforms(data.Normalize.of(train), [data.augment.RandomCrop(padding=2)])` makes of them. The files are
    train-images-idx3-ubyte and so on (t10k-... for train=False), with - or . before idx, gzipped (.gz) or not.
    FileNotFoundError lists the names looked for; ValueError says what is wrong with a file.
    """
    from pathlib import Path
    check_dtype(dtype)
    part = "train" if train else "t10k"
    paths = [_find(Path(folder), f"{part}-{kind}", axes) for kind, axes in (("images", 3), ("labels", 1))]
    images, labels = map(idx, paths)
    for path, values in zip(paths, (images, labels), strict=True):
        if values.dtype != np.uint8:
            raise ValueError(f"{path} has values of {values.dtype}; images and labels are bytes (00 00 08)")
    if images.ndim != 3 or not images.size or labels.shape != images.shape[:1]:
        raise ValueError(f"{folder}: images {images.shape} and labels {labels.shape} do not belong together")
    x = pixels(images, dtype)
    return ArrayDataset(x.reshape(len(x), -1) if flatten else x[:, None], labels, batch_size)


def check_dtype(dtype: str) -> None:
    if dtype not in ("float32", "uint8"):
        raise ValueError(f"dtype={dtype!r}: 'float32' (0 to 1) or 'uint8' (0 to 255, as in the files)")


def pixels(images: Array, dtype: str) -> Array:
    """Bytes as they are, or as float32 in 0..1."""
    return images if dtype == "uint8" else images.astype(np.float32) / 255


def _find(folder: Path, name: str, axes: int) -> Path:
    names = [f"{name}{sep}idx{axes}-ubyte{gz}" for sep in "-." for gz in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(f"{folder} has none of {', '.join(names)}")
