"""Inspections: what measures and sketches share of a recording as it was read."""

from __future__ import annotations

from dataclasses import dataclass

from hms.pipeline.stage import ItemStage, register_stage
from hms.quality.inspection import Inspection, inspect_segment
from hms.sources.base import Segment
from hms.stages.reading import Reading


@register_stage
@dataclass(frozen=True)
class Inspections(ItemStage):
    """Channels with gaps bridged and their short Fourier transforms, made once and not kept."""

    name = "inspections"
    version = 2

    reading: Reading

    def compute(self, segment: Segment) -> Inspection:
        """Look at the recording before anything was filled by policy or filtered."""
        return inspect_segment(segment)
