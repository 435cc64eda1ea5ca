"""An open EDF or BDF file: samples in µV at 200 Hz, decoded from the very bytes that are digested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.config.identity import digest_of
from hms.errors import Unusable
from hms.labels.events import Event
from hms.sources.afar import steady
from hms.sources.base import Place
from hms.sources.base import Stretch as Span
from hms.sources.channels import find_channels, is_derivation, is_electrode
from hms.sources.edf.header import FIXED_BYTES, Header, Note, Signal, n_header_bytes, read_header
from hms.sources.edf.timeline import Stretch, onset_of, parse_tals, stretches_of
from hms.sources.rates import conversion, slow_notes
from hms.store.files import digest_bytes

HELD_BYTES = 1 << 25
"""A file up to this size, 32 MB, is held in memory where it is read whole."""

EXACT_UV = 8_192.0
"""Below this, float32 is off by less than 2.5e-4 µV, and offsets stay where they are."""


@dataclass(frozen=True)
class _Held:
    """Data records in memory."""

    first: int
    stop: int
    data: bytes


class EdfRecording:
    """An open recording; an unusable file raises `Unusable` when something is first asked of it."""

    sfreq = SFREQ_HZ

    def __init__(
        self, place: Place, *, aliases: dict[str, str], unit: str | None = None, block_s: float | None = None
    ) -> None:
        self._file = steady(place)
        self._block_s = block_s
        self._held: tuple[_Held, ...] = ()
        self._digest: tuple[str, str] | None = None
        self._header: Header | None = None
        self._reason: Unusable | None = None
        try:
            self._header = self._read_header(unit)
            if not self._header.signals:
                self._reason = Unusable("the file holds annotations alone, no signal")
        except Unusable as reason:
            if not reason.permanent:
                raise
            self._reason = reason
        self.named = find_channels([signal.label for signal in self.signals], aliases)

    def _read_header(self, unit: str | None) -> Header:
        start = self._file.read(0, FIXED_BYTES)
        self._head = start + self._file.read(FIXED_BYTES, n_header_bytes(start) - FIXED_BYTES)
        return read_header(self._head, self._file.size, unit, self._file.is_zero_from)

    @property
    def header(self) -> Header:
        """The header; raises `Unusable` with the reason where the file cannot be used."""
        if self._reason is not None:
            raise Unusable(self._reason.reason)
        assert self._header is not None, "a header is read or there is a reason"
        return self._header

    @property
    def holds_annotations_alone(self) -> bool:
        """Whether the file is whole and has no signal."""
        return self._header is not None and not self._header.signals

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Channels of the file but annotations; none where the header cannot be used."""
        return () if self._header is None else self._header.signals

    @property
    def rates_hz(self) -> tuple[float, ...]:
        """Sampling rate of each signal as it is in the file."""
        return tuple(float(signal.n_samples / self.header.record_s) for signal in self.signals)

    @property
    def channels(self) -> tuple[str, ...]:
        """Keys of the file's channels."""
        return self.named.keys

    @property
    def patient(self) -> str:
        """Whom the header names, empty if nobody; raises `Unusable` where it cannot be read."""
        return self.header.patient

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        """What was mended, of the header, of the end and by taking offsets off the EEG; EEG of a low rate."""
        eeg = [k for k, c in self.named.keyed.items() if is_electrode(c.name) or is_derivation(c.name)]
        rates = self.rates_hz
        notes = [*self.header.notes, *slow_notes(rates[self.named.places[key]] for key in eeg)]
        if offsets := [offset for offset in map(self._offset, eeg) if offset]:
            span = f"{min(offsets) / 1e3:g} to {max(offsets) / 1e3:g} mV"
            notes.append(("offset", f"constants of {span} are taken off {len(offsets)} channels"))
        return tuple(notes)

    # --- time ------------------------------------------------------------------------------------

    @cached_property
    def _timeline(self) -> tuple[Stretch, ...]:
        """Stretches of data records that follow each other, in the order of time."""
        header = self.header
        if not header.is_interrupted or not header.annotations:
            return (Stretch(0, header.n_records, Fraction(0)),)
        first, n_samples = header.annotations[0]
        onsets = [onset_of(tal) for tal in self._lists_of(header, first, n_samples, header.n_records)]
        return stretches_of(onsets, header.record_s)

    def annotation_lists(self) -> list[bytes]:
        """Return the lists of annotations (TALs) of all data records in turn; of any file with a header."""
        header = self.header if self._header is None else self._header
        n_records = header.n_records
        if not header.signals and header.record_bytes:
            n_records = (self._file.size - header.n_bytes) // header.record_bytes
        by_signal = [self._lists_of(header, *place, n_records) for place in header.annotations]
        return [tal for record in zip(*by_signal, strict=True) for tal in record]

    def events(self) -> list[Event]:
        """Return the texts of the file's annotations, in s from its first sample."""
        found = [tal for data in self.annotation_lists() for tal in parse_tals(data)]
        begins = next((tal.onset_s for tal in found if not tal.texts), 0.0)
        return [
            Event(onset_s, onset_s + tal.duration_s if tal.duration_s else None, text)
            for tal in found
            for onset_s in [tal.onset_s - begins]
            for text in tal.texts
        ]

    def _lists_of(self, header: Header, first: int, n_samples: int, n_records: int) -> list[bytes]:
        start, width = header.n_bytes + first * header.sample_bytes, n_samples * header.sample_bytes
        return [self._file.read(start + number * header.record_bytes, width) for number in range(n_records)]

    @property
    def duration_s(self) -> float:
        """Length of the whole recording, interruptions included."""
        return float(self._end_s(self._timeline[-1]))

    def _end_s(self, stretch: Stretch) -> Fraction:
        return stretch.start_s + (stretch.stop - stretch.first) * self.header.record_s

    @property
    def n_samples(self) -> int:
        """Samples of the whole recording at 200 Hz, interruptions included."""
        return self.stretches[-1][1]

    @cached_property
    def stretches(self) -> tuple[Span, ...]:
        """Samples at 200 Hz, from start to stop, of each part without an interruption."""
        rate = Fraction(SFREQ_HZ)
        return tuple(
            (
                round(s.start_s * rate),
                round(s.start_s * rate) + math.floor((self._end_s(s) - s.start_s) * rate),
            )
            for s in self._timeline
        )

    # --- bytes -----------------------------------------------------------------------------------

    def digest_of(self, part: str) -> str:
        """Return the digest of what is behind a part, which is held in memory to be decoded.

        That is the header, when the data records begin, the samples that offsets are taken from, and
        the block of that number with the two next to it. Without blocks, and where the header cannot be
        used, it is the whole file.
        """
        if self._digest is None or self._digest[0] != part:
            self._digest = part, self._digest_now(part)
        return self._digest[1]

    def _digest_now(self, part: str) -> str:
        if self._reason is not None or not part:
            if self._reason is None and self._file.size <= HELD_BYTES:
                self._held = (self._hold(0, self.header.n_records),)
            return self._file.digest()
        number = int(part)
        self._held = tuple(self._hold(*records) for records in self._records_near(number))
        timeline = [[s.first, s.stop, str(s.start_s)] for s in self._timeline]
        held = [[h.first, h.stop, digest_bytes(h.data)] for h in self._held]
        probed = digest_bytes(b"".join(self._probed)) if self._has_wide_range else ""
        return digest_of([digest_bytes(self._head), timeline, probed, held])

    def _records_near(self, number: int) -> list[tuple[int, int]]:
        """Return the data records, in each stretch, of a block and the two next to it."""
        assert self._block_s is not None, "a recording without blocks has no parts"
        block_s, record_s = Fraction(self._block_s), self.header.record_s
        found = []
        for stretch in self._timeline:
            first = math.floor(((number - 1) * block_s - stretch.start_s) / record_s)
            stop = math.ceil(((number + 2) * block_s - stretch.start_s) / record_s)
            first, stop = (min(max(stretch.first + n, stretch.first), stretch.stop) for n in (first, stop))
            if stop > first:
                found.append((first, stop))
        return found

    def _hold(self, first: int, stop: int) -> _Held:
        header = self.header
        size = (stop - first) * header.record_bytes
        return _Held(first, stop, self._file.read(header.n_bytes + first * header.record_bytes, size))

    def _records(self, first: int, stop: int) -> memoryview:
        """Return data records: those in memory, else from the open file."""
        held = next((h for h in self._held if h.first <= first and stop <= h.stop), None)
        if held is None:
            held = self._hold(first, stop)
        n_bytes = self.header.record_bytes
        return memoryview(held.data)[(first - held.first) * n_bytes : (stop - held.first) * n_bytes]

    # --- samples ---------------------------------------------------------------------------------

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> NDArray[np.float32]:
        """Return samples start to stop in µV at 200 Hz, NaN outside the recording and in interruptions.

        From channels that stand farther than `EXACT_UV` from zero, a constant of the file is taken off,
        a whole number of µV, before anything is rounded to float32.
        """
        eeg = np.full((len(channels), stop - start), np.nan, dtype=np.float32)
        groups: dict[int, list[int]] = {}
        for row, key in enumerate(channels):
            groups.setdefault(self._usable(key).n_samples, []).append(row)
        for stretch, (begin, end) in zip(self._timeline, self.stretches, strict=True):
            first, last = max(start, begin), min(stop, end)
            if last <= first:
                continue
            for n_samples, rows in groups.items():
                keys = [channels[row] for row in rows]
                found = self._resampled(keys, n_samples, stretch, first - begin, last - begin)
                eeg[rows, first - start : last - start] = found
        return eeg

    def _usable(self, key: str) -> Signal:
        """Return a channel's signal; raises `Unusable` if its samples cannot become µV."""
        signal = self.header.signals[self.named.places[key]]
        if signal.problem is None and not signal.n_samples:
            raise Unusable(f"channel '{key}': it has no samples")
        if signal.problem is not None:
            raise Unusable(f"channel '{key}': {signal.problem}")
        return signal

    def _resampled(
        self, keys: Sequence[str], n_samples: int, stretch: Stretch, start: int, stop: int
    ) -> NDArray[np.float32]:
        """Return output samples of a stretch, counted from its start, of channels that share a rate."""
        rate = conversion(n_samples / self.header.record_s, SFREQ_HZ)
        samples = partial(self._samples, keys, n_samples, stretch)
        return rate.resampled(samples, (stretch.stop - stretch.first) * n_samples, start, stop)

    def _samples(
        self, keys: Sequence[str], n_samples: int, stretch: Stretch, first: int, stop: int
    ) -> NDArray[np.float64]:
        """Return samples in µV as the file has them: float64, shape (n_signals, stop - first)."""
        begin, end = first // n_samples, -(-stop // n_samples)
        records = self._records(stretch.first + begin, stretch.first + end)
        cut = slice(first - begin * n_samples, stop - begin * n_samples)
        found = np.empty((len(keys), stop - first))
        for row, key in zip(found, keys, strict=True):
            signal = self._usable(key)
            np.multiply(self._digital(records, signal).reshape(-1)[cut], signal.gain, out=row)
            row += signal.offset - self._offset(key)
        return found

    def _digital(self, records: memoryview | bytes, signal: Signal) -> NDArray[Any]:
        """Return a signal's samples as the file has them: integers, shape (n_records, n_samples)."""
        columns = slice(signal.first, signal.first + signal.n_samples)
        if self.header.sample_bytes == 2:
            return np.frombuffer(records, "<i2").reshape(-1, self.header.record_samples)[:, columns]
        three = np.frombuffer(records, np.uint8).reshape(-1, self.header.record_samples, 3)[:, columns]
        padded = np.zeros((*three.shape[:2], 4), np.uint8)
        padded[..., 1:] = three
        return padded.view("<i4")[..., 0] >> 8

    # --- offsets ---------------------------------------------------------------------------------

    @property
    def _has_wide_range(self) -> bool:
        return any(signal.reach_uv > EXACT_UV for signal in self.signals)

    @cached_property
    def _probed(self) -> tuple[bytes, ...]:
        """The first, the middle and the last data record, which offsets are taken from."""
        n_records = self.header.n_records
        numbers = sorted({0, n_records // 2, n_records - 1})
        return tuple(bytes(self._hold(number, number + 1).data) for number in numbers)

    @cached_property
    def _offsets(self) -> dict[str, float]:
        return {}

    def _offset(self, key: str) -> float:
        """Return the constant that is taken off a channel, µV; 0 where float32 is exact enough."""
        signal = self.header.signals[self.named.places[key]]
        if signal.problem is not None or signal.reach_uv <= EXACT_UV or not signal.n_samples:
            return 0.0
        if key not in self._offsets:
            digital = np.concatenate([self._digital(record, signal).ravel() for record in self._probed])
            middle = float(np.median(digital)) * signal.gain + signal.offset
            self._offsets[key] = float(np.rint(middle)) if abs(middle) > EXACT_UV / 2 else 0.0
        return self._offsets[key]
