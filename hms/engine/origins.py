"""What items are made from: parts of recordings, and companion files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.sources.base import RECORDING, Part, Place, Source

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Origins:
    """What items are made from, of one kind.

    Attributes
    ----------
    parts : each once, in first-appearance order
    part_of : int32, shape (n_items,), the row of each item's part, -1 where it has none
    starts : float64, shape (n_items,), where each item starts in the file, s
    """

    parts: list[Part]
    part_of: NDArray[np.int32]
    starts: NDArray[np.float64]

    def of(self, row: int) -> Part | None:
        """Return the part that an item is made from."""
        number = int(self.part_of[row])
        return None if number < 0 else self.parts[number]


def make_origins(wanted: Iterable[Part | None], starts: ArrayLike) -> Origins:
    """Return the distinct parts among those that items want."""
    rows: dict[Part, int] = {}
    part_of = [-1 if part is None else rows.setdefault(part, len(rows)) for part in wanted]
    return Origins(list(rows), np.array(part_of, np.int32), np.asarray(starts, np.float64))


def find_origins(
    source: Source, items: pd.DataFrame, places: Sequence[Place], kinds: Iterable[str]
) -> dict[str, Origins]:
    """Return what items are made from: parts of recordings, and companion files of the kinds needed.

    ``places`` are of the recordings, in the order in which the items first name them.
    """
    found = {RECORDING: _of_recordings(source, items, places)}
    for kind in sorted(set(kinds) - {RECORDING}):
        companions, at = source.companions(kind, items)
        parts = (None if place is None else Part(place, "", kind) for place in companions)
        found[kind] = make_origins(parts, at)
    return found


def _of_recordings(source: Source, items: pd.DataFrame, places: Sequence[Place]) -> Origins:
    """Return the parts of recordings: a source is asked once for each start that any item has."""
    import pandas as pd

    starts = items["window_start_s"].to_numpy(np.float64)
    recording = pd.factorize(items["eeg_id"].to_numpy())[0].astype(np.int32)
    start, distinct = pd.factorize(starts)
    named, names = pd.factorize(np.array([source.part(at) for at in distinct.tolist()], object))
    if len(names) == 1:
        return Origins([Part(place, names[0]) for place in places], recording, starts)
    part_of, pairs = pd.factorize(recording * np.int64(len(names)) + named[start])
    parts = [Part(places[pair // len(names)], names[pair % len(names)]) for pair in pairs.tolist()]
    return Origins(parts, part_of.astype(np.int32), starts)
