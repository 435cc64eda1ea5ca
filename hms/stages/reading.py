"""Reading: the window of a recording with the context that what follows needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from hms.competition import SFREQ_HZ
from hms.config import Config
from hms.signal.filters import FilterParams, filter_reach_s
from hms.signal.wavelets import Cwt, wavelet_reach_s
from hms.sources.base import Segment
from hms.stage import ItemStage, register_stage, setting


@register_stage
@dataclass(frozen=True)
class Reading(ItemStage):
    """A segment with the context that the filter, and the wavelet where one follows, reach into."""

    name = "reading"
    version = 1

    aliases: tuple[tuple[str, str], ...] = setting("data.aliases")
    window_s: float = setting("window.length_s")
    context_s: float = setting("derived.context_s")

    @classmethod
    def from_config(cls, cfg: Config, *, wavelet: bool = False) -> Self:
        """Build with the filter's reach as context, or the longest wavelet's if that is longer."""
        assert isinstance(cfg.filter, FilterParams)
        reach_s = filter_reach_s(cfg.filter, sfreq=SFREQ_HZ)
        if wavelet:
            assert isinstance(cfg.cwt, Cwt)
            reach_s = max(reach_s, wavelet_reach_s(cfg.cwt, sfreq=SFREQ_HZ))
        return cls(
            tuple(sorted(cfg.at("data.aliases"))), cfg.at("window.length_s"), float(math.ceil(reach_s))
        )

    def compute(self, segment: Segment) -> Segment:
        """Return the segment with no more context than this stage's key states."""
        return segment.narrowed(round(self.context_s * segment.sfreq))
