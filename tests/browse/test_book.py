"""The file of marks while somebody judges: nothing confirmed is lost, nothing of others is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hms.browse.book import Book
from hms.errors import ConfigError
from hms.labels.classes import COMPETITION
from hms.labels.marks import read_marks

KNOWN = ("1", "2", "3")


def book(path: Path, who: str = "ab") -> Book:
    return Book(path, COMPETITION, who, KNOWN)


def said(path: Path) -> list[tuple[str, str, str, str]]:
    return [(m.item_id, m.mark, m.note, m.who) for m in read_marks(path, COMPETITION)]


def test_a_mark_is_in_the_file_when_it_is_confirmed_and_out_when_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    ours = book(path)
    assert not path.exists()
    made = ours.put("2", "exclude", "lpd=2;other", " electrode\noff ")
    assert made.note == "electrode off"
    assert path.read_text() == (
        f"item_id,mark,votes,note,when,who\n2,exclude,lpd=2;other=1,electrode off,{made.when},ab\n"
    )
    ours.put("2", "", "", "")
    assert path.read_text() == "item_id,mark,votes,note,when,who\n"


def test_two_books_and_a_hand_on_one_file_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    first, second = book(path, "ab"), book(path, "cd")
    first.put("1", "keep", "", "")
    second.put("1", "exclude", "", "noise")
    with path.open("a") as file:
        file.write("3,doubt,,by hand,,ef\n")
    first.put("2", "doubt", "", "")
    assert said(path) == [
        ("1", "keep", "", "ab"), ("1", "exclude", "noise", "cd"), ("3", "doubt", "by hand", "ef"),
        ("2", "doubt", "", "ab"),
    ]  # fmt: skip
    before = second.revision
    assert len(second.all()) == 4
    assert second.revision > before


def test_a_note_that_a_spreadsheet_would_run_is_text_in_the_file_and_as_it_was_when_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.csv"
    book(path).put("1", "doubt", "", "=1+1")
    assert ", =1+1," in path.read_text()
    assert said(path) == [("1", "doubt", "=1+1", "ab")]


@pytest.mark.parametrize(
    ("mark", "votes", "note", "text"),
    [
        ("drop", "", "", "keep, exclude, doubt or empty, not 'drop'"),
        ("", "lpdd", "", "did you mean 'lpd'"),
        ("keep", "", "x" * 1001, "at most 1000 characters, this one 1001"),
    ],
)
def test_what_is_no_mark_is_refused(tmp_path: Path, mark: str, votes: str, note: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        book(tmp_path / "m.csv").put("1", mark, votes, note)
    assert not (tmp_path / "m.csv").exists()


def test_a_file_of_another_run_or_with_columns_to_lose_or_damaged_meanwhile_is_left_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.csv"
    path.write_text("item_id,mark\n1,keep\n77,keep\n")
    with pytest.raises(ConfigError, match="marks 1 item that the run lacks: 77"):
        book(path)
    path.write_text("item_id,mark,colour\n1,keep,red\n")
    with pytest.raises(ConfigError, match="column colour, which would be lost"):
        book(path)
    path.write_text("item_id,mark\n1,keep\n")
    ours = book(path)
    path.write_text("item_id,mark\n1,kept by hand\n")
    with pytest.raises(ConfigError, match="line 2: mark 'kept by hand'"):
        ours.put("2", "keep", "", "")
    assert path.read_text() == "item_id,mark\n1,kept by hand\n"
    with pytest.raises(ConfigError, match="is not a folder"):
        book(tmp_path / "no" / "m.csv")


SAVES = """
import sys
from pathlib import Path
from hms.browse.book import Book
from hms.labels.classes import COMPETITION
ids = [str(i) for i in range(10_000)]
book = Book(Path(sys.argv[1]), COMPETITION, "ab", set(ids))
for i in ids:
    book.put(i, "exclude", "", "a note")
    print(i, flush=True)
"""


@pytest.mark.slow
def test_what_was_confirmed_survives_a_kill_while_saving(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    for after in (1, 17, 40):
        path.unlink(missing_ok=True)
        done = subprocess.Popen(
            [sys.executable, "-c", SAVES, str(path)], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        assert done.stdout is not None
        confirmed = [done.stdout.readline().strip() for _ in range(after)]
        done.send_signal(signal.SIGKILL)
        done.wait()
        confirmed += done.stdout.read().split()
        done.stdout.close()
        kept = [item for item, *_ in said(path)]
        assert kept[: len(confirmed)] == confirmed
        assert len(kept) <= len(confirmed) + 1
