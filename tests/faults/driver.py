"""Let every call of a kind fail in turn, in every command, and cut the power; started by test_faults.py.

It imports the project once and forks a child for every fault. Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import io
import itertools
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hms
from hms.cli import main as hms_command

READING = (
    "open",
    "openat",
    "read",
    "pread",
    "stat",
    "lstat",
    "fstat",
    "opendir",
    "fdopendir",
    "readlink",
    "flock",
)
WRITING = (
    "open to write",
    "write",
    "pwrite",
    "fsync",
    "rename",
    "symlink",
    "link",
    "mkdir",
    "unlink",
    "unlinkat",
    "rmdir",
    "sendfile",
    "copy_file_range",
)
SHORT = ("read", "pread", "write", "pwrite", "sendfile")
"""Calls that may move fewer bytes than asked."""

ALL_KINDS = "*"
"""Of this kind no call fails: the calls of every kind are counted."""

STEPS = (1, 2, 3, 5, 8, 13, 21, 34)
"""Which call of a kind fails, in turn, where not every one does."""

ERRORS_READING = (errno.EIO, errno.EMFILE, errno.ENOMEM)
ERRORS_WRITING = (errno.ENOSPC, errno.EIO, errno.EROFS)
STAGES = "stages=[scalograms,waveforms,quality,labels,splits,summary]"
FEW_STAGES = "stages=[scalograms,waveforms,labels,splits]"
"""Of all runs but those of the scene of shards, where few calls fail."""

SMALL = (
    "cwt.n_freqs=8",
    "cwt.hop=100",
    "folds.n_splits=2",
)
FORMS = ("files", "shards")
"""Of the first run and of the second, which is verified and exported; the other way round on request."""

LEAST_BYTES = 20_000
"""Of a request for memory that may fail: smaller ones are the interpreter's own, which ends it."""


class Library:
    """The C library of faults, loaded before this program."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])

    def arm(self, fault: Fault) -> None:
        """Let the fault happen from now on."""
        self._library.arm(
            fault.kind.encode(), str(fault.below).encode(), fault.n, fault.error, int(fault.lasting),
            ctypes.c_size_t(LEAST_BYTES),
        )  # fmt: skip

    def disarm(self) -> dict[str, int]:
        """Let nothing fail any more; return how many calls failed, or how many there were of each kind."""
        met = {kind: int(self._library.calls_of(kind.encode())) for kind in (*READING, *WRITING, "malloc")}
        met[""] = int(self._library.failures())
        self._library.arm(b"", b"", 0, 0, 0, ctypes.c_size_t(0))
        return met


@dataclass(frozen=True)
class Fault:
    """The n-th call of a kind on a path that contains a text fails with an error."""

    kind: str
    n: int
    error: int
    below: Path
    lasting: bool = False

    def __str__(self) -> str:
        said = f"{self.kind} {self.n} errno {self.error} below {self.below.name}"
        return f"{said}, lasting" if self.lasting else said


@dataclass(frozen=True)
class Ended:
    """How a command ended in a child: exit code, what it printed, the calls that failed or were counted."""

    code: int
    out: str
    err: str
    met: dict[str, int] = field(default_factory=dict)


def forked(work: Path, command: Callable[[], int], fault: Fault | None = None) -> Ended:
    """Run a command in a child, with a fault, and return how it ended."""
    out, err, met = work / "out", work / "err", work / "met"
    met.write_text("{}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        library = Library()
        code, found = 99, None
        try:
            if fault is not None:
                library.arm(fault)
            code = command()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            found = library.disarm()
            import traceback

            traceback.print_exc()
        found = library.disarm() if found is None else found
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        met.write_text(json.dumps(found))
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ended(
        status, out.read_text(), err.read_text(errors="replace"), json.loads(met.read_text() or "{}")
    )


def told(command: Callable[[], int]) -> Ended:
    """Run a command without faults in this process, which is cheaper than a child; return how it ended."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = command()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return Ended(code, out.getvalue(), err.getvalue())


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Return every file below a folder with its content, every link with its target."""
    return {
        p.relative_to(folder).as_posix(): os.readlink(p) if p.is_symlink() else p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_symlink() or p.is_file()
    }


def run_bytes(outputs: Path) -> dict[str, bytes]:
    """Return every file of every finished run with its content, manifests left out."""
    return {
        p.relative_to(outputs).as_posix(): p.read_bytes()
        for manifest in sorted(outputs.glob("*/manifest.json"))
        if not manifest.parent.is_symlink()
        for p in sorted(manifest.parent.rglob("*"))
        if p.is_file() and p.name != "manifest.json"
    }


@dataclass
class Scene:
    """A command, what it starts from, and what must be true after a fault in it.

    Attributes
    ----------
    start : outputs folder to start from, None for none
    command : what meets the fault
    codes : exit codes that it may end with, besides 4; 1 where a finding is one
    after : raises AssertionError unless all is well without the fault
    one_in : of how many kinds of calls one fails, where not every call does
    """

    name: str
    start: Path | None
    command: Callable[[], int]
    after: Callable[[Ended], None]
    codes: tuple[int, ...] = (0, 4)
    below: tuple[Path, ...] = ()
    one_in: int = 1


@dataclass
class Found:
    """What a sweep found."""

    faults: dict[str, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    bad: list[dict[str, Any]] = field(default_factory=list)


class Sweep:
    """Faults of scenes, one after the other.

    Parameters
    ----------
    work : folder to work in
    stride : every so-manyth call of a kind fails in turn, and all is read again after each; None: one call
        of each kind, or of every second, in each scene, the n-th, n = 1, 2, 3, 5, 8 ... from one to the next
    """

    def __init__(self, work: Path, *, stride: int | None) -> None:
        self.work, self.stride, self.turn = work, stride, 0
        self.outputs, self.data, self.exported = work / "outputs", work / "data", work / "exported"
        self.found = Found()

    def reset(self, start: Path | None) -> None:
        """Put the outputs folder back to where the command starts from."""
        shutil.rmtree(self.outputs, ignore_errors=True)
        shutil.rmtree(self.exported, ignore_errors=True)
        if start is not None:
            shutil.copytree(start, self.outputs, symlinks=True)

    def faults(self, below: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield every kind of call with the errors that it may end with."""
        for kind in READING:
            yield kind, ERRORS_READING
        for kind in WRITING if below != self.data else ():
            yield kind, ERRORS_WRITING
        for kind in SHORT:
            yield kind, (0,)

    def run(self, scene: Scene) -> None:
        """Let the scene's command meet its faults."""
        if self.stride is None:
            self._run_few(scene)
            return
        for below in scene.below:
            for kind, errors in self.faults(below):
                for lasting in (False, True):
                    self._count_up(scene, kind, errors, below, lasting=lasting)
        self._count_up(scene, "malloc", (errno.ENOMEM,), self.work, lasting=False)

    def _run_few(self, scene: Scene) -> None:
        for below in scene.below:
            self.reset(scene.start)
            counted = forked(self.work, scene.command, Fault(ALL_KINDS, 1, 0, below))
            kinds = [*self.faults(below)]
            if below == scene.below[0]:
                kinds.append(("malloc", (errno.ENOMEM,)))
            for kind, errors in kinds:
                calls, self.turn = counted.met[kind], self.turn + 1
                if calls and self.turn % scene.one_in == 0:
                    n = max(step for step in STEPS[: 1 + self.turn % len(STEPS)] if step <= calls)
                    lasting = self.turn % 3 == 0 and kind != "malloc"
                    fault = Fault(kind, n, errors[self.turn % len(errors)], below, lasting)
                    assert self._meets(scene, fault) or kind == "malloc", f"{fault} was not met"
                    self._counted(kind, errors, below, lasting=lasting)

    def _counted(self, kind: str, errors: tuple[int, ...], below: Path, *, lasting: bool) -> None:
        name = f"{kind}{' short' if errors == (0,) else ''}{', lasting' if lasting else ''}, {below.name}"
        self.found.faults[name] = self.found.faults.get(name, 0) + 1

    def _count_up(
        self, scene: Scene, kind: str, errors: tuple[int, ...], below: Path, *, lasting: bool
    ) -> None:
        for n in itertools.count(1, self.stride or 1):
            if not self._meets(scene, Fault(kind, n, errors[n % len(errors)], below, lasting)):
                return
            self._counted(kind, errors, below, lasting=lasting)

    def _meets(self, scene: Scene, fault: Fault) -> bool:
        self.reset(scene.start)
        ended = forked(self.work, scene.command, fault)
        if not ended.met.get("", 1):  # a process that died of the fault told nothing
            return False
        problem = self._problem(scene, fault, ended)
        if problem:
            note = {"scene": scene.name, "fault": str(fault), "code": ended.code}
            note |= {"problem": problem, "err": ended.err[-1500:]}
            self.found.bad.append(note)
            if "-v" in sys.argv:
                print(json.dumps(note, indent=1), file=sys.stderr, flush=True)
        self.found.codes[str(ended.code)] = self.found.codes.get(str(ended.code), 0) + 1
        return True

    def _problem(self, scene: Scene, fault: Fault, ended: Ended) -> str:
        allowed = (0,) if fault.error == 0 else scene.codes
        is_killed = fault.kind == "malloc" and ended.code < 0  # by a library of C that lacks memory
        if (ended.code not in allowed and not is_killed) or "Traceback" in ended.err:
            return f"ended with {ended.code}"
        try:
            scene.after(ended)
        except AssertionError as error:
            return f"afterwards: {error}"[:600]
        return ""


def scenes(sweep: Sweep) -> dict[str, Scene]:
    """Return the scenes by name, what they start from prepared."""
    work, outputs, data = sweep.work, sweep.outputs, sweep.data
    given = ["data=kaggle", f"data.root={data}", f"outputs_dir={outputs}", "n_jobs=1", *SMALL]
    base = [*given, FEW_STAGES if sweep.stride is None else STAGES]
    form, other_form = ("shards", "files") if os.environ.get("HMS_TEST_FORMAT") == "shards" else FORMS
    configured = hms.compose(*base, f"package.format={form}")
    other = hms.compose(*base, "weight=log", "cwt.w0=6", f"package.format={other_form}")
    sharded = hms.compose(*given, STAGES, "package.format=shards")

    def prepared(cfg: Any = configured) -> int:
        from hms.main import guarded, run_configuration

        return guarded(lambda: run_configuration(cfg))

    def command(*arguments: str) -> Callable[[], int]:
        return lambda: hms_command(["--outputs", str(outputs), *arguments])

    def called(call: Callable[[], int], code: int = 0) -> Ended:
        ended = told(call)
        assert ended.code == code, f"ended with {ended.code}: {ended.err[-800:]}{ended.out[-400:]}"
        return ended

    sweep.reset(None)
    assert prepared(sharded) == 0
    in_shards = run_bytes(outputs)
    sweep.reset(None)
    assert prepared() == 0  # here, so that children find all modules imported
    one = shutil.copytree(outputs, work / "one", symlinks=True)
    hash_one = hms.load("latest", outputs=outputs).hash
    reference = run_bytes(outputs)
    assert prepared(other) == 0
    hash_two = hms.load("latest", outputs=outputs).hash
    two = shutil.copytree(outputs, work / "two", symlinks=True)
    both = run_bytes(outputs)
    warming = [("show", hash_one), ("diff", hash_one, hash_two), ("verify", hash_one)]
    typed = [text for text in base if not text.startswith("outputs_dir")]
    warming += [("export", hash_one, str(work / "warm")), ("explain", *typed, "cwt.w0=7")]
    for warm in warming:
        assert command(*warm)() == 0
    shutil.rmtree(work / "warm")
    assert command("rm", hash_two)() == 0
    littered = shutil.copytree(outputs, work / "littered", symlinks=True)
    assert command("gc", "--yes")() == 0
    damaged = shutil.copytree(one, work / "damaged", symlinks=True)
    for stored in sorted(damaged.glob("store/*-*/*"))[3::9]:
        flip(stored)
    sweep.reset(damaged)
    assert command("verify", hash_one, "--repair")() == 0

    def verified(run: str = hash_one) -> None:
        if sweep.stride is not None:
            called(command("verify", run))

    def finishes(ended: Ended) -> None:
        called(prepared)
        assert run_bytes(outputs) == reference, "the same command gives other bytes"
        verified()

    def finishes_shards(ended: Ended) -> None:
        called(lambda: prepared(sharded))
        assert run_bytes(outputs) == in_shards, "the same command gives other bytes"
        verified("latest")

    def looks(*arguments: str, start: Path = two) -> Callable[[Ended], None]:
        before = snapshot(start)

        def check(ended: Ended) -> None:
            assert snapshot(outputs) == before, "a look changed something"
            if sweep.stride is not None:
                called(command(*arguments))

        return check

    def repaired(ended: Ended) -> None:
        if ended.code == 0 and sweep.stride is None:
            assert run_bytes(outputs) == reference, "repaired to other bytes"
            return
        again = told(command("verify", hash_one, "--repair"))
        if again.code == 2:  # the manifest was lost on the way: the message says to run it again
            assert "run it again" in again.err, again.err
            called(prepared)
        else:
            assert again.code == 0, again.err + again.out
        assert run_bytes(outputs) == reference, "repaired to other bytes"
        verified()

    def cleaned(ended: Ended) -> None:
        called(command("gc", "--yes"))
        verified()
        assert run_bytes(outputs) == reference
        assert sweep.stride is None or "0 folders and 0 files" in called(command("gc")).out

    def forgotten(ended: Ended) -> None:
        if (outputs / hash_two / "manifest.json").exists():
            called(command("rm", hash_two))
        cleaned(ended)

    def exported(ended: Ended) -> None:
        assert run_bytes(outputs) == both, "exporting changed the run"
        if (sweep.exported / "manifest.json").exists():  # it has its name only when it is whole
            verified(str(sweep.exported))
        else:
            assert ended.code != 0
            called(command("export", hash_two, str(sweep.exported)))
        expected = {
            name.partition("/")[2]: content for name, content in both.items() if name.startswith(hash_two)
        }
        assert {n: c for n, c in snapshot(sweep.exported).items() if n != "manifest.json"} == expected

    plan = ["explain", *typed, "cwt.w0=7"]
    show, verify, repair = ("show", hash_one), ("verify", hash_two), ("verify", hash_one, "--repair")
    diff, export = ("diff", hash_one, hash_two), ("export", hash_two, str(sweep.exported))

    def scene(
        name: str,
        start: Path | None,
        call: Callable[[], int],
        after: Callable[[Ended], None],
        *also: Path,
        codes: tuple[int, ...] = (0, 4),
        one_in: int = 1,
    ) -> Scene:
        return Scene(name, start, call, after, codes, (outputs, *also), one_in)

    everything = [
        scene("run", None, prepared, finishes, data, one_in=5),
        scene("shards", None, lambda: prepared(sharded), finishes_shards, data, one_in=6),
        scene("again", one, prepared, finishes, data, one_in=2),
        scene("show", two, command(*show), looks(*show)),
        scene("ls", two, command("ls"), looks("ls")),
        scene("diff", two, command(*diff), looks(*diff)),
        scene("explain", one, command(*plan), looks(*plan, start=one), data, one_in=2),
        scene("verify", two, command(*verify), looks(*verify), data, codes=(0, 1, 4), one_in=2),
        scene("repair", damaged, command(*repair), repaired, data, codes=(0, 1, 4), one_in=11),
        scene("look for garbage", littered, command("gc"), looks("gc", start=littered)),
        scene("gc", littered, command("gc", "--yes"), cleaned, one_in=2),
        scene("rm", two, command("rm", hash_two), forgotten, one_in=2),
        scene("export", two, command(*export), exported, Path(sweep.exported.name), one_in=2),
    ]
    gc.collect()
    gc.freeze()  # every command looks for garbage
    return {scene.name: scene for scene in everything}


def flip(path: Path) -> None:
    """Change one bit of a file, its time kept."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def stride_of(how: str) -> int | None:
    """Return how far apart the calls are that fail: ``all``, ``few``, or a number."""
    return {"all": 1, "few": None}[how] if how.isalpha() else int(how)


def main() -> None:
    """Sweep scenes, then cut the power in scenes.

    Arguments: recordings, folder to work in, `stride_of`, scenes, the word ``cut``, scenes.
    """
    import powercut

    answer = os.dup(1)
    os.dup2(2, 1)  # what the program prints is not the answer
    root, work, how, *names = [text for text in sys.argv[1:] if text != "-v"]
    faults, cuts = names[: names.index("cut")], names[names.index("cut") + 1 :]
    place = Path(work)
    shutil.copytree(root, place / "data")
    sweep = Sweep(place, stride=stride_of(how))
    known = scenes(sweep)
    for name in faults:
        sweep.run(known[name])
    found = sweep.found
    answered = {"faults": found.faults, "codes": found.codes, "bad": found.bad}
    answered["cuts"] = powercut.cut(sweep, known, cuts)
    os.write(answer, json.dumps(answered).encode())


if __name__ == "__main__":
    sys.modules["driver"] = sys.modules["__main__"]
    main()
