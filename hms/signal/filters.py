"""Zero-phase filters: a real gain per frequency, applied in the frequency domain.

Running an IIR filter forwards and backwards multiplies the spectrum by ``|H(f)|²``. That
gain has a closed form, so the recording is filtered with one real FFT and back: the same
numbers as ``scipy.signal.sosfiltfilt`` away from the ends, at a third of the time.

A filter of your own is one registered function of the frequencies::

    @register("filter", "gaussian", Gaussian)
    def gaussian(freqs_hz, params, *, sfreq):
        return np.exp(-0.5 * (freqs_hz / params.width_hz) ** 2)

Its reach in time, and with it the context read around a window, follows from the gain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.registry import Group, Limits, Params, PositiveFloat, lookup, register, settings_of
from hms.signal.levels import channel_means

NOTCH_Q = 30.0
"""Centre frequency over -3 dB width of the notch: 2 Hz wide at 60 Hz, as in SciPy's example."""

REACH_TOLERANCE = 5e-7
"""Share of the impulse response's sum of magnitudes that may lie beyond the reach."""

FFT_ROWS = 4
"""SciPy transforms so many float32 rows at once; each row left over takes as long as four."""

Array = NDArray[np.float32]
Gain = NDArray[np.float64]


@settings_of("filter")
@dataclass(frozen=True)
class FilterParams(Params):
    """Settings every filter has: what happens to gaps before it and to extremes after it.

    Attributes
    ----------
    clip_uv : largest magnitude of an electrode after the filter; None: no limit
    gaps : what happens to NaN and Inf before the filter
    """

    clip_uv: PositiveFloat | None
    gaps: Annotated[Params, Group("gaps")]


@dataclass(frozen=True)
class Butterworth(FilterParams):
    """Band edges (-3 dB of one direction, -6 dB of both), order of the prototype, mains frequency.

    Attributes
    ----------
    low_hz : lower edge of the band, at which both directions together are 6 dB down
    high_hz : upper edge of the band, at which both directions together are 6 dB down
    order : order of the prototype; the two passes double it
    notch_hz : mains frequency to remove; None: none
    """

    low_hz: PositiveFloat
    high_hz: PositiveFloat
    order: Annotated[int, Limits(at_least=1, at_most=12)]
    notch_hz: PositiveFloat | None

    def __post_init__(self) -> None:
        nyquist_hz = SFREQ_HZ / 2
        if self.high_hz >= nyquist_hz:
            raise ValueError(
                f"high_hz must be below {nyquist_hz:g} Hz, half the sampling rate of {SFREQ_HZ:g} Hz; "
                f"got {self.high_hz:g}"
            )
        if self.low_hz >= self.high_hz:
            raise ValueError(f"low_hz must be below high_hz; got {self.low_hz:g} and {self.high_hz:g}")
        if self.notch_hz is not None and self.notch_hz >= nyquist_hz:
            raise ValueError(f"notch_hz must be below {nyquist_hz:g} Hz; got {self.notch_hz:g}")


@register("filter", "butterworth", Butterworth)
def butterworth(freqs_hz: Gain, params: Butterworth, *, sfreq: float) -> Gain:
    """Return the gain of a digital Butterworth band-pass run forwards and backwards.

    Parameters
    ----------
    freqs_hz : float64, shape (n_freqs,), Hz, from 0 to half the sampling rate
    params : band, order as in ``scipy.signal.butter(order, [low, high], "bandpass")``, notch
    sfreq : sampling rate in Hz

    Returns
    -------
    float64, shape (n_freqs,), 0 to 1
        ``|H(f)|²``; 0 at 0 Hz.

    References
    ----------
    Oppenheim & Schafer, Discrete-Time Signal Processing, ch. 7: the bilinear transform maps
    f to tan(pi f / sfreq), after which the analogue band-pass has the closed form used here.
    The notch is that of ``scipy.signal.iirnotch`` with Q = 30.
    """
    warped = np.tan(np.pi * np.minimum(freqs_hz, sfreq / 2 * (1 - 1e-12)) / sfreq)
    low, high = (math.tan(math.pi * edge / sfreq) for edge in (params.low_hz, params.high_hz))
    with np.errstate(divide="ignore", over="ignore"):
        detuning = (warped**2 - low * high) / ((high - low) * warped)
        gain = 1 / (1 + detuning ** (2 * params.order))
    return gain if params.notch_hz is None else gain * notch(freqs_hz, params.notch_hz, sfreq=sfreq)


def notch(freqs_hz: Gain, notch_hz: float, *, sfreq: float) -> Gain:
    """Return ``|H(f)|²`` of ``scipy.signal.iirnotch(notch_hz, NOTCH_Q)``."""
    omega, centre = 2 * np.pi * freqs_hz / sfreq, 2 * math.pi * notch_hz / sfreq
    distance = (np.cos(omega) - math.cos(centre)) ** 2
    gain: Gain = distance / (distance + (math.tan(centre / NOTCH_Q / 2) * np.sin(omega)) ** 2)
    return gain


@register("filter", "none", FilterParams)
def none(freqs_hz: Gain, params: FilterParams, *, sfreq: float) -> Gain:
    """Return a gain of one everywhere: `apply_filter` then hands back its input."""
    return np.ones_like(freqs_hz)


def described(params: FilterParams) -> str:
    """Return band and clipping in words: ``0.5–20 Hz, clipped at ±500 µV``."""
    low, high = getattr(params, "low_hz", None), getattr(params, "high_hz", None)
    band = f"filter {params.kind}" if low is None or high is None else f"{low:g}–{high:g} Hz"
    return band if params.clip_uv is None else f"{band}, clipped at ±{params.clip_uv:g} µV"


def _gain(params: FilterParams, *, n_samples: int, sfreq: float) -> Gain:
    freqs_hz = np.fft.rfftfreq(n_samples, 1 / sfreq)
    gain = np.asarray(lookup("filter", params.kind).function(freqs_hz, params, sfreq=sfreq), np.float64)
    if gain.shape != freqs_hz.shape or not np.isfinite(gain).all():
        raise ValueError(
            f"filter '{params.kind}' must return one finite gain for each of {freqs_hz.size} frequencies; "
            f"got shape {gain.shape}{'' if np.isfinite(gain).all() else ' with NaN or infinity'}"
        )
    return gain


@lru_cache(maxsize=32)
def design_filter(params: FilterParams, *, n_samples: int, sfreq: float) -> Array:
    """Return the gain of the FFT bins that `apply_filter` needs for a recording's length.

    Raises `ValueError` if a filter function returns a wrong shape, NaN or infinity.

    Parameters
    ----------
    params : settings of a kind of the group ``filter``
    n_samples : samples per channel of what will be filtered
    sfreq : sampling rate in Hz

    Returns
    -------
    float32, shape (n_padded / 2 + 1,), read-only
        Gain of the bins of a real FFT whose even length is fast and at least ``n_samples``.
        Cached: the same settings return the same array.
    """
    n_padded = _fast_even_length(n_samples)
    gain = _gain(params, n_samples=n_padded, sfreq=sfreq).astype(np.float32)
    gain.flags.writeable = False
    return gain


def _fast_even_length(n_samples: int) -> int:
    from scipy.fft import next_fast_len

    return 2 * int(next_fast_len(math.ceil(n_samples / 2), real=True))


def apply_filter(eeg: NDArray[Any], gain: Array) -> NDArray[Any]:
    """Return the recording filtered with zero phase.

    The mean of each channel is taken off before the transform, so that an offset of thousands of µV costs no
    float32 precision, and put back times the gain at 0 Hz after it. The few samples that make the length fast
    lead from the end back to the beginning along half a cosine. Within the filter's reach of an end
    (`filter_reach_s`) the result is not that of an endless recording. Raises `ValueError` if the gain is for
    a shorter recording.

    Parameters
    ----------
    eeg : float32 or float64, shape (n_channels, n_samples), µV, finite
        A NaN makes its whole channel NaN: fill gaps first.
    gain : float32, shape (n_padded / 2 + 1,)
        From `design_filter` for the same ``n_samples``.

    Returns
    -------
    shape (n_channels, n_samples), µV, of the type given
        The array given, not a copy, where every gain is 1 (filter ``none``).
    """
    if (gain == 1).all():
        return eeg
    from scipy.fft import irfft, rfft

    n_samples, n_padded = eeg.shape[1], 2 * (gain.size - 1)
    if n_padded < n_samples:
        raise ValueError(f"gain is for at most {n_padded} samples; the recording has {n_samples}")
    offset = channel_means(eeg)
    spectrum = rfft(_closed_loop(eeg, offset, n_padded), overwrite_x=True, workers=1)
    pairs = spectrum.view(eeg.dtype)  # a product with complex numbers would first make the gain complex
    pairs *= np.repeat(gain, 2)
    filtered: NDArray[Any] = irfft(spectrum, n=n_padded, overwrite_x=True, workers=1)[: len(eeg), :n_samples]
    if gain[0] != 0:
        filtered += offset * gain[0]
    return filtered


def _closed_loop(eeg: NDArray[Any], offset: NDArray[Any], n_padded: int) -> NDArray[Any]:
    """Return the recording less its offset, with a smooth way from its end back to its start.

    Rows of zeros make their number a multiple of `FFT_ROWS`.
    """
    n_rows, n_samples = eeg.shape
    loop = np.empty((-(-n_rows // FFT_ROWS) * FFT_ROWS, n_padded), eeg.dtype)
    np.subtract(eeg, offset, out=loop[:n_rows, :n_samples])
    first, last = loop[:n_rows, :1], loop[:n_rows, n_samples - 1 : n_samples]
    loop[:n_rows, n_samples:] = last + (first - last) * _half_cosine(n_padded - n_samples)
    loop[n_rows:] = 0
    return loop


@lru_cache(maxsize=32)
def _half_cosine(n_samples: int) -> Array:
    way = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, n_samples + 1) / (n_samples + 1))
    return np.asarray(way, np.float32)


@lru_cache(maxsize=32)
def filter_reach_s(params: FilterParams, *, sfreq: float) -> float:
    """Return the time in s beyond which a sample no longer matters to a filtered one.

    The impulse response of the gain is computed numerically, so any registered filter has a reach. It is the
    shortest time that leaves at most 5e-7 (`REACH_TOLERANCE`) of the sum of the response's magnitudes
    outside: 0 for ``none``. Context is this time rounded up to whole seconds, 12 s for the band-pass from
    0.5 Hz of order 4. Raises `ValueError` if the response has not died out after 17 minutes.

    Parameters
    ----------
    params : settings of a kind of the group ``filter``
    sfreq : sampling rate in Hz
    """
    for span_s in (64, 256, 1024, 2048):
        n_samples = 2 * round(span_s * sfreq / 2)
        response = np.abs(np.fft.irfft(_gain(params, n_samples=n_samples, sfreq=sfreq)))
        beyond = 2 * np.cumsum(response[n_samples // 2 : 0 : -1])[::-1]
        reach = int(np.count_nonzero(beyond > REACH_TOLERANCE * response.sum()))
        if reach <= n_samples // 4 or reach < sfreq:
            return reach / sfreq
    raise ValueError(
        f"filter '{params.kind}' rings for more than 1024 s; use a smoother gain or a wider band"
    )


def removes_offsets(params: FilterParams, *, sfreq: float) -> bool:
    """Tell whether the filter leaves nothing of a constant: a gain of at most `REACH_TOLERANCE` at 0 Hz."""
    return bool(abs(_gain(params, n_samples=2, sfreq=sfreq)[0]) <= REACH_TOLERANCE)


def clip(eeg: Array, limit_uv: float | None) -> Array:
    """Return the recording limited to plus and minus ``limit_uv``.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
        NaN stays NaN.
    limit_uv : largest magnitude kept; None: no limit

    Returns
    -------
    float32, shape (n_channels, n_samples), µV
        The array given, not a copy, where no sample reaches the limit.
    """
    if limit_uv is None:
        return eeg
    limit = np.float32(limit_uv)
    if -limit < eeg.min() and eeg.max() < limit:
        return eeg
    return np.clip(eeg, -limit, limit)
