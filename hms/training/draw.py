"""One random window of each recording an epoch.

A recording with many labelled windows is otherwise seen as often as it has windows. What is
drawn is a pure function of (seed, epoch, recording): neither the number of workers, nor the
order, nor which other recordings take part changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_STREAM = 0x77696E64
"""Sets these random numbers apart from those of augmentation, which has the same seed and epoch."""


class Draw(NamedTuple):
    """Which of a recording's items is drawn, and its shift as a share of the largest."""

    member: int
    shift: float


def group_by_recording(recordings: Sequence[str]) -> dict[str, list[int]]:
    """Return the positions of each recording's items, recordings in the order in which they first appear."""
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(recordings):
        groups.setdefault(name, []).append(position)
    return groups


def draw_window(n_members: int, *, seed: int, epoch: int, recording: str) -> Draw:
    """Return a member of a recording, each as likely as the others, and a shift from -1 to 1."""
    name = int.from_bytes(blake2b(recording.encode(), digest_size=8).digest(), "little")
    rng = np.random.default_rng([_STREAM, seed, epoch, name])
    return Draw(int(rng.integers(n_members)), float(rng.uniform(-1, 1)))


def shifted(signal: NDArray[Any], n_samples: int) -> NDArray[Any]:
    """Return a signal with its window moved by so many samples to the right; zeros where it ends.

    Parameters
    ----------
    signal : shape (n_rows, n_samples), a window with its context on either side
    n_samples : above 0, later samples come into the window
    """
    moved = np.zeros_like(signal)
    length = max(signal.shape[1] - abs(n_samples), 0)
    if n_samples >= 0:
        moved[:, :length] = signal[:, signal.shape[1] - length :]
    else:
        moved[:, signal.shape[1] - length :] = signal[:, :length]
    return moved
