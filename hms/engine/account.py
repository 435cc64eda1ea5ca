"""What a run did, for its manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hms.store.files import Stored


@dataclass
class Account:
    """What a run did: seconds and items computed per stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    files: dict[str, tuple[Path, Stored]] = field(default_factory=dict)
    """Table files of the run: path in the run to stored file."""

    def add(self, stage: str, seconds: float, computed: int = 0) -> None:
        """Add to a stage's totals."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.computed[stage] = self.computed.get(stage, 0) + computed
