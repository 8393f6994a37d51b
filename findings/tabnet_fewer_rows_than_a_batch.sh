#!/usr/bin/env bash
# pytorch-tabnet 4.1.0 (PyTorch 2.13.0, NumPy 2.4.6): TabNetClassifier, with its defaults, of a table of 500 rows.
#
# Guess: fit trains on the 500 rows in one batch, which is shorter than batch_size=1024.
# Seen: its documentation says drop_last=False, and the default is True. Of a table with fewer rows than batch_size each epoch
# has no batch at all: fit runs through, writes a loss of 0.0 for each epoch, says which epoch was best and leaves the weights
# as they were drawn, so predictions are as good as chance. No warning says so. With drop_last=False, or batch_size=256, the
# same call learns the rows. Of more than 1024 rows as many are left out in each epoch as are beyond a multiple of it.
# Whoever has few rows gives batch_size, or drop_last=False, and takes a loss of 0.0 for what it is.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pytorch-tabnet==4.1.0 torch==2.13.0 numpy==2.4.6 \
    scikit-learn==1.9.1 pandas==3.1.1
"$dir/venv/bin/python" -W ignore - <<'PY'
import importlib.metadata
import inspect

import numpy as np
import torch
from pytorch_tabnet.tab_model import TabNetClassifier

torch.set_num_threads(1)
rng = np.random.default_rng(0)
x = rng.normal(size=(500, 5)).astype("float32")
y = (x[:, 0] > 0).astype(int)

share, losses = {}, {}
for name, options in (("defaults", {}), ("drop_last=False", {"drop_last": False}), ("batch_size=256", {"batch_size": 256})):
    model = TabNetClassifier(verbose=0, seed=0)
    model.fit(x, y, max_epochs=40, **options)
    share[name], losses[name] = float(np.mean(model.predict(x) == y)), model.history["loss"]
    print(f"{name:16} loss of the last epoch {losses[name][-1]:.3f}, right of the rows trained on: {share[name]:.2f}")
said = importlib.metadata.metadata("pytorch-tabnet").get_payload()
print("its documentation:", next(line for line in said.splitlines() if "`drop_last`" in line))
assert "`drop_last` : bool (default=False)" in said and inspect.signature(TabNetClassifier.fit).parameters["drop_last"].default
assert set(losses["defaults"]) == {0.0} and share["defaults"] < 0.65
assert losses["drop_last=False"][-1] > 0 and min(share["drop_last=False"], share["batch_size=256"]) > 0.9
PY
