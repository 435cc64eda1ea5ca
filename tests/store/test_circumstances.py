"""What the machine does to a run is no fact about a recording; disks, locks and names as they are."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import ROOT, Prepared, tree_bytes

import hms
from hms.config.reading import is_file, is_folder, is_there, names_in, walked
from hms.engine import runner, space
from hms.engine.export import export_run
from hms.engine.verify import verify
from hms.errors import ConfigError, ManifestError, StorageError, Unusable, machine_fault
from hms.results.run import Run
from hms.sources import files as source_files
from hms.store import files, links, locks
from hms.store.folders import StageFolder
from hms.store.garbage import garbage, remove_run, sweep_garbage
from hms.store.links import usable_way

Prepare = Callable[..., Run]
Command = Callable[..., Prepared]
RUN = str(ROOT / "run.py")


# --- faults of the machine are no reasons --------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory ran out"),
        (np._core._exceptions._ArrayMemoryError((1,), np.dtype(float)), "memory ran out"),
        (pa.lib.ArrowMemoryError("malloc of size 64 failed"), "memory ran out"),
        (pa.lib.ArrowInvalid("realloc of size 4096 failed"), "realloc of size 4096 failed"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (RuntimeError("Resource temporarily unavailable"), "Resource temporarily unavailable"),
        (OSError(errno.EACCES, "Permission denied"), ""),
        (ValueError("the file is damaged"), ""),
        (Unusable("the table says: out of memory"), ""),
    ],
)
def test_what_says_something_of_the_machine_is_told_from_what_says_something_of_a_file(
    error: Exception, said: str
) -> None:
    assert machine_fault(error) == said


def test_a_fault_behind_another_error_is_found() -> None:
    hidden = Unusable("the file is damaged")
    hidden.__context__, hidden.__suppress_context__ = MemoryError(), True  # as ``from None`` leaves it
    assert machine_fault(hidden) == "memory ran out"


@pytest.mark.parametrize("finding", [ConfigError, ManifestError, Unusable])
@pytest.mark.parametrize(
    ("number", "raised"), [(errno.EIO, OSError), (errno.EMFILE, OSError), (errno.ENOENT, None)]
)
def test_a_finding_cannot_be_made_of_a_fault_of_the_machine(
    finding: type[Exception], number: int, raised: type[Exception] | None
) -> None:
    """Whoever handles an OSError says what is wrong with a file; where the machine failed, that is raised."""
    with pytest.raises(raised or finding):  # noqa: PT012 - as readers do it
        try:
            raise OSError(number, os.strerror(number), "a file")
        except OSError:
            raise finding("the file is damaged") from None


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM])
def test_a_look_at_a_path_raises_what_the_machine_failed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert [is_there(tmp_path), is_folder(tmp_path), is_file(tmp_path)] == [True, True, False]
    assert [is_there(tmp_path / "no"), is_folder("a\0b"), names_in(tmp_path / "no")] == [False, False, []]

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for name, look in [("stat", is_there), ("stat", is_folder), ("listdir", names_in), ("scandir", walked)]:
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match=os.strerror(number)):
                list(look(tmp_path))  # type: ignore[arg-type, operator]


def failing(monkeypatch: pytest.MonkeyPatch, errors: dict[str, Exception], times: int) -> list[str]:
    """Let reading these recordings fail so many times; return the names as they are read."""
    real, left, seen = source_files.regular_bytes, dict.fromkeys(errors, times), []

    def read(path: str, most: int) -> bytes:
        name = Path(path).stem
        seen.append(name)
        if left.get(name):
            left[name] -= 1
            raise errors[name]
        return real(path, most)

    monkeypatch.setattr(source_files, "regular_bytes", read)
    return seen


SIGNALS = "stages=[scalograms,waveforms,labels,splits]"


@pytest.fixture(scope="module")
def plain(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Finish a run without measures and report, once; tests compare with it."""
    outputs = tmp_path_factory.mktemp("plain")
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1")
    return hms.run(hms.compose(*base, SIGNALS))


FAULTS = [
    MemoryError(),
    pa.lib.ArrowMemoryError("malloc of size 64 failed"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


@pytest.mark.slow
def test_recordings_that_the_machine_failed_at_are_tried_again_alone(
    small_set: Path, prepare: Prepare, plain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims = plain.meta["item_id"].tolist()[2 : 2 + len(FAULTS)]
    seen = failing(monkeypatch, dict(zip(victims, FAULTS, strict=True)), times=1)
    run = prepare(small_set, SIGNALS)
    assert tree_bytes(run.path) == tree_bytes(plain.path)
    assert seen[10 : 10 + len(victims)] == victims


@pytest.mark.slow
@pytest.mark.parametrize("error", [FAULTS[0], FAULTS[2]], ids=str)
def test_a_fault_that_stays_ends_the_run_naming_the_recording_and_nothing_is_kept_against_it(
    small_set: Path,
    prepare: Prepare,
    command: Command,
    plain: Run,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    victim = plain.meta["item_id"].iloc[4]
    with monkeypatch.context() as patch:
        failing(patch, {victim: error}, times=9)
        ended = command("data=kaggle", f"data.root={small_set}", SIGNALS)
    assert ended.code == 4
    assert f"\n  {victim}: " in ended.err
    assert "machine failed at 1 recording" in ended.err
    assert "Traceback" not in ended.err
    assert not list(outputs.glob("*/manifest.json"))
    for folder in outputs.glob("store/*-*"):
        assert not [r for r in StageFolder(folder).load().records.values() if r.reason]
    (stored,) = outputs.glob("store/scalograms-*")
    assert len(StageFolder(stored).load().records) == 9
    assert tree_bytes(prepare(small_set, SIGNALS).path) == tree_bytes(plain.path)


class Odd(Exception):
    """An error of a type that nobody expects."""


ANY = [Odd("odd"), OverflowError("x"), RecursionError(), KeyError("k"), OSError("?")]


def test_any_other_error_while_a_recording_is_read_is_its_reason(
    small_set: Path, prepare: Prepare, plain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims = dict(zip(plain.meta["item_id"], ANY, strict=False))
    failing(monkeypatch, victims, times=9)
    run = prepare(small_set, "stages=[waveforms]", "max_failed_share=1")
    assert sorted(run.excluded["item_id"]) == sorted(victims)
    assert set(run.excluded["stage"]) == {"read"}


def test_offsets_beyond_all_numbers_leave_their_items_out(own_set: Path, prepare: Prepare) -> None:
    votes = pd.read_csv(own_set / "train.csv")
    votes["eeg_label_offset_seconds"] = votes["eeg_label_offset_seconds"].astype(float)
    offsets = dict(zip(votes["eeg_id"].unique(), (1e308, 1e19, 4e15), strict=False))
    new = votes["eeg_id"].map(offsets)
    votes["eeg_label_offset_seconds"] = new.fillna(votes["eeg_label_offset_seconds"])
    votes.to_csv(own_set / "train.csv", index=False)
    run = prepare(own_set, "stages=[waveforms]", "max_failed_share=1")
    assert sorted(run.excluded["item_id"]) == sorted(map(str, offsets))


# --- one read for identity and content -----------------------------------------------------------


def test_a_recording_replaced_between_its_digest_and_its_decoding_never_gets_anothers_samples(
    own_set: Path,
) -> None:
    """By another of the same length, in place, as a file that is being synchronised is."""
    from hms.sources.base import Place
    from hms.sources.kaggle import ParquetRecording, ParquetSource

    first, second = sorted((own_set / "train_eegs").iterdir())[:2]
    content, other = first.read_bytes(), second.read_bytes()
    source = ParquetSource(own_set, ())
    channels = ("Fp1", "O2")
    expected = ParquetRecording(content, {}).read(0, 2000, channels)
    opened = source.open(Place("x", str(first), None, None))
    with open(first, "r+b") as file:
        file.write(other[: len(content)].ljust(len(content), b"\0"))
    assert opened.digest_of("") == files.digest_bytes(content)
    np.testing.assert_array_equal(opened.read(0, 2000, channels), expected)


# --- looked at, then used ------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_waited_for_a_clean_up_looks_again(
    small_set: Path,
    prepare: Prepare,
    ready: Prepare,
    plain: Run,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clean-up removes, after the run has planned, what the plan counts on."""
    ready(small_set, SIGNALS)
    first = prepare(small_set, SIGNALS, "weight=log")
    for run in (first, *hms.results.run.list_runs(outputs)):
        if run.path.exists():
            remove_run(run, outputs)
    real = runner._announced

    def cleaned_first(plan: Any) -> Any:
        assert not plan.due()
        sweep_garbage(outputs)
        return real(plan)

    monkeypatch.setattr(runner, "_announced", cleaned_first)
    run = prepare(small_set, SIGNALS)
    assert not [path for path in run.path.rglob("*") if path.is_symlink() and not path.exists()]
    assert verify(run.path).findings == []
    assert tree_bytes(run.path) == tree_bytes(plain.path)


@pytest.mark.slow
def test_no_run_is_finished_with_a_file_that_went_away_while_it_worked(
    small_set: Path, prepare: Prepare, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hms.engine import folder

    real = folder.commit_links

    def lose_one(place: Path, targets: Any, way: Any) -> None:
        real(place, targets, way)
        if place.name == "spec_hr_out":
            Path(next(iter(targets.values()))).unlink()

    monkeypatch.setattr(folder, "commit_links", lose_one)
    with pytest.raises(StorageError, match=r"1 files of .* disappeared"):
        prepare(small_set, SIGNALS)
    assert not list(outputs.glob("*/manifest.json"))
    monkeypatch.undo()
    assert verify(prepare(small_set, SIGNALS).path).findings == []


def everything(outputs: Path) -> dict[str, tuple[int, bytes]]:
    return {
        p.relative_to(outputs).as_posix(): (p.lstat().st_mtime_ns, b"" if p.is_dir() else p.read_bytes())
        for p in sorted(outputs.rglob("*"))
        if p.exists()
    }


@pytest.mark.slow
def test_a_look_for_garbage_changes_nothing_not_even_the_note_of_a_run_that_starts(
    small_set: Path, ready: Prepare, outputs: Path
) -> None:
    remove_run(ready(small_set, "stages=[waveforms]"), outputs)
    note = outputs / "store" / "running" / "0.json"
    note.write_text('{"folders": ["waveforms-0"]}')
    note.with_suffix(".lock").touch()
    before = everything(outputs)
    found = garbage(outputs)
    assert found.folders
    assert everything(outputs) == before
    with locks.lock(note.with_suffix(".lock")):
        (name,) = (folder.name for folder, _ in found.folders if folder.name.startswith("waveforms"))
        note.write_text(f'{{"folders": ["{name}"]}}')
        assert name in garbage(outputs).in_use
        sweep_garbage(outputs)
        assert (outputs / "store" / name).is_dir()
    sweep_garbage(outputs)
    assert not note.exists()
    assert not (outputs / "store" / name).exists()


@pytest.mark.slow
def test_plan_true_and_explain_change_nothing_of_moved_outputs(
    small_set: Path, ready: Prepare, command: Command, outputs: Path
) -> None:
    ready(small_set)
    for path in outputs.glob("store/*/*.npz"):
        os.utime(path)
    before = everything(outputs)
    assert command("data=kaggle", f"data.root={small_set}", "plan=true").code == 0
    assert everything(outputs) == before


# --- disks and locks as they are -----------------------------------------------------------------


def refusing(monkeypatch: pytest.MonkeyPatch, *ways: str) -> None:
    def refuse(source: str, name: str) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    for way in ways:
        monkeypatch.setitem(links._MAKE, way, refuse)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(("way", "is_asked"), [("hardlink", False), ("copy", True)])
def test_a_disk_without_symbolic_links_is_served(
    small_set: Path,
    prepare: Prepare,
    plain: Run,
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    way: str,
    is_asked: bool,
) -> None:
    refusing(monkeypatch, "symlink", *(["hardlink"] if way == "copy" else []))
    asked = (SIGNALS, f"package.link={way}") if is_asked else (SIGNALS,)
    run = prepare(small_set, *asked)
    assert ("no symbolic links" in capfd.readouterr().err) != is_asked
    assert not [path for path in run.path.rglob("*") if path.is_symlink()]
    assert tree_bytes(run.path) == tree_bytes(plain.path)
    assert hms.load("latest", outputs=outputs).hash == run.hash
    inode = next((run.path / "spec_hr_out").iterdir()).stat().st_ino
    stored = {path.stat().st_ino for path in outputs.glob("store/scalograms-*/*.npz")}
    assert (inode in stored) == (way == "hardlink")
    before = computed(outputs)
    assert prepare(small_set, *asked).reused
    other = prepare(small_set, "weight=log", *asked)
    assert computed(outputs)["scalograms"] == before["scalograms"]
    assert garbage(outputs).size == 0
    assert verify(run.path).findings == []
    export_run(run, tmp_path / "exported")
    remove_run(other, outputs)
    assert hms.load("latest", outputs=outputs).hash == run.hash
    sweep_garbage(outputs)
    assert verify(run.path).findings == []
    assert prepare(small_set, *asked).reused


def computed(outputs: Path) -> dict[str, int]:
    return {f.name.rpartition("-")[0]: StageFolder(f).load().computed for f in outputs.glob("store/*-*")}


@pytest.mark.slow
def test_a_copy_that_was_changed_is_found_and_made_anew(
    small_set: Path, prepare: Prepare, ready: Prepare, plain: Run
) -> None:
    run = ready(small_set, SIGNALS, "package.link=copy")
    place = next((run.path / "wave_hr_out").iterdir())
    place.write_bytes(place.read_bytes()[::-1])
    assert len(verify(run.path).findings) == 1
    assert not prepare(small_set, SIGNALS, "package.link=copy").reused
    assert tree_bytes(run.path) == tree_bytes(plain.path)


def test_a_way_of_linking_that_a_disk_lacks_is_told_before_any_work(
    small_set: Path, command: Command, monkeypatch: pytest.MonkeyPatch, outputs: Path
) -> None:
    refusing(monkeypatch, "hardlink")
    ended = command("data=kaggle", f"data.root={small_set}", "package.link=hardlink")
    assert ended.code == 4
    assert "package.link=hardlink does not work there (Operation not permitted)" in ended.err
    assert "package.link=auto uses what works" in ended.err
    assert not list(outputs.glob("store/*-*"))
    assert usable_way(outputs / "store", "auto") == "symlink"


@pytest.mark.slow
def test_a_folder_that_cannot_be_synced_is_no_error(
    small_set: Path, prepare: Prepare, plain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert tree_bytes(prepare(small_set, SIGNALS).path) == tree_bytes(plain.path)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks_says_so_and_no_soft_lock_is_taken(
    small_set: Path, command: Command, monkeypatch: pytest.MonkeyPatch, number: int, outputs: Path
) -> None:
    import fcntl

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    ended = command("data=kaggle", f"data.root={small_set}")
    assert ended.code == 4
    assert "has no locks" in ended.err
    assert "choose outputs_dir on another disk" in ended.err
    assert not list(outputs.glob("store/*-*/*.npz"))


@pytest.mark.slow
def test_room_that_is_not_there_is_told_before_any_work_unless_the_user_says_otherwise(
    small_set: Path, command: Command, monkeypatch: pytest.MonkeyPatch, outputs: Path
) -> None:
    real = space.free_space
    monkeypatch.setattr(space, "free_space", lambda folder: space.Free(1_000_000, None, 4096))
    base = ("data=kaggle", f"data.root={small_set}")
    ended = command(*base)
    assert ended.code == 4
    assert "MB to write, 1.0 MB are free" in ended.err
    assert "disk_check=false" in ended.err
    assert not list(outputs.glob("store/*-*"))
    assert "MB to write, 1.0 MB are free" in command(*base, "plan=true").out
    swept = command(*base, "-m", "weight=linear,log")
    assert swept.code == 4
    assert "MB are free" in swept.err
    monkeypatch.setattr(space, "free_space", lambda folder: space.Free(1 << 40, 10, 4096))
    ended = command(*base)
    assert ended.code == 4
    assert "files and links to write, and the disk has room for 10 more" in ended.err
    assert command(*base, "disk_check=false").code == 0
    monkeypatch.setattr(space, "free_space", real)


@pytest.mark.slow
def test_what_a_run_needs_is_estimated_within_a_factor_of_two(
    small_set: Path, prepare: Prepare, outputs: Path
) -> None:
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1")
    plan = runner.make_plan(hms.compose(*base, "package.pack=true", "package.waveforms=true"))
    told = sum(need.n_bytes for need in space.needed(plan).values())
    runner.execute(plan)
    written = sum(p.stat().st_blocks * 512 for p in outputs.rglob("*") if p.is_file() and not p.is_symlink())
    assert written <= told <= 2 * written + space.RUN_BYTES + 5_000_000


@pytest.mark.slow
def test_journals_that_repeat_themselves_are_written_anew_by_gc(
    own_set: Path, prepare: Prepare, outputs: Path
) -> None:
    run = prepare(own_set, "stages=[waveforms]")
    for touched in [(own_set / "train_eegs").iterdir, lambda: outputs.glob("store/waveforms-*/*.npz")] * 8:
        for path in touched():
            os.utime(path)
        prepare(own_set, "stages=[waveforms]")
    journals = [*outputs.glob("store/recordings/*.log"), *outputs.glob("store/waveforms-*/records.log")]
    before = [journal.stat().st_size for journal in journals]
    assert min(before) > 6_000
    found = sweep_garbage(outputs)
    after = [journal.stat().st_size for journal in journals]
    assert max(after) < 3000
    assert sum(size for _, size in found.journals) == sum(before) - sum(after)
    assert prepare(own_set, "stages=[waveforms]").reused
    assert verify(run.path).findings == []


# --- names ---------------------------------------------------------------------------------------

NAMES = [
    "with space", "ünïcödé-日本",
    "a=b", "a,b", "it's", "a[1]", "~tilde", "a{b}", 'say"so', "$HOME", "a:b", "#x",
    "(p)", "back\\slash", "-dash", "a?b*", "end ",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_folders_of_any_name_work(
    small_set: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from hms.main import main

    data, outputs = tmp_path / name / "data", tmp_path / name / "outputs"
    data.parent.mkdir()
    data.symlink_to(small_set, target_is_directory=True)
    code = main(["data=kaggle", f"data.root={data}", f"outputs_dir={outputs}", "n_jobs=1", "stages=[labels]"])
    assert code == 0, capfd.readouterr().err
    assert len(hms.load("latest", outputs=outputs).meta) == 10


def test_a_folder_whose_name_is_not_utf_8_is_told_in_one_message(
    small_set: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from hms.main import main

    name = os.fsdecode(b"\xff\xfe-latin")
    code = main(
        ["data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path / name}", "stages=[labels]"]
    )
    _, err = capfd.readouterr()
    assert code == 2
    assert "not UTF-8" in err


# --- what a caller gives -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "code"), [("stages=[labels]", 0), ("stages=[nothing]", 2)])
def test_messages_that_cannot_be_written_change_no_exit_code(
    small_set: Path, outputs: Path, typed: str, code: int
) -> None:
    arguments = ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1", typed]
    with open("/dev/full", "w") as full:
        done = forked.run([RUN, *arguments], stderr=full)
    assert done.returncode == code


@pytest.mark.slow
def test_a_folder_that_is_gone_under_the_command_is_told(tmp_path: Path, outputs: Path) -> None:
    program = "import os, sys; os.rmdir(os.getcwd()); from hms.cli import main; sys.exit(main())"
    (tmp_path / "gone").mkdir()
    done = forked.run(["-c", program, "scan", "/"], cwd=tmp_path / "gone")
    assert done.returncode == 4
    assert done.stderr == (
        "hms: the folder in which the command was typed no longer exists; change to one that does\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code"), [("no stdin", 0), ("no stdout", 0), ("no stderr", 0), ("full", 4), ("nobody reads", 0)]
)
def test_streams_that_are_closed_or_full_end_no_run_with_a_traceback(
    small_set: Path, outputs: Path, how: str, code: int
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as unread, open("/dev/full", "w") as full:
        streams = {
            "no stdin": {"closed": [0]},
            "no stdout": {"closed": [1]},
            "no stderr": {"closed": [2]},
            "full": {"stdout": full},
            "nobody reads": {"stdout": unread},
        }
        typed = ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1"]
        done = forked.run([RUN, *typed, "stages=[waveforms,labels]"], **streams[how])
    assert (done.returncode, done.stderr.count("Traceback")) == (code, 0), done.stderr
    assert len(list(outputs.glob("*/manifest.json"))) == 2  # the run, and latest


# --- Ctrl-C --------------------------------------------------------------------------------------


def script() -> str:
    """Return the program that an installer writes for the command ``hms``."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        module, _, function = tomllib.load(file)["project"]["scripts"]["hms"].partition(":")
    return f"from {module} import {function}\nif __name__ == '__main__':\n    sys.exit({function}())\n"


WORKS = ["data=kaggle", "data.root={root}", "outputs_dir={outputs}", "n_jobs=2"]
MODULE = "runpy.run_module('hms', run_name='__main__', alter_sys=True)\n"
PROGRAMS = {
    "run.py": (Path(RUN).read_text(), WORKS, 2.5),
    "hms run": (script(), ["run", *WORKS], 0.95),
    "hms ls": (script(), ["--outputs", "{outputs}", "ls"], 0.5),
    "python -m hms": (MODULE, ["help", "cwt.hop"], 0.5),
}
"""Program, its arguments, and for how many seconds from its start it is interrupted."""

STEP_S = 0.1 if os.environ.get("HMS_FAULTS") == "all" else 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_at_any_moment_ends_with_130_and_one_line(small_set: Path, tmp_path: Path, name: str) -> None:
    """Sent to the whole group of processes, as a terminal does; HMS_FAULTS=all: at each tenth of a second."""
    text, typed, until_s = PROGRAMS[name]
    moments = np.arange(0, until_s, STEP_S).tolist()
    program = tmp_path / "program.py"
    program.write_text(f"import runpy, sys; print('begun', file=sys.stderr, flush=True)\n{text}")
    ends = []
    for number, moment_s in enumerate(moments):
        arguments = [word.format(root=small_set, outputs=tmp_path / f"o{number}") for word in typed]
        ends.append(_interrupted([str(program), *arguments], moment_s))
    assert sum(code == 130 for code, _ in ends) >= -(-len(moments) // 3)
    for code, err in ends:
        assert code in (0, 130), err
        if code == 130:
            assert err.count("interrupted") == 1, err
            assert "Traceback" not in err, err
            assert "Error" not in err, err


def _interrupted(command: list[str], after_s: float) -> tuple[int, str]:
    """Run in a group of its own, interrupt it so long after the program begins, and return how it ended."""
    process = subprocess.Popen(
        [sys.executable, "-u", *command],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    time.sleep(0.02)  # until the statement after it
    began = time.monotonic()
    while time.monotonic() - began < after_s and process.poll() is None:
        time.sleep(0.005)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


@pytest.mark.parametrize("then", ["raise ImportError('numpy.core failed') from None", "pass"])
def test_ctrl_c_that_became_another_error_or_was_swallowed_is_130_all_the_same(then: str) -> None:
    program = (
        "import os, signal, sys\n"
        "from hms.terminal import gentle_interrupts, watch_interrupts\n"
        "from hms.main import guarded\n"
        "watch_interrupts()\n"
        "def work():\n"
        "    with gentle_interrupts():\n"
        "        try:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "        except KeyboardInterrupt:\n"
        f"            {then}\n"
        "sys.exit(guarded(work))\n"
    )
    done = forked.run(["-c", program])
    assert (done.returncode, done.stderr.count("\n")) == (130, 1), done.stderr


@pytest.mark.slow
def test_a_name_that_is_a_link_is_not_written_through(
    small_set: Path, tmp_path: Path, prepare: Prepare, ready: Prepare
) -> None:
    run = ready(small_set, "stages=[labels]")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("x")
    shutil.rmtree(run.path / "data_package")
    (run.path / "data_package").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(ConfigError, match="is a link, and hms writes only into its own folders"):
        prepare(small_set, "stages=[labels]")
    assert [path.name for path in elsewhere.iterdir()] == ["mine.txt"]
