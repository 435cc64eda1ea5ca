"""Where things lie under an outputs folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hms.config.identity import digest_of

HASH_LENGTH = 16

KEY_LENGTH = 12


class Keyed(Protocol):
    """What has a folder in the store: a stage."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def key(self) -> str:
        """Its key."""
        ...


@dataclass(frozen=True)
class Outputs:
    """Places under ``outputs_dir``."""

    root: Path

    @property
    def store(self) -> Path:
        """Where stage results live."""
        return self.root / "store"

    @property
    def latest(self) -> Path:
        """Link to the last finished run."""
        return self.root / "latest"

    def run(self, run_hash: str) -> Path:
        """Folder of a run."""
        return self.root / run_hash

    def stage(self, stage: Keyed) -> Path:
        """Folder of a stage key."""
        return self.store / f"{stage.name}-{stage.key[:KEY_LENGTH]}"

    def lock(self, name: str) -> Path:
        """File of a lock."""
        return self.store / "locks" / f"{name}.lock"

    def recordings(self, root: Path) -> Path:
        """Journal with the digests of the recordings below a data folder."""
        return self.store / "recordings" / f"{digest_of(str(root.absolute()), 8)}.log"
