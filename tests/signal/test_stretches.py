"""Overlapping windows that share filter and transform: as exact as alone, the same bits however made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import tree_bytes
from scipy.fft import fft, fftfreq, ifft
from scipy.signal import butter, sosfiltfilt

import hms
from hms.competition import CHANNELS
from hms.config.schema import Config, build_config
from hms.engine.evaluate import evaluate
from hms.engine.inference import ArrayRecording, item_stage
from hms.pipeline.selection import block_margins_s, block_seconds, needed_channels, needed_context_s
from hms.quality.inspection import inspect_segment, inspect_segments
from hms.signal import stretches
from hms.sources.base import Reader
from hms.stages.scalograms import Scalograms

ALONE = "data.transform_s=0"


def composed(*overrides: str) -> Config:
    return build_config(hms.compose("data=kaggle", "unit=per_row", *overrides))


def recording(eeg: np.ndarray) -> ArrayRecording:
    return ArrayRecording(eeg.astype(np.float32), CHANNELS, {})


def slow_noise(duration_s: float, seed: int = 0) -> np.ndarray:
    """Return 20 channels of 1/f noise of some 30 µV."""
    n_samples = round(duration_s * 200)
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal((len(CHANNELS), n_samples)))
    spectrum /= np.maximum(np.arange(spectrum.shape[1]), 0.3 * duration_s)
    eeg: np.ndarray = np.fft.irfft(spectrum, n=n_samples)
    return 30 * eeg / eeg.std()


def powers(cfg: Config, of: ArrayRecording, starts: Sequence[float]) -> list[np.ndarray]:
    """Return the power of windows that start at some seconds, read by one reader in this order."""
    stage = item_stage(cfg, "scalograms")
    reader = Reader(
        of,
        cfg.at("window.length_s"),
        needed_context_s([stage]),
        needed_channels([stage]),
        block_seconds(cfg),
        block_margins_s(cfg),
    )
    return [evaluate(stage, reader.segment(start), {}).power for start in starts]


def worst(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return the largest error, of the maximum of its row."""
    return max(
        float((abs(a - b) / b.max(axis=-1, keepdims=True)).max())
        for a, b in zip(found, expected, strict=True)
    )


def dense(eeg: np.ndarray, starts: Sequence[float], cfg: Config) -> list[np.ndarray]:
    """Return the power in float64 with the whole recording as context: SciPy's filter, one FFT a wavelet."""
    sos = butter(4, [0.5, 20], "bandpass", fs=200, output="sos")
    filtered = dict(
        zip(CHANNELS, np.clip(sosfiltfilt(sos, eeg - eeg.mean(axis=1)[:, None]), -500, 500), strict=True)
    )
    pairs = [name.split("-") for name in cfg.montage.derivations]
    spectra = fft(np.array([filtered[anode] - filtered[cathode] for anode, cathode in pairs]))
    freqs = fftfreq(eeg.shape[1], 1 / 200)
    frames = [slice(round(start * 200), round((start + 10) * 200), cfg.cwt.hop) for start in starts]
    found = np.empty((len(starts), 4, cfg.cwt.n_freqs, 2000 // cfg.cwt.hop))
    for row, centre in enumerate(np.geomspace(cfg.cwt.min_hz, cfg.cwt.max_hz, cfg.cwt.n_freqs)):
        response = np.exp(-0.5 * (cfg.cwt.w0 * (freqs / centre - 1)) ** 2) * (freqs > 0)
        power = (abs(ifft(spectra * response)) ** 2).reshape(4, 4, -1).mean(axis=1)
        found[:, :, row] = [power[:, frame] for frame in frames]
    return list(found)


@pytest.mark.slow
def test_windows_cut_from_stretches_have_the_power_of_a_transform_of_the_whole_recording():
    """300 s; windows across stretches, across the blocks' border at 120 s, and the last one there is."""
    eeg, cfg, starts = slow_noise(300), composed(), (20.0, 28.0, 34.0, 110.0, 138.0, 140.0, 250.0, 270.0)
    assert worst(powers(cfg, recording(eeg), starts), dense(eeg, starts, cfg)) < 2e-5


@pytest.mark.slow
def test_a_quiet_window_is_as_exact_beside_an_artifact_in_its_stretch():
    """1 µV of noise, and 4 mV from 5 s to 10 s after the last window; in float32 it is off by 5e-4."""
    eeg, cfg, starts = slow_noise(200) / 30, composed("cwt.min_hz=1"), (40.0, 44.0, 60.0)
    eeg[:, 75 * 200 : 80 * 200] += 4000
    assert worst(powers(cfg, recording(eeg), starts), dense(eeg, starts, cfg)) < 1e-5


@pytest.mark.parametrize(
    ("overrides", "block", "starts", "bound"),
    [
        (("cwt.hop=5", "montage=bipolar16"), (), (22.0, 36.0), 1e-4),
        (("cwt=ricker",), ("data.transform_s=35",), (40.0, 62.0), 1.5e-4),
        (("cwt=superlet", "cwt.n_freqs=6", "cwt.min_hz=2", "cwt.max_hz=10"), (), (40.0,), 1e-4),
        (("cwt.backend=pywt", "cwt.n_freqs=4"), (), (40.0, 54.0), 1e-4),
        (("window=full50",), ("data.block_s=90",), (40.0, 170.0), 1e-4),
    ],
)
def test_a_window_cut_from_stretches_has_the_power_that_it_has_alone(overrides, block, starts, bound):
    of = recording(slow_noise(300))
    shared, alone = composed(*overrides, *block), composed(*overrides, ALONE)
    assert worst(powers(shared, of, starts), powers(alone, of, starts)) < bound


@pytest.mark.parametrize(
    ("block_s", "expected_s"),
    [
        (11.2, 10),  # two that overlap, as lengths are multiples of 2 s
        (18, 18),
        (26, 26),
        (27, 14),
        (60, 20),
        (130, 26),
    ],
)
def test_a_block_is_parted_into_few_stretches_of_about_one_length(block_s, expected_s):
    """At 25 frames a second and no more than 26 s."""
    assert stretches._length(round(block_s * 25), 26 * 25, 50) == expected_s * 25


def test_recordings_of_many_lengths_need_few_plans():
    lengths = {stretches._length(n_frames, 26 * 25, 50) for n_frames in range(11 * 25, 131 * 25)}
    assert len(lengths) <= 9


@pytest.mark.parametrize("overrides", [(), ("window=full50", "data.block_s=90"), ("montage=referential",)])
def test_the_bits_of_a_window_do_not_depend_on_which_others_are_made(overrides):
    """Gaps inside and at both ends; a channel that is dead in some windows only."""
    eeg = slow_noise(260)
    eeg[3, 7000:7003] = eeg[:, :200] = eeg[:, -300:] = np.nan
    eeg[5, 100 * 200 :] = 7
    of, cfg = recording(eeg), composed(*overrides)
    starts = [20.0, 22.0, 96.0, 118.0, 150.0, 210.0]
    together = powers(cfg, of, starts)
    backwards = powers(cfg, of, starts[::-1])[::-1]
    each = [powers(cfg, of, [start])[0] for start in starts]
    for a, b, c in zip(together, backwards, each, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()


def test_what_is_inspected_of_a_window_has_the_bits_that_it_has_without_those_it_shares():
    """A gap, which is bridged in each window alone; starts between two; both ends of the recording."""
    eeg = slow_noise(170)
    eeg[3, 7000:7003] = np.nan
    starts = (0.0, 2.0, 30.0, 31.3, 60.0, 62.0, 63.0, 100.0, 130.0, 156.0, 160.0)
    reader = Reader(recording(eeg), 10.0, 12.0, CHANNELS, 120.0, (0.0, 0.0))
    n_shared = 0
    segments = [reader.segment(start) for start in starts]
    for some in (segments, [segment.narrowed(1800) for segment in segments]):
        together = inspect_segments([replace(of) for of in some])
        for of, beside in zip(some, together, strict=True):
            alone, expected = inspect_segment(of), inspect_segment(replace(of, block=None))
            for found in (alone, beside):
                for name in ("power", "spectra", "lost"):
                    assert np.array_equal(getattr(found, name), getattr(expected, name))
                for name, values in expected.channels.items():
                    assert np.asarray(found.channels[name]).tobytes() == np.asarray(values).tobytes()
                n_shared += found.spectra.base is not None and found.spectra.base.shape[1] > 8
    assert n_shared == 2 * 2 * 6


@pytest.mark.parametrize(
    ("duration_s", "start_s"),
    [
        (300, 41.01),  # between two frames
        (50, 20.0),  # all of its block
    ],
)
def test_a_window_that_has_no_stretch_is_transformed_alone(duration_s, start_s):
    """With the bits of the plan for windows, on the derivations of the block."""
    of, cfg = recording(slow_noise(duration_s)), composed()
    stage = item_stage(cfg, "scalograms")
    assert isinstance(stage, Scalograms)
    reader = Reader(
        of, 10.0, needed_context_s([stage]), needed_channels([stage]), 120.0, block_margins_s(cfg)
    )
    memo: dict[str, object] = {}
    power = evaluate(stage, reader.segment(start_s), memo).power
    derived = memo[stage.derivations.key]
    alone = hms.signal.cwt.plan_cwt(cfg.cwt, sfreq=200.0, n_context=2400, n_window=2000)
    groups = tuple(tuple(range(4 * chain, 4 * chain + 4)) for chain in range(4))
    assert power.tobytes() == alone.power(derived.values, groups).tobytes()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("data=kaggle",), 0),
        (("data=kaggle", "unit=per_pattern"), 0),
        (("data=kaggle", "unit=per_row"), 26),
        (("data=synthetic", "unit=per_row", "window=full50"), 26),
        (("data=kaggle", "data.transform_s=30"), 30),
        (("data=kaggle", "unit=per_row", "data.transform_s=0"), 0),
        (("data=edf", "unit=per_row"), 0),
        (("data=edf", "unit=per_row", "data.step_s=2"), 26),
        (("data=edf", "unit=per_row", "data.step_s=10"), 0),
        (("data=edf", "unit=per_row", "data.step_s=10", "window=full50"), 26),
        (("data=edf", "unit=per_row", "data.step_s=2", "data.windows=a.csv"), 0),
        (("data=edf", "unit=per_row", "data.step_s=2", "data.block_s=null"), 0),
        (("data=iiic", "unit=per_row"), 0),
    ],
)
def test_windows_share_transforms_by_default_where_every_row_is_an_item_and_rows_overlap(overrides, expected):
    reading = item_stage(build_config(hms.compose(*overrides)), "reading")
    assert reading.transform_s == expected
    assert reading.block_s == (
        120 if expected or ("data=edf" in overrides and "null" not in overrides[-1]) else None
    )


def test_windows_that_share_nothing_have_the_keys_of_before():
    """Settings that came later are in no key where they change nothing."""
    alone = item_stage(composed(ALONE), "scalograms")
    assert alone.key == item_stage(build_config(hms.compose("data=kaggle")), "scalograms").key
    assert not {"data.transform_s", "derived.margins_s"} & set(alone.all_settings())
    shared = item_stage(composed(), "scalograms").all_settings()
    assert (shared["data.transform_s"], shared["derived.margins_s"]) == (26.0, [20.0, 20.0])


def test_a_stretch_longer_than_its_block_is_refused():
    cfg = composed("data.block_s=60", "data.transform_s=61")
    with pytest.raises(hms.errors.ConfigError, match=r"data.transform_s=61 .* at most data.block_s=60"):
        item_stage(cfg, "scalograms")


# --- runs ----------------------------------------------------------------------------------------


def write_rows(folder: Path, rows: dict[int, Sequence[float]]) -> Path:
    """Write recordings of 120 s with rows at some offsets, three votes each."""
    (folder / "train_eegs").mkdir(parents=True)
    table = []
    for number, (eeg_id, offsets) in enumerate(rows.items()):
        path = folder / "train_eegs" / f"{eeg_id}.parquet"
        pd.DataFrame(slow_noise(120, number).T.astype(np.float32), columns=list(CHANNELS)).to_parquet(path)
        table += [
            {"eeg_id": eeg_id, "eeg_sub_id": round(at / 2), "at": at, "patient_id": number} for at in offsets
        ]
    frame = pd.DataFrame(table).rename(columns={"at": "eeg_label_offset_seconds"})
    frame["label_id"] = np.arange(len(frame))
    frame["spectrogram_id"] = frame["spectrogram_sub_id"] = frame["spectrogram_label_offset_seconds"] = 0
    for name in hms.competition.VOTE_COLUMNS:
        frame[name] = 3 * (name == "lpd_vote")
    frame.assign(expert_consensus="LPD").to_csv(folder / "train.csv", index=False)
    return folder


@pytest.fixture
def prepare_rows(tmp_path: Path) -> Callable[..., hms.results.run.Run]:
    def call(root: Path, outputs: str, *overrides: str) -> hms.results.run.Run:
        base = ("data=kaggle", f"data.root={root}", f"outputs_dir={tmp_path / outputs}", "unit=per_row")
        return hms.run(hms.compose(*base, "n_jobs=1", "stages=[scalograms,waveforms,quality]", *overrides))

    return call


@pytest.mark.slow
def test_every_row_of_a_run_has_the_bits_that_it_has_in_any_other(prepare_rows, tmp_path):
    """Rows out of order, some of them in the store before the others, shards, and `hms.transform`."""
    rows = {1: (0.0, 64.0, 6.0, 30.0, 34.0), 2: (10.0, 2.0, 50.0)}
    root = write_rows(tmp_path / "all", rows)
    whole = prepare_rows(root, "whole")
    assert whole.config.at("data.transform_s") == 26.0
    some = write_rows(tmp_path / "some", {1: (34.0, 6.0), 2: (50.0,)})
    (some / "train.csv").replace(tmp_path / "few.csv")
    few = prepare_rows(write_rows(tmp_path / "few", {1: (34.0, 6.0), 2: (50.0,)}), "parts")
    later = prepare_rows(root, "parts")
    shards = prepare_rows(root, "shards", "package.format=shards")
    assert tree_bytes(later.path) == tree_bytes(whole.path)
    for item_id, at in zip(whole.meta["item_id"], whole.meta["window_start_s"], strict=True):
        spec = whole.spec(item_id)
        assert spec.tobytes() == shards.spec(item_id).tobytes()
        path = root / "train_eegs" / f"{item_id.partition('_')[0]}.parquet"
        made = hms.transform(path, whole, offset_s=at - 20)
        assert (made.spec.tobytes(), made.wave.tobytes()) == (spec.tobytes(), whole.wave(item_id).tobytes())
    for item_id in few.meta["item_id"]:
        assert few.spec(item_id).tobytes() == whole.spec(item_id).tobytes()
