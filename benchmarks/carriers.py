"""Real recordings as carriers: how they are graded as they are, and what is found when planted in them.

Called by ``quality.py --real DIR...``. A DIR holds train.csv and train_eegs, as the competition's
data do, or files that MNE-Python reads (EDF, BDF, EEGLAB, BrainVision, Neuroelectrics), one folder a
recorder. A carrier belongs to one of two halves, by the hash of its name: limits are set on the half
*choose* and reported on the half *report*. Everything is planted in what is read, which then goes
the run's own way. A plant of one electrode is found where a flag that names it is new at that
electrode; intervals are Wilson's, and the count of carriers is the one to judge by, as the electrodes
of one recording are not independent.
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
import xxhash
from numpy.typing import NDArray
from references import LOOKED_AT, is_clean, is_published_as_clean

from hms.competition import CHANNELS, EEG_CHANNELS, JUDGED_START_S, SFREQ_HZ
from hms.errors import Unusable
from hms.quality.electrodes import NEIGHBOURS
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
SUFFIXES = (".edf", ".bdf", ".set", ".vhdr", ".nedf")
FEWEST_ELECTRODES = 10
ALIASES = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
ELECTRODES_EACH = 4
"""Of plants that take long to tell apart by eye; muscle is planted at every electrode."""

CLEAN_MARGIN = 1.25
"""Times the most that clean windows of a half reach: the limit of muscle that it would set."""

HALVES = ("choose", "report")
FAINTEST_LINE = 0.01
"""Share of a derivation's power from which on the steadiness of a line is looked at."""


@dataclass(frozen=True)
class Carrier:
    """A real recording: float32, shape (20, n_samples), µV, NaN where it lacks a channel."""

    name: str
    folder: str
    consensus: str
    eeg: Array

    @property
    def half(self) -> str:
        """Whether limits may be set on it, or it reports what they do."""
        return HALVES[xxhash.xxh3_64_intdigest(self.name.encode()) % 2]

    def is_clean(self, start_s: float) -> bool:
        """Return whether nothing but EEG, mains and heartbeats was seen in what is read for a window."""
        if self.name in LOOKED_AT:
            return is_clean(self.name, start_s - READ_S, start_s + WINDOW_S + READ_S)
        return is_published_as_clean(self.name)

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


def spread_muscle(rms_uv: float) -> Callable[[Array, int, Rng], None]:
    """Add EMG whose spectrum falls above 40 Hz, and 40 % of the same to the electrodes beside."""

    def add(eeg: Array, row: int, rng: Rng) -> None:
        freqs = np.fft.rfftfreq(eeg.shape[1], 1 / SFREQ_HZ)
        shape = freqs**2 / ((freqs**2 + 25**2) * (1 + (freqs / 60) ** 4))
        emg = np.fft.irfft(np.fft.rfft(rng.standard_normal(eeg.shape[1])) * shape, n=eeg.shape[1])
        emg *= rms_uv / emg.std()
        eeg[row] += emg.astype(np.float32)
        eeg[np.flatnonzero(NEIGHBOURS[row])] += (0.4 * emg).astype(np.float32)

    return add


def loose(left: float, slow_uv: float) -> Callable[[Array, int, Rng], None]:
    """Leave a part of the signal, with slow waves and a third of their size of mains."""

    def add(eeg: Array, row: int, rng: Rng) -> None:
        n = eeg.shape[1]
        mains = np.sin(2 * np.pi * 60 * np.arange(n) / SFREQ_HZ)
        eeg[row] = (left * eeg[row] + slow_uv * (noise(n, 0.3, 2, rng) + mains / 3)).astype(np.float32)

    return add


def open_input(eeg: Array, row: int, rng: Rng) -> None:
    """Leave nothing but noise of 5 µV, broad as an amplifier's."""
    eeg[row] = (5 * rng.standard_normal(eeg.shape[1])).astype(np.float32)


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


def own_drift(eeg: Array, row: int, rng: Rng) -> None:
    """Add slow waves of 150 µV, 0.6 to 1 Hz, to one electrode: the filter leaves them."""
    eeg[row] += (150 * noise(eeg.shape[1], 0.6, 1, rng)).astype(np.float32)


def common_drift(peak_uv: float) -> Callable[[Array, Rng], None]:
    """Add slow waves of 0.02 to 0.1 Hz to all electrodes."""

    def add(eeg: Array, rng: Rng) -> None:
        eeg[:N_EEG] += (peak_uv * noise(eeg.shape[1], 0.02, 0.1, rng)).astype(np.float32)

    return add


def offsets(most_uv: float) -> Callable[[Array, Rng], None]:
    """Add to each electrode an offset of its own."""

    def add(eeg: Array, rng: Rng) -> None:
        eeg[:N_EEG] += (most_uv * rng.uniform(-1, 1, (N_EEG, 1))).astype(np.float32)

    return add


def mains(freq_hz: float, peak_uv: float) -> Callable[[Array, Rng], None]:
    """Add mains to all electrodes, to each between half and all of the amplitude."""

    def add(eeg: Array, rng: Rng) -> None:
        wave = np.sin(2 * np.pi * freq_hz * np.arange(eeg.shape[1]) / SFREQ_HZ + rng.uniform(0, 2 * np.pi))
        eeg[:N_EEG] += (peak_uv * rng.uniform(0.5, 1, (N_EEG, 1)) * wave).astype(np.float32)

    return add


LOOSE = ("isolated", "loud", "reversed")
PLANTS = (
    *(Plant(f"muscle of {uv} µV RMS", ("muscle",), muscle(uv), everywhere=True) for uv in (10, 20, 45)),
    Plant("muscle of 45 µV, a third of the time", ("muscle",), muscle(45, 1 / 3)),
    *(Plant(f"muscle of {uv} µV that neighbours share", ("muscle",), spread_muscle(uv)) for uv in (20, 45)),
    Plant("loose electrode: a third, 150 µV of slow waves", LOOSE, loose(0.3, 150)),
    Plant("loose electrode: half, 50 µV of slow waves", LOOSE, loose(0.5, 50)),
    Plant("open input: noise of 5 µV", (*LOOSE, "faint"), open_input),
    Plant("movement for 3 s, 200 µV", ("movement",), movement, of_item=True),
    Plant("hum of 20 Hz, 20 µV", ("hum",), tone(20, 20), of_item=True),
    Plant("drift of 0.6 to 1 Hz, 150 µV, one electrode", LOOSE, own_drift),
)

HARMLESS = (
    ("drift of 0.02 to 0.1 Hz in all electrodes, 1 mV", common_drift(1000)),
    ("the same, 10 mV", common_drift(10_000)),
    ("offsets of up to 50 mV, each electrode its own", offsets(50_000)),
    ("mains of 60 Hz, up to 5 mV, each electrode its own", mains(60, 5000)),
    ("mains of 50 Hz, up to 5 mV, each electrode its own", mains(50, 5000)),
)
"""What the filter takes out: it may change no grade."""


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


def print_harmless(bench: Bench, carriers: Sequence[Carrier], seed: int) -> None:
    """Print how many grades change by what the filter takes out."""
    print("\n| added, and taken out by the filter | grades changed | flags that come |\n|---|---|---|")
    costly = set(bench.cfg.qc.grading.costly)
    for name, add in HARMLESS:
        rng, changed, came = np.random.default_rng(seed), 0, set[str]()
        for carrier in carriers:
            segment = segment_of(bench, carrier, carrier.middle_s)
            eeg = segment.eeg.copy()
            add(eeg, rng)
            items = bench.ledger([bench.measure(s) for s in (segment, replace(segment, eeg=eeg))]).items
            before, after = items["grade"].tolist()
            changed += before != after
            flags = [set(text.split(";")) & costly for text in items["raised"]]
            came |= flags[1] - flags[0]
        print(f"| {name} | {of(changed, len(carriers))} | {', '.join(sorted(came))} |")


def print_clean(bench: Bench, carriers: Sequence[Carrier]) -> None:
    """Print what costs a grade in windows in which nothing but EEG was seen."""
    costly = set(bench.cfg.qc.grading.costly)
    flagged: dict[str, list[str]] = {}
    n_windows = n_carriers = 0
    for carrier in carriers:
        starts = [start for start in carrier.starts_s if carrier.is_clean(start)]
        if not starts:
            continue
        items = bench.ledger([bench.measure(segment_of(bench, carrier, start)) for start in starts]).items
        n_windows, n_carriers = n_windows + len(starts), n_carriers + 1
        for start, text in zip(starts, items["raised"], strict=True):
            if found := [name for name in text.split(";") if name in costly]:
                flagged.setdefault(carrier.name, []).append(f"{start:.0f} s: {', '.join(found)}")
    n = sum(map(len, flagged.values()))
    print(f"\nwindows without muscle or movement by eye below good: {of(n, n_windows)}")
    print(f"carriers with one: {of(len(flagged), n_carriers)}")
    for name, windows in flagged.items():
        print(f"- {name}: {'; '.join(windows)}")


def print_muscle(bench: Bench, chosen: Sequence[Carrier], others: Sequence[Carrier], seed: int) -> None:
    """Print what the limit of muscle finds in a half that the clean windows of the other half set."""
    limit = CLEAN_MARGIN * max((_most_muscle(bench, carrier) for carrier in chosen), default=np.nan)
    found = {20: [0, 0], 45: [0, 0]}
    rng = np.random.default_rng(seed)
    for carrier in others:
        segment = segment_of(bench, carrier, carrier.middle_s)
        before = bench.measure(segment)["muscle_uv"]
        for rms_uv, counts in found.items():
            for row in (row for row in carrier.present if before[row] <= limit):
                eeg = segment.eeg.copy()
                muscle(rms_uv)(eeg, row, rng)
                counts[0] += bool(bench.measure(replace(segment, eeg=eeg))["muscle_uv"][row] > limit)
                counts[1] += 1
    clean = [most for carrier in others if np.isfinite(most := _most_muscle(bench, carrier))]
    print(f"\nmuscle: {CLEAN_MARGIN} times the most of clean windows of the other half is {limit:.1f} µV")
    print(f"carriers with a clean window over it: {of(sum(most > limit for most in clean), len(clean))}")
    for rms_uv, (hits, n) in found.items():
        print(f"muscle of {rms_uv} µV found: {of(hits, n)}")


def _most_muscle(bench: Bench, carrier: Carrier) -> float:
    """Return the most muscle of an electrode in clean windows, -inf where there is none."""
    rows = [
        bench.measure(segment_of(bench, carrier, start))["muscle_uv"][:N_EEG]
        for start in carrier.starts_s
        if carrier.is_clean(start)
    ]
    return float(np.nanmax(rows)) if rows else -np.inf


def print_steadiness(bench: Bench, carriers: Sequence[Carrier]) -> None:
    """Print how steady lines are: in windows as they are, and with hum in one electrode."""
    natural, planted = [], []
    rng = np.random.default_rng(0)
    for carrier in carriers:
        found = max(bench.steadiness(segment_of(bench, carrier, s), FAINTEST_LINE) for s in carrier.starts_s)
        natural.append((found, carrier.name))
        segment = segment_of(bench, carrier, carrier.middle_s)
        eeg = segment.eeg.copy()
        tone(20, 20)(eeg, carrier.present[0], rng)
        planted.append(bench.steadiness(replace(segment, eeg=eeg), FAINTEST_LINE))
    told = ", ".join(f"{value:.2f} ({name})" for value, name in sorted(natural, reverse=True)[:5])
    print(f"\nsteadiest lines of {FAINTEST_LINE:.0%} of a derivation's power or more: {told}")
    print(f"with hum of 20 Hz and 20 µV in one electrode, at least {min(planted):.2f}")


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
    """Print all tables for the recordings of some folders, those to choose by apart from those to report."""
    carriers = prepared(bench, [carrier for folder in folders for carrier in read_carriers(folder)])
    halves = {half: [c for c in carriers if c.half == half] for half in HALVES}
    for half, members in halves.items():
        n_windows, n_folders = sum(len(c.starts_s) for c in members), len({c.folder for c in members})
        print(f"\n**To {half}**: {len(members)} carriers of {n_folders} folders, {n_windows} windows")
        print_as_they_are(bench, members)
        print_clean(bench, members)
        print_plants(bench, members, seed)
        print_harmless(bench, members, seed)
        print_steadiness(bench, members)
    for half, other in (HALVES, HALVES[::-1]):
        print_muscle(bench, halves[half], halves[other], seed)
