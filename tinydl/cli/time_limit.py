"""TimeLimit: training ends in time."""
from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from tinydl.callbacks import Callback

if TYPE_CHECKING:
    from tinydl.training import Training


class TimeLimit(Callback):
    """Ends training after so many seconds of it, in the middle of an epoch too; that is its end, and no interruption. What a
    training took before a checkpoint counts. seconds: None is no limit.

    A thread of its own sleeps until then: between two updates of an epoch no callback is asked.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.reached = False
        self._spent = 0.0
        self._begun: float | None = None        # while it trains
        self._timer: threading.Timer | None = None

    def on_init(self, trainer: Training) -> None:
        self._spent, self.reached = 0.0, False

    def on_train_start(self, trainer: Training) -> None:
        self._begun = time.monotonic()
        if self.seconds is None:
            return

        def end() -> None:
            self.reached = True
            trainer.stop(finished=True)
        if self._spent >= self.seconds:
            return end()
        self._timer = threading.Timer(self.seconds - self._spent, end)
        self._timer.daemon = True
        self._timer.start()

    def on_train_end(self, trainer: Training) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._spent, self._begun = self._so_far(), None

    def _so_far(self) -> float:
        return self._spent + (0.0 if self._begun is None else time.monotonic() - self._begun)

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self._so_far()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._spent = state["spent"]
