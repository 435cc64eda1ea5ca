"""Reading and writing a run's manifest, which ends with the digest of the rest of it."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hms.errors import ManifestError
from hms.store.files import commit_files, digest_bytes

NAME = "manifest.json"
NUMERIC = ("numpy", "scipy", "pandas", "pyarrow", "PyWavelets", "scikit-learn", "xxhash")
"""Libraries whose version can change numbers."""

OTHERS = ("hydra-core", "omegaconf", "joblib", "filelock", "matplotlib", "Jinja2")
_BLANK = "0" * 32
DISTRIBUTION = {"hms": "hms-eeg"}
"""Names on the package index, where they are other than the name here."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of every dependency."""
    return {"python": platform.python_version()} | {
        name: _version(DISTRIBUTION.get(name, name)) for name in ("hms", *NUMERIC, *OTHERS)
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
