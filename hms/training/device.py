"""Changes in µV on the training device: those of `hms.training.augment`, to a batch of derivations at once.

What is drawn comes from a generator of NumPy, on the CPU: the same one makes the same changes on every
device. Needs the extra ``torch``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.errors import ConfigError, needs_extra
from hms.registry import Params
from hms.training.augment import Augmentation, BandStop, Change, Masks, Mixup, Noise, Scale, TimeShift
from hms.training.dataset import context_samples, find_augmentation
from hms.training.mirror import mirrored_outputs

with needs_extra("this needs PyTorch", "torch"):
    import torch
    from torch import Tensor, nn

if TYPE_CHECKING:
    from hms.store.package import Package

Batch = dict[str, Tensor]
Rng = np.random.Generator
Form = Callable[[Batch, Rng, Any, "Changes"], Batch]

_forms: dict[str, Form] = {}


def register_change(kind: str) -> Callable[[Form], Form]:
    """Register how a change of the group ``augmentation`` is made to a whole batch.

    The function is given ``x`` (n_items, n_derivations, n_samples), ``alive``, ``y`` and ``weight``, a
    generator, the settings and the module; it returns what it changed.
    """

    def add(function: Form) -> Form:
        _forms[kind] = function
        return function

    return add


class Changes(nn.Module):
    """An option of ``augment`` for batches of derivations, before `hms.training.torch.Scalogram`.

    Raises `ConfigError` if the run has no derivations, or a change has no form for a batch.

    Parameters
    ----------
    run : a finished run with ``package.derivations=true``
    augment : Params or name of an option of the config group ``augment``
    """

    def __init__(self, run: Package, augment: Params | str = "derivations") -> None:
        super().__init__()
        params = find_augmentation(augment)
        listed = params.changes if isinstance(params, Augmentation) else ()
        self.changes = [change for _, change in listed]
        for change in self.changes:
            if change.kind not in _forms:
                raise ConfigError(
                    f"augmentation '{change.kind}' has no batch form; register one with "
                    f"hms.training.device.register_change('{change.kind}'), or let the dataset apply it"
                )
        self.n_context, _ = context_samples(run)
        mirror = mirrored_outputs(run.config.at("montage.chains"), "derivations")
        self.register_buffer("mirror", torch.from_numpy(mirror), persistent=False)

    def forward(self, batch: Mapping[str, Any], rng: Rng) -> dict[str, Any]:
        """Return a batch with each change made to its share of the items; it carries no gradient.

        Parameters
        ----------
        batch : of a dataset with ``signal="derivations"``: ``x``, ``alive``, ``y``, ``weight`` on one
            device; what else it has is handed on
        rng : what is drawn comes from here, such as ``np.random.default_rng([seed, epoch])``
        """
        known = {name: batch[name].detach() for name in ("x", "alive", "y", "weight")}
        known["x"] = known["x"].float()
        for change in self.changes:
            assert isinstance(change, Change), f"settings of augmentation '{change.kind}' must extend Change"
            made = _sent(rng.random(len(known["x"])) < change.probability, known["x"])
            changed = _forms[change.kind](known, rng, change, self)
            for name, new in changed.items():
                known[name] = torch.where(_beside(made, new), new, known[name])
        return {**batch, **known}


def _sent(values: NDArray[Any], like: Tensor) -> Tensor:
    """Return drawn values on the device of a tensor, numbers as float32."""
    return torch.from_numpy(values.astype(np.float32) if values.dtype == np.float64 else values).to(
        like.device
    )


def _beside(values: Tensor, other: Tensor) -> Tensor:
    """Return one value per item in a shape that broadcasts with another tensor."""
    return values.view(-1, *[1] * (other.ndim - 1))


@register_change("mixup")
def _mixup(batch: Batch, rng: Rng, params: Mixup, module: Changes) -> Batch:
    """Mix with another item of the batch, see `hms.training.augment.mixup`."""
    n_items = len(batch["x"])
    share = _sent(rng.beta(params.alpha, params.alpha, n_items), batch["x"])
    partner = _sent(rng.integers(n_items, size=n_items), batch["x"])
    first, second = share * batch["weight"], (1 - share) * batch["weight"][partner]
    weight = first + second
    by_weight = torch.where(weight > 0, first / weight.where(weight > 0, torch.ones_like(weight)), share)[
        :, None
    ]
    return {
        "x": torch.lerp(batch["x"][partner], batch["x"], share[:, None, None]),
        "y": by_weight * batch["y"] + (1 - by_weight) * batch["y"][partner],
        "weight": weight.to(batch["weight"].dtype),
        "alive": batch["alive"] | batch["alive"][partner],
    }


@register_change("time_shift")
def _time_shift(batch: Batch, rng: Rng, params: TimeShift, module: Changes) -> Batch:
    """Move along the recording, zeros where the context ends."""
    x = batch["x"]
    n_window = x.shape[-1] - 2 * module.n_context
    share = rng.uniform(-params.max_share, params.max_share, len(x))
    places = (
        torch.arange(x.shape[-1], device=x.device)
        - _sent(np.rint(share * n_window).astype(np.int64), x)[:, None]
    )
    is_there = (places >= 0) & (places < x.shape[-1])
    moved = x.gather(-1, places.clamp(0, x.shape[-1] - 1)[:, None].expand_as(x))
    return {"x": moved.where(is_there[:, None], torch.zeros_like(moved))}


@register_change("time_reversal")
def _time_reversal(batch: Batch, rng: Rng, params: Change, module: Changes) -> Batch:
    return {"x": batch["x"].flip(-1)}


@register_change("left_right_swap")
def _left_right_swap(batch: Batch, rng: Rng, params: Change, module: Changes) -> Batch:
    if bool((module.mirror < 0).any()):
        raise ValueError(
            "augment: left_right_swap needs a mirror image of every derivation, and some derivations of the "
            "montage have none; set its probability to 0 or choose a montage with both sides"
        )
    return {name: batch[name][:, module.mirror] for name in ("x", "alive")}


@register_change("chain_drop")
def _chain_drop(batch: Batch, rng: Rng, params: Change, module: Changes) -> Batch:
    n_items, n_derivations = batch["alive"].shape
    dropped = _sent((rng.random(n_items) * n_derivations).astype(np.int64), batch["x"])
    kept = torch.arange(n_derivations, device=dropped.device) != dropped[:, None]
    return {"x": batch["x"] * kept[..., None], "alive": batch["alive"] & kept}


@register_change("amplitude_scale")
def _amplitude_scale(batch: Batch, rng: Rng, params: Scale, module: Changes) -> Batch:
    factor = _sent(params.max_factor ** rng.uniform(-1, 1, len(batch["x"])), batch["x"])
    return {"x": batch["x"] * factor[:, None, None]}


@register_change("gaussian_noise")
def _gaussian_noise(batch: Batch, rng: Rng, params: Noise, module: Changes) -> Batch:
    x = batch["x"]
    share = _sent(rng.random(len(x)) * params.max_share, x)
    seeded = torch.Generator(x.device).manual_seed(int(rng.integers(2**62)))
    white = torch.randn(x.shape, generator=seeded, device=x.device)
    return {"x": x + white * (share * x.std(dim=(1, 2), correction=0))[:, None, None]}


@register_change("time_mask")
def _time_mask(batch: Batch, rng: Rng, params: Masks, module: Changes) -> Batch:
    """Set stretches of the window to 0."""
    x = batch["x"]
    n_window = x.shape[-1] - 2 * module.n_context
    length = rng.random((len(x), params.count)) * params.max_share
    start = rng.random((len(x), params.count)) * (1 - length)
    first, stop = (
        _sent(np.rint(edge * n_window).astype(np.int64), x)[..., None] for edge in (start, start + length)
    )
    place = torch.arange(x.shape[-1], device=x.device) - module.n_context
    return {"x": x * ~((place >= first) & (place < stop)).any(dim=1)[:, None]}


@register_change("frequency_mask")
def _frequency_mask(batch: Batch, rng: Rng, params: Masks, module: Changes) -> Batch:
    """Change nothing: a signal in µV has no rows of frequencies."""
    return {}


@register_change("band_stop")
def _band_stop(batch: Batch, rng: Rng, params: BandStop, module: Changes) -> Batch:
    """Take a band of frequencies out by Fourier transform."""
    x = batch["x"]
    low = params.min_hz * (params.max_hz / params.min_hz) ** rng.random(len(x))
    high = low * params.max_ratio ** rng.random(len(x))
    freqs = np.fft.rfftfreq(x.shape[-1], 1 / SFREQ_HZ)
    kept = ~((freqs >= low[:, None]) & (freqs <= high[:, None]))
    return {"x": torch.fft.irfft(torch.fft.rfft(x) * _sent(kept, x)[:, None], n=x.shape[-1])}
