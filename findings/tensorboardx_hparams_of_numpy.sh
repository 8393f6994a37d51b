#!/usr/bin/env bash
# tensorboardX 2.6.5 beside TensorBoard 2.21.0 (NumPy 2.4.6): add_hparams with settings that are NumPy's numbers.
#
# Guess: a setting drawn by NumPy (rng.integers, rng.choice, an array's element) is on the HPARAMS page like Python's number, as
# add_scalar takes both; or it is refused, as torch.utils.tensorboard does with a ValueError.
# Seen: numpy.int64, numpy.float32 and numpy.bool_ are no int, float or bool: their names are announced as columns of the page,
# and the values are left out, without a warning. A float64 is kept, since it is a Python float, so a search shows its rates and
# no widths. A tuple is lost likewise.
# Whoever writes settings calls .item() on numpy.generic before, and refuses what is of no type that can be kept.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check tensorboard==2.21.0 tensorboardX==2.6.5 numpy==2.4.6 \
    protobuf==7.36.2 "setuptools<81"
"$dir/venv/bin/python" -W ignore - "$dir/runs" <<'PY'
import sys
import warnings

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboardX import SummaryWriter

rng = np.random.default_rng(0)
settings = {"rate": rng.uniform(), "width": rng.integers(16, 256), "batch": int(rng.choice([32, 64])),
            "dropout": np.float32(0.5), "norm": rng.choice([True, False]), "layers": (64, 32)}
with warnings.catch_warnings(), SummaryWriter(sys.argv[1]) as writer:
    warnings.simplefilter("error")
    writer.add_hparams(settings, {"loss": 1.0}, name="trial")

run = EventAccumulator(f"{sys.argv[1]}/trial")
run.Reload()
told = {}
for tag, content in run.PluginTagToContent("hparams").items():
    told[tag] = plugin_data_pb2.HParamsPluginData.FromString(content)
announced = [info.name for info in told["_hparams_/experiment"].experiment.hparam_infos]
kept = dict(told["_hparams_/session_start_info"].session_start_info.hparams)
for name, value in settings.items():
    print(f"{name:8} {type(value).__name__:8} {value!s:18} announced {name in announced}, kept {name in kept}")
assert announced == list(settings)
assert sorted(kept) == ["batch", "rate"]
PY
