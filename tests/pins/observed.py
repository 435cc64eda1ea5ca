"""What is pinned: a dozen configurations, what is kept of their runs, and how two such records differ.

Everything goes through what users call (`hms.compose`, `hms.run`, the manifest and the files of a run), so
that it stays true however the package is arranged inside.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hms

EXPECTED = Path(__file__).with_name("expected.json")
RECORDINGS = Path(__file__).with_name("recordings")

TOLERANCE, TOLERANCE_FLOAT16 = 1e-4, 1e-3
"""Of an array's largest value: what another version of a library may change; float16 has steps of 1e-3."""

TOLERANCES = {"x_share_0": 1e-2, "x_share_1": 1e-2}
"""The same by name: shares of values at a limit, of which rounding moves one or two over it."""

NOTHING = 1e-9
"""Where an array should be 0, what rounding may leave."""

N_BLOCKS, N_SAMPLES = 4, 4
"""An array is kept as the means of so many blocks and so many of its values."""

EXACT = ("data_package/meta_use.csv", "data_package/meta_excluded.csv", "data_package/labels.npz",
         "data_package/splits.npz", "config.yaml")  # fmt: skip
"""Files whose bytes follow from the tables alone, not from signals: the same everywhere."""

STAGES = "stages=[scalograms,waveforms,labels,splits,quality,summary]"
TWO_FOLDS = "folds.n_splits=2"

CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "kaggle, defaults with the report": ("data=kaggle", TWO_FOLDS),
    "kaggle, gmw, bipolar16, per_pattern, sum": (
        "data=kaggle", TWO_FOLDS, STAGES, "cwt=gmw", "montage=bipolar16", "unit=per_pattern", "labels=sum",
    ),
    "kaggle, ricker, bipolar18, per_row, mean, wide": (
        "data=kaggle", TWO_FOLDS, STAGES, "cwt=ricker", "montage=bipolar18", "unit=per_row", "labels=mean",
        "filter=wide", "weight=sqrt",
    ),
    "kaggle, superlet, full50": (
        "data=kaggle", TWO_FOLDS, STAGES, "cwt=superlet", "cwt.n_freqs=12", "window=full50",
        "weight=constant",
    ),
    "kaggle, logreg, packed": (
        "data=kaggle", TWO_FOLDS, "stages=[scalograms,labels,splits]", "baseline=logreg",
        "baseline.l2=10", "package.pack=true",
    ),
    "kaggle, spectrograms, strict": (
        "data=kaggle", TWO_FOLDS, STAGES, "spectrograms=kaggle", "qc=strict", "data.missing=dead",
    ),
    "kaggle, blocks, stratified": (
        "data=kaggle", "folds=stratified5", TWO_FOLDS, STAGES, "data.block_s=30", "filter.notch_hz=50",
        "weight=log",
    ),
    "edf, table of windows, per_row": (
        "data=edf", "data.windows=windows.csv", "data.block_s=50", "unit=per_row", TWO_FOLDS, STAGES,
    ),
    "edf, table of windows without votes": (
        "data=edf", "data.windows=windows_without_votes.csv", "data.block_s=null", STAGES, "filter=wide",
    ),
    "edf, sliding windows without votes": (
        "data=edf", "data.step_s=40", "unit=per_row", STAGES, "montage.output=derivations",
    ),
    "iiic, lenient, unfiltered, float16": (
        "data=iiic", TWO_FOLDS, STAGES, "qc=lenient", "filter=none", "scaling=none", "cwt.dtype=float16",
    ),
    "iiic, without votes, energy": (
        "data=iiic", "data.votes=null", STAGES, "cwt.norm=energy", "window.length_s=12",
    ),
    "synthetic": (
        "data=synthetic", "data.n_recordings=6", "data.n_patients=3", "data.write_spectrograms=false",
        TWO_FOLDS, STAGES,
    ),
}  # fmt: skip
"""Overrides by a name; `run_of` adds where things lie and the workers, which no hash depends on."""

KEYS_ONLY = ("synthetic",)
"""Configurations whose recordings are made by the package: only what does not depend on them is kept."""


def unpack(folder: Path) -> Path:
    """Copy the recordings into a new folder, those packed by xz unpacked, and return it."""
    shutil.copytree(RECORDINGS, folder)
    for packed in sorted(folder.rglob("*.xz")):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    return folder


def run_of(name: str, recordings: Path, outputs: Path) -> Any:
    """Prepare a configuration with one worker and return its run."""
    overrides = CONFIGURATIONS[name]
    source = overrides[0].partition("=")[2]
    places = [f"outputs_dir={outputs}", "n_jobs=1"]
    if name not in KEYS_ONLY:
        places.append(f"data.root={recordings / source}")
    return hms.run(hms.compose(*overrides, *places))


def observe(name: str, recordings: Path, outputs: Path) -> dict[str, Any]:
    """Prepare a configuration and return what is pinned of it."""
    run = run_of(name, recordings, outputs)
    stages = run.manifest["stages"]
    record: dict[str, Any] = {
        "keys": {stage: note["key"] for stage, note in stages.items()},
        "versions": dict(sorted(_versions(stages))),
    }
    if name in KEYS_ONLY:
        return record
    files = {path: _content(path, run.path / path) for path in run.manifest["files"]}
    return {"run": run.hash, **record, "files": files}


def _versions(stages: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the version of every stage of a run, those included that keep no files."""
    for stage, note in stages.items():
        content = note.get("content", note)
        yield stage, content["version"]
        yield from _versions(content["reads"])


def surroundings() -> dict[str, Any]:
    """Return what the last bits of numbers depend on: the libraries, and what they make of the processor."""
    from importlib import metadata

    import scipy.linalg  # noqa: F401 - loads the BLAS that is looked at
    from threadpoolctl import threadpool_info

    names = ("numpy", "scipy", "pandas", "pyarrow", "PyWavelets", "scikit-learn")
    config: Any = np.show_config(mode="dicts")
    blas = {f"{lib['version']} {lib['architecture']}" for lib in threadpool_info() if "architecture" in lib}
    return {
        "versions": {name: metadata.version(name) for name in names},
        "system": " ".join([platform.system(), platform.machine(), *platform.libc_ver()]),
        "blas": sorted(blas),
        "simd": config["SIMD Extensions"].get("found", []),
    }


# --- one file ------------------------------------------------------------------------------------


def _content(path: str, file: Path) -> dict[str, Any]:
    """Return what is kept of a file: its bytes' digest, or what is in it and the digest beside that."""
    if path.endswith(".html"):
        return {}
    data = file.read_bytes()
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    if path in EXACT:
        return {"exact": digest}
    return {"parts": _READERS[file.suffix](data), "bytes": digest}


def _npz(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data)) as arrays:
        return {name: record_of_array(arrays[name]) for name in arrays.files}


def _npy(data: bytes) -> dict[str, Any]:
    return {"": record_of_array(np.load(io.BytesIO(data)))}


def _frame(frame: Any) -> dict[str, Any]:
    return {str(name): record_of_array(frame[name].to_numpy()) for name in frame.columns}


def _csv(data: bytes) -> dict[str, Any]:
    import pandas as pd

    return _frame(pd.read_csv(io.BytesIO(data), keep_default_na=False, na_values=[""]))


def _parquet(data: bytes) -> dict[str, Any]:
    import pandas as pd

    return _frame(pd.read_parquet(io.BytesIO(data)))


def _json(data: bytes) -> dict[str, Any]:
    """Return a part for each entry of the outermost dictionary: its numbers, and all else as text."""
    parts = {}
    for name, value in json.loads(data).items():
        leaves = list(_leaves(value, ""))
        numbers = [v for _, v in leaves if _is_number(v)]
        texts = [(path, "number" if _is_number(v) else v) for path, v in leaves]
        parts[name] = record_of_array(np.array(numbers, float)) | {"texts": _digest_of(texts)}
    return parts


_READERS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    ".npz": _npz, ".npy": _npy, ".csv": _csv, ".parquet": _parquet, ".json": _json,
}  # fmt: skip


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in pairs:
            yield from _leaves(inner, f"{path}/{name}")
    else:
        yield path, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _digest_of(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, default=str).encode(), digest_size=8).hexdigest()


def record_of_array(values: NDArray[Any]) -> dict[str, Any]:
    """Return dtype, shape and a few numbers of an array, or the digest of its texts."""
    kind = "text" if values.dtype.kind in "OUST" else str(values.dtype)
    kept: dict[str, Any] = {"is": f"{kind} {list(values.shape)}"}
    if values.dtype.kind not in "fiu":
        return kept | {"texts": _digest_of([str(v) for v in values.ravel().tolist()])}
    flat = values.ravel().astype(np.float64)
    if np.isnan(flat).any():
        kept["nan"] = int(np.isnan(flat).sum())
        flat = np.nan_to_num(flat, nan=0.0)
    return kept | {"max": _short(np.abs(flat).max(initial=0.0)), "numbers": [_short(v) for v in _few(flat)]}


def _few(flat: NDArray[np.float64]) -> list[float]:
    """Return all values if they are few, else the means of blocks and some values; none if all are 0."""
    if not flat.any():
        return []
    if flat.size <= N_BLOCKS + N_SAMPLES:
        return [float(v) for v in flat]
    blocks = [float(block.mean()) for block in np.array_split(flat, N_BLOCKS)]
    samples = flat[np.linspace(0, flat.size - 1, N_SAMPLES + 2).astype(int)[1:-1]]
    return [*blocks, *(float(v) for v in samples)]


def _short(value: float) -> float:
    return float(f"{value:.6g}")


# --- two records ---------------------------------------------------------------------------------


def differences(before: dict[str, Any], after: dict[str, Any], *, of_bytes: bool = False) -> list[str]:
    """Return what differs between two records of a configuration, a line each."""
    found = []
    if before.get("run") != after.get("run"):
        found.append(f"run hash {before.get('run')} -> {after.get('run')}")
    found += _of_entries("version of stage", before["versions"], after["versions"])
    found += _of_entries("key of stage", before["keys"], after["keys"])
    old, new = before.get("files", {}), after.get("files", {})
    found += [f"{path}: {'gone' if path in old else 'new'}" for path in sorted(set(old) ^ set(new))]
    for path in (path for path in old if path in new):
        found += [f"{path}: {text}" for text in _of_file(old[path], new[path], of_bytes=of_bytes)]
    return found


def _of_entries(what: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = dict.fromkeys([*before, *after])
    return [
        f"{what} {name}: {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _of_file(before: dict[str, Any], after: dict[str, Any], *, of_bytes: bool) -> list[str]:
    if before.get("exact") != after.get("exact"):
        return ["its bytes changed"]
    old, new = before.get("parts", {}), after.get("parts", {})
    found = [f"'{name}' is {'gone' if name in old else 'new'}" for name in sorted(set(old) ^ set(new))]
    for name in (name for name in old if name in new):
        texts = differences_of_arrays(old[name], new[name], TOLERANCES.get(name, TOLERANCE))
        found += [f"'{name}' {text}" for text in texts]
    if of_bytes and not found and before.get("bytes") != after.get("bytes"):
        found.append("its bytes changed, its numbers by less than the tolerance")
    return found


def differences_of_arrays(
    before: dict[str, Any], after: dict[str, Any], tolerance: float = TOLERANCE
) -> list[str]:
    """Return what differs between two records of an array: what it is, else by how much it moved at most."""
    said = ("is", "nan", "texts")
    found = [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in said
        if before.get(name) != after.get(name)
    ]
    if found or "numbers" not in before:
        return found
    n_numbers = max(len(before["numbers"]), len(after["numbers"]))
    old, new = (np.array([r["max"], *(r["numbers"] or [0.0] * n_numbers)]) for r in (before, after))
    if before["is"].startswith("float16"):
        tolerance = max(tolerance, TOLERANCE_FLOAT16)
    limit = max(tolerance * max(before["max"], after["max"]), NOTHING)
    if (far := np.abs(new - old)).max() > limit:
        at = int(far.argmax())
        return [f"moved by up to {far[at]:.3g} ({old[at]:g} -> {new[at]:g}); {limit:.3g} is allowed"]
    return []
