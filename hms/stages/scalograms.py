"""Scalograms: wavelet power per derivation, averaged over each chain's pairs, scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hms.config.schema import Config
from hms.pipeline.stage import ItemStage, register_stage, section_function, setting
from hms.registry import Params
from hms.signal.arrays import Derived, Scalogram
from hms.signal.cwt import frequencies, plan_cwt
from hms.signal.filters import FFT_ROWS
from hms.signal.montage import output_groups
from hms.signal.wavelets import Cwt
from hms.stages.derivations import Derivations


@register_stage
@dataclass(frozen=True)
class Scalograms(ItemStage):
    """One time-frequency image per chain, or per derivation."""

    name = "scalograms"
    version = 4
    folder: ClassVar[str | None] = "spec_hr_out"
    together: ClassVar[int] = 4

    derivations: Derivations
    cwt: Cwt
    scaling: Params
    output: str = setting("montage.output")

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether they are packed into one array too."""
        return cfg.package.pack

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build on derivations with enough context for the longest wavelet."""
        derivations = Derivations.from_config(cfg, wavelet=True)
        return cls(derivations, cfg.at("cwt"), cfg.scaling, cfg.at("montage.output"))

    def n_values(self) -> int:
        """Return the values of an item's images."""
        n_frames = -(-self.derivations.n_samples() // self.cwt.hop)
        return self.derivations.n_outputs(self.output) * self.cwt.n_freqs * n_frames

    def item_bytes(self) -> int:
        """Return the bytes of an item's array."""
        return int(self.n_values() * np.dtype(self.cwt.dtype).itemsize)

    def compute(self, derived: Derived) -> Scalogram:
        """Average **power**, not the signals: the mean of a chain's signals is the same for both chains."""
        return self._scaled(self._power(derived.values, derived, self._groups(derived)))

    def compute_together(self, inputs: Sequence[tuple[Derived]]) -> list[Scalogram]:
        """Transform the derivations of several recordings as if one recording had them all."""
        all_derived = [derived for (derived,) in inputs]
        kinds = {(d.values.shape, d.n_context, d.sfreq, d.alive.tobytes()) for d in all_derived}
        # Rows that are left over when FFTs take several at once may be rounded otherwise.
        if len(kinds) > 1 or not all_derived[0].alive.all() or len(all_derived[0].values) % FFT_ROWS:
            return super().compute_together(inputs)
        first, groups = all_derived[0], self._groups(all_derived[0])
        n_rows = len(first.values)
        of_all = tuple(
            tuple(row + item * n_rows for row in group) for item in range(len(inputs)) for group in groups
        )
        power = self._power(np.concatenate([d.values for d in all_derived]), first, of_all)
        by_item = power.reshape(len(inputs), len(groups), *power.shape[1:])
        return [self._scaled(some.copy()) for some in by_item]

    def _groups(self, derived: Derived) -> tuple[tuple[int, ...], ...]:
        return output_groups(self.derivations.chains, self.output, derived.alive)

    def _power(
        self, values: NDArray[np.float32], like: Derived, groups: tuple[tuple[int, ...], ...]
    ) -> NDArray[np.float32]:
        plan = plan_cwt(self.cwt, sfreq=like.sfreq, n_context=like.n_context, n_window=like.n_window)
        return plan.power(values, groups)

    def _scaled(self, power: NDArray[np.float32]) -> Scalogram:
        x = section_function("scaling", self.scaling)(power, self.scaling)
        return Scalogram(power, x.astype(self.cwt.dtype, copy=False), frequencies(self.cwt).copy())

    def arrays(self, result: Scalogram) -> Mapping[str, Any]:
        """Return what the file holds beside the ids."""
        return {"x": result.x, "freqs": result.freqs}
