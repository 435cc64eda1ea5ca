"""Sets of a few recordings in the competition's layout, whose signals and votes a test chooses."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from recordings import bipolar

from hms.competition import CHANNELS, VOTE_COLUMNS


def write_set(folder: Path, eegs: list[np.ndarray], patients: list[int], votes: list[int]) -> Path:
    """Write recordings of 50 s with three votes each for the class of the given number."""
    (folder / "train_eegs").mkdir(parents=True)
    rows = []
    for i, (eeg, patient, vote) in enumerate(zip(eegs, patients, votes, strict=True)):
        frame = pd.DataFrame(eeg.T.astype(np.float32), columns=list(CHANNELS))
        frame.to_parquet(folder / "train_eegs" / f"{1000 + i}.parquet")
        counts = {name: 3 * (k == vote) for k, name in enumerate(VOTE_COLUMNS)}
        row = {"eeg_id": 1000 + i, "eeg_sub_id": 0, "eeg_label_offset_seconds": 0.0, "spectrogram_id": i}
        row |= {"spectrogram_sub_id": 0, "spectrogram_label_offset_seconds": 0.0, "label_id": i}
        rows.append(row | {"patient_id": patient, "expert_consensus": "Other", **counts})
    pd.DataFrame(rows).to_csv(folder / "train.csv", index=False)
    return folder


def noise(seed: int) -> np.ndarray:
    """Return 50 s of smooth noise that neighbouring electrodes share in part."""
    return _noise(seed).copy()


@cache
def _noise(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    own, shared = (np.cumsum(rng.standard_normal((n, 10_000)), axis=1) for n in (20, 1))
    eeg = own + 2 * shared
    kernel = np.ones(400) / 400
    slow = np.stack([np.convolve(row, kernel, mode="same") for row in eeg])
    return 4 * (eeg - slow) + rng.standard_normal(eeg.shape)


def edge_set(folder: Path, n: int = 3) -> Path:
    """Write a few recordings of as many patients."""
    return write_set(folder, [noise(i) for i in range(n)], list(range(n)), [i % 6 for i in range(n)])


def bipolar_set(folder: Path, n: int = 3) -> Path:
    """Write the pairs of a double banana instead of the electrodes."""
    edge_set(folder, n)
    for path in (folder / "train_eegs").iterdir():
        pd.DataFrame(bipolar(pd.read_parquet(path))).to_parquet(path)
    return folder
