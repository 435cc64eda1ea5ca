"""A search: one of Hydra's sweepers chooses the members, each returns its objective to it.

The members are run one after another like those of any sweep and end in the same leaderboard.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hms.config.identity import digest_of
from hms.config.schema import build_config
from hms.errors import ConfigError
from hms.sources.pseudonyms import told_words
from hms.sweep.leaderboard import make_leaderboard
from hms.sweep.members import Member, with_patients_aside
from hms.sweep.page import write_leaderboard
from hms.sweep.run import FOLDER, finish, run_member
from hms.sweep.scores import objective_of
from hms.terminal import say


class Search:
    """Collects the jobs that a sweeper starts.

    A member that fails has the objective infinity, so that the sweeper continues and does
    not come back to it.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.members: list[Member] = []

    def trial(self, raw: Any) -> float:
        """Run a member and return its objective."""
        from hydra.core.hydra_config import HydraConfig

        typed = set(self.texts)
        own = tuple(str(text) for text in HydraConfig.get().overrides.task if str(text) not in typed)
        member = _built(Member(len(self.members) + 1, own), raw)
        say(f"member {member.number}: {member.label}")
        member, objective = _with_objective(run_member(member))
        self.members.append(member)
        return objective

    def finish(self) -> int:
        """Write and show the leaderboard; return the exit code.

        Raises `ConfigError` if no member could be composed: then nothing says where the leaderboard goes.
        """
        if not self.members:
            return 0
        settings = next((m.cfg for m in self.members if m.cfg is not None), None)
        if settings is None:
            raise ConfigError(f"no member of the search could be composed: {self.members[0].error}")
        name = settings.sweep.name or f"search-{digest_of(self.texts, 4)}"
        board = make_leaderboard(
            _distinct(self.members),
            name=name,
            command=shlex.join(["python", "run.py", *told_words(self.texts)]),
            objective=settings.sweep.objective,
            reference=1,
        )
        return finish(board, write_leaderboard(board, Path(settings.outputs_dir) / FOLDER / name))


def _built(member: Member, raw: Any) -> Member:
    try:
        cfg = build_config(raw)
        return replace(member, cfg=with_patients_aside(cfg) if cfg.sweep.confirm else cfg)
    except ConfigError as error:
        return replace(member, error=str(error))


def _with_objective(member: Member) -> tuple[Member, float]:
    """Return a member with its objective; one that has none counts as failed."""
    if member.run is None or member.cfg is None:
        return member, float("inf")
    try:
        return member, objective_of(member.run, member.cfg)
    except ConfigError as error:
        return replace(member, run=None, error=str(error)), float("inf")


def _distinct(members: Sequence[Member]) -> list[Member]:
    """Return the distinct members, each without the overrides that all of them share."""
    first = {member.overrides: member for member in reversed(members)}
    kept = sorted(first.values(), key=lambda member: member.number)
    common = set.intersection(*(set(m.overrides) for m in kept)) if len(kept) > 1 else set()
    return [replace(m, overrides=tuple(o for o in m.overrides if o not in common)) for m in kept]
