"""A plugin with the smallest item stage there can be, so that what is timed is the bookkeeping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hms.pipeline.stage import ItemStage, register_stage
from hms.sources.base import Segment
from hms.stages.reading import Reading


@register_stage
@dataclass(frozen=True)
class OneNumber(ItemStage):
    """The length of every item's window, in a file of its own; bytes are read, no sample is decoded."""

    name = "one_number"
    version = 1
    folder: ClassVar[str | None] = "one_number"

    reading: Reading

    def compute(self, segment: Segment) -> np.int64:
        """Return the samples of the window."""
        return np.int64(segment.n_window)

    def arrays(self, result: np.int64) -> Mapping[str, Any]:
        """Return what the file holds beside the ids."""
        return {"x": result}
