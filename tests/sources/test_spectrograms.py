"""The competition's spectrograms: cut, ordered, scaled, and what a changed file makes due."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hms
from hms.engine.plan import make_plan
from hms.errors import ConfigError, Unusable
from hms.registry import Params, _entries, lookup
from hms.results.run import Run
from hms.signal.scaling import Log1pPercentile, log1p_percentile
from hms.signal.spectrograms import KaggleSpectrograms, kaggle
from hms.sources.spectrograms import Crop, SpectrogramFile
from hms.sources.synthetic import generate
from hms.stages.spectrograms import Spectrograms

FILE_CHAINS = ("LL", "RL", "LP", "RP")
HZ = (0.59, 0.78, 0.98)


def write_file(
    path: Path, *, n_rows: int = 310, change: Callable[[pd.DataFrame], pd.DataFrame] | None = None
) -> Path:
    """Write a file whose values tell chain, frequency and row: 1000 chain + 100 frequency + row / 1000."""
    columns: dict[str, np.ndarray] = {"time": (1 + 2 * np.arange(n_rows)).astype(np.int16)}
    for c, chain in enumerate(FILE_CHAINS):
        for f, hz in enumerate(HZ):
            columns[f"{chain}_{hz}"] = (1000 * c + 100 * f + np.arange(n_rows) / 1000).astype(np.float32)
    frame = pd.DataFrame(columns)
    (frame if change is None else change(frame)).to_parquet(path)
    return path


def opened(path: Path) -> SpectrogramFile:
    return SpectrogramFile(path.read_bytes())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six synthetic recordings with spectrograms."""
    folder = tmp_path_factory.mktemp("spectrograms") / "set"
    generate(folder, n_recordings=6, n_patients=3, seed=3, write_spectrograms=True)
    return folder


@pytest.fixture
def own_made(made: Path, tmp_path: Path) -> Path:
    """Copy them, so that a test may change them."""
    import shutil

    return Path(shutil.copytree(made, tmp_path / "set"))


FAST = ("spectrograms=kaggle", "folds=none", "stages=[scalograms,labels]")


def lr(run: Run, item_id: str) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(run.file(f"spec_lr_out/{item_id}_lr.npz").read_bytes())) as file:
        return {name: file[name] for name in file.files}


# --- one file ------------------------------------------------------------------------------------


def test_the_crop_starts_at_the_offset_and_has_our_order_of_chains(tmp_path):
    """Offset 14 s is row 7; the second chain of the output is LP, the third of the file."""
    crop = opened(write_file(tmp_path / "1.parquet")).segment(14.0)
    assert crop.power.shape == (4, 3, 300)
    assert crop.freqs.tolist() == pytest.approx(list(HZ))
    for row, place_in_file in enumerate((0, 2, 1, 3)):
        for f in range(3):
            expected = 1000 * place_in_file + 100 * f + np.arange(7, 307) / 1000
            np.testing.assert_allclose(crop.power[row, f], expected, atol=1e-3)


def test_the_order_of_columns_and_a_wrapped_time_do_not_matter(tmp_path):
    """Chains and frequencies are known by name, rows by their count."""
    straight = opened(write_file(tmp_path / "a.parquet")).segment(0.0)
    mixed = opened(
        write_file(tmp_path / "b.parquet", change=lambda frame: frame[frame.columns[::-1]].assign(time=-5))
    ).segment(0.0)
    assert np.array_equal(straight.power, mixed.power)


def test_a_sub_window_beyond_the_end_is_refused(tmp_path):
    """310 rows last 620 s."""
    with pytest.raises(Unusable, match="ends at 630 s but the file lasts 620 s"):
        opened(write_file(tmp_path / "1.parquet")).segment(30.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="RL_0.59"), "2 of RL"),
        (lambda frame: frame[["time"]], "0 of LL"),
        (lambda frame: frame.astype({"LL_0.59": str}), "is damaged: column '.*' holds"),
    ],
)
def test_a_file_with_other_columns_is_refused(tmp_path, change, message):
    """The reason says what is lacking."""
    with pytest.raises(Unusable, match=message):
        opened(write_file(tmp_path / "1.parquet", change=change)).segment(0.0)


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    """CSV text under the name of a parquet file."""
    (tmp_path / "1.parquet").write_text("time,LL_0.59\n1,2\n")
    with pytest.raises(Unusable, match="the spectrogram's file is truncated or not parquet"):
        opened(tmp_path / "1.parquet").segment(0.0)


# --- gaps ----------------------------------------------------------------------------------------


def test_gaps_are_bridged_in_time_and_held_at_the_ends():
    """NaN 2 NaN NaN 5 NaN becomes 2 2 3 4 5 5; a frequency without any value is zero."""
    nan = np.nan
    power = np.array([[[nan, 2, nan, nan, 5, nan], [nan] * 6, [1] * 6]], np.float32)
    filled = kaggle(power, KaggleSpectrograms("kaggle", "interpolate"))
    assert filled[0].tolist() == [[2, 2, 3, 4, 5, 5], [0] * 6, [1] * 6]
    assert kaggle(power, KaggleSpectrograms("kaggle", "zero"))[0, 0].tolist() == [0, 2, 0, 0, 5, 0]
    assert np.isnan(power[0, 0, 0]), "what was given is not changed"


def test_a_spectrogram_without_gaps_is_not_copied():
    """Nothing to fill."""
    power = np.ones((1, 2, 3), np.float32)
    assert kaggle(power, KaggleSpectrograms("kaggle", "interpolate")) is power


def test_the_function_of_the_kind_stands_in_for_what_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of one's own that puts 3 everywhere leaves nothing of the file's NaN and 5."""
    entry = replace(lookup("spectrograms", "kaggle"), function=lambda power, params: np.full_like(power, 3))
    monkeypatch.setitem(_entries["spectrograms"], "kaggle", entry)
    stage = Spectrograms(KaggleSpectrograms("kaggle", "zero"), Params("none"), None)
    found = stage.compute(Crop(np.array([[[np.nan, 5]]], np.float32), np.ones(1, np.float32)))
    assert found.x.tolist() == [[[3, 3]]]


# --- a run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_writes_one_file_per_item_scaled_like_the_scalograms(made, prepare):
    """X is log1p of the crop between its own 1st and 99th percentile."""
    run = prepare(made, *FAST)
    table = pd.read_csv(made / "train.csv", dtype={"eeg_id": str})
    assert len(run.meta) == 6
    for item_id, sub_id in zip(run.meta["item_id"], run.meta["eeg_sub_id"], strict=True):
        row = table[(table["eeg_id"] == item_id) & (table["eeg_sub_id"] == sub_id)].iloc[0]
        frame = pd.read_parquet(made / "train_spectrograms" / f"{row['spectrogram_id']}.parquet")
        first = int(row["spectrogram_label_offset_seconds"]) // 2
        names = [name for chain in ("LL", "LP", "RL", "RP") for name in frame if name.startswith(f"{chain}_")]
        power = frame[names].to_numpy(np.float32)[first : first + 300].T.reshape(4, 100, 300)
        power = kaggle(np.ascontiguousarray(power), KaggleSpectrograms("kaggle", "interpolate"))
        file = lr(run, item_id)
        expected = log1p_percentile(power, Log1pPercentile("log1p_percentile", 1.0, 99.0))
        assert file["x"].shape == (4, 100, 300)
        assert file["x"].dtype == np.float32
        np.testing.assert_allclose(file["x"], expected, atol=1e-6)
        assert file["freqs"][[0, -1]].tolist() == pytest.approx([0.59, 19.92], abs=0.01)
        assert str(file["eeg_id"]) == item_id


@pytest.mark.slow
def test_a_dataset_gives_spectrograms_beside_scalograms(made, prepare):
    """spec_lr is the item's own file; runs without the files are refused."""
    run = prepare(made, *FAST)
    dataset = run.dataset(spectrogram=True)
    assert len(dataset) == 6
    for sample in (dataset[i] for i in range(len(dataset))):
        assert np.array_equal(sample["spec_lr"], run.spec_lr(sample["item_id"]))
        assert np.array_equal(sample["x"], run.spec(sample["item_id"]))
    without = prepare(made, "folds=none", "stages=[scalograms,labels]")
    with pytest.raises(ConfigError, match="run it again with spectrograms=kaggle"):
        without.dataset(spectrogram=True)


def test_without_the_option_there_are_no_files(made, prepare):
    """The default needs no spectrograms."""
    run = prepare(made, "folds=none", "stages=[labels]")
    assert not [name for name in run.manifest["files"] if name.startswith("spec_lr_out")]


@pytest.mark.slow
def test_a_changed_spectrogram_makes_only_its_own_items_due(own_made, prepare):
    """Neither the scalograms nor other spectrograms are made again."""
    first = prepare(own_made, *FAST)
    item = first.meta.iloc[0]
    of_file = (first.meta["spectrogram_id"] == item["spectrogram_id"]).sum()
    path = own_made / "train_spectrograms" / f"{item['spectrogram_id']}.parquet"
    frame = pd.read_parquet(path)
    frame.loc[:, frame.columns != "time"] *= np.linspace(1, 9, len(frame))[:, None].astype(np.float32)
    frame.to_parquet(path)
    second = prepare(own_made, *FAST)
    assert second.manifest["stages"]["spectrograms"]["computed"] == of_file
    assert second.manifest["stages"]["scalograms"]["computed"] == 0
    assert not np.array_equal(lr(first, item["item_id"])["x"], lr(second, item["item_id"])["x"])


@pytest.mark.slow
def test_a_changed_recording_makes_no_spectrogram_due(own_made, prepare):
    """What comes from the spectrogram's file does not depend on the recording."""
    run = prepare(own_made, *FAST)
    path = own_made / "train_eegs" / f"{run.meta['item_id'][0]}.parquet"
    (pd.read_parquet(path) * np.float32(2)).to_parquet(path)
    again = prepare(own_made, *FAST)
    assert again.manifest["stages"]["spectrograms"]["computed"] == 0
    assert again.manifest["stages"]["scalograms"]["computed"] == 1


@pytest.mark.slow
def test_a_missing_spectrogram_is_one_row_with_the_reason(own_made, prepare):
    """The items of the other files go on."""
    table = pd.read_csv(own_made / "train.csv", dtype=str)
    lost = table["spectrogram_id"].iloc[0]
    (own_made / "train_spectrograms" / f"{lost}.parquet").unlink()
    run = prepare(own_made, *FAST)
    excluded = pd.read_csv(run.file("data_package/meta_excluded.csv"), dtype=str)
    assert set(excluded["eeg_id"]) == set(table.loc[table["spectrogram_id"] == lost, "eeg_id"])
    assert set(excluded["reason"]) == {"the spectrogram's file is missing"}


@pytest.mark.slow
def test_an_item_without_a_spectrogram_in_the_table_is_one_row(own_made, prepare):
    """The table lacks the id."""
    table = pd.read_csv(own_made / "train.csv", dtype=str)
    table.loc[table["eeg_id"] == table["eeg_id"].iloc[0], "spectrogram_id"] = ""
    table.to_csv(own_made / "train.csv", index=False)
    run = prepare(own_made, *FAST)
    excluded = pd.read_csv(run.file("data_package/meta_excluded.csv"))
    assert excluded["reason"].tolist() == ["the table names no spectrogram for it"]


@pytest.mark.slow
def test_a_spectrogram_without_any_value_is_one_row(own_made, prepare):
    """All NaN: nothing to scale."""
    table = pd.read_csv(own_made / "train.csv", dtype=str)
    lost = table["spectrogram_id"].iloc[0]
    path = own_made / "train_spectrograms" / f"{lost}.parquet"
    frame = pd.read_parquet(path)
    frame.loc[:, frame.columns != "time"] = np.float32("nan")
    frame.to_parquet(path)
    run = prepare(own_made, *FAST)
    excluded = pd.read_csv(run.file("data_package/meta_excluded.csv"))
    assert set(excluded["reason"]) == {"the spectrogram's sub-window has no usable value"}
    assert set(excluded["stage"]) == {"spectrograms"}


def test_sources_without_spectrograms_say_so(small_set, prepare, outputs, tmp_path):
    """A folder that has none, and a kind of source that cannot have any."""
    with pytest.raises(ConfigError, match="train_spectrograms is not a folder"):
        prepare(small_set, *FAST)
    with pytest.raises(ConfigError, match="choose spectrograms=kaggle"):
        prepare(small_set, "stages=[spectrograms]")
    from recordings import noise, write_edf

    write_edf(tmp_path / "a.edf", noise(12_000))
    base = ("data=edf", f"data.root={tmp_path}", f"outputs_dir={outputs}", "spectrograms=kaggle")
    with pytest.raises(ConfigError, match="data=edf has no spectrogram files; choose spectrograms=none"):
        hms.run(hms.compose(*base))


def test_spectrograms_of_the_embedded_set_are_made_when_a_run_asks_for_them(tmp_path: Path) -> None:
    few = {"n_recordings": 4, "n_patients": 2, "seed": 0}
    settings = [f"outputs_dir={tmp_path}", *(f"data.{name}={value}" for name, value in few.items())]
    make_plan(hms.compose(*settings, *FAST[1:], "n_jobs=1"))
    (folder,) = (path for path in (tmp_path / "synthetic").iterdir() if path.is_dir())
    assert not (folder / "train_spectrograms").exists()
    plan = make_plan(hms.compose(*settings, *FAST, "n_jobs=1"))
    assert not plan.unread
    generate(tmp_path / "whole", **few, write_spectrograms=True)
    for name in ("train_eegs", "train_spectrograms"):
        made_now, whole = (
            {path.name: path.read_bytes() for path in (place / name).iterdir()}
            for place in (folder, tmp_path / "whole")
        )
        assert made_now == whole
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f".{folder.name}.lock"}
