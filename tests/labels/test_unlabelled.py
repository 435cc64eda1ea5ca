"""Sets of which only some items have votes: left out by default, or kept beside those that have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hms
from hms.cli import main as hms_main
from hms.competition import VOTE_COLUMNS
from hms.results.run import Run

pytestmark = pytest.mark.slow

Prepare = Callable[..., Run]
KEEP = "labels.unlabelled=keep"


@pytest.fixture
def partly(own_set: Path) -> Path:
    """Return ten recordings of five patients; every second one has no votes."""
    table = pd.read_csv(own_set / "train.csv")
    silent = table["eeg_id"].isin(sorted(table["eeg_id"].unique())[::2])
    table.loc[silent, list(VOTE_COLUMNS)] = 0
    table.to_csv(own_set / "train.csv", index=False)
    return own_set


def test_kept_items_are_prepared_and_graded_in_no_fold_and_no_score(partly: Path, prepare: Prepare):
    """They are rows of every table, with `has_label` False, and of no fold."""
    run = prepare(
        partly, KEEP, "folds.n_splits=2", "baseline=logreg", "stages=[scalograms,quality,labels,splits]"
    )
    labels = run.labels
    assert len(run.meta) == len(labels.item_id) == 10
    assert labels.has_label.sum() == 5
    assert run.meta["has_label"].tolist() == labels.has_label.tolist()
    assert (labels.vote_sum > 0).tolist() == labels.has_label.tolist()
    silent = ~labels.has_label
    assert not labels.y_soft[silent].any()
    assert not labels.w_conf[silent].any()
    assert not labels.hc_mask[silent].any()
    for split in run.splits:
        assert labels.has_label[split.train].all()
        assert labels.has_label[split.valid].all()
    assert sorted(np.concatenate([s.valid for s in run.splits])) == np.flatnonzero(labels.has_label).tolist()
    assert run.qc["grade"].notna().all()
    assert run.spec(labels.item_id[silent][0]).shape == run.spec(labels.item_id[~silent][0]).shape
    oof = run.arrays("baseline/oof.npz")
    assert (oof["fold"][silent] == -1).all()


def test_figures_are_those_of_the_labelled_items(partly: Path, prepare: Prepare):
    """Summary and overview count what the run without them counts, and say how many have no label."""
    stages = "stages=[labels,splits,quality,summary]"
    kept = prepare(partly, KEEP, "folds.n_splits=2", stages)
    without = prepare(partly, "folds.n_splits=2", stages)
    assert kept.summary["items_used"] == 10
    assert kept.summary["items_without_label"] == 5
    for name in ("items", "strata", "folds", "vote_sum"):
        assert kept.summary[name] == without.summary[name]
    facts = dict(kept.overview())
    assert facts["without label"] == "5, in no fold and no score"
    assert facts["classes"] == dict(without.overview())["classes"]
    assert "without label" not in dict(without.overview())


def test_labelled_items_are_what_they_are_without_the_others(partly: Path, prepare: Prepare):
    """Labels and folds by item, to the bit."""
    base = ("folds.n_splits=2", "stages=[labels,splits]")
    kept, without = prepare(partly, KEEP, *base), prepare(partly, *base)
    rows = np.flatnonzero(kept.labels.has_label)
    assert kept.labels.item_id[rows].tolist() == without.labels.item_id.tolist()
    np.testing.assert_array_equal(kept.labels.y_soft[rows], without.labels.y_soft)
    np.testing.assert_array_equal(kept.labels.w_conf[rows], without.labels.w_conf)
    for one, other in zip(kept.splits, without.splits, strict=True):
        names = [set(r.labels.item_id[s.valid].tolist()) for r, s in ((kept, one), (without, other))]
        assert names[0] == names[1]


def test_datasets_have_the_labelled_items_alone(partly: Path, prepare: Prepare):
    run = prepare(partly, KEEP, "folds.n_splits=2", "stages=[scalograms,labels,splits]")
    assert len(run.dataset()) == 5
    assert len(run.dataset("train", fold=0)) + len(run.dataset("valid", fold=0)) == 5


def test_by_default_they_are_left_out_and_files_are_as_they_were(partly: Path, prepare: Prepare):
    run = prepare(partly, "folds.n_splits=2", "stages=[waveforms,labels]")
    assert set(run.excluded["reason"]) == {"no votes"}
    assert "has_label" not in run.meta
    assert "has_label" not in run.arrays("data_package/labels.npz")
    assert run.labels.has_label.all()


def test_a_page_and_a_title_say_that_there_is_no_label(partly: Path, prepare: Prepare, outputs: Path):
    pytest.importorskip("matplotlib")
    run = prepare(partly, KEEP, "folds.n_splits=2", "stages=[scalograms,waveforms,labels,splits]")
    silent = run.labels.item_id[~run.labels.has_label][0]
    assert run.plot(silent)._suptitle.get_text().startswith(f"{silent}: no label")
    assert hms_main(["--outputs", str(outputs), "verify", run.hash]) == 0
    assert hms.load(run.hash, outputs=outputs).labels.has_label.sum() == 5
