"""A model of a text's characters: it learns to guess the next one, and then writes by itself, character by character.

    python examples/characters.py TEXT.txt

TEXT is any text that you have, of 20,000 characters or more. Of the Python language reference (the texts of the module
pydoc_data.topics of CPython 3.11, 465,126 characters) the last tenth took 1.89 bits a character; guessing from the character
before alone, by the pairs of the nine tenths before, 3.34. It takes 26 seconds on one thread of a shared AMD EPYC (Zen 5), and
writes, at the end:

    The "assert" statement

       This
    matched and this method only be an integer are all of the ording with the representifier are not reated the formatted in

With `--transformer --units 128`, two transformer layers with rotary positions in place of the LSTM, it takes 1.80 bits a
character, and 2.3 times as long.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tinydl import Model, Monitor, Trainer, losses, nn, optim
from tinydl.data import ArrayDataset, Split

STEPS = 64          # characters that a sample has


def samples(tokens: np.ndarray, stride: int) -> ArrayDataset:
    """Pieces of the text, and the same one character further on."""
    pieces = np.lib.stride_tricks.sliding_window_view(tokens, STEPS + 1)[::stride]
    return ArrayDataset(pieces[:, :-1].copy(), pieces[:, 1:].copy(), batch_size=32)


def bits_of_pairs(train: np.ndarray, test: np.ndarray, n: int) -> float:
    """Bits a character, where it is guessed from the one before it by counting pairs: the naive model."""
    counts = np.full((n, n), 0.1)
    np.add.at(counts, (train[:-1], train[1:]), 1)
    return float(-np.log2((counts / counts.sum(1, keepdims=True))[test[:-1], test[1:]]).mean())


def write(model: Model, alphabet: list[str], start: str, length: int, temperature: float, seed: int) -> str:
    """`start` gone on with. temperature: below 1 the likelier characters become more so."""
    rng, text, stepper = np.random.default_rng(seed), start, model.stepper()
    for c in start:
        scores = stepper.step(alphabet.index(c))
    for _ in range(length):
        p = np.exp((scores - scores.max()) / temperature, dtype=np.float64)
        token = int(rng.choice(len(alphabet), p=p / p.sum()))
        text += alphabet[token]
        scores = stepper.step(token)
    return text


def main(arguments: list[str] | None = None) -> dict[str, float]:
    p = argparse.ArgumentParser(description="Learn a text's characters, and write.")
    p.add_argument("text", type=Path, help="a file of text, UTF-8")
    p.add_argument("--units", type=int, default=192)
    p.add_argument("--transformer", action="store_true", help="two transformer layers in place of an LSTM")
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--temperature", type=float, default=0.6)
    p.add_argument("--length", type=int, default=400, help="characters to write")
    options = p.parse_args(arguments)

    text = options.text.read_text(encoding="utf-8")
    if len(text) < 20_000:
        p.error(f"{options.text} has {len(text):,} characters; 20,000 are the least to learn from")
    alphabet = sorted(set(text))
    numbers = {c: i for i, c in enumerate(alphabet)}
    tokens = np.array([numbers[c] for c in text])
    cut = int(0.9 * len(tokens))                # the end of the text is for the test
    train, test = samples(tokens[:cut], STEPS // 2), samples(tokens[cut:], STEPS)
    print(f"{len(text):,} characters, {len(alphabet)} different ones")

    n, units = len(alphabet), options.units
    if options.transformer:
        blocks = [nn.TransformerEncoderLayer(units, 4, 4 * units, 0.1, "gelu", norm_first=True, causal=True, rotary=True)
                  for _ in range(2)]
        layers: list[nn.Layer] = [nn.Embedding(n, units), *blocks, nn.LayerNorm(units), nn.Linear(units, n)]
    else:
        layers = [nn.Embedding(n, 48), nn.LSTM(48, units), nn.Dropout(0.1), nn.Linear(units, n)]
    model = Model(nn.Sequential(*layers), seed=0, name="characters")
    updates = options.epochs * train.n_batches
    with Trainer(options.epochs, Monitor(), None, options.threads > 1, options.threads, seed=0, strategy="shard",
                 shards_per_batch=4) as trainer:
        trainer.init(Split(train, None, test), model, losses.SoftmaxCrossEntropy(),
                     optim.Adam(optim.schedules.Cosine(4e-3, total_updates=updates), clip_norm=1.0))
        trainer.train()
        bits = trainer.evaluate()["loss"] / np.log(2)
    naive = bits_of_pairs(tokens[:cut], tokens[cut:], len(alphabet))
    print(f"\nbits a character on the text's last tenth: {bits:.2f}; from the character before alone: {naive:.2f}\n")
    print(write(model, alphabet, text[:20], options.length, options.temperature, seed=0))
    return {"bits": bits, "naive": naive}


if __name__ == "__main__":
    main()
