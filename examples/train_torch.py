"""Train a small network on a package, out of fold, in two stages, and score it as Kaggle does.

    pip install "hms-eeg[torch]"
    python examples/train_torch.py                    # the embedded recordings, under 3 minutes on two cores
    python examples/train_torch.py --run RUN --outputs outputs --epochs 14,6

Stage 1 learns from all items, stage 2 goes on with those of 10 votes and more, which the
competition scores like its test set. Predictions are out of fold: each item is predicted
by a network that saw neither it nor its patient.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

import hms
from hms.labels.intervals import mean_interval, paired_interval
from hms.results.run import Run
from hms.training.baseline import class_prior, out_of_fold
from hms.training.dataset import SpecDataset
from hms.training.metric import row_divergence, stratum_names


class SmallNet(nn.Module):
    """Convolutions shared by the outputs of one side, joined so that left and right may change places."""

    def __init__(self, n_outputs: int, width: int = 24) -> None:
        super().__init__()

        def block(n_in: int, n_out: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )

        self.pool = nn.AvgPool2d((2, 2))
        self.body = nn.Sequential(
            block(n_outputs, width), block(width, 2 * width), block(2 * width, 2 * width)
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(4 * width, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return log shares of the classes, shape (n_items, 6)."""
        maps = self.body(self.pool(x) - 0.5)
        summary = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
        return torch.log_softmax(self.head(summary), dim=1)


def weighted_kl(log_p: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return sum(w KL(y || p)) / sum(w)."""
    rows = nn.functional.kl_div(log_p, y, reduction="none").sum(dim=1)
    return (weight * rows).sum() / weight.sum()


def loader(dataset: SpecDataset, *, shuffle: bool, seed: int = 0) -> DataLoader:
    """Return a loader whose order depends on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(dataset, batch_size=32, shuffle=shuffle, generator=generator)


def train(net: nn.Module, dataset: SpecDataset, *, epochs: int, rate: float, bar: tqdm, seed: int) -> None:
    """Train in place; the rate falls from ``rate`` to 0 along a cosine."""
    batches = loader(dataset, shuffle=True, seed=seed)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(1, epochs * len(batches)))
    net.train()
    for epoch in range(epochs):
        dataset.set_epoch(epoch)
        for batch in batches:
            if len(batch["y"]) < 2:  # batch normalisation needs two items
                continue
            loss = weighted_kl(net(batch["x"]), batch["y"], batch["weight"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
        bar.update()


@torch.no_grad()
def predict(net: nn.Module, dataset: SpecDataset) -> dict[str, np.ndarray]:
    """Return class shares by item_id."""
    net.eval()
    found: dict[str, np.ndarray] = {}
    for batch in loader(dataset, shuffle=False):
        shares = net(batch["x"]).double().softmax(dim=1).numpy()
        found |= dict(zip(batch["item_id"], shares, strict=True))
    return found


def train_out_of_fold(run: Run, epochs: tuple[int, int], *, augment: str, seed: int) -> dict[str, np.ndarray]:
    """Return every item's class shares by the network of its fold."""
    predictions: dict[str, np.ndarray] = {}
    with tqdm(total=len(run.splits) * sum(epochs), unit="epoch") as bar:
        for fold in range(len(run.splits)):
            torch.manual_seed(seed + fold)
            net = SmallNet(len(run.outputs))
            for stage, rate in ((1, 4e-3), (2, 1e-3)):
                bar.set_description(f"fold {fold}, stage {stage}")
                dataset = run.dataset(
                    "train", fold=fold, stage=stage, stage_order="all_first", augment=augment, seed=seed
                )
                train(net, dataset, epochs=epochs[stage - 1], rate=rate, bar=bar, seed=seed)
            predictions |= predict(net, run.dataset("valid", fold=fold))
    return predictions


def report(run: Run, predictions: dict[str, np.ndarray]) -> str:
    """Return the divergence by vote stratum beside that of the class prior, with intervals."""
    labels, patients = run.labels, run.meta["patient_id"].to_numpy(object)
    y = labels.y_soft.astype(float)
    p = np.stack([predictions[name] for name in labels.item_id.tolist()])
    prior = out_of_fold(np.zeros((len(y), 1)), y, labels.w_conf, run.splits, class_prior).prediction
    network, reference = row_divergence(y, p), row_divergence(y, prior)
    strata = stratum_names(labels.vote_sum)
    lines = ["votes  items  network KL               class prior KL           difference"]
    for name in ("all", *sorted(set(strata.tolist()), reverse=True)):
        rows = np.ones(len(y), bool) if name == "all" else strata == name
        values = [mean_interval(each[rows], patients[rows]) for each in (network, reference)]
        paired = paired_interval(network[rows], reference[rows], patients[rows])
        lines.append(f"{name:5}  {rows.sum():5}  {values[0]!s:23}  {values[1]!s:23}  {paired}")
    return "\n".join(lines)


def main() -> None:
    """Prepare or open a package, train, and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="a finished run; without it the embedded recordings are prepared")
    parser.add_argument("--outputs", default="outputs", type=Path, help="folder of the runs")
    parser.add_argument("--epochs", default="14,6", help="epochs of stage 1 and stage 2")
    parser.add_argument("--augment", default="light", help="none, light, strong or one of your own")
    parser.add_argument("--seed", default=0, type=int)
    given = parser.parse_args()
    first, second = (int(number) for number in given.epochs.split(","))
    began = time.monotonic()
    if given.run is None:
        run = hms.run(hms.compose(f"outputs_dir={given.outputs}", "package.pack=true"))
    else:
        run = hms.load(given.run, outputs=given.outputs)
    print(run)
    predictions = train_out_of_fold(run, (first, second), augment=given.augment, seed=given.seed)
    print(report(run, predictions))
    print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
