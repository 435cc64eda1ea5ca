"""Paths in settings: folders whose names mean something else to Hydra, and addresses of object storage."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from hms.config.reading import is_folder, is_there
from hms.errors import ConfigError

_LAST = (
    "outputs_dir",
    "from_run",
    "root",
    "path",
    "windows",
    "votes",
    "pseudonyms",
    "patient_table",
    "extra",
)
"""Last parts of the names of settings that hold a path."""

SCHEMES = ("s3", "gs", "abfs", "abfss", "hdfs")
"""How addresses of storage begin that Arrow's file systems read; S3 alone is tested."""

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_CREDENTIALS = re.compile(
    r"\bs3://[^/\s,'\"]*@|://[^/\s,'\"]*:[^/\s,'\"]*@|\b(s3|gs|abfss?|hdfs)://[^\s,'\"]*\?"
)
_PLAIN = re.compile(r"[A-Za-z0-9_./:-]*")
_QUOTES = ("'", '"')


class Address(PurePosixPath):
    """Address in object storage, ``s3://bucket/prefix``, joined as paths are; a plain path loses a slash."""

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def absolute(self) -> Address:
        """Return the address: it means the same everywhere."""
        return self

    @property
    def scheme(self) -> str:
        """What kind of storage it is."""
        return self.parts[0].rstrip(":")

    @property
    def key(self) -> str:
        """What stands behind the bucket: ``prefix/name``."""
        return "/".join(self.parts[2:])


def located(text: str | os.PathLike[str]) -> Path | Address:
    """Return the path or the address that a text names.

    Raises `ConfigError` if it is an address that holds credentials, names no bucket, or of a kind that is not
    read.
    """
    found = _ADDRESS.fullmatch(os.fspath(text))
    if found is None:
        return Path(text).expanduser()
    refuse_credentials(found[0])
    if found[1] not in SCHEMES:
        raise ConfigError(f"{text}: {found[1]}:// is not supported; there are {', '.join(SCHEMES)}")
    if not found[2].strip("/"):
        raise ConfigError(f"{text} names no bucket; write {found[1]}://BUCKET/PREFIX")
    return Address(found[0])


def refuse_credentials(text: str) -> None:
    """Raise `ConfigError`, without repeating them, if an address in a text holds credentials."""
    if _CREDENTIALS.search(text):
        raise ConfigError(
            "an address with a key, a password or '?' in it is refused and not repeated here; credentials "
            "come from the environment, ~/.aws or the machine's role, another server from AWS_ENDPOINT_URL, "
            "a region from AWS_REGION"
        )


def fault_of_outputs(place: object) -> str | None:
    """Return why a value cannot be the folder of the runs, None where it can."""
    if place is None or not str(place).strip():
        return "names no folder"
    path = Path(str(place))
    above = next((folder for folder in (path, *path.parents) if is_there(folder)), None)
    return f"needs a folder, but {above} is a file" if above is not None and not is_folder(above) else None


def with_quoted_paths(overrides: Sequence[str], *, sweep: bool = False) -> list[str]:
    """Return overrides in which paths with characters that mean something else are quoted.

    In a ``sweep``, a comma may stand between several values; it is part of a path only if there is such a
    path. Raises `ConfigError` if an override is not UTF-8, which no setting can hold, or holds credentials.
    """
    return [_quoted(str(text), sweep=sweep) for text in overrides]


def _quoted(text: str, *, sweep: bool) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):  # what is not UTF-8 comes as surrogates
        raise ConfigError(
            f"'{os.fsencode(text).decode('utf-8', 'backslashreplace')}' is not UTF-8; "
            "rename the folder, or reach it by a link with another name"
        )
    refuse_credentials(text)
    key, sign, value = text.partition("=")
    if not sign or key.lstrip("+").rpartition(".")[2] not in _LAST or _PLAIN.fullmatch(value):
        return text
    if value.startswith("~"):  # the shell's to expand, and it did not
        return text
    if value.startswith(_QUOTES) and value.endswith(value[0]) and len(value) > 1:
        return text
    if "," in value and sweep and not _is_there(value, may_be_new=key.endswith("outputs_dir")):
        return text
    return f"{key}={quoted(value)}"


def quoted(value: str) -> str:
    """Return a text as Hydra's grammar quotes it, so that no character of it means anything."""
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _is_there(value: str, *, may_be_new: bool) -> bool:
    path = os.path.expanduser(value)
    return is_there(path) or (may_be_new and "/" in path and is_folder(os.path.dirname(path)))
