"""Fixtures shared by the tests: small data sets, and the program called in process."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when NumPy is imported; other tests have the other cores

import pytest
from filelock import FileLock

import hms
from hms.main import main
from hms.results.run import Run
from hms.sources.synthetic import generate

N_RECORDINGS, N_PATIENTS = 10, 5

os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")
"""n_jobs=-1 means one worker: what needs several asks for them, and other tests have the other cores."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""The programs that tests start compile hms once, and not each of them."""

if sys.platform == "linux":
    import forked

    forked.fork_children()

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

gc.set_threshold(10_000, 20, 20)
"""Of what a test makes little is garbage that waits for the collector."""


def skip_without(package: str, reason: str) -> None:
    """Skip a module where a package is not installed; what uses it imports it, in one process of several."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a folder by its name, made by the first process of pytest-xdist that asks for it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made"
    shared.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        made, whole = shared / name, shared / f"{name}.whole"
        with FileLock(shared / f"{name}.lock"):
            if not whole.exists():
                shutil.rmtree(made, ignore_errors=True)
                make(made)
                whole.touch()
        return made

    return folder


@pytest.fixture(scope="session")
def small_set(made_once: Callable[..., Path]) -> Path:
    """Ten synthetic recordings of five patients; read-only by convention, see `own_set`."""
    few = {"n_recordings": N_RECORDINGS, "n_patients": N_PATIENTS, "seed": 11}
    return made_once("set", partial(generate, **few, write_spectrograms=False))


@pytest.fixture(scope="session")
def tiny_set(made_once: Callable[..., Path]) -> Path:
    """Five synthetic recordings of five patients, for tests that prepare them very often."""
    few = {"n_recordings": 5, "n_patients": 5, "seed": 11}
    return made_once("tiny", partial(generate, **few, write_spectrograms=False))


@pytest.fixture(scope="session")
def small_set_with_spectrograms(made_once: Callable[..., Path]) -> Path:
    """Four synthetic recordings of two patients, with the competition's spectrograms."""
    few = {"n_recordings": 4, "n_patients": 2, "seed": 0}
    return made_once("spectrograms", partial(generate, **few, write_spectrograms=True))


@pytest.fixture
def own_set(small_set: Path, tmp_path: Path) -> Path:
    """Return a copy of the small set that a test may change."""
    return Path(shutil.copytree(small_set, tmp_path / "data"))


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Name an outputs folder that is not there yet."""
    return tmp_path / "outputs"


@dataclass
class Prepared:
    """What a call of the command line gave."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(outputs: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Prepared]:
    """Call run.py's main in this process with one worker and own outputs."""

    def call(*arguments: str, n_jobs: int = 1) -> Prepared:
        capfd.readouterr()
        code = main([f"outputs_dir={outputs}", f"n_jobs={n_jobs}", *arguments])
        out, err = capfd.readouterr()
        return Prepared(code, out, err)

    return call


@pytest.fixture
def prepare(outputs: Path) -> Callable[..., Run]:
    """Run a configuration on a folder in this process and return the run."""

    def call(root: Path, *overrides: str, n_jobs: int = 1) -> Run:
        base = ("data=kaggle", f"data.root={root}", f"outputs_dir={outputs}", f"n_jobs={n_jobs}")
        return hms.run(hms.compose(*base, *overrides))

    return call


@pytest.fixture(scope="session")
def run_once(made_once: Callable[..., Path]) -> Callable[..., Run]:
    """Return a run by its overrides, computed by the first who asks; tests do not change it."""

    def call(*overrides: str) -> Run:
        name = hashlib.sha256(repr(overrides).encode()).hexdigest()
        compute = partial(hms.compose, *overrides, "n_jobs=1")
        return hms.load(outputs=made_once(name, lambda made: hms.run(compute(f"outputs_dir={made}"))))

    return call


@pytest.fixture
def ready(outputs: Path, run_once: Callable[..., Run]) -> Callable[..., Run]:
    """Return a run of one's own on a set that tests share: computed for the first who asks, then copied.

    For tests of what comes after it, such as damage, other settings or an export.
    """

    def call(root: Path, *overrides: str) -> Run:
        assert not outputs.exists(), "a run that is ready is the first of its outputs folder"
        shared = run_once("data=kaggle", f"data.root={root}", *overrides)
        shutil.copytree(shared.path.parent, outputs, symlinks=True)
        run = hms.load(outputs=outputs)
        assert run.manifest  # as after `hms.run`, it is known whatever becomes of the file
        return run

    return call


@pytest.fixture(scope="session")
def finished(small_set: Path, run_once: Callable[..., Run]) -> Run:
    """Finish a default run on the small set, once; tests do not change it."""
    return run_once("data=kaggle", f"data.root={small_set}")


@pytest.fixture(scope="session")
def test_set(small_set: Path, finished: Run, made_once: Callable[..., Path]) -> Path:
    """The items of the small set as the competition's test set: 50 s each, no votes; read-only."""
    return made_once("competition", partial(_write_test_set, small_set, finished))


def _write_test_set(small_set: Path, finished: Run, folder: Path) -> None:
    import pandas as pd

    (folder / "test_eegs").mkdir(parents=True)
    meta = finished.meta
    for item_id, start_s in zip(meta["item_id"], meta["window_start_s"], strict=True):
        first = round((start_s - 20) * 200)
        cut = (
            pd.read_parquet(small_set / "train_eegs" / f"{item_id}.parquet")
            .iloc[first : first + 10_000]
            .reset_index(drop=True)
        )
        cut.to_parquet(folder / "test_eegs" / f"{item_id}.parquet")
    meta[["spectrogram_id", "eeg_id", "patient_id"]].to_csv(folder / "test.csv", index=False)


@pytest.fixture(scope="session")
def real_set() -> Path:
    """Return the folder of real recordings that HMS_REAL_SAMPLE names."""
    folder = os.environ.get("HMS_REAL_SAMPLE", "")
    if not (Path(folder) / "train.csv").is_file():
        pytest.skip("HMS_REAL_SAMPLE names no folder with train.csv: the real recordings are NOT tested")
    return Path(folder)


@pytest.fixture(scope="module", autouse=True)
def _no_garbage_among_the_modules() -> None:
    """Let the collector, which every run calls, pass over what was imported before."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HMS_DATA", raising=False)


def benchmark(name: str) -> ModuleType:
    """Return a program of benchmarks/ as a module; it and the tests both have a module ``recordings``."""
    ours = sys.modules.pop("recordings", None)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module(name)
    finally:
        del sys.path[0]
        sys.modules.pop("recordings", None)
        if ours is not None:
            sys.modules["recordings"] = ours


def form_of(default: str) -> str:
    """Return the format that a test of faults prepares; HMS_TEST_FORMAT makes it the same in all of them."""
    return f"package.format={os.environ.get('HMS_TEST_FORMAT', default)}"


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Return the content of every file of a run by its path, the manifest left out."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "manifest.json"
    }
