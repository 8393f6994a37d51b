#!/usr/bin/env bash
# PyTorch 2.13.0, CPU: nn.TransformerEncoder of sequences of unequal lengths, with src_key_padding_mask, in eval mode.
#
# Guess: without dropout a model's outputs are the same in training and in eval mode, and with and without torch.no_grad().
# Seen: those of the steps that are padding differ. In training, and in eval mode where gradients are kept, they are numbers as of
# any other step; in eval mode under torch.no_grad() they are zeros. So the mean (or the maximum) over all steps, padding included,
# is another number when the model is used than when it was trained, with the same weights and the same inputs. With padding at the
# front it is not so, nor with enable_nested_tensor=False. The outputs of the sequences' own steps agree to rounding everywhere.
# The documentation says of enable_nested_tensor that it makes padded batches faster, and warns of no other outputs.
# Whoever takes the mean over steps divides the sum of the sequence's own steps by their number, in training, too.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import torch
from torch import nn

HEADS, WIDTH = 2, 8


def norm(x, layer):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + layer.eps) * array(layer.weight) + array(layer.bias)


def array(p):
    return p.detach().numpy()


def by_hand(x, padding, layers):
    """The encoder in NumPy, float64: each step, padding too, attends to the steps that are none."""
    for layer in layers:
        a = layer.self_attn
        q, k, v = ((x @ w.T + b).reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2) for w, b in
                   zip(np.split(array(a.in_proj_weight), 3), np.split(array(a.in_proj_bias), 3), strict=True))
        scores = np.where(padding[:, None, None], -np.inf, q @ k.swapaxes(2, 3) / np.sqrt(WIDTH // HEADS))
        p = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (p / p.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(x.shape)
        x = norm(x + mixed @ array(a.out_proj.weight).T + array(a.out_proj.bias), layer.norm1)
        hidden = np.maximum(x @ array(layer.linear1.weight).T + array(layer.linear1.bias), 0)
        x = norm(x + hidden @ array(layer.linear2.weight).T + array(layer.linear2.bias), layer.norm2)
    return x


def outputs(encoder, x, padding):
    found = {}
    for mode in (True, False):
        encoder.train(mode)
        found["training" if mode else "eval"] = array(encoder(x, src_key_padding_mask=padding))
    with torch.no_grad():
        found["eval, no_grad"] = encoder(x, src_key_padding_mask=padding).numpy()
    return found


torch.manual_seed(0)
layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
x = torch.randn(2, 6, WIDTH, dtype=torch.float64)
behind = torch.arange(6) >= torch.tensor([4, 2])[:, None]
for name, padding, nested in (("padding behind", behind, True), ("padding in front", behind.flip(1), True),
                              ("behind, enable_nested_tensor=False", behind, False)):
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
    found, hand, pad = outputs(encoder, x, padding), by_hand(x.numpy(), padding.numpy(), encoder.layers), padding.numpy()
    print(name, "- the mean over all steps, first number:", {k: a.mean(1)[:, 0].round(4).tolist() for k, a in found.items()})
    print("    by hand:", hand.mean(1)[:, 0].round(4).tolist(), "farthest on the sequences' own steps:",
          max(np.abs(a - hand)[~pad].max() for a in found.values()))
    assert all(np.abs(a - hand)[~pad].max() < 1e-12 for a in found.values())
    assert all(np.abs(found[k] - hand).max() < 1e-12 for k in ("training", "eval"))
    zeros = (found["eval, no_grad"][pad] == 0).all()
    assert zeros == (name == "padding behind") and (zeros or np.abs(found["eval, no_grad"] - hand).max() < 1e-12)
PY
