"""Spectrograms that were supplied: what stands in for the rows they lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hms.registry import Params, register

Array = NDArray[np.float32]


@dataclass(frozen=True)
class KaggleSpectrograms(Params):
    """Settings of the competition's spectrograms: what becomes of values that are missing.

    Attributes
    ----------
    gaps : what happens to rows of NaN
    """

    gaps: Literal["interpolate", "zero"]


@register("spectrograms", "none")
def none(power: Array, params: Params) -> Array:
    """Return the power as it is; no file is read."""
    return power


@register("spectrograms", "kaggle", KaggleSpectrograms)
def kaggle(power: Array, params: KaggleSpectrograms) -> Array:
    """Return the power with its gaps filled, see `fill_spectrogram`."""
    return fill_spectrogram(power, params.gaps)


def fill_spectrogram(power: Array, gaps: Literal["interpolate", "zero"]) -> Array:
    """Return power without gaps.

    Parameters
    ----------
    power : float32, shape (n_chains, n_freqs, n_rows)
        NaN and infinities are gaps.
    gaps : {"interpolate", "zero"}
        Straight lines in time, each end held; or no power.

    Returns
    -------
    float32, shape of ``power``, finite
        A frequency without any value is zero.
    """
    finite = np.isfinite(power)
    if finite.all():
        return power
    filled = np.where(finite, power, np.float32(0))
    if gaps == "interpolate":
        rows = np.arange(power.shape[2])
        for index in zip(*np.nonzero(~finite.all(axis=2) & finite.any(axis=2)), strict=True):
            known = finite[index]
            filled[index] = np.interp(rows, rows[known], power[index][known])
    return filled
