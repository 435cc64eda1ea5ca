"""Montage: derivations, chains, and what takes part in a row of the output."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from omegaconf import OmegaConf

import hms
from hms.competition import EEG_CHANNELS
from hms.registry import Params
from hms.signal.montage import (
    Montage,
    alive_derivations,
    derive,
    electrodes,
    find_sources,
    output_groups,
    what_lacks,
)

CHAINS = (("L", ("A-B", "B-C")), ("R", ("A-D",)))
MONTAGE = Montage("bipolar", CHAINS, "chains", Params("curvature"), allow_degenerate=False)
CHANNELS = ("A", "B", "C", "D")


def test_a_derivation_is_anode_minus_cathode():
    """A=1, B=10, C=100, D=1000: A-B is -9, B-C is -90, A-D is -999."""
    eeg = np.array([[1.0], [10.0], [100.0], [1000.0]], np.float32)
    np.testing.assert_array_equal(derive(eeg, CHANNELS, MONTAGE.derivations), [[-9], [-90], [-999]])


def test_the_order_of_the_recordings_channels_does_not_matter():
    eeg = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_array_equal(
        derive(eeg[::-1], CHANNELS[::-1], MONTAGE.derivations), derive(eeg, CHANNELS, MONTAGE.derivations)
    )


def test_nan_stays_in_the_derivations_that_use_it():
    eeg = np.array([[1.0], [np.nan], [1.0], [1.0]], np.float32)
    np.testing.assert_array_equal(
        np.isnan(derive(eeg, CHANNELS, MONTAGE.derivations))[:, 0], [True, True, False]
    )


def test_a_channel_that_is_missing_is_named_with_its_derivation():
    with pytest.raises(
        ValueError, match=r"montage needs channel 'D' \(for A-D\), but the recording has A, B, C"
    ):
        derive(np.zeros((3, 5), np.float32), ("A", "B", "C"), MONTAGE.derivations)


def test_electrodes_come_in_file_order_then_others():
    """F7 stands before Fp2 in the files; X9 is not in them at all."""
    chains = (("Z", ("X9-Fp2", "F7-Fp1")),)
    assert electrodes(chains) == ("Fp1", "F7", "Fp2", "X9")


def test_names_follow_the_chains():
    assert MONTAGE.derivations == ("A-B", "B-C", "A-D")
    assert electrodes(MONTAGE.chains) == CHANNELS
    assert MONTAGE.outputs == ("L", "R")
    assert replace(MONTAGE, output="derivations").outputs == ("A-B", "B-C", "A-D")


@pytest.mark.parametrize(
    ("dead", "alive"),
    [
        ((), (True, True, True)),
        (("A",), (False, True, False)),
        (("C",), (True, False, True)),
        (("B", "D"), (False, False, False)),
    ],
)
def test_a_dead_electrode_takes_its_derivations_with_it(dead, alive):
    mask = np.isin(CHANNELS, dead)
    np.testing.assert_array_equal(alive_derivations(mask, CHANNELS, MONTAGE.derivations), alive)


def test_groups_hold_the_live_derivations_of_each_row():
    alive = np.array([True, False, True])
    assert output_groups(CHAINS, "chains", alive) == ((0,), (2,))
    assert output_groups(CHAINS, "derivations", alive) == ((0,), (), (2,))
    assert output_groups(CHAINS, "chains", np.array([False, False, True])) == ((), (2,))
    assert output_groups(CHAINS, "chains", np.ones(3, bool)) == ((0, 1), (2,))


@pytest.mark.parametrize(
    ("chains", "message"),
    [
        ((), "chains must name at least one chain"),
        ((("L", ()),), "chains: chain L has no derivation"),
        ((("L", ("Fp1",)),), "chains: 'Fp1' in chain L is no derivation; write anode-cathode"),
        ((("L", ("Fp1-F7-T3",)),), "chains: 'Fp1-F7-T3' in chain L is no derivation"),
        ((("L", ("Fp1-Fp1",)),), "chains: 'Fp1-Fp1' in chain L is no derivation"),
        ((("L", ("Fp1 -F7",)),), "chains: 'Fp1 -F7' in chain L is no derivation"),
        ((("L", ("A-B",)), ("R", ("A-B",))), "chains: derivation A-B is listed more than once"),
        ((("L", ("A-B",)), ("L", ("A-C",))), "chains: chain L is listed more than once"),
    ],
)
def test_an_impossible_chain_is_refused(chains, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(MONTAGE, chains=chains)


def test_the_mean_waveform_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"^waveform 'mean' .*LL equals LP.*allow_degenerate=true"):
        replace(MONTAGE, waveform=Params("mean"))


@pytest.mark.parametrize("change", [{"allow_degenerate": True}, {"output": "derivations"}])
def test_the_mean_waveform_is_allowed_on_request_or_where_it_is_not_used(change):
    assert replace(MONTAGE, waveform=Params("mean"), **change).waveform.kind == "mean"


def test_every_electrode_of_the_files_is_known():
    chains = (("all", tuple(f"{a}-{b}" for a, b in pairwise(EEG_CHANNELS))),)
    assert electrodes(chains) == EEG_CHANNELS


# --- references ----------------------------------------------------------------------------------


def test_a_pair_whose_electrodes_have_different_references_is_not_formed():
    """B against one ear, the rest against the other: A-D alone is what it says."""
    references = ("A2", "A1", "A2", "A2")
    assert find_sources(CHANNELS, MONTAGE.derivations, references) == (("A", "D"), ("A-B", "B-C"))
    told = what_lacks(("A-B", "B-C"), MONTAGE.derivations, CHANNELS, references, ())
    assert "A-B, B-C: the references differ in A-B (A against A2 and B against A1), B-C (B against" in told
    assert "data.aliases" not in told
    with pytest.raises(ValueError, match="the references differ in A-B"):
        derive(np.zeros((4, 5), np.float32), CHANNELS, MONTAGE.derivations, references)


@pytest.mark.parametrize(
    ("wanted", "channels", "unknown", "told", "untold"),
    [
        (
            ("A-B", "B-C"),
            ("C",),
            ("X1", "X 2"),
            "'data.aliases={X1: A}'",
            "missing=dead counts such electrodes",
        ),
        (("A-B", "B-C"), (), ("Thorax",), "choose a montage of what it has", "data."),
        (("A", "B", "C"), ("A", "B"), (), "data.missing=dead counts such electrodes as dead", "aliases"),
    ],
)
def test_a_remedy_is_one_that_the_recording_can_follow(wanted, channels, unknown, told, untold):
    """Names for what may be the electrodes, dead pairs where some are left, and neither for a belt."""
    lacking = [name for name in wanted if not set(name.split("-")) <= set(channels)]
    said = what_lacks(lacking, wanted, channels, (), unknown)
    assert told in said
    assert untold not in said


@pytest.mark.parametrize(
    "label", ["T3/T7", "EEG(Fp1-Ref)", "[Fp1]", "1:Fp1", "Fp1, left", "{x=1}", r"a\b", "C3 - x"]
)
def test_the_alias_that_is_proposed_can_be_typed_as_it_stands(label):
    found = re.search("'(data.aliases=.*)' says", what_lacks(["A-B"], ["A-B"], ["B"], (), [label]))
    assert dict(hms.compose(found[1]).data.aliases)[label] == "A"


@pytest.mark.parametrize("label", ["'Fp1'", "Fp1°", "Fp1;", "électrode"])
def test_an_alias_that_cannot_be_typed_is_proposed_for_a_yaml(label):
    said = what_lacks(["A-B"], ["A-B"], ["B"], (), [label])
    proposed = re.search(r"; (aliases: .*) in a YAML of your own \(docs/sources.md\) says what", said)[1]
    assert OmegaConf.to_container(OmegaConf.create(proposed)) == {"aliases": {label: "A"}}


def test_equal_references_cancel():
    """(A-R) - (B-R) is A-B, whatever R is."""
    eeg = np.array([[1.0], [10.0], [100.0], [1000.0]], np.float32)
    found = derive(eeg, CHANNELS, MONTAGE.derivations, ("R",) * 4)
    np.testing.assert_array_equal(found, [[-9], [-90], [-999]])


def test_the_reference_itself_is_zero():
    """Recorded against B: A-B is A's channel, B-C is C's with its sign changed, both alive if A and C are."""
    eeg = np.array([[1.0], [100.0], [1000.0]], np.float32)
    channels, references = ("A", "C", "D"), ("B", "B", "B")
    assert find_sources(channels, MONTAGE.derivations, references) == (("A", "C", "D"), ())
    np.testing.assert_array_equal(
        derive(eeg, channels, MONTAGE.derivations, references), [[1], [-100], [-999]]
    )
    alive = alive_derivations(np.array([False, True, False]), channels, MONTAGE.derivations, references)
    np.testing.assert_array_equal(alive, [True, False, True])


def test_a_pair_that_is_lacking_can_stand_beside_its_electrodes():
    """As a row of zeros that is dead, it is taken in place of electrodes with different references."""
    channels, references = (*CHANNELS, "A-B"), ("R", "S", "S", "R", "")
    dead = np.array([False, False, False, False, True])
    np.testing.assert_array_equal(
        alive_derivations(dead, channels, MONTAGE.derivations, references), [False, True, True]
    )
