"""The published IIIC samples: MATLAB files with expert votes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

import hms
from hms.competition import CHANNELS, VOTE_COLUMNS
from hms.errors import ConfigError
from hms.results.run import Run
from hms.sources.iiic import LUT_CLASSES, load_mat, read_votes_table

N_SAMPLES = 10_000
Votes = dict[str, tuple[int, ...]]


def signals(seed: int) -> np.ndarray:
    return 20 * np.random.default_rng(seed).standard_normal((len(CHANNELS), N_SAMPLES))


def cell(values: list[object]) -> np.ndarray:
    """Return a MATLAB cell array of one row."""
    made = np.empty((1, len(values)), dtype=object)
    for i, value in enumerate(values):
        made[0, i] = value
    return made


def write_table(folder: Path, votes: Votes, *, name: str = "votes_LUT.mat") -> Path:
    """Write a look-up table as it is published: cells of name, votes and a model's output."""
    rows = np.empty((len(votes), 5), dtype=object)
    for i, (sample, counts) in enumerate(votes.items()):
        rows[i] = [
            sample,
            np.array([counts], np.uint8),
            np.zeros((1, 6)),
            np.array([[1.0]]),
            np.array([[2.0]]),
        ]
    savemat(folder / name, {"LUT": cell([rows])})
    return folder / name


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Two samples, and a table that also has votes for a third."""
    folder = tmp_path / "mat"
    folder.mkdir()
    for seed, name in enumerate(("GPD_sample1", "SZ_sample1")):
        savemat(folder / f"{name}.mat", {"seg": signals(seed)})
    write_table(
        folder,
        {"SZ_sample1": (1, 3, 0, 0, 0, 0), "GPD_sample1": (0, 0, 0, 17, 0, 0), "X": (1, 0, 0, 0, 0, 0)},
    )
    return folder


@pytest.fixture
def prepare_iiic(outputs: Path) -> Callable[..., Run]:
    """Prepare a folder of samples in this process."""

    def call(root: Path, *overrides: str) -> Run:
        base = ("data=iiic", f"data.root={root}", f"outputs_dir={outputs}", "n_jobs=1", "folds=none")
        return hms.run(hms.compose(*base, "stages=[scalograms,waveforms,labels]", *overrides))

    return call


def test_votes_come_in_our_order(samples):
    """The table has other, seizure, lpd, gpd, lrda, grda; 17 for GPD stay 17 for GPD."""
    assert LUT_CLASSES == ("other", "seizure", "lpd", "gpd", "lrda", "grda")
    table = read_votes_table(samples / "votes_LUT.mat")
    assert table["GPD_sample1"]["gpd_vote"] == 17
    assert table["SZ_sample1"] == {
        "other_vote": 1, "seizure_vote": 3, "lpd_vote": 0, "gpd_vote": 0, "lrda_vote": 0, "grda_vote": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_samples_give_labels_and_their_names_are_kept(samples, prepare_iiic, capfd):
    """item_id is the sample's name; votes for a sample that is not there are named and left out."""
    run = prepare_iiic(samples)
    assert run.meta["item_id"].tolist() == ["GPD_sample1", "SZ_sample1"]
    assert run.labels.y_soft.tolist() == [[0, 0, 1, 0, 0, 0], [0.75, 0, 0, 0, 0, 0.25]]
    assert run.spec("SZ_sample1").shape[::2] == (4, 250)
    assert "votes for 1 recordings" in capfd.readouterr().err


@pytest.mark.slow
def test_both_ways_give_the_same_scalograms(samples, prepare_iiic, prepare, tmp_path):
    """The same samples as .mat and as parquet in the competition's layout: equal within 1e-4."""
    folder = tmp_path / "parquet"
    (folder / "train_eegs").mkdir(parents=True)
    rows = []
    for seed in range(2):
        frame = pd.DataFrame(signals(seed).T.astype(np.float32), columns=list(CHANNELS))
        frame.to_parquet(folder / "train_eegs" / f"{seed + 1}.parquet")
        rows.append([seed + 1, 0, 0.0, seed, 3, 0, 0, 0, 0, 0])
    columns = ["eeg_id", "eeg_sub_id", "eeg_label_offset_seconds", "patient_id", *VOTE_COLUMNS]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "train.csv", index=False)
    one = prepare_iiic(samples)
    two = prepare(folder, "folds=none", "stages=[scalograms,waveforms]")
    for sample, eeg_id in (("GPD_sample1", "1"), ("SZ_sample1", "2")):
        np.testing.assert_allclose(one.spec(sample), two.spec(eeg_id), atol=1e-4)
        np.testing.assert_allclose(one.wave(sample), two.wave(eeg_id), atol=1e-4)


def test_the_real_samples_give_the_same_both_ways(real_set, prepare_iiic, prepare):
    """Six published recordings, as published and in the competition's layout."""
    if not (real_set / "mat").is_dir():
        pytest.skip("HMS_REAL_SAMPLE has no mat folder: the published files are NOT tested")
    one = prepare_iiic(real_set / "mat")
    two = prepare(real_set, "folds=none", "stages=[scalograms,waveforms,labels]")
    with (real_set / "origin.csv").open() as file:
        eeg_ids = {row["sample"]: row["eeg_id"] for row in csv.DictReader(file)}
    places = {item: row for row, item in enumerate(two.meta["item_id"].tolist())}
    assert len(one.meta) == 6
    for row, sample in enumerate(one.meta["item_id"].tolist()):
        eeg_id = eeg_ids[sample]
        np.testing.assert_allclose(one.spec(sample), two.spec(eeg_id), atol=1e-4)
        assert one.labels.y_soft[row].tolist() == two.labels.y_soft[places[eeg_id]].tolist()


def test_without_a_table_there_are_no_labels(samples, prepare_iiic):
    """data.votes=null prepares the samples for inference."""
    (samples / "votes_LUT.mat").unlink()
    run = prepare_iiic(samples, "data.votes=null")
    assert len(run.meta) == 2
    assert "labels" not in run.manifest["stages"]


def test_a_sample_without_votes_is_left_out_with_the_reason(samples, prepare_iiic):
    """A file that the table does not name."""
    savemat(samples / "new.mat", {"seg": signals(9)})
    run = prepare_iiic(samples)
    excluded = pd.read_csv(run.file("data_package/meta_excluded.csv"))
    assert excluded[["item_id", "reason"]].to_numpy().tolist() == [["new", "no votes"]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a MATLAB file", "the file is damaged or no MATLAB file"),
        (b"", "the file is damaged or no MATLAB file"),
        (b"MATLAB 7.3 MAT-file, Platform: x, HDF5 schema 1.00 .".ljust(512), "MATLAB version 7.3"),
        (None, "no variable 'seg'"),
    ],
)
def test_a_mat_that_is_none_is_one_row_with_the_reason(samples, prepare_iiic, content, reason):
    """The other sample goes on."""
    path = samples / "GPD_sample1.mat"
    if content is None:
        savemat(path, {"data": signals(0)})
    else:
        path.write_bytes(content)
    run = prepare_iiic(samples)
    assert run.meta["item_id"].tolist() == ["SZ_sample1"]
    assert reason in pd.read_csv(run.file("data_package/meta_excluded.csv"))["reason"][0]


@pytest.mark.parametrize("seg", [np.zeros((19, 100)), np.zeros(20), np.array(["text"])])
def test_signals_of_another_shape_are_one_row_with_the_reason(samples, prepare_iiic, seg):
    """'seg' has 20 rows of numbers."""
    savemat(samples / "GPD_sample1.mat", {"seg": seg})
    run = prepare_iiic(samples)
    assert run.meta["item_id"].tolist() == ["SZ_sample1"]
    reason = pd.read_csv(run.file("data_package/meta_excluded.csv"))["reason"][0]
    assert "'seg' must be numbers of shape (20, samples)" in reason


def test_a_look_up_table_that_is_none_is_refused(samples, prepare_iiic):
    """One message each: absent, damaged, without votes, a name twice."""
    path = samples / "votes_LUT.mat"
    path.unlink()
    with pytest.raises(ConfigError, match=r"data\.votes=null prepares the samples without votes"):
        prepare_iiic(samples)
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no MATLAB file"):
        prepare_iiic(samples)
    savemat(path, {"LUT": cell([cell(["SZ_sample1", np.array([1, 2])])])})
    with pytest.raises(ConfigError, match="is a name and 6 votes"):
        prepare_iiic(samples)
    rows = [cell(["a", np.array([1, 0, 0, 0, 0, 0])]) for _ in range(2)]
    savemat(path, {"LUT": cell(rows)})
    with pytest.raises(ConfigError, match="'a' appears in the table more than once"):
        prepare_iiic(samples)


def test_a_folder_without_samples_is_refused(tmp_path, prepare_iiic):
    """The message names the folder."""
    with pytest.raises(ConfigError, match=r"has no \.mat file"):
        prepare_iiic(tmp_path)


def test_load_mat_gives_the_variable(tmp_path):
    """The bytes of a file, not its path, are read."""
    savemat(tmp_path / "a.mat", {"seg": np.eye(2)})
    assert load_mat((tmp_path / "a.mat").read_bytes(), "seg").tolist() == [[1, 0], [0, 1]]
