"""Names of channels: what files write, and what it means here."""

from __future__ import annotations

import pytest

from hms.competition import CHANNELS
from hms.sources.channels import canonical_name, find_channels, is_derivation

OLD = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Fp1", "Fp1"),
        ("FP1", "Fp1"),
        ("fp1", "Fp1"),
        ("EEG Fp1", "Fp1"),
        ("EEG FP1-REF", "Fp1"),
        ("EEG FP1-LE", "Fp1"),
        ("EEG Fp1-Ref2", "Fp1"),
        ("POL Fp1", "Fp1"),
        ("Fp1.", "Fp1"),
        ("Fc5.", "FC5"),
        ("Cz..", "Cz"),
        ("CZ", "Cz"),
        ("C3-A2", "C3"),
        ("C3-M2", "C3"),
        ("EEG C3-A1A2", "C3"),
        ("O1-AVG", "O1"),
        ("Fp1_REF", "Fp1"),
        ("EEG Fp1 REF", "Fp1"),
        ("T7", "T3"),
        ("EEG P8-REF", "T6"),
        ("ECG", "EKG"),
        ("EKG", "EKG"),
        ("ECG EKG", "EKG"),
        ("EEG EKG1-REF", "EKG"),
        ("FP1-F7", "Fp1-F7"),
        ("EEG FP1-F7", "Fp1-F7"),
        ("F7-T7", "F7-T3"),
        ("T8-P8-0", "T4-T6"),
        ("F3 - C3", "F3-C3"),
        ("C3/A2", "C3"),
        ("EEG C4:M1", "C4"),
        ("Fp1/REF", "Fp1"),
        ("T3/T7", "T3"),
        ("EEG P8 / T6", "T6"),
        ("Fp1/F7", "Fp1/F7"),
        ("SaO2/x", "SaO2/x"),
        ("Fp1-A1/A2", "Fp1"),
        ("Fp1-Cz", "Fp1-Cz"),
        ("Resp", "Resp"),
        ("SpO2", "SpO2"),
        ("STI 014", "STI 014"),
        ("EMG1-EMG2", "EMG1-EMG2"),
        ("EEG Fp1-CLE", "Fp1"),
        ("Fp1-LER", "Fp1"),
        ("EEG Fp1-AA", "Fp1"),
        ("Fp1-Vref", "Fp1"),
        ("EEG A1-REF", "A1"),
        ("--0", "--0"),
        ("-", "-"),
        ("", ""),
        ("A1", "A1"),
    ],
)
def test_a_label_names_an_electrode_a_derivation_the_heart_or_itself(label, name):
    """Prefixes, references, dots, letter case and new names are habits, not channels."""
    assert canonical_name(label, OLD) == name


def test_the_competitions_names_stay_as_they_are():
    """All 20 columns of a competition file keep their names and order."""
    assert list(find_channels(CHANNELS, OLD).keys) == list(CHANNELS)


def test_an_alias_of_a_whole_label_wins():
    """A montage's own label can be given any name."""
    assert canonical_name("Left front", {"Left front": "Fp1"}) == "Fp1"


def test_the_name_proper_wins_over_an_alias_and_the_first_of_two_over_the_second():
    """T3 beside T7 is T3; of a pair that a file repeats the first counts."""
    assert find_channels(["T7", "T3", "F3"], OLD).places == {"T3": 1, "F3": 2}
    assert find_channels(["T8-P8", "FZ-CZ", "T8-P8"], OLD).places == {"T4-T6": 0, "Fz-Cz": 1}


def test_a_derivation_has_two_electrodes():
    """A dash alone does not make a derivation."""
    assert is_derivation("Fp1-F7")
    assert not is_derivation("Fp1")
    assert not is_derivation("EMG1-EMG2")


@pytest.mark.parametrize(
    ("labels", "references"),
    [
        (["Fp1", "F7"], ("", "")),
        (["Fp1-REF", "EEG F7-Ref"], ("REF", "REF")),
        (["Fp1-A1", "Fp2-A2"], ("A1", "A2")),
        (["Fp1-LE", "F7-CLE"], ("LE", "CLE")),
        (["C3/A2", "C4:M1", "T3/T7"], ("A2", "M1", "")),
        (["C3-AVG", "C4-Car"], ("AVG", "AVG")),
        (["C3-A1A2", "C4-A1+A2", "Cz-(A1+A2)/2"], ("A1A2", "A1A2", "A1A2")),
        (["Fp1-REF", "F7"], ("REF", "REF")),
        (["Fp1-A1", "Fp2-A2", "Cz"], ("A1", "A2", "")),
        (["F3-CPz", "C3-CPz", "P3-CPz"], ("CPz", "CPz", "CPz")),
        (["F3-XY", "C3-XY", "P3-XY", "ECG"], ("XY", "XY", "XY", "")),
    ],
)
def test_a_label_keeps_what_its_electrode_was_recorded_against(labels, references):
    """One spelling for each reference; a label that states none has that of the others, if they have one."""
    found = sorted(find_channels(labels, OLD).keyed.values(), key=lambda channel: channel.place)
    assert tuple(channel.reference for channel in found) == references


def test_what_three_electrodes_are_recorded_against_is_a_reference_and_no_cathode():
    """X-Cz throughout is a common reference; an electrode that ends two pairs is none."""
    common = find_channels(["Fp1-Cz", "F7-Cz", "T3-Cz"], OLD)
    assert common.keys == ("Fp1", "F7", "T3")
    assert common.references == ("Cz",)
    assert find_channels(["P3-O1", "F7-T3", "T7-O1"], OLD).keys == ("P3-O1", "F7-T3", "T3-O1")


def test_an_electrode_with_two_references_is_read_against_that_of_its_partners():
    """T3 is there against both ears; which copy is read follows from the pairs that are wanted."""
    found = find_channels(["T3-A1", "F7-A1", "T3-A2", "T5-A2", "O1-A2"], OLD)
    assert found.keys == ("T3-A1", "F7", "T3-A2", "T5", "O1")
    assert found.chosen(("F7", "T3", "F7-T3")).keys == ("F7", "T3-A1")
    assert found.chosen(("T3", "T5", "T3-T5")).keys == ("T3-A2", "T5")
    assert found.chosen(("T3", "T5", "T3-T5")).names == ("T3", "T5")
    assert found.chosen(("T3", "T5", "T3-T5")).references == ("A2", "A2")
    # One partner each: the reference that more electrodes have.
    assert found.chosen(("F7", "T3", "T5", "F7-T3", "T3-T5")).keys == ("F7", "T3-A2", "T5")


def test_labels_that_mean_nothing_are_told_as_they_are():
    """BioSemi's A1 and A2 are ears by name; its other labels are not known."""
    found = find_channels(["A1", "A5", "B16", "Fp1"], OLD)
    assert found.unknown == ("A5", "B16")
    assert found.has_eeg
    assert not find_channels(["A1", "Resp"], OLD).has_eeg
    assert find_channels(["A1", "A2", "A3"], OLD).unknown == ("A1", "A2", "A3")
