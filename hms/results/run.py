"""A finished run, opened to act on: evaluate, draw, train, report, hand to MNE."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hms.config.schema import build_config
from hms.errors import ConfigError
from hms.store.package import Package, find_package, list_packages

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from matplotlib.figure import Figure

    from hms.browse.server import Viewer
    from hms.registry import Params
    from hms.results.evaluation import Judgement
    from hms.training.dataset import DatasetChoices, SpecDataset


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


class Run(Package):
    """The finished run in a folder, and what can be done with it."""

    @classmethod
    def of(cls, package: Package) -> Run:
        """Return a package as a run to act on.

        Examples
        --------
        >>> Run.of(hms.load("latest")).hash == run.hash
        True
        """
        run = cls(package.path, reused=package.reused, trust=package.trust)
        run.__dict__.update(package.__dict__)  # what was read already, under a lock perhaps
        run.path = package.path.absolute()  # whoever holds it may go to another folder
        return run

    def evaluate(self, item_id: str | int, stage_name: str) -> Any:
        """Compute what a stage gives for an item, again from its recording.

        Examples
        --------
        >>> scalogram = run.evaluate(item_id, "scalograms")
        >>> bool((scalogram.x == run.spec(item_id)).all())
        True
        """
        from hms.engine.inference import evaluate_item

        return evaluate_item(self, str(item_id), stage_name)

    def dataset(
        self,
        split: Literal["train", "valid"] | None = None,
        *,
        fold: int | None = None,
        stage: Literal[1, 2] | None = None,
        stage_order: Literal["confident_first", "all_first"] = "confident_first",
        signal: Literal["spec", "wave", "both", "derivations"] = "spec",
        spectrogram: bool = False,
        draw: Literal["item", "window"] = "item",
        shift_s: float = 0.0,
        augment: Params | str | None = None,
        seed: int = 0,
        dtype: Literal["float32", "float16"] = "float32",
        packed: bool | None = None,
        items: Sequence[Any] | None = None,
        labels_from: Package | None = None,
    ) -> SpecDataset:
        """Return a map-style dataset for a training loop.

        The arguments are explained at `hms.training.dataset.SpecDataset`.

        Examples
        --------
        >>> train = run.dataset("train", fold=0)
        >>> train[0]["x"].shape
        (4, 48, 250)
        """
        from hms.training.dataset import SpecDataset

        return SpecDataset(
            self,
            split,
            fold=fold,
            stage=stage,
            stage_order=stage_order,
            signal=signal,
            spectrogram=spectrogram,
            draw=draw,
            shift_s=shift_s,
            augment=augment,
            seed=seed,
            dtype=dtype,
            packed=packed,
            items=items,
            labels_from=labels_from,
        )

    def judge(self, predictions: str | Path, other: str | Path | None = None) -> Judgement:
        """Judge a file of predictions by item_id, or two against each other.

        See `hms.results.evaluation.judge`; ``hms evaluate RUN PREDICTIONS`` also writes the page.

        Examples
        --------
        >>> names = [f"{name}_vote" for name in run.labels.classes]
        >>> table = pd.DataFrame(run.labels.y_soft, columns=names, index=run.labels.item_id)
        >>> table.rename_axis("item_id").to_csv("predictions.csv")
        >>> judged = run.judge("predictions.csv")
        >>> len(judged.scores), judged.n_unpredicted
        (1, 0)
        """
        from hms.results.evaluation import judge

        return judge(self, predictions, other)

    def to_torch(
        self,
        split: Literal["train", "valid"] | None = None,
        *,
        fields: Sequence[str] | None = None,
        **choices: Unpack[DatasetChoices],
    ) -> Any:
        """Return a `torch.utils.data.Dataset` of tensors (extra ``torch``).

        See `hms.training.torch.TorchDataset`. ``fields=("x", "y")`` gives pairs, as most libraries
        take them; the other arguments are those of `dataset`.

        Examples
        --------
        >>> x, y = run.to_torch("train", fold=0, fields=("x", "y"))[0]
        >>> x.shape, y.shape
        (torch.Size([4, 48, 250]), torch.Size([6]))
        """
        from hms.training.torch import TorchDataset

        return TorchDataset(self.dataset(split, **choices), fields)

    def to_braindecode(self, split: Any = None, *, fold: int | None = None, stage: Any = None) -> Any:
        """Return the waveforms as braindecode's windows (extra ``braindecode``).

        See `hms.training.braindecode.windows_of`.

        Examples
        --------
        >>> windows = run.to_braindecode("train", fold=0)
        >>> len(windows) == len(run.splits[0].train)
        True
        """
        from hms.training.braindecode import windows_of

        return windows_of(self, split, fold=fold, stage=stage)

    def to_huggingface(self, destination: str | Path, *, licence: str = "unknown") -> int:
        """Write a folder that `datasets.load_dataset` reads, with a card; return its bytes.

        See `hms.training.huggingface.write_huggingface`.

        Examples
        --------
        >>> n_bytes = run.to_huggingface("for_upload")
        >>> sorted(os.listdir("for_upload"))
        ['README.md', 'data']
        """
        from hms.training.huggingface import write_huggingface

        return write_huggingface(self, destination, licence=licence)

    def report(self) -> Shown:
        """Return the run's report; a notebook shows it in a frame, and print tells where it lies.

        Raises
        ------
        ConfigError
            If the run did not make it; ``hms report RUN`` makes it.

        Examples
        --------
        >>> run.report().path.name
        'report.html'
        """
        path = "qc/report.html"
        if path not in self.manifest["files"]:
            raise ConfigError(f"run {self.hash} has no {path}; hms report {self.hash} makes it")
        return Shown(self.file(path))

    def browse(
        self,
        *,
        marks: str | Path | None = None,
        who: str | None = None,
        blind: bool = False,
        predictions: str | Path | None = None,
        item: str | None = None,
        port: int = 0,
    ) -> Viewer:
        """Start the viewer and show it in a frame, where the notebook's browser is on this machine.

        The arguments are explained at `hms.browse.server.start`. It runs until ``stop()`` (extra
        ``browse``).

        Examples
        --------
        >>> viewer = run.browse(marks="marks.csv", who="ab")
        >>> viewer
        <Viewer at http://127.0.0.1:.../; stop() ends it>
        >>> viewer.stop()
        """
        from hms.browse.server import start

        return start(
            self,
            marks=marks,
            who=who,
            blind=blind,
            predictions=predictions,
            item=item,
            port=port,
            is_framed=True,
        )

    def plot(self, item_id: str | int) -> Figure:
        """Draw an item's derivations and scalograms on real axes; returns a matplotlib Figure.

        Examples
        --------
        >>> figure = run.plot(item_id)
        >>> figure.savefig("item.png")
        """
        from hms.results.plots import plot_item

        return plot_item(self, str(item_id))

    def to_mne(self, item_id: str | int) -> Any:
        """Return an item's window and context as recorded as an ``mne.io.RawArray`` (extra ``mne``).

        Volts, electrodes at the standard 10-20 places, and annotations for the window, for
        gaps and for the ledger's flags; see `hms.results.to_mne.item_to_mne`.

        Examples
        --------
        >>> raw = run.to_mne(item_id)
        >>> raw.info["sfreq"], len(raw.ch_names)
        (200.0, 20)
        """
        from hms.results.to_mne import item_to_mne

        return item_to_mne(self, str(item_id))

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        facts = ((n, _link(text) if n == "report" else html.escape(text)) for n, text in self.overview())
        rows = "".join(f"<tr><th {left}>{name}</th><td {left}>{told}</td></tr>" for name, told in facts)
        table = f"<table><caption>hms run <code>{self.hash}</code></caption>{rows}</table>"
        return table + self._first_item()

    def _first_item(self) -> str:
        """Draw the first used item; nothing if there is none."""
        from hms.results.evaluation import pictures

        try:
            item = str(self.meta["item_id"].iloc[0]) if len(self.meta) else ""
            drawn = pictures(self, item) if item else ""
        except ConfigError:  # a file is damaged, or code of a plugin would be needed
            return ""
        if not drawn:
            return ""
        caption = f"the first item, {html.escape(item)}; run.plot(item_id) draws any"
        drawn += f"<figcaption>{caption}</figcaption>"
        return f'<figure class="hms-run"><style>{_STYLE}</style>{drawn}</figure>'


_STYLE = (
    ".hms-run{background:#fff;color:#1c2733;display:flex;flex-wrap:wrap;margin:0;font:12px sans-serif}"
    ".hms-run svg{flex:1 1 260px;max-width:470px}.hms-run text{font-size:12px;fill:#1c2733}"
    ".hms-run .m{text-anchor:middle}.hms-run .e{text-anchor:end}"
    ".hms-run .axis,.hms-run .grid{stroke:#d8dde2;fill:none}.hms-run .trace{fill:none;stroke-width:.9}"
    ".hms-run figcaption{flex-basis:100%}"
)
"""How a notebook shows a drawn item; its own style sheet knows nothing of it."""


def _link(path: str) -> str:
    """Return a link to a file, as seen from the notebook's folder."""
    place = quote(os.path.relpath(path).replace(os.sep, "/"))
    return f'<a href="{place}" target="_blank">{html.escape(path)}</a>'


def list_runs(outputs: Path) -> list[Run]:
    """Return the finished runs in an outputs folder, the last finished first."""
    return [Run(package.path) for package in list_packages(outputs)]


def find_run(name: str | Path, outputs: str | Path = "outputs", *, trust: bool = False) -> Run:
    """Return a run by its hash, a unique prefix of it, a path, or ``latest``; see `hms.load`.

    Raises `ConfigError` if there is no such run, or several.
    """
    return Run(find_package(name, outputs).path, trust=trust)


def report_of(run: Package) -> Path:
    """Return the path of a run's report, made if it is missing.

    A run that did not make its report stays as it is: a further run with the same configuration and the
    report is made from what the store holds. Raises `ConfigError` if its recordings are not there any more.
    """
    from hms.engine.plan import plan_of
    from hms.engine.runner import execute
    from hms.pipeline.selection import asked_names

    path = "qc/report.html"
    if path in run.manifest["files"]:
        return run.file(path)
    tree = run.config.to_dict()
    stages = asked_names([*run.manifest["stages"], "report"])
    plan = plan_of(run, build_config({**tree, "stages": stages}))
    return execute(plan).file(path)
