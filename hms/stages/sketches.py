"""Sketches: a few kilobytes of every item, for pictures of the whole data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from hms.competition import EKG_CHANNEL
from hms.quality.sketches import gap_raster, histogram, shrink_power, spectrum
from hms.sources.base import Segment
from hms.stage import ItemStage, register_stage
from hms.stages.reading import Reading
from hms.stages.scalograms import Scalogram, Scalograms


@register_stage
@dataclass(frozen=True)
class Sketches(ItemStage):
    """Spectrum of what was recorded, places of gaps, a small scalogram and a histogram of x."""

    name = "sketches"
    version = 1
    rows: ClassVar[bool] = True

    reading: Reading
    scalograms: Scalograms

    def compute(self, segment: Segment, scalogram: Scalogram) -> Mapping[str, Any]:
        """Look at the EEG channels as recorded, before anything was filled or filtered."""
        eeg = segment.eeg[[i for i, name in enumerate(segment.channels) if name != EKG_CHANNEL]]
        window = eeg[:, segment.n_context : segment.n_context + segment.n_window]
        return {
            "spectrum": spectrum(window, segment.sfreq),
            "gaps": gap_raster(eeg, segment.n_outside),
            "power": shrink_power(scalogram.power),
            "histogram": histogram(scalogram.x),
        }

    def arrays(self, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the row."""
        return result
