"""A user's own functions: registered in a plugin, chosen by a YAML in a config folder, part of the key."""

from __future__ import annotations

import functools
import importlib
import os
from dataclasses import replace
from pathlib import Path

import forked
import numpy as np
import pytest
from conftest import ROOT

import hms
from hms.engine.plan import make_plan
from hms.errors import ConfigError
from hms.main import main
from hms.pipeline.selection import choose_stages
from hms.registry import register
from hms.results.run import Run

WEIGHT = """
from dataclasses import dataclass
import numpy as np
from hms.registry import Params, PositiveFloat, register

@dataclass(frozen=True)
class Stepped(Params):
    step: PositiveFloat

@register("weight", "{name}", Stepped)
def stepped(vote_sum, params):
    return np.floor(vote_sum / params.step){extra}
"""

SCALING = """
import numpy as np
from hms.registry import register

@register("scaling", "{name}")
def halved(power, params):
    return (power / 2).astype(np.float32)
"""


def write_plugin(folder: Path, name: str, group: str, source: str, yaml: str) -> Path:
    (folder / "conf" / group).mkdir(parents=True)
    (folder / f"{name}.py").write_text(source.format(name=name, extra=""))
    (folder / "conf" / group / f"{name}.yaml").write_text(f"# A test.\nkind: {name}\n{yaml}")
    return folder / "conf"


def test_a_weight_of_ones_own_is_chosen_like_any_other(
    small_set: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = write_plugin(tmp_path, "stepped_a", "weight", WEIGHT, "step: 4\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    base = ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1"]
    cfg = hms.compose(*base, "plugins=[stepped_a]", "weight=stepped_a", "stages=[labels]", config_dir=conf)
    run = hms.run(cfg)
    assert np.array_equal(run.labels.w_conf, np.floor(run.labels.vote_sum / 4).astype(np.float32))
    with pytest.raises(ConfigError, match=r"weight\.stepp is not a setting"):
        hms.compose("plugins=[stepped_a]", "weight=stepped_a", "weight.stepp=3", config_dir=conf)


def test_an_option_without_its_plugin_is_explained(tmp_path: Path) -> None:
    conf = write_plugin(tmp_path, "stepped_b", "weight", WEIGHT, "step: 4\n")
    with pytest.raises(ConfigError, match=r"weight\.kind 'stepped_b' is not known.*plugins=\[MODULE\]"):
        hms.compose("weight=stepped_b", config_dir=conf)


FAULTY = """
from dataclasses import dataclass
import numpy as np
from hms.registry import PositiveFloat, register
from hms.signal.wavelets import Cwt

@dataclass(frozen=True)
class Bell(Cwt):
    width: PositiveFloat

@register("cwt", "{name}", Bell)
def bell(freqs_hz, centre_hz, params):
    return {what}
"""


def write_wavelet(folder: Path, name: str, what: str) -> list[str]:
    """Write a wavelet and a YAML that inherits what every wavelet has; return the words that choose it."""
    source = FAULTY.replace("{what}", what)
    conf = write_plugin(folder, name, "cwt", source, "width: 0.2\ndefaults: [_common]\n")
    return [f"plugins=[{name}]", f"cwt={name}", "--config-dir", str(conf)]


@pytest.mark.parametrize(
    ("name", "what", "said"),
    [
        ("bell_f", "nosuch.exp(0)", "cwt 'bell_f' (bell_f.py:13) failed: NameError: name 'nosuch'"),
        ("bell_g", "5 * np.exp(-(((freqs_hz / centre_hz - 1) / params.width) ** 2))", "gains up to 5;"),
    ],
)
def test_a_faulty_function_ends_in_one_line_that_names_its_option(
    name: str,
    what: str,
    said: str,
    small_set: Path,
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    words = write_wavelet(tmp_path, name, what)
    words += ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "stages=[scalograms]"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


HELPED = """
import numpy as np
from hms.registry import register
from {name}_helper import FACTOR

@register("scaling", "{name}")
def scaled(power, params):
    return np.full_like(power, FACTOR + {extra})
"""


def levels(run: Run) -> set[float]:
    """Return the values of all scalograms of a run."""
    return {float(v) for item in run.meta["item_id"] for v in np.unique(run.spec(item))}


@pytest.mark.slow
def test_an_edit_of_a_plugin_or_of_its_helper_counts_in_a_process_and_in_workers_that_live_on(
    small_set: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key held the new source, its numbers came from the old one; and workers knew no new folder."""
    base = ["data=kaggle", f"data.root={small_set}", "stages=[scalograms]"]
    hms.run(hms.compose(*base, f"outputs_dir={outputs}", "n_jobs=2", "scaling=none"))
    conf = write_plugin(tmp_path, "edited", "scaling", HELPED, "")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {}
    for own, helper in ((1, 1), (3, 1), (3, 5)):
        (tmp_path / "edited.py").write_text(HELPED.format(name="edited", extra=own))
        (tmp_path / "edited_helper.py").write_text(f"FACTOR = {helper}\n")
        for n_jobs in (2, 1):
            texts = [*base, f"outputs_dir={outputs / str(n_jobs)}", f"n_jobs={n_jobs}"]
            run = hms.run(hms.compose(*texts, "plugins=[edited]", "scaling=edited", config_dir=conf))
            assert levels(run) == {own + helper}
            found.setdefault((own, helper), set()).add(run.hash)
    assert [len(hashes) for hashes in found.values()] == [1, 1, 1]
    assert len(set.union(*found.values())) == 3


SOURCE = """
from dataclasses import dataclass
from hms.registry import register
from hms.sources.kaggle import Kaggle, ParquetSource, open_kaggle

class Louder:
    def __init__(self, recording):
        self.recording = recording
    def __getattr__(self, name):
        return getattr(self.recording, name)
    def read(self, start, stop, channels):
        return self.recording.read(start, stop, channels) * {extra}

class Scaled(ParquetSource):
    def open(self, place):
        return Louder(super().open(place))

@register("data", "{name}", Kaggle)
def open_scaled(params, *, outputs_dir, n_jobs):
    opened = open_kaggle(params, outputs_dir=outputs_dir, n_jobs=n_jobs)
    return Scaled(opened.root, opened.aliases)
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [2, 1])
def test_an_edit_of_a_source_of_ones_own_counts(
    n_jobs: int, small_set: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"louder_{n_jobs}"
    conf = write_plugin(tmp_path, name, "data", SOURCE, "")
    settings = (ROOT / "conf" / "data" / "kaggle.yaml").read_text().replace("kind: kaggle", f"kind: {name}")
    (conf / "data" / f"{name}.yaml").write_text(settings)
    monkeypatch.syspath_prepend(str(tmp_path))
    base = [f"data.root={small_set}", f"outputs_dir={outputs}", f"n_jobs={n_jobs}", "stages=[waveforms]"]
    made = []
    for louder in (1, 2, 1):
        (tmp_path / f"{name}.py").write_text(SOURCE.format(name=name, extra=louder))
        made.append(hms.run(hms.compose(*base, f"data={name}", f"plugins=[{name}]", config_dir=conf)))
    first, second, third = (run.wave(run.meta["item_id"].iloc[0]) for run in made)
    assert np.isclose(second, 2 * first).mean() > 0.5  # the rest is clipped
    assert np.array_equal(first, third)
    shipped = hms.run(hms.compose(*base, "data=kaggle"))
    assert np.array_equal(first, shipped.wave(shipped.meta["item_id"].iloc[0]))


def test_a_job_of_another_source_than_the_worker_finds_is_refused(
    small_set: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = write_plugin(tmp_path, "midway", "scaling", SCALING, "")
    monkeypatch.syspath_prepend(str(tmp_path))
    base = ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "stages=[scalograms]"]
    cfg = hms.compose(*base, "plugins=[midway]", "scaling=midway", config_dir=conf)
    job = make_plan(cfg).job({}, token="", own_process=False)
    stages = tuple(stage for stage in choose_stages(cfg)[0] if stage.name == "scalograms")
    packed = replace(job, stages=stages).packed()
    assert [stage.name for stage in packed.opened().stages] == ["scalograms"]
    (tmp_path / "midway.py").write_text(SCALING.format(name="midway").replace("2", "4"))
    with pytest.raises(ConfigError, match=r"source of a plugin \(midway\) changed while the run went on"):
        replace(packed, content=packed.content + b" ").opened()


def test_an_option_of_an_imported_module_that_plugins_does_not_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = write_plugin(tmp_path, "unnamed", "scaling", SCALING, "")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("unnamed")
    told = (
        r"scaling 'unnamed' is of the module 'unnamed', which plugins does not name; add plugins=\[unnamed\]"
    )
    with pytest.raises(ConfigError, match=told):
        hms.compose("scaling=unnamed", config_dir=conf)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("filed.py", r"write plugins=\[filed\] instead of 'filed.py'"),
        ("./filed.py", r"write plugins=\[filed\] instead"),
        ("my/filed.py", r"write plugins=\[filed\], with my in PYTHONPATH instead"),
    ],
)
def test_a_plugin_given_by_its_file_is_told_how_to_name_it(typed: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"plugins names modules, not files; {told}"):
        hms.compose(f"plugins=[{typed}]")


def test_a_module_that_ends_the_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugin_ends.py").write_text("import sys\nsys.exit(7)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"'plugin_ends' cannot be imported: plugin_ends.py:2: SystemExit: 7"
    ):
        hms.compose("plugins=[plugin_ends]")


def test_what_no_other_process_can_import_is_not_registered() -> None:
    def own(power: object, params: object) -> object:
        return power

    own.__module__ = "__main__"
    with pytest.raises(ConfigError, match=r"scaling 'own' is defined in a notebook.*plugins=\[my_options\]"):
        register("scaling", "own")(own)
    with pytest.raises(ConfigError, match=r"scaling 'own' is functools.partial.*a module defines with def"):
        register("scaling", "own")(functools.partial(own, params=None))


def test_a_plugin_that_no_longer_registers_a_kind_has_it_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = write_plugin(tmp_path, "waning", "scaling", SCALING, "")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert hms.compose("plugins=[waning]", "scaling=waning", config_dir=conf).scaling.kind == "waning"
    (tmp_path / "waning.py").write_text("\n")
    with pytest.raises(ConfigError, match=r"scaling.kind 'waning' is not known"):
        hms.compose("plugins=[waning]", "scaling=waning", config_dir=conf)


@pytest.mark.slow
def test_a_function_that_fails_in_a_worker_is_named_with_its_line(
    small_set: Path,
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = SCALING.replace("    return ", "    return 1 / 0  # ", 1)
    conf = write_plugin(tmp_path, "halved_w", "scaling", source, "")
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["plugins=[halved_w]", "scaling=halved_w", "--config-dir", str(conf), "n_jobs=2"]
    words += ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "stages=[scalograms]"]
    assert main(words) == 3
    line = 1 + source[: source.index("1 / 0")].count("\n")
    told = f"scaling 'halved_w' (halved_w.py:{line}) failed: ZeroDivisionError: division by zero"
    assert told in capsys.readouterr().err


def test_a_module_that_fails_on_import_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_h.py").write_text("x = 1\ny = nosuch\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"'plugin_h' cannot be imported: plugin_h.py:2: NameError"):
        hms.compose("plugins=[plugin_h]")


@pytest.mark.slow
def test_a_plugin_works_in_workers_from_where_the_command_is_typed(small_set: Path, tmp_path: Path) -> None:
    write_plugin(tmp_path, "halved_c", "scaling", SCALING, "")
    arguments = [
        "data=kaggle", f"data.root={small_set}", "n_jobs=2", "plugins=[halved_c]", "scaling=halved_c",
        "stages=[scalograms]", "--config-dir", "conf",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = forked.run([ROOT / "run.py", *arguments], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    plain = hms.run(
        hms.compose(
            "data=kaggle",
            f"data.root={small_set}",
            f"outputs_dir={tmp_path / 'plain'}",
            "n_jobs=1",
            "scaling=none",
            "stages=[scalograms]",
        )
    )
    run = hms.load(outputs=tmp_path / "outputs")
    item = run.meta["item_id"].iloc[0]
    assert np.array_equal(run.spec(item), plain.spec(item) / 2)


@pytest.mark.slow
def test_another_source_of_a_plugin_is_another_key(small_set: Path, outputs: Path, tmp_path: Path) -> None:
    conf = write_plugin(tmp_path, "stepped_d", "weight", WEIGHT, "step: 4\n")
    arguments = [
        ROOT / "run.py", "data=kaggle", f"data.root={small_set}", "n_jobs=1",
        f"outputs_dir={outputs}", "plugins=[stepped_d]", "weight=stepped_d", "stages=[labels]",
        "--config-dir", str(conf),
    ]  # fmt: skip
    hashes = []
    for extra in ("", " * 2"):
        (tmp_path / "stepped_d.py").write_text(WEIGHT.format(name="stepped_d", extra=extra))
        done = forked.run(arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        hashes.append(hms.load(outputs=outputs).hash)
    assert hashes[0] != hashes[1]


def test_a_failing_plugin_excludes_items_and_stops_the_run_when_all_fail(
    small_set: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SCALING.replace("return (power / 2).astype(np.float32)", "raise ZeroDivisionError('no scale')")
    conf = write_plugin(tmp_path, "broken_e", "scaling", source, "")
    monkeypatch.syspath_prepend(str(tmp_path))
    from hms.errors import TooManyFailures

    base = ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1"]
    cfg = hms.compose(*base, "plugins=[broken_e]", "scaling=broken_e", config_dir=conf)
    with pytest.raises(
        TooManyFailures, match=r"scaling 'broken_e' \(broken_e.py:7\) failed: ZeroDivisionError: no scale"
    ):
        hms.run(cfg)


def _own(eeg: object, params: object) -> object:
    return eeg


@pytest.mark.parametrize(("group", "told"), [("montage", r"a YAML with its chains"), ("qc", r"are a YAML")])
def test_a_function_that_nobody_would_call_is_not_registered(group: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"{group} 'own' cannot be a function; .*{told}"):
        register(group, "own")(_own)


def test_a_kind_registered_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from hms.registry import _entries, register

    hms.compose()

    def impostor() -> None:
        """Take a name that is taken."""

    with pytest.raises(ConfigError, match="registered twice"):
        register("weight", "log")(impostor)
    assert "impostor" not in str(_entries["weight"]["log"])


@pytest.mark.slow
def test_a_montage_of_ones_own_is_only_a_yaml(small_set: Path, outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "montage").mkdir()
    (tmp_path / "montage" / "midline.yaml").write_text(
        "# Only the midline.\nkind: bipolar\nchains:\n  Z: [Fz-Cz, Cz-Pz]\noutput: derivations\n"
        "waveform:\n  kind: curvature\nallow_degenerate: false\n"
    )
    base = ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1"]
    run: Run = hms.run(hms.compose(*base, "montage=midline", config_dir=tmp_path))
    assert run.spec(run.meta["item_id"].iloc[0]).shape == (2, 48, 250)
    assert run.outputs == ["Fz-Cz", "Cz-Pz"]
