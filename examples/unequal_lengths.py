"""Classify sequences of unequal lengths: batches of similar lengths, padded, with the lengths as a second input.

    python examples/unequal_lengths.py

The sequences are made, and not real: 20 to 200 steps of a noisy oscillation that becomes faster, becomes slower, or does
neither. 94.6 percent of 800 that were held out are recognised; naming the commonest class is right of 33.8. It takes 9 seconds
on one thread of a shared AMD EPYC (Zen 5).
"""
from __future__ import annotations

import argparse

import numpy as np

from tinydl import AccuracyEvaluator, Model, Monitor, Trainer, losses, nn, optim
from tinydl.data import SequenceDataset

CLASSES = "slower", "steady", "faster"


def made(n: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """n sequences (20 to 200, 1), and their classes."""
    rng, sequences = np.random.default_rng(seed), []
    labels = rng.integers(0, 3, n)
    for label in labels:
        steps = rng.integers(20, 201)
        change = rng.uniform(0.4, 0.7) * (label - 1)            # of the frequency, from the beginning to the end
        frequency = rng.uniform(0.08, 0.12) * (1 + change * np.linspace(-1, 1, steps))
        wave = np.sin(2 * np.pi * (np.cumsum(frequency) + rng.uniform()))
        sequences.append((wave + rng.normal(0, 0.3, steps)).astype("float32")[:, None])
    return sequences, labels


def main(arguments: list[str] | None = None) -> dict[str, float]:
    p = argparse.ArgumentParser(description="Classify sequences of unequal lengths.")
    p.add_argument("--sequences", type=int, default=4_000)
    p.add_argument("--epochs", type=int, default=15)
    p.add_argument("--threads", type=int, default=1)
    options = p.parse_args(arguments)

    data = SequenceDataset(*made(options.sequences), batch_size=32)
    parts = data.split(train=0.8, test=0.2, seed=0)
    train, test = parts.train, parts.test

    x, lengths = nn.Input((data.max_length, 1), name="x"), nn.Input((), "int64", name="lengths")
    both_ways = nn.LSTM(1, 32, bidirectional=True)([x, lengths])
    y = nn.Linear(64, len(CLASSES))(nn.MeanSteps()([both_ways, lengths]))
    model = Model(inputs=[x, lengths], outputs=y, seed=0)

    updates = options.epochs * train.n_batches
    with Trainer(options.epochs, Monitor(), AccuracyEvaluator(), options.threads > 1, options.threads, seed=0, strategy="shard",
                 shards_per_batch=4) as trainer:
        trainer.init(parts, model, losses.SoftmaxCrossEntropy(),
                     optim.Adam(optim.schedules.Cosine(1e-2, total_updates=updates), clip_norm=1.0))
        trainer.train()
        accuracy = trainer.evaluate()["accuracy"]
    commonest = float(np.mean(test.y == np.bincount(train.y).argmax()))
    print(f"\nright of {len(test):,} sequences: {accuracy:.1%}; naming the commonest class: {commonest:.1%}")

    some = test.subset([0, 1, 2])
    for steps, y, scores in zip(some.lengths, some.y, model.predict(some), strict=True):
        print(f"  {steps:>3} steps, {CLASSES[y]}: {CLASSES[scores.argmax()]}")
    return {"accuracy": accuracy, "commonest": commonest}


if __name__ == "__main__":
    main()
