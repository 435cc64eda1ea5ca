"""The run's transform as a torch module: derivations in, x out, on the device that trains.

It follows the plan of `hms.signal.cwt`, block by block: the same bins, gains and lengths of
transforms. So x from float32 derivations is the run's x but for rounding, and what a network
is trained on here is what `hms.transform` gives it later. Needs the extra ``torch``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hms.competition import SFREQ_HZ
from hms.errors import ConfigError, needs_extra
from hms.registry import Params, did_you_mean
from hms.signal.cwt import FftPlan, plan_cwt
from hms.signal.montage import Chains, all_derivations
from hms.signal.scaling import RESOLUTION, SMALLEST, Log1pPercentile
from hms.signal.wavelets import Cwt
from hms.terminal import listed

with needs_extra("this needs PyTorch", "torch"):
    import torch
    from torch import Tensor, nn

if TYPE_CHECKING:
    from hms.store.package import Package
    from hms.training.dataset import SpecDataset

Scaling = Callable[[Tensor, Any], Tensor]
Bounds = tuple[tuple[int, int], ...]
"""First and last-but-one derivation of each output."""

FEW = 8
"""Percentiles this near the ends, as a part of all values, are found without sorting them all."""

_scalings: dict[str, Scaling] = {}


def register_scaling(kind: str) -> Callable[[Scaling], Scaling]:
    """Register the torch form of a kind of the group ``scaling``.

    The function maps power of shape (n_items, n_outputs, n_freqs, n_frames) and the settings to
    an array of that shape; items do not mix.
    """

    def add(function: Scaling) -> Scaling:
        _scalings[kind] = function
        return function

    return add


class Scalogram(nn.Module):
    """Turns derivations with their context into the x of a run.

    Raises `ConfigError` if the run made no scalograms, or with a backend or scaling that torch does not have.

    Parameters
    ----------
    run : a finished run with scalograms: its montage, wavelet and scaling are taken
    check : whether derivations that are not finite are refused, as the run refuses them. It waits for the
        device once a batch; within `torch.compile` it is left out, and NaN gives NaN.
    """

    def __init__(self, run: Package, *, check: bool = True) -> None:
        super().__init__()
        plan = _plan_of(run)
        self.check = check
        self.derivations = all_derivations(run.config.at("montage.chains"))
        self.wavelet = WaveletPower(plan, output_bounds(run.config.at("montage.chains"), run.outputs))
        self._params: Params = run.config.scaling
        self._scale = _scaling_of(self._params)

    @property
    def n_samples(self) -> int:
        """Samples of a derivation: the window with its context."""
        return self.wavelet.n_samples

    def forward(self, derivations: Tensor, alive: Tensor | None = None) -> Tensor:
        """Return x, differentiable by the derivations.

        float32 (float64 where that is given), shape (n_items, n_outputs, n_freqs, n_frames). Also inside
        autocast: half precision has neither the range nor the digits of power. Raises `ValueError` if the
        derivations have another shape than the run's, or are not finite.

        Parameters
        ----------
        derivations : shape (n_items, n_derivations, n_samples), µV
            In the order of the montage, with the run's context on either side. float16 and
            bfloat16 are taken to float32 first; float64 is transformed in float64.
        alive : bool, shape (n_items, n_derivations), optional
            Derivations that are not alive leave the mean of their chain. None: all are.
        """
        self._check_shape(derivations, alive)
        with torch.autocast(derivations.device.type, enabled=False):
            values = derivations if derivations.dtype == torch.float64 else derivations.float()
            if self.check and not torch.compiler.is_compiling():
                _refuse_not_finite(values, alive)
            return self._scale(self.wavelet(values, alive), self._params)

    def _check_shape(self, derivations: Tensor, alive: Tensor | None) -> None:
        n, names = len(self.derivations), self.derivations
        if derivations.ndim != 3 or derivations.shape[1] != n:
            raise ValueError(
                f"derivations have the shape (n_items, {n}, {self.n_samples}), one row for each of "
                f"{names[0]}, {names[1 % n]} ... {names[-1]}; got {tuple(derivations.shape)}. For another "
                "montage, use the module of its own run"
            )
        if derivations.shape[2] != self.n_samples:
            raise ValueError(
                f"derivations have {self.n_samples} samples: {self.wavelet.n_window} of the window and "
                f"{self.wavelet.n_context} of context on each side; got {derivations.shape[2]}. "
                "package.derivations=true makes derivations of this length"
            )
        if alive is not None and (alive.shape != derivations.shape[:2] or alive.dtype != torch.bool):
            raise ValueError(
                f"alive is bool of shape {tuple(derivations.shape[:2])}, an entry for each derivation; "
                f"got {str(alive.dtype).removeprefix('torch.')} of shape {tuple(alive.shape)}"
            )

    def extra_repr(self) -> str:
        """Return what `print` shows of the module."""
        return f"{len(self.derivations)} derivations of {self.n_samples} samples, scaling {self._params.kind}"


def _plan_of(run: Package) -> FftPlan:
    """Return the plan by which a run made its scalograms."""
    made = run.manifest["stages"].get("scalograms")
    if made is None:
        raise ConfigError(
            f"run {run.hash} made no scalograms, so there is no transform to repeat; run it again with "
            "scalograms in stages"
        )
    settings, cwt = made["settings"], run.config.cwt
    assert isinstance(cwt, Cwt)
    plan = plan_cwt(
        cwt,
        sfreq=SFREQ_HZ,
        n_context=round(settings["derived.context_s"] * SFREQ_HZ),
        n_window=round(settings["window.length_s"] * SFREQ_HZ),
        keeps_mean=settings.get("derived.keeps_mean", False),
    )
    if not isinstance(plan, FftPlan):
        raise ConfigError(
            f"cwt.backend={cwt.backend} has no torch form; prepare the run with cwt.backend=fft"
        )
    return plan


def _scaling_of(params: Params) -> Scaling:
    if params.kind not in _scalings:
        raise ConfigError(
            f"scaling '{params.kind}' has no torch form; give it one with "
            f"hms.training.torch.register_scaling('{params.kind}')"
        )
    return _scalings[params.kind]


def output_bounds(chains: Chains, outputs: Sequence[str]) -> Bounds:
    """Return which derivations each output averages: consecutive ones, as chains hold them."""
    sizes = [1] * len(outputs) if len(outputs) != len(chains) else [len(pairs) for _, pairs in chains]
    ends = np.cumsum(sizes).tolist()
    return tuple((end - size, end) for end, size in zip(ends, sizes, strict=True))


def _refuse_not_finite(values: Tensor, alive: Tensor | None) -> None:
    # A sum is finite where all its parts are, and takes a third of the time of looking at each.
    known = torch.isfinite(values.sum(dim=-1))
    finite = (known if alive is None else known | ~alive).all(dim=1)
    if not bool(finite.all()):
        bad = torch.nonzero(~finite).flatten().tolist()
        raise ValueError(
            f"derivations have NaN or Inf (items {listed(map(str, bad))} of the batch); float16 "
            "ends at 65504 µV: give float32, or take the derivation out with alive"
        )


# --- power ---------------------------------------------------------------------------------------


class WaveletPower(nn.Module):
    """Wavelet power of derivations, averaged over those of each output.

    Parameters
    ----------
    plan : see `hms.signal.cwt.plan_cwt`
    bounds : for each output, its first derivation and the one after its last
    """

    def __init__(self, plan: FftPlan, bounds: Bounds) -> None:
        super().__init__()
        self.n_context, self.n_window = plan.n_context, plan.n_window
        self.n_frames, self.n_freqs = plan.n_frames, plan.params.n_freqs
        self.is_product = plan.is_product
        self.average = _Average(bounds)
        self._segments = plan.segments
        self.blocks = nn.ModuleList(_BlockPower(block, plan.n_frames) for block in plan.blocks)
        rows = np.concatenate([block.rows for block in plan.blocks])
        self.register_buffer("_order", torch.from_numpy(np.argsort(rows)), persistent=False)

    @property
    def n_samples(self) -> int:
        """Samples of the window with its context."""
        return self.n_window + 2 * self.n_context

    def forward(self, derivations: Tensor, alive: Tensor | None = None) -> Tensor:
        """Return power, shape (n_items, n_outputs, n_freqs, n_frames), µV²; see `CwtPlan.power`."""
        # What is not alive is silent, so that sums over an output need only be divided by fewer.
        values = derivations if alive is None else torch.where(alive[..., None], derivations, 0)
        means = values.mean(dim=-1, keepdim=True)
        spectra = [_spectrum(values - means, means, segment) for segment in self._segments]
        if self.is_product:
            found = self.average.sums(self._product(spectra))
        else:
            found = torch.cat(
                [block(spectra[block.segment], self.average.sums) for block in self.blocks], dim=2
            )
            found = found[:, :, self._order]
        return found / self.average.counts(found, alive)

    def _product(self, spectra: Sequence[Tensor]) -> Tensor:
        """Return the weighted geometric mean of the components' powers, per derivation."""
        n_items, n_derivations = spectra[0].shape[:2]
        logarithm = spectra[0].new_zeros(n_items, n_derivations, self.n_freqs, self.n_frames)
        for block in self.blocks:
            power = block(spectra[block.segment], lambda values: values)
            terms = block.exponents * torch.log(power.clamp_min(SMALLEST))
            logarithm = logarithm.index_add(2, block.rows, terms)
        return torch.exp(logarithm)


def _spectrum(centred: Tensor, means: Tensor, segment: Any) -> Tensor:
    """Return the bins of a piece as pairs (re, im): shape (n_items, n_derivations, 2 * n_bins)."""
    piece, n_negative = centred[..., segment.source], segment.n_negative
    padded = nn.functional.pad(piece, (segment.start, segment.n_fft - segment.start - piece.shape[-1]))
    bins = torch.fft.rfft(padded)
    if segment.keeps_mean:
        bins = torch.cat([bins[..., :1] + segment.n_fft * means, bins[..., 1:]], dim=-1)
    if n_negative:
        bins = torch.cat([bins[..., 1 : n_negative + 1].flip(-1).conj(), bins], dim=-1)
    return torch.view_as_real(bins.resolve_conj()).flatten(-2)


def _exact(values: Tensor) -> torch.dtype:
    """Return float64, where the device has it."""
    return torch.float32 if values.device.type == "mps" else torch.float64


class _BlockPower(nn.Module):
    """Components that share a segment and the length of the inverse transform."""

    def __init__(self, block: Any, n_frames: int) -> None:
        super().__init__()
        self.segment, self.is_real = block.segment, block.is_real
        self.n_inverse, self.n_harmonics, self.n_hops = block.n_inverse, block.n_harmonics, block.n_hops
        self.window = slice(block.first, block.first + n_frames)
        self._pieces = [(piece.source, piece.target) for piece in block.pieces]
        for number, piece in enumerate(block.pieces):
            self.register_buffer(f"_gains{number}", torch.from_numpy(piece.gains.copy()), persistent=False)
        self.register_buffer("rows", torch.from_numpy(block.rows.astype(np.int64)), persistent=False)
        self.register_buffer("exponents", torch.from_numpy(block.exponents.copy()), persistent=False)

    def forward(self, spectra: Tensor, sums: Callable[[Tensor], Tensor]) -> Tensor:
        """Return power at the window's frames, summed over derivations before it is interpolated."""
        values = torch.fft.ifft(self._buffer(spectra))
        if not self.n_harmonics:
            return self._squares(values[..., self.window], sums)
        coarse = self._squares(values, sums)
        # As in `hms.signal.cwt`: what is rounded by an artifact in the context is not the window.
        harmonics = torch.fft.rfft(coarse.to(_exact(coarse)), norm="forward")[..., : self.n_harmonics]
        power = torch.fft.irfft(harmonics, n=self.n_hops, norm="forward")
        return power[..., self.window].clamp_min(0).to(coarse.dtype)

    def _buffer(self, spectra: Tensor) -> Tensor:
        """Return the bins times the gains, moved to the start and folded where they reach beyond the end."""
        buffer = spectra.new_zeros(*spectra.shape[:2], len(self.rows), 2 * self.n_inverse)
        for number, (source, target) in enumerate(self._pieces):
            gains = getattr(self, f"_gains{number}").to(spectra.dtype)
            buffer[..., target] += spectra[:, :, None, source] * gains
        return torch.view_as_complex(buffer.unflatten(-1, (self.n_inverse, 2)))

    def _squares(self, values: Tensor, sums: Callable[[Tensor], Tensor]) -> Tensor:
        pairs = sums(torch.view_as_real(values).square())
        return pairs[..., 0] if self.is_real else pairs.sum(dim=-1)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move the gains with the module, and keep their digits: `half()` is for what is learned."""
        kept = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            moved = self._buffers[name]
            assert moved is not None
            if moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self


class _Average:
    """Means over the derivations of each output.

    Sums of slices and no matrix product: those may be rounded to half the digits on a device.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        sizes = {stop - first for first, stop in bounds}
        self.size = sizes.pop() if len(sizes) == 1 else 0

    def sums(self, values: Tensor) -> Tensor:
        """Return sums over the derivations (second dimension) of each output."""
        if self.size == 1:
            return values
        if self.size:
            return values.unflatten(1, (len(self.bounds), self.size)).sum(dim=2)
        return torch.stack([values[:, first:stop].sum(dim=1) for first, stop in self.bounds], dim=1)

    def counts(self, power: Tensor, alive: Tensor | None) -> Tensor | int:
        """Return how many derivations each output is a sum of, 1 where none is alive."""
        if alive is not None:
            return self.sums(alive.to(power.dtype)[:, :, None, None]).clamp_min(1)
        return self.size or power.new_tensor([stop - first for first, stop in self.bounds])[:, None, None]


# --- scaling -------------------------------------------------------------------------------------


@register_scaling("none")
def _none(power: Tensor, params: Params) -> Tensor:
    return power


@register_scaling("log1p_percentile")
def _log1p_percentile(power: Tensor, params: Log1pPercentile) -> Tensor:
    """Return `hms.signal.scaling.log1p_percentile` of each item."""
    values = power.flatten(1)
    low, high = _log1p_percentiles(values, params.low_percent, params.high_percent)
    span = high - low
    is_flat = span <= (high * RESOLUTION).clamp_min(SMALLEST)
    scaled = (torch.log1p(values) - low.to(values.dtype)) * (1 / span.masked_fill(is_flat, 1)).to(
        values.dtype
    )
    return torch.where(is_flat, 0, scaled.clamp(0, 1)).view_as(power)


def _log1p_percentiles(values: Tensor, *percents: float) -> list[Tensor]:
    """Return percentiles of log1p of each row, shape (n_rows, 1), between order statistics."""
    n = values.shape[1]
    positions = [percent / 100 * (n - 1) for percent in percents]
    below = [int(position) for position in positions]
    above = [min(place + 1, n - 1) for place in below]
    # Four values an item: where the device has float64, their logarithms are exact in float32.
    exact = _exact(values)
    found = [torch.log1p(pair.to(exact)) for pair in _order_statistics(values, below, above)]
    return [
        first + (position - place) * (second - first)
        for (first, second), position, place in zip(
            (pair.split(1, dim=1) for pair in found), positions, below, strict=True
        )
    ]


def _order_statistics(values: Tensor, below: Sequence[int], above: Sequence[int]) -> list[Tensor]:
    """Return the order statistics at (below, above) of the low and of the high percentile."""
    n = values.shape[1]
    n_low, n_high = above[0] + 1, n - below[1]
    if (n_low + n_high) * FEW <= n:
        low = values.topk(n_low, dim=1, largest=False).values
        high = values.topk(n_high, dim=1).values
        return [low[:, [below[0], above[0]]], high[:, [n - 1 - below[1], n - 1 - above[1]]]]
    ordered = values.sort(dim=1).values
    return [ordered[:, [below[0], above[0]]], ordered[:, [below[1], above[1]]]]


# --- a view of a dataset -------------------------------------------------------------------------


class TorchDataset(torch.utils.data.Dataset):
    """A dataset of a run as torch's own kind, with tensors in the place of arrays.

    Parameters
    ----------
    dataset : SpecDataset
    fields : names of entries of a sample, optional
        An item is a tuple of these, such as ``("x", "y")`` for libraries that take pairs; without
        them it is a dictionary. ``target``, the number of the class with the largest share, may be
        named too.

    Raises
    ------
    ConfigError
        If a sample has no such entry.

    Examples
    --------
    >>> dataset = TorchDataset(run.dataset("train", fold=0), fields=("x", "y", "weight"))
    >>> x, y, weight = next(iter(torch.utils.data.DataLoader(dataset, batch_size=2)))
    >>> x.shape
    torch.Size([2, 4, 48, 250])
    """

    def __init__(self, dataset: SpecDataset, fields: Sequence[str] | None = None) -> None:
        self.dataset = dataset
        self.fields = None if fields is None else tuple(fields)
        if self.fields is not None:
            known = [*dataset[0], "target"]
            for name in self.fields:
                if name not in known:
                    near = did_you_mean(name, known)
                    raise ConfigError(f"fields: a sample has no '{name}'{near}; it has {', '.join(known)}")

    def __repr__(self) -> str:
        fields = "" if self.fields is None else f", as {', '.join(self.fields)}"
        return f"<TorchDataset of {self.dataset!r}{fields}>"

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        sample = {name: _as_tensor(value) for name, value in self.dataset[index].items()}
        if self.fields is None:
            return sample
        return tuple(sample["y"].argmax() if name == "target" else sample[name] for name in self.fields)

    def set_epoch(self, epoch: int) -> None:
        """Draw again; see `SpecDataset.set_epoch`.

        Examples
        --------
        >>> dataset = TorchDataset(run.dataset("train", fold=0, augment="light"))
        >>> dataset.set_epoch(1)
        """
        self.dataset.set_epoch(epoch)


def _as_tensor(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else torch.tensor(value)


# --- turns ---------------------------------------------------------------------------------------


def turns(x: Tensor, mirror: Sequence[int] | None) -> list[Tensor]:
    """Return x as it is, played backwards, mirrored and both: no class names a side or a direction.

    Parameters
    ----------
    x : shape (n_items, n_outputs, ..., n_frames)
    mirror : for each output the number of its mirror image (`SpecDataset.mirror`); None, or a -1
        in it, leaves the mirrored ones out
    """
    found = [x, x.flip(-1)]
    if mirror is None or min(mirror) < 0:
        return found
    return found + [turned[:, list(mirror)] for turned in found]
