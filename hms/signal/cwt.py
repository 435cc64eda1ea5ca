"""Continuous wavelet transform: power at the frames of a window, averaged over pairs.

The transform is a product in the frequency domain, and only its power at every ``hop``-th
sample is wanted. The plan, made once per worker, spends no more on it than that:

1. Fast frequencies look at a short piece around the window, slow ones at a long piece; a
   piece has one real FFT per pair. Where to part them follows from a count of operations.
2. The wavelets of an octave take the bins where a response is not negligible (above 1e-7 of its
   peak), times the responses. Moving them to the start of a buffer shifts the transform in
   frequency, which leaves its magnitude as it is.
3. One batched inverse FFT per octave. Folding a spectrum of N bins to N / hop leaves every
   hop-th sample exact, whatever the band. Where the band is so narrow that an even shorter
   transform holds all of the power's bandwidth, that one is taken, and the power is
   interpolated to the frames by FFT, which is exact for a band-limited signal.
4. Power is averaged over the pairs of a row before that last step.

All results are float32. What a window has too little context for is zeros, never its other end.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.signal.levels import channel_means, small_buffer
from hms.signal.wavelets import Cwt, components, frequencies, reaches_s

NEGLIGIBLE = 1e-7
"""Share of a response's peak below which a bin is left out."""

WORTH_INTERPOLATING = 0.75
"""A shorter inverse FFT pays for the interpolation after it when it is this much shorter."""

QUIET_BESIDE = 16
"""A window is quiet next to its context where that has more than so many times its power.

Up to there float32 rounds the window by no more than 3e-6 of its maximum (docs/decisions/transform.md).
"""

Array = NDArray[np.float32]
Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class CwtPlan(ABC):
    """A transform for windows of one length; immutable, made by `plan_cwt`."""

    params: Cwt
    sfreq: float
    n_context: int
    n_window: int

    @property
    def n_frames(self) -> int:
        """Frames of the output; frame k is at sample ``k * hop`` of the window."""
        return -(-self.n_window // self.params.hop)

    def power(self, derivations: Array | Sequence[Array], groups: Groups, *, is_cut: bool = False) -> Array:
        """Return the wavelet power of a window, averaged over the derivations of each group.

        Raises `ValueError` if the number of samples is not the plan's.

        Parameters
        ----------
        derivations : float32, shape (n_derivations, n_context + n_window + n_context), µV
            A NaN makes the groups it takes part in NaN. The mean of each derivation is taken off before zeros
            are put beyond its ends, and put back where the plan keeps means. With float64 the transforms are
            in double precision. Of several arrays, each row counts as if they stood below each other.
        groups : tuple of tuples of int
            Derivations averaged in each row of the output. An empty group gives zeros.
        is_cut : whether windows are cut from the result; any of them may be quiet beside the rest

        Returns
        -------
        float32, shape (n_groups, n_freqs, n_frames), µV²
            At least 0. With ``norm=amplitude`` a sine of amplitude A has the power A²/4 at
            its own frequency, whichever that is (a real transform: A² at its crests). With
            ``norm=energy``, PyWavelets' convention, power grows with the scale.
        """
        expected = self.n_window + 2 * self.n_context
        parts = [derivations] if isinstance(derivations, np.ndarray) else list(derivations)
        for part in parts:
            if part.ndim != 2 or part.shape[1] != expected:
                raise ValueError(f"derivations must have {expected} samples each; got shape {part.shape}")
        rows = [row for group in groups for row in group]
        sizes = [len(group) for group in groups if group]
        if not rows:
            return np.zeros((len(groups), self.params.n_freqs, self.n_frames), np.float32)
        if rows != list(range(sum(map(len, parts)))):
            parts = [np.concatenate(parts)[rows]]
        with small_buffer():
            total = self._total_power(parts, sizes, is_cut)
        total /= np.array(sizes, np.float32)[:, np.newaxis, np.newaxis]
        if len(sizes) == len(groups):
            return total
        power = np.zeros((len(groups), *total.shape[1:]), np.float32)
        power[[bool(group) for group in groups]] = total
        return power

    @abstractmethod
    def _total_power(self, parts: Sequence[Array], sizes: Sequence[int], is_cut: bool) -> Array:
        """Return the sum of power of consecutive rows, the members of groups of the given sizes."""


@lru_cache(maxsize=32)
def plan_cwt(
    params: Cwt, *, sfreq: float, n_context: int, n_window: int, keeps_mean: bool = False
) -> CwtPlan:
    """Return the plan for windows of ``n_window`` samples with ``n_context`` on each side.

    Cached: the same settings return the same plan. Raises `ValueError` if the window is empty or a wavelet's
    function returns no valid response.

    Parameters
    ----------
    params : settings of a kind of the group ``cwt``; ``params.backend`` chooses the plan
    sfreq : sampling rate in Hz
    n_context, n_window : samples; the window has at least 1
    keeps_mean : whether a response that reaches 0 Hz (`Cwt.is_two_sided`) sees the mean of what it is given:
        after a filter that removes offsets, that is EEG
    """
    if n_window < 1 or n_context < 0:
        raise ValueError(f"window must have samples and context none or more; got {n_window} and {n_context}")
    if params.backend == "pywt":
        return PywtPlan(params, sfreq, n_context, n_window)
    segments, blocks = _design(params, sfreq=sfreq, n_context=n_context, n_window=n_window)
    segments = tuple(replace(segment, keeps_mean=keeps_mean and params.is_two_sided) for segment in segments)
    return FftPlan(params, sfreq, n_context, n_window, segments, blocks)


def _group_sums(power: Array, sizes: Sequence[int]) -> Array:
    """Return sums over consecutive rows: (sum of sizes, ...) to (n_groups, ...)."""
    if len(sizes) == len(power):
        return power
    if len(set(sizes)) == 1:
        together: Array = power.reshape(len(sizes), sizes[0], *power.shape[1:])
        return np.asarray(together.sum(axis=1))
    sums = np.empty((len(sizes), *power.shape[1:]), power.dtype)
    first = 0
    for size, out in zip(sizes, sums, strict=True):
        np.add.reduce(power[first : first + size], axis=0, out=out)
        first += size
    return sums


# --- what is transformed -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Segment:
    """A piece of the input and the length of its FFT.

    Attributes
    ----------
    source : samples of the input that are transformed
    start : where they are in the transform; the window starts at ``first * hop``
    n_fft : length of the transform, a multiple of the hop
    first : frame of the transform (at every hop) that is the window's first
    n_negative : bins of negative frequencies that stand before that of 0 Hz
    keeps_mean : whether the mean that is taken off is put back as the bin of 0 Hz
    """

    source: slice
    start: int
    n_fft: int
    first: int
    n_negative: int = 0
    keeps_mean: bool = False

    def spectra(self, parts: Sequence[Array], offsets: Sequence[Array]) -> Array:
        """Return the bins of all derivations as pairs (re, im) of their type: (n, 2 * n_bins)."""
        from scipy.fft import rfft

        padded = np.empty((sum(map(len, parts)), self.n_fft), parts[0].dtype)
        inside = slice(self.start, self.start + self.source.stop - self.source.start)
        padded[:, : inside.start] = 0
        padded[:, inside.stop :] = 0
        first = 0
        for part, offset in zip(parts, offsets, strict=True):
            np.subtract(part[:, self.source], offset, out=padded[first : first + len(part), inside])
            first += len(part)
        bins = rfft(padded, overwrite_x=True, workers=1)
        if self.keeps_mean:
            bins[:, 0] += self.n_fft * np.concatenate(offsets)[:, 0]
        if self.n_negative:
            bins = np.concatenate([bins[:, self.n_negative : 0 : -1].conj(), bins], axis=1)
        spectra: Array = bins.view(padded.dtype)
        return spectra


def _segment(reach: int, *, hop: int, n_context: int, n_window: int) -> _Segment:
    """Return the piece that leaves samples within ``reach`` of the window untouched by the FFT's wrap."""
    from scipy.fft import next_fast_len

    first = math.ceil(min(reach, n_context) / hop)
    # Real lengths (factors 2, 3, 5) are the faster ones for complex transforms too.
    n_fft = hop * int(next_fast_len(math.ceil((first * hop + n_window + reach) / hop), real=True))
    before = min(first * hop, n_context)
    after = min(n_context, max(n_fft - first * hop - n_window, 0))
    # What is after the window must not be within reach of its start around the circle.
    after = min(after, n_fft - n_window - reach)
    source = slice(n_context - before, n_context + n_window + after)
    return _Segment(source, first * hop - before, n_fft, first)


@dataclass(frozen=True, eq=False)
class _Piece:
    """A run of bins: where it is read, where it goes, what each component multiplies it by.

    Slices are of float32 pairs (re, im); ``gains`` has the shape (n_components, length of the slices).
    """

    source: slice
    target: slice
    gains: Array


@dataclass(frozen=True, eq=False)
class _Block:
    """Components that share a segment and the length of the inverse FFT.

    Attributes
    ----------
    segment : which segment
    rows : frequency of each component, as rows of the output
    exponents : float32, shape (n_components, 1)
    pieces : the bins of all components; those after the first overlap it and are added
    n_inverse : length of the inverse FFT
    n_harmonics : bins of the power's spectrum when it is interpolated, 0 when it is not
    n_hops : frames of the whole segment at the hop
    first : the window's first frame
    is_real : whether the power is that of the real part
    """

    segment: int
    rows: NDArray[np.intp]
    exponents: Array
    pieces: tuple[_Piece, ...]
    n_inverse: int
    n_harmonics: int
    n_hops: int
    first: int
    is_real: bool

    def power(self, spectra: Array, sizes: Sequence[int], n_frames: int, *, is_cut: bool) -> Array:
        """Return the power at the window's frames, summed over groups of rows.

        Parameters
        ----------
        spectra : float32, shape (n, 2 * n_bins); the segment's bins
        sizes : sizes of the groups of consecutive rows, n in all
        is_cut : whether windows are cut from the frames

        Returns
        -------
        float32, shape (n_groups, n_components, n_frames)
        """
        values = self._transform(spectra)
        window = slice(self.first, self.first + n_frames)
        if self.n_harmonics:
            power = self._magnitude(_group_sums(np.square(values, out=values), sizes))
            return self._interpolated(power, window, is_cut=is_cut)
        values = values[..., 2 * window.start : 2 * window.stop]
        return self._magnitude(_group_sums(np.square(values), sizes))

    def _transform(self, spectra: Array) -> Array:
        """Return the wavelet transform as pairs (re, im): (n, n_components, 2 * n_inverse)."""
        from scipy.fft import ifft

        buffer = np.empty((len(spectra), len(self.rows), 2 * self.n_inverse), spectra.dtype)
        first, *others = self.pieces
        buffer[..., : first.target.start] = 0
        np.multiply(spectra[:, np.newaxis, first.source], first.gains, out=buffer[..., first.target])
        buffer[..., first.target.stop :] = 0
        for piece in others:
            buffer[..., piece.target] += spectra[:, np.newaxis, piece.source] * piece.gains
        pairs = buffer.view(np.result_type(spectra.dtype, np.complex64))
        values: Array = ifft(pairs, overwrite_x=True, workers=1).view(spectra.dtype)
        return values

    def _interpolated(self, power: Array, window: slice, *, is_cut: bool) -> Array:
        """Return the power at the window's frames, from fewer samples of the segment that hold its bandwidth.

        An artifact in the context has a thousand times the power of a quiet window, and float32 would
        round the whole segment by what the artifact is rounded by: such rows are taken to float64.
        So are all rows of a stretch from which windows are cut.
        """
        if is_cut:
            return np.asarray(self._at_the_hop(power.astype(np.float64))[..., window])
        found = self._at_the_hop(power)[..., window]
        per_frame = self.n_inverse / self.n_hops
        inside = power[..., math.floor(window.start * per_frame) : math.ceil(window.stop * per_frame) + 1]
        is_beside = power.max(axis=-1) > QUIET_BESIDE * inside.max(axis=-1)
        if is_beside.any():
            found[is_beside] = self._at_the_hop(power[is_beside].astype(np.float64))[..., window]
        return found

    def _at_the_hop(self, power: NDArray[Any]) -> NDArray[Any]:
        from scipy.fft import irfft, rfft

        harmonics = rfft(power, norm="forward", workers=1)[..., : self.n_harmonics]
        exact = irfft(harmonics, n=self.n_hops, norm="forward", workers=1)
        # Interpolation is exact but for rounding, which must not leave a negative power.
        return np.maximum(exact, 0, out=exact)

    def _magnitude(self, squares: Array) -> Array:
        return squares[..., 0::2] if self.is_real else squares[..., 0::2] + squares[..., 1::2]


@dataclass(frozen=True, eq=False)
class FftPlan(CwtPlan):
    """The transform by FFT."""

    segments: tuple[_Segment, ...]
    blocks: tuple[_Block, ...]

    @property
    def is_product(self) -> bool:
        """Whether any frequency's power is a product of several components."""
        return sum(len(block.rows) for block in self.blocks) > self.params.n_freqs

    @property
    def n_fft_points(self) -> int:
        """Points of all transforms per derivation: what the plan costs, counted rather than timed."""
        forward = sum(segment.n_fft for segment in self.segments)
        return forward + sum(len(block.rows) * block.n_inverse for block in self.blocks)

    def _total_power(self, parts: Sequence[Array], sizes: Sequence[int], is_cut: bool) -> Array:
        offsets = [channel_means(part) for part in parts]
        spectra = [segment.spectra(parts, offsets) for segment in self.segments]
        if self.is_product:
            return _group_sums(self._product(spectra, is_cut), sizes)
        power = np.empty((len(sizes), self.params.n_freqs, self.n_frames), np.float32)
        for block in self.blocks:
            spectrum = spectra[block.segment]
            power[:, block.rows] = block.power(spectrum, sizes, self.n_frames, is_cut=is_cut)
        return power

    def _product(self, spectra: Sequence[Array], is_cut: bool) -> Array:
        """Return the weighted geometric mean of the components' powers, per derivation."""
        logarithm = np.zeros((len(spectra[0]), self.params.n_freqs, self.n_frames), np.float32)
        alone = [1] * len(spectra[0])
        for block in self.blocks:
            power = block.power(spectra[block.segment], alone, self.n_frames, is_cut=is_cut)
            with np.errstate(divide="ignore"):
                logarithm[:, block.rows] += block.exponents * np.log(power)
        return np.exp(logarithm, out=logarithm)


# --- the plan ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A component of one frequency before it has a place in the plan."""

    row: int
    index: int
    exponent: float
    reach: int


def _design(
    params: Cwt, *, sfreq: float, n_context: int, n_window: int
) -> tuple[tuple[_Segment, ...], tuple[_Block, ...]]:
    """Return the cheapest way to part the octaves between a short and a long segment."""
    families = _families(params, sfreq=sfreq)

    def attempt(n_short: int) -> tuple[tuple[_Segment, ...], tuple[_Block, ...]]:
        segments: list[_Segment] = []
        blocks: list[_Block] = []
        for chosen in (families[:n_short], families[n_short:]):
            if chosen:
                reach = max(part.reach for family in chosen for part in family)
                segment = _segment(reach, hop=params.hop, n_context=n_context, n_window=n_window)
                if params.is_two_sided:
                    segment = replace(segment, n_negative=_n_negative(params, segment, sfreq=sfreq))
                blocks += [_block(family, params, segment, len(segments), sfreq=sfreq) for family in chosen]
                segments.append(segment)
        return tuple(segments), tuple(blocks)

    return min((attempt(n_short) for n_short in range(len(families))), key=lambda plan: _cost(*plan))


def _n_negative(params: Cwt, segment: _Segment, *, sfreq: float) -> int:
    """Return how many negative bins count for the lowest frequency, and so for any."""
    bins_hz = np.arange(-(segment.n_fft // 2) + 1, 1) * sfreq / segment.n_fft
    first, _ = _bins(params, float(frequencies(params)[0]), 0, bins_hz, first=-(segment.n_fft // 2) + 1)
    return max(0, -first)


def _cost(segments: Sequence[_Segment], blocks: Sequence[_Block]) -> float:
    """Operations per derivation; an inverse point is complex and is squared and averaged as well."""
    forward = sum(2.5 * s.n_fft * math.log2(s.n_fft + 1) for s in segments)
    inverse = sum(len(b.rows) * b.n_inverse * (5 * math.log2(b.n_inverse + 1) + 20) for b in blocks)
    return forward + inverse


def _families(params: Cwt, *, sfreq: float) -> list[list[_Part]]:
    """Return components grouped by octave below max_hz and number, shortest reach first."""
    families: dict[tuple[int, int], list[_Part]] = {}
    for row, freq in enumerate(frequencies(params).astype(np.float64).tolist()):
        octave = math.floor(math.log2(params.max_hz / freq) + 1e-6)
        exponents = [component.exponent for component in components(params, np.array([freq]), freq)]
        for index, reach in enumerate(reaches_s(params, freq)):
            part = _Part(row, index, exponents[index], math.ceil(reach * sfreq))
            families.setdefault((octave, index), []).append(part)
    return sorted(families.values(), key=lambda family: max(part.reach for part in family))


def _block(family: Sequence[_Part], params: Cwt, segment: _Segment, number: int, *, sfreq: float) -> _Block:
    """Return the block of components that share a segment."""
    from scipy.fft import next_fast_len

    freqs = frequencies(params).astype(np.float64)
    lowest = -segment.n_negative if params.is_two_sided else 1
    bins_hz = np.arange(lowest, segment.n_fft // 2 + 1, dtype=np.float64)
    bins_hz *= sfreq / segment.n_fft
    found = [_bins(params, float(freqs[part.row]), part.index, bins_hz, first=lowest) for part in family]
    n_hops = segment.n_fft // params.hop
    # Bins of the power's spectrum: differences of bins, for a real transform sums as well.
    widest = max(2 * (k + len(gain)) if params.is_real else len(gain) for k, gain in found)
    n_inverse = int(next_fast_len(2 * widest - 1, real=True))  # holds harmonics of either sign
    is_narrow = n_inverse < WORTH_INTERPOLATING * n_hops
    n_inverse = n_inverse if is_narrow else n_hops
    gains = [n_inverse / segment.n_fft * gain for _, gain in found]
    if params.norm == "energy":
        gains = [
            gain * _energy_gain(params, float(freqs[part.row]), sfreq=sfreq)
            for part, gain in zip(family, gains, strict=True)
        ]
    return _Block(
        segment=number,
        rows=np.array([part.row for part in family], np.intp),
        exponents=np.array([[part.exponent] for part in family], np.float32),
        pieces=_pieces(
            [first + segment.n_negative for first, _ in found], gains, n_inverse, keep_phase=params.is_real
        ),
        n_inverse=n_inverse,
        n_harmonics=widest if is_narrow else 0,
        n_hops=n_hops,
        first=segment.first,
        is_real=params.is_real,
    )


def _bins(
    params: Cwt, freq: float, index: int, bins_hz: NDArray[np.float64], *, first: int
) -> tuple[int, NDArray[np.float64]]:
    """Return the first bin that counts for a component and the gains from there to the last.

    ``first`` is the number of the first bin given.
    """
    response = np.array(components(params, bins_hz, freq)[index].response, np.float64)
    if params.is_real:
        # Positive frequencies stand for the negative ones too, of which the last bin has none.
        response[:-1] *= 2
    counting = np.flatnonzero(np.abs(response) > NEGLIGIBLE * np.abs(response).max())
    return int(counting[0]) + first, response[counting[0] : counting[-1] + 1]


def _energy_gain(params: Cwt, freq: float, *, sfreq: float) -> float:
    """Return the peak gain of a wavelet in PyWavelets' convention, over the peak of 1 used here."""
    return params.unit_scale_gain * math.sqrt(params.scale(freq, sfreq=sfreq))


def _pieces(
    first_bins: Sequence[int], gains: Sequence[NDArray[np.float64]], n_inverse: int, *, keep_phase: bool
) -> tuple[_Piece, ...]:
    """Cut the bins of all components together where the buffer ends, so that the rest folds onto its start.

    An octave's wavelets share most of their bins: one product with gains of 0 next to each band is
    quicker than a product for each.
    """
    start = min(first_bins)
    stop = max(first + len(gain) for first, gain in zip(first_bins, gains, strict=True))
    whole = np.zeros((len(gains), stop - start), np.float32)
    for row, first, gain in zip(whole, first_bins, gains, strict=True):
        row[first - start : first - start + len(gain)] = gain
    place = start % n_inverse if keep_phase else 0
    pieces, done = [], 0
    while done < whole.shape[1]:
        size = min(n_inverse - place, whole.shape[1] - done)
        source = slice(2 * (start + done), 2 * (start + done + size))
        weights = np.repeat(whole[:, done : done + size], 2, axis=1)
        pieces.append(_Piece(source, slice(2 * place, 2 * (place + size)), weights))
        place, done = 0, done + size
    return tuple(pieces)


# --- PyWavelets ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PywtPlan(CwtPlan):
    """``pywt.cwt`` on window and context: the reference for compatibility, not for accuracy.

    Its wavelets are a sampled integral with a staircase at large scales: power is off by 2 to
    4 % of a row's maximum. What is given is handed over as it is, its mean included.
    """

    def _total_power(self, parts: Sequence[Array], sizes: Sequence[int], is_cut: bool) -> Array:
        import pywt

        members = np.concatenate(parts)
        freqs = frequencies(self.params).astype(np.float64).tolist()
        scales = [self.params.scale(freq, sfreq=self.sfreq) for freq in freqs]
        power = np.empty((len(members), len(freqs), self.n_frames), np.float32)
        for row, out in zip(members.astype(np.float64), power, strict=True):
            values, _ = pywt.cwt(row, scales, self.params.pywt_name, method="fft")
            out[:] = np.abs(values[:, self.n_context : self.n_context + self.n_window : self.params.hop]) ** 2
        if self.params.norm == "amplitude":
            gains = [_energy_gain(self.params, freq, sfreq=self.sfreq) for freq in freqs]
            power /= np.square(gains, dtype=np.float32)[:, np.newaxis]
        return _group_sums(power, sizes)
