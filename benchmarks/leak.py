"""Tells how much better a model looks with folds that ignore patients, on made-up recordings.

    python benchmarks/leak.py [--root DIR] [--recordings N] [--patients N] [--seed N]

Two models are fitted out of fold on the same features: the package's linear baseline, and
nearest neighbours, which recognise a patient by his background and his montage. The folds are
the package's, which keep patients whole, and folds dealt out at random. The difference is item
by item, its 95 % interval over patients. A DIR in the competition's layout takes the
place of made-up recordings.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from numpy.typing import NDArray
from recordings import competition_folder, parse

import hms
from hms.competition import SFREQ_HZ
from hms.labels.intervals import Interval, mean_interval, paired_interval
from hms.training.baseline import logreg, out_of_fold, summarise_scalogram
from hms.training.metric import row_divergence
from hms.training.mirror import mirrored_outputs

Floats = NDArray[np.float64]
Split = tuple[NDArray[np.int64], NDArray[np.int64]]

N_NEIGHBOURS = 10
PRIOR_COUNT = 3.0
"""How many neighbours the class prior counts for, so that no class is held impossible."""

N_DEALS = 5
"""Random folds are dealt this often, and an item's divergence is the mean."""


def neighbours(train: Floats, target: Floats, weight: Floats, valid: Floats) -> Floats:
    """Return the weighted mean target of the nearest training items, drawn towards the class prior."""
    from sklearn.neighbors import NearestNeighbors

    centre, spread = train.mean(axis=0), train.std(axis=0)
    scale = np.where(spread > 0, spread, np.inf)
    finder = NearestNeighbors(n_neighbors=min(N_NEIGHBOURS, len(train))).fit((train - centre) / scale)
    near = finder.kneighbors((valid - centre) / scale, return_distance=False)
    mass = weight[near].sum(axis=1, keepdims=True)
    prior = np.average(target, axis=0, weights=weight)
    near_target = (weight[near, None] * target[near]).sum(axis=1)
    return np.asarray((near_target + PRIOR_COUNT * prior) / (mass + PRIOR_COUNT))


def deal(n_items: int, n_splits: int, seed: int) -> list[Split]:
    """Return folds that ignore patients."""
    fold = np.random.default_rng(seed).permutation(np.arange(n_items) % n_splits)
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_splits)]


def features_of(run: hms.Run) -> Floats:
    """Return the baseline's summaries of each item's scalogram, shape (n_items, n_features)."""
    mirror = mirrored_outputs(run.config.at("montage.chains"), run.config.at("montage.output"))
    rate_hz = SFREQ_HZ / run.config.at("cwt.hop")
    specs = (run.spec(item) for item in run.meta["item_id"])
    return np.stack([summarise_scalogram(x, frame_rate_hz=rate_hz, mirror=mirror) for x in specs]).astype(
        float
    )


def gaps(
    features: Floats, target: Floats, weight: Floats, patients: NDArray[np.str_], splits: list[Split]
) -> dict[str, tuple[Interval, Interval, Interval]]:
    """Return by model its divergence with patient folds, with random ones, and the paired difference."""
    l2 = hms.compose("baseline=logreg").baseline
    models = {"logistic regression": partial(logreg, params=l2), "nearest neighbours": neighbours}
    found = {}
    for name, fit in models.items():
        kept = row_divergence(target, out_of_fold(features, target, weight, splits, fit).prediction)
        deals = [deal(len(target), len(splits), seed) for seed in range(N_DEALS)]
        dealt = np.mean(
            [row_divergence(target, out_of_fold(features, target, weight, d, fit).prediction) for d in deals],
            axis=0,
        )
        values = (mean_interval(kept, patients), mean_interval(dealt, patients))
        found[name] = (*values, paired_interval(dealt, kept, patients))
    return found


def prepared(options: argparse.Namespace) -> hms.Run:
    """Return a run that made scalograms, labels and folds."""
    data = (
        [f"data.n_recordings={options.recordings}", f"data.n_patients={options.patients}"]
        if options.root is None
        else ["data=kaggle", f"data.root={options.root}"]
    )
    where = [f"outputs_dir={options.work / 'outputs'}", f"seed={options.seed}"]
    return hms.run(hms.compose(*data, *where, "stages=[labels,splits,scalograms]"))


def main() -> None:
    """Print the table."""
    options = parse(
        __doc__ or "",
        root={"type": competition_folder},
        recordings={"type": int, "default": 1200},
        patients={"type": int, "default": 150},
        seed={"type": int, "default": 0},
    )
    run = prepared(options)
    labels, patients = run.labels, run.meta["patient_id"].to_numpy(str)
    splits = [(split.train, split.valid) for split in run.splits]
    rows = gaps(features_of(run), labels.y_soft.astype(float), labels.w_conf.astype(float), patients, splits)
    print(f"{len(patients)} items of {len(set(patients))} patients; KL divergence, lower looks better\n")
    print("| model | patient folds | random folds | random minus patient |\n|---|---|---|---|")
    for name, (kept, dealt, gap) in rows.items():
        print(f"| {name} | {kept} | {dealt} | {gap} |")


if __name__ == "__main__":
    main()
