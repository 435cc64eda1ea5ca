"""A plugin with the smallest item stage there can be, so that what is timed is the bookkeeping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hms.sources.base import Segment
from hms.stage import ItemStage, register_stage
from hms.stages.reading import Reading


@register_stage
@dataclass(frozen=True)
class OneNumber(ItemStage):
    """One sample of every item, in a file of its own."""

    name = "one_number"
    version = 1
    folder: ClassVar[str | None] = "one_number"

    reading: Reading

    def compute(self, segment: Segment) -> np.float32:
        """Return the first sample of the window."""
        return np.float32(segment.eeg[0, segment.n_context])

    def arrays(self, result: np.float32) -> Mapping[str, Any]:
        """Return what the file holds beside the ids."""
        return {"x": result}
