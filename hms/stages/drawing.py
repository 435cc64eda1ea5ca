"""What parts of the page that show recordings have in common."""

from __future__ import annotations

from typing import Any

from hms.pipeline.tables import View
from hms.report.examples import Example
from hms.signal.filters import described
from hms.stages.heart import Heart
from hms.stages.scalograms import Scalograms


def output_names(scalograms: Scalograms) -> tuple[str, ...]:
    """Return the names of a scalogram's rows: chains or derivations."""
    chains = scalograms.derivations.chains
    if scalograms.output == "chains":
        return tuple(name for name, _ in chains)
    return tuple(name for _, pairs in chains for name in pairs)


def draw_example(
    tables: View, scalograms: Scalograms, heart: Heart, row: int, about: str, flags: str
) -> Example:
    """Return what is drawn of one item, prepared again; the EKG where it is flagged in an electrode.

    ``row`` is that of the table of items, ``about`` what is said of it; ``flags`` are as the ledger has them.
    """
    wanted: list[Any] = [scalograms.derivations, scalograms]
    derived, scalogram, *ekg = tables.evaluate(row, *wanted, *[heart] * ("ekg" in flags.split(";")))
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
        described(scalograms.derivations.signal.filter),
        ekg[0] if ekg else None,
    )
