"""The transform in torch: the run's numbers, gradients, autocast and what it refuses."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import hms
from hms.errors import ConfigError
from hms.results.run import Run
from hms.signal.cwt import plan_cwt
from hms.signal.montage import output_groups
from hms.signal.scaling import log1p_percentile

torch = pytest.importorskip("torch", reason="torch is not installed: the torch module is NOT tested")

from hms.training.torch import Scalogram, WaveletPower, output_bounds, register_scaling, turns  # noqa: E402

torch.set_num_threads(1)  # other tests have the other cores

N_CONTEXT, N_WINDOW = 1800, 600


@pytest.fixture(scope="module")
def with_derivations(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    outputs = tmp_path_factory.mktemp("torch")
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1")
    return hms.run(hms.compose(*base, "stages=[scalograms]", "package.derivations=true"))


def batch(run: Run) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Return derivations, which of them are alive, and the run's own x, of all items."""
    items = list(run.dataset(signal="derivations"))
    x = np.stack([run.spec(item["item_id"]) for item in items])
    stacked = [torch.from_numpy(np.stack([item[name] for item in items])) for name in ("x", "alive")]
    return stacked[0], stacked[1], x


def eeg(n_items: int, n_derivations: int, seed: int = 0) -> np.ndarray:
    """Return band-limited noise that falls with frequency, like EEG after the filter, in µV."""
    rng = np.random.default_rng(seed)
    freqs = np.fft.rfftfreq(N_WINDOW + 2 * N_CONTEXT, 1 / 200)
    gain = np.where((freqs > 0.4) & (freqs < 25), 1 / np.maximum(freqs, 0.4), 0)
    white = rng.standard_normal((n_items, n_derivations, N_WINDOW + 2 * N_CONTEXT))
    return (200 * np.fft.irfft(np.fft.rfft(white) * gain, white.shape[-1])).astype(np.float32)


# --- the run's numbers ---------------------------------------------------------------------------


@pytest.mark.slow
def test_derivations_of_a_package_become_the_x_of_the_run(with_derivations: Run) -> None:
    derivations, alive, x = batch(with_derivations)
    made = Scalogram(with_derivations)(derivations, alive)
    assert (made.dtype, tuple(made.shape)) == (torch.float32, x.shape)
    off = np.abs(made.numpy() - x)
    assert np.median(off) < 1e-6
    assert np.quantile(off, 0.999) < 5e-5


def test_real_recordings_become_the_x_of_their_run(real_set: Path, tmp_path: Path) -> None:
    base = ("data=kaggle", f"data.root={real_set}", f"outputs_dir={tmp_path}", "n_jobs=1", "folds=none")
    run = hms.run(hms.compose(*base, "stages=[scalograms]", "package.derivations=true"))
    derivations, alive, x = batch(run)
    off = np.abs(Scalogram(run)(derivations, alive).numpy() - x)
    assert np.median(off) < 1e-6
    assert np.quantile(off, 0.999) < 5e-5


KINDS = {
    "morlet": ("cwt=morlet",),
    "energy": ("cwt=morlet", "cwt.norm=energy"),
    "hop 5": ("cwt=morlet", "cwt.hop=5"),
    "gmw": ("cwt=gmw",),
    "ricker": ("cwt=ricker", "cwt.min_hz=1"),
    "real ricker": ("cwt=ricker", "cwt.analytic=false", "cwt.min_hz=1"),
    "superlet": ("cwt=superlet", "cwt.min_hz=1"),
    "stft": ("cwt=stft",),
    "short stft": ("cwt=stft", "cwt.window_s=0.1", "cwt.spacing=mel"),
    "derivations": ("montage=bipolar18",),
    "electrodes": ("montage=referential",),
    "uneven chains": ("montage.chains.LL=[Fp1-F7,F7-T3,T3-T5]",),
}


@pytest.mark.parametrize("name", KINDS)
def test_power_is_that_of_the_numpy_plan_for_every_wavelet(name: str) -> None:
    """Within 1e-5 of each row's maximum, also where a derivation is dead; x then within 2e-5.

    A superlet's power is a product of up to five transforms, and so are its errors of rounding.
    """
    cfg = hms.compose(*KINDS[name])
    chains, output = cfg.at("montage.chains"), cfg.at("montage.output")
    signals = eeg(2, sum(len(pairs) for _, pairs in chains))
    alive = np.ones(signals.shape[:2], np.bool_)
    alive[1, 2] = False
    signals[1, 2] = np.nan
    plan = plan_cwt(cfg.cwt, sfreq=200.0, n_context=N_CONTEXT, n_window=N_WINDOW, keeps_mean=True)
    expected = np.stack(
        [
            plan.power(each, output_groups(chains, output, live))
            for each, live in zip(signals, alive, strict=True)
        ]
    )
    module = WaveletPower(plan, output_bounds(chains, cfg.at("montage.outputs")))
    kept = torch.from_numpy(np.where(alive[..., None], signals, 0))
    found = module(kept, torch.from_numpy(alive)).numpy()
    assert found.shape == expected.shape
    largest = expected.max(axis=-1, keepdims=True)
    assert (np.abs(found - expected) / np.where(largest > 0, largest, 1)).max() < (
        5e-5 if name == "superlet" else 1e-5
    )
    assert np.abs(log1p_percentile(found, cfg.scaling) - log1p_percentile(expected, cfg.scaling)).max() < 2e-5
    whole = module(kept)
    assert torch.equal(whole[0], module(kept, torch.ones(2, kept.shape[1], dtype=torch.bool))[0])


def test_an_artifact_in_the_context_does_not_round_a_quiet_window() -> None:
    """Twenty times as large, and so four hundred times in power: both codes against the plan in float64."""
    cfg = hms.compose()
    chains = cfg.at("montage.chains")
    signals = eeg(2, 16)
    signals[..., N_CONTEXT - 1000 : N_CONTEXT - 600] *= 20
    plan = plan_cwt(cfg.cwt, sfreq=200.0, n_context=N_CONTEXT, n_window=N_WINDOW)
    groups = output_groups(chains, "chains", np.ones(16, np.bool_))
    module = WaveletPower(plan, output_bounds(chains, cfg.at("montage.outputs")))
    exact = module(torch.from_numpy(signals).double()).numpy()
    numpy = np.stack([plan.power(each, groups) for each in signals])
    for found in (module(torch.from_numpy(signals)).numpy(), numpy):
        assert (np.abs(found - exact) / exact.max(axis=-1, keepdims=True)).max() < 1e-5


def test_an_output_without_a_live_derivation_is_zeros(with_derivations: Run) -> None:
    derivations, alive, _ = batch(with_derivations)
    alive[0, :4] = False
    made = Scalogram(with_derivations)(derivations, alive)
    assert not made[0, 0].any()
    assert made[0, 1].any()


def test_a_silent_item_is_zeros_and_leaves_the_others_alone(with_derivations: Run) -> None:
    derivations, alive, _ = batch(with_derivations)
    module = Scalogram(with_derivations)
    before = module(derivations, alive)
    derivations[1] = 0
    after = module(derivations, alive)
    assert not after[1].any()
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[2:], before[2:])


@pytest.mark.parametrize("percents", [(1, 99), (0, 100), (25, 60), (0, 37.5)])
def test_percentiles_are_those_of_the_numpy_scaling(percents: tuple[float, float]) -> None:
    from hms.signal.scaling import Log1pPercentile
    from hms.training.torch import _log1p_percentile

    power = np.random.default_rng(0).lognormal(1, 2, (3, 4, 8, 25)).astype(np.float32)
    params = Log1pPercentile("log1p_percentile", *percents)
    expected = np.stack([log1p_percentile(each, params) for each in power])
    np.testing.assert_allclose(_log1p_percentile(torch.from_numpy(power), params), expected, atol=2e-6)


def test_half_precision_derivations_are_off_by_what_the_docs_say(with_derivations: Run) -> None:
    """Their digits end at 2**-11: x is off by some 1e-5 in the median, and by under 1e-3 in 99.9 %."""
    derivations, alive, x = batch(with_derivations)
    off = np.abs(Scalogram(with_derivations)(derivations.half(), alive).numpy() - x)
    assert 1e-7 < np.median(off) < 1e-4
    assert np.quantile(off, 0.999) < 1e-3


# --- in training ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences() -> None:
    """In float64, of a short window with few frequencies."""
    cfg = hms.compose("cwt.min_hz=6", "cwt.n_freqs=4", "cwt.hop=10", "montage.chains.LL=[Fp1-F7,F7-T3]")
    chains = cfg.at("montage.chains")[:2]
    plan = plan_cwt(cfg.cwt, sfreq=200.0, n_context=30, n_window=40)
    module = WaveletPower(plan, output_bounds(chains, ["LL", "LP"]))
    rng = np.random.default_rng(0)
    signals = torch.from_numpy(rng.standard_normal((1, 6, 100))).requires_grad_()
    alive = torch.tensor([[True, True, True, False, True, True]])
    assert torch.autograd.gradcheck(lambda values: module(values, alive), signals, atol=1e-6)


def test_x_has_a_gradient_at_every_live_derivation_and_none_at_dead_ones(with_derivations: Run) -> None:
    derivations, alive, _ = batch(with_derivations)
    alive[0, 3] = False
    derivations.requires_grad_()
    Scalogram(with_derivations)(derivations, alive).square().sum().backward()
    gradient = derivations.grad
    assert torch.isfinite(gradient).all()
    assert not gradient[0, 3].any()
    assert gradient[0, [0, 1, 2, 4]].abs().amax(dim=1).min() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_around_it_changes_nothing(with_derivations: Run, dtype: torch.dtype) -> None:
    derivations, alive, _ = batch(with_derivations)
    module = Scalogram(with_derivations)
    with torch.autocast("cpu", dtype=dtype):
        inside = module(derivations, alive)
        assert torch.nn.functional.linear(inside, torch.eye(inside.shape[-1])).dtype == dtype
    assert torch.equal(inside, module(derivations, alive))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_it_gives_the_same_in_one_graph(with_derivations: Run) -> None:
    derivations, alive, _ = batch(with_derivations)
    module = Scalogram(with_derivations)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(derivations, alive), module(derivations, alive), atol=1e-6, rtol=0)


def test_it_is_copied_pickled_and_keeps_its_digits_in_a_network_of_half_precision(
    with_derivations: Run,
) -> None:
    derivations, alive, _ = batch(with_derivations)
    module = Scalogram(with_derivations)
    expected = module(derivations, alive)
    assert not module.state_dict()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), copy.deepcopy(module).half()):
        assert torch.equal(other(derivations, alive), expected)
    network = torch.nn.Sequential(module, torch.nn.Flatten(), torch.nn.Linear(4 * 48 * 250, 6)).bfloat16()
    assert network[2].weight.dtype == torch.bfloat16
    assert torch.equal(network[0](derivations, alive), expected)


def test_turns_are_the_four_of_two_sides_and_two_directions() -> None:
    x = torch.arange(24.0).reshape(1, 4, 2, 3)
    plain, back, swapped, both = turns(x, [2, 3, 0, 1])
    assert torch.equal(plain, x)
    assert torch.equal(back, x.flip(-1))
    assert torch.equal(swapped, x[:, [2, 3, 0, 1]])
    assert torch.equal(both, swapped.flip(-1))
    assert len(turns(x, [-1, -1, 0, 1])) == len(turns(x, None)) == 2


@pytest.mark.parametrize(
    "overrides", [(), ("cwt=superlet", "cwt.min_hz=1"), ("montage.chains.LL=[Fp1-F7,F7-T3]",)]
)
def test_nothing_stays_on_the_cpu_when_it_is_moved(overrides: tuple[str, ...]) -> None:
    """Torch's device without memory takes no array of another device: as an accelerator would."""
    cfg = hms.compose(*overrides)
    chains = cfg.at("montage.chains")
    plan = plan_cwt(cfg.cwt, sfreq=200.0, n_context=N_CONTEXT, n_window=N_WINDOW)
    module = WaveletPower(plan, output_bounds(chains, cfg.at("montage.outputs"))).to("meta")
    n = sum(len(pairs) for _, pairs in chains)
    signals = torch.empty(3, n, N_WINDOW + 2 * N_CONTEXT, device="meta")
    alive = torch.empty(3, n, dtype=torch.bool, device="meta")
    for power in (module(signals), module(signals, alive)):
        assert (power.device.type, tuple(power.shape)) == ("meta", (3, 4, 48, 75))
    from hms.training.torch import _log1p_percentile

    assert _log1p_percentile(power, cfg.scaling).shape == power.shape


# --- what it refuses -----------------------------------------------------------------------------


def test_derivations_of_another_montage_or_length_are_refused(with_derivations: Run) -> None:
    module = Scalogram(with_derivations)
    n = module.n_samples
    with pytest.raises(
        ValueError, match=rf"\(n_items, 16, {n}\), one row for each of Fp1-F7, F7-T3 ... .*got \(2, 18, "
    ):
        module(torch.zeros(2, 18, n))
    with pytest.raises(ValueError, match=r"got \(16, "):
        module(torch.zeros(16, n))
    with pytest.raises(
        ValueError, match=rf"have {n} samples: 2000 of the window and 2400 of context .* got 2000"
    ):
        module(torch.zeros(2, 16, 2000))
    with pytest.raises(ValueError, match=r"alive is bool of shape \(2, 16\).*got float32 of shape \(2, 4\)"):
        module(torch.zeros(2, 16, n), torch.ones(2, 4))


def test_what_half_precision_made_infinite_is_refused_unless_it_is_dead(with_derivations: Run) -> None:
    module = Scalogram(with_derivations)
    derivations = torch.full((2, 16, module.n_samples), 1e5).half()
    with pytest.raises(
        ValueError, match=r"have NaN or Inf \(items 0, 1 of the batch\); float16 ends at 65504 µV"
    ):
        module(derivations)
    alive = torch.zeros(2, 16, dtype=torch.bool)
    assert not module(derivations, alive).any()


@pytest.mark.slow
def test_a_run_that_torch_cannot_repeat_is_refused(small_set: Path, tmp_path: Path) -> None:
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path}", "n_jobs=1")
    tables = hms.run(hms.compose(*base, "stages=[labels,splits]"))
    with pytest.raises(ConfigError, match=r"made no scalograms.*run it again with scalograms in stages"):
        Scalogram(tables)
    other = hms.run(hms.compose(*base, "stages=[scalograms]", "cwt.backend=pywt", "cwt.n_freqs=2"))
    with pytest.raises(ConfigError, match=r"cwt.backend=pywt has no torch form; .* cwt.backend=fft"):
        Scalogram(other)


def test_a_scaling_of_ones_own_needs_a_form_in_torch(
    with_derivations: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hms.training import torch as module

    monkeypatch.setattr(module, "_scalings", {})
    with pytest.raises(ConfigError, match=r"scaling 'log1p_percentile' has no torch form.*register_scaling"):
        Scalogram(with_derivations)
    register_scaling("log1p_percentile")(lambda power, params: power * 0 + params.low_percent)
    assert Scalogram(with_derivations)(*batch(with_derivations)[:2]).unique().tolist() == [1.0]
