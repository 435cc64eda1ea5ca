"""A folder of recordings in the formats that MNE reads; EDF and BDF are read by their own reader."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from hms.config.reading import is_there
from hms.registry import register
from hms.sources.base import Place
from hms.sources.edf import EdfRecording
from hms.sources.edf.source import ENDINGS as EDF_ENDINGS
from hms.sources.edf.source import READER as EDF_READER
from hms.sources.events import FolderParams
from hms.sources.files import place_of
from hms.sources.folder import Found, base_of, find_files
from hms.sources.formats import ending_of
from hms.sources.mne.files import ENDINGS, FOLDERS, files_of, place_of_files, without_parts
from hms.sources.mne.recording import MneRecording, import_mne
from hms.sources.patients import PatientParams
from hms.sources.recordings import FileRecording, FolderSource

READER = 1
"""Raised when the numbers read from a file change."""


@dataclass(frozen=True)
class Mne(FolderParams, PatientParams):
    """Settings of a folder of recordings that MNE reads.

    Attributes
    ----------
    bad_channels : what happens to channels that a file marks as bad: they count as dead, or are read like the
        others
    cnt_format : sample type of Neuroscan files whose header does not state it
    unit : unit of EDF channels whose header states none
    """

    bad_channels: Literal["dead", "keep"]
    cnt_format: Literal["int16", "int32"] | None
    unit: Literal["nV", "uV", "mV", "V"] | None

    @property
    def reader(self) -> str:
        """What samples depend on besides the bytes of a file."""
        parts = [f"mne {READER}, edf {EDF_READER}", self.cnt_format, self.unit]
        return ", ".join(filter(None, [*parts, "bad kept" if self.bad_channels == "keep" else ""]))


@register("data", "mne", Mne)
def open_mne(params: Mne, *, outputs_dir: Path, n_jobs: int) -> MneSource:
    """Open a folder of recordings that MNE reads."""
    import_mne()
    base, only = base_of(params.root, "the recordings")
    if only is None and ending_of(base.name) in FOLDERS:
        base, only = base.parent, base
    return MneSource(base, params, only)


@dataclass(frozen=True)
class MneSource(FolderSource):
    """A folder of recordings that MNE reads."""

    name: ClassVar[str] = "mne"
    endings: ClassVar[tuple[str, ...]] = (*EDF_ENDINGS, *ENDINGS)

    params: Mne

    @cached_property
    def found(self) -> Found:
        """Files of the folder when it was first looked at."""
        return without_parts(find_files(self.root, self.endings, only=self.only, folders=FOLDERS))

    def place(self, name: str) -> Place:
        """Return where a recording is, with size and time of all its files."""
        path = self.found.files.get(name, os.path.join(self.root, "-"))
        if ending_of(path) in EDF_ENDINGS or not is_there(path):
            return place_of(name, path)
        return place_of_files(name, path, files_of(path))

    def open(self, place: Place) -> FileRecording:
        """Open a recording; MNE is asked when something of it is needed."""
        aliases = dict(self.params.aliases)
        if ending_of(place.path) in EDF_ENDINGS:
            return EdfRecording(place, aliases=aliases, unit=self.params.unit, block_s=self.params.block_s)
        files = files_of(place.path) if is_there(place.path) else []
        return MneRecording(
            place,
            aliases,
            files,
            cnt_format=self.params.cnt_format,
            keeps_bad=self.params.bad_channels == "keep",
        )
