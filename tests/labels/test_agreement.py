"""Agreement from counts of votes, against hand-counted cases and Krippendorff's own example."""

import json

import numpy as np
import pandas as pd
import pytest

from hms.competition import VOTE_COLUMNS
from hms.labels.agreement import agreement, count_pairs, gwet_ac1, krippendorff_alpha, votes_in_groups
from hms.labels.classes import COMPETITION
from hms.labels.summary import vote_strata
from hms.report.agreement import agreement_cards

CLASSES = ("seizure", "lpd", "gpd", "lrda", "grda", "other")


def alpha(votes):
    return krippendorff_alpha(count_pairs(votes))[0]


def test_alpha_of_krippendorffs_example_with_missing_votes():
    """Krippendorff (2011), section C: four observers, twelve units, nominal alpha 0.743."""
    units = ["111", "2223", "3333", "3333", "2222", "1234", "4444", "1121", "2222", "555", "11", "3"]
    votes = [[unit.count(str(number)) for number in range(1, 6)] for unit in units]
    assert alpha(votes) == pytest.approx(0.743, abs=5e-4)


def test_alpha_of_two_observers_by_hand():
    """Krippendorff (2011), section A: ten units, two observers, binary; alpha = 0.095."""
    pairs = [(0, 1), (1, 1), (0, 1), (0, 0), (0, 0), (0, 1), (0, 0), (0, 0), (1, 0), (0, 0)]
    votes = [[pair.count(0), pair.count(1)] for pair in pairs]
    assert alpha(votes) == pytest.approx(0.095, abs=5e-4)


def test_alpha_is_1_for_one_mind_0_by_chance_and_negative_below():
    assert alpha([[3, 0], [0, 3], [4, 0]]) == 1
    rng = np.random.default_rng(0)
    assert alpha(rng.multinomial(3, [0.6, 0.4], 20_000)) == pytest.approx(0, abs=0.01)
    assert alpha([[1, 1]] * 10) < 0


def test_ac1_by_hand_stays_high_where_one_class_is_common():
    """18 of 20 pairs agree on the first class, 2 differ: Pa = .9, q = (.95, .05), Pe = .095."""
    pairs = count_pairs([[2, 0]] * 18 + [[1, 1]] * 2)
    assert gwet_ac1(pairs)[0] == pytest.approx((0.9 - 0.095) / (1 - 0.095))
    assert krippendorff_alpha(pairs)[0] < 0


def test_items_with_one_vote_or_none_say_nothing():
    few = [[3, 1, 0], [0, 2, 2], [4, 0, 0]]
    assert alpha([*few, [1, 0, 0], [0, 0, 0]]) == alpha(few)


def test_a_class_against_the_rest_is_the_alpha_of_two_columns():
    votes = np.random.default_rng(1).multinomial(5, [0.5, 0.3, 0.2], 50)
    two = np.column_stack([votes[:, 1], votes[:, [0, 2]].sum(axis=1)])
    assert krippendorff_alpha(count_pairs(votes).class_against_rest(1))[0] == pytest.approx(alpha(two))


def test_leaving_out_a_patient_is_counting_without_its_items():
    votes = np.random.default_rng(1).multinomial(5, [0.5, 0.3, 0.2], 12)
    codes = np.repeat([0, 1, 2], 4)
    left = count_pairs(votes, codes).without_each()
    assert krippendorff_alpha(left)[1] == pytest.approx(alpha(votes[codes != 1]))
    assert gwet_ac1(left)[2] == pytest.approx(gwet_ac1(count_pairs(votes[codes != 2]))[0])


@pytest.mark.parametrize("votes", [[[0.5, 1.5]], [[-1, 3]], [[np.nan, 1]]])
def test_averaged_votes_have_no_pairs(votes):
    with pytest.raises(ValueError, match="agreement needs whole numbers of votes"):
        count_pairs(votes)


def summary(votes, patients, threshold=10):
    counts = np.asarray(votes)
    found = agreement(counts, patients, classes=CLASSES, strata=vote_strata(counts.sum(axis=1), threshold))
    return json.loads(json.dumps(found, allow_nan=False))


def test_the_summary_gives_strata_classes_and_numbers_of_votes():
    rng = np.random.default_rng(2)
    few = rng.multinomial(3, [0.5, 0.1, 0.1, 0.1, 0.1, 0.1], 60)
    many = rng.multinomial(12, [0.1, 0.5, 0.1, 0.1, 0.1, 0.1], 60)
    got = summary(np.vstack([few, many]), [f"p{i // 2}" for i in range(120)])
    strata = got["strata"]
    assert [strata[name]["items"] for name in ("all", "under_10", "from_10")] == [120, 60, 60]
    assert strata["from_10"]["alpha"]["value"] == pytest.approx(alpha(many))
    assert strata["from_10"]["alpha"]["low"] < 0 < strata["from_10"]["alpha"]["high"]
    instead = strata["all"]["by_class"]["lpd"]["instead"]
    assert sum(instead.values()) == pytest.approx(1, abs=1e-5)
    assert instead["lpd"] == pytest.approx(strata["all"]["by_class"]["lpd"]["confirmed"]["value"], abs=1e-6)
    assert [row["votes"] for row in got["by_votes"]] == ["3", "10-14"]


def test_disagreement_by_number_of_votes_does_not_depend_on_that_number():
    """Panels of 3 and of 20 that draw from the same shares: the same share of pairs agrees."""
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.ones(6), 4000)
    got = summary(np.vstack([rng.multinomial(n, shares) for n in (3, 20)]), np.arange(8000))
    agree = [row["agree"]["value"] for row in got["by_votes"]]
    assert agree[0] == pytest.approx(agree[1], abs=0.01)


def test_an_empty_stratum_has_no_figures():
    got = summary([[3, 0, 0, 0, 0, 0]] * 40, np.arange(40))["strata"]["from_10"]
    assert got["items"] == 0
    assert (got["alpha"]["value"], got["alpha"]["reason"]) == (None, "no items")


def test_votes_all_of_one_class_agree_but_have_no_alpha():
    got = summary([[3, 0, 0, 0, 0, 0]] * 40, np.arange(40))["strata"]["all"]
    assert got["agree"]["value"] == 1
    assert (got["alpha"]["value"], got["alpha"]["reason"]) == (None, "not defined")


def test_a_class_never_voted_has_no_figures_of_its_own():
    votes = np.random.default_rng(2).multinomial(4, [0.5, 0.5, 0, 0, 0, 0], 80)
    got = summary(votes, np.arange(80))["strata"]["all"]["by_class"]
    assert got["gpd"]["alpha"]["value"] is None
    assert got["gpd"]["instead"]["gpd"] is None
    assert got["seizure"]["alpha"]["value"] == pytest.approx(alpha(votes))


def test_a_class_seen_at_few_patients_has_a_figure_without_interval():
    votes = np.array([[3, 0, 0, 0, 0, 0], [0, 2, 1, 0, 0, 0]] + [[2, 1, 0, 0, 0, 0]] * 78)
    found = summary(votes, np.arange(80))["strata"]["all"]["by_class"]["gpd"]["alpha"]
    assert found["value"] is not None
    assert found["low"] is None
    assert "1 effective patients of 20 needed" in found["reason"]


def test_vote_totals_are_grouped_without_gaps():
    groups = votes_in_groups(np.arange(40))
    assert list(groups) == ["2", "3", "4-5", "6-7", "8-9", "10-14", "15-19", "20-29", "30+"]
    assert np.sum(list(groups.values()), axis=0).tolist() == [0, 0] + [1] * 38


def test_votes_that_are_shares_have_no_pairs_and_say_so():
    got = summary([[2.5, 0.5, 0, 0, 0, 0]] * 40, np.arange(40))
    assert got == {"strata": {}, "by_votes": [], "reason": "votes are shares, so pairs cannot be counted"}


# --- in a run and on its page --------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_gives_the_agreement_of_votes_as_cast_whatever_the_rule_of_labels(small_set, prepare):
    """labels=sum counts an expert once per overlapping row; agreement is of the labelled windows."""
    runs = [
        prepare(small_set, "stages=[labels,splits,summary]", f"labels={rule}") for rule in ("window", "sum")
    ]
    table = pd.read_csv(small_set / "train.csv").set_index(["eeg_id", "eeg_sub_id"])
    rows = pd.MultiIndex.from_frame(runs[0].meta[["eeg_id", "eeg_sub_id"]])
    votes = table.loc[rows, list(VOTE_COLUMNS)].to_numpy()
    for run in runs:
        found = run.agreement["strata"]["all"]["alpha"]
        assert found["value"] == pytest.approx(alpha(votes))
        assert "effective patients of 20 needed" in found["reason"]


def test_the_page_shows_agreement_by_stratum_class_and_number_of_votes():
    rng = np.random.default_rng(2)
    votes = np.vstack([rng.multinomial(n, rng.dirichlet(np.ones(6), 300)) for n in (3, 12)])
    first, second = agreement_cards(summary(votes, np.arange(600)), COMPETITION)
    assert "under 10 votes, 300 items" in first.body
    assert first.body.count('rx="3"') == 14
    assert "figures have too few patients" not in first.note
    assert "10-14" in second.body


@pytest.mark.parametrize(
    ("votes", "text"),
    [
        ([[2.5, 0.5, 0, 0, 0, 0]] * 40, "votes are shares"),
        ([[1, 0, 0, 0, 0, 0]] * 40, "No item has two votes"),
        ([[3, 0, 0, 0, 0, 0]] * 40, "All votes are for one class"),
    ],
)
def test_the_page_says_why_there_is_no_agreement(votes, text):
    assert text in agreement_cards(summary(votes, np.arange(40)), COMPETITION)[0].body
