"""Items per second that a training loop reads in random order: packed, one npz per item, augmented.

    python benchmarks/reads.py [--work DIR] [--rounds 5] [--recordings 400]

One process, warm files, contestants in turn round after round; the recordings are made up. Seconds are of
the processor, so that others on the machine do not count. The raw read is what any dataset on the packed
array has to do: copy one item out of the mapped file.
"""

# ruff: noqa: E402 (the checkout is put on the path before it is imported)
from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])

import numpy as np
from recordings import make_linked, make_recordings, parse

import hms
from hms.results.run import Run
from hms.training.reading import SCALOGRAMS

ITEMS = 1200
SLOW = 300
"""Items that augmented datasets read in a round."""


def contestants(run: Run) -> dict[str, tuple[Callable[[int], Any], int]]:
    """Return what reads one item by its number, and how many it reads in a round."""
    pack = np.load(run.path / SCALOGRAMS.array, mmap_mode="r").view(np.ndarray)
    half, whole, single = (
        run.dataset(dtype="float16"),
        run.dataset(),
        run.dataset(packed=False),
    )
    light, strong = run.dataset(augment="light"), run.dataset(augment="strong")
    return {
        "raw memory-mapped read, float16": (lambda i: np.array(pack[i]), ITEMS),
        "dataset, float16": (lambda i: half[i]["x"], ITEMS),
        "raw read, astype(float32)": (lambda i: pack[i].astype(np.float32), ITEMS),
        "dataset, float32 (default)": (lambda i: whole[i]["x"], ITEMS),
        "dataset, one npz per item": (lambda i: single[i]["x"], ITEMS),
        'dataset, augment="light"': (lambda i: light[i]["x"], SLOW),
        'dataset, augment="strong"': (lambda i: strong[i]["x"], SLOW),
    }


def rate(read: Callable[[int], Any], order: Sequence[int]) -> float:
    """Return items per second of the processor."""
    began = time.process_time()
    for number in order:
        read(number)
    return len(order) / (time.process_time() - began)


def main() -> None:
    """Measure and print."""
    arguments = parse(__doc__, rounds={"type": int, "default": 5}, recordings={"type": int, "default": 400})
    data = make_linked(
        arguments.work,
        make_recordings(arguments.work, n_recordings=arguments.recordings),
        n_recordings=ITEMS,
        n_rows=ITEMS,
    )
    with tempfile.TemporaryDirectory(dir=arguments.work) as outputs:
        settings = ("data=kaggle", f"data.root={data}", f"outputs_dir={outputs}", "package.pack=true")
        run = hms.run(hms.compose(*settings, "stages=[scalograms,labels]", "folds=none", "n_jobs=2"))
        readers = contestants(run)
        n_items, shape = len(run.labels.item_id), run.dataset()[0]["x"].shape
        rng = np.random.default_rng(0)
        rates: dict[str, list[float]] = {name: [] for name in readers}
        for number in range(arguments.rounds + 1):
            for name, (read, count) in readers.items():
                value = rate(read, rng.permutation(n_items)[:count].tolist())
                if number:  # the first round warms
                    rates[name].append(value)
    raw = rates["raw memory-mapped read, float16"]
    print("| | items/s, median | range | of the raw read |\n|---|---|---|---|")
    for name, values in rates.items():
        share = statistics.median(a / b for a, b in zip(values, raw, strict=True))
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"| {name} | {middle:,.0f} | {low:,.0f} - {high:,.0f} | {share:.2f} |")
    print(f"\n{n_items} items of shape {list(shape)}")


if __name__ == "__main__":
    main()
