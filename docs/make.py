"""Renew pictures, outputs, tables and notebooks of the documentation: ``python docs/make.py [NAME ...]``.

Each has a command of its own, which uses the embedded set. docs/images/made.json notes what it was made by
(versions of all stages, and a notebook's cells). ``--check`` computes nothing and names what is stale, and
measurements whose page does not name its command: those take minutes on an idle machine and are repeated by
hand, with the command that is on the page.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / "docs" / "images" / "made.json"
MEASURED = {
    "benchmarks/README.md": ("cwt", "throughput", "scale", "plan", "latency", "engines", "reads"),
    "benchmarks/public.md": ("public", "quality"),
    "docs/cluster.md": ("engines",),
    "docs/quality_proof.md": ("quality", "agreement", "tables"),
    "docs/study.md": ("study",),
    "docs/sweeps.md": ("coverage",),
    "docs/training.md": ("device", "reads", "leak"),
    "docs/votes.md": ("votes", "label_issues"),
    "docs/decisions/browse.md": ("viewers",),
    "docs/decisions/gaps.md": ("gaps",),
    "docs/decisions/intervals.md": ("coverage",),
    "docs/decisions/plan.md": ("plan",),
    "docs/decisions/smoothing.md": ("votes",),
    "docs/decisions/synthetic.md": ("likeness", "leak"),
    "docs/decisions/waveform.md": ("waveforms",),
}
"""Programs in benchmarks/ whose figures a page has."""
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


def browse() -> None:
    """Draw the viewer's pages from sixty recordings."""
    with tempfile.TemporaryDirectory() as folder:
        call("docs/draw_browse.py", "--outputs", folder)


def readme() -> None:
    """Print in README what ``hms explain`` says after a run with the defaults, less the report's parts."""
    command = ["hms", "explain", "cwt.w0=6", "weight=log"]
    with tempfile.TemporaryDirectory() as folder:
        call(str(ROOT / "run.py"), cwd=Path(folder))
        said = call("-m", *command, cwd=Path(folder))
    lines = [line for line in said.splitlines() if not line.startswith("report")]
    block = "\n".join(["```", f"$ {' '.join(command)}", *lines, "```"])
    replace("README.md", r"```\n\$ hms explain.*?```", block)


def replace(page: str, pattern: str, block: str) -> None:
    """Put a block into a page in the place of what a pattern finds."""
    path = ROOT / page
    text, found = re.subn(pattern, lambda _: block, path.read_text(), count=1, flags=re.S)
    assert found, f"{page} has nothing like {pattern}"
    path.write_text(text)


def help_page() -> str:
    """Return docs/help.md with what ``hms help cwt.hop`` prints now."""
    said = call("-m", "hms", "help", "cwt.hop")
    page = (ROOT / "docs" / "help.md").read_text()
    return re.sub(
        r"\$ hms help cwt\.hop\n.*?```", lambda _: f"$ hms help cwt.hop\n{said}```", page, flags=re.S
    )


def decisions_page() -> str:
    """Return docs/decisions/index.md: every decision by the title of its page."""
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    titles = {page.name: page.read_text().partition("\n")[0].lstrip("# ") for page in pages}
    lines = [f"- [{title}]({name})" for name, title in titles.items() if name != "index.md"]
    return "\n".join([DECISIONS, *lines, ""])


DECISIONS = """\
# Decisions

Each page describes a choice that changes numbers: the problem, the measurements, the choice, and what was
rejected. If a page names a program, you can repeat its measurements. The others were made once, when the
choice was made.
"""


def study_page() -> str:
    """Return docs/study.md with the table of docs/study/options.csv, which benchmarks/study.py writes."""
    with (ROOT / "docs" / "study" / "options.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    page = (ROOT / "docs" / "study.md").read_text()
    return re.sub(r"(\| option \|.*?\n\|---.*?\n)(?:\|.*?\n)+", lambda found: found[1] + table, page, count=1)


def badge(name: str, value: str) -> str:
    """Return a badge as SVG: a name and a value, side by side, that need nothing from elsewhere."""
    left, right = (round(6.6 * len(text)) + 14 for text in (name, value))
    label = f'<text x="{left / 2:g}" y="14">{name}</text><text x="{left + right / 2:g}" y="14">{value}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{name}: {value}"><rect width="{left + right}" height="20" rx="3" fill="#455a64"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{left}z" fill="#00695c"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f"{label}</g></svg>\n"
    )


def badge_of(name: str) -> str:
    """Return a badge of what pyproject.toml states."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = [
        found[1] for c in project["classifiers"] if (found := re.fullmatch(r".*Python :: (3\.\d+)", c))
    ]
    return {
        "python": lambda: badge("python", f"{pythons[0]} to {pythons[-1]}"),
        "licence": lambda: badge("licence", project["license"]),
        "version": lambda: badge("version", project["version"]),
    }[name]()


PAGES = {
    **{
        f"badge-{n}": (f"docs/images/badge-{n}.svg", partial(badge_of, n))
        for n in ("python", "licence", "version")
    },
    "help": ("docs/help.md", help_page),
    "decisions": ("docs/decisions/index.md", decisions_page),
    "study": ("docs/study.md", study_page),
}
"""Pages that are made in a second from what there is, so that ``--check`` makes and compares them."""


def write_page(name: str) -> None:
    """Write one of `PAGES`."""
    path, made = PAGES[name]
    (ROOT / path).write_text(made())


def baseline() -> None:
    """Fill the table of the linear baseline in docs/training.md, by ``hms run baseline=logreg``."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        call(str(ROOT / "run.py"), "baseline=logreg", cwd=Path(folder))
        latest = Path(folder) / "outputs" / "latest"
        scores = json.loads((latest / "baseline" / "metrics.json").read_text())
        with np.load(latest / "data_package" / "labels.npz") as labels:
            is_high = labels["hc_mask"]
    model, prior = (scores[name]["stratum"] | scores[name]["all"] for name in ("model", "prior"))
    many, few = int(is_high.sum()), int((~is_high).sum())
    names = {"all": f"all {many + few}", "10+": f"{many} with 10+ votes", "1-9": f"{few} with 1-9 votes"}
    rows = []
    for key, name in names.items():
        gain = scores["gain"].get(key, {"value": model[key]["value"] - prior[key]["value"]})
        rows.append(f"| {name} | {interval(model[key])} | {interval(prior[key])} | {interval(gain, '+')} |\n")
    head = r"(?<=\| items \| baseline \| class prior \| difference \|\n\|---\|---\|---\|---\|\n)(?:\|.*?\n)+"
    replace("docs/training.md", head, "".join(rows))


def interval(found: dict[str, Any], sign: str = "") -> str:
    """Return a value with its interval, if it has one."""
    value = f"{found['value']:{sign}.3f}"
    return (
        value
        if found.get("low") is None
        else f"{value} ({found['low']:{sign}.3f} to {found['high']:{sign}.3f})"
    )


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
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not is_progress(output)]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
            if len(data.get("text/html", "")) > LARGEST_HTML:
                data["text/html"] = "<p>A page of its own opens here when the notebook is run.</p>"
    path.write_text(nbformat.writes(content).replace(f"{folder}/", "").replace(folder, ".") + "\n")


def is_progress(output: dict[str, Any]) -> bool:
    """Tell whether an output only shows how far something is."""
    text = output.get("text", "")
    return output.get("name") == "stderr" and (not text.strip() or "%|" in text)


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
    "browse": browse,
    "readme": readme,
    "baseline": baseline,
    **{name: (lambda name=name: write_page(name)) for name in PAGES},
    **{path.stem: (lambda path=path: notebook(path)) for path in NOTEBOOKS},
}


def state_of(name: str) -> dict[str, Any]:
    """Return what a thing follows from, as far as that can be told without making it."""
    from hms.pipeline.stage import registered_order, registered_stage
    from hms.registry import discover

    if name == "architecture" or name in PAGES:
        return {}  # made again and compared
    discover()
    versions = {stage: registered_stage(stage).version for stage in registered_order()}
    if name in ("pictures", "browse", "readme", "baseline"):
        return {"stages": versions}
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    text = json.dumps([cell["source"] for cell in cells])
    return {"stages": versions, "cells": hashlib.sha256(text.encode()).hexdigest()[:16]}


def is_current(name: str) -> bool:
    """Tell whether a thing was made by what there is now."""
    if name == "architecture":
        command = [sys.executable, "docs/draw_architecture.py", "--check"]
        return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    if name in PAGES:
        path, made = PAGES[name]
        return (ROOT / path).exists() and (ROOT / path).read_text() == made()
    return noted().get(name) == state_of(name)


def unnamed() -> list[str]:
    """Return the pages with measurements that do not name the program that measures them."""
    pages = {page: (ROOT / page).read_text() for page in MEASURED}
    gone = [f"benchmarks/{name}.py" for names in MEASURED.values() for name in names]
    lacking = [
        f"{page} lacks {n}.py"
        for page, names in MEASURED.items()
        for n in names
        if f"{n}.py" not in pages[page]
    ]
    return lacking + [f"{path} does not exist" for path in sorted(set(gone)) if not (ROOT / path).exists()]


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
        for line in (lacking := unnamed()):
            print(line)
        return int(bool(stale or lacking))
    for name in names:
        print(f"docs: {name}")
        THINGS[name]()
        if name in PAGES:
            continue
        MADE.write_text(json.dumps({**noted(), name: state_of(name)}, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
