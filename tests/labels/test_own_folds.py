"""Folds that somebody made, other folds for each seed, and columns of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hms
from hms.errors import ConfigError
from hms.labels.folds import Folds, assign_folds, group_folds, patient_table, stratified_folds

pytestmark = pytest.mark.slow

FAST = ("stages=[labels,splits]",)


@pytest.fixture
def table(own_set: Path) -> pd.DataFrame:
    return pd.read_csv(own_set / "train.csv", dtype=str)


@pytest.fixture
def patients(table: pd.DataFrame) -> list[str]:
    return sorted(table["patient_id"].unique())


def validated(run: hms.results.run.Run) -> dict[str, int]:
    """Return the fold in which each patient is validated."""
    of = run.meta["patient_id"].tolist()
    return {of[row]: number for number, split in enumerate(run.splits) for row in split.valid}


def write(path: Path, header: str, rows: list[tuple[object, ...]]) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


# --- a file --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["patient_id", "eeg_id", "item_id", "eeg_id,eeg_sub_id"])
def test_patients_are_validated_where_the_file_says(by, own_set, table, patients, prepare, tmp_path):
    """Rows may be of patients, recordings, items or sub-windows; the last patient alone is fold 1."""
    fold_of = {name: int(name == patients[-1]) for name in patients}
    columns = by.split(",")
    source = table.assign(item_id=table["eeg_id"] + "_" + table["eeg_sub_id"])
    kept = source if "eeg_sub_id" in columns else source.drop_duplicates(columns)
    rows = [(*(row[c] for c in columns), fold_of[row["patient_id"]]) for _, row in kept.iterrows()]
    path = write(tmp_path / "folds.csv", f"{by},fold", rows)
    run = prepare(own_set, *FAST, "folds=file", f"folds.path={path}")
    assert validated(run) == {name: fold_of[name] for name in set(run.meta["patient_id"])}


def test_the_content_is_in_the_key_and_the_place_is_not(own_set, patients, prepare, tmp_path):
    rows = [(name, number % 2) for number, name in enumerate(patients)]
    one = write(tmp_path / "one.csv", "patient_id,fold", rows)
    first = prepare(own_set, *FAST, "folds=file", f"folds.path={one}")
    (tmp_path / "elsewhere").mkdir()
    moved = one.rename(tmp_path / "elsewhere" / "two.csv")
    assert prepare(own_set, *FAST, "folds=file", f"folds.path={moved}").hash == first.hash
    write(moved, "patient_id,fold", [(name, 1 - fold) for name, fold in rows])
    other = prepare(own_set, *FAST, "folds=file", f"folds.path={moved}")
    assert other.hash != first.hash
    assert validated(other) == {name: 1 - fold for name, fold in validated(first).items()}
    assert other.manifest["stages"]["labels"]["computed"] == 0


def test_a_run_opens_without_its_file_of_folds(own_set, patients, prepare, tmp_path):
    """A model's run goes to Kaggle without the file: inference needs no folds."""
    path = write(tmp_path / "f.csv", "patient_id,fold", [(n, i % 2) for i, n in enumerate(patients)])
    run = prepare(own_set, "stages=[scalograms,splits]", "cwt.n_freqs=8", "folds=file", f"folds.path={path}")
    path.unlink()
    eeg = next((own_set / "train_eegs").iterdir())
    assert hms.transform(eeg, hms.load(run.path)).spec.shape == (4, 8, 250)


def wrong(patients: list[str]) -> dict[str, tuple[str, list[tuple[object, ...]], str]]:
    rows = [(name, number % 2) for number, name in enumerate(patients)]
    return {
        "twice": ("patient_id,fold", [*rows, rows[0]], f"patient_id '{patients[0]}' appears twice"),
        "missing": (
            "patient_id,fold",
            rows[1:],
            f"no fold for 1 patient_id of the votes table: {patients[0]}$",
        ),
        "unknown": ("patient_id,fold", [*rows, ("x1", 0)], "1 patient_id not in the votes table: x1$"),
        "no number": ("patient_id,fold", [*rows[1:], (patients[0], "a")], f"'{patients[0]}' is 'a'; it must"),
        "negative": ("patient_id,fold", [*rows[1:], (patients[0], -1)], "is '-1'; it must be a whole number"),
        "a gap": ("patient_id,fold", [(n, 2 * f) for n, f in rows], "without a gap, .* it has 0, 2$"),
        "one fold": ("patient_id,fold", [(n, 0) for n, _ in rows], "there must be at least two; it has 0$"),
        "no fold": ("patient_id,part", rows, r"needs a column fold .* it has \['patient_id', 'part'\]"),
        "no rows": ("patient_id,part", [], r"needs a column fold .* it has \['patient_id', 'part'\]"),
        "no id": ("name,fold", rows, "needs a column fold and one of item_id, eeg_id, patient_id"),
    }


@pytest.mark.parametrize("fault", wrong(["a", "b"]))
def test_a_file_that_does_not_fit_is_refused_by_name(fault, own_set, patients, prepare, tmp_path):
    header, rows, text = wrong(patients)[fault]
    path = write(tmp_path / "folds.csv", header, rows)
    with pytest.raises(ConfigError, match=text) as caught:
        prepare(own_set, *FAST, "folds=file", f"folds.path={path}")
    assert str(path) in str(caught.value)


def test_recordings_of_one_patient_in_two_folds_are_a_leak(own_set, table, prepare, tmp_path, command):
    """The patient and both recordings are named; nothing is computed; exit code 2."""
    once = table.drop_duplicates("eeg_id")
    patient = once["patient_id"].value_counts().index[0]
    first, second = once.loc[once["patient_id"] == patient, "eeg_id"].tolist()[:2]
    rows = [(name, int(name == second)) for name in once["eeg_id"]]
    path = write(tmp_path / "folds.csv", "eeg_id,fold", rows)
    choices = ("data=kaggle", f"data.root={own_set}", *FAST, "folds=file", f"folds.path={path}")
    done = command(*choices)
    assert done.code == 2
    assert f"patient '{patient}' is in fold 0 ('{first}') and in fold 1 ('{second}')" in done.err
    write(path, "eeg_id,fold", [row for row in rows if row[0] != first])
    with pytest.raises(ConfigError, match=f"no fold for 1 eeg_id of the votes table: {first}"):
        prepare(own_set, *FAST, "folds=file", f"folds.path={path}")


def test_no_file_is_said_before_any_work(own_set, prepare, tmp_path):
    with pytest.raises(ConfigError, match=r"folds=file needs folds.path=FILE"):
        prepare(own_set, *FAST, "folds=file")
    with pytest.raises(ConfigError, match=r"nowhere.csv cannot be read: No such file"):
        prepare(own_set, *FAST, "folds=file", "folds.path=nowhere.csv")
    (tmp_path / "latin.csv").write_bytes(b"patient_id,fold\n\xe9,0\n")
    with pytest.raises(ConfigError, match="is not a CSV table in UTF-8"):
        prepare(own_set, *FAST, "folds=file", f"folds.path={tmp_path / 'latin.csv'}")


# --- a column ------------------------------------------------------------------------------------


def test_columns_of_ones_own_are_carried_and_one_may_hold_the_folds(own_set, table, patients, prepare):
    """meta_use.csv has them as they were, after its own; `fold` gives the folds."""
    fold = table["patient_id"].map({name: str(number % 2) for number, name in enumerate(patients)})
    table.assign(fold=fold, source="site A", note="").to_csv(own_set / "train.csv", index=False)
    run = prepare(own_set, *FAST, "folds=column")
    assert validated(run) == {n: i % 2 for i, n in enumerate(patients) if n in set(run.meta["patient_id"])}
    assert list(run.meta)[-3:] == ["fold", "source", "note"]
    assert set(run.meta["source"]) == {"site A"}
    assert run.meta["note"].isna().all()
    assert dict(zip(run.meta["patient_id"], run.meta["fold"], strict=True)) == validated(run)


def test_a_carried_column_changes_what_is_made_of_the_table_and_no_signal(own_set, table, prepare):
    stages = "stages=[scalograms,labels,splits]"
    first = prepare(own_set, stages, "cwt.n_freqs=8", "folds.n_splits=2")
    table.assign(source="b").to_csv(own_set / "train.csv", index=False)
    second = prepare(own_set, stages, "cwt.n_freqs=8", "folds.n_splits=2")
    assert second.hash != first.hash
    assert second.manifest["stages"]["scalograms"]["computed"] == 0
    assert "source" in second.meta
    assert "source" not in first.meta


@pytest.mark.parametrize("name", ["item_id", "vote_sum", "window_start_s", "recording", "offset_s"])
def test_a_column_named_as_one_of_ours_is_refused(name, own_set, table, prepare):
    table.assign(**{name: "1"}).to_csv(own_set / "train.csv", index=False)
    with pytest.raises(ConfigError, match=rf"train.csv: column '{name}' has the name of one that hms writes"):
        prepare(own_set, *FAST)


def test_a_column_that_holds_no_folds_is_refused(own_set, table, patients, prepare):
    with pytest.raises(ConfigError, match=r"folds.column=fold is not a column of the votes table; it has"):
        prepare(own_set, *FAST, "folds=column")
    rows = np.arange(len(table))
    cases = {
        "kfold": ((rows % 2).astype(str), r"patient '.*' is in fold [01] .* keeps every patient whole"),
        "empty": ("", "is ''; it must be a whole number"),
    }
    for name, (values, text) in cases.items():
        table.assign(**{name: values}).to_csv(own_set / "train.csv", index=False)
        with pytest.raises(ConfigError, match=text):
            prepare(own_set, *FAST, "folds=column", f"folds.column={name}")
    with pytest.raises(ConfigError, match=r"did you mean 'empty'\?\); its other columns are empty"):
        prepare(own_set, *FAST, "folds=column", "folds.column=empti")


# --- seeds ---------------------------------------------------------------------------------------


def frame_of(seed: int, n_patients: int = 60) -> pd.DataFrame:
    """Return a votes table with patients of one to six recordings and random votes."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(n_patients), rng.integers(1, 7, n_patients))
    votes = rng.multinomial(5, [0.3, 0.2, 0.1, 0.1, 0.1, 0.2], who.size)
    names = ("seizure", "lpd", "gpd", "lrda", "grda", "other")
    return pd.DataFrame(
        {
            "eeg_id": [f"r{i}" for i in range(who.size)],
            "patient_id": [f"p{i}" for i in who],
            "eeg_sub_id": 0,
            "offset_s": 0.0,
            **{f"{name}_vote": votes[:, i] for i, name in enumerate(names)},
        }
    )


@pytest.mark.parametrize(("kind", "function"), [("group", group_folds), ("stratified", stratified_folds)])
def test_a_seed_gives_other_folds_of_nearly_equal_size(kind, function, monkeypatch):
    """Every pair of seeds parts most patients otherwise; the sizes stay within the smallest patients."""
    frame = frame_of(0)
    table = patient_table(frame)
    size = table["recordings"].to_numpy()
    found = {seed: function(table, Folds(kind, 5, seed)) for seed in (None, 0, 1, 2, 3)}
    for seed, fold in found.items():
        loads = np.bincount(fold, weights=size, minlength=5)
        assert loads.max() - loads.min() <= (2 if kind == "group" else 12), (seed, loads)
        assert np.array_equal(fold, function(table, Folds(kind, 5, seed)))
    seeds = list(found)
    for a in seeds:
        for b in seeds[seeds.index(a) + 1 :]:
            together_a = found[a][:, None] == found[a]
            together_b = found[b][:, None] == found[b]
            # Of pairs that share a fold by one seed a fifth do by chance by the other.
            assert (together_a & together_b).sum() < 0.6 * together_a.sum()


def test_no_other_patient_moves_a_drawn_order():
    """The order of equal patients follows from seed and id alone, so rows in another order change nothing."""
    frame = frame_of(1)
    shuffled = frame.sample(frac=1, random_state=3).reset_index(drop=True)
    params = Folds("group", 5, 7)
    pd.testing.assert_series_equal(assign_folds(frame, params), assign_folds(shuffled, params))


def test_the_seed_is_a_setting_that_changes_nothing_when_absent(own_set, prepare):
    first = prepare(own_set, *FAST)
    assert "folds.seed" not in first.manifest["stages"]["splits"]["settings"]
    assert prepare(own_set, *FAST, "folds.seed=1").hash != first.hash
