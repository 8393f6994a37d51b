"""What several test files use."""
import threading

import pytest


@pytest.fixture(autouse=True)
def no_threads_left():
    """Every test ends with the threads that it began with (or fewer)."""
    before = {t for t in threading.enumerate() if t.name.startswith("tinydl-")}
    yield
    left = [t for t in threading.enumerate() if t.name.startswith("tinydl-") and t not in before]
    for t in left:
        t.join(5)
    assert not [t for t in left if t.is_alive()], f"threads left: {left}"
