"""EDF and BDF files as software writes them: what is understood, what is mended, what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edf_files import AMPLITUDE_UV, STEP_UV, EdfFile, tone, tones
from numpy.typing import NDArray

from hms.competition import EEG_CHANNELS
from hms.errors import Unusable
from hms.sources.base import Reader, stretch_of
from hms.sources.edf import EdfRecording
from hms.sources.files import place_of

OLD = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
N_60_S = 12_000


def opened(path: Path, **settings: Any) -> EdfRecording:
    return EdfRecording(place_of("it", str(path)), **{"aliases": OLD, "block_s": 120.0, **settings})


def made(tmp_path: Path, **changes: Any) -> EdfRecording:
    return opened(EdfFile(**changes).write(tmp_path / "it.edf"))


def expected(number: int, start: int, stop: int) -> NDArray[np.float64]:
    """Return an electrode's samples at 200 Hz."""
    return tone(number, stop, 200)[start:]


def check_tones(recording: EdfRecording, *, n_samples: int = N_60_S, atol: float = STEP_UV) -> None:
    """Compare every electrode with its sine, in µV."""
    assert recording.n_samples == n_samples
    found = recording.read(0, n_samples, recording.channels)
    for row, key in zip(found, recording.channels, strict=True):
        number = EEG_CHANNELS.index(recording.named.keyed[key].name)
        # Resampling has nothing beyond the ends to go by.
        np.testing.assert_allclose(row[200:-200], expected(number, 200, n_samples - 200), atol=atol)


# --- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, None),
        ({"fill": b"\0"}, "zero bytes for spaces"),
        ({"version": "20160817"}, "version is not 0"),
        ({"version": "EDF"}, "version is not 0"),
        ({"digital": ("-32768.0", "32767.0")}, "whole numbers with decimals"),
        ({"physical": ("-1000,0", "1000,0")}, "decimal commas"),
        ({"duration": "1,0"}, "decimal commas"),
        ({"n_records": "60.0"}, "whole numbers with decimals"),
        ({"n_bytes": 4000}, "wrong length of its own"),
        ({"after": b"\0" * 777}, "zeros follow"),
        ({"n_records": -1}, None),
        ({"patient": b"M\xfcller\xff", "recording": b"\xe6\x82\xa3\xe8\x80\x85"}, None),
        ({"duration": "1.000000"}, None),
    ],
)  # fmt: skip
def test_a_header_is_read_as_it_is_meant_and_what_was_mended_is_noted(tmp_path, changes, note):
    """Every sample is what it is in a file without blemish."""
    recording = made(tmp_path, **changes)
    check_tones(recording)
    texts = [text for _, text in recording.notes]
    assert [note in text for text in texts] == ([] if note is None else [True])


@pytest.mark.parametrize(
    "unit",
    [b"\xb5V", b"\xc2\xb5V", b"\xce\xbcV", b"\xecV", b"\x83\xcaV", "UV", "uVolts", "MicroVol", b"uV\0\0\0"],
)
def test_a_microvolt_is_understood_in_any_encoding(tmp_path, unit):
    check_tones(made(tmp_path, unit=unit))


@pytest.mark.parametrize(("unit", "factor"), [("mV", 1e3), ("V", 1e6), ("nV", 1e-3)])
def test_other_units_become_microvolt(tmp_path, unit, factor):
    limit = f"{1000 / factor:.10g}"
    check_tones(made(tmp_path, eeg=tones() / factor, physical=(f"-{limit}", limit), unit=unit))


def test_a_reversed_range_changes_the_sign_as_in_mne(tmp_path):
    """Physical minimum above the maximum, or digital; both reversed are as none."""
    mne = pytest.importorskip("mne")
    for name, reversed_ in {"physical": (1000, -1000), "digital": (32767, -32768)}.items():
        path = EdfFile(**{name: reversed_}).write(tmp_path / f"{name}.edf")
        found = opened(path).read(0, N_60_S, EEG_CHANNELS)
        theirs = mne.io.read_raw_edf(path, verbose="error").get_data() * 1e6
        np.testing.assert_allclose(found, theirs, atol=4e-4)
    # The writer applies the range that it states, so the signal is the one that was meant.
    check_tones(opened(tmp_path / "physical.edf"))
    assert any("reversed" in text for _, text in opened(tmp_path / "physical.edf").notes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_bytes": 4000, "after": b"x"}, "states its own length as 4000 bytes; 19 signals take 5120"),
        ({"duration": "0"}, "a duration must be above 0"),
        ({"duration": "-1"}, "a duration must be above 0"),
        ({"duration": "soon"}, "'soon' is no duration"),
        ({"n_records": "many"}, "its number of data records is 'many', no number"),
        ({"n_records": "1.5"}, "its number of data records is 1.5, no whole number"),
        ({"n_records": -3}, "its header states -3 data records"),
        ({"per_record": 0, "eeg": tones()[:, :0]}, "states no samples in a data record"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, changes, reason):
    if changes.get("per_record") == 0:
        path = EdfFile().write(tmp_path / "it.edf")
        data = path.read_bytes()
        at = 256 + 216 * len(EEG_CHANNELS)
        path.write_bytes(data[:at] + b"0       " * len(EEG_CHANNELS) + data[at + 8 * len(EEG_CHANNELS) :])
        recording = opened(path)
    else:
        recording = made(tmp_path, **changes)
    with pytest.raises(Unusable, match=reason):
        _ = recording.n_samples


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "is not EDF or BDF"),
        (b"\x1f\x8b" + b"\0" * 500, "compressed"),
        (b"\x89HDF" + b"x" * 500, "is not EDF or BDF"),
        (b"PK\x03\x04" + b"x" * 500, "a zip archive; unpack it"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid x",
            "is a Git LFS pointer; git lfs pull gets the file",
        ),
        (b"/annex/objects/MD5E-s1--0.edf\n", "is a git-annex pointer; git annex get gets the file"),
        (EdfFile().to_bytes()[:3000], "the file ends within its header, after 3000 of 5120 bytes"),
        (EdfFile().to_bytes()[:5120], "the file has no data: its header states 60 data records, it holds 0"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, content, reason):
    path = tmp_path / "it.edf"
    path.write_bytes(content)
    with pytest.raises(Unusable, match=reason):
        _ = opened(path).n_samples


@pytest.mark.parametrize(("rate", "noted"), [(32, True), (79, True), (80, False), (200, False)])
def test_eeg_of_a_low_rate_is_said_to_hold_less(tmp_path, rate, noted):
    """A belt beside it may be as slow as it likes."""
    recording = made(tmp_path, eeg=tones()[:, : 60 * rate], per_record=rate)
    text = f"EEG is sampled at {rate} Hz and holds nothing above {rate / 2:g} Hz"
    assert recording.notes == ((("slow", text),) if noted else ())
    belt = made(tmp_path, eeg=tones()[:1, : 60 * rate], per_record=rate, labels=["Thorax"])
    assert belt.notes == ()


@pytest.mark.parametrize("is_bdf", [False, True])
def test_a_range_that_signed_samples_cannot_have_is_not_guessed_at(tmp_path, is_bdf):
    """65,535 would be right for unsigned samples; one more than the largest is a slip of whoever wrote it."""
    largest, bdf = 1 << (23 if is_bdf else 15), {"sample_bytes": 3, "version": b"\xffBIOSEMI"}
    for top, is_read in ((largest, True), (2 * largest - 1, False)):
        recording = made(tmp_path, digital=(0, top), **(bdf if is_bdf else {}))
        if is_read:
            assert np.isfinite(recording.read(0, 200, ("Fp1",))).all()
        else:
            with pytest.raises(Unusable, match=f"'Fp1': its digital range 0 to {top} goes beyond {largest}"):
                recording.read(0, 200, ("Fp1",))


def test_a_channel_that_cannot_be_scaled_concerns_only_who_needs_it(tmp_path):
    """Dummy channels with a range of zero stand beside the EEG."""
    labels = [*EEG_CHANNELS[:3], "-", "--0"]
    recording = made(
        tmp_path,
        eeg=tones(n=5),
        labels=labels,
        unit=["uV"] * 3 + ["", "degC"],
    )
    found = recording.read(0, 400, EEG_CHANNELS[:3])
    np.testing.assert_allclose(found[1], expected(1, 0, 400), atol=STEP_UV)
    with pytest.raises(Unusable, match=r"channel '-': no unit is stated; data\.unit says"):
        recording.read(0, 400, ("-",))
    assert recording.named.unknown == ("-", "--0")


# --- lengths -------------------------------------------------------------------------------------


def test_a_recording_whose_end_was_cut_keeps_its_whole_records(tmp_path):
    path = EdfFile().write(tmp_path / "it.edf")
    path.write_bytes(path.read_bytes()[:-300])
    recording = opened(path)
    check_tones(recording, n_samples=59 * 200)
    assert recording.notes == (("cut", "the end is cut: 59 of 60 data records are there"),)


def test_minus_one_record_is_as_many_as_there_are(tmp_path):
    path = EdfFile(n_records=-1).write(tmp_path / "it.edf")
    path.write_bytes(path.read_bytes()[:-300])
    recording = opened(path)
    check_tones(recording, n_samples=59 * 200)
    assert recording.notes[0][0] == "cut"


@pytest.mark.parametrize("n_more", [1, 7_599, 7_600, 456_000])
def test_a_file_longer_than_its_header_states_is_refused_with_both_numbers(tmp_path, n_more):
    """Text that replaced line ends makes a file longer, by however little."""
    recording = made(tmp_path, after=b"\x01" * n_more)
    with pytest.raises(Unusable, match=rf"60 data records take 456000 bytes, {456_000 + n_more} are there"):
        _ = recording.n_samples


def test_no_record_stated_but_some_there_is_refused_in_its_own_words(tmp_path):
    with pytest.raises(Unusable, match=r"states no data record \(0\).*never closed.*write -1 or 60"):
        _ = made(tmp_path, n_records=0).n_samples


# --- rates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_record", "duration", "sfreq"),
    [
        (250, "0.976562", 256.0),
        (100, "0.333333", 300.0),
        (307, "9.59375", 32.0),
        (2048, "1", 2048.0),
        (100, "1", 100.0),
        (24986, "100", 249.86),
        (600615, "1000", 600.615),
    ],
)
def test_any_sampling_rate_is_read_and_a_rounded_one_for_what_it_rounds(
    tmp_path, per_record, duration, sfreq
):
    """A slow sine is what it is at 200 Hz, to the file's own step, after a minute as after a second."""
    length_s = max(80, per_record / sfreq)
    n_samples = int(length_s * sfreq) // per_record * per_record
    at = np.arange(n_samples) / sfreq
    recording = made(
        tmp_path,
        eeg=AMPLITUDE_UV * np.sin(2 * np.pi * 3.5 * at)[None],
        labels=["Fp1"],
        per_record=per_record,
        duration=duration,
    )
    assert recording.n_samples == int(n_samples / sfreq * 200 + 1e-6)
    stop = min(recording.n_samples, 16_000)
    found = recording.read(0, stop, ("Fp1",))[0]
    wanted = AMPLITUDE_UV * np.sin(2 * np.pi * 3.5 * np.arange(stop) / 200)
    np.testing.assert_allclose(found[500:-500], wanted[500:-500], atol=1.2 * STEP_UV)


# --- offsets -------------------------------------------------------------------------------------


def test_an_offset_of_200_mv_is_taken_off_before_float32(tmp_path):
    """Float32 at 200,000 µV has steps of 0.016 µV; the signal keeps those of the file, 0.0015 µV."""
    eeg = tones(n=3)
    eeg[:2] += 200_000
    recording = made(
        tmp_path, eeg=eeg, labels=EEG_CHANNELS[:3], sample_bytes=3,
        physical=(-262_144, 262_144), digital=(-8_388_608, 8_388_607), version=b"\xffBIOSEMI",
    )  # fmt: skip
    step = 2 * 262_144 / (2**24 - 1)
    found = recording.read(0, N_60_S, EEG_CHANNELS[:3]).astype(np.float64)
    for number in range(3):
        error = found[number] - expected(number, 0, N_60_S)
        assert np.ptp(error) < 1.01 * step
        assert abs(error.mean()) < (1 if number < 2 else step) * 60
    # The constant is a whole number of µV, the same for every piece of the file.
    assert np.array_equal(found[:, 5000:6000], recording.read(5000, 6000, EEG_CHANNELS[:3]))
    assert [flag for flag, _ in recording.notes] == ["offset"]


def test_small_offsets_stay(tmp_path):
    """Up to 4 mV float32 is exact enough, and the level is part of what was recorded."""
    recording = made(tmp_path, eeg=tones(n=1) + 3000, labels=["Fp1"], physical=(-9000, 9000))
    found = recording.read(0, N_60_S, ("Fp1",))[0]
    np.testing.assert_allclose(found, 3000 + expected(0, 0, N_60_S), atol=18_000 / 65_535)


# --- annotations and interruptions ---------------------------------------------------------------


@pytest.mark.parametrize("annotations_first", [False, True])
@pytest.mark.parametrize("reserved", ["EDF+C", "EDF+D"])
def test_an_uninterrupted_file_is_one_stretch_wherever_its_annotations_stand(
    tmp_path, reserved, annotations_first
):
    recording = made(
        tmp_path, reserved=reserved, onset=lambda number: number, annotations_first=annotations_first
    )
    check_tones(recording)
    assert recording.stretches == ((0, N_60_S),)
    assert recording.channels == EEG_CHANNELS
    assert recording.annotation_lists()[3].startswith(b"+3\x14\x14")


def interrupted(tmp_path: Path) -> EdfRecording:
    """Return 60 s, 300 s of nothing, and 60 s; the signals go on where they were."""
    return made(tmp_path, eeg=tones(120), reserved="EDF+D", onset=lambda n: 0.25 + (n if n < 60 else n + 300))


def test_a_window_longer_than_every_stretch_is_told_the_longest(tmp_path):
    """The recording lasts 130 s, 60 of them without interruption."""
    recording = made(tmp_path, eeg=tones(80), reserved="EDF+D", onset=lambda n: n if n < 60 else n + 50)
    with pytest.raises(Unusable, match="lasts 130 s but at most 60 s without interruption"):
        stretch_of(recording, -10.0, -2000, 14_000, 70.0)


def test_an_interruption_is_where_the_onsets_say(tmp_path):
    """Seconds are those of the clock; a sample behind the gap is the one recorded there."""
    recording = interrupted(tmp_path)
    assert recording.stretches == ((0, 12_000), (72_000, 84_000))
    assert recording.n_samples == 84_000
    found = recording.read(0, 84_000, ("Fp1", "F3"))
    np.testing.assert_allclose(found[1, :12_000], expected(1, 0, 12_000), atol=STEP_UV)
    np.testing.assert_allclose(found[1, 72_000:], expected(1, 12_000, 24_000), atol=STEP_UV)
    assert np.isnan(found[:, 12_000:72_000]).all()


@pytest.mark.parametrize("block_s", [None, 30.0, 120.0])
def test_a_window_lies_in_one_stretch_or_is_left_out_by_name(tmp_path, block_s):
    """Its context ends where the stretch does, in blocks as alone."""
    reader = Reader(interrupted(tmp_path), 10.0, 8.0, ("Fp1", "F7"), block_s)
    for start_s, outside in ((5, (600, 0)), (45, (0, 600)), (365, (600, 0)), (380, (0, 0))):
        segment = reader.segment(start_s)
        assert segment.n_outside == outside
        assert np.isnan(segment.eeg[:, : outside[0]]).all()
        assert np.isfinite(segment.eeg[:, segment.inside]).all()
    for start_s in (55, 100, 355):
        with pytest.raises(
            Unusable, match="meets the interruption of the recording from 60 s to 360 s"
        ) as why:
            reader.segment(start_s)
        assert not why.value.failure


def test_records_out_of_order_are_refused(tmp_path):
    recording = made(tmp_path, reserved="EDF+D", onset=lambda n: n if n < 30 else n - 2)
    with pytest.raises(
        Unusable, match=r"data records overlap: number 31 begins at 28 s, the one before ends at 30 s"
    ):
        _ = recording.n_samples


def test_annotations_alone_are_no_recording(tmp_path):
    """A hypnogram has no signal, and no length of its records."""
    path = EdfFile(
        eeg=np.zeros((0, 200)), labels=[], duration="0", reserved="EDF+C", onset=lambda n: n
    ).write(tmp_path / "it.edf")
    recording = opened(path)
    assert recording.holds_annotations_alone
    assert recording.annotation_lists()[0].startswith(b"+0\x14\x14")
    with pytest.raises(Unusable, match="annotations alone"):
        _ = recording.n_samples


# --- one read ------------------------------------------------------------------------------------


def test_what_is_decoded_was_digested(tmp_path):
    """Samples come from the bytes of the digest, though the file is replaced in between."""
    path = EdfFile().write(tmp_path / "it.edf")
    recording = opened(path)
    digest = recording.digest_of("0")
    EdfFile(eeg=-tones()).write(tmp_path / "other.edf")
    os.replace(tmp_path / "other.edf", path)
    found = recording.read(0, 1000, ("Fp1",))[0]
    np.testing.assert_allclose(found, expected(0, 0, 1000), atol=STEP_UV)
    assert opened(path).digest_of("0") != digest


def overwritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5000] ^= 1
    with path.open("r+b") as file:
        file.write(data)


def shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100_000)


@pytest.mark.parametrize("change", [overwritten, shorter])
@pytest.mark.parametrize("block_s", [None, 20.0])
def test_a_file_that_changes_under_the_reader_is_told(tmp_path, change: Callable[[Path], None], block_s):
    """Held bytes stay what they were; whatever is read later is refused, for this run."""
    path = EdfFile(eeg=tones(120)).write(tmp_path / "it.edf")
    recording = opened(path, block_s=block_s)
    if block_s is not None:
        recording.digest_of("0")
    else:
        _ = recording.n_samples
    os.utime(path, ns=(1, 1))
    change(path)
    with pytest.raises(Unusable, match="changed while it was read") as why:
        recording.read(20_000, 24_000, ("Fp1",))
    assert not why.value.permanent


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "the recording's file is missing"),
        (lambda path: path.symlink_to(".git/annex/objects/x"), "is a link to nothing; .*: git annex get"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (os.mkfifo, "is a folder, a pipe or a device, not a file"),
    ],
)
def test_what_is_no_file_is_told_and_never_waited_for(tmp_path, make, reason):
    path = tmp_path / "it.edf"
    make(path)
    with pytest.raises(Unusable, match=reason):
        opened(path)


# --- against an independent reader ---------------------------------------------------------------


@pytest.mark.parametrize("sample_bytes", [2, 3])
def test_samples_are_those_of_mne(tmp_path, sample_bytes):
    """Within 4e-4 µV, at 200 Hz, where nothing is resampled."""
    mne = pytest.importorskip("mne")
    rng = np.random.default_rng(0)
    limits = {2: (-32768, 32767), 3: (-8_388_608, 8_388_607)}[sample_bytes]
    path = EdfFile(
        eeg=50 * rng.standard_normal((19, 4000)),
        sample_bytes=sample_bytes,
        digital=limits,
        version="0" if sample_bytes == 2 else b"\xffBIOSEMI",
    ).write(tmp_path / ("it.edf" if sample_bytes == 2 else "it.bdf"))
    read = mne.io.read_raw_edf if sample_bytes == 2 else mne.io.read_raw_bdf
    theirs = read(path, stim_channel=False, verbose="error").get_data() * 1e6
    np.testing.assert_allclose(opened(path).read(0, 4000, EEG_CHANNELS), theirs, atol=4e-4)
