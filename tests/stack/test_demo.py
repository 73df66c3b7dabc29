"""The demo gets right answers, marks wrong ones, and cleans up."""

import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.stack import demo
from tests.stack.harness import LOOPBACK, Binaries, BuildError, Process, clean_environment, wait_for


@pytest.fixture
def started(binaries: Binaries, tmp_path: Path) -> Iterator[Process]:
    """The demo as a user starts it, with its files below ``tmp_path``."""
    environment = {**clean_environment(), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    process = Process("demo", [sys.executable, "-m", "tests.stack.demo"], tmp_path, env=environment)
    yield process
    process.kill()


def children(process: Process) -> list[str]:
    task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return task.read_text().split()


def test_demo_once_gets_the_expected_answers(started: Process) -> None:
    started.command.append("--once")
    started.start()
    assert started.wait(120) == 0, started.log_tail(60)
    assert f"all {len(demo.QUESTIONS)} answers are right" in started.log_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_nothing_behind(started: Process, tmp_path: Path, number: signal.Signals) -> None:
    started.start()
    wait_for(lambda: "until Ctrl-C" in started.log_text(), "the demo to wait", 120, started)
    servers = children(started)
    assert len(servers) == 6
    started.send_signal(number)
    assert started.wait(20) == 0, started.log_tail(40)
    assert [pid for pid in servers if Path(f"/proc/{pid}").exists()] == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_port_in_use_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        port = other.getsockname()[1]
        assert demo.main(["--once", "--port", str(port)]) == 1
    assert f"port {port} of {LOOPBACK} is in use" in capsys.readouterr().err


def test_build_error_is_reported(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*, names: Sequence[str]) -> dict[str, Path]:
        raise BuildError("building coredns failed")

    monkeypatch.setattr(demo, "binaries", fail)
    assert demo.main(["--once"]) == 1
    assert "building coredns failed" in capsys.readouterr().err


def test_wrong_answer_is_marked_in_the_table() -> None:
    answers = [question.answer.split("; ") for question in demo.QUESTIONS]
    answers[0] = ["NXDOMAIN"]
    text = demo.table(answers)
    assert "NXDOMAIN" in text.splitlines()[2]
    assert "WRONG, should be 10.0.0.20" in text
    assert text.count("WRONG") == 1
