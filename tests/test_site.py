"""The documentation: built with warnings as errors, whole without a network, searched from a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import browser, find_chromium
from conftest import ROOT

pytest.importorskip("material", reason="mkdocs-material is not installed: the documentation is NOT built")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: the documentation is NOT built")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    fetched = re.compile(r'(?:src="|<link[^>]*href=")(https?:[^"]*)')
    assert {(p.name, url) for p in pages for url in fetched.findall(p.read_text())} == set()


def test_every_setting_and_command_has_its_place(site: Path) -> None:
    from hms.config.manual import read_manual

    text = (site / "reference/settings.html").read_text()
    assert [path for path in read_manual().settings if f"<code>{path}</code>" not in text] == []
    for command in ("scan", "evaluate", "marks"):
        assert f"hms {command}" in (site / "reference/commands.html").read_text()


@pytest.mark.skipif(find_chromium() is None, reason="NO CHROMIUM: the search was NOT tried")
def test_the_search_works_from_a_folder(site: Path) -> None:
    with browser() as page:
        page.open(site / "index.html")
        page.run("document.querySelector('label[for=__search]').click()")
        page.wait("document.querySelector('iframe') !== null")
        page.run("document.querySelector('.md-search__input').focus()")
        page.ask("Input.insertText", text="pseudonyms")
        page.ask("Input.dispatchKeyEvent", type="keyUp", key="s")
        page.wait("document.querySelectorAll('.md-search-result__item').length > 0")
        assert page.errors == []


@pytest.mark.skipif(find_chromium() is None, reason="NO CHROMIUM: pages were NOT looked at on a phone")
def test_pages_with_wide_tables_fit_a_phone_and_show_their_pictures(site: Path) -> None:
    pages = ["notebooks/01_package", "notebooks/04_submission", "reference/settings", "recipes", "votes"]
    with browser() as page:
        page.resize(390, 900, mobile=True)
        for name in pages:
            page.open(site / f"{name}.html")
            over = page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            broken = page.run("[...document.images].filter(i => i.complete && !i.naturalWidth).length")
            assert (name, over, broken) == (name, 0, 0)
