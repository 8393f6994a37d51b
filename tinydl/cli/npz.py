"""Tables as NumPy's .npz: x and y."""
from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinydl.cli.cells import quoted
from tinydl.cli.errors import CommandError
from tinydl.cli.reading import Array, Table


def read_npz(path: Path, features: Sequence[str] | None, labelled: bool) -> Table:
    """Of x, the features, and y where it is labelled."""
    wanted = ("x", "y") if labelled else ("x",)
    try:
        with zipfile.ZipFile(path) as z:
            names = {n.removesuffix(".npy"): n for n in z.namelist()}
            if "x" not in names and "X" in names:
                names["x"] = names.pop("X")
            missing = [key for key in wanted if key not in names]
            if missing:
                raise CommandError(f"{path} has no array {quoted(missing)}; it has {quoted(sorted(names)) or 'none'}")
            arrays = [_array(path, z, names[key], key) for key in wanted]
    except (zipfile.BadZipFile, ValueError, EOFError, zlib.error, NotImplementedError) as e:
        raise CommandError(f"{path} is not an .npz file, or is truncated: {e}") from None
    x, y = arrays[0], arrays[1] if labelled else None
    if x.ndim < 2 or x.dtype.kind not in "fiub":
        raise CommandError(f"{path}: x must be numbers of shape (rows, features); it is {x.dtype} of shape {x.shape}")
    if not x.size:
        raise CommandError(f"{path}: x is empty, of shape {x.shape}")
    x = x.reshape(len(x), -1).astype(np.float64)
    if features is not None and x.shape[1] != len(features):
        raise CommandError(f"{path}: x has {x.shape[1]} features; the model needs {len(features)}")
    _check_finite(path, "x", x)
    if y is not None:
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.shape != (len(x),) or y.dtype.kind not in "fiubUS":
            raise CommandError(f"{path}: y must have one value for each of the {len(x)} rows of x; it is {y.dtype} of "
                               f"shape {y.shape}")
        if y.dtype.kind == "f":
            _check_finite(path, "y", y[:, None])
        elif y.dtype.kind in "US":
            y = np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
    names_of_columns = list(features or (f"x{i}" for i in range(x.shape[1])))
    return Table(dict(zip(names_of_columns, x.T, strict=True)), len(x), y, lambda row: f"{path}, row {row}",
                 by_place=True)


def _array(path: Path, z: zipfile.ZipFile, name: str, key: str) -> Array:
    with z.open(name) as f:
        try:
            return np.asarray(np.lib.format.read_array(f, allow_pickle=False))
        except ValueError as e:
            if "pickle" in str(e).lower():
                remedy = "x=np.asarray(x, 'float64')" if key == "x" else "y=np.asarray(y, 'int64'), or 'float64' or str"
                raise CommandError(f"{path}: {key} holds Python objects (pickled), as of a table with columns of several types; "
                                   f"save numbers or text: np.savez(path, {remedy}, ...)") from None
            raise


def _check_finite(path: Path, key: str, values: Array) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = map(int, bad[0])
        raise CommandError(f"{path}: {key} holds {values[row, column]} in row {row}"
                           f"{f', column {column}' if values.shape[1] > 1 else ''}")
