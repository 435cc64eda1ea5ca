"""Folds: whole patients, balanced, and the same whatever is left out or reordered."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hms import registry
from hms.competition import CLASSES, VOTE_COLUMNS
from hms.errors import ConfigError
from hms.labels.folds import (
    Folds,
    assign_folds,
    check_no_leak,
    far_from_even,
    fold_warnings,
    group_folds,
    patient_table,
    set_aside,
    split_rows,
    stratified_folds,
)
from hms.registry import Params, register
from hms.sources.tables import votes_from_frame

GROUP3, STRATIFIED2 = Folds("group", 3, None), Folds("stratified", 2, None)


def votes_table(*rows):
    """Return the checked frame of rows (recording, patient, number of the class with 3 votes or None)."""
    data = []
    for number, (recording, patient, label) in enumerate(rows):
        votes = [3 * (label == k) for k in range(6)]
        data.append((recording, number, 2.0 * number, patient, *votes))
    columns = ["eeg_id", "eeg_sub_id", "eeg_label_offset_seconds", "patient_id", *VOTE_COLUMNS]
    return votes_from_frame(pd.DataFrame(data, columns=columns)).frame


def patients_of(*sizes, seed=0):
    """Return a table of patients with so many recordings of random classes each."""
    rng = np.random.default_rng(seed)
    prefer = rng.dirichlet(np.full(6, 0.4), len(sizes))
    classes = np.array([rng.multinomial(n, p) for n, p in zip(sizes, prefer, strict=True)])
    index = pd.Index([f"p{i}" for i in range(len(sizes))], name="patient_id")
    return pd.DataFrame(classes, columns=list(CLASSES), index=index).assign(recordings=sizes)


def some_patients(n, seed):
    return np.minimum(1 + np.random.default_rng(seed).pareto(1.2, n) * 2, 40).astype(int)


SMALL = votes_table(
    *((f"r{i}", "ann", 0) for i in range(4)),
    *((f"s{i}", "bob", i % 2) for i in range(3)),
    *((f"t{i}", "cy", 1) for i in range(3)),
    ("u0", "di", 0),
    ("u1", "ed", 1),
    ("u2", "10", 0),
    ("u3", "9", None),
    ("r0", "ann", 0),
)
"""ann has 4 recordings, bob and cy 3, the others 1; one row of ann's is a second of r0."""


def test_patients_are_counted_by_recordings_not_rows():
    table = patient_table(SMALL)
    assert list(table.index) == ["10", "9", "ann", "bob", "cy", "di", "ed"]
    assert list(table["recordings"]) == [1, 0, 4, 3, 3, 1, 1]
    assert list(table["seizure"]) == [1, 0, 4, 2, 0, 1, 0]
    assert list(table["lpd"]) == [0, 0, 0, 1, 3, 0, 1]
    assert table[list(CLASSES)].to_numpy().sum() == 13


def test_group_folds_by_hand():
    """4 | 3 | 3 recordings first; then 10, di, ed in the order of their text; 9 has no votes."""
    fold = assign_folds(SMALL, GROUP3)
    assert fold.to_dict() == {"ann": 0, "bob": 1, "cy": 2, "10": 1, "di": 2, "ed": 0, "9": 1}
    assert fold.dtype == np.int64


@pytest.mark.parametrize("kind", ["group", "stratified"])
def test_few_labelled_recordings_among_many_are_spread_over_the_folds(kind):
    """Three of twelve patients have votes: each of three folds validates one, not one fold all."""
    table = votes_table(*((f"r{i:02}", f"p{i:02}", 0 if i in (0, 3, 6) else None) for i in range(12)))
    fold = assign_folds(table, Folds(kind, 3, None))
    assert sorted(fold[["p00", "p03", "p06"]]) == [0, 1, 2]


def test_stratified_folds_by_hand():
    """Eight seizure and five lpd recordings. A recording is worth 1/7 of seizure's and 1/5 of lpd's.

    cy (3/5 lpd) takes fold 0, ann (4/7) fold 1, bob (2/7 and 1/5) the fold where
    2/7 * 4/7 = 0.163 against 1/5 * 3/5 = 0.12: fold 0; ed (1/5 lpd) fold 1; then 10 and
    di (1/7) where seizure is less: fold 0 with 2/7, and again with 3/7; 9 counts by size.
    """
    fold = assign_folds(SMALL.iloc[:-1], STRATIFIED2)
    assert fold.to_dict() == {"cy": 0, "ann": 1, "bob": 0, "ed": 1, "10": 0, "di": 0, "9": 1}


def test_group_folds_of_a_larger_table_never_change():
    """Locked, and followed by hand: a change would move patients in everybody's packages."""
    table = patients_of(9, 7, 7, 5, 4, 4, 3, 3, 2, 2, 2, 1, 1, 1, 1)
    assert group_folds(table, Folds("group", 4, None)).tolist() == [
        0,
        1,
        2,
        3,
        3,
        1,
        2,
        0,
        3,
        2,
        1,
        3,
        0,
        2,
        3,
    ]


def test_stratified_folds_of_a_larger_table_never_change():
    """Locked: a change would move patients in everybody's packages."""
    sizes = (6, 5, 4, 6, 5, 4, 3, 3, 3, 2, 2, 2) * 2
    classes = [np.roll((n - n // 3, n // 3, 0, 0, 0, 0), k) for k, n in enumerate(sizes)]
    table = pd.DataFrame(classes, columns=list(CLASSES)).assign(recordings=sizes)
    found = "".join(map(str, stratified_folds(table, Folds("stratified", 3, None))))
    assert found == "021210202101110022201110"


def exact_stratified_folds(table, n_splits):
    """Return folds by the rule as it is written, with the whole sum over folds in fractions."""
    classes = table[list(CLASSES)].to_numpy().tolist()
    totals = [sum(column) for column in zip(*classes, strict=True)]
    share = [
        [Fraction(n, t) if t else Fraction(0) for n, t in zip(row, totals, strict=True)] for row in classes
    ]
    size = table["recordings"].tolist()
    held = [[[] for _ in CLASSES] for _ in range(n_splits)]
    loads, fold = [0] * n_splits, [0] * len(size)
    for p in sorted(range(len(size)), key=lambda p: (-sum(s**2 for s in share[p]), -size[p], p)):

        def total(f, p=p):
            parts = [
                [sum(h) + (k == f) * s for h, s in zip(held[k], share[p], strict=True)]
                for k in range(n_splits)
            ]
            return sum(part**2 for row in parts for part in row)

        fold[p] = min(range(n_splits), key=lambda f: (total(f), loads[f], f))
        loads[fold[p]] += size[p]
        for h, s in zip(held[fold[p]], share[p], strict=True):
            h.append(s)
    return fold


@pytest.mark.parametrize("seed", range(4))
def test_stratified_folds_follow_the_rule_exactly(seed):
    table = patients_of(*some_patients(40, seed), seed=seed)
    assert stratified_folds(table, STRATIFIED2).tolist() == exact_stratified_folds(table, 2)


def test_no_folds_train_on_everything():
    fold = assign_folds(SMALL, Params("none"))
    assert set(fold) == {-1}
    splits = split_rows(["ann", "bob", "ann"], fold)
    assert [(t.tolist(), v.tolist()) for t, v in splits] == [([0, 1, 2], [])]
    check_no_leak(splits, ["ann", "bob", "ann"])


def test_rows_follow_their_patients():
    used = ["cy", "ann", "cy", "10", "di"]
    splits = split_rows(used, assign_folds(SMALL, GROUP3))
    assert [v.tolist() for _, v in splits] == [[1], [3], [0, 2, 4]]
    assert [t.tolist() for t, _ in splits] == [[0, 2, 3, 4], [0, 1, 2, 4], [1, 3]]
    assert {part.dtype for split in splits for part in split} == {np.dtype("int64")}
    check_no_leak(splits, used)


def test_a_fold_without_used_items_is_empty():
    splits = split_rows(["ann"], assign_folds(SMALL, GROUP3))
    assert [v.tolist() for _, v in splits] == [[0], [], []]
    check_no_leak(splits, ["ann"])


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


@pytest.mark.parametrize(
    ("splits", "text"),
    [
        ([(rows(0, 2), rows(1))], "fold 0 has patient 'a' in both parts"),
        ([(rows(2), rows(0))], "fold 0 does not have each of 3 rows once"),
        ([(rows(2, 2), rows(0, 1))], "fold 0 does not have each of 3 rows once"),
        ([(rows(2), rows(0, 1)), (rows(2), rows(0, 1))], "rows are validated on 0 to 2 times, not once each"),
        ([(rows(2), rows(0, 1))], "rows are validated on 0 to 1 times, not once each"),
    ],
)
def test_leaks_and_losses_are_found(splits, text):
    """Rows 0 and 1 are patient a's, row 2 is b's."""
    with pytest.raises(ValueError, match=text):
        check_no_leak(splits, ["a", "a", "b"])


# --- wrong input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["group", "stratified"])
def test_fewer_patients_than_folds_are_refused_with_both_numbers(kind):
    with pytest.raises(
        ConfigError, match=r"folds.n_splits=8 needs at least 8 patients with votes, but the .* has 6; lower"
    ):
        assign_folds(SMALL, Folds(kind, 8, None))


def test_a_class_of_too_few_patients_is_spread_as_far_as_it_goes_and_said():
    """Lpd is with 3 patients: in 3 of 4 folds, and every other patient has a fold."""
    params = Folds("stratified", 4, None)
    fold = assign_folds(SMALL, params)
    patients = patient_table(SMALL)
    assert fold.min() == 0
    assert fold[patients["lpd"] > 0].nunique() == 3
    said = fold_warnings(SMALL, params)
    assert any("fewer patients than the 4 folds: " in line and "'lpd' (3)" in line for line in said)


@pytest.mark.parametrize("seed", range(20))
def test_stratified_takes_every_table_that_group_takes(seed):
    """Rare classes, one large patient, two patients for two folds."""
    rng = np.random.default_rng(seed)
    n_patients = int(rng.integers(2, 12))
    owners = np.append(np.arange(n_patients), rng.integers(0, n_patients, 30))
    frame = votes_table(*((f"r{i}", f"p{p}", int(rng.integers(6))) for i, p in enumerate(owners)))
    n_splits = int(rng.integers(2, n_patients + 1))
    for kind in ("group", "stratified"):
        fold = assign_folds(frame, Folds(kind, n_splits, None))
        assert set(fold) == set(range(n_splits))


UNEVEN = [[36, 20, 4], [16, 20, 0], [16, 20, 0], [16, 20, 0], [16, 20, 0]]


def test_a_fold_far_from_even_is_named_with_its_share():
    """36 of 100 where 20 are even; 20 each; and 4 recordings in all, too few to divide evenly."""
    (found,) = far_from_even(UNEVEN, ["lpd", "gpd", "rare"])
    assert (found.name, found.fold, found.share, found.even) == ("lpd", 0, pytest.approx(0.36), 0.2)


@pytest.mark.parametrize(
    ("counts", "share"),
    [([29, 18, 18, 18, 17], None), ([31, 18, 17, 17, 17], 0.31), ([9, 23, 23, 23, 22], 0.09)],
)
def test_far_is_more_than_one_and_a_half_times_the_even_share_or_less_than_half(counts, share):
    """30 % and 10 % of five folds are the limits."""
    found = far_from_even(np.array(counts)[:, None], ["lpd"])
    assert [u.share for u in found] == ([] if share is None else [pytest.approx(share)])


def test_uneven_group_folds_are_said_with_what_stratified_ones_would_have():
    """One patient has half of the seizures; the other classes are even by patients of one recording."""
    rows = [(f"a{i}", "large", 0) for i in range(20)]
    rows += [(f"{c}{i}", f"p{c}-{i}", c) for c in range(6) for i in range(20)]
    frame = votes_table(*rows)
    (line,) = fold_warnings(frame, Folds("group", 5, None))
    assert line.startswith("fold 0 has ")
    assert "'seizure'; an even split would have 20%" in line
    assert "With folds=stratified5 no fold would hold more than " in line
    (line,) = fold_warnings(frame, Folds("stratified", 5, None))
    assert "Lower folds.n_splits" in line


def test_folds_that_are_even_are_passed_over_in_silence():
    """Six classes of thirty patients each, and no folds at all."""
    frame = votes_table(*((f"{c}{i}", f"p{c}-{i}", c) for c in range(6) for i in range(30)))
    assert fold_warnings(frame, Folds("stratified", 5, None)) == []
    assert fold_warnings(frame, Params("none")) == []


def test_one_patient_is_enough_without_folds():
    assert assign_folds(votes_table(("r", "p", 0)), Params("none")).to_dict() == {"p": -1}


@pytest.mark.parametrize("result", [[0, 1], [0.5] * 7, [-2] * 7])
def test_a_function_that_gives_no_folds_is_refused(result):
    register("folds", "mine")(lambda patients, params: result)
    try:
        with pytest.raises(
            ConfigError, match="folds 'mine' must give whole numbers, -1 or more, for 7 patients"
        ):
            assign_folds(SMALL, Params("mine"))
    finally:
        registry._entries["folds"].pop("mine")


# --- against scikit-learn ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_splits", [2, 5, 10])
def test_group_folds_are_as_equal_as_scikit_learns(seed, n_splits):
    from sklearn.model_selection import GroupKFold

    sizes = some_patients(60, seed)
    own = group_folds(patients_of(*sizes), Folds("group", n_splits, None))
    patient = np.repeat(np.arange(60), sizes)
    theirs = [len(valid) for _, valid in GroupKFold(n_splits).split(patient, groups=patient)]
    assert sorted(np.bincount(own, weights=sizes)) == sorted(theirs)


def unevenness(fold, label, n_splits):
    """Return the mean over the classes of the SD over the folds of the share of the class."""
    counts = np.array([np.bincount(label[fold == k], minlength=6) for k in range(n_splits)])
    present = counts.sum(axis=0) > 0
    return (counts[:, present] / counts.sum(axis=0)[present]).std(axis=0).mean()


@pytest.mark.slow
def test_stratified_folds_are_more_even_than_scikit_learns():
    """Over 30 tables of 120 patients: in the mean, and in most of them."""
    from sklearn.model_selection import StratifiedGroupKFold

    own, theirs = [], []
    for seed in range(30):
        table = patients_of(*some_patients(120, seed), seed=seed)
        classes = table[list(CLASSES)].to_numpy()
        label = np.concatenate([np.repeat(np.arange(6), row) for row in classes])
        patient = np.repeat(np.arange(120), classes.sum(axis=1))
        own.append(unevenness(stratified_folds(table, Folds("stratified", 5, None))[patient], label, 5))
        fold = np.empty(label.size, int)
        for k, (_, valid) in enumerate(StratifiedGroupKFold(5).split(label, label, patient)):
            fold[valid] = k
        theirs.append(unevenness(fold, label, 5))
    assert np.mean(own) < np.mean(theirs)
    assert np.mean(np.array(own) <= np.array(theirs) + 1e-12) > 0.7


# --- properties ----------------------------------------------------------------------------------


@st.composite
def tables(draw):
    patients = draw(st.lists(st.text("ab19_", min_size=1, max_size=3), min_size=6, max_size=15, unique=True))
    rows = []
    for patient in patients:
        for label in [0, *draw(st.lists(st.sampled_from([0, 1, None]), max_size=4))]:
            rows.append((f"r{len(rows)}", patient, label))
    return votes_table(*rows)


def folds_or_refusal(frame, params):
    try:
        return assign_folds(frame, params).to_dict()
    except ConfigError as error:
        return str(error)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(tables(), st.sampled_from(["group", "stratified"]), st.integers(2, 6), st.randoms())
def test_row_order_moves_nobody(frame, kind, n_splits, random):
    order = list(range(len(frame)))
    random.shuffle(order)
    shuffled = frame.iloc[order].reset_index(drop=True)
    params = Folds(kind, n_splits, None)
    assert folds_or_refusal(frame, params) == folds_or_refusal(shuffled, params)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(tables(), st.integers(2, 6), st.data())
def test_whatever_is_left_out_folds_part_the_rest_and_share_no_patient(frame, n_splits, data):
    used = data.draw(st.lists(st.sampled_from(list(frame["patient_id"])), max_size=20))
    splits = split_rows(used, assign_folds(frame, Folds("group", n_splits, None)))
    check_no_leak(splits, used)
    assert len(splits) == n_splits
    for train, valid in splits:
        assert sorted([*train, *valid]) == list(range(len(used)))
        assert not {used[i] for i in train} & {used[i] for i in valid}
    assert sorted(np.concatenate([valid for _, valid in splits])) == list(range(len(used)))


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(tables(), st.sampled_from(["group", "stratified"]), st.integers(2, 6))
def test_every_fold_has_a_patient(frame, kind, n_splits):
    found = folds_or_refusal(frame, Folds(kind, n_splits, None))
    assert isinstance(found, str) or set(found.values()) == set(range(n_splits))


def test_votes_of_other_rows_move_nobody():
    """Only the consensus of a recording's best row counts, not how many votes it has."""
    more = SMALL.copy()
    more[list(VOTE_COLUMNS)] *= 4
    assert assign_folds(more, STRATIFIED2).equals(assign_folds(SMALL, STRATIFIED2))


# --- patients set aside --------------------------------------------------------------------------


def test_patients_set_aside_are_whole_and_about_the_share_asked_for():
    patients = np.repeat([f"p{i}" for i in range(1000)], 3)
    aside = set_aside(patients, 0.3)
    assert set(patients[aside]).isdisjoint(patients[~aside])
    assert aside.mean() == pytest.approx(0.3, abs=0.05)


def test_who_is_set_aside_does_not_depend_on_who_else_there_is():
    patients = np.array([f"p{i}" for i in range(200)])
    np.testing.assert_array_equal(set_aside(patients, 0.3)[::3], set_aside(patients[::3], 0.3))
    assert not set_aside(patients, 0.0).any()
    assert not set_aside([], 0.3).size
