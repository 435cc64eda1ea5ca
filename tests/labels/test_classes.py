"""Classes of one's own, from the votes table to package, report, metric, baseline and sweep."""

import json

import numpy as np
import pandas as pd
import pytest

import hms
from hms.competition import VOTE_COLUMNS
from hms.config.compose import compose
from hms.labels.classes import SIX, Classes

OWN = ("labels.classes=[wave,spike,artefact]", "baseline=logreg")


@pytest.fixture
def three_classes(own_set):
    """Return the small set with votes for three classes: seizure and rhythmic, periodic, other."""
    path = own_set / "train.csv"
    table = pd.read_csv(path)
    votes = table[list(VOTE_COLUMNS)].to_numpy()
    own = pd.DataFrame(
        {
            "spike_vote": votes[:, 1] + votes[:, 2],
            "wave_vote": votes[:, 0] + votes[:, 3] + votes[:, 4],
            "artefact_vote": votes[:, 5],
        }
    )
    pd.concat([table.drop(columns=list(VOTE_COLUMNS)), own], axis=1).to_csv(path, index=False)
    return own_set


@pytest.mark.slow
def test_own_classes_flow_through_package_report_metric_and_baseline(three_classes, prepare):
    run = prepare(three_classes, *OWN)
    table = pd.read_csv(three_classes / "train.csv").set_index(["eeg_id", "eeg_sub_id"])
    assert run.labels.classes.tolist() == ["wave", "spike", "artefact"]
    assert run.labels.y_soft.shape == (len(run.meta), 3)
    rows = pd.MultiIndex.from_frame(run.meta[["eeg_id", "eeg_sub_id"]])
    votes = table.loc[rows, ["wave_vote", "spike_vote", "artefact_vote"]].to_numpy()
    np.testing.assert_allclose(run.labels.y_soft, votes / votes.sum(axis=1, keepdims=True), rtol=1e-6)
    assert list(run.summary["strata"]["all"]["consensus_counts"]) == ["wave", "spike", "artefact"]
    metrics = json.loads(run.file("baseline/metrics.json").read_text())
    assert metrics["confusion"]["classes"] == ["wave", "spike", "artefact"]
    assert list(metrics["model"]["class"]) == ["wave", "spike", "artefact"]
    assert np.sum(metrics["confusion"]["counts"]) == len(run.meta)
    page = run.file("qc/report.html").read_text()
    assert '"classes":["Wave","Spike","Artefact"]' in page
    assert "log 3: evenly split" in page
    assert "LRDA" not in page
    assert run.dataset("train", fold=0)[0]["y"].shape == (3,)
    assert "wave" in dict(run.overview())["classes"]
    run.plot(run.meta["item_id"].iloc[0])


@pytest.mark.slow
def test_own_classes_are_compared_in_a_sweep(three_classes, command):
    done = command(
        "-m",
        "data=kaggle",
        f"data.root={three_classes}",
        *OWN,
        "stages=[labels,splits]",
        "weight=linear,constant",
    )
    assert done.code == 0, done.err
    assert "weight" in done.out


@pytest.mark.slow
def test_the_pictures_of_runs_with_other_classes_are_not_compared(three_classes, small_set, prepare, outputs):
    from hms.results.difference import difference_page

    own = prepare(three_classes, "labels.classes=[wave,spike,artefact]", "stages=[scalograms,labels]")
    six = prepare(small_set, "stages=[scalograms,labels]")
    assert (
        "The runs have different classes: wave, spike, artefact and seizure, lpd"
        in difference_page(own, six).decode()
    )


def test_the_order_of_classes_is_that_of_the_setting(three_classes, prepare):
    first = prepare(three_classes, "labels.classes=[wave,spike,artefact]", "stages=[labels]")
    other = prepare(three_classes, "labels.classes=[artefact,wave,spike]", "stages=[labels]")
    assert first.hash != other.hash
    np.testing.assert_array_equal(first.labels.y_soft[:, [2, 0, 1]], other.labels.y_soft)


def test_the_six_leave_every_key_as_it_was():
    """The setting at its default is in no key; named in another order it is."""
    from hms.pipeline.selection import choose_stages

    _, tables = choose_stages(compose())
    assert all("labels.classes" not in path for stage in tables for path in stage.all_settings())
    assert compose().at("labels.ballot") == SIX


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("labels.classes=[a]", "at least two classes"),
        ("labels.classes=[a,b,a]", "a is listed more than once"),
        ("labels.classes=[a,'b c']", "'b c' cannot name a class"),
        ("labels.soft_votes=perhaps", "not true or false"),
    ],
)
def test_classes_that_cannot_be_are_refused(override, text, command):
    done = command(override)
    assert done.code == 2
    assert text in done.err


def test_a_table_without_a_class_is_refused_with_its_column(three_classes, command):
    done = command("data=kaggle", f"data.root={three_classes}", "labels.classes=[wave,spike,artifact]")
    assert done.code == 2
    assert "lacks column 'artifact_vote' (did you mean 'artefact_vote'?)" in done.err


@pytest.mark.slow
def test_shares_become_float32_votes(own_set, prepare):
    """Votes of a tenth of what they are: the same labels, a tenth of the total."""
    table = pd.read_csv(own_set / "train.csv")
    whole = prepare(own_set, "stages=[labels]")
    table[list(VOTE_COLUMNS)] /= 10
    table.to_csv(own_set / "train.csv", index=False)
    soft = prepare(own_set, "stages=[labels]", "labels.soft_votes=true")
    assert soft.labels.vote_sum.dtype == np.float32
    np.testing.assert_allclose(soft.labels.vote_sum, whole.labels.vote_sum / 10, rtol=1e-6)
    np.testing.assert_allclose(soft.labels.y_soft, whole.labels.y_soft, rtol=1e-6)
    for labels in ("sum", "mean"):
        run = prepare(own_set, "stages=[labels]", "labels.soft_votes=true", f"labels={labels}")
        np.testing.assert_allclose(run.labels.y_soft.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.slow
def test_a_package_with_shares_has_a_report(own_set, prepare):
    table = pd.read_csv(own_set / "train.csv")
    table[list(VOTE_COLUMNS)] /= 7
    table.to_csv(own_set / "train.csv", index=False)
    run = prepare(own_set, "labels.soft_votes=true", "unit=per_pattern")
    assert run.file("qc/report.html").stat().st_size > 100_000
    assert hms.load(run.path).labels.vote_sum.dtype == np.float32


def test_more_classes_than_colours_known_have_a_colour_each():
    from hms.report.style import CLASS_COLOURS, class_colours

    assert class_colours(6) == CLASS_COLOURS
    assert class_colours(2) == CLASS_COLOURS[:2]
    assert len(set(class_colours(20))) == 20


def test_titles_of_own_classes_are_their_names():
    assert Classes(("spike_wave", "gpd")).titles == ("Spike wave", "GPD")


def test_classes_name_columns_and_titles():
    classes = Classes(("seizure", "lpd", "spike_wave"))
    assert classes.vote_columns == ("seizure_vote", "lpd_vote", "spike_wave_vote")
    assert classes.titles == ("Seizure", "LPD", "Spike wave")
    assert Classes.of_columns(["x", "a_vote", "b_vote", "voted"]).names == ("a", "b")
    assert Classes.of_labels({"classes": np.array(["a", "b"])}).names == ("a", "b")
    assert SIX.classes.array().dtype == np.dtype("<U7")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("a b", "c"), "'a b' cannot name a class"),
        (("recordings", "c"), "'recordings' cannot name a class"),
        (("a", "b", "a"), "a is listed more than once"),
        (("a",), "at least two classes"),
    ],
)
def test_names_that_cannot_be_columns_are_refused(names, text):
    with pytest.raises(ValueError, match=text):
        Classes(names)
