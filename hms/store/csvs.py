"""Tables as CSV whose texts no spreadsheet takes for formulas, and that read back as they were.

A cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line end is a formula to spreadsheets. A
text that does, unless it is a number or made of letters, digits, ``_``, ``-`` and ``.`` alone, is written
with an apostrophe before it, which tells spreadsheets that it is text; so is a text that begins with an
apostrophe. `read_csv` takes one apostrophe off again.

References
----------
OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MARK = "'"
_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", MARK)
_WORD = re.compile(r"[A-Za-z0-9_.-]*")
TOGETHER = 1 << 16
"""Rows of a table made into text together."""

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def harmless(text: str) -> str:
    """Return a text as it is written into a CSV file; numbers and ids stay as they are."""
    if not text.startswith(_RISKY) or _WORD.fullmatch(text) or _NUMBER.fullmatch(text):
        return text
    return MARK + text


def as_it_was(text: str) -> str:
    """Return the text that `harmless` was given."""
    return text.removeprefix(MARK)


def harmless_cell(value: Any) -> Any:
    """Return a cell as it is written: a text made harmless, anything else as it is."""
    return harmless(value) if isinstance(value, str) else value


def csv_bytes(frame: pd.DataFrame, **options: Any) -> bytes:
    """Return a table as UTF-8 text with LF line ends, its texts harmless; options are those of pandas.

    A million rows are made into text `TOGETHER` at a time: only their bytes are in memory together.
    """
    firsts = range(0, max(len(frame), 1), TOGETHER)
    return b"".join(
        _csv_piece(frame.iloc[first : first + TOGETHER], {"header": not first} | options) for first in firsts
    )


def _csv_piece(frame: pd.DataFrame, options: Mapping[str, Any]) -> bytes:
    texts = {str(name): column.map(harmless_cell) for name, column in frame.items() if _has_texts(column)}
    harmless_frame = frame.assign(**texts)
    if not any(column.astype(str).str.contains("\r", regex=False).any() for column in texts.values()):
        return str(harmless_frame.to_csv(index=False, lineterminator="\n", **options)).encode()
    # A writer quotes what is in its own line ends: a lone carriage return would end a row.
    text = harmless_frame.to_csv(index=False, lineterminator="\r\n", **options)
    return rows_text(csv.reader(io.StringIO(text, newline=""))).encode()


def rows_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV with LF line ends; texts are written as they are, see `harmless`."""
    table = list(rows)
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(table)
    text = out.getvalue()
    if "\r" not in text:
        return text
    # Python quotes what is in the writer's own line ends alone: a lone carriage return would end a row.
    return "".join(_row_text(row) for row in table)


def _row_text(row: Sequence[Any]) -> str:
    if any(isinstance(cell, str) and "\r" in cell for cell in row):
        return ",".join(map(_quoted, row)) + "\n"
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(row)
    return out.getvalue()


def _quoted(cell: Any) -> str:
    text = "" if cell is None else str(cell)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


def read_csv(source: Path | bytes, **options: Any) -> pd.DataFrame:
    """Return a table that `csv_bytes` wrote, its texts as they were; options are those of pandas."""
    import pandas as pd

    file = io.BytesIO(source) if isinstance(source, bytes) else source
    # In pieces, a column whose first texts are late would be of several types, with a warning.
    frame: pd.DataFrame = pd.read_csv(
        file, keep_default_na=False, na_values=[""], **{"low_memory": False, **options}
    )
    marked = {}
    for name, column in frame.items():
        if _has_texts(column) and column.astype(str).str.startswith(MARK).any():
            marked[str(name)] = column.map(as_it_was, na_action="ignore")
    return frame.assign(**marked) if marked else frame


def _has_texts(column: pd.Series) -> bool:
    return column.dtype.kind not in "iufbM"
