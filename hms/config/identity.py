"""From settings to an identity: plain values, one JSON text of them, one digest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields, is_dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

from hms.registry import lookup

# --- identity ------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return dataclasses as dictionaries, tuples as lists and tuples of pairs as mappings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        if value and all(isinstance(v, tuple) and len(v) == 2 and isinstance(v[0], str) for v in value):
            return {key: plain(item) for key, item in value}
        return [plain(item) for item in value]
    return value


def flatten(value: Any, path: str) -> dict[str, Any]:
    """Return the settings below a value by dotted path: ``{"cwt.w0": 5.4414, ...}``."""
    if is_dataclass(value) and not isinstance(value, type):
        flat: dict[str, Any] = {}
        for f in fields(value):
            if not is_as_before(f, getattr(value, f.name)):
                flat |= flatten(getattr(value, f.name), f"{path}.{f.name}")
        return flat
    return {path: _listed(value)}


def is_as_before(setting: Field[Any], value: Any) -> bool:
    """Tell whether a setting that came later (`hms.registry.added`) has the value that changes nothing."""
    return "before" in setting.metadata and bool(setting.metadata["before"] == value)


def settings_before(group: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a section that came later, at the values that change nothing."""
    if "kind" not in section:
        return {}
    found = fields(lookup(group, str(section["kind"])).params)
    return {f.name: plain(f.metadata["before"]) for f in found if "before" in f.metadata}


def _listed(value: Any) -> Any:
    """Return tuples as lists; the order of pairs stays, because it can change numbers."""
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, no NaN."""
    return _encode(value)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode


def digest_of_json(texts: Iterable[str], n_bytes: int = 16) -> str:
    """Return `digest_of` of a list, given the canonical JSON of its elements, of which few are in memory."""
    digest, left = blake2b(b"[", digest_size=n_bytes), iter(texts)
    before = ""
    while some := list(islice(left, 4096)):
        digest.update(f"{before}{','.join(some)}".encode())
        before = ","
    digest.update(b"]")
    return digest.hexdigest()


def digest_of(value: Any, n_bytes: int = 16) -> str:
    """Return the blake2b digest, in hexadecimal, of a value's canonical JSON."""
    return blake2b(canonical_json(value).encode(), digest_size=n_bytes).hexdigest()
