"""One recording through the same function as the run's: for plots, checks and inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hms.config import ConfigError
from hms.plan import make_plan, needed_channels
from hms.sources.base import read_segment
from hms.stage import Unusable
from hms.workers import evaluate

if TYPE_CHECKING:
    from hms.results import Run

__all__ = ["evaluate_item"]


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
    row = plan.items.loc[rows[0]]
    stage = run.item_stage(stage_name)
    context_s = max(s.settings.get("derived.context_s", 0.0) for s in stage.chain().values())
    try:
        recording = plan.source.open(plan.places[plan.place_of[rows[0]]])
        segment = read_segment(
            recording,
            row["window_start_s"],
            window_s=row["window_length_s"],
            context_s=context_s,
            channels=needed_channels([stage]),
        )
        return evaluate(stage, segment, {})
    except Unusable as reason:
        raise ConfigError(f"item '{item_id}': {reason.reason}") from None
