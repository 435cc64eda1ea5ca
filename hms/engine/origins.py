"""What items are made from: parts of recordings, and companion files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hms.sources.base import RECORDING, Part, Place, Source

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Origins:
    """What items are made from, of one kind.

    Attributes
    ----------
    parts : each once, in first-appearance order
    part_of : for each item, the row of its part, or None where it has none
    starts : for each item, where it starts in the file, s
    """

    parts: list[Part]
    part_of: list[int | None]
    starts: list[float]

    def of(self, row: int) -> Part | None:
        """Return the part that an item is made from."""
        number = self.part_of[row]
        return None if number is None else self.parts[number]


def make_origins(wanted: Iterable[Part | None], starts: Sequence[float]) -> Origins:
    """Return the distinct parts among those that items want."""
    rows: dict[Part, int] = {}
    part_of = [None if part is None else rows.setdefault(part, len(rows)) for part in wanted]
    return Origins(list(rows), part_of, list(starts))


def find_origins(
    source: Source, items: pd.DataFrame, places: Sequence[Place], kinds: Iterable[str]
) -> dict[str, Origins]:
    """Return what items are made from: parts of recordings, and companion files of the kinds needed."""
    place_of = {place.recording: place for place in places}
    starts = items["window_start_s"].tolist()
    recordings = zip(items["recording"].tolist(), starts, strict=True)
    found = {
        RECORDING: make_origins((Part(place_of[name], source.part(at)) for name, at in recordings), starts)
    }
    for kind in sorted(set(kinds) - {RECORDING}):
        companions, at = source.companions(kind, items)
        parts = (None if place is None else Part(place, "", kind) for place in companions)
        found[kind] = make_origins(parts, at)
    return found
