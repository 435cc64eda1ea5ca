"""The ledger: every item with its measures, the flags that limits make of them, and one grade.

Measures come from the pass over the recordings and hold no limit; limits, flags and grades
are made here, so that another option of the ``qc`` group reads no recording again. No item's
grade depends on what else is in the set.
"""

from __future__ import annotations

import io
import mmap
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, EEG_CHANNELS
from hms.quality.blocks import Mask
from hms.quality.channels import CHANNEL_MEASURES
from hms.quality.electrodes import N_EEG
from hms.quality.grading import GRADES, Measured, QualityControl, grade, raised
from hms.registry import register
from hms.store.columns import Reason
from hms.store.csvs import harmless_cell, rows_text
from hms.store.files import storage_error

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

TOGETHER = 2048
"""Items whose rows are in memory as tables at the same time."""

COPIED = 1 << 20
"""Bytes that are copied together."""

GROUP_ROWS = 1 << 20
"""Rows of a group in the table of channels, those of 52,428 items, that are written together."""


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

    def channels_table(self) -> pa.Table:
        """Return the channels as a table of pyarrow's, which shares the measures' memory."""
        import pyarrow as pa

        return pa.table(
            {
                name: pa.array(column.to_numpy(), pa.string() if name in CHANNEL_TEXTS else None)
                for name, column in self.channels.items()
            }
        )


CHANNEL_TEXTS = ("channel", "item_id", "raised")
"""Columns of the table of channels that hold texts."""


def write_channels(file: IO[bytes], tables: Iterable[pa.Table]) -> None:
    """Write the channels as parquet without pandas metadata: the same bytes for the same values.

    Only texts repeat: a dictionary of measures costs four times the time of writing and a third more bytes.
    ``tables``: `Ledger.channels_table` of ledgers of `TOGETHER` items, one after the other; one at a time is
    in memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    options = {"compression": "zstd", "use_dictionary": list(CHANNEL_TEXTS)}
    writer: pq.ParquetWriter | None = None
    with tempfile.TemporaryFile() as held:
        group = _Group(file, held)
        for table in tables:
            if writer is None:
                writer = pq.ParquetWriter(pa.PythonFile(group, "w"), table.schema, **options)
            while group.n_rows + len(table) > GROUP_ROWS:
                left = GROUP_ROWS - group.n_rows
                group.add(table[:left])
                table = table[left:]
                group.write_to(writer)
            group.add(table)
        assert writer is not None
        group.write_to(writer)
        writer.close()


class _Group(io.RawIOBase):
    """Rows that are written together, column by column; until then they lie in a temporary file.

    The columns pass through here on their way to a file, so that what was read of the temporary file leaves
    memory with each piece.
    """

    def __init__(self, file: IO[bytes], held: IO[bytes]) -> None:
        super().__init__()
        self._file, self._held = file, held
        self._pages: mmap.mmap | None = None
        self._first = self.n_rows = 0

    def add(self, table: pa.Table) -> None:
        """Add rows."""
        import pyarrow as pa

        try:
            with pa.ipc.new_stream(self._held, table.schema) as stream:
                stream.write_table(table)
        except OSError as error:
            raise storage_error(error, Path(tempfile.gettempdir())) from error
        self.n_rows += len(table)

    def write_to(self, writer: pq.ParquetWriter) -> None:
        """Write the rows as a group, and begin with the next."""
        import pyarrow as pa

        self._held.flush()
        self._pages = mmap.mmap(self._held.fileno(), 0, access=mmap.ACCESS_READ)
        source, batches = pa.BufferReader(pa.py_buffer(self._pages)), []
        source.seek(self._first)
        while source.tell() < len(self._pages):
            batches += pa.ipc.open_stream(source)
        writer.write_table(pa.Table.from_batches(batches, writer.schema), GROUP_ROWS)
        self._first, self.n_rows = len(self._pages), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self._pages is not None and hasattr(self._pages, "madvise"):
            self._pages.madvise(mmap.MADV_DONTNEED)
        return self._file.write(data)


class LedgerFiles:
    """The files of a ledger, made `TOGETHER` items at a time: no cell of a table of all items is in memory.

    `write_channels` makes all of it; what it leaves is what `items_csv` and ``used`` are of.

    Attributes
    ----------
    used : per item, whether it is in the package
    """

    def __init__(
        self,
        items: pd.DataFrame,
        reasons: Sequence[Reason | None],
        measures: Iterable[Measured],
        qc: QualityControl,
        *,
        electrodes: Collection[str],
        file_flags: Sequence[str],
    ) -> None:
        """Take what `make_ledger` takes, the measures of `TOGETHER` items after the other."""
        self._items, self._reasons, self._measures, self._qc = items, reasons, measures, qc
        self._electrodes, self._file_flags = electrodes, file_flags
        self.used: list[bool] = []

    def write_channels(self, file: IO[bytes]) -> None:
        """Write the table of channels."""
        write_channels(file, self._ledgers())

    def _ledgers(self) -> Iterator[pa.Table]:
        self._texts = tempfile.TemporaryFile()  # noqa: SIM115 - closed where it is read
        try:
            yield from self._tables()
        except BaseException:
            self._texts.close()
            raise

    def _tables(self) -> Iterator[pa.Table]:
        for number, measures in enumerate(self._measures):
            first = number * TOGETHER
            part = slice(first, first + TOGETHER)
            ledger = make_ledger(
                self._items.iloc[part],
                self._reasons[part],
                {**measures, "row": measures["row"] - first},
                self._qc,
                electrodes=self._electrodes,
                file_flags=self._file_flags[part],
            )
            text = ledger.items_csv()
            self._texts.write(text.partition(b"\n")[2] if first else text)
            self.used += ledger.items["used"].tolist()
            table = ledger.channels_table()
            del ledger
            yield table

    def write_items(self, file: IO[bytes]) -> None:
        """Write the table of items; only after that of channels."""
        with self._texts:
            self._texts.seek(0)
            while piece := self._texts.read(COPIED):
                file.write(piece)


NOT_LOOKED_AT = ("votes", "marks")
"""What leaves items out before their signal is read, so that it has no grade."""


@register("qc", "limits", QualityControl)
def make_ledger(
    items: pd.DataFrame,
    reasons: Sequence[Reason | None],
    measures: Measured,
    qc: QualityControl,
    *,
    electrodes: Collection[str] = EEG_CHANNELS,
    file_flags: Sequence[str] = (),
) -> Ledger:
    """Return the ledger of all items.

    Parameters
    ----------
    items : one row per item, with ``item_id`` and ``eeg_id``
    reasons : per item, why it was left out, or None
    measures : arrays with one row per measured item; ``measures["row"]`` says which item
    qc : limits and grading
    electrodes : those that the montage uses; only they cost a grade
    file_flags : per item, what was mended of its recording's file, such as ``cut``; they cost no grade

    Returns
    -------
    Ledger
        Measures are empty where an item was left out before it was measured. Its grade is unusable,
        or empty where nobody looked at the signal (`NOT_LOOKED_AT`). A measure of a channel stands
        with its worst value over the EEG channels.
    """
    needed = np.array([name in electrodes for name in CHANNELS])
    known = _with_combined(measures)
    channel_flags = raised(known, qc.channel, known["gap_share"].shape)
    item_flags = raised(known, qc.item, (len(known["row"]),))
    grades = grade(channel_flags, item_flags, qc.grading, needed)
    table = _item_table(items, reasons, known, channel_flags, item_flags, grades, qc)
    table.insert(list(table).index("flagged_channels") + 1, "file_flags", list(file_flags) or "")
    return Ledger(table, _channel_table(items["item_id"].to_numpy(object), known, channel_flags))


def _with_combined(measures: Measured) -> dict[str, NDArray[Any]]:
    """Return the measures and those combined of them."""
    known = dict(measures)
    if not len(known["row"]):
        known |= {name: np.empty((0, len(CHANNELS)), np.float32) for name in CHANNEL_MEASURES}
        known |= {name: np.empty(0) for name in ITEM_MEASURES}
    known["line_db"] = np.fmax(known["line50_db"], known["line60_db"])
    with np.errstate(divide="ignore", invalid="ignore"):
        known["muscle_share"] = known["muscle_uv"] / known["own_uv"]
        known["likeness"] = likeness(known["neighbour_corr"], known["own_uv"], known["gain_db"])
        known["loudness_db"] = loudness_db(known["own_db"], known["own_uv"])
    known["n_electrodes"] = np.isfinite(known["gap_share"][:, :N_EEG]).sum(axis=1)
    known["abs_offset_uv"] = np.abs(known["offset_uv"])
    known["abs_left_right_db"] = np.abs(known["left_right_db"])
    known["chain_corr"] = np.fmax(known["corr_ll_lp"], known["corr_rl_rp"])
    known["x_share_01"] = known["x_share_0"] + known["x_share_1"]
    known["x_is_not_finite"] = 1 - np.asarray(known["x_is_finite"], np.float64)
    return known


OF_ITS_OWN_UV = 20.0
"""Amplitude of its own up to which an electrode may differ from its neighbours: local EEG has up to 15."""

FAINT_DB = -6.0
"""Amplitude under the neighbours' from which on an electrode's own is theirs, which it does not share."""


def likeness(neighbour_corr: NDArray[Any], own_uv: NDArray[Any], gain_db: NDArray[Any]) -> NDArray[Any]:
    """Return the best correlation with a neighbour, weighted by the electrode's own amplitude.

    In a calm recording neighbours differ by some µV of local EEG, and correlate as little as beside
    a loose electrode, whose own amplitude is large. So below `OF_ITS_OWN_UV` a correlation counts
    as more in proportion; not for an electrode with less amplitude than its neighbours, as an open
    input has, whose differences to them are all theirs.
    """
    weight = np.where(gain_db < FAINT_DB, 1, np.minimum(1, own_uv / OF_ITS_OWN_UV))
    return np.asarray(np.clip(neighbour_corr / np.where(weight > 0, weight, np.nan), -1, 1))


def loudness_db(own_db: NDArray[Any], own_uv: NDArray[Any]) -> NDArray[Any]:
    """Return an electrode's own amplitude over the neighbours', dB, less its lack to `OF_ITS_OWN_UV`."""
    with np.errstate(divide="ignore"):
        return np.asarray(own_db + np.minimum(0, 20 * np.log10(own_uv / OF_ITS_OWN_UV)))


ITEM_MEASURES = (
    "nan_share", "window_nan_share", "outside_share", "edge_share", "lost_share", "n_flat_channels",
    "left_right_db", "clipped_share", "dead_derivations", "derivation_ptp_min_uv", "derivation_ptp_max_uv",
    "burst_uv", "hum_share", "hum_mean_share", "corr_ll_lp", "corr_rl_rp", "x_share_0", "x_share_1",
    "x_is_finite", "x_is_constant",
)  # fmt: skip
"""Measures of an item in the order of the table."""

COMBINED_MEASURES = ("n_electrodes",)
"""Measures of an item that follow from those of its electrodes."""

COMBINED_OF_CHANNELS = ("muscle_share", "likeness", "loudness_db")
"""Measures of an electrode that follow from others."""

_WORST: dict[str, str] = {
    **dict.fromkeys((*CHANNEL_MEASURES, *COMBINED_OF_CHANNELS), "largest"),
    **dict.fromkeys(
        ("ptp_uv", "flat_ptp_uv", "neighbour_corr", "likeness", "polarity", "own_uv"), "smallest"
    ),
    **dict.fromkeys(("offset_uv", "gain_db", "own_db"), "farthest"),
}
"""Which value of a channel's measure stands for an item: the farthest is that of largest magnitude."""


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
    flags = {name: np.asarray(mask.any(axis=1)) for name, mask in channel_flags.items()} | dict(item_flags)
    columns: dict[str, Any] = {
        "grade": _spread([GRADES[g] for g in grades], rows, n, GRADES[-1]),
        "raised": _spread(_flag_names(flags, len(rows)), rows, n, ""),
        "flagged_channels": _spread(_flagged_channels(channel_flags, len(rows)), rows, n, ""),
    }
    for name in (*ITEM_MEASURES, *COMBINED_MEASURES, *CHANNEL_MEASURES, *COMBINED_OF_CHANNELS):
        values = known[name] if known[name].ndim == 1 else _worst(known[name][:, :N_EEG], _WORST[name])
        columns[name] = _as_column(values, rows, n)
    stages = [reason.stage if reason else "" for reason in reasons]
    columns["grade"] = [
        "" if stage in NOT_LOOKED_AT else g for stage, g in zip(stages, columns["grade"], strict=True)
    ]
    table = pd.DataFrame(columns)
    texts = [reason.text if reason else "" for reason in reasons]
    graded = zip(texts, table["grade"], table["raised"], strict=True)
    texts = [text or _grade_reason(of_item, flags, qc) for text, of_item, flags in graded]
    table.insert(0, "reason", texts)
    table.insert(0, "used", [not text for text in texts])
    ids = items[["item_id", "eeg_id"]].reset_index(drop=True)
    return pd.concat([ids, table], axis=1)


def _grade_reason(of_item: str, flags: str, qc: QualityControl) -> str:
    """Return why an item's grade excludes it, or an empty text."""
    if qc.exclude_from is None or GRADES.index(of_item) < GRADES.index(qc.exclude_from):
        return ""
    told = [name for name in flags.split(";") if name in qc.grading.costly]
    return f"grade {of_item}: {', '.join(told)}"


def _flag_names(flags: Mapping[str, Mask], n: int) -> list[str]:
    """Return the names of the flags of each place of the masks, in the order of `FLAGS`: ``flat;line``."""
    found: list[list[str]] = [[] for _ in range(n)]
    for name, mask in flags.items():
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
    import pandas as pd

    return pd.Series(values, rows, dtype=object).reindex(range(n), fill_value=absent).tolist()


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

    dtype = {"b": "boolean", "i": "Int64"}.get(values.dtype.kind, "float64")
    return pd.Series(values, rows, dtype=dtype).reindex(range(n))


def _as_texts(column: pd.Series) -> list[Any]:
    """Return the cells of a column in a csv: numbers with six digits, empty if missing."""
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
    flags = _flag_names(channel_flags, len(rows) * len(CHANNELS))
    columns: dict[str, Any] = {
        "item_id": np.repeat(item_ids[rows], len(CHANNELS)),
        "channel": np.tile(np.array(CHANNELS, object), len(rows)),
    }
    for name in (*CHANNEL_MEASURES, *COMBINED_OF_CHANNELS):
        columns[name] = known[name].astype(np.float32, copy=False).ravel()
    columns["raised"] = np.array(flags, object)
    series = {name: pd.Series(values, dtype=values.dtype, copy=False) for name, values in columns.items()}
    return pd.DataFrame(series, copy=False)
