"""Wavelets of the ``cwt`` group: the settings of each, and its response to frequencies.

A wavelet is a function of frequencies (float64, shape (n_freqs,), Hz, above 0; of either sign
where `Cwt.is_two_sided`), one centre frequency in Hz and its settings. It returns its gain at
each of them: float64, shape (n_freqs,), 0 to 1. That is all a wavelet of your own has to say;
its reach in time, its band and the lengths of all transforms are worked out from the response::

    @dataclass(frozen=True)
    class Bump(Cwt):
        width: PositiveFloat

    @register("cwt", "bump", Bump)
    def bump(freqs_hz, centre_hz, params):
        distance = (freqs_hz / centre_hz - 1) / params.width
        inside = np.abs(distance) < 1
        return np.where(inside, np.exp(1 - 1 / np.where(inside, 1 - distance**2, 1)), 0)

A wavelet made of several transforms (a superlet) returns a tuple of `Component`: its power is
the product of the components' powers, each raised to its exponent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.registry import Limits, Params, PositiveFloat, PositiveInt, lookup, register, settings_of

TAIL = 1e-6
"""Norm of what a wavelet has beyond its reach, relative to the whole: a Gaussian's 5.04 sigma."""

SLOW_TAIL = 1e-3
"""A tail still this large at half the reach falls so slowly that waiting for `TAIL` is no use."""

MEL_CORNER_HZ = 700.0
"""Where mel turns from linear to logarithmic."""

LONGEST_CYCLES = 2**13
"""Cycles of the centre frequency within which a wavelet must have died out."""

MOST_FREQS = 4096
"""Most rows of x: 16 MB an item; more is a slip of the hand that would fill the memory."""

HIGHEST_PEAK = 1 + 1e-3
"""Highest peak that passes for 1 in spite of rounding."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Component:
    """One transform of a wavelet and the exponent its power has in the product.

    Attributes
    ----------
    response : float64, shape (n_freqs,); real gain at each frequency, its peak 1
    exponent : float; those of all components of a centre frequency sum to 1
    """

    response: Float
    exponent: float


@settings_of("cwt")
@dataclass(frozen=True)
class Cwt(Params):
    """Settings that every wavelet has; a wavelet's own settings are in a subclass.

    Attributes
    ----------
    min_hz : lowest centre frequency
    max_hz : highest centre frequency, at most half the sampling rate
    n_freqs : number of centre frequencies, the rows of x
    hop : samples from one frame to the next, at 200 Hz
    norm : scaling of the wavelets, which decides at which frequencies a sine of 1 µV has the same power
    dtype : type of x in the files
    backend : what computes the transform
    spacing : how the centre frequencies are spaced
    """

    min_hz: PositiveFloat
    max_hz: PositiveFloat
    n_freqs: Annotated[int, Limits(at_least=1, at_most=MOST_FREQS)]
    hop: PositiveInt
    norm: Literal["amplitude", "energy"]
    dtype: Literal["float32", "float16"]
    backend: Literal["fft", "pywt"]
    # Not `added(...)`: a checker would take that for a default, which no setting has.
    spacing: Literal["log", "linear", "mel"] = field(metadata={"before": "log"})

    def __post_init__(self) -> None:
        if self.max_hz > SFREQ_HZ / 2:
            raise ValueError(
                f"max_hz must be at most {SFREQ_HZ / 2:g} Hz, half the sampling rate of {SFREQ_HZ:g} Hz; "
                f"got {self.max_hz:g}"
            )
        if self.min_hz > self.max_hz or (self.min_hz == self.max_hz and self.n_freqs > 1):
            raise ValueError(f"min_hz must be below max_hz; got {self.min_hz:g} and {self.max_hz:g}")
        if self.backend == "pywt" and self.pywt_name is None:
            raise ValueError(
                f"backend 'pywt' has no wavelet for kind '{self.kind}' with these settings; use backend=fft "
                "(PyWavelets serves morlet, and ricker with analytic=false)"
            )

    @property
    def pywt_name(self) -> str | None:
        """Name of the same wavelet in PyWavelets, None where it has none."""
        return None

    @property
    def unit_scale_cycles(self) -> float:
        """Centre frequency, in cycles per sample, of the wavelet at scale 1."""
        return 1.0

    @property
    def unit_scale_gain(self) -> float:
        """Largest gain of the wavelet at scale 1 in PyWavelets' convention, for ``norm=energy``."""
        return 1.0

    @property
    def is_real(self) -> bool:
        """Whether the transform of a real signal is real (no analytic signal, so power swings)."""
        return False

    @property
    def is_two_sided(self) -> bool:
        """Whether the response reaches negative frequencies, where no analytic signal is formed."""
        return False

    @property
    def known_reach_s(self) -> float | None:
        """Reach in time where it is known in closed form, the same at every frequency; None: measured."""
        return None

    def scale(self, freq_hz: float, *, sfreq: float) -> float:
        """Return the scale in samples whose centre frequency is ``freq_hz``."""
        return self.unit_scale_cycles * sfreq / freq_hz


# --- the wavelets --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Morlet(Cwt):
    """Width of the Morlet wavelet: ``w0`` radians of oscillation per standard deviation.

    Attributes
    ----------
    w0 : radians of oscillation per standard deviation of the envelope
    """

    w0: PositiveFloat

    @property
    def pywt_name(self) -> str | None:
        """``cmorB-C`` with C = 1 and w0 = 2 pi sqrt(B / 2)."""
        return f"cmor{self.w0**2 / (2 * math.pi**2):.9g}-1.0"


@register("cwt", "morlet", Morlet)
def morlet(freqs_hz: Float, centre_hz: float, params: Morlet) -> Float:
    """Return the analytic Morlet's response, ``exp(-w0² (f / f0 - 1)² / 2)``.

    Its standard deviation in time is ``w0 / (2 pi f0)``.

    References
    ----------
    Torrence & Compo (1998), Bull. Amer. Meteor. Soc. 79, table 1, without the constant that
    gives unit energy.
    """
    return _gaussian(freqs_hz, centre_hz, params.w0)


def _gaussian(freqs_hz: Float, centre_hz: float, w0: float) -> Float:
    response: Float = np.exp(-0.5 * (w0 * (freqs_hz / centre_hz - 1)) ** 2)
    return response


@dataclass(frozen=True)
class Ricker(Cwt):
    """Whether the Mexican hat's analytic part is taken (steady power) or the real transform.

    Attributes
    ----------
    analytic : whether to use the analytic part, whose power is steady, or the real transform
    """

    analytic: bool

    @property
    def pywt_name(self) -> str | None:
        """PyWavelets has the real transform only."""
        return None if self.analytic else "mexh"

    @property
    def unit_scale_cycles(self) -> float:
        """The response ``w² exp(-w² / 2)`` has its peak at w = sqrt(2)."""
        return math.sqrt(2) / (2 * math.pi)

    @property
    def unit_scale_gain(self) -> float:
        """Peak of the transform of ``2 / (sqrt(3) pi^¼) (1 - t²) exp(-t² / 2)``."""
        return 4 * math.sqrt(2 * math.pi / 3) / math.sqrt(math.sqrt(math.pi)) / math.e

    @property
    def is_real(self) -> bool:
        """The hat itself is real; its analytic part is not."""
        return not self.analytic


@register("cwt", "ricker", Ricker)
def ricker(freqs_hz: Float, centre_hz: float, params: Ricker) -> Float:
    """Return the Mexican hat's response, ``(f / f0)² exp(1 - (f / f0)²)``.

    References
    ----------
    Torrence & Compo (1998), table 1 (derivative of a Gaussian, m = 2), scaled to a unit peak.
    """
    squared = (freqs_hz / centre_hz) ** 2
    response: Float = squared * np.exp(1 - squared)
    return response


@dataclass(frozen=True)
class Gmw(Cwt):
    """Symmetry ``gamma`` (3: nearest to a Gaussian) and order ``beta``; duration is sqrt(beta gamma).

    Attributes
    ----------
    gamma : symmetry of the wavelet
    beta : order; the duration in radians is sqrt(beta gamma)
    """

    gamma: PositiveFloat
    beta: PositiveFloat


@register("cwt", "gmw", Gmw)
def gmw(freqs_hz: Float, centre_hz: float, params: Gmw) -> Float:
    """Return the generalised Morse wavelet's response, ``r^beta exp((1 - r^gamma) beta / gamma)``.

    r is f / f0. With ``sqrt(beta gamma) = w0`` its curvature at the peak, and so its
    duration, is that of a Morlet of w0.

    References
    ----------
    Lilly & Olhede (2012), Generalized Morse wavelets as a superfamily of analytic wavelets,
    IEEE Trans. Signal Process. 60, eqs. 9 to 11; with a peak of 1 where they have 2.
    """
    ratio = freqs_hz / centre_hz
    with np.errstate(divide="ignore", over="ignore"):
        exponent = params.beta * np.log(ratio) + params.beta / params.gamma * (1 - ratio**params.gamma)
    response: Float = np.exp(exponent)
    return response


@dataclass(frozen=True)
class Superlet(Cwt):
    """Cycles of the shortest wavelet, and how many longer ones join it from min_hz to max_hz.

    Attributes
    ----------
    base_cycles : cycles of the shortest wavelet
    order_min : wavelets combined at min_hz
    order_max : wavelets combined at max_hz
    growth : how cycles grow from one wavelet to the next
    """

    base_cycles: PositiveFloat
    order_min: Annotated[float, Limits(at_least=1, at_most=30)]
    order_max: Annotated[float, Limits(at_least=1, at_most=30)]
    growth: Literal["multiplicative", "additive"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order_min > self.order_max:
            raise ValueError(
                f"order_min must be at most order_max; got {self.order_min:g} and {self.order_max:g}"
            )


CYCLES_PER_SIGMA = 5.0
"""Moca et al.: a wavelet of c cycles has the standard deviation c / (5 f)."""


@register("cwt", "superlet", Superlet)
def superlet(freqs_hz: Float, centre_hz: float, params: Superlet) -> tuple[Component, ...]:
    """Return the Morlet wavelets of a fractional adaptive superlet.

    The order rises linearly with frequency from ``order_min`` at min_hz to ``order_max`` at
    max_hz. An order of 2.3 is the geometric mean of the first two wavelets and the third
    with weight 0.3, which is 1, 1 and 0.3 over 2.3.

    References
    ----------
    Moca, Bârzan, Nagy-Dăbâcan & Mureșan (2021), Time-frequency super-resolution with
    superlets, Nat. Commun. 12:337, eqs. 1 to 6. Bârzan et al. (2021), Real-time
    time-frequency analysis with fractional adaptive superlet transform, for the fraction.
    Their factor sqrt(2) is left out: a component has a peak gain of 1, as every wavelet here.
    """
    order = _order(centre_hz, params)
    found = []
    for i in range(math.ceil(order - 1e-9)):
        cycles = params.base_cycles * (i + 1) if params.growth == "multiplicative" else params.base_cycles + i
        w0 = 2 * math.pi * cycles / CYCLES_PER_SIGMA
        found.append(Component(_gaussian(freqs_hz, centre_hz, w0), min(1.0, order - i) / order))
    return tuple(found)


def _order(centre_hz: float, params: Superlet) -> float:
    span = params.max_hz - params.min_hz
    share = (centre_hz - params.min_hz) / span if span else 0.0
    return params.order_min + (params.order_max - params.order_min) * min(max(share, 0.0), 1.0)


@dataclass(frozen=True)
class Stft(Cwt):
    """Standard deviation of the Gaussian window in s: one resolution in time and Hz at all frequencies.

    Attributes
    ----------
    window_s : standard deviation of the Gaussian window
    """

    window_s: PositiveFloat

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm != "amplitude":
            raise ValueError(
                "norm must be amplitude: with one window for all frequencies, energy differs from it only by "
                "a factor"
            )
        edge = SFREQ_HZ / 2 - IMAGE_SIGMAS / (2 * math.pi * self.window_s)
        if self.max_hz > edge:
            raise ValueError(
                f"max_hz must be at most {edge:.4g} Hz with window_s={self.window_s:g}, so that the band "
                f"ends below half the sampling rate; got {self.max_hz:g}"
            )

    @property
    def is_two_sided(self) -> bool:
        """A window that is short against a period sees both signs of a real signal's frequencies."""
        return True

    @property
    def known_reach_s(self) -> float | None:
        """Of exp(-t² / sigma²), the window squared, the share erfc(t / sigma) lies beyond t.

        A window cut at `TAIL` lets a strong rhythm move rows next to it by 4e-4 of their maximum.
        """
        from scipy.special import erfcinv

        return float(self.window_s * erfcinv(WINDOW_TAIL**2))


WINDOW_TAIL = 1e-8
"""Norm of what a Gaussian window has beyond its reach, relative to the whole: 5.86 sigma."""

IMAGE_SIGMAS = 5.0
"""Standard deviations of the response from the last frequency to half the sampling rate, at least."""


@register("cwt", "stft", Stft)
def stft(freqs_hz: Float, centre_hz: float, params: Stft) -> Float:
    """Return the response of a Gaussian window at one frequency, ``exp(-2 (pi sigma (f - f0))²)``.

    The window is ``exp(-t² / (2 sigma²))`` over its sum, sigma being ``window_s``: bandwidth
    is constant in Hz where that of a wavelet is constant in octaves.

    References
    ----------
    Gabor D, "Theory of communication", J IEE 93 (1946). Equal to `scipy.signal.ShortTimeFFT`
    with a Gaussian window that is divided by its sum.
    """
    response: Float = np.exp(-2 * np.square(math.pi * params.window_s * (freqs_hz - centre_hz)))
    return response


# --- what follows from a response ----------------------------------------------------------------


@lru_cache(maxsize=32)
def frequencies(params: Cwt) -> NDArray[np.float32]:
    """Return the centre frequencies: ascending, both ends included, evenly spaced as ``spacing`` says.

    In their logarithm (``log``), in Hz (``linear``), or in mel, 2595 log10(1 + f / 700), whose
    steps grow by 3 % from 0.5 to 20 Hz.

    Returns
    -------
    float32, shape (n_freqs,), Hz, read-only
        Cached: the same settings return the same array.

    References
    ----------
    O'Shaughnessy D, "Speech communication" (1987), for the formula of mel that HTK, librosa
    (htk=True) and torchaudio use.
    """
    low, high = params.min_hz, params.max_hz
    if params.spacing == "log":
        spaced = np.geomspace(low, high, params.n_freqs)
    elif params.spacing == "linear":
        spaced = np.linspace(low, high, params.n_freqs)
    else:
        mel = np.linspace(math.log1p(low / MEL_CORNER_HZ), math.log1p(high / MEL_CORNER_HZ), params.n_freqs)
        spaced = np.expm1(mel) * MEL_CORNER_HZ
    freqs = spaced.astype(np.float32)
    freqs.flags.writeable = False
    return freqs


def is_log_spaced(freqs_hz: NDArray[np.floating]) -> bool:
    """Tell whether ascending frequencies are nearer to even in their logarithm than in Hz; two are either."""
    freqs = np.asarray(freqs_hz, dtype=np.float64)
    even_log, even = (np.diff(spaced) for spaced in (np.log(freqs), freqs))
    if len(freqs) < 3:
        return True
    return bool(np.ptp(even_log) / even_log.mean() < np.ptp(even) / even.mean())


def components(params: Cwt, freqs_hz: Float, centre_hz: float) -> tuple[Component, ...]:
    """Return the transforms of the wavelet ``params.kind`` at one centre frequency.

    One with exponent 1 where the wavelet's function returns a plain array. Raises `ValueError` if a response
    has the wrong shape, is complex, not finite, zero throughout or above 1, or if the exponents do not sum to
    1.
    """
    found = lookup("cwt", params.kind).function(freqs_hz, centre_hz, params)
    found = found if isinstance(found, tuple) else (Component(np.asarray(found), 1.0),)
    for component in found:
        _check_response(component.response, freqs_hz, params.kind)
    total = sum(component.exponent for component in found)
    if abs(total - 1) > 1e-6:
        raise ValueError(
            f"cwt '{params.kind}' has exponents that sum to {total:g} at {centre_hz:g} Hz, not 1"
        )
    return found


def _check_response(response: Float, freqs_hz: Float, kind: str) -> None:
    if np.shape(response) != freqs_hz.shape or np.iscomplexobj(response):
        raise ValueError(
            f"cwt '{kind}' must return one real gain for each of {freqs_hz.size} frequencies; "
            f"got {np.asarray(response).dtype} of shape {np.shape(response)}"
        )
    if not np.isfinite(response).all() or not np.any(response):
        raise ValueError(f"cwt '{kind}' must return finite gains that are not all zero")
    if (peak := np.abs(response).max()) > HIGHEST_PEAK:
        raise ValueError(
            f"cwt '{kind}' returns gains up to {peak:.3g}; its peak must be 1, cwt.norm scales it"
        )


@lru_cache(maxsize=4096)
def reaches_s(params: Cwt, centre_hz: float) -> tuple[float, ...]:
    """Return how far each component at a centre frequency reaches to either side, in s.

    The reach leaves `TAIL` (1e-6) of the wavelet's norm outside: 5.04 standard deviations of a Morlet, 8.7 s
    at 0.5 Hz for w0 = 5.44. A response with a kink at 0 Hz (the analytic Mexican hat) falls with a power of
    time only; its reach is capped at twice the time that leaves `SLOW_TAIL` (1e-3). Raises `ValueError` if a
    component has not died out after 2,048 cycles.
    """
    if params.known_reach_s is not None:
        return (params.known_reach_s,)
    cycles = 64
    while cycles <= LONGEST_CYCLES:
        freqs_hz = np.arange(1, 16 * cycles) * centre_hz / cycles
        found = [
            _reach_cycles(c.response, cycles, params.is_real) for c in components(params, freqs_hz, centre_hz)
        ]
        if max(found) < cycles / 4:
            return tuple(reach / centre_hz for reach in found)
        cycles *= 4
    raise ValueError(
        f"cwt '{params.kind}' does not die out within {LONGEST_CYCLES // 4} cycles at {centre_hz:g} Hz; "
        "use a smoother or wider response"
    )


def _reach_cycles(response: Float, cycles: int, is_real: bool) -> float:
    """Reach in cycles of a response given at 1/cycles, 2/cycles ... of the centre frequency."""
    wavelet = np.fft.ifft(np.concatenate([[0.0], response]), 16 * cycles)
    energy = np.square(wavelet.real) if is_real else np.square(np.abs(wavelet))
    outside = 2 * np.cumsum(energy[len(energy) // 2 : 0 : -1])[::-1] / energy.sum()
    within = [int(np.count_nonzero(outside > tail**2)) for tail in (TAIL, SLOW_TAIL)]
    return min(within[0], 2 * within[1]) / 16


def wavelet_reach_s(params: Cwt, *, sfreq: float) -> float:
    """Return the longest reach of all frequencies and components in s: the context a window needs.

    It is at least one sample at the rate ``sfreq`` in Hz.
    """
    reach = max(max(reaches_s(params, float(freq))) for freq in frequencies(params))
    return max(reach, 1 / sfreq)
