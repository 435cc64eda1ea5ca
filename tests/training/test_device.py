"""Changes in µV for a batch on the device: what the dataset makes to an item."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hms
from hms.errors import ConfigError
from hms.registry import lookup
from hms.results.run import Run
from hms.training.augment import Around

torch = pytest.importorskip("torch", reason="torch is not installed: changes on the device are NOT tested")

from hms.training.device import Changes  # noqa: E402
from hms.training.torch import Scalogram  # noqa: E402


class Constant:
    """A generator whose every draw stands at one place of its range, for one item or many."""

    def __init__(self, place: float) -> None:
        self.place = place

    def random(self, size: Any = None) -> Any:
        return self.uniform(0, 1, size)

    def uniform(self, low: float, high: float, size: Any = None) -> Any:
        value = low + self.place * (high - low)
        return value if size is None else np.full(size, value)

    def beta(self, a: float, b: float, size: Any = None) -> Any:
        return self.random(size)

    def integers(self, high: int, size: Any = None) -> Any:
        return np.int64(self.place * high) if size is None else np.full(size, int(self.place * high))


@pytest.fixture(scope="module")
def run(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    outputs = tmp_path_factory.mktemp("device")
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1")
    return hms.run(hms.compose(*base, "package.derivations=true", "stages=[scalograms,labels,splits]"))


@pytest.fixture(scope="module")
def batch(run: Run) -> dict[str, Any]:
    return torch.utils.data.default_collate(list(run.dataset(signal="derivations")))


def only(name: str) -> Any:
    """Return the option ``derivations``, or ``strong``, with one change alone, made to every item."""
    for option in ("derivations", "strong"):
        params = hms.compose(f"augment={option}").augment
        found = [(key, change) for key, change in params.changes if key == name]
        if found:
            return replace(params, changes=((name, replace(found[0][1], probability=1.0)),))
    raise AssertionError(name)


NAMES = ("mixup", "time_shift", "time_reversal", "left_right_swap", "chain_drop", "amplitude_scale",
         "time_mask", "frequency_mask", "band_stop")  # fmt: skip


@pytest.mark.parametrize("place", [0.2, 0.7])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_changed_as_its_items_are_by_the_dataset(
    run: Run, batch: dict[str, Any], name: str, place: float
) -> None:
    dataset, params, rng = run.dataset(signal="derivations"), only(name), Constant(place)
    found = Changes(run, params)(batch, rng)
    around = Around(dataset.mirror, dataset.plain, len(dataset), dataset.n_context)
    change = params.changes[0][1]
    for row, item in enumerate(dataset):
        expected = lookup("augmentation", name).function(item, rng, change, around)
        np.testing.assert_allclose(found["x"][row], expected["x"], atol=2e-3)
        np.testing.assert_allclose(found["y"][row], expected["y"], atol=1e-6)
        np.testing.assert_allclose(found["weight"][row], expected["weight"], rtol=1e-6)
        assert found["alive"][row].tolist() == expected["alive"].tolist()
    assert found["item_id"] == batch["item_id"]


@pytest.mark.slow
def test_noise_has_the_spread_that_was_drawn(run: Run, batch: dict[str, Any]) -> None:
    """Half of the largest share; the same generator gives the same noise."""
    params = only("gaussian_noise")
    added = Changes(run, params)(batch, Constant(0.5))["x"] - batch["x"]
    expected = 0.5 * params.changes[0][1].max_share * batch["x"].std(dim=(1, 2))
    torch.testing.assert_close(added.std(dim=(1, 2)), expected, rtol=0.02, atol=0)
    torch.testing.assert_close(Changes(run, params)(batch, Constant(0.5))["x"] - batch["x"], added)


def test_each_change_is_made_to_its_share_and_the_generator_decides(run: Run, batch: dict[str, Any]) -> None:
    """One that is made to none leaves every bit; two generators of one seed agree, of two seeds do not."""
    some = hms.compose("augment=derivations").augment
    none = replace(some, changes=tuple((name, replace(c, probability=0.0)) for name, c in some.changes))
    assert torch.equal(Changes(run, none)(batch, np.random.default_rng(0))["x"], batch["x"])
    assert torch.equal(Changes(run, "none")(batch, np.random.default_rng(0))["x"], batch["x"])
    changes = Changes(run)
    a, b, c = (changes(batch, np.random.default_rng(seed))["x"] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert Scalogram(run)(a, batch["alive"]).isfinite().all()


def test_what_cannot_be_done_is_refused(run: Run, small_set: Path, tmp_path: Path) -> None:
    strange = replace(only("band_stop").changes[0][1], kind="somebodys")
    params = replace(only("band_stop"), changes=(("somebodys", strange),))
    with pytest.raises(ConfigError, match=r"register_change\('somebodys'\), or let the dataset apply it"):
        Changes(run, params)
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path}", "n_jobs=1")
    with pytest.raises(ConfigError, match="has no derivations; run it again with package"):
        Changes(hms.run(hms.compose(*base, "stages=[labels]")))
