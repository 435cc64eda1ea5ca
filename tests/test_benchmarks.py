"""The benchmarks that measure no speed run, on a few recordings, and find what they plant."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def benchmark(name: str, *arguments: str, folder: Path) -> str:
    """Run a benchmark and return what it prints."""
    command = [sys.executable, str(ROOT / "benchmarks" / name), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_middle_and_strong_defects_are_all_found_on_a_few_recordings(tmp_path: Path) -> None:
    printed = benchmark("quality.py", "--recordings", "3", "--alarms", "3", folder=tmp_path)
    cells = [[cell.strip() for cell in line.split("|")] for line in printed.splitlines()]
    found = [row[5] for row in cells if len(row) == 9 and row[3] in ("middle", "strong")]
    assert len(found) > 30
    assert set(found) == {"100% of 3"}


def test_the_table_step_is_measured_on_a_few_items(tmp_path: Path) -> None:
    printed = benchmark("tables.py", "30", folder=tmp_path)
    (row,) = [line for line in printed.splitlines() if line.startswith("| 30 |")]
    assert len(row.split("|")) == 8


def test_the_device_benchmark_finds_the_runs_own_x(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: benchmarks/device.py is NOT run")
    sizes = ("--recordings", "6", "--batch", "3", "--rounds", "1", "--devices", "cpu")
    printed = benchmark("device.py", "--work", str(tmp_path), *sizes, folder=tmp_path)
    assert "derivations float16, read, sent, transformed" in printed
    found = re.search(r"off by (\S+) in the median and by less than (\S+) in 99.9 %", printed)
    assert found
    assert float(found[1]) < 1e-6
    assert float(found[2]) < 5e-5
    assert "no accelerator was found: the goal on a GPU was not looked at" in printed
