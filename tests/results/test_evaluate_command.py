"""``hms evaluate``: figures of a run's own predictions, the page, the json, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hms
from hms.cli import main
from hms.results.run import Run
from hms.training.metric import kl_divergence


@pytest.fixture(scope="module")
def judged_run(small_set: Path, run_once: Callable[..., Run]) -> Run:
    """Return a run with a baseline, whose predictions are at hand."""
    quick = (
        "stages=[scalograms,waveforms,quality,labels,splits]",
        "baseline=logreg",
        "labels.high_confidence_votes=4",
    )
    return run_once("data=kaggle", f"data.root={small_set}", *quick)


def predictions(run: Run, path: Path, shares: np.ndarray | None = None, rows: slice = slice(None)) -> Path:
    """Write predictions of some items, even shares unless told otherwise."""
    labels = run.labels
    shares = np.full(labels.y_soft.shape, 1 / 6) if shares is None else shares
    frame = pd.DataFrame(shares[rows], columns=labels.classes)
    frame.insert(0, "item_id", labels.item_id[rows])
    frame.to_csv(path, index=False)
    return path


def evaluate(run: Run, *files: Path) -> int:
    return main(["--outputs", str(run.path.parent), "evaluate", run.hash, *map(str, files)])


@pytest.mark.slow
def test_the_baselines_own_predictions_have_the_divergence_of_its_metrics(judged_run: Run) -> None:
    found = judged_run.judge(judged_run.path / "baseline" / "oof.npz").to_dict()
    metrics = json.loads((judged_run.path / "baseline" / "metrics.json").read_text())
    groups = found["scores"][0]["divergence"]
    assert groups["all"]["all"]["value"] == pytest.approx(metrics["model"]["all"]["all"]["value"], rel=1e-6)
    for kind in ("stratum", "class", "fold"):
        for name, each in groups[kind].items():
            assert each["value"] == pytest.approx(metrics["model"][kind][name]["value"], rel=1e-6)
    assert found["scores"][0]["confusion"] == metrics["confusion"]["counts"]


@pytest.mark.slow
def test_the_command_prints_figures_and_writes_page_and_json(
    judged_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = predictions(judged_run, tmp_path / "even shares.csv")
    assert evaluate(judged_run, path) == 0
    out = capsys.readouterr().out
    expected = kl_divergence(judged_run.labels.y_soft, np.full((10, 6), 1 / 6))
    assert re.search(rf"^all +10 +{expected:.3f}$", out, re.MULTILINE)
    page = judged_run.path.parent / f"evaluate-{judged_run.hash[:8]}-even_shares.html"
    assert out.splitlines()[-1] == str(page)
    figures = json.loads(page.with_suffix(".json").read_text())
    assert figures["run"] == judged_run.hash
    assert figures["n_items"] == 10
    assert figures["scores"][0]["divergence"]["all"]["all"]["value"] == pytest.approx(expected)
    text = page.read_text()
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert set(figures["scores"][0]) == {
        "divergence", "expected_calibration_error", "calibration", "confusion", "worst", "surprising",
    }  # fmt: skip
    assert figures["scores"][0]["worst"][0]["item_id"] in text
    assert text.count("<svg") >= 4


def test_the_page_closes_what_it_opens(judged_run: Run) -> None:
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "link", "br", "img"):
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    balance = Balance()
    balance.feed(judged_run.judge(judged_run.path / "baseline" / "oof.npz").page().decode())
    assert balance.open == []


def test_two_files_stand_side_by_side_with_their_paired_difference(
    judged_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    y = judged_run.labels.y_soft.astype(float)
    good = predictions(judged_run, tmp_path / "good.csv", 0.9 * y + 0.1 / 6)
    even = predictions(judged_run, tmp_path / "even.csv", rows=slice(0, 7))
    found = judged_run.judge(good, even)
    figures = found.to_dict()
    assert figures["n_items"] == 7
    assert figures["n_without_prediction"] == 3
    values = [each["divergence"]["all"]["all"]["value"] for each in figures["scores"]]
    assert figures["difference"]["all"]["all"]["value"] == pytest.approx(values[0] - values[1])
    assert values[0] < values[1]
    assert evaluate(judged_run, good, even) == 0
    out = capsys.readouterr().out
    assert "lower is better" in out.splitlines()[0]
    assert out.splitlines()[1].split() == ["items", "n", "good.csv", "even.csv", "difference"]
    even_ones = kl_divergence(y[:7], np.broadcast_to(y[:7].mean(axis=0), (7, 6)))
    assert f"for comparison: {even_ones:.3f} by the class prior of these items; " in out
    assert " by the run's baseline, out of fold" in out
    assert "fold 0" not in out
    assert re.search(r"^fold 0 +\d", found.text(all_groups=True), re.MULTILINE)
    assert "no prediction for 3 items of the run" in out
    page = Path(out.splitlines()[-1]).read_text()
    assert "Difference a − b, item by item" in page


def test_the_facts_of_a_run_name_the_score_of_its_baseline(judged_run: Run) -> None:
    metrics = json.loads(judged_run.text("baseline/metrics.json"))
    name = next(reversed(metrics["gain"]))
    value = (metrics["model"]["stratum"].get(name) or metrics["model"]["all"]["all"])["value"]
    assert dict(judged_run.overview())["baseline"].startswith(f"KL divergence {value:.3f}")


def test_flags_and_grades_are_those_of_the_ledger(judged_run: Run, tmp_path: Path) -> None:
    groups = judged_run.judge(predictions(judged_run, tmp_path / "p.csv")).to_dict()["scores"][0][
        "divergence"
    ]
    qc = judged_run.qc.set_index("item_id").loc[judged_run.labels.item_id.tolist()]
    for grade, count in qc["grade"].value_counts().items():
        assert groups["grade"][grade]["n_items"] == count
    flags = qc["raised"].fillna("")
    names = {name for text in flags for name in text.split(";") if text}
    for name in names:
        assert groups["flag"][name]["n_items"] == sum(name in text.split(";") for text in flags)


def test_a_run_of_tables_alone_is_judged_without_pictures(small_set: Path, tmp_path: Path) -> None:
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path}", "n_jobs=1")
    run = hms.run(hms.compose(*base, "stages=[labels]"))
    path = predictions(run, tmp_path / "p.csv")
    found = run.judge(path)
    assert list(found.to_dict()["scores"][0]["divergence"]["fold"]) == ["none"]
    assert b"Largest divergence" in found.page()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda frame: frame.drop(columns="item_id"), "it has no column 'item_id' (or 'eeg_id')"),
        (lambda frame: pd.concat([frame, frame[:1]]), "item_id appears more than once"),
        (lambda frame: frame.assign(item_id=frame["item_id"] + 1), "predictions are for unknown items"),
        (lambda frame: frame.assign(lpd=np.nan), "the table of predictions holds NaN"),
        (lambda frame: frame.assign(lpd=0.5), "must sum to 1 in every row; divide each row by its sum"),
        (lambda frame: frame.drop(columns="gpd"), "it has no column for gpd; each class has one"),
    ],
)
def test_wrong_predictions_end_with_2_and_one_line(
    judged_run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], change, problem: str
) -> None:
    path = predictions(judged_run, tmp_path / "p.csv")
    change(pd.read_csv(path)).to_csv(path, index=False)
    before = sorted(judged_run.path.parent.iterdir())
    assert evaluate(judged_run, path) == 2
    err = capfd.readouterr().err
    assert err.startswith("hms: p.csv: ")
    assert problem in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(judged_run.path.parent.iterdir()) == before


def test_two_files_of_different_items_end_with_2(
    judged_run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = predictions(judged_run, tmp_path / "a.csv", rows=slice(0, 5))
    second = predictions(judged_run, tmp_path / "b.csv", rows=slice(5, None))
    assert evaluate(judged_run, first, second) == 2
    assert "a.csv and b.csv predict no item in common" in capfd.readouterr().err
    assert evaluate(judged_run, tmp_path / "none.csv") == 2
    assert "none.csv is not a file; name a csv or npz" in capfd.readouterr().err
