"""Weights of PyTorch into a model of the same layers, and back. Nothing here imports torch.

    from tinydl import torch_weights

    torch_weights.load(model, module.state_dict())              # or a safetensors file of it
    module.load_state_dict({k: torch.tensor(v) for k, v in torch_weights.state_dict(model).items()})

Layers have PyTorch's names and layouts of parameters, but for the weight of Linear, which is stored transposed: here it is
turned. (nn.LinearEnsemble and nn.LinearBatchEnsemble are those of the package tabm.) What no file of weights says must be the
same in both: eps of norms, momentum of BatchNorm (both have PyTorch's meaning and defaults), activations, strides, padding,
norm_first; tanh and exact GELU are two. nn.GRU must have reset_after=True. BatchNorm's num_batches_tracked has no counterpart:
it is left out on the way in, and 0 on the way back.
"""
from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinydl.formats import foreign, safetensors, shards
from tinydl.model import Model
from tinydl.nn.attention import MultiheadAttention
from tinydl.nn.ensembles import LinearBatchEnsemble
from tinydl.nn.layer import Parameter
from tinydl.nn.linear import Linear
from tinydl.nn.recurrent import GRU
from tinydl.serialization import write_atomically
from tinydl.weights import Array, Place, Unit, as_numbers, copy_in, listed, natural, units

__all__ = ["load", "save", "state_dict"]

COUNT = "num_batches_tracked"
#: what counts, of batch norms and of torch.optim.swa_utils.AveragedModel, and is no weight
COUNTS = {COUNT, "n_averaged"}
FLOAT64 = np.dtype(np.float64)
#: of an attention whose q, k and v are three parameters, or three layers
_PIECES = re.compile(r"(|.*\.)([qkv])_proj[._](weight|bias)")


def load(model: Model, state: Mapping[str, Any] | str | os.PathLike[str], map: Mapping[str, str] | None = None, *,
         strict: bool = True) -> dict[str, str]:
    """Copy PyTorch's weights into `model`: all of them, or, where there is an error, nothing.

    state: a module's `state_dict()`, whose values may be tensors (of any device) or arrays; or the path of a safetensors file
    with them, or of the index of several, model.safetensors.index.json. float16 and bfloat16 are converted exactly. map: {a name
    or a dotted prefix there: the one here}, the longest that fits; names that it lacks stay. Without a map, names that are the
    same in both decide; else layers are taken in their order, the k-th there for the k-th here, by the names of parameters
    within a layer and by their shapes, so layers of equal shapes must have been defined in the order in which they come here. A
    safetensors file keeps no order: there it is only known for an nn.Sequential, whose layers are numbered, and other names need
    a map. strict=False: what is left over on either side stays as it is, as in PyTorch, and names alone decide, with or without a
    map; a ValueError where none fits, or shapes do not.

    Returns {name there: name here}, a map for `state_dict`. ValueError lists what is left over on either side, with shapes, in
    PyTorch's layout; says which shared weights differ; or names the file's format, and of a pickle (.pt, .pth) the lines that
    make a safetensors file of it. In an attention q_proj, k_proj and v_proj may stand for in_proj.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> model = Model(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
        >>> load(model, {"fc.weight": np.arange(6.0).reshape(2, 3), "fc.bias": np.zeros(2)})
        {'fc.weight': '0.weight', 'fc.bias': '0.bias'}
        >>> model.predict([[1, 0, 0]]).tolist()
        [[0.0, 3.0]]
    """
    if hasattr(state, "state_dict"):
        raise TypeError(f"state is a {type(state).__name__}: give its state_dict()")
    arrays, of_file = (_read(state), True) if isinstance(state, (str, os.PathLike)) else (state, False)
    given = {str(name): value for name, value in arrays.items()}
    every = units(model)
    places = {place.name: place for unit in every for place in unit.places.values()}
    for place in places.values():
        if isinstance(place.layer, GRU) and not place.layer.reset_after:
            raise ValueError(f"{place.name}: PyTorch's GRU is nn.GRU(reset_after=True), and this one is not")
    counts = {name for name in given if name.rpartition(".")[2] in COUNTS}
    names = [name for name in given if name not in counts]
    found, how = _by_name(names, places, map or {}), ""
    if map is None and strict and not _decided(names, found, places):
        how = "Names differ, so layers were taken in order; map={name or prefix of PyTorch's: the model's} is exact. "
        if of_file or _alphabetical(names, every):
            if not all(part.isdigit() for name in names for part in filter(None, _prefix(name, every).split("."))):
                names, how = [], ("Names differ, and a file keeps them in the alphabet's order, which says nothing of the "
                                  "layers' order: give map={name or prefix of PyTorch's: the model's}. ")
            names.sort(key=natural)
        found = _by_order(names, every, given)
    values: dict[str, tuple[str, Array]] = {}
    wrong = []
    for name, there in _gathered(found).items():
        parts = [as_numbers(n, given[n], model.dtype) for n in there]
        shape = _shape(places[name])
        if all(p.shape == (shape if len(parts) == 1 else (shape[0] // 3, *shape[1:])) for p in parts):
            values[name] = there[0], turned(places[name], parts[0] if len(parts) == 1 else np.concatenate(parts))
        else:
            wrong += [f"{n} {p.shape} for {name} {shape}" for n, p in zip(there, parts, strict=True)]
    taken = {places[name].parameter for name in found.values()}
    here = [(name, _shape(place)) for name, place in places.items() if place.first and place.parameter not in taken]
    left = [(name, np.shape(value)) for name, value in given.items() if name not in found and name not in counts]
    if wrong or (strict and (here or left)) or not found:
        shapes = f"Of other shapes: {', '.join(wrong)}. " if wrong else ""
        part = shards.hint(state) if isinstance(state, (str, os.PathLike)) else ""
        raise ValueError(f"the weights do not fit {model.name}. Left over of PyTorch's: {listed(left)}; of the model's: "
                         f"{listed(here)}. {part}{shapes}{how}Shapes are in PyTorch's layout.")
    copy_in(model, values, strict)
    return found


def state_dict(model: Model, map: Mapping[str, str] | None = None) -> dict[str, Array]:
    """Copies of all parameters and running statistics, with PyTorch's names and layouts, for `module.load_state_dict` once they
    are tensors. map: as for `load`, or what it returned: {a name or a prefix in PyTorch: the one here}. A weight that layers
    share comes under each of its names, as in PyTorch.

        >>> from tinydl import Model, nn
        >>> {k: v.shape for k, v in state_dict(Model(nn.Sequential(nn.Linear(3, 2))), {"fc": "0"}).items()}
        {'fc.weight': (2, 3), 'fc.bias': (2,)}
    """
    return {name: np.array(view, order="C") for name, view in _views(model, map or {}).items()}


def save(model: Model, path: str | Path, map: Mapping[str, str] | None = None) -> None:
    """`state_dict` as a safetensors file, which `safetensors.torch.load_file` reads; atomically written. (What `Model.save`
    writes is a safetensors file, too, with tinydl's layouts, and the model.)"""
    write_atomically(path, lambda f: safetensors.write(f, _views(model, map or {}), lambda checksums: {"format": "pt"}))


def turned(place: Place, value: Array) -> Array:
    """A value of the place in PyTorch's layout from one in tinydl's, and the other way round: a view."""
    turns = isinstance(place.layer, LinearBatchEnsemble) or (isinstance(place.layer, Linear) and not place.layer.transposed)
    return value.T if turns and place.key == "weight" else value


def _shape(place: Place) -> tuple[int, ...]:
    """In PyTorch's layout."""
    shape: tuple[int, ...] = turned(place, np.broadcast_to(0, place.parameter.shape)).shape
    return shape


def _read(path: str | os.PathLike[str], *, part: bool = False) -> dict[str, Array]:
    """part: it is a file of an index, and no index itself."""
    with open(path, "rb") as f:
        kind = foreign.kind_of(f)
        if kind == "index" and not part:
            return _read_all(path)
        if kind != "safetensors":
            raise ValueError(f"{path} holds no weights of PyTorch: it is {foreign.says(kind, path)}")
        try:
            metadata, arrays = safetensors.read(f)
        except ValueError as e:
            raise ValueError(f"{path} is damaged: {e}") from e
    if "tinydl" in metadata:
        raise ValueError(f"{path} is tinydl's own, with its layouts: Model.load or Trainer.load_checkpoint reads it")
    return arrays


def _read_all(index: str | os.PathLike[str]) -> dict[str, Array]:
    """Of several files."""
    files, names = shards.files_of(index)
    arrays: dict[str, Array] = {}
    for path in files:
        arrays |= _read(path, part=True)
    missing = sorted(names - set(arrays))
    if missing:
        raise ValueError(f"{index} lists {', '.join(missing[:5])}{' and more' * (len(missing) > 5)}, which its files do not have")
    return arrays


def _translated(name: str, map: Mapping[str, str]) -> str:
    """By the longest prefix in the map."""
    parts = name.split(".")
    for n in range(len(parts), -1, -1):
        prefix = ".".join(parts[:n])
        if prefix in map:
            return ".".join(filter(None, (map[prefix], *parts[n:])))
    return name


def _by_name(names: list[str], places: Mapping[str, Place], map: Mapping[str, str]) -> dict[str, str]:
    """{name there: name here} of those that have one; the pieces of an attention's in_proj have one together."""
    found: dict[str, str] = {}
    for name in names:
        here = _translated(name, map)
        if here not in places:
            match = _PIECES.fullmatch(here)
            here = f"{match[1]}in_proj_{match[3]}" if match else ""
            if here not in places or not isinstance(places[here].layer, MultiheadAttention):
                continue
        found[name] = here
    return found


def _decided(names: list[str], found: Mapping[str, str], places: Mapping[str, Place]) -> bool:
    """Whether names are the same in both: all of one side are among the other's."""
    taken = {places[name].parameter for name in found.values()}
    return len(found) == len(names) or taken == {place.parameter for place in places.values()}


def _alphabetical(names: list[str], every: list[Unit]) -> bool:
    """Whether the order is the alphabet's, where in PyTorch's a layer's weight comes before its bias."""
    return names == sorted(names) and any(list(unit.places) != sorted(unit.places) for unit in every)


def _inner(unit: Unit) -> dict[str, Place]:
    """By the names that they have there within the unit."""
    found = dict(unit.places)
    for inner, place in unit.places.items():
        if isinstance(place.layer, MultiheadAttention):
            stem, kind = inner.removesuffix(place.key), place.key.removeprefix("in_proj_")
            found |= {f"{stem}{letter}_proj{dot}{kind}": place for letter in "qkv" for dot in "._"}
    return found


def _prefix(name: str, every: list[Unit]) -> str:
    """What stands before the name within a layer."""
    fits = [inner for unit in every for inner in _inner(unit) if name == inner or name.endswith("." + inner)]
    return name.removesuffix(max(fits, key=len, default=""))


def _by_order(names: list[str], every: list[Unit], given: Mapping[str, Any]) -> dict[str, str]:
    """{name there: name here}, layer by layer; it ends where a layer there has no parameter of such a name."""
    found: dict[str, str] = {}
    origin: dict[Parameter, str] = {}
    rest = dict.fromkeys(names)

    def same(a: str, b: str) -> bool:
        return np.array_equal(as_numbers(a, given[a], FLOAT64), as_numbers(b, given[b], FLOAT64), equal_nan=True)
    for unit in every:
        first, inner = next(iter(rest), ""), _inner(unit)
        fits = [n for n in inner if first == n or first.endswith("." + n)]
        pairs = {name: place for n, place in inner.items() if fits
                 and (name := first.removesuffix(max(fits, key=len)) + n) in rest}
        if not any(place.first for place in unit.places.values()):      # a layer used again may not come again there
            if not all(place.parameter in origin and same(name, origin[place.parameter]) for name, place in pairs.items()):
                continue
        elif not pairs:
            break
        for name, place in pairs.items():
            found[name] = place.name
            origin.setdefault(place.parameter, name)
            del rest[name]
    return found


def _gathered(found: Mapping[str, str]) -> dict[str, list[str]]:
    """{name here: names there}: one, or those of an attention's q, k and v, in this order. ValueError for others."""
    gathered: dict[str, list[str]] = {}
    for there, here in found.items():
        gathered.setdefault(here, []).append(there)
    for here, names in gathered.items():
        letters = {match[2]: name for name in names if (match := _PIECES.fullmatch(name))}
        if len(names) > 1 and not len(names) == len(letters) == 3:
            raise ValueError(f"{', '.join(names)} would all be the model's {here}")
        gathered[here] = [letters[letter] for letter in "qkv"] if len(names) > 1 else names
    return gathered


def _views(model: Model, map: Mapping[str, str]) -> dict[str, Array]:
    """In PyTorch's layouts."""
    back = _gathered(map)
    found: dict[str, Array] = {}
    for place in (place for unit in units(model) for place in unit.places.values()):
        data = place.parameter.data
        assert data is not None
        names = back.get(place.name, [])
        if len(names) != 3:
            names = [_translated(place.name, {here: there[0] for here, there in back.items() if len(there) == 1})]
        for name, part in zip(names, np.split(turned(place, data), len(names)), strict=True):
            if name in found:
                raise ValueError(f"map: two of the model's parameters would be {name!r}")
            found[name] = part
        if place.key == "running_var":
            found[names[0].removesuffix("running_var") + COUNT] = np.zeros((), np.int64)
    return found
