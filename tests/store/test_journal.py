"""Journals: what is said again is written anew, safely; what is damaged or endless is not believed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hms.errors import StorageError
from hms.store.columns import Reason, Record
from hms.store.files import Stored
from hms.store.folders import JOURNAL, StageFolder
from hms.store.journal import append_journal, read_journal
from hms.store.seen import listed, listing


def grown(path: Path, monkeypatch: pytest.MonkeyPatch) -> StageFolder:
    """Return a folder whose journal says ten times of each of eight items where it is."""
    monkeypatch.setattr("hms.store.folders.SPARE_ROWS", 4)
    monkeypatch.setattr("hms.store.folders.LINE_ROWS", 3)
    path.mkdir()
    folder = StageFolder(path).load()
    for turn in range(10):
        files = [Stored(f"{n}.npz", n, turn, f"{turn:032d}") for n in range(8)]
        folder.append(files, [Record(f"{n}", f"{n}.npz") for n in range(8)], 0.5, 8)
    return folder


def test_a_journal_that_says_most_things_again_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = grown(tmp_path / "stage", monkeypatch)
    size, was = folder.journal.stat().st_size, (folder.files, folder.records)
    spare = folder.load().spare_bytes()
    folder.tidy()
    again = StageFolder(folder.path).load()
    assert (again.files, again.records) == was
    assert (again.seconds, again.computed, again.damaged_lines) == (5.0, 80, 0)
    assert folder.journal.stat().st_size == size - spare < size / 8
    assert len(folder.journal.read_bytes().splitlines()) == 3
    stamp = folder.journal.stat().st_ino
    folder.tidy()
    assert folder.journal.stat().st_ino == stamp


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_journal_that_cannot_be_written_anew_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = grown(tmp_path / "stage", monkeypatch)
    before = folder.journal.read_bytes()

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    if call == "write":
        monkeypatch.setattr("hms.store.folders.journal_line", fail)
    else:
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError):
        folder.tidy()
    assert folder.journal.read_bytes() == before
    assert [path.name for path in folder.path.iterdir()] == ["records.log"]


def test_a_line_longer_than_any_of_ours_ends_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.log"
    for text in ("a", "b" * 200, "c"):
        append_journal(path, {"n": text})
    assert read_journal(path) == ([{"n": "a"}, {"n": "b" * 200}, {"n": "c"}], 0)
    monkeypatch.setattr("hms.store.journal.MOST_LINE", 100)
    assert read_journal(path) == ([{"n": "a"}], 1)


def test_a_line_names_items_of_files_of_shards_and_without_any(tmp_path: Path) -> None:
    why = Reason("read", "the file is missing", failure=True)
    records = [Record("a", "a.npz"), Record("b", reason=why), Record("c", "shard-1.npy", 3, None, "0f")]
    StageFolder(tmp_path).append([Stored("a.npz", 1, 2, "1f")], records, 1.0, 3)
    found = StageFolder(tmp_path).load()
    assert sorted(found.records.values()) == records
    assert [found.holds(item) for item in "abc"] == [True, True, False]


@pytest.mark.parametrize(
    "line",
    [
        {"items": [["a", "a.npz", 0]]},
        {"items": [["a", "a.npz", 0, None], ["b", "b.npz"]]},
        {"items": [["a", "a.npz", 0, None, "0f", "more"]]},
        {"items": [["a", "../a.npz", 0, None]]},
        {"items": [[1, "a.npz", 0, None]]},
        {"files": [["a.npz", 1, 2]]},
        {"files": [["a.npz", 1, 2, "1f"], ["/b.npz", 1, 2, "1f"]]},
        {"files": 3},
    ],
)
def test_a_line_that_is_not_of_a_stage_is_damaged_and_none_of_it_counts(
    tmp_path: Path, line: dict[str, object]
) -> None:
    append_journal(tmp_path / JOURNAL, line)
    found = StageFolder(tmp_path).load()
    assert (found.damaged_lines, found.files, found.records) == (1, {}, {})


def test_a_folder_lists_what_a_look_into_it_lists(tmp_path: Path) -> None:
    names = ["00000000000000ab.npz", "0000000000000000.npz", "000000000000000g.npz", "rows-1.npz", "note.txt"]
    for length, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * length)
    folder = StageFolder(tmp_path)
    assert folder.listed() is None
    sizes = {path.name: path.stat() for path in tmp_path.iterdir()}
    folder.append(
        [Stored(n, sizes[n].st_size, sizes[n].st_mtime_ns, "0" * 32) for n in names[:4]], [], 0.0, 0
    )
    folder.load().look()
    assert sorted(folder.listed() or ()) == sorted(listed(listing(str(tmp_path))))
    (tmp_path / names[0]).write_bytes(b"longer")
    assert folder.look().unlike == {names[0]}
    assert folder.listed() is None
