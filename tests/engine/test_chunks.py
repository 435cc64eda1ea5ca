"""How tasks are grouped for workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hms.engine.pools.base import chunks_of
from hms.engine.pools.jobs import _said


def sizes(n_tasks: int, n_workers: int, **more: int) -> list[int]:
    tasks: Any = [SimpleNamespace(items=(0,)) for _ in range(n_tasks)]
    return [len(chunk) for chunk in chunks_of(tasks, n_workers, **more)]


def test_chunks_get_smaller_towards_the_end_so_that_workers_end_together():
    found = sizes(1600, 2)
    assert sum(found) == 1600
    assert found[:2] == [128, 128]
    assert found == sorted(found, reverse=True)
    assert found[-2] == 8


def test_chunks_that_each_begin_with_a_wait_are_fewer_and_larger():
    near, afar = sizes(1600, 2), sizes(1600, 2, larger=4)
    assert sum(afar) == 1600
    assert afar[:2] == [400, 300]
    assert afar[-2] == 32
    assert len(afar) < 0.7 * len(near)


def test_what_a_batch_system_says_is_told_and_its_error_is_named_where_it_says_nothing():
    assert _said(RuntimeError("#!/bin/sh\nsbatch: error: no such queue\n")) == "sbatch: error: no such queue"
    assert _said(OSError("qsub\n  is not there \n")) == "is not there"
    assert _said(RuntimeError()) == "RuntimeError"
