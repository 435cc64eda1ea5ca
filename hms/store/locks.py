"""Locks that end with the process that holds them."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hms.errors import StorageError
from hms.store.files import make_folder, storage_error

_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL})


@contextlib.contextmanager
def lock(path: Path, *, waiting: str = "", say: Any = None, timeout: float = -1) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process, however it ends.

    Raises `TimeoutError` if ``timeout`` seconds pass first, and `StorageError` if the file system has no
    such locks.
    """
    from filelock import Timeout

    try:
        make_folder(path.parent)
        guard = _guard(path)
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
    except (OSError, NotImplementedError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise _explained(error, path) from error
    try:
        _refuse_soft(guard, path)
        yield
    finally:
        guard.release()


def _guard(path: Path) -> Any:
    """Return a lock of the system's, never one that is only a file and outlives its process."""
    from filelock import FileLock

    return FileLock(path, fallback_to_soft=False) if _can_choose() else FileLock(path)


@cache
def _can_choose() -> bool:
    from filelock import FileLock

    return "fallback_to_soft" in inspect.signature(FileLock.__init__).parameters


def _refuse_soft(guard: Any, path: Path) -> None:
    """Raise if a library that cannot be told otherwise took a soft lock."""
    from filelock import SoftFileLock

    if isinstance(guard, SoftFileLock):
        raise _no_locks(path, "they are only imitated there")


def _explained(error: Exception, path: Path) -> StorageError:
    if isinstance(error, NotImplementedError) or getattr(error, "errno", None) in _UNSUPPORTED:
        return _no_locks(path, str(error.args[-1] if error.args else error))
    assert isinstance(error, OSError)
    return storage_error(error, path.parent, "lock in")


def _no_locks(path: Path, why: str) -> StorageError:
    return StorageError(
        f"cannot lock in {path.parent}: the file system has no locks ({why}), so two runs could overwrite "
        "each other; choose outputs_dir on another disk and export from there, or mount this one with locks"
    )


def is_held(path: Path) -> bool:
    """Tell whether a process holds a lock, without taking it or changing anything."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        os.close(descriptor)
    return False
