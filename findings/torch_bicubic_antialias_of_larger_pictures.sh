#!/usr/bin/env bash
# PyTorch 2.13.0 (NumPy 2.4.6): torch.nn.functional.interpolate(mode="bicubic") to a larger size, with antialias=True and without.
#
# Guess: the same to rounding. What antialias does is to widen the kernel where a picture becomes smaller; where it becomes larger
# nothing is to be widened, and mode="bilinear" gives the same bits either way.
# Seen: antialias chooses another curve as well: a = -0.5, which is Pillow's, with it, a = -0.75, which is OpenCV's, without. So a
# step of 0 to 1 overshoots by 7 % or by 11 %, and a grid of normal numbers, 14 by 14, enlarged to 24 by 24, differs by a tenth of
# its deviation and more. At its own size both are the input itself, so that
# nothing shows there.
# Position embeddings of vision transformers are enlarged with the flag by some programs and without it by others.
# Whoever compares with another program, or moves weights to it, looks at the flag even where pictures only become larger.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import torch
import torch.nn.functional as F


def by_hand(x, n, a):
    """Rows of x (m, ...) to n by Keys' cubic convolution with that a, pixels' middles at k + 1/2, borders repeated."""
    m = len(x)
    out = np.zeros((n, *x.shape[1:]))
    for i in range(n):
        at = (i + 0.5) * m / n - 0.5
        first = int(np.floor(at)) - 1
        for k in range(first, first + 4):
            d = abs(at - k)
            w = (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1 if d <= 1 else a * (d ** 3 - 5 * d ** 2 + 8 * d - 4)
            out[i] += w * x[min(max(k, 0), m - 1)]
    return out


def enlarged(x, n, **options):
    return F.interpolate(torch.from_numpy(x)[None, None], size=(n, n), **options)[0, 0].numpy()


x = np.random.default_rng(0).normal(size=(14, 14))
bilinear, plain, anti = (enlarged(x, 24, mode=mode, antialias=antialias) - enlarged(x, 24, mode=mode)
                         for mode, antialias in (("bilinear", True), ("bicubic", False), ("bicubic", True)))
print("differs by at most: bilinear", np.abs(bilinear).max(), "bicubic", round(np.abs(anti).max(), 3))
assert np.abs(bilinear).max() < 1e-12 and not plain.any() and np.abs(anti).max() > 0.1
assert (np.abs(enlarged(x, 14, mode="bicubic", antialias=True) - x) < 1e-12).all()
step = np.repeat(np.arange(8.0) >= 4, 8).reshape(8, 8).astype(float)
for antialias, a in ((False, -0.75), (True, -0.5)):
    mine = {other: by_hand(by_hand(x, 24, other).T, 24, other).T[4:-4, 4:-4] for other in (-0.5, -0.75)}
    found = enlarged(x, 24, mode="bicubic", antialias=antialias)[4:-4, 4:-4]         # away from borders, which they treat apart
    off = {other: float(np.abs(found - there).max()) for other, there in mine.items()}
    over = enlarged(step, 16, mode="bicubic", antialias=antialias).max() - 1
    print(f"antialias={antialias}: off from the curve of a=-0.5 by {off[-0.5]:.1e}, of a=-0.75 by {off[-0.75]:.1e};",
          f"a step overshoots by {over:.3f}")
    assert off[a] < 1e-12 < 0.1 < off[-1.25 - a]
PY
