"""Means and extremes of channels: what several looks at a recording share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

UNEVEN = 64
"""Range of a channel over that of its quietest second beyond which float32 is too coarse for that second."""

BUFFER = 256
"""Values in NumPy's buffer in a `small_buffer`; usual are 8,192."""


@contextmanager
def small_buffer() -> Iterator[None]:
    """Keep NumPy from copying rows of which several fit into its buffer, without need."""
    usual = np.setbufsize(BUFFER)
    try:
        yield
    finally:
        np.setbufsize(usual)


def extremes(eeg: Array, n_block: int) -> Array:
    """Return the highest and the lowest sample of each channel in every ``n_block`` samples.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), at least one sample
    n_block : samples of a stretch, at least 1; the last stretch may be shorter

    Returns
    -------
    float32, shape (2, n_channels, ceil(n_samples / n_block)) : the highest, then the lowest
        NaN where any of a stretch's samples is NaN, so nothing more need be looked at to
        know that all are finite.
    """
    # `reduceat` takes less than half the time of `max` and `min` over short rows.
    starts = np.arange(0, eeg.shape[1], n_block)
    found = np.empty((2, len(eeg), starts.size), np.float32)
    np.maximum.reduceat(eeg, starts, axis=1, out=found[0])
    np.minimum.reduceat(eeg, starts, axis=1, out=found[1])
    return found


def is_uneven(eeg: Array, *, sfreq: float, known: Array | None = None) -> bool:
    """Tell whether the range of any channel is over `UNEVEN` times that of one of its seconds.

    A Fourier transform in float32 rounds all of a stretch by what its loudest part is rounded by.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV; a second or more
    sfreq : sampling rate in Hz
    known : the `extremes` of its seconds, where somebody has looked already
    """
    n_second = max(1, round(sfreq))
    known = extremes(eeg, n_second) if known is None else known
    high, low = known[..., : eeg.shape[1] // n_second]
    return bool((high.max(axis=1) - low.min(axis=1) > UNEVEN * (high - low).min(axis=1)).any())


def channel_means(eeg: Array) -> Array:
    """Return the mean of each channel as a column, to be taken off before a transform.

    A plain sum in float32, right to about 1e-6 of the mean magnitude: a third of the time of
    `mean`, which parts its sum for the last digits.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), at least one sample

    Returns
    -------
    float32, shape (n_channels, 1)
    """
    means = np.einsum("ct->c", eeg) / np.float32(eeg.shape[1])
    is_finite = np.isfinite(means)
    if not is_finite.all():  # perhaps only because float32 cannot hold a sum
        means[~is_finite] = eeg[~is_finite].mean(axis=1, dtype=np.float64)
    return np.asarray(means[:, np.newaxis])
