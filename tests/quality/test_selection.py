"""Whom an exclusion costs: counts, intervals and the test by patient, against exact tests and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hms.quality.grading import GRADES
from hms.quality.selection import N_DRAWS, Graded, Selection, _orders, graded_from, wilson

NAMES = ("seizure", "lpd", "other")


def selection(classes: list[int], taken: list[bool], patients: list[int] | None = None) -> Selection:
    return Selection(
        np.array(classes), np.arange(len(classes)) if patients is None else np.array(patients),
        np.array(taken, bool), NAMES,
    )  # fmt: skip


def graded(classes: list[int], grades: list[str], used: list[bool] | None = None) -> Graded:
    n = len(classes)
    return Graded(
        np.array(classes), np.arange(n), np.array(grades), np.array(used or [True] * n, bool), NAMES
    )


def test_wilsons_interval_is_scipys():
    import scipy.stats

    for found, n in ((0, 5), (5, 5), (8, 26), (1, 400)):
        expected = scipy.stats.binomtest(found, n).proportion_ci(method="wilson")
        assert wilson(found, n) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert wilson(0, 0) == (0, 1)


def test_five_of_five_seizures_and_eight_of_26_others_are_more_than_chance():
    """One item of each patient: with two classes p is that of the exact test of Fisher."""
    import scipy.stats

    found = selection([0] * 5 + [2] * 26, [True] * 13 + [False] * 18)
    assert found.counts == {"seizure": (5, 5), "lpd": (0, 0), "other": (8, 26)}
    p, worst = found.test
    exact = scipy.stats.fisher_exact([[5, 0], [8, 18]])[1]
    assert p == pytest.approx(exact, abs=0.01)
    assert worst in ("seizure", "other")
    assert found.is_unequal
    classes = [0] * 5 + [1, 2] * 13
    assert selection(classes, [True] * 13 + [False] * 18).sentence() == "5 of 5 seizure and 8 of 26 others"


def test_an_equal_share_is_no_more_than_chance():
    found = selection([0, 0, 2, 2] * 10, [True, False, True, False] * 10)
    assert found.test[0] == 1
    assert not found.is_unequal


def test_many_items_of_one_patient_count_as_one():
    """Thirty seizures of one patient, all left out, and thirty others of thirty: that proves little."""
    classes, taken = [0] * 30 + [2] * 30, [True] * 30 + [False] * 30
    alone = selection(classes, taken)
    together = selection(classes, taken, [0] * 30 + list(range(1, 31)))
    assert alone.test[0] < 0.001
    assert together.test[0] > 0.02


def test_within_patients_items_are_compared_with_each_other():
    """Twenty patients with a seizure and another item each, of which the seizure is left out every time."""
    classes, taken = [0, 2] * 20, [True, False] * 20
    patients = np.repeat(np.arange(20), 2).tolist()
    assert selection(classes, taken, patients).test[0] < 0.001
    assert selection(classes, [True, False] * 10 + [False, True] * 10, patients).test[0] > 0.5


@pytest.mark.slow
def test_p_is_even_where_exclusions_do_not_know_the_class():
    """Of 40 sets at random, with patients of up to six items, few are below 0.05."""
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(40):
        patients = np.repeat(np.arange(40), rng.integers(1, 7, 40))
        often = rng.random(40)[patients]
        liked = rng.integers(0, 3, 40)[patients]
        classes = np.where(rng.random(patients.size) < 0.7, liked, rng.integers(0, 3, patients.size))
        below += Selection(classes, patients, rng.random(patients.size) < often, NAMES).is_unequal
    assert below <= 6  # 2 expected; 7 or more come by chance once in 200


@pytest.mark.parametrize("taken", [[True] * 6, [False] * 6])
def test_all_or_nothing_is_no_question(taken: list[bool]):
    found = selection([0, 0, 1, 1, 2, 2], taken)
    assert found.test == (None, None)
    assert found.sentence() == f"{sum(taken)} of 6 items"


def test_one_class_is_no_question():
    assert selection([2] * 6, [True, False] * 3).test == (None, None)


def test_a_grade_and_worse_ones_are_what_an_exclusion_takes():
    assert graded_from(GRADES, "poor").tolist() == [False, False, True, True]
    found = graded([0, 0, 2, 2], ["poor", "good", "unusable", "usable"])
    assert found.exclusion("poor").counts == {"seizure": (1, 2), "lpd": (0, 0), "other": (1, 2)}
    assert found.by_class()["other"] == {"good": 0, "usable": 1, "poor": 0, "unusable": 1}


def test_the_summary_says_what_was_taken_and_what_would_be():
    """Without an exclusion nothing is said, but each grade's cost stands there."""
    found = graded([0] * 5 + [2] * 26, ["poor"] * 13 + ["good"] * 18)
    quiet = found.summary(None)
    assert quiet["taken"] is None
    assert quiet["lines"] == []
    assert quiet["would_take"]["poor"]["classes"]["seizure"] == {
        "left_out": 5, "items": 5, "interval": [0.5655, 1.0],
    }  # fmt: skip
    assert quiet["would_take"]["unusable"]["classes"]["seizure"]["left_out"] == 0
    made = graded([0] * 5 + [2] * 26, ["poor"] * 13 + ["good"] * 18, [False] * 13 + [True] * 18)
    first, second = made.summary("poor")["lines"]
    assert first.startswith("qc.exclude_from=poor leaves out ")
    assert "5 of 5 seizure" in first or "8 of 26 other" in first
    assert second == "qc.exclude_from=poor leaves no item of seizure"


def test_items_without_votes_or_left_out_by_others_take_no_part():
    items = pd.DataFrame({
        "item_id": ["a", "b", "c"], "patient_id": [1, 2, 3],
        "seizure_vote": [3, 0, 0], "other_vote": [0, 3, 0],
    })  # fmt: skip
    ledger = pd.DataFrame({"grade": ["poor", "good", "good"], "used": [True, True, True]})
    found = Graded.of(items, ledger, np.array([False, True, False]))
    assert found.names == ("seizure", "other")
    assert found.classes.tolist() == [0]
    assert found.grades.tolist() == ["poor"]


def test_many_items_are_drawn_with_the_spread_that_dealing_them_out_has(monkeypatch: pytest.MonkeyPatch):
    """Two hundred patients of four items: the deviations have the same SD both ways, within 8 %."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(200), 4)
    found = Selection(rng.integers(0, 3, 800), patients, rng.random(800) < 0.3, NAMES)
    normal = found._drawn()
    monkeypatch.setattr("hms.quality.selection.MOST_DEALT", 1000)
    np.testing.assert_allclose(normal.std(axis=0), found._drawn().std(axis=0), rtol=0.08)


@pytest.mark.parametrize("most_kept", [4, 4096])
def test_orders_are_those_of_one_generator_whether_they_are_kept_or_not(
    monkeypatch: pytest.MonkeyPatch, most_kept: int
):
    monkeypatch.setattr("hms.quality.selection.MOST_KEPT", most_kept)
    shares, reference, rng = np.linspace(0, 1, 9), np.random.default_rng(0), np.random.default_rng(0)
    drawn = [shares[order] for order in _orders(9, rng)]
    assert np.array_equal(drawn, [reference.permutation(shares) for _ in range(N_DRAWS)])
    assert rng.random() == reference.random()
