"""Files of models and checkpoints, and how they are replaced.

Both are safetensors files (`tinydl.formats.safetensors`), by whatever name: the arrays by their names in `state_dict`, which
other programs read too, and in `__metadata__`, as JSON,

    tinydl          what is to be known of them: {"format": "tinydl-model", "version": 3, "layer": ...}
    tinydl.crc32    {"about": that text's and the arrays' dtypes' and shapes', "arrays": {NAME: ...}}, the CRC-32 of each

so that what was altered, or half arrived, is found. No pickle: opening one runs no code. Zip files, which both were before, are
read as well.
"""
from __future__ import annotations

import errno
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from inspect import BoundArguments, signature
from itertools import repeat
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tinydl.formats import foreign, safetensors, zipped
from tinydl.nn.arguments import has_recorded_arguments
from tinydl.nn.layer import REGISTRY, Layer, Parameter

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]

#: "format" and "version" of files, by what they are. Version 3 is the first in a safetensors file; a model's version 2 said which
#: parameters are shared, a checkpoint's what callbacks remember.
FORMATS = {"model file": ("tinydl-model", 3), "checkpoint": ("tinydl checkpoint", 3)}
#: by which method each is loaded
LOADERS = {"model file": "Model.load", "checkpoint": "Trainer.load_checkpoint"}
#: characters of what is said beside the arrays, above which it is an array, TEXT, too: a header ends at 100 MB
LONGEST = 40_000_000
TEXT = "__tinydl__"


def place_for(path: str | Path) -> tuple[Path, int | None]:
    """Where a file that is saved as `path` goes: behind symbolic links, in a folder that is made where it is missing; and
    the permissions of the file that is there, None where there is none. OSError where there can be no such file."""
    from pathlib import Path
    place = Path(os.path.realpath(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return place, None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):          # to replace a device by a file is nobody's wish
        raise OSError(errno.EINVAL, "Not a plain file", str(path))
    return place, stat.S_IMODE(mode)


def write_atomically(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call write(file) on a temporary neighbour of `path`, then put it in path's place: all of it or nothing. A missing
    folder is made; a symbolic link stays and its target is replaced; a file that is replaced leaves its permissions."""
    place, mode = place_for(path)
    temporary = f"{place}.{os.urandom(4).hex()}.tmp"
    if os.name == "nt":
        mode = None         # it has one permission, and a file that must not be written is not replaced either
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)      # less the umask
    except OSError as e:        # with the name that was given, not the temporary one
        raise OSError(e.errno, f"{os.strerror(e.errno or 0)} (its folder must be writable)", str(path)) from None
    try:
        with os.fdopen(fd, "wb") as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        if mode is not None:
            with suppress(OSError):             # not every file system has permissions
                os.chmod(temporary, mode)
        _replace(temporary, place)
    except BaseException:
        with suppress(FileNotFoundError):       # it may be in its place already
            os.unlink(temporary)
        raise


def _replace(temporary: str, place: Path) -> None:
    """os.replace. Windows replaces no file that is open: where another program looks at it for a moment (virus scanners, copies),
    that is tried for a second. PermissionError where it stays open, or may not be written."""
    for _ in range(20 if os.name == "nt" else 0):
        with suppress(PermissionError):
            return os.replace(temporary, place)
        time.sleep(0.05)
    os.replace(temporary, place)


def plain(value: Any, *, null: bool = False) -> Any:
    """`value` with NumPy's scalars and arrays as Python's numbers and lists, in dicts (their keys, too), lists and tuples.
    null: with None for what JSON has no number for, NaN and infinity."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (float, np.floating)):         # np.longdouble is still NumPy's
        return None if null and not np.isfinite(value) else float(value)
    if isinstance(value, dict):
        return {k.item() if isinstance(k, np.generic) else k: plain(v, null=null) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, null=null) for v in value]
    return value


def _refuse(value: Any) -> Any:
    raise TypeError(f"{value!r:.80} is of type {type(value).__name__}, which cannot be saved: numbers, text, None, lists and "
                    "dicts (JSON), and NumPy's numbers and arrays can")


def write_arrays(f: IO[bytes], what: str, about: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """A "model file" or a "checkpoint" of these arrays and what is to be known of them (JSON). No array is copied as a whole."""
    import json  # not above: it takes as long to import as a tenth of tinydl, and many a process saves nothing
    format, version = FORMATS[what]
    text = json.dumps(plain({"format": format, "version": version, **about}), separators=(",", ":"), default=_refuse)
    if len(text) > LONGEST:
        arrays, text = {**arrays, TEXT: np.frombuffer(text.encode(), np.uint8)}, "{}"
    sealed = zlib.crc32(_sealed(text, {name: np.asarray(a) for name, a in arrays.items()}))

    def metadata(checksums: Mapping[str, int]) -> dict[str, str]:
        checks = {"about": f"{sealed:08x}", "arrays": {name: f"{checksum:08x}" for name, checksum in checksums.items()}}
        return {"tinydl": text, "tinydl.crc32": json.dumps(checks, separators=(",", ":"))}
    safetensors.write(f, arrays, metadata)


def _sealed(text: str, arrays: Mapping[str, Array]) -> bytes:
    """What the checksum "about" is of."""
    return repr((text, sorted((name, safetensors.dtype_name(name, a.dtype), a.shape) for name, a in arrays.items()))).encode(
        errors="surrogatepass")


@contextmanager
def _opened(path: str | Path | IO[bytes]) -> Iterator[IO[bytes]]:
    if isinstance(path, (str, os.PathLike)):
        with open(path, "rb") as f:
            yield f
    else:
        yield path


def read_arrays(path: str | Path | IO[bytes], what: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """What write_arrays wrote, or was written as a zip before. ValueError names the file where it is truncated, altered, of a
    later version or something else, and says what and what to do."""
    with _opened(path) as f:
        kind = foreign.kind_of(f)
        try:
            if kind == "tinydl":
                about, arrays = zipped.read(f, what)
            elif kind == "safetensors":
                about, arrays = _read(f, path)
            else:
                raise ValueError(f"it is {foreign.says(kind, path)}")
        except (ValueError, RecursionError) as e:
            raise ValueError(f"{path} is not a {what} of tinydl: {e}") from e
    format, version = FORMATS[what]
    if not isinstance(about, dict) or not isinstance(about.get("version", 0), int):
        raise ValueError(f"{path} is not a {what} of tinydl: what it says of itself is {about!r:.80}")
    if about.get("format") != format:
        for other, (name, _) in FORMATS.items():
            if about.get("format") == name:
                raise ValueError(f"{path} is not a {what} of tinydl, but a {other}: {LOADERS[other]} reads it")
        raise ValueError(f"{path} is not a {what} of tinydl: its format is {about.get('format')!r}")
    if about.get("version", 0) > version:
        raise ValueError(f"{path} has version {about['version']} of the format; this tinydl reads up to {version}: upgrade it")
    return about, arrays


def _read(f: IO[bytes], path: object) -> tuple[dict[str, Any], dict[str, Array]]:
    """Of a safetensors file, checked."""
    import json  # not above, as in write_arrays
    metadata, arrays = safetensors.read(f)
    if not {"tinydl", "tinydl.crc32"} <= metadata.keys():
        raise ValueError(f"it is {foreign.says('safetensors', path)}")
    text, given = metadata["tinydl"], json.loads(metadata["tinydl.crc32"])
    found: dict[str, Any] = {"about": f"{zlib.crc32(_sealed(text, arrays)):08x}",
                             "arrays": {name: f"{zlib.crc32(a.data):08x}" for name, a in arrays.items()}}
    if given != found:
        said = given.get("arrays") if isinstance(given, dict) else None
        altered = [n for n, checksum in found["arrays"].items() if isinstance(said, dict) and said.get(n) != checksum]
        raise ValueError(f"it was altered since tinydl wrote it ({', '.join(altered) or 'its header'}): checksums differ. Take a "
                         "copy that is whole; arrays that were changed on purpose are for model.load_state_dict")
    if TEXT in arrays:
        text = arrays.pop(TEXT).tobytes().decode()
    about: dict[str, Any] = json.loads(text)
    return about, arrays


def layer_to_json(layer: Layer, seen: dict[int, int]) -> dict[str, Any]:
    """{"type", "config"} with "children" where there are any: the constructor's arguments, as `config` says them; or {"type",
    "arguments"} as they were recorded, layers among them; {"same": i} for the i-th layer come again."""
    if id(layer) in seen:
        return {"same": seen[id(layer)]}
    seen[id(layer)] = len(seen)
    kind, config = type(layer), layer.config()
    if has_recorded_arguments(layer):
        def unsaved(name: str, value: object) -> ValueError:
            return ValueError(f"{kind.__name__} was made with {name}={config[name]!r}, and a model's file cannot hold {value!r}: "
                              f"override {kind.__name__}.config()")
        return {"type": kind.__name__, "arguments": {name: value_to_json(value, seen, partial(unsaved, name))
                                                     for name, value in config.items()}}
    children = [] if layer.makes_children else list(layer.children())
    try:
        signature(kind).bind(*(child for _, child in children), **config)
    except TypeError as e:
        raise ValueError(f"{kind.__name__} cannot be made again with {config}: {e}. Override {kind.__name__}.config() so that it "
                         "returns the constructor's arguments") from None
    out: dict[str, Any] = {"type": kind.__name__, "config": config}
    if children:
        out["children"] = [layer_to_json(child, seen) for _, child in children]
    return out


def value_to_json(value: Any, seen: dict[int, int], unsaved: Callable[[object], ValueError]) -> Any:
    """A recorded argument: a list as it is, {"tuple": [...]}, {"dict": {...}}, {"layer": {...}}."""
    if isinstance(value, Layer):
        return {"layer": layer_to_json(value, seen)}
    if isinstance(value, (list, tuple)):
        items = [value_to_json(item, seen, unsaved) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict):
        return {"dict": {key: value_to_json(item, seen, unsaved) for key, item in value.items()}}
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise unsaved(value)
    return value


def layer_from_json(spec: Mapping[str, Any], known: Mapping[str, type[Layer]], made: list[Layer | None]) -> Layer:
    if "same" in spec:
        again: Layer | None = made[spec["same"]]
        assert again is not None
        return again
    if spec["type"] not in known:
        raise ValueError(f"the model has a layer {spec['type']!r} that is not tinydl's own: pass "
                         f"custom_layers={{{spec['type']!r}: its class}}")
    kind = known[spec["type"]]
    made.append(None)
    at = len(made) - 1
    if "arguments" in spec:
        arguments = {name: value_from_json(value, known, made) for name, value in spec["arguments"].items()}
        unknown = arguments.keys() - signature(kind).parameters.keys()
        if unknown:
            raise ValueError(f"{kind.__name__} was made with {arguments}, and takes no {', '.join(sorted(unknown))} any more")
        bound = BoundArguments(signature(kind), arguments)
        layer = kind(*bound.args, **bound.kwargs)
    else:
        children = [layer_from_json(child, known, made) for child in spec.get("children", ())]
        layer = kind(*children, **{**kind.added_arguments, **spec["config"]})
    made[at] = layer
    return layer


def value_from_json(value: Any, known: Mapping[str, type[Layer]], made: list[Layer | None]) -> Any:
    """What value_to_json wrote."""
    if isinstance(value, list):
        return [value_from_json(item, known, made) for item in value]
    if not isinstance(value, dict):
        return value
    (what, inner), = value.items()
    if what == "layer":
        return layer_from_json(inner, known, made)
    if what == "tuple":
        return tuple(value_from_json(inner, known, made))
    return {key: value_from_json(item, known, made) for key, item in inner.items()}


def shared_parameters(layer: Layer, spec: Mapping[str, Any]) -> dict[str, str]:
    """{name: first name} of each parameter that several layers of `layer`, written as `spec`, share."""
    first: dict[Parameter, str] = {}
    shared: dict[str, str] = {}

    def visit(path: str, layer: Layer, spec: Mapping[str, Any]) -> None:
        if "same" in spec:      # that says it
            return
        for name, p in (*layer.parameters(), *layer.statistics()):
            if first.setdefault(p, path + name) != path + name:
                shared[path + name] = first[p]
        for (name, child), inner in zip(layer.children(), spec.get("children", repeat({})), strict=False):
            visit(f"{path}{name}.", child, inner)
    visit("", layer, spec)
    return shared


def share_parameters(layer: Layer, shared: Mapping[str, str]) -> None:
    """Give the layers their parameters as `shared_parameters` said. KeyError where there is none of that name."""
    held = {name: (owner, p) for name, owner, p in layer.named_parameters()}
    for name, first in shared.items():
        owner, p = held[name]
        owner.replace_parameter(p, held[first][1])


def write_model(path: str | Path | IO[bytes], layer: Layer, about: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """A model's file. about: what else is to be known of it (JSON), by names other than "format", "version", "layer" and
    "shared"; arrays: the values of its parameters and statistics, by name."""
    spec = layer_to_json(layer, {})
    shared = shared_parameters(layer, spec)
    meta = {**about, "layer": spec, **({"shared": shared} if shared else {})}
    if isinstance(path, (str, os.PathLike)):
        write_atomically(path, lambda f: write_arrays(f, "model file", meta, arrays))
    else:
        write_arrays(path, "model file", meta, arrays)


def read_model(path: str | Path | IO[bytes], custom_layers: Mapping[str, type[Layer]],
               ) -> tuple[Layer, dict[str, Any], dict[str, Array]]:
    """Layer, `about` and arrays, as they were given to `write_model`. ValueError where the file is something else, or has a
    layer that is neither tinydl's own nor among custom_layers."""
    meta, arrays = read_arrays(path, "model file")
    layer = layer_from_json(meta["layer"], {**REGISTRY, **custom_layers}, [])
    try:
        share_parameters(layer, meta.get("shared", {}))
    except KeyError as e:
        raise ValueError(f"{path}: its layers have no parameter {e} to share; was a custom layer changed?") from None
    return layer, meta, arrays
