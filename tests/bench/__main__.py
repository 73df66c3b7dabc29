"""``python -m tests.bench [--quick] [--only WORD...] [--rounds 3] [--json FILE]``: all rows in one run."""

import argparse
import compileall
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import kube2etcd
import skydns_compat
from tests.bench import beside, names, scale, sync
from tests.bench.measure import Bench, Row
from tests.bench.prepared import PreparedApi
from tests.bench.report import table
from tests.stack.harness import BuildError, binaries

#: By the names for ``--only``, in the order of the run.
ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "start": sync.start,
    "first": sync.first,
    "beside": beside.beside,
    "scale": scale.scale,
    "machines": scale.memory_of_machines,
    "questions": scale.questions,
    "churn": scale.churn,
    "names": names.names,
}


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{os.cpu_count()} cores ({model or platform.machine()}), {pages:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}; "
        f"load before: {os.getloadavg()[0]:.1f}"
    )


def run(quick: bool, only: Sequence[str], rounds: int, log: Callable[[str], None]) -> list[Row]:
    programs = binaries() | binaries(names=["writer"])
    # As in the image, and compiled as by pip.
    os.environ["MALLOC_ARENA_MAX"] = "1"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for package in (kube2etcd, skydns_compat):
        compileall.compile_dir(package.__path__[0], quiet=1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="kube2etcd-bench-") as folder, PreparedApi() as api:
        bench = Bench(programs, Path(folder), api, log, quick, rounds)
        for number, name in enumerate(only or ROWS, 1):
            log(f"{name} ({number} of {len(only or ROWS)})")
            for row in ROWS[name](bench):
                log(table([asdict(row)]).splitlines()[-1])
                rows.append(row)
    return rows


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the objects, one round")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=[], help="only these rows")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each row (3, with --quick 1)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    given = parser.parse_args(arguments)
    began, where = time.monotonic(), machine()

    def log(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", file=sys.stderr, flush=True)

    try:
        rows = run(given.quick, given.only, given.rounds or (1 if given.quick else 3), log)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    figures: dict[str, Any] = {"machine": where, "quick": given.quick, "rows": [asdict(row) for row in rows]}
    print(f"{where}\n\n{table(figures['rows'])}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
