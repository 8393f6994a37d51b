"""What is asked of Windows in another way than of Linux. The other tests run there too."""
import subprocess
import sys
import threading
import time

import pytest

from tinydl._kernels import engine
from tinydl.parallel.host import threads, windows
from tinydl.serialization import write_atomically

on_windows = pytest.mark.skipif(sys.platform != "win32", reason="Windows")


@pytest.mark.skipif(sys.platform == "win32", reason="not Windows")
def test_other_systems_are_not_asked():
    assert windows.affinity_cpus() is None and windows.free_memory() is None


@pytest.mark.skipif(sys.platform == "darwin", reason="its perf_counter stops while it sleeps")
def test_the_engines_clock_is_pythons_performance_counter():
    before, now, after = time.perf_counter_ns(), engine.clock(), time.perf_counter_ns()
    assert before - 1000 <= now <= after + 1000         # Windows counts in ticks, 100 ns as a rule


@on_windows
def test_a_process_that_is_bound_to_one_cpu():
    bound = ("import ctypes; k = ctypes.windll.kernel32; k.SetProcessAffinityMask(ctypes.c_void_p(-1), ctypes.c_size_t(1)); "
             "from tinydl.parallel.host import threads; print(threads.affinity_cpus())")
    done = subprocess.run([sys.executable, "-c", bound], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "1", done.stderr
    assert threads.affinity_cpus() >= 1


@on_windows
def test_a_file_that_is_open_elsewhere_is_replaced_when_it_is_closed(tmp_path, monkeypatch):
    place = tmp_path / "m.tinydl"
    place.write_bytes(b"old")
    tried = threading.Event()
    monkeypatch.setattr(time, "sleep", lambda seconds, sleep=time.sleep: (tried.set(), sleep(seconds)))
    reader = place.open("rb")

    def close():
        assert tried.wait(10)
        reader.close()
    closing = threading.Thread(target=close)
    closing.start()
    write_atomically(place, lambda f: f.write(b"new"))
    closing.join()
    assert place.read_bytes() == b"new"
    with place.open("rb"), pytest.raises(PermissionError):
        write_atomically(place, lambda f: f.write(b"newer"))
    assert place.read_bytes() == b"new" and list(tmp_path.iterdir()) == [place]
