"""Time and accuracy of wavelet power: the plan of `hms.signal.cwt` against other packages.

    python benchmarks/cwt.py

One thread, one process. All methods get the same derivations and give the same thing: power
at the frames, averaged over four pairs per chain, (4, n_freqs, n_frames). They take turns,
round after round, so that a busy machine slows all of them; ratios are medians over rounds.
Errors are the largest difference from a dense float64 convolution over the row's maximum.

ssqueezepy and fCWT take part where they are installed (``pip install ssqueezepy fcwt``).
fCWT's wheel for Linux needs FFTW's shared libraries: a system package, or the copies it ships,
linked as libfftw3f.so.3 and libfftw3f_omp.so.3 in a folder on LD_LIBRARY_PATH. It imports
matplotlib too.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["SSQ_PARALLEL"] = "0"

import importlib.metadata
import math
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hms.signal.cwt import frequencies, plan_cwt
from hms.signal.wavelets import Cwt, Gmw, Morlet, Ricker, Superlet

SFREQ = 200.0
N_PAIRS, N_WINDOW = 16, 2000
GROUPS = tuple(tuple(range(4 * i, 4 * i + 4)) for i in range(4))
W0 = 5.441398093
ROUNDS, SLOW_ROUNDS = 40, 3
GOALS = {"pywt.cwt fft, batched": 15, "ssqueezepy": 8, "fCWT, padded": 3}

Array = NDArray[Any]


def settings(n_freqs: int, hop: int) -> dict[str, Any]:
    """Return what all wavelets have in common."""
    names = ("min_hz", "max_hz", "n_freqs", "hop", "norm", "dtype", "backend")
    return dict(zip(names, (0.5, 20.0, n_freqs, hop, "amplitude", "float32", "fft"), strict=True))


@dataclass(frozen=True)
class Case:
    """One input: how many samples stand around the window, and what is wanted of it."""

    title: str
    n_context: int
    n_freqs: int
    hop: int

    @property
    def params(self) -> Morlet:
        """The default Morlet at this case's frequencies and hop."""
        return Morlet("morlet", **settings(self.n_freqs, self.hop), w0=W0)

    @property
    def freqs(self) -> Array:
        """Centre frequencies in Hz."""
        return frequencies(self.params).astype(np.float64)

    def derivations(self) -> Array:
        """Return noise of 1/f amplitude from 0.5 to 25 Hz, 30 µV, without offset."""
        n_samples = N_WINDOW + 2 * self.n_context
        freqs = np.fft.rfftfreq(n_samples, 1 / SFREQ)
        gain = np.where((freqs >= 0.5) & (freqs <= 25), 1 / np.maximum(freqs, 0.5), 0)
        noise = np.random.default_rng(0).standard_normal((N_PAIRS, n_samples))
        noise = np.fft.irfft(np.fft.rfft(noise) * gain, n_samples)
        return (30 * noise / noise.std(axis=1, keepdims=True)).astype(np.float32)

    def frames(self, transform: Array) -> Array:
        """Return the power of (n_pairs, n_freqs, n_samples) coefficients at the frames, per chain."""
        frames = transform[..., self.n_context : self.n_context + N_WINDOW : self.hop]
        power = np.square(frames.real) + np.square(frames.imag)
        return power.reshape(4, 4, *power.shape[1:]).mean(axis=1)


# --- methods: each returns a function from derivations to power ----------------------------------


def our_plan(case: Case, params: Cwt | None = None) -> Callable[[Array], Array]:
    """Return the plan of hms."""
    plan = plan_cwt(params or case.params, sfreq=SFREQ, n_context=case.n_context, n_window=N_WINDOW)
    return lambda x: plan.power(x, GROUPS)


def pywt_cwt(case: Case, *, method: str, batched: bool) -> Callable[[Array], Array]:
    """Return PyWavelets with one of its methods, all pairs in one call or one by one."""
    import pywt

    def transform(x: Array) -> Array:
        return pywt.cwt(x, SFREQ / case.freqs, "cmor1.5-1.0", method=method, axis=-1)[0]

    if batched:
        return lambda x: case.frames(transform(x).swapaxes(0, 1))
    return lambda x: case.frames(np.stack([transform(row) for row in x]))


def scipy_fftconvolve(case: Case) -> Callable[[Array], Array]:
    """Return a convolution by FFT per frequency with the sampled wavelet, made beforehand."""
    from scipy.signal import fftconvolve

    kernels = [kernel(freq, 5.1).astype(np.complex64)[np.newaxis] for freq in case.freqs]

    def power(x: Array) -> Array:
        return case.frames(np.stack([_same(fftconvolve(x, k, axes=1), x.shape[1]) for k in kernels], axis=1))

    return power


def _same(full: Array, n_samples: int) -> Array:
    start = (full.shape[1] - n_samples) // 2
    return full[:, start : start + n_samples]


def ssqueezepy_cwt(case: Case) -> Callable[[Array], Array]:
    """Return ssqueezepy with zero padding, float32 and its wavelet cache."""
    from ssqueezepy import Wavelet, cwt

    wavelet = Wavelet(("morlet", {"mu": W0}), dtype="float32")
    scales = (W0 * SFREQ / (2 * np.pi * case.freqs)).astype(np.float32)

    def power(x: Array) -> Array:
        found = cwt(x, wavelet, scales=scales, fs=SFREQ, padtype="zero", cache_wavelet=True, nan_checks=False)
        return case.frames(found[0])

    return power


def fcwt_cwt(case: Case) -> Callable[[Array], Array]:
    """Return fCWT on input with zeros on both sides, since its convolution is circular.

    fCWT has its frequencies descending and its width set to that of w0 here.
    """
    import fcwt

    width = fcwt.Morlet(W0 / math.sqrt(2) / 2 * 0 + W0 / (2 * math.pi) * FCWT_WIDTH)
    freqs = case.freqs
    scales = fcwt.Scales(width, fcwt.FCWT_LOGSCALES, int(SFREQ), freqs[0], freqs[-1], len(freqs))
    engine = fcwt.FCWT(width, 1, False, True)
    pad = max(0, math.ceil(5.1 * W0 / (2 * np.pi * freqs[0]) * SFREQ) - case.n_context)

    def power(x: Array) -> Array:
        padded = np.pad(x, ((0, 0), (0, pad)))
        found = np.zeros((len(x), len(freqs), padded.shape[1]), np.complex64)
        for row, out in zip(padded, found, strict=True):
            engine.cwt(row, scales, out)
        return case.frames(found[:, ::-1])

    return power
