"""The sheet of votes to look at again: recordings whose votes are improbable, with what was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hms.labels.classes import Classes
from hms.report.cards import Card, spoken
from hms.report.examples import Example, example_card

if TYPE_CHECKING:
    import pandas as pd

TITLE = "Votes to look at again"


def issue_cards(examples: Sequence[Example], table: pd.DataFrame) -> list[Card]:
    """Return a card that says what the sheet is, and one per recording shown."""
    if table.empty:
        return [spoken(TITLE, "No item was predicted, so no votes can be compared with a prediction.")]
    said = (
        f"{len(table)} items are ranked in qc/label_issues.csv by how improbable their votes are under a "
        "prediction that saw neither them nor their patient. The first are shown here. An improbable vote "
        "need not be wrong: look at the traces. No item is left out because of it."
    )
    first = replace(spoken("What these are", said), span="wide")
    return [first, *(example_card(f"{place}", one) for place, one in enumerate(examples, start=1))]


def about_issue(row: pd.Series, classes: Classes) -> str:
    """Return an item's votes next to what was predicted, and how improbable that is."""
    votes = [
        f"{title} {row[column]:g}"
        for title, column in zip(classes.titles, classes.vote_columns, strict=True)
        if row[column] > 0
    ]
    shares = sorted(
        (
            (row[f"{name}_predicted"], title)
            for name, title in zip(classes.names, classes.titles, strict=True)
        ),
        reverse=True,
    )
    predicted = ", ".join(f"{title} {share:.0%}" for share, title in shares[:3])
    return (
        f"Votes: {', '.join(votes)}. Predicted: {predicted}. Of 10,000 panels of {row['vote_sum']:g} "
        f"experts, {10_000 * row['tail_probability']:.3g} would agree no better."
    )
