"""A copy of a run without links, checked."""

from __future__ import annotations

import shutil
from pathlib import Path

from hms.engine.verify import verify
from hms.errors import ConfigError
from hms.store.files import storage_error
from hms.store.manifests import write_checked
from hms.store.package import Package

# --- export --------------------------------------------------------------------------------------


def export_run(run: Package, destination: Path) -> int:
    """Copy a run into a self-contained folder without links, check it, and return its bytes.

    Raises
    ------
    ConfigError
        If the destination is not empty, or a file of the run is damaged.
    StorageError
        If the destination cannot be written.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ConfigError(f"{destination} is there already and not empty; name a new folder")
    if run.path in destination.resolve().parents:
        raise ConfigError(f"{destination} is in the run itself; name a folder outside")
    manifest = run.manifest
    try:
        for name in manifest["files"]:
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.path / name, destination / name)
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename} is missing; hms verify {run.hash} --repair") from None
    except OSError as error:
        raise storage_error(error, destination) from error
    write_checked(destination, {k: v for k, v in manifest.items() if k != "digest"} | {"exported": True})
    report = verify(destination)
    if report.findings:
        finding = report.findings[0]
        raise ConfigError(f"{finding.path}: {finding.problem}; hms verify {run.hash} --repair")
    return report.bytes_read
