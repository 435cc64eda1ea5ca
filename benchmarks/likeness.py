"""Compares made-up recordings with real ones: figures of the signals, and whether a model tells them apart.

    python benchmarks/likeness.py --real DIR [DIR ...] [--recordings N] [--patients N] [--seed N]

A DIR has the competition's layout. Of the real recordings those in odd rows of train.csv (first,
third ...) are for tuning the generator, the others for reporting; both are shown, and how well
models tell made-up from real is stated for the reporting half and for all. Classes are matched:
every real recording stands against made-up ones of its class. Likeness is reported, not chased:
only what decides something downstream is worth imitating.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from recordings import competition_folder, parse
from scipy import stats
from scipy.signal import butter, sosfiltfilt

from hms.competition import CLASSES, EEG_CHANNELS, SFREQ_HZ, SUB_WINDOW_S, VOTE_COLUMNS
from hms.labels.summary import class_agreement, per_patient
from hms.quality.electrodes import NEIGHBOURS

Array = NDArray[Any]

STATISTICS = {
    "pair_sd_uv": "SD of a pair, µV",
    "slope": "slope of the spectrum, 2-20 Hz",
    "fast_share": "amplitude 25-55 Hz over 1-20 Hz",
    "drift_uv": "drift (range of means of 2 s), µV",
    "mains_db": "mains over the neighbourhood, dB",
    "neighbours": "correlation of neighbours",
    "dimension": "effective dimension",
}
"""Figures of a recording, by the name they have here."""
IN_LOGARITHMS = ("pair_sd_uv", "fast_share", "drift_uv", "dimension")

CHAINS = ("Fp1 F7 T3 T5 O1", "Fp1 F3 C3 P3 O1", "Fp2 F8 T4 T6 O2", "Fp2 F4 C4 P4 O2")
ANODES = [EEG_CHANNELS.index(name) for chain in CHAINS for name in chain.split()[:-1]]
CATHODES = [EEG_CHANNELS.index(name) for chain in CHAINS for name in chain.split()[1:]]

N_BLOCK = int(2 * SFREQ_HZ)
FREQS = np.fft.rfftfreq(N_BLOCK, 1 / SFREQ_HZ)
LEAST = 4
PER_REAL = 20
"""Made-up recordings at most that stand against one real recording."""


# --- figures of a recording ----------------------------------------------------------------------


def statistics(eeg: Array) -> dict[str, float]:
    """Return the STATISTICS of a recording.

    Parameters
    ----------
    eeg : shape (19, n_samples), µV
        Missing samples hold the channel's mean. ``pair_sd_uv``, ``slope`` and ``fast_share`` are
        medians over the 16 pairs of the double banana, ``drift_uv`` is of the electrode that
        drifts most, ``mains_db`` the median over electrodes, ``neighbours`` the median over
        electrodes of the best correlation with a neighbour, and ``dimension`` the squared sum of the
        electrodes' eigenvalues over the sum of their squares. SD, correlation and dimension are
        of 0.5-20 Hz.
    """
    eeg = _without_gaps(np.asarray(eeg, dtype=np.float64))
    inside = sosfiltfilt(BANDPASS, eeg, axis=1)
    blocks = eeg[:, : eeg.shape[1] // N_BLOCK * N_BLOCK].reshape(len(eeg), -1, N_BLOCK)
    power, pair_power = _power(blocks), _power(blocks[ANODES] - blocks[CATHODES])
    slow, fast = _sum(pair_power, 1, 20), _sum(pair_power, 25, 55)
    covariance = np.cov(inside)
    eigenvalues = np.linalg.eigvalsh(covariance)
    return {
        "pair_sd_uv": float(np.median((inside[ANODES] - inside[CATHODES]).std(axis=1))),
        "slope": float(np.median(_slopes(pair_power))),
        "fast_share": float(np.median(np.sqrt(fast / np.maximum(slow, TINY)))),
        "drift_uv": float(np.ptp(blocks.mean(axis=2), axis=1).max()),
        "mains_db": float(max(_line_db(power, hz) for hz in (50, 60))),
        "neighbours": _neighbour_correlation(covariance),
        "dimension": float(eigenvalues.sum() ** 2 / np.sum(eigenvalues**2)),
    }


TINY = 1e-9
BANDPASS = butter(4, (0.5, 20.0), "bandpass", fs=SFREQ_HZ, output="sos")


def _without_gaps(eeg: Array) -> Array:
    lost = ~np.isfinite(eeg)
    if not lost.any():
        return eeg
    centre = np.array([row[~gap].mean() if (~gap).any() else 0 for row, gap in zip(eeg, lost, strict=True)])
    return np.where(lost, centre[:, None], eeg)


def _power(blocks: Array) -> Array:
    taper = np.hanning(N_BLOCK + 1)[:N_BLOCK]
    centred = blocks - blocks.mean(axis=2, keepdims=True)
    power: Array = np.mean(np.abs(np.fft.rfft(centred * taper)) ** 2, axis=1)
    return power


def _sum(power: Array, low_hz: float, high_hz: float) -> Array:
    total: Array = power[:, (low_hz <= FREQS) & (high_hz >= FREQS)].sum(axis=1)
    return total


def _slopes(power: Array) -> Array:
    inside = (FREQS >= 2) & (FREQS <= 20)
    slopes: Array = np.polyfit(np.log(FREQS[inside]), np.log(power[:, inside].T + TINY), 1)[0]
    return slopes


def _line_db(power: Array, mains_hz: float) -> float:
    off = np.abs(FREQS - mains_hz)
    line, near = power[:, off <= 0.5].mean(axis=1), power[:, (off >= 3) & (off <= 8)].mean(axis=1)
    return float(np.median(10 * np.log10((line + TINY) / (near + TINY))))


def _neighbour_correlation(covariance: Array) -> float:
    sd = np.sqrt(np.diag(covariance))
    alive = sd > 1e-3
    correlation = covariance / np.maximum(np.outer(sd, sd), TINY)
    beside = NEIGHBOURS & alive & alive[:, None]
    best = np.where(beside, correlation, -1).max(axis=1)
    return float(np.median(best[beside.any(axis=1)])) if beside.any() else float("nan")


# --- data sets -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """Figures of a data set's recordings, with their classes and patients."""

    rows: pd.DataFrame
    label: NDArray[np.int64]
    patient: NDArray[Any]

    def of(self, chosen: Array) -> Look:
        """Return the look at some of the recordings."""
        return Look(self.rows.iloc[chosen], self.label[chosen], self.patient[chosen])


def look_at(folder: Path) -> Look:
    """Return figures of all recordings of a folder, of the sub-window with most votes of each."""
    table = pd.read_csv(folder / "train.csv")
    votes = table[list(VOTE_COLUMNS)].to_numpy()
    first = pd.Series(-votes.sum(axis=1)).groupby(table["eeg_id"], sort=False).idxmin().to_numpy()
    rows = pd.DataFrame([statistics(eeg) for eeg in _sub_windows(folder, table.iloc[first])])
    return Look(rows, votes[first].argmax(axis=1), table["patient_id"].to_numpy()[first])


def _sub_windows(folder: Path, chosen: pd.DataFrame) -> Iterator[Array]:
    for name, offset_s in zip(chosen["eeg_id"], chosen["eeg_label_offset_seconds"], strict=True):
        frame = pd.read_parquet(folder / "train_eegs" / f"{name}.parquet", columns=list(EEG_CHANNELS))
        start = round(offset_s * SFREQ_HZ)
        yield frame.to_numpy()[start : start + round(SUB_WINDOW_S * SFREQ_HZ)].T


def together(looks: list[Look]) -> Look:
    """Return several looks as one."""
    return Look(
        pd.concat([look.rows for look in looks], ignore_index=True),
        np.concatenate([look.label for look in looks]),
        np.concatenate([[f"{i}/{p}" for p in look.patient] for i, look in enumerate(looks)]),
    )


# --- telling them apart --------------------------------------------------------------------------


def matched(real: Look, made: Look, rng: np.random.Generator) -> Look:
    """Return made-up recordings with the classes of the real ones: as many of each, times one factor."""
    places = [np.flatnonzero(made.label == k) for k in range(6)]
    counts = np.bincount(real.label, minlength=6)
    factor = min(PER_REAL, *(places[k].size // counts[k] for k in np.flatnonzero(counts)))
    if not factor:
        few = ", ".join(CLASSES[k] for k in np.flatnonzero(counts) if places[k].size < counts[k])
        raise SystemExit(f"fewer made-up recordings than real ones are {few}; raise --recordings")
    return made.of(
        np.concatenate([rng.permutation(p)[: factor * n] for p, n in zip(places, counts, strict=True)])
    )


def auc_of(real: Look, made: Look, model: Any, seed: int = 0) -> tuple[float, float, float]:
    """Return the area under the curve of predictions for recordings left out, and its 95 % interval.

    The interval draws real and made-up recordings anew; 0.5: not to be told apart.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rng = np.random.default_rng(seed)
    made = matched(real, made, rng)
    x = pd.concat([real.rows, made.rows]).assign(
        **{name: lambda t, name=name: np.log(t[name] + TINY) for name in IN_LOGARITHMS}
    )
    y = np.repeat([1, 0], [len(real.rows), len(made.rows)])
    folds = StratifiedKFold(min(10, len(real.rows)), shuffle=True, random_state=seed)
    score = cross_val_predict(model, x.to_numpy(), y, cv=folds, method="predict_proba")[:, 1]
    ones, zeros = np.flatnonzero(y), np.flatnonzero(y == 0)
    drawn = []
    for _ in range(1000):
        rows = np.concatenate([rng.choice(ones, ones.size), rng.choice(zeros, zeros.size)])
        drawn.append(area(y[rows], score[rows]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return area(y, score), float(low), float(high)


def area(y: Array, score: Array) -> float:
    """Return the share of pairs of both kinds of which the one of kind 1 scores higher; ties are half."""
    n_ones, n_zeros = int(y.sum()), int((y == 0).sum())
    above = stats.rankdata(score)[y == 1].sum() - n_ones * (n_ones + 1) / 2
    return float(above / (n_ones * n_zeros))


def models() -> dict[str, Any]:
    """Return what is to tell real from made-up, each balanced between the two."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    boosting = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=4, min_samples_leaf=3, class_weight="balanced", random_state=0
    )
    return {"logistic regression": linear, "boosting": boosting}


# --- the tables ----------------------------------------------------------------------------------


def spread(values: pd.Series) -> str:
    """Return a median with its tenth and ninetieth percentile."""
    low, middle, high = (f"{v:.3g}" for v in values.quantile([0.1, 0.5, 0.9]))
    return f"{middle} ({low} to {high})"


def patients_of(look: Look) -> list[str]:
    """Return how alike a patient's recordings are, and as how many patients they count."""
    alike, many = class_agreement(look.label, look.patient), per_patient(look.patient)
    within = "-" if alike["same_patient"] is None else f"{alike['same_patient']:.2f}"
    chance = "-" if alike["other_patient"] is None else f"{alike['other_patient']:.2f}"
    return [f"{within} ({chance})", f"{many['effective']:.0f} of {many['patients']}"]


def main() -> None:
    """Print the tables."""
    options = parse(
        __doc__ or "",
        real={"type": competition_folder, "nargs": "+", "required": True},
        recordings={"type": int, "default": 300},
        patients={"type": int, "default": 120},
        seed={"type": int, "default": 0},
    )
    real = together([look_at(folder) for folder in options.real])
    if len(real.rows) < LEAST:
        raise SystemExit(
            f"{len(real.rows)} real recordings are too few to halve and to learn from; {LEAST} are needed"
        )
    made = look_at(made_up(options.work, options.recordings, options.patients, options.seed))
    is_tuning = np.arange(len(real.rows)) % 2 == 0
    halves = {
        "real, to tune on": real.of(np.flatnonzero(is_tuning)),
        "real, to report": real.of(np.flatnonzero(~is_tuning)),
    }
    columns = {**halves, "real, all": real, "made up": made}
    print("| median (10 to 90 %) | " + " | ".join(f"{n} ({len(v.rows)})" for n, v in columns.items()) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for name, text in STATISTICS.items():
        print(f"| {text} | " + " | ".join(spread(look.rows[name]) for look in columns.values()) + " |")
    for row, text in enumerate(("same class given same patient (other patient)", "effective patients")):
        print(f"| {text} | " + " | ".join(patients_of(look)[row] for look in columns.values()) + " |")
    print("\n| told apart by | real, to report | real, all |\n|---|---|---|")
    for name, model in models().items():
        found = [auc_of(look, made, model) for look in (halves["real, to report"], real)]
        print(f"| {name}, AUC | " + " | ".join(f"{a:.2f} ({b:.2f} to {c:.2f})" for a, b, c in found) + " |")


def made_up(work: Path, n_recordings: int, n_patients: int, seed: int) -> Path:
    """Return the folder of an embedded data set, made if it is not there."""
    import hms
    from hms.sources.embedded import open_synthetic

    data = [f"data.n_recordings={n_recordings}", f"data.n_patients={n_patients}", f"data.seed={seed}"]
    params = hms.compose(*data, "data.write_spectrograms=false").data
    return open_synthetic(params, outputs_dir=work, n_jobs=-1).root


if __name__ == "__main__":
    main()
