"""Kill or starve a run at its n-th write, again and again; a program, started by test_crash.py.

It imports the project once and forks a child for every fault; what is left is finished in
this process. By default one write of each kind meets one, and every write if HMS_FAULTS=all.
Prints one JSON object.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hms
from hms.config.schema import Config
from hms.main import guarded, run_configuration

STAGES = ("stages=[scalograms,waveforms,labels,splits]", "cwt.n_freqs=4", "cwt.hop=100")
EVERY_WRITE = os.environ.get("HMS_FAULTS") == "all"
WRITES = ("write", "pwrite", "replace", "symlink")
REAL = {name: getattr(os, name) for name in WRITES}
FILLING = ("write", "pwrite")
"""Where a full disk shows; links and names take no room that is counted."""


def begin(cfg: Config, install: Callable[[], None] | None = None) -> int:
    """Begin to run a configuration in a forked child; return its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(
            os.open(os.environ.get("HMS_CRASH_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2
        )
        if install is not None:
            install()
        try:
            os._exit(guarded(lambda: run_configuration(cfg)))
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)
    return child


def run(cfg: Config, install: Callable[[], None] | None = None) -> int:
    """Run a configuration in a forked child and return its exit status (negative: the signal)."""
    return status_of(begin(cfg, install))


def status_of(child: int) -> int:
    """Wait for a child and return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fault_at(
    number: int,
    fault: Callable[[str, Any, tuple[Any, ...]], Any],
    met: Path,
    among: tuple[str, ...] = WRITES,
) -> Callable[[], None]:
    """Return a function that makes the n-th write of a process meet a fault, and note that it did."""

    def install() -> None:
        seen = 0

        def counting(name: str) -> None:
            real = REAL[name]

            def wrapper(*arguments: Any, **options: Any) -> Any:
                nonlocal seen
                seen += 1
                if seen != number:
                    return real(*arguments, **options)
                met.touch()
                return fault(name, real, arguments)

            setattr(os, name, wrapper)

        for name in among:
            counting(name)

    return install


def here(cfg: Config, install: Callable[[], None] | None = None) -> int:
    """Run a configuration in this process, which is cheaper than a child, and return its exit status."""
    if install is not None:
        install()
    try:
        return guarded(lambda: run_configuration(cfg))
    finally:
        for name, real in REAL.items():
            setattr(os, name, real)


def die(name: str, real: Any, arguments: tuple[Any, ...]) -> None:
    """Write half of it, if it is a write, and be killed."""
    if name in FILLING:
        real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full(name: str, real: Any, arguments: tuple[Any, ...]) -> None:
    """Write half of it, if it is a write, and find the disk full."""
    if name in FILLING:
        real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def tree(folder: Path) -> dict[str, str]:
    """Return the digest of every file of the run in an outputs folder, manifests left out."""
    run_folder = (folder / "latest").resolve()
    return {
        p.relative_to(run_folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(run_folder.rglob("*"))
        if p.is_file() and p.name != "manifest.json"
    }


KINDS_OF_FOLDERS = {
    **dict.fromkeys(("scalograms", "waveforms"), "items"),
    **dict.fromkeys(("meta", "labels", "splits"), "table"),
    **dict.fromkeys(("spec_hr_out", "wave_hr_out"), "folder of items"),
}


def kind_of(name: str, arguments: tuple[Any, ...]) -> str:
    """Return what a write does to what: its call, the folder's kind and the file's, no numbers."""
    target = arguments[1] if name in ("replace", "symlink") else arguments[0]
    path = Path(os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target)
    folder = re.sub("-?[0-9a-f]{8,}$", "", path.parent.name)
    folder = KINDS_OF_FOLDERS.get(folder, folder)
    if name == "symlink" or path.name == "latest":
        return f"{name} latest"
    return f"{name} {folder} {'.tmp' if path.name.startswith('.tmp') else path.suffix}"


def kinds_of(cfg: Config, among: tuple[str, ...]) -> list[str]:
    """Run a configuration in this process and return the kind of each of its writes."""
    kinds: list[str] = []

    def install() -> None:
        def noting(name: str) -> None:
            def wrapper(*arguments: Any, **options: Any) -> Any:
                kinds.append(kind_of(name, arguments))
                return REAL[name](*arguments, **options)

            setattr(os, name, wrapper)

        for name in among:
            noting(name)

    assert here(cfg, install) == 0
    return kinds


def torment(
    root: str, work: Path, fault: Any, expected_status: int, among: tuple[str, ...]
) -> dict[str, Any]:
    """Let writes of a run meet a fault in turn, in files and in shards; count what survived."""
    tried: set[str] = set()
    faults, bad = 0, []
    for form in ("files", "shards"):
        base = hms.compose("data=kaggle", f"data.root={root}", "n_jobs=1", f"package.format={form}", *STAGES)
        # Here, so that children find all modules imported.
        kinds = kinds_of(replace(base, outputs_dir=str(work / form)), among)
        reference = tree(work / form)
        gc.freeze()  # every run looks for garbage
        cfg = replace(base, outputs_dir=str(work / "tormented"))
        for number in _chosen(kinds, tried):
            shutil.rmtree(work / "tormented", ignore_errors=True)
            met = work / "met"
            met.unlink(missing_ok=True)
            attempt = run if expected_status < 0 else here  # a kill ends the process
            status = attempt(cfg, fault_at(number, fault, met, among))
            again = here(cfg)
            faults += met.exists()
            same = again == 0 and tree(work / "tormented") == reference
            if status != expected_status or not same:
                bad.append({"form": form, "write": number, "kind": kinds[number - 1], "status": status,
                            "again": again, "same": same})  # fmt: skip
    return {"faults": faults, "kinds": sorted(tried), "bad": bad}


def _chosen(kinds: list[str], tried: set[str]) -> list[int]:
    """Return the numbers, from 1, of the writes that meet a fault, and note their kinds as tried."""
    places: dict[str, list[int]] = {}
    for number, kind in enumerate(kinds, start=1):
        places.setdefault(kind, []).append(number)
    new = [numbers for kind, numbers in places.items() if EVERY_WRITE or kind not in tried]
    tried.update(places)
    return sorted(n for numbers in new for n in (numbers if EVERY_WRITE else [numbers[len(numbers) // 2]]))


if __name__ == "__main__":
    faults = {"kill": (die, -signal.SIGKILL, WRITES), "full": (disk_full, 4, FILLING)}
    fault, status, among = faults[sys.argv[1]]
    answer = os.dup(1)
    os.dup2(2, 1)  # what the program prints is not the answer
    found = torment(sys.argv[2], Path(sys.argv[3]), fault, status, among)
    os.write(answer, json.dumps(found).encode())
