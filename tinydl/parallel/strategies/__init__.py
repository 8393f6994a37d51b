"""Strategies: how an epoch's batches become updates.

    strategy   an update is                                        same result as serial    same bits for any threads
    serial     a batch                                             it is serial             yes
    group      k batches, their mean gradient                      of k-fold batches        k fixed: yes
    shard      a batch, in k parts                                 yes, up to rounding (*)  k fixed: yes
    local      k workers' own updates, averaged now and then       no (documented)          k fixed: yes
    hogwild    a batch, made at once, beside the others'           no                       no
    auto       the fastest of the others that fit, measured        serial's or group's      k fixed: yes

(*) not with BatchNorm, which normalises each part by itself, unless its running statistics are frozen; auto does not cut its
    batches.
"""
from __future__ import annotations

from inspect import signature

from tinydl.parallel.strategies.auto import Auto, Candidate
from tinydl.parallel.strategies.base import STRATEGIES, Strategy
from tinydl.parallel.strategies.group import Group
from tinydl.parallel.strategies.hogwild import Hogwild
from tinydl.parallel.strategies.local import Local
from tinydl.parallel.strategies.serial import Serial
from tinydl.parallel.strategies.shard import Shard

__all__ = ["Auto", "Candidate", "Group", "Hogwild", "Local", "Serial", "Shard", "Strategy", "get"]


def get(strategy: str | Strategy, **counts: int | None) -> Strategy:
    """A strategy by its name, with those counts that are not None, or the one given. ValueError lists those that exist,
    or says which count this one does not use."""
    given = {name: count for name, count in counts.items() if count is not None}
    if isinstance(strategy, Strategy):
        if given:
            raise ValueError(f"{', '.join(given)}: give it to {type(strategy).__name__}(...) instead")
        return strategy
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        raise ValueError(f"strategy={strategy!r}: one of {', '.join(STRATEGIES)}, or a Strategy")
    kind = STRATEGIES[strategy]
    if given and (unused := sorted(given.keys() - signature(kind).parameters.keys())):
        raise ValueError(f"{', '.join(unused)}: strategy {strategy!r} does not use it")
    return kind(**given)
