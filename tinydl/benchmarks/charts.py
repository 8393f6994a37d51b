"""Charts of runs: rivals side by side, and speed-up over thread counts. They need matplotlib."""
from __future__ import annotations

from pathlib import Path

from tinydl.benchmarks.compare import PACKAGES, Runs, best_modes, count, medians, split, times
from tinydl.benchmarks.workloads import ALL
from tinydl.plotting import figure

COLOURS = {"tinydl serial": "#d1495b", "tinydl shard": "#d1495b", "tinydl group": "#8c1c2f", "jax": "#2e86ab",
           "torch": "#8d99ae", "numpy": "#edae49", "sklearn": "#66a182"}


def draw_scaling(runs: Runs, path: Path) -> Path:
    """Speed-up over thread counts with the ideal line, an axis a workload."""
    by = medians(runs)
    workloads = sorted({w for w, _ in by})
    fig = figure(figsize=(4.2 * len(workloads), 3.6), dpi=120, layout="constrained")
    for ax, w in zip(fig.subplots(1, len(workloads), squeeze=False)[0], workloads, strict=True):
        counts = sorted(n for v, n in by if v == w)
        ax.plot(counts, counts, color="#bbbbbb", linestyle="--", label="ideal")
        for mode, colour in (("group", "#2e86ab"), ("shard", "#d1495b")):
            line = [(n, times(runs, w, (f"tinydl {mode}", n), ("tinydl serial", 1)))
                    for n in counts if f"tinydl {mode}" in by[w, n]]
            ax.plot(*zip((1, 1.0), *line, strict=True), marker="o", color=colour, label=mode)
        ax.set(title=ALL[w].title, xlabel="threads", ylabel="speed-up", xticks=counts)
        ax.title.set_fontsize(8)
        ax.legend(frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path)
    return path


def draw(runs: Runs, path: Path, note: str = "") -> Path:
    """Bars relative to tinydl's fastest mode: its modes, and the best mode of each rival, with samples/s on top."""
    by = medians(runs)
    threads = sorted({n for _, n in by})
    fig = figure(figsize=(10.5, 3.4 * len(threads)), dpi=120, layout="constrained")
    for ax, n in zip(fig.subplots(len(threads), 1, squeeze=False)[:, 0], threads, strict=True):
        here = {w: group for (w, m), group in by.items() if m == n}
        shown = {w: {**{f"tinydl {mode}": f"tinydl {mode}" for mode in split(group)[0]}, **best_modes(group)}
                 for w, group in here.items()}
        unit = {w: f"tinydl {max(own, key=lambda mode: own[mode])}" for w, group in here.items() if (own := split(group)[0])}
        names = list(dict.fromkeys(who for bars in shown.values() for who in bars))
        names.sort(key=lambda who: [*PACKAGES].index(who) if who in PACKAGES else -1)
        width, highest = 0.84 / len(names), 1.0
        for i, name in enumerate(names):
            at = [k + (i - (len(names) - 1) / 2) * width for k in range(len(here))]
            heights = [times(runs, w, (shown[w][name], n), (unit[w], n)) if name in shown[w] and w in unit else 0.0 for w in here]
            highest = max(highest, *heights)
            drawn = ax.bar(at, heights, width * 0.92, label=name, color=COLOURS.get(name))
            ax.bar_label(drawn, [_short(here[w][shown[w][name]]) if h else "" for w, h in zip(here, heights, strict=True)],
                         fontsize=6.5, padding=2)
        ax.set_xticks(range(len(here)), [ALL[w].title.replace(", batch", "\nbatch") for w in here], fontsize=7)
        ax.set_ylabel("samples/s, tinydl = 1")
        ax.set_title(count(n), loc="left", fontsize=10)
        ax.set_ylim(0, 1.1 * highest)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, ncols=len(names), fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
    if note:
        fig.supxlabel(note, fontsize=6)
    fig.savefig(path)
    return path


def _short(rate: float) -> str:
    return f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate / 1e3:.0f} k" if rate >= 1e4 else f"{rate / 1e3:.2f} k"
