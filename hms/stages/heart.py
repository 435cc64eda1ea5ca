"""The EKG, for pictures: where it reaches an electrode, a reader wants to see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hms.competition import EKG_CHANNEL
from hms.pipeline.stage import ItemStage, register_stage, setting
from hms.signal.filters import FilterParams, apply_filter, design_filter
from hms.signal.gaps import fill_gaps
from hms.sources.base import Segment
from hms.stages.reading import Reading


@register_stage
@dataclass(frozen=True)
class Heart(ItemStage):
    """The EKG of the window, filtered as the electrodes and not clipped; None where there is none."""

    name = "heart"
    version = 1

    reading: Reading
    filter: FilterParams = setting("filter")

    def needed_channels(self) -> tuple[str, ...]:
        """Return the EKG."""
        return (EKG_CHANNEL,)

    def compute(self, segment: Segment) -> NDArray[np.float32] | None:
        """Fill gaps and filter."""
        if EKG_CHANNEL not in segment.channels:
            return None
        row = segment.channels.index(EKG_CHANNEL)
        filled = fill_gaps(segment.eeg[row : row + 1], self.filter.gaps, sfreq=segment.sfreq)
        gain = design_filter(self.filter, n_samples=filled.shape[1], sfreq=segment.sfreq)
        filtered: NDArray[np.float32] = apply_filter(filled, gain)[0]
        return filtered[segment.n_context : segment.n_context + segment.n_window]
