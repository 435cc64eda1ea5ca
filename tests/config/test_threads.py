"""What threads of one process change together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow
from threadpoolctl import threadpool_info

from hms.config.memory import lean
from hms.config.threads import Shared, one_thread


class Change:
    """A number that is set to 1 meanwhile and then is what it was before, as limits of threads are."""

    def __init__(self) -> None:
        self.value = 8
        self.times = 0

    @contextmanager
    def made(self) -> Iterator[None]:
        before, self.value = self.value, 1
        self.times += 1
        yield
        self.value = before


def test_the_last_thread_takes_a_change_back_whichever_came_first() -> None:
    change = Change()
    shared = Shared(change.made)
    first, second = shared(), shared()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert change.value == 1, "the second still needs it"
    second.__exit__(None, None, None)
    assert (change.value, change.times) == (8, 1)


def test_a_change_is_made_once_more_where_what_it_depends_on_is_another() -> None:
    change, libraries = Change(), [1]
    shared = Shared(change.made, lambda: len(libraries))
    with shared():
        change.value = 5  # a library that was loaded meanwhile
        libraries.append(2)
        with shared():
            assert change.value == 1
    assert (change.value, change.times) == (8, 2)


def _threads_of_libraries() -> list[int]:
    """Return the threads of each BLAS; those of OpenMP, which hms does not use, are each thread's own."""
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_threads_that_compute_at_once_leave_the_process_as_it_was() -> None:
    before = _threads_of_libraries()
    pool = pyarrow.default_memory_pool().backend_name
    began, may_end, seen = threading.Event(), threading.Event(), []

    def compute() -> None:
        with one_thread(), lean():
            began.set()
            may_end.wait()
            seen.append(_threads_of_libraries())

    second = threading.Thread(target=compute)
    with one_thread(), lean():
        second.start()
        began.wait()
    may_end.set()
    second.join()
    assert seen == [[1] * len(before)], "the first thread's end is not the second's"
    assert _threads_of_libraries() == before
    assert pyarrow.default_memory_pool().backend_name == pool
