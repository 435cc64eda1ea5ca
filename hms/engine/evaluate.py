"""The one way from a recording's samples to a stage's result: of a run, a picture and inference alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from hms.pipeline.stage import ItemStage, registered_order


def evaluate(
    stage: ItemStage, segment: Any, memo: dict[str, Any], seconds: dict[str, float] | None = None
) -> Any:
    """Return a stage's result for one segment, or crop of a companion file.

    Whatever stages share is computed once per ``memo``.

    Raises
    ------
    Unusable
        With the reason, if the segment has no such result.
    """
    if stage.key not in memo:
        inputs = [
            memo[read.key] if read.key in memo else evaluate(read, segment, memo, seconds)
            for read in stage.item_reads
        ]
        began = time.perf_counter()
        try:
            memo[stage.key] = stage.compute(*inputs) if inputs else stage.compute(segment)
        finally:
            if seconds is not None:
                seconds[stage.name] = seconds.get(stage.name, 0.0) + time.perf_counter() - began
    return memo[stage.key]


def evaluate_together(
    stage: ItemStage,
    memos: Sequence[dict[str, Any]],
    seconds: dict[str, float] | None = None,
) -> None:
    """Compute a stage of several items for which what it reads is there, if that is quicker.

    What fails is left to `evaluate`, which says of which item and why.
    """
    if not stage.is_quicker_together:
        return
    keys = [read.key for read in stage.item_reads]
    ready = [memo for memo in memos if stage.key not in memo and all(key in memo for key in keys)]
    began = time.perf_counter()
    try:
        inputs = [tuple(memo[key] for key in keys) for memo in ready]
        made = list(zip(ready, stage.compute_together(inputs), strict=True))
    except Exception:  # each is computed alone then
        return
    finally:
        if seconds is not None:
            seconds[stage.name] = seconds.get(stage.name, 0.0) + time.perf_counter() - began
    for memo, result in made:
        memo[stage.key] = result


@lru_cache(maxsize=64)
def steps_of(stages: tuple[ItemStage, ...]) -> tuple[ItemStage, ...]:
    """Return every item stage that some need, these included, in running order."""
    needed = {key: s for stage in stages for key, s in stage.chain().items() if isinstance(s, ItemStage)}
    order = registered_order()
    return tuple(sorted(needed.values(), key=lambda stage: order.index(stage.name)))


def stacked(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arrays of several items, each with a first axis of items."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def row_of(stage: ItemStage, result: Any) -> dict[str, Any]:
    """Return the row that a run keeps of one result of a stage whose results are rows."""
    return {name: values[0] for name, values in derived_rows(stage, [stage.arrays(result)]).items()}


def derived_rows(stage: ItemStage, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the rows that are kept of several items; raises ValueError if they are not one for each."""
    derived = stage.derive_rows(stacked(rows))
    for name, values in derived.items():
        if len(values) != len(rows):
            raise ValueError(f"derive_rows gives {len(values)} rows of '{name}' for {len(rows)} items")
    return derived
