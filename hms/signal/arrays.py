"""The arrays that the stages of one recording hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cleaned:
    """Electrodes after cleaning, or derivations where the recording is bipolar.

    Attributes
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
    channels : names of the rows; at the end, the pairs that the recording lacks (zeros, dead)
    dead : bool, shape (n_channels,); no usable or no changing sample over what was read
    reaches_limit : whether any sample may be at the limit that the electrodes were clipped to
    references : what each row was recorded against; empty where all have the same
    """

    eeg: NDArray[np.float32]
    channels: tuple[str, ...]
    dead: NDArray[np.bool_]
    n_context: int
    sfreq: float
    reaches_limit: bool = True
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Derived:
    """Derivations of one recording.

    Attributes
    ----------
    values : float32, shape (n_derivations, n_context + n_window + n_context), µV
    alive : bool, shape (n_derivations,); False where an electrode of the pair is dead
    """

    values: NDArray[np.float32]
    alive: NDArray[np.bool_]
    n_context: int
    sfreq: float

    @property
    def n_window(self) -> int:
        """Samples of the window."""
        return int(self.values.shape[1]) - 2 * self.n_context

    @property
    def window(self) -> NDArray[np.float32]:
        """The window alone."""
        return self.values[:, self.n_context : self.n_context + self.n_window]


@dataclass(frozen=True)
class Scalogram:
    """Wavelet power before and after scaling.

    Attributes
    ----------
    power : float32, shape (n_outputs, n_freqs, n_frames), µV²
    x : float32 or float16, same shape, scaled
    freqs : float32, shape (n_freqs,), ascending, Hz
    """

    power: NDArray[np.float32]
    x: NDArray[Any]
    freqs: NDArray[np.float32]


@dataclass(frozen=True)
class Waveform:
    """Reduced derivations of the window: float32, shape (n_outputs, n_window), µV."""

    x: NDArray[np.float32]
    sfreq: float


@dataclass(frozen=True)
class Spectrogram:
    """A scaled spectrogram: float32, shape (4, n_freqs, n_rows), 0 to 1; its frequencies in Hz."""

    x: NDArray[np.float32]
    freqs: NDArray[np.float32]
