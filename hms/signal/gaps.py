"""Gaps of a recording: what stands in for samples that are NaN or infinite.

A filter spreads one NaN over the whole recording, so gaps are filled before it. Inside a
recording the competition's gaps are 1 to 3 samples long, where a straight line is as good
as anything; at the ends (and where a window's context reaches beyond the recording) blocks
of thousands of samples are missing, and whatever replaces them must neither jump nor drift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.registry import NonNegativeFloat, Params, lookup, register

__all__ = ["FillGaps", "bridge", "fill_gaps", "gap_patterns", "has_gaps", "interpolate", "median"]

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
    out = np.array(eeg, dtype=np.float32)
    hold, taper = params.hold_s * sfreq, params.taper_s * sfreq
    for rows, gap in gap_patterns(~np.isfinite(eeg)):
        some = out[rows]
        valid = np.flatnonzero(~gap)
        if valid.size == 0:
            some[:] = 0
            continue
        has_open_end = gap[0] or gap[-1]
        centre = np.median(some[:, valid], axis=1, keepdims=True) if has_open_end else np.float32(0)
        bridge(some, gap)
        _taper_ends(some, valid[0], valid[-1], centre, hold=hold, taper=taper)
    return out


def gap_patterns(is_gap: NDArray[np.bool_]) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Yield channels together with the gaps that they have in common, if any.

    A device that loses samples loses those of all channels; where these differ they come one by one.

    Parameters
    ----------
    is_gap : bool, shape (n_channels, n_samples)

    Yields
    ------
    rows : slice of the channels
    gap : bool, shape (n_samples,); some of it True
    """
    if len(is_gap) and (is_gap == is_gap[0]).all():
        groups = [slice(0, len(is_gap))]
    else:
        groups = [slice(row, row + 1) for row in range(len(is_gap))]
    for rows in groups:
        if is_gap[rows.start].any():
            yield rows, is_gap[rows.start]


def bridge(eeg: Array, gap: NDArray[np.bool_]) -> None:
    """Put straight lines through gaps that channels share, in place; at the ends, the nearest valid sample.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
    gap : bool, shape (n_samples,); the samples that are not valid: some, not all
    """
    missing = np.flatnonzero(gap)
    is_first = np.diff(missing, prepend=-2) > 1
    run = np.cumsum(is_first) - 1
    before, after = missing[is_first] - 1, missing[np.append(is_first[1:], True)] + 1
    before, after = np.where(before < 0, after, before), np.where(after >= gap.size, before, after)
    start, stop = (eeg[:, at].astype(np.float64) for at in (before, after))
    slope = (stop - start) / np.maximum(after - before, 1)
    eeg[:, missing] = slope[:, run] * (missing - before[run]) + start[:, run]


def _taper_ends(eeg: Array, first: np.intp, last: np.intp, centre: Any, *, hold: float, taper: float) -> None:
    start, stop = eeg[:, first : first + 1] - centre, eeg[:, last : last + 1] - centre
    eeg[:, :first] = centre + start * _taper(first, hold=hold, taper=taper)[::-1]
    eeg[:, last + 1 :] = centre + stop * _taper(eeg.shape[1] - 1 - last, hold=hold, taper=taper)


def _taper(n_samples: int | np.intp, *, hold: float, taper: float) -> Array:
    """Weight of the held value 1 to ``n_samples`` samples away from it, 1 falling to 0."""
    distance = np.arange(1, n_samples + 1, dtype=np.float64)
    progress = np.clip((distance - hold) / max(taper, 1e-9), 0, 1)
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
