"""Votes to look at again: found where they were planted, ranked by evidence, and never left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hms.labels.classes import COMPETITION
from hms.labels.issues import doubt, false_discovery_rate
from hms.report.issues import about_issue, issue_cards
from hms.results.run import Run
from hms.training.metric import row_divergence

pytestmark = pytest.mark.slow

FAST = ("cwt.n_freqs=8", "cwt.hop=40", "baseline=logreg")


def panels(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes of panels of 3 and of 14, predictions that are right up to noise, and who has many votes."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(6, 0.4), n)
    prediction = np.array([rng.dirichlet(8 * row + 0.2) for row in shares])
    many = np.arange(n) % 3 == 0
    votes = rng.multinomial(np.where(many, 14, 3), shares)
    return votes, prediction, many


def planted(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the same with the votes of 5 % of the items swapped in pairs."""
    votes, prediction, _ = panels(2000, seed)
    pairs = np.random.default_rng(seed + 100).permutation(2000)[:100].reshape(-1, 2)
    votes[pairs[:, 0]], votes[pairs[:, 1]] = votes[pairs[:, 1]], votes[pairs[:, 0]].copy()
    return votes, prediction, votes.sum(axis=1) >= 10, pairs.ravel()


def test_swapped_votes_are_found_more_often_than_by_divergence_alone() -> None:
    """Of the first 100 of two sets, of which 5 % are wrong."""
    precision, plain = [], []
    for seed in (1, 2):
        votes, prediction, many, wrong = planted(seed)
        first = doubt(votes, prediction, many=many).order[:100]
        y = votes / votes.sum(axis=1, keepdims=True)
        farthest = np.argsort(-row_divergence(y, prediction))[:100]
        precision.append(np.isin(first, wrong).mean())
        plain.append(np.isin(farthest, wrong).mean())
    assert np.mean(precision) >= 0.48
    assert np.mean(precision) > np.mean(plain)


def test_tails_of_honest_votes_are_no_smaller_than_chance_makes_them() -> None:
    votes, prediction, many = panels(2000)
    doubts = doubt(votes, prediction, many=many)
    assert (doubts.tail <= 0.01).mean() <= 0.02
    assert doubts.expected[doubts.order[0]] == pytest.approx(2000 * doubts.tail.min())


def test_sixteen_votes_against_a_prediction_say_more_than_three() -> None:
    votes, prediction, _ = panels(600)
    sure = np.full(6, 0.02) + 0.88 * np.eye(6)[0]
    votes[0], votes[1], prediction[:2] = 3 * np.eye(6, dtype=int)[1], 14 * np.eye(6, dtype=int)[1], sure
    doubts = doubt(votes, prediction, many=votes.sum(axis=1) >= 10)
    assert doubts.tail[1] < doubts.tail[0]


def test_false_discovery_rates_are_those_of_benjamini_and_hochberg() -> None:
    got = false_discovery_rate([0.01, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(got, [0.04, 4 * 0.04 / 3, 4 * 0.04 / 3, 0.5])
    assert false_discovery_rate([]).size == 0


@pytest.mark.parametrize(
    "votes",
    [
        np.tile([3, 0, 0, 0, 0, 0], (60, 1)),  # all votes equal, no item with many
        np.tile([0, 14, 0, 0, 0, 0], (60, 1)),  # none with few
        np.column_stack([np.random.default_rng(0).multinomial(5, [0.5, 0.5], 60), np.zeros((60, 4), int)]),
    ],
    ids=["one class, few votes", "one class, many votes", "classes never voted"],
)
def test_strange_tables_give_probabilities(votes: np.ndarray) -> None:
    prediction = np.random.default_rng(1).dirichlet(np.ones(6), 60)
    doubts = doubt(votes, prediction, many=votes.sum(axis=1) >= 10)
    assert ((doubts.tail > 0) & (doubts.tail <= 1)).all()
    assert sorted(doubts.order.tolist()) == list(range(60))


# --- in a run ------------------------------------------------------------------------------------


@pytest.fixture
def run(small_set: Path, ready: Callable[..., Run]) -> Run:
    """Return a run with a baseline and a page."""
    return ready(small_set, *FAST, "stages=[labels,splits,report]")


def test_a_run_ranks_every_predicted_item_and_leaves_none_out(run: Run) -> None:
    table = pd.read_csv(run.file("qc/label_issues.csv"), dtype={"item_id": str})
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert set(table["item_id"]) == set(run.meta["item_id"])
    evidence = table["tail_probability"] / table["times_as_probable_elsewhere"]
    assert (evidence.diff().dropna() > -1e-5 * evidence[1:]).all()
    votes = table[list(COMPETITION.vote_columns)].to_numpy()
    assert (votes.sum(axis=1) == table["vote_sum"]).all()
    shares = table[[f"{name}_predicted" for name in COMPETITION.names]].to_numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-4)


def test_the_page_shows_them_with_traces(run: Run) -> None:
    page = run.file("qc/report.html").read_text()
    assert 'id="label-issues"' in page
    first = pd.read_csv(run.file("qc/label_issues.csv"), dtype={"item_id": str}).iloc[0]
    assert f"1: {first['item_id']}" in page
    assert "would agree no better" in page


def test_items_kept_without_votes_are_not_ranked(own_set: Path, prepare: Callable[..., Run]) -> None:
    """Nor does whom a sweep sets aside bring them in."""
    path = own_set / "train.csv"
    table = pd.read_csv(path)
    silent = table["eeg_id"].iloc[0]
    table.loc[table["eeg_id"] == silent, list(COMPETITION.vote_columns)] = 0
    table.to_csv(path, index=False)
    kept = ("labels.unlabelled=keep", "baseline.set_aside=0.3", "stages=[labels,splits]")
    run = prepare(own_set, *FAST, *kept)
    ranked = pd.read_csv(run.file("qc/label_issues.csv"), dtype={"item_id": str})["item_id"]
    assert str(silent) in set(run.meta["item_id"])
    assert str(silent) not in set(ranked)
    assert len(ranked) == len(run.meta) - 1


def test_without_a_baseline_there_is_nothing_to_hold_votes_against(
    small_set: Path, prepare: Callable[..., Run]
) -> None:
    run = prepare(small_set, "cwt.n_freqs=8", "cwt.hop=40", "stages=[labels,splits]")
    assert "qc/label_issues.csv" not in run.manifest["files"]


def test_an_item_is_described_by_its_votes_its_prediction_and_how_improbable_that_is() -> None:
    shares = {
        f"{name}_predicted": share
        for name, share in zip(COMPETITION.names, (0.7, 0.2, 0.04, 0.03, 0.02, 0.01), strict=True)
    }
    votes = dict.fromkeys(COMPETITION.vote_columns, 0) | {"gpd_vote": 14}
    row = pd.Series({**votes, **shares, "vote_sum": 14, "tail_probability": 0.0003})
    assert about_issue(row, COMPETITION) == (
        "Votes: GPD 14. Predicted: Seizure 70%, LPD 20%, GPD 4%. "
        "Of 10,000 panels of 14 experts, 3 would agree no better."
    )


def test_a_page_without_predictions_says_so() -> None:
    (card,) = issue_cards([], pd.DataFrame({"rank": []}))
    assert "No item was predicted" in card.body
