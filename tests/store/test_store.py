"""Reuse, damage, repair, clean-up: the store serves nothing that is not what its record says."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import tree_bytes
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import hms
from hms.config.schema import Config
from hms.engine import runner
from hms.engine.explain import explain
from hms.engine.export import export_run
from hms.engine.plan import make_plan
from hms.engine.verify import repair, verify
from hms.errors import ConfigError, StorageError
from hms.results.run import Run, list_runs
from hms.store.files import commit_files, write_error
from hms.store.folders import JOURNAL, KEY_FILE, StageFolder
from hms.store.garbage import garbage, remove_run, sweep_garbage
from hms.store.journal import append_journal, read_journal

pytestmark = pytest.mark.slow

Prepare = Callable[..., Run]


def computed(outputs: Path) -> dict[str, int]:
    """Return how many items (or tables) each stage ever computed in an outputs folder."""
    counts: dict[str, int] = {}
    for folder in (outputs / "store").glob("*-*"):
        name = folder.name.rpartition("-")[0]
        counts[name] = counts.get(name, 0) + StageFolder(folder).load().computed
    return counts


def newly(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)}


# --- reuse ---------------------------------------------------------------------------------------

PACKAGE = "stages=[scalograms,waveforms,labels,splits]"
GRADED = "stages=[scalograms,waveforms,quality,labels]"
TABLES = "stages=[quality,labels,splits,summary,agreement]"


def test_a_second_run_computes_nothing(
    small_set: Path, prepare: Prepare, ready: Prepare, outputs: Path
) -> None:
    ready(small_set)
    before = computed(outputs)
    assert prepare(small_set).reused
    assert computed(outputs) == before


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("weight=log", {"labels": 1, "summary": 1}),
        ("folds.n_splits=3", {"splits": 1, "summary": 1}),
        (
            "labels.high_confidence_votes=5",
            {"labels": 1, "summary": 1, "meta": 1, "splits": 1, "agreement": 1},
        ),
    ],
)
def test_a_changed_table_setting_computes_only_its_tables(
    small_set: Path, prepare: Prepare, ready: Prepare, outputs: Path, override: str, expected: dict[str, int]
) -> None:
    ready(small_set, TABLES)
    before = computed(outputs)
    prepare(small_set, TABLES, override)
    assert newly(before, computed(outputs)) == expected


def test_another_wavelet_leaves_waveforms_labels_and_splits_alone(
    small_set: Path, prepare: Prepare, ready: Prepare, outputs: Path
) -> None:
    ready(small_set, PACKAGE)
    before = computed(outputs)
    prepare(small_set, PACKAGE, "cwt=gmw")
    new = newly(before, computed(outputs))
    assert new["scalograms"] == 10
    assert not {"waveforms", "labels", "splits", "meta"} & set(new)


def test_a_run_that_another_process_finished_meanwhile_is_not_written_anew(
    small_set: Path, prepare: Prepare, ready: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process is reading the manifest at that moment: it must not vanish."""
    first = ready(small_set)
    before = (first.path / "manifest.json").stat()
    answers = iter([False])
    is_whole = runner.is_whole
    monkeypatch.setattr(
        runner, "is_whole", lambda plan, **options: next(answers, True) and is_whole(plan, **options)
    )
    second = prepare(small_set)
    after = (first.path / "manifest.json").stat()
    assert second.reused
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_there_and_back_again_computes_nothing(
    small_set: Path, prepare: Prepare, ready: Prepare, outputs: Path
) -> None:
    ready(small_set, PACKAGE)
    prepare(small_set, PACKAGE, "cwt.n_freqs=8")
    before = computed(outputs)
    prepare(small_set, PACKAGE)
    prepare(small_set, PACKAGE, "cwt.n_freqs=8")
    assert computed(outputs) == before


def test_a_sweep_of_two_wavelets_and_three_weights_computes_each_scalogram_twice(
    small_set: Path, prepare: Prepare, outputs: Path
) -> None:
    runs = [
        prepare(small_set, PACKAGE, f"cwt={cwt}", f"weight={weight}")
        for cwt in ("morlet", "gmw")
        for weight in ("linear", "log", "sqrt")
    ]
    assert len({run.hash for run in runs}) == 6
    assert computed(outputs)["scalograms"] == 20
    item = runs[0].meta["item_id"].iloc[0]
    places = {(run.path / f"spec_hr_out/{item}_hr.npz").resolve() for run in runs}
    assert len(places) == 2


def test_a_changed_recording_recomputes_that_recording_alone(
    own_set: Path, prepare: Prepare, outputs: Path
) -> None:
    first = prepare(own_set, GRADED)
    before = computed(outputs)
    path = own_set / "train_eegs" / f"{first.meta['eeg_id'].iloc[4]}.parquet"
    frame = pd.read_parquet(path)
    (frame * 1.5).astype(np.float32).to_parquet(path)
    prepare(own_set, GRADED)
    new = newly(before, computed(outputs))
    assert {name: new.get(name, 0) for name in ("scalograms", "waveforms", "measures")} == {
        "scalograms": 1,
        "waveforms": 1,
        "measures": 1,
    }
    assert "labels" not in new


def test_a_recording_changed_in_place_with_the_same_size_is_noticed(own_set: Path, prepare: Prepare) -> None:
    first = prepare(own_set, "stages=[waveforms]")
    item = first.meta["item_id"].iloc[0]
    before = first.wave(item)
    path = own_set / "train_eegs" / f"{item}.parquet"
    other = own_set / "train_eegs" / f"{first.meta['item_id'].iloc[1]}.parquet"
    size = path.stat().st_size
    data = other.read_bytes()
    path.write_bytes(data)
    os.truncate(path, len(data))
    second = prepare(own_set, "stages=[waveforms]")
    assert size != len(data) or second.hash == first.hash
    assert not np.array_equal(second.wave(item), before)


def test_one_corrected_vote_touches_no_signal(own_set: Path, prepare: Prepare, outputs: Path) -> None:
    prepare(own_set, GRADED)
    before = computed(outputs)
    votes = pd.read_csv(own_set / "train.csv")
    votes.loc[:, "lpd_vote"] += 1
    votes.to_csv(own_set / "train.csv", index=False)
    prepare(own_set, GRADED)
    new = newly(before, computed(outputs))
    assert "labels" in new
    assert not {"scalograms", "waveforms", "measures"} & set(new)


def test_touched_and_moved_recordings_are_recognised(
    own_set: Path, prepare: Prepare, outputs: Path, tmp_path: Path
) -> None:
    prepare(own_set)
    before = computed(outputs)
    for path in (own_set / "train_eegs").iterdir():
        os.utime(path)
    prepare(own_set)
    moved = own_set.rename(tmp_path / "elsewhere")
    prepare(moved)
    assert computed(outputs) == before


@pytest.mark.parametrize("how", ["move", "copy", "copy_times"])
def test_a_moved_or_copied_outputs_folder_is_recognised(
    small_set: Path, ready: Prepare, outputs: Path, tmp_path: Path, how: str
) -> None:
    first_hash = ready(small_set).hash
    before = computed(outputs)
    target = tmp_path / "target"
    if how == "move":
        outputs.rename(target)
    else:
        copy = shutil.copy if how == "copy" else shutil.copy2
        shutil.copytree(outputs, target, symlinks=True, copy_function=copy)
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={target}", "n_jobs=1")
    second = hms.run(hms.compose(*base))
    assert second.hash == first_hash
    assert computed(target) == before
    assert not verify(second.path).findings


def test_a_copy_that_followed_links_goes_on(ready: Prepare, small_set: Path, outputs: Path, tmp_path: Path):
    """As archives do; `latest` is a folder there."""
    first, target = ready(small_set, TABLES), tmp_path / "target"
    shutil.copytree(outputs, target)
    assert (target / "latest").is_dir()
    assert hms.load(outputs=target).hash == first.hash
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={target}", "n_jobs=1", TABLES)
    second = hms.run(hms.compose(*base, "weight=log"))
    assert hms.load(outputs=target).hash == second.hash
    assert [run.hash for run in list_runs(target)] == [second.hash, first.hash]
    for run in (first, second):
        assert not verify(target / run.hash).findings
        remove_run(hms.load(run.hash, outputs=target), target)


# --- damage --------------------------------------------------------------------------------------


def flip(path: Path, bit: int, *, keep_time: bool = True) -> None:
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(data))
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def files_of(run: Run) -> list[Path]:
    """Return every regular file that a run consists of or rests on."""
    store = run.path.parent / "store"
    folders = [store / stage["folder"] for stage in run.manifest["stages"].values()]
    found = {(run.path / name).resolve() for name in run.manifest["files"]}
    found |= {p.resolve() for folder in folders for p in folder.iterdir()}
    return sorted([*found, run.path / "manifest.json"])


ROUNDS = 20 if os.environ.get("HMS_FAULTS") == "all" else 3


@pytest.mark.parametrize("form", ["files", "shards"])
def test_verify_finds_every_single_flipped_bit(
    tiny_set: Path, ready: Prepare, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """One bit of every result at once, of every record of a stage at once, and of the manifest."""
    run = ready(tiny_set, "cwt.n_freqs=4", "cwt.hop=40", f"package.format={form}")
    assert verify(run.path).findings == []
    rng = random.Random(0)
    manifest = run.path / "manifest.json"
    records = {path for path in files_of(run) if path.name in (JOURNAL, KEY_FILE)}
    results = set(files_of(run)) - records - {manifest}
    groups = (results, records, {manifest})
    for _ in range(ROUNDS):
        for paths in groups:
            missed = paths - named_when_flipped(run, sorted(paths), rng)
            assert not missed, f"flipped unnoticed: {sorted(missed)}"
    assert verify(run.path).findings == []
    with capsys.disabled():
        print(f"\nflipped bits found: {ROUNDS * sum(map(len, groups))}")


def named_when_flipped(run: Run, paths: Sequence[Path], rng: random.Random) -> set[Path]:
    """Flip a bit of each file, return which files are found wrong, and flip them back."""
    bits = {path: rng.randrange(path.stat().st_size * 8) for path in paths}
    for path, bit in bits.items():
        flip(path, bit)
    found = {(run.path.parent / finding.path).resolve() for finding in verify(run.path).findings}
    for path, bit in bits.items():
        flip(path, bit)
    return found


def test_verify_finds_a_flipped_bit_in_a_recording(own_set: Path, prepare: Prepare) -> None:
    run = prepare(own_set, "stages=[waveforms]")
    path = next((own_set / "train_eegs").iterdir())
    flip(path, path.stat().st_size * 4)
    (finding,) = verify(run.path).findings
    assert finding.path == str(path)
    assert "changed" in finding.problem


def test_notes_of_earlier_versions_are_whole(small_set: Path, ready: Prepare, outputs: Path) -> None:
    run = ready(small_set, "stages=[splits]")
    for path in outputs.glob(f"store/*/{KEY_FILE}"):
        path.write_text(json.dumps(json.loads(path.read_bytes()), indent=1, sort_keys=True))
    assert verify(run.path).findings == []


def test_verify_names_a_missing_a_strange_and_an_empty_file(small_set: Path, ready: Prepare) -> None:
    run = ready(small_set)
    names = [run.path / f"spec_hr_out/{item}_hr.npz" for item in run.meta["item_id"]]
    names[0].unlink()
    names[1].resolve().unlink()
    names[2].resolve().write_bytes(b"")
    (run.path / "spec_hr_out" / "stranger.npz").write_bytes(b"x")
    problems = {finding.path.rpartition("/")[2]: finding.problem for finding in verify(run.path).findings}
    assert problems[names[0].name] == "missing"
    assert problems[names[1].name] == "missing"
    assert "0 bytes" in problems[names[2].name]
    assert problems["stranger.npz"] == "is not part of the run"


def damage_everything(run: Run) -> int:
    """Damage one file of every kind a run rests on, times kept; return how many."""
    damaged = 0
    for folder in {path.parent for path in files_of(run)}:
        for path in sorted(p for p in files_of(run) if p.parent == folder)[:4]:
            if path.name != "manifest.json":
                flip(path, path.stat().st_size * 4)
                damaged += 1
    return damaged


def test_repair_mends_all_damage_and_computes_no_more_than_needed(
    small_set: Path, ready: Prepare, finished: Run, outputs: Path
) -> None:
    run = ready(small_set)
    item = run.path / f"spec_hr_out/{run.meta['item_id'].iloc[0]}_hr.npz"
    before = computed(outputs)["scalograms"]
    flip(item.resolve(), 4000)
    repair(run.path)
    assert computed(outputs)["scalograms"] == before + 1
    assert damage_everything(run) > 10
    repair(run.path)
    assert verify(run.path).findings == []
    assert tree_bytes(run.path) == tree_bytes(finished.path)


def test_repair_asks_before_it_mixes_library_versions(
    small_set: Path, ready: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ready(small_set, "stages=[waveforms]")
    flip((run.path / f"wave_hr_out/{run.meta['item_id'].iloc[0]}_hr.npz").resolve(), 4000)
    from hms.engine import verify as module

    monkeypatch.setattr(module, "versions", lambda: {**run.manifest["versions"], "numpy": "0.1"})
    with pytest.raises(ConfigError, match=r"numpy .* -> 0\.1.*--force"):
        repair(run.path)
    repair(run.path, force=True)
    assert verify(run.path).findings == []


def test_repair_mends_all_damage_of_shards(small_set: Path, ready: Prepare) -> None:
    run = ready(small_set, GRADED, "package.format=shards", "cwt.n_freqs=4", "cwt.hop=40")
    before = tree_bytes(run.path)
    assert damage_everything(run) > 10
    repair(run.path)
    assert verify(run.path).findings == []
    assert tree_bytes(run.path) == before


@pytest.mark.parametrize("what", ["rewrite", "truncate", "remove", "relink"])
def test_a_damaged_file_is_not_served_but_computed_again(
    small_set: Path, prepare: Prepare, ready: Prepare, finished: Run, outputs: Path, what: str
) -> None:
    run = ready(small_set)
    before = computed(outputs)["scalograms"]
    link = run.path / f"spec_hr_out/{run.meta['item_id'].iloc[0]}_hr.npz"
    stored = link.resolve()
    if what == "rewrite":
        flip(stored, 4000, keep_time=False)
    elif what == "truncate":
        os.truncate(stored, 1000)
    elif what == "remove":
        stored.unlink()
    else:
        other = run.path / f"spec_hr_out/{run.meta['item_id'].iloc[1]}_hr.npz"
        target = os.readlink(other)
        link.unlink()
        link.symlink_to(target)
    again = prepare(small_set)
    assert tree_bytes(again.path) == tree_bytes(finished.path)
    assert computed(outputs)["scalograms"] == before + (what != "relink")


def test_damaged_tables_are_computed_again(
    small_set: Path, prepare: Prepare, ready: Prepare, finished: Run
) -> None:
    run = ready(small_set)
    for name in run.manifest["files"]:
        if not name.endswith("_hr.npz"):
            flip((run.path / name).resolve(), 100, keep_time=False)
    assert tree_bytes(prepare(small_set).path) == tree_bytes(finished.path)


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        ("measures-*/rows-*.npz", "qc=strict"),
        ("labels-*/*.npz", "folds.seed=4"),
        ("agreement-*/*.json", "folds.seed=4"),
    ],
)
def test_nothing_is_made_of_a_file_whose_damage_size_and_time_hide(
    small_set: Path,
    prepare: Prepare,
    ready: Prepare,
    outputs: Path,
    run_once: Callable[..., Run],
    pattern: str,
    change: str,
) -> None:
    ready(small_set, TABLES)
    path = min(outputs.glob(f"store/{pattern}"))
    flip(path, 8 * (path.stat().st_size // 2))
    time_ns = path.stat().st_mtime_ns
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", TABLES)
    explain(make_plan(hms.compose(*base, change)))
    assert path.stat().st_mtime_ns == time_ns, "a look changes nothing"
    with pytest.raises(StorageError, match=f"{path.name} is damaged; the same command computes again"):
        prepare(small_set, TABLES, change)
    mended = prepare(small_set, TABLES, change)
    whole = run_once("data=kaggle", f"data.root={small_set}", TABLES, change)
    assert tree_bytes(mended.path) == tree_bytes(whole.path)


def test_a_file_that_merely_exists_is_not_a_result(
    small_set: Path, prepare: Prepare, ready: Prepare, outputs: Path
) -> None:
    run = ready(small_set)
    for folder in outputs.glob("store/scalograms-*"):
        (folder / "records.log").unlink()
    (run.path / "manifest.json").unlink()
    before = computed(outputs).get("scalograms", 0)
    prepare(small_set)
    assert computed(outputs)["scalograms"] == before + 10


# --- the journal and the commit ------------------------------------------------------------------


def test_a_journal_cut_anywhere_loses_only_the_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "records.log"
    for number in range(3):
        append_journal(path, {"n": number})
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for length in range(last, len(whole)):
        path.write_bytes(whole[:length])
        lines, damaged = read_journal(path)
        assert [line["n"] for line in lines[:2]] == [0, 1]
        assert damaged == 0
        append_journal(path, {"n": 9})
        lines, damaged = read_journal(path)
        assert lines[-1] == {"n": 9}
        assert damaged == 0


def test_every_flipped_bit_of_a_journal_is_damage_or_loses_its_line(tmp_path: Path) -> None:
    path = tmp_path / "records.log"
    for number in range(2):
        append_journal(path, {"n": number})
    whole = path.read_bytes()
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(data))
        _, damaged = read_journal(path)
        assert damaged >= 1, f"bit {bit}"


def test_a_commit_is_all_or_nothing(tmp_path: Path) -> None:
    def broken(file: object) -> None:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        commit_files(tmp_path / "folder", {"a": b"1", "b": broken})
    assert list((tmp_path / "folder").iterdir()) == []
    (first, second) = commit_files(tmp_path / "folder", {"a": b"1", "b": lambda f: f.write(b"23")})
    assert (first.size, second.size) == (1, 2)
    assert (tmp_path / "folder" / "b").read_bytes() == b"23"


@pytest.mark.parametrize(
    ("number", "told"), [(errno.ENOSPC, (5, 1)), (errno.EDQUOT, (5, 1)), (errno.EFBIG, (0, 0))]
)
def test_room_is_spoken_of_where_there_was_none(number: int, told: tuple[int, int], tmp_path: Path) -> None:
    error = write_error(OSError(number, "words"), tmp_path, 5, 1)
    assert (error.n_bytes, error.n_files) == told
    assert str(error).startswith(f"cannot write to {tmp_path}: ")


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        commit_files(tmp_path / "file", {"a": b"1"})


# --- forgetting and exporting --------------------------------------------------------------------


def test_gc_removes_what_no_run_points_at_and_nothing_else(
    small_set: Path, prepare: Prepare, ready: Prepare, outputs: Path, finished: Run
) -> None:
    kept = ready(small_set)
    assert garbage(outputs).size == 0
    other = prepare(small_set, PACKAGE, "cwt.n_freqs=8", "weight=log")
    remove_run(other, outputs)
    assert hms.load(outputs=outputs).hash == kept.hash
    found = garbage(outputs)
    assert {path.name.rpartition("-")[0] for path, _ in found.folders} >= {"scalograms", "labels"}
    assert found.size > 0
    sweep_garbage(outputs)
    assert garbage(outputs).size == 0
    assert verify(kept.path).findings == []
    before = computed(outputs)
    assert tree_bytes(prepare(small_set).path) == tree_bytes(finished.path)
    assert computed(outputs) == before


def test_gc_leaves_a_run_in_progress_alone(
    small_set: Path, prepare: Prepare, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean-up is called in the middle of a run, between its chunks and before its tables."""
    from hms.engine import runner

    swept = []
    keep = runner._keep

    def keep_and_sweep(*arguments: object) -> None:
        keep(*arguments)  # type: ignore[arg-type]
        swept.append(sweep_garbage(outputs).in_use)

    monkeypatch.setattr(runner, "_keep", keep_and_sweep)
    run = prepare(small_set, GRADED)
    assert swept
    assert any(name.startswith("scalograms") for name in swept[0])
    assert verify(run.path).findings == []


def test_an_export_is_whole_and_holds_no_links(small_set: Path, ready: Prepare, tmp_path: Path) -> None:
    run = ready(small_set)
    export_run(run, tmp_path / "export")
    paths = list((tmp_path / "export").rglob("*"))
    assert not any(path.is_symlink() for path in paths)
    assert tree_bytes(tmp_path / "export") == tree_bytes(run.path)
    shutil.rmtree(run.path.parent)
    exported = hms.load(tmp_path / "export")
    assert exported.spec(exported.meta["item_id"].iloc[0]).shape == (4, 48, 250)
    assert verify(tmp_path / "export").findings == []
    with pytest.raises(ConfigError, match="not an empty folder"):
        export_run(exported, tmp_path / "export")


def test_an_export_says_what_cannot_be_read(
    small_set: Path, ready: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ready(small_set)
    monkeypatch.setattr("hms.engine.export.find_file", lambda run, _: run.path)
    with pytest.raises(StorageError, match=rf"{run.path} cannot be read \(Is a directory\); nothing was"):
        export_run(run, tmp_path / "copy")


def test_an_export_of_a_damaged_run_is_refused(small_set: Path, ready: Prepare, tmp_path: Path) -> None:
    run = ready(small_set, "stages=[waveforms]")
    flip((run.path / f"wave_hr_out/{run.meta['item_id'].iloc[0]}_hr.npz").resolve(), 4000)
    with pytest.raises(ConfigError, match="--repair"):
        export_run(run, tmp_path / "export")


# --- anything, in any order ----------------------------------------------------------------------

SETTINGS = (
    "weight=linear",
    "weight=log",
    "cwt.n_freqs=4",
    "montage.waveform.kind=anterior",
    "folds.n_splits=3",
)
FAST = ("stages=[scalograms,waveforms,labels,splits]", "cwt.hop=40", "n_jobs=1")


class AnythingInAnyOrder(RuleBasedStateMachine):
    """Runs, faults, changed settings, clean-ups and repairs in random order end where a clean run ends."""

    root: Path
    work: Path
    references: dict[str, dict[str, bytes]]

    @initialize()
    def begin(self) -> None:
        self.outputs = self.work / f"outputs-{random.getrandbits(48):x}"
        self.runs: dict[str, Run] = {}

    def configured(self, outputs: Path, setting: str) -> Config:
        return hms.compose("data=kaggle", f"data.root={self.root}", f"outputs_dir={outputs}", *FAST, setting)

    def prepare(self, outputs: Path, setting: str) -> Run:
        return hms.run(self.configured(outputs, setting))

    def stored(self) -> list[Path]:
        return (
            sorted(p for p in self.outputs.glob("store/*-*/*") if p.is_file())
            if self.outputs.exists()
            else []
        )

    @rule(setting=st.sampled_from(SETTINGS))
    def run(self, setting: str) -> None:
        run = self.prepare(self.outputs, setting)
        reference = self.work / "reference"
        if setting not in self.references:
            self.references[setting] = tree_bytes(self.prepare(reference, setting).path)
        assert tree_bytes(run.path) == self.references[setting]
        self.runs[setting] = run

    @rule(setting=st.sampled_from(SETTINGS), number=st.integers(1, 120))
    def kill(self, setting: str, number: int) -> None:
        from crash_driver import die, fault_at
        from crash_driver import run as forked

        fault = fault_at(number, die, self.work / "met")
        forked(self.configured(self.outputs, setting), fault)

    @rule(choice=st.randoms(use_true_random=False), keep_time=st.booleans())
    def damage(self, choice: random.Random, keep_time: bool) -> None:
        paths = [p for p in self.stored() if p.stat().st_size]
        if paths and not keep_time:
            path = choice.choice(paths)
            flip(path, choice.randrange(path.stat().st_size * 8), keep_time=False)

    @rule(choice=st.randoms(use_true_random=False))
    def delete(self, choice: random.Random) -> None:
        paths = self.stored()
        if paths:
            choice.choice(paths).unlink()

    @rule()
    def gc(self) -> None:
        if self.outputs.exists():
            sweep_garbage(self.outputs)

    @rule(setting=st.sampled_from(SETTINGS), choice=st.randoms(use_true_random=False))
    def flip_and_repair(self, setting: str, choice: random.Random) -> None:
        run = self.runs.get(setting)
        if run is None or not (run.path / "manifest.json").exists():
            return
        path = (run.path / choice.choice(sorted(run.manifest["files"]))).resolve()
        if path.exists():
            flip(path, choice.randrange(path.stat().st_size * 8))
        report = verify(run.path)
        assert report.findings
        repair(run.path)
        assert verify(run.path).findings == []

    def teardown(self) -> None:
        for setting in SETTINGS[:2]:
            if hasattr(self, "outputs"):
                self.run(setting)
        shutil.rmtree(getattr(self, "outputs", self.work / "none"), ignore_errors=True)


def test_anything_in_any_order_ends_where_a_clean_run_ends(tiny_set: Path, tmp_path: Path) -> None:
    given = {"root": tiny_set, "work": tmp_path, "references": {}}
    machine = type("Machine", (AnythingInAnyOrder,), given)
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=8 if os.environ.get("HMS_FAULTS") == "all" else 5,
            stateful_step_count=8,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
