"""Waveforms: one signal per chain, or per derivation, in µV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hms.config.schema import Config
from hms.pipeline.stage import ItemStage, register_stage, setting
from hms.registry import Params
from hms.signal.arrays import Derived, Waveform
from hms.signal.waveform import reduce_waveforms
from hms.stages.derivations import Derivations


@register_stage
@dataclass(frozen=True)
class Waveforms(ItemStage):
    """The window's derivations reduced by ``montage.waveform``."""

    name = "waveforms"
    version = 1
    folder: ClassVar[str | None] = "wave_hr_out"

    derivations: Derivations
    waveform: Params = setting("montage.waveform")
    output: str = setting("montage.output")

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether they are packed into one array too."""
        return cfg.package.waveforms

    def n_values(self) -> int:
        """Return the values of an item's waveforms."""
        return self.derivations.n_outputs(self.output) * self.derivations.n_samples()

    def item_bytes(self) -> int:
        """Return the bytes of an item's array."""
        return self.n_values() * np.dtype(np.float32).itemsize

    def compute(self, derived: Derived) -> Waveform:
        """Reduce each chain; a pair with a dead electrode takes no part."""
        x = reduce_waveforms(
            derived.window,
            derived.alive,
            chains=self.derivations.chains,
            output=self.output,
            waveform=self.waveform,
        )
        return Waveform(x, derived.sfreq)

    def arrays(self, result: Waveform) -> Mapping[str, Any]:
        """Return what the file has besides the ids."""
        return {"x": result.x, "fs": np.float64(result.sfreq)}
