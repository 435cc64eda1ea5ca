"""A seeded data set in the competition's layout, whose labels follow from its signals.

Every recording is a pure function of (seed, its number), so that the files are the same
bytes whatever the number of workers. What experts see in a recording is drawn first, as
a distribution over the classes; the votes are drawn from it, and the patterns are laid
over background EEG with strengths that follow from it. A model can therefore learn the
votes from the signals, and the drawn distribution bounds what any model can reach.

References
----------
Hirsch LJ et al., "American Clinical Neurophysiology Society's Standardized Critical Care
EEG Terminology: 2021 Version", J Clin Neurophysiol 38 (2021): rates and forms of periodic
discharges, rhythmic delta and seizures.
Jing J et al., "Development of Expert-Level Classification of Seizures and Rhythmic and
Periodic Patterns During EEG Interpretation", Neurology 100 (2023): the votes of 20 experts
that the Dirichlet parameters are fitted to.
Kaggle, "HMS - Harmful Brain Activity Classification" (2024), data page: files and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import (
    CHANNELS,
    CLASS_NAMES,
    CLASSES,
    EEG_CHANNELS,
    JUDGED_LENGTH_S,
    JUDGED_START_S,
    SFREQ_HZ,
    SUB_WINDOW_S,
    TRAIN_COLUMNS,
)
from hms.registry import Limits, PositiveInt
from hms.sources.base import SourceParams

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Plan",
    "Row",
    "Synthetic",
    "chain_power",
    "generate",
    "plan_recordings",
    "simulate",
    "votes_table",
]

Array = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Synthetic(SourceParams):
    """Settings of the synthetic data set."""

    root: str | None
    n_recordings: PositiveInt
    n_patients: PositiveInt
    seed: Annotated[int, Limits(at_least=0)]
    write_spectrograms: bool

    def __post_init__(self) -> None:
        _check_sizes(self.n_recordings, self.n_patients)


# ------------------------------------------------------------------------------- votes

STRATA = ("high", "low")
P_HIGH = 0.28
"""Share of recordings whose first panel has 10 experts or more; with second panels it is 35 %."""

CLASS_PRIOR = {
    "high": (0.05, 0.17, 0.19, 0.13, 0.13, 0.33),
    "low": (0.29, 0.12, 0.08, 0.145, 0.20, 0.165),
}
"""How often each class is the likely one; experts met other recordings in either stratum."""

DIRICHLET = (
    (4.6, 0.8, 0.8, 0.5, 0.3, 0.7),
    (0.3, 4.9, 0.2, 0.5, 0.1, 0.8),
    (1.3, 0.5, 7.6, 0.05, 0.3, 0.95),
    (0.7, 2.7, 0.06, 14.9, 1.4, 5.4),
    (0.4, 0.4, 1.0, 0.8, 13.1, 4.7),
    (0.2, 0.9, 0.6, 1.3, 1.8, 6.7),
)
"""Expert opinion given the likely class (rows) over all classes, fitted to IIIC votes."""

LOW_COUNTS = (1, 2, 3, 4, 5, 6, 7)
LOW_COUNT_P = (0.081, 0.043, 0.72, 0.064, 0.075, 0.0165, 0.0005)
"""Vote counts under 10 and their shares: 3 in 72 %, the others as in train.csv."""

P_LONG = 0.63
P_SECOND_PANEL = 0.16
"""Share of the recordings with several rows whose later rows were judged by another panel."""
P_OFFSET_USED = 0.35
P_SHARED_SPECTROGRAM = 0.35
MAX_EXTRA_S = 240
MAX_ID = 4_000_000_000
MAX_PATIENTS = 60_000
MAX_RECORDINGS = 1_000_000
"""More would not fit on a disk: each takes about a megabyte."""

# Streams keep what is drawn for one purpose apart from what is drawn for another.
_TABLE, _PATIENT, _VOTES, _SIGNAL, _SPECTROGRAM, _LABEL = range(6)


@dataclass(frozen=True)
class Row:
    """One labelled sub-window: its start in seconds, its votes, and what they were drawn from."""

    offset_s: int
    votes: tuple[int, ...]
    truth: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """All about one recording but its samples.

    Attributes
    ----------
    index : number of the recording, which with the seed gives its samples
    start_s : where the recording starts, in seconds after the first one of its spectrogram
    latent : share of experts in favour of each class
    gain : the patient's amplitude, 1 in the median
    """

    index: int
    eeg_id: int
    patient_id: int
    spectrogram_id: int
    start_s: int
    gain: float
    latent: tuple[float, ...]
    rows: tuple[Row, ...]

    @property
    def duration_s(self) -> int:
        """Length of the recording: it ends with its last sub-window."""
        return self.rows[-1].offset_s + int(SUB_WINDOW_S)


def plan_recordings(*, n_recordings: int, n_patients: int, seed: int) -> list[Plan]:
    """Return who was recorded, where the labelled sub-windows lie and how experts voted.

    Raises
    ------
    ValueError
        If there are more patients than recordings, or more than MAX_PATIENTS.
    """
    _check_sizes(n_recordings, n_patients)
    rng = np.random.default_rng([seed, _TABLE])
    owners = _owners(rng, n_recordings, n_patients)
    patient_ids = _unique_ids(rng, n_patients, above=50, below=65_536)
    eeg_ids = _unique_ids(rng, n_recordings, above=500_000, below=MAX_ID)
    spectrogram_ids = _unique_ids(rng, n_recordings, above=300_000, below=MAX_ID // 2)
    plans: list[Plan] = []
    latest: dict[int, Plan] = {}
    for index, owner in enumerate(owners):
        latent, rows = _draw_rows(np.random.default_rng([seed, _VOTES, index]))
        spectrogram_id, start_s = _place_in_spectrogram(rng, latest.get(owner), spectrogram_ids[index])
        gain = float(np.random.default_rng([seed, _PATIENT, owner]).lognormal(0, 0.2))
        ids = (eeg_ids[index], patient_ids[owner], spectrogram_id)
        latest[owner] = Plan(index, *ids, start_s, gain, latent, rows)
        plans.append(latest[owner])
    return plans


def _check_sizes(n_recordings: int, n_patients: int) -> None:
    if n_patients > n_recordings:
        raise ValueError(
            f"n_patients {n_patients} is more than n_recordings {n_recordings}; "
            "every patient needs at least one recording"
        )
    if n_recordings > MAX_RECORDINGS:
        raise ValueError(f"n_recordings {n_recordings} is more than {MAX_RECORDINGS}, the most that are made")
    if n_patients > MAX_PATIENTS:
        raise ValueError(
            f"n_patients {n_patients} is more than {MAX_PATIENTS}, the number of patient ids there are"
        )


def _owners(rng: Rng, n_recordings: int, n_patients: int) -> list[int]:
    """Return each recording's patient: few have many recordings, most about three."""
    weights = rng.lognormal(0, 1.1, n_patients)
    counts = 1 + rng.multinomial(n_recordings - n_patients, weights / weights.sum())
    return [int(owner) for owner in rng.permutation(np.repeat(np.arange(n_patients), counts))]


def _unique_ids(rng: Rng, n: int, *, above: int, below: int) -> list[int]:
    return [above + int(i) for i in rng.choice(below - above, size=n, replace=False)]


def _place_in_spectrogram(rng: Rng, before: Plan | None, own_id: int) -> tuple[int, int]:
    """Return the spectrogram of a recording and its start: sometimes that of the patient's last one."""
    shared, pause_s = rng.random() < P_SHARED_SPECTROGRAM, 2 * int(rng.integers(5, 60))
    if before is None or not shared:
        return own_id, 0
    return before.spectrogram_id, before.start_s + before.duration_s + pause_s


def _draw_rows(rng: Rng) -> tuple[tuple[float, ...], tuple[Row, ...]]:
    """Return a recording's latent distribution and its rows."""
    stratum = STRATA[int(rng.random() >= P_HIGH)]
    likely = rng.choice(len(CLASSES), p=CLASS_PRIOR[stratum])
    latent = rng.dirichlet(DIRICHLET[likely])
    offsets = _draw_offsets(rng)
    first = _draw_panel(rng, latent, stratum)
    second = _draw_panel(rng, latent, STRATA[1 - STRATA.index(stratum)])
    n_first = len(offsets)
    if len(offsets) > 1 and rng.random() < P_SECOND_PANEL:
        n_first = int(rng.integers(1, len(offsets)))
    rows = tuple(Row(s, *(first if i < n_first else second)) for i, s in enumerate(offsets))
    return tuple(latent.tolist()), rows


def _draw_offsets(rng: Rng) -> list[int]:
    """Return the starts of the sub-windows in even seconds: 0 alone in 37 % of recordings."""
    extra_s = 2 * int(np.clip(np.ceil(rng.lognormal(np.log(21), 1.2) / 2), 1, MAX_EXTRA_S // 2))
    used = rng.random(extra_s // 2 - 1) < P_OFFSET_USED
    if rng.random() >= P_LONG:
        return [0]
    return [0, *(2 + 2 * np.flatnonzero(used)).tolist(), extra_s]


def _draw_panel(
    rng: Rng, latent: NDArray[np.float64], stratum: str
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the votes of one panel of experts and the distribution they were drawn from.

    Panels under 10 agree more than independent experts would: their recordings were chosen
    for being clear, which squaring the distribution imitates.
    """
    if stratum == "high":
        n, truth = 10 + int(rng.binomial(18, 1 / 3)), latent
    else:
        n, truth = int(rng.choice(LOW_COUNTS, p=LOW_COUNT_P)), latent**2 / np.sum(latent**2)
    return tuple(rng.multinomial(n, truth).tolist()), tuple(truth.tolist())


def votes_table(plans: list[Plan], *, seed: int) -> pd.DataFrame:
    """Return train.csv: one row per sub-window, TRAIN_COLUMNS in their order."""
    import pandas as pd

    n_rows = sum(len(plan.rows) for plan in plans)
    label_ids = iter(_unique_ids(np.random.default_rng([seed, _LABEL]), n_rows, above=300, below=MAX_ID))
    sub_ids: dict[int, int] = {}
    records = []
    for plan in plans:
        for sub_id, row in enumerate(plan.rows):
            spectrogram_sub_id = sub_ids.setdefault(plan.spectrogram_id, 0)
            sub_ids[plan.spectrogram_id] += 1
            eeg = (plan.eeg_id, sub_id, float(row.offset_s))
            spectrogram = (plan.spectrogram_id, spectrogram_sub_id, float(plan.start_s + row.offset_s))
            consensus = CLASS_NAMES[int(np.argmax(row.votes))]
            records.append((*eeg, *spectrogram, next(label_ids), plan.patient_id, consensus, *row.votes))
    return pd.DataFrame.from_records(records, columns=list(TRAIN_COLUMNS))


def _truth_table(plans: list[Plan], votes: pd.DataFrame) -> pd.DataFrame:
    """Return the distribution each row's votes were drawn from, in the order of train.csv."""
    import pandas as pd

    truth = pd.DataFrame([row.truth for plan in plans for row in plan.rows], columns=list(CLASSES))
    return pd.concat([votes[["label_id", "eeg_id", "eeg_sub_id"]], truth.round(6)], axis=1)


# --------------------------------------------------------------------------- electrodes

POSITIONS = np.array(
    [
        (-0.31, 0.95), (-0.41, 0.52), (-0.5, 0.0), (-0.41, -0.52), (-0.81, 0.59), (-1.0, 0.0), (-0.81, -0.59),
        (-0.31, -0.95), (0.0, 0.5), (0.0, 0.0), (0.0, -0.5), (0.31, 0.95), (0.41, 0.52), (0.5, 0.0),
        (0.41, -0.52), (0.81, 0.59), (1.0, 0.0), (0.81, -0.59), (0.31, -0.95),
    ]
)  # fmt: skip
"""EEG_CHANNELS on the unit disc: right ear at (1, 0), nose at (0, 1)."""

FRONTOPOLAR = (-0.31, 0.95), (0.31, 0.95)
OCCIPITAL = (-0.35, -0.85), (0.35, -0.85)


def field(centre: tuple[float, float], sigma: float) -> Array:
    """Return how strongly each electrode sees a source: Gaussian in distance, 1 at its centre.

    Parameters
    ----------
    centre : place on the unit disc
    sigma : width in radii of the disc

    Returns
    -------
    float32, shape (19,)
    """
    distance2 = np.sum((POSITIONS - centre) ** 2, axis=1)
    strength: Array = np.exp(-distance2 / (2 * sigma**2)).astype(np.float32)
    return strength


def _uniform_point(rng: Rng) -> tuple[float, float]:
    """Return a point of the unit disc."""
    radius, angle = np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def _one_side(rng: Rng) -> tuple[float, float]:
    """Return a point well inside one hemisphere."""
    side = rng.choice((-1.0, 1.0))
    return float(side * rng.uniform(0.5, 0.85)), float(rng.uniform(-0.6, 0.6))


# ---------------------------------------------------------------------------- background


def shaped_noise(
    rng: Rng, n_rows: int, n_samples: int, shape: Callable[[NDArray[Any]], NDArray[Any]]
) -> Array:
    """Return Gaussian noise of unit SD whose amplitude spectrum follows ``shape``.

    Parameters
    ----------
    shape : gives, for frequencies in Hz, amplitudes that broadcast to (n_rows, n_freqs)

    Returns
    -------
    float32, shape (n_rows, n_samples)
    """
    from scipy import fft

    n_fft = fft.next_fast_len(n_samples, real=True)
    amplitude = np.asarray(shape(fft.rfftfreq(n_fft, 1 / SFREQ_HZ)), dtype=np.float32)
    spectrum = rng.standard_normal((n_rows, n_fft // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    noise = fft.irfft(spectrum * amplitude, n=n_fft)[:, :n_samples]
    return np.asarray(noise / noise.std(axis=1, keepdims=True), dtype=np.float32)


def _band(low_hz: float, high_hz: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda freqs: (freqs >= low_hz) & (freqs <= high_hz)


def _one_over_f(exponents: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return power 1 / f^exponent; under 0.5 Hz it is level, as amplifiers' high-pass leaves it."""
    return lambda freqs: np.maximum(freqs, 0.5) ** (-exponents[:, None] / 2) * (freqs > 0)


def background(rng: Rng, n_samples: int) -> Array:
    """Return EEG without any pattern; its SD over electrodes is about 1.

    24 sources of 1/f noise at random places, sensor noise, a posterior alpha rhythm in 45 %
    and polymorphic delta in half of the recordings, of whatever class: slow waves alone must
    not give the label away.

    Returns
    -------
    float32, shape (19, n_samples)
    """
    mixing = np.stack([field(_uniform_point(rng), 0.45) for _ in range(24)], axis=1)
    mixing *= rng.choice((-1, 1), 24).astype(np.float32)
    mixing /= np.sqrt(np.mean(np.sum(mixing**2, axis=1)))
    eeg = mixing @ shaped_noise(rng, 24, n_samples, _one_over_f(rng.uniform(1.4, 2.4, 24)))
    eeg += np.float32(0.18) * rng.standard_normal(eeg.shape, dtype=np.float32)
    if rng.random() < 0.45:
        eeg += _alpha(rng, n_samples)
    if rng.random() < 0.5:
        eeg += _polymorphic_delta(rng, n_samples)
    return np.asarray(eeg, dtype=np.float32)


def _alpha(rng: Rng, n_samples: int) -> Array:
    centre_hz = rng.uniform(7.5, 11)
    wave = shaped_noise(rng, 1, n_samples, lambda freqs: np.exp(-((freqs - centre_hz) ** 2) / (2 * 0.6**2)))
    strength = np.float32(rng.uniform(0.2, 0.6))
    return strength * (field(OCCIPITAL[0], 0.45) + field(OCCIPITAL[1], 0.45))[:, None] * wave


def _polymorphic_delta(rng: Rng, n_samples: int) -> Array:
    strength = np.float32(rng.uniform(0.4, 1.2))
    place = field(_uniform_point(rng), float(rng.uniform(0.4, 0.8)))
    return strength * place[:, None] * shaped_noise(rng, 1, n_samples, _band(0.5, 2.5))


# ------------------------------------------------------------------------------ patterns


@dataclass(frozen=True)
class Pattern:
    """A pattern over the whole recording; a wave or rhythm has about 1 at its strongest electrode.

    Attributes
    ----------
    wave : float32, shape (19, n_samples)
    rate_hz : frequency of the rhythm (a seizure's at onset), or discharges per second
    """

    wave: Array
    rate_hz: float


SEIZURE_RAMP_S = 1.0


def seizure(rng: Rng, n_samples: int) -> Pattern:
    """Return a rhythm that starts in the first 12 s, slows, grows and, when focal, spreads.

    It lasts 22 to 50 s, and as much longer as the recording is longer than 50 s: to the end of
    the last sub-window's judged seconds at least, since experts cannot see it elsewhere.
    """
    start_hz, end_share = rng.uniform(2.6, 4.5), rng.uniform(0.45, 0.85)
    onset_s = rng.uniform(0, 12)
    judged_end_s = JUDGED_START_S + JUDGED_LENGTH_S + SEIZURE_RAMP_S
    length_s = rng.uniform(max(22, judged_end_s - onset_s), 50) + n_samples / SFREQ_HZ - SUB_WINDOW_S
    progress = (np.arange(n_samples) / SFREQ_HZ - onset_s) / length_s
    course = np.clip(progress, 0, 1)
    phase = 2 * np.pi * np.cumsum(start_hz * (1 - (1 - end_share) * course)) / SFREQ_HZ
    shifts = rng.uniform(0, 2 * np.pi, 3)
    wave = sum(a * np.sin((k + 1) * phase + shifts[k]) for k, a in enumerate((1.0, 0.5, 0.35)))
    envelope = np.clip(np.minimum(progress, 1 - progress) * length_s / SEIZURE_RAMP_S, 0, 1) * (0.5 + course)
    return Pattern(_seizure_field(rng, course) * (wave * envelope).astype(np.float32), float(start_hz))


def _seizure_field(rng: Rng, course: NDArray[Any]) -> Array:
    """Return the field over time: steady in the 40 % that are generalised, else widening."""
    if rng.random() < 0.4:
        return _generalised(rng)[:, None]
    focus, late = _one_side(rng), course.astype(np.float32)
    early, wide = _peak_one(field(focus, 0.45)), _peak_one(field(focus, 0.95))
    return early[:, None] * (1 - late) + wide[:, None] * late


def _generalised(rng: Rng) -> Array:
    """Return a field on all electrodes, uneven enough to be seen between neighbours."""
    place = field((float(rng.normal(0, 0.03)), float(rng.uniform(0.2, 0.7))), float(rng.uniform(0.5, 0.75)))
    return _peak_one(place * rng.normal(1, 0.15, len(place)).astype(np.float32))


def _peak_one(place: Array) -> Array:
    """Return a field that is 1 at the electrode nearest to its source, where amplitudes are stated."""
    return np.asarray(place / place.max(), dtype=np.float32)


def lpd(rng: Rng, n_samples: int) -> Pattern:
    """Return lateralised periodic discharges: every 0.6 to 2 s, sharp, over one hemisphere."""
    interval_s = rng.uniform(0.6, 2.0)
    train = _discharges(rng, n_samples, interval_s, cv=rng.uniform(0.08, 0.2))
    wave = np.convolve(train, _sharp_wave(rng))[:n_samples]
    place = _peak_one(field(_one_side(rng), float(rng.uniform(0.35, 0.55))))
    return Pattern((place[:, None] * wave).astype(np.float32), 1 / interval_s)


def gpd(rng: Rng, n_samples: int) -> Pattern:
    """Return generalised periodic discharges at 0.8 to 2.3 Hz, sharp, or triphasic with a lag."""
    rate_hz, triphasic = rng.uniform(0.8, 2.3), rng.random() < 0.5
    longest = int(0.1 * SFREQ_HZ)
    train = _discharges(rng, n_samples + longest, 1 / rate_hz, cv=rng.uniform(0.06, 0.15))
    form = _triphasic_wave(rng) if triphasic else _sharp_wave(rng)
    wave = np.convolve(train, form)[: n_samples + longest]
    lag = triphasic * rng.uniform(0, longest) * (1 - POSITIONS[:, 1]) / 2
    starts = longest - np.rint(lag).astype(int)
    delayed = np.stack([wave[start : start + n_samples] for start in starts])
    return Pattern((_generalised(rng)[:, None] * delayed).astype(np.float32), float(rate_hz))


def _discharges(rng: Rng, n_samples: int, interval_s: float, *, cv: float) -> NDArray[np.float64]:
    """Return impulses of about -1 (negative, as epileptiform waves are) at jittered intervals."""
    n_events = 2 + int(2 * n_samples / SFREQ_HZ / interval_s)
    gaps_s = interval_s * np.maximum(0.3, 1 + cv * rng.standard_normal(n_events))
    places = np.rint((np.cumsum(gaps_s) - rng.random() * interval_s) * SFREQ_HZ).astype(int)
    places = places[(places >= 0) & (places < n_samples)]
    train = np.zeros(n_samples)
    train[places] = -(1 + 0.15 * rng.standard_normal(len(places)))
    return train


def _lobes(*lobes: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the sum of Gaussian lobes given by amplitude, centre in s and SD in s; under 0.5 s."""
    t = np.arange(int(0.5 * SFREQ_HZ)) / SFREQ_HZ
    wave: NDArray[np.float64] = np.sum(
        [a * np.exp(-((t - c) ** 2) / (2 * s**2)) for a, c, s in lobes], axis=0
    )
    return wave


def _sharp_wave(rng: Rng) -> NDArray[np.float64]:
    """Return a sharp wave of 60 to 160 ms (four SDs) and a slow after-wave of other sign."""
    width_s = rng.uniform(0.06, 0.16)
    return _lobes((1, width_s / 2, width_s / 4), (-rng.uniform(0.25, 0.5), 1.6 * width_s, width_s / 2))


def _triphasic_wave(rng: Rng) -> NDArray[np.float64]:
    """Return small, large, middling lobes of changing sign; the large one is positive on the scalp."""
    width_s = rng.uniform(0.1, 0.16)
    centres = width_s * np.array((0.5, 1.2, 2.1))
    return _lobes(
        (0.4, centres[0], width_s / 5), (-1, centres[1], width_s / 4), (0.6, centres[2], width_s / 2.5)
    )


def lrda(rng: Rng, n_samples: int) -> Pattern:
    """Return lateralised rhythmic delta at 1 to 2.3 Hz over one hemisphere."""
    wave, rate_hz = _rhythm(rng, n_samples, high_hz=2.3)
    place = _peak_one(field(_one_side(rng), float(rng.uniform(0.4, 0.6))))
    return Pattern((place[:, None] * wave).astype(np.float32), rate_hz)


def grda(rng: Rng, n_samples: int) -> Pattern:
    """Return generalised rhythmic delta at 1 to 2.6 Hz, strongest in front."""
    wave, rate_hz = _rhythm(rng, n_samples, high_hz=2.6)
    return Pattern((_generalised(rng)[:, None] * wave).astype(np.float32), rate_hz)


def _rhythm(rng: Rng, n_samples: int, *, high_hz: float) -> tuple[Array, float]:
    """Return a sine whose phase drifts and whose envelope wanders, with 25 % second harmonic."""
    rate_hz, shift = float(rng.uniform(1.0, high_hz)), rng.uniform(0, 2 * np.pi)
    drift = 0.6 / np.sqrt(SFREQ_HZ) * rng.standard_normal(n_samples)
    phase = np.cumsum(2 * np.pi * rate_hz / SFREQ_HZ + drift)
    envelope = np.maximum(0.2, 1 + 0.3 * shaped_noise(rng, 1, n_samples, _band(0.02, 0.2))[0])
    return (envelope * (np.sin(phase) + 0.25 * np.sin(2 * phase + shift))).astype(np.float32), rate_hz


PATTERNS: dict[str, Callable[[Rng, int], Pattern]] = {
    "seizure": seizure,
    "lpd": lpd,
    "gpd": gpd,
    "lrda": lrda,
    "grda": grda,
}
"""What each class looks like; "other" is background alone."""

AMPLITUDE = {"seizure": 2.2, "lpd": 2.2, "gpd": 3.0, "lrda": 1.4, "grda": 1.2}
"""Strength of a pattern that all experts see, before SIGNAL_TO_BACKGROUND.

Chosen so that, as with real recordings, a logistic regression on scalogram summaries lies
about half way between the class prior and the distribution the votes were drawn from.
"""

BACKGROUND_UV = 14.0
"""Median over recordings of the background's SD at an electrode."""
SIGNAL_TO_BACKGROUND = 2.0


def _patterns(rng: Rng, latent: NDArray[np.float64], n_samples: int) -> Array:
    """Return the sum of the two likeliest classes' patterns, as strong as they are likely."""
    wave = np.zeros((len(EEG_CHANNELS), n_samples), dtype=np.float32)
    for k in np.argsort(-latent)[:2]:
        if (name := CLASSES[k]) in PATTERNS:
            strength = SIGNAL_TO_BACKGROUND * AMPLITUDE[name] * latent[k] ** 0.8 * rng.lognormal(0, 0.35)
            wave += np.float32(strength) * PATTERNS[name](rng, n_samples).wave
    return wave


# ----------------------------------------------------------------------------- artifacts


def _blinks(rng: Rng, n_samples: int) -> Array:
    """Return eye blinks in µV: 0.3 s long, 60 to 200 µV at the frontopolar electrodes."""
    train = np.zeros(n_samples)
    train[rng.integers(0, n_samples, rng.poisson(0.2 * n_samples / SFREQ_HZ) + 1)] = rng.uniform(60, 200)
    place = np.maximum(field(FRONTOPOLAR[0], 0.3), field(FRONTOPOLAR[1], 0.3))
    return (place[:, None] * np.convolve(train, _lobes((1, 0.2, 0.07)))[:n_samples]).astype(np.float32)


def _muscle(rng: Rng, n_samples: int) -> Array:
    """Return bursts of 20-80 Hz in µV around one temple."""
    place = field((float(rng.choice((-0.9, 0.9))), float(rng.uniform(-0.3, 0.8))), 0.45)
    bursts = np.clip(shaped_noise(rng, 1, n_samples, _band(0.02, 0.3)) + 0.5, 0, None)
    wave = shaped_noise(rng, len(EEG_CHANNELS), n_samples, _band(20, 80))
    eeg: Array = np.float32(rng.uniform(4, 20)) * place[:, None] * bursts * wave
    return eeg


def _mains(rng: Rng, n_samples: int) -> Array:
    """Return 60 Hz in µV, as strong on each electrode as its contact is bad."""
    amplitude = rng.lognormal(np.log(4), 0.8) * rng.lognormal(0, 0.5, len(EEG_CHANNELS))
    phase = 2 * np.pi * 60 * np.arange(n_samples) / SFREQ_HZ + rng.uniform(0, 2 * np.pi)
    eeg: Array = (amplitude[:, None] * np.sin(phase)).astype(np.float32)
    return eeg


def _pops(rng: Rng, n_samples: int) -> Array:
    """Return sudden steps of 150 to 900 µV on one electrode that decay in under two seconds."""
    eeg = np.zeros((len(EEG_CHANNELS), n_samples), dtype=np.float32)
    channel, decay_s = rng.integers(len(EEG_CHANNELS)), rng.uniform(0.1, 0.5)
    for start in rng.integers(0, n_samples, rng.integers(1, 5)):
        t = np.arange(n_samples - start) / SFREQ_HZ
        eeg[channel, start:] += rng.choice((-1, 1)) * rng.uniform(150, 900) * np.exp(-t / decay_s)
    return eeg


ARTIFACTS: tuple[tuple[float, Callable[[Rng, int], Array]], ...] = (
    (0.35, _blinks),
    (0.30, _muscle),
    (0.35, _mains),
    (0.12, _pops),
)
"""Share of recordings with an artifact, and the artifact."""

P_DEAD, P_GAPS, P_EDGE_GAP = 0.05, 0.03, 0.02
LONGEST_EDGE_GAP = 5197


def heartbeat(rng: Rng, n_samples: int) -> Array:
    """Return an EKG in µV: QRS complex and T wave, 55 to 110 beats per minute."""
    train = -_discharges(rng, n_samples, 60 / rng.uniform(55, 110), cv=0.04)
    beat = _lobes((-0.15, 0.06, 0.01), (1, 0.09, 0.012), (-0.25, 0.12, 0.012), (0.25, 0.35, 0.04))
    wave = rng.uniform(200, 900) * np.convolve(train, beat)[:n_samples]
    return (wave + 5 * rng.standard_normal(n_samples)).astype(np.float32)


def _spoil(rng: Rng, eeg: Array) -> Array:
    """Return recorded samples with a dead channel or gaps, where there is one."""
    eeg, n_samples = eeg.copy(), eeg.shape[1]
    if rng.random() < P_DEAD:
        eeg[rng.integers(len(EEG_CHANNELS))] = 0
    if rng.random() < P_GAPS:
        for start in rng.integers(1, n_samples - 4, rng.integers(1, 6)):
            eeg[:, start : start + rng.integers(1, 4)] = np.nan
    if rng.random() < P_EDGE_GAP:
        length = int(np.exp(rng.uniform(np.log(18), np.log(LONGEST_EDGE_GAP + 1))))
        eeg[:, slice(0, length) if rng.random() < 0.5 else slice(-length, None)] = np.nan
    return eeg


def simulate(plan: Plan, *, seed: int) -> Array:
    """Return the samples of a recording before anything was lost.

    Returns
    -------
    float32, shape (20, n_samples), µV
        Channels in the order of the competition's files, without NaN.
    """
    rng = np.random.default_rng([seed, _SIGNAL, plan.index])
    n_samples = int(plan.duration_s * SFREQ_HZ)
    eeg = background(rng, n_samples) + _patterns(rng, np.array(plan.latent), n_samples)
    eeg *= np.float32(plan.gain * rng.lognormal(np.log(BACKGROUND_UV), 0.4))
    for share, artifact in ARTIFACTS:
        if rng.random() < share:
            eeg += artifact(rng, n_samples)
    return np.concatenate([eeg, heartbeat(rng, n_samples)[None]])


# -------------------------------------------------------------------------- spectrograms

CHAIN_PATHS = {
    "LL": ("Fp1", "F7", "T3", "T5", "O1"),
    "RL": ("Fp2", "F8", "T4", "T6", "O2"),
    "LP": ("Fp1", "F3", "C3", "P3", "O1"),
    "RP": ("Fp2", "F4", "C4", "P4", "O2"),
}
"""Electrodes along each chain, in the order of the spectrogram files."""

SPECTROGRAM_STEP_S = 2
SPECTROGRAM_S = 600
LEAD_S = 275
"""An EEG sub-window lies in the middle of its ten minutes."""

N_FFT = 1024
BINS = slice(3, 103)
SPECTROGRAM_HZ = np.arange(N_FFT)[BINS] * SFREQ_HZ / N_FFT
"""0.59 to 19.92 Hz: the competition's frequencies are bins of 1,024 samples."""

CONTEXT_QUANTILE = 0.25
P_NAN_ROWS = 0.087


def chain_power(eeg: Array) -> Array:
    """Return the power of the double banana's chains in frames of 4 s, 2 s apart.

    Parameters
    ----------
    eeg : float32, shape (19 or 20, n_samples), µV

    Returns
    -------
    float32, shape (n_frames, 4, 100), µV²/Hz
        Frame i is centred at 2 (i + 1) s; chains LL, RL, LP, RP; the mean of the pairs'
        one-sided power densities at SPECTROGRAM_HZ.
    """
    from scipy import fft

    paths = [[CHANNELS.index(name) for name in path] for path in CHAIN_PATHS.values()]
    pairs = np.stack([eeg[path[:-1]] - eeg[path[1:]] for path in paths])
    step, taper = int(SPECTROGRAM_STEP_S * SFREQ_HZ), np.hanning(800).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(pairs, len(taper), axis=-1)[:, :, ::step]
    power = np.abs(fft.rfft(frames * taper, n=N_FFT)[..., BINS]) ** 2
    density = power.mean(axis=1) * 2 / (SFREQ_HZ * np.sum(taper**2))
    return np.asarray(density.transpose(1, 0, 2), dtype=np.float32)


def _spectrogram(group: list[Plan], eegs: list[Array], *, seed: int) -> Array:
    """Return the power around all recordings of one spectrogram, float32 (n_frames, 4, 100).

    Between and around recordings there are no samples. There the lower quartile over time of
    the nearest recording's power stands in as its background, times the speckle (gamma, shape 3)
    that an estimate from a few tapers has.
    """
    rng = np.random.default_rng([seed, _SPECTROGRAM, group[0].index])
    powers = [chain_power(eeg) for eeg in eegs]
    n_frames = (max(p.start_s + p.rows[-1].offset_s for p in group) + SPECTROGRAM_S) // SPECTROGRAM_STEP_S
    # Frame i is centred at 2 i + 1 s, a recording starts at an odd second, its own frames 2 s later.
    firsts = [(LEAD_S + p.start_s + 1) // SPECTROGRAM_STEP_S for p in group]
    nearest = _nearest(n_frames, firsts, [len(power) for power in powers])
    quiet = np.stack([np.quantile(power, CONTEXT_QUANTILE, axis=0) for power in powers]).astype(np.float32)
    image = quiet[nearest] * rng.standard_gamma(3, (n_frames, 4, 100), dtype=np.float32) / np.float32(3)
    for first, power in zip(firsts, powers, strict=True):
        image[first : first + len(power)] = power
    if rng.random() < P_NAN_ROWS:
        start = rng.integers(n_frames - 10)
        image[start : start + rng.integers(1, 11)] = np.nan
    return image


def _nearest(n_frames: int, firsts: list[int], lengths: list[int]) -> NDArray[np.intp]:
    """Return for each frame the number of the recording whose frames are nearest to it."""
    frames = np.arange(n_frames)
    distance = [
        np.maximum(first - frames, frames - (first + n - 1)) for first, n in zip(firsts, lengths, strict=True)
    ]
    number: NDArray[np.intp] = np.argmin(distance, axis=0)
    return number


# --------------------------------------------------------------------------------- files

README = (
    "What the generator drew, for checking models and the generator itself. Not an input.\n"
    "latent.csv: for each row of train.csv, the distribution over classes that its votes were drawn from.\n"
)


def generate(
    folder: Path, *, n_recordings: int, n_patients: int, seed: int, write_spectrograms: bool, n_jobs: int = 1
) -> None:
    """Write a data set in the competition's layout into a folder; train.csv is written last.

    The files are the same bytes for the same arguments whatever ``n_jobs``. ``truth/`` holds
    what the votes were drawn from and is no part of the layout.

    Raises
    ------
    ValueError
        If there are more patients than recordings, or the folder is not empty.
    """
    plans = plan_recordings(n_recordings=n_recordings, n_patients=n_patients, seed=seed)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"folder {folder} is not empty; a data set is written into an empty one")
    for name in ("train_eegs", "truth", *(["train_spectrograms"] if write_spectrograms else [])):
        (folder / name).mkdir(parents=True)
    _write_groups(folder, plans, seed=seed, write_spectrograms=write_spectrograms, n_jobs=n_jobs)
    votes = votes_table(plans, seed=seed)
    (folder / "truth" / "README.txt").write_text(README, encoding="utf-8")
    _truth_table(plans, votes).to_csv(folder / "truth" / "latent.csv", index=False, lineterminator="\n")
    votes.to_csv(folder / "train.csv", index=False, lineterminator="\n")


def _write_groups(
    folder: Path, plans: list[Plan], *, seed: int, write_spectrograms: bool, n_jobs: int
) -> None:
    """Write the recordings, those of one spectrogram together.

    One BLAS thread everywhere: how a product is split over threads may change its last bits.
    """
    import joblib
    from threadpoolctl import threadpool_limits

    groups: dict[int, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(plan.spectrogram_id, []).append(plan)
    write = joblib.delayed(_write_group)
    with threadpool_limits(1), joblib.parallel_config("loky", inner_max_num_threads=1):
        joblib.Parallel(n_jobs=n_jobs)(
            write(folder, group, seed, write_spectrograms) for group in groups.values()
        )


def _write_group(folder: Path, group: list[Plan], seed: int, write_spectrograms: bool) -> None:
    eegs = [simulate(plan, seed=seed) for plan in group]
    for plan, eeg in zip(group, eegs, strict=True):
        lost = _spoil(np.random.default_rng([seed, _SIGNAL, plan.index, 1]), eeg)
        _write_parquet(
            folder / "train_eegs" / f"{plan.eeg_id}.parquet", dict(zip(CHANNELS, lost, strict=True))
        )
    if write_spectrograms:
        image = _spectrogram(group, eegs, seed=seed)
        columns: dict[str, NDArray[Any]] = {"time": 1 + SPECTROGRAM_STEP_S * np.arange(len(image))}
        for k, chain in enumerate(CHAIN_PATHS):
            columns |= {f"{chain}_{hz:.2f}": image[:, k, i] for i, hz in enumerate(SPECTROGRAM_HZ)}
        _write_parquet(folder / "train_spectrograms" / f"{group[0].spectrogram_id}.parquet", columns)


def _write_parquet(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: np.ascontiguousarray(values) for name, values in columns.items()})
    # Samples rarely repeat: a dictionary of them costs time and saves nothing.
    pq.write_table(table, path, compression="snappy", use_dictionary=False, write_statistics=False)
