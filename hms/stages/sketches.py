"""Sketches: a few kilobytes of every item, for pictures of the whole data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from hms.config.schema import Config
from hms.pipeline.stage import ItemStage, register_stage
from hms.quality.inspection import Inspection
from hms.quality.sketches import gap_raster, histogram, shrink_power, spectrum
from hms.signal.arrays import Scalogram
from hms.sources.base import Segment
from hms.stages.inspections import Inspections
from hms.stages.reading import Reading
from hms.stages.scalograms import Scalograms


@register_stage
@dataclass(frozen=True)
class Sketches(ItemStage):
    """Spectrum of what was recorded, places of gaps, a small scalogram and a histogram of x."""

    name = "sketches"
    version = 6
    rows: ClassVar[bool] = True

    reading: Reading
    inspections: Inspections
    scalograms: Scalograms

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build on the reading that is inspected: all that x rests on."""
        built = super().from_config(cfg)
        return replace(built, reading=built.inspections.reading)

    def compute(self, segment: Segment, inspection: Inspection, scalogram: Scalogram) -> Mapping[str, Any]:
        """Look at the EEG channels as recorded, before anything was filled or filtered."""
        is_gap = None if inspection.is_gap is None else inspection.is_gap[inspection.is_eeg]
        return {
            "spectrum": spectrum(inspection),
            "gaps": gap_raster(is_gap, segment.eeg.shape[1], segment.n_outside),
            "power": shrink_power(scalogram.power),
            "histogram": histogram(scalogram.x),
        }

    def arrays(self, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the row."""
        return result
