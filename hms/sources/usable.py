"""Whether a recording can be used at all, whatever the window: what a look and a run both ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hms.errors import Unusable
from hms.signal.montage import Chains, all_derivations, electrodes, find_sources, why_lacking
from hms.signal.referential import rereference
from hms.sources.base import Recording, present

__all__ = ["Demand"]


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

    def why_unmet(self, recording: Recording) -> str:
        """Return why no window of a recording can be used, empty if one may be.

        A sample of what is needed is read: a channel whose unit is none says so then.

        Raises
        ------
        Unusable
            With the reason, if the recording or a channel that is needed cannot be read.
        """
        pairs = all_derivations(self.chains)
        view = present(recording, tuple(dict.fromkeys((*electrodes(self.chains), *pairs, *self.ears))))
        needed, lacking = find_sources(view.names, pairs, view.references)
        if lacking and not self._do_without(lacking):
            why = why_lacking(lacking, view.names, view.references)
            shown = "all pairs" if len(lacking) == len(pairs) else ", ".join(lacking)
            return f"it lacks what the montage needs for {shown}" + (f": {why}" if why else "")
        keys = tuple(key for key, name in zip(view.keys, view.names, strict=True) if name in needed)
        start = (getattr(recording, "stretches", ()) or ((0, 0),))[0][0]
        recording.read(start, start + 1, keys)
        return "" if lacking else self._why_no_reference(view.names, view.references)

    def is_unmet(self, recording: Recording) -> bool:
        """Tell whether no window of a recording can be used."""
        try:
            return bool(self.why_unmet(recording))
        except Unusable:
            return True

    def _do_without(self, lacking: Sequence[str]) -> bool:
        """Tell whether every chain keeps a pair, where lacking ones count as dead."""
        return self.missing == "dead" and all(set(pairs) - set(lacking) for _, pairs in self.chains)

    def _why_no_reference(self, names: tuple[str, ...], references: tuple[str, ...]) -> str:
        """Return why electrodes cannot be referred to what is asked for, by samples that are all 0."""
        if self.reference is None:
            return ""
        silence, alive = np.zeros((len(names), 1), np.float32), np.zeros(len(names), np.bool_)
        wanted = all_derivations(self.chains)
        try:
            rereference(silence, names, alive, wanted, references, reference=self.reference, ears=self.ears)
        except ValueError as error:
            return str(error)
        return ""
