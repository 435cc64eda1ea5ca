"""Plant wrong votes and count how many are among the first: by evidence, by divergence, by cleanlab.

    python benchmarks/label_issues.py [--recordings 2000]   # embedded recordings, hms's baseline
    python benchmarks/label_issues.py --panels FigureS8_input.mat dataset4.mat   # real panels, a real network

In 5 % of the items the votes of two patients are swapped. On embedded recordings the baseline is fitted anew
to the swapped votes, out of fold. The panels are the published votes of up to 20 experts with the predictions
of SPaRCNet (Jing J et al., Neurology 100 (2023), e1750; bdsp-core/IIIC-SPaRCNet, ODC-BY 1.0); in one part 60
percent of them keep three votes, as in the competition.

What items are ranked by was chosen with the seeds 11 to 16; the docs report 31 to 36. cleanlab (pip install
cleanlab) is compared where it is installed, with its scores of the consensus class.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from hms.labels.issues import doubt
from hms.labels.weights import confidence_weights
from hms.training.baseline import logreg, out_of_fold
from hms.training.metric import row_divergence

PLANTED = 0.05
FIRST = (50, 200)
SEEDS = range(31, 37)
THRESHOLD = 10
CLEANLAB = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def swap(votes: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return votes with those of pairs of patients swapped, and which items have another's."""
    pairs = rng.permutation(len(votes))[: int(PLANTED * len(votes)) // 2 * 2].reshape(-1, 2)
    pairs = pairs[patients[pairs[:, 0]] != patients[pairs[:, 1]]]
    pairs = pairs[(votes[pairs[:, 0]] != votes[pairs[:, 1]]).any(axis=1)]
    swapped = votes.copy()
    swapped[pairs[:, 0]], swapped[pairs[:, 1]] = votes[pairs[:, 1]], votes[pairs[:, 0]]
    wrong = np.zeros(len(votes), bool)
    wrong[pairs] = True
    return swapped, wrong


def rankings(votes: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
    """Return items from the most doubtful on, by each method."""
    shares = np.clip(prediction, 1e-6, 1)
    shares = shares / shares.sum(axis=1, keepdims=True)
    y = votes / votes.sum(axis=1, keepdims=True)
    doubts = doubt(votes, shares, many=votes.sum(axis=1) >= THRESHOLD)
    found = {
        "hms": doubts.order,
        "tail probability alone": np.argsort(doubts.tail, kind="stable"),
        "KL divergence": np.argsort(-row_divergence(y, shares), kind="stable"),
    }
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return found
    for method in CLEANLAB:
        scores = get_label_quality_scores(y.argmax(axis=1), shares, method=method)
        found[f"cleanlab {method}"] = np.argsort(scores, kind="stable")
    return found


def show(title: str, rounds: list[tuple[dict[str, np.ndarray], np.ndarray]]) -> None:
    """Print the mean precision among the first, with its standard error over draws."""
    planted = np.mean([wrong.sum() for _, wrong in rounds])
    print(f"\n{title}: {len(rounds[0][1])} items, {planted:.0f} with another's votes, {len(rounds)} draws")
    for method in rounds[0][0]:
        told = []
        for first in FIRST:
            hits = [wrong[order[method][:first]].mean() for order, wrong in rounds]
            told.append(f"{np.mean(hits):.3f} ({np.std(hits) / len(hits) ** 0.5:.3f})")
        print(f"{method:<40} " + "   ".join(f"first {n}: {t}" for n, t in zip(FIRST, told, strict=True)))


def on_panels(scores: Path, table: Path) -> None:
    """Plant swaps among real panels, all with 9 votes or more, and with three votes kept of 60 %."""
    from scipy.io import loadmat

    content, named = loadmat(scores), loadmat(table)
    by_votes = {row.tobytes(): i for i, row in enumerate(np.nan_to_num(named["Y"], nan=9).astype(np.int8))}
    rows = [by_votes[row.tobytes()] for row in np.nan_to_num(content["Y"], nan=9).astype(np.int8)]
    names = np.array([str(key[0]).split("_")[1] for key in named["keys"].ravel()])[rows]
    counts = np.stack([(content["Y"] == number).sum(axis=1) for number in range(6)], axis=1)
    order = np.random.default_rng(0).permutation(len(counts))
    codes = np.unique(names, return_inverse=True)[1]
    # Copies of one judgement tell nothing new: a patient's equal votes are one item.
    _, first = np.unique(np.column_stack([codes, counts])[order], axis=0, return_index=True)
    kept = order[first]
    votes, prediction, patients = counts[kept], content["Yh"][kept], names[kept]
    for title, thinned in (("real panels", 0.0), ("real panels, three votes kept of 60 %", 0.6)):
        rounds = []
        for seed in SEEDS:
            rng, own = np.random.default_rng(seed), votes.copy()
            for i in np.flatnonzero(rng.random(len(votes)) < thinned):
                own[i] = rng.multivariate_hypergeometric(votes[i], 3)
            swapped, wrong = swap(own, patients, rng)
            rounds.append((rankings(swapped, prediction), wrong))
        show(title, rounds)


def on_embedded(n: int, draws: int) -> None:
    """Plant swaps among embedded recordings and fit the baseline to the swapped votes."""
    import hms
    from hms.engine.plan import make_plan
    from hms.engine.tables import open_tables

    with tempfile.TemporaryDirectory() as folder:
        settings = (
            f"outputs_dir={folder}", f"data.n_recordings={n}", f"data.n_patients={n // 5}",
            "data.write_spectrograms=false", "stages=[labels,splits]", "baseline=logreg",
        )  # fmt: skip
        run = hms.run(hms.compose(*settings))
        tables = open_tables(make_plan(run.config.override("stages=[labels,splits]")))
        features = tables.rows("features")["features"]
        votes = np.rint(run.labels.y_soft * run.labels.vote_sum[:, None]).astype(int)
        patients, splits = run.meta["patient_id"].to_numpy(str), run.splits
    fit = partial(logreg, params=run.config.baseline)
    rounds = []
    for seed in SEEDS[:draws]:
        swapped, wrong = swap(votes, patients, np.random.default_rng(seed))
        total = swapped.sum(axis=1)
        weight = confidence_weights(total, run.config.weight)
        model = out_of_fold(features, swapped / total[:, None], weight, splits, fit)
        rounds.append((rankings(swapped, model.prediction), wrong))
    show("embedded recordings", rounds)


def main() -> None:
    """Plant and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recordings", default=2000, type=int)
    parser.add_argument("--draws", default=len(SEEDS), type=int)
    parser.add_argument("--panels", nargs=2, type=Path, metavar=("SCORES", "TABLE"))
    given = parser.parse_args()
    if given.panels:
        on_panels(*given.panels)
    else:
        on_embedded(given.recordings, given.draws)


if __name__ == "__main__":
    main()
