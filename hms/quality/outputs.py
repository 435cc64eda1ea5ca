"""Measures of what came out of a recording: derivations, waveforms, x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hms.quality.blocks import Array, Mask, Row, Rows, field_names
from hms.quality.spectra import BLOCK_S
from hms.signal.cwt import frequencies
from hms.signal.levels import extremes
from hms.signal.wavelets import Cwt, reaches_s

if TYPE_CHECKING:
    from hms.signal.arrays import Derived, Scalogram, Waveform

__all__ = [
    "OUTPUT_OBSERVATIONS",
    "ObservedOutput",
    "correlations",
    "covariances",
    "derive_output",
    "edge_share",
    "observe_output",
]

CONSTANT_SHARE = 1e-12
"""A row in float32 that deviates from its mean by less than this share of it does not change."""


@dataclass(frozen=True)
class ObservedOutput:
    """What the measures of the output follow from, of one item.

    Attributes
    ----------
    alive : bool, shape (n_derivations,)
    derivation_ptp : float32, shape (n_derivations, n), µV; peak to peak in each 2 s of the window
    wave_means, wave_covariances : float64, shapes (n_outputs,) and (n_outputs, n_outputs)
    x_low, x_high : float64; extremes of the scaled scalogram
    """

    alive: Mask
    derivation_ptp: Array
    wave_means: NDArray[np.float64]
    wave_covariances: NDArray[np.float64]
    x_low: np.float64
    x_high: np.float64


OUTPUT_OBSERVATIONS = field_names(ObservedOutput)
"""What is observed of what came out to derive measures from, and is none itself."""


def observe_output(
    derived: Derived,
    scalogram: Scalogram,
    waveform: Waveform,
) -> Row:
    """Observe the derivations, the waveforms and the scaled scalogram.

    Returns
    -------
    dict
        What `derive_output` takes, of one item; of the measures, these already
        x_share_0, x_share_1 : share of the scaled scalogram at exactly 0 and 1
    """
    x = scalogram.x
    wave_means, wave_covariances = covariances(waveform.x)
    observed = ObservedOutput(
        derived.alive,
        _derivation_ptp(derived),
        wave_means,
        wave_covariances,
        np.float64(x.min()),
        np.float64(x.max()),
    )
    return {
        **vars(observed),
        "x_share_0": np.float64(np.count_nonzero(x == 0) / x.size),
        "x_share_1": np.float64(np.count_nonzero(x == 1) / x.size),
    }


def derive_output(rows: Rows, chains: tuple[tuple[str, tuple[str, ...]], ...]) -> Row:
    """Return the measures of what came out of many items.

    Parameters
    ----------
    rows : what `observe_output` returns, stacked
    chains : chains of the montage

    Returns
    -------
    dict
        Arrays of shape (n_items,)
        dead_derivations : derivations that take no part because an electrode is dead
        corr_ll_lp, corr_rl_rp : correlation of the waveforms of the two chains of a side
            (NaN where the montage has no such chains, or one is constant)
        derivation_ptp_min_uv, derivation_ptp_max_uv : median over 2 s of the peak-to-peak
            amplitude of the weakest and of the strongest live derivation of the window
        x_is_finite, x_is_constant : of the scaled scalogram
    """
    ptp = rows["derivation_ptp"]
    ptp = np.sort(ptp, axis=2)[..., ptp.shape[2] // 2]
    places = {name: i for i, (name, _) in enumerate(chains)}
    if rows["wave_means"].shape[1] != len(chains):  # of derivations
        places = {}
    sides = (places.get("LL"), places.get("LP")), (places.get("RL"), places.get("RP"))
    corr_ll_lp, corr_rl_rp = correlations(rows["wave_means"], rows["wave_covariances"], sides)
    return {
        "dead_derivations": np.count_nonzero(~rows["alive"], axis=1),
        "corr_ll_lp": corr_ll_lp,
        "corr_rl_rp": corr_rl_rp,
        "derivation_ptp_min_uv": np.where(rows["alive"], ptp, np.inf).min(axis=1).astype(np.float64),
        "derivation_ptp_max_uv": np.where(rows["alive"], ptp, -np.inf).max(axis=1).astype(np.float64),
        "x_is_finite": np.isfinite(rows["x_low"]) & np.isfinite(rows["x_high"]),
        "x_is_constant": rows["x_low"] == rows["x_high"],
    }


def _derivation_ptp(derived: Derived) -> Array:
    """Return the peak-to-peak amplitude of each derivation in each 2 s of the window."""
    n_block = max(1, round(BLOCK_S * derived.sfreq))
    n_whole = max(1, derived.n_window // n_block)
    high, low = extremes(derived.window, n_block)
    return np.asarray(high - low)[:, :n_whole]


def covariances(signals: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means and the covariances of rows: shape (n, n_samples) to (n,) and (n, n)."""
    n_samples = signals.shape[1]
    centred = signals.astype(np.float64)
    means = np.einsum("ct->c", centred) / n_samples
    centred -= means[:, np.newaxis]
    return means, centred @ centred.T / n_samples


def correlations(
    means: NDArray[np.float64],
    covariances: NDArray[np.float64],
    pairs: Sequence[tuple[int | None, int | None]],
) -> list[NDArray[np.float64]]:
    """Return Pearson's correlation of pairs of rows, NaN where one is absent or constant.

    Parameters
    ----------
    means, covariances : float64, shapes (n_items, n) and (n_items, n, n)
    pairs : rows of each pair; None for one that is absent

    Returns
    -------
    list of float64, shape (n_items,), one for each pair
    """
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    # Rounding leaves of a constant far less than a change of its last digit in float32 would.
    is_constant = ~(variances > np.square(CONSTANT_SHARE * means))
    deviations = np.sqrt(np.where(is_constant, np.nan, variances))
    return [
        np.full(len(means), np.nan)
        if first is None or second is None
        else covariances[:, first, second] / (deviations[:, first] * deviations[:, second])
        for first, second in pairs
    ]


def edge_share(params: Cwt, *, sfreq: float, n_window: int, before: int, after: int) -> np.float64:
    """Return the share of a scalogram whose wavelets reach beyond the recording.

    Parameters
    ----------
    params : settings of the CWT; each frequency reaches as far as `hms.signal.wavelets.reaches_s` says
    sfreq : sampling rate in Hz
    n_window : samples of the window
    before, after : samples of the recording before the window and after it, at most the context

    Returns
    -------
    float64, 0 to 1
    """
    reach = _reaches(params, sfreq)
    if min(before, after) >= reach[0]:
        return np.float64(0)
    frames = np.arange(0, n_window, params.hop)
    touched = (frames - reach[:, None] < -before) | (frames + reach[:, None] > n_window - 1 + after)
    return np.float64(touched.mean())


@lru_cache(maxsize=8)
def _reaches(params: Cwt, sfreq: float) -> NDArray[np.int64]:
    """Return the samples that the wavelet of each frequency reaches to either side, the longest first."""
    seconds = [max(reaches_s(params, float(freq))) for freq in frequencies(params)]
    return np.sort(np.ceil(np.array(seconds) * sfreq).astype(np.int64))[::-1]
