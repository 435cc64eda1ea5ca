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
        ("Fp1-Cz", "Fp1-Cz"),
        ("Resp", "Resp"),
        ("SpO2", "SpO2"),
        ("STI 014", "STI 014"),
        ("EMG1-EMG2", "EMG1-EMG2"),
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
    assert list(find_channels(CHANNELS, OLD)) == list(CHANNELS)


def test_an_alias_of_a_whole_label_wins():
    """A montage's own label can be given any name."""
    assert canonical_name("Left front", {"Left front": "Fp1"}) == "Fp1"


def test_the_name_proper_wins_over_an_alias_and_the_first_of_two_over_the_second():
    """T3 beside T7 is T3; of a pair that a file repeats the first counts."""
    assert find_channels(["T7", "T3", "F3"], OLD) == {"T3": 1, "F3": 2}
    assert find_channels(["T8-P8", "FZ-CZ", "T8-P8"], OLD) == {"T4-T6": 0, "Fz-Cz": 1}


def test_a_derivation_has_two_electrodes():
    """A dash alone does not make a derivation."""
    assert is_derivation("Fp1-F7")
    assert not is_derivation("Fp1")
    assert not is_derivation("EMG1-EMG2")
