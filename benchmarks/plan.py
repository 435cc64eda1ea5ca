"""How planning grows with the number of items: time and peak memory of ``plan=true``, from 10^4 to 10^7.

    python benchmarks/plan.py [--work DIR] [--most 1000000]

The table has a row for each 10 s of recordings of an hour (360 windows), one item a row. The recordings
are links to one made-up file: a plan asks for their size and time and opens none. Each figure is of a
process of its own, start-up included, in times of the bare imports of ``benchmarks/scale.py``.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
from pyarrow import csv as arrow_csv  # noqa: E402
from recordings import make_recordings, parse  # noqa: E402
from scale import bare_imports, watch  # noqa: E402
from throughput import machine  # noqa: E402

WINDOWS = 360
"""Of a recording: an hour in steps of 10 s."""

VOTES = ("seizure", "lpd", "gpd", "lrda", "grda", "other")


def make_table(work: Path, n_rows: int) -> Path:
    """Return a data set of so many windows in recordings of an hour; it is made once."""
    folder = work / f"hours-{n_rows}"
    if (folder / "train.csv").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "train_eegs").mkdir(parents=True)
    (one, *_) = sorted((make_recordings(work, n_recordings=8) / "train_eegs").iterdir())
    row = np.arange(n_rows)
    recording, window = 10_000_000 + row // WINDOWS, row % WINDOWS
    for name in np.unique(recording).tolist():
        os.symlink(one, folder / "train_eegs" / f"{name}.parquet")
    columns = {
        "eeg_id": recording,
        "eeg_sub_id": window,
        "eeg_label_offset_seconds": window * 10.0,
        "spectrogram_id": recording,
        "spectrogram_sub_id": window,
        "spectrogram_label_offset_seconds": window * 10.0,
        "label_id": 3_000_000_000 + row,
        "patient_id": 50_000 + recording // 3,
        "expert_consensus": np.array(["Seizure", "LPD", "GPD", "LRDA", "GRDA", "Other"])[recording % 6],
    }
    columns |= {
        f"{name}_vote": np.where(recording % 6 == k, 3 + window % 9, k % 2) for k, name in enumerate(VOTES)
    }
    arrow_csv.write_csv(pa.table(columns), folder / "train.csv.part")
    (folder / "train.csv.part").rename(folder / "train.csv")
    return folder


def main() -> None:
    """Measure and print."""
    arguments = parse(__doc__, most={"type": int, "default": 1_000_000})
    bare = bare_imports()
    print(f"| items | in bare imports, of {bare.seconds:.2f} s | peak MB |\n|---|---|---|")
    n_rows = 10_000
    while n_rows <= arguments.most:
        data, out = make_table(arguments.work, n_rows), arguments.work / "plan"
        command = [sys.executable, str(HERE.parent / "run.py"), "plan=true", "data=kaggle", "unit=per_row"]
        command += [f"data.root={data}", f"outputs_dir={out}"]
        seen = watch(command)
        print(f"| {n_rows:,} | {seen.over(bare)} | {seen.parent_mb:.0f} |", flush=True)
        n_rows *= 10
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
