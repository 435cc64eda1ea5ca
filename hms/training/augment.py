"""Augmentation of training samples: every change is a registered function on NumPy arrays.

What happens to a sample is a pure function of (seed, epoch, index): any number of
workers, in any order, give the same sample. Every change keeps shapes, keeps scalograms
within the range they had, and keeps the label's sum at 1.

A change is a function ``(sample, rng, params, around) -> sample`` registered in the group
``augmentation``; an option of the config group ``augment`` lists changes by name in the
order in which they are made. A change of your own is registered in the same way.

References
----------
Park DS et al., "SpecAugment" (2019): time and frequency masks.
Zhang H et al., "mixup: Beyond Empirical Risk Minimization" (2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from hms.registry import Group, Limits, Params, PositiveFloat, PositiveInt, Share, lookup, register

__all__ = ["Around", "Augmentation", "Change", "augment_sample", "no_augmentation", "sequence"]

Sample = dict[str, Any]
Rng = np.random.Generator
Array = NDArray[np.float32]
Band = Annotated[float, Limits(above=0, at_most=1)]

SIGNALS = ("x", "wave")
"""Entries of a sample that hold signals; the last axis is time, the first is outputs."""


@dataclass(frozen=True)
class Around:
    """What a change may look at beside the sample itself.

    Attributes
    ----------
    mirror : int64, shape (n_outputs,); see `hms.training.mirror.mirrored_outputs`
    partner : returns another item of the data set, not augmented
    n_items : how many items there are
    """

    mirror: NDArray[np.int64]
    partner: Callable[[int], Sample]
    n_items: int


@dataclass(frozen=True)
class Change(Params):
    """Settings that every change has: the share of samples it is made to."""

    probability: Share


@dataclass(frozen=True)
class Augmentation(Params):
    """Changes by name, in the order in which they are made."""

    changes: tuple[tuple[str, Annotated[Params, Group("augmentation")]], ...]


@register("augment", "none")
def no_augmentation(sample: Sample, rngs: Callable[[int], Rng], params: Params, around: Around) -> Sample:
    """Return the sample as it is."""
    return sample


@register("augment", "sequence", Augmentation)
def sequence(sample: Sample, rngs: Callable[[int], Rng], params: Augmentation, around: Around) -> Sample:
    """Make one change after the other, each to its share of the samples.

    Every change has its own random numbers, so that switching one off leaves the others as they were.
    """
    for number, (_, change) in enumerate(params.changes):
        rng = rngs(number)
        assert isinstance(change, Change), f"settings of augmentation '{change.kind}' must extend Change"
        if rng.random() < change.probability:
            sample = lookup("augmentation", change.kind).function(sample, rng, change, around)
    return sample


def augment_sample(
    sample: Sample,
    params: Params,
    *,
    seed: int,
    epoch: int,
    index: int,
    mirror: NDArray[np.int64],
    partner: Callable[[int], Sample],
    n_items: int,
) -> Sample:
    """Return an augmented copy of a sample, determined by ``seed``, ``epoch`` and ``index``.

    Parameters
    ----------
    sample : ``x`` and/or ``wave`` float32, ``y`` float32 (6,), ``weight``, ``item_id``; not changed
    params : settings of the section ``augment``
    seed, epoch, index : whole numbers, 0 or more
    mirror, partner, n_items : see `Around`

    Returns
    -------
    dict
        With the same keys, shapes and dtypes.
    """

    def rngs(number: int) -> Rng:
        return np.random.default_rng([seed, epoch, index, number])

    around = Around(mirror, partner, n_items)
    changed: Sample = lookup("augment", params.kind).function(dict(sample), rngs, params, around)
    return changed


# --- helpers -------------------------------------------------------------------------------------


def _each(sample: Sample, change: Callable[[Array], Array]) -> Sample:
    """Return the sample with every signal changed."""
    return sample | {
        name: np.ascontiguousarray(change(sample[name]), dtype=np.float32)
        for name in SIGNALS
        if name in sample
    }


def _is_scalogram(x: Array) -> bool:
    return x.ndim == 3


def _within(changed: Array, x: Array) -> Array:
    """Keep a scalogram within the range that it had; a waveform has no bounds."""
    return np.clip(changed, x.min(), x.max()) if _is_scalogram(x) else changed


def _span(rng: Rng, share: float) -> tuple[float, float]:
    """Return a random part of 0 ... 1, at most ``share`` long."""
    length = rng.random() * share
    start = rng.random() * (1 - length)
    return start, start + length


# --- changes in time and frequency -----------------------------------------------------------------


@dataclass(frozen=True)
class TimeShift(Change):
    """At most how far, as a share of the window."""

    max_share: Band


@register("augmentation", "time_shift", TimeShift)
def time_shift(sample: Sample, rng: Rng, params: TimeShift, around: Around) -> Sample:
    """Turn the window in time: what leaves at one end comes in at the other."""
    share = rng.uniform(-params.max_share, params.max_share)
    return _each(sample, lambda x: np.roll(x, round(share * x.shape[-1]), axis=-1))


@dataclass(frozen=True)
class Masks(Change):
    """How many masks, and how long each is at most, as a share of the axis."""

    count: PositiveInt
    max_share: Band


@register("augmentation", "time_mask", Masks)
def time_mask(sample: Sample, rng: Rng, params: Masks, around: Around) -> Sample:
    """Set stretches of time to 0, the same in all outputs and signals."""
    spans = [_span(rng, params.max_share) for _ in range(params.count)]
    return _each(sample, lambda x: _masked(x, spans, axis=-1))


@register("augmentation", "frequency_mask", Masks)
def frequency_mask(sample: Sample, rng: Rng, params: Masks, around: Around) -> Sample:
    """Set bands of frequencies to 0 in all outputs of a scalogram; a waveform has none."""
    spans = [_span(rng, params.max_share) for _ in range(params.count)]
    return _each(sample, lambda x: _masked(x, spans, axis=-2) if _is_scalogram(x) else x)


def _masked(x: Array, spans: list[tuple[float, float]], *, axis: int) -> Array:
    masked = np.moveaxis(x.copy(), axis, 0)
    for start, stop in spans:
        masked[round(start * len(masked)) : round(stop * len(masked))] = 0
    return np.moveaxis(masked, 0, axis)


@register("augmentation", "time_reversal", Change)
def time_reversal(sample: Sample, rng: Rng, params: Change, around: Around) -> Sample:
    """Play the window backwards."""
    return _each(sample, lambda x: x[..., ::-1])


# --- changes of outputs and amplitude --------------------------------------------------------------


@register("augmentation", "left_right_swap", Change)
def left_right_swap(sample: Sample, rng: Rng, params: Change, around: Around) -> Sample:
    """Mirror the head: no class names a side.

    Raises
    ------
    ValueError
        If the montage has an output without a mirror image.
    """
    if (around.mirror < 0).any():
        raise ValueError(
            f"augment: left_right_swap needs a mirror image of every output, but outputs "
            f"{np.flatnonzero(around.mirror < 0).tolist()} of the montage have none; "
            "set its probability to 0 or choose a montage that has both sides"
        )
    return _each(sample, lambda x: x[around.mirror])


@register("augmentation", "chain_drop", Change)
def chain_drop(sample: Sample, rng: Rng, params: Change, around: Around) -> Sample:
    """Set one output to 0, as if its electrodes had come off."""
    draw = rng.random()

    def drop(x: Array) -> Array:
        dropped = x.copy()
        dropped[int(draw * len(x))] = 0
        return dropped

    return _each(sample, drop)


@dataclass(frozen=True)
class Scale(Change):
    """The largest factor; the smallest is its inverse."""

    max_factor: Annotated[float, Limits(at_least=1)]


@register("augmentation", "amplitude_scale", Scale)
def amplitude_scale(sample: Sample, rng: Rng, params: Scale, around: Around) -> Sample:
    """Multiply by one factor, log-uniform between 1 / ``max_factor`` and ``max_factor``."""
    factor = np.float32(params.max_factor ** rng.uniform(-1, 1))
    return _each(sample, lambda x: _within(x * factor, x))


@dataclass(frozen=True)
class Noise(Change):
    """Standard deviation at most, as a share of each signal's own."""

    max_share: PositiveFloat


@register("augmentation", "gaussian_noise", Noise)
def gaussian_noise(sample: Sample, rng: Rng, params: Noise, around: Around) -> Sample:
    """Add white noise of a random strength."""
    share = rng.random() * params.max_share
    return _each(
        sample,
        lambda x: _within(x + rng.standard_normal(x.shape, dtype=np.float32) * share * x.std(), x),
    )


# --- mixing ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixup(Change):
    """Both parameters of the Beta distribution that the share is drawn from."""

    alpha: PositiveFloat


@register("augmentation", "mixup", Mixup)
def mixup(sample: Sample, rng: Rng, params: Mixup, around: Around) -> Sample:
    """Mix with another item in the share lambda; the label is mixed by weight as well.

    ``w = lambda w1 + (1 - lambda) w2`` and ``y = (lambda w1 y1 + (1 - lambda) w2 y2) / w``:
    in a loss that is weighted by w this equals lambda times the first item's loss plus
    (1 - lambda) times the second's. ``item_id`` stays that of the first.
    """
    share = rng.beta(params.alpha, params.alpha)
    other = around.partner(int(rng.integers(around.n_items)))
    first, second = share * float(sample["weight"]), (1 - share) * float(other["weight"])
    weight = first + second
    mixed = {
        name: (share * sample[name] + (1 - share) * other[name]).astype(np.float32)
        for name in SIGNALS
        if name in sample
    }
    # Two items of weight 0 have no label to mix by weight; they count nothing in any loss.
    by_weight = first / weight if weight > 0 else share
    label = by_weight * sample["y"] + (1 - by_weight) * other["y"]
    return sample | mixed | {"y": label.astype(np.float32), "weight": np.float32(weight)}
