"""Background EEG: what a patient's brain does when it shows no pattern."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.sources.synthetic.draws import Array, Rng, Shape, band, shaped_noise
from hms.sources.synthetic.head import OCCIPITAL, field, somewhere

N_SOURCES = 24
FIELD_SIGMA = 0.34
STRENGTH_SPREAD = 0.5
"""SD of the logarithm of a source's strength: few sources count, as the effective dimension of 2.3 tells."""
P_ALPHA, P_DELTA = 0.45, 0.5

EXPONENT, EXPONENT_SPREAD = 2.12, 0.8
"""Mean over patients of the exponent of 1 / f^exponent, and its SD."""
EXPONENT_LIMITS = (0.5, 4.0)

LEVEL_BELOW_HZ = 0.5
"""Power is level below, as amplifiers' high-pass leaves it."""


def background(traits: Rng, rng: Rng, n_samples: int) -> Array:
    """Return EEG without any pattern, float32, shape (19, n_samples); its SD over electrodes is about 1.

    24 sources of 1/f noise at random places, a posterior alpha rhythm in 45 % of patients and polymorphic
    delta in half of them, of whatever disease: slow waves alone must not give the label away. ``traits``
    draws places, slopes and rhythms, which are the patient's; ``rng`` their strengths in one recording.
    """
    mixing = np.stack([field(somewhere(traits), FIELD_SIGMA) for _ in range(N_SOURCES)], axis=1)
    mixing *= traits.choice((-1, 1), N_SOURCES).astype(np.float32)
    mixing *= (traits.lognormal(0, STRENGTH_SPREAD, N_SOURCES) * rng.lognormal(0, 0.25, N_SOURCES)).astype(
        np.float32
    )
    mixing /= np.sqrt(np.mean(np.sum(mixing**2, axis=1)))
    exponents = traits.normal(EXPONENT, EXPONENT_SPREAD) + traits.normal(0, 0.3, N_SOURCES)
    exponents = np.clip(exponents + rng.normal(0, 0.2), *EXPONENT_LIMITS)
    eeg = mixing @ shaped_noise(rng, N_SOURCES, n_samples, _one_over_f(exponents))
    for share, rhythm in ((P_ALPHA, _alpha), (P_DELTA, _polymorphic_delta)):
        if traits.random() < share:
            eeg += rhythm(traits, rng, n_samples)
    return np.asarray(eeg, dtype=np.float32)


def _one_over_f(exponents: NDArray[Any]) -> Shape:
    """Return power 1 / f^exponent, level under LEVEL_BELOW_HZ."""
    return lambda freqs: np.maximum(freqs, LEVEL_BELOW_HZ) ** (-exponents[:, None] / 2) * (freqs > 0)


def _alpha(traits: Rng, rng: Rng, n_samples: int) -> Array:
    centre_hz = traits.uniform(7.5, 11)
    wave = shaped_noise(rng, 1, n_samples, lambda freqs: np.exp(-((freqs - centre_hz) ** 2) / (2 * 0.6**2)))
    strength = np.float32(traits.uniform(0.2, 0.6) * rng.lognormal(0, 0.3))
    return strength * (field(OCCIPITAL[0], 0.45) + field(OCCIPITAL[1], 0.45))[:, None] * wave


def _polymorphic_delta(traits: Rng, rng: Rng, n_samples: int) -> Array:
    strength = np.float32(traits.uniform(0.4, 1.2) * rng.lognormal(0, 0.3))
    place = field(somewhere(traits), float(traits.uniform(0.4, 0.8)))
    return strength * place[:, None] * shaped_noise(rng, 1, n_samples, band(0.5, 2.5))
