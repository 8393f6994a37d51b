#!/usr/bin/env bash
# Transformers 5.24.0 (PyTorch 2.13.0, safetensors 0.8.0): the names of weights in a model, and in the file that it saves.
#
# What one would expect (no guess was written before the run): save_pretrained writes the state_dict(): the names in
# model.safetensors are those that model.state_dict() shows, but for one of two that share a tensor. So a table of names written
# by looking at either fits the other.
# Seen: for BERT so it is. A ViT's state_dict has layers.0.attention.q_proj.weight, and its file, written the moment before,
# encoder.layer.0.attention.attention.query.weight: of 24 names 16 are others. Loading turns the names, saving turns them back, so
# that files stay as older versions wrote them. Of Mixtral's experts even the arrays differ: three matrices of each expert in the
# file, and one array of two of them and of all experts in the model.
# Whoever maps names to those of another library does so by the names in the file, or passes the state_dict, but not one for both.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - "$dir" 2>/dev/null <<'PY'
import sys

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, MixtralConfig, MixtralModel, ViTConfig, ViTModel

torch.manual_seed(0)
size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def compared(model):
    folder = f"{sys.argv[1]}/{type(model).__name__}"
    model.save_pretrained(folder)
    again = type(model).from_pretrained(folder).state_dict()
    state, file = model.state_dict(), load_file(f"{folder}/model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in state.items())
    return state, file


state, file = compared(BertModel(BertConfig(vocab_size=20, max_position_embeddings=12, **size)))
print("BERT: names in the model and in its file are the same:", state.keys() == file.keys())
assert state.keys() == file.keys()

state, file = compared(ViTModel(ViTConfig(image_size=8, patch_size=4, **size)))
one, other = "layers.0.attention.q_proj.weight", "encoder.layer.0.attention.attention.query.weight"
print("ViT: of", len(state), "names in the model", len(state.keys() - file.keys()), "are not in its file:", one, "there is", other)
assert one in state and one not in file and other in file and other not in state
assert torch.equal(state[one], file[other]) and len(state) == len(file) == 24 and len(state.keys() - file.keys()) == 16

state, file = compared(MixtralModel(MixtralConfig(vocab_size=20, num_local_experts=2, num_key_value_heads=2, **size)))
shapes = {name: tuple(value.shape) for name, value in state.items() if ".experts." in name}
print("Mixtral, in the model:", shapes)
of_file = {name: tuple(value.shape) for name, value in file.items() if ".experts." in name}
print("Mixtral, in its file:", of_file)
assert len(shapes) == 2 and len(of_file) == 6
PY
