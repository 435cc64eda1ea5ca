"""Scaling of wavelet power to what a model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from hms.registry import Limits, Params, register

__all__ = ["Log1pPercentile", "log1p_percentile", "none"]

Array = NDArray[np.float32]
RESOLUTION = float(np.finfo(np.float32).eps)
SMALLEST = float(np.finfo(np.float32).tiny)
Percent = Annotated[float, Limits(at_least=0, at_most=100)]


@dataclass(frozen=True)
class Log1pPercentile(Params):
    """Percentiles of log1p(power) over the whole item that become 0 and 1."""

    low_percent: Percent
    high_percent: Percent

    def __post_init__(self) -> None:
        if self.low_percent >= self.high_percent:
            raise ValueError(
                f"low_percent must be below high_percent; got {self.low_percent:g} and {self.high_percent:g}"
            )


@register("scaling", "log1p_percentile", Log1pPercentile)
def log1p_percentile(power: Array, params: Log1pPercentile) -> Array:
    """Return log1p of the power, its low percentile as 0 and its high one as 1, clipped.

    Parameters
    ----------
    power : float32, any shape, at least 0
        All rows of one item: the percentiles are taken over all of them together, so that
        differences between chains stay.
    params : Log1pPercentile
        Percentiles, as `numpy.percentile` defines them by linear interpolation.

    Returns
    -------
    float32, shape of ``power``, 0 to 1
        Zeros where float32 cannot tell the two percentiles apart (constant input).

    Raises
    ------
    ValueError
        If the power is not finite or negative: log1p would hide it behind a clipped value.
    """
    # log1p grows with its argument, so it is enough to take it of four order statistics.
    ordered = np.sort(power, axis=None)
    if not (ordered[0] >= 0 and np.isfinite(ordered[-1])):
        raise ValueError(f"power must be finite and at least 0; got {ordered[0]} to {ordered[-1]}")
    low = _log1p_percentile(ordered, params.low_percent)
    high = _log1p_percentile(ordered, params.high_percent)
    if high - low <= max(high * RESOLUTION, SMALLEST):
        return np.zeros_like(power)
    scaled = np.log1p(power)
    scaled -= np.float32(low)
    scaled *= np.float32(1 / (high - low))
    return np.clip(scaled, 0, 1, out=scaled)


def _log1p_percentile(ordered: Array, percent: float) -> float:
    """Percentile of log1p of sorted values, interpolated linearly between order statistics."""
    position = percent / 100 * (ordered.size - 1)
    below = int(position)
    lower, upper = np.log1p(ordered[[below, min(below + 1, ordered.size - 1)]].astype(np.float64))
    return float(lower + (position - below) * (upper - lower))


@register("scaling", "none")
def none(power: Array, params: Params) -> Array:
    """Return the power as it is, in the unit of the transform; the array given, not a copy."""
    return power
