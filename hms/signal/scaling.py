"""Scaling of wavelet power to what a model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from hms.registry import Limits, Params, register

Array = NDArray[np.float32]
RESOLUTION = float(np.finfo(np.float32).eps)
SMALLEST = float(np.finfo(np.float32).tiny)
SAMPLE_STRIDE = 32
"""One in so many values is looked at to find about where the percentiles are."""

Percent = Annotated[float, Limits(at_least=0, at_most=100)]


@dataclass(frozen=True)
class Log1pPercentile(Params):
    """Percentiles of log1p(power) over the whole item that become 0 and 1.

    Attributes
    ----------
    low_percent : percentile of log1p(power) over the whole item that becomes 0
    high_percent : percentile that becomes 1
    """

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

    Raises `ValueError` if the power is not finite or negative: log1p would hide it behind a clipped value.

    Parameters
    ----------
    power : float32, any shape, at least 0
        All rows of one item: the percentiles are taken over all of them together, so that
        differences between chains stay.
    params : percentiles, as `numpy.percentile` interpolates them linearly

    Returns
    -------
    float32, shape of ``power``, 0 to 1
        Zeros where float32 cannot tell the two percentiles apart (constant input).
    """
    least, most = power.min(), power.max()
    if not 0 <= least <= most < np.inf:
        raise ValueError(f"power must be finite and at least 0; got {least} to {most}")
    low, high = _log1p_percentiles(power, params.low_percent, params.high_percent)
    if high - low <= max(high * RESOLUTION, SMALLEST):
        return np.zeros_like(power)
    scaled = np.log1p(power)
    scaled -= np.float32(low)
    scaled *= np.float32(1 / (high - low))
    return np.clip(scaled, 0, 1, out=scaled)


def _log1p_percentiles(power: Array, *percents: float) -> tuple[float, float]:
    """Return two percentiles of log1p(power), interpolated linearly between order statistics.

    log1p grows with its argument, so it is enough to take it of four order statistics.
    """
    positions = [percent / 100 * (power.size - 1) for percent in percents]
    below = [int(position) for position in positions]
    above = [min(place + 1, power.size - 1) for place in below]
    lowest, highest = _ends(power.reshape(-1), above[0] + 1, power.size - below[1])
    low = lowest[below[0]], lowest[above[0]]
    high = highest[below[1] - power.size], highest[above[1] - power.size]
    values = np.log1p(np.array([low, high], np.float64))
    found = [
        float(first + (position - place) * (second - first))
        for (first, second), position, place in zip(values, positions, below, strict=True)
    ]
    return found[0], found[1]


def _ends(values: Array, n_low: int, n_high: int) -> tuple[Array, Array]:
    """Return at least ``n_low`` of the lowest values and ``n_high`` of the highest, both ascending.

    Two values of a sample tell about where they end; sorting what lies beyond takes a third of the
    time of sorting everything, which happens only where the sample misleads.
    """
    sample = values[::SAMPLE_STRIDE]
    n_spare = 8 + sample.size // 100
    low = min(n_low // SAMPLE_STRIDE + n_spare, sample.size - 1)
    high = max(sample.size - 1 - n_high // SAMPLE_STRIDE - n_spare, 0)
    sample = np.partition(sample, (low, high))
    lowest, highest = values.compress(values <= sample[low]), values.compress(values >= sample[high])
    if lowest.size < n_low or highest.size < n_high:
        return (np.sort(values),) * 2
    lowest.sort()
    highest.sort()
    return lowest, highest


@register("scaling", "none")
def none(power: Array, params: Params) -> Array:
    """Return the power as it is, in the unit of the transform; the array given, not a copy."""
    return power
