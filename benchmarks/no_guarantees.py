"""A plugin that takes digests, syncs and records away, to see what they cost. Never for real work."""

from __future__ import annotations

import os
from typing import Any

import hms.engine.digests
import hms.pipeline.tables
import hms.sources.kaggle
import hms.store.files
import hms.store.folders
import hms.store.shards

NONE = "0" * 32

_TAKEN: dict[tuple[Any, str], Any] = {}


def _replace(place: Any, name: str, substitute: Any) -> None:
    _TAKEN.setdefault((place, name), getattr(place, name))
    setattr(place, name, substitute)


def take_away() -> None:
    """Make every sync, digest and record a matter of nothing, in this process."""
    _replace(os, "fsync", lambda descriptor: None)
    for module in (hms.store.files, hms.store.shards, hms.sources.kaggle):
        _replace(module, "digest_bytes", lambda data: NONE)
    _replace(hms.store.files._DigestingFile, "digest", NONE)
    _replace(hms.pipeline.tables, "digest_file", lambda path: NONE)
    for module in (hms.store.folders, hms.engine.digests):
        _replace(module, "append_journal", lambda path, content: None)


def give_back() -> None:
    """Undo `take_away`."""
    for (place, name), original in _TAKEN.items():
        setattr(place, name, original)
    _TAKEN.clear()


take_away()
