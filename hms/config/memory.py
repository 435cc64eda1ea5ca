"""Memory of a process with millions of small objects: given back, and not scanned for garbage."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

from hms.config.threads import Shared

MANY = 10_000
"""From so many items on, looking for what can be freed is worth its time."""


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
def _lean() -> Iterator[None]:
    import pyarrow

    was_on, pool = gc.isenabled(), pyarrow.default_memory_pool()
    gc.disable()
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    try:
        yield
    finally:
        pyarrow.set_memory_pool(pool)
        if was_on:
            gc.enable()


lean = Shared(_lean)
"""Plan or make tables of a million items with less time and memory, whose results live long.

The garbage collector does not look through their records again and again, and Arrow takes memory from the C
library, which gives it back; its own pool keeps some.
"""
