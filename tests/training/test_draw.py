"""Windows drawn each epoch: what decides them, and that every worker sees the epoch."""

from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import forked
import numpy as np
import pytest
from conftest import ROOT
from edf_files import EdfFile

import hms
from hms.errors import ConfigError
from hms.results.run import Run
from hms.training.draw import draw_window, group_by_recording, shifted
from hms.training.epoch import SharedEpoch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def per_row(small_set: Path, run_once: Callable[..., Run]) -> Run:
    """Return a run with several items for most recordings, and with their derivations."""
    return run_once(
        "data=kaggle",
        f"data.root={small_set}",
        "unit=per_row",
        "stages=[scalograms,labels,splits]",
        "package.derivations=true",
        "package.pack=true",
    )


# --- one window of each recording ----------------------------------------------------------------


def test_an_epoch_has_one_item_of_each_recording(per_row: Run) -> None:
    dataset = per_row.dataset(draw="window")
    recordings = per_row.meta.set_index("item_id")["eeg_id"]
    assert len(dataset) == recordings.nunique() < len(recordings)
    assert sorted(recordings[[item["item_id"] for item in dataset]]) == sorted(recordings.unique())


def test_over_epochs_every_item_is_drawn_and_all_about_as_often(per_row: Run) -> None:
    """Each of n items of a recording is drawn in 1/n of 400 epochs, 5 standard errors are at most 0.125."""
    dataset = per_row.dataset(draw="window", seed=5)
    sizes = [len(members) for members in group_by_recording(per_row.meta["eeg_id"].astype(str)).values()]
    number = int(np.argmax(sizes))
    drawn = []
    for epoch in range(400):
        dataset.set_epoch(epoch)
        drawn.append(dataset[number]["item_id"])
    names, counts = np.unique(drawn, return_counts=True)
    assert len(names) == sizes[number] > 1
    np.testing.assert_allclose(counts / 400, 1 / sizes[number], atol=0.125)


def test_a_draw_depends_on_seed_epoch_and_recording_alone(per_row: Run) -> None:
    """Another subset, in another order, draws the same of a recording."""
    ids = per_row.meta["item_id"].tolist()
    whole, turned = (
        per_row.dataset(draw="window", seed=1),
        per_row.dataset(draw="window", seed=1, items=ids[::-1]),
    )
    recordings = per_row.meta.set_index("item_id")["eeg_id"]
    for epoch in range(5):
        draws = []
        for dataset in (whole, turned):
            dataset.set_epoch(epoch)
            draws.append({recordings[item["item_id"]] for item in dataset})
        assert draws[0] == draws[1]
    first = draw_window(7, seed=1, epoch=2, recording="a")
    assert first == draw_window(7, seed=1, epoch=2, recording="a")
    others = [
        draw_window(7, seed=s, epoch=e, recording=r) for s, e, r in ((2, 2, "a"), (1, 3, "a"), (1, 2, "b"))
    ]
    assert all(other.shift != first.shift for other in others)


def test_label_and_weight_are_those_of_the_item_drawn(per_row: Run) -> None:
    labels = per_row.labels
    row = {name: number for number, name in enumerate(labels.item_id.tolist())}
    for item in per_row.dataset(draw="window", seed=3):
        assert item["y"].tobytes() == labels.y_soft[row[item["item_id"]]].tobytes()
        assert item["weight"] == labels.w_conf[row[item["item_id"]]]


def test_a_recording_weighs_the_mean_of_its_items(per_row: Run) -> None:
    labels, recordings = per_row.labels, per_row.meta["eeg_id"].astype(str).tolist()
    expected = [labels.w_conf[rows].mean() for rows in group_by_recording(recordings).values()]
    assert per_row.dataset(draw="window").weights_for_sampler() == pytest.approx(expected)


# --- shifts --------------------------------------------------------------------------------------


def test_a_shift_moves_later_samples_into_the_window_and_leaves_zeros_behind() -> None:
    signal = np.arange(1.0, 7.0)[np.newaxis]
    np.testing.assert_array_equal(shifted(signal, 2)[0], [3, 4, 5, 6, 0, 0])
    np.testing.assert_array_equal(shifted(signal, -1)[0], [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(shifted(signal, 0), signal)
    np.testing.assert_array_equal(shifted(signal, 9)[0], np.zeros(6))


def test_a_shifted_window_holds_what_lies_beside_it_in_the_recording(per_row: Run) -> None:
    """The shift is what the draw says, of at most 2 s; the window's samples are then the recording's own."""
    plain = per_row.dataset(signal="derivations")
    moved = per_row.dataset(signal="derivations", draw="window", shift_s=2.0, seed=4)
    recordings = list(group_by_recording(per_row.meta["eeg_id"].astype(str)))
    middle = slice(moved.n_context, -moved.n_context)
    shifts = []
    for number, recording in enumerate(recordings):
        item = moved[number]
        members = sum(per_row.meta["eeg_id"].astype(str) == recording)
        by = round(400 * draw_window(int(members), seed=4, epoch=0, recording=recording).shift)
        whole = plain.plain(plain.item_ids.index(item["item_id"]))["x"]
        expected = whole[:, moved.n_context + by : whole.shape[1] - moved.n_context + by]
        np.testing.assert_array_equal(item["x"][:, middle], expected)
        shifts.append(by)
    assert len(set(shifts)) > 1
    assert max(map(abs, shifts)) <= 400


def test_a_window_moves_along_the_recording_as_far_as_the_package_reaches(tmp_path: Path) -> None:
    """By more than the context: the derivations are those of a run whose window lies there."""
    rng = np.random.default_rng(0)
    EdfFile(eeg=rng.normal(0, 30, (19, 40_000)).cumsum(axis=1) % 500 - 250).write(tmp_path / "d" / "a.edf")

    def run_at(start_s: float, *overrides: str) -> Run:
        table = tmp_path / f"{start_s}.csv"
        table.write_text(f"recording,patient_id,start_s\na.edf,p,{start_s}\n", encoding="utf-8")
        base = ("data=edf", f"data.root={tmp_path / 'd'}", f"data.windows={table}", "data.block_s=null")
        made = ("package.derivations=true", "stages=[scalograms]", f"outputs_dir={tmp_path / 'o'}")
        return hms.run(hms.compose(*base, *made, "n_jobs=1", *overrides))

    run = run_at(75.0, "package.shift_s=20")
    recording = str(run.meta["eeg_id"].iloc[0])
    shifts = (round(4000 * draw_window(1, seed=n, epoch=0, recording=recording).shift) for n in range(50))
    seed, by = next((seed, by) for seed, by in enumerate(shifts) if by > 2400)  # further than the context
    moved = run.dataset(signal="derivations", draw="window", shift_s=20.0, seed=seed)
    there = run_at(75.0 + by / 200)
    expected = there.derivations(there.meta["item_id"].iloc[0])
    found = moved[0]["x"]
    assert found.shape == expected.shape == (16, 2 * 2400 + 2000)
    middle = slice(2000, -2000)  # the filter reaches beyond what the other run has read
    np.testing.assert_allclose(found[:, middle], expected[:, middle], atol=1e-3 * np.abs(expected).max())
    assert run.dataset(signal="derivations")[0]["x"].shape == found.shape


@pytest.mark.parametrize("shift_s", [13, -1])
def test_a_shift_beyond_what_the_package_holds_is_refused(per_row: Run, shift_s: float) -> None:
    with pytest.raises(ConfigError, match=rf"shift_s={shift_s} is out of range; .* at most 12, what"):
        per_row.dataset(signal="derivations", draw="window", shift_s=shift_s)


# --- the epoch in other processes ----------------------------------------------------------------


def test_a_pickled_copy_sees_the_epoch_of_the_original_and_keeps_its_own() -> None:
    original = SharedEpoch(3)
    copied = pickle.loads(pickle.dumps(original))
    original.value = 4
    assert copied.value == 4
    copied.value = 9
    assert (copied.value, original.value) == (9, 4)


def test_a_copy_goes_on_where_the_original_is_no_more() -> None:
    data = pickle.dumps(SharedEpoch(6))
    assert pickle.loads(data).value == 6


def test_the_file_behind_an_epoch_is_gone_with_it() -> None:
    epoch = SharedEpoch()
    path = Path(epoch._path)
    assert path.is_file()
    del epoch
    assert not path.exists()


def test_a_forked_child_reads_the_epoch_and_cannot_set_it_for_the_parent() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork: the epoch in forked children is NOT tested")
    epoch = SharedEpoch(1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        seen = epoch.value
        epoch.value = 50
        os.write(write, bytes([seen, epoch.value]))
        os._exit(0)
    os.waitpid(child, 0)
    assert tuple(os.read(read, 2)) == (1, 50)
    assert epoch.value == 1
    assert Path(epoch._path).is_file()


def test_a_deep_copy_of_a_dataset_has_its_own_epoch_once_it_is_set(per_row: Run) -> None:
    dataset = per_row.dataset(draw="window")
    other = copy.deepcopy(dataset)
    other.set_epoch(5)
    assert (dataset.epoch, other.epoch) == (0, 5)
    with pytest.raises(TypeError):
        dataset.set_epoch(1.5)


LOADER = """
import json, sys
import torch
import hms

def digests(run, **loading):
    dataset = run.dataset("train", fold=0, signal="derivations", draw="window", shift_s=3, seed=3,
                          augment="derivations")
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, **loading)
    found = []
    for epoch in (0, 1, 2, 1):
        dataset.set_epoch(epoch)
        sums = [(batch["item_id"], float(batch["x"].double().sum()), batch["alive"].tolist())
                for batch in loader]
        found.append(json.dumps(sums))
    return found

if __name__ == "__main__":
    run = hms.load(sys.argv[1])
    alone = digests(run, num_workers=0)
    found = {"alone": alone}
    for context, n in (("fork", 2), ("spawn", 1)):  # a spawned one imports torch
        found[context] = digests(run, num_workers=n, persistent_workers=True, multiprocessing_context=context)
    print(json.dumps(found))
"""


def test_persistent_workers_draw_anew_each_epoch_by_fork_and_by_spawn(per_row: Run, tmp_path: Path) -> None:
    """Before, workers kept the epoch that they were started with, and drew the same again, silently."""
    pytest.importorskip("torch", reason="torch is not installed: persistent workers are NOT tested")
    script = tmp_path / "loader.py"
    script.write_text(LOADER)
    done = forked.run([script, per_row.path], env={**os.environ, "PYTHONPATH": str(ROOT)}, modules=("torch",))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    alone = found["alone"]
    assert alone[1] == alone[3]
    assert len(set(alone)) == 3
    assert found["fork"] == alone
    assert found["spawn"] == alone
