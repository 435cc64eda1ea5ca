"""Waveforms: one signal per chain, or per derivation, in µV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hms.registry import Params
from hms.signal.waveform import reduce_waveforms
from hms.stage import ItemStage, register_stage, setting
from hms.stages.derivations import Derivations, Derived


@dataclass(frozen=True)
class Waveform:
    """Reduced derivations of the window: float32, shape (n_outputs, n_window), µV."""

    x: NDArray[np.float32]
    sfreq: float


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
        """Return what the file holds beside the ids."""
        return {"x": result.x, "fs": np.float64(result.sfreq)}
