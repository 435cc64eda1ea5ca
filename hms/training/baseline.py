"""Baseline."""

from hms.registry import register


@register("baseline", "none")
def no_baseline() -> None:
    """Fit nothing."""
