"""Measure how often 95 % intervals of out-of-fold scores hold what they estimate, models refitted.

    python benchmarks/coverage.py [--seed 1] [--sets 2000]      # intervals of one run and of a difference
    python benchmarks/coverage.py --sweeps [--seed 1]           # sweeps of equal members

Each made-up data set has patients who repeat their class (0.65 of items) and share an offset; votes as the
embedded recordings have them; two preparations, the second a little worse. A softmax regression with the
baseline's loss is fitted in five folds of patients; what is estimated is the mean score of all data sets.
Sizes of patients: five items each, or as uneven as the competition's (median 3, at most 268), thinned.

The interval was chosen by the draws of seed 1; what the docs report is seed 2.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from hms.labels.intervals import REFITTED, effective_number, mean_interval, simultaneous_intervals
from hms.sources.synthetic.votes import DIRICHLET
from hms.training.metric import row_divergence

PRIOR = np.array([0.20, 0.14, 0.12, 0.14, 0.18, 0.22])
N_FEATURES = 6
WORSE = 0.2
SETTINGS = {
    "20 alike": (20, False),
    "30 alike": (30, False),
    "60 alike": (60, False),
    "150 alike": (150, False),
    "23 uneven": (85, True),
    "34 uneven": (135, True),
    "60 uneven": (250, True),
    "150 uneven": (620, True),
}
"""Patients, and whether their sizes are uneven; the name says about how many are effective."""


# --- made-up data sets ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Losses of two preparations, shape (2, n_items), and each item's patient."""

    losses: np.ndarray
    patient: np.ndarray


def sizes(rng: np.random.Generator, n: int, uneven: bool) -> np.ndarray:
    """Return how many items each patient has."""
    if not uneven:
        return np.full(n, 5)
    drawn = np.exp(rng.normal(np.log(3), 1.46, 2 * n))
    return np.maximum(np.rint(drawn[drawn < 269][:n] / 2.5), 1).astype(int)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return shares, rows sum to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit(x: np.ndarray, y: np.ndarray, w: np.ndarray, l2: float = 0.01) -> np.ndarray:
    """Return the coefficients of a softmax regression by Newton's method, the constant's last."""
    x = np.column_stack([x, np.ones(len(x))])
    n_rows, n_classes = x.shape[1], y.shape[1]
    table, w = np.zeros((n_rows, n_classes)), w / w.sum()
    ridge = np.append(np.full(n_rows - 1, l2), 1e-8)
    for _ in range(12):
        p = softmax(x @ table)
        slope = x.T @ (w[:, None] * (p - y)) + ridge[:, None] * table
        both = (x[:, :, None] * p[:, None, :]).reshape(len(x), -1)
        curve = -((both * w[:, None]).T @ both).reshape(n_rows, n_classes, n_rows, n_classes)
        for k in range(n_classes):
            curve[:, k, :, k] += (x * (w * p[:, k])[:, None]).T @ x
        curve = curve.reshape(n_rows * n_classes, -1)
        curve[np.diag_indices(len(curve))] += np.repeat(ridge, n_classes)
        step = np.linalg.solve(curve, slope.ravel()).reshape(table.shape)
        table = table - step
        if np.abs(step).max() < 1e-5:
            break
    return table


def make_set(rng: np.random.Generator, n: int, uneven: bool, means: np.ndarray) -> Scores:
    """Draw a data set, fit both preparations out of fold, and return their losses."""
    size = sizes(rng, n, uneven)
    patient = np.repeat(np.arange(n), size)
    n_items = patient.size
    own = rng.choice(6, n, p=PRIOR)[patient]
    label = np.where(rng.random(n_items) < 0.65, own, rng.choice(6, n_items, p=PRIOR))
    raw = rng.gamma(DIRICHLET[label])
    shares = raw / raw.sum(axis=1, keepdims=True)
    n_votes = np.where(rng.random(n_items) < 0.35, rng.integers(10, 21, n_items), 3)
    y = rng.multinomial(n_votes, shares) / n_votes[:, None]
    weight = np.clip(n_votes / 10, 0, 1.5)
    signal = shares @ means + 0.5 * rng.normal(size=(n, N_FEATURES))[patient]
    load, fold = np.zeros(5), np.empty(n, int)
    for one in np.argsort(-size, kind="stable"):
        fold[one] = load.argmin()
        load[fold[one]] += size[one]
    losses = []
    for noise in (0.7, 0.7 + WORSE):
        x = signal + noise * rng.normal(size=signal.shape)
        p = np.empty_like(y)
        for k in range(5):
            train = fold[patient] != k
            centre, spread = x[train].mean(axis=0), x[train].std(axis=0)
            z = (x - centre) / spread
            table = fit(z[train], y[train], weight[train])
            p[~train] = softmax(np.column_stack([z[~train], np.ones((~train).sum())]) @ table)
        losses.append(row_divergence(y, p))
    return Scores(np.array(losses), patient)


# --- intervals that were compared ----------------------------------------------------------------

Ends = tuple[float, float]
N_RESAMPLES = 600


def by_patient(values: np.ndarray, patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sums and counts of each patient."""
    return np.bincount(patient, values), np.bincount(patient).astype(float)


def drawn(values: np.ndarray, patient: np.ndarray, rng: np.random.Generator) -> dict[str, Ends]:
    """Return the intervals that draw patients: percentile, bootstrap-t and BCa."""
    total, mass = by_patient(values, patient)
    n, mean = len(total), total.sum() / mass.sum()
    times = rng.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    masses = times @ mass
    means = (times @ total) / masses
    squares = times @ total**2 - 2 * means * (times @ (total * mass)) + means**2 * (times @ mass**2)
    t = (means - mean) / np.sqrt(squares * n / (n - 1)) * masses
    error = np.sqrt(((total - mean * mass) ** 2).sum() * n / (n - 1)) / mass.sum()
    low, high = np.quantile(t, [0.025, 0.975])
    left = (total.sum() - total) / (mass.sum() - mass)
    pull = left.mean() - left
    skew = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    z0 = stats.norm.ppf(((means < mean).mean() + (means <= mean).mean()) / 2)
    z = z0 + np.array([-1.96, 1.96])
    percentile = np.quantile(means, [0.025, 0.975])
    corrected = np.quantile(means, stats.norm.cdf(z0 + z / (1 - skew * z)))
    return {
        "percentiles of drawn patients": (percentile[0], percentile[1]),
        "bootstrap-t": (mean - high * error, mean - low * error),
        "BCa": (corrected[0], corrected[1]),
    }


def left_out(values: np.ndarray, patient: np.ndarray) -> dict[str, Ends]:
    """Return the intervals without draws: cluster-robust ones, and the jackknife that hms uses."""
    total, mass = by_patient(values, patient)
    n, whole = len(total), mass.sum()
    mean, share = total.sum() / whole, mass / whole
    residual = (total - mean * mass) / whole
    least = max(effective_number(mass) - 1, 1)

    def around(variance: float, quantile: float) -> Ends:
        half = quantile * np.sqrt(variance)
        return mean - half, mean + half

    chosen, plain = (mean_interval(values, patient, factor=f) for f in (REFITTED, 1.0))
    cr3 = ((residual / (1 - share)) ** 2).sum()
    worst = max((mass**2).sum() ** 2 / (mass**4).sum(), 1)
    return {
        "CR1, normal": around((residual**2).sum() * n / (n - 1), 1.96),
        "CR2, t of effective patients": around((residual**2 / (1 - share)).sum(), stats.t.ppf(0.975, least)),
        "CR3, t by sizes alone": around(cr3, stats.t.ppf(0.975, worst)),
        "CR3, t by Satterthwaite": (plain.low, plain.high),
        f"the same, variance x {REFITTED}: hms": (chosen.low, chosen.high),
    }


def measure(name: str, n_sets: int, seed: int) -> None:
    """Print the coverage of every interval for one run and for a difference."""
    n, uneven = SETTINGS[name]
    rng = np.random.default_rng([seed, list(SETTINGS).index(name)])
    means = np.random.default_rng(7).normal(size=(6, N_FEATURES)) * 1.6
    began, figures, effective = time.monotonic(), ([], []), []
    ends: tuple[list[dict[str, Ends]], list[dict[str, Ends]]] = ([], [])
    for _ in range(n_sets):
        made = make_set(rng, n, uneven, means)
        effective.append(effective_number(np.bincount(made.patient)))
        for which, values in enumerate((made.losses[0], made.losses[0] - made.losses[1])):
            figures[which].append(values.mean())
            ends[which].append(drawn(values, made.patient, rng) | left_out(values, made.patient))
    took = time.monotonic() - began
    print(f"\n{name}: {n} patients, {np.median(effective):.0f} effective, {n_sets} sets, {took:.0f} s")
    truths = [np.mean(values) for values in figures]
    print(
        f"{'':<38} {'one run':>8} {'low/high':>12} {'difference':>11} {'low/high':>12}   (true "
        f"{truths[0]:.4f}, {truths[1]:+.4f})"
    )
    for kind in ends[0][0]:
        told = []
        for truth, found in zip(truths, ends, strict=True):
            # Where an interval is refused, its set counts in no share.
            limits = np.array([one[kind] for one in found])
            limits = limits[np.isfinite(limits[:, 0])]
            below, above = (truth < limits[:, 0]).mean(), (truth > limits[:, 1]).mean()
            told.append(f"{1 - below - above:8.3f} {f'{below:.3f}/{above:.3f}':>12}")
        print(f"{kind:<38} " + "    ".join(told))


# --- sweeps of equal members ---------------------------------------------------------------------


def equal_members(rng: np.random.Generator, n_members: int, n: int, uneven: bool) -> Scores:
    """Return losses of members that are equally good: skewed, by patient, and alike within three families."""
    patient = np.repeat(np.arange(n), sizes(rng, n, uneven))
    n_items = patient.size
    base = rng.gamma(0.6, 1, n)[patient] + rng.gamma(0.7, 0.7, n_items)
    family = rng.normal(size=(3, n_items))[rng.integers(0, 3, n_members)]
    own = 0.12 * rng.standard_t(4, (n_members, n))[:, patient] + 0.2 * rng.standard_t(4, (n_members, n_items))
    return Scores(base + (own + 0.1 * family) * (0.3 + base), patient)


def measure_sweeps(n_sweeps: int, seed: int) -> None:
    """Print in how many sweeps of equal members somebody is told from the reference."""
    print(f"\n{n_sweeps} sweeps of equal members: how many name one that is better, or any that differs")
    for name in ("60 alike", "60 uneven"):
        for n_members in (5, 19, 30):
            rng = np.random.default_rng([seed, n_members])
            better = any_told = before = 0
            for _ in range(n_sweeps):
                made = equal_members(rng, n_members, *SETTINGS[name])
                pairs = [(k, 0) for k in range(1, n_members)]
                found = simultaneous_intervals(made.losses, pairs, made.patient)
                better += any(one.high < 0 for one in found)
                any_told += any(one.high < 0 or one.low > 0 for one in found)
                best = made.losses[1:].mean(axis=1).argmin() + 1
                ends = drawn(made.losses[best] - made.losses[0], made.patient, rng)
                before += ends["percentiles of drawn patients"][1] < 0
            print(
                f"{name}, {n_members:2} members: better {better}, any {any_told}; "
                f"the best alone, by percentiles: {before}"
            )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", default=2, type=int)
    parser.add_argument("--sets", default=2000, type=int, help="data sets per setting")
    parser.add_argument("--sweeps", action="store_true", help="sweeps of equal members instead")
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), help="settings, by their names")
    given = parser.parse_args()
    with threadpool_limits(1):
        if given.sweeps:
            measure_sweeps(400, given.seed)
        else:
            for name in given.only:
                measure(name, given.sets, given.seed)


if __name__ == "__main__":
    main()
