"""Gaps: what fills samples that are NaN or infinite."""

import numpy as np
import pytest

from hms.registry import Params
from hms.signal.gaps import FillGaps, fill_gaps, gap_patterns, has_gaps, interpolate, median

NAN = np.nan
LINES = {"order": 0, "fit_s": 2.0, "longest_s": 0.2}
PREDICTED = FillGaps("interpolate", hold_s=0.5, taper_s=2.0, order=24, fit_s=2.0, longest_s=0.2)
PARAMS = FillGaps("interpolate", hold_s=1.0, taper_s=2.0, **LINES)
"""At 1 Hz: held one sample, then half a cosine over two (weights 1, 0.5, 0)."""


def eeg(*rows):
    return np.array(rows, np.float32)


def test_an_inner_gap_becomes_a_straight_line():
    """1, gap, gap, gap, 9 becomes 1, 3, 5, 7, 9, and infinities are gaps too."""
    filled = interpolate(eeg([1, NAN, np.inf, -np.inf, 9]), PARAMS, sfreq=1.0)
    np.testing.assert_array_equal(filled, eeg([1, 3, 5, 7, 9]))


def test_an_end_is_held_and_then_led_to_the_median():
    """Values 4, 4, 8: median 4; after the 8 comes 8 (held), 6 (half way), 4, 4."""
    filled = interpolate(eeg([4, 4, 8, NAN, NAN, NAN, NAN]), PARAMS, sfreq=1.0)
    np.testing.assert_allclose(filled, eeg([4, 4, 8, 8, 6, 4, 4]), atol=1e-6)


def test_a_start_is_the_mirror_of_an_end():
    """The same values reversed give the same filling reversed."""
    row = eeg([4, 4, 8, NAN, NAN, NAN, NAN])
    np.testing.assert_array_equal(
        interpolate(row[:, ::-1], PARAMS, sfreq=1.0), interpolate(row, PARAMS, sfreq=1.0)[:, ::-1]
    )


def test_without_taper_the_median_follows_the_held_value_at_once():
    """A taper of 0 s is a step, not a division by zero."""
    sharp = FillGaps("interpolate", hold_s=1.0, taper_s=0.0, **LINES)
    filled = interpolate(eeg([4, 4, 8, NAN, NAN, NAN]), sharp, sfreq=1.0)
    np.testing.assert_array_equal(filled, eeg([4, 4, 8, 8, 4, 4]))


def test_a_channel_without_a_sample_becomes_zeros_and_leaves_others_alone():
    filled = interpolate(eeg([NAN, NAN, NAN], [1, 2, 3]), PARAMS, sfreq=1.0)
    np.testing.assert_array_equal(filled, eeg([0, 0, 0], [1, 2, 3]))


def test_a_single_valid_sample_fills_its_channel():
    np.testing.assert_array_equal(interpolate(eeg([NAN, 5, NAN]), PARAMS, sfreq=1.0), eeg([5, 5, 5]))


def test_the_median_policy_puts_the_median_everywhere():
    """Median of 1, 2, 9 is 2."""
    filled = median(eeg([NAN, 1, 9, NAN, 2], [NAN] * 5), Params("median"), sfreq=1.0)
    np.testing.assert_array_equal(filled, eeg([2, 1, 9, 2, 2], [0] * 5))


@pytest.mark.parametrize("params", [PARAMS, Params("median")])
def test_input_is_never_written_to(params):
    given = eeg([1, NAN, 3])
    before = given.copy()
    filled = fill_gaps(given, params, sfreq=1.0)
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("shared", [True, False])
def test_lines_are_those_of_numpy_channel_by_channel(shared):
    """Any number of gaps, at the ends too, the same in all channels or not."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        given = rng.normal(0, 50, (4, 60)).astype(np.float32)
        is_gap = np.repeat(rng.random((1 if shared else 4, 60)) < 0.4, 4 if shared else 1, axis=0)
        is_gap[:, 30] = False
        given[is_gap] = NAN
        whole_line = FillGaps("interpolate", hold_s=60.0, taper_s=0.0, **LINES)
        expected = [
            np.interp(np.arange(60), np.flatnonzero(~gap), row[~gap])
            for row, gap in zip(given, is_gap, strict=True)
        ]
        np.testing.assert_allclose(interpolate(given, whole_line, sfreq=1.0), expected, rtol=1e-5, atol=1e-4)


def test_gaps_are_told_together_where_all_channels_share_them():
    is_gap = np.array([[0, 1, 1, 0]] * 3, bool)
    assert [(rows.start, rows.stop) for rows, _ in gap_patterns(is_gap)] == [(0, 3)]
    is_gap[1] = False
    assert [(rows.start, rows.stop) for rows, _ in gap_patterns(is_gap)] == [(0, 1), (2, 3)]
    assert not list(gap_patterns(np.zeros((3, 4), bool)))
    assert not list(gap_patterns(np.zeros((0, 4), bool)))


def test_without_gaps_the_given_array_comes_back():
    given = eeg([1, 2, 3])
    assert fill_gaps(given, PARAMS, sfreq=1.0) is given


@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf])
def test_one_bad_sample_anywhere_is_a_gap(value):
    row = np.ones((3, 1000), np.float32)
    row[2, 777] = value
    assert has_gaps(row)


def test_infinities_of_both_signs_and_huge_values_are_told_apart():
    """Inf - Inf is NaN and still a gap; 3e38 four times overflows a sum and is none."""
    assert has_gaps(eeg([np.inf, -np.inf]))
    assert not has_gaps(np.full((1, 4), 3e38, np.float32))


def test_long_edge_blocks_stay_within_the_channels_range():
    """Blocks of 5,197 samples, the longest of the competition, add no new extreme."""
    rng = np.random.default_rng(0)
    row = rng.normal(0, 30, (1, 10_000)).astype(np.float32) + 3000
    row[:, :5197] = NAN
    filled = interpolate(row, FillGaps("interpolate", hold_s=0.5, taper_s=2.0, **LINES), sfreq=200.0)
    assert filled.min() >= np.nanmin(row) - 1e-3
    assert filled.max() <= np.nanmax(row) + 1e-3
    assert filled[0, 0] == np.float32(np.nanmedian(row))


# --- short gaps ----------------------------------------------------------------------------------


def rhythms(n=2000, noise=0.0):
    """Return two channels of two sines and noise, µV at 200 Hz."""
    t = np.arange(n) / 200
    rng = np.random.default_rng(1)
    waves = [
        a * np.sin(2 * np.pi * f * t) + 8 * np.sin(2 * np.pi * 60 * t) for a, f in ((30, 3.0), (20, 9.0))
    ]
    return (np.array(waves) + noise * rng.standard_normal((2, n))).astype(np.float32)


def holed(given, *gaps):
    """Return a copy with gaps, given by first and past-last sample."""
    out = given.copy()
    for start, stop in gaps:
        out[:, start:stop] = NAN
    return out


@pytest.mark.parametrize("length", [1, 3, 20, 40])
def test_a_short_gap_in_rhythms_is_filled_with_the_rhythms(length):
    """Sines are a linear recurrence, so that what is missing of them follows from the rest."""
    whole = rhythms()
    filled = interpolate(holed(whole, (1000, 1000 + length)), PREDICTED, sfreq=200.0)
    np.testing.assert_allclose(filled, whole, atol=0.05)


def test_a_predicted_gap_is_the_least_squares_solution():
    """A dense solver over one channel's equations gives the same samples."""
    given = holed(rhythms(noise=2.0), (1000, 1012))[:1]
    filled = interpolate(given, PREDICTED, sfreq=200.0)[0, 1000:1012]
    signal = given[0, 600:1412].astype(float)
    signal -= np.nanmean(signal)
    lagged = np.lib.stride_tricks.sliding_window_view(signal, 25)
    whole = lagged[np.isfinite(lagged).all(axis=1)]
    coefficients = np.linalg.lstsq(whole[:, :-1], whole[:, -1], rcond=None)[0]
    error = np.append(-coefficients, 1)
    rows, right = [], []
    for t in range(400, 412 + 24):
        window = signal[t - 24 : t + 1]
        row = np.zeros(12)
        for place in range(25):
            if 400 <= t - 24 + place < 412:
                row[t - 24 + place - 400] = error[place]
        rows.append(row)
        right.append(-np.nansum(window * error))
    expected = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0] + np.nanmean(
        given[0, 600:1412]
    )
    np.testing.assert_allclose(filled, expected, atol=1e-3)


def test_gaps_beside_each_other_are_filled_together():
    """Two gaps four samples apart, and one in one channel alone: what was lost comes back."""
    whole = rhythms()
    given = holed(whole, (1000, 1008), (1012, 1020))
    given[1, 1500:1510] = NAN
    np.testing.assert_allclose(interpolate(given, PREDICTED, sfreq=200.0), whole, atol=0.05)


@pytest.mark.parametrize(
    ("gaps", "n"),
    [
        ([(1000, 1041)], 2000),
        ([(0, 30)], 2000),
        ([(1990, 2000)], 2000),
        ([(50, 53)], 100),
        ([(1000, 1010), (1015, 1100)], 2000),
    ],
)
def test_long_gaps_ends_and_gaps_with_little_signal_beside_are_bridged_as_before(gaps, n):
    """More than 0.2 s, the start, the end, 100 samples in all, and a short gap beside a long one."""
    given = holed(rhythms(n), *gaps)
    lines = FillGaps("interpolate", hold_s=0.5, taper_s=2.0, **LINES)
    np.testing.assert_array_equal(
        interpolate(given, PREDICTED, sfreq=200.0), interpolate(given, lines, sfreq=200.0)
    )


def test_what_is_predicted_stays_within_the_range_beside_it():
    """A jump beside a gap makes nothing larger than what was recorded."""
    given = rhythms(noise=1.0)
    given[:, 900:1000] += 400
    filled = interpolate(holed(given, (1000, 1040)), PREDICTED, sfreq=200.0)[:, 1000:1040]
    assert filled.max() <= given[:, 600:1440].max()
    assert filled.min() >= given[:, 600:1440].min()


def test_a_channel_that_does_not_change_is_filled_with_its_value():
    """Zero and 5 µV: no prediction divides by nothing."""
    given = holed(np.array([[0.0], [5.0]], np.float32).repeat(1000, axis=1), (500, 503))
    np.testing.assert_array_equal(
        interpolate(given, PREDICTED, sfreq=200.0), np.array([[0.0], [5.0]], np.float32).repeat(1000, axis=1)
    )
