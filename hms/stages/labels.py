"""Labels: votes as distributions, with a confidence weight each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hms.config.schema import Config
from hms.labels.classes import Classes
from hms.labels.extra import extra_mask, with_given_weights
from hms.labels.folds import splits_of
from hms.labels.items import keeps_unlabelled
from hms.labels.votes import high_confidence, kept_soft_labels, soft_labels
from hms.labels.weights import Weight, balance_of, class_weights, confidence_weights
from hms.pipeline.stage import TableStage, register_stage, setting
from hms.pipeline.tables import View
from hms.registry import Params
from hms.stages.meta import Meta
from hms.stages.splits import Splits
from hms.store.files import Content
from hms.store.npz import npz_file


@register_stage
@dataclass(frozen=True)
class Labels(TableStage):
    """Soft labels, confidence weights and the high-confidence mask, one row per item used."""

    name = "labels"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("used",)
    files: ClassVar[tuple[str, ...]] = ("data_package/labels.npz",)
    needs_votes: ClassVar[bool] = True

    meta: Meta
    weight: Params
    splits: Splits | None
    high_confidence_votes: int = setting("labels.high_confidence_votes")

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build with folds where classes are balanced by the training parts of these."""
        splits = Splits.from_config(cfg) if balance_of(cfg.weight) != "none" else None
        votes: int = cfg.at("labels.high_confidence_votes")
        return cls(Meta.from_config(cfg), cfg.weight, splits, votes)

    @property
    def declared(self) -> tuple[str, ...]:
        """Folds are read where there are class weights for each."""
        return self.inputs if self.splits is None else (*self.inputs, *self.splits.files)

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return labels.npz."""
        used = tables.used
        classes = Classes.of_columns(used.columns)
        vote_sum, extra = used["vote_sum"].to_numpy(), extra_mask(used)
        votes = used[list(classes.vote_columns)].to_numpy(np.float64)
        y_soft = kept_soft_labels(votes) if self.keeps_unlabelled else soft_labels(votes)
        w_conf = with_given_weights(self._weights(vote_sum), used)
        arrays = {
            "y_soft": y_soft,
            "w_conf": w_conf,
            "hc_mask": high_confidence(vote_sum, self.high_confidence_votes) & ~extra,
            "classes": classes.array(),
            "vote_sum": vote_sum,
            "eeg_id": used["eeg_id"].to_numpy(np.int64),
            "item_id": np.array(used["item_id"].tolist(), dtype=np.str_),
        }
        if self.keeps_unlabelled:
            arrays["has_label"] = vote_sum > 0
        return {self.files[0]: npz_file(arrays | self._by_fold(tables, y_soft, w_conf))}

    @property
    def keeps_unlabelled(self) -> bool:
        """Whether items without votes are among those used."""
        return keeps_unlabelled(self.meta.labels)

    def _weights(self, vote_sum: NDArray[Any]) -> NDArray[np.float32]:
        """Return confidence weights, 0 for an item without votes."""
        if not self.keeps_unlabelled:
            return confidence_weights(vote_sum, self.weight)
        weights = np.zeros(len(vote_sum), np.float32)
        labelled = vote_sum > 0
        weights[labelled] = confidence_weights(vote_sum[labelled], self.weight)
        return weights

    def _by_fold(
        self, tables: View, y_soft: NDArray[np.float32], w_conf: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the class weights of each fold, and each item's weight times that of its classes."""
        if self.splits is None or not isinstance(self.weight, Weight):
            return {}
        splits = splits_of(tables.arrays(self.splits.files[0]))
        of_class = class_weights(y_soft, splits, self.weight)
        by_fold = w_conf * (of_class @ np.nan_to_num(y_soft.T.astype(np.float64)))
        return {"w_class_fold": of_class.astype(np.float32), "w_conf_fold": by_fold.astype(np.float32)}
