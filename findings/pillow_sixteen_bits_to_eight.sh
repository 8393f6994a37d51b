#!/usr/bin/env bash
# Pillow 13.0.0 (NumPy 2.4.6): PNG files of 16 bits a channel, grey and in colour, as the 8 bits that a network is given.
#
# Guess: the same picture saved in grey and in colour comes out the same: the upper 8 bits of each number, v / 257 to a unit.
# Seen: in colour, and in grey beside a channel of opacity, it does. In grey alone it is opened as mode "I;16", and convert("L") and
# convert("RGB") cut it off at 255: every number from 255 on is white, which is all but the darkest 0.4 percent of the range. The
# documentation of convert does not say so. What is scaled right is the number itself: np.asarray(image) / 65535.
# Floats (mode "F") are cut off in the same way, so that a picture from 0 to 1 becomes black.
# Whoever reads a folder of pictures with convert("RGB") learns from white squares where scans, depth maps or microscope pictures
# are among them.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import io
import struct
import zlib

import numpy as np
from PIL import Image

KINDS = {"grey": 0, "grey and opacity": 4, "colour": 2, "colour and opacity": 6}


def png(pixels, kind):
    """A file as the standard of PNG has it, of numbers (rows, columns, channels) from 0 to 65535."""
    rows, columns = pixels.shape[:2]

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)     # each without a filter
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 16, KINDS[kind], 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


values = np.array([[0, 200, 255, 256, 2000, 30000, 65535]])
right = values[0] / 257                                     # 65535 becomes 255
print("of 16 bits:", values[0].tolist(), "in 8 bits:", right.round(1).tolist())
for kind in KINDS:
    channels = [values] * (3 if "colour" in kind else 1) + [np.full_like(values, 65535)] * ("opacity" in kind)
    image = Image.open(io.BytesIO(png(np.stack(channels, -1), kind)))
    found = {mode: np.asarray(image.convert(mode)).reshape(7, -1)[:, 0].astype(int) for mode in ("L", "RGB")}
    print(f"{kind:18s} opened as {image.mode:5s}", {mode: a.tolist() for mode, a in found.items()})
    for a in found.values():
        if kind == "grey":
            assert image.mode == "I;16" and (a == np.minimum(values[0], 255)).all() and (a[2:] == 255).all()
            assert (np.asarray(image) == values).all()
        else:
            assert np.abs(a - right).max() <= 1
floats = np.asarray(Image.fromarray(np.array([[0.0, 0.25, 0.5, 1.0]], "float32")).convert("L"))[0]
print("floats 0, 0.25, 0.5, 1 as L:", floats.tolist())
assert floats.tolist() == [0, 0, 0, 1]
PY
