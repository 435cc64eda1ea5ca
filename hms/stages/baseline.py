"""Baseline: out-of-fold predictions of a simple model, and how good they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

import numpy as np

from hms.config.schema import Config
from hms.errors import ConfigError
from hms.labels.classes import Classes
from hms.labels.extra import extra_mask
from hms.labels.folds import set_aside, splits_of
from hms.labels.votes import has_label
from hms.pipeline.stage import TableStage, register_stage, section_function, setting
from hms.pipeline.tables import View
from hms.stages.features import Features
from hms.stages.labels import Labels
from hms.stages.splits import Splits
from hms.store.files import Content
from hms.store.npz import npz_bytes
from hms.training.baseline import Fitted, NothingToTrainOn, class_prior, out_of_fold, report_scores


@register_stage
@dataclass(frozen=True)
class Baseline(TableStage):
    """Predictions of every item by a model that saw neither it nor its patient."""

    name = "baseline"
    version = 2
    inputs: ClassVar[tuple[str, ...]] = ("used", "rows:features", *Labels.files, *Splits.files)
    files: ClassVar[tuple[str, ...]] = ("baseline/oof.npz", "baseline/metrics.json")

    features: Features
    labels: Labels
    splits: Splits
    baseline: Fitted
    high_confidence_votes: int = setting("labels.high_confidence_votes")

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether the configuration names a model."""
        return cfg.baseline.kind != "none"

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build from a configuration that names a baseline and has folds."""
        if cfg.baseline.kind == "none":
            raise ConfigError("stages: 'baseline' needs a model; choose baseline=logreg")
        if cfg.folds.kind == "none":
            raise ConfigError(
                f"baseline={cfg.baseline.kind} is fitted out of fold and needs folds; choose folds=group5"
            )
        return super().from_config(cfg)

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return oof.npz and metrics.json; without a used item, both say that nothing was predicted.

        Raises `ConfigError` if items are used, but all of them are in one fold: there is nothing to train on
        for it.
        """
        labels = tables.arrays(Labels.files[0])
        splits = splits_of(tables.arrays(Splits.files[0]))
        # Where no item could be prepared, no row tells how many features one has.
        features = tables.rows_of_used("features").get("features", np.empty((0, 0), np.float32))
        fit = partial(section_function("baseline", self.baseline), params=self.baseline)
        target = labels["y_soft"].astype(np.float64)
        weight, extra = labels.get("w_conf_fold", labels["w_conf"]), extra_mask(tables.used)
        patients = np.array(tables.used["patient_id"].tolist(), dtype=np.str_)
        aside = set_aside(patients, self.baseline.set_aside) & has_label(labels)
        try:
            model = out_of_fold(features, target, weight, splits, fit, aside=aside, extra=extra)
        except NothingToTrainOn as error:
            raise ConfigError(
                f"baseline={self.baseline.kind}: {error}; items used: {len(target)}. Leave out fewer items, "
                "choose other folds or take baseline=none"
            ) from None
        prior = out_of_fold(features, target, weight, splits, class_prior, aside=aside, extra=extra)
        metrics = report_scores(
            target,
            model,
            prior,
            vote_sum=labels["vote_sum"],
            patient_id=patients,
            classes=Classes.of_labels(labels).names,
            threshold=self.high_confidence_votes,
        )
        oof = {
            "item_id": labels["item_id"],
            "patient_id": patients,
            "fold": model.fold,
            "vote_sum": labels["vote_sum"],
            "target": labels["y_soft"],
            "prediction": model.prediction,
            "prior": prior.prediction,
        }
        text = json.dumps({"n_features": features.shape[1], **metrics}, indent=1, allow_nan=False) + "\n"
        return {self.files[0]: npz_bytes(oof), self.files[1]: text.encode()}
