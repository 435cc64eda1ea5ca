"""Train a small network on derivations, with the transform on the device, and score it as Kaggle does.

    pip install 'hms-eeg[torch]'
    python examples/train_torch.py                    # the embedded recordings; minutes on two cores
    python examples/train_torch.py --run RUN --test TEST_RUN --submission submission.csv

RUN needs ``package.derivations=true``. The network has two inputs, both made of the derivations where
it trains: scalograms, by the run's own transform, and the waveforms. It learns from all items first, then
from those of high confidence (10 votes and more), which the competition scores. Predictions are out of
fold, each item by a network that saw neither it nor its patient, and averaged over four turns: as it is,
played backwards, mirrored, both.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

import hms
from hms.labels.intervals import mean_interval, paired_interval
from hms.results.run import Run
from hms.training import submission
from hms.training.baseline import class_prior, out_of_fold
from hms.training.dataset import SpecDataset
from hms.training.device import Changes
from hms.training.metric import row_divergence, stratum_names
from hms.training.mirror import mirrored_outputs
from hms.training.torch import Scalogram, turns

MICROVOLTS = 50.0
"""What a waveform is divided by: about its spread, so that a network reads numbers around 1."""

RATES = (4e-3, 1e-3)
"""Learning rate at its highest, of stage 1 and stage 2."""


def block(conv: nn.Module, norm: nn.Module, pool: nn.Module) -> nn.Sequential:
    """Return a convolution with what follows it."""
    return nn.Sequential(conv, norm, nn.ReLU(), pool)


class TwoInputs(nn.Module):
    """Convolutions over scalograms and over waveforms, summarised and joined."""

    def __init__(self, run: Run, width: int = 24) -> None:
        super().__init__()
        self.scalogram = Scalogram(run)
        chains, outputs = run.config.at("montage.chains"), run.outputs
        self.mirrors = (
            mirrored_outputs(chains, run.config.at("montage.output")).tolist(),
            mirrored_outputs(chains, "derivations").tolist(),
        )
        sizes = ((len(outputs), width), (width, 2 * width), (2 * width, 2 * width))
        self.pictures = nn.Sequential(
            nn.AvgPool2d(2),
            *(
                block(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.MaxPool2d(2))
                for a, b in sizes
            ),
        )
        sizes = ((len(self.scalogram.derivations), width), (width, 2 * width), (2 * width, 2 * width))
        self.waves = nn.Sequential(
            nn.AvgPool1d(4),
            *(
                block(nn.Conv1d(a, b, 9, padding=4, bias=False), nn.BatchNorm1d(b), nn.MaxPool1d(4))
                for a, b in sizes
            ),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(8 * width, len(run.labels.classes)))

    @torch.no_grad()
    def inputs(self, derivations: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Return scalograms and waveforms of a batch of derivations with their context."""
        n_context = self.scalogram.wavelet.n_context
        window = derivations[..., n_context : derivations.shape[-1] - n_context]
        return self.scalogram(derivations, alive), torch.asinh(window / MICROVOLTS)

    def forward(self, x: Tensor, wave: Tensor) -> Tensor:
        """Return log shares of the classes, shape (n_items, n_classes)."""
        pictures, waves = self.pictures(x - 0.5), self.waves(wave)
        summaries = [
            pictures.mean(dim=(2, 3)),
            pictures.amax(dim=(2, 3)),
            waves.mean(dim=2),
            waves.amax(dim=2),
        ]
        return torch.log_softmax(self.head(torch.cat(summaries, dim=1)).float(), dim=1)

    def turned(self, x: Tensor, wave: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield both inputs in each turn."""
        yield from zip(turns(x, self.mirrors[0]), turns(wave, self.mirrors[1]), strict=True)


def weighted_kl(log_p: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Return sum(w KL(y || p)) / sum(w)."""
    rows = nn.functional.kl_div(log_p, y, reduction="none").sum(dim=1)
    return (weight * rows).sum() / weight.sum()


class Training:
    """How networks are trained and asked: device, workers, augmentation, seed."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.device = torch.device(given.device)
        self.workers, self.augment, self.seed = given.workers, given.augment, given.seed
        self.epochs = tuple(int(number) for number in given.epochs.split(","))

    def loader(self, dataset: SpecDataset, *, shuffle: bool) -> DataLoader:
        """Return a loader whose order depends on the seed alone."""
        return DataLoader(
            dataset,
            batch_size=32,
            shuffle=shuffle,
            generator=torch.Generator().manual_seed(self.seed),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )

    def autocast(self) -> torch.autocast:
        """Return half precision where it is quicker; the transform keeps its own."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def fit(self, run: Run, fold: int, bar: tqdm) -> TwoInputs:
        """Return a network that was trained on the others of a fold, in two stages."""
        torch.manual_seed(self.seed + fold)
        net = TwoInputs(run).to(self.device)
        for stage, (epochs, rate) in enumerate(zip(self.epochs, RATES, strict=True), start=1):
            dataset = run.dataset(
                "train",
                fold=fold,
                stage=stage,
                stage_order="all_first",
                signal="derivations",
                draw="window",
                shift_s=2.0,
                seed=self.seed,
            )
            bar.set_description(f"fold {fold}, stage {stage}")
            changes = Changes(run, self.augment).to(self.device)
            self.run_stage(net, changes, dataset, epochs, rate, bar)
        return net

    def run_stage(
        self, net: TwoInputs, changes: Changes, dataset: SpecDataset, epochs: int, rate: float, bar: tqdm
    ) -> None:
        """Train in place; the rate rises to ``rate`` and falls to 0."""
        batches = self.loader(dataset, shuffle=True)
        optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.02)
        steps = max(1, epochs * len(batches))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
        net.train()
        for epoch in range(epochs):
            dataset.set_epoch(epoch)
            rng = np.random.default_rng([self.seed, epoch])
            for batch in batches:
                if len(batch["y"]) < 2:  # batch normalisation needs two items
                    continue
                names = ("x", "alive", "y", "weight")
                changed = changes({name: batch[name].to(self.device) for name in names}, rng)
                x, alive, y, weight = (changed[name] for name in names)
                with self.autocast():
                    log_p = net(*net.inputs(x, alive))
                loss = weighted_kl(log_p, y, weight)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
            bar.update()

    @torch.no_grad()
    def predict(self, nets: list[TwoInputs], dataset: SpecDataset) -> dict[str, np.ndarray]:
        """Return class shares by item_id, averaged over networks and turns."""
        found: dict[str, np.ndarray] = {}
        for batch in self.loader(dataset, shuffle=False):
            shares = []
            for net in nets:
                net.eval()
                with self.autocast():
                    inputs = net.inputs(batch["x"].to(self.device), batch["alive"].to(self.device))
                    shares += [net(*turned).double().softmax(dim=1) for turned in net.turned(*inputs)]
            mean = torch.stack(shares).mean(dim=0).cpu().numpy()
            found |= dict(zip(batch["item_id"], mean, strict=True))
        return found


def prior_shares(run: Run) -> np.ndarray:
    """Return every item's class shares as one knows them without the signal, out of fold."""
    labels = run.labels
    y = labels.y_soft.astype(float)
    return out_of_fold(np.zeros((len(y), 1)), y, labels.w_conf, run.splits, class_prior).prediction


def report(run: Run, predictions: dict[str, np.ndarray]) -> str:
    """Return the divergence by vote stratum beside that of the class prior, with intervals over patients."""
    labels, patients = run.labels, run.meta["patient_id"].to_numpy(object)
    y = labels.y_soft.astype(float)
    network = row_divergence(y, np.stack([predictions[name] for name in labels.item_id.tolist()]))
    prior = row_divergence(y, prior_shares(run))
    strata = stratum_names(labels.vote_sum, run.config.at("labels.high_confidence_votes"))
    lines = ["votes  items  network KL; class prior KL; difference"]
    for name in ("all", *sorted(set(strata.tolist()), reverse=True)):
        rows = np.ones(len(y), bool) if name == "all" else strata == name
        found = [mean_interval(each[rows], patients[rows]) for each in (network, prior)]
        found.append(paired_interval(network[rows], prior[rows], patients[rows]))
        lines.append(f"{name:5}  {rows.sum():5}  {'; '.join(map(str, found))}")
    return "\n".join(lines)


def write_predictions(run: Run, predictions: dict[str, np.ndarray], path: Path) -> None:
    """Write class shares by item_id, as ``hms evaluate`` takes them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["item_id", *run.labels.classes.tolist()])
        table.writerows([name, *shares.tolist()] for name, shares in predictions.items())


def main() -> None:
    """Prepare or open a package, train, print the scores and write what was predicted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="a finished run; without it the embedded recordings are prepared")
    parser.add_argument("--outputs", default="outputs", type=Path, help="folder of the runs")
    parser.add_argument("--epochs", default="12,4", help="epochs of stage 1 and stage 2")
    parser.add_argument("--augment", default="derivations", help="none, derivations or one of your own")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", default=0, type=int, help="processes that read")
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--predictions", default="predictions.csv", type=Path, help="out of fold, by item_id")
    parser.add_argument("--test", help="a run of the test set, prepared with data.subset=test from_run=RUN")
    parser.add_argument("--submission", default="submission.csv", type=Path)
    given = parser.parse_args()
    began = time.monotonic()
    if given.run is None:
        run = hms.run(hms.compose(f"outputs_dir={given.outputs}", "package.derivations=true"))
    else:
        run = hms.load(given.run, outputs=given.outputs)
    print(run)
    training, nets, predictions = Training(given), [], {}
    with tqdm(total=len(run.splits) * sum(training.epochs), unit="epoch") as bar:
        for fold in range(len(run.splits)):
            nets.append(training.fit(run, fold, bar))
            predictions |= training.predict(nets[-1:], run.dataset("valid", fold=fold, signal="derivations"))
    print(report(run, predictions))
    write_predictions(run, predictions, given.predictions)
    print(f"wrote {given.predictions}; hms evaluate {run.hash} {given.predictions} says more")
    if given.test is not None:
        test = hms.load(given.test, outputs=given.outputs)
        shares = training.predict(nets, test.dataset(signal="derivations"))
        table = Path(test.manifest["execution"]["root"]) / "test.csv"
        submission(shares, table, given.submission, fill="prior", run=run)
        print(f"wrote {given.submission}")
    print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
