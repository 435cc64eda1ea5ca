"""What comes after the package: datasets, augmentation, the metric, a baseline."""
