"""Times the table step of quality: ledger, CSV, parquet and duplicates, without reading a recording.

    python benchmarks/tables.py [400 1600 17089]

The rows are those of 200 made-up recordings, repeated with 1 % of noise on every measure and
with signatures that no other item has. Medians of seven turns.
"""

from __future__ import annotations

import argparse
import io
import time

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from quality import Bench, made_up

from hms.quality.duplicates import find_duplicates
from hms.quality.ledger import make_ledger, write_channels

STEPS = ("ledger", "qc.csv", "channels.parquet", "duplicates")
TURNS = 7

Rows = dict[str, NDArray]


def spread(rows: Rows, n: int) -> Rows:
    """Return n rows made from fewer."""
    rng = np.random.default_rng(0)
    found = {}
    for name, values in rows.items():
        many = np.concatenate([values] * -(-n // len(values)))[:n]
        if many.dtype.kind == "f":
            noise = 0.05 if name == "signature" else 0.01 * np.abs(many)
            many = (many + noise * rng.standard_normal(many.shape)).astype(many.dtype)
        found[name] = many
    signature = found["signature"] - found["signature"].mean(axis=1, keepdims=True)
    found["signature"] = signature / np.linalg.norm(signature, axis=1, keepdims=True)
    found["row"] = np.arange(n)
    return found


def times(bench: Bench, rows: Rows) -> NDArray[np.float64]:
    """Return the seconds of each step."""
    ids = [str(1_000_000 + row) for row in rows["row"]]
    items = pd.DataFrame({"item_id": ids, "eeg_id": rows["row"] + 1_000_000})
    stamps = [time.perf_counter()]
    ledger = make_ledger(items, [None] * len(ids), rows, bench.cfg.qc)
    stamps.append(time.perf_counter())
    ledger.items_csv()
    stamps.append(time.perf_counter())
    write_channels(io.BytesIO(), [ledger.channels_table()])
    stamps.append(time.perf_counter())
    find_duplicates(
        ids, ids, ids, rows["row"], rows["signature"], threshold=bench.cfg.qc.duplicate_corr
    ).to_csv()
    stamps.append(time.perf_counter())
    return np.diff(stamps)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", nargs="*", type=int, default=[400, 1600, 17089])
    parser.add_argument("--recordings", type=int, default=200, help="made up, whose rows are repeated")
    args = parser.parse_args()
    bench = Bench()
    measured = [
        bench.measure(bench.segment(eeg, offset_s)) for eeg, offset_s, _ in made_up(args.recordings, 1)
    ]
    rows = {name: np.stack([row[name] for row in measured]) for name in measured[0]}
    print(f"| items | {' | '.join(STEPS)} | together, s |\n|---|{'---|' * len(STEPS)}---|")
    for n in args.items:
        many = spread(rows, n)
        times(bench, many)
        turns = np.array([times(bench, many) for _ in range(TURNS)])
        cells = " | ".join(f"{seconds:.3f}" for seconds in np.median(turns, axis=0))
        print(f"| {n:,} | {cells} | {np.median(turns.sum(axis=1)):.3f} |")


if __name__ == "__main__":
    main()
