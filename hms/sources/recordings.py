"""A folder of recordings: windows given, sliding or centred on events, with votes or without.

Whatever the format, the way from files to a table of windows is the same; a source says
which files there are, how one is opened, and whose it is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from hms.competition import SUB_WINDOW_S
from hms.config.paths import Address, located
from hms.errors import ConfigError, Unusable
from hms.labels.classes import Ballot
from hms.labels.events import Event
from hms.sources.afar import all_of, is_afar
from hms.sources.base import Place, Recording, WholeFiles
from hms.sources.channels import Channels
from hms.sources.events import FolderParams, Marked, Origin, Timed, label_windows, read_marks, windows_of
from hms.sources.folder import Found
from hms.sources.formats import described
from hms.sources.patients import PatientParams, Patients, patients_of
from hms.sources.tables import VotesTable
from hms.sources.usable import Demand
from hms.sources.windows import (
    WindowRows,
    of_files,
    read_patients,
    read_windows,
    windows_from_rows,
    windows_of_files,
)
from hms.terminal import counted, listed, say


class FileRecording(Recording, Protocol):
    """An open recording of a file, which also says what is in it."""

    @property
    def named(self) -> Channels:
        """The channels of the file under the names used here."""
        ...

    @property
    def holds_annotations_alone(self) -> bool:
        """Whether the file is whole and has no signal."""
        ...

    @property
    def duration_s(self) -> float:
        """Length of the recording, interruptions included; raises `Unusable` if it cannot be read."""
        ...

    @property
    def patient(self) -> str:
        """Whom the file names, empty if nobody; raises `Unusable` if it cannot be read."""
        ...

    def events(self) -> list[Event]:
        """Return what is marked in the file itself; raises `Unusable` if it cannot be read."""
        ...


@dataclass(frozen=True)
class FolderSource(WholeFiles):
    """Base of a source of files.

    ``demand`` is what the montage asks of a recording, where that is known: one that cannot meet it
    has one window.
    """

    root: Path | Address
    params: FolderParams
    only: Path | Address | None = None
    demand: Demand | None = None

    endings: ClassVar[tuple[str, ...]]
    """Endings of the files that are recordings."""

    @cached_property
    def found(self) -> Found:
        """Files of the folder when it was first looked at."""
        raise NotImplementedError

    def open(self, place: Place) -> FileRecording:
        """Open a recording."""
        raise NotImplementedError

    def patients(self, names: Sequence[str], windows: WindowRows | None = None) -> Patients:
        """Return whose each recording is, by ``data.patient`` or by the table of windows."""
        params = self.params
        assert isinstance(params, PatientParams), "a source whose recordings name nobody has such settings"
        table = None if windows is None else windows.patients
        table_name = "" if windows is None else windows.path.name
        if params.patient_table is not None:
            path = self.beside_root(params.patient_table)
            table, table_name = of_files(read_patients(path), names, path), path.name
        return patients_of(
            names,
            params,
            headers=lambda names: all_of(self.patient_of, names, self.root),
            table=table,
            table_name=table_name,
        )

    def refuse_empty(self) -> None:
        """Raise `ConfigError`, saying what is there instead, if there is no recording."""
        if not self.found.files:
            raise ConfigError(
                f"data.root={self.params.root} has no {' or '.join(self.endings)} file; "
                f"it has {described(self.found.others)}"
            )

    def part(self, start_s: float) -> str:
        """Return the number of the block in which a window starts, "" where there are no blocks."""
        return "" if self.params.block_s is None else str(math.floor(start_s / self.params.block_s))

    def place(self, name: str) -> Place:
        """Return where a recording is."""
        if name in self.found.files:
            return self.found.place(name)
        return Place(name, os.path.join(self.root, "-"), None, None)

    def places(self, recordings: Iterable[str]) -> list[Place]:
        """Return path, size and time of each recording."""
        return [self.place(name) for name in recordings]

    def file_beside(self, name: str, ending: str) -> Path | Address | None:
        """Return the file that has a recording's name and another ending, None where there is none."""
        path = self.path_of(name)
        beside = path.with_name(path.stem + ending)
        if isinstance(beside, Address):
            is_there = os.path.splitext(name)[0] + ending in self._others
            return beside if is_there else None
        return beside if beside.is_file() else None

    @cached_property
    def _others(self) -> frozenset[str]:
        return frozenset(self.found.others)

    def path_of(self, name: str) -> Path | Address:
        """Return the path or address of a recording."""
        path = self.found.files[name]
        return Address(path) if is_afar(path) else Path(path)

    def votes(self, ballot: Ballot) -> VotesTable:
        """Return the table of windows: the one given, or windows of all recordings; with votes of events.

        Raises `ConfigError` if there is no recording, a table or file of events cannot be read, or nothing
        says whose a recording is.
        """
        if self.params.windows is not None:
            return self._given(ballot)
        self.refuse_empty()
        timed = self._timed()
        marked = None if self.params.events is None else read_marks(timed, self.params, ballot)
        rows = [
            {"recording": name, "start_s": start_s}
            for name, starts in windows_of(timed, marked, self.params, ballot).items()
            for start_s in starts
        ]
        if not rows:
            raise ConfigError(f"data.root={self.params.root}: {self._why_no_windows(timed)}")
        return self._table(rows, self.root, ballot, marked)

    def _given(self, ballot: Ballot) -> VotesTable:
        """Return the windows of the table that was given."""
        assert self.params.windows is not None
        path = self.beside_root(self.params.windows)
        table = windows_of_files(read_windows(path, ballot), list(self.found.files))
        if self.params.events is None:
            return self._table(table.rows, path, ballot, None, table)
        if any(name.endswith("_vote") for name in table.columns):
            raise ConfigError(
                f"{path} has votes, and data.events={self.params.events} would add others; leave one out"
            )
        known = [
            name for name in dict.fromkeys(r["recording"] for r in table.rows) if name in self.found.files
        ]
        timed = all_of(self._timed_one, known, self.root)
        marked = read_marks([one for one in timed if one is not None], self.params, ballot)
        return self._table(table.rows, path, ballot, marked, table)

    def _table(
        self,
        rows: Sequence[dict[str, Any]],
        path: Path | Address,
        ballot: Ballot,
        marked: Marked | None,
        windows: WindowRows | None = None,
    ) -> VotesTable:
        names = list(dict.fromkeys(str(row["recording"]) for row in rows))
        labelled = list(rows) if marked is None else label_windows(rows, marked, self.params, ballot)
        lines = None if windows is None else windows.lines
        return windows_from_rows(labelled, path, ballot, self.patients(names, windows), lines=lines)

    def beside_root(self, given: str) -> Path | Address:
        """Return the path of a table: as typed if it is there, else in the folder of the recordings."""
        path = located(given)
        if isinstance(path, Address) or path.exists() or path.is_absolute():
            return path
        return self.root / path

    # --- recordings ------------------------------------------------------------------------------

    def _timed(self) -> list[Timed]:
        """Return the length of each recording; files of annotations alone are passed over."""
        names = list(self.found.files)
        found = dict(zip(names, all_of(self._timed_one, names, self.root), strict=True))
        passed_over = [name for name, timed in found.items() if timed is None]
        self._say_ignored(passed_over, "file", "with annotations only")
        self._say_ignored(self.found.links, "link", "to another folder")
        return [timed for timed in found.values() if timed is not None]

    def _say_ignored(self, names: Sequence[str], what: str, why: str) -> None:
        if names:
            shown = "" if self.params.pseudonyms is not None else f": {listed(names)}"
            say(f"ignored {counted(len(names), what)} {why}{shown}")

    def _timed_one(self, name: str) -> Timed | None:
        """Return a recording's length; None of a file without signals.

        Where it cannot be read, it is 50 s: the recording then has one window, with the reason.
        """
        try:
            recording = self.open(self.place(name))
            if recording.holds_annotations_alone:
                return None
            duration_s, stretches_s = recording.duration_s, _stretches_s(recording)
            is_lost = self.demand is not None and self.demand.is_unmet(recording)
        except Unusable:
            duration_s, stretches_s, is_lost = SUB_WINDOW_S, (), True
        origin = Origin(
            self.path_of(name),
            own=lambda: self.open(self.place(name)).events(),
            beside=lambda ending: self.file_beside(name, ending),
        )
        return Timed(name, duration_s, origin, stretches_s, is_lost)

    def _why_no_windows(self, timed: Sequence[Timed]) -> str:
        if not timed:
            return "the files hold annotations only, no signal"
        return (
            f"no event of data.events={self.params.events} has a class, so no window can be centred on one; "
            "data.event_windows=slide uses windows of the whole recordings"
        )

    def patient_of(self, name: str) -> str | None:
        """Return whom a recording's file names, None if it cannot be read."""
        try:
            return self.open(self.place(name)).patient
        except Unusable:
            return None


def _stretches_s(recording: FileRecording) -> tuple[tuple[float, float], ...]:
    """Return from where to where a recording goes without an interruption, s; empty where there is none."""
    stretches = getattr(recording, "stretches", ())
    if len(stretches) < 2:
        return ()
    return tuple((start / recording.sfreq, stop / recording.sfreq) for start, stop in stretches)
