"""Streams of random numbers, one for each purpose, and noise of a given spectrum."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ

Array = NDArray[np.float32]
Rng = np.random.Generator
Shape = Callable[[NDArray[Any]], NDArray[Any]]


class Stream(IntEnum):
    """Purpose of a stream."""

    TABLE = 0
    PATIENT = 1
    VOTES = 2
    SIGNAL = 3
    SPECTROGRAM = 4
    LABEL = 5
    LOSS = 6


def stream(seed: int, purpose: Stream, *numbers: int) -> Rng:
    """Return the generator of a purpose, for one recording or patient where numbers are given."""
    return np.random.default_rng([seed, purpose, *numbers])


def unique_ids(rng: Rng, n: int, *, above: int, below: int) -> list[int]:
    """Return n different whole numbers of a range."""
    return [above + int(i) for i in rng.choice(below - above, size=n, replace=False)]


def shaped_noise(rng: Rng, n_rows: int, n_samples: int, shape: Shape) -> Array:
    """Return Gaussian noise of unit SD whose amplitude spectrum follows ``shape``.

    float32, shape (n_rows, n_samples). ``shape`` gives, for frequencies in Hz, amplitudes that broadcast to
    (n_rows, n_freqs).
    """
    from scipy import fft

    n_fft = fft.next_fast_len(n_samples, real=True)
    amplitude = np.asarray(shape(fft.rfftfreq(n_fft, 1 / SFREQ_HZ)), dtype=np.float32)
    spectrum = rng.standard_normal((n_rows, n_fft // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    return _unit_noise(spectrum * amplitude, n_fft, n_samples)


def slow_noise(rng: Rng, n_rows: int, n_samples: int, high_hz: float) -> Array:
    """Return noise of unit SD whose amplitude falls with frequency and ends at ``high_hz``.

    Only the bins below that limit are drawn. Float32, shape (n_rows, n_samples).
    """
    from scipy import fft

    n_fft = fft.next_fast_len(n_samples, real=True)
    n_bins = max(2, int(high_hz * n_fft / SFREQ_HZ))
    spectrum = np.zeros((n_rows, n_fft // 2 + 1), np.complex64)
    drawn = rng.standard_normal((n_rows, n_bins, 2), dtype=np.float32).view(np.complex64)[..., 0]
    spectrum[:, 1 : n_bins + 1] = drawn / np.arange(1, n_bins + 1, dtype=np.float32)
    return _unit_noise(spectrum, n_fft, n_samples)


def _unit_noise(spectrum: NDArray[np.complex64], n_fft: int, n_samples: int) -> Array:
    """Return the first samples of the signal that has a spectrum, scaled to unit SD."""
    from scipy import fft

    noise = fft.irfft(spectrum, n=n_fft)[:, :n_samples]
    return np.asarray(noise / noise.std(axis=1, keepdims=True), dtype=np.float32)


def band(low_hz: float, high_hz: float) -> Shape:
    """Return a spectrum that is level between two frequencies and zero elsewhere."""
    return lambda freqs: (freqs >= low_hz) & (freqs <= high_hz)
