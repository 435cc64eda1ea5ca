"""Wavelets: responses, reach in time, superlet orders, and what a wavelet of one's own needs."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hms import registry
from hms.registry import register
from hms.signal.wavelets import (
    Cwt,
    Gmw,
    Morlet,
    Ricker,
    Superlet,
    components,
    frequencies,
    is_log_spaced,
    reaches_s,
    wavelet_reach_s,
)

COMMON = {
    "min_hz": 0.5,
    "max_hz": 20.0,
    "n_freqs": 64,
    "hop": 8,
    "norm": "amplitude",
    "dtype": "float32",
    "backend": "fft",
    "spacing": "log",
}
W0 = 2 * math.pi * math.sqrt(0.75)
MORLET = Morlet("morlet", **COMMON, w0=W0)
RICKER = Ricker("ricker", **COMMON, analytic=True)
GMW = Gmw("gmw", **COMMON, gamma=3.0, beta=math.pi**2)
SUPERLET = Superlet(
    "superlet", **COMMON, base_cycles=3.0, order_min=1.0, order_max=5.0, growth="multiplicative"
)
WAVELETS = {"morlet": MORLET, "ricker": RICKER, "gmw": GMW, "superlet": SUPERLET}


@pytest.fixture
def own_wavelets(monkeypatch):
    """Forget after a test what it registered."""
    monkeypatch.setitem(registry._entries, "cwt", dict(registry._entries["cwt"]))


def test_frequencies_ascend_in_equal_ratios_between_both_ends():
    freqs = frequencies(replace(MORLET, min_hz=1.0, max_hz=16.0, n_freqs=5))
    np.testing.assert_allclose(freqs, [1, 2, 4, 8, 16], rtol=1e-6)
    assert freqs.dtype == np.float32


def test_one_frequency_is_the_lowest():
    np.testing.assert_array_equal(frequencies(replace(MORLET, n_freqs=1)), np.array([0.5], np.float32))


@pytest.mark.parametrize("name", WAVELETS)
@pytest.mark.parametrize("centre_hz", [0.5, 3.0, 20.0])
def test_every_response_has_its_peak_of_one_at_the_centre(name, centre_hz):
    freqs = centre_hz * np.arange(1, 4001) / 1000
    for component in components(WAVELETS[name], freqs, centre_hz):
        assert freqs[component.response.argmax()] == pytest.approx(centre_hz)
        assert component.response.max() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "at_half", "at_double"),
    [
        ("morlet", math.exp(-(W0**2) / 8), math.exp(-(W0**2) / 2)),
        ("ricker", math.exp(0.75) / 4, 4 * math.exp(-3)),
        (
            "gmw",
            0.5 ** (math.pi**2) * math.exp(math.pi**2 / 3 * (1 - 1 / 8)),
            2 ** (math.pi**2) * math.exp(math.pi**2 / 3 * (1 - 8)),
        ),
    ],
)
def test_responses_by_hand_at_half_and_twice_the_centre(name, at_half, at_double):
    (component,) = components(WAVELETS[name], np.array([2.0, 8.0]), 4.0)
    np.testing.assert_allclose(component.response, [at_half, at_double], rtol=1e-12)


def test_gmw_and_morlet_have_the_same_curvature_at_the_peak():
    """Second differences of ln(response) over ln(f): minus w0² and minus beta gamma are the same."""
    step = 1e-3
    freqs = np.exp([-step, 0.0, step])
    for params in (MORLET, GMW):
        (component,) = components(params, freqs, 1.0)
        curvature = np.diff(np.log(component.response), 2)[0] / step**2
        assert curvature == pytest.approx(-(W0**2), rel=1e-3)


def test_the_morlets_reach_is_5_standard_deviations():
    """erfc(5.04) is 1e-12, the energy outside; sigma at 0.5 Hz is w0 / pi = 1.732 s."""
    (reach,) = reaches_s(MORLET, 0.5)
    assert reach == pytest.approx(5.04 * W0 / math.pi, abs=0.13)
    assert wavelet_reach_s(MORLET, sfreq=200.0) == reach


@pytest.mark.parametrize("name", WAVELETS)
def test_all_default_wavelets_stay_within_the_filters_12_s(name):
    assert 5 < wavelet_reach_s(WAVELETS[name], sfreq=200.0) <= 12


@pytest.mark.parametrize("name", ["morlet", "ricker", "gmw"])
def test_reach_scales_with_the_period(name):
    at_1, at_8 = reaches_s(WAVELETS[name], 1.0)[0], reaches_s(WAVELETS[name], 8.0)[0]
    assert at_1 == pytest.approx(8 * at_8)


def test_the_real_hat_reaches_less_far_than_its_analytic_part():
    """A Gaussian tail against one that falls with the third power of time."""
    assert reaches_s(replace(RICKER, analytic=False), 1.0)[0] < 0.5 * reaches_s(RICKER, 1.0)[0]


@pytest.mark.parametrize(
    ("order", "exponents"),
    [(1.0, [1.0]), (2.0, [0.5, 0.5]), (2.5, [0.4, 0.4, 0.2]), (5.0, [0.2, 0.2, 0.2, 0.2, 0.2])],
)
def test_superlet_orders_become_exponents(order, exponents):
    params = replace(SUPERLET, order_min=order, order_max=order)
    found = [c.exponent for c in components(params, np.array([1.0]), 1.0)]
    np.testing.assert_allclose(found, exponents)


def test_superlet_order_rises_linearly_with_frequency():
    """Orders 1 to 5 over 0.5 to 20 Hz: order 3 at 10.25 Hz."""
    assert len(components(SUPERLET, np.array([1.0]), 0.5)) == 1
    found = [c.exponent for c in components(SUPERLET, np.array([1.0]), 10.25)]
    np.testing.assert_allclose(found, [1 / 3] * 3)


@pytest.mark.parametrize(("growth", "cycles"), [("multiplicative", [3, 6, 9]), ("additive", [3, 4, 5])])
def test_superlet_wavelets_have_the_cycles_of_the_paper(growth, cycles):
    """sigma_t = c / (5 f), so sigma_f = 5 f / (2 pi c), one of which from the centre exp(-1/2) is left."""
    params = replace(SUPERLET, order_min=3.0, order_max=3.0, growth=growth)
    for i, c in enumerate(cycles):
        sigma_hz = 5 * 4.0 / (2 * math.pi * c)
        component = components(params, np.array([4.0 + sigma_hz]), 4.0)[i]
        assert component.response[0] == pytest.approx(math.exp(-0.5))


def test_pywavelets_name_of_the_default_is_cmor_1_5():
    assert replace(MORLET, w0=5.441398093).pywt_name == "cmor1.5-1.0"
    assert replace(RICKER, analytic=False).pywt_name == "mexh"


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        (MORLET, {"max_hz": 120.0}, "max_hz must be at most 100 Hz"),
        (MORLET, {"min_hz": 30.0}, "min_hz must be below max_hz; got 30 and 20"),
        (MORLET, {"min_hz": 20.0}, "min_hz must be below max_hz; got 20 and 20"),
        (RICKER, {"backend": "pywt"}, "backend 'pywt' has no wavelet for kind 'ricker'"),
        (GMW, {"backend": "pywt"}, "backend 'pywt' has no wavelet for kind 'gmw'"),
        (SUPERLET, {"backend": "pywt"}, "backend 'pywt' has no wavelet for kind 'superlet'"),
        (SUPERLET, {"order_min": 6.0}, "order_min must be at most order_max; got 6 and 5"),
    ],
)
def test_impossible_settings_are_refused(params, change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(params, **change)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (lambda f, c, p: np.ones(3), "one real gain for each of 5 frequencies"),
        (lambda f, c, p: np.ones(len(f), complex), "one real gain for each of 5 frequencies; got complex128"),
        (lambda f, c, p: f * np.nan, "must return finite gains"),
        (lambda f, c, p: f * 0, "must return finite gains that are not all zero"),
    ],
)
@pytest.mark.usefixtures("own_wavelets")
def test_a_wavelet_that_returns_nonsense_is_named(response, message):
    register("cwt", "test_bad", Cwt)(response)
    with pytest.raises(ValueError, match=f"^cwt 'test_bad' .*{message}"):
        components(Cwt("test_bad", **COMMON), np.arange(1.0, 6.0), 2.0)


@pytest.mark.usefixtures("own_wavelets")
def test_a_wavelet_that_never_dies_out_is_refused():
    """A response at one frequency only is an endless sine."""
    register("cwt", "test_line", Cwt)(lambda f, c, p: (np.abs(f - c) < 1e-9).astype(float))
    with pytest.raises(ValueError, match="cwt 'test_line' does not die out within 2048 cycles"):
        wavelet_reach_s(Cwt("test_line", **COMMON), sfreq=200.0)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("log", [1.0, 2.0, 4.0, 8.0, 16.0]),
        ("linear", [1.0, 4.75, 8.5, 12.25, 16.0]),
        # 2595 log10(1 + f / 700), evenly: 700 (701/700)^(1 - k/4) (716/700)^(k/4) - 700
        ("mel", [700 * (701 / 700) ** (1 - k / 4) * (716 / 700) ** (k / 4) - 700 for k in range(5)]),
    ],
)
def test_frequencies_are_spaced_as_said(spacing: str, expected: list[float]) -> None:
    given = COMMON | {"min_hz": 1.0, "max_hz": 16.0, "n_freqs": 5, "spacing": spacing}
    found = frequencies(Morlet("morlet", **given, w0=W0))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert is_log_spaced(found) is (spacing == "log")
