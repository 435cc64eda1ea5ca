"""A recording that is replaced while it is read: its digest is that of what was decoded, in every source.

The other file has the same length and the same time. It comes at the n-th call that the reader makes,
n = 1, 2, 3, 5, 8 ..., under the name of the first or in its place on the disk.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.io import savemat

import hms
from hms.competition import CHANNELS
from hms.config.schema import Config
from hms.engine.plan import open_source
from hms.errors import ConfigError, Unusable
from hms.sources.base import Part, open_part
from hms.sources.spectrograms import CHAINS, SPECTROGRAM
from hms.store.places import Outputs
from tests.recordings import noise, write_bdf, write_brainvision, write_edf, write_eeglab

N = 2000
TIME_NS = 1_700_000_000_000_000_000
CALLS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181, 6765)
VOTES = (
    "eeg_id,eeg_sub_id,eeg_label_offset_seconds,spectrogram_id,spectrogram_label_offset_seconds,patient_id,"
    "seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote\n7,0,0,7,0,1,1,2,3,4,5,6\n"
)


def write_parquet(path: Path, columns: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(exist_ok=True)
    table = pa.table({name: x.astype(np.float32) for name, x in columns.items()})
    pq.write_table(table, path, compression="none", use_dictionary=False)


def competition(folder: Path, seed: int) -> None:
    (folder / "train.csv").write_text(VOTES)
    write_parquet(folder / "train_eegs" / "7.parquet", noise(N, seed=seed))
    rng = np.random.default_rng(seed)
    columns = {f"{chain}_{hz}": rng.random(300) for chain in CHAINS for hz in (0.5, 1.5)}
    write_parquet(folder / "train_spectrograms" / "7.parquet", {"time": np.arange(300.0), **columns})


def archive(folder: Path, seed: int) -> None:
    competition(folder, seed)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    with zipfile.ZipFile(folder / "a.zip", "w") as packed:
        for file in files:
            packed.writestr(zipfile.ZipInfo(file.relative_to(folder).as_posix()), file.read_bytes())
    for file in files:
        file.unlink()


def iiic(folder: Path, seed: int) -> None:
    savemat(folder / "7.mat", {"seg": np.stack(list(noise(N, seed=seed).values()))})


def fif(folder: Path, seed: int) -> None:
    import mne

    signals = noise(N, seed=seed)
    info = mne.create_info(list(signals), 200, "eeg")
    raw = mne.io.RawArray(np.stack(list(signals.values())) * 1e-6, info, verbose="error")
    raw.save(folder / "7_raw.fif", fmt="double", verbose="error")


def bids(folder: Path, seed: int) -> None:
    place = folder / "sub-01" / "eeg"
    place.mkdir(parents=True)
    write_brainvision(place / "sub-01_task-x_eeg.vhdr", noise(N, seed=seed))
    unit = ("uV", "mV")[seed % 2]
    rows = "".join(f"{name}\tEEG\t{unit}\tgood\n" for name in CHANNELS)
    (place / "sub-01_task-x_channels.tsv").write_text(f"name\ttype\tunits\tstatus\n{rows}")


@dataclass(frozen=True)
class Kind:
    """A kind of source: what it is typed as, how its files are made, which of them is of what kind."""

    typed: tuple[str, ...]
    make: Callable[[Path, int], Any]
    name: str
    kind: str = "recording"
    root: str = ""


KINDS = {
    "parquet": Kind(("data=kaggle",), competition, "7"),
    "spectrogram": Kind(("data=kaggle",), competition, "7", SPECTROGRAM),
    "archive": Kind(("data=kaggle",), archive, "7", root="a.zip"),
    "archived spectrogram": Kind(("data=kaggle",), archive, "7", SPECTROGRAM, root="a.zip"),
    "iiic": Kind(("data=iiic", "data.votes=null"), iiic, "7"),
    "edf": Kind(("data=edf",), lambda f, s: write_edf(f / "7.edf", noise(N, seed=s)), "7.edf"),
    "bdf": Kind(("data=edf",), lambda f, s: write_bdf(f / "7.bdf", noise(N, seed=s)), "7.bdf"),
    "brainvision": Kind(
        ("data=mne",), lambda f, s: write_brainvision(f / "7.vhdr", noise(N, seed=s)), "7.vhdr"
    ),
    "eeglab": Kind(("data=mne",), lambda f, s: write_eeglab(f / "7.set", noise(N, seed=s)), "7.set"),
    "fif": Kind(("data=mne",), fif, "7_raw.fif"),
    "bids": Kind(("data=bids",), bids, "sub-01/eeg/sub-01_task-x_eeg.vhdr"),
}
BROKEN = 2
"""Number of the content that is no recording."""


@pytest.fixture
def contents(tmp_path: Path, request: pytest.FixtureRequest) -> list[dict[str, bytes]]:
    """Files of three contents by name, as long as each other: two recordings, and zeros."""
    found = []
    for seed in (0, 1):
        folder = tmp_path / f"content{seed}"
        folder.mkdir()
        KINDS[request.param].make(folder, seed)
        files = (p for p in sorted(folder.rglob("*")) if p.is_file())
        found.append({p.relative_to(folder).as_posix(): p.read_bytes() for p in files})
    lengths = [{name: len(data) for name, data in content.items()} for content in found]
    assert lengths[0] == lengths[1]
    assert found[0] != found[1]
    zeros = {name: bytes(len(data)) for name, data in found[0].items() if data != found[1][name]}
    return [*found, found[0] | zeros]


def install(root: Path, content: dict[str, bytes], *, in_place: bool = False) -> None:
    """Put files of a content into a folder, all of one time."""
    for name, data in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path if in_place else path.with_name(f".{path.name}.new")
        with open(target, "r+b" if in_place else "wb") as file:
            file.write(data)
        os.utime(target, ns=(TIME_NS, TIME_NS))
        os.replace(target, path)


def told(cfg: Config, kind: Kind, at: Any = None) -> tuple[str, Any]:
    """Return a recording's digest, and its samples or the lasting reason why there are none."""
    try:
        source = open_source(cfg, Outputs(Path("outputs")))
        with at or nullcontext():
            return _told(source, kind)
    except ConfigError:  # the archive as a whole cannot be read
        return "", None


def _told(source: Any, kind: Kind) -> tuple[str, Any]:
    if kind.kind == SPECTROGRAM:
        items = pd.DataFrame({"spectrogram_id": ["7"], "spectrogram_offset_s": [0.0]})
        (place,), _ = source.companions(SPECTROGRAM, items)
    else:
        (place,) = source.places([kind.name])
    part = Part(place, "", kind.kind)
    try:
        opened = open_part(source, part)
        digest = opened.digest_of("0" if kind.typed[0] == "data=edf" else "")
        try:
            if kind.kind == SPECTROGRAM:
                return digest, opened.segment(0.0).power  # type: ignore[attr-defined]
            return digest, opened.read(0, N, ("Fp1", "O2"))  # type: ignore[attr-defined]
        except KeyError:
            return digest, "a channel is missing"
    except Unusable as reason:
        if not reason.permanent:
            return "", None
        return digest, reason.reason


class At:
    """Do something at the n-th call in readers' code."""

    def __init__(self, n: int, do: Callable[[], None]) -> None:
        self.left, self.do = n, do

    def __enter__(self) -> At:
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def __call__(self, frame: FrameType, event: str, called: object) -> None:
        is_call = event == "call" or (
            event == "c_call" and getattr(called, "__module__", "") in ("posix", "io", "_io")
        )
        name = frame.f_code.co_filename
        if is_call and ("/hms/sources/" in name or "/mne/" in name):
            self.left -= 1
            if self.left == 0:
                self.do()


@pytest.mark.slow
@pytest.mark.parametrize(("contents", "name"), [(name, name) for name in KINDS], indirect=["contents"])
def test_a_recording_that_is_replaced_while_it_is_read_is_never_told_under_the_digest_of_another(
    contents: list[dict[str, bytes]], name: str, tmp_path: Path
) -> None:
    kind, root = KINDS[name], tmp_path / "root"
    cfg = hms.compose(*kind.typed, f"data.root={root / kind.root}")
    known = {}
    changing = [path for path in contents[0] if contents[0][path] != contents[1][path]]
    for mixed in product(contents, repeat=len(changing)):  # of several files some may be the other's
        install(root, contents[0] | {p: content[p] for content, p in zip(mixed, changing, strict=True)})
        digest, result = told(cfg, kind)
        known[digest] = result
    assert sum(isinstance(result, np.ndarray) for result in known.values()) >= 2
    for n in CALLS:
        for other, in_place in product((1, BROKEN), (False, True)):
            install(root, contents[0])
            at = At(n, partial(install, root, contents[other], in_place=in_place))
            digest, result = told(cfg, kind, at)
            if result is not None:
                assert digest in known, (n, other, in_place, result)
                assert np.array_equal(known[digest], result), (n, other, in_place)
        if at.left > 0:
            assert n >= 8
            return
    raise AssertionError("the reader made more calls than were looked at")
