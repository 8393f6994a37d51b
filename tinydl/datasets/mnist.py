"""MNIST, or anything else in its IDX files, from a folder that a person already has."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl.data import ArrayDataset

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]


def mnist(folder: str | Path, train: bool = True, batch_size: int = 64, *, flatten: bool = True) -> ArrayDataset:
    """x (60000 or 10000, 784) float32 in 0..1 (flatten=False: (.., 1, 28, 28)), y labels.

    The files are train-images-idx3-ubyte and so on (t10k-... for train=False), with - or . before idx, gzipped (.gz)
    or not. FileNotFoundError lists the names looked for; ValueError says what is wrong with a file.
    """
    from pathlib import Path
    part = "train" if train else "t10k"
    images, labels = read_idx(_find(Path(folder), f"{part}-images", 3)), read_idx(_find(Path(folder), f"{part}-labels", 1))
    if images.ndim != 3 or not images.size or labels.shape != images.shape[:1]:
        raise ValueError(f"{folder}: images {images.shape} and labels {labels.shape} do not belong together")
    x = images.astype(np.float32) / 255
    return ArrayDataset(x.reshape(len(x), -1) if flatten else x[:, None], labels, batch_size)


def _find(folder: Path, name: str, axes: int) -> Path:
    names = [f"{name}{sep}idx{axes}-ubyte{gz}" for sep in "-." for gz in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(f"{folder} has none of {', '.join(names)}")


def read_idx(path: Path) -> Array:
    """An IDX file of bytes: 0, 0, 8, axes; each axis' length (big-endian 32 bits); the values."""
    import math
    import struct
    if path.suffix == ".gz":
        import gzip
        import zlib
        try:
            with gzip.open(path) as f:
                raw = f.read()
        except (EOFError, gzip.BadGzipFile, zlib.error) as e:
            raise ValueError(f"{path} is truncated or not gzip: {e}") from e
    else:
        raw = path.read_bytes()
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or not 1 <= raw[3] <= 4:
        raise ValueError(f"{path} is not an IDX file of bytes: it begins with {raw[:4].hex(' ') or 'nothing'}, "
                         "not 00 00 08 and the number of axes")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise ValueError(f"{path} is truncated: {len(raw)} bytes, less than its header")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    size = math.prod(shape)
    if len(raw) != start + size:
        raise ValueError(f"{path} has {len(raw) - start} values where its header says {shape}, {size} in all")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
