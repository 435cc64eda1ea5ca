"""Compares flags with the criteria that PyPREP, MNE-Python and autoreject share with them.

    pip install 'hms-eeg[mne]' pyprep autoreject
    python benchmarks/agreement.py [--real DIR]

The same segments go through both: made-up recordings without artifacts, each once as it is and
once with one electrode spoilt, and real ones. The table counts electrodes.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
from autoreject import get_rejection_threshold
from numpy.typing import NDArray
from pyprep import NoisyChannels
from quality import Bench, Defect, copy_other, flat, made_up, muscle, pop, real, times

from hms.competition import EEG_CHANNELS
from hms.quality.electrodes import NEIGHBOURS
from hms.results.to_mne import segment_to_mne
from hms.sources.base import Segment

N_EEG = len(EEG_CHANNELS)
Mask = NDArray[np.bool_]


def unplugged(eeg: NDArray, whole: NDArray, rng: np.random.Generator) -> None:
    """Replace electrodes by noise of the same amplitude that no other has."""
    eeg[:] = rng.standard_normal(eeg.shape) * eeg.std(axis=1, keepdims=True)


SPOILS = [
    Defect("flat", "", (), flat(25)),
    Defect("amplitude x 20", "", (), times(20)),
    Defect("muscle", "", (), muscle(10)),
    Defect("pops", "", (), pop(1000)),
    Defect("unplugged", "", (), unplugged),
    Defect("copied", "", (), copy_other),
]


def segments_of(bench: Bench, n: int, folder: Path | None, seed: int) -> list[Segment]:
    """Return clean, spoilt and real segments."""
    rng = np.random.default_rng(seed)
    found = []
    for i, (eeg, offset_s, _) in enumerate(made_up(n, seed)):
        segment = bench.segment(eeg, offset_s)
        spoilt, electrode = segment.eeg.copy(), int(rng.integers(N_EEG))
        SPOILS[i % len(SPOILS)].plant(spoilt[electrode : electrode + 1], spoilt, rng)
        found += [segment, replace(segment, eeg=spoilt)]
    if folder is not None:
        ids = pd.read_csv(folder / "train.csv")["eeg_id"].astype(str).tolist()
        found += [bench.segment(eeg, offset_s) for eeg, offset_s, _ in real(folder, ids)]
    return found


def mask(names: Sequence[str]) -> Mask:
    """Return which electrodes are named."""
    return np.array([name in names for name in EEG_CHANNELS])


def prep(raw: Any) -> dict[str, Mask]:
    """Return what PREP finds bad, by criterion."""
    noisy = NoisyChannels(raw.copy().pick("eeg"), do_detrend=True, random_state=0)
    noisy.find_all_bads(ransac=False)
    return {
        name: mask(getattr(noisy, f"bad_by_{name}"))
        for name in ("flat", "deviation", "hf_noise", "correlation")
    }


def flat_channels(raw: Any) -> Mask:
    """Return the electrodes that MNE calls flat for more than half of the time."""
    _, bads = mne.preprocessing.annotate_amplitude(
        raw, flat=3e-6, bad_percent=50, min_duration=4.9, picks="eeg", verbose="error"
    )
    return mask(bads)


def has_peaks(raw: Any) -> Mask:
    """Return whether MNE annotates a step of 100 µV between samples in any electrode."""
    notes, bads = mne.preprocessing.annotate_amplitude(
        raw, peak=100e-6, bad_percent=100, min_duration=0.0, picks="eeg", verbose="error"
    )
    return np.array([len(notes) + len(bads) > 0])


def autoreject_bad(raw: Any) -> Mask:
    """Return the electrodes whose 2 s epochs mostly exceed autoreject's one global threshold."""
    epochs = mne.make_fixed_length_epochs(
        raw.copy().filter(1, 20, picks="eeg", verbose="error"), 2, verbose="error"
    )
    epochs = epochs.load_data().pick("eeg")
    limit = get_rejection_threshold(epochs, random_state=0, verbose=False)["eeg"]
    return np.asarray((np.ptp(epochs.get_data(copy=False), axis=2) > limit).mean(axis=0) > 0.5)


def outliers(raw: Any) -> Mask:
    """Return the electrodes that the local outlier factor calls bad."""
    quiet = raw.copy().pick("eeg")
    quiet.apply_function(lambda samples: np.nan_to_num(samples))  # MNE looks at the signature
    return mask(mne.preprocessing.find_bad_channels_lof(quiet, picks="eeg", verbose="error"))


def show_disagreements(
    rows: Sequence[tuple[str, Sequence[Mask], Sequence[Mask]]],
    segments: Sequence[Segment],
    names: Sequence[str],
    folder: Path,
) -> None:
    """Write a picture for each electrode on which we and a criterion differ: it and its neighbours, 16 s."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for title, ours, theirs in rows:
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            for row in np.flatnonzero(a != b) if a.size == N_EEG else ():
                beside = [row, *np.flatnonzero(NEIGHBOURS[row])]
                eeg = segments[number].eeg[beside, 1800:5000]
                figure, axis = plt.subplots(figsize=(14, 4))
                for place, trace in enumerate(eeg - np.nanmedian(eeg, axis=1, keepdims=True)):
                    axis.plot(np.arange(trace.size) / 200 - 3, trace - 150 * place, lw=0.5)
                axis.set_yticks([-150 * i for i in range(len(beside))], [EEG_CHANNELS[i] for i in beside])
                whose = "only ours" if a[row] else "only theirs"
                axis.set_title(f"{names[number]}, {EEG_CHANNELS[row]}: {title}, {whose}; 150 µV a row")
                slug = f"{title.split(',')[0]}-{names[number]}-{EEG_CHANNELS[row]}".replace(" ", "-")
                figure.savefig(folder / f"{slug}.png", dpi=60, bbox_inches="tight")
                plt.close(figure)


def compare(name: str, ours: Sequence[Mask], theirs: Sequence[Mask]) -> str:
    """Return one row of the table: counts of agreement and Cohen's kappa."""
    a, b = np.concatenate(list(ours)), np.concatenate(list(theirs))
    both, only_ours, only_theirs, neither = (a & b).sum(), (a & ~b).sum(), (~a & b).sum(), (~a & ~b).sum()
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    kappa = ((a == b).mean() - chance) / (1 - chance) if chance < 1 else np.nan
    return (
        f"| {name} | {both} | {only_ours} | {only_theirs} | {neither} | {(a == b).mean():.1%} | {kappa:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=30)
    parser.add_argument("--real", type=Path)
    parser.add_argument(
        "--pictures", type=Path, help="folder for a picture of each disagreement on real ones"
    )
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    table = pd.read_csv(args.real / "train.csv") if args.real else pd.DataFrame({"eeg_id": []})
    args.names = table["eeg_id"].astype(str).tolist()
    warnings.simplefilter("ignore")
    mne.set_log_level("error")
    bench = Bench()
    segments = segments_of(bench, args.recordings, args.real, args.seed)
    flags = [row[:N_EEG] for row in bench.flags([bench.measure(segment) for segment in segments])]
    raws = [segment_to_mne(segment, {}) for segment in segments]
    found = [prep(raw) for raw in raws]

    def ours(*names: str) -> list[Mask]:
        return [np.array([bool(set(names) & raised) for raised in row]) for row in flags]

    def theirs(criterion: str) -> list[Mask]:
        return [bad[criterion] for bad in found]

    costly = ours(*bench.cfg.qc.grading.costly)
    jumps = [np.array([row.any()]) for row in ours("jump")]
    rows = [
        ("dead, PREP flat", ours("dead"), theirs("flat")),
        (
            "flat or dead, MNE annotate_amplitude flat=3 µV",
            ours("flat", "dead"),
            [flat_channels(raw) for raw in raws],
        ),
        ("loud or faint, PREP deviation", ours("loud", "faint"), theirs("deviation")),
        ("muscle, PREP high frequency", ours("muscle"), theirs("hf_noise")),
        ("isolated, PREP correlation", ours("isolated"), theirs("correlation")),
        ("jump (segments), MNE annotate_amplitude peak=100 µV", jumps, [has_peaks(raw) for raw in raws]),
        ("any that costs a grade, MNE local outlier factor", costly, [outliers(raw) for raw in raws]),
        ("loud, autoreject's global threshold", ours("loud"), [autoreject_bad(raw) for raw in raws]),
    ]
    print(f"{len(segments)} segments, {len(segments) * N_EEG} electrodes\n")
    print("| our flags, their criterion | both | only ours | only theirs | neither | agree | kappa |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(compare(*row))
    if args.pictures:
        first = len(segments) - len(args.names)
        real_rows = [(title, a[first:], b[first:]) for title, a, b in rows]
        show_disagreements(real_rows, segments[first:], args.names, args.pictures)


if __name__ == "__main__":
    main()
