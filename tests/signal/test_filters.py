"""Filters: closed-form zero-phase gains against SciPy's filters."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import signal

from hms import registry
from hms.registry import PositiveFloat, lookup, register
from hms.signal import filters
from hms.signal.cwt import plan_cwt
from hms.signal.filters import Butterworth, FilterParams, apply_filter, clip, design_filter, filter_reach_s
from hms.signal.gaps import FillGaps
from hms.signal.wavelets import Morlet

SFREQ = 200.0
GAPS = FillGaps("interpolate", hold_s=0.5, taper_s=2.0, order=0, fit_s=2.0, longest_s=0.2)
BANDPASS = Butterworth("butterworth", 500.0, GAPS, low_hz=0.5, high_hz=20.0, order=4, notch_hz=None)
NONE = FilterParams("none", None, GAPS)
MORLET = Morlet("morlet", 0.5, 20.0, 12, 8, "amplitude", "float32", "fft", spacing="log", w0=5.4414)
EDGE = 2400
"""Samples of 12 s, the context of the default filter."""


def pink(n_channels, n_samples, seed=0):
    """Noise of 1/f amplitude down to 0.05 Hz, 30 µV."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal((n_channels, n_samples)))
    spectrum /= np.maximum(np.fft.rfftfreq(n_samples, 1 / SFREQ), 0.05)
    noise = np.fft.irfft(spectrum, n_samples)
    return 30 * noise / noise.std(axis=1, keepdims=True)


def filtered(eeg, params):
    eeg = np.asarray(eeg, np.float32)
    return apply_filter(eeg, design_filter(params, n_samples=eeg.shape[1], sfreq=SFREQ))


@pytest.mark.parametrize(
    ("low", "high", "order"), [(0.5, 20.0, 4), (0.5, 40.0, 4), (1.0, 30.0, 2), (0.1, 70.0, 5), (8.0, 99.0, 3)]
)
def test_gain_is_that_of_scipys_butterworth_run_twice(low, high, order):
    """The closed form equals the product of both passes of the second-order sections."""
    freqs = np.linspace(0, SFREQ / 2, 501)
    params = replace(BANDPASS, low_hz=low, high_hz=high, order=order)
    sos = signal.butter(order, [low, high], "bandpass", fs=SFREQ, output="sos")
    expected = np.abs(signal.sosfreqz(sos, freqs, fs=SFREQ)[1]) ** 2
    np.testing.assert_allclose(filters.butterworth(freqs, params, sfreq=SFREQ), expected, atol=1e-7)


@pytest.mark.parametrize("notch_hz", [50.0, 60.0])
def test_notch_is_scipys_iirnotch_with_q_30(notch_hz):
    freqs = np.linspace(1, 99, 491)
    with_notch = filters.butterworth(freqs, replace(BANDPASS, high_hz=80.0, notch_hz=notch_hz), sfreq=SFREQ)
    without = filters.butterworth(freqs, replace(BANDPASS, high_hz=80.0), sfreq=SFREQ)
    response = signal.freqz(*signal.iirnotch(notch_hz, 30, fs=SFREQ), freqs, fs=SFREQ)[1]
    np.testing.assert_allclose(with_notch / without, np.abs(response) ** 2, atol=1e-9)
    assert with_notch[np.argmin(np.abs(freqs - notch_hz))] < 1e-12


def test_filtering_equals_sosfiltfilt_away_from_the_edges():
    """Noise of 30 µV with its slow drift: 12 s from the ends the difference is under 0.01 µV."""
    eeg = pink(4, 10_000)
    sos = signal.butter(4, [0.5, 20], "bandpass", fs=SFREQ, output="sos")
    expected = signal.sosfiltfilt(sos, eeg, axis=1)
    inner = slice(EDGE, -EDGE)
    assert np.abs(filtered(eeg, BANDPASS)[:, inner] - expected[:, inner]).max() < 0.01


def test_an_offset_of_5000_uv_changes_nothing():
    """Offsets cost no float32 precision: 1e-3 µV of 30 µV is left, the input's own rounding."""
    eeg = pink(3, 6800)
    offset = np.array([[5000.0], [-5000.0], [0.0]])
    difference = filtered(eeg + offset, BANDPASS) - filtered(eeg, BANDPASS)
    assert np.abs(difference).max() < 1e-3


def test_bandpass_keeps_a_10_hz_sine_and_removes_60_hz_and_drift():
    t = np.arange(10_000) / SFREQ
    rows = [np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 60 * t), np.sin(2 * np.pi * 0.05 * t)]
    out = filtered(100 * np.array(rows), BANDPASS)[:, EDGE:-EDGE]
    np.testing.assert_allclose(out[0], 100 * rows[0][EDGE:-EDGE], atol=0.3)
    assert np.abs(out[1]).max() < 1e-2
    assert np.abs(out[2]).max() < 1e-2


def test_phase_is_zero():
    """A symmetric bump stays symmetric and where it was."""
    t = (np.arange(8001) - 4000) / SFREQ
    out = filtered(np.exp(-0.5 * (t / 0.05) ** 2)[np.newaxis], BANDPASS)[0]
    assert out.argmax() == 4000
    np.testing.assert_allclose(out, out[::-1], atol=1e-5)


def test_filter_none_returns_its_input():
    """Every sample, every offset: output equals input exactly."""
    eeg = (pink(2, 777) + 5000).astype(np.float32)
    assert filtered(eeg, NONE) is eeg


@pytest.fixture
def own_filters(monkeypatch):
    """Forget after a test what it registered."""
    monkeypatch.setitem(registry._entries, "filter", dict(registry._entries["filter"]))


@pytest.mark.usefixtures("own_filters")
def test_a_low_pass_of_ones_own_keeps_the_offset():
    """A gain of 1 at 0 Hz keeps 5000 µV to float32 precision, through the subtraction and back."""

    @dataclass(frozen=True)
    class Gaussian(FilterParams):
        width_hz: PositiveFloat

    register("filter", "test_gaussian", Gaussian)(
        lambda freqs_hz, params, *, sfreq: np.exp(-0.5 * (freqs_hz / params.width_hz) ** 2)
    )
    params = Gaussian("test_gaussian", None, GAPS, width_hz=5.0)
    np.testing.assert_allclose(filtered(np.full((2, 1000), 5000.0), params), 5000.0, rtol=1e-6)
    # The response of exp(-f² / (2 s²)) is a Gaussian of 1 / (2 pi s) = 0.0318 s.
    assert 4.5 * 0.0318 < filter_reach_s(params, sfreq=SFREQ) < 5.5 * 0.0318


@pytest.mark.usefixtures("own_filters")
def test_a_filter_that_returns_nonsense_is_named():
    register("filter", "test_nan", FilterParams)(lambda freqs_hz, params, *, sfreq: freqs_hz * np.nan)
    with pytest.raises(ValueError, match=r"filter 'test_nan' must return one finite gain.*NaN"):
        design_filter(FilterParams("test_nan", None, GAPS), n_samples=100, sfreq=SFREQ)


def test_the_reach_of_the_default_rounds_up_to_12_s():
    assert 11 < filter_reach_s(BANDPASS, sfreq=SFREQ) <= 12


def test_the_reach_of_no_filter_is_zero():
    assert filter_reach_s(NONE, sfreq=SFREQ) == 0


def test_the_reach_grows_as_the_low_edge_falls():
    """The ringing lasts as many cycles of the low edge: half the edge, twice the reach."""
    slow = filter_reach_s(replace(BANDPASS, low_hz=0.25), sfreq=SFREQ)
    assert slow == pytest.approx(2 * filter_reach_s(BANDPASS, sfreq=SFREQ), rel=0.05)


@pytest.mark.parametrize("offset_uv", [0.0, 5000.0])
def test_12_s_of_context_leave_a_power_error_under_1e_4(offset_uv):
    """The power of the window differs from that with 100 s of context by less than 1e-4 of it."""
    eeg = pink(8, 42_000, seed=3) + offset_uv
    truth = filtered(eeg, BANDPASS)[:, 20_000:22_000].astype(np.float64)
    near = filtered(eeg[:, 20_000 - EDGE : 22_000 + EDGE], BANDPASS)[:, EDGE:-EDGE]
    error = np.abs((near**2).sum(axis=1) - (truth**2).sum(axis=1)) / (truth**2).sum(axis=1)
    assert error.max() < 1e-4


def slowest_row(eeg):
    """Return the power of the filtered window at 0.5 Hz, all samples but the middle 10 s being context."""
    n_context = (eeg.shape[1] - 2000) // 2
    plan = plan_cwt(MORLET, sfreq=SFREQ, n_context=n_context, n_window=2000)
    return plan.power(filtered(eeg, BANDPASS), tuple((i,) for i in range(len(eeg))))[:, 0].astype(np.float64)


def share_beyond(seconds):
    """Sum of magnitudes, on one side and after a time, of band-pass and 0.5 Hz wavelet together."""
    freqs = np.fft.fftfreq(2**16, 1 / SFREQ)
    gain = filters.butterworth(np.abs(freqs), BANDPASS, sfreq=SFREQ)
    wavelet = np.where(freqs > 0, np.exp(-0.5 * (5.4414 * (freqs / 0.5 - 1)) ** 2), 0)
    return np.abs(np.fft.ifft(gain * wavelet))[int(seconds * SFREQ) : 2**15].sum()


@pytest.mark.parametrize("mains_uv", [0.0, 5000.0])
def test_what_lies_beyond_12_s_moves_power_by_no_more_than_its_size_allows(mains_uv):
    """At most 2.1e-6 of twice the largest magnitude, mains included, is added from either side."""
    hum = mains_uv * np.sin(2 * np.pi * 60.3 * np.arange(14_000) / SFREQ)
    eeg = (pink(4, 14_000, seed=3) + hum).astype(np.float32)
    truth, near = slowest_row(eeg), slowest_row(eeg[:, 6000 - EDGE : -(6000 - EDGE)])
    error = np.abs(near - truth).max(axis=1) / truth.max(axis=1)
    added = 2 * share_beyond(12) * 2 * np.abs(eeg).max(axis=1) / np.sqrt(truth.max(axis=1))
    assert share_beyond(12) == pytest.approx(2.1e-6, rel=0.05)
    assert (error < 2 * added + added**2 + 1e-5).all()
    assert (error > 1e-4).all() == (mains_uv > 0)


def test_a_gain_for_a_shorter_recording_is_refused():
    with pytest.raises(ValueError, match=r"gain is for at most \d+ samples; the recording has 5000"):
        apply_filter(np.zeros((1, 5000), np.float32), design_filter(BANDPASS, n_samples=1000, sfreq=SFREQ))


def test_input_is_never_written_to():
    eeg = pink(2, 1000).astype(np.float32)
    before = eeg.copy()
    clip(filtered(eeg, BANDPASS), 5.0)
    np.testing.assert_array_equal(eeg, before)


def test_clip_limits_both_signs_and_none_limits_nothing():
    eeg = np.array([[-600.0, -500.0, 3.0, 777.0]], np.float32)
    np.testing.assert_array_equal(clip(eeg, 500.0), np.array([[-500, -500, 3, 500]], np.float32))
    assert clip(eeg, None) is eeg
    assert clip(eeg, 500.0).dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"high_hz": 120.0}, "high_hz must be below 100 Hz"),
        ({"low_hz": 20.0}, "low_hz must be below high_hz; got 20 and 20"),
        ({"notch_hz": 100.0}, "notch_hz must be below 100 Hz"),
    ],
)
def test_an_impossible_band_is_refused(change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(BANDPASS, **change)


def test_all_kinds_are_registered():
    assert lookup("filter", "butterworth").params is Butterworth
    assert lookup("filter", "none").params is FilterParams


def test_a_mean_whose_sum_float32_cannot_hold_is_taken_off_all_the_same():
    """An electrode at the end of float32's range comes out silent, not as NaN; the others as without it."""
    rng = np.random.default_rng(0)
    eeg = rng.standard_normal((3, 3000)).astype(np.float32)
    eeg[1] = 3.4e38
    found = filtered(eeg, BANDPASS)
    assert not found[1].any()
    np.testing.assert_array_equal(found[[0, 2]], filtered(eeg[[0, 2]], BANDPASS))
