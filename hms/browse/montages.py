"""Montages to view a recording in, whatever montage it was prepared with.

References
----------
Acharya et al., American Clinical Neurophysiology Society Guideline 3: A Proposal for Standard
Montages to Be Used in Clinical EEG, J Clin Neurophysiol 33 (2016): longitudinal bipolar and
referential montages of 16 to 19 channels, left before right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hms.competition import EEG_CHANNELS, EKG_CHANNEL
from hms.config.schema import Config
from hms.signal.montage import Chains, alive_derivations, all_derivations, derive, find_sources
from hms.signal.referential import Referential, rereference

Array = NDArray[np.float32]

_LL = ("Fp1-F7", "F7-T3", "T3-T5", "T5-O1")
_LP = ("Fp1-F3", "F3-C3", "C3-P3", "P3-O1")
_RL = ("Fp2-F8", "F8-T4", "T4-T6", "T6-O2")
_RP = ("Fp2-F4", "F4-C4", "C4-P4", "P4-O2")
_Z = ("Fz-Cz", "Cz-Pz")
_LEFT = ("Fp1", "F7", "T3", "T5", "F3", "C3", "P3", "O1")
_RIGHT = ("Fp2", "F8", "T4", "T6", "F4", "C4", "P4", "O2")
_ELECTRODES: Chains = (("left", _LEFT), ("midline", ("Fz", "Cz", "Pz")), ("right", _RIGHT))

EARS = (("A1", "A2"), ("M1", "M2"))
"""Pairs of ears or mastoids that a linked reference is made from, the first that a recording has."""


@dataclass(frozen=True)
class View:
    """A montage to view a recording in.

    Attributes
    ----------
    title : as the page names it
    chains : rows by chain, top to bottom
    reference : average, linked_ears or as_recorded; None for derivations
    ears : channels of a linked reference; empty: the first of `EARS` that there are
    """

    title: str
    chains: Chains
    reference: str | None = None
    ears: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows, top to bottom."""
        return all_derivations(self.chains)

    def apply(
        self, eeg: Array, channels: Sequence[str], dead: NDArray[np.bool_], references: Sequence[str]
    ) -> tuple[tuple[str, ...], Array, NDArray[np.bool_]]:
        """Return names, values and which are dead of those rows that can be formed, the EKG last.

        Raises `ValueError` if none can be formed, or the reference cannot be had.
        """
        names, values, is_dead = self._formed(eeg, channels, dead, references)
        if EKG_CHANNEL in channels:
            row = list(channels).index(EKG_CHANNEL)
            values = np.concatenate([values, eeg[row : row + 1]])
            return (*names, EKG_CHANNEL), values, np.append(is_dead, dead[row])
        return names, values, is_dead

    def _formed(
        self, eeg: Array, channels: Sequence[str], dead: NDArray[np.bool_], references: Sequence[str]
    ) -> tuple[tuple[str, ...], Array, NDArray[np.bool_]]:
        if self.reference is None:
            _, lacking = find_sources(tuple(channels), self.rows, tuple(references))
            names = tuple(name for name in self.rows if name not in lacking)
            self._refuse_none(names, channels)
            values = derive(eeg, channels, names, references)
            return names, values, ~alive_derivations(dead, channels, names, references)
        names = tuple(name for name in self.rows if name in channels)
        self._refuse_none(names, channels)
        ears = self.ears or next((pair for pair in EARS if set(pair) <= set(channels)), EARS[0])
        values = rereference(
            eeg, channels, dead, names, references, reference=self.reference, ears=tuple(ears)
        )
        return names, values, np.array([dead[list(channels).index(name)] for name in names])

    def _refuse_none(self, names: Sequence[str], channels: Sequence[str]) -> None:
        if not names:
            raise ValueError(
                f"the recording has none of the channels of this montage; it has {', '.join(channels)}"
            )


def views_of(cfg: Config) -> Mapping[str, View]:
    """Return the montages to view recordings in: the run's own, and those that readers of EEG use."""
    montage = cfg.montage
    own = (
        View("The run's electrodes", montage.chains, montage.reference, montage.ears)
        if isinstance(montage, Referential)
        else View("The run's pairs", cfg.at("montage.chains"))
    )
    left_first: Chains = (("LL", _LL), ("LP", _LP))
    right: Chains = (("RP", _RP), ("RL", _RL))
    return {
        "banana": View("Double banana, 18 pairs", (*left_first, ("Z", _Z), *right)),
        "prepared": own,
        "pairs16": View("Left over right, 16 pairs", (("LL", _LL), ("RL", _RL), ("LP", _LP), ("RP", _RP))),
        "average": View("Average reference", _ELECTRODES, "average"),
        "ears": View("Linked ears", _ELECTRODES, "linked_ears"),
        "recorded": View("Electrodes as recorded", _ELECTRODES, "as_recorded"),
    }


def side_of(name: str) -> str:
    """Return left, right, midline or other: odd electrodes are left, even ones right."""
    if name == EKG_CHANNEL:
        return "ekg"
    parts = [part for part in name.split("-") if part in EEG_CHANNELS]
    sides = {"midline" if part.endswith("z") else "left" if int(part[-1]) % 2 else "right" for part in parts}
    return sides.pop() if len(sides) == 1 else "other"
