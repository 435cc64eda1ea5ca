"""Cut the power at every moment of a command, on paper: drop what was not synced, and open what is left.

Done by driver.py. The command runs once, while the C library of faults notes every
change of names and every sync. From that record follows what a disk may hold at each moment: names as
they were when their folder was last synced, or as they are; content as it was when a file was last synced.

References
----------
Mohan et al., Finding crash-consistency bugs with bounded black-box crash testing (CrashMonkey), OSDI 2018.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import driver
from driver import Sweep, forked, told


@dataclass(eq=False)
class Node:
    """A file: the content that is on disk for sure, and whether there is newer one that is not."""

    synced: bytes = b""


@dataclass(eq=False)
class Folder:
    """A folder: its entries now, and those that are on disk for sure."""

    entries: dict[str, Node | str | Folder] = field(default_factory=dict)
    synced: dict[str, Node | str | Folder] = field(default_factory=dict)


class Disk:
    """What a disk is known to hold while a record is replayed."""

    def __init__(self, base: Path, start: Path | None, copies: Path) -> None:
        self.base, self.copies, self.root = base, copies, Folder()
        if start is not None:
            name = base.name
            self.root.entries[name] = self.root.synced[name] = _read(start)

    def apply(self, what: str, first: str, second: str) -> None:
        """Apply one line of the record."""
        if what == "rename":
            parent, name = self._place(first)
            moved = parent.entries.pop(name)
            parent, name = self._place(second)
            parent.entries[name] = moved
        elif what == "link":
            parent, name = self._place(first)
            linked = parent.entries[name]
            parent, name = self._place(second)
            parent.entries[name] = linked
        else:
            parent, name = self._place(first)
            self._apply_to(parent, name, what, second)

    def _apply_to(self, parent: Folder, name: str, what: str, second: str) -> None:
        if what == "create":
            parent.entries[name] = Node()
        elif what == "mkdir":
            parent.entries[name] = Folder()
        elif what == "symlink":
            parent.entries[name] = second
        elif what == "remove":
            del parent.entries[name]
        elif what == "sync":
            node = parent.entries.get(name)  # not there: synced after it was removed
            if isinstance(node, Node):
                node.synced = (self.copies / second).read_bytes()
        elif what == "syncdir":
            folder = parent.entries[name] if name else parent
            assert isinstance(folder, Folder), (name, folder)
            folder.synced = dict(folder.entries)
        else:
            assert what == "truncate", what

    def _place(self, path: str) -> tuple[Folder, str]:
        relative = os.path.relpath(path, self.base.parent)
        assert not relative.startswith(".."), path
        if relative == ".":
            return self.root, ""
        *parents, name = relative.split("/")
        folder = self.root
        for parent in parents:
            below = folder.entries[parent]
            assert isinstance(below, Folder), path
            folder = below
        return folder, name

    def states(self) -> Iterator[tuple[str, dict[str, bytes | str | None]]]:
        """Yield what the disk may hold now: names as synced last, and names as they are."""
        synced = dict(_list(self.root, "", names_now=False))
        now = dict(_list(self.root, "", names_now=True))
        yield ONLY, synced
        yield ALL, now
        yield "removals, nothing new", {name: c for name, c in synced.items() if name in now}
        yield "all names, nothing removed", _without_orphans({**synced, **now})


FEW = 70
"""Of how many states one is opened, where not all are."""

ONLY, ALL = "only what was synced", "all names, content as synced"


def _without_orphans(state: dict[str, bytes | str | None]) -> dict[str, bytes | str | None]:
    """Return entries whose folders are there, folders before what lies in them."""
    kept: dict[str, bytes | str | None] = {}
    for name in sorted(state):
        parent = name.rpartition("/")[0]
        if not parent or (parent in kept and kept[parent] is None):
            kept[name] = state[name]
    return kept


def _read(folder: Path) -> Folder:
    found = Folder()
    for path in folder.iterdir():
        found.entries[path.name] = (
            os.readlink(path)
            if path.is_symlink()
            else _read(path)
            if path.is_dir()
            else Node(path.read_bytes())
        )
    found.synced = dict(found.entries)
    return found


def _list(folder: Folder, above: str, *, names_now: bool) -> Iterator[tuple[str, bytes | str | None]]:
    for name, entry in (folder.entries if names_now else folder.synced).items():
        path = f"{above}{name}"
        if isinstance(entry, Folder):
            yield path, None
            yield from _list(entry, f"{path}/", names_now=names_now)
        else:
            yield path, entry.synced if isinstance(entry, Node) else entry


def recorded(
    work: Path, outputs: Path, command: Callable[[], int], copies: Path
) -> list[tuple[str, str, str]]:
    """Run a command in a child and return what it did to names and synced."""
    copies.mkdir()
    log = work / "record"

    def recording() -> int:
        library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        library.record(descriptor, str(outputs.parent).encode(), str(copies).encode())
        return command()

    ended = forked(work, recording)
    assert ended.code == 0, ended.err
    lines = (line.split("\t") for line in log.read_text().splitlines())
    return [(what, first, second) for what, first, second in lines]


def cut_everywhere(sweep: Sweep, scene: driver.Scene, below: Path) -> dict[str, object]:
    """Cut the power after every noted call of a scene's command; count the states that were opened."""
    sweep.reset(scene.start)
    copies = sweep.work / "copies"
    shutil.rmtree(copies, ignore_errors=True)
    (sweep.work / "record").unlink(missing_ok=True)
    record = recorded(sweep.work, below, scene.command, copies)
    real = real_files(below)
    disk = Disk(below, scene.start if below == sweep.outputs else None, copies)
    seen: set[int] = set()
    bad, n_opened = [], 0
    for number, line in enumerate(record):
        for how, state in disk.states():
            digest = hash(frozenset(state.items()))  # Python hashes each content once
            if digest not in seen:
                seen.add(digest)
                if len(seen) % (sweep.stride or FEW) != 1 % (sweep.stride or FEW):
                    continue
                n_opened += 1
                problem = opened(sweep, scene, below, state)
                if problem:
                    bad.append(
                        {"scene": scene.name, "before": [number, *line], "how": how, "problem": problem}
                    )
                    if "-v" in sys.argv:
                        print(json.dumps(bad[-1]), file=sys.stderr, flush=True)
        disk.apply(*line)
    lost = at_the_end(disk, real)
    if lost:
        bad.append({"scene": scene.name, "before": "the end", "how": "", "problem": lost})
    return {"calls": len(record), "states": n_opened, "bad": bad}


def real_files(below: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content, locks left out."""
    return {
        f"{below.name}/{p.relative_to(below).as_posix()}": p.read_bytes()
        for p in below.rglob("*")
        if p.is_file() and not p.is_symlink() and p.suffix != ".lock"
    }


def at_the_end(disk: Disk, real: dict[str, bytes]) -> str:
    """Return what of a command's result is not synced when it has ended well."""
    states = dict(disk.states())
    sure, now = states[ONLY], states[ALL]
    missing = [name for name in now if name not in sure and not name.endswith(".lock")]
    unsynced = [name for name, content in real.items() if sure.get(name) != content]
    return f"not synced: {[*missing, *unsynced][:6]}" if missing or unsynced else ""


def opened(sweep: Sweep, scene: driver.Scene, below: Path, state: dict[str, bytes | str | None]) -> str:
    """Put a state on the real disk; return what is wrong with it, or an empty text."""
    if below == sweep.outputs:
        sweep.reset(None)
    for stale in (below, *below.parent.glob(".tmp-*")):
        shutil.rmtree(stale, ignore_errors=True)
    for name, content in state.items():
        path = below.parent / name
        if content is None:
            path.mkdir(exist_ok=True)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.symlink_to(content)
    is_checked = below == sweep.outputs and scene.name != "repair"  # which starts from a damaged run
    for manifest in sorted(below.glob("*/manifest.json")) if is_checked else ():
        if not manifest.parent.is_symlink() and (problem := _untrue(sweep, manifest.parent)):
            return problem
    try:
        scene.after(driver.Ended(1, "", ""))
    except AssertionError as error:
        return str(error)[:500]
    return ""


def _untrue(sweep: Sweep, run: Path) -> str:
    """Return what is not there of a run that says it is finished."""
    from hms.cli import main as hms_command

    ended = told(lambda: hms_command(["--outputs", str(sweep.outputs), "verify", run.name]))
    return "" if ended.code == 0 else f"finished, but {ended.out[-300:]}{ended.err[-300:]}"


def cut(sweep: Sweep, known: dict[str, driver.Scene], names: list[str]) -> dict[str, object]:
    """Cut the power in the scenes named."""
    return {
        name: cut_everywhere(sweep, known[name], sweep.exported if name == "export" else sweep.outputs)
        for name in names
    }
