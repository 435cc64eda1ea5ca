"""An inventory of a folder before anything is prepared: what is there, and what would become of it.

Every file is opened as a run would open it; nothing that is wrong with one stops the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hms.config.paths import Address
from hms.errors import Unusable, reraise_fault
from hms.registry import Params
from hms.sources.afar import all_of, is_afar
from hms.sources.base import Place, SourceParams
from hms.sources.bucket import bucket_of
from hms.sources.channels import Channels
from hms.sources.edf import EdfRecording
from hms.sources.edf.source import ENDINGS as EDF_ENDINGS
from hms.sources.files import read_bytes
from hms.sources.folder import Found, base_anywhere, find_files
from hms.sources.formats import FORMATS, ending_of, kind_of, looks_like
from hms.sources.kaggle import ParquetRecording
from hms.sources.mne.files import ENDINGS, FOLDERS, files_of, without_parts
from hms.sources.mne.recording import MneRecording
from hms.sources.recordings import FolderSource
from hms.sources.usable import Demand, too_many
from hms.store.csvs import harmless_cell, rows_text
from hms.terminal import columns, counted, listed, shortened

SHOWN_LABELS, SHOWN_ENDINGS, SHOWN_REASONS, SHOWN_REASON = 40, 12, 20, 300


@dataclass(frozen=True)
class FileFacts:
    """What is known of one file.

    Attributes
    ----------
    file : path relative to the folder
    duration_s : length, interruptions included
    interruptions : how many
    sfreq_hz : rates of its channels, most frequent first
    n_channels, n_eeg : channels in all, and electrodes and pairs among them
    references, unknown : what electrodes were recorded against, and labels that mean nothing here
    header_patient : whether the header names somebody
    mended : what a reader has to mend
    left_out : why a run with these settings would leave the whole recording out, empty if it would not
    fate : ``used``; ``fails``, which counts against ``max_failed_share``; ``left out``; or
        ``passed over``, where it is not a recording for this kind of data
    """

    file: str
    format: str
    size: int = 0
    duration_s: float | None = None
    interruptions: int = 0
    sfreq_hz: str = ""
    n_channels: int = 0
    n_eeg: int = 0
    references: str = ""
    unknown: str = ""
    header_patient: bool = False
    folder: str = ""
    mended: str = ""
    left_out: str = ""
    fate: str = "used"


NO_EEG = (
    "no file is EEG: EDF or BDF, a format of MNE's (BrainVision, EEGLAB, FIF ...; docs/sources.md), or "
    "parquet as in the competition. Name the folder that holds the recordings"
)


@dataclass(frozen=True)
class Inventory:
    """What a folder holds.

    Attributes
    ----------
    files : one entry a recording, in the order of names
    others : the other files
    links : links to folders, which are not followed
    looks_like : the option of ``data`` that the folder looks like, empty if none
    patients : how many the headers name
    max_failed_share : share of the recordings that may fail before a run stops
    """

    files: list[FileFacts]
    others: list[str]
    links: list[str]
    looks_like: str
    patients: int
    seconds: float
    max_failed_share: float

    def to_csv(self) -> str:
        """Return one row a recording."""
        rows = ([harmless_cell(value) for value in astuple(facts)] for facts in self.files)
        return rows_text([[f.name for f in fields(FileFacts)], *rows])

    def facts(self) -> list[tuple[str, str]]:
        """Return names and texts for a table: what there is, and what would be left out."""
        read = [f for f in self.files if f.duration_s is not None]
        rows = [("recordings", _counted(f.format for f in self.files) or "none")]
        rows += [("looks like", f"data={self.looks_like}" if self.looks_like else "")]
        rows += [("none here", NO_EEG if not self.files and not self.looks_like else "")]
        rows += [("other files", _counted(ending_of(name) or "without ending" for name in self.others))]
        rows += [("not followed", f"links to folders: {listed(self.links)}" if self.links else "")]
        rows += [("durations", _durations([f.duration_s for f in read if f.duration_s is not None]))]
        rows += [("sampling rates", _by_value(f"{f.sfreq_hz} Hz" for f in read if f.sfreq_hz))]
        rows += [("reference", _by_value(f.references for f in read if f.references))]
        rows += [("EEG channels", _by_value(counted(f.n_eeg, "channel") for f in read))]
        rows += [("unknown labels", self._unknown(read))]
        gaps = [(counted(f.interruptions, "gap"), f.file) for f in read if f.interruptions]
        rows += [("interrupted", text) for text in _grouped(gaps)]
        rows += [("noted", text) for text in _grouped((f.mended, f.file) for f in self.files if f.mended)]
        rows += [("patients", self._patients(read) if self.files else "")]
        out = [(_with_its_end(f.left_out), f.file) for f in self.files if f.left_out]
        rows += [("left out", text) for text in _grouped(out)]
        rows += [("would be used", f"{sum(f.fate == 'used' for f in self.files)} of {len(self.files)}")]
        rows += [("warning", self.forecast)]
        taken = f"{self.seconds:.1f} s"
        if len(self.files) >= 100:
            taken += f", {self.seconds * 1000 / len(self.files):.1f} s per thousand files"
        rows += [("time taken", taken)]
        return [(name, text) for name, text in rows if text]

    def __repr__(self) -> str:
        return columns(self.facts())

    @property
    def forecast(self) -> str:
        """That a run of these recordings would stop because too many fail, empty if it would not."""
        fates = Counter(f.fate for f in self.files)
        if fates["fails"] and not fates["used"]:
            return (
                f"a run would stop: no recording can be used, and {fates['fails']} of {len(self.files)} fail"
            )
        return too_many(fates["fails"], len(self.files) - fates["passed over"], self.max_failed_share)

    @staticmethod
    def _unknown(read: Sequence[FileFacts]) -> str:
        count = Counter(label for f in read for label in f.unknown.split(" | ") if label)
        by_count: dict[int, list[str]] = {}
        for label, n in count.most_common():
            by_count.setdefault(n, []).append(label)
        return "; ".join(f"in {counted(n, 'file')}: {listed(by_count[n], SHOWN_LABELS)}" for n in by_count)

    def _patients(self, read: Sequence[FileFacts]) -> str:
        named = sum(f.header_patient for f in read)
        folders = {f.folder for f in read} - {""}
        headers = f"headers name {self.patients} in {named} of {len(read)} files" if named else "in no header"
        by_folder = f"; {counted(len(folders), 'folder')}" if folders else ""
        return f"{headers}{by_folder} (data.patient sets how patients are told apart)"


def scan_folder(
    root: str, demand: Demand, *, window_s: float, settings: Params, max_failed_share: float
) -> Inventory:
    """Look at every recording of a folder, whatever its format.

    Raises `ConfigError` if the folder is not there.

    Parameters
    ----------
    root : folder, one file, or the address of either in object storage
    demand : what the montage asks of a recording
    settings : of a source, for the names of channels and the unit of those that state none
    """
    began = time.perf_counter()
    base, only = base_anywhere(root, "recordings")
    found = without_parts(find_files(base, tuple(FORMATS), only=only, folders=FOLDERS))
    places = [found.place(name) for name in found.files]
    like = (
        looks_like(base, made_here="")
        if isinstance(base, Path)
        else kind_of(sorted([*found.files, *found.others]))
    )
    look = _Look(_opener(settings), demand, window_s, max_failed_share)
    return look.at(places, found, like[0] if like else "", base, began)


def scan_source(
    source: FolderSource, demand: Demand, *, window_s: float, max_failed_share: float
) -> Inventory:
    """Look at every recording of a source, opened as the source opens it."""
    began = time.perf_counter()
    places = source.places(source.found.files)
    look = _Look(lambda _, place: source.open(place), demand, window_s, max_failed_share)
    return look.at(places, source.found, source.name, source.root, began)


UNKNOWN = ("unknown", "no format of recordings has its ending")
"""What is said of a single file that was typed, whatever it is."""


Opener = Callable[[str, Place], Any]
"""Opens a recording by its ending; gives None of a format that hms does not read itself."""


def _opener(settings: Params) -> Opener:
    """Return what opens recordings of every format, those that MNE reads only where it is installed."""
    aliases = dict(settings.aliases) if isinstance(settings, SourceParams) else {}
    unit = getattr(settings, "unit", None)
    has_mne = find_spec("mne") is not None

    def opened(ending: str, place: Place) -> Any:
        if ending in EDF_ENDINGS:
            return EdfRecording(place, aliases=aliases, unit=unit, block_s=None)
        if ending == ".parquet":
            read = bucket_of(place.path).read if is_afar(place.path) else read_bytes
            return ParquetRecording(read(place), aliases)
        is_read = has_mne and ending in ENDINGS and not is_afar(place.path)
        return MneRecording(place, aliases, files_of(place.path)) if is_read else None

    return opened


@dataclass(frozen=True)
class _Look:
    """How recordings are looked at, and whom their headers name."""

    opened: Opener
    demand: Demand
    window_s: float
    max_failed_share: float
    patients: set[str] = field(default_factory=set)

    def at(
        self, places: Sequence[Place], found: Found, like: str, root: Path | Address, began: float
    ) -> Inventory:
        """Return what is known of some files."""
        files = all_of(self._at_one, places, root)
        seconds = time.perf_counter() - began
        named = len(self.patients)
        return Inventory(files, found.others, found.links, like, named, seconds, self.max_failed_share)

    def _at_one(self, place: Place) -> FileFacts:
        """Return what is known of a file, whatever is wrong with it."""
        ending = ending_of(place.recording)
        folder = place.recording.partition("/")[0] if "/" in place.recording else ""
        name, way_in = FORMATS.get(ending, UNKNOWN)
        known: dict[str, Any] = {
            "file": place.recording, "format": name, "size": place.size or 0, "folder": folder,
        }  # fmt: skip
        try:
            recording = self.opened(ending, place)
            if recording is None:
                return FileFacts(**known, left_out=f"of another kind: {way_in}", fate="passed over")
            if getattr(recording, "holds_annotations_alone", False):
                return FileFacts(**known, left_out="it holds annotations alone", fate="passed over")
            known |= _facts_of(recording, self.patients)
            self._check(recording)
        except Unusable as reason:
            known |= {"left_out": reason.reason, "fate": "fails" if reason.failure else "left out"}
        except Exception as error:  # a foreign file may raise anything, and the next one is to be looked at
            reraise_fault(error)
            known |= {"left_out": f"{type(error).__name__}: {shortened(error)}", "fate": "fails"}
        return FileFacts(**known)

    def _check(self, recording: Any) -> None:
        """Raise Unusable if no window of a recording could be used."""
        self.demand.check(recording)
        stretches = getattr(recording, "stretches", ()) or ((0, recording.n_samples),)
        longest = max(stop - start for start, stop in stretches)
        if longest < round(self.window_s * recording.sfreq):
            raise Unusable(f"it lasts {longest / recording.sfreq:g} s, and a window {self.window_s:g} s")


def _facts_of(recording: Any, patients: set[str]) -> dict[str, Any]:
    """Return what an open recording says of itself."""
    n_samples = recording.n_samples  # raises where the file cannot be used
    named: Channels = recording.named
    who = getattr(recording, "patient", "")
    patients |= {who} - {""}
    rates = Counter(round(rate, 4) for rate in getattr(recording, "rates_hz", (recording.sfreq,)))
    return {
        "duration_s": round(n_samples / recording.sfreq, 3),
        "interruptions": max(0, len(getattr(recording, "stretches", ())) - 1),
        "sfreq_hz": ", ".join(f"{rate:g}" for rate, _ in rates.most_common()),
        "n_channels": len(named.labels),
        "n_eeg": named.n_eeg,
        "references": ", ".join(reference or "not stated" for reference in named.references),
        "unknown": " | ".join(named.unknown),
        "header_patient": bool(who),
        "mended": "; ".join(text for _, text in getattr(recording, "notes", ())),
    }


# --- texts ---------------------------------------------------------------------------------------


def _counted(texts: Iterable[str]) -> str:
    return listed([f"{n} {text}" for text, n in Counter(texts).most_common()], SHOWN_ENDINGS)


def _with_its_end(text: str) -> str:
    """Return a long reason with dots in its middle: its end says what to do."""
    half = SHOWN_REASON // 2
    return text if len(text) <= SHOWN_REASON else f"{text[:half]} … {text[-half:]}"


def _by_value(texts: Iterable[str]) -> str:
    """Return values with how many files have each, most first: ``200 Hz: 30 files; 256 Hz: 1 file``."""
    pairs = Counter(texts).most_common()
    return "; ".join(f"{text}: {counted(n, 'file')}" for text, n in pairs[:SHOWN_LABELS])


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return a text for each reason, most files first, that names the first of them."""
    groups: dict[str, list[str]] = {}
    for text, name in pairs:
        groups.setdefault(text, []).append(name)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    texts = [
        f"{names[0]}: {text}" if len(names) == 1 else f"{len(names)} files: {text} ({listed(names, 3)})"
        for text, names in ordered[:SHOWN_REASONS]
    ]
    return texts + ([f"{len(ordered) - SHOWN_REASONS} more reasons"] if len(ordered) > SHOWN_REASONS else [])


def _durations(seconds: list[float]) -> str:
    if not seconds:
        return ""
    ordered = sorted(seconds)
    middle = ordered[len(ordered) // 2]
    total = f"{sum(ordered) / 3600:.1f} h in all"
    if ordered[0] == ordered[-1]:
        return f"{middle:g} s each, {total}"
    return f"{ordered[0]:g} to {ordered[-1]:g} s, median {middle:g} s, {total}"
