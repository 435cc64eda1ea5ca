"""One recording through the same function as the run's: for plots, checks and inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hms.config import ConfigError
from hms.plan import Plan, make_plan, needed_channels
from hms.sources.base import read_segment
from hms.stage import ItemStage, Unusable
from hms.store import StorageError
from hms.workers import evaluate

if TYPE_CHECKING:
    from hms.results import Run

__all__ = ["evaluate_item", "evaluate_row"]


def evaluate_item(run: Run, item_id: str, stage_name: str) -> Any:
    """Compute what an item stage gives for one item of a run, anew from its recording.

    Raises
    ------
    ConfigError
        If the run has no such item, or its recording is not there.
    """
    plan = make_plan(run.config)
    rows = plan.items.index[plan.items["item_id"] == item_id].tolist()
    if not rows:
        raise ConfigError(f"run {run.hash} has no item '{item_id}'")
    try:
        return _evaluate(plan, rows[0], [run.item_stage(stage_name)])[0][0]
    except Unusable as reason:
        raise ConfigError(f"item '{item_id}': {reason.reason}") from None


def evaluate_row(plan: Plan, row: int, stages: Sequence[ItemStage]) -> list[Any]:
    """Compute what item stages give for one prepared item of a plan, anew from its recording.

    Raises
    ------
    StorageError
        If the recording cannot be read any more, or is not the one that was prepared.
    """
    place = plan.places[plan.place_of[row]]
    try:
        results, digest = _evaluate(plan, row, stages)
    except Unusable as reason:
        raise StorageError(f"recording '{place.recording}' cannot be read again: {reason.reason}") from None
    if digest != plan.digests.of(place):
        raise StorageError(f"recording '{place.recording}' changed while the run went on; run it again")
    return results


def _evaluate(plan: Plan, row: int, stages: Sequence[ItemStage]) -> tuple[list[Any], str]:
    """Return each stage's result and the digest of the recording."""
    item = plan.items.loc[row]
    chain = [s for stage in stages for s in stage.chain().values()]
    recording = plan.source.open(plan.places[plan.place_of[row]])
    segment = read_segment(
        recording,
        item["window_start_s"],
        window_s=item["window_length_s"],
        context_s=max(s.settings.get("derived.context_s", 0.0) for s in chain),
        channels=needed_channels(stages),
    )
    memo: dict[str, Any] = {}
    return [evaluate(stage, segment, memo) for stage in stages], recording.digest
