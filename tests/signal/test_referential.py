"""Referential montages: what each reference subtracts, and when it cannot."""

import numpy as np
import pytest

from hms.config.compose import compose
from hms.config.schema import build_config
from hms.errors import ConfigError
from hms.signal.referential import rereference

CHANNELS = ("Fp1", "C3", "O2", "A1", "A2")
EEG = np.array([[10, 20], [40, 50], [70, 20], [4, 8], [8, 16]], np.float32)
SCALP = ("Fp1", "C3", "O2")


def referred(reference, *, dead=(), references=(), ears=("A1", "A2"), channels=CHANNELS):
    mask = np.array([name in dead for name in channels])
    return rereference(
        EEG[: len(channels)], channels, mask, SCALP, references, reference=reference, ears=ears
    )


def test_an_average_reference_subtracts_the_mean_of_the_electrodes_and_of_no_ear():
    """The means are 40 and 30."""
    assert referred("average").tolist() == [[-30, -10], [0, 20], [30, -10]]


def test_a_dead_electrode_takes_no_part_in_the_average():
    """The means of Fp1 and O2 are 40 and 20."""
    assert referred("average", dead=("C3",))[[0, 2]].tolist() == [[-30, 0], [30, 0]]


def test_linked_ears_subtract_half_the_sum_of_both():
    """Half the sums are 6 and 12."""
    assert referred("linked_ears").tolist() == [[4, 8], [34, 38], [64, 8]]


def test_an_ear_that_all_were_recorded_against_counts_as_zero():
    """Against A1, half of A2 is 4 and 8."""
    found = referred("linked_ears", references=("A1", "A1", "A1", "", "A1"))
    assert found.tolist() == [[6, 12], [36, 42], [66, 12]]


def test_what_is_recorded_against_linked_ears_stays_as_it_is():
    found = referred("linked_ears", references=("LE",) * 3, channels=SCALP)
    assert found.tolist() == EEG[:3].tolist()


def test_as_recorded_changes_nothing_whatever_the_references():
    found = referred("as_recorded", references=("A1", "A1", "A2", "", ""))
    assert found.tolist() == EEG[:3].tolist()


@pytest.mark.parametrize(("ear", "against", "half"), [(4, "A1", (-4, -8)), (3, "A2", (2, 4))])
def test_each_side_against_its_own_ear_is_linked_by_what_is_between_the_ears(ear, against, half):
    """A2-A1 is 8 and 16, or A1-A2 4 and 8: half of A1-A2 comes to what is against A1, and leaves A2."""
    references = ["A1", "A1", "A2", "", ""]
    references[ear] = against
    found = referred("linked_ears", references=tuple(references))
    assert found.tolist() == (EEG[:3] + np.array([[1], [1], [-1]]) * np.array(half)).tolist()


def test_every_common_offset_leaves_an_average_reference():
    shifted = rereference(
        EEG + 1000, CHANNELS, np.zeros(5, bool), SCALP, (), reference="average", ears=("A1", "A2")
    )
    np.testing.assert_allclose(shifted, referred("average"), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"reference": "average", "references": ("A1", "A2", "A2", "", "")}, "Fp1 against A1, C3 against A2"),
        ({"reference": "linked_ears", "channels": SCALP}, r"needs the channel A1.*montage.ears"),
        ({"reference": "linked_ears", "dead": ("A2",)}, "A2 has no usable sample"),
        (
            {"reference": "linked_ears", "references": ("REF",) * 3 + ("Cz", "Cz")},
            "A1 was recorded against Cz",
        ),
        ({"reference": "average", "dead": ("Fp1", "C3")}, "at least two live electrodes; there are 1"),
        (
            {"reference": "linked_ears", "references": ("A1", "A1", "A2", "", "")},
            "without a channel A1-A2 the voltage between the ears is unknown; montage.reference=as_recorded",
        ),
    ],
)
def test_a_reference_that_cannot_be_formed_is_refused(options, text):
    with pytest.raises(ValueError, match=text):
        referred(**options)


def test_a_montage_of_electrodes_names_its_rows_by_them():
    cfg = compose("montage=referential")
    assert cfg.at("montage.outputs")[:3] == ("Fp1", "F3", "C3")
    assert len(cfg.at("montage.outputs")) == 19
    assert cfg.at("montage.optional") == ()
    assert compose("montage=referential", "montage.reference=linked_ears").at("montage.optional") == (
        "A1",
        "A2",
    )


def test_a_pair_in_a_montage_of_electrodes_is_refused():
    tree = compose("montage=referential").to_dict()
    tree["montage"]["chains"] = {"scalp": ["Fp1-F7"]}
    with pytest.raises(ConfigError, match="'Fp1-F7' in chain scalp is no electrode; write its name alone"):
        build_config(tree)


def test_the_mean_of_groups_stays_refused():
    with pytest.raises(ConfigError, match="allow_degenerate"):
        compose("montage=referential", "montage.output=chains", "montage.waveform.kind=mean")


# --- in a run ------------------------------------------------------------------------------------

FULL = "stages=[scalograms,waveforms,labels,splits,quality,summary,report]"


@pytest.mark.slow
def test_a_run_has_a_waveform_and_a_scalogram_per_electrode(tiny_set, prepare):
    run = prepare(tiny_set, "montage=referential", "cwt.n_freqs=8", FULL)
    item = run.meta["item_id"].iloc[0]
    assert run.outputs == list(compose("montage=referential").at("montage.outputs"))
    assert run.wave(item).shape == (19, 2000)
    assert run.spec(item).shape == (19, 8, 250)
    assert np.abs(run.wave(item).sum(axis=0)).max() < 1e-2  # an average reference leaves no mean
    assert run.file("qc/report.html").stat().st_size > 100_000
    run.plot(item)


@pytest.mark.slow
def test_differences_of_electrodes_are_the_derivations_whatever_the_reference(tiny_set, prepare):
    pairs = prepare(tiny_set, "montage=bipolar16", "stages=[waveforms]")
    item = pairs.meta["item_id"].iloc[0]
    for reference in ("average", "as_recorded"):
        run = prepare(tiny_set, "montage=referential", f"montage.reference={reference}", "stages=[waveforms]")
        wave = dict(zip(run.outputs, run.wave(item), strict=True))
        for name, pair in zip(pairs.outputs, pairs.wave(item), strict=True):
            anode, cathode = name.split("-")
            np.testing.assert_allclose(wave[anode] - wave[cathode], pair, atol=2e-3)


@pytest.mark.slow
def test_groups_of_electrodes_average_their_power(tiny_set, prepare):
    run = prepare(tiny_set, "montage=referential", "montage.output=chains", "stages=[scalograms,waveforms]")
    assert run.spec(run.meta["item_id"].iloc[0]).shape == (1, 48, 250)
    assert run.outputs == ["scalp"]


def test_linked_ears_that_a_recording_lacks_leave_it_out_with_the_reason(small_set, command):
    done = command(
        "data=kaggle",
        f"data.root={small_set}",
        "montage=referential",
        "montage.reference=linked_ears",
        "stages=[waveforms]",
    )
    assert "needs the channel A1" in done.out + done.err
