"""Every kind of call to the system fails in turn, in every command; and the power is cut at every moment.

The faults are made by a small C library, tests/faults/faults.c, that stands between the program and the
system's own. By default one call of a kind, or of every second kind, fails in each command, and a few
moments are looked at; `HMS_FAULTS=all` takes every call and every moment, which takes hours, and
`HMS_FAULTS=10` every tenth.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TESTS

from hms.sources.synthetic import generate

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
HOW = os.environ.get("HMS_FAULTS", "few")

SCENES = [
    ["run"], ["shards"], ["again", "explain"], ["show", "ls", "diff"], ["verify"], ["repair"], ["gc", "rm"],
    ["export"], ["look for garbage"],
]  # fmt: skip
CUTS = [["run"], ["shards"], ["again"], ["repair"], ["gc"], ["rm"], ["export"]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        COMPILER is None or sys.platform != "linux",
        reason="no C compiler, or no Linux: failing calls and power cuts are NOT tested",
    ),
]


def together(scenes: list[list[str]]) -> list[list[str]]:
    """Return the scenes as they are tried: where few faults are made of each, all in one program."""
    return scenes if HOW != "few" else [[name for names in scenes for name in names]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the library of faults."""
    path = tmp_path_factory.mktemp("faults") / "faults.so"
    source = TESTS / "faults" / "faults.c"
    command = [str(COMPILER), "-shared", "-fPIC", "-O2", "-o", str(path), str(source), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four recordings of three patients."""
    folder = tmp_path_factory.mktemp("tiny") / "set"
    generate(folder, n_recordings=4, n_patients=3, seed=0, write_spectrograms=False)
    return folder


def torment(library: Path, *arguments: object) -> dict[str, Any]:
    """Run the program of faults and return what it found."""
    environment = {**os.environ, "LD_PRELOAD": str(library), "LOKY_MAX_CPU_COUNT": "1"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, str(TESTS / "faults" / "driver.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=20_000,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def tormented(
    library: Path, tiny_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[list[str], list[str]], dict[str, Any]]:
    """Return what faults in scenes and cuts in others do; few of them are all tried when first asked for."""

    def call(scenes: list[str], cuts: list[str]) -> dict[str, Any]:
        return torment(library, tiny_set, tmp_path_factory.mktemp("work"), HOW, *scenes, "cut", *cuts)

    few = functools.cache(lambda: call(*together(SCENES), *together(CUTS)))
    return call if HOW != "few" else lambda scenes, cuts: few()


@pytest.mark.parametrize("scenes", together(SCENES), ids=" ".join)
def test_whatever_call_fails_a_command_ends_with_its_code_and_can_be_given_again(
    tormented: Callable[[list[str], list[str]], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    scenes: list[str],
) -> None:
    """With 0 or 4, never a traceback; afterwards the same command gives the same bytes."""
    found = tormented(scenes, [])
    n_faults = sum(found["faults"].values())
    with capsys.disabled():
        print(f"\n{', '.join(scenes)}: {n_faults} calls failed, ends {found['codes']}")
    assert found["bad"] == []
    assert n_faults >= 20


@pytest.mark.parametrize("scenes", together(CUTS), ids=" ".join)
def test_what_a_power_cut_leaves_is_true_and_the_same_command_finishes_it(
    tormented: Callable[[list[str], list[str]], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    scenes: list[str],
) -> None:
    """Whatever was not synced is dropped, at every moment; nothing finished lacks anything then."""
    for scene, found in tormented([], scenes)["cuts"].items():
        with capsys.disabled():
            print(f"\n{scene}: {found['calls']} calls, {found['states']} states of the disk opened")
        assert found["bad"] == []
        assert found["states"] > (5 if HOW == "all" else 0)
