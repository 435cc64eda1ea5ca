"""Locks that end with the process that holds them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hms.store.files import storage_error

# --- locks ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(path: Path, *, waiting: str = "", say: Any = None, timeout: float = -1) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process, however it ends.

    Raises
    ------
    TimeoutError
        If ``timeout`` seconds pass first.
    """
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(path)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            if timeout == 0:
                raise TimeoutError(str(path)) from None
            if say is not None and waiting:
                say(waiting)
            try:
                guard.acquire(timeout=timeout)
            except Timeout:
                raise TimeoutError(str(path)) from None
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        raise storage_error(error, path.parent) from error
    try:
        yield
    finally:
        guard.release()
