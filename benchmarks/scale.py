"""The whole competition in size: rates, memory, bookkeeping and start-up, each in a process of its own.

    python benchmarks/scale.py [--work DIR] [--only start_up]

17,089 recordings are links to 400 made-up ones; they take 4.5 GB of outputs. Peak memory is the
largest resident size that the kernel noted for the process and for each of its workers.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from recordings import make_linked, make_recordings, parse  # noqa: E402
from throughput import machine  # noqa: E402

RECORDINGS, ROWS, FEW, OVERLAPPING = 17_089, 106_800, 400, 1_600
DEFAULT = "stages=[scalograms,waveforms,labels,splits,quality,summary]"


@dataclass
class Measured:
    """A process that ended: its seconds, and peak resident MB of it and of its workers."""

    seconds: float
    parent_mb: float
    workers_mb: list[float] = field(default_factory=list)


def watch(command: list[str]) -> Measured:
    """Run a command to its end and note the memory of it and its children five times a second."""
    path = os.pathsep.join([str(HERE.parent), str(HERE)])
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peaks: dict[int, float] = {}
    while process.poll() is None:
        for pid in (process.pid, *_children(process.pid)):
            peaks[pid] = max(peaks.get(pid, 0.0), _peak_mb(pid))
        time.sleep(0.2 if time.perf_counter() - began > 2 else 0.01)
    seconds = time.perf_counter() - began
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors[-2000:]}")
    parent = peaks.pop(process.pid, 0.0)
    return Measured(seconds, parent, sorted(value for value in peaks.values() if value > 60))


def _children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def prepare(data: Path, out: Path, *settings: str) -> tuple[Measured, dict[str, float]]:
    """Run the pipeline in a process of its own; return what was measured and the manifest's times."""
    run = [sys.executable, str(HERE.parent / "run.py"), "data=kaggle", f"data.root={data}"]
    measured = watch([*run, f"outputs_dir={out}", *settings])
    return measured, json.loads((out / "latest" / "manifest.json").read_bytes())["times"]


def line(what: str, value: str, goal: str = "") -> None:
    """Print one row of the table."""
    print(f"| {what} | {value} | {goal} |", flush=True)


def memory(measured: Measured) -> str:
    """Return peaks in words."""
    workers = ", ".join(f"{value:.0f}" for value in measured.workers_mb)
    return f"{measured.parent_mb:.0f} MB; workers {workers} MB"


def recordings(work: Path, base: Path) -> None:
    """Measure all recordings against a few, and what runs again cost."""
    few = make_linked(work, base, n_recordings=FEW, n_rows=FEW)
    every = make_linked(work, base, n_recordings=RECORDINGS, n_rows=RECORDINGS)
    out = work / "scale"
    rates = {}
    for data, count in ((few, FEW), (every, RECORDINGS)):
        shutil.rmtree(out, ignore_errors=True)
        measured, times = prepare(data, out, DEFAULT)
        rates[count] = count / times["pass"]
        line(f"{count} recordings: the pass", f"{rates[count]:.0f} recordings/s")
        line(f"{count} recordings: whole process", f"{measured.seconds:.1f} s")
        line(f"{count} recordings: peak memory", memory(measured), "workers < 600 MB, flat")
    line("rate of all over that of a few", f"{rates[RECORDINGS] / rates[FEW]:.2f}", "0.90")
    line("the same command again", f"{prepare(every, out, DEFAULT)[0].seconds:.2f} s", "2 s")
    line("weight=log on top", f"{prepare(every, out, DEFAULT, 'weight=log')[0].seconds:.2f} s", "3 s")
    line("with the report on top", f"{prepare(every, out)[0].seconds:.2f} s")
    shutil.rmtree(out)


def rows(work: Path, base: Path) -> None:
    """Measure what is not the pass for one item per row: planning, records, links, tables, manifest."""
    data = make_linked(work, base, n_recordings=RECORDINGS, n_rows=ROWS)
    out = work / "scale"
    settings = ("unit=per_row", "plugins=[one_number]", "stages=[one_number,labels,splits]")
    measured, times = prepare(data, out, *settings)
    bookkeeping = measured.seconds - times["pass"]
    line(f"{ROWS} items (unit=per_row): all but the pass", f"{bookkeeping:.1f} s", "10 s")
    line(f"{ROWS} items: peak memory", memory(measured))
    line(f"{ROWS} items: the same command again", f"{prepare(data, out, *settings)[0].seconds:.2f} s")
    shutil.rmtree(out)


def overlapping(work: Path, base: Path) -> None:
    """Measure every row against one window a recording, sharing stretches and window by window, in turn."""
    data = make_linked(work, base, n_recordings=OVERLAPPING, n_rows=None)
    out, per_row = work / "scale", "unit=per_row"
    for form in ("files", "shards"):
        cases = {"once": (), "shared": (per_row,), "alone": (per_row, "data.transform_s=0")}
        passes: dict[str, list[float]] = {name: [] for name in cases}
        for name in (*cases, *reversed(cases)):
            shutil.rmtree(out, ignore_errors=True)
            passes[name].append(
                prepare(data, out, DEFAULT, f"package.format={form}", *cases[name])[1]["pass"]
            )
        seconds = {name: statistics.mean(values) for name, values in passes.items()}
        line(
            f"{form}: every row over one a recording", f"{seconds['shared'] / seconds['once']:.2f}", "3.5; 3"
        )
        line(f"{form}: window by window", f"{seconds['alone'] / seconds['once']:.2f}")
    shutil.rmtree(out)


def start_up(work: Path) -> None:
    """Measure short commands, the best of five each."""
    run, out = str(HERE.parent / "run.py"), work / "start"
    plan = [sys.executable, run, "plan=true", f"outputs_dir={out}"]
    watch(plan)
    for what, command, goal in (
        ("`import hms`", [sys.executable, "-c", "import hms"], "0.3 s"),
        ("`run.py --help`", [sys.executable, run, "--help"], "1.5 s"),
        ("`run.py plan=true`, embedded set", plan, "1.5 s"),
    ):
        line(what, f"{min(watch(command).seconds for _ in range(5)):.2f} s", goal)
    shutil.rmtree(out)


def main() -> None:
    """Measure and print."""
    arguments = parse(__doc__, only={"choices": ("recordings", "rows", "overlapping", "start_up")})
    base = make_recordings(arguments.work, n_recordings=FEW)
    print("| | measured | goal |\n|---|---|---|")
    if arguments.only in (None, "start_up"):
        start_up(arguments.work)
    if arguments.only in (None, "recordings"):
        recordings(arguments.work, base)
    if arguments.only in (None, "rows"):
        rows(arguments.work, base)
    if arguments.only in (None, "overlapping"):
        overlapping(arguments.work, base)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
