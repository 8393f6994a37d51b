"""tinydl demo --images: the digits by a small convolutional network, beside one of dense layers."""
from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from tinydl import AccuracyEvaluator, History, Model, Trainer, datasets, losses, nn, optim
from tinydl.cli.common import fit, plural, thread_count
from tinydl.cli.demo import DROPOUT, HIDDEN, Cooling, draw, mlp, set_defaults, where_to_draw
from tinydl.cli.progress import table
from tinydl.data import ArrayDataset, Split

Array = np.ndarray[Any, Any]

LEARNING_RATE = 2e-3
#: parts of a batch, which threads take: as many whatever the number of threads, up to this, so that it changes no bit
PARTS = 4


def run(options: argparse.Namespace) -> int:
    set_defaults(options, 8, HIDDEN)
    thread_count(options.threads)
    picture, note = where_to_draw(options)
    digits = datasets.digits().split(0.8, 0.0, 0.2, seed=options.seed)
    assert digits.test is not None
    x = shifted(digits.train.x.reshape(-1, 8, 8))
    train = ArrayDataset(x.reshape(-1, 64), np.tile(digits.train.y, 5), min(options.batch_size, 1_000))
    data = Split(train, None, digits.test)
    threads = options.threads or min(PARTS, thread_count(0, train.n_batches * PARTS, train.n_samples))
    print(f"{digits.train.n_samples:,} handwritten digits of 8x8 pixels to train on, and each shifted by a\n"
          f"pixel up, down, left and right: {train.n_samples:,}; {digits.test.n_samples:,} others to test, as they are\n"
          f"{plural(options.epochs, 'epoch')} of {train.n_batches:,} batches of {train.batch_size}; Adam; "
          f"{plural(threads, 'thread')}\n", flush=True)
    models = {"dense": mlp((64, *options.hidden, 10), options.seed, DROPOUT), "convolutional": convolutional(options.seed)}
    histories: dict[str, History] = {}
    rows = [("network", "parameters", "seconds", "samples/s", "test accuracy", "wrong")]
    for name, model in models.items():
        histories[name], accuracy = _train(f"{name:<13}", model, data, threads, options)
        seconds = sum(histories[name]["seconds"])
        rows.append((name, f"{model.num_parameters:,}", f"{seconds:.2f}", f"{sum(histories[name]['samples']) / seconds:,.0f}",
                     f"{100 * accuracy:.1f} %", f"{round((1 - accuracy) * digits.test.n_samples)}"))
    print(f"\n{table(rows)}\n")
    draw(histories, picture, note)
    return 0


def shifted(images: Array) -> Array:
    """images (n, H, W), then all of them one pixel down, up, to the right and to the left, with zeros where they came from."""
    H, W = images.shape[1:]
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return np.concatenate([wide[:, i:i + H, j:j + W] for i, j in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))])


def convolutional(seed: int) -> Model:
    """Two convolutions at 8x8 pixels and one at 4x4, of 32, 32 and 64 channels."""
    return Model(nn.Sequential(
        nn.Reshape((1, 8, 8)),
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, 10)), seed=seed, name="CNN 32-32-64-10")


def _train(title: str, model: Model, data: Split[ArrayDataset], threads: int,
           options: argparse.Namespace) -> tuple[History, float]:
    optimizer = optim.Adam(LEARNING_RATE)
    with Trainer(options.epochs, Cooling(title, optimizer, options.epochs), AccuracyEvaluator(), True, threads,
                 seed=options.seed, strategy="shard", shards_per_batch=max(PARTS, threads)) as trainer:
        trainer.init(data, model, losses.SoftmaxCrossEntropy(), optimizer)
        fit(trainer, LEARNING_RATE)
        return trainer.history, trainer.evaluate()["accuracy"]
