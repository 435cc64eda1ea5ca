"""Scalograms: wavelet power per derivation, averaged over each chain's pairs, scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from hms.config.schema import Config
from hms.pipeline.stage import ItemStage, register_stage, section_function, setting
from hms.registry import Params
from hms.signal.arrays import Derived, Scalogram
from hms.signal.cwt import frequencies, plan_cwt
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
        params = self.cwt
        plan = plan_cwt(params, sfreq=derived.sfreq, n_context=derived.n_context, n_window=derived.n_window)
        groups = output_groups(self.derivations.chains, self.output, derived.alive)
        power = plan.power(derived.values, groups)
        x = section_function("scaling", self.scaling)(power, self.scaling)
        return Scalogram(power, x.astype(params.dtype, copy=False), frequencies(params).copy())

    def arrays(self, result: Scalogram) -> Mapping[str, Any]:
        """Return what the file holds beside the ids."""
        return {"x": result.x, "freqs": result.freqs}
