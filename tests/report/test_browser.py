"""The report in a real browser: opened from disk, network off, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Page, browser, find_chromium
from report_data import fabricate, make_items

from hms.store.columns import Reason

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_chromium() is None,
        reason="NO CHROMIUM: the report was NOT tested in a browser; apt-get install chromium",
    ),
]

SIZES = [(1440, False), (390, True)]
N = 17_089


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report of the competition's size, with markup and 200 characters among its ids."""
    folder = tmp_path_factory.mktemp("run")
    ids = ["<img src=x onerror=alert(1)>", "w" * 200, *(str(3_000_000 + i) for i in range(N - 2))]
    reasons = [None] * (N - 3) + [Reason("read", "<b>broken</b>", True)] * 3
    fabricate(folder, make_items(N, patients=1_950, ids=ids), reasons=reasons)
    return folder / "qc" / "report.html"


def shown(page: Page, column: int = 0) -> list[str]:
    """Return the texts of a column among the rows there are."""
    texts = page.run(
        f"[...document.querySelectorAll('#table tbody tr:not(.gap)')].map((r) => r.cells[{column}].innerText)"
    )
    assert isinstance(texts, list)
    return texts


def choose(page: Page, element: str, value: str) -> None:
    """Set a field as a reader would, and let the page know."""
    kind = "input" if element == "find" else "change"
    page.run(
        f"(() => {{ const e = document.getElementById('{element}'); e.value = '{value}';"
        f" e.dispatchEvent(new Event('{kind}')); }})()"
    )


def click(page: Page, column: int) -> None:
    page.run(f"document.querySelectorAll('#table th button')[{column}].click()")


def count(page: Page) -> str:
    return str(page.run("document.getElementById('count').textContent"))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "mobile"), SIZES)
def test_page_fits_and_asks_for_nothing(page: Page, report: Path, width: int, mobile: bool) -> None:
    """No console error, no request but the file itself, nothing wider than the window."""
    page.requests.clear()
    page.errors.clear()
    page.resize(width, mobile=mobile)
    page.open(report)
    assert page.run("document.documentElement.scrollWidth") == width
    outside = page.run(
        "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroller, .wide, pre, svg') &&"
        f" e.getBoundingClientRect().right > {width}).map((e) => e.tagName + '.' + e.className)"
    )
    assert outside == []
    assert [r for r in page.requests if not r.startswith("data:")] == [report.resolve().as_uri()]
    assert page.errors == []


@pytest.mark.parametrize(("width", "mobile"), SIZES)
def test_no_picture_is_clipped(page: Page, report: Path, width: int, mobile: bool) -> None:
    """Every text of every picture lies inside it."""
    page.resize(width, mobile=mobile)
    page.open(report)
    clipped = page.run(
        "[...document.querySelectorAll('svg')].flatMap((s) => { const b = s.getBoundingClientRect();"
        " return [...s.querySelectorAll('text')].filter((t) => { const r = t.getBoundingClientRect();"
        " return r.width > 0 && (r.left < b.left - 1 || r.right > b.right + 1 || r.top < b.top - 1 ||"
        " r.bottom > b.bottom + 1); }).map((t) => s.getAttribute('aria-label').slice(0, 40) + ': ' +"
        " t.textContent); })"
    )
    assert clipped == []


def test_text_is_large_enough_in_every_picture(page: Page, report: Path) -> None:
    """11 px at least on a wide page."""
    page.resize(1440)
    page.open(report)
    small = page.run(
        "[...document.querySelectorAll('svg')].flatMap((s) => { const k = s.getBoundingClientRect().width /"
        " s.viewBox.baseVal.width; return [...s.querySelectorAll('text')].filter((t) =>"
        " t.getBoundingClientRect().width > 0 && parseFloat(getComputedStyle(t).fontSize) * k < 11)"
        ".map((t) => s.getAttribute('aria-label').slice(0, 40) + ': ' + t.textContent); })"
    )
    assert small == []


def test_an_item_says_how_it_is_opened_and_links_to_the_viewer_where_served(
    page: Page, report: Path, tmp_path: Path
) -> None:
    page.resize(1440)
    page.open(report)
    page.run("document.querySelectorAll('#table .opener')[2].click()")
    said = page.run("document.getElementById('opening').innerText")
    assert said == "To open it: hms browse 0123456789abcdef --item 3000000"
    item = page.run("document.querySelector('figure[data-item]').dataset.item")
    page.run("document.querySelector('figure[data-item] .opener').click()")
    assert page.run("document.getElementById('opening').innerText").endswith(f"--item {item}")
    served = report.read_text().replace(
        '<html lang="en"', '<html lang="en" data-browse="./" data-finished="2026"'
    )
    (tmp_path / "served.html").write_text(served)
    page.open(tmp_path / "served.html")
    links = "document.querySelectorAll('#table td a')"
    assert page.run(f"{links}[2].getAttribute('href')") == "./#item=3000000"
    assert "finished 2026" in page.run("document.querySelector('.sub').innerText")


def test_the_table_is_a_csv_by_one_click(page: Page, report: Path, tmp_path: Path) -> None:
    """The rows shown; a text that a spreadsheet would run is marked as text."""
    page.resize(1440)
    page.open(report)
    page.run(
        "(() => { window.saved = null; URL.createObjectURL = (blob) => { window.saved = blob.text();"
        " return 'blob:x'; }; HTMLAnchorElement.prototype.click = () => {}; })()"
    )
    choose(page, "find", "3001234")
    page.run("document.getElementById('csv').click()")
    lines = page.run("window.saved").splitlines()
    assert lines[0].startswith("item_id,patient_id,votes Seizure,votes LPD")
    assert len(lines) == 2
    assert lines[1].startswith("3001234,")


def test_a_dark_page_has_light_text_and_lines(page: Page, report: Path) -> None:
    page.resize(1440)
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    page.ask("Emulation.setEmulatedMedia", features=[dark])
    try:
        page.open(report)
        light = (
            "(() => { const l = (c) => c.match(/[0-9.]+/g).slice(0, 3).reduce((a, v) => a + v / 3, 0);"
            " return [l(getComputedStyle(document.body).backgroundColor),"
            " l(getComputedStyle(document.querySelector('svg text')).fill),"
            " l(getComputedStyle(document.querySelector('svg .trace')).stroke)]; })()"
        )
        ground, text, trace = page.run(light)
        assert ground < 40
        assert min(text, trace) > 150
    finally:
        page.ask("Emulation.setEmulatedMedia", features=[])


def test_summed_votes_have_bars_and_numbers_apart(page: Page, tmp_path: Path) -> None:
    """Totals of thousands, as labels=sum gives them."""
    items = make_items(60)
    for column in [c for c in items.columns if c.endswith("_vote")] + ["vote_sum"]:
        items[column] *= np.arange(1, 61) ** 2
    fabricate(tmp_path, items)
    page.resize(1440)
    page.open(tmp_path / "qc" / "report.html")
    chart = "[...document.querySelectorAll('figure')].find((f) => f.innerText.startsWith('Votes per item'))"
    widths = page.run(f"[...{chart}.querySelectorAll('rect')].map((r) => r.getBoundingClientRect().width)")
    assert sorted(widths)[len(widths) // 2] > 8
    overlapping = page.run(
        f"(() => {{ const t = [...{chart}.querySelectorAll('text')],"
        " b = t.map((e) => e.getBoundingClientRect());"
        " return t.flatMap((e, i) => t.filter((_, j) => i < j && b[i].left < b[j].right &&"
        " b[j].left < b[i].right && b[i].top < b[j].bottom - 3 && b[j].top < b[i].bottom - 3)"
        ".map((f) => `${e.textContent} / ${f.textContent}`)); })()"
    )
    assert overlapping == []


def test_table_is_drawn_by_need(page: Page, report: Path) -> None:
    """A few dozen rows stand for all; the last one is there after scrolling to the end."""
    page.resize(1440)
    page.open(report)
    assert count(page) == "17,089 of 17,089 items"
    assert len(shown(page)) < 80
    page.run("(() => { const s = document.getElementById('scroller'); s.scrollTop = s.scrollHeight; })()")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert shown(page)[-1] == str(3_000_000 + N - 3)


def test_box_of_a_short_table_is_as_high_as_its_rows(page: Page, tmp_path: Path) -> None:
    fabricate(tmp_path, make_items(6))
    page.resize(1440)
    page.open(tmp_path / "qc" / "report.html")
    inner = page.run("document.getElementById('table').getBoundingClientRect().height")
    assert inner <= page.run("document.getElementById('scroller').clientHeight") <= inner + 40


def test_markup_in_an_id_is_shown_as_text(page: Page, report: Path) -> None:
    page.resize(1440)
    page.open(report)
    assert shown(page)[0] == "<img src=x onerror=alert(1)>"
    assert page.run("document.querySelectorAll('#table img').length") == 0
    choose(page, "by-state", "out")
    assert shown(page, 9) == ["left out: read: <b>broken</b>"] * 3


def test_sorting_goes_both_ways_and_is_quick(page: Page, report: Path) -> None:
    page.resize(1440)
    page.open(report)
    click(page, 3)
    votes = [int(v) for v in shown(page, 3)]
    assert votes == sorted(votes)
    assert votes[0] == 1
    assert page.run("document.querySelector('#table th[aria-sort]').innerText").startswith("Votes")
    seconds = page.run(
        "(() => { const t = performance.now(); document.querySelectorAll('#table th button')[3].click();"
        " return (performance.now() - t) / 1000; })()"
    )
    votes = [int(v) for v in shown(page, 3)]
    assert votes == sorted(votes, reverse=True)
    assert votes[0] == 19
    assert seconds < 1


def test_filters_narrow_the_table_and_clear_again(page: Page, report: Path) -> None:
    page.resize(1440)
    page.open(report)
    choose(page, "by-class", "2")
    assert set(shown(page, 1)) == {"GPD"}
    some = int(count(page).split()[0].replace(",", ""))
    choose(page, "by-flag", "=line_noise")
    assert 0 < int(count(page).split()[0].replace(",", "")) < some
    assert all("line_noise" in text or text.startswith("left out") for text in shown(page, 9))
    choose(page, "by-grade", "good")
    assert count(page).startswith("0 of")
    page.run("document.getElementById('clear').click()")
    assert count(page) == "17,089 of 17,089 items"
    choose(page, "by-fold", "3")
    assert set(shown(page, 6)) == {"3"}


def test_search_finds_an_item_by_part_of_its_id(page: Page, report: Path) -> None:
    page.resize(1440)
    page.open(report)
    choose(page, "find", "3001234")
    assert shown(page) == ["3001234"]
    choose(page, "find", "no such item")
    assert shown(page) == []


@pytest.mark.parametrize(("width", "mobile"), SIZES)
def test_page_without_votes_fits_and_has_the_columns_it_can_fill(
    page: Page, tmp_path: Path, width: int, mobile: bool
) -> None:
    """No column, and no choice, that only votes could fill."""
    fabricate(tmp_path, make_items(40, voted=False), has_votes=False)
    page.errors.clear()
    page.resize(width, mobile=mobile)
    page.open(tmp_path / "qc" / "report.html")
    assert page.run("document.documentElement.scrollWidth") == width
    titles = page.run("[...document.querySelectorAll('#table th')].map((cell) => cell.innerText)")
    assert titles == ["Item", "Patient", "Grade", "Flags, or why it was left out"]
    choices = page.run("[...document.querySelectorAll('.filters select')].map((select) => select.id)")
    assert choices == ["by-grade", "by-flag", "by-state"]
    choose(page, "by-flag", "=line_noise")
    assert 0 < int(count(page).split()[0]) < 40
    assert page.errors == []


def test_print_is_dark_on_white_and_without_filters(page: Page, report: Path) -> None:
    page.resize(1440)
    page.open(report)
    page.ask("Emulation.setEmulatedMedia", media="print")
    try:
        style = "getComputedStyle(document.body)"
        assert page.run(f"[{style}.backgroundColor, {style}.color]") == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
        assert page.run("getComputedStyle(document.querySelector('.filters')).display") == "none"
        assert page.run("document.getElementById('table').getBoundingClientRect().height") < 4000
        assert len(shown(page)) <= 100
        assert page.run("getComputedStyle(document.querySelector('h2')).breakAfter") == "avoid"
    finally:
        page.ask("Emulation.setEmulatedMedia", media="")


def test_screenshots_are_not_blank(page: Page, report: Path, tmp_path: Path) -> None:
    """Both widths can be taken as pictures, and hold more than one colour."""
    import matplotlib.image

    for width, mobile in SIZES:
        page.resize(width, mobile=mobile)
        page.open(report)
        page.screenshot(tmp_path / f"{width}.png")
        pixels = matplotlib.image.imread(tmp_path / f"{width}.png")
        assert pixels.shape[1] == width
        assert pixels.std() > 0.05
