"""A finished run, read only: its tables, arrays and digests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hms.config.compose import compose
from hms.config.identity import settings_before
from hms.config.reading import looked_at
from hms.config.schema import Config, build_config
from hms.errors import ConfigError, ManifestError
from hms.labels.folds import Split, splits_of
from hms.labels.items import names_inside
from hms.labels.summary import class_counts
from hms.labels.votes import has_label
from hms.registry import did_you_mean, kinds, lookup, needs_trust
from hms.store.csvs import read_csv
from hms.store.inside import find_inside, is_own_folder, parse_json
from hms.store.manifests import NAME, read_manifest
from hms.store.npz import read_npz
from hms.store.places import HASH_LENGTH, Outputs, finished_runs, latest_run
from hms.store.shards import INDEX, Place
from hms.terminal import counted, listed, outlined, shortened

if TYPE_CHECKING:
    import pandas as pd

MENDED = {
    "cut": "the end was cut, the whole records are used",
    "mended": "the header was mended",
    "offset": "an offset was taken off before float32",
    "slow": "EEG is sampled at less than 80 Hz",
}
"""What a reader had to mend or say, by flag; the manifest has the details by recording."""

NEEDED_COLUMNS = ("item_id", "eeg_id", "patient_id", "recording", "window_start_s")
"""Columns that meta_use.csv has whatever the source."""

MOST_READ = 1 << 31
"""Bytes of a table or of arrays that are read whole."""


@dataclass(frozen=True)
class PackageLabels:
    """Labels of the items used; row i is row i of ``meta``.

    Attributes
    ----------
    y_soft : float32, shape (n_items, n_classes); rows sum to 1, to 0 without a label
    w_conf : float32, shape (n_items,)
    hc_mask : bool, shape (n_items,)
    classes : names of the classes
    vote_sum : int32, shape (n_items,); float32 where votes are shares
    eeg_id : int64, shape (n_items,)
    item_id : text, shape (n_items,)
    has_label : bool, shape (n_items,); False for items that ``labels.unlabelled=keep`` kept
    w_class_fold : float32, shape (n_folds, n_classes), or None
        Weight of each class in each fold, with ``weight.balance``.
    w_conf_fold : float32, shape (n_folds, n_items), or None
        ``w_conf`` times the weight of an item's classes in each fold.
    """

    y_soft: NDArray[np.float32]
    w_conf: NDArray[np.float32]
    hc_mask: NDArray[np.bool_]
    classes: NDArray[np.str_]
    vote_sum: NDArray[np.int32]
    eeg_id: NDArray[np.int64]
    item_id: NDArray[np.str_]
    has_label: NDArray[np.bool_]
    w_class_fold: NDArray[np.float32] | None = None
    w_conf_fold: NDArray[np.float32] | None = None

    __repr__ = outlined

    def weights(self, fold: int | None) -> NDArray[np.float32]:
        """Return the items' weights in a fold: with its class weights, where classes are balanced.

        Examples
        --------
        >>> bool((run.labels.weights(fold=0) == run.labels.w_conf).all())
        True
        """
        if fold is None or self.w_conf_fold is None:
            return self.w_conf
        found: NDArray[np.float32] = self.w_conf_fold[fold]
        return found

    def __post_init__(self) -> None:
        n_items = self.item_id.shape[:1]
        rows = (self.item_id, self.w_conf, self.hc_mask, self.vote_sum, self.eeg_id)
        if self.y_soft.shape != (*n_items, *self.classes.shape) or any(a.shape != n_items for a in rows):
            raise TypeError("its arrays do not fit together")


def _state_of(file: Path) -> tuple[int, ...] | None:
    status = looked_at(file)
    return None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)


def as_seen(path: Path) -> str:
    """Return a path as a person in the current folder writes it: relative where it is inside."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):  # it is elsewhere, or the current folder is gone
        return str(path)


def _leaks(summary: Mapping[str, Any]) -> list[str]:
    """Return what is on both sides of a fold."""
    leakage = summary.get("leakage", {})
    if leakage.get("passed") is not False:  # None: there was nothing to check
        return []
    pairs, patients = leakage["duplicates_on_both_sides"], leakage["patients_on_both_sides"]
    found = [(pairs, f"{counted(pairs, 'pair')} of copies"), (patients, counted(patients, "patient"))]
    return [f"leakage: on both sides of a fold: {' and '.join(text for n, text in found if n)}"]


BASELINE_SCORES = "baseline/metrics.json"


def _divergence(score: Mapping[str, Any]) -> str:
    interval = "" if score["low"] is None else f" ({score['low']:.3f} to {score['high']:.3f})"
    return f"{score['value']:.3f}{interval}"


SHOWN_ITEMS, SHOWN_REASONS = 3, 6
"""Reasons for which items were left out that the end of a run names, the most frequent first."""


def _grades_and_selection(summary: Mapping[str, Any]) -> list[str]:
    """Return how many items have each grade, what was left out by class, and what is said of that."""
    grades = summary.get("quality", {}).get("grades", {})
    lines = [", ".join(f"{name} {count}" for name, count in grades.items() if count)]
    selection = summary.get("selection", {})
    taken = (selection.get("taken") or {}).get("classes", {})
    out = [f"{name} {row['left_out']} of {row['items']}" for name, row in taken.items() if row["left_out"]]
    lines += [f"left out for its grade: {', '.join(out)}"] if out else []
    return [line for line in (*lines, *selection.get("lines", [])) if line]


class Package:
    """The finished run in a folder; its tables are read when first asked for."""

    def __init__(self, path: str | Path, *, reused: bool = False, trust: bool = False) -> None:
        self.path = Path(path)
        self._shards: dict[str, dict[str, Place] | None] = {}
        self._opened: tuple[int, ...] | None = None
        self.trust = trust
        """Whether code that the run's folder names may be imported, and recordings be made for it."""

        self.reused = reused
        """Whether the run was found finished, so that nothing was computed."""

    @classmethod
    def written(cls, path: Path, manifest: dict[str, Any]) -> Self:
        """Return a run whose manifest was just written, and is what reading it gives.

        Examples
        --------
        >>> type(run).written(run.path, run.manifest).hash == run.hash
        True
        """
        run = cls(path)
        run._opened, run.__dict__["manifest"] = _state_of(path / NAME), manifest
        return run

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the run was made from, by what, when, and the digest of every file.

        Examples
        --------
        >>> run.manifest["counts"]
        {'items': 4, 'used': 4, 'excluded': 0}
        """
        self._opened = _state_of(self.path / NAME)
        return self._read_manifest(files=True)

    def _check_as_opened(self) -> None:
        """Raise ConfigError if the run was made again: its files would not go with what was read before."""
        manifest, state = self.manifest, _state_of(self.path / NAME)
        if state == self._opened:
            return
        if self._read_manifest(files=True)["digest"] != manifest["digest"]:
            name = manifest["run"]
            raise ConfigError(
                f"run {name} was made again since it was opened here; hms.load('{name}') opens it anew"
            )
        self._opened = state

    def _read_manifest(self, *, files: bool) -> dict[str, Any]:
        try:
            return read_manifest(self.path, files=files)
        except ManifestError as error:
            raise ConfigError(f"{error}; run it again with the same command") from None

    def as_found(self) -> Self:
        """Return the run as it is when it is found finished.

        Examples
        --------
        >>> run.as_found().reused
        True
        """
        found = type(self)(self.path, trust=self.trust)
        found.__dict__.update(self.__dict__)
        found.reused = True
        return found

    @property
    def headlines(self) -> dict[str, Any]:
        """The manifest without its list of files, which is most of it.

        Raises
        ------
        ConfigError
            As from `manifest`.

        Examples
        --------
        >>> run.headlines["counts"] == run.manifest["counts"]
        True
        """
        return self.__dict__.get("manifest") or self._read_manifest(files=False)

    @property
    def hash(self) -> str:
        """The run's hash.

        Examples
        --------
        >>> len(run.hash)
        16
        """
        return str(self.manifest["run"])

    @cached_property
    def meta(self) -> pd.DataFrame:
        """One row per item used.

        Examples
        --------
        >>> run.meta.columns[:4].tolist(), len(run.meta)
        (['item_id', 'recording', 'eeg_id', 'patient_id'], 4)
        """
        return self.table("data_package/meta_use.csv", *NEEDED_COLUMNS)

    @cached_property
    def excluded(self) -> pd.DataFrame:
        """One row per item left out, with the stage that found it and the reason.

        Examples
        --------
        >>> run.excluded.columns.tolist()
        ['item_id', 'eeg_id', 'stage', 'reason']
        """
        return self.table("data_package/meta_excluded.csv")

    @cached_property
    def qc(self) -> pd.DataFrame:
        """The ledger: one row per item with its measures.

        Examples
        --------
        >>> grades = run.qc["grade"].value_counts()
        >>> int(grades.sum())
        4
        """
        return self.table("qc/qc.csv", "item_id", "used", "grade")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Votes, agreement, classes, strata and folds in numbers.

        Examples
        --------
        >>> run.summary["items_used"], run.summary["leakage"]["passed"]
        (4, True)
        """
        content = self._content("qc/summary.json")
        try:
            loaded = parse_json(content)
        except ValueError as error:
            raise self._damaged("qc/summary.json", error) from None
        assert isinstance(loaded, dict)
        return loaded

    @property
    def agreement(self) -> dict[str, Any]:
        """How far experts agree beyond chance: `hms.labels.agreement.agreement`, from summary.json.

        Examples
        --------
        >>> sorted(run.agreement)
        ['by_votes', 'strata']
        """
        found = self.summary["agreement"]
        assert isinstance(found, dict)
        return found

    @cached_property
    def labels(self) -> PackageLabels:
        """Soft labels, weights and the high-confidence mask.

        Examples
        --------
        >>> run.labels.y_soft.shape, run.labels.w_conf.dtype
        ((4, 6), dtype('float32'))
        >>> run.labels.item_id.tolist() == run.meta["item_id"].tolist()
        True
        """
        path = "data_package/labels.npz"
        arrays = self.arrays(path)
        try:
            return PackageLabels(**arrays | {"has_label": has_label(arrays)})
        except (TypeError, KeyError) as error:
            raise self._damaged(path, error) from None

    @cached_property
    def splits(self) -> list[Split]:
        """Rows of ``meta`` per fold.

        Examples
        --------
        >>> len(run.splits)
        2
        >>> train = run.meta.iloc[run.splits[0].train]
        """
        path = "data_package/splits.npz"
        try:
            return splits_of(self.arrays(path))
        except KeyError as error:
            raise self._damaged(path, error) from None

    def spec(self, item_id: str | int) -> NDArray[Any]:
        """Return an item's scaled scalograms, shape (n_outputs, n_freqs, n_frames).

        Examples
        --------
        >>> run.spec(item_id).shape
        (4, 48, 250)
        """
        return self.item("spec_hr_out", item_id)["x"]

    def spec_lr(self, item_id: str | int) -> NDArray[np.float32]:
        """Return an item's ten minutes of the competition's spectrogram, shape (4, n_freqs, 300).

        Examples
        --------
        >>> run.spec_lr(item_id).shape
        (4, 100, 300)
        """
        return self.item("spec_lr_out", item_id, "lr")["x"]

    def wave(self, item_id: str | int) -> NDArray[np.float32]:
        """Return an item's waveforms, shape (n_outputs, n_samples), µV.

        Examples
        --------
        >>> run.wave(item_id).shape
        (4, 2000)
        """
        return self.item("wave_hr_out", item_id)["x"]

    def derivations(self, item_id: str | int) -> NDArray[Any]:
        """Return an item's derivations with their context, shape (n_derivations, n_samples), µV.

        A run with ``package.derivations=true`` has them.

        Examples
        --------
        >>> run.derivations(item_id).shape  # 10 s and 12 s on either side
        (16, 6800)
        """
        return self.item("deriv_hr_out", item_id)["x"]

    @cached_property
    def freqs(self) -> NDArray[np.float32]:
        """Frequencies of the scalograms in Hz, ascending.

        Examples
        --------
        >>> run.freqs[[0, -1]]
        array([ 0.5, 20. ], dtype=float32)
        """
        return self.item("spec_hr_out", self.meta["item_id"].iloc[0])["freqs"]

    @property
    def outputs(self) -> list[str]:
        """Names of the rows of scalograms and waveforms: chains, or derivations.

        Examples
        --------
        >>> run.outputs
        ['LL', 'LP', 'RL', 'RP']
        """
        return list(self.config.at("montage.outputs"))

    @cached_property
    def config(self) -> Config:
        """The run's configuration; what cannot change its results is as composed by default.

        Raises
        ------
        ConfigError
            If it takes a plugin that the user has not named: its code is not imported unless the run is
            trusted.

        Examples
        --------
        >>> run.config.cwt.hop, run.config.at("filter.high_hz")
        (8, 20.0)
        """
        self._check_trust()
        try:
            return self._composed()
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"run {self.hash}: its manifest holds no configuration ({error!r})") from None

    def _composed(self) -> Config:
        frozen = dict(self.manifest["config"])
        execution = self.manifest["execution"]
        tree = compose().to_dict()
        frozen["data"] = {**execution["data"], **frozen.get("data", {})}
        for name, values in frozen.items():
            tree[name] = _completed(name, tree[name], values)
        tree["package"]["format"] = execution.get("format", "files")
        return build_config({**tree, "plugins": execution["plugins"], "outputs_dir": str(self.path.parent)})

    def _check_trust(self) -> None:
        names = [] if self.trust else needs_trust(self.manifest["execution"]["plugins"])
        if names:
            raise ConfigError(
                f"run {self.hash} needs code of the plugin {', '.join(map(ascii, names))}; code that a run's "
                "folder names is imported only if you trust the run: add --trust (in Python trust=True of "
                "hms.load). What needs no code of a plugin works without"
            )

    def file(self, path: str) -> Path:
        """Return where a file of the run is.

        Raises
        ------
        ConfigError
            If the run did not make it; the text names the stage that does. If it is not there, has
            another size than recorded, or is anything but a regular file of the run or the store. If the
            run was removed or made again since it was opened.

        Examples
        --------
        >>> run.file("qc/qc.csv").name
        'qc.csv'
        """
        if path not in self.manifest["files"]:
            raise ConfigError(f"run {self.hash} has no {path}; it made {', '.join(self.manifest['stages'])}")
        self._check_as_opened()
        try:
            _, status = find_inside(self.path, path)
        except FileNotFoundError:
            raise ConfigError(
                f"{self.path.name}/{path} is missing; hms verify {self.hash} says more"
            ) from None
        size = self.manifest["files"][path][0]
        if status.st_size != size:
            raise ConfigError(
                f"{self.path.name}/{path} has {status.st_size} bytes, not {size}; "
                f"hms verify {self.hash} says more"
            )
        return self.path / path

    def has_item(self, folder: str, item_id: str | int, suffix: str = "hr") -> bool:
        """Tell whether a folder holds an item, in a file of its own or in a shard.

        Examples
        --------
        >>> run.has_item("spec_hr_out", item_id)
        True
        """
        places = self.shards(folder)
        if places is not None:
            return str(item_id) in places
        return f"{folder}/{item_id}_{suffix}.npz" in self.manifest["files"]

    def shards(self, folder: str) -> Mapping[str, Place] | None:
        """Return where every item of a folder is; None where each has a file of its own.

        Raises
        ------
        ConfigError
            If the index, or a shard, is damaged, missing or refused.

        Examples
        --------
        >>> run.shards("spec_hr_out") is None  # a run with package.format=shards has places
        True
        """
        if folder not in self._shards:
            path = f"{folder}/{INDEX}"
            self._shards[folder] = self._read_index(folder, path) if path in self.manifest["files"] else None
        return self._shards[folder]

    def _read_index(self, folder: str, path: str) -> dict[str, Place]:
        index = self.arrays(path)
        try:
            ids, shards, rows = (index[name].tolist() for name in ("item_id", "shard", "row"))
            paths = {number: self.file(f"{folder}/{number:05d}.npy") for number in sorted(set(shards))}
            found = zip(ids, shards, rows, strict=True)
            return {str(item_id): Place(paths[number], int(row)) for item_id, number, row in found}
        except (KeyError, ValueError, TypeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise self._damaged(path, error) from None

    def item(self, folder: str, item_id: str | int, suffix: str = "hr") -> dict[str, NDArray[Any]]:
        """Return what a folder of the run holds of an item.

        Raises
        ------
        ConfigError
            If the run has no such folder or item, or what holds it is damaged.

        Examples
        --------
        >>> sorted(run.item("wave_hr_out", item_id))
        ['eeg_id', 'fs', 'patient_id', 'x']
        """
        path = f"{folder}/{item_id}_{suffix}.npz"
        if not self.has_item(folder, item_id, suffix):
            if folder not in {name.partition("/")[0] for name in self.manifest["files"]}:
                raise ConfigError(
                    f"run {self.hash} has no {folder}; it made {', '.join(self.manifest['stages'])}"
                )
            known = self.meta["item_id"].tolist()
            raise ConfigError(f"run {self.hash} has no item '{item_id}'{did_you_mean(str(item_id), known)}")
        places = self.shards(folder)
        if places is None:
            return self.arrays(path)
        place = places[str(item_id)]
        try:
            return place.read()
        except (ValueError, IndexError, EOFError) as error:
            raise self._damaged(f"{folder}/{place.path.name}", error) from None

    def arrays(self, path: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of one of the run's npz files; raises ConfigError if it is none.

        Examples
        --------
        >>> sorted(run.arrays("data_package/splits.npz"))
        ['train_0', 'train_1', 'valid_0', 'valid_1']
        """
        content = self._content(path)
        try:
            return read_npz(content)
        except (ValueError, KeyError, BadZipFile, EOFError) as error:
            raise self._damaged(path, error) from None

    def text(self, path: str) -> str:
        """Return one of the run's files as text; what is not UTF-8 in it is written out.

        Examples
        --------
        >>> run.text("qc/qc.csv").splitlines()[0][:7]
        'item_id'
        """
        return self._content(path).decode("utf-8", "backslashreplace")

    def _content(self, path: str) -> bytes:
        """Return the content of one of the run's files that are read whole."""
        file = self.file(path)
        if (size := self.manifest["files"][path][0]) > MOST_READ:
            raise ConfigError(f"{self.path.name}/{path} has {size} bytes and is too large to read")
        return file.read_bytes()

    def _damaged(self, path: str, error: Exception) -> ConfigError:
        said = " ".join(str(error).split())[:160]
        return ConfigError(
            f"{self.path.name}/{path} is damaged or not a file of hms: {said}; hms verify says more"
        )

    def table(self, path: str, *needed: str) -> pd.DataFrame:
        """Return one of the run's csv files; raises ConfigError if it is none, or lacks a needed column.

        Examples
        --------
        >>> len(run.table("data_package/meta_use.csv", "item_id"))
        4
        """
        ids = dict.fromkeys(("item_id", "recording", "patient_id"), str)
        content = self._content(path)
        try:
            table = read_csv(content, dtype=ids)
        except (ValueError, KeyError) as error:
            raise self._damaged(path, error) from None
        if lacking := [name for name in needed if name not in table]:
            raise self._damaged(path, KeyError(f"it has no column {lacking[0]}"))
        return table

    def __repr__(self) -> str:
        counts = self.manifest["counts"]
        items = f"{counts['used']} items used, {counts['excluded']} left out"
        return f"<{type(self).__name__} {self.hash}: {items}, in {as_seen(self.path)}>"

    def overview(self) -> list[tuple[str, str]]:
        """Return the run's headline facts as names and texts.

        Examples
        --------
        >>> run.overview()[1]
        ('items used', '4 of 4')
        """
        counts = self.manifest["counts"]
        facts = [("source", self._source()), ("items used", f"{counts['used']} of {counts['items']}")]
        if self.manifest.get("patients"):
            facts.append(("patients", f"{self.meta['patient_id'].nunique()}, {self.manifest['patients']}"))
        reasons = self._left_out()
        facts += [("left out", text) for text in reasons[:SHOWN_REASONS]]
        if more := reasons[SHOWN_REASONS:]:
            facts.append(("left out", f"for {counted(len(more), 'more reason')}"))
        if reasons:
            facts.append(("", f"{as_seen(self.path / 'data_package' / 'meta_excluded.csv')} lists all"))
        facts += [("noted", text) for text in self._mended()]
        files = self.manifest["files"]
        if "data_package/labels.npz" in files:
            labelled = self.labels.has_label
            share = class_counts(self.labels.y_soft[labelled])
            if not labelled.all():
                facts.append(("without label", f"{int((~labelled).sum())}, in no fold and no score"))
            facts.append(
                ("classes", ", ".join(f"{n} {c}" for n, c in zip(self.labels.classes, share, strict=True)))
            )
        if "data_package/splits.npz" in files:
            sizes = ", ".join(str(len(split.valid)) for split in self.splits)
            is_any = any(len(split.valid) for split in self.splits)
            text = f"{len(self.splits)}; validation sets of {sizes} items" if is_any else "none"
            facts.append(("folds", text))
        if BASELINE_SCORES in files:
            facts.append(("baseline", self._baseline()))
        facts += [("quality", line) for line in self._said_of_quality()]
        if not self.reused:
            facts.append(("time taken", f"{self.manifest['seconds']:.1f} s"))
        n_bytes = sum(size for size, _ in files.values())
        facts.append(("space", f"{n_bytes / 1e6:,.1f} MB, {counted(len(files), 'file')}"))
        facts.append(("folder", as_seen(self.path)))
        if "qc/report.html" in files:
            facts.append(("report", as_seen(self.path / "qc" / "report.html")))
        return facts

    def _left_out(self) -> list[str]:
        """Return why items were left out, how many of how many recordings, and the first of them."""
        entries: dict[str, list[Any]] = {}
        for entry in self.manifest["excluded"]:
            entries.setdefault(entry["reason"], []).append(entry)
        texts = []
        for reason, count in self.exclusions().items():
            n = len({str(entry.get("eeg_id")) for entry in entries[reason]})
            of = f" of {counted(n, 'recording')}" if n < count else ""
            first = listed((str(entry.get("item_id")) for entry in entries[reason]), SHOWN_ITEMS)
            said = shortened(reason)
            texts.append(f"{first}: {said}" if count == 1 else f"{count} items{of}: {said} ({first})")
        return texts

    def _mended(self) -> list[str]:
        """Return how many recordings were mended in each way, most first."""
        mended = self.manifest["recordings"].get("mended", {})
        flags = Counter(flag for notes in mended.values() for flag in {flag for flag, _ in notes})
        return [f"{count}: {MENDED.get(flag, flag)}" for flag, count in flags.most_common()]

    @cached_property
    def tells_names(self) -> bool:
        """Whether names of recordings or patients are inside, not plain numbers or pseudonyms alone.

        Examples
        --------
        >>> run.tells_names
        False
        """
        return names_inside(self.meta)

    def _baseline(self) -> str:
        """Return the divergence of baseline and class prior, at many votes where items have them."""
        try:
            found = parse_json(self._content(BASELINE_SCORES))
            name = next(reversed(found["gain"]))
            scores = [
                found[who]["stratum"].get(name) or found[who]["all"]["all"] for who in ("model", "prior")
            ]
            model, prior = map(_divergence, scores)
            where = f"{name} votes" if name in found["model"]["stratum"] else "all items"
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise self._damaged(BASELINE_SCORES, error) from None
        return f"KL divergence {model}, class prior {prior}, {where}"

    def _said_of_quality(self) -> list[str]:
        """Return what must not go unseen: whom an exclusion costs, and what is used though unusable."""
        files, lines = self.manifest["files"], []
        if "qc/summary.json" in files:
            lines += [*_grades_and_selection(self.summary), *_leaks(self.summary)]
        if "qc/qc.csv" in files:
            if "qc/summary.json" not in files:
                grades = self.qc["grade"].value_counts()
                lines.append(", ".join(f"{name} {count}" for name, count in grades.items()))
            bad = self._unusable_but_used()
            if bad:
                said = f"{len(bad)} used though graded unusable ({listed(bad, SHOWN_ITEMS)})"
                lines.append(f"{said}; qc.exclude_from=unusable leaves such out")
        return lines

    def _unusable_but_used(self) -> list[str]:
        """Return the items used though graded unusable; the ledger is not read if the summary counts none."""
        if "qc/summary.json" in self.manifest["files"]:
            quality = self.summary.get("quality")
            if isinstance(quality, dict) and quality.get("unusable_but_used") == 0:
                return []
        ledger = self.qc
        is_bad = ledger["used"].astype(bool) & (ledger["grade"] == "unusable")
        return [str(name) for name in ledger["item_id"][is_bad].tolist()]

    def _source(self) -> str:
        """Return the option of ``data`` and the folder that the recordings are from."""
        execution = self.manifest["execution"]
        return f"data={execution['data']['kind']}, {execution['root']}"

    def exclusions(self) -> dict[str, int]:
        """Return how many items were left out for each reason, most first.

        Examples
        --------
        >>> run.exclusions()
        {}
        """
        counts = Counter(str(entry["reason"]) for entry in self.manifest["excluded"])
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def list_packages(outputs: Path) -> list[Package]:
    """Return the finished runs in an outputs folder, the last finished first."""
    return [Package(path) for path in finished_runs(outputs)] if outputs.is_dir() else []


def find_package(name: str | Path, outputs: str | Path = "outputs", *, trust: bool = False) -> Package:
    """Return a run by its hash, a unique prefix of it, a path, or ``latest``.

    Code that the run's folder names is imported only with ``trust``. Raises `ConfigError` if there is no such
    run, or several.
    """
    base = Path(outputs)
    path = Path(name)
    text = str(name)
    latest = latest_run(Outputs(base)) if text == "latest" else None
    if latest is not None and (base / latest / NAME).is_file():
        return Package((base / latest).resolve(), trust=trust)
    if (path / NAME).is_file():
        return Package(path.resolve(), trust=trust)
    if text == "latest":
        raise ConfigError(f"{base} has no finished run; python run.py makes one")
    names = [run.path.name for run in list_packages(base)]
    found = [n for n in names if n.startswith(text)] if text else []
    if text in names:
        found = [text]
    if len(found) > 1:
        raise ConfigError(f"'{text}' could be several runs: {', '.join(found)}")
    if not found and len(text) == HASH_LENGTH and is_own_folder(base / text):
        raise ConfigError(
            f"run {text} in {base} is not finished; run it again with the same command; done work is reused"
        )
    if not found:
        known = f"; there are {', '.join(names[:8])}" if names else ""
        raise ConfigError(f"no finished run '{text}' in {base}{did_you_mean(text, names)}{known}")
    return Package((base / found[0]).resolve(), trust=trust)


def _completed(group: str, default: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section of a run: what its keys hold, and of the rest what the default option has too."""
    section = {**default, **stored}
    kind = section.get("kind")
    if kind == default.get("kind"):
        return {**default, **settings_before(group, section), **stored}
    if kind not in kinds(group):
        return dict(stored)
    names = {f.name for f in fields(lookup(group, kind).params)}
    shared = {name: value for name, value in default.items() if name in names}
    return {**shared, **settings_before(group, section), **stored}
