"""The report: what it says, what it survives, how big and how quick it is."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import ROOT
from report_data import MadeUp, fabricate, make_items

import hms
from hms.config.compose import compose
from hms.errors import ConfigError
from hms.labels.classes import COMPETITION
from hms.quality.grading import FLAGS
from hms.quality.inspection import Inspection, inspect
from hms.quality.selection import Graded
from hms.quality.sketches import gap_raster, histogram, shrink_power, spectrum
from hms.quality.spectra import spectrum_freqs
from hms.report.examples import Example, _steps_trace, choose_examples, example_card
from hms.report.labels import entropy_boxes, vote_totals
from hms.report.page import cost_by_class, embedded_json, headlines
from hms.report.quality import channel_shares, count_channels, gaps, grades_by_class, head
from hms.report.reproduce import command_of, data_overrides
from hms.report.signals import _low_end, gather, mean_scalograms, spectra
from hms.report.svg import Axis, Frame, number, path, png, ticks
from hms.store.columns import Reason
from hms.terminal import counted

PAGE = "qc/report.html"


class Outline(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.pictures: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag == "svg":
            self.pictures.append(found)
        self.addresses += [found[name] or "" for name in ("src", "href") if name in found]


def data_of(page: bytes) -> dict[str, Any]:
    """Return the table that a page carries."""
    found = re.search(rb'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    loaded = json.loads(found[1])
    assert isinstance(loaded, dict)
    return loaded


def words_of(page: bytes) -> str:
    """Return a page's text as a reader sees it."""
    return html.unescape(re.sub(r"<[^>]+>", " ", page.decode()))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    reasons = [None] * 118 + [Reason("read", "the recording's file is missing", True)] * 2
    return fabricate(tmp_path_factory.mktemp("run"), make_items(120), reasons=reasons)[PAGE]


# --- the page ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_page_asks_for_nothing_from_elsewhere(page: bytes) -> None:
    """Every address is a place in the page or data in it; a policy forbids anything else."""
    outline = Outline(page)
    assert all(address.startswith(("#", "data:")) for address in outline.addresses)
    assert b"default-src 'none'" in page
    assert "link" in outline.tags
    assert b"http://" not in page.replace(b"http://www.w3.org", b"")


def test_every_picture_has_a_text_alternative(page: bytes) -> None:
    pictures = Outline(page).pictures
    assert len(pictures) > 30
    assert all(p.get("role") == "img" and len(p.get("aria-label") or "") > 15 for p in pictures)


def test_page_names_counts_flags_grades_and_reasons(page: bytes) -> None:
    words = words_of(page)
    assert "118" in words
    assert "2 by read: the recording's file is missing" in words
    assert "line noise" in words
    assert "unusable" in words
    assert "0123456789abcdef" in words


def test_table_holds_every_item_with_its_own_votes_and_fold(tmp_path: Path) -> None:
    items = make_items(50)
    data = data_of(fabricate(tmp_path, items)[PAGE])
    assert data["id"] == items["item_id"].tolist()
    votes = [data["votes"]["texts"][k] for k in data["votes"]["rows"]]
    assert votes[7] == " ".join(str(v) for v in items.iloc[7][[c for c in items if c.endswith("_vote")]])
    assert set(data["fold"]) == {0, 1, 2, 3, 4}
    by_patient: dict[str, set[int]] = {}
    for patient, fold in zip(items["patient_id"], data["fold"], strict=True):
        by_patient.setdefault(patient, set()).add(fold)
    assert all(len(folds) == 1 for folds in by_patient.values())


@pytest.mark.slow
def test_equal_data_give_equal_bytes(tmp_path: Path) -> None:
    first = fabricate(tmp_path / "a", make_items(40))
    second = fabricate(tmp_path / "b", make_items(40))
    assert first == second


def test_markup_in_ids_and_reasons_stays_text(tmp_path: Path) -> None:
    """An id with a closing script tag neither ends the data nor becomes an element."""
    evil = '</script><img src=x onerror="alert(1)">&amp;\'"'
    ids = [evil, "<b>bold</b>", *(f"r{i}" for i in range(10))]
    reasons = [None] * 11 + [Reason("read", "<i>broken</i> & bad", True)]
    page = fabricate(tmp_path, make_items(12, ids=ids), reasons=reasons)[PAGE]
    assert data_of(page)["id"][:2] == ids[:2]
    assert {"img", "b", "i"}.isdisjoint(Outline(page).tags)
    assert "<i>broken</i> & bad" in html.unescape(page.decode())


# --- unusual runs --------------------------------------------------------------------------------


def test_report_of_one_item(tmp_path: Path) -> None:
    page = fabricate(tmp_path, make_items(1, patients=1), overrides=["folds=none"])[PAGE]
    assert "1 patient; median 1 item" in words_of(page)


def test_report_of_one_class_names_the_absent_ones(tmp_path: Path) -> None:
    words = words_of(fabricate(tmp_path, make_items(30, only_class=2))[PAGE])
    assert "No item has the consensus Seizure, LPD, LRDA, GRDA, Other." in words
    assert "a class is absent" in words


def test_report_without_folds_says_so(tmp_path: Path) -> None:
    words = words_of(fabricate(tmp_path, make_items(30, patients=1), overrides=["folds=none"])[PAGE])
    assert "The run has no folds" in words
    assert "no folds" in words


def test_report_with_every_item_left_out_says_so(tmp_path: Path) -> None:
    items = make_items(20)
    items.loc[:, [c for c in items if c.endswith("_vote")]] = 0
    items["vote_sum"] = 0
    gone = [Reason("votes", "no votes", False)] * 20
    words = words_of(fabricate(tmp_path, items, reasons=gone, prepared=False, overrides=["folds=none"])[PAGE])
    assert words.count("No item is used, so there is nothing to draw.") == 10
    assert "20 by votes: no votes" in words
    assert "No item could be prepared" in words


def test_report_without_left_out_items_says_so(tmp_path: Path) -> None:
    assert "No item was left out." in words_of(fabricate(tmp_path, make_items(20))[PAGE])


def test_report_with_an_id_of_200_characters(tmp_path: Path) -> None:
    long = "x" * 200
    page = fabricate(tmp_path, make_items(10, ids=[long, *map(str, range(9))]))[PAGE]
    assert data_of(page)["id"][0] == long


@pytest.mark.slow
def test_report_of_17089_items_is_small_and_quick(tmp_path: Path) -> None:
    """The competition's size: under 5 MB, and all parts together under 15 seconds."""
    reasons = [None] * 17_000 + [Reason("read", "the recording's file is missing", True)] * 89
    items = make_items(17_089, patients=1_950)
    began = time.perf_counter()
    page = fabricate(tmp_path, items, reasons=reasons)[PAGE]
    assert time.perf_counter() - began < 15
    assert len(page) < 5_000_000
    assert Outline(page).tags.count("tr") < 100


# --- stages --------------------------------------------------------------------------------------


def test_weight_leaves_every_other_part_alone() -> None:
    """Only the part of weights, and the page around it, have another key."""
    from report_data import STAGES

    linear, log = compose("weight=linear"), compose("weight=log")
    changed = {s.name for s in STAGES if s.from_config(linear).key != s.from_config(log).key}
    assert changed == {"report_weights", "report"}


@pytest.mark.slow
def test_run_makes_the_report_and_shows_it(tiny_set: Path, outputs: Path) -> None:
    """Two runs of the same configuration give the same page; a notebook gets it in a frame."""
    stages = "stages=[scalograms,waveforms,labels,splits,quality,summary,report]"
    source = ["data=kaggle", f"data.root={tiny_set}", "folds.n_splits=2", stages]
    first = hms.run(hms.compose(*source, f"outputs_dir={outputs}", "n_jobs=1"))
    again = hms.run(hms.compose(*source, f"outputs_dir={outputs}2", "n_jobs=2"))
    assert first.file(PAGE).read_bytes() == again.file(PAGE).read_bytes()
    shown = first.report()._repr_html_()
    assert shown.startswith("<iframe")
    assert html.escape("<!doctype html>") in shown
    figure = first.plot(first.meta["item_id"].iloc[0])
    assert [a.get_xlabel() for a in figure.axes if a.get_xlabel()] == ["seconds of the window"] * 2


@pytest.mark.slow
def test_plot_without_the_recording_says_what_it_shows(own_set: Path, outputs: Path) -> None:
    options = [
        "data=kaggle",
        f"data.root={own_set}",
        "stages=[scalograms,waveforms]",
        f"outputs_dir={outputs}",
        "n_jobs=1",
    ]
    run = hms.run(hms.compose(*options))
    item = run.meta["item_id"].iloc[0]
    (own_set / "train_eegs" / f"{item}.parquet").unlink()
    title = run.plot(item).get_suptitle()
    assert "the recording is gone: stored waveforms" in title
    with pytest.raises(ConfigError, match="has no item 'nobody'"):
        run.plot("nobody")


@pytest.mark.slow
def test_command_gives_the_configuration_back() -> None:
    """The shortest overrides: the nearest option of a group, then what differs from it."""
    changed = ["cwt=gmw", "cwt.n_freqs=32", "weight=log", "folds.n_splits=7", "filter.notch_hz=60"]
    cfg = compose(*changed)
    tree = {
        name: section
        for name, section in cfg.to_dict().items()
        if name in ("cwt", "weight", "folds", "filter")
    }
    words = shlex.split(command_of(tree, cfg.stages, data_overrides(cfg.to_dict()["data"])))
    assert words[:3] == ["python", "run.py", "data=synthetic"]
    assert compose(*words[2:]).to_dict() == cfg.to_dict()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data=kaggle", "data.root=/secret"], ("data=kaggle", 'data.root="$DATA"')),
        (["data=kaggle"], ("data=kaggle", 'data.root="$DATA"')),
        (
            ["data=edf", "data.root=/secret", "data.windows=w.csv", "data.step_s=5", "data.unit=mV"],
            ("data=edf", 'data.root="$DATA"', 'data.windows="$WINDOWS"', "data.step_s=5.0", "data.unit=mV"),
        ),
        (
            ["data=edf", "data.pseudonyms=k", "data.step_s=5", "data.unit=mV"],
            ("data=edf", 'data.pseudonyms="$KEYFILE"', 'data.root="$DATA"', "data.step_s=5.0"),
        ),
        (["data.n_recordings=20", "data.n_patients=10"],
         ("data=synthetic", "data.n_recordings=20", "data.n_patients=10")),
    ],
)  # fmt: skip
def test_the_command_chooses_the_recordings_and_names_no_place(
    overrides: list[str], expected: tuple[str, ...]
) -> None:
    assert data_overrides(compose(*overrides).to_dict()["data"]) == expected


@pytest.mark.slow
def test_the_page_s_command_gives_the_run_back_in_a_shell(tiny_set: Path, outputs: Path) -> None:
    cfg = hms.compose("data=kaggle", f"data.root={tiny_set}", f"outputs_dir={outputs}", "n_jobs=1",
                      "weight=log", "montage=bipolar16")  # fmt: skip
    run = hms.run(cfg)
    page = run.report().path.read_text()
    found = re.search(r'<pre class="command"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert found
    command = html.unescape(found[1]).replace("python", sys.executable, 1)
    done = subprocess.run(
        ["bash", "-euc", f"{command} outputs_dir={outputs} n_jobs=1"],
        env={**os.environ, "DATA": str(tiny_set)}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert run.hash in done.stdout


# --- pictures ------------------------------------------------------------------------------------


def test_a_sheet_states_polarity_band_and_gain_and_has_the_ekg_where_it_is_given() -> None:
    traces = np.tile(40 * np.sin(np.arange(2000) / 10), (2, 1)).astype(np.float32)
    example = Example("7", "", traces, np.ones(2, bool), (("LL", ("Fp1-F7", "F7-T3")),),
                      np.zeros((1, 2, 5)), np.array([1.0, 2.0], np.float32), ("LL",), 200.0,
                      "0.5–20 Hz, clipped at ±500 µV")  # fmt: skip
    card = example_card("Worst 1", example)
    assert card.note == "Negative up · 0.5–20 Hz, clipped at ±500 µV · 50 µV from line to line."
    assert 'data-item="7"' in card.html()
    assert ">EKG<" not in card.body
    with_ekg = example_card("Worst 1", replace(example, ekg=traces[0]))
    assert with_ekg.note.endswith("50 µV from line to line; EKG: 500 µV.")
    assert ">EKG<" in with_ekg.body


def test_the_glossary_has_every_flag_with_its_limit(tmp_path: Path) -> None:
    page = fabricate(tmp_path, make_items(20))[PAGE].decode()
    told = dict(re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", page))
    assert {name.replace("_", " ") for name in FLAGS} <= set(told)
    assert told["drift"] == "raised above this range of the 2 s means (350 µV); does not lower the grade"
    assert "from synthetic recordings made by hms" in page


def test_vote_totals_name_the_gap_below_high_confidence() -> None:
    card = vote_totals(np.array([0, 1, 2, 3]), np.array([3, 7, 12, 12]), 10, COMPETITION)
    assert card.note == "High confidence means 10 votes or more: 50.0 % of items. No item has 8 or 9 votes."


@pytest.mark.parametrize(
    ("totals", "said"),
    [([3, 9], ""), ([3, 8], " No item has 9 votes."), ([6, 12], " No item has 7 to 9 votes.")],
)
def test_gap_below_high_confidence_is_short(totals: list[int], said: str) -> None:
    note = vote_totals(np.zeros(2, int), np.array(totals), 10, COMPETITION).note
    assert note.partition("items.")[2] == said


def test_axis_of_few_items_has_whole_numbers() -> None:
    card = vote_totals(np.array([0]), np.array([3]), 10, COMPETITION)
    assert ">0.5<" not in card.body


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (40, 99), (5000, 7)])
def test_the_lowest_of_many_spectra_are_the_quantile_of_all_values(shape):
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert _low_end(values.T, values.size) == pytest.approx(np.quantile(values, 0.001), rel=1e-6)


def test_classes_that_no_item_has_take_no_room() -> None:
    label, freqs = np.array([1, 1, 4]), np.arange(1.0, 100)
    card = spectra(np.zeros((3, 99), np.float32), label, freqs, COMPETITION)
    assert card.body.count("<svg") == 2
    assert card.note.endswith("No item has the consensus Seizure, GPD, LRDA, Other.")
    power = np.zeros((7, 4, 16, 10))
    card = mean_scalograms(
        power, label, COMPETITION, cwt_hz=(0.5, 20), window_s=10, outputs=("LL", "LP", "RL", "RP")
    )
    assert card.body.count("<svg") == 3  # and the scale


def test_sketches_of_some_items_at_a_time_come_to_those_of_all() -> None:
    """Of five items, four used, in blocks of two; the last block has none that was prepared."""
    rng = np.random.default_rng(0)
    rows = {
        "row": np.array([0, 1, 3, 4]),
        "spectrum": rng.standard_normal((4, 3)).astype(np.float32),
        "power": rng.standard_normal((4, 2, 5, 4)).astype(np.float16),
        "histogram": rng.integers(0, 9, (4, 7), np.int32),
    }
    used, label = np.array([True, True, False, False, True, False]), np.array([1, -1, -1, -1, 1, -1])
    parts = (slice(0, 2), slice(2, 4), slice(4, 4))
    found = gather([{n: v[part] for n, v in rows.items()} for part in parts], label, used, 2)
    kept = [0, 1, 3]
    np.testing.assert_array_equal(found.spectrum, 10 * rows["spectrum"][kept])
    np.testing.assert_array_equal(found.histogram, rows["histogram"][kept].sum(axis=0))
    power = rows["power"].astype(np.float64)
    np.testing.assert_array_equal(found.power, [0 * power[0], power[0] + power[3], power[1]])


@pytest.mark.parametrize("n_outputs", [4, 8, 16, 18, 24])
def test_every_row_of_a_scalogram_is_drawn(n_outputs: int) -> None:
    names = [f"row{i}" for i in range(n_outputs)]
    power = np.zeros((7, n_outputs, 16, 10))
    card = mean_scalograms(power, np.array([0, 0]), COMPETITION, cwt_hz=(0.5, 20), window_s=10, outputs=names)
    assert [f">{name}<" in card.body for name in names] == [True] * n_outputs
    assert "rows" not in card.note


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 items"), (1, "1 item"), (2.5, "2.5 items"), (1200, "1,200 items")]
)
def test_counts_agree_with_their_nouns(number: float, text: str) -> None:
    assert counted(number, "item") == text


def test_entropy_picture_tells_the_median() -> None:
    card = entropy_boxes(np.array([0.0, 0.5, 1.0]), np.array([1, 1, 1]), COMPETITION)
    assert "LPD median 0.50" in card.body


def test_channel_shares_count_items_with_any_flag() -> None:
    columns = {"channel": ["Fp1", "Fp1", "O2", "O2"], "raised": ["flat", "", "", ""]}
    table = pa.table({name: pa.array(texts).dictionary_encode() for name, texts in columns.items()})
    counts = count_channels(table.to_batches(max_chunksize=3))
    assert counts == {("Fp1", "flat"): 1, ("Fp1", ""): 1, ("O2", ""): 2}
    assert channel_shares(counts) == {"Fp1": 0.5, "O2": 0.0}


def test_raster_of_gaps_counts_recordings() -> None:
    raster = np.zeros((4, 64), np.uint8)
    raster[1, 3] = 1
    raster[2, 60:] = 255
    card = gaps(raster, window_s=10, context_s=11)
    assert card.note.startswith("1 of 4 items have gaps")
    assert "1 of 4 items are so close to an end" in card.note


def leakage_card(patients: list[str], halves: list[list[int]], copies: Sequence[tuple[str, str]] = ()) -> Any:
    """Return the headline of four items that are validated on in two halves."""
    items = make_items(4, ids=["a", "b", "c", "d"])
    items["patient_id"] = patients
    duplicates = pd.DataFrame(copies, columns=["item_id", "same_as"])
    first, second = (np.array(half, dtype=np.int64) for half in halves)
    ledger = pd.DataFrame({"grade": ["good"] * 4, "raised": [""] * 4, "used": [True] * 4})
    splits = [(second, first), (first, second)]
    return headlines(items, 4, ledger, duplicates, splits, has_labels=True)[-1]


def test_leakage_check_fails_when_a_patient_is_on_both_sides() -> None:
    told = leakage_card(["1", "1", "2", "2"], [[0, 2], [1, 3]])
    assert (told.value, told.state) == ("failed", "bad")
    assert told.note == "2 patients, 0 pairs of copies on both sides of a fold"
    assert leakage_card(["1", "1", "2", "2"], [[0, 1], [2, 3]]).value == "passed"


def test_leakage_check_fails_when_a_copy_is_on_both_sides() -> None:
    patients, halves = ["1", "1", "2", "2"], [[0, 1], [2, 3]]
    told = leakage_card(patients, halves, [("c", "a"), ("b", "a")])
    assert (told.value, told.state) == ("failed", "bad")
    assert told.note == "0 patients, 1 pair of copies on both sides of a fold"
    assert leakage_card(patients, halves, [("b", "a")]).value == "passed"


def test_leakage_check_of_items_in_one_fold_alone_has_nothing_to_check() -> None:
    told = leakage_card(["1", "1", "2", "2"], [[0, 1, 2, 3], []])
    assert (told.value, told.state) == ("nothing to check", "")


def test_trace_is_broken_at_gaps_and_keeps_peaks() -> None:
    """A peak of one sample among thousands is drawn; what has a gap is not."""
    values = np.zeros(7000, np.float32)
    values[1234] = 50.0
    values[3000:4000] = np.nan
    frame = Frame(0, 0, 700, 100, Axis(0, 35), Axis(0, 100))
    data = _steps_trace(frame, values).partition(' d="')[2]
    assert data.count("M") == 2
    assert " 50L" in data
    xs = [float(x) for x in re.findall(r"[ML]([\d.]+) ", data)]
    assert not [x for x in xs if 300 <= x < 400]


def test_no_item_is_in_two_sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four items are shown once each, one of them step by step too, and each is prepared once."""
    asked: list[int] = []
    evaluate = MadeUp.evaluate

    def counting(self: MadeUp, row: int, *stages: Any) -> list[Any]:
        asked.append(row)
        return evaluate(self, row, *stages)

    monkeypatch.setattr(MadeUp, "evaluate", counting)
    page = fabricate(tmp_path, make_items(4), overrides=["folds=none"])[PAGE]
    assert sorted(asked) == [0, 1, 2, 3]
    shown = re.findall(rb"Traces of 16 derivations of item (\d+)", page)
    assert len(shown) == len(set(shown)) == 4


def sheets(grades: list[str], votes: list[tuple[int, int]], used: list[bool]) -> dict[str, list[int]]:
    """Choose among items with these grades and votes of two classes."""
    n = len(grades)
    items = pd.DataFrame(
        {"item_id": range(n), "seizure_vote": [v[0] for v in votes], "other_vote": [v[1] for v in votes]}
    )
    ledger = pd.DataFrame({"grade": grades, "raised": [""] * n, "used": used})
    return choose_examples(items, ledger, np.arange(n), high_confidence_votes=10)


def test_each_sheet_shows_only_what_its_name_says():
    """Worst is below good, cleanest good and used, disputed of two classes; a small set shows fewer."""
    found = sheets(
        ["good", "usable", "unusable", "good", "good"],
        [(3, 0), (3, 0), (2, 2), (2, 1), (0, 4)],
        [True, True, True, True, False],
    )
    assert found == {"worst": [2, 1], "cleanest": [0], "disputed": [3]}


def test_a_good_and_undisputed_set_has_no_worst_and_none_disputed():
    assert sheets(["good"] * 2, [(3, 0)] * 2, [True] * 2) == {"worst": [], "cleanest": [0, 1], "disputed": []}


def test_what_is_graded_unusable_and_used_is_in_the_headline(tmp_path: Path) -> None:
    """And on the first screen which classes an exclusion of poor items would cost."""
    ledger = pd.DataFrame({
        "grade": ["unusable", "poor", "good", "good"], "raised": [""] * 4, "used": [True] * 4,
    })  # fmt: skip
    items = pd.DataFrame({
        "item_id": list("0123"), "eeg_id": range(4), "patient_id": range(4),
        "seizure_vote": [3, 3, 0, 0], "other_vote": [0, 0, 3, 3],
    })  # fmt: skip
    graded = Graded.of(items, ledger, np.zeros(4, bool))
    duplicates = pd.DataFrame({"item_id": [], "same_as": [], "kind": []})
    found = {h.name: h for h in headlines(items, 4, ledger, duplicates, [], has_labels=False)}
    assert "1 graded unusable, but used" in found["poor or unusable"].note
    cost = cost_by_class(graded, None)
    assert (cost.name, cost.value) == ("exclude_from=poor would leave out", "2 items")
    assert cost.note.startswith("2 of 2 seizure and 0 of 2 others")
    assert cost_by_class(graded, "unusable").value == "none"


def test_the_head_counts_flags_that_cost_a_grade_and_shows_all_on_request():
    channels = {("Fp1", "line"): 1, ("Fp1", "line;muscle"): 1, ("O2", ""): 2}
    costly = FLAGS[: FLAGS.index("ekg")]
    assert channel_shares(channels, ("muscle",)) == {"Fp1": 0.5, "O2": 0.0}
    assert channel_shares(channels) == {"Fp1": 1.0, "O2": 0.0}
    body = head(channels, costly).body
    assert "<details><summary>All flags, including harmless ones</summary>" in body


def test_grades_by_class_are_a_table_with_intervals():
    graded = Graded(
        np.array([0] * 5 + [1] * 5), np.arange(10), np.array(["poor"] * 4 + ["good"] * 6), np.ones(10, bool),
        ("seizure", "other"),
    )  # fmt: skip
    card = grades_by_class(graded, None)
    assert "<td>4 of 5</td><td>38–96 %</td>" in card.body
    assert "qc.exclude_from=poor would leave out 4 of 5 seizure and 0 of 5 others" in card.note


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis(0, 10), [0, 2, 4, 6, 8, 10]),
        (Axis(0, 1.79), [0, 0.5, 1, 1.5]),
        (Axis(-30, 30), [-20, 0, 20]),
        (Axis(0.5, 20, log=True), [0.5, 1, 2, 5, 10, 20]),
    ],
)
def test_ticks_are_round(axis: Axis, expected: list[float]) -> None:
    assert ticks(axis) == pytest.approx(expected)


def test_path_is_the_numbers_of_its_points() -> None:
    """All points are formatted at once; each is what it would be alone."""
    rng = np.random.default_rng(0)
    for scale in (0.01, 0.2, 3.0, 1e4):
        points = [(float(a), float(b)) for a, b in np.round(rng.normal(0, scale, (200, 2)), 2)]
        expected = "M" + "L".join(f"{number(x, 1)} {number(y, 1)}" for x, y in points)
        assert path(points) == expected
        assert path(points, closed=True) == expected + "Z"
    assert path([(-0.01, 10.0), (-20.0, -0.0)]) == "M0 10L-20 0"
    assert path([]) == ""  # browsers refuse a lone M


def test_numbers_are_short() -> None:
    assert [number(v) for v in (1.0, 0.256, -0.001, 100, 12.5)] == ["1", "0.26", "0", "100", "12.5"]


def test_png_can_be_read_back() -> None:
    """The reader of matplotlib sees the ends of the ramp, and grey where there is nothing."""
    import base64
    import io

    from matplotlib.image import imread

    uri = png(np.array([[0.0, 1.0, np.nan]]))
    pixels = imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])), format="png")
    shown = (np.asarray(pixels)[0, :, :3] * 255).round().astype(int).tolist()
    assert shown == [[0x44, 0x01, 0x54], [0xFD, 0xE7, 0x25], [225, 225, 225]]


def test_embedded_json_cannot_end_its_script() -> None:
    text = embedded_json({"a": "</script><!--"})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><!--"}


# --- sketches ------------------------------------------------------------------------------------


def seen(eeg: np.ndarray) -> Inspection:
    """Inspect some channels, the first of the 20, in a recording that lacks the others."""
    whole = np.full((20, eeg.shape[1]), np.nan, np.float32)
    whole[: len(eeg)] = eeg
    present = np.arange(20) < len(eeg)
    everything = slice(None)
    return inspect([whole], sfreq=200.0, window=everything, spectral=everything, present=present)[0]


def test_spectrum_of_a_sine_has_its_power_at_its_frequency() -> None:
    """A sine of 10 µV at 10 Hz has 50 µV²; of its 0.75 Hz of Hann window, 1 / 1.2 stand at 10 Hz."""
    t = np.arange(2000) / 200
    eeg = np.tile(10 * np.sin(2 * np.pi * 10 * t), (3, 1)).astype(np.float32)
    eeg += np.random.default_rng(0).normal(0, 1e-3, eeg.shape).astype(np.float32)
    levels = spectrum(seen(eeg))
    freqs = spectrum_freqs(200.0)
    assert freqs.tolist() == list(range(1, 100))
    assert freqs[levels.argmax()] == 10
    assert 10 ** levels[9] == pytest.approx(50 / 1.2, rel=1e-3)
    assert 10 ** levels[8] == pytest.approx(50 / 12, rel=1e-3)
    assert (10.0**levels).sum() == pytest.approx(50, rel=1e-3)


def test_spectrum_does_not_see_an_offset() -> None:
    eeg = np.random.default_rng(0).normal(0, 10, (2, 2000)).astype(np.float32)
    np.testing.assert_allclose(spectrum(seen(eeg + 5000)), spectrum(seen(eeg)), atol=2e-3)


def test_spectrum_leaves_out_blocks_with_gaps_dead_channels_and_the_ekg() -> None:
    rng = np.random.default_rng(0)
    eeg = rng.normal(0, 10, (20, 2000)).astype(np.float32)
    eeg[1:19] = 0
    whole = spectrum(seen(eeg[:1, :1600]))
    eeg[0, 1900] = np.nan
    assert spectrum(seen(eeg)) == pytest.approx(whole, abs=1e-5)
    assert np.isnan(spectrum(seen(np.full((2, 2000), np.nan, np.float32)))).all()


def test_gap_raster_tells_gaps_from_what_was_not_recorded() -> None:
    eeg = np.zeros((2, 100), np.float32)
    eeg[0, 55] = np.nan
    eeg[:, 60:70] = np.inf
    eeg[:, 90:] = np.nan
    raster = gap_raster(~np.isfinite(eeg[:, :90]), 100, (0, 10), bins=10)
    assert raster.tolist() == [0, 0, 0, 0, 0, 10, 200, 0, 0, 255]
    assert gap_raster(None, 100, (20, 0), bins=5).tolist() == [255, 0, 0, 0, 0]


def test_small_scalogram_averages_neighbours() -> None:
    power = np.ones((1, 32, 100), np.float32)
    power[0, :2, :10] = 100
    small = shrink_power(power)
    assert small.shape == (1, 16, 10)
    assert small[0, 0, 0] == pytest.approx(2)
    assert np.abs(small).sum() == pytest.approx(2)


def test_histogram_counts_ends_and_what_lies_beyond() -> None:
    x = np.array([[[-1.0] + [9.0] * 9 + [0.0] + [9.0] * 9 + [0.999] + [9.0] * 9 + [1.0] + [9.0] * 9 + [3.0]]])
    counts = histogram(x)
    assert (counts[0], counts[1], counts[50], counts[51], counts.sum()) == (1, 1, 2, 1, 5)
