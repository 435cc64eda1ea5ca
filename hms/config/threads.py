"""Changes of the whole process, which its threads make together: two runs of a server, for instance."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


class Shared:
    """A change of the process that lasts while any thread needs it.

    Each thread by itself would take for the state to return to what the other has changed, and the last
    would leave that behind.

    Parameters
    ----------
    change : makes the change, and takes it back
    state : what the change depends on; it is made once more where this is another
    """

    def __init__(
        self, change: Callable[[], AbstractContextManager[Any]], state: Callable[[], object] = lambda: None
    ) -> None:
        self._change, self._state = change, state
        self._lock, self._users, self._made = threading.Lock(), 0, ExitStack()
        self._known: object = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Have the change meanwhile."""
        with self._lock:
            state = self._state()
            if not self._users or state != self._known:
                self._made.enter_context(self._change())
                self._known = state
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._made.close()


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """Return the libraries with threads; looked for again when modules were imported since."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _n_modules() -> int:
    return len(sys.modules)


@contextmanager
def _limited() -> Iterator[None]:
    """Limit the libraries; whichever thread takes that back."""
    from threadpoolctl import OpenBLASController

    limits = _libraries(_n_modules()).limit(limits=1)
    try:
        yield
    finally:
        # Later versions listen to one thread alone, and that may be another one.
        release = getattr(OpenBLASController, "clear_controlling_thread", lambda force: None)
        release(force=True)
        limits.restore_original_limits()
        release(force=True)


one_thread = Shared(_limited, _n_modules)
"""Let libraries compute in one thread: with more, products and sums are rounded otherwise.

Those of modules that are imported meanwhile are limited by whoever asks next.
"""
