"""Grading: limits on measures raise flags, and flags make one of four grades.

What is asked of a flag that lowers the grade: that it tells of x, the filtered, clipped derivations
in the band of the scalogram, and not of the brain. So offset, drift and mains that the filter
takes out are harmless, and amplitude, steps and clipping, which are what a seizure is, alone
make nothing worse than usable.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS
from hms.quality.blocks import Mask
from hms.quality.electrodes import N_EEG
from hms.registry import (
    Limits,
    NonNegativeFloat,
    Params,
    PositiveFloat,
    PositiveInt,
    Share,
    did_you_mean,
    settings_of,
)

Measured = Mapping[str, NDArray[Any]]

Correlation = Annotated[float, Limits(at_least=-1, at_most=1)]
Decibels = Annotated[float, Limits(at_least=-200, at_most=200)]
Count = Annotated[int, Limits(at_least=0)]

GRADES = ("good", "usable", "poor", "unusable")
"""From best to worst."""


@dataclass(frozen=True)
class Raised:
    """The measure that a limit bounds, and how it must compare to raise the flag."""

    measure: str
    by: Callable[[Any, Any], Any] = operator.gt
    ekg: bool = False
    """Whether the EKG can raise it too."""


@dataclass(frozen=True)
class ChannelLimits:
    """Limits of an electrode, named as the flags they raise; None raises none.

    The measures are those of `hms.quality.channels.derive_channels`, and of them combined:
    ``line_db``, the larger of 50 and 60 Hz, ``muscle_share``, muscle_uv over own_uv, and `likeness`
    and `loudness_db` of `hms.quality.ledger`.
    """

    gaps: Annotated[Share | None, Raised("gap_share")]
    gappy: Annotated[Share | None, Raised("window_gap_share")]
    dead: Annotated[PositiveFloat | None, Raised("ptp_uv", operator.lt)]
    flat: Annotated[Share | None, Raised("window_flat_share")]
    clipped: Annotated[PositiveInt | None, Raised("extreme_samples", operator.ge)]
    offset: Annotated[PositiveFloat | None, Raised("abs_offset_uv", ekg=True)]
    large: Annotated[PositiveFloat | None, Raised("peak_uv")]
    jump: Annotated[PositiveFloat | None, Raised("jump_uv")]
    drift: Annotated[PositiveFloat | None, Raised("drift_uv")]
    line: Annotated[Decibels | None, Raised("line_db")]
    muscle: Annotated[PositiveFloat | None, Raised("muscle_uv")]
    muscle_only: Annotated[PositiveFloat | None, Raised("muscle_share")]
    isolated: Annotated[Correlation | None, Raised("likeness", operator.lt)]
    reversed: Annotated[Correlation | None, Raised("polarity", operator.lt)]
    twin: Annotated[Correlation | None, Raised("twin_corr")]
    loud: Annotated[Decibels | None, Raised("loudness_db")]
    faint: Annotated[Decibels | None, Raised("gain_db", operator.lt)]
    ekg: Annotated[Correlation | None, Raised("ekg_corr")]


@dataclass(frozen=True)
class ItemLimits:
    """Limits of an item, named as the flags they raise; None or False raises none.

    The measures are those of `hms.quality.inputs` and `hms.quality.outputs`, and of them combined:
    ``n_electrodes``, the electrodes that were looked at; ``chain_corr`` and ``x_share_01``, of both
    sides and ends.
    """

    unmeasured: Annotated[bool, Raised("n_electrodes", operator.lt)]
    lost: Annotated[Share | None, Raised("lost_share")]
    mostly_lost: Annotated[Share | None, Raised("lost_share")]
    edge: Annotated[Share | None, Raised("edge_share")]
    lopsided: Annotated[PositiveFloat | None, Raised("abs_left_right_db")]
    dead_pair: Annotated[Count | None, Raised("dead_derivations")]
    weak_pair: Annotated[NonNegativeFloat | None, Raised("derivation_ptp_min_uv", operator.lt)]
    strong_pair: Annotated[PositiveFloat | None, Raised("derivation_ptp_max_uv")]
    movement: Annotated[PositiveFloat | None, Raised("burst_uv")]
    hum: Annotated[Share | None, Raised("hum_share")]
    hum_only: Annotated[Share | None, Raised("hum_mean_share")]
    limited: Annotated[Share | None, Raised("clipped_share")]
    equal_chains: Annotated[Correlation | None, Raised("chain_corr")]
    saturated: Annotated[Share | None, Raised("x_share_01")]
    constant: Annotated[bool, Raised("x_is_constant", operator.ge)]
    not_finite: Annotated[bool, Raised("x_is_not_finite", operator.ge)]


CHANNEL_FLAGS = tuple(f.name for f in fields(ChannelLimits))
ITEM_FLAGS = tuple(f.name for f in fields(ItemLimits))
FLAGS = (*CHANNEL_FLAGS, *ITEM_FLAGS)


@dataclass(frozen=True)
class Grading:
    """How flags become a grade.

    ``harmless`` flags cost no grade, nor do flags of electrodes that the montage does not use. A channel with
    a flag of ``bad_channel`` is bad; with more than ``usable_bad_channels`` of the montage's electrodes bad
    an item is poor, with more than ``poor_bad_channels`` unusable. The flags of ``poor`` and ``unusable``
    themselves set at least that grade. Any other flag makes an item usable, none good.
    """

    harmless: tuple[str, ...]
    bad_channel: tuple[str, ...]
    usable_bad_channels: Count
    poor_bad_channels: Count
    poor: tuple[str, ...]
    unusable: tuple[str, ...]

    @property
    def costly(self) -> tuple[str, ...]:
        """The flags that cost a grade, in the order of `FLAGS`."""
        return tuple(name for name in FLAGS if name not in self.harmless)

    def __post_init__(self) -> None:
        for name, allowed in (
            ("harmless", FLAGS),
            ("bad_channel", CHANNEL_FLAGS),
            ("poor", FLAGS),
            ("unusable", FLAGS),
        ):
            for flag in getattr(self, name):
                if flag not in allowed:
                    raise ValueError(
                        f"{name}: '{flag}' is not a flag here{did_you_mean(flag, allowed)}; "
                        f"there are {', '.join(allowed)}"
                    )
        if self.poor_bad_channels < self.usable_bad_channels:
            raise ValueError(
                f"poor_bad_channels must be at least usable_bad_channels ({self.usable_bad_channels}); "
                f"got {self.poor_bad_channels}"
            )


@settings_of("qc")
@dataclass(frozen=True)
class QualityControl(Params):
    """Limits, grading, what is left out, and what counts as the same window."""

    channel: ChannelLimits
    item: ItemLimits
    grading: Grading
    exclude_from: Literal["usable", "poor", "unusable"] | None
    duplicate_corr: Annotated[float, Limits(at_least=0.9, at_most=1)]
    leak: Literal["report", "error"]


def raised(known: Measured, limits: ChannelLimits | ItemLimits, shape: tuple[int, ...]) -> dict[str, Mask]:
    """Return where each flag is raised.

    Parameters
    ----------
    known : measures of items, and what is combined of them
    limits : of electrodes or of items
    shape : (n_items, 20) or (n_items,)
    """
    found = {}
    for name, rule in _rules(limits).items():
        limit, mask = getattr(limits, name), np.zeros(shape, bool)
        if limit is not None and limit is not False:
            mask = rule.by(np.asarray(known[rule.measure], np.float64), limit)
        if mask.ndim == 2 and not rule.ekg:
            mask[:, N_EEG:] = False
        found[name] = mask
    return found


def measures_of_flags(limits: ChannelLimits | ItemLimits) -> dict[str, str]:
    """Return the measure that each flag bounds."""
    return {name: rule.measure for name, rule in _rules(limits).items()}


@cache
def _rules(limits: ChannelLimits | ItemLimits) -> dict[str, Raised]:
    hints = get_type_hints(type(limits), include_extras=True)
    return {name: next(m for m in hint.__metadata__ if isinstance(m, Raised)) for name, hint in hints.items()}


def grade(
    channel_flags: Mapping[str, Mask], item_flags: Mapping[str, Mask], grading: Grading, needed: Mask
) -> NDArray[np.int64]:
    """Return the grade of each measured item as a number of `GRADES`.

    Parameters
    ----------
    channel_flags, item_flags : bool, shapes (n_items, 20) and (n_items,) by flag
    needed : bool, shape (20,); the electrodes that the montage uses, which alone count
    """
    n_items = len(next(iter(item_flags.values())))
    flags = {name: np.asarray(mask[:, needed].any(axis=1)) for name, mask in channel_flags.items()}
    flags |= item_flags
    bad = _any((channel_flags[name] for name in grading.bad_channel), (n_items, len(CHANNELS)))
    n_bad = (bad & needed).sum(axis=1)

    is_flagged, is_poor, is_lost = (
        _any((flags[name] for name in names), (n_items,))
        for names in (grading.costly, grading.poor, grading.unusable)
    )
    is_poor |= n_bad > grading.usable_bad_channels
    is_lost |= n_bad > grading.poor_bad_channels
    return np.asarray(np.select([is_lost, is_poor, is_flagged], [3, 2, 1], 0), np.int64)


def _any(masks: Iterable[Mask], shape: tuple[int, ...]) -> Mask:
    found = np.zeros(shape, bool)
    for mask in masks:
        found |= mask
    return found
