"""Memory that a program keeps after it freed it."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from hms.config.memory import one_heap

if sys.argv[1] == "one":
    one_heap()
met = threading.Barrier(4)
threads = [threading.Thread(target=lambda: (bytes(100_000), met.wait())) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
library = ctypes.CDLL(None)
library.malloc_info(0, ctypes.c_void_p.in_dll(library, "stdout"))
library.fflush(None)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library is not GNU's")
def test_threads_take_memory_from_one_heap():
    programs = [[sys.executable, "-c", PROGRAM, how] for how in ("one", "own")]
    said = [subprocess.check_output(program, text=True) for program in programs]
    assert said[0].count("<heap nr=") == 1 < said[1].count("<heap nr=")
