"""Memory that a process holds after it needed more."""

from __future__ import annotations

import contextlib
import ctypes
import sys


def give_back() -> None:
    """Give memory that is no longer used back to the system, where the C library can.

    A freed column of a million rows stays with the process otherwise, for what it may need later.
    """
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
