#!/usr/bin/env bash
# Keras 3.15.1 (JAX 0.10.2 as its backend), h5py 3.16.0: the names under which a .weights.h5 file holds the layers of a class.
#
# Guess: layers that a keras.Model subclass keeps as attributes are found in its file by the attributes' names, all in the same way.
# Seen: it depends on the alphabet. A Dense at self.head is the group `head`, and the same layer at self.stem is `layers/dense`:
# attributes are visited in their names' order, `layers` (the list of all of them) is one, and a layer is written where it is met
# first. So what sorts before "layers" has its attribute's name, and the rest are called by their class and counted, with a gap
# for each that was met before: layers/dense and layers/dense_2. A layer's own name (name="first") is in no path. Renaming an
# attribute from `encoder` to `model_encoder` makes a file of before unreadable.
# Whoever reads such files without Keras must look for a layer in both places, and not expect numbers without gaps.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 h5py==3.16.0 numpy==2.4.6
KERAS_BACKEND=jax "$dir/venv/bin/python" - "$dir/m.weights.h5" <<'PY'
import sys

import h5py
import keras
import numpy as np

path = sys.argv[1]


def model_of(*attributes):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            for name in attributes:
                setattr(self, name, keras.layers.Dense(2, name=f"named_{name}"))

        def call(self, x):
            for name in attributes:
                x = getattr(self, name)(x)
            return x
    model = Net()
    model(np.ones((1, 2), "float32"))
    return model


model_of("stem", "head", "middle").save_weights(path)
with h5py.File(path) as f:
    found = []
    f.visititems(lambda name, item: found.append(name.removesuffix("/vars/0")) if name.endswith("/vars/0") else None)
print("attributes stem, head, middle are in the file as", *sorted(found))
assert sorted(found) == ["head", "layers/dense", "layers/dense_2"]

model_of("encoder").save_weights(path)
try:
    model_of("model_encoder").load_weights(path)
except ValueError as e:
    print("the same layer under another attribute's name:", str(e).splitlines()[0])
else:
    raise AssertionError("the file was read")
PY
