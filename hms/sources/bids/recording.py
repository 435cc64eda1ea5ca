"""A recording of a BIDS data set: its file, as its channels.tsv describes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hms.config.identity import digest_of
from hms.errors import Unusable
from hms.labels.events import Event
from hms.sources.base import Stretch
from hms.sources.bids.files import BidsChannel
from hms.sources.channels import Channels, canonical_name, find_channels
from hms.sources.recordings import FileRecording
from hms.sources.units import scale_uv

_OF_USE = ("", "EEG", "ECG", "EKG", "REF")
"""Types of channels that are looked at; an electrode's name on any other is that of something else."""


def unit_of(channels: Sequence[BidsChannel]) -> str | None:
    """Return the unit of voltage that the EEG channels of a table share, None where there is none."""
    stated = {channel.unit for channel in channels if channel.type in ("", "EEG")} - {""}
    return stated.pop() if len(stated) == 1 and _is_voltage(min(stated)) else None


def _is_voltage(unit: str) -> bool:
    try:
        scale_uv(unit)
    except ValueError:
        return False
    return True


def _spelled(row: BidsChannel, *, several: bool) -> str:
    """Return a channel's name, with its reference where the channels of a recording have several."""
    return f"{row.name}-{row.reference}" if several and row.reference else row.name


class BidsRecording:
    """An open recording.

    Parameters
    ----------
    recording : the file, opened by the reader of its format
    channels, table : rows and bytes of channels.tsv, empty without one; the bytes are part of the identity
    scale : what one of the file's units is in µV, where the file does not say and the table does
    keeps_bad : whether channels with the status ``bad`` are read like others
    """

    def __init__(
        self,
        recording: FileRecording,
        channels: Sequence[BidsChannel],
        table: bytes,
        aliases: dict[str, str],
        *,
        scale: float = 1.0,
        keeps_bad: bool = False,
    ) -> None:
        self._recording, self._table, self._aliases = recording, table, aliases
        self._rows = {channel.name: channel for channel in channels}
        self._scale, self._keeps_bad = scale, keeps_bad
        self.sfreq = recording.sfreq

    @cached_property
    def _places(self) -> dict[int, BidsChannel]:
        """Row of the table for each channel of the file: by name, by the electrode in it, else by number."""
        labels = self._recording.named.labels
        by_electrode = {canonical_name(name, {}): row for name, row in self._rows.items()}
        rows = [self._rows.get(label) or by_electrode.get(canonical_name(label, {})) for label in labels]
        if not any(rows) and len(self._rows) == len(labels):
            rows = list(self._rows.values())
        return {place: row for place, row in enumerate(rows) if row is not None}

    @cached_property
    def named(self) -> Channels:
        """The file's channels under the names used here, those of other types left out."""
        told = [row for row in self._places.values() if row.type in _OF_USE]
        references = {row.reference for row in told if row.type in ("", "EEG")} - {""}
        labels = self._recording.named.labels
        spelled = [
            label if place not in self._places else _spelled(self._places[place], several=len(references) > 1)
            for place, label in enumerate(labels)
        ]
        found = find_channels(spelled, self._aliases)
        kept = {
            key: channel
            for key, channel in found.keyed.items()
            if channel.place not in self._places or self._places[channel.place] in told
        }
        return Channels(kept, labels)

    @property
    def channels(self) -> tuple[str, ...]:
        """Keys of the channels."""
        return self.named.keys

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """What the reader of the file had to mend or say."""
        found: tuple[tuple[str, str], ...] = getattr(self._recording, "notes", ())
        return found

    @property
    def n_samples(self) -> int:
        """Samples of the whole recording at 200 Hz."""
        return self._recording.n_samples

    @property
    def duration_s(self) -> float:
        """Length of the recording, s."""
        return self._recording.duration_s

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Samples of each part without an interruption."""
        found: tuple[Stretch, ...] = getattr(self._recording, "stretches", ())
        return found

    @property
    def holds_annotations_alone(self) -> bool:
        """Whether the file has no signal."""
        return self._recording.holds_annotations_alone

    @property
    def patient(self) -> str:
        """Whom the file names."""
        return self._recording.patient

    def events(self) -> list[Event]:
        """Return what is marked in the file itself."""
        return self._recording.events()

    def digest_of(self, part: str) -> str:
        """Return the digest of the file's part and of channels.tsv."""
        return digest_of([self._recording.digest_of(part), self._table.hex()])

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> NDArray[np.float32]:
        """Return samples start to stop in µV at 200 Hz, NaN outside the recording and of bad channels."""
        eeg = np.full((len(channels), stop - start), np.nan, dtype=np.float32)
        places = {key: self.named.places[key] for key in channels}
        bad = {key for key, place in places.items() if (r := self._places.get(place)) and r.is_bad}
        wanted = [row for row, key in enumerate(channels) if self._keeps_bad or key not in bad]
        if wanted:
            inner = self._keys([places[channels[row]] for row in wanted])
            found = self._recording.read(start, stop, inner)
            eeg[wanted] = found if self._scale == 1.0 else found * np.float32(self._scale)
        return eeg

    def _keys(self, places: Sequence[int]) -> tuple[str, ...]:
        """Return the keys by which the file's reader knows channels."""
        by_place = {place: key for key, place in self._recording.named.places.items()}
        try:
            return tuple(by_place[place] for place in places)
        except KeyError as error:
            label = self._recording.named.labels[error.args[0]]
            raise Unusable(f"channel '{label}' stands in the file more than once") from None
