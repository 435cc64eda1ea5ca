"""The page of a sweep: its members' divergences with intervals, and the whole table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hms.report.cards import Card, spoken
from hms.report.page import render
from hms.report.style import CLASS_COLOURS, MUTED
from hms.report.svg import Axis, Frame, axes, drawing, line, number, path, text
from hms.store.files import commit_files
from hms.sweep.leaderboard import Leaderboard, Row

__all__ = ["sweep_page", "write_leaderboard"]

ROW_HEIGHT = 26.0
MOST_LETTERS = 42
PICTURE_WIDTH = 760.0
COLOUR = CLASS_COLOURS[1]
OBJECTIVE_NAMES = {
    "kl_high": "items with many votes",
    "kl_low": "items with few votes",
    "kl_all": "all items",
}


def sweep_page(board: Leaderboard) -> bytes:
    """Return a page with plots and the table of a leaderboard; it needs no other file."""
    return render(
        "sweep.html.j2",
        name=board.name,
        command=board.command,
        notes=board.notes,
        cards=[card.html() for card in _cards(board)],
        table=board.table(),
        remarks=[(row.member, row.note or row.error) for row in board.rows if row.note or row.error],
    )


def write_leaderboard(board: Leaderboard, folder: Path) -> Path:
    """Write leaderboard.csv, .json and .html into a folder and return it."""
    contents = {
        "leaderboard.csv": board.to_csv(),
        "leaderboard.json": board.to_json(),
        "leaderboard.html": sweep_page(board),
    }
    commit_files(folder, contents)
    return folder


def _cards(board: Leaderboard) -> list[Card]:
    rows = [row for row in board.rows if getattr(row, board.objective) is not None]
    if not rows:
        return [spoken("Divergence", "No member has a score to draw.")]
    what = OBJECTIVE_NAMES[board.objective]
    cards = [
        _forest(
            f"Divergence from the votes, {what}",
            rows,
            lambda row: _triple(row, board.objective),
            "KL divergence; lower is better",
        )
    ]
    others = [row for row in rows if row.difference is not None]
    if others:
        title = f"Difference to member {board.reference}, {what}"
        label = "difference of the divergence; left of 0 is better than the reference"
        cards.append(_forest(title, others, lambda row: _triple(row, "difference"), label, zero=True))
    return cards


def _triple(row: Row, name: str) -> tuple[float, float | None, float | None]:
    return getattr(row, name), getattr(row, f"{name}_lower"), getattr(row, f"{name}_upper")


def _forest(
    title: str,
    rows: Sequence[Row],
    of: Callable[[Row], tuple[float, float | None, float | None]],
    label: str,
    *,
    zero: bool = False,
) -> Card:
    """Draw a dot with its interval for every row."""
    triples = [of(row) for row in rows]
    ends = [x for triple in triples for x in triple if x is not None] + ([0.0] if zero else [])
    margin = 0.06 * (max(ends) - min(ends)) or 0.05
    frame = Frame(
        330,
        10,
        PICTURE_WIDTH - 345,
        ROW_HEIGHT * len(rows),
        Axis(min(ends) - margin, max(ends) + margin),
        Axis(0, 1),
    )
    parts = axes(frame, xlabel=label, yticks=[], grid=False)
    if zero:
        x = frame.x(0.0)
        parts.append(line([(x, frame.top), (x, frame.bottom)], MUTED, dash="4 4", width=1))
    for i, (row, triple) in enumerate(zip(rows, triples, strict=True)):
        parts += _mark(frame, frame.top + ROW_HEIGHT * (i + 0.5), row, triple)
    said = "; ".join(f"{row.overrides} {value:.3f}" for row, (value, _, _) in zip(rows, triples, strict=True))
    picture = drawing(PICTURE_WIDTH, frame.bottom + 46, parts, alt=f"{title}: {said}.")
    return Card(title, picture, "Dots with intervals of 95 % from draws of patients.", "wide")


def _mark(frame: Frame, y: float, row: Row, triple: tuple[float, float | None, float | None]) -> list[str]:
    value, low, high = triple
    name = row.overrides if len(row.overrides) <= MOST_LETTERS else row.overrides[: MOST_LETTERS - 1] + "…"
    tip = f"{row.overrides}: {value:.4f}" + ("" if low is None else f" ({low:.4f} to {high:.4f})")
    parts = [
        f'<path class="grid" d="{path([(frame.left, y), (frame.right, y)])}"/>',
        text(frame.left - 8, y + 4, f"{name} [{row.member}]", "e", tip=tip),
    ]
    if low is not None and high is not None:
        parts.append(line([(frame.x(low), y), (frame.x(high), y)], COLOUR, width=3, tip=tip))
    x = number(frame.x(value))
    parts.append(
        f'<circle cx="{x}" cy="{number(y)}" r="5" fill="{COLOUR}"><title>{_safe(tip)}</title></circle>'
    )
    return parts


def _safe(content: str) -> str:
    from html import escape

    return escape(content)
