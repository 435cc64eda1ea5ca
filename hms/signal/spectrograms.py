"""Supplied spectrograms: what stands in for the rows they lack."""

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
    """Return power without gaps: bridged in time by straight lines, the ends held, or without power.

    Parameters
    ----------
    power : float32, shape (n_chains, n_freqs, n_rows)
        NaN and infinities are gaps.

    Returns
    -------
    float32, shape of ``power``, finite
        A frequency without any value is zero.
    """
    finite = np.isfinite(power)
    if finite.all():
        return power
    filled = np.where(finite, power, np.float32(0))
    if params.gaps == "interpolate":
        rows = np.arange(power.shape[2])
        for index in zip(*np.nonzero(~finite.all(axis=2) & finite.any(axis=2)), strict=True):
            known = finite[index]
            filled[index] = np.interp(rows, rows[known], power[index][known])
    return filled
