"""Scaling of power to 0..1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms.registry import Params
from hms.signal.scaling import Log1pPercentile, log1p_percentile, none

PARAMS = Log1pPercentile("log1p_percentile", 1.0, 99.0)
RNG = np.random.default_rng(0)


def reference(power, params):
    """Follow the definition in float64: log1p, NumPy's percentiles, a straight line, a clip."""
    logs = np.log1p(power.astype(np.float64))
    low, high = np.percentile(logs, [params.low_percent, params.high_percent])
    return np.clip((logs - low) / (high - low), 0, 1)


@pytest.mark.parametrize("shape", [(4, 48, 250), (16, 48, 2000), (1, 1, 2), (3, 7, 11)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_equals_the_definition_by_numpy_percentile(shape, scale):
    power = (scale * RNG.gamma(1.0, 1.0, shape)).astype(np.float32)
    np.testing.assert_allclose(log1p_percentile(power, PARAMS), reference(power, PARAMS), atol=5e-6)


@pytest.mark.parametrize("high", [0.0, 1e9])
@pytest.mark.parametrize("percents", [(1.0, 99.0), (40.0, 60.0), (0.0, 100.0), (90.0, 99.9)])
def test_percentiles_hold_where_every_sixteenth_value_is_extreme(high, percents):
    """Values that a sample at a regular step would see alone."""
    power = RNG.gamma(1.0, 1.0, (4, 48, 250)).astype(np.float32)
    power.reshape(-1)[::16] = high
    params = Log1pPercentile("log1p_percentile", *percents)
    np.testing.assert_allclose(log1p_percentile(power, params), reference(power, params), atol=5e-6)


def test_known_values():
    """log1p of e^k - 1 is k; percentiles 0 and 100 map 0..4 to 0, 0.25 ... 1."""
    power = np.expm1(np.arange(5)).astype(np.float32)
    scaled = log1p_percentile(power, Log1pPercentile("log1p_percentile", 0.0, 100.0))
    np.testing.assert_allclose(scaled, [0, 0.25, 0.5, 0.75, 1], atol=1e-6)
    assert scaled.dtype == np.float32


def test_one_percent_of_the_values_are_clipped_at_each_end():
    power = RNG.permutation(np.arange(100_000, dtype=np.float32)).reshape(4, 25, 1000)
    scaled = log1p_percentile(power, PARAMS)
    assert (scaled == 0).mean() == pytest.approx(0.01, abs=1e-4)
    assert (scaled == 1).mean() == pytest.approx(0.01, abs=1e-4)


def test_percentiles_are_taken_over_all_rows_together():
    """A chain with ten times the power stays above the others."""
    power = RNG.gamma(5.0, 1.0, (2, 8, 500)).astype(np.float32)
    power[1] *= 100
    scaled = log1p_percentile(power, PARAMS)
    assert scaled[1].mean() > scaled[0].mean() + 0.3


@pytest.mark.parametrize("value", [0.0, 1e-30, 7.0, 1e9])
def test_constant_power_gives_zeros(value):
    power = np.full((2, 3, 4), value, np.float32)
    np.testing.assert_array_equal(log1p_percentile(power, PARAMS), np.zeros((2, 3, 4)))


def test_power_that_varies_less_than_float32_can_tell_gives_zeros():
    power = np.array([1e-42, 2e-42, 3e-42], np.float32)
    np.testing.assert_array_equal(log1p_percentile(power, PARAMS), np.zeros(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_bad_power_is_refused(bad):
    power = np.ones((2, 3), np.float32)
    power[1, 1] = bad
    with pytest.raises(ValueError, match=r"^power must be finite and at least 0"):
        log1p_percentile(power, PARAMS)


def test_input_is_never_written_to():
    power = RNG.gamma(1.0, 1.0, (4, 5)).astype(np.float32)
    before = power.copy()
    log1p_percentile(power, PARAMS)
    np.testing.assert_array_equal(power, before)


@given(st.lists(st.floats(0, 2.0**40, width=32), min_size=1, max_size=60))
def test_any_power_ends_within_0_and_1(values):
    """Whatever the power: finite, in range, and in the order of the power."""
    power = np.array(values, np.float32)
    scaled = log1p_percentile(power, PARAMS)
    assert np.isfinite(scaled).all()
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    assert (np.diff(scaled[np.argsort(power)]) >= -1e-6).all()


def test_none_hands_power_through():
    power = np.ones((2, 3), np.float32)
    assert none(power, Params("none")) is power


@pytest.mark.parametrize(("low", "high"), [(99.0, 1.0), (50.0, 50.0)])
def test_percentiles_in_the_wrong_order_are_refused(low, high):
    with pytest.raises(ValueError, match=r"^low_percent must be below high_percent"):
        Log1pPercentile("log1p_percentile", low, high)
