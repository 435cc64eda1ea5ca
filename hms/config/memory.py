"""Memory of a process with millions of small objects: given back, and not scanned for garbage."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator


def give_back() -> None:
    """Give memory that is no longer used back to the system, where the C library can.

    A freed column of a million rows stays with the process otherwise, for what it may need later.
    """
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector from looking through a million records of items again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
