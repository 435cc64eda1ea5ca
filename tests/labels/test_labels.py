"""Soft labels, consensus, weights, the figures about them, and the YAML of their groups."""

import math
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from omegaconf import OmegaConf

from hms.competition import CLASSES
from hms.config.compose import conf_dir
from hms.config.convert import convert
from hms.errors import ConfigError
from hms.labels import folds, items, summary, weights  # noqa: F401  (registers the kinds)
from hms.labels.classes import COMPETITION
from hms.labels.votes import consensus, high_confidence, soft_labels
from hms.labels.weights import confidence_weights
from hms.registry import Group, Params, kinds, lookup, register

counts = arrays(np.int64, st.tuples(st.integers(1, 20), st.just(6)), elements=st.integers(0, 30))


def section(group, option, **changes):
    """Return the settings of an option as its YAML gives them, with some values changed."""
    tree = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{option}.yaml"))
    return convert({**tree, **changes}, Annotated[Params, Group(group)], group)


# --- votes ---------------------------------------------------------------------------------------


def test_soft_labels_are_votes_divided_by_their_sum():
    y = soft_labels([[3, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 2], [1, 2, 3, 4, 5, 5]])
    assert y.dtype == np.float32
    assert y.tolist()[:2] == [[0.75, 0.25, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]]
    np.testing.assert_allclose(y[2], [0.05, 0.1, 0.15, 0.2, 0.25, 0.25], rtol=1e-7)


@given(counts)
def test_soft_labels_sum_to_one_and_leave_the_votes_alone(votes):
    votes[:, 5] += 1
    before = votes.copy()
    y = soft_labels(votes)
    np.testing.assert_allclose(y.sum(axis=1, dtype=float), 1, atol=1e-6)
    np.testing.assert_array_equal(votes, before)
    assert (consensus(y) == consensus(votes)).all()


@pytest.mark.parametrize(
    ("votes", "text"),
    [
        ([[1, 0, 0, 0, 0, 0], [0] * 6], r"rows without votes have no soft label; rows 1$"),
        ([[0] * 6] * 7, r"no soft label; rows 0, 1, 2, 3, 4 and 2 more$"),
        ([[2, -1, 0, 0, 0, 0]], r"votes must be finite and not negative; rows 0$"),
        ([[math.nan] * 6], r"votes must be finite and not negative; rows 0$"),
        ([1, 2, 3], r"votes have the shape \(n_items, n_classes\), not \(3,\)"),
    ],
)
def test_soft_labels_refuse_what_has_no_distribution(votes, text):
    with pytest.raises(ValueError, match=text):
        soft_labels(votes)


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ([3, 0, 0, 0, 0, 2], 0),
        ([0, 0, 5, 0, 1, 5], 2),
        ([0, 4, 4, 4, 0, 0], 1),
        ([1, 1, 1, 1, 1, 1], 0),
        ([0, 0, 0, 0, 0, 1], 5),
        ([0, 0, 0, 0, 0, 0], -1),
        # Equal means that only rounding tells apart.
        ([0, 1 - 2e-16, 1.0, 0, 0, 0], 1),
    ],
)
def test_consensus_is_the_class_with_most_votes_and_the_first_of_a_tie(votes, winner):
    assert consensus([votes]).tolist() == [winner]


def test_ten_votes_are_high_confidence():
    assert high_confidence([0, 3, 9, 10, 28], 10).tolist() == [False, False, False, True, True]


# --- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("linear", [0, 0.1, 0.3, 1, 1.5, 1.5]),
        ("log", [0, 0.28906, 0.57813, 1, 1.15626, 1.40427]),
        ("sqrt", [0, 0.31623, 0.54772, 1, 1.22474, 1.5]),
        ("constant", [1, 1, 1, 1, 1, 1]),
    ],
)
def test_weights_of_known_counts(option, expected):
    """f(n) / f(10), at most 1.5, for 0, 1, 3, 10, 15 and 28 votes."""
    w = confidence_weights(np.array([0, 1, 3, 10, 15, 28]), section("weight", option))
    assert w.dtype == np.float32
    np.testing.assert_allclose(w, expected, atol=5e-6)


def test_reference_count_and_cap_are_settings():
    w = confidence_weights([2, 4, 40], section("weight", "linear", reference_count=4, cap=3))
    assert w.tolist() == [0.5, 1.0, 3.0]


@pytest.mark.parametrize(("name", "value"), [("reference_count", 0), ("cap", -1), ("cap", "x")])
def test_impossible_weight_settings_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"^weight.{name}={value} "):
        section("weight", "log", **{name: value})


@given(st.lists(st.integers(0, 1000), min_size=1), st.sampled_from(["linear", "log", "sqrt", "constant"]))
def test_weights_grow_with_votes_and_stay_below_the_cap(vote_sum, option):
    w = confidence_weights(np.sort(vote_sum), section("weight", option))
    assert (np.diff(w) >= 0).all()
    assert w.min() >= 0
    assert w.max() <= 1.5


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ([1.0], r"weight 'mine' gives shape \(1,\) for \(2,\) vote counts"),
        ([1.0, -2.0], r"weight 'mine' gives -2.0 for 5 votes"),
        ([math.nan, 1.0], r"weight 'mine' gives nan for 3 votes"),
    ],
)
def test_a_function_that_gives_no_weights_is_refused(result, text):
    register("weight", "mine")(lambda vote_sum, params: result)
    with pytest.raises(ValueError, match=text):
        confidence_weights([3, 5], Params("mine"))


@pytest.fixture(autouse=True)
def _forget_own_kinds():
    from hms import registry

    yield
    registry._entries["weight"].pop("mine", None)


# --- figures -------------------------------------------------------------------------------------

Y = soft_labels([[3, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 4]])


def test_class_proportions_are_means_of_soft_labels():
    np.testing.assert_allclose(summary.class_proportions(Y), [1.25 / 3, 0.25 / 3, 0, 0, 0, 1.5 / 3])
    np.testing.assert_allclose(summary.class_proportions(Y, [2, 0, 1]), [0.5, 0.5 / 3, 0, 0, 0, 1 / 3])


def test_proportions_without_items_or_weight_are_nan():
    assert np.isnan(summary.class_proportions(np.zeros((0, 6)))).all()
    assert np.isnan(summary.class_proportions(Y, [0, 0, 0])).all()


def test_imbalance_is_the_largest_share_over_the_smallest():
    assert summary.imbalance_ratio([0.1, 0.1, 0.2, 0.2, 0.1, 0.3]) == pytest.approx(3)
    assert summary.imbalance_ratio([0.5, 0.5, 0, 0, 0, 0]) == math.inf
    assert math.isnan(summary.imbalance_ratio([math.nan] * 6))


def test_entropy_of_certain_even_and_uniform_votes():
    y = [[1, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0], [1 / 6] * 6]
    np.testing.assert_allclose(summary.entropy_nats(y), [0, math.log(2), math.log(6)], atol=1e-12)


@settings(deadline=None)
@given(counts)
def test_entropy_equals_scipys(votes):
    from scipy.stats import entropy

    votes[:, 0] += 1
    np.testing.assert_allclose(
        summary.entropy_nats(votes / votes.sum(1, keepdims=True)), entropy(votes.T), atol=1e-9
    )


def test_disagreement_matrix_by_hand():
    """Items 0 and 1 are seizure by consensus (a tie goes first), item 2 is other."""
    matrix = summary.disagreement_matrix(Y)
    np.testing.assert_allclose(matrix[0], [0.625, 0.125, 0, 0, 0, 0.25])
    np.testing.assert_allclose(matrix[5], [0, 0, 0, 0, 0, 1])
    assert np.isnan(matrix[1:5]).all()


def test_entropy_by_class_is_the_mean_of_its_items():
    by_class = summary.entropy_by_class(Y)
    one = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    np.testing.assert_allclose(by_class[[0, 5]], [(one + math.log(2)) / 2, 0], atol=1e-7)
    assert np.isnan(by_class[1:5]).all()


def test_vote_totals_show_the_gap():
    found = summary.vote_sum_counts([3, 3, 7, 10])
    assert found == {0: 0, 1: 0, 2: 0, 3: 2, 4: 0, 5: 0, 6: 0, 7: 1, 8: 0, 9: 0, 10: 1}


def test_summary_reports_every_stratum_and_fold():
    found = summary.summarise_labels(
        Y,
        [4, 2, 12],
        [0.4, 0.2, 1.2],
        ["a", "a", "b"],
        classes=COMPETITION,
        threshold=10,
        splits=[(np.array([2]), np.array([0, 1])), (np.array([0, 1]), np.array([2]))],
    )
    assert found["items"] == 3
    assert found["high_confidence_share"] == pytest.approx(1 / 3, abs=1e-6)
    assert {name: part["items"] for name, part in found["strata"].items()} == {
        "all": 3,
        "under_10": 2,
        "from_10": 1,
    }
    assert found["strata"]["from_10"]["proportions_raw"] == dict.fromkeys(CLASSES, 0.0) | {"other": 1.0}
    assert found["strata"]["all"]["consensus_counts"] == dict.fromkeys(CLASSES, 0) | {
        "seizure": 2,
        "other": 1,
    }
    assert found["strata"]["all"]["imbalance_ratio_raw"] is None
    assert found["folds"][0]["valid"]["items"] == 2
    assert found["folds"][0]["valid"]["patients"] == 1
    assert found["folds"][1]["train"]["proportions_weighted"]["seizure"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["items_per_patient"] == {"patients": 2, "effective": 1.8, "median": 1.5, "largest": 2}


def test_class_agreement_counts_pairs_within_and_between_patients():
    """Patient a has classes 0 0 1, one pair of three equal; b has 1 1; c has one item with votes.

    Of the 6 + 3 + 2 pairs of two patients 2 + 0 + 0 are equal.
    """
    found = summary.class_agreement([0, 0, 1, 1, 1, 5, -1], ["a", "a", "a", "b", "b", "c", "c"])
    assert found["same_patient"] == pytest.approx((1 / 3 + 1) / 2, abs=1e-6)
    assert found["other_patient"] == pytest.approx(2 / 11, abs=1e-6)


@pytest.mark.parametrize(
    ("label", "patients", "expected"),
    [
        ([], [], {"same_patient": None, "other_patient": None}),
        ([2, 2, 3], ["a", "a", "a"], {"same_patient": 0.333333, "other_patient": None}),
        ([2, 2, 3], ["a", "b", "c"], {"same_patient": None, "other_patient": 0.333333}),
    ],
)
def test_class_agreement_is_none_where_there_is_no_such_pair(label, patients, expected):
    """No item, one patient, one item for each patient."""
    assert summary.class_agreement(label, patients) == expected


@pytest.mark.parametrize(
    ("counts", "effective"), [([5, 5, 5, 5], 4.0), ([97, 1, 1, 1], 100**2 / (97**2 + 3))]
)
def test_patients_count_as_one_over_the_sum_of_their_squared_shares(counts, effective):
    """Four equal patients are four; four of whom one has nearly all are little more than one."""
    names = np.repeat(["a", "b", "c", "d"], counts)
    assert summary.per_patient(names)["effective"] == pytest.approx(effective, abs=1e-6)


def test_summary_of_no_items_is_made_and_says_so():
    empty = np.zeros(0)
    found = summary.summarise_labels(np.zeros((0, 6)), empty, empty, empty, classes=COMPETITION, threshold=10)
    assert found["items"] == 0
    assert found["high_confidence_share"] is None
    assert found["strata"]["all"]["proportions_raw"]["seizure"] is None
    assert found["items_per_patient"] == {"patients": 0, "effective": None, "median": None, "largest": 0}


# --- configuration -------------------------------------------------------------------------------

GROUPS = ("unit", "labels", "window", "weight", "folds")
OPTIONS = sorted((f.parent.name, f.stem) for g in GROUPS for f in (conf_dir() / g).glob("*.yaml"))


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_yaml_is_valid_and_says_when_to_choose_it(group, option):
    assert section(group, option).kind in kinds(group)
    assert (conf_dir() / group / f"{option}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("group", GROUPS)
def test_every_kind_has_a_yaml(group):
    used = {section(group, option).kind for g, option in OPTIONS if g == group}
    assert used == {kind for kind in kinds(group) if not lookup(group, kind).is_plugin}
