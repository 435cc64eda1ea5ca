"""Wavelet power against sums over time, closed forms and PyWavelets."""

import inspect
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import pywt

import hms
from hms import registry
from hms.registry import PositiveFloat, register
from hms.signal.cwt import plan_cwt
from hms.signal.wavelets import Cwt, Gmw, Morlet, Ricker, Stft, Superlet, frequencies, wavelet_reach_s
from hms.stages.scalograms import Scalograms

SFREQ = 200.0
COMMON = {
    "min_hz": 0.5,
    "max_hz": 20.0,
    "n_freqs": 12,
    "hop": 8,
    "norm": "amplitude",
    "dtype": "float32",
    "backend": "fft",
    "spacing": "log",
}
W0 = 5.441398093
MORLET = Morlet("morlet", **COMMON, w0=W0)
RICKER = Ricker("ricker", **COMMON, analytic=True)
HAT = replace(RICKER, analytic=False)
GMW = Gmw("gmw", **COMMON, gamma=3.0, beta=9.8696044)
SUPERLET = Superlet(
    "superlet", **COMMON, base_cycles=3.0, order_min=1.0, order_max=5.0, growth="multiplicative"
)
WAVELETS = {"morlet": MORLET, "ricker": RICKER, "hat": HAT, "gmw": GMW, "superlet": SUPERLET}


# --- independent references: sums over time in float64 -------------------------------------------


def eeg(n_rows, n_samples, seed=0, slope=1.0):
    """Noise of 1/f**slope amplitude between 0.4 and 40 Hz, 30 µV: what leaves a band-pass."""
    rng = np.random.default_rng(seed)
    n_whole = max(n_samples, 6800)
    freqs = np.fft.rfftfreq(n_whole, 1 / SFREQ)
    gain = np.where((freqs > 0.4) & (freqs < 40), np.maximum(freqs, 0.4) ** -slope, 0)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal((n_rows, n_whole))) * gain, n_whole)
    return (30 * noise / noise.std(axis=1, keepdims=True)).astype(np.float32)[:, :n_samples]


def summed(signals, wavelet, half_s, *, n_context, n_window, hop):
    """Return sum over time of signal times wavelet(t) at each frame, zeros beyond the signal."""
    half = math.ceil(half_s * SFREQ)
    kernel = wavelet(np.arange(-half, half + 1) / SFREQ) / SFREQ
    centred = signals.astype(np.float64) - signals.mean(axis=1, keepdims=True, dtype=np.float64)
    whole = np.stack([np.convolve(row, kernel) for row in centred])
    return whole[:, half + n_context : half + n_context + n_window : hop]


def gabor(freq, w0):
    """Morlet of unit peak gain in time: a Gaussian of area one times a complex exponential."""
    sigma = w0 / (2 * np.pi * freq)
    return lambda t: np.exp(-0.5 * (t / sigma) ** 2 + 2j * np.pi * freq * t) / (sigma * np.sqrt(2 * np.pi))


def mexican_hat(freq):
    """Inverse transform of e (f/f0)² exp(-(f/f0)²) over both signs of f, in closed form."""
    return lambda t: (
        math.e
        * math.sqrt(math.pi)
        * freq
        * (0.5 - (np.pi * freq * t) ** 2)
        * np.exp(-((np.pi * freq * t) ** 2))
    )


def cauchy(freq, beta):
    """Morse wavelet of gamma = 1: the inverse transform of (f/f0)^b exp(b (1 - f/f0)) in closed form."""
    scale = freq * math.exp(beta + math.lgamma(beta + 1))
    return lambda t: scale / (beta - 2j * np.pi * freq * t) ** (beta + 1)


def by_quadrature(freq, response, *, top=5.0, n=2000):
    """Inverse transform of a real response of f/f0 by the trapezoidal rule, at times even about 0."""
    ratio = np.linspace(0, top, n + 1)[1:]
    gain = response(ratio) * freq * top / n

    def wavelet(t):
        later = np.exp(2j * np.pi * freq * np.outer(t[t >= 0], ratio)) @ gain
        return np.concatenate([later[:0:-1].conj(), later])

    return wavelet


def reference(params, signals, wavelet_of, *, half_cycles, **where):
    """Return the power of every frequency by sums over time: (n_rows, n_freqs, n_frames)."""
    rows = []
    for freq in frequencies(params).astype(np.float64):
        transform = summed(signals, wavelet_of(freq), half_cycles / freq, hop=params.hop, **where)
        rows.append(np.abs(transform) ** 2)
    return np.stack(rows, axis=1)


def power_of(params, signals, *, n_context, n_window, groups=None):
    plan = plan_cwt(params, sfreq=SFREQ, n_context=n_context, n_window=n_window)
    return plan.power(signals, groups or tuple((i,) for i in range(len(signals))))


def row_error(found, expected):
    """Largest difference over the largest value of each row, the worst row."""
    return (np.abs(found - expected).max(axis=-1) / expected.max(axis=-1)).max()


# --- accuracy ------------------------------------------------------------------------------------


@cache
def dense_morlet(n_context, n_window):
    """Return three signals and their power at every sample."""
    signals = eeg(3, n_window + 2 * n_context)
    where = {"n_context": n_context, "n_window": n_window}
    every = replace(MORLET, hop=1)
    return signals, reference(every, signals, lambda f: gabor(f, W0), half_cycles=7, **where)


@pytest.mark.parametrize("hop", [1, 4, 7, 8])
@pytest.mark.parametrize(("n_context", "n_window"), [(2400, 2000), (0, 2000), (300, 2000), (2000, 10_000)])
def test_morlet_power_is_that_of_a_dense_float64_convolution(n_context, n_window, hop):
    """Within 1e-5 of each row's maximum, and 1e-4 wherever a value exceeds 1 % of it."""
    signals, dense = dense_morlet(n_context, n_window)
    expected = dense[..., ::hop]
    found = power_of(replace(MORLET, hop=hop), signals, n_context=n_context, n_window=n_window)
    assert row_error(found, expected) < 1e-5
    large = expected > 0.01 * expected.max(axis=-1, keepdims=True)
    assert (np.abs(found / expected - 1)[large]).max() < 1e-4


def test_the_long_morlet_is_as_accurate():
    """w0 = 12: twice as narrow in frequency, twice as long in time."""
    params = replace(MORLET, w0=12.0, min_hz=1.0)
    signals = eeg(2, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    expected = reference(params, signals, lambda f: gabor(f, 12.0), half_cycles=14, **where)
    assert row_error(power_of(params, signals, **where), expected) < 1e-5


@pytest.mark.parametrize("hop", [1, 8, 13])
def test_the_real_hat_is_exact_at_every_hop(hop):
    """Its power swings at twice the signal's frequency; sampling it at a hop must not smooth it."""
    params = replace(HAT, hop=hop)
    signals = eeg(2, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    expected = reference(params, signals, mexican_hat, half_cycles=4, **where)
    assert row_error(power_of(params, signals, **where), expected) < 1e-5


@pytest.mark.slow
def test_the_analytic_hat_agrees_with_its_slow_tail_summed_to_the_end():
    """Its tail falls with the third power of time: the reach leaves 1e-3 of the power to what is not read."""
    params = replace(RICKER, min_hz=1.0, n_freqs=5)
    signals = eeg(2, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    expected = reference(
        params,
        signals,
        lambda f: by_quadrature(f, lambda r: r**2 * np.exp(1 - r**2)),
        half_cycles=12,
        **where,
    )
    assert row_error(power_of(params, signals, **where), expected) < 1e-3


def test_gmw_of_gamma_1_is_the_cauchy_wavelet_in_closed_form():
    params = replace(GMW, gamma=1.0, beta=20.0)
    signals = eeg(2, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    expected = reference(params, signals, lambda f: cauchy(f, 20.0), half_cycles=6, **where)
    assert row_error(power_of(params, signals, **where), expected) < 1e-4


@pytest.mark.slow
def test_gmw_of_gamma_3_agrees_with_its_transform_by_quadrature():
    params = replace(GMW, n_freqs=6)
    signals = eeg(2, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    beta = params.beta

    def wavelet_of(freq):
        return by_quadrature(freq, lambda r: r**beta * np.exp(beta / 3 * (1 - r**3)), top=3.0)

    expected = reference(params, signals, wavelet_of, half_cycles=6, **where)
    assert row_error(power_of(params, signals, **where), expected) < 2e-5


@pytest.mark.parametrize(("order_min", "order_max"), [(1.0, 5.0), (2.0, 2.0), (2.5, 2.5)])
def test_superlet_is_the_weighted_geometric_mean_of_dense_morlets(order_min, order_max):
    """A direct implementation of Moca et al.: whole wavelets, then a fraction of the next.

    Wavelets of 3 cycles have a gain of 8e-4 at 0 Hz and below, which an analytic transform
    leaves out and a sum over time does not: the two agree to a few parts in 10,000.
    """
    params = replace(SUPERLET, min_hz=2.0, n_freqs=6, order_min=order_min, order_max=order_max)
    signals = eeg(2, 6800, slope=0.5)
    where = {"n_context": 2400, "n_window": 2000, "hop": 8}
    found = power_of(params, signals, n_context=2400, n_window=2000)
    for row, freq in enumerate(frequencies(params).astype(np.float64)):
        order = order_min + (order_max - order_min) * (freq - 2.0) / 18.0
        product, left, cycles = 1.0, order, 3.0
        while left > 1e-9:
            w0 = 2 * np.pi * cycles / 5
            power = np.abs(summed(signals, gabor(freq, w0), w0 / freq * 1.3, **where)) ** 2
            product = product * power ** (min(left, 1.0) / order)
            left, cycles = left - 1, cycles + 3.0
        assert np.abs(found[:, row] - product).max() < 5e-4 * product.max()


@pytest.mark.parametrize("name", WAVELETS)
@pytest.mark.parametrize("hop", [3, 8, 50])
def test_a_hop_takes_every_hopth_frame_of_hop_1(name, hop):
    signals = eeg(2, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    every = power_of(replace(WAVELETS[name], hop=1), signals, **where)[..., ::hop]
    # Another hop has another FFT length, and with it more or less of a tail that falls slowly.
    tolerance = 1e-3 if name in ("ricker", "superlet") else 1e-5
    assert row_error(power_of(replace(WAVELETS[name], hop=hop), signals, **where), every) < tolerance


# --- what power means ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["morlet", "ricker", "gmw", "superlet"])
def test_a_unit_sine_has_the_power_of_one_quarter_at_every_frequency(name):
    """|H|² / 4 with H = 1: half of a sine's amplitude is at positive frequencies."""
    params = WAVELETS[name]
    t = np.arange(6800) / SFREQ
    sines = np.sin(2 * np.pi * frequencies(params)[:, np.newaxis] * t).astype(np.float32)
    power = power_of(params, sines, n_context=2400, n_window=2000)
    own = power[np.arange(12), np.arange(12)]
    np.testing.assert_allclose(own, 0.25, rtol=2e-3)


@pytest.mark.parametrize("name", WAVELETS)
@pytest.mark.parametrize("row", [2, 6, 9])
def test_a_sine_peaks_at_its_own_frequency(name, row):
    params = WAVELETS[name]
    t = np.arange(6800) / SFREQ
    sine = np.sin(2 * np.pi * frequencies(params)[row] * t).astype(np.float32)[np.newaxis]
    power = power_of(params, sine, n_context=2400, n_window=2000)
    assert power[0].mean(axis=-1).argmax() == row


@pytest.mark.parametrize("name", WAVELETS)
def test_a_burst_stands_at_its_own_time_and_frequency(name):
    """A 10 Hz burst of 0.15 s around 6.0 s of the window: frame 150 of 25 per second."""
    params = replace(WAVELETS[name], n_freqs=64)
    t = (np.arange(6800) - 2400) / SFREQ
    burst = (np.exp(-0.5 * ((t - 6.0) / 0.15) ** 2) * np.cos(2 * np.pi * 10 * (t - 6.0))).astype(np.float32)
    power = power_of(params, burst[np.newaxis], n_context=2400, n_window=2000)[0]
    row, frame = np.unravel_index(power.argmax(), power.shape)
    assert frame == 150
    assert frequencies(params)[row] == pytest.approx(10.0, rel=0.06)


def test_energy_norm_is_amplitude_norm_times_the_scale():
    """PyWavelets divides by sqrt(scale) where unit gain needs scale: power grows by the scale, 200/f."""
    signals = eeg(2, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    expected = power_of(MORLET, signals, **where) * (SFREQ / frequencies(MORLET)[:, np.newaxis])
    assert row_error(power_of(replace(MORLET, norm="energy"), signals, **where), expected) < 1e-5


# --- groups --------------------------------------------------------------------------------------


def test_a_group_is_the_mean_of_its_derivations_power():
    signals = eeg(5, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    each = power_of(MORLET, signals, **where)
    grouped = power_of(MORLET, signals, groups=((0, 1, 2), (4,), (3, 0)), **where)
    expected = [each[:3].mean(axis=0), each[4], (each[3] + each[0]) / 2]
    np.testing.assert_allclose(grouped, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", WAVELETS)
def test_an_empty_group_is_zeros(name):
    signals = eeg(2, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    power = power_of(WAVELETS[name], signals, groups=((), (0, 1), ()), **where)
    np.testing.assert_array_equal(power[[0, 2]], 0)
    np.testing.assert_array_equal(power[1:2], power_of(WAVELETS[name], signals, groups=((0, 1),), **where))
    np.testing.assert_array_equal(power_of(WAVELETS[name], signals, groups=((),), **where), 0)


def test_power_averaged_over_a_chain_sees_what_the_mean_signal_loses():
    """A wave at T3 alone cancels in the mean of F7-T3 and T3-T5, and not in the mean of their power."""
    wave = eeg(1, 6800)[0]
    chain = np.stack([0 * wave, -wave, wave, 0 * wave])
    where = {"n_context": 2400, "n_window": 2000}
    alone = power_of(MORLET, wave[np.newaxis], **where)
    np.testing.assert_allclose(power_of(MORLET, chain, groups=((0, 1, 2, 3),), **where), alone / 2, rtol=1e-4)
    assert power_of(MORLET, chain.mean(axis=0, keepdims=True), **where).max() == 0


# --- edges and odd shapes ------------------------------------------------------------------------


@pytest.mark.parametrize("n_context", [0, 200, 2400])
@pytest.mark.parametrize("name", ["morlet", "hat", "gmw", "superlet"])
def test_one_end_does_not_leak_into_the_other(name, n_context):
    """A click in the last samples is not there at the window's start, wherever zeros stand in."""
    params = replace(WAVELETS[name], min_hz=1.0)
    where = {"n_context": n_context, "n_window": 2000}
    click, centred = np.zeros((2, 1, 2000 + 2 * n_context), np.float32)
    click[0, -2:] = 1000.0, -1000.0
    centred[0, n_context + 1000 : n_context + 1002] = 1000.0, -1000.0
    leaked = power_of(params, click, **where)[0, :, :50].max(axis=-1)
    assert (leaked < 1e-7 * power_of(params, centred, **where)[0].max(axis=-1)).all()


@pytest.mark.parametrize("name", WAVELETS)
def test_context_beyond_the_reach_changes_nothing(name):
    params = replace(WAVELETS[name], min_hz=2.0)
    n_reach = math.ceil(wavelet_reach_s(params, sfreq=SFREQ) * SFREQ)
    signals = eeg(2, 12_000)
    near = power_of(params, signals[:, 5000 - n_reach : 7000 + n_reach], n_context=n_reach, n_window=2000)
    far = power_of(params, signals, n_context=5000, n_window=2000)
    assert row_error(near, far) < (2e-3 if name == "ricker" else 5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", WAVELETS)
@pytest.mark.parametrize(
    ("change", "n_context", "n_window", "n_frames"),
    [
        ({"n_freqs": 1}, 2400, 2000, 250),
        ({"max_hz": 100.0}, 2400, 2000, 250),
        ({"min_hz": 0.05, "n_freqs": 3}, 100, 500, 63),
        ({"hop": 997}, 2400, 2000, 3),
        ({"hop": 5000}, 2400, 2000, 1),
        ({"hop": 1}, 0, 1, 1),
        ({"hop": 3}, 17, 2, 1),
        ({"hop": 8}, 2000, 10_000, 1250),
    ],
)
def test_odd_shapes_give_finite_power(name, change, n_context, n_window, n_frames):
    params = replace(WAVELETS[name], **change)
    power = power_of(
        params, eeg(2, n_window + 2 * n_context + 2)[:, 2:], n_context=n_context, n_window=n_window
    )
    assert power.shape == (2, params.n_freqs, n_frames)
    assert power.dtype == np.float32
    assert np.isfinite(power).all()
    assert (power >= 0).all()


def test_a_morlet_near_half_the_sampling_rate_is_cut_there_and_not_folded():
    """A 70 Hz sine has no image at 100 Hz and below: its power stays at 70 Hz."""
    params = replace(MORLET, min_hz=60.0, max_hz=100.0, n_freqs=41)
    sine = np.sin(2 * np.pi * 70 * np.arange(2800) / SFREQ).astype(np.float32)[np.newaxis]
    power = power_of(params, sine, n_context=400, n_window=2000)[0].mean(axis=-1)
    assert frequencies(params)[power.argmax()] == pytest.approx(70.0, rel=0.02)
    assert power[-1] == pytest.approx(0.25 * math.exp(-((W0 * (0.7 - 1)) ** 2)), rel=0.01)


def test_an_offset_changes_nothing():
    """The mean is taken off: 5000 µV leave no trace, not even where zeros stand beyond the ends."""
    signals = eeg(2, 2000)
    found = power_of(MORLET, signals + np.float32(5000), n_context=0, n_window=2000)
    assert row_error(found, power_of(MORLET, signals, n_context=0, n_window=2000)) < 1e-3


@pytest.mark.parametrize("name", WAVELETS)
def test_zeros_have_no_power(name):
    zeros = np.zeros((2, 6800), np.float32)
    np.testing.assert_array_equal(power_of(WAVELETS[name], zeros, n_context=2400, n_window=2000), 0)


@pytest.mark.parametrize("name", WAVELETS)
def test_nan_stays_in_its_own_group(name):
    signals = eeg(3, 6800)
    signals[1, 3000] = np.nan
    power = power_of(WAVELETS[name], signals, groups=((0,), (1, 2)), n_context=2400, n_window=2000)
    assert np.isfinite(power[0]).all()
    assert np.isnan(power[1]).all()


@pytest.mark.parametrize("name", WAVELETS)
def test_the_same_input_gives_the_same_bytes_and_is_not_written_to(name):
    signals = eeg(4, 6800)
    before = signals.copy()
    where = {"n_context": 2400, "n_window": 2000, "groups": ((0, 1), (2, 3))}
    first = power_of(WAVELETS[name], signals, **where)
    assert power_of(WAVELETS[name], signals.copy(), **where).tobytes() == first.tobytes()
    np.testing.assert_array_equal(signals, before)


def test_a_plan_is_made_once():
    where = {"sfreq": SFREQ, "n_context": 2400, "n_window": 2000}
    assert plan_cwt(MORLET, **where) is plan_cwt(replace(MORLET), **where)


def test_the_work_is_counted():
    """Points of all FFTs per derivation at the default: one short, one long, and 64 inverse ones."""
    plan = plan_cwt(replace(MORLET, n_freqs=64), sfreq=SFREQ, n_context=2400, n_window=2000)
    assert plan.n_fft_points < 28_000


def test_numpys_buffer_is_as_before_and_changes_no_bit(monkeypatch):
    plan, pairs = plan_cwt(MORLET, sfreq=SFREQ, n_context=400, n_window=2000), ((0, 1), (2, 3))
    signals, usual = eeg(4, 2800), np.getbufsize()
    small = plan.power(signals, pairs)
    assert np.getbufsize() == usual
    monkeypatch.setattr("hms.signal.levels.BUFFER", usual)
    assert plan.power(signals, pairs).tobytes() == small.tobytes()
    monkeypatch.setattr(type(plan), "_total_power", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plan.power(signals, pairs)
    assert np.getbufsize() == usual


def test_the_wrong_number_of_samples_is_refused():
    plan = plan_cwt(MORLET, sfreq=SFREQ, n_context=10, n_window=20)
    with pytest.raises(ValueError, match=r"derivations must have 40 samples each; got shape \(2, 41\)"):
        plan.power(np.zeros((2, 41), np.float32), ((0,),))
    with pytest.raises(ValueError, match="window must have samples and context none or more; got 0 and 5"):
        plan_cwt(MORLET, sfreq=SFREQ, n_context=5, n_window=0)


# --- a wavelet of one's own ----------------------------------------------------------------------


@pytest.fixture
def bump(monkeypatch):
    """Register the example of the module's docstring, for one test."""
    monkeypatch.setitem(registry._entries, "cwt", dict(registry._entries["cwt"]))

    @dataclass(frozen=True)
    class Bump(Cwt):
        width: PositiveFloat

    @register("cwt", "test_bump", Bump)
    def response(freqs_hz, centre_hz, params):
        distance = (freqs_hz / centre_hz - 1) / params.width
        inside = np.abs(distance) < 1
        return np.where(inside, np.exp(1 - 1 / np.where(inside, 1 - distance**2, 1)), 0)

    return Bump("test_bump", **COMMON, width=0.8)


@pytest.mark.slow
def test_a_wavelet_of_ones_own_needs_nothing_but_its_response(bump):
    params = replace(bump, min_hz=2.0, n_freqs=5)
    signals = eeg(2, 6800)
    where = {"n_context": 2400, "n_window": 2000}

    def response(ratio):
        distance = np.clip((ratio - 1) / 0.8, -1 + 1e-12, 1 - 1e-12)
        return np.exp(1 - 1 / (1 - distance**2))

    expected = reference(
        params, signals, lambda f: by_quadrature(f, response, top=1.9), half_cycles=20, **where
    )
    assert row_error(power_of(params, signals, **where), expected) < 3e-4


# --- PyWavelets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("params", "name"), [(MORLET, "cmor1.5-1.0"), (HAT, "mexh")])
def test_the_pywt_backend_is_pywt_cwt(params, name):
    """With ``energy`` the power is |pywt.cwt|² to 1e-6."""
    params = replace(params, backend="pywt", norm="energy")
    signals = eeg(2, 6800)
    scales = params.unit_scale_cycles * SFREQ / frequencies(params).astype(np.float64)
    found = power_of(params, signals, n_context=2400, n_window=2000)
    for row, out in zip(signals, found, strict=True):
        coefficients, _ = pywt.cwt(row.astype(np.float64), scales, name)
        expected = np.abs(coefficients[:, 2400:4400:8]) ** 2
        assert np.abs(out - expected).max() < 1e-6 * expected.max()


def test_pywt_norms_differ_by_the_same_factor_as_fft_norms():
    signals = eeg(1, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    for params in (MORLET, HAT):
        ratios = [
            power_of(replace(params, backend=backend, norm="energy"), signals, **where).mean(axis=-1)
            / power_of(replace(params, backend=backend), signals, **where).mean(axis=-1)
            for backend in ("fft", "pywt")
        ]
        np.testing.assert_allclose(ratios[0], ratios[1], rtol=1e-4)


@pytest.mark.parametrize("params", [MORLET, HAT])
def test_fft_and_pywt_agree_as_far_as_pywt_is_precise(params):
    """PyWavelets' staircase and half-sample shifts are worth some 2 to 4 % of a row's maximum."""
    params = replace(params, norm="energy", min_hz=1.0, max_hz=8.0 if params is MORLET else 2.0)
    signals = eeg(2, 6800)
    where = {"n_context": 2400, "n_window": 2000}
    fft = power_of(params, signals, **where)
    assert 1e-4 < row_error(power_of(replace(params, backend="pywt"), signals, **where), fft) < 0.06


def test_pywts_own_filter_explains_its_difference_exactly():
    """Built from PyWavelets' sampled integral, the filter gives its numbers to 1e-10."""
    signal = eeg(1, 3000)[0].astype(np.float64)
    # PyWavelets before 1.7 had a fixed precision of 10, since then a default of 12.
    parameter = inspect.signature(pywt.cwt).parameters.get("precision")
    integral, x = pywt.integrate_wavelet("cmor1.5-1.0", precision=parameter.default if parameter else 10)
    step = x[1] - x[0]
    for freq in (1.0, 5.0, 17.0):
        scale = SFREQ / freq
        index = (np.arange(scale * (x[-1] - x[0]) + 1) / (scale * step)).astype(int)
        kernel = -np.sqrt(scale) * np.diff(
            np.convolve(signal, np.conj(integral[index[index < integral.size]])[::-1])
        )
        start = (kernel.size - signal.size) / 2
        expected, _ = pywt.cwt(signal, [scale], "cmor1.5-1.0")
        ours = kernel[math.floor(start) : kernel.size - math.ceil(start)]
        assert np.abs(ours - expected[0]).max() < 1e-10 * np.abs(expected).max()


# --- the short-time Fourier transform ------------------------------------------------------------


def stft(**settings: Any) -> Stft:
    """Return settings of one window for all frequencies, 1 Hz to 20 Hz in steps of 1 Hz unless said."""
    base = COMMON | {"min_hz": 1.0, "max_hz": 20.0, "n_freqs": 20, "spacing": "linear"}
    return Stft("stft", **(base | settings))


def scipys(
    eeg: np.ndarray, params: Stft, n_context: int, n_window: int, *, keeps_mean: bool = False
) -> np.ndarray:
    """Return the power by SciPy's ShortTimeFFT with a Gaussian window that sums to 1, in float64."""
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import gaussian

    sigma = params.window_s * 200
    half = math.ceil(7 * sigma)
    window = gaussian(2 * half + 1, sigma)
    # A bin every 0.05 Hz: the frequencies asked for are among them.
    transform = ShortTimeFFT(window / window.sum(), hop=params.hop, fs=200.0, mfft=max(4000, 2 * half + 1))
    first = n_context // params.hop  # slices are centred on multiples of the hop
    frames = -(-n_window // params.hop)
    signals = eeg.astype(np.float64)
    if not keeps_mean:
        signals -= eeg.mean(axis=1, keepdims=True)
    found = transform.stft(signals, p0=first, p1=first + frames)
    bins = np.rint(frequencies(params).astype(np.float64) / transform.delta_f).astype(int)
    np.testing.assert_allclose(bins * transform.delta_f, frequencies(params), atol=1e-5)
    return np.abs(found[:, bins]) ** 2


@pytest.mark.parametrize("keeps_mean", [False, True])
@pytest.mark.parametrize(
    ("settings", "n_context", "n_window"),
    [
        ({"window_s": 0.25}, 400, 2000),
        ({"window_s": 0.08}, 200, 2000),  # 2 Hz wide: half of the lowest row is of negative frequencies
        ({"window_s": 1.0}, 1200, 2000),
        ({"window_s": 0.25, "min_hz": 0.5, "max_hz": 40.0, "n_freqs": 80}, 400, 10_000),
        ({"window_s": 0.5, "hop": 4, "min_hz": 2.0, "max_hz": 2.0, "n_freqs": 1}, 800, 1000),
        ({"window_s": 0.25, "hop": 1}, 400, 400),
    ],
)
def test_stft_is_scipys_short_time_fft_with_a_gaussian(settings, n_context, n_window, keeps_mean):
    """Within 1e-4 of each row's maximum, at every frame, for drifts, rhythms and noise."""
    params = stft(**settings)
    rng = np.random.default_rng(5)
    n = n_window + 2 * n_context
    t = np.arange(n) / 200
    eeg = np.stack(
        [
            np.cumsum(rng.standard_normal(n)) * 2,
            40 * np.sin(2 * np.pi * 9.3 * t) + 5 * rng.standard_normal(n),
            60 * np.sin(2 * np.pi * 0.7 * t + 1) + 10 * rng.standard_normal(n),
        ]
    ).astype(np.float32)
    expected = scipys(eeg, params, n_context, n_window, keeps_mean=keeps_mean)
    plan = plan_cwt(params, sfreq=200.0, n_context=n_context, n_window=n_window, keeps_mean=keeps_mean)
    got = plan.power(eeg, ((0,), (1,), (2,)))
    error = np.abs(got - expected).max(axis=2) / expected.max(axis=2)
    assert error.max() < 1e-4, error.max()


@pytest.mark.parametrize(
    ("overrides", "keeps"),
    [
        ((), False),
        (("cwt=stft",), True),
        (("cwt=stft", "filter=wide"), True),
        (("cwt=stft", "filter=none"), False),
    ],
)
def test_a_mean_is_eeg_to_a_window_that_sees_it_after_a_filter_that_removes_offsets(overrides, keeps):
    assert Scalograms.from_config(hms.compose(*overrides)).keeps_mean is keeps


def test_stft_of_a_sine_has_a_quarter_of_its_squared_amplitude_and_one_width_everywhere():
    """Power A²/4 at its own frequency; half of it half a width beside, at 4 Hz as at 16 Hz."""
    params = stft(window_s=0.5, min_hz=1.0, max_hz=20.0, n_freqs=1901)
    t = np.arange(4000) / 200
    for hz in (4.0, 16.0):
        eeg = (10 * np.sin(2 * np.pi * hz * t)).astype(np.float32)[np.newaxis]
        power = plan_cwt(params, sfreq=200.0, n_context=1000, n_window=2000).power(eeg, ((0,),))[0, :, 125]
        freqs = frequencies(params)
        assert power.max() == pytest.approx(25, rel=1e-3)
        assert freqs[power.argmax()] == pytest.approx(hz, abs=0.011)
        wide = freqs[power > power.max() / 2]
        # exp(-4 (pi sigma d)²) = 1/2
        assert np.ptp(wide) == pytest.approx(2 * math.sqrt(math.log(2)) / (2 * math.pi * 0.5), abs=0.03)


def test_stft_plan_reads_no_further_than_its_window_reaches():
    """Of exp(-t² / sigma²) the share erfc(5.86) = 1e-16 lies beyond 5.86 sigma."""
    assert wavelet_reach_s(stft(window_s=0.25), sfreq=200.0) == pytest.approx(0.25 * 5.864, rel=2e-2)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"norm": "energy"}, "norm must be amplitude"),
        ({"max_hz": 99.0}, r"max_hz must be at most 96.82 Hz with window_s=0.25, so that the band ends"),
        ({"backend": "pywt"}, "backend 'pywt' has no wavelet for kind 'stft'"),
    ],
)
def test_stft_settings_that_cannot_be_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        stft(**({"window_s": 0.25} | settings))
