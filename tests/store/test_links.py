"""A run's links: exactly those of its files, whoever makes them and whatever was there before."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import tree_bytes

from hms.engine.verify import verify
from hms.errors import ConfigError
from hms.results.run import Run
from hms.store import links
from hms.store.garbage import remove_run
from hms.store.linking import while_awaited
from hms.store.links import Linking, commit_links

Prepare = Callable[..., Run]


def stored(tmp_path: Path, count: int = 3) -> dict[str, str]:
    store = tmp_path / "store" / "scalograms-0"
    store.mkdir(parents=True, exist_ok=True)
    files = [store / f"{number}.npz" for number in range(count)]
    for file in files:
        file.write_text(file.name)
    return {f"{number}_hr.npz": str(file) for number, file in enumerate(files)}


def inode(path: Path) -> int:
    return path.lstat().st_ino


def contents(folder: Path) -> dict[str, str]:
    return {entry.name: os.readlink(entry) for entry in sorted(folder.iterdir())}


def test_a_folder_holds_its_names_and_no_other(tmp_path: Path) -> None:
    targets, folder = stored(tmp_path), tmp_path / "run" / "spec_hr_out"
    (folder / "kept").mkdir(parents=True)
    (folder / "old").write_text("of no run")
    (folder / "0_hr.npz").symlink_to("elsewhere")
    (folder / "1_hr.npz").write_text("a file in place of a link")
    commit_links(folder, targets)
    (folder / "kept").rmdir()
    assert contents(folder) == {f"{n}_hr.npz": f"../../store/scalograms-0/{n}.npz" for n in range(3)}


def test_a_second_run_names_the_links_of_the_first_and_outlives_it(tmp_path: Path) -> None:
    targets = stored(tmp_path)
    first, second = tmp_path / "run1" / "spec_hr_out", tmp_path / "run2" / "spec_hr_out"
    commit_links(first, targets)
    commit_links(second, targets)
    assert contents(second) == contents(first)
    assert [inode(second / name) for name in targets] == [inode(first / name) for name in targets]
    for name in targets:
        (first / name).unlink()
    assert [(second / name).read_text() for name in targets] == ["0.npz", "1.npz", "2.npz"]


def test_a_link_of_another_run_that_leads_elsewhere_is_not_taken_over(tmp_path: Path) -> None:
    targets = stored(tmp_path)
    first, second = tmp_path / "run1" / "spec_hr_out", tmp_path / "run2" / "spec_hr_out"
    commit_links(first, targets)
    (first / "1_hr.npz").unlink()
    (first / "1_hr.npz").symlink_to("../../store/scalograms-0/0.npz")
    (first / "2_hr.npz").unlink()
    commit_links(second, targets)
    assert {(second / name).read_text() for name in targets} == {"0.npz", "1.npz", "2.npz"}
    assert [inode(second / n) == inode(first / n) for n in ("0_hr.npz", "1_hr.npz")] == [True, False]


def test_a_link_that_can_have_no_second_name_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = stored(tmp_path)
    commit_links(tmp_path / "run1" / "spec_hr_out", targets)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("of another user")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "supports_follow_symlinks", {refuse})
    commit_links(tmp_path / "run2" / "spec_hr_out", targets)
    assert contents(tmp_path / "run2" / "spec_hr_out") == contents(tmp_path / "run1" / "spec_hr_out")


def test_a_process_of_its_own_makes_the_same_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = stored(tmp_path)
    folders = [tmp_path / run / name for run in ("run1", "run2") for name in ("spec_hr_out", "wave_hr_out")]
    monkeypatch.setattr(links, "MANY_LINKS", 1)
    for first, second in (folders[:2], folders[2:]):
        assert Linking({first: targets, second: targets}).done() == {first, second}
    commit_links(tmp_path / "run3" / "spec_hr_out", targets)
    assert all(contents(folder) == contents(tmp_path / "run3" / "spec_hr_out") for folder in folders)
    assert inode(folders[2] / "0_hr.npz") == inode(folders[0] / "0_hr.npz") != inode(folders[1] / "0_hr.npz")


def test_few_links_need_no_process(tmp_path: Path) -> None:
    assert Linking({tmp_path / "run" / "spec_hr_out": stored(tmp_path)}).done() == set()


@pytest.mark.parametrize("program", ["", "/nonexistent/python", "false"])
def test_links_that_no_process_could_make_are_made_all_the_same(
    small_set: Path, ready: Prepare, prepare: Prepare, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    before = ready(small_set, "stages=[waveforms,labels]")
    monkeypatch.setattr(links, "MANY_LINKS", 1)
    monkeypatch.setattr(sys, "executable", program)
    after = prepare(small_set, "stages=[waveforms,labels]", "weight=log")
    assert contents(after.path / "wave_hr_out") == contents(before.path / "wave_hr_out")
    assert verify(after.path).findings == []


def test_a_run_is_the_same_whoever_made_its_links(
    small_set: Path, ready: Prepare, prepare: Prepare, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(small_set, "stages=[waveforms,labels]")
    alone = prepare(small_set, "stages=[waveforms,labels]", "weight=log")
    expected = tree_bytes(alone.path)
    remove_run(alone, outputs)
    monkeypatch.setattr(links, "MANY_LINKS", 1)
    helped = prepare(small_set, "stages=[waveforms,labels]", "weight=log")
    assert tree_bytes(helped.path) == expected
    assert verify(helped.path).findings == []


def test_a_run_that_is_refused_leaves_no_folder_of_links(
    small_set: Path, ready: Prepare, prepare: Prepare, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hms.stages.labels import Labels

    ready(small_set, "stages=[waveforms,labels]")
    before = sorted(outputs.iterdir())

    def refuse(*_: object) -> None:
        raise ConfigError("no")

    monkeypatch.setattr(links, "MANY_LINKS", 1)
    monkeypatch.setattr(Labels, "compute", refuse)
    with pytest.raises(ConfigError, match="no"):
        prepare(small_set, "stages=[waveforms,labels]", "weight=log")
    assert sorted(outputs.iterdir()) == before


def test_links_are_made_for_nobody_once_the_process_that_asked_is_gone(tmp_path: Path) -> None:
    made: list[str] = []
    with pytest.raises(SystemExit, match="nobody waits"):
        while_awaited(lambda target, path: made.append(path), os.getpid())("target", "path")
    assert made == []
    folder = tmp_path / "run" / "spec_hr_out"
    folder.mkdir(parents=True)
    asked = marshal.dumps(([(str(folder), {"0_hr.npz": "elsewhere"}, "")], os.getpid() + 1))
    program = [sys.executable, "-I", "-S", links.linking.__file__]
    done = subprocess.run(program, input=asked, capture_output=True)
    assert done.returncode == 1
    assert list(folder.iterdir()) == []
