"""Electrodes on the unit disc, and how strongly each sees a source."""

from __future__ import annotations

import numpy as np

from hms.sources.synthetic.draws import Array, Rng

POSITIONS = np.array(
    [
        (-0.31, 0.95), (-0.41, 0.52), (-0.5, 0.0), (-0.41, -0.52), (-0.81, 0.59), (-1.0, 0.0), (-0.81, -0.59),
        (-0.31, -0.95), (0.0, 0.5), (0.0, 0.0), (0.0, -0.5), (0.31, 0.95), (0.41, 0.52), (0.5, 0.0),
        (0.41, -0.52), (0.81, 0.59), (1.0, 0.0), (0.81, -0.59), (0.31, -0.95),
    ]
)  # fmt: skip
"""`hms.competition.EEG_CHANNELS` on the unit disc: right ear at (1, 0), nose at (0, 1)."""

FRONTOPOLAR = (-0.31, 0.95), (0.31, 0.95)
OCCIPITAL = (-0.35, -0.85), (0.35, -0.85)


def field(centre: tuple[float, float], sigma: float) -> Array:
    """Return how strongly each electrode sees a source: Gaussian in distance, 1 at its centre.

    float32, shape (19,). ``centre`` is on the unit disc, ``sigma`` in radii of the disc.
    """
    distance2 = np.sum((POSITIONS - centre) ** 2, axis=1)
    strength: Array = np.exp(-distance2 / (2 * sigma**2)).astype(np.float32)
    return strength


def somewhere(rng: Rng) -> tuple[float, float]:
    """Return a point of the unit disc."""
    radius, angle = np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def one_side(rng: Rng) -> tuple[float, float]:
    """Return a point well inside one hemisphere."""
    side = rng.choice((-1.0, 1.0))
    return float(side * rng.uniform(0.5, 0.85)), float(rng.uniform(-0.6, 0.6))


def generalised(rng: Rng) -> Array:
    """Return a field on all electrodes, uneven enough to be seen between neighbours."""
    place = field((float(rng.normal(0, 0.03)), float(rng.uniform(0.2, 0.7))), float(rng.uniform(0.5, 0.75)))
    return peak_one(place * rng.normal(1, 0.15, len(place)).astype(np.float32))


def peak_one(place: Array) -> Array:
    """Return a field that is 1 at the electrode nearest to its source, where amplitudes are stated."""
    return np.asarray(place / place.max(), dtype=np.float32)
