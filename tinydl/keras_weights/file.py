"""What is in a .weights.h5 or .keras file of Keras 3, layer by layer.

A .weights.h5 file is HDF5, with a group for each layer, `layers/dense_1`, and its arrays in vars/0, vars/1, ... of it and of
what it is made of (`layers/lstm/cell`). A Sequential's or functional model's layers are called by their class and counted, in
their order, not by their names; a class's layers by the attributes that hold them. A .keras file is a zip of such a file,
model.weights.h5, and the layers' arguments in order, config.json. Of weights in several files there is an index,
NAME.weights.json, and a layer's arrays may be in two of them.
"""
from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from tinydl.formats import foreign, shards
from tinydl.keras_weights.layouts import KINDS
from tinydl.serialization import write_atomically
from tinydl.weights import Array, natural

#: times as many bytes as an array has in a file, compressed, that it can be: deflate's limit
MOST_DENSE = 1032
#: what belongs to the layer around it
_INNER = re.compile(r"(?:(.*?)/)??((?:forward_layer/|backward_layer/)?cell|(?:query|key|value|output)_dense)")


class Entry:
    """A layer of the file.

    path: of its group; arrays: by the path within it ("" for its own, "cell", "query_dense", ...); kind: its class as
    "batch_normalization", None where that is not said; config: the arguments it was made with, as far as they are there; ordered:
    whether the entries are in the order of the model's layers.
    """

    def __init__(self, path: str, arrays: dict[str, list[Array]], name: str) -> None:
        self.path, self.arrays, self.config, self.ordered = path, arrays, dict[str, Any](), False
        self.container, _, last = path.rpartition("/")
        #: whether its name in the file is its class, and counts
        self.in_layers = self.container.rpartition("/")[2] in ("layers", "_layer_checkpoint_dependencies")
        kinds = [re.sub(r"_\d+$", "", text) for text in ((last,) if self.in_layers else (last, name))]
        self.kind = next((kind for kind in kinds if kind in KINDS), None)

    def describe(self) -> str:
        shapes = [f"{inner} {a.shape}".strip() for inner, arrays in self.arrays.items() for a in arrays]
        return f"{self.path} ({', '.join(shapes)})"


def read(path: str | os.PathLike[str]) -> list[Entry]:
    """All layers that have weights; ValueError where it is no such file."""
    try:
        import h5py
    except ModuleNotFoundError as e:
        raise ImportError("tinydl.keras_weights needs h5py: pip install 'tinydl-parallel[keras]'") from e
    groups: dict[str, dict[int, Array]] = {}
    names: dict[str, str] = {}
    with _weights(path) as (files, config):
        for f in files:
            try:
                with h5py.File(f, "r") as h5:
                    _gather(h5, groups, names)
            except (OSError, ValueError) as e:          # as of a file that was cut
                raise ValueError(f"{getattr(f, 'name', path)} is damaged: {e}") from e
    found: dict[str, dict[str, list[Array]]] = {}
    for group, numbered in groups.items():
        arrays = [numbered[i] for i in sorted(numbered)]
        match = _INNER.fullmatch(group)
        outer, inner = (match[1] or "", match[2]) if match else (group, "")
        found.setdefault(outer, {})[inner] = arrays
    if not found:
        raise ValueError(f"{path} has no weights as Keras 3 writes them, in groups of `vars`. Of a file of Keras 2: load it with "
                         "Keras 3, and save it as .weights.h5 or .keras")
    entries = [Entry(group, arrays, names.get(group, "")) for group, arrays in found.items()]
    entries.sort(key=lambda entry: natural(entry.path))
    if config is not None:
        _in_order(entries, names, config)
    return entries


def replace(path: str | os.PathLike[str], arrays: Mapping[str, list[Array]]) -> None:
    """Put arrays into a file of one piece, {path of a group: its arrays in their order}; it is replaced as a whole."""
    import h5py
    with _weights(path) as (files, _):
        if len(files) > 1:
            raise ValueError(f"{path} is the index of several files: save_weights without max_shard_size writes one")
        content = io.BytesIO(files[0].read())
    with h5py.File(content, "r+") as h5:
        for group, values in arrays.items():
            places = h5[f"{group}/vars" if group else "vars"]
            numbered = sorted((name for name, item in places.items() if item.dtype.kind != "u"), key=int)
            for name, value in zip(numbered, values, strict=True):
                if places[name].dtype.kind != "f":
                    raise ValueError(f"{path} has {group} in bfloat16: save the weights of a model of float32")
                places[name][...] = value
    if zipfile.is_zipfile(path):
        content = _with_weights(path, content.getvalue())
    write_atomically(os.fspath(path), lambda f: f.write(content.getvalue()))


def _with_weights(path: str | os.PathLike[str], weights: bytes) -> io.BytesIO:
    """The .keras file with other weights."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.infolist():
            new.writestr(member, weights if member.filename == "model.weights.h5" else old.read(member))
    return out


@contextmanager
def _weights(path: str | os.PathLike[str]) -> Iterator[tuple[list[Any], dict[str, Any] | None]]:
    """The HDF5 files, of which an index has several, and what config.json says."""
    import json
    with open(path, "rb") as f:
        kind = foreign.kind_of(f)
        f.seek(0)
        if kind == "hdf5":
            yield [f], None
        elif kind == "index":
            with ExitStack() as stack:
                yield [stack.enter_context(open(part, "rb")) for part in shards.files_of(path)[0]], None
        elif kind == "keras":
            try:
                with zipfile.ZipFile(f) as z:
                    content, config = io.BytesIO(z.read("model.weights.h5")), json.loads(z.read("config.json"))
            except (zipfile.BadZipFile, KeyError, ValueError) as e:
                raise ValueError(f"{path} is damaged: {e}") from e
            yield [content], config
        else:
            raise ValueError(f"{path} holds no weights of Keras: it is {foreign.says(kind, path)}")


def _gather(h5: Any, groups: dict[str, dict[int, Array]], names: dict[str, str]) -> None:
    """Enter {path of a group: its arrays of numbers by their number}, but for the optimizer's and dropout's seeds, and {path: the
    layer's name}."""
    def visit(path: str, item: Any) -> None:
        group, _, last = path.rpartition("/")
        if path == "optimizer" or path.startswith("optimizer/"):
            return
        if last == "vars" and "name" in item.attrs:
            names[group] = str(item.attrs["name"])
        if group.rpartition("/")[2] == "vars" and last.isdigit() and _is_inside(path, item) and item.dtype.kind != "u":
            groups.setdefault(group.removesuffix("vars").removesuffix("/"), {})[int(last)] = _values(item)
    h5.visititems(visit)


def _values(item: Any) -> Array:
    """The array; of bfloat16, which HDF5 has not, Keras writes two bytes for each number, the upper ones of a float32."""
    a: Array = item[()]
    if a.dtype.kind == "V" and a.dtype.itemsize == 2 and item.attrs.get("dtype") == "bfloat16":
        return (a.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return a


def _is_inside(path: str, item: Any) -> bool:
    """ValueError where it is no array, or its values are not in this file, which may say anything of sizes and of other files."""
    if not hasattr(item, "dtype"):
        raise ValueError(f"{path} is no array")
    if item.external or item.is_virtual:
        raise ValueError(f"the values of {path} are in another file, which is not opened")
    if item.nbytes > MOST_DENSE * item.id.get_storage_size():
        raise ValueError(f"{path} would be {item.nbytes:,} bytes, of which the file has {item.id.get_storage_size():,}")
    return True


def _in_order(entries: list[Entry], names: Mapping[str, str], config: Mapping[str, Any]) -> None:
    """Put the entries in the order that config.json has, with what it says of each; as they are where it says nothing."""
    places: dict[str, tuple[int, dict[str, Any]]] = {}

    def walk(spec: Mapping[str, Any], group: str) -> None:
        container = f"{group}/layers" if group else "layers"
        children = {name: path for path, name in names.items() if path.rpartition("/")[0] == container}
        inside = spec.get("config", {})
        for layer in inside.get("layers", ()) if isinstance(inside, dict) else ():
            path = children.get(str(layer.get("config", {}).get("name")))
            if path is not None:
                places[path] = len(places), layer["config"]
                walk(layer, path)
    walk(config, "")
    if all(entry.path in places for entry in entries):
        entries.sort(key=lambda entry: places[entry.path][0])
        for entry in entries:
            entry.config, entry.ordered = places[entry.path][1], True
