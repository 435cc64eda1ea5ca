"""The header of an EDF or BDF file, read as other software that accepts it reads it.

Fields are taken as they are meant where that is beyond doubt (zeros for spaces, a decimal comma, a whole
number with decimals), and what was mended is noted. What would have to be guessed is refused.

References
----------
Kemp et al., A simple format for exchange of digitized polygraphic recordings,
Electroencephalogr Clin Neurophysiol 82 (1992); Kemp & Olivan, EDF+, Clin Neurophysiol 114
(2003); BioSemi, "Which file format does BioSemi use" (BDF, 24 bits).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from hms.competition import SFREQ_HZ
from hms.errors import Unusable
from hms.sources.files import pointer
from hms.sources.rates import nominal_duration
from hms.sources.units import scale_uv, unit_text

FIXED_BYTES, SIGNAL_BYTES = 256, 256
"""Bytes of the header's first part, and of the part that each signal adds."""

_FIELDS = {"label": 16, "transducer": 80, "unit": 8, "physical_min": 8, "physical_max": 8,
           "digital_min": 8, "digital_max": 8, "prefilter": 80, "n_samples": 8, "reserved": 32}  # fmt: skip
"""Fields of a signal and their bytes; the header has each for all signals in turn."""

_ANNOTATIONS = ("edf annotations", "bdf annotations")
_NOT_EDF = "the file is not EDF or BDF"
_MAX_SIGNALS = 9_999

Note = tuple[str, str]
"""What of a file was mended: a flag (``cut``, ``mended``, ``offset``), and a text of our own words."""


@dataclass(frozen=True)
class Signal:
    """One channel of a file: where its samples are in a data record, and how they become µV.

    Attributes
    ----------
    first, n_samples : place and number of its samples in a data record
    gain, offset : µV = digital * gain + offset; meaningless where there is a problem
    reach_uv : largest µV that the header allows, of either sign
    problem : why its samples cannot become µV
    """

    label: str
    first: int
    n_samples: int
    gain: float
    offset: float
    reach_uv: float
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
    signals : all but annotations; none in a file of annotations alone
    annotations : place and number of the samples of each signal of annotations
    is_interrupted : whether data records need not follow each other in time (EDF+D, BDF+D)
    patient : whom the header names, empty if nobody
    notes : what was mended
    """

    n_bytes: int
    sample_bytes: int
    record_samples: int
    record_s: Fraction
    n_records: int
    signals: tuple[Signal, ...]
    annotations: tuple[tuple[int, int], ...]
    is_interrupted: bool
    patient: str
    notes: tuple[Note, ...]

    @property
    def record_bytes(self) -> int:
        """Bytes of a data record."""
        return self.record_samples * self.sample_bytes


def n_header_bytes(start: bytes) -> int:
    """Return how long the header is of a file that begins with ``start``, 256 bytes or more.

    Raises `Unusable` if the file is not an EDF or BDF.
    """
    if not start:
        raise Unusable("the file is empty")
    if start[:2] == b"\x1f\x8b":
        raise Unusable("the file is compressed (gzip); unpack it")
    if start[:4] == b"PK\x03\x04":
        raise Unusable("the file is a zip archive; unpack it")
    if pointer(start):
        raise Unusable(f"the file {pointer(start)}")
    count = _text(start[252:256])
    if not re.fullmatch(r"[0-9]+", count) or not 1 <= int(count) <= _MAX_SIGNALS:
        if start[:8] in (b"0       ", b"\xffBIOSEMI"):
            raise Unusable("the EDF header is damaged: its number of signals is not a number")
        raise Unusable(_NOT_EDF)
    return FIXED_BYTES + int(count) * SIGNAL_BYTES


def read_header(data: bytes, file_size: int, unit: str | None, is_zero_from: Callable[[int], bool]) -> Header:
    """Return the header of a file.

    ``data`` are as many bytes from its start as `n_header_bytes` says, ``unit`` is that of signals whose
    header states none, and ``is_zero_from`` tells whether nothing but zeros is in the file from a place on.
    Raises `Unusable` if it is not such a header, or contradicts itself or the file's size beyond mending.
    """
    fields = _Fields(data)
    if len(data) < fields.expected_bytes:
        raise Unusable(f"the file ends within its header, after {len(data)} of {fields.expected_bytes} bytes")
    lengths = [fields.count(raw, "its samples in a data record") for raw in fields.of_signals("n_samples")]
    is_annotation = [_text(raw).lower() in _ANNOTATIONS for raw in fields.of_signals("label")]
    firsts = [sum(lengths[:i]) for i in range(len(lengths))]
    annotations = tuple((firsts[i], lengths[i]) for i, annotation in enumerate(is_annotation) if annotation)
    ordinary = [i for i, annotation in enumerate(is_annotation) if not annotation]
    sample_bytes = 3 if data[:1] == b"\xff" else 2
    record_s = fields.duration([lengths[i] for i in ordinary])
    size = _Size(file_size, sum(lengths) * sample_bytes, fields)
    n_bytes = size.header_bytes()
    return Header(
        n_bytes=n_bytes,
        sample_bytes=sample_bytes,
        record_samples=sum(lengths),
        record_s=record_s,
        n_records=size.n_records(n_bytes, is_zero_from) if ordinary else 0,
        signals=tuple(fields.signal(i, firsts[i], lengths[i], unit) for i in ordinary),
        annotations=annotations,
        is_interrupted=_text(data[192:236])[:5].upper() in ("EDF+D", "BDF+D"),
        patient=patient_of(_text(data[8:88]), is_plus=_text(data[192:236])[:4].upper() in ("EDF+", "BDF+")),
        notes=tuple(dict.fromkeys(fields.notes)),
    )


def patient_of(field: str, *, is_plus: bool) -> str:
    """Return whom a header's field names: in EDF+ the hospital's code or, without one, name and birth date.

    Empty where the field is empty or anonymised (``X X X X``).
    """
    words = field.split()
    if all(set(word) <= set("Xx?-_.0") for word in words):
        return ""
    if is_plus and len(words) >= 4:
        code, _, birth, name = words[:4]
        if code.upper() != "X":
            return code
        return name if birth.upper() == "X" else f"{name} {birth}" if name.upper() != "X" else ""
    return " ".join(words)


def _text(raw: bytes) -> str:
    """Return a field's text; what is behind a zero byte is not part of it."""
    head = raw.split(b"\0", 1)[0]
    return (head if head.strip() else raw.replace(b"\0", b" ")).decode("latin-1").strip()


@dataclass
class _Fields:
    """The fields of a header, and what had to be mended to read them."""

    data: bytes
    notes: list[Note] = field(default_factory=list)
    columns: dict[str, list[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.n_signals = int(_text(self.data[252:256]))
        self.expected_bytes = FIXED_BYTES + self.n_signals * SIGNAL_BYTES
        self.largest = 1 << (23 if self.data[:1] == b"\xff" else 15)
        if b"\0" in self.data[: self.expected_bytes]:
            self.mended("the header has zero bytes for spaces")
        if self.data[:1] != b"\xff" and _text(self.data[:8]) != "0":
            self.mended("the header's version is not 0")

    def mended(self, text: str) -> None:
        """Note what was mended."""
        self.notes.append(("mended", text))

    def of_signals(self, name: str) -> list[bytes]:
        """Return a field of each signal; the result is not to be changed."""
        if name not in self.columns:
            before = sum(width for _, width in list(_FIELDS.items())[: list(_FIELDS).index(name)])
            start, width = FIXED_BYTES + before * self.n_signals, _FIELDS[name]
            at = (start + width * i for i in range(self.n_signals))
            self.columns[name] = [self.data[first : first + width] for first in at]
        return self.columns[name]

    def number(self, raw: bytes, what: str) -> float:
        """Return a number; raise ValueError if the field holds none."""
        text = _text(raw)
        if "," in text:
            self.mended("the header has decimal commas")
        try:
            number = float(text.replace(",", "."))
        except ValueError:
            raise ValueError(f"{what} is '{text}', no number") from None
        if not math.isfinite(number):
            raise ValueError(f"{what} is '{text}', no finite number")
        return number

    def whole(self, raw: bytes, what: str) -> int:
        """Return a whole number; raise `Unusable` if the field holds none."""
        try:
            number = self.number(raw, what)
            if not number.is_integer():
                raise ValueError(f"{what} is {number:g}, no whole number")
        except ValueError as error:
            raise Unusable(f"the EDF header is damaged: {error}") from None
        if not re.fullmatch(r"[+-]?[0-9]+", _text(raw)):
            self.mended("the header writes whole numbers with decimals")
        return int(number)

    def count(self, raw: bytes, what: str) -> int:
        """Return a whole number that is not negative."""
        number = self.whole(raw, what)
        if number < 0:
            raise Unusable(f"the EDF header is damaged: {what} is {number}")
        return number

    def duration(self, lengths: Sequence[int]) -> Fraction:
        """Return what a data record lasts, s, from the samples of the signals in it."""
        text = _text(self.data[244:252])
        if not lengths:
            return Fraction(0)
        if "," in text:
            self.mended("the header has decimal commas")
        common = Counter(n for n in lengths if n)
        if not common:
            raise Unusable("the EDF header states no samples in a data record")
        n_samples = max(common, key=lambda n: (common[n], n))
        try:
            return nominal_duration(text, n_samples, SFREQ_HZ)
        except ValueError as error:
            raise Unusable(f"the EDF header is damaged: {error}") from None

    def signal(self, i: int, first: int, n_samples: int, unit: str | None) -> Signal:
        """Return a channel; a problem with its calibration concerns only who needs it."""
        label = _text(self.of_signals("label")[i])
        try:
            gain, offset, reach = self._calibration(i, unit)
        except ValueError as error:
            return Signal(label, first, n_samples, 0.0, 0.0, 0.0, str(error))
        return Signal(label, first, n_samples, gain, offset, reach, None)

    def _calibration(self, i: int, unit: str | None) -> tuple[float, float, float]:
        low, high, bottom, top = (
            self.number(self.of_signals(name)[i], f"its {name.replace('_', ' ')}imum")
            for name in ("physical_min", "physical_max", "digital_min", "digital_max")
        )
        scale = self._scale_uv(self.of_signals("unit")[i], unit)
        if low == high:
            raise ValueError(f"physical minimum equals physical maximum ({low:g})")
        if bottom == top:
            raise ValueError(f"digital minimum equals digital maximum ({bottom:g})")
        if min(bottom, top) >= 0 and max(bottom, top) > self.largest:
            raise ValueError(
                f"its digital range {bottom:.0f} to {top:.0f} goes beyond {self.largest}: whether samples "
                "are unsigned is not known"
            )
        if (low > high) != (bottom > top):
            self.mended("a range is reversed: the signal's sign is changed, as MNE does")
        for name in ("digital_min", "digital_max"):
            if not re.fullmatch(r"[+-]?[0-9]+", _text(self.of_signals(name)[i])):
                self.mended("the header writes whole numbers with decimals")
        gain = (high - low) / (top - bottom)
        return gain * scale, (low - bottom * gain) * scale, max(abs(low), abs(high)) * scale

    def _scale_uv(self, raw: bytes, unit: str | None) -> float:
        stated = unit_text(raw.split(b"\0", 1)[0]) or unit or ""
        if not stated:
            raise ValueError("no unit is stated; data.unit says which one it is (nV, uV, mV, V)")
        return scale_uv(stated)


@dataclass(frozen=True)
class _Size:
    """A file's size against what its header says."""

    file_bytes: int
    record_bytes: int
    fields: _Fields

    def _stated_records(self) -> int:
        return self.fields.whole(self.fields.data[236:244], "its number of data records")

    def header_bytes(self) -> int:
        """Return where the data begin; of two lengths that the header implies, that which fits the file."""
        expected = self.fields.expected_bytes
        try:
            stated = self.fields.whole(self.fields.data[184:192], "its own length")
        except Unusable:
            stated = -1
        if stated == expected:
            return expected
        n_bytes = self._stated_records() * self.record_bytes
        fitting = [n for n in (expected, stated) if n >= expected and n + n_bytes == self.file_bytes]
        if len(fitting) != 1:
            raise Unusable(
                f"the EDF header states its own length as {stated} bytes; "
                f"{self.fields.n_signals} signals take {expected}"
            )
        self.fields.mended("the header states a wrong length of its own")
        return fitting[0]

    def n_records(self, n_bytes: int, is_zero_from: Callable[[int], bool]) -> int:
        """Return how many data records there are."""
        stated, data_bytes = self._stated_records(), self.file_bytes - n_bytes
        whole, rest = divmod(data_bytes, self.record_bytes)
        if stated == 0 and whole:
            raise Unusable(
                "the header states no data record (0), as of a recording that was never closed, but data "
                f"for {whole} follow; if they are EEG, write -1 or {whole} into the header"
            )
        if stated < -1 or whole == 0:
            raise Unusable(f"the file has no data: its header states {stated} data records, it holds {whole}")
        if stated == -1:
            if rest:
                self.fields.notes.append(("cut", f"the end is cut: {whole} whole data records are there"))
            return whole
        if whole < stated:
            self.fields.notes.append(("cut", f"the end is cut: {whole} of {stated} data records are there"))
            return whole
        excess = data_bytes - stated * self.record_bytes
        if excess and not is_zero_from(n_bytes + stated * self.record_bytes):
            raise Unusable(
                f"the file is longer than its header states: {stated} data records take "
                f"{stated * self.record_bytes} bytes, {data_bytes} are there; which are EEG is not known"
            )
        if excess:
            self.fields.mended("zeros follow the last data record")
        return stated
