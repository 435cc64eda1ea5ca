"""A baseline without a network: what a linear model reads off the scalograms.

It answers "does this preparation carry the labels at all, and is it better than that
one?" in seconds, out of fold and by the package's own splits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.config.threads import one_thread
from hms.labels.intervals import paired_interval
from hms.registry import Limits, Params, PositiveFloat, PositiveInt, register, settings_of
from hms.training.metric import confusion_counts, plain_groups, reliability, row_divergence, scores

Floats = NDArray[np.float64]
Fitter = Callable[[Floats, Floats, Floats, Floats], Floats]
"""(features, targets, weights) to fit, features to predict -> predictions."""

N_BANDS = 12
"""Groups of neighbouring frequencies whose level is a feature."""

N_RHYTHM_BANDS = 4
RHYTHM_EDGES_HZ = (0.3, 0.6, 0.9, 1.2, 1.6, 2.0, 2.5, 3.0, 4.0)
"""Rates at which power may come and go: periodic discharges recur at 0.5-3 Hz (ACNS 2021)."""

SET_ASIDE = -2
"""Number in the place of a fold's where the patient is set aside."""

_EVEN = 1e-9
"""A feature whose spread is below this share of its size is constant in the training part."""


@settings_of("baseline")
@dataclass(frozen=True)
class Fitted(Params):
    """Settings of every fitted baseline.

    Attributes
    ----------
    set_aside : share of patients that no fold learns from
    """

    set_aside: Annotated[float, Limits(at_least=0, at_most=0.9)]


@dataclass(frozen=True)
class Logreg(Fitted):
    """Settings of the linear baseline: shrinkage, and iterations at most.

    Attributes
    ----------
    l2 : shrinkage of the coefficients of standardised features
    max_iterations : largest number of iterations of the fit
    """

    l2: PositiveFloat
    max_iterations: PositiveInt


@register("baseline", "none")
def no_baseline() -> None:
    """Fit nothing; the stage is not made."""


# --- features ------------------------------------------------------------------------------------


def summarise_scalogram(
    x: NDArray[Any], *, frame_rate_hz: float, mirror: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return summaries of a scalogram that do not tell left from right.

    Per output and band: level, its spread and its trend over the window, and how much the level comes and
    goes at each of eight rates. Of two mirrored outputs, their mean and their distance are kept, because no
    class names a side. float32, shape (n_features,).

    Parameters
    ----------
    x : shape (n_outputs, n_freqs, n_frames)
    frame_rate_hz : frames per second
    mirror : int64, shape (n_outputs,), see `hms.training.mirror.mirrored_outputs`
    """
    values = np.asarray(x, dtype=np.float64)
    bands = _band_means(values, N_BANDS)
    half = bands.shape[-1] // 2
    trend = bands[..., half:].mean(axis=-1) - bands[..., :half].mean(axis=-1)
    rhythm = _rhythm(_band_means(values, N_RHYTHM_BANDS), frame_rate_hz)
    per_output = np.concatenate([bands.mean(axis=-1), bands.std(axis=-1), trend, rhythm], axis=1)
    return _without_side(per_output, mirror).astype(np.float32)


def _band_means(values: Floats, n_bands: int) -> Floats:
    """Average neighbouring frequencies: shape (n_outputs, at most n_bands, n_frames)."""
    groups = np.array_split(values, min(n_bands, values.shape[1]), axis=1)
    return np.stack([group.mean(axis=1) for group in groups], axis=1)


def _rhythm(bands: Floats, frame_rate_hz: float) -> Floats:
    """Return the modulation of each band at each rate: shape (n_outputs, n_bands * n_rates)."""
    n_frames = bands.shape[-1]
    spectrum = np.abs(np.fft.rfft(bands - bands.mean(axis=-1, keepdims=True), axis=-1)) / n_frames
    rates = np.fft.rfftfreq(n_frames, 1 / frame_rate_hz)
    member = np.digitize(rates, RHYTHM_EDGES_HZ) - 1
    inside = member[:, None] == np.arange(len(RHYTHM_EDGES_HZ) - 1)
    mean = spectrum @ (inside / np.maximum(inside.sum(axis=0), 1))
    return np.asarray(mean.reshape(len(bands), -1))


def _without_side(per_output: Floats, mirror: NDArray[np.int64]) -> Floats:
    """Replace each pair of mirrored rows by its mean and its distance; other rows stay."""
    image = np.where(mirror < 0, np.arange(len(mirror)), mirror)
    first = np.arange(len(image)) <= image
    paired = first & (np.arange(len(image)) != image)
    mean = (per_output + per_output[image])[first] / 2
    distance = np.abs(per_output - per_output[image])[paired]
    return np.concatenate([mean.ravel(), distance.ravel()])


# --- the linear model ----------------------------------------------------------------------------


@register("baseline", "logreg", Logreg)
def logreg(train: Floats, target: Floats, weight: Floats, valid: Floats, params: Logreg) -> Floats:
    """Return class shares for ``valid`` from a weighted multinomial logistic regression.

    Centre and spread of the features come from the training part alone. float64, shape (n_valid, n_classes),
    rows sum to 1.

    Parameters
    ----------
    train, valid : shape (n_train, n_features) and (n_valid, n_features)
    target : shape (n_train, n_classes), rows sum to 1: soft labels are fitted as they are
    weight : shape (n_train,), at least one above 0
    """
    from scipy.special import softmax

    centre = np.average(train, axis=0, weights=weight)
    spread = np.sqrt(np.average((train - centre) ** 2, axis=0, weights=weight))
    varies = spread > _EVEN * np.maximum(np.abs(centre), 1.0)
    scale = np.where(varies, spread, np.inf)
    coefficients, intercept = fit_softmax(
        (train - centre) / scale, target, weight, l2=params.l2, max_iterations=params.max_iterations
    )
    return np.asarray(softmax(((valid - centre) / scale) @ coefficients + intercept, axis=1))


def fit_softmax(
    features: Floats, target: Floats, weight: Floats, *, l2: float, max_iterations: int
) -> tuple[Floats, Floats]:
    """Minimise sum(w_i H(y_i, p_i)) / sum(w_i) + l2 / 2 |coefficients|^2; the intercept is free.

    Returns
    -------
    coefficients : float64, shape (n_features, n_classes)
    intercept : float64, shape (n_classes,), zero in the mean

    References
    ----------
    Bishop CM, Pattern Recognition and Machine Learning (2006), section 4.3.4.
    """
    from scipy import optimize

    n_features, n_classes = features.shape[1], target.shape[1]
    share = (weight / weight.sum())[:, None]

    def loss(flat: Floats) -> tuple[float, Floats]:
        table = flat.reshape(n_features + 1, n_classes)
        logits = features @ table[:-1] + table[-1]
        top = logits.max(axis=1, keepdims=True)
        log_sum = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        value = float((share * target * (log_sum - logits)).sum()) + l2 / 2 * float((table[:-1] ** 2).sum())
        error = share * (np.exp(logits - log_sum) - target)
        slope = np.vstack([features.T @ error + l2 * table[:-1], error.sum(axis=0)])
        return value, slope.ravel()

    # One thread: the order of sums, and with it the last digits, must not depend on the machine's load.
    with one_thread():
        options = {"maxiter": max_iterations, "gtol": 1e-6, "ftol": 1e-12}
        start = np.zeros((n_features + 1) * n_classes)
        minimise: Any = optimize.minimize
        found = minimise(loss, start, jac=True, method="L-BFGS-B", options=options)
    table = np.asarray(found.x).reshape(n_features + 1, n_classes)
    return table[:-1], table[-1] - table[-1].mean()


def class_prior(train: Floats, target: Floats, weight: Floats, valid: Floats) -> Floats:
    """Return the weighted mean target for every row of ``valid``: what one knows without the signal."""
    mean = np.average(target, axis=0, weights=weight)
    return np.broadcast_to(mean / mean.sum(), (len(valid), len(mean))).copy()


# --- out of fold ---------------------------------------------------------------------------------


class NothingToTrainOn(ValueError):
    """A fold has items to predict and none to learn from."""


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of items by models that did not see them.

    Attributes
    ----------
    prediction : float64, shape (n_items, n_classes); NaN where no fold validates the item
    fold : int64, shape (n_items,); -1 there, and `SET_ASIDE` where the patient is set aside and
        a model of all others predicts the item
    """

    prediction: Floats
    fold: NDArray[np.int64]

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Which items a fold predicts."""
        return np.asarray(self.fold >= 0)

    @property
    def set_aside(self) -> NDArray[np.bool_]:
        """Which items are of patients set aside."""
        return np.asarray(self.fold == SET_ASIDE)


def out_of_fold(
    features: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike,
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    fit: Fitter,
    *,
    aside: NDArray[np.bool_] | None = None,
    extra: NDArray[np.bool_] | None = None,
) -> OutOfFold:
    """Fit on each split's training rows and predict its validation rows.

    A fold without a validation row has nothing to predict and is not fitted. Raises `NothingToTrainOn` if
    another has no row to train on that weighs anything.

    Parameters
    ----------
    features : shape (n_items, n_features), finite
    target : shape (n_items, n_classes), rows sum to 1
    weight : shape (n_items,), or (n_folds, n_items) where each fold weighs classes by its own part;
        the model of what is not set aside then takes the mean of the folds
    splits : training and validation rows, per fold
    aside : shape (n_items,), items that no fold learns from or predicts; a model of all others does
    extra : shape (n_items,), items that may be learned from and are never predicted
    """
    x, y, weights = (np.asarray(values, dtype=np.float64) for values in (features, target, weight))
    prediction, number = np.full_like(y, np.nan), np.full(len(y), -1, dtype=np.int64)
    out = np.zeros(len(y), dtype=np.bool_) if aside is None else aside
    parts = [(fold, train[~out[train]], valid[~out[valid]]) for fold, (train, valid) in enumerate(splits)]
    judged = out if extra is None else out & ~extra
    parts.append((SET_ASIDE, np.flatnonzero(~out), np.flatnonzero(judged)))
    for fold, train, valid in parts:
        if not len(valid):
            continue
        w = weights if weights.ndim == 1 else weights.mean(axis=0) if fold == SET_ASIDE else weights[fold]
        if not w[train].sum() > 0:
            name = "what was not set aside" if fold == SET_ASIDE else f"fold {fold}"
            raise NothingToTrainOn(f"{name} has no item to train on with a weight above 0")
        prediction[valid] = fit(x[train], y[train], w[train], x[valid])
        number[valid] = fold
    return OutOfFold(prediction, number)


def report_scores(
    target: Floats,
    model: OutOfFold,
    prior: OutOfFold,
    *,
    vote_sum: NDArray[Any],
    patient_id: NDArray[Any],
    classes: Sequence[str],
    threshold: int,
) -> dict[str, Any]:
    """Return divergences of the model and of the class prior with intervals, and where the model errs.

    Returns
    -------
    dict
        Ready for JSON: ``model`` and ``prior`` as `hms.training.metric.scores` gives them,
        ``gain`` (model minus prior, paired; below 0 the model is better) by stratum,
        ``confusion``, ``reliability``, ``n_items``, ``n_set_aside`` and ``n_without_prediction``.
    """
    rows, patients = model.covered, patient_id[model.covered]
    groups: dict[str, Any] = {
        "vote_sum": vote_sum[rows],
        "patient_id": patients,
        "fold": model.fold[rows],
        "classes": classes,
        "threshold": threshold,
    }
    y, p, q = target[rows], model.prediction[rows], prior.prediction[rows]
    of_model, of_prior = row_divergence(y, p), row_divergence(y, q)
    masks = {"all": np.ones(len(y), bool), f"{threshold}+": vote_sum[rows] >= threshold}
    return {
        "n_items": int(rows.sum()),
        "n_set_aside": int(model.set_aside.sum()),
        "n_without_prediction": int((~rows & ~model.set_aside).sum()),
        "model": plain_groups(scores(y, p, **groups)),
        "prior": plain_groups(scores(y, q, **groups)),
        "gain": {
            name: paired_interval(of_model[mask], of_prior[mask], patients[mask]).to_dict()
            for name, mask in masks.items()
        },
        "confusion": {"classes": list(classes), "counts": confusion_counts(y, p).tolist()},
        "reliability": reliability(y, p, classes),
    }
