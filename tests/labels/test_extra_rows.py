"""Pseudo-labels from a second table, soft votes, and classes that count alike in each fold."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hms.competition import VOTE_COLUMNS
from hms.errors import ConfigError
from hms.labels.folds import Split
from hms.labels.weights import Weight, class_weights
from hms.results.run import Run
from hms.training.baseline import class_prior, out_of_fold

pytestmark = pytest.mark.slow

FAST = ("stages=[labels,splits,quality,summary]", "folds.n_splits=2", "labels.soft_votes=true")


@pytest.fixture
def table(own_set: Path) -> pd.DataFrame:
    return pd.read_csv(own_set / "train.csv", dtype=str)


def pseudo(path: Path, ids: list[str], **columns: object) -> Path:
    """Write rows that are 0.75 seizure and 0.25 lpd, with further columns."""
    votes = dict.fromkeys(VOTE_COLUMNS, 0.0) | {"seizure_vote": 0.75, "lpd_vote": 0.25}
    pd.DataFrame({"eeg_id": ids, **votes} | columns).to_csv(path, index=False)
    return path


def parts(run: Run) -> list[tuple[set[str], set[str]]]:
    """Return the items trained on and validated on, by fold."""
    ids = run.labels.item_id
    return [(set(ids[train].tolist()), set(ids[valid].tolist())) for train, valid in run.splits]


# --- rows of a second table ----------------------------------------------------------------------


def test_pseudo_rows_are_trained_on_outside_their_patients_fold_and_never_validated(
    own_set, table, prepare, tmp_path
):
    """The folds are those of the first table alone; a patient of the second table is always trained on."""
    plain = prepare(own_set, *FAST)
    one, two = plain.meta["item_id"].iloc[0], plain.meta["item_id"].iloc[-1]
    shutil.copy(own_set / "train_eegs" / f"{one}.parquet", own_set / "train_eegs" / "900.parquet")
    patient = dict(zip(table["eeg_id"], table["patient_id"], strict=True))
    path = pseudo(tmp_path / "p.csv", [one, two, "900"], weight=[0.5, 2, 0.25],
                  patient_id=["", patient[two], "new"])  # fmt: skip
    run = prepare(own_set, *FAST, f"data.extra={path}")
    sub = dict(zip(plain.meta["item_id"], plain.meta["eeg_sub_id"], strict=True))
    first, second, third = f"{one}_{sub[one]}_extra", f"{two}_{sub[two]}_extra", "900_0_extra"
    assert run.meta["item_id"].tolist() == [*plain.meta["item_id"], first, second, third]
    for (train, valid), (train_before, valid_before) in zip(parts(run), parts(plain), strict=True):
        assert valid == valid_before
        added = {third}
        added |= {first} if one not in valid else set()
        added |= {second} if two not in valid else set()
        assert train == train_before | added
    assert run.meta["label_source"].tolist() == ["votes"] * len(plain.meta) + ["extra"] * 3
    labels = run.labels
    np.testing.assert_array_equal(labels.y_soft[-3:], [[0.75, 0.25, 0, 0, 0, 0]] * 3)
    np.testing.assert_array_equal(labels.w_conf[-3:], np.float32([0.5, 2, 0.25]))
    np.testing.assert_array_equal(labels.w_conf[:-3], plain.labels.w_conf)
    assert not labels.hc_mask[-3:].any()
    np.testing.assert_array_equal(labels.y_soft[:-3], plain.labels.y_soft)


def test_a_pseudo_row_has_the_window_of_its_row_and_shares_its_scalogram(own_set, table, prepare, tmp_path):
    """By eeg_sub_id, or that with most votes; another window of the recording is one more scalogram."""
    stages = ("stages=[scalograms,labels,splits]", "cwt.n_freqs=8", *FAST[1:])
    plain = prepare(own_set, *stages)
    item = plain.meta.iloc[0]
    path = pseudo(tmp_path / "p.csv", [str(item["eeg_id"])])
    run = prepare(own_set, *stages, f"data.extra={path}")
    assert run.manifest["stages"]["scalograms"]["computed"] == 0
    added = run.meta.iloc[-1]
    assert added["window_start_s"] == item["window_start_s"]
    np.testing.assert_array_equal(run.spec(added["item_id"]), run.spec(item["item_id"]))
    rows = table[(table["eeg_id"] == str(item["eeg_id"]))]
    other = rows[rows["eeg_sub_id"] != str(item["eeg_sub_id"])].iloc[-1]
    path = pseudo(tmp_path / "q.csv", [other["eeg_id"]], eeg_sub_id=[other["eeg_sub_id"]])
    again = prepare(own_set, *stages, f"data.extra={path}")
    assert again.meta.iloc[-1]["window_start_s"] == float(other["eeg_label_offset_seconds"]) + 20
    assert again.manifest["stages"]["scalograms"]["computed"] == 1
    assert again.labels.w_conf[-1] == pytest.approx(0.1)  # one vote of ten, where no weight is stated


def test_the_content_of_the_second_table_is_part_of_the_run(own_set, table, prepare, tmp_path):
    ids = table["eeg_id"].drop_duplicates().tolist()
    first = prepare(own_set, *FAST, f"data.extra={pseudo(tmp_path / 'a.csv', ids[:1])}")
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    assert prepare(own_set, *FAST, f"data.extra={tmp_path / 'b.csv'}").hash == first.hash
    assert prepare(own_set, *FAST, f"data.extra={pseudo(tmp_path / 'b.csv', ids[:2])}").hash != first.hash


def test_a_baseline_learns_from_pseudo_rows_and_is_not_judged_by_them(own_set, table, prepare, tmp_path):
    ids = table["eeg_id"].drop_duplicates().tolist()
    choices = ("stages=[labels,splits]", "cwt.n_freqs=8", *FAST[1:], "baseline=logreg")
    plain = prepare(own_set, *choices)
    run = prepare(own_set, *choices, f"data.extra={pseudo(tmp_path / 'p.csv', ids, weight=5)}")
    before, after = (r.arrays("baseline/oof.npz") for r in (plain, run))
    n = len(before["item_id"])
    assert (after["fold"][:n] == before["fold"]).all()
    assert (after["fold"][n:] == -1).all()
    assert np.isnan(after["prediction"][n:]).all()
    for fold, (train, _) in enumerate(run.splits):
        y, w = run.labels.y_soft[train].astype(np.float64), run.labels.w_conf[train].astype(np.float64)
        of_fold = after["prior"][after["fold"] == fold]
        np.testing.assert_allclose(of_fold, np.tile(w @ y / w.sum(), (len(of_fold), 1)), rtol=1e-6)
    assert not np.allclose(after["prediction"][:n], before["prediction"])


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"eeg_id": ["12345"]}, r"column 'patient_id' is needed for 12345, not in the votes table"),
        ({"eeg_id": ["12345"], "patient_id": ["x"]}, r"12345 are neither in train.csv nor files"),
        (
            {"patient_id": ["nobody"]},
            "belongs to patient .* in the votes table; recordings with two patients: 1",
        ),
        ({"weight": ["heavy"]}, "column 'weight' must hold numbers, 0 or more, but row 0 has other values"),
        ({"weight": [-1]}, "column 'weight' must hold numbers"),
        ({"seizure_vote": 0.0, "lpd_vote": 0.0}, "votes must not sum to 0, but do in row 0"),
        ({"seizure_vote": -0.5}, "column 'seizure_vote' must hold"),
        ({"label_source": "model"}, "a column 'label_source' is made when rows are added"),
        ({"eeg_sub_id": ["777"]}, "column 'eeg_label_offset_seconds' must hold seconds"),
        ({"eeg_id": ["../x"], "patient_id": ["x"]}, "column 'eeg_id' must hold ids of letters"),
    ],
)
def test_a_second_table_that_does_not_fit_is_refused(columns, text, own_set, table, prepare, tmp_path):
    path = pseudo(tmp_path / "p.csv", [table["eeg_id"].iloc[0]], **columns)
    with pytest.raises(ConfigError, match=text) as caught:
        prepare(own_set, *FAST, f"data.extra={path}")
    assert str(path) in str(caught.value)


def test_fractions_without_the_setting_and_other_misuses_are_refused(own_set, table, prepare, tmp_path):
    path = pseudo(tmp_path / "p.csv", [table["eeg_id"].iloc[0]])
    with pytest.raises(ConfigError, match=r"labels.soft_votes=true takes shares"):
        prepare(own_set, *FAST[:2], f"data.extra={path}")
    with pytest.raises(ConfigError, match=r"nowhere.csv cannot be read: No such file"):
        prepare(own_set, *FAST, "data.extra=nowhere.csv")
    twice = pseudo(tmp_path / "t.csv", [table["eeg_id"].iloc[0]] * 2)
    with pytest.raises(ConfigError, match="must be unique together"):
        prepare(own_set, *FAST, f"data.extra={twice}")
    (own_set / "test_eegs").mkdir()
    (own_set / "test.csv").write_text("spectrogram_id,eeg_id,patient_id\n1,1,1\n")
    with pytest.raises(ConfigError, match="leave it out for a test set"):
        prepare(own_set, "data.subset=test", "stages=[scalograms]", f"data.extra={path}")


# --- classes that count alike --------------------------------------------------------------------


def weight(balance: str, beta: float = 0.999) -> Weight:
    return Weight("linear", 10.0, 1.5, balance, beta)  # type: ignore[arg-type]


def test_inverse_weights_are_those_of_scikit_learn_for_labels_of_one_class():
    from sklearn.utils.class_weight import compute_class_weight

    label = np.array([0, 0, 0, 1, 1, 2, 0, 0])
    rows = np.arange(6)
    found = class_weights(np.eye(3)[label], [Split(rows, np.array([6, 7]))], weight("inverse"))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=label[rows])
    np.testing.assert_allclose(found[0], expected)


def test_effective_weights_follow_the_formula_and_end_in_none_and_inverse():
    """(1 - b) / (1 - b^n) for n = 3 and 1: with b = 0.5, 0.5 / 0.875 and 1, scaled to a mean of 1."""
    y = np.eye(2)[[0, 0, 0, 1]]
    split = [Split(np.arange(4), np.array([], int))]
    raw = np.array([0.5 / 0.875, 1.0])
    expected = raw * 4 / (3 * raw[0] + raw[1])
    np.testing.assert_allclose(class_weights(y, split, weight("effective", 0.5))[0], expected)
    np.testing.assert_allclose(class_weights(y, split, weight("effective", 0.0))[0], 1)
    near = class_weights(y, split, weight("effective", 0.999999))[0]
    np.testing.assert_allclose(near, class_weights(y, split, weight("inverse"))[0], rtol=1e-5)


def test_a_class_that_the_training_part_lacks_weighs_1():
    y = np.eye(3)[[0, 1, 2]]
    found = class_weights(y, [Split(np.array([0, 1]), np.array([2]))], weight("inverse"))
    np.testing.assert_allclose(found[0], [1, 1, 1])


def test_a_package_has_weights_for_each_fold_by_its_training_part(small_set, prepare):
    """w_conf_fold = w_conf times y_soft times 1 / (6 p); datasets, samplers and the baseline take it."""
    choices = ("stages=[scalograms,labels,splits,quality,summary]", "cwt.n_freqs=8", "folds.n_splits=2")
    plain = prepare(small_set, *choices, "baseline=logreg")
    run = prepare(small_set, *choices, "baseline=logreg", "weight.balance=inverse")
    labels = run.labels
    assert labels.w_conf_fold.shape == (2, len(run.meta))
    np.testing.assert_array_equal(labels.w_conf, plain.labels.w_conf)
    for fold, (train, _) in enumerate(run.splits):
        p = labels.y_soft[train].mean(axis=0, dtype=np.float64)
        expected = np.where(p > 0, 1 / ((p > 0).sum() * np.where(p > 0, p, 1)), 1)
        np.testing.assert_allclose(labels.w_class_fold[fold], expected, rtol=1e-5)
        np.testing.assert_allclose(
            labels.w_conf_fold[fold], labels.w_conf * (labels.y_soft @ expected), rtol=1e-5
        )
        named = run.summary["class_weights"][fold]
        np.testing.assert_allclose(list(named.values()), expected, atol=1e-5)
        dataset = run.dataset("train", fold=fold)
        np.testing.assert_array_equal(dataset.weights, labels.w_conf_fold[fold][train])
        assert dataset.weights_for_sampler() == [float(w) for w in labels.w_conf_fold[fold][train]]
        y, w = labels.y_soft[train].astype(np.float64), labels.w_conf_fold[fold][train].astype(np.float64)
        oof = run.arrays("baseline/oof.npz")
        here = oof["fold"] == fold
        if here.any():
            np.testing.assert_allclose(oof["prior"][here][0], w @ y / w.sum(), rtol=1e-6)
    assert "class_weights" not in plain.summary
    assert plain.labels.w_conf_fold is None
    assert plain.manifest["stages"]["labels"]["key"] != run.manifest["stages"]["labels"]["key"]
    np.testing.assert_array_equal(run.dataset().weights, labels.w_conf)


def test_pseudo_rows_of_patients_set_aside_are_neither_learned_from_nor_predicted():
    """An item of each kind, of a patient set aside, and one of another patient that is only learned from."""
    y = np.eye(2)[[0, 1, 0, 1, 1, 0]]
    extra = np.array([False, False, False, False, True, True])
    aside = np.array([False, False, False, True, True, False])
    splits = [Split(np.array([1, 2, 3, 4, 5]), np.array([0]))]
    found = out_of_fold(np.zeros((6, 1)), y, np.ones(6), splits, class_prior, aside=aside, extra=extra)
    assert found.fold.tolist() == [0, -1, -1, -2, -1, -1]
    np.testing.assert_allclose(found.prediction[0], [2 / 3, 1 / 3])
    np.testing.assert_allclose(found.prediction[3], [3 / 4, 1 / 4])
