"""Ctrl-C at the wrong moment: held back while an update and its books must go together."""
from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["uninterrupted"]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within it a SIGINT waits; it is delivered at the end. In other threads than the main one none arrives anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):        # ignored, the system's own, or not set from Python
        yield
        return
    came = False

    def note(number: int, frame: object) -> None:
        nonlocal came
        came = True
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
