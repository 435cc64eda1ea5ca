"""Draw the viewer's pictures in docs/images from sixty embedded recordings: ``python docs/draw_browse.py``.

Chromium opens ``hms browse`` and is led through it by keys. --outputs names the folder of the run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import hms
from hms.browse.server import Viewer, start

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests"))

from browser import Page, browser  # noqa: E402

WIDE, PHONE = (1440, 900), (390, 844)
SHOWN_WIDTH = 1080
DRAWN = "document.getElementById('traces').dataset.shown"
SAVED = "document.documentElement.dataset.saving === '0'"


def visit(page: Page, viewer: Viewer, size: tuple[int, int]) -> None:
    """Open the list of items."""
    page.resize(*size, mobile=size is PHONE)
    page.open(viewer.address)
    page.wait("document.documentElement.dataset.ready")


def draw(page: Page, viewer: Viewer) -> None:
    """Draw the list, a recording, a stretch with its spectrum, a note, the small pictures, and a phone."""
    visit(page, viewer, WIDE)
    page.press("l")
    time.sleep(1)
    page.screenshot(IMAGES / "browse-1-list.png")
    page.press("Enter")
    page.wait(DRAWN)
    time.sleep(1)  # pictures and pages fetched ahead arrive one after another
    page.screenshot(IMAGES / "browse-2-recording.png")
    page.press("a", ">", ">", "s")
    time.sleep(1)
    page.screenshot(IMAGES / "browse-3-spectrum.png", whole=True)
    page.press("Escape", "x")
    page.wait(SAVED)
    page.press("n")
    page.press(*"muscle over T4")
    page.screenshot(IMAGES / "browse-4-note.png")
    page.press("Enter")
    page.wait(SAVED)
    page.press("p")
    time.sleep(1)
    page.screenshot(IMAGES / "browse-5-pictures.png")
    visit(page, viewer, PHONE)
    page.wait(DRAWN)
    time.sleep(1)
    page.screenshot(IMAGES / "browse-phone.png")


def shrink(path: Path) -> None:
    """Make a wide picture as wide as pages show it, in 256 colours."""
    from PIL import Image

    with Image.open(path) as picture:
        height = round(picture.height * SHOWN_WIDTH / picture.width)
        small = picture.convert("RGB").resize((SHOWN_WIDTH, height), Image.Resampling.LANCZOS)
    small.quantize(256).save(path, optimize=True)


def main() -> None:
    """Make the run, open the viewer and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", default="outputs", type=Path)
    outputs = parser.parse_args().outputs
    run = hms.run(
        hms.compose(f"outputs_dir={outputs}", "data.n_recordings=60", "data.n_patients=24", "baseline=logreg")
    )
    usable = run.qc[run.qc["grade"] == "usable"].set_index("item_id")["raised"]
    item = str(usable.str.count(";").idxmax())
    with tempfile.TemporaryDirectory() as folder:
        viewer = start(run, marks=Path(folder) / "marks.csv", who="ab", item=item)
        with browser(offline=False) as page:
            draw(page, viewer)
        viewer.stop()
    for path in IMAGES.glob("browse-[1-5]-*.png"):
        shrink(path)


if __name__ == "__main__":
    main()
