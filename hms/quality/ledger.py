"""The ledger: every item with its measures, the flags that limits make of them, and one grade.

Measures come from the pass over the recordings and hold no limit; limits, flags and grades
are made here, so that another option of the ``qc`` group reads no recording again. What is
relative to the data set (the z scores) is made here too, from medians over all items, and
does not depend on their order.
"""

from __future__ import annotations

import io
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, EEG_CHANNELS
from hms.quality.channels import CHANNEL_MEASURES
from hms.registry import (
    Limits,
    NonNegativeFloat,
    Params,
    PositiveFloat,
    PositiveInt,
    Share,
    did_you_mean,
    register,
    settings_of,
)
from hms.store.csvs import harmless_cell, rows_text
from hms.store.folders import Reason

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FLAGS",
    "GRADES",
    "ChannelLimits",
    "Grading",
    "ItemLimits",
    "Ledger",
    "QualityControl",
    "make_ledger",
    "robust_z",
]

Measured = Mapping[str, NDArray[Any]]
Mask = NDArray[np.bool_]

Correlation = Annotated[float, Limits(at_least=-1, at_most=1)]
Decibels = Annotated[float, Limits(at_least=-200, at_most=200)]
Count = Annotated[int, Limits(at_least=0)]

GRADES = ("good", "usable", "poor", "unusable")
"""From best to worst."""

N_EEG = len(EEG_CHANNELS)
MAD_TO_SD = 1.4826
"""Standard deviations of a normal distribution in its median absolute deviation, inverted."""


# --- settings ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raised:
    """Mark of a limit: the measure that it bounds, and how that must compare for the flag."""

    measure: str
    by: Callable[[Any, Any], Any] = operator.gt
    ekg: bool = False
    """Whether the EKG can raise it too."""


@dataclass(frozen=True)
class ChannelLimits:
    """Limits of an electrode, named as the flags they raise; None raises none.

    The measures are those of `hms.quality.channels.channel_measures`, and of them combined:
    ``line_db``, the larger of 50 and 60 Hz; ``hf_z``, ``hf_share_z`` and ``sd_z``, the robust
    z scores of log10 hf_uv, hf_uv / sd_uv and sd_uv over the electrodes of all items.
    """

    gaps: Annotated[Share | None, Raised("gap_share")]
    gappy: Annotated[Share | None, Raised("window_gap_share")]
    dead: Annotated[PositiveFloat | None, Raised("ptp_uv", operator.lt)]
    flat: Annotated[PositiveFloat | None, Raised("flat_ptp_uv", operator.lt)]
    clipped: Annotated[PositiveInt | None, Raised("extreme_samples", operator.ge)]
    offset: Annotated[PositiveFloat | None, Raised("abs_offset_uv", ekg=True)]
    large: Annotated[PositiveFloat | None, Raised("peak_uv")]
    jump: Annotated[PositiveFloat | None, Raised("jump_uv")]
    drift: Annotated[PositiveFloat | None, Raised("drift_uv")]
    line: Annotated[Decibels | None, Raised("line_db")]
    muscle: Annotated[PositiveFloat | None, Raised("hf_share_z")]
    noisy: Annotated[PositiveFloat | None, Raised("hf_z")]
    noisy_uv: Annotated[PositiveFloat | None, Raised("hf_uv")]
    isolated: Annotated[Correlation | None, Raised("neighbour_corr", operator.lt)]
    reversed: Annotated[Correlation | None, Raised("polarity", operator.lt)]
    twin: Annotated[Correlation | None, Raised("twin_corr")]
    loud: Annotated[Decibels | None, Raised("gain_db")]
    faint: Annotated[Decibels | None, Raised("gain_db", operator.lt)]
    ekg: Annotated[Correlation | None, Raised("ekg_corr")]


@dataclass(frozen=True)
class ItemLimits:
    """Limits of an item, named as the flags they raise; None or False raises none.

    The measures are those of `hms.quality.inputs` and `hms.quality.outputs`, and of them combined:
    ``n_electrodes``, the electrodes that were looked at; ``montage_gap_share``, the share of the
    window's samples missing at the montage's electrodes, or of all channels where the recording
    has none of them; ``chain_corr`` and ``x_share_01``, of both sides and ends.
    """

    unmeasured: Annotated[bool, Raised("n_electrodes", operator.lt)]
    window_gap: Annotated[Share | None, Raised("montage_gap_share")]
    edge: Annotated[Share | None, Raised("edge_share")]
    lopsided: Annotated[PositiveFloat | None, Raised("abs_left_right_db")]
    dead_pair: Annotated[Count | None, Raised("dead_derivations")]
    weak_pair: Annotated[NonNegativeFloat | None, Raised("derivation_ptp_min_uv", operator.lt)]
    strong_pair: Annotated[PositiveFloat | None, Raised("derivation_ptp_max_uv")]
    limited: Annotated[Share | None, Raised("clipped_share")]
    equal_chains: Annotated[Correlation | None, Raised("chain_corr")]
    saturated: Annotated[Share | None, Raised("x_share_01")]
    constant: Annotated[bool, Raised("x_is_constant", operator.ge)]
    not_finite: Annotated[bool, Raised("x_is_not_finite", operator.ge)]


CHANNEL_FLAGS = tuple(f.name for f in fields(ChannelLimits))
ITEM_FLAGS = tuple(f.name for f in fields(ItemLimits))
FLAGS = (*CHANNEL_FLAGS, *ITEM_FLAGS)


@dataclass(frozen=True)
class Grading:
    """How flags become a grade.

    ``harmless`` flags cost no grade. A channel with a flag of ``bad_channel`` is bad; with
    more than ``usable_bad_channels`` of the montage's electrodes bad an item is poor, with
    more than ``poor_bad_channels`` unusable. The flags of ``poor`` and ``unusable``
    themselves set at least that grade. Any other flag makes an item usable, none good.
    """

    harmless: tuple[str, ...]
    bad_channel: tuple[str, ...]
    usable_bad_channels: Count
    poor_bad_channels: Count
    poor: tuple[str, ...]
    unusable: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, allowed in (
            ("harmless", FLAGS),
            ("bad_channel", CHANNEL_FLAGS),
            ("poor", FLAGS),
            ("unusable", FLAGS),
        ):
            for flag in getattr(self, name):
                if flag not in allowed:
                    raise ValueError(
                        f"{name}: '{flag}' is no flag here{did_you_mean(flag, allowed)}; "
                        f"there are {', '.join(allowed)}"
                    )
        if self.poor_bad_channels < self.usable_bad_channels:
            raise ValueError(
                f"poor_bad_channels must be at least usable_bad_channels ({self.usable_bad_channels}); "
                f"got {self.poor_bad_channels}"
            )


@settings_of("qc")
@dataclass(frozen=True)
class QualityControl(Params):
    """Limits, grading, what is left out, and what counts as the same window."""

    channel: ChannelLimits
    item: ItemLimits
    grading: Grading
    exclude_from: Literal["usable", "poor", "unusable"] | None
    duplicate_corr: Annotated[float, Limits(at_least=0.9, at_most=1)]
    leak: Literal["report", "error"]


# --- the ledger ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ledger:
    """What is known of every item.

    Attributes
    ----------
    items : one row per item in their order, those left out included
    channels : one row per measured item and channel
    """

    items: pd.DataFrame
    channels: pd.DataFrame

    def items_csv(self) -> bytes:
        """Return the items as UTF-8 text with LF line ends and six digits."""
        rows = zip(*(_as_texts(column) for _, column in self.items.items()), strict=True)
        return rows_text([tuple(self.items.columns), *rows]).encode()

    def channels_parquet(self) -> bytes:
        """Return the channels as parquet without pandas metadata: the same bytes for the same values.

        Only texts repeat: a dictionary of measures costs four times the time of writing and a
        third more bytes.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = {"item_id", "channel", "flags"}
        columns = {
            name: pa.array(column.astype(object) if name in names else column.to_numpy())
            for name, column in self.channels.items()
        }
        for name in names:
            columns[name] = columns[name].cast(pa.string())
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns), buffer, compression="zstd", use_dictionary=sorted(names))
        return buffer.getvalue()


@register("qc", "limits", QualityControl)
def make_ledger(
    items: pd.DataFrame,
    reasons: Sequence[Reason | None],
    measures: Measured,
    qc: QualityControl,
    *,
    electrodes: Collection[str] = EEG_CHANNELS,
) -> Ledger:
    """Return the ledger of all items.

    Parameters
    ----------
    items : one row per item, with ``item_id`` and ``eeg_id``
    reasons : per item, why it was left out, or None
    measures : arrays with one row per measured item; ``measures["row"]`` says which item
    qc : limits and grading
    electrodes : those that the montage uses; only they make an item poor or unusable

    Returns
    -------
    Ledger
        Measures are empty where an item was left out before it was measured; its grade is
        unusable. A measure of a channel stands with its worst value over the EEG channels.
    """
    needed = np.array([name in electrodes for name in CHANNELS])
    known = _with_combined(measures, needed)
    channel_flags = _raised(known, qc.channel, known["gap_share"].shape)
    item_flags = _raised(known, qc.item, (len(known["row"]),))
    grades = _grades(channel_flags, item_flags, qc.grading, needed)
    return Ledger(
        _item_table(items, reasons, known, channel_flags, item_flags, grades, qc),
        _channel_table(items["item_id"].to_numpy(object), known, channel_flags),
    )


def _with_combined(measures: Measured, needed: Mask) -> dict[str, NDArray[Any]]:
    """Return the measures with those that follow from several of them, for a montage's electrodes."""
    known = dict(measures)
    if not len(known["row"]):
        known |= {name: np.empty((0, len(CHANNELS)), np.float32) for name in CHANNEL_MEASURES}
        known |= {name: np.empty(0) for name in ITEM_MEASURES}
    known["line_db"] = np.fmax(known["line50_db"], known["line60_db"])
    known["hf_z"], known["sd_z"] = _z_of_log(known["hf_uv"]), _z_of_log(known["sd_uv"])
    with np.errstate(divide="ignore", invalid="ignore"):
        known["hf_share_z"] = _z_of_log(known["hf_uv"] / known["sd_uv"])
    known["n_electrodes"] = np.isfinite(known["gap_share"][:, :N_EEG]).sum(axis=1)
    of_montage = _mean_of_known(known["window_gap_share"][:, needed])
    known["montage_gap_share"] = np.where(np.isnan(of_montage), known["window_nan_share"], of_montage)
    known["abs_offset_uv"] = np.abs(known["offset_uv"])
    known["abs_left_right_db"] = np.abs(known["left_right_db"])
    known["chain_corr"] = np.fmax(known["corr_ll_lp"], known["corr_rl_rp"])
    known["x_share_01"] = known["x_share_0"] + known["x_share_1"]
    known["x_is_not_finite"] = 1 - np.asarray(known["x_is_finite"], np.float64)
    return known


def _mean_of_known(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of each row without its NaN, NaN where it has nothing else."""
    is_known = np.isfinite(values)
    total = np.where(is_known, values, 0).sum(axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / is_known.sum(axis=1))


ITEM_MEASURES = (
    "nan_share", "window_nan_share", "outside_share", "edge_share", "n_flat_channels", "left_right_db",
    "clipped_share", "dead_derivations", "derivation_ptp_min_uv", "derivation_ptp_max_uv", "corr_ll_lp",
    "corr_rl_rp", "x_share_0", "x_share_1", "x_is_finite", "x_is_constant",
)  # fmt: skip
"""Measures of an item in the order of the table."""

COMBINED_MEASURES = ("n_electrodes", "montage_gap_share")
"""Measures of an item that follow from those of its electrodes."""

RELATIVE_MEASURES = ("hf_z", "hf_share_z", "sd_z")
"""Robust z scores over the electrodes of all items."""

_WORST: dict[str, str] = {
    **dict.fromkeys((*CHANNEL_MEASURES, *RELATIVE_MEASURES), "largest"),
    **dict.fromkeys(("ptp_uv", "flat_ptp_uv", "neighbour_corr", "polarity"), "smallest"),
    **dict.fromkeys(("offset_uv", "gain_db", "sd_z"), "farthest"),
}
"""Which value of a channel's measure stands for an item: the farthest is that of largest magnitude."""


SMALLEST_SPREAD = 0.1
"""Of log10 of an amplitude, 2 dB. Made-up sets have 0.14 to 0.29, the twelve real recordings 0.37 to
0.52; where all recordings are alike, a little more than the others have is no noise."""


def _z_of_log(amplitude: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.log10(amplitude.astype(np.float64))
    level[:, N_EEG:] = np.nan
    return robust_z(np.where(np.isfinite(level), level, np.nan), smallest_spread=SMALLEST_SPREAD)


def robust_z(values: NDArray[np.float64], *, smallest_spread: float = 0.0) -> NDArray[np.float64]:
    """Return the distance of each value from the median of all, in robust standard deviations.

    Parameters
    ----------
    values : float64, any shape; NaN is left out and stays NaN
    smallest_spread : standard deviation that is used where the values have a smaller one

    Returns
    -------
    float64, same shape
        NaN everywhere if half of the values or more are the same one, where there is no
        measure of spread. Independent of the order of the values.

    References
    ----------
    Iglewicz & Hoaglin, How to Detect and Handle Outliers (1993): median and 1.4826 MAD, as
    the PREP pipeline (Bigdely-Shamlo et al. 2015) scores deviation and noise, but over the
    data set: over the channels of one recording, a lateralised pattern is an outlier.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.full(values.shape, np.nan)
    centre = np.median(finite)
    spread = float(MAD_TO_SD * np.median(np.abs(finite - centre)))
    if not spread > 0:
        return np.full(values.shape, np.nan)
    return (values - centre) / max(spread, smallest_spread)


# --- flags and grades ----------------------------------------------------------------------------


def _raised(known: Measured, limits: ChannelLimits | ItemLimits, shape: tuple[int, ...]) -> dict[str, Mask]:
    """Return where each flag is raised."""
    found = {}
    for name, rule in _rules(limits).items():
        limit, mask = getattr(limits, name), np.zeros(shape, bool)
        if limit is not None and limit is not False:
            mask = rule.by(np.asarray(known[rule.measure], np.float64), limit)
        if mask.ndim == 2 and not rule.ekg:
            mask[:, N_EEG:] = False
        found[name] = mask
    return found


@cache
def _rules(limits: ChannelLimits | ItemLimits) -> dict[str, Raised]:
    hints = get_type_hints(type(limits), include_extras=True)
    return {name: next(m for m in hint.__metadata__ if isinstance(m, Raised)) for name, hint in hints.items()}


def _grades(
    channel_flags: Mapping[str, Mask], item_flags: Mapping[str, Mask], grading: Grading, needed: Mask
) -> NDArray[np.int64]:
    """Return the grade of each measured item as a number of `GRADES`.

    Any channel makes an item usable, only the montage's electrodes make it poor or unusable.
    """
    n_items = len(next(iter(item_flags.values())))
    anywhere = {name: np.asarray(mask.any(axis=1)) for name, mask in channel_flags.items()}
    used = {name: np.asarray(mask[:, needed].any(axis=1)) for name, mask in channel_flags.items()}
    bad = _any((channel_flags[name] for name in grading.bad_channel), (n_items, len(CHANNELS)))
    n_bad = (bad & needed).sum(axis=1)

    def raised(names: Iterable[str], of_channels: Mapping[str, Mask]) -> Mask:
        return _any(({**of_channels, **item_flags}[name] for name in names), (n_items,))

    is_flagged = raised((name for name in FLAGS if name not in grading.harmless), anywhere)
    is_poor = raised(grading.poor, used) | (n_bad > grading.usable_bad_channels)
    is_lost = raised(grading.unusable, used) | (n_bad > grading.poor_bad_channels)
    return np.asarray(np.select([is_lost, is_poor, is_flagged], [3, 2, 1], 0), np.int64)


def _any(masks: Iterable[Mask], shape: tuple[int, ...]) -> Mask:
    found = np.zeros(shape, bool)
    for mask in masks:
        found |= mask
    return found


# --- tables --------------------------------------------------------------------------------------


def _item_table(
    items: pd.DataFrame,
    reasons: Sequence[Reason | None],
    known: Measured,
    channel_flags: Mapping[str, Mask],
    item_flags: Mapping[str, Mask],
    grades: NDArray[np.int64],
    qc: QualityControl,
) -> pd.DataFrame:
    import pandas as pd

    rows, n = known["row"], len(items)
    raised = {name: np.asarray(mask.any(axis=1)) for name, mask in channel_flags.items()} | dict(item_flags)
    columns: dict[str, Any] = {
        "grade": _spread([GRADES[g] for g in grades], rows, n, GRADES[-1]),
        "flags": _spread(_flag_names(raised, len(rows)), rows, n, ""),
        "flagged_channels": _spread(_flagged_channels(channel_flags, len(rows)), rows, n, ""),
    }
    for name in (*ITEM_MEASURES, *COMBINED_MEASURES, *CHANNEL_MEASURES, *RELATIVE_MEASURES):
        values = known[name] if known[name].ndim == 1 else _worst(known[name][:, :N_EEG], _WORST[name])
        columns[name] = _as_column(values, rows, n)
    table = pd.DataFrame(columns)
    texts = [reason.text if reason else "" for reason in reasons]
    texts = [text or _grade_reason(*row, qc) for text, row in zip(texts, _graded(table), strict=True)]
    table.insert(0, "reason", texts)
    table.insert(0, "used", [not text for text in texts])
    ids = items[["item_id", "eeg_id"]].reset_index(drop=True)
    return pd.concat([ids, table], axis=1)


def _graded(table: pd.DataFrame) -> Iterable[tuple[str, str]]:
    return zip(table["grade"].tolist(), table["flags"].tolist(), strict=True)


def _grade_reason(grade: str, flags: str, qc: QualityControl) -> str:
    """Return why a grade leaves an item out, or an empty text."""
    if qc.exclude_from is None or GRADES.index(grade) < GRADES.index(qc.exclude_from):
        return ""
    return f"grade {grade}: {flags.replace(';', ', ')}"


def _flag_names(raised: Mapping[str, Mask], n: int) -> list[str]:
    """Return the names of each item's flags, in the order of `FLAGS`: ``flat;line``."""
    found: list[list[str]] = [[] for _ in range(n)]
    for name, mask in raised.items():
        for row in np.flatnonzero(mask).tolist():
            found[row].append(name)
    return [";".join(names) for names in found]


def _flagged_channels(channel_flags: Mapping[str, Mask], n: int) -> list[str]:
    """Return for each item which channels have which flags: ``flat:T3,T5;line:O1``."""
    found: list[list[str]] = [[] for _ in range(n)]
    for name, mask in channel_flags.items():
        before = -1
        for row, channel in zip(*(places.tolist() for places in np.nonzero(mask)), strict=True):
            if row == before:
                found[row][-1] += f",{CHANNELS[channel]}"
            else:
                found[row].append(f"{name}:{CHANNELS[channel]}")
            before = row
    return [";".join(parts) for parts in found]


def _spread(values: Sequence[str], rows: NDArray[np.int64], n: int, absent: str) -> list[str]:
    """Return the values of measured items in the order of all items."""
    found = [absent] * n
    for row, value in zip(rows.tolist(), values, strict=True):
        found[row] = value
    return found


def _worst(values: NDArray[Any], which: str) -> NDArray[Any]:
    """Return the largest, the smallest or the farthest value of each row, NaN where there is none."""
    if which == "farthest":
        low, high = _worst(values, "smallest"), _worst(values, "largest")
        return np.where(-low > high, low, high)
    filled = np.where(np.isnan(values), -np.inf if which == "largest" else np.inf, values)
    worst = filled.max(axis=1) if which == "largest" else filled.min(axis=1)
    return np.where(np.isfinite(worst), worst, np.nan)


def _as_column(values: NDArray[Any], rows: NDArray[np.int64], n: int) -> Any:
    """Return a column over all items that is empty where an item was not measured."""
    import pandas as pd

    kinds = {"b": "boolean", "i": "Int64"}
    column = pd.Series(
        pd.NA if values.dtype.kind in kinds else np.nan,
        index=range(n),
        dtype=kinds.get(values.dtype.kind, "float64"),
    )
    column.iloc[rows] = values.astype(np.float64) if values.dtype.kind == "f" else values
    return column


def _as_texts(column: pd.Series) -> list[Any]:
    """Return what a CSV file holds of a column: numbers with six digits, nothing where one is missing."""
    if column.dtype.kind != "f":
        cells: list[Any] = column.astype(object).where(column.notna(), "").tolist()
        return cells if column.dtype.kind in "iub" else [harmless_cell(cell) for cell in cells]
    values = column.to_numpy(np.float64)
    texts: list[Any] = ("%.6g\n" * len(values) % tuple(values.tolist())).split("\n")[:-1]
    for row in np.flatnonzero(np.isnan(values)).tolist():
        texts[row] = ""
    return texts


def _channel_table(
    item_ids: NDArray[Any], known: Measured, channel_flags: Mapping[str, Mask]
) -> pd.DataFrame:
    import pandas as pd

    rows = known["row"]
    flags = [""] * (len(rows) * len(CHANNELS))
    for name, mask in channel_flags.items():
        for place in np.flatnonzero(mask).tolist():
            flags[place] += f";{name}" if flags[place] else name
    columns: dict[str, Any] = {
        "item_id": np.repeat(item_ids[rows], len(CHANNELS)),
        "channel": np.tile(np.array(CHANNELS, object), len(rows)),
    }
    for name in (*CHANNEL_MEASURES, *RELATIVE_MEASURES):
        columns[name] = known[name].astype(np.float32).ravel()
    columns["flags"] = np.array(flags, object)
    return pd.DataFrame(columns)
