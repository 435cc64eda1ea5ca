"""Check a run against its records, and mend it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hms.config.paths import located
from hms.engine.plan import Plan, plan_of
from hms.errors import ConfigError, ManifestError, reraise_fault
from hms.pipeline.stage import stage_names
from hms.sources.base import Part, current_digest
from hms.store.files import commit_files, digest_file
from hms.store.folders import JOURNAL, KEY_FILE, StageFolder, key_note, key_note_before
from hms.store.inside import find_inside, is_own_folder, read_file
from hms.store.locks import lock
from hms.store.manifests import NAME, NUMERIC, read_manifest, unfinish, versions
from hms.store.package import Package
from hms.store.places import Outputs
from hms.terminal import say

EXPORT_AGAIN = "export the run again"
RUN_AGAIN = "run it again with the same command; undamaged results are reused"

UNREADABLE = "cannot be read"
"""How the problem of a file that the disk does not give begins."""


@dataclass(frozen=True)
class Finding:
    """A file that is not what its record says."""

    path: str
    problem: str


@dataclass
class Verification:
    """What a verification found."""

    checked: int = 0
    bytes_read: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remedy: str = "hms verify {run} --repair recomputes what is wrong"
    """What to do about the findings of the run ``{run}``."""
    scope: str = "the run, the store behind it, and its recordings"
    """What was read."""

    def add(self, path: str, problem: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(path, problem))


def verify(path: Path, *, trust: bool = False) -> Verification:
    """Read every file of a run again, and the records and recordings behind it; believe nothing.

    ``path`` is a run's folder, in its outputs folder or exported. Unless ``trust``, no code that it names is
    imported to find its recordings.
    """
    report = Verification()
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
    if manifest.get("exported"):
        report.scope, report.remedy = "the export, which has no store behind it", EXPORT_AGAIN
    else:
        for stage in manifest["stages"].values():
            _check_stage_folder(report, path.parent / "store" / stage["folder"], stage)
        _check_recordings(report, Package(path, trust=trust))
    return report


def _check_file(report: Verification, folder: Path, name: str, size: int, digest: str) -> None:
    where = f"{folder.name}/{name}"
    try:
        path, status = find_inside(folder, name)
        if status.st_size != size:
            report.checked += 1
            report.add(where, f"has {status.st_size} bytes, not {size}")
            return
        seen = digest_file(path)
    except FileNotFoundError:
        report.add(where, "missing")
        return
    except ConfigError as error:
        report.add(where, str(error).removeprefix(f"{where} "))
        return
    except OSError as error:
        if error.errno != errno.EIO:  # a bad block is one file's; anything else says nothing of the file
            reraise_fault(error)
        report.add(where, f"{UNREADABLE}: {error.strerror}")
        return
    report.checked, report.bytes_read = report.checked + 1, report.bytes_read + size
    if seen != digest:
        report.add(where, "content differs from its digest")


def _find_strangers(report: Verification, folder: Path, manifest: dict[str, Any]) -> None:
    """Report files in the run's own folders that the manifest does not name."""
    parents = {parent.as_posix() for name in manifest["files"] for parent in Path(name).parents} - {"."}
    for parent in sorted(parents):
        for entry in sorted(os.listdir(folder / parent)) if is_own_folder(folder / parent) else ():
            path = f"{parent}/{entry}"
            if path not in manifest["files"] and path not in parents:
                report.add(f"{folder.name}/{path}", "is not part of the run")


def _check_stage_folder(report: Verification, folder: Path, stage: dict[str, Any]) -> None:
    """Check the journal of a stage and the note of what is in its key."""
    where = f"store/{folder.name}"
    if folder.exists() and not is_own_folder(folder):
        report.add(where, "is a link or not a folder; it is refused")
        return
    if not (folder / JOURNAL).exists():
        report.add(f"{where}/{JOURNAL}", "missing")
    else:
        recorded = StageFolder(folder).load(believe=False)
        if recorded.damaged_lines:
            report.add(f"{where}/{JOURNAL}", f"{recorded.damaged_lines} records are damaged")
        packed = [name for name in recorded.files if name.startswith("rows-")]
        for name, problem in recorded.check(packed, reread=True)[0].items():
            report.add(f"{where}/{name}", problem)
        report.checked += len(packed)
    report.checked += 2
    try:
        whole = read_file(folder / KEY_FILE) in (_note_of(stage), _note_of(stage, key_note_before))
    except FileNotFoundError:
        report.add(f"{where}/{KEY_FILE}", "missing")
    except ManifestError as error:
        report.add(f"{where}/{KEY_FILE}", str(error))
    else:
        if not whole:
            report.add(f"{where}/{KEY_FILE}", "content differs from the key")


def _note_of(stage: dict[str, Any], text_of: Callable[[Mapping[str, Any]], bytes] = key_note) -> bytes:
    """Return the note of what is in a stage's key, as its folder has it."""
    return text_of({"key": stage["key"], "fingerprint": stage["fingerprint"], **stage["content"]})


def _check_recordings(report: Verification, run: Package) -> None:
    """Read the recordings again and compare them with what the run was made from."""
    root = located(run.manifest["execution"]["root"])
    if not any(name.partition("/")[0].endswith("_out") for name in run.manifest["files"]):
        return
    if isinstance(root, Path) and not root.exists():
        report.notes.append(f"the recordings in {root} no longer exist and were not checked")
        return
    try:
        plan = plan_of(run)
    except ConfigError as error:
        report.notes.append(f"the recordings were not checked: {error}")
        return
    sizes: dict[str, int] = {}
    for part, size, is_same in _read_again(plan):
        sizes[part.place.path] = size
        if not is_same:
            report.add(part.place.path, f"the {part.kind} changed since it was prepared")
    report.checked, report.bytes_read = report.checked + len(sizes), report.bytes_read + sum(sizes.values())


def _read_again(plan: Plan) -> Iterator[tuple[Part, int, bool]]:
    """Yield every part that was read and is there, its size, and whether it is what it was then."""
    for part in plan.parts:
        known = plan.digests.known.get(part.name)
        if known is not None and part.place.size is not None:
            yield part, part.place.size, current_digest(plan.source, part) == known[2]


# --- repair --------------------------------------------------------------------------------------


def other_versions(manifest: dict[str, Any]) -> list[str]:
    """Return the libraries that can change numbers and are not what the run was made with."""
    now = versions()
    names = ("python", "hms", *NUMERIC)
    then = manifest["versions"]
    return [f"{n} {then.get(n)} -> {now[n]}" for n in names if then.get(n) != now[n]]


def repair(path: Path, *, force: bool = False, trust: bool = False) -> Package:
    """Compute again what of a run is damaged or missing, and nothing else.

    Raises `ConfigError` if libraries have changed since the run, unless ``force``; or if its manifest is
    lost.
    """
    from hms.engine.runner import execute

    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        raise ConfigError(f"{error}; {RUN_AGAIN}") from None
    if manifest.get("exported"):
        raise ConfigError(f"{path} is an export without a store; {EXPORT_AGAIN}")
    changed = other_versions(manifest)
    if changed and not force:
        raise ConfigError(
            f"other versions are installed than the run was made with ({', '.join(changed)}); "
            "recomputed results may differ in their last digits. --force repairs anyway"
        )
    run = Package(path, trust=trust)
    cfg = run.config.override(f"outputs_dir={json.dumps(str(path.parent))}")
    _forget_damage(path.parent, manifest)
    stages = tuple(name for name in stage_names() if name in manifest["stages"])
    plan = plan_of(run, replace(cfg, stages=stages))
    for part, _, is_same in _read_again(plan):
        if not is_same:
            plan.digests.forget(part)
    if plan.run_hash != manifest["run"]:
        say(f"the votes table or the recordings have changed since; the repaired run is {plan.run_hash}")
    unfinish(path)
    return execute(plan)


def _forget_damage(outputs: Path, manifest: dict[str, Any]) -> None:
    """Read the stored files behind a run again and record only those that are whole."""
    places = Outputs(outputs)
    for stage in manifest["stages"].values():
        folder = StageFolder(places.store / stage["folder"])
        if not folder.path.exists():
            continue
        if not is_own_folder(folder.path):
            raise ConfigError(f"{folder.path} is a link or not a folder; it is not repaired")
        with lock(places.lock(folder.path.name), waiting=f"another run computes {folder.path.name}", say=say):
            folder.load(believe=False)
            folder.reconcile(list(folder.files), reread=True)
            folder.compact()
            commit_files(folder.path, {KEY_FILE: _note_of(stage)})
