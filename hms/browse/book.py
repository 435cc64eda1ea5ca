"""The file of marks while somebody judges: every mark is on disk before it is confirmed."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from pathlib import Path

from hms.errors import ConfigError
from hms.labels.classes import Classes
from hms.labels.marks import COLUMNS, MARKS, Mark, parse_votes, read_marks, write_marks
from hms.store.files import commit_files
from hms.store.locks import lock
from hms.terminal import counted, listed

LONGEST_NOTE = 1000
"""Characters; a note is in meta_excluded.csv and in the report."""

WAIT_S = 10.0
"""Longest that a mark waits for another program that writes the file."""


class Book:
    """Marks in a csv that may be edited by hand, and by another viewer, at the same time.

    A change is applied to what the file holds at that moment, under a lock that other viewers take too; the
    file is then replaced whole. Whenever the program ends, the file holds all marks that were confirmed.
    Raises `ConfigError` if the file is not a csv of marks, would lose columns, or marks items that the run
    has not.

    Parameters
    ----------
    path : the csv; it is made with the first mark
    who : the reader whose marks are set here; marks of others stay as they are
    known : ids of the run's items
    """

    def __init__(self, path: Path, classes: Classes, who: str, known: Collection[str]) -> None:
        self.path, self.classes, self.who = path.absolute(), classes, who
        self._lock = threading.Lock()
        self._marks: dict[tuple[str, str], Mark] = {}
        self._state: tuple[int, int, int] | None = None
        self.revision = 0
        if not self.path.parent.is_dir():
            raise ConfigError(f"--marks {path}: {self.path.parent} is not a folder")
        self._load()
        unknown = [item for item, _ in self._marks if item not in known]
        if unknown:
            raise ConfigError(
                f"{path} marks {counted(len(unknown), 'item')} that the run lacks: "
                f"{listed(unknown)}; marks belong to a run of the same data and unit"
            )

    def all(self) -> list[Mark]:
        """Return the marks as the file holds them now, edits by hand included."""
        with self._lock:
            self._load()
            return list(self._marks.values())

    def put(self, item_id: str, mark: str, votes: str, note: str) -> Mark:
        """Write what the reader says of an item; an empty mark removes the reader's row.

        Raises `ConfigError` if the mark or the votes are none, or the file was damaged by hand meanwhile.
        Raises `StorageError` if it cannot be written; the file is then as it was.
        """
        made = self._made(item_id, mark, votes, note)
        with self._lock, lock(self.path.with_name(f".{self.path.name}.lock"), timeout=WAIT_S):
            self._load()
            changed = dict(self._marks)
            if made.mark or made.votes or made.note:
                changed[item_id, self.who] = made
            else:
                changed.pop((item_id, self.who), None)
            commit_files(self.path.parent, {self.path.name: write_marks(changed.values())})
            self._marks, self._state = changed, self._state_on_disk()
            self.revision += 1
        return made

    def _made(self, item_id: str, mark: str, votes: str, note: str) -> Mark:
        if mark not in MARKS:
            raise ConfigError(f"a mark must be keep, exclude, doubt or empty, not '{mark}'")
        plain = " ".join("".join(c if c.isprintable() else " " for c in note).split())
        if len(plain) > LONGEST_NOTE:
            raise ConfigError(f"a note may have at most {LONGEST_NOTE} characters, this one {len(plain)}")
        try:
            proposed = parse_votes(votes, self.classes)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return Mark(item_id, mark, proposed, plain, when, self.who)

    def _load(self) -> None:
        """Read the file again if it is not the one that was read or written last."""
        state = self._state_on_disk()
        if state == self._state:
            return
        marks = [] if state is None else read_marks(self.path, self.classes, only=COLUMNS)
        self._marks = {(mark.item_id, mark.who): mark for mark in marks}
        self._state = state
        self.revision += 1

    def _state_on_disk(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns
