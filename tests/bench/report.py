"""From the figures of one run to the table, docs/performance.md and its plots.

``python -m tests.bench.report FILE.json`` writes them; the figures are kept beside the document.
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

#: What the cost of one object is multiplied with, and its unit then.
_UNITS = {
    "keys": (1.0, ""),
    "CPU": (1e6, "us"),
    "etcd's CPU": (1e6, "us"),
    "time of a first sync": (1e6, "us"),
    "memory at most": (1024.0, "KiB"),
}

HEAD = """# Performance

Measured by `tox -e bench`, which prints this table and writes `docs/performance.json`; this page and its
plots are made of that file by `python -m tests.bench.report docs/performance.json`. Everything in a table
comes from one run, in which what is compared took turns on the same machine; ratios say more than seconds.

Machine: {machine}.{quick}

A *first sync* counts from the first list request to ready: list, decode, derive, write, compare. Lists come
from a server of prepared pages in a process of its own, compressed as kube-apiserver does. The bare client
is [tests/stack/servers/writer](../tests/stack/servers/writer): etcd's own Go client, which writes the same
keys and values from memory, 128 to a transaction, 8 transactions on their way.

## Where it goes, and the floors

A *no-op resync* is a whole process: it imports, lists, derives every key, reads etcd and compares; the
bare client's Range takes 0.05 s of its own CPU. Imports (0.2 s, of which gRPC, urllib3, prometheus_client
and click take 0.14) and lists (0.25 s for 20,000 machines) alone are above three Ranges. Of its main
thread's time, derivation takes two thirds. It is as fast without garbage collection.

A *first sync* writes while it derives, with 32 transactions on their way, so etcd and the bridge work at
once and the slower one decides: for machines that is the bridge's one thread of Python; for Services both
take as long. (With 32 instead of 8 the bare client is an eighth faster, too.) A machine costs some 50 us
of CPU beside imports. Derivation takes two thirds: records a fifth of all, keys and values a fifth,
holding them a fifth (of which compressing 4 %). Lists and their decoding take a tenth, gRPC 6 %, building
transactions 4 %. A transaction of 128 keys costs 355 us in etcd3's channel; gRPC alone, with ready bytes
both ways, 240. Neither blocking calls nor a pool of threads cost less. What is left is Python calling
functions: with the layout, the claims' groups and the publisher compiled by mypyc, a key took 3 us less
(a fifth), for which whoever builds the package would need a C compiler.

*Ready* beside the plugin: the plugin only holds what it has listed. Here 104,000 keys are written and
committed, for which the bare client alone needs some 0.9 s, 1.7 times the plugin's time. The memory
beside it is 54 MiB of an empty bridge, 47 of them after imports alone (20 are mapped libraries, 10 gRPC's).
At 10,000 Services it is less than the plugin's. `MALLOC_ARENA_MAX=1`, as in the image, saves 3 to 5 MiB of
84 and costs nothing.

A *change* passes the bridge, a transaction of etcd and CoreDNS's reads of etcd, where the plugin answers
from its memory: 2.5 to 3.5 ms more at the median, 3 to 5 at p95. From the line of a slice's event to its
transaction sent, the bridge takes 0.9 ms: 0.15 to decode and to wake the loop, 0.35 to derive, 0.15 to
compare, 0.2 for gRPC to send. etcd's answer comes 2.4 to 2.7 ms later; whatever else the bridge does
comes after it.

Under *sustained churn* the bridge uses two thirds of a core. In its ten minutes is one resync, which made
one change 5.6 s late (the median is 9 ms) and took 20 MiB more, which stay. etcd must be compacted: its
file keeps the size of its busiest time.

"""

SCALE = """
## What an object costs

One object is a Service, a slice of two endpoints, or a virtual machine, a third each. The cost of one is
the slope between {small:,} and {larger:,} objects; the last column compares what was measured at {largest:,}
with what that slope predicts.

| | an object | at {small:,} | at {larger:,} | at {largest:,} | of predicted |
|---|---|---|---|---|---|
{lines}

A virtual machine with one secondary interface takes 500 bytes as an object and 400 as four keys, which
are compressed together (300 bytes of keys and values to 75; the rest is Python's: the unit's name, its
place in two dictionaries). A Service with ten endpoints takes 3.9 KB as objects and 4.1 KB as 42 keys,
of which its ten PTR records, each alone in its place, are more than half. So 100,000 machines take 90
MiB beside the 55 of an empty bridge, and pages of a list and of etcd's keys on their way make the rest
of the peak. That is near the floor of Python: a text has 49 bytes before its first letter, and a
dictionary takes 50 for an entry. Compressing (lz4) costs less than 0.3 us of CPU a key.

![Cost over objects](performance-cost.svg)
![Latency over objects](performance-latency.svg)
"""

SPLIT = """
## How far one pod goes, and beyond

Time and memory of a first sync grow with the objects, a change costs what it changes. What ends first is
the memory that the pod is given and etcd's quota (2 GiB by default; a key of ours takes some 300
bytes in its file). Beyond one pod, divide the names, not the objects' fields: several bridges, each with
`--domain` or zones of its own and its own etcd; or one etcd cluster that one bridge (of several with
`--leader-elect`) fills and any number of CoreDNS read, since reading costs the bridge nothing.

What a question costs beside the `kubernetes` plugin, line by line of the Corefile, is in
[skydns-compat/README.md](../skydns-compat/README.md#what-it-costs-python--m-testsbenchquestions).
"""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown, which reads well on a terminal too."""
    lines = ["| what | against | measured | goal | |", "|---|---|---|---|---|"]
    for row in rows:
        bound = "at least" if row["at_least"] else "at most"
        reached = row["value"] >= row["goal"] if row["at_least"] else row["value"] <= row["goal"]
        verdict = "reached" if reached else "not reached"
        value, goal = f"{row['value']:.3g} {row['unit']}", f"{bound} {row['goal']:g} {row['unit']}"
        lines.append(f"| {row['what']} | {row['against'] or '-'} | {value} | {goal} | {verdict} |")
    return "\n".join(lines)


def document(figures: Mapping[str, Any]) -> dict[str, str]:
    """The files below docs/ by name, made of the figures of one run."""
    rows = figures["rows"]
    quick = " A quick run: fewer objects, one round." if figures["quick"] else ""
    text = HEAD.format(machine=figures["machine"], quick=quick) + table(
        [row for row in rows if "predicted from" not in row["what"]]
    )
    files = {}
    costs = {
        row["what"].split(" of an object")[0]: row["details"]
        for row in rows
        if "predicted from" in row["what"]
    }
    late = {
        row["what"].split("'s change")[0].split()[-1]: row["details"]["ms"]
        for row in rows
        if row["against"].startswith("itself at")
    }
    if costs:
        sizes = sorted(int(size) for size in next(iter(costs.values()))["values"])
        lines = [
            f"| {what} | {one['each'] * _UNITS[what][0]:.3g} {_UNITS[what][1]} | "
            + " | ".join(f"{one['values'][str(size)]:,.4g}" for size in (sizes[0], sizes[1], sizes[-1]))
            + f" | {beside_prediction(one, sizes):.2f} x |"
            for what, one in costs.items()
        ]
        small, larger, largest = sizes[0], sizes[1], sizes[-1]
        text += "\n" + SCALE.format(small=small, larger=larger, largest=largest, lines="\n".join(lines))
        series = {what: points(one["values"]) for what, one in costs.items() if what != "keys"}
        files["performance-cost.svg"] = plot("seconds (CPU, time) and MiB over objects", series)
        files["performance-latency.svg"] = plot(
            "p95 of a change, ms over objects", {kind: points(values) for kind, values in late.items()}
        )
    return {"performance.md": text + SPLIT, **files}


def beside_prediction(one: Mapping[str, Any], sizes: Sequence[int]) -> float:
    """The largest as a multiple of what the slope between the smaller two predicts."""
    values = {size: one["values"][str(size)] for size in sizes}
    expected: float = values[sizes[0]] + one["each"] * (sizes[-1] - sizes[0])
    found: float = values[sizes[-1]]
    return found / expected


def points(values: Mapping[str, float]) -> list[tuple[float, float]]:
    return sorted((float(size), value) for size, value in values.items())


def plot(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Lines over two logarithmic axes, as an SVG that reads on light and dark paper."""
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
