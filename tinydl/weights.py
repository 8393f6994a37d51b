"""What weights of other libraries need on their way into a model: `tinydl.torch_weights` and `tinydl.keras_weights`."""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tinydl.model import Model
from tinydl.nn.layer import Layer, Parameter

Array = np.ndarray[Any, Any]


class Place:
    """A parameter or running statistic under one of its names (a shared one has several)."""

    def __init__(self, name: str, layer: Layer, key: str, parameter: Parameter, first: bool) -> None:
        #: path of the layer and key; key: the layer's own name for it; first: whether this is its name in `Model.state_dict`
        self.name, self.layer, self.key, self.parameter, self.first = name, layer, key, parameter, first


class Unit:
    """What other libraries have as one layer: a path, and the places in it by their names within (`self_attn.in_proj_weight`)."""

    def __init__(self, path: str, layer: Layer, places: dict[str, Place]) -> None:
        self.path, self.layer, self.places = path, layer, places


def units(model: Model) -> list[Unit]:
    """All of a model that has parameters, in the order of its layers. A layer that is used twice comes twice."""
    seen: set[Parameter] = set()

    def own(layer: Layer, path: str, below: str = "") -> Iterator[tuple[str, Place]]:
        for key, p in (*layer.parameters(), *layer.statistics()):
            first = p not in seen
            seen.add(p)
            yield below + key, Place(f"{path}.{key}" if path else key, layer, key, p, first)
        for name, child in layer.children():
            yield from own(child, f"{path}.{name}" if path else name, f"{below}{name}.")

    def found(layer: Layer, path: str) -> Iterator[Unit]:
        children = list(layer.children())
        if layer.makes_children or not children:
            places = dict(own(layer, path))
            if places:
                yield Unit(path, layer, places)
        else:
            for name, child in children:
                yield from found(child, f"{path}.{name}" if path else name)
    return list(found(model.layer, ""))


def as_numbers(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """Floating-point numbers of another library as an array of `dtype`; ValueError where they are something else, or too large
    for it. A tensor of PyTorch may be on another device, have a gradient, or be bfloat16."""
    dtype_there = str(getattr(value, "dtype", ""))
    try:
        for method in ("detach", "cpu"):
            value = getattr(value, method, lambda value=value: value)()
        if dtype_there == "torch.bfloat16":         # NumPy has none
            value = value.float()
        a = np.asarray(value)
    except (TypeError, NotImplementedError, RuntimeError) as e:     # as of eight bits, quantized, or on the device "meta"
        raise ValueError(f"{name} is a tensor of {dtype_there} which NumPy cannot take ({e}): give dense numbers of float32 "
                         "in memory, with scales of quantized ones applied") from None
    if a.dtype.name == "bfloat16":      # of ml_dtypes
        a = a.astype(np.float32)
    if a.dtype.kind != "f":
        raise ValueError(f"{name} is of dtype {a.dtype}; weights are floating-point numbers")
    with np.errstate(over="ignore"):
        converted = np.asarray(a, dtype)
    if converted.dtype.itemsize < a.dtype.itemsize and (np.isinf(converted) & ~np.isinf(a)).any():
        raise ValueError(f"{name} has {np.abs(a[np.isfinite(a)]).max():.3g}, which is infinite as the model's {dtype}: make it a "
                         "float64 model")
    return converted


def copy_in(model: Model, values: Mapping[str, tuple[str, Array]], strict: bool = True) -> None:
    """{name of a place: (name there, value in tinydl's layout)} into the model: all of it, or, on a ValueError, nothing. Each
    parameter must have a value if strict, and a shared one the same under each of its names."""
    state: dict[str, Array] = {}
    origin: dict[Parameter, tuple[str, Array]] = {}
    for place in (place for unit in units(model) for place in unit.places.values()):
        if place.name not in values:
            continue
        there, value = values[place.name]
        before = origin.setdefault(place.parameter, (there, value))
        if before[1] is not value and not np.array_equal(before[1], value, equal_nan=True):
            raise ValueError(f"{before[0]} and {there} differ; in the model both are {place.parameter.name}, which layers share")
        state[place.parameter.name] = before[1]
    model.load_state_dict(state, strict=strict)


def listed(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Names and shapes, for an error."""
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes) or "nothing"


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts 2 before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]
