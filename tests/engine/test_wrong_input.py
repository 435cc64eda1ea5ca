"""Wrong input: one message, the stated exit code, and all good items there."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Prepared

import hms
from hms.engine.pools.loky import _end_quietly
from hms.main import main as run_main

Command = Callable[..., Prepared]


def assert_refused(ended: Prepared, *texts: str) -> None:
    assert ended.code == 2, ended
    message = ended.err.strip()
    assert message.startswith("hms: ")
    assert "Traceback" not in message
    for text in texts:
        assert text in message


# --- configuration -------------------------------------------------------------------------------

BAD_ARGUMENTS = [
    (["cwt=morle"], "did you mean 'morlet'"),
    (["cwt.nfreqs=1"], "did you mean 'cwt.n_freqs'"),
    (["+cwt.foo=1"], "adds a key"),
    (["~cwt"], "removes a setting"),
    (["cwt.n_freqs=-4"], "at least 1"),
    (["filter.high_hz=120"], "100 Hz"),
    (["folds.n_splits=1"], "at least 2"),
    (["weight=log", "weight=lin"], "given twice"),
    (["--config-name", "nothing"], "Cannot find primary config"),
    (["--config-dir", "nothing"], "does not exist"),
    (["data=kaggle", "data.root=nowhere"], "data.root=nowhere is neither a folder nor a "),
    (["data=kaggle"], "data=synthetic works"),
    (["data.n_recordings=5", "data.n_patients=6"], "n_patients 6"),
    (["weight=[log,sqrt]"], "weight takes one option, not the list ['log', 'sqrt']"),
    (["cwt=[]"], "cwt takes one option"),
    (["labels.high_confidence_votes=1e9"], "at most 1e+06"),
    (["data.aliases=[1,2]"], "Cannot merge DictConfig with ListConfig"),
    (["data=kaggle", "data.root=" + 300 * "x"], "File name too long"),
    (["--config-dir", 300 * "x"], "File name too long"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD_ARGUMENTS, ids=[" ".join(a) for a, _ in BAD_ARGUMENTS])
def test_a_wrong_argument_ends_with_one_message_and_code_2(
    command: Command,
    arguments: list[str],
    text: str,
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(command(*arguments), text)
    assert not outputs.exists(), "something was written before the configuration was checked"


def test_an_outputs_folder_whose_name_is_too_long_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_main(["outputs_dir=" + 300 * "x"]) == 2
    assert capfd.readouterr().err.startswith("hms: File name too long: ")


TOO_LONG = [
    (["cwt.w0=1e9"], "does not die out"),
    (["cwt.min_hz=1e-9"], "raise cwt.min_hz"),
    (["filter.order=1", "filter.low_hz=1e-6"], "rings for more than 1024 s"),
]


@pytest.mark.parametrize(("settings", "text"), TOO_LONG, ids=[" ".join(a) for a, _ in TOO_LONG])
def test_a_reach_longer_than_any_recording_is_refused(
    small_set: Path, command: Command, settings: list[str], text: str
) -> None:
    assert_refused(command("data=kaggle", f"data.root={small_set}", *settings), text)


def test_an_environment_variable_that_names_nothing_is_refused(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMS_DATA", "nowhere")
    assert_refused(command("data=kaggle"), "HMS_DATA=nowhere is neither a folder nor a .zip")


# --- the votes table -----------------------------------------------------------------------------


def edit(folder: Path, change: Callable[[pd.DataFrame], object]) -> None:
    path = folder / "train.csv"
    frame = pd.read_csv(path).astype(object)
    changed = change(frame)
    (frame if changed is None else changed).to_csv(path, index=False)


def put(column: str, row: int, value: object) -> Callable[[pd.DataFrame], None]:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[row, column] = value

    return change


def second_patient(frame: pd.DataFrame) -> None:
    repeated = frame["eeg_id"].value_counts().index[0]
    rows = frame.index[frame["eeg_id"] == repeated]
    assert len(rows) > 1
    frame.loc[rows[1], "patient_id"] = 424242


def repeated_row(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.iloc[[3]]])


BAD_TABLES = [
    (lambda f: f.drop(columns="lpd_vote"), ["lpd_vote"]),
    (lambda f: f.drop(columns="patient_id"), ["patient_id"]),
    (lambda f: f.rename(columns={"eeg_label_offset_seconds": "offset"}), ["eeg_label_offset_seconds"]),
    (lambda f: f.iloc[:0], ["no rows"]),
    (put("gpd_vote", 2, -1), ["gpd_vote", "-1", "line 4"]),
    (put("gpd_vote", 2, 1.5), ["gpd_vote", "1.5", "line 4"]),
    (put("gpd_vote", 2, "many"), ["gpd_vote", "many"]),
    (put("gpd_vote", 2, None), ["gpd_vote"]),
    (put("eeg_label_offset_seconds", 1, "soon"), ["eeg_label_offset_seconds", "soon"]),
    (put("eeg_label_offset_seconds", 1, -2), ["eeg_label_offset_seconds"]),
    (put("eeg_id", 0, "../../etc"), ["eeg_id", "../../etc"]),
    (put("patient_id", 0, "a b"), ["patient_id", "a b"]),
    (put("eeg_id", 0, "x" * 300), ["eeg_id"]),
    (repeated_row, ["eeg_sub_id"]),
    (second_patient, ["patient"]),
]


@pytest.mark.parametrize("case", range(len(BAD_TABLES)))
def test_a_wrong_votes_table_is_refused_naming_column_and_row(
    own_set: Path, command: Command, case: int
) -> None:
    change, texts = BAD_TABLES[case]
    edit(own_set, change)
    assert_refused(command("data=kaggle", f"data.root={own_set}"), "train.csv", *texts)


BAD_FILES = [b"", b"\xff\xfe\x00binary\x00", b"PAR1" + bytes(100), b"just a line of text\n", b"a,a\n1,2\n"]


@pytest.mark.parametrize("content", BAD_FILES)
def test_a_file_that_is_no_table_is_refused(own_set: Path, command: Command, content: bytes) -> None:
    (own_set / "train.csv").write_bytes(content)
    assert_refused(command("data=kaggle", f"data.root={own_set}"), "train.csv")


def test_a_missing_table_or_folder_is_refused(own_set: Path, command: Command) -> None:
    shutil.move(own_set / "train_eegs", own_set / "elsewhere")
    assert_refused(command("data=kaggle", f"data.root={own_set}"), "train_eegs is not a folder")
    (own_set / "train.csv").unlink()
    assert_refused(command("data=kaggle", f"data.root={own_set}"), "train.csv does not exist")


@pytest.mark.slow
def test_rows_without_votes_are_left_out_with_the_reason(
    own_set: Path, command: Command, outputs: Path
) -> None:
    votes = pd.read_csv(own_set / "train.csv")
    silent = votes["eeg_id"].iloc[0]
    edit(
        own_set,
        lambda f: f.assign(**{c: f[c].where(f["eeg_id"] != silent, 0) for c in f if c.endswith("_vote")}),
    )
    ended = command("data=kaggle", f"data.root={own_set}")
    assert ended.code == 0, ended.err
    run = hms.load(outputs=outputs)
    assert run.excluded[["item_id", "stage", "reason"]].to_numpy().tolist() == [
        [str(silent), "votes", "no votes"]
    ]
    assert len(run.meta) == 9
    assert len(run.labels.y_soft) == 9


def test_a_table_whose_rows_have_no_votes_at_all_ends_with_code_3(
    own_set: Path, command: Command, outputs: Path
) -> None:
    """Nothing is read and nothing used: that is no success, and it is told in one group."""
    edit(own_set, lambda f: f.assign(**{c: 0 for c in f if c.endswith("_vote")}))
    ended = command("data=kaggle", f"data.root={own_set}")
    assert ended.code == 3, ended
    assert "none of the 10 items can be used" in ended.err
    assert "10 recordings: no votes" in ended.err
    assert not list(outputs.glob("*/manifest.json"))
    (table,) = outputs.glob("*/data_package/meta_excluded.csv")
    assert pd.read_csv(table)["reason"].tolist() == ["no votes"] * 10


def test_fewer_patients_than_folds_names_both_numbers(own_set: Path, command: Command) -> None:
    ended = command("data=kaggle", f"data.root={own_set}", "folds.n_splits=6")
    assert_refused(ended, "5", "6", "patients")


@pytest.mark.slow
def test_a_class_too_small_for_stratified_folds_is_named_and_spread(own_set: Path, command: Command) -> None:
    """The run is made, and one line names the classes that some fold is without."""
    ended = command("data=kaggle", f"data.root={own_set}", "folds=stratified5", "stages=[labels,splits]")
    assert ended.code == 0, ended.err
    (line,) = [
        line
        for line in ended.err.splitlines()
        if line.startswith("classes with fewer patients than the 5 folds")
    ]
    assert "some folds have none of them; lower folds.n_splits" in line


# --- recordings ----------------------------------------------------------------------------------


def recording(folder: Path, number: int = 0) -> Path:
    ids = pd.read_csv(folder / "train.csv")["eeg_id"].drop_duplicates().tolist()
    return folder / "train_eegs" / f"{ids[number]}.parquet"


def rewrite(path: Path, change: Callable[[pd.DataFrame], object]) -> None:
    frame = pd.read_parquet(path)
    changed = change(frame)
    (frame if changed is None else changed).to_parquet(path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def as_csv(path: Path) -> None:
    frame = pd.read_parquet(path)
    frame.head(20).to_csv(path, index=False)


def all_nan(frame: pd.DataFrame) -> pd.DataFrame:
    return frame * np.float32(np.nan)


def dead_chain(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(F7=np.float32(3), T5=np.float32(np.nan))


def twice(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_arrays(table.columns * 2, names=table.column_names * 2), path)


SIGNALS = "stages=[scalograms,waveforms,labels]"
BAD_RECORDINGS: list[tuple[Callable[[Path], object], str]] = [
    (Path.unlink, "missing"),
    (truncate, "truncated or not parquet"),
    (as_csv, "truncated or not parquet"),
    (lambda p: p.write_bytes(b""), "truncated or not parquet"),
    (lambda p: rewrite(p, lambda f: f.drop(columns="T3")), "T3"),
    (lambda p: rewrite(p, lambda f: f.head(3000)), "s but the recording lasts 15 s"),
    (lambda p: rewrite(p, all_nan), "no channel has a usable sample"),
    (lambda p: rewrite(p, lambda f: f * 0 + 7), "no channel has a usable sample"),
    (lambda p: rewrite(p, dead_chain), "chain LL has no pair of live channels"),
    (lambda p: rewrite(p, lambda f: f.assign(T3="text")), "T3"),
    (twice, "exists 2 times"),
]


@pytest.mark.slow
@pytest.mark.parametrize("cases", [slice(0, 1), slice(1, 6), slice(6, None)], ids=str)
def test_bad_recordings_are_left_out_with_the_reason_and_the_others_are_there(
    own_set: Path, command: Command, outputs: Path, cases: slice
) -> None:
    spoiled = {}
    for number, (spoil, text) in enumerate(BAD_RECORDINGS[cases]):
        path = recording(own_set, number)
        spoil(path)
        spoiled[path.stem] = text
    n_left = 10 - len(spoiled)
    whole = () if n_left == 9 else (SIGNALS,)  # the first with everything that comes after
    ended = command("data=kaggle", f"data.root={own_set}", "max_failed_share=1", *whole)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    run = hms.load(outputs=outputs)
    reasons = dict(zip(run.excluded["item_id"], run.excluded["reason"], strict=True))
    assert set(reasons) == set(spoiled)
    assert {name: text for name, text in spoiled.items() if text not in reasons[name]} == {}
    assert len(run.meta) == n_left
    assert len(list((run.path / "spec_hr_out").iterdir())) == n_left
    assert all(np.isfinite(run.spec(item)).all() for item in run.meta["item_id"])


@pytest.mark.slow
def test_a_recording_one_sample_short_of_its_window_is_left_out_and_an_exact_one_is_used(
    own_set: Path, command: Command, outputs: Path
) -> None:
    base = ("data=kaggle", f"data.root={own_set}", SIGNALS)
    items = hms.run(hms.compose(*base, f"outputs_dir={outputs}", "n_jobs=1")).meta
    ends = ((items["window_start_s"] + 10) * 200).astype(int).tolist()
    rewrite(recording(own_set, 0), lambda f: f.head(ends[0]))
    rewrite(recording(own_set, 1), lambda f: f.head(ends[1] - 1))
    assert command(*base).code == 0
    run = hms.load(outputs=outputs)
    assert run.excluded["item_id"].tolist() == [recording(own_set, 1).stem]


@pytest.mark.slow
def test_nan_and_inf_samples_are_filled_and_counted(own_set: Path, command: Command, outputs: Path) -> None:
    def gaps(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype(np.float64)
        frame.iloc[5000:5003] = np.nan
        frame.iloc[5100, 3] = np.inf
        frame.iloc[5200, 3] = 1e300  # more than float32 holds
        return frame

    path = recording(own_set)
    rewrite(path, gaps)
    assert command("data=kaggle", f"data.root={own_set}", "stages=[scalograms,waveforms,quality]").code == 0
    run = hms.load(outputs=outputs)
    assert np.isfinite(run.spec(path.stem)).all()
    assert np.isfinite(run.wave(path.stem)).all()
    row = run.qc.set_index("item_id").loc[path.stem]
    assert row["nan_share"] > 0


@pytest.mark.slow
def test_a_dead_channel_leaves_the_mean_of_its_chain(own_set: Path, command: Command, outputs: Path) -> None:
    path = recording(own_set)
    rewrite(path, lambda f: f.assign(F7=np.float32(12)))
    assert command("data=kaggle", f"data.root={own_set}", SIGNALS).code == 0
    run = hms.load(outputs=outputs)
    derived = run.evaluate(path.stem, "derivations")
    assert derived.alive.tolist()[:4] == [False, False, True, True]
    scalogram = run.evaluate(path.stem, "scalograms")
    from hms.signal.cwt import plan_cwt

    plan = plan_cwt(run.config.cwt, sfreq=200.0, n_context=derived.n_context, n_window=2000)
    expected = plan.power(derived.values, ((2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15)))
    assert np.allclose(scalogram.power, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_constant_window_gives_zeros_and_is_flagged(own_set: Path, command: Command, outputs: Path) -> None:
    path = recording(own_set)

    def still(frame: pd.DataFrame) -> None:
        frame.iloc[: len(frame) - 1] = np.float32(5)
        frame.iloc[len(frame) - 1] = np.arange(frame.shape[1], dtype=np.float32)

    rewrite(path, still)
    ended = command(
        "data=kaggle", f"data.root={own_set}", "filter=none", "cwt.min_hz=12", "stages=[scalograms,quality]"
    )
    assert ended.code == 0, ended.err
    run = hms.load(outputs=outputs)
    if path.stem in set(run.meta["item_id"]):
        assert (run.spec(path.stem) == 0).all()
        assert bool(run.qc.set_index("item_id").loc[path.stem, "x_is_constant"])
    else:
        assert "usable" in run.excluded["reason"].iloc[0]


@pytest.mark.slow
def test_column_order_types_and_aliases_do_not_matter(own_set: Path, command: Command, outputs: Path) -> None:
    assert command("data=kaggle", f"data.root={own_set}", "stages=[scalograms]").code == 0
    before = hms.load(outputs=outputs)
    path = recording(own_set)
    kept = before.spec(path.stem)
    rename = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
    rewrite(
        path, lambda f: f.rename(columns=rename).astype(np.float64)[sorted(f.rename(columns=rename).columns)]
    )
    assert pq.read_schema(path).names != list(pd.read_parquet(recording(own_set, 1)).columns)
    assert command("data=kaggle", f"data.root={own_set}", "stages=[scalograms]").code == 0
    assert np.array_equal(hms.load(outputs=outputs).spec(path.stem), kept)


@pytest.mark.slow
def test_too_many_failures_end_with_code_3_and_no_finished_run(
    own_set: Path, command: Command, outputs: Path
) -> None:
    for number in range(4):
        truncate(recording(own_set, number))
    ended = command("data=kaggle", f"data.root={own_set}")
    assert ended.code == 3, ended
    assert "4 of 10 recordings failed" in ended.err
    assert recording(own_set).stem in ended.err
    assert not list(outputs.glob("*/manifest.json"))
    (table,) = outputs.glob("*/data_package/meta_excluded.csv")
    assert len(pd.read_csv(table)) == 4
    assert command("data=kaggle", f"data.root={own_set}", SIGNALS, "max_failed_share=0.5").code == 0
    assert len(hms.load(outputs=outputs).meta) == 6


@pytest.mark.slow
def test_a_recording_that_comes_back_is_used_by_the_next_run(
    own_set: Path, command: Command, outputs: Path
) -> None:
    path = recording(own_set)
    aside = path.rename(own_set / "aside.parquet")
    assert command("data=kaggle", f"data.root={own_set}", SIGNALS).code == 0
    assert len(hms.load(outputs=outputs).meta) == 9
    aside.rename(path)
    assert command("data=kaggle", f"data.root={own_set}", SIGNALS).code == 0
    assert len(hms.load(outputs=outputs).meta) == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train.csv", "kaggle"),
        ("train_eegs/1.parquet", "kaggle"),
        ("ward/a b.EDF", "edf"),
        ("x/1.vhdr", "mne"),
    ],
)
def test_made_up_recordings_are_never_put_beside_real_ones(
    command: Command, tmp_path: Path, name: str, kind: str
) -> None:
    root = tmp_path / "mine"
    (root / name).parent.mkdir(parents=True)
    (root / name).write_text("x")
    before = sorted(root.rglob("*"))
    assert_refused(command(f"data.root={root}"), f"data={kind} data.root={root}", Path(name).name)
    assert sorted(root.rglob("*")) == before


@pytest.mark.slow
def test_made_up_recordings_may_have_a_folder_of_their_own(command: Command, tmp_path: Path) -> None:
    arguments = [
        f"data.root={tmp_path / 'own'}",
        "data.n_recordings=6",
        "data.n_patients=5",
        "stages=[labels]",
    ]
    assert command(*arguments).code == 0
    again = command(*arguments)
    assert again.code == 0
    assert f"data=synthetic, {tmp_path / 'own'}" in again.out


def test_results_that_nobody_waits_for_any_more_end_without_a_warning() -> None:
    """As joblib's do when too many recordings failed; -W error would raise what is warned of."""

    def results() -> Iterator[int]:
        try:
            yield from (1, 2)
        finally:
            warnings.warn("1 tasks have been cancelled", UserWarning, stacklevel=1)

    left = results()
    assert next(left) == 1
    _end_quietly(left)
    assert next(left, None) is None
