"""Names in a run's folder for files of the store: links, or copies where there are no links."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

from hms.errors import StorageError, reraise_fault
from hms.store.files import TEMPORARY, make_folder, storage_error, sync_folder

Way = Literal["symlink", "hardlink", "copy"]
WAYS: tuple[Way, ...] = get_args(Way)


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
        wanted = _relative(folder, targets) if way == "symlink" else dict(targets)
        with os.scandir(folder) as entries:
            present = {entry.name: entry for entry in entries}
        for name, entry in present.items():
            if name not in wanted and not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
        for name, target in wanted.items():
            if name not in present:
                _MAKE[way](target, f"{folder}/{name}")
            elif not _stands_for(present[name], target, way):
                _replace(f"{folder}/{name}", target, way)
        sync_folder(folder)
    except OSError as error:
        raise storage_error(error, folder) from error


def _relative(folder: Path, targets: Mapping[str, str]) -> dict[str, str]:
    """Return the targets as seen from the folder, so that both can be moved together."""
    ways: dict[str, str] = {}
    found = {}
    for name, target in targets.items():
        parent, _, last = target.rpartition("/")
        if parent not in ways:
            ways[parent] = os.path.relpath(parent, folder)
        found[name] = f"{ways[parent]}/{last}"
    return found


def _stands_for(entry: os.DirEntry[str], target: str, way: Way) -> bool:
    """Tell whether an entry stands for a file in that way."""
    if way == "symlink":
        return entry.is_symlink() and os.readlink(entry.path) == target
    if not entry.is_file(follow_symlinks=False):
        return False
    own, stored = entry.stat(follow_symlinks=False), os.stat(target)
    if (own.st_ino, own.st_dev) == (stored.st_ino, stored.st_dev):
        return way == "hardlink"
    return way == "copy" and (own.st_size, own.st_mtime_ns) == (stored.st_size, stored.st_mtime_ns)


def _replace(path: str, target: str, way: Way) -> None:
    temporary = f"{os.path.dirname(path)}/{TEMPORARY}{uuid.uuid4().hex}"
    _MAKE[way](target, temporary)
    os.replace(temporary, path)


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
