#!/usr/bin/env bash
# Keras 3.15.1 with JAX 0.10.2 and with PyTorch 2.13.0 as its backend: AveragePooling with padding="same".
#
# Guess: a model predicts the same with each backend, to rounding: layers are defined by Keras, and differences that are known, as of
# transposed convolutions, are in its documentation. What is padded is not counted in a mean.
# Seen: of 6 rows and 5 columns, pooled by 3 with stride 2, the means at the ends differ. With JAX padding is not counted: the mean
# of two numbers. With PyTorch, where padding is needed on one side more than on the other anywhere, the picture is padded with
# copies of its edge, and these are counted: (a + b + b) / 3. Where it is the same on both sides of all axes, both agree.
# A model that was trained with one backend, and is loaded with the other, has other means along its edges, and nothing says so.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 torch==2.13.0 numpy==2.4.6
cat > "$dir/pools.py" <<'PY'
import keras
import numpy as np

backend = keras.backend.backend()
for rows, columns in ((5, 5), (6, 5), (6, 6)):
    x = np.zeros((1, rows, columns, 1), "float32")
    x[0, ..., 0] = 2.0 ** np.arange(columns)                                # the same in each row
    y = keras.ops.convert_to_numpy(keras.layers.AveragePooling2D(3, 2, "same")(x))[0, 0, :, 0]
    row = x[0, 0, :, 0]
    before = int(columns % 2)                                               # of the padding of the columns
    windows = [range(at - before, at - before + 3) for at in range(0, columns, 2)]
    counted = {"left out": [np.mean([row[i] for i in w if 0 <= i < columns]) for w in windows],
               "copies of the edge": [np.mean([row[min(max(i, 0), columns - 1)] for i in w]) for w in windows]}
    says = [name for name, means in counted.items() if np.allclose(y, means, rtol=1e-5)]
    print(f"{backend}: {rows} rows, {columns} columns: {y.round(4).tolist()}: what is padded is {says}")
    assert says == (["copies of the edge"] if backend == "torch" and rows == 6 else ["left out"])
PY
for backend in jax torch; do KERAS_BACKEND=$backend "$dir/venv/bin/python" -W ignore "$dir/pools.py"; done
