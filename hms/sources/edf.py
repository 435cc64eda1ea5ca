"""Recordings in EDF and BDF files, an hour or many days long.

A recording is read in blocks of ``data.block_s`` seconds, so that memory does not grow
with its length. What stands behind a window is the block it starts in and the two beside
it: their bytes, with the header's, are the window's identity.

References
----------
Kemp et al., A simple format for exchange of digitized polygraphic recordings,
Electroencephalogr Clin Neurophysiol 82 (1992); Kemp & Olivan, EDF+, Clin Neurophysiol 114
(2003); BioSemi, "Which file format does BioSemi use" (BDF, 24 bits).
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.config.identity import digest_of
from hms.errors import ConfigError, Unusable
from hms.registry import PositiveFloat, register
from hms.sources.base import Place, SourceParams, WholeFiles
from hms.sources.channels import find_channels
from hms.sources.files import one_line, place_of
from hms.sources.rates import conversion
from hms.sources.tables import VotesTable
from hms.sources.units import scale_uv
from hms.sources.windows import read_windows, sliding_starts, windows_from_rows
from hms.store.files import digest_bytes

__all__ = ["Edf", "EdfRecording", "EdfSource", "open_edf"]

ENDINGS = (".edf", ".bdf")
FIXED_HEADER, SIGNAL_HEADER = 256, 256
"""Bytes of the header's first part, and of the part that each signal adds."""

LENGTHS_AT = 216
"""Bytes per signal in the header before the list of samples in a data record."""


@dataclass(frozen=True)
class Edf(SourceParams):
    """Settings of a folder of EDF files.

    Attributes
    ----------
    root : folder, searched with its sub-folders
    windows : table of windows; relative to ``root`` unless it lies where the command was
        typed; None for windows of 50 s that slide over every recording
    step_s : from one sliding window to the next
    unit : unit of channels whose header states none; None: such a recording is left out
    """

    root: str | None
    windows: str | None
    step_s: PositiveFloat
    unit: Literal["nV", "uV", "mV", "V"] | None


@register("data", "edf", Edf)
def open_edf(params: Edf, *, outputs_dir: Path, n_jobs: int) -> EdfSource:
    """Open a folder of EDF and BDF files."""
    import_edfio()
    if params.root is None:
        raise ConfigError("data.root is needed: the folder with the .edf or .bdf files")
    root = Path(params.root).expanduser()
    if not root.is_dir():
        raise ConfigError(f"data.root={params.root} is not a folder")
    return EdfSource(root, params)


def import_edfio() -> Any:
    """Return the module that reads EDF headers.

    Raises
    ------
    ConfigError
        If it is not installed; the text names the extra that installs it.
    """
    try:
        import edfio
    except ImportError:
        raise ConfigError(
            "data=edf reads files with edfio, which is not installed: pip install 'hms-eeg[edf]'"
        ) from None
    return edfio


@dataclass(frozen=True)
class EdfSource(WholeFiles):
    """A folder of EDF and BDF files."""

    name: ClassVar[str] = "edf"

    root: Path
    params: Edf

    def votes(self) -> VotesTable:
        """Return the table of windows: the one given, or sliding windows of all recordings."""
        if self.params.windows is not None:
            return read_windows(self._table(self.params.windows))
        files = self._files()
        if not files:
            raise ConfigError(f"data.root={self.root} holds no {' or '.join(ENDINGS)} file")
        rows = [
            {"recording": name, "patient_id": name, "start_s": start_s}
            for name in files
            for start_s in sliding_starts(self._duration_s(files[name]), self.params.step_s)
        ]
        return windows_from_rows(rows, self.root)

    def _table(self, windows: str) -> Path:
        path = Path(windows).expanduser()
        return path if path.exists() or path.is_absolute() else self.root / path

    def _files(self) -> dict[str, list[str]]:
        """Return the files of each recording's name; more than one is a fault of that recording."""
        found: dict[str, list[str]] = {}
        for base, folders, names in os.walk(os.path.abspath(self.root)):
            folders.sort()
            for name in sorted(names):
                stem, ending = os.path.splitext(name)
                if ending.lower() in ENDINGS:
                    found.setdefault(stem, []).append(os.path.join(base, name))
        return found

    def _duration_s(self, paths: Sequence[str]) -> float:
        """Return a recording's length, 0 where it cannot be read: it then has one window, with the reason."""
        try:
            recording = self.open(place_of("", paths[0]))
            return recording.n_samples / recording.sfreq
        except Unusable:
            return 0.0

    def places(self, recordings: Iterable[str]) -> list[Place]:
        """Return path, size and time of each recording."""
        files = self._files()
        return [self._place(name, files.get(name, [])) for name in recordings]

    def _place(self, name: str, paths: Sequence[str]) -> Place:
        if len(paths) > 1:
            shown = ", ".join(os.path.relpath(path, self.root) for path in paths)
            return Place(name, paths[0], None, None, f"several files have its name: {shown}")
        return place_of(name, paths[0] if paths else str(self.root / f"{name}.edf"))

    def part(self, start_s: float) -> str:
        """Return the number of the block in which a window starts, "" where there are no blocks."""
        return "" if self.params.block_s is None else str(math.floor(start_s / self.params.block_s))

    def open(self, place: Place) -> EdfRecording:
        """Read a file's header."""
        return EdfRecording(place, self.params)


# --- the header ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signal:
    """One channel of a file: where its samples stand in a data record, and how they become µV.

    ``problem`` says why they cannot; then ``gain`` and ``offset`` mean nothing.
    """

    label: str
    first: int
    n_samples: int
    gain: float
    offset: float
    problem: str | None


@dataclass(frozen=True)
class Header:
    """What a file's header says.

    Attributes
    ----------
    n_bytes : length of the header
    sample_bytes : bytes of a sample, 2 or 3
    record_samples : samples of all signals in a data record
    record_s : length of a data record, s
    n_records : data records in the file
    signals : all but annotations
    """

    n_bytes: int
    sample_bytes: int
    record_samples: int
    record_s: float
    n_records: int
    signals: tuple[Signal, ...]

    @property
    def record_bytes(self) -> int:
        """Bytes of a data record."""
        return self.record_samples * self.sample_bytes


def read_header(data: bytes, file_size: int, unit: str | None) -> Header:
    """Return the header of a file that begins with ``data``.

    Raises
    ------
    Unusable
        If it is none, contradicts itself or the file's size, or the recording has interruptions.
    """
    edf = _parse(data)
    try:
        n_bytes, n_records, record_s = edf.bytes_in_header_record, _count(data), edf.data_record_duration
        lengths, is_annotation = _record_lengths(data)
    except (ValueError, UnicodeDecodeError) as error:
        raise Unusable(f"the EDF header is damaged: {one_line(error)}") from None
    _check_kind(edf.reserved, n_bytes, len(lengths), record_s)
    sample_bytes = 3 if data[:1] == b"\xff" else 2
    total = sum(lengths)
    in_file = (file_size - n_bytes) // (total * sample_bytes) if total else 0
    if n_records == -1:
        n_records = in_file
    if in_file < n_records or n_records < 1:
        raise Unusable(
            f"the file is truncated: its header states {n_records} data records, it holds {in_file}"
        )
    firsts = np.cumsum([0, *lengths]).tolist()
    ordinary = [i for i, annotation in enumerate(is_annotation) if not annotation]
    found = tuple(
        _signal(signal, firsts[i], lengths[i], unit) for signal, i in zip(edf.signals, ordinary, strict=True)
    )
    return Header(n_bytes, sample_bytes, total, record_s, n_records, found)


def _parse(data: bytes) -> Any:
    """Let edfio parse the header; the samples are read here, a few seconds at a time."""
    edfio = import_edfio()
    if data[:8] not in (b"0       ", b"\xffBIOSEMI"):
        raise Unusable("the file is not EDF or BDF")
    read = edfio.read_bdf if data[:1] == b"\xff" else edfio.read_edf
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(io.BytesIO(data), header_encoding="latin-1")
    except Exception as error:  # edfio raises whatever a damaged field leads to
        raise Unusable(f"the EDF header is damaged: {one_line(error)}") from None


def _record_lengths(data: bytes) -> tuple[list[int], list[bool]]:
    """Return the samples of each signal in a data record, and which signals are annotations."""
    count = int(data[252:256])
    labels = [data[FIXED_HEADER + 16 * i :][:16].strip() for i in range(count)]
    start = FIXED_HEADER + LENGTHS_AT * count
    lengths = [int(data[start + 8 * i :][:8]) for i in range(count)]
    return lengths, [label in (b"EDF Annotations", b"BDF Annotations") for label in labels]


def _count(data: bytes) -> int:
    return int(data[236:244].decode("ascii"))


def _check_kind(reserved: str, n_bytes: int, n_signals: int, record_s: float) -> None:
    if reserved[:5] in ("EDF+D", "BDF+D"):
        raise Unusable(
            f"the recording is interrupted ({reserved[:5]}): its seconds are not those of the windows; "
            f"split it into continuous files"
        )
    expected = FIXED_HEADER + n_signals * SIGNAL_HEADER
    if n_bytes != expected:
        raise Unusable(
            f"the EDF header states its own length as {n_bytes} bytes; {n_signals} signals take {expected}"
        )
    if not record_s > 0:
        raise Unusable(f"the EDF header states data records of {record_s:g} s")


def _signal(signal: Any, first: int, n_samples: int, unit: str | None) -> Signal:
    """Return a channel; a problem with its calibration concerns only who needs it."""
    try:
        physical, digital = signal.physical_range, signal.digital_range
        scale_uv = _scale_uv(signal.physical_dimension, unit)
        if physical.min == physical.max:
            raise ValueError(f"physical minimum equals physical maximum ({physical.min:g})")
        if digital.min == digital.max:
            raise ValueError(f"digital minimum equals digital maximum ({digital.min})")
    except ValueError as error:
        return Signal(signal.label, first, n_samples, 0.0, 0.0, one_line(error))
    gain = (physical.max - physical.min) / (digital.max - digital.min)
    offset = physical.min - digital.min * gain
    return Signal(signal.label, first, n_samples, gain * scale_uv, offset * scale_uv, None)


def _scale_uv(dimension: str, unit: str | None) -> float:
    stated = dimension.strip() or unit or ""
    if not stated:
        raise ValueError("no unit is stated; data.unit says which one it is (nV, uV, mV, V)")
    return scale_uv(stated)


# --- the samples ---------------------------------------------------------------------------------


class EdfRecording:
    """An open recording; a file that cannot be used says so when it is first asked for something."""

    sfreq = SFREQ_HZ

    def __init__(self, place: Place, params: Edf) -> None:
        self._place, self._block_s = place, params.block_s
        self._head, size = _read_head(place)
        self._header: Header | None = None
        self._reason = ""
        try:
            self._header = read_header(self._head, size, params.unit)
        except Unusable as reason:
            self._reason = reason.reason
        labels = [] if self._header is None else [signal.label for signal in self._header.signals]
        self.named = find_channels(labels, dict(params.aliases))

    @property
    def header(self) -> Header:
        """The header; raises `Unusable` with the reason where it is damaged."""
        if self._header is None:
            raise Unusable(self._reason)
        return self._header

    @property
    def channels(self) -> tuple[str, ...]:
        """Names used here of the file's channels."""
        return self.named.keys

    @property
    def n_samples(self) -> int:
        """Samples of the whole recording at 200 Hz."""
        return math.floor(self.header.n_records * self.header.record_s * SFREQ_HZ + 1e-6)

    def digest_of(self, part: str) -> str:
        """Return the digest of the header, the block of that number and the two beside it.

        Without blocks, and where the header cannot be used, that of the whole file, read in pieces.
        """
        if self._header is None or not part:
            return self._digest_of_file()
        number = int(part)
        near = [digest_bytes(self._block(n)) for n in (number - 1, number, number + 1)]
        return digest_of([digest_bytes(self._head), *near])

    def _digest_of_file(self) -> str:
        import xxhash

        digest = xxhash.xxh3_128()
        with _opened(self._place) as file:
            while piece := file.read(2**22):
                digest.update(piece)
        return digest.hexdigest()

    def _block(self, number: int) -> bytes:
        """Return the bytes of the data records that a block touches, none outside the file."""
        assert self._block_s is not None, "a recording without blocks has no parts"
        first = math.floor(number * self._block_s / self.header.record_s)
        return self._read_records(first, math.ceil((number + 1) * self._block_s / self.header.record_s))

    def _read_records(self, first: int, stop: int) -> bytes:
        header = self.header
        first, stop = max(first, 0), min(stop, header.n_records)
        if stop <= first:
            return b""
        size = (stop - first) * header.record_bytes
        with _opened(self._place) as file:
            file.seek(header.n_bytes + first * header.record_bytes)
            data = file.read(size)
        if len(data) < size:
            raise Unusable("the file became shorter while it was read", lasting=False)
        return data

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> NDArray[np.float32]:
        """Return samples start to stop in µV at 200 Hz, NaN outside the recording."""
        eeg = np.full((len(channels), stop - start), np.nan, dtype=np.float32)
        first, last = max(start, 0), min(stop, self.n_samples)
        if last <= first or not channels:
            return eeg
        rates: dict[int, list[int]] = {}
        for row, name in enumerate(channels):
            rates.setdefault(self._usable(name).n_samples, []).append(row)
        for n_per_record, rows in rates.items():
            signals = [self._usable(channels[row]) for row in rows]
            eeg[rows, first - start : last - start] = self._resampled(signals, n_per_record, first, last)
        return eeg

    def _usable(self, name: str) -> Signal:
        signal = self.header.signals[self.named.places[name]]
        if signal.problem is not None:
            raise Unusable(f"channel '{signal.label}': {signal.problem}")
        return signal

    def _resampled(
        self, signals: Sequence[Signal], n_per_record: int, start: int, stop: int
    ) -> NDArray[np.float32]:
        """Return output samples start to stop of channels that share a sampling rate."""
        rate = conversion(n_per_record / self.header.record_s, SFREQ_HZ)
        first, last = rate.source_range(start, stop)
        n_in_file = self.header.n_records * n_per_record
        inside = self._samples(signals, n_per_record, max(first, 0), min(last, n_in_file))
        # Beyond its ends a recording is continued by its last sample: no step, so no ringing.
        padded = np.pad(inside, ((0, 0), (max(0, -first), max(0, last - n_in_file))), mode="edge")
        return rate.apply(padded, first, start, stop)

    def _samples(
        self, signals: Sequence[Signal], n_per_record: int, first: int, stop: int
    ) -> NDArray[np.float64]:
        """Return samples in µV as the file has them: float64, shape (n_signals, stop - first)."""
        first_record, last_record = first // n_per_record, -(-stop // n_per_record)
        records = self._digital(first_record, last_record)
        cut = slice(first - first_record * n_per_record, stop - first_record * n_per_record)
        found = np.empty((len(signals), stop - first))
        for row, signal in zip(found, signals, strict=True):
            digital = records[:, signal.first : signal.first + n_per_record].reshape(-1)[cut]
            np.multiply(digital, signal.gain, out=row)
            row += signal.offset
        return found

    def _digital(self, first: int, stop: int) -> NDArray[Any]:
        """Return data records as the file has them: integers, shape (n_records, record_samples)."""
        data = self._read_records(first, stop)
        if self.header.sample_bytes == 2:
            return np.frombuffer(data, "<i2").reshape(-1, self.header.record_samples)
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return (padded.view("<i4") >> 8).reshape(-1, self.header.record_samples)


def _read_head(place: Place) -> tuple[bytes, int]:
    """Return the header's bytes, as many as its number of signals takes, and the file's size."""
    with _opened(place) as file:
        head = file.read(FIXED_HEADER)
        count = head[252:256].strip()
        if count.isdigit():
            head += file.read(int(count) * SIGNAL_HEADER)
        return head, os.fstat(file.fileno()).st_size


def _opened(place: Place) -> io.BufferedReader:
    try:
        return open(place.path, "rb")
    except FileNotFoundError:
        raise Unusable("the recording's file is missing", lasting=False) from None
    except OSError as error:
        raise Unusable(f"the recording's file cannot be read: {error.strerror}", lasting=False) from None
