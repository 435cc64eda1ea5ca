"""Tables as CSV, written in pieces."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hms.store import csvs
from hms.store.csvs import csv_bytes, read_csv

TEXTS = ["=x", "a,b", 'q"', "l\nm", None, "-1", "+z", "", "'k", "u"]


@pytest.mark.parametrize("texts", [TEXTS, [*TEXTS[:-1], "x\ry"]], ids=["plain", "carriage_return"])
@pytest.mark.parametrize("together", [1, 2, 3, 7])
def test_a_table_written_in_pieces_is_the_same_text(
    texts: list[str | None], together: int, monkeypatch: pytest.MonkeyPatch
):
    frame = pd.DataFrame({"n": range(10), "share": np.r_[np.nan, np.linspace(0, 1, 9)], "text": texts})
    whole = csv_bytes(frame)
    monkeypatch.setattr(csvs, "TOGETHER", together)
    assert csv_bytes(frame) == whole
    assert whole.splitlines()[0] == b"n,share,text"
    assert read_csv(whole)["text"].tolist()[:2] == ["=x", "a,b"]


def test_a_table_without_rows_has_its_header_alone():
    assert csv_bytes(pd.DataFrame({"a": [], "b": []})) == b"a,b\n"
