"""Amplitudes of electrodes as they were recorded: gaps, flat stretches, extremes, steps, drift."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS
from hms.quality.blocks import Array, Mask, Row, Rows, blocks_of, constant, filled_up
from hms.quality.electrodes import FAR, N_BESIDE
from hms.signal.gaps import bridge, gap_patterns

AMPLITUDE_BLOCK_S = 1.0
FLAT_BLOCKS = 4
"""Whole seconds that any stretch of 5 s contains at least, wherever it starts."""


FLAT_UV = 3.0
"""Peak to peak that a flat stretch stays within: noise of 0.5 µV SD has 2.8 µV in a second."""

ORDINARY_STEPS = 6.0
"""A step within this many RMS steps is part of what a channel always does."""


def gap_measures(is_gap: Mask | None, window: slice, *, sfreq: float) -> Row:
    """Return gap_share, window_gap_share and longest_gap_s of the 20 channels."""
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
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max(initial=0))


class ObservedAmplitudes(TypedDict):
    """What the measures of amplitudes follow from; each with a first axis of items.

    Attributes
    ----------
    n_blocks : int64, shape (n_items,); whole seconds that were read
    means, high, low : float32, shape (n_items, 20, n), µV; of each second, 0 where there is none
    is_broken : bool, shape (n_items, 20, n); seconds with a gap
    top, bottom : float32, shape (n_items, 20), µV; extremes of everything
    n_extreme : shape (n_items, 20); how many samples equal the one or the other, whichever is oftener
    """

    n_blocks: NDArray[np.int64]
    means: Array
    high: Array
    low: Array
    is_broken: Mask
    top: Array
    bottom: Array
    n_extreme: NDArray[Any]


def observe_amplitudes(
    eegs: Sequence[Array], is_broken: Mask | None, known: Array, n_block: int, *, n_samples: int
) -> ObservedAmplitudes:
    """Observe the samples of items of one shape themselves.

    Parameters
    ----------
    eegs : float32, shape (20, n) each, µV; gaps bridged
    is_broken : bool, shape (at least 20, n_blocks), seconds with a gap; None where there is none
    known : float32, shape (n_items, 2, 20, n_blocks), µV; extremes of each ``n_block`` samples
    n_samples : samples that may be read of an item; what a recording does not reach of them has no blocks
    """
    blocks = [blocks_of(eeg, n_block) for eeg in eegs]
    n_items, (n_channels, n_blocks, _) = len(blocks), blocks[0].shape
    # Shapes that do not follow from the recording: one that is shorter than a block has a short block.
    n_filled = max(n_samples // n_block, FLAT_BLOCKS)
    of_all = np.stack([known[:, 0].max(axis=-1), known[:, 1].min(axis=-1)], axis=1)
    broken = (
        np.zeros((n_items, n_channels, 0), np.bool_) if is_broken is None else is_broken[None, :n_channels]
    )
    return {
        "n_blocks": np.full(n_items, n_blocks),
        "means": filled_up(np.array([block_means(of_item) for of_item in blocks]), n_filled),
        "high": filled_up(known[:, 0], n_filled),
        "low": filled_up(known[:, 1], n_filled),
        "is_broken": filled_up(broken, n_filled),
        "top": of_all[:, 0],
        "bottom": of_all[:, 1],
        "n_extreme": _n_equal(blocks, known, of_all),
    }


def derive_amplitudes(rows: Rows) -> Row:
    """Return the measures of amplitudes and steps, see `hms.quality.channels.derive_channels`."""
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
        "jump_uv": np.fmax(0, _own_steps(rows["steps"]) - ORDINARY_STEPS * np.sqrt(rows["mean_step"])),
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


def _n_equal(blocks: Sequence[Array], of_blocks: Array, of_all: Array) -> NDArray[Any]:
    """Return how many samples of each item's channels equal the extreme, the most of several extremes.

    Parameters
    ----------
    blocks : shape (n_channels, n_blocks, n_block) each
    of_blocks, of_all : shapes (n_items, n, n_channels, n_blocks) and (n_items, n, n_channels); the extremes
        of every block and of all; only blocks that hold the latter are looked into
    """
    n_channels, n_blocks, n_block = blocks[0].shape
    places = np.flatnonzero(of_blocks == of_all[..., None])  # a third of the time of `nonzero`
    extreme, block = places // n_blocks, places % n_blocks
    channel = extreme % n_channels
    if len(blocks) == 1:
        values = blocks[0][channel, block]
    else:
        edges = np.searchsorted(extreme, range(0, of_all.size + 1, of_all[0].size)).tolist()
        parts = itertools.starmap(slice, itertools.pairwise(edges))
        values = np.concatenate([own[channel[p], block[p]] for own, p in zip(blocks, parts, strict=True)])
    is_equal = values == of_all.reshape(-1, 1)[extreme]
    counts = is_equal @ constant(n_block, 1.0)  # a third of the time of `count_nonzero`
    found = np.bincount(extreme, weights=counts, minlength=of_all.size)
    return np.asarray(found.reshape(of_all.shape).max(axis=1))


class ObservedSteps(TypedDict):
    """Steps between samples of one item.

    Attributes
    ----------
    steps : float32, shape (20, 20), µV; row i: how every channel steps where channel i steps most
    mean_step : float32, shape (20,), µV²; mean of its squared steps
    """

    steps: Array
    mean_step: Array


def observe_steps(eeg: Array) -> ObservedSteps:
    """Observe the steps of 20 channels, gaps bridged."""
    n_steps = eeg.shape[1] - 1
    if n_steps < 1:
        return {
            "steps": np.zeros((len(eeg), len(eeg)), np.float32),
            "mean_step": np.zeros(len(eeg), np.float32),
        }
    squares = eeg[:, 1:] - eeg[:, :-1]
    np.square(squares, out=squares)  # a product sums squares in half the time of a reduction
    at = squares.argmax(axis=1)
    return {
        "steps": (eeg[:, at + 1] - eeg[:, at]).T,
        "mean_step": np.asarray(squares @ constant(n_steps, 1 / n_steps), np.float32),
    }


def _own_steps(steps: Array) -> Array:
    """Return what of each channel's largest step no neighbour shares, shape (n_items, 20).

    Less the median of its neighbours' steps there, and no more than the channel itself has: a spike of
    the brain reaches several electrodes, a step of an electrode itself only one.
    """
    beside = np.sort(steps + FAR, axis=2)
    rows = np.arange(steps.shape[1])
    median = (beside[:, rows, (N_BESIDE - 1) // 2] + beside[:, rows, N_BESIDE // 2]) / 2
    own = steps[:, rows, rows]
    return np.asarray(np.minimum(np.abs(own - median), np.abs(own)))


def flat_shares(known: Array, is_broken: Mask | None, window: slice, n_block: int) -> Array:
    """Return the share of the window that is in flat stretches of each item's channels.

    float32, shape (n_items, n_channels). Flat is a stretch of `FLAT_BLOCKS` blocks or more, each within
    `FLAT_UV`.

    Parameters
    ----------
    known : float32, shape (n_items, 2, n_channels, n_blocks), µV; extremes of each whole ``n_block`` samples
    is_broken : bool, shape (n_channels, n_blocks); blocks with a gap, which are not flat
    window : samples of the window
    """
    n_items, _, n_channels, n_blocks = known.shape
    is_calm = known[:, 0] - known[:, 1] < FLAT_UV
    if is_broken is not None:
        is_calm &= ~is_broken
    if n_blocks < FLAT_BLOCKS or not is_calm.any():
        return np.zeros((n_items, n_channels), np.float32)
    runs = is_calm[..., : 1 - FLAT_BLOCKS].copy()
    for i in range(1, FLAT_BLOCKS):
        runs &= is_calm[..., i : runs.shape[-1] + i]
    if not runs.any():
        return np.zeros((n_items, n_channels), np.float32)
    is_flat = np.zeros_like(is_calm)
    for i in range(FLAT_BLOCKS):
        is_flat[..., i : runs.shape[-1] + i] |= runs
    starts = np.arange(n_blocks) * n_block
    overlap = np.minimum(starts + n_block, window.stop) - np.maximum(starts, window.start)
    length = min(window.stop, n_blocks * n_block) - max(window.start, 0)
    return np.asarray(is_flat @ np.maximum(overlap, 0) / max(1, length), np.float32)
