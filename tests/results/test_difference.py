"""Two runs side by side, and the report of a run that was made without one."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import hms
from hms.cli import main as cli
from hms.errors import ConfigError
from hms.results.difference import difference_page
from hms.results.run import Run

Prepare = Callable[..., Run]


@pytest.fixture
def prepare(small_set: Path, outputs: Path) -> Prepare:
    def call(*overrides: str) -> Run:
        fixed = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1")
        chosen = {text.partition("=")[0]: text for text in overrides}
        return hms.run(hms.compose(*fixed, *chosen.values()))

    return call


SMALL = (
    "folds.n_splits=2", "cwt.n_freqs=16", "cwt.hop=40", "stages=[scalograms,waveforms,quality,labels,splits]"
)  # fmt: skip


def words_of(page: bytes) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page.decode()))


@pytest.mark.slow
def test_page_tells_what_changed_and_draws_it(prepare: Prepare) -> None:
    a = prepare(*SMALL)
    b = prepare(*SMALL, "cwt=gmw", "weight=log", "folds.n_splits=3")
    page = difference_page(a, b)
    words = words_of(page)
    assert "cwt.kind: morlet -> gmw" in words
    assert "weight.kind: linear -> log" in words
    assert "folds.n_splits: 2 -> 3" in words
    assert words.count("Changed most:") == 6
    assert page == difference_page(a, b)


@pytest.mark.slow
def test_page_of_a_run_and_itself_says_that_nothing_differs(prepare: Prepare) -> None:
    run = prepare(*SMALL)
    words = words_of(difference_page(run, run))
    assert "The settings are the same." in words
    assert "All 10 scalograms are identical." in words
    assert "No item changed its fold." in words


@pytest.mark.slow
def test_page_of_runs_with_other_shapes_says_so(prepare: Prepare) -> None:
    words = words_of(difference_page(prepare(*SMALL), prepare(*SMALL, "cwt.hop=20")))
    assert "The scalograms have other shapes, (4, 16, 50) and (4, 16, 100)" in words


def test_page_of_runs_without_labels_or_scalograms_says_so(prepare: Prepare) -> None:
    tables = prepare("folds.n_splits=2", "stages=[meta]")
    words = words_of(difference_page(tables, tables))
    assert "Neither run made labels." in words
    assert "Neither run made scalograms." in words


@pytest.mark.slow
def test_command_writes_the_page(prepare: Prepare, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = prepare(*SMALL), prepare(*SMALL, "weight=sqrt")
    assert cli(["--outputs", str(outputs), "diff", a.hash, b.hash, "--html"]) == 0
    written = Path(capsys.readouterr().out.strip())
    assert written.parent == outputs
    assert written.read_bytes() == difference_page(a, b)


@pytest.mark.slow
def test_report_of_a_run_made_without_one(
    prepare: Prepare, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run stays as it is; another with the report is made from what is stored."""
    run = prepare(*SMALL, "stages=[scalograms,labels,splits]")
    with pytest.raises(ConfigError, match="hms report"):
        run.report()
    assert cli(["--outputs", str(outputs), "report", run.hash]) == 0
    place = Path(capsys.readouterr().out.strip())
    assert place.name == "report.html"
    assert place.parent.parent.name != run.hash
    assert hms.load("latest", outputs=outputs).report().path.read_bytes() == place.read_bytes()
    assert cli(["--outputs", str(outputs), "report", "latest"]) == 0
    assert Path(capsys.readouterr().out.strip()).samefile(place)
