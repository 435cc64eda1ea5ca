"""Checks of paths, and reading of small files: whole, and only regular ones.

Where the machine fails, the standard library answers False or an empty list; here it raises.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from hms.errors import reraise_fault

MOST_BYTES = 1 << 30
"""Bytes of a table or a key that are read at most: 100 times those of the competition's votes."""


def regular_bytes(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file, read once.

    A configuration may come with a run folder from somebody else: a pipe is not waited for, a device not read
    without end. Raises `OSError` if it cannot be read, is not a regular file or too large.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if status.st_size > most:
            problem = f"it has {status.st_size} bytes, more than the {most} that are read whole"
            raise OSError(errno.EFBIG, problem, str(path))
        return _read_whole(descriptor, status.st_size)
    finally:
        os.close(descriptor)


def _read_whole(descriptor: int, size: int) -> bytes:
    """Return what is left of an open file that said its size; one that grew meanwhile is read to its end."""
    parts = [os.read(descriptor, size + 1)]
    while more := os.read(descriptor, 1 << 16):
        parts.append(more)
    return parts[0] if len(parts) == 1 else b"".join(parts)


# --- looks ----------------------------------------------------------------------------------------

_Path = str | os.PathLike[str]


def looked_at(path: _Path) -> os.stat_result | None:
    """Return the status of what a path leads to, None where nothing is there or may be seen.

    Raises `OSError` if the machine fails, so that nothing is known.
    """
    try:
        return os.stat(path)
    except (OSError, ValueError) as error:
        reraise_fault(error)
        return None


def is_there(path: _Path) -> bool:
    """Tell whether a path leads to anything."""
    return looked_at(path) is not None


def is_folder(path: _Path) -> bool:
    """Tell whether a path leads to a folder."""
    return (status := looked_at(path)) is not None and stat.S_ISDIR(status.st_mode)


def is_file(path: _Path) -> bool:
    """Tell whether a path leads to a regular file."""
    return (status := looked_at(path)) is not None and stat.S_ISREG(status.st_mode)


def names_in(folder: _Path) -> list[str]:
    """Return the names in a folder, sorted; none where there is no folder."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def opened(folder: _Path) -> Iterator[int]:
    """Open a folder: what is in it is found from its descriptor without walking the path to it each time."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def walked(folder: _Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield folder, folders in it and files in it, for a folder and all below; as `os.walk`."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    yield from os.walk(os.fspath(folder), onerror=refuse)
