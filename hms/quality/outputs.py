"""Measures of what came out of a recording: derivations, waveforms, x."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from hms.quality.blocks import Array, Mask, Row, Rows, field_names
from hms.quality.coherence import THINNED
from hms.quality.hum import ObservedLines, hum_shares, line_bins, observe_lines
from hms.quality.inspection import Inspection
from hms.quality.spectra import BLOCK_S
from hms.signal.filters import FilterParams
from hms.signal.levels import extremes
from hms.signal.montage import Chains, pair_rows
from hms.signal.wavelets import Cwt, frequencies, reaches_s

if TYPE_CHECKING:
    from hms.signal.arrays import Cleaned, Derived, Scalogram

BURST_TIMES, BURST_DERIVATIONS = 3.0, 4
"""Movement is not a matter of one electrode, whose two neighbours in a chain are two derivations or three."""

CONSTANT_SHARE = 1e-12
"""A row in float32 that deviates from its mean by less than this share of it does not change."""


class ObservedOutput(TypedDict):
    """What the measures of the output follow from, of one item.

    Attributes
    ----------
    alive : bool, shape (n_derivations,)
    derivation_ptp : float32, shape (n_derivations, n), µV; peak to peak in each 2 s of the window
    x_low, x_high : float64; extremes of the scaled scalogram
    """

    alive: Mask
    derivation_ptp: Array
    x_low: np.float64
    x_high: np.float64


class ObservedWaveforms(TypedDict):
    """Means and covariances of the waveforms, with a first axis of items.

    Attributes
    ----------
    wave_means, wave_covariances : float64, shapes (n_items, n_outputs) and (n_items, n_outputs, n_outputs)
    """

    wave_means: NDArray[np.float64]
    wave_covariances: NDArray[np.float64]


OUTPUT_OBSERVATIONS = field_names(ObservedOutput, ObservedWaveforms, ObservedLines)
"""What is observed of what came out to derive measures from, and is none itself."""


def observe_output(
    inspection: Inspection,
    cleaned: Cleaned,
    derived: Derived,
    scalogram: Scalogram,
    *,
    derivations: tuple[str, ...],
    weights: Array,
    top_hz: float,
    edge: np.float64,
) -> Row:
    """Observe the derivations and the scaled scalogram.

    Parameters
    ----------
    inspection, cleaned, derived, scalogram : of one item
    derivations : names of the montage's derivations
    weights : float32, shape (n_derivations, n_channels); times the inspection's rows they are the derivations
    top_hz : highest frequency of x
    edge : share of x that missing context touches, see `edge_share`

    Returns
    -------
    dict
        What `derive_output` takes, of one item, beside `observe_waveforms`; of the measures, these already
        edge_share
        lost_share : share of x that rests on gaps, flat stretches, dead electrodes or missing
            context: the mean over derivations, each with the larger share of its electrodes
        x_share_0, x_share_1 : share of the scaled scalogram at exactly 0 and 1
    """
    x = scalogram.x
    n_zero = np.count_nonzero(x == 0)
    observed: ObservedOutput = {
        "alive": derived.alive,
        "derivation_ptp": _derivation_ptp(derived),
        "x_low": np.float64(0 if n_zero else x.min()),  # an x with a zero is constant only at zero
        "x_high": np.float64(x.max()),
    }
    return {
        **observed,
        **observe_lines(_formed(inspection, weights, line_bins(top_hz, derived.sfreq))),
        "edge_share": edge,
        "lost_share": 1 - (1 - edge) * (1 - _lost(inspection, cleaned, derived.alive, derivations)),
        "x_share_0": np.float64(n_zero / x.size),
        "x_share_1": np.float64(np.count_nonzero(x == 1) / x.size),
    }


@lru_cache(maxsize=32)
def _rows(names: tuple[str, ...], channels: tuple[str, ...]) -> NDArray[np.intp]:
    """Return where a cleaned recording's channels are among others; those that it lacks: anywhere."""
    return np.array([names.index(name) if name in names else 0 for name in channels], np.intp)


def _formed(inspection: Inspection, weights: Array, bins: slice) -> NDArray[np.complex64]:
    """Return some bins of the transforms of the derivations, shape (n_blocks, n_derivations, n_bins)."""
    spectra = inspection.spectra
    if spectra.shape[2] < bins.stop:  # of a recording that is shorter than a block
        return np.zeros((spectra.shape[1], len(weights), bins.stop - bins.start), np.complex64)
    parts = slice(2 * bins.start, 2 * bins.stop)
    return np.asarray(weights @ spectra.view(np.float32)[..., parts].transpose(1, 0, 2)).view(np.complex64)


def _lost(inspection: Inspection, cleaned: Cleaned, alive: Mask, derivations: tuple[str, ...]) -> np.float64:
    """Return the mean over derivations of the share of the window in gaps and flat stretches."""
    if alive.all() and not inspection.lost.any():
        return np.float64(0)
    lost = np.append(inspection.lost[_rows(inspection.names, cleaned.channels)], 0)  # row `NOTHING`, the last
    anodes, cathodes = pair_rows(cleaned.channels, derivations, cleaned.references)
    shares = np.where(alive, np.minimum(1, np.maximum(lost[anodes], lost[cathodes])), 1)
    return np.float64(shares.mean(dtype=np.float64))


def derive_output(
    rows: Rows, chains: Chains, filter_params: FilterParams, *, top_hz: float, sfreq: float
) -> Row:
    """Return the measures of what came out of many items.

    Parameters
    ----------
    rows : what `observe_output` returns, stacked
    chains : chains of the montage
    filter_params : settings of the filter
    top_hz : highest frequency of x
    sfreq : sampling rate in Hz

    Returns
    -------
    dict
        Arrays of shape (n_items,)
        dead_derivations : derivations that take no part because an electrode is dead
        corr_ll_lp, corr_rl_rp : correlation of the waveforms of the two chains of a side
            (NaN where the montage has no such chains, or one is constant)
        derivation_ptp_min_uv, derivation_ptp_max_uv : median over 2 s of the peak-to-peak
            amplitude of the weakest and of the strongest live derivation of the window
        burst_uv : how far the largest peak-to-peak amplitude of 2 s is over three times the median,
            in the derivation that is fourth by it (0 with fewer live ones)
        hum_share, hum_mean_share : share of a live derivation's power between 1 Hz and the top of
            x that is in one steady line, see `hms.quality.hum`; the largest, and the mean
        x_is_finite, x_is_constant : of the scaled scalogram
    """
    sorted_ptp = np.sort(rows["derivation_ptp"], axis=2)
    ptp = sorted_ptp[..., sorted_ptp.shape[2] // 2]
    places = {name: i for i, (name, _) in enumerate(chains)}
    if rows["wave_means"].shape[1] != len(chains):  # of derivations
        places = {}
    sides = (places.get("LL"), places.get("LP")), (places.get("RL"), places.get("RP"))
    corr_ll_lp, corr_rl_rp = correlations(rows["wave_means"], rows["wave_covariances"], sides)
    hum = hum_shares(rows, filter_params, top_hz=top_hz, sfreq=sfreq)
    hum = np.where(rows["alive"], hum, np.float32(0)).astype(np.float64)
    return {
        "hum_share": hum.max(axis=1),
        "hum_mean_share": hum.sum(axis=1) / np.maximum(1, np.count_nonzero(rows["alive"], axis=1)),
        "dead_derivations": np.count_nonzero(~rows["alive"], axis=1),
        "corr_ll_lp": corr_ll_lp,
        "corr_rl_rp": corr_rl_rp,
        "derivation_ptp_min_uv": np.where(rows["alive"], ptp, np.inf).min(axis=1).astype(np.float64),
        "derivation_ptp_max_uv": np.where(rows["alive"], ptp, -np.inf).max(axis=1).astype(np.float64),
        "burst_uv": _burst(sorted_ptp[..., -1] - BURST_TIMES * ptp, rows["alive"]),
        "x_is_finite": np.isfinite(rows["x_low"]) & np.isfinite(rows["x_high"]),
        "x_is_constant": rows["x_low"] == rows["x_high"],
    }


def _burst(excess: NDArray[Any], alive: Mask) -> NDArray[np.float64]:
    """Return the excess of the derivation that is `BURST_DERIVATIONS`-th by it; shape (n_items,)."""
    if excess.shape[1] < BURST_DERIVATIONS:
        return np.zeros(len(excess))
    found = np.sort(np.where(alive, excess, -np.inf), axis=1)[:, -BURST_DERIVATIONS]
    return np.maximum(0, found.astype(np.float64))


def _derivation_ptp(derived: Derived) -> Array:
    """Return the peak-to-peak amplitude of each derivation in each 2 s of the window."""
    n_block, n_second = (max(1, round(seconds * derived.sfreq)) for seconds in (BLOCK_S, 1))
    n_whole, (n_seconds, rest), shared = max(1, derived.n_window // n_block), divmod(n_block, n_second), None
    if derived.block is not None and not rest and derived.n_window >= n_block:
        start = derived.first + derived.n_context
        shared = derived.block.extremes(n_second, start, n_whole * n_seconds)
    if shared is None:
        high, low = extremes(derived.window, n_block)[..., :n_whole]
        return np.asarray(high - low)
    # A reduction over a short last axis takes longer than one of its values after the other.
    high = reduce(np.maximum, (shared[0, :, second::n_seconds] for second in range(n_seconds)))
    low = reduce(np.minimum, (shared[1, :, second::n_seconds] for second in range(n_seconds)))
    return np.asarray(high - low)


def observe_waveforms(waveforms: Sequence[Array]) -> ObservedWaveforms:
    """Observe the waveforms of items, shape (n_outputs, n_samples) each."""
    centred = np.array([x[:, ::THINNED] for x in waveforms], np.float64)
    n_samples = centred.shape[2]
    means = np.einsum("ict->ic", centred) / n_samples
    centred -= means[..., np.newaxis]
    return {"wave_means": means, "wave_covariances": centred @ centred.transpose(0, 2, 1) / n_samples}


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

    float64, 0 to 1.

    Parameters
    ----------
    params : settings of the CWT; each frequency reaches as far as `hms.signal.wavelets.reaches_s` says
    sfreq : sampling rate in Hz
    n_window : samples of the window
    before, after : samples of the recording before the window and after it, at most the context
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
