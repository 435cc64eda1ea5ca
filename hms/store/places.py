"""Where things are under an outputs folder."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hms.config.identity import digest_of
from hms.config.paths import Address
from hms.errors import ManifestError
from hms.store.files import TEMPORARY, commit_files, storage_error, sync_folder
from hms.store.inside import are_plain, is_own_folder, read_file
from hms.store.links import Way
from hms.store.manifests import NAME

HASH_LENGTH = 16

KEY_LENGTH = 12


class Keyed(Protocol):
    """What has a folder in the store: a stage."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def key(self) -> str:
        """Its key."""
        ...


@dataclass(frozen=True)
class Outputs:
    """Places under ``outputs_dir``."""

    root: Path

    @property
    def store(self) -> Path:
        """Where stage results live."""
        return self.root / "store"

    @property
    def latest(self) -> Path:
        """Link to the last finished run."""
        return self.root / "latest"

    def run(self, run_hash: str) -> Path:
        """Folder of a run."""
        return self.root / run_hash

    def stage(self, stage: Keyed) -> Path:
        """Folder of a stage key."""
        return self.store / f"{stage.name}-{stage.key[:KEY_LENGTH]}"

    def lock(self, name: str) -> Path:
        """File of a lock."""
        return self.store / "locks" / f"{name}.lock"

    def recordings(self, root: Path | Address) -> Path:
        """Journal with the digests of the recordings below a data folder or an address."""
        return self.store / "recordings" / f"{digest_of(str(root.absolute()), 8)}.log"


def finished_runs(root: Path) -> list[Path]:
    """Return the folders of finished runs in an outputs folder, the last finished first."""
    found = [p for p in root.iterdir() if p.name != "latest" and is_own_folder(p) and (p / NAME).is_file()]
    return sorted(found, key=lambda path: ((path / NAME).stat().st_mtime_ns, path.name), reverse=True)


def latest_run(outputs: Outputs) -> str | None:
    """Return the name of the run that ``latest`` points at, None where it points at none of these outputs.

    It is a link to the run's folder or, where there are no links, a file that holds its name. In a copy that
    followed links, as many archives are, it is a folder: then the run that finished last is meant.
    """
    if is_own_folder(outputs.latest):
        return next((path.name for path in finished_runs(outputs.root)), None)
    try:
        is_link = outputs.latest.is_symlink()
        name = os.readlink(outputs.latest) if is_link else read_file(outputs.latest, 255).decode().strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError, ManifestError):
        return None
    return name if are_plain([name]) and is_own_folder(outputs.run(name)) else None


def set_latest(outputs: Outputs, name: str, way: Way) -> None:
    """Make ``latest`` point at a run, synced; a folder of that name stays as it is."""
    if is_own_folder(outputs.latest):
        return
    if latest_run(outputs) == name and outputs.latest.is_symlink() == (way == "symlink"):
        return
    if way != "symlink":
        commit_files(outputs.root, {"latest": f"{name}\n".encode()})
        return
    temporary = outputs.root / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        os.symlink(name, temporary)
        os.replace(temporary, outputs.latest)
        sync_folder(outputs.root)
    except OSError as error:
        raise storage_error(error, outputs.root) from error
