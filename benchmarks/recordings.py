"""Data sets for the benchmarks: made-up recordings, and large sets whose files are links to a few."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["competition_folder", "make_day", "make_linked", "make_recordings", "parse"]


def competition_folder(typed: str) -> Path:
    """Return a folder in the competition's layout, as the ``type`` of an option, or refuse it in one line."""
    folder = Path(typed)
    if not (folder / "train.csv").is_file() or not (folder / "train_eegs").is_dir():
        raise argparse.ArgumentTypeError(f"{typed} holds no train.csv beside a folder train_eegs")
    return folder.resolve()


def parse(about: str, **options: dict[str, Any]) -> argparse.Namespace:
    """Return what was typed: ``--work``, the folder for data, which is made, and further options.

    A configuration or table that is refused later ends the program with one line too.
    """
    sys.excepthook = _say_refusal
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "hms-benchmarks")
    for name, settings in options.items():
        parser.add_argument(f"--{name}", **settings)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    return given


def _say_refusal(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from hms.errors import ConfigError

    if issubclass(kind, ConfigError):
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def make_recordings(work: Path, *, n_recordings: int, seed: int = 0) -> Path:
    """Return a folder of made-up recordings with the competition's lengths; it is made once."""
    from hms.sources.synthetic import generate

    folder = work / f"recordings-{n_recordings}-seed{seed}"
    if not (folder / "train.csv").exists():
        shutil.rmtree(folder, ignore_errors=True)
        part = work / f"{folder.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        generate(
            part,
            n_recordings=n_recordings,
            n_patients=max(1, n_recordings // 6),
            seed=seed,
            write_spectrograms=False,
            n_jobs=2,
        )
        part.rename(folder)
    return folder


def make_day(work: Path, *, hours: float) -> Path:
    """Return a folder with one EDF file of so many hours: a made-up hour, forwards and backwards in turn."""
    from edfio import Edf, EdfSignal

    from hms.competition import CHANNELS, SFREQ_HZ
    from hms.sources.synthetic.drafts import draft_recordings
    from hms.sources.synthetic.recordings import simulate

    path = work / f"hours-{hours:g}" / "a.edf"
    if path.exists():
        return path.parent
    path.parent.mkdir(parents=True, exist_ok=True)
    (draft,) = draft_recordings(n_recordings=1, n_patients=1, seed=3)
    row = draft.rows[0]
    draft = replace(draft, rows=(row, replace(row, offset_s=3550)), states=draft.states[:1], change_s=None)
    eeg = np.clip(simulate(draft, seed=3), -3200, 3200)
    turns = [eeg[:, :: (-1) ** number] for number in range(int(np.ceil(hours)))]
    whole = np.concatenate(turns, axis=1)[:, : round(hours * 3600 * SFREQ_HZ)]
    in_uv = {"physical_dimension": "uV", "physical_range": (-3276.8, 3276.7)}
    signals = [
        EdfSignal(row.astype(np.float64), SFREQ_HZ, label=name, **in_uv)
        for row, name in zip(whole, CHANNELS, strict=True)
    ]
    Edf(signals).write(path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)
    return path.parent


def make_linked(work: Path, base: Path, *, n_recordings: int, n_rows: int, overlapping: bool = False) -> Path:
    """Return a folder of ``n_recordings`` links to those of ``base``, with ``n_rows`` rows in all.

    These are all of one window a recording or, ``overlapping``, drawn from those that each has there, its
    first one among them.
    """
    folder = work / f"linked-{n_recordings}-{n_rows}{'-own' if overlapping else ''}"
    if (folder / "train.csv").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "train_eegs").mkdir(parents=True)
    every = pd.read_csv(base / "train.csv")
    first = every.groupby("eeg_id", sort=False).head(1).reset_index(drop=True)
    place = np.arange(n_recordings) % len(first)
    ids = 10_000_000 + np.arange(n_recordings)
    for new, old in zip(ids.tolist(), first["eeg_id"].to_numpy()[place].tolist(), strict=True):
        os.symlink(base / "train_eegs" / f"{old}.parquet", folder / "train_eegs" / f"{new}.parquet")
    table = first.iloc[place].assign(eeg_id=ids, patient_id=ids // 9)
    table = _with_own_rows(table, every, first, place, n_rows) if overlapping else _with_rows(table, n_rows)
    table.to_csv(folder / "train.csv.part", index=False)
    (folder / "train.csv.part").rename(folder / "train.csv")
    return folder


def _with_own_rows(
    table: pd.DataFrame, every: pd.DataFrame, first: pd.DataFrame, place: np.ndarray, n_rows: int
) -> pd.DataFrame:
    """Return the rows of the recording that each links to, under its own ids; so many of all."""
    of = dict(iter(every.groupby("eeg_id", sort=False)))
    ids = zip(table["eeg_id"], table["patient_id"], first["eeg_id"].to_numpy()[place], strict=True)
    parts = [of[old].assign(eeg_id=new, patient_id=who, spectrogram_id=new) for new, who, old in ids]
    rows = pd.concat(parts, ignore_index=True)
    others = np.flatnonzero(rows["eeg_id"].duplicated())
    dropped = np.random.default_rng(0).choice(others, len(rows) - n_rows, replace=False)
    return rows.drop(index=dropped).assign(label_id=np.arange(n_rows))


def _with_rows(table: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    """Repeat rows until there are ``n_rows``, numbered within their recording."""
    counts = np.diff(np.linspace(0, n_rows, len(table) + 1).round().astype(int))
    rows = table.iloc[np.repeat(np.arange(len(table)), counts)]
    sub_id = np.concatenate([np.arange(count) for count in counts.tolist()])
    return rows.assign(
        eeg_sub_id=sub_id, label_id=np.arange(n_rows), spectrogram_id=rows["eeg_id"].to_numpy()
    )
