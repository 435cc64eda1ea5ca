"""Labels: votes as distributions, with a confidence weight each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hms.labels.classes import Classes
from hms.labels.items import keeps_unlabelled
from hms.labels.votes import high_confidence, kept_soft_labels, soft_labels
from hms.labels.weights import confidence_weights
from hms.pipeline.stage import TableStage, register_stage, setting
from hms.pipeline.tables import View
from hms.registry import Params
from hms.stages.meta import Meta
from hms.store.files import Content
from hms.store.npz import npz_bytes


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
    high_confidence_votes: int = setting("labels.high_confidence_votes")

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return labels.npz."""
        used = tables.used
        classes = Classes.of_columns(used.columns)
        vote_sum = used["vote_sum"].to_numpy()
        votes = used[list(classes.vote_columns)].to_numpy(np.float64)
        arrays = {
            "y_soft": kept_soft_labels(votes) if self.keeps_unlabelled else soft_labels(votes),
            "w_conf": self._weights(vote_sum),
            "hc_mask": high_confidence(vote_sum, self.high_confidence_votes),
            "classes": classes.array(),
            "vote_sum": vote_sum,
            "eeg_id": used["eeg_id"].to_numpy(np.int64),
            "item_id": np.array(used["item_id"].tolist(), dtype=np.str_),
        }
        if self.keeps_unlabelled:
            arrays["has_label"] = vote_sum > 0
        return {self.files[0]: npz_bytes(arrays)}

    @property
    def keeps_unlabelled(self) -> bool:
        """Whether items without votes are among those used."""
        return keeps_unlabelled(self.meta.labels)

    def _weights(self, vote_sum: NDArray[Any]) -> NDArray[np.float32]:
        """Return confidence weights, 0 for an item without votes."""
        weights = np.zeros(len(vote_sum), np.float32)
        labelled = vote_sum > 0
        weights[labelled] = confidence_weights(vote_sum[labelled], self.weight)
        return weights if self.keeps_unlabelled else confidence_weights(vote_sum, self.weight)
