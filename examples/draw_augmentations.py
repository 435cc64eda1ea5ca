"""Draw what each augmentation makes of one item: the picture in docs/training.md.

python examples/draw_augmentations.py --run latest --index 3 --seed 8 docs/images/augmentations.png
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import hms
from hms.results.run import Run
from hms.training.augment import Augmentation, Change
from hms.training.dataset import SpecDataset

OUTPUT = 0
"""The chain that is shown."""


def examples(run: Run, index: int, seed: int) -> dict[str, np.ndarray]:
    """Return the scalogram as it is and after each change of the strong recipe, made for certain."""
    strong = hms.compose("augment=strong").augment
    assert isinstance(strong, Augmentation)
    found = {"as it is": run.dataset()[index]["x"]}
    for name, change in strong.changes:
        assert isinstance(change, Change)
        certain = replace(change, probability=1.0)
        alone = Augmentation("sequence", ((name, certain),))
        found[name.replace("_", " ")] = SpecDataset(run, augment=alone, seed=seed)[index]["x"]
    return found


def draw(run: Run, index: int, seed: int, path: Path) -> None:
    """Write the picture."""
    panels = examples(run, index, seed)
    columns = -(-len(panels) // 2)
    shape = {"figsize": (3 * columns, 5.2), "layout": "constrained"}
    figure, axes = plt.subplots(2, columns, sharex=True, sharey=True, **shape)
    length_s = run.config.at("window.length_s")
    for spare in axes.flat[len(panels) :]:
        spare.set_axis_off()
    for axis, (name, x) in zip(axes.flat, panels.items(), strict=False):
        times = np.linspace(0, length_s, x.shape[-1], endpoint=False)
        axis.pcolormesh(times, run.freqs, x[OUTPUT], vmin=0, vmax=1, shading="nearest", rasterized=True)
        axis.set_title(name)
        axis.set_yscale("log")
        axis.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
        axis.minorticks_off()
    figure.supxlabel("time / s")
    figure.supylabel("frequency / Hz")
    figure.suptitle(f"chain {run.outputs[OUTPUT]} of item {run.meta['item_id'].iloc[index]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, metadata={"Software": None})


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--run", default="latest")
    parser.add_argument("--outputs", default="outputs", type=Path)
    parser.add_argument("--index", default=0, type=int, help="which item")
    parser.add_argument("--seed", default=0, type=int)
    given = parser.parse_args()
    draw(hms.load(given.run, outputs=given.outputs), given.index, given.seed, given.path)


if __name__ == "__main__":
    main()
