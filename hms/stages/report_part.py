"""The base of all parts of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from hms.config.schema import Config
from hms.pipeline.stage import TableStage
from hms.report.cards import Card, section, spoken
from hms.store.files import Content


class ReportPart(TableStage):
    """A part of the page: one section or more, kept as a file of its own."""

    part_of: ClassVar[str | None] = "report"

    sections: ClassVar[Mapping[str, str]]
    """Title of each section by its id, in the order of the page."""

    absent: ClassVar[str] = ""
    """What the page says in the part's place in a run that cannot make it; empty: nothing."""

    def part(self, **cards: Sequence[Card]) -> Mapping[str, Content]:
        """Return the part's file from the cards of each of its sections."""
        (path,) = self.files
        return {path: b"".join(section(name, self.sections[name], cards[name]) for name in self.sections)}

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether the page is asked for."""
        return cls.part_of in cfg.stages

    @classmethod
    def placeholder(cls) -> bytes:
        """Return what stands in the part's place in a run that lacks it."""
        if not cls.absent:
            return b""
        return b"".join(
            section(name, title, [spoken(title, cls.absent)]) for name, title in cls.sections.items()
        )
