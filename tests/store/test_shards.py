"""Results of many items in one file: the same arrays, the same guarantees, and any form from any other."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hms
from hms.engine.forms import Sealer
from hms.engine.verify import repair, verify
from hms.errors import ConfigError, StorageError
from hms.results.diff import diff_text
from hms.results.run import Run
from hms.store.files import digest_bytes, digest_file
from hms.store.garbage import sweep_garbage
from hms.store.npz import npz_bytes
from hms.store.shards import (
    Layout,
    Records,
    arrays_of,
    record_of,
    record_type,
    rows_in,
    seal,
    sealed_name,
    whole_rows,
)

MADE = "stages=[scalograms,waveforms,labels,splits]"
SMALL = ("cwt.n_freqs=6", "cwt.hop=50")


@pytest.fixture
def make(own_set: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Prepare a set of ten recordings, three of whose scalograms fill a shard."""
    monkeypatch.setattr("hms.store.shards.SHARD_BYTES", 3 * 4_200)

    def call(form: str, *overrides: str, out: Path = outputs, n_jobs: int = 1) -> Run:
        base = ("data=kaggle", f"data.root={own_set}", f"outputs_dir={out}", f"n_jobs={n_jobs}", *SMALL)
        given = overrides if any(text.startswith("stages=") for text in overrides) else (MADE, *overrides)
        return hms.run(hms.compose(*base, f"package.format={form}", *given))

    return call


def _computed(run: Run) -> dict[str, int]:
    stages = run.manifest["stages"]
    return {name: stages[name]["computed"] for name in ("scalograms", "waveforms") if name in stages}


def _content(run: Run) -> dict[str, list]:
    return {name: entry for name, entry in run.manifest["files"].items() if name != "config.yaml"}


def _stored(outputs: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (outputs / "store").glob(pattern)}


# --- a shard -------------------------------------------------------------------------------------


def test_a_record_reads_back_as_its_own_file_would():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = {"x": x, "fs": 200.0, "eeg_id": np.int64(7), "patient_id": 12}
    for patient, width in ((12, 0), ("p-1", 5), (12, 5)):
        item = arrays | {"patient_id": patient}
        kind = record_type(item, width)
        back = arrays_of(np.frombuffer(record_of(item, kind), kind)[0])
        assert npz_bytes(back) == npz_bytes(item)


def test_an_item_of_another_shape_is_refused():
    kind = record_type({"x": np.zeros(3)}, 0)
    with pytest.raises(ConfigError, match="results of many shapes need"):
        record_of({"x": np.zeros(4)}, kind)


def test_rows_written_in_any_order_give_the_same_file(tmp_path: Path):
    kind = record_type({"x": np.zeros(4, np.float32), "n": 0}, 0)
    rows = {row: record_of({"x": np.full(4, row + 1, np.float32), "n": row + 1}, kind) for row in (0, 1, 3)}
    digests = {}
    for name, order in (("a", (0, 1, 3)), ("b", (3, 0, 1))):
        layout = Layout("table", 5, 0)
        for row in order:
            written = Records(tmp_path / name, layout, kind, {row: rows[row]})
            written.sync()
            (stored,) = written.name()
            written.close()
        own = {row: digest_bytes(record) for row, record in rows.items()}
        keys = ["k0", "k1", None, "k3", None]
        assert whole_rows(tmp_path / name / stored.name, [*own.items(), (2, own[0])]) == set(own.items())
        sealed = seal(tmp_path / name, stored.name, keys, own)
        assert sealed.name == sealed_name(keys)
        digests[name] = sealed.digest
        records = rows_in(tmp_path / name / sealed.name)
        assert records["n"].tolist() == [1, 2, 0, 4, 0]
        assert np.load(tmp_path / name / sealed.name, allow_pickle=False)["x"][3].tolist() == [4.0] * 4
    assert digests["a"] == digests["b"]


def test_a_sealed_shard_has_its_digest_also_where_emptied_rows_held_something(tmp_path: Path):
    kind = record_type({"n": 0}, 0)
    rows = {row: record_of({"n": row + 1}, kind) for row in range(3)}
    written = Records(tmp_path, Layout("table", 3, 0), kind, rows)
    written.sync()
    (stored,) = written.name()
    written.close()
    sealed = seal(tmp_path, stored.name, [None, "k", None], {1: digest_bytes(rows[1])})
    path = tmp_path / sealed.name
    assert rows_in(path)["n"].tolist() == [0, 2, 0]
    status = path.stat()
    assert sealed[1:] == (status.st_size, status.st_mtime_ns, digest_file(path))


def test_a_row_that_is_not_what_was_written_is_not_sealed(tmp_path: Path):
    kind = record_type({"n": 0}, 0)
    written = Records(tmp_path, Layout("table", 1, 0), kind, {0: record_of({"n": 1}, kind)})
    written.sync()
    (stored,) = written.name()
    written.close()
    with pytest.raises(StorageError, match="row 0 is not what was written"):
        seal(tmp_path, stored.name, ["k"], {0: "0" * 32})


# --- a run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_forms_hold_the_same_and_become_each_other_without_computing(make, tmp_path: Path):
    files, shards = make("files"), make("shards")
    assert files.hash != shards.hash
    assert {s["key"] for s in files.manifest["stages"].values()} == {
        s["key"] for s in shards.manifest["stages"].values()
    }
    assert _computed(shards) == {"scalograms": 0, "waveforms": 0}
    assert len(list((shards.path / "spec_hr_out").glob("*.npy"))) == 4, "3 + 3 + 3 + 1"
    for item in files.meta["item_id"]:
        assert files.spec(item).tobytes() == shards.spec(item).tobytes()
        assert files.wave(item).tobytes() == shards.wave(item).tobytes()
    other = tmp_path / "other"
    fresh = make("shards", out=other, n_jobs=2)
    assert _content(fresh) == _content(shards), "whether computed into shards or copied into them"
    back = make("files", out=other)
    assert _computed(back) == {"scalograms": 0, "waveforms": 0}
    assert _content(back) == _content(files)
    assert make("shards").reused
    assert make("files").reused
    assert [verify(run.path).findings for run in (files, shards, fresh, back)] == [[], [], [], []]


def test_shards_made_before_files_are_used_again_with_the_rows_of_their_items(make):
    shards = make("shards", "stages=[waveforms,labels,splits]")
    make("files", "stages=[waveforms,labels,splits]")
    again = make("shards", "stages=[waveforms,labels,splits]", "weight=log")
    indices = [run.path / "wave_hr_out" / "index.npz" for run in (shards, again)]
    assert indices[0].read_bytes() == indices[1].read_bytes()
    assert [str(again.item("wave_hr_out", i)["eeg_id"]) for i in again.meta["item_id"]] == list(
        again.meta["item_id"]
    )


@pytest.mark.slow
def test_readers_see_no_difference(make, tmp_path: Path):
    files, shards = make("files", "package.pack=true"), make("shards", "package.pack=true")
    packed = "data_package/spec_pack.npy"
    assert files.manifest["files"][packed] == shards.manifest["files"][packed]
    for signal in ("spec", "wave", "both"):
        one, other = (run.dataset(signal=signal, packed=False) for run in (files, shards))
        for i in range(len(one)):
            a, b = one[i], other[i]
            assert all(np.array_equal(a[name], b[name]) for name in a)
    copy = tmp_path / "copy"
    from hms.engine.export import export_run

    export_run(shards, copy)
    exported = hms.load(copy)
    item = shards.meta["item_id"].iloc[-1]
    assert exported.spec(item).tobytes() == files.spec(item).tobytes()
    assert verify(copy).findings == []


@pytest.mark.slow
def test_an_item_left_out_is_an_empty_row(make, own_set: Path):
    broken = sorted((own_set / "train_eegs").iterdir())[4]
    pd.read_parquet(broken).iloc[:1000].to_parquet(broken)
    run = make("shards")
    assert len(run.meta) == 9
    rows = np.concatenate([np.load(p)["eeg_id"] for p in sorted((run.path / "spec_hr_out").glob("*.npy"))])
    assert len(rows) == 10
    assert (rows == 0).sum() == 1
    assert [int(run.item("spec_hr_out", i)["eeg_id"]) for i in run.meta["item_id"]] == run.meta[
        "eeg_id"
    ].tolist()


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_stopped_before_sealing_goes_on_with_what_is_written(make, tmp_path: Path, monkeypatch):
    whole = make("shards", out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Sealer, "add", lambda *_: None)
        patch.setattr("hms.engine.forms.seal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make("shards")
    run = make("shards")
    assert _computed(run) == {"scalograms": 0, "waveforms": 0}
    assert _content(run) == _content(whole)


@pytest.mark.slow
def test_a_shard_is_sealed_once_its_last_item_is_done_and_stays_after_a_stop(
    make, own_set: Path, outputs: Path, tmp_path: Path, monkeypatch
):
    """Of ten items, one of them broken, nine are done when the run is stopped: three whole shards."""
    broken = sorted((own_set / "train_eegs").iterdir())[4]
    pd.read_parquet(broken).iloc[:1000].to_parquet(broken)
    whole = make("shards", out=tmp_path / "whole")
    sealed: dict[int, int] = {}
    with monkeypatch.context() as patch:
        add = Sealer.add

        def stop_before_the_last(sealer: Sealer, *given: object) -> None:
            if len(sealed) == 9:
                raise KeyboardInterrupt
            add(sealer, *given)
            sealed[len(sealed)] = len(_stored(outputs, "scalograms-*/shard-*"))

        patch.setattr("hms.engine.pools.base.CHUNK_ITEMS", 1)
        patch.setattr("hms.engine.pools.base.SMALLEST_CHUNK", 1)
        patch.setattr(Sealer, "add", stop_before_the_last)
        with pytest.raises(KeyboardInterrupt):
            make("shards")
    assert list(sealed.values()) == [0, 0, 1, 1, 1, 2, 2, 2, 3]
    run = make("shards")
    assert _content(run) == _content(whole)
    assert _computed(run) == {"scalograms": 0, "waveforms": 0}
    assert verify(run.path).findings == []


@pytest.mark.slow
def test_a_row_torn_by_a_kill_is_computed_again_alone(make, outputs: Path, tmp_path: Path, monkeypatch):
    whole = make("shards", out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Sealer, "add", lambda *_: None)
        patch.setattr("hms.engine.forms.seal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make("shards")
    path = min((outputs / "store").glob("scalograms-*/open-*"))
    _flip(path, path.stat().st_size - 100)
    run = make("shards")
    assert _computed(run) == {"scalograms": 1, "waveforms": 0}
    assert _content(run) == _content(whole)


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _cut(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def _swap(path: Path, other: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)


def _lose(path: Path, other: Path) -> None:
    path.unlink()


def _one_bit(path: Path, other: Path) -> None:
    _flip(path, path.stat().st_size - 100)


def _rename(path: Path, other: Path) -> None:
    _flip(path, path.read_bytes().index(b"'x'") + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "files", "items"),
    [(_one_bit, 1, 1), (_cut, 1, 2), (_swap, 2, 6), (_lose, 1, 3), (_rename, 1, 3)],
)
def test_damage_is_found_and_mended_by_item(make, damage, files: int, items: int):
    run = make("shards", "stages=[scalograms,labels,splits]")
    one, other = (p.resolve() for p in sorted((run.path / "spec_hr_out").glob("*.npy"))[:2])
    before = {path: path.read_bytes() for path in (one, other)}
    damage(one, other)
    report = verify(run.path)
    assert len({f.path for f in report.findings}) == files
    mended = repair(run.path)
    assert mended.hash == run.hash
    assert mended.manifest["stages"]["scalograms"]["computed"] == items
    assert {path: path.read_bytes() for path in (one, other)} == before
    assert verify(run.path).findings == []


@pytest.mark.parametrize(("form", "damage"), [("files", _one_bit), ("shards", _one_bit), ("shards", _rename)])
def test_damage_that_size_and_time_hide_is_not_copied_into_the_other_form(
    make, outputs: Path, form: str, damage
):
    stages = "stages=[waveforms,labels,splits]"
    run = make(form, stages)
    path = min(p.resolve() for p in (run.path / "wave_hr_out").iterdir() if p.is_symlink())
    whole, status = path.read_bytes(), path.stat()
    damage(path, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    other = "shards" if form == "files" else "files"
    with pytest.raises(StorageError, match=f"{path.name} is damaged; the same command computes again"):
        make(other, stages)
    assert _computed(make(other, stages))["waveforms"] == 1
    make(form, stages, "weight=log")
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_a_corrected_recording_leaves_earlier_shards_as_they_are(make, own_set: Path, outputs: Path):
    first = make("shards")
    before = _stored(outputs, "scalograms-*/shard-*")
    path = sorted((own_set / "train_eegs").iterdir())[0]
    eeg = pd.read_parquet(path)
    eeg.mul(1.5).astype(np.float32).to_parquet(path)
    second = make("shards")
    assert _computed(second) == {"scalograms": 1, "waveforms": 1}
    after = _stored(outputs, "scalograms-*/shard-*")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1
    shutil.rmtree(first.path)
    sweep_garbage(outputs)
    assert len(_stored(outputs, "scalograms-*/shard-*")) == len(before)
    assert verify(second.path).findings == []


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(make, monkeypatch):
    import errno

    written, real = [], os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        written.append(offset)
        if len(written) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        with pytest.raises(StorageError, match="the disk is full"):
            make("shards")
    assert len(make("shards").meta) == 10


@pytest.mark.slow
def test_inference_differences_and_garbage_see_no_difference(
    make, own_set: Path, test_set: Path, outputs: Path, tmp_path: Path
):
    files, shards = make("files"), make("shards")
    text = diff_text(files, shards)
    assert "spec_hr_out: 0 of 10 differ" in text
    assert "wave_hr_out: 0 of 10 differ" in text
    made = {}
    for run in (files, shards):
        base = (
            "data=kaggle",
            "data.subset=test",
            f"data.root={test_set}",
            f"from_run={run.path}",
            "n_jobs=1",
        )
        for form in ("files", "shards"):
            given = (*base, f"outputs_dir={tmp_path / 'test' / run.hash}", f"package.format={form}")
            test = hms.run(hms.compose(*given))
            made[run.hash, form] = [test.spec(item).tobytes() for item in test.meta["item_id"]]
    assert len(set(map(tuple, made.values()))) == 1
    sweep_garbage(outputs)
    assert [verify(run.path).findings for run in (files, shards)] == [[], []]
