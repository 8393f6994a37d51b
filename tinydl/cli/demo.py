"""tinydl demo: handwritten digits, serially and in parallel."""
from __future__ import annotations

import argparse
import importlib.util
from itertools import pairwise
from math import cos, pi, sqrt
from pathlib import Path

from tinydl import AccuracyEvaluator, History, Model, Trainer, datasets, losses, nn, optim
from tinydl.cli.common import check_picture, fit, plural, thread_count
from tinydl.cli.errors import CommandError
from tinydl.cli.progress import Progress, table
from tinydl.data import ArrayDataset, Split
from tinydl.parallel import usable_cpus

LEARNING_RATE = 2e-3
DROPOUT = 0.4
HIDDEN = (512, 256)
PICTURE = Path("tinydl-demo.png")


def run(options: argparse.Namespace) -> int:
    set_defaults(options, 40, HIDDEN)
    thread_count(options.threads)
    picture, note = where_to_draw(options)
    data = datasets.digits(min(options.batch_size, 1_000)).split(0.8, 0.0, 0.2, seed=options.seed)
    assert data.test is not None
    train = data.train
    threads = thread_count(options.threads, train.n_batches, train.n_samples)
    if not options.threads:
        threads = min(threads, max(1, train.n_batches // 5))       # at least five updates an epoch, on any machine
    sizes = (64, *options.hidden, 10)
    n, n_test = train.n_samples, data.test.n_samples
    print(f"{n + n_test:,} handwritten digits of 8x8 pixels: {n:,} to train on, {n_test:,} to test\n"
          f"{plural(options.epochs, 'epoch')} of {train.n_batches:,} batches of {train.batch_size}; "
          f"network {'-'.join(map(str, sizes))}, dropout {DROPOUT:g}, Adam\n", flush=True)

    runs = [_train("serial", 1, data, sizes, options), _train("parallel", threads, data, sizes, options)]
    rows = [("mode", "threads", "updates", "seconds", "samples/s", "speed-up", "test accuracy")]
    speeds = [sum(h["samples"]) / max(sum(h["seconds"]), 1e-9) for h, _ in runs]
    for mode, n, (history, accuracy), speed in zip(("serial", "parallel"), (1, threads), runs, speeds, strict=True):
        rows.append((mode, str(n), f"{sum(history['updates']):,}", f"{sum(history['seconds']):.2f}", f"{speed:,.0f}",
                     f"{speed / speeds[0]:.2f}", f"{100 * accuracy:.1f} %"))
    print(f"\n{table(rows)}\n")
    print(_explanation(options.threads, threads, speeds[1] / speeds[0]))
    draw({"serial": runs[0][0], "parallel": runs[1][0]}, picture, note)
    return 0


def set_defaults(options: argparse.Namespace, epochs: int, hidden: tuple[int, ...]) -> None:
    """What nobody said; the help says the same."""
    options.epochs, options.batch_size = options.epochs or epochs, options.batch_size or 32
    options.hidden = options.hidden or hidden


class Cooling(Progress):
    """Lowers the learning rate from epoch to epoch, along a half cosine (Loshchilov and Hutter 2017)."""

    def __init__(self, title: str, optimizer: optim.Optimizer, n_epochs: int) -> None:
        super().__init__(title)
        self.optimizer, self.rate, self.n_epochs = optimizer, optimizer.rate(0), n_epochs

    def start_epoch(self, epoch: int) -> None:
        self.optimizer.lr = self.rate * (1 + cos(pi * (epoch - 1) / self.n_epochs)) / 2


def _train(mode: str, threads: int, data: Split[ArrayDataset], sizes: tuple[int, ...],
           options: argparse.Namespace) -> tuple[History, float]:
    model = mlp(sizes, options.seed, DROPOUT)
    # an update on n batches has a gradient sqrt(n) times less noisy, and there are n times fewer of them
    rate = LEARNING_RATE * sqrt(threads)
    optimizer = optim.Adam(rate)
    monitor = Cooling(f"{mode:<8}", optimizer, options.epochs)
    with Trainer(options.epochs, monitor, AccuracyEvaluator(), mode == "parallel", threads, seed=options.seed) as trainer:
        trainer.init(Split(data.train, None, data.test), model, losses.SoftmaxCrossEntropy(), optimizer)
        fit(trainer, rate)
        return trainer.history, trainer.evaluate()["accuracy"]


def mlp(sizes: tuple[int, ...], seed: int, dropout: float) -> Model:
    """Linear layers of these sizes with ReLU (and dropout) between them."""
    layers: list[nn.Layer] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        if i:
            layers += [nn.ReLU(), nn.Dropout(dropout)]
        layers.append(nn.Linear(inputs, outputs))
    return Model(nn.Sequential(*layers), seed=seed, name="MLP " + "-".join(map(str, sizes)))


def _explanation(asked: int, threads: int, speed_up: float) -> str:
    if threads == 1:
        return ("One thread, as asked for." if asked else "One thread: there is one usable CPU (see `tinydl info`)."
                if usable_cpus() == 1 else "One thread: for more there are too few batches.")
    text = (f"Both start from the same weights. In parallel, {threads} threads take a batch each, and\n"
            f"their {threads} batches make one update (strategy group): fewer updates, with\nsqrt({threads}) times the rate.")
    if speed_up < 1:
        text += ("\nParallel was slower this time: other programs keep the CPUs busy, or there are\n"
                 "more threads than CPUs, or too little work a batch (try --batch-size 128).")
    return text


def where_to_draw(options: argparse.Namespace) -> tuple[Path | None, str]:
    """Where to draw, and what to say if nowhere; CommandError where a picture was asked for and cannot be."""
    if options.no_plot:
        return None, ""
    path = Path(options.plot) if options.plot else PICTURE
    if importlib.util.find_spec("matplotlib") is None:
        note = "Loss curves need matplotlib: pip install 'tinydl-parallel[plot]'"
        if options.plot:
            raise CommandError(note[0].lower() + note[1:])
        return None, note
    try:
        check_picture(path, "--plot")
    except CommandError as e:
        if options.plot:
            raise
        return None, f"No loss curves: {str(e).removeprefix('--plot ')}."
    return path, ""


def draw(histories: dict[str, History], picture: Path | None, note: str) -> None:
    """The loss curves, and say where they are; or say `note`, if there is any."""
    if picture is not None:
        try:
            from tinydl.plotting import plot_histories
            plot_histories(histories, picture)
            note = f"Loss curves: {picture}"
        except OSError as e:
            note = f"No loss curves: {picture} cannot be written ({e.strerror})."
    if note:
        print(note)
