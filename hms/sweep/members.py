"""A member of a sweep: what sets it apart, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hms.config.schema import Config
from hms.errors import ConfigError

if TYPE_CHECKING:
    from hms.store.package import Package

SET_ASIDE_SHARE = 0.3
"""Share of patients that ``sweep.confirm=true`` sets aside."""


@dataclass(frozen=True)
class Member:
    """A member of a sweep after its turn: a run, or the error that it ended with."""

    number: int
    overrides: tuple[str, ...]
    """What sets it apart from the others."""

    cfg: Config | None = None
    run: Package | None = None
    error: str = ""
    machine_failed: bool = False
    """Whether the error says nothing of the member: the same command continues."""

    @property
    def label(self) -> str:
        """The overrides that set it apart, in one text."""
        return " ".join(self.overrides) or "(nothing varies)"


def with_patients_aside(cfg: Config) -> Config:
    """Return a configuration whose baseline learns nothing from the patients set aside.

    Raises `ConfigError` if it has no baseline.
    """
    if cfg.baseline.kind == "none":
        raise ConfigError("sweep.confirm=true scores a baseline on patients set aside; add baseline=logreg")
    return cfg.override(f"baseline.set_aside={SET_ASIDE_SHARE}")
