"""From a test set to submission.csv: every row is answered, whatever happens to its recording."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, tree_bytes

import hms
from hms.competition import VOTE_COLUMNS
from hms.results.run import Run
from hms.training import SpecDataset, class_prior, submission

pytestmark = pytest.mark.slow

SMALL = ("cwt.n_freqs=8", "window=central10", "stages=[scalograms,labels]", "folds=none")
UNIFORM = np.full(6, 1 / 6)
KINDS = {
    "per_eeg": (),
    "per_row": ("unit=per_row",),
    "per_pattern": ("unit=per_pattern",),
    "spectrograms": ("spectrograms=kaggle",),
    "packed spectrograms": ("spectrograms=kaggle", "package.spectrograms=true", "package.pack=true"),
    "with report": ("stages=[scalograms,waveforms,labels,quality,summary,report]", "folds=group5"),
    "strict": ("qc=strict", "stages=[scalograms,labels,quality]"),
}


@pytest.fixture(scope="session")
def trained(small_set_with_spectrograms: Path, run_once: Callable[..., Run]) -> Callable[..., Run]:
    """Prepare a training run of each kind, once."""

    def make(kind: str) -> Run:
        base = ("data=kaggle", f"data.root={small_set_with_spectrograms}")
        folds = ("folds.n_splits=2",) if kind == "with report" else ()
        return run_once(*base, *SMALL[:2], *_merged(KINDS[kind]), *folds)

    return make


def _merged(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Return the small settings with those of a kind in their place."""
    named = {text.partition("=")[0] for text in overrides}
    return (*(text for text in SMALL[2:] if text.partition("=")[0] not in named), *overrides)


@pytest.fixture(scope="session")
def fifty_seconds(
    small_set_with_spectrograms: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Path, Path, str]]:
    """Cut recordings and spectrograms as test files are: 50 s and ten minutes, from the start."""
    folder = tmp_path_factory.mktemp("cut")
    table = pd.read_csv(small_set_with_spectrograms / "train.csv", dtype=str).drop_duplicates("eeg_id")
    found = []
    for row in table.itertuples():
        eeg, spectrogram = folder / f"{row.eeg_id}.eeg", folder / f"{row.spectrogram_id}.spec"
        whole = pd.read_parquet(small_set_with_spectrograms / "train_eegs" / f"{row.eeg_id}.parquet")
        whole.iloc[:10_000].to_parquet(eeg)
        whole = pd.read_parquet(
            small_set_with_spectrograms / "train_spectrograms" / f"{row.spectrogram_id}.parquet"
        )
        whole.iloc[:300].to_parquet(spectrogram)
        found.append((eeg, spectrogram, row.patient_id))
    return found


@pytest.fixture(scope="session")
def shortened(fifty_seconds: list[tuple[Path, Path, str]]) -> list[tuple[Path, Path]]:
    """Write each recording shorter than its window, and each spectrogram with all missing."""
    found = []
    for eeg, spectrogram, _ in fifty_seconds:
        short, missing = eeg.with_suffix(".short"), spectrogram.with_suffix(".missing")
        pd.read_parquet(eeg).iloc[:2_000].to_parquet(short)
        (pd.read_parquet(spectrogram) * np.float32("nan")).to_parquet(missing)
        found.append((short, missing))
    return found


@pytest.fixture
def competition(
    fifty_seconds: list[tuple[Path, Path, str]], shortened: list[tuple[Path, Path]], tmp_path: Path
) -> Iterator[Callable[..., Path]]:
    """Make a read-only test folder of so many rows, some of them damaged."""
    folder = tmp_path / "input"

    def make(n_rows: int, damaged: tuple[int, ...] = ()) -> Path:
        (folder / "test_eegs").mkdir(parents=True)
        (folder / "test_spectrograms").mkdir()
        rows = []
        for number in range(n_rows):
            eeg, spectrogram, patient = fifty_seconds[number % len(fifty_seconds)]
            eeg_id, spectrogram_id = 5_000 + number, 9_000 + number
            rows.append((spectrogram_id, eeg_id, patient))
            to_eeg = folder / "test_eegs" / f"{eeg_id}.parquet"
            to_spectrogram = folder / "test_spectrograms" / f"{spectrogram_id}.parquet"
            if number not in damaged:
                os.link(eeg, to_eeg)
                os.link(spectrogram, to_spectrogram)
            elif number % 3 == 0:  # neither is there
                continue
            elif number % 3 == 1:  # truncated, and text
                to_eeg.write_bytes(eeg.read_bytes()[:3_000])
                to_spectrogram.write_text("time,LL_0.59\n1,2\n")
            else:
                short, missing = shortened[number % len(fifty_seconds)]
                os.link(short, to_eeg)
                os.link(missing, to_spectrogram)
        table = pd.DataFrame(rows, columns=["spectrogram_id", "eeg_id", "patient_id"])
        table.to_csv(folder / "test.csv", index=False)
        for path in (*folder.rglob("*"), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        return folder

    yield make
    for path in (folder, *folder.rglob("*")) if folder.exists() else ():
        if path.is_dir():
            path.chmod(0o755)


def on_test(folder: Path, run: Run, outputs: Path) -> tuple[str, ...]:
    return (
        "data=kaggle", "data.subset=test", f"data.root={folder}", f"from_run={run.path}",
        f"outputs_dir={outputs}", "n_jobs=1",
    )  # fmt: skip


def submit(test: Run, folder: Path, run: Run, path: Path) -> pd.DataFrame:
    """Predict what the items' own means say, and write a submission; return it as a reader sees it."""
    predictions = {}
    for item_id in test.meta["item_id"]:
        shares = np.resize(test.spec(item_id).mean(axis=(1, 2), dtype=np.float64) + 0.1, 6)
        predictions[item_id] = shares / shares.sum()
    submission(predictions, folder / "test.csv", path, fill="prior", run=run)
    return pd.read_csv(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n_rows", "damaged"), [(1, ()), (9, (0, 1, 2, 3, 4, 5, 6, 7, 8))])
def test_every_row_is_answered(kind, n_rows, damaged, trained, competition, outputs, tmp_path):
    """One good row; all of them bad in three ways: exit without an error, and all rows."""
    run, folder = trained(kind), competition(n_rows, damaged)
    before = tree_bytes(folder)
    test = hms.run(hms.compose(*on_test(folder, run, outputs)))
    written = submit(test, folder, run, tmp_path / "submission.csv")
    assert written["eeg_id"].tolist() == pd.read_csv(folder / "test.csv")["eeg_id"].tolist()
    np.testing.assert_allclose(written[list(VOTE_COLUMNS)].sum(axis=1), 1)
    assert len(test.excluded) == len(damaged)
    if damaged:
        prior = np.tile(class_prior(run), (n_rows, 1))
        np.testing.assert_allclose(written[list(VOTE_COLUMNS)], prior)
    assert tree_bytes(folder) == before, "the input folder was written to"


def test_a_hundred_rows_with_a_third_unreadable(trained, competition, command, tmp_path, outputs):
    """The command says nothing of failures but in its table, and ends with 0."""
    damaged = tuple(range(0, 100, 3)) + tuple(range(1, 100, 12))
    run, folder = trained("spectrograms"), competition(100, damaged)
    done = command(*on_test(folder, run, outputs)[:4])
    assert done.code == 0, done.err
    test = hms.load("latest", outputs=outputs)
    assert len(test.meta) == 100 - len(damaged)
    assert test.excluded["eeg_id"].tolist() == [5_000 + number for number in sorted(damaged)]
    written = submit(test, folder, run, tmp_path / "submission.csv")
    assert len(written) == 100


def test_the_spectrogram_of_a_test_row_is_the_whole_file(trained, competition, outputs, fifty_seconds):
    """Without an offset the ten minutes start at 0; `hms.transform` gives the same bits."""
    run, folder = trained("spectrograms"), competition(4)
    test = hms.run(hms.compose(*on_test(folder, run, outputs)))
    assert len(test.meta) == 4
    first = test.meta["item_id"].iloc[0]
    assert test.plot(first).get_suptitle() == f"{first}: no votes"
    for item_id, (eeg, spectrogram, _) in zip(test.meta["item_id"], fifty_seconds, strict=True):
        for form in (Path, pd.read_parquet):
            got = hms.transform(pd.read_parquet(eeg), run, spectrogram=form(spectrogram))
            assert got.spec_lr.tobytes() == test.spec_lr(item_id).tobytes()
            assert got.spec.tobytes() == test.spec(item_id).tobytes()
            assert got.freqs_lr[[0, -1]].tolist() == pytest.approx([0.59, 19.92], abs=0.01)


def test_transform_refuses_a_spectrogram_that_does_not_fit(trained, fifty_seconds):
    eeg, spectrogram, _ = fifty_seconds[0]
    frame = pd.read_parquet(eeg)
    with pytest.raises(ValueError, match="choose spectrograms=kaggle"):
        hms.transform(frame, trained("per_eeg"), spectrogram=spectrogram)
    run = trained("spectrograms")
    assert hms.transform(frame, run).spec_lr is None
    cases = [
        (pd.read_parquet(spectrogram).iloc[:299], {}, "ends at 600 s but the file lasts 598 s"),
        (spectrogram, {"spectrogram_offset_s": 2.0}, "ends at 602 s but the file lasts 600 s"),
        (Path("nowhere.parquet"), {}, "nowhere.parquet does not exist"),
        (np.ones((4, 300)), {}, "is a DataFrame or a path, not ndarray"),
        (frame, {}, "needs columns such as LL_0.59"),
    ]
    for given, settings, text in cases:
        with pytest.raises(ValueError, match=text):
            hms.transform(frame, run, spectrogram=given, **settings)


def test_training_recordings_still_stop_a_run(own_set, prepare):
    """The exception is for test sets alone."""
    for path in (own_set / "train_eegs").iterdir():
        path.write_bytes(b"no parquet")
    with pytest.raises(hms.errors.TooManyFailures, match="of 10 recordings failed, more than the 3"):
        prepare(own_set, *SMALL[:4])


def test_a_table_of_votes_without_an_offset_of_the_spectrogram_says_so(
    small_set_with_spectrograms, tmp_path, prepare
):
    """In train.csv no offset is not 0: nobody says which ten minutes are meant."""
    folder = Path(shutil.copytree(small_set_with_spectrograms, tmp_path / "set"))
    table = pd.read_csv(folder / "train.csv", dtype=str)
    first = table["eeg_id"] == table["eeg_id"].iloc[0]
    table.loc[first, "spectrogram_label_offset_seconds"] = ""
    table.to_csv(folder / "train.csv", index=False)
    run = prepare(folder, *SMALL[:4], "spectrograms=kaggle")
    assert run.excluded["reason"].tolist() == ["the table has no spectrogram_label_offset_seconds for it"]


def test_workers_that_outlive_a_change_of_folder_write_where_the_run_is(small_set, tmp_path, monkeypatch):
    """A relative outputs_dir means the folder in which the run starts, for reused workers too."""
    base = ("data=kaggle", f"data.root={small_set}", "outputs_dir=outputs", "n_jobs=2")
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run = hms.run(hms.compose(*base, *SMALL[:4]))
        assert run.spec(run.meta["item_id"].iloc[0]).shape == (4, 8, 250)
    assert len(list((tmp_path / "other" / "outputs" / "store").glob("scalograms-*/*.npz"))) == 10


def test_limits_of_quality_may_differ_from_the_run(trained, competition, outputs):
    """They are no part of x: a setting or the whole group, and what is not typed is the run's."""
    run, folder = trained("strict"), competition(1)
    base = on_test(folder, run, outputs)
    assert hms.compose(*base).qc == run.config.qc
    lenient = hms.compose(*base, "qc=lenient")
    assert lenient.qc == hms.compose("qc=lenient").qc
    one = hms.compose(*base, "qc.exclude_from=null")
    assert one.qc == run.config.override("qc.exclude_from=null").qc
    for cfg in (lenient, one):
        assert len(hms.run(cfg).meta) == 1


HABITS = (ROOT / "docs" / "kaggle.md").read_text(encoding="utf-8").partition("## Twenty habits")[2]
ROWS = [line.split("|")[1:3] for line in HABITS.splitlines() if line.startswith("| ")][1:]


def test_there_are_twenty_habits():
    assert len(ROWS) == 20


@pytest.mark.parametrize("habit", [pytest.param(line, id=what.strip()) for what, line in ROWS])
def test_what_the_page_says_of_a_habit_composes(habit):
    """Every command of the table; calls in Python name arguments that there are."""
    for code in re.findall(r"`([^`]+)`", habit):
        if "(" in code:
            ast.parse(code)
            accepted = inspect.signature(SpecDataset if "dataset" in code else submission).parameters
            assert set(re.findall(r"(\w+)=", code)) <= set(accepted), code
        else:
            words = code.removeprefix("python run.py -m ").split()
            overrides = [re.sub(r"=([^,=]+),.*", r"=\1", word) for word in words]
            hms.compose("data=kaggle", *overrides)


# --- the page that people copy from --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["per_eeg", "per_row", "per_pattern", "spectrograms"])
def test_the_snippets_of_the_page_run_under_every_unit(
    kind, trained, competition, tmp_path, monkeypatch, command
):
    """Shell lines go through the command, Python ones are executed as they stand."""
    folder = competition(5, (1, 2))
    (tmp_path / "package").mkdir()
    hms.load(trained(kind).path)
    places = {
        "/kaggle/input/hms-harmful-brain-activity-classification": str(folder),
        "/kaggle/input/package": str(trained(kind).path),
    }
    page = (ROOT / "docs" / "kaggle.md").read_text(encoding="utf-8")
    for old, new in places.items():
        page = page.replace(old, new)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HMS_DATA", str(folder))
    shell = next(line for line in page.splitlines() if "from_run=" in line and line.startswith("!hms run"))
    from hms.main import main

    assert main(shell.removeprefix("!hms run ").split()) == 0
    blocks = re.findall(r"```python\n(.*?)```", page.partition("## Predict and submit")[2], flags=re.DOTALL)
    space = {"model_shares": lambda x: UNIFORM, "hms": hms}
    for block in blocks:
        exec(compile(block, "docs/kaggle.md", "exec"), space)
    written = pd.read_csv(tmp_path / "submission.csv")
    assert written["eeg_id"].tolist() == [5000, 5001, 5002, 5003, 5004]
    np.testing.assert_allclose(written.iloc[[0, 3, 4], 1:], 1 / 6)
    np.testing.assert_allclose(written.iloc[[1, 2], 1:], np.tile(class_prior(trained(kind)), (2, 1)))
