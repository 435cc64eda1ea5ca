"""What can go wrong, each kind with the exit code that it ends a run with.

Imports nothing of hms.
"""

from __future__ import annotations


class StorageError(Exception):
    """A file could not be written or read back (exit code 4).

    ``n_bytes`` and ``n_files`` say how much was being written when it happened.
    """

    def __init__(self, text: str, n_bytes: int = 0, n_files: int = 0) -> None:
        super().__init__(text, n_bytes, n_files)
        self.text, self.n_bytes, self.n_files = text, n_bytes, n_files

    def __str__(self) -> str:
        return self.text


class Unusable(Exception):
    """An item cannot be prepared; the text is the reason that the user reads.

    ``failure`` tells a recording that could not be read or computed (counted against
    ``max_failed_share``) from one that was read and has nothing to give. A ``permanent``
    reason follows from the bytes of the recording; any other is tried again.
    """

    def __init__(self, reason: str, *, failure: bool = True, permanent: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.failure, self.permanent = reason, failure, permanent


class EngineError(Exception):
    """The workers, or what leads to them, failed as a whole (exit code 4)."""


class TooManyFailures(Exception):
    """More recordings failed than ``max_failed_share`` allows, or no item can be used (exit code 3)."""


class ManifestError(Exception):
    """A manifest is missing, damaged or not one."""


class ConfigError(ValueError):
    """A configuration or an input table that cannot be worked with (exit code 2)."""

    def _render_traceback_(self) -> list[str]:
        """Show a notebook the message alone: the way to it through the library says nothing more."""
        return [f"{type(self).__name__}: {self}"]
