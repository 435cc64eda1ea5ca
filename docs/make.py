"""Make pictures and notebooks of the documentation anew: ``python docs/make.py [NAME ...] [--check]``.

Each is made by a command of its own from the embedded set. What made it is noted in docs/images/made.json
(versions of all stages, and a notebook's cells); ``--check`` computes nothing and names what is stale.
Tables of measurements stand beside the command that makes them: a busy machine would measure itself.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / "docs" / "images" / "made.json"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST_HTML = 200_000
"""Characters of an output that stay in a stored notebook."""

sys.path.insert(0, str(ROOT))


def call(*command: str, cwd: Path = ROOT) -> str:
    """Run a program of the project and return what it prints."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, check=True, env=environment, stdout=subprocess.PIPE, text=True
    ).stdout


def architecture() -> None:
    """Draw the packages and who imports whom."""
    call("docs/draw_architecture.py")


def pictures() -> None:
    """Draw a recording, the report, and what augmentation does, from a run on the embedded set."""
    with tempfile.TemporaryDirectory() as folder:
        call("docs/draw_pictures.py", "--outputs", folder)
        drawing = ("examples/draw_augmentations.py", "--outputs", folder, "--run", "latest")
        call(*drawing, "--index", "3", "--seed", "8", "docs/images/augmentations.png")


def readme() -> None:
    """Print in README what ``hms explain`` says after a run with the defaults, less the report's parts."""
    command = ["hms", "explain", "cwt.w0=6", "weight=log"]
    with tempfile.TemporaryDirectory() as folder:
        call(str(ROOT / "run.py"), cwd=Path(folder))
        said = call("-m", *command, cwd=Path(folder))
    lines = [line for line in said.splitlines() if not line.startswith("report")]
    block = "\n".join(["```", f"$ {' '.join(command)}", *lines, "```"])
    page = ROOT / "README.md"
    page.write_text(re.sub(r"```\n\$ hms explain.*?```", lambda _: block, page.read_text(), flags=re.S))


def notebook(path: Path) -> None:
    """Execute a notebook in an empty folder and keep its outputs."""
    import nbclient
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        content = nbformat.read(path, as_version=4)
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(content, timeout=300, kernel_name="python3", resources=resources).execute()
    for cell in content.cells:
        cell.metadata.pop("execution", None)  # times of this machine
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
            if len(data.get("text/html", "")) > LARGEST_HTML:
                data["text/html"] = "<p>A page of its own opens here when the notebook is run.</p>"
    path.write_text(nbformat.writes(content).replace(f"{folder}/", "").replace(folder, ".") + "\n")


def smaller(picture: str) -> str:
    """Return a picture, in base64, with a palette of 128 colours: a quarter of the bytes."""
    from PIL import Image

    to = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(128).save(
        to, "PNG", optimize=True
    )
    return base64.b64encode(to.getvalue()).decode() + "\n"


THINGS: dict[str, Callable[[], None]] = {
    "architecture": architecture,
    "pictures": pictures,
    "readme": readme,
    **{path.stem: (lambda path=path: notebook(path)) for path in NOTEBOOKS},
}


def state_of(name: str) -> dict[str, Any]:
    """Return what a thing follows from, as far as that can be told without making it."""
    from hms.pipeline.stage import registered_order, registered_stage
    from hms.registry import discover

    if name == "architecture":
        return {}  # its own --check draws it again
    discover()
    versions = {stage: registered_stage(stage).version for stage in registered_order()}
    if name in ("pictures", "readme"):
        return {"stages": versions}
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    text = json.dumps([cell["source"] for cell in cells])
    return {"stages": versions, "cells": hashlib.sha256(text.encode()).hexdigest()[:16]}


def is_current(name: str) -> bool:
    """Tell whether a thing was made by what there is now."""
    if name == "architecture":
        command = [sys.executable, "docs/draw_architecture.py", "--check"]
        return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    return noted().get(name) == state_of(name)


def noted() -> dict[str, Any]:
    """Return what each thing was made by."""
    return json.loads(MADE.read_text()) if MADE.exists() else {}


def main() -> int:
    """Make what is named, or all; with ``--check`` only say what is stale."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(THINGS)}; none: all")
    parser.add_argument("--check", action="store_true", help="make nothing; end with 1 if something is stale")
    given = parser.parse_args()
    names = given.names or list(THINGS)
    if unknown := [name for name in names if name not in THINGS]:
        parser.error(f"nothing is named {', '.join(unknown)}; there are {', '.join(THINGS)}")
    if given.check:
        stale = [name for name in names if not is_current(name)]
        print(f"stale: {', '.join(stale)}; python docs/make.py {' '.join(stale)}" if stale else "all current")
        return int(bool(stale))
    for name in names:
        print(f"docs: {name}")
        THINGS[name]()
        MADE.write_text(json.dumps({**noted(), name: state_of(name)}, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
