"""What every source gives: places of recordings, open recordings, and segments of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hms.sources.tables import VotesTable


@dataclass(frozen=True, slots=True)
class Place:
    """Where a recording lies; size and time are None when it is not there."""

    recording: str
    path: str
    size: int | None
    mtime_ns: int | None


@dataclass(frozen=True)
class Segment:
    """One window of a recording with the context around it, as it was recorded.

    Attributes
    ----------
    eeg : float32, shape (n_channels, n_context + n_window + n_context), µV
        NaN where the recording has a gap or no samples.
    channels : names of the rows of ``eeg``
    sfreq : sampling rate in Hz
    n_context : samples before the window, and after it
    n_outside : samples of the window and its context that lie outside the recording,
        before it and after it
    """

    eeg: NDArray[np.float32]
    channels: tuple[str, ...]
    sfreq: float
    n_context: int
    n_outside: tuple[int, int]

    @property
    def n_window(self) -> int:
        """Samples of the window."""
        return int(self.eeg.shape[1]) - 2 * self.n_context

    def narrowed(self, n_context: int) -> Segment:
        """Return the segment with less context around the same window."""
        cut = self.n_context - n_context
        if cut == 0:
            return self
        assert cut > 0, "a segment cannot be given context that was not read"
        before, after = (max(0, n - cut) for n in self.n_outside)
        eeg = self.eeg[:, cut : self.eeg.shape[1] - cut]
        return Segment(eeg, self.channels, self.sfreq, n_context, (before, after))


class Recording(Protocol):
    """An open recording."""

    digest: str
    """xxh3-128 of the bytes that were read."""

    sfreq: float
    n_samples: int
    channels: tuple[str, ...]

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> NDArray[np.float32]:
        """Return samples start to stop in µV, NaN where the recording has none."""
        ...


class Source(Protocol):
    """A set of recordings with a table of labelled sub-windows."""

    root: Path

    def votes(self) -> VotesTable:
        """Return the validated table of labelled sub-windows."""
        ...

    def places(self, recordings: Iterable[str]) -> list[Place]:
        """Return where each recording lies, in the order asked for."""
        ...

    def open(self, place: Place) -> Recording:
        """Open a recording.

        Raises
        ------
        Unusable
            If it is missing, truncated or not of its format.
        """
        ...

    def digest(self, place: Place) -> str | None:
        """Return the digest of a recording as it is now, None if it cannot be read."""
        ...


def read_segment(
    recording: Recording, start_s: float, *, window_s: float, context_s: float, channels: tuple[str, ...]
) -> Segment:
    """Return a window of a recording with ``context_s`` on each side.

    Where the recording does not reach, the samples are NaN. Channels that the recording
    lacks are left out; the stages that need one say so.

    Raises
    ------
    Unusable
        If the recording ends before the window does.
    """
    from hms.stage import Unusable

    sfreq = recording.sfreq
    n_window, n_context = round(window_s * sfreq), round(context_s * sfreq)
    first = round(start_s * sfreq)
    if first < 0 or first + n_window > recording.n_samples:
        raise Unusable(
            f"the window ends at {start_s + window_s:g} s "
            f"but the recording lasts {recording.n_samples / sfreq:g} s"
        )
    present = tuple(name for name in channels if name in recording.channels)
    start, stop = first - n_context, first + n_window + n_context
    eeg = recording.read(start, stop, present)
    return Segment(eeg, present, sfreq, n_context, (max(0, -start), max(0, stop - recording.n_samples)))
