"""Members of sweeps: what sets each apart, what became of it, and which runs are members."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hms.config.reading import is_file, is_folder
from hms.config.schema import Config
from hms.errors import ConfigError, ManifestError
from hms.store.inside import read_file
from hms.store.places import Outputs

if TYPE_CHECKING:
    from hms.store.package import Package

SET_ASIDE_SHARE = 0.3
"""Share of patients that ``sweep.confirm=true`` sets aside."""


@dataclass(frozen=True)
class Member:
    """A member of a sweep after its turn: a run, or the error that it ended with."""

    number: int
    overrides: tuple[str, ...]
    """What sets it apart from the others."""

    cfg: Config | None = None
    run: Package | None = None
    error: str = ""
    machine_failed: bool = False
    """Whether the error says nothing of the member: the same command continues."""

    @property
    def label(self) -> str:
        """The overrides that set it apart, in one text."""
        return " ".join(self.overrides) or "(nothing varies)"


def with_patients_aside(cfg: Config) -> Config:
    """Return a configuration whose baseline learns nothing from the patients set aside.

    Raises `ConfigError` if it has no baseline.
    """
    if cfg.baseline.kind == "none":
        raise ConfigError("sweep.confirm=true scores a baseline on patients set aside; add baseline=logreg")
    return cfg.override(f"baseline.set_aside={SET_ASIDE_SHARE}")


def members_of_sweeps(outputs: Outputs) -> dict[str, str]:
    """Return, by run, its sweep and what sets it apart there, from the leaderboards that sweeps leave."""
    members: dict[str, str] = {}
    sweeps = outputs.root / "sweeps"
    for name in sorted(os.listdir(sweeps)) if is_folder(sweeps) else ():
        path = sweeps / name / "leaderboard.json"
        if path.is_symlink() or not is_file(path):
            continue
        try:
            rows = json.loads(read_file(path))["rows"]
            members |= {row["run"]: f"{name}: {row['overrides']}" for row in rows if row["run"]}
        except (ManifestError, ValueError, KeyError, TypeError):
            continue  # a leaderboard that is damaged or of another form tells nothing
    return members
