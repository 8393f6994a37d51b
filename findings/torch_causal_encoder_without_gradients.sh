#!/usr/bin/env bash
# PyTorch 2.13.0: nn.TransformerEncoderLayer called with is_causal=True and no mask, with gradients recorded and without.
#
# Guess: is_causal=True makes it causal, as that of scaled_dot_product_attention does; or, since its documentation calls it a hint
# about the mask, a missing mask is an error. Whichever it is, it is so in training and in evaluation.
# Seen: an error, "Need attn_mask if specifying the is_causal hint", in training, and in evaluation as long as gradients are
# recorded. In evaluation under torch.no_grad() there is none: the hint is dropped, each step looks at all the steps behind it, and
# the output is, bit for bit, that without is_causal.
# A script that only predicts never meets the error. Give the mask: nn.Transformer.generate_square_subsequent_mask(steps).
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import torch
from torch import nn

torch.manual_seed(0)
layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
x = torch.randn(2, 5, 8)
mask = nn.Transformer.generate_square_subsequent_mask(5)
for training in (True, False):
    for recorded in (True, False):
        layer.train(training)
        with torch.set_grad_enabled(recorded):
            whole, causal = layer(x), layer(x, src_mask=mask, is_causal=True)
            assert not torch.allclose(whole, causal, atol=1e-3)
            try:
                hinted = layer(x, is_causal=True)
                says = "looks at all steps" if torch.equal(hinted, whole) else "is causal"
            except RuntimeError as error:
                says = f"error: {error}"[:60]
        print(f"training={training}, gradients recorded={recorded}: {says}")
        assert says.startswith("error: Need attn_mask") if training or recorded else says == "looks at all steps"
PY
