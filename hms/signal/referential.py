"""Referential montages: electrodes as channels, against an average, the linked ears, or as recorded.

Where models take electrodes and not derivations, the reference is part of the input: an average moves the
activity of one electrode into all others, a linked-ear reference brings that of the temporal lobes.

References
----------
Nunez & Srinivasan, Electric Fields of the Brain, 2nd ed. (2006), chapter 7. Acharya &
Acharya, Overview of EEG Montages and Principles of Localization, J Clin Neurophysiol 36 (2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hms.registry import register
from hms.signal.montage import Montage, check_names

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Reference = Literal["average", "linked_ears", "as_recorded"]

LINKED = ("A1A2", "M1M2", "LE", "LER", "CLE")
"""References, as `hms.sources.channels` spells them, that are linked ears or mastoids already."""


@dataclass(frozen=True)
class Referential(Montage):
    """Groups of electrodes, each electrode a channel, and what they are referred to.

    Attributes
    ----------
    chains : groups of electrodes in output order
    reference : what is subtracted: the mean of the montage's live electrodes, the mean of both ears, or
        nothing
    ears : the two channels for linked ears, such as M1 and M2
    """

    reference: Reference
    ears: tuple[str, str]

    def _check_chains(self) -> None:
        check_names(self.chains, "electrode", "Fp1", parts=1)

    @property
    def optional(self) -> tuple[str, ...]:
        """The ears, if electrodes are referred to them."""
        return self.ears if self.reference == "linked_ears" else ()


@register("montage", "referential", Referential)
def rereference(
    eeg: Array,
    channels: Sequence[str],
    dead: Mask,
    electrodes: Sequence[str],
    references: Sequence[str],
    *,
    reference: str,
    ears: tuple[str, ...],
) -> Array:
    """Return electrodes against another reference.

    Raises `ValueError` if the electrodes have several references, so that their differences mean nothing,
    unless these are both ears and the voltage between the ears is known; if fewer than two electrodes are
    alive for an average; or if an ear is missing or dead.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
        A NaN in a live electrode is a NaN in all where it is part of the reference.
    channels : names of the rows of ``eeg``
    dead : bool, shape (n_channels,)
        Dead channels take no part in an average; their own rows are not zero after it.
    electrodes : names of the rows wanted
    references : what each channel was recorded against; empty where all have the same
    reference : ``average``, ``linked_ears`` or ``as_recorded``
    ears : channels that the linked ears are made from

    Returns
    -------
    float32, shape (n_electrodes, n_samples), µV
    """
    names = list(channels)
    rows = [names.index(name) for name in electrodes]
    if reference == "as_recorded":
        return np.asarray(eeg[rows])
    against = dict(zip(channels, references or [""] * len(names), strict=True))
    common = {against[name] for name in electrodes if not dead[names.index(name)]}
    if reference == "linked_ears" and len(common) == 2 and common == set(ears):
        between = _between(eeg, names, dead, against, ears)
        return np.asarray(eeg[rows] - _signs(electrodes, against, ears) * between / np.float32(2))
    if len(common) > 1:
        shown = ", ".join(f"{name} against {against[name] or 'one not stated'}" for name in electrodes)
        raise ValueError(
            f"montage.reference={reference} needs one common reference, but the file has {shown}; "
            "montage.reference=as_recorded keeps each as it is"
        )
    if reference == "linked_ears" and common <= set(LINKED):
        return np.asarray(eeg[rows])
    if reference == "linked_ears":
        zero = _linked(eeg, names, dead, against, common, ears)
    else:
        zero = _average(eeg, [row for row in rows if not dead[row]])
    return np.asarray(eeg[rows] - zero)


def _between(
    eeg: Array, names: list[str], dead: Mask, against: dict[str, str], ears: tuple[str, ...]
) -> Array:
    """Return the first ear against the second, which one of the two has to be recorded against."""
    first, second = ears
    for ear, other, sign in ((first, second, 1), (second, first, -1)):
        if ear in names and against[ear] == other and not dead[names.index(ear)]:
            return np.asarray(np.float32(sign) * eeg[names.index(ear)])
    raise ValueError(
        f"montage.reference=linked_ears: electrodes are recorded against {first} and against {second}, and "
        f"without a channel {first}-{second} the voltage between the ears is unknown; "
        "montage.reference=as_recorded keeps each against its own ear"
    )


def _signs(electrodes: Sequence[str], against: dict[str, str], ears: tuple[str, ...]) -> Array:
    """Return 1 for an electrode against the second ear, whose half lies between it and both; else -1."""
    return np.array([[1 if against[name] == ears[1] else -1] for name in electrodes], np.float32)


def _average(eeg: Array, live: Sequence[int]) -> Array:
    if len(live) < 2:
        raise ValueError(f"an average reference needs at least two live electrodes; there are {len(live)}")
    return np.asarray(eeg[live].mean(axis=0, dtype=np.float64), dtype=np.float32)


def _linked(
    eeg: Array, names: list[str], dead: Mask, against: dict[str, str], common: set[str], ears: tuple[str, ...]
) -> Array:
    """Return half the sum of both ears; an ear that all were recorded against is zero."""
    no_name = "one not stated"
    total = np.zeros(eeg.shape[1], np.float32)
    for ear in ears:
        if common == {ear}:
            continue
        if ear not in names:
            raise ValueError(
                f"montage.reference=linked_ears needs the channel {ear}, and the recording has none of "
                "that name (montage.ears names both ears, such as [M1, M2])"
            )
        if {against[ear]} != common:
            raise ValueError(
                f"montage.reference=linked_ears: {ear} was recorded against {against[ear] or no_name}, "
                f"the electrodes against {next(iter(common), '') or no_name}"
            )
        if dead[names.index(ear)]:
            raise ValueError(f"montage.reference=linked_ears: {ear} has no usable sample")
        total += eeg[names.index(ear)]
    return total / np.float32(2)
