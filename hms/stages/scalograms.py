"""Scalograms: wavelet power per derivation, averaged over each chain's pairs, scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hms.config import Config
from hms.registry import Params
from hms.signal.cwt import frequencies, plan_cwt
from hms.signal.montage import output_groups
from hms.stage import ItemStage, register_stage, section_function, setting
from hms.stages.derivations import Derivations, Derived


@dataclass(frozen=True)
class Scalogram:
    """Wavelet power before and after scaling.

    Attributes
    ----------
    power : float32, shape (n_outputs, n_freqs, n_frames), µV²
    x : float32 or float16, same shape, scaled
    freqs : float32, shape (n_freqs,), ascending, Hz
    """

    power: NDArray[np.float32]
    x: NDArray[Any]
    freqs: NDArray[np.float32]


@register_stage
@dataclass(frozen=True)
class Scalograms(ItemStage):
    """One time-frequency image per chain, or per derivation."""

    name = "scalograms"
    version = 2
    folder: ClassVar[str | None] = "spec_hr_out"

    derivations: Derivations
    cwt: Params
    scaling: Params
    output: str = setting("montage.output")

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build on derivations with enough context for the longest wavelet."""
        derivations = Derivations.from_config(cfg, wavelet=True)
        return cls(derivations, cfg.cwt, cfg.scaling, cfg.at("montage.output"))

    def compute(self, derived: Derived) -> Scalogram:
        """Average **power**, not the signals: the mean of a chain's signals is the same for both chains."""
        params: Any = self.cwt
        plan = plan_cwt(params, sfreq=derived.sfreq, n_context=derived.n_context, n_window=derived.n_window)
        groups = output_groups(self.derivations.chains, self.output, derived.alive)
        power = plan.power(derived.values, groups)
        x = section_function("scaling", self.scaling)(power, self.scaling)
        return Scalogram(power, x.astype(params.dtype, copy=False), frequencies(params).copy())

    def arrays(self, result: Scalogram) -> Mapping[str, Any]:
        """Return what the file holds beside the ids."""
        return {"x": result.x, "freqs": result.freqs}
