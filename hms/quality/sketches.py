"""Small summaries of one item from which the report draws pictures of a whole data set.

A picture of 17,089 recordings cannot read 4 GB of scalograms again: the pass over the
recordings leaves a few kilobytes of each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HISTOGRAM_BINS",
    "RASTER_BINS",
    "gap_raster",
    "histogram",
    "shrink_power",
    "spectrum",
    "spectrum_freqs",
]

Array = NDArray[np.float32]

RASTER_BINS = 64
"""Steps in time of the raster of gaps."""

HISTOGRAM_BINS = 50
"""Bins of equal width from 0 to 1."""

_CELLS = (16, 10)
"""Most frequencies and frames of a small scalogram."""

_STRIDE = 10
"""Every so many frames take part in the histogram."""


@lru_cache(maxsize=8)
def _hann(n: int) -> Array:
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
    return np.asarray(taper / np.sqrt((taper**2).sum()), np.float32)


def _piece(n_samples: int, sfreq: float) -> int:
    """Return the length of the pieces of a spectrum: a second, or all there is."""
    return min(round(sfreq), n_samples)


def spectrum_freqs(n_samples: int, sfreq: float) -> NDArray[np.float64]:
    """Return the frequencies of `spectrum` in Hz: 1 Hz apart where a second or more was read, without 0."""
    n = _piece(n_samples, sfreq)
    return np.asarray(np.arange(1, n // 2) * sfreq / n, np.float64)


def spectrum(eeg: Array, sfreq: float) -> Array:
    """Return the mean over channels of the logarithm of the power density.

    Each channel is cut in pieces of a second, each piece freed of its mean and tapered
    (Hann). A piece with a gap takes no part, nor does a channel without power.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV; NaN and Inf are gaps
    sfreq : sampling rate, Hz

    Returns
    -------
    float32, shape (n_freqs,), log10 µV²/Hz at `spectrum_freqs`; NaN where no channel has a whole piece
    """
    from scipy.fft import rfft

    n = _piece(eeg.shape[1], sfreq)
    pieces = eeg[:, : eeg.shape[1] // n * n].reshape(len(eeg), -1, n)
    means = pieces @ np.full(n, 1 / n, np.float32)
    whole = np.isfinite(means)
    tapered = (pieces - means[:, :, None]) * _hann(n)
    if not whole.all():
        tapered[~whole] = 0
    parts = rfft(tapered, axis=2)[:, :, 1 : n // 2]
    power = np.einsum("cpf,cpf->cf", parts.real, parts.real) + np.einsum(
        "cpf,cpf->cf", parts.imag, parts.imag
    )
    counts = whole.sum(axis=1)
    density = power[counts > 0] * np.float32(2 / sfreq) / counts[counts > 0, None]
    density = density[(density > 0).all(axis=1)]
    if not len(density):
        return np.full(n // 2 - 1, np.nan, np.float32)
    return np.asarray(np.log10(density).mean(axis=0), np.float32)


def gap_raster(eeg: Array, n_outside: tuple[int, int], bins: int = RASTER_BINS) -> NDArray[np.uint8]:
    """Return where the samples that were read have gaps.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV; NaN and Inf are gaps
    n_outside : samples before and after the recording

    Returns
    -------
    uint8, shape (bins,) : share of the samples of each step in time that are gaps, from 0
        to 200 for none to all (anything above none is at least 1); 255 where the step lies
        outside the recording
    """
    gaps = ~np.isfinite(eeg[:, n_outside[0] : eeg.shape[1] - n_outside[1]])
    raster = np.full(bins, 255, np.uint8)
    edges = np.linspace(0, eeg.shape[1], bins + 1).round().astype(int)
    inside = (edges[1:] > n_outside[0]) & (edges[:-1] < eeg.shape[1] - n_outside[1])
    raster[inside] = 0
    if gaps.any():
        count = np.zeros(eeg.shape[1])
        count[n_outside[0] : eeg.shape[1] - n_outside[1]] = gaps.mean(axis=0)
        total = np.add.reduceat(count, edges[:-1]) / np.maximum(np.diff(edges), 1)
        raster[inside] = np.ceil(total[inside] * 200).astype(np.uint8)
    return raster


def shrink_power(power: Array) -> NDArray[np.float16]:
    """Return a small image of wavelet power, shape (n_outputs, at most 16, at most 10), log10 µV².

    The mean is over neighbouring frequencies and frames; power of 0 counts as 1e-4 µV².
    """
    by_freq, by_frame = (_averages(size, most) for size, most in zip(power.shape[1:], _CELLS, strict=True))
    cells = by_freq @ (power @ by_frame.T)
    return np.asarray(np.log10(np.maximum(cells, 1e-4)), np.float16)


@lru_cache(maxsize=8)
def _averages(size: int, most: int) -> Array:
    """Return the matrix that averages neighbours, shape (at most ``most``, size)."""
    n = min(size, most)
    cell = np.arange(size) * n // size
    member = (cell == np.arange(n)[:, None]).astype(np.float32)
    return np.asarray(member / member.sum(axis=1, keepdims=True), np.float32)


def histogram(x: NDArray[Any], bins: int = HISTOGRAM_BINS) -> NDArray[np.int32]:
    """Return how often the values of every tenth frame fall below 0, into equal bins to 1, and above 1.

    Returns
    -------
    int32, shape (bins + 2,); 1 itself belongs to the last bin
    """
    values = x[..., ::_STRIDE].ravel()
    place = np.where(values == 1, bins, np.clip(np.floor(values * bins) + 1, 0, bins + 1))
    return np.bincount(place.astype(np.intp), minlength=bins + 2).astype(np.int32)
