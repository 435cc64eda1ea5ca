"""Small summaries of an item, from which the report draws pictures of a whole data set.

A picture of 17,089 recordings cannot read 4 GB of scalograms again: the pass over the
recordings leaves a few kilobytes of each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.quality.blocks import QUIET
from hms.quality.inspection import Inspection

Array = NDArray[np.float32]

RASTER_BINS = 64
"""Steps in time of the raster of gaps."""

HISTOGRAM_BINS = 50
"""Bins of equal width from 0 to 1."""

_CELLS = (16, 10)
"""Most frequencies and frames of a small scalogram."""

_STRIDE = 10
"""Every so many frames take part in the histogram."""


def gap_raster(
    is_gap: NDArray[np.bool_] | None, n_samples: int, n_outside: tuple[int, int], bins: int = RASTER_BINS
) -> NDArray[np.uint8]:
    """Return where the samples that were read have gaps.

    Parameters
    ----------
    is_gap : bool, shape (n_channels, n_samples less those outside); None: no gap
    n_samples : samples of window and context
    n_outside : those of them before and after the recording

    Returns
    -------
    uint8, shape (bins,) : share of the samples of each step in time that are gaps, from 0
        to 200 for none to all (anything above none is at least 1); 255 where the step is
        outside the recording
    """
    first, last = n_outside[0], n_samples - n_outside[1]
    edges = _edges(n_samples, bins)
    inside = (edges[1:] > first) & (edges[:-1] < last)
    raster = np.where(inside, np.uint8(0), np.uint8(255))
    if is_gap is not None and is_gap.any():
        count = np.zeros(n_samples)
        count[first:last] = is_gap.mean(axis=0)
        total = np.add.reduceat(count, edges[:-1]) / np.maximum(np.diff(edges), 1)
        raster[inside] = np.ceil(total[inside] * 200).astype(np.uint8)
    return raster


@lru_cache(maxsize=8)
def _edges(n_samples: int, bins: int) -> NDArray[np.intp]:
    return np.linspace(0, n_samples, bins + 1).round().astype(np.intp)


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

    int32, shape (bins + 2,); 1 itself belongs to the last bin.
    """
    values = x[..., ::_STRIDE].astype(np.float32)
    n_above = np.count_nonzero(values > 1)
    values *= bins
    values += 1
    np.clip(values, 0, bins + 1, out=values)
    counts = np.bincount(values.astype(np.intp).ravel(), minlength=bins + 2).astype(np.int32)
    # 1 itself, and what rounding makes of the values next to it, is not above 1.
    counts[bins] += counts[bins + 1] - n_above
    counts[bins + 1] = n_above
    return counts


def spectrum(seen: Inspection) -> Array:
    """Return the mean over channels of the logarithm of the power density.

    Blocks of 2 s with a gap take no part, nor do the EKG, channels that the recording lacks and channels
    without power. float32, shape (n_freqs,), log10 µV²/Hz at `spectrum_freqs`; NaN where no channel has a
    whole block.
    """
    with np.errstate(**QUIET):
        density = seen.power[seen.is_eeg] @ seen.bands.density
    has_power = (density > 0).all(axis=1)
    if not has_power.all():
        density = density[has_power]
    if not len(density):
        return np.full(density.shape[1], np.nan, np.float32)
    return np.asarray(np.log10(density).mean(axis=0), np.float32)
