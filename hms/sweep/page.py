"""The page of a sweep: its members' scores with intervals, what can be told apart, and the whole table.

Rows are text and boxes, not a picture: they wrap where the window is narrow, and a member's
overrides are in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from hms.report.cards import Card, spoken
from hms.report.page import render
from hms.store.files import commit_files
from hms.sweep.leaderboard import Leaderboard, Row, told_apart, with_interval

OBJECTIVE_NAMES = {
    "kl_high": "items with many votes",
    "kl_low": "items with few votes",
    "kl_all": "all items",
}

Triple = tuple[float, float | None, float | None]


def sweep_page(board: Leaderboard) -> bytes:
    """Return a page with the scores and the table of a leaderboard; it needs no other file."""
    head, *rows = board.table()
    return render(
        "sweep.html.j2",
        name=board.name,
        command=board.command,
        notes=board.notes,
        cards=[card.html() for card in _cards(board)],
        titles=head,
        table=[_cells(head, texts, row) for texts, row in zip(rows, board.rows, strict=True)],
        remarks=board.remarks,
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


def _cells(titles: Sequence[str], texts: Sequence[str], row: Row) -> list[tuple[str, str]]:
    """Return each cell's title and HTML; runs are links, overrides stand side by side."""
    made = []
    for title, text in zip(titles, texts, strict=True):
        cell = escape(text)
        if title == "run" and row.page is not None:
            cell = f'<a href="{escape(row.page)}"><code>{cell}</code></a>'
        elif title == "overrides":
            cell = _overrides(row)
        made.append((title, cell))
    return made


def _overrides(row: Row) -> str:
    """Return a member's overrides as HTML, each whole."""
    return " ".join(f"<code>{escape(text)}</code>" for text in row.overrides.split(" "))


# --- scores --------------------------------------------------------------------------------------


def _cards(board: Leaderboard) -> list[Card]:
    rows = [row for row in board.rows if getattr(row, board.objective) is not None]
    if not rows:
        return [spoken("Divergence", "No member has a score to draw.")]
    what = OBJECTIVE_NAMES[board.objective]
    cards = [
        _forest(
            board,
            f"Divergence from the votes, {what}",
            rows,
            _triple(board.objective),
            "KL divergence, lower is better; lines are 95 % intervals over patients.",
        )
    ]
    others = [row for row in rows if row.difference is not None]
    if others:
        note = (
            "Left of the line is better than the reference. The 95 % intervals hold for all members at once."
        )
        title = f"Difference to member {board.reference}, {what}"
        cards.append(_forest(board, title, others, _triple("difference"), note, zero=True))
    return cards


def _triple(name: str) -> Callable[[Row], Triple]:
    return lambda row: (getattr(row, name), getattr(row, f"{name}_lower"), getattr(row, f"{name}_upper"))


def _forest(
    board: Leaderboard,
    title: str,
    rows: Sequence[Row],
    of: Callable[[Row], Triple],
    note: str,
    *,
    zero: bool = False,
) -> Card:
    """Return a line for every member: who it is, a dot with its interval, and the figures."""
    ends = [x for row in rows for x in of(row) if x is not None] + ([0.0] if zero else [])
    margin = 0.04 * (max(ends) - min(ends)) or 0.05
    low, high = min(ends) - margin, max(ends) + margin

    def at(value: float) -> float:
        return 100 * (value - low) / (high - low)

    mark = f'<i class="zero" style="left:{at(0.0):.2f}%"></i>' if zero else ""
    lines = [_line(board, row, of(row), at, mark, signed=zero) for row in rows]
    return Card(title, f'<div class="forest" role="list">{"".join(lines)}</div>', note, "wide")


def _line(
    board: Leaderboard, row: Row, triple: Triple, at: Callable[[float], float], mark: str, *, signed: bool
) -> str:
    value, low, high = triple
    figures, span = with_interval(value, low, high, signed=signed), ""
    if low is not None and high is not None:
        span = f'<i class="span" style="left:{at(low):.2f}%;width:{at(high) - at(low):.2f}%"></i>'
    said = told_apart(row) if signed else ""
    told = f'<span class="told">{escape(said)}</span>' if said else ""
    badges = "".join(f'<b class="badge">{name}</b>' for name in _badges(board, row))
    return (
        f'<div class="line" role="listitem"><div class="who"><b class="number">{row.member}</b>'
        f"<span>{_overrides(row)}{badges}</span></div>"
        f'<div class="track">{mark}{span}<i class="dot" style="left:{at(value):.2f}%"></i></div>'
        f'<div class="figures">{escape(figures)}{told}</div></div>'
    )


def _badges(board: Leaderboard, row: Row) -> list[str]:
    """Return what a member is, besides its overrides."""
    found = ["reference"] if row.member == board.reference else []
    if row.member == board.winner:
        return [*found, "winner"]
    return [*found, "best score"] if row.member == board.best and len(board.rows) > 1 else found
