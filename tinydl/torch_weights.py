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
#: of an attention whose q, k and v are three parameters, or three layers; or one layer
_PIECES = re.compile(r"(|.*\.)(?:([qkv])|in)_proj[._](weight|bias)")


def load(model: Model, state: Mapping[str, Any] | str | os.PathLike[str], map: Mapping[str, str] | None = None, *,
         strict: bool = True) -> dict[str, str]:
    """Copy PyTorch's weights into `model`: all of them, or, where there is an error, nothing.

    state: a module's `state_dict()`, whose values may be tensors (of any device) or arrays; or the path of a safetensors file
    with them, or of the index of several, model.safetensors.index.json; of names that share a tensor the one that the file has
    stands for those that its metadata say were left out. float16 and bfloat16 are converted exactly. map: {a name
    or a dotted prefix there: the one here}, the longest that fits; names that it lacks stay. Without a map, names that are the
    same in both decide; else layers are taken in their order, the k-th there for the k-th here, by the names of parameters
    within a layer and by their shapes, so layers of equal shapes must have been defined in the order in which they come here. A
    safetensors file keeps no order: there it is only known for an nn.Sequential, whose layers are numbered, and other names need
    a map. strict=False: what is left over on either side stays as it is, as in PyTorch, and names alone decide, with or without a
    map; a ValueError where none fits, or shapes do not.

    Returns {name there: name here}, a map for `state_dict`. ValueError lists what is left over on either side, with shapes, in
    PyTorch's layout; says which shared weights differ; or names the file's format, and of a pickle (.pt, .pth) the lines that
    make a safetensors file of it. In an attention q_proj, k_proj and v_proj may stand for in_proj, in names and in a map:
    {"layer.0.attention.self.query": "0.self_attn.q_proj", ...} for BERT's, {"blocks.0.attn.qkv": "0.self_attn.in_proj"} for
    timm's.

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
    of_file = isinstance(state, (str, os.PathLike))
    arrays, kept = _read(state) if isinstance(state, (str, os.PathLike)) else (state, {})
    given = {str(name): value for name, value in arrays.items()}
    every = units(model)
    places = {place.name: place for unit in every for place in unit.places.values()}
    for place in places.values():
        if isinstance(place.layer, GRU) and not place.layer.reset_after:
            raise ValueError(f"{place.name}: PyTorch's GRU is nn.GRU(reset_after=True), and this one is not")
    counts = {name for name in given if name.rpartition(".")[2] in COUNTS}
    names = [name for name in given if name not in counts]
    found, how = _by_name(names, places, map or {}), ""
    taken = {places[_whole(here, places)[0]].parameter for here in found.values()}
    for name, goes_to in _by_name(list(kept), places, map or {}).items():      # a tied weight under another of its names
        if places[_whole(goes_to, places)[0]].parameter not in taken:
            found[name], given[name] = goes_to, given[kept[name]]
    if map is None and strict and not _decided(names, found, places):
        how = "Names differ, so layers were taken in order; map={name or prefix of PyTorch's: the model's} is exact. "
        if of_file or _alphabetical(names, every):
            if not all(part.isdigit() for name in names for part in filter(None, _prefix(name, every).split("."))):
                names, how = [], ("Names differ, and a file keeps them in the alphabet's order, which says nothing of the "
                                  "layers' order: give map={name or prefix of PyTorch's: the model's}. ")
            names.sort(key=natural)
        found = _by_order(names, every, given)
    elif not strict and not found:
        how = ("With strict=False names alone decide, and none is the same: give map={name or prefix of PyTorch's: the model's}, "
               "or load all of it into the whole network, and from there by names, new.load_state_dict(part, strict=False). ")
    values: dict[str, tuple[str, Array]] = {}
    wrong, lying = [], False
    gathered = _gathered(found, places)
    for name, there in gathered.items():
        parts = [as_numbers(n, given[n], model.dtype) for n in there]
        shape = _shape(places[name])
        if all(p.shape == (shape if len(parts) == 1 else (shape[0] // 3, *shape[1:])) for p in parts):
            values[name] = there[0], turned(places[name], parts[0] if len(parts) == 1 else np.concatenate(parts))
        else:
            wrong += [f"{n} {p.shape} for {name} {shape}" for n, p in zip(there, parts, strict=True)]
            lying |= len(parts) == 1 and len(shape) == 2 and parts[0].shape == shape[::-1]
    taken = {places[name].parameter for name in gathered}
    here = [(name, _shape(place)) for name, place in places.items() if place.first and place.parameter not in taken]
    done = {*found, *counts, *(kept[name] for name in found if name in kept)}
    left = [(name, np.shape(value)) for name, value in given.items() if name not in done]
    if wrong or (strict and (here or left)) or not found:
        shapes = f"Of other shapes: {', '.join(wrong)}. " if wrong else ""
        part = shards.hint(state) if isinstance(state, (str, os.PathLike)) else ""
        raise ValueError(f"the weights do not fit {model.name}. Left over of PyTorch's: {listed(left)}; of the model's: "
                         f"{listed(here)}. {part}{shapes}{_TRANSPOSED * lying}{_other(given)}{how}"
                         "Shapes are in PyTorch's layout.")
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


def _read(path: str | os.PathLike[str], *, part: bool = False) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays, and {a name that was left out: that of the array which it shares}. part: it is a file of an index, and no
    index itself."""
    with open(path, "rb") as f:
        kind = foreign.kind_of(f)
        if kind == "index" and not part:
            return _read_all(path)
        if kind != "safetensors":
            raise ValueError(f"{path} holds no weights of PyTorch: it is {foreign.says(kind, path)}")
        try:
            metadata, arrays = safetensors.read(f)
        except safetensors.UnknownDtype as e:
            raise ValueError(f"{path}: {e}") from e
        except ValueError as e:
            raise ValueError(f"{path} is damaged: {e}") from e
    if "tinydl" in metadata:
        raise ValueError(f"{path} is tinydl's own, with its layouts: Model.load or Trainer.load_checkpoint reads it")
    # safetensors.torch.save_model notes them so, and keeps of each group the first in the alphabet
    return arrays, {name: other for name, other in metadata.items() if other in arrays and name not in arrays}


def _read_all(index: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Of several files."""
    files, names = shards.files_of(index)
    arrays: dict[str, Array] = {}
    kept: dict[str, str] = {}
    for path in files:
        more, others = _read(path, part=True)
        arrays |= more
        kept |= others
    missing = sorted(names - set(arrays))
    if missing:
        raise ValueError(f"{index} lists {', '.join(missing[:5])}{' and more' * (len(missing) > 5)}, which its files do not have")
    return arrays, kept


def _translated(name: str, map: Mapping[str, str]) -> str:
    """By the longest prefix in the map."""
    parts = name.split(".")
    for n in range(len(parts), -1, -1):
        prefix = ".".join(parts[:n])
        if prefix in map:
            return ".".join(filter(None, (map[prefix], *parts[n:])))
    return name


_TRANSPOSED = ("Weights that are (in, out), as those of GPT-2's Conv1D, must be transposed, the square ones, which no shape "
               "tells, as well. ")


def _other(given: Mapping[str, Any]) -> str:
    """What a state has in it besides weights of layers, where it has, and what to do, as a sentence of an error."""
    inner = [name for name, value in given.items() if isinstance(value, Mapping)]
    if inner:
        return f"{', '.join(inner)}: a dict in it, so this is a checkpoint: give the state_dict in it. "
    ends = {name.rpartition(".")[2] for name in given}
    if any(".parametrizations." in f".{name}" for name in given) or ends & {"weight_g", "weight_orig"}:
        return ("The weights of weight_norm, spectral_norm and the like are kept in parts: in PyTorch make them one before "
                'state_dict(), by torch.nn.utils.parametrize.remove_parametrizations(layer, "weight"), or '
                "torch.nn.utils.remove_weight_norm(layer). ")
    if any(".lora_A." in name for name in given):
        return "There are adapters beside the weights (LoRA): merge them first, as by peft's merge_and_unload(). "
    return ""


def _by_name(names: list[str], places: Mapping[str, Place], map: Mapping[str, str]) -> dict[str, str]:
    """{name there: name here} of those that have one; the pieces of an attention's in_proj have one together, or, where their
    own names do not say which piece they are, one with its letter."""
    found: dict[str, str] = {}
    for name in names:
        here = _translated(name, map)
        whole, letter = _whole(here, places)
        if whole in places:
            known = _PIECES.fullmatch(name)
            found[name] = here if letter and not (known and known[2] == letter) else whole
    return found


def _whole(here: str, places: Mapping[str, Place]) -> tuple[str, str]:
    """The name of the parameter that this is, or a piece of: "q", "k" or "v"; "" for all of it."""
    match = None if here in places else _PIECES.fullmatch(here)
    if match:
        name = f"{match[1]}in_proj_{match[3]}"
        if name in places and isinstance(places[name].layer, MultiheadAttention):
            return name, match[2] or ""
    return here, ""


def _decided(names: list[str], found: Mapping[str, str], places: Mapping[str, Place]) -> bool:
    """Whether names are the same in both: all of one side are among the other's."""
    taken = {places[_whole(name, places)[0]].parameter for name in found.values()}
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


def _gathered(found: Mapping[str, str], places: Mapping[str, Place]) -> dict[str, list[str]]:
    """{name here: names there}: one, or those of an attention's q, k and v, in this order. ValueError for others."""
    gathered: dict[str, list[tuple[str, str]]] = {}
    for there, here in found.items():
        name, letter = _whole(here, places)
        known = _PIECES.fullmatch(there)
        gathered.setdefault(name, []).append((letter or (known[2] if known else None) or "", there))
    for here, pairs in gathered.items():
        letters = sorted(letter for letter, _ in pairs)
        if len(pairs) > 1 and letters != ["k", "q", "v"]:
            raise ValueError(f"{', '.join(there for _, there in pairs)} would all be the model's {here}")
        pairs.sort(key=lambda pair: "qkv".find(pair[0]))
    return {here: [there for _, there in pairs] for here, pairs in gathered.items()}


def _views(model: Model, map: Mapping[str, str]) -> dict[str, Array]:
    """In PyTorch's layouts."""
    places = {place.name: place for unit in units(model) for place in unit.places.values()}
    back = _gathered(map, places)
    single = {here: there[0] for here, there in back.items() if len(there) == 1}
    found: dict[str, Array] = {}
    for place in places.values():
        data = place.parameter.data
        assert data is not None
        names = back.get(place.name, [])
        if len(names) != 3:
            names = _of_layers(place, single) or [_translated(place.name, single)]
        for name, part in zip(names, np.split(turned(place, data), len(names)), strict=True):
            if name in found:
                raise ValueError(f"map: two of the model's parameters would be {name!r}")
            found[name] = part
        if place.key == "running_var":
            found[names[0].removesuffix("running_var") + COUNT] = np.zeros((), np.int64)
    return found


def _of_layers(place: Place, back: Mapping[str, str]) -> list[str]:
    """Names there of an attention's in_proj where a map has q_proj, k_proj and v_proj, or in_proj, as layers; none else."""
    match = _PIECES.fullmatch(place.name)
    if not (match and isinstance(place.layer, MultiheadAttention) and place.key.startswith("in_proj")):
        return []
    for layers in ([f"{match[1]}{letter}_proj" for letter in "qkv"], [f"{match[1]}in_proj"]):
        if all(layer in back for layer in layers):
            return [f"{back[layer]}.{match[3]}" for layer in layers]
    return []
