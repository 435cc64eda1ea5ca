"""What a command found when it last ran, believed while everything it looked at is as it was.

To find a run finished, tables, journals and a manifest are parsed. The answer is kept in the store with
the names, sizes and times of all files that it follows from: those of hms itself, the recordings and their
table, the store's folders and the run's. If one of them differs, the long way is taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from hms.config.code import code_stamp
from hms.config.identity import digest_of
from hms.config.reading import is_file, opened, regular_bytes
from hms.errors import StorageError
from hms.registry import entry_points
from hms.store.files import commit_files, digest_bytes
from hms.store.journal import journal_line, read_journal
from hms.store.looking import ahead, taken

FOLDER = "seen"
LOOKS = "looks.log"
"""Folders of many files that the last command looked into."""

SOURCES = "sources.log"
"""Fingerprints of stages, which take long to find out."""

Listing = dict[str, tuple[int, int]]
"""Size and time of a folder's entries by name."""

LINKS = "/links"
"""A name that no entry can have."""


@dataclass(frozen=True)
class Seen:
    """What a finished run was found to be.

    Attributes
    ----------
    run : its hash
    facts : what is shown when it is found finished
    plan : what is shown for ``plan=true``
    said : what was said on the way
    places : stamps by path; behind links where the path ends with ``/``
    """

    run: str
    facts: str
    plan: str
    said: list[str]
    places: dict[str, str]


# --- stamps --------------------------------------------------------------------------------------


def listing(folder: str, *, through_links: bool = False) -> Listing:
    """Return size and time of everything in a folder; of links, of what they lead to.

    A link never changes: unless what it leads to is asked for, how many there are and the folder's own
    time stand for all of them.
    """
    if through_links and (known := taken(folder, through_links=True)) is not None:
        return _noted(folder, {name: (size, time) for name, size, time in known})
    n_links, found = 0, Listing()
    with opened(folder) as descriptor, os.scandir(descriptor) as entries:
        time = os.stat(descriptor).st_mtime_ns
        for entry in entries:
            if not through_links and entry.is_symlink():
                n_links += 1
                continue
            status = entry.stat()
            found[entry.name] = status.st_size, status.st_mtime_ns
    if n_links:
        found[LINKS] = n_links, time
    return _noted(folder, found) if through_links else found


def _noted(folder: str, found: Listing) -> Listing:
    if (known := _listed.get()) is not None:
        known[folder.rstrip("/")] = found
    return found


_listed: ContextVar[dict[str, Listing] | None] = ContextVar("listed", default=None)


@contextmanager
def listed_once() -> Iterator[None]:
    """Keep what folders list through links, for `known_files`, so that no file is looked at twice."""
    token = _listed.set({})
    try:
        yield
    finally:
        _listed.reset(token)


def known_files(folder: str) -> Listing:
    """Return size and time of each file in a folder, if that was listed a moment ago; else nothing."""
    return (_listed.get() or {}).get(os.path.abspath(folder), {})


def listed(entries: Listing) -> Iterator[str]:
    """Yield name, size and time of each entry as one text."""
    return (f"{name}/{size}/{time}" for name, (size, time) in entries.items())


def stamp_of(rows: Iterable[str]) -> str:
    """Return the digest of names, sizes and times, in any order."""
    return digest_bytes("\n".join(sorted(rows)).encode("utf-8", "surrogateescape"))


def stamp(place: str) -> str:
    """Return the digest of a file's size and time, or of all that a folder lists; one for nothing there.

    With ``/`` at its end, of what the links in the folder lead to.
    """
    try:
        status = os.stat(place)
        if S_ISDIR(status.st_mode):
            return stamp_of(listed(listing(place, through_links=place.endswith("/"))))
    except FileNotFoundError:
        return stamp_of(())
    return stamp_of(listed({"": (status.st_size, status.st_mtime_ns)}))


# --- what was found ------------------------------------------------------------------------------


def question_of(tree: Mapping[str, Any]) -> str | None:
    """Return the identity of a command: its configuration, where it is given, and the code that answers.

    None where more than files decides: another run's settings, or code that is not of hms.
    """
    asks_more = tree.get("from_run") or tree.get("plugins") or not isinstance(tree.get("plan"), bool)
    if asks_more or entry_points():
        return None
    settings = {name: value for name, value in tree.items() if name != "plan"}
    try:
        return digest_of([settings, os.getcwd(), os.environ.get("HMS_DATA"), code_stamp()])
    except (OSError, ValueError):  # the folder is gone, or a value is not JSON: told elsewhere
        return None


def recall(store: Path, question: str) -> Seen | None:
    """Return what a command found when it last ran, None if anything it looked at is not as it was."""
    try:
        lines, damaged = read_journal(store / FOLDER / f"{question}.log")
        if damaged or len(lines) != 1 or set(lines[0]) != {f.name for f in fields(Seen)}:
            return None
        seen = Seen(**lines[0])
        is_so = all(stamp(place) == expected for place, expected in seen.places.items())
    except (OSError, StorageError, AttributeError, TypeError):  # whatever it is, the long way says it
        return None
    return seen if is_so else None


def keep(store: Path, question: str, seen: Seen) -> None:
    """Keep what a command found."""
    commit_files(store / FOLDER, {f"{question}.log": journal_line(asdict(seen))})


def once(store: Path, of: Any, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return what today's code makes of some content, as JSON has it: kept in the store when first made."""
    name = f"{digest_of([of, code_stamp()])}.log"
    with suppress(StorageError, ValueError, LookupError, TypeError):  # not there, or not as it was kept
        lines, damaged = read_journal(store / FOLDER / name)
        if lines and not damaged:
            return dict(json.loads(lines[0]["made"]))
    text = json.dumps(make(), allow_nan=False)  # as text: lines sort their keys
    with suppress(StorageError):  # whoever writes what the run needs says what is wrong
        commit_files(store / FOLDER, {name: journal_line({"made": text})})
    return dict(json.loads(text))


# --- looks ---------------------------------------------------------------------------------------


@contextmanager
def looking_ahead(store: Path, root: object) -> Iterator[None]:
    """Look meanwhile into the folders that the last command with these recordings looked into."""
    try:
        lines, damaged = read_journal(store / FOLDER / LOOKS)
        is_so = not damaged and len(lines) == 1 and lines[0]["root"] == root
        folders = {str(path): bool(through) for path, through in lines[0]["folders"]} if is_so else {}
    except (StorageError, LookupError, TypeError, ValueError):  # then each is looked into when it is needed
        folders = {}
    with ahead(folders):
        yield


def keep_looks(store: Path, root: object, folders: Mapping[str, bool]) -> None:
    """Keep which folders a command looked into, through links or not."""
    line = journal_line({"root": root, "folders": sorted(folders.items())})
    if not is_file(path := store / FOLDER / LOOKS) or regular_bytes(path) != line:
        commit_files(store / FOLDER, {LOOKS: line})


# --- sources -------------------------------------------------------------------------------------


def known_fingerprints(store: Path) -> dict[str, str]:
    """Return the stages' fingerprints that were kept, none if the source has changed since."""
    try:
        lines, damaged = read_journal(store / FOLDER / SOURCES)
    except StorageError:  # they are found out anew
        return {}
    if damaged or len(lines) != 1 or lines[0].get("code") != code_stamp():
        return {}
    found = lines[0].get("fingerprints")
    return {str(of): str(value) for of, value in found.items()} if isinstance(found, dict) else {}


def keep_fingerprints(store: Path, fingerprints: Mapping[str, str]) -> None:
    """Keep fingerprints of today's source."""
    if known_fingerprints(store) != fingerprints:
        line = journal_line({"code": code_stamp(), "fingerprints": dict(fingerprints)})
        commit_files(store / FOLDER, {SOURCES: line})
