"""A snapshot of a journal says what the journal says, or is not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hms.store import snapshot
from hms.store.columns import Reason, Record
from hms.store.files import Stored
from hms.store.folders import StageFolder
from hms.store.snapshot import place_of


def said(folder: StageFolder) -> tuple[object, ...]:
    return (
        sorted(folder.files.values()),
        sorted(folder.records.values(), key=lambda record: record.item),
        (folder.seconds, folder.computed, folder.damaged_lines, folder._n_rows),
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageFolder:
    """Return a folder whose journal names files of one item and of several, a shard and reasons."""
    for module in ("snapshot", "folders"):
        monkeypatch.setattr(f"hms.store.{module}.LONG", 1)
    made = StageFolder(tmp_path / "store" / "scalograms-0")
    made.path.mkdir(parents=True)
    keys = [f"{number:016x}" for number in (5, 1, 9, 7)]
    made.append(
        [Stored(f"{key}.npz", 10, 20, f"{n:032x}") for n, key in enumerate(keys)],
        [Record(key, f"{key}.npz") for key in keys],
        0.5,
        4,
    )
    packed = [Record(f"{n:016x}", "rows-1.npz", n) for n in (11, 12)]
    made.append([Stored("rows-1.npz", 1, 2, "0f" * 16)], packed, 0.25, 2)
    odd = [
        Record("a", reason=Reason("read", "no file", failure=True)),
        Record("b", "open-1.npy", 3, None, "0f"),
    ]
    made.append([Stored("open-1.npy", 5, 6, "")], odd, 0.0, 2)
    made.append([Stored(f"{keys[0]}.npz", 11, 21, "ab" * 16)], [], 0.0, 0)
    return made


def test_a_snapshot_says_what_the_journal_says(folder: StageFolder) -> None:
    expected = said(StageFolder(folder.path).load(believe=False))
    folder.keep_snapshot()
    restored = StageFolder(folder.path).load()
    assert restored._is_restored
    assert said(restored) == expected
    assert restored.files[f"{5:016x}.npz"].size == 11
    restored.append([Stored("rows-2.npz", 3, 4, "1f" * 16)], [Record(f"{13:016x}", "rows-2.npz")], 0.0, 1)
    again = StageFolder(folder.path).load()
    assert not again._is_restored, "the journal is another now"
    assert said(again) == said(restored)


def test_a_snapshot_that_is_true_is_not_written_again(folder: StageFolder) -> None:
    folder.keep_snapshot()
    before = place_of(folder.journal).stat()
    StageFolder(folder.path).load().keep_snapshot()
    assert place_of(folder.journal).stat() == before


def test_a_short_journal_has_no_snapshot(folder: StageFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hms.store.folders.LONG", 1 << 20)
    folder.keep_snapshot()
    assert not place_of(folder.journal).exists()


def test_a_damaged_snapshot_is_not_believed(folder: StageFolder) -> None:
    folder.keep_snapshot()
    place, expected = place_of(folder.journal), said(StageFolder(folder.path).load(believe=False))
    data = place.read_bytes()
    for at in range(len(data)):
        place.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert said(StageFolder(folder.path).load()) == expected
    for cut in (b"", data[:-1], data[: len(data) // 2], data + b"more"):
        place.write_bytes(cut)
        found = StageFolder(folder.path).load()
        assert (found._is_restored, said(found)) == (False, expected)


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["../rows-1.npz"]},
        {"names": []},
        {"rest": {"files": [["../a", 1, 2, "0f"]]}},
        {"rest": {"items": [[1]]}},
        {"bytes_of_files": 3},
        {"order": "middle"},
        {"journal": "0" * 32},
    ],
)
def test_a_snapshot_that_somebody_made_is_checked_like_a_journal(
    folder: StageFolder, change: dict[str, object]
) -> None:
    folder.keep_snapshot()
    place = place_of(folder.journal)
    head, _, data = place.read_bytes().partition(b"\n")
    (content,) = snapshot.lines_of(head)
    assert content is not None
    place.write_bytes(snapshot.journal_line(content | change) + data)
    assert not StageFolder(folder.path).load()._is_restored


def test_a_damaged_journal_has_no_snapshot(folder: StageFolder) -> None:
    with open(folder.journal, "ab") as file:
        file.write(b"0123456789abcdef 2 []\n")
    folder.keep_snapshot()
    assert not place_of(folder.journal).exists()
