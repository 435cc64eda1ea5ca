"""The embedded data set: made once, kept, and read back like any other folder of recordings."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hms.config.identity import digest_of
from hms.config.paths import fault_of_outputs
from hms.config.reading import is_folder, names_in
from hms.config.schema import n_workers
from hms.errors import ConfigError
from hms.registry import register
from hms.sources.base import Place, check_making
from hms.sources.folder import folder_of
from hms.sources.formats import looks_like
from hms.sources.kaggle import ParquetSource
from hms.sources.spectrograms import SPECTROGRAM
from hms.sources.synthetic import Synthetic, generate
from hms.store.files import commit_files, make_folder, storage_error, sync_files, sync_folder
from hms.store.locks import lock
from hms.terminal import Progress, say

if TYPE_CHECKING:
    import pandas as pd

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
    maker = _Maker(folder, settings, n_jobs)
    if not _is_complete(folder):
        with maker.locked():
            if not _is_complete(folder):
                maker.make()
    return EmbeddedSource(folder, params.aliases, maker=maker)


@dataclass(frozen=True)
class EmbeddedSource(ParquetSource):
    """The embedded recordings; their spectrograms, half of the work, are made when somebody asks for them."""

    maker: _Maker | None = field(default=None, compare=False, repr=False)

    def companions(self, kind: str, items: pd.DataFrame) -> tuple[list[Place | None], list[float]]:
        """Return each item's spectrogram file, made first if need be, and where its ten minutes start."""
        if kind == SPECTROGRAM and self.maker is not None:
            self.maker.make_spectrograms(self.spectrograms)
        return super().companions(kind, items)


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


@dataclass(frozen=True)
class _Maker:
    """What makes a data set and, later, its spectrograms."""

    folder: Path
    settings: dict[str, int | bool]
    n_jobs: int

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let nobody else make the data set meanwhile."""
        check_making(self.folder, int(self.settings["n_recordings"]))
        guard = self.folder.parent / f".{self.folder.name}.lock"
        with lock(guard, waiting="waiting for another run to make them", say=say):
            yield

    def make(self) -> None:
        """Make the data set under another name and rename it when it is whole and on disk."""
        with self._generated("recordings", write_spectrograms=False) as made:
            sync_files(made)
            commit_files(made, {COMPLETE: json.dumps(self.settings, indent=1).encode()})
            if self.folder.exists():
                shutil.rmtree(self.folder)
            os.replace(made, self.folder)
            sync_folder(self.folder.parent)

    def make_spectrograms(self, name: str) -> None:
        """Add the folder of spectrograms, if there are to be any and it is not there."""
        if not self.settings["write_spectrograms"] or is_folder(self.folder / name):
            return
        with self.locked():
            if is_folder(self.folder / name):
                return
            with self._generated("spectrograms", write_spectrograms=True) as made:
                sync_files(made / name)
                os.replace(made / name, self.folder / name)
                sync_folder(self.folder)

    @contextmanager
    def _generated(self, what: str, *, write_spectrograms: bool) -> Iterator[Path]:
        """Generate the data set in a temporary folder, which goes in the end."""
        numbers = {name: int(self.settings[name]) for name in ("n_recordings", "n_patients", "seed")}
        base, n = self.folder.parent, numbers["n_recordings"]
        say(f"making {n} synthetic {what} in {self.folder}", passing=True)
        for name in names_in(base):
            if name.startswith(f".tmp-{self.folder.name}-"):
                shutil.rmtree(base / name)
        temporary = base / f".tmp-{self.folder.name}-{uuid.uuid4().hex[:8]}"
        progress = Progress(n, f"synthetic {what}", unit="recording")
        try:
            make_folder(temporary)
            generate(
                temporary,
                **numbers,
                write_spectrograms=write_spectrograms,
                n_jobs=n_workers(self.n_jobs),
                report=progress.add,
            )
            yield temporary
        except OSError as error:
            raise storage_error(error, base) from error
        finally:
            progress.close()
            shutil.rmtree(temporary, ignore_errors=True)
