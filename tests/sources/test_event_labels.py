"""From files with events to a package with labels: every kind of events, and what is wrong with them."""

import edfio
import numpy as np
import pytest

import hms
from hms.errors import ConfigError
from tests.recordings import noise, write_edf

TWO = ("labels.classes=[seizure,other]", "data.event_background=other")


@pytest.fixture
def folder(tmp_path):
    """Two recordings of 200 s, in the folders of two patients."""
    for number, patient in enumerate(("ann", "bob")):
        place = tmp_path / "recordings" / patient
        place.mkdir(parents=True)
        write_edf(place / f"{patient}_1.edf", noise(200 * 200, seed=number))
    return tmp_path / "recordings"


@pytest.fixture
def label(folder, tmp_path):
    """Return a function that makes the labels of the folder, a row per window."""

    def call(*overrides):
        base = ("data=edf", f"data.root={folder}", "data.patient=folder", "data.step_s=50", "unit=per_row")
        more = ("folds=none", "stages=[labels]", f"outputs_dir={tmp_path / 'outputs'}", "n_jobs=1")
        run = hms.run(hms.compose(*base, *more, *overrides))
        return run.meta.assign(
            **dict(zip(run.labels.classes.tolist(), run.labels.y_soft.T, strict=True)),
            n=run.labels.vote_sum,
        )

    return call


def by_start(table, patient):
    """Return the share of seizure by the start of the judged ten seconds."""
    rows = table[table["patient_id"] == patient]
    return dict(zip(rows["window_start_s"], rows["seizure"].astype(float).round(6), strict=True))


def write_csv(folder, text, name="ann/ann_1.csv"):
    (folder / name).write_text(text)


# --- kinds of events -----------------------------------------------------------------------------


def test_a_csv_beside_the_file_labels_its_windows(folder, label, capsys):
    """Judged parts start at 20, 70, 120 and 170 s; the seizure covers 70-80 s and 4 s of 120-130 s."""
    write_csv(folder, "start,stop,label\n60,124,Seizure\n")
    write_csv(folder, "start,stop,label\n", "bob/bob_1.csv")
    table = label("data.events=csv", *TWO)
    assert by_start(table, "ann") == {20: 0, 70: 1, 120: 0, 170: 0}
    assert by_start(table, "bob") == {20: 0, 70: 0, 120: 0, 170: 0}
    assert set(table["n"]) == {1}


def test_shares_are_kept_as_float32(folder, label):
    write_csv(folder, "onset;duration;event\n60;64;seizure\n")
    table = label("data.events=csv", "labels.soft_votes=true", *TWO)
    assert by_start(table, "ann") == {20: 0, 70: 1, 120: 0.4, 170: 0}
    assert table["n"].dtype == np.float32


def test_a_recording_without_a_file_of_events_has_no_votes(folder, label, capsys):
    write_csv(folder, "start,stop,label\n60,124,seizure\n")
    table = label("data.events=csv", *TWO)
    assert set(table["patient_id"]) == {"ann"}
    err = capsys.readouterr().err
    assert "no events of data.events=csv for 1 recording, and so no votes: bob/bob_1.edf" in err


def test_annotators_become_votes(folder, label):
    write_csv(
        folder,
        "start,stop,label,rater\n0,200,seizure,a\n0,100,seizure,b\n100,200,other,b\n150,200,other,c\n",
    )
    table = label("data.events=csv", "labels.classes=[seizure,other]")
    rows = table[table["patient_id"] == "ann"].set_index("window_start_s")
    assert rows["n"].to_dict() == {20: 2, 70: 2, 120: 2, 170: 3}
    assert rows["seizure"].astype(float).round(4).to_dict() == {20: 1, 70: 1, 120: 0.5, 170: 0.3333}


def test_edf_annotations_label_windows(folder, label):
    """The onset is from the first sample; labels are mapped, and one is left out on purpose."""
    noise_ = noise(200 * 200, seed=3)
    signals = [edfio.EdfSignal(x, 200, label=name, physical_range=(-500, 500)) for name, x in noise_.items()]
    marks = [
        edfio.EdfAnnotation(70, 30, "SZ"),
        edfio.EdfAnnotation(120, 10, "artefact"),
        edfio.EdfAnnotation(5, None, "REC"),
    ]
    edfio.Edf(signals, annotations=marks).write(folder / "ann" / "ann_1.edf")
    (folder / "bob" / "bob_1.edf").unlink()
    table = label("data.events=annotations", "data.event_classes={SZ: seizure, REC: ''}", *TWO)
    assert by_start(table, "ann") == {20: 0, 70: 1, 120: 0, 170: 0}


def test_tusz_csv_bi(folder, label):
    write_csv(
        folder,
        "# version = csv_v1.0.0\n# duration = 200.0 secs\n\nchannel,start_time,stop_time,label,confidence\n"
        "TERM,0.0000,66.0000,bckg,1.0000\nTERM,66.0000,90.0000,seiz,1.0000\nTERM,90.0,200.0,bckg,1.0\n",
        "ann/ann_1.csv_bi",
    )
    table = label("data.events=csv_bi", "labels.classes=[seizure,other]")
    assert by_start(table, "ann") == {20: 0, 70: 1, 120: 0, 170: 0}


def test_tuev_rec_one_window_in_the_middle_of_each_event(folder, label):
    """Events of 1 s on several channels; two that overlap are one, and so is its window."""
    rows = ["0,30.0,31.0,2", "1,30.5,31.5,2", "4,100.0,101.0,3", "9,100.0,101.0,6"]
    write_csv(folder, "\n".join(rows), "ann/ann_1.rec")
    table = label(
        "data.events=rec",
        "labels.classes=[spsw,gped,pled,eyem,artf,bckg]",
        "data.event_windows=centre",
        "data.event_background=bckg",
    )
    assert dict(zip(table["window_start_s"], table["gped"], strict=True)) == {25.75: 1, 95.5: 0}
    assert dict(zip(table["window_start_s"], table["pled"], strict=True)) == {25.75: 0, 95.5: 1}


def test_tuev_labels_mean_the_competitions_classes_where_they_can(folder, label):
    write_csv(folder, "0,30.0,31.0,2\n0,80.0,81.0,3\n0,120,130,6\n", "ann/ann_1.rec")
    table = label("data.events=rec", "data.event_windows=centre")
    assert table[["gpd", "lpd", "other"]].to_numpy().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_chb_mit_summary(folder, label):
    text = (
        "Data Sampling Rate: 256 Hz\n*************\n\nFile Name: ann_1.edf\nFile Start Time: 11:42:54\n"
        "Number of Seizures in File: 2\nSeizure 1 Start Time: 68 seconds\nSeizure 1 End Time: 82 seconds\n"
        "Seizure 2 Start Time: 165 seconds\nSeizure 2 End Time: 190 seconds\n"
    )
    write_csv(folder, text, "ann/ann-summary.txt")
    table = label("data.events=summary", *TWO)
    assert by_start(table, "ann") == {20: 0, 70: 1, 120: 0, 170: 1}
    assert "bob" not in set(table["patient_id"])


def test_bids_events_beside_any_file(folder, label):
    write_csv(folder, "onset\tduration\ttrial_type\n70\t10\tsz\n", "ann/ann_1_events.tsv")
    table = label("data.events=events_tsv", "data.event_classes={sz: seizure}", *TWO)
    assert by_start(table, "ann")[70] == 1


def test_a_column_of_ones_own(folder, label):
    write_csv(folder, "onset\tduration\ttrial_type\tEpi\n70\t10\tx\tsz\n", "ann/ann_1_events.tsv")
    table = label("data.events=events_tsv", "data.event_column=epi", "data.event_classes={sz: seizure}", *TWO)
    assert by_start(table, "ann")[70] == 1


def test_windows_of_a_table_have_the_votes_of_events(folder, label, tmp_path):
    write_csv(folder, "start,stop,label\n60,124,seizure\n")
    windows = tmp_path / "windows.csv"
    windows.write_text("recording,patient_id,start_s\nann_1,ann,48\nann_1,ann,110\n")
    table = label("data.events=csv", f"data.windows={windows}", *TWO)
    assert by_start(table, "ann") == {68: 1, 130: 0}


def test_an_event_near_an_end_is_judged_where_it_lies(folder, label):
    """A sub-window may begin before its recording; the judged ten seconds lie inside."""
    write_csv(folder, "start,stop,label\n2,5,seizure\n199,200,seizure\n")
    table = label("data.events=csv", "data.event_windows=centre", *TWO)
    assert by_start(table, "ann") == {0: 1, 190: 1}


# --- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("start,stop,label\n1,2,sz\n3,4,sz\n", (), r"the labels are 'sz' \(2\).*data.event_classes"),
        ("start,stop,label\n5,2,seizure\n", (), "line 2 has an event that stops at 2 s, before 5 s"),
        ("start,stop,label\nx,2,seizure\n", (), "line 2 has 'x' instead of seconds"),
        ("start,stop,label\n1,2\n", (), "line 2 has 2 fields, but the header has 3"),
        ("start,stop,what\n1,2,seizure\n", (), r"lacks the column of the label .*data.event_column names it"),
        pytest.param(
            f"start,label\n1,{'x' * 140_000}\n", (), r"is not a table \(field larger", id="a long field"
        ),
        ("start,label\n1,seizure\n", (), "without a duration; set data.event_duration_s"),
        (
            "start,stop,label\n1,9,seizure\n",
            ("data.event_classes={seizure: seizures}",),
            r"data.event_classes: 'seizure': 'seizures' is not a class \(did you mean 'seizure'\?\)",
        ),
        (
            "start,stop,label\n1,9,seizure\n",
            ("data.event_background=none",),
            "data.event_background: 'none' is not a class",
        ),
        (
            "start,stop,label\n1,9,seizure\n",
            ("data.event_annotator=who",),
            "lacks the column of the annotator",
        ),
    ],
)
def test_events_that_mean_nothing_are_refused(folder, label, text, overrides, message):
    write_csv(folder, text)
    with pytest.raises(ConfigError, match=message):
        label("data.events=csv", *overrides)


def test_an_unknown_kind_of_events_is_refused(label):
    with pytest.raises(ConfigError, match=r"data.events 'csvbi' is not known \(did you mean 'csv_bi'"):
        label("data.events=csvbi")


def test_what_is_passed_over_is_said_with_counts(folder, label, capsys):
    """Events outside the recording, overlapping classes, and labels that mean nothing."""
    write_csv(
        folder,
        "start,stop,label\n60,90,seizure\n85,100,other\n500,510,seizure\n0,1,blink\n2,3,blink\n4,5,chew\n",
    )
    label("data.events=csv", "labels.classes=[seizure,other]")
    err = capsys.readouterr().err
    assert "ignored 3 events whose label means no class" in err
    assert "'blink' (2), 'chew' (1)" in err
    assert "left out 1 event outside the recording: ann/ann_1.edf at 500 s" in err
    assert "overlap in 1 recording" in err
    assert "ann/ann_1.edf for 5 s from 85 s" in err


def test_a_table_with_votes_and_events_is_refused(folder, label, tmp_path):
    write_csv(folder, "start,stop,label\n60,90,seizure\n")
    windows = tmp_path / "windows.csv"
    windows.write_text("recording,start_s,seizure_vote,other_vote\nann_1,0,1,0\n")
    with pytest.raises(ConfigError, match=r"has votes, and data\.events=csv would add others"):
        label("data.events=csv", f"data.windows={windows}", "labels.classes=[seizure,other]")


def test_no_window_is_centred_where_no_event_has_a_class(folder, label):
    write_csv(folder, "start,stop,label\n")
    with pytest.raises(ConfigError, match=r"no event .* has a class, so no window can be centred"):
        label("data.events=csv", "data.event_windows=centre")


def test_classes_that_no_window_has_are_said(folder, label, capsys):
    write_csv(folder, "start,stop,label\n60,90,seizure\n")
    label("data.events=csv", "data.event_background=other")
    assert (
        "no window has a vote for lpd, gpd, lrda, grda; labels.classes=[seizure,other] leaves them out"
        in (capsys.readouterr().err)
    )


@pytest.mark.slow
def test_changed_events_change_labels_and_no_signal(folder, tmp_path):
    """The events are in the identity of the table, not in that of the recording."""
    write_csv(folder, "start,stop,label\n60,90,seizure\n")
    base = ("data=edf", f"data.root={folder}", "data.patient=folder", "folds=none", "unit=per_row", *TWO)
    more = ("data.events=csv", "stages=[waveforms,labels]", f"outputs_dir={tmp_path / 'o'}", "n_jobs=1")
    first = hms.run(hms.compose(*base, *more))
    write_csv(folder, "start,stop,label\n0,200,seizure\n")
    second = hms.run(hms.compose(*base, *more))
    assert first.hash != second.hash
    item = second.meta["item_id"].iloc[0]
    assert all((run.path / f"wave_hr_out/{item}_hr.npz").is_file() for run in (first, second))
    assert (first.path / f"wave_hr_out/{item}_hr.npz").samefile(second.path / f"wave_hr_out/{item}_hr.npz")
    assert not np.array_equal(first.labels.y_soft, second.labels.y_soft)
    assert second.meta["recording"].iloc[0] == "ann/ann_1.edf"
