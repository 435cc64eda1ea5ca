"""One recording through `hms.transform`, and a test set through a run's frozen settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Prepared

import hms
from hms.engine import inference
from hms.errors import ConfigError
from hms.results.run import Run


def first_item(run: Run) -> tuple[str, float]:
    """Return an item and the offset of its sub-window: the window starts 20 s into it."""
    return run.meta["item_id"].iloc[0], float(run.meta["window_start_s"].iloc[0]) - 20


def recording(folder: Path, item_id: str) -> pd.DataFrame:
    return pd.read_parquet(folder / "train_eegs" / f"{item_id}.parquet")


# --- one recording -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["frame", "array", "path"])
@pytest.mark.parametrize("like", ["run", "config"])
def test_a_recording_becomes_the_same_bits_that_the_run_wrote(
    finished: Run, small_set: Path, form: str, like: str
) -> None:
    item_id, offset_s = first_item(finished)
    frame = recording(small_set, item_id)
    given = {
        "frame": frame,
        "array": frame.to_numpy().T,
        "path": small_set / "train_eegs" / f"{item_id}.parquet",
    }
    got = hms.transform(
        given[form],
        finished if like == "run" else finished.config,
        channels=list(frame.columns) if form == "array" else None,
        offset_s=offset_s,
    )
    assert got.spec.tobytes() == finished.spec(item_id).tobytes()
    assert got.wave.tobytes() == finished.wave(item_id).tobytes()
    assert got.freqs.tobytes() == finished.freqs.tobytes()
    assert got.fs == 200


def test_a_list_gives_the_bits_of_each_alone_whatever_stands_beside_it(
    finished: Run, small_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hms.engine.inference.TOGETHER", 3)
    ids = finished.meta["item_id"].tolist()[:7]
    offsets = (finished.meta["window_start_s"] - 20).tolist()[:7]
    paths = [small_set / "train_eegs" / f"{item_id}.parquet" for item_id in ids]
    mixed = [path if i % 2 else pd.read_parquet(path) for i, path in enumerate(paths)]
    got = hms.transform(mixed, finished, offset_s=offsets)
    assert [x.spec.tobytes() for x in got] == [finished.spec(item_id).tobytes() for item_id in ids]
    assert [x.wave.tobytes() for x in got] == [finished.wave(item_id).tobytes() for item_id in ids]
    assert hms.transform([], finished) == []


@pytest.mark.parametrize("form", ["frame", "path"])
def test_a_recording_that_a_list_names_again_and_again_is_opened_once(
    small_set: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Windows that overlap share what they can, and have the bits of each alone."""
    rows = pd.read_csv(small_set / "train.csv").groupby("eeg_id")["eeg_label_offset_seconds"]
    eeg_id, offsets = max(rows, key=lambda of: len(of[1]))
    path = small_set / "train_eegs" / f"{eeg_id}.parquet"
    cfg = hms.compose("data=kaggle", "unit=per_row", "stages=[scalograms]", "cwt.n_freqs=4", "cwt.hop=40")
    alone = [hms.transform(path, cfg, offset_s=at).spec.tobytes() for at in offsets[:4]]
    opened = []
    real = inference._open
    monkeypatch.setattr(inference, "_open", lambda *given: opened.append(given) or real(*given))
    same = [pd.read_parquet(path)] * 4 if form == "frame" else [str(path), path, path, str(path)]
    got = hms.transform(same, cfg, offset_s=offsets[:4].tolist())
    assert [prepared.spec.tobytes() for prepared in got] == alone
    assert len(alone) == 4
    assert len(opened) == 1


def test_of_a_list_the_one_that_cannot_be_prepared_is_named(finished: Run, small_set: Path) -> None:
    item_id, offset_s = first_item(finished)
    whole = recording(small_set, item_id)
    with pytest.raises(ValueError, match=r"^recording 1 cannot be prepared: the window ends at"):
        hms.transform([whole, whole.iloc[:900], whole], finished, offset_s=offset_s)
    with pytest.raises(ValueError, match="a list of recordings cannot be combined with a spectrogram"):
        hms.transform([whole], finished, spectrogram=whole)


def test_order_and_spelling_of_channels_do_not_matter(finished: Run, small_set: Path) -> None:
    item_id, offset_s = first_item(finished)
    frame = recording(small_set, item_id).iloc[:, ::-1]
    spelled = frame.rename(columns={"T3": "EEG T7-REF", "Fp1": "EEG FP1-REF"})
    got = hms.transform(spelled, finished, offset_s=offset_s)
    assert got.spec.tobytes() == finished.spec(item_id).tobytes()


def test_what_the_configuration_does_not_make_is_none(finished: Run, small_set: Path) -> None:
    item_id, offset_s = first_item(finished)
    cfg = finished.config.override("stages=[waveforms]")
    got = hms.transform(recording(small_set, item_id), cfg, offset_s=offset_s)
    assert got.spec is None
    assert got.wave.tobytes() == finished.wave(item_id).tobytes()


def test_the_recording_given_is_not_changed(finished: Run, small_set: Path) -> None:
    frame = recording(small_set, first_item(finished)[0])
    before = frame.copy()
    hms.transform(frame, finished)
    pd.testing.assert_frame_equal(frame, before)


def test_columns_that_are_no_channels_may_hold_anything(finished: Run, small_set: Path) -> None:
    frame = recording(small_set, first_item(finished)[0])
    got = hms.transform(frame.assign(note="seen", day=pd.Timestamp("2024-01-01")), finished)
    assert got.wave.tobytes() == hms.transform(frame, finished).wave.tobytes()


def test_masked_samples_are_gaps(finished: Run, small_set: Path) -> None:
    frame = recording(small_set, first_item(finished)[0])
    eeg = np.ascontiguousarray(frame.to_numpy().T)
    mask = np.zeros(eeg.shape, bool)
    mask[:, 5000:5003] = True
    behind = np.where(mask, 1e300, eeg.astype(np.float64))  # what is masked may be anything
    got = hms.transform(np.ma.masked_array(behind, mask), finished, channels=list(frame))
    assert got.wave.tobytes() == hms.transform(frame.mask(mask.T), finished).wave.tobytes()


def test_a_recording_that_cannot_be_prepared_is_refused_with_the_reason(
    finished: Run, small_set: Path
) -> None:
    frame = recording(small_set, first_item(finished)[0])
    cases = [
        (frame.iloc[:4000], {}, "the window ends at 30 s but the recording lasts 20 s"),
        (frame.drop(columns="F7"), {}, "F7"),
        (frame * np.nan, {}, "no usable|no channel has a usable sample"),
        (frame.to_numpy().T, {}, r"an array does not name its channels; give channels="),
        (frame.to_numpy(), {"channels": list(frame)}, r"shape \(n_channels, n_samples\); got"),
        (frame, {"sfreq": 256.0}, "sfreq=256 Hz, but recordings are prepared at 200 Hz"),
        (frame, {"offset_s": [0, 2]}, r"offset_s is a number of seconds, or one for each of 1; got \[0, 2\]"),
        (frame, {"offset_s": np.nan}, "offset_s is a number of seconds, .* got nan"),
        (frame, {"sfreq": None}, "sfreq=None Hz, but recordings are prepared at 200 Hz"),
        (frame.to_numpy(), {"channels": list(frame)}, "; transpose it"),
        (
            frame.to_numpy().T * 1j,
            {"channels": list(frame)},
            "samples are real numbers in µV; got an array of comp",
        ),
        (frame.to_numpy().T > 0, {"channels": list(frame)}, "got an array of bool"),
        (frame.assign(F7="flat"), {}, "column 'F7' holds more than numbers"),
        (5, {}, "a recording is a DataFrame, the path of .* got int"),
        (Path("nowhere.parquet"), {}, "nowhere.parquet does not exist"),
        (Path("x.csv"), {}, "x.csv is not a parquet file"),
    ]
    for given, settings, text in cases:
        with pytest.raises(ValueError, match=text):
            hms.transform(given, finished, **settings)


# --- a test set ----------------------------------------------------------------------------------


def on_test(folder: Path, run: Run, *more: str) -> tuple[str, ...]:
    return (
        "data=kaggle",
        "data.subset=test",
        f"data.root={folder}",
        f"from_run={run.path}",
        f"outputs_dir={folder.parent / 'out'}",
        "n_jobs=1",
        *more,
    )


@pytest.mark.slow
def test_test_recordings_are_prepared_as_the_run_prepared_its_own(finished: Run, test_set: Path) -> None:
    """Cut to 50 s a recording still holds its window and all context, so that x is the same bits."""
    run = hms.run(hms.compose(*on_test(test_set, finished)))
    assert run.meta["item_id"].tolist() == finished.meta["item_id"].tolist()
    assert (run.meta["window_start_s"] == 20).all()
    for item_id in run.meta["item_id"]:
        assert run.spec(item_id).tobytes() == finished.spec(item_id).tobytes()
    files = run.manifest["files"]
    assert "data_package/labels.npz" not in files
    assert "data_package/splits.npz" not in files


@pytest.mark.slow
def test_settings_come_from_the_run_and_not_from_the_defaults(small_set: Path, test_set: Path) -> None:
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={test_set.parent / 'o'}", "n_jobs=1")
    other = hms.run(hms.compose(*base, "cwt=gmw", "cwt.n_freqs=16", "stages=[scalograms]"))
    cfg = hms.compose(*on_test(test_set, other))
    assert cfg.cwt.kind == "gmw"
    assert cfg.stages == ("scalograms",)
    run = hms.run(cfg)
    assert run.spec(run.meta["item_id"].iloc[0]).shape == (4, 16, 250)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("cwt=gmw", "cwt.kind is morlet in that run but is gmw here; leave cwt out"),
        ("cwt.n_freqs=32", "cwt.n_freqs is 48 in that run but is 32 here; leave cwt.n_freqs out"),
        ("filter.high_hz=30", "filter.high_hz is 20.0 in that run but is 30.0 here"),
        ("window=full50", "window.length_s is 10.0 in that run but is 50.0 here"),
    ],
)
def test_a_setting_that_contradicts_the_run_is_refused(
    finished: Run, test_set: Path, override: str, text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        hms.compose(*on_test(test_set, finished, override))


@pytest.mark.slow
def test_a_setting_that_repeats_the_run_is_taken(finished: Run, test_set: Path) -> None:
    assert (
        hms.compose(*on_test(test_set, finished, "cwt=morlet", "cwt.n_freqs=48")).cwt == finished.config.cwt
    )


@pytest.mark.slow
def test_a_configuration_changed_after_composing_is_refused_too(finished: Run, test_set: Path) -> None:
    cfg = hms.compose(*on_test(test_set, finished)).override("cwt.n_freqs=32")
    with pytest.raises(ConfigError, match=r"cwt.n_freqs is 48 in that run but is 32 here"):
        hms.run(cfg)


def test_a_run_that_is_not_there_is_named(command: Callable[..., Prepared]) -> None:
    done = command("from_run=abcdef", "data=kaggle", "data.subset=test")
    assert done.code == 2
    assert "from_run: no finished run 'abcdef'" in done.err


@pytest.mark.slow
def test_folds_of_other_recordings_are_their_own(finished: Run) -> None:
    """Two patients with votes, say, cannot be divided as the run's hundreds were."""
    cfg = hms.compose("data=kaggle", f"from_run={finished.path}", "folds=none")
    assert cfg.at("folds.kind") == "none"
    assert cfg.at("cwt.n_freqs") == finished.config.at("cwt.n_freqs")


def test_an_experiment_beside_a_run_is_refused_and_not_quietly_replaced(
    finished: Run, test_set: Path
) -> None:
    with pytest.raises(ConfigError, match="an experiment has its own; leave one of them out"):
        hms.compose(*on_test(test_set, finished, "experiment=published"))


@pytest.mark.slow
def test_a_test_table_without_a_run_makes_what_needs_no_votes(
    test_set: Path, command: Callable[..., Prepared]
) -> None:
    done = command("data=kaggle", "data.subset=test", f"data.root={test_set}", "stages=[waveforms,labels]")
    assert done.code == 0, done.err
    assert "labels" in done.err
