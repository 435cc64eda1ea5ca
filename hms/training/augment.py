"""Augmentation of training samples: every change is a registered function on NumPy arrays.

What happens to a sample is a pure function of (seed, epoch, index): any number of
workers, in any order, give the same sample. Every change keeps shapes, keeps scalograms
within the range they had, and keeps the label's sum at 1.

All signals of a sample are of one recording, so what turns one turns the others: mirroring,
reversal, gain and mixing are the same for all. A shift or a mask of the ten seconds means
nothing in ten minutes: there, the competition's spectrogram has draws of its own.

A change is a function ``(sample, rng, params, around) -> sample`` registered in the group
``augmentation``; an option of the config group ``augment`` lists changes by name in the
order in which they are made. A change of your own is registered in the same way.

References
----------
Park DS et al., "SpecAugment" (2019): time and frequency masks.
Zhang H et al., "mixup: Beyond Empirical Risk Minimization" (2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHAINS, SFREQ_HZ
from hms.registry import Group, Limits, Params, PositiveFloat, PositiveInt, Share, lookup, register
from hms.training.draw import shifted

Sample = dict[str, Any]
Rng = np.random.Generator
Array = NDArray[np.float32]
Band = Annotated[float, Limits(above=0, at_most=1)]

SIGNALS = ("x", "wave", "spec_lr")
"""Entries of a sample that hold signals; the last axis is time, the first is outputs."""

MIRRORED_CHAINS = tuple(CHAINS.index({"L": "R", "R": "L"}[name[0]] + name[1:]) for name in CHAINS)
"""Rows of ``spec_lr`` after the head is mirrored: it has the competition's chains in any montage."""


@dataclass(frozen=True)
class Around:
    """What a change may look at besides the sample itself.

    Attributes
    ----------
    mirror : int64, shape (n_outputs,); see `hms.training.mirror.mirrored_outputs`
    partner : returns another item of the data set, not augmented
    n_items : how many items there are
    n_context : samples on either side of the window in ``x``, where that holds derivations
    freqs_hz : frequencies of the rows of a scalogram or spectrogram, by its name in the sample
    """

    mirror: NDArray[np.int64]
    partner: Callable[[int], Sample]
    n_items: int
    n_context: int = 0
    freqs_hz: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Change(Params):
    """Settings of every change: how many samples get it.

    Attributes
    ----------
    probability : probability that a sample gets the change
    """

    probability: Share


@dataclass(frozen=True)
class Augmentation(Params):
    """Changes by name, in the order in which they are made.

    Attributes
    ----------
    changes : changes by name, in the order in which they are applied
    """

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
    sample: Sample, params: Params, *, seed: int, epoch: int, index: int, around: Around
) -> Sample:
    """Return an augmented copy of a sample, determined by ``seed``, ``epoch`` and ``index``.

    Parameters
    ----------
    sample : signals float32, ``y`` float32 (n_classes,), ``weight``, ``item_id``; not changed
    params : settings of the section ``augment``
    seed, epoch, index : whole numbers, 0 or more
    around : what changes may look at

    Returns
    -------
    dict
        With the same keys, shapes and dtypes.
    """

    def rngs(number: int) -> Rng:
        return np.random.default_rng([seed, epoch, index, number])

    changed: Sample = lookup("augment", params.kind).function(dict(sample), rngs, params, around)
    return changed


# --- helpers -------------------------------------------------------------------------------------


def _each(sample: Sample, change: Callable[[Array], Array], **own: Callable[[Array], Array]) -> Sample:
    """Return the sample with every signal changed; those named in ``own`` in their own way."""
    return sample | {
        name: np.ascontiguousarray(own.get(name, change)(sample[name]), dtype=np.float32)
        for name in SIGNALS
        if name in sample
    }


def _is_scalogram(x: Array) -> bool:
    return x.ndim == 3


def _has_context(x: Array, around: Around) -> bool:
    """Whether a signal is derivations with their context, and not the window alone."""
    return around.n_context > 0 and not _is_scalogram(x)


def _with_rows(sample: Sample, alive: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]) -> Sample:
    """Return the sample with ``alive`` changed as the rows of its derivations were."""
    return sample | {"alive": alive(sample["alive"])} if "alive" in sample else sample


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
    """How far the window may be shifted.

    Attributes
    ----------
    max_share : largest shift, as a share of the window
    """

    max_share: Band


@register("augmentation", "time_shift", TimeShift)
def time_shift(sample: Sample, rng: Rng, params: TimeShift, around: Around) -> Sample:
    """Turn the window in time: what leaves at one end comes in at the other.

    Derivations are moved along the recording instead, as far as their context goes.
    """
    share = rng.uniform(-params.max_share, params.max_share)
    slow = rng.uniform(-params.max_share, params.max_share)

    def shift(x: Array) -> Array:
        if _has_context(x, around):
            return shifted(x, -round(share * (x.shape[-1] - 2 * around.n_context)))
        return np.roll(x, round(share * x.shape[-1]), axis=-1)

    return _each(sample, shift, spec_lr=lambda x: np.roll(x, round(slow * x.shape[-1]), axis=-1))


@dataclass(frozen=True)
class Masks(Change):
    """How many masks there are, and how long each may be.

    Attributes
    ----------
    count : number of masks per sample
    max_share : longest mask, as a share of the axis
    """

    count: PositiveInt
    max_share: Band


@register("augmentation", "time_mask", Masks)
def time_mask(sample: Sample, rng: Rng, params: Masks, around: Around) -> Sample:
    """Set stretches of time to 0, the same in all outputs and signals."""
    spans, slow = ([_span(rng, params.max_share) for _ in range(params.count)] for _ in range(2))

    def mask(x: Array) -> Array:
        if not _has_context(x, around):
            return _masked(x, spans, axis=-1)
        inside = slice(around.n_context, x.shape[-1] - around.n_context)
        masked = x.copy()
        masked[:, inside] = _masked(x[:, inside], spans, axis=-1)
        return masked

    return _each(sample, mask, spec_lr=lambda x: _masked(x, slow, axis=-1))


@register("augmentation", "frequency_mask", Masks)
def frequency_mask(sample: Sample, rng: Rng, params: Masks, around: Around) -> Sample:
    """Set bands of frequencies to 0 in all outputs of a scalogram; a waveform has none."""
    spans, slow = ([_span(rng, params.max_share) for _ in range(params.count)] for _ in range(2))
    return _each(
        sample,
        lambda x: _masked(x, spans, axis=-2) if _is_scalogram(x) else x,
        spec_lr=lambda x: _masked(x, slow, axis=-2),
    )


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

    Raises `ValueError` if the montage has an output without a mirror image.
    """
    if (around.mirror < 0).any():
        raise ValueError(
            "augment: left_right_swap needs a mirror image of every output, but outputs "
            f"{np.flatnonzero(around.mirror < 0).tolist()} of the montage have none; set its probability to "
            "0 or choose a montage with both sides"
        )
    mirrored = _each(sample, lambda x: x[around.mirror], spec_lr=lambda x: x[list(MIRRORED_CHAINS)])
    return _with_rows(mirrored, lambda alive: alive[around.mirror])


@register("augmentation", "chain_drop", Change)
def chain_drop(sample: Sample, rng: Rng, params: Change, around: Around) -> Sample:
    """Set one output to 0, as if its electrodes had come off; a derivation is dead then."""
    draw = rng.random()

    def drop(x: NDArray[Any]) -> NDArray[Any]:
        dropped = x.copy()
        dropped[int(draw * len(x))] = 0
        return dropped

    return _with_rows(_each(sample, drop), drop)


@dataclass(frozen=True)
class Scale(Change):
    """How far amplitudes may change.

    Attributes
    ----------
    max_factor : largest factor; the smallest is its inverse
    """

    max_factor: Annotated[float, Limits(at_least=1)]


@register("augmentation", "amplitude_scale", Scale)
def amplitude_scale(sample: Sample, rng: Rng, params: Scale, around: Around) -> Sample:
    """Multiply by one factor, log-uniform between 1 / ``max_factor`` and ``max_factor``."""
    factor = np.float32(params.max_factor ** rng.uniform(-1, 1))
    return _each(sample, lambda x: _within(x * factor, x))


@dataclass(frozen=True)
class Noise(Change):
    """How strong the noise may be.

    Attributes
    ----------
    max_share : largest standard deviation, as a share of each signal's own
    """

    max_share: PositiveFloat


@register("augmentation", "gaussian_noise", Noise)
def gaussian_noise(sample: Sample, rng: Rng, params: Noise, around: Around) -> Sample:
    """Add white noise of a random strength."""
    share = rng.random() * params.max_share
    return _each(
        sample, lambda x: _within(x + rng.standard_normal(x.shape, dtype=np.float32) * share * x.std(), x)
    )


@dataclass(frozen=True)
class BandStop(Change):
    """Where the band may lie, and how wide it may be.

    Attributes
    ----------
    min_hz : lowest edge of the removed band
    max_hz : highest edge of the removed band
    max_ratio : largest ratio of the upper to the lower edge
    """

    min_hz: PositiveFloat
    max_hz: PositiveFloat
    max_ratio: Annotated[float, Limits(above=1)]

    def __post_init__(self) -> None:
        if self.min_hz >= self.max_hz:
            raise ValueError(f"min_hz must be below max_hz; got {self.min_hz:g} and {self.max_hz:g}")


@register("augmentation", "band_stop", BandStop)
def band_stop(sample: Sample, rng: Rng, params: BandStop, around: Around) -> Sample:
    """Take a band of frequencies out of every signal, in µV and in pictures alike.

    A scalogram's rows with their frequency in the band become 0; those of a signal in µV are taken
    out by Fourier transform.
    """
    low_hz = params.min_hz * (params.max_hz / params.min_hz) ** rng.random()
    high_hz = low_hz * params.max_ratio ** rng.random()

    def stop(name: str) -> Callable[[Array], Array]:
        return lambda x: (
            _without_rows(x, around.freqs_hz.get(name), low_hz, high_hz)
            if _is_scalogram(x)
            else _without_band(x, low_hz, high_hz)
        )

    return _each(sample, stop("x"), spec_lr=stop("spec_lr"))


def _without_rows(x: Array, freqs_hz: NDArray[np.float32] | None, low_hz: float, high_hz: float) -> Array:
    if freqs_hz is None:
        return x
    inside = (freqs_hz >= low_hz) & (freqs_hz <= high_hz)
    return np.where(inside[:, np.newaxis], np.float32(0), x)


def _without_band(x: Array, low_hz: float, high_hz: float) -> Array:
    bins = np.fft.rfft(x, axis=-1)
    freqs_hz = np.fft.rfftfreq(x.shape[-1], 1 / SFREQ_HZ)
    bins[..., (freqs_hz >= low_hz) & (freqs_hz <= high_hz)] = 0
    return np.fft.irfft(bins, n=x.shape[-1], axis=-1).astype(np.float32)


# --- mixing ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixup(Change):
    """How the mixing share is drawn.

    Attributes
    ----------
    alpha : both parameters of the Beta distribution of the mixing share
    """

    alpha: PositiveFloat


@register("augmentation", "mixup", Mixup)
def mixup(sample: Sample, rng: Rng, params: Mixup, around: Around) -> Sample:
    """Mix with another item in the share lambda; the label is mixed by weight as well.

    ``w = lambda w1 + (1 - lambda) w2`` and ``y = (lambda w1 y1 + (1 - lambda) w2 y2) / w``:
    in a loss that is weighted by w this equals lambda times the first item's loss plus
    (1 - lambda) times the second's. ``item_id`` stays that of the first. Derivations are mixed in
    µV: a derivation is alive in the sum where it is in either.
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
    together = sample | mixed | {"y": label.astype(np.float32), "weight": np.float32(weight)}
    return _with_rows(together, lambda alive: alive | other["alive"])
