"""A finished run is found finished from sizes and times alone, while all of them are as they were."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

import hms.engine.plan
from hms.sources.archive import Folder
from hms.store.seen import FOLDER, known_files, known_fingerprints, listed_once, once, stamp

STAGES = "stages=[waveforms,labels,splits]"


@pytest.fixture
def again(
    command: Callable[..., object], own_set: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., object]:
    """Run once; return a function that runs the same command, and fails where it makes a plan."""
    base = ("data=kaggle", f"data.root={own_set}", STAGES)
    assert command(*base).code == 0
    made = hms.engine.plan.make_plan

    def call(*more: str, looks: bool = False) -> object:
        plans = []
        monkeypatch.setattr("hms.engine.plan.make_plan", lambda cfg: plans.append(1) or made(cfg))
        done = command(*base, *more)
        assert bool(plans) == looks, "the tables were parsed" if plans else "nothing was looked through"
        return done

    return call


@pytest.mark.slow
def test_the_same_command_parses_nothing_and_says_the_same(again, outputs: Path):
    short = again()
    assert "found finished, nothing computed" in short.out
    plan = again("plan=true")
    for path in (outputs / "store" / FOLDER).iterdir():
        path.unlink()
    long = again(looks=True)
    assert (long.code, _without_seconds(long.out), long.err) == (
        short.code, _without_seconds(short.out), short.err
    )  # fmt: skip
    assert again("plan=true", looks=False).out == plan.out


def _without_seconds(text: str) -> str:
    """Return what is said without how long the command took."""
    return re.sub(r"nothing computed in \d+\.\d s", "", text)


@pytest.mark.slow
def test_a_plan_that_is_looked_up_keeps_nothing(again, outputs: Path):
    kept = outputs / "store" / FOLDER
    for path in kept.iterdir():
        path.unlink()
    text = again("plan=true", looks=True).out
    assert list(kept.iterdir()) == []
    assert again("plan=true", looks=True).out == text


def _touch_votes(own_set: Path, outputs: Path) -> None:
    os.utime(own_set / "train.csv", ns=(1, 1))


def _replace_recording(own_set: Path, outputs: Path) -> None:
    path = min((own_set / "train_eegs").iterdir())
    pd.read_parquet(path).mul(2).astype("float32").to_parquet(path)


def _behind_link(own_set: Path, outputs: Path) -> None:
    path = min((own_set / "train_eegs").iterdir())
    target = path.rename(own_set / "elsewhere.parquet")
    path.symlink_to(target)
    os.utime(target, ns=(1, 1))


def _add_recording(own_set: Path, outputs: Path) -> None:
    (own_set / "train_eegs" / "new.parquet").write_bytes(b"")


def _lose_stored(own_set: Path, outputs: Path) -> None:
    next((outputs / "store").glob("waveforms-*/*.npz")).unlink()


def _change_stored(own_set: Path, outputs: Path) -> None:
    path = next((outputs / "store").glob("waveforms-*/*.npz"))
    path.write_bytes(bytes(path.stat().st_size))


def _change_table(own_set: Path, outputs: Path) -> None:
    path = next((outputs / "store").glob("labels-*/*.npz"))
    path.write_bytes(bytes(path.stat().st_size))


def _redirect_link(own_set: Path, outputs: Path) -> None:
    one, other = sorted((outputs / "latest" / "wave_hr_out").iterdir())[:2]
    target = os.readlink(other)
    one.unlink()
    one.symlink_to(target)


def _lose_manifest(own_set: Path, outputs: Path) -> None:
    (outputs / "latest" / "manifest.json").unlink()


def _lose_digests(own_set: Path, outputs: Path) -> None:
    next((outputs / "store" / "recordings").glob("*.log")).unlink()


def _damage_what_was_kept(own_set: Path, outputs: Path) -> None:
    for path in (outputs / "store" / FOLDER).iterdir():
        path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)


CHANGES = (
    _touch_votes, _replace_recording, _behind_link, _add_recording, _lose_stored, _change_stored,
    _change_table, _redirect_link, _lose_manifest, _lose_digests, _damage_what_was_kept,
)  # fmt: skip


@pytest.mark.slow
def test_any_change_is_looked_into(again, own_set: Path, outputs: Path):
    for change in CHANGES:
        change(own_set, outputs)
        assert again(looks=True).code == 0, change.__name__
        assert again().code == 0, f"{change.__name__} is kept"


@pytest.mark.slow
def test_a_file_that_a_setting_names_is_one_of_those_looked_at(command, own_set: Path, tmp_path: Path):
    marks = tmp_path / "marks.csv"
    marks.write_text("item_id,mark,votes,note,when,who\n")
    base = ("data=kaggle", f"data.root={own_set}", STAGES, "marks=file", f"marks.path={marks}")
    first = command(*base)
    assert first.code == 0, first.err
    item = pd.read_csv(own_set / "train.csv")["eeg_id"].iloc[0]
    marks.write_text(f"item_id,mark,votes,note,when,who\n{item},exclude,,loose electrode,,\n")
    done = command(*base)
    assert "items used  9 of 10" in done.out


@pytest.mark.slow
def test_a_plan_of_a_finished_run_imports_neither_numpy_nor_pandas(again, own_set: Path, outputs: Path):
    program = (
        "import sys; from hms.main import main; code = main(sys.argv[1:]);"
        "print(code, sorted({'numpy', 'pandas', 'pyarrow', 'scipy'} & set(sys.modules)))"
    )
    words = [f"outputs_dir={outputs}", "n_jobs=1", "data=kaggle", f"data.root={own_set}", STAGES, "plan=true"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=os.getcwd(), env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.slow
def test_fingerprints_of_another_source_are_not_believed(again, outputs: Path, monkeypatch):
    store = outputs / "store"
    assert known_fingerprints(store)
    monkeypatch.setattr("hms.store.seen.code_stamp", lambda: "another")
    assert known_fingerprints(store) == {}
    assert again(looks=True).code == 0


def test_what_follows_from_the_same_content_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Order and digits stay; other content, other code or damage has it made again."""
    made: list[int] = []
    found = {"b": 0.1 + 0.2, "a": [None, "é", {"z": 1, "y": 2}]}

    def n_made(content: int) -> int:
        again = once(tmp_path, ["what", content], lambda: made.append(content) or found)
        assert repr(again) == repr(found)
        return len(made)

    assert [n_made(1), n_made(1), n_made(2)] == [1, 1, 2]
    for path in (tmp_path / FOLDER).iterdir():
        path.write_bytes(path.read_bytes().replace(b"0000000", b"0000001"))
    assert [n_made(1), n_made(1)] == [3, 3]
    monkeypatch.setattr("hms.store.seen.code_stamp", lambda: "another")
    assert n_made(1) == 4


def test_a_file_in_place_of_what_is_remembered_is_no_memory(tmp_path: Path):
    (tmp_path / FOLDER).write_text("not a folder")
    assert known_fingerprints(tmp_path) == {}
    assert once(tmp_path, "what", lambda: {"a": 1}) == {"a": 1}


def test_a_stamp_follows_names_sizes_and_times(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    seen = [stamp(str(folder)), stamp(str(tmp_path / "nothing"))]
    assert seen[0] == seen[1], "an empty folder lists as much as none"
    file = folder / "a"
    for content, time in ((b"1", 1), (b"1", 2), (b"12", 2)):
        file.write_bytes(content)
        os.utime(file, ns=(time, time))
        seen.append(stamp(str(folder)))
    file.rename(folder / "b")
    seen.append(stamp(str(folder)))
    assert len(set(seen)) == 5


def test_places_are_the_same_from_a_listing_and_from_each_file(own_set: Path):
    names = [path.stem for path in sorted((own_set / "train_eegs").iterdir())]
    link = own_set / "train_eegs" / f"{names[0]}.parquet"
    link.rename(own_set / "elsewhere.parquet")
    link.symlink_to(own_set / "elsewhere.parquet")
    (own_set / "train_eegs" / f"{names[1]}.parquet").unlink()
    source = Folder(str(own_set))
    each = source.places("train_eegs", names)
    with listed_once():
        assert stamp(f"{own_set}/train_eegs/") == stamp(f"{own_set}/train_eegs/")
        assert len(known_files(str(own_set / "train_eegs"))) == len(names) - 1
        assert source.places("train_eegs", names) == each
    assert known_files(str(own_set / "train_eegs")) == {}
