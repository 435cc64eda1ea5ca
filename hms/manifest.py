"""The manifest of a run: what it was made from, by what, when, and the digest of every file."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hms.config import digest_of, plain
from hms.plan import Plan, config_of
from hms.stage import ItemStage
from hms.store import KEY_FILE, StageFolder, commit_files, digest_bytes

if TYPE_CHECKING:
    from hms.runner import Account
    from hms.tables import Tables

__all__ = ["ManifestError", "is_whole", "read_manifest", "versions", "write_manifest"]

NAME = "manifest.json"
NUMERIC = ("numpy", "scipy", "pandas", "pyarrow", "PyWavelets", "scikit-learn", "xxhash")
"""Libraries whose version can change numbers."""

OTHERS = ("hydra-core", "omegaconf", "joblib", "filelock", "matplotlib", "Jinja2")
_BLANK = "0" * 32


class ManifestError(Exception):
    """A manifest is missing, damaged or not one."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of every dependency."""
    return {"python": platform.python_version()} | {
        name: _version(name) for name in ("hms", *NUMERIC, *OTHERS)
    }


@cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a run's manifest and check it against its own digest.

    Raises
    ------
    ManifestError
        If there is none, or a bit of it changed.
    """
    try:
        data = (folder / NAME).read_bytes()
    except OSError:
        raise ManifestError(f"{folder.name} has no {NAME}: the run is not finished") from None
    stated = re.search(rb'"digest": "([0-9a-f]{32})"\n}\n$', data)
    blank = data if stated is None else data[: stated.start(1)] + _BLANK.encode() + data[stated.end(1) :]
    if stated is None or digest_bytes(blank) != stated[1].decode():
        raise ManifestError(f"{folder.name}/{NAME} is damaged: its content differs from its digest")
    manifest = json.loads(data)
    assert isinstance(manifest, dict)
    return manifest


def write_manifest(
    plan: Plan, tables: Tables, account: Account, files: Mapping[str, list[Any]], began: float
) -> None:
    """Write the manifest, the last file of a run: with it the run is finished."""
    content = _content(plan, tables, account, began)
    write_checked(plan.outputs.run(plan.run_hash), {**content, "files": dict(sorted(files.items()))})


def write_checked(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest whose last entry is the digest of the rest."""
    rows = ((name, _listed(value)) for name, value in {**content, "digest": _BLANK}.items())
    blank = ("{\n" + ",\n".join(f" {json.dumps(name)}: {text}" for name, text in rows) + "\n}\n").encode()
    data = blank[: blank.rindex(_BLANK.encode())] + digest_bytes(blank).encode() + b'"\n}\n'
    commit_files(folder, {NAME: data})


def _listed(value: Any) -> str:
    """Return a value's JSON, a dictionary's entries a line each; indenting all takes ten times as long."""
    encode = json.JSONEncoder(allow_nan=False).encode  # `json.dumps` makes one for every call
    if not isinstance(value, dict):
        return encode(value)
    rows = (f"  {encode(str(k))}: {encode(v)}" for k, v in value.items())
    return "{\n" + ",\n".join(rows) + "\n }" if value else "{}"


def _content(plan: Plan, tables: Tables, account: Account, began: float) -> dict[str, Any]:
    used = int(tables.is_used.sum())
    return {
        "format": 1,
        "run": plan.run_hash,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - began, 3),
        "command": _command(),
        "execution": {
            "data": _lasting_data(plan),
            "root": str(plan.source.root.absolute()),
            "n_jobs": plan.cfg.n_jobs,
            "max_failed_share": plan.cfg.max_failed_share,
            "plugins": list(plan.cfg.plugins),
            "cores": os.cpu_count(),
        },
        "config": config_of(plan.cfg, plan.products),
        "counts": {"items": len(plan.items), "used": used, "excluded": len(plan.items) - used},
        "retry": sorted(plan.items["item_id"].iloc[row] for row in plan.passing),
        "excluded": tables.excluded.astype(str).to_dict("records"),
        "votes": {"path": str(plan.votes.path), "digest": plan.votes.digest},
        "patients": plan.votes.patients,
        "recordings": {
            "count": len(plan.places),
            "digest": digest_of([[p.name, p.place.size, plan.digests.of(p)] for p in plan.parts]),
        },
        "stages": {stage.name: _stage_note(plan, stage, account) for stage in plan.products},
        "times": {name: round(seconds, 4) for name, seconds in account.seconds.items()},
        "versions": versions(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
    }


def _lasting_data(plan: Plan) -> dict[str, Any]:
    """Return the section ``data`` with paths that mean the same from any folder."""
    data = {**plain(plan.cfg.data), "root": _lasting_root(plan)}
    if data.get("windows") is not None:
        data["windows"] = str(plan.votes.path.absolute())
    return data


def _command() -> str:
    """Return the command line where the program was called by one, else that it was not."""
    program = Path(sys.argv[0]).name
    return (
        " ".join([program, *sys.argv[1:]])
        if program in ("run.py", "hms", "cli.py")
        else "hms.run, from Python"
    )


def _lasting_root(plan: Plan) -> str | None:
    """Return where the run finds its recordings again; None if that is inside its outputs."""
    given: str | None = plan.cfg.at("data.root")
    outputs = plan.outputs.root.absolute()
    if given is None and plan.source.root.absolute().is_relative_to(outputs):
        return None
    return str(plan.source.root.absolute() if given is None else Path(given).expanduser().absolute())


def _stage_note(plan: Plan, stage: Any, account: Account) -> dict[str, Any]:
    note = {
        "key": stage.key,
        "folder": plan.outputs.stage(stage).name,
        "fingerprint": json.loads((plan.outputs.stage(stage) / KEY_FILE).read_bytes())["fingerprint"],
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


def git_commit() -> str | None:
    """Return the commit of the checkout that hms runs from, or None where it is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def is_whole(plan: Plan) -> bool:
    """Tell whether a plan's run is finished and every file of it is what its record says."""
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
        table.settle(list(table.files))
        stored[table.path.name] = table
    return all(
        _is_linked(f"{folder}/{path}", digest, stored) for path, (_, digest) in manifest["files"].items()
    )


def _is_linked(path: str, digest: str, stored: Mapping[str, StageFolder]) -> bool:
    """Tell whether a file of a run points at a stored file that is whole, or is itself whole."""
    try:
        target = os.readlink(path)
    except OSError:
        place = Path(path)
        return place.name == "config.yaml" and place.is_file() and digest_bytes(place.read_bytes()) == digest
    *_, folder, name = target.rsplit("/", 2)
    entry = stored[folder].files.get(name) if folder in stored else None
    return entry is not None and entry.digest == digest
