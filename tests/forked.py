"""Programs in forked children of a process that has imported everything: a process each, without its start.

`start` and `run` take what follows ``python`` on a command line. The child has a folder, an environment, an
import path, streams and an exit status of its own, and ends as Python ends. What it shares is what was
imported: a test of imports, of start-up, of another source of hms or of what Python makes of its
environment starts a Python of its own. This file is both sides: imported by tests, and the program that
forks.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 240.0
"""For which a program is waited for."""

EVERYTHING = (
    "hms.main", "hms.cli", "hms.engine.runner", "hms.engine.explain", "hms.engine.recall", "hydra.compose",
    "pandas", "pyarrow.parquet", "pyarrow.csv", "pyarrow.pandas_compat", "scipy.signal", "joblib", "filelock",
    "jinja2", "hms.engine.pools.loky", "joblib.externals.loky.process_executor", "joblib._parallel_backends",
)  # fmt: skip
"""What a run imports, most of it when it is needed."""

# --- the tests' side -----------------------------------------------------------------------------


class Process:
    """A program in a child of its own, as `subprocess.Popen` would show it.

    Parameters
    ----------
    arguments : what follows ``python``: a file, ``-m`` and a module, or ``-c`` and code, then its arguments
    cwd : folder to run in
    env : its whole environment, that of this process by default
    stdin, stdout, stderr : files; by default nothing is read, and what is written is kept for `communicate`
    closed : which of the streams 0, 1 and 2 are closed
    start_new_session : make it the leader of a group of processes
    modules : what its parent has imported, besides hms
    has_children : whether the Pythons that its libraries start, as workers, are forked as it was
    """

    def __init__(
        self,
        arguments: Sequence[object],
        *,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: IO[Any] | socket.socket | None = None,
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
        closed: Sequence[int] = (),
        start_new_session: bool = False,
        modules: tuple[str, ...] = (),
        has_children: bool = False,
    ) -> None:
        self.args = [str(part) for part in arguments]
        self.returncode: int | None = None
        self._kept = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        request = {
            "arguments": self.args,
            "cwd": str(cwd or os.getcwd()),
            "env": dict(os.environ if env is None else env),
            "closed": list(closed),
            "new_session": start_new_session,
            "has_children": has_children,
        }
        with open(os.devnull) as nothing:
            streams = (stdin or nothing, stdout or self._kept[0], stderr or self._kept[1])
            self._status = _ask(_parent(modules), request, [stream.fileno() for stream in streams])
        self.pid = int(self._status.recv(32))

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal), or None while it runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float = SECONDS) -> int:
        """Return the exit status once it has ended."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            self.returncode = int(self._status.recv(32))
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float = SECONDS) -> tuple[str, str]:
        """Return what it wrote once it has ended."""
        self.wait(timeout)
        return self._written(0), self._written(1)

    def _written(self, which: int) -> str:
        with self._kept[which] as file:
            file.seek(0)
            return file.read().decode(errors="replace")

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def start(arguments: Sequence[object], **options: Any) -> Process:
    """Start a program, see `Process`."""
    return Process(arguments, **options)


def run(arguments: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, see `Process`."""
    process = Process(arguments, **options)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


def _ask(parent: socket.socket, request: dict[str, Any], descriptors: Sequence[int]) -> socket.socket:
    """Ask for a child with these descriptors; return what tells its number, and its end if it is awaited."""
    status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        socket.send_fds(parent, [json.dumps(request).encode()], [theirs.fileno(), *descriptors])
    return status


def listen(modules: tuple[str, ...], place: Path) -> str:
    """Fork Pythons for whoever asks at a place; return the command that asks, to stand for ``python``."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(str(place))
    listening.listen()

    def pass_on() -> None:
        while True:
            with listening.accept()[0] as asked:
                message, descriptors, _, _ = socket.recv_fds(asked, 1 << 20, 4)
            socket.send_fds(_parent(modules), [message], descriptors)
            for descriptor in descriptors:
                os.close(descriptor)

    threading.Thread(target=pass_on, daemon=True).start()
    return f"{sys.executable} -I -S {ROOT / 'tests' / 'ask_for_python.py'} {place}"


@functools.cache
def _parent(modules: tuple[str, ...]) -> socket.socket:
    """Start the process that forks and return the socket on which it takes requests.

    One that has more modules is a child of the one that has those that all need.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["OMP_NUM_THREADS"] = "1"  # other tests have the other cores
    with theirs:
        parent = (
            Process([__file__, 0, *modules], env=env, cwd="/", stdin=theirs, start_new_session=True)
            if modules
            else subprocess.Popen(
                [sys.executable, "-P", __file__, "0"], env=env, cwd="/", stdin=theirs, start_new_session=True
            )
        )

    def ended() -> None:
        ours.close()
        parent.wait()

    atexit.register(ended)
    return ours


# --- children of the libraries -------------------------------------------------------------------

PR_SET_CHILD_SUBREAPER = 36
STARTERS = (
    ("multiprocessing.util", "spawnv_passfds"),
    ("joblib.externals.loky.backend.fork_exec", "fork_exec"),
)
"""With what multiprocessing, so Dask as well, and joblib start a Python: command and descriptors to keep."""


REAL = [getattr(importlib.import_module(module), name) for module, name in STARTERS]


def fork_children(parent: Callable[[], socket.socket] = lambda: _parent(())) -> None:
    """Let the Pythons that libraries start from now on be forked by ``parent``, as children of this process.

    Whoever forks them ends at once, and they fall to their next ancestor that takes orphans, which is this
    process.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)

    def instead(*arguments: Any, env: Mapping[str, str] | None = None) -> int:
        command, descriptors = arguments[-2:]
        words = [os.fsdecode(word) for word in command]
        numbers = [
            n for n in sorted({0, 1, 2, *map(int, descriptors)}) if os.path.lexists(f"/proc/self/fd/{n}")
        ]
        request = {
            "arguments": words[next(i for i, word in enumerate(words) if word in ("-c", "-m")) :],
            "cwd": os.getcwd(),
            "env": {**os.environ, **(env or {})},
            "numbers": numbers,
            "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        }
        with _ask(parent(), request, numbers) as status:
            return int(status.recv(32))

    for module, name in STARTERS:
        setattr(importlib.import_module(module), name, instead)


@contextlib.contextmanager
def started_children() -> Iterator[None]:
    """Let libraries start Pythons as they do for everybody, for a while."""
    modules = [(importlib.import_module(module), name) for module, name in STARTERS]
    instead = [getattr(module, name) for module, name in modules]
    for (module, name), real in zip(modules, REAL, strict=True):
        setattr(module, name, real)
    yield
    for (module, name), ours in zip(modules, instead, strict=True):
        setattr(module, name, ours)


def _with_parent_of_children(request: dict[str, Any]) -> dict[str, Any]:
    """Fork a parent of the children of this process; return what this process, or one of those, is to do."""
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        fork_children(lambda: requests)
        return request
    requests.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    found = _serve(theirs)
    if found is None:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return found


# --- the side that forks -------------------------------------------------------------------------


def _import_everything(modules: Sequence[str]) -> None:
    for name in (*EVERYTHING, *modules):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    fingerprint = sys.modules["hms.pipeline.fingerprint"]
    sys.modules["hms"].compose()
    cfg = sys.modules["hms"].compose("baseline=logreg")
    for stages in sys.modules["hms.pipeline.selection"].choose_stages(cfg):
        for stage in stages:
            assert stage.fingerprint  # parsing the source takes half a second
    fingerprint.known.clear()


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork a child for every request; return what the child is to do, in the child, or None at the end."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 64)
        if not message:
            return None
        if os.fork() == 0:
            requests.close()
            request = json.loads(message)
            return (_adopted if "numbers" in request else _attended)(request, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _attended(request: dict[str, Any], status: int, *streams: int) -> dict[str, Any]:
    """Fork once more: the child returns what it is to do, this process says how the child ends."""
    child = os.fork()
    if child:
        for stream in streams:
            os.close(stream)
        os.write(status, str(child).encode())
        with open(os.pidfd_open(child)) as end:
            if status in select.select([status, end], [], [])[0]:  # nobody is there any more
                os.kill(child, signal.SIGKILL)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            os.write(status, str(ended).encode())
        os._exit(0)
    os.close(status)
    if request.get("new_session"):
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for number in request.get("closed", ()):
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)  # as Python finds it when it starts
    return request


def _adopted(request: dict[str, Any], status: int, *descriptors: int) -> dict[str, Any]:
    """Fork once more and end: the child says who it is once it has another parent, and returns what to do."""
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        time.sleep(0.0005)
    free = max(request["numbers"]) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, free) for descriptor in (status, *descriptors)]
    for descriptor in (status, *descriptors, *range(3, free)):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    for number, descriptor in zip(request["numbers"], moved[1:], strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    os.write(moved[0], str(os.getpid()).encode())
    os.close(moved[0])
    return request


def _become(request: dict[str, Any], path: list[str]) -> None:
    """Do what Python does with its arguments."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if "dask" in sys.modules:
        sys.modules["dask"].config.refresh()  # it looks at the environment when it is imported
    first, *rest = request["arguments"]
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    beside = str(Path(first).resolve().parent) if first not in ("-c", "-m") else ""
    sys.path[:] = [beside, *given, *path]
    if first == "-c":
        sys.argv = [first, *rest[1:]]
        module = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(module))
    elif first == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


def _end(code: int) -> None:
    """Do what is to be done at the end, without taking apart all that was imported."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(code)


def _main() -> None:
    path = [entry for entry in sys.path if entry != str(ROOT / "tests")]
    sys.path.insert(0, str(ROOT))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whoever asks first may hold signals back
    _import_everything(sys.argv[2:])
    gc.collect()
    gc.freeze()
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return
    if request.get("has_children"):
        request = _with_parent_of_children(request)
    try:
        _become(request, path)
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        code = end.code or 0
    else:
        code = 0
    _end(code)


if __name__ == "__main__":
    _main()
