"""What predictions are worth: groups, calibration, surprise, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hms.errors import ConfigError
from hms.training.evaluation import (
    Judged,
    calibration,
    compare,
    decompose,
    groups_of,
    score,
)
from hms.training.metric import confusion_counts
from hms.training.predictions import read_predictions

CLASSES = ("seizure", "lpd", "other")


def judged(n: int = 8, **changes) -> Judged:
    """Return items of which every second has the first class, with 3 and 12 votes in turn."""
    target = np.zeros((n, 3))
    target[np.arange(n), np.arange(n) % 2] = 1
    known = {
        "item_id": np.array([f"i{k}" for k in range(n)]),
        "patient_id": np.array([f"p{k // 2}" for k in range(n)]),
        "target": target,
        "vote_sum": np.where(np.arange(n) % 4 < 2, 3, 12),
        "fold": np.array([str(k % 3) for k in range(n - 1)] + ["none"]),
        "grade": np.array(["good"] * (n - 1) + [""]),
        "flags": [["noisy"], ["noisy", "flat"], *[[] for _ in range(n - 2)]],
        "classes": CLASSES,
        "threshold": 10,
    }
    return Judged(**(known | changes))


def even(n: int = 8) -> np.ndarray:
    return np.full((n, 3), 1 / 3)


# --- groups --------------------------------------------------------------------------------------


def test_every_kind_of_group_has_its_items() -> None:
    groups = groups_of(judged())
    assert list(groups) == ["all", "stratum", "class", "fold", "grade", "flag"]
    found = {
        kind: {name: np.flatnonzero(mask).tolist() for name, mask in by.items()}
        for kind, by in groups.items()
    }
    assert found["stratum"] == {"10+": [2, 3, 6, 7], "1-9": [0, 1, 4, 5]}
    assert found["class"] == {"seizure": [0, 2, 4, 6], "lpd": [1, 3, 5, 7]}
    assert found["fold"] == {"none": [7], "0": [0, 3, 6], "1": [1, 4], "2": [2, 5]}
    assert found["grade"] == {"good": [0, 1, 2, 3, 4, 5, 6]}
    assert found["flag"] == {"flat": [1], "noisy": [0, 1], "no flag": [2, 3, 4, 5, 6, 7]}


def test_the_divergence_of_even_shares_from_certain_votes_is_log_3_in_every_group() -> None:
    scores = score(judged(), even())
    for by in scores.groups.values():
        for found in by.values():
            assert found.value == pytest.approx(np.log(3))
    assert scores.groups["all"]["all"].n_groups == 4


def test_patients_and_not_items_make_the_interval() -> None:
    """Items of a patient count as one: 60 patients of two equal items have the interval of 60 items."""
    rng = np.random.default_rng(0)
    n = 120
    shares = rng.dirichlet(np.ones(3), n // 2).repeat(2, axis=0)
    items = judged(n, target=np.tile([1.0, 0, 0], (n, 1)), flags=[[]] * n)
    single = judged(n // 2, target=np.tile([1.0, 0, 0], (n // 2, 1)), flags=[[]] * (n // 2))
    single = Judged(**{**vars(single), "patient_id": np.array([f"p{k}" for k in range(n // 2)])})
    both = score(items, shares).groups["all"]["all"]
    alone = score(single, shares[::2]).groups["all"]["all"]
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high))


def test_two_predictions_are_compared_item_by_item() -> None:
    items = judged(80, flags=[[]] * 80)
    better = 0.9 * items.target + 0.1 / 3
    difference = compare(items, better, even(80))["all"]["all"]
    assert difference.value == pytest.approx(-np.log(0.9 + 0.1 / 3) - np.log(3))
    assert difference.high < 0
    assert compare(items, even(80), even(80))["stratum"]["10+"].value == 0


# --- calibration ---------------------------------------------------------------------------------


def test_the_error_is_miscalibration_less_discrimination_and_uncertainty() -> None:
    rng = np.random.default_rng(1)
    share = rng.random(500).round(2)
    target = np.clip(share**2 + 0.1 * rng.standard_normal(500), 0, 1)
    parts = decompose(target, share)
    assert parts["squared_error"] == pytest.approx(np.mean((target - share) ** 2))
    assert parts["uncertainty"] == pytest.approx(target.var())
    whole = parts["miscalibration"] - parts["discrimination"] + parts["uncertainty"]
    assert whole == pytest.approx(parts["squared_error"])
    assert parts["miscalibration"] > 0.01
    assert parts["discrimination"] > 0.05


@pytest.mark.parametrize(
    ("share", "miscalibration", "discrimination"),
    [
        ([0.25] * 4, 0, 0),  # the mean, always: calibrated, and tells nothing
        ([0, 0, 0, 1], 0, 0.1875),  # right each time: all of the variance
        ([0.4, 0.4, 0.4, 0.9], 0.1225, 0.1875),  # perfect order, wrong level: (3 * 0.16 + 0.01) / 4
        ([1, 1, 1, 0], 0.8125, 0),  # wrong each time: the best correction knows the mean alone
    ],
)
def test_parts_of_the_error_by_hand(share: list[float], miscalibration: float, discrimination: float) -> None:
    """Targets 0, 0, 0, 1: variance 3/16."""
    parts = decompose(np.array([0.0, 0, 0, 1]), np.array(share, float))
    assert parts["uncertainty"] == pytest.approx(0.1875)
    assert parts["miscalibration"] == pytest.approx(miscalibration, abs=1e-12)
    assert parts["discrimination"] == pytest.approx(discrimination, abs=1e-12)


def test_the_correction_is_that_of_an_independent_isotonic_regression() -> None:
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(2)
    share, target = rng.random(200), rng.random(200)
    fitted = IsotonicRegression().fit_transform(share, target)
    best = np.mean((fitted - target) ** 2)
    parts = decompose(target, share)
    assert parts["miscalibration"] == pytest.approx(np.mean((share - target) ** 2) - best)


def test_the_calibration_error_is_the_mean_distance_in_bins() -> None:
    """Two items at 0.15 with no vote, one at 0.95 with all: (2 * 0.15 + 0.05) / 3."""
    found = calibration(np.array([0.0, 0, 1]), np.array([0.15, 0.15, 0.95]))
    assert found["expected_calibration_error"] == pytest.approx(0.35 / 3)
    assert [(row["low"], row["n"]) for row in found["bins"]] == [(0.1, 2), (0.9, 1)]
    assert calibration(np.array([1.0]), np.array([1.0]))["bins"][0]["high"] == 1


def test_confusion_has_a_row_per_consensus_class() -> None:
    target = np.array([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0]])
    shares = np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2]])
    assert confusion_counts(target, shares).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


# --- examples ------------------------------------------------------------------------------------


def test_worst_goes_by_divergence_and_surprise_counts_the_votes() -> None:
    """Item 7 is worst; of the others, 12 votes against 0.2 surprise more than 3 against 0.1."""
    n = 20
    shares = 0.98 * judged(n, flags=[[]] * n).target + 0.02 / 3
    items = judged(n, flags=[[]] * n)
    for row, own in {7: 1e-6, 4: 0.1, 2: 0.2, **dict.fromkeys((8, 9, 10, 12, 13), 0.001)}.items():
        shares[row] = (1 - own) / 2
        shares[row, row % 2] = own
    scores = score(items, shares)
    assert scores.worst[0] == 7
    assert set(scores.worst) == {7, 8, 9, 10, 12, 13}
    assert scores.surprising[:2] == [2, 4]


# --- files ---------------------------------------------------------------------------------------

RUN = {"item_ids": ["1_0", "1_1", "2_0"], "eeg_ids": ["1", "1", "2"], "classes": CLASSES}
UNIQUE = RUN | {"eeg_ids": ["10", "11", "20"]}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "predictions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_joined_by_id_whatever_its_order_and_further_columns(tmp_path: Path) -> None:
    path = written(tmp_path, "other,item_id,lpd,seizure,note\n0.1,2_0,0.7,0.2,x\n0.5,1_0,0,0.5,y\n")
    found = read_predictions(path, **RUN)
    assert found.rows.tolist() == [0, 2]
    np.testing.assert_array_equal(found.shares, [[0.5, 0, 0.5], [0.2, 0.7, 0.1]])
    assert found.name == "predictions.csv"


def test_a_submission_is_taken_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, "eeg_id,seizure_vote,lpd_vote,other_vote\n20,1,0,0\n")
    assert read_predictions(path, **UNIQUE).rows.tolist() == [2]


def test_an_npz_names_its_classes_or_has_the_order_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    shares = np.array([[0.2, 0.7, 0.1]])
    np.savez(path, item_id=np.array(["1_1"]), prediction=shares)
    np.testing.assert_array_equal(read_predictions(path, **RUN).shares, shares)
    np.savez(
        path, item_id=np.array(["1_1"]), prediction=shares, classes=np.array(["other", "lpd", "seizure"])
    )
    np.testing.assert_array_equal(read_predictions(path, **RUN).shares, shares[:, ::-1])


def test_items_that_a_baseline_did_not_predict_are_passed_over(tmp_path: Path) -> None:
    shares = np.array([[0.2, 0.7, 0.1], [np.nan] * 3])
    np.savez(
        tmp_path / "oof.npz", item_id=np.array(["1_1", "2_0"]), prediction=shares, fold=np.array([0, -1])
    )
    found = read_predictions(tmp_path / "oof.npz", **RUN)
    assert found.rows.tolist() == [1]
    np.testing.assert_array_equal(found.shares, shares[:1])


HEAD = "item_id,seizure,lpd,other\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "seizure,lpd,other\n1,0,0\n",
            r"has no column 'item_id' \(or 'eeg_id'\).*it has seizure, lpd, other",
        ),
        (HEAD + ",1,0,0\n", "item_id is empty in lines 2"),
        (HEAD + "1_0,1,0,0\n1_0,1,0,0\n", "item_id appears more than once: 1_0"),
        (HEAD + "3_0,1,0,0\n1_0,1,0,0\n", "1 of 2 predictions are for unknown items: 3_0 .did you mean"),
        (HEAD + "1_0,,0,1\n", r"the table of predictions holds NaN \(items 1_0\)"),
        (HEAD + "1_0,nan,0,1\n", r"holds NaN \(items 1_0\)"),
        (HEAD + "1_0,1,1,0\n", r"must sum to 1 in every row; divide each row by its sum \(items 1_0\)"),
        (HEAD + "1_0,-1,1,1\n", r"has values outside 0 to 1 \(items 1_0\)"),
        (HEAD + "1_0,a,0,1\n", r"column seizure has values that are not numbers: 1_0 \('a'\)"),
        (
            "item_id,seizure,lpd\n1_0,1,0\n",
            "has no column for other; each class has one, seizure, lpd, other",
        ),
        ("item_id,seizure,lpd,other,lpd\n", "column lpd appears more than once"),
        (HEAD, "it has no rows"),
        ("", "it is not a CSV table"),
        ("eeg_id,seizure,lpd,other\n1,1,0,0\n", "several items of one eeg_id; give item_id instead"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        read_predictions(written(tmp_path, text), **RUN)
    assert str(caught.value).startswith("predictions.csv: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"prediction": np.ones((1, 3)) / 3}, "has no column 'item_id'"),
        ({"item_id": np.array(["1_0"])}, "has no array 'prediction' with the class shares; it has item_id"),
        (
            {"item_id": np.array(["1_0"]), "p": np.ones((1, 6)) / 6},
            r"of shape \(1, 3\).* got float64 of shape \(1, 6\)",
        ),
        ({"item_id": np.array(["1_0"]), "p": np.full((1, 3), np.nan)}, "holds NaN"),
        (
            {"item_id": np.array(["1_0"]), "p": np.ones((1, 3)) / 3, "classes": np.array(["a", "b", "c"])},
            "its classes are a, b, c, those of the run seizure, lpd, other",
        ),
    ],
)
def test_a_wrong_npz_is_refused_in_one_line(tmp_path: Path, arrays: dict, problem: str) -> None:
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(ConfigError, match=problem):
        read_predictions(tmp_path / "p.npz", **RUN)


def test_a_file_that_is_not_there_or_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.csv is not a file; name a csv or npz"):
        read_predictions(tmp_path / "nothing.csv", **RUN)
    (tmp_path / "p.npz").write_bytes(b"item_id")
    with pytest.raises(ConfigError, match=r"p.npz: it is not an npz file that opens without pickle"):
        read_predictions(tmp_path / "p.npz", **RUN)
    (tmp_path / "p.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"p.csv: it is neither a UTF-8 csv nor an npz"):
        read_predictions(tmp_path / "p.csv", **RUN)
    np.save(tmp_path / "p.npy", np.ones((2, 2)) / 2)
    with pytest.raises(ConfigError, match=r"np.savez\('p.npz', item_id=run.labels.item_id"):
        read_predictions(tmp_path / "p.npy", **RUN)
