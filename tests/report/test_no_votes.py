"""The report of a run whose table of windows has no votes, as at inference."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Prepared
from report_data import fabricate, make_items

import hms
from hms.cli import main as cli
from hms.errors import ConfigError
from hms.results.difference import difference_page
from hms.results.run import Run
from hms.stages.labels import Labels
from hms.stages.report import Report
from hms.stages.scalograms import Scalograms
from hms.store.columns import Reason

pytestmark = pytest.mark.slow

PAGE = "qc/report.html"
TABLES = ("labels", "splits", "agreement", "summary", "report_agreement", "report_weights")


def words_of(page: bytes) -> str:
    text = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", page.decode())
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.fixture
def on_test(test_set: Path, finished: Run, outputs: Path) -> Callable[..., Run]:
    """Prepare the test set as the finished run prepared its own."""

    def call(*more: str, n_jobs: int = 1, into: Path = outputs) -> Run:
        source = ("data=kaggle", "data.subset=test", f"data.root={test_set}", f"from_run={finished.path}")
        return hms.run(hms.compose(*source, f"outputs_dir={into}", f"n_jobs={n_jobs}", *more))

    return call


@pytest.fixture(scope="module")
def unvoted(test_set: Path, finished: Run, run_once: Callable[..., Run]) -> Run:
    """Prepare the test set once, for tests that do not change it."""
    return run_once("data=kaggle", "data.subset=test", f"data.root={test_set}", f"from_run={finished.path}")


# --- the page ------------------------------------------------------------------------------------


def test_page_draws_what_needs_no_votes_and_says_what_is_absent(tmp_path: Path) -> None:
    page = fabricate(tmp_path, make_items(30, voted=False), has_votes=False)[PAGE]
    words = words_of(page)
    for said in (
        "EEG recordings without votes",
        "so there are no totals, disagreement or entropy to draw",
        "so there are no labels, and no weights or folds to draw",
        "so all items are drawn together",
        "No other item has disputed votes.",
        "folds are made of items with votes",
    ):
        assert said in words
    assert words.count("All items n = 30") == 2  # the spectrum and the scalogram
    assert words.count("Worst") == words.count("Cleanest") == 6
    assert "Votes:" not in words
    assert words.count("Seizure") == 0


def test_every_section_is_in_the_list_at_the_top(tmp_path: Path) -> None:
    """With votes and without, in the order of the page."""
    for has_votes in (True, False):
        items = make_items(12, voted=has_votes)
        page = fabricate(tmp_path / str(has_votes), items, has_votes=has_votes)[PAGE].decode()
        assert re.findall(r'<li><a href="#(\w+)">', page) == re.findall(r'<section id="(\w+)">', page)


def test_table_has_neither_weights_nor_folds(tmp_path: Path) -> None:
    page = fabricate(tmp_path, make_items(12, voted=False), has_votes=False)[PAGE]
    found = re.search(rb'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert data["votes"]["texts"] == ["0 0 0 0 0 0"]
    assert data["weight"]["texts"] == [""]
    assert data["fold"] == [-1] * 12


def test_report_without_votes_and_with_one_item(tmp_path: Path) -> None:
    page = fabricate(tmp_path, make_items(1, patients=1, voted=False), has_votes=False)[PAGE]
    assert "1 patient; median 1 item" in words_of(page)


def test_report_without_votes_and_without_any_item_prepared(tmp_path: Path) -> None:
    gone = [Reason("read", "the recording's file is missing", True)] * 3
    page = fabricate(tmp_path, make_items(3, voted=False), reasons=gone, has_votes=False)[PAGE]
    words = words_of(page)
    assert words.count("No item could be prepared, so there is nothing to draw.") == 3


# --- the stages ----------------------------------------------------------------------------------


def test_a_stage_without_votes_loses_what_it_can_do_without() -> None:
    """Labels make nothing then; the page leaves its part of weights out; signals stay as they are."""
    cfg = hms.compose()
    report, scalograms = Report.from_config(cfg), Scalograms.from_config(cfg)
    assert Labels.from_config(cfg).without_votes() is None
    assert scalograms.without_votes() is scalograms
    without = report.without_votes()
    assert without is not None
    assert without.report_weights is None
    assert without.report_signals is report.report_signals
    assert without.key != report.key
    assert "weight.kind" in report.all_settings()
    assert not {"weight.kind", "folds.kind"} & set(without.all_settings())


def test_weights_and_folds_do_not_change_a_page_that_has_none() -> None:
    one, other = (
        Report.from_config(hms.compose(*changed)).without_votes()
        for changed in ((), ("weight=log", "folds=group10"))
    )
    assert one is not None
    assert other is not None
    assert one.key == other.key


# --- runs ----------------------------------------------------------------------------------------


def test_run_makes_the_report_and_the_same_bytes_again(
    on_test: Callable[..., Run], outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = on_test()
    assert "has no votes: splits, labels, agreement, summary are not made" in capfd.readouterr().err
    assert not set(TABLES) & set(run.manifest["stages"])
    assert {"report", "report_votes", "report_signals"} <= set(run.manifest["stages"])
    page = run.report().path.read_bytes()
    assert f"of {len(run.meta)}; " in words_of(page)
    again = on_test(into=outputs.parent / "again", n_jobs=2)
    assert again.path != run.path
    assert again.file(PAGE).read_bytes() == page
    assert on_test().reused


def test_command_of_the_page_gives_the_run_back(unvoted: Run) -> None:
    assert 'python run.py data=kaggle data.root="$DATA"' in words_of(unvoted.file(PAGE).read_bytes())


def test_report_of_a_run_made_without_one(
    on_test: Callable[..., Run], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = on_test("stages=[scalograms]")
    assert PAGE not in run.manifest["files"]
    assert cli(["--outputs", str(outputs), "report", run.hash]) == 0
    place = Path(capsys.readouterr().out.strip())
    assert "so there are no labels" in words_of(place.read_bytes())
    assert hms.load("latest", outputs=outputs).report().path.samefile(place)


def test_settings_that_imply_a_summary_do_not_ask_for_votes(
    test_set: Path, outputs: Path, command: Callable[..., Prepared]
) -> None:
    """``qc.leak=error`` makes the summary, which checks folds; without votes there are none."""
    done = command("data=kaggle", "data.subset=test", f"data.root={test_set}", "qc=strict")
    assert done.code == 0, done.err
    assert PAGE in hms.load("latest", outputs=outputs).manifest["files"]


def test_plan_names_no_stage_that_is_not_made(test_set: Path, command: Callable[..., Prepared]) -> None:
    done = command("data=kaggle", "data.subset=test", f"data.root={test_set}", "plan=true")
    assert done.code == 0, done.err
    lines = {line.split()[0] for line in done.out.splitlines() if line}
    assert "report" in lines
    assert not set(TABLES) & lines


# --- two runs ------------------------------------------------------------------------------------


def test_two_runs_without_votes_are_compared(
    unvoted: Run, on_test: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = unvoted.path.parent
    a, b = unvoted, on_test("stages=[scalograms,report]", into=outputs)
    assert re.match(r"(good|usable|poor|unusable) \d", dict(a.overview())["quality"])
    with pytest.raises(ConfigError, match="has no votes to judge predictions by"):
        a.judge("predictions.csv")
    assert cli(["--outputs", str(outputs), "diff", a.hash, b.hash, "--html"]) == 0
    words = words_of(Path(capsys.readouterr().out.strip()).read_bytes())
    assert "Neither run made labels." in words
    assert f"All {len(a.meta)} scalograms are identical." in words


def test_a_run_with_votes_is_compared_with_one_without(finished: Run, unvoted: Run) -> None:
    words = words_of(difference_page(finished, unvoted))
    assert "Run b made no labels." in words
    assert "labels – not in both" in words
    assert f"All {len(unvoted.meta)} scalograms are identical." in words
    assert "Run a made no labels." in words_of(difference_page(unvoted, finished))
