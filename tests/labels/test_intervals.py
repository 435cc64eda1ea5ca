"""Intervals over patients against closed form, statsmodels' definition of CR3 and simulated truth."""

import json
import math

import numpy as np
import pytest

from hms.labels.intervals import (
    HOLDS_FROM,
    effective_number,
    jackknife_interval,
    luck_of_the_best,
    mean_interval,
    paired_interval,
    simultaneous_intervals,
)

PATIENTS = np.repeat([f"p{i}" for i in range(40)], 3)


def test_equal_values_have_an_interval_without_width():
    got = mean_interval([2.0] * 120, PATIENTS)
    assert (got.value, got.low, got.high) == (2.0, 2.0, 2.0)
    assert (got.n_items, got.n_groups, got.effective) == (120, 40, 40)
    assert got.holds


def test_one_item_per_patient_gives_students_interval():
    """Without clusters the jackknife is s / sqrt(n), and near-normal values have n - 1 degrees of freedom."""
    from scipy import stats

    values = np.random.default_rng(3).normal(5, 2, 400)
    got = mean_interval(values, np.arange(400), factor=1)
    # The jackknife around the figure itself: deviations over n - 1 instead of n.
    half = stats.t.ppf(0.975, 399) * values.std(ddof=1) / 20 * math.sqrt(400 / 399)
    assert got.value == pytest.approx(values.mean())
    assert got.high - got.value == pytest.approx(half, rel=0.005)


def test_a_mean_has_the_cluster_robust_variance_that_matrices_give():
    """CR3 of a regression on a constant, written out with its hat matrix."""
    from scipy import stats

    rng = np.random.default_rng(8)
    codes = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    values = rng.gamma(1, 1, codes.size)
    design = np.ones((codes.size, 1))
    bread = np.linalg.inv(design.T @ design)
    meat = 0.0
    for patient in range(60):
        own = design[codes == patient]
        hat = own @ bread @ own.T
        residual = (values - values.mean())[codes == patient]
        meat += (own.T @ np.linalg.solve(np.eye(len(own)) - hat, residual)).item() ** 2
    got = mean_interval(values, codes, factor=1)
    quantile = (got.high - got.value) / math.sqrt(bread.item() ** 2 * meat)
    assert stats.t.ppf(0.975, 59) <= quantile <= stats.t.ppf(0.975, 5)


def test_any_figure_by_the_jackknife_agrees_with_the_mean():
    rng = np.random.default_rng(1)
    values = rng.normal(size=120)
    without = [values[name != PATIENTS].mean() for name in dict.fromkeys(PATIENTS)]
    order = np.argsort(list(dict.fromkeys(PATIENTS)))
    by_hand = jackknife_interval(values.mean(), np.array(without)[order], np.full(40, 3), n_items=120)
    mean = mean_interval(values, PATIENTS, factor=1)
    assert (by_hand.low, by_hand.high) == pytest.approx((mean.low, mean.high), rel=1e-9)


def test_ten_equal_items_of_a_patient_tell_as_much_as_one():
    effect = np.random.default_rng(4).normal(size=40)
    by_patient = mean_interval(np.repeat(effect, 10), np.repeat(np.arange(40), 10))
    once = mean_interval(effect, np.arange(40))
    assert (by_patient.low, by_patient.high) == pytest.approx((once.low, once.high), rel=1e-9)


def test_the_order_of_items_and_the_names_of_patients_change_nothing():
    values, order = np.arange(120.0) ** 2, np.random.default_rng(0).permutation(120)
    first, shuffled = mean_interval(values, PATIENTS), mean_interval(values[order], PATIENTS[order])
    assert (first.low, first.high) == pytest.approx((shuffled.low, shuffled.high), rel=1e-12)


def test_unequal_patients_count_as_fewer():
    assert effective_number([5, 5, 5, 5]) == 4
    assert effective_number([8, 1, 1]) == pytest.approx(100 / 66)
    assert effective_number([]) == 0


def test_too_few_patients_have_no_interval_and_say_so():
    got = mean_interval([1.0, 3.0, 2.0], ["a", "a", "b"])
    assert got.value == 2
    assert not got.holds
    assert str(got) == f"2.000 (no interval holds: 2 effective patients of {HOLDS_FROM} needed)"
    plain = json.loads(json.dumps(got.to_dict(), allow_nan=False))
    assert (plain["low"], plain["high"]) == (None, None)
    assert plain["reason"].startswith("no interval holds")


def test_one_patient_with_most_items_counts_as_too_few():
    groups = np.concatenate([np.zeros(1000, int), np.arange(1, 200)])
    got = mean_interval(np.random.default_rng(0).normal(size=1199), groups)
    assert got.n_groups == 200
    assert got.effective < 2
    assert not got.holds


def test_no_items_have_neither_figure_nor_interval():
    got = mean_interval([], [])
    assert math.isnan(got.value)
    assert str(got) == "no items"
    assert got.to_dict()["value"] is None


@pytest.mark.parametrize(
    ("values", "groups", "text"),
    [
        ([1.0, math.inf], ["a", "b"], r"values must be finite \(rows 1\)"),
        ([math.nan] * 7, list("abcdefg"), r"rows 0, 1, 2, 3, 4 and 2 more"),
        ([1.0, 2.0], ["a"], "2 values and 1 groups do not match"),
    ],
)
def test_values_that_are_not_finite_or_do_not_match_are_refused(values, groups, text):
    with pytest.raises(ValueError, match=text):
        mean_interval(values, groups)


def test_paired_values_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        paired_interval([1.0], [1.0, 2.0], ["a"])


def test_a_paired_difference_is_sharper_than_the_two_means():
    """A common difficulty of 1 cancels: only the constant gain of 0.1 and its noise stay."""
    rng = np.random.default_rng(5)
    hard = rng.normal(0, 1, 200)
    better = hard - 0.1 + rng.normal(0, 0.05, 200)
    paired, single = paired_interval(better, hard, np.arange(200)), mean_interval(hard, np.arange(200))
    assert paired.value == pytest.approx((better - hard).mean())
    assert paired.high < 0
    assert paired.high - paired.low < 0.1 * (single.high - single.low)


def test_intervals_cover_skewed_losses_of_uneven_patients():
    """600 data sets of 240 patients who tell as much as 60 or so: 95 % cover to within simulation error."""
    rng = np.random.default_rng(20)
    size = np.maximum(np.rint(np.exp(rng.normal(0.2, 1.4, 240))), 1).astype(int)
    codes = np.repeat(np.arange(240), size)
    assert 45 < effective_number(size) < 90
    hits = 0
    for _ in range(600):
        values = rng.gamma(0.5, 1, 240)[codes] + rng.gamma(0.7, 1, codes.size)
        got = mean_interval(values, codes, factor=1)
        hits += got.low <= 1.2 <= got.high
    assert 0.92 <= hits / 600 <= 0.97


# --- many at once --------------------------------------------------------------------------------


def widened(values, pairs, groups) -> float:
    """Return how many times wider the intervals of differences are than if each stood alone."""
    together = simultaneous_intervals(values, pairs, groups)
    alone = [paired_interval(values[a], values[b], groups) for a, b in pairs]
    (factor,) = {
        round((one.high - one.low) / (own.high - own.low), 6)
        for one, own in zip(together, alone, strict=True)
    }
    return factor


def test_one_difference_is_not_widened():
    values = np.random.default_rng(2).normal(size=(2, 120))
    got = simultaneous_intervals(values, [(1, 0)], PATIENTS)
    alone = paired_interval(values[1], values[0], PATIENTS)
    assert (got[0].low, got[0].high) == (alone.low, alone.high)


@pytest.mark.slow
def test_differences_of_unrelated_members_are_widened_as_dunnett_does():
    """Seven independent groups against one: Dunnett's factor over the single quantile."""
    values = np.random.default_rng(2).normal(size=(8, 4000))
    widening = widened(values, [(k, 0) for k in range(1, 8)], np.arange(4000))
    rng = np.random.default_rng(9)
    drawn = rng.normal(size=(200_000, 8))
    largest = np.abs(drawn[:, 1:] - drawn[:, :1]).max(axis=1) / math.sqrt(2)
    assert widening == pytest.approx(np.quantile(largest, 0.95) / 1.96, rel=0.02)


def test_the_same_member_many_times_is_not_widened():
    """Nineteen copies of one comparison are one comparison."""
    rng = np.random.default_rng(3)
    own = rng.normal(size=(2, 400))
    values = np.vstack([own[:1], np.repeat(own[1:], 19, axis=0)])
    assert widened(values, [(k, 0) for k in range(1, 20)], np.arange(400)) == pytest.approx(1, abs=0.03)


def test_members_that_predict_the_same_cannot_be_told_apart():
    values = np.tile(np.random.default_rng(3).normal(size=120), (3, 1))
    got = simultaneous_intervals(values, [(1, 0), (2, 0)], PATIENTS)
    assert [(i.value, i.low, i.high) for i in got] == [(0, 0, 0)] * 2


@pytest.mark.slow
def test_equal_members_are_seldom_told_apart():
    """100 sweeps of 12 equal members over 60 patients: under the 5 % that are allowed, with error."""
    rng = np.random.default_rng(14)
    codes = np.repeat(np.arange(60), 4)
    named = 0
    for _ in range(100):
        common = rng.gamma(0.7, 1, 240)
        values = common * (1 + 0.2 * rng.normal(size=(12, 60))[:, codes] + 0.3 * rng.normal(size=(12, 240)))
        got = simultaneous_intervals(values, [(k, 0) for k in range(1, 12)], codes)
        named += any(i.high < 0 or i.low > 0 for i in got)
    assert named <= 9


def test_too_few_patients_tell_no_member_from_another():
    got = simultaneous_intervals(np.eye(3), [(1, 0), (2, 0)], ["a", "b", "c"])
    assert [i.holds for i in got] == [False, False]
    assert math.isnan(luck_of_the_best(np.eye(3), 0, ["a", "b", "c"]))


def test_luck_of_the_best_is_the_expected_minimum_of_normal_noise():
    """Against a reference without noise, the best of n is the expected largest of n normals."""
    rng = np.random.default_rng(0)
    values = np.vstack([np.zeros(5000), rng.normal(size=(10, 5000))])
    # E max of 10 standard normals: 1.53875 (Harter 1961).
    got = luck_of_the_best(values, 0, np.arange(5000), factor=1)
    assert got == pytest.approx(1.53875 / math.sqrt(5000), rel=0.06)


def test_a_sweep_of_one_has_no_luck():
    assert math.isnan(luck_of_the_best(np.ones((1, 120)), 0, PATIENTS))
