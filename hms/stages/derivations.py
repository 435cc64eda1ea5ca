"""Derivations: differences of electrodes, or electrodes against a reference, grouped in chains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.config.schema import Config
from hms.errors import Unusable
from hms.pipeline.stage import ItemStage, register_stage, setting
from hms.registry import added
from hms.signal.arrays import Cleaned, Derived
from hms.signal.montage import alive_derivations, all_derivations, derive
from hms.signal.referential import Referential, rereference
from hms.stages.signal import Signal

MOST_WEIGHTS = 64
"""Most sets of weights in memory, one for each combination of channels and dead channels."""


@register_stage
@dataclass(frozen=True)
class Derivations(ItemStage):
    """The montage's anode-cathode pairs, or its electrodes, in the order of its chains."""

    name = "derivations"
    version = 1

    signal: Signal
    chains: tuple[tuple[str, tuple[str, ...]], ...] = setting("montage.chains")
    kind: str = added(before="bipolar", path="montage.kind")
    reference: str | None = added(before=None, path="montage.reference")
    ears: tuple[str, ...] = added(before=(), path="montage.ears")

    @classmethod
    def from_config(cls, cfg: Config, *, wavelet: bool = False, more_s: float = 0.0) -> Self:
        """Build on a signal with the filter's context, or also the wavelet's, and ``more_s`` beyond."""
        signal, montage = Signal.from_config(cfg, wavelet=wavelet, more_s=more_s), cfg.montage
        if isinstance(montage, Referential):
            return cls(signal, montage.chains, montage.kind, montage.reference, montage.ears)
        return cls(signal, cfg.at("montage.chains"), "bipolar", None, ())

    def n_outputs(self, output: str) -> int:
        """Return the rows of the output: chains or derivations."""
        return len(self.chains) if output == "chains" else len(all_derivations(self.chains))

    def n_samples(self, *, context: bool = False) -> int:
        """Return the samples of a window, with the context on either side if asked for."""
        reading = self.signal.reading
        return round((reading.window_s + 2 * reading.context_s * context) * SFREQ_HZ)

    def compute(self, cleaned: Cleaned) -> Derived:
        """Return the derivations; a chain without a live pair makes the item unusable."""
        names = all_derivations(self.chains)
        alive = alive_derivations(cleaned.dead, cleaned.channels, names, cleaned.references)
        self._refuse_empty_chain(alive, cleaned)
        if cleaned.block is None:
            return Derived(self.form(cleaned), alive, cleaned.n_context, cleaned.sfreq)
        block = cleaned.block.then(
            (self.key, cleaned.dead.tobytes()), lambda eeg: self.form(replace(cleaned, eeg=eeg))
        )
        values = block.values[:, cleaned.first : cleaned.first + cleaned.eeg.shape[1]]
        return Derived(values, alive, cleaned.n_context, cleaned.sfreq, block, cleaned.first)

    def form(self, cleaned: Cleaned) -> NDArray[np.float32]:
        """Return the values of the derivations, shape (n_derivations, n_samples).

        Raises `Unusable` if the montage's reference cannot be formed from these channels.
        """
        names = all_derivations(self.chains)
        if self.reference is None:
            return derive(cleaned.eeg, cleaned.channels, names, cleaned.references)
        try:
            return rereference(
                cleaned.eeg,
                cleaned.channels,
                cleaned.dead,
                names,
                cleaned.references,
                reference=self.reference,
                ears=self.ears,
            )
        except ValueError as error:
            raise Unusable(str(error), failure=False) from None

    def weights(self, cleaned: Cleaned, names: tuple[str, ...]) -> NDArray[np.float32]:
        """Return the weights that turn rows into derivations, shape (n_derivations, n_names).

        Channels that are not cleaned have no weight.
        """
        kind = names, cleaned.channels, cleaned.references, cleaned.dead.tobytes()
        if kind not in self._weights:
            if len(self._weights) >= MOST_WEIGHTS:
                self._weights.clear()
            places = [[name == channel for name in names] for channel in cleaned.channels]
            self._weights[kind] = self.form(replace(cleaned, eeg=np.array(places, np.float32)))
        return self._weights[kind]

    @cached_property
    def _weights(self) -> dict[tuple[object, ...], NDArray[np.float32]]:
        return {}

    def _refuse_empty_chain(self, alive: NDArray[np.bool_], cleaned: Cleaned) -> None:
        if alive.all():
            return
        first = 0
        for chain, pairs in self.chains:
            if not alive[first : first + len(pairs)].any():
                dead = ", ".join(
                    n for n, is_dead in zip(cleaned.channels, cleaned.dead, strict=True) if is_dead
                )
                raise Unusable(f"chain {chain} has no pair of live channels; dead: {dead}", failure=False)
            first += len(pairs)
