"""A BIDS data set of EEG: participants, sessions and runs, with the tables next to them.

References
----------
Pernet et al., EEG-BIDS, an extension to the brain imaging data structure for
electroencephalography, Sci Data 6 (2019).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Literal

from hms.config.paths import Address
from hms.config.reading import is_there, regular_bytes
from hms.errors import ConfigError, Unusable
from hms.registry import register
from hms.sources.base import Place
from hms.sources.bids.files import BidsChannel, BidsFile, beside, channels_of, find_recordings, parse_name
from hms.sources.bids.recording import BidsRecording, unit_of
from hms.sources.edf import EdfRecording
from hms.sources.edf.source import ENDINGS as EDF_ENDINGS
from hms.sources.edf.source import READER as EDF_READER
from hms.sources.events import FolderParams
from hms.sources.files import place_of
from hms.sources.folder import Found, folder_of
from hms.sources.formats import ending_of
from hms.sources.mne.files import files_of, place_of_files
from hms.sources.mne.recording import MneRecording, import_mne
from hms.sources.mne.source import READER as MNE_READER
from hms.sources.names import text_of_path
from hms.sources.patients import Patients
from hms.sources.recordings import FileRecording, FolderSource
from hms.sources.units import scale_uv
from hms.sources.windows import WindowRows
from hms.terminal import listed, say

READER = 1
"""Raised when the numbers read from a recording change."""


@dataclass(frozen=True)
class Bids(FolderParams):
    """Settings of a BIDS data set.

    Attributes
    ----------
    tasks : only recordings of these tasks; empty: all
    bad_channels : what happens to channels with the status ``bad``: they count as dead, or are read like the
        others
    unit : unit of channels if neither the file nor channels.tsv states one
    """

    tasks: tuple[str, ...]
    bad_channels: Literal["dead", "keep"]
    unit: Literal["nV", "uV", "mV", "V"] | None

    @property
    def reader(self) -> str:
        """What samples depend on besides the bytes of a file and its table."""
        parts = [f"bids {READER}, mne {MNE_READER}, edf {EDF_READER}", self.unit]
        return ", ".join(filter(None, [*parts, "bad kept" if self.bad_channels == "keep" else ""]))


@register("data", "bids", Bids)
def open_bids(params: Bids, *, outputs_dir: Path, n_jobs: int) -> BidsSource:
    """Open a data set.

    Raises `ConfigError` if the folder is not there, or a format in it needs MNE, which is not installed.
    """
    root = folder_of(params.root, "of the data set, which holds sub-<label>")
    if not root.is_dir():
        raise ConfigError(f"data.root={params.root} is not a folder")
    source = BidsSource(root, params)
    if any(ending_of(path) not in EDF_ENDINGS for path in source.found.files.values()):
        import_mne()
    return source


@dataclass(frozen=True)
class BidsSource(FolderSource):
    """A data set in the brain imaging data structure."""

    name: ClassVar[str] = "bids"

    root: Path
    params: Bids

    @cached_property
    def recordings(self) -> dict[str, list[BidsFile]]:
        """Files of each recording by the path of the first; more than one are formats of the same.

        Raises `ConfigError` if there are no participants, or no recording of the tasks asked for.
        """
        by_stem: dict[str, list[BidsFile]] = {}
        found = find_recordings(Path(os.path.abspath(self.root)))
        for file in found:
            by_stem.setdefault(str(file.path.parent / file.name), []).append(file)
        tasks = {dict(file.entities).get("task", "") for file in found}
        unknown = set(self.params.tasks) - tasks
        if unknown:
            raise ConfigError(
                f"data.tasks: no recording has the task {', '.join(sorted(unknown))}; "
                f"there are {', '.join(sorted(tasks)) or 'no recordings'}"
            )
        top = os.path.abspath(self.root)
        return {
            text_of_path(os.path.relpath(files[0].path, top).replace(os.sep, "/")): files
            for files in by_stem.values()
            if not self.params.tasks or dict(files[0].entities).get("task") in self.params.tasks
        }

    @cached_property
    def found(self) -> Found:
        """Files of the data set when it was first looked at."""
        return Found({name: str(files[0].path) for name, files in self.recordings.items()})

    def refuse_empty(self) -> None:
        """Raise `ConfigError` if the data set holds no EEG recording."""
        if not self.found.files:
            raise ConfigError(
                f"data.root={self.params.root} has participants but no recording: none of their eeg folders "
                "has a .edf, .bdf, .vhdr or .set file whose name ends in _eeg"
            )

    def patients(self, names: Sequence[str], windows: WindowRows | None = None) -> Patients:
        """Return the participant of each recording."""
        self._say_of_participants()
        of = {name: files[0].patient for name, files in self.recordings.items()}
        unknown = [name for name in names if name not in of]
        return Patients(of | {name: name for name in unknown}, "the participants of the BIDS data set (sub-)")

    def _say_of_participants(self) -> None:
        """Say if participants.tsv is missing or lacks participants who have recordings."""
        table = self.root / "participants.tsv"
        if not table.is_file():
            say("the data set has no participants.tsv; its participants are the folders sub-<label>")
            return
        text = regular_bytes(table).decode("utf-8", "replace")
        listed_there = {line.split("\t")[0].strip().lstrip("\ufeff") for line in text.splitlines()}
        lacking = sorted({f[0].patient for f in self.recordings.values()} - listed_there)
        if lacking:
            shown = "" if self.params.pseudonyms is not None else f": {listed(lacking)}"
            say(f"participants.tsv does not list {len(lacking)} participants who have recordings{shown}")

    def file_beside(self, name: str, ending: str) -> Path | Address | None:
        """Return the table of a recording by the inheritance principle, or a file with its name."""
        file = self.recordings[name][0]
        return beside(file, ending) if ending.endswith(".tsv") else super().file_beside(name, ending)

    def place(self, name: str) -> Place:
        """Return where a recording is, with size and time of its files and its channels.tsv."""
        files = self.recordings.get(name)
        if files is None:
            return place_of(name, os.path.join(self.root, "-"))
        if len(files) > 1:
            shown = ", ".join(f"'{file.path.name}'" for file in files)
            return Place(
                name, str(files[0].path), None, None, f"it exists in several formats, {shown}; keep one"
            )
        return _place(name, str(files[0].path), beside(files[0], "_channels.tsv"))

    def open(self, place: Place) -> FileRecording:
        """Open a recording with its channels.tsv."""
        if place.problem is not None:
            raise Unusable(place.problem, permanent=False)
        file = _file_at(os.path.abspath(self.root), place.path)
        path = None if file is None else beside(file, "_channels.tsv")
        if place.size is not None and _place(place.recording, place.path, path) != place:
            raise Unusable("a file of the recording changed since the run began", permanent=False)
        table, channels = _table(path)
        is_eeglab = ending_of(place.path) == ".set"
        unit = unit_of(channels)
        return BidsRecording(
            self._opened(place, self.params.unit if unit is None else unit),
            channels,
            table,
            dict(self.params.aliases),
            scale=scale_uv(unit) if is_eeglab and unit is not None else 1.0,
            keeps_bad=self.params.bad_channels == "keep",
        )

    def _opened(self, place: Place, unit: str | None) -> FileRecording:
        """Open the file by the reader of its format."""
        aliases = dict(self.params.aliases)
        if ending_of(place.path) in EDF_ENDINGS:
            alone = place_of(place.recording, place.path)
            return EdfRecording(alone, aliases=aliases, unit=unit, block_s=self.params.block_s)
        files = files_of(place.path) if is_there(place.path) else []
        return MneRecording(place, aliases, files, keeps_bad=True)


@lru_cache(maxsize=4096)
def _file_at(root: str, path: str) -> BidsFile | None:
    """Return the recording whose file a path is; a worker knows it from the path alone."""
    parsed = parse_name(os.path.basename(path))
    return None if parsed is None else BidsFile(Path(root), Path(path), tuple(parsed[0].items()))


def _place(name: str, path: str, channels: Path | None) -> Place:
    files = [path] if ending_of(path) in EDF_ENDINGS else files_of(path) if is_there(path) else []
    return place_of_files(name, path, [*files, *([] if channels is None else [str(channels)])])


def _table(path: Path | None) -> tuple[bytes, tuple[BidsChannel, ...]]:
    """Return the bytes and the rows of a channels.tsv; none where the file does not exist.

    Raises `Unusable` if it cannot be read, or is not such a table.
    """
    if path is None:
        return b"", ()
    try:
        data = regular_bytes(path)
        return data, channels_of(data, path)
    except OSError as error:
        raise Unusable(f"channels.tsv: cannot be read ({error.strerror})", permanent=False) from None
    except ConfigError as error:
        raise Unusable(str(error).replace(str(path), "channels.tsv"), permanent=False) from None
