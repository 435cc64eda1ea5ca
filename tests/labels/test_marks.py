"""Marks: what was decided by eye enters a run, and moves nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Prepared

import hms
from hms.errors import ConfigError
from hms.labels.classes import COMPETITION as SIX
from hms.labels.marks import (
    Mark,
    agreement,
    format_votes,
    kappa,
    parse_votes,
    read_marks,
    resolve,
    write_marks,
)
from hms.results.run import Run

Command = Callable[..., Prepared]
HEAD = "item_id,mark,votes,note,when,who\n"


def mark(item: str, mark: str = "", votes: str = "", when: str = "1", who: str = "a", note: str = "") -> Mark:
    return Mark(item, mark, parse_votes(votes, SIX), note, when, who)


def prepared(root: Path, outputs: Path, *overrides: str) -> Run:
    base = ("data=kaggle", f"data.root={root}", f"outputs_dir={outputs}", "n_jobs=1")
    return hms.run(hms.compose(*base, *overrides))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], str]:
    def write(rows: str) -> str:
        (tmp_path / "marks.csv").write_text(HEAD + rows)
        return str(tmp_path / "marks.csv")

    return write


@pytest.mark.slow
def test_a_mark_leaves_an_item_out_with_its_note_and_computes_no_signal_again(
    small_set: Path, outputs: Path, finished: Run, written: Callable[[str], str]
) -> None:
    stages = "stages=[scalograms,waveforms,labels,splits]"
    before = prepared(small_set, outputs, stages)
    item, kept = before.meta["item_id"].iloc[2], before.meta["item_id"].iloc[3]
    path = written(f"{item},exclude,,electrode off,1,ab\n{kept},doubt,,odd,1,ab\n")
    after = prepared(small_set, outputs, stages, "marks=file", f"marks.path={path}")
    assert after.hash != before.hash
    assert after.excluded[["item_id", "stage", "reason"]].to_numpy().tolist() == [
        [item, "marks", "marked by eye: electrode off"]
    ]
    assert after.manifest["stages"]["scalograms"]["computed"] == 0
    of_before = dict(zip(before.meta["item_id"], fold_of(before), strict=True))
    for item_id, fold in zip(after.meta["item_id"], fold_of(after), strict=True):
        assert fold == of_before[item_id]


@pytest.mark.slow
def test_the_report_says_whom_marks_cost(
    small_set: Path, outputs: Path, finished: Run, written: Callable[[str], str]
) -> None:
    meta = finished.meta
    taken = meta["item_id"][meta["expert_consensus"] == meta["expert_consensus"].iloc[0]]
    path = written("".join(f"{item},exclude,,,1,ab\n" for item in taken))
    run = prepared(small_set, outputs, "marks=file", f"marks.path={path}")
    name = meta["expert_consensus"].iloc[0]
    page = run.report().path.read_text()
    assert f"{len(taken)} of {len(taken)} {name.lower()} and 0 of {len(meta) - len(taken)} others" in page
    assert "Left out by readers" in page
    assert run.summary["marks"]["classes"][name.lower()]["left_out"] == len(taken)
    assert f"marks=file leaves no item of {name.lower()}" in run.summary["selection"]["lines"]


def fold_of(run: Run) -> list[int]:
    fold = np.full(len(run.meta), -1)
    for number, split in enumerate(run.splits):
        fold[split.valid] = number
    return fold.tolist()


@pytest.mark.slow
def test_who_marked_when_and_doubts_make_no_other_run(
    small_set: Path, outputs: Path, finished: Run, written: Callable[[str], str]
) -> None:
    item, other = finished.meta["item_id"].iloc[:2]
    hashes = set()
    for rows in (f"{item},exclude,,n,1,ab\n", f"{item},exclude,,n,2,cd\n{other},doubt,,hm,3,cd\n"):
        run = prepared(small_set, outputs, "stages=[labels]", "marks=file", f"marks.path={written(rows)}")
        hashes.add(run.hash)
    assert len(hashes) == 1
    rows = f"{item},exclude,,another note,1,ab\n"
    assert (
        prepared(small_set, outputs, "stages=[labels]", "marks=file", f"marks.path={written(rows)}").hash
        not in hashes
    )


def test_proposed_votes_replace_the_table_s_only_when_applied(
    small_set: Path, outputs: Path, finished: Run, written: Callable[[str], str]
) -> None:
    item = finished.meta["item_id"].iloc[4]
    path = written(f"{item},,lpd=3;other,,1,ab\n")
    plain = prepared(small_set, outputs, "stages=[labels,splits]", "marks=file", f"marks.path={path}")
    assert plain.hash == prepared(small_set, outputs, "stages=[labels,splits]").hash
    applied = prepared(
        small_set,
        outputs,
        "stages=[labels,splits]",
        "marks=file",
        f"marks.path={path}",
        "marks.apply_votes=true",
    )
    row = applied.meta["item_id"].tolist().index(item)
    assert applied.labels.y_soft[row].tolist() == [0, 0.75, 0, 0, 0, 0.25]
    assert applied.labels.vote_sum[row] == 4
    assert applied.meta["expert_consensus"].iloc[row] == "LPD"
    assert fold_of(applied) == fold_of(plain)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("nobody,exclude,,,1,a\n", "1 of 1 item_ids are not among the items: nobody"),
        ("{0},excluded,,,1,a\n", "line 2: mark 'excluded' is not known (did you mean 'exclude'?)"),
        ("{0},,lpdd=1,,1,a\n", "name the class 'lpdd' (did you mean 'lpd'?)"),
        ("{0},,lpd=-1,,1,a\n", "the count of lpd must be a positive number, not '-1'"),
        (",exclude,,,1,a\n", "line 2: item_id is empty"),
        ("{0},,lpd=0.5,,1,a\n", "votes 'lpd=0.5' are not whole numbers; labels.soft_votes=true takes shares"),
        ("{0},exclude,,,1,a\n{0},keep,,,2,b\n", "readers disagree about 1 item: {0}; set marks.resolve="),
    ],
)
def test_a_wrong_mark_is_refused_by_name(
    command: Command, small_set: Path, finished: Run, written: Callable[[str], str], rows: str, text: str
) -> None:
    item = finished.meta["item_id"].iloc[0]
    path = written(rows.format(item))
    base = ("data=kaggle", f"data.root={small_set}", "stages=[labels]", "marks=file")
    ended = command(*base, f"marks.path={path}", "marks.apply_votes=true")
    assert ended.code == 2
    assert text.format(item) in ended.err


def test_a_file_that_is_none_is_refused(command: Command, small_set: Path, tmp_path: Path) -> None:
    base = ("data=kaggle", f"data.root={small_set}", "stages=[labels]", "marks=file")
    assert "the file does not exist" in command(*base, f"marks.path={tmp_path / 'no.csv'}").err
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    assert "lacks the columns item_id, mark" in command(*base, f"marks.path={tmp_path / 'bad.csv'}").err
    (tmp_path / "twice.csv").write_text("item_id,item_id,mark\n1,2,keep\n")
    assert (
        "column 'item_id' appears more than once"
        in command(*base, f"marks.path={tmp_path / 'twice.csv'}").err
    )
    (tmp_path / "open.csv").write_text('item_id,mark\n1,"' + "keep\n" * 40_000)
    assert (
        "open.csv is not a table (field larger" in command(*base, f"marks.path={tmp_path / 'open.csv'}").err
    )
    assert "give marks.path=FILE" in command(*base).err


def test_readers_who_differ_are_resolved_as_asked() -> None:
    marks = [mark("1", "exclude", "lpd", "1", "a", "off"), mark("1", "keep", "gpd", "3", "b"),
             mark("1", "keep", "lpd", "2", "c")]  # fmt: skip
    with pytest.raises(ConfigError, match="readers disagree about 1 item: 1"):
        resolve(marks, None)
    latest = resolve(marks, "latest")["1"]
    assert (latest.excluded, latest.votes) == (False, (("gpd", 1.0),))
    anyone = resolve(marks, "any")["1"]
    assert (anyone.excluded, anyone.note, dict(anyone.votes)) == (True, "off", {"lpd": 2.0, "gpd": 1.0})
    assert not resolve(marks, "majority")["1"].excluded
    assert resolve([mark("2", "keep"), mark("2", "doubt", who="b")], None)["2"].excluded is False


def test_marks_read_back_as_they_were_written(tmp_path: Path) -> None:
    marks = [
        mark("1", "exclude", "lpd=2;other=0.5", note='a "quoted", note\nof two lines'),
        mark("7", "", ""),
    ]
    (tmp_path / "m.csv").write_bytes(write_marks(marks))
    assert read_marks(tmp_path / "m.csv", SIX) == marks
    assert format_votes(marks[0].votes) == "lpd=2;other=0.5"


def test_the_last_row_of_a_reader_counts(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(HEAD + "1,exclude,,,1,a\n1,keep,,,2,a\n")
    assert [m.mark for m in read_marks(tmp_path / "m.csv", SIX)] == ["keep"]


def test_kappa_is_that_of_the_closed_form() -> None:
    """20 both yes, 5 and 10 apart, 15 both no: observed 0.7, by chance 0.5, kappa 0.4."""
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert kappa(pairs) == pytest.approx(0.4)
    assert kappa([]) is None
    assert kappa([(1, 1), (1, 1)]) is None


def test_agreement_counts_what_both_readers_judged() -> None:
    marks = [mark("1", "exclude", "lpd"), mark("2", "keep", "gpd"), mark("3", "keep"),
             mark("1", "exclude", "lpd", who="b"), mark("2", "exclude", "gpd", who="b")]  # fmt: skip
    (found,) = agreement(marks)
    assert (found.exclude_items, found.exclude_same) == (2, 1)
    assert (found.class_items, found.class_same, found.class_kappa) == (2, 2, 1.0)


def test_readers_marks_become_a_table_that_a_run_takes_as_its_votes(
    small_set: Path, finished: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The labelling loop: two readers vote on windows, and the run made from their table has those labels."""
    from hms.cli import main as cli
    from hms.sources.windows import read_windows

    first, second = finished.meta["item_id"].iloc[:2]
    (tmp_path / "ab.csv").write_text(HEAD + f"{first},keep,lpd,,1,\n{second},exclude,,,1,\n")
    (tmp_path / "cd.csv").write_text(HEAD + f"{first},keep,lpd=2;other,,1,\n{second},keep,gpd,,1,\n")
    arguments = [
        "--outputs",
        str(finished.path.parent),
        "marks",
        str(tmp_path / "ab.csv"),
        str(tmp_path / "cd.csv"),
    ]
    assert cli([*arguments, "--run", finished.hash, "--votes", str(tmp_path / "votes.csv")]) == 0
    shown = capfd.readouterr().out
    assert "ab, cd" in shown
    assert "1 of 2" in shown
    table = read_windows(tmp_path / "votes.csv")
    assert [row["recording"] for row in table.rows] == finished.meta["recording"].iloc[:2].tolist()
    assert [table.rows[0][f"{name}_vote"] for name in ("lpd", "gpd", "other")] == ["3", "0", "1"]
    assert cli([*arguments, "--votes", "x.csv"]) == 2
    assert "--votes needs --run RUN" in capfd.readouterr().err


def test_two_files_of_one_reader_are_refused(tmp_path: Path) -> None:
    from hms.results.marking import read_readers

    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(HEAD + "1,keep,,,1,ab\n")
    with pytest.raises(ConfigError, match=r"a.csv and b.csv both hold marks of reader 'ab' about item 1"):
        read_readers([tmp_path / "a.csv", tmp_path / "b.csv"])
