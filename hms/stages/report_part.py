"""What the parts of the report have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from hms.quality.report.cards import Card, section, spoken
from hms.stage import Content, TableStage


class ReportPart(TableStage):
    """A part of the page: one section or more, kept as a file of its own."""

    sections: ClassVar[Mapping[str, str]]
    """Title of each section by its id, in the order of the page."""

    absent: ClassVar[str] = ""
    """What the page says in the part's place in a run that cannot make it; empty: nothing."""

    def part(self, **cards: Sequence[Card]) -> Mapping[str, Content]:
        """Return the part's file from the cards of each of its sections."""
        (path,) = self.files
        return {path: b"".join(section(name, self.sections[name], cards[name]) for name in self.sections)}

    @classmethod
    def said(cls) -> bytes:
        """Return what stands for the part where it is not made."""
        if not cls.absent:
            return b""
        return b"".join(
            section(name, title, [spoken(title, cls.absent)]) for name, title in cls.sections.items()
        )
