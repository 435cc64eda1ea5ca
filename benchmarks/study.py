"""Compares twenty preparations on two draws of made-up recordings and on real ones: docs/study.

    python benchmarks/study.py --real DIR [--recordings N] [--patients N] [--write docs/study]

The first draw is there to choose, the second to report. Each option differs from the defaults in
one setting and is scored by the linear baseline out of fold, on the made-up recordings at 10 votes
and more, on the real ones (leave one out) on all. Intervals of differences hold for all options
of a data set at once. An option is called better or worse only where the interval excludes 0 on
both draws and the real recordings do not point the other way. Typed again, nothing is computed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from recordings import competition_folder, parse

import hms
from hms.labels.intervals import Interval, mean_interval, simultaneous_intervals
from hms.sweep.leaderboard import compare, divergences, read_scored, window_votes

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "docs" / "study" / "conf"
VARIED = (
    "filter=bandpass,wide,none",
    "montage=double_banana,bipolar16,chain_mean,chain_front,chain_back",
    "cwt=morlet,gmw,superlet,ricker",
    "cwt.hop=8,16,40",
    "cwt.n_freqs=48,64,24",
    "scaling=log1p_percentile,none",
    "weight=linear,log,sqrt,constant",
    "labels=window,sum,mean",
)
SEEDS = {"to choose": 1, "to report": 2}
REAL = "real"


def sweep(name: str, outputs: Path, data: list[str]) -> dict[str, str]:
    """Run a sweep and return the run of each option, the defaults' first."""
    fixed = ["stages=[labels,splits]", "baseline=logreg", "sweep.combine=one_at_a_time"]
    command = ["-m", "--config-dir", str(CONF), f"outputs_dir={outputs}", f"sweep.name={name}", *fixed]
    subprocess.run([sys.executable, str(ROOT / "run.py"), *command, *data, *VARIED], check=True)
    rows = pd.read_csv(outputs / "sweeps" / name / "leaderboard.csv").sort_values("member")
    if rows["run"].isna().any():
        raise SystemExit(
            f"members of the sweep {name} failed: {rows.loc[rows['run'].isna(), 'error'].tolist()}"
        )
    return {"defaults": rows["run"].iloc[0], **dict(zip(rows["overrides"][1:], rows["run"][1:], strict=True))}


def losses(
    runs: Mapping[str, str], outputs: Path, at_10: bool
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return each option's divergence of each item that all have, and the items' patients."""
    opened = [hms.load(name, outputs=outputs) for name in runs.values()]
    scored = {number: found for number, run in enumerate(opened) if (found := read_scored(run)) is not None}
    target = window_votes(opened[0].config)
    shared = compare(scored, target, 0)
    if len(shared.scored) < len(runs):
        raise SystemExit(f"not all options can be compared: {shared.refused}")
    rows = np.array([target.row[item] for item in shared.items])
    kept = target.vote_sum[rows] >= (target.threshold if at_10 else 1)
    values = np.stack([divergences(scored[k], target, shared.items) for k in range(len(runs))])
    return values[:, kept], target.patient_id[rows][kept]


def differences(values: NDArray[np.float64], patients: NDArray[np.str_]) -> list[Interval]:
    """Return the difference of each option to the defaults, with intervals that hold all at once."""
    pairs = [(k, 0) for k in range(1, len(values))]
    return simultaneous_intervals(values, pairs, patients)


def verdict(chosen: Interval, reported: Interval, real: Interval) -> str:
    """Return what follows for an option."""
    for sign, word in ((1, "worse"), (-1, "better")):
        clear = all(min(sign * i.low, sign * i.high) > 0 for i in (chosen, reported))
        if clear:
            return word if sign * real.value >= 0 else "undecided: real ones point the other way"
    return "undecided"


def shown(interval: Interval) -> str:
    """Return a difference with its interval, where one holds."""
    if not np.isfinite(interval.low):
        return f"{interval.value:+.3f}"
    return f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def counted(values: NDArray[np.float64]) -> list[str]:
    """Return for each option in how many items its divergence is lower than that of the defaults."""
    return [f", lower in {(row < values[0]).sum()} of {row.size}" for row in values[1:]]


def main() -> None:
    """Run the sweeps, print the page's tables and write what they are made from."""
    options = parse(
        __doc__ or "",
        real={"type": competition_folder, "required": True},
        recordings={"type": int, "default": 1200},
        patients={"type": int, "default": 150},
        write={"type": Path},
    )
    size = [f"data.n_recordings={options.recordings}", f"data.n_patients={options.patients}"]
    n_real = pd.read_csv(options.real / "train.csv")["patient_id"].nunique()
    data = {name: [*size, "data.write_spectrograms=false", f"seed={seed}"] for name, seed in SEEDS.items()}
    data[REAL] = ["data=kaggle", f"data.root={options.real}", f"folds.n_splits={n_real}"]
    data[REAL] += ["sweep.objective=kl_all"]
    outputs = options.work / "study"
    found, names, lower = {}, [], []
    for name, settings in data.items():
        runs = sweep(f"study-{name.replace(' ', '-')}", outputs, settings)
        names = list(runs)
        values, patients = losses(runs, outputs, at_10=name != REAL)
        base = mean_interval(values[0], patients)
        print(f"{name}: {values.shape[1]} items of {len(set(patients))} patients, defaults {base}")
        found[name] = differences(values, patients)
        lower = counted(values)
    table = pd.DataFrame({"option": names[1:], **{name: map(shown, row) for name, row in found.items()}})
    table[REAL] += lower
    table["verdict"] = [verdict(*row) for row in zip(*found.values(), strict=True)]
    print("\n| " + " | ".join(table.columns) + " |\n" + "|---" * len(table.columns) + "|")
    for row in table.itertuples(index=False):
        print("| " + " | ".join(row) + " |")
    if options.write:
        table.to_csv(options.write / "options.csv", index=False)
        for suffix in ("csv", "html", "json"):
            source = outputs / "sweeps" / "study-to-report" / f"leaderboard.{suffix}"
            text = source.read_text(encoding="utf-8").replace(f"{ROOT}/", "").replace(str(outputs), "outputs")
            text = re.sub(r'<a href="[./]*[0-9a-f]{16}/[^"]*">(.*?)</a>', r"\1", text)  # runs that stay here
            (options.write / source.name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
