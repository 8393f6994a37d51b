"""The pictures of a report, drawn by matplotlib as SVG."""
# K classes
from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinydl.cli.reading import Array
from tinydl.plotting import figure

BLUE, GREY, RED = "#2563a8", "#8a8f98", "#b4442e"
#: points of a scatter plot at most, and classes with names or numbers in the matrix
POINTS, NAMED, COUNTED = 5000, 40, 15


def svg(draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    """The same bytes for the same picture. Its text stays text, so who looks at it has the fonts for any language."""
    fig = figure(figsize=size, dpi=150, layout="constrained")
    from matplotlib import rc_context
    with rc_context({"svg.hashsalt": "tinydl", "svg.fonttype": "none", "font.size": 10}), warnings.catch_warnings():
        warnings.simplefilter("ignore")         # of signs that matplotlib's own font lacks
        draw(fig.subplots())
        out = io.StringIO()
        fig.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def square(K: int) -> tuple[float, float]:
    """Inches of a matrix of K classes."""
    side = min(8.0, 3.2 + 0.32 * min(K, NAMED))
    return side + 0.6, side


def confusion(ax: Any, counts: Array, names: Sequence[str]) -> None:
    """Coloured by the share of the true class's rows."""
    K = len(names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if K <= COUNTED:
        for i in range(K):
            for j in range(K):
                if counts[i, j]:
                    ax.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", size=9 if K <= 8 else 7,
                            color="white" if shares[i, j] > 0.55 else "black")
    if K <= NAMED:
        shown = [_label(name, 16) for name in names]
        ax.set_xticks(range(K), shown, rotation=0 if max(map(len, shown)) * K < 36 else 90)
        ax.set_yticks(range(K), shown)
    ax.set(xlabel="predicted", ylabel="true")
    ax.figure.colorbar(image, ax=ax, label="share of the true class's rows", shrink=0.8)


def calibration(ax: Any, share: Array, mean: Array, n: Array) -> None:
    """A point for each tenth, as large as it has rows."""
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    ax.plot(mean, share, color=BLUE, linewidth=1)
    ax.scatter(mean, share, 15 + 250 * n / n.max(), color=BLUE, alpha=0.6, linewidths=0)
    ax.set(xlabel="mean probability", ylabel="share that is so", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    _bare(ax)


def errors(ax: Any, error: Array, target: str) -> None:
    """A histogram, between the 0.5 and 99.5 % quantiles."""
    low, high = np.quantile(error, (0.005, 0.995))
    ax.hist(error[(error >= low) & (error <= high)], bins=min(50, max(5, round(len(error) ** 0.5))), color=BLUE, alpha=0.8)
    ax.axvline(0, color=GREY, linewidth=1)
    ax.set(xlabel=f"{_label(target)}: predicted - actual", ylabel="rows")
    _bare(ax)


def scatter(ax: Any, actual: Array, predicted: Array, target: str) -> None:
    """Of many rows an even choice."""
    chosen = slice(None, None, max(1, -(-len(actual) // POINTS)))
    ends = [min(actual.min(), predicted.min()), max(actual.max(), predicted.max())]
    ax.plot(ends, ends, color=GREY, linestyle="--", linewidth=1)
    ax.scatter(actual[chosen], predicted[chosen], 12, color=BLUE, alpha=0.5 if len(actual) < 500 else 0.25, linewidths=0,
               rasterized=True)
    ax.set(xlabel=f"{_label(target)}: actual", ylabel="predicted", aspect="equal")
    _bare(ax)


def training(ax: Any, epochs: Sequence[int], loss: Sequence[float], metric: Sequence[float] | None, name: str,
             best: int | None) -> None:
    """The loss over epochs, and the metric of the validation rows on an axis of its own."""
    ax.plot(epochs, loss, color=GREY, label="training loss")
    ax.set(xlabel="epoch", ylabel="training loss")
    ax.xaxis.get_major_locator().set_params(integer=True)
    _bare(ax)
    if metric is not None:
        other = ax.twinx()
        other.plot(epochs, metric, color=BLUE)
        other.set_ylabel(f"validation {name}", color=BLUE)
        other.spines["top"].set_visible(False)
        if best is not None:
            other.axvline(best, color=RED, linestyle=":", linewidth=1)


def _label(name: str, width: int = 30) -> str:
    """Not too long, and no formula, though matplotlib takes for one what stands between two $."""
    return (name if len(name) <= width else name[:width - 3] + "...").replace("$", r"\$")


def _bare(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)
