"""Every notebook runs in a clean kernel, quickly, with pictures, and is committed with its outputs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_SECONDS = 30.0

IMPORTED = (
    "ipykernel.kernelapp", "ipykernel.ipkernel", "matplotlib.pyplot", "matplotlib_inline.backend_inline",
    "sklearn.linear_model", "hms.sweep", "hms.report.making",
)  # fmt: skip
"""What a kernel finds imported."""


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def test_there_are_four_notebooks() -> None:
    names = ["01_package.ipynb", "02_compare.ipynb", "03_training.ipynb", "04_submission.ipynb"]
    assert [path.name for path in NOTEBOOKS] == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_as_said_and_names_no_path_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [name for name in ("home", "tmp", "root", "dev") if f"/{name}/" in text]
    code = [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    errors = [o["ename"] for cell in code for o in cell["outputs"] if o["output_type"] == "error"]
    assert set(errors) <= {"ConfigError"}  # shown on purpose
    for cell in read(path)["cells"]:
        source = "".join(cell["source"])
        assert "http" not in source
        assert "/home/" not in source


async def _forked(self: Any, cmd: list[str], **options: Any) -> Any:
    """Start a kernel as a fork, in the place of jupyter_client's own way."""
    self.process = forked.start(
        cmd[cmd.index("-m") :],
        cwd=options["cwd"],
        env=options["env"],
        start_new_session=True,
        modules=IMPORTED,
    )
    self.process.stdin = self.process.stdout = self.process.stderr = None
    self.pid, self.pgid = self.process.pid, self.process.pid
    return self.connection_info


@pytest.fixture
def in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Run all cells of a notebook in a kernel of its own, in an empty folder."""
    nbclient = pytest.importorskip("nbclient")
    provisioning = pytest.importorskip("jupyter_client.provisioning.local_provisioner")
    monkeypatch.setattr(provisioning.LocalProvisioner, "launch_kernel", _forked)
    monkeypatch.setenv("PYTHONWARNINGS", "default")

    def run(notebook: Any) -> None:
        nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}},
            shutdown_kernel="immediate",
        ).execute()  # fmt: skip

    return run


def with_fewer_recordings(notebook: Any) -> Any:
    """Return a notebook with a fifth of the recordings and a quarter of the patients, 20 of 6 at least."""
    for cell in notebook.cells:
        cell.source = re.sub(r"(?<=n_recordings=)\d+|\d+(?=x\d+-\*)", _fifth, cell.source)
        cell.source = re.sub(r"(?<=n_patients=)\d+|(?<=x)\d+(?=-\*)", _quarter, cell.source)
    return notebook


def _fifth(number: re.Match[str]) -> str:
    return str(max(int(number[0]) // 5, 20))


def _quarter(number: re.Match[str]) -> str:
    return str(max(int(number[0]) // 4, 6))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_clean_kernel_in_half_a_minute(
    path: Path, in_a_kernel: Callable[[Any], None]
) -> None:
    notebook = with_fewer_recordings(pytest.importorskip("nbformat").read(path, as_version=4))
    began = time.monotonic()
    in_a_kernel(notebook)
    seconds = time.monotonic() - began
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    pages = [output for output in outputs if "text/html" in output.get("data", {})]
    assert len(pictures) >= 2
    assert pages
    refusals = [output for output in outputs if output["output_type"] == "error"]
    assert all(output["ename"] == "ConfigError" for output in refusals)
    assert all(len(output["traceback"]) == 1 for output in refusals)
    assert "Warning" not in "".join(output.get("text", "") for output in outputs)
    assert seconds < MOST_SECONDS


@pytest.mark.filterwarnings("ignore")
def test_an_expected_error_is_one_line_in_a_notebook_and_does_not_stop_a_runner(
    in_a_kernel: Callable[[Any], None],
) -> None:
    nbformat = pytest.importorskip("nbformat")
    cells = [
        nbformat.v4.new_code_cell(
            "import hms; hms.compose('cwt=morlett')", metadata={"tags": ["raises-exception"]}
        ),
        nbformat.v4.new_code_cell("print('after it')"),
    ]
    in_a_kernel(nbformat.v4.new_notebook(cells=cells))
    error, after = (cell.outputs[0] for cell in cells)
    assert error.ename == "ConfigError"
    assert [line for text in error.traceback for line in text.splitlines()] == [
        f"ConfigError: {error.evalue}"
    ]
    assert after.text == "after it\n"
