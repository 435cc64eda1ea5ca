"""A submission: the ids and columns that are due, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hms.competition import VOTE_COLUMNS
from hms.results.run import Run
from hms.training import submission

TEST = pd.DataFrame({"spectrogram_id": [5, 6, 7], "eeg_id": [30, 10, 20], "patient_id": [1, 1, 2]})
UNIFORM = np.full(6, 1 / 6)


def table(ids: list[int], rows: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"eeg_id": ids, **dict(zip(VOTE_COLUMNS, rows.T, strict=True))})


def test_rows_follow_the_test_table_whatever_the_order_of_the_predictions(tmp_path: Path) -> None:
    rows = np.eye(6)[[0, 1, 2]]
    path = tmp_path / "submission.csv"
    for given in (table([10, 20, 30], rows), dict(zip(["10", "20", "30"], rows, strict=True))):
        returned = submission(given, TEST, path)
        written = pd.read_csv(path)
        assert list(written) == ["eeg_id", *VOTE_COLUMNS]
        assert written["eeg_id"].tolist() == [30, 10, 20] == returned["eeg_id"].tolist()
        np.testing.assert_array_equal(written[list(VOTE_COLUMNS)].to_numpy(), rows[[2, 0, 1]])


def test_the_test_table_may_be_a_file(tmp_path: Path) -> None:
    TEST.to_csv(tmp_path / "test.csv", index=False)
    submission(dict.fromkeys([10, 20, 30], UNIFORM), tmp_path / "test.csv", tmp_path / "submission.csv")
    text = (tmp_path / "submission.csv").read_text().splitlines()
    assert text[0] == "eeg_id,seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote"
    assert len(text) == 4


def test_items_of_any_unit_are_predictions_for_their_recording(tmp_path: Path) -> None:
    """One sub-window is its recording's; several are averaged: (1, 0) and (0.5, 0.5) make (0.75, 0.25)."""
    half = [0.5, 0.5, 0, 0, 0, 0]
    first, last = np.eye(6)[0], np.eye(6)[5]
    given = {"30_0": first, "30_17": half, "10": last, "20_4": first}
    expected = np.array([[0.75, 0.25, 0, 0, 0, 0], last, first])
    rows = np.array(list(given.values()))
    by_column = dict(zip(VOTE_COLUMNS, rows.T, strict=True))
    tables = [
        pd.DataFrame({"item_id": list(given), **by_column}),
        pd.DataFrame({"item_id": ["a", "b", "c", "d"], "eeg_id": [30, 30, 10, 20], **by_column}),
    ]
    for predictions in (given, *tables):
        written = submission(predictions, TEST, tmp_path / "submission.csv")
        np.testing.assert_allclose(written[list(VOTE_COLUMNS)].to_numpy(), expected)


def test_ids_with_underscores_and_leading_zeros_are_themselves(tmp_path: Path) -> None:
    """An id of the table is never taken apart, and 007 stays 007."""
    (tmp_path / "test.csv").write_text("eeg_id\n007\na_1\na\n")
    first, last = np.eye(6)[0], np.eye(6)[5]
    given = {"a_1": first, "a_2": last, "007_0": last}
    submission(given, tmp_path / "test.csv", tmp_path / "submission.csv")
    assert (tmp_path / "submission.csv").read_text().splitlines()[1:] == [
        "007,0.0,0.0,0.0,0.0,0.0,1.0",
        "a_1,1.0,0.0,0.0,0.0,0.0,0.0",
        "a,0.0,0.0,0.0,0.0,0.0,1.0",
    ]


def test_the_class_prior_fills_what_is_missing(
    tmp_path: Path, finished: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is the mean soft label of the run's items of high confidence, and how many got it is said."""
    y, high = finished.labels.y_soft.astype(np.float64), finished.labels.hc_mask
    assert 0 < high.sum() < len(high)
    written = submission({10: UNIFORM}, TEST, tmp_path / "submission.csv", fill="prior", run=finished)
    expected = np.stack([y[high].mean(axis=0), UNIFORM, y[high].mean(axis=0)])
    np.testing.assert_allclose(written[list(VOTE_COLUMNS)].to_numpy(), expected, rtol=1e-6)
    assert "the run's class prior stands for 2 of 3 recordings without a prediction" in capfd.readouterr().err
    none = submission(pd.DataFrame(columns=["eeg_id", *VOTE_COLUMNS]), TEST, tmp_path / "s.csv",
                      fill="prior", run=finished)  # fmt: skip
    assert len(none) == 3


def test_filling_needs_a_run_and_a_run_needs_filling(tmp_path: Path, finished: Run) -> None:
    for choices in ({"fill": "prior"}, {"run": finished}, {"fill": "mean", "run": finished}):
        with pytest.raises(ValueError, match='give fill="prior" and run=RUN, or neither'):
            submission({10: UNIFORM}, TEST, tmp_path / "submission.csv", **choices)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("predictions", "text"),
    [
        ({"10_0": UNIFORM, "20_x": UNIFORM, 30: UNIFORM}, "1 prediction with an unknown id: 20_x"),
        (dict.fromkeys([10, 20], UNIFORM), "1 id without a prediction: 30"),
        (dict.fromkeys([10, 20, 30, 40], UNIFORM), "1 prediction with an unknown id: 40"),
        (table([10, 10, 20], np.tile(UNIFORM, (3, 1))), "repeated ids: 10"),
        ({10: UNIFORM, 20: UNIFORM, 30: np.full(6, np.nan)}, r"hold.* NaN \(items 30\)"),
        ({10: UNIFORM, 20: UNIFORM * 2, 30: UNIFORM}, r"must sum to 1 in every row.*\(items 20\)"),
        ({10: [1.5, -0.5, 0, 0, 0, 0], 20: UNIFORM, 30: UNIFORM}, r"outside 0 to 1 \(items 10\)"),
        ({10: [0.5, 0.5], 20: UNIFORM, 30: UNIFORM}, r"a prediction has 6 values, but that of 10"),
        (table([10, 20, 30], np.tile(UNIFORM, (3, 1))).drop(columns="gpd_vote"), "no column 'gpd_vote'"),
    ],
)
def test_what_is_no_submission_is_refused_and_nothing_is_written(
    tmp_path: Path, predictions: object, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        submission(predictions, TEST, tmp_path / "submission.csv")
    assert not list(tmp_path.iterdir())


def test_a_wrong_test_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the test table has no column 'eeg_id'; it has id"):
        submission({}, pd.DataFrame({"id": [1]}), tmp_path / "submission.csv")
    with pytest.raises(ValueError, match=r"test.csv does not exist; name the competition's test.csv"):
        submission({}, tmp_path / "test.csv", tmp_path / "submission.csv")
