"""Whether a recording can be used at all, whatever the window: what a look and a run both ask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hms.errors import Unusable
from hms.signal.montage import Chains, all_derivations, electrodes, find_sources, what_lacks
from hms.signal.referential import rereference
from hms.sources.base import Recording, present

MINIMUM_FAILURES = 3
"""Recordings that may fail in a set of any size."""


def failures_allowed(share: float, n_recordings: int) -> int:
    """Return how many of some recordings may fail before a run stops."""
    return max(MINIMUM_FAILURES, math.floor(share * n_recordings + 1e-9))


def too_many(failed: int, n_recordings: int, share: float) -> str:
    """Return that a run would stop for so many failures, and what lets it go on; empty if it would not."""
    allowed = failures_allowed(share, n_recordings)
    if failed <= allowed:
        return ""
    return (
        f"a run would stop: {failed} of {n_recordings} recordings fail, more than the {allowed} that "
        f"max_failed_share={share:g} allows; max_failed_share=1 lets it continue without them"
    )


@dataclass(frozen=True)
class Demand:
    """What a montage asks of every recording.

    Attributes
    ----------
    chains : pairs, or electrodes, by chain
    missing : ``exclude`` where every pair is needed, ``dead`` where one of each chain is enough
    reference : what electrodes are referred to; None for pairs
    ears : channels that linked ears are made from
    """

    chains: Chains
    missing: str
    reference: str | None = None
    ears: tuple[str, ...] = ()

    def check(self, recording: Recording) -> None:
        """Raise `Unusable` if no window of a recording can be used.

        One sample of each needed channel is read, which finds a unit that is not a voltage.
        """
        pairs = all_derivations(self.chains)
        view = present(recording, tuple(dict.fromkeys((*electrodes(self.chains), *pairs, *self.ears))))
        needed, lacking = find_sources(view.names, pairs, view.references)
        if lacking and not self._do_without(lacking):
            named = getattr(recording, "named", None)
            unknown = () if named is None else named.unknown
            raise Unusable(what_lacks(lacking, pairs, view.names, view.references, unknown))
        keys = tuple(key for key, name in zip(view.keys, view.names, strict=True) if name in needed)
        start = (getattr(recording, "stretches", ()) or ((0, 0),))[0][0]
        recording.read(start, start + 1, keys)
        if not lacking:
            self._check_reference(view.names, view.references)

    def is_unmet(self, recording: Recording) -> bool:
        """Tell whether no window of a recording can be used."""
        try:
            self.check(recording)
        except Unusable:
            return True
        return False

    def _do_without(self, lacking: Sequence[str]) -> bool:
        """Tell whether every chain keeps a pair, where lacking ones count as dead."""
        return self.missing == "dead" and all(set(pairs) - set(lacking) for _, pairs in self.chains)

    def _check_reference(self, names: tuple[str, ...], references: tuple[str, ...]) -> None:
        """Raise if electrodes cannot be referred to what is asked for, by samples that are all 0."""
        if self.reference is None:
            return
        silence, alive = np.zeros((len(names), 1), np.float32), np.zeros(len(names), np.bool_)
        wanted = all_derivations(self.chains)
        try:
            rereference(silence, names, alive, wanted, references, reference=self.reference, ears=self.ears)
        except ValueError as error:
            raise Unusable(str(error), failure=False) from None
