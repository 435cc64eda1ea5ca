"""Measures of one recording: numbers without limits, so that limits can change without reading again.

Every measure of an electrode is an array over `hms.competition.CHANNELS`; NaN stands where a
recording lacks the channel or where nothing can be said. All spectral measures share one
batch of short Fourier transforms, all correlations come from its coefficients, and nothing
loops over channels.

What needs a recording's samples is *observed* while they are at hand: a few kilobytes per
item. What follows from that is *derived* for many items at once, as most of the time of
small arrays goes into calls. The row of an item does not depend on what stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, EEG_CHANNELS, EKG_CHANNEL
from hms.signal.cwt import frequencies
from hms.signal.gaps import bridge, gap_patterns
from hms.signal.levels import extremes
from hms.signal.wavelets import Cwt, reaches_s

if TYPE_CHECKING:
    from hms.signal.arrays import Cleaned, Derived, Scalogram, Waveform
    from hms.sources.base import Segment

__all__ = [
    "CHANNEL_MEASURES",
    "NEIGHBOURS",
    "OBSERVATIONS",
    "Inspection",
    "channel_measures",
    "correlations",
    "covariances",
    "derive_input",
    "derive_output",
    "edge_share",
    "inspect",
    "inspect_segment",
    "observe_input",
    "observe_output",
    "signatures",
    "spectrum",
    "spectrum_freqs",
    "window_samples",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Row = dict[str, Any]
Rows = Mapping[str, NDArray[Any]]

CHANNEL_MEASURES = (
    "gap_share", "window_gap_share", "longest_gap_s", "max_abs_uv", "offset_uv", "peak_uv", "drift_uv",
    "ptp_uv", "flat_ptp_uv", "extreme_samples", "jump_uv", "sd_uv", "line50_db", "line60_db", "hf_uv",
    "neighbour_corr", "polarity", "twin_corr", "gain_db", "ekg_corr",
)  # fmt: skip
"""Measures of an electrode in the order of the tables; `channel_measures` says what each is."""

OBSERVATIONS = frozenset((
    "present", "n_blocks", "means", "high", "low", "top", "bottom", "is_broken", "n_extreme",
    "largest_step", "mean_step", "sums", "products", "ekg_products", "ekg_power",
    "window_samples", "alive", "derivation_ptp", "wave_means", "wave_covariances", "x_low", "x_high",
))  # fmt: skip
"""What is observed of an item to derive measures from, and is none itself."""

BLOCK_S = 2.0
"""Length of a Fourier transform: 0.5 Hz between bins, and the 2 s in which a page shows an amplitude."""

SPECTRAL_CONTEXT_S = 3.0
"""Spectra and correlations are taken of the window and this much on either side."""

AMPLITUDE_BLOCK_S = 1.0
FLAT_BLOCKS = 4
"""Whole seconds that any stretch of 5 s contains at least, wherever it starts."""

EEG_BAND_HZ = (1.0, 20.0)
EKG_BAND_HZ = (8.0, 40.0)
"""Where the QRS complex has much of its power and the EEG little."""

SILENT_UV = 1e-3
"""What a transform in float32 leaves of a channel that does not change, at any offset, is less."""

TONE_BINS, TONE_SHARE = 3, 0.4
"""An EKG of whose power in that band three bins of 0.5 Hz hold more than this share is hum or a
rhythm of the EEG: the QRS complexes of real and synthetic EKG leave them 0.30 at most."""

HF_BAND_HZ = (25.0, 95.0)
MAINS_HZ = (50.0, 60.0)
MAINS_HALF_WIDTH_HZ = 2.0
"""Left out of the power above 25 Hz on either side of the mains."""

LINE_HALF_WIDTH_HZ = 0.5
LINE_NEIGHBOURHOOD_HZ = (3.0, 8.0)

ORDINARY_STEPS = 6.0
"""A step within this many RMS steps is part of what a channel always does."""

CONSTANT_SHARE = 1e-12
"""A row in float32 that deviates from its mean by less than this share of it does not change."""

QUIET: dict[str, Any] = {"over": "ignore", "invalid": "ignore"}
"""For `numpy.errstate`: infinities are gaps, samples near the end of float32 have no power."""

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


def _neighbours() -> Mask:
    """Return which electrodes stand beside, before or behind each other in the 10-20 system."""
    pairs = [pair for row in _GRID for pair in pairwise(row)]
    pairs += [pair for rows in pairwise(_GRID) for pair in zip(*rows, strict=True)]
    beside = np.zeros((len(EEG_CHANNELS), len(EEG_CHANNELS)), bool)
    for first, second in (*pairs, *_ALSO):
        if first and second:
            i, j = EEG_CHANNELS.index(first), EEG_CHANNELS.index(second)
            beside[i, j] = beside[j, i] = True
    return beside


NEIGHBOURS = _neighbours()
"""bool, shape (19, 19): electrodes beside each other, three or four for each."""

_N_EEG = len(EEG_CHANNELS)
_BESIDE = np.zeros((len(CHANNELS), len(CHANNELS)), np.float32)
_BESIDE[:_N_EEG, :_N_EEG] = NEIGHBOURS
_NOT_BESIDE = np.where(_BESIDE > 0, np.float32(0), np.float32(-3))
"""Added to a correlation, keeps electrodes that are no neighbours from being the best."""

_OTHER = np.ones_like(_BESIDE) - np.eye(len(CHANNELS), dtype=np.float32)
_IS_EKG = np.arange(len(CHANNELS)) >= _N_EEG
_OTHER[_IS_EKG] = _OTHER[:, _IS_EKG] = 0
_UNBROKEN = np.zeros((len(CHANNELS), 0), bool)
_IS_LEFT = np.array([name[-1] in "1357" for name in EEG_CHANNELS])
_IS_RIGHT = np.array([name[-1] in "2468" for name in EEG_CHANNELS])


# --- inspection ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Inspection:
    """What one look at a recording's samples leaves, so that none need be looked at again.

    Attributes
    ----------
    is_gap : bool, shape (n_channels, n_samples); None where nothing is missing. The 20 channels
        of `hms.competition.CHANNELS` come first
    present : bool, shape (n_channels,); whether the recording has the channel
    window : samples of the window
    power : float32, shape (n_channels, n_freqs); mean squared magnitude of the transforms of
        tapered blocks of 2 s without a gap
    bands : what is summed of such powers
    channels : what `_derive_channels` takes of the 20 channels
    """

    is_gap: Mask | None
    present: Mask
    window: slice
    power: Array
    bands: _Bands
    channels: Row

    @cached_property
    def is_eeg(self) -> Mask:
        """Which channels the recording has, but for the EKG; shape (n_channels,)."""
        return np.asarray(self.present & (np.arange(len(self.present)) != CHANNELS.index(EKG_CHANNEL)))


def inspect_segment(segment: Segment) -> Inspection:
    """Inspect what was read of a recording."""
    eeg, present = _all_channels(segment)
    window, spectral = _spans(segment)
    known = segment.extremes if segment.is_finite_inside and _is_usual(segment) else None
    n_samples = segment.eeg.shape[1]
    return inspect(
        eeg,
        sfreq=segment.sfreq,
        window=window,
        spectral=spectral,
        present=present,
        known=known,
        n_samples=n_samples,
    )


def inspect(
    eeg: Array,
    *,
    sfreq: float,
    window: slice,
    spectral: slice,
    present: Mask | None = None,
    known: Array | None = None,
    n_samples: int | None = None,
) -> Inspection:
    """Look at the samples of 20 channels, and perhaps others after them.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
        NaN and Inf are gaps, bridged by straight lines for all but the measures of gaps.
    sfreq, window, spectral : see `channel_measures`
    present : bool, shape (n_channels,); whether the recording has the channel, None for all
    known : the extremes of each second of a recording without gaps, where somebody has looked already
    n_samples : samples that may be read of an item, of which a recording need not reach all
    """
    from scipy.fft import rfft

    n_block = max(1, round(AMPLITUDE_BLOCK_S * sfreq))
    n_samples = eeg.shape[1] if n_samples is None else n_samples
    is_gap = None
    if known is None and not (is_finite := np.isfinite(eeg)).all():
        is_gap = ~is_finite
        eeg = _bridged(eeg, is_gap)
    if present is None:
        present = np.ones(len(eeg), bool)
    with np.errstate(**QUIET):
        if known is None:
            known = extremes(eeg, n_block)
        n_spectrum = min(round(BLOCK_S * sfreq), eeg[0, spectral].size)
        bands = _bands(n_spectrum, sfreq)
        spectra = rfft(_tapered_blocks(eeg[:, spectral], n_spectrum), overwrite_x=True, workers=1)
        power = _power(spectra)
        n = len(CHANNELS)
        channels = {
            "present": present[:n],
            **_gap_measures(None if is_gap is None else is_gap[:n], window, sfreq=sfreq),
            **_amplitudes(eeg[:n], is_gap, known[:, :n], n_block, n_samples=n_samples),
            **_spectral_sums(spectra[:n], power[:n], bands, sfreq=sfreq),
        }
        if is_gap is not None:
            is_broken = np.asarray(_blocks(is_gap[:, spectral], n_spectrum).any(axis=2))
            power = _power(np.where(is_broken[:, :, None], np.complex64(0), spectra))
            n_whole = np.count_nonzero(~is_broken, axis=1)[:, None]
            power *= (is_broken.shape[1] / np.maximum(n_whole, 1)).astype(np.float32)
    return Inspection(is_gap, present, window, power, bands, channels)


def _tapered_blocks(eeg: Array, n_block: int) -> Array:
    """Return whole blocks times a taper, shape (n_channels, n_blocks, n_block).

    One long product for each channel takes half the time of one for each block.
    """
    n_blocks = eeg.shape[1] // n_block
    products = eeg[:, : n_blocks * n_block] * _taper(n_block, n_blocks)
    return np.asarray(products.reshape(len(eeg), n_blocks, n_block))


@lru_cache(maxsize=8)
def _taper(n_block: int, n_blocks: int = 1) -> Array:
    """Return a periodic Hann window, repeated.

    With it an offset is in the bins of 0 and 0.5 Hz alone, so none is taken off.
    """
    taper = np.hanning(n_block + 1)[:n_block] if n_block > 1 else np.ones(1)
    return np.tile(taper.astype(np.float32), n_blocks)


def _power(spectra: NDArray[np.complex64]) -> Array:
    """Return the mean over blocks of the squared magnitude, shape (n_channels, n_freqs)."""
    n_blocks = spectra.shape[1]
    squares = np.square(spectra.view(np.float32))
    power = np.matmul(_constant(n_blocks, 1 / n_blocks), squares)
    return np.asarray(power[:, ::2] + power[:, 1::2])


# --- the recording as it was read ----------------------------------------------------------------


def observe_input(
    inspection: Inspection, segment: Segment, cleaned: Cleaned, *, clip_uv: float | None
) -> Row:
    """Observe what was read, before anything was filled, and what clipping did.

    Parameters
    ----------
    inspection : of the segment
    segment : window and context as recorded
    cleaned : the montage's electrodes after the filter
    clip_uv : limit that the filtered electrodes were clipped to, None for none

    Returns
    -------
    dict
        What `derive_input` takes, of one item; of the measures, these already
        nan_share : share of samples of the EEG channels present, or of the pairs of a bipolar
            recording, that are NaN or Inf
        window_nan_share : the same within the window, without its context
        n_flat_channels : electrodes of the montage without a changing sample
        outside_share : share of window and context that the recording does not reach
        clipped_share : share of the montage's window samples at the clipping limit
    """
    n_samples = segment.eeg.shape[1]
    nan_share, window_nan_share = _nan_shares(inspection)
    return {
        **inspection.channels,
        "nan_share": nan_share,
        "window_nan_share": window_nan_share,
        "n_flat_channels": np.int64(cleaned.dead.sum()),
        "outside_share": np.float64(sum(segment.n_outside) / n_samples),
        "clipped_share": _clipped_share(cleaned, clip_uv),
        "window_samples": window_samples(cleaned),
    }


def derive_input(rows: Rows) -> Row:
    """Return the measures of what was read of many items.

    Parameters
    ----------
    rows : what `observe_input` returns, stacked

    Returns
    -------
    dict
        The `CHANNEL_MEASURES`, each float32 of shape (n_items, 20), NaN for channels that a
        recording lacks, and of the items
        left_right_db : geometric mean of the left electrodes' sd_uv over the right ones', dB
            (NaN if a side is dead)
        signature : see `signatures`
    """
    channels = _derive_channels(rows)
    for values in channels.values():
        values[~rows["present"]] = np.nan
    return {
        **channels,
        "left_right_db": _left_right_db(channels["sd_uv"]),
        "signature": signatures(rows["window_samples"]),
    }


def _is_usual(segment: Segment) -> bool:
    """Tell whether a segment's rows begin with the 20 channels, in the order of the files."""
    return segment.channels[: len(CHANNELS)] == CHANNELS


def _all_channels(segment: Segment) -> tuple[Array, Mask]:
    """Return the 20 channels in the order of the files, NaN for those absent, and which are there.

    Other channels, the pairs of a bipolar recording, follow.
    """
    names, read = segment.channels, segment.eeg[:, segment.inside]
    if _is_usual(segment):
        return read, _all_present(len(names))
    others = [name for name in names if name not in CHANNELS]
    present = np.array([name in names for name in (*CHANNELS, *others)])
    eeg = np.full((len(present), read.shape[1]), np.nan, np.float32)
    eeg[present] = read[[names.index(name) for name in (*CHANNELS, *others) if name in names]]
    return eeg, present


@lru_cache(maxsize=8)
def _all_present(n: int) -> Mask:
    return np.ones(n, bool)


def _spans(segment: Segment) -> tuple[slice, slice]:
    """Return the window, and what spectra are taken of, counted from the first sample inside."""
    start = segment.n_context - segment.inside.start
    stop = start + segment.n_window
    beside = round(SPECTRAL_CONTEXT_S * segment.sfreq)
    return slice(start, stop), slice(max(0, start - beside), stop + beside)


def _nan_shares(seen: Inspection) -> tuple[np.float64, np.float64]:
    """Return the share of samples missing, of all and of the window, over the EEG channels present."""
    n_eeg = np.count_nonzero(seen.present) - int(seen.present[CHANNELS.index(EKG_CHANNEL)])
    if seen.is_gap is None or not n_eeg:
        return (np.float64(0 if n_eeg else np.nan),) * 2
    is_gap = seen.is_gap[seen.is_eeg]
    return np.float64(is_gap.mean()), np.float64(is_gap[:, seen.window].mean())


def _left_right_db(sd_uv: Array) -> NDArray[np.float64]:
    """Return, from shape (n_items, 20), shape (n_items,)."""
    sd = sd_uv[:, :_N_EEG].astype(np.float64)
    is_alive = sd > SILENT_UV
    level = 20 * np.log10(np.where(is_alive, sd, 1))
    with np.errstate(invalid="ignore"):
        left, right = (
            np.where(is_alive & side, level, 0).sum(axis=1) / (is_alive & side).sum(axis=1)
            for side in (_IS_LEFT, _IS_RIGHT)
        )
    return np.asarray(left - right)


def _clipped_share(cleaned: Cleaned, clip_uv: float | None) -> np.float64:
    if clip_uv is None or not cleaned.reaches_limit:
        return np.float64(0)
    window = cleaned.eeg[:, cleaned.n_context : cleaned.eeg.shape[1] - cleaned.n_context]
    return np.float64((np.abs(window) >= np.float32(clip_uv)).mean())


# --- channels ------------------------------------------------------------------------------------


def channel_measures(
    eeg: Array, *, sfreq: float, window: slice = slice(None), spectral: slice = slice(None)
) -> dict[str, Array]:
    """Measure each channel of a recording.

    Parameters
    ----------
    eeg : float32, shape (20, n_samples), µV, at least 1 s
        In the order of `hms.competition.CHANNELS`. NaN and Inf are gaps; they are measured,
        then bridged by straight lines for the other measures.
    sfreq : float
        Sampling rate in Hz.
    window : slice
        Samples of the window, for window_gap_share.
    spectral : slice
        Samples that spectra and correlations are taken of, at least 2 s: the measures from
        sd_uv on.

    Returns
    -------
    dict of float32, shape (20,)
        gap_share, window_gap_share : share of samples missing, of all and of the window
        longest_gap_s : seconds of the longest gap
        max_abs_uv : largest absolute sample
        offset_uv : mean; peak_uv : largest distance of a sample from it
        ptp_uv : median over whole seconds of the peak-to-peak amplitude
        flat_ptp_uv : smallest peak-to-peak that 4 whole seconds in a row stay within, gaps apart
            (5 s that do not change hold 4 whole seconds wherever they start)
        extreme_samples : how often the largest or the smallest value occurs, whichever is oftener;
            0 for a channel of one value
        jump_uv : largest step between samples less 6 times their RMS; a tone or muscle has none
        drift_uv : range of the means of 2 s
        sd_uv : standard deviation between 1 and 20 Hz
        line50_db, line60_db : power density within 0.5 Hz of the mains over that 3 to 8 Hz beside it
        hf_uv : RMS between 25 and 95 Hz without the mains
        neighbour_corr : best correlation with a neighbouring electrode, 1-20 Hz
        polarity : correlation with the sum of the neighbours, each scaled to the same amplitude
        twin_corr : largest absolute correlation with any other electrode
        gain_db : sd_uv over the geometric mean of the neighbours'
        ekg_corr : absolute correlation with the EKG, 8-40 Hz; NaN where that is a tone

        The last five are NaN for the EKG and where a channel does not change.

    References
    ----------
    Bigdely-Shamlo et al., Front Neuroinform 9:16 (2015) (PREP): correlation with other
    electrodes, power at high frequencies. Gramfort et al., Front Neurosci 7:267 (2013) (MNE):
    peak to peak for flat segments. Limits on amplitudes relative to the *neighbours* rather
    than to all channels, because a lateralised pattern is large on one side.
    """
    seen = inspect(eeg, sfreq=sfreq, window=window, spectral=spectral)
    rows = {name: value[np.newaxis] for name, value in seen.channels.items()}
    return {name: values[0] for name, values in _derive_channels(rows).items()}


def _amplitudes(eeg: Array, is_gap: Mask | None, known: Array, n_block: int, *, n_samples: int) -> Row:
    """Return what `_derive_channels` takes of the samples of one item themselves.

    Parameters
    ----------
    eeg : float32, shape (20, n), µV; gaps bridged
    is_gap : bool, shape (at least 20, n), or None
    known : float32, shape (2, 20, at least n_blocks), µV; extremes of each ``n_block`` samples
    n_samples : samples that may be read of an item; what a recording does not reach of them
        has no blocks
    """
    blocks = _blocks(eeg, n_block)
    n_blocks = blocks.shape[1]
    # Shapes that do not follow from the recording: one that is shorter than a block has a short block.
    n_filled = max(n_samples // n_block, FLAT_BLOCKS)
    of_blocks = known[:, :, :n_blocks]
    high, low = of_blocks
    of_all = np.array([high.max(axis=1), low.min(axis=1)])
    broken = _UNBROKEN if is_gap is None else _blocks(is_gap[: len(eeg)], blocks.shape[2]).any(axis=2)
    largest_step, mean_step = _squared_steps(eeg)
    return {
        "n_blocks": np.int64(n_blocks),
        "means": _filled_up(_means(blocks), n_filled),
        "high": _filled_up(high, n_filled),
        "low": _filled_up(low, n_filled),
        "is_broken": _filled_up(np.asarray(broken), n_filled),
        "top": of_all[0],
        "bottom": of_all[1],
        "n_extreme": _n_equal(blocks, of_blocks, of_all),
        "largest_step": largest_step,
        "mean_step": mean_step,
    }


def _spectral_sums(spectra: NDArray[np.complex64], power: Array, bands: _Bands, *, sfreq: float) -> Row:
    """Return what `_derive_channels` takes of the transforms of one item.

    Parameters
    ----------
    spectra : complex64, shape (20, n_spectra, n_freqs); transforms of tapered blocks of 2 s
    power : float32, shape (20, n_freqs); mean of their squared magnitudes
    """
    eeg, ekg = (_as_vectors(spectra[:, :, band]) for band in (bands.eeg, bands.ekg))
    ekg_bins = _bands(round(BLOCK_S * sfreq), sfreq).ekg
    return {
        "sums": power @ bands.sums,
        "products": eeg @ eeg.T,
        "ekg_products": ekg @ ekg[-1] / np.float32(spectra.shape[1]),
        "ekg_power": _filled_up(power[-1:, bands.ekg], ekg_bins.stop - ekg_bins.start)[0],
    }


def _filled_up(rows: NDArray[Any], n: int) -> NDArray[Any]:
    """Return rows of ``n`` values; those that a recording does not have are 0."""
    if rows.shape[1] == n:
        return rows
    filled = np.zeros((len(rows), n), rows.dtype)
    filled[:, : rows.shape[1]] = rows
    return filled


def _derive_channels(rows: Rows) -> dict[str, Array]:
    """Return the measures of the channels of many items, see `channel_measures`; shape (n_items, 20)."""
    with np.errstate(**QUIET, divide="ignore"):
        found = {name: rows[name] for name in ("gap_share", "window_gap_share", "longest_gap_s")}
        found |= _amplitude_measures(rows)
        found |= _spectral_measures(rows)
        found["jump_uv"] = np.fmax(
            0, np.sqrt(rows["largest_step"]) - ORDINARY_STEPS * np.sqrt(rows["mean_step"])
        )
    return {name: found[name].astype(np.float32) for name in CHANNEL_MEASURES}


def _gap_measures(is_gap: Mask | None, window: slice, *, sfreq: float) -> Row:
    names = ("gap_share", "window_gap_share", "longest_gap_s")
    if is_gap is None:
        return dict.fromkeys(names, np.zeros(len(CHANNELS), np.float32))
    found = np.zeros((len(names), len(is_gap)))
    for rows, gap in gap_patterns(is_gap):
        found[:, rows] = [[gap.mean()], [gap[window].mean()], [_longest_run(gap) / sfreq]]
    return dict(zip(names, found, strict=True))


def _bridged(eeg: Array, is_gap: Mask) -> Array:
    """Return a copy with straight lines over gaps, held at the ends; zeros without a valid sample."""
    eeg = eeg.copy()
    for rows, gap in gap_patterns(is_gap):
        if gap.all():
            eeg[rows] = 0
        else:
            bridge(eeg[rows], gap)
    return eeg


def _longest_run(mask: Mask) -> int:
    """Return the length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _amplitude_measures(rows: Rows) -> Row:
    n_blocks = rows["n_blocks"][:, np.newaxis]
    # Blocks come first: reductions over a short last axis take three times as long.
    means, high, low, is_broken = (
        np.ascontiguousarray(np.moveaxis(rows[name], 2, 0)) for name in ("means", "high", "low", "is_broken")
    )
    is_block = np.arange(len(means))[:, np.newaxis, np.newaxis] < n_blocks
    top, bottom, offset = rows["top"], rows["bottom"], means.sum(axis=0) / n_blocks
    ptp = np.where(is_block, high - low, np.inf)
    return {
        "max_abs_uv": np.maximum(top, -bottom),
        "offset_uv": offset,
        "peak_uv": np.maximum(top - offset, offset - bottom),
        "drift_uv": _drift(means, is_block),
        "ptp_uv": np.take_along_axis(np.sort(ptp, axis=0), n_blocks[np.newaxis] // 2, axis=0)[0],
        "flat_ptp_uv": _calmest(np.where(is_broken, np.inf, ptp), n_blocks),
        "extreme_samples": np.where(top > bottom, rows["n_extreme"], 0),
    }


def _blocks(values: NDArray[Any], n_block: int) -> NDArray[Any]:
    """Return whole blocks, shape (n_channels, n_blocks, n_block); at least one, if a short one."""
    n_block = min(n_block, values.shape[1])
    n_blocks = values.shape[1] // n_block
    return values[:, : n_blocks * n_block].reshape(len(values), n_blocks, n_block)


def _means(blocks: Array) -> Array:
    """Return the mean of each block; a product takes a quarter of the time of `mean`."""
    n_block = blocks.shape[2]
    means: Array = blocks @ _constant(n_block, 1 / n_block)
    return means


@lru_cache(maxsize=16)
def _constant(n: int, value: float) -> Array:
    """Return n times a value, not to be written to."""
    return np.full(n, value, np.float32)


def _calmest(ptp: Array, n_blocks: NDArray[np.int64]) -> Array:
    """Return the smallest maximum of `FLAT_BLOCKS` blocks in a row; NaN where every such run has a gap.

    Blocks, the first axis, that do not count are infinite. Fewer than `FLAT_BLOCKS` are one run.
    """
    n_runs = len(ptp) - FLAT_BLOCKS + 1
    runs = ptp[:n_runs]
    for i in range(1, FLAT_BLOCKS):
        runs = np.maximum(runs, ptp[i : i + n_runs])
    calmest = runs.min(axis=0)
    if n_blocks.min() < FLAT_BLOCKS:
        is_block = np.arange(len(ptp))[:, np.newaxis, np.newaxis] < n_blocks
        calmest = np.where(n_blocks < FLAT_BLOCKS, np.where(is_block, ptp, 0).max(axis=0), calmest)
    return np.where(np.isfinite(calmest), calmest, np.float32(np.nan))


def _drift(means: Array, is_block: Mask) -> Array:
    """Return the range of the means of pairs of blocks; 0 where there is no second block."""
    n_pairs = len(means) // 2
    pairs = (means[: 2 * n_pairs : 2] + means[1 : 2 * n_pairs : 2]) / 2
    is_pair = is_block[1 : 2 * n_pairs : 2]
    drift = np.where(is_pair, pairs, -np.inf).max(axis=0) - np.where(is_pair, pairs, np.inf).min(axis=0)
    return np.where(is_pair.any(axis=0), drift, np.float32(0))


def _n_equal(blocks: Array, of_blocks: Array, of_all: Array) -> NDArray[Any]:
    """Return how many samples of each channel equal its extreme, the most of several extremes.

    Parameters
    ----------
    blocks : shape (n_channels, n_blocks, n_block)
    of_blocks, of_all : shapes (n, n_channels, n_blocks) and (n, n_channels); the extremes of every
        block and of all; only blocks that hold the latter are looked into
    """
    which, channel, block = np.nonzero(of_blocks == of_all[:, :, None])
    is_equal = blocks[channel, block] == of_all[which, channel, None]
    counts = is_equal @ _constant(blocks.shape[2], 1.0)  # a third of the time of `count_nonzero`
    found = np.bincount(which * len(blocks) + channel, weights=counts, minlength=of_all.size)
    return np.asarray(found.reshape(of_all.shape).max(axis=0))


def _squared_steps(eeg: Array) -> tuple[Array, Array]:
    """Return the largest squared step between samples of each channel, and the mean of all of them.

    A product sums squares in half the time of a reduction.
    """
    n_steps = eeg.shape[1] - 1
    squares = eeg[:, 1:] - eeg[:, :-1]
    np.square(squares, out=squares)
    total = squares @ _constant(n_steps, 1.0)
    return squares.max(axis=1, initial=0), np.asarray(total / np.float32(max(1, n_steps)))


# --- spectra and correlations --------------------------------------------------------------------


@dataclass(frozen=True)
class _Bands:
    """What follows from the length of a block alone.

    Attributes
    ----------
    sums : float32, shape (n_freqs, 7); powers per bin times it give the power in the EEG's
        band and at high frequencies, then for 50 and 60 Hz the mean density of the line and
        beside it, then the sum over the EKG's band as it is
    density : float32, shape (n_freqs, n); a power density times it is that at `spectrum_freqs`
    eeg, ekg : bins of the bands in which correlations are taken
    """

    sums: Array
    density: Array
    eeg: slice
    ekg: slice


@lru_cache(maxsize=8)
def _bands(n_block: int, sfreq: float) -> _Bands:
    freqs = np.fft.rfftfreq(n_block, 1 / sfreq)
    in_eeg, in_hf = _within(freqs, *EEG_BAND_HZ), _within(freqs, *HF_BAND_HZ)
    lines = []
    for mains_hz in MAINS_HZ:
        distance = np.abs(freqs - mains_hz)
        in_hf &= distance > MAINS_HALF_WIDTH_HZ
        lines += [distance <= LINE_HALF_WIDTH_HZ, _within(distance, *LINE_NEIGHBOURHOOD_HZ)]
    df = sfreq / n_block
    columns = [in_eeg * df, in_hf * df, *(mask / max(1, int(mask.sum())) for mask in lines)]
    to_density = 2 / (sfreq * np.square(_taper(n_block), dtype=np.float64).sum())
    in_ekg = _within(freqs, *EKG_BAND_HZ)
    sums = np.stack([*(to_density * column for column in columns), in_ekg], axis=1)
    density = _smoothing(freqs, spectrum_freqs(sfreq)) * to_density
    spans = _span(np.flatnonzero(in_eeg)), _span(np.flatnonzero(in_ekg))
    return _Bands(sums.astype(np.float32), density.astype(np.float32), *spans)


def spectrum_freqs(sfreq: float) -> NDArray[np.float64]:
    """Return the frequencies of `spectrum`: every whole number of Hz below half the sampling rate."""
    return np.arange(1.0, np.ceil(sfreq / 2))


def _smoothing(freqs: NDArray[Any], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights, shape (n_freqs, n_wanted), of the bins around each wanted frequency.

    They fall in a straight line to nothing 1 Hz away, or a bin's width where that is more. The
    bins of 0 Hz and the next, which hold an offset after a Hann taper, have no weight.
    """
    df = freqs[1] - freqs[0] if len(freqs) > 1 else 1.0
    weights = np.maximum(0, 1 - np.abs(freqs[:, None] - wanted) / max(1.0, df))
    weights[: 2 if len(freqs) > 2 else 0] = 0
    total: NDArray[np.float64] = weights.sum(axis=0)
    return np.asarray(weights / np.where(total > 0, total, np.nan))


def spectrum(seen: Inspection) -> Array:
    """Return the mean over channels of the logarithm of the power density.

    Blocks of 2 s with a gap take no part, nor do the EKG, channels that the recording lacks and
    channels without power.

    Returns
    -------
    float32, shape (n_freqs,), log10 µV²/Hz at `spectrum_freqs`; NaN where no channel has a whole block
    """
    with np.errstate(**QUIET):
        density = seen.power[seen.is_eeg] @ seen.bands.density
    has_power = (density > 0).all(axis=1)
    if not has_power.all():
        density = density[has_power]
    if not len(density):
        return np.full(density.shape[1], np.nan, np.float32)
    return np.asarray(np.log10(density).mean(axis=0), np.float32)


def _within(values: NDArray[Any], low: float, high: float) -> Mask:
    return (values >= low - 1e-9) & (values <= high + 1e-9)


def _span(bins: NDArray[np.intp]) -> slice:
    return slice(int(bins[0]), int(bins[-1]) + 1) if bins.size else slice(0, 0)


def _spectral_measures(rows: Rows) -> Row:
    """Return what the power densities and the cross-spectra of blocks of 2 s tell."""
    sums = rows["sums"]
    amplitude = np.sqrt(sums[..., :2])
    return {
        "sd_uv": amplitude[..., 0],
        "hf_uv": amplitude[..., 1],
        "line50_db": _decibels(sums[..., 2], sums[..., 3]),
        "line60_db": _decibels(sums[..., 4], sums[..., 5]),
        "gain_db": _gain_db(amplitude[..., 0]),
        "ekg_corr": _ekg_correlation(rows["ekg_products"], sums[..., 6], rows["ekg_power"]),
        **_correlations(rows["products"]),
    }


def _as_vectors(band: NDArray[np.complex64]) -> Array:
    """Return a band's coefficients as one vector per channel: their products are cross-spectra."""
    return np.ascontiguousarray(band).view(np.float32).reshape(len(band), -1)


def _decibels(power: Array, reference: Array) -> Array:
    """Return the ratio in dB, NaN where the reference is 0."""
    return np.asarray(10 * np.log10(power / np.where(reference > 0, reference, np.nan)))


def _gain_db(sd_uv: Array) -> Array:
    """Return each amplitude over the geometric mean of its living neighbours', dB; shape (n_items, 20)."""
    alive = sd_uv > SILENT_UV
    level = np.where(alive, 20 * np.log10(sd_uv), 0)
    expected = _of_neighbours(level) / _of_neighbours(alive.astype(np.float32))
    return np.where(alive, level - expected, np.float32(np.nan))


def _of_neighbours(values: Array) -> Array:
    """Return the sums over each electrode's neighbours, item by item: their bits depend on no other item."""
    return np.asarray((_BESIDE @ values[..., np.newaxis])[..., 0])


def _correlations(products: Array) -> Row:
    """Return the correlations of electrodes with their neighbours and with any other, shape (n_items, 20).

    Parameters
    ----------
    products : float32, shape (n_items, 20, 20); real parts of the cross-spectra, summed over a band
    """
    power = np.diagonal(products, axis1=1, axis2=2)
    alive = power > 0
    inverse = np.where(alive, 1 / np.sqrt(power), np.float32(0))
    corr = products * inverse[:, np.newaxis] * inverse[..., np.newaxis]
    beside = (_BESIDE * corr).sum(axis=2), ((_BESIDE @ corr) * _BESIDE).sum(axis=2)
    found = {
        "neighbour_corr": (corr + _NOT_BESIDE).max(axis=2),
        "polarity": beside[0] / np.sqrt(beside[1]),
        "twin_corr": np.abs(corr * _OTHER).max(axis=2),
    }
    silent = ~alive | _IS_EKG
    return {name: np.where(silent, np.float32(np.nan), values) for name, values in found.items()}


def _ekg_correlation(products: Array, power: Array, by_bin: Array) -> Array:
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


# --- what came out -------------------------------------------------------------------------------


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
    return {
        "alive": derived.alive,
        "derivation_ptp": _derivation_ptp(derived),
        "wave_means": wave_means,
        "wave_covariances": wave_covariances,
        "x_low": np.float64(x.min()),
        "x_high": np.float64(x.max()),
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


def window_samples(cleaned: Cleaned) -> Array:
    """Return 256 samples of the cleaned window, spread over electrodes and time.

    Returns
    -------
    float32, shape (256,), µV
        A window with too few electrodes or samples repeats some.
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
