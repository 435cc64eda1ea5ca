"""The viewer in a real browser, by keyboard alone: look, judge, run again, compare; wide and narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser, find_chromium
from conftest import Prepared, skip_without

import hms
from hms.browse.server import Viewer, start
from hms.labels.classes import COMPETITION
from hms.labels.marks import read_marks
from hms.results.run import Run

pytestmark = pytest.mark.skipif(
    find_chromium() is None,
    reason="NO CHROMIUM: the viewer was NOT tested in a browser; apt-get install chromium",
)
for needed in ("uvicorn", "starlette"):
    skip_without(needed, "NO EXTRA browse: the viewer was NOT tested")

SIZES = [(1440, False), (390, True)]
TRACES = "document.getElementById('traces')"


CLOCK = "{ const real = setInterval; window.setInterval = (look, ms) => real(window.look = look, ms); }"
"""What a page does every three seconds can be done at once."""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser(offline=False) as opened:
        opened.ask("Page.addScriptToEvaluateOnNewDocument", source=CLOCK)
        yield opened


@pytest.fixture(scope="module")
def viewed(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Viewer, Path]]:
    """Start a viewer of the finished run with a file of marks."""
    marks = tmp_path_factory.mktemp("viewed") / "marks.csv"
    viewer = start(finished, marks=marks, who="ab")
    yield viewer, marks
    viewer.stop()


@pytest.fixture
def opened(viewed: tuple[Viewer, Path], page: Page) -> Iterator[tuple[Page, Viewer, Path]]:
    """Open the page anew, without a mark."""
    viewer, marks = viewed
    marks.unlink(missing_ok=True)
    page.errors.clear()
    page.requests.clear()
    page.resize(1440)
    visit(page, viewer)
    yield page, viewer, marks
    page.open("about:blank")
    assert page.errors == []


def visit(page: Page, viewer: Viewer) -> None:
    page.open("about:blank")
    page.open(viewer.address)
    page.wait("document.documentElement.dataset.ready")


def shown(page: Page, item: str) -> None:
    """Wait until an item is drawn."""
    page.wait(f"{TRACES}.dataset.shown === '{item}'")


def text(page: Page, place: str) -> str:
    return str(page.run(f"document.getElementById('{place}').innerText"))


def pixels(page: Page, canvas: str = "traces") -> Any:
    return page.run(f"document.getElementById('{canvas}').toDataURL()")


@pytest.mark.slow
def test_the_loop_from_looking_to_a_run_with_the_marks_by_keyboard_alone(
    opened: tuple[Page, Viewer, Path],
    finished: Run,
    small_set: Path,
    command: Callable[..., Prepared],
    outputs: Path,
) -> None:
    page, _, marks = opened
    ids = finished.meta["item_id"].tolist()
    page.press("Enter")
    shown(page, ids[0])
    page.press("j", "j")
    shown(page, ids[2])
    page.press("x")
    page.wait("document.getElementById('status').textContent.startsWith('Saved')")
    page.press("n")
    page.press(*"electrode off", "Enter")
    page.wait("document.getElementById('about').innerText.includes('electrode off')")
    page.press("j")
    shown(page, ids[3])
    page.press("2")
    page.wait("document.getElementById('about').innerText.includes('Proposed: lpd 1')")
    page.press("d")
    page.wait("document.querySelector('[data-do=doubt]').ariaPressed === 'true'")
    page.press("u")
    page.wait("document.querySelector('[data-do=doubt]').ariaPressed === 'false'")
    page.wait("document.documentElement.dataset.saving === '0'")
    found = [(m.item_id, m.mark, m.votes, m.note, m.who) for m in read_marks(marks, COMPETITION)]
    assert found == [
        (ids[2], "exclude", (), "electrode off", "ab"), (ids[3], "", (("lpd", 1.0),), "", "ab"),
    ]  # fmt: skip
    done = command("data=kaggle", f"data.root={small_set}", "stages=[labels,splits]", "marks=file",
                   f"marks.path={marks}", "marks.apply_votes=true")  # fmt: skip
    assert done.code == 0
    again = hms.load("latest", outputs=outputs)
    assert again.excluded["reason"].tolist() == ["marked by eye: electrode off"]
    assert again.labels.y_soft[again.meta["item_id"].tolist().index(ids[3])].tolist() == [0, 1, 0, 0, 0, 0]


@pytest.mark.slow
def test_keys_change_how_signals_are_shown_and_it_stays_from_item_to_item(
    opened: tuple[Page, Viewer, Path], finished: Run
) -> None:
    page, _, _ = opened
    ids = finished.meta["item_id"].tolist()
    page.press("Enter")
    shown(page, ids[0])
    assert text(page, "stated").startswith(
        "Negative up · 0.5–20 Hz, clipped at ±500 µV, as prepared · Double banana, 18 pairs · 7 µV/mm"
    )
    assert page.run("[...document.querySelectorAll('#names li')].map((li) => li.textContent)") == [
        "Fp1-F7", "F7-T3", "T3-T5", "T5-O1", "Fp1-F3", "F3-C3", "C3-P3", "P3-O1", "Fz-Cz", "Cz-Pz",
        "Fp2-F4", "F4-C4", "C4-P4", "P4-O2", "Fp2-F8", "F8-T4", "T4-T6", "T6-O2", "EKG",
    ]  # fmt: skip
    before = pixels(page)
    page.press("ArrowDown", "f", "h", "h")
    page.wait("document.getElementById('stated').innerText.includes('notch 60 Hz')")
    assert pixels(page) != before
    page.press("m")
    page.wait("document.querySelectorAll('#names li').length === 17")
    page.press("j")
    shown(page, ids[1])
    stated = text(page, "stated")
    assert "as recorded, minus each channel's median over the page, notch 60 Hz" in stated
    assert "The run's pairs · 10 µV/mm" in stated


@pytest.mark.slow
def test_the_cursor_reads_what_the_run_computed(opened: tuple[Page, Viewer, Path], finished: Run) -> None:
    page, _, _ = opened
    item = finished.meta.iloc[0]
    page.press("Enter")
    shown(page, item["item_id"])
    page.press("m")
    page.wait("document.querySelectorAll('#names li').length === 17")
    page.press(*"]]", ">", ".")
    value = float(finished.evaluate(item["item_id"], "derivations").window[2, round((5 + 1 + 0.05) * 200)])
    start_s = float(item["window_start_s"])
    sign = "−" if value < 0 else "+"
    digits = 2 if -10 < value < 10 else 1
    expected = f"{start_s + 6.05:.2f} s (window +6.05 s) · T3-T5 {sign}{abs(value):.{digits}f} µV"
    assert text(page, "readout") == expected
    page.press("a", ">", ">", "s")
    page.wait("!document.querySelector('figure#spectrum').hidden")
    assert f"T3-T5, 2.00 s from {start_s + 6.05:.2f} s" in page.run(
        "document.querySelector('figure#spectrum figcaption').innerText"
    )
    page.press("Escape")
    assert page.run("document.querySelector('figure#spectrum').hidden")
    assert page.run("document.getElementById('list').hidden")
    page.press("Escape")
    assert not page.run("document.getElementById('list').hidden")


@pytest.mark.slow
def test_filters_sort_and_jump(opened: tuple[Page, Viewer, Path], finished: Run) -> None:
    page, _, _ = opened
    ids = finished.meta["item_id"].tolist()
    page.press("g")
    page.press(*ids[4], "Enter")
    shown(page, ids[4])
    page.wait(f"location.hash === '#item={ids[4]}'")
    page.press("l")
    grade = finished.qc["grade"].iloc[0]
    page.run(
        "(() => { const s = document.getElementById('by-grade');"
        f" s.value = [...s.options].find((o) => o.text === '{grade}').value;"
        " s.dispatchEvent(new Event('change')); })()"
    )
    n = int((finished.qc["grade"] == grade).sum())
    assert text(page, "count") == f"{n} of 10 items"
    page.run("document.getElementById('clear').click()")
    page.run(
        "(() => { const s = document.getElementById('sort'); s.value = 'Disagreement';"
        " s.dispatchEvent(new Event('change')); document.getElementById('turn').click(); })()"
    )
    entropy = page.run(
        "[...document.querySelectorAll('#body .row')].map((r) => Number(r.children[4].innerText))"
    )
    assert entropy == sorted(entropy, reverse=True)
    page.press("/")
    page.press(*ids[7], "Enter")
    assert text(page, "count") == "1 of 10 items"


@pytest.mark.slow
def test_marks_by_another_reader_or_by_hand_appear(opened: tuple[Page, Viewer, Path], finished: Run) -> None:
    page, _, marks = opened
    item = finished.meta["item_id"].iloc[0]
    page.press("Enter")
    shown(page, item)
    marks.write_text(f"item_id,mark,votes,note,when,who\n{item},doubt,,by hand,1,cd\n")
    page.run("window.look()")
    page.wait("document.getElementById('about').innerText.includes('cd: doubt · by hand')")


@pytest.mark.slow
def test_a_mark_that_cannot_be_saved_is_said_and_taken_back(
    opened: tuple[Page, Viewer, Path], finished: Run
) -> None:
    page, _, marks = opened
    page.press("Enter")
    shown(page, finished.meta["item_id"].iloc[0])
    marks.write_text("item_id,mark\nnobody,?\n")
    page.press("x")
    page.wait("document.getElementById('status').textContent.startsWith('Not saved: marks.csv, line 2')")
    assert page.run("document.querySelector('[data-do=exclude]').ariaPressed") == "false"
    assert marks.read_text() == "item_id,mark\nnobody,?\n"
    page.errors[:] = [e for e in page.errors if "422" not in e]  # Chromium logs the refusal itself


@pytest.mark.slow
@pytest.mark.parametrize(("width", "mobile"), SIZES)
def test_every_view_fits_and_every_control_has_a_name(
    opened: tuple[Page, Viewer, Path], finished: Run, width: int, mobile: bool
) -> None:
    page, viewer, _ = opened
    page.resize(width, 844 if mobile else 900, mobile=mobile)
    visit(page, viewer)
    for keys in ("l", "p", "Enter"):
        page.press(keys)
        if keys == "Enter":
            shown(page, finished.meta["item_id"].iloc[0])
        assert page.run("document.documentElement.scrollWidth") <= width
        nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
        roles = {"button", "combobox", "searchbox", "textbox", "img", "link", "slider", "listbox", "grid",
                 "option", "row", "spinbutton", "Canvas", "image"}  # fmt: skip
        unnamed = [
            n["role"]["value"] for n in nodes
            if not n["ignored"] and n["role"]["value"] in roles - {"row"} and not n["name"].get("value")
        ]  # fmt: skip
        assert unnamed == []
    assert [
        r for r in page.requests if viewer.address not in r and not r.startswith(("data:", "about:"))
    ] == []


@pytest.mark.slow
def test_pictures_are_drawn_and_open(opened: tuple[Page, Viewer, Path], finished: Run) -> None:
    page, _, _ = opened
    page.press("p")
    page.wait("[...document.querySelectorAll('.tile canvas')].filter((c) => c.width === 222).length === 10")
    page.press("ArrowRight", "Enter")
    shown(page, finished.meta["item_id"].iloc[1])


@pytest.mark.slow
def test_a_blind_page_shows_no_votes(finished: Run, page: Page, tmp_path: Path) -> None:
    viewer = start(finished, marks=tmp_path / "m.csv", blind=True)
    try:
        visit(page, viewer)
        page.press("Enter")
        shown(page, finished.meta["item_id"].iloc[0])
        told = text(page, "about")
        assert "Keep" in told
        assert not any(word in told for word in ("Votes:", "Grade", "Flags", "Prediction", "KL"))
        assert page.run("document.querySelectorAll('#filters label:not([hidden])').length") == 4
        page.open("about:blank")
    finally:
        viewer.stop()


@pytest.mark.slow
def test_browsing_forth_and_back_keeps_no_more(opened: tuple[Page, Viewer, Path], finished: Run) -> None:
    """70 steps leave as many nodes and about as much memory as 20; docs/browse.md has 1,000."""
    page, _, _ = opened
    page.press("Enter")
    shown(page, finished.meta["item_id"].iloc[0])

    def forth_and_back(times: int) -> tuple[int, int]:
        for _ in range(times):
            page.press(*"jjjjj", *"kkkkk")
        shown(page, finished.meta["item_id"].iloc[0])
        page.ask("HeapProfiler.collectGarbage")
        heap = page.ask("Runtime.getHeapUsage")["usedSize"]
        return page.run("document.querySelectorAll('*').length"), heap

    nodes, heap = forth_and_back(2)
    more_nodes, more_heap = forth_and_back(5)
    assert more_nodes == nodes
    assert more_heap < heap + 6e6
