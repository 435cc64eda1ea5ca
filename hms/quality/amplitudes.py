"""Amplitudes of electrodes as they were recorded: gaps, flat stretches, extremes, steps, drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS
from hms.quality.blocks import Array, Mask, Row, Rows, blocks_of, constant, filled_up
from hms.signal.gaps import bridge, gap_patterns

__all__ = [
    "AMPLITUDE_BLOCK_S",
    "FLAT_BLOCKS",
    "ObservedAmplitudes",
    "bridged",
    "derive_amplitudes",
    "gap_measures",
    "observe_amplitudes",
]

AMPLITUDE_BLOCK_S = 1.0
FLAT_BLOCKS = 4
"""Whole seconds that any stretch of 5 s contains at least, wherever it starts."""


ORDINARY_STEPS = 6.0
"""A step within this many RMS steps is part of what a channel always does."""


_UNBROKEN = np.zeros((len(CHANNELS), 0), bool)


def gap_measures(is_gap: Mask | None, window: slice, *, sfreq: float) -> Row:
    """Return gap_share, window_gap_share and longest_gap_s of the 20 channels, see `channel_measures`."""
    names = ("gap_share", "window_gap_share", "longest_gap_s")
    if is_gap is None:
        return dict.fromkeys(names, np.zeros(len(CHANNELS), np.float32))
    found = np.zeros((len(names), len(is_gap)))
    for rows, gap in gap_patterns(is_gap):
        found[:, rows] = [[gap.mean()], [gap[window].mean()], [_longest_run(gap) / sfreq]]
    return dict(zip(names, found, strict=True))


def bridged(eeg: Array, is_gap: Mask) -> Array:
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


@dataclass(frozen=True)
class ObservedAmplitudes:
    """What the measures of amplitudes follow from, of one item.

    Attributes
    ----------
    n_blocks : int64; whole seconds that were read
    means, high, low : float32, shape (20, n), µV; of each second, 0 where there is none
    is_broken : bool, shape (20, n); seconds with a gap
    top, bottom : float32, shape (20,), µV; extremes of everything
    n_extreme : shape (20,); how many samples equal the one or the other, whichever is oftener
    largest_step, mean_step : float32, shape (20,), µV²; squared steps between samples
    """

    n_blocks: np.int64
    means: Array
    high: Array
    low: Array
    is_broken: Mask
    top: Array
    bottom: Array
    n_extreme: NDArray[Any]
    largest_step: Array
    mean_step: Array


def observe_amplitudes(
    eeg: Array, is_gap: Mask | None, known: Array, n_block: int, *, n_samples: int
) -> ObservedAmplitudes:
    """Observe the samples of one item themselves.

    Parameters
    ----------
    eeg : float32, shape (20, n), µV; gaps bridged
    is_gap : bool, shape (at least 20, n), or None
    known : float32, shape (2, 20, at least n_blocks), µV; extremes of each ``n_block`` samples
    n_samples : samples that may be read of an item; what a recording does not reach of them
        has no blocks
    """
    blocks = blocks_of(eeg, n_block)
    n_blocks = blocks.shape[1]
    # Shapes that do not follow from the recording: one that is shorter than a block has a short block.
    n_filled = max(n_samples // n_block, FLAT_BLOCKS)
    of_blocks = known[:, :, :n_blocks]
    high, low = of_blocks
    of_all = np.array([high.max(axis=1), low.min(axis=1)])
    broken = _UNBROKEN if is_gap is None else blocks_of(is_gap[: len(eeg)], blocks.shape[2]).any(axis=2)
    largest_step, mean_step = squared_steps(eeg)
    return ObservedAmplitudes(
        n_blocks=np.int64(n_blocks),
        means=filled_up(block_means(blocks), n_filled),
        high=filled_up(high, n_filled),
        low=filled_up(low, n_filled),
        is_broken=filled_up(np.asarray(broken), n_filled),
        top=of_all[0],
        bottom=of_all[1],
        n_extreme=_n_equal(blocks, of_blocks, of_all),
        largest_step=largest_step,
        mean_step=mean_step,
    )


def derive_amplitudes(rows: Rows) -> Row:
    """Return the measures of `ObservedAmplitudes` of many items, see `channel_measures`."""
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
        "jump_uv": np.fmax(0, np.sqrt(rows["largest_step"]) - ORDINARY_STEPS * np.sqrt(rows["mean_step"])),
    }


def block_means(blocks: Array) -> Array:
    """Return the mean of each block; a product takes a quarter of the time of `mean`."""
    n_block = blocks.shape[2]
    means: Array = blocks @ constant(n_block, 1 / n_block)
    return means


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
    counts = is_equal @ constant(blocks.shape[2], 1.0)  # a third of the time of `count_nonzero`
    found = np.bincount(which * len(blocks) + channel, weights=counts, minlength=of_all.size)
    return np.asarray(found.reshape(of_all.shape).max(axis=0))


def squared_steps(eeg: Array) -> tuple[Array, Array]:
    """Return the largest squared step between samples of each channel, and the mean of all of them.

    A product sums squares in half the time of a reduction.
    """
    n_steps = eeg.shape[1] - 1
    squares = eeg[:, 1:] - eeg[:, :-1]
    np.square(squares, out=squares)
    total = squares @ constant(n_steps, 1.0)
    return squares.max(axis=1, initial=0), np.asarray(total / np.float32(max(1, n_steps)))
