"""Rows that lie many to a file: read whole, in pieces and by place, and never with all files in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from hms.store.npz import npz_bytes
from hms.store.rows import PackedRows


def packed(folder: Path, order: np.ndarray, *, per_file: int = 4, width: int = 3) -> PackedRows:
    """Return rows of items 0, 2, 4 ..., each filled with its item's number, written in an order."""
    row = 2 * np.arange(len(order))
    file, inside = np.empty(len(order), int), np.empty(len(order), int)
    names = []
    for first in range(0, len(order), per_file):
        some = order[first : first + per_file]
        file[some], inside[some] = len(names), np.arange(len(some))
        values = np.repeat(row[some][:, None], width, axis=1)
        texts = np.array([str(10 ** (number % 9)) for number in some.tolist()])
        names.append(f"rows-{first}.npz")
        arrays = {"x": values.astype(np.float32), "text": texts, "other": values}
        (folder / names[-1]).write_bytes(npz_bytes(arrays))
    return PackedRows(folder, names, row, file, inside)


@pytest.mark.parametrize("scattered", [False, True])
def test_rows_are_in_the_order_of_items_however_they_were_written(tmp_path: Path, scattered: bool) -> None:
    order = np.random.default_rng(0).permutation(10) if scattered else np.arange(10)
    rows = packed(tmp_path, order)
    found = rows.read(lambda name: name != "other")
    assert set(found) == {"x", "text"}
    np.testing.assert_array_equal(found["x"], np.repeat(2 * np.arange(10)[:, None], 3, axis=1))
    assert found["text"].tolist() == [str(10 ** (number % 9)) for number in range(10)]
    places = np.array([7, 2, 2])
    np.testing.assert_array_equal(rows.column("x")[places][:, 0], [14, 4, 4])
    np.testing.assert_array_equal(rows.column("x")[3:5][:, 0], [6, 8])


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_pieces_cover_the_table_with_the_rows_of_what_was_prepared(
    tmp_path: Path, scattered: bool, size: int
) -> None:
    """Of 21 items, each second was prepared; pieces without any of them come too."""
    order = np.random.default_rng(0).permutation(10) if scattered else np.arange(10)
    pieces = list(packed(tmp_path, order).blocks(lambda name: name == "x", 21, size))
    assert [piece["row"].tolist() for piece in pieces] == [
        [row for row in range(first, min(first + size, 21)) if row % 2 == 0 and row < 20]
        for first in range(0, 21, size)
    ]
    whole = np.concatenate([piece["x"][:, 0] for piece in pieces if piece["row"].size])
    np.testing.assert_array_equal(whole, 2 * np.arange(10))


def test_no_rows_are_one_empty_piece(tmp_path: Path) -> None:
    rows = packed(tmp_path, np.arange(0))
    assert [piece["row"].tolist() for piece in rows.blocks(lambda name: True, 0, 5)] == [[]]
    assert rows.read(lambda name: True) == {}


def test_pieces_take_the_memory_of_a_piece(tmp_path: Path) -> None:
    """Of 8 MB, one piece of 64 kB at a time."""
    rows = packed(tmp_path, np.arange(4000), per_file=100, width=250)
    tracemalloc.start()
    try:
        total = sum(
            piece["x"].sum(dtype=np.float64) for piece in rows.blocks(lambda name: name == "x", 8000, 128)
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 250 * 2 * 3999 * 4000 / 2
    assert peak < 2e6
