"""Names of recordings: any file's name as text, and an id of each that is safe in a path."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

MAX_LENGTH = 180
"""Of an id; file systems allow names of 255 bytes, and an item's file adds a number and an ending."""


def text_of_path(path: str) -> str:
    r"""Return a path as text that can be written anywhere: controls, and what is not UTF-8, as ``\x1b``."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def safe_ids(recordings: Sequence[str]) -> dict[str, str]:
    """Return an id of letters, digits, '_' and '-' for each recording, no two alike in any letter case.

    It is the file's name without its ending; where several share it, the path without the ending, then with
    it. Where that is not enough, or nothing of a name is left, a digest of the path is added.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    left = list(recordings)
    for make in (_stem, _path, _safe, _digested):
        made = {name: make(name) for name in left}
        count = Counter(text.casefold() for text in made.values())
        unique = {
            name: text
            for name, text in made.items()
            if text and count[text.casefold()] == 1 and text.casefold() not in taken
        }
        found |= unique
        taken |= {text.casefold() for text in unique.values()}
        left = [name for name in left if name not in unique]
    assert not left, f"two recordings have the same name: {left[:2]}"
    return {name: found[name] for name in recordings}


def _stem(name: str) -> str:
    return _safe(os.path.splitext(name.rpartition("/")[2])[0])


def _path(name: str) -> str:
    return _safe(os.path.splitext(name)[0])


def _digested(name: str) -> str:
    digest = blake2b(name.encode(), digest_size=8).hexdigest()
    return f"{_safe(name, MAX_LENGTH - 17) or 'recording'}_{digest}"


def _safe(text: str, limit: int | None = None) -> str:
    """Return what of a text may be in an id; empty if it is too long for one and no limit cuts it."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    is_safe = plain == text and re.fullmatch(r"[A-Za-z0-9_-]*", text)
    safe = text if is_safe else re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_")
    if limit is not None:
        return safe[:limit]
    return safe if len(safe) <= MAX_LENGTH else ""
