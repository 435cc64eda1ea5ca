"""Gaps of a recording: what stands in for samples that are NaN or infinite.

A filter spreads one NaN over the whole recording, so gaps are filled before it. Inside a
recording the competition's gaps are 1 to 3 samples long, where a straight line is as good
as anything; at the ends (and where a window's context reaches beyond the recording) blocks
of thousands of samples are missing, and whatever replaces them must neither jump nor drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hms.registry import NonNegativeFloat, Params, lookup, register

__all__ = ["FillGaps", "bridge", "fill_gaps", "has_gaps", "interpolate", "median"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class FillGaps(Params):
    """How long the nearest sample is held beyond an end, and how long the way to the median takes."""

    hold_s: NonNegativeFloat
    taper_s: NonNegativeFloat


def has_gaps(eeg: Array) -> bool:
    """Tell whether any sample is NaN or infinite.

    Either makes a sum so too, in the time of one look; as finite samples can also add up to an
    infinity, extremes have the last word: a NaN survives them, an infinity is one.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.einsum("ct->c", eeg)).all():
            return False
    return not (np.isfinite(eeg.min(initial=0)) and np.isfinite(eeg.max(initial=0)))


def fill_gaps(eeg: Array, params: Params, *, sfreq: float) -> Array:
    """Return the recording with its gaps filled by the policy ``params.kind``.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
        NaN and infinities are gaps.
    params : Params
        Settings of a kind of the group ``gaps``.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    float32, shape (n_channels, n_samples), µV, finite
        The array given, not a copy, where it has no gap; it is never written to.
    """
    if not has_gaps(eeg):
        return eeg
    filled: Array = lookup("gaps", params.kind).function(eeg, params, sfreq=sfreq)
    return filled


@register("gaps", "interpolate", FillGaps)
def interpolate(eeg: Array, params: FillGaps, *, sfreq: float) -> Array:
    """Return a copy with straight lines through inner gaps and tapered ends.

    Beyond the first and the last valid sample its value is held for ``hold_s``, then goes
    along half a cosine of ``taper_s`` to the median of the channel's valid samples and stays
    there. A channel without any valid sample becomes zeros.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
        NaN and infinities are gaps.
    params : FillGaps
        Hold and taper in seconds.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    float32, shape (n_channels, n_samples), µV, finite
    """
    out, is_gap = np.array(eeg, dtype=np.float32), ~np.isfinite(eeg)
    hold, taper = params.hold_s * sfreq, params.taper_s * sfreq
    for number in np.flatnonzero(is_gap.any(axis=1)):
        row, gap = out[number], is_gap[number]
        valid = np.flatnonzero(~gap)
        if valid.size == 0:
            row[:] = 0
            continue
        centre = np.float32(np.median(row[valid])) if gap[0] or gap[-1] else np.float32(0)
        bridge(row, gap)
        _taper_ends(row, valid[0], valid[-1], centre, hold=hold, taper=taper)
    return out


def bridge(row: Array, gap: NDArray[np.bool_]) -> None:
    """Put straight lines through a channel's gaps, in place; at the ends, the nearest valid sample.

    Parameters
    ----------
    row : float32, shape (n_samples,), µV; at least one sample is valid
    gap : bool, shape (n_samples,); the samples that are not
    """
    missing = np.flatnonzero(gap)
    # A line needs no more than the valid samples that a gap stands beside.
    beside = np.concatenate([missing - 1, missing + 1])
    beside = np.unique(beside[(beside >= 0) & (beside < row.size)])
    known = beside[~gap[beside]]
    row[missing] = np.interp(missing, known, row[known])


def _taper_ends(
    row: Array, first: np.intp, last: np.intp, centre: np.float32, *, hold: float, taper: float
) -> None:
    row[:first] = centre + (row[first] - centre) * _taper(first, hold=hold, taper=taper)[::-1]
    row[last + 1 :] = centre + (row[last] - centre) * _taper(row.size - 1 - last, hold=hold, taper=taper)


def _taper(n_samples: int | np.intp, *, hold: float, taper: float) -> Array:
    """Weight of the held value 1 to ``n_samples`` samples away from it, 1 falling to 0."""
    distance = np.arange(1, n_samples + 1, dtype=np.float64)
    progress = np.clip((distance - hold) / max(taper, np.finfo(np.float64).tiny), 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * progress)).astype(np.float32)


@register("gaps", "median")
def median(eeg: Array, params: Params, *, sfreq: float) -> Array:
    """Return a copy whose gaps hold the median of the channel's valid samples.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
        NaN and infinities are gaps.
    params : Params
        No settings.
    sfreq : float
        Not used; every policy is called the same way.

    Returns
    -------
    float32, shape (n_channels, n_samples), µV, finite
        A channel without any valid sample is zeros.
    """
    out = np.array(eeg, dtype=np.float32)
    for row in out:
        gap = ~np.isfinite(row)
        row[gap] = 0 if gap.all() else np.median(row[~gap])
    return out
