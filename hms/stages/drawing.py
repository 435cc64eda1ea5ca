"""What parts of the page that show recordings have in common."""

from __future__ import annotations

from hms.pipeline.tables import View
from hms.report.examples import Example
from hms.stages.scalograms import Scalograms

__all__ = ["draw_example", "output_names"]


def output_names(scalograms: Scalograms) -> tuple[str, ...]:
    """Return the names of a scalogram's rows: chains or derivations."""
    chains = scalograms.derivations.chains
    if scalograms.output == "chains":
        return tuple(name for name, _ in chains)
    return tuple(name for _, pairs in chains for name in pairs)


def draw_example(tables: View, scalograms: Scalograms, row: int, about: str) -> Example:
    """Return what is drawn of one item, prepared anew; ``row`` is that of the table of items."""
    derived, scalogram = tables.evaluate(row, scalograms.derivations, scalograms)
    return Example(
        str(tables.items["item_id"].iloc[row]),
        about,
        derived.window,
        derived.alive,
        scalograms.derivations.chains,
        scalogram.x,
        scalogram.freqs,
        output_names(scalograms),
        derived.sfreq,
    )
