"""How electrodes go together: with those beside them, with any other, with the EKG."""

from __future__ import annotations

import numpy as np

from hms.quality.blocks import Array, Row
from hms.quality.electrodes import BESIDE, IS_EKG, NOT_BESIDE, OTHER

__all__ = ["SILENT_UV", "ekg_correlation", "electrode_correlations", "gain_db"]

SILENT_UV = 1e-3
"""What a transform in float32 leaves of a channel that does not change, at any offset, is less."""


TONE_BINS, TONE_SHARE = 3, 0.4
"""An EKG of whose power in that band three bins of 0.5 Hz hold more than this share is hum or a
rhythm of the EEG: the QRS complexes of real and synthetic EKG leave them 0.30 at most."""


def gain_db(sd_uv: Array) -> Array:
    """Return each amplitude over the geometric mean of its living neighbours', dB; shape (n_items, 20)."""
    alive = sd_uv > SILENT_UV
    level = np.where(alive, 20 * np.log10(sd_uv), 0)
    expected = _of_neighbours(level) / _of_neighbours(alive.astype(np.float32))
    return np.where(alive, level - expected, np.float32(np.nan))


def _of_neighbours(values: Array) -> Array:
    """Return the sums over each electrode's neighbours, item by item: their bits depend on no other item."""
    return np.asarray((BESIDE @ values[..., np.newaxis])[..., 0])


def electrode_correlations(products: Array) -> Row:
    """Return the correlations of electrodes with their neighbours and with any other, shape (n_items, 20).

    Parameters
    ----------
    products : float32, shape (n_items, 20, 20); real parts of the cross-spectra, summed over a band
    """
    power = np.diagonal(products, axis1=1, axis2=2)
    alive = power > 0
    inverse = np.where(alive, 1 / np.sqrt(power), np.float32(0))
    corr = products * inverse[:, np.newaxis] * inverse[..., np.newaxis]
    beside = (BESIDE * corr).sum(axis=2), ((BESIDE @ corr) * BESIDE).sum(axis=2)
    found = {
        "neighbour_corr": (corr + NOT_BESIDE).max(axis=2),
        "polarity": beside[0] / np.sqrt(beside[1]),
        "twin_corr": np.abs(corr * OTHER).max(axis=2),
    }
    silent = ~alive | IS_EKG
    return {name: np.where(silent, np.float32(np.nan), values) for name, values in found.items()}


def ekg_correlation(products: Array, power: Array, by_bin: Array) -> Array:
    """Return the absolute correlations with the EKG; NaN where that holds a tone and no heartbeats.

    Parameters
    ----------
    products : float32, shape (n_items, 20); with the EKG, summed over its band
    power : float32, shape (n_items, 20); of each channel in that band
    by_bin : float32, shape (n_items, n_bins); of the EKG
    """
    corr = np.abs(products) / np.sqrt(power * power[:, -1:])
    n_bins = min(TONE_BINS, by_bin.shape[1])
    is_tone = np.sort(by_bin, axis=1)[:, -n_bins:].sum(axis=1) > TONE_SHARE * by_bin.sum(axis=1)
    return np.where(
        is_tone[:, np.newaxis] | (np.arange(corr.shape[1]) == corr.shape[1] - 1), np.float32(np.nan), corr
    )
