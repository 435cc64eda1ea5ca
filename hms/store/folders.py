"""The folder of one stage key: its files, and a journal that says which of them count.

A file counts only when a line of the journal names its size, time and digest, and a line is
appended only after the files it names, and their folder, are on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from hms.store.files import Stored, commit_files, digest_file, remove_temporaries
from hms.store.journal import append_journal, journal_line, read_journal

JOURNAL = "records.log"
KEY_FILE = "key.json"


# --- stage folders -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item has no result: the stage that found it, the text, and whether it counts as a failure."""

    stage: str
    text: str
    failure: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What the store knows of one item of a stage: its file and row, or why there is none."""

    item: str
    file: str | None = None
    row: int = 0
    reason: Reason | None = None


def key_note(note: Mapping[str, Any]) -> bytes:
    """Return the text of the note of what is in a key."""
    return json.dumps(note, indent=1, sort_keys=True).encode()


@dataclass
class StageFolder:
    """The folder of one stage key."""

    path: Path
    files: dict[str, Stored] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    seconds: float = 0.0
    computed: int = 0
    damaged_lines: int = 0

    @property
    def journal(self) -> Path:
        """Path of the journal."""
        return self.path / JOURNAL

    def load(self) -> StageFolder:
        """Read the journal; later lines replace earlier ones."""
        self.files, self.records, self.seconds, self.computed = {}, {}, 0.0, 0
        lines, self.damaged_lines = read_journal(self.journal)
        for line in lines:
            self._apply(line)
        return self

    def _apply(self, line: Mapping[str, Any]) -> None:
        for name, size, mtime_ns, digest in line.get("files", ()):
            self.files[name] = Stored(name, size, mtime_ns, digest)
        for item, file, row, reason in line.get("items", ()):
            self.records[item] = Record(item, file, row, Reason(*reason) if reason else None)
        self.seconds += line.get("seconds", 0.0)
        self.computed += line.get("computed", 0)

    def prepare(self, note: Mapping[str, Any]) -> None:
        """Make the folder and note in it what went into its key; only under its lock."""
        remove_temporaries(self.path)
        if file := self.note_file(note):
            commit_files(self.path, file)

    def note_file(self, note: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the file that notes what went into the key, nothing if it is there."""
        return {} if (self.path / KEY_FILE).exists() else {KEY_FILE: key_note(note)}

    def append(
        self, files: Iterable[Stored], records: Iterable[Record], seconds: float, computed: int
    ) -> None:
        """Record files that are on disk, and the items they hold."""
        line = _line(files, records, seconds, computed)
        append_journal(self.journal, line)
        self._apply(line)

    def compact(self) -> None:
        """Write the journal anew from what is known, in one line; only under its lock."""
        records = [r for r in self.records.values() if r.file is None or r.file in self.files]
        content = _line(self.files.values(), records, self.seconds, self.computed)
        commit_files(self.path, {JOURNAL: journal_line(content)})
        self.load()

    def holds(self, item: str) -> bool:
        """Whether an item is recorded and, unless it was excluded, its file too."""
        record = self.records.get(item)
        return record is not None and (record.file is None or record.file in self.files)

    def drop(self, names: Iterable[str]) -> None:
        """Forget files in memory, so that their items count as missing."""
        for name in names:
            self.files.pop(name, None)

    def check(self, names: Iterable[str], *, reread: bool = False) -> tuple[dict[str, str], list[Stored]]:
        """Compare files with their records.

        A file whose size and time are as recorded is taken for whole unless ``reread``;
        any other is read and digested.

        Returns
        -------
        bad : what is wrong with each file that is missing or differs from its record
        moved : files that are whole under another time, as after a copy of the folder
        """
        present = _scan(self.path)
        bad: dict[str, str] = {}
        moved: list[Stored] = []
        for name in names:
            stored, seen = self.files.get(name), present.get(name)
            if stored is None:
                bad[name] = "not recorded"
            elif seen is None:
                bad[name] = "missing"
            elif reread or seen != (stored.size, stored.mtime_ns):
                if seen[0] != stored.size or digest_file(self.path / name) != stored.digest:
                    bad[name] = "content differs from its record"
                elif seen[1] != stored.mtime_ns:
                    moved.append(Stored(name, stored.size, seen[1], stored.digest))
        return bad, moved

    def reconcile(self, names: Iterable[str]) -> dict[str, str]:
        """Check files, forget the bad ones, record the moved ones anew; return the bad ones."""
        bad, moved = self.check(names)
        self.drop(bad)
        if moved:
            self.append(moved, (), 0.0, 0)
        return bad


def _line(
    files: Iterable[Stored], records: Iterable[Record], seconds: float, computed: int
) -> dict[str, Any]:
    return {
        "files": [[f.name, f.size, f.mtime_ns, f.digest] for f in files],
        "items": [[r.item, r.file, r.row, astuple(r.reason) if r.reason else None] for r in records],
        "seconds": round(seconds, 6),
        "computed": computed,
    }


def _scan(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file in a folder."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                found[entry.name] = (status.st_size, status.st_mtime_ns)
    return found
