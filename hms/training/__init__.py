"""What comes after the package: the dataset, augmentation, the metric, a baseline, a submission.

What belongs here starts from a `hms.store.package.Package` or from arrays. May import: pipeline, store,
signal, labels and below.
"""

from hms.training.dataset import SpecDataset
from hms.training.metric import bootstrap_interval, kl_divergence, paired_bootstrap
from hms.training.submission import submission

__all__ = ["SpecDataset", "bootstrap_interval", "kl_divergence", "paired_bootstrap", "submission"]
