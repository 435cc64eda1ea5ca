"""From the votes table to items: which row stands for each, whose votes, which window.

Three config groups meet here, each a registered function that a plugin can add to:

``unit``: ``(frame, params) -> rows``, the row of the votes table that stands for each item (int64 positions,
any order, none twice); ``labels``: ``(frame, rows, params) -> votes``, float64 of shape (n_items, n_classes),
whose sum over the classes is the number of votes that the item counts for; ``window``: ``(offset_s, params)
-> start_s``, seconds from the start of the recording; the length is the setting ``length_s``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from hms.competition import CLASSES, SFREQ_HZ, SUB_WINDOW_S
from hms.errors import ConfigError
from hms.labels.classes import Ballot, Classes
from hms.labels.extra import ENDING, EXTRA, SOURCE, VOTES, WEIGHT
from hms.registry import Limits, NonNegativeFloat, Params, PositiveFloat, added, lookup, register, settings_of

if TYPE_CHECKING:
    import pandas as pd

P = TypeVar("P", bound=Params)

ITEM_COLUMNS = (
    "item_id", "recording", "eeg_id", "patient_id", "spectrogram_id", "eeg_sub_id", "label_id",
    "offset_s", "spectrogram_offset_s", "window_start_s", "window_length_s", "vote_sum",
    "expert_consensus",
)  # fmt: skip
"""Columns of the table that `choose_items` returns, before the vote columns."""

TABLE_ONLY = ("spectrogram_sub_id", "item")
"""Columns of a votes table that no item has."""


@dataclass(frozen=True)
class Unit(Params):
    """Settings of a unit: whether items are named by recording or by recording and sub-window.

    Attributes
    ----------
    item_id : items are named after the recording, or after recording and sub-window
    """

    item_id: Literal["recording", "sub_window"]


@settings_of("labels")
@dataclass(frozen=True)
class Labels(Params):
    """Settings of the labels.

    Attributes
    ----------
    high_confidence_votes : number of votes from which an item is high-confidence
    classes : the classes, in the order of the vote columns
    soft_votes : whether votes may be fractions
    unlabelled : what happens to an item without votes: left out, or kept, in no fold and no score
    """

    high_confidence_votes: Annotated[int, Limits(at_least=1, at_most=1_000_000)]
    classes: tuple[str, ...] = added(before=CLASSES)
    soft_votes: bool = added(before=False)
    unlabelled: Literal["exclude", "keep"] = added(before="exclude")

    def __post_init__(self) -> None:
        Classes(self.classes)

    @property
    def ballot(self) -> Ballot:
        """What the table of votes may hold."""
        return Ballot(Classes(self.classes), self.soft_votes)


def keeps_unlabelled(params: Params) -> bool:
    """Tell whether items without votes are kept, by the settings of the section ``labels``."""
    return getattr(params, "unlabelled", "exclude") == "keep"


@dataclass(frozen=True)
class Window(Params):
    """Settings of a window: start and length in seconds inside the 50 s sub-window.

    Attributes
    ----------
    start_s : start of the window inside the labelled sub-window of 50 s
    length_s : length of the window
    """

    start_s: NonNegativeFloat
    length_s: PositiveFloat

    def __post_init__(self) -> None:
        if self.start_s + self.length_s > SUB_WINDOW_S:
            raise ValueError(
                f"length_s {self.length_s:g} from start_s {self.start_s:g} ends at "
                f"{self.start_s + self.length_s:g} s; a labelled sub-window lasts {SUB_WINDOW_S:g} s"
            )
        n_samples = self.length_s * SFREQ_HZ
        if abs(n_samples - round(n_samples)) > 1e-6:
            raise ValueError(
                f"length_s {self.length_s:g} is {n_samples:g} samples at {SFREQ_HZ:g} Hz; give a whole number"
            )


def choose_items(
    frame: pd.DataFrame, unit: Params, labels: Params, window: Params, extra: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return one row per item, items without votes included.

    Columns `ITEM_COLUMNS`, the vote columns of ``frame`` and its `own_columns`, index 0, 1, 2 ...; recordings
    in the order in which the votes table first names them and rows of one recording in its order.
    ``vote_sum`` is int32 (float32 where votes are shares), 0 for an item without votes; the vote columns are
    float64. What the source lacks stays None or NaN. Raises `ConfigError` if two items would have the same
    item_id, or a count does not fit.

    Parameters
    ----------
    frame : the votes table, `hms.sources.tables.VotesTable.frame`
    unit, labels, window : settings of the three sections; ``unit`` extends `Unit`, ``window`` `Window`
    extra : rows of a second table, each an item, after the others, with its own votes as label
    """
    unit, window = _extending(Unit, unit), _extending(Window, window)
    rows = _in_order(frame, np.asarray(lookup("unit", unit.kind).function(frame, unit), dtype=np.int64))
    votes = np.asarray(lookup("labels", labels.kind).function(frame, rows, labels), dtype=np.float64)
    # A table whose rows are the items, in their order, is not copied.
    chosen = frame if is_range(rows, len(frame)) else frame.iloc[rows]
    items = _items(chosen, votes, window, lambda items: _item_ids(items, unit))
    return items if extra is None else _with_extra(items, extra, window)


def _items(
    rows: pd.DataFrame, votes: NDArray[np.float64], window: Window, ids: Callable[[pd.DataFrame], pd.Series]
) -> pd.DataFrame:
    """Return rows of a table as items with the votes given."""
    import pandas as pd

    items = rows.reset_index(drop=True)
    columns, own = list(Classes.of_columns(rows.columns).vote_columns), own_columns(rows)
    starts = lookup("window", window.kind).function(items["offset_s"].to_numpy(), window)
    made: dict[str, Any] = {
        "vote_sum": _vote_sum(votes, rows[columns[0]].to_numpy().dtype),
        "window_start_s": np.asarray(starts),
        "window_length_s": np.full(len(items), window.length_s),
        "item_id": ids(items),
    }
    made |= {name: votes[:, number] for number, name in enumerate(columns)}
    series = {
        name: pd.Series(made[name], copy=False) if name in made else items[name]
        for name in (*ITEM_COLUMNS, *columns, *own)
    }
    return pd.DataFrame(series, copy=False)


def _with_extra(items: pd.DataFrame, extra: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return the items of the votes table, then those of a second one, and of each where it is from."""
    import pandas as pd

    further = _items(extra, vote_array(extra).astype(np.float64), window, _extra_ids)
    items, further = items.copy(), further.copy()
    items[SOURCE], further[SOURCE], items[WEIGHT] = VOTES, EXTRA, np.nan
    both = pd.concat([items, further], ignore_index=True)
    again = both.loc[both["item_id"].duplicated(), "item_id"]
    if len(again):
        raise ConfigError(
            f"data.extra gives the item_id '{again.iloc[0]}', which another item has; rename it"
        )
    return both


def _extra_ids(items: pd.DataFrame) -> pd.Series:
    return items["recording"] + "_" + items["eeg_sub_id"].astype(str) + ENDING


_NO_NAME = re.compile(r"[0-9]+|[rp][0-9a-f]{16}")
"""A plain number, or what `hms.sources.pseudonyms` puts in a name's place."""

NAMES_INSIDE = (
    "names of recordings or patients are inside, in tables and file names; data.pseudonyms replaces them "
    "with ids"
)
"""What is said where a run is passed on."""


def names_inside(items: pd.DataFrame) -> bool:
    """Tell whether any recording or patient goes by something else than a plain number or a pseudonym."""
    names = {str(name) for column in ("recording", "patient_id") for name in items[column]}
    return not all(_NO_NAME.fullmatch(name) for name in names)


def own_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a table that the competition's lacks; they are copied to meta_use.csv."""
    known = {*ITEM_COLUMNS, *TABLE_ONLY, *Classes.of_columns(frame.columns).vote_columns}
    return [str(name) for name in frame.columns if name not in known]


def _extending(base: type[P], params: Params) -> P:
    if not isinstance(params, base):
        raise ConfigError(
            f"kind '{params.kind}': its settings {type(params).__name__} must extend "
            f"{base.__module__}.{base.__name__}"
        )
    return params


def _in_order(frame: pd.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return rows sorted by first appearance of their recording, then by row."""
    codes = recording_codes(frame)[rows]
    if (np.diff(codes) >= 0).all() and (np.diff(rows) > 0).all():
        return rows
    return rows[np.lexsort((rows, codes))]


def _vote_sum(votes: NDArray[np.float64], kind: np.dtype[Any]) -> NDArray[Any]:
    """Return the number of votes of each item: a whole one where the table's votes are whole."""
    total = votes.sum(axis=1)
    if kind.kind == "f":
        return np.asarray(total, dtype=np.float32)
    total = np.rint(total)
    if total.size and not total.max() <= np.iinfo(np.int32).max:
        raise ConfigError(
            f"an item has {total.max():g} votes; more than {np.iinfo(np.int32).max} cannot be stored"
        )
    vote_sum: NDArray[np.int32] = total.astype(np.int32)
    return vote_sum


def _item_ids(items: pd.DataFrame, unit: Unit) -> pd.Series:
    import pandas as pd

    ids, numbers = items["item"] if "item" in items else items["recording"], items["eeg_sub_id"].to_numpy()
    if unit.item_id == "sub_window":
        ids = pd.Series(_joined(ids.to_numpy(object), numbers), dtype=object, copy=False)
    else:
        numbers = np.zeros_like(numbers)
    again = repeated_pairs(recording_codes(items), numbers)
    if again.size:
        raise ConfigError(
            f"unit '{unit.kind}' gives the item_id '{ids.iloc[again[0]]}' to several items, {again.size} "
            "in all; set unit.item_id=sub_window or choose each row once"
        )
    return ids


def _joined(names: NDArray[np.object_], numbers: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return ``name_number`` of each row; little next to it is in memory at a time."""
    texts = np.empty(names.size, dtype=object)
    for first in range(0, names.size, _TOGETHER):
        rows = slice(first, first + _TOGETHER)
        pairs = zip(names[rows].tolist(), numbers[rows].tolist(), strict=True)
        texts[rows] = [f"{name}_{number}" for name, number in pairs]
    return texts


_TOGETHER = 1 << 16
"""Rows whose ids are made together."""


def repeated_pairs(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.int64]:
    """Return the rows whose two numbers stand together in an earlier row too, ascending.

    Rows that ascend already, as those of most tables, are not sorted.
    """
    same, step = np.diff(first) == 0, np.diff(second)
    if (np.diff(first) >= 0).all() and (step[same] > 0).all():
        return np.empty(0, np.int64)
    # lexsort is stable: of equal rows the first stands first.
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    again = np.flatnonzero((first[1:] == first[:-1]) & (second[1:] == second[:-1])) + 1
    return np.sort(order[again])


def is_range(rows: NDArray[np.int64], n_rows: int) -> bool:
    """Tell whether rows are all of a table, in its order."""
    return rows.size == n_rows and bool((rows == np.arange(n_rows)).all())


# --- which row stands for an item ----------------------------------------------------------------


def recording_codes(frame: pd.DataFrame) -> NDArray[np.int64]:
    """Return the number of each row's recording, counted by first appearance: int64, shape (n_rows,)."""
    import pandas as pd

    # Numbers stand for recordings, and are compared more quickly than their names.
    return pd.factorize(frame["eeg_id"].to_numpy())[0].astype(np.int64, copy=False)


def vote_array(frame: pd.DataFrame, kind: type[np.float64] | None = None) -> NDArray[Any]:
    """Return the votes of each row, shape (n_rows, n_classes): int64, or float64 where they are shares.

    ``kind``: float64 even where votes are counts.
    """
    columns = _vote_columns(frame)
    shares = any(column.dtype.kind == "f" for column in columns)
    # Counts add up to the same in any order; of shares, each row's lie together.
    votes = np.empty(
        (len(frame), len(columns)), kind or (np.float64 if shares else np.int64), "C" if shares else "F"
    )
    for number, column in enumerate(columns):
        votes[:, number] = column
    return votes


def _vote_columns(frame: pd.DataFrame) -> list[NDArray[Any]]:
    return [frame[name].to_numpy() for name in Classes.of_columns(frame.columns).vote_columns]


def _votes_in_all(frame: pd.DataFrame) -> NDArray[Any]:
    """Return how many votes each row has: int64, or float64 where they are shares."""
    columns = _vote_columns(frame)
    if any(column.dtype.kind == "f" for column in columns):
        return np.asarray(vote_array(frame).sum(axis=1))
    total = np.zeros(len(frame), np.int64)
    for column in columns:
        total += column
    return total


def votes_cast(frame: pd.DataFrame, items: pd.DataFrame) -> NDArray[Any]:
    """Return the votes of the row that stands for each item, whatever the rule of labels makes of them.

    int64, or float64 where votes are shares; shape (n_items, n_classes).
    """
    import pandas as pd

    keys, votes = ["recording", "eeg_sub_id"], vote_array(frame)
    if len(items) == len(frame) and all(
        (items[key].to_numpy() == frame[key].to_numpy()).all() for key in keys
    ):
        return votes
    rows = pd.MultiIndex.from_frame(frame[keys]).get_indexer(pd.MultiIndex.from_frame(items[keys]))
    return np.asarray(votes[rows])


@register("unit", "per_eeg", Unit)
def per_eeg(frame: pd.DataFrame, params: Unit) -> NDArray[np.int64]:
    """Return one row per recording, see `row_with_most_votes`."""
    return row_with_most_votes(frame)


def row_with_most_votes(frame: pd.DataFrame) -> NDArray[np.int64]:
    """Return the row with most votes of each recording, of several the middle one.

    The middle is by offset, the earlier of two. int64, shape (n_recordings,), in the
    order in which the table first names the recordings.
    """
    recording = recording_codes(frame)
    total = _votes_in_all(frame)
    most = np.zeros(recording.max(initial=-1) + 1, dtype=total.dtype)
    np.maximum.at(most, recording, total)
    return _middle_rows(frame, recording, np.flatnonzero(total == most[recording]))


@register("unit", "per_pattern", Unit)
def per_pattern(frame: pd.DataFrame, params: Unit) -> NDArray[np.int64]:
    """Return one row per recording and votes: the middle by offset, the earlier of two."""
    import pandas as pd

    group = recording_codes(frame)
    for votes in vote_array(frame).T:
        number, distinct = pd.factorize(votes)
        # Renumbering after each class keeps the product small enough for int64.
        group = pd.factorize(group * (len(distinct) + 1) + number)[0].astype(np.int64)
    return _middle_rows(frame, group, np.arange(len(frame)))


@register("unit", "per_row", Unit)
def per_row(frame: pd.DataFrame, params: Unit) -> NDArray[np.int64]:
    """Return every row."""
    return np.arange(len(frame), dtype=np.int64)


def _middle_rows(frame: pd.DataFrame, group: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, of the given rows, the middle one of each group by offset, the earlier of two.

    Rows of equal offset are ordered by sub-window number, so that the choice does not
    depend on the order of the table.
    """
    offset, sub_id = frame["offset_s"].to_numpy()[rows], frame["eeg_sub_id"].to_numpy()[rows]
    ordered = rows[_order(group[rows], offset, sub_id)]
    first = np.flatnonzero(np.diff(group[ordered], prepend=-1))
    size = np.diff(first, append=ordered.size)
    middle: NDArray[np.int64] = ordered[first + (size - 1) // 2]
    return middle


def _order(*keys: NDArray[Any]) -> NDArray[np.int64] | slice:
    """Return what sorts rows by the first key, then the next; those of most tables are sorted already."""
    follows = np.ones(max(keys[0].size - 1, 0), dtype=np.bool_)
    for key in reversed(keys):
        step = key[1:] - key[:-1]
        follows = (step > 0) | ((step == 0) & follows)
    return slice(None) if follows.all() else np.lexsort(keys[::-1])


# --- whose votes ---------------------------------------------------------------------------------


@register("labels", "window", Labels)
def window_votes(frame: pd.DataFrame, rows: NDArray[np.int64], params: Labels) -> NDArray[np.float64]:
    """Return the votes of the chosen rows: what was said of the seconds that become x."""
    chosen = frame if is_range(rows, len(frame)) else frame.iloc[rows]
    return vote_array(chosen, np.float64)


@register("labels", "sum", Labels)
def sum_votes(frame: pd.DataFrame, rows: NDArray[np.int64], params: Labels) -> NDArray[np.float64]:
    """Return the votes of all rows of the recording, summed.

    Overlapping sub-windows carry the same experts' votes: an expert counts as often as there are rows.
    """
    recording = recording_codes(frame)
    return _sum_by(recording, vote_array(frame).astype(np.float64))[recording[rows]]


@register("labels", "mean", Labels)
def mean_votes(frame: pd.DataFrame, rows: NDArray[np.int64], params: Labels) -> NDArray[np.float64]:
    """Return the mean of the distributions of the recording's rows, times the chosen row's votes.

    Each row that has votes counts once, however many it has. The total stays that of the chosen row:
    averaging says more about the classes but asks no further expert, so an item has the weight and confidence
    that ``labels=window`` gives it, and a chosen row that nobody judged stays without votes.
    """
    votes, recording = vote_array(frame), recording_codes(frame)
    total = votes.sum(axis=1)
    shares = votes / np.where(total > 0, total, 1)[:, None]
    n_voted = _sum_by(recording, (total > 0).astype(np.float64)[:, None])
    mean = _sum_by(recording, shares) / np.maximum(n_voted, 1)
    return np.asarray(mean[recording[rows]] * total[rows, None])


def _sum_by(group: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the rows of each group, shape (n_groups, n_columns)."""
    return np.stack([np.bincount(group, weights=column) for column in values.T], axis=1)


# --- which seconds -------------------------------------------------------------------------------


@register("window", "within", Window)
def within(offset_s: NDArray[np.float64], params: Window) -> NDArray[np.float64]:
    """Return where the window starts, in seconds of the recording, from the sub-window's offset."""
    return offset_s + params.start_s
