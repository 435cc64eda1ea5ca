"""Measures of one recording: numbers without limits, so that limits can change without reading again.

Every measure of an electrode is an array over `hms.competition.CHANNELS`; NaN stands where a
recording lacks the channel or where nothing can be said. All spectral measures share one
batch of short Fourier transforms, all correlations come from its coefficients, and nothing
loops over channels: the whole costs less than a sixth of preparing a recording.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, EEG_CHANNELS, EKG_CHANNEL
from hms.signal.cwt import frequencies
from hms.signal.gaps import fill_gaps, has_gaps
from hms.signal.wavelets import Cwt, reaches_s

if TYPE_CHECKING:
    from hms.registry import Params
    from hms.sources.base import Segment
    from hms.stages.derivations import Derived
    from hms.stages.scalograms import Scalogram
    from hms.stages.signal import Cleaned
    from hms.stages.waveforms import Waveform

__all__ = [
    "CHANNEL_MEASURES",
    "NEIGHBOURS",
    "channel_measures",
    "edge_share",
    "input_measures",
    "output_measures",
    "window_signature",
]

Array = NDArray[np.float32]
Row = dict[str, Any]

CHANNEL_MEASURES = (
    "gap_share", "longest_gap_s", "offset_uv", "peak_uv", "ptp_uv", "flat_ptp_uv", "extreme_samples",
    "jump_uv", "drift_uv", "sd_uv", "line50_db", "line60_db", "hf_uv", "neighbour_corr", "polarity",
    "twin_corr", "gain_db", "ekg_corr",
)  # fmt: skip
"""Measures of an electrode in the order of the tables; `channel_measures` says what each is."""

BLOCK_S = 2.0
"""Length of a Fourier transform: 0.5 Hz between bins, and the 2 s in which a page shows an amplitude."""

AMPLITUDE_BLOCK_S = 1.0
FLAT_BLOCKS = 4
"""Whole seconds that any stretch of 5 s contains at least, wherever it starts."""

EEG_BAND_HZ = (1.0, 20.0)
EKG_BAND_HZ = (8.0, 40.0)
"""Where the QRS complex has much of its power and the EEG little."""

HF_BAND_HZ = (25.0, 95.0)
MAINS_HZ = (50.0, 60.0)
MAINS_HALF_WIDTH_HZ = 2.0
"""Left out of the power above 25 Hz on either side of the mains."""

LINE_HALF_WIDTH_HZ = 0.5
LINE_NEIGHBOURHOOD_HZ = (3.0, 8.0)

ORDINARY_STEPS = 6.0
"""A step within this many RMS steps is part of what a channel always does."""

SIGNATURE_CHANNELS = 8
SIGNATURE_SAMPLES = 32

_GRID = (
    (None, "Fp1", None, "Fp2", None),
    ("F7", "F3", "Fz", "F4", "F8"),
    ("T3", "C3", "Cz", "C4", "T4"),
    ("T5", "P3", "Pz", "P4", "T6"),
    (None, "O1", None, "O2", None),
)
_ALSO = (("Fp1", "Fp2"), ("Fp1", "F7"), ("Fp2", "F8"), ("O1", "O2"), ("O1", "T5"), ("O2", "T6"))


def _neighbours() -> NDArray[np.bool_]:
    """Return which electrodes stand beside, before or behind each other in the 10-20 system."""
    pairs = [pair for row in _GRID for pair in zip(row, row[1:], strict=False)]
    pairs += [pair for rows in zip(_GRID, _GRID[1:], strict=False) for pair in zip(*rows, strict=True)]
    beside = np.zeros((len(EEG_CHANNELS), len(EEG_CHANNELS)), bool)
    for first, second in (*pairs, *_ALSO):
        if first and second:
            i, j = EEG_CHANNELS.index(first), EEG_CHANNELS.index(second)
            beside[i, j] = beside[j, i] = True
    return beside


NEIGHBOURS = _neighbours()
"""bool, shape (19, 19): electrodes beside each other, three or four for each."""

_N_EEG = len(EEG_CHANNELS)
_LEFT = [i for i, name in enumerate(EEG_CHANNELS) if name[-1] in "1357"]
_RIGHT = [i for i, name in enumerate(EEG_CHANNELS) if name[-1] in "2468"]


# --- the recording as it was read ----------------------------------------------------------------


def input_measures(segment: Segment, cleaned: Cleaned, *, gaps: Params, clip_uv: float | None) -> Row:
    """Measure what was read, before anything was filled, and what clipping did.

    Parameters
    ----------
    segment : window and context as recorded
    cleaned : the montage's electrodes after the filter
    gaps : policy by which gaps were filled before the filter
    clip_uv : limit that the filtered electrodes were clipped to, None for none

    Returns
    -------
    dict
        The `CHANNEL_MEASURES`, each float32 of shape (20,), and of the item
        nan_share : share of samples of the EEG channels present that are NaN or Inf
        window_nan_share : the same within the window, without its context
        n_flat_channels : electrodes of the montage without a changing sample
        max_abs_uv : largest absolute sample of an EEG channel, µV (NaN where none is finite)
        outside_share : share of window and context that the recording does not reach
        left_right_db : amplitude of the left over the right electrodes, dB (NaN if a side is dead)
        clipped_share : share of the montage's window samples at the clipping limit
    """
    inside = slice(segment.n_outside[0], segment.eeg.shape[1] - segment.n_outside[1])
    eeg, present = _all_channels(segment, inside)
    channels = channel_measures(eeg, sfreq=segment.sfreq, gaps=gaps)
    for values in channels.values():
        values[~present] = np.nan
    is_eeg = present[:_N_EEG]
    return {
        **channels,
        "nan_share": _mean(channels["gap_share"][:_N_EEG][is_eeg]),
        "window_nan_share": _window_nan_share(segment),
        "n_flat_channels": np.int64(cleaned.dead.sum()),
        "max_abs_uv": _largest(eeg[:_N_EEG]),
        "outside_share": np.float64(sum(segment.n_outside) / segment.eeg.shape[1]),
        "left_right_db": _left_right_db(channels["sd_uv"]),
        "clipped_share": _clipped_share(cleaned, clip_uv),
    }


def _all_channels(segment: Segment, inside: slice) -> tuple[Array, NDArray[np.bool_]]:
    """Return the 20 channels in the order of the files, NaN for those absent, and which are there."""
    if segment.channels[: len(CHANNELS)] == CHANNELS:
        return segment.eeg[: len(CHANNELS), inside], np.ones(len(CHANNELS), bool)
    present = np.array([name in segment.channels for name in CHANNELS])
    eeg = np.full((len(CHANNELS), segment.eeg[:, inside].shape[1]), np.nan, np.float32)
    rows = [segment.channels.index(name) for name in CHANNELS if name in segment.channels]
    eeg[present] = segment.eeg[rows, inside]
    return eeg, present


def _window_nan_share(segment: Segment) -> np.float64:
    rows = [i for i, name in enumerate(segment.channels) if name in EEG_CHANNELS]
    window = segment.eeg[: rows[-1] + 1 if rows else 0, segment.n_context :][:, : segment.n_window]
    if not has_gaps(window):
        return np.float64(0)
    return np.float64(1 - np.isfinite(window[rows]).mean())


def _mean(values: NDArray[Any]) -> np.float64:
    return np.float64(values.mean(dtype=np.float64)) if values.size else np.float64(np.nan)


def _largest(eeg: Array) -> np.float64:
    low, high = np.min(eeg, initial=np.inf), np.max(eeg, initial=-np.inf)
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = eeg[np.isfinite(eeg)]
        return np.float64(np.abs(finite).max()) if finite.size else np.float64(np.nan)
    return np.float64(max(-low, high))


def _left_right_db(sd_uv: Array) -> np.float64:
    sides = [sd_uv[side][sd_uv[side] > 0] for side in (_LEFT, _RIGHT)]
    if min(side.size for side in sides) == 0:
        return np.float64(np.nan)
    left, right = (20 * np.log10(np.median(side)) for side in sides)
    return np.float64(left - right)


def _clipped_share(cleaned: Cleaned, clip_uv: float | None) -> np.float64:
    if clip_uv is None:
        return np.float64(0)
    window = cleaned.eeg[:, cleaned.n_context : cleaned.eeg.shape[1] - cleaned.n_context]
    if max(-float(window.min()), float(window.max())) < np.float32(clip_uv):
        return np.float64(0)
    return np.float64((np.abs(window) >= np.float32(clip_uv)).mean())


# --- channels ------------------------------------------------------------------------------------


def channel_measures(eeg: Array, *, sfreq: float, gaps: Params) -> dict[str, Array]:
    """Measure each channel of a recording.

    Parameters
    ----------
    eeg : float32, shape (20, n_samples), µV, at least 1 s
        In the order of `hms.competition.CHANNELS`. NaN and Inf are gaps; they are measured,
        then filled for the other measures.
    sfreq : float
        Sampling rate in Hz.
    gaps : Params
        Policy of the group ``gaps`` that fills them.

    Returns
    -------
    dict of float32, shape (20,)
        gap_share : share of samples missing; longest_gap_s : seconds of the longest gap
        offset_uv : mean; peak_uv : largest distance of a sample from it
        ptp_uv : median over whole seconds of the peak-to-peak amplitude
        flat_ptp_uv : smallest peak-to-peak that 4 whole seconds in a row stay within, gaps apart
            (5 s that do not change hold 4 whole seconds wherever they start)
        extreme_samples : how often the largest or the smallest value occurs, whichever is oftener
        jump_uv : largest step between samples less 6 times their RMS; a tone or muscle has none
        drift_uv : range of the means of 2 s
        sd_uv : standard deviation between 1 and 20 Hz
        line50_db, line60_db : power density at the mains over that 3 to 8 Hz beside it
        hf_uv : RMS between 25 and 95 Hz without the mains
        neighbour_corr : best correlation with a neighbouring electrode, 1-20 Hz
        polarity : correlation with the sum of the neighbours, each scaled to the same amplitude
        twin_corr : largest absolute correlation with any other electrode
        gain_db : sd_uv over the geometric mean of the neighbours'
        ekg_corr : absolute correlation with the EKG, 8-40 Hz

        The last five are NaN for the EKG and where a channel does not change.

    References
    ----------
    Bigdely-Shamlo et al., Front Neuroinform 9:16 (2015) (PREP): correlation with other
    electrodes, power at high frequencies. Gramfort et al., Front Neurosci 7:267 (2013) (MNE):
    peak to peak for flat segments. Limits on amplitudes relative to the *neighbours* rather
    than to all channels, because a lateralised pattern is large on one side.
    """
    found, filled, is_gap = _gap_measures(eeg, sfreq=sfreq, gaps=gaps)
    found |= _amplitude_measures(filled, is_gap, sfreq=sfreq)
    found |= _spectral_measures(Spectrum(filled, sfreq))
    return {name: np.asarray(found[name], np.float32) for name in CHANNEL_MEASURES}


def _gap_measures(
    eeg: Array, *, sfreq: float, gaps: Params
) -> tuple[Row, Array, NDArray[np.bool_] | None]:
    """Return the measures of gaps, the recording without any, and where they were."""
    if not has_gaps(eeg):
        return {"gap_share": np.zeros(len(eeg)), "longest_gap_s": np.zeros(len(eeg))}, eeg, None
    is_gap = ~np.isfinite(eeg)
    longest = [_longest_run(row) / sfreq for row in is_gap]
    filled = fill_gaps(eeg, gaps, sfreq=sfreq)
    return {"gap_share": is_gap.mean(axis=1), "longest_gap_s": longest}, filled, is_gap


def _longest_run(mask: NDArray[np.bool_]) -> int:
    """Return the length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _amplitude_measures(eeg: Array, is_gap: NDArray[np.bool_] | None, *, sfreq: float) -> Row:
    n_block = max(1, round(AMPLITUDE_BLOCK_S * sfreq))
    blocks = _blocks(eeg, n_block)
    high, low = blocks.max(axis=2), blocks.min(axis=2)
    ptp = high - low
    unbroken = ptp if is_gap is None else np.where(_blocks(is_gap, n_block).any(axis=2), np.inf, ptp)
    offset = blocks.mean(axis=2).mean(axis=1)
    steps = eeg[:, 1:] - eeg[:, :-1]
    largest = np.maximum(steps.max(axis=1), -steps.min(axis=1))
    rms = np.sqrt(np.einsum("ct,ct->c", steps, steps) / max(1, steps.shape[1]))
    return {
        "offset_uv": offset,
        "peak_uv": np.maximum(high.max(axis=1) - offset, offset - low.min(axis=1)),
        "ptp_uv": np.sort(ptp, axis=1)[:, ptp.shape[1] // 2],
        "flat_ptp_uv": _calmest(unbroken),
        "extreme_samples": np.maximum(_n_at_highest(blocks, high), _n_at_highest(-blocks, -low)),
        "jump_uv": np.maximum(0, largest - ORDINARY_STEPS * rms),
    }


def _blocks(values: NDArray[Any], n_block: int) -> NDArray[Any]:
    """Return whole blocks, shape (n_channels, n_blocks, n_block); at least one, if a short one."""
    n_block = min(n_block, values.shape[1])
    n_blocks = values.shape[1] // n_block
    return values[:, : n_blocks * n_block].reshape(len(values), n_blocks, n_block)


def _calmest(ptp: Array) -> Array:
    """Return the smallest maximum of `FLAT_BLOCKS` blocks in a row; NaN where every such run has a gap."""
    n_run = min(FLAT_BLOCKS, ptp.shape[1])
    runs = np.lib.stride_tricks.sliding_window_view(ptp, n_run, axis=1)
    calmest = runs.max(axis=2).min(axis=1)
    return np.where(np.isfinite(calmest), calmest, np.nan)


def _n_at_highest(blocks: Array, high: Array) -> NDArray[np.int64]:
    """Return how many samples of each channel equal its highest; looks into the blocks that hold it."""
    top = high.max(axis=1, keepdims=True)
    channel, block = np.nonzero(high == top)
    counts = np.count_nonzero(blocks[channel, block] == top[channel], axis=1)
    return np.bincount(channel, weights=counts, minlength=len(blocks)).astype(np.int64)


# --- spectra and correlations --------------------------------------------------------------------


class Spectrum:
    """Fourier coefficients of a recording in blocks of 2 s, tapered by Hann windows.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV, finite
    sfreq : float, Hz
    """

    def __init__(self, eeg: Array, sfreq: float) -> None:
        from scipy.fft import rfft

        blocks = _blocks(eeg, round(BLOCK_S * sfreq))
        self.means = blocks.mean(axis=2)
        self.bands = _bands(blocks.shape[2], sfreq)
        tapered = (blocks - self.means[:, :, None]) * self.bands.taper
        self.coefficients = rfft(tapered, axis=2, overwrite_x=True, workers=1)

    @cached_property
    def density(self) -> Array:
        """Power density, float32, shape (n_channels, n_freqs), µV²/Hz."""
        parts = self.coefficients.view(np.float32)
        power = np.einsum("cbk,cbk->ck", parts, parts)
        return np.asarray((power[:, ::2] + power[:, 1::2]) * (self.bands.to_density / parts.shape[1]))

    def in_band(self, bins: slice) -> Array:
        """Return the coefficients of a band as one vector per channel, float32."""
        band = np.ascontiguousarray(self.coefficients[:, :, bins])
        return band.view(np.float32).reshape(len(band), -1)


@dataclass(frozen=True)
class _Bands:
    taper: Array
    to_density: np.float32
    df: float
    eeg: slice
    ekg: slice
    hf: NDArray[np.intp]
    lines: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]
    """For 50 and 60 Hz: bins of the line, bins beside it."""


@lru_cache(maxsize=8)
def _bands(n_block: int, sfreq: float) -> _Bands:
    freqs = np.fft.rfftfreq(n_block, 1 / sfreq)
    taper = np.hanning(n_block + 1)[:-1].astype(np.float32) if n_block > 1 else np.ones(1, np.float32)
    distance = np.abs(freqs[:, None] - np.array(MAINS_HZ))
    near, far = LINE_NEIGHBOURHOOD_HZ
    beside = (distance >= near) & (distance <= far)
    is_hf = (freqs >= HF_BAND_HZ[0]) & (freqs <= HF_BAND_HZ[1])
    return _Bands(
        taper,
        np.float32(2 / (sfreq * np.square(taper, dtype=np.float64).sum())),
        float(sfreq / n_block),
        _bins(freqs, *EEG_BAND_HZ),
        _bins(freqs, *EKG_BAND_HZ),
        np.flatnonzero(is_hf & (distance > MAINS_HALF_WIDTH_HZ).all(axis=1)),
        tuple(
            (np.flatnonzero(distance[:, i] <= LINE_HALF_WIDTH_HZ), np.flatnonzero(beside[:, i]))
            for i in range(len(MAINS_HZ))
        ),
    )


def _bins(freqs: NDArray[np.float64], low_hz: float, high_hz: float) -> slice:
    return slice(*np.searchsorted(freqs, [low_hz - 1e-9, high_hz + 1e-9]).tolist())


def _spectral_measures(spectrum: Spectrum) -> Row:
    density, bands = spectrum.density, spectrum.bands
    with np.errstate(divide="ignore", invalid="ignore"):
        sd_uv = np.sqrt(density[:, bands.eeg].sum(axis=1) * np.float32(bands.df))
        return {
            "drift_uv": np.ptp(spectrum.means, axis=1),
            "sd_uv": sd_uv,
            "line50_db": _line_db(density, *bands.lines[0]),
            "line60_db": _line_db(density, *bands.lines[1]),
            "hf_uv": np.sqrt(density[:, bands.hf].sum(axis=1) * np.float32(bands.df)),
            "gain_db": _with_ekg(_gain_db(sd_uv[:_N_EEG])),
            "ekg_corr": _with_ekg(_ekg_correlation(spectrum.in_band(bands.ekg))),
            **{k: _with_ekg(v) for k, v in _correlations(spectrum.in_band(bands.eeg)[:_N_EEG]).items()},
        }


def _line_db(density: Array, line: NDArray[np.intp], beside: NDArray[np.intp]) -> Array:
    """Return the mains' power density over its neighbourhood's in dB, NaN where that is none."""
    if line.size == 0 or beside.size == 0:
        return np.full(len(density), np.nan, np.float32)
    around = density[:, beside].mean(axis=1)
    ratio = np.where(around > 0, density[:, line].max(axis=1) / around, np.nan)
    return np.asarray(10 * np.log10(ratio))


def _gain_db(sd_uv: Array) -> Array:
    """Return each amplitude over the geometric mean of its living neighbours', dB."""
    level = np.where(sd_uv > 0, 20 * np.log10(sd_uv), 0)
    weights = NEIGHBOURS * (sd_uv > 0)
    return np.where(sd_uv > 0, level - weights @ level / weights.sum(axis=1), np.nan)


def _correlations(coefficients: Array) -> Row:
    """Return the correlations of electrodes with their neighbours and with any other."""
    corr = coefficients @ coefficients.T
    scale = np.sqrt(np.diagonal(corr))
    corr = np.nan_to_num(corr / np.outer(scale, scale))
    np.fill_diagonal(corr, 0)
    sums = corr + np.diag((scale > 0).astype(np.float32))
    polarity = (NEIGHBOURS * corr).sum(axis=1) / np.sqrt(((NEIGHBOURS @ sums) * NEIGHBOURS).sum(axis=1))
    found = {
        "neighbour_corr": np.where(NEIGHBOURS, corr, -1).max(axis=1),
        "polarity": polarity,
        "twin_corr": np.abs(corr).max(axis=1),
    }
    return {name: np.where(scale > 0, values, np.nan) for name, values in found.items()}


def _ekg_correlation(coefficients: Array) -> Array:
    power = np.einsum("ck,ck->c", coefficients, coefficients)
    heart = CHANNELS.index(EKG_CHANNEL)
    return np.abs(coefficients @ coefficients[heart] / np.sqrt(power * power[heart]))[:_N_EEG]


def _with_ekg(values: Array) -> Array:
    return np.append(values, np.float32(np.nan))


# --- what came out -------------------------------------------------------------------------------


def output_measures(
    derived: Derived,
    scalogram: Scalogram,
    waveform: Waveform,
    chains: tuple[tuple[str, tuple[str, ...]], ...],
) -> Row:
    """Measure the derivations, the waveforms and the scaled scalogram.

    Returns
    -------
    dict
        dead_derivations : derivations that take no part because an electrode is dead
        derivation_ptp_min_uv, derivation_ptp_max_uv : median over 2 s of the peak-to-peak
            amplitude of the weakest and of the strongest live derivation of the window
        corr_ll_lp, corr_rl_rp : correlation of the waveforms of the two chains of a side
            (NaN where the montage has no such chains, or one is constant)
        x_share_0, x_share_1 : share of the scaled scalogram at exactly 0 and 1
        x_is_finite, x_is_constant : of the scaled scalogram
    """
    x = scalogram.x
    rows = {name: i for i, (name, _) in enumerate(chains)} if len(waveform.x) == len(chains) else {}
    ptp = _derivation_ptp(derived)[derived.alive]
    low, high = float(x.min()), float(x.max())
    return {
        "dead_derivations": np.int64((~derived.alive).sum()),
        "derivation_ptp_min_uv": np.float64(ptp.min()),
        "derivation_ptp_max_uv": np.float64(ptp.max()),
        "corr_ll_lp": correlation(waveform.x, rows.get("LL"), rows.get("LP")),
        "corr_rl_rp": correlation(waveform.x, rows.get("RL"), rows.get("RP")),
        "x_share_0": np.float64(np.count_nonzero(x == 0) / x.size),
        "x_share_1": np.float64(np.count_nonzero(x == 1) / x.size),
        "x_is_finite": np.bool_(np.isfinite(low) and np.isfinite(high)),
        "x_is_constant": np.bool_(low == high),
    }


def _derivation_ptp(derived: Derived) -> Array:
    blocks = _blocks(derived.window, round(BLOCK_S * derived.sfreq))
    ptp = blocks.max(axis=2) - blocks.min(axis=2)
    return np.asarray(np.sort(ptp, axis=1)[:, ptp.shape[1] // 2])


def correlation(signals: NDArray[np.float32], first: int | None, second: int | None) -> np.float64:
    """Return Pearson's correlation of two rows, NaN where one is absent or constant."""
    if first is None or second is None:
        return np.float64(np.nan)
    a = signals[first].astype(np.float64) - signals[first].mean(dtype=np.float64)
    b = signals[second].astype(np.float64) - signals[second].mean(dtype=np.float64)
    scale = np.sqrt((a @ a) * (b @ b))
    return np.float64(a @ b / scale) if scale > 0 else np.float64(np.nan)


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
    """Samples that the wavelet of each frequency reaches to either side, the longest first."""
    seconds = [max(reaches_s(params, float(freq))) for freq in frequencies(params)]
    return np.sort(np.ceil(np.array(seconds) * sfreq).astype(np.int64))[::-1]


def window_signature(cleaned: Cleaned) -> Array:
    """Return 256 samples of the cleaned window, spread over electrodes and time, by which windows compare.

    Returns
    -------
    float32, shape (256,), mean 0 and norm 1
        The inner product of two signatures is the correlation of the samples. Zeros where
        the samples do not change. A window with too few electrodes or samples repeats some.
    """
    rows = np.linspace(0, len(cleaned.eeg) - 1, SIGNATURE_CHANNELS).round().astype(int)
    n_window = cleaned.eeg.shape[1] - 2 * cleaned.n_context
    times = cleaned.n_context + ((np.arange(SIGNATURE_SAMPLES) + 0.5) * n_window / SIGNATURE_SAMPLES).astype(int)
    samples = cleaned.eeg[rows[:, None], times].astype(np.float64).ravel()
    samples -= samples.mean()
    norm = np.sqrt(samples @ samples)
    return (samples / norm if norm > 0 else np.zeros_like(samples)).astype(np.float32)
