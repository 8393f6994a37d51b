"""tinydl demo --sequences: the sea's temperature off Peru, three months ahead by an LSTM, beside naive forecasts."""
from __future__ import annotations

import argparse
from itertools import pairwise
from typing import Any

import numpy as np

from tinydl import Model, Trainer, datasets, losses, nn, optim
from tinydl.cli.common import fit, plural, thread_count
from tinydl.cli.demo import Cooling, draw, set_defaults, where_to_draw
from tinydl.cli.progress import table
from tinydl.data import Split, WindowDataset

Array = np.ndarray[Any, Any]

WINDOW, HORIZON, YEAR = 24, 3, 12
FIRST_YEAR = 1950
LEARNING_RATE = 1e-2
#: parts of a batch, which threads take: as many whatever the number of threads, up to this, so that it changes no bit
PARTS = 4


def run(options: argparse.Namespace) -> int:
    set_defaults(options, 20, (32,))
    thread_count(options.threads)
    picture, note = where_to_draw(options)
    given = datasets.el_nino(WINDOW, HORIZON)
    celsius = given.series[:, 0]
    # months that lie in a window of the training part, or behind it as its target
    known = len(given.split(train=0.8, test=0.2).train) + WINDOW + HORIZON - 1
    mean, deviation = celsius[:known].mean(), celsius[:known].std()
    windows = WindowDataset((celsius - mean) / deviation, WINDOW, HORIZON, batch_size=min(options.batch_size, 1_000))
    data = windows.split(train=0.8, test=0.2)
    train, test = data.train, data.test
    assert test is not None
    threads = options.threads or min(PARTS, thread_count(0, train.n_batches * PARTS, train.n_samples))
    model = forecaster(options.hidden, options.seed)
    print(f"Temperature of the sea's surface off Peru, {len(celsius):,} months from {FIRST_YEAR}: of {WINDOW}\n"
          f"in a row the next {HORIZON} are forecast; "
          f"{train.n_samples:,} such windows to train on, then {test.n_samples:,} to test\n"
          f"{plural(options.epochs, 'epoch')} of {train.n_batches:,} batches of {train.batch_size}; {model.name}, "
          f"{model.num_parameters:,} parameters; Adam; {plural(threads, 'thread')}\n", flush=True)
    optimizer = optim.Adam(LEARNING_RATE)
    with Trainer(options.epochs, Cooling("LSTM", optimizer, options.epochs), None, True, threads, seed=options.seed,
                 strategy="shard", shards_per_batch=max(PARTS, threads)) as trainer:
        trainer.init(Split(train, None, None), model, losses.MeanSquaredError(), optimizer)
        fit(trainer, LEARNING_RATE)
        history = trainer.history

    x, y = _samples(test)
    forecasts = {**naive(celsius[:known], *_samples(train), x, test), "LSTM": model.predict(x)}
    rows = [("forecast", *(f"{h + 1} month{'s' * (h > 0)} ahead" for h in range(HORIZON)), "all")]
    for name, forecast in forecasts.items():
        squares = (np.reshape(forecast, y.shape) - y) ** 2 * deviation ** 2
        rows.append((name, *(f"{np.sqrt(squares[:, h].mean()):.2f}" for h in range(HORIZON)), f"{np.sqrt(squares.mean()):.2f}"))
    print(f"\n{table(rows)}\n\nRoot of the mean squared error, degrees Celsius. The LSTM was trained\nin "
          f"{sum(history['seconds']):.2f} seconds.")
    draw({"LSTM": history}, picture, note)
    return 0


def forecaster(hidden: tuple[int, ...], seed: int) -> Model:
    """LSTM layers of these sizes on top of each other, and a linear one behind the last step."""
    last = len(hidden) - 1
    layers = [nn.LSTM(n, m, return_sequences=i < last) for i, (n, m) in enumerate(pairwise((1, *hidden)))]
    return Model(nn.Sequential(*layers, nn.Linear(hidden[-1], HORIZON)), seed=seed, name="LSTM " + "-".join(map(str, hidden)))


def naive(known: Array, train_x: Array, train_y: Array, x: Array, test: WindowDataset) -> dict[str, Array]:
    """Forecasts without a network. known: the months, degrees Celsius, that training has seen."""
    scale = known.mean(), known.std()
    of_months = np.array([known[month::YEAR].mean() for month in range(YEAR)])
    assert test.rows is not None
    months = test.rows[:, None] + WINDOW + np.arange(HORIZON)
    a, b = (np.column_stack([v[:, :, 0], np.ones(len(v))]) for v in (train_x, x))
    return {"the last month again": np.repeat(x[:, -1], HORIZON, 1),
            "a year before": x[:, WINDOW - YEAR:WINDOW - YEAR + HORIZON, 0],
            "mean of that month": (of_months[months % YEAR] - scale[0]) / scale[1],
            "linear regression": b @ np.linalg.lstsq(a, train_y, rcond=None)[0]}


def _samples(data: WindowDataset) -> tuple[Array, Array]:
    samples = [data[i] for i in range(len(data))]
    return np.stack([x for x, _ in samples]), np.stack([y for _, y in samples])
