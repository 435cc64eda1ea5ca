"""The votes table: what is read, and what is refused with which message."""

import csv
import io
import time

import numpy as np
import pandas as pd
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from hms.competition import TRAIN_COLUMNS, VOTE_COLUMNS
from hms.errors import ConfigError
from hms.labels.classes import COMPETITION, SIX, Ballot, Classes
from hms.sources import tables
from hms.sources.archive import Folder
from hms.sources.tables import FRAME_COLUMNS, eeg_number, votes_from_csv, votes_from_frame

HEADER = ",".join(TRAIN_COLUMNS)
ROW_1 = "1628180742,0,0.0,353733,0,0.0,127492639,42516,Seizure,3,0,0,0,0,0"
ROW_2 = "1628180742,1,6.0,353733,1,6.0,3887563113,42516,Seizure,3,0,0,0,0,1"
ROW_3 = "2277392603,0,0.0,924234,0,0.0,1978807404,30539,GPD,0,0,5,0,1,5"
ROWS = (ROW_1, ROW_2, ROW_3)


def write(folder, *rows, header=HEADER, end="\n", encoding="utf-8"):
    path = folder / "train.csv"
    path.write_bytes((end.join((header, *rows)) + end).encode(encoding))
    return path


def read_votes(path, ballot=SIX, *, require_votes=True):
    """Return the checked table of a CSV file."""
    return votes_from_csv(path.read_bytes(), path, ballot, require_votes=require_votes)


def edited(row, **changes):
    """Return a row with some columns changed."""
    fields = dict(zip(TRAIN_COLUMNS, row.split(","), strict=True)) | changes
    return ",".join(fields.values())


def message(path, **options):
    with pytest.raises(ConfigError) as caught:
        read_votes(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_reads_the_competitions_layout(tmp_path):
    """Every value of three rows is where it belongs, with its dtype."""
    table = read_votes(write(tmp_path, *ROWS))
    frame = table.frame
    assert tuple(frame.columns) == (*FRAME_COLUMNS, *VOTE_COLUMNS)
    assert list(frame.index) == [0, 1, 2]
    assert list(frame["recording"]) == ["1628180742", "1628180742", "2277392603"]
    assert list(frame["eeg_id"]) == [1628180742, 1628180742, 2277392603]
    assert list(frame["patient_id"]) == ["42516", "42516", "30539"]
    assert list(frame["eeg_sub_id"]) == [0, 1, 0]
    assert list(frame["offset_s"]) == [0.0, 6.0, 0.0]
    assert list(frame["spectrogram_id"]) == ["353733", "353733", "924234"]
    assert list(frame["spectrogram_sub_id"]) == ["0", "1", "0"]
    assert list(frame["spectrogram_offset_s"]) == [0.0, 6.0, 0.0]
    assert list(frame["label_id"]) == ["127492639", "3887563113", "1978807404"]
    assert list(frame["expert_consensus"]) == ["Seizure", "Seizure", "GPD"]
    assert frame[list(VOTE_COLUMNS)].to_numpy().tolist() == [
        [3, 0, 0, 0, 0, 0],
        [3, 0, 0, 0, 0, 1],
        [0, 0, 5, 0, 1, 5],
    ]
    kinds = {name: frame[name].dtype for name in frame.columns}
    assert {kinds[name] for name in VOTE_COLUMNS} == {np.dtype("int32")}
    assert kinds["eeg_id"] == kinds["eeg_sub_id"] == np.dtype("int64")
    assert kinds["offset_s"] == kinds["spectrogram_offset_s"] == np.dtype("float64")
    assert kinds["recording"] == kinds["expert_consensus"] == np.dtype(object)
    assert table.has_votes


def test_digest_is_xxh3_128_of_the_bytes(tmp_path):
    path = write(tmp_path, *ROWS)
    assert read_votes(path).digest == xxhash.xxh3_128_hexdigest(path.read_bytes())
    assert read_votes(path).path == path


def test_mark_line_ends_extra_columns_order_and_blank_lines_do_not_matter(tmp_path):
    """The frame is the same however an editor or a spreadsheet saved the table."""
    plain = read_votes(write(tmp_path, *ROWS)).frame
    for end, encoding in (("\r\n", "utf-8"), ("\n", "utf-8-sig"), ("\r\n", "utf-8-sig"), ("\n\n", "utf-8")):
        saved = read_votes(write(tmp_path, *ROWS, end=end, encoding=encoding)).frame
        pd.testing.assert_frame_equal(saved, plain)
    wide = pd.read_csv(write(tmp_path, *ROWS), dtype=str)
    wide = wide.assign(note="a, b\nc", other="é")[["note", *reversed(TRAIN_COLUMNS), "other"]]
    path = tmp_path / "train.csv"
    wide.to_csv(path, index=False)
    found = read_votes(path).frame
    assert found[["note", "other"]].to_numpy().tolist() == [["a, b\nc", "é"]] * 3
    pd.testing.assert_frame_equal(found.drop(columns=["note", "other"]), plain)


def test_a_file_without_a_last_line_end_keeps_its_last_row(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("\n".join((HEADER, *ROWS)))
    assert len(read_votes(path).frame) == 3


def test_whole_numbers_may_be_written_as_decimals(tmp_path):
    """3.0, +3, ' 3' and 3e0 are three votes."""
    for text in ("3.0", "+3", " 3", "3e0", '"3"'):
        frame = read_votes(write(tmp_path, edited(ROW_1, lpd_vote=text))).frame
        assert frame["lpd_vote"][0] == 3


def test_optional_columns_may_be_missing_or_empty(tmp_path):
    """What the source lacks is missing, not invented."""
    needed = ["eeg_id", "eeg_sub_id", "eeg_label_offset_seconds", "patient_id", *VOTE_COLUMNS]
    path = write(tmp_path, *ROWS)
    pd.read_csv(path)[needed].to_csv(path, index=False)
    lacking = read_votes(path).frame
    changes = {"spectrogram_id": "", "spectrogram_sub_id": "", "label_id": "", "expert_consensus": ""}
    changes["spectrogram_label_offset_seconds"] = ""
    empty = read_votes(write(tmp_path, *(edited(row, **changes) for row in ROWS))).frame
    pd.testing.assert_frame_equal(lacking, empty)
    assert list(lacking["spectrogram_id"]) == [None] * 3
    assert list(lacking["expert_consensus"]) == [None] * 3
    assert np.isnan(lacking["spectrogram_offset_s"]).all()


def test_text_ids_and_leading_zeros_are_kept(tmp_path):
    """'0012' and '12' are two recordings."""
    rows = [edited(ROW_1, eeg_id=name, eeg_sub_id="0") for name in ("0012", "12", "night_3-b")]
    frame = read_votes(write(tmp_path, *rows)).frame
    assert list(frame["recording"]) == ["0012", "12", "night_3-b"]
    assert frame["eeg_id"][1] == 12
    assert frame["eeg_id"].is_unique
    assert (frame["eeg_id"][[0, 2]] < 0).all()


def test_eeg_number_is_the_number_itself_or_negative_and_never_changes():
    """The derived numbers are fixed here: they are written into files."""
    assert eeg_number("0") == 0
    assert eeg_number("9223372036854775807") == 2**63 - 1
    assert eeg_number("9223372036854775808") < 0
    assert eeg_number("007") < 0
    assert eeg_number("-5") < -5
    assert eeg_number("chb01_03") == -4192478342396624083


@given(st.text("abcXYZ019_-", min_size=1, max_size=30))
def test_eeg_number_fits_int64(name):
    assert -(2**63) <= eeg_number(name) < 2**63


def test_recordings_whose_numbers_collide_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "eeg_number", lambda name: 7)
    path = write(tmp_path, *ROWS)
    assert message(path) == "column 'eeg_id': '1628180742' and '2277392603' share the number 7; rename one"


# --- not a table ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (HEADER.encode(), "has a header but no rows"),
        (HEADER.encode() + b"\n\n", "has a header but no rows"),
        (b"PAR1\x15\x04\x15", "is a parquet file; the votes table is a CSV file"),
        (b"<!doctype html>", "has a header but no rows"),
        (b"eeg_id\n\xff\xfe", "is not UTF-8: line 2 has byte 0xff; save it as CSV in UTF-8"),
        (HEADER.encode("utf-16"), "is not UTF-8: line 1 has byte 0xff; save it as CSV in UTF-8"),
        (b"PK\x03\x04\x14\x00", "is an Excel workbook or a zip archive; the votes table is a CSV file"),
        (b"\x1f\x8b\x08\x00", "is compressed (gzip); the votes table is a CSV file"),
        (HEADER.encode() + b"\na,\0", "is not text: line 2 has a zero byte"),
    ],
)
def test_bytes_that_are_no_table_are_refused(tmp_path, data, text):
    path = tmp_path / "train.csv"
    path.write_bytes(data)
    assert message(path) == text


def test_a_folder_in_the_place_of_a_table_is_refused(tmp_path):
    (tmp_path / "train.csv").mkdir()
    with pytest.raises(ConfigError, match=r"train\.csv: is a folder, but the votes table must be a CSV file"):
        Folder(str(tmp_path)).table("train.csv")
    assert Folder(str(tmp_path)).table("no.csv") is None


def test_other_text_is_refused_with_what_was_found(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("<!doctype html>\n<html>Sign in</html>\n")
    assert message(path).startswith("lacks columns 'eeg_id', 'eeg_sub_id', ")
    assert message(path).endswith("; the header has <!doctype html>")
    path.write_text(HEADER.replace(",", ";") + "\n" + ROW_1.replace(",", ";") + "\n")
    assert message(path).endswith("its fields seem to be separated by ';', use commas")
    path.write_text(HEADER.replace(",", ";") + "\n" + ROW_1.replace(",", ";") + ",5\n")
    assert message(path) == (
        "the header has 1 column, but line 2 has 2; its fields seem to be separated by ';', use commas"
    )
    path.write_text("x" * 200_000 + "\n1\n")
    assert message(path) == "is not a table (field larger than field limit (131072))"


def test_an_unclosed_quote_is_refused(tmp_path):
    path = write(tmp_path, edited(ROW_1, expert_consensus='"Seizure'), ROW_3)
    assert message(path) == "the header has 15 columns, but line 2 has 9"


def test_ragged_rows_are_named_by_line(tmp_path):
    path = write(tmp_path, ROW_1, "", ROW_2 + ",7", "x", ROW_3)
    assert message(path) == "the header has 15 columns, but line 4 has 16, line 5 has 1"


def test_a_column_twice_in_the_header_is_refused(tmp_path):
    path = write(tmp_path, ROW_1 + ",2", header=HEADER + ",gpd_vote")
    assert message(path) == "column 'gpd_vote' appears 2 times in the header"


def test_a_missing_column_is_named_with_the_nearest_that_is_there(tmp_path):
    path = write(tmp_path, *ROWS, header=HEADER.replace("gpd_vote", "gpd_votes"))
    assert message(path).startswith(
        "lacks column 'gpd_vote' (did you mean 'gpd_votes'?); the header has eeg_id"
    )
    path = write(
        tmp_path, *ROWS, header=HEADER.replace("patient_id", "who").replace("eeg_sub_id", "EEG_sub_id")
    )
    assert message(path).startswith(
        "lacks columns 'eeg_sub_id' (did you mean 'EEG_sub_id'?), 'patient_id'; the header"
    )


# --- wrong values --------------------------------------------------------------------------------

COUNTS = "whole numbers from 0 to 1000000"
IDS = "ids of letters, digits, '_' and '-', at most 200 of them"


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        *(("lpd_vote", v, COUNTS) for v in ("-1", "", "nan", "inf", "three", "1000001", "0x3", "1_0")),
        ("eeg_sub_id", "-1", "whole numbers from 0 to 9007199254740992"),
        ("eeg_sub_id", "1.5", "whole numbers from 0 to 9007199254740992"),
        *(("eeg_label_offset_seconds", v, "seconds, 0 or more") for v in ("", "nan", "-2.0", "inf", "start")),
        ("spectrogram_label_offset_seconds", "-2.0", "seconds, 0 or more"),
        ("spectrogram_label_offset_seconds", "x", "seconds, 0 or more"),
        *(("eeg_id", v, IDS) for v in ("", "../x", "a b", "1.2", "é", "a/b", "a\\b", "٣")),
        *(("patient_id", v, IDS) for v in ("", "a.b")),
        ("spectrogram_id", "..", IDS),
    ],
)
def test_a_wrong_value_is_named_by_column_and_line(tmp_path, column, value, rule):
    path = write(tmp_path, ROW_1, ROW_2, edited(ROW_3, **{column: value}))
    assert message(path) == f"column '{column}' must hold {rule}, but line 4 has '{value}'"


def test_ids_that_were_taken_for_numbers_are_refused_with_how_to_write_them(tmp_path):
    path = write(tmp_path, *(edited(row, patient_id=f"{n}.0") for n, row in enumerate(ROWS)))
    assert message(path) == (
        f"column 'patient_id' must hold {IDS}, but line 2 has '0.0', line 3 has '1.0', line 4 has '2.0'; "
        "write these whole numbers without a point"
    )


def test_a_share_is_refused_with_the_setting_that_takes_it(tmp_path):
    path = write(tmp_path, ROW_1, edited(ROW_3, lpd_vote="0.5"))
    hint = "; labels.soft_votes=true takes shares"
    assert message(path) == f"column 'lpd_vote' must hold {COUNTS}, but line 3 has '0.5'{hint}"
    frame = read_votes(path, Ballot(COMPETITION, soft=True)).frame
    assert frame["lpd_vote"].tolist() == [0, 0.5]
    assert {frame[name].dtype for name in VOTE_COLUMNS} == {np.dtype("float32")}


def test_classes_of_ones_own_have_a_column_each(tmp_path, capsys):
    """Votes for what is not a class are said not to be read."""
    header = HEADER.replace("seizure_vote", "spike_vote")
    path = write(tmp_path, *ROWS, header=header)
    table = read_votes(path, Ballot(Classes(("other", "spike")), soft=False))
    assert table.classes.names == ("other", "spike")
    assert table.frame[["other_vote", "spike_vote"]].to_numpy().tolist() == [[0, 3], [1, 3], [5, 0]]
    assert "votes for lpd,gpd,lrda,grda are not read" in capsys.readouterr().err


def test_votes_for_other_classes_alone_are_refused(tmp_path):
    path = write(tmp_path, "a,p,1,0", header="eeg_id,patient_id,spike_vote,none_vote")
    assert message(path, require_votes=False) == (
        "has votes for spike,none, but labels.classes has seizure, lpd, gpd, lrda, grda, other; "
        "labels.classes=[spike,none] takes them"
    )


def test_an_id_of_200_characters_is_the_longest(tmp_path):
    assert len(read_votes(write(tmp_path, edited(ROW_1, eeg_id="a" * 200))).frame) == 1
    text = message(write(tmp_path, edited(ROW_1, eeg_id="a" * 201)))
    assert text == f"column 'eeg_id' must hold {IDS}, but line 2 has '{'a' * 39}…'"


def test_an_id_with_a_line_end_is_refused_on_one_line(tmp_path):
    """A pattern that lets a last line end pass would make a path with it."""
    text = message(write(tmp_path, edited(ROW_1, eeg_id='"12\n"'), ROW_3))
    assert text == f"column 'eeg_id' must hold {IDS}, but line 2 has '12'"


def test_the_first_five_of_many_wrong_values_are_shown(tmp_path):
    rows = [edited(ROW_1, eeg_sub_id=str(i), gpd_vote="-3") for i in range(8)]
    assert message(write(tmp_path, *rows)) == (
        f"column 'gpd_vote' must hold {COUNTS}, but line 2 has '-3', line 3 has '-3', "
        "line 4 has '-3', line 5 has '-3', line 6 has '-3' and 3 more"
    )


def test_lines_are_counted_as_an_editor_does(tmp_path):
    """Blank lines and quoted line ends before a wrong value move its line."""
    path = write(tmp_path, "", edited(ROW_1, expert_consensus='"Sei\nzure"'), edited(ROW_3, lpd_vote="-1"))
    assert message(path).endswith("but line 5 has '-1'")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert message(path).endswith("but line 5 has '-1'")


def test_a_repeated_sub_window_is_refused(tmp_path):
    path = write(tmp_path, *ROWS, edited(ROW_2, lpd_vote="9"))
    assert message(path) == (
        "columns 'eeg_id', 'eeg_sub_id' must be unique together, but line 5 repeats (1628180742, 1)"
    )


def test_a_recording_with_two_patients_is_refused(tmp_path):
    path = write(tmp_path, ROW_3, ROW_1, edited(ROW_2, patient_id="7"))
    assert message(path) == (
        "column 'patient_id': recording '1628180742' belongs to patient '42516' in line 3 "
        "and to '7' in line 4; recordings with two patients: 1"
    )


# --- windows without votes, and tables in memory ---------------------------------------------------


def test_windows_without_votes_need_only_recording_and_patient(tmp_path):
    """The competition's test.csv: offset and sub-window are 0, votes are none."""
    path = write(tmp_path, "853520,3911565283,6885", header="spectrogram_id,eeg_id,patient_id")
    table = read_votes(path, require_votes=False)
    row = table.frame.iloc[0]
    assert (row["recording"], row["eeg_id"], row["patient_id"]) == ("3911565283", 3911565283, "6885")
    assert (row["eeg_sub_id"], row["offset_s"], row["spectrogram_id"]) == (0, 0.0, "853520")
    assert table.frame[list(VOTE_COLUMNS)].to_numpy().sum() == 0
    assert not table.has_votes
    assert message(path).startswith(
        "lacks columns 'eeg_sub_id', 'eeg_label_offset_seconds', 'seizure_vote', "
    )


def test_votes_of_a_windows_table_are_all_there_or_none(tmp_path):
    path = write(tmp_path, *ROWS)
    assert read_votes(path, require_votes=False).has_votes
    path = write(tmp_path, "1,1,3", header="eeg_id,patient_id,seizure_vote")
    assert message(path, require_votes=False).startswith(
        "lacks columns 'lpd_vote', 'gpd_vote', 'lrda_vote', "
    )


def test_a_table_in_memory_equals_the_same_table_on_disk(tmp_path):
    path = write(tmp_path, *ROWS)
    in_memory = pd.read_csv(path)
    table = votes_from_frame(in_memory)
    pd.testing.assert_frame_equal(table.frame, read_votes(path).frame)
    assert table.digest == read_votes(path).digest
    pd.testing.assert_frame_equal(in_memory, pd.read_csv(path))


def test_wrong_values_of_a_table_in_memory_are_named_by_row(tmp_path):
    frame = pd.read_csv(write(tmp_path, *ROWS))
    frame["lpd_vote"] = [0, 2, -4]
    with pytest.raises(ConfigError, match=r"^mine: column 'lpd_vote' must hold .*, but row 2 has '-4'$"):
        votes_from_frame(frame, path="mine")
    frame["lpd_vote"] = [0, np.nan, 4]
    with pytest.raises(ConfigError, match=r"^votes: column 'lpd_vote' must hold .*, but row 1 has ''$"):
        votes_from_frame(frame)


# --- properties ----------------------------------------------------------------------------------

names = st.text("abZ09_-", min_size=1, max_size=6)


@st.composite
def csv_tables(draw):
    """Tables of any valid ids, counts and offsets, with their text."""
    patients = draw(st.dictionaries(names, names, min_size=1, max_size=5))
    rows = []
    for recording, patient in patients.items():
        for sub_id in draw(st.lists(st.integers(0, 2**53), min_size=1, max_size=4, unique=True)):
            offset = draw(st.floats(0, 1e6))
            votes = draw(st.lists(st.integers(0, 10**6), min_size=6, max_size=6))
            rows.append((recording, sub_id, offset, patient, *votes))
    return rows


@settings(deadline=None, max_examples=40)
@given(csv_tables())
def test_every_valid_table_is_read_exactly(tmp_path_factory, rows):
    header = ("eeg_id", "eeg_sub_id", "eeg_label_offset_seconds", "patient_id", *VOTE_COLUMNS)
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    path = tmp_path_factory.mktemp("t") / "train.csv"
    path.write_text(text.getvalue(), newline="")
    frame = read_votes(path).frame
    kept = frame[["recording", "eeg_sub_id", "offset_s", "patient_id", *VOTE_COLUMNS]]
    assert list(kept.itertuples(index=False, name=None)) == rows


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200) | st.text('eg_id,\n"\r0 ', max_size=200).map(lambda t: HEADER + "\n" + t))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, data):
    """No bytes end in another error than the one that a user can act on."""
    path = tmp_path_factory.mktemp("t") / "train.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    assert "\n" not in outcome(path)


def outcome(path):
    try:
        return f"{len(read_votes(path).frame)} rows"
    except ConfigError as error:
        return str(error)


def big_table(n_rows):
    number = np.arange(n_rows)
    columns = {
        "eeg_id": 10**9 + number // 6, "eeg_sub_id": number % 6,
        "eeg_label_offset_seconds": 2.0 * (number % 6),
        "spectrogram_id": number // 9, "spectrogram_sub_id": 0, "spectrogram_label_offset_seconds": 0.0,
        "label_id": number, "patient_id": number // 54, "expert_consensus": "Other",
        **dict.fromkeys(VOTE_COLUMNS, 1),
    }  # fmt: skip
    return pd.DataFrame(columns)


@pytest.mark.slow
def test_as_many_rows_as_the_competition_has_are_read_in_well_under_a_second(tmp_path):
    """106,800 rows; 0.1 s where nothing else runs."""
    path = tmp_path / "train.csv"
    big_table(106_800).to_csv(path, index=False)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert len(read_votes(path).frame) == 106_800
        times.append(time.perf_counter() - start)
    assert min(times) < 0.8


# --- large tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [300, 301, 1000])
def test_a_table_looked_at_in_blocks_is_that_looked_at_at_once(tmp_path, monkeypatch, block):
    """Words that first stand in a later block, characters and quoted line ends across blocks included."""
    rows = [
        edited(ROW_1, eeg_id=f"r{n // 4}", eeg_sub_id=str(n), label_id=str(n * 7), seizure_vote=str(n % 5))
        + (f',"é{n % 3}\nµ"' if n % 2 else ",")
        for n in range(60)
    ]
    path = write(tmp_path, *rows, header=f"{HEADER},note")
    whole = read_votes(path)
    monkeypatch.setattr(tables, "_BLOCK_BYTES", block)
    found = read_votes(path)
    pd.testing.assert_frame_equal(found.frame, whole.frame)
    assert found.digest == whole.digest
    assert whole.frame["note"].tolist()[:4] == [None, "é1\nµ", None, "é0\nµ"]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("text", ["é".encode() * 9 + b"\xff", "aé€".encode() * 5 + b"\xe2\x82", "€".encode()])
def test_the_first_byte_that_is_no_utf_8_is_found_in_blocks_of_any_size(text, block, monkeypatch):
    monkeypatch.setattr(tables, "_BLOCK_BYTES", block)
    try:
        text.decode("utf-8")
        expected = None
    except UnicodeDecodeError as error:
        expected = error.start
    assert tables._first_not_utf8(text) == expected
