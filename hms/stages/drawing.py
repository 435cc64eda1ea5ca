"""Pictures of recordings, for all parts of the page that show some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hms.pipeline.tables import View
from hms.report.examples import Example
from hms.signal.filters import described
from hms.signal.montage import all_derivations
from hms.stages.heart import Heart
from hms.stages.scalograms import Scalograms

THREADS = 2
"""Threads that prepare recordings to be shown: most of the work is done outside the interpreter."""


def output_names(scalograms: Scalograms) -> tuple[str, ...]:
    """Return the names of a scalogram's rows: chains or derivations."""
    chains = scalograms.derivations.chains
    if scalograms.output == "chains":
        return tuple(name for name, _ in chains)
    return all_derivations(chains)


def draw_examples(
    tables: View,
    scalograms: Scalograms,
    heart: Heart,
    about: Mapping[int, str],
    flags: Sequence[str],
    made: Mapping[int, Sequence[Any]],
) -> dict[int, Example]:
    """Return what is drawn of items, prepared again, by their row in the table of items.

    ``about`` has the text about each of them; ``flags`` are those of every row, as the ledger has them;
    ``made`` are derivations and scalogram of rows that are prepared already.
    """

    def draw(row: int) -> Example:
        with_ekg = "ekg" in flags[row].split(";")
        wanted: list[Any] = [scalograms.derivations, scalograms, *[heart] * with_ekg]
        results = made[row] if row in made and not with_ekg else tables.evaluate(row, *wanted)
        return _example(tables, scalograms, row, about[row], *results)

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(about, pool.map(draw, about), strict=True))


def _example(
    tables: View, scalograms: Scalograms, row: int, about: str, derived: Any, scalogram: Any, *ekg: Any
) -> Example:
    """Return what is drawn of one item; the EKG too where it is flagged in an electrode."""
    return Example(
        str(tables.items["item_id"].iloc[row]),
        about,
        derived.window.copy(),  # alone, it does not keep its context
        derived.alive,
        scalograms.derivations.chains,
        scalogram.x,
        scalogram.freqs,
        output_names(scalograms),
        derived.sfreq,
        described(scalograms.derivations.signal.filter),
        ekg[0] if ekg else None,
    )
