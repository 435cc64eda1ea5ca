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

# ruff: noqa: E402 (threads are set before NumPy is imported)
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

from hms.signal.cwt import plan_cwt
from hms.signal.wavelets import Cwt, Gmw, Morlet, Ricker, Superlet, frequencies

SFREQ = 200.0
N_PAIRS, N_WINDOW = 16, 2000
GROUPS = tuple(tuple(range(4 * i, 4 * i + 4)) for i in range(4))
W0 = 5.441398093
ROUNDS, SLOW_ROUNDS = 40, 3
GOALS = {"pywt.cwt fft, batched": 15, "ssqueezepy": 8, "fCWT, padded": 3}

Array = NDArray[Any]


def settings(n_freqs: int, hop: int) -> dict[str, Any]:
    """Return what all wavelets have in common."""
    names = ("min_hz", "max_hz", "n_freqs", "hop", "norm", "dtype", "backend", "spacing")
    return dict(zip(names, (0.5, 20.0, n_freqs, hop, "amplitude", "float32", "fft", "log"), strict=True))


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

    def power(self, transform: Array) -> Array:
        """Return the power of (..., n_freqs, n_samples) coefficients at the frames."""
        frames = transform[..., self.n_context : self.n_context + N_WINDOW : self.hop]
        return np.square(frames.real) + np.square(frames.imag)

    def frames(self, transform: Array) -> Array:
        """Return the power of (n_pairs, n_freqs, n_samples) coefficients at the frames, per chain."""
        power = self.power(transform)
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
    # Scales ascend, so frequencies descend.
    scales = (W0 * SFREQ / (2 * np.pi * case.freqs[::-1])).astype(np.float32)

    def power(x: Array) -> Array:
        found = cwt(x, wavelet, scales=scales, fs=SFREQ, padtype="zero", cache_wavelet=True, nan_checks=False)
        return case.frames(found[0][:, ::-1])

    return power


def fcwt_cwt(case: Case) -> Callable[[Array], Array]:
    """Return fCWT on input followed by as many zeros as its circular convolution reaches."""
    import fcwt

    freqs = case.freqs
    wavelet = fcwt.Morlet(W0 / (2 * math.pi))
    scales = fcwt.Scales(wavelet, fcwt.FCWT_LOGSCALES, int(SFREQ), freqs[0], freqs[-1], len(freqs))
    engine = fcwt.FCWT(wavelet, 1, False, True)
    engine.owner = wavelet  # it keeps a bare pointer, which must not dangle
    reach = math.ceil(5.1 * W0 / (2 * np.pi * freqs[0]) * SFREQ)
    n_samples = N_WINDOW + case.n_context + max(case.n_context, reach)
    # It works at a power of two anyway, and its rows are aligned alike only there.
    n_padded = 2 ** math.ceil(math.log2(n_samples))

    padded = np.zeros(n_padded, np.float32)
    found = np.empty((len(freqs), n_padded), np.complex64)

    def power(x: Array) -> Array:
        total = np.zeros((4, len(freqs), -(-N_WINDOW // case.hop)), np.float32)
        for i, row in enumerate(x):
            padded[: row.size] = row
            engine.cwt(padded, scales, found)
            total[i // 4] += case.power(found[::-1])
        return total / 4

    return power


def other_wavelets(case: Case) -> dict[str, Cwt]:
    """Return the other wavelets of the cwt group as their YAML files have them."""
    common = settings(case.n_freqs, case.hop)
    ricker = Ricker("ricker", **common, analytic=True)
    orders = {"base_cycles": 3.0, "order_min": 1.0, "order_max": 5.0, "growth": "multiplicative"}
    return {
        "gmw": Gmw("gmw", **common, gamma=3.0, beta=9.8696044),
        "ricker": ricker,
        "ricker, real": replace(ricker, analytic=False),
        "superlet": Superlet("superlet", **common, **orders),
    }


def methods(case: Case) -> Iterator[tuple[str, int, Callable[[], Callable[[Array], Array]]]]:
    """Yield name, rounds and maker of every method with a Morlet."""
    yield "hms", ROUNDS, lambda: our_plan(case)
    yield "pywt.cwt fft, batched", ROUNDS // 4, lambda: pywt_cwt(case, method="fft", batched=True)
    yield "scipy fftconvolve", ROUNDS // 4, lambda: scipy_fftconvolve(case)
    yield "ssqueezepy", ROUNDS // 4, lambda: ssqueezepy_cwt(case)
    yield "fCWT, padded", ROUNDS // 4, lambda: fcwt_cwt(case)
    if case.hop == 8 and not case.n_context:
        yield "pywt.cwt fft, pair by pair", SLOW_ROUNDS, lambda: pywt_cwt(case, method="fft", batched=False)
        yield "pywt.cwt conv", SLOW_ROUNDS, lambda: pywt_cwt(case, method="conv", batched=True)


# --- accuracy ------------------------------------------------------------------------------------


def kernel(freq: float, n_sigmas: float) -> Array:
    """Return the Morlet sampled in time, its gain 1 at its own frequency."""
    sigma = W0 / (2 * np.pi * freq)
    half = math.ceil(n_sigmas * sigma * SFREQ)
    t = np.arange(-half, half + 1) / SFREQ
    return np.exp(-0.5 * (t / sigma) ** 2 + 2j * np.pi * freq * t) / (sigma * np.sqrt(2 * np.pi) * SFREQ)


def dense(case: Case, x: Array) -> Array:
    """Return the power by sums over time in float64, of 8 standard deviations to each side."""
    rows = []
    for freq in case.freqs:
        wavelet = kernel(freq, 8.0)
        rows.append(
            [_same(np.convolve(row, wavelet)[np.newaxis], x.shape[1])[0] for row in x.astype(np.float64)]
        )
    return case.frames(np.swapaxes(np.array(rows), 0, 1))


def errors(found: Array, truth: Array, *, fit_gain: bool) -> tuple[float, float]:
    """Return the largest error over the row's maximum, and over the value where that exceeds 1 % of it.

    Other packages have other normalisations: each row is first given the gain that fits best.
    """
    found = found.astype(np.float64)
    if fit_gain:
        found *= (truth * found).sum(axis=(0, 2), keepdims=True) / (found**2).sum(axis=(0, 2), keepdims=True)
    top = truth.max(axis=-1, keepdims=True)
    difference = np.abs(found - truth)
    return float((difference / top).max()), float((difference / truth)[truth > 0.01 * top].max())


# --- time ----------------------------------------------------------------------------------------


def time_in_turns(calls: dict[str, tuple[int, Callable[[], object]]]) -> dict[str, list[float]]:
    """Return seconds of each call per round; calls with fewer rounds skip some."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(ROUNDS):
        for name, (rounds, call) in calls.items():
            if round_number % (ROUNDS // rounds) == 0 and len(seconds[name]) < rounds:
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    return seconds


def measure(case: Case) -> dict[str, float]:
    """Time one case, print its table and return the ratios to hms."""
    x = case.derivations()
    truth = dense(case, x)
    calls: dict[str, tuple[int, Callable[[], object]]] = {}
    accuracy: dict[str, str] = {}
    for name, rounds, make in methods(case):
        try:
            power = make()
        except ImportError as error:
            print(f"  skipped: {name} ({error})")
            continue
        row, value = errors(power(x), truth, fit_gain=name != "hms")
        accuracy[name] = f"{row:9.1e} {value:9.1e}"
        calls[name] = (rounds, lambda power=power: power(x))
    for name, params in other_wavelets(case).items():
        power = our_plan(case, params)
        power(x)
        calls[f"hms, {name}"] = (ROUNDS // 2, lambda power=power: power(x))
    return report(case, time_in_turns(calls), accuracy)


def report(case: Case, seconds: dict[str, list[float]], accuracy: dict[str, str]) -> dict[str, float]:
    """Print the table of a case: median time, best time, times hms, errors."""
    print(f"\n{case.title}")
    print(f"  {'':28}{'times hms':>10}{'median ms':>11}{'best ms':>9}  {'row max':>9} {'pointwise':>9}")
    base = float(np.median(seconds["hms"]))
    ratios = {}
    for name, values in seconds.items():
        ratios[name] = float(np.median(values)) / base
        print(
            f"  {name:28}{ratios[name]:10.1f}{np.median(values) * 1e3:11.2f}{min(values) * 1e3:9.2f}"
            f"  {accuracy.get(name, '')}"
        )
    return ratios


def main() -> None:
    """Run all cases and compare the first with the goals."""
    warnings.simplefilter("ignore")
    packages = ("numpy", "scipy", "PyWavelets", "ssqueezepy", "fCWT")
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores,", end=" ")
    print(", ".join(f"{name} {version(name)}" for name in packages), flush=True)
    window = f"{N_PAIRS} pairs x {N_WINDOW} samples x 48 frequencies"
    ratios = measure(Case(f"{window}, hop 8", 0, 48, 8))
    measure(Case(f"{window}, hop 4", 0, 48, 4))
    measure(Case(f"{window}, hop 1", 0, 48, 1))
    measure(Case(f"the pipeline's default: {N_PAIRS} pairs x (2400 + 2000 + 2400) x 64, hop 8", 2400, 64, 8))
    print("\ngoals (first table)")
    for name, goal in GOALS.items():
        verdict = "not measured" if name not in ratios else "met" if ratios[name] >= goal else "MISSED"
        print(f"  {name:28}{ratios.get(name, math.nan):10.1f} times hms, goal {goal}: {verdict}")


def version(name: str) -> str:
    """Return a package's version, or that it is absent."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    main()
