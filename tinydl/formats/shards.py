"""Weights in several files, and the index of them: JSON that says in which file, of those beside it, each weight is.

    {"metadata": {...}, "weight_map": {NAME: FILE, or [FILE, ...]}}

As Hugging Face writes model.safetensors.index.json beside model-00001-of-00002.safetensors, and Keras NAME.weights.json beside
NAME_00000.weights.h5.
"""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_PART = re.compile(r"(?P<torch>.+)-\d+-of-\d+\.safetensors|(?P<keras>.+)_\d{5}\.weights\.h5")


def files_of(path: str | os.PathLike[str]) -> tuple[list[Path], set[str]]:
    """The files that an index lists, each once, in its order, and the names of weights; ValueError where it is none, or lists
    what is not beside it."""
    import json  # not above: as long to import as a tenth of tinydl
    try:
        found: Any = json.loads(Path(path).read_bytes())["weight_map"]
        names = [name for value in found.values() for name in ([value] if isinstance(value, str) else value)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ValueError(f"{path} is no index of files of weights, or is damaged: {e}") from None
    for name in names:
        if not isinstance(name, str) or name in ("", ".", "..") or {"/", "\\", ":", "\0"} & set(name):
            raise ValueError(f"{path} lists {name!r:.80}; the files of an index are beside it")
    return [Path(path).with_name(name) for name in dict.fromkeys(names)], set(found)


def hint(path: str | os.PathLike[str]) -> str:
    """What to say of a file that is one of several, where their index lies beside it; "" of others."""
    match = _PART.fullmatch(Path(path).name)
    if match is None:
        return ""
    name = f"{match['torch']}.safetensors.index.json" if match["torch"] else f"{match['keras']}.weights.json"
    index = Path(path).with_name(name)
    return f"It is one file of several: load {index}, with which all of them are read. " if index.exists() else ""
