"""What each class looks like: a seizure, periodic discharges and rhythmic delta.

A patient's recordings share where a pattern sits, what its waves look like and, nearly, its
rate; when its waves come and how strong they are differs between recordings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hms.competition import CLASSES, EEG_CHANNELS, JUDGED_LENGTH_S, JUDGED_START_S, SFREQ_HZ, SUB_WINDOW_S
from hms.sources.synthetic.drafts import Draft
from hms.sources.synthetic.draws import Array, Rng, band, shaped_noise
from hms.sources.synthetic.head import POSITIONS, field, generalised, one_side, peak_one

RATE_SPREAD = 0.08
"""SD of the logarithm of a recording's rate about the patient's."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """A pattern over the whole recording; a wave or rhythm has about 1 at its strongest electrode.

    Attributes
    ----------
    wave : float32, shape (19, n_samples)
    rate_hz : frequency of the rhythm (a seizure's at onset), or discharges per second
    """

    wave: Array
    rate_hz: float


def _rate(traits: Rng, rng: Rng, low_hz: float, high_hz: float) -> float:
    """Return a recording's rate, near the patient's and within the limits."""
    return float(np.clip(traits.uniform(low_hz, high_hz) * rng.lognormal(0, RATE_SPREAD), low_hz, high_hz))


# -------------------------------------------------------------------------------- seizures

SEIZURE_RAMP_S = 1.0
P_GENERALISED = 0.4

P_BUILDS_UP = 0.4
BUILD_UP = (2.5, 7.0)
"""Factor by which the seizures of some patients grow beyond 0.5 to 1.5, up to the clipping limit."""


def seizure(traits: Rng, rng: Rng, n_samples: int) -> Pattern:
    """Return a rhythm that starts in the first 12 s, slows, grows and, when focal, spreads.

    It lasts 22 to 50 s, and longer by what the recording lasts beyond 50 s: to the end of
    the last sub-window's judged seconds at least, since experts cannot see it elsewhere.
    """
    start_hz, end_share = _rate(traits, rng, 2.6, 4.5), traits.uniform(0.45, 0.85)
    onset_s = rng.uniform(0, 12)
    judged_end_s = JUDGED_START_S + JUDGED_LENGTH_S + SEIZURE_RAMP_S
    length_s = rng.uniform(max(22, judged_end_s - onset_s), 50) + n_samples / SFREQ_HZ - SUB_WINDOW_S
    progress = (np.arange(n_samples) / SFREQ_HZ - onset_s) / length_s
    course = np.clip(progress, 0, 1)
    phase = 2 * np.pi * np.cumsum(start_hz * (1 - (1 - end_share) * course)) / SFREQ_HZ
    shifts = traits.uniform(0, 2 * np.pi, 3)
    wave = sum(a * np.sin((k + 1) * phase + shifts[k]) for k, a in enumerate((1.0, 0.5, 0.35)))
    growth = (0.5 + course) * np.exp(course**2 * np.log(_build_up(traits)))
    envelope = np.clip(np.minimum(progress, 1 - progress) * length_s / SEIZURE_RAMP_S, 0, 1) * growth
    return Pattern(_seizure_field(traits, course) * (wave * envelope).astype(np.float32), start_hz)


def _build_up(traits: Rng) -> float:
    """Return the factor by which a patient's seizures grow beyond what all do."""
    return float(traits.uniform(*BUILD_UP)) if traits.random() < P_BUILDS_UP else 1.0


def _seizure_field(traits: Rng, course: NDArray[np.float64]) -> Array:
    """Return the field over time: steady in the 40 % that are generalised, else widening."""
    if traits.random() < P_GENERALISED:
        return generalised(traits)[:, None]
    focus, late = one_side(traits), course.astype(np.float32)
    early, wide = peak_one(field(focus, 0.45)), peak_one(field(focus, 0.95))
    return early[:, None] * (1 - late) + wide[:, None] * late


# ---------------------------------------------------------------------- periodic discharges


def lpd(traits: Rng, rng: Rng, n_samples: int) -> Pattern:
    """Return lateralised periodic discharges: every 0.6 to 2 s, sharp, over one hemisphere."""
    rate_hz = 1 / _rate(traits, rng, 0.6, 2.0)
    train = discharges(rng, n_samples, 1 / rate_hz, cv=traits.uniform(0.08, 0.2))
    wave = np.convolve(train, _sharp_wave(traits))[:n_samples]
    place = peak_one(field(one_side(traits), float(traits.uniform(0.35, 0.55))))
    return Pattern((place[:, None] * wave).astype(np.float32), rate_hz)


def gpd(traits: Rng, rng: Rng, n_samples: int) -> Pattern:
    """Return generalised periodic discharges at 0.8 to 2.3 Hz, sharp, or triphasic with a lag."""
    rate_hz, triphasic = _rate(traits, rng, 0.8, 2.3), traits.random() < 0.5
    longest = int(0.1 * SFREQ_HZ)
    train = discharges(rng, n_samples + longest, 1 / rate_hz, cv=traits.uniform(0.06, 0.15))
    form = _triphasic_wave(traits) if triphasic else _sharp_wave(traits)
    wave = np.convolve(train, form)[: n_samples + longest]
    lag = triphasic * traits.uniform(0, longest) * (1 - POSITIONS[:, 1]) / 2
    starts = longest - np.rint(lag).astype(int)
    delayed = np.stack([wave[start : start + n_samples] for start in starts])
    return Pattern((generalised(traits)[:, None] * delayed).astype(np.float32), rate_hz)


def discharges(rng: Rng, n_samples: int, interval_s: float, *, cv: float) -> NDArray[np.float64]:
    """Return impulses of about -1 (negative, as epileptiform waves are) at jittered intervals."""
    n_events = 2 + int(2 * n_samples / SFREQ_HZ / interval_s)
    gaps_s = interval_s * np.maximum(0.3, 1 + cv * rng.standard_normal(n_events))
    places = np.rint((np.cumsum(gaps_s) - rng.random() * interval_s) * SFREQ_HZ).astype(int)
    places = places[(places >= 0) & (places < n_samples)]
    train = np.zeros(n_samples)
    train[places] = -(1 + 0.15 * rng.standard_normal(len(places)))
    return train


def lobes(*each: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the sum of Gaussian lobes given by amplitude, centre in s and SD in s; under 0.5 s."""
    t = np.arange(int(0.5 * SFREQ_HZ)) / SFREQ_HZ
    wave: NDArray[np.float64] = np.sum([a * np.exp(-((t - c) ** 2) / (2 * s**2)) for a, c, s in each], axis=0)
    return wave


def _sharp_wave(traits: Rng) -> NDArray[np.float64]:
    """Return a sharp wave of 60 to 160 ms (four SDs) and a slow after-wave of other sign."""
    width_s = traits.uniform(0.06, 0.16)
    return lobes((1, width_s / 2, width_s / 4), (-traits.uniform(0.25, 0.5), 1.6 * width_s, width_s / 2))


def _triphasic_wave(traits: Rng) -> NDArray[np.float64]:
    """Return small, large, middling lobes of changing sign; the large one is positive on the scalp."""
    width_s = traits.uniform(0.1, 0.16)
    centres = width_s * np.array((0.5, 1.2, 2.1))
    return lobes(
        (0.4, centres[0], width_s / 5), (-1, centres[1], width_s / 4), (0.6, centres[2], width_s / 2.5)
    )


# --------------------------------------------------------------------------- rhythmic delta


def lrda(traits: Rng, rng: Rng, n_samples: int) -> Pattern:
    """Return lateralised rhythmic delta at 1 to 2.3 Hz over one hemisphere."""
    wave, rate_hz = _rhythm(traits, rng, n_samples, high_hz=2.3)
    place = peak_one(field(one_side(traits), float(traits.uniform(0.4, 0.6))))
    return Pattern((place[:, None] * wave).astype(np.float32), rate_hz)


def grda(traits: Rng, rng: Rng, n_samples: int) -> Pattern:
    """Return generalised rhythmic delta at 1 to 2.6 Hz, strongest in front."""
    wave, rate_hz = _rhythm(traits, rng, n_samples, high_hz=2.6)
    return Pattern((generalised(traits)[:, None] * wave).astype(np.float32), rate_hz)


def _rhythm(traits: Rng, rng: Rng, n_samples: int, *, high_hz: float) -> tuple[Array, float]:
    """Return a sine whose phase drifts and whose envelope wanders, with 25 % second harmonic."""
    rate_hz, shift = _rate(traits, rng, 1.0, high_hz), traits.uniform(0, 2 * np.pi)
    drift = 0.6 / np.sqrt(SFREQ_HZ) * rng.standard_normal(n_samples)
    phase = np.cumsum(2 * np.pi * rate_hz / SFREQ_HZ + drift)
    envelope = np.maximum(0.2, 1 + 0.3 * shaped_noise(rng, 1, n_samples, band(0.02, 0.2))[0])
    return (envelope * (np.sin(phase) + 0.25 * np.sin(2 * phase + shift))).astype(np.float32), rate_hz


# ------------------------------------------------------------------------------ altogether

PATTERNS: dict[str, Callable[[Rng, Rng, int], Pattern]] = {
    "seizure": seizure,
    "lpd": lpd,
    "gpd": gpd,
    "lrda": lrda,
    "grda": grda,
}
"""What each class looks like; "other" is background alone."""

AMPLITUDE = {"seizure": 3.0, "lpd": 2.2, "gpd": 3.0, "lrda": 1.4, "grda": 1.2}
"""Strength of a pattern that all experts see, before SIGNAL_TO_BACKGROUND.

Chosen so that, as with real recordings, a logistic regression on scalogram summaries lies
about half way between the class prior and the distribution the votes were drawn from.
"""

SIGNAL_TO_BACKGROUND = 2.5

CHANGE_TAKES_S = 4.0
"""Time in which one state of a recording gives way to the next."""


def patterns(rng: Rng, draft: Draft, n_samples: int) -> Array:
    """Return the sum of the two likeliest classes' patterns of each state, as strong as they are likely.

    float32, shape (19, n_samples).
    """
    wave = np.zeros((len(EEG_CHANNELS), n_samples), dtype=np.float32)
    states = np.array(draft.states)
    seen = np.argsort(-states, axis=1)[:, :2]
    turns = _turns(draft, n_samples)
    for k, name in enumerate(CLASSES):
        if name not in PATTERNS or k not in seen:
            continue
        strengths = states[:, k] ** 0.8 * (seen == k).any(axis=1)
        course = SIGNAL_TO_BACKGROUND * AMPLITUDE[name] * rng.lognormal(0, 0.35) * (strengths @ turns)
        pattern = PATTERNS[name](draft.patient.traits(name), rng, n_samples)
        wave += course.astype(np.float32) * pattern.wave
    return wave


def _turns(draft: Draft, n_samples: int) -> NDArray[np.float64]:
    """Return the part of each state in every sample, shape (n_states, n_samples) or (1, 1); sums are 1."""
    if draft.change_s is None:
        return np.ones((1, 1))
    progress = (np.arange(n_samples) / SFREQ_HZ - draft.change_s) / CHANGE_TAKES_S + 0.5
    later = np.clip(progress, 0, 1)
    return np.stack([1 - later, later])
