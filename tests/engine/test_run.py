"""The main job: what a run writes, and that it is the same however it is made."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Prepared, tree_bytes

import hms
from hms.competition import CLASSES
from hms.errors import ConfigError, StorageError
from hms.results.run import Run

Prepare = Callable[..., Run]


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.slow
def test_tables_have_the_stated_columns_names_and_types(finished: Run) -> None:
    meta = pd.read_csv(finished.path / "data_package/meta_use.csv")
    stated = "item_id eeg_id patient_id spectrogram_id eeg_sub_id label_id window_start_s vote_sum"
    assert {*stated.split(), "expert_consensus"} <= set(meta.columns)
    excluded = pd.read_csv(finished.path / "data_package/meta_excluded.csv")
    assert list(excluded.columns) == ["item_id", "eeg_id", "stage", "reason"]
    labels = load(finished.path / "data_package/labels.npz")
    n = len(meta)
    types = {name: (array.dtype.str.lstrip("<|="), array.shape) for name, array in labels.items()}
    assert types["y_soft"] == ("f4", (n, 6))
    assert types["w_conf"] == ("f4", (n,))
    assert types["hc_mask"] == ("b1", (n,))
    assert types["classes"] == ("U7", (6,))
    assert types["vote_sum"] == ("i4", (n,))
    assert types["eeg_id"] == ("i8", (n,))
    assert labels["classes"].tolist() == list(CLASSES)
    assert labels["item_id"].tolist() == meta["item_id"].astype(str).tolist()
    assert np.allclose(labels["y_soft"].sum(axis=1), 1)


def test_items_stand_in_first_appearance_order_of_the_votes_table(finished: Run, small_set: Path) -> None:
    votes = pd.read_csv(small_set / "train.csv")
    assert finished.meta["eeg_id"].tolist() == votes["eeg_id"].drop_duplicates().tolist()
    assert (finished.meta["item_id"] == finished.meta["eeg_id"].astype(str)).all()


def test_signals_have_the_stated_shapes_units_and_ids(finished: Run) -> None:
    for row in finished.meta.itertuples():
        spec = load(finished.path / f"spec_hr_out/{row.item_id}_hr.npz")
        assert spec["x"].dtype == np.float32
        assert spec["x"].shape == (4, 48, 250)
        assert spec["x"].min() == 0
        assert spec["x"].max() == 1
        assert spec["freqs"].dtype == np.float32
        assert np.all(np.diff(spec["freqs"]) > 0)
        assert spec["freqs"][[0, -1]] == pytest.approx([0.5, 20])
        wave = load(finished.path / f"wave_hr_out/{row.item_id}_hr.npz")
        assert wave["x"].shape == (4, 2000)
        assert float(wave["fs"]) == 200
        for file in (spec, wave):
            assert int(file["eeg_id"]) == row.eeg_id
            assert str(file["patient_id"]) == str(row.patient_id)


def test_files_are_uncompressed(finished: Run) -> None:
    import zipfile

    path = next((finished.path / "spec_hr_out").iterdir())
    assert {entry.compress_type for entry in zipfile.ZipFile(path).infolist()} == {zipfile.ZIP_STORED}


def test_no_patient_stands_on_both_sides_of_a_fold(finished: Run) -> None:
    patients = finished.meta["patient_id"].to_numpy()
    assert len(finished.splits) == 5
    for train, valid in finished.splits:
        assert train.dtype == np.int64
        assert not set(patients[train]) & set(patients[valid])
        assert sorted([*train, *valid]) == list(range(len(patients)))


def test_the_window_is_the_middle_ten_seconds_of_the_sub_window(finished: Run, small_set: Path) -> None:
    votes = pd.read_csv(small_set / "train.csv")
    merged = finished.meta.merge(votes, on=["eeg_id", "eeg_sub_id"])
    assert (merged["window_start_s"] == merged["eeg_label_offset_seconds"] + 20).all()


def test_the_waveform_is_the_filtered_derivation_of_the_window(finished: Run, small_set: Path) -> None:
    """Against SciPy's forward-backward filter on the whole recording, mean over four items."""
    from scipy.signal import butter, sosfiltfilt

    sos = butter(4, [0.5, 20], "bandpass", fs=200, output="sos")
    for row in finished.meta.head(4).itertuples():
        frame = pd.read_parquet(small_set / f"train_eegs/{row.eeg_id}.parquet")
        if frame.isna().any().any():
            continue
        eeg = {name: sosfiltfilt(sos, frame[name].to_numpy(np.float64)).clip(-500, 500) for name in frame}
        first = int(row.window_start_s * 200)
        derived = finished.evaluate(row.item_id, "derivations")
        expected = (eeg["Fp1"] - eeg["F7"])[first : first + 2000]
        assert np.abs(derived.window[0] - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.slow
def test_workers_and_repetition_do_not_change_a_byte(
    small_set: Path, prepare: Prepare, finished: Run, outputs: Path
) -> None:
    parallel = prepare(small_set, n_jobs=2)
    assert parallel.hash == finished.hash
    assert tree_bytes(parallel.path) == tree_bytes(finished.path)
    again = prepare(small_set, n_jobs=2)
    assert again.reused
    assert tree_bytes(again.path) == tree_bytes(finished.path)


def test_a_finished_run_is_found_where_nothing_can_be_written(
    small_set: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(store: Path, asked: str) -> str:
        raise StorageError(f"cannot write to {store}: the file system is read-only")

    monkeypatch.setattr("hms.engine.runner.usable_way", refuse)
    same = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={finished.path.parent}", "n_jobs=1")
    assert hms.run(hms.compose(*same)).reused
    with pytest.raises(StorageError, match="read-only"):
        hms.run(hms.compose(*same, "weight=log"))


@pytest.mark.slow
def test_run_py_and_the_notebook_give_the_same_run(small_set: Path, tmp_path: Path, finished: Run) -> None:
    typed = ("data=kaggle", f"data.root={small_set}", "outputs_dir=out", "n_jobs=1")
    done = forked.run([ROOT / "run.py", *typed], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert finished.hash in done.stdout
    assert "items used  10 of 10" in done.stdout
    assert tree_bytes(tmp_path / "out" / "latest") == tree_bytes(finished.path)


def test_units_make_the_stated_items(small_set: Path, prepare: Prepare) -> None:
    votes = pd.read_csv(small_set / "train.csv")
    rows = prepare(small_set, "unit=per_row", "stages=[labels,splits]")
    assert len(rows.meta) == len(votes)
    named = votes["eeg_id"].astype(str) + "_" + votes["eeg_sub_id"].astype(str)
    assert set(rows.meta["item_id"]) == set(named)
    patterns = prepare(small_set, "unit=per_pattern", "stages=[labels,splits]")
    columns = ["eeg_id", *(c for c in votes if c.endswith("_vote"))]
    assert len(patterns.meta) == len(votes[columns].drop_duplicates())
    assert not (rows.path / "spec_hr_out").exists()


@pytest.mark.slow
def test_rows_and_recordings_share_the_scalograms_of_the_same_windows(
    small_set: Path, prepare: Prepare
) -> None:
    whole = prepare(small_set, "stages=[scalograms]")
    rows = prepare(small_set, "stages=[scalograms]", "unit=per_row", "data.transform_s=0")
    for item in whole.meta.itertuples():
        one = whole.path / f"spec_hr_out/{item.item_id}_hr.npz"
        other = rows.path / f"spec_hr_out/{item.eeg_id}_{item.eeg_sub_id}_hr.npz"
        assert one.resolve() == other.resolve()


VARIANTS = [
    (["cwt=gmw", "weight=log", "folds=group10", "montage=bipolar16", "folds.n_splits=3"], (16, 48, 250)),
    (["montage=bipolar18", "cwt.n_freqs=10"], (18, 10, 250)),
    (["window=full50", "cwt.n_freqs=6"], (4, 6, 1250)),
    (["cwt=ricker", "cwt.hop=20"], (4, 48, 100)),
    (["cwt=superlet", "cwt.n_freqs=5"], (4, 5, 250)),
    (["filter=wide", "scaling=none"], (4, 48, 250)),
    (["filter=none", "cwt.hop=1", "cwt.n_freqs=3"], (4, 3, 2000)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "shape"), VARIANTS, ids=[" ".join(o) for o, _ in VARIANTS])
def test_other_choices_change_the_shape_as_stated(
    tiny_set: Path, prepare: Prepare, overrides: list[str], shape: tuple[int, ...]
) -> None:
    run = prepare(tiny_set, "stages=[scalograms,waveforms,labels,splits]", *overrides)
    assert len(run.meta) == 5
    x = run.spec(run.meta["item_id"].iloc[0])
    assert x.shape == shape
    assert np.isfinite(x).all()


@pytest.mark.slow
def test_float16_halves_the_files_and_keeps_three_digits(
    small_set: Path, prepare: Prepare, finished: Run
) -> None:
    run = prepare(small_set, "stages=[scalograms]", "cwt.dtype=float16")
    item = run.meta["item_id"].iloc[0]
    assert run.spec(item).dtype == np.float16
    assert np.abs(run.spec(item).astype(np.float32) - finished.spec(item)).max() <= 2**-11


def test_values_that_a_dtype_cannot_hold_leave_an_item_out(
    small_set: Path, tmp_path: Path, prepare: Prepare
) -> None:
    root = shutil.copytree(small_set, tmp_path / "loud")
    path = min((root / "train_eegs").glob("*.parquet"))
    (pd.read_parquet(path) * 1e18).astype("float32").to_parquet(path)
    settings = ("stages=[scalograms]", "filter=none", "scaling=none", "cwt.dtype=float32")
    run = prepare(root, *settings)
    assert run.excluded["eeg_id"].astype(str).tolist() == [path.stem]
    assert "values that float32 cannot hold" in run.excluded["reason"].iloc[0]
    assert all(np.isfinite(run.spec(item)).all() for item in run.meta["item_id"])


def test_the_config_file_holds_only_what_changes_results(finished: Run) -> None:
    from omegaconf import OmegaConf

    saved = OmegaConf.load(finished.path / "config.yaml")
    assert saved.cwt.w0 == pytest.approx(5.441398)
    assert not {"n_jobs", "outputs_dir", "plan", "seed", "max_failed_share"} & set(saved)
    assert "root" not in saved.data


def test_a_run_is_its_own_configuration(finished: Run) -> None:
    from hms.engine.plan import make_plan

    assert make_plan(finished.config).run_hash == finished.hash


def test_the_run_object_reads_everything_back(finished: Run) -> None:
    assert len(finished.meta) == len(finished.labels.y_soft) == 10
    item = finished.meta["item_id"].iloc[2]
    assert finished.wave(item).shape == (4, 2000)
    assert finished.wave(int(item)).shape == (4, 2000)
    assert finished.outputs == ["LL", "LP", "RL", "RP"]
    assert "10 items used" in repr(finished)
    page = finished._repr_html_()
    assert "<table>" in page
    assert f'/{finished.hash}/qc/report.html" target="_blank">' in page
    assert page.count("<svg") == 2
    assert page.count(finished.meta["item_id"].iloc[0]) >= 2
    assert finished.summary["items_used"] == 10
    with pytest.raises(ConfigError, match="no item 'abc'"):
        finished.spec("abc")


def test_what_a_user_prints_is_told_in_a_line(finished: Run) -> None:
    """Arrays by their shape, splits by how many items they have, a configuration by its choices."""
    n_train, n_valid = len(finished.splits[0].train), len(finished.splits[0].valid)
    assert repr(finished.splits[0]) == f"<Split: {n_train} training items, {n_valid} validation items>"
    assert f"y_soft=float32 ({len(finished.meta)}, 6)" in repr(finished.labels)
    assert "cwt=morlet" in repr(finished.config)
    for shown in (finished, finished.splits[0], finished.labels, finished.config, finished.dataset()):
        assert len(repr(shown)) < 300


def test_a_machine_that_fails_while_a_plan_is_made_is_a_storage_error(
    small_set, prepare, monkeypatch
) -> None:
    def fail(cfg: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "the storage cannot be reached", "s3://bucket")

    monkeypatch.setattr("hms.engine.runner.make_plan", fail)
    with pytest.raises(StorageError, match="the storage cannot be reached: s3://bucket"):
        prepare(small_set)


def test_latest_and_prefixes_find_runs(finished: Run) -> None:
    outputs = finished.path.parent
    for name in ("latest", finished.hash[:6], finished.hash, str(finished.path)):
        assert hms.load(name, outputs=outputs).hash == finished.hash
    with pytest.raises(ConfigError, match="no finished run 'zzz'"):
        hms.load("zzz", outputs=outputs)


def test_a_run_that_lost_its_manifest_is_to_be_run_again(outputs: Path) -> None:
    (outputs / "0123456789abcdef").mkdir(parents=True)
    with pytest.raises(
        ConfigError, match=r"0123456789abcdef .* is not finished; run it again with the same command"
    ):
        hms.load("0123456789abcdef", outputs=outputs)


@pytest.mark.slow
def test_the_end_of_a_run_is_a_short_table(own_set: Path, command: Callable[..., Prepared]) -> None:
    (next((own_set / "train_eegs").iterdir())).unlink()
    ended = command("data=kaggle", f"data.root={own_set}")
    assert ended.code == 0, ended.err
    for text in ("items used  9 of 10", "left out", "missing", "classes", "folds", "time taken", "folder"):
        assert text in ended.out


def test_the_real_recordings_are_all_used_and_none_is_flat(real_set: Path, prepare: Prepare) -> None:
    run = prepare(real_set)
    assert len(run.meta) == 12
    correlations = []
    for item in run.meta["item_id"]:
        x = run.spec(item)
        assert x.std() > 0.05
        w = run.wave(item)
        correlations.append(abs(np.corrcoef(w[0], w[1])[0, 1]))
    assert np.median(correlations) < 0.9


@pytest.mark.slow
def test_kinds_without_settings_of_their_own_are_known_in_workers(small_set: Path, prepare: Prepare) -> None:
    run = prepare(small_set, "stages=[scalograms]", "scaling=none", "filter.gaps.kind=interpolate", n_jobs=2)
    assert run.spec(run.meta["item_id"].iloc[0]).max() > 1
