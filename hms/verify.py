"""Check a run against its records, mend it, export it, and clean the store."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hms.config import ConfigError
from hms.manifest import NAME, NUMERIC, ManifestError, read_manifest, versions, write_checked
from hms.plan import Outputs, make_plan
from hms.progress import say
from hms.results import Run, list_runs
from hms.sources.base import current_digest
from hms.store import (
    JOURNAL,
    KEY_FILE,
    StageFolder,
    commit_files,
    digest_file,
    folder_size,
    key_note,
    lock,
    storage_error,
)

__all__ = ["Finding", "Report", "export_run", "garbage", "remove_run", "repair", "sweep_garbage", "verify"]


RUN_AGAIN = "run it again with the same command, what is whole is reused"


@dataclass(frozen=True)
class Finding:
    """A file that is not what its record says."""

    path: str
    problem: str


@dataclass
class Report:
    """What a verification found."""

    checked: int = 0
    bytes_read: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remedy: str = "hms verify {run} --repair computes again what is wrong"
    """What to do about the findings, for a run of the name ``{run}``."""

    def add(self, path: str, problem: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(path, problem))


def verify(path: Path) -> Report:
    """Read every file of a run again, and the records and recordings behind it; believe nothing.

    Parameters
    ----------
    path : folder of a run, in its outputs folder or exported
    """
    report = Report()
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        report.add(f"{path.name}/{NAME}", str(error))
        report.remedy = RUN_AGAIN
        return report
    report.checked += 1
    for name, (size, digest) in manifest["files"].items():
        _check_file(report, path, name, size, digest)
    _find_strangers(report, path, manifest)
    if not manifest.get("exported"):
        for stage in manifest["stages"].values():
            _check_stage_folder(report, path.parent / "store" / stage["folder"], stage)
        _check_recordings(report, path.parent, manifest)
    return report


def _check_file(report: Report, folder: Path, name: str, size: int, digest: str) -> None:
    file = folder / name
    try:
        actual = file.stat().st_size
        seen = digest_file(file)
    except FileNotFoundError:
        report.add(f"{folder.name}/{name}", "missing")
        return
    except OSError as error:
        report.add(f"{folder.name}/{name}", f"cannot be read: {error.strerror}")
        return
    report.checked, report.bytes_read = report.checked + 1, report.bytes_read + actual
    if actual != size:
        report.add(f"{folder.name}/{name}", f"has {actual} bytes, not {size}")
    elif seen != digest:
        report.add(f"{folder.name}/{name}", "content differs from its digest")


def _find_strangers(report: Report, folder: Path, manifest: dict[str, Any]) -> None:
    """Report files in the run's own folders that the manifest does not name."""
    parents = {parent.as_posix() for name in manifest["files"] for parent in Path(name).parents} - {"."}
    for parent in sorted(parents):
        for entry in sorted(os.listdir(folder / parent)) if (folder / parent).is_dir() else ():
            path = f"{parent}/{entry}"
            if path not in manifest["files"] and path not in parents:
                report.add(f"{folder.name}/{path}", "is not part of the run")


def _check_stage_folder(report: Report, folder: Path, stage: dict[str, Any]) -> None:
    """Check the journal of a stage and the note of what is in its key."""
    where = f"store/{folder.name}"
    if not (folder / JOURNAL).exists():
        report.add(f"{where}/{JOURNAL}", "missing")
    else:
        recorded = StageFolder(folder).load()
        if recorded.damaged_lines:
            report.add(f"{where}/{JOURNAL}", f"{recorded.damaged_lines} records are damaged")
        packed = [name for name in recorded.files if name.startswith("rows-")]
        for name, problem in recorded.check(packed, reread=True)[0].items():
            report.add(f"{where}/{name}", problem)
        report.checked += len(packed)
    report.checked += 2
    try:
        expected = {"key": stage["key"], "fingerprint": stage["fingerprint"], **stage["content"]}
        whole = (folder / KEY_FILE).read_bytes() == key_note(expected)
    except FileNotFoundError:
        report.add(f"{where}/{KEY_FILE}", "missing")
    else:
        if not whole:
            report.add(f"{where}/{KEY_FILE}", "content differs from the key")


def _check_recordings(report: Report, outputs: Path, manifest: dict[str, Any]) -> None:
    """Read the recordings again and compare them with what the run was made from."""
    run = Run(outputs / manifest["run"])
    root = Path(manifest["execution"]["root"])
    if not any(name.partition("/")[0].endswith("_out") for name in manifest["files"]):
        return
    if not root.is_dir():
        report.notes.append(f"the recordings in {root} are not there any more and were not checked")
        return
    plan = make_plan(run.config)
    sizes: dict[str, int] = {}
    for part in plan.parts:
        known = plan.digests.known.get(part.name)
        if known is None or part.place.size is None:
            continue
        sizes[part.place.path] = part.place.size
        if current_digest(plan.source, part) != known[2]:
            report.add(part.place.path, f"the {part.kind} changed since it was prepared")
    report.checked, report.bytes_read = report.checked + len(sizes), report.bytes_read + sum(sizes.values())


# --- repair --------------------------------------------------------------------------------------


def other_versions(manifest: dict[str, Any]) -> list[str]:
    """Return the libraries that can change numbers and are not what the run was made with."""
    now = versions()
    names = ("python", "hms", *NUMERIC)
    then = manifest["versions"]
    return [f"{n} {then.get(n)} -> {now[n]}" for n in names if then.get(n) != now[n]]


def repair(path: Path, report: Report, *, force: bool = False) -> Run:
    """Compute again what a verification found damaged or missing, and nothing else.

    Raises
    ------
    ConfigError
        If libraries have changed since the run, unless ``force``; or if its manifest is lost.
    """
    from hms.runner import execute

    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        raise ConfigError(f"{error}; {RUN_AGAIN}") from None
    if manifest.get("exported"):
        raise ConfigError(f"{path} is an export without a store behind it; export the run again")
    changed = other_versions(manifest)
    if changed and not force:
        raise ConfigError(
            f"other versions are installed than the run was made with ({', '.join(changed)}); "
            f"what is recomputed may differ in its last digits. --force repairs all the same"
        )
    run = Run(path)
    cfg = run.config.override(f"outputs_dir={json.dumps(str(path.parent))}")
    _forget_damage(path.parent, manifest)
    plan = make_plan(with_stages(cfg, manifest))
    for part in plan.parts:
        known = plan.digests.known.get(part.name)
        if known is None or part.place.size is None:
            continue
        if current_digest(plan.source, part) != known[2]:
            plan.digests.forget(part)
    if plan.run_hash != manifest["run"]:
        say(f"the votes table or the recordings changed since; the repaired run is {plan.run_hash}")
    (path / NAME).unlink()
    return execute(plan)


def with_stages(cfg: Any, manifest: dict[str, Any]) -> Any:
    """Return a configuration that makes the stages a run made."""
    from dataclasses import replace

    import hms.stages  # noqa: F401 - registers the stages
    from hms.stage import stage_names

    made = [name for name in stage_names() if name in manifest["stages"]]
    return replace(cfg, stages=tuple(made))


def _forget_damage(outputs: Path, manifest: dict[str, Any]) -> None:
    """Read the stored files behind a run again and record only those that are whole."""
    places = Outputs(outputs)
    for stage in manifest["stages"].values():
        folder = StageFolder(places.store / stage["folder"]).load()
        if not folder.path.is_dir():
            continue
        with lock(places.lock(folder.path.name), waiting=f"another run computes {folder.path.name}", say=say):
            folder.load()
            bad, _ = folder.check(list(folder.files), reread=True)
            folder.drop(bad)
            folder.compact()
            note = {"key": stage["key"], "fingerprint": stage["fingerprint"], **stage["content"]}
            commit_files(folder.path, {KEY_FILE: key_note(note)})


# --- export --------------------------------------------------------------------------------------


def export_run(run: Run, destination: Path) -> int:
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


# --- forgetting ----------------------------------------------------------------------------------


def remove_run(run: Run, outputs: Path) -> None:
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
        others = list_runs(outputs)
        if others:
            os.symlink(others[0].path.name, places.latest)


def _is_exported(run: Run) -> bool:
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
    for run in list_runs(outputs):
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
