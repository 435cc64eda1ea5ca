"""The benchmarks that measure no speed run, on a few recordings, and find what they plant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
