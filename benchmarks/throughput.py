"""How quick the pipeline is, end to end: with files and with shards, beside a notebook and a floor.

    python benchmarks/throughput.py [--work DIR] [--rounds 3] [--copies 10]

Everything happens in one program, two workers, warm files, round after round so that a busy
machine slows all of them; ratios are medians over rounds. The recordings are made up with the
lengths of the competition's, 400 files each under ten names.

pipeline           `hms.run` with its default stages: plan, pass, quality rows, digests, syncs,
                   records, tables, report, manifest
pass               the part of it in which workers prepare recordings
shards             the same with package.format=shards
without guarantees the pass with every digest, sync and record replaced by nothing
floor              read, digest, decode and write as many bytes, synced as the pipeline does: two files
                   a recording, or rows of two files that all share
notebook           `notebook_style.py`, with PyWavelets' fft method and with its default one
"""

# ruff: noqa: E402 (the checkout is put on the path before it is imported)
from __future__ import annotations

import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])

import notebook_style
import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from recordings import make_linked, make_recordings, parse

import hms
import hms.stages
from hms.competition import CHANNELS
from hms.engine.job import SECONDS_TOGETHER
from hms.sources.kaggle import ParquetRecording
from hms.store.files import digest_bytes
from hms.store.npz import npz_bytes

FILES, COPIES, WORKERS = 400, 10, 2
TOGETHER = int(SECONDS_TOGETHER / 34)
"""As many as the pipeline prepares and syncs together, whose windows with their context last 34 s."""
NOTEBOOK, NOTEBOOK_DEFAULT = 48, 8
"""Recordings that the slow ones prepare in a round."""


def in_chunks(function: Callable[..., Any], values: list[Any], size: int, *args: Any) -> float:
    """Run a function over chunks of values with the pipeline's workers; return the seconds it takes."""
    chunks = [values[i : i + size] for i in range(0, len(values), size)]
    began = time.perf_counter()
    with parallel_config(backend="loky", inner_max_num_threads=1):
        Parallel(n_jobs=WORKERS, batch_size=1, pre_dispatch=2 * WORKERS)(
            delayed(function)(chunk, *args) for chunk in chunks
        )
    return time.perf_counter() - began


# --- the contestants -----------------------------------------------------------------------------


def pipeline(data: Path, out: Path, *more: str) -> dict[str, float]:
    """Make the whole package in a new folder; return seconds: ``all`` and ``pass``."""
    settings = ("data=kaggle", f"data.root={data}", f"outputs_dir={out}", f"n_jobs={WORKERS}", *more)
    cfg = hms.compose(*settings)
    began = time.perf_counter()
    run = hms.run(cfg)
    return {"all": time.perf_counter() - began, "pass": run.manifest["times"]["pass"]}


@contextmanager
def bare() -> Iterator[tuple[str, ...]]:
    """Give the overrides that take the guarantees away, here and in new workers."""
    import no_guarantees

    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    no_guarantees.take_away()
    try:
        yield ("plugins=[no_guarantees]",)
    finally:
        no_guarantees.give_back()
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


def floor(paths: list[str], out: str, sizes: tuple[int, ...]) -> None:
    """Read, digest, decode, and write files of the given sizes: one chunk."""
    content = [bytes(size) for size in sizes]
    with ThreadPoolExecutor(1) as writer:
        names: list[str] = []
        for path in paths:
            _decode(path)
            names.append(f"{out}/{Path(path).stem}")
            if len(names) == TOGETHER or path == paths[-1]:
                writer.submit(_write, names, content)
                names = []
    descriptor = os.open(out, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def floor_of_shards(rows: list[tuple[int, str]], out: str, sizes: tuple[int, ...]) -> None:
    """Read, digest, decode, and write rows of the given sizes into files that all share: one chunk."""
    content = [bytes(size) for size in sizes]
    shards = [os.open(f"{out}/{number}", os.O_WRONLY | os.O_CREAT, 0o666) for number in range(len(sizes))]
    with ThreadPoolExecutor(1) as writer:
        for first in range(0, len(rows), TOGETHER):
            some = rows[first : first + TOGETHER]
            for _, path in some:
                _decode(path)
            writer.submit(_write_rows, shards, [row for row, _ in some], content)
    for descriptor in shards:
        os.close(descriptor)


def _write_rows(shards: list[int], rows: list[int], contents: list[bytes]) -> None:
    for descriptor, content in zip(shards, contents, strict=True):
        for row in rows:
            os.pwrite(descriptor, content, row * len(content))
        os.fsync(descriptor)


def _decode(path: str) -> None:
    from pyarrow import BufferReader
    from pyarrow.parquet import ParquetFile

    data = Path(path).read_bytes()
    digest_bytes(data)
    table = ParquetFile(BufferReader(data)).read(columns=list(CHANNELS), use_threads=False)
    np.stack([column.to_numpy()[:6000] for column in table.columns])


def _write(names: Iterable[str], contents: list[bytes]) -> None:
    descriptors = []
    for name in names:
        for number, content in enumerate(contents):
            descriptors.append(os.open(f"{name}-{number}", os.O_WRONLY | os.O_CREAT, 0o666))
            os.write(descriptors[-1], content)
    for descriptor in descriptors:
        os.fsync(descriptor)
        os.close(descriptor)


def notebook(rows: list[tuple[str, float]], out: str, method: str) -> None:
    """Prepare some recordings as the notebook does."""
    for path, offset_s in rows:
        notebook_style.prepare(path, offset_s, out, method)


# --- one recording, step by step -----------------------------------------------------------------


def steps(data: Path, out: Path, n_recordings: int) -> dict[str, float]:
    """Return CPU milliseconds per recording of each step, in one thread of this process."""
    from hms.engine.evaluate import evaluate, stacked
    from hms.pipeline.selection import choose_stages, needed_channels
    from hms.pipeline.stage import registered_order, section_function
    from hms.signal.arrays import Scalogram
    from hms.signal.wavelets import frequencies
    from hms.sources.base import Reader
    from hms.stages.scalograms import Scalograms

    cfg = hms.compose("data=kaggle", f"data.root={data}")
    items, _ = choose_stages(cfg)
    by_name = {
        stage.name: stage for kept in items for stage in kept.chain().values() if hasattr(stage, "compute")
    }
    scalograms: Any = by_name["scalograms"]
    assert isinstance(scalograms, Scalograms)
    context_s = max(stage.settings.get("derived.context_s", 0) for s in items for stage in s.chain().values())
    spent: dict[str, float] = {}
    rows: list[dict[str, Any]] = []

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        began = time.thread_time()
        value = function(*arguments)
        spent[name] = spent.get(name, 0.0) + time.thread_time() - began
        return value

    def read(path: Path) -> Any:
        content = step("read", path.read_bytes)
        step("digest", digest_bytes, content)
        recording = ParquetRecording(content, dict(cfg.data.aliases))
        reader = Reader(recording, 10.0, context_s, needed_channels(items), None)
        return step("decode", reader.segment, 20.0)

    def scalogram_of(memo: dict[str, Any]) -> None:
        derived = memo[scalograms.derivations.key]
        plan, groups = _cwt(scalograms, derived)
        power = step("CWT", plan.power, derived.values, groups)
        scale = section_function("scaling", scalograms.scaling)
        x = step("scaling", scale, power, scalograms.scaling)
        memo[scalograms.key] = Scalogram(power, x, frequencies(scalograms.cwt))

    def encode(memo: dict[str, Any]) -> list[bytes]:
        kept = (scalograms, by_name["waveforms"])
        ids = {"eeg_id": np.int64(1), "patient_id": 1}
        return [npz_bytes({**stage.arrays(memo[stage.key]), **ids}) for stage in kept]

    def together(paths: list[Path]) -> None:
        """Take every step for all of some recordings before the next, as a worker does."""
        read_ones: list[tuple[Any, dict[str, Any]]] = [(read(path), {}) for path in paths]
        for name in sorted((*LABELS, "scalograms"), key=registered_order().index):
            for segment, memo in read_ones:
                if name == "scalograms":
                    scalogram_of(memo)
                else:
                    step(LABELS[name], evaluate, by_name[name], segment, memo)
        rows.extend(memo[by_name["measures"].key] for _, memo in read_ones)
        contents = [step("encode", encode, memo) for _, memo in read_ones]
        for path, files in zip(paths, contents, strict=True):
            for number, content in enumerate(files):
                step("write", _write_one, f"{out}/{path.stem}-{number}", content)

    paths = sorted((data / "train_eegs").iterdir())[: n_recordings + TOGETHER]
    together(paths[:TOGETHER])
    spent.clear()
    rows.clear()
    for first in range(TOGETHER, len(paths), TOGETHER):
        together(paths[first : first + TOGETHER])
    step("quality", by_name["measures"].derive_rows, stacked(rows))
    return {name: 1e3 * seconds / n_recordings for name, seconds in spent.items()}


LABELS = {
    "inspections": "quality",
    "signal": "gaps and filter",
    "derivations": "montage",
    "waveforms": "waveform",
    "measures": "quality",
    "sketches": "quality",
}


def _cwt(scalograms: Any, derived: Any) -> tuple[Any, Any]:
    from hms.signal.cwt import plan_cwt
    from hms.signal.montage import output_groups

    plan = plan_cwt(
        scalograms.cwt, sfreq=derived.sfreq, n_context=derived.n_context, n_window=derived.n_window
    )
    return plan, output_groups(scalograms.derivations.chains, scalograms.output, derived.alive)


def _write_one(name: str, content: bytes) -> None:
    with open(name, "wb", buffering=0) as file:
        file.write(content)


# --- the tables ----------------------------------------------------------------------------------


def measure(work: Path, outputs: Path, rounds: int, copies: int) -> dict[str, list[float]]:
    """Return rates in recordings per second, one per round, of everything compared.

    Everybody writes into new folders, which stay until the program ends: a file system may not give
    the inodes of deleted files away again at once, and looking for others slows whoever comes next.
    """
    base = make_recordings(work, n_recordings=FILES)
    n_items = FILES * copies
    data = make_linked(work, base, n_recordings=n_items, n_rows=n_items)
    paths = sorted(str(path) for path in (data / "train_eegs").iterdir())
    table = pd.read_csv(base / "train.csv").groupby("eeg_id", sort=False).head(1)
    rows = [
        (f"{base}/train_eegs/{eeg_id}.parquet", offset)
        for eeg_id, offset in zip(table["eeg_id"], table["eeg_label_offset_seconds"], strict=True)
    ]
    warm = make_linked(work, base, n_recordings=64, n_rows=64)
    rates: dict[str, list[float]] = {}

    def note(name: str, count: int, seconds: float) -> None:
        rates.setdefault(name, []).append(count / seconds)
        os.sync()  # nobody pays for what another left to be written

    folders = (outputs / str(number) for number in itertools.count())
    for number in range(rounds):
        pipeline(warm, next(folders))
        out = next(folders)
        seconds = pipeline(data, out)
        note("pipeline", n_items, seconds["all"])
        note("pass", n_items, seconds["pass"])
        sizes = tuple(
            next((out / "latest" / name).resolve().iterdir()).resolve().stat().st_size
            for name in ("spec_hr_out", "wave_hr_out")
        )
        note("floor", n_items, in_chunks(floor, paths, 64, str(_made(next(folders))), sizes))
        note("shards", n_items, pipeline(data, next(folders), "package.format=shards")["all"])
        numbered = list(enumerate(paths))
        seconds_of_shards = in_chunks(floor_of_shards, numbered, 64, str(_made(next(folders))), sizes)
        note("floor of shards", n_items, seconds_of_shards)
        some = rows[number * NOTEBOOK :][:NOTEBOOK]
        for name, chosen, method in (
            ("notebook, fft method", some, "fft"),
            ("notebook, default method", some[:NOTEBOOK_DEFAULT], "conv"),
        ):
            note(name, len(chosen), in_chunks(notebook, chosen, 2, str(_made(next(folders))), method))
        with bare() as settings:
            pipeline(warm, next(folders), *settings)
            note("pass without guarantees", n_items, pipeline(data, next(folders), *settings)["pass"])
    return rates


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def show(rates: dict[str, list[float]]) -> None:
    """Print ratios."""
    print("| ratio | median of rounds | range | goal |\n|---|---|---|---|")
    pairs = [
        ("pipeline", "notebook, fft method", "35"),
        ("pipeline", "notebook, default method", ""),
        ("pipeline", "floor", "0.45"),
        ("shards", "floor of shards", "0.6"),
        ("shards", "pipeline", ""),
        ("pass", "floor", ""),
        ("pass", "pass without guarantees", "0.85"),
    ]
    for first, second, goal in pairs:
        ratios = [a / b for a, b in zip(rates[first], rates[second], strict=True)]
        spread = f"{min(ratios):.3g} - {max(ratios):.3g}"
        print(f"| {first} / {second} | {statistics.median(ratios):.3g} | {spread} | {goal} |")


def machine() -> str:
    """Return the machine and the versions in one line."""
    names = ("numpy", "scipy", "pandas", "pyarrow", "PyWavelets", "joblib", "xxhash")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}, {versions}"


def main() -> None:
    """Measure and print."""
    arguments = parse(__doc__, rounds={"type": int, "default": 3}, copies={"type": int, "default": COPIES})
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=arguments.work) as outputs:
        show(measure(arguments.work, Path(outputs), arguments.rounds, arguments.copies))
        spent = steps(
            make_recordings(arguments.work, n_recordings=FILES), _made(Path(outputs) / "steps"), 100
        )
    whole = sum(spent.values())
    print("\n| step, one thread | share |\n|---|---|")
    for name, value in spent.items():
        print(f"| {name} | {100 * value / whole:.0f} % |")
    print(f"\n{machine()}\n{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
