"""Ctrl-C at the wrong moment: held back while updates and their books must go together."""
from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Opened", "uninterrupted"]


class uninterrupted:
    """Within it a SIGINT waits: for the end, for `held.let_in()`, or for `with held.open():`, where it is as outside.

    In other threads than the main one none arrives anyway, and nothing is done.
    """

    def __enter__(self) -> uninterrupted:
        self._came = False
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):        # else ignored, the system's own, or not set from Python
                self._before = before
                self.hold()
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True

    def hold(self) -> None:
        """Hold SIGINT back from now on."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._note)

    def deliver(self) -> None:
        """Hold nothing back from now on, and deliver what came."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            if self._came:
                self._came = False
                signal.raise_signal(signal.SIGINT)

    def let_in(self) -> None:
        """Deliver what came until now, and go on holding back."""
        if self._came:
            try:
                self.deliver()
            finally:
                self.hold()

    def open(self) -> Opened:
        """A stretch in which a SIGINT may come."""
        return Opened(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.deliver()


class Opened:
    """A hole in an `uninterrupted`; an interrupt that comes in it finds the rest of the block held again."""

    def __init__(self, held: uninterrupted) -> None:
        self._held = held

    def __enter__(self) -> None:
        try:
            self._held.deliver()
        except BaseException:
            self._held.hold()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held.hold()
