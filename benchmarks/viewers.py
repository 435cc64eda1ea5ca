"""Time what the viewer could be built on: a page of EEG with scalograms, in headless Chromium.

Needs chromium, and of the libraries compared those that are to be timed::

    pip install bokeh plotly 'hms-eeg[browse]'
    python benchmarks/viewers.py
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]
from browser import Page, browser  # noqa: E402

N_ROWS, N_SAMPLES, N_CHAINS, N_FREQS, N_FRAMES, N_NEXT = 19, 2000, 4, 48, 250, 12

AFTER_PAINT = (
    "new Promise((d) => requestAnimationFrame(() => requestAnimationFrame(() => d(performance.now()))))"
)


def recording(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return made-up traces in µV and scalograms from 0 to 1."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 30, (N_ROWS, N_SAMPLES)), rng.random((N_CHAINS, N_FREQS, N_FRAMES))


def plotly_page(folder: Path) -> tuple[Path, str]:
    """Return a page of plotly's, and the script that shows another recording in it."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    def figure(seed: int) -> Any:
        traces, x = recording(seed)
        seconds = np.arange(N_SAMPLES) / 200
        shown = make_subplots(1 + N_CHAINS, 1, shared_xaxes=True, row_heights=[0.6, *[0.1] * N_CHAINS])
        for k, row in enumerate(traces):
            shown.add_trace(go.Scattergl(x=seconds, y=row / 200 - k, mode="lines"), 1, 1)
        for k, picture in enumerate(x):
            shown.add_trace(go.Heatmap(z=picture, x0=0, dx=10 / N_FRAMES, showscale=False), 2 + k, 1)
        return shown.update_layout(height=860, showlegend=False)

    others = json.dumps([json.loads(figure(s).to_json()) for s in range(1, N_NEXT + 1)])
    path = folder / "plotly.html"
    page = figure(0).to_html(include_plotlyjs=True, div_id="p")
    path.write_text(page.replace("</body>", f"<script>window.others = {others}</script></body>"))
    return path, "Plotly.react('p', others[{k}].data, others[{k}].layout)"


def bokeh_page(folder: Path) -> tuple[Path, str]:
    """Return a page of Bokeh's, and the script that shows another recording in it."""
    from bokeh.embed import file_html
    from bokeh.layouts import column
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure
    from bokeh.resources import INLINE

    traces, x = recording(0)
    seconds = np.arange(N_SAMPLES) / 200
    lines = ColumnDataSource(
        {"x": seconds, **{f"y{k}": row / 200 - k for k, row in enumerate(traces)}}, name="l"
    )
    top = figure(height=520, width=1100, output_backend="webgl")
    for k in range(N_ROWS):
        top.line("x", f"y{k}", source=lines)
    images = ColumnDataSource({"image": list(x), "y": list(range(N_CHAINS))}, name="i")
    low = figure(height=320, width=1100, x_range=top.x_range)
    low.image("image", x=0, y="y", dw=10, dh=1, source=images)
    path = folder / "bokeh.html"
    others = []
    for seed in range(1, N_NEXT + 1):
        traces, x = recording(seed)
        others.append([{f"y{k}": (row / 200 - k).tolist() for k, row in enumerate(traces)}, x.tolist()])
    script = f"<script>window.others = {json.dumps(others)}</script></body>"
    path.write_text(file_html(column(top, low), INLINE).replace("</body>", script))
    update = (
        "(() => {{ const d = Bokeh.documents[0], l = d.get_model_by_name('l'), i = d.get_model_by_name('i');"
        " l.data = {{...Object.fromEntries(Object.entries(others[{k}][0]).map(([n, v]) => [n,"
        " Float64Array.from(v)])), x: l.data.x}};"
        " i.data = {{image: others[{k}][1].map((p) => {{ const f = Float64Array.from(p.flat());"
        " const {{ Float64NDArray }} = Bokeh.require('core/util/ndarray');"
        " return new Float64NDArray(f, [p.length, p[0].length]); }}),"
        " y: i.data.y}}; }})()"
    )
    return path, update


def time_file(page: Page, path: Path, update: str, ready: str) -> tuple[float, list[float]]:
    """Return ms to the first picture of a page on disk, and to each next one."""
    page.open(path)
    page.wait(ready)
    first = page.run(AFTER_PAINT)
    took = []
    for k in range(N_NEXT):
        began = page.run("performance.now()")
        page.run(f"Promise.resolve({update.format(k=k)}).then(() => 0)")
        took.append(page.run(AFTER_PAINT) - began)
    return first, took


def time_hms(page: Page) -> tuple[float, list[float]]:
    """Return the same of the viewer, which also asks its server and reads recordings."""
    import hms
    from hms.browse.server import start

    with tempfile.TemporaryDirectory() as outputs:
        cfg = hms.compose("data.n_recordings=20", "data.n_patients=10", f"outputs_dir={outputs}", "n_jobs=1",
                          "stages=[scalograms,waveforms,labels,splits]")  # fmt: skip
        run = hms.run(cfg)
        viewer = start(run, item=run.meta["item_id"].iloc[0])
        page.open(viewer.address)
        drawn = "document.getElementById('traces').dataset.took"
        page.wait(drawn)
        first = page.run(AFTER_PAINT)
        took = []
        for _ in range(N_NEXT):
            page.wait(drawn)
            page.run("new Promise((d) => setTimeout(d, 150))")
            began = page.run(f"(() => {{ delete {drawn}; return performance.now(); }})()")
            page.press("j")
            page.wait(drawn)
            took.append(page.run(AFTER_PAINT) - began)
        viewer.stop()
    return first, took


def main() -> None:
    """Print a line for each."""
    made: dict[str, Callable[[Path], tuple[Path, str]]] = {"plotly": plotly_page, "bokeh": bokeh_page}
    ready = {
        "plotly": "document.querySelector('#p .main-svg')",
        "bokeh": "window.Bokeh?.documents[0]?.is_idle",
    }
    with browser(offline=False) as page, tempfile.TemporaryDirectory() as folder:
        page.resize(1440)
        for name, make in made.items():
            path, update = make(Path(folder))
            first, took = time_file(page, path, update, ready[name])
            print(
                f"{name}: first {first:.0f} ms, next {statistics.median(took):.0f} ms (most {max(took):.0f})"
            )
        first, took = time_hms(page)
        print(f"hms: first {first:.0f} ms, next {statistics.median(took):.0f} ms (most {max(took):.0f})")


if __name__ == "__main__":
    main()
