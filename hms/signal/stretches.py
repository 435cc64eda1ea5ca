"""Wavelet power of overlapping windows, cut from transforms of stretches that they share.

A block is parted into as few stretches as are no longer than a setting allows, of one length. A stretch
is transformed once, with the context that a window would have. Where it lies, and so what comes out,
follows from the block alone.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from hms.signal.arrays import Block, Derived
from hms.signal.cwt import Groups, plan_cwt
from hms.signal.levels import is_uneven
from hms.signal.wavelets import Cwt

Array = NDArray[np.float32]

STEP_S = 2.0
"""Lengths of stretches are multiples of it, so that a worker needs few plans."""


def shared_power(
    derived: Derived, groups: Groups, params: Cwt, *, transform_s: float, keeps_mean: bool = False
) -> Array | None:
    """Return the wavelet power of a window, cut from the stretches of its block that it lies in.

    Parameters
    ----------
    derived : derivations of the window
    groups : derivations averaged in each row of the output
    params : settings of the wavelet
    transform_s : most seconds of a stretch; 0: windows share none
    keeps_mean : see `hms.signal.cwt.plan_cwt`

    Returns
    -------
    float32, shape (n_groups, n_freqs, n_frames), µV²
        As `hms.signal.cwt.CwtPlan.power` gives it for the window, which sees less of what lies beyond
        its context. None for a window that is transformed alone: one without a block, one that is its
        whole block, or one that begins or ends between two frames of the block.
    """
    block, hop = derived.block, params.hop
    if block is None or derived.first % hop or derived.n_window % hop or block.n_samples == derived.n_window:
        return None
    n_frames, step = block.n_samples // hop, max(1, int(STEP_S * derived.sfreq) // hop)
    n_stretch = _length(n_frames, int(transform_s * derived.sfreq) // hop, step)
    if not n_stretch:
        return None
    first, stop = derived.first // hop, (derived.first + derived.n_window) // hop
    parts = []
    for number in range(first // n_stretch, -(-stop // n_stretch)):
        # The last stretch ends with the block, and so begins within the one before.
        start = min(number * n_stretch, n_frames - n_stretch)
        make = partial(_power, block, groups, params, start, n_stretch, derived.sfreq, keeps_mean)
        power = block.once((params, groups, start), make)
        inside = max(first, number * n_stretch), min(stop, (number + 1) * n_stretch)
        parts.append(power[..., inside[0] - start : inside[1] - start])
    return np.concatenate(parts, axis=-1)


def _length(n_frames: int, longest: int, step: int) -> int:
    """Return the frames of a stretch: the fewest stretches, about equally long; 0 where none fits."""
    step = min(step, longest)
    if not step:
        return 0
    n_steps = -(-n_frames // -(-n_frames // longest) // step)
    return min(n_steps, longest // step, n_frames // step) * step


def _power(
    block: Block, groups: Groups, params: Cwt, start: int, n_frames: int, sfreq: float, keeps_mean: bool
) -> Array:
    """Return the power of a stretch that begins at a frame of a block."""
    n_window = n_frames * params.hop
    plan = plan_cwt(params, sfreq=sfreq, n_context=block.n_context, n_window=n_window, keeps_mean=keeps_mean)
    values = block.values[:, start * params.hop : (start + n_frames) * params.hop + 2 * block.n_context]
    n_second = max(1, round(sfreq))
    seconds = block.extremes(n_second, start * params.hop, values.shape[1] // n_second)
    if is_uneven(values, sfreq=sfreq, known=seconds):
        values = values.astype(np.float64)
    return plan.power(values, groups, is_cut=True)
