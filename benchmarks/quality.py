"""Plants known defects in clean recordings and counts how many the ledger finds.

    python benchmarks/quality.py                      # made-up recordings
    python benchmarks/quality.py --real DIR...        # also real recordings as carriers (carriers.py)
    python benchmarks/quality.py --recordings 0 --alarms 0 --classes 1200   # grades by class

Every recording goes the run's own way (Reader.segment, evaluate, make_ledger), once as it is
and once with each defect in one electrode or in all. A defect is found when one of the flags
that name it is raised, for a defect of one electrode at that electrode. Intervals are
Wilson's at 95 %. What real recordings hold of themselves is found by references.py, without the
measures of hms.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from carriers import print_carriers
from numpy.typing import NDArray
from references import (
    ABSENT_DB,
    LOOKED_AT,
    Heart,
    heart,
    heart_in_electrodes,
    is_clean,
    mains_db,
    shuffled,
    without_beats,
    without_mains,
)

import hms
from hms.competition import CHANNELS, CLASSES, EEG_CHANNELS, JUDGED_START_S, SFREQ_HZ
from hms.engine.evaluate import evaluate, row_of, stacked
from hms.quality.grading import FLAGS, ITEM_FLAGS
from hms.quality.hum import lines
from hms.quality.inspection import SPECTRAL_CONTEXT_S
from hms.quality.ledger import Ledger, make_ledger
from hms.signal.montage import electrodes
from hms.signal.wavelets import frequencies
from hms.sources.base import Reader, Segment
from hms.sources.synthetic import draft_recordings, simulate
from hms.sources.synthetic.artifacts import heartbeat
from hms.stages.measures import Measures

Array = NDArray[np.float32]
Rng = np.random.Generator

N_EEG = len(EEG_CHANNELS)
MIDLINE = tuple(EEG_CHANNELS.index(name) for name in ("Fz", "Cz", "Pz"))


def anywhere(whole: Array) -> bool:
    """Return that a defect can be planted in any segment."""
    return True


def beats(whole: Array) -> bool:
    """Return whether the EKG of a segment has heartbeats to mix in."""
    return heart(whole[N_EEG]).beats


@dataclass(frozen=True)
class Defect:
    """A defect at one strength.

    ``plant`` changes electrodes of a segment, shape (n, n_samples), in place; it is given the
    whole segment too, as is ``fits``, which says whether the segment can have the defect.
    ``strength`` is weak, middle or strong; "unseen" makes no claim.
    """

    name: str
    strength: str
    flags: tuple[str, ...]
    plant: Callable[[Array, Array, Rng], None]
    where: tuple[str, ...] = ("one", "all")
    fits: Callable[[Array], bool] = anywhere


# --- the defects ---------------------------------------------------------------------------------


def gap(n_samples: int, at_edge: bool = False) -> Callable[[Array, Array, Rng], None]:
    """Lose samples at a random place, or at the start of what is read."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        start = 0 if at_edge else int(rng.integers(1, eeg.shape[1] - n_samples - 1))
        eeg[:, start : start + n_samples] = np.nan

    return plant


def flat(seconds: float) -> Callable[[Array, Array, Rng], None]:
    """Hold one value for some seconds of the window, or all of it and some beside."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        n, n_window = round(seconds * SFREQ_HZ), round(WINDOW_S * SFREQ_HZ)
        first = (eeg.shape[1] - n_window) // 2
        ends = sorted((first, max(0, first + n_window - n)))
        start = int(rng.integers(ends[0], ends[1] + 1))
        eeg[:, start : start + n] = eeg[:, start : start + 1]

    return plant


def clipped(share: float) -> Callable[[Array, Array, Rng], None]:
    """Limit each electrode to a share of its range on either side of its median."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        centre = np.median(eeg, axis=1, keepdims=True)
        low, high = eeg.min(axis=1, keepdims=True), eeg.max(axis=1, keepdims=True)
        eeg[:] = np.clip(eeg, centre + share * (low - centre), centre + share * (high - centre))

    return plant


def pop(amplitude_uv: float) -> Callable[[Array, Array, Rng], None]:
    """Add one to three steps in the window that decay as through an amplifier with a time constant."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        n_window = round(WINDOW_S * SFREQ_HZ)
        first = (eeg.shape[1] - n_window) // 2
        for _ in range(int(rng.integers(1, 4))):
            start = int(rng.integers(first, first + n_window))
            t = np.arange(eeg.shape[1] - start) / SFREQ_HZ
            eeg[:, start:] += np.float32(rng.choice((-1, 1)) * amplitude_uv) * np.exp(
                -t / rng.uniform(0.1, 0.5)
            )

    return plant


def mains(freq_hz: float, level_db: float) -> Callable[[Array, Array, Rng], None]:
    """Add a sine whose power is ``level_db`` over the electrode's own within 1 Hz, 3 to 8 Hz beside it."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        freqs = np.fft.rfftfreq(eeg.shape[1], 1 / SFREQ_HZ)
        beside = (np.abs(freqs - freq_hz) >= 3) & (np.abs(freqs - freq_hz) <= 8)
        taper = np.hanning(eeg.shape[1])
        power = np.abs(np.fft.rfft(eeg * taper)[:, beside]) ** 2 * 2 / (SFREQ_HZ * np.sum(taper**2))
        amplitude = np.sqrt(2 * power.mean(axis=1) * 10 ** (level_db / 10))
        phase = 2 * np.pi * freq_hz * np.arange(eeg.shape[1]) / SFREQ_HZ + rng.uniform(0, 2 * np.pi)
        eeg += (amplitude[:, None] * np.sin(phase)).astype(np.float32)

    return plant


def muscle(times: float) -> Callable[[Array, Array, Rng], None]:
    """Add noise of 20 to 80 Hz with ``times`` the electrode's own SD."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        freqs = np.fft.rfftfreq(eeg.shape[1], 1 / SFREQ_HZ)
        spectrum = np.fft.rfft(rng.standard_normal(eeg.shape)) * ((freqs >= 20) & (freqs <= 80))
        noise = np.fft.irfft(spectrum, n=eeg.shape[1])
        eeg += (noise / noise.std(axis=1, keepdims=True) * eeg.std(axis=1, keepdims=True) * times).astype(
            np.float32
        )

    return plant


def drift(amplitude_uv: float) -> Callable[[Array, Array, Rng], None]:
    """Add a ramp from the first to the last sample."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        eeg += np.linspace(0, rng.choice((-1, 1)) * amplitude_uv, eeg.shape[1], dtype=np.float32)

    return plant


def swap_sides(eeg: Array, whole: Array, rng: Rng) -> None:
    """Exchange the electrodes of left and right."""
    mirror = str.maketrans("13572468", "24681357")
    whole[:N_EEG] = whole[[EEG_CHANNELS.index(name.translate(mirror)) for name in EEG_CHANNELS]]


def copy_other(eeg: Array, whole: Array, rng: Rng) -> None:
    """Put the samples of another electrode of the default montage in the place of this one's."""
    others = [i for i in range(N_EEG) if i not in MIDLINE and not np.shares_memory(whole[i], eeg)]
    eeg[:] = whole[rng.choice(others)]


def times(factor: float) -> Callable[[Array, Array, Rng], None]:
    """Multiply by a factor."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        eeg *= np.float32(factor)

    return plant


def own_heart(amplitude_uv: float) -> Callable[[Array, Array, Rng], None]:
    """Mix in the recording's own EKG, its heartbeats' median height at ``amplitude_uv``."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        ekg = whole[N_EEG] - np.median(whole[N_EEG])
        near = heart(whole[N_EEG]).times[:, None] + np.arange(-10, 11)
        height = np.median(np.abs(ekg[np.clip(near, 0, ekg.size - 1)]).max(axis=1))
        eeg += np.float32(amplitude_uv / height) * ekg

    return plant


def foreign_heart(amplitude_uv: float) -> Callable[[Array, Array, Rng], None]:
    """Mix in a heartbeat that is not in the EKG, as where the EKG's own electrode is off."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        ekg = heartbeat(rng, eeg.shape[1])
        eeg += np.float32(amplitude_uv) * ekg / np.float32(np.quantile(np.abs(ekg), 0.999))

    return plant


def defects() -> list[Defect]:
    """Every defect that is planted, weak to strong."""
    strengths = ("weak", "middle", "strong")
    found = [
        Defect("gap of 3 samples", "middle", ("gaps",), gap(3)),
        Defect("gap of 40 samples", "middle", ("gaps",), gap(40)),
        Defect("gap of 5 s at an edge", "strong", ("gaps", "gappy"), gap(1000, at_edge=True)),
        Defect("flat for 5 s", "middle", ("flat", "dead"), flat(5)),
        Defect("flat for 25 s", "strong", ("flat", "dead"), flat(25)),
        Defect("hemispheres swapped", "unseen", (), swap_sides, ("all",)),
        Defect("copy of another electrode", "strong", ("twin",), copy_other, ("one",)),
        Defect("polarity reversed", "strong", ("reversed",), times(-1), ("one",)),
        Defect("polarity reversed", "unseen", (), times(-1), ("all",)),
        Defect("drift of 500 µV", "middle", ("drift",), drift(500)),
        Defect("drift of 5,000 µV", "strong", ("drift",), drift(5000)),
        Defect("EKG of 20 µV", "weak", ("ekg",), own_heart(20), fits=beats),
        Defect("EKG of 100 µV", "strong", ("ekg",), own_heart(100), fits=beats),
        Defect("EKG of 100 µV that the EKG lacks", "unseen", ("ekg",), foreign_heart(100)),
    ]
    for value, strength in zip((0.95, 0.8, 0.5), strengths, strict=True):
        found.append(Defect(f"clipped at {value:.0%} of its range", strength, ("clipped",), clipped(value)))
    for value, strength in zip((300, 1000, 5000), strengths, strict=True):
        found.append(Defect(f"pops of {value:,} µV", strength, ("jump", "large"), pop(value), ("one",)))
    for freq_hz in (60, 50):
        for value, strength in zip((10, 20, 40), strengths, strict=True):
            found.append(Defect(f"{freq_hz} Hz, {value} dB", strength, ("line",), mains(freq_hz, value)))
    for value, strength in zip((1, 3, 10), strengths, strict=True):
        found.append(Defect(f"muscle, {value} x SD", strength, ("muscle",), muscle(value)))
    for value, strength in zip((5, 20, 100), strengths, strict=True):
        found.append(Defect(f"one electrode x {value}", strength, ("loud",), times(value), ("one",)))
    return sorted(found, key=lambda d: d.name.rstrip("0123456789, µVdBxSD"))


# --- recordings ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """A recording held in memory, as a source opens one."""

    eeg: Array
    digest: str = ""
    sfreq: float = SFREQ_HZ
    channels: tuple[str, ...] = CHANNELS

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return int(self.eeg.shape[1])

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> Array:
        """Return samples start to stop, NaN where there are none."""
        found = np.full((len(channels), stop - start), np.nan, np.float32)
        inside = slice(max(0, start), min(stop, self.n_samples))
        rows = [self.channels.index(name) for name in channels]
        found[:, inside.start - start : inside.stop - start] = self.eeg[rows, inside]
        return found


def made_up(n: int, seed: int) -> list[tuple[Array, float, str]]:
    """Return synthetic recordings without artifacts: samples, start of the sub-window, class."""
    drafts = draft_recordings(n_recordings=n, n_patients=max(2, n // 3), seed=seed)
    return [
        (
            simulate(draft, seed=seed, spoilt=False),
            float(draft.rows[0].offset_s),
            CLASSES[int(np.argmax(draft.rows[0].votes))],
        )
        for draft in drafts
    ]


def real(folder: Path, names: Sequence[str]) -> list[tuple[Array, float, str]]:
    """Return real recordings of 50 s."""
    votes = pd.read_csv(folder / "train.csv").set_index("eeg_id")["expert_consensus"].str.lower()
    return [
        (
            pd.read_parquet(folder / "train_eegs" / f"{name}.parquet")[list(CHANNELS)].to_numpy(np.float32).T,
            0.0,
            votes[int(name)],
        )
        for name in names
    ]


class Bench:
    """Measures segments with the stages of a configuration and grades them by its limits."""

    def __init__(self, *overrides: str) -> None:
        import hms.stages

        self.cfg = hms.compose(*overrides)
        self.stage = Measures.from_config(self.cfg)

    def segment(self, eeg: Array, offset_s: float) -> Segment:
        """Return what a run reads of a recording."""
        context_s = max(s.settings.get("derived.context_s", 0) for s in self.stage.chain().values())
        reader = Reader(Held(eeg), self.cfg.at("window.length_s"), context_s, CHANNELS)
        return reader.segment(offset_s + JUDGED_START_S)

    def measure(self, segment: Segment) -> dict[str, NDArray]:
        """Return the row of measures of a segment."""
        return row_of(self.stage, evaluate(self.stage, segment, {}))

    def steadiness(self, segment: Segment, least_share: float) -> float:
        """Return how steady the steadiest line is that has a share of a derivation's power."""
        rows = stacked([self.stage.arrays(evaluate(self.stage, segment, {}))])
        top_hz = float(frequencies(self.stage.scalograms.cwt)[-1])
        shares, found = lines(rows, self.stage.signal.filter, top_hz=top_hz, sfreq=SFREQ_HZ)
        return float(found[shares >= least_share].max(initial=0))

    def ledger(self, rows: Sequence[dict[str, NDArray]]) -> Ledger:
        """Grade rows as one data set."""
        measures = stacked(rows)
        measures["row"] = np.arange(len(rows))
        items = pd.DataFrame({"item_id": np.arange(len(rows)).astype(str), "eeg_id": np.arange(len(rows))})
        return make_ledger(items, [None] * len(rows), measures, self.cfg.qc)

    def flags(self, rows: Sequence[dict[str, NDArray]]) -> list[list[set[str]]]:
        """Return the flags of each row's electrodes, and behind them those of the item."""
        ledger = self.ledger(rows)
        channels = [set(text.split(";")) - {""} for text in ledger.channels["raised"]]
        items = [set(text.split(";")) & set(ITEM_FLAGS) for text in ledger.items["raised"]]
        n = len(CHANNELS)
        return [[*channels[i * n : i * n + N_EEG], items[i]] for i in range(len(rows))]


def wilson(found: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share."""
    if n == 0:
        return 0.0, 1.0
    p, half = found / n, z * math.sqrt(found / n * (1 - found / n) / n + z * z / (4 * n * n))
    centre, scale = p + z * z / (2 * n), 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


# --- planted defects -----------------------------------------------------------------------------

BATCH = 10
"""Planted recordings that are graded together with all clean ones: the data set of the z scores."""


def count_found(
    bench: Bench,
    defect: Defect,
    where: str,
    segments: Sequence[Segment],
    clean: Sequence[dict[str, NDArray]],
    seed: int,
) -> tuple[int, int, set[str]]:
    """Plant a defect in every segment that can have it; return how many are found, of how many, and others.

    A flag that the electrode raises without the defect finds nothing. One electrode is one that the
    montage uses: no other is judged by what reaches x.
    """
    rng = np.random.default_rng(seed)
    planted, places = [], []
    used = [EEG_CHANNELS.index(name) for name in electrodes(bench.stage.derivations.chains)]
    for i, segment in enumerate(segments):
        electrode = int(rng.choice(used))
        if not defect.fits(segment.eeg):
            continue
        eeg = segment.eeg.copy()
        rows = slice(electrode, electrode + 1) if where == "one" else slice(0, N_EEG)
        defect.plant(eeg[rows], eeg, rng)
        planted.append(bench.measure(replace(segment, eeg=eeg)))
        places.append((i, rows))
    found, others = 0, []
    for first in range(0, len(planted), BATCH):
        part = planted[first : first + BATCH]
        graded = bench.flags([*clean, *part])
        for (i, rows), flags in zip(places[first : first + BATCH], graded[len(clean) :], strict=True):
            new = (now - before for now, before in zip(flags[rows], graded[i][rows], strict=True))
            found += any(set(defect.flags) & raised for raised in new)
            others.append(set.union(*flags) - set(defect.flags))
    common = {flag for flag in set().union(*others) if np.mean([flag in raised for raised in others]) > 0.5}
    return found, len(planted), common


def print_defects(bench: Bench, segments: Sequence[Segment], seed: int) -> None:
    """Print the table of defects planted in segments, and what is raised without any."""
    clean = [bench.measure(segment) for segment in segments]
    print("| defect | in | strength | flags | found | 95 % interval | mostly also |")
    print("|---|---|---|---|---|---|---|")
    totals: dict[str, list[int]] = {}
    for defect in defects():
        for where in defect.where:
            found, n, others = count_found(bench, defect, where, segments, clean, seed)
            low, high = wilson(found, n)
            share = f"{found / max(n, 1):.0%} of {n} | {low:.0%} to {high:.0%}"
            if defect.strength == "unseen":
                share = f"no claim{f' ({found} of {n})' if defect.flags else ''} |"
            print(
                f"| {defect.name} | {where} | {defect.strength} | {', '.join(defect.flags)} | {share} | "
                f"{', '.join(sorted(others))} |"
            )
            total = totals.setdefault(defect.strength, [0, 0])
            total[0] += found
            total[1] += n
    for strength in sorted(totals.keys() - {"unseen"}):
        found, n = totals[strength]
        low, high = wilson(found, n)
        print(f"\n{strength}: {found} of {n} found, {found / n:.1%} ({low:.1%} to {high:.1%})")
    print_alarms(bench, clean)


def print_alarms(bench: Bench, clean: Sequence[dict[str, NDArray]]) -> None:
    """Print how many of these recordings raise each flag, and any."""
    raised = [set.union(*flags) for flags in bench.flags(clean)]
    counts = {"any": sum(map(bool, raised)), **Counter(flag for flags in raised for flag in sorted(flags))}
    print("\n| flag | raised in | 95 % interval |\n|---|---|---|")
    for flag, count in counts.items():
        print(f"| {flag} | {of(count, len(clean))} |")
    reached = ", ".join(f"{name} {max(largest(row, name) for row in clean):.3g}" for name in NEAR)
    print(f"\nthe most that an electrode reaches: {reached}")


NEAR = ("line_db", "gain_db", "ekg_corr")
"""Measures of which the documentation says how near clean recordings come to the limit."""


def electrode_values(row: Mapping[str, NDArray], name: str) -> NDArray:
    """Return a measure of the electrodes; ``line_db`` is the larger of 50 and 60 Hz."""
    values = np.fmax(row["line50_db"], row["line60_db"]) if name == "line_db" else row[name]
    return values[:N_EEG]


def largest(row: Mapping[str, NDArray], name: str) -> float:
    """Return the largest value of a measure over the electrodes, -inf where none is known."""
    values = electrode_values(row, name)
    return float(values[np.isfinite(values)].max(initial=-np.inf))


def of(count: int, n: int) -> str:
    """Return two cells: a count, and Wilson's interval of its share."""
    low, high = wilson(count, n)
    return f"{count} of {n} | {low:.1%} to {high:.1%}"


# --- real recordings -----------------------------------------------------------------------------

ALARMS_AT_S = (0, 10, 20, 30, 40)
"""Starts of the windows in which alarms are counted: all of a recording of 50 s."""

PLANTED_AT_S = (12, 20, 28)
"""Those in which defects are planted: what is read of them, 34 s, lies within the recording."""

READ_S = 12.0
"""Seconds that are read before a window and after it, at most."""

WINDOW_S = 10.0
OF_THE_RECORDING = {"edge"}
"""True of a window at the end of its recording, whatever is in it."""


@dataclass(frozen=True)
class Real:
    """A real recording in four versions, and what references.py finds in it.

    Attributes
    ----------
    eeg_id : its name
    versions : as recorded; without mains; without mains and heartbeats; the same with the beats
        shuffled before they were taken out, which leaves the true ones in
    heart : peaks of its EKG, after mains were taken out
    in_electrodes : largest peak to peak of an electrode's average around the beats, µV, and in
        how many electrodes it is larger than around shuffled beats in 99 of 100
    """

    eeg_id: str
    versions: tuple[Array, Array, Array, Array]
    heart: Heart
    in_electrodes: tuple[float, int]

    def segments(self, bench: Bench, version: int, starts_s: Sequence[float]) -> list[Segment]:
        """Return what a run would read for windows at these places."""
        return [bench.segment(self.versions[version], start - JUDGED_START_S) for start in starts_s]

    def is_clean(self, start_s: float) -> bool:
        """Return whether nothing but mains and heartbeats was seen in what is read for a window."""
        return is_clean(self.eeg_id, start_s - READ_S, start_s + WINDOW_S + READ_S)


def real_recording(eeg_id: str, eeg: Array, rng: Rng) -> Real:
    """Look at a recording with the methods of references.py."""
    quiet = without_mains(eeg)
    found = heart(quiet[N_EEG])
    ptp_uv, p = heart_in_electrodes(quiet, found.times, rng)
    beatless, control = quiet, quiet
    if found.beats:
        beatless = without_beats(quiet, found.times)
        control = without_beats(quiet, shuffled(found.times, rng))
    in_electrodes = float(ptp_uv.max()), int((p < 0.01).sum())
    return Real(eeg_id, (eeg, quiet, beatless, control), found, in_electrodes)


def print_real(bench: Bench, folder: Path, seed: int) -> None:
    """Print what is in the real recordings, which of their flags are true, and the planted defects."""
    there = pd.read_csv(folder / "train.csv")["eeg_id"].astype(str).tolist()
    names = [name for name in there if name in LOOKED_AT]
    if len(names) < len(there):
        print(f"left out, because nobody looked at them: {len(there) - len(names)} recordings\n")
    if not names:
        return
    rng = np.random.default_rng(seed)
    recordings = [
        real_recording(name, eeg, rng) for name, (eeg, _, _) in zip(names, real(folder, names), strict=True)
    ]
    print_contents(recordings)
    raised = [flags_by_window(bench, recordings, version) for version in range(4)]
    print_mains(bench, recordings, raised)
    print_hearts(recordings, raised)
    print_others(recordings, raised)
    print("\nDefects planted in windows that are clean by eye, mains and heartbeats taken out before\n")
    segments = [
        s for r in recordings for s in r.segments(bench, 2, [t for t in PLANTED_AT_S if r.is_clean(t)])
    ]
    print_defects(bench, segments, seed)


Raised = dict[tuple[str, int], list[set[str]]]


def flags_by_window(bench: Bench, recordings: Sequence[Real], version: int) -> Raised:
    """Return the flags of each recording and window, all graded as one data set."""
    keys = [(r.eeg_id, start) for r in recordings for start in ALARMS_AT_S]
    segments = [s for r in recordings for s in r.segments(bench, version, ALARMS_AT_S)]
    return dict(zip(keys, bench.flags([bench.measure(s) for s in segments]), strict=True))


def print_contents(recordings: Sequence[Real]) -> None:
    """Print what the references say of each recording."""
    print(
        "| recording | clean windows | mains by Welch, dB | EKG: peaks, height, likeness, kurtosis | beats |"
    )
    print("|---|---|---|---|---|")
    for r in recordings:
        mains, h = mains_db(r.versions[0])[:N_EEG], r.heart
        beat = "none"
        if h.beats:
            beat = f"{r.in_electrodes[0]:.0f} µV in an electrode, p < 0.01 in {r.in_electrodes[1]}"
        print(
            f"| {r.eeg_id} | {sum(map(r.is_clean, ALARMS_AT_S))} of {len(ALARMS_AT_S)} | {mains.min():.0f} "
            f"to {mains.max():.0f} | {len(h.times)}, {h.height_uv:,.0f} µV, {h.likeness:.2f}, "
            f"{h.kurtosis:.1f} | {beat} |"
        )


def print_mains(bench: Bench, recordings: Sequence[Real], raised: Sequence[Raised]) -> None:
    """Print how ``line`` agrees with Welch's spectrum of the same seconds, and what is left without mains."""
    counts: Counter[tuple[bool, bool]] = Counter()
    alarmed, free, levels = set(), set(), []
    for r in recordings:
        for start, segment in zip(ALARMS_AT_S, r.segments(bench, 0, ALARMS_AT_S), strict=True):
            first, last = start - SPECTRAL_CONTEXT_S, start + WINDOW_S + SPECTRAL_CONTEXT_S
            span = slice(round(max(0.0, first) * SFREQ_HZ), round(last * SFREQ_HZ))
            present = mains_db(r.versions[0][:N_EEG, span]) >= ABSENT_DB
            flags = ["line" in f for f in raised[0][r.eeg_id, start][:N_EEG]]
            counts.update(zip(present.tolist(), flags, strict=True))
            levels += electrode_values(bench.measure(segment), "line_db")[~present].tolist()
            if not present.any():
                free.add(r.eeg_id)
                alarmed |= {r.eeg_id} if any(flags) else set()
    with_mains = counts[True, False] + counts[True, True]
    without = counts[False, False] + counts[False, True]
    print("\n| `line` by electrode and window | raised in | 95 % interval |\n|---|---|---|")
    print(f"| electrodes with mains by Welch ({ABSENT_DB:.0f} dB) | {of(counts[True, True], with_mains)} |")
    print(f"| electrodes without, which reach {max(levels):.1f} dB | {of(counts[False, True], without)} |")
    print(f"| recordings with a window without mains at any electrode | {of(len(alarmed), len(free))} |")
    print("\n| `line` | windows | 95 % interval | recordings | 95 % interval |\n|---|---|---|---|---|")
    for version, name in ((0, "as recorded"), (1, "mains taken out")):
        print_windows(name, recordings, raised[version], {"line"})


def print_windows(
    name: str, recordings: Sequence[Real], raised: Raised, flags: set[str], only_clean: bool = False
) -> None:
    """Print in how many windows and recordings some of these flags are raised."""
    windows = {
        (r.eeg_id, start): bool(flags & set.union(*raised[r.eeg_id, start]))
        for r in recordings
        for start in ALARMS_AT_S
        if not only_clean or r.is_clean(start)
    }
    alarmed = {eeg_id for (eeg_id, _), found in windows.items() if found}
    n_recordings = len({eeg_id for eeg_id, _ in windows})
    print(f"| {name} | {of(sum(windows.values()), len(windows))} | {of(len(alarmed), n_recordings)} |")


def print_hearts(recordings: Sequence[Real], raised: Sequence[Raised]) -> None:
    """Print in how many windows ``ekg`` is raised, with heartbeats, without, and with none in the EKG."""
    print("\n| `ekg` | windows | 95 % interval | recordings | 95 % interval |\n|---|---|---|---|---|")
    hearts = [r for r in recordings if r.heart.beats]
    for version, name in ((0, "as recorded"), (3, "shuffled beats taken out"), (2, "beats taken out")):
        print_windows(f"heartbeat in the EKG, {name}", hearts, raised[version], {"ekg"})
    rest = [r for r in recordings if not r.heart.beats]
    print_windows("no heartbeat in the EKG", rest, raised[0], {"ekg"})


def print_others(recordings: Sequence[Real], raised: Sequence[Raised]) -> None:
    """Print the other flags of windows in which nothing was seen, and all flags once their causes are out."""
    print(
        "\n| of what is clean by eye | windows | 95 % interval | recordings | 95 % interval |"
        "\n|---|---|---|---|---|"
    )
    told = OF_THE_RECORDING | {"line", "ekg"}
    every = set().union(*(f for flags in raised[0].values() for f in flags)) - OF_THE_RECORDING
    for flag in sorted(every - told):
        print_windows(f"`{flag}`", recordings, raised[0], {flag}, only_clean=True)
    print_windows("any but line, ekg and edge", recordings, raised[0], every - told, only_clean=True)
    print_windows("any but edge, mains and beats taken out", recordings, raised[2], every, only_clean=True)
    alarms = {
        f"{r.eeg_id} at {start} s: {', '.join(sorted(found))}"
        for r in recordings
        for start in ALARMS_AT_S
        if r.is_clean(start) and (found := set.union(*raised[2][r.eeg_id, start]) - OF_THE_RECORDING)
    }
    print("\nthese are " + ("; ".join(sorted(alarms)) or "none"))


# --- grades by class -----------------------------------------------------------------------------

MOST_POINTS = 2.0


def print_grades(n: int, overrides: Sequence[str]) -> None:
    """Make n recordings with artifacts as ``python run.py`` does, and print grades and flags by class."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = hms.compose(
            f"data.n_recordings={n}", f"data.n_patients={max(2, n // 5)}", f"outputs_dir={folder}",
            "data.write_spectrograms=false", "stages=[labels,quality,summary]", "n_jobs=1", *overrides,
            "qc.exclude_from=null",
        )  # fmt: skip
        run = hms.run(cfg)
        ledger, selection = run.qc, run.summary["selection"]
        votes = dict(zip(run.meta["item_id"].astype(str), run.labels.y_soft.argmax(axis=1), strict=True))
    ledger = ledger[ledger["item_id"].astype(str).isin(votes)]
    classes = np.array([CLASSES[votes[item]] for item in ledger["item_id"].astype(str)])
    print(f"\n{len(ledger)} made-up recordings with artifacts, {max(2, n // 5)} patients\n")
    print("| class | items | good | usable | poor or unusable | 95 % interval |\n|---|---|---|---|---|---|")
    for name in CLASSES:
        grades = Counter(ledger["grade"].to_numpy()[classes == name].tolist())
        total, bad = int((classes == name).sum()), grades["poor"] + grades["unusable"]
        low, high = wilson(bad, total)
        shares = " | ".join(
            f"{count / max(total, 1):.1%}" for count in (grades["good"], grades["usable"], bad)
        )
        print(f"| {name} | {total} | {shares} | {low:.1%} to {high:.1%} |")
    print_by_class(ledger, classes)
    for grade, taken in selection["would_take"].items():
        print(f"leaving out {grade} and worse: p = {taken['p']} by patient, farthest: {taken['farthest']}")


def print_by_class(ledger: pd.DataFrame, classes: NDArray[np.str_]) -> None:
    """Print by how many points more items of a class are poor, and with which flag, and the verdict."""
    bad = ledger["grade"].isin(["poor", "unusable"]).to_numpy()
    below = (ledger["grade"] != "good").to_numpy()
    flags = ledger["raised"].fillna("").str.split(";").map(set).tolist()
    raised = {flag: np.array([flag in names for names in flags]) for flag in FLAGS}
    print(
        "\n| class | poor or unusable, points over the others | 95 % interval | with one flag, at most |"
        " below good, points over the others | 95 % interval |\n|---|---|---|---|---|---|"
    )
    worst = 0.0
    for name in CLASSES:
        members, rest = classes == name, classes != name
        by_flag = {flag: points(bad & found, members, rest)[0] for flag, found in raised.items()}
        flag = max(by_flag, key=lambda key: by_flag[key])
        (total, low, high), (less, from_, to) = points(bad, members, rest), points(below, members, rest)
        worst = max(worst, total, by_flag[flag])
        of_flag = f"{by_flag[flag]:+.1f}, {flag}" if by_flag[flag] > 0 else "none"
        print(
            f"| {name} | {total:+.1f} | {low:+.1f} to {high:+.1f} | {of_flag} | {less:+.1f} "
            f"| {from_:+.1f} to {to:+.1f} |"
        )
    print(f"\nno more than {MOST_POINTS:.0f} points: {'met' if worst <= MOST_POINTS else 'NOT met'}")


def points(
    found: NDArray[np.bool_], members: NDArray[np.bool_], rest: NDArray[np.bool_]
) -> tuple[float, ...]:
    """Return by how many points more of the members than of the rest are found, with Newcombe's interval."""
    p, q = found[members].mean(), found[rest].mean()
    (p_low, p_high), (q_low, q_high) = (wilson(int(found[m].sum()), int(m.sum())) for m in (members, rest))
    low, high = p - q - math.hypot(p - p_low, q_high - q), p - q + math.hypot(p_high - p, q - q_low)
    return 100 * float(p - q), 100 * float(low), 100 * float(high)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=100, help="made-up recordings without artifacts")
    parser.add_argument("--alarms", type=int, default=400, help="further ones, for false alarms alone")
    parser.add_argument(
        "--classes", type=int, default=0, help="made-up recordings with artifacts, graded by class"
    )
    parser.add_argument(
        "--real", type=Path, nargs="+", default=(), help="folders of real recordings, see carriers.py"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the recordings without artifacts and the plants"
    )
    parser.add_argument("overrides", nargs="*", help="configuration, such as qc=strict")
    args = parser.parse_args()
    bench = Bench(*args.overrides)
    if args.recordings:
        print(f"\n{args.recordings} made-up recordings\n")
        made = made_up(args.recordings, args.seed)
        print_defects(bench, [bench.segment(eeg, offset_s) for eeg, offset_s, _ in made], args.seed)
    if args.real:
        print("\nreal recordings")
        print_carriers(bench, args.real, args.seed)
        for folder in args.real:
            if (folder / "train.csv").is_file():
                print_real(bench, folder, args.seed)
    if args.alarms:
        print(f"\n{args.alarms} further made-up recordings without artifacts")
        more = made_up(args.alarms, args.seed + 1)
        print_alarms(bench, [bench.measure(bench.segment(eeg, offset_s)) for eeg, offset_s, _ in more])
    if args.classes:
        print_grades(args.classes, args.overrides)


if __name__ == "__main__":
    main()
