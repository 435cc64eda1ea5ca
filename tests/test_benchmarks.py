"""The benchmarks that measure no speed run, on a few recordings, and find what they plant."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import conftest
import forked
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import hms
from hms.errors import ConfigError
from hms.training.baseline import fit_softmax


def benchmark(name: str, *arguments: str, folder: Path, modules: tuple[str, ...] = ()) -> str:
    """Run a benchmark and return what it prints."""
    done = forked.run([ROOT / "benchmarks" / name, *arguments], cwd=folder, modules=modules)
    assert done.returncode == 0, done.stderr
    return done.stdout


PROGRAMS = [path for folder in ("benchmarks", "docs", "examples") for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_a_program_beside_hms_uses_what_hms_has(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "hms":
            module = pytest.importorskip(str(node.module), exc_type=ConfigError)
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                assert hasattr(module, alias.name) or importlib.util.find_spec(name), name


@pytest.mark.slow
def test_middle_and_strong_defects_are_all_found_on_a_few_recordings(tmp_path: Path) -> None:
    """Of electrodes that the montage uses, in the window: of others the filter leaves nothing to judge."""
    printed = benchmark("quality.py", "--recordings", "3", "--alarms", "3", folder=tmp_path)
    for strength in ("middle", "strong"):
        counted = re.search(rf"^{strength}: (\d+) of (\d+) found", printed, re.MULTILINE)
        assert counted, printed
        assert int(counted[1]) == int(counted[2]) > 50


@pytest.mark.slow
def test_the_table_step_is_measured_on_a_few_items(tmp_path: Path) -> None:
    printed = benchmark("tables.py", "30", "--recordings", "10", folder=tmp_path)
    (row,) = [line for line in printed.splitlines() if line.startswith("| 30 |")]
    assert len(row.split("|")) == 8


@pytest.mark.slow
def test_the_device_benchmark_finds_the_runs_own_x(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: benchmarks/device.py is NOT run")
    sizes = ("--recordings", "6", "--batch", "3", "--rounds", "1", "--devices", "cpu")
    printed = benchmark("device.py", "--work", str(tmp_path), *sizes, folder=tmp_path, modules=("torch",))
    assert "derivations float16, read, sent, transformed" in printed
    found = re.search(
        r"x from float32 is off by (\S+) in the median and by less than (\S+) in 99.9 %", printed
    )
    assert found
    assert float(found[1]) < 1e-6
    assert float(found[2]) < 5e-5
    assert "no accelerator was found: the goal on a GPU was not looked at" in printed


def test_a_folder_without_votes_and_a_refused_configuration_are_said_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shared = conftest.benchmark("recordings")
    with pytest.raises(argparse.ArgumentTypeError, match=r"holds no train\.csv beside a folder train_eegs"):
        shared.competition_folder(str(tmp_path))
    with pytest.raises(ConfigError) as refused:
        hms.compose("data.n_recordings=5", "data.n_patients=6")
    shared._say_refusal(refused.type, refused.value, None)
    (line,) = capfd.readouterr().err.splitlines()
    assert "n_patients 6 is more than n_recordings 5" in line


@pytest.mark.slow
def test_likeness_has_a_row_for_each_figure_and_an_area_for_each_model(
    small_set: Path, tmp_path: Path
) -> None:
    arguments = ("--work", str(tmp_path), "--recordings", "40", "--patients", "20")
    printed = benchmark("likeness.py", "--real", str(small_set), *arguments, folder=tmp_path)
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("| ")]
    assert [row[1].strip() for row in rows][:3] == [
        "median (10 to 90 %)",
        "SD of a pair, µV",
        "slope of the spectrum, 2-20 Hz",
    ]
    areas = [float(row[3].split()[0]) for row in rows if row[1].endswith("AUC ")]
    assert len(areas) == 2
    assert all(0 <= area <= 1 for area in areas)


@pytest.mark.slow
def test_likeness_says_which_class_is_short_of_made_up_recordings(small_set: Path, tmp_path: Path) -> None:
    arguments = ("--real", small_set, "--work", tmp_path, "--recordings", "2", "--patients", "2")
    done = forked.run([ROOT / "benchmarks" / "likeness.py", *arguments])
    assert done.returncode == 1
    assert "fewer made-up recordings than real ones are " in done.stderr


@pytest.mark.slow
def test_competition_writes_results_without_ids_and_paths(small_set: Path, tmp_path: Path) -> None:
    """Both parts, both preparations; no recording, patient or folder is named."""
    arguments = ("--root", str(small_set), "--work", str(tmp_path), "--only", "defaults", "Morse wavelet")
    printed = benchmark("competition.py", *arguments, folder=tmp_path)
    assert "Patients set aside to report; chosen: " in printed
    text = (tmp_path / "competition-results.json").read_text()
    results = json.loads(text)
    assert {part: set(rows) for part, rows in results["linear"].items()} == {
        "choose": {"defaults", "Morse wavelet"},
        "report": {"defaults", "Morse wavelet"},
    }
    assert results["linear"]["report"]["defaults"]["all"]["to_defaults"]["value"] == 0
    assert str(tmp_path) not in text
    table = pd.read_csv(small_set / "train.csv")
    assert not any(str(name) in text for name in (*table["eeg_id"], *table["spectrogram_id"]))


# --- votes and intervals -------------------------------------------------------------------------


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a benchmark as a module of a name that no package has."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, loaded)
        spec.loader.exec_module(loaded)
        return loaded

    return load


def test_the_simulated_models_are_those_that_the_baseline_fits(module: Any) -> None:
    """Newton's method of the coverage benchmark finds what the baseline's optimiser finds."""
    coverage, rng = module("coverage"), np.random.default_rng(0)
    x, y, w = rng.normal(size=(80, 3)), rng.dirichlet(np.ones(4), 80), rng.uniform(0.2, 1.5, 80)
    coefficients, intercept = fit_softmax(x, y, w, l2=0.01, max_iterations=2000)
    table = coverage.fit(x, y, w, l2=0.01)
    want = coverage.softmax(x @ coefficients + intercept)
    np.testing.assert_allclose(coverage.softmax(x @ table[:-1] + table[-1]), want, atol=1e-4)


@pytest.mark.slow
def test_coverage_is_printed_for_every_interval(tmp_path: Path) -> None:
    printed = benchmark("coverage.py", "--sets", "5", "--only", "20 alike", folder=tmp_path)
    shares = [float(row.split()[-4]) for row in printed.splitlines() if "/" in row and "low/high" not in row]
    assert len(shares) == 8
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.slow
def test_votes_are_planted_among_embedded_recordings_and_looked_for(tmp_path: Path) -> None:
    printed = benchmark("label_issues.py", "--recordings", "30", "--draws", "2", folder=tmp_path)
    assert "embedded recordings" in printed
    assert re.search(r"^hms .*first 50: \d\.\d{3}", printed, re.MULTILINE), printed


def test_planted_votes_are_those_of_another_patient(module: Any) -> None:
    votes = np.random.default_rng(0).multinomial(9, np.full(6, 1 / 6), 400)
    patients = np.repeat(np.arange(100), 4).astype(str)
    swapped, wrong = module("label_issues").swap(votes, patients, np.random.default_rng(1))
    assert 10 <= wrong.sum() <= 20
    assert (swapped[wrong] != votes[wrong]).any(axis=1).all()
    np.testing.assert_array_equal(swapped[~wrong], votes[~wrong])
    assert sorted(map(tuple, swapped[wrong])) == sorted(map(tuple, votes[wrong]))


def test_votes_held_back_and_kept_are_the_panel(module: Any) -> None:
    votes = np.random.default_rng(0).multinomial(12, np.full(6, 1 / 6), 50)
    kept, rest = module("votes").held_back(votes, np.full(50, 3), np.random.default_rng(1))
    np.testing.assert_array_equal(kept + rest, votes)
    assert (kept.sum(axis=1) == 3).all()


@pytest.mark.slow
def test_competition_scores_a_network_on_the_patients_set_aside(small_set: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: the network is NOT tested")
    arguments = ("--root", str(small_set), "--work", str(tmp_path), "--only", "defaults")
    network = ("--network", "--epochs", "1,1")
    benchmark("competition.py", *arguments, *network, folder=tmp_path, modules=("torch",))
    results = json.loads((tmp_path / "competition-results.json").read_text())
    aside = results["linear"]["report"]["defaults"]["all"]["divergence"]["n_items"]
    assert results["network"]["all"]["divergence"]["n_items"] == aside > 0
