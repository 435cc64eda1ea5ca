"""What names in manifests and journals may stand for: regular files inside, and links of hms's own.

A run may come from somebody else. Whatever opens, copies, writes or removes a file that a manifest
or a journal names asks here first.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from hms.errors import ConfigError, ManifestError

STORE = "store"
"""Folder next to a run's that links of the run lead into."""

MOST_JSON = 1 << 28
"""Most bytes of a manifest, journal line or note that are read: some two million files of a run."""

BYTES_PER_BRACKET = 12
"""Text with fewer bytes for each list or object is not hms's: in memory, short ones take twenty times their
length."""

SPARE_BRACKETS = 10_000

_BAD_PARTS = ("\n/", "/\n", "//", "\n\n", "/./", "/../", "\n./", "\n../", "/.\n", "/..\n", "\n.\n", "\n..\n")


def are_plain(names: Collection[str], *, in_folders: bool = False) -> bool:
    """Tell whether all names are relative, without ``.`` and ``..``, backslashes and control characters.

    ``in_folders`` allows paths of several parts, with ``/`` between them.
    """
    if not names:
        return True
    text = "\n".join(names)
    inner = text.replace("\n", "")
    if len(text) - len(inner) != len(names) - 1 or not inner.isprintable() or "\\" in inner:
        return False
    framed = f"\n{text}\n"
    return not any(part in framed for part in _BAD_PARTS) and (in_folders or "/" not in inner)


def find_inside(folder: Path, name: str) -> tuple[Path, os.stat_result]:
    """Return where a file of a run is, and its status: a regular file inside, or one that the store holds.

    Raises `FileNotFoundError` if it is not there, and `ConfigError` if it is something else: a link of
    somebody else's, a pipe, a device, a folder; or the name leads outside.
    """
    if not are_plain([name], in_folders=True):
        raise ConfigError(f"{folder.name}: the name {name!a:.120} does not stay inside; it is refused")
    parents, _, _ = name.rpartition("/")
    _check_folders(folder, parents)
    path = folder / name
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        path = stored_target(folder, name)
        status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{folder.name}/{name} is not a regular file; it is refused")
    return path, status


def stored_target(folder: Path, name: str) -> Path:
    """Return the file of the store that a link of a run stands for; raises ConfigError for any other link."""
    target = os.readlink(folder / name)
    parts = os.path.normpath(f"{name.rpartition('/')[0] or '.'}/{target}").split("/")
    if os.path.isabs(target) or len(parts) != 4 or parts[:2] != ["..", STORE] or not are_plain(parts[2:]):
        raise ConfigError(
            f"{folder.name}/{name} is a link to {target!a:.120}, outside the store; it is refused"
        )
    _check_folders(folder.parent, f"{STORE}/{parts[2]}")
    return folder.parent / STORE / parts[2] / parts[3]


def _check_folders(base: Path, below: str) -> None:
    """Raise if a folder on the way is a link or not a folder."""
    path = base
    for part in below.split("/") if below else ():
        path = path / part
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise ConfigError(f"{path} is a link or not a folder; it is refused")


def is_own_folder(path: Path) -> bool:
    """Tell whether a path is a folder and no link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_file(path: Path, most_bytes: int = MOST_JSON) -> bytes:
    """Return the bytes of a small file of hms's own; raises ManifestError if it is not one or too large."""
    with open_own(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ManifestError(f"{path} has {size} bytes, more than the {most_bytes} that are read")
        return file.read()


def open_own(path: Path) -> IO[bytes]:
    """Open a file of hms's own; raises ManifestError for a folder, pipe or device, OSError for a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ManifestError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def parse_json(data: bytes) -> Any:
    """Return what a JSON text says; raises ValueError for one that is not a text of hms's.

    One that is deep, or many times larger in memory than on disk, is not parsed.
    """
    if len(data) > MOST_JSON:
        raise ValueError(f"a text of {len(data)} bytes")
    brackets = data.count(b"[") + data.count(b"{")
    if brackets * BYTES_PER_BRACKET > len(data) + SPARE_BRACKETS * BYTES_PER_BRACKET:
        raise ValueError(f"{brackets} lists and objects in {len(data)} bytes")
    try:
        return json.loads(data, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("lists or objects nested too deep") from None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")
