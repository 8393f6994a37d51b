"""The log "tinydl" as training writes it. Its handlers are somebody's: what one raises (a closed stderr, a broken pipe, a
server that is gone) is lost, and ends no training."""
from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger whose handlers may fail."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        with suppress(Exception):
            super().log(level, msg, *args, stacklevel=2, **kwargs)      # of whoever has called


log = Log(logging.getLogger("tinydl"), {})
