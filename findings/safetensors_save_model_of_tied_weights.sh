#!/usr/bin/env bash
# safetensors 0.8.0 (PyTorch 2.13.0): save_model of a module whose embedding and last layer share one weight.
#
# Guess (which name, was not written before the run): save_file refuses the state_dict, and save_model writes the tensor once,
# under the name that comes first in state_dict(), the embedding's, as PyTorch itself does where it lists a shared parameter
# once.
# Seen: under the name that comes first in the alphabet: head.weight stays, and wte.weight is gone, though the module defines it
# first and parameters() has it under that name. What was left out is noted in the file's metadata, {"wte.weight":
# "head.weight"}, which load_model needs not, and which load_file and readers in other languages do not apply. Rename the last
# layer to "output", or the embedding to "embed", and another of the two is in the file.
# Whoever reads embeddings by their name from such a file looks into the metadata, too.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 safetensors==0.8.0 numpy==2.4.6 packaging
"$dir/venv/bin/python" -W ignore - "$dir" <<'PY'
import sys

from safetensors import safe_open
from safetensors.torch import load_file, save_file, save_model
from torch import nn

path = f"{sys.argv[1]}/m.safetensors"
for first, last, kept, lost in (("wte", "head", "head", "wte"), ("wte", "output", "output", "wte"), ("embed", "head", "embed", "head")):
    module = nn.ModuleDict({first: nn.Embedding(5, 3), last: nn.Linear(3, 5, bias=False)})
    module[last].weight = module[first].weight
    assert list(module.state_dict()) == [f"{first}.weight", f"{last}.weight"]
    assert [name for name, _ in module.named_parameters()] == [f"{first}.weight"]
    try:
        save_file(module.state_dict(), path)
        raise AssertionError("save_file took tensors that share memory")
    except RuntimeError as error:
        assert "share memory" in str(error)
    save_model(module, path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    print(f"state_dict has {first} and then {last}; the file has {list(load_file(path))}, and the note {metadata}")
    assert list(load_file(path)) == [f"{kept}.weight"] and metadata == {f"{lost}.weight": f"{kept}.weight"}
PY
