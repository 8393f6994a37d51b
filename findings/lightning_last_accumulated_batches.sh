#!/usr/bin/env bash
# Lightning 2.6.6 (PyTorch 2.13.0, NumPy 2.4.6): Trainer(accumulate_grad_batches=4) of an epoch whose batches are no multiple of
# four.
#
# Guess: the last update of an epoch is by the mean of the batches that are left, as each other update is by the mean of its
# four.
# Seen: each loss is divided by four, so of two batches that are left the gradient is half as long, of one a quarter. With SGD
# that is a step as much too short; norms are clipped less; Adam's averages take it for a smaller gradient. Of an epoch of six
# batches, as of a small data set, it is every second update. A scheduler counts it as a whole update. Nothing warns.
# Whoever accumulates takes a number that divides the batches of an epoch (len(dataloader)), or drops those that are left.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check lightning==2.6.6 torch==2.13.0 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" -W ignore - <<'PY'
import logging

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Line(lightning.LightningModule):
    """The gradient of each sample's loss is its number, negative."""

    def __init__(self):
        super().__init__()
        self.weight, self.gradients = torch.nn.Parameter(torch.zeros(1)), []

    def training_step(self, batch):
        return -(self.weight * batch[0]).mean()

    def on_before_optimizer_step(self, optimizer):
        self.gradients.append(round(self.weight.grad.item(), 6))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def gradients(batches, accumulate):
    model = Line()
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=1, accumulate_grad_batches=accumulate, logger=False,
                                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(model, DataLoader(TensorDataset(torch.ones(8 * batches)), batch_size=8))
    return model.gradients


for batches in (8, 9, 10, 11):
    found = gradients(batches, 4)
    print(f"{batches:2} batches of ones, 4 an update: gradients {found}; 1 an update: {set(gradients(batches, 1))}")
    left = batches % 4
    assert found == [-1.0, -1.0] + ([-left / 4] if left else []) and set(gradients(batches, 1)) == {-1.0}
PY
