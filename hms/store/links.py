"""Names in a run's folder for files of the store: links, or copies where there are no links."""

from __future__ import annotations

import contextlib
import marshal
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from subprocess import DEVNULL
from typing import Literal, get_args

from hms.config.reading import names_in
from hms.errors import StorageError, reraise_fault
from hms.store import linking
from hms.store.files import TEMPORARY, make_folder, storage_error, sync_folder

Way = Literal["symlink", "hardlink", "copy"]
WAYS: tuple[Way, ...] = get_args(Way)

MANY_LINKS = 2000
"""From so many links on, making them takes longer than the start of a process that does."""


def usable_way(folder: Path, asked: str) -> Way:
    """Return how a folder can name files that lie elsewhere on its disk.

    What is ``asked`` for is one of `WAYS`; or ``auto``, which is the first of them that works there. Raises
    `StorageError` if it does not work there; the text says what to choose.
    """
    probe = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
    problem = ""
    try:
        probe.write_bytes(b"hms")
        for way in WAYS:
            if asked in ("auto", way):
                problem = _try(probe, way)
                if not problem:
                    return way
    except OSError as error:
        raise storage_error(error, folder) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    raise StorageError(
        f"{folder}: package.link={asked} does not work there ({problem}); package.link=auto uses what works"
    )


def _try(probe: Path, way: Way) -> str:
    """Make a name for a file in one way and remove it; return what is wrong, or an empty text."""
    name = f"{probe}-{way}"
    try:
        _MAKE[way](str(probe), name)
        os.unlink(name)
    except OSError as error:
        reraise_fault(error)  # says nothing of what works there
        return error.strerror or str(error)
    return ""


def commit_links(folder: Path, targets: Mapping[str, str], way: Way = "symlink") -> None:
    """Make ``folder`` hold exactly these names for files of the store, and sync it.

    A name that already stands for its file is left alone, and so are folders in the folder; any other entry
    is removed. ``targets`` gives the file of each name. A copy has its file's time, too.
    """
    try:
        make_folder(folder)
        if way == "symlink":
            wanted = linking.relative(str(folder), targets)
            linking.set_names(str(folder), wanted, linking.linker(_alike(folder, wanted)), linking.leads_to)
        else:
            linking.set_names(str(folder), targets, _MAKE[way], partial(_stands_for, way=way))
        sync_folder(folder)
    except OSError as error:
        raise storage_error(error, folder) from error


class Linking:
    """Symbolic links of many files, made by a process for each folder while this one goes on.

    It is for time alone: `commit_links` makes what they could not make.
    """

    def __init__(self, targets: Mapping[Path, Mapping[str, str]]) -> None:
        """Begin: ``targets`` gives the file of each name in each folder."""
        self._made: dict[Path, subprocess.Popen[bytes]] = {}
        if sum(map(len, targets.values())) >= MANY_LINKS and sys.executable:
            with contextlib.suppress(OSError):
                for folder, names in targets.items():
                    self._made[folder] = _started(folder, names)

    def done(self) -> set[Path]:
        """Wait for the end; return the folders that have exactly their links, on disk."""
        done = {folder for folder, process in self._made.items() if process.wait() == 0}
        for folder in done:
            sync_folder(folder)
        return done

    def stop(self) -> None:
        """Make no further link."""
        for process in self._made.values():
            process.kill()
            process.wait()


def _started(folder: Path, targets: Mapping[str, str]) -> subprocess.Popen[bytes]:
    make_folder(folder)
    place = folder.absolute()
    like = _alike(place, linking.relative(str(place), dict(islice(targets.items(), 1))))
    with tempfile.TemporaryFile() as asked:
        asked.write(marshal.dumps((str(place), dict(targets), like, os.getpid())))
        asked.seek(0)
        program = [sys.executable, "-I", "-S", linking.__file__]
        return subprocess.Popen(program, stdin=asked, stdout=DEVNULL, stderr=DEVNULL)


def _alike(folder: Path, wanted: Mapping[str, str]) -> str:
    """Return a folder of an earlier run that begins with the same links, an empty text if there is none."""
    if not wanted:
        return ""
    first, outputs = next(iter(wanted)), folder.parents[1]
    for run in names_in(outputs):
        other = f"{outputs}/{run}/{folder.name}"
        with contextlib.suppress(OSError):
            if run != folder.parent.name and os.readlink(f"{other}/{first}") == wanted[first]:
                return other
    return ""


def _stands_for(entry: os.DirEntry[str], target: str, way: Way) -> bool:
    """Tell whether an entry is another name, or a copy, of a file."""
    if not entry.is_file(follow_symlinks=False):
        return False
    own, stored = entry.stat(follow_symlinks=False), os.stat(target)
    if (own.st_ino, own.st_dev) == (stored.st_ino, stored.st_dev):
        return way == "hardlink"
    return way == "copy" and (own.st_size, own.st_mtime_ns) == (stored.st_size, stored.st_mtime_ns)


def _copy(source: str, path: str) -> None:
    """Copy a file under a temporary name, sync it and name it, with its time."""
    temporary = f"{os.path.dirname(path)}/{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with open(source, "rb") as original, open(temporary, "xb") as copied:
            shutil.copyfileobj(original, copied, 1 << 20)
            copied.flush()
            status = os.fstat(original.fileno())
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fsync(copied.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


_MAKE: dict[Way, Callable[[str, str], None]] = {"symlink": os.symlink, "hardlink": os.link, "copy": _copy}
