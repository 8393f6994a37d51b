"""IDX files, MNIST's format: an array of any number of axes and of one of six types."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]

#: big-endian in the file, by the third byte of its magic number
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx(path: str | Path) -> Array:
    """The array in an IDX file, gzipped (by its name, .gz) or not: of uint8, int8, int16, int32, float32 or float64.

    The file is 0, 0, the type's code, the number of axes; each axis's length (big-endian, 32 bits); the values. ValueError says
    what is wrong with one: its first bytes, what it has and what its header says.

        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "labels-idx1-ubyte")
        ...     with open(path, "wb") as f:
        ...         _ = f.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
        ...     idx(path)
        array([5, 0, 4], dtype=uint8)
    """
    import math
    import struct
    raw = contents(path)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in TYPES or not 1 <= raw[3] <= 32:
        raise ValueError(f"{path} is not an IDX file: it begins with {raw[:4].hex(' ') or 'nothing'}, not 00 00, a type's code "
                         f"({', '.join(f'{code:02x}' for code in TYPES)}) and the number of axes")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise ValueError(f"{path} is truncated: {len(raw)} bytes, less than its header")
    shape, dtype = struct.unpack(f">{raw[3]}I", raw[4:start]), np.dtype(TYPES[raw[2]])
    size, there = math.prod(shape), len(raw) - start
    if there != size * dtype.itemsize:
        each = "" if dtype.itemsize == 1 else f", of {dtype.itemsize} bytes each"
        raise ValueError(f"{path} has {there} bytes of values where its header says {shape}, {size} values in all{each}")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def contents(path: str | Path) -> bytes:
    """All bytes of a file, decompressed where its name ends in .gz."""
    from pathlib import Path
    path = Path(path)
    if path.suffix != ".gz":
        return path.read_bytes()
    import gzip
    import zlib
    try:
        with gzip.open(path) as f:
            return f.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise ValueError(f"{path} is truncated or not gzip: {e}") from e
