"""Real recordings as carriers: how they are graded as they are, and what is found when planted in them.

Called by ``quality.py --real DIR...``. A DIR holds train.csv and train_eegs, as the competition's
data do, or files that MNE-Python reads (EDF, BDF, EEGLAB). Everything is planted in what is read,
which then goes the run's own way. A plant of one electrode is found where a flag that names it is
new at that electrode; intervals are Wilson's, and the count of carriers is the one to judge by, as
the electrodes of one recording are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from references import is_clean

from hms.competition import CHANNELS, EEG_CHANNELS, JUDGED_START_S, SFREQ_HZ
from hms.errors import Unusable
from hms.quality.grading import FLAGS
from hms.quality.selection import wilson
from hms.signal.montage import electrodes
from hms.sources.base import Segment
from hms.sources.channels import canonical_name

if TYPE_CHECKING:
    from quality import Bench

Array = NDArray[np.float32]
Rng = np.random.Generator

N_EEG = len(EEG_CHANNELS)
READ_S, WINDOW_S, STEP_S = 12.0, 10.0, 8.0
MOST_WINDOWS = 8
SUFFIXES = (".edf", ".bdf", ".set", ".vhdr")
FEWEST_ELECTRODES = 10
ALIASES = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
ELECTRODES_EACH = 4
"""Of plants that take long to tell apart by eye; muscle is planted at every electrode."""

CLEAN_MARGIN = 1.25
"""Times the most that clean windows reach: the limit that other recordings would set for muscle."""


@dataclass(frozen=True)
class Carrier:
    """A real recording: float32, shape (20, n_samples), µV, NaN where it lacks a channel."""

    name: str
    folder: str
    consensus: str
    eeg: Array

    @cached_property
    def starts_s(self) -> tuple[float, ...]:
        """Starts of the windows whose context lies within the recording, or of its middle."""
        last = self.eeg.shape[1] / SFREQ_HZ - READ_S - WINDOW_S
        if last < READ_S:
            return (max(0.0, self.eeg.shape[1] / SFREQ_HZ / 2 - WINDOW_S / 2),)
        return tuple(np.arange(READ_S, last + 1e-6, STEP_S)[:MOST_WINDOWS].tolist())

    @cached_property
    def middle_s(self) -> float:
        """Start of the window in which things are planted."""
        return self.starts_s[len(self.starts_s) // 2]

    @cached_property
    def present(self) -> list[int]:
        """Rows of the electrodes that the recording has."""
        return np.flatnonzero(np.nan_to_num(self.eeg[:N_EEG]).std(axis=1) > 0).tolist()


def read_carriers(folder: Path) -> list[Carrier]:
    """Return the recordings of a folder with at least ten electrodes and 10 s."""
    if (folder / "train.csv").is_file():
        found = _of_the_competition(folder)
    else:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        found = [carrier for path in files if (carrier := _of_a_file(path)) is not None]
    return [
        c for c in found
        if len(c.present) >= FEWEST_ELECTRODES and c.eeg.shape[1] >= WINDOW_S * SFREQ_HZ
    ]  # fmt: skip


def _of_the_competition(folder: Path) -> list[Carrier]:
    votes = pd.read_csv(folder / "train.csv").drop_duplicates("eeg_id")
    carriers = []
    for name, consensus in zip(votes["eeg_id"], votes["expert_consensus"], strict=True):
        table = pd.read_parquet(folder / "train_eegs" / f"{name}.parquet")[list(CHANNELS)]
        carriers.append(Carrier(str(name), folder.name, str(consensus).lower(), table.to_numpy(np.float32).T))
    return carriers


def _of_a_file(path: Path) -> Carrier | None:
    import mne
    from scipy.signal import resample_poly

    read = mne.io.read_raw_eeglab if path.suffix.lower() == ".set" else mne.io.read_raw
    try:
        raw: Any = read(path, preload=True, verbose="error")
    except Exception as error:  # whatever a public file is made of
        print(f"not read: {path.name}: {type(error).__name__}")
        return None
    ratio = Fraction(SFREQ_HZ / raw.info["sfreq"]).limit_denominator(1000)
    eeg = np.full((len(CHANNELS), int(raw.n_times * SFREQ_HZ / raw.info["sfreq"])), np.nan, np.float32)
    for label, samples in zip(raw.ch_names, raw.get_data() * 1e6, strict=True):
        name = canonical_name(label, ALIASES)
        if name in CHANNELS and not np.isfinite(eeg[CHANNELS.index(name)]).any():
            row = resample_poly(samples - np.median(samples), ratio.numerator, ratio.denominator)
            n = min(row.size, eeg.shape[1])
            eeg[CHANNELS.index(name), :n] = row[:n]
    return Carrier(path.stem, path.parent.name, "", eeg)


# --- plants --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plant:
    """Something to plant in the electrode ``row`` of a segment, or in all; the flags that name it."""

    name: str
    flags: tuple[str, ...]
    add: Callable[[Array, int, Rng], None]
    of_item: bool = False
    everywhere: bool = False


def noise(n: int, low_hz: float, high_hz: float, rng: Rng) -> NDArray[np.float64]:
    """Return noise of unit SD between two frequencies."""
    freqs = np.fft.rfftfreq(n, 1 / SFREQ_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(n)) * ((freqs >= low_hz) & (freqs <= high_hz))
    values = np.fft.irfft(spectrum, n=n)
    return np.asarray(values / values.std())


def muscle(rms_uv: float, duty: float = 1.0) -> Callable[[Array, int, Rng], None]:
    """Add EMG of 20 to 80 Hz, all the time or in bursts of half a second."""

    def add(eeg: Array, row: int, rng: Rng) -> None:
        n = eeg.shape[1]
        bursts = np.repeat(rng.random(n // 100 + 1) < duty, 100)[:n]
        eeg[row] += (rms_uv * noise(n, 20, 80, rng) * bursts).astype(np.float32)

    return add


def loose(eeg: Array, row: int, rng: Rng) -> None:
    """Leave a third of the signal, with slow waves of 150 µV and mains of 50 µV."""
    n = eeg.shape[1]
    tone = np.sin(2 * np.pi * 60 * np.arange(n) / SFREQ_HZ)
    eeg[row] = (0.3 * eeg[row] + 150 * noise(n, 0.3, 2, rng) + 50 * tone).astype(np.float32)


def movement(eeg: Array, row: int, rng: Rng) -> None:
    """Add slow waves of 200 µV to all electrodes for 3 s of the window, each with its own gain."""
    n, length = eeg.shape[1], round(3 * SFREQ_HZ)
    start = n // 2 + int(rng.integers(-length, 1))
    wave = 200 * noise(n, 0.5, 3, rng)[start : start + length] * np.hanning(length)
    eeg[:N_EEG, start : start + length] += (rng.normal(0, 1, (N_EEG, 1)) * wave).astype(np.float32)


def tone(freq_hz: float, peak_uv: float) -> Callable[[Array, int, Rng], None]:
    """Add a line of one frequency."""

    def add(eeg: Array, row: int, rng: Rng) -> None:
        phase = 2 * np.pi * freq_hz * np.arange(eeg.shape[1]) / SFREQ_HZ + rng.uniform(0, 2 * np.pi)
        eeg[row] += (peak_uv * np.sin(phase)).astype(np.float32)

    return add


def common_drift(eeg: Array, row: int, rng: Rng) -> None:
    """Add slow waves of 1,000 µV, 0.02 to 0.1 Hz, to all electrodes: the filter takes them out."""
    eeg[:N_EEG] += (1000 * noise(eeg.shape[1], 0.02, 0.1, rng)).astype(np.float32)


def own_drift(eeg: Array, row: int, rng: Rng) -> None:
    """Add slow waves of 150 µV, 0.6 to 1 Hz, to one electrode: the filter leaves them."""
    eeg[row] += (150 * noise(eeg.shape[1], 0.6, 1, rng)).astype(np.float32)


PLANTS = (
    *(Plant(f"muscle of {uv} µV RMS", ("muscle",), muscle(uv), everywhere=True) for uv in (10, 20, 45)),
    Plant("muscle of 45 µV, a third of the time", ("muscle",), muscle(45, 1 / 3)),
    Plant("loose electrode", ("isolated", "loud", "reversed"), loose),
    Plant("movement for 3 s", ("movement",), movement, of_item=True),
    Plant("hum of 20 Hz, 20 µV", ("hum",), tone(20, 20), of_item=True),
    Plant("drift that the filter leaves", ("isolated", "loud", "reversed"), own_drift),
)


# --- tables --------------------------------------------------------------------------------------


def segment_of(bench: Bench, carrier: Carrier, start_s: float) -> Segment:
    """Return what a run would read for a window."""
    return bench.segment(carrier.eeg, start_s - JUDGED_START_S)


def of(found: int, n: int) -> str:
    """Return a count with Wilson's interval."""
    low, high = wilson(found, n)
    return f"{found} of {n} ({low:.0%} to {high:.0%})" if n else "none"


def print_as_they_are(bench: Bench, carriers: Sequence[Carrier]) -> None:
    """Print the windows by carrier: grades, and the flags that cost one."""
    costly = set(bench.cfg.qc.grading.costly)
    print("\n| carrier | from | consensus | good, usable, poor, unusable | flags that cost a grade |")
    print("|---|---|---|---|---|")
    by_class: dict[str, list[str]] = {}
    for carrier in carriers:
        rows = [bench.measure(segment_of(bench, carrier, start)) for start in carrier.starts_s]
        items = bench.ledger(rows).items
        grades = items["grade"].tolist()
        names = {name for text in items["raised"] for name in text.split(";") if name in costly}
        by_class.setdefault(carrier.consensus or "not voted on", []).extend(grades)
        counts = ", ".join(str(grades.count(g)) for g in ("good", "usable", "poor", "unusable"))
        told = ", ".join(name for name in FLAGS if name in names)
        print(f"| {carrier.name} | {carrier.folder} | {carrier.consensus} | {counts} | {told} |")
    print("\n| consensus | windows | below good | poor or unusable |\n|---|---|---|---|")
    for name, grades in sorted(by_class.items()):
        below, poor = sum(g != "good" for g in grades), sum(g in ("poor", "unusable") for g in grades)
        print(f"| {name} | {len(grades)} | {of(below, len(grades))} | {of(poor, len(grades))} |")


def print_plants(bench: Bench, carriers: Sequence[Carrier], seed: int) -> None:
    """Print how often each plant is found, by plant and by carrier, and how often it costs a grade."""
    used = [EEG_CHANNELS.index(name) for name in electrodes(bench.stage.derivations.chains)]
    print("\n| planted | flags | found | carriers with at least half found | below good |")
    print("|---|---|---|---|---|")
    for plant in PLANTS:
        rng, counts = np.random.default_rng(seed), []
        for carrier in carriers:
            rows = [row for row in used if row in carrier.present]
            if not plant.everywhere:
                rows = sorted(rng.choice(rows, min(ELECTRODES_EACH, len(rows)), replace=False).tolist())
            segment = segment_of(bench, carrier, carrier.middle_s)
            counts.append(_found(bench, segment, plant, rows, rng))
        tried = [count for count in counts if count[1]]
        found, n, below = (sum(count[i] for count in tried) for i in range(3))
        half = of(sum(count[0] >= count[1] / 2 for count in tried), len(tried))
        flags = ", ".join(plant.flags)
        print(f"| {plant.name} | {flags} | {of(found, n)} | {half} | {of(below, n)} |")
    _print_common_drift(bench, carriers, seed)


def _found(
    bench: Bench, segment: Segment, plant: Plant, rows: Sequence[int], rng: Rng
) -> tuple[int, int, int]:
    """Return at how many electrodes a plant is found, of how many, and how many items are below good.

    Electrodes that have one of its flags already are not tried.
    """
    (before,) = bench.flags([bench.measure(segment)])
    rows = [row for row in rows if not set(plant.flags) & before[N_EEG if plant.of_item else row]]
    planted = []
    for row in rows:
        eeg = segment.eeg.copy()
        plant.add(eeg, row, rng)
        planted.append(bench.measure(replace(segment, eeg=eeg)))
    if not planted:
        return 0, 0, 0
    after = bench.flags(planted)
    places = [N_EEG if plant.of_item else row for row in rows]
    found = sum(bool(set(plant.flags) & flags[at]) for at, flags in zip(places, after, strict=True))
    return found, len(rows), int((bench.ledger(planted).items["grade"] != "good").sum())


def _print_common_drift(bench: Bench, carriers: Sequence[Carrier], seed: int) -> None:
    """Print how many grades a drift of all electrodes changes that the filter takes out."""
    rng, changed = np.random.default_rng(seed), 0
    for carrier in carriers:
        segment = segment_of(bench, carrier, carrier.middle_s)
        eeg = segment.eeg.copy()
        common_drift(eeg, 0, rng)
        rows = [bench.measure(s) for s in (segment, replace(segment, eeg=eeg))]
        before, after = bench.ledger(rows).items["grade"].tolist()
        changed += before != after
    told = of(changed, len(carriers))
    print(f"\ndrift of 1,000 µV in all electrodes, which the filter takes out, changes {told} grades")


def print_left_out(bench: Bench, carriers: Sequence[Carrier], seed: int) -> None:
    """Print what a limit of muscle finds that is set on all other recordings looked at by eye."""
    looked_at = [c for c in carriers if c.consensus and _clean_windows(c)]
    if len(looked_at) < 3:
        return
    clean = {
        c.name: [bench.measure(segment_of(bench, c, s))["muscle_uv"][:N_EEG] for s in _clean_windows(c)]
        for c in looked_at
    }
    limits, alarms, windows = [], 0, 0
    found = {20: [0, 0], 45: [0, 0]}
    rng = np.random.default_rng(seed)
    for carrier in looked_at:
        others = [np.nanmax(rows) for name, rows in clean.items() if name != carrier.name]
        limit = CLEAN_MARGIN * max(others)
        limits.append(limit)
        alarms += sum(np.nanmax(row) > limit for row in clean[carrier.name])
        windows += len(clean[carrier.name])
        segment = segment_of(bench, carrier, carrier.middle_s)
        for rms_uv, counts in found.items():
            for row in carrier.present:
                eeg = segment.eeg.copy()
                muscle(rms_uv)(eeg, row, rng)
                counts[0] += bool(bench.measure(replace(segment, eeg=eeg))["muscle_uv"][row] > limit)
                counts[1] += 1
    print(f"\nmuscle, its limit set on the other recordings: {min(limits):.1f} to {max(limits):.1f} µV")
    print(f"clean windows over it: {of(alarms, windows)}")
    for rms_uv, (hits, n) in found.items():
        print(f"muscle of {rms_uv} µV found: {of(hits, n)}")


def _clean_windows(carrier: Carrier) -> list[float]:
    return [s for s in carrier.starts_s if is_clean(carrier.name, s - READ_S, s + WINDOW_S + READ_S)]


def prepared(bench: Bench, carriers: Sequence[Carrier]) -> list[Carrier]:
    """Return those that the configuration can prepare; say which it cannot, and why."""
    found = []
    for carrier in carriers:
        try:
            bench.measure(segment_of(bench, carrier, carrier.middle_s))
        except Unusable as error:
            print(f"left out: {carrier.name}: {error}")
        else:
            found.append(carrier)
    return found


def print_carriers(bench: Bench, folders: Sequence[Path], seed: int) -> None:
    """Print all tables for the recordings of some folders."""
    carriers = prepared(bench, [carrier for folder in folders for carrier in read_carriers(folder)])
    print(f"\n{len(carriers)} carriers, {sum(len(c.starts_s) for c in carriers)} windows")
    print_as_they_are(bench, carriers)
    print_plants(bench, carriers, seed)
    print_left_out(bench, carriers, seed)
