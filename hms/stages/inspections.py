"""Inspections: what measures and sketches share of a recording as it was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from hms.config.schema import Config
from hms.pipeline.stage import ItemStage, register_stage
from hms.quality.inspection import Inspection, inspect_segment, inspect_segments
from hms.sources.base import Segment
from hms.stages.reading import Reading


@register_stage
@dataclass(frozen=True)
class Inspections(ItemStage):
    """Channels with gaps bridged and their short Fourier transforms, made once and not kept."""

    name = "inspections"
    version = 2
    follows: ClassVar[tuple[str, ...]] = ("cwt",)
    is_quicker_together: ClassVar[bool] = True

    reading: Reading

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build on all that x rests on: the filter's context, or the longest wavelet's if that is longer."""
        return cls(Reading.from_config(cfg, wavelet=True))

    def compute(self, segment: Segment) -> Inspection:
        """Look at the recording before anything was filled by policy or filtered."""
        return inspect_segment(segment)

    def compute_together(self, inputs: Sequence[tuple[Segment]]) -> list[Inspection]:
        """Inspect windows of one block together."""
        return inspect_segments([segment for (segment,) in inputs])
