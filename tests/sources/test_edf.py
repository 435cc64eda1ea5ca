"""Recordings in EDF and BDF files: signals in, chains out, and what cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recordings import bipolar, field_at, noise, patched, write_bdf, write_edf

import hms
from hms.competition import CLASSES, EEG_CHANNELS, VOTE_COLUMNS
from hms.errors import ConfigError
from hms.labels.classes import SIX
from hms.results.run import Run
from hms.sources.base import SourceParams
from hms.sources.edf import Edf, EdfRecording
from hms.sources.files import place_of
from hms.sources.patients import Patients
from hms.sources.tables import eeg_number
from hms.sources.windows import read_windows, sliding_starts, windows_from_rows, windows_of_files

N_60_S = 60 * 200
Prepare = Callable[..., Run]


@pytest.fixture
def prepare_edf(outputs: Path) -> Prepare:
    """Prepare a folder of EDF files in this process, every window an item."""

    def call(root: Path, *overrides: str) -> Run:
        base = ("data=edf", f"data.root={root}", f"outputs_dir={outputs}", "n_jobs=1", "unit=per_row")
        fast = (
            ("stages=[scalograms,waveforms]",) if not any(o.startswith("stages=") for o in overrides) else ()
        )
        return hms.run(hms.compose(*base, *fast, *overrides))

    return call


def reasons(run: Run) -> dict[str, str]:
    """Return the reason of each item left out."""
    excluded = pd.read_csv(run.file("data_package/meta_excluded.csv"))
    return dict(zip(excluded["item_id"], excluded["reason"], strict=True))


def opened(path: Path, **changes: object) -> EdfRecording:
    """Open a file as `data=edf` does, with blocks of 120 s unless told otherwise."""
    return EdfRecording(place_of(path.stem, str(path)), **{"aliases": {}, "block_s": 120.0, **changes})


# --- what a signal becomes -----------------------------------------------------------------------


@pytest.mark.parametrize("sfreq", [200, 256, 500])
def test_a_10_hz_sine_lands_at_10_hz_in_its_chain_at_its_second(tmp_path, prepare_edf, sfreq):
    """50 µV at F7 from 24 s to 26 s of a sub-window show in LL at 10 Hz in the middle of x, nowhere else."""
    n_samples = 60 * sfreq
    signals = {f"EEG {k.upper()}-REF": 0.05 * v for k, v in noise(n_samples, names=EEG_CHANNELS).items()}
    t = np.arange(n_samples) / sfreq
    signals["EEG F7-REF"] = signals["EEG F7-REF"] + np.where(
        (t >= 24) & (t < 26), 50 * np.sin(20 * np.pi * t), 0
    )
    write_edf(tmp_path / "one.edf", signals, sfreq=sfreq)
    run = prepare_edf(tmp_path, "scaling=none")
    x = run.spec("one_0")
    row, column = np.unravel_index(np.argmax(x[0]), x[0].shape)
    assert run.freqs[row] == pytest.approx(10, rel=0.06)
    # x covers 20 s to 30 s of the sub-window: 24 s to 26 s are 40 % to 60 % of its columns.
    assert 0.38 <= column / x.shape[2] <= 0.62
    assert x[0, row, : x.shape[2] // 4].max() < 0.01 * x[0].max()
    assert x[1:].max() < 0.01 * x[0].max()


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1.0), ("mV", 1e3), ("V", 1e6), ("nV", 1e-3)])
def test_units_become_microvolt(tmp_path, unit, factor):
    """A file in mV that holds 0.03 holds 30 µV."""
    signal = 30 * np.sin(np.arange(N_60_S) / 9)
    path = write_edf(tmp_path / "a.edf", {"Fp1": signal / factor}, unit=unit, limit=50 / factor)
    found = opened(path).read(0, N_60_S, ("Fp1",))[0]
    np.testing.assert_allclose(found, signal, atol=100 / 65535)


def test_bdf_has_24_bits(tmp_path):
    """A BDF file resolves 1/800 µV in a range of 20,000 µV, and negative numbers are negative."""
    signal = 1000 * np.sin(np.arange(N_60_S) / 9)
    path = write_bdf(tmp_path / "a.bdf", {"Fp1": signal, "F7": -signal})
    found = opened(path).read(100, 900, ("F7", "Fp1"))
    np.testing.assert_allclose(found[1], signal[100:900], atol=2e-3)
    np.testing.assert_allclose(found[0], -signal[100:900], atol=2e-3)


def test_samples_outside_the_recording_are_nan(tmp_path):
    """Before the first and after the last sample there is nothing."""
    path = write_edf(tmp_path / "a.edf", {"Fp1": np.ones(N_60_S)})
    found = opened(path).read(-3, N_60_S + 2, ("Fp1",))[0]
    assert np.isnan(found[:3]).all()
    assert np.isnan(found[-2:]).all()
    np.testing.assert_allclose(found[3:-2], 1, atol=0.02)


def test_a_resampled_recording_has_no_ringing_at_its_ends(tmp_path):
    """An offset of 400 µV stays 400 µV up to the first and the last sample."""
    path = write_edf(tmp_path / "a.edf", {"Fp1": np.full(60 * 256, 400.0)}, sfreq=256)
    recording = opened(path)
    assert recording.n_samples == N_60_S
    np.testing.assert_allclose(recording.read(0, N_60_S, ("Fp1",))[0], 400, atol=0.02)


def test_channels_of_several_rates_are_read_together(tmp_path):
    """EEG at 256 Hz beside an EKG at 512 Hz: both come at 200 Hz."""
    import edfio

    eeg, ekg = (np.sin(2 * np.pi * 5 * np.arange(60 * sfreq) / sfreq) for sfreq in (256, 512))
    made = [
        edfio.EdfSignal(data, sfreq, label=label, physical_dimension="uV", physical_range=(-2, 2))
        for data, sfreq, label in ((eeg, 256, "Fp1"), (ekg, 512, "ECG"))
    ]
    edfio.Edf(made, data_record_duration=1).write(tmp_path / "a.edf")
    found = opened(tmp_path / "a.edf").read(1000, 3000, ("Fp1", "EKG"))
    expected = np.sin(2 * np.pi * 5 * np.arange(1000, 3000) / 200)
    np.testing.assert_allclose(found, [expected, expected], atol=2e-4)


def test_annotations_are_no_channel(tmp_path):
    """EDF+C files carry a signal of annotations; the samples of the others stay where they are."""
    import edfio

    signals = noise(N_60_S, names=("Fp1", "F7"))
    marks = [edfio.EdfAnnotation(3, None, "eyes open")]
    path = write_edf(tmp_path / "a.edf", signals, annotations=marks)
    recording = opened(path)
    assert recording.channels == ("Fp1", "F7")
    np.testing.assert_allclose(recording.read(0, 500, ("F7",))[0], signals["F7"][:500], atol=0.04)


# --- bipolar files -------------------------------------------------------------------------------


def test_a_bipolar_file_gives_the_chains_of_its_referential_twin(tmp_path, prepare_edf):
    """The same brain written as electrodes and as CHB-MIT's pairs: x differs by rounding alone."""
    signals = noise(N_60_S, names=EEG_CHANNELS)
    write_edf(tmp_path / "referential.edf", signals)
    write_edf(tmp_path / "bipolar.edf", bipolar(signals))
    run = prepare_edf(tmp_path)
    assert set(run.meta["recording"]) == {"referential.edf", "bipolar.edf"}
    np.testing.assert_allclose(run.spec("bipolar_0"), run.spec("referential_0"), atol=5e-3)
    np.testing.assert_allclose(run.wave("bipolar_0"), run.wave("referential_0"), atol=0.2)


def test_a_bipolar_file_without_a_pair_is_left_out_with_the_reason(tmp_path, prepare_edf):
    """T3-T5 cannot be formed from other pairs; the item says so, the other goes on."""
    pairs = bipolar(noise(N_60_S))
    write_edf(tmp_path / "whole.edf", pairs)
    del pairs["T7-P7"]
    write_edf(tmp_path / "lacking.edf", pairs)
    run = prepare_edf(tmp_path)
    assert run.meta["item_id"].tolist() == ["whole_0"]
    assert "lacks what the montage needs for T3-T5" in reasons(run)["lacking_0"]


def test_missing_dead_averages_a_chain_without_the_pairs_it_lacks(tmp_path, prepare_edf):
    """A file without T3 has LL from Fp1-F7 and T5-O1; the other chains are those of the whole file."""
    signals = noise(N_60_S, names=EEG_CHANNELS)
    write_edf(tmp_path / "whole.edf", signals)
    write_edf(tmp_path / "lacking.edf", {k: v for k, v in signals.items() if k != "T3"})
    run = prepare_edf(tmp_path, "data.missing=dead", "scaling=none")
    np.testing.assert_allclose(run.spec("lacking_0")[1:], run.spec("whole_0")[1:], rtol=1e-5)
    assert not np.allclose(run.spec("lacking_0")[0], run.spec("whole_0")[0], rtol=0.1)
    assert np.isfinite(run.spec("lacking_0")).all()


def test_missing_dead_excludes_a_chain_without_any_pair(tmp_path, prepare_edf):
    """Without all inner electrodes of RL nothing of it is left."""
    signals = noise(N_60_S, names=EEG_CHANNELS)
    write_edf(tmp_path / "whole.edf", signals)
    write_edf(tmp_path / "a.edf", {k: v for k, v in signals.items() if k not in ("F8", "T4", "T6")})
    run = prepare_edf(tmp_path, "data.missing=dead")
    assert "chain RL has no pair of live channels" in reasons(run)["a_0"]


def test_missing_dead_names_what_a_recording_of_other_labels_lacks(tmp_path, prepare_edf):
    """Its samples are fine: names are what it lacks, as without ``dead``."""
    signals = noise(N_60_S, names=EEG_CHANNELS)
    write_edf(tmp_path / "whole.edf", signals)
    write_edf(tmp_path / "biosemi.edf", {f"C{n}": signal for n, signal in enumerate(signals.values(), 10)})
    run = prepare_edf(tmp_path, "data.missing=dead")
    assert "any of its 16 pairs" in reasons(run)["biosemi_0"]


# --- windows -------------------------------------------------------------------------------------


def test_windows_slide_over_a_recording():
    """140 s hold 50 s windows from 0, 30, 60 and 90 s; 20 s lie in the middle of one."""
    assert sliding_starts(140, 30) == [0, 30, 60, 90]
    assert sliding_starts(20, 30) == [-15]
    assert sliding_starts(50, 0.1) == [0]


@pytest.mark.slow
def test_a_table_of_windows_with_votes_gives_labels(tmp_path, prepare_edf):
    """Votes of one's own in the six columns; the recording's name stays beside its number."""
    write_edf(tmp_path / "night-1.edf", noise(150 * 200))
    table = pd.DataFrame(
        [["night-1", "anna", 0.0, 3, 1, 0, 0, 0, 0], ["night-1", "anna", 90.5, 0, 0, 0, 0, 0, 5]],
        columns=["recording", "patient_id", "start_s", *VOTE_COLUMNS],
    )
    table.to_csv(tmp_path / "windows.csv", index=False)
    run = prepare_edf(tmp_path, "data.windows=windows.csv", "folds=none", "stages=[scalograms,labels]")
    assert run.meta["item_id"].tolist() == ["night-1_0", "night-1_1"]
    assert run.meta["window_start_s"].tolist() == [20.0, 110.5]
    assert run.meta["recording"].tolist() == ["night-1.edf", "night-1.edf"]
    assert run.meta["eeg_id"].tolist() == [eeg_number("night-1")] * 2
    assert run.labels.y_soft[0].tolist() == [0.75, 0.25, 0, 0, 0, 0]
    assert CLASSES[int(run.labels.y_soft[1].argmax())] == "other"


def test_without_votes_there_is_a_package_without_labels(tmp_path, prepare_edf, capfd):
    """Windows without votes are items all the same; what would need votes is not made, and that is said."""
    write_edf(tmp_path / "a.edf", noise(N_60_S))
    run = prepare_edf(tmp_path, "stages=[scalograms,waveforms,labels,splits,quality,summary]")
    assert run.meta["item_id"].tolist() == ["a_0"]
    assert set(run.manifest["stages"]) >= {"scalograms", "waveforms", "quality", "meta"}
    assert not {"labels", "splits", "summary"} & set(run.manifest["stages"])
    assert "has no votes: labels, splits, summary are not made" in capfd.readouterr().err
    with pytest.raises(ConfigError, match=r"has no data_package/labels\.npz"):
        _ = run.labels


def test_labels_alone_are_refused_without_votes(tmp_path, prepare_edf):
    """Nothing would be left to make."""
    write_edf(tmp_path / "a.edf", noise(N_60_S))
    with pytest.raises(ConfigError, match="has no votes, but labels needs them"):
        prepare_edf(tmp_path, "stages=[labels]")


WITH_VOTES = "recording,patient_id,start_s,seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recording,patient_id\na,p\n", "lacks column 'start_s'"),
        ("recording,patient_id,start\na,p,0\n", r"lacks column 'start_s' \(did you mean 'start'\?\)"),
        ("recording,patient_id,start_s\n", "has no windows"),
        ("", "has no windows"),
        ("recording,patient_id,start_s\na,p,nan\n", r"column 'start_s' must hold seconds.*line 2 has 'nan'"),
        ("recording,patient_id,start_s\na,p,\n", "line 2 has ''"),
        ("recording,patient_id,start_s\na,p,-3\n", "line 2 has '-3'"),
        ("recording,patient_id,start_s\na,p,0\na,p,0.0\n", "line 3 repeats a at 0 s"),
        ("recording,patient_id,start_s\na,p,0\na,q,50\n", "recording 'a' belongs to patient 'p'"),
        ("recording,patient_id,start_s\na,,0\n", "column 'patient_id' is empty in line 2"),
        ("recording,patient_id,start_s\na,p\n", "the header has 3 columns, but line 2 has 2"),
        (
            "recording,patient_id,start_s,seizure_vote,other_vote\na,p,0,1,2\n",
            r"lacks columns 'lpd_vote', .*'grda_vote'; labels.classes=\[seizure,other\] takes the votes",
        ),
        (
            f"{WITH_VOTES}\n\na,p,0,1,0,0,0,0,0\na,p,9,-1,0,0,0,0,0\n",
            "'seizure_vote' must .* line 4 has '-1'",
        ),
        ("recording,recording,patient_id,start_s\na,a,p,0\n", "column 'recording' appears 2 times"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, message):
    """One message, naming the column as the table spells it, and the line."""
    path = tmp_path / "windows.csv"
    path.write_text(text)

    def read() -> None:
        table = windows_of_files(read_windows(path), ["a.edf"])
        windows_from_rows(table.rows, path, SIX, Patients(table.patients or {}, ""), lines=table.lines)

    with pytest.raises(ConfigError, match=message):
        read()


def test_a_table_that_is_not_there_is_refused(tmp_path, prepare_edf):
    """The message names the path that was looked for."""
    with pytest.raises(ConfigError, match=r"none\.csv: cannot be read"):
        prepare_edf(tmp_path, "data.windows=none.csv")


# --- recordings that cannot be used --------------------------------------------------------------


def wrong_header_length(path: Path) -> None:
    patched(write_edf(path, noise(N_60_S)), 184, "9999", 8)
    path.write_bytes(path.read_bytes()[:-1])


def no_number_of_signals(path: Path) -> None:
    patched(write_edf(path, noise(N_60_S)), 252, "many", 4)


def one_physical_value(path: Path) -> None:
    write_edf(path, noise(N_60_S))
    for name in ("physical_min", "physical_max"):
        patched(path, field_at(20, name, 0), "5", 8)


def no_unit(path: Path) -> None:
    patched(write_edf(path, noise(N_60_S)), field_at(20, "unit", 0), "", 8)


def strange_unit(path: Path) -> None:
    patched(write_edf(path, noise(N_60_S)), field_at(20, "unit", 0), "degC", 8)


def unit_that_steers_a_terminal(path: Path) -> None:
    patched(write_edf(path, noise(N_60_S)), field_at(20, "unit", 0), "\x1b[2J", 8)


def interrupted(path: Path) -> None:
    import edfio

    write_edf(path, noise(N_60_S), annotations=[edfio.EdfAnnotation(1, None, "x")])
    data = patched(path, 192, "EDF+D", 5).read_bytes()
    path.write_bytes(data.replace(b"+59\x14\x14", b"?59\x14\x14"))


def other_text(path: Path) -> None:
    path.write_text("not a recording")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_eeg(path: Path) -> None:
    write_edf(path, {"Resp": np.zeros(N_60_S) + 1, "SpO2": np.zeros(N_60_S) + 97})


def too_short(path: Path) -> None:
    write_edf(path, noise(8 * 200))


UNUSABLE = {
    wrong_header_length: "states its own length as 9999 bytes; 20 signals take 5376",
    no_number_of_signals: "the EDF header is damaged",
    one_physical_value: "channel 'Fp1': physical minimum equals physical maximum (5)",
    no_unit: "channel 'Fp1': no unit is stated; data.unit says which",
    strange_unit: "channel 'Fp1': its unit is 'degC'",
    unit_that_steers_a_terminal: r"its unit is '\x1b[2J'",
    interrupted: "a data record does not say when it begins",
    other_text: "the file is not EDF or BDF",
    empty: "the file is empty",
    no_eeg: "it has none of the known names",
    too_short: "a window of 10 s does not fit into the recording, which lasts 8 s; window.start_s",
}


def test_a_recording_that_cannot_be_used_is_one_row_with_the_reason(tmp_path, prepare_edf):
    """The others go on."""
    write_edf(tmp_path / "good.edf", noise(N_60_S))
    for spoil in UNUSABLE:
        spoil(tmp_path / f"{spoil.__name__}.edf")
    run = prepare_edf(tmp_path, "max_failed_share=1")
    assert run.meta["item_id"].tolist() == ["good_0"]
    found = reasons(run)
    assert len(found) == len(UNUSABLE)
    for spoil, reason in UNUSABLE.items():
        assert reason in found[f"{spoil.__name__}_0"]


def test_a_window_outside_and_an_unknown_recording_are_one_row_each(tmp_path, prepare_edf):
    """Rows of the table that nothing stands behind are left out with the reason."""
    write_edf(tmp_path / "a.edf", noise(N_60_S))
    rows = "recording,patient_id,start_s\na,p,0\na,p,55\nb,q,0\n"
    (tmp_path / "windows.csv").write_text(rows)
    run = prepare_edf(tmp_path, "data.windows=windows.csv")
    assert run.meta["item_id"].tolist() == ["a_0"]
    assert reasons(run) == {
        "a_1": "the window ends at 85 s but the recording lasts 60 s",
        "b_0": "the recording's file is missing",
    }


def test_data_unit_stands_in_for_a_unit_that_is_not_stated(tmp_path):
    """A file without units whose numbers are mV."""
    path = patched(write_edf(tmp_path / "a.edf", {"Fp1": np.full(N_60_S, 0.5)}, limit=1.0), 256 + 96, "", 8)
    np.testing.assert_allclose(opened(path, unit="mV").read(0, 10, ("Fp1",)), 500, atol=0.05)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.root=null",), "data.root is needed"),
        (("data.root=nowhere",), "data.root=nowhere is neither a folder nor a "),
        (("data.step_s=0",), "data.step_s=0"),
        (("data.unit=kV",), "data.unit=kV"),
        (("data.missing=guess",), "data.missing=guess"),
        (("data.block_s=20",), r"data.block_s=20 is too short for windows of 10 s"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path, outputs, overrides, message):
    """Before any file is read."""
    write_edf(tmp_path / "a.edf", noise(N_60_S))
    base = [f"data.root={tmp_path}"] if not overrides[0].startswith("data.root") else []
    with pytest.raises(ConfigError, match=message):
        hms.run(hms.compose("data=edf", *base, f"outputs_dir={outputs}", *overrides))


def test_a_folder_without_recordings_is_refused(tmp_path, prepare_edf):
    """The message names the folder and the endings looked for."""
    with pytest.raises(ConfigError, match=r"has no \.edf or \.bdf file"):
        prepare_edf(tmp_path)


def test_a_source_whose_settings_are_not_a_sources_is_refused():
    """Reading needs aliases, the policy for missing channels and the block of every source."""
    assert issubclass(Edf, SourceParams)
