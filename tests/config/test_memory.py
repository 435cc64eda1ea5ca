"""Memory that a program keeps after it freed it."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy as np
from hms.config.memory import keep_little

def held():
    status = open("/proc/self/status").read()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024

if sys.argv[1] == "little":
    keep_little()
np.ones(1 << 20)  # freed, it moves the C library's own limit above its size
before = held()
arrays = [array for _ in range(20) for array in (np.ones(1 << 19), bytes(100_000))]
del arrays[::2]
print(held() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_large_arrays_that_were_freed_leave_the_program():
    """Twenty of 4 MB among small ones that stay."""
    kept = [
        float(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)
        for how in ("little", "much")
    ]
    assert kept[0] < 5 < 70 < kept[1]
