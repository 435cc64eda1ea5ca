"""Signatures: what windows are compared by."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hms.quality.blocks import Array

if TYPE_CHECKING:
    from hms.signal.arrays import Cleaned

SIGNATURE_CHANNELS = 8
SIGNATURE_SAMPLES = 32


def window_samples(cleaned: Cleaned) -> Array:
    """Return 256 samples of the cleaned window, spread over electrodes and time.

    float32, shape (256,), µV. A window with too few electrodes or samples repeats some.
    """
    rows, times = _signature_places(*cleaned.eeg.shape, cleaned.n_context)
    return cleaned.eeg[rows, times]


def signatures(samples: Array) -> Array:
    """Return what windows are compared by.

    Parameters
    ----------
    samples : float32, shape (n_items, n_samples), µV; what `window_samples` gives of each

    Returns
    -------
    float32, shape (n_items, n_samples), mean 0 and norm 1
        The inner product of two signatures is the correlation of the samples. Zeros where
        the samples do not change.
    """
    centred = samples.astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("is,is->i", centred, centred))[:, np.newaxis]
    return np.where(norm > 0, centred / np.where(norm > 0, norm, 1), 0).astype(np.float32)


@lru_cache(maxsize=8)
def _signature_places(
    n_channels: int, n_samples: int, n_context: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows = np.linspace(0, n_channels - 1, SIGNATURE_CHANNELS).round().astype(np.intp)
    middles = (np.arange(SIGNATURE_SAMPLES) + 0.5) / SIGNATURE_SAMPLES
    times = n_context + (middles * (n_samples - 2 * n_context)).astype(np.intp)
    return np.repeat(rows, SIGNATURE_SAMPLES), np.tile(times, SIGNATURE_CHANNELS)
