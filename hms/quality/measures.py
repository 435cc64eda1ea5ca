"""Measures of one recording: numbers without limits, so that limits can change without reading again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import EEG_CHANNELS

if TYPE_CHECKING:
    from hms.sources.base import Segment
    from hms.stages.derivations import Derived
    from hms.stages.scalograms import Scalogram
    from hms.stages.signal import Cleaned
    from hms.stages.waveforms import Waveform

Row = Mapping[str, Any]


def input_measures(segment: Segment, cleaned: Cleaned) -> Row:
    """Measure what was read, before anything was filled, and what clipping did.

    Returns
    -------
    nan_share : share of samples of the EEG channels that are NaN or Inf over what was read
    n_flat_channels : channels without a usable or without a changing sample
    max_abs_uv : largest absolute sample, µV (NaN where no sample is finite)
    outside_share : share of window and context that the recording does not reach
    """
    eeg = segment.eeg[[i for i, name in enumerate(segment.channels) if name in EEG_CHANNELS]]
    inside = eeg[:, segment.n_outside[0] : eeg.shape[1] - segment.n_outside[1]]
    finite = np.isfinite(inside)
    return {
        "nan_share": np.float64(1 - finite.mean()) if finite.size else np.float64(1),
        "n_flat_channels": np.int64(cleaned.dead.sum()),
        "max_abs_uv": np.float64(np.abs(inside[finite]).max()) if finite.any() else np.float64(np.nan),
        "outside_share": np.float64(sum(segment.n_outside) / segment.eeg.shape[1]),
    }


def output_measures(
    derived: Derived,
    scalogram: Scalogram,
    waveform: Waveform,
    chains: tuple[tuple[str, tuple[str, ...]], ...],
) -> Row:
    """Measure the derivations, the waveforms and the scaled scalogram.

    Returns
    -------
    dead_derivations : derivations that take no part because an electrode is dead
    corr_ll_lp, corr_rl_rp : correlation of the waveforms of the two chains of a side
        (NaN where the montage has no such chains, or one is constant)
    x_share_0, x_share_1 : share of the scaled scalogram at exactly 0 and 1
    x_is_finite, x_is_constant : of the scaled scalogram
    """
    x = scalogram.x
    rows = {name: i for i, (name, _) in enumerate(chains)} if len(waveform.x) == len(chains) else {}
    return {
        "dead_derivations": np.int64((~derived.alive).sum()),
        "corr_ll_lp": correlation(waveform.x, rows.get("LL"), rows.get("LP")),
        "corr_rl_rp": correlation(waveform.x, rows.get("RL"), rows.get("RP")),
        "x_share_0": np.float64((x == 0).mean()),
        "x_share_1": np.float64((x == 1).mean()),
        "x_is_finite": np.bool_(np.isfinite(x).all()),
        "x_is_constant": np.bool_(x.min() == x.max()),
    }


def correlation(signals: NDArray[np.float32], first: int | None, second: int | None) -> np.float64:
    """Return Pearson's correlation of two rows, NaN where one is absent or constant."""
    if first is None or second is None:
        return np.float64(np.nan)
    a = signals[first].astype(np.float64) - signals[first].mean(dtype=np.float64)
    b = signals[second].astype(np.float64) - signals[second].mean(dtype=np.float64)
    scale = np.sqrt((a @ a) * (b @ b))
    return np.float64(a @ b / scale) if scale > 0 else np.float64(np.nan)
