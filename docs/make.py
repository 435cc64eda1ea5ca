"""Renew pictures, outputs, tables and notebooks of the documentation: ``python docs/make.py [NAME ...]``.

Each has a command of its own, most of them on the embedded set. ``--all`` makes the slow ones too, in some
ten minutes: tables of votes, of planted errors and of the network. They need torch and cleanlab, and in
HMS_IIIC the folder of the published votes (benchmarks/votes.py and label_issues.py say where those are).

docs/images/made.json notes what each was made by: versions of stages, a program or a notebook's cells.
``--check`` computes nothing and names what is stale, and measurements whose page does not name its command:
those are repeated by hand on an idle machine, with the command that is on the page.
"""

from __future__ import annotations

import argparse
import ast
import base64
import csv
import hashlib
import io
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Callable
from functools import partial
from importlib import metadata
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
SLOW = {
    "votes": ("benchmarks/votes.py", "agreement"),
    "planted": ("benchmarks/label_issues.py", "features", "labels", "splits", "baseline", "label_issues"),
    "panels": ("benchmarks/label_issues.py", "label_issues"),
    "network": ("examples/train_torch.py", "scalograms", "waveforms", "traces", "labels", "splits"),
}
"""What only ``--all`` makes, with its program and the stages whose versions it follows."""
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


METHODS = {
    "tail probability alone": "the tail probability alone",
    "cleanlab self_confidence": "cleanlab self-confidence",
    "cleanlab normalized_margin": "cleanlab normalised margin",
    "cleanlab confidence_weighted_entropy": "cleanlab confidence-weighted entropy",
}
"""How docs/votes.md calls the methods of benchmarks/label_issues.py."""
VALUE = r"[\d.]+ \([^)]*\)"


def published(name: str) -> str:
    """Return the place of a file of the published votes."""
    folder = os.environ.get("HMS_IIIC")
    if folder is None or not (file := Path(folder) / name).is_file():
        sys.exit(f"docs: HMS_IIIC must name a folder with {name}; benchmarks/votes.py says where it is from")
    return str(file.resolve())


def fill_table(page: str, head: str, rows: list[list[str]], title: str | None = None) -> None:
    """Put rows in the place of those of the table whose first line begins with ``head``."""
    path = ROOT / page
    found = re.search(rf"({re.escape(head)}[^\n]*\n)(\|[-|]+\n)(?:\|.*?\n)+", path.read_text())
    assert found, f"{page} has no table with the head {head}"
    body = "".join(f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in rows)
    path.write_text(path.read_text().replace(found[0], f"{title or found[1]}{found[2]}{body}"))


def votes() -> None:
    """Fill the tables of agreement in docs/votes.md, of published votes and of those drawn here."""
    said = call("benchmarks/votes.py", "--iiic", published("dataset1.mat"))
    strata, sizes = strata_of(said)
    names = ["alpha", "AC1", "seizure", "LPD", "GPD", "LRDA", "GRDA", "other"]
    order = ("from_10", "under_10", "all")
    rows = [[name, *(strata[which][name.lower()] for which in order)] for name in names]
    rows.append(["concentration", sizes["10+"], f"{sizes['1-9']}, with single votes", ""])
    counts = [strata[which]["items"] for which in order]
    head = f"| | 10 votes and more ({counts[0]} items) | 2 to 9 ({counts[1]}) | all ({counts[2]}) |\n"
    fill_table("docs/votes.md", "| | 10 votes and more (", rows, head)
    line = r"^([\d+-]+) +(\d+) ([\d.]+) \((?!too few).*?\) +((?:[\d.-]+ *)+)$"
    found = re.findall(line, said, re.M)
    rows = [[votes, f"{int(n):,}", alpha, *shares.split()] for votes, n, alpha, shares in found]
    fill_table("docs/votes.md", "| votes | items | alpha |", rows)
    strata, sizes = strata_of(call("benchmarks/votes.py"))
    alpha = [rounded(strata[which]["alpha"]) for which in ("all", "under_10", "from_10")]
    text = (
        "Votes drawn the way the embedded recordings draw them (`python benchmarks/votes.py`, 10,000 "
        f"recordings of 1,141 patients) have alpha {alpha[0]} in all, {alpha[1]} under 10 votes and "
        f"{alpha[2]} from 10 on; their concentration is {sizes['1-9']} and {sizes['10+']}. Panels of ten "
        "synthetic experts agree a little less than real ones."
    )
    replace("docs/votes.md", r"Votes drawn the way .*?real ones\.", textwrap.fill(text, 135))


def strata_of(said: str) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return what benchmarks/votes.py says of each stratum, and the concentrations."""
    line = rf"^(all|under_10|from_10) +(\d+) items +({VALUE}) +AC1 ({VALUE})\n(.*)$"
    strata = {
        name: {
            "items": f"{int(n):,}",
            "alpha": alpha,
            "ac1": ac1,
            **dict(re.findall(rf"(\w+) ({VALUE})", rest)),
        }
        for name, n, alpha, ac1, rest in re.findall(line, said, re.M)
    }
    return strata, dict(re.findall(rf"concentration at (\S+) votes: ({VALUE})", said))


def rounded(text: str) -> str:
    """Return a text with its numbers at two decimals."""
    return re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.2f}", text)


def planted() -> None:
    """Fill the table of errors planted in 2,000 embedded recordings in docs/votes.md."""
    ((n, methods),) = precisions(call("benchmarks/label_issues.py"))
    head = f"| | 2,000 embedded recordings: first 50 | first 200 ({n} swapped) |\n"
    fill_table("docs/votes.md", "| | 2,000 embedded", ranked(methods), head)


def panels() -> None:
    """Fill the table of errors planted in published panels in docs/votes.md."""
    files = (published("FigureS8_input.mat"), published("dataset4.mat"))
    (n, whole), (_, thinned) = precisions(call("benchmarks/label_issues.py", "--panels", *files))
    both = {name: [*found, *thinned[name]] for name, found in whole.items()}
    head = (
        f"| | real panels, 3,835 items: first 50 | first 200 ({n} swapped) "
        "| three votes kept in 60 %: first 50 | first 200 |\n"
    )
    fill_table("docs/votes.md", "| | real panels", ranked(both), head)


def precisions(said: str) -> list[tuple[int, dict[str, list[str]]]]:
    """Return, by part of what benchmarks/label_issues.py prints, swapped items and precisions by method."""
    cleanlab = f"cleanlab {'.'.join(metadata.version('cleanlab').split('.')[:2])}, "
    parts = []
    for head, body in re.findall(r"^(.*? with another's votes.*)\n((?:.*first 50: .*\n)+)", said, re.M):
        found = re.findall(r"^(.+?) {2,}first 50: (\S+ \S+) +first 200: (\S+ \S+)$", body, re.M)
        names = {name: METHODS.get(name, name).replace("cleanlab ", cleanlab) for name, *_ in found}
        n = int(re.search(r"(\d+) with another's", head)[1])  # type: ignore[index]
        parts.append((n, {names[name]: values for name, *values in found}))
    return parts


def ranked(methods: dict[str, list[str]]) -> list[list[str]]:
    """Return rows of a table, the best first, hms in bold."""
    rows = sorted(methods.items(), key=lambda pair: -float(pair[1][0].split()[0]))
    return [[f"**{t}**" if name == "hms" else t for t in (name, *values)] for name, values in rows]


def network() -> None:
    """Fill the table of the network in docs/training.md, trained in one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        said = call(str(ROOT / "examples" / "train_torch.py"), cwd=Path(folder))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = re.findall(r"^(all|10\+|1-9) +(\d+) +(.*); (.*); (.*)$", said, re.M)
    names = {"all": "all {}", "10+": "{} with 10+ votes", "1-9": "{} with 1-9 votes"}
    rows = [[names[name].format(n), own, prior, signed(gain)] for name, n, own, prior, gain in found]
    assert len(rows) == 3, said
    fill_table("docs/training.md", "| items | network |", rows)
    replace("docs/training.md", r"\(\d+ s of processor time", f"({seconds:.0f} s of processor time")


def signed(text: str) -> str:
    """Return a text with a sign before each of its numbers."""
    return re.sub(r"(?<![-\d.])(?=\d+\.)", "+", text)


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
    "votes": votes,
    "planted": planted,
    "panels": panels,
    "network": network,
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
    if name in SLOW:
        program, *stages = SLOW[name]
        return {"stages": {stage: versions[stage] for stage in stages}, "program": digest_of(ROOT / program)}
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    text = json.dumps([cell["source"] for cell in cells])
    return {"stages": versions, "cells": hashlib.sha256(text.encode()).hexdigest()[:16]}


def digest_of(program: Path) -> str:
    """Return a digest of what a program does: comments and docstrings are no part of it."""
    tree = ast.parse(program.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


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
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(THINGS)}; none: the quick ones"
    )
    parser.add_argument("--all", action="store_true", help=f"make {', '.join(SLOW)} too: some ten minutes")
    parser.add_argument("--check", action="store_true", help="make nothing; end with 1 if something is stale")
    given = parser.parse_args()
    quick = [name for name in THINGS if given.all or given.check or name not in SLOW]
    names = given.names or quick
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
