"""What a file is, by its content, whatever its name; and what to do with one that holds no model of tinydl."""
from __future__ import annotations

import io
from collections.abc import Iterable
from typing import IO

from tinydl.formats.safetensors import LARGEST_HEADER
from tinydl.formats.zipped import HEADERS

_TORCH = """a pickle of PyTorch, which can run any code as it is opened, so tinydl does not open it. Where you trust it, these \
lines make a safetensors file of its weights, which tinydl.torch_weights.load reads:
    import torch; from safetensors.torch import save_file
    save_file({{name: t.clone().contiguous() for name, t in torch.load({path!r}, weights_only=True, map_location="cpu").items()}},
              "weights.safetensors")"""
_KERAS = "a file of Keras: tinydl.keras_weights.load(model, {path!r}) copies its weights into a model that you have made"

#: what each kind is, and what to do with it
SAYS = {
    "empty": "an empty file",
    "safetensors": "a safetensors file without a model: make one, and tinydl.torch_weights.load(model, {path!r}) or "
                   "model.load_state_dict copies its arrays into it",
    "tinydl": "a zip file of tinydl",
    "pytorch": _TORCH,
    "keras": _KERAS,
    "hdf5": "an HDF5 file. Where Keras wrote it: tinydl.keras_weights.load(model, {path!r})",
    "npz": "arrays of NumPy: model.load_state_dict(np.load({path!r})) copies them into a model that you have made",
    "npy": "an array of NumPy",
    "zip": "a zip file of something else",
    "damaged zip": "a zip file that is truncated or damaged",
    "onnx": "an ONNX model: Model.from_onnx({path!r}) reads it",
    "compressed": "a compressed file: unpack it",
    "index": "an index of several files of weights: tinydl.torch_weights.load(model, {path!r}) copies all of them into a model "
             "that you have made; tinydl.keras_weights.load, where Keras wrote it",
    "text": "a text file",
    "unknown": "a file of unknown content, or a damaged one",
}
_SIGNS = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x89HDF\r\n\x1a\n": "hdf5", b"\x93NUMPY": "npy",
          b"\x1f\x8b": "compressed", b"BZh": "compressed", b"\xfd7zXZ": "compressed", b"\x28\xb5\x2f\xfd": "compressed"}


def kind_of(f: IO[bytes]) -> str:
    """A key of SAYS. f is read from its beginning."""
    f.seek(0)
    head = f.read(512)
    if not head:
        return "empty"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LARGEST_HEADER:
        return "safetensors"
    for sign, kind in _SIGNS.items():
        if head.startswith(sign):
            return _kind_of_zip(f) if kind == "zip" else kind
    if head[0] == 0x80 and head[1:2] <= b"\x05":        # PROTO of a pickle
        return "pytorch"
    if len(head) > 8 and head[0] == 0x08 and head[1] < 0x20 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42":    # version, field
        return "onnx"
    return "unknown" if not _is_text(head) else "index" if _is_index(f) else "text"


def says(kind: str, path: object) -> str:
    """What a file of that kind at `path` is, and what to do with it, to come behind "it is"."""
    return SAYS[kind].format(path=str(path))


def _is_text(head: bytes) -> bool:
    try:
        return not set(head.decode("utf-8", "strict" if len(head) < 512 else "ignore")) & set(map(chr, range(9)))
    except UnicodeDecodeError:
        return False


def _is_index(f: IO[bytes]) -> bool:
    """Whether it looks like what tinydl.formats.shards reads."""
    f.seek(0)
    start = f.read(1 << 16).lstrip()
    return start[:1] == b"{" and b'"weight_map"' in start


def _kind_of_zip(f: IO[bytes]) -> str:
    import zipfile  # not above: as long to import as a tenth of tinydl
    try:
        f.seek(0)
        with zipfile.ZipFile(f) as z:
            return _of_names(z.namelist())
    except (zipfile.BadZipFile, ValueError, EOFError, io.UnsupportedOperation):
        return "damaged zip"


def _of_names(names: Iterable[str]) -> str:
    names = list(names)
    if set(names) & set(HEADERS.values()):
        return "tinydl"
    if "model.weights.h5" in names:
        return "keras"
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "pytorch"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"
