"""hogwild: workers update the shared parameters without waiting for each other."""
from __future__ import annotations

from typing import TYPE_CHECKING

from tinydl.parallel.execution.updates import AtOnce
from tinydl.parallel.strategies.base import Strategy

if TYPE_CHECKING:
    from tinydl.parallel.execution.epoch import Setting


class Hogwild(Strategy):
    """Every batch an update of its own, made at once by the worker that ran it (Recht et al. 2011).

    The only strategy that is not reproducible: workers change the parameters while others read them, so two runs differ.
    With one thread it is serial training. A batch that is running when Ctrl-C arrives counts as failed.
    """

    name = "hogwild"
    updates = AtOnce

    def cut(self, n_threads: int) -> tuple[int, int]:
        return 1, 1

    def update_signature(self, setting: Setting) -> list[int] | None:
        return super().update_signature(setting) if setting.n_threads == 1 else None
