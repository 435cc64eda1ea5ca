"""Short tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hms.results import Run

__all__ = ["columns", "facts"]


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text with their columns aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def facts(run: Run) -> str:
    """Return the table that ends a run."""
    note = "found finished, nothing computed" if run.reused else "done"
    return f"run {run.hash}: {note}\n{columns([(f'  {name}', value) for name, value in run.overview()])}"
