"""What the viewer shows of a recording: the run's own numbers, and what no file of a run holds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_sets import bipolar_set, noise, write_set

import hms
from hms.browse.montages import side_of
from hms.browse.signals import Signals, Traces, Wanted, spectrum_of
from hms.errors import ConfigError
from hms.results.run import Run

WINDOW = Wanted(start_s=20.0, length_s=10.0, montage="prepared", band="prepared")
FEW = "stages=[waveforms,labels,splits]"


def prepared(root: Path, outputs: Path, *overrides: str) -> Run:
    base = ("data=kaggle", f"data.root={root}", f"outputs_dir={outputs}", "n_jobs=1", FEW)
    return hms.run(hms.compose(*base, *overrides))


def sine(hz: float, amplitude_uv: float) -> np.ndarray:
    return amplitude_uv * np.sin(2 * np.pi * hz * np.arange(10_000) / 200)


def test_the_window_as_prepared_is_bit_for_bit_what_the_run_computes(finished: Run) -> None:
    item = finished.meta.iloc[3]
    wanted = replace(WINDOW, start_s=float(item["window_start_s"]))
    page = Signals(finished).page(item["item_id"], wanted)
    derived = finished.evaluate(item["item_id"], "derivations")
    assert page.names[:16] == Signals(finished).views["prepared"].rows
    assert np.array_equal(page.values[:16], derived.window)
    assert page.names[16:] == ("EKG",)
    assert (page.sfreq, page.missing) == (200.0, "")


def test_electrodes_as_recorded_are_the_file_less_its_median(finished: Run, small_set: Path) -> None:
    item = finished.meta["item_id"].iloc[0]
    page = Signals(finished).page(item, Wanted(4.0, 10.0, "recorded", "recorded"))
    file = pd.read_parquet(small_set / "train_eegs" / f"{item}.parquet")
    cut = file.iloc[800:2800]
    for name in ("Fp1", "Cz", "O2", "EKG"):
        expected = cut[name] - cut[name].median()
        assert np.allclose(page.values[page.names.index(name)], expected, atol=1e-2, equal_nan=True)


def test_a_page_reaches_beyond_the_window_and_ends_with_the_recording(finished: Run, small_set: Path) -> None:
    item = finished.meta["item_id"].iloc[0]
    length_s = len(pd.read_parquet(small_set / "train_eegs" / f"{item}.parquet")) / 200
    page = Signals(finished).page(item, Wanted(length_s - 4, 10.0, "banana", "prepared"))
    assert page.duration_s == length_s
    assert np.isfinite(page.values[:, :800]).all()
    assert np.isnan(page.values[:, 800:]).all()
    before = Signals(finished).page(item, Wanted(-3.0, 10.0, "banana", "recorded"))
    assert np.isnan(before.values[:, :600]).all()
    assert np.isfinite(before.values[:, 600:]).all()


@pytest.mark.slow
def test_gaps_are_told_and_left_open_as_recorded_but_filled_as_prepared(
    tmp_path: Path, outputs: Path
) -> None:
    eeg = noise(0)
    eeg[4, 4400:4440] = np.nan
    run = prepared(write_set(tmp_path / "d", [eeg, noise(1)], [0, 1], [0, 1]), outputs, "folds=none")
    signals = Signals(run)
    item = run.meta["item_id"].iloc[0]
    raw = signals.page(item, Wanted(20.0, 10.0, "recorded", "recorded"))
    assert raw.gaps == ((22.0, 22.2),)
    row = raw.values[raw.names.index("F7")]
    assert np.isnan(row[400:440]).all()
    assert np.isfinite(np.delete(row, np.arange(400, 440))).all()
    assert np.isfinite(signals.page(item, WINDOW).values).all()


@pytest.mark.slow
def test_a_notch_takes_out_the_mains_alone(tmp_path: Path, outputs: Path) -> None:
    eeg = np.tile(sine(60, 50) + sine(9, 20), (20, 1)) * np.linspace(1, 2, 20)[:, np.newaxis]
    run = prepared(write_set(tmp_path / "d", [eeg, noise(1)], [0, 1], [0, 1]), outputs, "folds=none")
    item = run.meta["item_id"].iloc[0]
    page = Signals(run).page(item, Wanted(20.0, 10.0, "recorded", "recorded", notch_hz=60))
    assert np.allclose(page.values[page.names.index("Fp1")], sine(9, 20)[4000:6000], atol=0.4)


def test_an_average_reference_sums_to_nothing_and_ears_that_lack_are_said(finished: Run) -> None:
    signals, item = Signals(finished), finished.meta["item_id"].iloc[0]
    page = signals.page(item, replace(WINDOW, montage="average"))
    assert page.names[-1] == "EKG"
    assert np.allclose(page.values[:-1].sum(axis=0), 0, atol=0.05)
    with pytest.raises(ConfigError, match="linked_ears needs the channel A1"):
        signals.page(item, replace(WINDOW, montage="ears"))


@pytest.mark.slow
def test_a_dead_electrode_strikes_its_pairs(tmp_path: Path, outputs: Path) -> None:
    eeg = noise(0)
    eeg[5] = 7.0  # T3
    run = prepared(write_set(tmp_path / "d", [eeg, noise(1)], [0, 1], [0, 1]), outputs, "folds=none")
    page = Signals(run).page(run.meta["item_id"].iloc[0], replace(WINDOW, montage="banana"))
    assert [name for name, dead in zip(page.names, page.dead, strict=True) if dead] == ["F7-T3", "T3-T5"]


@pytest.mark.slow
def test_a_bipolar_recording_shows_its_pairs_and_says_which_it_lacks(tmp_path: Path, outputs: Path) -> None:
    run = prepared(bipolar_set(tmp_path / "d", 2), outputs, "folds=none")
    signals, item = Signals(run), run.meta["item_id"].iloc[0]
    page = signals.page(item, replace(WINDOW, montage="banana"))
    assert page.names[:4] == ("Fp1-F7", "F7-T3", "T3-T5", "T5-O1")
    assert page.missing == "The recording has nothing to form Fz-Cz, Cz-Pz of."
    with pytest.raises(ConfigError, match="none of the channels of this montage"):
        signals.page(item, replace(WINDOW, montage="average"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["files", "shards"])
def test_without_recordings_the_package_is_shown_and_what_is_lacking_is_said(
    form: str, own_set: Path, outputs: Path, tmp_path: Path
) -> None:
    run = prepared(own_set, outputs, f"package.format={form}")
    shutil.rmtree(own_set)
    signals, item = Signals(run), run.meta.iloc[2]
    start_s = float(item["window_start_s"])
    page = signals.page(item["item_id"], replace(WINDOW, start_s=start_s - 2))
    assert page.names == ("LL", "LP", "RL", "RP")
    assert np.isnan(page.values[:, :400]).all()
    assert np.array_equal(page.values[:, 400:], run.wave(item["item_id"])[:, :1600])
    assert "is neither a folder" in page.missing
    assert "the rest of the recording and the signal as recorded cannot be" in page.missing


@pytest.mark.slow
def test_a_left_out_item_is_found_in_the_source(small_set: Path, outputs: Path, tmp_path: Path) -> None:
    first = prepared(small_set, outputs)
    item = first.meta["item_id"].iloc[1]
    marks = tmp_path / "marks.csv"
    marks.write_text(f"item_id,mark\n{item},exclude\n")
    run = prepared(small_set, outputs, "marks=file", f"marks.path={marks}")
    assert item not in set(run.meta["item_id"])
    signals = Signals(run)
    assert signals.window_of(item) == Signals(first).window_of(item)
    assert np.isfinite(signals.page(item, WINDOW).values).all()


def test_few_recordings_stay_open(finished: Run) -> None:
    signals = Signals(finished)
    for item in [*finished.meta["item_id"], *finished.meta["item_id"]]:
        signals.page(item, WINDOW)
    assert len(signals._open) == 4


def test_the_spectrum_of_a_sine_peaks_at_its_frequency_with_its_power() -> None:
    values = np.stack([sine(6, 30), np.full(10_000, np.nan)]).astype(np.float32)
    found = spectrum_of(Traces(("a", "b"), values, np.zeros(2, bool), 0.0, 200.0, (), 50.0))
    peak = int(np.argmax(found.power_db[0]))
    assert found.freqs_hz[peak] == 6.0
    power = 10 ** (found.power_db[0, peak - 3 : peak + 4] / 10)
    assert power.sum() * 0.5 == pytest.approx(30**2 / 2, rel=0.01)
    assert np.isnan(found.power_db[1]).all()


@pytest.mark.parametrize(
    ("name", "side"),
    [("Fp1-F7", "left"), ("F8-T4", "right"), ("Fz-Cz", "midline"), ("Cz", "midline"), ("EKG", "ekg"),
     ("C3-C4", "other"), ("LL", "other")],
)  # fmt: skip
def test_odd_electrodes_are_left(name: str, side: str) -> None:
    assert side_of(name) == side
