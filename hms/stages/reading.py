"""Reading: the window of a recording with the context that what follows needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from hms.competition import SFREQ_HZ
from hms.config.schema import Config
from hms.errors import ConfigError
from hms.pipeline.selection import block_margins_s, block_seconds, transform_seconds
from hms.pipeline.stage import (
    ItemStage,
    derived,
    kind_of_a_plugin,
    register_stage,
    setting,
    source_of_a_plugin,
)
from hms.registry import added
from hms.signal.filters import filter_reach_s
from hms.signal.wavelets import wavelet_reach_s
from hms.sources.base import Margins, Segment, SourceParams

SPARE_S = 2.0
"""Beyond the context, a source that resamples reaches this much further at most."""

LONGEST_REACH_S = 1024.0
"""Longest reach to either side that is read; filters are limited to as much."""


@register_stage
@dataclass(frozen=True)
class Reading(ItemStage):
    """A segment with the context that the filter, and the wavelet where one follows, reach into."""

    name = "reading"
    version = 1

    aliases: tuple[tuple[str, str], ...] = setting("data.aliases")
    missing: str = setting("data.missing")
    block_s: float | None = setting("data.block_s")
    transform_s: float = added(before=0.0, path="data.transform_s")
    window_s: float = setting("window.length_s")
    context_s: float = derived("context_s", follows=("filter",))
    margins_s: Margins | None = derived("margins_s", follows=("window",), before=None)
    reader: str = derived(
        "reader", follows=("data.kind", "data.unit", "data.bad_channels", "data.cnt_format"), before=""
    )
    plugin_source: str | None = source_of_a_plugin()

    @classmethod
    def from_config(cls, cfg: Config, *, wavelet: bool = False, more_s: float = 0.0) -> Self:
        """Build with the filter's reach as context, or the longest wavelet's if that is longer.

        ``more_s`` is read beyond either.
        """
        data: SourceParams = cfg.at("data")
        try:
            reach_s = filter_reach_s(cfg.at("filter"), sfreq=SFREQ_HZ)
            if wavelet:
                reach_s = max(reach_s, wavelet_reach_s(cfg.at("cwt"), sfreq=SFREQ_HZ))
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if reach_s > LONGEST_REACH_S:
            raise ConfigError(
                f"the wavelets reach {reach_s:g} s to either side, and at most {LONGEST_REACH_S:g} s "
                "can be read; raise cwt.min_hz or choose shorter wavelets"
            )
        window_s, context_s = cfg.at("window.length_s"), float(math.ceil(reach_s)) + more_s
        block_s, transform_s = block_seconds(cfg), transform_seconds(cfg)
        if block_s is not None and transform_s > block_s:
            raise ConfigError(
                f"data.transform_s={transform_s:g} is longer than the blocks that windows are cut from; "
                f"it must be at most data.block_s={block_s:g}"
            )
        shortest_s = window_s + context_s + 2 * SPARE_S
        if data.block_s is not None and data.block_s < shortest_s:
            raise ConfigError(
                f"data.block_s={data.block_s:g} is too short for windows of {window_s:g} s with "
                f"{context_s:g} s on each side; it must be at least {shortest_s:g}"
            )
        return cls(
            tuple(sorted(data.aliases)),
            data.missing,
            block_s,
            transform_s,
            window_s,
            context_s,
            block_margins_s(cfg),
            data.reader,
            kind_of_a_plugin(cfg),
        )

    def needed_context_s(self) -> float:
        """Return the seconds that are read on each side of the window."""
        return self.context_s

    def compute(self, segment: Segment) -> Segment:
        """Return the segment with no more context than this stage's key states."""
        return segment.narrowed(round(self.context_s * segment.sfreq))
