"""Several configurations in one go: members, scores, the leaderboard and its page.

May import: results, engine and everything below.
"""

from hms.sweep.run import sweep

__all__ = ["sweep"]
