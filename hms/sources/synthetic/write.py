"""A data set's files: recordings, spectrograms, the truth apart, and train.csv last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS
from hms.config.threads import one_thread
from hms.sources.synthetic.drafts import Draft, draft_recordings, truth_table, votes_table
from hms.sources.synthetic.recordings import lost, simulate
from hms.sources.synthetic.spectrograms import CHAIN_PATHS, SPECTROGRAM_HZ, SPECTROGRAM_STEP_S, spectrogram
from hms.terminal import interrupts_held

README = (
    "What the generator drew, for checking models and the generator itself. Not an input.\n"
    "latent.csv: for each row of train.csv, the distribution over classes that its votes were drawn from.\n"
)


def generate(
    folder: Path,
    *,
    n_recordings: int,
    n_patients: int,
    seed: int,
    write_spectrograms: bool,
    n_jobs: int = 1,
    report: Callable[[int], None] = lambda count: None,
) -> None:
    """Write a data set in the competition's layout into a folder; train.csv is written last.

    The files are the same bytes for the same arguments whatever ``n_jobs``. ``truth/`` holds what the votes
    were drawn from and is not part of the layout. ``report`` is told how many recordings were written since
    it was told last. Raises `ValueError` if there are more patients than recordings, or the folder is not
    empty.
    """
    drafts = draft_recordings(n_recordings=n_recordings, n_patients=n_patients, seed=seed)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"folder {folder} is not empty; a data set needs an empty folder")
    for name in ("train_eegs", "truth", *(["train_spectrograms"] if write_spectrograms else [])):
        (folder / name).mkdir(parents=True)
    for count in _write_groups(
        folder, drafts, seed=seed, write_spectrograms=write_spectrograms, n_jobs=n_jobs
    ):
        report(count)
    votes = votes_table(drafts, seed=seed)
    (folder / "truth" / "README.txt").write_text(README, encoding="utf-8")
    truth_table(drafts, votes).to_csv(folder / "truth" / "latent.csv", index=False, lineterminator="\n")
    votes.to_csv(folder / "train.csv", index=False, lineterminator="\n")


def _write_groups(
    folder: Path, drafts: list[Draft], *, seed: int, write_spectrograms: bool, n_jobs: int
) -> Iterator[int]:
    """Write the recordings, those of one spectrogram together; yield how many, group by group.

    One BLAS thread everywhere: how a product is split over threads may change its last bits.
    """
    import joblib

    groups: dict[int, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(draft.spectrogram_id, []).append(draft)
    write = joblib.delayed(_write_group)
    with one_thread(), joblib.parallel_config("loky", inner_max_num_threads=1):
        with interrupts_held():
            written = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
                write(folder, group, seed, write_spectrograms) for group in groups.values()
            )
        yield from written


def _write_group(folder: Path, group: list[Draft], seed: int, write_spectrograms: bool) -> int:
    """Write the recordings of one spectrogram and return how many they are."""
    eegs = [simulate(draft, seed=seed) for draft in group]
    for draft, eeg in zip(group, eegs, strict=True):
        kept = lost(draft, eeg, seed=seed)
        _write_parquet(
            folder / "train_eegs" / f"{draft.eeg_id}.parquet", dict(zip(CHANNELS, kept, strict=True))
        )
    if write_spectrograms:
        image = spectrogram(group, eegs, seed=seed)
        columns: dict[str, NDArray[Any]] = {"time": 1 + SPECTROGRAM_STEP_S * np.arange(len(image))}
        for k, chain in enumerate(CHAIN_PATHS):
            columns |= {f"{chain}_{hz:.2f}": image[:, k, i] for i, hz in enumerate(SPECTROGRAM_HZ)}
        _write_parquet(folder / "train_spectrograms" / f"{group[0].spectrogram_id}.parquet", columns)
    return len(group)


def _write_parquet(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: np.ascontiguousarray(values) for name, values in columns.items()})
    # Samples rarely repeat: a dictionary of them costs time and saves nothing.
    pq.write_table(table, path, compression="snappy", use_dictionary=False, write_statistics=False)
