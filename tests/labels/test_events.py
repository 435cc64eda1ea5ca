"""Labels from events: what is read, which windows get which votes, and what is said of the rest."""

import numpy as np

from hms.labels.classes import Classes
from hms.labels.events import Event, Mark, Rule, cast_votes, name_classes, overlapping_s
from hms.sources.edf.timeline import Tal, parse_tals

SEIZURE, OTHER = 0, 1


def rule(**changes):
    return Rule(**{"part_s": (20.0, 10.0), "min_share": 0.5, "background": None, "soft": False} | changes)


def votes(starts, *marks, n_classes=2, **changes):
    found = cast_votes(starts, [Mark(*mark) for mark in marks], rule(**changes), n_classes)
    return found.tolist()


# --- from marks to votes -------------------------------------------------------------------------


def test_an_event_that_fills_half_of_the_judged_part_takes_the_vote():
    """The parts are 20-30, 30-40 and 40-50 s; the event covers 5, 10 and 4.9 s of them."""
    assert votes([0, 10, 20], (25, 44.9, SEIZURE)) == [[1, 0], [1, 0], [0, 0]]


def test_a_short_event_counts_where_half_of_it_lies_in_the_judged_part():
    """Of 0.4 s at 29.9 s, a quarter lies in 20-30 s and three quarters in 30-40 s."""
    assert votes([0, 10], (29.9, 30.3, SEIZURE)) == [[0, 0], [1, 0]]


def test_the_class_with_most_seconds_takes_the_vote_and_the_first_at_a_tie():
    assert votes([0], (20, 26, SEIZURE), (24, 30, OTHER)) == [[1, 0]]
    assert votes([0], (20, 25, SEIZURE), (24, 30, OTHER)) == [[0, 1]]


def test_the_background_takes_a_vote_only_where_no_event_does():
    found = votes([0, 10, 20], (29.9, 30.3, SEIZURE), (40, 60, SEIZURE), background=OTHER)
    assert found == [[0, 1], [1, 0], [1, 0]]


def test_where_an_event_fills_half_and_misses_the_share_nobody_votes():
    """60 % are asked for; the event fills 5 of 10 s, and 5 s are free."""
    assert votes([0], (25, 90, SEIZURE), background=OTHER, min_share=0.6) == [[0, 0]]


def test_each_annotator_has_a_vote():
    marks = [(0, 60, SEIZURE, "a"), (0, 60, OTHER, "b"), (0, 60, SEIZURE, "c"), (0, 5, SEIZURE, "d")]
    assert votes([0], *marks, background=OTHER) == [[2, 2]]


def test_a_recording_without_marks_has_one_vote_for_the_background():
    assert votes([0, 10], background=OTHER) == [[0, 1], [0, 1]]
    assert votes([0, 10]) == [[0, 0], [0, 0]]


def test_shares_are_seconds_of_the_judged_part():
    """3 of 10 s, and the rest to the background."""
    assert votes([0], (27, 90, SEIZURE), soft=True) == [[0.3, 0]]
    np.testing.assert_allclose(votes([0], (27, 90, SEIZURE), soft=True, background=OTHER), [[0.3, 0.7]])


def test_shares_of_time_with_two_classes_are_divided():
    """20-24 s seizure alone, 24-30 s both: 0.4 + 0.3 and 0.3."""
    np.testing.assert_allclose(votes([0], (20, 30, SEIZURE), (24, 30, OTHER), soft=True), [[0.7, 0.3]])


def test_the_whole_sub_window_may_be_judged():
    assert votes([0], (0, 25, SEIZURE), part_s=(0.0, 50.0)) == [[1, 0]]
    assert votes([0], (-40, 24, SEIZURE), part_s=(0.0, 50.0)) == [[0, 0]]


def test_many_marks_give_what_a_sum_over_samples_gives():
    """Hundredths of seconds, random marks of two annotators, against counting hundredths."""
    rng = np.random.default_rng(0)
    marks = []
    for _ in range(60):
        start, length = rng.integers(0, 20_000), rng.integers(1, 4_000)
        marks.append(Mark(start / 100, (start + length) / 100, int(rng.integers(3)), str(rng.integers(2))))
    starts = rng.integers(0, 15_000, 40) / 100
    found = cast_votes(starts.tolist(), marks, rule(soft=True), 3)
    expected = np.zeros((40, 3))
    for annotator in "01":
        active = np.zeros((3, 30_000), bool)
        for mark in marks:
            if mark.annotator == annotator:
                active[mark.class_, round(mark.start_s * 100) : round(mark.stop_s * 100)] = True
        share = active / np.maximum(active.sum(axis=0), 1)
        for row, start in enumerate(starts):
            first = round((start + 20) * 100)
            expected[row] += share[:, first : first + 1000].sum(axis=1) / 1000
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_overlap_of_classes_is_measured_by_annotator():
    assert overlapping_s([Mark(0, 10, 0), Mark(7, 12, 1), Mark(0, 60, 1, "b")]) == (3.0, 7.0)
    assert overlapping_s([Mark(0, 10, 0), Mark(10, 12, 1)])[0] == 0


# --- labels --------------------------------------------------------------------------------------


def test_labels_mean_classes_by_the_mapping_or_by_their_own_name():
    events = [Event(0, 1, text) for text in ("SZ", " Seizure ", "artefact", "bckg", "artefact")]
    known, unknown = name_classes(events, {"sz": "seizure", "bckg": None}, Classes(("seizure", "other")))
    assert [(event.label, column) for event, column in known] == [("SZ", 0), (" Seizure ", 0)]
    assert unknown == {"artefact": 2}


def test_a_label_as_it_is_comes_before_one_in_another_letter_case():
    known, _ = name_classes([Event(0, 1, "S")], {"s": "seizure", "S": "other"}, Classes(("seizure", "other")))
    assert known[0][1] == 1


# --- EDF+ annotations ----------------------------------------------------------------------------


def test_lists_of_annotations_are_read_with_their_times():
    data = b"+0\x14\x14\0+12.5\x1530\x14seizure\x14left\x14\0\0\0-1,5\x14\xb5V \x14\0junk+3\x14"
    assert parse_tals(data) == [
        Tal(0.0, None, ()),
        Tal(12.5, 30.0, ("seizure", "left")),
        Tal(-1.5, None, ("µV",)),
        Tal(3.0, None, ()),
    ]


def test_texts_are_utf_8():
    assert parse_tals("+1\x14仰卧\x14\0".encode())[0].texts == ("仰卧",)
