"""Model files: a zip with architecture.json and one .npy per array. No pickle, so opening one runs no code."""
from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from tinydl.model import Model
from tinydl.nn.layer import REGISTRY, Layer

FORMAT, VERSION = "tinydl-model", 1


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call write(file) on a temporary neighbour of `path`, then put it in path's place: all of it or nothing."""
    fd, temporary = tempfile.mkstemp(dir=path.parent or ".", prefix=path.name + ".", suffix=".tmp")
    try:
        with os.fdopen(fd, "wb") as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):       # it may be in its place already
            os.unlink(temporary)
        raise


@contextmanager
def _zip(f: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """A zip written to f. What interrupts the writing comes out as it is: ZipFile's own exit would put a ValueError about a
    half-written entry in its place."""
    z = zipfile.ZipFile(f, "w", zipfile.ZIP_STORED)
    try:
        yield z
    except BaseException:
        z.fp = None         # nothing is left to close
        raise
    z.close()


def write_arrays(f: IO[bytes], header: str, meta: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """A zip with `header` (JSON) and arrays/NAME.npy entries."""
    with _zip(f) as z:
        z.writestr(zipfile.ZipInfo(header), json.dumps(meta, indent=1))      # no date: the same model, the same bytes
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
            z.writestr(zipfile.ZipInfo(f"arrays/{name}.npy"), entry.getvalue())


def read_arrays(path: Path, header: str, what: str) -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    """What write_arrays wrote; ValueError naming the file where it is truncated or something else."""
    try:
        with zipfile.ZipFile(path) as z:
            meta = json.loads(z.read(header))
            arrays = {n.removeprefix("arrays/").removesuffix(".npy"):
                      np.lib.format.read_array(io.BytesIO(z.read(n)), allow_pickle=False)
                      for n in z.namelist() if n.startswith("arrays/")}
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, zlib.error) as e:
        raise ValueError(f"{path} is not a {what} of tinydl, or is truncated: {e}") from e
    return meta, arrays


def layer_to_json(layer: Layer, seen: dict[int, int]) -> dict[str, Any]:
    """{"type", "config"} with "children" where there are any; {"same": i} for the i-th layer come again."""
    if id(layer) in seen:
        return {"same": seen[id(layer)]}
    seen[id(layer)] = len(seen)
    out: dict[str, Any] = {"type": type(layer).__name__, "config": layer.config()}
    children = [layer_to_json(child, seen) for _, child in layer.children()]
    if children:
        out["children"] = children
    return out


def layer_from_json(spec: Mapping[str, Any], known: Mapping[str, type[Layer]], made: list[Layer | None]) -> Layer:
    if "same" in spec:
        again: Layer | None = made[spec["same"]]
        assert again is not None
        return again
    if spec["type"] not in known:
        raise ValueError(f"the model has a layer {spec['type']!r} that is not tinydl's own: pass "
                         f"custom_layers={{{spec['type']!r}: its class}}")
    made.append(None)
    at = len(made) - 1
    children = [layer_from_json(child, known, made) for child in spec.get("children", ())]
    layer: Layer = known[spec["type"]](*children, **spec["config"])
    made[at] = layer
    return layer


def save_model(model: Model, path: str | Path) -> None:
    meta = {"format": FORMAT, "version": VERSION, "name": model.name, "dtype": str(model.dtype),
            "input_shape": model.input_shape, "metadata": model.metadata, "layer": layer_to_json(model.layer, {})}
    write_atomically(Path(path), lambda f: write_arrays(f, "architecture.json", meta, model.state_dict()))


def load_model(path: str | Path, custom_layers: Mapping[str, type[Layer]]) -> Model:
    meta, arrays = read_arrays(Path(path), "architecture.json", "model file")
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path} is not a tinydl model: its format is {meta.get('format')!r}")
    if meta["version"] > VERSION:
        raise ValueError(f"{path} has version {meta['version']} of the format; this tinydl reads up to {VERSION}: upgrade it")
    layer = layer_from_json(meta["layer"], {**REGISTRY, **custom_layers}, [])
    model = Model(layer, meta["dtype"], seed=0, name=meta["name"])
    try:
        model.load_state_dict(arrays)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None
    model.metadata = meta["metadata"]
    if model._shape is None and meta["input_shape"] is not None:
        model._shape = tuple(meta["input_shape"])
    return model
