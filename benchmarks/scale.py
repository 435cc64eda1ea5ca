"""The whole competition in size, and a day: growth, memory, bookkeeping and start-up, all as ratios.

    python benchmarks/scale.py [--work DIR] [--only start_up]
    python benchmarks/scale.py --only overlapping --form files --recordings 4000

17,089 recordings are links to 400 made-up ones; files take 4.5 GB of outputs, the 106,800 rows that
overlap 28 GB, the day 10 GB. Every row is of processes of their own. A ratio is of seconds, and in
brackets of processor time, workers included; whole processes are given in times of the bare imports.
Peak memory is the largest resident size that the kernel noted for the process and for each of its workers.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from recordings import make_day, make_linked, make_recordings, parse  # noqa: E402
from throughput import machine  # noqa: E402

RECORDINGS, ROWS, FEW = 17_089, 106_800, 400
FORMS = ("shards", "files")
DEFAULT = "stages=[scalograms,waveforms,labels,splits,quality,summary]"
DAY = "stages=[scalograms,waveforms,quality]"
IMPORTS = "import numpy, pandas, pyarrow.parquet, hydra, omegaconf"
JOBS = os.environ.get("HMS_BENCHMARK_JOBS", "-1")
"""Workers: 1 where others are at work, and only processor time compares."""


@dataclass
class Measured:
    """A process that ended: seconds, its own and its workers' processor time, and peak resident MB."""

    seconds: float
    cpu: float
    parent_mb: float
    workers_mb: list[float] = field(default_factory=list)

    def over(self, other: Measured) -> str:
        """Return how many times another's seconds it took, in brackets of processor time."""
        return f"{self.seconds / other.seconds:.2f} ({self.cpu / other.cpu:.2f})"


def watch(command: list[str]) -> Measured:
    """Run a command to its end and note the memory of it and its children five times a second."""
    path = os.pathsep.join([str(HERE.parent), str(HERE)])
    began, cpu = time.perf_counter(), _cpu_of_children()
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
    workers = sorted(value for value in peaks.values() if value > 60)
    return Measured(seconds, _cpu_of_children() - cpu, parent, workers)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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


@cache
def bare_imports() -> Measured:
    """Return what it costs to import what any command needs, the best of five."""
    return quickest([sys.executable, "-c", IMPORTS])


def quickest(command: list[str]) -> Measured:
    """Return the quickest of five runs of a command."""
    return min((watch(command) for _ in range(5)), key=lambda measured: measured.seconds)


def prepare(data: Path, out: Path, *settings: str, source: str = "kaggle") -> tuple[Measured, float]:
    """Run the pipeline in a process of its own; return what was measured and the seconds of the pass."""
    run = [sys.executable, str(HERE.parent / "run.py"), f"data={source}", f"data.root={data}"]
    measured = watch([*run, f"outputs_dir={out}", f"n_jobs={JOBS}", *settings])
    return measured, json.loads((out / "latest" / "manifest.json").read_bytes())["times"].get("pass", 0.0)


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
    out, bare = work / "scale", bare_imports()
    rates = {}
    for data, count in ((few, FEW), (every, RECORDINGS)):
        shutil.rmtree(out, ignore_errors=True)
        measured, pass_s = prepare(data, out, DEFAULT)
        rates[count] = count / pass_s
        line(f"{count} recordings: peak memory", memory(measured), "workers < 600 MB, flat")
    line("rate of the pass, all over a few", f"{rates[RECORDINGS] / rates[FEW]:.2f}", "0.90")
    line("the same command again, in bare imports", prepare(every, out, DEFAULT)[0].over(bare), "2.0")
    line("weight=log on top", prepare(every, out, DEFAULT, "weight=log")[0].over(bare))
    line("with the report on top", prepare(every, out)[0].over(bare))
    line("another weight with its part of the report", prepare(every, out, "weight=log")[0].over(bare), "3.0")
    shutil.rmtree(out)


def rows(work: Path, base: Path) -> None:
    """Measure what is not the pass for one item per row: planning, records, links, tables, manifest."""
    data = make_linked(work, base, n_recordings=RECORDINGS, n_rows=ROWS)
    out, bare = work / "scale", bare_imports()
    stages = ("plugins=[one_number]", "stages=[one_number,labels,splits]")
    measured, pass_s = prepare(data, out, "unit=per_row", *stages)
    again = prepare(data, out, "unit=per_row", *stages)[0]
    line(
        f"{ROWS} items: all but the pass, in bare imports",
        f"{(measured.seconds - pass_s) / bare.seconds:.1f}",
    )
    line(f"{ROWS} items: peak memory", memory(measured), "parent 350 MB")
    line(f"{ROWS} items: the same command again, in bare imports", again.over(bare))
    prepare(data, out, *stages)
    line("over that of one item a recording", again.over(prepare(data, out, *stages)[0]), "2")
    shutil.rmtree(out)


def overlapping(
    work: Path, base: Path, forms: tuple[str, ...] = FORMS, n_recordings: int = RECORDINGS
) -> None:
    """Measure the competition's rows, which overlap, against one window a recording, in either form."""
    n_rows, out = round(ROWS * n_recordings / RECORDINGS), work / "scale"
    data = make_linked(work, base, n_recordings=n_recordings, n_rows=n_rows, overlapping=True)
    for form in forms:
        made = {}
        shutil.rmtree(out, ignore_errors=True)
        # Each into a folder of its own: a disk on which files were just deleted is slower at new ones.
        for unit in ("per_eeg", "per_row"):
            made[unit] = prepare(data, out / unit, DEFAULT, f"package.format={form}", f"unit={unit}")
        (once, once_pass), (each, each_pass) = made["per_eeg"], made["per_row"]
        goal = "3.0" if form == "shards" else "3.5"
        line(f"{form}: {n_rows} rows over {n_recordings} recordings", each.over(once), goal)
        line(f"{form}: of the pass alone", f"{each_pass / once_pass:.2f}", goal)
        line(f"{form}: peak memory", memory(each))
        line(f"{form}: files, folders and links; GB", "{}; {:.1f}".format(*size(out / "per_row")))
    shutil.rmtree(out)


def size(folder: Path) -> tuple[int, float]:
    """Return how many entries a folder has, those of its folders included, and the GB of its files."""
    found = list(folder.rglob("*"))
    n_bytes = sum(path.lstat().st_blocks * 512 for path in found if path.is_file() and not path.is_symlink())
    return len(found), n_bytes / 1e9


def day(work: Path) -> None:
    """Measure a day at a step of 2 s, sharing blocks and stretches, against window by window."""
    data, out = make_day(work, hours=24), work / "scale"
    made = []
    for alone in (("data.transform_s=0", "data.block_s=null"), ()):
        shutil.rmtree(out, ignore_errors=True)
        settings = ("unit=per_row", "data.step_s=2", "package.format=shards", *alone)
        made.append(prepare(data, out, DAY, *settings, source="edf"))
    verify = [sys.executable, "-m", "hms", "--outputs", str(out), "verify", "latest"]
    (alone_whole, alone_pass), (shared, shared_pass) = made
    line("24 h at a step of 2 s, over window by window", shared.over(alone_whole), "0.45")
    line("24 h: of the pass alone", f"{shared_pass / alone_pass:.2f}", "0.45")
    line("24 h: peak memory", memory(shared))
    line("24 h: files, folders and links; GB", "{}; {:.1f}".format(*size(out)))
    line("24 h: hms verify over preparing", watch(verify).over(shared))
    shutil.rmtree(out)


def start_up(work: Path) -> None:
    """Measure short commands, the best of five each."""
    run, out, bare = str(HERE.parent / "run.py"), work / "start", bare_imports()
    plan = [sys.executable, run, "plan=true", f"outputs_dir={out}"]
    watch(plan)
    line("`import numpy, pandas, pyarrow.parquet, hydra, omegaconf`", f"1 ({bare.seconds:.2f} s)")
    for what, command, goal in (
        ("`import hms`", [sys.executable, "-c", "import hms"], ""),
        ("`run.py --help`", [sys.executable, run, "--help"], "1.2"),
        ("`run.py plan=true`, embedded set", plan, "1.3"),
    ):
        line(what, quickest(command).over(bare), goal)
    shutil.rmtree(out)


PARTS = ("start_up", "recordings", "rows", "overlapping", "day")


def main() -> None:
    """Measure and print."""
    arguments = parse(
        __doc__,
        only={"choices": PARTS},
        form={"choices": FORMS, "help": "the one form of overlapping rows to measure"},
        recordings={
            "type": int,
            "choices": (FEW, 2000, 4000, RECORDINGS),
            "default": RECORDINGS,
            "help": "of the overlapping rows; fewer are quicker",
        },
    )
    forms = FORMS if arguments.form is None else (arguments.form,)
    print("| | measured | goal |\n|---|---|---|")
    for part in PARTS if arguments.only is None else (arguments.only,):
        if part in ("start_up", "day"):
            globals()[part](arguments.work)
        elif part == "overlapping":
            base = make_recordings(arguments.work, n_recordings=FEW)
            overlapping(arguments.work, base, forms, arguments.recordings)
        else:
            globals()[part](arguments.work, make_recordings(arguments.work, n_recordings=FEW))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
