"""Recordings in the formats that MNE reads: the same numbers as from EDF, and what cannot be read."""

import os

import mne
import numpy as np
import pytest

import hms
from hms.errors import ConfigError, Unusable
from hms.sources.edf import EdfRecording
from hms.sources.files import place_of
from hms.sources.mne.files import files_of, is_recording, place_of_files
from hms.sources.mne.recording import MneRecording
from tests.recordings import noise, write_brainvision, write_edf, write_eeglab

ALIASES = {"T7": "T3"}


def opened(path, **options):
    files = files_of(str(path))
    return MneRecording(place_of_files("r", str(path), files), ALIASES, files, **options)


def quantised(signals, limit=1000.0):
    """Return signals as 16 bits of an EDF file hold them, so that formats can be equal."""
    step = 2 * limit / 65535
    return {name: np.round((x + limit) / step) * step - limit for name, x in signals.items()}


@pytest.mark.parametrize("sfreq", [200, 256, 500])
def test_every_format_gives_what_edf_gives(tmp_path, sfreq):
    """The same samples in EDF, BrainVision, EEGLAB and FIF, also where they are resampled."""
    signals = quantised(noise(60 * sfreq, names=("Fp1", "F7", "T7")))
    edf = write_edf(tmp_path / "a.edf", signals, sfreq=sfreq)
    names = ("Fp1", "F7", "T3")
    wanted = EdfRecording(place_of("a", str(edf)), aliases=ALIASES).read(-50, 12_050, names)
    raw = mne.io.RawArray(
        np.stack(list(signals.values())) * 1e-6, mne.create_info(list(signals), sfreq, "eeg"), verbose="error"
    )
    raw.save(tmp_path / "a_raw.fif", fmt="double", verbose="error")
    for path in (
        write_brainvision(tmp_path / "b.vhdr", signals, sfreq=sfreq),
        write_eeglab(tmp_path / "c.set", signals, sfreq=sfreq),
        tmp_path / "a_raw.fif",
    ):
        recording = opened(path)
        assert recording.n_samples == 12_000
        found = recording.read(-50, 12_050, names)
        np.testing.assert_allclose(found, wanted, atol=1e-3)
        assert np.isnan(found[:, :50]).all()


@pytest.mark.slow
def test_a_run_of_brainvision_files_equals_one_of_edf(tmp_path):
    signals = quantised(noise(60 * 200))
    waves = []
    for kind, write, name in (("edf", write_edf, "r.edf"), ("mne", write_brainvision, "r.vhdr")):
        folder = tmp_path / kind
        folder.mkdir()
        write(folder / name, signals)
        run = hms.run(
            hms.compose(
                f"data={kind}",
                f"data.root={folder}",
                "data.patient=file",
                "stages=[waveforms]",
                f"outputs_dir={tmp_path / 'o'}",
                "n_jobs=1",
            )
        )
        waves.append(run.wave(run.meta["item_id"].iloc[0]))
    np.testing.assert_allclose(waves[0], waves[1], atol=1e-3)


def test_a_recording_is_all_of_its_files(tmp_path):
    path = write_brainvision(tmp_path / "r.vhdr", noise(2000, names=("Fp1",)))
    (tmp_path / "r.json").write_text("{}")
    (tmp_path / "other.eeg").write_bytes(b"")
    names = [os.path.basename(name) for name in files_of(str(path))]
    assert names == ["r.eeg", "r.vhdr", "r.vmrk"]
    before = opened(path).digest_of(""), place_of_files("r", str(path), files_of(str(path)))
    data = np.fromfile(tmp_path / "r.eeg", "<f4")
    data[7] += 1
    data.tofile(tmp_path / "r.eeg")
    os.utime(tmp_path / "r.eeg", ns=(1, 1))
    after = opened(path).digest_of(""), place_of_files("r", str(path), files_of(str(path)))
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_data_file_of_a_header_is_no_recording_of_its_own():
    assert not is_recording("a/r.eeg", ["r.eeg", "R.vhdr"])
    assert is_recording("a/r.vhdr", ["r.eeg", "r.vhdr"])
    assert not is_recording("a/notes.txt", [])


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path):
    recording = opened(write_brainvision(tmp_path / "r.vhdr", noise(2000, names=("Fp1",))))
    recording.read(0, 10, ("Fp1",))
    os.utime(tmp_path / "r.eeg", ns=(1, 1))
    with pytest.raises(Unusable, match="changed while it was read") as caught:
        recording.read(0, 10, ("Fp1",))
    assert not caught.value.permanent


def test_the_rate_is_that_of_the_file(tmp_path):
    slow = opened(write_brainvision(tmp_path / "r.vhdr", noise(2000, names=("Fp1", "F7")), sfreq=50))
    assert slow.rates_hz == (50, 50)
    assert slow.notes == (("slow", "EEG is sampled at 50 Hz and holds nothing above 25 Hz"),)


def test_interruptions_are_stretches(tmp_path):
    marks = "Mk1=New Segment,,1,1,0\nMk2=New Segment,,1001,1,0\n"
    recording = opened(write_brainvision(tmp_path / "r.vhdr", noise(2000, names=("Fp1",)), marks=marks))
    assert recording.stretches == ((0, 1000), (1000, 2000))
    plain = opened(write_brainvision(tmp_path / "s.vhdr", noise(2000, names=("Fp1",))))
    assert plain.stretches == ()


def test_skipped_stretches_of_fif_files_are_gaps(tmp_path):
    raw = mne.io.RawArray(np.zeros((1, 4000)), mne.create_info(["Fp1"], 200, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations([5], [2.5], ["BAD_ACQ_SKIP"]))
    raw.save(tmp_path / "r_raw.fif", verbose="error")
    assert opened(tmp_path / "r_raw.fif").stretches == ((0, 1000), (1500, 4000))


def test_annotations_are_events_from_the_first_sample(tmp_path):
    """A recording that was cut keeps its clock; its annotations count from its own first sample."""
    raw = mne.io.RawArray(np.zeros((1, 8000)), mne.create_info(["Fp1"], 200, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations([20, 30], [5, 0], ["sz", "spike"]))
    raw.crop(tmin=10).save(tmp_path / "r_raw.fif", verbose="error")
    events = opened(tmp_path / "r_raw.fif").events()
    assert [(event.start_s, event.stop_s, event.label) for event in events] == [
        (10, 15, "sz"),
        (20, None, "spike"),
    ]


def test_channels_marked_as_bad_are_dead_unless_they_are_kept(tmp_path):
    signals = noise(2000, names=("Fp1", "F7"))
    raw = mne.io.RawArray(
        np.stack(list(signals.values())) * 1e-6, mne.create_info(list(signals), 200, "eeg"), verbose="error"
    )
    raw.info["bads"] = ["F7"]
    raw.save(tmp_path / "r_raw.fif", verbose="error")
    dead = opened(tmp_path / "r_raw.fif").read(0, 100, ("Fp1", "F7"))
    assert np.isfinite(dead[0]).all()
    assert np.isnan(dead[1]).all()
    assert np.isfinite(opened(tmp_path / "r_raw.fif", keeps_bad=True).read(0, 100, ("F7",))).all()


def test_a_channel_in_another_unit_is_refused_when_it_is_needed(tmp_path):
    info = mne.create_info(["Fp1", "F7"], 200, ["eeg", "temperature"])
    mne.io.RawArray(np.zeros((2, 400)), info, verbose="error").save(tmp_path / "r_raw.fif", verbose="error")
    recording = opened(tmp_path / "r_raw.fif")
    recording.read(0, 10, ("Fp1",))
    with pytest.raises(Unusable, match="channel 'F7': MNE does not give it in volts"):
        recording.read(0, 10, ("F7",))


def test_large_offsets_are_taken_off_before_float32(tmp_path):
    """200 mV in float32 is 0.008 µV off; a constant less is exact to 1e-5."""
    signals = noise(4000, names=("Fp1",))
    x = signals["Fp1"]
    info = mne.create_info(["Fp1"], 200, "eeg")
    mne.io.RawArray((x[None] + 200_000) * 1e-6, info, verbose="error").save(
        tmp_path / "r_raw.fif", fmt="double", verbose="error"
    )
    found = opened(tmp_path / "r_raw.fif").read(0, 4000, ("Fp1",))[0]
    difference = found - x
    np.testing.assert_allclose(difference, difference[0], atol=2e-5)
    assert abs(difference[0]) < 100


def test_what_readers_print_stays_out_of_the_output(tmp_path, capsys, monkeypatch):
    """Some readers print remarks, and one prints birth dates."""
    path = write_brainvision(tmp_path / "r.vhdr", noise(2000, names=("Fp1",)))
    recording = opened(path)
    get_data = type(recording.raw).get_data

    def chatty(*arguments, **options):
        print("birthdate 1.1.1970")
        return get_data(*arguments, **options)

    monkeypatch.setattr(type(recording.raw), "get_data", chatty)
    recording.read(0, 10, ("Fp1",))
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_fails_at_samples_is_a_reason(tmp_path, monkeypatch):
    recording = opened(write_brainvision(tmp_path / "r.vhdr", noise(2000, names=("Fp1",))))

    def broken(*arguments, **options):
        raise AssertionError((500, 496))

    monkeypatch.setattr(type(recording.raw), "get_data", broken)
    with pytest.raises(Unusable, match=r"MNE cannot read its samples: \(500, 496\)"):
        recording.read(0, 10, ("Fp1",))


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("r.vhdr", b"nothing", "MNE cannot read it"),
        ("r.set", b"nothing", "MNE cannot read it"),
        ("r_raw.fif", b"nothing at all, but long enough to be looked at", "cannot read it|cannot be read"),
        ("r.gdf", b"GDF 2.20", "MNE cannot read it"),
    ],
)
def test_what_mne_cannot_read_is_told_in_its_words(tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Unusable, match=text) as caught:
        opened(tmp_path / name).n_samples  # noqa: B018
    assert "site-packages" not in caught.value.reason
    assert "\n" not in caught.value.reason


def test_a_missing_data_file_is_named(tmp_path):
    path = write_brainvision(tmp_path / "r.vhdr", noise(2000, names=("Fp1",)))
    (tmp_path / "r.eeg").unlink()
    with pytest.raises(Unusable, match=r"a file of the recording is missing: 'r\.eeg'") as caught:
        opened(path).n_samples  # noqa: B018
    assert not caught.value.permanent


def test_a_folder_of_other_things_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"has no .*it has 1 other file \(\.txt\)"):
        hms.run(hms.compose("data=mne", f"data.root={tmp_path}", f"outputs_dir={tmp_path / 'o'}"))


def test_one_bad_file_does_not_stop_the_others(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    write_brainvision(folder / "good.vhdr", noise(60 * 200))
    write_edf(folder / "also.edf", noise(60 * 200, seed=1))
    (folder / "bad.set").write_bytes(b"nothing")
    run = hms.run(
        hms.compose(
            "data=mne",
            f"data.root={folder}",
            "data.patient=file",
            "stages=[waveforms]",
            f"outputs_dir={tmp_path / 'o'}",
            "n_jobs=1",
        )
    )
    assert sorted(run.meta["recording"]) == ["also.edf", "good.vhdr"]
    assert run.excluded["reason"].tolist()[0].startswith("MNE cannot read it")
