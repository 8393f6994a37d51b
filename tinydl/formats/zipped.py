"""The zip files that tinydl's models and checkpoints were before they were safetensors files: one of JSON, and a .npy for each
array in arrays/. They are read for good, and no longer written."""
from __future__ import annotations

import io
from typing import IO, Any

import numpy as np

#: the file of JSON, by what the zip is
HEADERS = {"model file": "architecture.json", "checkpoint": "checkpoint.json"}


def read(f: IO[bytes], what: str) -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    """JSON and arrays of a model file or a checkpoint; ValueError where it is damaged, or the other."""
    import json  # these take as long to import as a tenth of tinydl
    import zipfile
    import zlib
    try:
        with zipfile.ZipFile(f) as z:
            meta = json.loads(z.read(HEADERS[what]))
            arrays = {n.removeprefix("arrays/").removesuffix(".npy"):
                      np.lib.format.read_array(io.BytesIO(z.read(n)), allow_pickle=False)
                      for n in z.namelist() if n.startswith("arrays/")}
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, zlib.error) as e:
        raise ValueError(f"it is truncated, damaged, or something else: {e}") from e
    return meta, arrays
