"""Small files that a configuration names: read whole, and only if they are regular files."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 1 << 32
"""Bytes of a table or a key that are read at most."""


def regular_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file, read once.

    A configuration may come with a run folder from somebody else: a pipe is not waited for, a device
    not read without end.

    Raises
    ------
    OSError
        If it cannot be read, is no regular file or too large.
    """
    descriptor = os.open(Path(path), os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if status.st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes", str(path))
        return file.read()
