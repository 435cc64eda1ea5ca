"""A folder of EDF and BDF files, an hour or many days long.

A recording is read in blocks of ``data.block_s`` seconds, so that memory does not grow
with its length. What stands behind a window is the block it starts in and the two beside
it: their bytes, with the header's, are the window's identity.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from hms.errors import ConfigError, Unusable
from hms.labels.classes import Ballot
from hms.registry import PositiveFloat, register
from hms.sources.base import Place, WholeFiles
from hms.sources.edf.recording import EdfRecording
from hms.sources.files import place_of
from hms.sources.folder import Found, base_of, find_files, refuse_empty
from hms.sources.names import listed
from hms.sources.patients import PatientParams, Patients, patients_of
from hms.sources.tables import VotesTable
from hms.sources.windows import (
    WindowRows,
    of_files,
    read_patients,
    read_windows,
    sliding_starts,
    windows_from_rows,
    windows_of_files,
)
from hms.terminal import say

__all__ = ["ENDINGS", "Edf", "EdfSource", "open_edf"]

ENDINGS = (".edf", ".bdf")

READER = 2
"""Raised when the numbers read from a file change."""


@dataclass(frozen=True)
class Edf(PatientParams):
    """Settings of a folder of EDF files.

    Attributes
    ----------
    root : folder, searched with its sub-folders; or one file
    windows : table of windows; relative to ``root`` unless it lies where the command was
        typed; None for windows of 50 s that slide over every recording
    step_s : from one sliding window to the next
    unit : unit of channels whose header states none; None: such a recording is left out
    """

    root: str | None
    windows: str | None
    step_s: PositiveFloat
    unit: Literal["nV", "uV", "mV", "V"] | None

    @property
    def reader(self) -> str:
        """What samples depend on beside the bytes of a file."""
        return f"edf {READER}" + (f", {self.unit}" if self.unit else "")


@register("data", "edf", Edf)
def open_edf(params: Edf, *, outputs_dir: Path, n_jobs: int) -> EdfSource:
    """Open a folder of EDF and BDF files."""
    base, only = base_of(params.root, "the .edf or .bdf files")
    return EdfSource(base, params, only)


@dataclass(frozen=True)
class EdfSource(WholeFiles):
    """A folder of EDF and BDF files."""

    name: ClassVar[str] = "edf"

    root: Path
    params: Edf
    only: Path | None = None

    @cached_property
    def found(self) -> Found:
        """Files of the folder when it was first looked at."""
        return find_files(self.root, ENDINGS, only=self.only)

    def votes(self, ballot: Ballot) -> VotesTable:
        """Return the table of windows: the one given, or sliding windows of all recordings."""
        files = list(self.found.files)
        if self.params.windows is not None:
            table = windows_of_files(read_windows(self._beside(self.params.windows), ballot), files)
            names = list(dict.fromkeys(row["recording"] for row in table.rows))
            return windows_from_rows(table.rows, table.path, ballot, self._patients(names, table))
        refuse_empty(self.params.root, self.found, ENDINGS)
        durations = {name: self._duration_s(name) for name in files}
        self._say_passed_over([name for name, duration_s in durations.items() if duration_s is None])
        rows = [
            {"recording": name, "start_s": start_s}
            for name, duration_s in durations.items()
            if duration_s is not None
            for start_s in sliding_starts(duration_s, self.params.step_s)
        ]
        if not rows:
            raise ConfigError(f"data.root={self.params.root} holds files of annotations alone, no signal")
        names = list(dict.fromkeys(str(row["recording"]) for row in rows))
        return windows_from_rows(rows, self.root, ballot, self._patients(names))

    def _beside(self, table: str) -> Path:
        path = Path(table).expanduser()
        return path if path.exists() or path.is_absolute() else self.root / path

    def _patients(self, names: list[str], windows: WindowRows | None = None) -> Patients:
        """Return who is who by ``data.patient``."""
        table, table_name = None if windows is None else windows.patients, ""
        if windows is not None:
            table_name = windows.path.name
        if self.params.patient_table is not None:
            path = self._beside(self.params.patient_table)
            table, table_name = of_files(read_patients(path), names, path), path.name
        return patients_of(names, self.params, header=self._patient_of, table=table, table_name=table_name)

    def _patient_of(self, name: str) -> str | None:
        try:
            return self._opened(name).patient
        except Unusable:
            return None

    def _duration_s(self, name: str) -> float | None:
        """Return a recording's length; None of a file without signals.

        Where it cannot be read, it is 50 s: the recording then has one window, with the reason.
        """
        try:
            recording = self._opened(name)
            return None if recording.holds_annotations_alone else recording.duration_s
        except Unusable:
            return 50.0

    def _say_passed_over(self, names: list[str]) -> None:
        if names:
            shown = "" if self.params.pseudonyms is not None else f": {listed(names)}"
            say(f"passed over {len(names)} files of annotations alone{shown}")

    def places(self, recordings: Iterable[str]) -> list[Place]:
        """Return path, size and time of each recording."""
        files = self.found.files
        return [place_of(name, files.get(name, os.path.join(self.root, "-"))) for name in recordings]

    def part(self, start_s: float) -> str:
        """Return the number of the block in which a window starts, "" where there are no blocks."""
        return "" if self.params.block_s is None else str(math.floor(start_s / self.params.block_s))

    def open(self, place: Place) -> EdfRecording:
        """Read a file's header."""
        return EdfRecording(
            place,
            aliases=dict(self.params.aliases),
            unit=self.params.unit,
            block_s=self.params.block_s,
        )

    def _opened(self, name: str) -> EdfRecording:
        return self.open(place_of(name, self.found.files.get(name, "")))
