"""Hum in x's own band, and what else is observed of derivations: tones, rhythms and shares by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import hms
from hms.competition import CHANNELS
from hms.engine.evaluate import evaluate
from hms.quality.hum import STEADY
from hms.quality.ledger import make_ledger
from hms.signal.montage import all_derivations
from hms.sources.base import Segment
from hms.stages.measures import Measures

SFREQ = 200.0
N_CONTEXT, N_WINDOW = 2400, 2000
N = N_WINDOW + 2 * N_CONTEXT
T = np.arange(N) / SFREQ
WINDOW = slice(N_CONTEXT, N_CONTEXT + N_WINDOW)

STAGE = Measures.from_config(hms.compose())
PAIRS = all_derivations(STAGE.derivations.chains)


def brain(seed: int = 0) -> np.ndarray:
    """Return 20 channels of 1/f noise, 20 µV each, half of it common."""
    rng = np.random.default_rng(seed)
    freqs = np.fft.rfftfreq(N, 1 / SFREQ)
    weight = np.where(freqs > 0.3, 1 / np.maximum(freqs, 0.3), 0)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal((21, N))) * weight, n=N)
    noise /= noise.std(axis=1, keepdims=True)
    return 14 * (noise[:20] + noise[20])


def measure(eeg: np.ndarray) -> dict[str, Any]:
    """Return the measures of one item, as a run makes them."""
    segment = Segment(eeg.astype(np.float32), CHANNELS, SFREQ, N_CONTEXT, (0, 0))
    observed = STAGE.arrays(evaluate(STAGE, segment, {}))
    found = STAGE.derive_rows({name: np.asarray(value)[np.newaxis] for name, value in observed.items()})
    return {name: values[0] for name, values in found.items()}


def narrow(low_hz: float, high_hz: float, seed: int) -> np.ndarray:
    """Return a rhythm: noise of unit SD between two frequencies."""
    freqs = np.fft.rfftfreq(N, 1 / SFREQ)
    inside = (freqs >= low_hz) & (freqs <= high_hz)
    noise = np.fft.irfft(np.fft.rfft(np.random.default_rng(seed).standard_normal(N)) * inside, n=N)
    return noise / noise.std()


@pytest.mark.parametrize("tone_hz", [12.0, 16.67, 19.3])
def test_a_tone_at_one_electrode_is_hum_by_its_share_of_the_pair(tone_hz: float):
    """C3 with a tone of 800 µV²: of its pairs' power from 1 Hz to the top, as the filter leaves it."""
    eeg = brain()
    quiet = measure(eeg)
    eeg[CHANNELS.index("C3")] += 40 * np.sin(2 * np.pi * tone_hz * T)
    found = measure(eeg)
    gain_squared = 1 / (1 + (tone_hz / 20) ** 8) ** 2
    tone = 800 * gain_squared
    freqs = np.fft.rfftfreq(N, 1 / SFREQ)
    pair = np.abs(np.fft.rfft(brain()[1] - brain()[2])) ** 2
    background = 2 * pair[(freqs >= 0.75) & (freqs <= 20)].sum() / N**2
    assert quiet["hum_share"] == 0
    assert found["hum_share"] == pytest.approx(tone / (tone + background), abs=0.12)
    assert 0 < found["hum_mean_share"] < found["hum_share"] / 4


def test_a_tone_that_all_electrodes_share_leaves_no_derivation_with_any():
    eeg = brain()
    eeg[:19] += 100 * np.sin(2 * np.pi * 18 * T)
    assert measure(eeg)["hum_share"] == 0


def test_an_x_of_hum_is_hum_in_every_derivation():
    """7 mV of 20 Hz with another phase at each electrode."""
    eeg = brain()
    for row in range(19):
        eeg[row] += 300 * np.sin(2 * np.pi * 20 * T + row)
    found = measure(eeg)
    assert found["hum_mean_share"] > 0.95


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("low_hz", "high_hz"), [(9.5, 10.5), (9, 11), (5.5, 6.5)])
def test_an_alpha_or_theta_rhythm_is_no_hum_however_strong(low_hz: float, high_hz: float, seed: int):
    """A rhythm 1 Hz wide or more, 60 µV at one electrode."""
    eeg = brain(seed)
    eeg[CHANNELS.index("O1")] += 60 * narrow(low_hz, high_hz, seed)
    assert measure(eeg)["hum_share"] == 0


@pytest.mark.parametrize("delta_hz", [1.0, 2.0, 3.5])
def test_rhythmic_delta_is_no_hum_though_it_is_as_regular_as_a_clock(delta_hz: float):
    """Hum is looked for from 5 Hz on; a third harmonic of it is a rhythm below or a small share above."""
    eeg = brain()
    for row in range(19):
        eeg[row] += 80 * np.sin(2 * np.pi * delta_hz * T + row / 5)
    assert measure(eeg)["hum_share"] == 0


def test_a_seizure_that_slows_down_is_no_hum():
    """From 8 to 6 Hz within 16 s, 100 µV; the guideline calls a change by 0.5 Hz evolution."""
    eeg = brain()
    phase = 2 * np.pi * np.cumsum(np.interp(T, [9, 25], [8, 6])) / SFREQ
    for row in range(19):
        eeg[row] += 100 * np.sin(phase + row / 5)
    assert measure(eeg)["hum_share"] == 0


def test_a_tone_of_a_few_seconds_is_no_hum_and_one_of_the_window_alone_is():
    eeg = brain()
    tone = 60 * np.sin(2 * np.pi * 18 * T)
    short, whole = eeg.copy(), eeg.copy()
    short[2, 3000:3800] += tone[3000:3800]
    whole[2, WINDOW] += tone[WINDOW]
    assert measure(short)["hum_share"] == 0
    assert measure(whole)["hum_share"] > 0.2
    assert STEADY < 0.89  # four whole blocks and two halves of six


@pytest.mark.parametrize(
    "added",
    [
        10_000 * np.sin(2 * np.pi * 0.03 * T) * np.linspace(0.5, 1, 20)[:, None],
        50_000 * np.linspace(-1, 1, 20)[:, None] * np.ones(N),
        5000 * np.sin(2 * np.pi * 60 * T) * np.linspace(0.5, 1, 20)[:, None],
        5000 * np.sin(2 * np.pi * 50 * T) * np.linspace(0.5, 1, 20)[:, None],
    ],
    ids=["drift of 10 mV", "offsets of 50 mV", "60 Hz of 5 mV", "50 Hz of 5 mV"],
)
def test_drift_offset_and_mains_of_any_size_cost_no_grade(added: np.ndarray):
    """Each electrode has its own share of them, and the flags that are raised are harmless ones."""
    rows = {name: np.asarray(value)[np.newaxis] for name, value in measure(brain() + added).items()}
    items = pd.DataFrame({"item_id": ["a"], "eeg_id": ["a"]})
    ledger = make_ledger(items, [None], {**rows, "row": np.arange(1)}, hms.compose().qc)
    assert ledger.items["grade"].tolist() == ["good"], ledger.items["raised"].tolist()
    assert ledger.items["raised"].iloc[0] != ""


def test_mains_that_the_filter_takes_out_are_no_hum():
    """7 mV of 60 Hz, other at each electrode, are 1 µV after the filter, and beyond x."""
    eeg = brain()
    for row in range(19):
        eeg[row] += 7000 * np.sin(2 * np.pi * 60 * T + row)
    assert measure(eeg)["hum_share"] == 0


# --- what x rests on -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "span", "expected"),
    [
        ((), slice(0, 0), 0.0),
        (("C3",), WINDOW, 2 / 16),  # F3-C3 and C3-P3
        (("Fp1",), WINDOW, 2 / 16),
        (("C3",), slice(N_CONTEXT, N_CONTEXT + 1000), 1 / 16),
        (("C3", "P3"), WINDOW, 3 / 16),
        (CHANNELS, slice(N_CONTEXT, N_CONTEXT + 600), 0.3),
        (("Cz",), WINDOW, 0.0),  # no part of the montage
    ],
)
@pytest.mark.parametrize("value", [np.nan, 12.5])
def test_gaps_and_flat_stretches_count_by_the_derivations_that_rest_on_them(
    names: tuple[str, ...], span: slice, expected: float, value: float
):
    """Flat for 3 s is no stretch; so the case of 3 s of all channels is one of gaps alone."""
    if span.stop - span.start == 600 and not np.isnan(value):
        expected = 0.0
    eeg = brain()
    eeg[[CHANNELS.index(name) for name in names], span] = value
    assert measure(eeg)["lost_share"] == pytest.approx(expected)


def test_a_dead_electrode_counts_with_all_of_its_pairs():
    eeg = brain()
    eeg[CHANNELS.index("T3")] = 0
    found = measure(eeg)
    assert found["lost_share"] == pytest.approx(2 / 16)
    assert found["dead_derivations"] == 2


def test_a_burst_is_what_four_derivations_have_over_three_times_their_usual():
    """Two seconds of 300 µV more at C3 and T4, in four pairs; at C3 alone, in two, it is no movement."""
    eeg = brain()
    burst = np.zeros(N)
    burst[3200:3600] = 150 * np.sin(2 * np.pi * 1.5 * T[:400])
    eeg[CHANNELS.index("C3")] += burst
    assert measure(eeg)["burst_uv"] == 0
    eeg[CHANNELS.index("T4")] += burst
    found = measure(eeg)["burst_uv"]
    assert 50 < found < 300


def test_an_amplitude_that_lasts_is_no_burst():
    """The same at all times: a seizure in its course."""
    eeg = brain()
    for row in range(19):
        eeg[row] += 200 * np.sin(2 * np.pi * 3 * T + row)
    assert measure(eeg)["burst_uv"] == 0
