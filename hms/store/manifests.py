"""Reading and writing a run's manifest, which ends with the digest of the rest of it."""

from __future__ import annotations

import errno
import io
import json
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from itertools import chain, count, islice
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import IO, Any

import xxhash

from hms.errors import ManifestError
from hms.store.files import commit_files, digest_bytes, storage_error, sync_folder
from hms.store.inside import are_plain, parse_json, read_file

NAME = "manifest.json"
NUMERIC = ("numpy", "scipy", "pandas", "pyarrow", "PyWavelets", "xxhash")
"""Libraries whose version can change numbers."""

OTHERS = ("hydra-core", "omegaconf", "joblib", "filelock", "matplotlib", "Jinja2")
_BLANK = "0" * 32
FORMAT = 1
"""Raised when the manifest's form changes."""

TOGETHER = 4096
"""Lines of a manifest that are made together."""

LARGEST = 2.0**53
"""Counts and times are smaller."""

MOST_STAGES = 50
"""Most stages that read one another in a row."""

DISTRIBUTION = {"hms": "hms-eeg"}
"""Names on the package index that differ from those here."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of every dependency."""
    return {"python": platform.python_version()} | {
        name: _version(DISTRIBUTION.get(name, name)) for name in ("hms", *NUMERIC, *OTHERS)
    }


@cache
def _version(name: str) -> str:
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return "not installed as a package"
    # All of a page that the standard library reads as an email takes five times as long.
    stated = re.search(r"^Version: *(\S+)\s*$", found.read_text("METADATA") or "", re.MULTILINE)
    return stated[1] if stated else found.version


def read_manifest(folder: Path, *, files: bool = True) -> dict[str, Any]:
    """Read a run's manifest and check it against its own digest.

    Raises `ManifestError` if it is missing or changed.

    Parameters
    ----------
    files : whether its list of files is wanted too, most of it; without, ``files`` is empty
    """
    try:
        data = read_file(folder / NAME)
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(f"{folder.name} has no {NAME}: the run is not finished") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ManifestError(f"{folder.name}/{NAME} is a link; it is refused") from None
        raise storage_error(error, folder / NAME, "read") from error
    stated = re.search(rb'"digest": "([0-9a-f]{32})"\n}\n$', data)
    blank = data if stated is None else data[: stated.start(1)] + _BLANK.encode() + data[stated.end(1) :]
    if stated is None or digest_bytes(blank) != stated[1].decode():
        raise ManifestError(f"{folder.name}/{NAME} is damaged: its content differs from its digest")
    start = -1 if files else data.find(_FILES)
    try:
        manifest = parse_json(data if start < 0 else data[:start] + b',\n "files": {}\n}\n')
    except ValueError as error:
        raise ManifestError(f"{folder.name}/{NAME} is not a manifest of hms: {error}") from None
    if problem := _problem(manifest):
        raise ManifestError(f"{folder.name}/{NAME} is not a manifest of hms: {problem}")
    assert isinstance(manifest, dict)
    return manifest


_KINDS: dict[str, type | tuple[type, ...]] = {
    "run": str, "finished": str, "seconds": (int, float), "command": str, "execution": dict, "config": dict,
    "counts": dict, "retry": list, "excluded": list, "votes": dict, "stages": dict, "versions": dict,
    "files": dict, "recordings": dict,
}  # fmt: skip
_FILES = b',\n "files": {'
"""How the last section but the digest begins: no text holds a line end, and other lines are indented more."""

_KINDS_OF_STAGE: dict[str, type | tuple[type, ...]] = {
    "key": str, "folder": str, "fingerprint": str, "computed": int, "seconds": (int, float),
    "settings": dict, "content": dict,
}  # fmt: skip
_KINDS_OF_EXECUTION: dict[str, type | tuple[type, ...]] = {"data": dict, "root": str, "plugins": list}
_DIGEST = re.compile("[0-9a-f]{32}")


def _problem(manifest: Any) -> str:
    """Return what keeps a manifest from being one, or an empty text."""
    if not isinstance(manifest, dict):
        return "it is not an object"
    if problem := _lacks(manifest, _KINDS, ""):
        return problem
    if problem := _lacks(manifest["execution"], _KINDS_OF_EXECUTION, "execution."):
        return problem
    for name, stage in manifest["stages"].items():
        if problem := _lacks(stage, _KINDS_OF_STAGE, f"stages.{name!a:.60}."):
            return problem
    if manifest.get("format") != FORMAT:
        return f"it is of format {manifest.get('format')!a:.20}, and this version of hms reads {FORMAT}"
    stages = manifest["stages"].values()
    problems = map(_problem_of_content, (stage["content"] for stage in stages))
    if problem := next(filter(None, problems), ""):
        return problem
    counts, plugins = manifest["counts"], manifest["execution"]["plugins"]
    if not all(isinstance(version, str) for version in manifest["versions"].values()):
        return "'versions' are no texts"
    mended = manifest["recordings"].get("mended", {})
    if not (isinstance(mended, dict) and all(_are_notes(notes) for notes in mended.values())):
        return "'recordings.mended' are no notes"
    if not isinstance(manifest["votes"].get("digest"), str):
        return "'votes' has no digest"
    if not isinstance(manifest["execution"]["data"].get("kind"), str):
        return "'execution.data' names no kind of source"
    if not all(type(counts.get(name)) is int for name in ("items", "used", "excluded")):
        return "'counts' are no numbers of items"
    numbers = [
        *counts.values(),
        manifest["seconds"],
        *(stage[n] for stage in stages for n in ("computed", "seconds")),
    ]
    if not all(isinstance(n, (int, float)) and abs(n) <= LARGEST for n in numbers):
        return "a count or a time is beyond all numbers"
    asked = manifest.get("asked", [])
    if not (isinstance(asked, list) and all(isinstance(name, str) for name in asked)):
        return "'asked' are no names of stages"
    if not all(isinstance(name, str) for name in plugins):
        return "'execution.plugins' are no names"
    if not all(
        isinstance(entry, dict) and isinstance(entry.get("reason"), str) for entry in manifest["excluded"]
    ):
        return "'excluded' are no items with reasons"
    return _problem_of_names(manifest)


def _are_notes(notes: Any) -> bool:
    """Tell whether something is what was mended of a recording: a flag and a text each."""
    return isinstance(notes, list) and all(
        isinstance(note, list) and [type(text) for text in note] == [str, str] for note in notes
    )


def _problem_of_content(content: Any, depth: int = 0) -> str:
    """Return what keeps what is in a stage's key from being that, or an empty text."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "stage": str, "version": int, "settings": dict, "reads": dict, "plugins": dict,
    }  # fmt: skip
    if problem := _lacks(content, kinds, "stages.content."):
        return problem
    if depth > MOST_STAGES or not all(isinstance(source, str) for source in content["plugins"].values()):
        return "'stages.content' is not what a stage reads"
    below = (_problem_of_content(read, depth + 1) for read in content["reads"].values())
    return next(filter(None, below), "")


def _lacks(section: Any, kinds: Mapping[str, type | tuple[type, ...]], path: str) -> str:
    if not isinstance(section, dict):
        return f"'{path.rstrip('.')}' is no object"
    wrong = [name for name, kind in kinds.items() if not isinstance(section.get(name), kind)]
    return f"'{path}{wrong[0]}' is missing or of another kind" if wrong else ""


def _problem_of_names(manifest: Mapping[str, Any]) -> str:
    files, folders = manifest["files"], [stage["folder"] for stage in manifest["stages"].values()]
    tables = [stage.get("stored", {}) for stage in manifest["stages"].values()]
    if not all(isinstance(table, dict) for table in tables):
        return "'stored' is no object"
    stored = [str(name) for table in tables for name in table.values()]
    if not are_plain(files, in_folders=True) or NAME in files:
        return "'files' has names that do not stay inside"
    if not are_plain([manifest["run"], *folders, *stored, *manifest["stages"]]):
        return "the run, a stage or a folder of the store has no plain name"
    for entry in files.values():
        if not (type(entry) is list and len(entry) == 2 and type(entry[0]) is int and entry[0] >= 0):
            return "'files' does not say size and digest of each"
        if not (type(entry[1]) is str and _DIGEST.fullmatch(entry[1])):
            return "'files' has a digest that is none"
    return ""


def unfinish(folder: Path) -> None:
    """Remove the manifest, synced, before anything in a run's folder changes."""
    try:
        if (folder / NAME).exists():
            (folder / NAME).unlink(missing_ok=True)
            sync_folder(folder)
    except OSError as error:
        raise storage_error(error, folder) from error


def write_checked(folder: Path, content: Mapping[str, Any]) -> str:
    """Write a manifest whose last entry is the digest of the rest; return that digest."""
    digests: list[str] = []
    commit_files(folder, {NAME: lambda file: digests.append(_write(content, file))})
    return digests[-1]


def manifest_bytes(content: Mapping[str, Any]) -> bytes:
    """Return a manifest as it is written, with the digest of the rest as its last entry."""
    file = io.BytesIO()
    _write(content, file)
    return file.getvalue()


def _write(content: Mapping[str, Any], file: IO[bytes]) -> str:
    """Write a manifest, some lines at a time; return its digest."""
    digest = xxhash.xxh3_128()
    entries = ((name, value) for name, value in content.items() if name != "digest")
    for text in chain.from_iterable(_entry(*pair, first=not n) for n, pair in enumerate(entries)):
        piece = text.encode()
        file.write(piece)
        digest.update(piece)
    start, end = b',\n "digest": "', b'"\n}\n'
    digest.update(start + _BLANK.encode() + end)
    file.write(start + digest.hexdigest().encode() + end)
    return digest.hexdigest()


def _entry(name: str, value: Any, *, first: bool) -> Iterator[str]:
    """Yield an entry's JSON, a dictionary's entries a line each; indenting all takes ten times as long."""
    yield f"{'{' if first else ','}\n {json.dumps(name)}: "
    if not isinstance(value, dict):
        yield _json(value)
        return
    pairs = iter(value.items())
    for number in count():
        some = list(islice(pairs, TOGETHER))
        if not some:
            yield "\n }" if number else "{}"
            return
        rows = zip(some, _texts([inner for _, inner in some]), strict=True)
        lines = ",\n".join(f"  {encode_basestring_ascii(str(key))}: {text}" for (key, _), text in rows)
        yield f"{',' if number else '{'}\n{lines}"


_json = json.JSONEncoder(allow_nan=False).encode
"""What `json.dumps` would make for every call."""


def _texts(values: list[Any]) -> list[str]:
    """Return the JSON of each value: of tens of thousands of short lists, in one call."""
    if all(type(value) is list for value in values):
        texts = _json(values)[2:-2].split("], [")
        if len(texts) == len(values):  # lists within these, or texts like their ends, would give more
            return [f"[{text}]" for text in texts]
    return [_json(value) for value in values]


@cache
def git_commit() -> str | None:
    """Return the commit of the checkout that hms runs from, or None if there is no checkout."""
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
