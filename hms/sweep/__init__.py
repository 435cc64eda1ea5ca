"""Several configurations in one go: members, scores, the leaderboard and its page."""

from hms.sweep.run import sweep

__all__ = ["sweep"]
