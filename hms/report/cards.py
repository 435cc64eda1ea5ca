"""Cards: a picture with its title, its text and its place in a section of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from hms.labels.classes import Classes


@dataclass(frozen=True)
class Card:
    """One picture; ``body`` is HTML, everything else plain text."""

    title: str
    body: str
    note: str
    span: str = ""
    """``two`` columns or ``wide``, the whole width; empty for one."""

    item: str = ""
    """Item that is shown, which the viewer can open."""

    def html(self) -> str:
        """Return the card as a figure."""
        css = f"card {self.span}" if self.span else "card"
        note = f"<figcaption>{escape(self.note)}</figcaption>" if self.note else ""
        item = f' data-item="{escape(self.item)}"' if self.item else ""
        return f'<figure class="{css}"{item}><h3>{escape(self.title)}</h3>{self.body}{note}</figure>'


def spoken(title: str, text: str) -> Card:
    """Return a card that says why there is no picture."""
    return Card(title, f'<p class="empty">{escape(text)}</p>', "")


def absent_classes(counts: NDArray[np.int64], classes: Classes) -> str:
    """Return a sentence that names the classes that no item has, or nothing."""
    absent = [name for name, count in zip(classes.titles, counts.tolist(), strict=True) if not count]
    return f" No item has the consensus {', '.join(absent)}." if absent else ""


def section(name: str, title: str, cards: Sequence[Card]) -> bytes:
    """Return a section of the page as HTML."""
    inner = "\n".join(card.html() for card in cards)
    return (
        f'<section id="{name}">\n<h2>{escape(title)}</h2>\n<div class="cards">\n{inner}\n</div>\n</section>\n'
    ).encode()
