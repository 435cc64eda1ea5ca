"""Measures of one recording, against closed forms, dense sums and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

import hms
from hms.competition import CHANNELS, EEG_CHANNELS
from hms.engine.evaluate import evaluate
from hms.quality.channels import CHANNEL_MEASURES, derive_channels
from hms.quality.coherence import THINNED, observe_coherence
from hms.quality.electrodes import NEIGHBOURS
from hms.quality.inputs import derive_input, observe_input
from hms.quality.inspection import inspect, inspect_segment
from hms.quality.outputs import correlations, edge_share, observe_waveforms
from hms.quality.signature import signatures, window_samples
from hms.signal.arrays import Cleaned
from hms.signal.wavelets import reaches_s
from hms.sources.base import Segment
from hms.stages.measures import Measures

SFREQ = 200.0
N = 6800
T = np.arange(N) / SFREQ


def measure(eeg: np.ndarray, **settings: slice) -> dict[str, np.ndarray]:
    """Measure 20 channels, float32."""
    return channel_measures(eeg.astype(np.float32), **settings)


def channel_measures(
    eeg: np.ndarray,
    *,
    window: slice = slice(None),
    spectral: slice = slice(None),
    filtered: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return the measures of one recording: shape (20,) each."""
    (seen,) = inspect([eeg], sfreq=SFREQ, window=window, spectral=spectral)
    cleaned = eeg[:, window] if filtered is None else filtered
    rows = {name: np.asarray(value)[np.newaxis] for name, value in seen.channels.items()}
    rows |= observe_coherence([np.nan_to_num(cleaned)], CHANNELS)
    return {name: values[0] for name, values in derive_channels(rows).items()}


def brain(seed: int = 0) -> np.ndarray:
    """Return 20 channels of coloured noise of about 20 µV, half of it common."""
    rng = np.random.default_rng(seed)
    sos = scipy.signal.butter(2, [1, 20], "bandpass", fs=SFREQ, output="sos")
    slow = scipy.signal.sosfilt(sos, rng.standard_normal((21, N)), axis=1)
    slow /= slow.std(axis=1, keepdims=True)
    return 15 * (slow[:20] + slow[20]) + rng.standard_normal((20, N))


# --- gaps and amplitudes -------------------------------------------------------------------------


def test_gaps_are_counted_and_do_not_spread_into_other_measures():
    """Three missing samples in F3: share 3 / 6800, longest 15 ms, the other channels untouched."""
    eeg = brain()
    whole = measure(eeg)
    eeg[1, 3000:3003] = np.nan
    eeg[1, 10] = np.inf
    found = measure(eeg, window=slice(2400, 4400))
    assert found["gap_share"][1] == pytest.approx(4 / N)
    assert found["window_gap_share"][1] == pytest.approx(3 / 2000)
    assert found["longest_gap_s"][1] == pytest.approx(0.015)
    assert found["gap_share"].sum() == found["gap_share"][1]
    for name in CHANNEL_MEASURES:
        assert np.isfinite(found[name][:19]).all(), name
    assert found["sd_uv"][1] == pytest.approx(whole["sd_uv"][1], rel=0.01)


def test_a_channel_of_nan_alone_is_measured_without_a_warning():
    """All of it is a gap; what cannot be said is NaN or 0, and no other channel is touched."""
    eeg = brain()
    eeg[4] = np.nan
    found = measure(eeg)
    assert found["gap_share"][4] == 1
    assert found["ptp_uv"][4] == 0
    assert np.isnan(found["neighbour_corr"][4])
    assert np.isfinite(np.delete(found["neighbour_corr"][:19], 4)).all()


def test_offset_peak_and_largest_sample_of_a_shifted_sine():
    """A sine of 50 µV on 2000 µV: mean 2000, peak 50 from it, largest absolute sample 2050."""
    eeg = np.tile(2000 + 50 * np.sin(2 * np.pi * 5 * T), (20, 1))
    found = measure(eeg)
    assert found["offset_uv"] == pytest.approx(2000, abs=0.01)
    assert found["peak_uv"] == pytest.approx(50, abs=0.05)
    assert found["max_abs_uv"] == pytest.approx(2050, abs=0.05)
    assert found["ptp_uv"] == pytest.approx(100, abs=0.1)
    assert found["drift_uv"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("start", [0, 137, 1000, N - 1000])
def test_five_flat_seconds_are_seen_wherever_they_start(start: int):
    """Four whole seconds lie within any five: the calmest stretch has no amplitude."""
    eeg = brain()
    eeg[2, start : start + 1000] = 12.5
    found = measure(eeg)
    assert found["flat_ptp_uv"][2] == 0
    assert np.delete(found["flat_ptp_uv"], 2).min() > 20


def test_three_flat_seconds_are_not_five():
    eeg = brain()
    eeg[2, 1000:1600] = 0
    assert measure(eeg)["flat_ptp_uv"][2] > 20


@pytest.mark.parametrize(
    ("start", "n_samples", "share"),
    [(2400, 2000, 1.0), (2400, 1000, 0.5), (0, 2000, 0.0), (1400, 1400, 0.2), (2400, 600, 0.0)],
)
def test_flat_stretches_count_by_their_share_of_the_window(start: int, n_samples: int, share: float):
    """A window of 10 s from 12 s on: all of it, half, none, two seconds; three seconds are no stretch."""
    eeg = brain()
    eeg[2, start : start + n_samples] = 12.5
    found = measure(eeg, window=slice(2400, 4400), spectral=slice(1800, 5000))["window_flat_share"]
    assert found[2] == pytest.approx(share)
    assert np.delete(found, 2).max() == 0


def test_a_gap_is_no_flat_stretch():
    """Ten seconds of NaN are bridged by a straight line, which counts as a gap alone."""
    eeg = brain()
    eeg[2, 1000:3000] = np.nan
    assert measure(eeg)["flat_ptp_uv"][2] > 20


def test_clipping_is_counted_at_the_extreme_and_dead_channels_have_none():
    """Seven samples at the ceiling are seven; a channel of one value has no extreme."""
    eeg = brain()
    top = np.sort(eeg[3])[-7]
    eeg[3] = np.minimum(eeg[3], top)
    eeg[5] = 0
    found = measure(eeg)
    assert found["extreme_samples"][3] == 7
    assert found["extreme_samples"][5] == 0
    assert (np.delete(found["extreme_samples"], [3, 5]) == 1).all()


def test_a_step_is_a_jump_and_a_tone_or_noise_is_none():
    """A step of 300 µV stands out by nearly that; 60 Hz of 500 µV and 40 µV of white noise do not."""
    eeg = brain()
    eeg[0, 4000:] += 300
    eeg[1] += 500 * np.sin(2 * np.pi * 60 * T)
    eeg[2] += 40 * np.random.default_rng(1).standard_normal(N)
    found = measure(eeg)
    assert 200 < found["jump_uv"][0] < 300
    assert found["jump_uv"][1] == 0
    assert found["jump_uv"][2] == 0


def test_steps_are_those_of_the_window_and_a_second_on_either_side():
    """A step of 700 µV counts half a second before the window, and not two seconds before."""
    eeg = brain()
    span = {"window": slice(2400, 4400), "spectral": slice(1800, 5000)}
    eeg[1, 2300:] += 700
    assert measure(eeg, **span)["jump_uv"][1] > 500
    eeg = brain()
    eeg[1, 2000:] += 700
    assert measure(eeg, **span)["jump_uv"][1] == 0


def test_a_spike_that_neighbours_share_is_no_jump_of_an_electrode():
    """A step of 300 µV at Fp1 alone stands; of it 50 are its own with 250 µV at the three beside it."""
    eeg = brain()
    eeg[0, 4000:] += 300
    assert measure(eeg)["jump_uv"][0] > 200
    for name in ("Fp2", "F7", "F3"):
        eeg[EEG_CHANNELS.index(name), 4000:] += 250
    assert measure(eeg)["jump_uv"][0] < 50


def test_a_dead_electrode_beside_mains_has_no_jump():
    """Its neighbours step by millivolts where it does not: that is none of its own."""
    eeg = brain()
    eeg[:19] += 5000 * np.sin(2 * np.pi * 60 * np.arange(eeg.shape[1]) / SFREQ)
    eeg[3] = 0
    assert measure(eeg)["jump_uv"][3] == 0


def test_drift_is_the_range_of_the_means_of_two_seconds():
    """A ramp of 500 µV over 34 s: the means of the first and the last 2 s are 32/34 of it apart."""
    eeg = np.tile(np.linspace(0, 500, N), (20, 1))
    assert measure(eeg)["drift_uv"] == pytest.approx(500 * 32 / 34, rel=0.001)


# --- spectra -------------------------------------------------------------------------------------


def test_amplitude_between_1_and_20_hz_is_that_of_a_sine_and_leaves_out_the_rest():
    """A sine of 30 µV has an RMS of 30 / sqrt 2; 35 Hz and an offset add nothing."""
    eeg = np.tile(30 * np.sin(2 * np.pi * 10 * T) + 80 * np.sin(2 * np.pi * 35 * T) + 900, (20, 1))
    found = measure(eeg)
    assert found["sd_uv"] == pytest.approx(30 / np.sqrt(2), rel=1e-3)
    assert found["hf_uv"] == pytest.approx(80 / np.sqrt(2), rel=1e-3)


def test_power_density_agrees_with_scipy_welch():
    """Without overlap, with the same taper, the RMS of white noise between 25 and 95 Hz is Welch's."""
    eeg = np.random.default_rng(0).standard_normal((20, N))
    freqs, density = scipy.signal.welch(
        eeg, fs=SFREQ, window="hann", nperseg=400, noverlap=0, detrend=False, axis=1
    )
    away = (np.abs(freqs - 50) > 2) & (np.abs(freqs - 60) > 2) & (freqs >= 25) & (freqs <= 95)
    np.testing.assert_allclose(measure(eeg)["hf_uv"], np.sqrt(density[:, away].sum(axis=1) * 0.5), rtol=1e-4)


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_mains_are_stated_in_db_over_what_is_beside_them(mains_hz: int):
    """In white noise of 1 µV²/Hz a sine of 200 µV² is 200 / 1.5 Hz over it: 21 dB, at its own frequency."""
    rng = np.random.default_rng(0)
    eeg = rng.standard_normal((20, N)) * np.sqrt(SFREQ / 2) + 20 * np.sin(2 * np.pi * mains_hz * T)
    found = measure(eeg)
    expected = 10 * np.log10(200 / 1.5 + 1)
    assert np.median(found[f"line{mains_hz}_db"]) == pytest.approx(expected, abs=0.3)
    assert np.abs(found[f"line{110 - mains_hz}_db"]).max() < 4


def test_mains_of_any_strength_are_no_power_at_high_frequencies():
    eeg = brain()
    strong = eeg + 5000 * np.sin(2 * np.pi * 60 * T)
    assert measure(strong)["hf_uv"] == pytest.approx(measure(eeg)["hf_uv"], rel=0.05)


def test_spectra_are_taken_of_the_span_they_are_given():
    """Muscle outside it does not count."""
    eeg = brain()
    eeg[:, :1000] += 100 * np.random.default_rng(0).standard_normal((20, 1000))
    inside = measure(eeg, spectral=slice(1400, 5400))["hf_uv"]
    assert inside == pytest.approx(measure(brain(), spectral=slice(1400, 5400))["hf_uv"])
    assert (measure(eeg)["hf_uv"] > 3 * inside).all()


# --- muscle --------------------------------------------------------------------------------------


def emg(rms_uv: float, seed: int = 1) -> np.ndarray:
    """Return noise of 20 to 80 Hz."""
    freqs = np.fft.rfftfreq(N, 1 / SFREQ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(N)) * ((freqs >= 20) & (freqs <= 80))
    noise = np.fft.irfft(spectrum, n=N)
    return rms_uv * noise / noise.std()


@pytest.mark.parametrize("rms_uv", [10, 20, 45])
def test_muscle_is_stated_as_its_rms_of_20_to_80_hz_at_its_own_electrode(rms_uv: float):
    """Within 10 %, the noise of two bands of 7 and 8 Hz over 34 s; the neighbours stay under 3 µV."""
    eeg = brain()
    eeg[5] += emg(rms_uv)
    found = measure(eeg)["muscle_uv"]
    expected = np.hypot(rms_uv, np.sqrt(2 * 60 / 100))  # the noise of both electrodes, 1 µV up to 100 Hz
    assert found[5] == pytest.approx(expected, rel=0.1)
    assert np.delete(found[:19], 5).max() < 3
    assert np.isnan(found[19])


def test_noise_of_the_reference_is_no_muscle():
    """The same 40 µV in all electrodes leave no derivation with any."""
    eeg = brain()
    eeg[:19] += emg(40)
    assert measure(eeg)["muscle_uv"][:19].max() < 3


def test_sharp_waves_are_no_muscle_though_they_have_high_frequencies():
    """Bells of 60 ms and 400 µV, four a second at one electrode: their spectrum ends before 60 Hz."""
    eeg = brain()
    for start in range(0, N - 12, 50):
        eeg[5, start : start + 12] += 400 * np.hanning(12)
    found = measure(eeg)
    assert found["hf_uv"][5] > 10
    assert found["muscle_uv"][5] < 3


@pytest.mark.parametrize("tone_hz", [42.5, 67])
def test_a_tone_is_no_muscle(tone_hz: float):
    """It stands in one of the two bands; the other holds what the EEG has there, 1 to 6 µV."""
    eeg = brain()
    eeg[5] += 40 * np.sin(2 * np.pi * tone_hz * T)
    assert measure(eeg)["muscle_uv"][5] < 6.5


def test_muscle_is_found_where_the_recorder_kept_nothing_above_60_hz():
    """What is not there is left out of account, not taken for quiet."""
    sos = scipy.signal.butter(12, 55, fs=SFREQ, output="sos")
    eeg = brain()
    eeg[5] += emg(20)
    found = measure(scipy.signal.sosfiltfilt(sos, eeg, axis=1))["muscle_uv"]
    assert found[5] == pytest.approx(20, rel=0.15)
    assert np.delete(found[:19], 5).max() < 6.5


# --- correlations --------------------------------------------------------------------------------


def test_neighbours_are_mutual_and_stand_beside_each_other():
    """Cz has the four around it, Fp1 its row, F7 and F3; left mirrors right."""
    names = np.array(EEG_CHANNELS)
    assert set(names[NEIGHBOURS[list(names).index("Cz")]]) == {"C3", "C4", "Fz", "Pz"}
    assert set(names[NEIGHBOURS[list(names).index("Fp1")]]) == {"Fp2", "F7", "F3"}
    assert (NEIGHBOURS == NEIGHBOURS.T).all()
    assert not NEIGHBOURS.diagonal().any()
    assert set(NEIGHBOURS.sum(axis=1)) == {3, 4}


def test_correlations_are_pearsons_of_the_band():
    """The best neighbour agrees with np.corrcoef of signals that lie within 1 to 20 Hz."""
    sos = scipy.signal.butter(6, [2, 18], "bandpass", fs=SFREQ, output="sos")
    eeg = scipy.signal.sosfiltfilt(sos, brain(3), axis=1)
    dense = np.corrcoef(eeg[:19])
    expected = np.where(NEIGHBOURS, dense, -2).max(axis=1)
    np.testing.assert_allclose(measure(eeg)["neighbour_corr"][:19], expected, atol=0.06)


def test_reversed_polarity_turns_the_sign_of_one_electrode_only():
    eeg = brain()
    eeg[8] *= -1
    polarity = measure(eeg)["polarity"]
    assert polarity[8] < -0.5
    assert np.delete(polarity[:19], 8).min() > 0.2


def test_a_copy_correlates_fully_with_its_twin_whatever_its_gain():
    eeg = brain()
    eeg[18] = 3 * eeg[0] + 100
    twin = measure(eeg)["twin_corr"]
    assert twin[[0, 18]] == pytest.approx(1, abs=1e-5)
    assert np.delete(twin[:19], [0, 18]).max() < 0.9
    assert np.isnan(twin[19])


def test_gain_is_stated_over_the_neighbours():
    """Ten times the amplitude is 20 dB over equal neighbours; a neighbour of it, with four, loses 5 dB."""
    tone = 20 * np.sin(2 * np.pi * 10 * T)
    eeg = np.tile(tone, (20, 1))
    cz, fz = EEG_CHANNELS.index("Cz"), EEG_CHANNELS.index("Fz")
    eeg[cz] *= 10
    gain = measure(eeg)["gain_db"]
    assert gain[cz] == pytest.approx(20, abs=1e-3)
    assert gain[fz] == pytest.approx(-20 / NEIGHBOURS[fz].sum(), abs=1e-3)


@pytest.mark.parametrize("value", [-37.5, 0.3, 4321.7])
@pytest.mark.parametrize("flat", [slice(900, 5900), slice(None)])
def test_an_electrode_that_holds_a_value_does_not_count_among_the_neighbours(flat: slice, value: float):
    """Flat for 25 s or all the time: no neighbour gains by it, as none does by an electrode at 0."""
    eeg = brain()
    span = {"window": slice(2400, 4400), "spectral": slice(1400, 5400)}
    cz = EEG_CHANNELS.index("Cz")
    untouched = measure(eeg, **span)["gain_db"]
    eeg[cz, flat] = value
    found = measure(eeg, **span)["gain_db"]
    eeg[cz] = 0
    at_zero = measure(eeg, **span)["gain_db"]
    assert np.isnan(found[cz])
    np.testing.assert_allclose(found, at_zero, atol=1e-5)
    others = np.delete(found - untouched, cz)
    assert np.nanmax(np.abs(others)) < 1


def test_an_electrode_of_its_own_is_loud_and_what_all_share_is_not():
    """200 µV in all change nothing; noise of ten times the differences is 20 dB over them."""
    eeg = brain()
    quiet = measure(eeg)
    eeg[:19] += 200 * np.sin(2 * np.pi * 3 * T)
    shared = measure(eeg)
    np.testing.assert_allclose(shared["own_uv"][:19], quiet["own_uv"][:19], rtol=0.02)
    cz = EEG_CHANNELS.index("Cz")
    eeg[cz] += 10 * np.median(quiet["own_uv"][:19]) * np.random.default_rng(5).standard_normal(N)
    assert measure(eeg)["own_db"][cz] == pytest.approx(20, abs=2)


def test_a_lateralised_pattern_is_no_loud_electrode():
    """A field that falls off smoothly over one side stays under 6 dB at its peak."""
    eeg = brain()
    left = {"T3": 4.0, "F7": 3.0, "T5": 3.0, "C3": 3.0, "F3": 2.0, "P3": 2.0, "Fp1": 1.8, "O1": 1.8}
    for name, gain in left.items():
        eeg[EEG_CHANNELS.index(name)] *= gain
    found = measure(eeg)
    assert found["gain_db"][:19].max() < 6
    assert found["own_db"][:19].max() < 8


def test_the_heart_in_an_electrode_correlates_with_the_ekg():
    """QRS complexes of 100 µV in one electrode; the others stay near zero."""
    eeg = brain()
    beats = np.zeros(N)
    beats[100::170] = 1
    qrs = np.convolve(beats, np.exp(-(np.linspace(-3, 3, 13) ** 2)), mode="same")
    eeg[19] = 800 * qrs
    eeg[6] += 100 * qrs
    corr = measure(eeg)["ekg_corr"]
    assert corr[6] > 0.4
    assert np.delete(corr[:19], 6).max() < 0.2
    assert np.isfinite(corr[:19]).all()
    assert np.isnan(corr[19])


def test_a_tone_in_the_ekg_is_no_heart_though_the_electrodes_share_it():
    """20 Hz of 100 µV in the EKG and 30 µV in the electrodes: nothing is said of a heart."""
    eeg = brain()
    tone = np.sin(2 * np.pi * 20 * T)
    eeg[19] += 100 * tone
    eeg[:19] += 30 * tone
    assert np.isnan(measure(eeg)["ekg_corr"]).all()


@pytest.mark.parametrize(("share", "is_known"), [(0.25, True), (0.6, False)])
def test_hum_under_the_heartbeats_leaves_the_heart_known(share: float, is_known: bool):
    """The limit is 0.4 of the power in three bins: a tone of a quarter stays below, one of 0.6 does not.

    These beats alone have 0.15 in their strongest three bins, so that the quarter can make it
    0.25 + 0.75 x 0.15 = 0.36 at most.
    """
    eeg = brain()
    beats = np.zeros(N)
    beats[100::170] = 1
    heart = np.convolve(beats, np.exp(-(np.linspace(-3, 3, 13) ** 2)), mode="same")
    sos = scipy.signal.butter(6, [8, 40], "bandpass", fs=SFREQ, output="sos")
    in_band = scipy.signal.sosfiltfilt(sos, heart).std()
    hum = np.sqrt(2 * share / (1 - share)) * in_band * np.sin(2 * np.pi * 20 * T)
    eeg[19] = 800 * (heart + hum)
    assert np.isfinite(measure(eeg)["ekg_corr"][:19]).all() == is_known


def test_an_absent_ekg_makes_its_correlation_unknown():
    eeg = brain()
    eeg[19] = 0
    assert np.isnan(measure(eeg)["ekg_corr"]).all()


def test_measures_do_not_change_what_they_are_given():
    eeg = brain().astype(np.float32)
    eeg[3, 5:9] = np.nan
    before = eeg.copy()
    channel_measures(eeg)
    np.testing.assert_array_equal(eeg, before)


def test_every_measure_has_one_float32_per_channel():
    found = measure(brain())
    assert tuple(found) == CHANNEL_MEASURES
    assert {values.shape for values in found.values()} == {(len(CHANNELS),)}
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}


# --- output --------------------------------------------------------------------------------------


def test_correlation_of_rows_is_pearsons_and_nan_for_a_constant():
    x = np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32)
    x[2] = 1
    of_one = observe_waveforms([np.repeat(x, THINNED, axis=1)])  # which looks at one sample of so many
    found = correlations(*of_one.values(), [(0, 1), (0, 2), (None, 1)])
    some, constant, absent = (float(values[0]) for values in found)
    assert some == pytest.approx(np.corrcoef(x[0], x[1])[0, 1], abs=1e-6)
    assert np.isnan(constant)
    assert np.isnan(absent)


def test_edge_share_counts_the_frames_within_reach_of_an_edge():
    """A dense count over all frames and frequencies, with no context on the left and all on the right."""
    params = hms.compose("cwt.n_freqs=12").cwt
    frames, total = np.arange(0, 2000, params.hop), 0
    for freq in np.geomspace(params.min_hz, params.max_hz, 12):
        total += np.sum(frames < np.ceil(max(reaches_s(params, float(np.float32(freq)))) * SFREQ))
    found = edge_share(params, sfreq=SFREQ, n_window=2000, before=0, after=5000)
    assert found == pytest.approx(total / (12 * frames.size), abs=0.01)
    assert edge_share(params, sfreq=SFREQ, n_window=2000, before=5000, after=5000) == 0


@pytest.mark.parametrize("overrides", [("filter=none",), ("cwt.min_hz=0.25", "cwt.n_freqs=6"), ()])
@pytest.mark.parametrize("after_s", [20, 3])
def test_context_is_missing_only_where_the_recording_ends_whatever_the_filter_needs(
    overrides: tuple[str, ...], after_s: int
):
    """A window of 10 s, 20 s before it, and 20 or 3 s after it: a dense count over frames and frequencies."""
    cfg = hms.compose("data.missing=dead", *overrides)
    n_outside = round((20 - after_s) * SFREQ)
    eeg = np.random.default_rng(0).standard_normal((20, 10_000)).astype(np.float32)
    eeg[:, 10_000 - n_outside :] = np.nan
    found = evaluate(Measures.from_config(cfg), Segment(eeg, CHANNELS, SFREQ, 4000, (0, n_outside)), {})
    frames, share = np.arange(0, 2000, cfg.cwt.hop), 0.0
    for freq in np.geomspace(cfg.cwt.min_hz, cfg.cwt.max_hz, cfg.cwt.n_freqs):
        reach = np.ceil(max(reaches_s(cfg.cwt, float(np.float32(freq)))) * SFREQ)
        share += np.mean(frames + reach > 1999 + after_s * SFREQ) / cfg.cwt.n_freqs
    assert found["edge_share"] == pytest.approx(share, abs=0.002)
    assert found["lost_share"] == pytest.approx(share, abs=0.002)
    assert (share == 0) == (after_s == 20)


def test_signatures_multiply_to_the_correlation_of_windows():
    """The same window scaled and shifted gives 1, its negative -1, a constant one zeros."""
    eeg = brain().astype(np.float32)[:16]
    cleaned = [Cleaned(x, CHANNELS[:16], np.zeros(16, bool), 2400, SFREQ) for x in (eeg, 3 * eeg + 7, -eeg)]
    flat = Cleaned(np.ones((16, N), np.float32), CHANNELS[:16], np.zeros(16, bool), 2400, SFREQ)
    found = signatures(np.stack([window_samples(c) for c in (*cleaned, flat)]))
    first, second, third, constant = found.astype(float)
    assert first @ second == pytest.approx(1, abs=1e-5)
    assert first @ third == pytest.approx(-1, abs=1e-5)
    assert not constant.any()


def test_infinities_and_the_end_of_float32_are_measured_without_a_warning():
    eeg = brain().astype(np.float32)
    eeg[3, 100], eeg[3, 200] = np.inf, -np.inf
    eeg[5, 5], eeg[5, 6] = 3e38, -3e38
    segment = Segment(eeg, CHANNELS, SFREQ, 0, (0, 0))
    cleaned = Cleaned(eeg[:16], CHANNELS[:16], np.zeros(16, bool), 0, SFREQ)
    found = input_measures(segment, cleaned)
    assert found["gap_share"][3] > 0
    assert found["max_abs_uv"][5] == np.float32(3e38)


def test_an_electrode_that_holds_a_value_makes_no_side_weaker():
    """What rounding leaves of -37.5 µV is 1e-7 of an amplitude, 130 dB down."""
    eeg = brain().astype(np.float32)
    whole = left_right(eeg)
    eeg[CHANNELS.index("C3")] = -37.5
    assert left_right(eeg) == pytest.approx(whole, abs=3)


def left_right(eeg: np.ndarray) -> float:
    segment = Segment(eeg, CHANNELS, SFREQ, 0, (0, 0))
    cleaned = Cleaned(eeg[:16], CHANNELS[:16], np.zeros(16, bool), 0, SFREQ)
    return float(input_measures(segment, cleaned)["left_right_db"])


def input_measures(segment: Segment, cleaned: Cleaned) -> dict[str, np.ndarray]:
    """Return the measures of what was read of one item."""
    observed = observe_input(inspect_segment(segment), segment, cleaned, clip_uv=None)
    rows = {name: np.asarray(value)[np.newaxis] for name, value in observed.items()}
    found = derive_input(rows | observe_coherence([cleaned.window], cleaned.channels))
    return {name: values[0] for name, values in found.items()}
