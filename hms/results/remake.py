"""The report of a run that was made without one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hms.store.package import Package


def report_of(run: Package) -> Path:
    """Return where a run's report is, after making it if need be.

    A run that did not make its report stays as it is: a further run with the same
    configuration and the report is made from what the store holds.

    Raises
    ------
    ConfigError
        If its recordings are not there any more.
    """
    from hms.config.schema import build_config
    from hms.engine.plan import plan_of
    from hms.engine.runner import execute
    from hms.pipeline.selection import asked_names

    path = "qc/report.html"
    if path in run.manifest["files"]:
        return run.file(path)
    tree = run.config.to_dict()
    stages = asked_names([*run.manifest["stages"], "report"])
    plan = plan_of(run, build_config({**tree, "stages": stages}))
    return execute(plan).file(path)
