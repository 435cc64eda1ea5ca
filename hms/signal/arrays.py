"""The arrays that the stages of one recording hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.signal.levels import extremes


@dataclass(frozen=True, eq=False)
class Block:
    """A stretch of a recording that several windows share, and what was computed of it once.

    Which stretch it is follows from the recording and a window's start alone, so a window's
    result does not depend on which other windows are prepared with it.

    Attributes
    ----------
    values : float32, shape (n_rows, n_context + n_samples + n_context), µV
    n_context : samples before the stretch, and after it
    results : what was computed of it, by key
    """

    values: NDArray[np.float32]
    n_context: int
    results: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Samples of the stretch."""
        return int(self.values.shape[1]) - 2 * self.n_context

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the result of this key, made the first time that it is asked for."""
        if key not in self.results:
            self.results[key] = make()
        return self.results[key]

    def extremes(self, n_second: int, start: int, n: int) -> NDArray[np.float32] | None:
        """Return `hms.signal.levels.extremes` of ``n`` seconds from a sample of the values on.

        They are looked for once. None where no second begins there.
        """
        first, rest = divmod(start, n_second)
        if rest:
            return None
        found: NDArray[np.float32] = self.once("extremes", partial(extremes, self.values, n_second))
        return found[:, :, first : first + n]

    def then(
        self,
        key: Hashable,
        function: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        n_context: int | None = None,
    ) -> Block:
        """Return the block of what a function makes of the values, computed once per ``key``.

        ``n_context`` samples of context are left on each side; None: all.
        """
        n_left = self.n_context if n_context is None else n_context
        cut = self.n_context - n_left
        return self.once(  # type: ignore[no-any-return]
            key, lambda: Block(function(self.values[:, cut : self.values.shape[1] - cut]), n_left)
        )


@dataclass(frozen=True)
class Cleaned:
    """Electrodes after cleaning, or derivations where the recording is bipolar.

    Attributes
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
    channels : names of the rows; at the end, the pairs that the recording lacks (zeros, dead)
    dead : bool, shape (n_channels,); no usable or no changing sample over what was read
    reaches_limit : whether any sample may be at the limit that the electrodes were clipped to
    references : what each row was recorded against; empty where all have the same
    block : the stretch that ``eeg`` is cut from, if windows share one
    first : samples from the start of the block to the start of the window
    """

    eeg: NDArray[np.float32]
    channels: tuple[str, ...]
    dead: NDArray[np.bool_]
    n_context: int
    sfreq: float
    reaches_limit: bool = True
    references: tuple[str, ...] = ()
    block: Block | None = None
    first: int = 0

    @property
    def window(self) -> NDArray[np.float32]:
        """The window alone."""
        return self.eeg[:, self.n_context : self.eeg.shape[1] - self.n_context]


@dataclass(frozen=True)
class Derived:
    """Derivations of one recording.

    Attributes
    ----------
    values : float32, shape (n_derivations, n_context + n_window + n_context), µV
    alive : bool, shape (n_derivations,); False where an electrode of the pair is dead
    block, first : as those of `Cleaned`
    """

    values: NDArray[np.float32]
    alive: NDArray[np.bool_]
    n_context: int
    sfreq: float
    block: Block | None = None
    first: int = 0

    @property
    def n_window(self) -> int:
        """Samples of the window."""
        return int(self.values.shape[1]) - 2 * self.n_context

    @property
    def window(self) -> NDArray[np.float32]:
        """The window alone."""
        return self.values[:, self.n_context : self.n_context + self.n_window]


@dataclass(frozen=True)
class Scalogram:
    """Wavelet power before and after scaling.

    Attributes
    ----------
    power : float32, shape (n_outputs, n_freqs, n_frames), µV²
    x : float32 or float16, same shape, scaled
    freqs : float32, shape (n_freqs,), ascending, Hz
    """

    power: NDArray[np.float32]
    x: NDArray[Any]
    freqs: NDArray[np.float32]


@dataclass(frozen=True)
class Waveform:
    """Reduced derivations of the window: float32, shape (n_outputs, n_window), µV."""

    x: NDArray[np.float32]
    sfreq: float


@dataclass(frozen=True)
class Spectrogram:
    """A scaled spectrogram: float32, shape (4, n_freqs, n_rows), 0 to 1; its frequencies in Hz."""

    x: NDArray[np.float32]
    freqs: NDArray[np.float32]
