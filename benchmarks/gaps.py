"""Plants gaps in recordings and tells what each way of filling them leaves of the error of x.

    python benchmarks/gaps.py --real DIR [DIR ...] [--gaps N]

A DIR has the competition's layout. In each recording N gaps of 1 to 40 samples, one at a time and
in all electrodes, are planted into the judged ten seconds. Both ways prepare the recording with
the gap, and x is compared with that of the whole recording.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from recordings import competition_folder, parse

import hms
from hms.competition import CHANNELS, SFREQ_HZ

KINDS = {"straight line": "filter.gaps.order=0", "autoregression": "filter.gaps.order=24"}
LINE, AUTOREGRESSION = KINDS
LONGEST = 40
OFF = 0.05
"""Values of x, which lie within 0 to 1, that are off by more than this are counted."""


def prepared(work: Path) -> dict[str, hms.Run]:
    """Return a run for each way of filling, whose preparation is applied to the recordings."""
    few = ["data.n_recordings=2", "data.n_patients=2", "folds=none", f"outputs_dir={work / 'outputs'}"]
    return {kind: hms.run(hms.compose(*few, setting)) for kind, setting in KINDS.items()}


def planted(frame: pd.DataFrame, start: int, length: int) -> pd.DataFrame:
    """Return a recording with a gap in all electrodes."""
    holed = frame.copy()
    holed.iloc[start : start + length] = np.nan
    return holed


def errors(
    frame: pd.DataFrame, offset_s: float, runs: dict[str, hms.Run], rng: np.random.Generator, n: int
) -> dict[str, tuple[float, float, float]]:
    """Return by kind the mean error of x, the share of values off, and seconds of a preparation."""
    whole = {kind: hms.transform(frame, run, offset_s=offset_s).spec for kind, run in runs.items()}
    found: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in runs}
    first = round((offset_s + 20) * SFREQ_HZ)
    for _ in range(n):
        length = int(rng.integers(1, LONGEST + 1))
        holed = planted(frame, first + int(rng.integers(0, 2000 - length)), length)
        for kind, run in runs.items():
            begin = time.perf_counter()
            off = np.abs(hms.transform(holed, run, offset_s=offset_s).spec - whole[kind])
            found[kind].append(np.array([off.mean(), (off > OFF).mean(), time.perf_counter() - begin]))
    return {kind: tuple(np.mean(rows, axis=0).tolist()) for kind, rows in found.items()}


def main() -> None:
    """Print a row for each recording, and the medians."""
    options = parse(
        __doc__ or "",
        real={"type": competition_folder, "nargs": "+", "required": True},
        gaps={"type": int, "default": 30},
    )
    runs, rng = prepared(options.work), np.random.default_rng(0)
    rows = []
    for folder in options.real:
        table = pd.read_csv(folder / "train.csv").drop_duplicates("eeg_id")
        for name, offset_s in zip(table["eeg_id"], table["eeg_label_offset_seconds"], strict=True):
            frame = pd.read_parquet(folder / "train_eegs" / f"{name}.parquet")[list(CHANNELS)]
            found = errors(frame, float(offset_s), runs, rng, options.gaps)
            rows.append([name, *(found[kind][i] for i in range(3) for kind in KINDS)])
    columns = pd.MultiIndex.from_product([("error", "off", "seconds"), KINDS])
    values = pd.DataFrame([row[1:] for row in rows], index=[row[0] for row in rows], columns=columns)
    values.loc["median"] = values.median()
    print("| recording | " + " | ".join(f"{what}, {kind}" for what, kind in columns[:4]) + " |")
    print("|---|---|---|---|---|")
    for name, row in values.iterrows():
        cells = [f"{v:.4f}" for v in row.iloc[:2]] + [f"{v:.2%}" for v in row.iloc[2:4]]
        print(f"| {name} | " + " | ".join(cells) + " |")
    error = values["error"].iloc[:-1]
    better = int((error[AUTOREGRESSION] < error[LINE]).sum())
    print(f"\nautoregression has the lower error in {better} of {len(error)}")
    line_s, predicted_s = values["seconds"].loc["median"]
    print(f"ms for a recording with a gap: {1000 * line_s:.1f} and {1000 * predicted_s:.1f}")


if __name__ == "__main__":
    main()
