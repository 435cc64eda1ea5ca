"""The manifest of a run: what it was made from, by what, when, and the digest of every file."""

from __future__ import annotations

import errno
import json
import os
import platform
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hms.config.compose import default_stages
from hms.config.identity import digest_of, plain
from hms.config.paths import located
from hms.engine.account import Account
from hms.engine.plan import Plan
from hms.errors import ManifestError
from hms.pipeline.selection import asked_stages, config_of
from hms.pipeline.stage import ItemStage
from hms.sources.base import SourceParams
from hms.sources.pseudonyms import WITHHELD, Pseudonymised, Pseudonyms, hidden_settings, told_words
from hms.store.files import Stored, digest_bytes, digest_file
from hms.store.folders import KEY_FILE, StageFolder, read_note
from hms.store.links import Way
from hms.store.manifests import FORMAT, NAME, git_commit, read_manifest, versions, write_checked
from hms.store.shards import INDEX

if TYPE_CHECKING:
    from hms.pipeline.tables import Tables


def write_manifest(
    plan: Plan, tables: Tables, account: Account, files: dict[str, list[Any]], began: float
) -> dict[str, Any]:
    """Write the manifest, the last file of a run: with it the run is finished. Return what is read of it.

    ``files`` are in the order of their names.
    """
    content = {**_content(plan, tables, account, began), "files": files}
    digest = write_checked(plan.outputs.run(plan.run_hash), content)
    head = json.loads(json.dumps({**content, "files": {}}))
    return {**head, "files": content["files"], "digest": digest}


def _content(plan: Plan, tables: Tables, account: Account, began: float) -> dict[str, Any]:
    used = int(tables.is_used.sum())
    return {
        "format": FORMAT,
        "run": plan.run_hash,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - began, 3),
        "command": _command(plan),
        "execution": {
            "data": _absolute_data(plan),
            "root": WITHHELD if _pseudonyms(plan) else str(plan.source.root.absolute()),
            "n_jobs": plan.cfg.n_jobs,
            "format": plan.cfg.package.format,
            "max_failed_share": plan.cfg.max_failed_share,
            "plugins": list(plan.cfg.plugins),
            "cores": os.cpu_count(),
        },
        "config": config_of(plan.cfg, plan.products),
        "asked": _asked(plan),
        "counts": {"items": len(plan.items), "used": used, "excluded": len(plan.items) - used},
        "retry": sorted(plan.items["item_id"].iloc[row] for row in plan.transient),
        "excluded": tables.excluded.astype(str).to_dict("records"),
        "votes": {"path": str(plan.votes.path), "digest": plan.votes.digest},
        "patients": plan.votes.patients,
        "recordings": {
            "count": len(plan.places),
            "digest": digest_of([[p.name, p.place.size, digest] for p, digest in plan.parts_with_digests()]),
            "mended": _mended(plan),
        },
        "stages": {stage.name: _stage_note(plan, stage, account) for stage in plan.products},
        "times": {name: round(seconds, 4) for name, seconds in account.seconds.items()},
        "versions": versions(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
    }


def _asked(plan: Plan) -> list[str]:
    """Return what ``stages`` names, whatever was typed: the same for runs that are the same."""
    cfg = replace(plan.cfg, stages=tuple(str(name) for name in default_stages()))
    return asked_stages(cfg, [stage.name for stage in plan.products])


def _mended(plan: Plan) -> dict[str, list[list[str]]]:
    """Return what was mended of recordings: a flag and a text each."""
    notes = plan.digests.notes
    return {place.recording: notes[place.recording] for place in plan.places if notes.get(place.recording)}


def _absolute_data(plan: Plan) -> dict[str, Any]:
    """Return the section ``data`` with paths that mean the same from any folder; none behind pseudonyms."""
    pseudonyms, params = _pseudonyms(plan), plan.cfg.data
    if pseudonyms is not None and isinstance(params, SourceParams):
        return hidden_settings(params, pseudonyms)
    data = {**plain(plan.cfg.data), "root": _absolute_root(plan)}
    if data.get("extra") is not None:
        data["extra"] = str(Path(data["extra"]).expanduser().absolute())
    if data.get("windows") is not None:
        data["windows"] = str(plan.votes.path.absolute())
    return data


def _pseudonyms(plan: Plan) -> Pseudonyms | None:
    return plan.source.pseudonyms if isinstance(plan.source, Pseudonymised) else None


def _command(plan: Plan) -> str:
    """Return the command line where the program was called by one, else that it was not.

    Behind pseudonyms only what names no place and nothing of the data is told.
    """
    path = Path(sys.argv[0])
    program = "hms" if path.parts[-2:] == ("hms", "__main__.py") else path.name
    words = told_words(sys.argv[1:], private=_pseudonyms(plan) is not None)
    return " ".join([program, *words]) if program in ("run.py", "hms") else "hms.run, from Python"


def _absolute_root(plan: Plan) -> str | None:
    """Return where the run finds its recordings again; None if that is inside its outputs."""
    given: str | None = plan.cfg.at("data.root")
    outputs = plan.outputs.root.absolute()
    if given is None and plan.source.root.absolute().is_relative_to(outputs):
        return None
    return str((plan.source.root if given is None else located(given)).absolute())


def _stage_note(plan: Plan, stage: Any, account: Account) -> dict[str, Any]:
    folder = plan.outputs.stage(stage)
    note = {
        "key": stage.key,
        "folder": folder.name,
        "fingerprint": read_note(folder / KEY_FILE).get("fingerprint") or stage.fingerprint,
        "computed": account.computed.get(stage.name, 0),
        "seconds": round(account.seconds.get(stage.name, 0.0), 4),
        "settings": stage.all_settings(),
        "content": stage.key_content,
    }
    if not isinstance(stage, ItemStage):
        note["stored"] = {
            path: target.name for path, (target, _) in account.files.items() if path in stage.files
        }
    return note


def is_whole(plan: Plan, *, remember: bool = False) -> bool:
    """Tell whether a plan's run is finished and every file of it is what its record says.

    With ``remember``, files that were found moved are recorded as such; a look changes nothing.
    """
    folder = plan.outputs.run(plan.run_hash)
    if not (folder / NAME).exists() or plan.due():
        return False
    try:
        manifest = read_manifest(folder)
    except ManifestError:
        return False
    if manifest["retry"]:
        return False
    stored: dict[str, StageFolder] = {f.path.name: f for f in plan.folders.values()}
    for stage in plan.tables:
        table = StageFolder(plan.outputs.stage(stage)).load()
        table.reconcile(list(table.files))
        if remember:
            table.remember()
        stored[table.path.name] = table
    files = _StoredFiles(stored, plan.cfg.package.link)
    return files.are_behind(folder, {path: digest for path, (_, digest) in manifest["files"].items()})


class _StoredFiles:
    """The files that stand, whole, behind those of a run."""

    def __init__(self, stored: Mapping[str, StageFolder], asked: Way | Literal["auto"]) -> None:
        self._stored, self._asked = stored, asked

    def are_behind(self, run: Path, digests: Mapping[str, str]) -> bool:
        """Tell whether each file of a run stands for a stored one of its digest, or is whole without one."""
        linked: dict[str, dict[str, str]] = {}
        for path, digest in digests.items():
            try:
                target = os.readlink(f"{run}/{path}")
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno != errno.EINVAL:  # the answer of what is not a link
                    raise
                if not self._is_copy(run / path, digest):
                    return False
                continue
            *_, folder, name = target.rsplit("/", 2)
            if self._asked not in ("auto", "symlink") or folder not in self._stored:
                return False
            if linked.setdefault(folder, {}).setdefault(name, digest) != digest:
                return False
        return all(self._stored[folder].files.have(wanted) for folder, wanted in linked.items())

    @cached_property
    def _by_digest(self) -> dict[str, Stored]:
        return {file.digest: file for folder in self._stored.values() for file in folder.files.values()}

    def _is_copy(self, place: Path, digest: str) -> bool:
        status = os.lstat(place)
        if not stat.S_ISREG(status.st_mode):
            return False
        if place.name in ("config.yaml", INDEX):
            return digest_bytes(place.read_bytes()) == digest
        way = "hardlink" if status.st_nlink > 1 else "copy"
        stored = self._by_digest.get(digest)
        if self._asked not in ("auto", way) or stored is None or status.st_size != stored.size:
            return False
        return status.st_mtime_ns == stored.mtime_ns or digest_file(place) == digest
