"""Kaggle's metric by hand, its refusals, and intervals that resample patients."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from hms.competition import CLASSES
from hms.training.metric import (
    align,
    kl_divergence,
    reliability,
    row_divergence,
    scores,
    stratum_names,
)

UNIFORM = [1 / 6] * 6


def one(index):
    return [float(i == index) for i in range(6)]


# --- the metric ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "prediction", "expected"),
    [
        (one(0), UNIFORM, math.log(6)),
        ([0.5, 0.5, 0, 0, 0, 0], [0.25, 0.75, 0, 0, 0, 0], 0.5 * math.log(2) + 0.5 * math.log(2 / 3)),
        ([0.75, 0.25, 0, 0, 0, 0], [0.75, 0.25, 0, 0, 0, 0], 0.0),
        (one(2), one(3), math.log(1e15)),
        (one(1), one(1), -math.log(1 - 1e-15)),
        (UNIFORM, UNIFORM, 0.0),
    ],
)
def test_divergence_of_one_row_as_worked_out_by_hand(target, prediction, expected):
    assert kl_divergence([target], [prediction]) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_rows_are_averaged_with_equal_weight_unless_weights_are_given():
    target, prediction = [one(0), one(0)], [UNIFORM, [0.5, 0.5, 0, 0, 0, 0]]
    assert kl_divergence(target, prediction) == pytest.approx((math.log(6) + math.log(2)) / 2)
    weighted = kl_divergence(target, prediction, weights=[1, 3])
    assert weighted == pytest.approx((math.log(6) + 3 * math.log(2)) / 4)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_divergence_agrees_with_scipy_where_nothing_is_clipped(seed):
    """SciPy's rel_entr is the independent reference; a zero target counts nothing."""
    rng = np.random.default_rng(seed)
    y, p = rng.dirichlet(np.full(6, 0.7), 9), rng.dirichlet(np.full(6, 2.0), 9)
    y[0] = one(4)
    expected = rel_entr(y, p).sum(axis=1)
    np.testing.assert_allclose(row_divergence(y, p), expected, rtol=1e-10, atol=1e-13)


def test_only_predictions_are_clipped_and_nothing_is_normalised_again():
    """A sum of 1 + 9e-6 passes Kaggle's check and is used as it is."""
    prediction = [0.5 + 9e-6, 0.5, 0, 0, 0, 0]
    assert kl_divergence([one(0)], [prediction]) == pytest.approx(-math.log(0.5 + 9e-6), rel=1e-12)


@pytest.mark.parametrize(
    ("prediction", "text"),
    [
        ([[math.nan] * 6, UNIFORM], r"prediction holds NaN \(rows 0\)"),
        ([UNIFORM, [1.1, -0.1, 0, 0, 0, 0]], r"outside 0 to 1 \(rows 1\)"),
        ([UNIFORM, [0.5, 0.4, 0, 0, 0, 0]], r"must sum to 1 in every row.*\(rows 1\)"),
        ([[0.5 + 2e-5, 0.5, 0, 0, 0, 0], UNIFORM], r"must sum to 1 in every row.*\(rows 0\)"),
        ([UNIFORM], r"the targets have the shape \(2, 6\), the predictions \(1, 6\)"),
        (UNIFORM, r"prediction has the shape \(n_items, n_classes\), not \(6,\)"),
    ],
)
def test_what_is_no_prediction_is_refused_with_its_rows(prediction, text):
    with pytest.raises(ValueError, match=text):
        kl_divergence([one(0), one(1)], prediction)


def test_no_rows_have_no_divergence():
    with pytest.raises(ValueError, match="no rows"):
        kl_divergence(np.empty((0, 6)), np.empty((0, 6)))


def test_predictions_are_put_in_the_order_of_the_targets_by_id():
    target, prediction = [one(0), one(1), one(2)], [one(2), one(0), one(1)]
    matched = kl_divergence(
        target, prediction, target_ids=["7", "8", "9"], prediction_ids=np.array([9, 7, 8])
    )
    assert matched < 1e-14
    assert kl_divergence(target, prediction) > 30


@pytest.mark.parametrize(
    ("ids", "wanted", "text"),
    [
        ([1, 2], [1, 2, 3, 4], r"^2 ids without a prediction: 3, 4$"),
        ([1, 2, 5], [1, 2], r"^1 prediction with an unknown id: 5$"),
        ([1, 3], [1, 2], r"^1 id without a prediction: 2; 1 prediction with an unknown id: 3$"),
        ([1, 1], [1, 2], r"the predictions have repeated ids: 1"),
        ([1, 2], [2, 2], r"the targets have repeated ids: 2"),
    ],
)
def test_ids_that_differ_are_refused(ids, wanted, text):
    with pytest.raises(ValueError, match=text):
        align(ids, wanted)


def test_ids_on_one_side_only_are_refused():
    with pytest.raises(ValueError, match="give target_ids and prediction_ids, or neither"):
        kl_divergence([UNIFORM], [UNIFORM], target_ids=["a"])


# --- by group ------------------------------------------------------------------------------------


def test_strata_are_parted_at_the_threshold():
    assert stratum_names([1, 9, 10, 28]).tolist() == ["1-9", "1-9", "10+", "10+"]
    assert stratum_names([1, 2], 2).tolist() == ["1", "2+"]


def test_scores_by_stratum_class_and_fold_are_the_means_of_their_items():
    target = np.array([one(0), one(0), one(1), one(5)])
    prediction = np.array([UNIFORM, one(0), one(1), UNIFORM])
    got = scores(
        target,
        prediction,
        vote_sum=[12, 3, 10, 3],
        patient_id=["a", "b", "c", "d"],
        fold=[0, 0, 1, 10],
        classes=CLASSES,
    )
    assert got["all"]["all"].value == pytest.approx(math.log(6) / 2)
    assert got["stratum"]["10+"].value == pytest.approx(math.log(6) / 2)
    assert got["stratum"]["1-9"].n_items == 2
    assert got["class"]["seizure"].value == pytest.approx(math.log(6) / 2)
    assert got["class"]["lpd"].value == pytest.approx(0, abs=1e-14)
    assert got["class"]["gpd"].n_items == 0
    assert list(got["fold"]) == ["0", "1", "10"]
    assert got["fold"]["10"].value == pytest.approx(math.log(6))


def test_reliability_compares_predicted_and_observed_shares_bin_by_bin():
    target = [one(0), one(0), one(1), one(1)]
    prediction = [[0.75, 0.25, 0, 0, 0, 0]] * 4
    rows = [row for row in reliability(target, prediction, CLASSES) if row["class"] == "seizure"]
    assert rows == [{"class": "seizure", "low": 0.7, "high": 0.8, "n": 4, "predicted": 0.75, "observed": 0.5}]
