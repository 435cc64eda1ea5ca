"""The same recordings by every engine and from object storage: every byte compared, rates as ratios.

Contestants take turns, round after round, each into an empty store: loky and Dask with two workers and with
one, Dask's workers at an address, which stand ready, SLURM's jobs where SLURM is installed, and loky from a
server of objects without latency and with 30 ms before every answer. The pass of loky includes the start of
its workers, that of the others does not; the command includes all. What differs in a byte ends the program.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from object_server import settings

import hms
from hms.sources.synthetic import generate

STAGES = "stages=[scalograms,waveforms,labels,splits]"
TESTS = str(Path(__file__).parents[1] / "tests")
SLURM = ("engine=slurm", "engine.jobs=2", "engine.memory=400MB", "engine.interface=lo")
LATENCY_MS = 30
PATIENTS = 150

Seconds = tuple[float, float, float]
"""Of the pass, of the whole command, and of processors in the command and all that it started itself."""

Contestant = tuple[str, tuple[str, ...], dict[str, str]]
"""Where the recordings lie, what is typed, and the environment."""


def tree(run: Path) -> dict[str, bytes]:
    """Return what a run must have in common with every other: all but its manifest."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


@contextmanager
def object_server(folder: Path, latency_ms: float) -> Iterator[dict[str, str]]:
    """Serve a folder as a bucket from a process of its own; yield the environment that reaches it."""
    program = str(Path(__file__).with_name("object_server.py"))
    arguments = [sys.executable, program, str(folder), str(latency_ms)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield settings(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str] | None]:
    """Start the tests' SLURM of one machine; yield what reaches it, None where it cannot be started."""
    sys.path.insert(0, TESTS)
    import clusters

    if problem := clusters.why_no_slurm():
        print(f"slurm: NOT measured, {problem}")
        yield None
        return
    with clusters.slurm(folder) as env:
        yield env


@contextmanager
def standing_cluster() -> Iterator[str]:
    """Start a scheduler and two workers that stand ready; yield the scheduler's address."""
    sys.path.insert(0, TESTS)
    import clusters

    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with clusters.cluster("--nanny", env=env) as (address, _):
        yield address


def prepare(root: str, outputs: Path, overrides: tuple[str, ...], env: dict[str, str]) -> Seconds:
    """Run once into an empty store in a process of its own."""
    shutil.rmtree(outputs, ignore_errors=True)
    program = str(Path(__file__).parents[1] / "run.py")
    fixed = ("data=kaggle", f"data.root={root}", f"outputs_dir={outputs}", STAGES)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **env}
    done = subprocess.run(
        [sys.executable, program, *fixed, *overrides],
        env=environment,
        cwd=outputs.parent,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(overrides)} ended with {done.returncode}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(hms.load(outputs=outputs).manifest["times"]["pass"]), seconds, busy


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of contestants, with '; ' between; default: all")
    parser.add_argument("--format", default="files", choices=("files", "shards"))
    parser.add_argument("--work", type=Path, help="folder to work in; default: a temporary one")
    given = parser.parse_args()
    with ExitStack() as stack:
        work = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        objects = work / "objects"
        if not (objects / "set").exists():
            n_patients = min(PATIENTS, given.recordings)
            generate(
                objects / "set", n_recordings=given.recordings, n_patients=n_patients, seed=7,
                write_spectrograms=False,
            )  # fmt: skip
        folder = str(objects / "set")
        near = stack.enter_context(object_server(objects, 0))
        far = stack.enter_context(object_server(objects, LATENCY_MS))
        contestants: dict[str, Contestant] = {
            "loky, 2 workers": (folder, ("n_jobs=2",), {}),
            "loky, 1 worker": (folder, ("n_jobs=1",), {}),
            "dask, 2 workers": (folder, ("engine=dask", "n_jobs=2"), {}),
            "dask, 1 worker": (folder, ("engine=dask", "n_jobs=1"), {}),
            "dask, 2 at an address": (
                folder,
                ("engine=dask", f"engine.address={stack.enter_context(standing_cluster())}"),
                {},
            ),
            "s3, no latency": ("s3://bucket/set", ("n_jobs=2",), near),
            f"s3, {LATENCY_MS} ms": ("s3://bucket/set", ("n_jobs=2",), far),
        }
        if "slurm" in (given.only or "slurm"):
            env = stack.enter_context(slurm(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
            if env is not None:
                contestants["slurm, 2 jobs"] = (folder, SLURM, env)
        names = [name for name in contestants if not given.only or name in given.only.split("; ")]
        form = f"package.format={given.format}"
        taken = measured(contestants, names, work / "outputs", given.rounds, form)
        report(given.recordings, taken)
        efficiency(taken)


def measured(
    contestants: dict[str, Contestant],
    names: list[str],
    outputs: Path,
    rounds: int,
    form: str,
) -> dict[str, list[Seconds]]:
    """Return what each contestant took, round by round; every run has the same bytes."""
    taken: dict[str, list[Seconds]] = {name: [] for name in names}
    expected: dict[str, bytes] | None = None
    for _ in range(rounds):
        for name in names:
            root, overrides, env = contestants[name]
            taken[name].append(prepare(root, outputs, (form, *overrides), env))
            print(name, *(f"{seconds:.2f}" for seconds in taken[name][-1]), file=sys.stderr, flush=True)
            found = tree((outputs / "latest").resolve())
            expected = expected or found
            if found != expected:
                raise SystemExit(f"{name}: other bytes than {names[0]}")
    return taken


def report(n_recordings: int, taken: dict[str, list[Seconds]]) -> None:
    """Print a table: medians, and of each the ratio to the first contestant, taken round by round."""
    first = next(iter(taken))
    print(f"{n_recordings} recordings, {len(taken[first])} rounds in turn, every byte the same")
    print(
        f"| contestant | pass, s | over {first} | command, s | over {first} | processors, s | over {first} |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, rounds in taken.items():
        cells = []
        for part in range(3):
            ratios = [mine[part] / theirs[part] for mine, theirs in zip(rounds, taken[first], strict=True)]
            seconds = statistics.median(mine[part] for mine in rounds)
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            cells += [f"{seconds:.1f}", f"{statistics.median(ratios):.2f} ({each})"]
        print(f"| {name} | {' | '.join(cells)} |")


def efficiency(taken: dict[str, list[Seconds]]) -> None:
    """Print how much of twice the rate of one worker two have, by the pass and by the command."""
    for engine in ("loky", "dask"):
        one, two = taken.get(f"{engine}, 1 worker"), taken.get(f"{engine}, 2 workers")
        if one is None or two is None:
            continue
        shares = (
            statistics.median(1 / 2 * a[part] / b[part] for a, b in zip(one, two, strict=True))
            for part in (0, 1)
        )
        print(f"{engine}: efficiency of two workers over one, {' and '.join(f'{s:.2f}' for s in shares)}")


if __name__ == "__main__":
    main()
