"""The report of a run that was made without one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hms.results import Run

__all__ = ["report_of"]


def report_of(run: Run) -> Path:
    """Return where a run's report lies, after making it if need be.

    A run that did not make its report stays as it is: a further run with the same
    configuration and the report is made from what the store holds.

    Raises
    ------
    ConfigError
        If its recordings are not there any more.
    """
    from hms.config import build_config
    from hms.runner import run as run_config

    path = "qc/report.html"
    if path in run.manifest["files"]:
        return run.file(path)
    tree = run.config.to_dict()
    stages = [*run.manifest["stages"], "report"]
    return run_config(build_config({**tree, "stages": _askable(stages)})).file(path)


def _askable(names: list[str]) -> list[str]:
    """Return the stages that a user may ask for, without those that come by themselves."""
    from hms.stage import stage_names

    known = stage_names()
    return [name for name in dict.fromkeys(names) if name in known and not name.startswith("report_")]
