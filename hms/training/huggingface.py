"""A package as Hugging Face's ``datasets`` reads it: Parquet files in a folder, and a card.

``datasets.load_dataset(FOLDER)`` reads it without code of ours: what a column holds is in the
card's head. The card says what was counted in the run, and what nobody told is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hms.errors import ConfigError
from hms.labels.votes import consensus
from hms.quality.grading import GRADES
from hms.store.files import commit_files, storage_error
from hms.training.metric import stratum_names
from hms.training.reading import SCALOGRAMS, SPECTROGRAMS, WAVEFORMS, SignalKind, SignalReader
from hms.training.selection import folds_of

if TYPE_CHECKING:
    import pyarrow as pa

    from hms.store.package import Package

SIGNALS: dict[str, SignalKind] = {"x": SCALOGRAMS, "wave": WAVEFORMS, "spec_lr": SPECTROGRAMS}
SHARD_BYTES = 400e6
"""Of the signals in one Parquet file; the hub advises files of some hundred megabytes."""

ROW_GROUP = 64
UNKNOWN_LICENCE = "unknown"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


class _Signal(NamedTuple):
    """A signal that is exported, as float32, with the shape of one item."""

    name: str
    reader: SignalReader
    shape: tuple[int, ...]


def write_huggingface(run: Package, destination: str | Path, *, licence: str = UNKNOWN_LICENCE) -> int:
    """Write a run's signals, labels and folds as Parquet with a card, and return the bytes written.

    Raises `ConfigError` if the folder is not empty, or the run has nothing to export. Raises `StorageError`
    if the folder cannot be written.

    Parameters
    ----------
    run : a finished run with labels and at least one signal
    destination : a folder that is not there or empty
    licence : of the recordings, as the hub names licences (``cc-by-4.0``); only its owner knows it
    """
    folder = Path(destination)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not an empty folder; name a new one")
    signals = _signals(run)
    size = sum(4 * int(np.prod(signal.shape)) for signal in signals)
    n_items = len(run.labels.item_id)
    per_file = max(1, int(SHARD_BYTES / size))
    starts = range(0, n_items, per_file)
    written = 0
    try:
        for number, start in enumerate(starts):
            rows = np.arange(start, min(start + per_file, n_items))
            name = f"train-{number:05d}-of-{len(starts):05d}.parquet"
            commit_files(folder / "data", {name: partial(_write_rows, run, signals, rows)})
            written += (folder / "data" / name).stat().st_size
        card = f"---\n{_head(run, signals, licence)}---\n\n{_body(run, signals, licence)}"
        commit_files(folder, {"README.md": card.encode()})
    except OSError as error:
        raise storage_error(error, folder) from error
    return written + len(card.encode())


def _signals(run: Package) -> list[_Signal]:
    """Return the signals that the run has."""
    ids = run.labels.item_id.tolist()
    if not ids:
        raise ConfigError(f"run {run.hash} uses no item, so there is nothing to export")
    found = []
    for name, kind in SIGNALS.items():
        if run.has_item(kind.folder, ids[0], kind.suffix):
            reader = SignalReader(run, kind, ids, packed=False, dtype="float32")
            found.append(_Signal(name, reader, reader.signal(0).shape))
    if not found:
        raise ConfigError(
            f"run {run.hash} has no signal to export; run it again with scalograms or waveforms in stages"
        )
    return found


# --- parquet -------------------------------------------------------------------------------------


def _write_rows(run: Package, signals: Sequence[_Signal], rows: NDArray[np.int64], file: Any) -> None:
    import pyarrow.parquet as pq

    tables = (
        _table(run, signals, rows[first : first + ROW_GROUP]) for first in range(0, len(rows), ROW_GROUP)
    )
    first = next(tables)
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        for table in (first, *tables):
            writer.write_table(table)


def _table(run: Package, signals: Sequence[_Signal], rows: NDArray[np.int64]) -> pa.Table:
    import pyarrow as pa

    labels, ids = run.labels, run.labels.item_id[rows].tolist()
    label = consensus(labels.y_soft[rows])
    meta = run.meta.set_index("item_id").loc[ids]
    columns: dict[str, Any] = {
        "item_id": ids,
        "patient_id": meta["patient_id"].astype(str).tolist(),
        "label": pa.array(label, pa.int64(), mask=label < 0),
        "y": _nested(labels.y_soft[rows].astype(np.float32)),
        "weight": labels.w_conf[rows].astype(np.float32),
        "vote_sum": labels.vote_sum[rows].astype(np.float32),
        "high_confidence": labels.hc_mask[rows],
        "fold": folds_of(run)[rows].astype(np.int32),
        "grade": _grades(run, ids),
    }
    for signal in signals:
        columns[signal.name] = _nested(np.stack([signal.reader.signal(row) for row in rows.tolist()]))
    return pa.table(columns)


def _nested(values: NDArray[Any]) -> pa.Array:
    """Return an array of any dimensions as lists of lists, an item a row."""
    import pyarrow as pa

    array, count = pa.array(values.reshape(-1)), values.size
    for length in reversed(values.shape[1:]):
        count //= length
        ends = pa.array(np.arange(0, (count + 1) * length, length, dtype=np.int32))
        array = pa.ListArray.from_arrays(ends, array)
    return array


def _grades(run: Package, ids: Sequence[str]) -> list[str]:
    if "qc/qc.csv" not in run.manifest["files"]:
        return [""] * len(ids)
    return run.qc.set_index("item_id")["grade"].astype(str).loc[list(ids)].tolist()


# --- the card ------------------------------------------------------------------------------------


def _head(run: Package, signals: Sequence[_Signal], licence: str) -> str:
    """Return what the hub and `datasets` read of the card."""
    from omegaconf import OmegaConf

    n_items, classes = len(run.labels.item_id), run.labels.classes.tolist()
    names = {str(number): name for number, name in enumerate(classes)}
    features: list[dict[str, Any]] = [
        {"name": "item_id", "dtype": "string"},
        {"name": "patient_id", "dtype": "string"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
        {"name": "y", "list": "float32"},
        {"name": "weight", "dtype": "float32"},
        {"name": "vote_sum", "dtype": "float32"},
        {"name": "high_confidence", "dtype": "bool"},
        {"name": "fold", "dtype": "int32"},
        {"name": "grade", "dtype": "string"},
    ]
    for signal in signals:
        described = {"shape": list(signal.shape), "dtype": "float32"}
        features.append({"name": signal.name, "dtype": {f"array{len(signal.shape)}_d": described}})
    head = {
        "pretty_name": f"EEG package {run.hash}",
        "license": licence,
        "tags": ["eeg", "electroencephalography", "soft-labels"],
        "size_categories": [next((name for most, name in SIZES if n_items < most), "n>1M")],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
        ],
        "dataset_info": {"features": features},
    }
    return str(OmegaConf.to_yaml(OmegaConf.create(head)))


def _body(run: Package, signals: Sequence[_Signal], licence: str) -> str:
    """Return what a person reads of the card."""
    counts = run.manifest["counts"]
    said = (
        "The licence of the recordings was not stated: find out before you share this folder."
        if licence == UNKNOWN_LICENCE
        else f"Licence of the recordings, as stated at export: {licence}."
    )
    # What the run's numbers depend on, but not where its files lay.
    settings = [(p, json.dumps(value)) for p, value in _leaves(run.manifest["config"]) if p != "data.root"]
    parts = [
        f"# EEG package {run.hash}\n",
        f"{counts['used']} windows of EEG with shares of experts' votes, prepared by hms "
        f"({run.manifest['versions']['hms']}); {counts['excluded']} of {counts['items']} were left out.\n",
        "```python\nfrom datasets import load_dataset\n\n"
        'data = load_dataset("FOLDER", split="train").with_format("torch")\n'
        'train = data.filter(lambda fold: fold != 0, input_columns="fold")\n```\n',
        _table_text(("column", "meaning"), _columns(run, signals)),
        "## Classes and votes\n",
        _classes(run),
        "## Quality by class\n",
        _quality(run),
        "## Folds\n",
        _folds(run),
        "## Preparation\n",
        _table_text(("setting", "value"), settings),
        "## Licence\n",
        f"{said}\n",
    ]
    return "\n".join(parts)


def _table_text(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _columns(run: Package, signals: Sequence[_Signal]) -> list[tuple[str, str]]:
    texts = {
        "x": "scalogram: output, frequency, frame",
        "wave": "waveforms in µV: output, sample at 200 Hz",
        "spec_lr": "the competition's ten minutes: chain, frequency, frame",
    }
    return [
        ("item_id, patient_id", "ids; folds keep patients whole"),
        ("label", "class with the largest share of votes"),
        ("y", "share of votes by class"),
        ("weight, vote_sum, high_confidence", "confidence weight, number of votes, high confidence or not"),
        ("fold", "fold that validates the item; -1: none"),
        ("grade", "quality of the recording"),
        *((signal.name, f"{texts[signal.name]}; shape {list(signal.shape)}") for signal in signals),
        ("outputs", ", ".join(run.outputs)),
    ]


def _classes(run: Package) -> str:
    labels, label = run.labels, consensus(run.labels.y_soft)
    strata = stratum_names(labels.vote_sum, run.config.at("labels.high_confidence_votes"))
    names = sorted(set(strata.tolist()), reverse=True)
    rows = [
        (
            name,
            int((label == column).sum()),
            *(int(((label == column) & (strata == stratum)).sum()) for stratum in names),
            f"{labels.y_soft[labels.has_label, column].mean():.3f}",
        )
        for column, name in enumerate(labels.classes.tolist())
    ]
    head = ("class", "items", *(f"of them {name} votes" for name in names), "mean share of votes")
    return _table_text(head, rows)


def _quality(run: Package) -> str:
    if "qc/qc.csv" not in run.manifest["files"]:
        return "The run has no quality control.\n"
    grades = np.array(_grades(run, run.labels.item_id.tolist()))
    label = consensus(run.labels.y_soft)
    rows = [
        (name, *(int(((label == column) & (grades == grade)).sum()) for grade in GRADES))
        for column, name in enumerate(run.labels.classes.tolist())
    ]
    return _table_text(("class", *GRADES), rows)


def _folds(run: Package) -> str:
    fold = folds_of(run)
    if fold.max(initial=-1) < 0:
        return "The run has no folds.\n"
    rows = [(number, int((fold == number).sum())) for number in range(len(run.splits))]
    return _table_text(("fold", "validation items"), rows)


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
