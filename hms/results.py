"""A finished run, opened for reading."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hms.config import Config, ConfigError, build_config, compose, settings_before
from hms.manifest import NAME, ManifestError, read_manifest
from hms.npz import read_npz
from hms.registry import did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hms.stage import ItemStage
    from hms.training.dataset import SpecDataset

__all__ = ["Labels", "Run", "Shown", "Split", "find_run", "list_runs", "load"]


@dataclass(frozen=True)
class Labels:
    """Labels of the items used; row i is row i of ``meta``.

    Attributes
    ----------
    y_soft : float32, shape (n_items, 6); rows sum to 1
    w_conf : float32, shape (n_items,)
    hc_mask : bool, shape (n_items,)
    classes : the six class names
    vote_sum : int32, shape (n_items,)
    eeg_id : int64, shape (n_items,)
    item_id : text, shape (n_items,)
    """

    y_soft: NDArray[np.float32]
    w_conf: NDArray[np.float32]
    hc_mask: NDArray[np.bool_]
    classes: NDArray[np.str_]
    vote_sum: NDArray[np.int32]
    eeg_id: NDArray[np.int64]
    item_id: NDArray[np.str_]


class Split(NamedTuple):
    """Rows of ``meta`` to train on and to validate on."""

    train: NDArray[np.int64]
    valid: NDArray[np.int64]


@dataclass(frozen=True)
class Shown:
    """A page on disk that a notebook shows in a frame of its own, apart from the notebook's style."""

    path: Path
    height: int = 800

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"))
        style = f"width:100%;height:{self.height}px;border:1px solid #ccc"
        return f'<iframe title="{html.escape(self.path.name)}" style="{style}" srcdoc="{page}"></iframe>'

    def __str__(self) -> str:
        return str(self.path)


class Run:
    """The finished run in a folder; tables are read when first asked for."""

    def __init__(self, path: str | Path, *, reused: bool = False) -> None:
        self.path = Path(path)
        self.reused = reused
        """Whether the run was found finished, so that nothing was computed."""

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the run was made from, by what, when, and the digest of every file."""
        try:
            return read_manifest(self.path)
        except ManifestError as error:
            raise ConfigError(f"{error}; run it again with the same command") from None

    @property
    def hash(self) -> str:
        """The run's hash."""
        return str(self.manifest["run"])

    @cached_property
    def meta(self) -> pd.DataFrame:
        """One row per item used."""
        return self._csv("data_package/meta_use.csv")

    @cached_property
    def excluded(self) -> pd.DataFrame:
        """One row per item left out, with the stage that found it and the reason."""
        return self._csv("data_package/meta_excluded.csv")

    @cached_property
    def qc(self) -> pd.DataFrame:
        """The ledger: one row per item with its measures."""
        return self._csv("qc/qc.csv")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Votes, classes, strata and folds in numbers."""
        loaded = json.loads(self.file("qc/summary.json").read_text())
        assert isinstance(loaded, dict)
        return loaded

    @cached_property
    def labels(self) -> Labels:
        """Soft labels, weights and the high-confidence mask."""
        return Labels(**self.arrays("data_package/labels.npz"))

    @cached_property
    def splits(self) -> list[Split]:
        """Rows of ``meta`` per fold."""
        arrays = self.arrays("data_package/splits.npz")
        return [Split(arrays[f"train_{i}"], arrays[f"valid_{i}"]) for i in range(len(arrays) // 2)]

    def spec(self, item_id: str | int) -> NDArray[Any]:
        """Return an item's scaled scalograms, shape (n_outputs, n_freqs, n_frames)."""
        return self._item("spec_hr_out", item_id)["x"]

    def spec_lr(self, item_id: str | int) -> NDArray[np.float32]:
        """Return an item's ten minutes of the competition's spectrogram, shape (4, n_freqs, 300)."""
        return self._item("spec_lr_out", item_id, "lr")["x"]

    def wave(self, item_id: str | int) -> NDArray[np.float32]:
        """Return an item's waveforms, shape (n_outputs, n_samples), µV."""
        return self._item("wave_hr_out", item_id)["x"]

    @cached_property
    def freqs(self) -> NDArray[np.float32]:
        """Frequencies of the scalograms in Hz, ascending."""
        return self._item("spec_hr_out", self.meta["item_id"].iloc[0])["freqs"]

    @property
    def outputs(self) -> list[str]:
        """Names of the rows of scalograms and waveforms: chains, or derivations."""
        return list(self.config.at("montage.outputs"))

    @cached_property
    def config(self) -> Config:
        """The run's configuration; what cannot change its results is as composed by default."""
        frozen = dict(self.manifest["config"])
        execution = self.manifest["execution"]
        tree = compose().to_dict()
        frozen["data"] = {**execution["data"], **frozen.get("data", {})}
        for name, values in frozen.items():
            section = str(name)
            same = "kind" not in values or tree[section].get("kind") == values["kind"]
            earlier = settings_before(section, tree[section] | values) if same else {}
            tree[section] = {**tree[section], **earlier, **values} if same else values
        return build_config({**tree, "plugins": execution["plugins"], "outputs_dir": str(self.path.parent)})

    def file(self, path: str) -> Path:
        """Return where a file of the run lies.

        Raises
        ------
        ConfigError
            If the run did not make it; the text names the stage that does.
        """
        if path not in self.manifest["files"]:
            raise ConfigError(f"run {self.hash} has no {path}; it made {', '.join(self.manifest['stages'])}")
        return self.path / path

    def evaluate(self, item_id: str | int, stage_name: str) -> Any:
        """Compute what a stage gives for an item, anew from its recording."""
        from hms.inference import evaluate_item

        return evaluate_item(self, str(item_id), stage_name)

    def dataset(self, split: Any = None, **choices: Any) -> SpecDataset:
        """Return a map-style dataset for a training loop: ``run.dataset("train", fold=0, stage=1)``.

        The arguments are those of `hms.training.SpecDataset`.
        """
        from hms.training.dataset import SpecDataset

        return SpecDataset(self, split, **choices)

    def report(self) -> Shown:
        """Return the run's report; a notebook shows it in a frame, and print tells where it lies.

        Raises
        ------
        ConfigError
            If the run did not make it; ``hms report RUN`` makes it.
        """
        path = "qc/report.html"
        if path not in self.manifest["files"]:
            raise ConfigError(f"run {self.hash} has no {path}; hms report {self.hash} makes it")
        return Shown(self.file(path))

    def plot(self, item_id: str | int) -> Figure:
        """Draw an item's derivations and scalograms on real axes; returns a matplotlib Figure."""
        from hms.plots import plot_item

        return plot_item(self, str(item_id))

    def to_mne(self, item_id: str | int) -> Any:
        """Return an item's window and context as recorded as an ``mne.io.RawArray`` (extra ``mne``).

        Volts, electrodes at the standard 10-20 places, and annotations for the window, for
        gaps and for the ledger's flags; see `hms.quality.raw.item_to_mne`.
        """
        from hms.quality.raw import item_to_mne

        return item_to_mne(self, str(item_id))

    def _item(self, folder: str, item_id: str | int, suffix: str = "hr") -> dict[str, NDArray[Any]]:
        path = f"{folder}/{item_id}_{suffix}.npz"
        if path not in self.manifest["files"]:
            if folder not in {name.partition("/")[0] for name in self.manifest["files"]}:
                raise ConfigError(
                    f"run {self.hash} has no {folder}; it made {', '.join(self.manifest['stages'])}"
                )
            known = self.meta["item_id"].tolist()
            raise ConfigError(f"run {self.hash} has no item '{item_id}'{did_you_mean(str(item_id), known)}")
        return self.arrays(path)

    def arrays(self, path: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of one of the run's npz files."""
        return read_npz(self.file(path).read_bytes())

    def _csv(self, path: str) -> pd.DataFrame:
        import pandas as pd

        ids = dict.fromkeys(("item_id", "recording", "patient_id"), str)
        return pd.read_csv(self.file(path), dtype=ids, keep_default_na=False, na_values=[""])

    def __repr__(self) -> str:
        counts = self.manifest["counts"]
        return (
            f"<Run {self.hash}: {counts['used']} items used, {counts['excluded']} left out, in {self.path}>"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in self.overview()
        )
        return f"<table><caption>hms run <code>{self.hash}</code></caption>{rows}</table>"

    def overview(self) -> list[tuple[str, str]]:
        """Return the run's headline facts as names and texts."""
        counts = self.manifest["counts"]
        facts = [("items used", f"{counts['used']} of {counts['items']}")]
        if self.manifest.get("patients"):
            facts.append(("patients", f"{self.meta['patient_id'].nunique()}, {self.manifest['patients']}"))
        facts += [("left out", f"{count}: {reason}") for reason, count in self.exclusions().items()]
        files = self.manifest["files"]
        if "data_package/labels.npz" in files:
            share = (
                np.bincount(self.labels.y_soft.argmax(1), minlength=6) if counts["used"] else np.zeros(6, int)
            )
            facts.append(
                ("classes", ", ".join(f"{n} {c}" for n, c in zip(self.labels.classes, share, strict=True)))
            )
        if "data_package/splits.npz" in files:
            sizes = ", ".join(str(len(split.valid)) for split in self.splits)
            facts.append(("folds", f"{len(self.splits)}, to validate: {sizes}"))
        facts.append(("seconds", f"{self.manifest['seconds']:.1f}"))
        facts.append(("folder", str(self.path)))
        return facts

    def exclusions(self) -> dict[str, int]:
        """Return how many items were left out for each reason, most first."""
        counts: dict[str, int] = {}
        for entry in self.manifest["excluded"]:
            counts[entry["reason"]] = counts.get(entry["reason"], 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def item_stage(self, name: str) -> ItemStage:
        """Return one of the run's item stages by name, as its configuration builds it.

        Raises
        ------
        ConfigError
            If there is no stage of that name that works on items; the text lists those there are.
        """
        import hms.stages  # noqa: F401 - registers the stages
        from hms.stage import ItemStage, registered_order, registered_stage

        classes = {known: registered_stage(known) for known in registered_order()}
        names = [known for known, cls in classes.items() if issubclass(cls, ItemStage)]
        if name not in names:
            raise ConfigError(
                f"'{name}' is no stage of items{did_you_mean(name, names)}; there are {', '.join(names)}"
            )
        stage = classes[name].from_config(self.config)
        assert isinstance(stage, ItemStage)
        return stage


def list_runs(outputs: Path) -> list[Run]:
    """Return the finished runs in an outputs folder, the last finished first."""
    if not outputs.is_dir():
        return []
    runs = [Run(p) for p in outputs.iterdir() if not p.is_symlink() and (p / NAME).is_file()]
    return sorted(runs, key=lambda r: ((r.path / NAME).stat().st_mtime_ns, r.path.name), reverse=True)


def find_run(name: str | Path, outputs: str | Path = "outputs") -> Run:
    """Return a run by its hash, a unique prefix of it, a path, or ``latest``.

    Raises
    ------
    ConfigError
        If there is no such run, or several.
    """
    base = Path(outputs)
    path = Path(name)
    text = str(name)
    if text == "latest" and (base / "latest" / NAME).is_file():
        return Run((base / "latest").resolve())
    if (path / NAME).is_file():
        return Run(path.resolve())
    if text == "latest":
        raise ConfigError(f"{base} has no finished run; python run.py makes one")
    names = [run.path.name for run in list_runs(base)]
    found = [n for n in names if n.startswith(text)] if text else []
    if text in names:
        found = [text]
    if len(found) > 1:
        raise ConfigError(f"'{text}' stands for several runs: {', '.join(found)}")
    if not found:
        known = f"; there are {', '.join(names[:8])}" if names else ""
        raise ConfigError(f"no finished run '{text}' in {base}{did_you_mean(text, names)}{known}")
    return Run((base / found[0]).resolve())


def load(run: str | Path = "latest", *, outputs: str | Path = "outputs") -> Run:
    """Open a finished run by hash, unique prefix, path or ``latest``."""
    return find_run(run, outputs)
