"""Stages of a plugin get all that a shipped one gets, and the package is not touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
from conftest import ROOT

import hms
from hms.engine.explain import explain
from hms.engine.plan import make_plan
from hms.engine.tables import open_tables
from hms.engine.verify import verify
from hms.errors import ConfigError
from hms.pipeline.stage import TableStage, registered_order, registered_stage
from hms.pipeline.tables import UndeclaredInput, View
from hms.results.run import Run

PLUGIN = '''
import json
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from hms.pipeline.stage import ItemStage, TableStage, register_stage, setting
from hms.report.cards import spoken
from hms.stages.derivations import Derivations
from hms.stages.report_part import ReportPart

@register_stage
@dataclass(frozen=True)
class Energies{n}(ItemStage):
    """Energy of each derivation, a row per item."""
    name = "energies{n}"
    version = 1
    rows: ClassVar[bool] = True
    derivations: Derivations
    def compute(self, derived):
        return (derived.window.astype(np.float64) ** 2).mean(axis=1)
    def arrays(self, result):
        return {{"energy": result}}

@register_stage
@dataclass(frozen=True)
class Halves{n}(ItemStage):
    """Derivations at half their size, a file per item."""
    name = "halves{n}"
    version = 1
    folder: ClassVar[str | None] = "half_out{n}"
    derivations: Derivations
    window_s: float = setting("window.length_s")
    def compute(self, derived):
        return derived.window / 2
    def arrays(self, result):
        return {{"x": result}}

@register_stage
@dataclass(frozen=True)
class Loudest{n}(TableStage):
    """The item with the most energy."""
    name = "loudest{n}"
    version = 1
    inputs: ClassVar = ("used", "rows:energies{n}")
    files: ClassVar = ("data_package/loudest{n}.json",)
    energies: Energies{n}
    def compute(self, tables):
        energy = tables.rows_of_used("energies{n}")["energy"].sum(axis=1)
        found = {{"item_id": tables.used["item_id"].iloc[int(energy.argmax())], "items": len(energy)}}
        return {{self.files[0]: json.dumps(found).encode()}}

@register_stage
@dataclass(frozen=True)
class ReportLoudest{n}(ReportPart):
    """Says it on the page."""
    name = "report_loudest{n}"
    version = 1
    inputs: ClassVar = ("data_package/loudest{n}.json",)
    files: ClassVar = ("qc/parts/loudest{n}.html",)
    sections: ClassVar = {{"loudest{n}": "The loudest item"}}
    loudest: Loudest{n}
    def compute(self, tables):
        found = json.loads(tables.file(self.inputs[0]).read_bytes())
        card = spoken("The loudest item", f"It is item {{found['item_id']}}.")
        return self.part(**{{"loudest{n}": [card]}})
'''


def write(folder: Path, n: str, extra: str = "") -> str:
    (folder / f"own_stages_{n}.py").write_text(PLUGIN.format(n=n) + extra)
    return f"own_stages_{n}"


@pytest.fixture
def base(small_set: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.syspath_prepend(str(tmp_path))
    return ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1"]


@pytest.mark.slow
def test_each_kind_of_stage_is_made_explained_verified_and_taken_over(
    base: list[str], tmp_path: Path
) -> None:
    own = [f"plugins=[{write(tmp_path, 'a')}]", "stages=[halvesa,loudesta,labels,splits,summary,report]"]
    run = hms.run(hms.compose(*base, *own))
    item = run.meta["item_id"].iloc[0]
    derived = run.evaluate(item, "derivations")
    assert np.array_equal(run.arrays(f"half_outa/{item}_hr.npz")["x"], derived.window / 2)
    energies = {i: float((run.arrays(f"half_outa/{i}_hr.npz")["x"] * 2.0).__pow__(2).mean(1).sum())
                for i in run.meta["item_id"]}  # fmt: skip
    loudest = max(energies, key=lambda name: energies[name])
    assert f'"item_id": "{loudest}"' in run.file("data_package/loudesta.json").read_text()
    assert f"It is item {loudest}." in run.report().path.read_text()
    assert verify(run.path).findings == []
    plan = make_plan(hms.compose(*base, *own))
    assert plan.due() == {}
    assert "loudesta" in explain(plan)
    copied = hms.compose(f"from_run={run.hash}", *base)
    assert set(copied.stages) == {
        "halvesa",
        "loudesta",
        "labels",
        "splits",
        "quality",
        "agreement",
        "summary",
        "report",
    }
    assert hms.run(copied).hash == run.hash


@pytest.mark.slow
def test_a_plugin_of_another_configuration_is_none_of_this_one_s(
    base: list[str], finished: Run, tmp_path: Path
) -> None:
    """What a process imported before changes no run: neither its hash nor the identity of its page."""
    hms.compose(*base, f"plugins=[{write(tmp_path, 'd')}]")
    assert "report_loudestd" in registered_order()
    again = hms.run(hms.compose(*base))
    assert again.hash == finished.hash
    stored = [run.manifest["stages"]["report"]["stored"] for run in (again, finished)]
    assert stored[0] == stored[1]


@pytest.mark.slow
def test_a_plugin_s_stage_has_its_source_in_the_key(base: list[str], tmp_path: Path) -> None:
    keys = []
    for extra in ("", "\nNOTE = 'another source'\n"):
        name = write(tmp_path, "b", extra)
        code = (
            "import hms, sys; from hms.pipeline.selection import choose_stages;"
            f"cfg = hms.compose('plugins=[{name}]', 'stages=[halvesb]');"
            "print([s.key for s in choose_stages(cfg)[0]])"
        )
        done = forked.run(["-c", code], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        keys.append(done.stdout)
    assert keys[0] != keys[1]


COUNTING = '''
@register_stage
@dataclass(frozen=True)
class Counted(TableStage):
    """How many items are used."""
    name = "counted"
    version = 1
    inputs: ClassVar = ("votes",)
    files: ClassVar = ("data_package/counted.txt",)
    meta: "Meta"
    def compute(self, tables):
        return {self.files[0]: str(len(tables.used)).encode()}
'''


def test_a_stage_that_reads_what_it_does_not_declare_is_refused(base: list[str], tmp_path: Path) -> None:
    """It counted 12 items again for a run of 79: the number of items was not in its identity."""
    extra = "from hms.stages.meta import Meta\n" + COUNTING
    cfg = hms.compose(*base, f"plugins=[{write(tmp_path, 'c', extra)}]", "stages=[counted]")
    with pytest.raises(UndeclaredInput, match=r"stage 'counted' reads 'used'.*add 'used' to its inputs"):
        hms.run(cfg)


def _reading(stage: TableStage, run: Run) -> None:
    """Compute a stage of a finished run again, through the view of what it declares."""
    plan = make_plan(run.config.override("stages=[scalograms,waveforms,labels,splits,summary,report]"))
    tables = open_tables(plan)
    for path, (_, digest) in run.manifest["files"].items():
        tables.add_file(path, run.path / path, digest)
    contents = stage.compute(View(tables, stage))
    assert set(contents) == set(stage.files)


@pytest.mark.parametrize(
    "name",
    ["meta", "labels", "splits", "quality", "summary", "report", "report_quality", "report_votes",
     "agreement", "report_agreement", "report_weights", "report_signals", "report_examples"],
)  # fmt: skip
def test_every_shipped_table_stage_declares_what_it_reads(name: str, finished: Run) -> None:
    stage = registered_stage(name).from_config(finished.config)
    assert isinstance(stage, TableStage)
    _reading(stage, finished)


def test_the_walk_above_leaves_out_no_table_stage() -> None:
    """Baseline, what follows from it and packed run in tests of their own, through the same views."""
    names = {n for n in registered_order() if issubclass(registered_stage(n), TableStage)}
    shipped = {n for n in names if registered_stage(n).__module__.startswith("hms.")}
    walked = {"meta", "labels", "splits", "quality", "summary", "report", "report_quality", "report_votes",
              "agreement", "report_agreement", "report_weights", "report_signals",
              "report_examples"}  # fmt: skip
    others = {name for name in shipped - walked if not name.startswith("packed")}
    assert others <= {"baseline", "report_baseline", "label_issues", "report_label_issues"}


@pytest.mark.slow
def test_a_broken_entry_point_stops_only_what_needs_it(tmp_path: Path) -> None:
    (tmp_path / "brokenplugin.py").write_text("raise RuntimeError('no such luck')\n")
    info = tmp_path / "brokenplugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brokenplugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hms.plugins]\nlucky = brokenplugin\n")
    code = (
        "import hms; hms.compose()\n"
        "try: hms.compose('weight.kind=lucky')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": ""},
    )  # fmt: skip
    assert (
        "the entry point 'lucky' of hms.plugins cannot be imported: RuntimeError: no such luck" in done.stdout
    )


@pytest.mark.slow
def test_an_entry_point_registers_without_being_named(tmp_path: Path) -> None:
    (tmp_path / "goodplugin.py").write_text(
        "from hms.registry import register\n@register('weight', 'lucky')\n"
        "def lucky(vote_sum, params):\n    return vote_sum * 0 + 7\n"
    )
    info = tmp_path / "goodplugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: goodplugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hms.plugins]\nlucky = goodplugin\n")
    (tmp_path / "conf/weight").mkdir(parents=True)
    (tmp_path / "conf/weight/lucky.yaml").write_text("# A test.\nkind: lucky\n")
    code = (
        "import hms; from hms.pipeline.selection import choose_stages\n"
        "cfg = hms.compose('weight=lucky', 'stages=[labels]', config_dir='conf')\n"
        "print([s.key_content['plugins'] for s in choose_stages(cfg)[1] if s.name == 'labels'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": ""},
    )  # fmt: skip
    assert "'weight'" in done.stdout


def test_settings_that_do_not_extend_their_group_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thin_plugin.py").write_text(
        "from hms.registry import register\n@register('cwt', 'thin')\n"
        "def thin(freqs_hz, centre_hz, params):\n    return freqs_hz\n"
    )
    (tmp_path / "conf/cwt").mkdir(parents=True)
    (tmp_path / "conf/cwt/thin.yaml").write_text("# A test.\nkind: thin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"cwt 'thin': its settings Params must extend hms\.signal\.wavelets\.Cwt"
    ):
        hms.compose("plugins=[thin_plugin]", "cwt=thin", config_dir=tmp_path / "conf")
