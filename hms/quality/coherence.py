"""How electrodes go together: with those next to them, with any other, with the EKG.

What an electrode shares with all others comes from the reference and leaves no derivation
with it. So amplitudes are also taken of differences: an electrode's *own* amplitude is that of
the quietest difference to a neighbour, as whatever is in the electrode is in each of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import lru_cache
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS
from hms.quality.blocks import QUIET, Array, Row, Rows, constant
from hms.quality.electrodes import BESIDE, IS_EKG, N_EEG, NEIGHBOUR_ROWS, NOT_BESIDE, OTHER

SILENT_UV = 1e-3
"""What a transform in float32 leaves of a channel that does not change, at any offset, is less."""

SAME_SHARE = 1e-5
"""Power of a difference of two electrodes, of their own, that rounding in float32 may leave."""

THINNED = 8
"""Every so many samples tell a covariance: 250 of a window, of an EEG with most of its power below 8 Hz."""

_TO = NEIGHBOUR_ROWS.ravel()
_FROM = np.repeat(np.arange(len(CHANNELS)), NEIGHBOUR_ROWS.shape[1])

TONE_BINS, TONE_SHARE = 3, 0.4
"""An EKG of whose power in that band three bins of 0.5 Hz hold more than this share is hum or a
rhythm of the EEG: the QRS complexes of real and synthetic EKG leave them 0.30 at most."""


class ObservedCoherence(TypedDict):
    """Covariances of the electrodes that reach x, with a first axis of items.

    Attributes
    ----------
    products : float32, shape (n_items, 20, 20), µV²; covariances of the filtered electrodes in the window,
        0 for those that the montage does not use
    """

    products: Array


def observe_coherence(eegs: Sequence[Array], channels: Sequence[str]) -> ObservedCoherence:
    """Observe filtered electrodes in the windows of items.

    Parameters
    ----------
    eegs : float32, shape (n_channels, n_samples) each, µV
    channels : names of the rows; the pairs of a bipolar recording take no part
    """
    rows, (row, column) = _places(tuple(channels))
    products = np.zeros((len(eegs), len(CHANNELS), len(CHANNELS)), np.float32)
    found = np.array([eeg[:, ::THINNED] if len(rows) == len(eeg) else eeg[rows, ::THINNED] for eeg in eegs])
    n_samples = max(1, found.shape[2])
    with np.errstate(**QUIET):
        # Filtered electrodes are near zero on average: taking that off afterwards costs no digits.
        means = found @ constant(found.shape[2], 1 / n_samples)
        squares = found @ found.transpose(0, 2, 1) / np.float32(n_samples)
        products[:, row, column] = squares - means[:, np.newaxis] * means[..., np.newaxis]
    return {"products": products}


@lru_cache(maxsize=32)
def _places(channels: tuple[str, ...]) -> tuple[list[int], tuple[NDArray[np.intp], ...]]:
    """Return which rows are electrodes, and where they are in a matrix of the 20 channels."""
    rows = [row for row, name in enumerate(channels) if name in CHANNELS[:N_EEG]]
    at = np.array([CHANNELS.index(channels[row]) for row in rows], np.intp)
    return rows, np.ix_(at, at)


def derive_coherence(rows: Rows) -> Row:
    """Return what the covariances of many items tell, each of shape (n_items, 20).

    Returns
    -------
    dict
        NaN for channels that the montage does not use, that do not change, and for the EKG;
        see `hms.quality.channels.derive_channels`
    """
    products = rows["products"]
    power = np.diagonal(products, axis1=1, axis2=2)
    alive = power > SILENT_UV**2
    own_uv = np.sqrt(quietest_difference(products, alive))
    found = {
        **_correlations(products, power, alive),
        "gain_db": _over_neighbours_db(np.sqrt(power), alive),
        "own_uv": own_uv,
        "own_db": _over_neighbours_db(own_uv, alive & (own_uv > SILENT_UV)),
    }
    silent = ~alive | IS_EKG
    return {name: np.where(silent, np.float32(np.nan), values) for name, values in found.items()}


def quietest_difference(products: Array, alive: NDArray[np.bool_]) -> Array:
    """Return the smallest power of a difference of each electrode to a living neighbour.

    float32, shape (..., 20); the power of the electrode itself where no neighbour lives.

    Parameters
    ----------
    products : float32, shape (..., 20, 20); covariances
    alive : bool, shape (..., 20); which electrodes change
    """
    power = np.diagonal(products, axis1=-2, axis2=-1)
    together = products.reshape(*products.shape[:-2], -1).take(_FROM * len(CHANNELS) + _TO, axis=-1)
    both = power.take(_FROM, axis=-1) + power.take(_TO, axis=-1)
    difference = both - 2 * together
    difference[difference < SAME_SHARE * both] = 0
    difference[~alive.take(_TO, axis=-1)] = np.inf
    by_neighbour = np.moveaxis(difference.reshape(*power.shape, -1), -1, 0)
    nearest = functools.reduce(np.minimum, by_neighbour)  # a third of the time of a short last axis
    return np.where(np.isfinite(nearest), nearest, power)


def _over_neighbours_db(amplitude: Array, alive: NDArray[np.bool_]) -> Array:
    """Return each amplitude over the geometric mean of its living neighbours', dB; shape (n_items, 20)."""
    level = np.where(alive, 20 * np.log10(amplitude), 0)
    expected = _of_neighbours(level) / _of_neighbours(alive.astype(np.float32))
    return np.where(alive, level - expected, np.float32(np.nan))


def _of_neighbours(values: Array) -> Array:
    """Return the sums over each electrode's neighbours, item by item: their bits depend on no other item."""
    return np.asarray((BESIDE @ values[..., np.newaxis])[..., 0])


def _correlations(products: Array, power: Array, alive: NDArray[np.bool_]) -> Row:
    """Return the correlations of electrodes with their neighbours and with any other, shape (n_items, 20)."""
    inverse = np.where(alive, 1 / np.sqrt(power), np.float32(0))
    corr = products * inverse[:, np.newaxis] * inverse[..., np.newaxis]
    beside = (BESIDE * corr).sum(axis=2), ((BESIDE @ corr) * BESIDE).sum(axis=2)
    return {
        "neighbour_corr": (corr + NOT_BESIDE).max(axis=2),
        "polarity": beside[0] / np.sqrt(beside[1]),
        "twin_corr": np.abs(corr * OTHER).max(axis=2),
    }


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
