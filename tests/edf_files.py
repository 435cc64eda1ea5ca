"""EDF files field by field, for headers that no library would write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import EEG_CHANNELS

AMPLITUDE_UV = 40.0
STEP_UV = 2000 / 65535
"""What one digital step is in the range of -1000 to 1000 µV."""


def tone(number: int, n_samples: int, sfreq: float) -> NDArray[np.float64]:
    """Return the signal of electrode ``number``: a sine of 40 µV at 2 Hz, 2.25 Hz, 2.5 Hz ..."""
    at = np.arange(n_samples) / sfreq
    return AMPLITUDE_UV * np.sin(2 * np.pi * (2 + number / 4) * at + number)


def tones(seconds: float = 60, sfreq: float = 200, n: int = len(EEG_CHANNELS)) -> NDArray[np.float64]:
    """Return a sine for each electrode, float64, shape (n, seconds * sfreq), µV."""
    return _tones(seconds, sfreq, n).copy()


@cache
def _tones(seconds: float, sfreq: float, n: int) -> NDArray[np.float64]:
    return np.stack([tone(i, round(seconds * sfreq), sfreq) for i in range(n)])


@dataclass(frozen=True)
class EdfFile:
    """A file in the making: a minute of the 19 electrodes unless told otherwise.

    Attributes
    ----------
    eeg : samples in the unit of the file, shape (n_signals, n_samples)
    per_record : samples of a signal in a data record
    onset : of each data record, s; None: no annotations
    signal_fields : fields of all signals, or one text for all; bytes stay as they are
    """

    eeg: NDArray[np.float64] = field(default_factory=tones)
    labels: Sequence[str] = EEG_CHANNELS
    per_record: int = 200
    version: Any = "0"
    patient: Any = "X X X X"
    recording: Any = "Startdate X X X X"
    reserved: str = ""
    n_records: Any = None
    duration: Any = "1"
    n_bytes: Any = None
    unit: Any = "uV"
    physical: tuple[Any, Any] = (-1000, 1000)
    digital: tuple[Any, Any] = (-32768, 32767)
    fill: bytes = b" "
    onset: Callable[[int], float] | None = None
    annotations_first: bool = False
    sample_bytes: int = 2
    after: bytes = b""

    def changed(self, **changes: Any) -> EdfFile:
        """Return the same file with other fields."""
        return replace(self, **changes)

    def write(self, path: Path) -> Path:
        """Write the file and return its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.to_bytes())
        return path

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        count = self.eeg.shape[1] // self.per_record
        records = [self._record(number) for number in range(count)]
        return self._header(count) + b"".join(records) + self.after

    def _field(self, value: Any, width: int) -> bytes:
        raw = value if isinstance(value, bytes) else str(value).encode("latin-1")
        assert len(raw) <= width, f"{raw!r} is longer than {width} bytes"
        return raw.ljust(width, self.fill)

    def _header(self, count: int) -> bytes:
        labels = list(self.labels)
        rows: Mapping[str, list[Any]] = {
            "label": labels, "transducer": [""] * len(labels), "unit": self._each(self.unit),
            "physical_min": self._each(self.physical[0]), "physical_max": self._each(self.physical[1]),
            "digital_min": self._each(self.digital[0]), "digital_max": self._each(self.digital[1]),
            "prefilter": [""] * len(labels), "n_samples": [self.per_record] * len(labels),
            "reserved": [""] * len(labels),
        }  # fmt: skip
        notes = {
            "label": "EDF Annotations" if self.sample_bytes == 2 else "BDF Annotations", "n_samples": 30,
            "physical_min": -1, "physical_max": 1, "digital_min": -32768, "digital_max": 32767,
        }  # fmt: skip
        if self.onset is not None:
            place = 0 if self.annotations_first else len(labels)
            for name, values in rows.items():
                values.insert(place, notes.get(name, ""))
        widths = {"label": 16, "transducer": 80, "prefilter": 80, "reserved": 32}
        n_signals = len(rows["label"])
        fixed = [
            (self.version, 8), (self.patient, 80), (self.recording, 80), ("02.03.04", 8), ("05.06.07", 8),
            (256 * (n_signals + 1) if self.n_bytes is None else self.n_bytes, 8), (self.reserved, 44),
            (count if self.n_records is None else self.n_records, 8), (self.duration, 8), (n_signals, 4),
        ]  # fmt: skip
        head = b"".join(self._field(value, width) for value, width in fixed)
        return head + b"".join(
            self._field(value, widths.get(name, 8)) for name, values in rows.items() for value in values
        )

    def _each(self, value: Any) -> list[Any]:
        return list(value) if isinstance(value, list) else [value] * len(self.labels)

    def _record(self, number: int) -> bytes:
        low, high = (float(str(v).replace(",", ".")) for v in self.physical)
        bottom, top = (float(str(v).replace(",", ".")) for v in self.digital)
        part = self.eeg[:, number * self.per_record : (number + 1) * self.per_record]
        digital = np.rint((part - low) * (top - bottom) / (high - low) + bottom).astype(int)
        if self.sample_bytes == 2:
            samples = digital.astype("<i2").tobytes()
        else:
            samples = digital.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        if self.onset is None:
            return samples
        list_of_notes = f"+{self.onset(number):g}\x14\x14\0".encode().ljust(30 * self.sample_bytes, b"\0")
        return list_of_notes + samples if self.annotations_first else samples + list_of_notes
