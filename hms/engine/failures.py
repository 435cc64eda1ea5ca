"""Counting what failed, and ending a run in which too much does."""

from __future__ import annotations

from hms.engine.job import ChunkResult
from hms.engine.plan import Plan
from hms.errors import TooManyFailures
from hms.store.folders import Reason

MINIMUM_FAILURES = 3


class Failures:
    """Counts failed items while a run goes on and stops it when there are too many."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.allowed = max(MINIMUM_FAILURES, plan.cfg.max_failed_share * len(plan.items))
        self.count = len(self._failed())

    def _failed(self) -> list[tuple[int, Reason]]:
        return [(row, r) for row, r in enumerate(self.plan.reasons()) if r is not None and r.failure]

    def add(self, result: ChunkResult) -> None:
        """Count the failures of a chunk."""
        permanent = {
            r.item for made in result.stages.values() for r in made.records if r.reason and r.reason.failure
        }
        self.count += len(permanent) + sum(reason.failure for reason in result.transient.values())
        self.check()

    def check(self) -> None:
        """Raise if more items failed than are allowed."""
        if self.count <= self.allowed:
            return
        failed = self._failed()
        ids = self.plan.items["item_id"].tolist()
        shown = "".join(f"\n  {ids[row]}: {reason.text}" for row, reason in failed[:10])
        more = f"\n  and {len(failed) - 10} more" if len(failed) > 10 else ""
        raise TooManyFailures(
            f"{len(failed)} of {len(ids)} items failed, more than the {int(self.allowed)} that "
            f"max_failed_share={self.plan.cfg.max_failed_share:g} allows "
            f"(never fewer than {MINIMUM_FAILURES}); "
            f"what was computed is kept, no run is marked finished{shown}{more}"
        )
