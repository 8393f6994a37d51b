"""The safetensors format: named arrays that every language can read, and no code that runs when a file is opened.

    8 bytes     n, the length of the header, little-endian
    n bytes     JSON, padded with spaces so that the data begin at a multiple of 8:
                {"__metadata__": {KEY: TEXT, ...}, NAME: {"dtype": "F32", "shape": [2, 3], "data_offsets": [BEGIN, END]}, ...}
    the rest    the arrays in C order, little-endian, one behind the other without gaps; offsets count from here

(https://github.com/huggingface/safetensors.) This is that format in NumPy: the package of the same name has no wheels for some
Pythons, and tinydl must be able to save there, too. A reader checks all that the package checks.
"""
from __future__ import annotations

import io
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import prod
from operator import itemgetter
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, Any]

#: the package's limit for a header, in bytes
LARGEST_HEADER = 100_000_000
DTYPES = {"F64": "<f8", "I64": "<i8", "U64": "<u8", "C64": "<c8", "F32": "<f4", "I32": "<i4", "U32": "<u4", "F16": "<f2",
          "I16": "<i2", "U16": "<u2", "I8": "|i1", "U8": "|u1", "BOOL": "|b1"}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MOST_AXES = 64
#: so many bytes are written, and added to a checksum, at a time
PIECE = 1 << 20


class UnknownDtype(ValueError):
    """The file may be as it should; an array in it has numbers that NumPy has no type for, as those of eight bits."""


def dtype_name(name: str, dtype: np.dtype[Any]) -> str:
    """What the format calls the dtype of array `name`; TypeError where it has none for it."""
    found = NAMES.get(dtype.newbyteorder("<").str)
    if found is None:
        raise TypeError(f"array {name!r} is of dtype {dtype}, which cannot be saved: bool, integers, float16, float32, float64 "
                        "and complex64 can")
    return found


def write(f: IO[bytes], arrays: Mapping[str, Any], metadata: Callable[[Mapping[str, int]], Mapping[str, str]]) -> None:
    """Write `arrays` at f's position. No array is copied as a whole; one whose values change meanwhile is written with some of
    the old ones and some of the new, and their checksum.

    metadata(checksums) -> {key: text}; checksums: the CRC-32 of each array's bytes, by name. It is called twice, before anything
    is written with zeros, to learn how long the header will be, so its texts must have the same length for any checksums.
    TypeError for a dtype that the format lacks, ValueError for a header of more than 100 MB.
    """
    if not f.seekable():        # the header is written last
        whole = io.BytesIO()
        write(whole, arrays, metadata)
        f.write(whole.getbuffer())
        return
    found = {name: np.asarray(array) for name, array in arrays.items()}
    entries: dict[str, dict[str, Any]] = {}
    at = 0
    for name, a in sorted(found.items(), key=lambda item: -item[1].dtype.itemsize):        # so that each begins at its own size
        if name == "__metadata__":
            raise ValueError("an array cannot be called __metadata__: that is a part of the format")
        entries[name] = {"dtype": dtype_name(name, a.dtype), "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    begin, checksums = f.tell(), dict.fromkeys(entries, 0)
    header = _header(metadata(checksums), entries)
    f.write(header)
    for name in entries:
        for piece in _pieces(found[name]):
            checksums[name] = zlib.crc32(piece, checksums[name])
            f.write(piece)
    end = f.tell()
    sealed = _header(metadata(checksums), entries)
    assert len(sealed) == len(header)
    f.seek(begin)
    f.write(sealed)
    f.seek(end)


def _header(metadata: Mapping[str, str], entries: Mapping[str, Any]) -> bytes:
    import json  # not above: it takes as long to import as a tenth of tinydl, and many a process saves nothing
    text = json.dumps({**({"__metadata__": dict(metadata)} if metadata else {}), **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise ValueError(f"the names and shapes of {len(entries):,} arrays, with what is said of them, are {len(text):,} bytes; "
                         f"the format ends at {LARGEST_HEADER:,}")
    return len(text).to_bytes(8, "little") + text


def _pieces(a: Array) -> Iterator[bytes]:
    """Its values in C order, little-endian."""
    for piece in np.nditer(a, ["external_loop", "buffered", "zerosize_ok"], order="C", casting="equiv",
                           op_dtypes=[a.dtype.newbyteorder("<")], buffersize=max(1, PIECE // a.dtype.itemsize)):
        yield piece.tobytes()       # type: ignore[attr-defined]


def read(f: IO[bytes]) -> tuple[dict[str, str], dict[str, Array]]:
    """Metadata and arrays of a file, which is read from its beginning to its end. Arrays may be changed; bfloat16 becomes
    float32, which holds its values. ValueError says what is wrong with the file."""
    size = f.seek(0, io.SEEK_END)
    f.seek(0)
    length = int.from_bytes(f.read(8), "little")
    if size < 8 or length > min(size - 8, LARGEST_HEADER):
        raise ValueError(f"it is truncated, or something else: its header alone would be {8 + length:,} of {size:,} bytes")
    metadata, entries = parse(f.read(length), size - 8 - length)
    data = np.empty(size - 8 - length, np.uint8)
    at = 0
    while at < data.size:
        got = f.readinto(data[at:])     # type: ignore[attr-defined]
        if not got:
            raise ValueError("it became shorter as it was read")
        at += got
    return metadata, {name: _array(name, entry, data) for name, entry in entries.items()}


def parse(header: bytes, size: int) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Metadata, and dtype, shape and offsets of each array, all of it checked. size: of the data, in bytes."""
    import json  # not above, as in _header
    try:
        found = json.loads(header.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as e:
        raise ValueError(f"its header cannot be read: {e}") from None
    if header[:1] != b"{" or not isinstance(found, dict):
        raise ValueError("its header is no JSON object")
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its __metadata__ must be texts by name")
    for name, entry in found.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"array {name!r} must have dtype, shape and data_offsets; it has {entry!r:.80}")
        if entry["dtype"] not in (*DTYPES, "BF16"):
            raise UnknownDtype(f"array {name!r} is of dtype {entry['dtype']!r:.80}, which NumPy has not: convert it to F32, with "
                               "its scales applied where it is quantized")
        numbers = entry["shape"], entry["data_offsets"]
        if not all(isinstance(n, list) and all(type(i) is int and i >= 0 for i in n) for n in numbers) or len(numbers[1]) != 2:
            raise ValueError(f"array {name!r}: shape {numbers[0]!r:.80} and data_offsets {numbers[1]!r:.80} must be whole "
                             "numbers")
        if len(numbers[0]) > MOST_AXES:
            raise ValueError(f"array {name!r} has {len(numbers[0]):,} axes; NumPy's have at most {MOST_AXES}")
    at = 0
    for name, entry in sorted(found.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if begin != at:
            raise ValueError(f"array {name!r} begins at byte {begin}, where the one before it ends at {at}")
        itemsize = 2 if entry["dtype"] == "BF16" else np.dtype(DTYPES[entry["dtype"]]).itemsize
        if end - begin != prod(entry["shape"]) * itemsize:
            raise ValueError(f"array {name!r} of {entry['dtype']} and shape {entry['shape']} cannot have {end - begin} bytes")
        at = end
    if at != size:
        raise ValueError(f"it is truncated: its arrays have {at:,} bytes, and {size:,} are there" if at > size else
                         f"{size - at:,} bytes behind its arrays belong to none")
    return metadata, found


def _array(name: str, entry: Mapping[str, Any], data: Array) -> Array:
    begin, end = entry["data_offsets"]
    raw = data[begin:end]
    try:
        if entry["dtype"] == "BF16":        # the upper half of a float32
            return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
        a = raw.view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    except (ValueError, OverflowError) as e:        # as of 65 axes
        raise ValueError(f"array {name!r}: NumPy has none of shape {entry['shape']!r:.80} ({e})") from None
    if sys.byteorder == "big":
        a = a.astype(a.dtype.newbyteorder("="))
    return a if a.flags.aligned else a.copy()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError where a name comes twice in it."""
    found = dict(pairs)
    if len(found) < len(pairs):
        again = max(Counter(name for name, _ in pairs).items(), key=itemgetter(1))[0]
        raise ValueError(f"{again!r:.80} comes twice in it")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
