"""Draw the report's pictures in docs/images from a run on the embedded set: ``python docs/draw_pictures.py``.

Chromium opens the report from disk. Typed again it computes nothing; --outputs names where the run lies.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import hms

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests"))

from browser import Page, browser  # noqa: E402

WIDTH = 1440


def draw_recording(run: hms.Run) -> None:
    """Draw the good item of high confidence on which most experts agree that it has LPD."""
    labels = run.labels
    is_good = set(run.qc.loc[run.qc["grade"] == "good", "item_id"])
    lpd = dict(zip(labels.item_id, labels.y_soft[:, 1] * labels.hc_mask, strict=True))
    run.plot(max(sorted(is_good & set(lpd)), key=lpd.__getitem__)).savefig(IMAGES / "recording.png", dpi=100)


def draw_report(page: Page, path: Path) -> None:
    """Draw its beginning on a wide screen and on a phone, the signals, and the first recordings."""
    page.resize(390, 844, mobile=True)
    page.open(path)
    page.screenshot(IMAGES / "report-phone.png")
    page.resize(WIDTH, 1130)
    page.open(path)
    page.screenshot(IMAGES / "report.png")
    page.screenshot(IMAGES / "report-signals.png", selector="#signals")
    page.resize(WIDTH, 900)
    page.run("document.querySelector('#examples').scrollIntoView()")
    page.screenshot(IMAGES / "report-recordings.png")


def shrink(path: Path) -> None:
    """Keep 256 colours of a picture of grey lines and scalograms, which is a third of its bytes."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256)
    small.save(path, optimize=True)


def main() -> None:
    """Make the run and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", default="outputs", type=Path)
    run = hms.run(hms.compose(f"outputs_dir={parser.parse_args().outputs}"))
    draw_recording(run)
    with browser() as page:
        draw_report(page, run.path / "qc" / "report.html")
    for name in ("recording", "report-recordings"):
        shrink(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
