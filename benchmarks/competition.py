"""Scores preparations on the competition's data: for whoever has it.

    python benchmarks/competition.py --root DIR [--network] [--device cuda] [--out results.json]

DIR holds train.csv and train_eegs/. Each preparation is scored by the linear baseline. 70 % of the
patients are there to choose: they are predicted out of fold, and the preparation with the lowest
divergence at 10 votes and more is chosen. The other 30 %, set aside by a digest of their id, are
there to report: models of all of the 70 % predict them, and no choice was made on them. With
--network (extra `torch`) the small network of examples/train_torch.py learns from the same 70 % by
the default preparation. Intervals are over patients. The results file has figures, versions and
counts, and no id and no path: send it in. Interrupted and typed again, it goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recordings import competition_folder, parse

import hms
from hms.labels.intervals import mean_interval, paired_interval
from hms.sweep.scores import WindowVotes, window_votes
from hms.training.baseline import SET_ASIDE
from hms.training.metric import row_divergence, stratum_names

Floats = NDArray[np.float64]

ASIDE = 0.3
"""Share of the patients who are there to report."""

PREPARATIONS: dict[str, list[str]] = {
    "defaults": [],
    "16 derivations": ["montage=bipolar16"],
    "64 frequencies": ["cwt.n_freqs=64"],
    "0.5-40 Hz": ["filter=wide"],
    "Morse wavelet": ["cwt=gmw"],
    "superlets": ["cwt=superlet"],
    "logarithmic weights": ["weight=log"],
    "constant weights": ["weight=constant"],
    "as published": ["experiment=published"],
}
FIRST = "defaults"

EPOCHS = "12,4"


def prepared(options: argparse.Namespace, overrides: list[str]) -> hms.Run:
    """Return the run of a preparation with its baseline."""
    data = ["data=kaggle", f"data.root={options.root}", f"outputs_dir={options.work / 'competition'}"]
    model = ["baseline=logreg", f"baseline.set_aside={ASIDE}", "stages=[labels,splits]"]
    return hms.run(hms.compose(*data, *model, *overrides))


def predictions(run: hms.Run) -> dict[str, dict[str, Floats]]:
    """Return the baseline's class shares by item, of those to choose and of those to report."""
    oof = run.arrays("baseline/oof.npz")
    by_item = dict(zip(oof["item_id"].tolist(), oof["prediction"], strict=True))
    parts = {"choose": oof["fold"] >= 0, "report": oof["fold"] == SET_ASIDE}
    return {
        name: {item: by_item[item] for item in oof["item_id"][rows].tolist()} for name, rows in parts.items()
    }


def losses(found: Mapping[str, Floats], target: WindowVotes, items: list[str]) -> Floats:
    """Return the divergence of each item from the votes of its labelled window."""
    rows = [target.row[item] for item in items]
    return row_divergence(target.y[rows], np.stack([found[item] for item in items]))


def by_stratum(
    values: Floats, reference: Floats, target: WindowVotes, items: list[str]
) -> dict[str, dict[str, Any]]:
    """Return divergence, and difference to a reference, of all items and by vote stratum."""
    rows = np.array([target.row[item] for item in items], dtype=int)
    patients, strata = target.patient_id[rows], stratum_names(target.vote_sum[rows], target.threshold)
    groups = {"all": np.ones(len(items), bool)}
    groups |= {str(name): strata == name for name in sorted(set(strata.tolist()))}
    return {
        name: {
            "divergence": mean_interval(values[mask], patients[mask]).to_dict(),
            "to_defaults": paired_interval(values[mask], reference[mask], patients[mask]).to_dict(),
        }
        for name, mask in groups.items()
    }


def scored(runs: Mapping[str, hms.Run], target: WindowVotes) -> dict[str, dict[str, Any]]:
    """Return by part and preparation what `by_stratum` gives, on the items that all preparations have."""
    found = {name: predictions(run) for name, run in runs.items()}
    table: dict[str, dict[str, Any]] = {}
    for part in ("choose", "report"):
        shared = set.intersection(*(set(each[part]) for each in found.values())) & set(target.row)
        items = sorted(shared, key=target.row.__getitem__)
        if not items:
            raise SystemExit(f"no item is there to {part}: {len(target.row)} items have votes")
        values = {name: losses(each[part], target, items) for name, each in found.items()}
        table[part] = {name: by_stratum(v, values[FIRST], target, items) for name, v in values.items()}
    return table


def best(table: Mapping[str, Any]) -> str:
    """Return the preparation with the lowest divergence at 10 votes and more, or of all where none has."""
    stratum = "10+" if "10+" in table[FIRST] else "all"
    return min(table, key=lambda name: table[name][stratum]["divergence"]["value"])


# --- the network ---------------------------------------------------------------------------------


def example() -> ModuleType:
    """Return examples/train_torch.py as a module."""
    path = Path(__file__).resolve().parents[1] / "examples" / "train_torch.py"
    spec = importlib.util.spec_from_file_location("train_torch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network(options: argparse.Namespace, first: hms.Run, target: WindowVotes) -> dict[str, dict[str, Any]]:
    """Return the scores of a network that learned from the patients there to choose, on the others."""
    import torch
    from tqdm import tqdm

    train_torch = example()
    data = ["data=kaggle", f"data.root={options.root}", f"outputs_dir={options.work / 'competition'}"]
    package = ["package.derivations=true", "package.derivations_dtype=float16"]
    run = hms.run(hms.compose(*data, "stages=[labels,splits,scalograms]", *package))
    parts, is_high = predictions(first), dict(zip(run.labels.item_id, run.labels.hc_mask, strict=True))
    everybody = list(parts["choose"])
    training = train_torch.Training(
        argparse.Namespace(
            device=options.device, workers=0, augment="derivations", seed=0, epochs=options.epochs
        )
    )
    torch.manual_seed(0)
    net = train_torch.TwoInputs(run).to(training.device)
    changes = train_torch.Changes(run, training.augment).to(training.device)
    stages = (everybody, [item for item in everybody if is_high[item]])
    with tqdm(total=sum(training.epochs), unit="epoch") as bar:
        for items, epochs, rate in zip(stages, training.epochs, train_torch.RATES, strict=True):
            if len(items) > 1:
                learn = run.dataset(items=items, signal="derivations")
                training.run_stage(net, changes, learn, epochs, rate, bar)
    items = sorted((item for item in parts["report"] if item in target.row), key=target.row.__getitem__)
    found = training.predict([net], run.dataset(items=items, signal="derivations"))
    linear = losses(parts["report"], target, items)
    return by_stratum(losses(found, target, items), linear, target, items)


# --- output --------------------------------------------------------------------------------------


def shown(interval: Mapping[str, Any], sign: str = "") -> str:
    """Return an interval from its dictionary."""
    numbers = (interval[name] for name in ("value", "low", "high"))
    value, low, high = ("-" if v is None else f"{v:{sign}.3f}" for v in numbers)
    return f"{value} ({low} to {high})"


def print_table(rows: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Print the divergence of each preparation by stratum, and the difference to the defaults."""
    strata = list(next(iter(rows.values())))
    print(f"\n{title}\n\n| | " + " | ".join(f"{s} | difference" for s in strata) + " |")
    print("|---" * (1 + 2 * len(strata)) + "|")
    for name, by in rows.items():
        cells = [f"{shown(by[s]['divergence'])} | {shown(by[s]['to_defaults'], '+')}" for s in strata]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    """Run the preparations, print the tables and write the results file."""
    options = parse(
        __doc__ or "",
        root={"type": competition_folder, "required": True},
        network={"action": "store_true"},
        device={"default": "cpu"},
        epochs={"default": EPOCHS},
        out={"type": Path, "default": Path("competition-results.json")},
        only={"nargs": "+", "choices": list(PREPARATIONS), "default": list(PREPARATIONS)},
    )
    runs = {name: prepared(options, PREPARATIONS[name]) for name in dict.fromkeys([FIRST, *options.only])}
    target = window_votes(runs[FIRST].config)
    table = scored(runs, target)
    chosen = best(table["choose"])
    print_table(table["choose"], "Patients there to choose, out of fold")
    print_table(table["report"], f"Patients set aside to report; chosen: {chosen}")
    results = {
        "versions": runs[FIRST].manifest["versions"],
        "votes": {"items": len(target.row), "patients": len(set(target.patient_id.tolist()))},
        "linear": table,
        "chosen": chosen,
    }
    if options.network:
        results["network"] = network(options, runs[FIRST], target)
        print_table(
            {"network": results["network"]}, "A small network on the same, difference to the linear baseline"
        )
    options.out.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"\nwritten: {options.out}")


if __name__ == "__main__":
    main()
