"""Looks taken ahead by another process: what a look now gives, or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hms.store import looking
from hms.store.folders import _scan
from hms.store.looking import Ahead, ahead, taken
from hms.store.seen import FOLDER, LOOKS, keep_looks, listing, looking_ahead


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two files, a link to a file elsewhere and a folder."""
    (tmp_path / "elsewhere").write_bytes(b"12345")
    here = tmp_path / "here"
    (here / "below").mkdir(parents=True)
    for name in ("0123456789abcdef.npz", "key.json"):
        (here / name).write_bytes(b"123")
    (here / "link").symlink_to(tmp_path / "elsewhere")
    return here


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one, nothing is looked at ahead."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.mark.parametrize("through_links", [True, False])
def test_a_look_ahead_is_what_a_look_gives(folder: Path, through_links: bool) -> None:
    def now() -> object:
        if through_links:
            return listing(f"{folder}/", through_links=True)
        return sorted(_scan(folder).values())

    expected, place = now(), f"{folder}/" if through_links else str(folder)
    with ahead({place: through_links}):
        begun = looking._ahead[-1]
        assert begun.take(place, through_links=not through_links) is None
        assert now() == expected
        assert begun._found == {}, "it was not looked up"
        assert taken(place, through_links=through_links) is None, "each serves once"
    assert taken(place, through_links=through_links) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new").touch(),
        lambda folder: (folder / "key.json").unlink(),
        lambda folder: os.rename(folder, folder.with_name("moved")),
    ],
)
def test_a_folder_that_changed_since_is_looked_into_again(
    folder: Path, change: Callable[[Path], None]
) -> None:
    found = Ahead({str(folder): False})
    found._found = found._read()
    assert len(found._found[str(folder)][1]) == 2
    change(folder)
    assert found.take(str(folder), through_links=False) is None
    found.end()


@pytest.mark.parametrize("program", ["/nonexistent/python", "/bin/false"])
def test_a_process_that_fails_leaves_every_look_to_this_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(looking.sys, "executable", program)
    with ahead({str(folder): False}):
        assert len(_scan(folder)) == 2
    with ahead({str(folder / "nowhere"): False}):
        assert len(_scan(folder / "nowhere")) == 0


def test_only_folders_of_the_same_recordings_are_looked_into(folder: Path, tmp_path: Path) -> None:
    keep_looks(tmp_path, "root", {str(folder): False})
    with looking_ahead(tmp_path, "another"):
        assert not looking._ahead
    with looking_ahead(tmp_path, "root"):
        assert taken(str(folder), through_links=False)
    (tmp_path / FOLDER / LOOKS).write_bytes(b"damaged\n")
    with looking_ahead(tmp_path, "root"):
        assert not looking._ahead
