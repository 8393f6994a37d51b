#!/usr/bin/env bash
# imageio 2.38.1 with tifffile 2026.3.3, scikit-image 0.26.0 (Pillow 13.0.0, NumPy 2.4.6): imread of one and the same picture with a
# palette, saved as PNG, BMP, GIF and TIFF; and of one for printing (CMYK), saved as JPEG and TIFF.
#
# Guess: the same array, red, green and blue; all these formats keep a palette without loss.
# Seen: PNG, BMP and GIF come as colours, TIFF as the numbers of the colours in the palette, (rows, columns), which look like a grey
# picture and are none: neighbouring numbers may be any colours. TIFF goes another way, through tifffile, which gives what is stored.
# GIF has a first axis of pictures, of length 1. CMYK comes as four channels with ink where others have light, which passes for
# colours with opacity: Pillow's convert("RGB") makes three of it. skimage.io.imread gives the same as imageio.
# Whoever reads a folder of mixed files opens them with Pillow and convert("RGB"), or looks at shape and format of each.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check imageio==2.38.1 tifffile==2026.3.3 scikit-image==0.26.0 \
    pillow==13.0.0 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" -W ignore - <<'PY'
import imageio.v3 as iio
import numpy as np
import skimage.io
from PIL import Image

numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
palette = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
picture = Image.fromarray(numbers)
picture.putpalette(palette.ravel().tolist())
colours = palette[numbers]
for ending in ("png", "bmp", "gif", "tiff"):
    picture.save(f"a.{ending}")
    read, other, pillow = iio.imread(f"a.{ending}"), skimage.io.imread(f"a.{ending}"), Image.open(f"a.{ending}").convert("RGB")
    same = "colours" if read.shape[-1] == 3 and (read == colours).all() else "numbers of colours" if (
        read.shape == numbers.shape and (read == numbers).all()) else "something else"
    print(f"{ending:4s} {read.shape}: {same}")
    assert same == ("numbers of colours" if ending == "tiff" else "colours") and (other == read).all()
    assert (np.asarray(pillow) == colours).all() and read.ndim == {"gif": 4, "tiff": 2}.get(ending, 3)

inks = Image.new("CMYK", (4, 3), (10, 20, 30, 40))
for ending in ("jpg", "tiff"):
    inks.save(f"b.{ending}")
    read, light = iio.imread(f"b.{ending}"), np.asarray(Image.open(f"b.{ending}").convert("RGB"))
    print(f"CMYK {ending:4s} {read.shape}: {read[0, 0].tolist()}, as colours {light[0, 0].tolist()}")
    assert read.shape == (3, 4, 4) and np.abs(read[0, 0].astype(int) - [10, 20, 30, 40]).max() <= 2
    assert light.shape == (3, 4, 3) and light.min() > 180
PY
