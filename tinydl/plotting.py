"""Curves as pictures, with matplotlib where it is installed; never a window."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.history import History


def figure(**options: Any) -> Any:
    """A matplotlib Figure that needs no display; ImportError says which extra to install."""
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise ImportError("pictures need matplotlib: pip install 'tinydl-parallel[plot]'") from e
    return Figure(**options)


def _saved(fig: Any, path: Path) -> Path:
    """As `path`, whose folder is made where it is missing, as for every file that is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path)
    return path


def plot_histories(histories: Mapping[str, History], path: Path) -> Path:
    """Training and validation loss over epochs (and accuracy beside it where there is some), a line a history."""
    accuracy = any(r.accuracy is not None for h in histories.values() for r in h)
    fig = figure(figsize=(10 if accuracy else 6, 4), dpi=120, layout="constrained")
    axes = fig.subplots(1, 2 if accuracy else 1, squeeze=False)[0]
    for number, (name, history) in enumerate(histories.items()):
        epochs, colour = [r.epoch for r in history], f"C{number}"
        label = f"{name} " if name else ""
        axes[0].plot(epochs, history["loss"], color=colour, label=label + "training")
        if any(r.validation_loss is not None for r in history):
            axes[0].plot(epochs, history["validation_loss"], color=colour, linestyle="--", label=label + "validation")
        if accuracy:
            axes[1].plot(epochs, [r.accuracy for r in history], color=colour, label=name or None)
    axes[0].set(xlabel="epoch", ylabel="loss", yscale="log")
    axes[0].legend(frameon=False)
    if accuracy:
        axes[1].set(xlabel="epoch", ylabel="validation accuracy")
        if any(histories):
            axes[1].legend(frameon=False)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return _saved(fig, path)


def plot_curves(members: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Training loss and the figure on rows set aside ("loss", "validation") over epochs, a line each; a dot at "best_epoch"."""
    fig = figure(figsize=(10, 4), dpi=120, layout="constrained")
    axes = fig.subplots(1, 2)
    for name, curves in members.items():
        axes[0].plot(range(1, len(curves["loss"]) + 1), curves["loss"], label=name)
        line = axes[1].plot(range(1, len(curves["validation"]) + 1), curves["validation"], label=name)[0]
        if curves["best_epoch"]:
            axes[1].plot(curves["best_epoch"], curves["validation"][curves["best_epoch"] - 1], "o", color=line.get_color())
    for ax, what in zip(axes, ("training loss", "rows set aside"), strict=True):
        ax.set(xlabel="epoch", ylabel=what)
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].legend(frameon=False)
    return _saved(fig, path)


def plot_rates(rates: Any, path: Path) -> Path:
    """The learning rate over updates."""
    fig = figure(figsize=(6, 3), dpi=120, layout="constrained")
    ax = fig.subplots()
    ax.plot(rates)
    ax.set(xlabel="update", ylabel="learning rate")
    ax.spines[["top", "right"]].set_visible(False)
    return _saved(fig, path)
