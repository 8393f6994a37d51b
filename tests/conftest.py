"""What several test files use."""
import os
import threading
from pathlib import Path

import pytest

import tinydl

# programs that tests start import the tinydl under test, not the source folder that they may be started in
os.environ["PYTHONSAFEPATH"] = "1"
os.environ["PYTHONPATH"] = str(Path(tinydl.__file__).parents[1])


@pytest.fixture(autouse=True)
def no_threads_left():
    """Every test ends with the threads that it began with (or fewer)."""
    before = {t for t in threading.enumerate() if t.name.startswith("tinydl-")}
    yield
    left = [t for t in threading.enumerate() if t.name.startswith("tinydl-") and t not in before]
    for t in left:
        t.join(5)
    assert not [t for t in left if t.is_alive()], f"threads left: {left}"
