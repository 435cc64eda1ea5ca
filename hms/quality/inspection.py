"""Inspection: one look at the samples of a recording as it was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, EKG_CHANNEL
from hms.quality.amplitudes import (
    AMPLITUDE_BLOCK_S,
    bridged,
    flat_shares,
    gap_measures,
    observe_amplitudes,
    observe_steps,
)
from hms.quality.blocks import QUIET, Array, Mask, Row, blocks_of
from hms.quality.spectra import BLOCK_S, Bands, bands_of, mean_power, observe_spectra, tapered_blocks
from hms.signal.filters import FFT_ROWS
from hms.signal.levels import extremes, small_buffer

if TYPE_CHECKING:
    from hms.sources.base import Segment

SPECTRAL_CONTEXT_S = 3.0
"""Spectra are taken of the window and this much on either side."""

BLOCKS_TOGETHER = 2
"""Blocks of 2 s that overlapping windows share the transforms of, made in one call."""

STEP_CONTEXT_S = 1.0
"""Steps are looked for in the window and this much on either side."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """What one look at a recording's samples keeps, so that nothing looks at them again.

    Attributes
    ----------
    is_gap : bool, shape (n_channels, n_samples); None where nothing is missing. The 20 channels
        of `hms.competition.CHANNELS` come first
    present : bool, shape (n_channels,); whether the recording has the channel
    window : samples of the window
    power : float32, shape (n_channels, n_freqs); mean squared magnitude of the transforms of
        tapered blocks of 2 s without a gap
    bands : what is summed of such powers
    channels : what `derive_channels` takes of the 20 channels
    names : of the channels
    spectra : complex64, shape (n_channels, n_blocks, n_freqs); those transforms, of all blocks
    lost : float32, shape (n_channels,); share of the window in gaps and flat stretches
    """

    is_gap: Mask | None
    present: Mask
    window: slice
    power: Array
    bands: Bands
    channels: Row
    names: tuple[str, ...]
    spectra: NDArray[np.complex64]
    lost: Array

    @cached_property
    def is_eeg(self) -> Mask:
        """Which channels the recording has, but for the EKG; shape (n_channels,)."""
        return np.asarray(self.present & (np.arange(len(self.present)) != CHANNELS.index(EKG_CHANNEL)))


def inspect_segment(segment: Segment) -> Inspection:
    """Inspect what was read of a recording."""
    return _inspect_alike([segment])[0]


def inspect_segments(segments: Sequence[Segment]) -> list[Inspection]:
    """Inspect several; windows of one block together, where they have equally much and no gap."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for number, one in enumerate(segments):
        is_shared = one.block is not None and one.is_finite_inside and _is_usual(one)
        alike.setdefault((id(one.block), one.n_outside) if is_shared else (number,), []).append(number)
    found: dict[int, Inspection] = {}
    for numbers in alike.values():
        found |= zip(numbers, _inspect_alike([segments[number] for number in numbers]), strict=True)
    return [found[number] for number in range(len(segments))]


def _inspect_alike(segments: Sequence[Segment]) -> list[Inspection]:
    """Inspect segments of one shape; several only where they have no gap."""
    one = segments[0]
    looks = [_all_channels(segment) for segment in segments]
    window, spectral = _spans(one)
    is_whole = one.is_finite_inside and _is_usual(one)
    with small_buffer():
        return inspect(
            [eeg for eeg, _, _ in looks],
            sfreq=one.sfreq,
            window=window,
            spectral=spectral,
            present=looks[0][1],
            names=looks[0][2],
            known=np.array([segment.extremes for segment in segments]) if is_whole else None,
            n_samples=one.eeg.shape[1],
            spectra=[_shared_spectra(segment, spectral) if is_whole else None for segment in segments],
        )


def _shared_spectra(segment: Segment, spectral: slice) -> NDArray[np.complex64] | None:
    """Return the transforms of a window's blocks of 2 s, each made once for all windows that it is part of.

    They are made `BLOCKS_TOGETHER` at a time from the start of the samples that windows share, with the bits
    that they have alone. None where windows share no samples, or others.
    """
    shared, n_block = segment.block, round(BLOCK_S * segment.sfreq)
    if shared is None or (BLOCKS_TOGETHER * len(shared.values)) % FFT_ROWS:
        return None
    phase = (shared.n_context - round(SPECTRAL_CONTEXT_S * segment.sfreq)) % n_block
    first, rest = divmod(segment.place + spectral.start - phase, n_block)
    n_inside = segment.inside.stop - segment.inside.start
    stop = first + (min(spectral.stop, n_inside) - spectral.start) // n_block
    n_together = BLOCKS_TOGETHER * n_block
    n_parts = (shared.values.shape[1] - phase) // n_together
    parts = range(first // BLOCKS_TOGETHER, -(-stop // BLOCKS_TOGETHER))
    if rest or not 0 <= first < stop <= n_parts * BLOCKS_TOGETHER:
        return None
    shape = len(shared.values), n_parts * BLOCKS_TOGETHER, n_block // 2 + 1
    spectra: NDArray[np.complex64] = shared.once("spectra", partial(np.empty, shape, np.complex64))
    is_made: Mask = shared.once("spectra made", partial(np.zeros, n_parts, np.bool_))
    lacking = np.flatnonzero(~is_made[parts.start : parts.stop])
    if lacking.size:
        made = slice(parts.start + int(lacking[0]), parts.start + int(lacking[-1]) + 1)
        samples = slice(phase + made.start * n_together, phase + made.stop * n_together)
        at = slice(made.start * BLOCKS_TOGETHER, made.stop * BLOCKS_TOGETHER)
        spectra[:, at] = _transformed(shared.values[:, samples], n_block)
        is_made[made] = True
    return spectra[:, first:stop]


def _transformed(eeg: Array, n_block: int) -> NDArray[np.complex64]:
    """Return the transforms of tapered blocks, shape (n_channels, n_blocks, n_freqs)."""
    from scipy.fft import rfft

    with np.errstate(**QUIET):
        return np.asarray(rfft(tapered_blocks(eeg, n_block), overwrite_x=True, workers=1))


def inspect(
    eegs: Sequence[Array],
    *,
    sfreq: float,
    window: slice,
    spectral: slice,
    present: Mask | None = None,
    names: tuple[str, ...] = CHANNELS,
    known: Array | None = None,
    n_samples: int | None = None,
    spectra: Sequence[NDArray[np.complex64] | None] = (None,),
) -> list[Inspection]:
    """Look at the samples of 20 channels, and perhaps others after them, of one item or several alike.

    Parameters
    ----------
    eegs : float32, shape (n_channels, n_samples) each, µV
        NaN and Inf are gaps, bridged by straight lines for all but the measures of gaps: of one item alone.
    sfreq : sampling rate in Hz
    window, spectral : samples of the window, and those that spectra are taken of, at least 2 s
    present : bool, shape (n_channels,); whether the recording has the channel, None for all
    names : of the channels
    known : float32, shape (n_items, 2, n_channels, n); the extremes of each second of recordings without
        gaps, where somebody has looked already
    n_samples : samples that may be read of an item, of which a recording need not reach all
    spectra : of each item the transforms of `tapered_blocks`, where somebody has made them already
    """
    eeg, n_block = eegs[0], max(1, round(AMPLITUDE_BLOCK_S * sfreq))
    window = slice(*window.indices(eeg.shape[1])[:2])
    n_samples = eeg.shape[1] if n_samples is None else n_samples
    is_gap = None
    if known is None and not (is_finite := np.isfinite(eeg)).all():
        is_gap = ~is_finite
        eeg = bridged(eeg, is_gap)
        eegs = [eeg]
    if present is None:
        present = np.ones(len(eeg), bool)
    with np.errstate(**QUIET):
        if known is None:
            known = extremes(eeg, n_block)[np.newaxis]
        n_spectrum = min(round(BLOCK_S * sfreq), eeg[0, spectral].size)
        bands = bands_of(n_spectrum, sfreq)
        n, beside = len(CHANNELS), _beside(window, STEP_CONTEXT_S, sfreq)
        known = known[..., : max(1, eeg.shape[1] // n_block)]
        is_broken = None if is_gap is None else np.asarray(blocks_of(is_gap, n_block).any(axis=2))
        flats = flat_shares(known, is_broken, window, n_block)
        gaps = gap_measures(None if is_gap is None else is_gap[:n], window, sfreq=sfreq)
        first = [eeg[:n] for eeg in eegs]
        amplitudes: Row = {
            **observe_amplitudes(first, is_broken, known[:, :, :n], n_block, n_samples=n_samples)
        }
        found = []
        for number, (eeg, made) in enumerate(zip(eegs, spectra, strict=True)):
            own = _transformed(eeg[:, spectral], n_spectrum) if made is None else made
            power, flat = mean_power(own), flats[number]
            channels = {
                **gaps,
                "window_flat_share": flat[:n],
                **{name: values[number] for name, values in amplitudes.items()},
                **observe_steps(eeg[:n, beside]),
                **observe_spectra(own[:n], power[:n], bands, sfreq=sfreq),
            }
            lost = flat
            if is_gap is not None:
                lost = flat + is_gap[:, window].mean(axis=1, dtype=np.float32)
                is_cut = np.asarray(blocks_of(is_gap[:, spectral], n_spectrum).any(axis=2))
                power = _of_whole_blocks(own, is_cut)
            found.append(Inspection(is_gap, present, window, power, bands, channels, names, own, lost))
    return found


def _of_whole_blocks(spectra: NDArray[np.complex64], is_broken: Mask) -> Array:
    """Return the mean power over blocks without a gap, 0 where there is none; shape (n_channels, n_freqs)."""
    power = mean_power(np.where(is_broken[:, :, None], np.complex64(0), spectra))
    n_whole = np.count_nonzero(~is_broken, axis=1)[:, None]
    return np.asarray(power * (is_broken.shape[1] / np.maximum(n_whole, 1)).astype(np.float32))


def _is_usual(segment: Segment) -> bool:
    """Tell whether a segment's rows begin with the 20 channels, in the order of the files."""
    return segment.channels[: len(CHANNELS)] == CHANNELS


def _all_channels(segment: Segment) -> tuple[Array, Mask, tuple[str, ...]]:
    """Return the 20 channels in the order of the files (NaN if absent), which are present, and their names.

    Other channels, the pairs of a bipolar recording, follow.
    """
    names, read = segment.channels, segment.eeg[:, segment.inside]
    if _is_usual(segment):
        return read, _all_present(len(names)), names
    others = [name for name in names if name not in CHANNELS]
    ordered = (*CHANNELS, *others)
    present = np.array([name in names for name in ordered])
    eeg = np.full((len(present), read.shape[1]), np.nan, np.float32)
    eeg[present] = read[[names.index(name) for name in ordered if name in names]]
    return eeg, present, ordered


@lru_cache(maxsize=8)
def _all_present(n: int) -> Mask:
    return np.ones(n, bool)


def _spans(segment: Segment) -> tuple[slice, slice]:
    """Return the window and the part that spectra are taken of, counted from the first sample inside."""
    start = segment.n_context - segment.inside.start
    stop = start + segment.n_window
    window = slice(start, stop)
    return window, _beside(window, SPECTRAL_CONTEXT_S, segment.sfreq)


def _beside(window: slice, seconds: float, sfreq: float) -> slice:
    """Return a window with some seconds on either side, as far as they exist."""
    more = round(seconds * sfreq)
    return slice(max(0, window.start - more), window.stop + more)
