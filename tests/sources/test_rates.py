"""Sampling rates and durations as headers write them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hms.sources.rates import conversion, nominal_duration, simplest_between


@pytest.mark.parametrize(
    ("text", "n_samples", "sfreq"),
    [
        ("1", 200, Fraction(200)),
        ("0.976562", 250, Fraction(256)),  # 0.9765625, cut
        ("0.976563", 250, Fraction(256)),  # rounded
        ("0,976563", 250, Fraction(256)),  # with a comma
        ("0.333333", 100, Fraction(300)),
        ("0.666667", 100, Fraction(150)),
        ("0.142857", 73, Fraction(511)),
        ("9.59375", 307, Fraction(32)),
        ("9.59375", 2456, Fraction(256)),
        ("1.000000", 601, Fraction(601)),
        ("10", 2500, Fraction(250)),
        ("100", 24986, Fraction(24986, 100)),
        ("1000", 600615, Fraction(600615, 1000)),
        ("1e-1", 20, Fraction(200)),
    ],
)
def test_a_rounded_duration_stands_for_the_one_with_the_simplest_rate(text, n_samples, sfreq):
    """What is not rounded is taken at its word."""
    assert n_samples / nominal_duration(text, n_samples, 200.0) == sfreq


@pytest.mark.parametrize(("text", "n_samples"), [("1.000641", 601), ("0.123457", 77), ("0.987654", 199)])
def test_a_duration_stays_within_the_rounding_of_its_last_digit(text, n_samples):
    """No simple rate is near: the ratio is as simple as the rounding allows, and still polyphase."""
    found = nominal_duration(text, n_samples, 200.0)
    assert abs(found - Fraction(text)) <= Fraction(1, 10**6)
    assert conversion(n_samples / found, 200.0).ratio is not None


@pytest.mark.parametrize("text", ["0", "-1", "0.0", "", "many", "nan", "1/0"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        nominal_duration(text, 200, 200.0)


def test_the_simplest_fraction_has_the_smallest_denominator():
    """355/113 is the simplest fraction that is pi to six digits."""
    assert simplest_between(Fraction("3.141592"), Fraction("3.141593")) == Fraction(355, 113)
    assert simplest_between(Fraction(3, 4), Fraction(3, 4)) == Fraction(3, 4)
    assert simplest_between(Fraction(1, 2), Fraction(7, 3)) == 1


def test_the_ratio_is_in_lowest_terms_and_gives_the_length():
    """256 Hz to 200 Hz is 25/32: 2,560 samples become 2,000; 173.61 Hz is no float's fraction."""
    assert conversion(256, 200.0).ratio == (25, 32)
    assert conversion(256, 200.0).length(2560) == 2000
    assert conversion(173.61, 200.0).sfreq == Fraction(17361, 100)


def test_a_rate_without_a_simple_ratio_is_converted_all_the_same():
    """600.615 Hz: 40000/120123 is too long a filter."""
    found = conversion(Fraction(600615, 1000), 200.0)
    assert found.ratio is None
    assert found.length(600615) == 200_000
    expected = np.sin(2 * np.pi * 10 * np.arange(100, 300) / 200)

    def sine(first, stop):
        return np.sin(2 * np.pi * 10 * np.arange(first, stop) / 600.615)[None]

    np.testing.assert_allclose(found.resampled(sine, 600615, 100, 300)[0], expected, atol=1e-5)


@pytest.mark.parametrize("sfreq", [0.0, -1.0, np.nan, np.inf])
def test_a_rate_that_is_none_is_refused(sfreq):
    with pytest.raises(ValueError, match="above 0 Hz"):
        conversion(sfreq, 200.0)
