"""Features: a few hundred numbers per scalogram, for the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hms.pipeline.stage import ItemStage, register_stage, setting
from hms.signal.arrays import Scalogram
from hms.stages.scalograms import Scalograms
from hms.training.baseline import summarise_scalogram
from hms.training.mirror import mirrored_outputs


@register_stage
@dataclass(frozen=True)
class Features(ItemStage):
    """One row of scalogram summaries per item."""

    name = "features"
    version = 1
    rows: ClassVar[bool] = True

    scalograms: Scalograms
    window_s: float = setting("window.length_s")

    def compute(self, scalogram: Scalogram) -> NDArray[np.float32]:
        """Return the summaries of x, float32, shape (n_features,)."""
        frame_rate_hz = scalogram.x.shape[-1] / self.window_s
        mirror = mirrored_outputs(self.scalograms.derivations.chains, self.scalograms.output)
        return summarise_scalogram(scalogram.x, frame_rate_hz=frame_rate_hz, mirror=mirror)

    def arrays(self, result: NDArray[np.float32]) -> Mapping[str, Any]:
        """Return the row."""
        return {"features": result}
