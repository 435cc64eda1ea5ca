"""A package where models look for data: torch, braindecode and Hugging Face's datasets, the real ones."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hms
from hms.cli import main
from hms.errors import ConfigError
from hms.results.run import Run


@pytest.fixture(scope="module")
def pairs_run(small_set: Path, run_once: Callable[..., Run]) -> Run:
    """Return a run with a waveform for each of 16 derivations, as braindecode's networks take them."""
    stages = "stages=[scalograms,waveforms,quality,labels,splits]"
    choices = ("montage=bipolar16", "labels.high_confidence_votes=4", stages)
    return run_once("data=kaggle", f"data.root={small_set}", *choices)


# --- torch ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_torch_gets_a_dataset_of_its_own_kind_with_tensors(pairs_run: Run) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: to_torch is NOT tested")
    view = pairs_run.to_torch("train", fold=0)
    assert isinstance(view, torch.utils.data.Dataset)
    item, plain = view[1], pairs_run.dataset("train", fold=0)[1]
    assert item["item_id"] == plain["item_id"]
    for name in ("x", "y", "weight"):
        np.testing.assert_array_equal(item[name].numpy(), plain[name])
    assert len(view) == len(pairs_run.splits[0].train)


def test_torch_gets_pairs_where_a_library_takes_pairs(pairs_run: Run) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: to_torch is NOT tested")
    view = pairs_run.to_torch(signal="wave", fields=("x", "target"))
    x, target = next(iter(torch.utils.data.DataLoader(view, batch_size=4)))
    assert tuple(x.shape) == (4, 16, 2000)
    assert target.tolist() == pairs_run.labels.y_soft[:4].argmax(axis=1).tolist()
    view.set_epoch(3)
    assert view.dataset.epoch == 3
    with pytest.raises(ConfigError, match=r"fields: a sample has no 'wieght' .did you mean 'weight'"):
        pairs_run.to_torch(fields=("x", "wieght"))


# --- braindecode ---------------------------------------------------------------------------------


def braindecode_is_there() -> None:
    pytest.importorskip("torch", reason="torch is not installed: to_braindecode is NOT tested")
    pytest.importorskip("braindecode", reason="braindecode is not installed: to_braindecode is NOT tested")


@pytest.mark.filterwarnings("ignore")
def test_braindecode_gets_windows_with_their_patients_folds_and_labels(pairs_run: Run) -> None:
    braindecode_is_there()
    from braindecode.datasets import BaseConcatDataset, WindowsDataset

    windows = pairs_run.to_braindecode()
    assert isinstance(windows, BaseConcatDataset)
    assert all(isinstance(each, WindowsDataset) for each in windows.datasets)
    metadata = windows.get_metadata()
    labels = pairs_run.labels
    row = {name: number for number, name in enumerate(labels.item_id.tolist())}
    assert sorted(metadata["item_id"]) == sorted(row)
    for number, item_id in enumerate(metadata["item_id"].tolist()):
        x, y, crop = windows[number]
        np.testing.assert_allclose(x, pairs_run.wave(item_id), rtol=1e-5, atol=1e-4)
        assert x.dtype == np.float32
        assert y == labels.y_soft[row[item_id]].argmax()
        assert crop[1:] == [0, 2000]
    soft = metadata.set_index("item_id")[[f"y_{name}" for name in labels.classes]]
    np.testing.assert_allclose(soft.loc[labels.item_id.tolist()], labels.y_soft, rtol=1e-6)
    assert windows.datasets[0].windows.ch_names[:2] == ["Fp1-F7", "F7-T3"]
    parts = windows.split("fold")
    for fold, split in enumerate(pairs_run.splits):
        names = parts[str(fold)].get_metadata()["item_id"]
        assert sorted(names) == sorted(labels.item_id[split.valid].tolist())


@pytest.mark.filterwarnings("ignore")
def test_a_network_of_braindecode_is_trained_on_them(pairs_run: Run) -> None:
    braindecode_is_there()
    import torch
    from braindecode import EEGClassifier
    from braindecode.models import ShallowFBCSPNet

    train, valid = (pairs_run.to_braindecode(part, fold=0) for part in ("train", "valid"))
    torch.manual_seed(0)
    net = ShallowFBCSPNet(n_chans=16, n_outputs=6, n_times=2000)
    classifier = EEGClassifier(
        net,
        criterion=torch.nn.CrossEntropyLoss,
        train_split=None,
        max_epochs=1,
        batch_size=4,
        verbose=0,
        classes=list(range(6)),
    )
    classifier.fit(train, y=None)
    assert np.isfinite(classifier.history[-1, "train_loss"])
    shares = classifier.predict_proba(valid)
    assert shares.shape == (len(valid), 6)


@pytest.mark.filterwarnings("ignore")
def test_skorch_is_trained_on_pairs_of_scalograms(pairs_run: Run) -> None:
    braindecode_is_there()  # it brings skorch
    import torch
    from skorch import NeuralNet

    net = torch.nn.Sequential(
        torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.LazyLinear(6), torch.nn.LogSoftmax(dim=1)
    )
    net(torch.zeros(2, 16, 48, 250))
    model = NeuralNet(net, torch.nn.KLDivLoss, train_split=None, max_epochs=2, batch_size=4, verbose=0)
    model.fit(pairs_run.to_torch("train", fold=0, fields=("x", "y")), y=None)
    assert np.isfinite(model.history[-1, "train_loss"])


@pytest.mark.skipif(importlib.util.find_spec("braindecode") is not None, reason="braindecode is there")
def test_without_braindecode_it_is_said_how_to_get_it(pairs_run: Run) -> None:
    with pytest.raises(
        ConfigError, match=r"to_braindecode needs braindecode; pip install 'hms-eeg\[braindecode\]'"
    ):
        pairs_run.to_braindecode()


@pytest.mark.parametrize("module", ["torch", "device"])
def test_without_torch_it_is_said_how_to_get_it(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, f"hms.training.{module}", raising=False)
    with pytest.raises(ConfigError, match=r"PyTorch, not installed here: pip install 'hms-eeg\[torch\]'"):
        importlib.import_module(f"hms.training.{module}")


# --- Hugging Face --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(pairs_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("huggingface") / "data set"
    size = pairs_run.to_huggingface(folder, licence="cc-by-nc-4.0")
    assert size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return folder


@pytest.mark.filterwarnings("ignore")
def test_datasets_reads_the_folder_without_code(
    pairs_run: Run, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip(
        "datasets", reason="datasets is not installed: the export is NOT read by it"
    )
    data = datasets.load_dataset(str(exported), split="train", cache_dir=str(tmp_path)).with_format("numpy")
    labels = pairs_run.labels
    assert data.features["x"].shape == (16, 48, 250)
    assert data.features["label"].names == labels.classes.tolist()
    assert data["item_id"][:].tolist() == labels.item_id.tolist()
    for row, item in enumerate(data):
        np.testing.assert_array_equal(item["x"], pairs_run.spec(item["item_id"]))
        np.testing.assert_array_equal(item["wave"], pairs_run.wave(item["item_id"]))
        np.testing.assert_array_equal(item["y"], labels.y_soft[row])
        assert item["weight"] == labels.w_conf[row]
    folds = np.asarray(data["fold"][:])
    for fold, split in enumerate(pairs_run.splits):
        assert np.flatnonzero(folds == fold).tolist() == split.valid.tolist()


def test_the_files_are_plain_parquet_and_the_head_says_what_they_hold(pairs_run: Run, exported: Path) -> None:
    import pyarrow.parquet as pq
    from omegaconf import OmegaConf

    (file,) = sorted((exported / "data").iterdir())
    table = pq.read_table(file)
    assert file.name == "train-00000-of-00001.parquet"
    assert table.column("item_id").to_pylist() == pairs_run.labels.item_id.tolist()
    _, head, body = (exported / "README.md").read_text().split("---\n", 2)
    known = OmegaConf.to_container(OmegaConf.create(head))
    assert known["license"] == "cc-by-nc-4.0"
    assert [each["name"] for each in known["dataset_info"]["features"]] == table.column_names
    assert body.startswith("\n# EEG package")


def test_the_card_counts_what_is_in_the_package(pairs_run: Run, exported: Path) -> None:
    body = (exported / "README.md").read_text()
    consensus = pairs_run.labels.y_soft.argmax(axis=1)
    grades = pairs_run.qc.set_index("item_id")["grade"].loc[pairs_run.labels.item_id.tolist()].to_numpy()
    for column, name in enumerate(pairs_run.labels.classes.tolist()):
        mine = consensus == column
        many = int((mine & (pairs_run.labels.vote_sum >= 4)).sum())
        share = pairs_run.labels.y_soft[:, column].mean()
        assert f"| {name} | {mine.sum()} | {many} | {mine.sum() - many} | {share:.3f} |" in body
        row = " | ".join(
            str(int((mine & (grades == g)).sum())) for g in ("good", "usable", "poor", "unusable")
        )
        assert f"| {name} | {row} |" in body
    assert "Licence of the recordings, as stated at export: cc-by-nc-4.0." in body
    assert "| filter.high_hz | 20.0 |" in body
    assert str(pairs_run.manifest["execution"]["root"]) not in body


def test_a_licence_that_nobody_stated_is_unknown(finished: Run, tmp_path: Path) -> None:
    finished.to_huggingface(tmp_path / "new")
    text = (tmp_path / "new" / "README.md").read_text()
    assert "license: unknown\n" in text
    assert "The licence of the recordings was not stated" in text


def test_a_package_in_shards_is_exported_as_one_in_files(small_set: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    base = (
        "data=kaggle",
        f"data.root={small_set}",
        f"outputs_dir={tmp_path}",
        "n_jobs=1",
        "stages=[waveforms,labels]",
    )
    for form in ("files", "shards"):
        hms.run(hms.compose(*base, f"package.format={form}")).to_huggingface(tmp_path / form)
    files, shards = (parquet.read_table(tmp_path / form / "data") for form in ("files", "shards"))
    assert set(files["fold"].to_pylist()) == {-1}
    assert "wave" in files.column_names
    assert shards.equals(files)


def test_the_command_exports_for_hugging_face(
    finished: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["--outputs", str(finished.path.parent), "export", finished.hash]
    target = str(tmp_path / "new")
    assert main([*command, target, "--to", "huggingface", "--licence", "cc0-1.0"]) == 0
    assert "wrote" in capfd.readouterr().out
    assert "license: cc0-1.0" in (tmp_path / "new" / "README.md").read_text()
    assert main([*command, str(tmp_path / "other"), "--licence", "cc0-1.0"]) == 2
    assert "--licence is written into the card of --to huggingface" in capfd.readouterr().err


def test_an_export_goes_into_a_new_folder_and_needs_signals(
    finished: Run, small_set: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(ConfigError, match="exists and is not an empty folder; name a new one"):
        finished.to_huggingface(tmp_path / "full")
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path}", "n_jobs=1")
    tables = hms.run(hms.compose(*base, "stages=[labels,splits]"))
    with pytest.raises(
        ConfigError, match="has no signal to export; run it again with scalograms or waveforms"
    ):
        tables.to_huggingface(tmp_path / "new")


def test_a_large_package_is_written_in_several_files(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    from hms.training import huggingface

    monkeypatch.setattr(huggingface, "SHARD_BYTES", 4 * 4 * (48 * 250 + 2000) * 4)
    finished.to_huggingface(tmp_path / "new")
    files = sorted((tmp_path / "new" / "data").iterdir())
    assert [file.name for file in files] == [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    ids = [name for file in files for name in pq.read_table(file).column("item_id").to_pylist()]
    assert ids == finished.labels.item_id.tolist()


# --- windows of foundation models ----------------------------------------------------------------

BIOT = (
    "Fp1-F7", "F7-T3", "T3-T5", "T5-O1", "Fp2-F8", "F8-T4", "T4-T6", "T6-O2",
    "Fp1-F3", "F3-C3", "C3-P3", "P3-O1", "Fp2-F4", "F4-C4", "C4-P4", "P4-O2",
)  # fmt: skip
CBRAMOD = (
    "Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2",
    "F7", "F8", "T3", "T4", "T5", "T6", "Fz", "Cz", "Pz",
)  # fmt: skip
PASSED: dict[str, dict[float, float]] = {
    "biot": {},
    "labram": {0.02: 0, 0.2: 1, 40: 1, 50: 0, 60: 1, 90: 0},
    "cbramod": {0.1: 0, 0.6: 1, 40: 1, 50: 1, 60: 0, 90: 0},
}
"""What remains of a sine at a frequency in Hz."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PASSED)
def test_a_foundation_models_window_has_its_rows_in_its_order_and_its_band(
    name: str, tiny_set: Path, tmp_path: Path
) -> None:
    """The orders are those of the models' own code: BIOT's and CBraMod's preprocessing of TUH recordings."""
    from hms.signal.filters import FilterParams, design_filter

    base = ("data=kaggle", f"data.root={tiny_set}", f"outputs_dir={tmp_path}", "n_jobs=1")
    assert "scalograms" not in hms.compose(f"experiment={name}").stages
    run = hms.run(hms.compose(f"experiment={name}", *base, "stages=[waveforms,labels]"))
    rows = {"biot": BIOT, "cbramod": CBRAMOD}.get(name, tuple(run.outputs))
    assert tuple(run.outputs) == rows
    (item,) = run.dataset(signal="wave", items=run.labels.item_id[:1].tolist())
    assert (item["x"].dtype, item["x"].shape) == (np.float32, (len(rows), 2000))
    assert isinstance(run.config.filter, FilterParams)
    gain = design_filter(run.config.filter, n_samples=200_000, sfreq=200.0)
    for hz, expected in PASSED[name].items():
        assert gain[round(hz * 1000)] == pytest.approx(expected, abs=0.07), hz
