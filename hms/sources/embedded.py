"""The embedded data set: made once, kept, and read back like any other folder of recordings."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

from hms.config.identity import digest_of
from hms.config.paths import fault_of_outputs
from hms.config.reading import names_in
from hms.config.schema import n_workers
from hms.errors import ConfigError
from hms.registry import register
from hms.sources.base import check_making
from hms.sources.folder import folder_of
from hms.sources.formats import looks_like
from hms.sources.kaggle import ParquetSource
from hms.sources.synthetic import Synthetic, generate
from hms.store.files import commit_files, make_folder, storage_error, sync_files, sync_folder
from hms.store.locks import lock
from hms.terminal import Progress, say

GENERATOR_VERSION = 3
"""Raised when the generated numbers change."""

COMPLETE = "complete.json"


@register("data", "synthetic", Synthetic)
def open_synthetic(params: Synthetic, *, outputs_dir: Path, n_jobs: int) -> ParquetSource:
    """Open the data set of these settings, made first if it is not there whole.

    It is in its own folder below ``data.root``, or below ``synthetic`` in the outputs. Raises `ConfigError`
    if ``data.root`` holds recordings or a table of votes: nothing made up is put next to them.
    """
    if params.root:
        _refuse_real_data(folder_of(params.root, "for the embedded recordings"))
    settings = {
        "version": GENERATOR_VERSION,
        "n_recordings": params.n_recordings,
        "n_patients": params.n_patients,
        "seed": params.seed,
        "write_spectrograms": params.write_spectrograms,
    }
    base = Path(params.root).expanduser() if params.root else outputs_dir / "synthetic"
    if fault := fault_of_outputs(base):
        raise ConfigError(f"data.root={params.root} {fault}")
    folder = base / f"{params.n_recordings}x{params.n_patients}-seed{params.seed}-{digest_of(settings, 4)}"
    if not _is_complete(folder):
        check_making(folder, params.n_recordings)
        with lock(base / f".{folder.name}.lock", waiting="waiting for another run to make them", say=say):
            if not _is_complete(folder):
                _make(folder, settings, n_jobs)
    return ParquetSource(folder, params.aliases)


def _refuse_real_data(root: Path) -> None:
    """Raise ConfigError if a folder holds recordings that were not made here."""
    found = looks_like(root, made_here=COMPLETE)
    if found is not None:
        kind, name = found
        raise ConfigError(
            f"data.root={root} holds {name}, and data=synthetic does not write next to it; it looks "
            f"like data={kind}: python run.py data={kind} data.root={root}"
        )


def _is_complete(folder: Path) -> bool:
    """Tell whether the folder was finished.

    A recording that somebody changed or removed on purpose stays as it is: only what a
    killed maker left half done is made again.
    """
    return (folder / COMPLETE).is_file()


def _make(folder: Path, settings: dict[str, int | bool], n_jobs: int) -> None:
    """Make the data set under another name and rename it when it is whole and on disk."""
    say(f"making {settings['n_recordings']} synthetic recordings in {folder}", passing=True)
    for name in names_in(folder.parent):
        if name.startswith(f".tmp-{folder.name}-"):
            shutil.rmtree(folder.parent / name)
    temporary = folder.parent / f".tmp-{folder.name}-{uuid.uuid4().hex[:8]}"
    progress = Progress(int(settings["n_recordings"]), "synthetic recordings", unit="recording")
    try:
        make_folder(temporary)
        generate(
            temporary,
            n_recordings=int(settings["n_recordings"]),
            n_patients=int(settings["n_patients"]),
            seed=int(settings["seed"]),
            write_spectrograms=bool(settings["write_spectrograms"]),
            n_jobs=n_workers(n_jobs),
            report=progress.add,
        )
        sync_files(temporary)
        commit_files(temporary, {COMPLETE: json.dumps(settings, indent=1).encode()})
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise storage_error(error, folder.parent) from error
    finally:
        progress.close()
        shutil.rmtree(temporary, ignore_errors=True)
