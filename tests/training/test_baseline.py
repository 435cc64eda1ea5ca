"""The baseline: its features, its model against scikit-learn, and that it learns signal, not chance."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Prepared, benchmark
from scipy.special import softmax
from small_sets import noise, write_set

import hms
from hms.competition import CLASSES, VOTE_COLUMNS
from hms.errors import TooManyFailures
from hms.labels.intervals import mean_interval, paired_interval
from hms.report.baseline import baseline_cards
from hms.results.run import Run
from hms.training.baseline import (
    SET_ASIDE,
    Logreg,
    NothingToTrainOn,
    class_prior,
    fit_softmax,
    logreg,
    out_of_fold,
    report_scores,
    summarise_scalogram,
)
from hms.training.metric import kl_divergence, row_divergence

PARAMS = Logreg("logreg", set_aside=0.0, l2=0.1, max_iterations=300)
MIRROR = np.array([2, 3, 0, 1])


@pytest.fixture(scope="module")
def embedded(run_once: Callable[..., Run]) -> Run:
    """Return a run on the embedded 300 recordings with a baseline."""
    return run_once("data.write_spectrograms=false", "stages=[labels,splits]", "baseline=logreg")


def problem(n: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, soft labels that follow from them, and weights."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5))
    y = rng.dirichlet(np.ones(6), n) * 0.2 + 0.8 * softmax(x @ rng.normal(size=(5, 6)), axis=1)
    return x, y / y.sum(axis=1, keepdims=True), rng.uniform(0.2, 1.5, n)


# --- features ------------------------------------------------------------------------------------


def test_features_do_not_tell_left_from_right():
    x = np.random.default_rng(0).random((4, 48, 250), dtype=np.float32)
    first = summarise_scalogram(x, frame_rate_hz=25, mirror=MIRROR)
    turned = summarise_scalogram(x[MIRROR], frame_rate_hz=25, mirror=MIRROR)
    np.testing.assert_array_equal(first, turned)
    assert first.dtype == np.float32


def test_a_level_that_comes_and_goes_twice_a_second_shows_at_two_hertz():
    """The rates are parted at 0.3 0.6 0.9 1.2 1.6 2 2.5 ...: 2.2 Hz is the sixth band."""
    t = np.arange(250) / 25
    x = np.broadcast_to(0.5 + 0.4 * np.sin(2 * np.pi * 2.2 * t), (1, 4, 250))
    features = summarise_scalogram(x, frame_rate_hz=25, mirror=np.array([-1]))
    rhythm = features[3 * 4 :].reshape(4, 8)
    assert (rhythm.argmax(axis=1) == 5).all()
    np.testing.assert_allclose(rhythm[:, 5], 0.4 / 2 / 5, rtol=1e-5)


def test_levels_spreads_and_trends_of_a_step_by_hand():
    x = np.zeros((1, 2, 10), dtype=np.float32)
    x[0, 1, 5:] = 1
    features = summarise_scalogram(x, frame_rate_hz=1, mirror=np.array([0]))
    np.testing.assert_allclose(features[:6], [0, 0.5, 0, 0.5, 0, 1], atol=1e-7)


# --- the model -----------------------------------------------------------------------------------


def test_the_linear_model_is_scikit_learns_on_the_rows_repeated_by_class():
    """Soft labels equal six rows, one per class, each weighted by its share: an independent solver."""
    from sklearn.linear_model import LogisticRegression

    x, y, w = problem()
    coefficients, intercept = fit_softmax(x, y, w, l2=0.1, max_iterations=500)
    weights = (w[:, None] * y / w.sum()).ravel()
    reference = LogisticRegression(C=10.0, tol=1e-10, max_iter=5000)
    reference.fit(np.repeat(x, 6, axis=0), np.tile(np.arange(6), len(x)), sample_weight=weights)
    expected = reference.predict_proba(x)
    np.testing.assert_allclose(softmax(x @ coefficients + intercept, axis=1), expected, atol=2e-5)


def test_scaling_is_fitted_on_the_training_part_alone():
    """Other validation rows, however far away, leave a row's prediction as it is."""
    x, y, w = problem()
    near = logreg(x[:60], y[:60], w[:60], x[60:], PARAMS)
    far = logreg(x[:60], y[:60], w[:60], np.vstack([x[60:61], 1e6 + x[61:]]), PARAMS)
    np.testing.assert_array_equal(near[0], far[0])


def test_a_feature_that_is_constant_in_training_is_not_used():
    x, y, w = problem()
    constant = np.column_stack([x, np.full(len(x), 7.0)])
    valid = np.column_stack([x[:3], [7.0, 8.0, 1e9]])
    np.testing.assert_allclose(
        logreg(constant, y, w, valid, PARAMS), logreg(x, y, w, x[:3], PARAMS), atol=1e-12
    )


def test_units_of_the_features_do_not_matter():
    x, y, w = problem()
    scale = np.array([1e-3, 1, 10, 1e4, 5])
    plain, other = logreg(x, y, w, x, PARAMS), logreg(x * scale + 3, y, w, x * scale + 3, PARAMS)
    np.testing.assert_allclose(plain, other, atol=1e-4)


def test_class_prior_is_the_weighted_mean_of_the_training_labels():
    y = np.eye(6)[[0, 0, 1]]
    got = class_prior(np.zeros((3, 1)), y, np.array([1.0, 1.0, 2.0]), np.zeros((2, 1)))
    assert got.tolist() == [[0.5, 0.5, 0, 0, 0, 0]] * 2


def test_every_item_is_predicted_by_the_model_of_its_fold():
    """A fitter that returns the size of its training part shows which part it was given."""
    splits = [(np.array([2, 3, 4]), np.array([0, 1])), (np.array([0, 1]), np.array([3]))]

    def fit(train, target, weight, valid):
        return np.full((len(valid), 6), float(len(train)))

    got = out_of_fold(np.zeros((5, 1)), np.zeros((5, 6)), np.ones(5), splits, fit)
    assert got.fold.tolist() == [0, 0, -1, 1, -1]
    assert got.prediction[:, 0].tolist()[:2] == [3, 3]
    assert got.prediction[3, 0] == 2
    assert np.isnan(got.prediction[[2, 4]]).all()
    with pytest.raises(NothingToTrainOn, match="fold 0 has no item to train on with a weight above 0"):
        out_of_fold(np.zeros((5, 1)), np.zeros((5, 6)), np.zeros(5), splits, fit)


def test_items_that_no_fold_validates_are_counted_and_left_out_of_the_scores():
    x, y, w = problem(40)
    splits = [(np.arange(20), np.arange(20, 30))]
    fits = (partial(logreg, params=PARAMS), class_prior)
    model, prior = (out_of_fold(x, y, w, splits, fit) for fit in fits)
    votes, patients = np.full(40, 3), np.arange(40) // 2
    got = report_scores(y, model, prior, vote_sum=votes, patient_id=patients, classes=CLASSES, threshold=10)
    assert (got["n_items"], got["n_without_prediction"]) == (10, 30)
    assert got["model"]["stratum"]["10+"]["value"] is None
    json.dumps(got, allow_nan=False)


# --- in a run ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_the_embedded_set_it_beats_the_class_prior_clearly(embedded: Run):
    """The whole interval of the paired gain lies below 0, of all items and of those with 10 votes."""
    metrics = json.loads(embedded.file("baseline/metrics.json").read_text())
    assert metrics["gain"]["all"]["high"] < -0.15
    assert metrics["gain"]["10+"]["high"] < 0


@pytest.mark.slow
def test_metrics_are_those_of_the_out_of_fold_predictions(embedded: Run):
    oof = embedded.arrays("baseline/oof.npz")
    metrics = json.loads(embedded.file("baseline/metrics.json").read_text())
    assert oof["item_id"].tolist() == embedded.labels.item_id.tolist()
    for name in ("model", "prior"):
        prediction = oof["prediction" if name == "model" else "prior"]
        value = kl_divergence(
            embedded.labels.y_soft,
            prediction,
            target_ids=embedded.labels.item_id,
            prediction_ids=oof["item_id"],
        )
        assert metrics[name]["all"]["all"]["value"] == pytest.approx(value)
    for fold, split in enumerate(embedded.splits):
        assert set(np.flatnonzero(oof["fold"] == fold)) == set(split.valid.tolist())
    assert np.sum(metrics["confusion"]["counts"]) == 300


@pytest.mark.slow
def test_with_shuffled_labels_it_does_not_beat_the_class_prior(embedded: Run):
    """Labels dealt out anew among the items carry nothing: whatever still helped would be a leak."""
    features = features_of(embedded)
    order = np.random.default_rng(0).permutation(300)
    y, w = embedded.labels.y_soft[order].astype(float), embedded.labels.w_conf[order]
    patients = embedded.meta["patient_id"].tolist()
    fits = (partial(logreg, params=PARAMS), class_prior)
    model, prior = (out_of_fold(features, y, w, embedded.splits, fit) for fit in fits)
    gain = paired_interval(row_divergence(y, model.prediction), row_divergence(y, prior.prediction), patients)
    assert gain.high > 0
    assert gain.value > 0
    assert mean_interval(row_divergence(y, prior.prediction), patients).value < 1.5


@pytest.mark.slow
def test_folds_that_ignore_patients_look_better_than_they_are(embedded: Run):
    """Nearest neighbours recognise patients: random minus patient folds lies below 0, interval and all."""
    leak = benchmark("leak")
    splits = [(split.train, split.valid) for split in embedded.splits]
    patients = embedded.meta["patient_id"].to_numpy(str)
    y, w = embedded.labels.y_soft.astype(float), embedded.labels.w_conf.astype(float)
    found = leak.gaps(features_of(embedded).astype(float), y, w, patients, splits)
    *_, gap = found["nearest neighbours"]
    assert gap.high < 0
    *_, gap = found["logistic regression"]
    assert gap.value < 0


@pytest.mark.slow
def test_where_all_votes_are_of_one_class_model_and_prior_are_right(
    own_set: Path, prepare: Callable[..., Run]
) -> None:
    """Five patients with votes for LPD alone: every item is used, and the divergence of either is 0."""
    table = pd.read_csv(own_set / "train.csv")
    total = table[list(VOTE_COLUMNS)].sum(axis=1)
    table[list(VOTE_COLUMNS)] = 0
    table.assign(lpd_vote=total).to_csv(own_set / "train.csv", index=False)
    run = prepare(own_set, "stages=[labels,splits]", "baseline=logreg", "folds=stratified5")
    metrics = json.loads(run.file("baseline/metrics.json").read_text())
    assert run.labels.y_soft[:, 1].tolist() == [1.0] * 10
    for name in ("model", "prior"):
        assert metrics[name]["all"]["all"]["value"] == pytest.approx(0, abs=1e-6)


def features_of(run: Run) -> np.ndarray:
    """Return the baseline's features of each item of a run, row i that of row i of meta_use.csv."""
    from hms.engine.plan import make_plan
    from hms.engine.tables import open_tables

    return open_tables(make_plan(run.config.override("stages=[labels,splits]"))).rows("features")["features"]


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(tiny_set: Path, tmp_path: Path):
    base = ("data=kaggle", f"data.root={tiny_set}", "stages=[labels,splits]", "baseline=logreg")
    runs = [
        hms.run(hms.compose(*base, f"outputs_dir={tmp_path / str(jobs)}", f"n_jobs={jobs}"))
        for jobs in (1, 2)
    ]
    for name in ("baseline/oof.npz", "baseline/metrics.json"):
        first, second = (run.file(name).read_bytes() for run in runs)
        assert first == second


@pytest.mark.slow
def test_another_weight_fits_anew_but_computes_no_features(tiny_set: Path, tmp_path: Path):
    base = ("data=kaggle", f"data.root={tiny_set}", "stages=[labels,splits]", "baseline=logreg", "n_jobs=1")
    first = hms.run(hms.compose(*base, f"outputs_dir={tmp_path}"))
    second = hms.run(hms.compose(*base, f"outputs_dir={tmp_path}", "weight=constant"))
    assert first.manifest["stages"]["features"]["computed"] == 5
    assert second.manifest["stages"]["features"]["computed"] == 0
    assert second.manifest["stages"]["baseline"]["computed"] == 1


@pytest.mark.slow
def test_the_report_has_a_part_on_the_baseline_only_where_there_is_one(tiny_set: Path, tmp_path: Path):
    base = ("data=kaggle", f"data.root={tiny_set}", "stages=[report]", "n_jobs=1", f"outputs_dir={tmp_path}")
    without = hms.run(hms.compose(*base))
    with_one = hms.run(hms.compose(*base, "baseline=logreg"))
    assert '<section id="baseline">' not in without.file("qc/report.html").read_text()
    page = with_one.file("qc/report.html").read_text()
    metrics = json.loads(with_one.file("baseline/metrics.json").read_text())
    assert page.count('<section id="baseline">') == 1
    assert '<a href="#baseline">' in page
    assert f"{metrics['gain']['all']['value']:+.3f} against the class prior" in page
    assert hms.run(hms.compose(*base)).reused


@pytest.mark.parametrize(("n_without", "text"), [(0, "No item is used"), (7, "No item was predicted")])
def test_the_part_without_predictions_says_so(n_without: int, text: str):
    cards = baseline_cards({"n_items": 0, "n_without_prediction": n_without})
    assert len(cards) == 3
    assert all(f"{text}, so there is no baseline to draw." in card.body for card in cards)


def recordings(folder: Path, usable: Sequence[bool]) -> Path:
    """Write recordings of noise, or of NaN alone, each of a patient of its own."""
    eegs = [noise(i) if good else np.full((20, 10_000), np.nan) for i, good in enumerate(usable)]
    return write_set(folder, eegs, list(range(len(eegs))), [i % 6 for i in range(len(eegs))])


@pytest.mark.slow
def test_a_run_that_leaves_out_every_item_has_no_baseline_and_does_not_finish(prepare, tmp_path: Path):
    """There is nothing to predict, whether nothing was prepared or qc.exclude_from leaves it all out."""
    with pytest.raises(TooManyFailures, match="none of the 2 items can be used"):
        prepare(recordings(tmp_path / "d", [False, False]), "folds.n_splits=2", "baseline=logreg")
    bad = ("qc.exclude_from=poor", "qc.item.strong_pair=0.001", "qc.grading.unusable=[strong_pair]")
    with pytest.raises(TooManyFailures, match="2 recordings: grade unusable: strong_pair"):
        prepare(recordings(tmp_path / "e", [True, True]), "folds.n_splits=2", "baseline=logreg", *bad)


@pytest.mark.slow
def test_items_of_one_fold_alone_are_refused_in_one_line(command: Callable[..., Prepared], tmp_path: Path):
    """One of two patients is left: its fold has an item to predict and none to train on."""
    folder = recordings(tmp_path / "d", [True, False])
    done = command("data=kaggle", f"data.root={folder}", "folds.n_splits=2", "baseline=logreg")
    assert done.code == 2
    assert "has no item to train on with a weight above 0; items used: 1" in done.err
    assert "baseline=none" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (("baseline=logreg", "folds=none"), "baseline=logreg is fitted out of fold and needs folds"),
        (("stages=[baseline]",), "'baseline' needs a model; choose baseline=logreg"),
        (("baseline=logrge",), "did you mean 'logreg'"),
        (("baseline=logreg", "baseline.l2=0"), "baseline.l2=0 is out of range; it must be above 0"),
    ],
)
def test_a_baseline_that_cannot_be_fitted_is_refused_before_any_work(
    command: Callable[..., Prepared], small_set: Path, overrides: tuple[str, ...], text: str
):
    done = command("data=kaggle", f"data.root={small_set}", *overrides)
    assert done.code == 2
    assert text in done.err


# --- patients set aside --------------------------------------------------------------------------


def test_no_fold_learns_from_patients_set_aside_and_a_model_of_all_others_predicts_them():
    x, y, w = problem()
    rows = np.arange(90)
    splits = [(rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3)]
    aside = rows % 10 == 0
    got = out_of_fold(x, y, w, splits, class_prior, aside=aside)
    train = ~aside & (rows % 3 != 1)
    np.testing.assert_allclose(got.prediction[1], np.average(y[train], axis=0, weights=w[train]), rtol=1e-12)
    np.testing.assert_allclose(
        got.prediction[0], np.average(y[~aside], axis=0, weights=w[~aside]), rtol=1e-12
    )
    assert set(got.fold[aside]) == {SET_ASIDE}
    assert got.covered.sum() == 81
    assert got.set_aside.sum() == 9


def test_all_patients_set_aside_leave_nothing_to_learn_from():
    x, y, w = problem(6)
    with pytest.raises(NothingToTrainOn, match="what was not set aside has no item to train on"):
        out_of_fold(x, y, w, [(np.arange(3), np.arange(3, 6))], class_prior, aside=np.ones(6, bool))
