"""A copy of a run without links, checked."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from hms.config.reading import names_in
from hms.engine.verify import UNREADABLE, verify
from hms.errors import ConfigError, StorageError
from hms.store.files import TEMPORARY, commit_files, make_folder, storage_error, sync_folder
from hms.store.inside import find_inside
from hms.store.manifests import write_checked
from hms.store.package import Package
from hms.terminal import gentle_interrupts

FILES_TOGETHER = 64
"""Files that are copied, then synced together."""


def export_run(run: Package, destination: Path) -> int:
    """Copy a run into a self-contained folder without links, check it, and return its bytes.

    The copy is made next to the destination and takes its name when it is whole and on disk: under that name
    there is never part of a run. Raises `ConfigError` if the destination is not empty, or a file of the run
    is damaged, missing or refused, and `StorageError` if the destination cannot be written.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ConfigError(f"{destination} exists and is not an empty folder; name a new one")
    if os.path.ismount(destination):
        raise ConfigError(f"{destination} is the root of a disk; name a new folder in it")
    if run.path in destination.resolve().parents:
        raise ConfigError(f"{destination} is inside the run; name a folder outside")
    with gentle_interrupts():
        return _export(run, destination)


def _export(run: Package, destination: Path) -> int:
    whole = destination.absolute()
    beside = whole.parent / f"{TEMPORARY}{whole.name}-{uuid.uuid4().hex[:8]}"
    try:
        _forget_earlier(whole)
        make_folder(beside)
        _copy_files(run, beside)
        write_checked(beside, exported_manifest(run))
        n_bytes = _checked(beside, run)
        os.replace(beside, whole)
        sync_folder(whole.parent)
    except OSError as error:
        raise storage_error(error, destination) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return n_bytes


def _forget_earlier(whole: Path) -> None:
    """Remove what killed exports to the same place left next to it."""
    pattern = re.compile(f"{re.escape(f'{TEMPORARY}{whole.name}')}-[0-9a-f]{{8}}")
    for name in filter(pattern.fullmatch, names_in(whole.parent)):
        shutil.rmtree(whole.parent / name)


def _copy_files(run: Package, folder: Path) -> None:
    by_parent: dict[str, list[str]] = {}
    for name in run.manifest["files"]:
        by_parent.setdefault(name.rpartition("/")[0], []).append(name)
    for parent, names in by_parent.items():
        for first in range(0, len(names), FILES_TOGETHER):
            commit_files(folder / parent, dict(_contents(run, names[first : first + FILES_TOGETHER])))


def _contents(run: Package, names: list[str]) -> Mapping[str, Callable[[IO[bytes]], None]]:
    return {name.rpartition("/")[2]: _copier(find_file(run, name)) for name in names}


def find_file(run: Package, name: str) -> Path:
    """Return where a file of a run is; raises ConfigError if it is missing or refused."""
    try:
        return find_inside(run.path, name)[0]
    except FileNotFoundError:
        raise ConfigError(f"{run.path.name}/{name} is missing; hms verify {run.hash} --repair") from None


def exported_manifest(run: Package) -> dict[str, Any]:
    """Return the manifest of a run's copy, without its digest."""
    return {k: v for k, v in run.manifest.items() if k != "digest"} | {"exported": True}


def _copier(path: Path) -> Callable[[IO[bytes]], None]:
    def copy(file: IO[bytes]) -> None:
        try:
            original = open(path, "rb")  # noqa: SIM115 - what fails after this is the copy
        except OSError as error:
            raise StorageError(f"{path} cannot be read ({error.strerror}); nothing was exported") from error
        with original:
            shutil.copyfileobj(original, file, 1 << 20)

    return copy


def _checked(folder: Path, run: Package) -> int:
    """Return the bytes of an exported copy; raises ConfigError if it is not what the run says."""
    report = verify(folder)
    if report.findings:
        finding = report.findings[0]
        name = finding.path.replace(folder.name, run.path.name, 1)
        if finding.problem.startswith(UNREADABLE):
            raise StorageError(f"the copy of {name} {finding.problem}; nothing was exported")
        raise ConfigError(f"{name}: {finding.problem}; hms verify {run.hash} --repair")
    return report.bytes_read
