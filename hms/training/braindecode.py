"""A run's waveforms as braindecode takes windows: one record per patient and fold (extra ``braindecode``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.errors import ConfigError
from hms.training.reading import WAVEFORMS, SignalReader
from hms.training.selection import folds_of, select_rows

if TYPE_CHECKING:
    import pandas as pd

    from hms.store.package import Package

VOLT = 1e6
"""µV in a volt, MNE's unit."""


def windows_of(run: Package, split: Any = None, *, fold: int | None = None, stage: Any = None) -> Any:
    """Return a run's windows as ``braindecode.datasets.BaseConcatDataset`` of ``WindowsDataset``.

    ``dataset[i]`` is (X, y, crop_inds) as braindecode's: X float32 of shape (n_outputs, n_samples), in µV; y
    the number of the consensus class. ``description`` has patient and fold of each record, by which
    ``dataset.split("fold")`` parts it; ``get_metadata()`` has item_id, soft labels and weights. Waveforms are
    held in memory in float64, as MNE has them: 256 kB for 16 derivations of 10 s. Raises `ConfigError` if
    braindecode is not installed, or the run lacks what is asked for.

    Parameters
    ----------
    run : a finished run with waveforms and labels
    split, fold, stage
        As `hms.training.SpecDataset`.
    """
    try:
        from braindecode.datasets import BaseConcatDataset
    except ImportError as error:
        raise ConfigError(
            f"to_braindecode needs braindecode; pip install 'hms-eeg[braindecode]' ({error})"
        ) from None
    chosen = select_rows(run, split, fold, stage, "confident_first")
    ids = run.labels.item_id[chosen].tolist()
    reader = SignalReader(run, WAVEFORMS, ids, packed=None, dtype="float32")
    table = _metadata(run, chosen)
    groups = table.groupby(["patient_id", "fold"], sort=False)
    return BaseConcatDataset([_record(run, reader, rows) for _, rows in groups])


def _metadata(run: Package, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Return what is known of each window, with the columns that braindecode asks for."""
    import pandas as pd

    labels = run.labels
    of_item = run.meta.set_index("item_id")["patient_id"].astype(str)
    ids = labels.item_id[rows].tolist()
    known = {
        "i_window_in_trial": 0,
        "i_start_in_trial": 0,
        "i_stop_in_trial": 0,
        "target": labels.y_soft[rows].argmax(axis=1).astype(np.int64),
        "item_id": ids,
        "patient_id": of_item[ids].tolist(),
        "fold": folds_of(run)[rows],
        "weight": labels.w_conf[rows],
    }
    soft = {f"y_{name}": labels.y_soft[rows, column] for column, name in enumerate(labels.classes.tolist())}
    return pd.DataFrame(known | soft)


def _record(run: Package, reader: SignalReader, rows: pd.DataFrame) -> Any:
    """Return some windows of one patient, by their places in the reader, as a WindowsDataset."""
    import mne
    from braindecode.datasets import WindowsDataset

    values = np.stack([reader.signal(place) for place in rows.index])
    metadata = rows.reset_index(drop=True)
    metadata["i_window_in_trial"] = np.arange(len(metadata))
    metadata["i_stop_in_trial"] = values.shape[2]
    events = np.stack([np.arange(len(metadata)), np.zeros(len(metadata), int), metadata["target"]], axis=1)
    info = mne.create_info(list(run.outputs), SFREQ_HZ, "eeg", verbose="error")
    classes = run.labels.classes.tolist()
    present = {classes[number]: number for number in sorted(set(metadata["target"].tolist()))}
    epochs = mne.EpochsArray(
        values.astype(np.float64) / VOLT, info, events, event_id=present, metadata=metadata, verbose="error"
    )
    description = {"patient": metadata["patient_id"][0], "fold": int(metadata["fold"][0])}
    return WindowsDataset(epochs, description, transform=_in_microvolts)


def _in_microvolts(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return µV from MNE's volts: networks are trained on µV."""
    return values * np.float32(VOLT)
