"""Augmentation."""

from hms.registry import register


@register("augment", "none")
def no_augmentation(sample: object) -> object:
    """Return the sample."""
    return sample
