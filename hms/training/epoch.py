"""The epoch that a dataset and all its copies in worker processes see.

A DataLoader with ``persistent_workers=True`` copies the dataset once, by fork or by pickling it.
An attribute that is set afterwards reaches no copy: every epoch would draw the same, silently.
So the number is in a small file that all of them map into memory.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import weakref
from pathlib import Path

_NUMBER = struct.Struct("<q")


class SharedEpoch:
    """A whole number that is set in one process and read in all that hold a copy.

    A copy, made by fork or by pickle, reads what the original has. Setting the number of a copy
    parts it from the original. Where the file is gone (another machine, or the original is no
    more), a copy continues with the number that it was pickled with.
    """

    def __init__(self, value: int = 0) -> None:
        self._create(value)

    def _create(self, value: int) -> None:
        number, name = tempfile.mkstemp(prefix="hms-epoch-")
        with os.fdopen(number, "r+b") as file:
            file.write(_NUMBER.pack(value))
            file.flush()
            self._map = mmap.mmap(file.fileno(), _NUMBER.size)
        self._path, self._owner = name, os.getpid()
        weakref.finalize(self, _remove, name, os.getpid())

    @property
    def value(self) -> int:
        """The number as the original has it now."""
        number: int = _NUMBER.unpack_from(self._map)[0]
        return number

    @value.setter
    def value(self, value: int) -> None:
        if self._owner != os.getpid():
            self._create(value)
        _NUMBER.pack_into(self._map, 0, value)

    def __getstate__(self) -> dict[str, object]:
        return {"path": self._path, "value": self.value}

    def __setstate__(self, state: dict[str, object]) -> None:
        try:
            with open(str(state["path"]), "r+b") as file:
                self._map = mmap.mmap(file.fileno(), _NUMBER.size)
        except (OSError, ValueError):
            self._create(int(str(state["value"])))
        else:
            self._path, self._owner = str(state["path"]), -1


def _remove(name: str, owner: int) -> None:
    """Remove the file, unless this is a forked process that inherited the clean-up."""
    if os.getpid() == owner:
        Path(name).unlink(missing_ok=True)
