"""Failures of recordings: counted while a run continues, grouped when it ends because of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from hms.engine.plan import Plan
from hms.errors import TooManyFailures
from hms.sources.base import SourceParams
from hms.sources.usable import MINIMUM_FAILURES, failures_allowed, too_many
from hms.store.columns import Reason
from hms.store.csvs import csv_bytes
from hms.store.files import commit_files
from hms.store.manifests import unfinish
from hms.terminal import counted, listed

SHOWN_REASONS, SHOWN_RECORDINGS = 10, 3

EXCLUDED = "meta_excluded.csv"

Reasons = Sequence[Reason | None]


class Failures:
    """Counts failed recordings while a run continues and stops it when there are too many.

    A recording with a hundred windows fails once.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.recordings = plan.items["recording"].tolist()
        self.allowed = failures_allowed(plan.cfg.max_failed_share, len(plan.places))
        self.failed = {self.recordings[row] for row, _ in _failed(plan.reasons())}

    def add(self, rows: Iterable[int]) -> None:
        """Count items that failed, by row."""
        self.failed |= {self.recordings[row] for row in rows}
        self.check()

    def check(self) -> None:
        """Raise if more recordings failed than are allowed."""
        plan = self.plan
        if len(self.failed) <= self.allowed or _answers_every_row(plan):
            return
        reasons = plan.reasons()
        failed = [reason if reason is not None and reason.failure else None for reason in reasons]
        _end(
            plan,
            f"{len(self.failed)} of {len(plan.places)} recordings failed, more than the {self.allowed} that "
            f"max_failed_share={plan.cfg.max_failed_share:g} allows (never fewer than {MINIMUM_FAILURES}); "
            "what was computed is kept, no run is marked finished. Mend or remove them, or add "
            "max_failed_share=1: then they are left out, however many there are. "
            f"{_told(plan)}{_grouped(self.recordings, failed)}",
            reasons,
        )


def forecast(plan: Plan) -> str:
    """Say that a run would stop for failures known before it; empty if it would not."""
    if _answers_every_row(plan):
        return ""
    recordings = plan.items["recording"].tolist()
    failed = len({recordings[row] for row, _ in _failed(plan.reasons())})
    return too_many(failed, len(plan.places), plan.cfg.max_failed_share)


def refuse_nothing(plan: Plan, reasons: Reasons) -> None:
    """Raise `TooManyFailures` if no item is left to use; inference answers every row all the same."""
    if any(reason is None for reason in reasons) or _answers_every_row(plan):
        return
    n = len(reasons)
    _end(
        plan,
        f"{'the only item cannot' if n == 1 else f'none of the {n} items can'} be used; "
        "no run is marked finished; "
        f"{_told(plan)}{_grouped(plan.items['recording'].tolist(), reasons)}",
        reasons,
    )


def _end(plan: Plan, text: str, reasons: Reasons) -> NoReturn:
    """Write why items are left out into the folder of a run that does not finish, and raise."""
    rows = [row for row, reason in enumerate(reasons) if reason is not None]
    known = [reason for reason in reasons if reason is not None]
    table = plan.items.iloc[rows][["item_id", "eeg_id"]]
    table = table.assign(stage=[r.stage for r in known], reason=[r.text for r in known])
    folder = plan.outputs.run(plan.run_hash)
    unfinish(folder)
    commit_files(folder / "data_package", {EXCLUDED: csv_bytes(table)})
    raise TooManyFailures(text)


def _answers_every_row(plan: Plan) -> bool:
    return isinstance(plan.cfg.data, SourceParams) and plan.cfg.data.answers_every_row


def _told(plan: Plan) -> str:
    return f"{plan.outputs.run(plan.run_hash) / 'data_package' / EXCLUDED} lists all"


def _failed(reasons: Reasons) -> list[tuple[int, Reason]]:
    return [(row, r) for row, r in enumerate(reasons) if r is not None and r.failure]


def _grouped(recordings: Sequence[str], reasons: Reasons) -> str:
    """Return a line for each reason, most recordings first, that names the first of them."""
    groups: dict[str, dict[str, None]] = {}
    for recording, reason in zip(recordings, reasons, strict=True):
        if reason is not None:
            groups.setdefault(reason.text, {})[recording] = None
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    lines = [
        f"\n  {counted(len(names), 'recording')}: {text} ({listed(names, SHOWN_RECORDINGS)})"
        for text, names in ordered[:SHOWN_REASONS]
    ]
    more = len(ordered) - SHOWN_REASONS
    return "".join(lines) + (f"\n  and {more} more reasons" if more > 0 else "")
