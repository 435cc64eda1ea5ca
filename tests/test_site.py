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
