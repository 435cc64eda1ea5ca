"""Plants known defects in clean recordings and counts how many the ledger finds.

    python benchmarks/quality.py                      # made-up recordings
    python benchmarks/quality.py --real DIR           # also those of DIR/train_eegs that are clean by eye

Every recording goes the run's own way (read_segment, evaluate, make_ledger), once as it is
and once with each defect in one electrode or in all. A defect is found when one of the flags
that name it is raised, for a defect of one electrode at that electrode. Intervals are
Wilson's at 95 %.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hms.competition import CHANNELS, CLASSES, EEG_CHANNELS, JUDGED_START_S, SFREQ_HZ
from hms.quality.ledger import ITEM_FLAGS, Ledger, make_ledger
from hms.sources import synthetic
from hms.sources.base import Segment, read_segment
from hms.stages.measures import Measures
from hms.workers import evaluate

Array = NDArray[np.float32]
Rng = np.random.Generator

N_EEG = len(EEG_CHANNELS)
CLEAN_BY_EYE = ("317816376", "1127365412", "1699991723", "2081121819", "1358093099")
"""Of the twelve recordings of IIIC-SPaRCNet, those in which no electrode stands out on a page."""


@dataclass(frozen=True)
class Defect:
    """A defect at one strength.

    ``plant`` changes electrodes of a segment, shape (n, n_samples), in place; it is given the
    whole segment too. ``strength`` is weak, middle or strong; "unseen" makes no claim.
    """

    name: str
    strength: str
    flags: tuple[str, ...]
    plant: Callable[[Array, Array, Rng], None]
    where: tuple[str, ...] = ("one", "all")


# --- the defects ---------------------------------------------------------------------------------


def gap(n_samples: int, at_edge: bool = False) -> Callable[[Array, Array, Rng], None]:
    """Lose samples at a random place, or at the start of what is read."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        start = 0 if at_edge else int(rng.integers(1, eeg.shape[1] - n_samples - 1))
        eeg[:, start : start + n_samples] = np.nan

    return plant


def flat(seconds: float) -> Callable[[Array, Array, Rng], None]:
    """Hold one value for some seconds."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        n = round(seconds * SFREQ_HZ)
        start = int(rng.integers(0, eeg.shape[1] - n))
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
    """Add one to three steps that decay as through an amplifier with a time constant."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        for _ in range(int(rng.integers(1, 4))):
            start = int(rng.integers(0, eeg.shape[1] - 40))
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
    """Put another electrode's samples in the place of this one's."""
    others = [i for i in range(N_EEG) if not np.shares_memory(whole[i], eeg)]
    eeg[:] = whole[rng.choice(others)]


def times(factor: float) -> Callable[[Array, Array, Rng], None]:
    """Multiply by a factor."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        eeg *= np.float32(factor)

    return plant


def heart(amplitude_uv: float) -> Callable[[Array, Array, Rng], None]:
    """Mix in the recording's own EKG, its 99.9th percentile at ``amplitude_uv``; none where it is silent."""

    def plant(eeg: Array, whole: Array, rng: Rng) -> None:
        ekg = whole[N_EEG] - np.median(whole[N_EEG])
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
        Defect("EKG of 20 µV", "weak", ("ekg",), heart(20)),
        Defect("EKG of 100 µV", "strong", ("ekg",), heart(100)),
    ]
    for value, strength in zip((0.95, 0.8, 0.5), strengths, strict=True):
        found.append(Defect(f"clipped at {value:.0%} of its range", strength, ("clipped",), clipped(value)))
    for value, strength in zip((300, 1000, 5000), strengths, strict=True):
        found.append(Defect(f"pops of {value:,} µV", strength, ("jump", "large"), pop(value)))
    for freq_hz in (60, 50):
        for value, strength in zip((10, 20, 40), strengths, strict=True):
            found.append(Defect(f"{freq_hz} Hz, {value} dB", strength, ("line",), mains(freq_hz, value)))
    for value, strength in zip((1, 3, 10), strengths, strict=True):
        found.append(
            Defect(f"muscle, {value} x SD", strength, ("muscle", "noisy", "noisy_uv"), muscle(value))
        )
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


def made_up(n: int, seed: int, *, spoilt: bool = False) -> list[tuple[Array, float, str]]:
    """Return synthetic recordings: samples, start of the sub-window, class; spoilt by artifacts or not."""
    plans = synthetic.plan_recordings(n_recordings=n, n_patients=max(2, n // 3), seed=seed)
    with mock.patch.object(synthetic, "ARTIFACTS", synthetic.ARTIFACTS if spoilt else ()):
        eegs = [synthetic.simulate(plan, seed=seed) for plan in plans]
    if spoilt:
        eegs = [synthetic._spoil(np.random.default_rng([seed, i]), eeg) for i, eeg in enumerate(eegs)]
    classes = [CLASSES[int(np.argmax(plan.rows[0].votes))] for plan in plans]
    return [(eeg, float(plan.rows[0].offset_s), c) for eeg, plan, c in zip(eegs, plans, classes, strict=True)]


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
        return read_segment(
            Held(eeg),
            offset_s + JUDGED_START_S,
            window_s=self.cfg.at("window.length_s"),
            context_s=context_s,
            channels=CHANNELS,
        )

    def measure(self, segment: Segment) -> dict[str, NDArray]:
        """Return the row of measures of a segment."""
        return {name: np.asarray(v) for name, v in evaluate(self.stage, segment, {}).items()}

    def ledger(self, rows: Sequence[dict[str, NDArray]]) -> Ledger:
        """Grade rows as one data set."""
        measures = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        measures["row"] = np.arange(len(rows))
        items = pd.DataFrame({"item_id": np.arange(len(rows)).astype(str), "eeg_id": np.arange(len(rows))})
        return make_ledger(items, [None] * len(rows), measures, self.cfg.qc)

    def flags(self, rows: Sequence[dict[str, NDArray]]) -> list[list[set[str]]]:
        """Return the flags of each row's electrodes, and behind them those of the item."""
        ledger = self.ledger(rows)
        channels = [set(text.split(";")) - {""} for text in ledger.channels["flags"]]
        items = [set(text.split(";")) & set(ITEM_FLAGS) for text in ledger.items["flags"]]
        n = len(CHANNELS)
        return [[*channels[i * n : i * n + N_EEG], items[i]] for i in range(len(rows))]


def wilson(found: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share."""
    if n == 0:
        return 0.0, 1.0
    p, half = found / n, z * math.sqrt(found / n * (1 - found / n) / n + z * z / (4 * n * n))
    centre, scale = p + z * z / (2 * n), 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


# --- the tables ----------------------------------------------------------------------------------

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
    """Plant a defect in every segment; return how many are found, of how many, and other flags."""
    rng = np.random.default_rng(seed)
    planted, places = [], []
    for segment in segments:
        eeg = segment.eeg.copy()
        electrode = int(rng.integers(N_EEG))
        rows = slice(electrode, electrode + 1) if where == "one" else slice(0, N_EEG)
        defect.plant(eeg[rows], eeg, rng)
        planted.append(bench.measure(replace(segment, eeg=eeg)))
        places.append(rows)
    found, others = 0, []
    for first in range(0, len(planted), BATCH):
        part = planted[first : first + BATCH]
        for flags, rows in zip(
            bench.flags([*clean, *part])[len(clean) :], places[first : first + BATCH], strict=True
        ):
            found += any(set(defect.flags) & raised for raised in flags[rows])
            others.append(set.union(*flags) - set(defect.flags))
    common = {flag for flag in set.union(*others) if np.mean([flag in raised for raised in others]) > 0.5}
    return found, len(planted), common


def false_alarms(bench: Bench, clean: Sequence[dict[str, NDArray]]) -> dict[str, int]:
    """Return how many clean recordings each flag is raised in, and under "any" how many have one."""
    raised = [set.union(*flags) for flags in bench.flags(clean)]
    counts = {flag: sum(flag in flags for flags in raised) for flag in sorted(set.union(*raised))}
    return {"any": sum(bool(flags) for flags in raised), **counts}


def print_defects(bench: Bench, recordings: Sequence[tuple[Array, float, str]], seed: int) -> None:
    """Print the table of defects and the false alarms of one set of recordings."""
    segments = [bench.segment(eeg, offset_s) for eeg, offset_s, _ in recordings]
    clean = [bench.measure(segment) for segment in segments]
    print("| defect | in | strength | flags | found | 95 % interval | mostly also |")
    print("|---|---|---|---|---|---|---|")
    totals: dict[str, list[int]] = {}
    for defect in defects():
        for where in defect.where:
            found, n, others = count_found(bench, defect, where, segments, clean, seed)
            low, high = wilson(found, n)
            share = f"{found / n:.0%} of {n} | {low:.0%} to {high:.0%}" if defect.flags else "no claim |"
            print(
                f"| {defect.name} | {where} | {defect.strength} | {', '.join(defect.flags)} | {share} | "
                f"{', '.join(sorted(others))} |"
            )
            total = totals.setdefault(defect.strength, [0, 0])
            total[0] += found * bool(defect.flags)
            total[1] += n * bool(defect.flags)
    for strength, (found, n) in totals.items():
        if n:
            low, high = wilson(found, n)
            print(f"\n{strength}: {found / n:.1%} of {n} found ({low:.1%} to {high:.1%})")
    print_alarms(bench, clean)


def print_alarms(bench: Bench, clean: Sequence[dict[str, NDArray]]) -> None:
    """Print the false alarms of clean recordings."""
    print("\n| flag | clean recordings that raise it | 95 % interval |\n|---|---|---|")
    for flag, count in false_alarms(bench, clean).items():
        low, high = wilson(count, len(clean))
        print(f"| {flag} | {count} of {len(clean)} ({count / len(clean):.1%}) | {low:.1%} to {high:.1%} |")


def print_grades(bench: Bench, recordings: Iterable[tuple[Array, float, str]]) -> None:
    """Print how often each class gets each grade."""
    rows, classes = [], []
    for eeg, offset_s, name in recordings:
        rows.append(bench.measure(bench.segment(eeg, offset_s)))
        classes.append(name)
    grades = pd.crosstab(np.array(classes), bench.ledger(rows).items["grade"].to_numpy())
    lateral = pd.crosstab(np.isin(classes, ["lpd", "lrda"]), bench.ledger(rows).items["grade"].to_numpy())
    lateral.index = ["other classes", "LPD and LRDA"]
    for table in (grades, lateral):
        shares = table.div(table.sum(axis=1), axis=0)
        print(
            "\n| class | items | " + " | ".join(table.columns) + " |\n|---|---|" + "---|" * len(table.columns)
        )
        for name in table.index:
            print(
                f"| {name} | {table.loc[name].sum()} | "
                + " | ".join(f"{v:.1%}" for v in shares.loc[name])
                + " |"
            )


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
    parser.add_argument("--real", type=Path, help="folder with train.csv and train_eegs of real recordings")
    parser.add_argument(
        "--clean", nargs="+", default=CLEAN_BY_EYE, help="ids of the real ones that are clean by eye"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("overrides", nargs="*", help="configuration, such as qc=strict")
    args = parser.parse_args()
    bench = Bench(*args.overrides)
    if args.recordings:
        print(f"\n{args.recordings} made-up recordings\n")
        print_defects(bench, made_up(args.recordings, args.seed), args.seed)
    if args.real:
        print(f"\n{len(args.clean)} real recordings\n")
        print_defects(bench, real(args.real, args.clean), args.seed)
    if args.alarms:
        print(f"\n{args.alarms} further made-up recordings without artifacts")
        more = made_up(args.alarms, args.seed + 1)
        print_alarms(bench, [bench.measure(bench.segment(eeg, offset_s)) for eeg, offset_s, _ in more])
    if args.classes:
        print(f"\ngrades of {args.classes} made-up recordings with artifacts")
        print_grades(bench, made_up(args.classes, args.seed, spoilt=True))


if __name__ == "__main__":
    main()
