"""What a recording, and a window, cost through `hms.transform`, beside a run's pass with one worker.

    python benchmarks/latency.py [--work DIR] [--rounds 5]

Ratios are medians of rounds in which all take turns; a whole process is given in times of its bare imports.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import pandas as pd  # noqa: E402
from recordings import make_recordings, parse  # noqa: E402
from scale import IMPORTS  # noqa: E402

N = 136
STAGES = "stages=[scalograms,waveforms]"


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def process(program: str) -> float:
    """Return the seconds of a Python process of its own."""
    return timed(lambda: subprocess.run([sys.executable, "-c", program], check=True, cwd=HERE.parent))


def main() -> None:
    """Measure and print."""
    given = parse(__doc__, rounds={"type": int, "default": 5})
    import hms

    data = make_recordings(given.work, n_recordings=N)
    out = given.work / "latency"
    cfg = hms.compose("data=kaggle", f"data.root={data}", f"outputs_dir={out}", "n_jobs=1", STAGES)
    of_rows = hms.compose(
        "data=kaggle", f"data.root={data}", f"outputs_dir={out}", "n_jobs=1", STAGES, "unit=per_row"
    )
    table = pd.read_csv(data / "train.csv")
    windows = [data / "train_eegs" / f"{eeg_id}.parquet" for eeg_id in table["eeg_id"]]
    offsets = table["eeg_label_offset_seconds"].tolist()
    paths = sorted((data / "train_eegs").iterdir())
    hms.transform(paths[0], cfg)
    rounds = []
    for _ in range(given.rounds):
        shutil.rmtree(out, ignore_errors=True)
        run_pass = hms.run(cfg).manifest["times"]["pass"]
        many = timed(lambda: hms.transform(paths, cfg))
        each = timed(lambda: [hms.transform(path, cfg) for path in paths])
        rows_pass = hms.run(of_rows).manifest["times"]["pass"]
        every = timed(lambda: hms.transform(windows, of_rows, offset_s=offsets))
        rounds.append((many / run_pass, each / run_pass, 1e3 * run_pass / N, every / rows_pass))
    shutil.rmtree(out)
    many, each, milliseconds, every = (statistics.median(column) for column in zip(*rounds, strict=True))
    program = f"import hms; hms.transform({str(paths[0])!r}, hms.compose({STAGES!r}))"
    bare, cold = (min(process(text) for _ in range(given.rounds)) for text in (IMPORTS, program))
    print(f"| a run's pass, one worker | 1 ({milliseconds:.1f} ms a recording) |")
    print(f"| hms.transform of a list | {many:.2f} |")
    print(f"| hms.transform, one by one | {each:.2f} |")
    print(f"| hms.transform of a list of every row, times the pass of such a run | {every:.2f} |")
    print(f"| cold: a process that prepares one recording, times its bare imports | {cold / bare:.2f} |")


if __name__ == "__main__":
    main()
