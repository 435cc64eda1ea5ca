"""Resampling to 200 Hz, against sines in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from hms.sources.rates import conversion
from hms.sources.resample import resample, resample_anywhere, source_range, source_range_anywhere

RATES_HZ = (100, 128, 173.61, 250, 256, 400, 500, 512, 1000, 2000)


def ratio_of(sfreq):
    """Return the factors up and down to 200 Hz."""
    ratio = conversion(sfreq, 200.0).ratio
    assert ratio is not None
    return ratio


def sine(hz, start, stop, sfreq):
    return np.sin(2 * np.pi * hz * np.arange(start, stop) / sfreq + 0.3)


@pytest.mark.parametrize("sfreq", RATES_HZ)
def test_a_sine_below_80_percent_of_nyquist_is_off_by_less_than_1e_5(sfreq):
    """At the instants of the output a resampled sine has the values of its formula."""
    ratio = ratio_of(sfreq)
    first, last = source_range(400, 1400, ratio)
    for hz in (0.5, 10.0, 20.0, 0.8 * min(sfreq, 200) / 2):
        found = resample(sine(hz, first, last, sfreq)[None], first, 400, 1400, ratio)[0]
        np.testing.assert_allclose(found, sine(hz, 400, 1400, 200.0), atol=1e-5)


@pytest.mark.parametrize("sfreq", [400, 512, 1000])
def test_what_lies_above_120_percent_of_nyquist_is_gone(sfreq):
    """No alias of 120 Hz (it would stand at 80 Hz) is left above 1e-5."""
    ratio = ratio_of(sfreq)
    first, last = source_range(400, 1400, ratio)
    found = resample(sine(120.0, first, last, sfreq)[None], first, 400, 1400, ratio)
    assert np.abs(found).max() < 1e-5


@pytest.mark.parametrize("sfreq", [128, 256, 500])
def test_a_piece_has_the_very_samples_of_the_whole(sfreq):
    """Where a piece begins and ends does not change a bit of it."""
    ratio = ratio_of(sfreq)
    whole_first, whole_last = source_range(0, 4000, ratio)
    signal = np.random.default_rng(0).standard_normal((2, whole_last - whole_first))
    whole = resample(signal, whole_first, 0, 4000, ratio)
    first, last = source_range(1003, 1717, ratio)
    piece = resample(signal[:, first - whole_first : last - whole_first], first, 1003, 1717, ratio)
    assert np.array_equal(piece, whole[:, 1003:1717])


def test_the_same_rate_changes_nothing():
    """200 Hz comes out as it went in."""
    signal = np.random.default_rng(0).standard_normal((1, 50))
    assert np.array_equal(resample(signal, 10, 20, 40, (1, 1)), signal[:, 10:30].astype(np.float32))


# --- any ratio -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sfreq", [99.98, 173.6107, 256.000131, 600.615, 2048.0])
def test_any_ratio_is_as_exact_as_a_simple_one(sfreq):
    """A sine below 80 % of the lower Nyquist frequency is off by less than 1e-5, an alias is gone."""
    step = sfreq / 200
    first, last = source_range_anywhere(400, 1400, step)
    for hz in (0.5, 10.0, 20.0, 0.8 * min(sfreq, 200) / 2):
        found = resample_anywhere(sine(hz, first, last, sfreq)[None], first, 400, 1400, step)[0]
        np.testing.assert_allclose(found, sine(hz, 400, 1400, 200.0), atol=1e-5)
    if sfreq > 240:
        found = resample_anywhere(sine(120.0, first, last, sfreq)[None], first, 400, 1400, step)
        assert np.abs(found).max() < 1e-5


def test_both_ways_agree():
    """256 Hz in polyphase form, and evaluated where each sample stands."""
    signal = np.random.default_rng(0).standard_normal((2, 4000))
    polyphase = resample(signal, 0, 1000, 2000, (25, 32))
    np.testing.assert_allclose(resample_anywhere(signal, 0, 1000, 2000, 32 / 25), polyphase, atol=2e-6)


def test_any_ratio_keeps_an_offset_and_does_not_depend_on_the_piece():
    """200 mV stay 200 mV to the last bit of float32; a piece has the very samples of the whole."""
    step = 600.615 / 200
    first, last = source_range_anywhere(0, 2000, step)
    offset = np.full((1, last - first), 2e5)
    assert np.array_equal(
        resample_anywhere(offset, first, 0, 2000, step), np.full((1, 2000), 2e5, np.float32)
    )
    signal = np.random.default_rng(0).standard_normal((3, last - first))
    whole = resample_anywhere(signal, first, 0, 2000, step)
    begin, end = source_range_anywhere(333, 977, step)
    piece = resample_anywhere(signal[:, begin - first : end - first], begin, 333, 977, step)
    assert np.array_equal(piece, whole[:, 333:977])
