"""The wheel: complete, installed without a network, and at work on a read-only input folder.

Collecting the wheels of the dependencies needs a network (or pip's cache), so that this
happens only where HMS_WHEELS names the folder to collect them in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from filelock import FileLock


def call(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed; nothing of this process's environment leads back to the checkout."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HMS"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done


@pytest.fixture(scope="module")
def wheels() -> Path:
    """Return a folder with the wheels of hms and of everything that it needs."""
    folder = os.environ.get("HMS_WHEELS", "")
    if not folder:
        pytest.skip("HMS_WHEELS names no folder for wheels: the offline installation is NOT tested")
    Path(folder).mkdir(parents=True, exist_ok=True)
    with FileLock(Path(folder) / ".lock"):  # pytest's parallel workers share the folder
        call(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", folder, ROOT, cwd=ROOT)
    return Path(folder)


def test_the_wheel_holds_every_yaml_and_page_of_the_checkout(wheels: Path) -> None:
    (wheel,) = wheels.glob("hms_eeg-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = {f"hms/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "hms").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(conf) > 30
    assert conf | package <= names


@pytest.mark.slow
def test_it_installs_without_a_network_and_prepares_from_a_read_only_folder(
    wheels: Path, small_set: Path, tmp_path: Path
) -> None:
    """As in a Kaggle notebook without internet: wheels and recordings in, outputs in the working folder."""
    call(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    options = ("--quiet", "--no-index", "--no-compile", "--find-links", wheels)
    call(sys.executable, "-m", "pip", "--python", python, "install", *options, "hms-eeg", cwd=tmp_path)
    working = tmp_path / "working"
    working.mkdir()
    before = {path: path.stat().st_mtime_ns for path in small_set.rglob("*")}
    _set_writable(small_set, False)
    try:
        call(
            *(tmp_path / "venv" / "bin" / "hms", "run", "data=kaggle", f"data.root={small_set}", "n_jobs=1"),
            cwd=working,
        )
    finally:
        _set_writable(small_set, True)
    assert {path: path.stat().st_mtime_ns for path in small_set.rglob("*")} == before
    check = (
        "import hms; run = hms.load(); "
        "print(hms.__file__, run.labels.y_soft.shape, run.spec(run.meta.item_id[0]).shape)"
    )
    out = call(python, "-c", check, cwd=working).stdout
    assert str(tmp_path / "venv") in out
    assert "(10, 6) (4, 48, 250)" in out


def _set_writable(folder: Path, writable: bool) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200 if writable else path.stat().st_mode & ~0o222)
