"""Paths in overrides: folders have names that Hydra's grammar takes for something else."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

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

_PLAIN = re.compile(r"[A-Za-z0-9_./:-]*")
_QUOTES = ("'", '"')


def with_quoted_paths(overrides: Sequence[str], *, sweep: bool = False) -> list[str]:
    """Return overrides in which paths with characters that mean something else are quoted.

    Parameters
    ----------
    overrides : as typed: ``data.root=/data/a=b``
    sweep : whether a comma may stand between several values; it is part of a path then only if
        there is such a path

    Raises
    ------
    ConfigError
        If one is not UTF-8, which no setting can hold.
    """
    return [_quoted(str(text), sweep=sweep) for text in overrides]


def _quoted(text: str, *, sweep: bool) -> str:
    if not _is_utf8(text):
        raise ConfigError(
            f"'{os.fsencode(text).decode('utf-8', 'backslashreplace')}' is not UTF-8; "
            "rename the folder, or reach it by a link with another name"
        )
    key, sign, value = text.partition("=")
    if not sign or key.lstrip("+").rpartition(".")[2] not in _LAST or _PLAIN.fullmatch(value):
        return text
    if value.startswith("~"):  # the shell's to expand, and it did not
        return text
    if value.startswith(_QUOTES) and value.endswith(value[0]) and len(value) > 1:
        return text
    if "," in value and sweep and not _is_there(value):
        return text
    return f"{key}={quoted(value)}"


def quoted(value: str) -> str:
    """Return a text as Hydra's grammar quotes it, so that no character of it means anything."""
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _is_there(value: str) -> bool:
    path = os.path.expanduser(value)
    return is_there(path) or (is_folder(os.path.dirname(path) or ".") and "/" in path)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
