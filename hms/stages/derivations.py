"""Derivations: differences of electrodes, grouped in chains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hms.config.schema import Config
from hms.errors import Unusable
from hms.pipeline.stage import ItemStage, register_stage, setting
from hms.signal.arrays import Cleaned, Derived
from hms.signal.montage import alive_derivations, derive
from hms.stages.signal import Signal


@register_stage
@dataclass(frozen=True)
class Derivations(ItemStage):
    """The montage's anode-cathode pairs, in the order of its chains."""

    name = "derivations"
    version = 1

    signal: Signal
    chains: tuple[tuple[str, tuple[str, ...]], ...] = setting("montage.chains")

    @classmethod
    def from_config(cls, cfg: Config, *, wavelet: bool = False) -> Self:
        """Build on a signal with the filter's context, or also the wavelet's."""
        return cls(Signal.from_config(cfg, wavelet=wavelet), cfg.at("montage.chains"))

    def compute(self, cleaned: Cleaned) -> Derived:
        """Return the derivations; a chain without a live pair makes the item unusable."""
        names = tuple(name for _, pairs in self.chains for name in pairs)
        alive = alive_derivations(cleaned.dead, cleaned.channels, names, cleaned.references)
        self._refuse_empty_chain(alive, cleaned)
        values = derive(cleaned.eeg, cleaned.channels, names, cleaned.references)
        return Derived(values, alive, cleaned.n_context, cleaned.sfreq)

    def _refuse_empty_chain(self, alive: NDArray[np.bool_], cleaned: Cleaned) -> None:
        first = 0
        for chain, pairs in self.chains:
            if not alive[first : first + len(pairs)].any():
                dead = ", ".join(
                    n for n, is_dead in zip(cleaned.channels, cleaned.dead, strict=True) if is_dead
                )
                raise Unusable(f"chain {chain} has no pair of live channels; dead: {dead}", failure=False)
            first += len(pairs)
