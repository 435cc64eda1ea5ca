"""Pictures of single items, for notebooks and documents."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hms.engine.inference import evaluate_item
from hms.errors import ConfigError
from hms.labels.classes import Classes
from hms.registry import did_you_mean
from hms.signal.wavelets import is_log_spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hms.store.package import Package

Chains = Sequence[tuple[str, Sequence[str]]]
INK = "#1c2733"
ROUND_UV = (10, 20, 50, 100, 200, 500, 1000)


class ItemFigure(Figure):
    """A figure that a notebook shows without a plotting backend."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def plot_item(run: Package, item_id: str) -> Figure:
    """Draw an item as EEG readers look at it: traces of all derivations next to its scalograms.

    The derivations are computed again from the recording. Where that is not there any more, the stored
    waveforms are drawn, and the title says so. Negative is up. Raises `ConfigError` if the run has no such
    item, or keeps neither scalograms nor waveforms.

    Parameters
    ----------
    run : a finished run with scalograms
    item_id : an item of it that was not left out
    """
    known = run.meta["item_id"].tolist()
    if item_id not in known:
        raise ConfigError(f"run {run.hash} has no item '{item_id}'{did_you_mean(item_id, known)}")
    x, freqs = run.spec(item_id), run.freqs
    traces, names, alive, note = _traces(run, item_id)
    figure = ItemFigure(figsize=(11.5, 0.22 * max(len(names), 16) + 1.6), dpi=100, layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=(1.45, 1))
    left, right = parts
    length_s = float(run.config.at("window.length_s"))
    _draw_traces(left.subplots(), traces, names, alive, length_s)
    _draw_scalograms(right, x, freqs, run.outputs, length_s)
    figure.suptitle(_title(run, item_id, note), fontsize=11, x=0.01, ha="left")
    return figure


def _traces(
    run: Package, item_id: str
) -> tuple[NDArray[np.float32], list[tuple[str, str]], NDArray[np.bool_], str]:
    """Return traces, (chain, name) of each, which are alive, and a note on their origin."""
    chains: Chains = run.config.at("montage.chains")
    try:
        derived = evaluate_item(run, item_id, "derivations")
    except ConfigError:
        wave = run.wave(item_id)
        names = [(name, name) for name in run.outputs]
        return wave, names, np.ones(len(wave), bool), "; the recording is gone: stored waveforms"
    return derived.window, [(chain, name) for chain, pairs in chains for name in pairs], derived.alive, ""


def _title(run: Package, item_id: str, note: str) -> str:
    if "data_package/labels.npz" not in run.manifest["files"]:
        return f"{item_id}: no votes{note}"
    row = run.meta["item_id"].tolist().index(item_id)
    if not run.labels.has_label[row]:
        return f"{item_id}: no label{note}"
    shares = run.labels.y_soft[row]
    titles = Classes.of_labels({"classes": run.labels.classes}).titles
    votes = ", ".join(f"{name} {share:.0%}" for name, share in zip(titles, shares, strict=True) if share > 0)
    return f"{item_id}: {votes} of {run.labels.vote_sum[row]} votes{note}"


def _draw_traces(
    axes: Axes,
    traces: NDArray[np.float32],
    names: list[tuple[str, str]],
    alive: NDArray[np.bool_],
    length_s: float,
) -> None:
    step_uv = _spacing_uv(traces[alive])
    breaks = np.cumsum([i > 0 and names[i][0] != names[i - 1][0] for i in range(len(names))])
    places = np.arange(len(names)) + 0.6 * breaks
    seconds = np.arange(traces.shape[1]) * length_s / traces.shape[1]
    for place, trace, is_alive in zip(places, traces, alive, strict=True):
        # The axis points down, so a positive deflection points down as well.
        colour, width = (INK, 0.7) if is_alive else ("#b0b6bc", 0.5)
        axes.plot(seconds, place + np.clip(trace / step_uv, -3, 3), color=colour, lw=width)
    axes.set_yticks(places, [name for _, name in names], fontsize=8)
    axes.set(xlim=(0, length_s), ylim=(places[-1] + 1.4, -1.2), xlabel="seconds of the window")
    axes.xaxis.grid(visible=True, color="#e2e6ea", lw=0.7)
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "right", "top"]].set_visible(False)
    _scale_bar(axes, length_s, float(places[-1]) + 1.2, step_uv)


def _spacing_uv(traces: NDArray[np.float32]) -> int:
    """Return a round distance in µV from line to line that suits most of the traces."""
    if not traces.size:
        return 100
    typical = 1.6 * float(np.median(np.quantile(np.abs(traces), 0.98, axis=1)))
    return next((uv for uv in ROUND_UV if uv >= typical), ROUND_UV[-1])


def _scale_bar(axes: Axes, right: float, low: float, step_uv: int) -> None:
    style: dict[str, Any] = {"color": INK, "clip_on": False}
    axes.plot([right * 1.012] * 2, [low - 1, low], lw=2, **style)
    axes.text(right * 1.022, low - 0.5, f"{step_uv} µV", va="center", fontsize=8, **style)


def _draw_scalograms(
    figure: Any, x: NDArray[Any], freqs: NDArray[np.float32], names: Sequence[str], length_s: float
) -> None:
    rows = figure.subplots(len(x), 1, sharex=True, squeeze=False)[:, 0]
    top = max(1.0, float(np.max(x, initial=0.0)))
    seconds = np.linspace(0, length_s, x.shape[2] + 1)
    is_log = is_log_spaced(freqs)
    space = np.geomspace if is_log else np.linspace
    edges = space(freqs[0], max(freqs[-1], freqs[0] * 1.01), len(freqs) + 1)
    for axes, picture, name in zip(rows, x.astype(np.float32), names, strict=True):
        mesh = axes.pcolormesh(seconds, edges, picture, vmin=0, vmax=top, cmap="viridis", rasterized=True)
        axes.set_yscale("log" if is_log else "linear")
        ticks = [hz for hz in (1, 2, 4, 8, 16, 32) if edges[0] <= hz <= edges[-1]]
        axes.set_yticks(ticks, [str(hz) for hz in ticks], fontsize=8)
        axes.minorticks_off()
        axes.set_ylabel(f"{name}\nHz", fontsize=9)
    rows[-1].set_xlabel("seconds of the window")
    figure.colorbar(mesh, ax=list(rows), label="x", fraction=0.04, pad=0.02)
