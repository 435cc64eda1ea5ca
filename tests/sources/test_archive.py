"""The competition's archive as it was downloaded: read as it is, or refused with the reason."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import tree_bytes

import hms
from hms.errors import ConfigError

FAST = ("cwt.n_freqs=8", "stages=[scalograms,labels,splits]", "folds.n_splits=2")


def pack(folder: Path, path: Path, *, inside: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Pack a folder as Kaggle does, or below another folder."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, f"{inside}{file.relative_to(folder).as_posix()}")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "inside", "n_jobs"),
    [
        (zipfile.ZIP_DEFLATED, "", 2),
        (zipfile.ZIP_STORED, "hms-harmful-brain-activity-classification/", 1),
    ],
)
def test_a_run_from_the_archive_is_the_run_from_the_folder(
    small_set_with_spectrograms, tmp_path, ready, method, inside, n_jobs
):
    """Hash and every byte; nothing is unpacked, and a second run computes nothing."""
    choices = (*FAST, "spectrograms=kaggle")
    folder = ready(small_set_with_spectrograms, *choices)
    before = tree_bytes(folder.path)
    archive = pack(small_set_with_spectrograms, tmp_path / "hms.zip", inside=inside, method=method)
    base = ("data=kaggle", f"data.root={archive}", f"outputs_dir={tmp_path / 'o'}", f"n_jobs={n_jobs}")
    run = hms.run(hms.compose(*base, *choices))
    assert run.hash == folder.hash
    assert tree_bytes(run.path) == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["o", "outputs"]
    assert hms.run(hms.compose(*base, *choices)).reused
    item = run.meta["item_id"].iloc[0]
    assert np.array_equal(run.evaluate(item, "scalograms").x, run.spec(item))


def test_a_damaged_recording_in_the_archive_is_one_row(small_set, tmp_path, prepare):
    """The archive's own sum finds it; the rest goes on."""
    archive = pack(small_set, tmp_path / "a.zip", method=zipfile.ZIP_STORED)
    with zipfile.ZipFile(archive) as opened:
        entry = next(e for e in opened.infolist() if e.filename.endswith(".parquet"))
    data = bytearray(archive.read_bytes())
    data[entry.header_offset + 2000] ^= 0xFF
    archive.write_bytes(data)
    run = prepare(archive, "cwt.n_freqs=8", "stages=[scalograms]")
    assert run.excluded["eeg_id"].astype(str).tolist() == [Path(entry.filename).stem]
    assert "cannot be read from the archive: Bad CRC-32" in run.excluded["reason"].iloc[0]


@pytest.mark.slow
def test_a_test_set_is_read_from_the_same_archive(test_set, finished, tmp_path):
    archive = pack(test_set, tmp_path / "a.zip", method=zipfile.ZIP_STORED)
    base = (
        "data=kaggle",
        "data.subset=test",
        f"data.root={archive}",
        f"from_run={finished.path}",
        "stages=[scalograms]",
    )
    run = hms.run(hms.compose(*base, f"outputs_dir={tmp_path / 'o'}", "n_jobs=1"))
    assert len(run.meta) == len(finished.meta)
    item = run.meta["item_id"].iloc[0]
    assert run.spec(item).tobytes() == finished.spec(item).tobytes()


@pytest.mark.slow
def test_verify_reads_the_archive_again(small_set, tmp_path, prepare):
    from hms.engine.verify import verify

    archive = pack(small_set, tmp_path / "a.zip", method=zipfile.ZIP_STORED)
    run = prepare(archive, "cwt.n_freqs=8", "stages=[scalograms]")
    assert not verify(run.path).findings
    other = tmp_path / "other"
    other.mkdir()
    for file in (p for p in small_set.rglob("*") if p.is_file()):
        target = other / file.relative_to(small_set)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
    victim = other / "train_eegs" / f"{run.meta['item_id'].iloc[0]}.parquet"
    (pd.read_parquet(victim) * np.float32(2)).to_parquet(victim)
    pack(other, archive, method=zipfile.ZIP_STORED)
    (found,) = verify(run.path).findings
    assert found.path.endswith(f"a.zip/train_eegs/{victim.name}")


@pytest.mark.slow
def test_the_download_in_the_working_folder_is_found_by_itself(small_set, tmp_path, monkeypatch):
    """`kaggle competitions download` leaves it there."""
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "hms-harmful-brain-activity-classification.zip"
    pack(small_set, archive, method=zipfile.ZIP_STORED)
    run = hms.run(hms.compose("data=kaggle", "stages=[labels]", "n_jobs=1"))
    assert len(run.meta) == 10


def edited(tmp_path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return tmp_path / "x.zip"


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([("../train.csv", b"x")], r"entry '\.\./train.csv' would be unpacked outside"),
        ([("/etc/train.csv", b"x")], "entry '/etc/train.csv' would be unpacked outside"),
        ([("a\\..\\..\\train.csv", b"x")], "would be unpacked outside"),
        ([("C:/train.csv", b"x")], "would be unpacked outside"),
        ([("train.csv", b"x"), (link("train_eegs/1.parquet"), b"/etc")], "1.parquet' is a link"),
        ([("readme.md", b"x"), ("d/y.txt", b"")], "it has no train.csv, but d, readme.md; data.root names"),
        ([], "it has no train.csv, but nothing"),
        ([("train.csv", b"eeg_id\n1\n")], "train_eegs is not a folder"),
        ([("train.csv", b"eeg_id\n1\n"), ("train_eegs/1.parquet", b"")], "lacks columns 'eeg_sub_id'"),
    ],
)  # fmt: skip
def test_archives_that_are_no_download_are_refused(entries, text, tmp_path, prepare):
    with pytest.raises(ConfigError, match=text) as caught:
        prepare(edited(tmp_path, *entries), *FAST)
    assert "x.zip" in str(caught.value)
    assert not (tmp_path.parent / "train.csv").exists()


@pytest.mark.slow
def test_what_is_no_archive_is_refused(tmp_path, prepare, small_set):
    whole = pack(small_set, tmp_path / "whole.zip").read_bytes()
    for name, data in (("text.zip", b"no zip"), ("cut.zip", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConfigError, match=rf"{name} is not a complete zip archive .*; download it again"):
            prepare(tmp_path / name, *FAST)
    (tmp_path / "train.tar").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"train.tar is neither a folder nor a .zip; name the folder"):
        prepare(tmp_path / "train.tar", *FAST)


def test_encrypted_and_repeated_entries_are_refused(tmp_path, prepare):
    path = edited(tmp_path, ("train.csv", b"x"))
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1  # flag of encryption in the archive's table of contents
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"entry 'train.csv' is encrypted"):
        prepare(path, *FAST)
    with pytest.warns(UserWarning, match="Duplicate name"):
        edited(tmp_path, ("train.csv", b"x"), ("train.csv", b"y"))
    with pytest.raises(ConfigError, match=r"entry 'train.csv' appears twice"):
        prepare(path, *FAST)
