"""What no finished run points at, and forgetting runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hms.config.reading import is_file, names_in
from hms.errors import ConfigError, ManifestError
from hms.store.files import TEMPORARY, commit_files, folder_size, sync_folder
from hms.store.folders import JOURNAL, KEY_FILE, StageFolder, compacted_recordings
from hms.store.inside import is_own_folder, parse_json, read_file
from hms.store.links import usable_way
from hms.store.locks import is_held, lock
from hms.store.manifests import NAME, read_manifest, unfinish
from hms.store.package import Package, list_packages
from hms.store.places import HASH_LENGTH, Outputs, latest_run, set_latest
from hms.store.seen import FOLDER as SEEN
from hms.terminal import say

LEAST_SPARE = 4096
"""Spare bytes from which on a journal is written again."""


def remove_run(run: Package, outputs: Path) -> None:
    """Forget a run: remove its folder; what it shares stays in the store until `gc`.

    Raises `ConfigError` if the run is in another folder, or is an exported copy: nothing else holds its
    files.
    """
    places = Outputs(outputs)
    path = run.path
    if path.parent != outputs.resolve() or _is_exported(run):
        raise ConfigError(
            f"{path} is not a run of {outputs}; name the outputs of the run with --outputs, and to remove an "
            "exported copy, delete its folder"
        )
    with lock(places.lock(path.name)):
        unfinish(path)
        shutil.rmtree(path)
        sync_folder(places.root)
    if latest_run(places) is None and (others := list_packages(outputs)):
        set_latest(places, others[0].path.name, usable_way(places.store, "auto"))
    elif latest_run(places) is None and not is_own_folder(places.latest):
        places.latest.unlink(missing_ok=True)


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
    journals: list[tuple[Path, int]] = field(default_factory=list)
    """Journals to be written again, with the bytes that only repeat what later ones say."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(size for _, size in [*self.files, *self.folders, *self.journals])


def garbage(outputs: Path) -> Garbage:
    """Find what no finished run points at, leaving out what a run in progress uses; changes nothing."""
    places = Outputs(outputs)
    busy = _in_progress(places)  # first: a run that finishes after this is then left alone
    wanted = _pointed_at(outputs)
    found = Garbage()
    for folder in _stage_folders(places):
        if folder.name in busy:
            found.in_use.append(folder.name)
        elif folder.name not in wanted:
            found.folders.append((folder, folder_size(folder)[1]))
        else:
            _add_files(found, folder, wanted[folder.name])
    unfinished = (path for path in _unfinished(outputs) if path.name not in busy)
    found.folders += [(path, folder_size(path)[1]) for path in unfinished]
    for journal in sorted(_recording_journals(places)) if not busy else ():
        _add_journal(found, journal, journal.stat().st_size - len(compacted_recordings(journal)))
    return found


def _add_journal(found: Garbage, journal: Path, spare: int) -> None:
    if spare > LEAST_SPARE:
        found.journals.append((journal, spare))


def _stage_folders(places: Outputs) -> list[Path]:
    """Return the folders of stages; a link among them is not ours, and not followed."""
    folders = filter(is_own_folder, map(places.store.__truediv__, names_in(places.store)))
    return [path for path in folders if (path / KEY_FILE).exists() or (path / JOURNAL).exists()]


def _recording_journals(places: Outputs) -> Iterator[Path]:
    folder = places.store / "recordings"
    for name in names_in(folder) if is_own_folder(folder) else ():
        if name.endswith(".log") and is_file(folder / name) and not (folder / name).is_symlink():
            yield folder / name


def _add_files(found: Garbage, folder: Path, wanted: _Wanted) -> None:
    stage = StageFolder(folder).load()
    packed = {
        record.file for record in stage.records.values() if record.file and record.file.startswith("rows-")
    }
    kept = {KEY_FILE, JOURNAL} | packed | wanted.names
    kept |= {stored.name for stored in stage.files.values() if stored.digest in wanted.digests}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in kept and not entry.is_dir(follow_symlinks=False):
                found.files.append((Path(entry.path), entry.stat(follow_symlinks=False).st_size))
    _add_journal(found, stage.journal, stage.spare_bytes())


@dataclass
class _Wanted:
    """What finished runs need of a folder of the store: files by name, and by content."""

    names: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)


def _pointed_at(outputs: Path) -> dict[str, _Wanted]:
    """Return, by stage folder, the stored files that finished runs point at or are copies of."""
    wanted: dict[str, _Wanted] = {}
    for run in list_packages(outputs):
        try:
            manifest = read_manifest(run.path)
        except ManifestError as error:
            raise ConfigError(
                f"{error}; nothing is removed until you run it again or remove it with hms rm"
            ) from None
        digests = {digest for _, digest in manifest["files"].values()}
        for stage in manifest["stages"].values():
            wanted.setdefault(stage["folder"], _Wanted()).digests |= digests
        for name in manifest["files"]:
            if (run.path / name).is_symlink():
                *_, folder, file = os.readlink(run.path / name).rsplit("/", 2)
                wanted.setdefault(folder, _Wanted()).names.add(file)
    return wanted


def _unfinished(outputs: Path) -> Iterator[Path]:
    """Yield run folders without a manifest; one with a file that no run has there is somebody's own."""
    for path in (outputs / name for name in names_in(outputs)):
        is_hash = len(path.name) == HASH_LENGTH and all(c in "0123456789abcdef" for c in path.name)
        if is_hash and is_own_folder(path) and not (path / NAME).exists() and _is_of_a_run(path):
            yield path


def _is_of_a_run(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        files = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
    return all(name == "config.yaml" or name.startswith(TEMPORARY) for name in files)


def _in_progress(places: Outputs) -> set[str]:
    """Return the folders that runs in progress use or write."""
    busy: set[str] = set()
    for note in _notes(places):
        if is_held(note.with_suffix(".lock")):
            busy.update(_folders_of(note))
    return busy


def _notes(places: Outputs) -> list[Path]:
    running = places.store / "running"
    names = names_in(running) if is_own_folder(running) else ()
    return [running / name for name in names if name.endswith(".json")]


def _folders_of(note: Path) -> list[str]:
    """Return the folders that a note names; raises if it cannot be read, as nothing is known then."""
    try:
        folders = parse_json(read_file(note))["folders"]
        return [str(name) for name in folders]
    except FileNotFoundError:  # the run has ended meanwhile
        return []
    except (ValueError, TypeError, KeyError, ManifestError) as error:
        raise ConfigError(f"{note} is no note of a run in progress ({error}); remove it if none is") from None


def sweep_garbage(outputs: Path) -> Garbage:
    """Remove what no finished run points at; a run in progress keeps what it uses.

    Journals that repeat themselves are written again.
    """
    places = Outputs(outputs)
    if not is_own_folder(places.store):
        return Garbage()
    with lock(places.lock("gc"), waiting="waiting for another clean-up", say=say):
        found = garbage(outputs)
        _forget_dead_notes(places)
        if is_own_folder(places.store / SEEN):
            shutil.rmtree(places.store / SEEN)  # what was found is found again
        for folder, _ in found.folders:
            shutil.rmtree(folder)
        recordings = places.store / "recordings"
        by_folder: dict[Path, list[str]] = {path.parent: [] for path, _ in found.journals}
        for file, _ in found.files:
            by_folder.setdefault(file.parent, []).append(file.name)
        by_folder.pop(recordings, None)
        for path, names in by_folder.items():
            with lock(places.lock(path.name)):
                stage = StageFolder(path).load()
                stage.drop(names)
                stage.compact()
                for name in names:
                    (path / name).unlink(missing_ok=True)
        for journal, _ in found.journals:
            if journal.parent == recordings:
                commit_files(recordings, {journal.name: compacted_recordings(journal)})
    return found


def _forget_dead_notes(places: Outputs) -> None:
    """Remove the notes of runs that ended without doing so; only while no run can start."""
    for note in _notes(places):
        guard = note.with_suffix(".lock")
        if not is_held(guard):
            note.unlink(missing_ok=True)
            guard.unlink(missing_ok=True)
