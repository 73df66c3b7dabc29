"""The progress line of a long command."""

import os
import pty
import re
import subprocess
import sys

import pytest

from kube2etcd.cli.options import progress_line

LINES = [
    ("no count", ("reading etcd", 0, 0, 1.0, 80), "reading etcd…"),
    ("no total", ("listing", 4000, 0, 1.0, 80), "listing: 4,000…"),
    ("rate and time left", ("keys", 16000, 80503, 2.0, 80), "keys: 16,000 of 80,503 (8,000/s, 8 s left)"),
    ("just started", ("writing keys", 0, 80503, 0.0, 80), "writing keys: 0 of 80,503"),
    ("done", ("writing keys", 9, 9, 2.0, 80), "writing keys: 9 of 9"),
    ("narrow terminal", ("writing keys", 16000, 80503, 2.0, 20), "writing keys: 16,00…"),
    ("terminal without columns", ("writing keys", 1, 2, 2.0, 0), "…"),
]


@pytest.mark.parametrize(("given", "line"), [one[1:] for one in LINES], ids=[one[0] for one in LINES])
def test_progress_line(given: tuple[str, int, int, float, int], line: str) -> None:
    assert progress_line(*given) == line


PROGRAM = """
from kube2etcd.cli.options import Progress
with Progress() as progress:
    progress("writing keys", 0, 2)
    progress("writing keys", 1, 2)
    progress("done")
"""


def run_on_terminal(program: str) -> str:
    controller, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", program], stderr=terminal, check=True)
    os.close(terminal)
    output = os.read(controller, 4096).decode()
    os.close(controller)
    return output


def test_progress_is_shown_and_erased_on_a_terminal() -> None:
    output = run_on_terminal(PROGRAM)
    assert output == "\rwriting keys: 0 of 2\rdone…               \r     \r", (
        "the second update came too soon"
    )


LOGGING = """
import logging, sys
from kube2etcd.cli.options import Progress
from kube2etcd.log import setup
setup()
with Progress() as progress:
    progress("listing")
    logging.getLogger("kube2etcd.x").warning("trouble")
    progress("listing", 1)
logging.getLogger("kube2etcd.x").warning("after")
"""


def test_log_line_replaces_the_progress_line() -> None:
    output = re.sub(r"20\S+ WARNING", "WARNING", run_on_terminal(LOGGING))
    assert output == (
        "\rlisting…\r        \rWARNING x: trouble\r\n\rlisting: 1…\r           \rWARNING x: after\r\n"
    )


def test_pipe_and_closed_stderr_get_no_progress() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    subprocess.run(["bash", "-c", f"{sys.executable} -c '{PROGRAM}' 2>&-"], check=True)
