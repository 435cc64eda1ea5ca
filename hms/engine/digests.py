"""Digests of recordings as they were when last read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hms.sources.base import Part
from hms.store.folders import read_recordings
from hms.store.journal import append_journal


@dataclass
class RecordingDigests:
    """Digests of recordings and companion files, or parts of them, with their files' sizes and times then."""

    path: Path
    known: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    notes: dict[str, list[list[str]]] = field(default_factory=dict)
    """What was mended of a recording when it was last read: a flag and a text each, or nothing."""

    version: int = 0
    """Raised with everything learned."""

    def load(self) -> RecordingDigests:
        """Read the journal."""
        self.version += 1
        known, notes = read_recordings(self.path)
        self.known.update(known)
        self.notes.update(notes)
        return self

    def of(self, part: Part) -> str | None:
        """Return the digest of a part whose file's size and time have not changed since it was read."""
        entry = self.known.get(part.name)
        if entry is None or (part.place.size, part.place.mtime_ns) != entry[:2]:
            return None
        return entry[2]

    def add(self, parts: Iterable[Part], digests: dict[str, str], notes: dict[str, list[list[str]]]) -> None:
        """Keep the digests of what was read, and what was mended."""
        rows: list[Any] = [
            [part.name, part.place.size, part.place.mtime_ns, digests[part.name]]
            for part in parts
            if part.name in digests and self.of(part) != digests[part.name]
        ]
        new = {name: texts for name, texts in notes.items() if self.notes.get(name, []) != texts}
        if rows or new:
            append_journal(self.path, {"recordings": rows} | ({"notes": new} if new else {}))
            self.version += 1
            self.known.update({name: (size, mtime_ns, digest) for name, size, mtime_ns, digest in rows})
            self.notes.update(new)

    def forget(self, part: Part) -> None:
        """Take a part for one that was never read."""
        self.known.pop(part.name, None)
        self.version += 1
