"""Weights of Keras 3 into a model of the same layers, `keras_weights.load(model, path)`, and back into such a file,
`keras_weights.save(model, path)` (extra `keras`, which is h5py).

    file        what is in a .weights.h5 or a .keras file, layer by layer, and in which order
    layouts     how the arrays of each kind of layer become tinydl's

What no file of weights says must be the same in both. Keras has other defaults: norms have epsilon=0.001, which is eps=1e-3
here, and the momentum of BatchNormalization, 0.99, is what is kept: nn.BatchNorm2d(C, eps=1e-3, momentum=0.01). LeakyReLU has a
slope of 0.3, and gelu is exact. Its images are (H, W, C), and so behind convolutions flattened in that order: here it takes
nn.Permute((1, 2, 0)) before nn.Flatten(), and of sequences (C, L) nn.Permute((1, 0)). padding="same" of a stride of 1 is
Conv2d(padding="same"), and has the odd pixel behind in both; of a stride of 2 and an even size Keras pads only behind:
nn.ZeroPad2d((0, 1, 0, 1)) before a convolution of 3 by 3 without padding. Conv2DTranspose(C, 3, strides=2, padding="same") of
images of H by W is ConvTranspose2d(..., 3, stride=2), nn.Slice(1, 0, 2 * H), nn.Slice(2, 0, 2 * W): what is cut off is behind,
where padding=1 and output_padding=1 would cut before.
"""
from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping

import numpy as np

from tinydl import nn
from tinydl.formats import shards
from tinydl.keras_weights.file import Entry, read, replace
from tinydl.keras_weights.layouts import Target, differences, targets
from tinydl.model import Model
from tinydl.weights import Array, as_numbers, copy_in

__all__ = ["load", "save"]

#: of norms, where a file does not say it
EPSILON = {"batch_normalization": 1e-3, "layer_normalization": 1e-3, "group_normalization": 1e-3, "rms_normalization": 1e-6}
_IMAGES = nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d
#: behind these it is an image no longer, or has Keras's order
_NO_IMAGES = nn.Flatten, nn.Permute, nn.GlobalAvgPool, nn.GlobalMaxPool, nn.Mean, nn.Max, nn.Sum, nn.Reshape
CONVOLUTIONS = {"conv2d", "depthwise_conv2d"}       # both are an nn.Conv2d


def load(model: Model, path: str | os.PathLike[str], map: Mapping[str, str] | None = None) -> dict[str, str]:
    """Copy the weights of a .weights.h5 or .keras file of Keras 3, or of the files that a .weights.json lists, into `model`:
    all, or, where there is an error, nothing.

    Layers go by their kind and order: the k-th Dense there for the k-th Linear here, and the k-th LSTM for the k-th layer of
    an LSTM, `num_layers` counted. The order is that of a Sequential or functional model's layers; of models in models only a
    .keras file has it, and of attributes of a class nothing has, so there it takes a map: {the layer's path in the file: its
    path here}, as the error lists them, of these layers alone. Layer k of an nn.LSTM with several is called PATH.lk.

    Dense, Embedding, Conv1D, Conv2D, DepthwiseConv2D (nn.Conv2d with groups), Conv2DTranspose, LSTM, GRU (its reset_after must be
    this one's), SimpleRNN, Bidirectional, MultiHeadAttention (its key_dim x num_heads must be the width), BatchNormalization,
    LayerNormalization, GroupNormalization, RMSNormalization and PReLU are known.

    Returns {path in the file: path here}. ValueError lists what is left over on either side, or does not fit, with shapes, and,
    of a .keras file, which says that too, norms of another epsilon, convolutions of another stride or dilation, and recurrent
    layers of another activation; a UserWarning says where a .weights.h5 file leaves epsilon open, where a recurrent layer goes
    backwards, or where a Flatten behind convolutions needs a Permute.

        keras_model.save("digits.keras")
        model = Model(nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Permute((1, 2, 0)), nn.Flatten(), nn.Linear(288, 10)))
        keras_weights.load(model, "digits.keras")
    """
    entries, here = read(path), {target.name: target for target in targets(model)}
    pairs = _pairs(path, entries, here, map or {})
    values: dict[str, tuple[str, Array]] = {}

    def arrays_of(entry: Entry) -> dict[str, list[Array]]:
        return {inner: [as_numbers(f"{entry.path}/{inner}", a, model.dtype) for a in arrays]
                for inner, arrays in entry.arrays.items()}
    for entry, target, found in _converted(path, model, pairs, arrays_of):
        values |= {target.places[key].name: (entry.path, a) for key, a in found.items() if key in target.places}
    copy_in(model, values)
    _warn(path, model, pairs)
    return {entry.path: target.name for entry, target in pairs}


def save(model: Model, path: str | os.PathLike[str], map: Mapping[str, str] | None = None) -> dict[str, str]:
    """Put the model's weights into a .weights.h5 or .keras file that Keras wrote of the same layers, in place of those that it
    has; Keras then loads it. Layers and errors are those of `load`, and so is map. The two biases of a recurrent layer that has
    one in Keras are added. The file is replaced as a whole, or stays as it is.

        keras_model.save_weights("digits.weights.h5")
        keras_weights.save(model, "digits.weights.h5")
        keras_model.load_weights("digits.weights.h5")
    """
    entries, here = read(path), {target.name: target for target in targets(model)}
    pairs = _pairs(path, entries, here, map or {})
    arrays: dict[str, list[Array]] = {}
    for entry, target, found in _converted(path, model, pairs, _numbers):       # which number of the file comes to which place
        every = np.zeros(1 + sum(a.size for group in entry.arrays.values() for a in group))
        for key, numbers in found.items():
            own = target.places[key].parameter.data
            assert own is not None
            if numbers.any():
                every[numbers.astype(np.int64)] += own
            else:       # it has no place of its own there: the second bias of a recurrent layer
                every[found[key.replace("_hh", "_ih")].astype(np.int64)] += own
        for inner, numbered in _numbers(entry).items():
            group = "/".join(filter(None, (entry.path, inner)))
            arrays[group] = [every[numbers.astype(np.int64)] for numbers in numbered]
    replace(path, arrays)
    return {entry.path: target.name for entry, target in pairs}


def _numbers(entry: Entry) -> dict[str, list[Array]]:
    """Arrays of the entry's shapes with the numbers 1, 2, 3, ..., each once."""
    found: dict[str, list[Array]] = {}
    at = 1
    for inner, arrays in entry.arrays.items():
        found[inner] = []
        for a in arrays:
            found[inner].append(np.arange(at, at + a.size, dtype=np.float64).reshape(a.shape))
            at += a.size
    return found


def _converted(path: str | os.PathLike[str], model: Model, pairs: list[tuple[Entry, Target]],
               arrays_of: Callable[[Entry], dict[str, list[Array]]]) -> list[tuple[Entry, Target, dict[str, Array]]]:
    """What becomes of the arrays of each layer of the file, by the names of their places; ValueError where they do not fit."""
    wrong, out = [], []
    for entry, target in pairs:
        arrays = arrays_of(entry)
        try:
            found = target.convert(entry, arrays)
        except (ValueError, IndexError, KeyError) as e:
            wrong.append(f"{entry.describe()} for {target.describe()}: {e}")
            continue
        shapes = {key: place.parameter.shape for key, place in target.places.items()}
        if {key: a.shape for key, a in found.items()} != shapes:
            wrong.append(f"{entry.describe()} for {target.describe()}")
        wrong += differences(entry, target)
        out.append((entry, target, found))
    if wrong:
        raise ValueError(f"{path} does not fit {model.name}: {'; '.join(wrong)}")
    return out


def _pairs(path: str | os.PathLike[str], entries: list[Entry], here: Mapping[str, Target],
           map: Mapping[str, str]) -> list[tuple[Entry, Target]]:
    """Which goes where; ValueError where something is left over, or the order is not known."""
    by_path = {entry.path: entry for entry in entries}
    unknown = [*(f"{there!r} there" for there in map if there not in by_path),
               *(f"{name!r} here" for name in map.values() if name not in here)]
    if unknown or len(set(map.values())) < len(map):
        raise ValueError(f"map: {', '.join(unknown) or 'two layers for one'}. {_listed(entries, here)}")
    found = {there: here[name] for there, name in map.items()}
    rest = [entry for entry in entries if entry.path not in map]
    free = [target for target in here.values() if target.name not in map.values()]
    ordered, kinds = all(entry.ordered for entry in rest), dict.fromkeys(entry.kind for entry in rest)
    apart = not ordered and kinds.keys() >= CONVOLUTIONS        # then these are two orders, of which each knows its own
    for kind in kinds:
        some = [entry for entry in rest if entry.path not in found and (
            entry.kind == kind or (ordered and {kind, entry.kind} == CONVOLUTIONS))]
        places = [target for target in free if kind in target.kinds and (not apart or kind not in CONVOLUTIONS or (
            kind == "depthwise_conv2d") == (1 < target.layer.groups == target.layer.in_channels))]
        counted = ordered or (len({entry.container for entry in some}) == 1 and all(entry.in_layers for entry in some))
        if kind is None or (len(some) > 1 and not counted):
            raise ValueError(f"{path} does not say what these are, or in which order: {', '.join(e.path for e in some)}. Save a "
                             f".keras file, or give map={{path there: path here}}. {_listed(entries, here)}")
        for entry, target in zip(some, places, strict=False):
            found[entry.path] = target
            free.remove(target)
    if len(found) < len(entries) or len({t.name for t in found.values()}) < len(here):
        left = [entry.describe() for entry in entries if entry.path not in found]
        taken = {target.name for target in found.values()}
        open_here = [target.describe() for target in here.values() if target.name not in taken]
        raise ValueError(f"{path} does not fit the model. {shards.hint(path)}Left over there: {', '.join(left) or 'nothing'}; "
                         f"here: {', '.join(open_here) or 'nothing'}. map={{path there: path here}} is exact")
    there = {target.name: by_path[path] for path, target in found.items()}
    return [(there[name], target) for name, target in here.items()]


def _listed(entries: list[Entry], here: Mapping[str, Target]) -> str:
    return (f"There: {', '.join(entry.describe() for entry in entries)}. "
            f"Here: {', '.join(target.describe() for target in here.values())}")


def _warn(path: object, model: Model, pairs: list[tuple[Entry, Target]]) -> None:
    """Of what the weights themselves do not tell."""
    for entry, target in pairs:
        usual = EPSILON.get(str(entry.kind))
        if usual is not None and "epsilon" not in entry.config and getattr(target.layer, "eps", usual) != usual:
            warnings.warn(f"{path} does not say the epsilon of {entry.path}; Keras's is {usual} unless it was given another, and "
                          f"{target.name} has eps={target.layer.eps}", stacklevel=3)
            break
    for entry, target in pairs:
        if entry.config.get("go_backwards"):
            warnings.warn(f"{entry.path} has go_backwards=True: it reads sequences from their end, and so must those be that "
                          f"{target.name or 'the model'} is given", stacklevel=3)
    for _, layer in model.layer.walk():
        image = False
        for inner in layer.layers if isinstance(layer, nn.Sequential) else ():
            if isinstance(inner, nn.Flatten) and image:
                warnings.warn("Keras flattens images (H, W, C) in this order, and here they are (C, H, W): nn.Permute((1, 2, 0)) "
                              "belongs before nn.Flatten() (of sequences nn.Permute((1, 0))), unless a picture is one pixel "
                              "there", stacklevel=3)
            parts = [part for _, part in inner.walk()]
            image = (image or any(isinstance(part, _IMAGES) for part in parts)) and not any(
                isinstance(part, _NO_IMAGES) for part in parts)

