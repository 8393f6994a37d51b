"""What a trainer does that trains together with other ranks (tinydl.parallel.ranks): how training begins and is broken off."""
from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tinydl.parallel.errors import RanksDifferError, TrainingError
from tinydl.parallel.strategies import Group, Local, Shard, Strategy
from tinydl.parallel.strategies.local import length

if TYPE_CHECKING:
    from tinydl.parallel.ranks import Ranks
    from tinydl.progress import Resumable


# tinydl.parallel.ranks is imported where it is needed: importing tinydl takes no longer for it


def check_strategy(strategy: Strategy, ranks: Any) -> None:
    """ValueError where there is nothing of an update or a round that ranks could share, or where what they do depends on how
    many ranks and threads there are."""
    several = ("leave strategy= out and give batches_per_update=8, say, or strategy='shard' and shards_per_batch=8, or for a "
               "slow network strategy=Local(n_models=8) of tinydl.parallel.strategies")
    if not isinstance(strategy, (Group, Shard, Local)):
        raise ValueError(f"ranks={ranks!r} with strategy {strategy.name!r}: ranks share the batches of each update of 'group' or "
                         f"'shard', or the copies of 'local': {several}")
    if None in vars(strategy).values():
        raise ValueError(f"ranks={ranks!r} needs an update that does not depend on how many ranks and threads there are: "
                         f"{several}")


def join(given: Any, timeout: float, seed: int, drawn: bool) -> tuple[Ranks, int]:
    """The ranks, and the seed: if it was `drawn` at random, that of rank 0."""
    from tinydl.parallel import ranks
    joined = ranks.join(given, timeout)
    first = joined.swap("Trainer(...)", str(seed) if drawn else None)[0]
    return joined, int(first) if drawn and first is not None else seed


def say_shares(ranks: Ranks, strategy: Strategy) -> None:
    """Warn, on rank 0, where some ranks have more to do than others."""
    from tinydl.parallel.ranks import share
    batches, parts = strategy.cut(1)
    copies, n = strategy.copies(1), ranks.size
    k = copies or batches * parts
    sizes = [len(share(k, k, rank, n)) for rank in range(n)]
    if ranks.rank == 0 and len(set(sizes)) > 1:
        even = n << max(0, (k // n).bit_length() - 1)
        name = "n_models" if copies else "batches_per_update" if parts == 1 else "shards_per_batch"
        do = f"train {', '.join(map(str, sizes))} copies of the model" if copies else (
            f"run {', '.join(map(str, sizes))} batches of each update")
        warnings.warn(f"{n} ranks {do}: {name}={even} or {2 * even} would be the same number for all", stacklevel=5)


def begin(trainer: Resumable, ranks: Ranks, asked: str | None, shuffle: bool) -> None:
    """Training begins on all ranks, at the same place; RanksDifferError where it is not the same."""
    from tinydl.parallel.ranks.describe import checksum
    from tinydl.parallel.ranks.share import width
    model, resources, epoch = trainer.model, trainer.resources, trainer.progress.under_way
    with trainer.runtime.lock:
        setting, _ = trainer.runtime.setting(asked)
    n, rows = (length(resources), 0) if setting.copies else (
        model.params.size + model.statistics.size, width(setting.k, ranks.size))
    ranks.begin(n, model.dtype, rows, {
        "epoch": str(trainer.epoch), "number of batches done": str(trainer.batches_done),
        "number of updates": str(resources.state.t),
        "setting": f"{setting.batches} batches an update in {setting.parts} parts, {setting.copies} copies",
        "order": f"shuffle={shuffle if epoch is None else epoch.shuffle}",
        "set of parameters": checksum(model.params, model.statistics),
        "optimizer state": checksum(*resources.state.vectors.values())}, lambda finished: trainer.stop(finished=finished))


@contextmanager
def parting(ranks: Ranks | None) -> Iterator[None]:
    """What is raised within ends the training of all ranks, which hear of it; but for what all of them raise."""
    try:
        yield
    except BaseException as e:
        if ranks is not None and not isinstance(e, (TrainingError, RanksDifferError)):
            ranks.part(e)
        raise


@contextmanager
def sigterm(ranks: Ranks | None) -> Iterator[None]:
    """Where ranks train, SIGTERM raises SystemExit within: MPIs send it, to all, as a supervisor does. Unless the program has a
    handler of its own."""
    ours = (ranks is not None and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    if ours:
        signal.signal(signal.SIGTERM, _exit_terminated)
    try:
        yield
    except BaseException as e:
        if ranks is not None and not isinstance(e, Exception):      # within `uninterrupted` any was a KeyboardInterrupt
            ranks.part(e)
        raise
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit_terminated(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)
