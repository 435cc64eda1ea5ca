"""Votes as a noisy measurement: how probable a panel's votes are, and what they say of the next vote.

Experts who look at one recording draw from its shares of classes, and the shares differ from what is
predicted of them: votes ~ multinomial(n, q), q ~ Dirichlet(alpha). The concentration, the sum of
alpha, says how firmly: at 1 a panel is nearly of one mind about any class, at 100 its votes scatter
like the prediction itself.

References
----------
Mosimann JE, "On the compound multinomial distribution", Biometrika 49 (1962).
Minka TP, "Estimating a Dirichlet distribution" (2000, revised 2012): fixed points of the likelihood.
Dempster AP, Laird NM, Rubin DB, "Maximum likelihood from incomplete data via the EM algorithm",
J R Stat Soc B 39 (1977).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.config.threads import one_thread

Floats = NDArray[np.float64]

SMALLEST_SHARE = 1e-6
"""A predicted share of 0 would make one vote impossible; no model is that sure."""

MOST_ENUMERATED = 60_000
"""Possible panels up to which a tail probability is exact; beyond, panels are drawn."""

N_DRAWS = 20_000
LEAST_GAIN = 1e-7
_TIE = 1e-9


# --- likelihood ----------------------------------------------------------------------------------


def dirichlet_multinomial_log(votes: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the log probability of each row of votes: shape (n_items,).

    Parameters
    ----------
    votes : counts, shape (n_items, n_classes); averaged counts are taken by the gamma function
    alpha : above 0, shape (n_classes,) or (n_items, n_classes)
    """
    from scipy.special import gammaln

    v, a = np.asarray(votes, dtype=np.float64), np.asarray(alpha, dtype=np.float64)
    n, whole = v.sum(axis=-1), a.sum(axis=-1)
    orders = gammaln(n + 1) - gammaln(v + 1).sum(axis=-1)
    return np.asarray(
        orders + gammaln(whole) - gammaln(n + whole) + (gammaln(v + a) - gammaln(a)).sum(axis=-1)
    )


# --- how improbable ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """How votes scatter around predictions.

    Attributes
    ----------
    concentration : of the Dirichlet around the prediction
    sharpness : power to which predicted shares are taken; below 1, the model was too sure
    """

    concentration: float
    sharpness: float

    def alpha(self, shares: ArrayLike) -> Floats:
        """Return the Dirichlet's parameters for predicted shares, shape (n_items, n_classes)."""
        return self.concentration * self.calibrated(shares)

    def calibrated(self, shares: ArrayLike) -> Floats:
        """Return predicted shares as sure as the votes bear out, rows sum to 1."""
        powers = np.clip(np.asarray(shares, dtype=np.float64), SMALLEST_SHARE, 1) ** self.sharpness
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def fit_noise(votes: ArrayLike, shares: ArrayLike) -> Noise:
    """Return the noise of greatest likelihood, from votes and out-of-fold predictions of them.

    Parameters
    ----------
    votes : counts, shape (n_items, n_classes), at least one item
    shares : predicted by a model that saw none of an item's votes, shape (n_items, n_classes)
    """
    from scipy import optimize

    def loss(logs: Floats) -> float:
        noise = Noise(float(np.exp(logs[0])), float(np.exp(logs[1])))
        return -float(dirichlet_multinomial_log(votes, noise.alpha(shares)).mean())

    bounds = [(np.log(1e-2), np.log(1e4)), (np.log(0.05), np.log(5))]
    options = {"xatol": 1e-5, "fatol": 1e-9}
    minimise: Any = optimize.minimize
    found = minimise(loss, np.zeros(2), method="Nelder-Mead", bounds=bounds, options=options)
    return Noise(float(np.exp(found.x[0])), float(np.exp(found.x[1])))


def tail_probability(votes: ArrayLike, shares: ArrayLike, noise: Noise) -> Floats:
    """Return how often a panel of that size would agree no better with the prediction: shape (n_items,).

    Agreement is the mean log share that the votes give the prediction, so that among panels of one size a
    lower probability means a larger divergence, while panels of 3 and of 16 votes are held against what each
    would do by chance. Where more than `MOST_ENUMERATED` panels are possible, they are drawn.

    Parameters
    ----------
    votes : counts, shape (n_items, n_classes), every row with a vote
    shares : predicted, shape (n_items, n_classes)
    noise : of such votes around such predictions
    """
    counts = np.asarray(votes, dtype=np.float64)
    p = noise.calibrated(shares)
    sizes = np.maximum(np.rint(counts.sum(axis=1)), 1).astype(np.int64)
    found = np.empty(len(counts))
    for size in np.unique(sizes).tolist():
        few = math.comb(size + counts.shape[1] - 1, size) <= MOST_ENUMERATED
        for row in np.flatnonzero(sizes == size).tolist():
            alpha = noise.concentration * p[row]
            least = float(counts[row] @ np.log(p[row])) * size / counts[row].sum() + _TIE * size
            if few:
                found[row] = _exact_tail(size, p[row], alpha, least)
            else:
                found[row] = _drawn_tail(size, p[row], alpha, least, np.random.default_rng([0, row]))
    return np.clip(found, np.finfo(float).tiny, 1)


@cache
def _panels(size: int, n_classes: int) -> NDArray[np.int64]:
    """Return every way to give ``size`` votes to classes: int64, shape (n_panels, n_classes)."""
    bars = np.array(list(itertools.combinations(range(size + n_classes - 1), n_classes - 1)), dtype=np.int64)
    bars = bars.reshape(-1, n_classes - 1)
    ends = (np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), size + n_classes - 1))
    return np.diff(np.concatenate(ends, axis=1), axis=1) - 1


def _exact_tail(size: int, p: Floats, alpha: Floats, least: float) -> float:
    """Return the probability of all panels whose agreement is at most ``least``."""
    from scipy.special import gammaln

    panels, steps = _panels(size, p.size), np.arange(size + 1)
    # A panel's probability is a product over classes of a factor that depends on its count alone.
    factors = gammaln(alpha[:, None] + steps) - gammaln(alpha)[:, None] - gammaln(steps + 1)
    low = panels[panels @ np.log(p) <= least]
    logs = sum(factors[k][low[:, k]] for k in range(p.size))
    whole = alpha.sum()
    return float(np.exp(logs + gammaln(size + 1) + gammaln(whole) - gammaln(size + whole)).sum())


def _drawn_tail(size: int, p: Floats, alpha: Floats, least: float, rng: np.random.Generator) -> float:
    """Return the share of drawn panels whose agreement is at most ``least``, never 0."""
    panels = rng.multinomial(size, rng.dirichlet(alpha, N_DRAWS))
    return float(((panels @ np.log(p) <= least).sum() + 1) / (N_DRAWS + 1))


# --- what the next vote would be -----------------------------------------------------------------


@dataclass(frozen=True)
class Mixture:
    """A mixture of Dirichlets: kinds of recordings, how often each is met and how its votes fall.

    Attributes
    ----------
    weight : float64, shape (n_components,), sums to 1
    alpha : float64, shape (n_components, n_classes)
    """

    weight: Floats
    alpha: Floats


def fit_mixture(votes: ArrayLike, n_components: int | None = None, *, n_rounds: int = 300) -> Mixture:
    """Return the mixture of Dirichlets of greatest likelihood, by EM from one start.

    The start is one component per consensus class, so that the same votes in any order give the same mixture;
    with one component it is the single Dirichlet. EM stops after ``n_rounds``, or where a round gains less
    log likelihood per item than `LEAST_GAIN`.

    Parameters
    ----------
    votes : counts, shape (n_items, n_classes), every row with a vote
    n_components : 1, or as many as classes (the default)

    References
    ----------
    Minka (2000), equation 55, for the step of each component.
    """
    rows = _count(np.asarray(votes, dtype=np.float64))
    # One thread: the order of sums, and with it the last digits, must not depend on the machine's load.
    with one_thread():
        return _em(rows, n_components or rows.votes.shape[1], n_rounds)


@dataclass(frozen=True)
class _Rows:
    """Different rows of votes with how often each is met, and where their counts are in a table.

    Counts take few values, so that gamma functions are computed once per value, not per item.
    """

    votes: Floats
    times: Floats
    values: Floats
    place: NDArray[np.int64]
    total_place: NDArray[np.int64]


def _count(votes: Floats) -> _Rows:
    rows, times = np.unique(votes, axis=0, return_counts=True)
    table = np.column_stack([rows, rows.sum(axis=1)])
    values, place = np.unique(table, return_inverse=True)
    place = place.reshape(table.shape)
    return _Rows(rows, times.astype(np.float64), values, place[:, :-1], place[:, -1])


def _em(rows: _Rows, n_components: int, n_rounds: int) -> Mixture:
    mixture, before = _start(rows.votes, rows.times, n_components), -np.inf
    for _ in range(n_rounds):
        logs = _component_logs(rows, mixture)
        top = logs.max(axis=1, keepdims=True)
        part = np.exp(logs - top)
        likelihood = float(rows.times @ (top[:, 0] + np.log(part.sum(axis=1))) / rows.times.sum())
        if likelihood - before < LEAST_GAIN:
            break
        before = likelihood
        mixture = _step(rows, rows.times[:, None] * part / part.sum(axis=1, keepdims=True), mixture)
    return mixture


def posterior_mean(votes: ArrayLike, mixture: Mixture) -> Floats:
    """Return the shares that the next vote would have, given those cast.

    float64, shape (n_items, n_classes), rows sum to 1; a row without votes has the mixture's mean.
    """
    v = np.asarray(votes, dtype=np.float64)
    logs = np.stack([dirichlet_multinomial_log(v, alpha) for alpha in mixture.alpha], axis=1)
    logs += np.log(mixture.weight)
    part = np.exp(logs - logs.max(axis=1, keepdims=True))
    part /= part.sum(axis=1, keepdims=True)
    raised = v[:, None, :] + mixture.alpha
    return np.asarray((part[:, :, None] * raised / raised.sum(axis=2, keepdims=True)).sum(axis=1))


def _start(rows: Floats, times: Floats, n_components: int) -> Mixture:
    n_classes = rows.shape[1]
    if n_components not in (1, n_classes):
        raise ValueError(f"a mixture has 1 component or one per class, {n_classes}, not {n_components}")
    own = np.zeros(len(rows), np.int64) if n_components == 1 else rows.argmax(axis=1)
    alpha, weight = np.full((n_components, n_classes), 0.1), np.full(n_components, 1e-3)
    for number in np.unique(own).tolist():
        mass = times[own == number]
        shares = rows[own == number] / rows[own == number].sum(axis=1, keepdims=True)
        alpha[number] = 3 * (0.02 + (1 - 0.02 * n_classes) * (mass @ shares) / mass.sum())
        weight[number] = mass.sum()
    return Mixture(weight / weight.sum(), alpha)


def mixture_log(votes: ArrayLike, mixture: Mixture) -> Floats:
    """Return the log probability of each row of votes under a mixture: shape (n_items,)."""
    logs = [dirichlet_multinomial_log(votes, alpha) for alpha in mixture.alpha]
    return np.asarray(np.logaddexp.reduce(np.stack(logs, axis=1) + np.log(mixture.weight), axis=1))


def _component_logs(rows: _Rows, mixture: Mixture) -> Floats:
    """Return the log of weight times likelihood, less what all components share: (n_rows, n_components)."""
    from scipy.special import gammaln

    columns, logs = np.arange(rows.votes.shape[1]), []
    for alpha in mixture.alpha:
        of_value = gammaln(rows.values[:, None] + alpha) - gammaln(alpha)
        of_total = gammaln(rows.values + alpha.sum()) - gammaln(alpha.sum())
        logs.append(of_value[rows.place, columns].sum(axis=1) - of_total[rows.total_place])
    return np.asarray(np.stack(logs, axis=1) + np.log(mixture.weight))


def _step(rows: _Rows, part: Floats, mixture: Mixture) -> Mixture:
    """Return the mixture after one round of EM: its weights, and one fixed-point step of each component."""
    from scipy.special import digamma

    n_values, alpha = rows.values.size, np.empty_like(mixture.alpha)
    for number, own in enumerate(mixture.alpha):
        mass = part[:, number]
        met = np.stack([np.bincount(at, weights=mass, minlength=n_values) for at in rows.place.T], axis=1)
        gain = (met * (digamma(rows.values[:, None] + own) - digamma(own))).sum(axis=0)
        totals = np.bincount(rows.total_place, weights=mass, minlength=n_values)
        whole = float((totals * (digamma(rows.values + own.sum()) - digamma(own.sum()))).sum())
        alpha[number] = np.clip(own * gain / whole, 1e-4, 1e4) if whole > 0 else own
    weight = np.maximum(part.sum(axis=0), 1e-12)
    return Mixture(weight / weight.sum(), alpha)
