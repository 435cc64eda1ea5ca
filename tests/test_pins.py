"""Behaviour as pinned: keys, run hashes and content of a dozen configurations over committed recordings.

A test that fails here says what moved. If that is meant, ``python tests/pins/make.py --expected`` renews
the pins and says the same, for the commit's message.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pins.observed import (
    CONFIGURATIONS,
    EXPECTED,
    KEYS_ONLY,
    RECORDINGS,
    differences,
    differences_of_arrays,
    observe,
    record_of_array,
    run_of,
    surroundings,
    unpack,
)

PINS: dict[str, Any] = json.loads(EXPECTED.read_text())
RENEW = "\nif this is meant: python tests/pins/make.py --expected"
LARGEST_BYTES, ALL_BYTES = 15_000, 100_000

ONE_A_SOURCE = (
    "kaggle, logreg, packed",
    "edf, table of windows, per_row",
    "iiic, lenient, unfiltered, float16",
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the committed recordings."""
    return unpack(tmp_path_factory.mktemp("pins") / "recordings")


@pytest.fixture(scope="module")
def observed(recordings: Path) -> dict[str, dict[str, Any]]:
    """Hold what was observed of each configuration, prepared when first asked for; outputs are shared."""

    class Observed(dict[str, dict[str, Any]]):
        def __missing__(self, name: str) -> dict[str, Any]:
            self[name] = observe(name, recordings, recordings.parent / "outputs")
            return self[name]

    return Observed()


def test_every_configuration_is_pinned():
    """A configuration without a pin, or a pin without a configuration, guards nothing."""
    assert list(PINS["runs"]) == list(CONFIGURATIONS), RENEW


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_keys_run_hash_and_content_are_as_pinned(name, observed):
    """Versions and keys of stages, the run hash and every file; numbers within what libraries may change."""
    found = differences(PINS["runs"][name], observed[name])
    assert not found, "\n".join([name, *found]) + RENEW


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_bytes_are_as_pinned_with_the_same_libraries_and_processor(name, observed):
    """Where nothing but this code could have moved them, the last bits are the same too."""
    now, then = surroundings(), PINS["made_with"]
    if now != then:
        changed = [f"{what} {then[what]} -> {now[what]}" for what in then if then[what] != now[what]]
        pytest.skip(f"last bits are NOT compared, the pins were made with others: {'; '.join(changed)}")
    found = differences(PINS["runs"][name], observed[name], of_bytes=True)
    assert not found, "\n".join([name, *found]) + RENEW


@pytest.mark.parametrize("name", ONE_A_SOURCE)
def test_no_hash_depends_on_where_recordings_and_outputs_lie(name, recordings, tmp_path, monkeypatch):
    """The same files in another folder, named from another place by a relative path, are the same run."""
    monkeypatch.chdir(tmp_path)
    unpack(tmp_path / "elsewhere" / "set")
    again = run_of(name, Path("elsewhere/set"), Path("made"))
    assert again.hash == PINS["runs"][name]["run"]
    digests = {path: digest for path, (_, digest) in again.manifest["files"].items()}
    first = run_of(name, recordings, recordings.parent / "outputs")
    assert digests == {path: digest for path, (_, digest) in first.manifest["files"].items()}


def test_recordings_are_small_enough_to_be_committed():
    """A few kilobytes each."""
    sizes = {path.name: path.stat().st_size for path in RECORDINGS.rglob("*") if path.is_file()}
    assert max(sizes.values()) < LARGEST_BYTES, sizes
    assert sum(sizes.values()) < ALL_BYTES, sizes


def test_only_synthetic_is_pinned_without_a_run_hash():
    """Its recordings are made by the package, and may be made otherwise one day."""
    without = [name for name, record in PINS["runs"].items() if "run" not in record]
    assert without == list(KEYS_ONLY)
    assert all("files" not in PINS["runs"][name] for name in without)


# --- what counts as a difference -----------------------------------------------------------------

NUMBERS = {"is": "float32 [3]", "max": 2.0, "numbers": [1.0, 2.0, -0.5]}
RECORD = {
    "run": "00ff",
    "versions": {"scalograms": 2},
    "keys": {"scalograms": "ab"},
    "files": {
        "config.yaml": {"exact": "01"},
        "qc/report.html": {},
        "spec_hr_out/1_hr.npz": {"parts": {"x": NUMBERS}, "bytes": "02"},
    },
}


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return `RECORD` with another value at a path."""
    record = copy.deepcopy(RECORD)
    place: Any = record
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return record


X = ("files", "spec_hr_out/1_hr.npz", "parts", "x")

CHANGES: list[tuple[tuple[str, ...], Any, str]] = [
    (("run",), "11", "run hash 00ff -> 11"),
    (("versions", "scalograms"), 3, "version of stage scalograms: 2 -> 3"),
    (("versions", "labels"), 1, "version of stage labels: none -> 1"),
    (("keys",), {}, "key of stage scalograms: ab -> none"),
    (("files", "config.yaml", "exact"), "03", "config.yaml: its bytes changed"),
    (("files", "qc/qc.csv"), {}, "qc/qc.csv: new"),
    ((*X, "is"), "float16 [3]", "spec_hr_out/1_hr.npz: 'x' is: float32 [3] -> float16 [3]"),
    ((*X, "nan"), 1, "spec_hr_out/1_hr.npz: 'x' nan: None -> 1"),
    (
        (*X, "numbers"),
        [1.0, 2.0, -0.4997],
        "spec_hr_out/1_hr.npz: 'x' moved by up to 0.0003 (-0.5 -> -0.4997); 0.0002 is allowed",
    ),
    (
        (*X, "numbers"),
        [],
        "spec_hr_out/1_hr.npz: 'x' moved by up to 2 (2 -> 0); 0.0002 is allowed",
    ),
]


@pytest.mark.parametrize(("path", "value", "text"), CHANGES)
def test_a_change_is_named(path, value, text):
    """A line for what changed, and none for what did not."""
    assert differences(RECORD, RECORD, of_bytes=True) == []
    assert differences(RECORD, changed(path, value)) == [text]


def test_a_number_within_the_tolerance_differs_in_bytes_only():
    """1e-4 of the largest value is what another library may change; the digest of the bytes tells more."""
    close = changed((*X, "numbers"), [1.0, 2.0, -0.4999])
    close["files"]["spec_hr_out/1_hr.npz"]["bytes"] = "05"
    assert differences(RECORD, close) == []
    (text,) = differences(RECORD, close, of_bytes=True)
    assert text == "spec_hr_out/1_hr.npz: its bytes changed, its numbers by less than the tolerance"


def test_a_record_of_an_array_sees_any_part_of_it_move():
    """A quarter of an array that moves by a thousandth of its largest value is seen."""
    values = np.linspace(-1, 1, 1000, dtype=np.float32)
    for start in range(0, 1000, 250):
        moved = values.copy()
        moved[start : start + 250] += 0.001
        assert differences_of_arrays(record_of_array(values), record_of_array(moved)) != []
