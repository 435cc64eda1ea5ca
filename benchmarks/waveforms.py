"""Which reduction of a chain to one waveform keeps most: the figures behind ``montage.waveform``.

    python benchmarks/waveforms.py [--seed 1] [--real FOLDER] [--outputs DIR]

On 1,200 synthetic recordings of 150 patients, a logistic regression on log band powers of
the four waveforms is scored out of fold (five patient folds, KL over items with 10 votes
or more, 95 % intervals over patients), and each reduction is compared with the default's
in pairs, with intervals that hold for all of them at once. The default was chosen by the
draw of seed 0 of the first generator; the docs report the seeds 1 and 2 of today's. On a folder of
real recordings, the correlation of the two chains of a side and the share of the pairs'
energy that the waveforms keep are printed.
"""

from __future__ import annotations

import argparse
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
from joblib import Parallel, delayed

import hms
from hms.competition import VOTE_COLUMNS
from hms.engine.inference import evaluate_row
from hms.engine.plan import Plan, make_plan
from hms.labels.folds import assign_folds
from hms.labels.intervals import mean_interval, simultaneous_intervals
from hms.labels.votes import soft_labels
from hms.registry import Params
from hms.signal.waveform import reduce_waveforms
from hms.stages.derivations import Derivations
from hms.training.metric import row_divergence

KINDS = ("posterior", "anterior", "curvature", "principal", "mean")
BANDS_HZ = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 13.0, 20.0)
REFERENCE = "posterior"


def measure(plan: Plan, row: int) -> dict[str, tuple[np.ndarray, float, float]]:
    """Return features, |corr| of the two chains of a side and energy kept, per reduction."""
    (derived,) = evaluate_row(plan, row, [Derivations.from_config(plan.cfg)])
    chains = plan.cfg.at("montage.chains")
    found = {}
    for kind in KINDS:
        x = reduce_waveforms(
            derived.window, derived.alive, chains=chains, output="chains", waveform=Params(kind)
        )
        unit = x / {"curvature": 1.0, "anterior": np.sqrt(2), "posterior": np.sqrt(2), "mean": 0.5}.get(
            kind, 1.0
        )
        kept = float((unit.astype(float) ** 2).sum() / (derived.window.astype(float) ** 2).sum())
        with np.errstate(all="ignore"):
            corr = np.corrcoef(x)
        found[kind] = (band_powers(x), float(np.mean([abs(corr[0, 1]), abs(corr[2, 3])])), kept)
    return found


def band_powers(x: np.ndarray) -> np.ndarray:
    """Return log band powers of each waveform, shape (n_waveforms * n_bands,)."""
    spectrum = np.abs(np.fft.rfft(x * np.hanning(x.shape[1]))) ** 2
    freqs = np.fft.rfftfreq(x.shape[1], 1 / 200)
    edges = pairwise(BANDS_HZ)
    powers = [spectrum[:, (freqs >= low) & (freqs < high)].mean(axis=1) for low, high in edges]
    return np.log1p(np.array(powers)).T.ravel()


def out_of_fold(features: np.ndarray, y: np.ndarray, weight: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return predictions of a weighted multinomial logistic regression, each made without its patient."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    predicted = np.zeros_like(y)
    for k in np.unique(fold):
        train = fold != k
        rows, classes = np.nonzero(y[train])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=1000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(
                features[train][rows],
                classes,
                logisticregression__sample_weight=(y[train] * weight[train, None])[rows, classes],
            )
        predicted[~train] = model.predict_proba(features[~train])
    return predicted


def study(plan: Plan) -> None:
    """Print the table of the synthetic data set."""
    y = soft_labels(plan.items[list(VOTE_COLUMNS)].to_numpy(float)).astype(float)
    votes = plan.items["vote_sum"].to_numpy()
    patients = plan.items["patient_id"].to_numpy(str)
    fold = assign_folds(plan.votes.frame, plan.cfg.folds).loc[plan.items["patient_id"]].to_numpy()
    weight = np.clip(votes / 10, 0, 1.5)
    found = Parallel(n_jobs=-1)(delayed(measure)(plan, row) for row in range(len(plan.items)))
    high = votes >= 10
    rows: dict[str, np.ndarray] = {}
    for kind in KINDS:
        features = np.array([item[kind][0] for item in found])
        rows[kind] = row_divergence(y, out_of_fold(features, y, weight, fold))[high]
    priors = [np.average(y[fold != k], axis=0, weights=weight[fold != k]) for k in fold]
    prior = row_divergence(y, np.array(priors))[high]
    print(f"{high.sum()} items with 10 votes or more of {len(set(patients[high]))} patients")
    print(f"class prior KL {prior.mean():.3f}")
    print(f"{'waveform':<10} {'KL':>6}  {'95 %':<15} {'less ' + REFERENCE:>15}  95 %")
    pairs = [(number, KINDS.index(REFERENCE)) for number in range(len(KINDS))]
    table = np.stack([rows[kind] for kind in KINDS])
    differences = simultaneous_intervals(table, pairs, patients[high])
    for kind, less in zip(KINDS, differences, strict=True):
        own = mean_interval(rows[kind], patients[high])
        print(
            f"{kind:<10} {own.value:6.3f}  {own.low:.3f} to {own.high:.3f}  {less.value:+15.3f}"
            f"  {less.low:+.3f} to {less.high:+.3f}"
        )


def real(plan: Plan) -> None:
    """Print correlation and energy kept on real recordings."""
    found = [measure(plan, row) for row in range(len(plan.items))]
    print(f"\n{len(found)} real recordings, medians")
    print(f"{'waveform':<10} {'|corr| of a side':>16} {'energy kept':>12}")
    for kind in KINDS:
        corr = np.median([item[kind][1] for item in found])
        kept = np.median([item[kind][2] for item in found])
        print(f"{kind:<10} {corr:16.2f} {kept:12.2f}")


def prepared(*overrides: str) -> Plan:
    """Return the plan of a finished run."""
    cfg = hms.compose("stages=[waveforms]", *overrides)
    hms.run(cfg)
    return make_plan(cfg)


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", help="folder with train.csv and train_eegs/")
    parser.add_argument("--outputs", default="outputs")
    parser.add_argument("--seed", default=1, type=int, help="of the recordings that are drawn")
    given: Any = parser.parse_args()
    settings = (
        "data.n_recordings=1200", "data.n_patients=150", "data.write_spectrograms=false",
        f"data.seed={given.seed}",
    )  # fmt: skip
    study(prepared(*settings, f"outputs_dir={given.outputs}"))
    if given.real:
        real(prepared("data=kaggle", f"data.root={given.real}", f"outputs_dir={given.outputs}"))


if __name__ == "__main__":
    main()
