"""Measure votes: agreement, concentration, and which smoothing foretells votes that were held back.

    python benchmarks/votes.py                       # votes drawn as the embedded recordings draw them
    python benchmarks/votes.py --root DIR            # train.csv of the competition
    python benchmarks/votes.py --iiic dataset1.mat   # the published votes of single experts

The published votes are those of Jing J et al., Neurology 100 (2023), e1750: file
code_for_figures/Data/Table1/dataset1.mat of bdsp-core/IIIC-SPaRCNet, ODC-BY 1.0; rows are 10 s segments,
columns experts. One item is a patient's distinct set of votes, as copies of one judgement tell nothing new.

Smoothing is fitted on half of the patients (drawn with seed 1) and scored on the others, the votes that
are held back drawn with seed 2; the seeds 3 and 4 repeat it with all drawn anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hms.competition import CLASSES, VOTE_COLUMNS
from hms.labels.agreement import agreement
from hms.labels.evidence import Mixture, fit_mixture, posterior_mean
from hms.labels.intervals import jackknife_interval, mean_interval, paired_interval
from hms.labels.summary import vote_strata

THRESHOLD = 10
LEAST = 1e-15
"""As the metric clips predictions."""


@dataclass(frozen=True)
class Votes:
    """Votes of items, shape (n_items, 6), and their patients."""

    counts: np.ndarray
    patients: np.ndarray
    source: str

    def __getitem__(self, rows: np.ndarray) -> Votes:
        """Return some of the items."""
        return Votes(self.counts[rows], self.patients[rows], self.source)


# --- where votes come from -----------------------------------------------------------------------


def read_competition(root: Path) -> Votes:
    """Read train.csv, one item per recording and distinct votes."""
    import pandas as pd

    table = pd.read_csv(root / "train.csv")
    table = table.drop_duplicates(["eeg_id", *VOTE_COLUMNS])
    counts = table[list(VOTE_COLUMNS)].to_numpy(np.int64)
    return Votes(counts, table["patient_id"].astype(str).to_numpy(), f"{len(table)} patterns of train.csv")


def read_iiic(path: Path) -> Votes:
    """Read the published votes of single experts, one item per patient and distinct votes."""
    from scipy.io import loadmat

    content = loadmat(path)
    # The classes are numbered other, seizure, lpd, gpd, lrda, grda.
    counts = np.stack([(content["Y"] == number).sum(axis=1) for number in (1, 2, 3, 4, 5, 0)], axis=1)
    names = np.array([str(key[0]).split("_")[1] for key in content["keys"].ravel()])
    codes = np.unique(names, return_inverse=True)[1]
    _, rows = np.unique(np.column_stack([codes, counts]), axis=0, return_index=True)
    return Votes(counts[rows].astype(np.int64), names[rows], f"{len(rows)} patterns of {path.name}")


def draw_synthetic(n: int = 10_000, n_patients: int = 1141, seed: int = 0) -> Votes:
    """Draw votes as the embedded recordings do: of each recording the row with most votes."""
    from hms.sources.synthetic import draft_recordings

    drafts = draft_recordings(n_recordings=n, n_patients=n_patients, seed=seed)
    counts = [max((row.votes for row in draft.rows), key=sum) for draft in drafts]
    patients = np.array([str(draft.patient.patient_id) for draft in drafts])
    return Votes(np.array(counts), patients, f"{n} recordings drawn")


# --- agreement and concentration -----------------------------------------------------------------


def _said(found: dict) -> str:
    if found["value"] is None:
        return "-"
    return f"{found['value']:.3f}" + (
        f" ({found['low']:.3f} to {found['high']:.3f})" if found["low"] is not None else " (too few patients)"
    )


def show_agreement(votes: Votes) -> None:
    """Print alpha in all and by class, by stratum and by number of votes."""
    strata = vote_strata(votes.counts.sum(axis=1), THRESHOLD)
    found = agreement(votes.counts, votes.patients.tolist(), classes=CLASSES, strata=strata)
    print(f"\nKrippendorff's alpha (Gwet's AC1) of {votes.source}, {len(set(votes.patients))} patients")
    for name, row in found["strata"].items():
        print(f"{name:<9} {row['items']:6} items  {_said(row['alpha'])}  AC1 {_said(row['ac1'])}")
        print("          " + "  ".join(f"{c} {_said(of['alpha'])}" for c, of in row["by_class"].items()))
    print("\nwhere one vote says a class, the share of the others that do, by number of votes")
    print(f"{'votes':<6} {'items':>6} {'alpha':<24} " + " ".join(f"{name:>7}" for name in CLASSES))
    for row in found["by_votes"]:
        shares = [of["confirmed"]["value"] for of in row["by_class"].values()]
        told = " ".join("      -" if share is None else f"{share:7.2f}" for share in shares)
        print(f"{row['votes']:<6} {row['items']:6} {_said(row['alpha']):<24} {told}")


def show_concentration(votes: Votes) -> None:
    """Print the concentration of one Dirichlet, with patients left out in 50 groups."""
    total = votes.counts.sum(axis=1)
    for name, mask in {"1-9": (total > 0) & (total < THRESHOLD), "10+": total >= THRESHOLD}.items():
        if not mask.any():
            continue
        own = votes[mask]
        group = np.unique(own.patients, return_inverse=True)[1] % 50
        size = float(fit_mixture(own.counts, 1).alpha.sum())
        left = [float(fit_mixture(own.counts[group != g], 1).alpha.sum()) for g in range(50)]
        masses = np.bincount(group, minlength=50).astype(float)
        found = jackknife_interval(np.log(size), np.log(left), masses, n_items=int(mask.sum()))
        low, high = np.exp([found.low, found.high])
        print(f"concentration at {name} votes: {size:.2f} ({low:.2f} to {high:.2f})")


# --- smoothing -----------------------------------------------------------------------------------

Rule = Callable[[np.ndarray], np.ndarray]


def rules(learned: np.ndarray) -> dict[str, Rule]:
    """Return the ways to turn votes into shares, those that are fitted fitted to ``learned``."""

    def add(much: float) -> Rule:
        return lambda v: (v + much) / (v + much).sum(axis=1, keepdims=True)

    def by(mixture: Mixture) -> Rule:
        return lambda v: posterior_mean(v, mixture)

    return {
        "raw shares": add(0.0),
        "add 1/2": add(0.5),
        "add 1/6": add(1 / 6),
        "one Dirichlet": by(fit_mixture(learned, 1)),
        "mixture": by(fit_mixture(learned)),
    }


def held_back(
    counts: np.ndarray, n_kept: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return votes drawn without replacement from each panel, and the rest of it."""
    kept = np.stack(
        [rng.multivariate_hypergeometric(row, int(n)) for row, n in zip(counts, n_kept, strict=True)]
    )
    return kept, counts - kept


def divergence(rest: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the divergence of shares from the votes that were held back, as the metric takes it."""
    y = rest / rest.sum(axis=1, keepdims=True)
    return np.where(y > 0, y * np.log(np.where(y > 0, y, 1) / np.clip(shares, LEAST, 1)), 0.0).sum(axis=1)


def show_smoothing(votes: Votes, seeds: tuple[int, int]) -> None:
    """Print the divergence of held-back votes by rule, three ways to hold back."""
    half = np.random.default_rng(seeds[0])
    names = np.unique(votes.patients)
    first = np.isin(votes.patients, half.choice(names, len(names) // 2, replace=False))
    total = votes.counts.sum(axis=1)
    ways = {
        "3 of 10 votes or more": (total >= THRESHOLD, lambda n: np.full(n.shape, 3)),
        "half of 10 votes or more": (total >= THRESHOLD, lambda n: n // 2),
        "all but one of 2 to 9": ((total >= 2) & (total < THRESHOLD), lambda n: n - 1),
    }
    print(f"\nvotes held back: KL by rule, and less add 1/2 (seeds {seeds[0]} and {seeds[1]})")
    for name, (mask, keep) in ways.items():
        rng = np.random.default_rng(seeds[1])
        kept, rest = held_back(votes.counts[mask], keep(total[mask]), rng)
        learn, score = first[mask], ~first[mask]
        patients = votes.patients[mask][score]
        made = {
            rule: divergence(rest[score], shares(kept[score])) for rule, shares in rules(kept[learn]).items()
        }
        print(f"{name}: {score.sum()} items of {len(set(patients))} patients")
        for rule, values in made.items():
            less = "" if rule == "add 1/2" else paired_interval(values, made["add 1/2"], patients, factor=1)
            print(f"  {rule:<14} {mean_interval(values, patients, factor=1)!s:<28} {less}")


def main() -> None:
    """Read or draw votes and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with the competition's train.csv")
    parser.add_argument("--iiic", type=Path, help="dataset1.mat of the published votes")
    given = parser.parse_args()
    if given.root:
        votes = read_competition(given.root)
    else:
        votes = read_iiic(given.iiic) if given.iiic else draw_synthetic()
    show_agreement(votes)
    show_concentration(votes)
    for seeds in ((1, 2), (3, 4)):
        show_smoothing(votes, seeds)


if __name__ == "__main__":
    main()
