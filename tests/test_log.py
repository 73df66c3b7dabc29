import io
import json
import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from kube2etcd.log import MAX_MESSAGE, Formatter, RepeatFilter, redact, setup


def record(text: str, at: float = 0.0, level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("kube2etcd.etcd.store", level, "", 0, text, None, None)
    made.created, made.msecs = at, (at % 1) * 1000
    if fields:
        made.fields = fields
    return made


def test_text_is_one_line_of_limited_length() -> None:
    line = Formatter().format(record("two\n  lines", 1.25, key="a b", number=3, empty=""))
    assert line == '1970-01-01T00:00:01.250Z INFO    etcd.store: two | lines key="a b" number=3 empty=""'
    assert len(Formatter().format(record("begin " + "x" * 10 * MAX_MESSAGE + " end"))) < MAX_MESSAGE + 200


def test_json_is_one_object_per_line() -> None:
    line = Formatter(as_json=True).format(
        record("héllo", 1.25, logging.WARNING, kind="services", time="mine")
    )
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:01.250Z",
        "level": "warning",
        "logger": "kube2etcd.etcd.store",
        "message": "héllo",
        "kind": "services",
    }
    assert "\n" not in line


def test_control_characters_are_escaped() -> None:
    line = Formatter().format(record("\x1b[2Jweb\x07 ä\x9b", key="\x1b[0m"))
    assert line.isprintable()
    assert line.endswith('etcd.store: \\x1b[2Jweb\\x07 ä\\x9b key="\\u001b[0m"')
    assert "\x1b" not in Formatter(as_json=True).format(record("\x1b[2J", key="\x1b[0m"))


@pytest.mark.parametrize("form", ["text", "json"])
def test_traceback_is_one_line(form: str) -> None:
    stream = io.StringIO()
    setup(form, "info", stream)
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("kube2etcd.app.run").exception("it failed")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert "KeyError" in lines[0]


def test_secret_is_removed_where_a_long_message_is_cut() -> None:
    text = "x" * (MAX_MESSAGE // 2 - 10) + " Bearer " + "s3cr3t" * 100 + " " + "y" * (MAX_MESSAGE // 2 - 300)
    assert "s3cr3t" not in Formatter().format(record(text))


SECRETS = [
    ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
    ("cannot reach http://user:hunter2@host:1", "hunter2"),
    ('{"token": "abc123"}', "abc123"),
    ("password=hunter2&x=1", "hunter2"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS, ids=[secret for _, secret in SECRETS])
def test_secrets_are_removed(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert secret not in Formatter().format(record("x", field=text))
    assert secret not in Formatter(as_json=True).format(record(text, field=text))


@pytest.mark.parametrize(
    "text",
    ["the password file is empty", "http://h:2379/a@b is wrong", "http://h:2379 refused", "took 5 tokens"],
)
def test_text_without_secrets_is_kept(text: str) -> None:
    assert redact(text) == text


def test_repeats_are_counted_and_not_written() -> None:
    reported: list[str] = []
    repeats = RepeatFilter(lambda record: reported.append(record.getMessage()), 10)
    assert repeats.filter(record("down", 0))
    assert not repeats.filter(record("down", 1))
    assert not repeats.filter(record("down", 9))
    assert repeats.filter(record("down", 2, logging.ERROR)), "another level is another line"
    assert repeats.filter(record("other", 11))
    assert reported == ["down (repeated 2 times)"]
    assert repeats.filter(record("down", 12))
    assert not repeats.filter(record("down", 13))
    assert repeats.filter(record("more", 30))
    assert reported == ["down (repeated 2 times)", "down (repeated once more)"]


class Later:
    """A clock, and what was asked to be called later."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.calls.append((self.now + seconds, call))

    def advance(self, to: float) -> None:
        """Make the calls that are due."""
        self.now = to
        due = [call for at, call in self.calls if at <= to]
        self.calls = [(at, call) for at, call in self.calls if at > to]
        for call in due:
            call()


def test_repeats_are_reported_at_the_end_of_the_window() -> None:
    """A failure that came back within the window and stays is logged once by its reporter."""
    reported: list[tuple[float, str]] = []
    later = Later()

    def tell(record: logging.LogRecord) -> None:
        reported.append((record.created, record.getMessage()))

    repeats = RepeatFilter(tell, 10, clock=lambda: later.now, later=later.after)
    assert repeats.filter(record("down", 0))
    assert repeats.filter(record("slow", 4))
    assert not later.calls, "nothing is repeated yet"
    assert not repeats.filter(record("down", 5))
    assert not repeats.filter(record("slow", 6))
    assert len(later.calls) == 1, "one thread waits at most"
    later.advance(9.9)
    assert reported == []
    later.advance(10.0)
    assert reported == [(10.0, "down (repeated once more)")]
    later.advance(14.0)
    assert reported[1:] == [(14.0, "slow (repeated once more)")]
    assert not later.calls
    assert repeats.filter(record("down", 15)), "the next one is written at once"


def test_repeats_wait_for_the_next_line_when_no_thread_can_start() -> None:
    reported: list[str] = []

    def fail(seconds: float, call: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    repeats = RepeatFilter(lambda record: reported.append(record.getMessage()), 10, later=fail)
    assert [repeats.filter(record(text, at)) for text, at in (("a", 0), ("a", 1), ("b", 11))] == [
        True,
        False,
        True,
    ]
    assert reported == ["a (repeated once more)"]


def test_a_repeat_reaches_the_log_without_another_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube2etcd.log.REPEAT_WINDOW", 0.05)
    out, replaced = io.StringIO(), io.StringIO()
    others = set(threading.enumerate())
    setup("text", "info", replaced)
    logging.getLogger("kube2etcd.x").warning("old")
    logging.getLogger("kube2etcd.x").warning("old")
    setup("text", "info", out)
    logging.getLogger("kube2etcd.x").warning("down")
    logging.getLogger("kube2etcd.x").warning("down")
    for thread in set(threading.enumerate()) - others:
        thread.join(60)
    assert [line.split(": ", 1)[1] for line in out.getvalue().splitlines()] == [
        "down",
        "down (repeated once more)",
    ]
    assert "repeated" not in replaced.getvalue(), "a replaced handler's stream may be closed"


def test_lines_with_other_fields_are_no_repeats() -> None:
    repeats = RepeatFilter()
    written = [repeats.filter(record("records changed", object=name)) for name in ("a", "b", "a")]
    assert list(map(bool, written)) == [True, True, False]


def failed(error: Exception) -> logging.LogRecord:
    made = record("repair failed")
    made.exc_info = (type(error), error, None)
    return made


def test_lines_with_other_errors_are_no_repeats() -> None:
    repeats = RepeatFilter()
    written = [repeats.filter(failed(one)) for one in (KeyError("a"), KeyError("b"), KeyError("a"))]
    assert list(map(bool, written)) == [True, True, False]


def test_repeats_keep_the_fields() -> None:
    reported: list[logging.LogRecord] = []
    repeats = RepeatFilter(reported.append, 10)
    for at in (0, 1):
        repeats.filter(record("corefile written", at, file="/x"))
    repeats.filter(record("other", 11))
    [line] = map(Formatter().format, reported)
    assert line.endswith("etcd.store: corefile written (repeated once more) file=/x")


def test_clock_that_is_set_back_suppresses_nothing() -> None:
    repeats = RepeatFilter(window=10)
    assert repeats.filter(record("down", 7200))
    assert repeats.filter(record("down", 0))


def test_memory_for_repeats_is_limited() -> None:
    repeats = RepeatFilter(window=10, memory=2)
    assert all(repeats.filter(record(text)) for text in ("a", "b", "c"))
    assert repeats.filter(record("a"))
    assert not repeats.filter(record("c"))


def test_second_setup_replaces_the_first_and_libraries_only_warn() -> None:
    first, second = io.StringIO(), io.StringIO()
    setup("text", "debug", first)
    setup("text", "debug", second)
    logging.getLogger("kube2etcd.app.run").debug("ours")
    logging.getLogger("library").info("quiet")
    logging.getLogger("library").warning("loud")
    assert first.getvalue() == ""
    assert [line.split(": ", 1)[1] for line in second.getvalue().splitlines()] == ["ours", "loud"]


def test_repeats_are_reported_even_if_the_line_does_not_recur() -> None:
    out = io.StringIO()
    handler = setup("text", "info", out)
    log = logging.getLogger("kube2etcd.x")
    for text in ("down", "down", "other"):
        one = log.makeRecord(log.name, logging.INFO, "", 0, text, (), None)
        one.created += 3600.0 * (text == "other")
        handler.handle(one)
    written = [line.split(": ", 1)[1] for line in out.getvalue().splitlines()]
    assert written == ["down", "down (repeated once more)", "other"]


def test_concurrent_logging_neither_fails_nor_loses_lines() -> None:
    """Lines expire and repeat while other threads log."""
    reported: list[str] = []
    repeats = RepeatFilter(lambda one: reported.append(one.getMessage()), 0.5, memory=50)
    begin = threading.Barrier(4)

    def write() -> int:
        begin.wait()
        return len([repeats.filter(record(f"line {at // 2 % 70}", at / 100)) for at in range(3000)])

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert [one.result(60) for one in [pool.submit(write) for _ in range(4)]] == [3000] * 4
    finally:
        sys.setswitchinterval(before)
    assert reported
