"""Samples per second from a package to a training device: packed x, or derivations and the transform there.

    python benchmarks/device.py [--work DIR] [--recordings 256] [--batch 64] [--rounds 5] [--devices cpu,cuda]
    python benchmarks/device.py --data DIR        # recordings of your own: train.csv and train_eegs/

One process; contestants in turn, round after round; the recordings are made up, the files warm. Without
``--devices``: the CPU with one thread, and the accelerator that torch finds, if any. Besides rates it
prints how far the device's x is off the run's, from derivations in single and in half precision.
"""

# ruff: noqa: E402 (the checkout is put on the path before it is imported)
from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])

import numpy as np
import torch
from recordings import make_recordings, parse

import hms
from hms.results.run import Run
from hms.signal.cwt import plan_cwt
from hms.signal.montage import output_groups
from hms.signal.scaling import log1p_percentile
from hms.training.torch import Scalogram

GOAL = 20_000
"""Recordings a second on one data-centre GPU."""

NUMPY_ITEMS = 32
"""Recordings that NumPy transforms in a round."""


class Contest:
    """What turns items of a package into x on a device."""

    def __init__(self, run: Run, device: torch.device, n_batch: int) -> None:
        self.run, self.device, self.n_batch = run, device, n_batch
        self.module = Scalogram(run, check=False).to(device)
        self.x = np.load(run.path / "data_package/spec_pack.npy", mmap_mode="r")
        self.derivations = np.load(run.path / "data_package/deriv_pack.npy", mmap_mode="r")
        self.alive = torch.from_numpy(run.arrays("data_package/deriv_pack_ids.npz")["alive"])

    def batches(self) -> Iterator[np.ndarray]:
        """Yield rows in random order, a batch at a time."""
        rows = np.random.default_rng(0).permutation(len(self.alive))
        for first in range(0, len(rows) - self.n_batch + 1, self.n_batch):
            yield np.sort(rows[first : first + self.n_batch])

    def sent(self, pack: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        """Return rows of a packed array on the device."""
        batch = torch.from_numpy(pack[rows])
        if self.device.type == "cuda":
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch.to(self.device)

    def packed_x(self) -> None:
        """Read x in half precision and widen it on the device."""
        for rows in self.batches():
            self.sent(self.x, rows).float()

    def transformed(self, *, half: bool) -> None:
        """Read derivations and transform them on the device."""
        pack = self.half if half else self.derivations
        for rows in self.batches():
            self.module(self.sent(pack, rows), self.alive[rows].to(self.device))

    def alone(self, module: Callable[..., torch.Tensor]) -> None:
        """Transform a batch that is on the device already, as often as there are batches."""
        rows = next(self.batches())
        batch, alive = self.sent(self.derivations, rows), self.alive[rows].to(self.device)
        for _ in self.batches():
            module(batch, alive)

    @property
    def half(self) -> np.ndarray:
        """Derivations in half precision, made once."""
        if not hasattr(self, "_half"):
            self._half = np.asarray(self.derivations).astype(np.float16)
        return self._half

    @property
    def packs(self) -> dict[str, np.ndarray]:
        """Return derivations in single and in half precision."""
        return {"float32": self.derivations, "float16": self.half}

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def contestants(self) -> dict[str, Callable[[], None]]:
        """Return what is timed, each on all batches."""
        self.half  # noqa: B018 - made before it is timed
        known: dict[str, Callable[[], None]] = {
            "packed x, read and sent": self.packed_x,
            "derivations float32, read, sent, transformed": lambda: self.transformed(half=False),
            "derivations float16, read, sent, transformed": lambda: self.transformed(half=True),
            "transform alone": lambda: self.alone(self.module),
        }
        if self.device.type == "cuda":
            compiled = torch.compile(self.module)
            known["transform alone, torch.compile"] = lambda: self.alone(compiled)
        return known

    def off(self, pack: np.ndarray) -> str:
        """Say how far the device's x is off the run's, over all items."""
        found = []
        for first in range(0, len(self.alive), self.n_batch):
            rows = np.arange(first, min(first + self.n_batch, len(self.alive)))
            x = self.module(self.sent(pack, rows), self.alive[rows].to(self.device)).cpu().numpy()
            ids = self.run.labels.item_id[rows].tolist()
            found.append(np.abs(x - np.stack([self.run.spec(name) for name in ids])).ravel())
        off = np.concatenate(found)
        median, most = float(np.median(off)), float(np.quantile(off, 0.999))
        return f"{median:.1e} in the median and by less than {most:.1e} in 99.9 % of values"


def numpy_power(run: Run) -> tuple[list[dict[str, Any]], Callable[[dict[str, Any]], np.ndarray]]:
    """Return some items with their derivations, and what NumPy makes the power of one with."""
    cfg, dataset = run.config, run.dataset(signal="derivations")
    items = [dataset[number] for number in range(min(NUMPY_ITEMS, len(dataset)))]
    n_window = items[0]["x"].shape[1] - 2 * dataset.n_context
    plan = plan_cwt(cfg.cwt, sfreq=200.0, n_context=dataset.n_context, n_window=n_window)
    chains, output = cfg.at("montage.chains"), cfg.at("montage.output")
    return items, lambda item: plan.power(item["x"], output_groups(chains, output, item["alive"]))


def numpy_rate(run: Run) -> float:
    """Return recordings a second of the NumPy transform in one thread, derivations in memory."""
    items, power = numpy_power(run)
    began = time.perf_counter()
    for item in items:
        log1p_percentile(power(item), run.config.scaling)
    return len(items) / (time.perf_counter() - began)


def power_off(contest: Contest) -> str:
    """Say how far power is off NumPy's, by the largest value of each row: one frequency of one output."""
    items, power = numpy_power(contest.run)
    expected = np.stack([power(item) for item in items])
    sent = [torch.from_numpy(np.stack([item[name] for item in items])) for name in ("x", "alive")]
    found = contest.module.wavelet(*(each.to(contest.device) for each in sent)).cpu().numpy()
    largest = expected.max(axis=-1)
    rows = (np.abs(found - expected).max(axis=-1) / np.where(largest > 0, largest, 1)).ravel()
    most = float(np.quantile(rows, 0.99))
    return f"{most:.1e} of its row's maximum in 99 % of {rows.size:,} rows, {rows.max():.1e} in the worst"


def compare(run: Run, device: torch.device, n_batch: int, rounds: int) -> None:
    """Measure on a device and print."""
    contest = Contest(run, device, n_batch)
    known = contest.contestants()
    rates: dict[str, list[float]] = {name: [] for name in known}
    with torch.no_grad():
        for number in range(rounds + 1):
            for name, function in known.items():
                contest.wait()
                began = time.perf_counter()
                function()
                contest.wait()
                n_items = sum(len(rows) for rows in contest.batches())
                if number:  # the first round warms
                    rates[name].append(n_items / (time.perf_counter() - began))
            if device.type == "cpu":
                rate = numpy_rate(run)
                if number:
                    rates.setdefault("NumPy's transform alone, one thread", []).append(rate)
        errors = {name: contest.off(pack) for name, pack in contest.packs.items()}
        power = power_off(contest)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"\n{name}, batches of {n_batch}\n\n| | recordings/s, median | range |\n|---|---|---|")
    for what, values in rates.items():
        print(f"| {what} | {statistics.median(values):,.0f} | {min(values):,.0f} - {max(values):,.0f} |")
    for what, error in errors.items():
        print(f"\nx from {what} is off by {error}")
    print(f"\npower is within {power}")
    if device.type == "cuda":
        reached = statistics.median(rates["transform alone"])
        print(
            f"goal on one data-centre GPU: {GOAL:,} recordings/s; {'met' if reached >= GOAL else 'not met'}"
        )


def found_devices() -> str:
    """Return the devices to measure on, separated by commas."""
    if torch.cuda.is_available():
        return "cpu,cuda"
    return "cpu,mps" if torch.backends.mps.is_available() else "cpu"


def main() -> None:
    """Prepare the recordings, measure and print."""
    whole = {"type": int}
    given = parse(
        __doc__,
        recordings={**whole, "default": 256},
        batch={**whole, "default": 64},
        rounds={**whole, "default": 5},
        data={"type": Path, "help": "recordings of your own in the place of made-up ones"},
        devices={"default": found_devices(), "help": "separated by commas"},
    )
    torch.set_num_threads(1)
    data = given.data or make_recordings(given.work, n_recordings=given.recordings)
    with tempfile.TemporaryDirectory(dir=given.work) as outputs:
        settings = ("data=kaggle", f"data.root={data}", f"outputs_dir={outputs}", "folds=none", "n_jobs=2")
        made = ("stages=[scalograms,labels]", "package.pack=true", "package.derivations=true")
        run = hms.run(hms.compose(*settings, *made))
        for name in given.devices.split(","):
            compare(run, torch.device(name), given.batch, given.rounds)
    if given.devices == "cpu":
        print("\nno accelerator was found: the goal on a GPU was not looked at")


if __name__ == "__main__":
    main()
