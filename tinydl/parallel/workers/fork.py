"""New locks in a forked child: a lock that another thread held at the time of the fork would never be released there.

Only the locks are made anew. What the other thread was changing stays half changed: a model that it was training may hold half
an update.
"""
from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["renew_in_children"]


class HasLocks(Protocol):
    def _renew_locks(self) -> None: ...


_owners: weakref.WeakSet[HasLocks] = weakref.WeakSet()


def renew_in_children(owner: HasLocks) -> None:
    """Call owner._renew_locks() in every child that this process forks, as long as `owner` exists."""
    _owners.add(owner)


def _after_fork() -> None:
    for owner in list(_owners):
        owner._renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
