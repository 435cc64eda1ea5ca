"""Looks into folders of many files by a process of its own, while this one still imports what it needs.

Run as a program, which starts in 10 ms, it reads from its input what to look into, and writes what it found.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # of typing, which takes as long to import as all of this
if TYPE_CHECKING:
    from subprocess import Popen
    from typing import IO

Look = tuple[int, list[str], bytes, bytes]
"""A folder's time before it was looked into, and name, size and time of what was there."""


def look(folder: str, *, through_links: bool) -> Look:
    """Look at everything in a folder, at what links lead to; or at its regular files alone."""
    names: list[str] = []
    sizes, times = array("q"), array("q")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    time = os.stat(descriptor).st_mtime_ns
    with os.scandir(descriptor) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=through_links)
            except FileNotFoundError:
                if through_links:
                    raise
                continue
            if through_links or stat.S_ISREG(status.st_mode):
                names.append(entry.name)
                sizes.append(status.st_size)
                times.append(status.st_mtime_ns)
    os.close(descriptor)
    return time, names, sizes.tobytes(), times.tobytes()


def look_into(folders: Mapping[str, bool]) -> dict[str, Look]:
    """Look into folders, through links or not; without those that fail: whoever needs one says why."""
    found = {}
    for folder, through_links in folders.items():
        with suppress(OSError):
            found[folder] = look(folder, through_links=through_links)
    return found


class Ahead:
    """Looks that a process of its own takes. Each serves once, and only if its folder is as it was."""

    def __init__(self, folders: Mapping[str, bool]) -> None:
        import subprocess
        import tempfile

        self._asked = dict(folders)
        self._answer: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this
        self._process: Popen[bytes] | None = None
        with tempfile.TemporaryFile() as asked, suppress(OSError):
            asked.write(marshal.dumps(self._asked))
            asked.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=asked,
                stdout=self._answer,
                stderr=subprocess.DEVNULL,
            )
        self._found: dict[str, Look] | None = None

    def take(self, folder: str, *, through_links: bool) -> list[tuple[str, int, int]] | None:
        """Return name, size and time of what is in a folder, None if it has to be looked into."""
        if self._asked.get(folder) is not through_links:
            return None
        if self._found is None:
            self._found = self._read()
        found = self._found.pop(folder, None)
        try:
            if found is None or os.stat(folder).st_mtime_ns != found[0]:
                return None
        except OSError:  # gone, which whoever looks into it says
            return None
        return list(zip(found[1], array("q", found[2]), array("q", found[3]), strict=True))

    def _read(self) -> dict[str, Look]:
        if self._process is None or self._process.wait():
            return {}
        self._answer.seek(0)
        return dict(marshal.loads(self._answer.read()))

    def end(self) -> None:
        """Look no further."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._answer.close()


_ahead: list[Ahead] = []
"""The looks that are taken for this command, if any are."""


@contextmanager
def ahead(folders: Mapping[str, bool]) -> Iterator[None]:
    """Take looks, while something else goes on, that `taken` finds."""
    if not folders or not sys.executable or (os.cpu_count() or 1) < 2:
        yield
        return
    _ahead.append(Ahead(folders))
    try:
        yield
    finally:
        _ahead.pop().end()


def taken(folder: str, *, through_links: bool) -> list[tuple[str, int, int]] | None:
    """Return what `Ahead.take` does of the looks of this command, None where there are none."""
    return _ahead[-1].take(folder, through_links=through_links) if _ahead else None


if __name__ == "__main__":
    sys.stdout.buffer.write(marshal.dumps(look_into(marshal.loads(sys.stdin.buffer.read()))))
