"""The dataset: what it pairs, what it refuses, and that any number of workers gives the same."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import forked
import numpy as np
import pytest

import hms
from hms.errors import ConfigError
from hms.results.run import Run
from hms.training.dataset import SpecDataset
from hms.training.reading import from_float16


@pytest.fixture(scope="module")
def packed_run(small_set: Path, run_once: Callable[..., Run]) -> Run:
    """Return a run with the packed array; from 4 votes on an item is of high confidence."""
    return run_once(
        "data=kaggle",
        f"data.root={small_set}",
        "stages=[scalograms,waveforms,labels,splits]",
        "package.pack=true",
        "labels.high_confidence_votes=4",
    )


def label_of(run: Run, item_id: str) -> np.ndarray:
    """Return an item's soft label straight from the files, by item_id."""
    labels = run.arrays("data_package/labels.npz")
    return labels["y_soft"][labels["item_id"].tolist().index(item_id)]


# --- what an item is -----------------------------------------------------------------------------


@pytest.mark.slow
def test_items_are_what_torch_collates(packed_run: Run) -> None:
    item = packed_run.dataset()[0]
    assert list(item) == ["x", "y", "weight", "item_id"]
    assert (item["x"].dtype, item["x"].shape) == (np.float32, (4, 48, 250))
    assert (item["y"].dtype, item["y"].shape) == (np.float32, (6,))
    assert isinstance(item["weight"], np.float32)
    assert type(item["item_id"]) is str


def test_signals_labels_and_weights_belong_to_the_item(packed_run: Run) -> None:
    labels = packed_run.arrays("data_package/labels.npz")
    for item in packed_run.dataset(packed=False, signal="both"):
        row = labels["item_id"].tolist().index(item["item_id"])
        assert item["x"].tobytes() == packed_run.spec(item["item_id"]).tobytes()
        assert item["wave"].tobytes() == packed_run.wave(item["item_id"]).tobytes()
        assert item["y"].tobytes() == labels["y_soft"][row].tobytes()
        assert item["weight"] == labels["w_conf"][row]


def test_a_subset_in_any_order_gives_the_same_pairs(packed_run: Run) -> None:
    """Selecting rows must select labels with them, never the labels of the first rows.

    The published modelling code took a fold's signals and, after an index was reset, the
    labels of other items: every model collapsed to one class.
    """
    whole = {item["item_id"]: item for item in packed_run.dataset()}
    ids = list(whole)
    for order in (ids[::-1], ids[3:8], ids[1::2], [ids[5], ids[0], ids[2]]):
        part = packed_run.dataset(items=order)
        assert part.item_ids == order
        for item in part:
            same = whole[item["item_id"]]
            assert item["x"].tobytes() == same["x"].tobytes()
            assert (
                item["y"].tobytes() == same["y"].tobytes() == label_of(packed_run, item["item_id"]).tobytes()
            )


@pytest.mark.slow
def test_waveforms_alone_are_x(packed_run: Run) -> None:
    item = packed_run.dataset(signal="wave")[1]
    assert item["x"].shape == (4, 2000)
    assert "wave" not in item


def test_indices_are_those_of_a_list(packed_run: Run) -> None:
    dataset = packed_run.dataset()
    assert dataset[-1]["item_id"] == dataset[len(dataset) - 1]["item_id"]
    assert dataset[np.int64(2)]["item_id"] == dataset.item_ids[2]
    with pytest.raises(IndexError, match=f"item {len(dataset)} of a dataset of {len(dataset)}"):
        dataset[len(dataset)]
    with pytest.raises(IndexError):
        dataset[-len(dataset) - 1]


def test_a_changed_sample_leaves_the_dataset_alone(packed_run: Run) -> None:
    dataset = packed_run.dataset()
    first = dataset[0]
    first["x"][:] = -1
    first["y"][:] = -1
    assert dataset[0]["x"].min() == 0
    assert dataset[0]["y"].sum() == pytest.approx(1)


# --- splits and stages ---------------------------------------------------------------------------


def test_a_fold_has_the_items_of_its_rows_and_no_patient_on_both_sides(packed_run: Run) -> None:
    meta = packed_run.meta.set_index("item_id")["patient_id"]
    for fold, split in enumerate(packed_run.splits):
        train, valid = packed_run.dataset("train", fold=fold), packed_run.dataset("valid", fold=fold)
        assert train.item_ids == packed_run.meta["item_id"].iloc[split.train].tolist()
        assert valid.item_ids == packed_run.meta["item_id"].iloc[split.valid].tolist()
        assert not set(meta[train.item_ids]) & set(meta[valid.item_ids])


def test_stage_1_is_high_confidence_and_stage_2_all_unless_turned_round(packed_run: Run) -> None:
    labels = packed_run.labels
    confident = labels.item_id[labels.vote_sum >= 4].tolist()
    everything = labels.item_id.tolist()
    assert 0 < len(confident) < len(everything)
    assert packed_run.dataset(stage=1).item_ids == confident
    assert packed_run.dataset(stage=2).item_ids == everything
    assert packed_run.dataset().item_ids == everything
    assert packed_run.dataset(stage=1, stage_order="all_first").item_ids == everything
    assert packed_run.dataset(stage=2, stage_order="all_first").item_ids == confident


def test_sampler_weights_are_the_confidence_weights(packed_run: Run) -> None:
    dataset = packed_run.dataset(stage=1)
    assert dataset.weights_for_sampler() == [float(item["weight"]) for item in dataset]


@pytest.mark.parametrize(
    ("arguments", "choices", "text"),
    [
        (("train",), {"fold": 5}, r"fold 5 does not exist; run \w+ has the folds 0 to 4"),
        (("train",), {}, r"split='train' needs a fold; there are the folds 0 to 4"),
        ((), {"fold": 1}, "fold is given without a split"),
        (("test",), {"fold": 0}, r"split=test is not allowed; it is one of train, valid"),
        (("trian",), {"fold": 0}, r"did you mean 'train'"),
        ((), {"stage": 3}, "stage=3 is not allowed; it is 1, 2 or None"),
        ((), {"stage_order": "both"}, "stage_order=both is not allowed"),
        ((), {"signal": "eeg"}, "signal=eeg is not allowed; it is one of spec, wave, both, derivations"),
        ((), {"signal": "derivations"}, r"has no deriv_hr_out/.*run it again with package.derivations=true"),
        ((), {"spectrogram": True}, r"has no spec_lr_out/.*run it again with spectrograms=kaggle"),
        ((), {"draw": "windows"}, "draw=windows is not allowed.*did you mean 'window'"),
        ((), {"draw": "window", "shift_s": 1}, "shift_s=1 .* which only derivations have"),
        ((), {"items": ["nobody"]}, "1 item outside this split and stage: nobody"),
        ((), {"dtype": "float64"}, "dtype=float64 is not allowed"),
        ((), {"dtype": "float16", "augment": "light"}, "dtype=float16 cannot be augmented"),
        ((), {"augment": "lihgt"}, "augment=lihgt is not an option.*did you mean 'light'"),
    ],
)
def test_a_wrong_choice_is_refused_with_the_right_ones(
    packed_run: Run, arguments: tuple, choices: dict, text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        packed_run.dataset(*arguments, **choices)


def test_a_stage_without_items_is_refused(small_set: Path, tmp_path: Path) -> None:
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path}", "n_jobs=1")
    run = hms.run(hms.compose(*base, "stages=[labels,splits]", "labels.high_confidence_votes=1000"))
    with pytest.raises(ConfigError, match="stage=1 has no items: none of the 10 items"):
        run.dataset(stage=1)


@pytest.mark.slow
def test_a_test_set_has_signals_and_ids_and_neither_labels_nor_weights(
    test_set: Path, finished: Run, tmp_path: Path
) -> None:
    base = ("data=kaggle", f"data.root={test_set}", "data.subset=test", f"outputs_dir={tmp_path}", "n_jobs=1")
    test = hms.run(hms.compose(*base, f"from_run={finished.path}", "stages=[scalograms]"))
    dataset = test.dataset()
    assert dataset.item_ids == test.meta["item_id"].tolist()
    for item in dataset:
        assert list(item) == ["x", "item_id"]
        assert item["x"].tobytes() == test.spec(item["item_id"]).tobytes()
    assert test.dataset(items=dataset.item_ids[3:1:-1]).item_ids == dataset.item_ids[3:1:-1]
    for choices in ({"split": "train", "fold": 0}, {"stage": 1}, {"labels_from": finished}):
        if "labels_from" in choices:
            assert set(test.dataset(**choices)[0]) == {"x", "y", "weight", "item_id"}
            continue
        with pytest.raises(ConfigError, match=r"so it has no splits and stages; for its items alone"):
            test.dataset(**choices)
    with pytest.raises(ConfigError, match="has no labels to train on; leave augment out"):
        test.dataset(augment="light")
    with pytest.raises(ConfigError, match="items without labels have no weights"):
        dataset.weights_for_sampler()


def test_a_run_without_scalograms_is_refused(small_set: Path, finished: Run, tmp_path: Path) -> None:
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path}", "n_jobs=1")
    run = hms.run(hms.compose(*base, "stages=[labels,splits]"))
    with pytest.raises(ConfigError, match=r"has no spec_hr_out/.*run it again with scalograms in stages"):
        run.dataset()
    with pytest.raises(
        ConfigError,
        match=r"has no packed array data_package/spec_pack.npy; run it again with package.pack=true",
    ):
        finished.dataset(packed=True)


def test_a_run_that_is_not_finished_is_refused(finished: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished.path, tmp_path / "run"))
    (copy / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="the run is not finished; run it again with the same command"):
        SpecDataset(Run(copy))


def test_labels_of_another_run_are_refused_unless_the_items_are_the_same(
    packed_run: Run, small_set: Path, tmp_path: Path
) -> None:
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path}", "n_jobs=1", "stages=[labels]")
    same = hms.run(hms.compose(*base, "weight=constant"))
    assert set(packed_run.dataset(labels_from=same).weights_for_sampler()) == {1.0}
    rows = hms.run(hms.compose(*base, "unit=per_row"))
    with pytest.raises(ConfigError, match=r"have different items: 10 have no label .* use one run for both"):
        packed_run.dataset(labels_from=rows)


def test_labels_in_another_order_are_joined_by_item_id(packed_run: Run) -> None:
    shuffled = Run(packed_run.path)
    turned = {
        name: getattr(packed_run.labels, name)[::-1] for name in ("y_soft", "w_conf", "hc_mask", "item_id")
    }
    shuffled.__dict__["labels"] = replace(packed_run.labels, **turned)
    for item in packed_run.dataset(labels_from=shuffled):
        assert item["y"].tobytes() == label_of(packed_run, item["item_id"]).tobytes()


# --- the packed array ----------------------------------------------------------------------------


def test_the_packed_array_holds_every_scalogram_under_its_id(packed_run: Run) -> None:
    array = np.load(packed_run.path / "data_package/spec_pack.npy", mmap_mode="r")
    ids = packed_run.arrays("data_package/spec_pack_ids.npz")["item_id"].tolist()
    assert (array.dtype, array.shape) == (np.float16, (10, 4, 48, 250))
    assert ids == packed_run.meta["item_id"].tolist()
    for row, item_id in enumerate(ids):
        np.testing.assert_array_equal(array[row], packed_run.spec(item_id).astype(np.float16))


def test_packed_items_are_the_stored_ones_to_half_precision(packed_run: Run) -> None:
    """Half precision has 11 bits: an error of at most 2**-12 below 1."""
    packed, single = packed_run.dataset(), packed_run.dataset(packed=False)
    assert "packed array" in repr(packed)
    for a, b in zip(packed, single, strict=True):
        assert a["item_id"] == b["item_id"]
        np.testing.assert_allclose(a["x"], b["x"], rtol=0, atol=2**-12)
    half = packed_run.dataset(dtype="float16")[0]["x"]
    np.testing.assert_array_equal(half, single[0]["x"].astype(np.float16))


def test_every_finite_half_becomes_its_own_value() -> None:
    half = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = np.isfinite(half)
    got = from_float16(half)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(
        got[finite].view(np.uint32), half[finite].astype(np.float32).view(np.uint32)
    )


@pytest.mark.slow
def test_packing_unscaled_power_is_refused(small_set: Path, tmp_path: Path) -> None:
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path}", "n_jobs=1")
    with pytest.raises(ConfigError, match=r"package.pack=true stores float16, which ends at 65504"):
        hms.run(hms.compose(*base, "package.pack=true", "scaling=none"))
    for stage, setting in {
        "packed": "package.pack",
        "packed_waveforms": "package.waveforms",
        "packed_spectrograms": "package.spectrograms",
        "packed_traces": "package.derivations",
        "traces": "package.derivations",
    }.items():
        with pytest.raises(
            ConfigError, match=rf"'{stage}' is made by {setting}=true; leave it out of stages"
        ):
            hms.run(hms.compose(*base, f"stages=[{stage}]"))


@pytest.fixture(scope="module")
def everything(small_set_with_spectrograms: Path, run_once: Callable[..., Run]) -> Run:
    """Return a run with every signal, each in files and in one array; derivations in half precision."""
    return run_once(
        "data=kaggle",
        f"data.root={small_set_with_spectrograms}",
        *(f"package.{name}=true" for name in ("pack", "waveforms", "spectrograms", "derivations")),
        "package.derivations_dtype=float16",
        "spectrograms=kaggle",
        "stages=[labels,splits]",
        "folds.n_splits=2",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choices", "name", "of_item"),
    [
        ({"signal": "wave"}, "x", lambda run, item: run.wave(item)),
        ({"signal": "both"}, "wave", lambda run, item: run.wave(item)),
        ({"spectrogram": True}, "spec_lr", lambda run, item: run.spec_lr(item)),
        ({"signal": "derivations"}, "x", lambda run, item: run.evaluate(item, "traces").x),
    ],
)
def test_every_signal_is_read_from_one_array_or_from_files(everything: Run, choices, name, of_item) -> None:
    """What the array holds is the file's values, rounded to half precision: 2**-11 of each at most."""
    packed, single = (everything.dataset(packed=packed, **choices) for packed in (True, False))
    assert all(reader.is_packed for reader in packed._readers.values())
    assert not any(reader.is_packed for reader in single._readers.values())
    for item, other in zip(packed, single, strict=True):
        assert item[name].dtype == other[name].dtype == np.float32
        np.testing.assert_allclose(item[name], other[name], rtol=2**-11, atol=1e-7)
        np.testing.assert_allclose(other[name], of_item(everything, item["item_id"]), rtol=2**-11, atol=1e-7)
        if "alive" in other:
            np.testing.assert_array_equal(item["alive"], other["alive"])


@pytest.mark.slow
def test_derivations_of_an_item_are_its_window_with_the_context(everything: Run) -> None:
    item = everything.labels.item_id[0]
    found = everything.derivations(item)
    assert (found.dtype, found.shape) == (np.float16, (16, 2000 + 2 * 2400))
    np.testing.assert_allclose(found, everything.evaluate(item, "derivations").values, rtol=2**-11, atol=1e-6)


def test_augmentation_takes_every_signal_together(everything: Run) -> None:
    dataset = everything.dataset(signal="both", spectrogram=True, augment="strong")
    plain = everything.dataset(signal="both", spectrogram=True)
    changed = set()
    for epoch in range(6):
        dataset.set_epoch(epoch)
        for item, before in zip(dataset, plain, strict=True):
            names = ("x", "wave", "spec_lr")
            assert [item[name].shape for name in names] == [before[name].shape for name in names]
            changed |= {name for name in names if not np.array_equal(item[name], before[name])}
    assert changed == {"x", "wave", "spec_lr"}


@pytest.mark.slow
def test_derivations_that_half_precision_cannot_hold_are_left_out_with_the_way_out(
    own_set: Path, tmp_path: Path
) -> None:
    import pandas as pd

    path = sorted((own_set / "train_eegs").glob("*.parquet"))[0]
    frame = pd.read_parquet(path)
    frame["Fp1"] += np.float32(1e5)
    frame.to_parquet(path)
    base = ("data=kaggle", f"data.root={own_set}", f"outputs_dir={tmp_path}", "n_jobs=1", "filter=none")
    half = hms.run(
        hms.compose(
            *base, "stages=[scalograms]", "package.derivations=true", "package.derivations_dtype=float16"
        )
    )
    (reason,) = half.excluded["reason"].tolist()
    assert reason.startswith("derivations reach 1.00")
    assert reason.endswith("µV and float16 ends at 65504; package.derivations_dtype=float32 holds them")
    whole = hms.run(hms.compose(*base, "stages=[scalograms]", "package.derivations=true"))
    assert not len(whole.excluded)
    with pytest.raises(
        ConfigError, match=f"dtype=float16 ends at 65504, but item {path.stem} has values up to"
    ):
        list(whole.dataset(signal="derivations", dtype="float16"))


# --- workers -------------------------------------------------------------------------------------


def test_a_dataset_survives_pickling_before_and_after_its_first_read(packed_run: Run) -> None:
    dataset = packed_run.dataset("train", fold=1, augment="strong")
    fresh = pickle.loads(pickle.dumps(dataset))
    expected = dataset[2]["x"].tobytes()
    used = pickle.dumps(dataset)
    assert len(used) < 100_000
    assert fresh[2]["x"].tobytes() == expected
    assert pickle.loads(used)[2]["x"].tobytes() == expected


LOADER = """
import hashlib, json, sys
import torch
import hms
run = hms.load(sys.argv[1])
dataset = run.dataset("train", fold=0, signal="both", augment="strong", seed=3)
found = {}
for workers in (0, 1, 4):
    digest = hashlib.sha256()
    dataset.set_epoch(1)
    for batch in torch.utils.data.DataLoader(dataset, batch_size=3, num_workers=workers):
        assert batch["x"].dtype == batch["y"].dtype == batch["weight"].dtype == torch.float32
        for name in ("x", "wave", "y", "weight"):
            digest.update(batch[name].numpy().tobytes())
        digest.update(",".join(batch["item_id"]).encode())
    found[workers] = digest.hexdigest()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_torch_loader_gives_the_same_with_0_1_and_4_workers(packed_run: Run) -> None:
    pytest.importorskip("torch", reason="torch is not installed: the DataLoader is NOT tested")
    done = forked.run(["-c", LOADER, packed_run.path], modules=("torch",))
    assert done.returncode == 0, done.stderr
    digests = json.loads(done.stdout.splitlines()[-1])
    assert sorted(digests) == ["0", "1", "4"]
    assert len(set(digests.values())) == 1


def test_importing_hms_imports_nothing_heavy() -> None:
    heavy = ("torch", "sklearn", "matplotlib", "pandas", "scipy", "pywt", "hydra")
    code = f"import sys, hms, hms.training, hms.results; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
