"""Sampling rates: from what a header states, rounded as it is, to how samples become 200 Hz.

One place for all sources. A rate with a simple ratio to the wanted one is converted in
polyphase form; any other by a windowed sinc that is evaluated where each sample stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from hms.sources.resample import (
    MAX_FACTOR,
    Ratio,
    resample,
    resample_anywhere,
    source_range,
    source_range_anywhere,
)

SIMPLE_FACTOR = 2_000
"""Up to this factor a stated duration is taken at its word, though it may be rounded."""

ROUNDED_FROM = 7
"""Characters from which on a decimal number may be cut to the 8 that a header's field has."""


SLOW_HZ = 80.0
"""EEG sampled at less holds less than the 40 Hz that ``filter=wide`` passes."""


def slow_notes(rates_hz: Iterable[float]) -> list[tuple[str, str]]:
    """Return what to note of the rates of a file's EEG channels: nothing, unless the lowest is low."""
    lowest = min((rate for rate in rates_hz if rate > 0), default=SLOW_HZ)
    if lowest >= SLOW_HZ:
        return []
    return [("slow", f"EEG is sampled at {lowest:g} Hz and holds nothing above {lowest / 2:g} Hz")]


def nominal_duration(text: str, n_samples: int, sfreq_out: float) -> Fraction:
    """Return what a data record lasts, s, of which a header states a rounded number.

    250 samples in ``0.976562`` s are 256 Hz, which 0.9765625 s makes exact: within the rounding of the last
    digit, the duration is taken whose rate has the simplest ratio to ``sfreq_out``, the rate in Hz that
    samples are to have. Raises `ValueError` if ``text`` is not a positive number, with a point or a comma.
    """
    stated = _fraction(text)
    if stated <= 0:
        raise ValueError(f"data records last '{text}' s; a duration must be above 0")
    wanted = Fraction(sfreq_out)
    exact = wanted * stated / n_samples
    unit = _last_digit(text)
    if unit is None or max(exact.numerator, exact.denominator) <= SIMPLE_FACTOR:
        return stated
    low, high = (wanted * duration / n_samples for duration in (max(stated - unit, unit / 2), stated + unit))
    simple = simplest_between(low, high)
    return simple * n_samples / wanted


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text.strip().replace(",", "."))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"'{text.strip()}' is no duration") from None


def _last_digit(text: str) -> Fraction | None:
    """Return one unit of a rounded number's last digit, None where a number is not rounded."""
    text = text.strip().replace(",", ".")
    found = re.fullmatch(r"[+-]?[0-9]*\.([0-9]+)", text)
    return Fraction(1, 10 ** len(found[1])) if found and len(text) >= ROUNDED_FROM else None


def simplest_between(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction with the smallest denominator between two positive ones, both included."""
    whole = -(-low.numerator // low.denominator)
    if whole <= high:
        return Fraction(whole)
    floor = whole - 1
    return floor + 1 / simplest_between(1 / (high - floor), 1 / (low - floor))


@dataclass(frozen=True)
class Conversion:
    """How samples of one rate become samples of another.

    Attributes
    ----------
    sfreq : Hz, of what is converted
    step : samples of it from one output sample to the next
    ratio : factors up and down, None where there are no simple ones
    """

    sfreq: Fraction
    step: Fraction
    ratio: Ratio | None

    def length(self, n_samples: int) -> int:
        """Return how many output samples are within ``n_samples``."""
        return math.floor(n_samples / self.step)

    def source_range(self, start: int, stop: int) -> tuple[int, int]:
        """Return the input samples that output samples start to stop depend on."""
        if self.ratio is None:
            return source_range_anywhere(start, stop, float(self.step))
        return (start, stop) if self.ratio == (1, 1) else source_range(start, stop, self.ratio)

    def resampled(
        self, samples: Callable[[int, int], NDArray[np.float64]], n_there: int, start: int, stop: int
    ) -> NDArray[np.float32]:
        """Return output samples start to stop of signals that are read in part.

        Parameters
        ----------
        samples : returns input samples from the first to before the second number: (n_channels, n_samples)
        n_there : input samples there are; beyond, a signal is continued by its last one: no step, no ringing
        """
        first, last = self.source_range(start, stop)
        inside = samples(max(first, 0), min(last, n_there))
        padded = np.pad(inside, ((0, 0), (max(0, -first), max(0, last - n_there))), mode="edge")
        if self.ratio is None:
            return resample_anywhere(padded, first, start, stop, float(self.step))
        return resample(padded, first, start, stop, self.ratio)


def conversion(sfreq_in: float | Fraction, sfreq_out: float) -> Conversion:
    """Return how a sampling rate becomes another.

    A float is taken for the nearest fraction with a denominator up to a million. Raises `ValueError` if a
    rate is not positive and finite.
    """
    if not (math.isfinite(sfreq_in) and sfreq_in > 0):
        raise ValueError(f"a sampling rate must be above 0 Hz; got {float(sfreq_in):g}")
    exact = sfreq_in if isinstance(sfreq_in, Fraction) else Fraction(sfreq_in).limit_denominator(1_000_000)
    step = exact / Fraction(sfreq_out)
    is_simple = max(step.numerator, step.denominator) <= MAX_FACTOR
    return Conversion(exact, step, (step.denominator, step.numerator) if is_simple else None)
