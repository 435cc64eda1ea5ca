"""Resampling to 200 Hz, against sines in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from hms.sources.resample import rational, resample, resampled_length, source_range

RATES_HZ = (100, 128, 173.61, 250, 256, 400, 500, 512, 1000, 2000)


def sine(hz, start, stop, sfreq):
    return np.sin(2 * np.pi * hz * np.arange(start, stop) / sfreq + 0.3)


@pytest.mark.parametrize("sfreq", RATES_HZ)
def test_a_sine_below_80_percent_of_nyquist_is_off_by_less_than_1e_5(sfreq):
    """At the instants of the output a resampled sine has the values of its formula."""
    ratio = rational(sfreq, 200.0)
    first, last = source_range(400, 1400, ratio)
    for hz in (0.5, 10.0, 20.0, 0.8 * min(sfreq, 200) / 2):
        found = resample(sine(hz, first, last, sfreq)[None], first, 400, 1400, ratio)[0]
        np.testing.assert_allclose(found, sine(hz, 400, 1400, 200.0), atol=1e-5)


@pytest.mark.parametrize("sfreq", [400, 512, 1000])
def test_what_lies_above_120_percent_of_nyquist_is_gone(sfreq):
    """No alias of 120 Hz (it would stand at 80 Hz) is left above 1e-5."""
    ratio = rational(sfreq, 200.0)
    first, last = source_range(400, 1400, ratio)
    found = resample(sine(120.0, first, last, sfreq)[None], first, 400, 1400, ratio)
    assert np.abs(found).max() < 1e-5


@pytest.mark.parametrize("sfreq", [128, 256, 500])
def test_a_piece_has_the_very_samples_of_the_whole(sfreq):
    """Where a piece begins and ends does not change a bit of it."""
    ratio = rational(sfreq, 200.0)
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


def test_the_ratio_is_in_lowest_terms_and_gives_the_length():
    """256 Hz to 200 Hz is 25/32: 2,560 samples become 2,000."""
    assert rational(256, 200.0) == (25, 32)
    assert resampled_length(2560, (25, 32)) == 2000


@pytest.mark.parametrize("sfreq", [0.0, -1.0, np.nan, 200.00001])
def test_a_rate_without_a_simple_ratio_is_refused(sfreq):
    """No filter of millions of taps, and no rate of zero."""
    with pytest.raises(ValueError, match="Hz"):
        rational(sfreq, 200.0)
