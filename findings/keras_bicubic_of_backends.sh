#!/usr/bin/env bash
# Keras 3.15.1 with JAX 0.10.2 and with PyTorch 2.13.0 as its backend: UpSampling2D(interpolation="bicubic").
#
# Guess: the layer gives the same with each backend, to rounding, as it does with "nearest" and "bilinear".
# Seen: each backend's own bicubic curve is used, and there are two of them: that of a = -0.5 with JAX, that of a = -0.75 with PyTorch.
# So one step of 0 to 1, enlarged twice, overshoots by 7 % with the one and by 11 % with the other, and of a picture of normal numbers
# some differ by 0.1 and more.
# A model with this layer is to be run with the backend that it was trained with.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 torch==2.13.0 numpy==2.4.6
cat > "$dir/up.py" <<'PY'
import sys

import keras
import numpy as np

x = np.zeros((1, 1, 8, 1), "float32")
x[..., 4:, :] = 1.0
up = {kind: keras.ops.convert_to_numpy(keras.layers.UpSampling2D((1, 2), interpolation=kind)(x)).ravel()
      for kind in ("nearest", "bilinear", "bicubic")}


def curve(d, a):
    """What a number at distance d counts (Keys 1981)."""
    d = abs(d)
    return ((a + 2) * d ** 3 - (a + 3) * d ** 2 + 1) if d <= 1 else a * (d ** 3 - 5 * d ** 2 + 8 * d - 4) if d < 2 else 0.0


def by_hand(a):
    """The middle of it, which no edge reaches."""
    return [sum(curve((i + 0.5) / 2 - 0.5 - j, a) * x.ravel()[j] for j in range(8)) for i in range(5, 11)]


fits = [a for a in (-0.5, -0.75) if np.allclose(up["bicubic"][5:11], by_hand(a), atol=1e-5)]
print(f"{keras.backend.backend()}: bicubic {up['bicubic'][5:11].round(4).tolist()}: a = {fits}")
assert fits == [-0.5 if keras.backend.backend() == "jax" else -0.75]
np.savez(sys.argv[1], **up)
PY
for backend in jax torch; do KERAS_BACKEND=$backend "$dir/venv/bin/python" -W ignore "$dir/up.py" "$dir/$backend.npz"; done
"$dir/venv/bin/python" - "$dir" <<'PY'
import sys

import numpy as np

one, other = (np.load(f"{sys.argv[1]}/{backend}.npz") for backend in ("jax", "torch"))
for kind in one.files:
    apart = float(np.abs(one[kind] - other[kind]).max())
    print(f"{kind}: farthest apart {apart:.4f}")
    assert apart > 0.01 if kind == "bicubic" else apart < 1e-6
PY
