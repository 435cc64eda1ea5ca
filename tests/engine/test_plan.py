"""A plan in columns: tasks made when they are asked for, identities made in bulk."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd

import hms
from hms.engine.job import Task, Tasks, item_key, item_keys
from hms.engine.plan import TASK_ITEMS, Plan, make_plan
from hms.engine.pools.base import CHUNK_ITEMS, chunks_of
from hms.sources.base import Part, Place

CLASSES = ("seizure", "lpd", "gpd", "lrda", "grda", "other")


def plan_of_rows(folder: Path, counts: dict[str, int]) -> Plan:
    """Return a plan of so many windows of each recording, rows of recordings taking turns."""
    (folder / "train_eegs").mkdir(parents=True)
    rows = [
        (name, number) for number in range(max(counts.values())) for name in counts if number < counts[name]
    ]
    table = pd.DataFrame(rows, columns=["eeg_id", "eeg_sub_id"])
    table["eeg_label_offset_seconds"] = table["eeg_sub_id"] * 10.0
    table["patient_id"] = table["eeg_id"]
    for number, name in enumerate(CLASSES):
        table[f"{name}_vote"] = 3 * (number == 0)
    table.to_csv(folder / "train.csv", index=False)
    for name in counts:
        (folder / "train_eegs" / f"{name}.parquet").write_bytes(b"not read by a plan")
    choices = ("unit=per_row", "folds=none", "stages=[scalograms,waveforms]")
    return make_plan(hms.compose("data=kaggle", f"data.root={folder}", f"outputs_dir={folder}/out", *choices))


def test_tasks_hold_every_due_item_once_by_recording_and_in_the_order_of_the_table(tmp_path: Path):
    counts = {"7": 130, "b-2": 3, "11": 64}
    plan = plan_of_rows(tmp_path, counts)
    due = plan.due()
    waveforms = next(key for key, stage in plan.item_stages.items() if stage.name == "waveforms")
    due[waveforms] = due[waveforms][1::2]
    tasks = plan.tasks(due)
    assert [len(task.items) for task in tasks] == tasks.sizes.tolist() == [64, 64, 2, 3, 64]
    assert [task.part.name for task in tasks] == ["7", "7", "7", "b-2", "11"]
    assert max(tasks.sizes) == TASK_ITEMS
    works = [work for task in tasks for work in task.items]
    assert sorted(work.index for work in works) == list(range(197))
    assert [w.start_s for w in tasks[3].items] == [20.0, 30.0, 40.0]
    for work in works:
        assert (waveforms in work.due) == (work.index % 2 == 1)
        assert plan.items["item_id"][work.index].startswith(str(plan.items["recording"][work.index]))
        assert type(work.index) is int
        assert type(work.start_s) is float
    assert {work.patient_id for work in works} == {7, "b-2", 11}


def test_what_a_worker_is_given_of_tasks_is_a_plain_list(tmp_path: Path):
    plan = plan_of_rows(tmp_path, {"1": 70, "2": 2})
    made = plan.tasks(plan.due())
    given = pickle.loads(pickle.dumps(made[1:]))
    assert given == list(made)[1:]
    assert isinstance(given, list)


def test_chunks_of_tasks_that_are_made_when_asked_for_are_those_of_a_list():
    parts = [Task(Part(Place(str(n), "", 1, 1)), ()) for n in range(200)]
    sizes = np.resize([64, 3, 20, 1], 200)
    made: list[int] = []

    def make(number: int) -> Task:
        made.append(number)
        return parts[number]

    chunks = chunks_of(Tasks(sizes, make), 2)
    assert made == []
    assert [task for chunk in chunks for task in chunk] == parts
    ends = np.cumsum([len(chunk) for chunk in chunks])
    in_chunks = [int(part.sum()) for part in np.split(sizes, ends[:-1])]
    assert max(in_chunks[:-1]) < CHUNK_ITEMS + 64
    assert in_chunks[0] >= CHUNK_ITEMS


def test_identities_made_in_bulk_are_those_of_single_items():
    digests = ["0" * 32, None, "f" * 32]
    items = [(0, 20.0, 5, 7), (2, 0.1, -3, "p-1"), (1, 0.0, 1, 1), (0, 1e22, 2**62, "é"), (2, 1e-7, 0, 7)]
    found = item_keys(digests, *zip(*items, strict=True))
    expected = [0 if digests[d] is None else int(item_key(digests[d], *rest), 16) for d, *rest in items]
    assert found.tolist() == expected
