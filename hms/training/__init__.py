"""What comes after the package: the dataset, augmentation, the metric, a baseline, a submission.

What belongs here starts from a `hms.store.package.Package` or from arrays.
"""

from hms.labels.intervals import mean_interval, paired_interval
from hms.training.dataset import SpecDataset
from hms.training.metric import kl_divergence
from hms.training.submission import class_prior, submission

__all__ = ["SpecDataset", "class_prior", "kl_divergence", "mean_interval", "paired_interval", "submission"]
