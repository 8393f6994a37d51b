#!/usr/bin/env bash
# safetensors 0.8.0 with PyTorch 2.13.0: the order of tensors in a file.
#
# Guess: a state_dict that is saved and loaded again comes back in its own order, the order in which the module defines its layers,
# as it does from torch.save; so weights can be carried into another library layer by layer.
# Seen: names come back in the order of the alphabet, from load_file and from safe_open(...).keys(): bias before weight, "body"
# before "stem", and layer 10 before layer 2. (Tensors of several dtypes are sorted by the dtype's size first.)
# Whoever takes layers in order from a file pairs the wrong ones, and where their shapes are equal, as in most deep networks,
# nothing complains.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 safetensors==0.8.0
"$dir/venv/bin/python" - "$dir/weights.safetensors" <<'PY'
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

path = sys.argv[1]
named = torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in ("stem", "body", "head")})
numbered = torch.nn.Sequential(*[torch.nn.Linear(2, 2, bias=False) for _ in range(12)])
for module in (named, numbered):
    save_file(module.state_dict(), path)
    defined, loaded = list(module.state_dict()), list(load_file(path))
    with safe_open(path, "pt") as f:
        opened = list(f.keys())
    print("defined:", *defined, "\nloaded: ", *loaded)
    assert loaded == opened == sorted(defined) != defined
mixed = {"a": torch.zeros(1, dtype=torch.float16), "b": torch.zeros(1, dtype=torch.float64)}
save_file(mixed, path)
print("float16 a and float64 b come back as", *load_file(path))
assert list(load_file(path)) == ["b", "a"]
copy = torch.nn.Sequential(*[torch.nn.Linear(2, 2, bias=False) for _ in range(12)])
save_file(numbered.state_dict(), path)
with torch.no_grad():
    for mine, theirs in zip(copy.parameters(), load_file(path).values()):
        mine.copy_(theirs)
    x = torch.ones(1, 2)
    print("output of the same layers, copied in order:", copy(x).tolist(), "instead of", numbered(x).tolist())
    assert not torch.allclose(copy(x), numbered(x))
PY
