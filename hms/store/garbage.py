"""What no finished run points at, and forgetting runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hms.errors import ConfigError, ManifestError
from hms.store.files import folder_size
from hms.store.folders import JOURNAL, KEY_FILE, StageFolder
from hms.store.locks import lock
from hms.store.manifests import NAME, read_manifest
from hms.store.package import Package, list_packages
from hms.store.places import Outputs
from hms.terminal import say

# --- forgetting ----------------------------------------------------------------------------------


def remove_run(run: Package, outputs: Path) -> None:
    """Forget a run: remove its folder; what it shares stays in the store until `gc`.

    Raises
    ------
    ConfigError
        If the run is in another folder, or is an exported copy: nothing else holds its files.
    """
    places = Outputs(outputs)
    path = run.path
    if path.parent != outputs.resolve() or _is_exported(run):
        raise ConfigError(
            f"{path} is no run of {outputs}, whose results would stay in its store; "
            "name a run's outputs with --outputs, and remove an exported copy by removing its folder"
        )
    with lock(places.lock(path.name)):
        (path / NAME).unlink()
        shutil.rmtree(path)
    if places.latest.is_symlink() and os.readlink(places.latest) == path.name:
        places.latest.unlink()
        others = list_packages(outputs)
        if others:
            os.symlink(others[0].path.name, places.latest)


def _is_exported(run: Package) -> bool:
    try:
        return bool(run.manifest.get("exported"))
    except ConfigError:  # a damaged manifest: `hms rm` is the way to be rid of such a run
        return False


@dataclass
class Garbage:
    """What no finished run points at: paths with their sizes."""

    files: list[tuple[Path, int]] = field(default_factory=list)
    folders: list[tuple[Path, int]] = field(default_factory=list)
    in_use: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(size for _, size in [*self.files, *self.folders])


def garbage(outputs: Path) -> Garbage:
    """Find what no finished run points at, leaving out what a run in progress uses."""
    places = Outputs(outputs)
    busy = _in_progress(places)  # first: a run that finishes after this is then left alone
    wanted = _pointed_at(outputs)
    found = Garbage()
    stage_folders = [
        p for p in sorted(places.store.glob("*")) if (p / KEY_FILE).exists() or (p / JOURNAL).exists()
    ]
    for folder in stage_folders:
        if folder.name in busy:
            found.in_use.append(folder.name)
        elif folder.name not in wanted:
            found.folders.append((folder, folder_size(folder)[1]))
        else:
            _add_files(found, folder, wanted[folder.name])
    for path in _unfinished(outputs):
        if path.name in busy:
            continue
        found.folders.append((path, folder_size(path)[1]))
    return found


def _add_files(found: Garbage, folder: Path, wanted: set[str]) -> None:
    stage = StageFolder(folder).load()
    packed = {
        record.file for record in stage.records.values() if record.file and record.file.startswith("rows-")
    }
    for entry in os.scandir(folder):
        if entry.name not in wanted and entry.name not in packed and entry.name not in (KEY_FILE, JOURNAL):
            found.files.append((Path(entry.path), entry.stat(follow_symlinks=False).st_size))


def _pointed_at(outputs: Path) -> dict[str, set[str]]:
    """Return, by stage folder, the stored files that finished runs point at."""
    wanted: dict[str, set[str]] = {}
    for run in list_packages(outputs):
        try:
            manifest = read_manifest(run.path)
        except ManifestError as error:
            raise ConfigError(
                f"{error}; nothing is removed until it is run again or removed with hms rm"
            ) from None
        for stage in manifest["stages"].values():
            wanted.setdefault(stage["folder"], set())
        for name in manifest["files"]:
            path = run.path / name
            if path.is_symlink():
                *_, folder, file = os.readlink(path).rsplit("/", 2)
                wanted.setdefault(folder, set()).add(file)
    return wanted


def _unfinished(outputs: Path) -> Iterator[Path]:
    """Yield run folders without a manifest."""
    for path in sorted(outputs.iterdir()) if outputs.is_dir() else ():
        is_hash = len(path.name) == 16 and all(c in "0123456789abcdef" for c in path.name)
        if is_hash and path.is_dir() and not path.is_symlink() and not (path / NAME).exists():
            yield path


def _in_progress(places: Outputs) -> set[str]:
    """Return the folders that runs in progress use or write; forget the notes of dead runs."""
    busy: set[str] = set()
    for note in sorted((places.store / "running").glob("*.json")):
        guard = note.with_suffix(".lock")
        try:
            with lock(guard, timeout=0):
                note.unlink(missing_ok=True)
                guard.unlink(missing_ok=True)
        except TimeoutError:
            busy.update(json.loads(note.read_bytes())["folders"])
    return busy


def sweep_garbage(outputs: Path) -> Garbage:
    """Remove what no finished run points at; a run in progress keeps what it uses."""
    places = Outputs(outputs)
    with _no_run_starts(places):
        found = garbage(outputs)
        for folder, _ in found.folders:
            shutil.rmtree(folder)
        by_folder: dict[Path, list[str]] = {}
        for file, _ in found.files:
            by_folder.setdefault(file.parent, []).append(file.name)
        for path, names in by_folder.items():
            with lock(places.lock(path.name)):
                stage = StageFolder(path).load()
                stage.drop(names)
                stage.compact()
                for name in names:
                    (path / name).unlink(missing_ok=True)
    return found


@contextmanager
def _no_run_starts(places: Outputs) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(lock(places.lock("gc"), waiting="another clean-up goes on; waiting", say=say))
        yield
