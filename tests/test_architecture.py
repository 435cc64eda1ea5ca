"""Guards: what every option, stage and module must keep to."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

import hms
import hms.stages
from hms.config.compose import conf_dir
from hms.config.schema import Config
from hms.pipeline.selection import choose_stages
from hms.pipeline.stage import ItemStage, TableStage, _stages
from hms.registry import _entries, discover

# Settings of how a run is carried out, of its source, and of what reads the package later.
NOT_IN_A_KEY = {
    "data", "augment", "baseline", "package", "stages", "outputs_dir", "n_jobs", "seed", "disk_check",
    "max_failed_share", "plan", "plugins", "from_run", "spectrograms", "sweep", "engine", "marks",
}  # fmt: skip


def test_every_registered_kind_has_a_yaml_that_chooses_it() -> None:
    """A nested section's kind (gaps, waveform) has no file of its own and is at least named in one."""
    discover()
    missing = []
    for group, entries in _entries.items():
        folder = conf_dir() / group
        texts = [path.read_text() for path in (folder if folder.is_dir() else conf_dir()).rglob("*.yaml")]
        form = r"^kind: {}\b" if folder.is_dir() else r"\b{}\b"
        missing += [
            f"{group}.{kind}"
            for kind, entry in entries.items()
            if not entry.is_plugin
            and not any(re.search(form.format(kind), text, re.MULTILINE) for text in texts)
        ]
    assert missing == []


def test_every_yaml_of_an_option_has_all_settings_of_its_kind() -> None:
    """A setting that a YAML lacks cannot be typed: Hydra refuses a key that is not there."""
    discover()
    lacking = {}
    for path in sorted(conf_dir().glob("*/*.yaml")):
        tree = OmegaConf.to_container(OmegaConf.load(path))
        group = path.parent.name
        if group in _entries and "kind" in tree:
            names = {field.name for field in fields(_entries[group][tree["kind"]].params)}
            if names - set(tree):
                lacking[f"{group}/{path.name}"] = sorted(names - set(tree))
    assert lacking == {}


def test_every_section_is_read_by_a_stage() -> None:
    items, tables = choose_stages(hms.compose())
    read = {path.partition(".")[0] for stage in [*items, *tables] for path in stage.all_settings()}
    declared = {f.name for f in fields(Config)} - NOT_IN_A_KEY
    assert declared <= read


@pytest.mark.parametrize("name", sorted(_stages))
def test_every_stage_has_a_docstring_a_version_and_one_kind(name: str) -> None:
    cls = _stages[name]
    assert cls.__doc__
    assert isinstance(cls.version, int)
    assert issubclass(cls, ItemStage) != issubclass(cls, TableStage)
    if issubclass(cls, TableStage):
        assert cls.files


def test_signal_code_opens_no_file_and_starts_no_worker() -> None:
    for path in (ROOT / "hms" / "signal").glob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not names & {"open", "Parallel", "Path", "print"}, path


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """Return the package's modules that a file imports: for types and inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & modules or {node.module}
    return found & modules


def strongly_connected(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of more than one node that reach each other, by what each node reaches."""
    reach = {name: set(near) for name, near in graph.items()}
    while True:
        wider = {name: set.union(far, *(reach[other] for other in far)) for name, far in reach.items()}
        if wider == reach:
            break
        reach = wider
    groups = {frozenset(b for b in reach[a] if a in reach[b]) | {a} for a in reach if a in reach[a]}
    return [set(group) for group in groups]


def test_no_look_at_a_path_takes_a_fault_of_the_machine_for_an_absence() -> None:
    """These answer False, or with less, where a disk fails; `hms.config.reading` has ones that raise."""
    deaf = re.compile(r"os\.path\.(l?exists|isdir|isfile|islink)\b|\.r?glob\(|\bos\.walk\((?!.*onerror)")
    sources = (ROOT / "hms").rglob("*.py")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted(sources)
        if path != ROOT / "hms" / "config" / "reading.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if deaf.search(line)
    ]
    assert found == []


@pytest.mark.slow
def test_texts_are_read_and_written_as_utf_8_whatever_the_locale() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in sorted((ROOT / "hms").rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("read_text", "write_text")
        and len(call.args) < 1 + (call.func.attr == "write_text")
        and not any(word.arg == "encoding" for word in call.keywords)
    ]
    assert found == [], "say encoding='utf-8'"


def test_no_modules_import_each_other_in_a_circle() -> None:
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "hms").rglob("*.py")
    }
    assert strongly_connected({name: imports_of(path, set(paths)) for name, path in paths.items()}) == []
    assert strongly_connected({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


def test_few_rooms_lie_at_the_root() -> None:
    found = [p for p in (ROOT / "hms").iterdir() if p.name not in ("__pycache__", "conf", "py.typed")]
    assert len(found) <= 22


def test_no_page_installs_the_package_of_another_owner() -> None:
    """The name hms on the package index is somebody else's; the distribution is hms-eeg."""
    wrong = re.compile(r"""pip install[^\n`]*(?<![\w./-])hms(?![\w-])(\[|['"\s`]|$)""")
    pages = [p for p in ROOT.rglob("*") if p.suffix in (".md", ".py", ".ipynb", ".toml", ".yaml", ".cff")]
    owned = [p for p in pages if not {".git", "outputs", "build", "dist"} & set(p.parts)]
    owned.remove(Path(__file__))
    assert [p for p in owned if wrong.search(p.read_text(errors="replace"))] == []
    assert wrong.search("pip install 'hms[edf]'")
    assert wrong.search("pip install hms")
    assert not wrong.search("pip install 'hms-eeg[edf]'")


def test_importing_hms_is_light() -> None:
    code = (
        "import sys, hms; heavy = ('torch', 'sklearn', 'matplotlib', 'pandas', 'scipy', 'hydra');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_plan_needs_no_learning_plotting_or_torch_library() -> None:
    code = (
        "import sys, hms, hms.engine.plan, hms.engine.runner; hms.compose();"
        "print([m for m in ('torch', 'sklearn', 'matplotlib', 'scipy.signal', 'mne') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_no_page_of_a_decision_reports_the_draw_that_chose() -> None:
    """A page that shows intervals names two seeds at least, or says that the choice is undecided."""
    interval, seed = (
        re.compile(r"\([+-]?\d\.\d+ to [+-]?\d"),
        re.compile(r"seeds? (\d+)(?: [^.\n]{0,20}and (\d+))?"),
    )
    for page in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        text = page.read_text()
        if not interval.search(text):
            continue
        seeds = {number for found in seed.findall(text) for number in found if number}
        assert len(seeds) >= 2 or "*undecided*" in text, page.name
