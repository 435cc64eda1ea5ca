"""Draw docs/images/architecture.svg from the imports of hms: ``python docs/draw_architecture.py [--check]``.

Each row is a package or module at the root of hms, in the order of the contract in pyproject.toml; an arc
on the right leads from a package to one that it imports, as wide as there are imports.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import Counter
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/architecture.svg"
ROW, LEFT, BOX, ARCS = 34, 20, 560, 330
INK, MUTED, LINE, FILL = "#1c2733", "#5b6673", "#2a6f97", "#eef3f7"


def layers() -> list[str]:
    """Return the rooms at the root of hms, topmost first, as the contract orders them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = (c for c in settings["contracts"] if c["type"] == "layers")
    names = (name for layer in contract["layers"] for name in layer.split(" : "))
    return [name for name in names if list((ROOT / "hms").glob(f"{name}*"))]


def files_of(room: str) -> list[Path]:
    """Return the Python files of a room."""
    folder = ROOT / "hms" / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def sentence(room: str) -> str:
    """Return the first sentence of a room's docstring."""
    folder = ROOT / "hms" / room
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    first = text.splitlines()[0].replace("``", "") if text else ""
    return first if len(first) <= 96 else first[:95] + "…"


def imports(rooms: list[str]) -> Counter[tuple[str, str]]:
    """Count the imports from one room into another, for types and inside functions too."""
    found: Counter[tuple[str, str]] = Counter()
    for room in rooms:
        for file in files_of(room):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module if node.module != "hms" else f"hms.{node.names[0].name}"]
                for name in names:
                    parts = name.split(".")
                    if parts[0] == "hms" and len(parts) > 1 and parts[1] != room and parts[1] in rooms:
                        found[room, parts[1]] += 1
    return found


def draw() -> str:
    """Return the picture as SVG."""
    rooms = layers()
    place = {room: 30 + ROW * i for i, room in enumerate(rooms)}
    height = 30 + ROW * len(rooms) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + BOX + ARCS} {height}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img" '
        'aria-label="The packages of hms, each above what it imports">',
        f'<rect width="{LEFT + BOX + ARCS}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" fill="{MUTED}">imported only by those above it</text>',
        f'<text x="{LEFT + BOX + 8}" y="18" fill="{MUTED}">arcs: imports, downwards only</text>',
    ]
    small = f'font-size="11" fill="{MUTED}"'
    for room in rooms:
        y, files = place[room], files_of(room)
        lines = sum(file.read_text().count("\n") for file in files)
        size = f"{len(files)} files, {lines:,} lines" if len(files) > 1 else f"{lines:,} lines"
        parts += [
            f'<rect x="{LEFT}" y="{y}" width="{BOX}" height="{ROW - 5}" rx="4" fill="{FILL}"/>',
            f'<text x="{LEFT + 8}" y="{y + 13}" font-weight="600" fill="{INK}">{room}</text>',
            f'<text x="{LEFT + BOX - 8}" y="{y + 13}" {small} text-anchor="end">{size}</text>',
            f'<text x="{LEFT + 8}" y="{y + 25}" {small}>{escape(sentence(room))}</text>',
        ]
    x = LEFT + BOX
    for (above, below), count in sorted(imports(rooms).items(), key=lambda pair: -pair[1]):
        top, bottom = place[above] + 14, place[below] + 14
        reach = 18 + (ARCS - 50) * (rooms.index(below) - rooms.index(above)) / len(rooms)
        width = min(6.0, 0.6 + 0.14 * count)
        parts.append(
            f'<path d="M{x} {top} C{x + reach:.0f} {top} {x + reach:.0f} {bottom} {x} {bottom}" fill="none" '
            f'stroke="{LINE}" stroke-opacity="0.45" stroke-width="{width:.1f}">'
            f"<title>{above} imports {below}: {count}</title></path>"
        )
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    """Write the picture, or with ``--check`` tell whether it is as the code is."""
    if sys.argv[1:] == ["--check"]:
        is_current = PICTURE.is_file() and PICTURE.read_text() == draw()
        print("current" if is_current else "stale: python docs/draw_architecture.py draws it anew")
        return 0 if is_current else 1
    PICTURE.write_text(draw())
    return 0


if __name__ == "__main__":
    sys.exit(main())
