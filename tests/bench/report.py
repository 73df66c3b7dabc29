"""Writes the tables and plots of docs/performance.md from the figures of one run.

``python -m tests.bench.report FILE.json`` replaces the tables and keeps the figures beside the document.
"""

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = DOCS / "performance.json"
_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700")

#: Factor and unit of the cost per object.
_UNITS = {
    "keys": (1.0, ""),
    "CPU": (1e6, "us"),
    "etcd's CPU": (1e6, "us"),
    "time of a first sync": (1e6, "us"),
    "memory at most": (1024.0, "KiB"),
}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | against | measured | goal | |", "|---|---|---|---|---|"]
    for row in rows:
        bound = "at least" if row["at_least"] else "at most"
        reached = row["value"] >= row["goal"] if row["at_least"] else row["value"] <= row["goal"]
        verdict = "reached" if reached else "not reached"
        value, goal = f"{row['value']:.3g} {row['unit']}", f"{bound} {row['goal']:g} {row['unit']}"
        lines.append(f"| {row['what']} | {row['against'] or '-'} | {value} | {goal} | {verdict} |")
    return "\n".join(lines)


def document(figures: Mapping[str, Any]) -> dict[str, str]:
    """The contents of files below docs/, by name, with the figures of a full run."""
    costs = {}
    late = {}
    measured = []
    for row in figures["rows"]:
        if "predicted from" in row["what"]:
            costs[row["what"].split(" of an object")[0]] = row["details"]
        else:
            measured.append(row)
        if row["against"].startswith("itself at"):
            late[row["what"].split("'s change")[0].split()[-1]] = points(row["details"]["ms"])
    sizes = sorted(int(size) for size in next(iter(costs.values()))["values"])
    small, larger, largest = sizes[0], sizes[1], sizes[-1]
    lines = [
        f"| | an object | at {small:,} | at {larger:,} | at {largest:,} | of predicted |",
        "|---|---|---|---|---|---|",
    ]
    for what, one in costs.items():
        values = [one["values"][str(size)] for size in (small, larger, largest)]
        predicted = values[0] + one["each"] * (largest - small)
        cells = [
            f"{one['each'] * _UNITS[what][0]:.3g} {_UNITS[what][1]}",
            *(f"{each:,.4g}" for each in values),
        ]
        lines.append(f"| {what} | {' | '.join(cells)} | {values[-1] / predicted:.2f} x |")
    quick = " A quick run: fewer objects, one round." if figures["quick"] else ""
    text = (DOCS / "performance.md").read_text()
    for begins, found in (
        ("Machine: ", f"Machine: {figures['machine']}.{quick}"),
        ("| what | ", table(measured)),
        ("| | an object | ", "\n".join(lines)),
    ):
        before, _, rest = text.partition(f"\n\n{begins}")
        _, _, after = rest.partition("\n\n")
        text = f"{before}\n\n{found}\n\n{after}"
    series = {what: points(one["values"]) for what, one in costs.items() if what != "keys"}
    return {
        "performance.md": text,
        "performance-cost.svg": plot("seconds (CPU, time) and MiB over objects", series),
        "performance-latency.svg": plot("p95 of a change, ms over objects", late),
    }


def points(values: Mapping[str, float]) -> list[tuple[float, float]]:
    return sorted((float(size), value) for size, value in values.items())


def plot(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """An SVG plot with two logarithmic axes, for light and dark backgrounds."""
    width, height, left, top = 640, 360, 60, 40
    across, down = width - left - 170, height - top - 50
    xs = [math.log10(x) for values in series.values() for x, _ in values]
    ys = [math.log10(max(y, 1e-3)) for values in series.values() for _, y in values]
    low_x, high_x = math.floor(min(xs)), math.ceil(max(xs))
    low_y, high_y = math.floor(min(ys)), max(math.ceil(max(ys)), math.floor(min(ys)) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        right = left + (x - low_x) / (high_x - low_x) * across
        return round(right, 1), round(top + down - (y - low_y) / (high_y - low_y) * down, 1)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{left}" y="22" font-size="14">{title}</text>',
    ]
    for exponent in range(low_x, high_x + 1):
        x, y = place(exponent, low_y)
        lines.append(f'<path d="M{x} {top}V{y}" stroke="#d0d7de"/>')
        lines.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{10**exponent:,}</text>')
    for exponent in range(low_y, high_y + 1):
        x, y = place(low_x, exponent)
        lines.append(f'<path d="M{x} {y}H{left + across}" stroke="#d0d7de"/>')
        lines.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{10.0**exponent:g}</text>')
    for number, (name, values) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        found = [place(math.log10(x), math.log10(max(y, 1e-3))) for x, y in values]
        path = " ".join(f"{x},{y}" for x, y in found)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in found]
        at = top + 14 + 18 * number
        lines.append(f'<text x="{left + across + 14}" y="{at}" fill="{colour}">{name}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m tests.bench.report FILE.json", file=sys.stderr)
        return 2
    file = Path(arguments[0])
    if file.resolve() != FIGURES:
        shutil.copyfile(file, FIGURES)
    for name, text in document(json.loads(FIGURES.read_text())).items():
        (DOCS / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
