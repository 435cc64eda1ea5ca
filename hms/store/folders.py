"""The folder of one stage key: its files, and a journal that says which of them count.

A file counts only when a line of the journal names its size, time and digest, and a line is
appended only after the files it names, and their folder, are on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hms.config.reading import opened
from hms.errors import ManifestError
from hms.store.columns import (
    MOST_ROWS,
    NO_FILE,
    OWN,
    SUFFIX,
    TOGETHER,
    Files,
    Keys,
    Reason,
    Record,
    Records,
    number_of,
)
from hms.store.files import Stored, commit_files, digest_file, remove_temporaries
from hms.store.inside import are_plain, parse_json, read_file
from hms.store.journal import append_journal, journal_line, journal_lines
from hms.store.looking import taken
from hms.store.shards import Place, is_sealed, is_shard, whole_rows
from hms.store.snapshot import LONG, Snapshot, read_snapshot, write_snapshot

LINE_ROWS = 1 << 13
"""Files and items in a line of a journal that is written again."""

SPARE_ROWS = 1 << 14
"""Rows that a journal may have beyond twice those that count."""

JOURNAL = "records.log"
KEY_FILE = "key.json"


# --- stage folders -------------------------------------------------------------------------------


def key_note(note: Mapping[str, Any]) -> bytes:
    """Return the text of the note of what is in a key, an entry a line.

    Further indents would be written by Python's slow encoder, and what is noted goes deep.
    """
    lines = (f"{json.dumps(name)}: {json.dumps(note[name], sort_keys=True)}" for name in sorted(note))
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def key_note_before(note: Mapping[str, Any]) -> bytes:
    """Return the text of a note as earlier versions wrote it."""
    return json.dumps(note, indent=1, sort_keys=True).encode()


def read_note(path: Path) -> dict[str, Any]:
    """Return a note of what is in a key; empty where there is none or it is damaged."""
    try:
        note = parse_json(read_file(path))
    except (FileNotFoundError, NotADirectoryError, ValueError, ManifestError):
        return {}
    return note if isinstance(note, dict) else {}


@dataclass
class StageFolder:
    """The folder of one stage key."""

    path: Path
    files: Files = field(default_factory=Files)
    records: Records = field(default_factory=Records)
    seconds: float = 0.0
    computed: int = 0
    damaged_lines: int = 0
    rows: dict[str, set[tuple[int, str]]] = field(default_factory=dict)
    """Whole rows, with their digests, of shards that are open or damaged."""

    _seen: tuple[tuple[int, int, int] | None, ...] = ()
    """What the folder and its journal looked like before they were read."""

    _beside: list[str] | None = None
    """Size and time of what lies beside the files, if those are all as recorded."""

    _is_restored: bool = False
    """Whether a snapshot was read in place of the journal, and nothing was recorded since."""

    _n_rows: int = 0
    """Files and items that the journal names, however often."""

    _moved: list[Stored] = field(default_factory=list)
    """Files found whole under another time, not recorded yet."""

    @property
    def journal(self) -> Path:
        """Path of the journal."""
        return self.path / JOURNAL

    def load(self, *, believe: bool = True) -> StageFolder:
        """Read the journal; later lines replace earlier ones.

        ``believe`` allows to read its snapshot instead, which is a digest of its bytes away from it.
        """
        self.files, self.records, self.seconds, self.computed, self.rows = Files(), Records(), 0.0, 0, {}
        self._seen, self._moved, self._beside = self._look(), [], None
        self.damaged_lines = self._n_rows = 0
        self._is_restored = False
        if believe and (snapshot := read_snapshot(self.journal, _checked)) is not None:
            self.files, self.records = snapshot.files, snapshot.records
            self._apply(snapshot.rest)
            self._is_restored, self._n_rows = True, snapshot.n_rows
            return self
        for line in journal_lines(self.journal):
            try:
                self._apply(_checked(line))
            except (TypeError, ValueError):
                self.damaged_lines += 1
        return self

    def keep_snapshot(self) -> None:
        """Keep what the journal says in columns, if it is long, whole, and its snapshot not true any more."""
        if self._is_restored or (_status(self.journal) or (0, 0, 0))[1] < LONG:
            return
        digest = digest_file(self.journal)
        fresh = StageFolder(self.path).load(believe=False)
        if fresh.damaged_lines or digest_file(self.journal) != digest:
            return
        rest = _line(
            fresh.files.others.values(), fresh.records.others.values(), fresh.seconds, fresh.computed
        )
        write_snapshot(self.journal, digest, Snapshot(fresh.files, fresh.records, rest, fresh._n_rows))

    def is_as_loaded(self) -> bool:
        """Tell whether no file came or went, and nothing was recorded, since the journal was read."""
        return self._seen == self._look()

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return _status(self.path), _status(self.journal)

    def _apply(self, line: Mapping[str, Any]) -> None:
        files = [Stored(*file) for file in line.get("files", ())]
        records = [
            Record(item, file, row, Reason(*reason) if reason else None, *digest)
            for item, file, row, reason, *digest in line.get("items", ())
        ]
        self._n_rows += len(files) + len(records)
        if files:
            self.files.add(files)
        if records:
            self.records.add(records)
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
        self._is_restored = False
        self._apply(line)

    def compact(self) -> None:
        """Write the journal again from what is known; only under its lock."""
        commit_files(self.path, {JOURNAL: self._write_compacted})
        self.load()

    def tidy(self) -> None:
        """Write the journal again if most of it repeats itself; only under its lock."""
        if self._n_rows > SPARE_ROWS + 2 * (len(self.files) + len(self.records)):
            self.compact()

    def spare_bytes(self) -> int:
        """Return how many bytes of the journal only repeat what later ones say."""
        size = self._seen[1][1] if self._seen and self._seen[1] else 0
        return max(0, size - sum(map(len, self._compacted())))

    def _write_compacted(self, file: IO[bytes]) -> None:
        for line in self._compacted():
            file.write(line)

    def _compacted(self) -> Iterator[bytes]:
        files = iter(self.files.values())
        records = (record for record in self.records.values() if self._has(record))
        for number in count():
            lines = list(islice(files, LINE_ROWS)), list(islice(records, LINE_ROWS))
            if number and not any(lines):
                return
            yield journal_line(_line(*lines, self.seconds * (not number), self.computed * (not number)))

    def holds(self, item: str) -> bool:
        """Whether an item is recorded and, unless it was excluded, its file too."""
        record = self.records.get(item)
        return record is not None and self._has(record)

    def holding(self, keys: Keys) -> NDArray[np.bool_]:
        """Tell of each identity of an item what `holds` tells."""
        records, places = self.records, self.records.find(keys)
        file, _ = records.files_of(places)
        whole = np.array([*(name in self.files for name in records.names), False, False])
        held: NDArray[np.bool_] = whole[file] | ((file == NO_FILE) & (places >= 0))
        own = np.flatnonzero(file == OWN)
        held[own] = self.files.find(keys[own]) >= 0
        open_rows = [number for number, name in enumerate(records.names) if self.rows.get(name)]
        for at in np.flatnonzero(np.isin(file, open_rows)).tolist():
            held[at] = self._has(records.at(places[at]))
        return held

    def _has(self, record: Record) -> bool:
        return (
            record.file is None
            or record.file in self.files
            or (record.row, record.digest) in self.rows.get(record.file, ())
        )

    @property
    def has_shards(self) -> bool:
        """Whether results of many items are in one file."""
        return any(map(is_shard, self.files.others))

    def place(self, record: Record) -> Place:
        """Return where the arrays of a recorded item are."""
        assert record.file is not None, f"item {record.item} has no file"
        if is_shard(record.file):
            return Place(self.path / record.file, record.row, record.digest)
        return Place(self.path / record.file, None, self.files[record.file].digest)

    def drop(self, names: Iterable[str]) -> None:
        """Forget files in memory, so that their items count as missing."""
        self.files.remove(names)

    def check(
        self, names: Iterable[str], *, reread: bool = False, present: Present | None = None
    ) -> tuple[dict[str, str], list[Stored]]:
        """Compare files with their records.

        A file whose size and time are as recorded counts as whole unless ``reread``; any other is digested.

        Parameters
        ----------
        present : what `look` found a moment ago

        Returns
        -------
        bad : what is wrong with each file that is missing or differs from its record
        moved : files that are whole under another time, as after a copy of the folder
        """
        present = self.look() if present is None else present
        bad: dict[str, str] = {}
        moved: list[Stored] = []
        for name in names:
            if not reread and name not in present.unlike and name in self.files:
                continue
            stored, seen = self.files.get(name), present.files.get(name)
            if stored is None:
                bad[name] = "not recorded"
            elif seen is None:
                bad[name] = "missing"
            elif not stored.digest:
                bad[name] = "not all rows are written"
            elif seen.size != stored.size or digest_file(self.path / name) != stored.digest:
                bad[name] = "content differs from its record"
            elif seen.mtime_ns != stored.mtime_ns:
                moved.append(stored._replace(mtime_ns=seen.mtime_ns))
        return bad, moved

    def look(self) -> Present:
        """Return what is in the folder, and which of the files recorded are not as they were."""
        files = _scan(self.path)
        unlike = self.files.unlike(files)
        self._beside = None
        if not unlike:
            self._beside = [f"{f.name}/{f.size}/{f.mtime_ns}" for f in files.beside(self.files)]
        open_shards = (name for name, file in self.files.others.items() if not file.digest)
        return Present(files, unlike.union(open_shards))

    def listed(self) -> Iterator[str] | None:
        """Yield name, size and time of what is in the folder, if that is as it was when last looked at.

        None if that is not known, or a file was not as recorded.
        """
        if self._beside is None or not self.is_as_loaded():
            return None
        return chain(self.files.listed(), self._beside)

    def reconcile_items(self, keys: Keys) -> None:
        """Do what `reconcile` does, of the files that these items need and of all shards."""
        present = self.look()
        file, _ = self.records.files_of(self.records.find(keys))
        shared = {self.records.names[number] for number in np.unique(file).tolist() if number >= 0}
        names = {name for name in present.unlike if is_shard(name) or name in shared}
        names |= {name for name in shared if is_shard(name) and name not in self.files}
        own = [name for name in present.unlike if name.endswith(SUFFIX)]
        items = np.array([number_of(name.removesuffix(SUFFIX)) for name in own], np.uint64)
        needed = np.isin(items, keys if self.has_shards else keys[file == OWN])
        names.update(name for name, is_needed in zip(own, needed.tolist(), strict=True) if is_needed)
        self.reconcile(names, present=present)

    def reconcile(
        self, names: Iterable[str], *, reread: bool = False, present: Present | None = None
    ) -> dict[str, str]:
        """Check files, forget the bad ones and learn of the moved ones; return the bad ones.

        Of an open or damaged shard, whole rows count, unless all are whole and so the header is not. Nothing
        is written: `remember` records what was learned. See `check`.
        """
        bad, moved = self.check(names, reread=reread, present=present)
        sealed = {name for name in bad if is_sealed(name) and name in self.files}
        self.drop(bad)
        self._look_at_rows([name for name in bad if is_shard(name)], sealed)
        self._moved += moved
        for file in moved:
            self.files.add([file])
        return bad

    def _look_at_rows(self, shards: Iterable[str], sealed: set[str]) -> None:
        digests: dict[str, set[tuple[int, str]]] = {name: set() for name in shards}
        for record in self.records.values() if digests else ():
            if record.file in digests:
                digests[record.file].add((record.row, record.digest))
        for name, wanted in digests.items():
            whole = whole_rows(self.path / name, wanted)
            self.rows[name] = set() if name in sealed and whole == wanted else whole

    def remember(self) -> None:
        """Record the files that were found moved, so that they need not be read again."""
        if self._moved:
            append_journal(self.journal, _line(self._moved, (), 0.0, 0))
            self._is_restored = False
            self._moved = []


def _checked(line: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return a line; raises if it is damaged, names files outside the folder, or is not a stage's."""
    if line is None:
        raise ValueError("a damaged line")
    names = [name for name, _, _, _ in line.get("files", ())]
    names += [file for _, file, *_ in line.get("items", ()) if file is not None]
    if not are_plain(names):
        raise ValueError("a name that is not plain")
    if not all(type(row) is int and 0 <= row < MOST_ROWS for _, _, row, *_ in line.get("items", ())):
        raise ValueError("a row that no file has")
    return line


def _line(
    files: Iterable[Stored], records: Iterable[Record], seconds: float, computed: int
) -> dict[str, Any]:
    return {
        "files": [[f.name, f.size, f.mtime_ns, f.digest] for f in files],
        "items": [list(record if record.digest else record[:-1]) for record in records],
        "seconds": round(seconds, 6),
        "computed": computed,
    }


def _status(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class Present(NamedTuple):
    """What lies in a folder.

    Attributes
    ----------
    files : its regular files, without digests
    unlike : names of recorded files that are not there with the same size and time, or are open shards
    """

    files: Files
    unlike: set[str]


def _scan(folder: Path) -> Files:
    """Return size and time of every regular file in a folder; anything else there is not ours."""
    found = Files()
    if known := taken(str(folder), through_links=False):
        found.add_found(known)
        return found
    some: list[tuple[str, int, int]] = []
    with contextlib.suppress(FileNotFoundError), opened(folder) as descriptor:
        for entry in os.scandir(descriptor):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # gone meanwhile; `suppress` would take as long as the look
                continue
            if stat.S_ISREG(status.st_mode):
                some.append((entry.name, status.st_size, status.st_mtime_ns))
            if len(some) == TOGETHER:
                found.add_found(some)
                some = []
    if some:
        found.add_found(some)
    return found


# --- digests of recordings -----------------------------------------------------------------------

RecordingRow = tuple[int, int, str]
"""Size, time and digest of a recording, or a part of one, when it was read."""

Notes = list[list[str]]
"""What was mended of a recording: a flag and a text each."""


def read_recordings(journal: Path) -> tuple[dict[str, RecordingRow], dict[str, Notes]]:
    """Return what a journal says of recordings by name, and notes; later lines replace earlier ones."""
    known: dict[str, RecordingRow] = {}
    notes: dict[str, Notes] = {}
    for line in filter(None, journal_lines(journal)):
        with contextlib.suppress(TypeError, ValueError, KeyError):  # not a line of hms's
            known.update({name: (size, mtime, digest) for name, size, mtime, digest in line["recordings"]})
            notes.update(line.get("notes", {}))
    return known, notes


def compacted_recordings(journal: Path) -> bytes:
    """Return a journal of recordings that says everything once."""
    known, notes = read_recordings(journal)
    rows = [[name, *row] for name, row in known.items()]
    parts: list[dict[str, Any]] = [
        {"recordings": rows[first : first + LINE_ROWS]} for first in range(0, max(len(rows), 1), LINE_ROWS)
    ]
    return b"".join(map(journal_line, [parts[0] | ({"notes": notes} if notes else {}), *parts[1:]]))
