"""Items as objects of MNE-Python."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import DOUBLE_BANANA
from small_sets import bipolar_set

from hms.competition import CHANNELS
from hms.errors import ConfigError
from hms.results.run import Run
from hms.results.to_mne import segment_to_mne
from hms.sources.base import Segment


def segment() -> Segment:
    """Return 34 s of noise whose recording starts 2 s into it, with a gap of 5 samples in the window."""
    eeg = (20 * np.random.default_rng(0).standard_normal((20, 6800))).astype(np.float32)
    eeg[:, :400] = np.nan
    eeg[3, 3000:3005] = np.nan
    return Segment(eeg, CHANNELS, 200.0, 2400, (400, 0))


def test_without_mne_the_message_names_the_extra(finished: Run, monkeypatch: pytest.MonkeyPatch):
    """What to install is told whether or not the package is there."""
    original = builtins.__import__

    def refuse(name: str, *more: Any, **settings: Any) -> Any:
        if name == "mne":
            raise ImportError("no mne")
        return original(name, *more, **settings)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'hms-eeg\[mne\]'"):
        finished.to_mne(finished.meta["item_id"].iloc[0])


def test_an_item_that_is_not_there_is_refused_with_the_nearest(finished: Run):
    item_id = finished.meta["item_id"].iloc[0]
    with pytest.raises(ConfigError, match=f"has no item '{item_id}0'"):
        finished.to_mne(f"{item_id}0")


def test_a_segment_is_in_volts_at_10_20_places():
    """20 µV are 2e-5 V; the EKG is no electrode of the head; T3 lies on the left."""
    pytest.importorskip("mne")
    raw = segment_to_mne(segment(), {})
    assert raw.ch_names == list(CHANNELS)
    assert raw.get_channel_types() == ["eeg"] * 19 + ["ecg"]
    np.testing.assert_allclose(raw.get_data()[0], segment().eeg[0, 400:] * 1e-6, rtol=1e-6)
    assert raw.info["chs"][CHANNELS.index("T3")]["loc"][0] < -0.05


def test_window_gaps_and_flags_are_annotated():
    """Two seconds lie before the recording, so the window is at 10 s and the gap at 13 s of what there is."""
    pytest.importorskip("mne")
    notes = segment_to_mne(segment(), {"flat": ("T3", "T5")}).annotations
    found = {text: i for i, text in enumerate(notes.description)}
    assert notes.onset[found["window"]] == pytest.approx(10)
    assert notes.duration[found["window"]] == pytest.approx(10)
    assert notes.onset[found["BAD_gap"]] == pytest.approx(13)
    assert notes.duration[found["BAD_gap"]] == pytest.approx(0.025)
    assert notes.ch_names[found["flat"]] == ("T3", "T5")


def test_an_item_of_a_run_carries_the_flags_of_its_ledger(finished: Run):
    """Every flag of channels.parquet is an annotation with its channels."""
    pytest.importorskip("mne")
    flagged = finished.qc[finished.qc["flagged_channels"].notna()].iloc[0]
    notes = finished.to_mne(flagged["item_id"]).annotations
    stated = {name: i for i, name in enumerate(notes.description)}
    for part in flagged["flagged_channels"].split(";"):
        name, channels = part.split(":")
        assert notes.ch_names[stated[name]] == tuple(channels.split(","))


@pytest.mark.slow
def test_flags_of_an_item_are_annotated_without_channels(prepare: Callable[..., Run], tmp_path: Path):
    """A recording of derivations has them as channels, and the flag of the item over all of it."""
    pytest.importorskip("mne")
    raw = prepare(bipolar_set(tmp_path / "d", 1), "folds=none").to_mne("1000")
    assert set(raw.ch_names) == set(DOUBLE_BANANA)
    assert sorted(raw.annotations.description) == ["unmeasured", "window"]
    assert raw.annotations.ch_names[list(raw.annotations.description).index("unmeasured")] == ()


def test_electrodes_with_a_flag_that_costs_a_grade_are_bad_channels():
    """Mains cost none here, muscle does; the EKG is no electrode."""
    pytest.importorskip("mne")
    flags = {"line": ("O1", "O2"), "muscle": ("T3", "EKG"), "hum": ()}
    assert segment_to_mne(segment(), flags, costly=("muscle", "hum")).info["bads"] == ["T3"]


def test_the_bad_channels_of_an_item_are_those_of_its_ledger(finished: Run):
    pytest.importorskip("mne")
    for row in finished.qc[finished.qc["used"]].head(3).itertuples():
        raw = finished.to_mne(str(row.item_id))
        costly = set(finished.config.qc.grading.costly)
        told = {} if not isinstance(row.flagged_channels, str) else dict(
            part.split(":") for part in row.flagged_channels.split(";")
        )  # fmt: skip
        expected = {name for flag, names in told.items() if flag in costly for name in names.split(",")}
        assert set(raw.info["bads"]) == expected - {"EKG"}
